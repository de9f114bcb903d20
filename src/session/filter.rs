//! Messages that filters have their say about: out as [`Output::Filter`], back as a verdict.
//!
//! A filter sees a message as it came in, before anything is rewritten; what it makes of it goes on
//! through the ordinary rewriting. Filters of a route stand in a row between client and origin: what
//! goes toward the origin meets them in order, what goes toward the client in reverse, each sees what
//! the ones before it left. Answers that the gateway deals with by itself (a challenge that it
//! answers, an origin that it replaces) are not shown.
//!
//! Not in here: which filters are interested, and who answers for them.

use super::{Fault, Input, Own, Session, Side, State, answer::Answering};
use crate::{
    clock::Instant,
    config::{OnFault, Slot},
    plugin::hooks::{Direction, Message, Reply, Verdict},
    rtsp::{Head, Method, emit, head::Outline, write},
    session::Output,
};

/// Whose message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The client's request that waits in `deciding`.
    Request,
    /// The origin's answer to the client's request that went out with this number.
    Answer(u32),
    /// A request of the origin.
    OriginRequest,
    /// The client's answer to the request of the origin that went out with this number.
    ClientAnswer(u32),
}

/// A message that filters are asked about.
#[derive(Debug)]
pub(super) struct Filtering {
    subject: Subject,
    raw: Vec<u8>,
    outline: Outline,
    method: String,
    /// Filters that had their say.
    asked: usize,
    slot: Slot,
}

enum Refusal {
    Reply(Reply),
    Fault(Fault),
}

impl Subject {
    const fn direction(self) -> Direction {
        match self {
            Self::Request | Self::ClientAnswer(_) => Direction::ClientToUpstream,
            Self::Answer(_) | Self::OriginRequest => Direction::UpstreamToClient,
        }
    }

    const fn is_request(self) -> bool {
        matches!(self, Self::Request | Self::OriginRequest)
    }
}

impl Filtering {
    /// What is in these bytes if they may stand for the message: a whole one of the same kind,
    /// method or status, number and session. An id that a guest made up would be the origin's from
    /// then on, and the one that it gave would never be ended.
    fn may_become(&self, bytes: &[u8], head: usize) -> Option<Outline> {
        let before = Head::parse(self.raw.get(..self.outline.len)?).ok()?;
        let after = whole(bytes, head)?;
        let session = |head: &Head<'_>| head.header("Session").map(|header| header.value.to_vec());
        let same = before.status() == after.status()
            && session(&before) == session(&after)
            && before.method_bytes() == after.method_bytes()
            && before.header("CSeq")?.value == after.header("CSeq")?.value;
        same.then(|| after.outline())
    }
}

/// The head of so many bytes, if what follows it is its body and nothing else.
fn whole(bytes: &[u8], head_len: usize) -> Option<Head<'_>> {
    let head = Head::parse(bytes.get(..head_len).filter(|head| emit::is_clean(head))?).ok()?;
    let whole = super::client::head_len(bytes) == Some(head_len)
        && bytes.len() == head_len + head.content_length();
    whole.then_some(head)
}

impl Session {
    /// The message that [`Output::Filter`] is about, and which way it goes.
    pub fn filtering(&self) -> Option<(Direction, Message<'_>)> {
        let filtering = self.filtering.as_deref()?;
        let Filtering { subject, raw, outline, method, .. } = filtering;
        Some((subject.direction(), Message { bytes: raw, outline, method }))
    }

    /// Whether the route has filters: without any, no message is copied for them.
    pub(super) fn has_filters(&self) -> bool {
        self.route_config(|route| !route.filters.is_empty()).unwrap_or(false)
    }

    /// Asks the route's filters about a message, of which there is one at least.
    pub(super) fn filter(
        &mut self,
        subject: Subject,
        raw: Vec<u8>,
        outline: Outline,
        method: &[u8],
        now: Instant,
    ) {
        let method = String::from_utf8_lossy(method).into_owned();
        let filtering = Filtering { subject, raw, outline, method, asked: 0, slot: Slot(0) };
        self.next_filter(Box::new(filtering), now);
    }

    fn next_filter(&mut self, mut filtering: Box<Filtering>, now: Instant) {
        let slot = self.route_config(|route| {
            let at = match filtering.subject.direction() {
                Direction::ClientToUpstream => Some(filtering.asked),
                Direction::UpstreamToClient => route.filters.len().checked_sub(1 + filtering.asked),
            };
            at.and_then(|at| route.filters.get(at)).copied()
        });
        match slot.flatten() {
            Some(slot) => {
                filtering.asked += 1;
                filtering.slot = slot;
                self.filtering = Some(filtering);
                self.outputs.push_back(Output::Filter(slot));
            }
            None => self.filtered_goes_on(*filtering, now),
        }
    }

    /// The verdict of the filter that was asked last.
    pub(super) fn filtered(&mut self, verdict: Verdict, now: Instant) {
        let Some(mut filtering) = self.filtering.take() else { return };
        let request = filtering.subject.is_request();
        let refusal = match verdict {
            Verdict::Pass => None,
            Verdict::Edited { bytes, head }
                if let Some(outline) = filtering.may_become(&bytes, head) =>
            {
                (filtering.raw, filtering.outline) = (bytes, outline);
                None
            }
            Verdict::Reject(reply) if (300..=599).contains(&reply.status) => {
                Some(Refusal::Reply(reply))
            }
            Verdict::Drop if request => Some(Refusal::Fault(Fault::Filtered)),
            Verdict::Drop => Some(Refusal::Fault(Fault::AnswerFiltered)),
            Verdict::Fault | Verdict::Edited { .. } | Verdict::Reject(_) => {
                match (self.table.on_fault(filtering.slot), request) {
                    (OnFault::Pass, _) => None,
                    (OnFault::Reject, true) => Some(Refusal::Fault(Fault::PluginFailed)),
                    (OnFault::Reject, false) => Some(Refusal::Fault(Fault::PluginFailedOnAnswer)),
                }
            }
        };
        match refusal {
            None => self.next_filter(filtering, now),
            Some(refusal) => self.refused_by_filter(&filtering, refusal, now),
        }
    }

    fn filtered_goes_on(&mut self, filtering: Filtering, now: Instant) {
        let Filtering { subject, raw, outline, .. } = filtering;
        let head_len = outline.len;
        let Ok(head) = Head::parse(raw.get(..head_len).unwrap_or_default()) else { return };
        match subject {
            Subject::Request => {
                let within = self.is_within_route(&head, now);
                let Some(deciding) = &mut self.deciding else { return };
                (deciding.raw, deciding.head) = (raw, head_len);
                if within {
                    self.admit(now);
                } else {
                    self.refuse_decided(Fault::NoRoute);
                }
            }
            Subject::Answer(number) => {
                if let (Some(at), Some(status)) = (self.requests.find(Some(number)), head.status())
                {
                    self.answer_goes_on(at, status, &head, &raw, head_len, now);
                }
            }
            Subject::OriginRequest => self.origin_request_goes_on(&head, &raw, head_len, now),
            Subject::ClientAnswer(number) => {
                if let Some(at) = self.origin_requests.find(Some(number)) {
                    self.client_answer_goes_on(at, &head, &raw, head_len);
                }
            }
        }
    }

    fn refused_by_filter(&mut self, filtering: &Filtering, refusal: Refusal, now: Instant) {
        let Filtering { subject, raw, outline, .. } = filtering;
        let Ok(head) = Head::parse(raw.get(..outline.len).unwrap_or_default()) else { return };
        if let Refusal::Fault(fault) = &refusal {
            self.note(*fault);
        }
        match *subject {
            Subject::Request => {
                let Some(mut deciding) = self.deciding.take() else { return };
                deciding.raw.clone_from(raw);
                deciding.head = outline.len;
                match &refusal {
                    Refusal::Reply(reply) => {
                        self.reply_to(&deciding, &Answering::from_reply(reply));
                    }
                    Refusal::Fault(fault) => {
                        self.reply_to(&deciding, &Answering::told(fault.told(self.version)));
                    }
                }
            }
            Subject::Answer(number) => {
                let Some(at) = self.requests.find(Some(number)) else { return };
                self.replace_answer(at, &head, &refusal, now);
            }
            Subject::OriginRequest => {
                let cseq = head.header("CSeq").map(|header| header.value);
                let answer = self.answer_of(&refusal, cseq, head.session().map(|s| s.id));
                let _ = self.to_origin.push_reply(&answer);
            }
            Subject::ClientAnswer(number) => {
                let Some(at) = self.origin_requests.find(Some(number)) else { return };
                let Some(pending) = self.origin_requests.get(at) else { return };
                let session = head.session().and_then(|session| self.ids.meant(session.id));
                let answer = self.answer_of(&refusal, Some(&pending.asked), session);
                self.answer_origin(at, answer);
            }
        }
    }

    /// The client hears something else than what the origin said; what the origin has done is
    /// undone where that can be.
    fn replace_answer(&mut self, at: usize, head: &Head<'_>, refusal: &Refusal, now: Instant) {
        let Some(pending) = self.requests.get(at) else { return };
        let (method, setup, sent) = (pending.method, pending.note.setup, pending.sent);
        let done = head.status().is_some_and(|status| (200..300).contains(&status));
        let number = pending.note.session;
        let told = match method {
            // The client has no session yet, and does not get one.
            Method::Setup if self.tracks.is_empty() => None,
            _ => self.ids.told(number),
        };
        let answer = self.answer_of(refusal, Some(&pending.asked), told);
        match method {
            Method::Setup if done => self.disown(head, sent, now),
            Method::Play | Method::Record if done => {
                self.played_aggregate(at);
                self.send_own(Own::Pause, Method::Pause, now);
            }
            Method::Pause if done && self.state != State::Init => {
                self.state = State::Ready;
                self.media_promised = false;
            }
            Method::Teardown if done => self.torn_down(at, now),
            _ => {}
        }
        if let Some(setup) = setup {
            self.outputs.push_back(Output::Close(setup.track));
        }
        self.requests.answer(at, answer);
    }

    fn answer_of(&self, refusal: &Refusal, cseq: Option<&[u8]>, session: Option<&[u8]>) -> Vec<u8> {
        let answering = match refusal {
            Refusal::Reply(reply) => Answering::from_reply(reply),
            Refusal::Fault(fault) => Answering::told(fault.told(self.version)),
        };
        let mut headers = answering.headers;
        headers.extend(session.map(|id| ("Session", id)));
        let mut answer = Vec::new();
        let Answering { told, body, .. } = answering;
        write::response(&mut answer, self.version, told, cseq, &headers, body);
        answer
    }

    /// Nobody answered for a filter before its side spoke again: whoever drives the session broke
    /// the rule that outputs are drained after each call.
    pub(super) fn filter_must_be_done(&mut self, now: Instant) {
        while self.filtering.is_some() {
            debug_assert!(false, "a verdict comes before the next message");
            self.outputs.retain(|output| !matches!(output, Output::Filter(_)));
            self.handle(Input::Filtered(Verdict::Fault), now);
        }
    }

    /// Bytes of an answer for the origin, in the turn of its request.
    pub(super) fn answer_origin(&mut self, at: usize, answer: Vec<u8>) {
        self.origin_requests.answer(at, answer);
        while let Some(answer) = self.origin_requests.ready() {
            // An origin that does not read is found out by the timers of its own answers.
            let _ = self.outbox(Side::Origin).push_reply(&answer);
        }
    }
}
