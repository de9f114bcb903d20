//! RTP of the camera (RFC 3550 section 5): H.264 cut into payloads (RFC 6184, packetization mode 1), PCMU,
//! the header before them.
//!
//! Not in here: sockets, pacing, RTCP.

use crate::limits::RTP_PAYLOAD_MAX_BYTES;

/// Payload type of the video, dynamic.
pub(super) const PT_H264: u8 = 96;
/// Payload type of PCMU, static (RFC 3551).
pub(super) const PT_PCMU: u8 = 0;
/// Ticks a second of the video's timestamps.
pub(super) const VIDEO_CLOCK: u32 = 90_000;
/// Samples a second of the audio, and so of its timestamps.
pub(super) const AUDIO_CLOCK: u32 = 8_000;
/// Samples in one audio packet: 20 ms.
pub(super) const AUDIO_SAMPLES: u32 = 160;

const HEADER_BYTES: usize = 12;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// Cuts one NAL unit into RTP payloads of at most [`RTP_PAYLOAD_MAX_BYTES`]: itself when it fits,
/// else fragments (FU-A, RFC 6184 section 5.8).
pub(super) fn payloads_of_nal(nal: &[u8], out: &mut Vec<Vec<u8>>) {
    let Some((&header, body)) = nal.split_first() else { return };
    if nal.len() <= RTP_PAYLOAD_MAX_BYTES {
        out.push(nal.to_vec());
        return;
    }
    let chunks = body.chunks(RTP_PAYLOAD_MAX_BYTES - 2);
    let last = chunks.len() - 1;
    for (index, chunk) in chunks.enumerate() {
        let start = if index == 0 { FU_START } else { 0 };
        let end = if index == last { FU_END } else { 0 };
        let mut payload = Vec::with_capacity(chunk.len() + 2);
        payload.push(header & 0xe0 | FU_A);
        payload.push(start | end | header & 0x1f);
        payload.extend_from_slice(chunk);
        out.push(payload);
    }
}

/// 20 ms of a 440 Hz tone that begins at this sample number.
pub(super) fn tone(first_sample: u64) -> Vec<u8> {
    // 440 Hz repeats after 200 samples (11 periods), so the phase is exact however long it plays.
    (first_sample..first_sample + u64::from(AUDIO_SAMPLES))
        .map(|sample| {
            let phase = i32::try_from(sample * 11 % 200).unwrap_or(0); // 200: a whole turn
            // A parabola for each half turn: close to a sine, in whole numbers.
            let (half, sign) = if phase < 100 { (phase, 1) } else { (phase - 100, -1) };
            mu_law(sign * half * (100 - half) * 4000 / 2500)
        })
        .collect()
}

/// G.711 mu-law of a 16-bit sample.
fn mu_law(sample: i32) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let biased = sample.unsigned_abs().min(32_635) + 0x84;
    let exponent = biased.ilog2().saturating_sub(7).min(7);
    let mantissa = biased >> (exponent + 3) & 0x0f;
    !u8::try_from(sign | exponent << 4 | mantissa).unwrap_or_default()
}

/// One stream: what stays the same in its headers, what counts up.
#[derive(Debug)]
pub(super) struct Stream {
    /// Synchronization source.
    pub(super) ssrc: u32,
    /// Sequence number of the next packet.
    pub(super) sequence: u16,
    /// Added to the ticks of the source, so that timestamps do not begin at 0.
    pub(super) offset: u32,
    /// Packets sent.
    pub(super) packets: u32,
    /// Payload bytes sent.
    pub(super) bytes: u32,
    payload_type: u8,
}

impl Stream {
    /// A stream with these random beginnings.
    pub(super) fn new(payload_type: u8, ssrc: u32, sequence: u16, offset: u32) -> Self {
        Self { ssrc, sequence, offset, packets: 0, bytes: 0, payload_type }
    }

    /// The RTP timestamp of so many ticks.
    pub(super) fn timestamp(&self, ticks: u64) -> u32 {
        // Timestamps wrap: the low 32 bits are what is wanted.
        self.offset.wrapping_add((ticks & u64::from(u32::MAX)) as u32)
    }

    /// Appends the next packet to `out`.
    pub(super) fn packet(&mut self, ticks: u64, marker: bool, payload: &[u8], out: &mut Vec<u8>) {
        out.reserve(HEADER_BYTES + payload.len());
        out.push(0x80);
        out.push(if marker { 0x80 } else { 0 } | self.payload_type);
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.timestamp(ticks).to_be_bytes());
        out.extend_from_slice(&self.ssrc.to_be_bytes());
        out.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::h264::Encoder;

    /// Puts NAL units together again, the way a receiver does (RFC 6184 sections 5.6 and 5.8).
    fn reassembled(payloads: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut nals: Vec<Vec<u8>> = Vec::new();
        for payload in payloads {
            if payload[0] & 0x1f != FU_A {
                nals.push(payload.clone());
                continue;
            }
            if payload[1] & FU_START != 0 {
                nals.push(vec![payload[0] & 0xe0 | payload[1] & 0x1f]);
            }
            nals.last_mut().expect("a start came first").extend_from_slice(&payload[2..]);
        }
        nals
    }

    #[test]
    fn cut_and_put_together_gives_the_same_units() {
        let mut encoder = Encoder::new(25, 3000);
        for number in 0..30 {
            let frame = encoder.frame(number, number == 7);
            let mut payloads = Vec::new();
            frame.nals.iter().for_each(|nal| payloads_of_nal(nal, &mut payloads));
            assert!(payloads.iter().all(|it| it.len() <= RTP_PAYLOAD_MAX_BYTES));
            assert_eq!(reassembled(&payloads), frame.nals);
        }
    }

    #[test]
    fn a_unit_is_cut_from_the_first_byte_past_the_bound() {
        let cut = |size: usize| {
            let mut payloads = Vec::new();
            payloads_of_nal(&vec![0x65; size], &mut payloads);
            payloads.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(cut(0), [0_usize; 0]);
        assert_eq!(cut(RTP_PAYLOAD_MAX_BYTES), [RTP_PAYLOAD_MAX_BYTES]);
        assert_eq!(cut(RTP_PAYLOAD_MAX_BYTES + 1), [RTP_PAYLOAD_MAX_BYTES, 4]);
    }

    #[test]
    fn headers_count_up_and_wrap() {
        let mut stream = Stream::new(PT_H264, 0x0102_0304, u16::MAX, u32::MAX);
        let mut packet = Vec::new();
        stream.packet(1, true, b"x", &mut packet);
        assert_eq!(packet, [0x80, 0xe0, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3, 4, b'x']);
        packet.clear();
        stream.packet(3601, false, b"yz", &mut packet);
        assert_eq!(packet, [0x80, 0x60, 0, 0, 0, 0, 0x0e, 0x10, 1, 2, 3, 4, b'y', b'z']);
        assert_eq!((stream.packets, stream.bytes), (2, 3));
    }

    #[test]
    fn mu_law_is_that_of_g711() {
        for (sample, code) in [(0, 0xff), (-1, 0x7f), (32_767, 0x80), (-32_768, 0x00), (1000, 0xce)]
        {
            assert_eq!(mu_law(sample), code, "sample {sample}");
        }
        assert_eq!(tone(0), tone(200), "the tone repeats without a click");
    }
}
