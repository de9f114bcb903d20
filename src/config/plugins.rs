//! `[plugins]` and `[[plugin]]`: which slots there are, and who may fill them.
//!
//! A slot is a name that routes refer to; which component fills it is no matter of the
//! configuration. What a slot's guest is told (`[plugin.config]`) is kept as JSON, all slots' in
//! one text, so that the largest configuration stays small.
//!
//! Not in here: the components (`plugin`), and the text form (`text`, `print`).

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Name;
use crate::limits::{
    PLUGIN_CONFIG_MAX_BYTES, PLUGIN_CONFIGS_MAX_BYTES, PLUGIN_KIB_DEFAULT, PLUGIN_SLOTS_MAX,
    TRUSTED_KEY_BYTES, TRUSTED_KEYS_MAX,
};

/// A slot, by its place in [`Plugins::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot(pub u8);

/// `[plugins]` and all `[[plugin]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugins {
    /// Whether an upload must be signed by one of `trusted_keys`. Default false.
    pub require_signature: bool,
    /// Public keys of minisign, as `minisign -G` prints them.
    pub trusted_keys: Vec<String<TRUSTED_KEY_BYTES>, TRUSTED_KEYS_MAX>,
    /// Largest component that is taken, in KiB, 1 to 1024. Default 256.
    pub max_kib: u16,
    /// The slots.
    pub slots: Vec<Plugin, PLUGIN_SLOTS_MAX>,
    /// JSON of all slots, one after the other.
    pub(super) configs: String<PLUGIN_CONFIGS_MAX_BYTES>,
}

/// `[[plugin]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plugin {
    /// Its name, unique.
    pub slot: Name,
    /// What becomes of a message when the slot's filter fails. Default `reject`.
    pub on_fault: OnFault,
    /// Its share of the JSON, in bytes; 0: it has no `[plugin.config]`.
    pub(super) config_bytes: u16,
}

/// What becomes of a message when a filter fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFault {
    /// A request is answered 503, an answer becomes 502.
    #[default]
    Reject,
    /// It goes on as it came.
    Pass,
}

/// The slots' configurations do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// [`PLUGIN_SLOTS_MAX`] slots are there.
    Slots,
    /// More than [`PLUGIN_CONFIG_MAX_BYTES`] for one slot.
    Config,
    /// More than [`PLUGIN_CONFIGS_MAX_BYTES`] for all.
    Configs,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            require_signature: false,
            trusted_keys: Vec::new(),
            max_kib: PLUGIN_KIB_DEFAULT,
            slots: Vec::new(),
            configs: String::new(),
        }
    }
}

impl Plugins {
    /// Adds a slot; `json` is its configuration, an object or nothing.
    ///
    /// # Errors
    /// [`NoRoom`]; nothing is changed then.
    pub fn add(&mut self, slot: Name, on_fault: OnFault, json: &str) -> Result<(), NoRoom> {
        let bytes = u16::try_from(json.len()).ok();
        let bytes = bytes.filter(|bytes| usize::from(*bytes) <= PLUGIN_CONFIG_MAX_BYTES);
        let config_bytes = bytes.ok_or(NoRoom::Config)?;
        if self.slots.is_full() {
            return Err(NoRoom::Slots);
        }
        self.configs.push_str(json).map_err(|_| NoRoom::Configs)?;
        self.slots.push(Plugin { slot, on_fault, config_bytes }).map_err(|_| NoRoom::Slots)
    }

    /// Spells the JSON as the text form does, so that what means the same is the same: an image may
    /// come from a release whose JSON had other spaces or numbers.
    ///
    /// # Errors
    /// [`NoRoom`]: in our spelling it is too long.
    pub(super) fn respell(&mut self) -> Result<(), NoRoom> {
        let mut spelt = Self { slots: Vec::new(), configs: String::new(), ..self.clone() };
        for (plugin, at) in self.slots.iter().zip(0..) {
            let json = match plugin.config_bytes {
                0 => None,
                _ => serde_json::from_str::<Value>(self.config(Slot(at))).ok(),
            };
            let json = json.map(|value| value.to_string()).unwrap_or_default();
            spelt.add(plugin.slot.clone(), plugin.on_fault, &json)?;
        }
        *self = spelt;
        Ok(())
    }

    /// The slot of that name.
    pub fn find(&self, name: &str) -> Option<Slot> {
        let at = self.slots.iter().position(|plugin| plugin.slot == name)?;
        u8::try_from(at).ok().map(Slot)
    }

    /// What is said of a slot.
    pub fn get(&self, slot: Slot) -> Option<&Plugin> {
        self.slots.get(usize::from(slot.0))
    }

    /// Name of a slot; empty when there is none.
    pub fn name(&self, slot: Slot) -> &str {
        self.get(slot).map_or("", |plugin| &plugin.slot)
    }

    /// The configuration of a slot, a JSON object; `{}` when it has none.
    pub fn config(&self, slot: Slot) -> &str {
        let at = usize::from(slot.0);
        let bytes = |plugin: &Plugin| usize::from(plugin.config_bytes);
        let start: usize = self.slots.iter().take(at).map(bytes).sum();
        let length = self.slots.get(at).map_or(0, bytes);
        self.configs.get(start..start + length).filter(|json| !json.is_empty()).unwrap_or("{}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_found_by_name_with_their_own_configuration() {
        let mut plugins = Plugins::default();
        for (name, json) in [("a", "{\"x\":1}"), ("b", ""), ("c", "{\"y\":\"é\"}")] {
            plugins.add(name.try_into().unwrap(), OnFault::Pass, json).unwrap();
        }
        let found = ["a", "b", "c"].map(|name| plugins.config(plugins.find(name).unwrap()));
        assert_eq!(found, ["{\"x\":1}", "{}", "{\"y\":\"é\"}"]);
        assert_eq!(
            (plugins.find("d"), plugins.name(Slot(3)), plugins.config(Slot(9))),
            (None, "", "{}")
        );
    }

    #[test]
    fn the_room_is_taken_to_its_bound_and_refused_past_it() {
        let json = |bytes: usize| format!("{{\"k\":\"{}\"}}", "x".repeat(bytes - 8));
        let mut plugins = Plugins::default();
        let name = |at: usize| Name::try_from(format!("s{at}").as_str()).unwrap();
        let one = plugins.add(name(0), OnFault::Pass, &json(PLUGIN_CONFIG_MAX_BYTES + 1));
        assert_eq!((one, plugins.slots.len()), (Err(NoRoom::Config), 0));
        let whole = PLUGIN_CONFIGS_MAX_BYTES / PLUGIN_CONFIG_MAX_BYTES;
        for at in 0..whole {
            plugins.add(name(at), OnFault::Pass, &json(PLUGIN_CONFIG_MAX_BYTES)).unwrap();
        }
        assert_eq!(plugins.add(name(whole), OnFault::Pass, "{}"), Err(NoRoom::Configs));
        for at in whole..PLUGIN_SLOTS_MAX {
            plugins.add(name(at), OnFault::Pass, "").unwrap();
        }
        assert_eq!(plugins.add(name(99), OnFault::Pass, ""), Err(NoRoom::Slots));
    }
}
