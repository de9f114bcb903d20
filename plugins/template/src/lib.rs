//! A filter to begin with: it adds one header to the requests that go to a camera.
//!
//! [`label`] holds what can be tested without a gateway. `guest` is the plugin around it.

pub mod label;

#[cfg(target_arch = "wasm32")]
mod guest;
