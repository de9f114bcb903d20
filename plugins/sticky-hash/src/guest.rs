//! The plugin around [`pick`].

#![allow(missing_docs, reason = "generated bindings")]

use std::cell::OnceCell;

use crate::pick::{self, Candidate, Settings};

wit_bindgen::generate!({ path: "../wit", world: "balancer-plugin", generate_all });

use exports::edgeweir::plugin::{
    balancer::{Guest as Balancer, PipeKey, SessionKey, Upstream, Worker},
    lifecycle::{Guest as Lifecycle, Handover, Info, InitError},
};

thread_local! {
    static SETTINGS: OnceCell<Settings> = const { OnceCell::new() };
}

fn settings() -> Settings {
    SETTINGS.with(|settings| settings.get().copied().unwrap_or_default())
}

struct Plugin;
export!(Plugin);

impl Lifecycle for Plugin {
    fn describe() -> Info {
        Info {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_schema: include_str!("../config.schema.json").to_owned(),
        }
    }

    fn init(config: Vec<u8>, _: Option<Handover>) -> Result<(), InitError> {
        let read = Settings::parse(&config).map_err(InitError::BadConfig)?;
        let _ = SETTINGS.with(|settings| settings.set(read)); // `init` is called once
        Ok(())
    }

    fn snapshot() -> Vec<u8> {
        Vec::new()
    }

    fn probe() -> Result<(), String> {
        let one = Candidate { id: 0, weight: 1, healthy: true, ..Candidate::default() };
        let both = [one, Candidate { id: 1, ..one }];
        let first = |key| pick::upstream(Settings::default(), key, both.into_iter());
        if (0..16).all(|key| first(key).is_some() && first(key) == first(key)) {
            Ok(())
        } else {
            Err("the same key got two upstreams".to_owned())
        }
    }
}

impl Balancer for Plugin {
    fn pick_upstream(key: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        let settings = settings();
        let key = settings.key(key.client_ip_hash, key.path_hash);
        pick::upstream(settings, key, ups.iter().map(candidate))
    }

    fn pick_worker(_: PipeKey, _: Vec<Worker>) -> Option<u16> {
        None
    }
}

fn candidate(from: &Upstream) -> Candidate {
    Candidate {
        id: from.id,
        weight: from.weight,
        healthy: from.healthy && !from.draining,
        sessions: from.sessions,
        max_sessions: from.max_sessions,
    }
}
