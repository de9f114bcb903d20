//! Guests that misbehave while they serve, by what they do.

use std::time::{Duration, Instant};

use edgeweir::plugin::hooks::{Decision, Hooks, Verdict};

use super::support::*;

/// Calls of an install: each hook about 50 times for each made-up argument, five at most.
const FROM: u32 = 300;
const HOOKS: [&str; 4] = ["pick-upstream", "pick-worker", "authenticate", "on-message"];

/// What a hook says, in one word.
fn ask(hooks: &mut dyn Hooks, hook: &str, slot: &str) -> String {
    match hook {
        "pick-upstream" => format!("{:?}", pick(hooks, slot)),
        "pick-worker" => format!("{:?}", worker(hooks, slot)),
        "authenticate" => format!("{:?}", auth(hooks, slot)),
        _ => format!("{:?}", filter(hooks, slot)),
    }
}

/// What it says when it fails.
fn failed(hook: &str) -> &'static str {
    if hook.starts_with("pick") { "None" } else { "Fault" }
}

/// The guest behaves at its install and misbehaves later: one fault, in that hook, that says so; the
/// next call is served by a new instance; another slot does not notice.
#[track_caller]
fn fails_later(deed: &str, hook: &str, words: &str) {
    let log = Log::start();
    let place = Place::warm();
    let bad = &format!("{deed}-{hook}");
    place.install_misbehaving(bad, &does(deed, hook, FROM)).unwrap();
    place.install("good", &component("least-loaded")).unwrap();
    let mut hooks = place.host.guests();
    let good = pick(&mut hooks, "good");
    assert!(good.is_some());
    for _ in 1..FROM {
        ask(&mut hooks, hook, bad);
    }
    assert_eq!(place.info(bad).faults, 0, "{:?}", place.info(bad));
    let since = Instant::now();
    assert_eq!(ask(&mut hooks, hook, bad), failed(hook), "{deed} in {hook}");
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    let info = place.info(bad);
    assert_eq!(info.faults, 1);
    assert!(info.last_fault.contains(words), "{deed} in {hook}: {}", info.last_fault);
    let said = format!("plugin {bad}: fault in call: {}", info.last_fault);
    assert_eq!(log.with(&format!("plugin {bad}: fault")), [said]);
    ask(&mut hooks, hook, bad);
    assert_eq!((place.info(bad).faults, place.info(bad).state), (1, "trial"));
    assert_eq!(pick(&mut hooks, "good"), good);
}

/// The guest misbehaves at once: its install is refused at that step.
#[track_caller]
fn refused_at_once(deed: &str, hook: &str, words: &str) {
    refused_from(deed, hook, 1, words);
}

/// The same from this call of the hook on.
#[track_caller]
fn refused_from(deed: &str, hook: &str, from_call: u32, words: &str) {
    let place = Place::warm();
    let before = place.files();
    let refusal = place.install_misbehaving("bad", &does(deed, hook, from_call)).unwrap_err();
    let step = if hook == "interests" { "init" } else { hook };
    assert_eq!(refusal.step, step, "{refusal}");
    assert!(refusal.reason.contains(words), "{refusal}");
    assert_eq!(place.files(), before);
}

#[test]
fn nothing_is_the_control() {
    let place = Place::warm();
    let report = place.install_misbehaving("b", &does("nothing", "all", 1)).unwrap();
    assert_eq!(report.hooks, ["balancer", "authenticator", "filter"]);
    let mut hooks = place.host.guests();
    let said: Vec<String> = HOOKS.iter().map(|hook| ask(&mut hooks, hook, "b")).collect();
    let grant = "Allow(Grant { user: \"guest\", ttl_s: 0, roles: [] })";
    assert_eq!(said, ["None", "None", grant, "Pass"]);
    let info = place.info("b");
    assert_eq!((info.calls, info.faults, info.state), (4, 0, "trial"));
}

#[test]
fn trap() {
    for step in ["init", "interests", "probe", "pick-upstream", "pick-worker", "authenticate"] {
        refused_at_once("trap", step, "unreachable");
    }
    for hook in HOOKS {
        fails_later("trap", hook, "unreachable");
    }
}

#[test]
fn a_trap_in_snapshot_counts_as_nothing_to_say() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("trap", "snapshot", 1)).unwrap();
    pick(&mut place.host.guests(), "b");
    place.install("b", &component("least-loaded")).unwrap();
}

#[test]
fn endless_loop() {
    refused_at_once("loop", "init", "100 ms of CPU time");
    // The first call of a trial has longer.
    refused_at_once("loop", "on-message", "100 ms of CPU time");
    refused_from("loop", "on-message", 2, "5 ms of CPU time");
    fails_later("loop", "pick-upstream", "2 ms of CPU time");
    fails_later("loop", "authenticate", "5 ms of CPU time");
}

#[test]
fn a_cold_first_call_is_reported_and_a_later_one_that_slow_is_refused() {
    for (hook, budget_ms) in [("pick-upstream", 2), ("on-message", 5)] {
        let place = Place::warm();
        let report = place.install_misbehaving("b", &does("slow-once", hook, 1)).unwrap();
        let of_hook = |sample: &&edgeweir::plugin::Sample| sample.hook == hook;
        let cold = report.samples.iter().find(of_hook).unwrap();
        assert!(cold.first_ns > budget_ms * 1_000_000, "{cold:?}: it was not slow");
        assert!(cold.mean_ns < budget_ms * 1_000_000, "{cold:?}");
        refused_from("slow-once", hook, 2, &format!("{budget_ms} ms of CPU time"));
    }
}

#[test]
fn endless_loop_of_host_calls() {
    refused_at_once("host-loop", "authenticate", "100 ms of CPU time");
    refused_from("host-loop", "authenticate", 2, "5 ms of CPU time");
    fails_later("host-loop", "on-message", "5 ms of CPU time");
}

#[test]
fn memory_growth() {
    let before = rss_kib();
    // Growing to 4 MiB may take longer than a hook has; either way it is a fault.
    refused_at_once("grow", "probe", "");
    refused_at_once("grow", "on-message", "");
    let grown = rss_kib().saturating_sub(before);
    assert!(grown < 40 * 1024, "{grown} KiB more, with engine and test threads");
    let place = Place::warm();
    let report = place.install_misbehaving("b", &does("grow-politely", "probe", 1)).unwrap();
    assert!(report.costs.memory_bytes <= 4 * 1024 * 1024, "{:?}", report.costs);
    assert!(report.costs.memory_bytes > 3 * 1024 * 1024, "{:?}", report.costs);
}

#[test]
fn deep_recursion() {
    for hook in ["init", "on-message"] {
        refused_at_once("recurse", hook, "stack");
    }
    fails_later("recurse", "authenticate", "stack");
}

#[test]
fn huge_answers() {
    for step in ["interests", "probe", "authenticate", "on-message"] {
        refused_at_once("huge", step, "");
    }
    let place = Place::warm();
    place.install_misbehaving("b", &does("huge", "snapshot", 1)).unwrap();
}

#[test]
fn unknown_ids() {
    refused_at_once("bad-id", "pick-upstream", "upstream 4000000000, which is not in the list");
    refused_at_once("bad-id", "pick-worker", "worker 65535, which is not in the list");
    fails_later("bad-id", "pick-upstream", "not in the list");
    fails_later("unhealthy-id", "pick-upstream", "upstream 11, which is not healthy");
}

#[test]
fn statuses_out_of_range() {
    for hook in ["authenticate", "on-message"] {
        refused_at_once("bad-status", hook, "not allowed");
        fails_later("bad-status", hook, "not allowed");
    }
    fails_later("deny-ok", "authenticate", "deny(200)");
}

#[test]
fn header_injection() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("inject", "on-message", 1)).unwrap();
    let mut hooks = place.host.guests();
    // Every bad edit was refused with its own error, or X-Accepted would have been added.
    assert_eq!(filter(&mut hooks, "b"), Verdict::Pass);
    for deed in ["inject-reply", "own-reply"] {
        for hook in ["authenticate", "on-message"] {
            refused_at_once(deed, hook, "header");
            fails_later(deed, hook, "header");
        }
    }
}

#[test]
fn edits_do_not_outlive_a_fault_or_a_drop() {
    fails_later("edit-then-trap", "on-message", "unreachable");
    let place = Place::warm();
    place.install_misbehaving("b", &does("edit-then-drop", "on-message", 1)).unwrap();
    assert_eq!(filter(&mut place.host.guests(), "b"), Verdict::Drop);
}

#[test]
fn edit_flood() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("edit-flood", "on-message", FROM)).unwrap();
    let mut hooks = place.host.guests();
    for _ in 1..FROM {
        assert_eq!(filter(&mut hooks, "b"), Verdict::Pass);
    }
    match filter(&mut hooks, "b") {
        Verdict::Edited { bytes, head } => {
            let parsed = edgeweir::rtsp::Head::parse(&bytes[..head]).unwrap();
            assert_eq!(parsed.headers().count(), 64);
        }
        // Without optimisation, ten thousand refusals take longer than a hook has.
        said => assert_eq!((said, place.info("b").faults), (Verdict::Fault, 1)),
    }
}

#[test]
fn log_flood() {
    let log = Log::start();
    let place = Place::warm();
    place.install_misbehaving("flood", &does("log-flood", "on-message", FROM)).unwrap();
    let mut hooks = place.host.guests();
    let since = Instant::now();
    for _ in 0..=FROM {
        filter(&mut hooks, "flood");
    }
    let seconds = since.elapsed().as_secs() as usize + 2;
    let lines = log.with("plugin flood:");
    assert!(!lines.is_empty() && lines.len() <= 20 * seconds + 3, "{}", lines.len());
    assert!(place.info("flood").dropped_lines > 1000);
}

#[test]
fn long_log_lines() {
    let log = Log::start();
    let place = Place::warm();
    place.install_misbehaving("long", &does("log-long", "on-message", 1)).unwrap();
    filter(&mut place.host.guests(), "long");
    let lines = log.with("plugin long:");
    assert!(!lines.is_empty());
    for line in lines {
        assert!(line.len() <= 1024 + 20 && !line.contains(char::is_control), "{}", line.len());
    }
}

#[test]
fn metric_flood() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("metric-flood", "pick-worker", FROM)).unwrap();
    let mut hooks = place.host.guests();
    for _ in 0..=FROM {
        worker(&mut hooks, "b");
    }
    let metrics = place.host.metrics();
    let (_, numbers) = metrics.iter().find(|(slot, _)| slot == "b").unwrap();
    assert_eq!(numbers.len(), 32);
    assert!(place.info("b").dropped_metrics > 0);
}

#[test]
fn kv_flood() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("kv-flood", "pick-worker", FROM)).unwrap();
    let mut hooks = place.host.guests();
    for _ in 0..=FROM {
        worker(&mut hooks, "b");
    }
    let (keys, bytes) = place.info("b").kv;
    assert!(keys > 0 && keys <= 1024 && bytes <= 256 * 1024, "{keys} keys, {bytes} bytes");
    // What the table holds outlives the plugin.
    place.install("b", &component("least-loaded")).unwrap();
    assert_eq!(place.info("b").kv, (keys, bytes));
}

#[test]
fn random_flood() {
    refused_at_once("random-flood", "on-message", "at most 256");
}

#[test]
fn values_that_are_not_utf_8_arrive_as_they_were_sent() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("echo", "on-message", 1)).unwrap();
    let Verdict::Edited { bytes, .. } = filter(&mut place.host.guests(), "b") else {
        panic!("it is edited")
    };
    let wanted = b"X-Echo: caf\xe9\r\n";
    assert!(bytes.windows(wanted.len()).any(|part| part == wanted));
    assert!(bytes.starts_with(&OPTIONS[..OPTIONS.len() - 2]), "all else is as it was");
}

#[test]
fn an_authenticator_sees_headers() {
    let place = Place::warm();
    place.install_misbehaving("b", &does("session", "authenticate", 1)).unwrap();
    let mut hooks = place.host.guests();
    assert_eq!(auth(&mut hooks, "b"), Decision::Deny(403));
    let request = b"OPTIONS rtsp://gw/a RTSP/1.0\r\nCSeq: 1\r\nx-let-me-in: 1\r\n\r\n";
    let said = hooks.authenticate("b", &CLIENT, message(request));
    assert!(matches!(said, Decision::Allow(_)), "{said:?}");
}

#[test]
fn an_empty_slot_answers_for_nobody() {
    let place = Place::warm();
    let mut hooks = place.host.guests();
    let said: Vec<String> = HOOKS.iter().map(|hook| ask(&mut hooks, hook, "none")).collect();
    assert_eq!(said, ["None", "None", "Fault", "Fault"]);
    // And a hook that is not exported is as good as none.
    place.install("b", &component("least-loaded")).unwrap();
    let said: Vec<String> = HOOKS.iter().map(|hook| ask(&mut hooks, hook, "b")).skip(2).collect();
    assert_eq!(said, ["Fault", "Fault"]);
}
