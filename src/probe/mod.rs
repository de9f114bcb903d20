//! Plays a URL and says what came: tracks, packets, loss, jitter, time to the first packet.
//!
//! ```text
//! play: OPTIONS, DESCRIBE, SETUP, PLAY ... TEARDOWN ──> client ──> the server
//!   describe: SDP    legs: sockets, channels    stats: RFC 3550    report: what is said
//! survey: what a camera is and what is wrong with it, from one look at each thing that can be
//! ```
//!
//! It decodes nothing: whether pictures are right is for a player to say.
//!
//! Not in here: printing (the command line does), RTSP/2.0, multicast, TLS.

mod client;
mod describe;
mod legs;
mod play;
mod report;
mod stats;
pub mod survey;

use core::fmt;
use std::io;

pub use self::{
    client::apart,
    report::{Report, TrackReport},
};
use crate::camera::wire::WireError;

/// How media is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// RTP over UDP, unicast.
    #[default]
    Udp,
    /// Interleaved in the RTSP connection.
    Tcp,
}

/// What to play.
#[derive(Clone)]
pub struct Options {
    /// An `rtsp` URL; user and password in it answer challenges and are sent nowhere else.
    pub url: String,
    /// How media is asked for.
    pub transport: Transport,
    /// How long to receive, in seconds from PLAY on; at least 1.
    pub seconds: u32,
    /// Ports to receive on, first and last; none: any.
    pub ports: Option<(u16, u16)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { url: String::new(), transport: Transport::Udp, seconds: 10, ports: None }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Options")
            .field("transport", &self.transport)
            .field("seconds", &self.seconds)
            .finish_non_exhaustive()
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum ProbeError {
    /// The URL is none that can be played.
    Url,
    /// The URL asks for RTSP over TLS.
    Tls,
    /// A host name that leads nowhere, and why.
    Name(String, io::Error),
    /// Host, port and why there is no connection.
    Connect(String, u16, io::Error),
    /// No answer to this method in time.
    Silent(&'static str),
    /// What was refused, and the status line.
    Refused(&'static str, String),
    /// The server closed the connection.
    Closed,
    /// The connection broke.
    Lost(io::Error),
    /// No UDP ports, or they broke.
    Ports(io::Error),
    /// The server sends what is past a bound or no RTSP.
    Wire(WireFault),
    /// The server's answer makes no sense.
    NotRtsp(&'static str),
}

/// A fault in the framing of what the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireFault(WireError);

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => {
                f.write_str("not an RTSP URL; it looks like rtsp://user:password@host:554/path")
            }
            Self::Tls => f.write_str("RTSP over TLS (rtsps://) is not there yet; try rtsp://"),
            Self::Name(host, error) => {
                write!(
                    f,
                    "{host} has no address: {error}; is the name right, and its server there?"
                )
            }
            Self::Connect(host, port, error) => write!(
                f,
                "cannot connect to {host} port {port}: {error}; is the server running there?"
            ),
            Self::Silent(method) => write!(f, "no answer to {method} within 10 s"),
            Self::Refused(what, status) => {
                let status: String =
                    status.chars().filter(|it| !it.is_control()).take(80).collect();
                write!(f, "{what} was answered with {status}{}", remedy(&status))
            }
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Lost(error) => write!(f, "the connection broke: {error}"),
            Self::Ports(error) => write!(f, "no UDP ports to receive on: {error}; try tcp"),
            Self::Wire(WireFault(error)) => write!(f, "the server sent {error}"),
            Self::NotRtsp(what) => write!(f, "the answer makes no sense: {what}"),
        }
    }
}

/// What to do about a refusal.
fn remedy(status_line: &str) -> &'static str {
    match status_line.split(' ').nth(1) {
        Some("401") => "; rtsp://user:password@ in the URL is missing or wrong",
        Some("403") => "; the server has a rule against it",
        Some("404") => {
            "; is the path right? At a gateway, `edgeweir config export` lists the routes"
        }
        Some("453") => "; it has as many sessions as it takes",
        Some("461") => "; try the other --transport",
        Some("502" | "503" | "504") => {
            "; a gateway's camera or recorder may be away, `edgeweir status` there says why"
        }
        _ => "",
    }
}

impl core::error::Error for ProbeError {}

/// Plays `options.url` for its time and says what came. `on_tick` is called once a second with the
/// figures so far.
///
/// # Errors
/// No session could be set up, or it broke before its time. That no media came is no error:
/// [`Report::media_flowed`] says it.
pub async fn run(options: Options, mut on_tick: impl FnMut(&Report)) -> Result<Report, ProbeError> {
    play::run(&options, &mut on_tick).await
}

#[cfg(test)]
mod tests;
