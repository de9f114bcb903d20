//! Plugins on a board: uploaded from outside, compiled there, swapped under a stream, rolled back,
//! and whole after power cuts in the middle of their installs.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    guest::{Device, Way},
    harness::{
        Bench,
        origin::GstOrigin,
        player::{Ffmpeg, Player, Tcp, Udp},
        wait_for,
    },
    image::{Board, timed},
};

/// Cuts in the middle of installs on each board.
const CUTS: u64 = 5;
/// Resident memory of a gateway with one plugin.
const ONE_PLUGIN_KIB: u32 = 9 * 1024;
const SLOT: &str = "balance";

#[test]
fn aarch64_compiles_swaps_and_keeps_plugins() {
    check(Board::Aarch64, "native");
}

#[test]
fn armv7_compiles_swaps_and_keeps_plugins() {
    check(Board::Armv7, "pulley32");
}

fn check(board: Board, code: &str) {
    board.image();
    let _timed = timed();
    let bench = Bench::new(&format!("{}-plugins", board.name()));
    let device = Device::new(&bench, board).steady();
    let origin = GstOrigin::start(&bench, "origin");
    let mut guest = device.boot(Way::Roomy);
    guest.configure(&config(&device, origin.port));

    let installing = Instant::now();
    let first = install(&device, &component("least-loaded"), 1).expect("an install");
    let installing = installing.elapsed();
    let took = phase_ms(&first, "compile").expect("it is compiled on the board");
    let files = guest.must("ls -l /data/plugins");
    assert!(files.contains(&format!(".{code}.cwasm")), "{files}");
    serves(&bench, &device, "least-loaded");

    // Another one while streams run, that last long enough for it. What is wrong changes nothing.
    let seconds = 4 + 2 * u32::try_from(installing.as_secs()).unwrap();
    let mut streams = [Udp, Tcp]
        .map(|transport| Player::start(&bench, Ffmpeg, transport, &device.url("/open"), seconds));
    wait_for("two sessions", Duration::from_secs(60), || {
        let (_, text) = device.control("GET", "/v1/sessions", "").ok()?;
        (text.matches("\"playing\"").count() == 2).then_some(())
    });
    let swapped = Instant::now();
    install(&device, &component("c-smooth"), 2).expect("a swap");
    let swapped = swapped.elapsed();
    assert!(streams.iter_mut().all(|stream| !stream.peer.ended()), "swapped after the streams");
    for stream in streams {
        stream.finish().expect_whole();
    }
    for (wrong, words) in [("hostile/start-trap", "unreachable"), ("hostile/core-module", "module")]
    {
        let refused = install(&device, &component(wrong), 3).unwrap_err();
        assert!(refused.contains("422") && refused.contains(words), "{wrong}: {refused}");
    }
    serves(&bench, &device, "c-smooth");
    let (status, told) =
        device.control("POST", &format!("/v1/plugins/{SLOT}/rollback"), "").expect("an answer");
    assert_eq!(status, 200, "{told}");
    serves(&bench, &device, "least-loaded");
    let rss = guest.rss_kib();
    guest.cut();

    // Still there, in half the memory: what is compiled needs no compiler.
    let mut guest = device.boot(Way::Direct);
    serves(&bench, &device, "least-loaded");
    let small = guest.rss_kib();
    // Compiled or refused for want of memory, but what runs goes on.
    let process = guest.must("pidof edgeweir");
    let told = match install(&device, &marked(&component("least-loaded"), 9), 9) {
        Ok(_) => "a plugin is compiled".to_owned(),
        Err(refused) => refused,
    };
    assert!(told.contains("compiled") || told.contains("422") && told.contains("memory"), "{told}");
    serves(&bench, &device, "least-loaded");
    assert_eq!(guest.must("pidof edgeweir"), process, "the gateway was started anew: {told}");
    eprintln!(
        "{}: compiled in {took} ms ({code}), swapped under streams in {swapped:?}, \
         {rss} KiB resident, {small} KiB with 64 MiB, and there: {told}",
        board.name()
    );
    assert!(small <= ONE_PLUGIN_KIB, "{small} KiB resident with one plugin");
}

#[test]
fn aarch64_loses_no_acknowledged_plugin_to_power_cuts() {
    cuts(Board::Aarch64);
}

#[test]
fn armv7_loses_no_acknowledged_plugin_to_power_cuts() {
    cuts(Board::Armv7);
}

/// The power goes in the middle of installs. What was acknowledged is there; else it is that or the
/// one that was on its way, whole.
fn cuts(board: Board) {
    board.image();
    let _timed = timed();
    let bench = &Bench::new(&format!("{}-plugin-cuts", board.name()));
    let device = &Device::new(bench, board).steady();
    let origin = GstOrigin::start(bench, "origin");
    let base = component("least-loaded");
    let mut guest = device.boot(Way::Roomy);
    guest.configure(&config(device, origin.port));
    let acknowledged = AtomicU64::new(10);
    let mut total = 0;
    for cut in 0..CUTS {
        let first = acknowledged.load(Ordering::SeqCst);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = first + 1;
                while !stop.load(Ordering::SeqCst)
                    && install(device, &marked(&base, next), next).is_ok()
                {
                    acknowledged.store(next, Ordering::SeqCst);
                    next += 1;
                }
            });
            let began = Instant::now();
            wait_for("acknowledged install", Duration::from_secs(300), || {
                (acknowledged.load(Ordering::SeqCst) > first).then_some(())
            });
            // Then anywhere in the one that follows, which takes as long.
            thread::sleep(
                began.elapsed() * u32::try_from(2 * cut + 1).unwrap() / (2 * CUTS as u32),
            );
            guest.cut();
            stop.store(true, Ordering::SeqCst);
        });
        let sure = acknowledged.load(Ordering::SeqCst);
        total += sure - first;

        guest = device.boot(Way::Roomy);
        let found = slot(device);
        let serial = found["serial"].as_u64().unwrap();
        assert!(
            serial == sure || serial == sure + 1,
            "cut {cut}: {sure} was acknowledged, the device has {found}: {}",
            guest.must("logread; ls -la /data/plugins")
        );
        serves(bench, device, "least-loaded");
        acknowledged.store(serial, Ordering::SeqCst);
    }
    let left = guest.must("ls /data/plugins");
    assert!(!left.contains(".part"), "halves are swept: {left}");
    eprintln!("{}: {CUTS} cuts in installs, {total} acknowledged, 0 lost", board.name());
}

/// The plugin of that name answers for a new session.
fn serves(bench: &Bench, device: &Device<'_>, name: &str) {
    let before = slot(device);
    assert_eq!(before["name"], name, "{before}");
    Player::start(bench, Ffmpeg, Tcp, &device.url("/open"), 1).finish().expect_pictures();
    let after = slot(device);
    assert!(calls(&after) > calls(&before), "nobody asked the plugin: {before} {after}");
    assert_eq!(after["faults"], 0, "{after}");
}

fn calls(slot: &Value) -> u64 {
    let hooks = slot["hooks"].as_array().expect("hooks");
    hooks.iter().map(|hook| hook["calls"].as_u64().unwrap()).sum()
}

/// What the device says of the slot.
fn slot(device: &Device<'_>) -> Value {
    let (_, text) = wait_for("slots", Duration::from_secs(120), || {
        device.control("GET", "/v1/plugins", "").ok().filter(|(status, _)| *status == 200)
    });
    let slots: Value = serde_json::from_str(&text).expect("JSON");
    slots[0].clone()
}

/// Uploads a component; what was done, or status and reason.
fn install(device: &Device<'_>, wasm: &[u8], serial: u64) -> Result<Value, String> {
    let place = format!("/v1/plugins/{SLOT}?serial={serial}");
    match device.control("PUT", &place, wasm) {
        Ok((200, text)) => Ok(serde_json::from_str(&text).expect("JSON")),
        other => Err(format!("{other:?}")),
    }
}

/// Milliseconds of a phase of an install.
fn phase_ms(installed: &Value, name: &str) -> Option<u64> {
    let phases = installed["phases"].as_array()?;
    phases.iter().find(|phase| phase["name"] == name)?["us"].as_u64().map(|us| us / 1000)
}

fn config(device: &Device<'_>, origin_port: u16) -> String {
    let plain = device.config("plugins", origin_port);
    format!("{plain}policy = \"plugin:{SLOT}\"\n\n[[plugin]]\nslot = \"{SLOT}\"\n")
}

/// A component of `make plugins`.
fn component(name: &str) -> Vec<u8> {
    let path = format!("{}/target/plugins/{name}.wasm", env!("CARGO_MANIFEST_DIR"));
    fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}: run `make plugins`"))
}

/// The same component with a number in a custom section: another hash, so that it is compiled.
fn marked(wasm: &[u8], number: u64) -> Vec<u8> {
    // Section 0, ten bytes: a name of one, and the number.
    [wasm, &[0, 10, 1, b'n'], &number.to_le_bytes()].concat()
}
