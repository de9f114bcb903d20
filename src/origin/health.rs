//! Is an origin well? A state machine over what sessions and health checks met.
//!
//! ```text
//!            answered                       1 hard failure, or 3 soft ones in a row
//! Unknown ───────────────▶ Up ◀───────▶ Failing ──────────────▶ Down{until, step} ◀─┐
//!                          ▲  soft/answered                        │ until passed   │ failure:
//!                          └───────────────── answered ◀───── trial (one at a time) ┘ longer wait
//! ```
//!
//! Hard failures are a refused connection and silence instead of an answer; one is enough. Soft
//! ones are 5xx answers, replies that are no RTSP, and sessions whose media stopped. The wait is
//! that of RFC 7826 section 10.7: 5 s, doubling up to 30 min, times a random 0.5 to 1.5.
//!
//! Two kinds of answer do not end a wait before its time: after a refused connection only a new
//! connection proves anything (sessions that are still open go on being answered by a recorder
//! that is full), and after silent media an answered OPTIONS proves nothing.
//!
//! Not in here: a clock, a lock, a random source. [`HealthState`] is a value, its transitions are
//! pure; [`AtomicHealth`] packs it into one atomic word so that workers may share it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use crate::{
    clock::Instant,
    limits::{BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS, SOFT_FAILURES_TO_DOWN, TRIAL_LONGEST_MS},
};

/// What was met at an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No TCP connection: refused, unreachable, timed out.
    ConnectFailed,
    /// Connected, asked, and nothing came in time.
    AnswerTimeout,
    /// What came was no RTSP, or half of it.
    BadReply,
    /// A 5xx answer. 501, 505 and 551 speak of the request and count as an answer.
    ServerError(u16),
    /// Any other answer, 401 and 404 included, after so many microseconds.
    Answered {
        /// From the last byte of the request to the whole head of the answer, microseconds.
        rtt_us: u32,
    },
    /// Media was promised and stopped, or never came.
    MediaSilent,
    /// Media came.
    MediaFlowing,
}

/// What an origin is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing was met yet: it is used.
    Unknown,
    /// Well.
    Up,
    /// Fewer soft failures in a row than it takes: it is used.
    Failing,
    /// Not used before `until`, then by one session or check at a time.
    Down {
        /// When it may be tried.
        until: Instant,
        /// How often the wait was doubled, 0 to 9.
        step: u8,
    },
}

/// Why an origin is not up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing is wrong.
    None,
    /// No connection.
    Connect,
    /// No answer.
    Timeout,
    /// No RTSP.
    BadReply,
    /// A 5xx answer, with its code.
    Status(u16),
    /// No media.
    Silent,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Connect => f.write_str("no connection"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::BadReply => f.write_str("its reply is no RTSP"),
            Self::Status(code) => write!(f, "it answers {code}"),
            Self::Silent => f.write_str("it sends no media"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unknown,
    Up,
    Failing,
    Down,
}

/// The state of one origin; a value, packed into 64 bits by [`HealthState::pack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthState {
    kind: Kind,
    /// End of the wait or of the trial; meaningful when down.
    until: Instant,
    /// Waits since it was last well: the next one is `wait(step)`.
    step: u8,
    /// Soft failures in a row; an answer ends the row.
    soft: u8,
    /// Sessions in a row whose media stopped; only media ends this row.
    silent: u8,
    /// A trial is under way (down only).
    trial: bool,
    reason: Reason,
}

/// Doublings after which the wait has reached its longest.
const STEP_MAX: u8 = 9;
/// 40 bits of milliseconds: 34 years of running.
const UNTIL_MAX_MS: u64 = (1 << 40) - 1;

impl Default for HealthState {
    fn default() -> Self {
        Self {
            kind: Kind::Unknown,
            until: Instant::START,
            step: 0,
            soft: 0,
            silent: 0,
            trial: false,
            reason: Reason::None,
        }
    }
}

/// The wait before trial number `step` (0 is the first), without jitter.
pub fn backoff(step: u8) -> Duration {
    let doubled = BACKOFF_FIRST_MS << step.min(STEP_MAX);
    Duration::from_millis(doubled.min(BACKOFF_LONGEST_MS))
}

impl HealthState {
    /// What the origin is taken for.
    pub fn health(self) -> Health {
        match self.kind {
            Kind::Unknown => Health::Unknown,
            Kind::Up => Health::Up,
            Kind::Failing => Health::Failing,
            Kind::Down => Health::Down { until: self.until, step: self.step.saturating_sub(1) },
        }
    }

    /// Why it is not up.
    pub fn reason(self) -> Reason {
        self.reason
    }

    /// The state after `outcome`. `jitter_permille` (500 to 1500) stretches a wait that begins.
    #[must_use]
    pub fn after(self, outcome: Outcome, now: Instant, jitter_permille: u16) -> Self {
        match outcome {
            Outcome::ConnectFailed => self.down(Reason::Connect, now, jitter_permille),
            Outcome::AnswerTimeout => self.down(Reason::Timeout, now, jitter_permille),
            Outcome::ServerError(501 | 505 | 551) | Outcome::Answered { .. } => self.answered(now),
            Outcome::ServerError(code) => self.soft(Reason::Status(code), now, jitter_permille),
            Outcome::BadReply => self.soft(Reason::BadReply, now, jitter_permille),
            Outcome::MediaSilent => self.silent(now, jitter_permille),
            Outcome::MediaFlowing => self.flowing(),
        }
    }

    /// The state with a trial begun, if it is time for one and none is under way. A trial whose
    /// end nobody reports is over after 30 s.
    #[must_use]
    pub fn begin_trial(self, now: Instant) -> Option<Self> {
        (self.kind == Kind::Down && now >= self.until).then(|| Self {
            trial: true,
            until: now + Duration::from_millis(TRIAL_LONGEST_MS),
            ..self
        })
    }

    fn down(self, reason: Reason, now: Instant, jitter_permille: u16) -> Self {
        // Ten sessions notice one death: only the first, and then only trials, lengthen the wait.
        if self.kind == Kind::Down && !self.trial && now < self.until {
            return self;
        }
        let wait = backoff(self.step) * u32::from(jitter_permille.clamp(500, 1500)) / 1000;
        Self {
            kind: Kind::Down,
            until: now + wait,
            step: (self.step + 1).min(STEP_MAX + 1),
            trial: false,
            soft: 0,
            reason,
            ..self
        }
    }

    fn soft(self, reason: Reason, now: Instant, jitter_permille: u16) -> Self {
        let soft = self.soft.saturating_add(1);
        if self.kind == Kind::Down || soft >= SOFT_FAILURES_TO_DOWN {
            return self.down(reason, now, jitter_permille);
        }
        Self { kind: Kind::Failing, soft, reason, ..self }
    }

    fn silent(self, now: Instant, jitter_permille: u16) -> Self {
        let silent = self.silent.saturating_add(1).min(SOFT_FAILURES_TO_DOWN);
        let next = Self { silent, reason: Reason::Silent, ..self };
        if self.kind == Kind::Down {
            return self.down(Reason::Silent, now, jitter_permille);
        }
        if silent >= SOFT_FAILURES_TO_DOWN {
            // One more silent session after the wait is enough for the next one.
            let next = Self { silent: SOFT_FAILURES_TO_DOWN - 1, ..next };
            return next.down(Reason::Silent, now, jitter_permille);
        }
        Self { kind: Kind::Failing, ..next }
    }

    fn answered(self, now: Instant) -> Self {
        let waits = self.kind == Kind::Down && !self.trial && now < self.until;
        if waits && matches!(self.reason, Reason::Connect | Reason::Silent) {
            return self;
        }
        if self.silent > 0 {
            // It answers; whether media comes is still open, and so is the length of the wait.
            return Self {
                kind: Kind::Failing,
                soft: 0,
                trial: false,
                reason: Reason::Silent,
                ..self
            };
        }
        Self { kind: Kind::Up, ..Self::default() }
    }

    fn flowing(self) -> Self {
        let proves_nothing = self.kind == Kind::Down && self.reason != Reason::Silent;
        if proves_nothing || self.soft > 0 {
            return Self { silent: 0, ..self };
        }
        Self { kind: Kind::Up, ..Self::default() }
    }

    /// ```text
    /// bit 0  kind 2 | soft 2 | silent 2 | trial 1 | step 4 | reason 3 | status-500 7 | until 40
    /// ```
    pub fn pack(self) -> u64 {
        let (reason, status) = match self.reason {
            Reason::None => (0, 0),
            Reason::Connect => (1, 0),
            Reason::Timeout => (2, 0),
            Reason::BadReply => (3, 0),
            Reason::Status(code) => (4, u64::from(code.saturating_sub(500).min(127))),
            Reason::Silent => (5, 0),
        };
        let kind = match self.kind {
            Kind::Unknown => 0,
            Kind::Up => 1,
            Kind::Failing => 2,
            Kind::Down => 3,
        };
        kind | u64::from(self.soft & 3) << 2
            | u64::from(self.silent & 3) << 4
            | u64::from(self.trial) << 6
            | u64::from(self.step & 15) << 7
            | reason << 11
            | status << 14
            | self.until.as_millis().min(UNTIL_MAX_MS) << 21
    }

    /// What [`HealthState::pack`] packed. Zero is a new origin.
    pub fn unpack(word: u64) -> Self {
        let bits = |from: u32, count: u32| (word >> from) & ((1 << count) - 1);
        let small = |from, count| u8::try_from(bits(from, count)).unwrap_or(0);
        Self {
            kind: match bits(0, 2) {
                0 => Kind::Unknown,
                1 => Kind::Up,
                2 => Kind::Failing,
                _ => Kind::Down,
            },
            soft: small(2, 2),
            silent: small(4, 2),
            trial: bits(6, 1) == 1,
            step: small(7, 4),
            reason: match bits(11, 3) {
                1 => Reason::Connect,
                2 => Reason::Timeout,
                3 => Reason::BadReply,
                4 => Reason::Status(500 + u16::from(small(14, 7))),
                5 => Reason::Silent,
                _ => Reason::None,
            },
            until: Instant::from_millis(bits(21, 40)),
        }
    }
}

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
pub struct AtomicHealth {
    state: AtomicU64,
    window: AtomicU64,
    rtt_us: AtomicU32,
    jitter: AtomicU64,
}

impl AtomicHealth {
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
        let draw = super::mix(self.jitter.fetch_add(1, Ordering::Relaxed));
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
