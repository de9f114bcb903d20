//! Messages of the gateway's own: CRLF, canonical case, CSeq first.

use super::{Method, Told, Version, emit::header};

/// Appends an answer. `cseq` is spelled as the asker spelled it; none where it cannot be known.
pub fn response(
    out: &mut Vec<u8>,
    version: Version,
    told: impl Into<Told>,
    cseq: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    body: &[u8],
) {
    let Told { status, reason } = told.into();
    let start = format!("{} {status} {reason}\r\n", version.as_str());
    out.extend_from_slice(start.as_bytes());
    if let Some(cseq) = cseq {
        header("CSeq", cseq, out);
    }
    finish(out, headers, body);
}

/// Appends a request.
pub fn request(
    out: &mut Vec<u8>,
    version: Version,
    method: Method,
    uri: &[u8],
    cseq: u32,
    headers: &[(&str, &[u8])],
    body: &[u8],
) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(uri);
    out.push(b' ');
    out.extend_from_slice(version.as_str().as_bytes());
    out.extend_from_slice(b"\r\n");
    header("CSeq", cseq.to_string().as_bytes(), out);
    finish(out, headers, body);
}

fn finish(out: &mut Vec<u8>, headers: &[(&str, &[u8])], body: &[u8]) {
    for (name, value) in headers {
        header(name, value, out);
    }
    if !body.is_empty() {
        header("Content-Length", body.len().to_string().as_bytes(), out);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::Head;

    #[test]
    fn an_answer_has_cseq_first_and_content_length_only_with_a_body() {
        let mut out = Vec::new();
        response(&mut out, Version::V1, 454, Some(b"007"), &[("Server", b"x")], b"");
        let expected: &[u8] = b"RTSP/1.0 454 Session Not Found\r\nCSeq: 007\r\nServer: x\r\n\r\n";
        assert_eq!(out, expected);
        out.clear();
        response(&mut out, Version::V2, 200, None, &[], b"ab");
        assert_eq!(out, b"RTSP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nab");
    }

    #[test]
    fn a_request_reads_as_it_was_written() {
        let mut out = Vec::new();
        let headers: [(&str, &[u8]); 1] = [("Session", b"a")];
        request(&mut out, Version::V1, Method::SetParameter, b"rtsp://h/", 7, &headers, b"x: 1");
        let head = Head::parse(&out).unwrap();
        assert_eq!((head.method(), head.uri()), (Method::SetParameter, Some(&b"rtsp://h/"[..])));
        assert_eq!((head.cseq(), head.content_length()), (Some(7), 4));
        assert!(out[head.first_header_at()..].starts_with(b"CSeq: 7\r\n"));
    }
}
