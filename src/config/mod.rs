//! What the gateway is told: the schema of the configuration, in bounded types only.
//!
//! ```text
//!   TOML text --text--> Config --rules--> Config that may run --image--> bytes for the store
//!             <--print-                                       <--image--
//! ```
//!
//! - `text` reads what people write, `print` writes what they read; `rules` is the one place
//!   that says which values are allowed, whichever way they came in.
//! - `image` is the form on flash, `secrets` what must never be printed, `diff` what a change
//!   means for a running gateway.
//!
//! Not in here: files, flash, clocks. Those are the room `flash` and the command line (`cli`,
//! the only part of this room that opens files).

use core::net::{IpAddr, SocketAddr};

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use crate::limits::{
    LISTEN_MAX, NAME_MAX_BYTES, ORIGIN_URL_MAX_BYTES, ORIGINS_MAX, ROUTE_FILTERS_MAX,
    ROUTE_ORIGINS_MAX, ROUTE_PATH_MAX_BYTES, ROUTES_MAX,
};

pub mod cli;
mod defaults;
pub mod diff;
pub mod image;
mod list;
mod methods;
mod plugins;
pub mod print;
mod reader;
pub mod rules;
pub mod secrets;
mod size;
pub mod text;
mod v1;
mod v2;
mod warnings;

pub use self::{
    list::List,
    methods::{MethodGroup, Methods},
    plugins::{NoRoom, OnFault, Plugin, Plugins, Slot},
    warnings::warnings,
};

/// A commented configuration that parses, printed by `edgeweir config example`.
pub const EXAMPLE: &str = include_str!("example.toml");

/// A name of an origin, user or credential.
pub type Name = String<NAME_MAX_BYTES>;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The gateway itself.
    pub gateway: Gateway,
    /// Bounds that an installer may change.
    pub limits: Limits,
    /// The servers behind the gateway.
    pub origins: List<Origin, ORIGINS_MAX>,
    /// Which paths lead to which origins.
    pub routes: List<Route, ROUTES_MAX>,
    /// Slots for plugins, and who may fill them.
    pub plugins: Plugins,
}

/// `[gateway]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// Addresses that accept players. Default: `0.0.0.0:8554`.
    pub listen: Vec<SocketAddr, LISTEN_MAX>,
    /// UDP ports for media; even base, pairs are taken from here. Default: 20000 to 23999.
    pub media_ports: PortRange,
    /// Address named to players in URLs and Transport; none: that of the player's connection.
    pub advertise: Option<IpAddr>,
    /// Worker threads; 0: one for each core.
    pub workers: u8,
    /// Pseudonym in Via; empty: no Via in RTSP/1.0.
    pub via: Name,
    /// Address of the control API over TCP (bearer token needed); none: Unix socket only.
    pub control: Option<SocketAddr>,
    /// How long a worker may let bursts gather before it reads on, in microseconds, 0 to 500; 0
    /// switches gathering off. Default 300.
    pub coalesce_us: u16,
    /// The slot that chooses the worker of a pipe; none: the least loaded.
    pub worker_policy: Option<Slot>,
}

/// UDP ports, both ends included; `first` is even, `last` odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest port, even.
    pub first: u16,
    /// The highest port, odd.
    pub last: u16,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Sessions at once. Default 512.
    pub sessions: u16,
    /// Sessions at once from one client address (IPv6: one /64). Default 256: a VMS has one a camera.
    pub sessions_per_client: u16,
    /// Connections at once from one client address (IPv6: one /64). Default 320.
    pub connections_per_client: u16,
    /// Tracks that are set up at once for one client address, each of which may take four ports.
    /// Default 1024.
    pub tracks_per_client: u16,
    /// Connections that have not yet sent one whole request. Default 128.
    pub half_open: u16,
    /// Seconds that a client may take for one whole message head. Default 10.
    pub head_timeout_s: u16,
    /// Seconds without a request or RTCP from the client after which a session ends. Default 60.
    pub idle_timeout_s: u16,
    /// Seconds an origin has for an answer. Default 10 (RFC 7826 10.4).
    pub answer_timeout_s: u16,
    /// Seconds of silence of an origin that promised media after which a session ends; 0: it never
    /// does for that. Default 10.
    pub silence_timeout_s: u16,
    /// Media waiting for a slow interleaved peer, in KiB. Default 512.
    pub media_queue_kib: u16,
    /// Age of media waiting for a slow interleaved peer, in milliseconds. Default 2000.
    pub media_queue_ms: u16,
    /// Whether a UDP session outlives its RTSP connection (RFC 2326). Default false.
    pub detached_sessions: bool,
}

/// `[[origin]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name, unique.
    pub name: Name,
    /// `rtsp://host[:port][/path[?query]]`, without user information. Where the route does not say
    /// otherwise, a path replaces the literal part of the route's path.
    pub url: String<ORIGIN_URL_MAX_BYTES>,
    /// Share of sessions, 1 to 100. Default 1.
    pub weight: u8,
    /// Sessions at once; 0: no bound. Default 0.
    pub max_sessions: u16,
    /// Name of the credentials the gateway signs with.
    pub credentials: Option<Name>,
    /// Active health check.
    pub check: HealthCheck,
    /// Seconds between active checks. Default 10.
    pub check_interval_s: u16,
}

/// How an origin is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HealthCheck {
    /// Not at all: only what sessions meet counts.
    Off,
    /// OPTIONS. The default.
    Options,
    /// DESCRIBE of a path at the origin.
    Describe(String<ROUTE_PATH_MAX_BYTES>),
}

/// `[[route]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `/live/*`: `*` matches one segment, `**` the rest; the longest match wins.
    pub path: String<ROUTE_PATH_MAX_BYTES>,
    /// Names of origins, in order.
    pub origins: Vec<Name, ROUTE_ORIGINS_MAX>,
    /// How one of them is chosen. Default `least-sessions`.
    pub policy: Policy,
    /// Who checks the client. Default `pass`.
    pub auth: Auth,
    /// Transport toward the origin. Default `same`.
    pub origin_transport: OriginTransport,
    /// What happens to a REDIRECT or 3xx whose target is no configured origin. Default `refuse`.
    pub redirect: Redirect,
    /// Whether media may come from another port than announced. Default `learn`.
    pub endpoints: Endpoints,
    /// What players may ask for where the gateway signs for them. Default `play`.
    pub methods: Methods,
    /// Whether the literal part of the path is taken off toward the origin. Default `auto`.
    pub strip: Strip,
    /// The slots that see its messages: toward the origin in order, toward the client in reverse.
    pub filters: Vec<Slot, ROUTE_FILTERS_MAX>,
}

/// How an origin is chosen for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// One after the other, by weight.
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastSessions,
    /// The one with the least traffic for its weight.
    LeastTraffic,
    /// By the client's address.
    HashClient,
    /// By the request's path.
    HashPath,
    /// The first that is well.
    First,
    /// By chance, by weight.
    Random,
    /// A plugin; where it has no opinion, as `LeastSessions`.
    Plugin(Slot),
}

/// Who checks the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Auth {
    /// End to end: challenges and answers pass through, and the URI a client signed is kept.
    Pass,
    /// Nobody; the gateway signs toward the origin.
    None,
    /// The gateway, RFC 7616 digest.
    Digest,
    /// The gateway, Basic.
    Basic,
    /// A plugin.
    Plugin(Slot),
}

/// Transport toward the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OriginTransport {
    /// As the client asked.
    Same,
    /// UDP, whatever the client uses.
    Udp,
    /// Interleaved, whatever the client uses.
    Tcp,
}

/// What happens to a redirect to a place that is no configured origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Redirect {
    /// The client is told as the origin said it.
    Pass,
    /// The client gets 502, the log the target.
    Refuse,
    /// The gateway goes there itself, for the player.
    Follow,
}

/// Whether the literal part of a route's path, what stands before the first `*`, is taken off on the
/// way to the origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strip {
    /// Where the origin's URL has a path, which then stands in its place.
    #[default]
    Auto,
    /// Always.
    Yes,
    /// Never: it follows the path of the origin's URL.
    No,
}

/// Who may send into a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoints {
    /// The announced port; while nothing came from it, another one of the peer's address from which RTP
    /// or RTCP comes in the first seconds, then pinned.
    Learn,
    /// The announced address and port only.
    Strict,
}
