//! What sessions share of plugins: the hooks of each worker, and which origin a client had.
//!
//! Hooks are made when a worker asks for the first time, so that a gateway without plugins pays
//! nothing for them. Not in here: what is asked (`connection/hooks.rs`).

use core::{
    cell::RefCell,
    fmt,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::shared::lock;
use crate::{
    clock,
    control::model::HookStatus,
    limits::{PLUGIN_SLOTS_MAX, STICKY_MAX},
    origin::mix,
    plugin::hooks::{Hooks, MakeHooks},
};

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// What a worker has of plugins.
struct Here {
    hooks: Box<dyn Hooks>,
    meters: Vec<(Box<str>, Arc<SlotMeters>)>,
}

/// Slots with meters of their own.
const METERS_MAX: usize = 8 * PLUGIN_SLOTS_MAX;

/// The hooks, as status and metrics name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    PickUpstream,
    PickWorker,
    Authenticate,
    OnMessage,
}

const HOOKS: [(Hook, &str); 4] = [
    (Hook::PickUpstream, "pick-upstream"),
    (Hook::PickWorker, "pick-worker"),
    (Hook::Authenticate, "authenticate"),
    (Hook::OnMessage, "on-message"),
];

/// What hooks took, by slot, since the start.
#[derive(Debug, Default)]
pub(super) struct HookMeters(Mutex<Vec<(Box<str>, Arc<SlotMeters>)>>);

#[derive(Debug, Default)]
struct SlotMeters([Meter; HOOKS.len()]);

#[derive(Debug, Default)]
struct Meter {
    calls: AtomicU64,
    total_ns: AtomicU64,
    longest_ns: AtomicU64,
}

impl HookMeters {
    /// The meters of a slot; as many as there may be slots in a configuration several times over,
    /// then one for all others.
    fn slot(&self, name: &str) -> Arc<SlotMeters> {
        let mut all = lock(&self.0);
        let name = if all.len() < METERS_MAX { name } else { "others" };
        if let Some((_, found)) = all.iter().find(|(slot, _)| **slot == *name) {
            return Arc::clone(found);
        }
        let fresh = Arc::<SlotMeters>::default();
        all.push((name.into(), Arc::clone(&fresh)));
        fresh
    }

    /// The hooks of a slot that were ever called.
    pub(super) fn of(&self, name: &str) -> Vec<HookStatus> {
        let found =
            lock(&self.0).iter().find(|(slot, _)| **slot == *name).map(|(_, m)| Arc::clone(m));
        let Some(meters) = found else { return Vec::new() };
        let meters = HOOKS.iter().zip(&meters.0);
        meters
            .map(|((_, hook), meter)| HookStatus {
                hook: (*hook).to_owned(),
                calls: meter.calls.load(Relaxed),
                total_us: meter.total_ns.load(Relaxed) / 1000,
                longest_us: meter.longest_ns.load(Relaxed).div_ceil(1000),
            })
            .filter(|status| status.calls > 0)
            .collect()
    }
}

impl Meter {
    fn took(&self, ns: u64) {
        self.calls.fetch_add(1, Relaxed);
        self.total_ns.fetch_add(ns, Relaxed);
        self.longest_ns.fetch_max(ns, Relaxed);
    }
}

/// Plugins as sessions see them.
pub(super) struct Plugins {
    make: Option<Box<MakeHooks>>,
    meters: HookMeters,
    sticky: Mutex<Sticky>,
    /// Key of this run: what a plugin sees of an address means nothing elsewhere.
    key: u64,
}

impl fmt::Debug for Plugins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugins").field("present", &self.make.is_some()).finish_non_exhaustive()
    }
}

impl Plugins {
    pub(super) fn new(make: Option<Box<MakeHooks>>, key: u64) -> Self {
        Self { make, meters: HookMeters::default(), sticky: Mutex::default(), key }
    }

    /// Asks the hooks of this thread's worker; none when there are none.
    pub(super) fn ask<T>(
        &self,
        worker: u16,
        slot: &str,
        hook: Hook,
        question: impl FnOnce(&mut dyn Hooks) -> T,
    ) -> Option<T> {
        let make = self.make.as_ref()?;
        HERE.with_borrow_mut(|here| {
            let here = here.get_or_insert_with(|| Here { hooks: make(worker), meters: Vec::new() });
            let known = here.meters.iter().position(|(name, _)| **name == *slot);
            let at = known.unwrap_or_else(|| {
                if here.meters.len() >= METERS_MAX {
                    here.meters.clear(); // most are of configurations long gone
                }
                here.meters.push((slot.into(), self.meters.slot(slot)));
                here.meters.len() - 1
            });
            let before = clock::precise_ns();
            let answer = question(&mut *here.hooks);
            let ns = clock::precise_ns().saturating_sub(before);
            if let Some(meter) = here.meters.get(at).and_then(|(_, all)| all.0.get(hook as usize)) {
                meter.took(ns);
            }
            Some(answer)
        })
    }

    /// What hooks took.
    pub(super) fn meters(&self) -> &HookMeters {
        &self.meters
    }

    /// A number with the key of this run.
    pub(super) fn keyed(&self, value: u64) -> u64 {
        mix(mix(value ^ self.key))
    }

    /// The origin that is remembered under this key, by the hash of its name.
    pub(super) fn sticky(&self, key: u64) -> Option<u64> {
        lock(&self.sticky).find(key)
    }

    /// Remembers an origin.
    pub(super) fn stick(&self, key: u64, origin: u64) {
        lock(&self.sticky).put(key, origin, STICKY_MAX);
    }
}

/// A bounded memory that forgets the oldest half at once: what was not used while the younger half
/// filled up.
#[derive(Debug, Default)]
struct Sticky {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Sticky {
    fn find(&self, key: u64) -> Option<u64> {
        self.young.get(&key).or_else(|| self.old.get(&key)).copied()
    }

    fn put(&mut self, key: u64, origin: u64, most: usize) {
        if self.young.len() >= most / 2 && !self.young.contains_key(&key) {
            self.old = core::mem::take(&mut self.young);
        }
        self.young.insert(key, origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_is_remembered_as_was_promised_and_no_more() {
        let mut sticky = Sticky::default();
        for key in 0..10_000 {
            sticky.put(key, key + 1, 100);
            assert!(sticky.young.len() + sticky.old.len() <= 100);
            for back in 0..50.min(key) {
                assert_eq!(sticky.find(key - back), Some(key - back + 1));
            }
        }
        assert_eq!(sticky.find(0), None);
    }

    #[test]
    fn without_plugins_nobody_is_asked() {
        let plugins = Plugins::new(None, 1);
        assert_eq!(plugins.ask(0, "a", Hook::OnMessage, |_| ()), None);
        assert!(plugins.meters().of("a").is_empty());
    }
}
