//! The next message or `$` frame in a buffer, or that more bytes are needed.
//!
//! Tolerant in what ends a line (CRLF, LF), in empty lines before a message and in folded headers;
//! strict in what would lose the framing: two Content-Lengths that differ are an error, and so is
//! what can never become a start line, as soon as that is certain.
//!
//! Not in here: what a message says, and the buffer, which belongs to the caller.

use core::fmt;

use super::{ParseError, Rule, head::split_at_byte};
use crate::limits::{
    BLANK_MAX_BYTES, BODY_MAX_BYTES, HEAD_MAX_BYTES, HEADER_LINE_MAX_BYTES, HEADERS_MAX,
    METHOD_MAX_BYTES, START_LINE_MAX_BYTES,
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
/// than one that comes at once. It holds no bytes and allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Framer {
    /// Where the line begins that is not whole yet.
    line: usize,
    /// Bytes looked at.
    scanned: usize,
    /// Where the header begins that a folded line may still continue.
    header: Option<usize>,
    headers: usize,
    /// Content-Length, once a header has said it.
    body: Option<usize>,
    /// Empty lines since the last message or frame, in bytes.
    blank: usize,
    /// Head and body of a message whose body is not whole yet.
    known: Option<(usize, usize)>,
    /// Framing is lost, and stays so.
    lost: Option<FramingError>,
}

impl Framer {
    /// The next unit at the beginning of `buf`. After [`Progress::Ready`] the caller takes
    /// [`Unit::len`] bytes away before it asks again; after [`Progress::NeedMore`] it adds bytes.
    /// After an error nothing else comes but this error.
    ///
    /// ```
    /// use edgeweir::rtsp::{Framer, Progress, Unit};
    ///
    /// let mut framer = Framer::default();
    /// let bytes = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n$\x00\x00\x01x";
    /// assert_eq!(framer.next(&bytes[..20]), Ok(Progress::NeedMore));
    /// let Ok(Progress::Ready(message)) = framer.next(bytes) else { panic!("it is whole") };
    /// assert_eq!(message, Unit::Message { head: 31, body: 0 });
    /// let frame = framer.next(&bytes[message.len()..]);
    /// assert_eq!(frame, Ok(Progress::Ready(Unit::Frame { channel: 0, payload: 1 })));
    /// ```
    pub fn next(&mut self, buf: &[u8]) -> Result<Progress, FramingError> {
        if let Some(error) = self.lost {
            return Err(error);
        }
        let progress = self.look(buf);
        self.lost = progress.err();
        progress
    }

    fn look(&mut self, buf: &[u8]) -> Result<Progress, FramingError> {
        let Some(first) = buf.first() else { return Ok(Progress::NeedMore) };
        if let Some((head, body)) = self.known {
            return Ok(self.whole(buf, head, body));
        }
        if self.scanned == 0 {
            match first {
                b'$' => {
                    self.blank = 0;
                    return Ok(frame(buf));
                }
                b'\r' | b'\n' => return self.blanks(buf),
                _ => self.blank = 0,
            }
        }
        while let Some(end) = self.line_end(buf)? {
            let line = trim_end(buf.get(self.line..end).unwrap_or_default());
            if self.line == 0 {
                start_line(line)?;
            } else if is_fold(line) {
                self.check_length(self.line + line.len())?;
            } else {
                self.close_header(buf)?;
                if line.is_empty() {
                    return self.head_ends(buf, end);
                }
                self.open_header(line)?;
            }
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

    /// Just past the line feed that ends the current line. Each byte is looked at once; those of
    /// the start line must be such as can stand there.
    fn line_end(&mut self, buf: &[u8]) -> Result<Option<usize>, FramingError> {
        let from = self.scanned.max(self.line);
        let fresh = buf.get(from..).unwrap_or_default();
        let found = fresh.iter().position(|byte| *byte == b'\n').map(|at| from + at + 1);
        self.scanned = found.unwrap_or(buf.len());
        if self.line == 0 {
            let line = buf.get(..self.scanned).unwrap_or_default();
            first_word(line)?;
            // One byte back: a CR that ended the last read must be followed by LF.
            let again = from.saturating_sub(1);
            let misplaced = (again..line.len()).find(|at| is_misplaced(line, *at));
            if let Some(at) = misplaced.filter(|at| *at <= START_LINE_MAX_BYTES) {
                return Err(error(at, Rule::StartLine));
            }
        }
        Ok(found)
    }

    /// A new header: one more, with a colon behind its name.
    fn open_header(&mut self, line: &[u8]) -> Result<(), FramingError> {
        self.header = Some(self.line);
        self.check_length(self.line + line.len())?;
        self.headers += 1;
        if self.headers > HEADERS_MAX {
            return Err(error(self.line, Rule::TooManyHeaders));
        }
        let named = line.contains(&b':');
        named.then_some(()).ok_or(error(self.line, Rule::HeaderName))
    }

    /// No folded line follows any more: the header is whole, and is Content-Length or no matter.
    fn close_header(&mut self, buf: &[u8]) -> Result<(), FramingError> {
        let Some(start) = self.header.take() else { return Ok(()) };
        let text = buf.get(start..self.line).unwrap_or_default();
        let Some((name, value)) = split_at_byte(text, b':') else { return Ok(()) };
        if !name.eq_ignore_ascii_case(b"content-length") {
            return Ok(());
        }
        let length = number(value).ok_or(error(start, Rule::ContentLength))?;
        if self.body.is_some_and(|other| other != length) {
            return Err(error(start, Rule::ContentLength));
        }
        if length > BODY_MAX_BYTES {
            return Err(error(start, Rule::BodyTooLong));
        }
        self.body = Some(length);
        Ok(())
    }

    /// Whether the header that reaches to `end` is of a bearable length, its foldings included.
    fn check_length(&self, end: usize) -> Result<(), FramingError> {
        let start = self.header.unwrap_or(self.line);
        if end - start > HEADER_LINE_MAX_BYTES {
            return Err(error(start + HEADER_LINE_MAX_BYTES, Rule::HeaderLineTooLong));
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
    fn check_unfinished(&mut self, buf: &[u8]) -> Result<(), FramingError> {
        // A CR at the end may belong to the line end to come.
        let open = buf.get(self.line..).unwrap_or_default();
        let end = self.line + open.strip_suffix(b"\r").unwrap_or(open).len();
        if self.line == 0 {
            if end > START_LINE_MAX_BYTES {
                return Err(error(START_LINE_MAX_BYTES, Rule::StartLineTooLong));
            }
        } else if !open.is_empty() {
            if !is_fold(open) {
                self.close_header(buf)?;
            }
            self.check_length(end)?;
        }
        if buf.len() > HEAD_MAX_BYTES {
            return Err(error(HEAD_MAX_BYTES, Rule::HeadTooLong));
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

/// A whole start line: `RTSP/` begins a status line, or a version like it ends a request line.
fn start_line(line: &[u8]) -> Result<(), FramingError> {
    if line.len() > START_LINE_MAX_BYTES {
        return Err(error(START_LINE_MAX_BYTES, Rule::StartLineTooLong));
    }
    let version = line.trim_ascii_end().rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    if is_rtsp(line) || is_rtsp(version) { Ok(()) } else { Err(error(0, Rule::StartLine)) }
}

/// As much of the first word as is there: a method, or the version of a status line. Looks at no
/// more than [`METHOD_MAX_BYTES`] and one, however often it is asked.
fn first_word(line: &[u8]) -> Result<(), FramingError> {
    if is_rtsp(line) {
        return Ok(());
    }
    let word = line.iter().take_while(|byte| !matches!(byte, b' ' | b'\r' | b'\n'));
    let wrong = |(at, byte): &(usize, &u8)| !is_token(**byte) || *at >= METHOD_MAX_BYTES;
    match word.enumerate().find(wrong) {
        Some((at, _)) => Err(error(at, Rule::StartLine)),
        None => Ok(()),
    }
}

fn is_rtsp(text: &[u8]) -> bool {
    text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"RTSP/"))
}

/// Control characters have no place in a start line: they tell other protocols and noise from RTSP
/// before a line end comes. A CR that no LF follows is one: who ends lines so never ends a head.
fn is_misplaced(line: &[u8], at: usize) -> bool {
    match line.get(at) {
        Some(b'\n' | b'\t') | None => false,
        Some(b'\r') => line.get(at + 1).is_some_and(|next| *next != b'\n'),
        Some(byte) => byte.is_ascii_control(),
    }
}

fn is_fold(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// A number of digits alone; one that is too large to hold is as good as the largest.
fn number(text: &[u8]) -> Option<usize> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |sum: usize, digit: &u8| {
        sum.saturating_mul(10).saturating_add(usize::from(digit.saturating_sub(b'0')))
    };
    Some(text.iter().fold(0, digit))
}

fn trim_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

pub(super) const fn is_token(byte: u8) -> bool {
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
        let cases: [(&str, &[u8], Unit); 13] = [
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
            (
                "a folded content-length",
                b"RTSP/1.0 200\nContent-Length:\n 1\n\nx",
                Unit::Message { head: 33, body: 1 },
            ),
            (
                "content-length with zeros",
                b"RTSP/1.0 200\nContent-Length: 00000000001\n\nx",
                Unit::Message { head: 42, body: 1 },
            ),
            (
                "a first line of one space",
                b"RTSP/1.0 200 OK\r\n \r\nCSeq: 1\r\n\r\n",
                Unit::Message { head: 31, body: 0 },
            ),
            (
                "an odd name",
                b"RTSP/1.0 200 OK\nA \xff(b): 1\n\n",
                Unit::Message { head: 27, body: 0 },
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
        assert_eq!(rule(b"HTTP/1.1 200 OK"), Rule::StartLine);
        assert_eq!(rule(b"GET \0"), Rule::StartLine);
        assert_eq!(rule(b"OPTIONS * RTSP/1.0\rCSeq: 1\r\r"), Rule::StartLine);
        assert_eq!(rule(b"OPTIONS * RTSP/1.0\r\nnocolon\r\n"), Rule::HeaderName);
        for length in ["-1", "+1", "x", "", "1 2", "1, 1", "1\r\n 2"] {
            let text = format!("OPTIONS * RTSP/1.0\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(rule(text.as_bytes()), Rule::ContentLength, "{length:?}");
        }
        let two = b"OPTIONS * RTSP/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(rule(two), Rule::ContentLength);
    }

    #[test]
    fn limits_hold_at_the_bound_and_not_past_it() {
        let start = |len: usize| format!("OPTIONS {} RTSP/1.0\r\n\r\n", "a".repeat(len - 17));
        assert!(next(start(START_LINE_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(start(START_LINE_MAX_BYTES + 1).as_bytes()), Rule::StartLineTooLong);
        let open = format!("OPTIONS {}", "a".repeat(START_LINE_MAX_BYTES));
        assert!(next(&open.as_bytes()[..START_LINE_MAX_BYTES]).is_ok());
        let long = next(&open.as_bytes()[..START_LINE_MAX_BYTES + 1]).unwrap_err();
        assert_eq!((long.0.rule, long.status()), (Rule::StartLineTooLong, 414));
        let word = [b'A'; METHOD_MAX_BYTES + 1];
        assert!(next(&word[..METHOD_MAX_BYTES]).is_ok());
        assert_eq!(rule(&word), Rule::StartLine);

        let header =
            |len: usize| format!("OPTIONS * RTSP/1.0\r\nA:{}\r\n\r\n", "b".repeat(len - 2));
        assert!(next(header(HEADER_LINE_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(header(HEADER_LINE_MAX_BYTES + 1).as_bytes()), Rule::HeaderLineTooLong);
        let folded =
            |len: usize| format!("OPTIONS * RTSP/1.0\r\nA:b\r\n {}\r\n\r\n", "b".repeat(len - 6));
        assert!(next(folded(HEADER_LINE_MAX_BYTES).as_bytes()).is_ok());
        assert_eq!(rule(folded(HEADER_LINE_MAX_BYTES + 1).as_bytes()), Rule::HeaderLineTooLong);

        let headers =
            |count: usize| format!("OPTIONS * RTSP/1.0\r\n{}\r\n", "A: b\r\n".repeat(count));
        assert!(next(headers(HEADERS_MAX).as_bytes()).is_ok());
        assert_eq!(rule(headers(HEADERS_MAX + 1).as_bytes()), Rule::TooManyHeaders);

        let body = |len: usize| format!("OPTIONS * RTSP/1.0\r\nContent-Length: {len}\r\n\r\n");
        assert_eq!(next(body(BODY_MAX_BYTES).as_bytes()), Ok(Progress::NeedMore));
        let long = next(body(BODY_MAX_BYTES + 1).as_bytes()).unwrap_err();
        assert_eq!((long.0.rule, long.status()), (Rule::BodyTooLong, 413));
        assert_eq!(rule(body(usize::MAX).as_bytes()), Rule::BodyTooLong);

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

    #[test]
    fn empty_lines_are_counted_anew_after_each_unit() {
        let mut framer = Framer::default();
        for unit in [&b"$\0\0\0"[..], b"OPTIONS * RTSP/1.0\n\n"].into_iter().cycle().take(8) {
            let blank = [b'\n'; BLANK_MAX_BYTES];
            for bytes in [&blank[..], unit] {
                assert!(matches!(framer.next(bytes), Ok(Progress::Ready(_))));
            }
        }
    }

    #[test]
    fn lost_framing_stays_lost() {
        let mut framer = Framer::default();
        let lost = framer.next(b"\x16\x03\x01").unwrap_err();
        assert_eq!(lost.to_string(), "byte 0: start line");
        assert_eq!(framer.next(b"OPTIONS * RTSP/1.0\r\n\r\n"), Err(lost));
    }
}
