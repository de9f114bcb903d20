//! The bound on open descriptors, and what players get of them.
#![allow(unsafe_code)] // getrlimit and setrlimit have no safe form in the crates we use

use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::limits::DESCRIPTORS_KEPT;

/// Raises the bounds on open descriptors to `wanted`: the hard one where we may, as root does, the
/// soft one as far as the hard one lets it. Says how many may be open now.
pub(super) fn raise_limit(wanted: u64) -> u64 {
    let Some(mut limit) = limit() else { return 0 };
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(limit.rlim_max);
    if limit.rlim_max < wanted {
        let raised = libc::rlimit { rlim_cur: wanted, rlim_max: wanted };
        if set(raised) {
            limit = raised;
        }
    }
    let wanted = wanted.min(limit.rlim_max);
    if limit.rlim_cur < wanted && set(libc::rlimit { rlim_cur: wanted, ..limit }) {
        limit.rlim_cur = wanted;
    }
    #[allow(clippy::useless_conversion)] // rlim_t has 32 bits on armv7
    u64::from(limit.rlim_cur)
}

fn limit() -> Option<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    (unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0).then_some(limit)
}

fn set(limit: libc::rlimit) -> bool {
    // SAFETY: the pointer is to a live rlimit that the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0 }
}

/// How many descriptors the process may have, and how many it has without players.
#[derive(Debug)]
pub(super) struct Descriptors {
    limit: AtomicUsize,
    own: AtomicUsize,
    origins: AtomicUsize,
}

impl Default for Descriptors {
    fn default() -> Self {
        let descriptors = Self {
            limit: AtomicUsize::new(usize::MAX),
            own: AtomicUsize::new(0),
            origins: AtomicUsize::new(0),
        };
        descriptors.follow_limit();
        descriptors
    }
}

impl Descriptors {
    /// Looks at the limit again: it may be changed from outside.
    pub(super) fn follow_limit(&self) {
        let limit = limit().and_then(|limit| usize::try_from(limit.rlim_cur).ok());
        self.limit.store(limit.unwrap_or(usize::MAX), Relaxed);
    }

    /// Counts what is open now beside the sockets of players.
    pub(super) fn count_own(&self, players: usize) {
        let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.own.store(open.saturating_sub(self.used(players)), Relaxed);
    }

    /// What players may have together.
    pub(super) fn for_players(&self) -> usize {
        for_players(self.limit.load(Relaxed), self.own.load(Relaxed))
    }

    /// What they have, with so many sockets of their own and those toward origins.
    pub(super) fn used(&self, sockets: usize) -> usize {
        sockets + self.origins.load(Relaxed)
    }

    /// A connection to an origin is opened for a player.
    pub(super) fn origin_opened(&self) {
        self.origins.fetch_add(1, Relaxed);
    }

    /// And closed.
    pub(super) fn origin_closed(&self) {
        self.origins.fetch_sub(1, Relaxed);
    }
}

/// Some are kept for control, fewer where there are hardly any.
fn for_players(limit: usize, own: usize) -> usize {
    limit.saturating_sub(own + DESCRIPTORS_KEPT.min(limit / 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_two_descriptors_are_kept_for_control() {
        assert_eq!(for_players(1024, 20), 1024 - 20 - DESCRIPTORS_KEPT);
        assert_eq!(for_players(40, 20), 15);
        assert_eq!(for_players(16, 20), 0);
        assert_eq!(for_players(usize::MAX, 20), usize::MAX - 52);
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let most = raise_limit(0);
        assert!(most > 0 && raise_limit(most) == most);
    }
}
