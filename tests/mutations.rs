//! Mutated input, seeded: transcripts with bits flipped, spliced, cut, doubled and reordered, on both
//! sides; header values, SDP and URLs; configurations as text and as images. Nothing may panic,
//! spin, lose framing toward a peer or grow.
//!
//! `EDGEWEIR_SEED=n` replays one seed, `EDGEWEIR_MUTATIONS=n` plays n seeds in place of a few.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![allow(unsafe_code)] // an allocator that counts, to see that memory stays bounded

use core::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};
use std::{alloc::System, collections::HashSet, fs, path::Path, sync::Arc};

use edgeweir::{
    auth::{Account, Credentials, Decision, Signer, Verifier},
    clock::Instant,
    config::{self, image, print, text},
    origin::Table,
    plugin::hooks::Verdict,
    rtsp::{
        Head,
        framing::{Framer, Progress, Unit},
        rtp_info, sdp,
        transport::specs,
        url::{Base, Url},
    },
    session::{
        Bounds, Fault, Feed, FrameRoute, Inbox, Input, OriginLink, Output, Session, Side,
        Surroundings,
    },
};

/// Seeds that every run plays.
const SEEDS: u64 = 500;
/// What one conversation may hold: both queues of replies, both of media, twice over.
const LIVE_MAX_BYTES: usize = 4 << 20;

#[global_allocator]
static COUNTING: Counting = Counting;
static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: each call goes to the system's allocator unchanged; beside it numbers are counted.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[test]
fn mutated_input_harms_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("EDGEWEIR_SEED"), number("EDGEWEIR_MUTATIONS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let lessons = lessons();
    let mut opened = 0;
    for seed in seeds.clone() {
        let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let said = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            opened += converse(&mut rng, &lessons);
            edit(&mut rng, &lessons);
            configure(&mut rng);
        }));
        assert!(said.is_ok(), "replay with EDGEWEIR_SEED={seed}");
    }
    if seeds.end - seeds.start >= SEEDS {
        assert!(opened > 60, "mutated conversations get as far as to set up tracks: {opened}");
    }
}

/// xorshift64*: enough for a test, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound.max(1)
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Words that parsers look for, and numbers at their edges.
const WORDS: [&str; 38] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "/",
    "-",
    "$",
    "*",
    "\0",
    "\u{fffd}",
    "0",
    "65535",
    "65536",
    "4294967296",
    "99999999999999999999",
    "-1",
    "rtsp://",
    "rtsp://rtsp://",
    "[::1]",
    "[",
    "]",
    "a=control:",
    "m=video 0 RTP/AVP 96\r\n",
    "url=",
    "Content-Length: 5\r\n",
    "Content-Length: 65536\r\n",
    "CSeq: 1\r\n",
    "Session: S\r\n",
    "Transport: RTP/AVP/TCP;interleaved=254-255\r\n",
    "RTSP/2.0",
    "dest_addr=\":0\"/\":1\"",
];

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(40)).min(bytes.len());
        match rng.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 if at < bytes.len() => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 | 5 => drop(bytes.splice(at..at, rng.one(&WORDS).bytes())),
            6 => drop(bytes.splice(at..end, rng.one(&WORDS).bytes())),
            7 => {
                let from = rng.below(other.len() + 1);
                let to = (from + rng.below(200)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ if rng.chance(20) => bytes.truncate(at),
            _ => {}
        }
    }
}

/// One transcript: its options and what comes in.
struct Lesson {
    header: String,
    steps: Vec<(String, Vec<u8>)>,
}

fn lessons() -> Vec<Lesson> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| lesson(&fs::read_to_string(file).unwrap())).collect()
}

fn lesson(text: &str) -> Lesson {
    let mut lanes = text.split("--- ");
    let header = lanes.next().unwrap_or_default().to_owned();
    let steps = lanes
        .map(|lane| lane.split_once('\n').unwrap_or((lane, "")))
        .filter(|(name, _)| !name.starts_with("proxy "))
        .map(|(name, body)| (name.to_owned(), body.replace('\n', "\r\n").into_bytes()))
        .collect();
    Lesson { header, steps }
}

/// Plays a mutated transcript; how many tracks it set up.
fn converse(rng: &mut Rng, lessons: &[Lesson]) -> usize {
    let lesson = rng.one(lessons);
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let mut world = World::new(lesson, Rng(rng.0));
    let mut steps = lesson.steps.clone();
    for _ in 0..rng.below(4) {
        let (at, to) = (rng.below(steps.len()), rng.below(steps.len()));
        match rng.below(4) {
            0 if !steps.is_empty() => steps.swap(at, to),
            1 if !steps.is_empty() => drop(steps.remove(at)),
            2 if !steps.is_empty() => steps.insert(to, steps[at].clone()),
            _ => {
                let other = rng.one(lessons);
                let step = rng.one(&other.steps).clone();
                steps.insert(to, step);
            }
        }
    }
    for (lane, mut body) in steps {
        if rng.chance(25) {
            let other = rng.one(lessons);
            let other = rng.one(&other.steps).1.clone();
            mutate(rng, &mut body, &other);
        }
        world.step(rng, &lane, &body);
        world.check();
        if rng.chance(5) {
            world.pass(Duration::from_millis(1 << rng.below(15)));
        }
    }
    for _ in 0..12 {
        world.pass(Duration::from_secs(11));
    }
    assert!(world.ended.is_some(), "silence on both sides ends a session");
    let peak = PEAK.load(Relaxed) - before;
    assert!(peak < LIVE_MAX_BYTES, "{peak} bytes for one conversation");
    world.opened
}

struct World {
    rng: Rng,
    session: Session,
    verifier: Verifier,
    credentials: Option<Credentials>,
    bases: Vec<Base>,
    inboxes: [Inbox; 2],
    /// What the outboxes gave: whole units only.
    streams: [Vec<u8>; 2],
    now: Instant,
    connected: bool,
    open: HashSet<u8>,
    opened: usize,
    requests: usize,
    answers: usize,
    ended: Option<Fault>,
}

impl World {
    fn new(lesson: &Lesson, rng: Rng) -> Self {
        let options: Vec<(&str, &str)> = lesson
            .header
            .lines()
            .filter_map(|line| line.strip_prefix('@')?.split_once(' '))
            .collect();
        let all = |name: &str| -> Vec<&str> {
            options.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect()
        };
        let mut urls = all("origin");
        if urls.is_empty() {
            urls.push("rtsp://198.51.100.20:554");
        }
        let (mut toml, mut names) = (String::new(), Vec::new());
        for (at, url) in urls.iter().enumerate() {
            let url = url.trim_start_matches("dead ");
            toml += &format!("[[origin]]\nname = \"o{at}\"\nurl = \"{url}\"\n");
            names.push(format!("o{at}"));
        }
        let route = all("route").first().copied().unwrap_or("/**");
        toml += &format!("[[route]]\npath = \"{route}\"\norigins = {names:?}\n");
        toml += &all("set").join("\n");
        for (slot, on_fault) in all("plugin").iter().filter_map(|it| it.split_once(' ')) {
            toml += &format!("\n[[plugin]]\nslot = \"{slot}\"\non_fault = \"{on_fault}\"\n");
        }
        let table = Arc::new(Table::new(&text::parse(&toml).unwrap(), None, 1));
        let bases = table.origins().iter().map(|origin| Base {
            authority: origin.authority().to_vec(),
            path: origin.path().to_vec(),
        });
        let bases = bases.collect();
        let around = Surroundings {
            client_ip: "192.0.2.7".parse().unwrap(),
            local_ip: "192.0.2.1".parse().unwrap(),
            authority: b"rtsp://192.0.2.1:8554".to_vec(),
            via: all("via").first().copied().unwrap_or_default().to_owned(),
            answer_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(10),
            media_queue: Bounds { bytes: 65_536, age: Duration::from_secs(2) },
            detach: !all("detach").is_empty(),
        };
        let now = Instant::from_millis(1_000);
        Self {
            rng,
            session: Session::new(around, table, now),
            verifier: Verifier::new(vec![Account::new("viewer", "secret")], [7; 32]),
            credentials: all("credentials").first().map(|text| {
                let (user, password) = text.split_once(':').unwrap();
                Credentials::new(user, password)
            }),
            bases,
            inboxes: [Inbox::default(), Inbox::default()],
            streams: [Vec::new(), Vec::new()],
            now,
            connected: false,
            open: HashSet::new(),
            opened: 0,
            requests: 0,
            answers: 0,
            ended: None,
        }
    }

    fn step(&mut self, rng: &mut Rng, lane: &str, body: &[u8]) {
        match lane {
            "client > proxy" => self.feed(rng, Side::Client, body),
            "origin > proxy" if self.connected => self.feed(rng, Side::Origin, body),
            "client closes" => self.session.handle(Input::SideClosed(Side::Client), self.now),
            "origin closes" if self.connected => {
                self.session.handle(Input::SideClosed(Side::Origin), self.now);
            }
            "operator closes" => self.session.handle(Input::End(Fault::Closed), self.now),
            "media flows" => self.session.alive(Side::Origin, self.now),
            lane => {
                let seconds = lane.strip_prefix("seconds pass: ").map(|text| text.parse::<f64>());
                if let Some(Ok(seconds)) = seconds {
                    self.pass(Duration::from_secs_f64(seconds));
                }
            }
        }
        self.settle();
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.session.tick(self.now);
        self.settle();
        if let Some((due, why)) = self.session.deadline() {
            assert!(
                due > self.now,
                "{why:?} is due at {due:?}, it is {:?}: {:?}",
                self.now,
                self.session
            );
        }
    }

    /// In reads of any length, as a socket gives them.
    fn feed(&mut self, rng: &mut Rng, side: Side, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let cut = if rng.chance(60) { bytes.len() } else { 1 + rng.below(bytes.len()) };
            let (part, rest) = bytes.split_at(cut);
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
            let mut message = false;
            let fed = self.inboxes[at].feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    let to = session.frame(side, channel, &bytes[4..], now);
                    if let Some(FrameRoute::Frame(there)) = to {
                        session.outbox(side.other()).push_frame(there, &bytes[4..], now);
                    }
                    Feed::Go
                }
                Unit::Message { head, .. } => {
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

    fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(output) = self.session.poll_output() {
            rounds += 1;
            assert!(rounds < 500, "outputs come to an end");
            self.carry_out(output);
        }
        for (at, side) in [Side::Client, Side::Origin].into_iter().enumerate() {
            let outbox = self.session.outbox(side);
            let waiting = outbox.slices().concat();
            outbox.wrote(waiting.len());
            self.streams[at].extend_from_slice(&waiting);
        }
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.now;
        let answer = match output {
            Output::Authenticate(scheme) => self.authenticate(scheme),
            Output::Filter(_) => Input::Filtered(self.verdict()),
            Output::Connect { exclude, .. } => {
                assert!(!self.connected, "one connection at a time");
                match (0..self.bases.len()).find(|at| !exclude.contains(at)) {
                    None => Input::NoOrigin(Fault::OriginGone),
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
        let bytes = message.bytes.to_vec();
        match self.rng.below(8) {
            0 => Verdict::Fault,
            1 => Verdict::Drop,
            2 | 3 => {
                let mut bytes = bytes;
                mutate(&mut self.rng, &mut bytes, b"X-Guest: 1\r\n");
                let head = bytes.windows(4).position(|it| it == b"\r\n\r\n").map_or(9, |at| at + 4);
                Verdict::Edited { bytes, head }
            }
            _ => Verdict::Pass,
        }
    }

    fn authenticate(&self, scheme: config::Auth) -> Input {
        if let config::Auth::Plugin(_) = scheme {
            return if self.requests.is_multiple_of(3) {
                Input::AuthFailed
            } else {
                Input::Granted
            };
        }
        let (raw, head) = self.session.deciding().unwrap();
        let head = Head::parse(&raw[..head]).unwrap();
        let authorization = head.header("Authorization").map(|header| header.value);
        let (uri, client) = (head.uri().unwrap(), "192.0.2.7".parse().unwrap());
        let method = head.method_bytes();
        match self.verifier.check(scheme, method, uri, authorization, self.now, client) {
            Decision::Granted { .. } => Input::Granted,
            Decision::Challenge(values) => {
                Input::Challenge(values.into_iter().map(String::into_bytes).collect())
            }
            Decision::Refused => Input::Denied,
        }
    }

    /// What left is whole and well formed, whatever came in.
    fn check(&mut self) {
        for at in 0..2 {
            let stream = core::mem::take(&mut self.streams[at]);
            let mut rest = &stream[..];
            while !rest.is_empty() {
                let text = || String::from_utf8_lossy(&stream).into_owned();
                let unit = match Framer::default().next(rest) {
                    Ok(Progress::Ready(unit)) => unit,
                    other => panic!("{other:?}: framing is lost toward side {at}: {:?}", text()),
                };
                if let Unit::Message { head, .. } = unit {
                    let head = Head::parse(&rest[..head]);
                    let head = head.unwrap_or_else(|error| panic!("{error}: {:?}", text()));
                    self.answers += usize::from(at == 0 && head.is_response());
                }
                rest = &rest[unit.len()..];
            }
        }
        assert!(self.answers <= self.requests, "{} for {}", self.answers, self.requests);
        let tracks: HashSet<u8> = self.session.tracks().iter().map(|track| track.id).collect();
        assert_eq!(tracks, self.open, "what is set up is relayed, and nothing else");
    }
}

/// Parsers and editors by themselves: spans lie within what was parsed, and nothing edited is
/// nothing changed.
fn edit(rng: &mut Rng, lessons: &[Lesson]) {
    let lesson = rng.one(lessons);
    let mut bytes = rng.one(&lesson.steps).1.clone();
    let other = rng.one(lessons);
    let other = rng.one(&other.steps).1.clone();
    mutate(rng, &mut bytes, &other);
    if let Ok(head) = Head::parse(&bytes) {
        for header in head.headers() {
            edit_value(rng, header.value);
        }
        edit_value(rng, head.uri().unwrap_or_default());
        let _ = (head.session(), head.cseq(), head.content_length(), head.version());
    }
    for control in sdp::controls(&bytes) {
        assert!(within(control.value, &bytes), "a control lies within the description");
        edit_value(rng, control.value);
    }
    assert!(sdp::medias(&bytes).count() <= bytes.len());
    edit_value(rng, &bytes);
}

fn edit_value(rng: &mut Rng, value: &[u8]) {
    for spec in specs(value) {
        let mut out = Vec::new();
        spec.edit().write(&mut out);
        assert!(value.windows(out.len().max(1)).any(|part| part == out) || out.is_empty());
        let names = ["client_port", "interleaved", "dest_addr", "ssrc", "RTCP-mux"];
        let name = *rng.one(&names);
        let mut out = Vec::new();
        spec.edit().set(name, b"6-7").remove("source").flag("x").write(&mut out);
        if !value.contains(&b'"') {
            let again = specs(&out).next().expect("an edited spec is one");
            assert_eq!(again.param(name), Some(&b"6-7"[..]), "{value:?}");
        }
        let _ = (spec.client_port(), spec.server_port(), spec.dest_addr(), spec.src_addr());
        let _ = (spec.lower(), spec.interleaved(), spec.is_multicast());
    }
    let mut end = 0;
    for span in rtp_info::urls(value) {
        assert!(span.start >= end && span.end <= value.len(), "{span:?} follows {end}");
        end = span.end;
    }
    if let Ok(url) = Url::parse(value) {
        assert!(within(url.path(), value) && within(url.host, value));
    }
}

fn within(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.as_ptr_range().contains(&part.as_ptr())
}

/// What is taken for a configuration is one: it can be printed, stored and read back.
fn configure(rng: &mut Rng) {
    let example = include_bytes!("../src/config/example.toml");
    let other = include_bytes!("../tests/images/config-v2.bin");
    let mut bytes = example.to_vec();
    mutate(rng, &mut bytes, example);
    let toml = String::from_utf8_lossy(&bytes);
    match text::parse(&toml) {
        Ok(config) => {
            assert_eq!(text::parse(&print::print(&config)).as_ref(), Ok(&config));
            let stored = image::encode(&config, 7);
            assert_eq!(image::decode(&stored), Ok((config, 7)));
        }
        Err(error) => {
            let said = error.display("f").to_string();
            assert!(!said.contains('\n') && said.len() < 2000, "one line: {said:?}");
        }
    }
    let mut stored = other.to_vec();
    mutate(rng, &mut stored, other);
    let body = stored.len().saturating_sub(4);
    if rng.chance(80) {
        let crc = crc32(&stored[..body]).to_le_bytes();
        stored.truncate(body);
        stored.extend_from_slice(&crc);
    }
    if let Ok((config, _)) = image::decode(&stored) {
        let printed = print::print(&config);
        assert_eq!(text::parse(&printed).as_ref(), Ok(&config), "{printed}");
    }
}

/// CRC-32 as in zip, so that what is mutated gets past the checksum.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}
