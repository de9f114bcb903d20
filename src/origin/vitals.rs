//! How an origin does, shared by workers: its health, the time to its answers, its errors.
//!
//! Three words, changed one after the other and never waited for. What they mean is decided in
//! [`health`](super::health) and in [`Window`], which are pure.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{
    health::{HealthState, Outcome},
    mix,
};
use crate::clock::Instant;

/// The last 63 outcomes, one bit each, below a marker bit: a new window is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window(u64);

impl Default for Window {
    fn default() -> Self {
        Self(1)
    }
}

impl Window {
    /// The window with one more outcome; the oldest falls out.
    #[must_use]
    pub fn with(self, failed: bool) -> Self {
        let full = self.0 >> 63 == 1;
        let shifted = self.0 << 1 | u64::from(failed);
        Self(if full { shifted | 1 << 63 } else { shifted })
    }

    /// Failures among the outcomes in the window, 0 to 1000.
    pub fn err_permille(self) -> u16 {
        let held = 63 - self.0.leading_zeros();
        let failures = self.0.count_ones() - 1;
        u16::try_from(failures * 1000 / held.max(1)).unwrap_or(1000)
    }
}

/// A [`HealthState`], the smoothed time to an answer and the window of errors, shared by workers.
/// Each is one word; they are changed one after the other, never waited for.
#[derive(Debug)]
pub struct Vitals {
    state: AtomicU64,
    window: AtomicU64,
    rtt_us: AtomicU32,
    jitter: AtomicU64,
}

impl Vitals {
    /// Unknown; waits will be stretched by values that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(HealthState::default().pack()),
            window: AtomicU64::new(Window::default().0),
            rtt_us: AtomicU32::new(0),
            jitter: AtomicU64::new(seed),
        }
    }

    /// The state now.
    pub fn state(&self) -> HealthState {
        HealthState::unpack(self.state.load(Ordering::Acquire))
    }

    /// Smoothed time to an answer, microseconds; 0 before the first.
    pub fn rtt_us(&self) -> u32 {
        self.rtt_us.load(Ordering::Relaxed)
    }

    /// Failures among the last 63 outcomes, 0 to 1000.
    pub fn err_permille(&self) -> u16 {
        Window(self.window.load(Ordering::Relaxed)).err_permille()
    }

    /// Takes in what was met.
    pub fn observe(&self, outcome: Outcome, now: Instant) {
        // 500 to 1500, another one for each outcome.
        let draw = mix(self.jitter.fetch_add(1, Ordering::Relaxed));
        let jitter_permille = 500 + u16::try_from(draw % 1001).unwrap_or(500);
        self.change(|state| Some(state.after(outcome, now, jitter_permille)));
        let failed = match outcome {
            Outcome::Answered { rtt_us } => {
                self.smooth(rtt_us);
                false
            }
            Outcome::ServerError(501 | 505 | 551) => false,
            // Reported all the time; would drown the answers.
            Outcome::MediaFlowing => return,
            _ => true,
        };
        let _ = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(Window(word).with(failed).0)
        });
    }

    /// Begins a trial if it is time for one; of many callers one gets `true`.
    pub fn begin_trial(&self, now: Instant) -> bool {
        self.change(|state| state.begin_trial(now))
    }

    /// Forgets a wait: the origin has moved to another address.
    pub fn forget(&self) {
        self.state.store(HealthState::default().pack(), Ordering::Release);
    }

    fn change(&self, step: impl Fn(HealthState) -> Option<HealthState>) -> bool {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
                step(HealthState::unpack(word)).map(HealthState::pack)
            })
            .is_ok()
    }

    /// An eighth of the difference, as RFC 6298 does for TCP.
    fn smooth(&self, sample: u32) {
        let _ = self.rtt_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
            let new = match old {
                0 => u64::from(sample),
                _ => (u64::from(old) * 7 + u64::from(sample)) / 8,
            };
            Some(u32::try_from(new).unwrap_or(u32::MAX).max(1))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Health;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn the_jitter_fills_its_range() {
        let waits: Vec<u64> = (0..2000)
            .map(|seed| {
                let health = Vitals::new(seed);
                health.observe(Outcome::ConnectFailed, at(0));
                match health.state().health() {
                    Health::Down { until, .. } => until.as_millis(),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        assert!(waits.iter().all(|wait| (2500..=7500).contains(wait)));
        assert!(waits.iter().any(|wait| *wait < 2700) && waits.iter().any(|wait| *wait > 7300));
    }

    #[test]
    fn the_window_forgets_what_is_63_outcomes_ago() {
        let mut window = Window::default();
        assert_eq!(window.err_permille(), 0);
        window = window.with(true);
        assert_eq!(window.err_permille(), 1000);
        window = window.with(false);
        assert_eq!(window.err_permille(), 500);
        window = (0..61).fold(window, |window, _| window.with(false));
        assert_eq!(window.err_permille(), 15, "1 of 63");
        assert_eq!(window.with(false).err_permille(), 0);
        assert_eq!((0..200).fold(window, |window, _| window.with(true)).err_permille(), 1000);
    }

    #[test]
    fn the_time_to_an_answer_moves_by_an_eighth() {
        let health = Vitals::new(0);
        for (sample, wanted) in [(8000, 8000), (16_000, 9000), (0, 7875), (u32::MAX, 536_877_802)] {
            health.observe(Outcome::Answered { rtt_us: sample }, at(0));
            assert_eq!(health.rtt_us(), wanted);
        }
    }

    #[test]
    fn of_eight_threads_one_gets_the_trial() {
        let health = Vitals::new(0);
        health.observe(Outcome::ConnectFailed, at(0));
        let won = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| health.begin_trial(at(10_000)))).collect();
            all.into_iter().filter_map(|one| one.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }
}
