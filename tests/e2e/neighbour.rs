//! Somebody on a player's own host, who may send from its address and wants its stream.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use crate::harness::{
    Bench,
    bursts::{BurstOrigin, Shape, count},
    gateway::{Gateway, Setup},
    raw::{Raw, udp_pair},
};

/// Somebody on the player's host sends to the player's media port from another one, all the while: what
/// is no packet to a player that says nothing, and real RTP to one that has punched its hole.
#[test]
fn datagrams_from_another_port_of_the_players_host_take_no_stream() {
    for (punches, datagram) in
        [(false, Vec::new()), (true, vec![0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9])]
    {
        let bench = Bench::new("taken");
        let shape = Shape { frame_bytes: 20_000, kbit: 4000, frames: 75 };
        let origin = BurstOrigin::start_on(None, shape);
        let setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
        let gateway = Gateway::start(&bench, &setup);
        let (rtp, _rtcp) = udp_pair();
        rtp.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let port = rtp.local_addr().unwrap().port();
        let mut player = Raw::connect(gateway.at());
        let (url, ports) = (gateway.url("/cam"), format!("client_port={port}-{}", port + 1));
        let transport = format!("Transport: RTP/AVP;unicast;{ports}");
        let answer = player.ask("SETUP", &format!("{url}/track1"), &[&transport]);
        let theirs = answer.header("Transport").unwrap().split("server_port=").nth(1).unwrap();
        let theirs: u16 = theirs.split(['-', ';']).next().unwrap().parse().unwrap();
        let to = (Ipv4Addr::LOCALHOST, theirs);
        if punches {
            rtp.send_to(b"\xce\xfa\xed\xfe", to).unwrap();
        }
        let stop = AtomicBool::new(false);
        let got = thread::scope(|scope| {
            scope.spawn(|| {
                let other = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                while !stop.load(Relaxed) {
                    other.send_to(&datagram, to).unwrap();
                    thread::sleep(Duration::from_millis(5));
                }
            });
            thread::sleep(Duration::from_millis(100));
            player.ask("PLAY", &url, &[]);
            let (got, _) = count(&rtp, origin.clock());
            stop.store(true, Relaxed);
            got
        });
        assert_eq!(got, origin.sent(), "punches: {punches}");
        let drops = gateway.sessions()[0]["drops"].clone();
        let what = if punches { "stranger" } else { "absorbed" };
        assert!(drops[what].as_u64() > Some(100), "{drops}");
        let page = gateway.metrics();
        assert!(page.contains(&format!("edgeweir_dropped_{what}_total {}", drops[what])), "{page}");
        drop(player);
        gateway.finish();
    }
}
