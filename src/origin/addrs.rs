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
        let changed = self.all().as_slice() != addrs;
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
