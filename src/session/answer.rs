//! What the gateway answers itself, each answer in the turn of its request.

use super::{Deciding, Fault, Input, Note, Output, Session, Side, Sight, client::head_len};
use crate::{
    clock::Instant,
    limits::{AUTH_CHALLENGES_MAX, HEADER_LINE_MAX_BYTES, HEADERS_MAX},
    plugin::hooks::Reply,
    rtsp::{
        Head, Method, Told,
        emit::{self, Manner, Unclean},
        write,
    },
    scope,
};

/// The methods that work through the gateway, as `OPTIONS *` is told.
pub(super) const PUBLIC: &[u8] =
    b"OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, \
                        SET_PARAMETER, ANNOUNCE, RECORD, REDIRECT";

/// Those of them that a client may ask for: REDIRECT comes from origins only.
const ALLOW: &[u8] = b"OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, TEARDOWN, GET_PARAMETER, \
                       SET_PARAMETER, ANNOUNCE, RECORD";

/// Headers of an answer that the gateway sets itself, whatever a plugin says.
const OWN_HEADERS: [&str; 6] =
    ["CSeq", "Content-Length", "Session", "Transport", "Timestamp", "Connection"];

/// What an answer says beside what every answer says.
#[derive(Debug)]
pub(super) struct Answering<'a> {
    pub(super) told: Told,
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
    pub(super) body: &'a [u8],
}

impl<'a> Answering<'a> {
    pub(super) fn told(told: impl Into<Told>) -> Self {
        Self { told: told.into(), headers: Vec::new(), body: b"" }
    }

    /// A filter's answer, without headers that are not its own to set or that would break the
    /// message.
    pub(super) fn from_reply(reply: &'a Reply) -> Self {
        let token = |name: &str| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
        };
        let headers = reply.headers.iter().filter(|header| {
            token(&header.name)
                && !OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(&header.name))
                && is_value(&header.value)
        });
        let headers = headers.map(|header| (&*header.name, &*header.value));
        Self {
            told: reply.status.into(),
            headers: headers.take(HEADERS_MAX / 2).collect(),
            body: &reply.body,
        }
    }
}

/// Whether these bytes may be the value of a header.
fn is_value(value: &[u8]) -> bool {
    value.len() < HEADER_LINE_MAX_BYTES / 2 && !value.iter().any(|byte| b"\r\n\0".contains(byte))
}

impl Session {
    pub(super) fn challenge(&mut self, values: &[Vec<u8>]) {
        let Some(deciding) = self.deciding.take() else { return };
        let values = values.iter().filter(|value| is_value(value)).take(AUTH_CHALLENGES_MAX);
        let headers = values.map(|value| ("WWW-Authenticate", &value[..])).collect();
        self.reply_to(&deciding, &Answering { told: 401.into(), headers, body: b"" });
    }

    /// The client may not, and is told this status: one of the authenticator's choice.
    pub(super) fn deny(&mut self, status: u16) {
        let Some(deciding) = self.deciding.take() else { return };
        self.note(Fault::Forbidden);
        let good = (400..=599).contains(&status) && status != 401;
        // Of another status the usual phrase: an authenticator that says 404 hides that it was asked.
        let told =
            if good && status != 403 { status.into() } else { Fault::Forbidden.told(self.version) };
        self.reply_to(&deciding, &Answering::told(told));
    }

    pub(super) fn refuse_decided(&mut self, fault: Fault) {
        let Some(deciding) = self.deciding.take() else { return };
        self.note(fault);
        let retry = fault.retry_after().map(|seconds| seconds.to_string());
        let headers: Vec<(&str, &[u8])> =
            retry.iter().map(|seconds| ("Retry-After", seconds.as_bytes())).collect();
        let told = fault.told(self.version);
        self.reply_to(&deciding, &Answering { told, headers, body: b"" });
    }

    pub(super) fn reply_to(&mut self, deciding: &Deciding, answering: &Answering<'_>) {
        let Ok(head) = Head::parse(deciding.raw.get(..deciding.head).unwrap_or_default()) else {
            return;
        };
        let cseq = head.header("CSeq").map(|header| header.value).unwrap_or_default();
        self.answer_locally(cseq, answering, &head);
    }

    /// Answers a request with an error, in its turn.
    pub(super) fn refuse(&mut self, cseq: &[u8], fault: Fault, headers: &[(&str, &[u8])]) {
        self.note(fault);
        let retry = fault.retry_after().map(|seconds| seconds.to_string());
        let mut all = headers.to_vec();
        if let Some(seconds) = &retry {
            all.push(("Retry-After", seconds.as_bytes()));
        }
        let of_route = match fault {
            Fault::MethodOfRoute(methods) => scope::allow(methods),
            _ => String::new(),
        };
        match fault {
            Fault::MethodNotAllowed => all.push(("Allow", ALLOW)),
            Fault::MethodOfRoute(_) => all.push(("Allow", of_route.as_bytes())),
            _ => {}
        }
        let answer = self.compose(cseq, fault, &all);
        self.answer_in_turn(cseq, answer);
    }

    pub(super) fn local_answer(
        &mut self,
        cseq: &[u8],
        status: u16,
        headers: &[(&str, &[u8])],
        head: &Head<'_>,
    ) {
        self.answer_locally(
            cseq,
            &Answering { told: status.into(), headers: headers.to_vec(), body: b"" },
            head,
        );
    }

    fn answer_locally(&mut self, cseq: &[u8], answering: &Answering<'_>, head: &Head<'_>) {
        let mut all = answering.headers.clone();
        if let Some(timestamp) = head.header("Timestamp") {
            all.push(("Timestamp", timestamp.value));
        }
        if let Some(session) = head.session().filter(|session| self.ids.is_ours(session.id)) {
            all.push(("Session", session.id));
        }
        let mut answer = Vec::new();
        let number = (!cseq.is_empty()).then_some(cseq);
        let Answering { told, body, .. } = answering;
        write::response(&mut answer, self.version, *told, number, &all, body);
        self.answer_in_turn(cseq, answer);
    }

    fn compose(&self, cseq: &[u8], fault: Fault, headers: &[(&str, &[u8])]) -> Vec<u8> {
        let mut answer = Vec::new();
        let cseq = (!cseq.is_empty()).then_some(cseq);
        write::response(&mut answer, self.version, fault.told(self.version), cseq, headers, b"");
        answer
    }

    fn answer_in_turn(&mut self, cseq: &[u8], answer: Vec<u8>) {
        self.requests.push(cseq, Method::Other, b"", Instant::START, Note::default());
        if let Some((at, _)) = self.requests.last_mut() {
            self.requests.answer(at, answer);
        }
    }

    /// Answers every request that has no answer with this fault.
    pub(super) fn fail_requests(&mut self, fault: Fault) {
        let open: Vec<usize> = self.requests.open().map(|(at, _)| at).collect();
        let retry = fault.retry_after().map(|seconds| seconds.to_string());
        let headers: Vec<(&str, &[u8])> =
            retry.iter().map(|seconds| ("Retry-After", seconds.as_bytes())).collect();
        for at in open {
            self.fail_request(at, fault, &headers);
        }
    }

    pub(super) fn fail_request(&mut self, at: usize, fault: Fault, headers: &[(&str, &[u8])]) {
        let Some(pending) = self.requests.get(at) else { return };
        let setup = pending.note.setup;
        let mut all = headers.to_vec();
        let head = Head::parse(head_of(&pending.raw));
        if let Some(timestamp) = head.ok().and_then(|head| head.header("Timestamp")) {
            all.push(("Timestamp", timestamp.value));
        }
        let answer = self.compose(&pending.asked, fault, &all);
        self.requests.answer(at, answer);
        if let Some(setup) = setup {
            self.outputs.push_back(Output::Close(setup.track));
        }
    }

    /// A message that readers understand in different ways goes nowhere. Who sent it is told why, as well
    /// as can be told which one is meant.
    pub(super) fn unclean_message(&mut self, side: Side, what: Unclean, head: &[u8]) {
        if side == Side::Origin {
            self.seen(Sight::BadReply);
            return self.note(Fault::OriginReply);
        }
        let understood = emit::clean(head, Manner::Lenient).unwrap_or_default();
        let Ok(head) = Head::parse(&understood) else {
            return self.refuse(b"", Fault::Unclean(what), &[]);
        };
        if head.is_response() {
            return self.note(Fault::Unclean(what));
        }
        let cseq = head.header("CSeq").filter(|_| head.cseq().is_some());
        self.refuse(cseq.map(|it| it.value).unwrap_or_default(), Fault::Unclean(what), &[]);
    }

    /// A framing error of the client: it is told why, then the connection closes.
    pub fn framing_lost(&mut self, status: u16, now: Instant) {
        if self.ended.is_none() {
            let fault = if status == 400 { Fault::Malformed } else { Fault::TooLarge(status) };
            self.refuse(b"", fault, &[]);
            self.handle(Input::End(fault), now);
        }
    }
}

/// The head of a message that was parsed before.
pub(super) fn head_of(raw: &[u8]) -> &[u8] {
    head_len(raw).and_then(|len| raw.get(..len)).unwrap_or(raw) // its body is gone
}
