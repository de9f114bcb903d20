//! SIGTERM and SIGINT stop the gateway, SIGHUP makes it read its configuration again.

use std::io;

use async_signal::Signals as Source;
use smol::stream::StreamExt;

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Drain and stop.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Signals of this process.
pub(super) struct Signals(Source);

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        use async_signal::Signal::{Hup, Int, Term};
        Source::new([Hup, Int, Term]).map(Self)
    }

    pub(super) async fn next(&mut self) -> Signal {
        loop {
            match self.0.next().await {
                Some(Ok(async_signal::Signal::Hup)) => return Signal::Reload,
                Some(Ok(_)) => return Signal::Stop,
                Some(Err(_)) => {}
                None => core::future::pending().await,
            }
        }
    }
}
