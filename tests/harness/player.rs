//! The real players, and what each has seen.

use std::{
    collections::HashSet,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{Bench, net::Host, peer::Peer, peers_dir, script};

/// Pictures a second of all origins.
const RATE: u32 = 25;

/// Which player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ffmpeg,
    /// GStreamer's rtspsrc, RTSP/1.0.
    Gst,
    /// GStreamer's rtspsrc, RTSP/2.0.
    Gst2,
    Aiortsp,
    Mpv,
}

/// Transport that a player asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

pub(crate) use Kind::{Aiortsp, Ffmpeg, Gst, Gst2, Mpv};
pub(crate) use Transport::{Tcp, Udp};

/// Every player over both transports.
pub(crate) const EVERY_PLAYER: [(Kind, Transport); 10] = [
    (Ffmpeg, Udp),
    (Ffmpeg, Tcp),
    (Gst, Udp),
    (Gst, Tcp),
    (Gst2, Udp),
    (Gst2, Tcp),
    (Aiortsp, Udp),
    (Aiortsp, Tcp),
    (Mpv, Udp),
    (Mpv, Tcp),
];

impl Transport {
    /// As in options and in `status`.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A player that is playing.
#[derive(Debug)]
pub(crate) struct Player {
    name: String,
    kind: Kind,
    transport: Transport,
    seconds: u32,
    began: Instant,
    pub(crate) peer: Peer,
}

/// What a player has seen.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) name: String,
    transport: Transport,
    seconds: u32,
    /// Decoded pictures; for aiortsp, which decodes nothing, whole access units.
    pub(crate) pictures: u32,
    /// Decoded audio buffers, where the player tells.
    pub(crate) audio: u32,
    /// Packets it says are missing.
    pub(crate) lost: u32,
    /// What it complained about.
    pub(crate) complaints: Vec<String>,
    /// From its start to its end.
    pub(crate) took: Duration,
    /// All that it said, for the message of a failure.
    said: String,
}

impl Player {
    /// Starts a player for some seconds of media.
    pub(crate) fn start(
        bench: &Bench,
        kind: Kind,
        transport: Transport,
        url: &str,
        seconds: u32,
    ) -> Self {
        Self::start_on(bench, kind, transport, url, seconds, None)
    }

    /// Starts a player on a host.
    pub(crate) fn start_on(
        bench: &Bench,
        kind: Kind,
        transport: Transport,
        url: &str,
        seconds: u32,
        host: Option<&Host>,
    ) -> Self {
        let path = url.splitn(4, '/').nth(3).unwrap_or_default().replace('/', "-");
        let name = format!("{kind:?}-{}-{path}", transport.word()).to_lowercase();
        let command = command(kind, transport, url, seconds, host);
        let began = Instant::now();
        let peer = Peer::start(bench, &name, command);
        Self { name, kind, transport, seconds, began, peer }
    }

    /// Waits for its end, at most `deadline` from now.
    pub(crate) fn finish_within(mut self, deadline: Duration) -> Played {
        self.peer.wait(deadline);
        let (out, err) = (self.peer.stdout(), self.peer.stderr());
        let mut played = Played {
            name: self.name,
            transport: self.transport,
            seconds: self.seconds,
            pictures: 0,
            audio: 0,
            lost: 0,
            complaints: Vec::new(),
            took: self.began.elapsed(),
            said: format!("{out}{err}"),
        };
        match self.kind {
            Ffmpeg => played.read_ffmpeg(&out, &err),
            Mpv => played.read_mpv(&out),
            Gst | Gst2 | Aiortsp => played.read_json(&out),
        }
        played
    }

    /// Waits for its end, with room for its start on a busy machine.
    pub(crate) fn finish(self) -> Played {
        let deadline = Duration::from_secs(u64::from(self.seconds) + 30);
        self.finish_within(deadline)
    }
}

impl Played {
    /// The stream came whole: pictures all the time, nothing lost where the transport promises
    /// it, hardly anything on UDP, where a busy machine may lose a packet.
    pub(crate) fn expect_whole(&self) {
        self.expect_pictures();
        let room = if self.transport == Tcp { 0 } else { 3 };
        assert!(self.lost <= room, "{}: lost {} packets: {}", self.name, self.lost, self.said);
        assert!(
            self.transport == Udp || self.complaints.is_empty(),
            "{}: {:?}",
            self.name,
            self.complaints
        );
    }

    /// Pictures came all the time but for half a second. For one who joins a shared stream in its middle, of which the
    /// first packets do not count.
    pub(crate) fn expect_pictures(&self) {
        let least = self.seconds * RATE - RATE / 2;
        assert!(
            self.pictures >= least,
            "{}: {} pictures, at least {least} expected: {}",
            self.name,
            self.pictures,
            self.said
        );
    }

    /// The second track came too, where the player tells.
    pub(crate) fn expect_audio(&self) {
        // The origin sends one each 20 ms, GStreamer's merge into fewer.
        assert!(self.audio >= self.seconds * 5, "{}: {} audio", self.name, self.audio);
    }

    fn read_ffmpeg(&mut self, out: &str, err: &str) {
        let mut frames = out.lines().filter_map(|line| line.strip_prefix("frame="));
        self.pictures = frames.next_back().and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        // "[rtsp @ 0x…] RTP: missed 3 packets"
        let missed = err.lines().filter_map(|line| line.split("RTP: missed ").nth(1));
        self.lost = missed.filter_map(|rest| rest.split(' ').next()?.parse::<u32>().ok()).sum();
        self.complaints =
            err.lines().filter(|line| is_complaint(line)).map(str::to_owned).collect();
    }

    fn read_mpv(&mut self, out: &str) {
        // "[ffmpeg] Parsed_showinfo_0: n:   1 pts:  42500 … checksum:3C2E905B …"
        let shown = |line: &&str| line.contains(" n:") && line.contains(" checksum:");
        let lines: Vec<&str> = out.lines().filter(shown).collect();
        let sum = |line: &&str| line.split(" checksum:").nth(1).map(|rest| rest[..8].to_owned());
        let moving: HashSet<String> = lines.iter().filter_map(sum).collect();
        self.pictures = u32::try_from(lines.len()).expect("a count");
        if moving.len() * 2 < lines.len() {
            self.complaints.push(format!("only {} different pictures", moving.len()));
        }
        self.complaints.extend(out.lines().filter(|line| is_complaint(line)).map(str::to_owned));
    }

    fn read_json(&mut self, out: &str) {
        let Some(said) = out.lines().rev().find(|line| line.starts_with('{')) else { return };
        let said: Value = serde_json::from_str(said).expect("JSON of the player");
        let number = |key: &str| {
            said[key].as_u64().and_then(|number| u32::try_from(number).ok()).unwrap_or(0)
        };
        self.pictures = number("video") + number("frames");
        self.audio = number("audio");
        self.lost = number("lost");
        if let Some(warnings) = said["warnings"].as_array() {
            self.complaints.extend(warnings.iter().map(Value::to_string));
        }
    }
}

/// Whether a line of ffmpeg's libraries says that media is broken or missing.
fn is_complaint(line: &str) -> bool {
    const WORDS: [&str; 7] = [
        "RTP: missed",
        "error while decoding",
        "concealing",
        "corrupt",
        "Invalid data",
        "no frame!",
        "Missing reference",
    ];
    WORDS.iter().any(|word| line.contains(word))
}

fn command(
    kind: Kind,
    transport: Transport,
    url: &str,
    seconds: u32,
    host: Option<&Host>,
) -> Command {
    let python = peers_dir().join("venv/bin/python");
    let on = |program: &Path| Host::command(host, program.to_str().expect("a path in UTF-8"));
    let transport = transport.word();
    let time = seconds.to_string();
    let mut command;
    match kind {
        Ffmpeg => {
            command = on(Path::new("ffmpeg"));
            command
                .args(["-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning"])
                .args(["-progress", "-", "-rtsp_transport", transport, "-i", url, "-t", &time])
                .args(["-threads", "1", "-fps_mode", "passthrough", "-f", "null", "-"]);
        }
        Gst | Gst2 => {
            command = on(Path::new("/usr/bin/python3"));
            command.arg(script("gst_player.py")).args([url, "--transport", transport]);
            command.args(["--seconds", &time, "--rtsp", if kind == Gst { "1" } else { "2" }]);
        }
        Aiortsp => {
            command = on(&python);
            command.arg(script("aiortsp_player.py")).args([url, "--transport", transport]);
            command.args(["--seconds", &time]);
        }
        Mpv => {
            command = on(Path::new("mpv"));
            command
                .args(["--no-config", "--no-input-terminal", "--term-status-msg=", "--vo=null"])
                .args(["--ao=null", "--vf=lavfi=[showinfo]", "--msg-level=ffmpeg=v"])
                .arg(format!("--rtsp-transport={transport}"))
                .arg(format!("--frames={}", seconds * RATE))
                .arg(url);
        }
    }
    command
}
