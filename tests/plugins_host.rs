//! The plugin host against guests that behave and guests that do not, without a gateway around it.
//!
//! Guests are built by `make plugins`; each hostile one has a test with its name: what the session
//! gets, what the slot says of it, and that other slots go on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#![cfg(feature = "compiler")]

#[path = "plugins_host/asked.rs"]
mod asked;
#[path = "plugins_host/bounds.rs"]
mod bounds;
#[path = "plugins_host/check.rs"]
mod check;
#[path = "plugins_host/compile.rs"]
mod compile;
#[path = "plugins_host/hostile.rs"]
mod hostile;
#[path = "plugins_host/life.rs"]
mod life;
#[path = "plugins_host/shapes.rs"]
mod shapes;
#[path = "plugins_host/support.rs"]
mod support;
