//! The bounds: relay loops that do nothing but relay, in a process of their own.
//!
//! `relay bare KIND PAUSE_US THREADS` reads an address a line from its input: where each stream goes
//! (or, for `tcp` and `sessions`, which have one thread, the one server behind it); prints the ports
//! that it listens on and relays until it is killed. It asks no question that a gateway has to ask:
//! who sends, what is it, how much was it.

use std::{
    io::{self, BufRead, Read, Write},
    mem,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    ptr, thread,
    time::Duration,
};

use polling::{Event, Events, PollMode, Poller};

use crate::{
    kernel::{self, set, set_option},
    sessions,
};

const BATCH: usize = 32;
const BATCHES: usize = 4;
/// Not a power of two: slots would share sets of the cache.
const SLOT: usize = 65_536 + 1344;
const SEGMENTS: usize = 64;
const GSO_BYTES: usize = 65_507;
const UDP_SEGMENT: libc::c_int = 103;
const UDP_GRO: libc::c_int = 104;

pub(crate) fn main(kind: &str, pause_us: u64, threads: usize) {
    kernel::raise_file_limit();
    kernel::sharpen_timers(); // threads inherit it
    let targets: Vec<SocketAddr> = io::stdin()
        .lock()
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| line.parse().ok())
        .collect();
    match kind {
        "mmsg" => datagrams(&targets, false, pause_us, threads),
        "gso" => datagrams(&targets, true, pause_us, threads),
        "tcp" => frames(targets[0]),
        "sessions" => sessions::main(targets[0]),
        other => panic!("no relay loop is called {other}"),
    }
}

/// The streams dealt out to threads that know nothing of one another.
fn datagrams(targets: &[SocketAddr], gso: bool, pause_us: u64, threads: usize) {
    let mut hands: Vec<_> = (0..threads).map(|_| Hand::new(gso)).collect();
    for (stream, target) in targets.iter().enumerate() {
        hands[stream % threads].take(*target);
    }
    io::stdout().flush().expect("a reader");
    thread::scope(|scope| {
        for hand in hands {
            scope.spawn(move || hand.relay(pause_us));
        }
    });
}

/// The streams of one thread.
struct Hand {
    gso: bool,
    poller: Poller,
    pairs: Vec<(UdpSocket, UdpSocket, libc::sockaddr_in)>,
}

impl Hand {
    fn new(gso: bool) -> Self {
        Self { gso, poller: Poller::new().expect("a poller"), pairs: Vec::new() }
    }

    fn take(&mut self, target: SocketAddr) {
        let upstream = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let downstream = UdpSocket::bind("127.0.0.1:0").expect("a port");
        set_option(upstream.as_raw_fd(), libc::SO_RCVBUFFORCE, 1 << 20);
        if self.gso {
            set(upstream.as_raw_fd(), libc::SOL_UDP, UDP_GRO, 1);
        }
        let event = Event::readable(self.pairs.len());
        // SAFETY: the sockets live as long as the poller: the hand relays for ever.
        unsafe { self.poller.add_with_mode(&upstream, event, PollMode::Level) }.expect("room");
        println!("{}", upstream.local_addr().expect("an address"));
        self.pairs.push((upstream, downstream, kernel::name(target)));
    }

    fn relay(mut self, pause_us: u64) {
        let mut slots = Batch::new();
        let mut events = Events::new();
        loop {
            events.clear();
            self.poller.wait(&mut events, None).expect("events");
            let mut longest = 0;
            for event in events.iter() {
                let (upstream, downstream, target) = &mut self.pairs[event.key];
                for _ in 0..BATCHES {
                    let count = slots.receive(upstream);
                    longest = longest.max(slots.datagrams());
                    if self.gso {
                        slots.send_runs(downstream, target);
                    } else {
                        slots.send_each(downstream, target);
                    }
                    if count < BATCH {
                        break;
                    }
                }
            }
            if pause_us > 0 && longest > 2 {
                thread::sleep(Duration::from_micros(pause_us));
            }
        }
    }
}

/// A batch of datagrams, or of runs of them that the kernel has coalesced.
struct Batch {
    bytes: Vec<u8>,
    controls: Vec<[u64; 4]>,
    /// Bytes and segment size of each slot.
    filled: Vec<(usize, usize)>,
}

impl Batch {
    fn new() -> Self {
        Self { bytes: vec![0; SLOT * BATCH], controls: vec![[0; 4]; BATCH], filled: Vec::new() }
    }

    fn receive(&mut self, socket: &UdpSocket) -> usize {
        // SAFETY: structures of integers and pointers, for which zeros are valid.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        for (at, slot) in self.bytes.chunks_exact_mut(SLOT).enumerate() {
            parts[at] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT };
            messages[at].msg_hdr.msg_iov = &raw mut parts[at];
            messages[at].msg_hdr.msg_iovlen = 1;
            messages[at].msg_hdr.msg_control = self.controls[at].as_mut_ptr().cast();
            messages[at].msg_hdr.msg_controllen = size_of::<[u64; 4]>() as _;
        }
        // SAFETY: slots, controls and parts live until after the call.
        let count = unsafe {
            let first = messages.as_mut_ptr();
            let flags = libc::MSG_DONTWAIT;
            libc::recvmmsg(socket.as_raw_fd(), first, BATCH as u32, flags, ptr::null_mut())
        };
        let count = usize::try_from(count).unwrap_or(0);
        self.filled.clear();
        for (message, control) in messages.iter().zip(&self.controls).take(count) {
            let length = message.msg_len as usize;
            // The only control message asked for is UDP_GRO's: head of 16 bytes, then an int.
            let coalesced = message.msg_hdr.msg_controllen > 16;
            let segment = if coalesced { control[2] as u32 as usize } else { length };
            self.filled.push((length, segment.max(1)));
        }
        count
    }

    fn datagrams(&self) -> usize {
        self.filled.iter().map(|(length, segment)| length.div_ceil(*segment)).sum()
    }

    fn send_each(&mut self, socket: &UdpSocket, target: &mut libc::sockaddr_in) {
        // SAFETY: structures of integers and pointers, for which zeros are valid.
        let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
            unsafe { (mem::zeroed(), mem::zeroed()) };
        let count = self.filled.len();
        let slots = self.bytes.chunks_exact_mut(SLOT);
        for (at, (slot, (length, _))) in slots.zip(&self.filled).enumerate() {
            parts[at] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: *length };
            messages[at].msg_hdr.msg_name = ptr::from_mut(target).cast();
            messages[at].msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            messages[at].msg_hdr.msg_iov = &raw mut parts[at];
            messages[at].msg_hdr.msg_iovlen = 1;
        }
        let mut at = 0;
        while at < count {
            // SAFETY: slots, target and parts live until after the call.
            let sent = unsafe {
                let rest = messages[at..].as_mut_ptr();
                libc::sendmmsg(socket.as_raw_fd(), rest, (count - at) as u32, libc::MSG_DONTWAIT)
            };
            at += usize::try_from(sent).unwrap_or(1).max(1);
        }
    }

    /// Runs of equal length in one call each.
    fn send_runs(&mut self, socket: &UdpSocket, target: &mut libc::sockaddr_in) {
        let slots = self.bytes.chunks_exact_mut(SLOT);
        let mut run: Vec<libc::iovec> = Vec::with_capacity(SEGMENTS);
        let (mut size, mut bytes) = (0, 0);
        for (slot, (length, segment)) in slots.zip(&self.filled) {
            for piece in slot[..*length].chunks_mut(*segment) {
                let closed = run.last().is_some_and(|last| last.iov_len < size);
                if !run.is_empty()
                    && (closed
                        || piece.len() > size
                        || run.len() == SEGMENTS
                        || bytes + piece.len() > GSO_BYTES)
                {
                    send_run(socket, target, &mut run, size);
                    bytes = 0;
                }
                if run.is_empty() {
                    size = piece.len();
                }
                bytes += piece.len();
                run.push(libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: piece.len() });
            }
        }
        if !run.is_empty() {
            send_run(socket, target, &mut run, size);
        }
    }
}

fn send_run(
    socket: &UdpSocket,
    target: &mut libc::sockaddr_in,
    run: &mut Vec<libc::iovec>,
    size: usize,
) {
    // SAFETY: zeros are valid for the header; target, run and control live until after the call.
    unsafe {
        let mut control = [0_u64; 3];
        let mut header: libc::msghdr = mem::zeroed();
        header.msg_name = ptr::from_mut(target).cast();
        header.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
        header.msg_iov = run.as_mut_ptr();
        header.msg_iovlen = run.len() as _;
        if run.len() > 1 {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(2) as _;
            let message = libc::CMSG_FIRSTHDR(&raw const header);
            (*message).cmsg_level = libc::SOL_UDP;
            (*message).cmsg_type = UDP_SEGMENT;
            (*message).cmsg_len = libc::CMSG_LEN(2) as _;
            libc::CMSG_DATA(message).cast::<u16>().write_unaligned(size as u16);
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT);
    }
    run.clear();
}

/// Read, rewrite the channel of each frame, write: between each client and a connection of its own
/// to the server.
fn frames(server: SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a mode");
    println!("{}", listener.local_addr().expect("an address"));
    io::stdout().flush().expect("a reader");
    let poller = Poller::new().expect("a poller");
    // SAFETY: the listener lives longer than the poller.
    unsafe { poller.add_with_mode(&listener, Event::readable(0), PollMode::Level) }.expect("room");
    let mut ends: Vec<(TcpStream, usize)> = Vec::new();
    let mut bytes = vec![0; 64 * 1024];
    let mut events = Events::new();
    loop {
        events.clear();
        poller.wait(&mut events, None).expect("events");
        for event in events.iter() {
            if event.key == 0 {
                let Ok((client, _)) = listener.accept() else { continue };
                let server = TcpStream::connect(server).expect("a server");
                for stream in [client, server] {
                    stream.set_nodelay(true).expect("a mode");
                    stream.set_nonblocking(true).expect("a mode");
                    let key = ends.len() + 1;
                    // SAFETY: streams are never dropped.
                    unsafe { poller.add_with_mode(&stream, Event::readable(key), PollMode::Level) }
                        .expect("room");
                    ends.push((stream, 0));
                }
                continue;
            }
            let at = event.key - 1;
            let (stream, left) = &mut ends[at];
            let Ok(count) = stream.read(&mut bytes) else { continue };
            if count == 0 {
                let _ = poller.delete(&ends[at].0);
                let _ = ends[at ^ 1].0.shutdown(std::net::Shutdown::Write);
                continue;
            }
            if at % 2 == 1 {
                rewrite(&mut bytes[..count], left);
            }
            write_all(&ends[at ^ 1].0, &bytes[..count]);
        }
    }
}

/// `left`: bytes of a frame that are still to come. (A head that is cut is passed as it is.)
fn rewrite(bytes: &mut [u8], left: &mut usize) {
    let mut at = 0;
    loop {
        let here = (*left).min(bytes.len() - at);
        at += here;
        *left -= here;
        let Some(next) = bytes[at..].iter().position(|byte| *byte == b'$') else { return };
        at += next;
        let [_, channel, high, low, ..] = &mut bytes[at..] else { return };
        *channel ^= 0;
        *left = 4 + usize::from(u16::from_be_bytes([*high, *low]));
    }
}

fn write_all(mut stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut wait =
                    libc::pollfd { fd: stream.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
                // SAFETY: the structure lives through the call.
                unsafe { libc::poll(&raw mut wait, 1, 1000) };
            }
            Err(_) => return,
        }
    }
}
