//! The peers among themselves: when these fail, the machine or the peers are at fault, not the
//! gateway.

use std::time::Duration;

use crate::harness::{
    Bench,
    origin::{Go2rtc, GstOrigin, VIEWER, publish},
    player::{Aiortsp, EVERY_PLAYER, Ffmpeg, Gst, Gst2, Player, Tcp, Udp},
};

#[test]
fn peers_work_without_the_gateway() {
    let bench = Bench::new("baseline");
    let origin = GstOrigin::start(&bench, "origin");
    let url = origin.url("/av");
    let mut players: Vec<Player> = EVERY_PLAYER
        .iter()
        .map(|(kind, transport)| Player::start(&bench, *kind, *transport, &url, 4))
        .collect();
    let signed = origin.url_as(VIEWER, "/digest");
    players.push(Player::start(&bench, Gst, Udp, &signed, 4));
    players.push(Player::start(&bench, Ffmpeg, Tcp, &signed, 4));
    for player in players {
        player.finish().expect_whole();
    }
}

#[test]
fn go2rtc_works_without_the_gateway() {
    let bench = Bench::new("baseline-go2rtc");
    let origin = Go2rtc::start(&bench);
    let url = origin.base() + "/cam";
    for kind in [Ffmpeg, Gst, Aiortsp] {
        Player::start(&bench, kind, Tcp, &url, 3).finish().expect_whole();
    }
}

#[test]
fn publishing_works_without_the_gateway() {
    let bench = Bench::new("baseline-publish");
    let origin = GstOrigin::start(&bench, "origin");
    let mut publisher = publish(&bench, "publisher", &origin.url("/record"), "tcp", 10);
    origin.wait_events("record /record", 1, Duration::from_secs(10));
    let url = origin.url("/watch");
    let players =
        [(Gst2, Tcp), (Gst, Udp)].map(|(kind, how)| Player::start(&bench, kind, how, &url, 4));
    for player in players {
        player.finish().expect_pictures();
    }
    assert!(publisher.wait(Duration::from_secs(20)).success(), "{}", publisher.stderr());
    assert!(origin.recorded() >= 225, "{} access units of 250", origin.recorded());
}
