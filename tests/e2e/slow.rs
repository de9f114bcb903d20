//! A player on TCP that does not keep up loses whole packets, and disturbs nobody.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    origin::GstOrigin,
    player::{Ffmpeg, Gst, Player, Tcp, Udp},
    raw::{Item, Raw},
};

#[test]
fn slow_player_loses_whole_packets_and_disturbs_nobody() {
    let bench = Bench::new("slow");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default()
        .origin("nvr", &origin.base(), "")
        .route("/**", &["nvr"], "")
        // Both sides of the conversion from datagrams are queues too.
        .route("/big", &["nvr"], "origin_transport = \"udp\"");
    let gateway = Gateway::start(&bench, &setup);
    // About 23 Mbit/s, more than the buffers of the kernel hold for long.
    let mut slow = Raw::connect(gateway.at());
    slow.play(&gateway.url("/big"), "RTP/AVP/TCP;unicast;interleaved=0-1");
    let others = [
        Player::start(&bench, Gst, Tcp, &gateway.url("/av"), 5),
        Player::start(&bench, Gst, Udp, &gateway.url("/av"), 5),
        Player::start(&bench, Ffmpeg, Tcp, &gateway.url("/open"), 5),
    ];
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(7) {
        slow.sip(4096);
        thread::sleep(Duration::from_millis(50));
    }
    for player in others {
        player.finish().expect_whole();
    }
    let sessions = gateway.sessions();
    let session = sessions.iter().find(|session| session["path"] == "/big").expect("its session");
    assert!(session["dropped"].as_u64() > Some(0), "the queue must be bounded: {session}");
    assert_eq!(session["drops"]["full"], session["dropped"], "and the reason is known: {session}");
    assert!(gateway.rss_kib() < 40 * 1024, "the queue of one player: {} KiB", gateway.rss_kib());
    // A reply is never dropped, and what came before it is whole frames to the last byte.
    let answer = slow.ask("OPTIONS", &gateway.url("/big"), &[]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    let rtp: Vec<_> = slow.frames.iter().filter(|frame| frame.channel == 0).collect();
    assert!(rtp.len() > 1000, "{} packets", rtp.len());
    assert!(rtp.iter().all(|frame| frame.payload[0] == 0x80), "packets must be whole");
    // Read fast again, it gets what is live.
    let fresh = Instant::now();
    let mut packets = 0;
    while fresh.elapsed() < Duration::from_secs(1) {
        if let Item::Frame(_) = slow.next(Duration::from_millis(200)) {
            packets += 1;
        }
    }
    assert!(packets > 500, "{packets} packets in a second after it was slow");
    drop(slow);
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}
