//! Requests of the gateway's own: signs of life toward the origin, and TEARDOWN for a client that left.

use super::{Fault, Link, Own, Session, Sight, keepalive::is_refusal};
use crate::{
    clock::Instant,
    rtsp::{Head, Method, write},
};

impl Session {
    pub(super) fn own_answered(&mut self, at: usize, status: u16, head: &Head<'_>, now: Instant) {
        let Some(own) = self.own.get(at).map(|pending| pending.note) else { return };
        self.own.answer(at, Vec::new());
        while self.own.ready().is_some() {}
        if own != Own::Keepalive {
            return;
        }
        match status {
            200..=299 => {
                let method = self.keepalive.method();
                self.seen(Sight::Keepalive(method));
            }
            401 if self.challenged(head) => self.keep_alive(now),
            454 => self.end(Fault::OriginGone, now),
            status if is_refusal(status) && self.keepalive.refused() => self.keep_alive(now),
            _ => {}
        }
    }

    /// Sends a sign of life of our own to the origin.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        let method = self.keepalive.method();
        self.send_own(Own::Keepalive, method, now);
    }

    pub(super) fn send_own(&mut self, own: Own, method: Method, now: Instant) {
        let (Some(mapping), true) = (&self.mapping, self.link == Link::Up) else { return };
        let uri = mapping.to_origin(&self.presentation);
        let number = self.requests.number();
        let signer = self.origin.as_mut().and_then(|origin| origin.signer.as_mut());
        let authorization = signer.and_then(|s| s.authorization(method.as_str().as_bytes(), &uri));
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if let Some(id) = self.ids.theirs(self.ids.number()) {
            headers.push(("Session", id));
        }
        if let Some(value) = &authorization {
            headers.push(("Authorization", value.as_bytes()));
        }
        let via = self.via(self.version).map(|name| format!("{} {name}", self.version.as_str()));
        if let Some(via) = &via {
            headers.push(("Via", via.as_bytes()));
        }
        let mut bytes = Vec::new();
        write::request(&mut bytes, self.version, method, &uri, number, &headers, b"");
        self.keepalive.sent(now);
        if self.to_origin.push_reply(&bytes).is_ok() {
            self.own.push(b"", method, b"", now + self.around.answer_timeout, own);
            if let Some((_, pending)) = self.own.last_mut() {
                pending.sent = Some(number);
            }
        }
    }

    /// What still comes from the origin after the end: the answer to TEARDOWN, which may have to be
    /// signed anew, and that to a SETUP under way. A session that nobody ends locks a camera for a
    /// minute.
    pub(super) fn late_answer(&mut self, bytes: &[u8], head_len: usize, now: Instant) {
        let Ok(head) = Head::parse(bytes.get(..head_len).unwrap_or_default()) else { return };
        let Some(status) = head.status().filter(|status| *status >= 200) else { return };
        let Some(at) = self.own.find(head.cseq()) else { return };
        let Some(own) = self.own.get(at).map(|pending| pending.note) else { return };
        self.own.answer(at, Vec::new());
        while self.own.ready().is_some() {}
        match (own, status, head.session()) {
            (Own::Teardown, 401, _) if self.challenged(&head) => {
                self.send_own(Own::Teardown, Method::Teardown, now);
            }
            (Own::Setup, 200..=299, Some(session)) if !self.ids.is_known() => {
                self.ids.learn(session.id, self.ids.number());
                self.send_own(Own::Teardown, Method::Teardown, now);
            }
            _ => {}
        }
    }
}
