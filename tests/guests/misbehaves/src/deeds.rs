//! The misdeeds that need no message.

use core::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::guest::edgeweir::plugin::{host_clock, host_kv, host_log, host_metrics, host_random};

/// Does what can be done in any function; false: this deed is none of these.
pub(crate) fn anywhere(deed: &str) -> bool {
    match deed {
        "trap" => core::arch::wasm32::unreachable(),
        "loop" => spin(),
        "slow-once" => slow_once(),
        "host-loop" => spin_in_the_host(),
        "grow" => {
            grow();
            core::arch::wasm32::unreachable()
        }
        "grow-politely" => grow(),
        "recurse" => {
            black_box(recurse(0));
        }
        "log-flood" => {
            for at in 0..10_000 {
                host_log::log(host_log::Level::Warn, &format!("line {at} of a flood"));
            }
        }
        "log-long" => {
            let line = "\r\nforged: line \u{1b}[31m \0 ".repeat(512 * 1024 / 23);
            host_log::log(host_log::Level::Warn, &line);
        }
        "metric-flood" => metric_flood(),
        "kv-flood" => kv_flood(),
        "random-flood" => {
            black_box(host_random::fill(257));
        }
        _ => return false,
    }
    true
}

fn spin() {
    let mut at = 0_u64;
    loop {
        at = black_box(at.wrapping_add(1));
    }
}

/// As long as a cold start: far more than a hook has, less than a warm-up. By the clock, for a loop that
/// is counted takes nobody knows how long.
fn slow_once() {
    static DONE: AtomicBool = AtomicBool::new(false);
    if !DONE.swap(true, Ordering::Relaxed) {
        let until = host_clock::monotonic_ms() + 50;
        while host_clock::monotonic_ms() < until {}
    }
}

fn spin_in_the_host() {
    loop {
        black_box(host_clock::monotonic_ms());
    }
}

fn grow() {
    loop {
        let before = core::arch::wasm32::memory_grow::<0>(1);
        if before == usize::MAX {
            return;
        }
        // Written to, so that the pages are really there.
        let page = before.wrapping_mul(64 * 1024) as *mut u8;
        // SAFETY: the page was just given to this instance, and nothing else knows of it.
        unsafe { page.write_bytes(0xa5, 64 * 1024) };
    }
}

#[allow(unconditional_recursion, reason = "the misdeed")]
fn recurse(depth: u64) -> u64 {
    // A frame of the engine's stack without one in linear memory: what the host must bound.
    let below = recurse(black_box(depth) + 1);
    black_box(below.wrapping_add(depth))
}

fn metric_flood() {
    host_metrics::counter_add("Bad name\n{}", 1);
    host_metrics::counter_add(&"a".repeat(64 * 1024), 1);
    for at in 0..10_000 {
        host_metrics::counter_add(&format!("flood_{at}"), u64::MAX);
        host_metrics::gauge_set(&format!("flood_gauge_{at}"), i64::MIN);
    }
}

fn kv_flood() {
    let mut refused = 0_u64;
    let mut count = |done: bool| refused += u64::from(!done);
    let value = vec![0xa5; 1024];
    for at in 0..10_000 {
        count(host_kv::set(&format!("flood-{at}"), &value, 0).is_ok());
    }
    count(host_kv::set("large", &vec![0; 512 * 1024], 0).is_ok());
    count(host_kv::set(&"k".repeat(4096), b"v", 0).is_ok());
    count(host_kv::set("", b"v", 0).is_ok());
    host_metrics::gauge_set("kv_refused", i64::try_from(refused).unwrap_or(i64::MAX));
}
