//! The message that a guest is lent: getters that copy what is asked for, edits that wait.
//!
//! The message is copied once, into a buffer that stays, with what the session found in its head.
//! Getters show it as it came in. Edits are kept as they are made and applied to spans of the original
//! only when the guest's verdict lets the message go on: all that was not edited stays byte for byte.
//! After a fault they are forgotten.
//!
//! Not in here: what the verdict means.

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
        Url,
        edit::Splice,
        head::{HeaderSpans, Outline, decimal},
    },
};

/// What the handle of a message stands for. There is one message at a time, so it holds nothing.
#[derive(Debug)]
#[allow(unreachable_pub)] // the generated bindings name it in public
pub struct Lent;

/// Who is lent a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Borrower {
    /// An authenticator: nothing to edit, no body.
    #[default]
    Authenticator,
    /// A filter.
    Filter,
}

/// The message of the current call.
#[derive(Debug, Default)]
pub(super) struct Current {
    bytes: Vec<u8>,
    method: String,
    borrower: Borrower,
    /// What a filter wants to see.
    interest: Arc<Interest>,
    outline: Outline,
    staged: Staged,
}

#[derive(Debug, Default)]
struct Staged {
    /// Headers that go, one bit each, the first one lowest.
    gone: u64,
    /// Headers that come after those that stay, in order.
    added: Vec<Header>,
    uri: Option<String>,
    body: Option<(String, Vec<u8>)>,
    count: usize,
}

const _: () = assert!(HEADERS_MAX <= u64::BITS as usize);

impl Current {
    /// From now on a filter is shown what it wants to see.
    pub(super) fn set_interest(&mut self, interest: Arc<Interest>) {
        self.interest = interest;
    }

    /// Takes a message for one call.
    pub(super) fn lend(&mut self, message: &Message<'_>, borrower: Borrower) {
        self.bytes.clear();
        self.bytes.extend_from_slice(message.bytes);
        self.method.clear();
        self.method.push_str(message.method);
        self.borrower = borrower;
        self.outline.clone_from(message.outline);
        self.take_back();
    }

    /// Forgets the edits.
    pub(super) fn take_back(&mut self) {
        self.staged = Staged::default();
    }

    fn find(&self, name: &str) -> Option<&[u8]> {
        let found = self.outline.headers.iter().find(|spans| self.is(spans, name));
        found.map(|spans| spans.value.of(&self.bytes))
    }

    /// Whether a header has this name. The lengths first: most differ.
    #[inline]
    fn is(&self, spans: &HeaderSpans, name: &str) -> bool {
        spans.name.bytes() == name.len()
            && spans.name.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn is_request(&self) -> bool {
        self.outline.status.is_none()
    }

    pub(super) fn method(&self) -> String {
        self.method.clone()
    }

    pub(super) fn uri(&self) -> String {
        text(self.bytes.get(self.outline.uri.clone()).unwrap_or_default())
    }

    pub(super) fn status(&self) -> Option<u16> {
        self.outline.status
    }

    pub(super) fn cseq(&self) -> u32 {
        self.find("CSeq").and_then(decimal).unwrap_or(0)
    }

    pub(super) fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.find(name).map(<[u8]>::to_vec)
    }

    pub(super) fn headers(&self) -> Vec<Header> {
        let all = self.outline.headers.iter();
        all.map(|spans| Header {
            name: text(spans.name.of(&self.bytes)),
            value: spans.value.of(&self.bytes).to_vec(),
        })
        .collect()
    }

    pub(super) fn body_type(&self) -> Option<String> {
        let value = self.find("Content-Type")?;
        let kind = value.split(|byte| *byte == b';').next()?.trim_ascii();
        String::from_utf8(kind.to_ascii_lowercase()).ok()
    }

    pub(super) fn body_len(&self) -> usize {
        self.bytes.len().saturating_sub(self.outline.len)
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let kind = self.body_type().unwrap_or_default();
        let shown = match self.borrower {
            Borrower::Authenticator => false,
            Borrower::Filter => self.interest.in_body(&kind, self.body_len()),
        };
        if !shown {
            return Vec::new();
        }
        self.bytes.get(self.outline.len..).unwrap_or_default().to_vec()
    }

    pub(super) fn set_header(&mut self, header: Header) -> Result<(), EditError> {
        self.may_edit(&header.name)?;
        may_stand(&header.value)?;
        self.count()?;
        let before = (self.staged.gone, self.staged.added.clone());
        self.take_out(&header.name);
        self.staged.added.push(header);
        self.fits().inspect_err(|_| (self.staged.gone, self.staged.added) = before)
    }

    pub(super) fn add_header(&mut self, header: Header) -> Result<(), EditError> {
        self.may_edit(&header.name)?;
        may_stand(&header.value)?;
        self.count()?;
        self.staged.added.push(header);
        self.fits().inspect_err(|_| {
            self.staged.added.pop();
        })
    }

    pub(super) fn remove_header(&mut self, name: &str) -> Result<(), EditError> {
        self.remove_headers(&[name])
    }

    pub(super) fn remove_headers(&mut self, names: &[impl AsRef<str>]) -> Result<(), EditError> {
        names.iter().try_for_each(|name| self.may_edit(name.as_ref()))?;
        if names.len() > GUEST_EDITS_MAX - self.staged.count {
            return Err(EditError::TooLarge);
        }
        self.staged.count += names.len();
        names.iter().for_each(|name| self.take_out(name.as_ref()));
        Ok(())
    }

    /// Takes out all headers of this name, those that were added among them.
    fn take_out(&mut self, name: &str) {
        for (at, spans) in self.outline.headers.iter().enumerate() {
            if self.is(spans, name) {
                self.staged.gone |= 1 << at;
            }
        }
        self.staged.added.retain(|other| !other.name.eq_ignore_ascii_case(name));
    }

    pub(super) fn set_uri(&mut self, uri: String) -> Result<(), EditError> {
        self.may_edit_at_all()?;
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
        self.may_edit_at_all()?;
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

    fn may_edit_at_all(&self) -> Result<(), EditError> {
        match self.borrower {
            Borrower::Authenticator => Err(EditError::ForbiddenHeader),
            Borrower::Filter => Ok(()),
        }
    }

    /// Whether this borrower may edit headers of this name.
    fn may_edit(&self, name: &str) -> Result<(), EditError> {
        self.may_edit_at_all()?;
        match (is_owned(name), is_name(name)) {
            (true, _) => Err(EditError::ForbiddenHeader),
            (_, false) => Err(EditError::BadName),
            _ => Ok(()),
        }
    }

    fn count(&mut self) -> Result<(), EditError> {
        if self.staged.count >= GUEST_EDITS_MAX {
            return Err(EditError::TooLarge);
        }
        self.staged.count += 1;
        Ok(())
    }

    /// Whether the edited head stays within the bounds of one that comes in.
    fn fits(&self) -> Result<(), EditError> {
        let added = &self.staged.added;
        let (mut lines, mut bytes) = (self.outline.headers.len() + added.len(), self.outline.len);
        bytes +=
            added.iter().map(|header| header.name.len() + header.value.len() + 4).sum::<usize>();
        for spans in self.going() {
            lines -= 1;
            bytes -= spans.line.bytes();
        }
        if let Some(uri) = &self.staged.uri {
            bytes = bytes - self.outline.uri.len() + uri.len();
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

    /// Headers that came in and go, in order.
    fn going(&self) -> impl Iterator<Item = &HeaderSpans> {
        let of_body = |spans: &HeaderSpans| {
            self.staged.body.is_some()
                && (self.is(spans, "Content-Type") || self.is(spans, "Content-Length"))
        };
        let all = self.outline.headers.iter().enumerate();
        let going =
            all.filter(move |(at, spans)| self.staged.gone >> at & 1 == 1 || of_body(spans));
        going.map(|(_, spans)| spans)
    }

    /// The message with its edits and the length of its head; none when nothing was edited.
    pub(super) fn edited(&self) -> Option<(Vec<u8>, usize)> {
        let Staged { gone, added, uri, body, .. } = &self.staged;
        if *gone == 0 && added.is_empty() && uri.is_none() && body.is_none() {
            return None;
        }
        let Outline { len, end_of_headers, line_end, .. } = self.outline;
        let mut tail = Vec::new();
        let mut line = |name: &str, value: &[u8]| {
            for part in [name.as_bytes(), b": ", value, line_end] {
                tail.extend_from_slice(part);
            }
        };
        for header in added {
            if body.is_some() && header.name.eq_ignore_ascii_case("Content-Type") {
                continue;
            }
            line(&header.name, &header.value);
        }
        if let Some((kind, body)) = body {
            line("Content-Type", kind.as_bytes());
            line("Content-Length", body.len().to_string().as_bytes());
        }
        let mut out = Vec::with_capacity(self.bytes.len() + 256);
        let mut splice = Splice::new(self.bytes.get(..len).unwrap_or_default(), &mut out);
        if let Some(uri) = uri {
            splice.replace(self.outline.uri.clone(), uri.as_bytes());
        }
        for spans in self.going() {
            splice.replace(spans.line.into(), b"");
        }
        splice.replace(end_of_headers..end_of_headers, &tail);
        splice.finish();
        let head = out.len();
        match body {
            Some((_, body)) => out.extend_from_slice(body),
            None => out.extend_from_slice(self.bytes.get(len..).unwrap_or_default()),
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
