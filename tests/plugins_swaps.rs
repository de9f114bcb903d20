//! Swaps give back all that they took: alone in its process, so that its memory can be measured.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(feature = "compiler")]

#[path = "plugins_host/support.rs"]
mod support;

use support::*;

/// Resident memory may wander by this much, whatever the number of swaps.
const SLACK_KIB: u64 = 1024;

#[test]
fn generations_are_freed() {
    // Each swap tries, stores and swaps, while one worker has an instance in use.
    let swaps = if cfg!(debug_assertions) { 1_000 } else { 10_000 };
    let place = Place::new();
    let (one, two) = (component("least-loaded"), component("hostile/minimal"));
    let mut hooks = [place.host.guests(), place.host.guests()];
    let mut swap = |count: usize| {
        for at in 0..count {
            let wasm = if at % 2 == 0 { &one } else { &two };
            place.install("b", wasm).unwrap();
            for worker in &mut hooks {
                assert_eq!(pick(worker, "b").is_some(), at % 2 == 0);
            }
        }
    };
    swap(100);
    let before = rss_kib();
    swap(swaps);
    let after = rss_kib();
    println!("{swaps} swaps: {before} KiB before, {after} KiB after");
    assert!(after <= before + SLACK_KIB, "{before} KiB before, {after} KiB after {swaps} swaps");
    assert_eq!(place.info("b").faults, 0);
}
