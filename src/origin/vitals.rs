//! How an origin does, shared by workers: its health, the time to its answers, its errors, and the
//! evidence for all that.
//!
//! A few words, changed one after the other and never waited for. What a finding does to the health
//! is decided in [`health`](super::health), which is pure; here outcomes are weighed into findings.

use core::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use super::{
    health::{Finding, HealthState, Outcome, Reason},
    mix,
};
use crate::{clock::Instant, limits::ORIGIN_LIFE_HOLDS_MS};

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

/// Clients with doubts since the last success: the marks of two of them; a third one is one too
/// many to be chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Suspicions(u64);

impl Suspicions {
    /// With one more client, and whether there are three now.
    fn with(self, client: u64) -> (Self, bool) {
        // 0 marks an empty place.
        let mark = (mix(client) & u64::from(u32::MAX)).max(1);
        let (first, second) = (self.0 & u64::from(u32::MAX), self.0 >> 32);
        match (first, second) {
            (0, _) => (Self(mark), false),
            (first, _) if first == mark => (self, false),
            (_, 0) => (Self(first | mark << 32), false),
            (_, second) => (self, second != mark),
        }
    }
}

/// A [`HealthState`], what it rests on, the smoothed time to an answer and the window of errors,
/// shared by workers. Each is one word; they are changed one after the other, never waited for.
#[derive(Debug)]
pub struct Vitals {
    state: AtomicU64,
    window: AtomicU64,
    rtt_us: AtomicU32,
    jitter: AtomicU64,
    /// When it last gave a sign of life, media or an answer, in milliseconds; 0: never.
    life_ms: AtomicU64,
    /// When it last was found to have failed, in milliseconds.
    failed_ms: AtomicU64,
    suspicions: AtomicU64,
    /// Somebody has doubts: a question of our own is to be asked.
    question: AtomicBool,
}

impl Vitals {
    /// Unknown; waits will be stretched by values that follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            state: AtomicU64::new(HealthState::default().pack()),
            window: AtomicU64::new(Window::default().0),
            rtt_us: AtomicU32::new(0),
            jitter: AtomicU64::new(seed),
            life_ms: AtomicU64::new(0),
            failed_ms: AtomicU64::new(0),
            suspicions: AtomicU64::new(0),
            question: AtomicBool::new(false),
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

    /// Takes in what was met. `checked`: somebody can ask the origin itself; where nobody does, the
    /// suspicions of three clients decide.
    pub fn observe(&self, outcome: Outcome, now: Instant, checked: bool) {
        if let Outcome::Answered { rtt_us } = outcome {
            self.smooth(rtt_us);
        }
        if let Some(finding) = self.weigh(outcome, now, checked) {
            // 500 to 1500, another one for each finding.
            let draw = mix(self.jitter.fetch_add(1, Ordering::Relaxed));
            let jitter_permille = 500 + u16::try_from(draw % 1001).unwrap_or(500);
            self.change(|state| Some(state.after(finding, now, jitter_permille)));
        }
        // Reported all the time; would drown the answers.
        if outcome == Outcome::MediaFlowing {
            return;
        }
        let failed = !matches!(outcome, Outcome::Answered { .. });
        let _ = self.window.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(Window(word).with(failed).0)
        });
    }

    /// What an outcome comes to. Nothing takes an origin down that has just sent media or an answer.
    fn weigh(&self, outcome: Outcome, now: Instant, checked: bool) -> Option<Finding> {
        let alive = self.is_alive(now);
        let hard = |reason| {
            if alive {
                // As soon as that has lapsed it is asked again.
                self.question.store(true, Ordering::Relaxed);
                return Finding::Doubt(reason);
            }
            self.failed_ms.store(now.as_millis(), Ordering::Relaxed);
            Finding::Failed(reason)
        };
        let useless = |why| if alive { Finding::Doubt(why) } else { Finding::Useless(why) };
        match outcome {
            Outcome::Answered { .. } | Outcome::MediaFlowing => {
                self.life_ms.store(now.as_millis().max(1), Ordering::Relaxed);
                self.question.store(false, Ordering::Relaxed);
                self.suspicions.store(0, Ordering::Relaxed);
                let well = self.state().after(Finding::Well, now, 1000);
                (self.state() != well).then_some(Finding::Well)
            }
            Outcome::ConnectFailed => Some(hard(Reason::Connect)),
            Outcome::Unanswered => Some(hard(Reason::Timeout)),
            Outcome::BadReply => Some(useless(Reason::BadReply)),
            Outcome::ServerError(code) => Some(useless(Reason::Status(code))),
            Outcome::Suspected { .. } if alive => None,
            Outcome::Suspected { why, .. } if checked => {
                self.question.store(true, Ordering::Relaxed);
                Some(Finding::Doubt(why))
            }
            Outcome::Suspected { why, client } => {
                Some(if self.suspect(client) { hard(why) } else { Finding::Doubt(why) })
            }
        }
    }

    /// Notes that this client has doubts; whether three have.
    fn suspect(&self, client: u64) -> bool {
        let mut three = false;
        let _ = self.suspicions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (suspicions, convicted) = Suspicions(word).with(client);
            three = convicted;
            Some(suspicions.0)
        });
        three
    }

    fn is_alive(&self, now: Instant) -> bool {
        let life = self.life_ms.load(Ordering::Relaxed);
        life != 0 && now < Instant::from_millis(life) + Duration::from_millis(ORIGIN_LIFE_HOLDS_MS)
    }

    /// Whether a question of our own is to be asked now; it is told once.
    pub fn takes_question(&self, now: Instant) -> bool {
        self.question.load(Ordering::Relaxed)
            && !self.is_alive(now)
            && self.question.swap(false, Ordering::Relaxed)
    }

    /// When it last was found to have failed.
    pub fn failed_at(&self) -> Instant {
        Instant::from_millis(self.failed_ms.load(Ordering::Relaxed))
    }

    /// Begins a trial if it is time for one; of many callers one gets `true`.
    pub fn begin_trial(&self, now: Instant) -> bool {
        self.change(|state| state.begin_trial(now))
    }

    /// Forgets a wait and what led to it: the origin has moved to another address.
    pub fn forget(&self) {
        self.state.store(HealthState::default().pack(), Ordering::Release);
        self.life_ms.store(0, Ordering::Relaxed);
        self.suspicions.store(0, Ordering::Relaxed);
        self.question.store(false, Ordering::Relaxed);
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
                health.observe(Outcome::ConnectFailed, at(0), true);
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
            health.observe(Outcome::Answered { rtt_us: sample }, at(0), true);
            assert_eq!(health.rtt_us(), wanted);
        }
    }

    const ANSWERED: Outcome = Outcome::Answered { rtt_us: 1000 };

    fn suspected(why: Reason, client: u64) -> Outcome {
        Outcome::Suspected { why, client }
    }

    fn is_down(vitals: &Vitals) -> bool {
        matches!(vitals.state().health(), Health::Down { .. })
    }

    /// All that one session may meet without the origin being at fault.
    const MET: [Reason; 5] =
        [Reason::Timeout, Reason::Closed, Reason::Silent, Reason::Status(503), Reason::BadReply];

    #[test]
    fn what_sessions_meet_makes_the_gateway_ask_and_takes_nothing_down() {
        for why in MET {
            let vitals = Vitals::new(0);
            for client in 0..50 {
                vitals.observe(suspected(why, client), at(1000), true);
            }
            assert_eq!(vitals.state().health(), Health::Failing, "{why:?}");
            assert_eq!(vitals.state().reason(), why);
            assert!(vitals.takes_question(at(1000)));
            assert!(!vitals.takes_question(at(1000)), "it is asked once");
            vitals.observe(ANSWERED, at(1100), true);
            assert_eq!(vitals.state().health(), Health::Up);
        }
    }

    #[test]
    fn a_question_of_our_own_without_an_answer_decides() {
        let vitals = Vitals::new(0);
        vitals.observe(suspected(Reason::Timeout, 1), at(1000), true);
        vitals.observe(Outcome::Unanswered, at(11_000), true);
        assert!(is_down(&vitals));
        assert_eq!(vitals.failed_at(), at(11_000));
    }

    #[test]
    fn media_or_an_answer_of_the_last_seconds_vetoes() {
        for life in [ANSWERED, Outcome::MediaFlowing] {
            let vitals = Vitals::new(0);
            vitals.observe(life, at(10_000), true);
            let last = at(10_000 + ORIGIN_LIFE_HOLDS_MS - 1);
            for why in MET {
                vitals.observe(suspected(why, 1), last, true);
            }
            assert_eq!(vitals.state().health(), Health::Up, "nobody doubts what is seen to live");
            assert!(!vitals.takes_question(last));
            for hard in [Outcome::ConnectFailed, Outcome::Unanswered] {
                vitals.observe(hard, last, true);
                assert_eq!(vitals.state().health(), Health::Failing);
            }
            assert!(!vitals.takes_question(last));
            let lapsed = at(10_000 + ORIGIN_LIFE_HOLDS_MS);
            assert!(vitals.takes_question(lapsed), "it is asked as soon as that says nothing more");
            vitals.observe(Outcome::ConnectFailed, lapsed, true);
            assert!(is_down(&vitals));
        }
    }

    #[test]
    fn media_resets_at_once_whatever_it_was() {
        for hard in [Outcome::ConnectFailed, Outcome::Unanswered] {
            let vitals = Vitals::new(0);
            vitals.observe(hard, at(1000), true);
            assert!(is_down(&vitals));
            vitals.observe(Outcome::MediaFlowing, at(1001), true);
            assert_eq!(vitals.state().health(), Health::Up);
        }
    }

    #[test]
    fn where_nobody_asks_three_clients_decide_and_one_never_does() {
        let vitals = Vitals::new(0);
        for client in [1, 1, 1, 1, 2, 2, 1] {
            vitals.observe(suspected(Reason::Closed, client), at(1000), false);
            assert_eq!(vitals.state().health(), Health::Failing);
        }
        vitals.observe(suspected(Reason::Closed, 3), at(1000), false);
        assert!(is_down(&vitals));
        let vitals = Vitals::new(0);
        for (client, ms) in [(1, 1000), (2, 1000)] {
            vitals.observe(suspected(Reason::Closed, client), at(ms), false);
        }
        vitals.observe(ANSWERED, at(2000), false);
        vitals.observe(suspected(Reason::Closed, 3), at(60_000), false);
        assert_eq!(vitals.state().health(), Health::Failing, "success begins the count anew");
    }

    #[test]
    fn of_eight_threads_one_gets_the_trial() {
        let health = Vitals::new(0);
        health.observe(Outcome::ConnectFailed, at(0), true);
        let won = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| health.begin_trial(at(10_000)))).collect();
            all.into_iter().filter_map(|one| one.join().ok()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
    }
}
