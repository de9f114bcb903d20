//! All slots of the gateway, and what an operator does with them.
//!
//! Everything here may block for a second (a compiler runs, files are synced) and belongs to the
//! control thread, except what workers use: [`Host::guests`] and the hooks it makes. The engine is
//! made with the first plugin, so a gateway without one has neither its memory nor its thread.
//!
//! Not in here: the steps of an install (`install`), which slots the configuration has, and flash
//! ([`Keep`] is how slots get there).

use core::sync::atomic::{AtomicU64, Ordering};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use super::{
    cache::Files,
    calls::Held,
    engine::{self, Code, Ticker},
    guest::Exports,
    keys::Keys,
    meters::Metric,
    report::{Event, Refusal, Report, SlotInfo, Upload},
    slot::Slot,
    state::{Slots, Stored},
    worker::Guests,
};
use crate::{
    auth::digest::hex,
    clock,
    config::{Name, secrets::Secrets},
    limits::{
        PLUGIN_EVENTS_MAX, PLUGIN_KIB_DEFAULT, PLUGIN_SLOTS_KNOWN_MAX, PLUGIN_SLOTS_STORED_MAX,
    },
};

/// Where slots are kept over a restart.
pub trait Keep: Send {
    /// Stores all slots: afterwards the new ones are there, or, on an error, the old ones.
    ///
    /// # Errors
    /// In one line, why not.
    fn keep(&mut self, slots: &Slots) -> Result<(), String>;
}

/// Keeps nothing: for a gateway without a store, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct Forget;

impl Keep for Forget {
    fn keep(&mut self, _: &Slots) -> Result<(), String> {
        Ok(())
    }
}

/// Where an image has its compiled plugins.
pub const IMAGE_DIR: &str = "/usr/lib/edgeweir/plugins";

/// Where things are, and what they run as.
#[derive(Clone, Debug)]
pub struct Places {
    /// Directory of components and their code.
    pub data_dir: PathBuf,
    /// Directory of code that came with the image.
    pub image_dir: PathBuf,
    /// This program: the compiling child is started from it.
    pub program: PathBuf,
    /// What guests are compiled to.
    pub code: Code,
}

impl Places {
    /// As a gateway runs: its own executable, this machine's code.
    pub fn new(data_dir: PathBuf) -> Self {
        // The file may have been replaced by an update; this names the one that runs.
        let program = PathBuf::from("/proc/self/exe");
        Self { data_dir, image_dir: PathBuf::from(IMAGE_DIR), program, code: Code::HERE }
    }
}

/// Who may install what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Largest component, KiB.
    pub max_kib: u16,
    /// Whether a component must be signed.
    pub require_signature: bool,
    /// Public keys of minisign.
    pub trusted_keys: Vec<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { max_kib: PLUGIN_KIB_DEFAULT, require_signature: false, trusted_keys: Vec::new() }
    }
}

/// All plugins of a gateway.
pub struct Host {
    pub(super) places: Places,
    pub(super) files: Files,
    pub(super) image: Files,
    pub(super) keys: Arc<Keys>,
    rules: Mutex<Rules>,
    runtime: OnceLock<Runtime>,
    known: Mutex<Vec<Arc<Slot>>>,
    /// Held during a change: one at a time.
    work: Mutex<Work>,
    numbers: AtomicU64,
    events: Mutex<VecDeque<Event>>,
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

pub(super) struct Runtime {
    pub(super) engine: wasmtime::Engine,
    pub(super) ticker: Arc<Ticker>,
}

pub(super) struct Work {
    pub(super) slots: Slots,
    keep: Box<dyn Keep>,
}

impl Work {
    /// Replaces what is stored of a slot, on flash first.
    pub(super) fn store(&mut self, stored: Stored) -> Result<(), Refusal> {
        let mut slots = self.slots.clone();
        let refused = |reason: String| {
            Refusal::new("store", reason, "look at `edgeweir flash info`, then try again")
        };
        slots.put(stored).map_err(|_| {
            Refusal::new(
                "store",
                format!("{PLUGIN_SLOTS_STORED_MAX} slots hold plugins already"),
                "empty one of no use any more: `edgeweir plugin list`, `plugin remove`",
            )
        })?;
        if slots != self.slots {
            self.keep.keep(&slots).map_err(refused)?;
            self.slots = slots;
        }
        Ok(())
    }
}

impl core::fmt::Debug for Host {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Host").field("places", &self.places).finish_non_exhaustive()
    }
}

impl Host {
    /// A host without plugins; [`Self::boot`] loads those that were kept.
    pub fn new(places: Places, keep: Box<dyn Keep>) -> Arc<Self> {
        let files = Files::new(places.data_dir.clone());
        Arc::new(Self {
            image: Files::of_image(places.image_dir.clone()),
            places,
            files,
            keys: Arc::default(),
            rules: Mutex::default(),
            runtime: OnceLock::new(),
            known: Mutex::default(),
            work: Mutex::new(Work { slots: Slots::default(), keep }),
            numbers: AtomicU64::new(1),
            events: Mutex::default(),
            waker: OnceLock::new(),
        })
    }

    /// The hooks of one worker.
    pub fn guests(self: &Arc<Self>) -> Guests {
        Guests::new(self.clone())
    }

    /// Who may install from now on.
    pub fn set_rules(&self, rules: Rules) {
        *lock(&self.rules) = rules;
    }

    /// The secrets that guests may have used, from now on.
    pub fn set_secrets(&self, secrets: Arc<Secrets>) {
        self.keys.set(secrets);
    }

    /// What to call, from any thread, when [`Self::maintain`] has something to do. Only once.
    pub fn on_attention(&self, waker: Box<dyn Fn() + Send + Sync>) {
        let _ = self.waker.set(waker);
    }

    /// Loads the plugins that were kept, with the configuration of each slot as JSON; none: the
    /// configuration has no such slot, and it stays unloaded. A slot whose active one cannot run
    /// takes the one before; what happened is among the events.
    pub fn boot(&self, stored: Slots, config: &dyn Fn(&str) -> Option<String>) {
        let mut work = self.work();
        work.slots = stored;
        for stored in work.slots.slots.clone() {
            if let Some(config) = config(&stored.slot) {
                self.boot_slot(&mut work, stored, &config);
            }
        }
        self.files.sweep(&work.slots.hashes());
    }

    /// Installs a component: checks, compiles, tries, stores, swaps.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then, and no file is left.
    pub fn install(&self, slot: &str, upload: Upload<'_>) -> Result<Report, Refusal> {
        let name = slot_name(slot)?;
        self.install_checked(&mut self.work(), name, upload)
    }

    /// Tries a component as an install would, and keeps nothing of it.
    ///
    /// # Errors
    /// [`Refusal`], as [`Self::install`] would give it.
    pub fn check(&self, upload: Upload<'_>) -> Result<Report, Refusal> {
        self.check_only(upload)
    }

    /// Brings back the plugin from before; the one that served becomes the one before.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn rollback(&self, slot: &str, config: &str) -> Result<Report, Refusal> {
        self.roll_back(&mut self.work(), slot, config, false)
    }

    /// Gives the plugin of a slot another configuration.
    ///
    /// # Errors
    /// [`Refusal`]; the plugin goes on with the configuration it has.
    pub fn configure(&self, slot: &str, config: &str) -> Result<Option<Report>, Refusal> {
        self.reconfigure(&mut self.work(), slot, config)
    }

    /// Forgets the slots that nobody needs: memory, counters and the place of the name go, files and
    /// what is stored stay, and [`Self::configure`] loads them again. `needed` is asked while no other
    /// change is under way.
    pub fn unload(&self, needed: &dyn Fn(&str) -> bool) {
        let _alone = self.work();
        // What a worker did with one is stored first.
        let idle = |slot: &mut Arc<Slot>| {
            !needed(&slot.held.slot) && !slot.attention.load(Ordering::Acquire)
        };
        let gone: Vec<Arc<Slot>> = lock(&self.known).extract_if(.., idle).collect();
        for slot in gone {
            if slot.number() != 0 {
                let name = &slot.held.slot;
                log::info!("plugin {name}: unloaded, nothing asks this slot any more");
            }
            slot.retire();
            slot.held.kv.clear();
        }
    }

    /// Empties a slot.
    ///
    /// # Errors
    /// [`Refusal`] when it is empty already, or cannot be stored.
    pub fn remove(&self, slot: &str) -> Result<(), Refusal> {
        let mut work = self.work();
        let stored = work.slots.get(slot).filter(|stored| stored.active.is_some());
        let Some(stored) = stored.cloned() else { return Err(empty(slot)) };
        work.store(Stored { active: None, previous: None, ..stored })?;
        if let Some(slot) = self.slot(slot) {
            slot.swap(None, false);
        }
        self.files.sweep(&work.slots.hashes());
        Ok(())
    }

    /// All slots that hold or have held something, or were asked for.
    pub fn list(&self) -> Vec<SlotInfo> {
        let stored = self.work().slots.clone();
        let known = lock(&self.known).clone();
        let is_known = |name: &str| known.iter().any(|slot| slot.held.slot == name);
        let kept = stored.slots.iter().filter(|kept| !is_known(&kept.slot));
        let kept = kept.map(|kept| {
            let held = Held { slot: kept.slot.as_str().to_owned(), ..Held::default() };
            info(&Slot::new(held), Some(kept))
        });
        known.iter().map(|slot| info(slot, stored.get(&slot.held.slot))).chain(kept).collect()
    }

    /// Names of the slots that serve, or were asked for since they were last unloaded.
    pub fn known(&self) -> Vec<String> {
        lock(&self.known).iter().map(|slot| slot.held.slot.clone()).collect()
    }

    /// Numbers that the guests keep, by slot.
    pub fn metrics(&self) -> Vec<(String, Vec<Metric>)> {
        let known = lock(&self.known).clone();
        known.iter().map(|slot| (slot.held.slot.clone(), slot.held.meters.numbers())).collect()
    }

    /// What happened by itself, oldest first; each only once.
    pub fn take_events(&self) -> Vec<Event> {
        lock(&self.events).drain(..).collect()
    }

    /// Follows up on what workers found (rollbacks) and on time (trials that are over). Call it
    /// when woken and every few seconds while [`Self::is_on_trial`].
    pub fn maintain(&self, config: &dyn Fn(&str) -> Option<String>) {
        let now = clock::now();
        let known = lock(&self.known).clone();
        for slot in known {
            slot.end_trial(now);
            if slot.attention.swap(false, Ordering::AcqRel) {
                self.attend(&mut self.work(), &slot, config);
            }
        }
    }

    /// Whether a plugin is on trial.
    pub fn is_on_trial(&self) -> bool {
        let now = clock::now();
        lock(&self.known).iter().any(|slot| slot.on_trial(now))
    }

    /// The slot of that name; made when it is asked for first. None: too many names.
    pub(super) fn slot(&self, name: &str) -> Option<Arc<Slot>> {
        let mut known = lock(&self.known);
        if let Some(slot) = known.iter().find(|slot| slot.held.slot == name) {
            return Some(slot.clone());
        }
        if known.len() >= PLUGIN_SLOTS_KNOWN_MAX {
            return None;
        }
        let held = Held { slot: name.to_owned(), keys: self.keys.clone(), ..Held::default() };
        let slot = Arc::new(Slot::new(held));
        known.push(slot.clone());
        Some(slot)
    }

    pub(super) fn rules(&self) -> Rules {
        lock(&self.rules).clone()
    }

    pub(super) fn ticker(&self) -> Option<&Arc<Ticker>> {
        self.runtime.get().map(|runtime| &runtime.ticker)
    }

    /// The engine and its clock, made when the first plugin comes.
    pub(super) fn runtime(&self) -> Result<&Runtime, Refusal> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let refused = |reason: String| {
            Refusal::new("engine", reason, "free memory, or use a build for this machine")
        };
        let engine =
            engine::engine(self.places.code).map_err(|error| refused(error.to_string()))?;
        let ticker = Ticker::start(&engine).map_err(|error| refused(error.to_string()))?;
        let _ = self.runtime.set(Runtime { engine, ticker: Arc::new(ticker) });
        self.runtime.get().ok_or_else(|| refused("there is none".to_owned()))
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn event(&self, text: String) {
        log::warn!("{text}");
        let mut events = lock(&self.events);
        if events.len() >= PLUGIN_EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(Event { at_ms: clock::now().as_millis(), text });
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker();
        }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }
}

/// The names of hooks, as interfaces of the package.
pub(super) fn hooks(exports: Exports) -> Vec<&'static str> {
    let all = [
        ("balancer", exports.balancer),
        ("authenticator", exports.authenticator),
        ("filter", exports.filter),
    ];
    all.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

/// No place for this name.
pub(super) fn crowded(slot: &str) -> Refusal {
    let reason =
        format!("there is no place for slot {slot} beside {PLUGIN_SLOTS_KNOWN_MAX} others");
    Refusal::new("slot", reason, "take slots of no use any more out of the configuration")
}

pub(super) fn empty(slot: &str) -> Refusal {
    Refusal::new("slot", format!("no plugin is in slot {slot}"), "see `edgeweir plugin list`")
}

fn slot_name(slot: &str) -> Result<Name, Refusal> {
    let name = crate::config::rules::name("slot", slot).map_err(|broken| broken.allowed);
    name.and_then(|()| Name::try_from(slot).map_err(|_| "at most 32 bytes".to_owned()))
        .map_err(|allowed| Refusal::new("slot", format!("`{slot}` is no name"), allowed))
}

fn info(slot: &Slot, stored: Option<&Stored>) -> SlotInfo {
    let current = slot.current();
    let shown =
        |hash: Option<[u8; 32]>| hash.map_or_else(String::new, |hash| hex(&hash).to_string());
    let state = match &current {
        None => "empty",
        Some(_) if slot.is_benched() => "benched",
        Some(_) if slot.on_trial(clock::now()) => "trial",
        Some(_) => "active",
    };
    SlotInfo {
        slot: slot.held.slot.clone(),
        state,
        name: current.as_ref().map_or_else(String::new, |now| now.info.name.clone()),
        version: current.as_ref().map_or_else(String::new, |now| now.info.version.clone()),
        hash: shown(current.as_ref().map(|now| now.hash)),
        serial: current.as_ref().map_or(0, |now| now.serial),
        generation: current.as_ref().map_or(0, |now| now.number),
        kept: shown(stored.and_then(|stored| stored.active).map(|version| version.hash)),
        hooks: current.as_ref().map_or_else(Vec::new, |now| hooks(now.exports)),
        previous: shown(stored.and_then(|stored| stored.previous).map(|version| version.hash)),
        banned: shown(stored.and_then(|stored| stored.banned)),
        calls: slot.calls.load(Ordering::Relaxed),
        faults: slot.faults.load(Ordering::Relaxed),
        last_fault: slot.last_fault().unwrap_or_default(),
        kv: slot.held.kv.size(),
        dropped_lines: slot.held.meters.dropped_lines(),
        dropped_metrics: slot.held.meters.dropped_metrics(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
