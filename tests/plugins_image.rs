//! Plugins that come compiled with the image, as builds without a compiler take them.
//!
//! Runs in both kinds of build: the code is made by a build with compiler, named by
//! `EDGEWEIR_COMPILER` where the one under test has none (`make no-compiler`).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "plugins")]

#[path = "plugins_host/support.rs"]
mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use edgeweir::plugin::{Code, Forget, Host, Places};
use support::*;

/// A program with a compiler.
fn compiler() -> PathBuf {
    match std::env::var_os("EDGEWEIR_COMPILER") {
        Some(program) => program.into(),
        None if cfg!(feature = "compiler") => env!("CARGO_BIN_EXE_edgeweir").into(),
        None => panic!("EDGEWEIR_COMPILER must name a build with compiler: `make no-compiler`"),
    }
}

fn compile(guest: &str, code: Code, to: &Path) -> PathBuf {
    let wasm = format!("{}/target/plugins/{guest}.wasm", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(compiler());
    command.args(["plugin", "compile", &wasm, "--code", code.name(), "--to"]).arg(to);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

/// A host that finds code in `image` only: nothing compiles.
fn host(place: &Place, image: &Path, code: Code) -> Arc<Host> {
    let places = Places {
        image_dir: image.to_owned(),
        program: PathBuf::from("/nonexistent"),
        code,
        ..Places::new(place.dir.clone())
    };
    Host::new(places, Box::new(Forget))
}

fn places() -> (Place, PathBuf) {
    let place = Place::new();
    let image = place.dir.join("image");
    (place, image)
}

#[test]
fn code_of_the_image_serves_without_a_compiler() {
    for code in [Code::HERE, Code::PULLEY] {
        let (place, image) = places();
        compile("least-loaded", code, &image);
        let host = host(&place, &image, code);
        let report = host.install("b", upload(&component("least-loaded"))).unwrap();
        assert!(report.phases.iter().all(|phase| phase.phase != "compile"), "{report:?}");
        assert_eq!(pick(&mut host.guests(), "b"), Some(10));
        let files = place.files();
        assert!(files.iter().all(|name| !name.ends_with(".cwasm")), "nothing is copied: {files:?}");
    }
}

#[test]
fn what_is_not_in_the_image_is_refused_with_the_file_that_is_missing() {
    let (place, image) = places();
    compile("least-loaded", Code::HERE, &image);
    let host = host(&place, &image, Code::HERE);
    let refusal = host.install("b", upload(&component("sticky-hash"))).unwrap_err();
    assert_eq!(refusal.step, "compile", "{refusal}");
    if !cfg!(feature = "compiler") {
        for word in ["no compiler", ".native.cwasm", "edgeweir plugin compile"] {
            assert!(refusal.to_string().contains(word), "{refusal}");
        }
    }
    assert_eq!(pick(&mut host.guests(), "b"), None);
    assert!(place.files().iter().all(|name| name == "image"), "{:?}", place.files());
}

#[test]
fn damaged_code_code_for_another_machine_and_code_that_others_may_write_is_never_loaded() {
    let (place, image) = places();
    let file = compile("least-loaded", Code::HERE, &image);
    let good = fs::read(&file).unwrap();
    let wasm = component("least-loaded");
    let refused = |what: &str| {
        let refusal = host(&place, &image, Code::HERE).install("b", upload(&wasm)).unwrap_err();
        assert_eq!(refusal.step, "compile", "{what}: {refusal}");
    };
    let distrusted = |what: &str| {
        let refusal = host(&place, &image, Code::HERE).install("b", upload(&wasm)).unwrap_err();
        let step = if cfg!(feature = "compiler") { "compile" } else { "image" };
        assert_eq!(refusal.step, step, "{what}: {refusal}");
        if !cfg!(feature = "compiler") {
            assert!(refusal.to_string().contains("chmod go-w"), "{refusal}");
        }
    };
    for at in [0, 31, 32, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&file, &bad).unwrap();
        refused("a changed byte");
    }
    fs::write(&file, &good[..good.len() - 1]).unwrap();
    refused("cut off");
    fs::copy(compile("least-loaded", Code::Pulley32, &image), &file).unwrap();
    refused("of another machine");
    fs::copy(compile("sticky-hash", Code::HERE, &image), &file).unwrap();
    refused("of another component");

    fs::write(&file, &good).unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    allow(&file, 0o664).unwrap();
    distrusted("writable by a group");
    allow(&file, 0o644).unwrap();
    allow(&image, 0o777).unwrap();
    distrusted("in a directory that is writable by all");
    allow(&image, 0o755).unwrap();
    host(&place, &image, Code::HERE).install("b", upload(&wasm)).unwrap();
}

#[test]
fn a_gateway_that_is_to_take_code_from_where_others_may_write_does_not_start() {
    let (place, image) = places();
    let file = compile("least-loaded", Code::HERE, &image);
    let config = place.dir.join("gateway.toml");
    fs::write(&config, "[gateway]\nlisten = [\"127.0.0.1:18554\"]\n").unwrap();
    let refused = |what: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        command.arg("run").arg("--config").arg(&config).arg("--image-plugins").arg(&image);
        command.arg("--control").arg(place.dir.join("socket"));
        let output = command.output().unwrap();
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
        for word in ["--image-plugins", &format!("chmod go-w {}", what.display())] {
            assert!(line.contains(word), "{word} is not in {line}");
        }
    };
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    allow(&file, 0o666).unwrap();
    refused(&file);
    allow(&file, 0o644).unwrap();
    allow(&image, 0o775).unwrap();
    refused(&image);
}
