//! What leaves is clean: CRLF, no CR, NUL or fold inside, names that are tokens, one each of the headers
//! that readers disagree about; and the player is not told where the origin is, nor by what id it knows
//! the session.

use core::net::IpAddr;

use super::message::{self, Message, text};

/// Headers of which no reader may find a second one.
const ONCE: [&str; 5] = ["CSeq", "Session", "Transport", "Content-Length", "Authorization"];
/// Headers that name places.
const PLACES: [&str; 6] =
    ["Content-Base", "Content-Location", "Location", "RTP-Info", "Transport", "Public"];

/// A message that leaves, toward either side.
pub fn clean(bytes: &[u8]) {
    let message = Message::read(bytes);
    let shown = || bytes.escape_ascii().to_string();
    let head = &bytes[..bytes.len() - message.body.len()];
    for (at, byte) in head.iter().enumerate() {
        let ends = *byte != b'\n' || (at > 0 && head[at - 1] == b'\r');
        assert!(ends, "a line ends in LF alone: {}", shown());
    }
    for line in core::iter::once(&message.start).chain(&message.lines) {
        let bad = line.iter().find(|byte| matches!(byte, b'\r' | b'\0'));
        assert!(bad.is_none(), "{bad:?} inside of a line: {}", shown());
    }
    assert!(!message.start.iter().any(u8::is_ascii_control), "in the start line: {}", shown());
    for line in &message.lines {
        assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "a fold: {}", shown());
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let good = line.contains(&b':') && !name.is_empty() && name.iter().all(token);
        assert!(good, "{:?} is no name: {}", text(name), shown());
    }
    for name in ONCE {
        let same = |(key, _): &(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        assert!(message.headers().filter(same).count() < 2, "{name} twice: {}", shown());
    }
    let length = message.header("Content-Length").map_or("0".into(), text);
    assert_eq!(length.parse().ok(), Some(message.body.len()), "Content-Length: {}", shown());
}

/// A message that leaves toward the player names none of these hosts where a host is named, and sessions
/// by ids of the gateway only. Where a redirect may pass, Location of a 3xx is the origin's to say.
pub fn hides(bytes: &[u8], hosts: &[String], redirects: bool) {
    let message = Message::read(bytes);
    let shown = || bytes.escape_ascii().to_string();
    let redirect = redirects && message.status().is_some_and(|status| status / 100 == 3);
    if message.status().is_none() {
        no_host(message.start, hosts, &shown);
    }
    for (name, value) in message.headers() {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("Session") {
            assert!(is_ours(value), "an id of somebody else: {}", shown());
        }
        if is("WWW-Authenticate") || (is("Location") && redirect) {
            continue;
        }
        if PLACES.iter().any(|place| is(place)) {
            no_host(value, hosts, &shown);
        }
        no_url(value, hosts, &shown);
    }
    let says = |(name, value): (&[u8], &[u8])| {
        name.eq_ignore_ascii_case(b"Content-Type")
            && text(value).to_lowercase().starts_with("application/sdp")
    };
    if message.body.starts_with(b"v=0") || message.headers().any(says) {
        for line in message.body.split(|byte| matches!(byte, b'\r' | b'\n')) {
            sdp_line(line, hosts, &shown);
        }
    }
}

/// Whether a message names a session by an id such as ours.
pub fn names_our_session(bytes: &[u8]) -> bool {
    Message::read(bytes).session().is_some_and(is_ours)
}

/// The messages of a stream, without the frames between them; all of it must be whole.
pub fn messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while !stream.is_empty() {
        let unit = message::first(stream);
        let unit = unit.unwrap_or_else(|| panic!("not whole: {}", stream.escape_ascii()));
        stream = &stream[unit.len()..];
        if !unit.starts_with(b"$") {
            all.push(unit);
        }
    }
    all
}

fn sdp_line(line: &[u8], hosts: &[String], shown: &dyn Fn() -> String) {
    let low = text(line).to_lowercase();
    for name in ["a=control:", "o=", "c="] {
        no_host(low.strip_prefix(name).unwrap_or_default().as_bytes(), hosts, shown);
    }
    no_url(line, hosts, shown);
    if let Some(address) = low.strip_prefix("c=").and_then(|rest| rest.split(' ').nth(2)) {
        let ip = address.split('/').next().and_then(|text| text.parse::<IpAddr>().ok());
        let fine = ip.is_some_and(|ip| ip.is_unspecified() || ip.is_multicast());
        assert!(fine, "c= names {address}: {}", shown());
    }
}

/// 32 hexadecimal digits and nothing else but parameters.
fn is_ours(value: &[u8]) -> bool {
    let id = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit)
}

/// No origin's host where a host may stand.
fn no_host(value: &[u8], hosts: &[String], shown: &dyn Fn() -> String) {
    let low = value.to_ascii_lowercase();
    for host in hosts {
        let host = host.to_lowercase().into_bytes();
        for at in (0..low.len()).filter(|at| low[*at..].starts_with(&host)) {
            let (before, after) = (&low[..at], low.get(at + host.len()));
            let begins = before.ends_with(b"//")
                || before.last().is_none_or(|byte| b"@\"=, ;<".contains(byte));
            let ends = after.is_none_or(|byte| b":/?#\" ,;>".contains(byte));
            assert!(!(begins && ends), "{:?} is told to the player: {}", text(&host), shown());
        }
    }
}

/// No URL of an origin's host.
fn no_url(value: &[u8], hosts: &[String], shown: &dyn Fn() -> String) {
    for at in (0..value.len()).filter(|at| value[*at..].starts_with(b"://")) {
        let rest = &value[at + 3..];
        let ends = |byte: &u8| b"/?# \t\"<>,;".contains(byte);
        no_host(&rest[..rest.iter().position(ends).unwrap_or(rest.len())], hosts, shown);
    }
}
