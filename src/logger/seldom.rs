//! Lines that a peer can cause at will: each is told once for its cause, its peer and a minute, and
//! what was left out is told as a count.
//!
//! Flash is behind many a syslog, and a log that somebody else fills tells nothing. Lines that
//! belong to one session each, such as its end, are only bounded by the second.
//!
//! Not in here: levels and texts.

use core::fmt;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::{
    clock::{self, Instant},
    limits::{LOG_CAUSE_LINES_PER_S, LOG_PEERS_MAX, LOG_REPEAT_MS},
};

static LINES: Mutex<Option<Lines>> = Mutex::new(None);

/// Whether a line about this cause and this peer is told now, and how many like it were not before.
pub fn once_a_minute(cause: &'static str, who: &str) -> Option<LeftOut> {
    with(|lines| lines.once_a_minute(cause, who, clock::now()))
}

/// Whether one more line of this cause is told this second.
pub fn paced(cause: &'static str) -> Option<LeftOut> {
    with(|lines| lines.paced(cause, clock::now()))
}

/// Tells what was left out and is not followed by another line. Called once a second.
pub fn tell_left_out() {
    for Silenced { cause, who, count } in with(|lines| lines.over(clock::now())) {
        let LeftOut(count) = count;
        log::info!(target: "edgeweir::log", "{count} more lines like this were left out: {cause} {who}");
    }
}

fn with<T>(act: impl FnOnce(&mut Lines) -> T) -> T {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    act(lines.get_or_insert_with(Lines::default))
}

/// Lines of the same cause that were not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut(u64);

impl fmt::Display for LeftOut {
    /// For the end of a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more like this were left out before)"),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Silenced {
    cause: &'static str,
    who: String,
    count: LeftOut,
}

/// What was told when.
#[derive(Debug, Default)]
struct Lines {
    /// By cause and peer.
    told: HashMap<(&'static str, String), Told>,
    /// By cause: when its last lines were told.
    last: HashMap<&'static str, Last>,
}

/// When as many lines of a cause as a second may have were told, the oldest at `oldest`.
#[derive(Debug, Default)]
struct Last {
    at: [Option<Instant>; LOG_CAUSE_LINES_PER_S],
    oldest: usize,
}

#[derive(Debug)]
struct Told {
    at: Instant,
    left_out: u64,
}

impl Lines {
    fn once_a_minute(&mut self, cause: &'static str, who: &str, now: Instant) -> Option<LeftOut> {
        let mut key = (cause, who.to_owned());
        if self.told.len() >= LOG_PEERS_MAX && !self.told.contains_key(&key) {
            self.told.retain(|_, told| !is_over(told, now) || told.left_out > 0);
            if self.told.len() >= LOG_PEERS_MAX {
                key.1 = "of many".to_owned(); // one more for each cause at most
            }
        }
        if let Some(told) = self.told.get_mut(&key)
            && !is_over(told, now)
        {
            told.left_out += 1;
            return None;
        }
        let passes = self.takes_second(cause, now);
        let told = self.told.entry(key).or_insert(Told { at: now, left_out: 0 });
        if !passes {
            told.left_out += 1;
            return None;
        }
        told.at = now;
        Some(LeftOut(core::mem::take(&mut told.left_out)))
    }

    fn paced(&mut self, cause: &'static str, now: Instant) -> Option<LeftOut> {
        let passes = self.takes_second(cause, now);
        let key = (cause, String::new());
        if passes {
            let told = self.told.get_mut(&key);
            return Some(
                told.map_or(LeftOut(0), |told| LeftOut(core::mem::take(&mut told.left_out))),
            );
        }
        let told = self.told.entry(key).or_insert(Told { at: now, left_out: 0 });
        (told.at, told.left_out) = (now, told.left_out + 1);
        None
    }

    fn takes_second(&mut self, cause: &'static str, now: Instant) -> bool {
        let Last { at, oldest } = self.last.entry(cause).or_default();
        let Some(place) = at.get_mut(*oldest) else { return false };
        // Any second, not one of the clock's: two halves would have twice as many.
        let passes = place.is_none_or(|told| now.as_millis() >= told.as_millis() + 1000);
        if passes {
            *place = Some(now);
            *oldest = (*oldest + 1) % LOG_CAUSE_LINES_PER_S;
        }
        passes
    }

    /// Forgets what is over; what was left out meanwhile.
    fn over(&mut self, now: Instant) -> Vec<Silenced> {
        let over = self.told.extract_if(|_, told| is_over(told, now));
        over.filter(|(_, told)| told.left_out > 0)
            .map(|((cause, who), told)| Silenced { cause, who, count: LeftOut(told.left_out) })
            .collect()
    }
}

fn is_over(told: &Told, now: Instant) -> bool {
    now.as_millis() >= told.at.as_millis() + LOG_REPEAT_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(5_000_000 + ms)
    }

    #[test]
    fn a_cause_is_told_once_a_minute_for_a_peer_with_the_count_of_what_was_not() {
        let mut lines = Lines::default();
        assert_eq!(lines.once_a_minute("malformed", "a", at(0)), Some(LeftOut(0)));
        for ms in 1..2000 {
            assert_eq!(lines.once_a_minute("malformed", "a", at(ms)), None);
        }
        assert_eq!(lines.once_a_minute("malformed", "b", at(2000)), Some(LeftOut(0)));
        assert_eq!(lines.once_a_minute("idle", "a", at(2000)), Some(LeftOut(0)));
        assert_eq!(lines.once_a_minute("malformed", "a", at(LOG_REPEAT_MS)), Some(LeftOut(1999)));
        assert_eq!(LeftOut(0).to_string(), "");
        assert_eq!(LeftOut(1999).to_string(), " (1999 more like this were left out before)");
    }

    #[test]
    fn what_was_left_out_last_is_told_too() {
        let mut lines = Lines::default();
        lines.once_a_minute("malformed", "a", at(0));
        lines.once_a_minute("malformed", "a", at(1));
        lines.once_a_minute("malformed", "b", at(2));
        assert_eq!(lines.over(at(LOG_REPEAT_MS - 1)), []);
        let told = lines.over(at(LOG_REPEAT_MS + 2));
        let one = Silenced { cause: "malformed", who: "a".into(), count: LeftOut(1) };
        assert_eq!(told, [one]);
        assert!(lines.told.is_empty());
    }

    #[test]
    fn ten_lines_a_second_have_one_cause_whoever_causes_them() {
        let mut lines = Lines::default();
        let told = |lines: &mut Lines, ms| {
            (0..3000)
                .filter(|peer| lines.once_a_minute("x", &peer.to_string(), at(ms)).is_some())
                .count()
        };
        assert_eq!(told(&mut lines, 0), 10);
        assert!(lines.told.len() <= LOG_PEERS_MAX + 1, "{}", lines.told.len());
        assert!(told(&mut lines, 1000) <= 10);
        for _ in 0..10 {
            assert!(lines.paced("end", at(0)).is_some());
        }
        assert_eq!(lines.paced("end", at(999)), None);
        assert_eq!(lines.paced("end", at(1000)), Some(LeftOut(1)));
    }

    #[test]
    fn no_second_has_more_wherever_it_begins() {
        let mut lines = Lines::default();
        let mut told = Vec::new();
        for ms in (0..5000).step_by(37) {
            told.extend(lines.paced("end", at(ms)).map(|_| ms));
        }
        for (place, first) in told.iter().enumerate() {
            let within = told.iter().skip(place).take_while(|ms| **ms < first + 1000).count();
            assert!(within <= 10, "{within} from {first} ms on");
        }
        assert!(told.len() >= 45, "{}", told.len());
    }
}
