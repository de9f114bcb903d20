//! What an origin says, as the client may see it: pure functions over bytes.
//!
//! No authority of the origin goes through: where a header or an SDP line names a host, it names the
//! gateway afterwards, or nobody. Cameras name themselves by inner addresses and in any spelling, so the
//! places that hold URLs are known by their names, and elsewhere URLs of the origin's host are found.

use core::{cell::Cell, net::IpAddr};

use super::{
    keepalive::DEFAULT_TIMEOUT,
    mapping::Mapping,
    rewrite::{hop_by_hop, is_sdp},
};
use crate::{
    limits::{BODY_MAX_BYTES, HEAD_MAX_BYTES},
    rtsp::{
        Head, Method, Url,
        edit::Splice,
        emit::Draft,
        head::{Header, decimal, split_at_byte},
        rtp_info, sdp, url,
    },
};

/// What an answer becomes on its way to the client.
#[derive(Debug, Default)]
pub(super) struct AnswerChange<'a> {
    /// CSeq as the client wrote it.
    pub(super) cseq: &'a [u8],
    /// The Transport header, for SETUP.
    pub(super) transport: Option<Vec<u8>>,
    /// What the client is told of the session, where the origin names one.
    pub(super) session: Option<Told<'a>>,
    /// Where a redirect leads, already in the client's terms.
    pub(super) location: Option<Vec<u8>>,
}

/// What the client is told of its session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'a> {
    /// Its id.
    pub(super) id: &'a [u8],
    /// How long the client may be silent before the gateway gives it up, in seconds.
    pub(super) idle_s: u32,
    /// Whether this answer begins it.
    pub(super) begins: bool,
}

/// What a request of the origin becomes on its way to the client.
#[derive(Debug, Default)]
pub(super) struct RequestOfOrigin<'a> {
    /// Its number there.
    pub(super) cseq: u32,
    /// What the client calls the session that it names.
    pub(super) session: Option<&'a [u8]>,
    /// Where a redirect leads, already in the client's terms.
    pub(super) location: Option<Vec<u8>>,
}

/// In whose terms the client sees things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'m> {
    /// SDP controls that have no place under the presentation get an alias.
    pub(super) mapping: &'m Mapping,
    /// The URL of the request, as the client knows it.
    pub(super) asked: &'m [u8],
    /// Our address on the client's side.
    pub(super) ours: IpAddr,
}

/// How much may be put in the place of what an origin says: one URL of its own may become a much longer
/// one, thousands of times.
struct Room(Cell<usize>);

impl Room {
    fn of_message() -> Self {
        Self(Cell::new(HEAD_MAX_BYTES + BODY_MAX_BYTES))
    }

    /// What is to be put there, where it fits.
    fn fit(&self, text: Vec<u8>) -> Option<Vec<u8>> {
        let left = self.0.get();
        self.0.set(left.saturating_sub(text.len()));
        (text.len() <= left).then_some(text)
    }
}

/// An origin's answer as the client should see it.
pub(super) fn answer(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    terms: Terms<'_>,
    change: AnswerChange<'_>,
) -> Vec<u8> {
    let room = Room::of_message();
    let mut draft = Draft::new(head, message);
    draft.number(change.cseq);
    hop_by_hop(head, &mut draft);
    let redirects = head.status().is_some_and(|status| (300..400).contains(&status));
    let mut transport = change.transport.map(|value| terms.mapping.show_transport(value));
    for (at, header) in head.headers().enumerate() {
        if header.is("Transport") {
            match transport.take() {
                Some(value) => draft.set(at, value),
                None => draft.remove(at),
            }
        } else if header.is("Session") {
            match change.session {
                Some(told) => draft.set(at, told.header(&header)),
                None => draft.remove(at),
            }
        } else if header.is("Public") || header.is("Allow") {
            cut_methods(at, &header, &mut draft);
        } else if header.is("Location") && is_no_url(header.value) {
            draft.remove(at);
        } else if header.is("Location") && redirects {
            match &change.location {
                Some(location) => draft.set(at, &location[..]),
                // The route lets it pass to where it leads.
                None if Url::parse(header.value).is_ok() => {}
                None => terms.mapping.show(at, &header, &room, &mut draft),
            }
        } else {
            terms.mapping.show(at, &header, &room, &mut draft);
        }
    }
    if let Some(value) = transport {
        draft.add("Transport", &value);
    }
    finish(head, message, body_at, (terms, &room), draft)
}

/// Requests of the origin differ in numbers, ids and URLs.
pub(super) fn origin_request(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    terms: Terms<'_>,
    change: RequestOfOrigin<'_>,
) -> Vec<u8> {
    let room = Room::of_message();
    let mut draft = Draft::new(head, message);
    let mapping = terms.mapping;
    if let Some(uri) = head.uri() {
        let shown = mapping.to_client_or_host(uri).unwrap_or_else(|| uri.to_vec());
        draft.uri(if mapping.leaks(&shown) { b"*".to_vec() } else { shown });
    }
    draft.number(change.cseq.to_string().as_bytes());
    hop_by_hop(head, &mut draft);
    for (at, header) in head.headers().enumerate() {
        if header.is("Transport") {
            draft.remove(at);
        } else if header.is("Session") {
            match change.session {
                Some(id) => draft.set(at, id),
                None => draft.remove(at),
            }
        } else if header.is("Location") && is_no_url(header.value) {
            draft.remove(at);
        } else if header.is("Location") && head.method() == Method::Redirect {
            match &change.location {
                Some(location) => draft.set(at, &location[..]),
                None if Url::parse(header.value).is_ok() => {}
                None => mapping.show(at, &header, &room, &mut draft),
            }
        } else {
            mapping.show(at, &header, &room, &mut draft);
        }
    }
    finish(head, message, body_at, (terms, &room), draft)
}

/// What has a space in it leads nowhere, and may hold more than one URL.
fn is_no_url(value: &[u8]) -> bool {
    value.iter().any(|byte| *byte == b' ' || byte.is_ascii_control())
}

fn finish(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    (terms, room): (Terms<'_>, &Room),
    draft: Draft<'_>,
) -> Vec<u8> {
    let body = message.get(body_at..).unwrap_or_default();
    let other = if is_sdp(head, body) {
        let bases = Bases::of(head, terms);
        sdp::edited(body, |line, media| terms.line(line, media, (&bases, room)))
    } else {
        None
    };
    draft.finish(other.as_deref().unwrap_or(body), other.is_some())
}

impl Told<'_> {
    /// The value of Session: our id, the origin's parameters, and as timeout the smaller of both.
    fn header(self, header: &Header<'_>) -> Vec<u8> {
        let unnamed = u32::try_from(DEFAULT_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
        let (mut out, mut named) = (self.id.to_vec(), false);
        for part in header.value.split(|byte| *byte == b';').skip(1) {
            if part.contains(&b'/') {
                continue; // no parameter that anybody knows, but maybe the URL of an origin
            }
            out.push(b';');
            let timeout =
                split_at_byte(part, b'=').filter(|(name, _)| name.eq_ignore_ascii_case(b"timeout"));
            let Some((_, value)) = timeout else {
                out.extend_from_slice(part);
                continue;
            };
            named = true;
            let theirs = decimal(value).filter(|seconds| *seconds > 0);
            match theirs.unwrap_or(unnamed).min(self.idle_s) {
                seconds if theirs == Some(seconds) => out.extend_from_slice(part),
                seconds => out.extend_from_slice(format!("timeout={seconds}").as_bytes()),
            }
        }
        if self.begins && !named && self.idle_s < unnamed {
            out.extend_from_slice(format!(";timeout={}", self.idle_s).as_bytes());
        }
        out
    }
}

/// Methods that do not work through the gateway are not offered (RFC 7826 18.39).
fn cut_methods(at: usize, header: &Header<'_>, draft: &mut Draft<'_>) {
    let known = |name: &&[u8]| Method::from_bytes(name) != Method::Other;
    let names = || header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if !names().all(|name| known(&name)) {
        let kept: Vec<&[u8]> = names().filter(known).collect();
        draft.set(at, kept.join(&b", "[..]));
    }
}

/// Headers whose value is a URL.
const URLS: [&str; 3] = ["Content-Base", "Content-Location", "Location"];

impl Mapping {
    /// One header in the client's terms.
    fn show(&self, at: usize, header: &Header<'_>, room: &Room, draft: &mut Draft<'_>) {
        if header.is("WWW-Authenticate") {
            return; // its realm is part of what the client hashes
        }
        let shown = if URLS.iter().any(|name| header.is(name)) {
            self.show_url(header.value)
        } else if header.is("RTP-Info") {
            Some(self.show_rtp_info(header.value, room))
        } else {
            if let Some(value) = self.show_text(header.value, room) {
                draft.set(at, value);
            }
            return;
        };
        match shown.filter(|value| !self.leaks(value)) {
            Some(value) if value != header.value => draft.set(at, value),
            Some(_) => {}
            None => draft.remove(at),
        }
    }

    /// A URL on its own. One with no host is understood if it is a path; else the client does better
    /// without.
    fn show_url(&self, url: &[u8]) -> Option<Vec<u8>> {
        self.to_client(&self.meant(url)?)
    }

    fn show_rtp_info(&self, value: &[u8], room: &Room) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len() + 16);
        let mut splice = Splice::new(value, &mut out);
        for span in rtp_info::urls(value) {
            let url = value.get(span.clone()).unwrap_or_default();
            let relative = url::is_relative(url, self.origin_host());
            if let Some(url) = self.show_url(url).filter(|_| !relative) {
                splice.replace(span, &room.fit(url).unwrap_or_default());
            }
        }
        splice.finish();
        out
    }

    /// Parameters that nobody knows pass, unless they name the origin.
    fn show_transport(&self, value: Vec<u8>) -> Vec<u8> {
        if !self.leaks(&value) {
            return value;
        }
        let parts = value.split(|byte| *byte == b';').filter(|part| !self.leaks(part));
        parts.collect::<Vec<_>>().join(&b';')
    }

    /// A text in which URLs of the origin's host may stand; none when nothing changes.
    fn show_text(&self, text: &[u8], room: &Room) -> Option<Vec<u8>> {
        memchr::memmem::find(text, b"://")?;
        let (mut out, mut changed) = (Vec::with_capacity(text.len()), false);
        let mut splice = Splice::new(text, &mut out);
        for span in url::in_text(text) {
            let found = text.get(span.clone()).unwrap_or_default();
            if self.leaks(found) {
                let shown = self.to_client_or_host(found).filter(|shown| !self.leaks(shown));
                let shown = shown.and_then(|shown| room.fit(shown));
                splice.replace(span, &shown.unwrap_or_default());
                changed = true;
            }
        }
        splice.finish();
        changed.then_some(out)
    }
}

impl Terms<'_> {
    /// A line of SDP in the client's terms; none when it stays.
    fn line(
        self,
        line: &[u8],
        media: Option<usize>,
        (bases, room): (&Bases, &Room),
    ) -> Option<Vec<u8>> {
        if let Some(control) = sdp::control(line) {
            let shown = self.control(control, media, bases).filter(|shown| shown != control)?;
            let shown = room.fit(shown).unwrap_or_else(|| b"*".to_vec());
            return Some([b"a=control:", &shown[..]].concat());
        }
        match line {
            // RFC 2326 C.1.7: who plays asks the server for addresses, and a camera's are none of its.
            [b'o', b'=', ..] => Some(room.fit(self.origin_line(line)?).unwrap_or_default()),
            [b'c', b'=', ..] => Some(room.fit(nobody(line)?).unwrap_or_default()),
            _ => self.mapping.show_text(line, room),
        }
    }

    /// A control as the client should see it. What it would ask for outside of its presentation, joined
    /// to the base or not, becomes absolute: an alias, or the URL that is meant.
    fn control(self, control: &[u8], media: Option<usize>, bases: &Bases) -> Option<Vec<u8>> {
        let mapping = self.mapping;
        let shown = if url::is_relative(control, mapping.origin_host()) {
            if control == b"*" {
                return None;
            }
            bases.absolute(control, mapping)
        } else {
            let meant = mapping.meant(control).unwrap_or_default();
            // What does not parse (`rtsp://rtsp://…`, `rtsp:host`) has no place on either side.
            let whole = media.is_some() || Url::parse(&meant).is_ok();
            let shown = mapping.to_client(&meant).filter(|_| whole);
            Some(shown.unwrap_or_else(|| b"*".to_vec()))
        };
        let leaks = mapping.leaks(shown.as_deref().unwrap_or(control));
        if leaks { Some(b"*".to_vec()) } else { shown }
    }

    /// `o=user id version IN IP4 address`: ours.
    fn origin_line(self, line: &[u8]) -> Option<Vec<u8>> {
        let ours = match self.ours {
            IpAddr::V4(ip) => format!("IN IP4 {ip}"),
            IpAddr::V6(ip) => format!("IN IP6 {ip}"),
        };
        let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
        let first = words.get(..3).unwrap_or(&words);
        let mut other = first.join(&b' ');
        other.push(b' ');
        other.extend_from_slice(ours.as_bytes());
        (other != line).then_some(other)
    }
}

/// What relative controls of an SDP are joined to (RFC 2326 C.1.1), on either side.
struct Bases {
    origin: Vec<u8>,
    client: Vec<u8>,
}

impl Bases {
    fn of(head: &Head<'_>, terms: Terms<'_>) -> Self {
        let mapping = terms.mapping;
        let named = ["Content-Base", "Content-Location"].iter().find_map(|name| {
            let origin = mapping.meant(head.header(name)?.value)?;
            let client = mapping.to_client(&origin)?;
            Some(Self { origin, client })
        });
        named.unwrap_or_else(|| Self {
            origin: mapping.to_origin(terms.asked),
            client: mapping.presentation(),
        })
    }

    /// A relative control as an absolute one; none where the client will find it by itself. Players read
    /// in two ways a slash at its start, and a base without one at its end: GStreamer resolves it as a
    /// reference first (RFC 3986 5.2), which leads out of the presentation.
    fn absolute(&self, control: &[u8], mapping: &Mapping) -> Option<Vec<u8>> {
        let join = |base: &[u8]| {
            let base = base.strip_suffix(b"/").unwrap_or(base);
            [base, b"/", control.strip_prefix(b"/").unwrap_or(control)].concat()
        };
        let joined = join(&self.client);
        let found = mapping.shown(&joined).is_some_and(|shown| shown == joined);
        match found {
            true if control.starts_with(b"/") || !self.client.ends_with(b"/") => Some(joined),
            true => None,
            false => mapping.to_client(&join(&self.origin)),
        }
    }
}

/// `c=IN IP4 address`: the address of a group says where media is, any other is of no use to a player.
fn nobody(line: &[u8]) -> Option<Vec<u8>> {
    let words: Vec<&[u8]> = line.trim_ascii_end().split(|byte| *byte == b' ').collect();
    let v6 = words.get(1).is_some_and(|kind| kind.eq_ignore_ascii_case(b"IP6"));
    let address = words.get(2).and_then(|word| word.split(|byte| *byte == b'/').next());
    let ip = address.and_then(|text| core::str::from_utf8(text).ok()?.parse::<IpAddr>().ok());
    if ip.is_some_and(|ip| ip.is_multicast() || ip.is_unspecified()) && words.len() == 3 {
        return None;
    }
    Some(if v6 { b"c=IN IP6 ::".to_vec() } else { b"c=IN IP4 0.0.0.0".to_vec() })
}

#[cfg(test)]
mod tests {
    use super::{
        super::mapping::tests::{base, mapping},
        *,
    };

    fn shown(lines: &str, body: &str, status: u16) -> (String, String) {
        let length = body.len();
        let message = format!(
            "RTSP/1.0 {status} X\r\nCSeq: 1\r\n{lines}Content-Length: {length}\r\n\r\n{body}"
        );
        let body_at = message.len() - length;
        let head = Head::parse(&message.as_bytes()[..body_at]).unwrap();
        let origin = base("rtsp://198.51.100.20:554", "/a");
        let mapping = mapping(base("rtsp://gw:8554", "/live"), origin, "/live");
        let ours = "192.0.2.1".parse().unwrap();
        let terms = Terms { mapping: &mapping, asked: b"rtsp://gw:8554/live", ours };
        let change = AnswerChange { cseq: b"1", ..AnswerChange::default() };
        let out = answer(&head, message.as_bytes(), body_at, terms, change);
        let out = String::from_utf8(out).unwrap();
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
        let (head, body) = (aliased(head), &aliased(body));
        let lines = head.split_once("CSeq: 1\r\n").unwrap().1;
        let lines = lines.split_once("Content-Length: ").unwrap().0;
        (lines.to_owned(), body.to_owned())
    }

    /// One word in the place of any alias.
    fn aliased(text: &str) -> String {
        let mut parts = text.split("gateway-url-");
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let end = part.find(|letter: char| !letter.is_alphanumeric() && !"-_".contains(letter));
            out += "ALIAS";
            out += &part[end.unwrap_or(part.len())..];
        }
        out
    }

    #[test]
    fn no_header_names_the_origin() {
        let cases = [
            ("Content-Base: rtsp://198.51.100.20/a/x/", "Content-Base: rtsp://gw:8554/live/x/"),
            ("Content-Base: RTSP://inner:99/a/x/", "Content-Base: rtsp://gw:8554/live/x/"),
            ("Content-Base: 198.51.100.20/a/x/", "Content-Base: rtsp://gw:8554/live/x/"),
            ("Content-Base: //cam/a/x/", "Content-Base: rtsp://gw:8554/live/x/"),
            ("Content-Base: 10.0.0.1:554/y", "Content-Base: rtsp://gw:8554/live/ALIAS"),
            ("Content-Base: /a/x/", "Content-Base: rtsp://gw:8554/live/x/"),
            ("Content-Base: x/", ""),
            ("Content-Location: rtsp:cam/a", "Content-Location: rtsp://gw:8554/live/ALIAS"),
            ("Location: rtsp://198.51.100.20/a/x", "Location: rtsp://gw:8554/live/x"),
            ("RTP-Info: url=198.51.100.20/a/1;seq=1", "RTP-Info: url=rtsp://gw:8554/live/1;seq=1"),
            (
                "RTP-Info: url=t1;seq=1,url=//cam/a/2",
                "RTP-Info: url=t1;seq=1,url=rtsp://gw:8554/live/2",
            ),
            ("RTP-Info: url=\"198.51.100.20/a", ""),
            ("Transport: RTP/AVP;source=198.51.100.20", ""),
            ("X-Link: <http://198.51.100.20/s>;a", "X-Link: <rtsp://gw:8554/s>;a"),
            ("X-Link: <http://elsewhere/s>", "X-Link: <http://elsewhere/s>"),
            ("Session: 7;timeout=9", ""),
            ("Server: 198.51.100.20", "Server: 198.51.100.20"),
        ];
        for (line, expected) in cases {
            let expected =
                if expected.is_empty() { String::new() } else { format!("{expected}\r\n") };
            assert_eq!(shown(&format!("{line}\r\n"), "", 200).0, expected, "{line}");
        }
        let (passed, _) = shown("Location: rtsp://198.51.100.99/y\r\n", "", 302);
        assert_eq!(passed, "Location: rtsp://198.51.100.99/y\r\n", "the route lets it pass");
    }

    #[test]
    fn no_line_of_an_sdp_names_the_origin() {
        let cases = [
            ("o=- 1 2 IN IP4 10.0.0.8", "o=- 1 2 IN IP4 192.0.2.1"),
            ("o=- 1 2 IN IP6 fe80::1", "o=- 1 2 IN IP4 192.0.2.1"),
            ("o=broken", "o=broken IN IP4 192.0.2.1"),
            ("c=IN IP4 10.0.0.8", "c=IN IP4 0.0.0.0"),
            ("c=IN IP4 cam.lan/127", "c=IN IP4 0.0.0.0"),
            ("c=IN IP6 fe80::1", "c=IN IP6 ::"),
            ("c=IN IP4 0.0.0.0", "c=IN IP4 0.0.0.0"),
            ("c=IN IP4 239.1.2.3/127", "c=IN IP4 239.1.2.3/127"),
            ("u=http://198.51.100.20/info", "u=rtsp://gw:8554/info"),
            ("u=http://198.51.100.200/info", "u=http://198.51.100.200/info"),
            ("a=control:rtsp://198.51.100.20/a/x", "a=control:rtsp://gw:8554/live/x"),
            ("a=control:http://198.51.100.20/a/x", "a=control:rtsp://gw:8554/live/x"),
            ("a=control:198.51.100.20/a/x", "a=control:rtsp://gw:8554/live/x"),
            ("a=control:rtsp:198.51.100.20/a/x", "a=control:*"),
            ("a=control:rtsp://198.51.100.20/x", "a=control:rtsp://gw:8554/live/ALIAS"),
            ("a=Control: trackID=1 ", "a=control:rtsp://gw:8554/live/trackID=1"),
        ];
        for (line, expected) in cases {
            for (end, kind) in
                [("\r\n", ""), ("\n", "Content-Type: Application/SDP\r\n"), ("\r", "")]
            {
                let sdp = |line: &str| format!("v=0{end}{line}{end}t=0 0{end}");
                assert_eq!(shown(kind, &sdp(line), 200).1, sdp(expected), "{line}");
            }
        }
        let media = "v=0\nm=video 0 RTP/AVP 96\na=control://198.51.100.20/x\n";
        let alias = "v=0\nm=video 0 RTP/AVP 96\na=control:rtsp://gw:8554/live/ALIAS\n";
        assert_eq!(shown("", media, 200).1, alias);
        let text = "a=control://198.51.100.20/x\n";
        assert_eq!(shown("Content-Type: text/parameters\r\n", text, 200).1, text, "no SDP");
    }

    #[test]
    fn the_timeout_that_is_told_is_the_smaller_one() {
        let cases = [
            ("A", 60, true, "ours"),
            ("A", 20, true, "ours;timeout=20"),
            ("A", 20, false, "ours"),
            ("A;timeout=30", 60, true, "ours;timeout=30"),
            ("A ; Timeout = 300 ;x", 60, false, "ours;timeout=60;x"),
            ("A;timeout=0", 60, true, "ours;timeout=60"),
            ("A;x\"REDIRECT rtsp://198.51.100.20/a;timeout=30", 60, true, "ours;timeout=30"),
            ("A;x=timeout;timeout=nonsense", 45, true, "ours;x=timeout;timeout=45"),
        ];
        for (value, idle_s, begins, expected) in cases {
            let text = format!("RTSP/1.0 200 OK\r\nSession: {value}\r\n\r\n");
            let head = Head::parse(text.as_bytes()).unwrap();
            let told = Told { id: b"ours", idle_s, begins };
            let value = told.header(&head.header("Session").unwrap());
            assert_eq!(String::from_utf8(value).unwrap(), expected);
        }
    }
}
