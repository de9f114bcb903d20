//! The pipe between two UDP peers: four sockets and a [`Relay`], driven by a worker.

use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};
use std::{
    net::UdpSocket,
    os::fd::AsFd,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    counters::{PipeCounters, bump},
    mmsg::{Out, Slots, recv_batch, send_batch},
    pool::{Busy, Handle, Hold, Pool, Seat},
    ports::{BoundPair, PortError, PortPool, bind},
    reactor::{Driven, Interest, Ready, Token, Worker},
    relay::{Kind, Relay, Side, Verdict},
    sys,
};
use crate::{
    clock::Instant,
    limits::{BATCH_DATAGRAMS, BATCHES_PER_ROUND},
};

/// How often the kernel is asked what its receive buffers have lost.
const DROPS_EVERY: Duration = Duration::from_secs(5);

/// The two pairs of a pipe, bound before the peers hear their ports.
#[derive(Debug)]
pub struct PipeSockets {
    /// Toward the client.
    pub client: BoundPair,
    /// Toward the origin.
    pub origin: BoundPair,
}

impl PipeSockets {
    /// Takes two pairs: one on the local address that the client sees, one on the origin's.
    ///
    /// # Errors
    /// As [`bind`]; nothing is kept then.
    pub fn bind(
        ports: &Arc<PortPool>,
        client_ip: IpAddr,
        origin_ip: IpAddr,
    ) -> Result<Self, PortError> {
        Ok(Self { client: bind(ports, client_ip)?, origin: bind(ports, origin_ip)? })
    }
}

/// A running pipe. Dropping it closes the sockets and gives back the ports, on its worker.
#[derive(Debug)]
pub struct UdpPipe {
    worker: Handle,
    counters: Arc<PipeCounters>,
    /// Written by the worker when it has adopted the pipe; read by the job that closes it.
    token: Arc<Mutex<Token>>,
}

impl UdpPipe {
    /// Moves a pipe to the least-loaded worker, `prefer` (the session's) at a tie.
    ///
    /// # Errors
    /// [`Busy`] when that worker takes no more; the sockets are closed then.
    pub fn start(
        sockets: PipeSockets,
        relay: Relay,
        pool: &Pool,
        prefer: u16,
    ) -> Result<Self, Busy> {
        Self::start_on(sockets, relay, pool.least_loaded(Some(prefer)))
    }

    /// Moves a pipe to a worker chosen by the caller.
    ///
    /// # Errors
    /// As [`UdpPipe::start`].
    pub fn start_on(sockets: PipeSockets, relay: Relay, worker: &Handle) -> Result<Self, Busy> {
        let hold = worker.load().hold(Seat::Pipe);
        let counters = Arc::new(PipeCounters::default());
        let token = Arc::new(Mutex::new(Token::NONE));
        let (seen, place) = (Arc::clone(&counters), Arc::clone(&token));
        worker.run(Box::new(move |worker| {
            let pipe = Rc::new(Pipe::new(sockets, relay, seen, hold));
            *place.lock().unwrap_or_else(PoisonError::into_inner) = pipe.settle(worker);
        }))?;
        Ok(Self { worker: worker.clone(), counters, token })
    }

    /// The worker it runs on.
    pub fn worker(&self) -> u16 {
        self.worker.id()
    }

    /// What it has done.
    pub const fn counters(&self) -> &Arc<PipeCounters> {
        &self.counters
    }

    /// Whether it has ended by itself (its socket failed, it could not be registered, it panicked,
    /// the worker stopped); the log says why.
    pub fn has_ended(&self) -> bool {
        self.counters.ended.load(Relaxed)
    }
}

impl Drop for UdpPipe {
    fn drop(&mut self) {
        let token = Arc::clone(&self.token);
        self.worker.run_surely(Box::new(move |worker| {
            worker.release(*token.lock().unwrap_or_else(PoisonError::into_inner));
        }));
    }
}

/// One side's sockets.
struct Pair {
    bound: BoundPair,
    v6: bool,
}

impl Pair {
    fn new(bound: BoundPair) -> Self {
        let v6 = bound.rtp.local_addr().is_ok_and(|address| address.is_ipv6());
        Self { bound, v6 }
    }

    const fn socket(&self, kind: Kind) -> &UdpSocket {
        match kind {
            Kind::Rtp => &self.bound.rtp,
            Kind::Rtcp => &self.bound.rtcp,
        }
    }
}

const SOURCES: [(u8, Side, Kind); 4] = [
    (0, Side::Client, Kind::Rtp),
    (1, Side::Client, Kind::Rtcp),
    (2, Side::Origin, Kind::Rtp),
    (3, Side::Origin, Kind::Rtcp),
];

struct Pipe {
    client: Pair,
    origin: Pair,
    relay: RefCell<Relay>,
    counters: Arc<PipeCounters>,
    token: Cell<Token>,
    _hold: Hold,
}

impl Pipe {
    fn new(sockets: PipeSockets, relay: Relay, counters: Arc<PipeCounters>, hold: Hold) -> Self {
        Self {
            client: Pair::new(sockets.client),
            origin: Pair::new(sockets.origin),
            relay: RefCell::new(relay),
            counters,
            token: Cell::new(Token::NONE),
            _hold: hold,
        }
    }

    /// Registers all four sockets, or none.
    fn settle(self: &Rc<Self>, worker: &Worker) -> Token {
        let token = worker.adopt(Rc::clone(self) as Rc<dyn Driven>);
        self.token.set(token);
        for (source, side, kind) in SOURCES {
            let socket = self.pair(side).socket(kind);
            if let Err(error) = worker.register(token, source, socket, Interest::Read) {
                log::warn!("a pipe cannot be watched and ends: {error}");
                worker.release(token);
                return Token::NONE;
            }
        }
        worker.wake_at(token, Some(worker.now() + DROPS_EVERY));
        token
    }

    const fn pair(&self, side: Side) -> &Pair {
        match side {
            Side::Client => &self.client,
            Side::Origin => &self.origin,
        }
    }

    /// Relays what one socket holds, within its budget; the rest is told again.
    fn pump(&self, side: Side, socket: Kind, slots: &mut Slots, worker: &Worker) {
        for _ in 0..BATCHES_PER_ROUND {
            let count = match recv_batch(self.pair(side).socket(socket), slots) {
                Ok(count) => count,
                Err(error) => {
                    log::warn!("a pipe cannot receive and ends: {error}");
                    worker.release(self.token.get());
                    return;
                }
            };
            let icmp = slots.take_icmp();
            if icmp > 0 {
                bump(&self.counters.icmp_errors, icmp);
            }
            let sent = self.relay_batch(side, socket, slots, worker.now());
            worker.count_packets(sent);
            if count < BATCH_DATAGRAMS {
                return; // fewer than asked for: the socket is empty
            }
        }
    }

    fn relay_batch(&self, side: Side, socket: Kind, slots: &Slots, now: Instant) -> u64 {
        let mut relay = self.relay.borrow_mut();
        let mut run = Run::new(self.pair(side.other()), &self.counters, side);
        for (from, bytes) in slots.iter() {
            match relay.on_datagram(from, side, socket, bytes, now) {
                Verdict::Forward { to, via, kind } => run.push(to, via, kind, bytes),
                Verdict::Drop(reason) => self.counters.dropped(reason),
            }
        }
        run.flush();
        if let Some(last) = relay.last_from(side) {
            self.counters.heard(side, last);
            self.counters.set_lost(side, relay.lost(side));
        }
        run.sent
    }
}

impl Driven for Pipe {
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
        let Some((_, side, kind)) = SOURCES.get(usize::from(what.source)) else { return };
        worker.with_scratch(|scratch| self.pump(*side, *kind, &mut scratch.slots, worker));
    }

    fn timeout(self: Rc<Self>, worker: &Worker) {
        let drops = SOURCES.map(|(_, side, kind)| {
            u64::from(sys::kernel_drops(self.pair(side).socket(kind).as_fd()))
        });
        self.counters.dropped_receive_full.store(drops.iter().sum(), Relaxed);
        worker.wake_at(self.token.get(), Some(worker.now() + DROPS_EVERY));
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.counters.ended.store(true, Relaxed);
    }
}

/// Datagrams of one kind for one socket, gathered to be sent in one call.
struct Run<'a> {
    pair: &'a Pair,
    counters: &'a PipeCounters,
    from: Side,
    way: (Kind, Kind),
    out: [Out<'a>; BATCH_DATAGRAMS],
    count: usize,
    sent: u64,
}

impl<'a> Run<'a> {
    const fn new(pair: &'a Pair, counters: &'a PipeCounters, from: Side) -> Self {
        let out = [Out::NONE; BATCH_DATAGRAMS];
        Self { pair, counters, from, way: (Kind::Rtp, Kind::Rtp), out, count: 0, sent: 0 }
    }

    fn push(&mut self, to: SocketAddr, via: Kind, kind: Kind, bytes: &'a [u8]) {
        if self.way != (via, kind) {
            self.flush();
            self.way = (via, kind);
        }
        if self.count == self.out.len() {
            self.flush();
        }
        if let Some(place) = self.out.get_mut(self.count) {
            *place = Out { to, bytes };
            self.count += 1;
        }
    }

    fn flush(&mut self) {
        let (via, kind) = self.way;
        let out = self.out.get(..self.count).unwrap_or_default();
        if !out.is_empty() {
            let sent = send_batch(self.pair.socket(via), self.pair.v6, out);
            self.counters.relayed(self.from, kind, &sent);
            self.sent += sent.datagrams;
            self.count = 0;
        }
    }
}
