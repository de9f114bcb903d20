//! An authenticator: who has a URL with a fresh, signed token may play.
//!
//! [`token`] decides, without bindings, and is tested as it is. `guest` is the plugin around it.

pub mod token;

#[cfg(target_arch = "wasm32")]
mod guest;
