//! URLs, never decoded: `$`, `&`, `?token=`, `%20` survive byte for byte.

use core::{net::Ipv4Addr, ops::Range};

use super::{ParseError, Rule};

/// The port of an `rtsp` URL that names none.
pub const DEFAULT_PORT: u16 = 554;
/// The port of an `rtsps` URL that names none (RFC 7826 4.2).
pub const DEFAULT_TLS_PORT: u16 = 322;

/// An absolute URL, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// `rtsp`, `rtsps` or `rtspu`, as it came.
    pub scheme: &'a [u8],
    /// What stands before `@`.
    pub userinfo: Option<&'a [u8]>,
    /// Host; IPv6 in its brackets.
    pub host: &'a [u8],
    /// Port, 1 to 65535, where one is named.
    pub port: Option<u16>,
    /// Everything from the first `/` or `?` after the authority on; may be empty.
    pub rest: &'a [u8],
    /// Where user information, host and port stand.
    pub authority_span: Range<usize>,
    host_port: &'a [u8],
}

/// What one side calls a presentation: URLs below it map to the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// `rtsp://host:port`.
    pub authority: Vec<u8>,
    /// Path without a slash at the end; may be empty.
    pub path: Vec<u8>,
}

impl<'a> Url<'a> {
    /// Parses an absolute URL. Broken and relative ones are errors, and opaque to the caller:
    /// `rtsp:host` and `rtsp://rtsp://host/a`, which cameras send as control URLs, among them.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let error = |offset| ParseError { offset, rule: Rule::Url };
        let colon = text.iter().take(6).position(|byte| *byte == b':').ok_or(error(0))?;
        let (scheme, after) = text.split_at(colon);
        if !is_scheme(scheme) {
            return Err(error(0));
        }
        let after = after.strip_prefix(b"://").ok_or(error(colon))?;
        let start = colon + 3;
        let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, rest) = after.split_at(end.unwrap_or(after.len()));
        let (userinfo, host_port) = match authority.iter().rposition(|byte| *byte == b'@') {
            Some(at) => (authority.get(..at), authority.get(at + 1..).unwrap_or_default()),
            None => (None, authority),
        };
        let host_end = match host_port.first() {
            Some(b'[') => 1 + host_port.iter().position(|b| *b == b']').ok_or(error(start))?,
            _ => host_port.iter().position(|b| *b == b':').unwrap_or(host_port.len()),
        };
        let (host, port_text) = host_port.split_at(host_end);
        let port = match port_text {
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                let number = super::head::decimal(digits).and_then(|n| u16::try_from(n).ok());
                Some(number.filter(|n| *n > 0).ok_or(error(start))?)
            }
            _ => return Err(error(start)),
        };
        if host.is_empty() || host.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(error(start));
        }
        let nested = is_scheme(host) && port_text == b":" && rest.starts_with(b"//");
        if nested {
            return Err(error(start));
        }
        let authority_span = start..start + authority.len();
        Ok(Self { scheme, userinfo, host, port, rest, authority_span, host_port })
    }

    /// The path without its query; may be empty.
    pub fn path(&self) -> &'a [u8] {
        self.rest.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// Host and port as they came, without user information.
    pub const fn host_port(&self) -> &'a [u8] {
        self.host_port
    }

    /// The port that is meant: the scheme's own where none is named.
    pub fn port_or_default(&self) -> u16 {
        let tls = self.scheme.eq_ignore_ascii_case(b"rtsps");
        self.port.unwrap_or(if tls { DEFAULT_TLS_PORT } else { DEFAULT_PORT })
    }
}

/// The bytes that a path means where two spellings mean one: UTF-8 may stand raw or escaped, as
/// `ü` or `%C3%BC`. Escapes of ASCII stay: they may mean another path (RFC 3986 2.2).
fn spelled(path: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = path.get(at..)?;
        let (byte, len) = match escape(rest) {
            Some(byte @ 0x80..) => (byte, 3),
            _ => (*rest.first()?, 1),
        };
        at += len;
        Some((byte, at))
    })
}

/// The byte that an escape at the start of the text stands for.
pub fn escape(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

/// Whether two paths are the same, UTF-8 raw or escaped.
pub fn same_path(one: &[u8], other: &[u8]) -> bool {
    one == other || spelled(one).map(|it| it.0).eq(spelled(other).map(|it| it.0))
}

/// What follows a path that begins with `prefix`, UTF-8 raw or escaped in either.
pub fn strip_path<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = path.strip_prefix(prefix) {
        return Some(rest);
    }
    let mut given = spelled(path);
    let mut end = 0;
    for (wanted, _) in spelled(prefix) {
        let (byte, next) = given.next()?;
        if byte != wanted {
            return None;
        }
        end = next;
    }
    path.get(end..)
}

/// Whether a reference names no host: it is relative to a base. What begins with a host and lacks the
/// scheme (`192.0.2.1/a`, `h.lan:554/a`) is not, nor is anything that has a scheme, broken as it may be;
/// `host` is one that is known to be meant where it stands first.
pub fn is_relative(text: &[u8], host: &[u8]) -> bool {
    let scheme = text.split(|byte| *byte == b':').next().unwrap_or_default();
    let behind = text.get(scheme.len()..).unwrap_or_default();
    let has_scheme = behind.starts_with(b"://") || (is_scheme(scheme) && !behind.is_empty());
    if text.starts_with(b"//") || (has_scheme && scheme.iter().all(|byte| in_scheme(*byte))) {
        return false;
    }
    let first = text.split(|byte| matches!(byte, b'/' | b'?' | b'#')).next().unwrap_or_default();
    let host_port = first.rsplit(|byte| *byte == b'@').next().unwrap_or_default();
    let (name, port) = match host_port.iter().rposition(|byte| *byte == b':') {
        Some(at) => host_port.split_at(at),
        None => (host_port, &b""[..]),
    };
    let has_port = port.len() > 1 && port.iter().skip(1).all(u8::is_ascii_digit);
    let is_address = core::str::from_utf8(name).is_ok_and(|it| it.parse::<Ipv4Addr>().is_ok());
    let names_host = name.starts_with(b"[")
        || first.contains(&b'@')
        || is_address
        || (!host.is_empty() && name.eq_ignore_ascii_case(host))
        || (has_port && name.contains(&b'.'));
    !names_host
}

const fn in_scheme(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

/// What follows the host in a reference that names one, however it is spelled; it begins with `/` or `?`,
/// or is empty.
pub fn after_host(text: &[u8]) -> &[u8] {
    let slashes = text.windows(2).rposition(|two| two == b"//").map(|at| at + 2);
    let rest = text.get(slashes.unwrap_or(0)..).unwrap_or_default();
    let path = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    path.and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// Where URLs with a scheme and a host stand in a text, in order.
pub fn in_text(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let mark = at + memchr::memmem::find(text.get(at..)?, b"://")?;
        let before = text.get(at..mark)?;
        let start = mark - before.iter().rev().take_while(|byte| in_scheme(**byte)).count();
        let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\"<>,;".contains(byte);
        let len = text.get(mark + 3..)?.iter().position(ends);
        at = len.map_or(text.len(), |len| mark + 3 + len);
        Some(start..at)
    })
}

fn is_scheme(text: &[u8]) -> bool {
    [&b"rtsp"[..], b"rtsps", b"rtspu"].iter().any(|name| text.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_as_they_came() {
        let url = Url::parse(b"RTSP://user:p@ss@[2001:db8::1]:8554/a%20b?token=$x&y=@z").unwrap();
        assert_eq!(url.scheme, b"RTSP");
        assert_eq!(url.userinfo, Some(&b"user:p@ss"[..]));
        assert_eq!((url.host, url.port), (&b"[2001:db8::1]"[..], Some(8554)));
        assert_eq!(url.rest, b"/a%20b?token=$x&y=@z");
        assert_eq!((url.path(), url.host_port()), (&b"/a%20b"[..], &b"[2001:db8::1]:8554"[..]));
        let url = Url::parse(b"rtsp://cam").unwrap();
        assert_eq!((url.host, url.port, url.rest), (&b"cam"[..], None, &b""[..]));
        assert_eq!(Url::parse(b"rtsp://cam?x=1").unwrap().rest, b"?x=1");
    }

    #[test]
    fn broken_ones_are_opaque() {
        for text in [
            "",
            "*",
            "trackID=1",
            "/a",
            "rtsp:host/t",
            "http://h/",
            "rtsp://",
            "rtsp:///a",
            "rtsp://h:x/",
            "rtsp://h:0/",
            "rtsp://h:65536/",
            "rtsp://[::1/",
            "rtsp://a b/",
            "rtsp://rtsp://h/a",
            "rtsp://RTSP://",
            "rtsp://h:+5/",
            "rtsp://h:8554x/",
        ] {
            assert!(Url::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn utf_8_is_the_same_raw_and_escaped_and_ascii_is_not() {
        let rows: [(&[u8], &[u8], bool); 6] = [
            (b"/T%C3%BCr", "/T\u{fc}r".as_bytes(), true),
            (b"/T%c3%bcr", b"/T%C3%BCr", true),
            (b"/%41", b"/A", false),
            (b"/%2F", b"/%2f", false),
            (b"/T%C3", b"/T%C3%BC", false),
            (b"/%C", b"/%C", true),
        ];
        for (one, other, same) in rows {
            assert_eq!(same_path(one, other), same, "{}", String::from_utf8_lossy(one));
            assert_eq!(same_path(other, one), same);
        }
        assert_eq!(strip_path(b"/T%c3%bcr/t1", "/T\u{fc}r".as_bytes()), Some(&b"/t1"[..]));
        assert_eq!(strip_path("/T\u{fc}r?x".as_bytes(), b"/T%C3%BCr"), Some(&b"?x"[..]));
        assert_eq!(strip_path(b"/T%C3%BC", b"/T%C3"), Some(&b"%BC"[..]));
        assert_eq!(strip_path(b"/T", b"/T%C3"), None);
    }

    #[test]
    fn what_names_a_host_is_not_relative() {
        for text in [
            "",
            "/",
            "trackID=1",
            "/a?b",
            "?x=1",
            "a/b://c",
            "track:1",
            "a.b/c",
            "streamid=0?x=1.2.3.4:5",
            "1/trackID=2",
            "video:0/1",
            "*",
        ] {
            assert!(is_relative(text.as_bytes(), b"cam"), "{text}");
        }
        for text in [
            "//h/a",
            "rtsp://h/a",
            "RTSP:h/a",
            "rtsp://rtsp://h/a",
            "192.0.2.1/a",
            "192.0.2.1",
            "h.lan:554/a",
            "cam/a",
            "CAM:554/a",
            "[::1]/a",
            "u:p@h/a",
            "rtspu:h",
            "cam:/a",
        ] {
            assert!(!is_relative(text.as_bytes(), b"cam"), "{text}");
        }
    }

    #[test]
    fn the_path_of_broken_spellings_is_found() {
        for (text, path) in [
            ("rtsp://rtsp://h/a/b", "/a/b"),
            ("rtsp:h/a?b", "/a?b"),
            ("//h/a", "/a"),
            ("192.0.2.1/cam1/", "/cam1/"),
            ("h:554?x=1", "?x=1"),
            ("h", ""),
        ] {
            assert_eq!(after_host(text.as_bytes()), path.as_bytes(), "{text}");
        }
    }

    #[test]
    fn urls_are_found_in_a_text() {
        let text = b"see rtsp://a/b, <HTTP://c>;x=://d \"rtsp://e/";
        let found: Vec<&[u8]> = in_text(text).map(|span| &text[span]).collect();
        assert_eq!(found, [&b"rtsp://a/b"[..], b"HTTP://c", b"://d", b"rtsp://e/"]);
    }

    #[test]
    fn a_missing_port_is_the_schemes_own() {
        let url = |text| Url::parse(text).unwrap();
        let ports = [&b"rtsp://h/a"[..], b"RTSPS://h/a", b"rtsps://h:554"];
        assert_eq!(ports.map(|text| url(text).port_or_default()), [554, 322, 554]);
        let text = b"rtsp://u@h:5/x";
        assert_eq!(&text[url(text).authority_span], b"u@h:5");
    }
}
