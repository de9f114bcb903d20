//! Scope: a request is allowed by its URL, never by its connection.
//!
//! ```text
//!   URL ──route──▶ Route ──asks?──▶ who is it? ──▶ Grant {route, presentation, user, until}
//!    │                 └─ no ─────────────────────┐                │
//!    └── permits(table, grants, method, URL) ◀────┴────────────────┘
//!              └──▶ Gateway · Permitted · Needs a grant · Drains · Refused
//! ```
//!
//! A *grant* is for one presentation: the path that was described or set up, and what lies below it,
//! as long as that falls to the same route. It ends with its time, when its route or its user changes,
//! and when a session is taken up from a new connection. [`permits`] is the one function that each
//! request of a client passes before anything of it may leave.
//!
//! URLs of an origin that lie outside of the presentation get an alias below it ([`Aliases`]), so
//! that nothing a player is shown leads out of its grant.
//!
//! What ends or keeps a session goes on when its grant has ended: TEARDOWN always; PAUSE,
//! GET_PARAMETER without a body and OPTIONS where the route was changed or removed, so that sessions
//! drain. Nothing new begins.
//!
//! Not in here: who the client is (`auth`), to what a session is bound (`session`), sockets.

mod alias;
mod ambiguous;

pub use self::alias::Aliases;
pub(crate) use self::alias::Target;
use crate::{
    clock::Instant,
    config::{Auth, MethodGroup, Methods},
    limits::{GRANTS_MAX, URL_MAX_BYTES},
    origin::{Lookup, Route, Table},
    rtsp::{
        Method, Url,
        url::{same_path, strip_path},
    },
};

/// What was described or set up under one URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presentation {
    /// Without a slash at the end.
    path: Vec<u8>,
    /// Without `?`; may be empty.
    query: Vec<u8>,
}

/// Where a request leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of its route in the table that it was looked up in.
    pub route: usize,
    /// What it is a part of.
    pub presentation: Presentation,
}

/// What a client may reach, and until when.
#[derive(Clone, Debug)]
struct Grant {
    place: Place,
    user: String,
    /// None: as long as the connection.
    until: Option<Instant>,
}

/// The grants of one connection, the oldest first.
#[derive(Debug, Default)]
pub struct Grants {
    all: Vec<Grant>,
}

/// A session that has tracks: what it is of, and what has become of its route.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay<'a> {
    /// What it was set up under.
    pub presentation: &'a Presentation,
    /// The route is as it was when it began.
    pub route_holds: bool,
}

/// A request, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its method.
    pub method: Method,
    /// Its URL.
    pub url: &'a Url<'a>,
    /// Whether it carries a body.
    pub has_body: bool,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The gateway answers it itself.
    Gateway,
    /// It may leave.
    Permitted(Place),
    /// The client has to say who it is, for this.
    Needs(Place),
    /// It only ends or keeps what is under way, and may leave.
    Drains,
    /// It may not.
    Refused(Refused),
}

/// Why a request may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its path could mean two things.
    Ambiguous,
    /// No route is for its path.
    NoRoute,
    /// It looks like an alias, and is none.
    NoAlias,
    /// The route lets players ask for these groups of methods only.
    Method(Methods),
}

/// Decides on one request. `table` is the newest there is, and `grants` were given under it.
pub fn permits(
    table: &Table,
    aliases: &Aliases,
    grants: &Grants,
    under_way: Option<UnderWay<'_>>,
    asked: Asked<'_>,
    now: Instant,
) -> Verdict {
    let Asked { method, url, .. } = asked;
    let names_gateway = matches!(url.rest, b"" | b"/");
    if names_gateway && method == Method::Options {
        return Verdict::Gateway;
    }
    let Some((path, aliased)) = unaliased(aliases, url.path()) else {
        return Verdict::Refused(Refused::NoAlias);
    };
    if table.is_strict() && ambiguous::is_ambiguous(table, path) {
        return Verdict::Refused(Refused::Ambiguous);
    }
    let query = query_of(url.rest);
    let how = match method {
        Method::Describe | Method::Announce => Lookup::Presentation,
        _ if aliased => Lookup::Presentation,
        _ => Lookup::Media,
    };
    let spot = Spot { path, query, how };
    if let Some(grant) = grants.all.iter().find(|grant| grant.covers(table, spot, now)) {
        return allowed(table, grant.place.clone(), asked, Verdict::Permitted);
    }
    if under_way.is_some_and(|session| drains(session, asked, path)) {
        return Verdict::Drains;
    }
    let Some(index) = table.route(path, how) else {
        let parameters = matches!(method, Method::GetParameter | Method::SetParameter);
        return match names_gateway && parameters {
            true => Verdict::Gateway,
            false => Verdict::Refused(Refused::NoRoute),
        };
    };
    let Some(route) = table.routes().get(index) else {
        return Verdict::Refused(Refused::NoRoute);
    };
    let whole = how == Lookup::Presentation;
    let path = if whole { without_slash(path) } else { route.presentation(path) };
    let presentation = Presentation { path: path.to_vec(), query: query.to_vec() };
    let place = Place { route: index, presentation };
    let verdict = if route.asks() { Verdict::Needs } else { Verdict::Permitted };
    allowed(table, place, asked, verdict)
}

/// The presentation's path of an alias, any other path as it is; and whether it is an alias. None
/// where it looks like one and was not given out here.
fn unaliased<'a>(aliases: &Aliases, path: &'a [u8]) -> Option<(&'a [u8], bool)> {
    match alias::split(path) {
        Some((above, segment)) if !alias::is_marked(above) => {
            aliases.target(above, segment).map(|_| (above, true))
        }
        _ => (!alias::is_marked(path)).then_some((path, false)),
    }
}

fn allowed(
    table: &Table,
    place: Place,
    asked: Asked<'_>,
    verdict: impl FnOnce(Place) -> Verdict,
) -> Verdict {
    let route = table.routes().get(place.route);
    match route.filter(|route| route.signs && !route.methods.has(group(asked.method))) {
        Some(route) => Verdict::Refused(Refused::Method(route.methods)),
        None => verdict(place),
    }
}

/// The group that a method belongs to.
fn group(method: Method) -> MethodGroup {
    match method {
        Method::Announce | Method::Record => MethodGroup::Publish,
        Method::SetParameter => MethodGroup::Parameters,
        Method::Other => MethodGroup::Other,
        _ => MethodGroup::Play,
    }
}

/// The methods that players may send where these groups are allowed, for Allow.
pub fn allow(methods: Methods) -> String {
    let known = methods.groups().filter_map(|group| match group {
        MethodGroup::Play => Some("OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER"),
        MethodGroup::Publish => Some("ANNOUNCE, RECORD"),
        MethodGroup::Parameters => Some("SET_PARAMETER"),
        MethodGroup::Other => None,
    });
    known.collect::<Vec<_>>().join(", ")
}

/// Whether a request only ends or keeps the session that is under way.
fn drains(session: UnderWay<'_>, asked: Asked<'_>, path: &[u8]) -> bool {
    let keeps = match asked.method {
        Method::Teardown => true,
        Method::Pause | Method::Options => !session.route_holds,
        Method::GetParameter => !session.route_holds && !asked.has_body,
        _ => false,
    };
    let aggregate = !without_slash(path).is_empty() && session.presentation.lies_below(path);
    keeps && (session.presentation.has(path) || aggregate)
}

/// A URL of a client, without what stands before its path.
#[derive(Clone, Copy)]
struct Spot<'a> {
    path: &'a [u8],
    query: &'a [u8],
    how: Lookup,
}

impl Place {
    /// Whether a URL is the presentation or lies below it, and falls to the route.
    fn has(&self, table: &Table, spot: Spot<'_>) -> bool {
        let Some(tail) = self.presentation.tail(spot.path) else { return false };
        let falls = |how| table.route(spot.path, how) == Some(self.route);
        // The presentation itself is found as one, whatever it is asked for.
        let falls = falls(spot.how) || (matches!(tail, b"" | b"/") && falls(Lookup::Presentation));
        let route = table.routes().get(self.route);
        falls && route.is_some_and(|route| self.presentation.has_query(spot.query, route))
    }

    /// Whether a URL that an origin names, as the client would see it, may be shown as it is: what
    /// the client asks for there is permitted as a part of this presentation.
    pub(crate) fn shows(&self, table: &Table, rest: &[u8]) -> bool {
        let path = rest.split(|byte| *byte == b'?').next().unwrap_or_default();
        let spot = Spot { path, query: query_of(rest), how: Lookup::Media };
        let odd = table.is_strict() && ambiguous::is_ambiguous(table, path);
        !odd && !alias::is_marked(path) && self.has(table, spot)
    }

    /// Path and query of the alias that stands for a URL of the origin below this presentation; none
    /// where it would be too long.
    pub(crate) fn alias(&self, aliases: &Aliases, target: &Target) -> Option<Vec<u8>> {
        let Presentation { path, query } = &self.presentation;
        let segment = aliases.segment(path, target)?;
        let mark: &[u8] = if query.is_empty() { b"" } else { b"?" };
        // The query comes along: a token in it is wanted on the next connection too.
        let alias = [path, &b"/"[..], &segment, mark, query].concat();
        (alias.len() <= URL_MAX_BYTES - URL_MAX_BYTES / 16).then_some(alias)
    }
}

impl Presentation {
    /// Of a URL as a whole.
    pub fn of(url: &Url<'_>) -> Self {
        let path = alias::split(url.path()).map_or(url.path(), |(above, _)| above);
        Self { path: without_slash(path).to_vec(), query: query_of(url.rest).to_vec() }
    }

    /// Its path, without a slash at the end.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Path and query.
    pub(crate) fn rest(&self) -> Vec<u8> {
        let mark: &[u8] = if self.query.is_empty() { b"" } else { b"?" };
        [&self.path, mark, &self.query].concat()
    }

    /// Whether a path is its own, or lies below it.
    pub fn has(&self, path: &[u8]) -> bool {
        self.tail(path).is_some()
    }

    /// Whether a path is one of those that it lies below: an aggregate of it.
    pub fn lies_below(&self, path: &[u8]) -> bool {
        strip_path(&self.path, without_slash(path)).is_some_and(|tail| tail.starts_with(b"/"))
    }

    /// Whether a path has the same parent: another track, set up without a DESCRIBE.
    pub fn is_beside(&self, path: &[u8]) -> bool {
        let parent = |path: &[u8]| {
            let path = without_slash(path);
            path.iter().rposition(|byte| *byte == b'/').map(|at| path.split_at(at).0.to_vec())
        };
        match (parent(&self.path), parent(path)) {
            (Some(one), Some(other)) => !one.is_empty() && same_path(&one, &other),
            _ => false,
        }
    }

    fn tail<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        strip_path(path, &self.path).filter(|tail| matches!(tail.first(), None | Some(b'/')))
    }

    /// Whether a URL with this query may count as a part of it. Players leave the query out, and some
    /// append the track to it. Another one means something to who reads it: an authenticator may.
    fn has_query(&self, query: &[u8], route: &Route) -> bool {
        let appended = || {
            let tail = query.strip_prefix(&self.query[..]);
            !self.query.is_empty() && tail.is_some_and(|tail| tail.starts_with(b"/"))
        };
        query.is_empty()
            || query == self.query
            || appended()
            || !matches!(route.auth, Auth::Plugin(_))
    }
}

impl Grant {
    fn covers(&self, table: &Table, spot: Spot<'_>, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.place.has(table, spot)
    }
}

impl Grants {
    /// Takes in a grant, in place of one for the same presentation or of the oldest.
    pub fn give(&mut self, place: Place, user: String, until: Option<Instant>) {
        self.all.retain(|grant| grant.place.presentation != place.presentation);
        if self.all.len() >= GRANTS_MAX {
            self.all.remove(0);
        }
        self.all.push(Grant { place, user, until });
    }

    /// All end.
    pub fn end(&mut self) {
        self.all.clear();
    }

    /// Those of users that are no longer what they were end.
    pub fn end_of_users(&mut self, holds: impl Fn(&str) -> bool) {
        self.all.retain(|grant| grant.user.is_empty() || holds(&grant.user));
    }

    /// Another table is in force: those whose route is not the same in it end.
    pub fn move_to(&mut self, before: &Table, after: &Table) {
        self.all.retain_mut(|grant| match before.same_route(grant.place.route, after) {
            Some(route) => {
                grant.place.route = route;
                true
            }
            None => false,
        });
    }
}

fn without_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// What follows the first `?`.
fn query_of(rest: &[u8]) -> &[u8] {
    let at = rest.iter().position(|byte| *byte == b'?').map_or(rest.len(), |at| at + 1);
    rest.get(at..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    /// A table of these routes and slots, with origins `a` and `b`, and `signed` whose requests the
    /// gateway signs.
    pub(super) fn table(rest: &str) -> Table {
        let origin = |name: &str, at: u8| {
            format!("[[origin]]\nname = \"{name}\"\nurl = \"rtsp://192.0.2.{at}\"\n")
        };
        let origins = [origin("a", 1), origin("b", 2), origin("signed", 3)].concat();
        let toml = format!("{origins}credentials = \"c\"\n{rest}");
        Table::new(&text::parse(&toml).unwrap(), None, 1)
    }

    const ALIASES: [u8; 32] = [7; 32];

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn asked<'a>(method: &str, url: &'a Url<'a>) -> Asked<'a> {
        let (method, has_body) = match method.strip_suffix("+body") {
            Some(method) => (method, true),
            None => (method, false),
        };
        Asked { method: Method::from_bytes(method.as_bytes()), url, has_body }
    }

    fn judge(
        table: &Table,
        grants: &Grants,
        under_way: Option<UnderWay<'_>>,
        request: &str,
    ) -> Verdict {
        let (method, rest) = request.split_once(' ').unwrap();
        let url = format!("rtsp://gw{rest}");
        let url = Url::parse(url.as_bytes()).unwrap();
        permits(table, &ALIASES.into(), grants, under_way, asked(method, &url), at(10))
    }

    /// The verdict in words: what it is, route, presentation.
    fn told(table: &Table, verdict: &Verdict) -> String {
        let place = |word: &str, place: &Place| {
            let route = String::from_utf8_lossy(table.routes()[place.route].path()).into_owned();
            let Presentation { path, query } = &place.presentation;
            let [path, query] = [path, query].map(|text| String::from_utf8_lossy(text));
            let mark = if query.is_empty() { "" } else { "?" };
            format!("{word} {route} {path}{mark}{query}")
        };
        match verdict {
            Verdict::Permitted(it) => place("permitted", it),
            Verdict::Needs(it) => place("needs", it),
            Verdict::Refused(Refused::Method(methods)) => format!("405 {}", allow(*methods)),
            other => format!("{other:?}"),
        }
    }

    fn granted(table: &Table, presentations: &[&str]) -> Grants {
        let mut grants = Grants::default();
        for request in presentations {
            match judge(table, &Grants::default(), None, request) {
                Verdict::Needs(place) | Verdict::Permitted(place) => {
                    grants.give(place, "ann".into(), None);
                }
                other => panic!("{request}: {other:?}"),
            }
        }
        grants
    }

    fn check(table: &Table, grants: &[&str], rows: &[(&str, &str)]) {
        let grants = granted(table, grants);
        for (request, wanted) in rows {
            let verdict = judge(table, &grants, None, request);
            assert_eq!(told(table, &verdict), *wanted, "{request}");
        }
    }

    const PUBLIC_AND_PRIVATE: &str = "[[route]]\npath = \"/public/**\"\norigins = [\"a\"]\n\
        auth = \"none\"\n[[route]]\npath = \"/private/**\"\norigins = [\"a\"]\nauth = \"digest\"\n";

    #[test]
    fn each_url_is_judged_by_its_own_route() {
        let table = table(PUBLIC_AND_PRIVATE);
        check(
            &table,
            &["DESCRIBE /public/cam1"],
            &[
                ("SETUP /public/cam1/t1", "permitted /public/** /public/cam1"),
                ("SETUP /private/cam9/t1", "needs /private/** /private/cam9/t1"),
                ("PLAY /private/cam9", "needs /private/** /private/cam9"),
                ("GET_PARAMETER /private/cam9", "needs /private/** /private/cam9"),
                ("X-OTHER /private/cam9", "needs /private/** /private/cam9"),
                ("SETUP /elsewhere", "Refused(NoRoute)"),
                ("SETUP /public/cam2/t1", "permitted /public/** /public/cam2/t1"),
            ],
        );
        check(
            &table,
            &["DESCRIBE /private/cam9"],
            &[
                ("SETUP /private/cam9/t1", "permitted /private/** /private/cam9"),
                ("PLAY /private/cam9/", "permitted /private/** /private/cam9"),
                ("SETUP /private/cam9/t1?transportmode=x", "permitted /private/** /private/cam9"),
                ("SETUP /private/cam90/t1", "needs /private/** /private/cam90/t1"),
                ("PLAY /private/", "needs /private/** /private"),
            ],
        );
    }

    #[test]
    fn a_presentation_is_granted_by_itself() {
        let table = table(
            "[[plugin]]\nslot = \"gate\"\n[[route]]\npath = \"/live/*\"\n\
             origins = [\"a\"]\nauth = \"plugin:gate\"\n",
        );
        check(
            &table,
            &["DESCRIBE /live/cam1?token=T"],
            &[
                ("SETUP /live/cam1/t1", "permitted /live/* /live/cam1?token=T"),
                ("SETUP /live/cam1/t1?token=T", "permitted /live/* /live/cam1?token=T"),
                ("SETUP /live/cam1?token=T/t1", "permitted /live/* /live/cam1?token=T"),
                ("PLAY /live/cam1/", "permitted /live/* /live/cam1?token=T"),
                ("SETUP /live/cam1/t1?token=U", "needs /live/* /live/cam1?token=U"),
                ("SETUP /live/cam1/t1?token=TT", "needs /live/* /live/cam1?token=TT"),
                ("DESCRIBE /live/cam2?token=T", "needs /live/* /live/cam2?token=T"),
                ("SETUP /live/cam2/t1", "needs /live/* /live/cam2"),
                ("SETUP /live/cam12/t1", "needs /live/* /live/cam12"),
            ],
        );
    }

    #[test]
    fn below_a_presentation_may_lie_what_is_of_another_route() {
        let table = table(
            "[[route]]\npath = \"/live/**\"\norigins = [\"a\"]\nauth = \"basic\"\n\
             [[route]]\npath = \"/live/x/inner/**\"\norigins = [\"b\"]\nauth = \"digest\"\n\
             [[route]]\npath = \"/*/x\"\norigins = [\"b\"]\nauth = \"digest\"\n",
        );
        check(
            &table,
            &["DESCRIBE /live", "DESCRIBE /live/y"],
            &[
                ("SETUP /live/y/t1", "permitted /live/** /live"),
                ("SETUP /live/x/inner/t1", "needs /live/x/inner/** /live/x/inner/t1"),
                ("DESCRIBE /live/x/inner", "needs /live/x/inner/** /live/x/inner"),
                ("SETUP /live/x", "needs /*/x /live/x"),
            ],
        );
    }

    #[test]
    fn what_names_the_gateway_is_its_own() {
        let table = table("[[route]]\npath = \"/**\"\norigins = [\"a\"]\nauth = \"digest\"\n");
        check(
            &table,
            &[],
            &[
                ("OPTIONS ", "Gateway"),
                ("OPTIONS /", "Gateway"),
                ("OPTIONS /?src=1", "needs /** ?src=1"),
                ("DESCRIBE /", "needs /** "),
                ("GET_PARAMETER /", "needs /** "),
            ],
        );
        let table = self::table(PUBLIC_AND_PRIVATE);
        check(
            &table,
            &[],
            &[
                ("OPTIONS /", "Gateway"),
                ("GET_PARAMETER /", "Gateway"),
                ("SET_PARAMETER ", "Gateway"),
                ("DESCRIBE /", "Refused(NoRoute)"),
                ("OPTIONS /x", "Refused(NoRoute)"),
            ],
        );
    }

    #[test]
    fn what_the_gateway_signs_is_what_the_route_says() {
        let route = |methods: &str| {
            format!(
                "[[route]]\npath = \"/cam1\"\norigins = [\"signed\"]\nauth = \"none\"\n{methods}"
            )
        };
        let play = "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER";
        let watching = table(&route(""));
        let refused = format!("405 {play}");
        for method in ["OPTIONS", "DESCRIBE", "SETUP", "GET_PARAMETER+body", "TEARDOWN"] {
            check(&watching, &[], &[(&format!("{method} /cam1"), "permitted /cam1 /cam1")]);
        }
        for method in ["ANNOUNCE", "RECORD", "SET_PARAMETER", "X-REBOOT"] {
            check(&watching, &[], &[(&format!("{method} /cam1"), &refused)]);
        }
        check(
            &watching,
            &[],
            &[
                ("SETUP /Streaming/Channels/901/track1", "Refused(NoRoute)"),
                ("SET_PARAMETER /ISAPI/System/reboot", "Refused(NoRoute)"),
                ("SETUP /cam1/../Streaming", "Refused(Ambiguous)"),
            ],
        );
        let more = table(&route("methods = [\"publish\", \"other\"]\n"));
        check(
            &more,
            &[],
            &[
                ("ANNOUNCE /cam1", "permitted /cam1 /cam1"),
                ("X-VENDOR /cam1", "permitted /cam1 /cam1"),
                ("SET_PARAMETER /cam1", "405 ANNOUNCE, RECORD"),
                ("PLAY /cam1", "405 ANNOUNCE, RECORD"),
            ],
        );
        let unsigned = table("[[route]]\npath = \"/cam1\"\norigins = [\"a\"]\nauth = \"none\"\n");
        check(&unsigned, &[], &[("SET_PARAMETER /cam1", "permitted /cam1 /cam1")]);
    }

    #[test]
    fn two_meanings_are_refused_where_some_paths_are_for_some_only() {
        let strict = table(&format!(
            "{PUBLIC_AND_PRIVATE}[[route]]\npath = \"/**\"\norigins = [\"b\"]\nauth = \"none\"\n"
        ));
        for path in ["//private", "/x/../private", "/%70rivate", "/private;x", "/public//t1"] {
            check(&strict, &[], &[(&format!("SETUP {path}"), "Refused(Ambiguous)")]);
        }
        let open =
            table("[[route]]\npath = \"/**\"\norigins = [\"a\", \"signed\"]\nauth = \"none\"\n");
        check(&open, &[], &[("DESCRIBE //Streaming/1", "permitted /** //Streaming/1")]);
    }

    #[test]
    fn an_alias_is_of_its_presentation_and_falls_to_its_route() {
        let table = table(
            "[[route]]\npath = \"/live/*\"\norigins = [\"a\"]\nauth = \"digest\"\n\
             [[route]]\npath = \"/**\"\norigins = [\"b\"]\nauth = \"none\"\n",
        );
        let url = Url::parse(b"rtsp://gw/live/av0?x=1").unwrap();
        let place = Place { route: 0, presentation: Presentation::of(&url) };
        let alias = place.alias(&ALIASES.into(), &Target::of(b"rtsp://A/video0")).unwrap();
        let alias = String::from_utf8(alias).unwrap();
        assert!(alias.starts_with("/live/av0/gateway-url-") && alias.ends_with("?x=1"), "{alias}");
        let setup = format!("SETUP {alias}");
        check(&table, &["DESCRIBE /live/av0"], &[(&setup, "permitted /live/* /live/av0")]);
        check(&table, &[], &[(&setup, "needs /live/* /live/av0?x=1")]);
        let forged = setup.replace("/av0/", "/av1/");
        let deeper = format!("{}/t1", setup.replace("?x=1", ""));
        check(
            &table,
            &["DESCRIBE /live/av0"],
            &[
                (&forged, "Refused(NoAlias)"),
                (&deeper, "Refused(NoAlias)"),
                ("SETUP /elsewhere/gateway-url-AAAA", "Refused(NoAlias)"),
            ],
        );
        for (rest, shown) in [
            ("/live/av0/t1", true),
            ("/live/av0", true),
            ("/live/av0?y", true),
            ("/video0", false),
            ("/live/av1/t1", false),
            ("/live/av0//t1", false),
            ("/live/av0/gateway-url-AAAA", false),
        ] {
            assert_eq!(place.shows(&table, rest.as_bytes()), shown, "{rest}");
        }
    }

    #[test]
    fn a_grant_ends_with_its_time_its_route_its_user_and_when_it_is_ended() {
        let before = table(PUBLIC_AND_PRIVATE);
        let describe = "DESCRIBE /private/cam9";
        let holds = |table: &Table, grants: &Grants| {
            matches!(judge(table, grants, None, describe), Verdict::Permitted(_))
        };
        let mut grants = granted(&before, &[describe]);
        assert!(holds(&before, &grants));
        for (until, wanted) in [(at(11), true), (at(10), false)] {
            let Verdict::Needs(place) = judge(&before, &Grants::default(), None, describe) else {
                panic!("it asks");
            };
            let mut timed = Grants::default();
            timed.give(place, String::new(), Some(until));
            assert_eq!(holds(&before, &timed), wanted);
        }
        grants.end_of_users(|user| user == "ann");
        assert!(holds(&before, &grants));
        let more = table(&format!(
            "[[route]]\npath = \"/new\"\norigins = [\"b\"]\nauth = \"none\"\n{PUBLIC_AND_PRIVATE}"
        ));
        grants.move_to(&before, &more);
        assert!(holds(&more, &grants), "it is found at its new place");
        for change in
            [("digest", "basic"), ("[\"a\"]\nauth = \"digest", "[\"b\"]\nauth = \"digest")]
        {
            let mut grants = granted(&before, &[describe]);
            let other = table(&PUBLIC_AND_PRIVATE.replace(change.0, change.1));
            grants.move_to(&before, &other);
            assert!(!holds(&other, &grants), "{change:?}");
        }
        grants.end_of_users(|user| user != "ann");
        assert!(!holds(&more, &grants));
        let mut grants = granted(&before, &[describe]);
        grants.end();
        assert!(!holds(&before, &grants));
    }

    #[test]
    fn what_ends_or_keeps_a_session_goes_on() {
        let table = table(PUBLIC_AND_PRIVATE);
        let url = Url::parse(b"rtsp://gw/gone/cam1").unwrap();
        let presentation = Presentation::of(&url);
        let verdict = |route_holds: bool, request: &str| {
            let under_way = UnderWay { presentation: &presentation, route_holds };
            told(&table, &judge(&table, &Grants::default(), Some(under_way), request))
        };
        for request in [
            "TEARDOWN /gone/cam1",
            "PAUSE /gone/cam1/",
            "OPTIONS /gone/cam1",
            "GET_PARAMETER /gone/cam1/t1",
        ] {
            assert_eq!(verdict(false, request), "Drains", "{request}");
        }
        for request in [
            "PLAY /gone/cam1",
            "SETUP /gone/cam1/t2",
            "GET_PARAMETER+body /gone/cam1",
            "TEARDOWN /elsewhere",
            "TEARDOWN /",
        ] {
            assert_eq!(verdict(false, request), "Refused(NoRoute)", "{request}");
        }
        assert_eq!(verdict(true, "TEARDOWN /gone/cam1"), "Drains", "its grant is over");
        assert_eq!(verdict(true, "PAUSE /gone/cam1"), "Refused(NoRoute)");
    }

    #[test]
    fn grants_are_bounded_and_the_oldest_goes_first() {
        let table = table(PUBLIC_AND_PRIVATE);
        let all: Vec<String> =
            (0..=GRANTS_MAX).map(|at| format!("DESCRIBE /private/cam{at}")).collect();
        let grants = granted(&table, &all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(grants.all.len(), GRANTS_MAX);
        assert!(matches!(judge(&table, &grants, None, &all[0]), Verdict::Needs(_)));
        assert!(matches!(judge(&table, &grants, None, &all[GRANTS_MAX]), Verdict::Permitted(_)));
    }
}
