//! The gateway on a store: early deaths, damaged stores, a watchdog, and what it writes when idle.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of a test may fail it
#![allow(clippy::print_stderr)] // where the output of a failed test is
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use edgeweir::{
    config::{Config, print, text},
    limits,
};
use harness::{
    Bench, free_port,
    peer::{Peer, Signal},
    wait_for,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(15);

/// A gateway on a store in a file.
struct OnFlash {
    bench: Bench,
    store: PathBuf,
    control: PathBuf,
    port: u16,
}

impl OnFlash {
    fn new(name: &str) -> Self {
        let bench = Bench::new(name);
        let port = free_port();
        let control =
            std::env::temp_dir().join(format!("edgeweir-flash-{}-{port}", std::process::id()));
        let store = bench.file("store");
        let flash = Self { bench, store, control, port };
        // By the program, not by its functions: a lock of this process would live on for a moment in
        // whatever another test is starting meanwhile.
        flash.tell(&["flash", "format", flash.store.to_str().unwrap()]).unwrap();
        flash
    }

    /// A configuration that can be told by its number.
    fn config(&self, sessions: u16) -> Config {
        let port = self.port;
        let text = format!(
            "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\n[limits]\nsessions = {sessions}\n"
        );
        text::parse(&text).unwrap()
    }

    /// The same as a file.
    fn file(&self, sessions: u16) -> String {
        let text = print::print(&self.config(sessions));
        self.bench.write("new.toml", &text).to_str().unwrap().to_owned()
    }

    fn save(&self, sessions: u16) {
        let file = self.file(sessions);
        self.tell(&["config", "import", &file, "--flash", self.store.to_str().unwrap()]).unwrap();
    }

    fn start(&self, more: &[&str]) -> Peer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        command.arg("run").arg("--flash").arg(&self.store).arg("--control").arg(&self.control);
        command.args(more);
        let mut gateway = Peer::start(&self.bench, "gateway", command);
        wait_for("the control socket", SOON, || {
            assert!(!gateway.ended(), "the gateway ended: {}", gateway.stderr());
            self.tell(&["status", "--json"]).ok()
        });
        gateway
    }

    fn tell(&self, words: &[&str]) -> Result<String, String> {
        let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
            .args(words)
            .arg("--control")
            .arg(&self.control)
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn events(&self) -> Vec<String> {
        let status: Value =
            serde_json::from_str(&self.tell(&["status", "--json"]).unwrap()).unwrap();
        status["events"].as_array().unwrap().iter().map(|e| e.as_str().unwrap().into()).collect()
    }

    fn sessions(&self) -> u16 {
        text::parse(&self.tell(&["config", "export"]).unwrap()).unwrap().limits.sessions
    }
}

fn stop(mut gateway: Peer, signal: Signal) -> String {
    gateway.signal(signal);
    gateway.wait(SOON);
    gateway.stderr()
}

fn has(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

#[test]
fn three_early_deaths_take_the_previous_configuration_and_a_good_start_ends_the_count() {
    let flash = OnFlash::new("early-deaths");
    flash.save(1);
    flash.save(2);
    for _ in 0..3 {
        let gateway = flash.start(&[]);
        assert_eq!(flash.sessions(), 2);
        stop(gateway, Signal::Kill);
    }
    let gateway = flash.start(&["--healthy-after", "1"]);
    assert_eq!(flash.sessions(), 1);
    let told = "the last 3 starts ended early: configuration 2 is left aside, 1 is used";
    assert!(has(&flash.events(), told), "{:?}", flash.events());
    // What is stored now is trusted again.
    flash.tell(&["config", "import", &flash.file(3)]).unwrap();
    thread::sleep(Duration::from_millis(1500));
    let log = stop(gateway, Signal::Kill);
    assert!(log.contains(told), "{log}");
    // That start was a good one: two more deaths are not three.
    for _ in 0..2 {
        stop(flash.start(&[]), Signal::Kill);
    }
    let gateway = flash.start(&[]);
    assert_eq!((flash.sessions(), flash.events()), (3, vec![]));
    stop(gateway, Signal::Term);
}

#[test]
fn stopping_in_order_is_no_early_death() {
    let flash = OnFlash::new("ordered-stops");
    flash.save(1);
    flash.save(2);
    for _ in 0..5 {
        let gateway = flash.start(&[]);
        assert_eq!(flash.sessions(), 2);
        stop(gateway, Signal::Term);
    }
}

#[test]
fn an_idle_gateway_writes_nothing() {
    let flash = OnFlash::new("idle");
    flash.save(1);
    let gateway = flash.start(&["--healthy-after", "1"]);
    thread::sleep(Duration::from_millis(1500));
    let before = fs::read(&flash.store).unwrap();
    let written = || {
        let io = fs::read_to_string(format!("/proc/{}/io", gateway.pid())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().to_owned()
    };
    let bytes = written();
    // Being asked is idle too.
    for _ in 0..10 {
        for words in [&["status"][..], &["config", "export"], &["config", "history"]] {
            flash.tell(words).unwrap();
        }
        thread::sleep(Duration::from_millis(200));
    }
    assert!(fs::read(&flash.store).unwrap() == before);
    assert_eq!(written(), bytes);
    stop(gateway, Signal::Term);
}

/// A gateway on a store that was good and that `damage` has changed: the configuration's sessions
/// and the events.
fn damaged(name: &str, damage: impl Fn(&Path)) -> (u16, Vec<String>) {
    let flash = OnFlash::new(name);
    flash.save(6);
    flash.save(7);
    damage(&flash.store);
    let gateway = flash.start(&[]);
    let (sessions, events) = (flash.sessions(), flash.events());
    let log = stop(gateway, Signal::Term);
    for event in &events {
        assert!(log.contains(event), "{event}: {log}");
    }
    (sessions, events)
}

#[test]
fn a_store_of_a_newer_version_is_left_alone_and_its_configuration_is_used() {
    let flash = OnFlash::new("newer");
    flash.save(7);
    let mut bytes = fs::read(&flash.store).unwrap();
    let magic = b"edgeweir store\r\n";
    while let Some(at) = bytes.windows(18).position(|part| &part[..16] == magic && part[16] == 1) {
        bytes[at + 16] = 2;
        let crc = crc32(&bytes[at..at + 18]).to_le_bytes();
        bytes[at + 18..at + 22].copy_from_slice(&crc);
    }
    fs::write(&flash.store, &bytes).unwrap();
    let gateway = flash.start(&[]);
    assert_eq!(flash.sessions(), 7);
    let events = flash.events();
    assert!(
        has(&events, "version 2 of a newer release") && has(&events, "configuration 1 was found")
    );
    let refused = flash.tell(&["config", "import", &flash.file(3)]).unwrap_err();
    assert!(refused.contains("not stored, nothing has changed"), "{refused}");
    stop(gateway, Signal::Term);
    assert!(fs::read(&flash.store).unwrap() == bytes);
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_store_whose_pages_are_corrupt_gives_what_is_found_in_them() {
    let (sessions, events) = damaged("corrupt", |path| {
        // All pages look closed: there is no state of the map like that.
        let mut bytes = fs::read(path).unwrap();
        for page in bytes.chunks_mut(64 << 10) {
            page[..4].fill(0);
            let end = page.len() - 4;
            page[end..].fill(0);
        }
        fs::write(path, bytes).unwrap();
    });
    assert_eq!(sessions, 7);
    assert!(
        has(&events, "configuration 2 was found") && has(&events, "cannot be used"),
        "{events:?}"
    );
}

#[test]
fn a_truncated_store_gives_what_is_left_of_it() {
    let cut = |length| {
        move |path: &Path| {
            fs::File::options().write(true).open(path).unwrap().set_len(length).unwrap()
        }
    };
    let (sessions, events) = damaged("truncated", cut(3000));
    assert_eq!(sessions, 7);
    assert!(has(&events, "configuration 2 was found"), "{events:?}");
}

#[test]
fn what_never_was_a_store_is_refused_with_the_way_to_make_one() {
    let flash = OnFlash::new("no-store");
    fs::write(&flash.store, vec![0xff; 1 << 20]).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
        .arg("run")
        .arg("--flash")
        .arg(&flash.store)
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("not a store, make one with `edgeweir flash format`"), "{told}");
}

#[test]
fn a_store_that_never_held_a_configuration_takes_the_first_one_and_no_other_does() {
    let flash = OnFlash::new("first-config");
    let first = ["--first-config", &flash.file(5)];
    // An empty store, and then none at all.
    for _ in 0..2 {
        stop(flash.start(&first), Signal::Term);
        let gateway = flash.start(&[]);
        assert_eq!((flash.sessions(), flash.events()), (5, vec![]));
        stop(gateway, Signal::Term);
        fs::remove_file(&flash.store).unwrap();
    }
    stop(flash.start(&first), Signal::Term);
    flash.save(6);
    let gateway = flash.start(&first);
    assert_eq!(flash.sessions(), 6);
    stop(gateway, Signal::Term);
    // Where the store is fine, a file that is wrong is not even read.
    flash.bench.write("new.toml", "[gateway]\nlisten = 7\n");
    let gateway = flash.start(&first);
    assert_eq!(flash.sessions(), 6);
    stop(gateway, Signal::Term);
}

#[test]
fn a_first_configuration_that_is_wrong_is_named_and_makes_no_store() {
    let flash = OnFlash::new("wrong-first-config");
    let wrong = flash.bench.write("new.toml", "[gateway]\nlisten = 7\n");
    let missing = flash.bench.file("none.toml");
    let run = |first: &Path| {
        let words = ["run", "--flash", flash.store.to_str().unwrap(), "--first-config"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        let output = command.args(words).arg(first).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let empty = fs::read(&flash.store).unwrap();
    assert!(run(&wrong).contains("new.toml:2: "));
    assert!(run(&missing).contains("none.toml: No such file"));
    // That start is counted; the configuration is not there.
    let info = flash.tell(&["flash", "info", flash.store.to_str().unwrap()]).unwrap();
    assert!(info.contains("configurations   0,"), "{info}");
    assert_eq!(fs::read(&flash.store).unwrap().len(), empty.len());
    fs::remove_file(&flash.store).unwrap();
    assert!(run(&wrong).contains("new.toml:2: "));
    assert!(!flash.store.exists());
    // A file that is no store is its owner's.
    fs::write(&flash.store, "diary").unwrap();
    flash.file(5);
    assert!(run(&wrong).contains("not a store"));
    assert_eq!(fs::read(&flash.store).unwrap(), b"diary");
}

#[test]
fn what_the_starter_notes_is_in_the_log_and_in_the_status() {
    let flash = OnFlash::new("note");
    flash.save(1);
    let most = "n".repeat(limits::NOTE_MAX_BYTES);
    let gateway = flash.start(&["--note", &most]);
    assert_eq!(flash.events(), [most.as_str()]);
    assert!(stop(gateway, Signal::Term).contains(&most));
    for wrong in [format!("{most}n"), "two\nlines".to_owned()] {
        let store = flash.store.to_str().unwrap();
        let told = flash.tell(&["run", "--flash", store, "--note", &wrong]).unwrap_err();
        assert!(told.contains("--note takes a line of up to 256 bytes"), "{told}");
    }
}

#[test]
fn a_watchdog_is_fed_until_the_end_and_then_told_to_stand_down() {
    let flash = OnFlash::new("watchdog");
    flash.save(1);
    let device = flash.bench.write("watchdog", "");
    let gateway = flash.start(&["--watchdog", device.to_str().unwrap()]);
    wait_for("three feedings", SOON, || (fs::read(&device).unwrap().len() >= 3).then_some(()));
    stop(gateway, Signal::Term);
    let fed = fs::read(&device).unwrap();
    let (last, rest) = fed.split_last().unwrap();
    assert!(*last == b'V' && rest.iter().all(|byte| *byte == 0), "{fed:?}");
    // A gateway that is killed does not say so: the hardware goes on counting.
    fs::write(&device, "").unwrap();
    let gateway = flash.start(&["--watchdog", device.to_str().unwrap()]);
    stop(gateway, Signal::Kill);
    assert!(!fs::read(&device).unwrap().contains(&b'V'));
}
