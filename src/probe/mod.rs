//! probe
mod stats;
