//! A slot: the generation that serves it, what it falls back to, and its faults.
//!
//! A swap is one change of the slot's number. Workers see it at their next call; the instances that
//! rest are dropped at once, so the old generation goes as soon as its last call returns.
//!
//! Not in here: flash and files; making generations.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    calls::Held,
    guest::{Exports, Fault, Info, Instance, Prepared},
    values::Interest,
};
use crate::{
    clock::{self, Instant},
    limits::{BENCH_MS, FAULT_WINDOW_MS, FAULTS_MAX, TRIAL_FAULTS, TRIAL_MS},
};

/// SHA-256 of a component.
pub(super) type Hash = [u8; 32];

/// One component with one configuration, ready for instances.
pub(super) struct Generation {
    /// Unique for as long as the gateway runs; never 0.
    pub(super) number: u64,
    pub(super) hash: Hash,
    pub(super) serial: u64,
    pub(super) info: Info,
    pub(super) exports: Exports,
    pub(super) interest: Arc<Interest>,
    pub(super) config: String,
    pub(super) handover: Option<(String, Vec<u8>)>,
    pub(super) prepared: Prepared,
}

/// Where a worker's instance rests between calls.
#[derive(Default)]
pub(super) struct Cell(Mutex<Option<Seated>>);

/// An instance and what it is one of.
pub(super) struct Seated {
    pub(super) instance: Instance,
    pub(super) generation: Arc<Generation>,
    pub(super) calls: u64,
}

impl Cell {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Seated>> {
        // After a panic within a call the instance may be half-way through it.
        self.0.lock().unwrap_or_else(|poisoned| {
            self.0.clear_poison();
            let mut guard = poisoned.into_inner();
            *guard = None;
            guard
        })
    }
}

/// What happened to a slot by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// One fault of several that are borne.
    Counted,
    /// The plugin from before is back; the hash is that of the bad one.
    RolledBack(Hash),
    /// The plugin is not asked for a while, and should be rolled back from its file.
    Benched,
}

/// A slot.
pub(super) struct Slot {
    pub(super) held: Arc<Held>,
    number: AtomicU64,
    /// Milliseconds since the start; 0: in service.
    benched_until: AtomicU64,
    /// The control thread should look at it.
    pub(super) attention: AtomicBool,
    /// The host knows it no more: its name, if it comes back, is another slot.
    retired: AtomicBool,
    pub(super) faults: AtomicU64,
    pub(super) calls: AtomicU64,
    inside: Mutex<Inside>,
    cells: Mutex<Vec<Arc<Cell>>>,
}

#[derive(Default)]
struct Inside {
    current: Option<Arc<Generation>>,
    /// While the current one is on trial.
    fallback: Option<Arc<Generation>>,
    trial_until: Option<Instant>,
    faults: VecDeque<Instant>,
    last_fault: Option<String>,
}

impl Slot {
    pub(super) fn new(held: Held) -> Self {
        Self {
            held: Arc::new(held),
            number: AtomicU64::new(0),
            benched_until: AtomicU64::new(0),
            attention: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            faults: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            inside: Mutex::default(),
            cells: Mutex::default(),
        }
    }

    /// Number of the generation that serves; 0: none.
    pub(super) fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The generation that serves.
    pub(super) fn current(&self) -> Option<Arc<Generation>> {
        self.inside().current.clone()
    }

    /// The text of the last fault of the generation that serves.
    pub(super) fn last_fault(&self) -> Option<String> {
        self.inside().last_fault.clone()
    }

    /// Whether the generation that serves is new.
    pub(super) fn on_trial(&self, now: Instant) -> bool {
        self.inside().trial_until.is_some_and(|until| now < until)
    }

    pub(super) fn is_benched(&self) -> bool {
        let until = self.benched_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        if clock::now().as_millis() < until {
            return true;
        }
        self.benched_until.store(0, Ordering::Relaxed);
        false
    }

    /// A place for the instance of one more worker, and its number, from 1.
    pub(super) fn seat(&self) -> (Arc<Cell>, u32) {
        let cell = Arc::new(Cell::default());
        let mut cells = lock(&self.cells);
        // Those of workers that have ended.
        cells.retain(|cell| Arc::strong_count(cell) > 1);
        cells.push(cell.clone());
        (cell, u32::try_from(cells.len()).unwrap_or(u32::MAX))
    }

    /// Another generation serves from now on; with `trial` the old one is kept for as long as the
    /// new one is on trial.
    pub(super) fn swap(&self, generation: Option<Arc<Generation>>, trial: bool) {
        let number = generation.as_ref().map_or(0, |generation| generation.number);
        let mut inside = self.inside();
        let old = core::mem::replace(&mut inside.current, generation);
        inside.fallback = old.filter(|_| trial);
        inside.trial_until =
            trial.then(|| clock::now() + core::time::Duration::from_millis(TRIAL_MS));
        inside.faults.clear();
        inside.last_fault = None;
        self.benched_until.store(0, Ordering::Relaxed);
        self.number.store(number, Ordering::Release);
        drop(inside);
        self.clear_cells(number);
    }

    /// Empties it for good.
    pub(super) fn retire(&self) {
        self.swap(None, false);
        self.retired.store(true, Ordering::Release);
    }

    /// Whether its name, if anybody asks for it, is another slot.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Ends a trial that was passed; the fallback's memory goes.
    pub(super) fn end_trial(&self, now: Instant) {
        let mut inside = self.inside();
        if inside.trial_until.is_some_and(|until| until <= now) {
            inside.trial_until = None;
            inside.fallback = None;
        }
    }

    /// Drops resting instances of other generations.
    fn clear_cells(&self, number: u64) {
        let cells = lock(&self.cells).clone();
        for cell in cells {
            let mut seated = cell.lock();
            if seated.as_ref().is_some_and(|seated| seated.generation.number != number) {
                *seated = None;
            }
        }
    }

    /// Takes the resting instance that has worked most, to ask it for its state; its worker makes
    /// another one when it needs it.
    pub(super) fn borrow_oldest(&self) -> Option<Seated> {
        let cells = lock(&self.cells).clone();
        let calls = |cell: &Arc<Cell>| cell.lock().as_ref().map_or(0, |seated| seated.calls + 1);
        let best = cells.iter().max_by_key(|cell| calls(cell))?;
        best.lock().take()
    }

    /// A guest of that generation has failed: its instance is dropped already.
    pub(super) fn fault(&self, number: u64, fault: &Fault) -> Turn {
        self.faults.fetch_add(1, Ordering::Relaxed);
        let now = clock::now();
        let mut inside = self.inside();
        if inside.current.as_ref().is_none_or(|current| current.number != number) {
            return Turn::Counted;
        }
        inside.last_fault = Some(fault.to_string());
        inside.faults.push_back(now);
        let window = core::time::Duration::from_millis(FAULT_WINDOW_MS);
        while inside.faults.front().is_some_and(|first| now.since(*first) > window) {
            inside.faults.pop_front();
        }
        let on_trial = inside.trial_until.is_some_and(|until| now < until);
        let most = if on_trial { TRIAL_FAULTS } else { FAULTS_MAX };
        if inside.faults.len() < most as usize {
            return Turn::Counted;
        }
        inside.faults.clear();
        let bad = inside.current.as_ref().map_or([0; 32], |current| current.hash);
        if let Some(fallback) = inside.fallback.take() {
            let number = fallback.number;
            inside.current = Some(fallback);
            inside.trial_until = None;
            self.number.store(number, Ordering::Release);
            drop(inside);
            self.attention.store(true, Ordering::Release);
            return Turn::RolledBack(bad);
        }
        let until = now + core::time::Duration::from_millis(BENCH_MS);
        self.benched_until.store(until.as_millis().max(1), Ordering::Relaxed);
        self.attention.store(true, Ordering::Release);
        Turn::Benched
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        lock(&self.inside)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
