//! From a path to a route.
//!
//! A pattern is a list of segments: a literal, `*` for any one segment, `**` (last only) for the
//! rest, which may be nothing. Bytes are compared as they are: `%20` is not a space; UTF-8 alone may
//! stand raw or escaped in either. The query is cut before matching, and one slash at the end means
//! nothing (players add it).
//!
//! Of several patterns that match, the one with more literal segments wins, then the one with more
//! segments, then the one without `**`, then the one that stands first in the configuration.
//!
//! Not in here: which origin of the route is taken.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{
    config::{self, Auth, Endpoints, Methods, OriginTransport, Policy, Redirect, Slot, Strip},
    rtsp::url::same_path,
};

/// What a path is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A presentation (OPTIONS, DESCRIBE, ANNOUNCE): the whole path must match.
    Presentation,
    /// A media URL may be named (SETUP and later): it lies below a presentation, so a pattern for
    /// a leading run of segments matches too. Patterns without `**` for the whole path go first.
    Media,
}

/// A route of the configuration, ready to be matched.
#[derive(Debug)]
pub struct Route {
    path: Vec<u8>,
    segments: Vec<Segment>,
    rest: bool,
    literal_prefix: usize,
    /// Indices into the table's origins, in the order of the configuration.
    pub origins: Vec<usize>,
    /// How one of them is chosen.
    pub policy: Policy,
    /// Who checks the client.
    pub auth: Auth,
    /// Transport toward the origin.
    pub origin_transport: OriginTransport,
    /// What happens to a redirect to elsewhere.
    pub redirect: Redirect,
    /// Who may send into its pipes.
    pub endpoints: Endpoints,
    /// Whether the literal part of its path is taken off toward the origin.
    pub strip: Strip,
    /// What players may ask for where the gateway signs for them.
    pub methods: Methods,
    /// Whether the gateway has credentials for one of its origins, and signs what it sends there.
    pub signs: bool,
    /// The slots that see its messages: toward the origin in order, toward the client in reverse.
    pub filters: Vec<Slot>,
    turn: AtomicU64,
}

#[derive(Debug, PartialEq, Eq)]
enum Segment {
    Any,
    Literal(Vec<u8>),
}

impl Segment {
    fn matches(&self, part: &[u8]) -> bool {
        match self {
            Self::Any => !part.is_empty(),
            Self::Literal(bytes) => same_path(bytes, part),
        }
    }
}

impl Route {
    /// The compiled form of `route`, whose origins are at `origins` in the table.
    pub fn new(route: &config::Route, origins: Vec<usize>) -> Self {
        let path = route.path.as_bytes().to_vec();
        let mut segments = Vec::new();
        let mut rest = false;
        let mut literal_prefix = 0;
        for part in parts(&path) {
            match part {
                b"**" => {
                    rest = true;
                    break;
                }
                b"*" => segments.push(Segment::Any),
                literal => {
                    if literal_prefix_open(&segments) {
                        literal_prefix += 1 + literal.len();
                    }
                    segments.push(Segment::Literal(literal.to_vec()));
                }
            }
        }
        Self {
            literal_prefix,
            path,
            segments,
            rest,
            origins,
            policy: route.policy,
            auth: route.auth,
            origin_transport: route.origin_transport,
            redirect: route.redirect,
            endpoints: route.endpoints,
            strip: route.strip,
            methods: route.methods,
            signs: false,
            filters: route.filters.to_vec(),
            turn: AtomicU64::new(0),
        }
    }

    /// The pattern as configured.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The part before the first wildcard segment, without a slash at the end: `/live/*` gives
    /// `/live`, `/**` gives nothing.
    pub fn literal_prefix(&self) -> &[u8] {
        self.path.get(..self.literal_prefix).unwrap_or_default()
    }

    /// Whether it leads to one path only, that of the configuration.
    pub fn is_fixed(&self) -> bool {
        !self.rest && self.segments.iter().all(|one| *one != Segment::Any)
    }

    /// The part that the path of an origin's URL takes the place of.
    pub fn replaced_by(&self, origin_path: &[u8]) -> &[u8] {
        match self.strip {
            Strip::Yes => self.literal_prefix(),
            Strip::Auto if !origin_path.is_empty() => self.literal_prefix(),
            Strip::Auto | Strip::No => b"",
        }
    }

    /// The presentation that a path which this route serves belongs to: as many segments as the
    /// pattern has. Under `**` any depth may be one, so it is the whole path. No slash at the end.
    pub fn presentation<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let whole = path.strip_suffix(b"/").unwrap_or(path);
        if self.rest {
            return whole;
        }
        let skip = usize::from(whole.starts_with(b"/"));
        let slashes = whole.iter().enumerate().skip(skip).filter(|(_, byte)| **byte == b'/');
        let end = match self.segments.len().checked_sub(1) {
            Some(nth) => slashes.map(|(at, _)| at).nth(nth),
            None => Some(0),
        };
        end.and_then(|end| whole.get(..end)).unwrap_or(whole)
    }

    /// Whether paths of any depth match: it ends in `**`.
    pub const fn is_open_ended(&self) -> bool {
        self.rest
    }

    /// Whether the gateway itself asks who the client is.
    pub const fn asks(&self) -> bool {
        matches!(self.auth, Auth::Digest | Auth::Basic | Auth::Plugin(_))
    }

    /// Whether it stands for every path, so that no spelling of one leads past it.
    pub(super) const fn is_catch_all(&self) -> bool {
        self.segments.is_empty() && self.rest
    }

    /// The number of this choice; each caller gets another.
    pub(super) fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn literals(&self) -> usize {
        self.segments.iter().filter(|one| **one != Segment::Any).count()
    }

    fn rank(&self) -> (usize, usize, bool) {
        (self.literals(), self.segments.len() + usize::from(self.rest), !self.rest)
    }

    /// Whether a path is its own or lies below it only for a server to which `A` and `a` are the same.
    pub(crate) fn covers_in_another_case(&self, path: &[u8]) -> bool {
        let cased = |path: &[u8]| path.iter().any(u8::is_ascii_uppercase);
        if !cased(path) && !cased(&self.path) || self.reach(path) != Reach::Nothing {
            return false;
        }
        self.reach_by(path, |segment, part| match segment {
            Segment::Any => segment.matches(part),
            Segment::Literal(bytes) => {
                same_path(&bytes.to_ascii_lowercase(), &part.to_ascii_lowercase())
            }
        }) != Reach::Nothing
    }

    fn reach(&self, path: &[u8]) -> Reach {
        self.reach_by(path, Segment::matches)
    }

    fn reach_by(&self, path: &[u8], matches: impl Fn(&Segment, &[u8]) -> bool) -> Reach {
        let mut given = parts(path);
        for segment in &self.segments {
            if !given.next().is_some_and(|part| matches(segment, part)) {
                return Reach::Nothing;
            }
        }
        match (given.next().is_none(), self.rest) {
            (_, true) => Reach::Rest,
            (true, false) => Reach::Whole,
            (false, false) => Reach::Start,
        }
    }
}

fn literal_prefix_open(segments: &[Segment]) -> bool {
    segments.iter().all(|one| *one != Segment::Any)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Nothing,
    /// A leading run of segments.
    Start,
    /// All of it, by `**`.
    Rest,
    /// All of it, segment by segment.
    Whole,
}

/// The segments of a path: query cut, slash at the start and one at the end dropped. `/` has none.
fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let count = if path.is_empty() { 0 } else { usize::MAX };
    path.split(|byte| *byte == b'/').take(count)
}

/// The index of the route for `path`.
pub fn find(routes: &[Route], path: &[u8], how: Lookup) -> Option<usize> {
    let best = |accept: fn(Reach) -> bool| {
        routes
            .iter()
            .enumerate()
            .rev() // of equals, `max_by_key` takes the last: the one that stands first
            .filter(|(_, route)| accept(route.reach(path)))
            .max_by_key(|(_, route)| route.rank())
            .map(|(index, _)| index)
    };
    match how {
        Lookup::Presentation => best(|reach| matches!(reach, Reach::Whole | Reach::Rest)),
        // A `**` swallows everything: `/**` must not take the tracks of `/cam1`.
        Lookup::Media => best(|reach| reach == Reach::Whole)
            .or_else(|| best(|reach| matches!(reach, Reach::Start | Reach::Rest))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(paths: &[&str]) -> Vec<Route> {
        paths.iter().map(|path| Route::new(&config(path), vec![0])).collect()
    }

    fn config(path: &str) -> config::Route {
        config::Route { path: path.try_into().unwrap(), ..config::Route::default() }
    }

    fn check(paths: &[&str], how: Lookup, asked: &str, wanted: Option<&str>) {
        let mut order = paths.to_vec();
        // The order of the configuration decides between equals only.
        for _ in 0..2 {
            let routes = routes(&order);
            let found = find(&routes, asked.as_bytes(), how);
            let found = found.map(|at| core::str::from_utf8(routes[at].path()).unwrap());
            assert_eq!(found, wanted, "{asked} as {how:?} in {order:?}");
            order.reverse();
        }
    }

    #[test]
    fn a_presentation_matches_its_whole_path() {
        let rows = [
            ("/cam1", "/cam1", true),
            ("/cam1", "/cam1/", true),
            ("/cam1", "/cam1?token=a/b", true),
            ("/cam1", "cam1", true),
            ("/cam1", "/cam10", false),
            ("/cam1", "/Cam1", false),
            ("/cam1", "/cam%31", false),
            ("/cam1", "/cam1/track1", false),
            ("/cam1", "//cam1", false),
            ("/cam1", "/", false),
            ("/a%20b$&", "/a%20b$&", true),
            ("/live/*", "/live/1", true),
            ("/live/*", "/live/", false),
            ("/live/*", "/live", false),
            ("/live/*", "/live/1/2", false),
            ("/live/*/sub", "/live/1/sub", true),
            ("/live/*/sub", "/live/1/main", false),
            ("/live/**", "/live", true),
            ("/live/**", "/live/1/2/3", true),
            ("/live/**", "/lives", false),
            ("/**", "/", true),
            ("/**", "", true),
            ("/**", "/a/b", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/*", "*", true),
        ];
        for (pattern, asked, matches) in rows {
            check(&[pattern], Lookup::Presentation, asked, matches.then_some(pattern));
        }
    }

    #[test]
    fn the_longest_match_wins() {
        let all = ["/**", "/*", "/live/**", "/live/*", "/live/1", "/*/1", "/live/*/x", "/*/*/*"];
        let rows = [
            ("/", "/**"),
            ("/a", "/*"),
            ("/live", "/live/**"),
            ("/live/1", "/live/1"),
            ("/live/2", "/live/*"),
            ("/other/1", "/*/1"),
            ("/other/2", "/**"),
            ("/live/2/x", "/live/*/x"),
            ("/live/2/y", "/live/**"),
            ("/a/b/c", "/*/*/*"),
            ("/a/b/c/d", "/**"),
        ];
        for (asked, wanted) in rows {
            check(&all, Lookup::Presentation, asked, Some(wanted));
        }
        check(&["/live/1"], Lookup::Presentation, "/live/2", None);
    }

    #[test]
    fn of_equal_patterns_the_first_wins() {
        for (first, second) in [("/a/*", "/*/b"), ("/*/b", "/a/*")] {
            let routes = routes(&[first, second]);
            assert_eq!(find(&routes, b"/a/b", Lookup::Presentation), Some(0));
        }
    }

    #[test]
    fn a_media_url_belongs_to_the_presentation_above_it() {
        let all = ["/**", "/cam1", "/live/*", "/live/door", "/live/door/track1"];
        let rows = [
            ("/cam1", "/cam1"),
            ("/cam1/trackID=1", "/cam1"),
            ("/cam1?token=1/trackID=1", "/cam1"),
            ("/live/door/trackID=1", "/live/door"),
            ("/live/door/track1", "/live/door/track1"),
            ("/live/gate/a/b", "/live/*"),
            ("/live", "/**"),
            ("/x/y", "/**"),
        ];
        for (asked, wanted) in rows {
            check(&all, Lookup::Media, asked, Some(wanted));
        }
        check(&["/cam1"], Lookup::Media, "/cam10/trackID=1", None);
        check(&["/cam1/*"], Lookup::Media, "/cam1", None);
        // Segment by segment a whole match goes before a longer literal above.
        check(&["/*/*", "/cam1"], Lookup::Media, "/cam1/track1", Some("/*/*"));
    }

    #[test]
    fn the_literal_part_is_taken_off_where_the_route_or_a_path_of_the_origin_says_so() {
        let rows: [(Strip, &[u8], &[u8]); 6] = [
            (Strip::Auto, b"", b""),
            (Strip::Auto, b"/S", b"/live"),
            (Strip::Yes, b"", b"/live"),
            (Strip::Yes, b"/S", b"/live"),
            (Strip::No, b"", b""),
            (Strip::No, b"/S", b""),
        ];
        for (strip, path, wanted) in rows {
            let route = Route::new(&config::Route { strip, ..config("/live/*") }, Vec::new());
            assert_eq!(route.replaced_by(path), wanted, "{strip:?}");
        }
    }

    #[test]
    fn a_presentation_has_as_many_segments_as_the_pattern() {
        let rows = [
            ("/cam1", "/cam1/trackID=1?x", "/cam1"),
            ("/cam1", "/cam1/", "/cam1"),
            ("/live/*", "/live/1/a/b", "/live/1"),
            ("/live/*", "/live/1?token=a/b", "/live/1"),
            ("/live/**", "/live/1/a", "/live/1/a"),
            ("/**", "/", ""),
            ("/", "/track1", ""),
        ];
        for (pattern, path, wanted) in rows {
            let route = Route::new(&config(pattern), Vec::new());
            assert_eq!(route.presentation(path.as_bytes()), wanted.as_bytes(), "{pattern} {path}");
        }
    }

    #[test]
    fn utf_8_matches_raw_and_escaped() {
        for pattern in ["/T\u{fc}r/*", "/T%C3%BCr/*", "/T%c3%bcr/*"] {
            for path in ["/T\u{fc}r/1", "/T%C3%BCr/1", "/T%c3%bcr/1"] {
                check(&[pattern], Lookup::Presentation, path, Some(pattern));
            }
            check(&[pattern], Lookup::Presentation, "/Tur/1", None);
        }
    }

    #[test]
    fn the_literal_prefix_ends_at_the_first_wildcard() {
        let rows = [
            ("/cam1", "/cam1"),
            ("/live/*", "/live"),
            ("/live/*/sub", "/live"),
            ("/a/b/**", "/a/b"),
            ("/*", ""),
            ("/**", ""),
            ("/", ""),
            ("/cam1/", "/cam1"),
        ];
        for (pattern, wanted) in rows {
            let route = Route::new(&config(pattern), Vec::new());
            assert_eq!(route.literal_prefix(), wanted.as_bytes(), "{pattern}");
        }
    }
}
