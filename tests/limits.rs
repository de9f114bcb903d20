//! Limits and bad input on a running gateway: what the peer is answered, what is counted, and that
//! other sessions are not disturbed. The origins are the built-in camera and servers made up here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    Bench,
    camera::Camera,
    free_port,
    gateway::{Gateway, Setup},
    peer::{Peer, Signal},
    raw::{Item, Raw, udp_pair},
    wait_for,
};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
/// Bounds of the library, by value: what a peer may rely on.
const HEAD_MAX: usize = edgeweir::limits::HEAD_MAX_BYTES;
const BODY_MAX: usize = edgeweir::limits::BODY_MAX_BYTES;
const START_LINE_MAX: usize = edgeweir::limits::START_LINE_MAX_BYTES;

fn setup(camera: &Camera) -> Setup {
    Setup::default().origin("cam", &camera.url, "").route("/**", &["cam"], "")
}

fn gateway(bench: &Bench, camera: &Camera, limits: &str) -> Gateway {
    let mut setup = setup(camera);
    setup.limits = limits.into();
    Gateway::start(bench, &setup)
}

fn watching(gateway: &Gateway) -> Raw {
    let mut raw = Raw::connect(gateway.at());
    raw.play(&gateway.url("/cam"), TCP);
    raw
}

/// A session goes on when its frames keep coming.
fn expect_undisturbed(raw: &mut Raw) {
    let began = Instant::now();
    let mut frames = 0;
    while frames < 10 {
        assert!(began.elapsed() < Duration::from_secs(5), "the other session was disturbed");
        if let Item::Frame(_) = raw.next(Duration::from_secs(1)) {
            frames += 1;
        }
    }
}

/// What comes back for these bytes until the gateway closes, or for a while.
fn exchange(at: SocketAddr, bytes: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    let _ = stream.write_all(bytes);
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    let closed = loop {
        match stream.read(&mut part) {
            Ok(0) => break true,
            Ok(got) => answer.extend_from_slice(&part[..got]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break false,
            Err(_) => break true,
        }
    };
    (String::from_utf8_lossy(&answer).into_owned(), closed)
}

#[test]
fn garbage_and_oversized_messages_get_an_answer_and_a_close() {
    let bench = Bench::new("garbage");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let mut other = watching(&gateway);
    let head = |len: usize| {
        let mut text = String::from("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n");
        while text.len() + 2 < len {
            let left = len - 2 - text.len();
            let line = if left > 1010 { 1000 } else { left };
            text.push_str(&format!("A:{}\r\n", "b".repeat(line - 4)));
        }
        text + "\r\n"
    };
    let start =
        |len: usize| format!("OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\n\r\n", "*".repeat(len - 17));
    let body = |len: usize| {
        let head = format!("SET_PARAMETER * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: {len}\r\n\r\n");
        head + &"b".repeat(len)
    };
    let cases: [(&str, Vec<u8>, &str, bool); 9] = [
        ("a head at the bound", head(HEAD_MAX).into(), "RTSP/1.0 200", false),
        ("a head past it", head(HEAD_MAX + 1).into(), "RTSP/1.0 400", true),
        ("a body at the bound", body(BODY_MAX).into(), "RTSP/1.0 451", false),
        ("a body past it", body(BODY_MAX + 1).into(), "RTSP/1.0 413", true),
        ("a start line at the bound", start(START_LINE_MAX).into(), "RTSP/1.0 4", false),
        ("a start line past it", start(START_LINE_MAX + 1).into(), "RTSP/1.0 414", true),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), "RTSP/1.0 400", true),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "RTSP/1.0 400", true),
        ("zeros", vec![0; 100_000], "RTSP/1.0 400", true),
    ];
    for (name, bytes, expected, closes) in cases {
        let (answer, closed) = exchange(gateway.at(), &bytes);
        assert!(answer.starts_with(expected), "{name}: {answer:?}");
        assert_eq!(closed, closes, "{name}");
    }
    assert!(gateway.counter("refused_malformed") >= 4, "garbage is counted");
    assert!(gateway.counter("refused_too_large") >= 2, "what is too large is counted");
    expect_undisturbed(&mut other);
    gateway.finish();
}

#[test]
fn half_open_connections_are_bounded_and_let_go() {
    let bench = Bench::new("half-open");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "half_open = 8\nhead_timeout_s = 2");
    let mut other = watching(&gateway);
    let mut flood: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(gateway.at()).unwrap()).collect();
    wait_for("eight half-open connections", Duration::from_secs(5), || {
        (gateway.ask(&["status"])["connections"] == 9).then_some(())
    });
    let (answer, _) = exchange(gateway.at(), b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    assert!(answer.starts_with("RTSP/1.0 200"), "the oldest gives way to the ninth: {answer}");
    assert_eq!(gateway.counter("ended_gave_way"), 1);
    assert_eq!(flood[0].read(&mut [0; 9]).unwrap(), 0, "the oldest is closed");
    expect_undisturbed(&mut other);
    // The others are let go after two seconds.
    wait_for("the others to be let go", Duration::from_secs(8), || {
        (gateway.counter("ended_slow_head") >= 7).then_some(())
    });
    drop(flood);
    expect_undisturbed(&mut other);
    gateway.finish();
}

#[test]
fn head_that_drips_in_too_slowly_is_let_go() {
    let bench = Bench::new("drip");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "head_timeout_s = 1");
    let mut stream = TcpStream::connect(gateway.at()).unwrap();
    let began = Instant::now();
    let mut sent = 0;
    for byte in b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nX-Slow: ".iter().chain([b'x'].iter().cycle()) {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        assert!(began.elapsed() < Duration::from_secs(10), "still open after {sent} bytes");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(began.elapsed() > Duration::from_millis(900), "not before its time");
    // A whole message in two parts within the time is fine.
    let mut raw = TcpStream::connect(gateway.at()).unwrap();
    raw.write_all(b"OPTIONS * RTSP/1.0\r\nCS").unwrap();
    thread::sleep(Duration::from_millis(500));
    raw.write_all(b"eq: 1\r\n\r\n").unwrap();
    let mut answer = [0; 15];
    raw.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"RTSP/1.0 200 OK");
    gateway.finish();
}

#[test]
fn half_closed_connection_still_gets_all_its_answers_and_ends() {
    let bench = Bench::new("half-closed");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    const COUNT: usize = 40;
    let url = gateway.url("/cam");
    let asked: String = (1..=COUNT)
        .map(|n| match n % 4 {
            0 => format!("DESCRIBE {url} RTSP/1.0\r\nCSeq: {n}\r\n\r\n"),
            1 => format!("OPTIONS {url} RTSP/1.0\r\nCSeq: {n}\r\n\r\n"),
            _ => format!("OPTIONS * RTSP/1.0\r\nCSeq: {n}\r\n\r\n"),
        })
        .collect();
    let mut stream = TcpStream::connect(gateway.at()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(asked.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("all answers, then the end");
    assert_eq!(answers.matches("RTSP/1.0 200 OK").count(), COUNT, "{answers}");
    assert_eq!(answers.matches("m=video").count(), COUNT / 4);
    // Who plays and says no more is told what it asked for, and its session ends.
    let mut playing = watching(&gateway);
    playing.send("GET_PARAMETER", &url, &[]);
    let stream = playing.into_stream();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    gateway.wait_idle(Duration::from_secs(5));
    gateway.finish();
}

#[test]
fn sessions_are_bounded_for_a_client() {
    sessions_are_bounded("sessions-client", "sessions_per_client = 2");
}

#[test]
fn sessions_are_bounded_in_all() {
    sessions_are_bounded("sessions-all", "sessions = 2");
}

fn sessions_are_bounded(name: &str, limit: &str) {
    let bench = Bench::new(name);
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, limit);
    let mut held = [watching(&gateway), watching(&gateway)];
    let url = format!("{}/track1", gateway.url("/cam"));
    let mut third = Raw::connect(gateway.at());
    let refused = third.ask("SETUP", &url, &[&format!("Transport: {TCP}")]);
    assert_eq!(refused.status, 453, "{}", refused.head);
    for raw in &mut held {
        expect_undisturbed(raw);
    }
    drop(held);
    gateway.wait_idle(Duration::from_secs(5));
    drop(watching(&gateway));
    gateway.finish();
}

#[test]
fn port_range_that_runs_out_is_503_until_a_session_ends() {
    let bench = Bench::new("ports");
    let camera = Camera::start(&bench);
    let mut setup = setup(&camera);
    setup.pairs = 2;
    let gateway = Gateway::start(&bench, &setup);
    let (first, second) = (udp_pair(), udp_pair());
    let transport = |pair: &(std::net::UdpSocket, std::net::UdpSocket)| {
        let port = pair.0.local_addr().unwrap().port();
        format!("RTP/AVP;unicast;client_port={port}-{}", port + 1)
    };
    let mut one = Raw::connect(gateway.at());
    one.play(&gateway.url("/cam"), &transport(&first));
    let mut two = Raw::connect(gateway.at());
    let described = two.ask("DESCRIBE", &gateway.url("/cam"), &["Accept: application/sdp"]);
    assert_eq!(described.status, 200);
    let control = described.body.lines().rev().find_map(|l| l.strip_prefix("a=control:")).unwrap();
    let url = if control.starts_with("rtsp:") {
        control.to_owned()
    } else {
        format!("{}/{control}", gateway.url("/cam"))
    };
    let header = format!("Transport: {}", transport(&second));
    let refused = two.ask("SETUP", &url, &[&header]);
    assert_eq!(refused.status, 503, "{}", refused.head);
    assert!(refused.header("Retry-After").is_some());
    // The connection stays, TCP still works, and ports come back.
    let interleaved = two.ask("SETUP", &url, &[&format!("Transport: {TCP}")]);
    assert_eq!(interleaved.status, 200, "{}", interleaved.head);
    drop(one);
    wait_for("ports again", Duration::from_secs(5), || {
        (gateway.ask(&["status"])["port_pairs_used"] == 0).then_some(())
    });
    let mut three = Raw::connect(gateway.at());
    three.play(&gateway.url("/cam"), &transport(&second));
    gateway.finish();
}

#[test]
fn descriptors_that_run_out_stop_nobody_for_good() {
    let bench = Bench::new("descriptors");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let mut other = watching(&gateway);
    let most = gateway.descriptors() + 6;
    let limited = Command::new("prlimit")
        .args(["--pid", &gateway.peer.pid().to_string(), &format!("--nofile={most}:{most}")])
        .status()
        .expect("prlimit of util-linux");
    assert!(limited.success());
    let flood: Vec<TcpStream> =
        (0..20).map(|_| TcpStream::connect(gateway.at()).unwrap()).collect();
    wait_for("descriptors to run out", Duration::from_secs(5), || {
        gateway.peer.stderr().contains("no connection can be accepted").then_some(())
    });
    expect_undisturbed(&mut other);
    drop(flood);
    wait_for("an answer again", Duration::from_secs(10), || {
        let (answer, _) = exchange(gateway.at(), b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
        answer.starts_with("RTSP/1.0 200").then_some(())
    });
    expect_undisturbed(&mut other);
    gateway.finish();
}

#[test]
fn player_that_never_reads_its_answers_costs_only_itself() {
    let bench = Bench::new("never-reads");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let mut other = watching(&gateway);
    let mut stuck = TcpStream::connect(gateway.at()).unwrap();
    stuck.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let request = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n".repeat(1000);
    let mut written = 0_usize;
    while written < 64 * 1024 * 1024 {
        match stuck.write(&request) {
            Ok(count) => written += count,
            Err(_) => break, // not read any more, or hung up on
        }
    }
    assert!(written < 64 * 1024 * 1024, "the gateway reads for ever");
    assert!(gateway.rss_kib() < 24 * 1024, "{} KiB", gateway.rss_kib());
    expect_undisturbed(&mut other);
    drop(stuck);
    gateway.finish();
}

/// An origin that is made up: `answer` gets each request line by line until the empty line.
fn made_up_origin(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                let mut writer = stream.try_clone().unwrap();
                let mut head = String::new();
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    if line.is_empty() {
                        answer(&core::mem::take(&mut head), &mut writer);
                    } else {
                        head += &line;
                        head += "\n";
                    }
                }
            });
        }
    });
    at
}

fn cseq(head: &str) -> &str {
    head.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap_or("0")
}

#[test]
fn origin_that_sends_half_a_reply_and_stops_is_given_up_in_time() {
    let bench = Bench::new("half-reply");
    let camera = Camera::start(&bench);
    let half = made_up_origin(|head, stream| {
        let text = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\nContent-Le", cseq(head));
        let _ = stream.write_all(text.as_bytes());
    });
    let mut setup = setup(&camera)
        .origin("half", &format!("rtsp://{half}"), "check = \"off\"")
        .route("/half", &["half"], "");
    setup.limits = "answer_timeout_s = 1".into();
    let gateway = Gateway::start(&bench, &setup);
    let mut other = watching(&gateway);
    let mut raw = Raw::connect(gateway.at());
    let began = Instant::now();
    let answer = raw.ask("DESCRIBE", &gateway.url("/half"), &[]);
    assert!(matches!(answer.status, 502..=504), "{}", answer.head);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(raw.ask("OPTIONS", "*", &[]).status, 200, "the connection stays");
    expect_undisturbed(&mut other);
    gateway.finish();
}

#[test]
fn ten_requests_are_outstanding_and_the_eleventh_waits() {
    let bench = Bench::new("outstanding");
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let silent = made_up_origin(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    let mut setup = Setup::default()
        .origin("silent", &format!("rtsp://{silent}"), "check = \"off\"")
        .route("/**", &["silent"], "");
    setup.limits = "answer_timeout_s = 2".into();
    let gateway = Gateway::start(&bench, &setup);
    let mut raw = Raw::connect(gateway.at());
    for _ in 0..15 {
        raw.send("GET_PARAMETER", &gateway.url("/x"), &[]);
    }
    wait_for("ten requests at the origin", Duration::from_secs(5), || {
        (seen.load(Ordering::SeqCst) == 10).then_some(())
    });
    thread::sleep(Duration::from_millis(300));
    assert_eq!(seen.load(Ordering::SeqCst), 10, "the eleventh waits (RFC 7826 10.2)");
    for _ in 0..15 {
        match raw.next(Duration::from_secs(10)) {
            Item::Answer(answer) => assert!(matches!(answer.status, 502..=504)),
            other => panic!("{other:?}"),
        }
    }
    gateway.finish();
}

#[test]
fn full_log_disturbs_nobody() {
    let bench = Bench::new("full-log");
    let camera = Camera::start(&bench);
    let port = free_port();
    let config = bench.write(
        "gateway.toml",
        &format!(
            "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[[origin]]\nname = \"cam\"\nurl = \"{}\"\n\
             [[route]]\npath = \"/**\"\norigins = [\"cam\"]\n",
            camera.url
        ),
    );
    // A pipe that nobody reads is full after 64 KiB.
    let child = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
        .args(["run", "--log", "trace", "--config"])
        .arg(config)
        .arg("--control")
        .arg(bench.file("s"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _child = Killed(child);
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    wait_for("gateway", Duration::from_secs(10), || TcpStream::connect(at).ok());
    // Each is refused, and each refusal is a line of the log.
    let nonsense = b"NONSENSE rtsp://x/y RTSP/1.0\r\n\r\n".repeat(100);
    let last = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nConnection: close\r\n\r\n";
    for _ in 0..30 {
        let (answers, _) = exchange(at, &[&nonsense[..], last].concat());
        assert_eq!(answers.matches("RTSP/1.0 400").count(), 100);
    }
    let mut raw = Raw::connect(at);
    raw.play(&format!("rtsp://{at}/cam"), TCP);
    expect_undisturbed(&mut raw);
}

/// A child that ends with the test, however that ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn udp_session_outlives_its_connection_when_told_so() {
    let bench = Bench::new("detached");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "detached_sessions = true");
    let sockets = udp_pair();
    sockets.0.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let port = sockets.0.local_addr().unwrap().port();
    let mut raw = Raw::connect(gateway.at());
    raw.play(&gateway.url("/cam"), &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1));
    let session = raw.session().unwrap().to_owned();
    drop(raw);
    let began = Instant::now();
    let mut packet = [0; 2048];
    while began.elapsed() < Duration::from_secs(1) {
        sockets.0.recv_from(&mut packet).expect("media flows on without the connection");
    }
    assert_eq!(gateway.ask(&["status"])["sessions"], 1);
    let mut back = Raw::connect(gateway.at());
    let header = format!("Session: {session}");
    let paused = back.ask("PAUSE", &gateway.url("/cam"), &[&header]);
    assert_eq!(paused.status, 200, "{}", paused.head);
    let gone = back.ask("TEARDOWN", &gateway.url("/cam"), &[]);
    assert_eq!(gone.status, 200, "{}", gone.head);
    let mut stranger = Raw::connect(gateway.at());
    let unknown = stranger.ask("PAUSE", &gateway.url("/cam"), &[&header]);
    assert_eq!(unknown.status, 454, "{}", unknown.head);
    drop((back, stranger));
    gateway.wait_idle(Duration::from_secs(5));
    gateway.finish();
}

#[test]
fn configuration_changes_under_a_running_session_and_a_wrong_one_changes_nothing() {
    let bench = Bench::new("change");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let mut other = watching(&gateway);
    let old = gateway.tell(&["config", "export"], true);
    let wrong = bench.write("wrong.toml", &old.replace("[\"cam\"]", "[\"nobody\"]"));
    let said = gateway.tell(&["config", "import", wrong.to_str().unwrap()], false);
    assert!(said.contains("nobody") && said.contains(":"), "{said}");
    assert_eq!(gateway.tell(&["config", "export"], true), old, "nothing has changed");
    let more = format!(
        "{old}\n[[origin]]\nname = \"more\"\nurl = \"{}\"\n[[route]]\npath = \"/more\"\norigins = [\"more\"]\n",
        camera.url
    );
    let path = bench.write("more.toml", &more);
    let said = gateway.tell(&["config", "import", path.to_str().unwrap()], true);
    assert!(said.contains("/more"), "{said}");
    let mut raw = Raw::connect(gateway.at());
    raw.play(&gateway.url("/more"), TCP);
    expect_undisturbed(&mut raw);
    expect_undisturbed(&mut other);
    gateway.finish();
}

#[test]
fn origin_whose_credentials_are_not_stored_is_an_event_with_its_remedy() {
    let bench = Bench::new("credentials");
    let camera = Camera::start(&bench);
    let mut setup = Setup::default()
        .origin("here", &camera.url, "credentials = \"known\"")
        .origin("there", &camera.url, "credentials = \"nvr\"")
        .route("/**", &["here", "there"], "auth = \"none\"");
    setup.secrets =
        Some("[[credential]]\nname = \"known\"\nuser = \"a\"\npassword = \"b\"\n".into());
    let gateway = Gateway::start(&bench, &setup);
    let events = gateway.ask(&["status"])["warnings"].to_string();
    assert!(events.contains("origin there names credentials nvr"), "{events}");
    assert!(events.contains("edgeweir config secret nvr"), "{events}");
    assert!(!events.contains("known"), "{events}");
    gateway.finish();
}

#[test]
fn gateway_runs_from_flash_and_keeps_what_it_was_told() {
    let bench = Bench::new("flash");
    let camera = Camera::start(&bench);
    let edgeweir = |words: &[&str], stdin: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let wrong = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {wrong}");
        said
    };
    let store = bench.file("store");
    let (store, socket) = (store.to_str().unwrap(), bench.file("s"));
    let socket = socket.to_str().unwrap();
    let port = free_port();
    let text = format!(
        "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[[origin]]\nname = \"cam\"\nurl = \"{}\"\n\
         [[route]]\npath = \"/**\"\norigins = [\"cam\"]\nauth = \"basic\"\n",
        camera.url
    );
    let file = bench.write("gateway.toml", &text);
    edgeweir(&["flash", "format", store], "");
    edgeweir(&["config", "import", file.to_str().unwrap(), "--flash", store], "");
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let start = |name: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        command.args(["run", "--flash", store, "--control", socket]);
        let peer = Peer::start(&bench, name, command);
        wait_for("gateway", Duration::from_secs(10), || TcpStream::connect(at).ok());
        peer
    };
    let mut peer = start("first");
    edgeweir(&["config", "user", "viewer", "--control", socket], "letmein\n");
    let url = format!("rtsp://{at}/cam");
    // viewer:letmein
    let header = "Authorization: Basic dmlld2VyOmxldG1laW4=";
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[]).status, 401);
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[header]).status, 200);
    let open = bench.write("open.toml", &text.replace("\"basic\"", "\"none\""));
    edgeweir(&["config", "import", open.to_str().unwrap(), "--control", socket], "");
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[]).status, 200);
    // Killed, not stopped: what was acknowledged is there.
    peer.signal(Signal::Kill);
    peer.wait(Duration::from_secs(5));
    let mut peer = start("second");
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[]).status, 200, "the change is kept");
    edgeweir(&["config", "rollback", "--control", socket], "");
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[]).status, 401, "rolled back");
    assert_eq!(Raw::connect(at).ask("DESCRIBE", &url, &[header]).status, 200, "users are kept");
    peer.signal(Signal::Term);
    assert!(peer.wait(Duration::from_secs(5)).success());
    assert!(!fs::exists(socket).unwrap(), "the control socket goes with the gateway");
}
