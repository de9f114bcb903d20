//! What an origin answers, to the client's requests and to our own, and what happens when it is gone.

use super::{
    Fault, Input, Leg, Link, OriginLink, Output, Own, Plan, Session, Side, Sight, State, Track,
    answer::head_of,
    client::{RETRY_AFTER_MS, head_len},
    cseq::Numbering,
    filter::Subject,
    keepalive::Keepalive,
    meant::Asked,
    negotiate,
    shown::{self, AnswerChange, Terms, Told},
    silence,
    unasked::Unasked,
};
use crate::{
    clock::Instant,
    config::{Auth, Redirect},
    limits::SESSION_ID_MAX_BYTES,
    rtsp::{Head, Method, Url},
};

/// How often a request is signed anew: once for the first challenge, once for a stale nonce.
const SIGN_TRIES: u8 = 2;

impl Session {
    pub(super) fn connected(&mut self, link: OriginLink, now: Instant) {
        let prefix = self.route_config(|route| route.replaced_by(&link.base.path).to_vec());
        if let Some(mapping) = &mut self.mapping {
            mapping.origin = link.base.clone();
            // Anew for each origin: the one that was tried before may have had another path.
            mapping.client.path = prefix.unwrap_or_default();
        }
        self.go_by_redirect();
        // Ids that the client was told hold where the same origin is connected to again.
        if self.mapped != Some(link.index) {
            self.ids.forget_theirs();
        }
        self.mapped = Some(link.index);
        // Nothing that was meant for another connection, nor the rest of it.
        self.to_origin = super::Outbox::new(self.around.media_queue);
        self.forget_own(|own| own.note == Own::Left);
        self.numbering = Numbering::default();
        self.last_answer = now;
        self.answered_here = false;
        let mut link = link;
        if let Some((index, signer)) = self.again.take()
            && index == link.index
            && link.signer.is_some()
            && signer.is_some()
        {
            link.signer = signer;
        }
        self.keepalive = Keepalive::new(link.keepalive, now);
        self.origin = Some(link);
        self.silent = false;
        self.link = Link::Up;
        self.pump(now);
    }

    pub(super) fn origin_message(&mut self, bytes: &[u8], head_len: usize, now: Instant) {
        let Ok(head) = Head::parse(bytes.get(..head_len).unwrap_or_default()) else {
            self.seen(Sight::BadReply);
            return self.note(Fault::OriginReply);
        };
        let Some(status) = head.status() else {
            return self.origin_asks(&head, bytes, head_len, now);
        };
        self.last_answer = now;
        self.probed = None;
        self.answered_here = true;
        let cseq = head.cseq();
        let asked = self.meant(cseq);
        if let Some((Asked::Client, at)) = asked {
            if status < 200 {
                let due = now + self.around.answer_timeout;
                if let Some(pending) = self.requests.get_mut(at) {
                    pending.due = due;
                }
                return self.origin_says_wait(now);
            }
            self.unasked.awaited();
            self.origin_answers(at, status, &head, bytes, head_len, now);
        } else if let Some((Asked::Gateway, at)) = asked {
            if status < 200 {
                return self.origin_says_wait(now);
            }
            self.unasked.awaited();
            self.own_answered(at, status, &head, now);
        } else if let Some(at) =
            head.cseq().and_then(|cseq| self.given_up.iter().position(|n| *n == cseq))
        {
            if status >= 200 {
                self.given_up.remove(at); // late, and of no use any more
            }
        } else {
            self.note(Fault::OriginReply);
            self.origin_unasked(now);
        }
    }

    fn origin_says_wait(&mut self, now: Instant) {
        if !self.unasked.interim() {
            self.origin_floods(now);
        }
    }

    /// The origin says what nobody asked for.
    pub(super) fn origin_unasked(&mut self, now: Instant) {
        if !self.unasked.message() {
            self.origin_floods(now);
        }
    }

    fn origin_floods(&mut self, now: Instant) {
        self.unasked = Unasked::default();
        self.note(Fault::OriginFloods);
        self.seen(Sight::BadReply);
        if !self.tracks.is_empty() {
            return self.end(Fault::OriginFloods, now);
        }
        self.origin_closed(now);
    }

    fn origin_answers(
        &mut self,
        at: usize,
        status: u16,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        now: Instant,
    ) {
        let Some(pending) = self.requests.get(at) else { return };
        let (method, sent_at) = (pending.method, pending.note.sent_at);
        let (signed, retried) = (pending.note.signed, pending.note.retried);
        if status == 401 && self.try_to_sign(at, signed, head, now) {
            return;
        }
        let passes = self.route_config(|route| route.auth) == Some(Auth::Pass);
        if !(status == 401 && passes) {
            self.seen(Sight::Told(method, status));
        }
        match status {
            401 if !passes => {
                return self.fail(at, Fault::OriginAuth);
            }
            503 if method == Method::Describe && !retried => {
                return self.again_later(at, now);
            }
            461 if method == Method::Setup && self.try_next_transport(at, now) => return,
            500 | 502..=504
                if matches!(method, Method::Describe | Method::Setup)
                    && self.another_origin_left()
                    && self
                        .requests
                        .open()
                        .filter(|(_, pending)| pending.sent.is_some())
                        .count()
                        == 1 =>
            {
                self.seen(Sight::ServerError(status));
                return self.fail_over(None, now);
            }
            500..=599 => self.seen(Sight::ServerError(status)),
            _ => self.seen(Sight::Answered(now.since(sent_at))),
        }
        match self.requests.get(at).and_then(|pending| pending.sent) {
            Some(number) if self.has_filters() => {
                let method = self.method_of(at);
                let raw = bytes.to_vec();
                self.filter(Subject::Answer(number), raw, head.outline(), &method, now);
            }
            _ => self.answer_goes_on(at, status, head, bytes, head_len, now),
        }
    }

    /// The method of a request of the client, as it wrote it.
    fn method_of(&self, at: usize) -> Vec<u8> {
        let Some(pending) = self.requests.get(at) else { return Vec::new() };
        let word = pending.raw.split(|byte| *byte == b' ').next().unwrap_or_default();
        word.trim_ascii_start().to_vec()
    }

    /// What the answer means for the session; then on to the client.
    pub(super) fn answer_goes_on(
        &mut self,
        at: usize,
        status: u16,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        now: Instant,
    ) {
        let Some(method) = self.requests.get(at).map(|pending| pending.method) else { return };
        if self.follows(at, status, head, now) {
            return;
        }
        let location = match self.location(status, head) {
            Ok(location) => location,
            Err(fault) => return self.fail(at, fault),
        };
        if (200..300).contains(&status) {
            self.learn_id(at, head);
            match method {
                Method::Setup => return self.set_up(at, head, bytes, head_len, now),
                Method::Options => {
                    if let Some(public) = head.header("Public") {
                        self.keepalive.offered(public.value);
                    }
                }
                Method::Describe => self.learn_quiet(bytes.get(head_len..).unwrap_or_default()),
                Method::Play => {
                    self.plays(State::Playing, now);
                    self.played_aggregate(at);
                    self.set_pace(at, head);
                    self.promised_until = self.range_ends(at, head, now);
                }
                Method::Record => {
                    self.plays(State::Recording, now);
                    self.played_aggregate(at);
                }
                Method::Pause if self.state != State::Init => {
                    self.state = State::Ready;
                    self.media_promised = false;
                }
                Method::Teardown => self.torn_down(at, now),
                _ => {}
            }
        } else if let Some(setup) = self.requests.get(at).and_then(|p| p.note.setup) {
            self.outputs.push_back(Output::Close(setup.track));
        }
        self.pass_answer(at, head, bytes, head_len, None, location);
    }

    fn plays(&mut self, state: State, now: Instant) {
        if self.tracks.is_empty() {
            return;
        }
        self.state = state;
        self.last_media = now;
        self.last_client = now;
        self.outputs.push_back(Output::Flows);
        self.media_promised = state == State::Playing && self.has_steady();
        self.said_bye = false;
        self.probed = None;
    }

    pub(super) fn torn_down(&mut self, at: usize, now: Instant) {
        let uri = self.requests.get(at).and_then(|pending| {
            let head = Head::parse(pending.raw.get(..head_len(&pending.raw)?)?).ok()?;
            head.uri().map(<[u8]>::to_vec)
        });
        let one = uri.and_then(|uri| self.tracks.by_url(&uri)).map(|track| track.id);
        match one {
            Some(id) if self.tracks.len() > 1 => {
                self.tracks.remove(id);
                self.outputs.push_back(Output::Close(id));
            }
            _ => {
                // What was set up behind it is not ended by it, though it is answered later; nor is a
                // track that the origin granted and nobody uses.
                let behind =
                    self.requests.get(at).is_some_and(|pending| pending.sent < self.last_setup);
                if behind || self.unkept {
                    self.send_own(Own::Teardown, Method::Teardown, now);
                }
                self.end_strays(now);
                self.reset_after_teardown();
            }
        }
    }

    fn set_up(&mut self, at: usize, head: &Head<'_>, bytes: &[u8], head_len: usize, now: Instant) {
        if let Err(fault) = self.try_set_up(at, head, bytes, head_len, now) {
            let number = self.requests.get(at).and_then(|pending| pending.sent);
            self.disown(head, number, now);
            self.fail(at, fault);
        }
    }

    /// What the origin has granted becomes a track; an error: nobody will use it.
    fn try_set_up(
        &mut self,
        at: usize,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        now: Instant,
    ) -> Result<(), Fault> {
        let Some(pending) = self.requests.get(at) else { return Ok(()) };
        let Some(setup) = pending.note.setup else { return Ok(()) };
        let (raw, sent_at) = (pending.raw.clone(), pending.note.sent_at);
        let number = pending.sent;
        let asked_len = super::client::head_len(&raw).unwrap_or(0);
        let asked = Head::parse(raw.get(..asked_len).unwrap_or_default());
        let asked = asked.map_err(|_| Fault::Malformed)?;
        let answer = head.header("Transport").map(|header| header.value);
        let link = self.origin.as_ref().and_then(|link| self.table.origins().get(link.index));
        let own = |ip| link.is_some_and(|origin| origin.has_addr(ip));
        let Some((origin, doubted)) = negotiate::granted(answer, setup.asked, own) else {
            return Err(Fault::OriginReply);
        };
        if doubted {
            self.note(Fault::OriginSource);
        }
        if head.session().is_some_and(|session| session.id.len() > SESSION_ID_MAX_BYTES) {
            // No request of the session could be told from a stranger's.
            return Err(Fault::OriginReply);
        }
        let wanted = asked.header("Transport").map(|header| header.value).unwrap_or_default();
        let Ok(choice) = negotiate::choose(wanted, setup.spec, self.around.client_ip) else {
            return Err(Fault::NoTransport);
        };
        let transport = negotiate::toward_client(
            answer,
            &choice.spec,
            setup.client,
            setup.ours,
            self.around.local_ip,
        );
        if let Some(session) = head.session() {
            self.keepalive.timeout(session.timeout_s.unwrap_or(0));
        }
        let url = asked.uri().unwrap_or_default().to_vec();
        let there = self.mapping.as_ref().map(|mapping| mapping.to_origin(&url));
        let there = there.as_deref().unwrap_or(&url);
        let quiet =
            self.quiet_controls.iter().any(|control| silence::is_control_of(there, control));
        if let Some(old) = self.tracks.replaced(&url, choice.wish).map(|track| track.id) {
            self.tracks.remove(old);
            self.outputs.push_back(Output::Close(old));
        }
        let plan = Plan { client: setup.client, origin };
        let track = Track { id: setup.track, url: url.clone(), plan, steady: !quiet };
        if self.tracks.put(track).is_err() {
            return Err(Fault::TooManyTracks);
        }
        self.track_of_aggregate(&url);
        self.outputs.push_back(Output::Open(setup.track, plan));
        if self.state == State::Init {
            self.state = State::Ready;
            self.last_client = now;
        }
        self.last_setup = self.last_setup.max(number);
        self.note_stray(head);
        self.seen(Sight::Answered(now.since(sent_at)));
        self.pass_answer(at, head, bytes, head_len, Some(transport), None);
        Ok(())
    }

    fn pass_answer(
        &mut self,
        at: usize,
        head: &Head<'_>,
        bytes: &[u8],
        head_len: usize,
        transport: Option<Vec<u8>>,
        location: Option<Vec<u8>>,
    ) {
        let (Some(pending), Some(mapping)) = (self.requests.get(at), &mut self.mapping) else {
            return;
        };
        let session = self.ids.told(pending.note.session).map(|id| Told {
            id,
            idle_s: u32::try_from(self.around.idle_timeout.as_secs()).unwrap_or(u32::MAX),
            begins: transport.is_some(),
        });
        let change = AnswerChange { cseq: &pending.asked, transport, session, location };
        let asked = Head::parse(head_of(&pending.raw)).ok().and_then(|asked| asked.uri());
        let scope = &mut mapping.scope.place.presentation;
        let bound = pending.note.describes.clone().map(|it| core::mem::replace(scope, it));
        let terms = Terms { mapping, asked: asked.unwrap_or_default(), ours: self.around.local_ip };
        let answer = shown::answer(head, bytes, head_len, terms, change);
        if let Some(bound) = bound {
            mapping.scope.place.presentation = bound;
        }
        self.requests.answer(at, answer);
    }

    fn fail(&mut self, at: usize, fault: Fault) {
        if fault == Fault::OriginReply {
            self.seen(Sight::BadReply);
        }
        self.note(fault);
        self.fail_request(at, fault, &[]);
    }

    /// Signs a request that was answered 401 and sends it again, if there is something to sign with.
    fn try_to_sign(&mut self, at: usize, signed: u8, head: &Head<'_>, now: Instant) -> bool {
        if signed >= SIGN_TRIES || !self.challenged(head) {
            return false;
        }
        if let Some(pending) = self.requests.get_mut(at) {
            pending.note.signed += 1;
        }
        if self.challenged_and_closing(head, now) {
            return true;
        }
        if let Some(pending) = self.requests.get_mut(at) {
            pending.sent = None;
        }
        self.pump(now);
        true
    }

    pub(super) fn challenged(&mut self, head: &Head<'_>) -> bool {
        let values: Vec<&[u8]> = head.all("WWW-Authenticate").map(|header| header.value).collect();
        let signer = self.origin.as_mut().and_then(|origin| origin.signer.as_mut());
        signer.is_some_and(|signer| signer.challenge(&values))
    }

    fn again_later(&mut self, at: usize, now: Instant) {
        let later = now + core::time::Duration::from_millis(RETRY_AFTER_MS);
        let due = later + self.around.answer_timeout;
        if let Some(pending) = self.requests.get_mut(at) {
            pending.sent = None;
            pending.due = due;
            pending.note.retried = true;
            pending.note.not_before = Some(later);
        }
    }

    /// The origin took none of what the chosen spec asks for: the next one of the client's list,
    /// where the ports that are bound will do for it.
    fn try_next_transport(&mut self, at: usize, now: Instant) -> bool {
        let Some(pending) = self.requests.get(at) else { return false };
        let Some(old) = pending.note.setup else { return false };
        let raw = pending.raw.clone();
        let Some(len) = head_len(&raw) else { return false };
        let Ok(head) = Head::parse(raw.get(..len).unwrap_or_default()) else { return false };
        let Ok((mut next, _)) = self.negotiate(&head, old.spec + 1, Some(old.track)) else {
            return false;
        };
        let lacks_ports = (!next.client.is_tcp() && old.ours.is_none())
            || (!next.asked.is_tcp() && old.asked.is_tcp());
        if lacks_ports {
            return false;
        }
        next.ours = if next.client.is_tcp() { None } else { old.ours };
        if let (Leg::Udp { .. }, Leg::Udp { .. }) = (next.asked, old.asked) {
            next.asked = old.asked;
        }
        if let Some(pending) = self.requests.get_mut(at) {
            pending.note.setup = Some(next);
            pending.sent = None;
        }
        self.pump(now);
        true
    }

    /// Where a redirect leads, in the client's terms.
    fn location(&self, status: u16, head: &Head<'_>) -> Result<Option<Vec<u8>>, Fault> {
        if !(300..400).contains(&status) {
            return Ok(None);
        }
        let location = self.moved(head)?;
        // To the very URL that was asked for: the player would go round for ever.
        if location.as_ref() == Some(&self.presentation) {
            return Err(Fault::Redirect);
        }
        Ok(location)
    }

    pub(super) fn moved(&self, head: &Head<'_>) -> Result<Option<Vec<u8>>, Fault> {
        let Some(location) = head.header("Location") else { return Ok(None) };
        let Some(mapping) = &self.mapping else { return Ok(None) };
        let ours = Url::parse(location.value)
            .ok()
            .filter(|url| self.table.has_at(url.host, url.port_or_default()));
        match (ours, self.route_config(|route| route.redirect)) {
            (Some(_), _) => Ok(mapping.to_client_or_host(location.value)),
            (None, Some(Redirect::Pass)) => Ok(None),
            (None, _) => Err(Fault::Redirect),
        }
    }

    /// The session that begins needs another origin; nothing was promised yet.
    pub(super) fn origin_full(&mut self, index: usize) {
        self.tried.push(index);
        self.origin = None;
        if self.link != Link::Down {
            self.outputs.push_back(Output::DropOrigin);
        }
        self.to_origin = super::Outbox::new(self.around.media_queue);
        self.link = Link::Down;
    }

    /// A framing error of the origin: nothing that follows can be understood.
    pub fn origin_framing_lost(&mut self, now: Instant) {
        self.seen(Sight::BadReply);
        self.note(Fault::OriginReply);
        // It may still understand us: what it granted is ended.
        let grants = !self.tracks.is_empty();
        self.handle(
            if grants { Input::End(Fault::OriginReply) } else { Input::SideClosed(Side::Origin) },
            now,
        );
    }
}
