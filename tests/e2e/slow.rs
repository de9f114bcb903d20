//! A player on TCP that does not keep up loses whole packets, and disturbs nobody.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::harness::{
    Bench,
    bursts::{BurstOrigin, Shape},
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
    // Few of them: what the kernel takes beyond what it can send is bounded too.
    assert!(rtp.len() > 300, "{} packets", rtp.len());
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

#[test]
fn a_player_slower_than_a_recorder_gets_all_of_it_when_it_sets_the_pace() {
    let bench = Bench::new("pace");
    // 20 MB as fast as they are taken: more than all buffers on the way hold.
    let shape = Shape { frame_bytes: 100_000, kbit: 0, frames: 200 };
    let origin = BurstOrigin::start_on(None, shape);
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let mut player = Raw::connect(gateway.at());
    let url = gateway.url("/clip");
    let transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1";
    assert_eq!(player.ask("SETUP", &format!("{url}/track1"), &[transport]).status, 200);
    assert_eq!(player.ask("PLAY", &url, &["Rate-Control: no"]).status, 200);
    player.send("GET_PARAMETER", &url, &[]);
    let began = Instant::now();
    let (mut got, mut answered, mut ahead) = (0u64, false, 0);
    let all = 200 * 72; // packets of a frame
    while !answered || got < all {
        match player.next(Duration::from_secs(10)) {
            Item::Frame(frame) => {
                let number = u16::from_be_bytes([frame.payload[2], frame.payload[3]]);
                assert_eq!(u64::from(number), got % 65_536, "a packet is missing");
                got += 1;
                ahead = ahead.max(origin.sent() - got);
            }
            Item::Answer(answer) => answered = answer.status == 200,
            end => panic!("{end:?} after {got} packets"),
        }
        if got.is_multiple_of(24) {
            thread::sleep(Duration::from_millis(8));
        }
    }
    eprintln!("{got} packets in {:?}, at most {ahead} on the way", began.elapsed());
    assert_eq!(got, origin.sent());
    assert!(began.elapsed() > Duration::from_secs(3), "this player is slow");
    assert!(gateway.rss_kib() < 40 * 1024, "what waits is bounded: {} KiB", gateway.rss_kib());
    assert_eq!(gateway.counter("packets_dropped"), 0);
    drop(player);
    gateway.finish();
}
