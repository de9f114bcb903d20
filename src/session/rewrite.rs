//! Requests as the origin should see them, answers as the client should: pure functions over bytes.
//!
//! A proxy is an editor: spans that name one side for the other are replaced, all else is copied
//! byte for byte. URLs, Content-Base, Location, SDP controls and RTP-Info go through one
//! [`Mapping`], so that they are rewritten together or not at all (RFC 7826 18.45).

use super::{keepalive::DEFAULT_TIMEOUT, mapping::Mapping};
use crate::{
    limits::{BODY_MAX_BYTES, HEAD_MAX_BYTES},
    rtsp::{
        Edits, Head, Method, Url, Version,
        head::{Header, decimal, split_at_byte},
        rtp_info, sdp,
    },
};

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
/// presentation get an alias; `asked` is the URL of the request.
pub(super) fn answer(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    mapping: &Mapping,
    asked: &[u8],
    change: AnswerChange<'_>,
) -> Vec<u8> {
    let body = message.get(body_at..).unwrap_or_default();
    let mut controls = Edits::default();
    if is_sdp(head) {
        let bases = Bases::of(head, mapping, asked);
        edit_controls(body, mapping, &bases, &mut controls);
    }
    let mut edits = Edits::default();
    number(head, &mut edits, change.cseq);
    hop_by_hop(head, &mut edits);
    let mut transport = change.transport;
    for header in head.headers() {
        let span = header.value_span.clone();
        if header.is("Content-Base") || header.is("Content-Location") {
            if let Some(url) = mapping.to_client(header.value) {
                edits.replace(span, url);
            }
        } else if header.is("RTP-Info") {
            let mut room = HEAD_MAX_BYTES;
            for url in rtp_info::urls(header.value) {
                let value = header.value.get(url.clone()).unwrap_or_default();
                if let Some(url_there) = mapping.to_client(value) {
                    let at = span.start;
                    let fits = url_there.len() <= room;
                    room = room.saturating_sub(url_there.len());
                    let url_there = if fits { url_there } else { Vec::new() };
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

/// Controls as the client should see them. What it would ask for outside of its presentation, joined
/// to the base or not, becomes absolute: an alias, or the URL that is meant.
fn edit_controls(body: &[u8], mapping: &Mapping, bases: &Bases, edits: &mut Edits<'_>) {
    // One URL of the origin may become a much longer one: an SDP of thousands stays within bounds.
    let mut room = BODY_MAX_BYTES;
    for control in sdp::controls(body) {
        let absolute = control.value.get(..5).is_some_and(|p| p.eq_ignore_ascii_case(b"rtsp:"))
            || control.value.get(..6).is_some_and(|p| p.eq_ignore_ascii_case(b"rtsps:"));
        if absolute {
            // What does not parse (`rtsp://rtsp://…`, `rtsp:host`) has no place on either side.
            let broken = control.media.is_none() && Url::parse(control.value).is_err();
            let mapped =
                mapping.to_client(control.value).filter(|url| !broken && url.len() <= room);
            room = room.saturating_sub(mapped.as_ref().map_or(0, Vec::len));
            edits.replace(control.span, mapped.unwrap_or_else(|| b"*".to_vec()));
        } else if control.value != b"*"
            && let Some(url) = bases.absolute(control.value, mapping)
        {
            let fits = url.len() <= room;
            room = room.saturating_sub(url.len());
            edits.replace(control.span, if fits { url } else { b"*".to_vec() });
        }
    }
}

/// What relative controls of an SDP are joined to (RFC 2326 C.1.1), on either side.
struct Bases {
    origin: Vec<u8>,
    client: Vec<u8>,
}

impl Bases {
    fn of(head: &Head<'_>, mapping: &Mapping, asked: &[u8]) -> Self {
        let named = ["Content-Base", "Content-Location"].iter().find_map(|name| {
            let value = head.header(name)?.value;
            Some(Self { origin: value.to_vec(), client: mapping.to_client(value)? })
        });
        named.unwrap_or_else(|| Self {
            origin: mapping.to_origin(asked),
            client: mapping.presentation(),
        })
    }

    /// A relative control as an absolute one; none where the client will find it by itself. A slash at
    /// its start is read in two ways by players.
    fn absolute(&self, control: &[u8], mapping: &Mapping) -> Option<Vec<u8>> {
        let join = |base: &[u8]| {
            let base = base.strip_suffix(b"/").unwrap_or(base);
            [base, b"/", control.strip_prefix(b"/").unwrap_or(control)].concat()
        };
        let joined = join(&self.client);
        let found = mapping.shown(&joined).is_some_and(|shown| shown == joined);
        match found {
            true if control.starts_with(b"/") => Some(joined),
            true => None,
            false => mapping.to_client(&join(&self.origin)),
        }
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
    use super::{
        super::mapping::tests::{base, mapping},
        *,
    };

    #[test]
    fn with_nothing_to_change_output_equals_input() {
        let same = base("rtsp://h:554", "");
        let mapping = mapping(same.clone(), same, "");
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
            let mapping = mapping(same.clone(), same.clone(), "");
            let out = answer(&head, message.as_bytes(), message.len(), &mapping, b"", change);
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
        let mapping = mapping(same.clone(), same, "");
        let message = b"OPTIONS rtsp://h:554/ RTSP/1.0\r\nA: b\r\nCSeq: 1\r\n\
            Connection: x-hop, CSeq, close\r\nX-Hop: 1\r\n\r\n";
        let head = Head::parse(message).unwrap();
        let change = RequestChange { cseq: 9, ..RequestChange::default() };
        let out = request(&head, message, message.len(), &mapping, change);
        let expected = "OPTIONS rtsp://h:554/ RTSP/1.0\r\nCSeq: 9\r\nA: b\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
