//! From upload to swap and back, over restarts, cuts of power and damaged files.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use edgeweir::plugin::{
    Code, Forget, Host, Keep, Places, Upload,
    state::{Slots, Version, decode, encode},
};

use super::support::*;

/// A store as flash would be: it keeps the image, or fails when told to.
#[derive(Clone, Default)]
struct Flash(Arc<Mutex<(Vec<u8>, bool)>>);

impl Keep for Flash {
    fn keep(&mut self, slots: &Slots) -> Result<(), String> {
        let mut inside = self.0.lock().unwrap();
        if inside.1 {
            return Err("flash is worn out".to_owned());
        }
        inside.0 = encode(slots, 1);
        Ok(())
    }
}

impl Flash {
    fn stored(&self) -> Slots {
        let image = self.0.lock().unwrap().0.clone();
        if image.is_empty() { Slots::default() } else { decode(&image).unwrap().0 }
    }

    fn fail(&self, fail: bool) {
        self.0.lock().unwrap().1 = fail;
    }
}

fn no_config(_: &str) -> Option<String> {
    Some("{}".to_owned())
}

/// A host as after a restart, on the files of another; `program` compiles.
fn restarted(dir: &Path, flash: &Flash, program: &str) -> Arc<Host> {
    let places = Places { program: PathBuf::from(program), ..Places::new(dir.to_owned()) };
    let host = Host::new(places, Box::new(flash.clone()));
    host.boot(flash.stored(), &no_config);
    host
}

fn hash_of(place: &Place, slot: &str) -> String {
    place.info(slot).hash
}

#[test]
fn an_install_says_how_long_each_phase_took_and_swaps_at_the_next_call() {
    let place = Place::new();
    let mut hooks = [place.host.guests(), place.host.guests()];
    let first = place.install("b", &component("hostile/minimal")).unwrap();
    for worker in &mut hooks {
        assert_eq!(pick(worker, "b"), None);
    }
    let second = place.install("b", &component("least-loaded")).unwrap();
    for worker in &mut hooks {
        assert_eq!(pick(worker, "b"), Some(10));
    }
    assert_ne!(first.hash, second.hash);
    let phases: Vec<&str> = second.phases.iter().map(|phase| phase.phase).collect();
    assert_eq!(phases, ["admit", "compile", "load", "check", "try", "files", "store", "swap"]);
    assert!(second.samples.iter().any(|sample| sample.hook == "pick-upstream"));
    let info = place.info("b");
    assert_eq!((info.previous, info.state, info.calls), (first.hash, "trial", 4));
    assert_eq!(place.files().len(), 5, "two components, their code, the key");
}

#[test]
fn the_same_component_is_compiled_once() {
    let place = Place::new();
    let wasm = component("least-loaded");
    place.install("a", &wasm).unwrap();
    let again = place.install("b", &wasm).unwrap();
    assert!(again.phases.iter().all(|phase| phase.phase != "compile"), "{:?}", again.phases);
    assert_eq!(place.files().len(), 3);
    place.host.remove("a").unwrap();
    assert_eq!(place.files().len(), 3);
    place.host.remove("b").unwrap();
    assert_eq!(place.files(), ["device.key"]);
    assert_eq!(place.host.remove("b").unwrap_err().step, "slot");
}

#[test]
fn rolling_back_twice_leads_back_to_the_start() {
    let place = Place::new();
    assert_eq!(place.host.rollback("b", "{}").unwrap_err().step, "slot");
    let first = place.install("b", &component("hostile/minimal")).unwrap().hash;
    assert_eq!(place.host.rollback("b", "{}").unwrap_err().step, "slot");
    let second = place.install("b", &component("least-loaded")).unwrap().hash;
    let mut hooks = place.host.guests();
    for (now, picked) in [(&first, None), (&second, Some(10)), (&first, None)] {
        assert_eq!(place.host.rollback("b", "{}").unwrap().hash, *now);
        assert_eq!((hash_of(&place, "b"), pick(&mut hooks, "b")), (now.clone(), picked));
    }
}

#[test]
fn faults_in_the_first_minute_bring_back_the_one_before_and_ban_the_new_one() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    let good = place.install("b", &component("least-loaded")).unwrap().hash;
    let bad = place.install_misbehaving("b", &does("trap", "pick-upstream", 110)).unwrap().hash;
    let mut hooks = place.host.guests();
    let (mut calls, mut faults) = (0, 0);
    while hash_of(&place, "b") == bad {
        calls += 1;
        assert!(calls < 1000, "{:?}", place.info("b"));
        pick(&mut hooks, "b");
        faults = faults.max(place.info("b").faults);
    }
    assert_eq!(faults, 3);
    assert_eq!(pick(&mut hooks, "b"), Some(10));
    assert_eq!(flash.stored().get("b").unwrap().active.map(|v| hex(&v)), Some(bad.clone()));
    place.host.maintain(&no_config);
    let stored = flash.stored().get("b").unwrap().clone();
    assert_eq!(stored.active.map(|version| hex(&version)), Some(good.clone()));
    assert_eq!((stored.previous, stored.banned.is_some()), (None, true));
    let events = place.host.take_events();
    assert!(events.iter().any(|event| event.text.contains("rolled back")), "{events:?}");
    assert!(place.host.take_events().is_empty());
    assert_eq!(place.info("b").banned, bad);

    let wasm = misbehaves();
    let config = does("nothing", "all", 1);
    let upload = Upload { config: &config, ..upload(&wasm) };
    assert_eq!(place.host.install("b", upload).unwrap_err().step, "ban");
    assert_eq!(hash_of(&place, "b"), good);
    place.host.install("b", Upload { force: true, ..upload }).unwrap();
    assert_eq!(place.info("b").banned, "");
}

fn hex(version: &Version) -> String {
    version.hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn without_one_before_a_failing_plugin_is_not_asked_for_a_while() {
    let place = Place::new();
    place.install_misbehaving("b", &does("trap", "pick-upstream", 110)).unwrap();
    let mut hooks = place.host.guests();
    for _ in 0..400 {
        pick(&mut hooks, "b");
    }
    let info = place.info("b");
    assert_eq!((info.faults, info.state), (3, "benched"));
    assert!(info.calls < 400, "{info:?}");
    place.host.maintain(&no_config);
    assert_eq!(place.info("b").state, "benched");
    // Another one may be installed at once.
    place.install("b", &component("least-loaded")).unwrap();
    assert_eq!(pick(&mut hooks, "b"), Some(10));
}

#[test]
fn a_configuration_that_the_plugin_refuses_leaves_it_with_the_one_it_has() {
    let place = Place::new();
    place.install_misbehaving("b", &does("nothing", "all", 1)).unwrap();
    let before = place.info("b").generation;
    let refusal = place.host.configure("b", "{\"do\":7}").unwrap_err();
    assert_eq!(refusal.step, "init", "{refusal}");
    assert_eq!(place.info("b").generation, before);
    let other = does("session", "authenticate", 1);
    assert!(place.host.configure("b", &other).unwrap().is_some());
    assert!(place.info("b").generation > before);
    assert_eq!(place.host.configure("b", &other).unwrap(), None, "it has that one");
    assert_eq!(place.host.configure("none", "{}").unwrap(), None);
}

#[test]
fn after_a_restart_the_same_plugins_serve_without_compiling() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    place.install("b", &component("least-loaded")).unwrap();
    let host = restarted(&place.dir, &flash, "/nonexistent");
    assert_eq!(host.take_events(), []);
    assert_eq!(pick(&mut host.guests(), "b"), Some(10));
}

#[test]
fn a_slot_that_nobody_needs_is_unloaded_and_comes_back_without_an_upload() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    place.install("b", &component("least-loaded")).unwrap();
    place.install("c", &component("least-loaded")).unwrap();
    let (mut hooks, files) = (place.host.guests(), place.files());
    assert_eq!((pick(&mut hooks, "b"), pick(&mut hooks, "c")), (Some(10), Some(10)));
    let before = place.info("b");
    place.host.unload(&|slot| slot == "c");
    assert_eq!(place.host.known(), ["c"]);
    assert_eq!((pick(&mut hooks, "b"), pick(&mut hooks, "c")), (None, Some(10)));
    let info = place.info("b");
    assert_eq!((info.state, &*info.hash, &info.kept), ("empty", "", &before.hash));
    assert_eq!(place.files(), files, "its file stays");
    // A start without it in the configuration leaves it alone.
    let again = Host::new(Places::new(place.dir.clone()), Box::new(flash.clone()));
    again.boot(flash.stored(), &|slot| no_config(slot).filter(|_| slot == "c"));
    assert_eq!(again.known(), ["c"]);

    place.host.configure("b", "{}").unwrap().expect("it is loaded again");
    assert_eq!(pick(&mut hooks, "b"), Some(10));
    assert_eq!((place.info("b").hash, place.info("b").faults), (before.hash, 0));
}

#[test]
fn a_name_has_a_place_again_once_another_slot_is_unloaded() {
    let place = Place::warm();
    let wasm = component("least-loaded");
    let mut hooks = place.host.guests();
    let names: Vec<String> = (0..64).map(|at| format!("n{at}")).collect();
    place.install("n0", &wasm).unwrap();
    for name in &names {
        pick(&mut hooks, name);
    }
    place.install("n63", &wasm).unwrap();
    let refusal = place.install("n64", &wasm).unwrap_err();
    assert_eq!(refusal.step, "slot");
    assert!(refusal.reason.contains("64 others"), "{refusal}");
    assert_eq!(pick(&mut hooks, "n64"), None);

    place.host.unload(&|name| name == "n63");
    assert_eq!(place.host.known(), ["n63"]);
    // Its own worker finds the ones that come back, and has kept none of the others.
    place.install("n64", &wasm).unwrap();
    place.host.configure("n0", "{}").unwrap().expect("it is loaded again");
    for name in ["n63", "n64", "n0"] {
        assert_eq!(pick(&mut hooks, name), Some(10), "{name}");
    }
    assert_eq!(format!("{hooks:?}"), "Guests { seats: 3, .. }");
    assert_eq!(pick(&mut hooks, "n1"), None);
}

#[test]
fn changed_code_is_compiled_anew_and_never_run() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    place.install("b", &component("least-loaded")).unwrap();
    let name = place.files().into_iter().find(|name| name.ends_with(".cwasm")).unwrap();
    let path = place.dir.join(name);
    let good = std::fs::read(&path).unwrap();
    for at in [0, 31, 32, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        let host = restarted(&place.dir, &flash, env!("CARGO_BIN_EXE_edgeweir"));
        assert_eq!(pick(&mut host.guests(), "b"), Some(10));
        assert_eq!(std::fs::read(&path).unwrap().len(), good.len(), "it is stored anew");
        assert_ne!(std::fs::read(&path).unwrap(), bad);
    }
    // Without a compiler it is not run either.
    let mut bad = good;
    bad[100] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let host = restarted(&place.dir, &flash, "/nonexistent");
    assert_eq!(pick(&mut host.guests(), "b"), None);
    assert_eq!(host.take_events().len(), 1);
}

#[test]
fn a_missing_or_damaged_component_gives_way_to_the_one_before() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    let first = place.install("b", &component("least-loaded")).unwrap().hash;
    let second = place.install("b", &component("hostile/minimal")).unwrap().hash;
    let path = place.dir.join(format!("{second}.wasm"));
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[20] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let host = restarted(&place.dir, &flash, env!("CARGO_BIN_EXE_edgeweir"));
    let info = host.list().into_iter().find(|info| info.slot == "b").unwrap();
    assert_eq!((info.hash, pick(&mut host.guests(), "b")), (first.clone(), Some(10)));
    let events = host.take_events();
    assert!(events.iter().any(|event| event.text.contains("missing or damaged")), "{events:?}");
    let stored = flash.stored().get("b").unwrap().clone();
    assert_eq!(stored.active.map(|version| hex(&version)), Some(first.clone()));
    // Nothing left: the slot is empty and says so.
    std::fs::remove_file(place.dir.join(format!("{first}.wasm"))).unwrap();
    let host = restarted(&place.dir, &flash, env!("CARGO_BIN_EXE_edgeweir"));
    assert_eq!(host.list()[0].state, "empty");
    assert_eq!(host.take_events().len(), 1);
}

#[test]
fn what_does_not_run_at_one_start_is_kept_for_the_next() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    let first = place.install("b", &component("hostile/minimal")).unwrap().hash;
    let second = place.install("b", &component("least-loaded")).unwrap().hash;
    // Its code is gone, and there is no compiler just now: no memory for one, say.
    let code = place.files().into_iter();
    let code = code.filter(|name| name.starts_with(&*second) && name.ends_with(".cwasm"));
    code.for_each(|name| std::fs::remove_file(place.dir.join(name)).unwrap());
    let kept = |host: &Host| {
        let info = host.list().into_iter().find(|info| info.slot == "b").unwrap();
        (info.hash, info.kept, info.previous)
    };
    let host = restarted(&place.dir, &flash, "/nonexistent");
    assert_eq!(kept(&host), (first.clone(), second.clone(), first.clone()));
    assert_eq!(host.take_events().len(), 2, "what is wrong, and who serves");
    let host = restarted(&place.dir, &flash, env!("CARGO_BIN_EXE_edgeweir"));
    assert_eq!(kept(&host), (second.clone(), second, first));
}

#[test]
fn the_faults_of_one_that_stands_in_since_a_start_ban_nobody() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    let bad = does("trap", "pick-upstream", 110);
    let first = place.install_misbehaving("b", &bad).unwrap().hash;
    let second = place.install("b", &component("least-loaded")).unwrap().hash;
    // Its code is gone and there is no compiler, so the first one serves; and fails.
    let code = place.files().into_iter();
    let code = code.filter(|name| name.starts_with(&*second) && name.ends_with(".cwasm"));
    code.for_each(|name| std::fs::remove_file(place.dir.join(name)).unwrap());
    let places = Places { program: "/nonexistent".into(), ..Places::new(place.dir.clone()) };
    let host = Host::new(places, Box::new(flash.clone()));
    let config = |_: &str| Some(bad.clone());
    host.boot(flash.stored(), &config);
    let mut hooks = host.guests();
    for _ in 0..10_000 {
        pick(&mut hooks, "b");
    }
    host.maintain(&config);
    let info = host.list().into_iter().find(|info| info.slot == "b").unwrap();
    assert_eq!((info.state, &info.hash), ("benched", &first));
    assert_eq!((info.kept, info.previous, &*info.banned), (second, first, ""));
}

#[test]
fn a_store_that_fails_changes_nothing() {
    let flash = Flash::default();
    let place = Place::with(Code::HERE, Box::new(flash.clone()));
    let first = place.install("b", &component("least-loaded")).unwrap().hash;
    let files = place.files();
    flash.fail(true);
    let refusal = place.install("b", &component("hostile/minimal")).unwrap_err();
    assert_eq!(refusal.step, "store");
    assert!(refusal.reason.contains("worn out"), "{refusal}");
    assert_eq!((place.files(), hash_of(&place, "b")), (files, first));
    assert_eq!(place.host.remove("b").unwrap_err().step, "store");
    assert_eq!(pick(&mut place.host.guests(), "b"), Some(10));
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let file = std::env::temp_dir().join(format!("ew-plugins-file-{}", std::process::id()));
    std::fs::write(&file, b"in the way").unwrap();
    let place = Place::at(file.clone(), Code::HERE, Box::new(Forget));
    let refusal = place.install("b", &component("hostile/minimal")).unwrap_err();
    assert_eq!(refusal.step, "files");
    assert!(refusal.reason.contains(file.to_str().unwrap()), "{refusal}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_plugin_of_every_released_version_is_still_taken_and_used() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|end| end != "wasm") {
            continue;
        }
        found += 1;
        for code in [Code::HERE, Code::PULLEY] {
            let place = Place::with(code, Box::new(Forget));
            let report = place.install("all", &std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(report.hooks, ["balancer", "authenticator", "filter"], "{path:?}");
            let mut hooks = place.host.guests();
            pick(&mut hooks, "all");
            worker(&mut hooks, "all");
            auth(&mut hooks, "all");
            filter(&mut hooks, "all");
            let info = place.info("all");
            assert_eq!((info.calls, info.faults), (4, 0), "{path:?}: {}", info.last_fault);
        }
    }
    assert!(found >= 1);
}

#[test]
fn names_that_are_none_are_refused() {
    let place = Place::new();
    for name in ["", "a/b", "../x", "a b", &"n".repeat(33)] {
        let refusal = place.install(name, &component("hostile/minimal")).unwrap_err();
        assert_eq!(refusal.step, "slot", "{name}");
    }
    place.install(&"n".repeat(32), &component("hostile/minimal")).unwrap();
}

#[test]
fn the_interpreter_runs_the_same_guests() {
    let place = Place::with(Code::PULLEY, Box::new(Forget));
    place.install("b", &component("least-loaded")).unwrap();
    assert_eq!(pick(&mut place.host.guests(), "b"), Some(10));
    let refusal = place.install_misbehaving("b", &does("loop", "on-message", 1)).unwrap_err();
    assert!(refusal.reason.contains("100 ms of CPU time"), "{refusal}");
    let refusal = place.install_misbehaving("b", &does("recurse", "init", 1)).unwrap_err();
    assert_eq!(refusal.step, "init", "{refusal}");
    assert_eq!(pick(&mut place.host.guests(), "b"), Some(10));
}

#[test]
fn a_compiler_that_does_not_answer_is_a_refusal() {
    let dir = std::env::temp_dir().join(format!("ew-plugins-child-{}", std::process::id()));
    for (program, words) in
        [("/nonexistent", "cannot start"), ("/bin/false", ""), ("/bin/true", "")]
    {
        let places = Places { program: program.into(), ..Places::new(dir.clone()) };
        let host = Host::new(places, Box::new(Forget));
        let refusal = host.install("b", upload(&component("hostile/minimal"))).unwrap_err();
        assert!(["compile", "load"].contains(&refusal.step), "{refusal}");
        assert!(refusal.reason.contains(words), "{refusal}");
    }
    assert!(!dir.exists());
}

#[test]
fn no_call_goes_unanswered_while_plugins_are_swapped() {
    let place = Place::new();
    let (one, two) = (component("least-loaded"), component("sticky-hash"));
    place.install("b", &one).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let calls: u64 = std::thread::scope(|scope| {
        let worker = |_| {
            let mut hooks = place.host.guests();
            let stop = &stop;
            scope.spawn(move || {
                let mut calls = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(pick(&mut hooks, "b").is_some(), "after {calls} calls");
                    calls += 1;
                }
                calls
            })
        };
        let workers: Vec<_> = (0..3).map(worker).collect();
        for at in 0..100 {
            place.install("b", if at % 2 == 0 { &two } else { &one }).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    println!("100 swaps during {calls} calls");
    assert_eq!(place.info("b").faults, 0);
}
