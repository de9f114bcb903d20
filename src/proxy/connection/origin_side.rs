//! The origin's side of a connection: connecting without blocking, reading, writing, letting go.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use std::{io, net::TcpStream};

use log::{debug, warn};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{Asked, Followed, Inner, ORIGIN, OriginSide, interest, later::Task, write};
use crate::{
    auth::Signer,
    clock::Instant,
    limits::TCP_UNSENT_MAX_BYTES,
    logger::seldom,
    origin::{Keepalive, Key, NoOrigin, Origin, Outcome, Purpose, client_mark},
    pipe::{At, Interest, Ready, Token, Worker},
    proxy::{places::OriginSocket, zones},
    rtsp::{Method, url::Base},
    session::{Fault, Inbox, Input, OriginLink, Side},
};

/// Longest time for a TCP connection to an origin; a dead host is found out before a player gives
/// up.
pub(in crate::proxy) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

fn start_connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    let _ = socket.set_tcp_notsent_lowat(TCP_UNSENT_MAX_BYTES);
    match socket.connect(&addr.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

impl Inner {
    pub(super) fn connect(&mut self, asked: Asked, token: Token, worker: &Worker) {
        let now = worker.now();
        self.drop_origin(token, worker);
        if self.shared.is_short_of_descriptors(1) {
            let short = Fault::NoDescriptors;
            if !self.wait_for_room(Task::Connect(asked), short, now) {
                self.session.handle(Input::NoOrigin(short), now);
            }
            return;
        }
        let Asked { route, path, exclude, .. } = &asked;
        let route = *route;
        let places = self.session.holds_place();
        let purpose = if places { Purpose::Session } else { Purpose::Asks };
        let attempt = u32::try_from(exclude.len()).unwrap_or(u32::MAX);
        let key = Key::new(self.client_addr.ip().to_canonical(), path, attempt);
        // A redirect to another origin of the configuration is to that one, with its credentials.
        let known = asked.elsewhere.as_ref();
        let known = known.and_then(|(host, port)| self.session.table().index_at(host, *port));
        let again =
            known.or(asked.again).and_then(|index| self.session.table().again(index, purpose));
        let chosen =
            again.or_else(|| self.ask_upstream(route, path, &key, exclude, (now, purpose), worker));
        let picked = match chosen {
            Some(reservation) => Ok(reservation),
            None => self.session.table().pick(route, &key, exclude, purpose, now),
        };
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
        let Some(addr) = zones::addr_of(&reservation) else {
            return self.session.handle(Input::ConnectFailed(index), now);
        };
        let led = asked.elsewhere.as_ref().filter(|_| known.is_none());
        let elsewhere = led.is_some();
        let (addr, signs) = match led {
            None => (addr, true),
            Some((host, port)) => match leads_to(&reservation, addr, host, *port) {
                Some(addr) => addr,
                None => return self.session.handle(Input::NoOrigin(Fault::Redirect), now),
            },
        };
        if !reservation.has_place() {
            self.asker = self.shared.askers.enter(self.client_mark(), reservation.id());
            if self.asker.is_none() {
                return self.put_off(asked, now);
            }
        }
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
                    followed: Followed::default(),
                    interest: Interest::Write,
                    connecting: Some(now + timeout.min(CONNECT_TIMEOUT)),
                    local: self.local,
                    peer_ip,
                    _counted: OriginSocket::new(&self.shared),
                    signs,
                    elsewhere,
                });
                if let Err(error) = registered {
                    self.connect_done(Err(error), token, worker);
                }
            }
            Err(error) => self.connect_failed(index, &error, now),
        }
    }

    pub(super) fn connect_done(&mut self, result: io::Result<()>, token: Token, worker: &Worker) {
        let now = worker.now();
        let Some(reservation) = &self.reservation else { return };
        let index = reservation.index();
        let local = self.origin.as_ref().map(|origin| origin.stream.local_addr());
        let (Ok(()), Some(Ok(local)), Some(origin)) = (&result, local, &mut self.origin) else {
            let elsewhere = self.origin.as_ref().is_some_and(|origin| origin.elsewhere);
            self.drop_socket(token, worker);
            if elsewhere {
                self.reservation = None;
                return self.session.handle(Input::NoOrigin(Fault::Redirect), now);
            }
            let error = result.err().unwrap_or_else(|| io::ErrorKind::NotConnected.into());
            return self.connect_failed(index, &error, now);
        };
        origin.connecting = None;
        origin.local = At::from(local);
        let signs = origin.signs;
        self.tracks.reach_origin_from(origin.local);
        let _ = origin.stream.set_nodelay(true);
        self.remember_origin(reservation);
        let generation = self.shared.generation();
        let signer = reservation
            .credentials()
            .filter(|_| signs)
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
    }

    pub(super) fn connect_failed(&mut self, index: usize, error: &io::Error, now: Instant) {
        if let Some(reservation) = self.reservation.take() {
            let name = reservation.name();
            if let Some(more) = seldom::once_a_minute("origin_connect_failed", name) {
                warn!("{}: origin {name} cannot be reached: {error}{more}", self.entry.id);
            }
            // Our own lack of descriptors says nothing about the origin.
            if !is_local_shortage(error) {
                reservation.observe(Outcome::ConnectFailed, now);
            }
        }
        self.shared.count("origin_connect_failed");
        if is_local_shortage(error) {
            self.session.handle(Input::NoOrigin(Fault::NoDescriptors), now);
        } else {
            self.session.handle(Input::ConnectFailed(index), now);
        }
    }

    pub(super) fn origin_ready(&mut self, what: Ready, token: Token, worker: &Worker) {
        let Some(origin) = &mut self.origin else { return };
        if origin.connecting.is_some() {
            let result = match SockRef::from(&origin.stream).take_error() {
                Ok(Some(error)) | Err(error) => Err(error),
                // The event may be that of a socket which this one took the place of.
                Ok(None) if origin.stream.peer_addr().is_err() => return,
                Ok(None) => Ok(()),
            };
            self.connect_done(result, token, worker);
            return;
        }
        if what.readable && !self.session.wants(Side::Origin) {
            // It is not watched for reading; only a connection that broke says so all the same, and
            // would for ever.
            if let Ok(Some(error)) | Err(error) = SockRef::from(&origin.stream).take_error() {
                debug!("{}: the origin's connection broke: {error}", self.entry.id);
                self.origin_gone(token, worker);
            }
        } else if what.readable {
            self.read(Side::Origin, token, worker);
        }
    }

    /// The origin's connection is of no use any more. An ended session does not ask for it to be
    /// dropped, and a closed connection stays readable.
    pub(super) fn origin_gone(&mut self, token: Token, worker: &Worker) {
        self.session.handle(Input::SideClosed(Side::Origin), worker.now());
        self.drain(token, worker);
        self.drop_if_closing(token, worker);
    }

    pub(super) fn drop_if_closing(&mut self, token: Token, worker: &Worker) {
        if self.closing.is_some() {
            self.drop_origin(token, worker);
        }
    }

    pub(super) fn drop_origin(&mut self, token: Token, worker: &Worker) {
        self.drop_socket(token, worker);
        self.reservation = None;
        self.asker = None;
        self.put_off = None;
    }

    /// This client asks by as many connections as it may: tried again in a moment, for as long as an
    /// answer may take.
    fn put_off(&mut self, asked: Asked, now: Instant) {
        let patience = self.shared.generation().config.limits.answer_timeout_s;
        let until = asked.until.unwrap_or(now + Duration::from_secs(patience.into()));
        if now < until {
            self.put_off = Some(Asked { until: Some(until), ..asked });
        } else {
            self.session.handle(Input::NoOrigin(Fault::TooManyAsking), now);
        }
    }

    /// Time has passed for a connection that was put off.
    pub(super) fn try_put_off(&mut self, token: Token, worker: &Worker) {
        if let Some(asked) = self.put_off.take() {
            self.connect(asked, token, worker);
        }
    }

    /// The session is over, or has come to nothing: what is left is a connection that asks.
    pub(super) fn give_place_back(&mut self) {
        let mark = self.client_mark();
        let Some(reservation) = self.reservation.as_mut().filter(|held| held.has_place()) else {
            return;
        };
        reservation.leave_place();
        self.asker = self.shared.askers.stay(mark, reservation.id());
    }

    /// A place at the connected origin for the session that begins; where it is full and another one
    /// is not, the session goes there.
    pub(super) fn take_place(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(reservation) = &mut self.reservation else { return Ok(()) };
        if reservation.take_place() {
            self.asker = None;
            return Ok(());
        }
        let index = reservation.index();
        let elsewhere = self
            .session
            .route()
            .is_some_and(|route| self.session.table().has_room(route, &[index], now));
        if !elsewhere {
            return Err(Fault::OriginsFull);
        }
        self.session.handle(Input::OriginFull(index), now);
        Ok(())
    }

    /// Tells this client apart from others where clients are counted.
    pub(super) fn client_mark(&self) -> u64 {
        client_mark(self.client_addr.ip())
    }

    pub(super) fn drop_socket(&mut self, token: Token, worker: &Worker) {
        if let Some(origin) = self.origin.take() {
            worker.close(token, origin.stream);
        }
    }

    pub(super) fn flush_origin(&mut self, token: Token, worker: &Worker) {
        let Some(origin) = &self.origin else { return };
        if origin.connecting.is_some() {
            return; // that it is writable says that it is connected
        }
        if let Err(error) = write(&origin.stream, self.session.outbox(Side::Origin)) {
            debug!("{}: write to the origin failed: {error}", self.entry.id);
            self.origin_gone(token, worker);
        }
    }

    /// Says what to wait for on the origin's connection.
    pub(super) fn watch_origin(&mut self, token: Token, worker: &Worker) {
        let Self { session, origin: Some(origin), .. } = self else { return };
        if origin.connecting.is_some() {
            return;
        }
        let waits = !session.outbox(Side::Origin).is_empty();
        let reads = session.wants(Side::Origin) && !origin.inbox.waits();
        let interest = interest(reads, waits);
        // What fails is tried again when the connection is next looked after.
        if interest != origin.interest
            && worker.modify(token, ORIGIN, &origin.stream, interest).is_ok()
        {
            origin.interest = interest;
        }
    }
}

/// The same host, on its interface.
fn with_port(mut addr: SocketAddr, port: u16) -> SocketAddr {
    addr.set_port(port);
    addr
}

/// The address that a redirect of an origin leads to, and whether it is the origin's own host. Names
/// are understood where the configuration has resolved them: that of the origin itself.
fn leads_to(
    origin: &Origin,
    addr: SocketAddr,
    host: &[u8],
    port: u16,
) -> Option<(SocketAddr, bool)> {
    if host.eq_ignore_ascii_case(origin.host().as_bytes()) {
        return Some((with_port(addr, port), true));
    }
    let text = core::str::from_utf8(host).ok()?.trim_matches(['[', ']']);
    let ip = text.parse::<IpAddr>().ok()?.to_canonical();
    if ip == addr.ip().to_canonical() {
        return Some((with_port(addr, port), true));
    }
    let near = match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    };
    let refused = near || ip.is_unspecified() || ip.is_multicast();
    (!refused).then_some((SocketAddr::new(ip, port), false))
}

fn is_local_shortage(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL)
    )
}
