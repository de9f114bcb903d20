//! Types and functions of `edgeweir:plugin@1.0.0`, generated from `plugins/wit`.
//!
//! Not in here: anything written by hand. Hooks are looked up by the interface that is exported, so
//! the world below is never asked for as a whole.

#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]

wasmtime::component::bindgen!({
    path: "plugins/wit",
    inline: "
        package edgeweir:host;
        world host {
            include edgeweir:plugin/imports@1.0.0;
            import edgeweir:plugin/host-credentials@1.0.0;
            export edgeweir:plugin/lifecycle@1.0.0;
            export edgeweir:plugin/balancer@1.0.0;
            export edgeweir:plugin/authenticator@1.0.0;
            export edgeweir:plugin/filter@1.0.0;
        }
    ",
    world: "edgeweir:host/host",
    with: { "edgeweir:plugin/types.message": super::message::Lent },
    imports: { default: trappable },
});

pub use self::edgeweir::plugin::{
    host_clock, host_credentials, host_kv, host_log, host_metrics, host_random, types,
};
pub use self::exports::edgeweir::plugin::{authenticator, balancer, filter, lifecycle};
