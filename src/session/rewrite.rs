//! Requests as the origin should see them, answers as the client should: pure functions over bytes.
//!
//! A proxy is an editor: spans that name one side for the other are replaced, all else is copied
//! byte for byte. URLs, Content-Base, Location, SDP controls and RTP-Info go through one
//! [`Mapping`], so that they are rewritten together or not at all (RFC 7826 18.45).

use super::keepalive::DEFAULT_TIMEOUT;
use crate::rtsp::{
    Edits, Head, Method, Version,
    head::{Header, decimal, split_at_byte},
    rtp_info, sdp,
    url::{Base, Url},
};

/// How one side's URLs are named on the other.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    /// `rtsp://gateway:8554` as the client wrote it, and the literal part of the route's path.
    pub(super) client: Base,
    /// `rtsp://origin:554` and the path of the origin's URL.
    pub(super) origin: Base,
    /// Control URLs that have no place under the client's base, and what stands for them there.
    pub(super) aliases: Vec<Alias>,
    /// Requests keep the URI that the client signed.
    pub(super) keep_uri: bool,
}

/// One control URL of the origin and the URL that the client sees.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    /// As the client sees it.
    pub(super) client: Vec<u8>,
    /// As the origin wrote it.
    pub(super) origin: Vec<u8>,
}

impl Mapping {
    /// A client's URL as the origin knows it. What is no URL is left alone.
    pub(super) fn to_origin(&self, url: &[u8]) -> Vec<u8> {
        if let Some(alias) = self.aliases.iter().find(|alias| same_url(&alias.client, url)) {
            return alias.origin.clone();
        }
        let Ok(parsed) = Url::parse(url) else { return url.to_vec() };
        if self.keep_uri && self.origin.path.is_empty() && self.client.path.is_empty() {
            return url.to_vec();
        }
        match below(parsed.rest, &self.client.path) {
            Some(tail) => self.origin.at(tail),
            None => [&self.origin.authority, parsed.rest].concat(),
        }
    }

    /// An origin's URL as the client should see it; none where it has no place under the client's
    /// base. The host is not looked at: cameras behind a NAT name themselves by inner addresses.
    pub(super) fn to_client(&self, url: &[u8]) -> Option<Vec<u8>> {
        if let Some(alias) = self.aliases.iter().find(|alias| alias.origin == url) {
            return Some(alias.client.clone());
        }
        let parsed = Url::parse(url).ok()?;
        if url.starts_with(&self.client.authority)
            && below(parsed.rest, &self.client.path).is_some()
        {
            return Some(url.to_vec());
        }
        let tail = self.origin.tail(parsed.rest)?;
        Some([&self.client.authority, &self.client.path, &*tail].concat())
    }

    /// The same, for places that need some URL whatever it names.
    fn to_client_or_host(&self, url: &[u8]) -> Option<Vec<u8>> {
        self.to_client(url).or_else(|| {
            let parsed = Url::parse(url).ok()?;
            Some([&self.client.authority, parsed.rest].concat())
        })
    }
}

/// What lies below a path; it begins with `/` or `?`, or is empty.
pub(super) fn below<'a>(rest: &'a [u8], path: &[u8]) -> Option<&'a [u8]> {
    let tail = rest.strip_prefix(path)?;
    matches!(tail.first(), None | Some(b'/' | b'?')).then_some(tail)
}

fn same_url(one: &[u8], other: &[u8]) -> bool {
    match (Url::parse(one), Url::parse(other)) {
        (Ok(one), Ok(other)) => one.rest == other.rest,
        _ => one == other,
    }
}

/// What a request becomes on its way to the other side.
#[derive(Debug, Default)]
pub(super) struct RequestChange<'a> {
    /// Its number there.
    pub(super) cseq: u32,
    /// What the origin calls the session, where the client names one.
    pub(super) session: Option<&'a [u8]>,
    /// The Transport header, for SETUP.
    pub(super) transport: Option<Vec<u8>>,
    /// Pseudonym to add to Via.
    pub(super) via: Option<&'a str>,
    /// Authorization of ours in place of the client's.
    pub(super) authorization: Option<Credentials>,
}

/// Whose Authorization a request carries.
#[derive(Debug)]
pub(super) enum Credentials {
    /// None.
    Strip,
    /// The gateway's own, the value of the header.
    Ours(String),
}

/// A client's request as the origin should see it.
pub(super) fn request(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    mapping: &Mapping,
    change: RequestChange<'_>,
) -> Vec<u8> {
    let mut edits = Edits::default();
    if let Some((span, uri)) = head.uri_span().zip(head.uri()) {
        edits.replace(span, mapping.to_origin(uri));
    }
    number(head, &mut edits, change.cseq.to_string().as_bytes());
    hop_by_hop(head, &mut edits);
    for header in head.headers() {
        if header.is("Transport")
            && let Some(transport) = &change.transport
        {
            edits.replace(header.value_span.clone(), transport.clone());
        } else if header.is("Authorization") && change.authorization.is_some() {
            edits.remove(header.line_span.clone());
        } else if header.is("Session") {
            session(head, &header, change.session, &mut edits);
        } else if header.is("Content-Base") || header.is("Content-Location") {
            edits.replace(header.value_span.clone(), mapping.to_origin(header.value));
        }
    }
    let end = head.end_of_headers();
    if let Some(pseudonym) = change.via {
        let version = head.version().unwrap_or(Version::V1).as_str();
        edits.insert(end, format!("Via: {version} {pseudonym}\r\n").into_bytes());
    }
    if let Some(Credentials::Ours(value)) = change.authorization {
        edits.insert(end, format!("Authorization: {value}\r\n").into_bytes());
    }
    let body = message.get(body_at..).unwrap_or_default();
    let mut controls = Edits::default();
    if is_sdp(head) {
        for control in sdp::controls(body) {
            if Url::parse(control.value).is_ok() {
                controls.replace(control.span.clone(), mapping.to_origin(control.value));
            }
        }
    }
    finish(head, message, body_at, edits, &controls)
}

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

/// An origin's answer as the client should see it. SDP controls that have no place under the
/// client's base get an alias in `mapping`; `presentation` is the URL that the client described.
pub(super) fn answer(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    mapping: &mut Mapping,
    presentation: &[u8],
    change: AnswerChange<'_>,
) -> Vec<u8> {
    let body = message.get(body_at..).unwrap_or_default();
    let mut controls = Edits::default();
    if is_sdp(head) {
        edit_controls(body, mapping, presentation, &mut controls);
    }
    let mut edits = Edits::default();
    number(head, &mut edits, change.cseq);
    hop_by_hop(head, &mut edits);
    let mut transport = change.transport;
    for header in head.headers() {
        let span = header.value_span.clone();
        if header.is("Content-Base") || header.is("Content-Location") {
            if let Some(url) = mapping.to_client_or_host(header.value) {
                edits.replace(span, url);
            }
        } else if header.is("RTP-Info") {
            for url in rtp_info::urls(header.value) {
                let value = header.value.get(url.clone()).unwrap_or_default();
                if let Some(url_there) = mapping.to_client_or_host(value) {
                    let at = span.start;
                    edits.replace(at + url.start..at + url.end, url_there);
                }
            }
        } else if header.is("Location") {
            if let Some(location) = &change.location {
                edits.replace(span, location.clone());
            }
        } else if header.is("Transport") {
            match transport.take() {
                Some(value) => edits.replace(span, value),
                None => continue,
            }
        } else if header.is("Public") || header.is("Allow") {
            cut_methods(&header, &mut edits);
        } else if header.is("Session") {
            session(head, &header, change.session.map(|told| told.id), &mut edits);
            if let Some(told) = change.session {
                timeout(&header, told, &mut edits);
            }
        }
    }
    if let Some(value) = transport {
        let line = [b"Transport: ", &value[..], b"\r\n"].concat();
        edits.insert(head.end_of_headers(), line);
    }
    finish(head, message, body_at, edits, &controls)
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

/// Requests of the origin, and the client's answers to them, differ in numbers, ids and URLs only.
pub(super) fn origin_request(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    mapping: &Mapping,
    change: RequestOfOrigin<'_>,
) -> Vec<u8> {
    let mut edits = Edits::default();
    if let Some((span, uri)) = head.uri_span().zip(head.uri())
        && let Some(url) = mapping.to_client_or_host(uri)
    {
        edits.replace(span, url);
    }
    number(head, &mut edits, change.cseq.to_string().as_bytes());
    hop_by_hop(head, &mut edits);
    for header in head.headers() {
        if header.is("Session") {
            session(head, &header, change.session, &mut edits);
        } else if header.is("Location")
            && let Some(location) = &change.location
        {
            edits.replace(header.value_span.clone(), location.clone());
        } else if header.is("RTP-Info") {
            for url in rtp_info::urls(header.value) {
                let value = header.value.get(url.clone()).unwrap_or_default();
                if let Some(there) = mapping.to_client_or_host(value) {
                    let at = header.value_span.start;
                    edits.replace(at + url.start..at + url.end, there);
                }
            }
        }
    }
    finish(head, message, body_at, edits, &Edits::default())
}

/// A client's answer to a request of the origin.
pub(super) fn client_answer(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    cseq: &[u8],
    theirs: Option<&[u8]>,
) -> Vec<u8> {
    let mut edits = Edits::default();
    number(head, &mut edits, cseq);
    hop_by_hop(head, &mut edits);
    for header in head.all("Session") {
        session(head, &header, theirs, &mut edits);
    }
    finish(head, message, body_at, edits, &Edits::default())
}

/// A Session header names the session as the receiver knows it; one that means nothing to it does not
/// leave.
fn session(head: &Head<'_>, header: &Header<'_>, id: Option<&[u8]>, edits: &mut Edits<'_>) {
    match id {
        // The parameters are for answers (RFC 2326 12.37), where they are seen to apart.
        Some(id) if head.is_response() => {
            let there = header.value.split(|byte| *byte == b';').next().unwrap_or_default();
            let start = header.value_span.start;
            edits.replace(start..start + there.trim_ascii_end().len(), id.to_vec());
        }
        Some(id) => edits.replace(header.value_span.clone(), id.to_vec()),
        None => edits.remove(header.line_span.clone()),
    }
}

/// The timeout that the client is told is the smaller of the origin's and ours.
fn timeout(header: &Header<'_>, told: Told<'_>, edits: &mut Edits<'_>) {
    let parts = || header.value.split(|byte| *byte == b';').skip(1);
    let named = parts().find_map(|part| {
        let (name, value) = split_at_byte(part, b'=')?;
        name.eq_ignore_ascii_case(b"timeout").then_some((decimal(value), part))
    });
    let unnamed = u32::try_from(DEFAULT_TIMEOUT.as_secs()).unwrap_or(u32::MAX);
    let theirs = named.and_then(|(seconds, _)| seconds).filter(|seconds| *seconds > 0);
    let seconds = theirs.unwrap_or(unnamed).min(told.idle_s);
    let Some((_, part)) = named else {
        if told.begins && seconds < unnamed {
            let text = format!(";timeout={seconds}").into_bytes();
            edits.insert(header.value_span.end, text);
        }
        return;
    };
    if theirs != Some(seconds) {
        // Where the part begins: the parts before it and their semicolons.
        let before: usize = header
            .value
            .split(|byte| *byte == b';')
            .take_while(|other| !core::ptr::eq(*other, part))
            .map(|other| other.len() + 1)
            .sum();
        let at = header.value_span.start + before;
        edits.replace(at..at + part.len(), format!("timeout={seconds}").into_bytes());
    }
}

/// Puts CSeq first, since some recorders demand it there; where it is first already, only the
/// number changes.
fn number(head: &Head<'_>, edits: &mut Edits<'_>, cseq: &[u8]) {
    let first = head.first_header_at();
    match head.header("CSeq") {
        Some(header) if header.line_span.start == first => {
            edits.replace(header.value_span, cseq.to_vec());
        }
        found => {
            if let Some(header) = found {
                edits.remove(header.line_span);
            }
            edits.insert(first, [b"CSeq: ", cseq, b"\r\n"].concat());
        }
    }
}

/// Connection, the headers that it names, and what concerns proxies end here.
fn hop_by_hop(head: &Head<'_>, edits: &mut Edits<'_>) {
    let names = |name: &[u8]| {
        head.all("Connection")
            .flat_map(|header| header.value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
    };
    for header in head.headers() {
        let ends_here = ["Connection", "Proxy-Authenticate", "Proxy-Authorization"]
            .iter()
            .any(|name| header.is(name))
            || (names(header.name) && !KEPT.iter().any(|kept| header.is(kept)));
        if ends_here {
            edits.remove(header.line_span);
        }
    }
}

/// Headers that Connection cannot take out, since the gateway itself edits or needs them.
const KEPT: [&str; 6] =
    ["CSeq", "Session", "Transport", "Content-Length", "Authorization", "Content-Base"];

/// Methods that do not work through the gateway are not offered (RFC 7826 18.39).
fn cut_methods(header: &Header<'_>, edits: &mut Edits<'_>) {
    let known = |name: &&[u8]| Method::from_bytes(name) != Method::Other;
    let names = || header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    if names().all(|name| known(&name)) {
        return;
    }
    let kept: Vec<&[u8]> = names().filter(known).collect();
    edits.replace(header.value_span.clone(), kept.join(&b", "[..]));
}

fn edit_controls(body: &[u8], mapping: &mut Mapping, presentation: &[u8], edits: &mut Edits<'_>) {
    for control in sdp::controls(body) {
        let absolute = control.value.get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"rtsp:"))
            || control.value.get(..6).is_some_and(|p| p.eq_ignore_ascii_case(b"rtsps:"));
        if !absolute {
            continue;
        }
        // What does not parse (`rtsp://rtsp://…`, `rtsp:host`) has no place on either side.
        let mapped = mapping.to_client(control.value);
        match (mapped, control.media) {
            (Some(url), _) => edits.replace(control.span, url),
            (None, None) => edits.replace(control.span, &b"*"[..]),
            (None, Some(_)) => {
                if let Some(url) = mapping.alias(control.value, presentation) {
                    edits.replace(control.span, url);
                }
            }
        }
    }
}

impl Mapping {
    /// A URL under the presentation that stands for a control URL which has no place there.
    fn alias(&mut self, origin: &[u8], presentation: &[u8]) -> Option<Vec<u8>> {
        if let Some(known) = self.aliases.iter().find(|alias| alias.origin == origin) {
            return Some(known.client.clone());
        }
        if self.aliases.len() >= crate::limits::TRACKS_MAX {
            return None;
        }
        let path = Url::parse(presentation).ok()?.path();
        let number = self.aliases.len();
        let mut client = [&self.client.authority, path.trim_suffix_slash()].concat();
        client.extend_from_slice(format!("/gateway-track-{number}").as_bytes());
        self.aliases.push(Alias { client: client.clone(), origin: origin.to_vec() });
        Some(client)
    }
}

pub(super) trait TrimSlash {
    fn trim_suffix_slash(&self) -> &[u8];
}

impl TrimSlash for [u8] {
    fn trim_suffix_slash(&self) -> &[u8] {
        self.strip_suffix(b"/").unwrap_or(self)
    }
}

fn is_sdp(head: &Head<'_>) -> bool {
    head.header("Content-Type").is_some_and(|header| {
        header.value.get(..15).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/sdp"))
    })
}

fn finish(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    mut edits: Edits<'_>,
    body_edits: &Edits<'_>,
) -> Vec<u8> {
    let (head_bytes, body) = message.split_at(body_at.min(message.len()));
    let mut new_body = Vec::new();
    if !body_edits.is_empty() {
        body_edits.apply(body, &mut new_body);
        if let Some(length) = head.header("Content-Length")
            && new_body.len() != body.len()
        {
            edits.replace(length.value_span, new_body.len().to_string().into_bytes());
        }
    }
    let mut out = Vec::with_capacity(message.len() + 64);
    edits.apply(head_bytes, &mut out);
    if has_bare_feed(&out) {
        out = with_crlf(&out);
    }
    out.extend_from_slice(if body_edits.is_empty() { body } else { &new_body });
    out
}

/// Accept LF, send CRLF: some cameras and players take nothing else.
fn with_crlf(head: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len() + 32);
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        out.extend_from_slice(b"\r\n");
    }
    out
}

fn has_bare_feed(head: &[u8]) -> bool {
    head.split_inclusive(|byte| *byte == b'\n').any(|line| !line.ends_with(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(authority: &str, path: &str) -> Base {
        Base { authority: authority.into(), path: path.into() }
    }

    fn mapping(client: Base, origin: Base) -> Mapping {
        Mapping { client, origin, aliases: Vec::new(), keep_uri: false }
    }

    fn mapping_for(client: &str, origin: &str) -> Mapping {
        mapping(base("rtsp://gw:8554", client), base("rtsp://h:554", origin))
    }

    #[track_caller]
    fn check_both_ways(mapping: &Mapping, ours: &str, theirs: &str) {
        let (ours, theirs) = (format!("rtsp://gw:8554{ours}"), format!("rtsp://h:554{theirs}"));
        let moved = mapping.to_origin(ours.as_bytes());
        assert_eq!(String::from_utf8(moved).unwrap(), theirs);
        let back = mapping.to_client(theirs.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(back).unwrap(), ours);
    }

    #[test]
    fn a_url_moves_with_what_lies_below_its_base() {
        let mapping = mapping(base("rtsp://gw:8554", "/live"), base("rtsp://192.0.2.20:554", "/a"));
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
        let mapping =
            mapping(base("rtsp://gw:8554", ""), base("rtsp://[2001:db8::1]:554", "/x?c=1"));
        for rest in ["", "/", "/a%20b?t=$&y=@z", "//Streaming/Channels/101"] {
            let url = [b"rtsp://gw:8554", rest.as_bytes()].concat();
            let there = mapping.to_origin(&url);
            assert_eq!(mapping.to_client(&there).unwrap(), url, "{rest}");
        }
        let mapping = mapping_for("/cam1", "/cam/realmonitor?channel=1&subtype=0");
        for (ours, theirs) in [
            ("/cam1", "/cam/realmonitor?channel=1&subtype=0"),
            ("/cam1/trackID=1", "/cam/realmonitor?channel=1&subtype=0/trackID=1"),
            ("/cam1?t=2", "/cam/realmonitor?channel=1&subtype=0&t=2"),
        ] {
            check_both_ways(&mapping, ours, theirs);
        }
        assert_eq!(mapping.to_client(b"rtsp://h:554/cam/realmonitor?channel=1&subtype=01"), None);
        let mapping = mapping_for("/cam1", "/S/101/");
        for (ours, theirs) in [("/cam1", "/S/101/"), ("/cam1/t=1", "/S/101/t=1")] {
            check_both_ways(&mapping, ours, theirs);
        }
        check_both_ways(&mapping_for("/live", "/"), "/live/7", "/7");
        let mapping = mapping_for("", "/x?c=1");
        assert_eq!(mapping.to_client(b"rtsp://[2001:db8::1]/elsewhere"), None);
        assert_eq!(mapping.to_client(b"rtsp://rtsp://h/a"), None, "broken ones have no place");
    }

    #[test]
    fn with_nothing_to_change_output_equals_input() {
        let same = base("rtsp://h:554", "");
        let mapping = mapping(same.clone(), same);
        let message = b"SETUP rtsp://h:554/a%20b?x=$ RTSP/1.0\r\nCSeq:  0007 \r\n\
            x-Odd :  v \r\nX-Odd: w\r\nTransport: RTP/AVP ; unicast;client_port=1-2\r\n\
            Content-Length: 3\r\n\r\n\x00\xff$";
        let head_len = message.len() - 3;
        let head = Head::parse(&message[..head_len]).unwrap();
        let answer = client_answer(&head, message, head_len, b"0007", None);
        assert_eq!(answer, message);
        let change = RequestChange { cseq: 7, ..RequestChange::default() };
        let request = request(&head, message, head_len, &mapping, change);
        let expected = String::from_utf8_lossy(message).replace("0007", "7");
        assert_eq!(String::from_utf8_lossy(&request), expected);
    }

    #[test]
    fn the_timeout_that_is_told_is_the_smaller_one() {
        let same = base("rtsp://h:554", "");
        let told = |value: &str, idle_s: u32, begins: bool| {
            let message = format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nSession: {value}\r\n\r\n");
            let head = Head::parse(message.as_bytes()).unwrap();
            let session = Some(Told { id: b"ours", idle_s, begins });
            let change = AnswerChange { cseq: b"1", session, ..AnswerChange::default() };
            let mut mapping = mapping(same.clone(), same.clone());
            let out = answer(&head, message.as_bytes(), message.len(), &mut mapping, b"", change);
            Head::parse(&out).unwrap().header("Session").unwrap().value.to_vec()
        };
        let cases = [
            ("A", 60, true, "ours"),
            ("A", 20, true, "ours;timeout=20"),
            ("A", 20, false, "ours"),
            ("A;timeout=30", 60, true, "ours;timeout=30"),
            ("A ; Timeout = 300 ;x", 60, false, "ours ;timeout=60;x"),
            ("A;timeout=0", 60, true, "ours;timeout=60"),
            ("A;x=timeout;timeout=nonsense", 45, true, "ours;x=timeout;timeout=45"),
        ];
        for (value, idle_s, begins, expected) in cases {
            let value = told(value, idle_s, begins);
            assert_eq!(String::from_utf8(value).unwrap(), expected);
        }
    }

    #[test]
    fn cseq_goes_first_and_what_connection_names_ends_here() {
        let same = base("rtsp://h:554", "");
        let mapping = mapping(same.clone(), same);
        let message = b"OPTIONS rtsp://h:554/ RTSP/1.0\r\nA: b\r\nCSeq: 1\r\n\
            Connection: x-hop, CSeq, close\r\nX-Hop: 1\r\n\r\n";
        let head = Head::parse(message).unwrap();
        let change = RequestChange { cseq: 9, ..RequestChange::default() };
        let out = request(&head, message, message.len(), &mapping, change);
        let expected = "OPTIONS rtsp://h:554/ RTSP/1.0\r\nCSeq: 9\r\nA: b\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
