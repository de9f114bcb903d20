//! Is an origin well? A state machine over what is known for certain of it.
//!
//! ```text
//!                  well                doubt               failed
//! Unknown ───────────────▶ Up ◀───────▶ Failing ──────────────▶ Down{until, step} ◀─┐
//!                          ▲  doubt/well                           │ until passed   │ failure:
//!                          └─────────────────── well ◀──────── trial (one at a time) ┘ longer wait
//! ```
//!
//! An origin's health is about the origin. A refused or timed out TCP connection, and a question of
//! the gateway's own that is not answered, are failures. All else that a session meets (a request
//! without an answer, a connection closed, media that stay away, a 5xx, nonsense) speaks of that
//! request, path or player, and is a doubt: it makes the gateway ask for itself, and only that
//! decides. Success of any kind ends a wait and every doubt, media above all.
//!
//! What counts as what is weighed in [`Vitals`](super::vitals::Vitals), which knows when the origin
//! last gave a sign of life and how many clients have doubts. The wait is that of RFC 7826 section
//! 10.7: 5 s, doubling up to 30 min, times a random 0.5 to 1.5.
//!
//! Not in here: a clock, a lock, a random source. [`HealthState`] is a value, its transitions are
//! pure.

use core::time::Duration;

use crate::{
    clock::Instant,
    limits::{BACKOFF_FIRST_MS, BACKOFF_LONGEST_MS, BAD_ANSWERS_TO_DOWN, TRIAL_LONGEST_MS},
};

/// What was met at an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No TCP connection: refused, unreachable, timed out.
    ConnectFailed,
    /// A question of our own was not answered in time, or hung up on.
    Unanswered,
    /// A question of our own was answered by no RTSP.
    BadReply,
    /// A question of our own was answered by a 5xx other than 501, 505 and 551.
    ServerError(u16),
    /// An answer, 401 and 404 included, after so many microseconds.
    Answered {
        /// From the last byte of the request to the whole head of the answer, microseconds.
        rtt_us: u32,
    },
    /// Media came.
    MediaFlowing,
    /// A session met something that may be the origin's fault.
    Suspected {
        /// What it met.
        why: Reason,
        /// Tells clients apart: a hash of the address, of an IPv6 one of its /64.
        client: u64,
    },
}

/// What an origin is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nothing was met yet: it is used.
    Unknown,
    /// Well.
    Up,
    /// Somebody has doubts: it is used.
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
    /// It closed a connection over a request or a session.
    Closed,
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
            Self::Closed => f.write_str("it closes connections"),
        }
    }
}

/// What an outcome comes to when all that is known is weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is well.
    Well,
    /// It may not be.
    Doubt(Reason),
    /// A question of our own had an answer of no use; some in a row are a failure.
    Useless(Reason),
    /// It is not.
    Failed(Reason),
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
    /// Useless answers in a row.
    useless: u8,
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
            useless: 0,
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

    /// The state after `finding`. `jitter_permille` (500 to 1500) stretches a wait that begins.
    #[must_use]
    pub fn after(self, finding: Finding, now: Instant, jitter_permille: u16) -> Self {
        match finding {
            Finding::Well => Self { kind: Kind::Up, ..Self::default() },
            Finding::Failed(reason) => self.down(reason, now, jitter_permille),
            // What ends a trial ends it, certain or not.
            Finding::Doubt(reason) | Finding::Useless(reason) if self.kind == Kind::Down => {
                if self.trial { self.down(reason, now, jitter_permille) } else { self }
            }
            Finding::Doubt(reason) => Self { kind: Kind::Failing, reason, ..self },
            Finding::Useless(reason) => {
                let useless = self.useless.saturating_add(1);
                if useless >= BAD_ANSWERS_TO_DOWN {
                    return self.down(reason, now, jitter_permille);
                }
                Self { kind: Kind::Failing, useless, reason, ..self }
            }
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
            useless: 0,
            reason,
        }
    }

    /// ```text
    /// bit 0  kind 2 | useless 2 | trial 1 | step 4 | reason 3 | status-500 7 | until 40
    /// ```
    pub fn pack(self) -> u64 {
        let (reason, status) = match self.reason {
            Reason::None => (0, 0),
            Reason::Connect => (1, 0),
            Reason::Timeout => (2, 0),
            Reason::BadReply => (3, 0),
            Reason::Status(code) => (4, u64::from(code.saturating_sub(500).min(127))),
            Reason::Silent => (5, 0),
            Reason::Closed => (6, 0),
        };
        let kind = match self.kind {
            Kind::Unknown => 0,
            Kind::Up => 1,
            Kind::Failing => 2,
            Kind::Down => 3,
        };
        kind | u64::from(self.useless & 3) << 2
            | u64::from(self.trial) << 4
            | u64::from(self.step & 15) << 5
            | reason << 9
            | status << 12
            | self.until.as_millis().min(UNTIL_MAX_MS) << 19
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
            useless: small(2, 2),
            trial: bits(4, 1) == 1,
            step: small(5, 4),
            reason: match bits(9, 3) {
                1 => Reason::Connect,
                2 => Reason::Timeout,
                3 => Reason::BadReply,
                4 => Reason::Status(500 + u16::from(small(12, 7))),
                5 => Reason::Silent,
                6 => Reason::Closed,
                _ => Reason::None,
            },
            until: Instant::from_millis(bits(19, 40)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MID: u16 = 1000;
    const DOUBT: Finding = Finding::Doubt(Reason::Silent);
    const USELESS: Finding = Finding::Useless(Reason::Status(503));
    const FAILED: Finding = Finding::Failed(Reason::Connect);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn after(findings: &[Finding]) -> HealthState {
        findings
            .iter()
            .fold(HealthState::default(), |state, finding| state.after(*finding, at(1000), MID))
    }

    fn is_down(state: HealthState) -> bool {
        matches!(state.health(), Health::Down { .. })
    }

    /// Fails, waits, tries, fails: the waits in milliseconds.
    fn waits(failure: Finding, count: usize, jitter: u16) -> Vec<u64> {
        let mut state = after(&[]);
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
        assert_eq!(waits(FAILED, 12, MID), wanted.map(|seconds| seconds * 1000));
    }

    #[test]
    fn jitter_stretches_a_wait_by_half_to_one_and_a_half() {
        assert_eq!(waits(FAILED, 2, 500), [2500, 5000]);
        assert_eq!(waits(FAILED, 2, 1500), [7500, 15_000]);
        assert_eq!(waits(FAILED, 1, 0), [2500]);
        assert_eq!(waits(FAILED, 1, u16::MAX), [7500]);
    }

    #[test]
    fn one_failure_takes_an_origin_down_and_no_number_of_doubts_does() {
        assert!(is_down(after(&[Finding::Well, FAILED])));
        assert_eq!(after(&[DOUBT; 100]).health(), Health::Failing);
        assert_eq!(after(&[DOUBT]).reason(), Reason::Silent);
        assert_eq!(after(&[DOUBT, Finding::Well]).health(), Health::Up);
    }

    #[test]
    fn three_useless_answers_in_a_row_are_a_failure() {
        assert_eq!(after(&[USELESS; 2]).health(), Health::Failing);
        assert!(is_down(after(&[USELESS; 3])));
        let broken = [USELESS, USELESS, Finding::Well, USELESS, USELESS];
        assert_eq!(after(&broken).health(), Health::Failing);
    }

    #[test]
    fn success_of_any_kind_ends_a_wait_and_resets_the_next_one() {
        let failed_again = after(&[FAILED]).begin_trial(at(6000)).unwrap();
        let failed_again = failed_again.after(FAILED, at(6000), MID);
        assert_eq!(failed_again.health(), Health::Down { until: at(16_000), step: 1 });
        let well = failed_again.after(Finding::Well, at(7000), MID);
        assert_eq!(well, HealthState { kind: Kind::Up, ..HealthState::default() });
        let down = well.after(FAILED, at(20_000), MID);
        assert_eq!(down.health(), Health::Down { until: at(25_000), step: 0 });
    }

    #[test]
    fn many_sessions_that_notice_one_death_lengthen_nothing() {
        let once = after(&[FAILED]);
        assert_eq!(after(&[FAILED; 20]), once);
        assert_eq!(after(&[FAILED, DOUBT, USELESS]), once);
    }

    #[test]
    fn a_doubt_ends_a_trial() {
        let trial = after(&[FAILED]).begin_trial(at(6000)).unwrap();
        assert_eq!(
            trial.after(DOUBT, at(6000), MID).health(),
            Health::Down { until: at(16_000), step: 1 }
        );
    }

    #[test]
    fn a_trial_nobody_reports_on_is_over_after_30_seconds() {
        let trial = after(&[FAILED]).begin_trial(at(6000)).unwrap();
        assert_eq!(trial.begin_trial(at(6000 + TRIAL_LONGEST_MS - 1)), None);
        assert!(trial.begin_trial(at(6000 + TRIAL_LONGEST_MS)).is_some());
    }

    #[test]
    fn every_state_survives_packing() {
        let findings = [
            FAILED,
            DOUBT,
            USELESS,
            Finding::Well,
            Finding::Doubt(Reason::Closed),
            Finding::Useless(Reason::BadReply),
            Finding::Failed(Reason::Status(599)),
            Finding::Failed(Reason::Timeout),
        ];
        assert_eq!(HealthState::unpack(0), HealthState::default());
        let mut state = HealthState::default();
        let mut now = 0;
        for round in 0..200_000_u64 {
            let draw = super::super::mix(round);
            now += draw % 20_000;
            state = state.begin_trial(at(now)).filter(|_| draw.is_multiple_of(3)).unwrap_or(state);
            let finding = findings[usize::try_from(draw % 8).unwrap()];
            state = state.after(finding, at(now), u16::try_from(draw % 2000).unwrap());
            assert_eq!(HealthState::unpack(state.pack()), state, "after {finding:?}");
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
            Reason::Closed,
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
                "it closes connections",
                ""
            ]
        );
    }
}
