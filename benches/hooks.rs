//! What a hook costs: CPU time of a call, as machine code and interpreted, beside the native policy.
//!
//! `make plugins && cargo bench --bench hooks`. Prints a table; fails when machine code takes longer
//! than the bar, unless `EDGEWEIR_BENCH=report`. `-- TEXT` takes only the rows whose line has that
//! text, for a profiler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use edgeweir::{
    plugin::{
        Code, Forget, Guests, Host, Places, Upload,
        hooks::{Client, Direction, Hooks as _, Message, SessionKey, Upstream, Verdict},
    },
    rtsp::{Head, head::Outline},
};

/// CPU time that a hook may add, nanoseconds.
const BAR_NS: u64 = 1_000;
const CALLS: u32 = 10_000;
const ROUNDS: u32 = 9;

fn main() -> ExitCode {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/plugins");
    let read =
        |name: &str| std::fs::read(root.join(format!("{name}.wasm"))).expect("run `make plugins`");
    let redact = r#"{"headers":["X-Private","Server"],"sdp":[]}"#;
    // Cargo adds `--bench`.
    let only = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let mut worst = 0;
    println!("CPU nanoseconds of a call, the best of {ROUNDS} rounds of {CALLS}");
    let native = best(&mut || {
        black_box(least_loaded(black_box(&upstreams())));
    });
    println!("  {:<44} {:<8} {native:>7}", "pick-upstream of 8", "built in");
    for code in [Code::Native, Code::PULLEY] {
        let dir = std::env::temp_dir().join(format!("ew-bench-{}", std::process::id()));
        let program = PathBuf::from(env!("CARGO_BIN_EXE_edgeweir"));
        let places = Places { program, code, ..Places::new(dir.clone()) };
        let host: Arc<Host> = Host::new(places, Box::new(Forget));
        let install = |slot: &str, wasm: &[u8], config: &str| {
            let upload = Upload { wasm, signature: None, serial: None, force: true, config };
            if let Err(refusal) = host.install(slot, upload) {
                println!("{slot}: {refusal}");
            }
        };
        install("b", &read("least-loaded"), "{}");
        install("m", &read("hostile/minimal"), "{}");
        install("c", &read("c-smooth"), "{}");
        install("s", &read("sticky-hash"), "{}");
        install("f", &read("redact"), redact);
        install("e", &read("hostile/misbehaves"), r#"{"do":"nothing"}"#);
        let mut guests = host.guests();
        let _ = std::fs::remove_dir_all(dir);
        let mut row = |what: &str, bar: bool, call: &mut dyn FnMut()| {
            let line = format!("  {what:<44} {:<8}", code.name());
            if !line.contains(&only) {
                return;
            }
            let ns = best(call);
            println!("{line} {ns:>7}");
            if bar && code == Code::Native {
                worst = worst.max(ns);
            }
        };
        let list = upstreams();
        let key = SessionKey::default();
        row("pick-upstream of 8", true, &mut || {
            let picked = guests.pick_upstream("b", &key, "/live/cam1", &list);
            assert!(picked.is_some(), "{:?}", host.list());
        });
        for (slot, what) in
            [("m", "a guest that does nothing"), ("c", "c-smooth"), ("s", "sticky-hash")]
        {
            row(&format!("pick-upstream of 8, {what}"), false, &mut || {
                black_box(guests.pick_upstream(slot, &key, "/live/cam1", &list));
            });
        }
        for (what, slot, bytes, bar) in [
            ("pass, 12 headers (no calls)", "e", PLAIN, false),
            ("redact, 12 headers, none goes", "f", PLAIN, true),
            ("redact, 12 headers, two go", "f", PRIVATE, true),
        ] {
            // As in the gateway, whose session has parsed the head.
            let outline = Head::parse(bytes).expect("a head").outline();
            row(what, bar, &mut || filter(&mut guests, slot, bytes, &outline));
        }
    }
    if worst > BAR_NS && std::env::var("EDGEWEIR_BENCH").as_deref() != Ok("report") {
        println!("over the bar of {BAR_NS} ns: {worst} ns");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

const PLAIN: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
    Cache-Control: no-cache\r\nExpires: Sat, 21 Nov 2026 10:00:00 GMT\r\nSession: 12345678;timeout=60\r\n\
    Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001;ssrc=1234ABCD\r\n\
    RTP-Info: url=rtsp://192.0.2.20/cam1/track1;seq=1;rtptime=2\r\nRange: npt=0.000-\r\n\
    Supported: play.basic\r\nX-A: one\r\nX-B: two\r\nConnection: Keep-Alive\r\n\r\n";
const PRIVATE: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nDate: Sat, 21 Nov 2026 10:00:00 GMT\r\n\
    Cache-Control: no-cache\r\nExpires: Sat, 21 Nov 2026 10:00:00 GMT\r\nSession: 12345678;timeout=60\r\n\
    Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001;ssrc=1234ABCD\r\n\
    RTP-Info: url=rtsp://192.0.2.20/cam1/track1;seq=1;rtptime=2\r\nRange: npt=0.000-\r\n\
    Supported: play.basic\r\nX-Private: one\r\nServer: camera 1.2\r\nConnection: Keep-Alive\r\n\r\n";

const CLIENT: Client<'static> = Client {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    port: 40_000,
    session_hash: Some(5),
    listener: "0.0.0.0:8554",
    mount: "/live/*",
};

fn filter(guests: &mut Guests, slot: &str, bytes: &[u8], outline: &Outline) {
    let message = Message { bytes, outline, method: "SETUP" };
    let said = guests.on_message(slot, &CLIENT, Direction::UpstreamToClient, message);
    assert!(!matches!(said, Verdict::Fault));
    black_box(said);
}

fn upstreams() -> [Upstream; 8] {
    core::array::from_fn(|at| Upstream {
        id: at as u32,
        weight: 1,
        healthy: at != 2,
        sessions: (at as u32 * 5) % 8 + 1,
        ..Upstream::default()
    })
}

/// What the built-in policy does with the same list.
fn least_loaded(list: &[Upstream]) -> Option<u32> {
    let free = list.iter().filter(|upstream| upstream.healthy && !upstream.draining);
    let load = |upstream: &&Upstream| upstream.sessions * 1000 / u32::from(upstream.weight.max(1));
    free.min_by_key(load).map(|upstream| upstream.id)
}

/// CPU nanoseconds of one call.
fn best(call: &mut dyn FnMut()) -> u64 {
    let round = |call: &mut dyn FnMut()| {
        let since = edgeweir::plugin::thread_cpu_ns();
        for _ in 0..CALLS {
            call();
        }
        (edgeweir::plugin::thread_cpu_ns() - since) / u64::from(CALLS)
    };
    (0..ROUNDS).map(|_| round(call)).min().unwrap_or(0)
}
