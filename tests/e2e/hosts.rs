//! Player, gateway and origin on hosts of their own; the gateway between two networks does not
//! route, so what arrives came through edgeweir.

use std::{
    net::{SocketAddr, SocketAddrV6, TcpStream, UdpSocket},
    time::Duration,
};

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    net::{Host, TwoNetworks},
    origin::GstOrigin,
    peer::Peer,
    player::{Aiortsp, Ffmpeg, Gst, Gst2, Mpv, Player, Tcp, Udp},
    raw::Raw,
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

#[test]
fn a_link_local_player_gets_its_udp_from_a_link_local_origin() {
    let bench = Bench::new("link-local");
    let networks = TwoNetworks::new();
    let edgeweir = env!("CARGO_BIN_EXE_edgeweir");
    let mut camera = Host::command(Some(&networks.origin), edgeweir);
    camera.args(["camera", "--listen", "[::]:8554"]);
    let _camera = Peer::start(&bench, "camera", camera);
    let origin = networks.origin.link_local("eth0");
    let text = format!(
        "[gateway]\nlisten = [\"[::]:8554\"]\n[[origin]]\nname = \"cam\"\n\
         url = \"rtsp://[{}%toorigin]:8554\"\n[[route]]\npath = \"/**\"\norigins = [\"cam\"]\n",
        origin.ip()
    );
    let config = bench.write("gateway.toml", &text);
    let mut gateway = Host::command(Some(&networks.gateway), edgeweir);
    gateway.args(["run", "--config"]).arg(config).arg("--control").arg(bench.file("s"));
    let gateway = Peer::start(&bench, "gateway", gateway);
    let there = networks.gateway.link_local("toplayer");
    let here = networks.player.link_local("eth0");
    networks.player.within(|| {
        let at = |ip: &SocketAddrV6, port| {
            SocketAddr::from(SocketAddrV6::new(*ip.ip(), port, 0, here.scope_id()))
        };
        let gateway_at = at(&there, 8554);
        wait_for("gateway", Duration::from_secs(10), || TcpStream::connect(gateway_at).ok());
        let rtp = UdpSocket::bind(at(&here, 5000)).unwrap();
        rtp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut raw = Raw::connect(gateway_at);
        let url = format!("rtsp://[{}]:8554/cam", there.ip());
        raw.play(&url, "RTP/AVP;unicast;client_port=5000-5001");
        let mut packet = [0; 2048];
        for _ in 0..5 {
            let received = rtp.recv_from(&mut packet);
            received.unwrap_or_else(|error| panic!("{error}: {}", gateway.stderr()));
        }
    });
}
