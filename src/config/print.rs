//! [`Config`] to the text form: what a person would write, in the order of the example.
//!
//! Only what differs from the defaults, and the few keys without which the text would say too
//! little. Reading the text again gives the same configuration. Not in here: secrets, which have
//! no text form.

use core::fmt::{self, Write as _};

use super::{
    Config, Gateway, HealthCheck, Limits, Origin, Route,
    text::{AUTHS, ENDPOINTS, POLICIES, REDIRECTS, TRANSPORTS},
};

/// The text of a configuration.
pub fn print(config: &Config) -> String {
    let mut out = String::new();
    gateway(&mut out, &config.gateway);
    limits(&mut out, &config.limits);
    config.origins.iter().for_each(|each| origin(&mut out, each));
    config.routes.iter().for_each(|each| route(&mut out, each));
    out
}

fn gateway(out: &mut String, gateway: &Gateway) {
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
}

fn limits(out: &mut String, limits: &Limits) {
    let default = Limits::default();
    if *limits == default {
        return;
    }
    line(out, format_args!("\n[limits]"));
    number(out, "sessions", limits.sessions, default.sessions);
    number(out, "sessions_per_client", limits.sessions_per_client, default.sessions_per_client);
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

fn route(out: &mut String, route: &Route) {
    let default = Route::default();
    line(out, format_args!("\n[[route]]"));
    line(out, format_args!("path = {}", Quoted(&route.path)));
    let origins: Vec<_> = route.origins.iter().map(|name| Quoted(name).to_string()).collect();
    line(out, format_args!("origins = [{}]", origins.join(", ")));
    word(out, "policy", &POLICIES, route.policy, default.policy);
    word(out, "auth", &AUTHS, route.auth, default.auth);
    word(out, "origin_transport", &TRANSPORTS, route.origin_transport, default.origin_transport);
    word(out, "redirect", &REDIRECTS, route.redirect, default.redirect);
    word(out, "endpoints", &ENDPOINTS, route.endpoints, default.endpoints);
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
