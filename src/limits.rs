//! Every bound in the program, with its unit in the name and its reason in the doc.
//!
//! A bound that an installer may want to change is a key of the configuration; its default and its
//! largest value stand here too.

// --- RTSP framing -------------------------------------------------------------------------------

/// Longest request line or status line. Camera URLs with tokens reach about 1 KiB.
pub const START_LINE_MAX_BYTES: usize = 4096;
/// Longest header line, folded continuation lines included. Digest Authorization stays under 1 KiB.
pub const HEADER_LINE_MAX_BYTES: usize = 4096;
/// Most headers in one message. Players send about 10, cameras about 15.
pub const HEADERS_MAX: usize = 64;
/// Longest head: start line, headers and the empty line.
pub const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Longest message body. SDP of a camera is 0.5 to 4 KiB; ONVIF parameters somewhat more.
pub const BODY_MAX_BYTES: usize = 64 * 1024;
/// Longest payload of an interleaved frame: its length field has 16 bits.
pub const FRAME_MAX_BYTES: usize = 65_535;
/// Empty lines tolerated before a message, in bytes (leading CRLFs).
pub const BLANK_MAX_BYTES: usize = 64;
/// Transport specs looked at in one Transport header; later ones are ignored.
pub const TRANSPORT_SPECS_MAX: usize = 16;
/// Longest Session id (RFC 7826 4.3: 8 to 128 octets; cameras send from 1 octet).
pub const SESSION_ID_MAX_BYTES: usize = 128;
/// Longest URL that is stored for a session.
pub const URL_MAX_BYTES: usize = 2048;

// --- Sessions -----------------------------------------------------------------------------------

/// Tracks set up in one session. Cameras offer two or three, multi-sensor ones up to eight.
pub const TRACKS_MAX: usize = 16;
/// Outstanding requests a side (RFC 7826 10.2); past that the connection is not read.
pub const OUTSTANDING_MAX: usize = 10;
/// Replies and requests waiting to be written to one peer; past that its requests are not read.
pub const REPLY_QUEUE_SOFT_BYTES: usize = 64 * 1024;
/// Past this a peer that does not read is hung up on: no reply is ever dropped.
pub const REPLY_QUEUE_HARD_BYTES: usize = 256 * 1024;
/// Interleaved channels: one byte.
pub const CHANNELS_MAX: usize = 256;

// --- Configuration ------------------------------------------------------------------------------

/// Longest name of an origin, user, credential, or Via pseudonym.
pub const NAME_MAX_BYTES: usize = 32;
/// Longest origin URL.
pub const ORIGIN_URL_MAX_BYTES: usize = 256;
/// Longest route path.
pub const ROUTE_PATH_MAX_BYTES: usize = 128;
/// Listen addresses.
pub const LISTEN_MAX: usize = 4;
/// Origins in a configuration.
pub const ORIGINS_MAX: usize = 32;
/// Routes in a configuration.
pub const ROUTES_MAX: usize = 32;
/// Origins of one route.
pub const ROUTE_ORIGINS_MAX: usize = 8;
/// Worker threads.
pub const WORKERS_MAX: usize = 16;
/// Users that may be known for `digest` and `basic`.
pub const USERS_MAX: usize = 32;
/// Stored credentials toward origins.
pub const CREDENTIALS_MAX: usize = 32;
/// Previous configurations kept for rollback.
pub const CONFIG_HISTORY: usize = 4;

// --- Control API --------------------------------------------------------------------------------

/// Longest body of a request to the control API. The largest configuration is under 100 KiB of TOML.
pub const CONTROL_BODY_MAX_BYTES: usize = 256 * 1024;
/// Longest head of a request to the control API.
pub const CONTROL_HEAD_MAX_BYTES: usize = 16 * 1024;
/// Most headers of a request to the control API.
pub const CONTROL_HEADERS_MAX: usize = 64;
/// Connections to the control API at once, on the Unix socket and again on TCP; later ones wait.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// Seconds that a client of the control API has for a head, for a body, and for reading the answer.
pub const CONTROL_TIMEOUT_S: u64 = 10;
/// Longest answer that the command line reads. 65,535 sessions of 400 bytes of JSON fit.
pub const CONTROL_ANSWER_MAX_BYTES: usize = 32 * 1024 * 1024;

// --- Log ----------------------------------------------------------------------------------------

/// Lines waiting for a slow stderr; later ones are dropped and counted.
pub const LOG_QUEUE_LINES: usize = 1024;
/// Longest log line; longer ones are cut.
pub const LOG_LINE_MAX_BYTES: usize = 1024;
/// Longest password, of a user and toward an origin.
pub const PASSWORD_MAX_BYTES: usize = 128;
