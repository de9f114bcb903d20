//! What a client asks for: checks that need no origin, the verdicts of others, and on to the origin.

use super::{
    Deciding, Fault, Leg, Link, Note, Output, Session, SetupNote, State,
    answer::PUBLIC,
    filter::Subject,
    negotiate::{self, NoTransport, Wish},
    reach::Judged,
    rewrite::{self, Credentials, RequestChange},
};
use crate::{
    clock::Instant,
    config::{Auth, OriginTransport},
    rtsp::{Head, Method, Version},
};

/// How long a 503 to DESCRIBE is left before the request goes out again, in milliseconds:
/// gst-rtsp-server answers it right after another client vanished.
pub(super) const RETRY_AFTER_MS: u64 = 150;

impl Session {
    pub(super) fn client_message(&mut self, bytes: &[u8], head_len: usize, now: Instant) {
        let Ok(head) = Head::parse(bytes.get(..head_len).unwrap_or_default()) else {
            return self.refuse(b"", Fault::Malformed, &[]);
        };
        self.last_client = now;
        if head.is_response() {
            return self.client_answered(&head, bytes, head_len, now);
        }
        let Some(cseq) = head.header("CSeq").map(|header| header.value) else {
            return self.refuse(b"", Fault::NoCseq, &[]);
        };
        match head.version() {
            Ok(version) => self.version = version,
            Err(_) => return self.turn_down(&head, Fault::Version),
        }
        if head.cseq().is_none() {
            let digits = cseq.iter().all(u8::is_ascii_digit);
            return self.refuse(if digits { cseq } else { b"" }, Fault::Malformed, &[]);
        }
        if let Some(agent) = head.header("User-Agent")
            && self.user_agent.is_empty()
        {
            let agent = agent.value.get(..64).unwrap_or(agent.value);
            self.user_agent = String::from_utf8_lossy(agent).into_owned();
        }
        if listed(&head, "Connection").any(|token| token.eq_ignore_ascii_case(b"close")) {
            self.close_when_answered = true;
        }
        self.take_up_table(head.method());
        match self.check(&head) {
            Err(Fault::NoSession) if self.around.detach && self.tracks.is_empty() => {
                let id = head.session().map(|session| session.id.to_vec()).unwrap_or_default();
                self.deciding = Some(Deciding { raw: bytes.to_vec(), head: head_len, setup: None });
                self.outputs.push_back(Output::Find(id));
            }
            Err(fault) => self.turn_down(&head, fault),
            Ok(()) if head.uri() == Some(b"*") => {
                self.answer_star(&head, cseq, bytes.len() > head_len);
            }
            Ok(()) => {
                let has_body = bytes.len() > head_len;
                let asks = match self.judge(&head, has_body, now) {
                    Err(fault) => return self.turn_down(&head, fault),
                    Ok(Judged::Gateway) => return self.answer_star(&head, cseq, has_body),
                    Ok(Judged::Asks) => true,
                    Ok(Judged::Permitted) => false,
                };
                self.deciding = Some(Deciding { raw: bytes.to_vec(), head: head_len, setup: None });
                match self.asks_by().filter(|_| asks) {
                    Some(scheme) => self.outputs.push_back(Output::Authenticate(scheme)),
                    None => self.permitted(now),
                }
            }
        }
    }

    /// Answers a request with an error that belongs to what is in its head.
    fn turn_down(&mut self, head: &Head<'_>, fault: Fault) {
        let cseq = head.header("CSeq").map(|header| header.value).unwrap_or_default();
        let mut headers: Vec<(&str, &[u8])> = Vec::new();
        if fault == Fault::ProxyRequire {
            headers.extend(head.all("Proxy-Require").map(|tags| ("Unsupported", tags.value)));
        }
        headers.extend(head.header("Timestamp").map(|stamp| ("Timestamp", stamp.value)));
        self.refuse(cseq, fault, &headers);
    }

    /// What can be said without knowing the route.
    fn check(&self, head: &Head<'_>) -> Result<(), Fault> {
        let own = |hop: &[u8]| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1) == Some(self.pseudonym().as_bytes())
        };
        if listed(head, "Via").any(own) {
            return Err(Fault::Loop);
        }
        if head.header("Proxy-Require").is_some() {
            return Err(Fault::ProxyRequire);
        }
        let method = head.method();
        let setting_up = self.requests.open().any(|(_, p)| p.method == Method::Setup)
            || self.deciding.as_ref().is_some_and(|d| d.setup.is_some());
        if head.session().is_some_and(|session| !self.ids.is_ours(session.id)) {
            return Err(Fault::NoSession);
        }
        let needs_session =
            matches!(method, Method::Play | Method::Pause | Method::Record | Method::Teardown);
        if needs_session && self.tracks.is_empty() && !setting_up {
            let gone = method == Method::Teardown;
            return Err(if gone { Fault::NoSession } else { Fault::WrongState });
        }
        match method {
            Method::Redirect | Method::PlayNotify => Err(Fault::MethodNotAllowed),
            _ => Ok(()),
        }
    }

    fn pseudonym(&self) -> &str {
        &self.around.pseudonym
    }

    /// The value of a Via header that is added to requests toward the origin, if one is: always in
    /// 2.0, in 1.0 where the configuration names a pseudonym.
    pub(super) fn via(&self, version: Version) -> Option<&str> {
        (version == Version::V2 || self.around.via_in_1_0).then(|| self.pseudonym())
    }

    /// What is asked of the gateway itself.
    fn answer_star(&mut self, head: &Head<'_>, cseq: &[u8], has_body: bool) {
        match head.method() {
            Method::Options => self.local_answer(cseq, 200, &[("Public", PUBLIC)], head),
            Method::GetParameter | Method::SetParameter if has_body => {
                self.turn_down(head, Fault::UnknownParameter);
            }
            Method::GetParameter | Method::SetParameter => {
                self.local_answer(cseq, 200, &[], head);
            }
            Method::Other => self.turn_down(head, Fault::NotImplemented),
            _ => self.turn_down(head, Fault::Malformed),
        }
    }

    /// The client may ask this: filters first, where the route has any.
    pub(super) fn permitted(&mut self, now: Instant) {
        if !self.has_filters() {
            return self.admit(now);
        }
        let Some(deciding) = &mut self.deciding else { return };
        let raw = core::mem::take(&mut deciding.raw);
        let (method, outline) = Head::parse(raw.get(..deciding.head).unwrap_or_default())
            .map(|head| (head.method_bytes().to_vec(), head.outline()))
            .unwrap_or_default();
        self.filter(Subject::Request, raw, outline, &method, now);
    }

    pub(super) fn route_config<T>(
        &self,
        field: impl FnOnce(&crate::origin::Route) -> T,
    ) -> Option<T> {
        let route = self.table.routes().get(self.route?)?;
        Some(field(route))
    }

    /// Negotiates what has to be negotiated, then on to the origin.
    pub(super) fn admit(&mut self, now: Instant) {
        let Some(deciding) = self.deciding.take() else { return };
        let Ok(head) = Head::parse(deciding.raw.get(..deciding.head).unwrap_or_default()) else {
            return;
        };
        if head.method() == Method::Setup {
            let value = head.header("Transport").map(|header| header.value).unwrap_or_default();
            let possible = negotiate::choose(value, 0, self.around.client_ip).is_ok();
            if possible && self.begins_anew(&head) {
                self.leave_session(now);
            }
            match self.negotiate(&head, 0, None) {
                Ok((setup, wish)) => {
                    let first = self.tracks.is_empty()
                        && !self.requests.open().any(|(_, p)| p.note.setup.is_some());
                    self.outputs.push_back(Output::Bind {
                        track: setup.track,
                        client: !setup.client.is_tcp(),
                        origin: !setup.asked.is_tcp(),
                        first,
                    });
                    self.deciding = Some(Deciding { setup: Some((setup, wish)), ..deciding });
                }
                Err(fault) => {
                    self.deciding = Some(deciding);
                    self.refuse_decided(fault);
                }
            }
            return;
        }
        self.enqueue(&deciding, None, now);
    }

    /// Chooses a transport from the client's list, from place `from` on, for a track that has its
    /// number already or gets one now.
    pub(super) fn negotiate(
        &self,
        head: &Head<'_>,
        from: usize,
        track: Option<u8>,
    ) -> Result<(SetupNote, Wish), Fault> {
        let value = head.header("Transport").map(|h| h.value).ok_or(Fault::NoTransport)?;
        let uri = head.uri().unwrap_or_default();
        let busy =
            |id: u8| self.requests.open().any(|(_, p)| p.note.setup.is_some_and(|s| s.track == id));
        // A track that is set up again gets a pipe of its own before the old one is closed.
        let track = track.or_else(|| self.tracks.free_id(busy)).ok_or(Fault::TooManyTracks)?;
        let own = [track.saturating_mul(2), track.saturating_mul(2).saturating_add(1)];
        let mut from = from;
        let (choice, client) = loop {
            let choice =
                negotiate::choose(value, from, self.around.client_ip).map_err(|no| match no {
                    NoTransport::Unsupported => Fault::NoTransport,
                    NoTransport::Destination => Fault::Destination,
                })?;
            let replaced = self.tracks.replaced(uri, choice.wish).map_or(u8::MAX, |it| it.id);
            if let Some(client) = self.client_leg(choice.wish, track, replaced) {
                break (choice, client);
            }
            from = choice.at + 1;
        };
        let tcp = match self.route_config(|route| route.origin_transport) {
            Some(OriginTransport::Tcp) => true,
            Some(OriginTransport::Udp) => false,
            _ => client.is_tcp(),
        };
        let asked = if tcp {
            Leg::Tcp { rtp: own[0], rtcp: own[1] }
        } else {
            Leg::Udp { ip: None, rtp: 0, rtcp: 0 }
        };
        Ok((SetupNote { track, spec: choice.at, client, asked, ours: None }, choice.wish))
    }

    /// How a track would travel on the client's side. Channels that another track has, or a SETUP under
    /// way, are answered with others: players exist that ask for 0 and 1 each time. None: all are taken.
    fn client_leg(&self, wish: Wish, track: u8, replaced: u8) -> Option<Leg> {
        let free = |channels: &[u8; 2]| {
            let asked = |leg: &Leg| channels.iter().any(|channel| leg.is_on(*channel));
            let mut under_way = self.requests.open().filter_map(|(_, p)| p.note.setup);
            !self.tracks.client_uses(*channels, replaced)
                && !under_way.any(|setup| setup.track != track && asked(&setup.client))
        };
        let [rtp, rtcp] = match wish {
            Wish::Udp { rtp, rtcp } => return Some(Leg::Udp { ip: None, rtp, rtcp }),
            Wish::Tcp(asked) => {
                let others = (0..=u8::MAX / 2).map(|at| [at * 2, at * 2 + 1]);
                asked.into_iter().chain(others).find(free)
            }
        }?;
        Some(Leg::Tcp { rtp, rtcp })
    }

    pub(super) fn bound(
        &mut self,
        client: Option<(u16, u16)>,
        origin: Option<(u16, u16)>,
        now: Instant,
    ) {
        let Some(deciding) = self.deciding.take() else { return };
        let Some((mut setup, _)) = deciding.setup else { return };
        setup.ours = client;
        if let (Leg::Udp { .. }, Some((rtp, rtcp))) = (setup.asked, origin) {
            setup.asked = Leg::Udp { ip: None, rtp, rtcp };
        }
        self.enqueue(&deciding, Some(setup), now);
    }

    fn enqueue(&mut self, deciding: &Deciding, setup: Option<SetupNote>, now: Instant) {
        let Ok(head) = Head::parse(deciding.raw.get(..deciding.head).unwrap_or_default()) else {
            return;
        };
        let cseq = head.header("CSeq").map(|header| header.value).unwrap_or_default();
        let signs = head
            .header("Authorization")
            .is_some_and(|h| h.value.get(..6).is_some_and(|s| s.eq_ignore_ascii_case(b"digest")));
        if signs
            && self.route_config(|route| route.auth) == Some(Auth::Pass)
            && let Some(mapping) = &mut self.mapping
        {
            mapping.keep_uri = true;
        }
        let aggregate = matches!(
            head.method(),
            Method::Describe | Method::Announce | Method::Play | Method::Record
        );
        if aggregate {
            self.presentation = head.uri().unwrap_or_default().to_vec();
        }
        let due = now + self.around.answer_timeout;
        let describes = self.bound_to().filter(|_| head.method() == Method::Describe).cloned();
        let note =
            Note { setup, sent_at: now, session: self.ids.number(), describes, ..Note::default() };
        self.requests.push(cseq, head.method(), &deciding.raw, due, note);
        self.pump(now);
    }

    /// Sends what has not been sent, or sees to it that there is somebody to send it to.
    pub(super) fn pump(&mut self, now: Instant) {
        if self.requests.open().all(|(_, pending)| pending.sent.is_some()) {
            return;
        }
        match self.link {
            Link::Wanted => {}
            Link::Down => {
                if let Some(route) = self.route {
                    self.link = Link::Wanted;
                    let (path, exclude) = (self.path.clone(), self.tried.clone());
                    let again = self.again.as_ref().map(|(index, _)| *index);
                    let moved = self.moved.as_ref();
                    let elsewhere = moved.map(|moved| (moved.host.clone(), moved.port));
                    let again = again.or_else(|| moved.map(|moved| moved.by));
                    self.outputs.push_back(Output::Connect {
                        route,
                        path,
                        exclude,
                        again,
                        elsewhere,
                    });
                }
            }
            Link::Up if self.leaves_session() => {}
            Link::Up => {
                let ready: Vec<usize> = self
                    .requests
                    .open()
                    .filter(|(_, p)| p.sent.is_none())
                    .filter(|(_, p)| p.note.not_before.is_none_or(|at| at <= now))
                    .map(|(at, _)| at)
                    .collect();
                for at in ready {
                    self.send(at, now);
                }
            }
        }
    }

    fn send(&mut self, at: usize, now: Instant) {
        let number = self.requests.number();
        let Some(pending) = self.requests.get(at) else { return };
        let Some(head_len) = head_len(&pending.raw) else { return };
        let Ok(head) = Head::parse(pending.raw.get(..head_len).unwrap_or_default()) else { return };
        let Some(mapping) = &self.mapping else { return };
        let transport = pending.note.setup.and_then(|setup| {
            let value = head.header("Transport")?.value;
            let choice = negotiate::choose(value, setup.spec, self.around.client_ip).ok()?;
            Some(negotiate::toward_origin(&choice, setup.asked, self.version))
        });
        let uri = mapping.to_origin(head.uri().unwrap_or_default());
        let signer = self.origin.as_mut().and_then(|origin| origin.signer.as_mut());
        let pass = self
            .table
            .routes()
            .get(self.route.unwrap_or(usize::MAX))
            .is_some_and(|route| route.auth == Auth::Pass);
        let authorization = match signer {
            Some(signer) => Some(
                signer
                    .authorization(head.method_bytes(), &uri)
                    .map_or(Credentials::Strip, Credentials::Ours),
            ),
            None if pass => None,
            None => Some(Credentials::Strip),
        };
        let via = self.via(head.version().unwrap_or_default());
        let session = self.ids.theirs(pending.note.session);
        let change = RequestChange { cseq: number, session, transport, via, authorization };
        let bytes = rewrite::request(&head, &pending.raw, head_len, mapping, change);
        if self.to_origin.push_reply(&bytes).is_err() {
            return self.end(Fault::OriginSilent, now);
        }
        self.numbering.sent(number);
        self.keepalive.sent(now);
        let due = now + self.around.answer_timeout;
        // Signed anew, asked of another origin, or tried again after a 503; else its head will do.
        let signs = self.origin.as_ref().is_some_and(|origin| origin.signer.is_some());
        if let Some(pending) = self.requests.get_mut(at) {
            let again =
                matches!(pending.method, Method::Describe | Method::Options | Method::Setup);
            if !signs && !again && pending.raw.len() > head_len {
                pending.raw.truncate(head_len);
                pending.raw.shrink_to_fit();
            }
            pending.sent = Some(number);
            pending.due = due;
            pending.note.sent_at = now;
            pending.note.not_before = None;
        }
    }

    fn client_answered(&mut self, head: &Head<'_>, bytes: &[u8], head_len: usize, now: Instant) {
        let Some(at) = self.origin_requests.find(head.cseq()) else {
            if !self.unasked_by_client.message() {
                self.end(Fault::ClientFloods, now);
            }
            return;
        };
        let Some(pending) = self.origin_requests.get(at) else { return };
        let informational = head.status().is_some_and(|status| status < 200);
        if informational {
            if !self.unasked_by_client.interim() {
                self.end(Fault::ClientFloods, now);
            }
            return;
        }
        self.unasked_by_client.awaited();
        match pending.sent {
            Some(number) if self.has_filters() => {
                let method = pending.method.as_str().as_bytes();
                let raw = bytes.to_vec();
                self.filter(Subject::ClientAnswer(number), raw, head.outline(), method, now);
            }
            _ => self.client_answer_goes_on(at, head, bytes, head_len),
        }
    }

    pub(super) fn client_answer_goes_on(
        &mut self,
        at: usize,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
    ) {
        let Some(pending) = self.origin_requests.get(at) else { return };
        let session = head.session().and_then(|session| self.ids.meant(session.id));
        let answer = rewrite::client_answer(head, bytes, head_len, &pending.asked, session);
        self.answer_origin(at, answer);
    }

    pub(super) fn reset_after_teardown(&mut self) {
        let ids: Vec<u8> = self.tracks.iter().map(|track| track.id).collect();
        for id in ids {
            self.outputs.push_back(Output::Close(id));
            self.tracks.remove(id);
        }
        self.ids.over();
        self.aggregate.clear();
        self.state = State::Init;
        self.media_promised = false;
        self.pace(false);
        self.heard = false;
        self.unkept = false;
        self.tried.clear();
    }
}

/// Length of the head of a whole message that was parsed before.
pub(super) fn head_len(raw: &[u8]) -> Option<usize> {
    use crate::rtsp::framing::{Framer, Progress, Unit};
    match Framer::default().next(raw) {
        Ok(Progress::Ready(Unit::Message { head, .. })) => Some(head),
        _ => None,
    }
}

/// The members of the lists in all headers of that name.
fn listed<'a>(head: &Head<'a>, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    head.all(name)
        .flat_map(|header| header.value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}
