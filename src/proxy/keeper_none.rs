//! In place of `keeper.rs` in a build without plugins: slots stay empty, uploads are refused.

use std::sync::Arc;

use super::{RunOptions, plugins::HookMeters, shared::Shared, source::Source};
use crate::{
    config::{Config, secrets::Secrets},
    control::{
        gateway::Upload,
        model::{Installed, PluginStatus, Problem},
    },
    flash::store::Start,
    origin::Table,
    plugin::hooks::MakeHooks,
};

const NO_PLUGINS: &str = "this build runs no plugins: use one with the feature `plugins`";

/// Nothing to keep.
pub(super) struct Keeper;

impl Keeper {
    pub(super) async fn start(
        _: &Source,
        _: &RunOptions,
        _: &Start,
        config: &Config,
        _: &Arc<Secrets>,
    ) -> Result<(Self, Vec<String>), String> {
        let named = !config.plugins.slots.is_empty();
        Ok((Self, named.then(|| format!("slots stay empty: {NO_PLUGINS}")).into_iter().collect()))
    }

    /// Hooks that fail; only asked for where a slot is named.
    pub(super) fn make_hooks(&self) -> Option<Box<MakeHooks>> {
        None
    }

    pub(super) async fn watch(&self, _: &Arc<Shared>) {
        core::future::pending().await
    }

    pub(super) async fn follow(
        &self,
        _: &Arc<Shared>,
        _: &Arc<Table>,
        _: Vec<String>,
    ) -> Vec<String> {
        Vec::new()
    }

    pub(super) fn follow_secrets(&self, _: &Arc<Secrets>) {}

    pub(super) async fn install(
        &self,
        _: String,
        _: Upload,
        _: &Shared,
    ) -> Result<Installed, Problem> {
        Err(Problem::new(503, NO_PLUGINS))
    }

    pub(super) async fn rollback(&self, _: String, _: &Shared) -> Result<String, Problem> {
        Err(Problem::new(503, NO_PLUGINS))
    }

    pub(super) async fn remove(&self, _: String, _: &Shared) -> Result<String, Problem> {
        Err(Problem::new(503, NO_PLUGINS))
    }

    pub(super) fn status(&self, names: &[&str], meters: &HookMeters) -> Vec<PluginStatus> {
        let empty = |name: &&str| PluginStatus {
            slot: (*name).to_owned(),
            state: "empty".to_owned(),
            hooks: meters.of(name),
            ..PluginStatus::default()
        };
        names.iter().map(empty).collect()
    }
}
