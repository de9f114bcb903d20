//! The control API: HTTP/1.1 on a Unix socket, and on TCP when the configuration says so.
//!
//! * [`model`]: what is said, as types.
//! * [`gateway`]: what the server asks of the gateway behind it.
//! * [`api`]: one request to one answer, without sockets.
//! * [`metrics`]: the figures in the text format of Prometheus.
//! * [`socket`]: the Unix socket: its mode, and the leftovers of a gateway that died.
//! * [`server`]: connections, their bounds and timeouts, the bearer token.
//! * [`client`]: the other end, for the command line.
//!
//! Not in here: where the figures come from and what a change does (proxy), and how either is shown
//! to people (cli).

pub mod api;
pub mod client;
pub mod gateway;
pub mod metrics;
pub mod model;
pub mod server;
pub mod socket;
mod strangers;
mod survey;
