//! The real origins.

use std::{net::Ipv4Addr, process::Command, time::Duration};

use super::{
    Bench, free_port,
    net::Host,
    peer::{Peer, Signal},
    peers_dir, script, wait_for,
};

/// User and password of the origin's `/digest`.
pub(crate) const VIEWER: &str = "viewer:letmein";

const START: Duration = Duration::from_secs(20);

/// gst-rtsp-server, with the mounts of `tests/peers/gst_origin.py`.
#[derive(Debug)]
pub(crate) struct GstOrigin {
    pub(crate) peer: Peer,
    address: Ipv4Addr,
    pub(crate) port: u16,
}

impl GstOrigin {
    /// Starts one on this machine.
    pub(crate) fn start(bench: &Bench, name: &str) -> Self {
        Self::start_on(bench, name, None)
    }

    /// Starts one on a host.
    pub(crate) fn start_on(bench: &Bench, name: &str, host: Option<&Host>) -> Self {
        let address = host.map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        let mut command = Host::command(host, "/usr/bin/python3");
        command.arg(script("gst_origin.py")).arg("--address").arg(address.to_string());
        let mut peer = Peer::start(bench, name, command);
        let port = peer.wait_line("ready ", START).parse().expect("a port");
        Self { peer, address, port }
    }

    /// Its URL, without a path.
    pub(crate) fn base(&self) -> String {
        format!("rtsp://{}:{}", self.address, self.port)
    }

    /// The URL of a mount.
    pub(crate) fn url(&self, path: &str) -> String {
        self.base() + path
    }

    /// The same with user and password.
    pub(crate) fn url_as(&self, user: &str, path: &str) -> String {
        format!("rtsp://{user}@{}:{}{path}", self.address, self.port)
    }

    /// How often it has told of an event.
    pub(crate) fn events(&self, event: &str) -> usize {
        self.peer.stdout().lines().filter(|line| *line == event).count()
    }

    /// Waits until it has told of an event that often.
    pub(crate) fn wait_events(&self, event: &str, count: usize, deadline: Duration) {
        wait_for(&format!("{count} times `{event}` at the origin"), deadline, || {
            (self.events(event) >= count).then_some(())
        });
    }

    /// Access units that were recorded into it.
    pub(crate) fn recorded(&self) -> u32 {
        let output = self.peer.stdout();
        let counts = output.lines().filter_map(|line| line.strip_prefix("recorded "));
        // It begins again at 0 when the recording ends.
        counts.map(|count| count.parse().expect("a count")).max().unwrap_or(0)
    }

    /// The pictures stop, RTSP goes on.
    pub(crate) fn freeze_pictures(&mut self) {
        self.peer.signal(Signal::Usr1);
        self.peer.wait_line("frozen", Duration::from_secs(15));
    }
}

/// go2rtc with a stream `/cam` that ffmpeg makes for it. It serves over TCP only.
#[derive(Debug)]
pub(crate) struct Go2rtc {
    peer: Peer,
    port: u16,
}

impl Go2rtc {
    /// Starts one.
    pub(crate) fn start(bench: &Bench) -> Self {
        let port = free_port();
        let config = bench.write(
            "go2rtc.yaml",
            &format!(
                "api: {{listen: \"\"}}\nwebrtc: {{listen: \"\"}}\nsrtp: {{listen: \"\"}}\n\
                 rtsp: {{listen: \"127.0.0.1:{port}\"}}\nstreams:\n  cam: \"exec:ffmpeg \
                 -hide_banner -loglevel error -re -f lavfi -i testsrc2=size=320x240:rate=25 \
                 -c:v libx264 -preset ultrafast -tune zerolatency -g 12 -threads 1 \
                 -rtsp_transport tcp -f rtsp {{output}}\"\n"
            ),
        );
        let program = peers_dir().join("go2rtc");
        let mut command = Command::new(program);
        command.arg("-config").arg(config);
        let peer = Peer::start(bench, "go2rtc", command);
        wait_for("listening go2rtc", START, || {
            std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()
        });
        Self { peer, port }
    }

    /// Its URL, without a path.
    pub(crate) fn base(&self) -> String {
        format!("rtsp://127.0.0.1:{}", self.port)
    }
}

/// ffmpeg publishing a moving H.264 picture with ANNOUNCE and RECORD.
pub(crate) fn publish(bench: &Bench, name: &str, url: &str, transport: &str, seconds: u32) -> Peer {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning", "-re"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=320x240:rate=25", "-t", &seconds.to_string()])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "12"])
        .args(["-threads", "1", "-f", "rtsp", "-rtsp_transport", transport, url]);
    Peer::start(bench, name, command)
}
