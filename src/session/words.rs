//! The words of the conversation between a session and the shell that drives it.

use core::{net::IpAddr, time::Duration};

use super::{Bounds, Fault, IdSource, Plan, Side};
use crate::{
    auth::Signer,
    config::{self, Slot},
    plugin::hooks::Verdict,
    rtsp::{Method, url::Base},
    scope::Aliases,
};

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No track is set up.
    Init,
    /// Tracks are set up, nothing flows.
    Ready,
    /// Media flows to the client.
    Playing,
    /// Media flows to the origin.
    Recording,
}

impl State {
    /// As `sessions` prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Ready => "ready",
            Self::Playing => "playing",
            Self::Recording => "recording",
        }
    }
}

/// What a session has to know of its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Address of the client's connection.
    pub client_ip: IpAddr,
    /// Our address on the client's side, as the client is told it.
    pub local_ip: IpAddr,
    /// `rtsp://host:port` of ours, for requests that name no host.
    pub authority: Vec<u8>,
    /// Our pseudonym in Via: no other gateway on the way has it (RFC 7826 18.57).
    pub pseudonym: String,
    /// Whether requests of RTSP/1.0 carry Via too.
    pub via_in_1_0: bool,
    /// Where the ids of its sessions come from.
    pub ids: IdSource,
    /// Makes and understands aliases, with a key of this run.
    pub aliases: Aliases,
    /// How long an origin may take for an answer.
    pub answer_timeout: Duration,
    /// How long a client may be without a sign of life.
    pub idle_timeout: Duration,
    /// How long promised media may stay away; zero: for ever.
    pub silence_timeout: Duration,
    /// Media that may wait for a slow interleaved peer.
    pub media_queue: Bounds,
    /// Whether a UDP session outlives its RTSP connection (RFC 2326 1.1), for its client to come
    /// back to.
    pub detach: bool,
}

/// An answer to an [`Output`], or news from a connection.
#[derive(Debug)]
pub enum Input {
    /// Answer to [`Output::Authenticate`]: the client may.
    Granted {
        /// Who it is: the grant ends when this user changes.
        user: String,
    },
    /// Answer to [`Output::Authenticate`]: the client may, and is asked again after so long; zero:
    /// at its next request.
    GrantedFor(Duration),
    /// Answer to [`Output::Authenticate`]: 401 with these values of WWW-Authenticate. Values that
    /// would break the message are left out.
    Challenge(Vec<Vec<u8>>),
    /// Answer to [`Output::Authenticate`]: its Authorization makes no sense, 400 (RFC 7616 3.4.6).
    Denied,
    /// Answer to [`Output::Authenticate`]: never, with this status (400 to 599, not 401; else 403).
    DeniedAs(u16),
    /// Answer to [`Output::Authenticate`]: nobody could tell.
    AuthFailed,
    /// Answer to [`Output::Authenticate`]: not looked at, and why.
    Unchecked(Fault),
    /// Answer to [`Output::Filter`].
    Filtered(Verdict),
    /// Answer to [`Output::Connect`]: an origin was chosen and its connection is open.
    Connected(Box<OriginLink>),
    /// Answer to [`Output::Connect`]: this origin was chosen and cannot be reached.
    ConnectFailed(usize),
    /// The connected origin has no place for the session that begins, another one has.
    OriginFull(usize),
    /// Answer to [`Output::Connect`]: there is no origin to be had.
    NoOrigin(Fault),
    /// Answer to [`Output::Bind`]: ports toward the client and toward the origin, where asked for.
    Bound {
        /// RTP and RTCP port toward the client.
        client: Option<(u16, u16)>,
        /// RTP and RTCP port toward the origin.
        origin: Option<(u16, u16)>,
    },
    /// Answer to [`Output::Bind`]: not to be had, and why.
    NotBound(Fault),
    /// Answer to [`Output::Find`]: no such session waits for its client.
    NotFound,
    /// A client came back to its session, on another connection.
    Attached,
    /// A side's connection was closed by the peer or by an error.
    SideClosed(Side),
    /// The session is to end, for a reason of the shell's.
    End(Fault),
}

/// What the session has to know of the origin that was chosen.
#[derive(Debug)]
pub struct OriginLink {
    /// Its place in the table.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `rtsp://host:port` and path of its URL.
    pub base: Base,
    /// Signs requests, when the gateway has credentials for it.
    pub signer: Option<Signer>,
    /// Method that keeps its sessions alive, if known from earlier ones.
    pub keepalive: Option<Method>,
}

/// What is to be done by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Check the client of the request in [`super::Session::deciding`] by this scheme.
    Authenticate(config::Auth),
    /// Ask the filter in this slot about the message in [`super::Session::filtering`]. Its verdict
    /// comes before the next message of either side.
    Filter(Slot),
    /// Choose an origin of this route, none of those, and connect to it.
    Connect {
        /// The route's place in the table.
        route: usize,
        /// The path asked for.
        path: Vec<u8>,
        /// Origins tried for this session already.
        exclude: Vec<usize>,
        /// The very origin to connect to again.
        again: Option<usize>,
        /// Host and port that this origin's redirect leads to.
        elsewhere: Option<(Vec<u8>, u16)>,
    },
    /// Bind port pairs for this track.
    Bind {
        /// The track.
        track: u8,
        /// Whether a pair toward the client is needed.
        client: bool,
        /// Whether a pair toward the origin is needed.
        origin: bool,
        /// Whether this begins a session, so that the bounds on sessions apply.
        first: bool,
    },
    /// The request in [`super::Session::deciding`] names this session, which may wait for its client. Hand
    /// the connection over to it, and forget this one; or answer that there is none.
    Find(Vec<u8>),
    /// The client's connection is gone and the session goes on: keep it to be found by this id.
    Detach(Vec<u8>),
    /// Relay this track with the ports bound for it.
    Open(u8, Plan),
    /// Stop relaying this track, give its ports back.
    Close(u8),
    /// PLAY or RECORD was answered: media is to flow from now on.
    Flows,
    /// Close the origin's connection; what it still sends is of no interest.
    DropOrigin,
    /// What was seen of the origin with this place in the table.
    Seen(usize, Sight),
    /// A request was refused or a session hurt: for the log and the counters.
    Note(Fault),
    /// The session has ended: write what waits, then close both connections.
    End(Fault),
}

/// What a session saw of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// An answer, after so long.
    Answered(Duration),
    /// No answer in time.
    Silent,
    /// An answer that makes no sense.
    BadReply,
    /// A 5xx.
    ServerError(u16),
    /// It closed its connection over an unanswered request.
    Closed,
    /// Promised media stays away.
    MediaSilent,
    /// This method keeps its sessions alive.
    Keepalive(Method),
    /// What it answered to this, when the gateway had signed where it could. Where players sign for
    /// themselves, a challenge is theirs and is not told.
    Told(Method, u16),
}
