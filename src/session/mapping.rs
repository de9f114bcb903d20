//! How one side's URLs are named on the other.
//!
//! Where an origin names a URL that the client could not ask for as a part of its presentation, an
//! alias stands for it (see [`crate::scope`]); all else keeps its bytes from the base on.

use std::sync::Arc;

use crate::{
    origin::{Lookup, Table},
    rtsp::{
        Url,
        url::{Base, after_host, is_relative, strip_path},
    },
    scope::{Aliases, Place, Target},
};

/// How one side's URLs are named on the other.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    /// `rtsp://gateway:8554` as the client wrote it, and the literal part of the route's path.
    pub(super) client: Base,
    /// `rtsp://origin:554` and the path of the origin's URL.
    pub(super) origin: Base,
    /// Requests keep the URI that the client signed.
    pub(super) keep_uri: bool,
    /// Where the client is, so that nothing it is shown leads elsewhere.
    pub(super) scope: Scope,
}

/// The presentation whose answers are rewritten, and what aliases below it are made with.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) table: Arc<Table>,
    pub(super) place: Place,
    pub(super) aliases: Aliases,
}

impl Mapping {
    /// A client's URL as the origin knows it. What is no URL is left alone.
    pub(super) fn to_origin(&self, url: &[u8]) -> Vec<u8> {
        if let Some(aliased) = self.scope.aliases.meant(url, &self.origin) {
            return in_a_line(aliased);
        }
        let Ok(parsed) = Url::parse(url) else { return url.to_vec() };
        if self.keep_uri && self.origin.path.is_empty() && self.client.path.is_empty() {
            return url.to_vec();
        }
        match below(parsed.rest, &self.client.path) {
            Some(tail) => in_a_line(self.origin.at(tail)),
            None => in_a_line([&self.origin.authority, parsed.rest].concat()),
        }
    }

    /// An origin's URL as the client should see it: as it lies below the bases, or an alias of the
    /// presentation where the client could not ask for that. None for what is no URL of RTSP.
    pub(super) fn to_client(&self, url: &[u8]) -> Option<Vec<u8>> {
        self.shown(url).or_else(|| {
            let rtsp = [&b"rtsp:"[..], b"rtsps:"].iter().any(|scheme| {
                url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
            });
            rtsp.then(|| self.alias(url)).flatten()
        })
    }

    /// The same, where it needs no alias.
    pub(super) fn shown(&self, url: &[u8]) -> Option<Vec<u8>> {
        let mapped = self.below_client(url)?;
        let rest = Url::parse(&mapped).ok()?.rest;
        let Scope { table, place, .. } = &self.scope;
        // A client signs what it asks for: the origin must be asked for the same.
        let signed = || table.route(rest, Lookup::Media) == Some(place.route);
        (place.shows(table, rest) || (self.keep_uri && signed())).then_some(mapped)
    }

    /// The URL of the presentation that the client is at.
    pub(super) fn presentation(&self) -> Vec<u8> {
        [&self.client.authority[..], &self.scope.place.presentation.rest()].concat()
    }

    /// The alias that stands for an origin's URL.
    pub(super) fn alias(&self, url: &[u8]) -> Option<Vec<u8>> {
        let Scope { place, aliases, .. } = &self.scope;
        let alias = place.alias(aliases, &Target::of(url))?;
        Some([&self.client.authority[..], &alias].concat())
    }

    /// An origin's URL moved to the client's base; none where it has no place under it. The host is
    /// not looked at: cameras behind a NAT name themselves by inner addresses.
    pub(super) fn below_client(&self, url: &[u8]) -> Option<Vec<u8>> {
        let parsed = Url::parse(url).ok()?;
        if url.starts_with(&self.client.authority)
            && below(parsed.rest, &self.client.path).is_some()
        {
            return Some(url.to_vec());
        }
        let tail = self.origin.tail(parsed.rest)?;
        Some([&self.client.authority, &self.client.path, &*tail].concat())
    }

    /// The same, for places that need some URL whatever it names; none for what names no host.
    pub(super) fn to_client_or_host(&self, url: &[u8]) -> Option<Vec<u8>> {
        if is_relative(url, self.origin_host()) {
            return None;
        }
        let rest = Url::parse(url).map_or_else(|_| after_host(url), |url| url.rest);
        let below = self.below_client(&[&self.origin.authority, rest].concat());
        Some(below.unwrap_or_else(|| [&self.client.authority, rest].concat()))
    }

    /// What an origin means by a URL however it spells it, as a URL of RTSP; none for what is relative,
    /// unless it is a path.
    pub(super) fn meant(&self, url: &[u8]) -> Option<Vec<u8>> {
        let rtsp = url.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"rtsp"));
        match is_relative(url, self.origin_host()) {
            false if rtsp => Some(url.to_vec()),
            false => Some([&self.origin.authority, after_host(url)].concat()),
            true if url.starts_with(b"/") => Some([&self.origin.authority, url].concat()),
            true => None,
        }
    }

    /// The host that no client hears of; empty where client and origin call the same one theirs.
    pub(super) fn origin_host(&self) -> &[u8] {
        let origin = Url::parse(&self.origin.authority).map_or(&b""[..], |url| url.host);
        let client = Url::parse(&self.client.authority).map_or(&b""[..], |url| url.host);
        if origin.eq_ignore_ascii_case(client) { b"" } else { origin }
    }

    /// Whether an origin's host stands where a host stands.
    pub(super) fn leaks(&self, text: &[u8]) -> bool {
        let low = text.to_ascii_lowercase();
        let client = Url::parse(&self.client.authority).map_or(&b""[..], |url| url.host);
        let ours = self.origin_host();
        let origins = self.scope.table.origins().iter().map(|origin| origin.host().as_bytes());
        let mut hosts = origins.filter(|host| !host.eq_ignore_ascii_case(client)).chain([ours]);
        hosts.any(|host| {
            let host = host.to_ascii_lowercase();
            !host.is_empty()
                && memchr::memmem::find_iter(&low, &host).any(|at| {
                    let before = low.get(..at).unwrap_or_default();
                    let begins = before.ends_with(b"//")
                        || before.last().is_none_or(|byte| b"@\"=, ;<".contains(byte));
                    let after = low.get(at + host.len());
                    begins && after.is_none_or(|byte| b":/?#\" ,;>".contains(byte))
                })
        })
    }
}

/// What lies below a path; it begins with `/` or `?`, or is empty.
pub(super) fn below<'a>(rest: &'a [u8], path: &[u8]) -> Option<&'a [u8]> {
    let tail = strip_path(rest, path)?;
    matches!(tail.first(), None | Some(b'/' | b'?')).then_some(tail)
}

/// A URL that an origin named, for a request line: no byte of it ends or parts that.
fn in_a_line(url: Vec<u8>) -> Vec<u8> {
    if !url.iter().any(u8::is_ascii_control) {
        return url;
    }
    let escaped = |byte: u8| match byte.is_ascii_control() {
        true => format!("%{byte:02X}").into_bytes(),
        false => vec![byte],
    };
    url.into_iter().flat_map(escaped).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{config::text, scope::Presentation};

    pub(in crate::session) fn base(authority: &str, path: &str) -> Base {
        Base { authority: authority.into(), path: path.into() }
    }

    /// One route for all paths, and the presentation that this path is of.
    pub(in crate::session) fn mapping(client: Base, origin: Base, path: &str) -> Mapping {
        let toml = "[[origin]]\nname = \"a\"\nurl = \"rtsp://192.0.2.1\"\n\
            [[route]]\npath = \"/**\"\norigins = [\"a\"]\nauth = \"none\"\n";
        let url = [b"rtsp://gw", path.as_bytes()].concat();
        let presentation = Presentation::of(&Url::parse(&url).unwrap());
        let scope = Scope {
            table: Arc::new(Table::new(&text::parse(toml).unwrap(), None, 1)),
            place: Place { route: 0, presentation },
            aliases: [7; 32].into(),
        };
        Mapping { client, origin, keep_uri: false, scope }
    }

    #[test]
    fn a_url_moves_with_what_lies_below_its_base() {
        let client = base("rtsp://gw:8554", "/live");
        let mapping = mapping(client, base("rtsp://192.0.2.20:554", "/a"), "/live");
        let cases = [
            ("the base itself", "rtsp://gw:8554/live", "rtsp://192.0.2.20:554/a"),
            ("a slash at the end", "rtsp://gw:8554/live/", "rtsp://192.0.2.20:554/a/"),
            ("user dropped", "RTSP://u:p@GW:8554/live", "rtsp://192.0.2.20:554/a"),
            (
                "dahua query url with appended track",
                "rtsp://gw:8554/live/realmonitor?channel=1&subtype=0/trackID=1",
                "rtsp://192.0.2.20:554/a/realmonitor?channel=1&subtype=0/trackID=1",
            ),
            (
                "nothing is decoded",
                "rtsp://gw:8554/live/%20/../$x?token=%2F&a//b#c",
                "rtsp://192.0.2.20:554/a/%20/../$x?token=%2F&a//b#c",
            ),
            ("a query at once", "rtsp://gw:8554/live?x=1", "rtsp://192.0.2.20:554/a?x=1"),
            ("a longer segment is another path", "rtsp://gw/live2", "rtsp://192.0.2.20:554/live2"),
            ("no url", "*", "*"),
        ];
        for (name, url, expected) in cases {
            let moved = String::from_utf8(mapping.to_origin(url.as_bytes())).unwrap();
            assert_eq!(moved, expected, "{name}");
        }
    }

    #[test]
    fn there_and_back_gives_the_same_bytes() {
        let origin = base("rtsp://[2001:db8::1]:554", "/x?c=1");
        let mapping = mapping(base("rtsp://gw:8554", ""), origin, "");
        for rest in ["", "/", "/a%20b?t=$&y=@z", "//Streaming/Channels/101"] {
            let url = [b"rtsp://gw:8554", rest.as_bytes()].concat();
            let there = mapping.to_origin(&url);
            assert_eq!(mapping.to_client(&there).unwrap(), url, "{rest}");
        }
        let mapping_for = |client: &str, origin: &str| {
            self::mapping(base("rtsp://gw:8554", client), base("rtsp://h:554", origin), client)
        };
        let check = |mapping: &Mapping, ours: &str, theirs: &str| {
            let (ours, theirs) = (format!("rtsp://gw:8554{ours}"), format!("rtsp://h:554{theirs}"));
            let moved = mapping.to_origin(ours.as_bytes());
            assert_eq!(String::from_utf8(moved).unwrap(), theirs);
            let back = mapping.to_client(theirs.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), ours);
        };
        let mapping = mapping_for("/cam1", "/cam/realmonitor?channel=1&subtype=0");
        for (ours, theirs) in [
            ("/cam1", "/cam/realmonitor?channel=1&subtype=0"),
            ("/cam1/trackID=1", "/cam/realmonitor?channel=1&subtype=0/trackID=1"),
            ("/cam1?t=2", "/cam/realmonitor?channel=1&subtype=0&t=2"),
        ] {
            check(&mapping, ours, theirs);
        }
        let other = b"rtsp://h:554/cam/realmonitor?channel=1&subtype=01";
        assert_eq!(mapping.below_client(other), None);
        let mapping = mapping_for("/cam1", "/S/101/");
        for (ours, theirs) in [("/cam1", "/S/101/"), ("/cam1/t=1", "/S/101/t=1")] {
            check(&mapping, ours, theirs);
        }
        check(&mapping_for("/live", "/"), "/live/7", "/7");
        let mapping = mapping_for("", "/x?c=1");
        assert_eq!(mapping.below_client(b"rtsp://[2001:db8::1]/elsewhere"), None);
        assert_eq!(mapping.below_client(b"rtsp://rtsp://h/a"), None, "broken ones have no place");
    }

    #[test]
    fn what_lies_outside_of_the_presentation_is_shown_as_an_alias_and_comes_back() {
        let client = base("rtsp://gw:8554", "");
        let mapping = mapping(client, base("rtsp://192.0.2.20:554", ""), "/live/av0");
        let rows = [
            ("rtsp://10.0.0.5/live/av0/t1", true, "rtsp://192.0.2.20:554/live/av0/t1"),
            ("rtsp://10.0.0.5/live/av0", true, "rtsp://192.0.2.20:554/live/av0"),
            ("rtsp://10.0.0.5/video0", false, "rtsp://192.0.2.20:554/video0"),
            ("rtsp://10.0.0.5/", false, "rtsp://192.0.2.20:554/"),
            ("rtsp://10.0.0.5/a\u{2}b\r", false, "rtsp://192.0.2.20:554/a%02b%0D"),
            ("rtsp://rtsp://10.0.0.5/t1", false, "rtsp://rtsp://10.0.0.5/t1"),
        ];
        for (url, shown, there) in rows {
            assert_eq!(mapping.shown(url.as_bytes()).is_some(), shown, "{url}");
            let seen = mapping.to_client(url.as_bytes()).unwrap();
            assert!(seen.starts_with(b"rtsp://gw:8554/live/av0"), "{url}");
            assert_eq!(String::from_utf8(mapping.to_origin(&seen)).unwrap(), there, "{url}");
        }
        assert_eq!(mapping.to_client(b"trackID=1"), None);
        assert_eq!(mapping.to_client(b"*"), None);
    }

    #[test]
    fn utf_8_in_the_base_may_be_raw_or_escaped() {
        let client = base("rtsp://gw", "/T%C3%BCr");
        let mapping = mapping(client, base("rtsp://cam", "/a"), "/T%C3%BCr");
        for url in ["rtsp://gw/T\u{fc}r/t1", "rtsp://gw/T%c3%bcr/t1", "rtsp://gw/T%C3%BCr/t1"] {
            assert_eq!(mapping.to_origin(url.as_bytes()), b"rtsp://cam/a/t1", "{url}");
        }
    }
}
