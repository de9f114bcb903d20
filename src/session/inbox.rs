//! What arrived from one RTSP peer and is not yet understood: at most one unfinished message or
//! frame, and what came behind a request that has to wait.
//!
//! Reads land in a buffer of the worker. Whole units are handed on straight from there, and stay
//! readable until the next feed, so that many frames can be sent on in one call; only an unfinished
//! rest is kept here, and what a paused reader has not come to. That is handed on from where it lies:
//! no unit moves because those before it were taken. Who reads no more while units wait
//! ([`Inbox::waits`]) keeps one read at most.

use crate::rtsp::{
    framing::{FramingError, Unit},
    resync::{Channels, Resync, Step},
};

/// Unread rest of one connection.
#[derive(Debug, Default)]
pub struct Inbox {
    rest: Vec<u8>,
    /// Bytes of `rest` that were handed on; they go with the next feed.
    used: usize,
    /// What came behind `rest`; only when all of that is used.
    tail: Vec<u8>,
    reader: Resync,
    /// Bytes that mean nothing, and were left out.
    skipped: u64,
    /// The reader paused with bytes left.
    paused: bool,
}

/// What the caller of [`Inbox::feed`] says after each unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next one, please.
    Go,
    /// That one was taken; keep what follows.
    Pause,
}

/// Memory kept by an empty rest.
const KEEP_BYTES: usize = 4 * 1024;

impl Inbox {
    /// Hands each whole unit in the rest and in `fresh` to `take`, in order. A unit's bytes include
    /// the four header bytes of a frame.
    pub fn feed<'a>(
        &'a mut self,
        fresh: &'a [u8],
        mut take: impl FnMut(Unit, &'a [u8]) -> Flow,
    ) -> Result<(), FramingError> {
        self.forget_used(fresh.is_empty());
        let Self { rest, used, tail, reader, skipped, paused } = self;
        *paused = false;
        if rest.is_empty() {
            let (done, stopped) = run(reader, skipped, fresh, &mut take)?;
            let left = fresh.get(done..).unwrap_or_default();
            rest.extend_from_slice(left);
            *paused = stopped && !left.is_empty();
            return Ok(());
        }
        // A frame is completed and the rest of a long read taken from where it is; a message, which
        // tells its length later, gets all of it, and so does what may not be what it says.
        let unread = rest.get(*used..).unwrap_or_default();
        let wanted = missing_of_frame(unread, fresh)
            .filter(|missing| {
                let channel = unread.iter().chain(fresh).nth(1).copied().unwrap_or_default();
                reader.is_clean()
                    && reader.takes(channel, fresh.get(*missing..).unwrap_or_default())
            })
            .unwrap_or(fresh.len());
        let (first, others) = fresh.split_at_checked(wanted).unwrap_or((fresh, &[]));
        rest.extend_from_slice(first);
        let unread: &'a [u8] = rest.get(*used..).unwrap_or_default();
        let (done, stopped) = run(reader, skipped, unread, &mut take)?;
        *used += done;
        if done < unread.len() || others.is_empty() {
            debug_assert!(others.is_empty(), "a completed frame is a whole unit");
            *paused = stopped && done < unread.len();
            return Ok(());
        }
        let (done, stopped) =
            if stopped { (0, true) } else { run(reader, skipped, others, &mut take)? };
        let left = others.get(done..).unwrap_or_default();
        tail.extend_from_slice(left);
        *paused = stopped && !left.is_empty();
        Ok(())
    }

    /// From now on this peer sends media on these channels: streams that are worth finding back into
    /// when something between their frames means nothing.
    pub fn tolerate(&mut self, channels: Channels) {
        self.reader.tolerate(channels);
    }

    /// How many bytes meant nothing and were left out since this was last asked.
    pub fn take_skipped(&mut self) -> u64 {
        core::mem::take(&mut self.skipped)
    }

    /// Whole units may be here that a paused reader has not come to: they want to be fed to it before
    /// more is read.
    pub fn waits(&self) -> bool {
        self.paused
    }

    /// Gives memory back that a long read took, once all of it was handed on.
    pub fn tidy(&mut self) {
        if self.rest.capacity().max(self.tail.capacity()) > 4 * KEEP_BYTES && self.is_empty() {
            self.forget_used(true);
        }
    }

    /// Bytes that wait for more, or for a paused reader.
    pub fn len(&self) -> usize {
        self.rest().len()
    }

    /// Memory that it has.
    pub fn memory_bytes(&self) -> usize {
        self.rest.capacity() + self.tail.capacity()
    }

    /// What waits.
    pub fn rest(&self) -> &[u8] {
        match self.rest.get(self.used..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.tail,
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Forgets what was handed on. An unread rest moves only when more is to come behind it.
    fn forget_used(&mut self, stays: bool) {
        if self.used < self.rest.len() {
            if stays {
                return;
            }
            self.rest.drain(..self.used);
        } else {
            self.rest.clear();
            core::mem::swap(&mut self.rest, &mut self.tail);
        }
        self.used = 0;
        for buffer in [&mut self.rest, &mut self.tail] {
            if buffer.is_empty() && buffer.capacity() > 4 * KEEP_BYTES {
                buffer.shrink_to(KEEP_BYTES);
            }
        }
    }
}

/// How much of `fresh` belongs to the frame that `rest` begins with; none when it is no frame, or
/// its end is not in there.
fn missing_of_frame(rest: &[u8], fresh: &[u8]) -> Option<usize> {
    let mut head = rest.iter().chain(fresh);
    let [b'$', _, high, low] = [head.next()?, head.next()?, head.next()?, head.next()?].map(|b| *b)
    else {
        return None;
    };
    let missing = (4 + usize::from(u16::from_be_bytes([high, low]))).checked_sub(rest.len())?;
    (missing > 0 && missing <= fresh.len()).then_some(missing)
}

/// Hands on whole units; how many bytes they had, with those that mean nothing, and whether the last one
/// paused the reading.
fn run<'a>(
    reader: &mut Resync,
    skipped: &mut u64,
    bytes: &'a [u8],
    take: &mut impl FnMut(Unit, &'a [u8]) -> Flow,
) -> Result<(usize, bool), FramingError> {
    let mut used = 0;
    loop {
        let left = bytes.get(used..).unwrap_or_default();
        if left.is_empty() {
            return Ok((used, false));
        }
        let unit = match reader.next(left)? {
            Step::Unit(unit) => unit,
            Step::Skip(len) => {
                used += len;
                *skipped += len as u64;
                continue;
            }
            Step::NeedMore => return Ok((used, false)),
        };
        let Some(whole) = left.get(..unit.len()) else { return Ok((used, false)) };
        used += whole.len();
        if take(unit, whole) == Flow::Pause {
            return Ok((used, true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] =
        b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\0\0\x02abOPTIONS * RTSP/1.0\r\nCSeq: 2\r\n\r\n";

    #[test]
    fn units_come_out_alike_however_the_reads_are_cut() {
        for cut in 0..TWO.len() {
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for part in [&TWO[..cut], &TWO[cut..]] {
                inbox
                    .feed(part, |_, bytes| {
                        seen.extend_from_slice(bytes);
                        seen.push(b'|');
                        Flow::Go
                    })
                    .unwrap();
            }
            assert_eq!(seen.iter().filter(|b| **b == b'|').count(), 3, "cut at {cut}");
            assert!(inbox.is_empty());
        }
    }

    #[test]
    fn a_paused_reader_finds_the_next_unit_where_it_left_it() {
        let mut inbox = Inbox::default();
        let mut count = 0;
        inbox
            .feed(TWO, |_, _| {
                count += 1;
                Flow::Pause
            })
            .unwrap();
        assert_eq!(count, 1);
        inbox
            .feed(b"", |_, _| {
                count += 1;
                Flow::Go
            })
            .unwrap();
        assert_eq!((count, inbox.len()), (3, 0));
    }

    #[test]
    fn units_of_a_long_read_are_handed_on_from_where_they_lie() {
        const COUNT: usize = 1000;
        let one = &TWO[..31];
        let all = one.repeat(COUNT);
        let mut inbox = Inbox::default();
        inbox.feed(&all, |_, _| Flow::Pause).unwrap();
        let at = inbox.rest().as_ptr();
        for taken in 1..COUNT {
            assert!(inbox.waits());
            assert_eq!(inbox.rest().as_ptr(), at.wrapping_add((taken - 1) * one.len()));
            inbox
                .feed(b"", |_, bytes| {
                    assert_eq!(bytes, one);
                    Flow::Pause
                })
                .unwrap();
        }
        assert!(!inbox.waits() && inbox.is_empty());
        inbox.tidy();
        assert!(inbox.rest.capacity() <= 4 * KEEP_BYTES);
    }

    #[test]
    fn an_unfinished_message_behind_a_pause_is_no_reason_not_to_read() {
        let mut inbox = Inbox::default();
        inbox.feed(&TWO[..40], |_, _| Flow::Pause).unwrap();
        assert!(inbox.waits(), "a frame");
        inbox.feed(b"", |_, _| Flow::Pause).unwrap();
        assert!(inbox.waits(), "nobody has looked at what follows");
        inbox.feed(b"", |_, _| Flow::Pause).unwrap();
        assert!(!inbox.waits() && inbox.len() == 3);
        let mut seen = 0;
        inbox
            .feed(&TWO[40..], |_, bytes| {
                seen = bytes.len();
                Flow::Pause
            })
            .unwrap();
        assert_eq!(seen, 31);
        assert!(!inbox.waits() && inbox.is_empty());
    }

    #[test]
    fn frames_come_out_alike_however_many_reads_they_take() {
        let mut stream = Vec::new();
        for n in 0..40_u8 {
            stream.extend([b'$', n, 0, n]);
            stream.extend(vec![n; n.into()]);
        }
        for size in 1..stream.len() {
            let (mut inbox, mut seen) = (Inbox::default(), Vec::new());
            for part in stream.chunks(size) {
                inbox
                    .feed(part, |_, bytes| {
                        seen.extend_from_slice(bytes);
                        Flow::Go
                    })
                    .unwrap();
            }
            assert!(seen == stream && inbox.is_empty(), "reads of {size} bytes");
        }
    }

    #[test]
    fn frames_around_garbage_come_out_however_the_reads_are_cut() {
        let frames = b"$\0\0\x04abcd$\x01\0\x02ef";
        let stream =
            [&frames[..], &[0; 193], frames, &[b'x'; 70], b"$\0\0\x09cut", frames].concat();
        for size in 1..stream.len() {
            let (mut inbox, mut seen) = (Inbox::default(), 0);
            for part in stream.chunks(size) {
                inbox.tolerate(Channels::default().with(0).with(1));
                inbox
                    .feed(part, |unit, _| {
                        seen += usize::from(unit.len() != 4 + 9);
                        Flow::Go
                    })
                    .unwrap();
            }
            assert!(
                inbox.take_skipped() >= 263 && seen >= 5,
                "reads of {size} bytes: {seen} frames"
            );
            assert_eq!(inbox.take_skipped(), 0);
        }
    }

    #[test]
    fn a_frame_that_is_none_takes_nothing_of_what_follows_with_it() {
        let frame = [&b"$\xf8\0\x44\xff"[..], b"RTSP/1.0 405 X\r\nAS: ", &[b'.'; 47]].concat();
        let stream = [&frame[..], b"TEARDOWN x RTSP/1.0\r\n\r\n$\0\0\x02ab"].concat();
        for size in 1..stream.len() {
            let (mut inbox, mut seen) = (Inbox::default(), 0);
            inbox.tolerate(Channels::default().with(0).with(1));
            for part in stream.chunks(size) {
                inbox
                    .feed(part, |unit, _| {
                        seen += unit.len();
                        Flow::Go
                    })
                    .unwrap();
            }
            let skipped = usize::try_from(inbox.take_skipped()).unwrap();
            assert_eq!(seen + skipped + inbox.len(), stream.len(), "reads of {size} bytes");
        }
    }

    #[test]
    fn what_comes_behind_a_completed_frame_and_a_request_waits_in_order() {
        let mut inbox = Inbox::default();
        inbox.feed(b"$\0\0\x03a", |_, _| Flow::Go).unwrap();
        let mut seen = Vec::new();
        let more = [b"bc", TWO].concat();
        inbox
            .feed(&more, |unit, bytes| {
                seen.push(bytes.len());
                if matches!(unit, Unit::Message { .. }) { Flow::Pause } else { Flow::Go }
            })
            .unwrap();
        assert_eq!((seen.len(), inbox.rest()), (2, &TWO[seen[1]..]));
        let mut count = 0;
        inbox
            .feed(b"", |_, _| {
                count += 1;
                Flow::Go
            })
            .unwrap();
        assert_eq!((count, inbox.len()), (2, 0));
    }
}
