//! The plugin around [`pick`].

#![allow(missing_docs, reason = "generated bindings")]

use crate::pick::{self, Candidate, Settings};

wit_bindgen::generate!({ path: "../wit", world: "balancer-plugin", generate_all });

use exports::edgeweir::plugin::balancer::{
    Guest as Balancer, PipeKey, SessionKey, Upstream, Worker,
};

edgeweir_kit::lifecycle!(Settings, probe);

fn probe(_: &Settings) -> Result<(), String> {
    let one = Candidate { id: 0, weight: 1, healthy: true, ..Candidate::default() };
    let both = [one, Candidate { id: 1, ..one }];
    let first = |key| pick::upstream(Settings::default(), key, both.into_iter());
    if (0..16).all(|key| first(key).is_some() && first(key) == first(key)) {
        Ok(())
    } else {
        Err("the same key got two upstreams".to_owned())
    }
}

impl Balancer for Plugin {
    fn pick_upstream(key: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        with_settings(|settings| {
            let key = settings.key(key.client_ip_hash, key.path_hash);
            pick::upstream(*settings, key, ups.iter().map(candidate))
        })
        .flatten()
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
