//! Keeps the plugins of a gateway: starts their host, and does what operators and configurations ask.
//!
//! All of it may block for seconds (a compiler runs, files are synced), so it runs on the blocking
//! pool, one change at a time. Not in here: how components are checked and run (`plugin`), and who
//! asks guests during a session (`connection/hooks.rs`).

use core::time::Duration;
use std::sync::{Arc, Mutex};

use log::{info, warn};
use smol::{Timer, channel, future::FutureExt};

use super::{
    RunOptions,
    plugins::HookMeters,
    shared::{Shared, lock},
    slots::{Image, SlotStore, data_directory},
    source::Source,
};
use crate::{
    config::{Config, Plugins, secrets::Secrets},
    control::{
        gateway,
        model::{Installed, Phase, PluginStatus, Problem},
    },
    flash::store::Start,
    plugin::{
        self, Host, Keep, Places, Refusal, Report, Rules, SlotInfo, Upload,
        hooks::{Hooks, MakeHooks},
        state::{self, Slots},
    },
};

/// How often trials are looked at.
const TRIAL_LOOK: Duration = Duration::from_secs(5);

/// Places of a gateway's plugins, and who runs them.
pub(super) struct Keeper {
    host: Arc<Host>,
    woken: channel::Receiver<()>,
    /// What slots are told, as the configuration in force has it.
    configs: Arc<Mutex<Plugins>>,
}

/// Slots on their way to flash, or to the file that stands for it.
struct Stored {
    store: SlotStore,
    fallbacks: u32,
    sequence: u64,
}

impl Keep for Stored {
    fn keep(&mut self, slots: &Slots) -> Result<(), String> {
        self.sequence += 1;
        let image = Image { fallbacks: self.fallbacks, slots: state::encode(slots, self.sequence) };
        smol::block_on(self.store.save(image))
    }
}

impl Keeper {
    /// Loads the plugins that were kept. What an operator should know comes back as notes.
    pub(super) async fn start(
        source: &Source,
        options: &RunOptions,
        start: &Start,
        config: &Config,
        secrets: &Arc<Secrets>,
    ) -> (Self, Vec<String>) {
        let data = data_directory(options);
        let store = source.slots(&data);
        let mut notes = Vec::new();
        let kept = store.load().await.unwrap_or_else(|error| {
            notes.push(format!("the slots for plugins cannot be read: {error}"));
            None
        });
        let followed = kept.as_ref().map_or(start.fallbacks, |image| image.fallbacks);
        let (mut slots, sequence) = match kept.map(|image| state::decode(&image.slots)) {
            None => (Slots::default(), 0),
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                notes.push(format!("the slots for plugins are empty: {error}"));
                (Slots::default(), 0)
            }
        };
        if start.fallbacks > followed {
            notes.extend(fall_back(&mut slots));
        }
        let keep = Stored { store, fallbacks: start.fallbacks, sequence };
        let host = Host::new(Places::new(data), Box::new(keep));
        let (wake, woken) = channel::bounded(1);
        host.on_attention(Box::new(move || {
            // When one waits already, that is enough.
            let _ = wake.try_send(());
        }));
        host.set_rules(rules(&config.plugins));
        host.set_secrets(Arc::clone(secrets));
        let configs = Arc::new(Mutex::new(config.plugins.clone()));
        let keeper = Self { host, woken, configs };
        if !slots.slots.is_empty() {
            let (host, configs) = keeper.parts();
            smol::unblock(move || host.boot(slots, &|slot| json(&configs, slot))).await;
        }
        notes.extend(keeper.host.take_events().into_iter().map(|event| event.text));
        (keeper, notes)
    }

    /// Makes the hooks of workers.
    pub(super) fn make_hooks(&self) -> Option<Box<MakeHooks>> {
        let host = Arc::clone(&self.host);
        Some(Box::new(move |_| Box::new(host.guests()) as Box<dyn Hooks>))
    }

    /// Follows up on what plugins do by themselves, for ever.
    pub(super) async fn watch(&self, shared: &Shared) {
        loop {
            let woken = async { self.woken.recv().await.is_ok() };
            let time = async {
                Timer::after(TRIAL_LOOK).await;
                false
            };
            if woken.or(time).await || self.host.is_on_trial() {
                let (host, configs) = self.parts();
                smol::unblock(move || host.maintain(&|slot| json(&configs, slot))).await;
            }
            self.tell(shared);
        }
    }

    /// Takes up another configuration; what could not be done, in words.
    pub(super) async fn follow(&self, config: &Config, changed: Vec<String>) -> Vec<String> {
        self.host.set_rules(rules(&config.plugins));
        lock(&self.configs).clone_from(&config.plugins);
        let (host, configs) = self.parts();
        let held: Vec<String> = changed;
        smol::unblock(move || {
            let configure = |slot: &String| match host.configure(slot, &json(&configs, slot)) {
                Ok(_) => None,
                Err(refusal) => Some(format!(
                    "plugin {slot} goes on with the configuration that it had: {refusal}"
                )),
            };
            held.iter().filter_map(configure).collect()
        })
        .await
    }

    /// Takes up other secrets.
    pub(super) fn follow_secrets(&self, secrets: &Arc<Secrets>) {
        self.host.set_secrets(Arc::clone(secrets));
    }

    /// Checks a component and puts it in force.
    pub(super) async fn install(
        &self,
        slot: String,
        upload: gateway::Upload,
        shared: &Shared,
    ) -> Result<Installed, Problem> {
        let (host, configs) = self.parts();
        let report = smol::unblock(move || {
            let config = json(&configs, &slot);
            let gateway::Upload { component, signature, serial, force } = upload;
            let signature = signature.as_deref();
            let upload = Upload { wasm: &component, signature, serial, force, config: &config };
            host.install(&slot, upload)
        })
        .await
        .map_err(|refusal| refused(&refusal))?;
        self.tell(shared);
        let changed = in_force(&report);
        info!("{changed}");
        shared.event(changed.clone());
        let phase = |phase: &plugin::Phase| Phase { name: phase.phase.to_owned(), us: phase.us };
        Ok(Installed {
            changed,
            hash: report.hash,
            phases: report.phases.iter().map(phase).collect(),
        })
    }

    /// Puts the component in force that was before.
    pub(super) async fn rollback(&self, slot: String, shared: &Shared) -> Result<String, Problem> {
        let (host, configs) = self.parts();
        let report = smol::unblock(move || host.rollback(&slot, &json(&configs, &slot))).await;
        let changed = in_force(&report.map_err(|refusal| refused(&refusal))?);
        self.tell(shared);
        info!("rolled back: {changed}");
        shared.event(format!("rolled back: {changed}"));
        Ok(changed)
    }

    /// Empties a slot.
    pub(super) async fn remove(&self, slot: String, shared: &Shared) -> Result<String, Problem> {
        let host = Arc::clone(&self.host);
        let changed = format!("plugin {slot}: removed");
        smol::unblock(move || host.remove(&slot)).await.map_err(|refusal| refused(&refusal))?;
        info!("{changed}");
        shared.event(changed.clone());
        Ok(changed)
    }

    /// What the slots hold.
    pub(super) fn status(&self, names: &[&str], meters: &HookMeters) -> Vec<PluginStatus> {
        let held = self.host.list();
        let status = |name: &&str| {
            let found = held.iter().find(|info| info.slot == **name);
            found.map_or_else(|| empty(name), |info| shown(info, meters))
        };
        names.iter().map(status).collect()
    }

    fn tell(&self, shared: &Shared) {
        for event in self.host.take_events() {
            shared.event(event.text);
        }
    }

    fn parts(&self) -> (Arc<Host>, Arc<Mutex<Plugins>>) {
        (Arc::clone(&self.host), Arc::clone(&self.configs))
    }
}

/// What a slot is told.
fn json(configs: &Mutex<Plugins>, slot: &str) -> String {
    let plugins = lock(configs);
    plugins.find(slot).map_or("{}", |slot| plugins.config(slot)).to_owned()
}

fn rules(plugins: &Plugins) -> Rules {
    Rules {
        max_kib: plugins.max_kib,
        require_signature: plugins.require_signature,
        trusted_keys: plugins.trusted_keys.iter().map(|key| key.as_str().to_owned()).collect(),
    }
}

/// Starts that ended early may be a plugin's doing: those that have one before them go back to it.
fn fall_back(slots: &mut Slots) -> Vec<String> {
    let mut notes = Vec::new();
    for stored in &mut slots.slots {
        if let Some(previous) = stored.previous {
            stored.previous = stored.active.replace(previous);
            let slot = &stored.slot;
            notes.push(format!("plugin {slot}: the one before is used, since starts ended early"));
        }
    }
    notes
}

fn in_force(report: &Report) -> String {
    let Report { slot, name, version, .. } = report;
    let hash = report.hash.get(..12).unwrap_or_default();
    let called = format!("{name} {version}");
    match called.trim() {
        "" => format!("plugin {slot}: {hash} is in force"),
        called => format!("plugin {slot}: {called} ({hash}) is in force"),
    }
}

fn refused(refusal: &Refusal) -> Problem {
    let status = match refusal.step {
        "slot" => 404,
        "store" | "engine" => 503,
        _ => 422,
    };
    warn!("plugin refused: {refusal}");
    Problem::new(status, refusal.to_string())
}

fn empty(slot: &str) -> PluginStatus {
    PluginStatus { slot: slot.to_owned(), state: "empty".to_owned(), ..PluginStatus::default() }
}

fn shown(info: &SlotInfo, meters: &HookMeters) -> PluginStatus {
    PluginStatus {
        slot: info.slot.clone(),
        state: info.state.to_owned(),
        reason: info.last_fault.clone(),
        name: info.name.clone(),
        version: info.version.clone(),
        hash: info.hash.clone(),
        serial: info.serial,
        generation: info.generation,
        previous: info.previous.clone(),
        banned: info.banned.clone(),
        faults: info.faults,
        hooks: meters.of(&info.slot),
    }
}
