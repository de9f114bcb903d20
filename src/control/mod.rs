//! The control API and its client.

pub mod model;
