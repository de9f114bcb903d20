//! What arrived from one RTSP peer and is not yet understood: at most one unfinished message or
//! frame, and what came behind a request that has to wait.
//!
//! Reads land in a buffer of the worker. Whole units are handed on straight from there; only an
//! unfinished rest is kept here.

use crate::rtsp::framing::{Framer, FramingError, Progress, Unit};

/// Unread rest of one connection.
#[derive(Debug, Default)]
pub struct Inbox {
    rest: Vec<u8>,
    framer: Framer,
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
    pub fn feed(
        &mut self,
        fresh: &[u8],
        mut take: impl FnMut(Unit, &[u8]) -> Flow,
    ) -> Result<(), FramingError> {
        if self.rest.is_empty() {
            let used = Self::run(&mut self.framer, fresh, &mut take)?;
            self.rest.extend_from_slice(fresh.get(used..).unwrap_or_default());
            return Ok(());
        }
        let mut rest = core::mem::take(&mut self.rest);
        rest.extend_from_slice(fresh);
        let used = Self::run(&mut self.framer, &rest, &mut take)?;
        rest.drain(..used);
        if rest.is_empty() && rest.capacity() > 4 * KEEP_BYTES {
            rest.shrink_to(KEEP_BYTES);
        }
        self.rest = rest;
        Ok(())
    }

    /// Bytes that wait for more, or for a paused reader.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn run(
        framer: &mut Framer,
        bytes: &[u8],
        take: &mut impl FnMut(Unit, &[u8]) -> Flow,
    ) -> Result<usize, FramingError> {
        let mut used = 0;
        loop {
            let left = bytes.get(used..).unwrap_or_default();
            if left.is_empty() {
                return Ok(used);
            }
            let Progress::Ready(unit) = framer.next(left)? else { return Ok(used) };
            let Some(whole) = left.get(..unit.len()) else { return Ok(used) };
            used += whole.len();
            if take(unit, whole) == Flow::Pause {
                return Ok(used);
            }
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
}
