//! The unit tests, as programs of the two architectures.

use std::{env, process::Command};

use crate::image::{Board, timed};

/// Rooms that need no device and no network of their own.
const ROOMS: [&str; 6] = ["rtsp::", "session::", "origin::", "auth::", "config::", "flash::"];

#[test]
fn the_core_passes_its_unit_tests_on_aarch64() {
    check(Board::Aarch64);
}

#[test]
fn the_core_passes_its_unit_tests_on_armv7() {
    check(Board::Armv7);
}

fn check(board: Board) {
    let program = board.unit_tests();
    let _timed = timed();
    let output = Command::new(board.emulator())
        .arg(env::current_dir().unwrap().join(program))
        .args(ROOMS)
        .arg("--test-threads=1") // another test has the other processor
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run board/setup.sh", board.emulator()));
    let said = String::from_utf8_lossy(&output.stdout);
    let last = said.lines().rfind(|line| line.starts_with("test result:")).unwrap_or_default();
    eprintln!("{}: {last}", board.triple());
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let passed = last.split(' ').nth(3).and_then(|count| count.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed > 100), "hardly a test ran: {last}");
}
