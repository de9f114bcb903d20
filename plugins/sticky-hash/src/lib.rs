//! A balancer: the same client, or the same path, gets the same upstream, as long as that one is not
//! loaded much more than its share.
//!
//! [`pick`] decides, without bindings, and is tested as it is. `guest` is the plugin around it.

pub mod pick;

#[cfg(target_arch = "wasm32")]
mod guest;
