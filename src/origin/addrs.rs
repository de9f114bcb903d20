//! Where an origin's host name leads: a few addresses, replaced by one thread, read by many.
//!
//! No lock: the addresses stand twice, a counter says which copy is valid. The writer fills the
//! other copy, then moves the counter; a reader that finds the counter moved reads again. A
//! writer that is put to sleep half way delays nobody.

use core::net::{IpAddr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::limits::ORIGIN_ADDRS_MAX;

/// Up to [`ORIGIN_ADDRS_MAX`] addresses and which of them is in use.
#[derive(Debug, Default)]
pub(super) struct Addrs {
    generation: AtomicU32,
    copies: [Copy; 2],
    writing: AtomicBool,
    turn: AtomicU32,
}

#[derive(Debug, Default)]
struct Copy {
    count: AtomicU32,
    halves: [[AtomicU64; 2]; ORIGIN_ADDRS_MAX],
}

impl Addrs {
    /// Replaces the addresses; those past the bound are left out. Says whether they differ from
    /// the old ones. When two writers meet, the later is turned away.
    pub(super) fn set(&self, addrs: &[IpAddr]) -> bool {
        let addrs = addrs.get(..ORIGIN_ADDRS_MAX).unwrap_or(addrs);
        if self.writing.swap(true, SeqCst) {
            return false;
        }
        let generation = self.generation.load(SeqCst);
        // Name servers hand the same addresses out in turns: another order is no change.
        let old = self.all();
        let changed = old.len() != addrs.len() || addrs.iter().any(|addr| !old.contains(addr));
        if changed && let Some(copy) = self.copy(generation.wrapping_add(1)) {
            for (addr, [high, low]) in addrs.iter().zip(&copy.halves) {
                let bits = to_v6(*addr).to_bits();
                high.store((bits >> 64) as u64, SeqCst);
                low.store(bits as u64, SeqCst);
            }
            copy.count.store(u32::try_from(addrs.len()).unwrap_or(0), SeqCst);
            self.generation.store(generation.wrapping_add(1), SeqCst);
        }
        self.writing.store(false, SeqCst);
        changed
    }

    /// The address in use.
    pub(super) fn current(&self) -> Option<IpAddr> {
        let all = self.all();
        let turn = self.turn.load(SeqCst) as usize;
        all.get(turn.checked_rem(all.len())?).copied()
    }

    /// The next address is in use from now on: the one before did not answer.
    pub(super) fn advance(&self) {
        self.turn.fetch_add(1, SeqCst);
    }

    /// Whether this is one of them.
    pub(super) fn has(&self, addr: IpAddr) -> bool {
        self.all().contains(&addr.to_canonical())
    }

    fn all(&self) -> heapless::Vec<IpAddr, ORIGIN_ADDRS_MAX> {
        loop {
            let generation = self.generation.load(SeqCst);
            let mut addrs = heapless::Vec::new();
            if let Some(copy) = self.copy(generation) {
                let count = copy.count.load(SeqCst) as usize;
                for [high, low] in copy.halves.iter().take(count) {
                    let bits = u128::from(high.load(SeqCst)) << 64 | u128::from(low.load(SeqCst));
                    let _ = addrs.push(Ipv6Addr::from_bits(bits).to_canonical());
                }
            }
            if self.generation.load(SeqCst) == generation {
                return addrs;
            }
        }
    }

    fn copy(&self, generation: u32) -> Option<&Copy> {
        self.copies.get(generation as usize % 2)
    }
}

fn to_v6(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_address_follows_one_that_failed_and_then_the_first_again() {
        let addrs = Addrs::default();
        assert_eq!(addrs.current(), None);
        addrs.advance();
        assert!(addrs.set(&[ip("192.0.2.1"), ip("2001:db8::1")]));
        let mut seen: Vec<_> = (0..4)
            .map(|_| {
                addrs.advance();
                addrs.current()
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen[0], seen[1]);
        assert_eq!(seen[2], Some(ip("2001:db8::1")));
    }

    #[test]
    fn four_addresses_are_kept_and_a_fifth_left_out() {
        let many: Vec<_> = (1..=5).map(|last| ip(&format!("192.0.2.{last}"))).collect();
        let addrs = Addrs::default();
        addrs.set(&many[..ORIGIN_ADDRS_MAX]);
        assert_eq!(addrs.all().as_slice(), &many[..ORIGIN_ADDRS_MAX]);
        assert!(!addrs.set(&many), "the same four");
        let turned = [many[2], many[3], many[0], many[1]];
        assert!(!addrs.set(&turned), "in another order");
        assert!(addrs.set(&[]));
        assert_eq!(addrs.current(), None);
    }

    #[test]
    fn a_reader_never_sees_half_of_a_change() {
        let addrs = Addrs::default();
        let (a, b) = ([ip("2001:db8::1"); 4], [ip("fd00:1:2:3:4:5:6:7"); 3]);
        addrs.set(&a);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 0..20_000 {
                    if round % 2 == 0 {
                        addrs.set(&b)
                    } else {
                        addrs.set(&a)
                    };
                }
            });
            while !writer.is_finished() {
                let seen = addrs.all();
                assert!(seen == a.as_slice() || seen == b.as_slice(), "{seen:?}");
            }
        });
    }
}
