//! The plugin around [`pick`].

#![allow(missing_docs, reason = "generated bindings")]

use crate::pick::{self, Candidate, Settings};

wit_bindgen::generate!({ path: "../wit", world: "balancer-plugin", generate_all });

use exports::edgeweir::plugin::balancer::{
    Guest as Balancer, PipeKey, SessionKey, Upstream, Worker,
};

edgeweir_kit::lifecycle!(Settings, probe);

fn probe(_: &Settings) -> Result<(), String> {
    let busy = Candidate { id: 0, weight: 1, healthy: true, sessions: 9, ..Candidate::default() };
    let idle = Candidate { id: 1, sessions: 0, ..busy };
    match pick::upstream(Settings::default(), None, [busy, idle].into_iter()) {
        Some(1) => Ok(()),
        other => Err(format!("of a busy and an idle upstream {other:?} was chosen")),
    }
}

impl Balancer for Plugin {
    fn pick_upstream(key: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        with_settings(|at| pick::upstream(*at, key.sticky, ups.iter().map(candidate))).flatten()
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
