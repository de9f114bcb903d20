//! A guest that uses all of `edgeweir:plugin`: what it takes to say that a version still loads.
//!
//! `probe` calls every host function, `on-message` every function of a message. The answers of the
//! hooks are fixed: the last upstream and worker of the list, user `compat` for 60 s, and a header
//! `X-Compat` that holds what the getters said.

#[cfg(target_arch = "wasm32")]
mod guest;
