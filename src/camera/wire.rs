//! RTSP messages and interleaved frames as owned values, for the camera and the probe.
//!
//! Those two are tools at the ends of a conversation: they read whole messages and may copy. They
//! do so with a parser of their own, so that they are a second opinion on the gateway's.
//!
//! Not in here: sockets; the gateway's own parsing (`rtsp`), which edits in place.

use core::fmt;

use crate::limits::{BLANK_MAX_BYTES, BODY_MAX_BYTES, HEAD_MAX_BYTES, HEADERS_MAX};

/// A request or a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Request line or status line.
    pub(crate) start: String,
    headers: Vec<(String, String)>,
    /// The body; empty without Content-Length.
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// The first header of this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All headers of this name, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = |(key, _): &&(String, String)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(named).map(|(_, value)| value.as_str()).collect()
    }
}

/// What arrives on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A request or a response.
    Message(Message),
    /// An interleaved frame (RFC 2326 section 10.12).
    Frame {
        /// Its channel.
        channel: u8,
        /// What is in it.
        payload: Vec<u8>,
    },
}

/// Why a connection cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireError {
    /// The head is longer than [`HEAD_MAX_BYTES`].
    HeadTooLong,
    /// More headers than [`HEADERS_MAX`].
    TooManyHeaders,
    /// The body is longer than [`BODY_MAX_BYTES`].
    BodyTooLong,
    /// Neither a frame nor a line of RTSP.
    NotRtsp,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadTooLong => write!(f, "message head longer than {HEAD_MAX_BYTES} bytes"),
            Self::TooManyHeaders => write!(f, "more than {HEADERS_MAX} headers in one message"),
            Self::BodyTooLong => write!(f, "message body longer than {BODY_MAX_BYTES} bytes"),
            Self::NotRtsp => f.write_str("bytes that are not RTSP"),
        }
    }
}

/// Bytes that have arrived and not yet been taken as items.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    taken: usize,
}

impl Inbox {
    /// Adds bytes from the connection. Take all items before the next call: that bounds the buffer.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole item; None when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, WireError> {
        let blank = self.rest().iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if blank > BLANK_MAX_BYTES {
            return Err(WireError::NotRtsp);
        }
        self.taken += blank;
        let rest = self.rest();
        let (item, length) = match rest.first() {
            None => return Ok(None),
            Some(b'$') => {
                let Some(&[_, channel, high, low]) = rest.first_chunk() else { return Ok(None) };
                let end = 4 + usize::from(u16::from_be_bytes([high, low]));
                let Some(payload) = rest.get(4..end) else { return Ok(None) };
                (Item::Frame { channel, payload: payload.to_vec() }, end)
            }
            Some(_) => match message(rest)? {
                Some((message, length)) => (Item::Message(message), length),
                None => return Ok(None),
            },
        };
        self.taken += length;
        Ok(Some(item))
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }
}

/// A message at the beginning of `bytes`, and its length.
fn message(bytes: &[u8]) -> Result<Option<(Message, usize)>, WireError> {
    let Some(end) = head_end(bytes) else {
        return if bytes.len() > HEAD_MAX_BYTES {
            Err(WireError::HeadTooLong)
        } else {
            checked(bytes)
        };
    };
    if end > HEAD_MAX_BYTES {
        return Err(WireError::HeadTooLong);
    }
    let head = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    let mut lines = head.lines();
    let mut message =
        Message { start: lines.next().unwrap_or_default().trim().to_owned(), ..Message::default() };
    if !message.start.contains("RTSP/") {
        return Err(WireError::NotRtsp);
    }
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = message.headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            if message.headers.len() == HEADERS_MAX {
                return Err(WireError::TooManyHeaders);
            }
            message.headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    let length = match message.header("Content-Length") {
        Some(value) => value.parse::<usize>().map_err(|_| WireError::NotRtsp)?,
        None => 0,
    };
    if length > BODY_MAX_BYTES {
        return Err(WireError::BodyTooLong);
    }
    let Some(body) = bytes.get(end..end + length) else { return Ok(None) };
    message.body = body.to_vec();
    Ok(Some((message, end + length)))
}

/// Where the empty line after the head ends; lines may end in LF alone.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut line_starts = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if *byte == b'\n' {
            let line = bytes.get(line_starts..index).unwrap_or_default();
            if matches!(line, [] | [b'\r']) {
                return Some(index + 1);
            }
            line_starts = index + 1;
        }
    }
    None
}

/// An unfinished head is worth waiting for only while its first line could be RTSP.
fn checked<T>(bytes: &[u8]) -> Result<Option<T>, WireError> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let whole = line.len() < bytes.len();
    let printable = line.iter().all(|byte| matches!(byte, b'\t' | b'\r' | b' '..=0x7e | 0x80..));
    if !printable || (whole && !line.windows(5).any(|it| it == b"RTSP/")) {
        return Err(WireError::NotRtsp);
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(feeds: &[&[u8]]) -> Result<Vec<Item>, WireError> {
        let mut inbox = Inbox::default();
        let mut items = Vec::new();
        for feed in feeds {
            inbox.feed(feed);
            while let Some(item) = inbox.next()? {
                items.push(item);
            }
        }
        Ok(items)
    }

    const MIXED: &[u8] =
        b"\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX: a\r\n b\r\n\r\n$\x01\0\x03abc$\x02\0\0\
        RTSP/1.0 200 OK\ncseq:2\nContent-Length: 4\n\nbodyGET_PARAMETER r RTSP/1.0\r\n\r\n";

    #[test]
    fn messages_and_frames_come_out_however_they_are_cut() {
        let whole = items(&[MIXED]).expect("valid");
        assert_eq!(whole.len(), 5);
        let Item::Message(first) = &whole[0] else { panic!("a message") };
        assert_eq!((first.header("x"), first.header("CSEQ")), (Some("a b"), Some("1")));
        let Item::Message(fourth) = &whole[3] else { panic!("a message") };
        assert_eq!((fourth.header("CSeq"), fourth.body.as_slice()), (Some("2"), &b"body"[..]));
        for cut in 0..=MIXED.len() {
            let (a, b) = MIXED.split_at(cut);
            assert_eq!(items(&[a, b]).as_ref(), Ok(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn bounds_hold_at_the_bound_and_past_it() {
        let head = |bytes: usize| {
            let mut head = b"OPTIONS * RTSP/1.0\r\nX: ".to_vec();
            head.resize(bytes - 4, b'x');
            head.extend_from_slice(b"\r\n\r\n");
            head
        };
        assert_eq!(items(&[&head(HEAD_MAX_BYTES)]).map(|it| it.len()), Ok(1));
        assert_eq!(items(&[&head(HEAD_MAX_BYTES + 1)]), Err(WireError::HeadTooLong));
        let endless = vec![b'x'; HEAD_MAX_BYTES + 1];
        assert_eq!(items(&[&endless]), Err(WireError::HeadTooLong));

        let headers = |count| format!("A B RTSP/1.0\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(items(&[headers(HEADERS_MAX).as_bytes()]).map(|it| it.len()), Ok(1));
        assert_eq!(items(&[headers(HEADERS_MAX + 1).as_bytes()]), Err(WireError::TooManyHeaders));

        let body = |bytes| format!("A B RTSP/1.0\r\nContent-Length: {bytes}\r\n\r\n");
        assert_eq!(items(&[body(BODY_MAX_BYTES).as_bytes()]), Ok(vec![]));
        assert_eq!(items(&[body(BODY_MAX_BYTES + 1).as_bytes()]), Err(WireError::BodyTooLong));

        let blank = |bytes| [vec![b'\n'; bytes], b"A B RTSP/1.0\n\n".to_vec()].concat();
        assert_eq!(items(&[&blank(BLANK_MAX_BYTES)]).map(|it| it.len()), Ok(1));
        assert_eq!(items(&[&blank(BLANK_MAX_BYTES + 1)]), Err(WireError::NotRtsp));
    }

    #[test]
    fn other_protocols_are_told_at_their_first_line() {
        for junk in [&b"GET / HTTP/1.1\r\nHost: x"[..], b"\x16\x03\x01\x02", b"SSH-2.0-x\r\n"] {
            assert_eq!(items(&[junk]), Err(WireError::NotRtsp));
        }
        assert_eq!(items(&[b"A B RTSP/1.0\nContent-Length: -1\n\n"]), Err(WireError::NotRtsp));
    }
}
