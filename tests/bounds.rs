//! What one peer can take of a running gateway, and what is left for the others. Clients are told
//! apart by addresses 127.0.1.x; 127.0.0.1 is the machine itself, which is apart in the bounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    Bench,
    camera::Camera,
    gateway::{Gateway, Setup},
    raw::{Raw, stream_from, udp_pair},
    wait_for,
};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";

fn gateway(bench: &Bench, camera: &Camera, limits: &str) -> Gateway {
    let mut setup = Setup::default().origin("cam", &camera.url, "").route("/**", &["cam"], "");
    setup.limits = limits.into();
    Gateway::start(bench, &setup)
}

fn lines_with(gateway: &Gateway, text: &str) -> Vec<String> {
    gateway.peer.stderr().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[test]
fn two_thousand_refused_requests_are_one_line_of_the_log_with_their_count() {
    let bench = Bench::new("refused-lines");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let mut stream = stream_from(1, gateway.at()).unwrap();
    let request = b"PLAY rtsp://x/cam RTSP/1.0\r\nCSeq: 7\r\nSession: 1\r\n\r\n";
    for _ in 0..20 {
        stream.write_all(&request.repeat(100)).unwrap();
        let (mut answers, mut part) = (Vec::new(), [0; 4096]);
        while answers.windows(4).filter(|four| four == b"\r\n\r\n").count() < 100 {
            let got = stream.read(&mut part).unwrap();
            answers.extend_from_slice(&part[..got]);
        }
    }
    let mut other = Raw::connect_from(2, gateway.at());
    assert_eq!(other.ask("PLAY", &gateway.url("/cam"), &["Session: 1"]).status, 454);
    wait_for("all to be counted", Duration::from_secs(5), || {
        (gateway.counter("refused_no_session") >= 2001).then_some(())
    });
    assert!(gateway.metrics().contains("edgeweir_refused_no_session_total 2001"));
    let lines = lines_with(&gateway, "Session id is not that of this connection");
    assert_eq!(lines.len(), 2, "one for each address: {lines:?}");
    gateway.finish();
}

#[test]
fn limits_on_sessions_say_which_one_it_was() {
    let bench = Bench::new("which-limit");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "sessions = 3\nsessions_per_client = 2");
    let held: Vec<Raw> = (0..2)
        .map(|_| {
            let mut raw = Raw::connect_from(1, gateway.at());
            raw.play(&gateway.url("/cam"), TCP);
            raw
        })
        .collect();
    let refused = |last: u8| {
        let track = format!("{}/track1", gateway.url("/cam"));
        let mut raw = Raw::connect_from(last, gateway.at());
        let answer = raw.ask("SETUP", &track, &[&format!("Transport: {TCP}")]);
        answer.head.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(refused(1), "RTSP/1.0 453 Session limit of this address");
    let mut third = Raw::connect_from(2, gateway.at());
    third.play(&gateway.url("/cam"), TCP);
    assert_eq!(refused(3), "RTSP/1.0 453 Session limit of the gateway");
    let lines = lines_with(&gateway, "limits.sessions_per_client");
    assert!(lines.len() == 1 && lines[0].contains("127.0.1.1"), "{lines:?}");
    assert_eq!(gateway.counter("refused_client_sessions"), 1);
    assert_eq!(gateway.counter("refused_session_limit"), 1);
    drop((held, third));
    gateway.finish();
}

/// A player of an address that nobody has had so far plays soon, and is not thrown out again. The
/// machine may be busy: one of three tries counts.
fn expect_served(gateway: &Gateway, transport: &str) {
    let mut longest = Duration::MAX;
    for last in 100..103 {
        let began = Instant::now();
        let mut raw = Raw::connect_from(last, gateway.at());
        assert_eq!(raw.ask("OPTIONS", "*", &[]).status, 200);
        longest = longest.min(began.elapsed());
        raw.play(&gateway.url("/cam"), transport);
        assert_eq!(raw.ask("TEARDOWN", &gateway.url("/cam"), &[]).status, 200);
    }
    assert!(longest < Duration::from_millis(100), "{longest:?}");
}

#[test]
fn connections_of_one_address_that_have_asked_something_shut_nobody_out() {
    let bench = Bench::new("one-address");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "sessions = 16\nhalf_open = 16");
    let mut other = Raw::connect_from(2, gateway.at());
    other.play(&gateway.url("/cam"), TCP);
    let flood: Vec<Raw> = (0..60)
        .map(|_| {
            let mut raw = Raw::connect_from(1, gateway.at());
            assert_eq!(raw.ask("OPTIONS", "*", &[]).status, 200);
            raw
        })
        .collect();
    assert_eq!(gateway.ask(&["status"])["connections"], 48);
    expect_served(&gateway, TCP);
    assert!(gateway.counter("connections_gave_way") >= 13);
    assert_eq!(other.ask("GET_PARAMETER", &gateway.url("/cam"), &[]).status, 200, "still there");
    drop(flood);
    gateway.finish();
}

#[test]
fn idle_connections_of_one_address_shut_nobody_out() {
    let bench = Bench::new("idle-address");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let flood: Vec<TcpStream> = (0..200).map(|_| stream_from(1, gateway.at()).unwrap()).collect();
    expect_served(&gateway, TCP);
    drop(flood);
    gateway.finish();
}

#[test]
fn an_address_has_as_many_connections_as_it_may_and_its_own_oldest_go() {
    let bench = Bench::new("connections-of-one");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "connections_per_client = 3");
    let mut first = Raw::connect_from(1, gateway.at());
    first.play(&gateway.url("/cam"), TCP);
    // One is accepted before the next comes: each worker accepts on its own.
    let another = |_| {
        let mut raw = Raw::connect_from(1, gateway.at());
        assert_eq!(raw.ask("OPTIONS", "*", &[]).status, 200);
        raw
    };
    let mut others: Vec<Raw> = (0..3).map(another).collect();
    others[0].wait_closed(Duration::from_secs(5));
    assert_eq!(others[2].ask("OPTIONS", "*", &[]).status, 200);
    assert_eq!(first.ask("OPTIONS", "*", &[]).status, 200, "one with a session stays");
    for raw in &mut others[1..] {
        raw.play(&gateway.url("/cam"), TCP);
    }
    let mut refused = stream_from(1, gateway.at()).unwrap();
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("RTSP/1.0 503 Connection limit of this address\r\n"), "{answer}");
    assert_eq!(gateway.counter("refused_client_connections"), 1);
    gateway.finish();
}

fn udp(port: u16) -> String {
    format!("RTP/AVP;unicast;client_port={port}-{}", port + 1)
}

#[test]
fn ports_that_two_addresses_took_without_playing_go_to_who_plays() {
    let bench = Bench::new("ports-taken");
    let camera = Camera::start(&bench);
    let mut setup = Setup::default().origin("cam", &camera.url, "").route("/**", &["cam"], "");
    setup.pairs = 12;
    let gateway = Gateway::start(&bench, &setup);
    let mut flood = Vec::new();
    for at in 0..10_u8 {
        let mut raw = Raw::connect_from(1 + at % 2, gateway.at());
        let track = format!("{}/track1", gateway.url("/cam"));
        let transport = udp(40_000 + 2 * u16::from(at));
        raw.ask("SETUP", &track, &[&format!("Transport: {transport}")]);
        flood.push(raw);
    }
    let sockets = udp_pair();
    sockets.0.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut player = Raw::connect_from(3, gateway.at());
    let began = Instant::now();
    // The ports are those of the sockets on the loopback address, the address is the connection's.
    let port = sockets.0.local_addr().unwrap().port();
    player.play(&gateway.url("/cam"), &udp(port));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(gateway.counter("sessions_gave_way") >= 1);
    assert_eq!(player.ask("GET_PARAMETER", &gateway.url("/cam"), &[]).status, 200);
    drop(flood);
    gateway.finish();
}

#[test]
fn tracks_are_bounded_for_an_address() {
    let bench = Bench::new("tracks-of-one");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "tracks_per_client = 2");
    let track = format!("{}/track1", gateway.url("/cam"));
    let set_up = |last: u8| {
        let mut raw = Raw::connect_from(last, gateway.at());
        let answer = raw.ask("SETUP", &track, &[&format!("Transport: {TCP}")]);
        (raw, answer.head.lines().next().unwrap_or_default().to_owned())
    };
    let held = [set_up(1), set_up(1)];
    assert!(held.iter().all(|(_, line)| line == "RTSP/1.0 200 OK"), "{:?}", held[0].1);
    assert_eq!(set_up(1).1, "RTSP/1.0 453 Track limit of this address");
    assert_eq!(set_up(2).1, "RTSP/1.0 200 OK");
    drop(held);
    gateway.wait_idle(Duration::from_secs(5));
    assert_eq!(set_up(1).1, "RTSP/1.0 200 OK");
    gateway.finish();
}

#[test]
fn descriptors_that_one_address_took_leave_some_for_control_and_for_players() {
    let bench = Bench::new("descriptors-taken");
    let camera = Camera::start(&bench);
    let gateway = gateway(&bench, &camera, "");
    let most = gateway.descriptors() + 130;
    let limited = Command::new("prlimit")
        .args(["--pid", &gateway.peer.pid().to_string(), &format!("--nofile={most}:{most}")])
        .status()
        .expect("prlimit of util-linux");
    assert!(limited.success());
    std::thread::sleep(Duration::from_millis(1500)); // the limit is looked at once a second
    let flood: Vec<Raw> = (0..150)
        .map(|_| {
            let mut raw = Raw::connect_from(1, gateway.at());
            // Each takes a connection to the origin too.
            raw.send("OPTIONS", &gateway.url("/cam"), &[]);
            raw
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let left = most.saturating_sub(gateway.descriptors());
    assert!(left >= 10, "{left} descriptors are left");
    assert_eq!(gateway.counter("accept_exhausted"), 0, "control is answered");
    expect_served(&gateway, TCP);
    drop(flood);
    gateway.finish();
}

#[test]
fn bodies_that_wait_for_an_answer_have_a_bound_for_an_address() {
    let bench = Bench::new("waiting-bodies");
    // Nobody answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rtsp://{}", listener.local_addr().unwrap());
    let setup = Setup::default().origin("deaf", &url, "check = \"off\"").route(
        "/**",
        &["deaf"],
        "methods = [\"play\", \"parameters\"]",
    );
    let gateway = Gateway::start(&bench, &setup);
    let before = gateway.rss_kib();
    let body = "b".repeat(60_000);
    let request = |cseq: u32| {
        let url = gateway.url("/cam");
        let length = body.len();
        format!(
            "SET_PARAMETER {url} RTSP/1.0\r\nCSeq: {cseq}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let flood: Vec<TcpStream> = (0..150)
        .map(|_| {
            let mut stream = stream_from(1, gateway.at()).unwrap();
            stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
            for cseq in 1..=10 {
                if stream.write_all(request(cseq).as_bytes()).is_err() {
                    break;
                }
            }
            stream
        })
        .collect();
    let after = gateway.rss_kib();
    assert!(after < before + 12 * 1024, "{before} KiB before, {after} KiB after");
    assert!(gateway.counter("ended_requests_kept") > 0);
    drop(flood);
    gateway.finish();
}

#[test]
fn wrong_passwords_are_slowed_counted_logged_once_and_end_the_connection() {
    let bench = Bench::new("wrong-passwords");
    let camera = Camera::start(&bench);
    let mut setup =
        Setup::default().origin("cam", &camera.url, "").route("/**", &["cam"], "auth = \"basic\"");
    setup.secrets = Some("[[user]]\nname = \"viewer\"\npassword = \"letmein\"\n".into());
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/cam");
    let wrong = "Authorization: Basic dmlld2VyOndyb25n"; // viewer:wrong
    let right = "Authorization: Basic dmlld2VyOmxldG1laW4=";
    // One connection after the other, as fast as the gateway lets it.
    let mut guessing = Raw::connect_from(1, gateway.at());
    let began = Instant::now();
    for _ in 0..5 {
        let answer = guessing.ask("DESCRIBE", &url, &[wrong]);
        assert_eq!(answer.status, 401, "{}", answer.head);
    }
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    guessing.wait_closed(Duration::from_secs(3));
    assert_eq!(gateway.counter("ended_wrong_passwords"), 1);
    // Many at the same time: two of an address are looked at in a second.
    let before = gateway.counter("auth_wrong_passwords");
    let began = Instant::now();
    let mut flood: Vec<Raw> = (0..30).map(|_| Raw::connect_from(1, gateway.at())).collect();
    for raw in &mut flood {
        raw.send("DESCRIBE", &url, &[wrong]);
    }
    let mut other = Raw::connect_from(2, gateway.at());
    assert_eq!(other.ask("DESCRIBE", &url, &[right]).status, 200);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "the right one of another address: {took:?}");
    let refused = flood[29].ask("OPTIONS", "*", &[]);
    assert_eq!(refused.head.lines().next(), Some("RTSP/1.0 503 Wrong passwords of this address"));
    std::thread::sleep(Duration::from_secs(1));
    let checked = gateway.counter("auth_wrong_passwords") - before;
    let seconds = began.elapsed().as_secs() + 1;
    assert!(checked <= 2 * seconds, "{checked} in {seconds} s");
    let lines = lines_with(&gateway, "wrong password");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("127.0.1.1") && lines[0].contains("viewer"), "{lines:?}");
    gateway.finish();
}
