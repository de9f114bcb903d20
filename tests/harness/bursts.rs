//! An origin that sends frames of one size at one rate, each as one burst, and says in each packet
//! when it was sent: what a real encoder does at its worst, and what loss and age are measured with.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use super::net::Host;

/// Bytes of one RTP packet: a head, the time, and what fills an Ethernet frame.
const PACKET_BYTES: usize = 1400;

/// How media is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Bytes of a frame.
    pub(crate) frame_bytes: usize,
    /// Media in all, kbit/s; 0: as fast as it is taken.
    pub(crate) kbit: u32,
    /// Frames in all.
    pub(crate) frames: u32,
}

impl Shape {
    /// Waits until it is time for a frame of a stream.
    pub(crate) fn wait_for(self, frame: u32, first: Instant) {
        if self.kbit > 0 {
            let bits = u64::from(frame) * self.frame_bytes as u64 * 8;
            let due = first + Duration::from_micros(bits * 1000 / u64::from(self.kbit));
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
}

/// The time that stands in packets: since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// How long ago a packet was sent.
    pub(crate) fn age(self, packet: &[u8]) -> Duration {
        let at = packet.get(12..20).and_then(|bytes| bytes.try_into().ok()).expect("its time");
        self.0.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(at)))
    }

    /// The packets of a frame; the numbers go on from `sequence`.
    pub(crate) fn packets<'a>(
        self,
        shape: Shape,
        frame: u32,
        sequence: &'a mut u16,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        let mut left = shape.frame_bytes;
        core::iter::from_fn(move || {
            (left > 0).then_some(())?;
            let len = left.clamp(20, PACKET_BYTES);
            left = left.saturating_sub(len);
            let mut packet = vec![0x80, if left == 0 { 0xe0 } else { 0x60 }];
            packet.extend(sequence.to_be_bytes());
            packet.extend((frame * 3600).to_be_bytes());
            packet.extend([0, 0, 0, 1]);
            let now = u64::try_from(self.0.elapsed().as_nanos()).expect("a test ends");
            packet.extend(now.to_be_bytes());
            packet.resize(len, 7);
            *sequence = sequence.wrapping_add(1);
            Some(packet)
        })
    }
}

/// A player's UDP pair with room for what comes while nobody looks.
pub(crate) fn roomy_pair(host: &Host, port: u16) -> (UdpSocket, UdpSocket) {
    let address = host.address;
    let bind = |port: u16| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("a socket");
        socket.set_recv_buffer_size(4 << 20).expect("room");
        socket.bind(&SocketAddr::from((address, port)).into()).expect("a port");
        socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a timeout");
        UdpSocket::from(socket)
    };
    host.within(|| (bind(port), bind(port + 1)))
}

/// Packets that come until none does for a second, and the age of the oldest.
pub(crate) fn count(rtp: &UdpSocket, clock: Clock) -> (u64, Duration) {
    let (mut buffer, mut got, mut oldest) = ([0; 2048], 0, Duration::ZERO);
    while let Ok(len) = rtp.recv(&mut buffer) {
        got += 1;
        oldest = oldest.max(clock.age(&buffer[..len]));
    }
    (got, oldest)
}

/// The origin. It serves one player after the other, from any path.
#[derive(Debug)]
pub(crate) struct BurstOrigin {
    at: SocketAddr,
    clock: Clock,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl BurstOrigin {
    /// Starts one on a host; on this machine when there is none.
    pub(crate) fn start_on(host: Option<&Host>, shape: Shape) -> Self {
        let address = host.map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        let listener = Host::on(host, || TcpListener::bind((address, 0)).expect("a TCP port"));
        let clock = Clock::start();
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let at = listener.local_addr().expect("its address");
        let origin = Self { at, clock, sent: Arc::clone(&sent), stop: Arc::clone(&stop) };
        let host = host.cloned();
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stop.load(Relaxed) {
                    return;
                }
                let serving = Serving { clock, sent: Arc::clone(&sent), shape };
                // A player that leaves ends it.
                let _ = Host::on(host.as_ref(), || serving.serve(stream, address));
            }
        });
        origin
    }

    /// What the gateway is told of it.
    pub(crate) fn base(&self) -> String {
        format!("rtsp://{}", self.at)
    }

    /// Packets sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// The time in its packets.
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }
}

impl Drop for BurstOrigin {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

struct Serving {
    clock: Clock,
    sent: Arc<AtomicU64>,
    shape: Shape,
}

impl Serving {
    fn serve(&self, stream: TcpStream, address: Ipv4Addr) -> std::io::Result<()> {
        let peer = stream.peer_addr()?.ip();
        stream.set_nodelay(true)?;
        let mut out = stream.try_clone()?;
        let mut lines = BufReader::new(stream);
        let mut way: Option<(UdpSocket, SocketAddr)> = None;
        loop {
            let Some(head) = head(&mut lines)? else { return Ok(()) };
            let value = |name: &str| {
                head.iter().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
            };
            let (cseq, transport) = (value("CSeq:"), value("Transport:"));
            let sdp = "v=0\r\ns=bursts\r\nm=video 0 RTP/AVP 96\r\na=control:track1\r\n";
            let method = head[0].split(' ').next().unwrap_or_default();
            let (more, body) = match method {
                "DESCRIBE" => (
                    format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", sdp.len()),
                    sdp,
                ),
                "SETUP" => {
                    let ports = transport.split("client_port=").nth(1);
                    let port = ports.and_then(|ports| ports.split(['-', ';']).next());
                    let mut answer = transport.to_owned();
                    if let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) {
                        let socket = UdpSocket::bind((address, 0))?;
                        let own = socket.local_addr()?.port();
                        answer += &format!(";server_port={own}-{}", own.wrapping_add(1));
                        way = Some((socket, SocketAddr::new(peer, port)));
                    }
                    (format!("Session: 1\r\nTransport: {answer}\r\n"), "")
                }
                "PLAY" if value("Rate-Control:") == "no" => {
                    ("Session: 1\r\nRate-Control: no\r\n".to_owned(), "")
                }
                _ => ("Session: 1\r\n".to_owned(), ""),
            };
            write!(out, "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{more}\r\n{body}")?;
            match method {
                "PLAY" => self.stream(&mut out, way.as_ref())?,
                "TEARDOWN" => return Ok(()),
                _ => {}
            }
        }
    }

    /// Sends all frames; requests that come meanwhile are answered after them.
    fn stream(
        &self,
        out: &mut TcpStream,
        way: Option<&(UdpSocket, SocketAddr)>,
    ) -> std::io::Result<()> {
        let first = Instant::now();
        let mut sequence = 0u16;
        for frame in 0..self.shape.frames {
            self.shape.wait_for(frame, first);
            for packet in self.clock.packets(self.shape, frame, &mut sequence) {
                match way {
                    Some((socket, to)) => {
                        socket.send_to(&packet, to)?;
                    }
                    None => {
                        let length = u16::try_from(packet.len()).expect("a frame's length");
                        out.write_all(&[&[b'$', 0], &length.to_be_bytes()[..], &packet].concat())?;
                    }
                }
                self.sent.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }
}

/// The lines of the next request; none at the end. What comes interleaved is passed over.
fn head(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<Vec<String>>> {
    let mut lines = Vec::new();
    loop {
        if lines.is_empty() && from.fill_buf()?.first() == Some(&b'$') {
            let mut frame = [0; 4];
            from.read_exact(&mut frame)?;
            let mut payload = vec![0; usize::from(u16::from_be_bytes([frame[2], frame[3]]))];
            from.read_exact(&mut payload)?;
            continue;
        }
        let mut line = String::new();
        match from.read_line(&mut line) {
            Ok(0) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
            read => read?,
        };
        match line.trim_end() {
            "" if lines.is_empty() => {}
            "" => return Ok(Some(lines)),
            line => lines.push(line.to_owned()),
        }
    }
}
