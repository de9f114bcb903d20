//! Origins that are dead, die, or freeze: a player is served by another origin, or its session ends.
//! One that sends no pictures and still answers is alive: there may be nothing to see.

use std::{
    net::{TcpListener, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Bench, free_port,
    gateway::{Gateway, Setup},
    origin::GstOrigin,
    peer::Signal,
    player::{Ffmpeg, Gst, Player, Tcp, Udp},
    raw::{Raw, udp_pair},
    wait_for,
};

/// 10 seconds of silence, and a moment for the machine.
const SILENCE: Duration = Duration::from_secs(13);

#[test]
fn dead_origin_is_replaced_by_the_next_one() {
    let bench = Bench::new("failover");
    let origin = GstOrigin::start(&bench, "origin");
    let dead = format!("rtsp://127.0.0.1:{}", free_port());
    let setup = Setup::default()
        .origin("dead", &dead, "check = \"off\"")
        .origin("alive", &origin.base(), "")
        .route("/open", &["dead", "alive"], "policy = \"first\"");
    let gateway = Gateway::start(&bench, &setup);
    let players = [
        Player::start(&bench, Ffmpeg, Udp, &gateway.url("/open"), 3),
        Player::start(&bench, Gst, Tcp, &gateway.url("/open"), 3),
    ];
    for player in players {
        player.finish().expect_whole();
    }
    gateway.finish();
}

#[test]
fn origin_that_accepts_and_says_nothing_is_replaced_by_the_next_one() {
    let bench = Bench::new("failover-mute");
    let origin = GstOrigin::start(&bench, "origin");
    // Connections are taken into its backlog and never answered.
    let mute = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut setup = Setup::default()
        .origin(
            "mute",
            &format!("rtsp://{}", mute.local_addr().expect("its port")),
            "check = \"off\"",
        )
        .origin("alive", &origin.base(), "")
        .route("/open", &["mute", "alive"], "policy = \"first\"");
    setup.limits = "answer_timeout_s = 1".to_owned();
    let gateway = Gateway::start(&bench, &setup);
    // It waits a second for the mute one; then it plays.
    Player::start(&bench, Gst, Udp, &gateway.url("/open"), 3).finish().expect_whole();
    gateway.finish();
}

#[test]
fn killed_origin_ends_the_sessions_of_its_players() {
    let bench = Bench::new("origin-killed");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/open", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/open");
    let ffmpeg_udp = Player::start(&bench, Ffmpeg, Udp, &url, 60);
    let ffmpeg_tcp = Player::start(&bench, Ffmpeg, Tcp, &url, 60);
    let (rtp, rtcp) = udp_pair();
    let mut raw_udp = playing_over_udp(&gateway, &url, &rtp);
    let mut raw_tcp = playing_over_tcp(&gateway, &url);
    thread::sleep(Duration::from_secs(1));
    origin.peer.signal(Signal::Kill);
    let killed = Instant::now();
    raw_udp.wait_closed(SILENCE);
    raw_tcp.wait_closed(SILENCE);
    for player in [ffmpeg_udp, ffmpeg_tcp] {
        let left = SILENCE.saturating_sub(killed.elapsed());
        let played = player.finish_within(left.max(Duration::from_secs(1)));
        assert!(played.pictures >= 10, "{}: {} pictures", played.name, played.pictures);
    }
    drop((rtp, rtcp));
    gateway.wait_idle(Duration::from_secs(5));
    gateway.finish();
}

#[test]
fn frozen_origin_ends_the_sessions_of_its_players() {
    let bench = Bench::new("origin-frozen");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/open", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/open");
    let (rtp, rtcp) = udp_pair();
    let mut raw_udp = playing_over_udp(&gateway, &url, &rtp);
    let mut raw_tcp = playing_over_tcp(&gateway, &url);
    // Its connections stay open, nothing comes any more.
    origin.peer.signal(Signal::Stop);
    let stopped = Instant::now();
    raw_udp.wait_closed(SILENCE);
    raw_tcp.wait_closed(SILENCE.saturating_sub(stopped.elapsed()).max(Duration::from_secs(1)));
    assert!(stopped.elapsed() >= Duration::from_secs(5), "silence is given some seconds");
    drop((rtp, rtcp));
    wait_for("reason in the log", Duration::from_secs(5), || {
        gateway.peer.stderr().contains("silen").then_some(())
    });
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}

#[test]
fn camera_whose_pictures_stop_while_it_still_answers_keeps_its_sessions() {
    let bench = Bench::new("pictures-frozen");
    let mut origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/open", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/open");
    let (rtp, rtcp) = udp_pair();
    let mut raw_udp = playing_over_udp(&gateway, &url, &rtp);
    let mut raw_tcp = playing_over_tcp(&gateway, &url);
    origin.freeze_pictures();
    thread::sleep(SILENCE);
    for raw in [&mut raw_udp, &mut raw_tcp] {
        assert_eq!(raw.ask("GET_PARAMETER", &url, &[]).status, 200, "its session goes on");
    }
    drop((raw_udp, raw_tcp, rtp, rtcp));
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}

/// A session over UDP of which one packet has arrived.
fn playing_over_udp(gateway: &Gateway, url: &str, rtp: &UdpSocket) -> Raw {
    let port = rtp.local_addr().expect("a port").port();
    let mut raw = Raw::connect(gateway.at());
    raw.play(url, &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1));
    rtp.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    rtp.recv(&mut [0; 2048]).expect("a first packet");
    raw
}

/// A session over TCP.
fn playing_over_tcp(gateway: &Gateway, url: &str) -> Raw {
    let mut raw = Raw::connect(gateway.at());
    raw.play(url, "RTP/AVP/TCP;unicast;interleaved=0-1");
    raw
}
