//! Publishing with ANNOUNCE and RECORD through the gateway, with a player watching.

use std::time::Duration;

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    origin::{GstOrigin, publish},
    player::{Aiortsp, Gst, Player, Tcp, Udp},
};

#[test]
fn ffmpeg_publishes_over_udp_and_a_player_watches() {
    publishes_over("udp", "same");
}

#[test]
fn ffmpeg_publishes_over_tcp_and_a_player_watches() {
    publishes_over("tcp", "same");
}

#[test]
fn publishing_crosses_transports() {
    publishes_over("tcp", "udp");
    publishes_over("udp", "tcp");
}

fn publishes_over(transport: &str, toward: &str) {
    let bench = Bench::new(&format!("publish-{transport}-{toward}"));
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default()
        .origin("nvr", &origin.base(), "")
        .route("/record", &["nvr"], &format!("origin_transport = \"{toward}\""))
        .route("/watch", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let mut publisher = publish(&bench, "publisher", &gateway.url("/record"), transport, 8);
    origin.wait_events("record /record", 1, Duration::from_secs(10));
    let watch = |kind, transport| Player::start(&bench, kind, transport, &gateway.url("/watch"), 4);
    let (decoding, counting) = (watch(Gst, Udp), [watch(Aiortsp, Udp), watch(Aiortsp, Tcp)]);
    for player in counting {
        player.finish().expect_whole();
    }
    decoding.finish().expect_pictures();
    let status = publisher.wait(Duration::from_secs(20));
    assert!(status.success(), "the publisher: {}", publisher.stderr());
    origin.wait_events("teardown /record", 1, Duration::from_secs(5));
    assert!(origin.recorded() >= 175, "{} access units of 200 arrived", origin.recorded());
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}
