//! Flash that has gone bad: the device comes up with the last good state and says so.

use std::time::Duration;

use crate::{
    guest::{Device, Way},
    harness::{
        Bench,
        origin::GstOrigin,
        player::{Ffmpeg, Player, Tcp},
        wait_for,
    },
    image::Board,
};

/// Bytes of a page of the store: an erase block of the board's chip.
const PAGE_BYTES: usize = 256 << 10;

#[test]
fn aarch64_serves_from_a_damaged_store_and_says_so() {
    check(Board::Aarch64);
}

#[test]
fn armv7_serves_from_a_damaged_store_and_says_so() {
    check(Board::Armv7);
}

fn check(board: Board) {
    board.image();
    let _turn = board.turn();
    let bench = Bench::new(&format!("{}-damage", board.name()));
    let device = Device::new(&bench, board);
    let origin = GstOrigin::start(&bench, "origin");
    let mut guest = device.boot(Way::Direct);
    guest.configure(&device.config("good", origin.port));
    guest.cut();
    // All pages look closed: there is no state of the map like that.
    device.damage_config(|flash| {
        for page in flash.chunks_mut(PAGE_BYTES) {
            page[..4].fill(0);
            page[PAGE_BYTES - 4..].fill(0);
        }
    });
    let mut guest = device.boot(Way::Direct);
    let (_, status) = wait_for("status", Duration::from_secs(120), || {
        device.control("GET", "/v1/status", "").ok().filter(|(status, _)| *status == 200)
    });
    let log = guest.must("logread");
    for words in ["cannot be used", "was found there and is used"] {
        assert!(status.contains(words) && log.contains(words), "{words}: {status} {log}");
    }
    let plays = || {
        Player::start(&bench, Ffmpeg, Tcp, &device.url("/open"), 1).finish().expect_pictures();
    };
    plays();

    // Mended as board/README.md says.
    guest.must("edgeweir config export >/run/saved.toml");
    guest.must("device=/dev/mtd$(sed -n 's/^mtd\\([0-9]*\\):.*\"config\"$/\\1/p' /proc/mtd)");
    guest.must("edgeweir flash format --force $device");
    guest.must("edgeweir config import /run/saved.toml --flash $device");
    guest.must("kill $(pidof edgeweir); sleep 1; until edgeweir status >/dev/null 2>&1; do usleep 200000; done");
    guest.wait_answer();
    let status = guest.must("edgeweir status --json");
    assert!(!status.contains("was found there"), "{status}");
    plays();
}
