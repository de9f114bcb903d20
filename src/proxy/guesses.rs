//! Wrong passwords, by address: how often one may try, over however many connections, and how long
//! the answer to a wrong one takes.
//!
//! An address that has just been wrong waits half a second for its next check; what it sends
//! meanwhile waits with it or is not checked at all. So nobody gets more than two answers a second
//! out of the gateway, and other addresses do not notice. The answer to a wrong password comes later
//! each time. After a while without one an address starts anew.
//!
//! Not in here: what is wrong ([`crate::auth`]), and what a plugin asks for.

use core::time::Duration;
use std::collections::HashMap;

use crate::{
    clock::Instant,
    limits::{
        GUESS_ANSWER_FIRST_MS, GUESS_ANSWER_LAST_MS, GUESS_EVERY_MS, GUESS_FORGOTTEN_MS,
        GUESSERS_MAX,
    },
    peer::Peer,
};

/// Those that were wrong lately.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    wrong: HashMap<Peer, Wrong>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Instant,
    next_check: Instant,
}

impl Guesses {
    /// Whether a password of this peer is checked now.
    ///
    /// # Errors
    /// Not before then.
    pub(super) fn may_check(&mut self, peer: Peer, now: Instant) -> Result<(), Instant> {
        let Some(wrong) = self.wrong.get_mut(&peer) else { return Ok(()) };
        if now < wrong.next_check {
            return Err(wrong.next_check);
        }
        // Until it turns out to be right, it may be wrong again.
        wrong.next_check = now + Duration::from_millis(GUESS_EVERY_MS);
        Ok(())
    }

    /// It was right.
    pub(super) fn right(&mut self, peer: Peer, now: Instant) {
        if let Some(wrong) = self.wrong.get_mut(&peer) {
            wrong.next_check = now;
        }
    }

    /// It was wrong; how long its answer takes.
    pub(super) fn wrong(&mut self, peer: Peer, now: Instant) -> Duration {
        if self.wrong.len() >= GUESSERS_MAX && !self.wrong.contains_key(&peer) {
            self.forget(now);
        }
        let none = Wrong { count: 0, last: now, next_check: now };
        let wrong = self.wrong.entry(peer).or_insert(none);
        if is_forgotten(wrong, now) {
            wrong.count = 0;
        }
        let doublings = wrong.count.min(16);
        wrong.count = wrong.count.saturating_add(1);
        (wrong.last, wrong.next_check) = (now, now + Duration::from_millis(GUESS_EVERY_MS));
        Duration::from_millis((GUESS_ANSWER_FIRST_MS << doublings).min(GUESS_ANSWER_LAST_MS))
    }

    /// Makes room: for all whose last wrong password is long ago, else for the oldest.
    fn forget(&mut self, now: Instant) {
        self.wrong.retain(|_, wrong| !is_forgotten(wrong, now));
        if self.wrong.len() >= GUESSERS_MAX {
            let oldest = self.wrong.iter().min_by_key(|(_, wrong)| wrong.last);
            let oldest = oldest.map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.wrong.remove(&peer));
        }
    }
}

fn is_forgotten(wrong: &Wrong, now: Instant) -> bool {
    now.since(wrong.last) >= Duration::from_millis(GUESS_FORGOTTEN_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn peer(number: u32) -> Peer {
        Peer::of(core::net::IpAddr::V4(core::net::Ipv4Addr::from_bits(0x0a00_0000 + number)))
    }

    #[test]
    fn an_address_gets_two_answers_a_second_however_often_it_asks() {
        let mut guesses = Guesses::default();
        let mut checked = 0;
        for ms in 0..10_000 {
            if guesses.may_check(peer(1), at(ms)).is_ok() {
                checked += 1;
                guesses.wrong(peer(1), at(ms));
            }
            assert_eq!(guesses.may_check(peer(2), at(ms)), Ok(()), "others do not notice");
        }
        assert_eq!(checked, 20);
    }

    #[test]
    fn two_connections_do_not_check_in_the_same_window() {
        let mut guesses = Guesses::default();
        guesses.wrong(peer(1), at(0));
        assert_eq!(guesses.may_check(peer(1), at(GUESS_EVERY_MS)), Ok(()));
        let next = at(2 * GUESS_EVERY_MS);
        assert_eq!(guesses.may_check(peer(1), at(GUESS_EVERY_MS)), Err(next));
        guesses.right(peer(1), at(GUESS_EVERY_MS));
        assert_eq!(
            guesses.may_check(peer(1), at(GUESS_EVERY_MS)),
            Ok(()),
            "who is right is not slowed"
        );
    }

    #[test]
    fn answers_take_longer_each_time_and_start_anew_after_a_while() {
        let mut guesses = Guesses::default();
        let ms: Vec<u128> = (0..6).map(|n| guesses.wrong(peer(1), at(n)).as_millis()).collect();
        assert_eq!(ms, [250, 500, 1000, 2000, 4000, 4000]);
        for _ in 0..100 {
            assert!(guesses.wrong(peer(1), at(9)) <= Duration::from_millis(GUESS_ANSWER_LAST_MS));
        }
        assert_eq!(guesses.wrong(peer(1), at(9 + GUESS_FORGOTTEN_MS)).as_millis(), 250);
    }

    #[test]
    fn as_many_are_remembered_as_there_is_room_for() {
        let mut guesses = Guesses::default();
        for number in 0..2 * u32::try_from(GUESSERS_MAX).unwrap() {
            guesses.wrong(peer(number), at(number.into()));
        }
        assert_eq!(guesses.wrong.len(), GUESSERS_MAX);
        assert!(guesses.wrong.contains_key(&peer(GUESSERS_MAX as u32)));
        assert!(!guesses.wrong.contains_key(&peer(1)));
    }
}
