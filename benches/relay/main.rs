//! What a relayed packet costs: the gateway beside bare relay loops and its peers.
//!
//! `make bench` runs every scene and writes table and plot into `benches/results`;
//! `cargo bench --bench relay -- SCENE… [--runs N] [--seconds N]` runs some of them and prints. A
//! load of one's own: `… -- custom --way udp|tcp|udp-tcp|tcp-udp --streams N --burst N --rate N`.
//!
//! Contenders take turns within a run, so that what else the machine does hits all alike; figures
//! are medians over the runs with their spread. CPU time is the kernel's accounting of all threads
//! of the relay. Never part of a test: the machine's mood decides.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]
#![allow(unsafe_code, reason = "batched system calls and the kernel's accounting")]
#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "benchmarks measure wall time")]

mod bare;
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod kernel;
mod load;
mod ng;
#[path = "../../tests/capacity/origin.rs"]
mod origin;
mod plot;
mod report;
mod rig;
mod scenes;
mod served;
mod sessions;
mod setups;
mod slow_link;

use std::{env, net::SocketAddr, thread, time::Duration};

use harness::{Bench, raw::Raw};
use load::{Players, Ports, Sender};
use origin::{Target, TinyOrigin};
use report::{Figures, Window};
use rig::Contender;
use scenes::Scene;

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    pub(crate) runs: usize,
    pub(crate) seconds: f64,
}

/// Measures, and gives the text of its table.
type Part = fn(Length) -> String;

/// What has a table of its own, under its name.
const PARTS: [(&str, Part); 3] =
    [("setups", setups::run), ("served", served::run), ("slow-link", slow_link::run)];

fn main() {
    let words: Vec<String> = env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [bare, kind, pause, threads] = &words[..]
        && bare == "bare"
    {
        let pause_us = pause.parse().expect("microseconds");
        return bare::main(kind, pause_us, threads.parse().expect("a number of threads"));
    }
    kernel::raise_file_limit();
    let length = Length {
        runs: value(&words, "--runs").unwrap_or(5),
        seconds: value(&words, "--seconds").unwrap_or(2.0),
    };
    let writes = words.iter().any(|word| word == "--write");
    let named = words.iter().any(|word| !word.starts_with("--") && word.parse::<f64>().is_err());
    for (part, run) in PARTS {
        if !named || words.iter().any(|word| word == part) {
            let text = run(length);
            if writes {
                report::write_part(part, &text);
            }
        }
    }
    let mut results = Vec::new();
    for scene in scenes::chosen(&words, named) {
        let figures = run(&scene, length);
        report::print(&scene, &figures);
        results.push((scene, figures));
    }
    if writes {
        report::write(&results, "make bench");
    }
}

/// The value behind an option.
pub(crate) fn value<T: core::str::FromStr>(words: &[String], name: &str) -> Option<T> {
    let at = words.iter().position(|word| word == name)?;
    words.get(at + 1)?.parse().ok()
}

fn run(scene: &Scene, length: Length) -> Vec<(Contender, Vec<Figures>)> {
    let mut all: Vec<(Contender, Vec<Figures>)> =
        scene.contenders.iter().map(|contender| (contender.clone(), vec![])).collect();
    for round in 0..length.runs {
        for (contender, figures) in &mut all {
            let one = measure(scene, contender, scene.seconds(length.seconds));
            eprintln!("{} {}/{}: {contender}: {one}", scene.name, round + 1, length.runs);
            figures.push(one);
        }
    }
    all
}

/// One contender, once, under the load of a scene.
fn measure(scene: &Scene, contender: &Contender, seconds: f64) -> Figures {
    let bench = Bench::new("relay");
    let (origin, ports) = (TinyOrigin::start(), Ports::new());
    let shape = scene.shape;
    let mut running = rig::start(contender, scene.way, shape.streams, &origin, &ports, &bench);
    let players = if running.streams.is_empty() {
        Players::over_udp(&ports, shape.streams)
    } else {
        Players::over_tcp(core::mem::take(&mut running.streams))
    };
    let sender = Sender::start(&origin.media, running.targets.clone(), shape);
    thread::sleep(Duration::from_millis(500));
    let (cpu, received, sent) = (running.cpu_ns(), players.received(), sender.sent());
    let began = kernel::now_ns();
    thread::sleep(Duration::from_secs_f64(seconds));
    let window = Window {
        cpu_ns: running.cpu_ns() - cpu,
        received: players.received() - received,
        sent: sender.sent() - sent,
        took_ns: kernel::now_ns() - began,
        rss_kib: running.rss_kib(),
    };
    let answer_ms = running.rtsp.map_or(0.0, slowest_answer_ms);
    let report_ms = match running.targets.first() {
        Some(Target::Udp(rtp)) if running.rtsp.is_some() && scene.way == rig::Way::UdpToUdp => {
            slowest_report_ms(&origin, *rtp, &ports)
        }
        _ => 0.0,
    };
    let sent = sender.finish();
    let seen = players.settle(sent);
    Figures::new(&window, sent, &seen, [answer_ms, report_ms])
}

/// The slowest of five OPTIONS, each on a connection of its own.
fn slowest_answer_ms(at: SocketAddr) -> f64 {
    let ask = |_| {
        let began = kernel::now_ns();
        let answer = Raw::connect(at).ask("OPTIONS", "*", &[]);
        assert_eq!(answer.status, 200, "{}", answer.head);
        (kernel::now_ns() - began) as f64 / 1e6
    };
    (0..5).map(ask).fold(0.0, f64::max)
}

/// The slowest of five sender reports, from the origin to the player of the first stream.
fn slowest_report_ms(origin: &TinyOrigin, rtp: SocketAddr, ports: &Ports) -> f64 {
    let to = SocketAddr::new(rtp.ip(), rtp.port() + 1);
    let player = ports.reports();
    let report = |number: u8| {
        let mut sender_report = [0; 28];
        sender_report[..8].copy_from_slice(&[0x80, 200, 0, 6, b'R', b'T', b'C', number]);
        let began = kernel::now_ns();
        origin.reports.send_to(&sender_report, to).expect("a report is sent");
        let mut bytes = [0; 64];
        while player.recv(&mut bytes).expect("a report arrives within five seconds") != 28
            || bytes[..28] != sender_report
        {}
        (kernel::now_ns() - began) as f64 / 1e6
    };
    (0..5).map(report).fold(0.0, f64::max)
}
