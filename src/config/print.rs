//! [`Config`] to the text form: what a person would write, in the order of the example.
//!
//! Only what differs from the defaults, and the few keys without which the text would say too
//! little. Reading the text again gives the same configuration. Not in here: secrets, which have
//! no text form.

use core::fmt::{self, Write as _};

use serde_json::Value;

use super::{
    Auth, Config, Gateway, HealthCheck, Limits, Origin, Plugins, Policy, Route, Slot, Strip,
    text::{
        AUTHS, ENDPOINTS, METHODS, POLICIES, REDIRECTS, TRANSPORTS,
        plugins::{ON_FAULT, PREFIX},
    },
};

/// The text of a configuration.
pub fn print(config: &Config) -> String {
    let mut out = String::new();
    let names = &config.plugins;
    gateway(&mut out, &config.gateway, names);
    limits(&mut out, &config.limits);
    config.origins.iter().for_each(|each| origin(&mut out, each));
    plugins(&mut out, &config.plugins);
    config.routes.iter().for_each(|each| route(&mut out, each, names));
    out
}

fn gateway(out: &mut String, gateway: &Gateway, names: &Plugins) {
    let default = Gateway::default();
    line(out, format_args!("[gateway]"));
    let listen: Vec<_> = gateway.listen.iter().map(|each| format!("\"{each}\"")).collect();
    line(out, format_args!("listen = [{}]", listen.join(", ")));
    let ports = gateway.media_ports;
    line(out, format_args!("media_ports = \"{}-{}\"", ports.first, ports.last));
    if let Some(address) = gateway.advertise {
        line(out, format_args!("advertise = \"{address}\""));
    }
    number(out, "workers", gateway.workers, default.workers);
    if gateway.via != default.via {
        line(out, format_args!("via = {}", Quoted(&gateway.via)));
    }
    if let Some(address) = gateway.control {
        line(out, format_args!("control = \"{address}\""));
    }
    number(out, "coalesce_us", gateway.coalesce_us, default.coalesce_us);
    if let Some(slot) = gateway.worker_policy {
        plugin(out, "worker_policy", slot, names);
    }
}

fn limits(out: &mut String, limits: &Limits) {
    let default = Limits::default();
    if *limits == default {
        return;
    }
    line(out, format_args!("\n[limits]"));
    number(out, "sessions", limits.sessions, default.sessions);
    number(out, "sessions_per_client", limits.sessions_per_client, default.sessions_per_client);
    let connections = limits.connections_per_client;
    number(out, "connections_per_client", connections, default.connections_per_client);
    number(out, "tracks_per_client", limits.tracks_per_client, default.tracks_per_client);
    number(out, "half_open", limits.half_open, default.half_open);
    number(out, "head_timeout_s", limits.head_timeout_s, default.head_timeout_s);
    number(out, "idle_timeout_s", limits.idle_timeout_s, default.idle_timeout_s);
    number(out, "answer_timeout_s", limits.answer_timeout_s, default.answer_timeout_s);
    number(out, "silence_timeout_s", limits.silence_timeout_s, default.silence_timeout_s);
    number(out, "media_queue_kib", limits.media_queue_kib, default.media_queue_kib);
    number(out, "media_queue_ms", limits.media_queue_ms, default.media_queue_ms);
    if limits.detached_sessions != default.detached_sessions {
        line(out, format_args!("detached_sessions = {}", limits.detached_sessions));
    }
}

fn origin(out: &mut String, origin: &Origin) {
    let default = Origin::default();
    line(out, format_args!("\n[[origin]]"));
    line(out, format_args!("name = {}", Quoted(&origin.name)));
    line(out, format_args!("url = {}", Quoted(&origin.url)));
    number(out, "weight", origin.weight, default.weight);
    number(out, "max_sessions", origin.max_sessions, default.max_sessions);
    if let Some(name) = &origin.credentials {
        line(out, format_args!("credentials = {}", Quoted(name)));
    }
    match &origin.check {
        HealthCheck::Options => {}
        HealthCheck::Off => line(out, format_args!("check = \"off\"")),
        HealthCheck::Describe(path) => {
            line(out, format_args!("check = {}", Quoted(&format!("describe {path}"))));
        }
    }
    number(out, "check_interval_s", origin.check_interval_s, default.check_interval_s);
}

fn plugins(out: &mut String, plugins: &Plugins) {
    let default = Plugins::default();
    let Plugins { require_signature, trusted_keys, max_kib, slots, .. } = plugins;
    if *require_signature || !trusted_keys.is_empty() || *max_kib != default.max_kib {
        line(out, format_args!("\n[plugins]"));
        if *require_signature {
            line(out, format_args!("require_signature = true"));
        }
        if !trusted_keys.is_empty() {
            let keys: Vec<_> = trusted_keys.iter().map(|key| Quoted(key).to_string()).collect();
            line(out, format_args!("trusted_keys = [{}]", keys.join(", ")));
        }
        number(out, "max_kib", *max_kib, default.max_kib);
    }
    for (each, at) in slots.iter().zip(0..) {
        line(out, format_args!("\n[[plugin]]"));
        line(out, format_args!("slot = {}", Quoted(&each.slot)));
        word(out, "on_fault", &ON_FAULT, each.on_fault, Default::default());
        // The rules have seen that it is an object.
        if each.config_bytes > 0
            && let Ok(Value::Object(config)) = serde_json::from_str(plugins.config(Slot(at)))
        {
            line(out, format_args!("[plugin.config]"));
            for (key, value) in &config {
                line(out, format_args!("{} = {}", Key(key), Toml(value)));
            }
        }
    }
}

fn plugin(out: &mut String, key: &str, slot: Slot, names: &Plugins) {
    line(out, format_args!("{key} = {}", Quoted(&format!("{PREFIX}{}", names.name(slot)))));
}

fn route(out: &mut String, route: &Route, names: &Plugins) {
    let default = Route::default();
    line(out, format_args!("\n[[route]]"));
    line(out, format_args!("path = {}", Quoted(&route.path)));
    let origins: Vec<_> = route.origins.iter().map(|name| Quoted(name).to_string()).collect();
    line(out, format_args!("origins = [{}]", origins.join(", ")));
    match route.policy {
        Policy::Plugin(slot) => plugin(out, "policy", slot, names),
        policy => word(out, "policy", &POLICIES, policy, default.policy),
    }
    match route.auth {
        Auth::Plugin(slot) => plugin(out, "auth", slot, names),
        auth => word(out, "auth", &AUTHS, auth, default.auth),
    }
    word(out, "origin_transport", &TRANSPORTS, route.origin_transport, default.origin_transport);
    word(out, "redirect", &REDIRECTS, route.redirect, default.redirect);
    word(out, "endpoints", &ENDPOINTS, route.endpoints, default.endpoints);
    if route.methods != default.methods {
        let words = METHODS.iter().filter(|(_, group)| route.methods.has(*group));
        let words: Vec<_> = words.map(|(word, _)| format!("\"{word}\"")).collect();
        line(out, format_args!("methods = [{}]", words.join(", ")));
    }
    match route.strip {
        Strip::Auto => {}
        Strip::Yes => line(out, format_args!("strip = true")),
        Strip::No => line(out, format_args!("strip = false")),
    }
    if !route.filters.is_empty() {
        let filters = route.filters.iter().map(|slot| Quoted(names.name(*slot)).to_string());
        line(out, format_args!("filters = [{}]", filters.collect::<Vec<_>>().join(", ")));
    }
}

fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn number<T: PartialEq + fmt::Display>(out: &mut String, key: &str, value: T, default: T) {
    if value != default {
        line(out, format_args!("{key} = {value}"));
    }
}

fn word<T: PartialEq>(out: &mut String, key: &str, words: &[(&str, T)], value: T, default: T) {
    if value == default {
        return;
    }
    if let Some((word, _)) = words.iter().find(|(_, each)| *each == value) {
        line(out, format_args!("{key} = \"{word}\""));
    }
}

/// A key of TOML: bare where it may be.
struct Key<'a>(&'a str);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match !self.0.is_empty() && self.0.bytes().all(bare) {
            true => f.write_str(self.0),
            false => Quoted(self.0).fmt(f),
        }
    }
}

/// A JSON value as TOML, on one line. There is no null: the rules refuse it.
struct Toml<'a>(&'a Value);

impl fmt::Display for Toml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("\"\""),
            Value::Bool(value) => value.fmt(f),
            Value::Number(value) => value.fmt(f),
            Value::String(text) => Quoted(text).fmt(f),
            Value::Array(values) => {
                f.write_char('[')?;
                for (at, value) in values.iter().enumerate() {
                    write!(f, "{}{}", if at > 0 { ", " } else { "" }, Toml(value))?;
                }
                f.write_char(']')
            }
            Value::Object(values) => {
                f.write_char('{')?;
                for (at, (key, value)) in values.iter().enumerate() {
                    write!(f, "{} {} = {}", if at > 0 { "," } else { "" }, Key(key), Toml(value))?;
                }
                f.write_str(if values.is_empty() { "}" } else { " }" })
            }
        }
    }
}

/// A TOML basic string.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for each in self.0.chars() {
            match each {
                '"' | '\\' => write!(f, "\\{each}")?,
                _ if each.is_control() => write!(f, "\\u{:04X}", u32::from(each))?,
                _ => f.write_char(each)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{image::tests::seeded, text};

    #[test]
    fn what_is_printed_reads_back_as_the_same_configuration() {
        for seed in 0..300 {
            let config = seeded(seed);
            let text = print(&config);
            let again = text::parse(&text).map_err(|e| format!("seed {seed}: {e}\n{text}"));
            assert_eq!(again.as_ref(), Ok(&*config), "seed {seed}\n{text}");
        }
    }

    #[test]
    fn defaults_are_not_printed() {
        assert_eq!(
            print(&Config::default()),
            "[gateway]\nlisten = [\"0.0.0.0:8554\"]\nmedia_ports = \"20000-23999\"\n"
        );
    }

    #[test]
    fn odd_characters_are_escaped() {
        assert_eq!(Quoted("a\"\\\u{1}é").to_string(), "\"a\\\"\\\\\\u0001é\"");
    }
}
