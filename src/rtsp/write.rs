//! Messages of the gateway's own: CRLF, canonical case, CSeq first.

use super::{Method, Version, status::reason};

/// Appends an answer. `cseq` is spelled as the asker spelled it; none where it cannot be known.
pub fn response(
    out: &mut Vec<u8>,
    version: Version,
    status: u16,
    cseq: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    body: &[u8],
) {
    let start = format!("{} {status} {}\r\n", version.as_str(), reason(status));
    out.extend_from_slice(start.as_bytes());
    if let Some(cseq) = cseq {
        line(out, "CSeq", cseq);
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
    line(out, "CSeq", cseq.to_string().as_bytes());
    finish(out, headers, body);
}

fn finish(out: &mut Vec<u8>, headers: &[(&str, &[u8])], body: &[u8]) {
    for (name, value) in headers {
        line(out, name, value);
    }
    if !body.is_empty() {
        line(out, "Content-Length", body.len().to_string().as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
