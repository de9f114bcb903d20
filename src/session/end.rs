//! What time does to a session, and how it ends.

use core::time::Duration;

use super::{
    Fault, Link, Note, Output, Own, Session, Sight, State, client::head_len, cseq::Pending,
};
use crate::{
    clock::Instant,
    limits::ASKING_IDLE_MS,
    rtsp::{Head, Method},
};

/// What a deadline is for: whoever reads the log at night will be grateful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// An origin owes an answer.
    Answer,
    /// A request goes out again.
    Retry,
    /// A client owes an answer to a request of its origin.
    ClientAnswer,
    /// The origin's session wants a sign of life.
    Keepalive,
    /// The client gave no sign of life.
    Idle,
    /// The origin promised media.
    Media,
    /// A connection that only asked asks nothing more.
    Asking,
}

impl Session {
    /// The next moment at which [`Session::tick`] has something to do, and what.
    pub fn deadline(&self) -> Option<(Instant, Why)> {
        if self.ended.is_some() {
            return self.own.due().map(|due| (due, Why::Answer));
        }
        let mut all: [Option<(Instant, Why)>; 8] = [None; 8];
        all[0] = self.requests.due().map(|due| (due, Why::Answer));
        all[1] = self.own.due().map(|due| (due, Why::Answer));
        all[2] = self.origin_requests.due().map(|due| (due, Why::ClientAnswer));
        // Without a connection it goes out when there is one again.
        let connected = self.link == Link::Up;
        all[3] = self
            .requests
            .open()
            .filter(|_| connected)
            .filter_map(|(_, pending)| pending.note.not_before)
            .min()
            .map(|at| (at, Why::Retry));
        all[4] = self.wants_keepalive().then(|| (self.keepalive.due(), Why::Keepalive));
        all[5] = Some((self.last_client + self.around.idle_timeout, Why::Idle));
        all[6] = self.silence_due().map(|due| (due, Why::Media));
        all[7] = self.asking_due().map(|due| (due, Why::Asking));
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn wants_keepalive(&self) -> bool {
        self.ids.is_known()
            && self.link == Link::Up
            && !self.tracks.is_empty()
            && !self.own.open().any(|(_, own)| own.note == Own::Keepalive)
            && self.requests.has_room()
    }

    /// When a connection to the origin is given up that has no session and awaits no answer: cameras
    /// have few.
    fn asking_due(&self) -> Option<Instant> {
        let rests = self.link == Link::Up
            && !self.holds_place()
            && self.requests.is_empty()
            && self.own.is_empty()
            && self.origin_requests.is_empty()
            && self.deciding.is_none();
        let last = self.last_answer.max(self.keepalive.last_sent());
        rests.then(|| last + Duration::from_millis(ASKING_IDLE_MS))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.ended.is_some() {
            self.forget_own(|own| own.due <= now);
            return;
        }
        self.excuse_origin(now);
        if self.silence_due().is_some_and(|due| due <= now) && !self.asks_if_alive(now) {
            self.seen(Sight::MediaSilent);
            return self.end(Fault::MediaSilent, now);
        }
        if self.last_client + self.around.idle_timeout <= now {
            return self.end(Fault::Idle, now);
        }
        if self.requests.due().is_some_and(|due| due <= now) {
            self.answer_overdue(now);
        }
        if self.own.due().is_some_and(|due| due <= now) {
            self.own_overdue(now);
        }
        self.forget_overdue_origin_requests(now);
        if self.wants_keepalive() && self.keepalive.due() <= now {
            self.keep_alive(now);
        }
        self.pump(now);
        self.flush_answers(now);
        if self.asking_due().is_some_and(|due| due <= now) {
            self.outputs.push_back(Output::DropOrigin);
            self.link = Link::Down;
            self.origin = None;
        }
        self.check_invariants();
    }

    /// A player that ignores its origin's requests is no reason to end the session.
    fn forget_overdue_origin_requests(&mut self, now: Instant) {
        let overdue: Vec<usize> =
            self.origin_requests.open().filter(|(_, p)| p.due <= now).map(|(at, _)| at).collect();
        for at in overdue {
            self.origin_requests.answer(at, Vec::new());
        }
        while let Some(answer) = self.origin_requests.ready() {
            let _ = self.to_origin.push_reply(&answer);
        }
    }

    /// The client closed its connection: the end of the session, unless it may go on without.
    pub(super) fn client_closed(&mut self, now: Instant) {
        let goes_on = self.around.detach
            && self.state != State::Init
            && self.tracks.iter().all(|track| !track.plan.client.is_tcp());
        match self.ids.ours() {
            Some(id)
                if goes_on && !self.requests.open().any(|(_, p)| p.method == Method::Teardown) =>
            {
                self.outputs.push_back(Output::Detach(id.to_vec()));
                self.detached = true;
                self.requests.silence();
                self.close_when_answered = false;
                self.deciding = None;
                self.filtering = None;
                self.to_client = super::Outbox::new(self.around.media_queue);
            }
            _ => self.end(Fault::ClientGone, now),
        }
    }

    /// Ends the session: the client's open requests are answered, the origin is told.
    pub(super) fn end(&mut self, fault: Fault, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        self.deciding = None;
        self.filtering = None;
        // One that went out before the last SETUP did not mean what that has set up.
        let told =
            self.requests.open().any(|(_, p)| p.sent > self.last_setup && self.ends_whole(p));
        // A keepalive without an answer is nothing to wait for any more.
        self.forget_own(|own| own.due <= now || matches!(own.note, Own::Keepalive | Own::Probe));
        if self.link == Link::Up {
            self.keep_listening(now);
        }
        // Set before the last answers: a client that asked for `Connection: close`, or that does not
        // read, does not end it again.
        self.ended = Some(fault);
        self.fail_requests(fault);
        let ids: Vec<u8> = self.tracks.iter().map(|track| track.id).collect();
        if self.link == Link::Up && fault != Fault::OriginGone {
            if !ids.is_empty() && !told {
                self.send_own(Own::Teardown, Method::Teardown, now);
            }
            self.end_strays(now);
        }
        for id in ids {
            self.outputs.push_back(Output::Close(id));
            self.tracks.remove(id);
        }
        self.state = State::Init;
        self.flush_answers(now);
        self.outputs.push_back(Output::End(fault));
    }

    /// Answers that still matter after the end: to the client's TEARDOWN, which may want a signature
    /// of ours, and to the SETUP of a client that left, which may have begun a session.
    fn keep_listening(&mut self, now: Instant) {
        let awaited: Vec<(u32, Method)> = self
            .requests
            .open()
            .filter_map(|(_, pending)| Some((pending.sent?, pending.method)))
            .collect();
        for (number, method) in awaited {
            let own = match method {
                Method::Teardown => Own::Teardown,
                Method::Setup => Own::Setup,
                _ => continue,
            };
            if own == Own::Teardown
                && let Some(id) = self.ids.theirs(self.ids.number())
            {
                self.farewells.push((number, id.to_vec()));
            }
            self.await_late(number, own, method, now);
        }
    }

    /// Whether a request of the client ends all of its session at the origin.
    fn ends_whole(&self, pending: &Pending<Note>) -> bool {
        let one = || {
            let head = Head::parse(pending.raw.get(..head_len(&pending.raw)?)?).ok()?;
            self.tracks.by_url(head.uri()?)
        };
        pending.method == Method::Teardown
            && ((self.tracks.len() < 2 && !self.unkept) || one().is_none())
    }
}
