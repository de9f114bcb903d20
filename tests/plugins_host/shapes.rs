//! Files that are no plugin: refused with the step, the reason and the remedy, and no file is left.

use edgeweir::plugin::hooks::Hooks as _;

use super::support::*;

/// Refused at this step, with these words in reason or remedy.
#[track_caller]
fn refused(wasm: &[u8], step: &str, words: &[&str]) {
    let place = Place::new();
    let good = component("hostile/minimal");
    place.install("good", &good).unwrap();
    let before = (place.files(), place.host.list());
    let refusal = place.install("bad", wasm).unwrap_err();
    assert_eq!(refusal.step, step, "{refusal}");
    for word in words {
        assert!(refusal.to_string().contains(word), "`{word}` is not in: {refusal}");
    }
    assert!(!refusal.reason.is_empty() && !refusal.remedy.is_empty());
    assert!(!refusal.to_string().contains('\n'));
    assert_eq!(place.files(), before.0);
    let good_now = place.info("good");
    assert_eq!(Some(&good_now), before.1.iter().find(|info| info.slot == "good"));
    let mut hooks = place.host.guests();
    assert_eq!(pick(&mut hooks, "bad"), None);
    assert_eq!(place.info("bad").state, "empty");
}

#[test]
fn minimal_is_the_control() {
    let place = Place::new();
    let report = place.install("b", &component("hostile/minimal")).unwrap();
    assert_eq!(report.hooks, ["balancer"]);
    let mut hooks = place.host.guests();
    assert_eq!(pick(&mut hooks, "b"), None);
    assert_eq!((place.info("b").calls, place.info("b").faults), (1, 0));
    assert!(
        hooks.interested("b", message(OPTIONS)),
        "a slot without a filter is told so when asked"
    );
}

#[test]
fn forbidden_import() {
    refused(
        &component("hostile/forbidden-import"),
        "imports",
        &["wasi:filesystem/preopens@0.2.0", "WASI"],
    );
}

#[test]
fn newer_import() {
    refused(&component("hostile/newer-import"), "imports", &["1.1.0", "1.0.0"]);
}

#[test]
fn missing_lifecycle() {
    refused(&component("hostile/missing-lifecycle"), "imports", &["lifecycle"]);
}

#[test]
fn no_hook() {
    refused(&component("hostile/no-hook"), "imports", &["no hook"]);
}

#[test]
fn mistyped_export() {
    let words = ["balancer.pick-upstream", "expected `u32`", "found `string`"];
    refused(&component("hostile/mistyped-export"), "types", &words);
}

#[test]
fn missing_function() {
    refused(&component("hostile/missing-function"), "types", &["pick-worker"]);
}

#[test]
fn wrong_version() {
    refused(&component("hostile/wrong-version"), "imports", &["2.0.0", "1.0.0"]);
}

#[test]
fn big_memory() {
    refused(&component("hostile/big-memory"), "needs", &["65536 KiB", "4096"]);
}

#[test]
fn big_table() {
    refused(&component("hostile/big-table"), "needs", &["10000000", "10000"]);
}

#[test]
fn start_loop() {
    refused(&component("hostile/start-loop"), "instantiate", &["100 ms of CPU time"]);
}

#[test]
fn start_trap() {
    refused(&component("hostile/start-trap"), "instantiate", &["unreachable"]);
}

#[test]
fn core_module() {
    refused(&component("hostile/core-module"), "kind", &["core module"]);
}

#[test]
fn truncated_random_and_empty_files() {
    let whole = component("hostile/minimal");
    for bytes in [whole.len() / 2, whole.len() - 1, 9] {
        refused(&whole[..bytes], "compile", &[]);
    }
    refused(&whole[..8], "imports", &["lifecycle"]);
    refused(b"", "kind", &["no WASM component"]);
    let mut seed = 1_u64;
    let noise: Vec<u8> = (0..4096)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        })
        .collect();
    refused(&noise, "kind", &[]);
    refused(&[&b"\0asm\x0d\0\x01\0"[..], &noise].concat(), "compile", &[]);
}

#[test]
fn native_code_as_upload() {
    let own = std::fs::read(env!("CARGO_BIN_EXE_edgeweir")).unwrap();
    refused(&own[..200_000], "kind", &["compiled code"]);
    // Code of our own compiler, as it lies in the cache.
    let place = Place::new();
    place.install("b", &component("hostile/minimal")).unwrap();
    let code = place.files().into_iter().find(|name| name.ends_with(".cwasm")).unwrap();
    let sealed = std::fs::read(place.dir.join(code)).unwrap();
    refused(&sealed[32..], "kind", &["compiled code"]);
    refused(&sealed, "kind", &[]);
}

#[test]
fn too_large() {
    let mut wasm = component("hostile/minimal");
    wasm.resize(256 * 1024 + 1, 0);
    refused(&wasm, "size", &["262145", "max_kib"]);
}
