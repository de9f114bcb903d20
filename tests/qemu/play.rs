//! From power-on to pictures: boot time, memory, streams through the guest, a hung gateway.

use std::time::{Duration, Instant};

use crate::{
    guest::{Device, Guest, QUICK, Way},
    harness::{
        Bench,
        origin::GstOrigin,
        player::{Ffmpeg, Gst, Player, Tcp, Udp},
        wait_for,
    },
    image::{Board, timed},
};

/// Starts of which the quickest counts: a busy machine is slow, not the image.
const STARTS: u32 = 3;
/// Resident memory of an idle gateway without plugins.
const IDLE_KIB: u32 = 5 * 1024;
const SECONDS: u32 = 4;
/// Longest time from the kernel's start to the first answer, of a processor that does 500 million
/// instructions a second however busy this machine is.
const ANSWER: Duration = Duration::from_secs(3);

#[test]
fn aarch64_answers_and_relays_pictures_over_udp_and_tcp() {
    check(Board::Aarch64);
}

#[test]
fn armv7_answers_and_relays_pictures_over_udp_and_tcp() {
    check(Board::Armv7);
}

fn check(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-play", board.name()));
    let device = Device::new(&bench, board);

    // The first start makes the store; the ones after it are what an owner sees each day.
    let mut guest = device.power_on(Way::Direct);
    let first = first_answer(&mut guest);
    let origin = GstOrigin::start(&bench, "origin");
    let rss = guest.rss_kib();
    guest.configure(&device.config("play", origin.port));
    let media = [(Ffmpeg, Udp), (Ffmpeg, Tcp), (Gst, Udp), (Gst, Tcp)];
    let players = media.map(|(kind, transport)| {
        Player::start(&bench, kind, transport, &device.url("/open"), SECONDS)
    });
    for player in players {
        player.finish().expect_whole();
    }
    guest.must("edgeweir status --json");
    guest.must("touch /data/plugins/x && rm /data/plugins/x");
    assert!(guest.shell("touch /x").0 != 0, "the root is read-only");
    let log = guest.must("logread");
    assert!(log.contains("listening on 0.0.0.0:8554"), "the gateway's log is in syslog: {log}");
    guest.cut();

    let again = (0..STARTS).map(|_| first_answer(&mut device.power_on(Way::Direct)));
    let best = again.min().unwrap();
    let device = device.steady();
    let steady = first_answer(&mut device.power_on(Way::Direct));
    eprintln!(
        "{}: first answer {best:.2?} after the kernel's start ({first:.2?} at the very first one, \
         {steady:.2?} by the instructions done), {rss} KiB resident",
        board.name()
    );
    assert!(steady <= ANSWER, "{steady:?} until the first answer, by the instructions done");
    assert!(rss <= IDLE_KIB, "{rss} KiB resident when idle");
}

/// From the kernel's start until a player was answered. A figure to look at: how long a start takes
/// says as much about this machine.
fn first_answer(guest: &mut Guest<'_>) -> Duration {
    guest.wait_answer();
    guest.uptime()
}

#[test]
fn aarch64_is_reset_when_the_gateway_hangs() {
    hang(Board::Aarch64);
}

#[test]
fn armv7_is_reset_when_the_gateway_hangs() {
    hang(Board::Armv7);
}

fn hang(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-hang", board.name()));
    let device = Device::new(&bench, board);
    let mut guest = device.boot(Way::Direct);
    let (before, since) = (guest.uptime(), Instant::now());
    // Killed it would be started again by init; hung, only the watchdog notices.
    guest.must("kill -STOP $(pidof edgeweir)");
    wait_for("silence", Duration::from_secs(30), || (!device.answers(QUICK)).then_some(()));
    guest.wait_answer();
    let after = guest.uptime();
    assert!(after < before + since.elapsed() / 2, "the device started anew: {before:?} {after:?}");
}
