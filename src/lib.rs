//! edgeweir stands between RTSP players and cameras or recorders, for ARM gateways.
//!
//! It accepts players over TCP, chooses an origin for each session, and relays RTSP both ways,
//! rewriting what names one side for the other. RTP and RTCP run through pairs of UDP sockets, or
//! as interleaved frames, in all four combinations.
//!
//! # Rooms
//!
//! The **core** is pure: no socket, clock, lock, thread or log. It is told what happened and says
//! what to do.
//!
//! | room | what it knows |
//! |---|---|
//! | [`rtsp`] | bytes to messages, and edited messages to bytes |
//! | [`scope`] | what a client may ask for: presentations, grants, aliases |
//! | [`session`] | one client connection, its origin and its tracks: a state machine |
//! | [`origin`] | routes, which origin serves a session, and whether it is well |
//! | [`auth`] | digest and basic, toward players and toward origins |
//! | [`config`] | the schema, its text and its image on flash |
//! | `pipe/relay.rs` | one datagram in, one verdict out |
//! | `plugin/hooks.rs` | what plugins are asked and may answer, in plain types |
//!
//! The **shell** drives it:
//!
//! | room | what it does |
//! |---|---|
//! | [`proxy`] | accepts, drives sessions, checks origins, applies changes |
//! | [`pipe`] | worker threads, their pollers, UDP sockets |
//! | [`plugin`] | the hooks, and the WASM components that answer them |
//! | [`flash`] | a store that survives power loss |
//! | [`control`] | the HTTP API on a Unix socket, and its client |
//! | [`cli`] | the command line |
//! | [`camera`], [`probe`] | a synthetic camera and a measuring player, for demos and tests |
//!
//! Dependencies point one way: `cli → proxy → {control, pipe, flash} → core`. [`limits`] holds every
//! bound, [`clock`] the one look at the system's clock, [`peer`] who is counted together.
//!
//! # Threads
//!
//! One control thread runs on smol: control API, health checks, timers. N workers (one for each core
//! by default) each own a level-triggered poller, an executor and a listening socket. A connection
//! stays with the worker that accepted it, unless that one has clearly more to do than another; a
//! UDP pipe goes at SETUP to the least-loaded one, the session's own at a tie. A track with an
//! interleaved side stays with its connection, so that no frame changes threads. Sockets' readiness
//! is told straight to the state that owns them, not through tasks: an executor's queue allocates,
//! and the path of a packet must not.
//!
//! # The path of one request
//!
//! 1. The worker sees the client's socket readable and reads into its own buffer (`proxy/connection.rs`).
//! 2. [`session::Inbox`] finds a whole message, or keeps the unfinished rest.
//! 3. [`session::Session`] checks it: version, CSeq, Via, Session; [`scope::permits`] judges its URL.
//!    What is not its own to decide leaves as an output: who the client is, which origin, which
//!    ports.
//! 4. The connection answers: the verifier, the origin table, the port pool. A new origin is
//!    connected to without blocking.
//! 5. The request takes a number of the origin's series and goes through `session/rewrite.rs`: spans
//!    that we own are replaced, all else is copied byte for byte.
//! 6. The origin's answer is matched by CSeq and turned the same way: Content-Base, Transport,
//!    RTP-Info, SDP controls. On SETUP the pipe is opened *before* the client hears our ports.
//!    Answers leave in the order of the requests.
//!
//! # The path of one datagram
//!
//! 1. The worker's poller says that a socket of a pipe is readable; the pipe is called directly.
//! 2. `recvmmsg` fills the worker's batch buffer.
//! 3. `pipe/relay.rs` looks at source, side and size of each: forward, or drop with a reason.
//! 4. `sendmmsg` sends the batch from the paired socket.
//!
//! No lock, no allocation, no other thread; counters are the pipe's own.

pub mod auth;
pub mod camera;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod flash;
pub mod limits;
pub mod logger;
pub mod nearest;
pub mod origin;
pub mod peer;
pub mod pipe;
pub mod plugin;
pub mod probe;
pub mod proxy;
pub mod remedy;
pub mod rtsp;
pub mod scope;
pub mod session;
