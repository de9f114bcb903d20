//! Power cuts on real flash, in the middle of configuration changes.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    guest::{Device, Way},
    harness::{
        Bench,
        origin::GstOrigin,
        player::{Ffmpeg, Player, Tcp},
        wait_for,
    },
    image::{Board, timed},
};

/// Cuts on each board; with those in installs (`plugins.rs`), two boards are more than 20 a run.
const CUTS: u32 = 7;
/// Flash that a configuration change may write.
const CHANGE_BYTES: usize = 4096;

#[test]
fn aarch64_loses_no_acknowledged_change_to_power_cuts() {
    check(Board::Aarch64);
}

#[test]
fn armv7_loses_no_acknowledged_change_to_power_cuts() {
    check(Board::Armv7);
}

fn check(board: Board) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-cuts", board.name()));
    let device = Device::new(&bench, board);
    let origin = GstOrigin::start(&bench, "origin");
    let mut guest = device.boot(Way::Direct);
    guest.configure(&device.config("n0", origin.port));

    let before = device.config_flash();
    let changed = Instant::now();
    change(&device, &device.config("n1", origin.port)).expect("a change");
    let changed = changed.elapsed();
    let written = device.config_flash().iter().zip(&before).filter(|(new, old)| new != old).count();
    assert!(written <= CHANGE_BYTES, "{written} bytes of flash for one change");
    // The first start of a device notes its slot as kept.
    guest.must("until edgeweir-slot show | grep -q 'slot a'; do sleep 1; done");
    if idle_time() > GOOD_START {
        thread::sleep(GOOD_START); // that the start was good is noted once
    }
    let (flash, disk) = device.written();
    thread::sleep(idle_time());
    let (after, disk_after) = device.written();
    let differs = flash.iter().zip(&after).position(|(before, after)| before != after);
    assert_eq!(differs, None, "an idle device wrote to flash, there first");
    assert_eq!(disk, disk_after, "an idle device wrote to its disk");

    let acknowledged = AtomicU32::new(1);
    let mut total = 0;
    for cut in 0..CUTS {
        let first = acknowledged.load(Ordering::SeqCst);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = first + 1;
                while !stop.load(Ordering::SeqCst)
                    && change(&device, &device.config(&format!("n{next}"), origin.port)).is_ok()
                {
                    acknowledged.store(next, Ordering::SeqCst);
                    next += 1;
                }
            });
            // At least one change went through; then the cut falls anywhere into the following.
            wait_for("acknowledged change", Duration::from_secs(120), || {
                (acknowledged.load(Ordering::SeqCst) > first).then_some(())
            });
            thread::sleep(Duration::from_millis(u64::from(cut * 37 % 190)));
            guest.cut();
            stop.store(true, Ordering::SeqCst);
        });
        let sure = acknowledged.load(Ordering::SeqCst);
        total += sure - first;

        guest = device.boot(Way::Direct);
        let (_, text) = wait_for("configuration after the cut", Duration::from_secs(120), || {
            device.control("GET", "/v1/config", "").ok().filter(|(status, _)| *status == 200)
        });
        let found: u32 = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("via = \"n")?.strip_suffix('"')?.parse().ok())
            .unwrap_or_else(|| panic!("cut {cut}: no name in {text}"));
        assert!(
            found == sure || found == sure + 1,
            "cut {cut}: {sure} changes were acknowledged, the device has number {found}"
        );
        // Whole, not a mixture: all else is as that change had it.
        let whole = device.config(&format!("n{found}"), origin.port);
        for line in whole.lines().filter(|line| line.contains('=')) {
            assert!(text.contains(line), "cut {cut}: `{line}` is missing in {text}");
        }
        acknowledged.store(found, Ordering::SeqCst);
        let player = Player::start(&bench, Ffmpeg, Tcp, &device.url("/open"), 1);
        player.finish().expect_pictures();
    }
    eprintln!(
        "{}: {CUTS} cuts, {total} acknowledged changes, 0 lost; one takes {changed:?} and writes \
         {written} bytes",
        board.name()
    );
}

/// After which a start counts as good, and some time for the board to be slow.
const GOOD_START: Duration = Duration::from_secs(80);

/// How long nothing may be written: a bound of 10 minutes, of which a test has a few seconds.
/// `EDGEWEIR_IDLE_S=600` takes the whole of it.
fn idle_time() -> Duration {
    let said = std::env::var("EDGEWEIR_IDLE_S").ok();
    Duration::from_secs(said.map_or(4, |text| text.parse().expect("EDGEWEIR_IDLE_S in seconds")))
}

fn change(device: &Device<'_>, config: &str) -> Result<(), String> {
    match device.control("PUT", "/v1/config", config) {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
