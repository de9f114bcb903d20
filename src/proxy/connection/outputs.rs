//! Carries out what a session wants done, and answers what it asks.

use core::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use std::sync::Arc;

use log::{debug, info, warn};

use super::{Asked, HERE, Inner, LINGER, come_back, later::Task};
use crate::{
    auth::Decision,
    clock::Instant,
    config::{Auth, Endpoints},
    logger::seldom,
    origin::{Keepalive, Outcome, Reason, Trouble, hash_bytes},
    pipe::{Token, Worker},
    proxy::{
        shared::{Facts, lock},
        tracks::{Peers, Place},
    },
    rtsp::{Head, Method},
    session::{Fault, Inbox, Input, Output, Sight, State, Whose},
};

impl Inner {
    pub(super) fn drain(&mut self, token: Token, worker: &Worker) {
        let mut any = false;
        while let Some(output) = self.session.poll_output() {
            any = true;
            self.carry_out(output, token, worker);
        }
        if any {
            // After TEARDOWN, or a SETUP that came to nothing, the place is another client's.
            if self.closing.is_none()
                && !self.session.holds_place()
                && self.admission.take().is_some()
            {
                self.shared.count("sessions_ended");
            }
            if !self.session.holds_place() {
                self.give_place_back();
            }
            self.publish();
        }
    }

    pub(super) fn carry_out(&mut self, output: Output, token: Token, worker: &Worker) {
        let now = worker.now();
        match output {
            Output::Authenticate(scheme) => self.log_in(scheme, false, worker),
            Output::Filter(slot) => {
                let verdict = self.filter(slot, worker);
                self.session.handle(verdict, now);
            }
            Output::Connect { route, path, exclude, again, elsewhere } => {
                let asked = Asked { route, path, exclude, again, elsewhere, until: None };
                self.connect(asked, token, worker);
            }
            Output::Bind { track, client, origin, first } => {
                self.bind((track, client, origin, first), now);
            }
            Output::Find(id) => self.hand_over(id, token, worker),
            Output::Detach(id) => {
                if let Some(client) = self.client.take() {
                    worker.close(token, client);
                }
                self.client_open = false;
                self.inbox = Inbox::default();
                self.head_since = None;
                self.later = None;
                let client = self.client_addr.ip().to_canonical();
                self.shared.detach(id, client, self.entry.id);
            }
            Output::Open(track, plan) => {
                let endpoints = self.route_endpoints();
                let origin = self.origin.as_ref().map_or(self.local.ip, |origin| origin.peer_ip);
                let client = self.client_addr.ip().to_canonical();
                let peers = Peers { client, origin, endpoints };
                let on = self.ask_worker(worker);
                let place = Place { shared: &self.shared, entry: &self.entry, worker, token, on };
                let opened = self.tracks.open(track, plan, peers, place);
                if let Err(error) = opened {
                    if let Some(more) = seldom::once_a_minute("tracks not relayed", "") {
                        let id = self.entry.id;
                        warn!("{id}: track {track} cannot be relayed: {error}{more}");
                    }
                    self.session.handle(Input::End(Fault::NoPorts), now);
                }
            }
            Output::Flows => self.tracks.plays(now),
            Output::Close(track) => {
                self.tracks.close(track, worker, token);
                self.track_places.retain(|(id, _)| *id != track);
            }
            Output::DropOrigin => self.drop_origin(token, worker),
            Output::Seen(index, sight) => self.seen(index, sight, now),
            Output::Note(fault) => self.note(fault),
            Output::End(fault) => self.ended(fault, now),
        }
    }

    /// Gives this client's connection to the one that drives its session.
    pub(super) fn hand_over(&mut self, id: Vec<u8>, token: Token, worker: &Worker) {
        let now = worker.now();
        let client_ip = self.client_addr.ip().to_canonical();
        let found = self.shared.find(&id, client_ip);
        let handle = found.as_ref().and_then(|entry| {
            self.shared.pool.handles().iter().find(|handle| handle.id() == entry.worker)
        });
        let (Some(entry), Some(handle), Some((raw, _))) = (&found, handle, self.session.deciding())
        else {
            return self.session.handle(Input::NotFound, now);
        };
        let bytes = [raw, self.inbox.rest()].concat();
        let Some(client) = self.client.take() else { return };
        let _ = worker.deregister(token, &client);
        let id = entry.id;
        let job = Box::new(move |worker: &_| come_back(id, client, &bytes, worker));
        if handle.run(job).is_err() {
            self.shared.count("refused_busy");
        }
        self.client_open = false;
        self.inbox = Inbox::default();
        self.session.handle(Input::End(Fault::ClientGone), now);
    }

    pub(super) fn authenticate(&mut self, scheme: Auth, now: Instant) -> Input {
        let Some((raw, head)) = self.session.deciding() else { return Input::Denied };
        let Ok(head) = Head::parse(raw.get(..head).unwrap_or_default()) else {
            return Input::Denied;
        };
        let authorization = head.header("Authorization").map(|header| header.value);
        let uri = head.uri().unwrap_or_default();
        let verifier = Arc::clone(&self.shared.generation().verifier);
        let client = self.client_addr.ip().to_canonical();
        match verifier.check(scheme, head.method_bytes(), uri, authorization, now, client) {
            Decision::Granted { user } => {
                debug!("{}: user {user} granted", self.entry.id);
                Input::Granted { user }
            }
            Decision::Challenge(values) => {
                self.shared.count("auth_challenges");
                Input::Challenge(values.into_iter().map(String::into_bytes).collect())
            }
            Decision::Wrong { user, challenge } => {
                self.wrong_user = Some(user);
                Input::Challenge(challenge.into_iter().map(String::into_bytes).collect())
            }
            Decision::Refused => Input::Denied,
        }
    }

    /// Ports of a track, toward the client, toward the origin, for a session that begins or goes on.
    pub(super) fn bind(&mut self, asked: (u8, bool, bool, bool), now: Instant) {
        let (track, client, origin, first) = asked;
        if let Err(fault) = self.make_places(track, first, now) {
            return self.session.handle(Input::NotBound(fault), now);
        }
        let client_at = client.then_some(self.local);
        let origin_at = origin.then(|| match &self.origin {
            Some(origin) if origin.connecting.is_none() => origin.local,
            // Not connected yet (SETUP came first): any address will do.
            _ => unspecified(self.local.ip).into(),
        });
        let sockets = 2 * (usize::from(client) + usize::from(origin));
        let bound = if sockets > 0 && self.shared.is_short_of_descriptors(sockets) {
            Err(Fault::NoDescriptors)
        } else {
            self.tracks.bind(&self.shared, track, client_at, origin_at).map_err(|error| {
                debug!("{}: no ports for track {track}: {error}", self.entry.id);
                let ports = error.kind() == std::io::ErrorKind::AddrNotAvailable;
                if ports { Fault::NoPorts } else { Fault::NoDescriptors }
            })
        };
        match bound {
            Ok((client, origin)) => self.session.handle(Input::Bound { client, origin }, now),
            Err(fault) => {
                if !self.wait_for_room(Task::Bind(asked), fault, now) {
                    self.track_places.retain(|(id, _)| *id != track);
                    self.session.handle(Input::NotBound(fault), now);
                }
            }
        }
    }

    /// Among the sessions, where one begins, and among the tracks of the client's address.
    fn make_places(&mut self, track: u8, first: bool, now: Instant) -> Result<(), Fault> {
        if first && self.admission.is_none() {
            self.admission = Some(self.place.admit()?);
        }
        if first {
            self.take_place(now)?;
        }
        if self.track_places.iter().all(|(id, _)| *id != track) {
            self.track_places.push((track, self.place.begin_track()?));
        }
        Ok(())
    }

    pub(super) fn seen(&mut self, index: usize, sight: Sight, now: Instant) {
        let client = self.client_mark();
        let suspected = |why| Outcome::Suspected { why, client };
        let outcome = match sight {
            Sight::Answered(after) => {
                let rtt_us = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
                Outcome::Answered { rtt_us }
            }
            Sight::Silent => suspected(Reason::Timeout),
            Sight::BadReply => suspected(Reason::BadReply),
            Sight::ServerError(status) => suspected(Reason::Status(status)),
            Sight::Closed => suspected(Reason::Closed),
            Sight::MediaSilent => {
                self.media_stays_away(index, now);
                suspected(Reason::Silent)
            }
            Sight::Told(method, status) => {
                let route =
                    self.session.route().and_then(|at| self.session.table().routes().get(at));
                let fixed = route.filter(|route| route.is_fixed());
                let fixed = fixed.map(|route| hash_bytes(route.path()));
                if let Some(origin) = self.session.table().origins().get(index) {
                    origin.told(method, status, fixed, now);
                }
                return;
            }
            Sight::Keepalive(method) => {
                if let Some(origin) = self.session.table().origins().get(index) {
                    origin.learn_keepalive(match method {
                        Method::Options => Keepalive::Options,
                        Method::SetParameter => Keepalive::SetParameter,
                        _ => Keepalive::GetParameter,
                    });
                }
                return;
            }
        };
        if matches!(outcome, Outcome::Suspected { .. }) {
            self.shared.count("origin_doubts");
        }
        if let Some(origin) = self.session.table().origins().get(index) {
            origin.observe(outcome, now);
        }
    }

    /// Tells media that never found its way from media that stopped.
    fn media_stays_away(&self, index: usize, now: Instant) {
        let udp = lock(&self.entry.facts).status.origin_transport == "udp";
        let trouble = match self.entry.media_from_origin_ms() {
            0 if udp => Trouble::Udp,
            _ => Trouble::Media,
        };
        if let Some(origin) = self.session.table().origins().get(index) {
            origin.met(trouble, now);
        }
    }

    pub(super) fn note(&self, fault: Fault) {
        self.shared.count(fault.counter());
        let (id, client) = (self.entry.id, self.client_addr);
        let origin = fault.whose() == Whose::Origin;
        let who = if origin { self.served_by() } else { client.ip().to_canonical().to_string() };
        let Some(more) = seldom::once_a_minute(fault.counter(), &who) else {
            return debug!("{id}: {client}: {who}: {fault}");
        };
        match fault.whose() {
            Whose::Client => info!("{id}: {client}: refused: {fault}{more}"),
            Whose::Origin => warn!("{id}: {who}: {fault}{more}"),
            Whose::Local => warn!("{id}: {client}: {fault}{more}"),
        }
    }

    pub(super) fn ended(&mut self, fault: Fault, now: Instant) {
        // As long as an origin may take to say that it has begun a session.
        let patience = if self.session.awaits_session() {
            Duration::from_secs(self.shared.generation().config.limits.answer_timeout_s.into())
        } else {
            LINGER
        };
        self.closing = Some(now + patience);
        self.later = None;
        self.shared.count(fault.counter());
        if self.admission.take().is_some() {
            self.shared.count("sessions_ended");
        }
        let totals = self.entry.totals();
        let path = String::from_utf8_lossy(self.session.path());
        let (id, addr) = (self.entry.id, self.client_addr);
        let origin = self.served_by();
        let line = format_args!(
            "{id}: {addr} {path} from {origin}: ended: {fault}; {} packets, {} bytes, {} lost \
             before us, {} dropped",
            totals.packets,
            totals.bytes,
            totals.lost,
            totals.drops.lost(),
        );
        let bad = fault.whose() == Whose::Origin;
        let more = match (bad, totals.packets) {
            (false, 0) => None,
            (true, 0) => seldom::once_a_minute(fault.counter(), &origin),
            _ => seldom::paced(fault.counter()),
        };
        match more {
            Some(more) if bad => warn!("{line}{more}"),
            Some(more) => info!("{line}{more}"),
            None => debug!("{line}"),
        }
    }

    /// The origin, for the log: also the one that has hung up meanwhile, or never was.
    fn served_by(&self) -> String {
        match self.session.origin_name() {
            "" => {
                let last = lock(&self.entry.facts).served_by.clone();
                if last.is_empty() { "no origin".into() } else { last }
            }
            name => name.to_owned(),
        }
    }

    pub(super) fn finish(&mut self, token: Token, worker: &Worker) {
        self.drop_origin(token, worker);
        if let Some(client) = self.client.take() {
            worker.close(token, client);
        }
        HERE.with_borrow_mut(|here| here.remove(&self.entry.id));
        worker.release(token);
    }

    pub(super) fn route_endpoints(&self) -> Endpoints {
        let route = self.session.route().and_then(|at| self.session.table().routes().get(at));
        route.map_or(Endpoints::Learn, |route| route.endpoints)
    }

    /// Puts what `sessions` shows where the control thread can see it.
    pub(super) fn publish(&self) {
        let session = &self.session;
        if matches!(session.state(), State::Playing | State::Recording) {
            self.place.plays();
        }
        let first = session.tracks().iter().next().map(|track| track.plan);
        let name = |leg: Option<&'static str>| leg.unwrap_or("-");
        let mut facts = lock(&self.entry.facts);
        let Facts { status, served_by, .. } = &mut *facts;
        if !session.origin_name().is_empty() && served_by != session.origin_name() {
            session.origin_name().clone_into(served_by);
        }
        // Told after each message: into the strings that are there.
        String::from_utf8_lossy(session.path()).as_ref().clone_into(&mut status.path);
        for (text, place) in [
            (session.user_agent(), &mut status.user_agent),
            (session.origin_name(), &mut status.origin),
            (session.state().name(), &mut status.state),
            (name(first.as_ref().map(|plan| plan.client.name())), &mut status.client_transport),
            (name(first.as_ref().map(|plan| plan.origin.name())), &mut status.origin_transport),
        ] {
            text.clone_into(place);
        }
        status.tracks = u32::try_from(session.tracks().len()).unwrap_or(0);
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}
