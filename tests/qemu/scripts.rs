//! The scripts of builds, images and packages, checked as far as this machine can.

use std::process::Command;

use crate::image::run;

#[test]
fn shell_scripts_pass_shellcheck() {
    let listed = Command::new("git")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["grep", "-lE", "^#!/bin/(sh|busybox sh)"])
        .args(["--", "board", "cross"])
        .output()
        .expect("git");
    let scripts = String::from_utf8(listed.stdout).unwrap();
    assert!(scripts.lines().count() >= 10, "the scripts are there: {scripts}");
    let mut command = Command::new("shellcheck");
    command.args(["-x", "-s", "sh"]).args(scripts.lines());
    run(command);
}
