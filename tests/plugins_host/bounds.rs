//! Budgets of CPU time: an innocent guest is never killed, however busy the machine.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use edgeweir::plugin::hooks::Verdict;

use super::support::*;

#[test]
fn no_innocent_call_is_killed_while_every_core_is_loaded() {
    let place = Place::new();
    place.install("balance", &component("least-loaded")).unwrap();
    place.install_misbehaving("filter", &does("echo", "on-message", 1)).unwrap();
    let cores = thread::available_parallelism().unwrap().get();
    let stop = Arc::new(AtomicBool::new(false));
    let hogs: Vec<_> = (0..cores * 4)
        .map(|_| {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        })
        .collect();
    let workers: Vec<_> = (0..cores * 2)
        .map(|_| {
            let mut hooks = place.host.guests();
            thread::spawn(move || {
                let (since, mut calls, mut longest) = (Instant::now(), 0_u64, Duration::ZERO);
                while since.elapsed() < Duration::from_secs(4) {
                    let call = Instant::now();
                    assert_eq!(pick(&mut hooks, "balance"), Some(10));
                    assert!(matches!(filter(&mut hooks, "filter"), Verdict::Edited { .. }));
                    longest = longest.max(call.elapsed());
                    calls += 2;
                }
                (calls, longest)
            })
        })
        .collect();
    let done: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
    stop.store(true, Ordering::Relaxed);
    for hog in hogs {
        hog.join().unwrap();
    }
    let longest = done.iter().map(|(_, longest)| *longest).max().unwrap();
    let calls: u64 = done.iter().map(|(calls, _)| calls).sum();
    eprintln!("{calls} calls, the longest two took {longest:?} by the clock on the wall");
    // It proves something only when calls were interrupted for longer than their budgets.
    assert!(longest > Duration::from_millis(10), "{longest:?}");
    assert_eq!((place.info("balance").faults, place.info("filter").faults), (0, 0));
}
