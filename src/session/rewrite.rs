//! How URLs of one side are named on the other, and what a client says as the origin should see it: pure
//! functions over bytes. The other direction is in [`super::shown`].
//!
//! A proxy is an editor: what names one side for the other is replaced, all else is copied byte for
//! byte. URLs, Content-Base, Location, SDP controls and RTP-Info go through one [`Mapping`], so that
//! they are rewritten together or not at all (RFC 7826 18.45).

use super::mapping::Mapping;
use crate::rtsp::{Head, Url, Version, emit::Draft, sdp};

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
    let mut draft = Draft::new(head, message);
    draft.uri(mapping.to_origin(head.uri().unwrap_or_default()));
    draft.number(change.cseq.to_string().as_bytes());
    hop_by_hop(head, &mut draft);
    for (at, header) in head.headers().enumerate() {
        if header.is("Transport") {
            match &change.transport {
                Some(transport) => draft.set(at, &transport[..]),
                None => draft.remove(at),
            }
        } else if header.is("Authorization") && change.authorization.is_some() {
            draft.remove(at);
        } else if header.is("Session") {
            session(at, change.session, &mut draft);
        } else if header.is("Content-Base") || header.is("Content-Location") {
            draft.set(at, mapping.to_origin(header.value));
        }
    }
    if let Some(pseudonym) = change.via {
        let version = head.version().unwrap_or(Version::V1).as_str();
        draft.add("Via", format!("{version} {pseudonym}").as_bytes());
    }
    if let Some(Credentials::Ours(value)) = change.authorization {
        draft.add("Authorization", value.as_bytes());
    }
    let body = message.get(body_at..).unwrap_or_default();
    let controls = |line: &[u8], _| {
        let url = sdp::control(line).filter(|url| Url::parse(url).is_ok())?;
        Some([b"a=control:", &mapping.to_origin(url)[..]].concat())
    };
    let other = if is_sdp(head, body) { sdp::edited(body, controls) } else { None };
    draft.finish(other.as_deref().unwrap_or(body), other.is_some())
}

/// A client's answer to a request of the origin.
pub(super) fn client_answer(
    head: &Head<'_>,
    message: &[u8],
    body_at: usize,
    cseq: &[u8],
    theirs: Option<&[u8]>,
) -> Vec<u8> {
    let mut draft = Draft::new(head, message);
    draft.number(cseq);
    hop_by_hop(head, &mut draft);
    for (at, header) in head.headers().enumerate() {
        if header.is("Session") {
            session(at, theirs, &mut draft);
        }
    }
    draft.finish(message.get(body_at..).unwrap_or_default(), false)
}

/// A Session header names the session as the receiver knows it; one that means nothing to it does not
/// leave. Its parameters are for answers to clients (RFC 2326 12.37).
fn session(at: usize, id: Option<&[u8]>, draft: &mut Draft<'_>) {
    match id {
        Some(id) => draft.set(at, id),
        None => draft.remove(at),
    }
}

/// Connection, the headers that it names, and what concerns proxies end here.
pub(super) fn hop_by_hop(head: &Head<'_>, draft: &mut Draft<'_>) {
    let names = |name: &[u8]| {
        head.all("Connection")
            .flat_map(|header| header.value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(name))
    };
    for (at, header) in head.headers().enumerate() {
        let ends_here = ["Connection", "Proxy-Authenticate", "Proxy-Authorization"]
            .iter()
            .any(|name| header.is(name))
            || (names(header.name) && !KEPT.iter().any(|kept| header.is(kept)));
        if ends_here {
            draft.remove(at);
        }
    }
}

/// Headers that Connection cannot take out, since the gateway itself needs them.
const KEPT: [&str; 6] =
    ["CSeq", "Session", "Transport", "Content-Length", "Authorization", "Content-Base"];

/// Whether a body is SDP: by its type, or by its first line, whatever is said of it.
pub(super) fn is_sdp(head: &Head<'_>, body: &[u8]) -> bool {
    let says = |kind: &[u8]| {
        kind.get(..15).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/sdp"))
    };
    body.starts_with(b"v=0") || head.all("Content-Type").any(|header| says(header.value))
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
            x-Odd:  v \r\nX-Odd: w\r\nTransport: RTP/AVP ; unicast;client_port=1-2\r\n\
            Content-Length: 3\r\n\r\n\x00\xff$";
        let head_len = message.len() - 3;
        let head = Head::parse(&message[..head_len]).unwrap();
        let answer = client_answer(&head, message, head_len, b"0007", None);
        assert_eq!(answer, message);
        let transport = Some(b"RTP/AVP ; unicast;client_port=1-2".to_vec());
        let change = RequestChange { cseq: 7, transport, ..RequestChange::default() };
        let request = request(&head, message, head_len, &mapping, change);
        let expected = String::from_utf8_lossy(message).replace("0007", "7");
        assert_eq!(String::from_utf8_lossy(&request), expected);
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
