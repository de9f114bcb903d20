//! Player, gateway and origin on hosts of their own; the gateway between two networks does not
//! route, so what arrives came through edgeweir.

use std::time::Duration;

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    net::{Host, TwoNetworks},
    origin::GstOrigin,
    player::{Aiortsp, Ffmpeg, Gst, Gst2, Mpv, Player, Tcp, Udp},
};

#[test]
fn players_in_another_network_than_the_origin_watch_it() {
    let bench = Bench::new("hosts");
    let networks = TwoNetworks::new();
    let origin = GstOrigin::start_on(&bench, "origin", Some(&networks.origin));
    let reach = Host::command(Some(&networks.player), "ping")
        .args(["-c", "1", "-W", "1", &networks.origin.address.to_string()])
        .output();
    assert!(
        reach.map_or(true, |output| !output.status.success()),
        "the player must not reach the origin by itself"
    );
    let mut setup = Setup::default()
        .origin("nvr", &origin.base(), "")
        .route("/**", &["nvr"], "")
        .route("/open", &["nvr"], "endpoints = \"strict\"");
    setup.host = Some(networks.gateway.clone());
    let gateway = Gateway::start(&bench, &setup);
    let on = Some(&networks.player);
    let play = |kind, transport, path| {
        Player::start_on(&bench, kind, transport, &gateway.url(path), 4, on)
    };
    let players = [
        play(Ffmpeg, Udp, "/av"),
        play(Ffmpeg, Tcp, "/av"),
        play(Gst, Udp, "/av"),
        play(Gst2, Udp, "/av"),
        play(Aiortsp, Udp, "/open"),
        play(Mpv, Udp, "/av"),
        play(Gst, Udp, "/open"),
    ];
    for player in players {
        player.finish().expect_whole();
    }
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}
