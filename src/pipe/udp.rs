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
    gather::{Frames, Pause},
    mmsg::{Segments, Sent, Slots, recv_batch, send_all},
    pool::{Busy, Handle, Hold, Pool, Seat},
    ports::{BoundPair, PortError, PortPool, bind},
    reactor::{Driven, Interest, Ready, Token, Worker},
    relay::{Kind, Relay, Side, Verdict},
    sys,
};
use crate::{
    clock::Instant,
    limits::{BATCH_DATAGRAMS, DATAGRAMS_PER_ROUND, SEGMENTS_MAX},
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
    segments: [Segments; 2],
    /// Of the RTP that comes from this side.
    frames: Cell<Frames>,
}

impl Pair {
    fn new(bound: BoundPair) -> Self {
        let v6 = bound.is_v6();
        Self { bound, v6, segments: Default::default(), frames: Cell::default() }
    }

    const fn socket(&self, kind: Kind) -> &UdpSocket {
        match kind {
            Kind::Rtp => &self.bound.rtp,
            Kind::Rtcp => &self.bound.rtcp,
        }
    }

    fn send(&self, via: Kind, to: SocketAddr, datagrams: &[&[u8]]) -> Sent {
        let [rtp, rtcp] = &self.segments;
        let segments = if via == Kind::Rtp { rtp } else { rtcp };
        send_all(self.socket(via), self.v6, to, datagrams, segments)
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
            let watched = match kind {
                Kind::Rtp => worker.register_media(token, source, socket),
                Kind::Rtcp => worker.register(token, source, socket, Interest::Read),
            };
            if let Err(error) = watched {
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
        let (mut taken, mut pause) = (0, Pause::No);
        while taken < DATAGRAMS_PER_ROUND {
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
            let (seen, sent) = self.relay_batch(side, socket, slots, worker.now(), &mut pause);
            worker.count_packets(sent);
            taken += seen;
            if count < BATCH_DATAGRAMS {
                // Fewer than asked for: the socket is empty.
                worker.note_pause(pause);
                return;
            }
        }
        worker.note_pause(Pause::Never);
    }

    /// Datagrams that came, and those that went out. `pause`: what the last packet of media says.
    fn relay_batch(
        &self,
        side: Side,
        socket: Kind,
        slots: &Slots,
        now: Instant,
        pause: &mut Pause,
    ) -> (usize, u64) {
        let mut relay = self.relay.borrow_mut();
        relay.plays_since(self.counters.playing_since());
        let mut run = Run::new(self.pair(side.other()), &self.counters, side);
        let mut frames = self.pair(side).frames.get();
        let mut seen = 0;
        for (from, bytes) in slots.iter() {
            seen += 1;
            match relay.on_datagram(from, side, socket, bytes, now) {
                Verdict::Forward { to, via, kind } => {
                    if kind == Kind::Rtp {
                        frames.on_packet(bytes);
                        *pause = frames.pause();
                    }
                    if side == Side::Origin {
                        self.counters.heard_origin(kind, bytes, now);
                    }
                    run.push(to, via, kind, bytes);
                }
                Verdict::Drop(reason) => self.counters.dropped(reason),
            }
        }
        run.flush();
        self.pair(side).frames.set(frames);
        if let Some(last) = relay.last_from(side) {
            self.counters.heard(side, last);
            self.counters.set_lost(side, relay.lost(side));
        }
        (seen, run.sent)
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

/// Datagrams of one kind for one address, gathered to be sent in one call.
struct Run<'a> {
    pair: &'a Pair,
    counters: &'a PipeCounters,
    from: Side,
    way: Option<(SocketAddr, Kind, Kind)>,
    out: [&'a [u8]; SEGMENTS_MAX],
    count: usize,
    sent: u64,
}

impl<'a> Run<'a> {
    const fn new(pair: &'a Pair, counters: &'a PipeCounters, from: Side) -> Self {
        let out: [&[u8]; SEGMENTS_MAX] = [&[]; SEGMENTS_MAX];
        Self { pair, counters, from, way: None, out, count: 0, sent: 0 }
    }

    fn push(&mut self, to: SocketAddr, via: Kind, kind: Kind, bytes: &'a [u8]) {
        let way = Some((to, via, kind));
        if self.way != way || self.count == self.out.len() {
            self.flush();
            self.way = way;
        }
        if let Some(place) = self.out.get_mut(self.count) {
            *place = bytes;
            self.count += 1;
        }
    }

    fn flush(&mut self) {
        let out = self.out.get(..self.count).unwrap_or_default();
        if let Some((to, via, kind)) = self.way
            && !out.is_empty()
        {
            let sent = self.pair.send(via, to, out);
            self.counters.relayed(self.from, kind, &sent);
            self.sent += sent.datagrams;
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::test_host;
    use crate::{
        clock,
        pipe::relay::{Leg, Mode},
    };

    /// One peer with its two sockets.
    struct Peer {
        rtp: UdpSocket,
        rtcp: UdpSocket,
    }

    impl Peer {
        fn new() -> Self {
            Self { rtp: socket(), rtcp: socket() }
        }

        fn leg(&self, mode: Mode) -> Leg {
            Leg::new(mode, test_host(), self.rtp.local_addr().ok(), self.rtcp.local_addr().ok())
        }
    }

    fn socket() -> UdpSocket {
        let socket = UdpSocket::bind((test_host(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    struct Set {
        client: Peer,
        origin: Peer,
        ports: Arc<PortPool>,
        pool: Pool,
        pipe: UdpPipe,
        /// Ports of the pipe: client RTP and RTCP, origin RTP and RTCP.
        at: [SocketAddr; 4],
    }

    /// A running pipe between two peers on this host; `base`: four ports of its own.
    fn set(base: u16) -> Set {
        set_on(Pool::start(1).unwrap(), base)
    }

    fn set_on(pool: Pool, base: u16) -> Set {
        let (client, origin) = (Peer::new(), Peer::new());
        let ports = PortPool::new(base, base + 3);
        let sockets = PipeSockets::bind(&ports, test_host(), test_host()).unwrap();
        let at =
            [&sockets.client.rtp, &sockets.client.rtcp, &sockets.origin.rtp, &sockets.origin.rtcp]
                .map(|socket| socket.local_addr().unwrap());
        let relay = Relay::new(origin.leg(Mode::Learn), client.leg(Mode::Learn));
        let pipe = UdpPipe::start(sockets, relay, &pool, 0).unwrap();
        Set { client, origin, ports, pool, pipe, at }
    }

    fn packet(sequence: u16) -> Vec<u8> {
        let [high, low] = sequence.to_be_bytes();
        let mut packet = vec![0x80, 96, high, low, 0, 0, 0, 0, 0, 0, 0, 1];
        packet.resize(1200, low);
        packet
    }

    fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_536];
        let (count, from) = socket.recv_from(&mut buffer).unwrap();
        buffer.truncate(count);
        (buffer, from)
    }

    /// Waits until something that happens on another thread is so.
    fn until(what: &str, so: impl Fn() -> bool) {
        let deadline = clock::now() + Duration::from_secs(10);
        while !so() {
            assert!(clock::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn media_and_reports_pass_both_ways_unchanged_each_from_its_own_port() {
        let Set { client, origin, pipe, at, pool: _pool, .. } = set(27_000);
        let report = [0x80, 200, 0, 1, 0, 0, 0, 1];
        for (from, to, by, out, bytes) in [
            (&origin.rtp, &client.rtp, at[2], at[0], &packet(1)[..]),
            (&origin.rtcp, &client.rtcp, at[3], at[1], &report),
            (&client.rtp, &origin.rtp, at[0], at[2], &packet(9)),
            (&client.rtcp, &origin.rtcp, at[1], at[3], &report),
        ] {
            from.send_to(bytes, by).unwrap();
            assert_eq!(receive(to), (bytes.to_vec(), out));
        }
        until("counted", || {
            let figures = pipe.counters().figures();
            let packets = (figures.down_packets, figures.up_packets);
            (packets, (figures.rtcp_down, figures.rtcp_up)) == ((1, 1), (1, 1))
        });
        let figures = pipe.counters().figures();
        assert_eq!((figures.down_bytes, figures.dropped()), (1200, 0));
        assert!(figures.last_from_origin_ms > 0 && figures.last_from_client_ms > 0);
    }

    #[test]
    fn a_burst_longer_than_the_budget_arrives_whole_and_in_order() {
        let Set { client, origin, pipe, at, pool: _pool, .. } = set(27_010);
        sys::ask_receive_buffer(client.rtp.as_fd(), 4 << 20);
        let count = u16::try_from(2 * DATAGRAMS_PER_ROUND + 50).unwrap();
        for sequence in 0..count {
            origin.rtp.send_to(&packet(sequence), at[2]).unwrap();
        }
        for sequence in 0..count {
            assert_eq!(receive(&client.rtp).0, packet(sequence));
        }
        until("counted", || pipe.counters().figures().down_packets == u64::from(count));
        assert_eq!(pipe.counters().figures().lost, 0);
    }

    #[test]
    fn the_largest_datagram_passes() {
        let Set { client, origin, at, pipe: _pipe, pool: _pool, .. } = set(27_020);
        let bytes = vec![0x80; crate::limits::DATAGRAM_MAX_BYTES];
        origin.rtp.send_to(&bytes, at[2]).unwrap();
        assert_eq!(receive(&client.rtp).0.len(), bytes.len());
    }

    #[test]
    fn another_port_of_the_player_is_learned_from_packets_until_the_announced_one_is_heard() {
        let Set { client, origin, pipe, at, pool: _pool, .. } = set(27_030);
        let (other, natted) = (socket(), socket());
        other.send_to(b"", at[0]).unwrap(); // takes nothing
        until("absorbed", || pipe.counters().figures().absorbed == 1);
        origin.rtp.send_to(&packet(7), at[2]).unwrap();
        assert_eq!(receive(&client.rtp).0, packet(7));
        natted.send_to(&packet(1), at[0]).unwrap();
        assert_eq!(receive(&origin.rtp).0, packet(1));
        origin.rtp.send_to(&packet(8), at[2]).unwrap();
        assert_eq!(receive(&natted).0, packet(8));
        client.rtp.send_to(b"", at[0]).unwrap(); // here is the player after all
        until("absorbed", || pipe.counters().figures().absorbed == 2);
        origin.rtp.send_to(&packet(9), at[2]).unwrap();
        assert_eq!(receive(&client.rtp).0, packet(9));
        natted.send_to(&packet(2), at[0]).unwrap();
        until("counted", || pipe.counters().figures().dropped_unknown_source == 1);
    }

    #[test]
    fn a_player_that_closed_its_port_is_counted_and_ends_nothing() {
        let Set { client, origin, pipe, at, pool: _pool, .. } = set(27_040);
        let Peer { rtp, rtcp } = client;
        let gone = rtp.local_addr().unwrap();
        drop(rtp);
        for sequence in 0..20 {
            origin.rtp.send_to(&packet(sequence), at[2]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        until("an ICMP error is counted", || pipe.counters().figures().icmp_errors > 0);
        origin.rtcp.send_to(&[0x80, 200, 0, 0], at[3]).unwrap();
        assert_eq!(receive(&rtcp).0.len(), 4);
        let back = UdpSocket::bind(gone).unwrap();
        back.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        origin.rtp.send_to(&packet(99), at[2]).unwrap();
        assert_eq!(receive(&back).0, packet(99));
        assert!(!pipe.has_ended());
    }

    #[test]
    fn missing_packets_are_counted_by_sequence_number() {
        let Set { client, origin, pipe, at, pool: _pool, .. } = set(27_050);
        for sequence in [1, 2, 5, 4, 9] {
            origin.rtp.send_to(&packet(sequence), at[2]).unwrap();
            receive(&client.rtp);
        }
        until("lost", || pipe.counters().figures().lost == 4);
    }

    #[test]
    fn dropping_a_pipe_gives_back_ports_and_seat() {
        let Set { ports, pool, pipe, at, .. } = set(27_060);
        let load = pool.handles()[0].load();
        assert_eq!((ports.in_use(), load.pipes.load(Relaxed)), (2, 1));
        let counters = Arc::clone(pipe.counters());
        drop(pipe);
        until("given back", || ports.in_use() == 0 && load.pipes.load(Relaxed) == 0);
        assert!(counters.ended.load(Relaxed));
        UdpSocket::bind(at[0]).unwrap();
    }

    #[test]
    fn stopping_the_workers_gives_back_ports_too() {
        let Set { ports, pool, pipe, .. } = set(27_070);
        pool.stop();
        assert_eq!(ports.in_use(), 0);
        assert!(pipe.has_ended());
    }

    #[test]
    fn a_hundred_pipes_are_shared_evenly_by_two_workers_and_a_thousand_leave_nothing() {
        let pool = Pool::start(2).unwrap();
        let ports = PortPool::new(28_000, 28_399);
        let peer = Peer::new();
        let start = || {
            let sockets = PipeSockets::bind(&ports, test_host(), test_host()).unwrap();
            let relay = Relay::new(peer.leg(Mode::Learn), peer.leg(Mode::Learn));
            UdpPipe::start(sockets, relay, &pool, 1).unwrap()
        };
        for _ in 0..10 {
            let pipes: Vec<UdpPipe> = (0..100).map(|_| start()).collect();
            let on_first = pipes.iter().filter(|pipe| pipe.worker() == 0).count();
            assert_eq!(on_first, 50);
            drop(pipes);
            until("ports are back", || ports.in_use() == 0);
        }
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open < 400, "{open} descriptors are open");
    }

    #[test]
    fn a_strangers_storm_of_all_sizes_costs_neither_another_pipe_nor_the_worker() {
        let Set { client, origin, pipe: stormed, at, pool, .. } = set(27_080);
        let victim = at[2];
        origin.rtp.send_to(&packet(0), victim).unwrap(); // pinned: all others are strangers
        assert_eq!(receive(&client.rtp).0, packet(0));
        let stop = Arc::new(core::sync::atomic::AtomicBool::new(false));
        let storms: Vec<_> = [0, 1, 1200, 65_507]
            .map(|size| {
                let (stop, bytes) = (Arc::clone(&stop), vec![0x80; size]);
                std::thread::spawn(move || {
                    while !stop.load(Relaxed) {
                        let _ = socket().send_to(&bytes, victim);
                    }
                })
            })
            .into();
        let Set { client, origin, pipe, at, pool, .. } = set_on(pool, 27_084);
        for sequence in 0..500 {
            origin.rtp.send_to(&packet(sequence), at[2]).unwrap();
            assert_eq!(receive(&client.rtp).0, packet(sequence));
        }
        stop.store(true, Relaxed);
        for storm in storms {
            storm.join().unwrap();
        }
        let figures = stormed.counters().figures();
        assert!(figures.dropped_unknown_source > 0, "the storm was there");
        assert_eq!((figures.down_packets, figures.up_packets), (1, 0), "and nothing of it passed");
        assert_eq!(pipe.counters().figures().dropped(), 0);
        assert!(!stormed.has_ended());
        drop(pool);
    }

    #[test]
    fn a_peer_that_mixes_all_sizes_is_relayed_byte_for_byte_and_in_order() {
        let Set { client, origin, pipe, at, pool, .. } = set(27_090);
        pool.set_coalesce_us(crate::limits::COALESCE_US_MAX);
        sys::ask_receive_buffer(client.rtp.as_fd(), 4 << 20);
        let mut sent = 0;
        for size in [12, 1200, 1200, 1200, 13, 1199, 65_507, 12, 12, 9000, 1200, 0, 11, 1201] {
            let mut bytes = packet(sent);
            bytes.resize(size, size as u8);
            origin.rtp.send_to(&bytes, at[2]).unwrap();
            if size >= 12 {
                sent += 1;
                assert_eq!(receive(&client.rtp).0, bytes, "{size} bytes");
            }
        }
        until("absorbed", || pipe.counters().figures().absorbed == 2);
        assert_eq!(pipe.counters().figures().dropped(), 0);
    }
}
