//! What an operator may change without a new release: hooks that WASM components answer.
//!
//! [`hooks`] is what the gateway asks, in plain types. Whether a component, a built-in policy or a
//! test answers is invisible to who asks.
//!
//! Not in here: RTP, which no hook ever sees, and RTSP's rules, which no hook can change.

pub mod hooks;
