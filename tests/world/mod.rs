//! A [`Session`] driven as the shell drives it, by peers that say what a transcript, a seed or a
//! fuzzer has them say; the rules of the conversation are checked as it goes.
//!
//! Shared by `mutations.rs` and the fuzz target `session`.

#![allow(dead_code, unreachable_pub, reason = "each of those who include it uses a part")]

pub mod bend;
pub mod chance;
#[path = "../laws/mod.rs"]
pub mod laws;
pub mod lessons;
pub mod memory;

use core::time::Duration;
use std::{collections::HashSet, sync::Arc};

use edgeweir::{
    auth::{Account, Credentials, Decision, Signer, Verifier},
    clock::Instant,
    config::{self, text},
    origin::Table,
    plugin::hooks::{Header, Reply, Verdict},
    rtsp::{
        Head,
        framing::{Framer, Progress, Unit},
        url::Base,
    },
    session::{
        Bounds, Fault, Feed, FrameRoute, Inbox, Input, OriginLink, Output, Session, Side,
        Surroundings,
    },
};

use bend::mutate;
use chance::Chance;
use laws::Laws;
pub use laws::configuration::text as configuration;

/// What one conversation may hold: both queues of replies, both of media, twice over.
pub const LIVE_MAX_BYTES: usize = 4 << 20;

/// One conversation and what is around it.
pub struct World {
    /// What guests and networks do.
    pub chance: Chance,
    /// The conversation.
    pub session: Session,
    verifier: Verifier,
    credentials: Option<Credentials>,
    bases: Vec<Base>,
    inboxes: [Inbox; 2],
    /// What the outboxes gave.
    streams: [Vec<u8>; 2],
    /// How much of what waits a peer takes each time, in percent.
    pub takes: [usize; 2],
    now: Instant,
    connected: bool,
    open: HashSet<u8>,
    /// Tracks that were set up.
    pub opened: usize,
    laws: Laws,
    /// All that left toward client and origin, for who wants it.
    pub record: Option<[Vec<u8>; 2]>,
    requests: usize,
    answers: usize,
    /// Why it ended.
    pub ended: Option<Fault>,
}

impl World {
    /// The world of a transcript with these `@` lines; none: they make no configuration.
    pub fn new(header: &str, chance: Chance) -> Option<Self> {
        let all = |name: &str| laws::configuration::options(header, name);
        let config = text::parse(&configuration(header)).ok()?;
        let table = Arc::new(Table::new(&config, None, 1));
        let bases = table.origins().iter().map(|origin| Base {
            authority: origin.authority().to_vec(),
            path: origin.path().to_vec(),
        });
        let bases = bases.collect();
        let laws = Laws::new(&table);
        let around = Surroundings {
            client_ip: "192.0.2.7".parse().unwrap(),
            local_ip: "192.0.2.1".parse().unwrap(),
            authority: b"rtsp://192.0.2.1:8554".to_vec(),
            pseudonym: all("via").first().copied().unwrap_or("edgeweir").to_owned(),
            via_in_1_0: !all("via").is_empty(),
            ids: laws::ids::source(),
            answer_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(10),
            media_queue: Bounds { bytes: 65_536, age: Duration::from_secs(2) },
            detach: !all("detach").is_empty(),
            aliases: [8; 32].into(), // aliases of the transcripts are foreign here
        };
        let now = Instant::from_millis(1_000);
        let credentials = match all("credentials").first() {
            Some(text) => Some(text.split_once(':')?),
            None => None,
        };
        Some(Self {
            chance,
            session: Session::new(around, table, now),
            verifier: Verifier::new(vec![Account::new("viewer", "secret")], [7; 32]),
            credentials: credentials.map(|(user, password)| Credentials::new(user, password)),
            bases,
            inboxes: [Inbox::default(), Inbox::default()],
            streams: [Vec::new(), Vec::new()],
            takes: [100, 100],
            now,
            connected: false,
            open: HashSet::new(),
            opened: 0,
            laws,
            record: None,
            requests: 0,
            answers: 0,
            ended: None,
        })
    }

    /// What a lane of a transcript says, in reads that `cut` tells the length of.
    pub fn step(&mut self, lane: &str, body: &[u8], cut: &mut dyn FnMut(usize) -> usize) {
        match lane {
            "client > proxy" => self.feed(Side::Client, body, cut),
            "origin > proxy" => self.feed(Side::Origin, body, cut),
            "client closes" => self.close(Side::Client),
            "origin closes" => self.close(Side::Origin),
            "operator closes" => self.session.handle(Input::End(Fault::Closed), self.now),
            "client comes back" => {
                self.laws.ended();
                self.session.handle(Input::Attached, self.now);
            }
            "configuration changes" => {
                let header = String::from_utf8_lossy(body).replace("\r\n", "\n");
                self.configure(&configuration(&header));
            }
            "media flows" => self.session.alive(Side::Origin, self.now),
            lane => {
                let seconds = lane.strip_prefix("seconds pass: ").map(|text| text.parse::<f64>());
                if let Some(Ok(seconds)) = seconds {
                    self.pass(Duration::from_secs_f64(seconds));
                }
            }
        }
        self.settle();
        self.go_on();
    }

    /// A peer closes its connection.
    pub fn close(&mut self, side: Side) {
        if side == Side::Client || self.connected {
            if side == Side::Origin {
                self.laws.lost();
            }
            self.session.handle(Input::SideClosed(side), self.now);
            self.settle();
        }
    }

    /// Another configuration is there.
    pub fn configure(&mut self, toml: &str) {
        if let Ok(config) = text::parse(toml) {
            let table = Table::new(&config, Some(self.session.table()), 2);
            self.laws.know(&table);
            self.session.set_table(Arc::new(table));
        }
    }

    /// Time passes.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.session.tick(self.now);
        self.settle();
        self.go_on();
        if let Some((due, why)) = self.session.deadline() {
            assert!(
                due > self.now,
                "{why:?} is due at {due:?}, it is {:?}: {:?}",
                self.now,
                self.session
            );
        }
    }

    /// Peers that read everything, and then silence: the end.
    pub fn finish(&mut self) {
        self.takes = [100, 100];
        for _ in 0..12 {
            self.pass(Duration::from_secs(11));
            self.check();
        }
        assert!(self.ended.is_some(), "silence on both sides ends a session");
        self.laws.dropped(false);
    }

    /// In reads of any length, as a socket gives them.
    pub fn feed(&mut self, side: Side, mut bytes: &[u8], cut: &mut dyn FnMut(usize) -> usize) {
        if side == Side::Client {
            self.laws.client_says(bytes);
        }
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(cut(bytes.len()).clamp(1, bytes.len()));
            if !self.read(side, part) {
                return;
            }
            bytes = rest;
        }
    }

    /// False when the connection is of no use any more.
    fn read(&mut self, side: Side, mut fresh: &[u8]) -> bool {
        let at = usize::from(side == Side::Origin);
        loop {
            if side == Side::Origin && !self.connected {
                return false;
            }
            let (session, now) = (&mut self.session, self.now);
            let laws = &mut self.laws;
            let mut message = false;
            if side == Side::Origin {
                self.inboxes[at].tolerate(session.tracks().channels(side));
            }
            let fed = self.inboxes[at].feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    let to = session.frame(side, channel, &bytes[4..], now);
                    if let Some(FrameRoute::Frame(there)) = to {
                        session.outbox(side.other()).push_frame(there, &bytes[4..], now);
                    }
                    Feed::Go
                }
                Unit::Message { head, .. } => {
                    if side == Side::Client {
                        laws.asked(bytes, now);
                    }
                    if side == Side::Origin {
                        laws.came(bytes);
                    }
                    session.message(side, bytes, head, now);
                    message = true;
                    Feed::Pause
                }
                Unit::Blank { .. } => Feed::Go,
            });
            if side == Side::Client {
                self.requests += usize::from(message || fed.is_err());
            }
            let lost = match fed {
                Ok(()) => false,
                Err(error) if side == Side::Client => {
                    self.session.framing_lost(error.status(), self.now);
                    true
                }
                Err(_) => {
                    self.laws.lost();
                    self.session.origin_framing_lost(self.now);
                    true
                }
            };
            self.settle();
            fresh = &[];
            if lost {
                self.inboxes[at] = Inbox::default();
                return false;
            }
            if !message || self.inboxes[at].is_empty() || !self.session.wants(side) {
                return true;
            }
        }
    }

    /// What came behind a request that had to wait has its turn.
    fn go_on(&mut self) {
        while self.ended.is_none()
            && !self.inboxes[0].is_empty()
            && self.session.wants(Side::Client)
        {
            let waiting = self.inboxes[0].len();
            if !self.read(Side::Client, &[]) || self.inboxes[0].len() == waiting {
                return;
            }
        }
    }

    /// Does what the session wants done, then writes what waits.
    pub fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(output) = self.session.poll_output() {
            rounds += 1;
            assert!(rounds < 500, "outputs come to an end");
            self.carry_out(output);
        }
        for (at, side) in [Side::Client, Side::Origin].into_iter().enumerate() {
            let outbox = self.session.outbox(side);
            let waiting = outbox.slices().concat();
            let taken = waiting.len() * self.takes[at] / 100;
            outbox.wrote(taken);
            self.streams[at].extend_from_slice(&waiting[..taken]);
            self.laws.left(side, &waiting[..taken]);
            if let Some(record) = &mut self.record {
                record[at].extend_from_slice(&waiting[..taken]);
            }
            self.read_what_left(at);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        let answer = match output {
            Output::Authenticate(scheme) => {
                let input = self.authenticate(scheme);
                self.laws.answered(&self.session, &input, now);
                input
            }
            Output::Filter(_) => Input::Filtered(self.verdict()),
            Output::Connect { exclude, again, .. } => {
                assert!(!self.connected, "one connection at a time");
                let free = (0..self.bases.len()).find(|at| !exclude.contains(at));
                match again.or(free) {
                    None => Input::NoOrigin(Fault::OriginGone),
                    Some(index) if self.chance.chance(3) => Input::ConnectFailed(index),
                    Some(index) => {
                        self.connected = true;
                        let signer = self.credentials.clone().map(|it| Signer::new(it, 3));
                        Input::Connected(Box::new(OriginLink {
                            index,
                            name: format!("o{index}"),
                            base: self.bases[index].clone(),
                            signer,
                            keepalive: None,
                        }))
                    }
                }
            }
            Output::Bind { .. } if self.chance.chance(3) => Input::NotBound(Fault::NoPorts),
            Output::Bind { client, origin, .. } => {
                let pair = |wanted: bool| wanted.then_some((20_000, 20_001));
                Input::Bound { client: pair(client), origin: pair(origin) }
            }
            Output::Open(track, _) => {
                self.opened += 1;
                assert!(self.open.insert(track), "a track opens once");
                return;
            }
            Output::Close(track) => {
                self.open.remove(&track);
                return;
            }
            Output::DropOrigin => {
                self.connected = false;
                self.inboxes[1] = Inbox::default();
                self.laws.dropped(self.takes[1] < 100);
                self.streams[1].clear();
                return;
            }
            Output::Find(_) => Input::NotFound,
            Output::End(fault) => {
                assert!(self.ended.is_none(), "a session ends once");
                self.ended = Some(fault);
                return;
            }
            _ => return,
        };
        self.session.handle(answer, now);
    }

    /// What a guest says, who may be mad.
    fn verdict(&mut self) -> Verdict {
        let (_, message) = self.session.filtering().expect("there is a message to ask about");
        let mut bytes = message.bytes.to_vec();
        match self.chance.below(8) {
            1 => Verdict::Fault,
            2 => Verdict::Drop,
            3 | 4 => {
                mutate(&mut self.chance, &mut bytes, b"X-Guest: 1\r\n");
                let head = bytes.windows(4).position(|it| it == b"\r\n\r\n").map_or(9, |at| at + 4);
                Verdict::Edited { bytes, head }
            }
            5 => {
                let header =
                    |name: &str, value: &[u8]| Header { name: name.into(), value: value.into() };
                let mut value = b"yes".to_vec();
                mutate(&mut self.chance, &mut value, b"a\r\nCSeq: 7");
                let headers = vec![header("Session", b"theirs"), header("X-Guest", &value)];
                let status = *self.chance.one(&[403, 200, 299, 300, 451, 599, 600]);
                Verdict::Reject(Reply { status, headers, body: value })
            }
            _ => Verdict::Pass,
        }
    }

    fn authenticate(&self, scheme: config::Auth) -> Input {
        if let config::Auth::Plugin(_) = scheme {
            return if self.requests.is_multiple_of(3) {
                Input::AuthFailed
            } else {
                Input::Granted { user: String::new() }
            };
        }
        let (raw, head) = self.session.deciding().unwrap();
        let head = Head::parse(&raw[..head]).unwrap();
        let authorization = head.header("Authorization").map(|header| header.value);
        let (uri, client) = (head.uri().unwrap(), "192.0.2.7".parse().unwrap());
        let method = head.method_bytes();
        match self.verifier.check(scheme, method, uri, authorization, self.now, client) {
            Decision::Granted { user } => Input::Granted { user },
            Decision::Challenge(values) | Decision::Wrong { challenge: values, .. } => {
                Input::Challenge(values.into_iter().map(String::into_bytes).collect())
            }
            Decision::Refused => Input::Denied,
        }
    }

    /// What left is whole and well formed, whatever came in.
    pub fn check(&mut self) {
        for at in 0..2 {
            let side = [Side::Client, Side::Origin][at];
            let whole = self.session.outbox(side).is_empty();
            assert!(!whole || self.streams[at].is_empty(), "what leaves a side is whole");
        }
        assert!(self.answers <= self.requests, "{} for {}", self.answers, self.requests);
        let tracks: HashSet<u8> = self.session.tracks().iter().map(|track| track.id).collect();
        assert_eq!(tracks, self.open, "what is set up is relayed, and nothing else");
    }

    /// The peer of a side reads whole messages and frames.
    fn read_what_left(&mut self, at: usize) {
        let stream = core::mem::take(&mut self.streams[at]);
        let text = || String::from_utf8_lossy(&stream).into_owned();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let unit = match Framer::default().next(rest) {
                Ok(Progress::Ready(unit)) => unit,
                Ok(Progress::NeedMore) => break,
                other => panic!("{other:?}: framing is lost toward side {at}: {:?}", text()),
            };
            if let Unit::Message { head, .. } = unit {
                let head = Head::parse(&rest[..head]);
                let head = head.unwrap_or_else(|error| panic!("{error}: {:?}", text()));
                self.answers += usize::from(at == 0 && head.is_response());
            }
            rest = &rest[unit.len()..];
        }
        self.streams[at] = rest.to_vec();
    }
}
