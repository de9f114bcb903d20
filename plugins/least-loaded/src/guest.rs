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
        let busy =
            Candidate { id: 0, weight: 1, healthy: true, sessions: 9, ..Candidate::default() };
        let idle = Candidate { id: 1, sessions: 0, ..busy };
        match pick::upstream(Settings::default(), None, [busy, idle].into_iter()) {
            Some(1) => Ok(()),
            other => Err(format!("of a busy and an idle upstream {other:?} was chosen")),
        }
    }
}

impl Balancer for Plugin {
    fn pick_upstream(key: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        pick::upstream(settings(), key.sticky, ups.iter().map(candidate))
    }

    fn pick_worker(_: PipeKey, workers: Vec<Worker>) -> Option<u16> {
        pick::worker(workers.iter().map(|at| (at.id, at.busy_permille, at.same_node)))
    }
}

fn candidate(from: &Upstream) -> Candidate {
    Candidate {
        id: from.id,
        weight: from.weight,
        healthy: from.healthy && !from.draining,
        sessions: from.sessions,
        max_sessions: from.max_sessions,
        err_permille: from.err_permille,
        out_kbit: from.out_kbit,
    }
}
