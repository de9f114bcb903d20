//! What one peer can take of a running gateway, and what is left for the others. Clients are told
//! apart by addresses 127.0.1.x; 127.0.0.1 is the machine itself, which is apart in the bounds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    io::{Read, Write},
    time::Duration,
};

use harness::{
    Bench,
    camera::Camera,
    gateway::{Gateway, Setup},
    raw::{Raw, stream_from},
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
