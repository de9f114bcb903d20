//! No allocation for a relayed datagram: real workers, real sockets, a counting allocator.
//!
//! Only what the worker's thread does is counted. The tests count the datagrams that came out at
//! the other end, so that a relay that does nothing does not pass.

#![allow(unsafe_code)] // a global allocator cannot be written without
#![allow(clippy::unwrap_used)] // a test's helpers

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc::sync_channel,
    },
    time::Duration,
};

use edgeweir::pipe::{
    Driven, Handle, Kind, Leg, Mode, PipeFigures, Pool, PortPool, Ready, Relay, Side, Token,
    UdpLeg, UdpPipe, Worker, ports::bind, udp::PipeSockets,
};

struct Counting;

thread_local! {
    /// Allocations of this thread.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: all is handed to the system's allocator; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ROUNDS: u64 = 1000;
const BURST: u64 = 10;

/// Allocations of a worker's thread so far. The channel's memory is made here, not there.
fn allocations(handle: &Handle) -> u64 {
    let (tell, told) = sync_channel(1);
    let job = move |_: &Worker| tell.send(ALLOCATIONS.get()).unwrap();
    handle.run(Box::new(job)).unwrap();
    told.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((HERE, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket
}

fn leg(rtp: &UdpSocket, rtcp: &UdpSocket) -> Leg {
    Leg::new(Mode::Learn, HERE, rtp.local_addr().ok(), rtcp.local_addr().ok())
}

fn packet(sequence: u64) -> [u8; 1200] {
    let mut packet = [7; 1200];
    packet[..2].copy_from_slice(&[0x80, 96]);
    packet[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
    packet
}

/// Sends bursts one way and reports the other way, waits for each; returns how many arrived.
fn exchange(
    media: (&UdpSocket, SocketAddr, &UdpSocket),
    reports: (&UdpSocket, SocketAddr, &UdpSocket),
    from: u64,
    rounds: u64,
) -> u64 {
    let mut arrived = 0;
    let mut buffer = [0; 2048];
    for round in from..from + rounds {
        for n in 0..BURST {
            media.0.send_to(&packet(round * BURST + n), media.1).unwrap();
        }
        reports.0.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 1], reports.1).unwrap();
        for _ in 0..BURST {
            arrived += u64::from(media.2.recv(&mut buffer).unwrap() == 1200);
        }
        arrived += u64::from(reports.2.recv(&mut buffer).unwrap() == 8);
    }
    arrived
}

fn check(figures: PipeFigures, rounds: u64) {
    assert_eq!((figures.down_packets, figures.rtcp_up), (rounds * BURST, rounds));
    assert_eq!((figures.dropped(), figures.lost), (0, 0));
}

#[test]
fn a_datagram_through_a_pipe_allocates_nothing() {
    let pool = Pool::start(1).unwrap();
    let worker = &pool.handles()[0];
    let ports = PortPool::new(29_000, 29_099);
    let sockets = PipeSockets::bind(&ports, HERE, HERE).unwrap();
    let at = |socket: &UdpSocket| socket.local_addr().unwrap();
    let (down_in, up_in) = (at(&sockets.origin.rtp), at(&sockets.client.rtcp));
    let (client, client_rtcp, origin, origin_rtcp) = (socket(), socket(), socket(), socket());
    let relay = Relay::new(leg(&origin, &origin_rtcp), leg(&client, &client_rtcp));
    let pipe = UdpPipe::start(sockets, relay, &pool, 0).unwrap();
    let media = (&origin, down_in, &client);
    let reports = (&client_rtcp, up_in, &origin_rtcp);

    exchange(media, reports, 0, 10); // warm up
    let before = allocations(worker);
    let arrived = exchange(media, reports, 10, ROUNDS);
    let made = allocations(worker) - before;
    assert_eq!(arrived, ROUNDS * (BURST + 1));
    check(pipe.counters().figures(), ROUNDS + 10);
    assert_eq!(made, 0, "in {arrived} datagrams");
}

/// A connection as far as its UDP side is concerned: what comes up is sent down again.
struct Mirror {
    leg: std::cell::RefCell<UdpLeg>,
    token: Cell<Token>,
    seen: Arc<AtomicU64>,
}

impl Driven for Mirror {
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
        let kind = if what.source == 0 { Kind::Rtp } else { Kind::Rtcp };
        worker.with_scratch(|scratch| {
            let mut leg = self.leg.borrow_mut();
            let (slots, stream) = (&mut scratch.slots, &mut scratch.stream);
            let mut ends = [(0, 0); 256];
            let (mut count, mut used) = (0, 0);
            leg.recv(kind, slots, worker.now(), |_, bytes| {
                let end = used + bytes.len();
                if count < ends.len() && end <= stream.len() {
                    stream[used..end].copy_from_slice(bytes);
                    ends[count] = (used, end);
                    (count, used) = (count + 1, end);
                }
            })
            .unwrap();
            let mut frames = [(kind, &[][..]); 256];
            for (frame, (start, end)) in frames.iter_mut().zip(&ends[..count]) {
                frame.1 = &stream[*start..*end];
            }
            let sent = leg.send_all(&frames[..count], worker.now());
            self.seen.fetch_add(sent, SeqCst);
        });
        worker.wake_at(self.token.get(), Some(worker.now() + Duration::from_secs(60)));
    }
    fn timeout(self: Rc<Self>, _: &Worker) {}
}

#[test]
fn a_datagram_to_and_from_an_interleaved_side_allocates_nothing() {
    let pool = Pool::start(1).unwrap();
    let worker = &pool.handles()[0];
    let (rtp, rtcp) = (socket(), socket());
    let bound = bind(&PortPool::new(29_100, 29_199), HERE).unwrap();
    let (even, odd) = (bound.rtp.local_addr().unwrap(), bound.rtcp.local_addr().unwrap());
    let leg = UdpLeg::new(bound, leg(&rtp, &rtcp), Side::Client);
    let seen = Arc::new(AtomicU64::new(0));
    let echoed = Arc::clone(&seen);
    let set_up = move |worker: &Worker| {
        let token = Cell::new(Token::NONE);
        let mirror = Rc::new(Mirror { leg: leg.into(), token, seen });
        mirror.token.set(worker.adopt(Rc::clone(&mirror) as Rc<dyn Driven>));
        mirror.leg.borrow().register(worker, mirror.token.get(), 0, 1).unwrap();
    };
    worker.run(Box::new(set_up)).unwrap();
    let (media, reports) = ((&rtp, even, &rtp), (&rtcp, odd, &rtcp));

    exchange(media, reports, 0, 10); // warm up
    let before = allocations(worker);
    let arrived = exchange(media, reports, 10, ROUNDS);
    let made = allocations(worker) - before;
    assert_eq!(arrived, ROUNDS * (BURST + 1));
    assert_eq!(echoed.load(SeqCst), (ROUNDS + 10) * (BURST + 1));
    assert_eq!(made, 0, "in {arrived} datagrams");
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    let kept = std::hint::black_box(vec![1]);
    assert_eq!((ALLOCATIONS.get() - before, kept.len()), (1, 1));
}
