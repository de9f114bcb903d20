//! Time as the core sees it: milliseconds since the program started.
//!
//! The core never asks what time it is; it is told. [`now`] is for the shell, and the only caller
//! of the system clock for deadlines.

use core::{
    ops::{Add, Sub},
    time::Duration,
};
use std::sync::OnceLock;

/// A moment, in milliseconds since the program started. Never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment the program started.
    pub const START: Self = Self(0);

    /// A moment so many milliseconds after the start.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the start.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// Now, by the system's monotonic clock.
pub fn now() -> Instant {
    Instant(u64::try_from(since_start().as_millis()).unwrap_or(u64::MAX))
}

/// Nanoseconds since the program started: for durations that people read, not for deadlines.
pub fn precise_ns() -> u64 {
    u64::try_from(since_start().as_nanos()).unwrap_or(u64::MAX)
}

#[allow(clippy::disallowed_methods)] // the one place
fn since_start() -> Duration {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}
