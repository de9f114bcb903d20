//! The load: stamped RTP in bursts, and players that take it and look at the stamps.
//!
//! Both are meant to disturb little. The origin sends a burst in one call; players over UDP are
//! swept once a millisecond, so that no relay pays for waking them, and take the time of arrival
//! from the kernel's stamp. Not in here: RTSP, and who relays.

use std::{
    io::{Read, Write},
    mem,
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, RawFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use polling::{Event, Events, PollMode, Poller};

use crate::{
    kernel::{self, now_ns, set_option},
    origin::Target,
};

/// Bytes of one RTP packet.
pub(crate) const PACKET: usize = 1200;
/// RTP's head, the head of a fragment of H.264, and the stamp behind them.
const HEAD: usize = 22;
/// Sockets that the players share.
pub(crate) const PLAYER_SOCKETS: usize = 8;
/// The origin's shortest sleep.
const TICK: Duration = Duration::from_micros(100);
const SWEEP: Duration = Duration::from_millis(1);
/// Wanted room for what the players have not read yet.
const PLAYER_BUFFER_BYTES: libc::c_int = 32 << 20;
const BATCH: usize = 64;

/// What is sent: all streams together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) streams: usize,
    /// Packets of one stream that leave at once; the last one carries the marker.
    pub(crate) burst: usize,
    /// Packets a second.
    pub(crate) rate: u64,
}

/// The origin's sending thread; runs until stopped.
pub(crate) struct Sender {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    /// `targets`: where each stream goes; the stream's number is its SSRC.
    pub(crate) fn start(socket: &UdpSocket, targets: Vec<Target>, shape: Shape) -> Self {
        let socket = socket.try_clone().expect("a socket");
        set_option(socket.as_raw_fd(), libc::SO_SNDBUF, 8 << 20);
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            kernel::sharpen_timers();
            let mut burst = Burst::new(&socket, shape.burst);
            let mut sequences = vec![0_u16; targets.len()];
            let gap = 1_000_000_000 * shape.burst as u64 / shape.rate;
            let mut due = now_ns();
            let mut at = 0;
            while !end.load(Relaxed) {
                let now = now_ns();
                if now < due {
                    // Single packets leave a few at a time: waking up for each would cost more than
                    // to send it.
                    thread::sleep(Duration::from_nanos(due - now).max(TICK));
                    continue;
                }
                // Time that the machine took away is not made good by a flood.
                due = (due + gap).max(now.saturating_sub(20_000_000));
                burst.send(at as u32, &mut sequences[at], &targets[at], &end);
                count.fetch_add(shape.burst as u64, Relaxed);
                at = (at + 1) % targets.len();
            }
        });
        Self { sent, stop, thread: Some(thread) }
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Ends it; packets sent in all.
    pub(crate) fn finish(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// One burst, made and sent.
struct Burst {
    socket: RawFd,
    heads: Vec<[u8; HEAD]>,
    payload: Vec<u8>,
    frames: Vec<u8>,
}

impl Burst {
    fn new(socket: &UdpSocket, count: usize) -> Self {
        let payload = vec![0x55; PACKET - HEAD];
        Self { socket: socket.as_raw_fd(), heads: vec![[0; HEAD]; count], payload, frames: vec![] }
    }

    fn send(&mut self, stream: u32, sequence: &mut u16, target: &Target, end: &AtomicBool) {
        let time = now_ns();
        let last = self.heads.len() - 1;
        for (at, head) in self.heads.iter_mut().enumerate() {
            *head = [0; HEAD];
            head[..2].copy_from_slice(&[0x80, if at == last { 0xe0 } else { 0x60 }]);
            head[2..4].copy_from_slice(&sequence.to_be_bytes());
            head[4..8].copy_from_slice(&((time / 11_111) as u32).to_be_bytes());
            head[8..12].copy_from_slice(&stream.to_be_bytes());
            // First, middle or last fragment of a picture; go2rtc looks.
            head[12] = 0x7c;
            head[13] = 0x01 | u8::from(at == 0) << 7 | u8::from(at == last && at > 0) << 6;
            head[14..].copy_from_slice(&time.to_be_bytes());
            *sequence = sequence.wrapping_add(1);
        }
        match target {
            Target::Udp(to) => self.datagrams(*to),
            Target::Interleaved(stream, channel) => self.frames(stream, *channel, end),
        }
    }

    fn datagrams(&mut self, to: SocketAddr) {
        let mut name = kernel::name(to);
        let mut parts: Vec<[libc::iovec; 2]> = Vec::with_capacity(self.heads.len());
        for head in &mut self.heads {
            parts.push([
                libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: HEAD },
                libc::iovec {
                    iov_base: self.payload.as_mut_ptr().cast(),
                    iov_len: self.payload.len(),
                },
            ]);
        }
        let mut messages: Vec<libc::mmsghdr> = Vec::with_capacity(parts.len());
        for part in &mut parts {
            // SAFETY: a structure of integers and pointers, for which zeros are valid.
            let mut message: libc::mmsghdr = unsafe { mem::zeroed() };
            message.msg_hdr.msg_name = (&raw mut name).cast();
            message.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            message.msg_hdr.msg_iov = part.as_mut_ptr();
            message.msg_hdr.msg_iovlen = 2;
            messages.push(message);
        }
        let mut at = 0;
        let mut refused = 0;
        while at < messages.len() && refused < 3 {
            let rest = &mut messages[at..];
            // SAFETY: heads, payload, name and parts live until after the call.
            let sent =
                unsafe { libc::sendmmsg(self.socket, rest.as_mut_ptr(), rest.len() as u32, 0) };
            // An ICMP error of an earlier datagram is told here; nothing was sent then.
            refused += i32::from(sent <= 0);
            at += usize::try_from(sent).unwrap_or(0);
        }
    }

    fn frames(&mut self, mut stream: &TcpStream, channel: u8, end: &AtomicBool) {
        self.frames.clear();
        for head in &self.heads {
            self.frames.extend([b'$', channel]);
            self.frames.extend((PACKET as u16).to_be_bytes());
            self.frames.extend(head);
            self.frames.extend(&self.payload);
        }
        let mut at = 0;
        while at < self.frames.len() && !end.load(Relaxed) {
            match stream.write(&self.frames[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(100));
                }
                Err(_) => return,
            }
        }
    }
}

/// What one player, or all of them, have seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) received: u64,
    pub(crate) reordered: u64,
    /// Packets by stream.
    pub(crate) each: Vec<u64>,
    /// Delays by microsecond, those beyond the end in the last one.
    delays: Vec<u32>,
    pub(crate) longest_ns: u64,
    last: Vec<Option<u16>>,
}

impl Seen {
    fn new(streams: usize) -> Self {
        let delays = vec![0; 200_000];
        let (each, last) = (vec![0; streams], vec![None; streams]);
        Self { received: 0, reordered: 0, each, delays, longest_ns: 0, last }
    }

    /// A packet with at least its head; its stream by its SSRC where the way does not tell.
    fn packet(&mut self, stream: Option<usize>, head: &[u8], now: u64) {
        let Some(head) = head.first_chunk::<HEAD>().filter(|head| head[0] == 0x80) else { return };
        let word =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let stream = stream.unwrap_or(word(8) as usize);
        if stream >= self.each.len() {
            return;
        }
        let sequence = u16::from_be_bytes([head[2], head[3]]);
        let before = self.last[stream].replace(sequence);
        if before.is_some_and(|before| sequence.wrapping_sub(before) > 0x8000) {
            self.reordered += 1;
        }
        self.received += 1;
        self.each[stream] += 1;
        let sent = u64::from(word(14)) << 32 | u64::from(word(18));
        let delay = now.saturating_sub(sent);
        let at = ((delay / 1000) as usize).min(self.delays.len() - 1);
        self.delays[at] += 1;
        self.longest_ns = self.longest_ns.max(delay);
    }

    /// Delay in milliseconds that such a share of the packets did not exceed.
    pub(crate) fn delay_ms(&self, share: f64) -> f64 {
        let all: u64 = self.delays.iter().map(|count| u64::from(*count)).sum();
        let mut left = (all as f64 * share) as u64;
        for (us, count) in self.delays.iter().enumerate() {
            match left.checked_sub(u64::from(*count)) {
                Some(rest) => left = rest,
                None => return us as f64 / 1000.0,
            }
        }
        0.0
    }
}

/// All players over UDP, or all over TCP.
pub(crate) struct Players {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The ports of players over UDP: sockets in pairs, shared by all streams.
pub(crate) struct Ports(Vec<(UdpSocket, UdpSocket)>);

impl Ports {
    pub(crate) fn new() -> Self {
        let pairs: Vec<_> = (0..PLAYER_SOCKETS).map(|_| crate::harness::raw::udp_pair()).collect();
        for (rtp, _) in &pairs {
            if !set_option(rtp.as_raw_fd(), libc::SO_RCVBUFFORCE, PLAYER_BUFFER_BYTES) {
                set_option(rtp.as_raw_fd(), libc::SO_RCVBUF, PLAYER_BUFFER_BYTES);
            }
            set_option(rtp.as_raw_fd(), libc::SO_TIMESTAMPNS, 1);
            rtp.set_nonblocking(true).expect("a mode");
        }
        Self(pairs)
    }

    /// Where the player of the first stream receives RTCP.
    pub(crate) fn reports(&self) -> &UdpSocket {
        let (_, rtcp) = &self.0[0];
        rtcp.set_read_timeout(Some(Duration::from_secs(5))).expect("a time");
        rtcp
    }

    /// Datagrams of RTP that come within a time.
    pub(crate) fn count(&self, seconds: f64) -> u64 {
        let mut reader = kernel::Reader::<BATCH, HEAD>::new();
        let until = now_ns() + (seconds * 1e9) as u64;
        let mut all = 0;
        while now_ns() < until {
            for (rtp, _) in &self.0 {
                all += reader.read(rtp.as_raw_fd(), |_, _| {}) as u64;
            }
            thread::sleep(SWEEP);
        }
        all
    }

    /// Where the player of a stream receives RTP.
    pub(crate) fn of(&self, stream: usize) -> SocketAddr {
        self.0[stream % self.0.len()].0.local_addr().expect("an address")
    }
}

impl Players {
    pub(crate) fn over_udp(ports: &Ports, streams: usize) -> Self {
        let sockets: Vec<UdpSocket> =
            ports.0.iter().map(|(rtp, _)| rtp.try_clone().expect("a socket")).collect();
        Self::run(streams, move |seen, stop| {
            let mut reader = kernel::Reader::<BATCH, HEAD>::new();
            // What an earlier run left.
            for socket in &sockets {
                while reader.read(socket.as_raw_fd(), |_, _| {}) > 0 {}
            }
            while !stop.load(Relaxed) {
                let mut seen = seen.lock().expect("what was seen");
                for socket in &sockets {
                    while reader.read(socket.as_raw_fd(), |head, at| seen.packet(None, head, at))
                        == BATCH
                    {}
                }
                drop(seen);
                thread::sleep(SWEEP);
            }
        })
    }

    pub(crate) fn over_tcp(streams: Vec<TcpStream>) -> Self {
        Self::run(streams.len(), move |seen, stop| {
            let poller = Poller::new().expect("a poller");
            for (key, stream) in streams.iter().enumerate() {
                stream.set_nonblocking(true).expect("a mode");
                // SAFETY: the streams live longer than the poller.
                unsafe { poller.add_with_mode(stream, Event::readable(key), PollMode::Level) }
                    .expect("room");
            }
            let mut rests: Vec<Vec<u8>> = streams.iter().map(|_| Vec::new()).collect();
            let mut bytes = vec![0; 256 * 1024];
            let mut events = Events::new();
            while !stop.load(Relaxed) {
                events.clear();
                let _ = poller.wait(&mut events, Some(Duration::from_millis(50)));
                for event in events.iter() {
                    let count = match (&streams[event.key]).read(&mut bytes) {
                        Ok(0) => {
                            let _ = poller.delete(&streams[event.key]);
                            continue;
                        }
                        Ok(count) => count,
                        Err(_) => continue,
                    };
                    let now = now_ns();
                    let rest = &mut rests[event.key];
                    rest.extend_from_slice(&bytes[..count]);
                    let mut at = 0;
                    let mut seen = seen.lock().expect("what was seen");
                    while let [b'$', channel, high, low, ..] = rest[at..] {
                        let end = at + 4 + usize::from(u16::from_be_bytes([high, low]));
                        let Some(packet) = rest.get(at + 4..end) else { break };
                        if channel % 2 == 0 {
                            seen.packet(Some(event.key), packet, now);
                        }
                        at = end;
                    }
                    // Answers of the server are of no interest here.
                    if rest.get(at).is_some_and(|byte| *byte != b'$') {
                        let next = rest[at..].windows(4).position(|four| four == b"\r\n\r\n");
                        at = next.map_or(at, |next| at + next + 4);
                    }
                    rest.drain(..at);
                }
            }
        })
    }

    fn run(streams: usize, work: impl FnOnce(&Mutex<Seen>, &AtomicBool) + Send + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Seen::new(streams)));
        let stop = Arc::new(AtomicBool::new(false));
        let (all, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = Some(thread::spawn(move || {
            kernel::sharpen_timers();
            work(&all, &end);
        }));
        Self { seen, stop, thread }
    }

    /// Packets received so far.
    pub(crate) fn received(&self) -> u64 {
        self.seen.lock().expect("what was seen").received
    }

    /// Waits for what is still on its way; what was seen in all.
    pub(crate) fn settle(mut self, sent: u64) -> Seen {
        let mut before = 0;
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(50));
            let now = self.received();
            if now >= sent || now == before {
                break;
            }
            before = now;
        }
        self.end();
        self.seen.lock().expect("what was seen").clone()
    }

    fn end(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Players {
    fn drop(&mut self) {
        self.end();
    }
}
