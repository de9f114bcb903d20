//! Sessions from OPTIONS to TEARDOWN, as many as can be: how many a second, and the gateway's CPU
//! time for each, beside that of the player and the origin together. Those make the same calls of
//! the kernel as a gateway between them, but for the four UDP sockets: what is above their figure is
//! the gateway's own.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::{
    Length,
    harness::{
        Bench,
        gateway::{Gateway, Setup},
        raw::Raw,
    },
    kernel,
    load::Ports,
    origin::TinyOrigin,
    report::spread,
    rig,
};

/// Players that come and go at the same time.
const PLAYERS: usize = 4;

/// Measures and prints; the text for the table.
pub(crate) fn run(length: Length) -> String {
    let (mut rates, mut direct, mut costs, mut ends) = (vec![], vec![], vec![], vec![]);
    for _ in 0..length.runs {
        let origin = TinyOrigin::start();
        let at: SocketAddr = origin.url()["rtsp://".len()..].parse().expect("an address");
        let cpu = kernel::cpu_ns(std::process::id());
        let rate = churn(at, length.seconds);
        let cpu = kernel::cpu_ns(std::process::id()) - cpu;
        ends.push(cpu as f64 / 1000.0 / (rate * length.seconds));
        direct.push(rate);
        let bench = Bench::new("setups");
        let mut setup = Setup::default().origin("tiny", &origin.url(), "check = \"off\"").route(
            "/**",
            &["tiny"],
            "policy = \"first\"",
        );
        setup.gateway = "workers = 2".to_owned();
        setup.limits = "sessions = 4096\nsessions_per_client = 4096".to_owned();
        setup.pairs = 2000;
        setup.first_port = Some(10_000);
        let gateway = Gateway::start(&bench, &setup);
        churn(gateway.at(), 0.3);
        let cpu = kernel::cpu_ns(gateway.peer.pid());
        let rate = churn(gateway.at(), length.seconds);
        let cpu = kernel::cpu_ns(gateway.peer.pid()) - cpu;
        costs.push(cpu as f64 / 1000.0 / (rate * length.seconds));
        rates.push(rate);
    }
    let row = |name: &str, (middle, low, high): (f64, f64, f64)| {
        format!("| {name} | {middle:.0} | {low:.0} to {high:.0} |\n")
    };
    let mut text = format!(
        "## Sessions from OPTIONS to TEARDOWN ({} runs)\n\n{PLAYERS} players, one track over UDP: two \
         TCP connections and four UDP sockets are opened and closed for each session; players and \
         origin run on the same cores.\n\n| | median | spread |\n|---|---|---|\n",
        length.runs
    );
    text += &row("sessions a second, through the gateway on 2 workers", spread(rates));
    text += &row("sessions a second, player and origin alone", spread(direct));
    text += &row("the gateway's CPU time for each, us", spread(costs));
    text += &row("player's and origin's CPU time for each, alone, us", spread(ends));
    println!("\n{text}");
    text
}

/// Puts it where the table is made.
pub(crate) fn write(text: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&folder).expect("a folder for the results");
    fs::write(folder.join("setups.md"), text).expect("the figures of the set-ups");
}

/// Whole sessions a second.
fn churn(at: SocketAddr, seconds: f64) -> f64 {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let ports = Arc::new(Ports::new());
    let threads: Vec<_> = (0..PLAYERS)
        .map(|player| {
            let (stop, done, ports) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&ports));
            thread::spawn(move || {
                let port = ports.of(player).port();
                let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
                let url = format!("rtsp://{at}/cam");
                while !stop.load(Relaxed) {
                    let mut session = Raw::connect(at);
                    session.ask("OPTIONS", &url, &[]);
                    rig::play(&mut session, &url, &transport);
                    assert_eq!(session.ask("TEARDOWN", &url, &[]).status, 200);
                    done.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    thread::sleep(Duration::from_secs_f64(seconds));
    let count = done.load(Relaxed);
    stop.store(true, Relaxed);
    for thread in threads {
        thread.join().expect("a player");
    }
    count as f64 / seconds
}
