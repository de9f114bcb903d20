//! What every conversation of the tests has to keep, told by other code than the gateway's own.
//!
//! - What leaves is clean, and the player is not told where the origin is ([`wire`]).
//! - No request leaves for a URL whose route has not granted it ([`scope`]).
//! - Each session that an origin granted gets its TEARDOWN ([`farewell`]).

#![allow(dead_code, unreachable_pub)] // each test uses a part

pub mod configuration;
pub mod farewell;
pub mod ids;
pub mod message;
pub mod scope;
pub mod wire;

use edgeweir::{
    clock::Instant,
    origin::Table,
    session::{Input, Session, Side},
};

/// The laws for one client connection.
pub struct Laws {
    /// Where origins are, which the player need not know.
    hosts: Vec<String>,
    /// Whether a redirect may pass.
    redirects: bool,
    sessions: farewell::Granted,
    scope: scope::Scope,
    /// What left toward the client and toward the origin, and is not whole yet.
    left: [Vec<u8>; 2],
    /// Whether `EDGEWEIR_SHOW` wants to see the messages.
    shows: bool,
}

impl Laws {
    /// For a connection that goes by this table.
    pub fn new(table: &Table) -> Self {
        let mut laws = Self {
            hosts: Vec::new(),
            redirects: false,
            sessions: farewell::Granted::default(),
            scope: scope::Scope::default(),
            left: [Vec::new(), Vec::new()],
            shows: std::env::var_os("EDGEWEIR_SHOW").is_some(),
        };
        laws.know(table);
        laws
    }

    /// The client opens another connection; what it was shown on this one it may ask for there.
    pub fn connects_again(&mut self, table: &Table) {
        let shown = self.scope.shown();
        *self = Self::new(table);
        self.scope.was_shown(shown);
    }

    /// Another table may be in use from now on.
    pub fn know(&mut self, table: &Table) {
        self.scope.know(table);
        self.hosts.extend(table.origins().iter().map(|origin| origin.host().to_owned()));
        let passes =
            |route: &edgeweir::origin::Route| route.redirect != edgeweir::config::Redirect::Refuse;
        self.redirects |= table.routes().iter().any(passes);
    }

    /// What the client says: a host that it names itself is no news to it.
    pub fn client_says(&mut self, bytes: &[u8]) {
        let named = message::text(bytes).to_lowercase();
        self.hosts.retain(|host| !named.contains(&host.to_lowercase()));
    }

    /// Bytes that a side took.
    pub fn left(&mut self, side: Side, bytes: &[u8]) {
        self.scope.took(side, bytes);
        let at = usize::from(side == Side::Origin);
        self.left[at].extend_from_slice(bytes);
        while let Some(unit) = message::first(&self.left[at]).map(<[u8]>::to_vec) {
            self.left[at].drain(..unit.len());
            if unit.starts_with(b"$") {
                continue;
            }
            self.show(&format!("to {side:?}"), &unit);
            wire::clean(&unit);
            match side {
                Side::Client => wire::hides(&unit, &self.hosts, self.redirects),
                Side::Origin => self.sessions.wrote(&unit),
            }
        }
    }

    /// A whole message of the client, before the gateway has seen it.
    pub fn asked(&mut self, message: &[u8], now: Instant) {
        self.show("from Client", message);
        self.scope.asked(message, now);
    }

    /// What the session is told about the client, before it is: grants are for the URL of the request
    /// that waits.
    pub fn answered(&mut self, session: &Session, input: &Input, now: Instant) {
        let until = match input {
            Input::Granted { .. } => None,
            Input::GrantedFor(ttl) => Some(now + *ttl),
            Input::Attached => return self.scope.ended(),
            _ => return,
        };
        if let Some((raw, _)) = session.deciding() {
            self.scope.granted(raw, until, now);
        }
    }

    /// Grants of the client have ended.
    pub fn ended(&mut self) {
        self.scope.ended();
    }

    /// A whole message of the origin.
    pub fn came(&mut self, message: &[u8]) {
        self.show("from Origin", message);
        self.scope.came(message);
        let body = message::Message::read(message).body.len();
        self.sessions.heard(&understood(&message[..message.len() - body]));
    }

    #[allow(clippy::print_stderr)]
    fn show(&self, how: &str, message: &[u8]) {
        if self.shows {
            eprintln!("{how}: {:?}", message::text(message));
        }
    }

    /// The origin hung up, or speaks no RTSP any more: nothing can be said to it.
    pub fn lost(&mut self) {
        self.sessions.closed();
    }

    /// The gateway closes its connection to the origin; `stalled`: this one did not take all that it
    /// was to be told.
    pub fn dropped(&mut self, stalled: bool) {
        if !stalled {
            let left = self.sessions.left();
            assert!(left.is_empty(), "the origin was never told the end of {left:?}");
        }
        self.lost();
        self.scope.dropped();
        self.left[1].clear();
    }
}

/// A head as it leaves again: folds in one line, what is no part of a line a space, in a session's id
/// too.
fn understood(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = head;
    while let Some((byte, after)) = rest.split_first() {
        let fold = [&b"\r\n"[..], b"\n"].iter().find_map(|end| {
            let line = rest.strip_prefix(*end)?;
            line.starts_with(b" ").then_some(line).or(line.starts_with(b"\t").then_some(line))
        });
        rest = fold.map_or(after, <[u8]>::trim_ascii_start);
        let ends = rest.first() == Some(&b'\n');
        let inside = fold.is_some() || *byte == b'\0' || *byte == b'\r' && !ends;
        // A space that begins a line would fold it into the one before.
        let begins = out.last().is_none_or(|last| *last == b'\n');
        out.push(match (inside, begins) {
            (true, true) => b'_',
            (true, false) => b' ',
            (false, _) => *byte,
        });
    }
    out
}
