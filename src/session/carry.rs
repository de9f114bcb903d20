//! What becomes of requests when their origin does not answer them: one more try where that is safe,
//! else an error for that request, and nothing more than that for a session that plays.
//!
//! Only DESCRIBE, OPTIONS and SETUP, and what was not written yet, may be asked again: anything else
//! may have been done already. A request over which an origin hung up or fell silent is carried to
//! one other at most: it may be what kills them.

use core::time::Duration;

use super::{Fault, Link, Method, Outbox, Output, Own, Session, Sight, State};
use crate::{
    clock::Instant,
    limits::{GIVEN_UP_MAX, TEARDOWN_LAST_MS},
    rtsp::{Head, write},
};

/// Whether asking again does no harm.
pub(super) fn may_be_repeated(method: Method) -> bool {
    matches!(method, Method::Describe | Method::Options | Method::Setup)
}

/// Whether an origin that does not answer this may be ill. Parameters and methods that it does not
/// know are ignored by cameras that are well.
fn must_be_answered(method: Method) -> bool {
    !matches!(method, Method::GetParameter | Method::SetParameter | Method::Other)
}

impl Session {
    pub(super) fn answer_overdue(&mut self, now: Instant) {
        if self.link == Link::Wanted {
            // Connecting has a bound of its own in the shell, which answers.
            let later = now + self.around.answer_timeout;
            return self.put_off_open(|_| later);
        }
        let overdue: Vec<usize> =
            self.requests.open().filter(|(_, p)| p.due <= now).map(|(at, _)| at).collect();
        let (patient, overdue): (Vec<usize>, Vec<usize>) =
            overdue.into_iter().partition(|at| self.waits_longer(*at));
        for at in patient {
            if let Some(pending) = self.requests.get_mut(at) {
                pending.due = now + self.around.answer_timeout;
                pending.note.patient = true;
            }
        }
        if overdue.is_empty() {
            return;
        }
        let plays = matches!(self.state, State::Playing | State::Recording);
        let must = overdue
            .iter()
            .filter_map(|at| self.requests.get(*at))
            .any(|pending| must_be_answered(pending.method));
        if self.link == Link::Up && must && !plays {
            self.seen(Sight::Silent);
            if self.tracks.is_empty() {
                self.silent = true;
                return self.fail_over(Some(Fault::OriginSilent), now);
            }
        }
        self.note(Fault::OriginSilent);
        for at in overdue {
            self.give_up(at, now);
        }
    }

    /// The client has closed its half of the connection. What it asked is still answered; but one that
    /// has torn down waits for little more, and there are origins that never answer that.
    pub fn client_sends_no_more(&mut self, now: Instant) {
        let soon = now + Duration::from_millis(TEARDOWN_LAST_MS);
        let open: Vec<usize> = self
            .requests
            .open()
            .filter(|(_, pending)| pending.method == Method::Teardown)
            .map(|(at, _)| at)
            .collect();
        for at in open {
            if let Some(pending) = self.requests.get_mut(at) {
                pending.due = pending.due.min(soon);
            }
        }
    }

    /// An origin that sends media is alive and busy: it has as long again.
    fn waits_longer(&self, at: usize) -> bool {
        let Some(pending) = self.requests.get(at) else { return false };
        let plays = matches!(self.state, State::Playing | State::Recording);
        plays
            && pending.method != Method::Teardown
            && !pending.note.patient
            && self.last_media > pending.note.sent_at
    }

    /// This request gets no answer of the origin's any more; what comes late is known for what it is.
    fn give_up(&mut self, at: usize, now: Instant) {
        let Some(pending) = self.requests.get(at) else { return };
        let (sent, method) = (pending.sent, pending.method);
        if let Some(number) = sent {
            match method {
                // The origin may have begun a session meanwhile, which nobody would end.
                Method::Setup => self.await_late(number, Own::Setup, method, now),
                _ => self.expect_late(number),
            }
        }
        self.fail_request(at, Fault::OriginSilent, &[]);
    }

    /// An answer that may still come and is of no use.
    pub(super) fn expect_late(&mut self, number: u32) {
        if self.given_up.len() >= GIVEN_UP_MAX {
            self.given_up.pop_front();
        }
        self.given_up.push_back(number);
    }

    fn put_off_open(&mut self, due: impl Fn(Instant) -> Instant) {
        let open: Vec<usize> = self.requests.open().map(|(at, _)| at).collect();
        for at in open {
            if let Some(pending) = self.requests.get_mut(at) {
                pending.due = due(pending.due);
            }
        }
    }

    pub(super) fn another_origin_left(&self) -> bool {
        let origins = self.route_config(|route| route.origins.len()).unwrap_or(0);
        self.tracks.is_empty() && self.tried.len() + 1 < origins
    }

    /// Another origin of the route, before the client was promised anything by this one. `killed`: the
    /// origin failed over what was asked, and how.
    pub(super) fn fail_over(&mut self, killed: Option<Fault>, now: Instant) {
        if let Some(origin) = self.origin.take() {
            self.tried.push(origin.index);
        }
        self.take_back(now, |pending| {
            let carried = core::mem::replace(&mut pending.carried, killed.is_some());
            (!carried && may_be_repeated(pending.method)).then_some(()).ok_or(killed)
        });
        if self.requests.open().next().is_none() {
            // The next request has the choice of all of them again.
            self.tried.clear();
        }
        self.leave_origin(now);
    }

    /// The same origin once more, by another connection, with what is known of its challenge.
    fn join_again(&mut self, why: Again, now: Instant) {
        let Some(mut origin) = self.origin.take() else { return };
        self.again = Some((origin.index, origin.signer.take()));
        self.take_back(now, |pending| match why {
            Again::Challenged => {
                pending.rejoined = true;
                Ok(())
            }
            Again::Closed => {
                let carried = core::mem::replace(&mut pending.carried, true);
                let repeats = !carried && may_be_repeated(pending.method);
                repeats.then_some(()).ok_or(Some(Fault::OriginGone))
            }
        });
        self.leave_origin(now);
    }

    /// Takes back what was sent, for the next connection; what `keep` refuses is answered.
    fn take_back(
        &mut self,
        now: Instant,
        keep: impl Fn(&mut Carried) -> Result<(), Option<Fault>>,
    ) {
        let due = now + self.around.answer_timeout;
        let open: Vec<usize> = self.requests.open().map(|(at, _)| at).collect();
        for at in open {
            let Some(pending) = self.requests.get_mut(at) else { continue };
            pending.due = due;
            pending.note.not_before = None;
            if pending.sent.is_none() {
                continue;
            }
            let method = pending.method;
            let note = &mut pending.note;
            let mut carried = Carried { method, carried: note.carried, rejoined: note.rejoined };
            let kept = keep(&mut carried);
            (note.carried, note.rejoined) = (carried.carried, carried.rejoined);
            if let Err(fault) = kept {
                let fault = fault.unwrap_or(Fault::OriginGone);
                self.note(fault);
                self.fail_request(at, fault, &[]);
            } else {
                pending.sent = None;
                pending.note.signed = 0;
            }
        }
    }

    pub(super) fn leave_origin(&mut self, now: Instant) {
        if self.link == Link::Up {
            self.outputs.push_back(Output::DropOrigin);
        }
        self.to_origin = Outbox::new(self.around.media_queue);
        self.origin = None;
        self.own = Default::default();
        self.link = Link::Down;
        self.pump(now);
    }

    pub(super) fn origin_closed(&mut self, now: Instant) {
        let tearing = self.requests.open().any(|(_, p)| p.method == Method::Teardown);
        if self.link == Link::Wanted {
            return; // that was the one before: another is being connected to
        }
        if self.link != Link::Up {
            return self.outputs.push_back(Output::DropOrigin);
        }
        if tearing {
            // Some recorders hang up in place of an answer: what was asked for has happened.
            self.answer_teardowns();
            self.reset_after_teardown();
        } else if !self.tracks.is_empty() {
            self.outputs.push_back(Output::DropOrigin);
            self.link = Link::Down;
            self.seen(Sight::Closed);
            return self.end(Fault::OriginGone, now);
        }
        let sent = || self.requests.open().filter(|(_, pending)| pending.sent.is_some());
        if sent().next().is_none() {
            return self.leave_origin(now);
        }
        if sent().any(|(_, pending)| pending.note.signed > 0 && !pending.note.rejoined) {
            return self.join_again(Again::Challenged, now);
        }
        if sent().any(|(_, pending)| must_be_answered(pending.method)) {
            self.seen(Sight::Closed);
        }
        // Where it has answered before, it may have tired of a connection that was idle.
        if self.answered_here && !self.another_origin_left() {
            return self.join_again(Again::Closed, now);
        }
        self.fail_over(Some(Fault::OriginGone), now);
    }

    /// A camera that closes its connection with its 401 is asked again by another one.
    pub(super) fn challenged_and_closing(&mut self, head: &Head<'_>, now: Instant) -> bool {
        let closes = head
            .all("Connection")
            .flat_map(|header| header.value.split(|byte| *byte == b','))
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"));
        let once = self.requests.open().all(|(_, pending)| !pending.note.rejoined);
        let may = closes && once && self.tracks.is_empty();
        if may {
            self.join_again(Again::Challenged, now);
        }
        may
    }

    fn answer_teardowns(&mut self) {
        let open: Vec<(usize, Vec<u8>, Method)> =
            self.requests.open().map(|(at, p)| (at, p.asked.clone(), p.method)).collect();
        for (at, cseq, method) in open {
            if method == Method::Teardown {
                let mut answer = Vec::new();
                write::response(&mut answer, self.version, 200, Some(&cseq), &[], b"");
                self.requests.answer(at, answer);
            } else {
                self.fail_request(at, Fault::OriginGone, &[]);
            }
        }
    }
}

/// Why the same origin is connected to again.
#[derive(Clone, Copy)]
enum Again {
    /// It hung up with, or after, a challenge that can be answered.
    Challenged,
    /// It hung up.
    Closed,
}

/// What decides whether a request goes out once more.
struct Carried {
    method: Method,
    carried: bool,
    rejoined: bool,
}
