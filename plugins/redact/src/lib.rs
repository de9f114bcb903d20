//! A filter: takes headers and SDP lines that are nobody's business out of messages.
//!
//! [`lists`] decides, without bindings, and is tested as it is. `guest` is the plugin around it.

pub mod lists;

#[cfg(target_arch = "wasm32")]
mod guest;
