//! What an origin that people use pays for each packet, beside what the gateway pays: gst-rtsp-server
//! with one pipeline of raw video for all players, first without the gateway, then behind it.
//!
//! Making the pictures costs the same for one player as for many: one plays all the time, and what it
//! costs is taken off. (Without any the pipeline would be taken down, and refuse those who come then.)

use core::ops::Range;

use crate::{
    Length,
    harness::{
        Bench,
        gateway::{Gateway, Setup},
        origin::GstOrigin,
        raw::Raw,
    },
    kernel,
    load::{PLAYER_SOCKETS, Ports},
    report::row,
};

const PATH: &str = "/crowd";

/// CPU time and packets of a second.
#[derive(Clone, Copy)]
struct Second {
    origin_us: f64,
    gateway_us: f64,
    packets: f64,
}

/// Measures and prints; the text for the table.
pub(crate) fn run(length: Length) -> String {
    let (mut direct, mut behind, mut added) = (vec![], vec![], vec![]);
    for _ in 0..length.runs {
        let bench = Bench::new("served");
        let origin = GstOrigin::start(&bench, "gst-rtsp-server");
        let mut setup = Setup::default().origin("gst", &origin.base(), "check = \"off\"").route(
            "/**",
            &["gst"],
            "policy = \"first\"\norigin_transport = \"udp\"",
        );
        setup.gateway = "workers = 1".to_owned();
        setup.limits = "sessions_per_client = 64".to_owned();
        let gateway = Gateway::start(&bench, &setup);
        let ports = Ports::new();
        let (here, through) = (origin.url(PATH), gateway.url(PATH));
        let _first = play(&here, &ports, 0);
        let measure = |url: &str, players: Range<usize>| {
            let players: Vec<Raw> = players.map(|at| play(url, &ports, at)).collect();
            ports.count(0.5);
            let cpu = || [origin.peer.pid(), gateway.peer.pid()].map(kernel::cpu_ns);
            let before = cpu();
            let packets = ports.count(length.seconds) as f64 / length.seconds;
            let after = cpu();
            let us = |of: usize| (after[of] - before[of]) as f64 / 1000.0 / length.seconds;
            drop(players);
            Second { origin_us: us(0), gateway_us: us(1), packets }
        };
        let one = measure(&here, 0..0);
        let all = measure(&here, 1..PLAYER_SOCKETS);
        let relayed = measure(&through, 1..PLAYER_SOCKETS);
        assert!(all.packets > 2.0 * one.packets, "players are served");
        let more =
            |second: Second| (second.origin_us - one.origin_us) / (second.packets - one.packets);
        direct.push(more(all));
        behind.push(more(relayed));
        added.push((relayed.gateway_us - one.gateway_us) / (relayed.packets - one.packets));
    }
    let mut text = format!(
        "## gst-rtsp-server as an origin ({} runs)\n\n{} players over UDP of one pipeline of raw \
         video, about 2000 packets a second each. CPU time for each packet, microseconds; making the \
         pictures is taken off.\n\n| | median | spread |\n|---|---|---|\n",
        length.runs,
        PLAYER_SOCKETS - 1
    );
    text += &row("gst-rtsp-server, players of its own", direct);
    text += &row("gst-rtsp-server behind the gateway", behind);
    text += &row("the gateway", added);
    println!("\n{text}");
    text
}

/// A player of the origin or the gateway, with the ports of this number.
fn play(url: &str, ports: &Ports, number: usize) -> Raw {
    let at = url["rtsp://".len()..].split('/').next().and_then(|at| at.parse().ok());
    let mut player = Raw::connect(at.expect("an address"));
    let port = ports.of(number).port();
    player.play(url, &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1));
    player
}
