//! What a session costs, whether anything grows, and whether the gateway loses packets under many
//! sessions. In the small form part of `make test`; in full by `make capacity`, which sets
//! `EDGEWEIR_CAPACITY=full` and runs the release build, as the budgets are meant.
//!
//! Origin and players share the machine's cores with the gateway, so both are as cheap as can be:
//! one thread of RTSP for all sessions of the origin, one socket for the media of all of them, two
//! sockets for what all players receive. Packets carry the number of their session.
//!
//! Not in here: CPU per packet and delay, which are benchmarks.

// A test that cannot go on panics; that is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

#[path = "capacity/generator.rs"]
mod generator;
#[path = "harness/mod.rs"]
mod harness;
#[path = "capacity/origin.rs"]
mod origin;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use generator::Players;
use harness::{
    Bench,
    gateway::{Gateway, Setup},
    raw::Raw,
};
use origin::TinyOrigin;

/// Packets a second of each session, both tracks together.
const RATE: u32 = 100;

/// How much of it is run, and what is allowed.
struct Form {
    /// Sessions at once, ascending.
    crowds: &'static [u16],
    /// Seconds of media for each crowd.
    seconds: u32,
    /// Sessions opened and closed one after the other.
    churned: u32,
    /// Resident memory of a gateway that has done nothing yet, KiB.
    idle_kib: u64,
}

// A build for debugging maps far more code.
const SMALL: Form = Form { crowds: &[100], seconds: 2, churned: 1000, idle_kib: 32 * 1024 };
const FULL: Form = Form { crowds: &[100, 1000], seconds: 10, churned: 10_000, idle_kib: IDLE_KIB };

/// The compiler of plugins only runs in child processes, but its pages lie between those of the
/// gateway.
const IDLE_KIB: u64 = if cfg!(feature = "compiler") { 8 * 1024 } else { 5 * 1024 };

/// The bar for a session with two tracks over UDP, KiB, the kernel's socket memory apart.
const SESSION_KIB: u64 = 32;
/// The allocator's own noise over thousands of sessions, KiB; one lost kilobyte a session would be
/// far more.
const GROWTH_KIB: u64 = 512;

#[test]
fn sessions_are_cheap_nothing_grows_and_no_packet_is_lost() {
    let full = env::var("EDGEWEIR_CAPACITY").is_ok_and(|form| form == "full");
    let form = if full { FULL } else { SMALL };
    generator::raise_file_limit();
    let bench = Bench::new("capacity");
    let origin = TinyOrigin::start();
    let mut setup = Setup::default().origin("tiny", &origin.url(), "check = \"off\"").route(
        "/**",
        &["tiny"],
        "policy = \"first\"",
    );
    setup.limits = "sessions = 4096\nsessions_per_client = 4096\nidle_timeout_s = 600".to_owned();
    setup.pairs = 4 * form.crowds.iter().max().copied().unwrap_or(0) + 64;
    let gateway = Gateway::start(&bench, &setup);
    // The connection that found it listening is gone.
    gateway.wait_idle(Duration::from_secs(5));
    let players = Players::new();
    let idle = gateway.rss_kib();
    println!("idle: {idle} KiB resident");
    assert!(idle <= form.idle_kib, "{idle} KiB idle, allowed are {}", form.idle_kib);
    let descriptors = gateway.descriptors();

    for crowd in form.crowds {
        one_crowd(&gateway, &origin, &players, &form, *crowd, idle);
        expect_nothing_left(&gateway, descriptors);
    }
    churn(&gateway, &players, form.churned);
    expect_nothing_left(&gateway, descriptors);
    gateway.finish();
}

/// Sessions stream, and meanwhile plugins are swapped in all their slots: good ones, ones that are
/// refused after they ran in the shadow, or before. No session ends, no packet is lost.
#[test]
fn swaps_under_load_lose_no_session_and_no_packet() {
    let full = env::var("EDGEWEIR_CAPACITY").is_ok_and(|form| form == "full");
    let (crowd, swaps, seconds): (u16, usize, u32) =
        if full { (1000, 100, 40) } else { (50, 10, 6) };
    generator::raise_file_limit();
    let bench = Bench::new("capacity-swaps");
    let origin = TinyOrigin::start();
    let mut setup = Setup::default().origin("tiny", &origin.url(), "check = \"off\"").route(
        "/**",
        &["tiny"],
        "policy = \"plugin:balancer\"\nfilters = [\"filter\"]",
    );
    setup.tables += "[[plugin]]\nslot = \"balancer\"\n[[plugin]]\nslot = \"filter\"\n\
                     [plugin.config]\nheaders = [\"Server\"]\n";
    setup.gateway = "worker_policy = \"plugin:balancer\"".to_owned();
    setup.limits = "sessions = 4096\nsessions_per_client = 4096\nidle_timeout_s = 600".to_owned();
    setup.pairs = 4 * crowd + 64;
    let gateway = Gateway::start(&bench, &setup);
    let install = |name: &str, slot: &str| -> (bool, Duration) {
        let began = Instant::now();
        let done = gateway.try_to(&["plugin", "install", &guest(name), "--slot", slot]);
        (done, began.elapsed())
    };
    assert!(install("least-loaded", "balancer").0 && install("redact", "filter").0);
    let players = Players::new();
    let mut sessions: Vec<Raw> = (0..crowd).map(|_| open(&gateway, &players)).collect();
    let all = u32::from(crowd) * RATE;
    players.forget();
    let sent = generator::send(&origin, all, Duration::from_secs(u64::from(seconds) / 4));
    let (received, _) = players.settle(&sent);
    let quiet = (players.delays.permille(999), players.delays.worst());
    let lost_quietly = sent.packets.saturating_sub(received).saturating_sub(players.overflown());
    players.forget();
    let (sent, slowest, refused) = std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            let (mut slowest, mut refused) = (Duration::ZERO, 0);
            for at in 0..swaps {
                let (name, slot, good) = match at % 5 {
                    0 => ("sticky-hash", "balancer", true),
                    1 => ("redact", "filter", true),
                    2 => ("hostile/start-trap", "filter", false),
                    3 => ("least-loaded", "balancer", true),
                    _ => ("hostile/forbidden-import", "balancer", false),
                };
                let (done, took) = install(name, slot);
                assert_eq!(done, good, "swap {at}: {name}");
                slowest = slowest.max(took);
                refused += u32::from(!done);
            }
            (slowest, refused)
        });
        let sent = generator::send(&origin, all, Duration::from_secs(seconds.into()));
        let (slowest, refused) = swapping.join().expect("the swaps");
        (sent, slowest, refused)
    });
    let (received, gaps) = players.settle(&sent);
    let swapped = (players.delays.permille(999), players.delays.worst());
    let missing = sent.packets.saturating_sub(received);
    println!(
        "{crowd} sessions, {swaps} swaps ({refused} refused) in {:?}, the slowest {slowest:?} with its \
         command; {} packets, {missing} missing ({} for want of room at the players), {lost_quietly} \
         before; delay without swaps: 99.9 % within {:?}, worst {:?}; with: {:?}, {:?}",
        sent.took,
        sent.packets,
        players.overflown(),
        quiet.0,
        quiet.1,
        swapped.0,
        swapped.1
    );
    assert!(missing <= players.overflown(), "{missing} packets are missing ({gaps} sessions)");
    assert_eq!(gateway.sessions().len(), usize::from(crowd), "no session has ended");
    for session in &mut sessions {
        assert_eq!(session.ask("GET_PARAMETER", &gateway.url("/cam"), &[]).status, 200);
    }
    gateway.finish();
}

/// A component that `plugins/build.sh` has made.
fn guest(name: &str) -> String {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    let file = target.join("plugins").join(format!("{name}.wasm"));
    assert!(file.is_file(), "{} is missing: run `make plugins`", file.display());
    file.display().to_string()
}

/// So many sessions at once: their memory, and all of their packets.
fn one_crowd(
    gateway: &Gateway,
    origin: &TinyOrigin,
    players: &Players,
    form: &Form,
    crowd: u16,
    idle: u64,
) {
    let began = Instant::now();
    let mut sessions: Vec<Raw> = (0..crowd).map(|_| open(gateway, players)).collect();
    let opened = began.elapsed();
    let dropped_before = udp_drops(gateway);
    players.forget();
    let cpu = cpu_time(gateway);
    let all = u32::from(crowd) * RATE;
    let sent = generator::send(origin, all, Duration::from_secs(form.seconds.into()));
    let cpu = cpu_time(gateway) - cpu;
    let (received, gaps) = players.settle(&sent);
    let each = gateway.rss_kib().saturating_sub(idle) / u64::from(crowd);
    let at_gateway = udp_drops(gateway) - dropped_before;
    println!(
        "{crowd} sessions: opened in {opened:?}; {each} KiB resident each; {} packets in {:?} \
         ({} a second), {received} received, {at_gateway} dropped before the gateway read them, \
         {} before the players did; the gateway used {cpu:?} of CPU, {:.2} us a packet",
        sent.packets,
        sent.took,
        sent.packets * 1000 / sent.took.as_millis().max(1) as u64,
        players.overflown(),
        cpu.as_secs_f64() * 1e6 / sent.packets as f64
    );
    assert!(each <= SESSION_KIB, "{each} KiB a session, allowed are {SESSION_KIB}");
    let missing = sent.packets.saturating_sub(received);
    assert!(
        missing <= players.overflown(),
        "{missing} of {} packets are missing ({gaps} sessions), {at_gateway} were dropped before \
         the gateway read them",
        sent.packets
    );
    for (at, session) in sessions.iter_mut().enumerate() {
        // Players say goodbye, and some do not.
        if at % 3 != 0 {
            assert_eq!(session.ask("TEARDOWN", &gateway.url("/cam"), &[]).status, 200);
        }
    }
}

/// Sessions come and go, a third of them without a word.
fn churn(gateway: &Gateway, players: &Players, count: u32) {
    let mut early = 0;
    let began = Instant::now();
    for at in 0..count {
        if at == count / 5 {
            early = gateway.rss_kib();
        }
        let mut session = open(gateway, players);
        if at % 3 != 0 {
            assert_eq!(session.ask("TEARDOWN", &gateway.url("/cam"), &[]).status, 200);
        }
    }
    let took = began.elapsed();
    gateway.wait_idle(Duration::from_secs(10));
    let late = gateway.rss_kib();
    println!("{count} sessions opened and closed in {took:?}: {early} KiB early, {late} KiB late");
    assert!(late <= early + GROWTH_KIB, "grew from {early} to {late} KiB");
}

/// Descriptors and port pairs are back where they began.
fn expect_nothing_left(gateway: &Gateway, descriptors: usize) {
    gateway.wait_idle(Duration::from_secs(10));
    harness::wait_for("closed descriptors", Duration::from_secs(5), || {
        (gateway.descriptors() <= descriptors).then_some(())
    });
}

/// One playing session of two tracks over UDP.
fn open(gateway: &Gateway, players: &Players) -> Raw {
    let url = gateway.url("/cam");
    let mut session = Raw::connect(gateway.at());
    let answer = session.ask("DESCRIBE", &url, &["Accept: application/sdp"]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    for track in 0..2 {
        let port = players.port(track);
        let transport = format!("Transport: RTP/AVP;unicast;client_port={port}-{}", port + 1);
        let answer = session.ask("SETUP", &format!("{url}/{track}"), &[&transport]);
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    let answer = session.ask("PLAY", &url, &[]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    session
}

/// Datagrams that the kernel dropped at the gateway's media sockets so far.
fn udp_drops(gateway: &Gateway) -> u64 {
    let table = fs::read_to_string("/proc/net/udp").expect("the kernel's table of sockets");
    let ports = gateway.media_ports();
    let drops = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let port = u16::from_str_radix(words.get(1)?.rsplit(':').next()?, 16).ok()?;
        ports.contains(&port).then(|| words.last()?.parse::<u64>().ok())?
    });
    drops.sum()
}

/// CPU time of the gateway so far.
fn cpu_time(gateway: &Gateway) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", gateway.peer.pid())).expect("its stat");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let words: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |at: usize| words[at].parse::<u64>().expect("ticks");
    // utime and stime, in hundredths of a second on every Linux that matters here.
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
