//! `[plugins]`, `[[plugin]]`, and the places where a slot is named.

use heapless::Vec;

use super::TextError;
use crate::{
    config::{
        NoRoom, OnFault, Plugins, Slot,
        reader::{Item, Section},
        rules,
    },
    limits::{PLUGIN_CONFIG_MAX_BYTES, PLUGIN_CONFIGS_MAX_BYTES, PLUGIN_SLOTS_MAX},
};

/// Words of the text for [`OnFault`].
pub(in crate::config) const ON_FAULT: [(&str, OnFault); 2] =
    [("reject", OnFault::Reject), ("pass", OnFault::Pass)];

/// What stands before the name of a slot where other words may stand too.
pub(in crate::config) const PREFIX: &str = "plugin:";

pub(super) fn plugins(whole: &Section<'_, '_>) -> Result<Plugins, TextError> {
    let mut plugins = Plugins::default();
    if let Some(section) = whole.section("plugins")? {
        section.only(&["require_signature", "trusted_keys", "max_kib"])?;
        if let Some(item) = section.value("require_signature") {
            plugins.require_signature = item.boolean()?;
        }
        if let Some(item) = section.value("trusted_keys") {
            plugins.trusted_keys = item.list("a list of public keys of minisign", |item| {
                let wrong = || item.wrong(rules::TRUSTED_KEY);
                item.str()?.try_into().map_err(|_| wrong())
            })?;
        }
        if let Some(item) = section.value("max_kib") {
            plugins.max_kib = item.number()?;
        }
    }
    for section in whole.sections("plugin", PLUGIN_SLOTS_MAX)? {
        plugin(&section, &mut plugins)?;
    }
    Ok(plugins)
}

fn plugin(section: &Section<'_, '_>, plugins: &mut Plugins) -> Result<(), TextError> {
    section.only(&["slot", "on_fault", "config"])?;
    let slot = section.required("slot")?.bounded()?;
    let on_fault = match section.value("on_fault") {
        Some(item) => item.choice(&ON_FAULT)?,
        None => OnFault::default(),
    };
    let config = section.value("config");
    let json = match &config {
        Some(item) => item.json_object()?,
        None => String::new(),
    };
    plugins.add(slot, on_fault, &json).map_err(|no_room| {
        let item = config.as_ref();
        let (found, allowed) = match no_room {
            NoRoom::Config => (json.len(), format!("at most {PLUGIN_CONFIG_MAX_BYTES} as JSON")),
            NoRoom::Configs | NoRoom::Slots => (
                json.len() + plugins.configs.len(),
                format!("at most {PLUGIN_CONFIGS_MAX_BYTES} as JSON for all slots together"),
            ),
        };
        let found = format!("{found} bytes");
        item.map_or_else(
            || section.wrong(&found, &allowed),
            |item| item.wrong_as(found.clone(), allowed.clone()),
        )
    })
}

/// One of several words, or `plugin:SLOT`.
pub(super) fn choice<T: Copy>(
    item: &Item<'_, '_>,
    choices: &[(&str, T)],
    plugin: impl Fn(Slot) -> T,
    plugins: &Plugins,
) -> Result<T, TextError> {
    match item.str()?.strip_prefix(PREFIX) {
        Some(name) => slot(item, name, plugins).map(plugin),
        None => item.choice_or(choices, Some("\"plugin:SLOT\"")),
    }
}

/// `""` or `plugin:SLOT`.
pub(super) fn optional(item: &Item<'_, '_>, plugins: &Plugins) -> Result<Option<Slot>, TextError> {
    match item.str()? {
        "" => Ok(None),
        text => {
            let name = text.strip_prefix(PREFIX);
            let name = name.ok_or_else(|| item.wrong("\"\" or \"plugin:SLOT\""))?;
            slot(item, name, plugins).map(Some)
        }
    }
}

/// Names of slots, without the prefix: nothing else may stand there.
pub(super) fn list<const N: usize>(
    item: &Item<'_, '_>,
    plugins: &Plugins,
) -> Result<Vec<Slot, N>, TextError> {
    item.list("a list of slots, [\"redact\"]", |item| slot(item, item.str()?, plugins))
}

fn slot(item: &Item<'_, '_>, name: &str, plugins: &Plugins) -> Result<Slot, TextError> {
    plugins.find(name).ok_or_else(|| item.wrong(rules::known_slots(plugins)))
}
