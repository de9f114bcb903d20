//! The plugin around [`token`](crate::token).

#![allow(missing_docs, reason = "generated bindings")]

use crate::token::{self, Refusal, Settings};

wit_bindgen::generate!({ path: "../wit", world: "authenticator-plugin", generate_all });

use edgeweir::plugin::{
    host_clock, host_credentials,
    host_log::{self, Level},
    host_metrics,
    types::{Client, Message},
};
use exports::edgeweir::plugin::authenticator::{Decision, Grant, Guest as Authenticator};

edgeweir_kit::lifecycle!(Settings, probe);

fn probe(settings: &Settings) -> Result<(), String> {
    match host_credentials::hmac_sha256(&settings.key, b"probe") {
        Some(mac) if mac.len() == 32 => Ok(()),
        Some(mac) => Err(format!("a signature of {} bytes in place of 32", mac.len())),
        None => Err(format!("the gateway has no key \"{}\"", settings.key)),
    }
}

impl Authenticator for Plugin {
    fn authenticate(client: Client, message: &Message) -> Decision {
        with_settings(|settings| decide(settings, &client, message)).unwrap_or(Decision::Deny(503))
    }
}

fn decide(settings: &Settings, client: &Client, message: &Message) -> Decision {
    let sign = |data: &[u8]| host_credentials::hmac_sha256(&settings.key, data);
    let now_s = host_clock::unix_ms() / 1000;
    let refusal = match token::check(settings, &message.uri(), now_s, sign) {
        Ok(user) => {
            host_metrics::counter_add("accepted", 1);
            return Decision::Allow(Grant { user, ttl_s: settings.session_s, roles: Vec::new() });
        }
        Err(Refusal::Missing) if settings.abstain => return Decision::Abstain,
        Err(refusal) => refusal,
    };
    let name = refusal.name();
    host_metrics::counter_add(&format!("refused_{name}"), 1);
    let ours = matches!(refusal, Refusal::NoClock | Refusal::NoKey);
    // The token itself is never logged: it may still be good for somebody.
    let level = if ours { Level::Error } else { Level::Info };
    host_log::log(level, &format!("refused {}: {name}", client.ip));
    Decision::Deny(if ours { 503 } else { 403 })
}
