//! What a relayed packet costs, in figures that a busy machine does not change: instructions under
//! callgrind and system calls under strace, each with a bound.
//!
//! The worker is held while a burst of 16 packets is sent to it, so that it always finds the whole
//! burst; then one read and one send must do. Instructions are those of the test build, without
//! optimisation: many times the release build's. They are compared between two runs of
//! different length, so that what is done once does not count. Not in here: time (benches).

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test's helpers

use std::{
    env,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    process::Command,
    sync::mpsc::channel,
    time::Duration,
};

use edgeweir::pipe::{Leg, Mode, PipeSockets, Pool, PortPool, Relay, UdpPipe, Worker};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BURST: u16 = 16;
/// Bursts of the shorter run; the longer one has twice as many.
const ROUNDS: u32 = 100;
/// Set for the measured runs of this program: how many bursts.
const ROUNDS_WANTED: &str = "EDGEWEIR_COST_ROUNDS";

/// Instructions of the worker for each packet of a burst, user space only. 4300 when written.
const INSTRUCTIONS_MAX: u64 = 4900;
/// Calls to receive, and to send, for each 1000 packets of bursts of 16: 62.5 each, and now and
/// then one more when the worker was let go too soon.
const CALLS_MAX: u64 = 66;

fn packet(sequence: u16, last: bool) -> [u8; 1200] {
    let mut packet = [7; 1200];
    packet[..2].copy_from_slice(&[0x80, if last { 0xe0 } else { 0x60 }]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// Relays bursts through a pipe; the worker finds each one whole.
#[test]
fn every_packet_of_a_burst_that_waits_is_relayed() {
    let rounds = env::var(ROUNDS_WANTED).map_or(10, |rounds| rounds.parse().unwrap());
    let pool = Pool::start(1).unwrap();
    let worker = &pool.handles()[0];
    let socket = || {
        let socket = UdpSocket::bind((HERE, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket
    };
    let leg = |rtp: &UdpSocket, rtcp: &UdpSocket| {
        Leg::new(Mode::Learn, HERE, rtp.local_addr().ok(), rtcp.local_addr().ok())
    };
    let first = 28_000 + u16::try_from(std::process::id() % 200).unwrap() * 4;
    let sockets = PipeSockets::bind(&PortPool::new(first, first + 3), HERE, HERE).unwrap();
    let entry = sockets.origin.rtp.local_addr().unwrap();
    let (client, client_rtcp, origin, origin_rtcp) = (socket(), socket(), socket(), socket());
    let relay = Relay::new(leg(&origin, &origin_rtcp), leg(&client, &client_rtcp));
    let pipe = UdpPipe::start(sockets, relay, &pool, 0).unwrap();
    let mut buffer = [0; 2048];
    for round in 0..rounds {
        let ((held, holds), (go, gone)) = (channel(), channel());
        let hold = move |_: &Worker| {
            held.send(()).unwrap();
            let _: Result<(), _> = gone.recv();
        };
        worker.run(Box::new(hold)).unwrap();
        holds.recv_timeout(Duration::from_secs(60)).unwrap();
        for n in 0..BURST {
            let sequence = (round as u16).wrapping_mul(BURST).wrapping_add(n);
            origin.send_to(&packet(sequence, n == BURST - 1), entry).unwrap();
        }
        go.send(()).unwrap();
        for _ in 0..BURST {
            assert_eq!(client.recv(&mut buffer).unwrap(), 1200);
        }
    }
    let figures = pipe.counters().figures();
    assert_eq!(figures.dropped() + figures.lost, 0);
}

/// This program's relay under a tool; what the tool says.
fn measured(tool: &[&str], rounds: u32) -> String {
    let output = Command::new(tool[0])
        .args(&tool[1..])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "every_packet_of_a_burst_that_waits_is_relayed", "--nocapture"])
        .env(ROUNDS_WANTED, rounds.to_string())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}: run tests/setup.sh", tool[0]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && out.contains("1 passed"), "{tool:?}: {out}{said}");
    said
}

#[test]
fn a_packet_takes_no_more_instructions_than_it_should() {
    let tool = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=*edgeweir::pipe::udp::Pipe as *Driven>::ready",
    ];
    let collected = |rounds| {
        let said = measured(&tool, rounds);
        let line = said.lines().find_map(|line| line.split("Collected : ").nth(1));
        line.and_then(|count| count.trim().parse::<u64>().ok()).unwrap()
    };
    let more = collected(2 * ROUNDS) - collected(ROUNDS);
    let each = more / (u64::from(ROUNDS) * u64::from(BURST));
    println!("{each} instructions a packet");
    assert!(each > 50, "{each} instructions a packet: the relay was not seen");
    assert!(each <= INSTRUCTIONS_MAX, "{each} instructions a packet, {INSTRUCTIONS_MAX} allowed");
}

#[test]
fn a_burst_takes_one_call_to_read_and_one_to_send() {
    let said = measured(&["strace", "-f", "-c", "-U", "calls,name"], 2 * ROUNDS);
    let packets = u64::from(2 * ROUNDS) * u64::from(BURST);
    for name in ["recvmmsg", "sendmmsg"] {
        let line = said.lines().find(|line| line.trim().ends_with(name)).unwrap_or_default();
        let calls = line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        let calls = calls.unwrap_or_else(|| panic!("strace counted no {name}: {said}"));
        let each = calls * 1000 / packets;
        println!("{each} {name} for 1000 packets");
        assert!(each <= CALLS_MAX, "{each} {name} for 1000 packets, {CALLS_MAX} allowed");
    }
}
