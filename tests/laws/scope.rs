//! No request leaves for a URL whose route has not granted it.
//!
//! Told from what a test sees: requests of the client, grants, what leaves toward the origin, what is
//! said to the client. Routes are found here by other code than the gateway's, and a path is judged as
//! it came and as a server that decodes and folds it would read it.
//!
//! Requests of the gateway's own (signs of life, PAUSE, TEARDOWN) have no request of the client; they may
//! name what was reached before, or what the origin named itself. The same holds for requests that end
//! or keep a session whose grant has ended.

use edgeweir::{
    clock::Instant,
    config::Auth,
    origin::Table,
    rtsp::{
        Head,
        framing::{Framer, Progress, Unit},
    },
    session::Side,
};

use super::message::text;

/// Requests of the client that are remembered.
const ASKED_MAX: usize = 200;
/// What the origin said that is remembered, in bytes.
const SAID_MAX: usize = 1 << 17;
const MARK: &str = "gateway-url-";

struct Route {
    segments: Vec<String>,
    rest: bool,
    auth: String,
    asks: bool,
    /// An authenticator may read the query.
    reads_query: bool,
    /// Paths stay as they are toward its origins.
    plain: bool,
}

struct Asked {
    method: String,
    rest: String,
    allowed: bool,
}

struct Grant {
    route: String,
    path: String,
    query: String,
    until: Option<Instant>,
}

/// Watches one connection of a client.
#[derive(Default)]
pub struct Scope {
    routes: Vec<Route>,
    strict: bool,
    asked: Vec<Asked>,
    grants: Vec<Grant>,
    /// URLs that were rightly asked for.
    reached: Vec<String>,
    said: String,
    aliases: Vec<String>,
    /// What a side took and is not whole yet, as the gateway's peers find messages in it.
    taken: [Vec<u8>; 2],
}

impl Scope {
    /// The routes of a table are in force from now on. Grants that hold are found again by their route.
    pub fn know(&mut self, table: &Table) {
        self.routes = table
            .routes()
            .iter()
            .map(|route| {
                let pattern = text(route.path());
                let mut segments: Vec<String> = parts(&pattern).map(Into::into).collect();
                let rest = segments.last().is_some_and(|last| last == "**");
                segments.truncate(segments.len() - usize::from(rest));
                let origins = route.origins.iter().map(|at| &table.origins()[*at]);
                let path = |path: &[u8]| path.is_empty() && route.replaced_by(path).is_empty();
                Route {
                    segments,
                    rest,
                    auth: format!("{:?}", route.auth),
                    asks: matches!(route.auth, Auth::Digest | Auth::Basic | Auth::Plugin(_)),
                    reads_query: matches!(route.auth, Auth::Plugin(_)),
                    plain: origins.into_iter().all(|origin| path(origin.path())),
                }
            })
            .collect();
        let signs = table.routes().iter().any(|route| route.signs && route.path() != b"/**");
        let patterns: Vec<String> = self.routes.iter().map(Route::pattern).collect();
        self.grants.retain(|grant| patterns.contains(&grant.route));
        self.strict = signs || self.routes.iter().any(|route| route.asks);
    }

    /// A whole message of the client, before the gateway has seen it.
    pub fn asked(&mut self, message: &[u8], now: Instant) {
        let Some((method, url)) = request(message) else { return };
        let rest = rest(&url);
        let allowed = self.allows(&method, &rest, now);
        if self.asked.len() >= ASKED_MAX {
            self.asked.remove(0);
        }
        self.asked.push(Asked { method, rest, allowed });
    }

    /// The client said who it is, with the request that it sent last for this URL.
    pub fn granted(&mut self, message: &[u8], until: Option<Instant>, now: Instant) {
        let Some((_, url)) = request(message) else { return };
        let rest = rest(&url);
        let Some(asked) = self.asked.iter_mut().rev().find(|asked| asked.rest == rest) else {
            panic!("a grant for {rest}, which nobody asked for");
        };
        let (path, query, aliased) = place(&rest);
        let whole = aliased || matches!(&*asked.method, "DESCRIBE" | "ANNOUNCE");
        asked.allowed = true;
        let Some(at) = find(&self.routes, &path, whole) else {
            panic!("a grant for {rest}, which has no route");
        };
        let route = &self.routes[at];
        let path = match route.rest || whole {
            true => path,
            false => {
                let first: Vec<&str> = parts(&path).take(route.segments.len()).collect();
                format!("/{}", first.join("/"))
            }
        };
        if until.is_none_or(|until| until > now) {
            self.grants.push(Grant { route: route.pattern(), path, query, until });
        }
    }

    /// Aliases that the client was shown.
    pub fn shown(&self) -> Vec<String> {
        self.aliases.clone()
    }

    /// They were shown on another connection.
    pub fn was_shown(&mut self, aliases: Vec<String>) {
        self.aliases = aliases;
    }

    /// All grants have ended.
    pub fn ended(&mut self) {
        self.grants.clear();
    }

    /// Bytes that a side took.
    pub fn took(&mut self, side: Side, bytes: &[u8]) {
        let at = usize::from(side == Side::Origin);
        self.taken[at].extend_from_slice(bytes);
        while let Ok(Progress::Ready(unit)) = Framer::default().next(&self.taken[at]) {
            let whole: Vec<u8> = self.taken[at].drain(..unit.len()).collect();
            match (unit, side) {
                (Unit::Message { .. }, Side::Client) => self.told(&whole),
                (Unit::Message { .. }, Side::Origin) => self.left(&whole),
                _ => {}
            }
        }
    }

    /// The origin's connection is closed.
    pub fn dropped(&mut self) {
        self.taken[1].clear();
    }

    /// A whole message that leaves toward the client.
    fn told(&mut self, message: &[u8]) {
        if !message.windows(MARK.len()).any(|it| it == MARK.as_bytes()) {
            return;
        }
        let message = text(message);
        for (at, _) in message.match_indices(MARK) {
            let token = message[at..].split(|letter| !is_of_token(letter)).next();
            self.aliases.extend(token.map(Into::into));
        }
    }

    /// A whole message of the origin.
    pub fn came(&mut self, message: &[u8]) {
        let names = message.windows(5).any(|it| it.eq_ignore_ascii_case(b"rtsp:"));
        if names && self.said.len() < SAID_MAX {
            self.said += &text(message);
        }
    }

    /// A whole message that leaves toward the origin.
    fn left(&mut self, message: &[u8]) {
        let Some((method, url)) = request(message) else { return };
        let rest = rest(&url);
        let of_method = || self.asked.iter().filter(|asked| asked.method == method);
        let mut exact = of_method().filter(|asked| asked.rest == rest).peekable();
        let plain = self.routes.iter().all(|route| route.plain);
        let stems = match exact.peek() {
            Some(_) => exact.any(|asked| asked.allowed),
            // An alias, a filter's edit, a redirect, or an origin with a path of its own.
            None => {
                let allowed = || of_method().filter(|asked| asked.allowed);
                allowed().any(|asked| !plain || asked.rest.contains(MARK))
                    || (allowed().next().is_some() && (self.serves(&rest) || self.was_said(&url)))
            }
        };
        let ours = ["TEARDOWN", "PAUSE", "GET_PARAMETER", "SET_PARAMETER", "OPTIONS"];
        let own = || ours.contains(&&*method) && (self.was_reached(&rest) || self.was_said(&url));
        assert!(
            stems || own(),
            "{method} {url} leaves, and no route has granted it; asked: {:?}",
            of_method().map(|asked| (&asked.rest, asked.allowed)).collect::<Vec<_>>()
        );
        if stems && !self.reached.contains(&rest) {
            self.reached.push(rest);
        }
    }

    fn was_reached(&self, rest: &str) -> bool {
        let path = place(rest).0;
        // A filter may have led elsewhere what was rightly asked for.
        let asked = self.asked.iter().filter(|asked| asked.allowed).map(|asked| &asked.rest);
        self.reached.iter().chain(asked).any(|reached| {
            let reached = place(reached).0;
            path == reached
                || (path.len() > 1 && lies_below(&reached, &path))
                || (reached.len() > 1 && lies_below(&path, &reached))
        })
    }

    fn was_said(&self, url: &str) -> bool {
        let path = rest(url);
        path.len() > 1 && self.said.contains(&path) || self.said.contains(url)
    }

    /// Whether a filter may have led there: a path of a route that was granted once.
    fn serves(&self, rest: &str) -> bool {
        let path = place(rest).0;
        [true, false].into_iter().any(|whole| find(&self.routes, &path, whole).is_some())
    }

    fn allows(&self, method: &str, rest: &str, now: Instant) -> bool {
        let (path, query, aliased) = place(rest);
        let token = rest.split('?').next().and_then(|path| path.rsplit(MARK).next());
        if aliased
            && !token.is_some_and(|token| {
                let token = token.trim_end_matches('/');
                self.aliases.iter().any(|alias| alias.strip_prefix(MARK) == Some(token))
            })
        {
            return false;
        }
        let whole = aliased || matches!(method, "DESCRIBE" | "ANNOUNCE");
        let read_otherwise = folded(&path);
        let readings = [&path, &read_otherwise];
        readings[..1 + usize::from(self.strict)].iter().all(|path| {
            let found = [whole, true].map(|whole| find(&self.routes, path, whole));
            let open = found[0].is_some_and(|at| !self.routes[at].asks);
            let granted = self.grants.iter().any(|grant| {
                let of_route = found.iter().flatten().any(|at| {
                    let route = &self.routes[*at];
                    let query = !route.reads_query
                        || query.is_empty()
                        || query == grant.query
                        || query.starts_with(&format!("{}/", grant.query));
                    route.pattern() == grant.route && query
                });
                let covered = **path == grant.path || lies_below(path, &grant.path);
                of_route && covered && grant.until.is_none_or(|until| now < until)
            });
            open || granted
        })
    }
}

impl Route {
    fn pattern(&self) -> String {
        let rest = if self.rest { "/**" } else { "" };
        format!("{}{rest} {}", self.segments.join("/"), self.auth)
    }
}

/// Method and URL, if it is a request.
fn request(message: &[u8]) -> Option<(String, String)> {
    let Ok(Progress::Ready(Unit::Message { head, .. })) = Framer::default().next(message) else {
        return None;
    };
    let head = Head::parse(&message[..head]).ok()?;
    Some((text(head.method_bytes()), text(head.uri()?)))
}

fn is_of_token(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_')
}

/// Path and query of a URL.
fn rest(url: &str) -> String {
    let after = url.split_once("://").map_or(url, |(_, after)| after);
    let at = after.find(['/', '?']).unwrap_or(after.len());
    after[at..].to_owned()
}

/// The path that a client's URL is judged by, its query, and whether it is an alias.
fn place(rest: &str) -> (String, String, bool) {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (path, aliased) = match path.rfind(&format!("/{MARK}")) {
        Some(at) => (&path[..at], true),
        None => (path, false),
    };
    let path = path.strip_suffix('/').unwrap_or(path);
    (path.to_owned(), query.to_owned(), aliased)
}

fn lies_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|tail| tail.starts_with('/'))
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner.split('/').take(if inner.is_empty() { 0 } else { usize::MAX })
}

/// A path as a server reads it that decodes, cuts parameters and folds dots and slashes.
fn folded(path: &str) -> String {
    let mut decoded = Vec::new();
    let mut bytes = path.bytes().peekable();
    while let Some(byte) = bytes.next() {
        let digits: Vec<u8> = bytes.clone().take(2).collect();
        let code = core::str::from_utf8(&digits).ok().filter(|it| it.len() == 2);
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()).filter(|_| byte == b'%') {
            Some(code) => {
                decoded.push(code);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    let decoded = text(&decoded).replace('\\', "/");
    let decoded = decoded.split(['?', '#', '\0']).next().unwrap_or_default().to_owned();
    let mut out: Vec<&str> = Vec::new();
    for part in decoded.split('/').map(|part| part.split(';').next().unwrap_or_default()) {
        match part {
            "" | "." => {}
            ".." => drop(out.pop()),
            part => out.push(part),
        }
    }
    out.iter().map(|part| format!("/{part}")).collect()
}

/// Whether two segments are one, UTF-8 raw or escaped.
fn same(one: &str, other: &str) -> bool {
    let raw = |text: &str| {
        if text.is_ascii() && !text.contains('%') { text.to_owned() } else { unescaped(text) }
    };
    one == other || raw(one) == raw(other)
}

/// Escapes of what is no ASCII undone.
fn unescaped(text: &str) -> String {
    let mut out: Vec<u8> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).and_then(|code| u8::from_str_radix(code, 16).ok());
        match code.filter(|code| bytes[at] == b'%' && *code >= 0x80) {
            Some(code) => {
                out.push(code);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    super::message::text(&out)
}

/// The route of a path, as a whole or as one of media: the most literal pattern, then the longest.
fn find(routes: &[Route], path: &str, whole: bool) -> Option<usize> {
    let given: Vec<&str> = parts(path).collect();
    let mut best: Option<(bool, usize, usize, bool, usize)> = None;
    for (at, route) in routes.iter().enumerate() {
        let fits = route.segments.len() <= given.len()
            && route.segments.iter().zip(&given).all(|(wanted, part)| {
                if wanted == "*" { !part.is_empty() } else { same(wanted, part) }
            });
        let full = !route.rest && route.segments.len() == given.len();
        if !fits || (whole && !full && !route.rest) {
            continue;
        }
        let literals = route.segments.iter().filter(|it| *it != "*").count();
        let long = route.segments.len() + usize::from(route.rest);
        // Of media a whole match goes first.
        let key = (full && !whole, literals, long, !route.rest, usize::MAX - at);
        best = best.max(Some(key));
    }
    best.map(|(.., at)| usize::MAX - at)
}
