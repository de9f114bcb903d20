//! Keeping the origin's session alive when the client's own signs of life do not reach it.
//!
//! Any request to the origin counts. When none went out for a while, the gateway sends one of its
//! own, with the method that this origin accepts: learned from Public and from refusals.

use core::time::Duration;

use crate::{clock::Instant, rtsp::Method};

/// The timeout of a session whose Session header names none (RFC 2326 12.37).
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// Methods that keep a session alive, the gentlest first.
const METHODS: [Method; 3] = [Method::GetParameter, Method::Options, Method::SetParameter];

/// When to send what.
#[derive(Debug)]
pub(super) struct Keepalive {
    timeout: Duration,
    method: usize,
    last: Instant,
}

impl Keepalive {
    /// A session that began now, at an origin that is known to take this method.
    pub(super) fn new(method: Option<Method>, now: Instant) -> Self {
        let known = METHODS.iter().position(|m| Some(*m) == method);
        Self { timeout: DEFAULT_TIMEOUT, method: known.unwrap_or(0), last: now }
    }

    /// The origin named a timeout, in seconds; 0 is taken as unnamed.
    pub(super) fn timeout(&mut self, seconds: u32) {
        if seconds > 0 {
            self.timeout = Duration::from_secs(seconds.into());
        }
    }

    /// A request went to the origin.
    pub(super) fn sent(&mut self, now: Instant) {
        self.last = now;
    }

    /// When a request last went to the origin.
    pub(super) fn last_sent(&self) -> Instant {
        self.last
    }

    /// When the next one is due: at two fifths of the timeout, so that a lost answer can be
    /// repeated before the origin gives up.
    pub(super) fn due(&self) -> Instant {
        self.last + (self.timeout * 2 / 5).max(Duration::from_secs(1))
    }

    /// What to send.
    pub(super) fn method(&self) -> Method {
        METHODS.get(self.method).copied().unwrap_or(Method::Options)
    }

    /// The origin's Public header says what it knows.
    pub(super) fn offered(&mut self, public: &[u8]) {
        let offers = |method: &Method| {
            public
                .split(|byte| *byte == b',')
                .any(|name| name.trim_ascii().eq_ignore_ascii_case(method.as_str().as_bytes()))
        };
        if let Some(at) = METHODS.iter().position(offers) {
            self.method = at;
        }
    }

    /// The origin refused the method: another one, at once. False when all were refused; then the
    /// first is tried again in its time.
    pub(super) fn refused(&mut self) -> bool {
        self.method = (self.method + 1) % METHODS.len();
        self.method != 0
    }
}

/// Whether this status says that the method, not the session, is the trouble.
pub(super) fn is_refusal(status: u16) -> bool {
    matches!(status, 400 | 405 | 451 | 455 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_due_well_before_the_timeout_and_moved_by_each_request() {
        let mut keepalive = Keepalive::new(None, Instant::START);
        assert_eq!(keepalive.due(), Instant::from_millis(24_000));
        keepalive.timeout(10);
        assert_eq!(keepalive.due(), Instant::from_millis(4_000));
        keepalive.sent(Instant::from_millis(3_000));
        assert_eq!(keepalive.due(), Instant::from_millis(7_000));
        keepalive.timeout(0);
        assert_eq!(keepalive.due(), Instant::from_millis(7_000), "0 is no timeout");
    }

    #[test]
    fn learns_the_method_from_public_and_from_refusals() {
        let mut keepalive = Keepalive::new(None, Instant::START);
        keepalive.offered(b"OPTIONS, DESCRIBE, SETUP, TEARDOWN, PLAY");
        assert_eq!(keepalive.method(), Method::Options);
        assert!(keepalive.refused());
        assert_eq!(keepalive.method(), Method::SetParameter);
        assert!(!keepalive.refused(), "all were tried");
        assert_eq!(keepalive.method(), Method::GetParameter);
    }
}
