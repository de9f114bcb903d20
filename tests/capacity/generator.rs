//! Many datagrams a system call: what the origin sends and what the players count.

#![allow(unsafe_code, reason = "sendmmsg, recvmmsg, socket buffers, file limit")]

use std::{
    collections::HashMap,
    mem,
    net::{SocketAddr, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    ptr,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    harness::raw::udp_pair,
    origin::{Target, TinyOrigin},
};

/// Datagrams of one system call.
const BATCH: usize = 128;
/// Bytes of one RTP packet.
const PACKET: usize = 1200;
/// Wanted room for what the players have not read yet.
const PLAYER_BUFFER_BYTES: libc::c_int = 64 << 20;

/// What the origin has sent.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) took: Duration,
}

/// Sends to all playing sessions in turn, so many packets a second, evenly.
pub(crate) fn send(origin: &TinyOrigin, rate: u32, duration: Duration) -> Sent {
    let udp = |target: Option<Target>| match target {
        Some(Target::Udp(at)) => at,
        other => panic!("{other:?} in place of a UDP port"),
    };
    let targets: Vec<_> = origin.targets();
    let targets: Vec<_> =
        targets.into_iter().map(|(session, tracks)| (session, tracks.map(udp))).collect();
    let sessions = u64::try_from(targets.len()).expect("a count");
    let all = u64::from(rate) * duration.as_millis() as u64 / 1000;
    let mut batch = Batch::new(&origin.media);
    let began = Instant::now();
    let mut at = 0;
    while at < all {
        let due = (began.elapsed().as_micros() as u64 * u64::from(rate) / 1_000_000).min(all);
        while at < due {
            let (session, tracks) = &targets[(at % sessions) as usize];
            let round = (at / sessions) as u32;
            // The tracks take turns, each counts for itself.
            let track = round % 2;
            batch.push(session * 2 + track, (round / 2) as u16, tracks[track as usize]);
            at += 1;
        }
        batch.flush();
        thread::sleep(Duration::from_millis(1));
    }
    Sent { packets: all, took: began.elapsed() }
}

/// Microseconds since the first call, as the RTP timestamp of what is sent.
fn microseconds() -> u32 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_micros() as u32
}

/// How long packets took from the origin to the players, by powers of two of microseconds.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    worst_us: AtomicU64,
    by_power: [AtomicU64; 32],
}

impl Delays {
    fn took(&self, us: u32) {
        // A clock read in another thread may be a little behind.
        let us = if us > u32::MAX / 2 { 0 } else { us };
        self.worst_us.fetch_max(us.into(), Ordering::Relaxed);
        self.by_power[(u32::BITS - us.leading_zeros()).min(31) as usize]
            .fetch_add(1, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.worst_us.store(0, Ordering::Relaxed);
        self.by_power.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    /// The longest.
    pub(crate) fn worst(&self) -> Duration {
        Duration::from_micros(self.worst_us.load(Ordering::Relaxed))
    }

    /// What so many of a thousand did not exceed, rounded up to a power of two of microseconds.
    pub(crate) fn permille(&self, share: u64) -> Duration {
        let counts = self.by_power.each_ref().map(|count| count.load(Ordering::Relaxed));
        let wanted = counts.iter().sum::<u64>() * share / 1000;
        let mut sum = 0;
        let at = counts.iter().position(|count| {
            sum += count;
            sum >= wanted
        });
        Duration::from_micros(1 << at.unwrap_or(31))
    }
}

/// Datagrams that leave together.
pub(crate) struct Batch {
    socket: RawFd,
    heads: Vec<[u8; 12]>,
    payload: Vec<u8>,
    targets: Vec<libc::sockaddr_in>,
}

impl Batch {
    pub(crate) fn new(socket: &UdpSocket) -> Self {
        let socket = socket.as_raw_fd();
        set_option(socket, libc::SO_SNDBUF, 8 << 20);
        Self {
            socket,
            heads: Vec::with_capacity(BATCH),
            payload: vec![0x55; PACKET - 12],
            targets: Vec::with_capacity(BATCH),
        }
    }

    /// Adds an RTP packet.
    pub(crate) fn push(&mut self, source: u32, sequence: u16, target: SocketAddr) {
        let mut head = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head[2..4].copy_from_slice(&sequence.to_be_bytes());
        head[4..8].copy_from_slice(&microseconds().to_be_bytes());
        head[8..].copy_from_slice(&source.to_be_bytes());
        self.heads.push(head);
        self.targets.push(plain(target));
        if self.heads.len() == BATCH {
            self.flush();
        }
    }

    /// Sends what has gathered, all of it.
    pub(crate) fn flush(&mut self) {
        let mut parts: Vec<[libc::iovec; 2]> = Vec::with_capacity(BATCH);
        for head in &mut self.heads {
            parts.push([
                libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() },
                libc::iovec {
                    iov_base: self.payload.as_mut_ptr().cast(),
                    iov_len: self.payload.len(),
                },
            ]);
        }
        let mut messages: Vec<libc::mmsghdr> = Vec::with_capacity(BATCH);
        for (part, target) in parts.iter_mut().zip(&mut self.targets) {
            // SAFETY: a structure of integers and pointers, for which zeros are valid.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = ptr::from_mut(target).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_hdr.msg_iov = part.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            messages.push(message);
        }
        let mut at = 0;
        while at < messages.len() {
            let rest = &mut messages[at..];
            // SAFETY: heads, payload, targets and parts live until after the call.
            let sent =
                unsafe { libc::sendmmsg(self.socket, rest.as_mut_ptr(), rest.len() as u32, 0) };
            // An ICMP error of an earlier datagram is told here; nothing was sent then.
            at += usize::try_from(sent).unwrap_or(0);
        }
        self.heads.clear();
        self.targets.clear();
    }
}

/// What all players together receive: a socket for each track, a thread for each socket.
pub(crate) struct Players {
    sockets: Vec<(UdpSocket, UdpSocket)>,
    received: Arc<AtomicU64>,
    /// From the origin to the players.
    pub(crate) delays: Arc<Delays>,
    /// Packets by source.
    counts: [Arc<Mutex<HashMap<u32, u64>>>; 2],
    /// What the kernel had dropped when counting began.
    dropped_before: AtomicU64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Players {
    pub(crate) fn new() -> Self {
        let sockets = vec![udp_pair(), udp_pair()];
        let received = Arc::new(AtomicU64::new(0));
        let delays = Arc::new(Delays::default());
        let stop = Arc::new(AtomicBool::new(false));
        let counts: [Arc<Mutex<HashMap<u32, u64>>>; 2] = Default::default();
        let mut threads = Vec::new();
        for ((rtp, _), counts) in sockets.iter().zip(&counts) {
            let socket = rtp.try_clone().expect("a socket");
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
            // The second is cut down to what the machine allows without the right to force it.
            if !set_option(socket.as_raw_fd(), libc::SO_RCVBUFFORCE, PLAYER_BUFFER_BYTES) {
                set_option(socket.as_raw_fd(), libc::SO_RCVBUF, PLAYER_BUFFER_BYTES);
            }
            let (received, counts) = (Arc::clone(&received), Arc::clone(counts));
            let delays = Arc::clone(&delays);
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    receive(socket.as_raw_fd(), &received, &delays, &counts);
                }
            }));
        }
        Self { sockets, received, delays, counts, dropped_before: AtomicU64::new(0), stop, threads }
    }

    /// The RTP port of a track; the next one is for RTCP.
    pub(crate) fn port(&self, track: usize) -> u16 {
        self.sockets[track].0.local_addr().expect("a port").port()
    }

    /// Starts to count anew.
    pub(crate) fn forget(&self) {
        self.received.store(0, Ordering::Relaxed);
        self.delays.forget();
        self.dropped_before.store(self.dropped(), Ordering::Relaxed);
        for counts in &self.counts {
            counts.lock().expect("the counts").clear();
        }
    }

    /// Waits for what is still on its way; packets received, and sources with fewer than others.
    pub(crate) fn settle(&self, sent: &Sent) -> (u64, usize) {
        let began = Instant::now();
        while self.received.load(Ordering::Relaxed) < sent.packets
            && began.elapsed() < Duration::from_secs(2)
        {
            thread::sleep(Duration::from_millis(20));
        }
        let mut behind = 0;
        for counts in &self.counts {
            let counts = counts.lock().expect("the counts");
            let most = counts.values().max().copied().unwrap_or(0);
            // Sessions may differ by one: the last round need not be whole.
            behind += counts.values().filter(|count| **count + 1 < most).count();
        }
        (self.received.load(Ordering::Relaxed), behind)
    }

    /// Datagrams for which the players' own sockets had no room.
    pub(crate) fn overflown(&self) -> u64 {
        self.dropped() - self.dropped_before.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> u64 {
        let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
        let ports = [self.port(0), self.port(1)];
        let mut sum = 0;
        for line in table.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let port = words.get(1).and_then(|address| address.rsplit(':').next());
            let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
            if port.is_some_and(|port| ports.contains(&port)) {
                sum += words.last().and_then(|drops| drops.parse::<u64>().ok()).unwrap_or(0);
            }
        }
        sum
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Takes what is there, counts, and pauses while little comes: players must not use up the cores.
fn receive(
    socket: RawFd,
    received: &AtomicU64,
    delays: &Delays,
    counts: &Mutex<HashMap<u32, u64>>,
) {
    // The head of a packet is enough: the kernel cuts the rest off.
    let mut heads = [[0_u8; 12]; BATCH];
    let mut parts = heads
        .each_mut()
        .map(|head| libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: head.len() });
    // SAFETY: structures of integers and pointers, for which zeros are valid.
    let mut messages: [libc::mmsghdr; BATCH] = unsafe { mem::zeroed() };
    for (message, part) in messages.iter_mut().zip(&mut parts) {
        message.msg_hdr.msg_iov = part;
        message.msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: the buffers live until after the call.
    let count = unsafe {
        let first = messages.as_mut_ptr();
        libc::recvmmsg(socket, first, BATCH as u32, libc::MSG_WAITFORONE, ptr::null_mut())
    };
    let Ok(count) = usize::try_from(count) else { return };
    let mut counts = counts.lock().expect("the counts");
    let mut media = 0;
    let now = microseconds();
    for (head, message) in heads.iter().zip(&messages).take(count) {
        if message.msg_len == 12 && head[0] == 0x80 {
            let source = u32::from_be_bytes([head[8], head[9], head[10], head[11]]);
            *counts.entry(source).or_default() += 1;
            let sent = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            delays.took(now.wrapping_sub(sent));
            media += 1;
        }
    }
    drop(counts);
    received.fetch_add(media, Ordering::Relaxed);
    if count < BATCH {
        thread::sleep(Duration::from_millis(2));
    }
}

/// Descriptors for a thousand players and the origin's ends of their sessions.
pub(crate) fn raise_file_limit() {
    // SAFETY: plain system calls with a structure that lives through both.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

fn set_option(socket: RawFd, option: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: the value lives through the call and its size is given.
    unsafe {
        libc::setsockopt(
            socket,
            libc::SOL_SOCKET,
            option,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as u32,
        ) == 0
    }
}

fn plain(target: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(target) = target else { panic!("the loopback address is IPv4") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: target.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(target.ip().octets()) },
        sin_zero: [0; 8],
    }
}
