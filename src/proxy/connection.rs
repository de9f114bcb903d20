//! Drives one [`Session`]: two TCP sockets, the sockets of its tracks, one timer.
//!
//! A connection lives on one worker from accept to end. The worker calls it when a socket is ready
//! or its timer fires; whatever happened, [`Inner::settle`] drains the session's outputs, writes
//! what waits and says what to wait for next. Reads go into the worker's buffer; only an unfinished
//! rest of a message stays with the connection.
//!
//! Not in here: what the messages mean ([`crate::session`]).

use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};
use std::{
    collections::HashMap,
    io::{self, IoSlice, Read, Write},
    net::TcpStream,
    rc::{Rc, Weak},
    sync::Arc,
};

use log::{debug, info, warn};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{
    shared::{Admission, Entry, Shared, lock},
    tracks::{Peers, Place, TrackSockets},
};
use crate::{
    auth::{client::Signer, server::Decision},
    clock::Instant,
    config::{Auth, Endpoints},
    control::model::SessionStatus,
    origin::{Keepalive, Key, NoOrigin, Outcome, Reservation},
    pipe::{Driven, Hold, Interest, Ready, Token, Worker},
    rtsp::{Head, Method, framing::Unit, url::Base},
    session::{
        Bounds, Fault, Feed, FrameRoute, Inbox, Input, OriginLink, Output, Session, Side, Sight,
        Surroundings, Whose,
    },
};

/// Source numbers of the two TCP sockets.
const CLIENT: u8 = 0;
const ORIGIN: u8 = 1;

/// How long an ended connection may take to write its last answers and to hear TEARDOWN's.
const LINGER: Duration = Duration::from_secs(1);

/// Reads in a row from one socket before the others have their turn.
const READS_PER_TURN: usize = 4;

thread_local! {
    /// The connections of this worker, so that an operator can close one.
    static HERE: RefCell<HashMap<u64, Weak<Connection>>> = RefCell::default();
}

/// One client connection on its worker.
pub(super) struct Connection {
    inner: RefCell<Inner>,
    token: Cell<Option<Token>>,
}

struct Inner {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    session: Session,
    generation: u64,
    client: TcpStream,
    client_addr: SocketAddr,
    local_ip: IpAddr,
    inbox: Inbox,
    client_open: bool,
    client_interest: Interest,
    origin: Option<OriginSide>,
    tracks: TrackSockets,
    reservation: Option<Reservation>,
    admission: Option<Admission>,
    half_open: bool,
    /// Counts the connection in its worker's load.
    _seat: Hold,
    head_since: Option<Instant>,
    closing: Option<Instant>,
    armed: Option<Instant>,
}

struct OriginSide {
    stream: TcpStream,
    inbox: Inbox,
    interest: Interest,
    /// Until when it must be connected; none once it is.
    connecting: Option<Instant>,
    local_ip: IpAddr,
    peer_ip: IpAddr,
}

/// Takes up a connection that was accepted; called on its worker.
pub(super) fn begin(
    shared: Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    seat: Hold,
    worker: &Worker,
) {
    if let Err(error) = try_begin(&shared, stream, addr, seat, worker) {
        shared.half_open.fetch_sub(1, Relaxed);
        shared.count("connections_failed");
        debug!("{addr}: connection could not be taken up: {error}");
    }
}

fn try_begin(
    shared: &Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    seat: Hold,
    worker: &Worker,
) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let generation = shared.generation();
    let config = &generation.config;
    let advertised = config.gateway.advertise.unwrap_or(local.ip().to_canonical());
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    let authority = SocketAddr::new(advertised, local.port());
    let around = Surroundings {
        client_ip: addr.ip().to_canonical(),
        local_ip: advertised,
        authority: format!("rtsp://{authority}").into_bytes(),
        via: config.gateway.via.as_str().to_owned(),
        answer_timeout: seconds(config.limits.answer_timeout_s),
        idle_timeout: seconds(config.limits.idle_timeout_s),
        silence_timeout: seconds(config.limits.silence_timeout_s),
        media_queue: Bounds {
            bytes: usize::from(config.limits.media_queue_kib) * 1024,
            age: Duration::from_millis(config.limits.media_queue_ms.into()),
        },
    };
    let now = worker.now();
    let entry = shared.enter(addr, worker.id());
    let inner = Inner {
        shared: Arc::clone(shared),
        entry: Arc::clone(&entry),
        session: Session::new(around, Arc::clone(&generation.table), now),
        generation: generation.number,
        client: stream,
        client_addr: addr,
        local_ip: local.ip().to_canonical(),
        inbox: Inbox::default(),
        client_open: true,
        client_interest: Interest::Read,
        origin: None,
        tracks: TrackSockets::default(),
        reservation: None,
        admission: None,
        half_open: true,
        _seat: seat,
        head_since: Some(now),
        closing: None,
        armed: None,
    };
    let connection = Rc::new(Connection { inner: RefCell::new(inner), token: Cell::new(None) });
    let token = worker.adopt(Rc::clone(&connection) as Rc<dyn Driven>);
    connection.token.set(Some(token));
    let mut inner = connection.inner.borrow_mut();
    if let Err(error) = worker.register(token, CLIENT, &inner.client, Interest::Read) {
        // `leave` runs when the last reference drops, here or in `release`.
        drop(inner);
        worker.release(token);
        return Err(error);
    }
    HERE.with_borrow_mut(|here| here.insert(entry.id, Rc::downgrade(&connection)));
    inner.settle(token, worker);
    Ok(())
}

/// Ends a session for a reason of the operator's; called on its worker.
pub(super) fn close(id: u64, fault: Fault, worker: &Worker) {
    let found = HERE.with_borrow(|here| here.get(&id).and_then(Weak::upgrade));
    let Some(connection) = found else { return };
    let Some(token) = connection.token.get() else { return };
    let mut inner = connection.inner.borrow_mut();
    inner.session.handle(Input::End(fault), worker.now());
    inner.settle(token, worker);
}

impl Driven for Connection {
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
        let Some(token) = self.token.get() else { return };
        let mut inner = self.inner.borrow_mut();
        match what.source {
            CLIENT => {
                if what.readable {
                    inner.read_client(token, worker);
                }
            }
            ORIGIN => inner.origin_ready(what, token, worker),
            udp => inner.read_udp(udp, token, worker),
        }
        inner.settle(token, worker);
    }

    fn timeout(self: Rc<Self>, worker: &Worker) {
        let Some(token) = self.token.get() else { return };
        let mut inner = self.inner.borrow_mut();
        inner.armed = None;
        inner.tick(token, worker);
        inner.settle(token, worker);
    }
}

impl Inner {
    fn read_client(&mut self, token: Token, worker: &Worker) {
        for _ in 0..READS_PER_TURN {
            if self.closing.is_none() && !self.session.wants(Side::Client) {
                return;
            }
            let mut scratch = worker.scratch().borrow_mut();
            match self.client.read(&mut scratch.stream[..]) {
                Ok(0) => {
                    self.client_open = false;
                    drop(scratch);
                    self.session.handle(Input::SideClosed(Side::Client), worker.now());
                    return;
                }
                Ok(_) if self.closing.is_some() => {}
                Ok(got) => {
                    let full = got == scratch.stream.len();
                    self.feed_client(&scratch.stream[..got], token, worker);
                    if !full {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    debug!("{}: read failed: {error}", self.entry.id);
                    self.client_open = false;
                    drop(scratch);
                    self.session.handle(Input::SideClosed(Side::Client), worker.now());
                    return;
                }
            }
        }
    }

    /// Hands bytes of the client to the session, message by message, since each message may need
    /// an answer of ours before the next one is looked at.
    fn feed_client(&mut self, mut fresh: &[u8], token: Token, worker: &Worker) {
        loop {
            let now = worker.now();
            let (mut message, mut frames) = (false, Frames::default());
            let Self { session, inbox, tracks, .. } = self;
            let fed = inbox.feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    frames.relay(Side::Client, channel, &bytes[4..], session, tracks, now);
                    Feed::Go
                }
                Unit::Message { head, .. } => {
                    session.message(Side::Client, bytes, head, now);
                    message = true;
                    Feed::Pause
                }
                Unit::Blank { .. } => Feed::Go,
            });
            frames.count(&self.entry, worker);
            if let Err(error) = fed {
                debug!("{}: {error}", self.entry.id);
                self.session.framing_lost(error.status(), now);
                return;
            }
            if !message {
                break;
            }
            if core::mem::take(&mut self.half_open) {
                self.shared.half_open.fetch_sub(1, Relaxed);
            }
            self.take_up_config();
            self.drain(token, worker);
            fresh = &[];
            if self.inbox.is_empty() || self.closing.is_some() || !self.session.wants(Side::Client)
            {
                break;
            }
        }
        self.head_since = match (self.inbox.is_empty(), self.head_since) {
            (true, _) => None,
            (false, None) => Some(worker.now()),
            (false, since) => since,
        };
    }

    fn take_up_config(&mut self) {
        let number = self.shared.generation_number();
        if number != self.generation {
            self.generation = number;
            let generation = self.shared.generation();
            self.session.set_table(Arc::clone(&generation.table));
        }
    }

    fn origin_ready(&mut self, what: Ready, token: Token, worker: &Worker) {
        let Some(origin) = &mut self.origin else { return };
        if origin.connecting.is_some() {
            if what.writable || what.readable {
                let error = SockRef::from(&origin.stream).take_error();
                self.connect_done(error.and_then(|e| e.map_or(Ok(()), Err)), token, worker);
            }
            return;
        }
        if what.readable {
            self.read_origin(token, worker);
        }
    }

    fn read_origin(&mut self, token: Token, worker: &Worker) {
        for _ in 0..READS_PER_TURN {
            let Some(origin) = &mut self.origin else { return };
            let mut scratch = worker.scratch().borrow_mut();
            match origin.stream.read(&mut scratch.stream[..]) {
                Ok(0) => {
                    drop(scratch);
                    self.session.handle(Input::SideClosed(Side::Origin), worker.now());
                    self.drain(token, worker);
                    return;
                }
                Ok(got) => {
                    let full = got == scratch.stream.len();
                    self.feed_origin(&scratch.stream[..got], token, worker);
                    if !full {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    debug!("{}: read from the origin failed: {error}", self.entry.id);
                    drop(scratch);
                    self.session.handle(Input::SideClosed(Side::Origin), worker.now());
                    self.drain(token, worker);
                    return;
                }
            }
        }
    }

    fn feed_origin(&mut self, mut fresh: &[u8], token: Token, worker: &Worker) {
        loop {
            let now = worker.now();
            let (mut message, mut frames) = (false, Frames::default());
            let Self { session, origin: Some(origin), tracks, .. } = self else { return };
            let fed = origin.inbox.feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    frames.relay(Side::Origin, channel, &bytes[4..], session, tracks, now);
                    Feed::Go
                }
                Unit::Message { head, .. } => {
                    session.message(Side::Origin, bytes, head, now);
                    message = true;
                    Feed::Pause
                }
                Unit::Blank { .. } => Feed::Go,
            });
            frames.count(&self.entry, worker);
            if let Err(error) = fed {
                warn!("{}: origin: {error}", self.entry.id);
                self.session.origin_framing_lost(now);
                self.drain(token, worker);
                return;
            }
            if !message {
                return;
            }
            self.drain(token, worker);
            fresh = &[];
            if self.origin.as_ref().is_none_or(|origin| origin.inbox.is_empty()) {
                return;
            }
        }
    }

    fn read_udp(&mut self, source: u8, token: Token, worker: &Worker) {
        self.tracks.receive(source, &mut self.session, &self.entry, worker, token);
    }

    fn tick(&mut self, token: Token, worker: &Worker) {
        let now = worker.now();
        if !self.tracks.report(&mut self.session) {
            self.session.handle(Input::End(Fault::NoPorts), now);
        }
        let late = self.origin.as_ref().and_then(|o| o.connecting).is_some_and(|at| at <= now);
        if late {
            self.connect_done(Err(io::ErrorKind::TimedOut.into()), token, worker);
        }
        let limit = {
            let generation = self.shared.generation();
            Duration::from_secs(generation.config.limits.head_timeout_s.into())
        };
        // Only an unfinished message counts: one that waits for its turn is not the client's fault.
        if self.head_since.is_some_and(|since| since + limit <= now)
            && self.session.wants(Side::Client)
        {
            self.session.handle(Input::End(Fault::SlowHead), now);
        }
        self.session.tick(now);
    }

    /// After whatever happened: does what the session wants done, writes what waits, and says what
    /// to wait for.
    fn settle(&mut self, token: Token, worker: &Worker) {
        self.drain(token, worker);
        if !self.inbox.is_empty() && self.closing.is_none() && self.session.wants(Side::Client) {
            self.feed_client(&[], token, worker);
            self.drain(token, worker);
        }
        self.flush_origin(token, worker);
        self.flush_client(token, worker);
        self.drain(token, worker);
        let now = worker.now();
        if let Some(until) = self.closing {
            let written = !self.client_open || self.session.outbox(Side::Client).is_empty();
            if written && self.client_open {
                // Half closed, so that the last answer is not overtaken by a reset.
                let _ = self.client.shutdown(std::net::Shutdown::Write);
            }
            let heard = self.origin.is_none() || !self.session.lingers();
            if (written && !self.client_open && heard) || now >= until {
                return self.finish(token, worker);
            }
        }
        self.arm(token, worker);
    }

    fn arm(&mut self, token: Token, worker: &Worker) {
        let mut next = self.session.deadline().map(|(at, _)| at);
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        if let Some(until) = self.closing {
            sooner(until);
        }
        if let Some(at) = self.origin.as_ref().and_then(|origin| origin.connecting) {
            sooner(at);
        }
        if let Some(since) = self.head_since
            && self.closing.is_none()
        {
            // The bound is read when it fires, a quarter of a second late at most.
            sooner((since + Duration::from_secs(1)).max(worker.now() + Duration::from_millis(250)));
        }
        // Timers only move later while media flows: an early call costs less than moving it each
        // time.
        let due = match (self.armed, next) {
            (Some(armed), Some(next)) if armed <= next => return,
            (_, next) => next,
        };
        self.armed = due;
        worker.wake_at(token, due);
    }

    fn drain(&mut self, token: Token, worker: &Worker) {
        let mut any = false;
        while let Some(output) = self.session.poll_output() {
            any = true;
            self.carry_out(output, token, worker);
        }
        if any {
            self.publish();
        }
    }

    fn carry_out(&mut self, output: Output, token: Token, worker: &Worker) {
        let now = worker.now();
        match output {
            Output::Authenticate(scheme) => {
                let verdict = self.authenticate(scheme, now);
                self.session.handle(verdict, now);
            }
            Output::Connect { route, path, exclude } => {
                self.connect(route, &path, &exclude, token, worker);
            }
            Output::Bind { track, client, origin, first } => {
                let verdict = self.bind(track, client, origin, first);
                self.session.handle(verdict, now);
            }
            Output::Open(track, plan) => {
                let endpoints = self.route_endpoints();
                let origin = self.origin.as_ref().map_or(self.local_ip, |origin| origin.peer_ip);
                let client = self.client_addr.ip().to_canonical();
                let peers = Peers { client, origin, endpoints };
                let place = Place { shared: &self.shared, entry: &self.entry, worker, token };
                let opened = self.tracks.open(track, plan, peers, place);
                if let Err(error) = opened {
                    warn!("{}: track {track} cannot be relayed: {error}", self.entry.id);
                    self.session.handle(Input::End(Fault::NoPorts), now);
                }
            }
            Output::Close(track) => self.tracks.close(track, worker, token),
            Output::DropOrigin => self.drop_origin(token, worker),
            Output::Seen(index, sight) => self.seen(index, sight, now),
            Output::Note(fault) => self.note(fault),
            Output::End(fault) => self.ended(fault, now),
        }
    }

    fn authenticate(&self, scheme: Auth, now: Instant) -> Input {
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
                Input::Granted
            }
            Decision::Challenge(values) => {
                self.shared.count("auth_challenges");
                Input::Challenge(values)
            }
            Decision::Refused => Input::Denied,
        }
    }

    fn connect(
        &mut self,
        route: usize,
        path: &[u8],
        exclude: &[usize],
        token: Token,
        worker: &Worker,
    ) {
        let now = worker.now();
        self.drop_origin(token, worker);
        let attempt = u32::try_from(exclude.len()).unwrap_or(u32::MAX);
        let key = Key::new(self.client_addr.ip().to_canonical(), path, attempt);
        let picked = self.session.table().pick(route, &key, exclude, now);
        let reservation = match picked {
            Ok(reservation) => reservation,
            Err(none) => {
                let fault = match none {
                    NoOrigin::AllDown { retry_in } => Fault::NoOrigin { retry_in },
                    NoOrigin::AllFull => Fault::OriginsFull,
                    NoOrigin::None => Fault::OriginGone,
                };
                return self.session.handle(Input::NoOrigin(fault), now);
            }
        };
        let index = reservation.index();
        let Some(addr) = reservation.addr() else {
            return self.session.handle(Input::ConnectFailed(index), now);
        };
        self.reservation = Some(reservation);
        match start_connect(addr) {
            Ok(stream) => {
                let timeout = {
                    let generation = self.shared.generation();
                    Duration::from_secs(generation.config.limits.answer_timeout_s.into())
                };
                let registered = worker.register(token, ORIGIN, &stream, Interest::Write);
                let peer_ip = addr.ip().to_canonical();
                self.origin = Some(OriginSide {
                    stream,
                    inbox: Inbox::default(),
                    interest: Interest::Write,
                    connecting: Some(now + timeout.min(CONNECT_TIMEOUT)),
                    local_ip: self.local_ip,
                    peer_ip,
                });
                if let Err(error) = registered {
                    self.connect_done(Err(error), token, worker);
                }
            }
            Err(error) => self.connect_failed(index, &error, now),
        }
    }

    fn connect_done(&mut self, result: io::Result<()>, token: Token, worker: &Worker) {
        let now = worker.now();
        let Some(reservation) = &self.reservation else { return };
        let index = reservation.index();
        let local = self.origin.as_ref().map(|origin| origin.stream.local_addr());
        let (Ok(()), Some(Ok(local)), Some(origin)) = (&result, local, &mut self.origin) else {
            self.drop_socket(token, worker);
            let error = result.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into());
            return self.connect_failed(index, &error, now);
        };
        origin.connecting = None;
        origin.local_ip = local.ip().to_canonical();
        let _ = origin.stream.set_nodelay(true);
        let generation = self.shared.generation();
        let signer = reservation
            .credentials()
            .and_then(|name| generation.credentials(name))
            .map(|credentials| Signer::new(credentials, self.shared.seed ^ self.entry.id));
        let link = OriginLink {
            index,
            name: reservation.name().to_owned(),
            base: Base {
                authority: reservation.authority().to_vec(),
                path: reservation.path().to_vec(),
            },
            signer,
            keepalive: Some(match reservation.keepalive() {
                Keepalive::GetParameter => Method::GetParameter,
                Keepalive::Options => Method::Options,
                Keepalive::SetParameter => Method::SetParameter,
            }),
        };
        self.session.handle(Input::Connected(Box::new(link)), now);
        self.set_origin_interest(token, worker);
    }

    fn connect_failed(&mut self, index: usize, error: &io::Error, now: Instant) {
        if let Some(reservation) = self.reservation.take() {
            warn!("{}: origin {} cannot be reached: {error}", self.entry.id, reservation.name());
            // Our own lack of descriptors says nothing about the origin.
            if !is_local_shortage(error) {
                reservation.observe(Outcome::ConnectFailed, now);
            }
        }
        self.shared.count("origin_connect_failed");
        if is_local_shortage(error) {
            self.session.handle(Input::NoOrigin(Fault::NoPorts), now);
        } else {
            self.session.handle(Input::ConnectFailed(index), now);
        }
    }

    fn bind(&mut self, track: u8, client: bool, origin: bool, first: bool) -> Input {
        if first && self.admission.is_none() {
            match self.shared.admit(self.client_addr.ip().to_canonical()) {
                Ok(admission) => self.admission = Some(admission),
                Err(fault) => return Input::NotBound(fault),
            }
        }
        let client_ip = client.then_some(self.local_ip);
        let origin_ip = origin.then(|| match &self.origin {
            Some(origin) if origin.connecting.is_none() => origin.local_ip,
            // Not connected yet (SETUP came first): any address will do.
            _ => unspecified(self.local_ip),
        });
        match self.tracks.bind(&self.shared, track, client_ip, origin_ip) {
            Ok((client, origin)) => Input::Bound { client, origin },
            Err(error) => {
                warn!("{}: no ports for track {track}: {error}", self.entry.id);
                Input::NotBound(Fault::NoPorts)
            }
        }
    }

    fn seen(&mut self, index: usize, sight: Sight, now: Instant) {
        let outcome = match sight {
            Sight::Answered(after) => {
                let rtt_us = u32::try_from(after.as_micros()).unwrap_or(u32::MAX);
                Outcome::Answered { rtt_us }
            }
            Sight::Silent => Outcome::AnswerTimeout,
            Sight::BadReply => Outcome::BadReply,
            Sight::ServerError(status) => Outcome::ServerError(status),
            Sight::Closed => Outcome::ConnectFailed,
            Sight::MediaSilent => Outcome::MediaSilent,
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
        if let Some(origin) = self.session.table().origins().get(index) {
            origin.observe(outcome, now);
        }
    }

    fn note(&self, fault: Fault) {
        self.shared.count(fault.counter());
        let id = self.entry.id;
        match fault.whose() {
            Whose::Client => debug!("{id}: {}: {fault}", self.client_addr),
            Whose::Origin => warn!("{id}: {}: {fault}", self.session.origin_name()),
            Whose::Local => warn!("{id}: {fault}"),
        }
    }

    fn ended(&mut self, fault: Fault, now: Instant) {
        self.closing = Some(now + LINGER);
        self.shared.count(fault.counter());
        if self.admission.take().is_some() {
            self.shared.count("sessions_ended");
        }
        let totals = self.entry.totals();
        let path = String::from_utf8_lossy(self.session.path()).into_owned();
        let (id, addr, origin) = (self.entry.id, self.client_addr, self.session.origin_name());
        let line = format!(
            "{id}: {addr} {path} from {origin}: ended: {fault}; {} packets, {} bytes, {} lost \
             before us, {} dropped",
            totals.packets, totals.bytes, totals.lost, totals.dropped,
        );
        match fault.whose() {
            Whose::Origin => warn!("{line}"),
            _ if totals.packets > 0 => info!("{line}"),
            _ => debug!("{line}"),
        }
    }

    fn finish(&mut self, token: Token, worker: &Worker) {
        self.drop_origin(token, worker);
        let _ = worker.deregister(token, &self.client);
        HERE.with_borrow_mut(|here| here.remove(&self.entry.id));
        worker.release(token);
    }

    fn drop_origin(&mut self, token: Token, worker: &Worker) {
        self.drop_socket(token, worker);
        self.reservation = None;
    }

    fn drop_socket(&mut self, token: Token, worker: &Worker) {
        if let Some(origin) = self.origin.take() {
            let _ = worker.deregister(token, &origin.stream);
        }
    }

    fn flush_client(&mut self, token: Token, worker: &Worker) {
        if !self.client_open {
            return;
        }
        let outbox = self.session.outbox(Side::Client);
        let wrote = write(&self.client, outbox);
        let waits = !outbox.is_empty();
        match wrote {
            Ok(0) => {}
            Ok(_) => self.session.alive(Side::Client, worker.now()),
            Err(error) => {
                debug!("{}: write failed: {error}", self.entry.id);
                self.client_open = false;
                self.session.handle(Input::SideClosed(Side::Client), worker.now());
            }
        }
        let reads = self.closing.is_some() || self.session.wants(Side::Client);
        let interest = interest(reads && self.client_open, waits && self.client_open);
        if interest != self.client_interest {
            self.client_interest = interest;
            let _ = worker.modify(token, CLIENT, &self.client, interest);
        }
    }

    fn flush_origin(&mut self, token: Token, worker: &Worker) {
        let Some(origin) = &self.origin else { return };
        if origin.connecting.is_some() {
            return;
        }
        if let Err(error) = write(&origin.stream, self.session.outbox(Side::Origin)) {
            debug!("{}: write to the origin failed: {error}", self.entry.id);
            self.session.handle(Input::SideClosed(Side::Origin), worker.now());
            self.drain(token, worker);
        }
        self.set_origin_interest(token, worker);
    }

    fn set_origin_interest(&mut self, token: Token, worker: &Worker) {
        let waits = !self.session.outbox(Side::Origin).is_empty();
        let Some(origin) = &mut self.origin else { return };
        let interest = interest(true, waits);
        if interest != origin.interest {
            origin.interest = interest;
            let _ = worker.modify(token, ORIGIN, &origin.stream, interest);
        }
    }

    fn route_endpoints(&self) -> Endpoints {
        let route = self.session.route().and_then(|at| self.session.table().routes().get(at));
        route.map_or(Endpoints::Learn, |route| route.endpoints)
    }

    /// Puts what `sessions` shows where the control thread can see it.
    fn publish(&self) {
        let session = &self.session;
        let first = session.tracks().iter().next().map(|track| track.plan);
        let name = |leg: Option<&str>| leg.unwrap_or("-").to_owned();
        let mut facts = lock(&self.entry.facts);
        facts.status = SessionStatus {
            user_agent: session.user_agent().to_owned(),
            path: String::from_utf8_lossy(session.path()).into_owned(),
            origin: session.origin_name().to_owned(),
            state: session.state().name().to_owned(),
            client_transport: name(first.as_ref().map(|plan| plan.client.name())),
            origin_transport: name(first.as_ref().map(|plan| plan.origin.name())),
            tracks: u32::try_from(session.tracks().len()).unwrap_or(0),
            ..SessionStatus::default()
        };
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.half_open {
            self.shared.half_open.fetch_sub(1, Relaxed);
        }
        self.shared.leave(&self.entry);
    }
}

/// Longest time for a TCP connection to an origin; a dead host is found out before a player gives
/// up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn start_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

fn is_local_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL)
    )
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => core::net::Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => core::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn interest(read: bool, write: bool) -> Interest {
    match (read, write) {
        (true, true) => Interest::Both,
        (true, false) => Interest::Read,
        (false, true) => Interest::Write,
        (false, false) => Interest::None,
    }
}

/// Writes what waits until the socket takes no more; how much it took.
fn write(mut stream: &TcpStream, outbox: &mut crate::session::Outbox) -> io::Result<usize> {
    let mut total = 0;
    while !outbox.is_empty() {
        let slices = outbox.slices().map(IoSlice::new);
        match stream.write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(wrote) => {
                outbox.wrote(wrote);
                total += wrote;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(total)
}

/// Frames of one read.
#[derive(Default)]
struct Frames {
    relayed: u64,
    bytes: u64,
    dropped: u64,
}

impl Frames {
    fn relay(
        &mut self,
        from: Side,
        channel: u8,
        payload: &[u8],
        session: &mut Session,
        tracks: &mut TrackSockets,
        now: Instant,
    ) {
        match session.frame(from, channel, payload, now) {
            Some(FrameRoute::Frame(there)) => {
                let outbox = session.outbox(from.other());
                let before = outbox.dropped();
                outbox.push_frame(there, payload, now);
                self.dropped += outbox.dropped() - before;
            }
            Some(FrameRoute::Datagram(track, flow)) => tracks.send(track, flow, payload, now),
            None => {
                self.dropped += 1;
                return;
            }
        }
        self.relayed += 1;
        self.bytes += payload.len() as u64;
    }

    fn count(&self, entry: &Entry, worker: &Worker) {
        if self.relayed + self.dropped > 0 {
            entry.frames.fetch_add(self.relayed, Relaxed);
            entry.frame_bytes.fetch_add(self.bytes, Relaxed);
            entry.dropped.fetch_add(self.dropped, Relaxed);
            worker.count_packets(self.relayed);
        }
    }
}
