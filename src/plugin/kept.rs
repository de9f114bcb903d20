//! What a slot does without being told: it serves what was kept when the gateway starts, and goes back
//! to the plugin from before when workers found it failing.
//!
//! Not in here: what is done on request (`install`).

use super::{
    host::{Host, Work},
    install::{Clock, LOST, Plan},
    slot::Slot,
    state::Stored,
};
use crate::auth::digest::hex;

impl Host {
    /// Makes a slot serve what was kept, or what was kept before that. What does not run at this start
    /// stays kept, for it may at the next one; only what has lost its file is given up.
    pub(super) fn boot_slot(&self, work: &mut Work, stored: Stored, config: &str) {
        let name = stored.slot.clone();
        let Some(slot) = self.slot(&name) else { return };
        let mut lost = false;
        for version in [stored.active, stored.previous].into_iter().flatten() {
            let made = self.component(&version.hash).and_then(|wasm| {
                let plan = Plan {
                    slot: &name,
                    wasm: &wasm,
                    version,
                    config,
                    handover: None,
                    try_hooks: false,
                };
                let made = self.make(plan, &mut Clock::start())?;
                let _ = self.store_code(&made);
                Ok(made)
            });
            match made {
                Ok(made) => {
                    slot.swap(Some(made.generation), false);
                    if stored.active != Some(version) {
                        self.event(format!(
                            "plugin {name}: the one before serves, {}",
                            hex(&version.hash)
                        ));
                    }
                    if lost {
                        let changed = Stored { active: Some(version), previous: None, ..stored };
                        if let Err(refusal) = work.store(changed) {
                            self.event(format!("plugin {name}: {refusal}"));
                        }
                    }
                    return;
                }
                Err(refusal) => {
                    lost |= refusal.step == LOST;
                    self.event(format!("plugin {name}: cannot be loaded: {refusal}"));
                }
            }
        }
    }

    /// Follows up on what a worker did with a slot.
    pub(super) fn attend(
        &self,
        work: &mut Work,
        slot: &Slot,
        config: &dyn Fn(&str) -> Option<String>,
    ) {
        let name = &slot.held.slot;
        let Some(stored) = work.slots.get(name).cloned() else { return };
        let now = slot.current().map(|generation| generation.hash);
        let active = stored.active.map(|active| active.hash);
        // One that serves since a start in which the kept one did not run is benched and no more.
        let done = if now.is_some() && now != active && !slot.is_benched() {
            // A worker went back to what it still had.
            let back = stored.previous.filter(|previous| Some(previous.hash) == now);
            let stored = Stored { active: back, previous: None, banned: active, ..stored };
            work.store(stored).map(|()| self.files.sweep(&work.slots.hashes()))
        } else if slot.is_benched()
            && now == active
            && stored.previous.is_some()
            && let Some(config) = config(name)
        {
            self.roll_back(work, name, &config, true).map(|report| {
                self.event(format!("plugin {name}: rolled back to {}", report.hash));
            })
        } else {
            Ok(())
        };
        if let Err(refusal) = done {
            self.event(format!("plugin {name}: {refusal}"));
        }
    }
}
