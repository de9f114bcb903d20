//! Which datagrams one call may carry, and when more of a burst is worth waiting for.
//!
//! Pure: no socket, no clock. [`split`] takes apart what the kernel has coalesced (UDP_GRO);
//! [`first_run`] says how many datagrams leave as segments of one call (UDP_SEGMENT);
//! [`Frames`] tells from RTP's timestamps and marker bits whether a stream sends frames of many
//! packets, and whether one is unfinished. Only then does a worker wait a little before it reads
//! on: a stream of single packets neither waits nor pays.
//!
//! Not in here: how long a worker waits (`gateway.coalesce_us`), and the calls themselves (mmsg).

use crate::limits::{DATAGRAM_MAX_BYTES, SEGMENTS_MAX};

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

    /// Whether more packets of a frame are likely to come at once: it has not ended, and it or the
    /// one before has more than two.
    #[must_use]
    pub const fn expects_more(&self) -> bool {
        !self.marked && (self.packets > FEW_PACKETS || self.before > FEW_PACKETS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    /// What is expected after each packet of a stream: its timestamp, its marker.
    fn check(stream: &[(u32, bool)], expected: &[bool]) {
        let mut frames = Frames::default();
        for (at, ((timestamp, marker), more)) in stream.iter().zip(expected).enumerate() {
            frames.on_packet(&packet(*timestamp, *marker));
            assert_eq!(frames.expects_more(), *more, "after packet {at}");
        }
    }

    #[test]
    fn more_is_expected_within_a_frame_and_not_past_its_end() {
        let stream = [(1, false), (1, false), (1, false), (1, true), (2, false), (2, true)];
        check(&stream, &[false, false, true, false, true, false]);
    }

    #[test]
    fn single_packets_with_or_without_marker_are_never_waited_for() {
        check(&[(1, true), (2, true), (3, true)], &[false; 3]);
        check(&[(160, false), (320, false), (480, false)], &[false; 3]);
        check(&[(1, false), (1, true), (2, false), (2, true)], &[false; 4]);
    }

    #[test]
    fn a_stream_that_went_over_to_single_packets_is_not_waited_for_any_more() {
        let stream = [(1, false), (1, false), (1, true), (2, true), (3, false), (4, false)];
        check(&stream, &[false, false, false, false, false, false]);
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
        assert!(frames.expects_more());
    }
}
