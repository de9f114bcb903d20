//! While one address floods, the others are served as if it were not there: what an innocent player
//! over UDP and one over TCP lose, how long their media and their own requests wait, and how long a new
//! player waits. Control players straight at the camera tell the machine's noise apart.
//!
//! Clients are told apart by addresses 127.0.1.x; 127.0.0.1 is the machine itself, which is apart in the
//! bounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

#[path = "capacity/origin.rs"]
mod camera;
mod harness;

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use camera::{Target, TinyOrigin};
use harness::{
    Bench,
    gateway::{Gateway, Setup},
    raw::{Item, Raw, stream_from},
};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
/// The last byte of the flooding address.
const STRANGER: u8 = 66;
/// How long a flood goes on.
const LONG: Duration = Duration::from_millis(2500);
/// Between two packets of a stream.
const PACE: Duration = Duration::from_millis(2);
/// What an innocent may wait, and a new player.
const BAR: Duration = Duration::from_millis(20);
const NEW_BAR: Duration = Duration::from_millis(100);
/// Tries of a test: another program may have the processor.
const TRIES: u32 = 3;
const RSS_MAX_KIB: u64 = 64 * 1024;
const LINES_PER_S: usize = 10;

/// Whether the flood is to go on.
type Go = Arc<AtomicBool>;

/// A camera that sends a packet every two milliseconds, and a gateway of one worker before it.
struct Rig {
    gateway: Gateway,
    camera: SocketAddr,
    go: Go,
    pacer: Option<JoinHandle<()>>,
    began: Instant,
    _bench: Bench,
}

impl Rig {
    fn start(name: &str, limits: &str, more: impl FnOnce(Setup) -> Setup) -> Self {
        let bench = Bench::new(name);
        let origin = TinyOrigin::start();
        let camera = origin.url().trim_start_matches("rtsp://").parse().unwrap();
        let mut setup = Setup::default().origin("cam", &origin.url(), "");
        setup = more(setup).route("/**", &["cam"], "");
        // One worker, so that all of them share it.
        setup.gateway = "workers = 1".into();
        setup.limits = limits.into();
        let gateway = Gateway::start(&bench, &setup);
        let go = Arc::new(AtomicBool::new(true));
        let pace = Arc::clone(&go);
        let pacer = Some(thread::spawn(move || send_media(&origin, &pace)));
        Self { gateway, camera, go, pacer, began: Instant::now(), _bench: bench }
    }

    fn finish(mut self) {
        self.go.store(false, Relaxed);
        self.pacer.take().unwrap().join().unwrap();
        self.gateway.finish();
    }
}

/// Sends a numbered packet to each session every two milliseconds.
fn send_media(origin: &TinyOrigin, go: &Go) {
    let mut packet = [0_u8; 200];
    packet[..2].copy_from_slice(&[0x80, 8]);
    packet[8..12].copy_from_slice(b"flow");
    let (mut number, mut next) = (0_u16, Instant::now());
    while go.load(Relaxed) {
        packet[2..4].copy_from_slice(&number.to_be_bytes());
        number = number.wrapping_add(1);
        for (_, tracks) in origin.targets() {
            match tracks.iter().flatten().last() {
                Some(Target::Udp(at)) => drop(origin.media.send_to(&packet, at)),
                Some(Target::Interleaved(stream, channel)) => {
                    let frame = [&[b'$', *channel, 0, 200][..], &packet].concat();
                    let _ = (&**stream).write_all(&frame);
                }
                None => {}
            }
        }
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// What one player saw.
#[derive(Debug, Default)]
struct Seen {
    packets: u32,
    lost: u32,
    /// The longest time without a packet.
    gap: Duration,
    last: Option<(u16, Instant)>,
    /// How long its own requests took.
    asked: Vec<Duration>,
}

impl Seen {
    fn packet(&mut self, rtp: &[u8]) {
        let number = u16::from_be_bytes([rtp[2], rtp[3]]);
        let now = Instant::now();
        if let Some((last, at)) = self.last {
            self.lost += u32::from(number.wrapping_sub(last).wrapping_sub(1));
            self.gap = self.gap.max(now - at);
        }
        self.last = Some((number, now));
        self.packets += 1;
    }

    fn p99(&self) -> Duration {
        let mut all = self.asked.clone();
        all.sort_unstable();
        all.get(all.len().saturating_sub(1) * 99 / 100).copied().unwrap_or_default()
    }
}

/// Plays over UDP from 127.0.1.`last` until the flood ends, and asks something every 20 ms.
fn play_udp(at: SocketAddr, last: u8, go: Go) -> JoinHandle<Seen> {
    let (rtp, _rtcp, port) = udp_pair_of(last);
    let mut raw = Raw::connect_from(last, at);
    let url = format!("rtsp://{at}/cam");
    raw.play(&url, &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1));
    rtp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let more = Arc::clone(&go);
    let media = thread::spawn(move || {
        let (mut seen, mut bytes) = (Seen::default(), [0; 2048]);
        while more.load(Relaxed) {
            if let Ok(got) = rtp.recv(&mut bytes) {
                seen.packet(&bytes[..got]);
            }
        }
        seen
    });
    thread::spawn(move || {
        let _held = _rtcp;
        let mut asked = Vec::new();
        while go.load(Relaxed) {
            let began = Instant::now();
            assert_eq!(raw.ask("GET_PARAMETER", &url, &[]).status, 200);
            asked.push(began.elapsed());
            thread::sleep(Duration::from_millis(20));
        }
        Seen { asked, ..media.join().unwrap() }
    })
}

/// The same over TCP.
fn play_tcp(at: SocketAddr, last: u8, go: Go) -> JoinHandle<Seen> {
    let mut raw = Raw::connect_from(last, at);
    let url = format!("rtsp://{at}/cam");
    raw.play(&url, TCP);
    thread::spawn(move || {
        let mut seen = Seen::default();
        let (mut began, mut waits) = (Instant::now(), false);
        while go.load(Relaxed) {
            if !waits && began.elapsed() > Duration::from_millis(20) {
                raw.send("GET_PARAMETER", &url, &[]);
                (began, waits) = (Instant::now(), true);
            }
            match raw.next(Duration::from_millis(20)) {
                Item::Frame(frame) => seen.packet(&frame.payload),
                Item::Answer(answer) => {
                    assert_eq!(answer.status, 200, "{}", answer.head);
                    seen.asked.push(began.elapsed());
                    waits = false;
                }
                Item::Silence => {}
                Item::Closed(how) => panic!("the innocent player was hung up on: {how:?}"),
            }
        }
        seen
    })
}

/// How long a new player waits for its first packet.
fn begin(at: SocketAddr, last: u8) -> Duration {
    let began = Instant::now();
    let (rtp, _rtcp, port) = udp_pair_of(last);
    let mut raw = Raw::connect_from(last, at);
    raw.play(
        &format!("rtsp://{at}/cam"),
        &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1),
    );
    rtp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    rtp.recv(&mut [0; 2048]).expect("media for a new player");
    began.elapsed()
}

fn udp_pair_of(last: u8) -> (UdpSocket, UdpSocket, u16) {
    let ip = Ipv4Addr::new(127, 0, 1, last);
    loop {
        let rtp = UdpSocket::bind((ip, 0)).unwrap();
        let port = rtp.local_addr().unwrap().port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind((ip, port + 1))
        {
            return (rtp, rtcp, port);
        }
    }
}

/// What was measured while a flood went on: straight at the camera, and through the gateway.
#[derive(Debug)]
struct Measured {
    control: [Seen; 2],
    innocent: [Seen; 2],
    control_new: Duration,
    new: Duration,
    rss_kib: u64,
    slowed: f64,
}

/// Lets a flood go on and watches how the others are served.
fn measure(rig: &Rig, flood: impl FnOnce(&Rig, Go)) -> Measured {
    let go: Go = Arc::new(AtomicBool::new(true));
    let at = rig.gateway.at();
    let play =
        |at, last| [play_udp(at, last, Arc::clone(&go)), play_tcp(at, last + 1, Arc::clone(&go))];
    let before = scheduled(&rig.gateway);
    let (control, innocent) = (play(rig.camera, 10), play(at, 20));
    thread::sleep(Duration::from_millis(300));
    flood(rig, Arc::clone(&go));
    thread::sleep(LONG / 4);
    let (mut control_new, mut new) = (Duration::ZERO, Duration::ZERO);
    for n in 0..5 {
        control_new = control_new.max(begin(rig.camera, 30 + n));
        new = new.max(begin(at, 40 + n));
        thread::sleep(LONG / 8);
    }
    let rss_kib = rig.gateway.rss_kib();
    let slowed = slowed(before, scheduled(&rig.gateway));
    go.store(false, Relaxed);
    let join =
        |all: [JoinHandle<Seen>; 2]| all.map(|one| one.join().expect("an undisturbed player"));
    Measured { control: join(control), innocent: join(innocent), control_new, new, rss_kib, slowed }
}

/// How long the gateway's threads have run, and how long they were ready to and something else ran, in
/// nanoseconds.
fn scheduled(gateway: &Gateway) -> [u64; 2] {
    let mut all = [0; 2];
    for task in std::fs::read_dir(format!("/proc/{}/task", gateway.peer.pid())).unwrap() {
        let Ok(text) = std::fs::read_to_string(task.unwrap().path().join("schedstat")) else {
            continue; // it has ended
        };
        for (sum, word) in all.iter_mut().zip(text.split(' ')) {
            *sum += word.parse::<u64>().unwrap();
        }
    }
    all
}

/// By how much the machine made everything slower that the gateway did.
fn slowed(before: [u64; 2], after: [u64; 2]) -> f64 {
    let [ran, waited] = [0, 1].map(|at| (after[at] - before[at]) as f64);
    1.0 + waited / ran.max(1.0)
}

impl Measured {
    /// What was not as it must be.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        // What the machine did to those whom the gateway has nothing to do with.
        let noise = self.control.iter().map(|seen| seen.gap).max().unwrap_or_default();
        let mut bound = |what: &str, seen: Duration, bar: Duration| {
            if seen > bar.max(3 * noise).mul_f64(self.slowed) {
                faults.push(format!("{what}: {seen:?}, noise {noise:?}, {:.1} times", self.slowed));
            }
        };
        for (way, seen) in ["UDP", "TCP"].iter().zip(&self.innocent) {
            bound(&format!("media over {way}"), seen.gap, BAR);
            bound(&format!("requests over {way}"), seen.p99(), BAR);
        }
        bound("a new player", self.new, NEW_BAR);
        for (seen, control) in self.innocent.iter().zip(&self.control) {
            // They begin and end at different packets.
            if seen.lost > control.lost || 2 * seen.packets < control.packets {
                faults.push(format!("lost {} of {}", seen.lost, seen.packets));
            }
        }
        if self.rss_kib > RSS_MAX_KIB {
            faults.push(format!("{} KiB resident", self.rss_kib));
        }
        faults
    }
}

/// A flood disturbs nobody. `check` sees the gateway after it, and the flood once more.
fn harmless(
    name: &str,
    limits: &str,
    more: fn(Setup) -> Setup,
    flood: fn(&Rig, Go),
    check: fn(&Rig),
) {
    let mut faults = Vec::new();
    for _ in 0..TRIES {
        let rig = Rig::start(name, limits, more);
        let measured = measure(&rig, flood);
        faults = measured.faults();
        let line = |seen: &Seen| {
            format!(
                "{} of {} lost, gap {:?}, p99 {:?}",
                seen.lost,
                seen.packets,
                seen.gap,
                seen.p99()
            )
        };
        for (who, [udp, tcp], new) in [
            ("control ", &measured.control, measured.control_new),
            ("innocent", &measured.innocent, measured.new),
        ] {
            eprintln!("{name}: {who}: UDP {}; TCP {}; new {new:?}", line(udp), line(tcp));
        }
        eprintln!("{name}: {} KiB, slowed {:.2} times", measured.rss_kib, measured.slowed);
        let log = rig.gateway.peer.stderr();
        let (count, text) = most_lines_in_a_second(&log);
        assert!(count <= LINES_PER_S, "{count} lines in a second like {text:?}");
        assert!(!log.contains("origin cam is down"), "{log}");
        check(&rig);
        rig.finish();
        if faults.is_empty() {
            return;
        }
    }
    panic!("{name}: {faults:?}");
}

/// The most lines of one kind in a second of a log, and one of them: numbers and addresses taken out.
fn most_lines_in_a_second(log: &str) -> (usize, String) {
    let mut counts: HashMap<(String, String), usize> = HashMap::new();
    for line in log.lines() {
        let (second, text) = line.split_at(line.len().min(19));
        let kind: String = text.chars().filter(|c| !c.is_ascii_digit()).collect();
        *counts.entry((second.to_owned(), kind)).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map_or_else(Default::default, |((_, text), count)| (count, text))
}

/// Writes the same bytes to all of these as fast as they take them, from one thread; reads what comes
/// and forgets it.
fn pour(mut streams: Vec<TcpStream>, bytes: Vec<u8>, go: Go) {
    for stream in &streams {
        stream.set_nonblocking(true).unwrap();
    }
    let mut at = vec![0; streams.len()];
    let mut heard = vec![0; 64 * 1024];
    thread::spawn(move || {
        while go.load(Relaxed) {
            let mut moved = 0;
            for (stream, at) in streams.iter_mut().zip(&mut at) {
                let wrote = stream.write(&bytes[*at..]).unwrap_or(0);
                *at = (*at + wrote) % bytes.len();
                moved += wrote + stream.read(&mut heard).unwrap_or(0);
            }
            if moved == 0 {
                thread::sleep(Duration::from_micros(100));
            }
        }
    });
}

fn as_is(setup: Setup) -> Setup {
    setup
}

fn nothing(_: &Rig) {}

fn options() -> Vec<u8> {
    b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(2000)
}

#[test]
fn an_honest_burst_of_a_thousand_requests_is_answered_at_once_and_in_order() {
    let rig = Rig::start("burst", "", as_is);
    let asked: String =
        (0..1000).map(|n| format!("OPTIONS * RTSP/1.0\r\nCSeq: {n}\r\n\r\n")).collect();
    let mut took = Duration::MAX;
    for _ in 0..TRIES {
        let mut stream = stream_from(STRANGER, rig.gateway.at()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let began = Instant::now();
        stream.write_all(asked.as_bytes()).unwrap();
        let (mut answers, mut part) = (String::new(), [0; 64 * 1024]);
        while answers.matches("\r\n\r\n").count() < 1000 {
            let got = stream.read(&mut part).unwrap();
            assert!(got > 0, "all are answered");
            answers.push_str(std::str::from_utf8(&part[..got]).unwrap());
        }
        took = took.min(began.elapsed());
        let numbers: Vec<usize> =
            answers.lines().filter_map(|line| line.strip_prefix("CSeq: ")?.parse().ok()).collect();
        assert!(numbers.iter().copied().eq(0..1000), "in order");
    }
    eprintln!("burst: {took:?}");
    assert!(took < Duration::from_millis(100), "{took:?}");
    rig.finish();
}

#[test]
fn one_connection_that_pipelines_requests_as_fast_as_it_can() {
    let flood = |rig: &Rig, go: Go| {
        pour(vec![stream_from(STRANGER, rig.gateway.at()).unwrap()], options(), go);
    };
    harmless("pipelined", "", as_is, flood, nothing);
}

#[test]
fn a_hundred_connections_that_pipeline_requests_as_fast_as_they_can() {
    let flood = |rig: &Rig, go: Go| {
        let streams = (0..100).map(|_| stream_from(STRANGER, rig.gateway.at()).unwrap());
        pour(streams.collect(), options(), go);
    };
    harmless("pipelined-100", "", as_is, flood, nothing);
}

/// An origin that grants a session over TCP and then sends these bytes as fast as it can.
fn floods_as_an_origin(setup: Setup, bytes: &'static [u8]) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || flooding_camera(stream, bytes));
        }
    });
    setup.origin("bad", &url, "").route("/bad/**", &["bad"], "")
}

fn flooding_camera(mut stream: TcpStream, flood: &[u8]) {
    let mut buffer = Vec::new();
    let mut part = [0; 4096];
    loop {
        let Ok(got @ 1..) = stream.read(&mut part) else { return };
        buffer.extend_from_slice(&part[..got]);
        while let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8(buffer.drain(..end + 4).collect()).unwrap();
            let cseq = head.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0");
            let answer = format!(
                "RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: 1\r\n\
                 Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
            if head.starts_with("PLAY") {
                let flood = flood.repeat(2000);
                while stream.write_all(&flood).is_ok() {}
                return;
            }
        }
    }
}

/// Plays from the flooding origin, again and again where the session ends, and reads all that comes.
fn play_the_flood(rig: &Rig, go: Go) {
    let at = rig.gateway.at();
    thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while go.load(Relaxed) {
            let mut stream = stream_from(STRANGER, at).unwrap();
            let url = format!("rtsp://{at}/bad/x");
            let asked = format!(
                "SETUP {url}/t RTSP/1.0\r\nCSeq: 1\r\nTransport: {TCP}\r\n\r\n\
                 PLAY {url} RTSP/1.0\r\nCSeq: 2\r\n\r\n"
            );
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            stream.write_all(asked.as_bytes()).unwrap();
            while go.load(Relaxed) {
                match stream.read(&mut bytes) {
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                    Ok(1..) => {}
                    _ => break,
                }
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn a_camera_that_sends_frames_of_twelve_bytes_as_fast_as_it_can() {
    let more = |setup| floods_as_an_origin(setup, b"$\0\0\x0c\x80\x60\0\x01\0\0\0\0abcd");
    harmless("small-frames", "", more, play_the_flood, nothing);
}

#[test]
fn a_camera_that_says_goodbye_as_fast_as_it_can() {
    let more = |setup| floods_as_an_origin(setup, b"$\x01\0\x08\x81\xcb\0\x01abcd");
    harmless("goodbyes", "", more, play_the_flood, nothing);
}

#[test]
fn a_camera_that_sends_frames_with_garbage_between_them() {
    let more = |setup| floods_as_an_origin(setup, b"$\0\0\x04abcd\0\0\0garbage$\0\xff");
    harmless("garbled", "", more, play_the_flood, |rig| {
        assert!(rig.gateway.counter("origin_bytes_skipped") > 1000, "it was garbage");
    });
}

#[test]
fn a_camera_that_answers_what_nobody_asked() {
    let more = |setup| floods_as_an_origin(setup, b"RTSP/1.0 200 OK\r\nCSeq: 9999\r\n\r\n");
    harmless("unasked", "", more, play_the_flood, |rig| {
        assert!(rig.gateway.counter("origin_floods") > 0, "its sessions end");
    });
}

#[test]
fn a_camera_that_asks_as_fast_as_it_can() {
    let more =
        |setup| floods_as_an_origin(setup, b"GET_PARAMETER rtsp://x/ RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    harmless("asking", "", more, play_the_flood, |rig| {
        assert!(rig.gateway.counter("origin_floods") > 0, "its sessions end");
    });
}

#[test]
fn thousands_of_connections_a_second() {
    let flood = |rig: &Rig, go: Go| {
        let at = rig.gateway.at();
        for _ in 0..4 {
            let go = Arc::clone(&go);
            thread::spawn(move || {
                let (began, mut count) = (Instant::now(), 0);
                while go.load(Relaxed) {
                    count += 1;
                    if let Ok(stream) = stream_from(STRANGER, at) {
                        // Gone at once, so that no port is kept from the next one.
                        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    }
                    let due = began + count * Duration::from_micros(400);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                let seconds = began.elapsed().as_secs_f64();
                eprintln!("one of four: {:.0} connections a second", f64::from(count) / seconds);
            });
        }
    };
    harmless("connects", "", as_is, flood, nothing);
}

#[test]
fn datagrams_of_a_stranger_to_all_media_ports() {
    let flood = |rig: &Rig, go: Go| {
        let ports = rig.gateway.media_ports();
        let (socket, _rtcp, _) = udp_pair_of(STRANGER);
        thread::spawn(move || {
            let mut packet = [0x80, 8, 0, 0, 0, 0, 0, 0, b's', b't', b'r', b'a'].repeat(8);
            for port in ports.cycle() {
                if !go.load(Relaxed) {
                    return;
                }
                packet[3] = packet[3].wrapping_add(1);
                let _ = socket.send_to(&packet, ("127.0.0.1", port));
            }
        });
    };
    harmless("strangers", "", as_is, flood, nothing);
}

#[test]
fn requests_that_are_refused() {
    let flood = |rig: &Rig, go: Go| {
        let request = b"PLAY rtsp://x/cam RTSP/1.0\r\nCSeq: 7\r\nSession: 1\r\n\r\n";
        let streams = (0..4).map(|_| stream_from(STRANGER, rig.gateway.at()).unwrap());
        pour(streams.collect(), request.repeat(1000), go);
    };
    harmless("refused", "", as_is, flood, |rig| {
        assert!(rig.gateway.counter("refused_no_session") > 1000, "it was a flood");
    });
}

#[test]
fn garbage_on_new_connections() {
    let flood = |rig: &Rig, go: Go| {
        let at = rig.gateway.at();
        thread::spawn(move || {
            while go.load(Relaxed) {
                let Ok(mut stream) = stream_from(STRANGER, at) else { continue };
                let _ = stream.write_all(b"\x16\x03\x01\x02\0\x01\0");
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                thread::sleep(Duration::from_micros(300));
            }
        });
    };
    harmless("garbage", "", as_is, flood, nothing);
}

/// Wrong passwords on eight connections at a time; two a second are looked at.
#[test]
fn wrong_passwords_as_fast_as_they_are_taken() {
    let more = |mut setup: Setup| {
        setup.secrets = Some("[[user]]\nname = \"admin\"\npassword = \"right\"\n".into());
        setup.route("/locked/**", &["cam"], "auth = \"basic\"")
    };
    let flood = |rig: &Rig, go: Go| {
        let at = rig.gateway.at();
        for _ in 0..8 {
            let go = Arc::clone(&go);
            thread::spawn(move || {
                let asked = format!(
                    "DESCRIBE rtsp://{at}/locked/x RTSP/1.0\r\nCSeq: 1\r\n\
                     Authorization: Basic YWRtaW46d3Jvbmc=\r\n\r\n"
                );
                while go.load(Relaxed) {
                    let Ok(mut stream) = stream_from(STRANGER, at) else { continue };
                    let _ = stream.set_read_timeout(Some(Duration::from_millis(50)));
                    while go.load(Relaxed) && stream.write_all(asked.as_bytes()).is_ok() {
                        if matches!(stream.read(&mut [0; 1024]), Ok(0)) {
                            break;
                        }
                    }
                }
            });
        }
    };
    harmless("passwords", "", more, flood, |rig| {
        let (wrong, seconds) = (rig.gateway.counter("auth_wrong_passwords"), rig.began.elapsed());
        assert!(wrong > 0, "it was a flood");
        assert!(wrong <= 1 + 2 * seconds.as_secs(), "{wrong} in {seconds:?}");
    });
}
#[test]
fn two_thousand_connections_that_say_nothing() {
    let flood = |rig: &Rig, go: Go| {
        let at = rig.gateway.at();
        thread::spawn(move || {
            let mut held = Vec::new();
            while go.load(Relaxed) {
                if held.len() < 2000 {
                    held.extend(stream_from(STRANGER, at));
                } else {
                    thread::sleep(Duration::from_millis(10));
                }
            }
        });
    };
    harmless("idle", "", as_is, flood, |rig| {
        let open = rig.gateway.ask(&["status"])["connections"].as_u64().unwrap();
        assert!(open < 1000, "{open} connections are open");
    });
}

/// SETUP of a track over UDP, and never PLAY: on one connection after the other.
#[test]
fn sessions_that_are_set_up_and_never_play() {
    let flood = |rig: &Rig, go: Go| {
        let at = rig.gateway.at();
        thread::spawn(move || {
            let mut held = Vec::new();
            while go.load(Relaxed) && held.len() < 1000 {
                let Ok(mut stream) = stream_from(STRANGER, at) else { continue };
                let asked = format!(
                    "SETUP rtsp://{at}/cam/1 RTSP/1.0\r\nCSeq: 1\r\n\
                     Transport: RTP/AVP;unicast;client_port=9000-9001\r\n\r\n"
                );
                let _ = stream.write_all(asked.as_bytes());
                let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
                let _ = stream.read(&mut [0; 1024]);
                held.push(stream);
            }
            while go.load(Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
        });
    };
    harmless("never-play", "", as_is, flood, nothing);
}
