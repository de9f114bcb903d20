//! The message that a guest is lent: getters that copy what is asked for, edits that wait.
//!
//! The message is copied once, into a buffer that stays; its head is taken apart at the first
//! question. Getters show it as it came in. Edits are kept as they are made and applied to spans
//! of the original only when the guest's verdict lets the message go on: all that was not edited
//! stays byte for byte. After a fault they are forgotten.
//!
//! Not in here: what the verdict means.

use core::ops::Range;
use std::sync::Arc;

use super::{
    bindings::types::{EditError, Header},
    hooks::Message,
    values::{Interest, is_name, is_owned, is_value},
};
use crate::{
    limits::{
        BODY_MAX_BYTES, GUEST_EDITS_MAX, GUEST_HEADER_VALUE_MAX_BYTES, HEAD_MAX_BYTES, HEADERS_MAX,
        URL_MAX_BYTES,
    },
    rtsp::{
        Edits, Head, Url,
        head::{HeaderSpans, decimal},
    },
};

/// What the handle of a message stands for. There is one message at a time, so it holds nothing.
#[derive(Debug)]
#[allow(unreachable_pub)] // the generated bindings name it in public
pub struct Lent;

/// Who is lent a message.
#[derive(Clone, Debug, Default)]
pub(super) enum Borrower {
    /// An authenticator: nothing to edit, no body.
    #[default]
    Authenticator,
    /// A filter with what it wants to see.
    Filter(Arc<Interest>),
}

/// The message of the current call.
#[derive(Debug, Default)]
pub(super) struct Current {
    bytes: Vec<u8>,
    head: usize,
    method: String,
    borrower: Borrower,
    parsed: Option<Parsed>,
    /// Kept for its capacity.
    spare: Vec<HeaderSpans>,
    staged: Staged,
}

#[derive(Debug, Default)]
struct Parsed {
    request: bool,
    status: Option<u16>,
    uri: Range<usize>,
    headers: Vec<HeaderSpans>,
    end_of_headers: usize,
    crlf: bool,
}

#[derive(Debug, Default)]
struct Staged {
    edits: Vec<Edit>,
    uri: Option<String>,
    body: Option<(String, Vec<u8>)>,
    count: usize,
}

#[derive(Debug)]
enum Edit {
    Set(Header),
    Add(Header),
    Remove(String),
}

impl Current {
    /// Takes a message for one call.
    pub(super) fn lend(&mut self, message: &Message<'_>, borrower: Borrower) {
        self.bytes.clear();
        self.bytes.extend_from_slice(message.bytes);
        self.head = message.head.min(message.bytes.len());
        self.method.clear();
        self.method.push_str(message.method);
        self.borrower = borrower;
        if let Some(parsed) = self.parsed.take() {
            self.spare = parsed.headers;
        }
        self.take_back();
    }

    /// Forgets the edits.
    pub(super) fn take_back(&mut self) {
        self.staged = Staged::default();
    }

    fn parsed(&mut self) -> &Parsed {
        if self.parsed.is_none() {
            self.parsed = Some(self.parse());
        }
        self.parsed.get_or_insert_default()
    }

    /// A head that cannot be parsed has no headers; sessions do not hand out such.
    fn parse(&mut self) -> Parsed {
        let mut headers = core::mem::take(&mut self.spare);
        headers.clear();
        let Ok(head) = Head::parse(self.bytes.get(..self.head).unwrap_or_default()) else {
            return Parsed { headers, ..Parsed::default() };
        };
        headers.extend_from_slice(head.header_spans());
        Parsed {
            request: !head.is_response(),
            status: head.status(),
            uri: head.uri_span().unwrap_or_default(),
            headers,
            end_of_headers: head.end_of_headers(),
            crlf: head.line_end() == b"\r\n",
        }
    }

    fn find(&mut self, name: &str) -> Option<&[u8]> {
        self.parsed();
        let found = self.parsed.as_ref()?.headers.iter().find(|spans| self.is(spans, name));
        found.map(|spans| spans.value.of(&self.bytes))
    }

    /// Whether a header has this name. The lengths first: most differ.
    fn is(&self, spans: &HeaderSpans, name: &str) -> bool {
        spans.name.bytes() == name.len()
            && spans.name.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn is_request(&mut self) -> bool {
        self.parsed().request
    }

    pub(super) fn method(&self) -> String {
        self.method.clone()
    }

    pub(super) fn uri(&mut self) -> String {
        let span = self.parsed().uri.clone();
        text(self.bytes.get(span).unwrap_or_default())
    }

    pub(super) fn status(&mut self) -> Option<u16> {
        self.parsed().status
    }

    pub(super) fn cseq(&mut self) -> u32 {
        self.find("CSeq").and_then(decimal).unwrap_or(0)
    }

    pub(super) fn header(&mut self, name: &str) -> Option<Vec<u8>> {
        self.find(name).map(<[u8]>::to_vec)
    }

    pub(super) fn headers(&mut self) -> Vec<Header> {
        self.parsed();
        let all = self.parsed.iter().flat_map(|parsed| &parsed.headers);
        all.map(|spans| Header {
            name: text(spans.name.of(&self.bytes)),
            value: spans.value.of(&self.bytes).to_vec(),
        })
        .collect()
    }

    pub(super) fn body_type(&mut self) -> Option<String> {
        let value = self.find("Content-Type")?;
        let kind = value.split(|byte| *byte == b';').next()?.trim_ascii();
        String::from_utf8(kind.to_ascii_lowercase()).ok()
    }

    pub(super) fn body_len(&self) -> usize {
        self.bytes.len() - self.head
    }

    pub(super) fn body(&mut self) -> Vec<u8> {
        let Borrower::Filter(interest) = self.borrower.clone() else { return Vec::new() };
        let kind = self.body_type().unwrap_or_default();
        if !interest.in_body(&kind, self.body_len()) {
            return Vec::new();
        }
        self.bytes.get(self.head..).unwrap_or_default().to_vec()
    }

    pub(super) fn set_header(&mut self, header: Header) -> Result<(), EditError> {
        self.may_edit(&header.name)?;
        may_stand(&header.value)?;
        self.stage(Edit::Set(header))
    }

    pub(super) fn add_header(&mut self, header: Header) -> Result<(), EditError> {
        self.may_edit(&header.name)?;
        may_stand(&header.value)?;
        self.stage(Edit::Add(header))
    }

    pub(super) fn remove_header(&mut self, name: String) -> Result<(), EditError> {
        self.may_edit(&name)?;
        self.remove_checked(name)
    }

    fn remove_checked(&mut self, name: String) -> Result<(), EditError> {
        let adds = self.staged.edits.iter().any(|edit| !matches!(edit, Edit::Remove(_)));
        if !adds && !name.is_empty() && self.find(&name).is_none() {
            // Nothing is there to go: the usual case of a filter that goes through its list.
            return self.count();
        }
        self.stage(Edit::Remove(name))
    }

    pub(super) fn remove_headers(&mut self, names: Vec<String>) -> Result<(), EditError> {
        for name in &names {
            self.may_edit(name)?;
            if name.is_empty() {
                return Err(EditError::BadName);
            }
        }
        if names.len() > GUEST_EDITS_MAX - self.staged.count {
            return Err(EditError::TooLarge);
        }
        names.into_iter().try_for_each(|name| self.remove_checked(name))
    }

    pub(super) fn set_uri(&mut self, uri: String) -> Result<(), EditError> {
        self.may_edit("")?;
        if !self.is_request() {
            return Err(EditError::NotARequest);
        }
        if uri.len() > URL_MAX_BYTES {
            return Err(EditError::TooLarge);
        }
        let visible = uri.bytes().all(|byte| byte > b' ' && byte != 0x7f);
        let absolute = uri.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("rtsp://"));
        if !visible || !absolute || Url::parse(uri.as_bytes()).is_err() {
            return Err(EditError::BadValue);
        }
        self.count()?;
        let before = self.staged.uri.replace(uri);
        self.fits().inspect_err(|_| self.staged.uri = before)
    }

    pub(super) fn replace_body(&mut self, kind: String, body: Vec<u8>) -> Result<(), EditError> {
        self.may_edit("")?;
        let parts = kind.split(';').next().unwrap_or_default().trim().split_once('/');
        let known = parts.is_some_and(|(major, minor)| is_name(major) && is_name(minor));
        if !known || !is_value(kind.as_bytes()) || kind.len() > 256 {
            return Err(EditError::BadValue);
        }
        if body.len() > BODY_MAX_BYTES {
            return Err(EditError::TooLarge);
        }
        self.count()?;
        let before = self.staged.body.replace((kind, body));
        self.fits().inspect_err(|_| self.staged.body = before)
    }

    /// Whether this borrower may edit this header; `""`: anything at all.
    fn may_edit(&self, name: &str) -> Result<(), EditError> {
        if matches!(self.borrower, Borrower::Authenticator) || is_owned(name) {
            return Err(EditError::ForbiddenHeader);
        }
        if name.is_empty() || is_name(name) { Ok(()) } else { Err(EditError::BadName) }
    }

    fn count(&mut self) -> Result<(), EditError> {
        if self.staged.count >= GUEST_EDITS_MAX {
            return Err(EditError::TooLarge);
        }
        self.staged.count += 1;
        Ok(())
    }

    fn stage(&mut self, edit: Edit) -> Result<(), EditError> {
        if let Edit::Set(Header { name, .. }) | Edit::Add(Header { name, .. }) | Edit::Remove(name) =
            &edit
            && name.is_empty()
        {
            return Err(EditError::BadName);
        }
        self.count()?;
        let grows = !matches!(edit, Edit::Remove(_));
        self.staged.edits.push(edit);
        if grows && self.fits().is_err() {
            self.staged.edits.pop();
            return Err(EditError::TooLarge);
        }
        Ok(())
    }

    /// Whether the edited head stays within the bounds of one that comes in.
    fn fits(&mut self) -> Result<(), EditError> {
        self.parsed();
        let Some(parsed) = &self.parsed else { return Ok(()) };
        let added = self.added();
        let removed = parsed.headers.iter().filter(|spans| self.goes(spans));
        let (mut lines, mut bytes) = (parsed.headers.len() + added.len(), self.head);
        bytes +=
            added.iter().map(|header| header.name.len() + header.value.len() + 4).sum::<usize>();
        for spans in removed {
            lines -= 1;
            bytes -= spans.line.bytes();
        }
        if let Some(uri) = &self.staged.uri {
            bytes = bytes - parsed.uri.len() + uri.len();
        }
        if let Some((kind, _)) = &self.staged.body {
            // Content-Type and Content-Length.
            lines += 2;
            bytes += kind.len() + 48;
        }
        if lines > HEADERS_MAX || bytes > HEAD_MAX_BYTES {
            Err(EditError::TooLarge)
        } else {
            Ok(())
        }
    }

    /// Headers that the edits leave at the end, in order.
    fn added(&self) -> Vec<&Header> {
        let mut added: Vec<&Header> = Vec::new();
        for edit in &self.staged.edits {
            match edit {
                Edit::Add(header) => added.push(header),
                Edit::Set(header) => {
                    added.retain(|other| !other.name.eq_ignore_ascii_case(&header.name));
                    added.push(header);
                }
                Edit::Remove(name) => added.retain(|other| !other.name.eq_ignore_ascii_case(name)),
            }
        }
        added
    }

    /// Whether a line that came in goes.
    fn goes(&self, spans: &HeaderSpans) -> bool {
        let same = |other: &str| self.is(spans, other);
        let edited = self.staged.edits.iter().any(|edit| match edit {
            Edit::Set(header) => same(&header.name),
            Edit::Remove(gone) => same(gone),
            Edit::Add(_) => false,
        });
        edited || (self.staged.body.is_some() && (same("Content-Type") || same("Content-Length")))
    }

    /// The message with its edits and the length of its head; none when nothing was edited.
    pub(super) fn edited(&mut self) -> Option<(Vec<u8>, usize)> {
        let Staged { edits, uri, body, .. } = &self.staged;
        if edits.is_empty() && uri.is_none() && body.is_none() {
            return None;
        }
        self.parsed();
        let parsed = self.parsed.as_ref()?;
        let end: &[u8] = if parsed.crlf { b"\r\n" } else { b"\n" };
        let mut edits = Edits::default();
        if let Some(uri) = &self.staged.uri {
            edits.replace(parsed.uri.clone(), uri.as_bytes());
        }
        for spans in parsed.headers.iter().filter(|spans| self.goes(spans)) {
            edits.remove(spans.line.into());
        }
        let mut tail = Vec::new();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, end] {
                tail.extend_from_slice(part);
            }
        };
        for header in self.added() {
            if self.staged.body.is_some() && header.name.eq_ignore_ascii_case("Content-Type") {
                continue;
            }
            line(&header.name, &header.value);
        }
        if let Some((kind, body)) = &self.staged.body {
            line("Content-Type", kind.as_bytes());
            line("Content-Length", body.len().to_string().as_bytes());
        }
        if !tail.is_empty() {
            edits.insert(parsed.end_of_headers, tail);
        }
        if edits.is_empty() {
            return None;
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 256);
        edits.apply(self.bytes.get(..self.head).unwrap_or_default(), &mut out);
        let head = out.len();
        match &self.staged.body {
            Some((_, body)) => out.extend_from_slice(body),
            None => out.extend_from_slice(self.bytes.get(self.head..).unwrap_or_default()),
        }
        Some((out, head))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn may_stand(value: &[u8]) -> Result<(), EditError> {
    if !is_value(value) {
        return Err(EditError::BadValue);
    }
    if value.len() > GUEST_HEADER_VALUE_MAX_BYTES { Err(EditError::TooLarge) } else { Ok(()) }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
