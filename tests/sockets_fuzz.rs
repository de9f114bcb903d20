//! A gateway over real sockets among players and cameras that misbehave: bytes in odd pieces, half
//! closes, resets, floods of small things, answers that never come. What hangs, leaks or starves a
//! worker shows here and in no test of pure parts.
//!
//! An innocent player of a camera of its own stays all the while: it is answered and gets its media.
//! Others come from other loopback addresses. In the end nothing panicked and no descriptor is left.
//!
//! `EDGEWEIR_SOCKETS_SECONDS=n` plays longer, `EDGEWEIR_SEED=n` by another seed. Threads make each run
//! its own; the seed gives what peers do, not when.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;
mod world;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    Bench, free_port,
    gateway::{Gateway, Setup},
    peer::Peer,
    raw::{Item, Raw},
    wait_for,
};
use socket2::{Domain, Socket, Type};
use world::{bend::mutate, chance::Chance};

/// How long peers misbehave, unless the environment says longer.
const SECONDS: u64 = 12;
/// Players that misbehave at the same time.
const PLAYERS: u64 = 6;
/// The longest that the innocent one waits for an answer or for media. The bars are far lower; on a
/// machine that is busy with other tests this tells a worker that hangs from one that waits.
const PATIENCE: Duration = Duration::from_secs(3);

#[test]
fn players_and_cameras_that_misbehave_disturb_nobody_and_leave_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seconds = number("EDGEWEIR_SOCKETS_SECONDS").unwrap_or(SECONDS);
    let seed = number("EDGEWEIR_SEED").unwrap_or(1);
    let bench = Bench::new("sockets-fuzz");
    let (good, _camera) = camera(&bench);
    let said = Arc::new(said());
    let stop = Arc::new(AtomicBool::new(false));
    let bad: Vec<_> = (0..2).map(|at| origin(seed * 1000 + at, &said, &stop)).collect();
    let setup = Setup { pairs: 64, limits: "answer_timeout_s = 2".to_owned(), ..Setup::default() }
        .origin("good", &good, "")
        .origin("bad", &bad[0], "check_interval_s = 1")
        .origin("worse", &bad[1], "check_interval_s = 1")
        .route("/camera", &["good"], "")
        .route("/bad/**", &["bad", "worse"], "auth = \"none\"")
        .route("/**", &["worse", "good"], "");
    let gateway = Gateway::start(&bench, &setup);
    gateway.wait_idle(PATIENCE);
    let before = gateway.descriptors();

    let done = Arc::new(AtomicU64::new(0));
    let players: Vec<_> = (0..PLAYERS)
        .map(|at| {
            let mut player = Misbehaving {
                chance: Chance::seeded(seed * 7919 + at),
                gateway: gateway.at(),
                from: Ipv4Addr::new(127, 0, 1, u8::try_from(at + 1).unwrap()),
                said: Arc::clone(&said),
                open: Vec::new(),
            };
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    player.play();
                    done.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    let innocent = innocent(&gateway, Duration::from_secs(seconds));
    stop.store(true, Relaxed);
    for player in players {
        player.join().expect("a player of the test");
    }
    eprintln!("{innocent:?}; {} conversations", done.load(Relaxed));
    assert!(done.load(Relaxed) > seconds, "players were busy: {}", done.load(Relaxed));
    gateway.wait_idle(Duration::from_secs(90));
    wait_for("descriptors that were given back", Duration::from_secs(30), || {
        (gateway.descriptors() <= before + 2).then_some(())
    });
    gateway.finish();
}

/// The synthetic camera, in a process of its own.
fn camera(bench: &Bench) -> (String, Peer) {
    let at = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
    command.args(["camera", "--listen", &at]);
    let peer = Peer::start(bench, "camera", command);
    let address: SocketAddr = at.parse().unwrap();
    wait_for("camera", PATIENCE, || TcpStream::connect(address).ok());
    (format!("rtsp://{at}"), peer)
}

/// What peers of the transcripts say: players first, then cameras.
fn said() -> [Vec<Vec<u8>>; 2] {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    ["client > proxy\n", "origin > proxy\n"].map(|lane| {
        let lanes = texts.iter().flat_map(|text| text.split("--- "));
        let bodies = lanes.filter_map(|it| it.strip_prefix(lane));
        bodies.map(|text| text.replace('\n', "\r\n").into_bytes()).collect()
    })
}

/// The longest that the innocent player has waited.
#[derive(Debug, Default)]
struct Waited {
    answer: Duration,
    media: Duration,
}

/// A player that behaves.
fn innocent(gateway: &Gateway, time: Duration) -> Waited {
    let url = gateway.url("/camera");
    let mut raw = Raw::connect(gateway.at());
    raw.play(&url, "RTP/AVP/TCP;unicast;interleaved=0-1");
    let (began, mut asked, mut heard) = (Instant::now(), None, Instant::now());
    let (mut waited, mut next) = (Waited::default(), Instant::now());
    while began.elapsed() < time {
        let now = Instant::now();
        if asked.is_none() && next <= now {
            raw.send("GET_PARAMETER", &url, &[]);
            asked = Some(now);
            next = now + Duration::from_millis(200);
        }
        match raw.next(Duration::from_millis(50)) {
            Item::Frame(_) => {
                waited.media = waited.media.max(heard.elapsed());
                heard = Instant::now();
            }
            Item::Answer(_) => {
                let asked = asked.take().expect("an answer to a question");
                waited.answer = waited.answer.max(asked.elapsed());
            }
            Item::Silence => {}
            Item::Closed(how) => panic!("the innocent player was hung up on: {how:?}"),
        }
        let answer = asked.map_or(Duration::ZERO, |asked| asked.elapsed());
        assert!(answer < PATIENCE, "no answer for {answer:?}, {waited:?}");
        assert!(heard.elapsed() < PATIENCE, "no media for {:?}, {waited:?}", heard.elapsed());
    }
    let torn = raw.ask("TEARDOWN", &url, &[]);
    assert_eq!(torn.status, 200, "{}", torn.head);
    waited
}

/// A player that does not.
struct Misbehaving {
    chance: Chance,
    gateway: SocketAddr,
    from: Ipv4Addr,
    said: Arc<[Vec<Vec<u8>>; 2]>,
    /// Connections that are held and not read.
    open: Vec<TcpStream>,
}

impl Misbehaving {
    /// One deed.
    fn play(&mut self) {
        match self.chance.below(12) {
            0..=4 => self.converse(),
            5 => self.pipeline(),
            6 => self.small_things(),
            7 => self.come_and_go(),
            8 => self.hold(),
            9 => self.set_up_and_stray(),
            10 => self.open.clear(),
            _ => self.stop_in_the_middle(),
        }
    }

    fn connect(&mut self) -> Option<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((self.from, 0)).into()).ok()?;
        socket.connect_timeout(&self.gateway.into(), PATIENCE).ok()?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        Some(stream)
    }

    /// A message of a transcript that names this gateway, bent more often than not.
    fn message(&mut self) -> Vec<u8> {
        let said = Arc::clone(&self.said);
        let text = String::from_utf8_lossy(self.chance.one(&said[0]).as_slice()).into_owned();
        let mut text = text.replace("192.0.2.1:8554", &self.gateway.to_string());
        let path = *self.chance.one(&["/bad/one", "/bad/two", "/live", "/camera"]);
        text = text.replace("/live", path).replace("/cam1", path);
        let mut bytes = text.into_bytes();
        if self.chance.chance(60) {
            let other = self.chance.one(&said[0]).clone();
            mutate(&mut self.chance, &mut bytes, &other);
        }
        bytes
    }

    /// Messages of one or more transcripts, answers read now and then.
    fn converse(&mut self) {
        let Some(mut stream) = self.connect() else { return };
        for _ in 0..1 + self.chance.below(8) {
            let message = self.message();
            if !send(&mut stream, &message, &mut self.chance) {
                return;
            }
            if self.chance.chance(70) {
                read_a_little(&mut stream);
            }
        }
        self.leave(stream);
    }

    /// As many requests as a socket takes in a moment.
    fn pipeline(&mut self) {
        let Some(mut stream) = self.connect() else { return };
        let many = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(1 + self.chance.below(3000));
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until && stream.write_all(&many).is_ok() {
            if self.chance.chance(30) {
                read_a_little(&mut stream);
            }
        }
        self.leave(stream);
    }

    /// Frames of a few bytes, empty lines, one byte at a time.
    fn small_things(&mut self) {
        let Some(mut stream) = self.connect() else { return };
        let kinds: [&[u8]; 5] =
            [b"$\0\0\0", b"$\x07\0\x01x", b"\r\n", b"$\0\0\x0c\x80abcdefghijk", b"O"];
        for _ in 0..self.chance.below(4) + 1 {
            let small = *self.chance.one(&kinds);
            let many = small.repeat(1 + self.chance.below(4000));
            if !send(&mut stream, &many, &mut self.chance) {
                return;
            }
        }
        self.leave(stream);
    }

    fn come_and_go(&mut self) {
        for _ in 0..self.chance.below(60) {
            let Some(stream) = self.connect() else { return };
            self.leave(stream);
        }
    }

    /// Connections that say a little and stay, unread.
    fn hold(&mut self) {
        for _ in 0..self.chance.below(12) {
            let Some(mut stream) = self.connect() else { return };
            let message = self.message();
            let _ = send(&mut stream, &message, &mut self.chance);
            self.open.push(stream);
        }
        let many = self.open.len().saturating_sub(40);
        self.open.drain(..many);
    }

    /// SETUP over UDP, then datagrams to whatever port.
    fn set_up_and_stray(&mut self) {
        let Some(mut stream) = self.connect() else { return };
        let udp = UdpSocket::bind((self.from, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        let path = *self.chance.one(&["/bad/one", "/camera"]);
        let at = self.gateway;
        let mut answers = Vec::new();
        for (cseq, request) in [
            format!("DESCRIBE rtsp://{at}{path}"),
            format!("SETUP rtsp://{at}{path}/track1"),
            format!("PLAY rtsp://{at}{path}"),
        ]
        .iter()
        .enumerate()
        {
            let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{port}\r\n");
            let head = format!("{request} RTSP/1.0\r\nCSeq: {cseq}\r\n{transport}\r\n");
            if !send(&mut stream, head.as_bytes(), &mut self.chance) {
                return;
            }
            answers.extend(read_a_little(&mut stream));
        }
        let text = String::from_utf8_lossy(&answers).into_owned();
        let ours = text.split("server_port=").nth(1).and_then(|rest| rest.split('-').next());
        let ours: u16 = ours.and_then(|port| port.parse().ok()).unwrap_or(20_000);
        for _ in 0..self.chance.below(400) {
            let length = self.chance.below(1500);
            let to = ours.saturating_add(u16::try_from(self.chance.below(6)).unwrap());
            let _ = udp.send_to(&vec![0x80; length], (Ipv4Addr::LOCALHOST, to));
        }
        self.leave(stream);
    }

    fn stop_in_the_middle(&mut self) {
        let Some(mut stream) = self.connect() else { return };
        let mut message = self.message();
        message.truncate(self.chance.below(message.len() + 1));
        let _ = send(&mut stream, &message, &mut self.chance);
        if self.chance.chance(50) {
            let _ = stream.shutdown(Shutdown::Write);
            read_a_little(&mut stream);
        }
        self.leave(stream);
    }

    fn leave(&mut self, stream: TcpStream) {
        leave(stream, &mut self.chance);
    }
}

/// Ends a connection: by a close, half of one, or a reset.
fn leave(stream: TcpStream, chance: &mut Chance) {
    match chance.below(4) {
        0 => drop(stream.shutdown(Shutdown::Write)),
        1 => drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))),
        _ => {}
    }
}

/// Sends in pieces of any length, with pauses between some; false where nobody takes it.
fn send(stream: &mut TcpStream, mut bytes: &[u8], chance: &mut Chance) -> bool {
    while !bytes.is_empty() {
        let most = if chance.chance(70) { bytes.len() } else { 1 + chance.below(bytes.len()) };
        let (part, rest) = bytes.split_at(most);
        if stream.write_all(part).is_err() {
            return false;
        }
        if !rest.is_empty() && chance.chance(50) {
            thread::sleep(Duration::from_micros(chance.below(3000) as u64));
        }
        bytes = rest;
    }
    true
}

fn read_a_little(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 16 * 1024];
    let count = stream.read(&mut bytes).unwrap_or(0);
    bytes.truncate(count);
    bytes
}

/// A camera that answers rightly, wrongly, in part, too often or never; its URL.
fn origin(seed: u64, said: &Arc<[Vec<Vec<u8>>; 2]>, stop: &Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}", listener.local_addr().unwrap());
    let (said, stop) = (Arc::clone(said), Arc::clone(stop));
    thread::spawn(move || {
        for (at, stream) in (0..).zip(listener.incoming()) {
            let (Ok(stream), said, stop) = (stream, Arc::clone(&said), Arc::clone(&stop)) else {
                continue;
            };
            let chance = Chance::seeded(seed.wrapping_mul(65_537) + at);
            thread::spawn(move || serve(stream, chance, &said, &stop));
        }
    });
    url
}

fn serve(mut stream: TcpStream, mut chance: Chance, said: &[Vec<Vec<u8>>; 2], stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => buffer.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && !stop.load(Relaxed) => {}
            Err(_) => return,
        }
        while let Some(end) = buffer.windows(4).position(|part| part == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..end + 4).collect();
            let answer = deed(&String::from_utf8_lossy(&head), &mut chance, said);
            let Some(answer) = answer.filter(|it| send(&mut stream, it, &mut chance)) else {
                return leave(stream, &mut chance);
            };
            drop(answer);
        }
    }
}

/// What an origin says to a request; none: it hangs up.
fn deed(request: &str, chance: &mut Chance, said: &[Vec<Vec<u8>>; 2]) -> Option<Vec<u8>> {
    let right = right_answer(request).into_bytes();
    Some(match chance.below(20) {
        0 => {
            let mut theirs = chance.one(&said[1]).clone();
            let other = chance.one(&said[1]).clone();
            mutate(chance, &mut theirs, &other);
            theirs
        }
        1 => {
            [b"RTSP/1.0 100 Continue\r\nCSeq: 1\r\n\r\n".repeat(chance.below(2000)), right].concat()
        }
        2 => [b"$\0\0\x0c\x80abcdefghijk".repeat(chance.below(4000)), right].concat(),
        3 => [b"OPTIONS * RTSP/1.0\r\nCSeq: 7\r\n\r\n".repeat(chance.below(500)), right].concat(),
        4 => right[..right.len() / 2].to_vec(),
        5 => [&right[..], &right].concat(),
        6 => Vec::new(),
        7 => b"\x01\x02\x03 nonsense \r\n\r\n".to_vec(),
        8 => return None,
        9 => {
            let mut bent = right;
            mutate(chance, &mut bent, b"Session: other\r\n");
            bent
        }
        _ => right,
    })
}

fn right_answer(request: &str) -> String {
    let value = |name: &str| {
        let line = request.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let mut answer = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", value("CSeq").unwrap_or_default());
    match request.split(' ').next().unwrap_or_default() {
        "DESCRIBE" => {
            let sdp = "v=0\r\ns=x\r\nm=video 0 RTP/AVP 96\r\na=control:track1\r\n";
            answer +=
                &format!("Content-Type: application/sdp\r\nContent-Length: {}\r\n", sdp.len());
            return answer + "\r\n" + sdp;
        }
        "SETUP" => {
            let asked = value("Transport").unwrap_or_default();
            let asked = asked.split(',').next().unwrap_or_default();
            let ports = if asked.contains("TCP") { "" } else { ";server_port=6970-6971" };
            answer += &format!("Session: 12345678\r\nTransport: {asked}{ports}\r\n");
        }
        "OPTIONS" => answer += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n",
        _ => answer += "Session: 12345678\r\n",
    }
    answer + "\r\n"
}
