//! What leaves is clean: no CR, NUL or fold inside, one each of the headers that readers disagree
//! about; and the player is not told where the origin is.

use super::message::{Message, text};

/// Headers of which no reader may find a second one.
const ONCE: [&str; 5] = ["CSeq", "Session", "Transport", "Content-Length", "Authorization"];
/// Headers that name places.
const PLACES: [&str; 6] =
    ["Content-Base", "Content-Location", "Location", "RTP-Info", "Transport", "Public"];

/// A message that leaves, toward either side.
pub fn clean(bytes: &[u8]) {
    let message = Message::read(bytes);
    let shown = || text(bytes);
    for line in core::iter::once(&message.start).chain(&message.lines) {
        let bad = line.iter().find(|byte| matches!(byte, b'\r' | b'\0'));
        assert!(bad.is_none(), "{bad:?} inside of a line: {:?}", shown());
    }
    for line in &message.lines {
        assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "a fold: {:?}", shown());
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
        let good = line.contains(&b':') && !name.is_empty() && name.iter().all(token);
        assert!(good, "{:?} is no name: {:?}", text(name), shown());
    }
    for name in ONCE {
        let same = |(key, _): &(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        assert!(message.headers().filter(same).count() < 2, "{name} twice: {:?}", shown());
    }
    let length = message.header("Content-Length").map_or("0".into(), text);
    assert_eq!(length.parse().ok(), Some(message.body.len()), "Content-Length: {:?}", shown());
}

/// A message that leaves toward the player names none of these hosts where a place is named. Where a
/// redirect may pass, Location of a 3xx is the origin's to say.
pub fn hides(bytes: &[u8], hosts: &[String], redirects: bool) {
    let message = Message::read(bytes);
    let redirect = redirects && message.status().is_some_and(|status| status / 100 == 3);
    let mut told: Vec<&[u8]> = Vec::new();
    for (name, value) in message.headers() {
        let location = name.eq_ignore_ascii_case(b"Location");
        let place = PLACES.iter().any(|place| name.eq_ignore_ascii_case(place.as_bytes()));
        if place && !(location && redirect) {
            told.push(value);
        }
    }
    if message.body.starts_with(b"v=0") {
        let lines = message.body.split(|byte| *byte == b'\n');
        let owned: [&[u8]; 3] = [b"a=control:", b"o=", b"c="];
        told.extend(lines.filter(|line| owned.iter().any(|start| line.starts_with(start))));
    }
    for value in told {
        let low = text(value).to_lowercase();
        let leak = hosts.iter().find(|host| low.contains(&host.to_lowercase()));
        assert!(leak.is_none(), "{leak:?} is told to the player: {:?}", text(bytes));
    }
}
