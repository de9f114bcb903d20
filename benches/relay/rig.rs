//! Who relays: each contender is started, told its streams, and asked for its processes.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    harness::{
        Bench, free_port,
        gateway::{Gateway, Setup},
        peer::Peer,
        raw::Raw,
        wait_for,
    },
    kernel,
    load::Ports,
    ng,
    origin::{Target, TinyOrigin},
};

/// A way to relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Our own loop: `mmsg`, `gso` or `tcp`, its pause in microseconds, and its threads.
    Bare(&'static str, u64, u8),
    /// The gateway: workers, and `coalesce_us`.
    Edgeweir(u8, Option<u16>),
    Nginx,
    Rtpengine,
    Socat,
    Go2rtc,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(kind, pause, threads) => {
                write!(f, "bare {kind}")?;
                if *threads != 1 {
                    write!(f, ", {threads} threads")?;
                }
                if *pause != 0 { write!(f, ", {pause} us") } else { Ok(()) }
            }
            Self::Edgeweir(workers, pause) => {
                f.write_str("edgeweir")?;
                if *workers != 1 {
                    write!(f, ", {workers} workers")?;
                }
                pause.map_or(Ok(()), |us| write!(f, ", {us} us"))
            }
            Self::Nginx => f.write_str("nginx stream"),
            Self::Rtpengine => f.write_str("rtpengine"),
            Self::Socat => f.write_str("socat"),
            Self::Go2rtc => f.write_str("go2rtc"),
        }
    }
}

/// How the media go: toward the origin, toward the players.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    UdpToUdp,
    TcpToTcp,
    UdpToTcp,
    TcpToUdp,
}

impl Way {
    const fn players_on_udp(self) -> bool {
        matches!(self, Self::UdpToUdp | Self::TcpToUdp)
    }
}

/// A contender that runs, with its streams set up.
pub(crate) struct Running {
    /// Where the origin sends each stream.
    pub(crate) targets: Vec<Target>,
    /// The players' ends, when they are on TCP.
    pub(crate) streams: Vec<TcpStream>,
    /// Where it takes RTSP connections, for those that do.
    pub(crate) rtsp: Option<SocketAddr>,
    pids: Vec<u32>,
    _held: Held,
}

enum Held {
    Child(#[allow(dead_code, reason = "kept alive")] Killed),
    Peers(#[allow(dead_code, reason = "kept alive")] Vec<Peer>),
    Gateway(
        #[allow(dead_code, reason = "kept alive")] Box<Gateway>,
        #[allow(dead_code, reason = "kept alive")] Vec<Raw>,
    ),
    Go2rtc(#[allow(dead_code, reason = "kept alive")] Peer),
}

pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    /// CPU time used so far, nanoseconds.
    pub(crate) fn cpu_ns(&self) -> u64 {
        self.pids.iter().map(|pid| kernel::cpu_ns(*pid)).sum()
    }

    pub(crate) fn rss_kib(&self) -> u64 {
        self.pids.iter().map(|pid| kernel::rss_kib(*pid)).sum()
    }
}

/// Starts a contender and sets up so many streams.
pub(crate) fn start(
    contender: &Contender,
    way: Way,
    count: usize,
    origin: &TinyOrigin,
    ports: &Ports,
    bench: &Bench,
) -> Running {
    match contender {
        Contender::Bare("tcp", ..) => bare_tcp(count, origin),
        Contender::Bare(kind, pause, threads) => bare(kind, *pause, *threads, count, ports),
        Contender::Edgeweir(workers, coalesce) => {
            edgeweir(*workers, *coalesce, way, count, origin, ports, bench)
        }
        Contender::Nginx => nginx(count, ports, bench),
        Contender::Rtpengine => rtpengine(count, ports, bench),
        Contender::Socat => socat(count, ports, bench),
        Contender::Go2rtc => go2rtc(count, origin, bench),
    }
}

pub(crate) fn spawn_bare(
    kind: &str,
    pause: u64,
    threads: u8,
    targets: &[SocketAddr],
    answers: usize,
) -> (Killed, Vec<SocketAddr>) {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["bare", kind, &pause.to_string(), &threads.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a relay loop");
    let mut input = child.stdin.take().expect("its input");
    for target in targets {
        writeln!(input, "{target}").expect("it reads");
    }
    drop(input);
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let found = lines.take(answers).map(|line| line.expect("a line").parse().expect("an address"));
    let found = found.collect();
    (Killed(child), found)
}

fn bare(kind: &str, pause: u64, threads: u8, count: usize, ports: &Ports) -> Running {
    let targets: Vec<SocketAddr> = (0..count).map(|at| ports.of(at)).collect();
    let (child, listens) = spawn_bare(kind, pause, threads, &targets, count);
    Running {
        targets: listens.into_iter().map(Target::Udp).collect(),
        streams: vec![],
        rtsp: None,
        pids: vec![child.0.id()],
        _held: Held::Child(child),
    }
}

fn bare_tcp(count: usize, origin: &TinyOrigin) -> Running {
    let at: SocketAddr = origin.url()["rtsp://".len()..].parse().expect("an address");
    let (child, listens) = spawn_bare("tcp", 0, 1, &[at], 1);
    let url = format!("rtsp://{}/cam", listens[0]);
    let mut streams = Vec::new();
    for _ in 0..count {
        let mut player = Raw::connect(listens[0]);
        play(&mut player, &url, "RTP/AVP/TCP;unicast;interleaved=0-1");
        streams.push(player.into_stream());
    }
    Running {
        targets: newest(origin, count),
        streams,
        rtsp: None,
        pids: vec![child.0.id()],
        _held: Held::Child(child),
    }
}

/// One track, as a player does it.
pub(crate) fn play(player: &mut Raw, url: &str, transport: &str) {
    for (method, at, header) in [
        ("DESCRIBE", url.to_owned(), "Accept: application/sdp".to_owned()),
        ("SETUP", format!("{url}/0"), format!("Transport: {transport}")),
        ("PLAY", url.to_owned(), "Range: npt=0-".to_owned()),
    ] {
        let answer = player.ask(method, &at, &[&header]);
        assert_eq!(answer.status, 200, "{method}: {}", answer.head);
    }
}

/// The first tracks of the newest sessions of the origin.
fn newest(origin: &TinyOrigin, count: usize) -> Vec<Target> {
    let mut playing = wait_for("session of each player", Duration::from_secs(10), || {
        Some(origin.targets()).filter(|playing| playing.len() >= count)
    });
    playing.drain(..playing.len() - count);
    playing.into_iter().map(|(_, [first, _])| first.expect("a track")).collect()
}

fn edgeweir(
    workers: u8,
    coalesce: Option<u16>,
    way: Way,
    count: usize,
    origin: &TinyOrigin,
    ports: &Ports,
    bench: &Bench,
) -> Running {
    let transport = if matches!(way, Way::UdpToUdp | Way::UdpToTcp) { "udp" } else { "tcp" };
    let mut setup = Setup::default().origin("tiny", &origin.url(), "check = \"off\"").route(
        "/**",
        &["tiny"],
        &format!("policy = \"first\"\norigin_transport = \"{transport}\""),
    );
    setup.gateway = format!("workers = {workers}");
    if let Some(us) = coalesce {
        setup.gateway += &format!("\ncoalesce_us = {us}");
    }
    setup.limits = "sessions = 4096\nsessions_per_client = 4096\nidle_timeout_s = 600".to_owned();
    setup.pairs = 2 * count as u16 + 64;
    setup.first_port = Some(10_000);
    let gateway = Gateway::start(bench, &setup);
    let url = gateway.url("/cam");
    let (mut streams, mut players) = (Vec::new(), Vec::new());
    for at in 0..count {
        let mut player = Raw::connect(gateway.at());
        if way.players_on_udp() {
            let port = ports.of(at).port();
            let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
            play(&mut player, &url, &transport);
            players.push(player);
        } else {
            play(&mut player, &url, "RTP/AVP/TCP;unicast;interleaved=0-1");
            streams.push(player.into_stream());
        }
    }
    Running {
        targets: newest(origin, count),
        streams,
        rtsp: Some(gateway.at()),
        pids: vec![gateway.peer.pid()],
        _held: Held::Gateway(Box::new(gateway), players),
    }
}

/// First of the ports that peers listen on.
const PEER_PORTS: u16 = 15_000;

fn on_ports(count: usize) -> Vec<Target> {
    let first = PEER_PORTS;
    (0..count).map(|at| Target::Udp(([127, 0, 0, 1], first + at as u16).into())).collect()
}

fn nginx(count: usize, ports: &Ports, bench: &Bench) -> Running {
    let mut text = format!(
        "daemon off;\nuser root;\npid {0}/pid;\nerror_log {0}/error.log;\nworker_processes 1;\n\
         worker_rlimit_nofile 65536;\nload_module modules/ngx_stream_module.so;\n\
         events {{ worker_connections 8192; }}\nstream {{\n",
        bench.file("").display()
    );
    for at in 0..count {
        text += &format!(
            "server {{ listen 127.0.0.1:{} udp; proxy_pass {}; }}\n",
            PEER_PORTS + at as u16,
            ports.of(at)
        );
    }
    text += "}\n";
    let config = bench.write("nginx.conf", &text);
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(config).arg("-p").arg("/usr/share/nginx");
    let peer = Peer::start(bench, "nginx", command);
    std::thread::sleep(Duration::from_millis(500));
    let pids = kernel::family(peer.pid());
    assert!(pids.len() > 1, "nginx did not start: {}", peer.stderr());
    Running {
        targets: on_ports(count),
        streams: vec![],
        rtsp: None,
        pids,
        _held: Held::Peers(vec![peer]),
    }
}

fn socat(count: usize, ports: &Ports, bench: &Bench) -> Running {
    let mut peers = Vec::new();
    for at in 0..count {
        let mut command = Command::new("socat");
        command.arg("-u");
        command.arg(format!("UDP4-RECV:{},bind=127.0.0.1,rcvbuf=1048576", PEER_PORTS + at as u16));
        command.arg(format!("UDP4-SENDTO:{}", ports.of(at)));
        peers.push(Peer::start(bench, &format!("socat{at}"), command));
    }
    std::thread::sleep(Duration::from_millis(500));
    let pids = peers.iter().map(Peer::pid).collect();
    Running {
        targets: on_ports(count),
        streams: vec![],
        rtsp: None,
        pids,
        _held: Held::Peers(peers),
    }
}

fn rtpengine(count: usize, ports: &Ports, bench: &Bench) -> Running {
    let control = free_port();
    let mut command = Command::new("rtpengine");
    command.args(["--config-file=none", "--table=-1", "--foreground", "--log-stderr"]);
    command.args(["--interface=127.0.0.1", "--log-level=3", "--num-threads=1"]);
    command.arg(format!("--listen-ng=127.0.0.1:{control}"));
    command.args(["--port-min=30000", "--port-max=38000"]);
    let mut peer = Peer::start(bench, "rtpengine", command);
    let mut control = ng::Control::new(([127, 0, 0, 1], control).into());
    wait_for("rtpengine", Duration::from_secs(10), || {
        assert!(!peer.ended(), "rtpengine ended: {}", peer.stderr());
        control.ping().then_some(())
    });
    let targets = (0..count).map(|at| Target::Udp(control.call(at, ports.of(at)))).collect();
    let pids = vec![peer.pid()];
    Running { targets, streams: vec![], rtsp: None, pids, _held: Held::Peers(vec![peer]) }
}

fn go2rtc(count: usize, origin: &TinyOrigin, bench: &Bench) -> Running {
    let (api, rtsp) = (free_port(), free_port());
    let mut text = format!(
        "api:\n  listen: \"127.0.0.1:{api}\"\nrtsp:\n  listen: \"127.0.0.1:{rtsp}\"\nwebrtc:\n  \
         listen: \"\"\nlog:\n  level: error\nstreams:\n"
    );
    for at in 0..count {
        text += &format!("  cam{at}: \"{}/cam{at}#media=video\"\n", origin.url());
    }
    let config = bench.write("go2rtc.yaml", &text);
    let mut command = Command::new(crate::harness::peers_dir().join("go2rtc"));
    command.arg("-config").arg(config);
    let peer = Peer::start(bench, "go2rtc", command);
    let at: SocketAddr = ([127, 0, 0, 1], rtsp).into();
    wait_for("go2rtc", Duration::from_secs(10), || TcpStream::connect(at).ok());
    let mut streams = Vec::new();
    for number in 0..count {
        let url = format!("rtsp://{at}/cam{number}");
        let mut player = Raw::connect(at);
        player.play(&format!("{url}?video"), "RTP/AVP/TCP;unicast;interleaved=0-1");
        streams.push(player.into_stream());
    }
    let pids = vec![peer.pid()];
    Running { targets: newest(origin, count), streams, rtsp: None, pids, _held: Held::Go2rtc(peer) }
}
