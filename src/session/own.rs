//! Requests of the gateway's own: signs of life toward the origin, and TEARDOWN for a client that left.

use core::time::Duration;

use super::{
    Fault, Link, Own, Session, Sight,
    cseq::Pending,
    keepalive::{DEFAULT_TIMEOUT, is_refusal},
    meant::Asked,
};
use crate::{
    clock::Instant,
    limits::LEFT_TEARDOWN_WAIT_MS,
    rtsp::{Head, Method, write},
};

impl Session {
    pub(super) fn own_answered(&mut self, at: usize, status: u16, head: &Head<'_>, now: Instant) {
        let Some(pending) = self.own.get(at) else { return };
        let (own, number, id) = (pending.note, pending.sent, pending.asked.clone());
        self.own.answer(at, Vec::new());
        while self.own.ready().is_some() {}
        match own {
            Own::Keepalive => {}
            Own::Left if status == 401 && self.challenged(head) => {
                return self.send_named(Own::Left, Method::Teardown, Some(&id), now);
            }
            // It is over at the origin, however that says so; what waited for it goes out.
            Own::Left => return self.pump(now),
            Own::Setup if (200..300).contains(&status) => return self.disown(head, number, now),
            _ => return,
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

    /// A keepalive without an answer costs nothing but the next method; what else was not answered is
    /// forgotten.
    pub(super) fn own_overdue(&mut self, now: Instant) {
        let overdue: Vec<(usize, Own, Option<u32>)> = self
            .own
            .open()
            .filter(|(_, pending)| pending.due <= now)
            .map(|(at, pending)| (at, pending.note, pending.sent))
            .collect();
        let mut keeps_alive = false;
        for (at, own, number) in overdue {
            self.own.answer(at, Vec::new());
            keeps_alive |= own == Own::Keepalive;
            if let Some(number) = number {
                self.expect_late(number);
            }
        }
        while self.own.ready().is_some() {}
        if keeps_alive && self.keepalive.refused() {
            self.keep_alive(now);
        }
    }

    pub(super) fn forget_own(&mut self, which: impl Fn(&Pending<Own>) -> bool) {
        let all: Vec<usize> =
            self.own.open().filter(|(_, pending)| which(pending)).map(|(at, _)| at).collect();
        for at in all {
            self.own.answer(at, Vec::new());
        }
        while self.own.ready().is_some() {}
    }

    /// The answer to a request of the client's still matters, though nobody waits for it any more.
    pub(super) fn await_late(&mut self, number: u32, own: Own, method: Method, now: Instant) {
        // A session that an origin begins later than that ends by itself.
        let patience = if self.ended.is_none() && own == Own::Setup {
            DEFAULT_TIMEOUT
        } else {
            self.around.answer_timeout
        };
        self.own.push(b"", method, b"", now + patience, own);
        if let Some((_, pending)) = self.own.last_mut() {
            pending.sent = Some(number);
        }
    }

    /// The origin has begun a session that nobody will use: it is ended, unless it is the one that is
    /// in use.
    pub(super) fn disown(&mut self, head: &Head<'_>, setup: Option<u32>, now: Instant) {
        let first = self.ids.theirs(self.ids.number()).map(<[u8]>::to_vec);
        // An answer that names none is of the session that was asked for.
        let session = head.session().map(|session| session.id.to_vec());
        let Some(id) = session.or_else(|| first.clone()) else { return };
        let known = first.as_ref() == Some(&id);
        if known && !self.tracks.is_empty() {
            self.last_setup = self.last_setup.max(setup);
            self.unkept = true;
            return;
        }
        self.tear_down(&id, now);
        if known {
            self.ids.forget_theirs();
        }
    }

    /// A camera may give each track a session of its own: those are ended with the first one.
    pub(super) fn note_stray(&mut self, head: &Head<'_>) {
        let first = self.ids.theirs(self.ids.number());
        let Some(id) = head.session().map(|session| session.id) else { return };
        if first != Some(id) && self.strays.iter().all(|stray| stray != id) {
            self.strays.push(id.to_vec());
        }
    }

    /// Ends the sessions beside the one that is known by its first id.
    pub(super) fn end_strays(&mut self, now: Instant) {
        for id in core::mem::take(&mut self.strays) {
            self.tear_down(&id, now);
        }
    }

    fn tear_down(&mut self, id: &[u8], now: Instant) {
        self.send_named(Own::Teardown, Method::Teardown, Some(id), now);
    }

    pub(super) fn send_own(&mut self, own: Own, method: Method, now: Instant) {
        let id = self.ids.theirs(self.ids.number()).map(<[u8]>::to_vec);
        self.send_named(own, method, id.as_deref(), now);
    }

    fn send_named(&mut self, own: Own, method: Method, id: Option<&[u8]>, now: Instant) {
        let (Some(mapping), true) = (&self.mapping, self.link == Link::Up) else { return };
        let uri = mapping.to_origin(self.aggregate());
        let number = self.requests.number();
        let signer = self.origin.as_mut().and_then(|origin| origin.signer.as_mut());
        let authorization = signer.and_then(|s| s.authorization(method.as_str().as_bytes(), &uri));
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if let Some(id) = id {
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
        self.numbering.sent(number);
        if self.to_origin.push_reply(&bytes).is_ok() {
            if own == Own::Teardown && self.ended.is_some() {
                self.farewells.push((number, id.unwrap_or_default().to_vec()));
            }
            // The id is kept: a TEARDOWN may have to be signed anew.
            let patience = match own {
                Own::Left => Duration::from_millis(LEFT_TEARDOWN_WAIT_MS),
                _ => self.around.answer_timeout,
            };
            let due = now + patience;
            self.own.push(id.unwrap_or_default(), method, b"", due, own);
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
        let Some((Asked::Gateway, at)) = self.meant(head.cseq()) else { return };
        let Some(pending) = self.own.get(at) else { return };
        let (own, sent, id) = (pending.note, pending.sent, pending.asked.clone());
        self.own.answer(at, Vec::new());
        while self.own.ready().is_some() {}
        match (own, status, head.session()) {
            (Own::Teardown, 401, _) if self.challenged(&head) => {
                let first = || self.ids.theirs(self.ids.number()).map(<[u8]>::to_vec);
                let id = if id.is_empty() { first() } else { Some(id) };
                self.send_named(Own::Teardown, Method::Teardown, id.as_deref(), now);
            }
            // One that went out before its TEARDOWN ended with it.
            (Own::Setup, 200..=299, Some(session))
                if !self.farewells.iter().any(|(at, id)| Some(*at) > sent && id == session.id) =>
            {
                self.tear_down(session.id, now);
            }
            _ => {}
        }
    }
}
