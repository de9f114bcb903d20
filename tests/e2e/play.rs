//! Players watch real origins through the gateway.

use std::time::{Duration, Instant};

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    origin::{Go2rtc, GstOrigin},
    player::{Aiortsp, EVERY_PLAYER, Ffmpeg, Gst, Gst2, Kind, Mpv, Player, Tcp, Transport, Udp},
    raw::{Raw, udp_pair},
    wait_for,
};

const SECONDS: u32 = 4;

#[test]
fn every_player_watches_two_tracks_over_both_transports() {
    let bench = Bench::new("two-tracks");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/av");
    let players: Vec<Player> = EVERY_PLAYER
        .iter()
        .map(|(kind, transport)| Player::start(&bench, *kind, *transport, &url, SECONDS))
        .collect();
    for (player, (kind, _)) in players.into_iter().zip(EVERY_PLAYER) {
        let played = player.finish();
        played.expect_whole();
        if kind == Gst || kind == Gst2 {
            played.expect_audio();
        }
    }
    gateway.wait_idle(Duration::from_secs(10));
    wait_for("TEARDOWN of each session at the origin", Duration::from_secs(5), || {
        (origin.events("teardown /av") >= 10).then_some(())
    });
    gateway.finish();
}

#[test]
fn every_player_watches_one_track_over_both_transports() {
    let bench = Bench::new("one-track");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/open", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/open");
    let players: Vec<Player> = EVERY_PLAYER
        .iter()
        .map(|(kind, transport)| Player::start(&bench, *kind, *transport, &url, SECONDS))
        .collect();
    for player in players {
        player.finish().expect_whole();
    }
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}

/// A gateway whose `/cam` is that of a go2rtc, which serves over TCP only.
fn before_go2rtc(bench: &Bench, origin: &Go2rtc) -> Gateway {
    let tcp = "origin_transport = \"tcp\"";
    let setup = Setup::default().origin("go2rtc", &origin.base(), "");
    Gateway::start(bench, &setup.route("/cam", &["go2rtc"], tcp))
}

#[test]
fn players_watch_go2rtc() {
    let bench = Bench::new("go2rtc");
    let origin = Go2rtc::start(&bench);
    let gateway = before_go2rtc(&bench, &origin);
    let url = gateway.url("/cam");
    // Players on UDP see that the gateway converts.
    let who = [(Ffmpeg, Tcp), (Ffmpeg, Udp), (Gst, Tcp), (Gst, Udp), (Aiortsp, Tcp), (Mpv, Udp)];
    let players: Vec<Player> =
        who.iter().map(|(kind, how)| Player::start(&bench, *kind, *how, &url, SECONDS)).collect();
    for player in players {
        player.finish().expect_whole();
    }
    // Of a player that left during SETUP the origin is heard for as long as an answer may take.
    gateway.wait_idle(Duration::from_secs(20));
    gateway.finish();
}

#[test]
fn all_four_combinations_of_transports_carry_both_tracks() {
    let bench = Bench::new("transports");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default()
        .origin("nvr", &origin.base(), "")
        .route("/av", &["nvr"], "origin_transport = \"udp\"")
        .route("/av2", &["nvr"], "origin_transport = \"tcp\"");
    let gateway = Gateway::start(&bench, &setup);
    let mut players = Vec::new();
    for (path, toward) in [("/av", Udp), ("/av2", Tcp)] {
        for transport in [Udp, Tcp] {
            for kind in [Gst, Ffmpeg] {
                let url = gateway.url(path);
                let player = Player::start(&bench, kind, transport, &url, SECONDS + 1);
                players.push((kind, player));
            }
            expect_session(&gateway, path, transport, toward);
        }
    }
    for (kind, player) in players {
        let played = player.finish();
        played.expect_whole();
        if kind == Gst {
            played.expect_audio();
        }
    }
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}

#[test]
fn rtsp_2_crosses_transports_too() {
    let bench = Bench::new("rtsp2");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default()
        .origin("nvr", &origin.base(), "")
        .route("/av", &["nvr"], "origin_transport = \"udp\"")
        .route("/av2", &["nvr"], "origin_transport = \"tcp\"");
    let gateway = Gateway::start(&bench, &setup);
    let who: [(Kind, Transport, &str); 2] = [(Gst2, Tcp, "/av"), (Gst2, Udp, "/av2")];
    let players: Vec<Player> = who
        .iter()
        .map(|(kind, how, path)| Player::start(&bench, *kind, *how, &gateway.url(path), SECONDS))
        .collect();
    for player in players {
        player.finish().expect_whole();
    }
    gateway.finish();
}

/// GStreamer's rtspsrc punches its holes with five datagrams of 200 random bytes, from a thread of
/// its own, so that some come after PLAY. go2rtc hangs up on a frame that it cannot parse.
#[test]
fn what_is_no_rtp_does_not_reach_an_interleaved_origin() {
    let bench = Bench::new("punching");
    let origin = Go2rtc::start(&bench);
    let gateway = before_go2rtc(&bench, &origin);
    let (rtp, rtcp) = udp_pair();
    let port = rtp.local_addr().expect("a port").port();
    let mut raw = Raw::connect(gateway.at());
    let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
    let answer = raw.play(&gateway.url("/cam"), &transport);
    let ports = answer.head.split("server_port=").nth(1).expect("server_port");
    let server: u16 = ports.split('-').next().expect("a port").parse().expect("a number");
    let header_only = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for punch in [&[0xff_u8; 200][..], &[0xbf; 200], &[0; 200], &[0; 1], &[], &header_only] {
        rtp.send_to(punch, ("127.0.0.1", server)).expect("a datagram");
        rtcp.send_to(punch, ("127.0.0.1", server + 1)).expect("a datagram");
    }
    rtp.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(2) {
        let came = rtp.recv(&mut [0; 2048]);
        came.expect("media must go on after a hole was punched");
    }
    drop(raw);
    gateway.finish();
}

/// Waits for a playing session of a path with these transports.
fn expect_session(gateway: &Gateway, path: &str, client: Transport, origin: Transport) {
    wait_for("session with both transports", Duration::from_secs(10), || {
        gateway.sessions().into_iter().find(|session| {
            session["path"] == path
                && session["client_transport"] == client.word()
                && session["origin_transport"] == origin.word()
                && session["tracks"] == 2
                && session["state"] == "playing"
        })
    });
}

#[test]
fn players_watch_through_two_gateways_in_a_row() {
    let inner_bench = Bench::new("chain-inner");
    let outer_bench = Bench::new("chain-outer");
    let origin = GstOrigin::start(&inner_bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    let inner = Gateway::start(&inner_bench, &setup);
    let base = inner.url("");
    let setup = Setup::default().origin("inner", &base, "").route("/**", &["inner"], "");
    let outer = Gateway::start(&outer_bench, &setup);
    let who = [(Ffmpeg, Udp), (Ffmpeg, Tcp), (Gst, Udp), (Gst2, Tcp)];
    let players: Vec<Player> = who
        .iter()
        .map(|(kind, how)| Player::start(&outer_bench, *kind, *how, &outer.url("/av"), SECONDS))
        .collect();
    for player in players {
        player.finish().expect_whole();
    }
    for gateway in [outer, inner] {
        gateway.wait_idle(Duration::from_secs(10));
        gateway.finish();
    }
}
