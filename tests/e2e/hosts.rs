//! Player, gateway and origin on hosts of their own; the gateway between two networks does not
//! route, so what arrives came through edgeweir.

use std::time::Duration;

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    net::{Host, TwoNetworks},
    origin::GstOrigin,
    peer::Peer,
    player::{Aiortsp, Ffmpeg, Gst, Gst2, Mpv, Player, Tcp, Udp},
    wait_for,
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

#[test]
fn a_gateway_that_starts_before_its_network_is_reached_when_that_comes_up() {
    let bench = Bench::new("late-network");
    let networks = TwoNetworks::new();
    let at = format!("{}:8554", networks.gateway.address);
    let config = bench.write("late.toml", &format!("[gateway]\nlisten = [\"{at}\"]\n"));
    let control = bench.file("late.sock");
    networks.gateway_address("del");
    let mut gateway = Host::command(Some(&networks.gateway), env!("CARGO_BIN_EXE_edgeweir"));
    gateway.args(["run", "--config", config.to_str().unwrap()]);
    gateway.args(["--control", control.to_str().unwrap()]);
    let gateway = Peer::start(&bench, "gateway", gateway);
    let listens = || networks.gateway.listens(8554).then_some(());
    wait_for("gateway without network", Duration::from_secs(10), listens);
    let said = gateway.stderr();
    assert!(said.contains(&format!("{at} is no address of this machine yet")), "{said}");
    networks.gateway_address("add");
    let answered = || {
        let mut probe = Host::command(Some(&networks.player), env!("CARGO_BIN_EXE_edgeweir"));
        let output = probe.args(["probe", &format!("rtsp://{at}/none")]).output().unwrap();
        String::from_utf8_lossy(&output.stderr).contains("404").then_some(())
    };
    wait_for("answer", Duration::from_secs(10), answered);
}
