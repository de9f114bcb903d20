//! Start line and headers of a message, borrowed from the buffer; nothing is copied.

use core::ops::Range;

use heapless::Vec as Bounded;

use super::{Method, ParseError, Rule, Version};
use crate::limits::HEADERS_MAX;

/// The head of a message. Spans are offsets into the bytes it was parsed from.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    bytes: &'a [u8],
    start: StartSpans,
    headers: Bounded<HeaderSpans, HEADERS_MAX>,
    first_header_at: usize,
    end_of_headers: usize,
}

#[derive(Clone, Debug)]
enum StartSpans {
    Request { method: Range<usize>, uri: Range<usize>, version: Range<usize> },
    Response { status: u16, version: Range<usize> },
}

/// Where a header stands. Half as large as ranges of `usize`: heads are made and looked at for every
/// message.
#[derive(Clone, Copy, Debug)]
pub struct HeaderSpans {
    /// The whole line, foldings and line end included.
    pub line: Span,
    /// Its name.
    pub name: Span,
    /// Its value without spaces around.
    pub value: Span,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// The bytes in what was parsed.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(Range::from(self)).unwrap_or_default()
    }

    /// How many bytes.
    #[inline]
    pub fn bytes(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

impl From<Range<usize>> for Span {
    /// A place past 4 GiB, which no buffer of ours has, is none of the bytes.
    fn from(range: Range<usize>) -> Self {
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self { start: place(range.start), end: place(range.end) }
    }
}

impl From<Span> for Range<usize> {
    fn from(span: Span) -> Self {
        span.start as usize..span.end as usize
    }
}

/// One header.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// Its name as it came.
    pub name: &'a [u8],
    /// Its value without spaces around; a folded one keeps its line ends inside.
    pub value: &'a [u8],
    /// Where the name stands.
    pub name_span: Range<usize>,
    /// Where the value stands.
    pub value_span: Range<usize>,
    /// The whole line, foldings and line end included.
    pub line_span: Range<usize>,
}

impl Header<'_> {
    /// Whether it has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The Session header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionHeader<'a> {
    /// The session's id: opaque, without parameters.
    pub id: &'a [u8],
    /// Where the id stands.
    pub id_span: Range<usize>,
    /// `timeout=`, in seconds.
    pub timeout_s: Option<u32>,
}

/// What was found in a head, without its bytes: good for any copy of them.
#[derive(Debug, Default)]
pub struct Outline {
    /// How many bytes, the empty line included.
    pub len: usize,
    /// Of an answer; a request has none.
    pub status: Option<u16>,
    /// Where the URI of a request stands.
    pub uri: Range<usize>,
    /// Where all headers stand, in order.
    pub headers: Vec<HeaderSpans>,
    /// Where the empty line begins.
    pub end_of_headers: usize,
    /// What ends the start line, CRLF or LF.
    pub line_end: &'static [u8],
}

impl Clone for Outline {
    fn clone(&self) -> Self {
        let mut copy = Self::default();
        copy.clone_from(self);
        copy
    }

    /// Keeps the room that it has: no allocation for each message.
    fn clone_from(&mut self, from: &Self) {
        let mut headers = core::mem::take(&mut self.headers);
        headers.clone_from(&from.headers);
        *self = Self { uri: from.uri.clone(), headers, ..*from };
    }
}

impl<'a> Head<'a> {
    /// Parses a whole head, as [`super::framing`] found it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let (start_end, first_header_at) =
            line(bytes, 0).ok_or(ParseError { offset: bytes.len(), rule: Rule::StartLine })?;
        let start = start_line(bytes, start_end)?;
        // Filled in place: it is large to be moved about.
        let mut head =
            Self { bytes, start, headers: Bounded::new(), first_header_at, end_of_headers: 0 };
        let mut at = first_header_at;
        while let Some((end, next)) = line(bytes, at) {
            if end == at {
                break;
            }
            if matches!(bytes.get(at), Some(b' ' | b'\t')) {
                if let Some(last) = head.headers.last_mut() {
                    last.line = (last.line.start as usize..next).into();
                    // A line of spaces alone folds nothing in.
                    last.value = trimmed(bytes, last.value.start as usize..end).into();
                }
            } else {
                let spans = header(bytes, at..end, next)?;
                let full = ParseError { offset: at, rule: Rule::TooManyHeaders };
                head.headers.push(spans).map_err(|_| full)?;
            }
            at = next;
        }
        head.end_of_headers = at;
        Ok(head)
    }

    /// Whether it is an answer.
    pub fn is_response(&self) -> bool {
        matches!(self.start, StartSpans::Response { .. })
    }

    /// Status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self.start {
            StartSpans::Response { status, .. } => Some(status),
            StartSpans::Request { .. } => None,
        }
    }

    /// Version; the error says that it is neither 1.x nor 2.0.
    pub fn version(&self) -> Result<Version, ParseError> {
        let (StartSpans::Request { version, .. } | StartSpans::Response { version, .. }) =
            &self.start;
        let text = self.slice(version);
        let number = text.get(5..).unwrap_or_default();
        match (text.get(..5).is_some_and(|t| t.eq_ignore_ascii_case(b"RTSP/")), number) {
            (true, b"2.0") => Ok(Version::V2),
            (true, [b'1', b'.', ..]) => Ok(Version::V1),
            _ => Err(ParseError { offset: version.start, rule: Rule::Version }),
        }
    }

    /// Method of a request; [`Method::Other`] for an answer.
    pub fn method(&self) -> Method {
        Method::from_bytes(self.method_bytes())
    }

    /// Method of a request as it came; empty for an answer.
    pub fn method_bytes(&self) -> &'a [u8] {
        match &self.start {
            StartSpans::Request { method, .. } => self.slice(method),
            StartSpans::Response { .. } => b"",
        }
    }

    /// URI of a request.
    pub fn uri(&self) -> Option<&'a [u8]> {
        self.uri_span().map(|span| self.slice(&span))
    }

    /// Where the URI stands.
    pub fn uri_span(&self) -> Option<Range<usize>> {
        match &self.start {
            StartSpans::Request { uri, .. } => Some(uri.clone()),
            StartSpans::Response { .. } => None,
        }
    }

    /// All headers, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> {
        self.headers.iter().map(|spans| {
            let (name_span, value_span) = (spans.name.into(), spans.value.into());
            Header {
                name: self.slice(&name_span),
                value: self.slice(&value_span),
                name_span,
                value_span,
                line_span: spans.line.into(),
            }
        })
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<Header<'a>> {
        self.headers().find(|header| header.is(name))
    }

    /// All headers of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = Header<'a>> {
        self.headers().filter(move |header| header.is(name))
    }

    /// CSeq as a number.
    pub fn cseq(&self) -> Option<u32> {
        decimal(self.header("CSeq")?.value)
    }

    /// The Session header; an empty one is none.
    pub fn session(&self) -> Option<SessionHeader<'a>> {
        let header = self.header("Session")?;
        let mut parts = header.value.split(|byte| *byte == b';');
        let id = parts.next()?.trim_ascii();
        if id.is_empty() {
            return None;
        }
        let timeout_s = parts.find_map(|part| {
            let (name, value) = split_at_byte(part, b'=')?;
            name.eq_ignore_ascii_case(b"timeout").then(|| decimal(value)).flatten()
        });
        // The value is trimmed, so the id begins where it begins.
        let start = header.value_span.start;
        Some(SessionHeader { id, id_span: start..start + id.len(), timeout_s })
    }

    /// Content-Length in bytes; 0 without one. [`super::framing`] has refused what is no number and
    /// two that differ, so this is the length of the body that follows the head it found.
    pub fn content_length(&self) -> usize {
        let length = self.header("Content-Length").and_then(|header| decimal(header.value));
        length.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0)
    }

    /// What ends the start line, CRLF or LF: lines that are added end in the same.
    pub fn line_end(&self) -> &'static [u8] {
        let start = self.bytes.get(..self.first_header_at).unwrap_or_default();
        if start.ends_with(b"\r\n") { b"\r\n" } else { b"\n" }
    }

    /// Where everything stands, to be kept beside a copy of the bytes.
    pub fn outline(&self) -> Outline {
        Outline {
            len: self.bytes.len(),
            status: self.status(),
            uri: self.uri_span().unwrap_or_default(),
            headers: self.headers.to_vec(),
            end_of_headers: self.end_of_headers,
            line_end: self.line_end(),
        }
    }

    /// Just after the start line: where CSeq goes to be first.
    pub fn first_header_at(&self) -> usize {
        self.first_header_at
    }

    /// Where the empty line begins: where a header is added.
    pub fn end_of_headers(&self) -> usize {
        self.end_of_headers
    }

    fn slice(&self, span: &Range<usize>) -> &'a [u8] {
        self.bytes.get(span.clone()).unwrap_or_default()
    }
}

/// A decimal number with spaces around it, leading zeros allowed.
pub(crate) fn decimal(text: &[u8]) -> Option<u32> {
    let text = text.trim_ascii();
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u32, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The two sides of the first such byte, without spaces around them.
pub(crate) fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == byte)?;
    let (left, right) = text.split_at(at);
    Some((left.trim_ascii(), right.get(1..)?.trim_ascii()))
}

/// Where the line that begins at `at` ends, without and with its line end.
fn line(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let feed = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
    let end = if feed > at && bytes.get(feed - 1) == Some(&b'\r') { feed - 1 } else { feed };
    Some((end, feed + 1))
}

/// The span without blanks at its ends. By hand: `trim_ascii` takes three times as long where code is
/// compiled for size, and every header is trimmed twice.
fn trimmed(bytes: &[u8], Range { mut start, mut end }: Range<usize>) -> Range<usize> {
    let blank = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_whitespace);
    while start < end && blank(start) {
        start += 1;
    }
    while start < end && blank(end - 1) {
        end -= 1;
    }
    start..end
}

fn start_line(bytes: &[u8], end: usize) -> Result<StartSpans, ParseError> {
    let error = |offset, rule| ParseError { offset, rule };
    let mut words = Words { bytes, at: 0, end };
    let first = words.next().ok_or(error(0, Rule::StartLine))?;
    let text = bytes.get(first.clone()).unwrap_or_default();
    if text.get(..5).is_some_and(|t| t.eq_ignore_ascii_case(b"RTSP/")) {
        let status = words.next().ok_or(error(first.end, Rule::Status))?;
        let number = bytes.get(status.clone()).and_then(decimal);
        let number = number.and_then(|n| u16::try_from(n).ok()).filter(|n| (100..1000).contains(n));
        let status = number.ok_or(error(status.start, Rule::Status))?;
        return Ok(StartSpans::Response { status, version: first });
    }
    let uri = words.next().ok_or(error(first.end, Rule::Uri))?;
    // A URI may hold spaces that a client should have escaped: the last word is the version.
    let version = words.last().ok_or(error(uri.end, Rule::Version))?;
    let uri = trimmed(bytes, uri.start..version.start);
    Ok(StartSpans::Request { method: first, uri, version })
}

struct Words<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.bytes.get(self.at..self.end)?;
        let start = self.at + rest.iter().position(|byte| *byte != b' ')?;
        let rest = self.bytes.get(start..self.end)?;
        let len = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        self.at = start + len;
        Some(start..self.at)
    }
}

fn header(bytes: &[u8], span: Range<usize>, next: usize) -> Result<HeaderSpans, ParseError> {
    let text = bytes.get(span.clone()).unwrap_or_default();
    let Some(colon) = memchr::memchr(b':', text) else {
        return Err(ParseError { offset: span.start, rule: Rule::HeaderName });
    };
    let name = trimmed(bytes, span.start..span.start + colon);
    let value = trimmed(bytes, span.start + colon + 1..span.end);
    Ok(HeaderSpans { line: (span.start..next).into(), name: name.into(), value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_its_spelling() {
        let text = b"DESCRIBE rtsp://h/a b RTSP/1.0\r\ncseq:  007 \r\nX:\r\nSession: ab ; timeout = 30\r\n\r\n";
        let head = Head::parse(text).unwrap();
        assert_eq!((head.method(), head.uri()), (Method::Describe, Some(&b"rtsp://h/a b"[..])));
        assert_eq!((head.version(), head.cseq()), (Ok(Version::V1), Some(7)));
        assert_eq!(head.header("CSEQ").unwrap().value, b"007");
        assert_eq!(head.header("x").unwrap().value, b"");
        let session = head.session().unwrap();
        assert_eq!((session.id, session.timeout_s), (&b"ab"[..], Some(30)));
        assert_eq!(&text[session.id_span], b"ab");
        assert_eq!(&text[head.first_header_at()..][..4], b"cseq");
        assert_eq!(&text[head.end_of_headers()..], b"\r\n");
    }

    #[test]
    fn folded_headers_are_one() {
        let text = b"OPTIONS * RTSP/1.0\nA: b,\n c\n \nCSeq: 1\n\n";
        let head = Head::parse(text).unwrap();
        assert_eq!(head.header("A").unwrap().value, b"b,\n c");
        assert_eq!(&text[head.header("A").unwrap().line_span], b"A: b,\n c\n \n");
        assert_eq!((head.cseq(), head.headers().count()), (Some(1), 2));
    }

    #[test]
    fn a_status_line_may_lack_its_reason() {
        for text in
            [&b"RTSP/1.0 200\r\n\r\n"[..], b"RTSP/1.0 200 \r\n\r\n", b"rtsp/1.0 200 OK\r\n\r\n"]
        {
            assert_eq!(Head::parse(text).unwrap().status(), Some(200));
        }
        for text in [&b"RTSP/1.0\r\n\r\n"[..], b"RTSP/1.0 20x\r\n\r\n", b"RTSP/1.0 1000 A\r\n\r\n"]
        {
            assert_eq!(Head::parse(text).unwrap_err().rule, Rule::Status);
        }
    }

    #[test]
    fn another_version_can_still_be_answered() {
        let head = Head::parse(b"OPTIONS * RTSP/3.0\r\nCSeq: 4\r\n\r\n").unwrap();
        assert_eq!(head.version().unwrap_err().to_string(), "byte 10: start line > version");
        assert_eq!(head.cseq(), Some(4));
        assert_eq!(Head::parse(b"OPTIONS * RTSP/2.0\r\n\r\n").unwrap().version(), Ok(Version::V2));
    }

    #[test]
    fn cseq_is_a_number() {
        for (text, number) in
            [("1", Some(1)), (" 4294967295 ", Some(u32::MAX)), ("4294967296", None)]
        {
            let head = format!("OPTIONS * RTSP/1.0\r\nCSeq:{text}\r\n\r\n");
            assert_eq!(Head::parse(head.as_bytes()).unwrap().cseq(), number, "{text}");
        }
    }

    #[test]
    fn headers_of_one_name_keep_their_order() {
        let head = Head::parse(b"OPTIONS * RTSP/1.0\r\nVia: a\r\nX: y\r\nvia: b\r\n\r\n").unwrap();
        let via: Vec<&[u8]> = head.all("Via").map(|header| header.value).collect();
        assert_eq!(via, [b"a", b"b"]);
    }

    #[test]
    fn the_start_line_in_its_two_shapes() {
        let head = Head::parse(b"X-ODD rtsp://h RTSP/1.0\n\n").unwrap();
        assert_eq!((head.method_bytes(), head.uri()), (&b"X-ODD"[..], Some(&b"rtsp://h"[..])));
        assert_eq!(head.status(), None);
        assert_eq!((head.method(), head.line_end()), (Method::Other, &b"\n"[..]));
        let head = Head::parse(b"RTSP/1.0 461  Unsupported Transport \r\n\r\n").unwrap();
        assert_eq!((head.status(), head.uri()), (Some(461), None));
        assert_eq!((head.method(), head.line_end()), (Method::Other, &b"\r\n"[..]));
        let head = Head::parse(b"RTSP/1.0 200\r\n\r\n").unwrap();
        assert_eq!(head.status(), Some(200));
    }

    #[test]
    fn content_length_however_it_is_written() {
        for (text, length) in [
            ("content-LENGTH :  007 ", 7),
            ("Content-Length:\r\n 7", 7),
            ("X: 7", 0),
            ("Content-Length: x", 0),
        ] {
            let text = format!("OPTIONS * RTSP/1.0\r\n{text}\r\n\r\n");
            assert_eq!(Head::parse(text.as_bytes()).unwrap().content_length(), length, "{text}");
        }
    }

    #[test]
    fn headers_are_bounded_and_odd_names_pass() {
        let text = |count: usize| format!("OPTIONS * RTSP/1.0\n{}\n", "A: b\n".repeat(count));
        assert_eq!(Head::parse(text(HEADERS_MAX).as_bytes()).unwrap().headers().count(), 64);
        let error = Head::parse(text(HEADERS_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "byte 339: head > number of headers");
        let bytes = b"OPTIONS * RTSP/1.0\n\xff x\0: 1\n:2\n\n";
        let head = Head::parse(bytes).unwrap();
        let names: Vec<&[u8]> = head.headers().map(|header| &bytes[header.name_span]).collect();
        assert_eq!(names, [&b"\xff x\0"[..], b""]);
        let error = Head::parse(b"OPTIONS * RTSP/1.0\nno colon\n\n").unwrap_err();
        assert_eq!(error.to_string(), "byte 19: header > name and colon");
    }
}
