//! Which datagrams one call may carry, and when more of a burst is worth waiting for.
//!
//! Pure: no socket, no clock. [`split`] takes apart what the kernel has coalesced (UDP_GRO);
//! [`first_run`] says how many datagrams leave as segments of one call (UDP_SEGMENT);
//! [`Frames`] tells from RTP's timestamps and marker bits whether a stream sends frames of many
//! packets, and whether one is unfinished; [`Rhythm`] how often such bursts come to a worker. Only
//! for the rest of a frame, or where another burst is likely to come meanwhile, does a worker wait a
//! little before it reads on ([`Pause`]): where only single packets come, none waits or pays.
//!
//! Not in here: how long a worker waits (`gateway.coalesce_us`), and the calls themselves (mmsg).

use core::time::Duration;

use crate::{
    clock::Instant,
    limits::{DATAGRAM_MAX_BYTES, SEGMENTS_MAX},
};

/// Frames of so many packets or fewer are not worth a wait.
const FEW_PACKETS: u16 = 2;

/// The datagrams in a buffer that the kernel has filled, `segment` bytes each, the last one what is
/// left. A segment size that makes no sense means one datagram; an empty buffer is an empty one.
pub fn split(bytes: &[u8], segment: usize) -> impl Iterator<Item = &[u8]> {
    let whole = segment == 0 || segment >= bytes.len();
    let (one, many) = if whole { (Some(bytes), &[][..]) } else { (None, bytes) };
    one.into_iter().chain(many.chunks(segment.max(1)))
}

/// How many datagrams from the first on may leave as one: all as long as the first, only the last
/// one may be shorter; at most [`SEGMENTS_MAX`], and together no longer than the longest datagram.
/// 0 only for none.
pub fn first_run(datagrams: &[&[u8]]) -> usize {
    let Some(first) = datagrams.first() else { return 0 };
    let size = first.len();
    let mut bytes = 0;
    for (count, datagram) in datagrams.iter().enumerate() {
        let len = datagram.len();
        let fits = len <= size && len > 0 && bytes + len <= DATAGRAM_MAX_BYTES;
        if count > 0 && (!fits || count == SEGMENTS_MAX) {
            return count;
        }
        bytes += len;
        if len < size {
            return count + 1;
        }
    }
    datagrams.len()
}

/// Where RTP and RTCP share a port or a channel, payload types 64 to 95 are RTCP's packet types 192
/// to 223 (RFC 5761 4).
#[must_use]
pub fn looks_like_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|byte| (64..=95).contains(&(byte & 0x7f)))
}

/// Where a stream of RTP is within its frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frames {
    timestamp: u32,
    marked: bool,
    /// Packets of this frame so far.
    packets: u16,
    /// Packets of the frame before.
    before: u16,
}

impl Frames {
    /// Takes note of an RTP packet. What is too short to be one changes nothing.
    pub fn on_packet(&mut self, packet: &[u8]) {
        let Some(&[_, kind, _, _, a, b, c, d]) = packet.first_chunk::<8>() else { return };
        let timestamp = u32::from_be_bytes([a, b, c, d]);
        if self.marked || timestamp != self.timestamp {
            (self.before, self.packets) = (self.packets, 0);
        }
        self.timestamp = timestamp;
        self.marked = kind & 0x80 != 0;
        self.packets = self.packets.saturating_add(1);
    }

    /// What the packets so far say about a pause: where frames have more than two packets, an
    /// unfinished one is likely to go on at once.
    #[must_use]
    pub const fn pause(&self) -> Pause {
        if self.packets <= FEW_PACKETS && self.before <= FEW_PACKETS {
            Pause::No
        } else if self.marked {
            Pause::AmongBursts
        } else {
            Pause::Wanted
        }
    }
}

/// What a read says about a pause before the next one. Of a round's reads the greatest counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pause {
    /// Nothing is expected at once.
    #[default]
    No,
    /// A burst came and is whole: worth it if others are likely to come meanwhile.
    AmongBursts,
    /// The rest of a frame is expected.
    Wanted,
    /// Some is already there: no pause, whoever wants one.
    Never,
}

impl Pause {
    /// Whether a worker that hears bursts in this rhythm pauses, for so many microseconds.
    #[must_use]
    pub const fn is_worth(self, rhythm: Rhythm, pause_us: u32) -> bool {
        match self {
            Self::Wanted => pause_us > 0,
            Self::AmongBursts => rhythm.fills(pause_us),
            Self::No | Self::Never => false,
        }
    }
}

/// How often bursts end at a worker, all streams together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rhythm {
    since: Instant,
    bursts: u32,
    per_s: u64,
}

impl Rhythm {
    /// How long they are counted for: too short to miss a change, long enough for an average.
    const WINDOW: Duration = Duration::from_millis(32);

    /// Takes note of the bursts of one round; `now` may stand still and never goes back.
    pub fn on_round(&mut self, bursts: u32, now: Instant) {
        self.bursts = self.bursts.saturating_add(bursts);
        let elapsed = now.since(self.since);
        if elapsed >= Self::WINDOW {
            let ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            self.per_s = u64::from(self.bursts) * 1000 / ms;
            (self.since, self.bursts) = (now, 0);
        }
    }

    /// Whether at least one more is likely to come within so many microseconds.
    const fn fills(self, pause_us: u32) -> bool {
        self.per_s.saturating_mul(pause_us as u64) >= 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Pause::{AmongBursts, Never, No, Wanted},
        *,
    };

    fn runs(lengths: &[usize]) -> Vec<usize> {
        let bytes = vec![0; 70_000];
        let datagrams: Vec<&[u8]> = lengths.iter().map(|len| &bytes[..*len]).collect();
        let (mut rest, mut runs) = (&datagrams[..], Vec::new());
        while !rest.is_empty() {
            let count = first_run(rest);
            runs.push(count);
            rest = &rest[count..];
        }
        runs
    }

    #[test]
    fn equal_lengths_leave_together_and_a_shorter_one_ends_the_run() {
        assert_eq!(runs(&[100; 5]), [5]);
        assert_eq!(runs(&[100, 100, 40]), [3]);
        assert_eq!(runs(&[100, 40, 100, 100, 99, 99]), [2, 3, 1]);
        assert_eq!(runs(&[40, 100, 100]), [1, 2], "a longer one begins the next");
        assert_eq!(runs(&[]), [0; 0]);
    }

    #[test]
    fn an_empty_datagram_travels_alone() {
        assert_eq!(runs(&[100, 0, 100]), [1, 1, 1]);
        assert_eq!(runs(&[0, 0]), [1, 1]);
    }

    #[test]
    fn a_run_has_as_many_segments_as_the_kernel_takes_and_not_one_more() {
        assert_eq!(runs(&[100; SEGMENTS_MAX]), [SEGMENTS_MAX]);
        assert_eq!(runs(&[100; SEGMENTS_MAX + 1]), [SEGMENTS_MAX, 1]);
    }

    #[test]
    fn a_run_is_no_longer_than_the_longest_datagram() {
        assert_eq!(DATAGRAM_MAX_BYTES, 5039 * 13, "so that the bound is met exactly");
        assert_eq!(runs(&[5039; 14]), [13, 1]);
        assert_eq!(runs(&[5040; 13]), [12, 1]);
        assert_eq!(runs(&[DATAGRAM_MAX_BYTES; 2]), [1, 1]);
        assert_eq!(runs(&[DATAGRAM_MAX_BYTES + 1; 2]), [1, 1], "refused by the kernel, one by one");
    }

    #[test]
    fn what_the_kernel_coalesced_comes_apart_where_it_was_joined() {
        let bytes: Vec<u8> = (0..250).collect();
        let lens = |len: usize, segment| -> Vec<usize> {
            split(&bytes[..len], segment).map(<[u8]>::len).collect()
        };
        assert_eq!(lens(250, 100), [100, 100, 50]);
        assert_eq!(lens(200, 100), [100, 100]);
        assert_eq!(lens(100, 100), [100]);
        assert_eq!(lens(99, 100), [99], "a size beyond the end");
        assert_eq!(lens(99, 0), [99], "no size told");
        assert_eq!(lens(0, 0), [0]);
        assert_eq!(lens(0, 100), [0], "an empty datagram is one");
        assert_eq!(split(&bytes, 100).flatten().copied().collect::<Vec<u8>>(), bytes);
    }

    fn packet(timestamp: u32, marker: bool) -> Vec<u8> {
        let mut packet = vec![0x80, if marker { 0xe0 } else { 0x60 }, 0, 1];
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0; 8]);
        packet
    }

    /// What is said after each packet of a stream: its timestamp, its marker.
    fn check(stream: &[(u32, bool)], expected: &[Pause]) {
        let mut frames = Frames::default();
        for (at, ((timestamp, marker), pause)) in stream.iter().zip(expected).enumerate() {
            frames.on_packet(&packet(*timestamp, *marker));
            assert_eq!(frames.pause(), *pause, "after packet {at}");
        }
    }

    #[test]
    fn more_is_expected_within_a_frame_and_not_past_its_end() {
        let stream = [(1, false), (1, false), (1, false), (1, true), (2, false), (2, true)];
        check(&stream, &[No, No, Wanted, AmongBursts, Wanted, AmongBursts]);
    }

    #[test]
    fn single_packets_with_or_without_marker_are_never_waited_for() {
        check(&[(1, true), (2, true), (3, true)], &[No; 3]);
        check(&[(160, false), (320, false), (480, false)], &[No; 3]);
        check(&[(1, false), (1, true), (2, false), (2, true)], &[No; 4]);
    }

    #[test]
    fn a_stream_that_went_over_to_single_packets_is_not_waited_for_any_more() {
        let stream = [(1, false), (1, false), (1, true), (2, true), (3, false), (4, false)];
        check(&stream, &[No, No, AmongBursts, AmongBursts, No, No]);
    }

    #[test]
    fn whole_bursts_are_worth_a_pause_from_one_in_it_on() {
        let fills = |bursts_per_ms: u32, pause_us| {
            let mut rhythm = Rhythm::default();
            for ms in 1..=100 {
                rhythm.on_round(bursts_per_ms, Instant::from_millis(ms));
            }
            rhythm.fills(pause_us)
        };
        assert!(fills(4, 250));
        assert!(!fills(4, 249));
        assert!(!fills(0, 500));
        assert!(!fills(1000, 0), "switched off");
        assert!(fills(u32::MAX, u32::MAX), "no overflow");
    }

    #[test]
    fn a_pause_is_made_for_the_rest_of_a_frame_or_where_bursts_are_frequent() {
        let rare = Rhythm::default();
        let frequent = Rhythm { per_s: 5000, ..rare };
        for (pause, rarely, frequently) in [
            (No, false, false),
            (AmongBursts, false, true),
            (Wanted, true, true),
            (Never, false, false),
        ] {
            assert_eq!(pause.is_worth(rare, 300), rarely, "{pause:?}");
            assert_eq!(pause.is_worth(frequent, 300), frequently, "{pause:?}");
            assert!(!pause.is_worth(frequent, 0), "{pause:?}: switched off");
        }
        assert!(Never > Wanted && Wanted > AmongBursts && AmongBursts > No, "the greatest counts");
    }

    #[test]
    fn silence_ends_a_rhythm_with_its_window() {
        let mut rhythm = Rhythm::default();
        rhythm.on_round(1000, Instant::from_millis(32));
        assert!(rhythm.fills(300));
        rhythm.on_round(1, Instant::from_millis(63));
        assert!(rhythm.fills(300), "not before the window's end");
        rhythm.on_round(0, Instant::from_millis(5000));
        assert!(!rhythm.fills(300));
    }

    #[test]
    fn what_is_too_short_for_rtp_changes_nothing() {
        let mut frames = Frames::default();
        for _ in 0..3 {
            frames.on_packet(&packet(7, false));
        }
        for len in 0..8 {
            frames.on_packet(&packet(9, true)[..len]);
        }
        assert_eq!(frames.pause(), Wanted);
    }
}
