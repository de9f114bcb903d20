//! Sessions from OPTIONS to TEARDOWN, as many as can be: how many a second, and the gateway's CPU
//! time for each, beside that of a bare loop ([`crate::sessions`]) which passes the same bytes and
//! opens the same sockets, and that of the player and the origin together.

use std::{
    net::SocketAddr,
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
    report::row,
    rig,
};

/// Players that come and go at the same time.
const PLAYERS: usize = 4;

/// Measures and prints; the text for the table.
pub(crate) fn run(length: Length) -> String {
    let (mut direct, mut ends, mut bounds) = (vec![], vec![], vec![]);
    // On one worker, as the bare loop, and on two.
    let mut through = [Through::default(), Through::default()];
    for _ in 0..length.runs {
        let origin = TinyOrigin::start();
        let at: SocketAddr = origin.url()["rtsp://".len()..].parse().expect("an address");
        let (rate, cost) = measure(at, std::process::id(), length.seconds);
        ends.push(cost);
        direct.push(rate);
        let (bare, listens) = rig::spawn_bare("sessions", 0, 1, &[at], 1);
        churn(listens[0], 0.3);
        let (_, bound) = measure(listens[0], bare.0.id(), length.seconds);
        bounds.push(bound);
        drop(bare);
        for (workers, through) in (1..).zip(&mut through) {
            let bench = Bench::new("setups");
            let gateway = gateway(&bench, &origin, workers);
            churn(gateway.at(), 0.3);
            let (rate, cost) = measure(gateway.at(), gateway.peer.pid(), length.seconds);
            through.costs.push(cost);
            through.ratios.push(cost / bound);
            through.rates.push(rate);
        }
    }
    let mut text = format!(
        "## Sessions from OPTIONS to TEARDOWN ({} runs)\n\n{PLAYERS} players, one track over UDP: two \
         TCP connections and four UDP sockets are opened and closed for each session; players and \
         origin run on the same cores.\n\n| | median | spread |\n|---|---|---|\n",
        length.runs
    );
    for (workers, through) in ["1 worker", "2 workers"].into_iter().zip(through) {
        text +=
            &row(&format!("sessions a second, through the gateway on {workers}"), through.rates);
        text += &row(&format!("its CPU time for each on {workers}, us"), through.costs);
        text +=
            &row(&format!("the same as a multiple of the bare loop's, {workers}"), through.ratios);
    }
    text += &row("a bare loop's with the same bytes and sockets, one thread, us", bounds);
    text += &row("sessions a second, player and origin alone", direct);
    text += &row("player's and origin's CPU time for each, alone, us", ends);
    println!("\n{text}");
    text
}

/// What was measured with one number of workers.
#[derive(Default)]
struct Through {
    rates: Vec<f64>,
    costs: Vec<f64>,
    ratios: Vec<f64>,
}

fn gateway(bench: &Bench, origin: &TinyOrigin, workers: usize) -> Gateway {
    let mut setup = Setup::default().origin("tiny", &origin.url(), "check = \"off\"").route(
        "/**",
        &["tiny"],
        "policy = \"first\"",
    );
    setup.gateway = format!("workers = {workers}");
    setup.limits = "sessions = 4096\nsessions_per_client = 4096".to_owned();
    setup.pairs = 2000;
    setup.first_port = Some(10_000);
    Gateway::start(bench, &setup)
}

/// Whole sessions a second, and CPU time that a process spent for each, in microseconds.
fn measure(at: SocketAddr, pid: u32, seconds: f64) -> (f64, f64) {
    let before = kernel::cpu_ns(pid);
    let rate = churn(at, seconds);
    (rate, (kernel::cpu_ns(pid) - before) as f64 / 1000.0 / (rate * seconds))
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
