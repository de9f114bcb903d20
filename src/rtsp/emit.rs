//! What may leave: messages in the one form that every reader takes for the same.
//!
//! Readers differ about a bare CR, a NUL, a folded line, a name that is no token, the second of two
//! headers: where one sees one request another sees two, and what was allowed to the first is done to the
//! second (RFC 9112 11.2 has the habit's name, request smuggling). So a head is made clean where it comes
//! in, by [`clean`], and everything behind sees clean heads only; what is changed in one is changed
//! header by header, in a [`Draft`].
//!
//! Clean means: lines end in CRLF; no CR, NUL or fold inside; names are tokens; one each of
//! [`SINGLE`]. A clean head is left byte for byte.

use core::fmt;
use std::borrow::Cow;

use super::{Head, framing::is_token};

/// Headers that a message has once at most.
pub const SINGLE: [&str; 5] = ["CSeq", "Session", "Transport", "Content-Length", "Authorization"];

/// What a head has in it that may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclean {
    /// A CR that ends no line.
    BareCr,
    /// A NUL.
    Nul,
    /// A control character in the start line.
    StartLine,
    /// A header name that is no token, or is followed by a space.
    Name,
    /// A folded line with no header before it.
    Fold,
    /// A second one of this header.
    Twice(&'static str),
}

impl Unclean {
    /// For the answer to who sent it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::BareCr => "Bare CR in head",
            Self::Nul => "NUL in head",
            Self::StartLine => "Control character in start line",
            Self::Name => "Header name is no token",
            Self::Fold => "Folded line without a header",
            Self::Twice("CSeq") => "Second CSeq",
            Self::Twice("Session") => "Second Session",
            Self::Twice("Transport") => "Second Transport",
            Self::Twice("Content-Length") => "Second Content-Length",
            Self::Twice(_) => "Second Authorization",
        }
    }
}

impl fmt::Display for Unclean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// What is done about a head that is not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Only what no two readers take for different things is mended: folds and line ends. For clients,
    /// whose requests act.
    Strict,
    /// What can be understood is mended as it was understood: the first of two headers counts. For
    /// origins, whose cameras are what they are.
    Lenient,
}

/// A whole head, as [`super::framing`] found it, in the form that may leave; a clean one as it came.
///
/// ```
/// use edgeweir::rtsp::emit::{Manner, Unclean, clean};
///
/// let folded = b"OPTIONS * RTSP/1.0\nCSeq: 1\nAccept: a,\n\tb\n\n";
/// let unfolded = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nAccept: a, b\r\n\r\n";
/// assert_eq!(clean(folded, Manner::Strict).unwrap().as_ref(), unfolded);
/// let spaced = b"OPTIONS * RTSP/1.0\r\nCSeq : 1\r\n\r\n";
/// assert_eq!(clean(spaced, Manner::Strict), Err(Unclean::Name));
/// assert_eq!(clean(spaced, Manner::Lenient).unwrap().as_ref(), b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
/// ```
pub fn clean(head: &[u8], manner: Manner) -> Result<Cow<'_, [u8]>, Unclean> {
    if is_clean(head) { Ok(Cow::Borrowed(head)) } else { mended(head, manner).map(Cow::Owned) }
}

/// Whether a whole head may leave as it is.
pub fn is_clean(head: &[u8]) -> bool {
    let mut lines = lines(head);
    let Some(start) = lines.next() else { return false };
    if !start.crlf || start.text.iter().any(u8::is_ascii_control) {
        return false;
    }
    let mut seen = Seen::default();
    for line in lines {
        if !line.crlf {
            return false;
        }
        if line.text.is_empty() {
            return line.is_last;
        }
        let Some((name, value)) = named(line.text) else { return false };
        if !is_name(name)
            || memchr::memchr2(b'\r', b'\0', value).is_some()
            || seen.again(name).is_some()
        {
            return false;
        }
    }
    false
}

fn mended(head: &[u8], manner: Manner) -> Result<Vec<u8>, Unclean> {
    let strict = manner == Manner::Strict;
    let mut out = Vec::with_capacity(head.len() + 32);
    let mut lines = lines(head);
    let start = lines.next().map(|line| line.text).unwrap_or_default();
    start_line(start, strict, &mut out)?;
    let (mut seen, mut any, mut kept) = (Seen::default(), false, false);
    for line in lines.take_while(|line| !line.text.is_empty()) {
        if strict {
            check_bytes(line.text)?;
        }
        if is_fold(line.text) {
            if strict && !any {
                return Err(Unclean::Fold);
            }
            let more = line.text.trim_ascii();
            if kept && !more.is_empty() {
                out.push(b' ');
                push(more, &mut out);
            }
            continue;
        }
        if kept {
            out.extend_from_slice(b"\r\n");
        }
        any = true;
        let (name, value) = named(line.text).unwrap_or((line.text, b""));
        if strict && !is_name(name) {
            return Err(Unclean::Name);
        }
        let name = name.trim_ascii();
        kept = is_name(name);
        match seen.again(name) {
            Some(single) if strict => return Err(Unclean::Twice(single)),
            Some(_) => kept = false,
            None => {}
        }
        if kept {
            out.extend_from_slice(name);
            out.push(b':');
            push(value, &mut out);
        }
    }
    out.extend_from_slice(if kept { b"\r\n\r\n" } else { b"\r\n" });
    Ok(out)
}

/// A status line is text behind its number; in a request a tab would part words for some readers.
fn start_line(line: &[u8], strict: bool, out: &mut Vec<u8>) -> Result<(), Unclean> {
    if strict {
        check_bytes(line)?;
    }
    let answers = line.get(..5).is_some_and(|word| word.eq_ignore_ascii_case(b"RTSP/"));
    if !answers && line.iter().any(u8::is_ascii_control) {
        return Err(Unclean::StartLine);
    }
    let text = |byte: &u8| if byte.is_ascii_control() { b' ' } else { *byte };
    out.extend(line.iter().map(text));
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn check_bytes(text: &[u8]) -> Result<(), Unclean> {
    match memchr::memchr2(b'\r', b'\0', text).and_then(|at| text.get(at)) {
        Some(b'\r') => Err(Unclean::BareCr),
        Some(_) => Err(Unclean::Nul),
        None => Ok(()),
    }
}

/// What would end a line for somebody is a space for everybody.
fn push(text: &[u8], out: &mut Vec<u8>) {
    let harmless = |byte: &u8| if matches!(byte, b'\r' | b'\n' | b'\0') { b' ' } else { *byte };
    out.extend(text.iter().map(harmless));
}

/// Which of [`SINGLE`] were met.
#[derive(Default)]
struct Seen([bool; SINGLE.len()]);

impl Seen {
    /// The header's name, where it is one of those and was met before.
    fn again(&mut self, name: &[u8]) -> Option<&'static str> {
        let (single, seen) = SINGLE
            .iter()
            .zip(&mut self.0)
            .find(|(single, _)| name.eq_ignore_ascii_case(single.as_bytes()))?;
        core::mem::replace(seen, true).then_some(*single)
    }
}

struct Line<'a> {
    text: &'a [u8],
    crlf: bool,
    is_last: bool,
}

/// Lines end in LF; one CR before it belongs to the end.
fn lines(head: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let rest = head.get(at..)?;
        let feed = memchr::memchr(b'\n', rest)?;
        at += feed + 1;
        let text = rest.get(..feed)?;
        let without = text.strip_suffix(b"\r");
        let is_last = at == head.len();
        Some(Line { text: without.unwrap_or(text), crlf: without.is_some(), is_last })
    })
}

fn named(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((line.get(..colon)?, line.get(colon + 1..)?))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token(*byte))
}

fn is_fold(line: &[u8]) -> bool {
    matches!(line.first(), Some(b' ' | b'\t'))
}

/// A clean head being changed. Each of its headers has one fate, so that changes cannot collide: one that
/// is taken out stays out, whatever else is wanted of it.
#[derive(Debug)]
pub struct Draft<'h> {
    bytes: &'h [u8],
    head: &'h Head<'h>,
    uri: Option<Vec<u8>>,
    first: Option<Vec<u8>>,
    fates: Vec<Fate>,
    added: Vec<u8>,
}

#[derive(Debug)]
enum Fate {
    Stays,
    Becomes(Vec<u8>),
    Leaves,
}

impl<'h> Draft<'h> {
    /// Of this head, which was parsed from the beginning of these bytes.
    pub fn new(head: &'h Head<'h>, bytes: &'h [u8]) -> Self {
        let fates = head.headers().map(|_| Fate::Stays).collect();
        Self { bytes, head, uri: None, first: None, fates, added: Vec::new() }
    }

    /// Another URI.
    pub fn uri(&mut self, uri: Vec<u8>) {
        self.uri = Some(uri);
    }

    /// Another value for the header at this place.
    pub fn set(&mut self, at: usize, value: impl Into<Vec<u8>>) {
        if let Some(fate) = self.fates.get_mut(at)
            && !matches!(fate, Fate::Leaves)
        {
            *fate = Fate::Becomes(value.into());
        }
    }

    /// Takes the header at this place out.
    pub fn remove(&mut self, at: usize) {
        if let Some(fate) = self.fates.get_mut(at) {
            *fate = Fate::Leaves;
        }
    }

    /// One more header, behind the others.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        header(name, value, &mut self.added);
    }

    /// The number of the message. It goes first, since some recorders demand it there; where it is first
    /// already, only the number changes.
    pub fn number(&mut self, cseq: &[u8]) {
        match self.head.headers().position(|header| header.is("CSeq")) {
            Some(0) => return self.set(0, cseq),
            Some(at) => self.remove(at),
            None => {}
        }
        let mut line = Vec::new();
        header("CSeq", cseq, &mut line);
        self.first = Some(line);
    }

    /// The message with this body; `changed` says that it is another one than came.
    pub fn finish(mut self, body: &[u8], changed: bool) -> Vec<u8> {
        if changed {
            let length = body.len().to_string();
            match self.head.headers().position(|header| header.is("Content-Length")) {
                Some(at) => self.set(at, length),
                None => self.add("Content-Length", length.as_bytes()),
            }
        }
        let mut out = Vec::with_capacity(self.bytes.len() + body.len() + 128);
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        let first = self.head.first_header_at();
        match (&self.uri, self.head.uri_span()) {
            (Some(uri), Some(span)) => {
                out.extend_from_slice(part(0, span.start));
                push(uri, &mut out);
                out.extend_from_slice(part(span.end, first));
            }
            _ => out.extend_from_slice(part(0, first)),
        }
        out.extend_from_slice(self.first.as_deref().unwrap_or_default());
        for (header, fate) in self.head.headers().zip(&self.fates) {
            let (line, value) = (header.line_span, header.value_span);
            match fate {
                Fate::Stays => out.extend_from_slice(part(line.start, line.end)),
                Fate::Leaves => {}
                Fate::Becomes(text) => {
                    out.extend_from_slice(part(line.start, value.start));
                    push(text, &mut out);
                    out.extend_from_slice(part(value.end, line.end));
                }
            }
        }
        out.extend_from_slice(&self.added);
        out.extend_from_slice(b"\r\n");
        debug_assert!(is_clean(&out), "a clean head stays clean: {}", out.escape_ascii());
        out.extend_from_slice(body);
        out
    }
}

/// Appends one header of ours. Whatever its value comes from, it is one line.
pub fn header(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    push(value, out);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(text: &str) -> Result<String, Unclean> {
        clean(text.as_bytes(), Manner::Strict)
            .map(|head| String::from_utf8_lossy(&head).into_owned())
    }

    fn lenient(text: &str) -> String {
        let head = clean(text.as_bytes(), Manner::Lenient).unwrap();
        assert!(is_clean(&head), "{text:?} became {:?}", head.escape_ascii());
        String::from_utf8_lossy(&head).into_owned()
    }

    #[test]
    fn a_clean_head_is_left_byte_for_byte() {
        for text in [
            "OPTIONS * RTSP/1.0\r\n\r\n",
            "RTSP/1.0 200\r\nCSeq:1\r\nx-Odd:  v \r\nX-Odd:\tw\x0b\r\nVia: a\r\nVia: b\r\n\r\n",
        ] {
            assert!(matches!(clean(text.as_bytes(), Manner::Strict), Ok(Cow::Borrowed(_))));
        }
    }

    #[test]
    fn folds_and_line_ends_are_mended_for_everybody() {
        let cases = [
            ("line feeds", "OPTIONS * RTSP/1.0\nA: b\n\n", "OPTIONS * RTSP/1.0\r\nA: b\r\n\r\n"),
            (
                "folds, and lines of a space",
                "OPTIONS * RTSP/1.0\r\nA:\r\n\tb,\r\n  c \r\n \r\nB: d\r\n \r\n\r\n",
                "OPTIONS * RTSP/1.0\r\nA: b, c\r\nB: d\r\n\r\n",
            ),
        ];
        for (name, text, expected) in cases {
            assert_eq!(strict(text).as_deref(), Ok(expected), "{name}");
            assert_eq!(lenient(text), expected, "{name}");
        }
    }

    #[test]
    fn what_readers_differ_about_is_refused_or_mended() {
        let ask = |lines: &str| format!("OPTIONS * RTSP/1.0\r\n{lines}\r\n");
        let cases = [
            ("A: b\rCSeq: 2\r\n", Unclean::BareCr, "A: b CSeq: 2\r\n"),
            ("A: b\r\r\n", Unclean::BareCr, "A: b \r\n"),
            ("A: b\0c\r\n", Unclean::Nul, "A: b c\r\n"),
            ("A: b\r\n c\rd\r\n", Unclean::BareCr, "A: b c d\r\n"),
            ("Content-Length : 5\r\n", Unclean::Name, "Content-Length: 5\r\n"),
            ("A\0: b\r\nB: c\r\n", Unclean::Nul, "B: c\r\n"),
            ("a b: c\r\n d\r\nB: c\r\n", Unclean::Name, "B: c\r\n"),
            (": c\r\n", Unclean::Name, ""),
            (" \r\nA: b\r\n", Unclean::Fold, "A: b\r\n"),
            ("\tA: b\r\n", Unclean::Fold, ""),
        ];
        for (lines, unclean, mended) in cases {
            assert_eq!(strict(&ask(lines)), Err(unclean), "{lines:?}");
            assert_eq!(lenient(&ask(lines)), ask(mended), "{lines:?}");
        }
    }

    #[test]
    fn of_headers_that_are_there_once_the_first_counts_or_none() {
        for name in SINGLE {
            let other = name.to_ascii_uppercase();
            let twice =
                format!("OPTIONS * RTSP/1.0\r\n{name}: 1\r\n{other}: 1\r\n 2\r\nA: b\r\n\r\n");
            assert_eq!(strict(&twice), Err(Unclean::Twice(name)));
            assert_eq!(Unclean::Twice(name).reason(), format!("Second {name}"));
            assert_eq!(lenient(&twice), format!("OPTIONS * RTSP/1.0\r\n{name}: 1\r\nA: b\r\n\r\n"));
        }
    }

    #[test]
    fn a_tab_parts_no_words_of_a_request() {
        for manner in [Manner::Strict, Manner::Lenient] {
            let asked = clean(b"PLAY rtsp://h/a\tb RTSP/1.0\r\n\r\n", manner);
            assert_eq!(asked, Err(Unclean::StartLine));
        }
        assert_eq!(lenient("RTSP/1.0 404 Not\tFound\r\n\r\n"), "RTSP/1.0 404 Not Found\r\n\r\n");
    }

    fn draft(text: &str, change: impl FnOnce(&mut Draft<'_>), body: Option<&str>) -> String {
        let head = Head::parse(text.as_bytes()).unwrap();
        let mut draft = Draft::new(&head, text.as_bytes());
        change(&mut draft);
        let out = draft.finish(body.unwrap_or_default().as_bytes(), body.is_some());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn changes_to_one_header_cannot_collide() {
        let text = "OPTIONS rtsp://a/ RTSP/1.0\r\nX: 1 \r\nCSeq: 1\r\nY:2\r\n\r\n";
        let out = draft(
            text,
            |draft| {
                draft.uri(b"rtsp://b/".to_vec());
                draft.number(b"7");
                draft.remove(0);
                draft.set(0, "again");
                draft.set(2, "a\r\nB: c");
                draft.set(9, "nowhere");
                draft.add("Z", b"\0z");
            },
            None,
        );
        assert_eq!(out, "OPTIONS rtsp://b/ RTSP/1.0\r\nCSeq: 7\r\nY:a  B: c\r\nZ:  z\r\n\r\n");
    }

    #[test]
    fn another_body_has_its_own_length() {
        let text = "RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 9 \r\n\r\n";
        assert!(draft(text, |_| {}, Some("ab")).ends_with("Content-Length: 2 \r\n\r\nab"));
        let out =
            draft("RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", |draft| draft.number(b"2"), Some("ab"));
        assert_eq!(out, "RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 2\r\n\r\nab");
    }
}
