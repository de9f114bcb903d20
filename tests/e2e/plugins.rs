//! Plugins in a running gateway: real components (`make plugins`), real players, and guests that
//! misbehave while others stream.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{
    Bench,
    gateway::{Gateway, Setup},
    origin::GstOrigin,
    player::{Ffmpeg, Gst, Player, Tcp, Udp},
    raw::{Raw, udp_pair},
    wait_for,
};

/// A call from which on a guest misbehaves that is to pass the install, which makes 255 of a kind.
pub(crate) const LATER: u32 = 300;

/// A component that `plugins/build.sh` has made.
fn guest(name: &str) -> String {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let file = target.join("plugins").join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: run `make plugins`", file.display());
    file.display().to_string()
}

pub(crate) fn install(gateway: &Gateway, name: &str, slot: &str) -> Value {
    gateway.ask(&["plugin", "install", &guest(name), "--slot", slot])
}

fn refused(gateway: &Gateway, file: &str, slot: &str) -> String {
    gateway.tell(&["plugin", "install", file, "--slot", slot], false)
}

pub(crate) fn slot(gateway: &Gateway, name: &str) -> Value {
    let slots = gateway.ask(&["plugin", "list"]);
    let slots = slots.as_array().cloned().unwrap_or_default();
    slots.into_iter().find(|slot| slot["slot"] == name).expect("the slot is listed")
}

fn status_of(gateway: &Gateway, path: &str) -> u16 {
    Raw::connect(gateway.at()).ask("DESCRIBE", &gateway.url(path), &[]).status
}

/// The HMAC of `plugins/token-gate/README.md`, by openssl.
fn token(path: &str, key: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let expires = now.expect("a clock that is set").as_secs() + 600;
    let text = format!("edgeweir-token-1\n{path}\n{expires}\nalice");
    let script = format!("printf '{text}' | openssl dgst -sha256 -hmac '{key}'");
    let output = std::process::Command::new("sh").arg("-c").arg(script).output();
    let output = String::from_utf8(output.expect("openssl").stdout).expect("text");
    let digest = output.trim().rsplit(' ').next().expect("a digest").to_owned();
    assert_eq!(digest.len(), 64, "openssl says {output}");
    format!("{path}?exp={expires}&user=alice&sig={digest}")
}

#[test]
fn guests_let_in_redact_and_balance_for_real_players() {
    let bench = Bench::new("plugins-all");
    let origins = [GstOrigin::start(&bench, "origin-a"), GstOrigin::start(&bench, "origin-b")];
    let mut setup = Setup::default()
        .origin("a", &origins[0].base(), "")
        .origin("b", &origins[1].base(), "")
        .route(
            "/**",
            &["a", "b"],
            "policy = \"plugin:balancer\"\nauth = \"plugin:gate\"\nfilters = [\"redact\"]",
        );
    setup.tables += "[[plugin]]\nslot = \"balancer\"\n[plugin.config]\nsticky = false\n\
                     [[plugin]]\nslot = \"gate\"\n[plugin.config]\nkey = \"portal\"\n\
                     [[plugin]]\nslot = \"redact\"\n[plugin.config]\nheaders = [\"Server\"]\n\
                     sdp = [\"a=tool\", \"i=\"]\n";
    setup.secrets = Some(
        "[[credential]]\nname = \"portal\"\nuser = \"hmac\"\npassword = \"the secret\"\n".into(),
    );
    let gateway = Gateway::start(&bench, &setup);
    assert_eq!(status_of(&gateway, "/av"), 503, "an empty slot lets nobody in");
    for (name, slot) in [("least-loaded", "balancer"), ("token-gate", "gate"), ("redact", "redact")]
    {
        install(&gateway, name, slot);
    }
    assert_eq!(status_of(&gateway, "/av"), 403);
    assert_eq!(status_of(&gateway, &token("/av", "another secret")), 403);
    let path = token("/av", "the secret");
    let mut raw = Raw::connect(gateway.at());
    let described = raw.ask("DESCRIBE", &gateway.url(&path), &["Accept: application/sdp"]);
    assert_eq!(described.status, 200, "{}", described.head);
    assert!(described.header("Server").is_none(), "{}", described.head);
    assert!(!described.body.contains("a=tool") && !described.body.contains("\ni="));
    assert!(described.body.contains("a=control"), "{}", described.body);
    drop(raw);
    let url = gateway.url(&path);
    let who = [(Ffmpeg, Tcp), (Ffmpeg, Udp), (Gst, Tcp), (Gst, Udp)];
    let players: Vec<Player> = who
        .iter()
        .enumerate()
        .map(|(at, (kind, how))| {
            let player = Player::start(&bench, *kind, *how, &url, 5);
            // One by one, so that the balancer sees the load of those before.
            wait_for("playing session", Duration::from_secs(20), || {
                let playing = |one: &Value| one["state"] == "playing";
                (gateway.sessions().iter().filter(|one| playing(one)).count() > at).then_some(())
            });
            player
        })
        .collect();
    let sessions = gateway.sessions();
    let at = |name: &str| sessions.iter().filter(|one| one["origin"] == name).count();
    assert_eq!((at("a"), at("b")), (2, 2), "{sessions:?}");
    for player in players {
        player.finish().expect_whole();
    }
    for name in ["balancer", "gate", "redact"] {
        let slot = slot(&gateway, name);
        assert_eq!(slot["faults"], 0, "{slot}");
        assert!(slot["hooks"][0]["calls"].as_u64() > Some(0), "{slot}");
    }
    // What the authenticator counted, under the names that plugins/wit promises.
    let page = gateway.metrics();
    for line in [
        "# TYPE edgeweir_plugin_refused_missing_total counter",
        "edgeweir_plugin_refused_missing_total{slot=\"gate\"} 1",
        "edgeweir_plugin_refused_forged_total{slot=\"gate\"} 1",
        "edgeweir_plugin_dropped_metrics_total{slot=\"gate\"} 0",
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
    }
    gateway.finish();
}

#[test]
fn swaps_while_streams_run_lose_nothing() {
    let bench = Bench::new("plugins-swap");
    let origin = GstOrigin::start(&bench, "origin");
    let mut setup = Setup::default().origin("nvr", &origin.base(), "").route(
        "/**",
        &["nvr"],
        "policy = \"plugin:balancer\"\nfilters = [\"filter\"]",
    );
    setup.tables += "[[plugin]]\nslot = \"balancer\"\n[[plugin]]\nslot = \"filter\"\n\
                     [plugin.config]\nheaders = [\"Server\"]\n";
    let gateway = Gateway::start(&bench, &setup);
    install(&gateway, "redact", "filter");
    install(&gateway, "least-loaded", "balancer");
    let url = gateway.url("/av");
    let who = [(Ffmpeg, Tcp), (Gst, Udp), (Gst, Tcp)];
    let mut players: Vec<Player> =
        who.iter().map(|(kind, how)| Player::start(&bench, *kind, *how, &url, 8)).collect();
    wait_for("playing sessions", Duration::from_secs(20), || {
        (gateway.sessions().iter().filter(|one| one["state"] == "playing").count() == 3)
            .then_some(())
    });
    for round in 0..5 {
        for (name, slot) in
            [("sticky-hash", "balancer"), ("redact", "filter"), ("least-loaded", "balancer")]
        {
            let done = install(&gateway, name, slot);
            assert!(!done["phases"].as_array().expect("phases").is_empty(), "{done}");
        }
        assert!(refused(&gateway, &guest("hostile/start-trap"), "filter").len() > 20, "{round}");
        assert_eq!(status_of(&gateway, "/av"), 200);
    }
    gateway.tell(&["plugin", "rollback", "balancer"], true);
    assert_eq!(slot(&gateway, "balancer")["name"], "sticky-hash");
    for player in players.drain(..) {
        player.finish().expect_whole();
    }
    gateway.tell(&["plugin", "remove", "balancer"], true);
    assert_eq!(slot(&gateway, "balancer")["state"], "empty");
    assert_eq!(status_of(&gateway, "/av"), 200, "the built-in policy decides");
    gateway.tell(&["plugin", "remove", "filter"], true);
    assert_eq!(status_of(&gateway, "/av"), 503, "on_fault reject: nothing passes unfiltered");
    gateway.finish();
}

#[test]
fn a_plugin_that_fails_in_its_first_minute_is_rolled_back_and_refused_until_forced() {
    let bench = Bench::new("plugins-rollback");
    let origin = GstOrigin::start(&bench, "origin");
    let mut setup = Setup::default().origin("nvr", &origin.base(), "").route(
        "/**",
        &["nvr"],
        "policy = \"plugin:balancer\"",
    );
    setup.tables += &format!(
        "[[plugin]]\nslot = \"balancer\"\n[plugin.config]\ndo = \"trap\"\nin = \
         \"pick-upstream\"\nfrom_call = {LATER}\n"
    );
    let gateway = Gateway::start(&bench, &setup);
    install(&gateway, "hostile/minimal", "balancer");
    let good = slot(&gateway, "balancer")["hash"].clone();
    let stream = Player::start(&bench, Ffmpeg, Tcp, &gateway.url("/av"), 8);
    let bad = gateway.ask(&[
        "plugin",
        "install",
        &guest("hostile/misbehaves"),
        "--slot",
        "balancer",
    ])["hash"]
        .clone();
    assert_ne!(good, bad);
    wait_for("rollback", Duration::from_secs(50), || {
        for _ in 0..20 {
            let answer = Raw::connect(gateway.at()).ask("OPTIONS", &gateway.url("/av"), &[]);
            assert_eq!(answer.status, 200, "a fault of a balancer is nobody's trouble");
        }
        (slot(&gateway, "balancer")["hash"] == good).then_some(())
    });
    wait_for("ban", Duration::from_secs(10), || {
        (slot(&gateway, "balancer")["banned"] == bad).then_some(())
    });
    let events = gateway.ask(&["status"])["events"].to_string();
    assert!(events.contains("balancer") && events.contains("rolled back"), "{events}");
    let why = refused(&gateway, &guest("hostile/misbehaves"), "balancer");
    assert!(why.contains("force"), "{why}");
    gateway.tell(
        &["plugin", "install", &guest("hostile/misbehaves"), "--slot", "balancer", "--force"],
        true,
    );
    stream.finish().expect_whole();
    gateway.finish();
}

#[test]
fn what_is_no_plugin_is_refused_with_its_reason_and_leaves_nothing_behind() {
    let bench = Bench::new("plugins-refused");
    let mut setup = Setup::default().origin("nvr", "rtsp://192.0.2.1", "").route(
        "/**",
        &["nvr"],
        "filters = [\"s\"]",
    );
    setup.tables += "[[plugin]]\nslot = \"s\"\n";
    let gateway = Gateway::start(&bench, &setup);
    install(&gateway, "hostile/minimal", "s");
    let before = (slot(&gateway, "s"), files(&bench));
    for (name, word) in [
        ("forbidden-import", "wasi:filesystem/preopens"),
        ("newer-import", "1.1.0"),
        ("missing-lifecycle", "lifecycle"),
        ("no-hook", "hook"),
        ("mistyped-export", "pick-upstream"),
        ("missing-function", "pick-worker"),
        ("wrong-version", "2.0.0"),
        ("big-memory", "memory"),
        ("big-table", "table"),
        ("start-loop", ""),
        ("start-trap", ""),
        ("core-module", "component"),
    ] {
        let why = refused(&gateway, &guest(&format!("hostile/{name}")), "s");
        assert!(why.contains(word) && why.len() > 30, "{name}: {why}");
    }
    let whole = fs::read(guest("redact")).expect("a guest");
    let truncated = bench.file("truncated.wasm");
    fs::write(&truncated, &whole[..whole.len() / 2]).expect("a file");
    let noise = bench.file("noise.wasm");
    fs::write(&noise, (0..5000).map(|at| (at * 37 % 251) as u8).collect::<Vec<_>>())
        .expect("a file");
    for file in [truncated.display().to_string(), noise.display().to_string(), "/bin/true".into()] {
        let why = refused(&gateway, &file, "s");
        assert!(why.len() > 30, "{file}: {why}");
    }
    let large = bench.file("large.wasm");
    fs::write(&large, vec![0; 257 * 1024]).expect("a file");
    let why = refused(&gateway, &large.display().to_string(), "s");
    assert!(why.contains("262144"), "{why}");
    let why = gateway.tell(&["plugin", "install", &guest("redact"), "--slot", "door"], false);
    assert!(why.contains("no slot door, only s"), "{why}");
    let after = (slot(&gateway, "s"), files(&bench));
    assert_eq!(before, after);
    gateway.finish();
}

/// Names in the data directory, in order.
fn files(bench: &Bench) -> Vec<String> {
    let folder = bench.file("gateway.toml.data");
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("the data directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn plugins_are_there_again_after_a_restart() {
    let bench = Bench::new("plugins-restart");
    let origin = GstOrigin::start(&bench, "origin");
    let mut setup = Setup::default().origin("nvr", &origin.base(), "").route(
        "/**",
        &["nvr"],
        "filters = [\"redact\"]",
    );
    setup.tables += "[[plugin]]\nslot = \"redact\"\n[plugin.config]\nheaders = [\"Server\"]\n";
    let gateway = Gateway::start(&bench, &setup);
    install(&gateway, "redact", "redact");
    let before = slot(&gateway, "redact")["hash"].clone();
    gateway.finish();
    let gateway = Gateway::start(&bench, &setup);
    assert_eq!(slot(&gateway, "redact")["hash"], before);
    let mut raw = Raw::connect(gateway.at());
    let described = raw.ask("DESCRIBE", &gateway.url("/av"), &[]);
    assert_eq!((described.status, described.header("Server")), (200, None));
    drop(raw);
    gateway.finish();
    // Compiled code that has changed is compiled anew, a component that has changed is not used.
    for name in files_of(&bench, ".cwasm") {
        let mut bytes = fs::read(&name).expect("code");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&name, bytes).expect("code");
    }
    let gateway = Gateway::start(&bench, &setup);
    assert_eq!(status_of(&gateway, "/av"), 200);
    assert_eq!(slot(&gateway, "redact")["hash"], before);
    gateway.finish();
}

#[test]
fn a_slot_that_leaves_the_configuration_serves_its_sessions_and_is_then_unloaded() {
    let bench = Bench::new("plugins-leave");
    let origin = GstOrigin::start(&bench, "origin");
    let nvr = Setup::default().origin("nvr", &origin.base(), "");
    let mut with = nvr.route("/**", &["nvr"], "filters = [\"redact\"]");
    with.tables += "[[plugin]]\nslot = \"redact\"\n[plugin.config]\nheaders = [\"Server\"]\n";
    let gateway = Gateway::start(&bench, &with);
    let nvr = Setup::default().origin("nvr", &origin.base(), "");
    let without = nvr.route("/**", &["nvr"], "");
    install(&gateway, "redact", "redact");
    let (rtp, _rtcp) = udp_pair();
    let port = rtp.local_addr().expect("a port").port();
    let mut old = Raw::connect(gateway.at());
    old.play(&gateway.url("/av"), &format!("RTP/AVP;unicast;client_port={port}-{}", port + 1));
    let options = |raw: &mut Raw| raw.ask("OPTIONS", &gateway.url("/av"), &[]);
    assert!(options(&mut old).header("Server").is_none());

    gateway.import_tables(&bench, &without);
    assert_eq!(slot(&gateway, "redact")["state"], "leaving");
    assert!(options(&mut old).header("Server").is_none(), "its session is filtered as before");
    let mut new = Raw::connect(gateway.at());
    assert!(options(&mut new).header("Server").is_some(), "a new one is not");
    drop(new);
    drop(old);
    let unused = || (slot(&gateway, "redact")["state"] == "unused").then_some(());
    wait_for("unloading", Duration::from_secs(20), unused);
    assert!(slot(&gateway, "redact")["hash"].as_str().is_some_and(|hash| hash.len() == 64));

    gateway.import_tables(&bench, &with);
    assert_eq!(slot(&gateway, "redact")["state"], "trial");
    assert!(options(&mut Raw::connect(gateway.at())).header("Server").is_none());
    // Out again, with nobody there: at once, and not loaded by the next start either.
    gateway.import_tables(&bench, &without);
    wait_for("unloading", Duration::from_secs(20), unused);
    gateway.tell(&["plugin", "remove", "redact"], true);
    let slots = gateway.ask(&["plugin", "list"]);
    assert_eq!(slots.as_array().map(Vec::len), Some(0), "{slots}");
    assert!(files(&bench).iter().all(|name| !name.ends_with("wasm")), "{:?}", files(&bench));
    gateway.finish();
}

#[test]
fn a_slot_does_not_wait_for_connections_without_a_session() {
    let bench = Bench::new("plugins-rest");
    let origin = GstOrigin::start(&bench, "origin");
    let setup = || Setup::default().origin("nvr", &origin.base(), "");
    let mut with = setup().route("/**", &["nvr"], "filters = [\"redact\"]");
    with.limits = "idle_timeout_s = 3600".to_owned();
    with.tables += "[[plugin]]\nslot = \"redact\"\n[plugin.config]\nheaders = [\"Server\"]\n";
    let gateway = Gateway::start(&bench, &with);
    install(&gateway, "redact", "redact");
    let mut idle = Raw::connect(gateway.at());
    let described = |raw: &mut Raw| raw.ask("DESCRIBE", &gateway.url("/av"), &[]);
    assert!(described(&mut idle).header("Server").is_none());
    gateway.import_tables(&bench, &setup().route("/**", &["nvr"], ""));
    assert_eq!(slot(&gateway, "redact")["state"], "leaving");
    let unused = || (slot(&gateway, "redact")["state"] == "unused").then_some(());
    wait_for("unloading", Duration::from_secs(30), unused);
    let answer = described(&mut idle);
    assert_eq!((answer.status, answer.header("Server").is_some()), (200, true), "it goes on");
    gateway.finish();
}

fn files_of(bench: &Bench, end: &str) -> Vec<PathBuf> {
    let folder = bench.file("gateway.toml.data");
    let names = files(bench).into_iter().filter(|name| name.ends_with(end));
    let found: Vec<PathBuf> = names.map(|name| folder.join(name)).collect();
    assert!(!found.is_empty(), "no {end} among {:?}", files(bench));
    found
}
