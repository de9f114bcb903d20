//! A slow port toward the players: packets lost of large frames toward 100 Mbit/s, and the age of
//! interleaved media when a link falls from 20 to 1 Mbit/s. The gateway beside bare loops that send
//! the same with the kernel's own buffers, and with those that the gateway asks for. Needs root: the
//! port is a token bucket on a veth pair between hosts of the benchmark's own.

use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use edgeweir::{
    clock,
    limits::{MEDIA_SEND_BUFFER_BYTES, SEGMENTS_MAX, TCP_UNSENT_MAX_BYTES},
    pipe::mmsg::{Segments, send_all},
    session::{Bounds, Outbox},
};
use socket2::SockRef;

use crate::{
    Length,
    harness::{
        Bench,
        bursts::{BurstOrigin, Clock, Shape, count, roomy_pair},
        gateway::{Gateway, Setup},
        net::TwoNetworks,
        raw::{Item, Raw},
    },
};

/// What the port toward 100 Mbit/s holds: 1000 packets, as Linux gives to every device.
const PORT_QUEUE_KIB: u32 = 1500;
/// What a radio holds: half a second at 1 Mbit/s.
const RADIO_QUEUE_KIB: u32 = 64;
/// The gateway's defaults for media that waits.
const QUEUE: Bounds = Bounds { bytes: 512 * 1024, age: Duration::from_millis(2000) };

/// Who sends.
#[derive(Clone, Copy)]
enum Sender {
    /// A bare loop with the kernel's own buffers.
    Kernels,
    /// The same with the gateway's.
    Ours,
    /// The gateway.
    Edgeweir,
}

use Sender::{Edgeweir, Kernels, Ours};

const SENDERS: [(&str, Sender); 3] = [
    ("bare loop, the kernel's own buffers", Kernels),
    ("bare loop, the gateway's buffers", Ours),
    ("edgeweir", Edgeweir),
];

/// Measures and prints; the text for the table.
pub(crate) fn run(length: Length) -> String {
    let runs = length.runs.min(3);
    let mut text = format!(
        "## A slow port ({runs} runs, the worst of them)\n\nPackets lost of frames of 250 KB over UDP \
         toward a port of 100 Mbit/s that holds 1000 packets:\n\n\
         | share of the port | 10 % | 25 % | 50 % |\n|---|---|---|---|\n"
    );
    for (name, sender) in SENDERS {
        let worst = [10, 25, 50].map(|share| {
            let all = (0..runs).map(|_| loss(sender, share));
            all.fold(0.0, f64::max)
        });
        let [ten, quarter, half] = worst.map(|share| format!("{:.1} %", share * 100.0));
        text += &format!("| {name} | {ten} | {quarter} | {half} |\n");
    }
    text += "\nAge of the oldest packet of 8 Mbit/s over TCP when the link falls from 20 to 1 Mbit/s, \
             behind a queue of 2 s, in seconds:\n\n\
             | | at 20 Mbit/s | in the 4 s of the fall | in the 8 s after |\n|---|---|---|---|\n";
    for (name, sender) in SENDERS {
        let mut worst = [0.0; 3];
        for _ in 0..runs {
            for (worst, one) in worst.iter_mut().zip(ages(sender)) {
                *worst = f64::max(*worst, one.as_secs_f64());
            }
        }
        let [before, fall, after] = worst;
        text += &format!("| {name} | {before:.2} | {fall:.2} | {after:.2} |\n");
    }
    println!("\n{text}");
    text
}

fn gateway(bench: &Bench, networks: &TwoNetworks, origin: &BurstOrigin) -> Gateway {
    let mut setup = Setup::default().origin("nvr", &origin.base(), "").route("/**", &["nvr"], "");
    setup.host = Some(networks.gateway.clone());
    Gateway::start(bench, &setup)
}

/// The share of packets that is lost.
fn loss(sender: Sender, share: u32) -> f64 {
    let networks = TwoNetworks::new();
    networks.slow_port(100, PORT_QUEUE_KIB);
    let kbit = share * 1000;
    let shape = Shape { frame_bytes: 250_000, kbit, frames: kbit * 3 / 2000 };
    let (rtp, _rtcp) = roomy_pair(&networks.player, 6000);
    let (sent, got) = if matches!(sender, Edgeweir) {
        let bench = Bench::new("slow-port");
        let origin = BurstOrigin::start_on(Some(&networks.origin), shape);
        let gateway = gateway(&bench, &networks, &origin);
        let mut player = networks.player.within(|| Raw::connect(gateway.at()));
        player.play(&gateway.url("/cam"), "RTP/AVP;unicast;client_port=6000-6001");
        let (got, _) = count(&rtp, origin.clock());
        (origin.sent(), got)
    } else {
        let (from, clock) = (networks.gateway.address, Clock::start());
        let socket = networks.gateway.within(|| UdpSocket::bind((from, 0)).expect("a port"));
        if matches!(sender, Ours) {
            SockRef::from(&socket).set_send_buffer_size(MEDIA_SEND_BUFFER_BYTES).expect("room");
        }
        let to = rtp.local_addr().expect("its address");
        thread::scope(|scope| {
            let sends = scope.spawn(|| send_frames(&socket, to, shape, clock));
            let (got, _) = count(&rtp, clock);
            (sends.join().expect("a sender"), got)
        })
    };
    let lost = sent.saturating_sub(got) as f64 / sent as f64;
    eprintln!("slow-link: {share} %: {got} of {sent}");
    lost
}

fn send_frames(socket: &UdpSocket, to: SocketAddr, shape: Shape, clock: Clock) -> u64 {
    let (first, mut sequence, mut sent) = (Instant::now(), 0, 0);
    for frame in 0..shape.frames {
        shape.wait_for(frame, first);
        let packets: Vec<_> = clock.packets(shape, frame, &mut sequence).collect();
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        for batch in packets.chunks(SEGMENTS_MAX) {
            send_all(&socket.as_fd(), false, to, batch, &Segments::default());
        }
        sent += packets.len() as u64;
    }
    sent
}

/// Age of the oldest packet before the link falls, while it falls, and after.
fn ages(sender: Sender) -> [Duration; 3] {
    let networks = TwoNetworks::new();
    networks.slow_port(20, RADIO_QUEUE_KIB);
    let shape = Shape { frame_bytes: 40_000, kbit: 8000, frames: 25 * 18 };
    if matches!(sender, Edgeweir) {
        let bench = Bench::new("link-falls");
        let origin = BurstOrigin::start_on(Some(&networks.origin), shape);
        let gateway = gateway(&bench, &networks, &origin);
        let mut player = networks.player.within(|| Raw::connect(gateway.at()));
        player.play(&gateway.url("/cam"), "RTP/AVP/TCP;unicast;interleaved=0-1");
        return watch(&mut player, origin.clock(), &networks);
    }
    let (at, clock, stop) = (networks.gateway.address, Clock::start(), AtomicBool::new(false));
    let listener = networks.gateway.within(|| TcpListener::bind((at, 0)).expect("a port"));
    if matches!(sender, Ours) {
        SockRef::from(&listener).set_tcp_notsent_lowat(TCP_UNSENT_MAX_BYTES).expect("a bound");
    }
    thread::scope(|scope| {
        scope.spawn(|| write_frames(&listener, shape, clock, &stop));
        let at = listener.local_addr().expect("its address");
        let mut player = networks.player.within(|| Raw::connect(at));
        let ages = watch(&mut player, clock, &networks);
        stop.store(true, Relaxed);
        ages
    })
}

fn watch(player: &mut Raw, clock: Clock, networks: &TwoNetworks) -> [Duration; 3] {
    let ages = [(20, 3), (1, 4), (1, 8)].map(|(mbit, seconds)| {
        networks.slow_port(mbit, RADIO_QUEUE_KIB);
        let (began, mut oldest) = (Instant::now(), Duration::ZERO);
        while began.elapsed() < Duration::from_secs(seconds) {
            match player.next(Duration::from_secs(5)) {
                Item::Frame(frame) => oldest = oldest.max(clock.age(&frame.payload)),
                end => panic!("{end:?} in place of media"),
            }
        }
        oldest
    });
    eprintln!("slow-link: {ages:?}");
    ages
}

/// The gateway's queue in front of a socket, and nothing else.
fn write_frames(listener: &TcpListener, shape: Shape, clock: Clock, stop: &AtomicBool) {
    use std::io::Write;
    let (mut stream, _) = listener.accept().expect("a player");
    stream.set_nonblocking(true).expect("a mode");
    stream.set_nodelay(true).expect("an option");
    let (first, mut sequence) = (Instant::now(), 0);
    let mut outbox = Outbox::new(QUEUE);
    let mut frame = 0;
    while !stop.load(Relaxed) {
        let bits = u64::from(frame) * shape.frame_bytes as u64 * 8;
        if first.elapsed() >= Duration::from_micros(bits * 1000 / u64::from(shape.kbit)) {
            for packet in clock.packets(shape, frame, &mut sequence) {
                outbox.push_frame(0, &packet, clock::now());
            }
            frame += 1;
        }
        while let [waits, ..] = outbox.slices()
            && !waits.is_empty()
            && let Ok(wrote) = stream.write(waits)
        {
            outbox.wrote(wrote);
        }
        thread::sleep(Duration::from_millis(1));
    }
}
