//! Who checks the player: the origin, the gateway, or both.

use std::time::Duration;

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    origin::{GstOrigin, VIEWER},
    player::{Aiortsp, Ffmpeg, Gst, Gst2, Mpv, Player, Tcp, Udp},
    raw::Raw,
};

const SECRETS: &str = "\
[[user]]
name = \"alice\"
password = \"wonderland\"

[[credential]]
name = \"nvr\"
user = \"viewer\"
password = \"letmein\"
";

#[test]
fn digest_passes_from_player_to_origin() {
    let bench = Bench::new("auth-pass");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url_as(VIEWER, "/digest");
    let who = [(Ffmpeg, Udp), (Ffmpeg, Tcp), (Gst, Udp), (Gst2, Tcp), (Aiortsp, Udp), (Mpv, Tcp)];
    let players: Vec<Player> =
        who.iter().map(|(kind, how)| Player::start(&bench, *kind, *how, &url, 4)).collect();
    for player in players {
        player.finish().expect_whole();
    }
    let refused = Player::start(&bench, Ffmpeg, Tcp, &gateway.url_as("viewer:wrong", "/digest"), 4);
    assert_eq!(refused.finish().pictures, 0, "a wrong password must not open the stream");
    gateway.wait_idle(Duration::from_secs(10));
    gateway.finish();
}

#[test]
fn gateway_signs_toward_the_origin_for_players_without_credentials() {
    let bench = Bench::new("auth-held");
    let origin = GstOrigin::start(&bench, "origin");
    let mut setup = Setup::default().origin("nvr", &origin.base(), "credentials = \"nvr\"").route(
        "/digest",
        &["nvr"],
        "auth = \"none\"",
    );
    setup.secrets = Some(SECRETS.to_owned());
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/digest");
    let who = [(Ffmpeg, Udp), (Ffmpeg, Tcp), (Gst, Udp), (Gst2, Tcp), (Aiortsp, Tcp)];
    let players: Vec<Player> =
        who.iter().map(|(kind, how)| Player::start(&bench, *kind, *how, &url, 4)).collect();
    for player in players {
        player.finish().expect_whole();
    }
    let log = gateway.peer.stderr();
    assert!(!log.contains("letmein"), "the password of the origin is in the log");
    gateway.finish();
}

#[test]
fn gateway_checks_players_by_digest_and_basic() {
    let bench = Bench::new("auth-own");
    let origin = GstOrigin::start(&bench, "origin");
    let mut setup = Setup::default()
        .origin("nvr", &origin.base(), "credentials = \"nvr\"")
        .route("/open", &["nvr"], "auth = \"digest\"")
        .route("/av", &["nvr"], "auth = \"basic\"")
        .route("/digest", &["nvr"], "auth = \"digest\"");
    setup.secrets = Some(SECRETS.to_owned());
    let gateway = Gateway::start(&bench, &setup);
    let known = |path| gateway.url_as("alice:wonderland", path);
    let players = [
        Player::start(&bench, Ffmpeg, Udp, &known("/open"), 4),
        Player::start(&bench, Gst, Udp, &known("/open"), 4),
        Player::start(&bench, Mpv, Tcp, &known("/open"), 4),
        Player::start(&bench, Ffmpeg, Tcp, &known("/av"), 4),
        Player::start(&bench, Gst, Tcp, &known("/av"), 4),
        // The gateway knows the player, and the origin knows the gateway.
        Player::start(&bench, Ffmpeg, Udp, &known("/digest"), 4),
        Player::start(&bench, Gst, Tcp, &known("/digest"), 4),
    ];
    for player in players {
        player.finish().expect_whole();
    }
    let before = origin.events("connected");
    let described = origin.events("describe /open");
    for user in ["alice:wrong", "mallory:wonderland"] {
        let url = gateway.url_as(user, "/open");
        assert_eq!(Player::start(&bench, Ffmpeg, Tcp, &url, 4).finish().pictures, 0, "{user}");
    }
    let stranger = Raw::connect(gateway.at()).ask("DESCRIBE", &gateway.url("/open"), &[]);
    assert_eq!(stranger.status, 401, "{}", stranger.head);
    let now = origin.events("describe /open");
    assert_eq!(now, described, "an unknown player must not reach the origin");
    assert!(described >= 2, "those that are known do: {described}");
    assert!(before >= 7, "each known player has a connection of its own");
    gateway.finish();
}
