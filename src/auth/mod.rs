//! Who is it: challenges and answers of RFC 7616 (digest) and RFC 7617 (basic), both ways.
//!
//! * [`server`]: the gateway challenges players and checks their answers.
//! * [`client`]: the gateway answers the challenges of origins.
//! * [`digest`]: what both share: the grammar of the headers and the arithmetic.
//! * [`secret`]: values that never reach a log.
//!
//! Not in here: where users and passwords are kept (config, flash), random numbers and time (both
//! are arguments), and the `pass` mode, in which the gateway looks at none of this.

pub mod client;
pub mod digest;
pub mod secret;
pub mod server;

pub use self::{
    client::{Credentials, Signer},
    secret::Secret,
    server::{Account, Decision, Verifier},
};
