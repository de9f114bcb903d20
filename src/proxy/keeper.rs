//! Keeps the plugins of a gateway: starts their host, and does what operators and configurations ask.
//!
//! All of it may block for seconds (a compiler runs, files are synced), so it runs on the blocking
//! pool, one change at a time. Not in here: how components are checked and run (`plugin`), and who
//! asks guests during a session (`connection/hooks.rs`).

use core::time::Duration;
use std::sync::{Arc, Mutex, Weak};

use log::{info, warn};
use smol::{Timer, channel, future::FutureExt};

use super::{
    RunOptions, connection,
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
    origin::Table,
    plugin::{
        self, Host, Keep, Metric, Places, Refusal, Report, Rules, SlotInfo, Upload, Value,
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
    /// Tables of earlier configurations that sessions still use: each was one change.
    past: Arc<Mutex<Vec<Weak<Table>>>>,
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
    ///
    /// # Errors
    /// When code is to be taken from a directory that others may write to.
    pub(super) async fn start(
        source: &Source,
        options: &RunOptions,
        start: &Start,
        config: &Config,
        secrets: &Arc<Secrets>,
    ) -> Result<(Self, Vec<String>), String> {
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
        let mut places = Places::new(data);
        if let Some(dir) = &options.image_plugins {
            plugin::check_image(dir).map_err(|wrong| format!("--image-plugins: {wrong}"))?;
            places.image_dir.clone_from(dir);
        } else if places.image_dir.exists()
            && let Err(wrong) = plugin::check_image(&places.image_dir)
        {
            notes.push(format!("plugins of the image: {wrong}"));
        }
        let host = Host::new(places, Box::new(keep));
        let (wake, woken) = channel::bounded(1);
        host.on_attention(Box::new(move || {
            // When one waits already, that is enough.
            let _ = wake.try_send(());
        }));
        host.set_rules(rules(&config.plugins));
        host.set_secrets(Arc::clone(secrets));
        let configs = Arc::new(Mutex::new(config.plugins.clone()));
        let keeper = Self { host, woken, configs, past: Arc::default() };
        if !slots.slots.is_empty() {
            let (host, configs) = keeper.parts();
            smol::unblock(move || host.boot(slots, &|slot| told(&configs, slot))).await;
        }
        notes.extend(keeper.host.take_events().into_iter().map(|event| event.text));
        Ok((keeper, notes))
    }

    /// Makes the hooks of workers.
    pub(super) fn make_hooks(&self) -> Option<Box<MakeHooks>> {
        let host = Arc::clone(&self.host);
        Some(Box::new(move |_| Box::new(host.guests()) as Box<dyn Hooks>))
    }

    /// Follows up on what plugins do by themselves, for ever.
    pub(super) async fn watch(&self, shared: &Arc<Shared>) {
        loop {
            let woken = async { self.woken.recv().await.is_ok() };
            let time = async {
                Timer::after(TRIAL_LOOK).await;
                false
            };
            if woken.or(time).await || self.host.is_on_trial() {
                let (host, configs) = self.parts();
                smol::unblock(move || host.maintain(&|slot| told(&configs, slot))).await;
            }
            self.unload(shared).await;
            self.tell(shared);
        }
    }

    /// Takes up the configuration that has just come into force; `before` is the table of the one
    /// until now, `changed` names the slots that are new or are told something else. What could not
    /// be done, in words.
    pub(super) async fn follow(
        &self,
        shared: &Arc<Shared>,
        before: &Arc<Table>,
        changed: Vec<String>,
    ) -> Vec<String> {
        let generation = shared.generation();
        self.host.set_rules(rules(&generation.config.plugins));
        lock(&self.configs).clone_from(&generation.config.plugins);
        lock(&self.past).push(Arc::downgrade(before));
        let (host, configs) = self.parts();
        let notes = smol::unblock(move || {
            let configure = |slot: &String| match host.configure(slot, &json(&configs, slot)) {
                Ok(_) => None,
                Err(refusal) => Some(format!(
                    "plugin {slot} goes on with the configuration that it had: {refusal}"
                )),
            };
            changed.iter().filter_map(configure).collect()
        })
        .await;
        self.unload(shared).await;
        notes
    }

    /// Unloads the slots that neither the configuration nor a running session names.
    async fn unload(&self, shared: &Arc<Shared>) {
        lock(&self.past).retain(|table| table.strong_count() > 0);
        let table = Arc::clone(&shared.generation().table);
        if self.host.known().iter().any(|slot| table.slot_names().all(|name| name != slot)) {
            // Those without a session need not keep a slot waiting. A busy worker does it next time.
            for worker in shared.pool.handles() {
                let _ = worker.run(Box::new(connection::rest));
            }
        }
        let (host, shared, past) =
            (Arc::clone(&self.host), Arc::clone(shared), Arc::clone(&self.past));
        let needed = move |slot: &str| {
            // Asked at the last moment: a slot that comes back stays.
            let mut tables: Vec<_> = lock(&past).iter().filter_map(Weak::upgrade).collect();
            tables.push(Arc::clone(&shared.generation().table));
            tables.iter().any(|table| table.slot_names().any(|name| name == slot))
        };
        if host.known().iter().any(|slot| !needed(slot)) {
            smol::unblock(move || host.unload(&needed)).await;
        }
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

    /// What the slots of these names hold, then those that the configuration has no more.
    pub(super) fn status(&self, names: &[&str], meters: &HookMeters) -> Vec<PluginStatus> {
        let held = self.host.list();
        let numbers = self.host.metrics();
        let status = |name: &&str| {
            let Some(info) = held.iter().find(|info| info.slot == **name) else {
                return empty(name);
            };
            let of = numbers.iter().find(|(slot, _)| slot == name);
            shown(info, meters, of.map_or(&[], |(_, numbers)| numbers))
        };
        let gone = held.iter().filter(|info| !names.contains(&&*info.slot));
        let gone = gone.filter_map(|info| {
            let state = match (info.generation, &*info.kept) {
                (0, "") => return None,
                (0, _) => "unused",
                _ => "leaving",
            };
            let of = shown(info, meters, &[]);
            Some(PluginStatus { state: state.to_owned(), hash: info.kept.clone(), ..of })
        });
        names.iter().map(status).chain(gone).collect()
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

/// What a slot is told; none: the configuration has no such slot.
fn told(configs: &Mutex<Plugins>, slot: &str) -> Option<String> {
    let plugins = lock(configs);
    plugins.find(slot).map(|slot| plugins.config(slot).to_owned())
}

fn json(configs: &Mutex<Plugins>, slot: &str) -> String {
    told(configs, slot).unwrap_or_else(|| "{}".to_owned())
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

fn shown(info: &SlotInfo, meters: &HookMeters, numbers: &[Metric]) -> PluginStatus {
    let counter = |metric: &Metric| match metric.value {
        Value::Counter(sum) => Some((metric.name.clone(), sum)),
        Value::Gauge(_) => None,
    };
    let gauge = |metric: &Metric| match metric.value {
        Value::Gauge(value) => Some((metric.name.clone(), value)),
        Value::Counter(_) => None,
    };
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
        counters: numbers.iter().filter_map(counter).collect(),
        gauges: numbers.iter().filter_map(gauge).collect(),
        dropped_metrics: info.dropped_metrics,
        dropped_lines: info.dropped_lines,
    }
}
