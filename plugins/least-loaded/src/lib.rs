//! A balancer: the upstream with the least load for its weight, the worker with the most room.
//!
//! [`pick`] decides, without bindings, and is tested as it is. `guest` is the plugin around it.

pub mod pick;

#[cfg(target_arch = "wasm32")]
mod guest;
