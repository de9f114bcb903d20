//! One timer for each token, in a heap whose memory is reused.
//!
//! Moving a timer later or off costs nothing: the entry in the heap stays and is looked at again
//! when it comes up. Only moving it earlier adds an entry. So a timer that is pushed back with each
//! datagram is free.

use core::cmp::Reverse;
use std::collections::BinaryHeap;

use super::table::Token;
use crate::clock::Instant;

/// The part of a timer that its token's slot keeps.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timer {
    /// When it should fire.
    pub(super) deadline: Option<Instant>,
    /// Time of its one valid entry in the heap; others are stale.
    armed: Option<Instant>,
}

/// Entries of all timers of a worker.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Timers {
    /// Sets or clears a token's timer.
    pub(super) fn set(&mut self, token: Token, timer: &mut Timer, deadline: Option<Instant>) {
        timer.deadline = deadline;
        if let Some(at) = deadline
            && timer.armed.is_none_or(|armed| at < armed)
        {
            timer.armed = Some(at);
            self.heap.push(Reverse((at, token)));
        }
    }

    /// When to look again at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Entries, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// Takes the next entry that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(Instant, Token)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// Judges an entry that [`Timers::pop`] gave: whether the timer fires now. A timer that was
    /// moved later is entered again.
    pub(super) fn fires(
        &mut self,
        (at, token): (Instant, Token),
        timer: &mut Timer,
        now: Instant,
    ) -> bool {
        if timer.armed != Some(at) {
            return false; // stale: an earlier entry took its place
        }
        timer.armed = None;
        match timer.deadline {
            Some(deadline) if deadline <= now => {
                timer.deadline = None;
                true
            }
            later => {
                self.set(token, timer, later);
                false
            }
        }
    }

    /// Forgets entries that `keep` does not know: those of released tokens.
    pub(super) fn purge(&mut self, keep: impl Fn(Token) -> bool) {
        self.heap.retain(|Reverse((_, token))| keep(*token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn due(timers: &mut Timers, timer: &mut Timer, now: u64) -> usize {
        let mut fired = 0;
        while let Some(entry) = timers.pop(ms(now)) {
            fired += usize::from(timers.fires(entry, timer, ms(now)));
        }
        fired
    }

    #[test]
    fn a_timer_fires_once_at_its_deadline() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        timers.set(Token::NONE, &mut timer, Some(ms(10)));
        assert_eq!(due(&mut timers, &mut timer, 9), 0);
        assert_eq!(due(&mut timers, &mut timer, 10), 1);
        assert_eq!(due(&mut timers, &mut timer, 100), 0);
        assert_eq!(timers.len(), 0);
    }

    #[test]
    fn moving_later_again_and_again_keeps_one_entry() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        for at in 10..1000 {
            timers.set(Token::NONE, &mut timer, Some(ms(at)));
        }
        assert_eq!(timers.len(), 1);
        assert_eq!(due(&mut timers, &mut timer, 998), 0);
        assert_eq!(due(&mut timers, &mut timer, 999), 1);
    }

    #[test]
    fn moving_earlier_fires_earlier_and_only_once() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        timers.set(Token::NONE, &mut timer, Some(ms(50)));
        timers.set(Token::NONE, &mut timer, Some(ms(20)));
        assert_eq!(due(&mut timers, &mut timer, 20), 1);
        assert_eq!(due(&mut timers, &mut timer, 60), 0);
    }

    #[test]
    fn a_cleared_timer_does_not_fire_and_can_be_set_again() {
        let (mut timers, mut timer) = (Timers::default(), Timer::default());
        timers.set(Token::NONE, &mut timer, Some(ms(50)));
        timers.set(Token::NONE, &mut timer, None);
        assert_eq!(due(&mut timers, &mut timer, 60), 0);
        timers.set(Token::NONE, &mut timer, Some(ms(70)));
        assert_eq!(due(&mut timers, &mut timer, 70), 1);
    }
}
