//! Plugins, as the control API sees them: what the slots hold, uploads, rollback, removal.
//!
//! Not in here: checking and running components (`plugin`), and who keeps them (`keeper`).

use super::Inner;
use crate::control::{
    gateway::Upload,
    model::{Installed, PluginStatus, Problem},
};

impl Inner {
    /// The slots of the configuration in force, in its order, then what it has no more.
    pub(super) fn plugins(&self) -> Vec<PluginStatus> {
        let generation = self.shared.generation();
        let slots = generation.config.plugins.slots.iter();
        let names: Vec<&str> = slots.map(|plugin| plugin.slot.as_str()).collect();
        self.keeper.status(&names, self.shared.plugins.meters())
    }

    fn known(&self, slot: &str) -> Result<(), Problem> {
        let generation = self.shared.generation();
        let plugins = &generation.config.plugins;
        if plugins.find(slot).is_some() {
            return Ok(());
        }
        let names: Vec<&str> = plugins.slots.iter().map(|plugin| plugin.slot.as_str()).collect();
        Err(Problem::new(
            404,
            match names.is_empty() {
                true => format!(
                    "there is no slot {slot}, nor any other: add a [[plugin]] to the configuration"
                ),
                false => format!("there is no slot {slot}, only {}", names.join(", ")),
            },
        ))
    }

    pub(super) async fn install_plugin(
        &self,
        slot: String,
        upload: Upload,
    ) -> Result<Installed, Problem> {
        self.known(&slot)?;
        self.keeper.install(slot, upload, &self.shared).await
    }

    pub(super) async fn rollback_plugin(&self, slot: String) -> Result<String, Problem> {
        self.known(&slot)?;
        self.keeper.rollback(slot, &self.shared).await
    }

    pub(super) async fn remove_plugin(&self, slot: String) -> Result<String, Problem> {
        // What lies unused may be removed too.
        if self.plugins().iter().all(|plugin| plugin.slot != slot) {
            self.known(&slot)?;
        }
        self.keeper.remove(slot, &self.shared).await
    }
}
