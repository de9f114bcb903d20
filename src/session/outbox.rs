//! What waits to be written to one RTSP peer: replies, which are never lost, and media frames,
//! which are bounded in bytes and age.
//!
//! A peer that reads slowly loses whole frames, oldest first. Replies overtake frames, except the
//! one that is half written: its rest goes first, so that framing holds. Nothing is allocated once
//! the queues have reached their working size.
//!
//! Media for a peer that sets the pace itself is not dropped ([`Outbox::keep_all`]): whoever fills the
//! queue reads no more of it meanwhile.
//!
//! Not in here: the socket. [`Outbox::slices`] is what to write next, [`Outbox::wrote`] takes
//! note of how much of it went out.

use core::time::Duration;
use std::collections::VecDeque;

use crate::{clock::Instant, limits::REPLY_QUEUE_HARD_BYTES};

/// Memory kept by an empty queue that was once long.
const KEEP_BYTES: usize = 8 * 1024;

/// The queue toward one peer.
#[derive(Debug)]
pub struct Outbox {
    /// Rest of a frame whose beginning has been written.
    partial: VecDeque<u8>,
    replies: VecDeque<u8>,
    media: VecDeque<u8>,
    frames: VecDeque<Frame>,
    bounds: Bounds,
    keeps_all: bool,
    dropped: u64,
}

/// How much media may wait.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of whole frames, their four header bytes included.
    pub bytes: usize,
    /// The oldest a waiting frame may get.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    len: usize,
    queued: Instant,
}

/// More replies wait than any sane peer lets pile up; it is to be hung up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stuck;

impl Outbox {
    /// An empty queue.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            partial: VecDeque::new(),
            replies: VecDeque::new(),
            media: VecDeque::new(),
            frames: VecDeque::new(),
            bounds,
            keeps_all: false,
            dropped: 0,
        }
    }

    /// Queues a whole RTSP message.
    pub fn push_reply(&mut self, message: &[u8]) -> Result<(), Stuck> {
        if self.replies.len() + message.len() > REPLY_QUEUE_HARD_BYTES {
            return Err(Stuck);
        }
        self.replies.extend(message);
        Ok(())
    }

    /// Queues one interleaved frame. Frames that are too old, or that stand in the way of this one,
    /// are dropped first. A frame larger than the whole bound is dropped itself.
    pub fn push_frame(&mut self, channel: u8, payload: &[u8], now: Instant) {
        let Ok(length) = u16::try_from(payload.len()) else {
            self.dropped += 1;
            return;
        };
        let len = payload.len() + 4;
        while let Some(oldest) = self.frames.front().filter(|_| !self.keeps_all) {
            let fits = self.media.len() + len <= self.bounds.bytes;
            if fits && now.since(oldest.queued) <= self.bounds.age {
                break;
            }
            self.drop_oldest();
        }
        if len > self.bounds.bytes && !self.keeps_all {
            self.dropped += 1;
            return;
        }
        let [high, low] = length.to_be_bytes();
        self.media.extend([b'$', channel, high, low]);
        self.media.extend(payload);
        self.frames.push_back(Frame { len, queued: now });
    }

    /// Whether media is kept however long it waits. The bound is then with whoever pushes it.
    pub fn keep_all(&mut self, keeps: bool) {
        self.keeps_all = keeps;
    }

    /// Queues the rest of a frame whose beginning was written past the empty queue: first of all, and
    /// never dropped.
    pub fn push_rest(&mut self, rest: &[u8]) {
        debug_assert!(self.is_empty(), "a half-written frame is followed by its rest");
        self.partial.extend(rest);
    }

    /// What to write next, in order; empty slices at the end.
    pub fn slices(&self) -> [&[u8]; 6] {
        let mut all = [&[][..]; 6];
        let queues = [&self.partial, &self.replies, &self.media];
        let parts = queues.into_iter().flat_map(|queue| {
            let (front, back) = queue.as_slices();
            [front, back]
        });
        for (slot, part) in all.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slot = part;
        }
        all
    }

    /// So many bytes of [`Outbox::slices`] were written.
    pub fn wrote(&mut self, mut bytes: usize) {
        bytes -= take(&mut self.partial, bytes);
        bytes -= take(&mut self.replies, bytes);
        while bytes > 0 {
            let Some(frame) = self.frames.pop_front() else {
                debug_assert!(false, "more was written than waited");
                return;
            };
            if frame.len <= bytes {
                self.media.drain(..frame.len);
                bytes -= frame.len;
            } else {
                self.media.drain(..bytes);
                self.partial.extend(self.media.drain(..frame.len - bytes));
                bytes = 0;
            }
        }
        // Long messages are rare; frames come in numbers, and their room is used again.
        if self.replies.is_empty() && self.replies.capacity() > 2 * KEEP_BYTES {
            self.replies.shrink_to(KEEP_BYTES);
        }
        if self.is_empty() {
            for queue in [&mut self.partial, &mut self.media] {
                if queue.capacity() > 8 * KEEP_BYTES {
                    queue.shrink_to(KEEP_BYTES);
                }
            }
        }
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.replies.is_empty() && self.media.is_empty()
    }

    /// Bytes of replies that wait.
    pub fn reply_bytes(&self) -> usize {
        self.replies.len()
    }

    /// Bytes of media that wait.
    pub fn media_bytes(&self) -> usize {
        self.partial.len() + self.media.len()
    }

    /// Whole frames dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn drop_oldest(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.media.drain(..frame.len);
            self.dropped += 1;
        }
    }
}

fn take(queue: &mut VecDeque<u8>, bytes: usize) -> usize {
    let taken = queue.len().min(bytes);
    queue.drain(..taken);
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1000);

    fn outbox(bytes: usize) -> Outbox {
        Outbox::new(Bounds { bytes, age: Duration::from_millis(100) })
    }

    fn waiting(outbox: &Outbox) -> Vec<u8> {
        outbox.slices().concat()
    }

    #[test]
    fn replies_overtake_frames_but_not_the_half_written_one() {
        let mut out = outbox(100);
        out.push_frame(0, b"abc", NOW);
        out.push_frame(1, b"de", NOW);
        out.wrote(2);
        out.push_reply(b"RTSP").unwrap();
        assert_eq!(waiting(&out), b"\0\x03abcRTSP$\x01\0\x02de");
        out.wrote(7);
        assert_eq!(waiting(&out), b"SP$\x01\0\x02de");
        out.wrote(8);
        assert!(out.is_empty());
    }

    #[test]
    fn a_slow_peer_loses_whole_frames_oldest_first() {
        let mut out = outbox(14);
        out.push_frame(0, b"abc", NOW);
        out.push_frame(0, b"def", NOW);
        assert_eq!(out.dropped(), 0, "two frames of seven bytes are at the bound");
        out.push_frame(0, b"g", NOW);
        assert_eq!(out.dropped(), 1);
        assert_eq!(waiting(&out), b"$\0\0\x03def$\0\0\x01g");
    }

    #[test]
    fn the_half_written_frame_is_never_dropped() {
        let mut out = outbox(14);
        out.push_frame(0, b"abc", NOW);
        out.wrote(5);
        for _ in 0..5 {
            out.push_frame(2, b"xyz", NOW);
        }
        assert_eq!(&waiting(&out)[..2], b"bc");
        assert_eq!(out.dropped(), 3);
    }

    #[test]
    fn frames_that_waited_too_long_go_when_the_next_one_comes() {
        let mut out = outbox(100);
        out.push_frame(0, b"old", NOW);
        out.push_frame(0, b"new", NOW + Duration::from_millis(100));
        assert_eq!(out.dropped(), 0, "at the bound");
        out.push_frame(0, b"x", NOW + Duration::from_millis(101));
        assert_eq!(out.dropped(), 1, "one past it");
    }

    #[test]
    fn a_frame_larger_than_the_bound_is_dropped() {
        let mut out = outbox(10);
        out.push_frame(0, &[0; 6], NOW);
        assert_eq!((out.media_bytes(), out.dropped()), (10, 0));
        out.push_frame(0, &[0; 7], NOW);
        assert_eq!((out.media_bytes(), out.dropped()), (0, 2));
    }

    #[test]
    fn a_peer_that_sets_the_pace_loses_nothing_until_it_leaves_it_to_others() {
        let mut out = outbox(14);
        out.keep_all(true);
        for number in 0..10 {
            out.push_frame(0, &[number; 20], NOW + Duration::from_secs(number.into()));
        }
        assert_eq!((out.media_bytes(), out.dropped()), (240, 0));
        out.keep_all(false);
        out.push_frame(0, b"abc", NOW + Duration::from_secs(10));
        assert_eq!((out.media_bytes(), out.dropped()), (7, 10));
    }

    #[test]
    fn replies_have_a_hard_bound_past_which_the_peer_is_stuck() {
        let mut out = outbox(10);
        out.push_reply(&vec![b'x'; REPLY_QUEUE_HARD_BYTES]).unwrap();
        assert_eq!(out.push_reply(b"x"), Err(Stuck));
    }

    #[test]
    fn the_rest_of_a_frame_written_past_the_queue_goes_before_all_else() {
        let mut out = outbox(10);
        out.push_rest(b"rest");
        out.push_frame(0, b"abc", NOW);
        out.push_reply(b"RTSP").unwrap();
        out.push_frame(0, &[0; 6], NOW);
        assert_eq!(waiting(&out)[..8], *b"restRTSP", "no bound drops it");
        assert_eq!(out.dropped(), 1);
    }
}
