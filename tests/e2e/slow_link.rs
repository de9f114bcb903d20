//! A gateway whose port toward the players is slow: 100 Mbit/s on a switch, 20 and then 1 Mbit/s over
//! radio. On hosts of their own; the port is the kernel's token bucket on a veth pair.

use std::time::{Duration, Instant};

use crate::harness::{
    Bench,
    bursts::{BurstOrigin, Shape, count, roomy_pair},
    gateway::{Gateway, Setup},
    net::TwoNetworks,
    raw::{Item, Raw},
};

/// A burst of a key frame of a 4K camera.
const FRAME_BYTES: usize = 250_000;

/// What the port holds: 1000 packets, as Linux gives to every device.
const PORT_QUEUE_KIB: u32 = 1500;

fn gateway(bench: &Bench, networks: &TwoNetworks, origin: &BurstOrigin, limits: &str) -> Gateway {
    let mut setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    setup.limits = limits.into();
    setup.host = Some(networks.gateway.clone());
    Gateway::start(bench, &setup)
}

#[test]
fn frames_of_250_kb_toward_a_port_of_100_mbit_arrive_whole() {
    let networks = TwoNetworks::new();
    networks.slow_port(100, PORT_QUEUE_KIB);
    for share in [10, 25, 50] {
        let bench = Bench::new("slow-port");
        let kbit = share * 1000;
        let frames = 3 * kbit * 1000 / (FRAME_BYTES as u32 * 8);
        let origin = BurstOrigin::start_on(
            Some(&networks.origin),
            Shape { frame_bytes: FRAME_BYTES, kbit, frames },
        );
        let gateway = gateway(&bench, &networks, &origin, "");
        let (rtp, _rtcp) = roomy_pair(&networks.player, 6000);
        let mut player = networks.player.within(|| Raw::connect(gateway.at()));
        player.play(&gateway.url("/cam"), "RTP/AVP;unicast;client_port=6000-6001");
        let (got, oldest) = count(&rtp, origin.clock());
        let (sent, dropped) = (origin.sent(), gateway.counter("packets_dropped"));
        eprintln!("{share} % of 100 Mbit/s: {got} of {sent} packets, the oldest {oldest:?}");
        assert!(sent >= u64::from(frames) * 178, "{sent} packets were sent");
        assert_eq!((got, dropped), (sent, 0), "{share} %: {:?}", gateway.sessions());
        drop(player);
        gateway.finish();
    }
}

#[test]
fn interleaved_media_stays_fresh_when_the_link_falls_to_a_twentieth() {
    let bench = Bench::new("link-falls");
    let networks = TwoNetworks::new();
    // What a radio holds, at 1 Mbit/s, is another half second.
    networks.slow_port(20, 64);
    let shape = Shape { frame_bytes: 40_000, kbit: 8000, frames: 25 * 16 };
    let origin = BurstOrigin::start_on(Some(&networks.origin), shape);
    let queue = Duration::from_millis(2000);
    let gateway = gateway(&bench, &networks, &origin, "media_queue_ms = 2000");
    let mut player = networks.player.within(|| Raw::connect(gateway.at()));
    player.play(&gateway.url("/cam"), "RTP/AVP/TCP;unicast;interleaved=0-1");
    let mut watch = |what: &'static str, time: Duration| {
        let (began, mut oldest, mut packets) = (Instant::now(), Duration::ZERO, 0u64);
        while began.elapsed() < time {
            match player.next(Duration::from_secs(2)) {
                Item::Frame(frame) => {
                    oldest = oldest.max(origin.clock().age(&frame.payload));
                    packets += 1;
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        eprintln!("{what}: {packets} packets, the oldest {oldest:?}");
        (oldest, packets)
    };
    let (oldest, _) = watch("20 Mbit/s", Duration::from_secs(3));
    assert!(oldest < Duration::from_millis(500), "{oldest:?} over a link with room");
    networks.slow_port(1, 64);
    // Behind the queue lie what TCP has not sent (limits::TCP_UNSENT_MAX_BYTES and a segment of 64 KiB,
    // 0.8 s) and what the radio holds (0.5 s). While TCP finds out (BBR takes longer than reno), what was
    // lost at the fall is sent again in front of all that.
    let mut within = |what, time, beyond| {
        let (oldest, packets) = watch(what, time);
        assert!(packets > 80 * time.as_secs(), "{packets} packets: the link is used");
        assert!(
            oldest <= queue + beyond,
            "{oldest:?}: older than the queue and {beyond:?} of TCP's"
        );
    };
    within("the fall", Duration::from_secs(4), Duration::from_millis(3500));
    within("1 Mbit/s", Duration::from_secs(6), Duration::from_millis(2000));
    drop(player);
    gateway.finish();
}
