//! The next message or `$` frame in a buffer, or that more bytes are needed.
//!
//! Tolerant in what ends a line (CRLF, LF), in empty lines before a message and in folded headers;
//! strict in what would lose the framing: two Content-Lengths that differ are an error.

use core::fmt;

use super::{ParseError, Rule};
use crate::limits::{
    BLANK_MAX_BYTES, BODY_MAX_BYTES, HEAD_MAX_BYTES, HEADER_LINE_MAX_BYTES, HEADERS_MAX,
    START_LINE_MAX_BYTES,
};

/// Whether a whole unit is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// This one, at the beginning of the buffer.
    Ready(Unit),
    /// It is not whole yet; not an error.
    NeedMore,
}

/// What lies at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Empty lines.
    Blank {
        /// Bytes.
        len: usize,
    },
    /// An interleaved frame: four header bytes and its payload.
    Frame {
        /// Its channel.
        channel: u8,
        /// Bytes of its payload.
        payload: usize,
    },
    /// A message.
    Message {
        /// Bytes of its head, the empty line included.
        head: usize,
        /// Bytes of its body.
        body: usize,
    },
}

impl Unit {
    /// Bytes in all.
    #[allow(clippy::len_without_is_empty)] // none is empty
    pub const fn len(&self) -> usize {
        match *self {
            Self::Blank { len } => len,
            Self::Frame { payload, .. } => payload + 4,
            Self::Message { head, body } => head + body,
        }
    }
}

/// Framing is lost: nothing that follows can be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FramingError(pub ParseError);

impl FramingError {
    /// The status to answer before hanging up.
    pub const fn status(&self) -> u16 {
        match self.0.rule {
            Rule::BodyTooLong => 413,
            Rule::StartLineTooLong => 414,
            _ => 400,
        }
    }
}

impl fmt::Display for FramingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core::error::Error for FramingError {}

/// Finds units, and remembers how far it has looked, so that a head which drips in costs no more
/// than one that comes at once.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Bytes looked at.
    scanned: usize,
    headers: usize,
    body: Option<usize>,
    blank: usize,
    known: Option<(usize, usize)>,
}

impl Framer {
    /// The next unit at the beginning of `buf`. After [`Progress::Ready`] the caller takes
    /// [`Unit::len`] bytes away before it asks again; after [`Progress::NeedMore`] it adds bytes.
    pub fn next(&mut self, buf: &[u8]) -> Result<Progress, FramingError> {
        let Some(first) = buf.first() else { return Ok(Progress::NeedMore) };
        if let Some((head, body)) = self.known {
            return Ok(self.whole(buf, head, body));
        }
        if self.scanned == 0 {
            match first {
                b'$' => return Ok(frame(buf)),
                b'\r' | b'\n' => return self.blanks(buf),
                _ => self.blank = 0,
            }
            if !is_token(*first) {
                return Err(error(0, Rule::StartLine));
            }
        }
        while let Some(end) = self.line_end(buf) {
            let line = trim_end(buf.get(self.line..end).unwrap_or_default());
            if line.is_empty() {
                return self.head_ends(buf, end);
            }
            self.check_line(line)?;
            self.line = end;
        }
        self.check_unfinished(buf)?;
        Ok(Progress::NeedMore)
    }

    fn blanks(&mut self, buf: &[u8]) -> Result<Progress, FramingError> {
        let len = buf.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        self.blank += len;
        if self.blank > BLANK_MAX_BYTES {
            return Err(error(BLANK_MAX_BYTES, Rule::BlankTooLong));
        }
        Ok(Progress::Ready(Unit::Blank { len }))
    }

    /// Just past the line feed that ends the current line.
    fn line_end(&mut self, buf: &[u8]) -> Option<usize> {
        let from = self.scanned.max(self.line);
        let found = buf.get(from..)?.iter().position(|byte| *byte == b'\n');
        self.scanned = found.map_or(buf.len(), |at| from + at + 1);
        found.map(|at| from + at + 1)
    }

    fn check_line(&mut self, line: &[u8]) -> Result<(), FramingError> {
        if self.line == 0 {
            if line.len() > START_LINE_MAX_BYTES {
                return Err(error(START_LINE_MAX_BYTES, Rule::StartLineTooLong));
            }
            return looks_like_start(line).then_some(()).ok_or(error(0, Rule::StartLine));
        }
        if line.len() > HEADER_LINE_MAX_BYTES {
            return Err(error(self.line + HEADER_LINE_MAX_BYTES, Rule::HeaderLineTooLong));
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Ok(()); // folded
        }
        self.headers += 1;
        if self.headers > HEADERS_MAX {
            return Err(error(self.line, Rule::TooManyHeaders));
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Err(error(self.line, Rule::HeaderName));
        };
        let (name, value) = line.split_at(colon);
        if name.trim_ascii().eq_ignore_ascii_case(b"content-length") {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let length = number(value).ok_or(error(self.line, Rule::ContentLength))?;
            if self.body.is_some_and(|other| other != length) {
                return Err(error(self.line, Rule::ContentLength));
            }
            if length > BODY_MAX_BYTES {
                return Err(error(self.line, Rule::BodyTooLong));
            }
            self.body = Some(length);
        }
        Ok(())
    }

    fn head_ends(&mut self, buf: &[u8], head: usize) -> Result<Progress, FramingError> {
        if head > HEAD_MAX_BYTES {
            return Err(error(HEAD_MAX_BYTES, Rule::HeadTooLong));
        }
        let body = self.body.unwrap_or(0);
        self.known = Some((head, body));
        Ok(self.whole(buf, head, body))
    }

    fn whole(&mut self, buf: &[u8], head: usize, body: usize) -> Progress {
        if buf.len() < head + body {
            return Progress::NeedMore;
        }
        *self = Self::default();
        Progress::Ready(Unit::Message { head, body })
    }

    /// A line that is too long is an error before its end has come.
    fn check_unfinished(&self, buf: &[u8]) -> Result<(), FramingError> {
        // One more for the CR that may stand before the LF to come.
        let open = buf.len() - self.line.min(buf.len());
        if self.line == 0 && open > START_LINE_MAX_BYTES + 1 {
            return Err(error(START_LINE_MAX_BYTES, Rule::StartLineTooLong));
        }
        if open > HEADER_LINE_MAX_BYTES + 1 {
            return Err(error(self.line + HEADER_LINE_MAX_BYTES, Rule::HeaderLineTooLong));
        }
        if buf.len() > HEAD_MAX_BYTES {
            return Err(error(HEAD_MAX_BYTES, Rule::HeadTooLong));
        }
        if self.line == 0 {
            let start = buf.iter().take(16).take_while(|byte| **byte != b' ');
            if let Some(at) = start.clone().position(|byte| !is_token(*byte) && *byte != b'/') {
                return Err(error(at, Rule::StartLine));
            }
        }
        Ok(())
    }
}

fn frame(buf: &[u8]) -> Progress {
    let [_, channel, high, low, rest @ ..] = buf else { return Progress::NeedMore };
    let payload = usize::from(u16::from_be_bytes([*high, *low]));
    if rest.len() < payload {
        return Progress::NeedMore;
    }
    Progress::Ready(Unit::Frame { channel: *channel, payload })
}

/// `RTSP/` begins a status line, or a version like it ends a request line.
fn looks_like_start(line: &[u8]) -> bool {
    if line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"RTSP/")) {
        return true;
    }
    let version = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    version.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"RTSP/"))
}

fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || text.len() > 9 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.')
        || matches!(byte, b'^' | b'_' | b'`' | b'|' | b'~')
}

const fn error(offset: usize, rule: Rule) -> FramingError {
    FramingError(ParseError { offset, rule })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(bytes: &[u8]) -> Result<Progress, FramingError> {
        Framer::default().next(bytes)
    }

    fn ready(bytes: &[u8]) -> Unit {
        match next(bytes) {
            Ok(Progress::Ready(unit)) => unit,
            other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
        }
    }

    fn rule(bytes: &[u8]) -> Rule {
        next(bytes).expect_err("must be refused").0.rule
    }

    #[test]
    fn tolerances() {
        let cases: [(&str, &[u8], Unit); 9] = [
            ("crlf", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", Unit::Message { head: 31, body: 0 }),
            ("lf only", b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", Unit::Message { head: 28, body: 0 }),
            ("mixed", b"OPTIONS * RTSP/1.0\nCSeq: 1\r\n\n", Unit::Message { head: 29, body: 0 }),
            ("leading empty lines", b"\r\n\nOPTIONS", Unit::Blank { len: 3 }),
            (
                "folded, and a line of one space",
                b"OPTIONS * RTSP/1.0\r\nA: b\r\n c\r\n \r\n\r\n",
                Unit::Message { head: 35, body: 0 },
            ),
            (
                "content-length in any case and with spaces",
                b"RTSP/1.0 200 OK\r\nCONTENT-length :  2 \r\n\r\nab",
                Unit::Message { head: 41, body: 2 },
            ),
            (
                "the same content-length twice",
                b"RTSP/1.0 200\r\nContent-Length:1\r\nContent-Length:1\r\n\r\nx",
                Unit::Message { head: 52, body: 1 },
            ),
            ("frame", b"$\x05\0\x02ab", Unit::Frame { channel: 5, payload: 2 }),
            ("frame without payload", b"$\x05\0\0", Unit::Frame { channel: 5, payload: 0 }),
        ];
        for (name, bytes, unit) in cases {
            assert_eq!(ready(bytes), unit, "{name}");
        }
    }

    #[test]
    fn what_can_never_become_a_message_is_refused_at_once() {
        assert_eq!(rule(b"\x00"), Rule::StartLine);
        assert_eq!(rule(b"\x16\x03\x01"), Rule::StartLine);
        assert_eq!(rule(b"GET / HTTP/1.1\r\n"), Rule::StartLine);
        assert_eq!(rule(b"OPT\x01"), Rule::StartLine);
        assert_eq!(rule(b"OPTIONS * RTSP/1.0\r\nnocolon\r\n"), Rule::HeaderName);
        for length in ["-1", "x", "", "1 2", "9999999999"] {
            let text = format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n");
            assert_eq!(rule(text.as_bytes()), Rule::ContentLength, "{length:?}");
        }
        let two = b"OPTIONS * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n";
        assert_eq!(rule(two), Rule::ContentLength);
    }

    #[test]
    fn limits_hold_at_the_bound_and_not_past_it() {
        let start = |len: usize| format!("OPTIONS {} RTSP/1.0\r\n\r\n", "a".repeat(len - 17));
        assert!(next(start(START_LINE_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(start(START_LINE_MAX_BYTES + 1).as_bytes()), Rule::StartLineTooLong);
        let open = vec![b'A'; START_LINE_MAX_BYTES + 2];
        assert_eq!(rule(&open), Rule::StartLineTooLong);
        assert!(next(&open[..START_LINE_MAX_BYTES + 1]).is_ok());

        let header =
            |len: usize| format!("OPTIONS * RTSP/1.0\r\nA:{}\r\n\r\n", "b".repeat(len - 2));
        assert!(next(header(HEADER_LINE_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(header(HEADER_LINE_MAX_BYTES + 1).as_bytes()), Rule::HeaderLineTooLong);

        let headers =
            |count: usize| format!("OPTIONS * RTSP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(next(headers(HEADERS_MAX).as_bytes()).is_ok());
        assert_eq!(rule(headers(HEADERS_MAX + 1).as_bytes()), Rule::TooManyHeaders);

        let body = |len: usize| format!("OPTIONS * RTSP/1.0\r\nContent-Length: {len}\r\n\r\n");
        assert_eq!(next(body(BODY_MAX_BYTES).as_bytes()), Ok(Progress::NeedMore));
        assert_eq!(rule(body(BODY_MAX_BYTES + 1).as_bytes()), Rule::BodyTooLong);

        let head = |len: usize| {
            let mut text = String::from("OPTIONS * RTSP/1.0\r\n");
            while text.len() + 2 < len {
                let line = (len - 2 - text.len()).min(1000);
                let line =
                    if len - 2 - text.len() - line < 8 { len - 2 - text.len() } else { line };
                text.push_str(&format!("A:{}\r\n", "b".repeat(line - 4)));
            }
            text + "\r\n"
        };
        assert_eq!(head(HEAD_MAX_BYTES).len(), HEAD_MAX_BYTES);
        assert!(next(head(HEAD_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(head(HEAD_MAX_BYTES + 1).as_bytes()), Rule::HeadTooLong);

        let blank = vec![b'\n'; BLANK_MAX_BYTES + 1];
        assert_eq!(ready(&blank[..BLANK_MAX_BYTES]), Unit::Blank { len: BLANK_MAX_BYTES });
        assert_eq!(rule(&blank), Rule::BlankTooLong);
    }

    #[test]
    fn the_largest_frame_is_taken() {
        let mut frame = vec![b'$', 0, 0xff, 0xff];
        frame.resize(4 + 65_534, 0);
        assert_eq!(next(&frame), Ok(Progress::NeedMore));
        frame.push(0);
        assert_eq!(ready(&frame), Unit::Frame { channel: 0, payload: 65_535 });
    }
}
