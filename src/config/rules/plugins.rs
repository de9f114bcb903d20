//! Rules for slots, their JSON, and the places that name them.

use serde_json::Value;

use super::{Broken, broken, name, number, quoted};
use crate::{
    config::{Auth, Plugins, Policy, Route, Slot},
    limits::{PLUGIN_CONFIG_DEPTH_MAX, TRUSTED_KEY_BYTES},
};

/// What a public key may be.
pub(in crate::config) const TRUSTED_KEY: &str =
    "the second line of a public key file of minisign, 56 characters from `RW` on";
/// How deep the tables of a `[plugin.config]` may be.
pub(in crate::config) const JSON_DEPTH: &str = "tables and lists at most 8 deep";

pub(super) fn check(plugins: &Plugins) -> Result<(), Broken> {
    for (at, key) in plugins.trusted_keys.iter().enumerate() {
        let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
        let good =
            key.len() == TRUSTED_KEY_BYTES && key.starts_with("RW") && key.bytes().all(base64);
        let place = format!("plugins.trusted_keys[{at}]");
        if !good {
            return Err(broken(&place, quoted(key), TRUSTED_KEY));
        }
        if plugins.trusted_keys.iter().take(at).any(|other| other == key) {
            return Err(broken(&place, quoted(key), "each key once"));
        }
    }
    if plugins.require_signature && plugins.trusted_keys.is_empty() {
        let allowed = "true only beside plugins.trusted_keys";
        return Err(broken("plugins.require_signature", "true", allowed));
    }
    number("plugins.max_kib", plugins.max_kib)?;
    let mut left: &str = &plugins.configs;
    for (at, plugin) in plugins.slots.iter().enumerate() {
        let key = format!("plugin[{at}].slot");
        name(&key, &plugin.slot)?;
        let taken = plugins.slots.iter().take(at).position(|other| other.slot == plugin.slot);
        if let Some(first) = taken {
            let allowed = format!("a name that plugin[{first}] has not taken");
            return Err(broken(&key, quoted(&plugin.slot), allowed));
        }
        let Some((json, rest)) = left.split_at_checked(plugin.config_bytes.into()) else {
            return Err(broken("plugin", "lengths that do not fit", "those of the texts"));
        };
        left = rest;
        json_object(&format!("plugin[{at}].config"), json)?;
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(broken("plugin", "lengths that do not fit", "those of the texts"))
}

/// Only a stored image can break this: the text form writes nothing else.
fn json_object(key: &str, json: &str) -> Result<(), Broken> {
    if json.is_empty() {
        return Ok(());
    }
    match serde_json::from_str(json) {
        Ok(value @ Value::Object(_)) if !fits(&value, 0) => {
            Err(broken(key, "more, null, or a larger number than 64 bits hold", JSON_DEPTH))
        }
        Ok(Value::Object(_)) => Ok(()),
        _ => Err(broken(key, "something else", "a JSON object")),
    }
}

fn fits(value: &Value, depth: usize) -> bool {
    depth < PLUGIN_CONFIG_DEPTH_MAX
        && match value {
            Value::Null => false,
            // TOML has integers of 64 bits with a sign.
            Value::Number(number) => !number.is_u64() || number.is_i64(),
            Value::Array(values) => values.iter().all(|value| fits(value, depth + 1)),
            Value::Object(values) => values.values().all(|value| fits(value, depth + 1)),
            _ => true,
        }
}

pub(super) fn check_route(at: usize, route: &Route, plugins: &Plugins) -> Result<(), Broken> {
    if let Policy::Plugin(slot) = route.policy {
        known(&format!("route[{at}].policy"), slot, plugins)?;
    }
    if let Auth::Plugin(slot) = route.auth {
        known(&format!("route[{at}].auth"), slot, plugins)?;
    }
    for (place, slot) in route.filters.iter().enumerate() {
        let key = format!("route[{at}].filters[{place}]");
        known(&key, *slot, plugins)?;
        if route.filters.iter().take(place).any(|other| other == slot) {
            return Err(broken(&key, quoted(plugins.name(*slot)), "each slot once"));
        }
    }
    Ok(())
}

/// Only a stored image can break this: the text form knows slots by name.
pub(super) fn known(key: &str, slot: Slot, plugins: &Plugins) -> Result<(), Broken> {
    match plugins.get(slot) {
        Some(_) => Ok(()),
        None => Err(broken(key, format!("slot number {}", slot.0), known_slots(plugins))),
    }
}

/// The words for what may stand where a slot is named.
pub(in crate::config) fn known_slots(plugins: &Plugins) -> String {
    if plugins.slots.is_empty() {
        return "the slot of a [[plugin]], and there is none".to_owned();
    }
    let names: Vec<_> = plugins.slots.iter().map(|plugin| quoted(&plugin.slot)).collect();
    format!("the slot of a [[plugin]]: {}", names.join(", "))
}
