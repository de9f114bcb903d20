//! A guest that misbehaves as its configuration says: `tests/guests/README.md` has the list.

#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, reason = "a guest of WebAssembly"))]

mod plan;

#[cfg(target_arch = "wasm32")]
mod deeds;
#[cfg(target_arch = "wasm32")]
mod guest;
