//! What once stalled, leaked, spun or ended an innocent session on a running gateway. Origins that
//! misbehave are made up here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use harness::{
    Bench, free_port,
    gateway::{Gateway, Setup},
    peer::{Peer, Signal},
    raw::{Item, Raw, udp_pair},
    wait_for,
};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

/// What an origin does with a TEARDOWN.
#[derive(Clone, Copy)]
enum Torn {
    Answered,
    Ignored,
    HungUp,
}

/// An origin that says yes to everything, and sends no media.
fn origin(torn: Torn) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tell = tell.clone();
            thread::spawn(move || serve(stream.unwrap(), torn, &tell));
        }
    });
    (url, told)
}

fn serve(stream: TcpStream, torn: Torn, tell: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(got) if got > 0 => {}
            _ => break,
        }
        if line != "\r\n" {
            head += &line;
            continue;
        }
        let value = |name: &str| {
            let line = head.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let method = head.split(' ').next().unwrap().to_owned();
        let _ = tell.send(method.clone());
        match (method.as_str(), torn) {
            ("TEARDOWN", Torn::Ignored) => {}
            ("TEARDOWN", Torn::HungUp) => return,
            _ => {
                if method == "SETUP" {
                    thread::sleep(Duration::from_millis(100));
                }
                let mut answer = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", value("CSeq").unwrap());
                if let Some(transport) = value("Transport") {
                    answer += &format!("Session: 7\r\nTransport: {transport};server_port=9-9\r\n");
                }
                let _ = (&stream).write_all((answer + "\r\n").as_bytes());
            }
        }
        head.clear();
    }
    let _ = tell.send("closed".into());
}

fn gateway(bench: &Bench, url: &str, limits: &str) -> Gateway {
    let mut setup = Setup::default().origin("o", url, "check = \"off\"").route("/**", &["o"], "");
    setup.limits = limits.into();
    Gateway::start(bench, &setup)
}

/// A session over TCP that is set up, not playing.
fn ready(gateway: &Gateway) -> Raw {
    let mut raw = Raw::connect(gateway.at());
    let url = gateway.url("/cam/t1");
    assert_eq!(raw.ask("SETUP", &url, &[&format!("Transport: {TCP}")]).status, 200);
    raw
}

/// CPU time that the gateway has used, all threads.
fn cpu(gateway: &Gateway) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.peer.pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

fn expect_rest(gateway: &Gateway, before: Duration) {
    let used = cpu(gateway).saturating_sub(before);
    assert!(used < Duration::from_millis(150), "{used:?} of CPU time for one closed connection");
}

#[test]
fn a_client_that_left_is_not_watched_while_its_origin_owes_an_answer() {
    let bench = Bench::new("left");
    let (url, _told) = origin(Torn::Ignored);
    let gateway = gateway(&bench, &url, "");
    let raw = ready(&gateway);
    let before = cpu(&gateway);
    drop(raw);
    gateway.wait_idle(Duration::from_secs(5));
    thread::sleep(Duration::from_secs(1));
    expect_rest(&gateway, before);
    gateway.finish();
}

#[test]
fn an_origin_that_hangs_up_over_teardown_is_not_watched_any_more() {
    let bench = Bench::new("hung-up");
    let (url, told) = origin(Torn::HungUp);
    let gateway = gateway(&bench, &url, "");
    let raw = ready(&gateway);
    let before = cpu(&gateway);
    let id = gateway.sessions()[0]["id"].as_u64().unwrap().to_string();
    gateway.tell(&["sessions", "close", &id], true);
    let deadline = Duration::from_secs(5);
    wait_for("TEARDOWN at the origin", deadline, || {
        told.try_iter().any(|it| it == "TEARDOWN").then_some(())
    });
    thread::sleep(Duration::from_millis(1200));
    expect_rest(&gateway, before);
    drop(raw);
    gateway.finish();
}

#[test]
fn a_client_that_leaves_during_setup_leaves_no_session_at_the_origin() {
    let bench = Bench::new("zapping");
    let (url, told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "");
    for _ in 0..5 {
        let mut raw = Raw::connect(gateway.at());
        raw.send("SETUP", &gateway.url("/cam/t1"), &[&format!("Transport: {TCP}")]);
        while told.recv_timeout(Duration::from_secs(5)).unwrap() != "SETUP" {}
        drop(raw);
        while told.recv_timeout(Duration::from_secs(5)).unwrap() != "TEARDOWN" {}
    }
    gateway.wait_idle(Duration::from_secs(5));
    gateway.finish();
}

#[test]
fn a_stream_of_frames_that_never_pauses_is_no_unfinished_message() {
    let bench = Bench::new("frames");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "head_timeout_s = 1");
    let mut stream = TcpStream::connect(gateway.at()).unwrap();
    let setup =
        format!("SETUP {} RTSP/1.0\r\nCSeq: 1\r\nTransport: {TCP}\r\n\r\n", gateway.url("/cam/t1"));
    stream.write_all(setup.as_bytes()).unwrap();
    let _ = stream.read(&mut [0; 2000]).unwrap();
    let frame = [&b"$\0\0\x0c\x80\x60"[..], &[0; 10]].concat();
    let began = Instant::now();
    stream.write_all(&frame[..7]).unwrap();
    while began.elapsed() < Duration::from_secs(4) {
        thread::sleep(Duration::from_millis(50));
        // The rest of one frame and the beginning of the next.
        let sent = stream.write_all(&[&frame[7..], &frame[..7]].concat());
        assert!(sent.is_ok(), "hung up on after {:?}", began.elapsed());
    }
    assert_eq!(gateway.ask(&["status"])["sessions"], 1);
    // Half a frame and no more is still the client's fault.
    wait_for("end", Duration::from_secs(4), || {
        (gateway.ask(&["status"])["sessions"] == 0).then_some(())
    });
    gateway.finish();
}

#[test]
fn requests_held_up_by_unread_answers_are_answered_when_those_are_read() {
    const COUNT: usize = 30_000;
    let bench = Bench::new("unread");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "head_timeout_s = 2");
    let stream = TcpStream::connect(gateway.at()).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let writing = thread::spawn(move || {
        let mut all = String::new();
        for cseq in 1..=COUNT {
            all += &format!("OPTIONS * RTSP/1.0\r\nCSeq: {cseq}\r\n\r\n");
        }
        writer.write_all(all.as_bytes())
    });
    thread::sleep(Duration::from_secs(1));
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    reader.get_ref().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut answers = 0;
    let mut line = String::new();
    while answers < COUNT {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(got) if got > 0 => answers += usize::from(line.starts_with("RTSP/1.0 200")),
            end => panic!("{end:?} after {answers} answers of {COUNT}"),
        }
        if answers % 500 == 0 && line == "\r\n" {
            thread::sleep(Duration::from_millis(5)); // slower than they are made
        }
    }
    writing.join().unwrap().unwrap();
    gateway.finish();
}

#[test]
fn a_session_that_was_torn_down_holds_no_place() {
    let bench = Bench::new("place");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "sessions_per_client = 1");
    let mut first = ready(&gateway);
    let mut second = Raw::connect(gateway.at());
    let setup = [format!("Transport: {TCP}")];
    let setup: Vec<&str> = setup.iter().map(String::as_str).collect();
    let url = gateway.url("/cam/t1");
    assert_eq!(second.ask("SETUP", &url, &setup).status, 453);
    assert_eq!(first.ask("TEARDOWN", &gateway.url("/cam"), &[]).status, 200);
    assert_eq!(gateway.ask(&["status"])["sessions"], 0);
    assert_eq!(second.ask("SETUP", &url, &setup).status, 200);
    gateway.finish();
}

#[test]
fn a_configuration_reaches_the_connections_that_are_open() {
    let bench = Bench::new("open");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "");
    let mut raw = Raw::connect(gateway.at());
    assert_eq!(raw.ask("DESCRIBE", &gateway.url("/cam"), &[]).status, 200);
    let text = fs::read_to_string(bench.file("gateway.toml")).unwrap();
    let text = text.replace("path = \"/**\"", "path = \"/other/**\"");
    gateway.tell(&["config", "import", bench.write("new.toml", &text).to_str().unwrap()], true);
    assert_eq!(raw.ask("DESCRIBE", &gateway.url("/cam"), &[]).status, 404);
    assert_eq!(raw.ask("DESCRIBE", &gateway.url("/other/x"), &[]).status, 200);
    gateway.finish();
}

#[test]
fn a_listen_address_is_widened_at_the_same_port_and_one_that_cannot_be_had_is_refused() {
    let bench = Bench::new("listen");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "");
    let port = gateway.at().port();
    let text = fs::read_to_string(bench.file("gateway.toml")).unwrap();
    let import = |name: &str, address: &str, succeeds: bool| {
        let text = text.replace("127.0.0.1:", address);
        let text = text.replace(&url.replace("127.0.0.1:", address), &url);
        let file = bench.write(name, &text);
        gateway.tell(&["config", "import", file.to_str().unwrap()], succeeds)
    };
    let refused = import("away.toml", "192.0.2.77:", false);
    assert!(refused.contains("cannot listen on 192.0.2.77"), "{refused}");
    assert!(TcpStream::connect(gateway.at()).is_ok(), "what was is still there");
    import("wide.toml", "0.0.0.0:", true);
    wait_for("wider address", Duration::from_secs(3), || {
        TcpStream::connect(("127.0.0.2", port)).ok()
    });
    gateway.finish();
}

#[test]
fn a_second_gateway_at_the_same_address_does_not_start_and_takes_no_connection() {
    let bench = Bench::new("second");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "");
    let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
        .args(["run", "--config", bench.file("gateway.toml").to_str().unwrap()])
        .args(["--control", bench.file("second.sock").to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("another program has it"), "{said}");
    let accepted = gateway.counter("connections_accepted");
    let streams: Vec<_> = (0..8).map(|_| TcpStream::connect(gateway.at()).unwrap()).collect();
    wait_for("connections", Duration::from_secs(3), || {
        (gateway.counter("connections_accepted") == accepted + 8).then_some(())
    });
    drop(streams);
    gateway.finish();
}

#[test]
fn a_gateway_told_to_stop_does_not_wait_for_stuck_peers() {
    let bench = Bench::new("stuck");
    let (url, _told) = origin(Torn::Ignored);
    let mut gateway = gateway(&bench, &url, "");
    let sessions: Vec<Raw> = (0..8).map(|_| ready(&gateway)).collect();
    let began = Instant::now();
    gateway.peer.signal(Signal::Term);
    let status = gateway.peer.wait(Duration::from_secs(10));
    assert!(status.success());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(sessions);
}

/// The camera and a gateway, both at these addresses.
fn cameras(bench: &Bench, camera: &str, gateway: &str) -> (Peer, Peer, SocketAddr) {
    let start = |name: &str, at: SocketAddr, words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        command.args(words);
        let peer = Peer::start(bench, name, command);
        wait_for(name, Duration::from_secs(10), || TcpStream::connect(at).ok());
        peer
    };
    let camera = format!("{camera}:{}", free_port());
    let at: SocketAddr = format!("{gateway}:{}", free_port()).parse().unwrap();
    let origin = start("camera", camera.parse().unwrap(), &["camera", "--listen", &camera]);
    let first = 34_000 + u16::try_from(std::process::id() % 50).unwrap() * 20;
    let media = format!("{first}-{}", first + 19);
    let text = format!(
        "[gateway]\nlisten = [\"{at}\"]\nmedia_ports = \"{media}\"\n[[origin]]\nname = \"cam\"\n\
         url = \"rtsp://{camera}\"\n[[route]]\npath = \"/**\"\norigins = [\"cam\"]\n"
    );
    let config = bench.write("v6.toml", &text);
    let control = std::env::temp_dir().join(format!("edgeweir-v6-{}", at.port()));
    let words = ["run", "--config", config.to_str().unwrap(), "--control"];
    let gateway = start("gateway", at, &[&words[..], &[control.to_str().unwrap()]].concat());
    (origin, gateway, at)
}

#[test]
fn media_flows_over_ipv6_on_both_sides() {
    let bench = Bench::new("v6");
    let (_camera, _gateway, at) = cameras(&bench, "[::1]", "[::1]");
    for transport in ["udp", "tcp"] {
        let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
            .args(["probe", &format!("rtsp://{at}/cam"), "--transport", transport])
            .args(["--seconds", "1"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{transport}: {said}");
    }
}

#[test]
fn a_setup_without_describe_gets_media_from_an_origin_of_the_other_family() {
    let bench = Bench::new("mixed");
    let (_camera, gateway, at) = cameras(&bench, "[::1]", "127.0.0.1");
    // The names of the camera's tracks, learned on another connection.
    let mut other = Raw::connect(at);
    let url = format!("rtsp://{at}/cam");
    let described = other.ask("DESCRIBE", &url, &[]);
    let mut track = described.body.lines().filter_map(|it| it.strip_prefix("a=control:"));
    let track = track.rfind(|it| *it != "*").unwrap().rsplit('/').next().unwrap().to_owned();
    let (rtp, rtcp) = udp_pair();
    let mut raw = Raw::connect(at);
    let (a, b) = (rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port());
    let transport = format!("Transport: RTP/AVP;unicast;client_port={a}-{b}");
    assert_eq!(raw.ask("SETUP", &format!("{url}/{track}"), &[&transport]).status, 200);
    assert_eq!(raw.ask("PLAY", &url, &[]).status, 200);
    rtp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let got = rtp.recv(&mut [0; 2048]);
    assert!(got.is_ok(), "no media: {got:?}; {}", gateway.stderr());
    assert!(!matches!(raw.next(Duration::from_millis(10)), Item::Closed(_)));
}

#[test]
fn a_bad_file_at_sighup_changes_nothing_and_a_good_one_does() {
    let bench = Bench::new("hup");
    let (url, _told) = origin(Torn::Answered);
    let gateway = gateway(&bench, &url, "");
    let mut raw = ready(&gateway);
    let text = fs::read_to_string(bench.file("gateway.toml")).unwrap();
    bench.write("gateway.toml", &text.replace("policy", "polizei").replace("url =", "uri ="));
    gateway.peer.signal(Signal::Hup);
    let events = |part: &str| {
        let status = gateway.ask(&["status"]);
        status["events"].to_string().contains(part).then_some(())
    };
    wait_for("refusal", Duration::from_secs(5), || events("origin[0].uri"));
    assert_eq!(raw.ask("PLAY", &gateway.url("/cam"), &[]).status, 200);
    bench.write("gateway.toml", &text.replace("/**", "/else/**"));
    gateway.peer.signal(Signal::Hup);
    let mut other = Raw::connect(gateway.at());
    wait_for("changed route", Duration::from_secs(5), || {
        (other.ask("DESCRIBE", &gateway.url("/cam"), &[]).status == 404).then_some(())
    });
    let still = raw.ask("GET_PARAMETER", &gateway.url("/cam"), &[]);
    assert_eq!(still.status, 200, "a session under way goes on by the old routes");
    gateway.finish();
}

#[test]
fn places_at_origins_are_given_back_whatever_way_a_session_goes() {
    let bench = Bench::new("places");
    // Takes connections and closes them at the first request.
    let closer = TcpListener::bind("127.0.0.1:0").unwrap();
    let closing = format!("rtsp://{}", closer.local_addr().unwrap());
    thread::spawn(move || {
        for stream in closer.incoming() {
            let _ = stream.unwrap().read(&mut [0; 1000]);
        }
    });
    let (url, _told) = origin(Torn::Answered);
    let setup = Setup::default()
        .origin("bad", &closing, "check = \"off\"")
        .origin("good", &url, "check = \"off\"")
        .route("/**", &["bad", "good"], "policy = \"first\"");
    let gateway = Gateway::start(&bench, &setup);
    let counts = || {
        let status = gateway.ask(&["status"]);
        let of = |at: usize| status["origins"][at]["sessions"].as_u64().unwrap();
        (of(0), of(1), status["sessions"].as_u64().unwrap())
    };
    let torn_down = ready(&gateway);
    assert_eq!(counts(), (0, 1, 1), "failed over");
    let mut describes = Raw::connect(gateway.at());
    assert_eq!(describes.ask("DESCRIBE", &gateway.url("/cam"), &[]).status, 200);
    let aborted = ready(&gateway);
    assert_eq!(counts(), (0, 2, 2), "what only asks has no place");
    drop((torn_down, describes, aborted));
    let id = {
        let kept = ready(&gateway);
        let sessions = gateway.sessions();
        let id = sessions.iter().filter_map(|it| it["id"].as_u64()).max().unwrap();
        gateway.tell(&["sessions", "close", &id.to_string()], true);
        drop(kept);
        id
    };
    wait_for("places given back", Duration::from_secs(5), || (counts() == (0, 0, 0)).then_some(()));
    assert!(gateway.sessions().is_empty(), "{id}");
    gateway.finish();
}
