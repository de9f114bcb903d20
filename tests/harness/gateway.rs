//! The gateway as a user runs it: a configuration file, `edgeweir run`, its control socket.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::RangeInclusive,
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use serde_json::Value;

use super::{
    Bench, free_port,
    net::Host,
    peer::{Peer, Signal},
    wait_for,
};

/// What a test wants of its gateway.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// More lines under `[gateway]`.
    pub(crate) gateway: String,
    /// Lines under `[limits]`.
    pub(crate) limits: String,
    /// The `[[origin]]` and `[[route]]` tables.
    pub(crate) tables: String,
    /// The file of `--secrets`.
    pub(crate) secrets: Option<String>,
    /// UDP port pairs. 0: enough for a few players.
    pub(crate) pairs: u16,
    /// The first media port; none: ports that no other gateway of the test run has.
    pub(crate) first_port: Option<u16>,
    /// The host it runs on; none: this machine, on the loopback address.
    pub(crate) host: Option<Host>,
}

impl Setup {
    /// Adds an origin.
    pub(crate) fn origin(mut self, name: &str, url: &str, more: &str) -> Self {
        self.tables += &format!("[[origin]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n\n");
        self
    }

    /// Adds a route.
    pub(crate) fn route(mut self, path: &str, origins: &[&str], more: &str) -> Self {
        self.tables += &format!("[[route]]\npath = \"{path}\"\norigins = {origins:?}\n{more}\n\n");
        self
    }
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) peer: Peer,
    address: Ipv4Addr,
    port: u16,
    control: PathBuf,
    media: RangeInclusive<u16>,
}

impl Gateway {
    /// Starts one and waits until it listens.
    pub(crate) fn start(bench: &Bench, setup: &Setup) -> Self {
        let port = free_port();
        let pairs = if setup.pairs == 0 { 64 } else { setup.pairs };
        let own = |first| (first, first + 2 * pairs - 1);
        let (first, last) = setup.first_port.map_or_else(|| media_ports(pairs), own);
        let listen = setup.host.as_ref().map_or(Ipv4Addr::LOCALHOST, |_| Ipv4Addr::UNSPECIFIED);
        let text = format!(
            "[gateway]\nlisten = [\"{listen}:{port}\"]\nmedia_ports = \"{first}-{last}\"\n{}\n\n\
             [limits]\n{}\n\n{}",
            setup.gateway, setup.limits, setup.tables
        );
        let config = bench.write("gateway.toml", &text);
        // The path of a Unix socket is short, a target directory may not be.
        let control =
            std::env::temp_dir().join(format!("edgeweir-test-{}-{port}", std::process::id()));
        let mut command = Host::command(setup.host.as_ref(), env!("CARGO_BIN_EXE_edgeweir"));
        command.arg("run").arg("--config").arg(config).arg("--control").arg(&control);
        if let Some(secrets) = &setup.secrets {
            command.arg("--secrets").arg(bench.write("secrets.toml", secrets));
        }
        let mut peer = Peer::start(bench, "gateway", command);
        let address = setup.host.as_ref().map_or(Ipv4Addr::LOCALHOST, |host| host.address);
        let at = SocketAddr::from((address, port));
        wait_for("listening gateway", Duration::from_secs(10), || {
            assert!(!peer.ended(), "the gateway ended: {}", peer.stderr());
            let listens = match &setup.host {
                None => TcpStream::connect(at).is_ok(),
                Some(host) => host.listens(port),
            };
            listens.then_some(())
        });
        Self { peer, address, port, control, media: first..=last }
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtsp://{}:{}{path}", self.address, self.port)
    }

    /// The same with user and password.
    pub(crate) fn url_as(&self, user: &str, path: &str) -> String {
        format!("rtsp://{user}@{}:{}{path}", self.address, self.port)
    }

    /// Where it accepts players.
    pub(crate) fn at(&self) -> SocketAddr {
        (self.address, self.port).into()
    }

    /// What `edgeweir WORDS --json` prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
            .args(words)
            .arg("--json")
            .arg("--control")
            .arg(&self.control)
            .output()
            .expect("the command line");
        assert!(
            output.status.success(),
            "edgeweir {words:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Whether `edgeweir WORDS` succeeds.
    pub(crate) fn try_to(&self, words: &[&str]) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        let output = command.args(words).arg("--control").arg(&self.control).output();
        output.expect("the command line").status.success()
    }

    /// What `edgeweir WORDS` says: on stdout where it is to succeed, on stderr where it is to fail.
    pub(crate) fn tell(&self, words: &[&str], succeeds: bool) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_edgeweir"))
            .args(words)
            .arg("--control")
            .arg(&self.control)
            .output()
            .expect("the command line");
        let said = if succeeds { &output.stdout } else { &output.stderr };
        let said = String::from_utf8_lossy(said).into_owned();
        assert_eq!(output.status.success(), succeeds, "edgeweir {words:?}: {said}");
        said
    }

    /// Imports its configuration with the origins, routes and plugins of a setup in place of its own;
    /// what the command says.
    pub(crate) fn import_tables(&self, bench: &Bench, setup: &Setup) -> String {
        let text = fs::read_to_string(bench.file("gateway.toml")).expect("the configuration");
        let head = text.split("[[origin]]").next().expect("its head");
        let file = bench.write("next.toml", &(head.to_owned() + &setup.tables));
        self.tell(&["config", "import", &file.display().to_string()], true)
    }

    /// The page of `GET /metrics`.
    pub(crate) fn metrics(&self) -> String {
        edgeweir::control::client::Client::new(&self.control).read_text("/metrics").expect("a page")
    }

    /// The sessions, as `edgeweir sessions` tells them.
    pub(crate) fn sessions(&self) -> Vec<Value> {
        let answer = self.ask(&["sessions"]);
        answer.as_array().cloned().unwrap_or_default()
    }

    /// A counter of `edgeweir status`; 0 when it has none of that name.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let status = self.ask(&["status"]);
        let counters = status["counters"].as_array().cloned().unwrap_or_default();
        let found = counters.iter().find(|pair| pair[0] == name);
        found.and_then(|pair| pair[1].as_u64()).unwrap_or(0)
    }

    /// Waits until no session is left, and with it no port pair.
    pub(crate) fn wait_idle(&self, deadline: Duration) {
        wait_for("idle gateway", deadline, || {
            let status = self.ask(&["status"]);
            (status["sessions"] == 0 && status["port_pairs_used"] == 0).then_some(())
        });
    }

    /// Its UDP ports for media.
    pub(crate) fn media_ports(&self) -> RangeInclusive<u16> {
        self.media.clone()
    }

    /// Resident memory, KiB, as the kernel says.
    pub(crate) fn rss_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.peer.pid());
        let status = fs::read_to_string(path).expect("the gateway's memory");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("VmRSS")
    }

    /// Open descriptors, as the kernel says.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.peer.pid())).expect("its descriptors").count()
    }

    /// Stops it as an operator does and checks that it was well to the end.
    pub(crate) fn finish(mut self) {
        assert!(!self.peer.ended(), "the gateway is gone: {}", self.peer.stderr());
        self.peer.signal(Signal::Term);
        let status = self.peer.wait(Duration::from_secs(10));
        let log = self.peer.stderr();
        assert!(status.success(), "the gateway ended with {status}: {log}");
        assert!(!log.contains("panicked"), "a panic in the gateway: {log}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.control);
    }
}

/// A range of media ports that no other gateway of this test run has, below the kernel's own range.
fn media_ports(pairs: u16) -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const ALL: u16 = 22_000;
    let size = pairs * 2;
    let at = NEXT.fetch_add(size, Ordering::Relaxed);
    assert!(at + size <= ALL, "no media ports left for another gateway");
    // Runs at the same time start at different places.
    let shift = u16::try_from(std::process::id() % 8).expect("small") * 16;
    let first = FIRST + at + shift;
    (first, first + size - 1)
}
