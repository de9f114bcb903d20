//! What every conversation of the tests has to keep, told by other code than the gateway's own.
//!
//! - What leaves is clean, and the player is not told where the origin is ([`wire`]).
//! - Each session that an origin granted gets its TEARDOWN ([`torn`]).

#![allow(dead_code, unreachable_pub)] // each test uses a part

pub mod configuration;
pub mod farewell;
pub mod ids;
pub mod message;
pub mod torn;
pub mod wire;

use edgeweir::{origin::Table, session::Side};

/// The laws that hold already.
const CLEAN: bool = false;
const HIDES: bool = false;
const TORN: bool = false;

/// The laws for one client connection.
pub struct Laws {
    /// Where origins are, which the player need not know.
    hosts: Vec<String>,
    /// Whether a redirect may pass.
    redirects: bool,
    sessions: torn::Sessions,
    /// What left toward the client and toward the origin, and is not whole yet.
    left: [Vec<u8>; 2],
}

impl Laws {
    /// For a connection that goes by this table.
    pub fn new(table: &Table) -> Self {
        let mut laws = Self {
            hosts: Vec::new(),
            redirects: false,
            sessions: torn::Sessions::default(),
            left: [Vec::new(), Vec::new()],
        };
        laws.know(table);
        laws
    }

    /// Another table may be in use from now on.
    pub fn know(&mut self, table: &Table) {
        self.hosts.extend(table.origins().iter().map(|origin| origin.host().to_owned()));
        let passes =
            |route: &edgeweir::origin::Route| route.redirect != edgeweir::config::Redirect::Refuse;
        self.redirects |= table.routes().iter().any(passes);
    }

    /// Bytes that a side took.
    pub fn left(&mut self, side: Side, bytes: &[u8]) {
        let at = usize::from(side == Side::Origin);
        self.left[at].extend_from_slice(bytes);
        while let Some(unit) = message::first(&self.left[at]).map(<[u8]>::to_vec) {
            self.left[at].drain(..unit.len());
            if unit.starts_with(b"$") {
                continue;
            }
            if CLEAN {
                wire::clean(&unit);
            }
            match side {
                Side::Client if !HIDES => {}
                Side::Client => wire::hides(&unit, &self.hosts, self.redirects),
                Side::Origin => self.sessions.left(&unit),
            }
        }
    }

    /// A whole message of the origin.
    pub fn came(&mut self, message: &[u8]) {
        self.sessions.came(message);
    }

    /// The origin hung up, or speaks no RTSP any more: nothing can be said to it.
    pub fn lost(&mut self) {
        self.sessions = torn::Sessions::default();
    }

    /// The gateway closes its connection to the origin; `stalled`: this one did not take all that it
    /// was to be told.
    pub fn dropped(&mut self, stalled: bool) {
        if !stalled && TORN {
            self.sessions.end();
        }
        self.lost();
        self.left[1].clear();
    }
}
