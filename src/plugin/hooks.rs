//! The hooks, in plain types: what is asked, and what may be answered.
//!
//! One [`Hooks`] belongs to one worker thread and is called there, synchronously. A hook that fails
//! answers [`Fault`](Verdict::Fault) or nothing; what that means for the session is decided by who
//! asked: the built-in policy for a choice, 503 for authentication, the route's `on_fault` for a
//! filter.
//!
//! Not in here: WASM, budgets, instances (the rest of the room), and what to do with an answer
//! (session, proxy).

use core::net::IpAddr;

use crate::rtsp::head::Outline;

/// What the gateway asks of plugins. Slots are named as in the configuration.
pub trait Hooks {
    /// The origin for a new session, by [`Upstream::id`]; none: no opinion, or a fault, and the
    /// built-in policy decides.
    fn pick_upstream(
        &mut self,
        slot: &str,
        key: &SessionKey,
        path: &str,
        upstreams: &[Upstream],
    ) -> Option<u32>;

    /// The worker for a new pipe, by [`WorkerLoad::id`]; none: the least loaded.
    fn pick_worker(&mut self, slot: &str, key: &PipeKey, workers: &[WorkerLoad]) -> Option<u16>;

    /// Who the client is.
    fn authenticate(&mut self, slot: &str, client: &Client<'_>, message: Message<'_>) -> Decision;

    /// Whether a filter wants to see this message. Requests and answers are told apart by what they
    /// are, not by their direction: cameras send requests too.
    fn interested(&mut self, slot: &str, message: Message<'_>) -> bool;

    /// What becomes of a message.
    fn on_message(
        &mut self,
        slot: &str,
        client: &Client<'_>,
        direction: Direction,
        message: Message<'_>,
    ) -> Verdict;
}

/// An origin that may serve the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Its place in the route's list.
    pub id: u32,
    /// Share of sessions, 1 to 100.
    pub weight: u16,
    /// Whether it may be chosen.
    pub healthy: bool,
    /// It keeps its sessions and takes no new ones.
    pub draining: bool,
    /// Sessions now.
    pub sessions: u32,
    /// Its bound; 0: none.
    pub max_sessions: u32,
    /// Smoothed time to an answer, microseconds.
    pub rtt_us: u32,
    /// Failures among the last answers, per mille.
    pub err_permille: u16,
    /// Media from it, kbit/s.
    pub out_kbit: u32,
}

/// What a choice of an origin may rest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionKey {
    /// Of the client's address, with a key of this run.
    pub client_ip_hash: u64,
    /// Of the request's path, with a key of this run.
    pub path_hash: u64,
    /// The origin that this client had for this path, while the gateway remembers.
    pub sticky: Option<u32>,
    /// 0 at first, then one more for each origin that failed.
    pub attempt: u8,
}

/// A worker that may take a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerLoad {
    /// Its number.
    pub id: u16,
    /// Pipes it drives.
    pub pipes: u32,
    /// Thousands of packets a second, smoothed.
    pub kpps: u32,
    /// Share of one core that it uses, per mille.
    pub busy_permille: u16,
    /// Whether the session's connection lives there.
    pub same_node: bool,
}

/// What a choice of a worker may rest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeKey {
    /// Of the session's number, with a key of this run.
    pub session_hash: u64,
    /// As the origin announced it.
    pub ssrc: Option<u32>,
    /// What the session is expected to carry.
    pub expected_kbit: u32,
}

/// What a plugin is told of the client. Never a secret.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Its address.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// Of the session's number, with a key of this run; none before there is a session.
    pub session_hash: Option<u64>,
    /// The address that accepted it, as in `gateway.listen`.
    pub listener: &'a str,
    /// The route's path, as in the configuration.
    pub mount: &'a str,
}

/// One whole message as it came in, before the gateway rewrites it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Head and body.
    pub bytes: &'a [u8],
    /// What its head was found to hold: no hook parses it again.
    pub outline: &'a Outline,
    /// Of the request; for an answer that of its request.
    pub method: &'a str,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client toward the origin.
    ClientToUpstream,
    /// From the origin toward the client.
    UpstreamToClient,
}

/// A header that a plugin adds. Checked by the host: a token, and a value without CR, LF, NUL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value, in whatever encoding.
    pub value: Vec<u8>,
}

/// An answer that a filter gives in place of the origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 300 to 599.
    pub status: u16,
    /// Headers beside those that the gateway owns.
    pub headers: Vec<Header>,
    /// The body; its type is among the headers.
    pub body: Vec<u8>,
}

/// What an authenticator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client may go on; the grant is kept for the session.
    Allow(Grant),
    /// No, with this status (400 to 599, not 401).
    Deny(u16),
    /// 401 with these values of WWW-Authenticate.
    Challenge(Vec<Vec<u8>>),
    /// No opinion: nobody else is asked, so the client is refused.
    Abstain,
    /// The plugin failed or there is none: 503, never in.
    Fault,
}

/// A client that may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name, for log and status.
    pub user: String,
    /// Seconds until it is asked again; 0: at the next request.
    pub ttl_s: u32,
    /// For other plugins to come.
    pub roles: Vec<String>,
}

/// What a filter says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on as it is.
    Pass,
    /// It goes on as these bytes, of which the head takes the first `head`.
    Edited {
        /// Head and body.
        bytes: Vec<u8>,
        /// How many of them are the head.
        head: usize,
    },
    /// The sender of a request gets this answer; an answer is replaced by it.
    Reject(Reply),
    /// It is forgotten. A request is answered 403, an answer 502, so that nobody waits.
    Drop,
    /// The plugin failed or there is none; its edits are dropped.
    Fault,
}

/// Makes the hooks of one worker, on its thread; the number is the worker's.
pub type MakeHooks = dyn Fn(u16) -> Box<dyn Hooks> + Send + Sync;
