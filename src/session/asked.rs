//! What an origin asks of the client, and what it is answered in the client's place.

use super::{
    Fault, Output, Session,
    filter::Subject,
    shown::{self, RequestOfOrigin, Terms},
};
use crate::{
    clock::Instant,
    rtsp::{Head, Method, Version, write},
};

impl Session {
    /// A request of the origin to the client.
    pub(super) fn origin_asks(
        &mut self,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        now: Instant,
    ) {
        let Some(cseq) = head.header("CSeq").map(|header| header.value) else {
            return self.note(Fault::OriginReply);
        };
        if self.mapping.is_none() {
            return;
        }
        if self.detached {
            self.tell_origin(cseq, 200);
            return;
        }
        // Not reading the origin would freeze its media: past the bound it is answered for the
        // client.
        if !self.origin_requests.has_room() {
            self.tell_origin(cseq, 503);
            return self.origin_unasked(now);
        }
        if self.has_filters() {
            let method = head.method_bytes();
            let raw = bytes.to_vec();
            return self.filter(Subject::OriginRequest, raw, head.outline(), method, now);
        }
        self.origin_request_goes_on(head, bytes, head_len, now);
    }

    pub(super) fn origin_request_goes_on(
        &mut self,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        now: Instant,
    ) {
        let Some(cseq) = head.header("CSeq").map(|header| header.value) else { return };
        if self.mapping.is_none() {
            return;
        }
        let location = match head.method() {
            // Without Session it is for the next hop, which is us (RFC 7826 13.10). Our sessions at
            // that origin are over; clients that come again are led to an origin anew.
            Method::Redirect
                if head.version() == Ok(Version::V2) && head.header("Session").is_none() =>
            {
                self.tell_origin(cseq, 200);
                self.note(Fault::OriginLeaves);
                return self.end(Fault::OriginLeaves, now);
            }
            Method::Redirect => match self.moved(head) {
                Ok(location) => location,
                Err(fault) => {
                    self.tell_origin(cseq, 200);
                    self.note(fault);
                    return self.end(fault, now);
                }
            },
            _ => None,
        };
        let number = self.origin_requests.number();
        let session = head.session().and_then(|session| self.ids.told_in_request(session.id));
        let change = RequestOfOrigin { cseq: number, session, location };
        let Some(mapping) = &self.mapping else { return };
        let asked = mapping.presentation();
        let terms = Terms { mapping, asked: &asked, ours: self.around.local_ip };
        let request = shown::origin_request(head, bytes, head_len, terms, change);
        let due = now + self.around.answer_timeout;
        self.origin_requests.push(cseq, head.method(), b"", due, ());
        if let Some((_, pending)) = self.origin_requests.last_mut() {
            pending.sent = Some(number);
        }
        if self.to_client.push_reply(&request).is_err() {
            return self.end(Fault::Stuck, now);
        }
        if head.method() == Method::Teardown {
            self.torn_down_by_origin(head.uri().unwrap_or_default());
        }
    }

    /// In 2.0 an origin may tear down too (RFC 7826 13.7): what it names is over, whatever the
    /// client answers.
    fn torn_down_by_origin(&mut self, uri: &[u8]) {
        let url = self.mapping.as_ref().and_then(|mapping| mapping.to_client(uri));
        let one = url.and_then(|url| self.tracks.by_url(&url)).map(|track| track.id);
        match one {
            Some(id) if self.tracks.len() > 1 => {
                self.tracks.remove(id);
                self.outputs.push_back(Output::Close(id));
            }
            _ => self.reset_after_teardown(),
        }
    }

    /// An answer to the origin that no client gave.
    fn tell_origin(&mut self, cseq: &[u8], status: u16) {
        let mut answer = Vec::new();
        write::response(&mut answer, self.version, status, Some(cseq), &[], b"");
        // An origin that does not read its answers is found out by those that it must read.
        let _ = self.to_origin.push_reply(&answer);
    }
}
