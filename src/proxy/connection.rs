//! Drives one [`Session`]: two TCP sockets, the sockets of its tracks, one timer.
//!
//! A connection lives on one worker from accept to end. The worker calls it when a socket is ready,
//! its timer fires or its next turn has come ([`turn`]); whatever happened, [`Inner::settle`] drains
//! the session's outputs, writes what waits and says what to wait for next. Reads go into the worker's
//! buffer; only an unfinished rest of a message stays with the connection, and what waits for a turn.
//!
//! Long because a connection is one life: its sockets, its timer and its end belong together.
//!
//! Not in here: what the messages mean ([`crate::session`]).

mod frames;
mod hooks;
mod later;
mod login;
mod origin_side;
mod outputs;
mod turn;

use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{
    collections::HashMap,
    io::{self, IoSlice, Write},
    net::TcpStream,
    rc::{Rc, Weak},
    sync::Arc,
};

use log::debug;
use socket2::SockRef;

pub(super) use self::origin_side::CONNECT_TIMEOUT;
use self::{frames::Followed, later::Later};
use super::{
    askers::Asker,
    places::{Admission, OriginSocket, Place, TrackPlace},
    shared::{Entry, Shared},
    tracks::TrackSockets,
};
use crate::{
    auth::Verifier,
    clock::Instant,
    limits::ASKING_RETRY_MS,
    origin::Reservation,
    pipe::{At, Driven, Hold, Interest, Ready, Token, Worker},
    session::{Bounds, Fault, IdSource, Inbox, Input, Session, Side, Surroundings},
};

/// Source numbers of the two TCP sockets.
const CLIENT: u8 = 0;
const ORIGIN: u8 = 1;

/// How long an ended connection may take to write its last answers and to hear TEARDOWN's.
const LINGER: Duration = Duration::from_secs(1);

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
    /// The one of that generation: by it grants were given.
    verifier: Arc<Verifier>,
    /// None while the session waits for its client, and when the client was handed over.
    client: Option<TcpStream>,
    client_addr: SocketAddr,
    local: At,
    local_port: u16,
    inbox: Inbox,
    followed: Followed,
    client_open: bool,
    /// It has closed its half of the connection: there is nothing more to read.
    client_done: bool,
    client_interest: Interest,
    origin: Option<OriginSide>,
    tracks: TrackSockets,
    reservation: Option<Reservation>,
    /// Counts the connection to the origin among those of this client that only ask.
    asker: Option<Asker>,
    /// A connection that waits until this client may ask by one more.
    put_off: Option<Asked>,
    admission: Option<Admission>,
    place: Place,
    track_places: Vec<(u8, TrackPlace)>,
    later: Option<Later>,
    /// Of the request in question.
    wrong_user: Option<String>,
    wrong_passwords: u8,
    /// Until when others may give way to what is asked for.
    waited: Option<Instant>,
    /// Counts the connection in its worker's load.
    _seat: Hold,
    head_since: Option<Instant>,
    closing: Option<Instant>,
    armed: Option<Instant>,
}

struct OriginSide {
    stream: TcpStream,
    inbox: Inbox,
    followed: Followed,
    interest: Interest,
    /// Until when it must be connected; none once it is.
    connecting: Option<Instant>,
    local: At,
    peer_ip: IpAddr,
    _counted: OriginSocket,
    /// It is the origin's own host, which may see signatures of ours.
    signs: bool,
    /// A redirect led here: what is met says nothing about the origin.
    elsewhere: bool,
}

/// The connection to an origin that a session asks for.
struct Asked {
    route: usize,
    path: Vec<u8>,
    exclude: Vec<usize>,
    /// The very origin that is wanted.
    again: Option<usize>,
    /// Where a redirect of that origin leads.
    elsewhere: Option<(Vec<u8>, u16)>,
    /// Until when it may wait for others of its client.
    until: Option<Instant>,
}

/// Takes up a connection that was accepted; called on its worker.
pub(super) fn begin(
    shared: Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    counted: (Hold, Place),
    worker: &Worker,
) {
    if let Err(error) = try_begin(&shared, stream, addr, counted, worker) {
        shared.count("connections_failed");
        debug!("{addr}: connection could not be taken up: {error}");
    }
}

fn try_begin(
    shared: &Arc<Shared>,
    stream: TcpStream,
    addr: SocketAddr,
    (seat, place): (Hold, Place),
    worker: &Worker,
) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let local = stream.local_addr()?;
    let generation = shared.generation();
    let config = &generation.config;
    let advertised = config.gateway.advertise.unwrap_or(local.ip().to_canonical());
    let seconds = |seconds: u16| Duration::from_secs(seconds.into());
    // A peer that acknowledges nothing is as dead as one that says nothing, and no later.
    let idle = seconds(config.limits.idle_timeout_s);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(idle).filter(|it| !it.is_zero()));
    let authority = SocketAddr::new(advertised, local.port());
    let entry = shared.enter(place.id, addr, worker.id());
    let around = Surroundings {
        client_ip: addr.ip().to_canonical(),
        local_ip: advertised,
        authority: format!("rtsp://{authority}").into_bytes(),
        pseudonym: generation.pseudonym.clone(),
        via_in_1_0: !config.gateway.via.is_empty(),
        ids: IdSource::new(shared.nonce_key, entry.id),
        answer_timeout: seconds(config.limits.answer_timeout_s),
        idle_timeout: seconds(config.limits.idle_timeout_s),
        silence_timeout: seconds(config.limits.silence_timeout_s),
        media_queue: Bounds {
            bytes: usize::from(config.limits.media_queue_kib) * 1024,
            age: Duration::from_millis(config.limits.media_queue_ms.into()),
        },
        detach: config.limits.detached_sessions,
        aliases: shared.aliases,
    };
    let now = worker.now();
    let inner = Inner {
        shared: Arc::clone(shared),
        entry: Arc::clone(&entry),
        session: Session::new(around, Arc::clone(&generation.table), now),
        generation: generation.number,
        verifier: Arc::clone(&generation.verifier),
        client: Some(stream),
        client_addr: addr,
        local: At::from(local),
        local_port: local.port(),
        inbox: Inbox::default(),
        followed: Followed::default(),
        client_open: true,
        client_done: false,
        client_interest: Interest::Read,
        origin: None,
        tracks: TrackSockets::default(),
        reservation: None,
        asker: None,
        put_off: None,
        admission: None,
        place,
        track_places: Vec::new(),
        later: None,
        wrong_user: None,
        wrong_passwords: 0,
        waited: None,
        _seat: seat,
        head_since: Some(now),
        closing: None,
        armed: None,
    };
    let connection = Rc::new(Connection { inner: RefCell::new(inner), token: Cell::new(None) });
    let token = worker.adopt(Rc::clone(&connection) as Rc<dyn Driven>);
    connection.token.set(Some(token));
    let mut inner = connection.inner.borrow_mut();
    let registered = match &inner.client {
        Some(client) => worker.register(token, CLIENT, client, Interest::Read),
        None => Ok(()),
    };
    if let Err(error) = registered {
        // `leave` runs when the last reference drops, here or in `release`.
        drop(inner);
        worker.release(token);
        return Err(error);
    }
    HERE.with_borrow_mut(|here| here.insert(entry.id, Rc::downgrade(&connection)));
    inner.settle(token, worker);
    Ok(())
}

/// A client came back to its session: its new connection, and what it has sent there, go to the
/// connection that drives the session; called on that one's worker.
fn come_back(id: u64, stream: TcpStream, bytes: &[u8], worker: &Worker) {
    let found = HERE.with_borrow(|here| here.get(&id).and_then(Weak::upgrade));
    let Some(connection) = found else { return };
    let Some(token) = connection.token.get() else { return };
    let mut inner = connection.inner.borrow_mut();
    if inner.closing.is_some() || worker.register(token, CLIENT, &stream, Interest::Read).is_err() {
        return; // the client sees its connection closed, as it would by a session that ended
    }
    inner.client = Some(stream);
    (inner.client_open, inner.client_done) = (true, false);
    inner.client_interest = Interest::Read;
    inner.session.handle(Input::Attached, worker.now());
    inner.work_off(Side::Client, bytes, token, worker);
    inner.settle(token, worker);
}

/// Connections between two sessions take up a newer configuration; called on their worker.
#[cfg(feature = "plugins")]
pub(super) fn rest(worker: &Worker) {
    let all: Vec<_> = HERE.with_borrow(|here| here.values().filter_map(Weak::upgrade).collect());
    for connection in all {
        let Some(token) = connection.token.get() else { continue };
        let mut inner = connection.inner.borrow_mut();
        inner.take_up_config();
        if inner.session.rest(worker.now()) {
            inner.settle(token, worker);
        }
    }
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

/// Ends a connection because others need what it takes; called on its worker. One without a session
/// is closed at once: what lingers would still be taken.
pub(super) fn send_away(id: u64, fault: Fault, worker: &Worker) {
    let found = HERE.with_borrow(|here| here.get(&id).and_then(Weak::upgrade));
    let Some(connection) = found else { return };
    let Some(token) = connection.token.get() else { return };
    let mut inner = connection.inner.borrow_mut();
    let holds = inner.admission.is_some();
    inner.session.handle(Input::End(fault), worker.now());
    if holds {
        return inner.settle(token, worker);
    }
    inner.drain(token, worker);
    inner.flush_client(token, worker);
    inner.finish(token, worker);
}

impl Driven for Connection {
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
        let Some(token) = self.token.get() else { return };
        let mut inner = self.inner.borrow_mut();
        match what.source {
            CLIENT => {
                if what.readable {
                    inner.read(Side::Client, token, worker);
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

    fn again(self: Rc<Self>, worker: &Worker) {
        let Some(token) = self.token.get() else { return };
        let mut inner = self.inner.borrow_mut();
        inner.again(token, worker);
        inner.settle(token, worker);
    }
}

impl Inner {
    /// No more is read from the client, nor written to it. A closed connection stays readable: what
    /// is still to be heard from the origin would be waited for at full speed.
    fn client_gone(&mut self, token: Token, worker: &Worker) {
        self.client_open = false;
        if let Some(client) = &self.client {
            let _ = worker.deregister(token, client);
        }
        self.session.handle(Input::SideClosed(Side::Client), worker.now());
    }

    fn take_up_config(&mut self) {
        let number = self.shared.generation_number();
        if number != self.generation {
            self.generation = number;
            let generation = self.shared.generation();
            let before = core::mem::replace(&mut self.verifier, Arc::clone(&generation.verifier));
            let same = |user: &str| self.verifier.knows_as(&before, user);
            self.session.end_of_users(same);
            self.session.set_table(Arc::clone(&generation.table));
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
        self.do_later(token, worker);
        let late = self.origin.as_ref().and_then(|o| o.connecting).is_some_and(|at| at <= now);
        if late {
            self.connect_done(Err(io::ErrorKind::TimedOut.into()), token, worker);
        }
        let limit = {
            let generation = self.shared.generation();
            Duration::from_secs(generation.config.limits.head_timeout_s.into())
        };
        self.try_put_off(token, worker);
        // Only an unfinished message counts: one that waits for its turn is not the client's fault.
        if self.head_since.is_some_and(|since| since + limit <= now)
            && self.session.wants(Side::Client)
            && !self.inbox.waits()
        {
            self.session.handle(Input::End(Fault::SlowHead), now);
        }
        self.session.tick(now);
    }

    /// After whatever happened: does what the session wants done, writes what waits, and says what
    /// to wait for.
    fn settle(&mut self, token: Token, worker: &Worker) {
        self.drain(token, worker);
        self.flush_client(token, worker);
        if self.client_done && self.client_open && !self.session.owes_client() {
            self.client_gone(token, worker);
        }
        self.drain(token, worker);
        self.flush_origin(token, worker);
        self.drain(token, worker);
        let kept_bytes = self.inbox.memory_bytes() + self.session.kept_bytes();
        if let Some(victim) = self.place.keeps(kept_bytes) {
            self.shared.send_away(victim, Fault::RequestsKept);
        }
        let now = worker.now();
        if let Some(until) = self.closing {
            let written = !self.client_open || self.session.outbox(Side::Client).is_empty();
            if written && self.client_open {
                // Half closed, so that the last answer is not overtaken by a reset.
                if let Some(client) = &self.client {
                    let _ = client.shutdown(std::net::Shutdown::Write);
                }
            }
            let heard = self.origin.is_none() || !self.session.lingers();
            if (written && !self.client_open && heard) || now >= until {
                return self.finish(token, worker);
            }
        }
        self.inbox.tidy();
        self.watch_client(token, worker);
        self.watch_origin(token, worker);
        // Answers that went out now may have held up requests that came in long ago, and no event
        // will tell.
        if self.wants_turn(Side::Client) || self.wants_turn(Side::Origin) {
            worker.want_turn(token);
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
        if self.put_off.is_some() && self.closing.is_none() {
            sooner(worker.now() + Duration::from_millis(ASKING_RETRY_MS));
        }
        if let Some(later) = &self.later {
            sooner(later.at);
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

    fn flush_client(&mut self, token: Token, worker: &Worker) {
        if !self.client_open {
            return;
        }
        let Some(client) = &self.client else { return };
        let outbox = self.session.outbox(Side::Client);
        match write(client, outbox) {
            Ok(0) => {}
            Ok(_) => self.session.alive(Side::Client, worker.now()),
            Err(error) => {
                debug!("{}: write failed: {error}", self.entry.id);
                self.client_gone(token, worker);
            }
        }
    }

    /// Says what to wait for on the client's connection.
    fn watch_client(&mut self, token: Token, worker: &Worker) {
        let Some(client) = self.client.as_ref().filter(|_| self.client_open) else { return };
        let wants = self.session.wants(Side::Client) && !self.inbox.waits();
        let reads = self.closing.is_some() || wants;
        let waits = !self.session.outbox(Side::Client).is_empty();
        let interest = interest(reads && !self.client_done, waits);
        // What fails is tried again when the connection is next looked after.
        if interest != self.client_interest
            && worker.modify(token, CLIENT, client, interest).is_ok()
        {
            self.client_interest = interest;
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.leave(&self.entry);
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
        let wrote = match outbox.slices() {
            // Nearly always; `send` costs less than `writev`.
            [one, [], ..] => stream.write(one),
            slices => stream.write_vectored(&slices.map(IoSlice::new)),
        };
        match wrote {
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
