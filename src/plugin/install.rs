//! From an upload to the plugin that serves, step by step; and back.
//!
//! ```text
//!   size, kind, signature, serial, ban    before anything is done with it
//!   compile, load, imports, needs, types  nothing of it has run yet
//!   instantiate ... samples               beside the running ones, real budgets (shadow)
//!   files, store                          the component, its code, then the slot on flash
//!   swap                                  one number changes
//! ```
//!
//! Not in here: what a worker does with the new number.

use std::sync::{Arc, PoisonError};

use minisign_verify::{PublicKey, Signature};

#[cfg(feature = "compiler")]
use super::{Places, child};
use super::{
    Refusal, Report, Upload,
    cache::hash,
    calls::Held,
    engine::load,
    guest::Prepared,
    host::{Host, Rules, Runtime, Work, crowded, empty, hooks},
    inspect::{self, Unfit},
    report::Phase,
    shadow::{self, Tried},
    slot::{Generation, Hash, Slot},
    state::{Stored, Version},
};
use crate::{
    auth::digest::hex,
    clock,
    config::Name,
    limits::{PLUGIN_CONFIG_MAX_BYTES, PLUGIN_KIB_MAX},
};

/// Wall time of phases.
pub(super) struct Clock {
    phases: Vec<Phase>,
    since_ns: u64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { phases: Vec::new(), since_ns: clock::precise_ns() }
    }

    fn end(&mut self, phase: &'static str) {
        let now = clock::precise_ns();
        self.phases.push(Phase { phase, us: now.saturating_sub(self.since_ns) / 1000 });
        self.since_ns = now;
    }
}

/// A component that has passed everything.
pub(super) struct Made {
    pub(super) generation: Arc<Generation>,
    tried: Tried,
    imports: Vec<String>,
    code: Vec<u8>,
    /// Whether the code came from the cache.
    cached: bool,
}

/// The step that fails when the file of a kept component is missing or damaged.
pub(super) const LOST: &str = "file";

/// What to make a generation of.
pub(super) struct Plan<'a> {
    pub(super) slot: &'a str,
    pub(super) wasm: &'a [u8],
    pub(super) version: Version,
    pub(super) config: &'a str,
    pub(super) handover: Option<(String, Vec<u8>)>,
    /// Whether its hooks are tried before they serve. At a start they are not: they were at the
    /// install, and a slow start must not cost a plugin that was acknowledged.
    pub(super) try_hooks: bool,
}

impl Host {
    pub(super) fn install_checked(
        &self,
        work: &mut Work,
        name: Name,
        upload: Upload<'_>,
    ) -> Result<Report, Refusal> {
        let mut clock = Clock::start();
        let old = work.slots.get(&name).cloned().unwrap_or_else(|| Stored::new(name.clone()));
        let version = admit(&self.rules(), &old, &upload)?;
        clock.end("admit");
        let slot = self.slot(&name).ok_or_else(|| crowded(&name))?;
        let plan = Plan {
            slot: &name,
            wasm: upload.wasm,
            version,
            config: upload.config,
            handover: handover(&slot),
            try_hooks: true,
        };
        let made = self.make(plan, &mut clock)?;
        let stored = Stored {
            active: Some(version),
            previous: old.active.filter(|active| active.hash != version.hash).or(old.previous),
            banned: old.banned.filter(|banned| *banned != version.hash),
            serial: if upload.force { version.serial } else { old.serial.max(version.serial) },
            faults: u32::try_from(slot.faults.load(core::sync::atomic::Ordering::Relaxed))
                .unwrap_or(u32::MAX),
            slot: name,
        };
        let kept = self.store_files(upload.wasm, &made);
        let done = kept.and_then(|()| {
            clock.end("files");
            work.store(stored)
        });
        self.files.sweep(&work.slots.hashes());
        done?;
        clock.end("store");
        slot.swap(Some(made.generation.clone()), true);
        clock.end("swap");
        Ok(report(&slot, upload.wasm, made, clock.phases))
    }

    /// Everything up to the trial, and nothing of it stays.
    pub(super) fn check_only(&self, upload: Upload<'_>) -> Result<Report, Refusal> {
        let mut clock = Clock::start();
        let slot = Slot::new(Held { slot: "check".to_owned(), ..Held::default() });
        let name = Name::try_from("check").unwrap_or_default();
        let version = admit(&self.rules(), &Stored::new(name), &upload)?;
        clock.end("admit");
        let Upload { wasm, config, .. } = upload;
        let plan = Plan { slot: "check", wasm, version, config, handover: None, try_hooks: true };
        let made = self.make(plan, &mut clock)?;
        Ok(report(&slot, wasm, made, clock.phases))
    }

    pub(super) fn roll_back(
        &self,
        work: &mut Work,
        name: &str,
        config: &str,
        ban: bool,
    ) -> Result<Report, Refusal> {
        let mut clock = Clock::start();
        let stored = work.slots.get(name).cloned().ok_or_else(|| empty(name))?;
        let previous = stored.previous.ok_or_else(|| {
            Refusal::new("slot", format!("slot {name} has no plugin from before"), "install one")
        })?;
        let wasm = self.component(&previous.hash)?;
        let slot = self.slot(name).ok_or_else(|| crowded(name))?;
        let handover = if ban { None } else { handover(&slot) };
        let plan =
            Plan { slot: name, wasm: &wasm, version: previous, config, handover, try_hooks: true };
        let made = self.make(plan, &mut clock)?;
        let bad = stored.active.filter(|_| ban).map(|active| active.hash);
        work.store(Stored {
            active: Some(previous),
            previous: stored.active.filter(|_| !ban),
            banned: bad.or(stored.banned),
            ..stored
        })?;
        clock.end("store");
        // What an operator goes back to has been tried before.
        slot.swap(Some(made.generation.clone()), false);
        clock.end("swap");
        let _ = self.store_files(&wasm, &made);
        self.files.sweep(&work.slots.hashes());
        Ok(report(&slot, &wasm, made, clock.phases))
    }

    pub(super) fn reconfigure(
        &self,
        work: &mut Work,
        name: &str,
        config: &str,
    ) -> Result<Option<Report>, Refusal> {
        let Some(active) = work.slots.get(name).and_then(|stored| stored.active) else {
            return Ok(None);
        };
        let slot = self.slot(name).ok_or_else(|| crowded(name))?;
        if slot.current().is_some_and(|now| now.config == config) {
            return Ok(None);
        }
        let mut clock = Clock::start();
        let wasm = self.component(&active.hash)?;
        let plan = Plan {
            slot: name,
            wasm: &wasm,
            version: active,
            config,
            handover: handover(&slot),
            try_hooks: true,
        };
        let made = self.make(plan, &mut clock)?;
        slot.swap(Some(made.generation.clone()), true);
        clock.end("swap");
        Ok(Some(report(&slot, &wasm, made, clock.phases)))
    }

    pub(super) fn component(&self, hash: &Hash) -> Result<Vec<u8>, Refusal> {
        self.files.component(hash).ok_or_else(|| {
            let reason = format!("its file {}.wasm is missing or damaged", hex(hash));
            Refusal::new(LOST, reason, "install the plugin again")
        })
    }

    fn store_files(&self, wasm: &[u8], made: &Made) -> Result<(), Refusal> {
        let stored = self.files.store_component(wasm).and_then(|()| self.store_code(made));
        stored.map_err(|error| {
            let dir = self.places.data_dir.display();
            Refusal::new("files", format!("cannot write to {dir}: {error}"), "make room there")
        })
    }

    pub(super) fn store_code(&self, made: &Made) -> std::io::Result<()> {
        if made.cached {
            return Ok(());
        }
        self.files.store_code(&made.generation.hash, self.places.code, &made.code)
    }

    /// Makes a generation of a component: all that can be wrong with it comes out here.
    pub(super) fn make(&self, plan: Plan<'_>, clock: &mut Clock) -> Result<Made, Refusal> {
        let runtime = self.runtime()?;
        let (component, code, cached) = self.code(runtime, &plan, clock)?;
        let surface = inspect::surface(&runtime.engine, &component);
        let unfit = |step| move |unfit: Unfit| Refusal::new(step, unfit.reason, unfit.remedy);
        let exports = inspect::check(&surface).map_err(unfit("imports"))?;
        inspect::needs(&component).map_err(unfit("needs"))?;
        let prepared = Prepared::new(&runtime.engine, &component, exports).map_err(|reason| {
            let remedy = "build it against the plugins/wit of this release";
            Refusal::new("types", format!("an import or export has other types: {reason}"), remedy)
        })?;
        clock.end("check");
        let tried = twice_if_late(|| {
            let held = Arc::new(Held {
                slot: plan.slot.to_owned(),
                keys: self.keys.clone(),
                lines: Some(std::sync::Mutex::default()),
                ..Held::default()
            });
            shadow::try_out(
                &prepared,
                exports,
                &runtime.ticker,
                &held,
                plan.config,
                plan.handover.as_ref(),
                plan.try_hooks,
            )
            .map_err(|failed| (failed.late, failed_trial(failed, &held)))
        })?;
        clock.end("try");
        let generation = Generation {
            number: self.next_number(),
            hash: plan.version.hash,
            serial: plan.version.serial,
            info: tried.info.clone(),
            exports,
            interest: tried.interest.clone(),
            config: plan.config.to_owned(),
            handover: plan.handover,
            prepared,
        };
        Ok(Made { generation: Arc::new(generation), tried, imports: surface.imports, code, cached })
    }

    /// Its code, from the cache or from the compiler, loaded.
    #[allow(unsafe_code)] // code of our own is loaded
    fn code(
        &self,
        runtime: &Runtime,
        plan: &Plan<'_>,
        clock: &mut Clock,
    ) -> Result<(wasmtime::component::Component, Vec<u8>, bool), Refusal> {
        for files in [&self.image, &self.files] {
            let Some(kept) = files.code(&plan.version.hash, self.places.code) else { continue };
            // SAFETY: they came with the image, as this program did, and nobody but the owner may
            // write there; or the seal says that this device's compiler made exactly these bytes.
            let loaded = unsafe { load(&runtime.engine, &kept) };
            if let Ok(component) = loaded {
                clock.end("load");
                return Ok((component, kept, true));
            }
        }
        let compiled = self.compile(&plan.version.hash, plan.wasm)?;
        clock.end("compile");
        // SAFETY: they come from our own compiler through a pipe that nobody else holds.
        let loaded = unsafe { load(&runtime.engine, &compiled) };
        let component = loaded.map_err(|error| {
            let remedy = "the program was replaced while it runs: restart the gateway";
            Refusal::new("load", error.to_string(), remedy)
        })?;
        clock.end("load");
        Ok((component, compiled, false))
    }
}

#[cfg(feature = "compiler")]
impl Host {
    fn compile(&self, _: &Hash, wasm: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Places { program, code, .. } = &self.places;
        let compiled = child::compile(program, *code, wasm, &child::Bounds::here());
        compiled.map_err(|reason| {
            Refusal::new("compile", reason, "run `edgeweir plugin check` on it where it is built")
        })
    }
}

#[cfg(not(feature = "compiler"))]
impl Host {
    fn compile(&self, of: &Hash, _: &[u8]) -> Result<Vec<u8>, Refusal> {
        if let Some(reason) = self.image.distrusted(of, self.places.code) {
            return Err(Refusal::new("image", reason, "then install again"));
        }
        let file = self.image.code_path(of, self.places.code);
        let reason = format!("this build has no compiler, and there is no {}", file.display());
        Err(Refusal::new("compile", reason, "take it into the image: `edgeweir plugin compile`"))
    }
}

/// State that the plugin in service leaves its successor.
fn handover(slot: &Slot) -> Option<(String, Vec<u8>)> {
    let mut seated = slot.borrow_oldest()?;
    let version = seated.generation.info.version.clone();
    // A fault counts as nothing to say.
    let state = seated.instance.snapshot().ok().filter(|state| !state.is_empty())?;
    Some((version, state))
}

/// Makes a trial, and once more when it came to nothing for want of time: a plugin that is too slow is
/// so again.
fn twice_if_late<T>(mut trial: impl FnMut() -> Result<T, (bool, Refusal)>) -> Result<T, Refusal> {
    match trial() {
        Err((true, _)) => trial(),
        result => result,
    }
    .map_err(|(_, refusal)| refusal)
}

fn failed_trial(failed: shadow::Failed, held: &Held) -> Refusal {
    let lines = held.lines.as_ref().map(|lines| {
        lines.lock().unwrap_or_else(PoisonError::into_inner).last().cloned().unwrap_or_default()
    });
    let said = lines.filter(|line| !line.is_empty());
    let remedy = match failed.step {
        "init" => "correct [plugin.config] of the slot, or the plugin",
        _ => "correct the plugin; `edgeweir plugin check` shows the same on any machine",
    };
    let reason = match said {
        Some(line) => format!("{} (its last log line: {line})", failed.reason),
        None => failed.reason,
    };
    Refusal::new(failed.step, reason, remedy)
}

fn report(slot: &Slot, wasm: &[u8], made: Made, phases: Vec<Phase>) -> Report {
    let generation = &made.generation;
    Report {
        slot: slot.held.slot.clone(),
        hash: hex(&generation.hash).to_string(),
        name: generation.info.name.clone(),
        version: generation.info.version.clone(),
        serial: generation.serial,
        bytes: wasm.len(),
        code_bytes: made.code.len(),
        hooks: hooks(generation.exports),
        imports: made.imports,
        phases,
        requests: made.tried.interest.lists().0.to_vec(),
        answers: made.tried.interest.lists().1.to_vec(),
        costs: made.tried.costs,
        samples: made.tried.samples,
    }
}

/// Whether an upload may be looked at more closely.
fn admit(rules: &Rules, old: &Stored, upload: &Upload<'_>) -> Result<Version, Refusal> {
    let most = usize::from(rules.max_kib.min(PLUGIN_KIB_MAX)) * 1024;
    if upload.wasm.len() > most {
        return Err(Refusal::new(
            "size",
            format!("it has {} bytes, allowed are {most}", upload.wasm.len()),
            "build it for size, or raise `plugins.max_kib` (at most 1024)",
        ));
    }
    if upload.config.len() > PLUGIN_CONFIG_MAX_BYTES {
        let reason = format!("[plugin.config] has more than {PLUGIN_CONFIG_MAX_BYTES} bytes");
        return Err(Refusal::new("config", reason, "make it shorter"));
    }
    inspect::kind(upload.wasm).map_err(|unfit| Refusal::new("kind", unfit.reason, unfit.remedy))?;
    let signed = signed(rules, upload)?;
    let serial = serial(signed.as_deref(), upload.serial)?;
    let hash = hash(upload.wasm);
    if old.banned == Some(hash) && !upload.force {
        let reason = "this very component was rolled back for its faults";
        return Err(Refusal::new("ban", reason, "install a corrected one, or say --force"));
    }
    if serial < old.serial && !upload.force {
        return Err(Refusal::new(
            "serial",
            format!("serial {serial} is older than {}, which was active here", old.serial),
            "install a newer one, use `edgeweir plugin rollback`, or say --force",
        ));
    }
    Ok(Version { hash, serial })
}

/// The trusted comment of a good signature; none when there is none and none is needed.
fn signed(rules: &Rules, upload: &Upload<'_>) -> Result<Option<String>, Refusal> {
    let refused = |reason: &str, remedy: &str| Refusal::new("signature", reason, remedy);
    let Some(text) = upload.signature else {
        return if rules.require_signature {
            Err(refused("it is not signed", "sign it (`minisign -S`) and send the .minisig along"))
        } else {
            Ok(None)
        };
    };
    let signature = Signature::decode(text).map_err(|_| {
        refused("the signature is none of minisign", "send the whole .minisig file")
    })?;
    let good = rules.trusted_keys.iter().any(|key| {
        let key = PublicKey::from_base64(key);
        key.is_ok_and(|key| key.verify(upload.wasm, &signature, false).is_ok())
    });
    if !good {
        return Err(refused(
            "no key of `plugins.trusted_keys` made this signature over this component",
            "sign exactly this file with a trusted key",
        ));
    }
    Ok(Some(signature.trusted_comment().to_owned()))
}

/// The serial: what is signed counts; what is said beside it must not differ.
fn serial(signed: Option<&str>, said: Option<u64>) -> Result<u64, Refusal> {
    let words = signed.into_iter().flat_map(str::split_whitespace);
    let signed = words.filter_map(|word| word.strip_prefix("serial:")).find_map(|n| n.parse().ok());
    match (signed, said) {
        (Some(signed), Some(said)) if signed != said => Err(Refusal::new(
            "serial",
            format!("the signature says serial {signed}, the upload {said}"),
            "leave the serial of the upload out",
        )),
        (Some(serial), _) | (None, Some(serial)) => Ok(serial),
        (None, None) => Ok(0),
    }
}

#[cfg(test)]
#[path = "install_tests.rs"]
mod tests;
