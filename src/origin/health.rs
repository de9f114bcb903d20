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
//! pure. [`Vitals`](super::vitals::Vitals) keeps it in one atomic word that workers share.

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

#[cfg(test)]
mod tests {
    use super::*;

    const MID: u16 = 1000;
    const ANSWERED: Outcome = Outcome::Answered { rtt_us: 1000 };

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn after(outcomes: &[Outcome]) -> HealthState {
        outcomes
            .iter()
            .fold(HealthState::default(), |state, outcome| state.after(*outcome, at(1000), MID))
    }

    /// Fails, waits, tries, fails: the waits in milliseconds.
    fn waits(failure: Outcome, count: usize, jitter: u16) -> Vec<u64> {
        let mut state = HealthState::default();
        let mut now = at(0);
        (0..count)
            .map(|_| {
                state = state.after(failure, now, jitter);
                let Health::Down { until, .. } = state.health() else { panic!("{state:?}") };
                let wait = until.as_millis() - now.as_millis();
                assert_eq!(state.begin_trial(at(until.as_millis() - 1)), None);
                now = until;
                state = state.begin_trial(now).unwrap();
                wait
            })
            .collect()
    }

    #[test]
    fn waits_double_from_5_seconds_to_30_minutes() {
        let wanted = [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800, 1800];
        for failure in [Outcome::ConnectFailed, Outcome::AnswerTimeout] {
            assert_eq!(waits(failure, 12, MID), wanted.map(|seconds| seconds * 1000));
        }
    }

    #[test]
    fn jitter_stretches_a_wait_by_half_to_one_and_a_half() {
        assert_eq!(waits(Outcome::ConnectFailed, 2, 500), [2500, 5000]);
        assert_eq!(waits(Outcome::ConnectFailed, 2, 1500), [7500, 15_000]);
        assert_eq!(waits(Outcome::ConnectFailed, 1, 0), [2500]);
        assert_eq!(waits(Outcome::ConnectFailed, 1, u16::MAX), [7500]);
    }

    #[test]
    fn one_hard_failure_or_three_soft_ones_in_a_row_take_an_origin_down() {
        let down = |state: HealthState| matches!(state.health(), Health::Down { .. });
        for soft in [Outcome::BadReply, Outcome::ServerError(503), Outcome::MediaSilent] {
            assert_eq!(after(&[soft; 2]).health(), Health::Failing, "{soft:?}");
            assert!(down(after(&[soft; 3])), "{soft:?}");
        }
        assert!(down(after(&[ANSWERED, Outcome::ConnectFailed])));
        assert!(down(after(&[ANSWERED, Outcome::AnswerTimeout])));
        let broken = [Outcome::BadReply, Outcome::BadReply, ANSWERED, Outcome::BadReply];
        assert_eq!(after(&broken).health(), Health::Failing);
    }

    #[test]
    fn an_answer_about_the_request_is_no_failure() {
        for code in [501, 505, 551] {
            assert_eq!(after(&[Outcome::ServerError(code); 9]).health(), Health::Up);
        }
    }

    #[test]
    fn an_answered_trial_resets_the_wait() {
        let state = after(&[Outcome::ConnectFailed]);
        let failed_again =
            state.begin_trial(at(6000)).unwrap().after(Outcome::ConnectFailed, at(6000), MID);
        assert_eq!(failed_again.health(), Health::Down { until: at(16_000), step: 1 });
        let well = failed_again.begin_trial(at(16_000)).unwrap().after(ANSWERED, at(16_100), MID);
        assert_eq!(well, HealthState { kind: Kind::Up, ..HealthState::default() });
        let down = well.after(Outcome::ConnectFailed, at(20_000), MID);
        assert_eq!(down.health(), Health::Down { until: at(25_000), step: 0 });
    }

    #[test]
    fn many_sessions_that_notice_one_death_lengthen_nothing() {
        let once = after(&[Outcome::ConnectFailed]);
        assert_eq!(after(&[Outcome::ConnectFailed; 20]), once);
        let all = [Outcome::ConnectFailed, Outcome::BadReply, Outcome::MediaSilent];
        assert_eq!(after(&all).health(), once.health());
    }

    #[test]
    fn a_trial_nobody_reports_on_is_over_after_30_seconds() {
        let trial = after(&[Outcome::ConnectFailed]).begin_trial(at(6000)).unwrap();
        assert_eq!(trial.begin_trial(at(6000 + TRIAL_LONGEST_MS - 1)), None);
        assert!(trial.begin_trial(at(6000 + TRIAL_LONGEST_MS)).is_some());
    }

    #[test]
    fn an_old_connection_that_answers_does_not_end_a_refusal() {
        let down = after(&[Outcome::ConnectFailed]);
        assert_eq!(down.after(ANSWERED, at(2000), MID), down);
        let flowing = down.after(Outcome::MediaFlowing, at(2000), MID);
        assert_eq!(flowing.health(), down.health());
        assert_eq!(down.after(ANSWERED, at(6000), MID).health(), Health::Up);
        // Slowness is over as soon as it answers.
        let slow = after(&[Outcome::AnswerTimeout]);
        assert_eq!(slow.after(ANSWERED, at(2000), MID).health(), Health::Up);
    }

    #[test]
    fn only_media_ends_the_silence_of_an_origin_that_answers() {
        let silent = after(&[Outcome::MediaSilent, ANSWERED, Outcome::MediaSilent, ANSWERED]);
        assert_eq!((silent.health(), silent.reason()), (Health::Failing, Reason::Silent));
        let down = silent.after(Outcome::MediaSilent, at(1000), MID);
        assert_eq!(down.health(), Health::Down { until: at(6000), step: 0 });
        assert_eq!(down.after(ANSWERED, at(2000), MID), down);
        let trial = down.begin_trial(at(6000)).unwrap().after(ANSWERED, at(6001), MID);
        assert_eq!(trial.health(), Health::Failing);
        let again = trial.after(Outcome::MediaSilent, at(10_000), MID);
        assert_eq!(again.health(), Health::Down { until: at(20_000), step: 1 });
        assert_eq!(trial.after(Outcome::MediaFlowing, at(7000), MID).health(), Health::Up);
        assert_eq!(down.after(Outcome::MediaFlowing, at(2000), MID).health(), Health::Up);
    }

    #[test]
    fn every_state_survives_packing() {
        let outcomes = [
            Outcome::ConnectFailed,
            Outcome::AnswerTimeout,
            Outcome::BadReply,
            Outcome::ServerError(500),
            Outcome::ServerError(599),
            ANSWERED,
            Outcome::MediaSilent,
            Outcome::MediaFlowing,
        ];
        assert_eq!(HealthState::unpack(0), HealthState::default());
        let mut state = HealthState::default();
        let mut now = 0;
        for round in 0..200_000_u64 {
            let draw = super::super::mix(round);
            now += draw % 20_000;
            state = state.begin_trial(at(now)).filter(|_| draw.is_multiple_of(3)).unwrap_or(state);
            let outcome = outcomes[usize::try_from(draw % 8).unwrap()];
            state = state.after(outcome, at(now), u16::try_from(draw % 2000).unwrap());
            assert_eq!(HealthState::unpack(state.pack()), state, "after {outcome:?}");
            assert!(state.step <= STEP_MAX + 1);
        }
        let _ = HealthState::unpack(u64::MAX);
    }

    #[test]
    fn reasons_read_well() {
        let all = [
            Reason::Connect,
            Reason::Timeout,
            Reason::BadReply,
            Reason::Status(503),
            Reason::Silent,
            Reason::None,
        ];
        let shown: Vec<String> = all.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "no connection",
                "no answer in time",
                "its reply is no RTSP",
                "it answers 503",
                "it sends no media",
                ""
            ]
        );
    }
}
