//! Plays each file under `transcripts/` against [`Session`]: what clients and origins say comes
//! from the file, what the gateway says and does must be what the file records.
//!
//! Four lanes (`client > proxy`, `proxy > origin`, `origin > proxy`, `proxy > client`) and a fifth,
//! `proxy does`, for pipes, refusals and ends. Lines end in CRLF; `\n` at the end of a line stands
//! for a bare LF, `\xNN` for a byte that is no text, `\*N*c` for N times the letter c, `<session-1>` for the
//! first session id that the gateway gave.
//! The `@` lines before the first lane are the configuration (`laws/configuration.rs`); the lane
//! `configuration changes` holds those of another one. `client connects again` opens another
//! connection, `user NAME is another` ends the grants of a user; the user of all files is `viewer` with
//! the password `secret`.
//! `UPDATE_TRANSCRIPTS=1 cargo test --test transcripts` writes what came out; the difference is the
//! review. Plugins say what lanes like `filter SLOT says reject 403` have put down for them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod laws;

use core::{fmt::Write as _, net::IpAddr, time::Duration};
use std::{collections::VecDeque, fs, path::Path, sync::Arc};

use edgeweir::{
    auth::{Account, Credentials, Decision, Signer, Verifier},
    clock::Instant,
    config::{self, Auth, Config, Policy, Slot},
    origin::{Consulted, Purpose, Table},
    plugin::hooks::{Header, Reply, Verdict},
    rtsp::{Head, framing::Unit, url::Base},
    session::{
        Bounds, Fault, Feed, FrameRoute, Inbox, Input, OriginLink, Output, Session, Side,
        Surroundings,
    },
};
use laws::Laws;

const CLIENT_IP: &str = "192.0.2.7";
const GATEWAY_IP: &str = "192.0.2.1";

#[test]
fn every_transcript_plays_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "the transcripts are there");
    let mut wrong = Vec::new();
    for file in files {
        println!("{}", file.display()); // where a law is broken
        let recorded = fs::read_to_string(&file).unwrap();
        let played = Play::new(&recorded).run();
        if played != recorded {
            if std::env::var_os("UPDATE_TRANSCRIPTS").is_some() {
                fs::write(&file, &played).unwrap();
            } else {
                wrong.push(difference(&file, &recorded, &played));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn difference(file: &Path, recorded: &str, played: &str) -> String {
    let name = file.file_name().unwrap().to_string_lossy();
    let mut lines = recorded.lines().zip(played.lines()).enumerate();
    match lines.find(|(_, (old, new))| old != new) {
        Some((at, (old, new))) => {
            format!("{name}:{}:\n  recorded: {old}\n  played:   {new}", at + 1)
        }
        None => format!("{name}: one is longer:\n{played}"),
    }
}

/// One file being played.
struct Play {
    header: String,
    steps: Vec<(String, String)>,
    session: Session,
    laws: Laws,
    around: Surroundings,
    verifier: Verifier,
    origins: VecDeque<Option<Base>>,
    credentials: Option<Credentials>,
    inboxes: [Inbox; 2],
    granted: laws::farewell::Granted,
    now: Instant,
    port: u16,
    no_ports: bool,
    /// What plugins say when they are asked next.
    said: Vec<(String, String)>,
    out: String,
}

impl Play {
    fn new(text: &str) -> Self {
        let (header, steps) = split(text);
        let option = |name: &str| -> Vec<String> {
            laws::configuration::options(&header, name).into_iter().map(Into::into).collect()
        };
        let first = |name: &str| option(name).into_iter().next();
        let toml = laws::configuration::text(&header);
        let mut urls = option("origin");
        if urls.is_empty() {
            urls.push("rtsp://198.51.100.20:554".into());
        }
        let config: Config =
            config::text::parse(&toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let table = Arc::new(Table::new(&config, None, 1));
        let origins = urls
            .iter()
            .enumerate()
            .map(|(at, url)| {
                let origin = &table.origins()[at];
                (!url.starts_with("dead ")).then(|| Base {
                    authority: origin.authority().to_vec(),
                    path: origin.path().to_vec(),
                })
            })
            .collect();
        let around = Surroundings {
            client_ip: CLIENT_IP.parse().unwrap(),
            local_ip: GATEWAY_IP.parse().unwrap(),
            authority: format!("rtsp://{GATEWAY_IP}:8554").into_bytes(),
            pseudonym: first("via").unwrap_or_else(|| "edgeweir".into()),
            via_in_1_0: first("via").is_some(),
            ids: laws::ids::source(),
            answer_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_millis(millis(
                &first("silence").unwrap_or("10".into()),
            )),
            media_queue: Bounds { bytes: 65_536, age: Duration::from_secs(2) },
            detach: first("detach").is_some(),
            aliases: [7; 32].into(),
        };
        let now = Instant::from_millis(1_000);
        Self {
            laws: Laws::new(&table),
            session: Session::new(around.clone(), table, now),
            verifier: Verifier::new(vec![Account::new("viewer", "secret")], [7; 32]),
            origins,
            credentials: first("credentials").map(|text| {
                let (user, password) = text.split_once(':').unwrap();
                Credentials::new(user, password)
            }),
            inboxes: [Inbox::default(), Inbox::default()],
            granted: laws::farewell::Granted::default(),
            now,
            port: 20_000,
            no_ports: first("ports").is_some_and(|ports| ports == "none"),
            said: Vec::new(),
            header,
            steps,
            around,
            out: String::new(),
        }
    }

    /// Another configuration, by the `@` lines of a lane.
    fn configure(&mut self, header: &str) {
        let toml = laws::configuration::text(header);
        let config: Config =
            config::text::parse(&toml).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let table = Arc::new(Table::new(&config, Some(self.session.table()), 1));
        self.laws.know(&table);
        self.session.set_table(table);
    }

    /// The client leaves its connection as it is and opens another one.
    fn connect_again(&mut self) {
        let table = Arc::clone(self.session.table());
        self.laws.connects_again(&table);
        self.session = Session::new(self.around.clone(), table, self.now);
        self.inboxes = [Inbox::default(), Inbox::default()];
    }

    fn run(mut self) -> String {
        self.out = self.header.clone();
        for (lane, text) in core::mem::take(&mut self.steps) {
            write!(self.out, "--- {lane}\n{text}").unwrap();
            match lane.as_str() {
                "client > proxy" => self.feed(Side::Client, &laws::ids::shown(&bytes(&text))),
                "origin > proxy" => self.feed(Side::Origin, &laws::ids::shown(&bytes(&text))),
                lane if lane.contains(" says ") => {
                    self.said.push((lane.to_owned(), text));
                    continue;
                }
                "client closes" => {
                    self.session.handle(Input::SideClosed(Side::Client), self.now);
                }
                "client connects again" => self.connect_again(),
                "configuration changes" => self.configure(&text),
                lane if lane.ends_with(" is another") => {
                    let user = lane.trim_start_matches("user ").trim_end_matches(" is another");
                    self.laws.ended();
                    self.session.end_of_users(|other| other != user);
                }
                "client comes back" => {
                    self.laws.ended();
                    self.session.handle(Input::Attached, self.now);
                }
                "origin closes" => {
                    self.laws.lost();
                    self.granted.closed();
                    self.session.handle(Input::SideClosed(Side::Origin), self.now);
                }
                "operator closes" => self.session.handle(Input::End(Fault::Closed), self.now),
                "media flows" => {
                    self.session.alive(Side::Origin, self.now);
                    self.session.media_came(self.now);
                    self.session.alive(Side::Client, self.now);
                }
                lane => {
                    let seconds = lane.strip_prefix("seconds pass: ").unwrap_or_else(|| {
                        panic!("unknown lane {lane}");
                    });
                    self.now = self.now + Duration::from_millis(millis(seconds));
                    self.session.tick(self.now);
                }
            }
            self.settle();
        }
        let out = self.out.clone();
        self.session.handle(Input::End(Fault::Shutdown), self.now);
        self.settle();
        let left = self.granted.left();
        assert!(left.is_empty(), "sessions {left:?} of the origin are ended:\n{}", self.out);
        out
    }

    fn feed(&mut self, side: Side, mut fresh: &[u8]) {
        let at = usize::from(side == Side::Origin);
        loop {
            let (session, laws, now) = (&mut self.session, &mut self.laws, self.now);
            let granted = &mut self.granted;
            let mut message = false;
            let mut lost = Vec::new();
            if side == Side::Origin {
                self.inboxes[at].tolerate(session.tracks().channels(side));
            }
            let fed = self.inboxes[at].feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    match session.frame(side, channel, &bytes[4..], now) {
                        Some(FrameRoute::Frame(there)) => {
                            session.outbox(side.other()).push_frame(there, &bytes[4..], now);
                        }
                        Some(FrameRoute::Datagram(track, flow)) => {
                            lost.push(format!("datagram of track {track}, {flow:?}"));
                        }
                        None => lost.push(format!("drop frame on channel {channel}")),
                    }
                    Feed::Go
                }
                Unit::Message { head, .. } => {
                    if side == Side::Client {
                        laws.asked(bytes, now);
                    }
                    if side == Side::Origin {
                        laws.came(bytes);
                        granted.heard(&bytes[..head]);
                    }
                    session.message(side, bytes, head, now);
                    message = true;
                    Feed::Pause
                }
                Unit::Blank { .. } => Feed::Go,
            });
            for line in lost {
                self.does(&line);
            }
            match self.inboxes[at].take_skipped() {
                0 => {}
                bytes => self.does(&format!("skip {bytes} bytes that mean nothing")),
            }
            match fed {
                Err(error) if side == Side::Client => {
                    self.session.framing_lost(error.status(), self.now);
                }
                Err(_) => {
                    self.laws.lost();
                    self.session.origin_framing_lost(self.now);
                }
                Ok(()) => {}
            }
            self.settle();
            fresh = &[];
            if !message || self.inboxes[at].is_empty() || !self.session.wants(side) {
                return;
            }
        }
    }

    fn settle(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
        for (side, lane) in [(Side::Origin, "proxy > origin"), (Side::Client, "proxy > client")] {
            let outbox = self.session.outbox(side);
            let waiting = outbox.slices().concat();
            outbox.wrote(waiting.len());
            self.laws.left(side, &waiting);
            if side == Side::Origin {
                self.granted.wrote(&waiting);
            }
            if !waiting.is_empty() {
                let text = show(&laws::ids::hidden(&waiting));
                write!(self.out, "--- {lane}\n{text}").unwrap();
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        match output {
            Output::Authenticate(scheme) => {
                let input = self.authenticate(scheme);
                self.laws.answered(&self.session, &input, now);
                self.session.handle(input, now);
            }
            Output::Filter(slot) => {
                let verdict = self.filter(slot);
                self.session.handle(Input::Filtered(verdict), now);
            }
            Output::Connect { route, exclude, again, elsewhere, .. } => {
                let next = again.or_else(|| self.choose(route, &exclude));
                let input = match next {
                    None => Input::NoOrigin(Fault::OriginGone),
                    Some(index) => match self.origins[index].clone() {
                        None => {
                            self.does(&format!("connect to o{index}: refused"));
                            Input::ConnectFailed(index)
                        }
                        Some(base) => {
                            let to = elsewhere.map_or_else(String::new, |(host, port)| {
                                format!(", at {}:{port}", String::from_utf8_lossy(&host))
                            });
                            self.does(&format!("connect to o{index}{to}"));
                            let signer =
                                self.credentials.clone().map(|c| Signer::new(c, index as u64));
                            let name = format!("o{index}");
                            let link = OriginLink { index, name, base, signer, keepalive: None };
                            Input::Connected(Box::new(link))
                        }
                    },
                };
                self.session.handle(input, now);
            }
            Output::Bind { client, origin, .. } => {
                if self.no_ports {
                    return self.session.handle(Input::NotBound(Fault::NoPorts), now);
                }
                let mut pair = |wanted: bool| {
                    wanted.then(|| {
                        self.port += 2;
                        (self.port - 2, self.port - 1)
                    })
                };
                let (client, origin) = (pair(client), pair(origin));
                self.session.handle(Input::Bound { client, origin }, now);
            }
            Output::Seen(..) | Output::Flows => {}
            Output::Find(id) => {
                let id = laws::ids::hidden(&id);
                self.does(&format!("find session {}", String::from_utf8_lossy(&id)));
                self.session.handle(Input::NotFound, now);
            }
            Output::Detach(id) => {
                let id = laws::ids::hidden(&id);
                self.does(&format!("detach session {}", String::from_utf8_lossy(&id)));
            }
            Output::DropOrigin => {
                self.inboxes[1] = Inbox::default();
                self.laws.dropped(false);
                self.granted.closed();
                self.does("drop the origin's connection");
            }
            Output::Open(track, plan) => {
                self.does(&format!(
                    "open track {track}: client {:?}, origin {:?}",
                    plan.client, plan.origin
                ));
            }
            Output::Close(track) => self.does(&format!("close track {track}")),
            Output::Note(fault) => self.does(&format!("note: {fault}")),
            Output::End(fault) => {
                self.does(&format!("end: {fault}"));
            }
        }
    }

    /// The next thing that a plugin says, from a lane `filter SLOT says …` and the like; its text
    /// follows.
    fn plugin(&mut self, who: &str, slot: &str) -> Option<(String, String)> {
        let lane = format!("{who} {slot} says ");
        let at = self.said.iter().position(|(name, _)| name.starts_with(&lane))?;
        let (name, text) = self.said.remove(at);
        Some((name[lane.len()..].to_owned(), text))
    }

    /// What a filter says; nothing means that it lets the message pass.
    fn filter(&mut self, slot: Slot) -> Verdict {
        let (direction, message) = self.session.filtering().unwrap();
        let original = message.bytes.to_vec();
        let line = original.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line).into_owned();
        let method = message.method.to_owned();
        let name = self.session.table().slot_name(slot).to_owned();
        self.does(&format!("ask filter {name}, {direction:?}, {method}: {line}"));
        let Some((verdict, text)) = self.plugin("filter", &name) else { return Verdict::Pass };
        match verdict.split_once(' ').unwrap_or((&verdict, "")) {
            ("fault", _) => Verdict::Fault,
            ("drop", _) => Verdict::Drop,
            ("reject", status) => {
                let (headers, body) = text.split_once("\n\n").unwrap_or((&text, ""));
                let header = |line: &str| {
                    let (name, value) = line.split_once(": ").unwrap();
                    Header { name: name.into(), value: bytes_of_line(value) }
                };
                let headers = headers.lines().filter(|line| !line.is_empty()).map(header);
                Verdict::Reject(Reply {
                    status: status.parse().unwrap(),
                    headers: headers.collect(),
                    body: bytes(body),
                })
            }
            // Lines in pairs: what is there, and what stands there afterwards.
            ("edit", _) => {
                let mut message = String::from_utf8(original).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                for pair in lines.chunks(2) {
                    let [old, new] = pair else { panic!("lines come in pairs") };
                    assert!(message.contains(old), "{old} is in {message}");
                    let new = if new.is_empty() { String::new() } else { format!("{new}\r\n") };
                    message = message.replacen(&format!("{old}\r\n"), &new, 1);
                }
                let head = message.find("\r\n\r\n").unwrap() + 4;
                let length = message.len() - head;
                let mut lines: Vec<String> =
                    message[..head].split("\r\n").map(Into::into).collect();
                for line in &mut lines {
                    if line.starts_with("Content-Length: ") {
                        *line = format!("Content-Length: {length}");
                    }
                }
                let start = lines.join("\r\n");
                let bytes = [start.as_bytes(), &message.as_bytes()[head..]].concat();
                Verdict::Edited { bytes, head: start.len() }
            }
            other => panic!("unknown verdict {other:?}"),
        }
    }

    /// An origin: the one that a plugin says where the route asks one, else the first untried.
    fn choose(&mut self, route: usize, exclude: &[usize]) -> Option<usize> {
        let table = Arc::clone(self.session.table());
        if let Policy::Plugin(slot) = table.routes()[route].policy {
            let name = table.slot_name(slot);
            let said = self.plugin("balancer", name);
            let now = self.now;
            let chosen =
                table.consult(route, exclude, (now, Purpose::Asks), None, |upstreams, _| {
                    let ids: Vec<_> = upstreams.iter().map(|upstream| upstream.id).collect();
                    let attempt = exclude.len();
                    self.does(&format!("ask balancer {name}: origins {ids:?}, attempt {attempt}"));
                    said.and_then(|(id, _)| id.parse().ok())
                });
            match chosen {
                Consulted::Chosen(reservation) => return Some(reservation.index()),
                Consulted::Bad(id) => self.does(&format!("origin {id} cannot be chosen")),
                Consulted::None => {}
            }
        }
        table.routes()[route].origins.iter().copied().find(|at| !exclude.contains(at))
    }

    fn ask_authenticator(&mut self, slot: Slot) -> Input {
        let name = self.session.judged_by().0.slot_name(slot).to_owned();
        self.does(&format!("ask authenticator {name}"));
        let Some((decision, text)) = self.plugin("authenticator", &name) else {
            return Input::AuthFailed;
        };
        match decision.split_once(' ').unwrap_or((&decision, "")) {
            ("allow", seconds) => Input::GrantedFor(Duration::from_millis(millis(seconds))),
            ("deny", status) => Input::DeniedAs(status.parse().unwrap()),
            ("challenge", _) => Input::Challenge(text.lines().map(bytes_of_line).collect()),
            ("abstain", _) => Input::DeniedAs(403),
            ("fault", _) => Input::AuthFailed,
            other => panic!("unknown decision {other:?}"),
        }
    }

    fn authenticate(&mut self, scheme: Auth) -> Input {
        if let Auth::Plugin(slot) = scheme {
            return self.ask_authenticator(slot);
        }
        let (raw, head) = self.session.deciding().unwrap();
        let head = Head::parse(&raw[..head]).unwrap();
        let authorization = head.header("Authorization").map(|header| header.value);
        let client: IpAddr = CLIENT_IP.parse().unwrap();
        let uri = head.uri().unwrap();
        let method = head.method_bytes();
        match self.verifier.check(scheme, method, uri, authorization, self.now, client) {
            Decision::Granted { user } => Input::Granted { user },
            Decision::Challenge(values) | Decision::Wrong { challenge: values, .. } => {
                Input::Challenge(values.into_iter().map(String::into_bytes).collect())
            }
            Decision::Refused => Input::Denied,
        }
    }

    fn does(&mut self, what: &str) {
        writeln!(self.out, "--- proxy does\n{what}").unwrap();
    }
}

/// The header of a file, and its input lanes with their text; output lanes are made anew.
fn split(text: &str) -> (String, Vec<(String, String)>) {
    let mut header = String::new();
    let mut steps: Vec<(String, String)> = Vec::new();
    let mut skipping = false;
    for line in text.split_inclusive('\n') {
        if let Some(lane) = line.strip_prefix("--- ") {
            let lane = lane.trim_end();
            skipping = lane.starts_with("proxy ");
            if !skipping {
                steps.push((lane.to_owned(), String::new()));
            }
        } else if !skipping {
            match steps.last_mut() {
                Some((_, body)) => body.push_str(line),
                None => header.push_str(line),
            }
        }
    }
    (header, steps)
}

fn millis(seconds: &str) -> u64 {
    (seconds.trim().parse::<f64>().unwrap() * 1000.0) as u64
}

fn bytes_of_line(text: &str) -> Vec<u8> {
    bytes(&format!("{text}\\"))
}

/// Bytes that a lane's text stands for.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines() {
        let (line, end): (&str, &[u8]) = match (line.strip_suffix("\\n"), line.strip_suffix("\\")) {
            (Some(line), _) => (line, b"\n"),
            (None, Some(line)) => (line, b""),
            (None, None) => (line, b"\r\n"),
        };
        let mut rest = line;
        while let Some((text, escape)) = rest.split_once('\\') {
            out.extend_from_slice(text.as_bytes());
            rest = match escape.strip_prefix('*') {
                Some(repeated) => {
                    let (count, after) = repeated.split_once('*').unwrap();
                    let count = out.len() + count.parse::<usize>().unwrap();
                    out.resize(count, after.as_bytes()[0]);
                    &after[1..]
                }
                None => {
                    out.push(u8::from_str_radix(&escape[1..3], 16).unwrap());
                    &escape[3..]
                }
            };
        }
        out.extend_from_slice(rest.as_bytes());
        out.extend_from_slice(end);
    }
    out
}

/// Letters after the first that make a run worth counting.
const RUN: usize = 32;

/// Text that stands for bytes.
fn show(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'\r', b'\n', ..] => {
                out.push('\n');
                at += 1;
            }
            [b'\n', ..] => out.push_str("\\n\n"),
            [byte @ b'a'..=b'z', rest @ ..]
                if rest.get(..RUN).is_some_and(|run| run.iter().all(|b| b == byte)) =>
            {
                let count = bytes[at..].iter().take_while(|b| *b == byte).count();
                write!(out, "\\*{count}*{}", char::from(*byte)).unwrap();
                at += count - 1;
            }
            [byte @ (b' '..=b'~'), ..] if *byte != b'\\' => out.push(char::from(*byte)),
            [byte, ..] => write!(out, "\\x{byte:02x}").unwrap(),
            [] => {}
        }
        at += 1;
    }
    if !out.ends_with('\n') {
        out.push_str("\\\n");
    }
    out
}
