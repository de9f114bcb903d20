//! What the packets of one track say: loss, order, jitter, frames (RFC 3550 section 6.4.1, A.1, A.3, A.8).
//!
//! Not in here: sockets, time (it is an argument), the codec.

use core::time::Duration;

use crate::{camera::rtcp::ReportBlock, clock::Instant};

/// A jump forward of this many packets is a sender that began anew, not loss (RFC 3550 A.1).
const DROPOUT_MAX: u16 = 3000;
/// A packet this far behind came late; farther is a sender that began anew.
const MISORDER_MAX: u16 = 100;

/// Counters of one track.
#[derive(Clone, Debug, Default)]
pub(super) struct TrackStats {
    /// Ticks a second of the timestamps.
    clock: u32,
    source: Option<Source>,
    /// Of sources before the present one.
    lost_before: u64,
    /// RTP packets.
    pub(super) packets: u64,
    /// Bytes of them, RTP headers included.
    pub(super) bytes: u64,
    /// Packets that came after a later one.
    pub(super) reordered: u64,
    /// Packets with the marker bit: the frames of video.
    pub(super) marked: u64,
    /// Times that the sender began anew (another SSRC, a jump of the sequence numbers).
    pub(super) restarts: u64,
    /// Datagrams and frames that are no RTP.
    pub(super) malformed: u64,
    /// When the first packet came.
    pub(super) first: Option<Instant>,
}

/// One SSRC since it was first seen.
#[derive(Clone, Debug)]
struct Source {
    ssrc: u32,
    base: u32,
    highest: u32,
    received: u64,
    /// Transit time of the last packet, in ticks; wraps.
    transit: u32,
    /// Mean deviation, 16 times as fine.
    jitter_x16: u64,
    /// At the last receiver report: expected, received.
    reported: (u64, u64),
    last_sr: Option<(u32, Instant)>,
}

impl Source {
    fn expected(&self) -> u64 {
        u64::from(self.highest.wrapping_sub(self.base)) + 1
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
}

impl TrackStats {
    /// No packets yet; timestamps count `clock` ticks a second.
    pub(super) fn new(clock: u32) -> Self {
        Self { clock: clock.max(1), ..Self::default() }
    }

    /// Takes one RTP packet. False: it is none.
    pub(super) fn on_rtp(&mut self, packet: &[u8], now: Instant) -> bool {
        let Some(&[first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]) = packet.first_chunk()
        else {
            self.malformed += 1;
            return false;
        };
        if first >> 6 != 2 {
            self.malformed += 1;
            return false;
        }
        self.packets += 1;
        self.bytes += packet.len() as u64;
        self.marked += u64::from(second & 0x80 != 0);
        self.first.get_or_insert(now);
        let sequence = u16::from_be_bytes([s0, s1]);
        let timestamp = u32::from_be_bytes([t0, t1, t2, t3]);
        let transit = self.ticks(now).wrapping_sub(timestamp);
        self.order(u32::from_be_bytes([c0, c1, c2, c3]), sequence, transit);
        true
    }

    /// Remembers when a sender report came, for the next receiver report.
    pub(super) fn on_sender_report(&mut self, ssrc: u32, ntp: u32, now: Instant) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) {
            source.last_sr = Some((ntp, now));
        }
    }

    /// What a receiver report says now; None before the first packet.
    pub(super) fn report_block(&mut self, now: Instant) -> Option<ReportBlock> {
        let source = self.source.as_mut()?;
        let (expected, received) = (source.expected(), source.received);
        let since = (
            expected.saturating_sub(source.reported.0),
            received.saturating_sub(source.reported.1),
        );
        source.reported = (expected, received);
        let fraction = (since.0.saturating_sub(since.1) * 256).checked_div(since.0).unwrap_or(0);
        let (last_sr, since_sr) = match source.last_sr {
            Some((ntp, at)) => (ntp, now.since(at).as_millis() * 65_536 / 1000),
            None => (0, 0),
        };
        Some(ReportBlock {
            ssrc: source.ssrc,
            fraction: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: u32::try_from(source.lost()).unwrap_or(u32::MAX),
            highest: source.highest,
            jitter: u32::try_from(source.jitter_x16 >> 4).unwrap_or(u32::MAX),
            last_sr,
            since_sr: u32::try_from(since_sr).unwrap_or(u32::MAX),
        })
    }

    /// Packets missing, by the sequence numbers.
    pub(super) fn lost(&self) -> u64 {
        self.lost_before + self.source.as_ref().map_or(0, Source::lost)
    }

    /// Interarrival jitter.
    pub(super) fn jitter(&self) -> Duration {
        let ticks = self.source.as_ref().map_or(0, |source| source.jitter_x16 >> 4);
        Duration::from_micros(ticks.saturating_mul(1_000_000) / u64::from(self.clock.max(1)))
    }

    fn ticks(&self, now: Instant) -> u32 {
        // Only differences are used, modulo 2^32.
        ((now.as_millis().wrapping_mul(u64::from(self.clock)) / 1000) & u64::from(u32::MAX)) as u32
    }

    fn order(&mut self, ssrc: u32, sequence: u16, transit: u32) {
        let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc) else {
            self.begin(ssrc, sequence, transit);
            return;
        };
        let ahead = sequence.wrapping_sub((source.highest & 0xffff) as u16);
        if ahead == 0 {
            source.received += 1; // a duplicate
            return;
        }
        if ahead < DROPOUT_MAX {
            source.highest = source.highest.wrapping_add(u32::from(ahead));
        } else if ahead.wrapping_neg() <= MISORDER_MAX {
            self.reordered += 1;
        } else {
            self.begin(ssrc, sequence, transit);
            return;
        }
        source.received += 1;
        // |D| of A.8; a signed difference, since transit wraps.
        let change = u64::from(transit.wrapping_sub(source.transit).cast_signed().unsigned_abs());
        source.transit = transit;
        source.jitter_x16 =
            (source.jitter_x16 + change).saturating_sub((source.jitter_x16 + 8) >> 4);
    }

    fn begin(&mut self, ssrc: u32, sequence: u16, transit: u32) {
        self.lost_before = self.lost();
        self.restarts += u64::from(self.source.is_some());
        // One cycle up, so that a late packet from before the first does not go below zero.
        let base = 0x1_0000 | u32::from(sequence);
        self.source = Some(Source {
            ssrc,
            base,
            highest: base,
            received: 1,
            transit,
            jitter_x16: 0,
            reported: (0, 0),
            last_sr: None,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(ssrc: u32, sequence: u16, timestamp: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 0x60];
        packet.extend_from_slice(&sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&ssrc.to_be_bytes());
        packet
    }

    fn fed(sequences: &[u16]) -> TrackStats {
        let mut stats = TrackStats::new(90_000);
        for &sequence in sequences {
            assert!(stats.on_rtp(&packet(1, sequence, 0), Instant::START));
        }
        stats
    }

    #[test]
    fn gaps_are_loss_and_late_ones_fill_them() {
        for (name, sequences, lost, reordered) in [
            ("in order", [1, 2, 3, 4].as_slice(), 0, 0),
            ("across the wrap", &[65_534, 65_535, 0, 1], 0, 0),
            ("a gap", &[1, 2, 5], 2, 0),
            ("late", &[1, 3, 2, 4], 0, 1),
            ("late across the wrap", &[65_535, 1, 0], 0, 1),
            ("before the first", &[5, 4, 6], 0, 1),
            ("twice", &[1, 1, 2], 0, 0),
        ] {
            let stats = fed(sequences);
            assert_eq!((stats.lost(), stats.reordered), (lost, reordered), "{name}");
            assert_eq!(stats.restarts, 0, "{name}");
        }
    }

    #[test]
    fn a_jump_at_the_bound_is_a_new_beginning() {
        assert_eq!(fed(&[0, DROPOUT_MAX - 1]).lost(), u64::from(DROPOUT_MAX) - 2);
        let anew = fed(&[0, 2, DROPOUT_MAX + 2]);
        assert_eq!((anew.lost(), anew.restarts), (1, 1), "what was lost before stays counted");
        assert_eq!(fed(&[1000, 1000 - MISORDER_MAX]).restarts, 0);
        assert_eq!(fed(&[1000, 1000 - MISORDER_MAX - 1]).restarts, 1);
    }

    #[test]
    fn another_source_does_not_count_as_loss() {
        let mut stats = fed(&[10, 12]);
        stats.on_rtp(&packet(2, 40_000, 0), Instant::START);
        assert_eq!((stats.lost(), stats.restarts, stats.packets), (1, 1, 3));
    }

    #[test]
    fn jitter_is_zero_on_a_steady_stream_and_nears_a_steady_deviation() {
        let mut stats = TrackStats::new(90_000);
        for n in 0..500_u16 {
            let at = Instant::from_millis(u64::from(n) * 40);
            stats.on_rtp(&packet(1, n, u32::from(n) * 3600), at);
        }
        assert_eq!(stats.jitter(), Duration::ZERO);
        for n in 500..1000_u16 {
            let at = Instant::from_millis(u64::from(n) * 40 + u64::from(n % 2) * 10);
            stats.on_rtp(&packet(1, n, u32::from(n) * 3600), at);
        }
        let jitter = stats.jitter().as_micros();
        assert!((9_800..=10_000).contains(&jitter), "{jitter} us");
    }

    #[test]
    fn what_is_no_rtp_is_counted_apart() {
        let mut stats = TrackStats::new(0);
        for junk in [&[][..], &[0x80; 11], &[0; 12], b"RTSP/1.0 200 OK"] {
            assert!(!stats.on_rtp(junk, Instant::START));
        }
        assert_eq!((stats.malformed, stats.packets), (4, 0));
        assert!(stats.report_block(Instant::START).is_none());
    }

    #[test]
    fn reports_say_what_was_lost_since_the_last_one() {
        let mut stats = fed(&[0, 1, 2, 5]);
        stats.on_sender_report(1, 77, Instant::START);
        stats.on_sender_report(2, 99, Instant::START);
        let now = Instant::from_millis(500);
        let block = stats.report_block(now).expect("packets came");
        assert_eq!((block.ssrc, block.lost, block.fraction), (1, 2, 85));
        assert_eq!((block.last_sr, block.since_sr), (77, 32_768));
        assert_eq!(stats.report_block(now).map(|block| block.fraction), Some(0));
    }
}
