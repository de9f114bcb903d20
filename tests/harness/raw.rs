//! A plain RTSP client, for what no player does: to read slowly, to wait for the very end, to see
//! every frame.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

/// One connection to an RTSP server.
#[derive(Debug)]
pub(crate) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    cseq: u32,
    session: Option<String>,
    /// Interleaved frames that came while an answer was awaited.
    pub(crate) frames: Vec<Frame>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// An interleaved frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) channel: u8,
    pub(crate) payload: Vec<u8>,
}

/// What comes on the connection.
#[derive(Debug)]
pub(crate) enum Item {
    Answer(Answer),
    Frame(Frame),
    /// Closed by the peer, or reset (then how).
    Closed(Option<ErrorKind>),
    /// Nothing came in time.
    Silence,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Raw {
    /// Connects.
    pub(crate) fn connect(at: SocketAddr) -> Self {
        Self::over(TcpStream::connect(at).expect("a connection"))
    }

    /// Connects from the last number of an address of this machine: another client than others.
    pub(crate) fn connect_from(last: u8, at: SocketAddr) -> Self {
        Self::over(stream_from(last, at).expect("a connection"))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, buffer: Vec::new(), cseq: 0, session: None, frames: Vec::new() }
    }

    /// The connection itself, for those that read frames on their own.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The session's id.
    pub(crate) fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Sends a request and waits for its answer, 10 seconds at most.
    pub(crate) fn ask(&mut self, method: &str, url: &str, headers: &[&str]) -> Answer {
        self.send(method, url, headers);
        loop {
            match self.next(Duration::from_secs(10)) {
                Item::Answer(answer) => {
                    if let Some(id) = answer.header("Session") {
                        self.session = id.split(';').next().map(str::to_owned);
                    }
                    return answer;
                }
                Item::Frame(frame) => self.frames.push(frame),
                end => panic!("{method} {url}: {end:?} in place of an answer"),
            }
        }
    }

    /// Sends a request.
    pub(crate) fn send(&mut self, method: &str, url: &str, headers: &[&str]) {
        self.cseq += 1;
        let mut text = format!("{method} {url} RTSP/1.0\r\nCSeq: {}\r\n", self.cseq);
        let named = headers.iter().any(|header| header.starts_with("Session:"));
        if let Some(session) = self.session.as_ref().filter(|_| !named) {
            text += &format!("Session: {session}\r\n");
        }
        for header in headers {
            text += header;
            text += "\r\n";
        }
        text += "\r\n";
        self.stream.write_all(text.as_bytes()).expect("a request can be sent");
    }

    /// DESCRIBE, SETUP of the last track, PLAY. The transport is given as in the header; what the
    /// server made of it is in the answer to SETUP, which is returned.
    pub(crate) fn play(&mut self, url: &str, transport: &str) -> Answer {
        let described = self.ask("DESCRIBE", url, &["Accept: application/sdp"]);
        assert_eq!(described.status, 200, "DESCRIBE {url}: {}", described.head);
        let base = described.header("Content-Base").unwrap_or(url).trim_end_matches('/').to_owned();
        let mut controls =
            described.body.lines().filter_map(|line| line.strip_prefix("a=control:"));
        let control = controls.rfind(|control| *control != "*").unwrap_or_default();
        let track = match control {
            full if full.starts_with("rtsp:") => full.to_owned(),
            relative => format!("{base}/{relative}"),
        };
        let set_up = self.ask("SETUP", &track, &[&format!("Transport: {transport}")]);
        assert_eq!(set_up.status, 200, "SETUP {track}: {}", set_up.head);
        let played = self.ask("PLAY", &base, &["Range: npt=0-"]);
        assert_eq!(played.status, 200, "PLAY {base}: {}", played.head);
        set_up
    }

    /// The next whole thing on the connection.
    pub(crate) fn next(&mut self, patience: Duration) -> Item {
        let began = Instant::now();
        loop {
            if let Some(item) = self.take() {
                return item;
            }
            let Some(left) = patience.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
            else {
                return Item::Silence;
            };
            self.stream.set_read_timeout(Some(left)).expect("a timeout");
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Item::Closed(None),
                Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Item::Silence,
                Err(error) => return Item::Closed(Some(error.kind())),
            }
        }
    }

    /// Reads at most so many bytes, whatever they are, and keeps them.
    pub(crate) fn sip(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; most];
        self.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        let count = self.stream.read(&mut bytes).unwrap_or(0);
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    /// How long until the other side closes, frames and messages read meanwhile; panics past the
    /// deadline.
    pub(crate) fn wait_closed(&mut self, deadline: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            assert!(!left.is_zero(), "the connection is still open after {deadline:?}");
            if matches!(self.next(left), Item::Closed(_)) {
                return began.elapsed();
            }
        }
    }

    fn take(&mut self) -> Option<Item> {
        if self.buffer.first() == Some(&b'$') {
            let head = self.buffer.get(..4)?;
            let (channel, end) = (head[1], 4 + usize::from(u16::from_be_bytes([head[2], head[3]])));
            let payload = self.buffer.get(4..end)?.to_vec();
            self.buffer.drain(..end);
            return Some(Item::Frame(Frame { channel, payload }));
        }
        let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        assert!(head.starts_with("RTSP/"), "neither frame nor answer: {head:?}");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut answer = Answer { status, head, body: String::new() };
        let length =
            answer.header("Content-Length").map_or(0, |text| text.parse().expect("length"));
        let body = self.buffer.get(end..end + length)?;
        answer.body = String::from_utf8_lossy(body).into_owned();
        self.buffer.drain(..end + length);
        Some(Item::Answer(answer))
    }
}

/// A connection from 127.0.1.`last`: only 127.0.0.1 is the machine itself to the gateway.
pub(crate) fn stream_from(last: u8, at: SocketAddr) -> std::io::Result<TcpStream> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = SocketAddr::from(([127, 0, 1, last], 0));
    socket.bind(&from.into())?;
    socket.connect(&at.into())?;
    Ok(socket.into())
}

/// An even UDP port and the next one on the loopback address.
pub(crate) fn udp_pair() -> (UdpSocket, UdpSocket) {
    loop {
        let rtp = UdpSocket::bind("127.0.0.1:0").expect("a UDP port");
        let port = rtp.local_addr().expect("its number").port();
        if port.is_multiple_of(2)
            && port < u16::MAX
            && let Ok(rtcp) = UdpSocket::bind(("127.0.0.1", port + 1))
        {
            return (rtp, rtcp);
        }
    }
}
