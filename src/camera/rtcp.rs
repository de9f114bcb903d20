//! The few RTCP packets that the camera and the probe exchange (RFC 3550 section 6).
//!
//! Not in here: when to send them; anything but SR, RR, SDES and BYE.

use core::time::Duration;

const SR: u8 = 200;
const RR: u8 = 201;
const SDES: u8 = 202;
const BYE: u8 = 203;
/// Seconds from 1900 (NTP) to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// What a sender says about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderInfo {
    /// Synchronization source.
    pub(crate) ssrc: u32,
    /// Wall clock, since 1970.
    pub(crate) wall: Duration,
    /// The RTP timestamp of the same moment.
    pub(crate) timestamp: u32,
    /// Packets sent.
    pub(crate) packets: u32,
    /// Payload bytes sent.
    pub(crate) bytes: u32,
}

/// What a receiver says about one source.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReportBlock {
    /// Of whom it speaks.
    pub(crate) ssrc: u32,
    /// Lost since the last report, of 256.
    pub(crate) fraction: u8,
    /// Lost since the beginning; the field has 24 bits.
    pub(crate) lost: u32,
    /// Highest sequence number, with its cycles above.
    pub(crate) highest: u32,
    /// Jitter in ticks of the timestamp.
    pub(crate) jitter: u32,
    /// Middle 32 bits of the NTP time of the last sender report; 0: none yet.
    pub(crate) last_sr: u32,
    /// Time since that report, in 1/65536 s.
    pub(crate) since_sr: u32,
}

/// A sender report with a name, as one compound packet.
pub(crate) fn sender_report(info: &SenderInfo, cname: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    begin(&mut out, 0, SR, 6);
    out.extend_from_slice(&info.ssrc.to_be_bytes());
    out.extend_from_slice(&ntp(info.wall).to_be_bytes());
    for value in [info.timestamp, info.packets, info.bytes] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    description(&mut out, info.ssrc, cname);
    out
}

/// A receiver report about at most one source, with a name, as one compound packet.
pub(crate) fn receiver_report(ssrc: u32, block: Option<&ReportBlock>, cname: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    begin(&mut out, u8::from(block.is_some()), RR, if block.is_some() { 7 } else { 1 });
    out.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(block) = block {
        out.extend_from_slice(&block.ssrc.to_be_bytes());
        let lost = block.lost.min(0x7f_ffff) | u32::from(block.fraction) << 24;
        for value in [lost, block.highest, block.jitter, block.last_sr, block.since_sr] {
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
    description(&mut out, ssrc, cname);
    out
}

/// A report and the farewell after it; a BYE may not stand alone (section 6.1).
pub(crate) fn bye(mut report: Vec<u8>, ssrc: u32) -> Vec<u8> {
    begin(&mut report, 1, BYE, 1);
    report.extend_from_slice(&ssrc.to_be_bytes());
    report
}

/// The sender's SSRC and the middle 32 bits of its NTP time, when the packet begins with a sender
/// report.
pub(crate) fn read_sender_report(packet: &[u8]) -> Option<(u32, u32)> {
    let head: &[u8; 16] = packet.first_chunk()?;
    let [first, kind, _, _, s0, s1, s2, s3, _, _, n2, n3, n4, n5, ..] = *head;
    (first >> 6 == 2 && kind == SR)
        .then(|| (u32::from_be_bytes([s0, s1, s2, s3]), u32::from_be_bytes([n2, n3, n4, n5])))
}

/// An NTP timestamp: seconds since 1900 above, their fraction below.
fn ntp(wall: Duration) -> u64 {
    let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
    (wall.as_secs() + NTP_EPOCH) << 32 | fraction
}

fn begin(out: &mut Vec<u8>, count: u8, kind: u8, words: u16) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&words.to_be_bytes());
}

/// SDES with one chunk: the CNAME, cut at 64 bytes, and zeros up to the next word.
fn description(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = cname.as_bytes().get(..64).unwrap_or(cname.as_bytes());
    let text = cname.len() + 2;
    let padding = 4 - text % 4; // at least one zero ends the list
    let words = 1 + (text + padding) / 4;
    begin(out, 1, SDES, u16::try_from(words).unwrap_or_default());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[1, u8::try_from(cname.len()).unwrap_or_default()]);
    out.extend_from_slice(cname);
    out.extend(core::iter::repeat_n(0, padding));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kinds of the packets in a compound, whose lengths must add up.
    fn kinds(mut compound: &[u8]) -> Vec<u8> {
        let mut kinds = Vec::new();
        while let [first, kind, high, low, ..] = *compound {
            assert_eq!(first >> 6, 2);
            kinds.push(kind);
            compound = &compound[4 + 4 * usize::from(u16::from_be_bytes([high, low]))..];
        }
        assert!(compound.is_empty());
        kinds
    }

    #[test]
    fn compounds_are_whole_for_every_length_of_name() {
        let info = SenderInfo {
            ssrc: 7,
            wall: Duration::from_millis(1_500),
            timestamp: 1,
            packets: 2,
            bytes: 3,
        };
        for length in 0..70 {
            let name = "n".repeat(length);
            assert_eq!(kinds(&sender_report(&info, &name)), [SR, SDES]);
            assert_eq!(kinds(&receiver_report(7, None, &name)), [RR, SDES]);
            let block = ReportBlock::default();
            let report = receiver_report(7, Some(&block), &name);
            assert_eq!(kinds(&bye(report, 7)), [RR, SDES, BYE]);
        }
    }

    #[test]
    fn the_time_of_a_sender_report_is_read_back() {
        let wall = Duration::new(1, 500_000_000);
        let info = SenderInfo { ssrc: 9, wall, timestamp: 0, packets: 0, bytes: 0 };
        let report = sender_report(&info, "x");
        // 2_208_988_801 is 0x83AA7E81; half a second is 0x8000_0000.
        assert_eq!(read_sender_report(&report), Some((9, 0x7e81_8000)));
        for cut in 0..16 {
            assert_eq!(read_sender_report(&report[..cut]), None);
        }
        assert_eq!(read_sender_report(&receiver_report(9, None, "a longer name")), None);
    }

    #[test]
    fn losses_past_24_bits_stay_in_their_field() {
        let block = ReportBlock { lost: u32::MAX, fraction: 1, ..ReportBlock::default() };
        let report = receiver_report(1, Some(&block), "");
        assert_eq!(report[12..16], [1, 0x7f, 0xff, 0xff]);
    }
}
