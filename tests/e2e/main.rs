//! End to end: real players and real origins, through the gateway as it is run.
//!
//! `tests/setup.sh` installs the peers. Each test keeps what its peers said under
//! `target/peers/run/`, and removes it when it passes. Ports are free ones, nothing on the machine
//! is stopped but what a test started. The tests in [`hosts`] and [`slow_link`] need root for network
//! namespaces.
//!
//! Not in here: what a transcript or a simulation can show, and capacity (`tests/capacity.rs`).

// A test that cannot go on panics; that is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

#[path = "../harness/mod.rs"]
mod harness;

mod auth;
mod baseline;
mod failure;
mod hostile;
mod hosts;
mod neighbour;
mod play;
mod plugins;
mod publish;
mod slow;
mod slow_link;
