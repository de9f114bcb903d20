//! What sessions share of plugins: the hooks of each worker, and which origin a client had.
//!
//! Hooks are made when a worker asks for the first time, so that a gateway without plugins pays
//! nothing for them. Not in here: what is asked (`connection/hooks.rs`).

use core::{cell::RefCell, fmt};
use std::{collections::HashMap, sync::Mutex};

use super::shared::lock;
use crate::{
    limits::STICKY_MAX,
    origin::mix,
    plugin::hooks::{Hooks, MakeHooks},
};

thread_local! {
    static HOOKS: RefCell<Option<Box<dyn Hooks>>> = const { RefCell::new(None) };
}

/// Plugins as sessions see them.
pub(super) struct Plugins {
    make: Option<Box<MakeHooks>>,
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
        Self { make, sticky: Mutex::default(), key }
    }

    /// Asks the hooks of this thread's worker; none when there are none.
    pub(super) fn ask<T>(
        &self,
        worker: u16,
        question: impl FnOnce(&mut dyn Hooks) -> T,
    ) -> Option<T> {
        let make = self.make.as_ref()?;
        HOOKS.with_borrow_mut(|hooks| {
            Some(question(&mut **hooks.get_or_insert_with(|| make(worker))))
        })
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
        assert_eq!(Plugins::new(None, 1).ask(0, |_| ()), None);
    }
}
