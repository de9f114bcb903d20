//! Sessions under peers that answer late, twice, never, or nonsense: seeded, replayable with
//! `EDGEWEIR_SEED=n`, with the rules of the conversation checked after each step.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod laws;

use core::time::Duration;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use edgeweir::{
    clock::Instant,
    config::{Auth, text},
    origin::Table,
    plugin::hooks::{Header, Reply, Verdict},
    rtsp::{
        Head, Method,
        framing::{Framer, Progress, Unit},
        url::Base,
    },
    session::{Bounds, Fault, Feed, Inbox, Input, OriginLink, Output, Session, Side, Surroundings},
};
use laws::Laws;

const SEEDS: u64 = 400;
const STEPS: usize = 300;

/// One world in four has no filters.
const FILTERS: [&str; 4] =
    ["", "filters = [\"p\"]", "filters = [\"p\", \"r\"]", "filters = [\"r\"]"];

/// What is for some only, as it may be configured.
const PRIVATE: [&str; 3] = [
    "[[route]]\npath = \"/private/**\"\norigins = [\"a\"]\nauth = \"digest\"\n\
     [[route]]\npath = \"/token/*\"\norigins = [\"a\", \"b\"]\nauth = \"plugin:p\"\n",
    "[[route]]\npath = \"/private/**\"\norigins = [\"a\"]\nauth = \"basic\"\n\
     [[route]]\npath = \"/token/*\"\norigins = [\"b\"]\nauth = \"plugin:r\"\n",
    "[[route]]\npath = \"/private/**\"\norigins = [\"b\"]\nauth = \"digest\"\n",
];

fn table(private: &str, filters: &str, seed: u64) -> Arc<Table> {
    let toml = "[[origin]]\nname = \"a\"\nurl = \"rtsp://198.51.100.1\"\n\
         [[origin]]\nname = \"b\"\nurl = \"rtsp://198.51.100.2\"\n\
         [[plugin]]\nslot = \"p\"\non_fault = \"pass\"\n[[plugin]]\nslot = \"r\"\n"
        .to_owned()
        + private
        + "[[route]]\npath = \"/live/**\"\norigins = [\"a\", \"b\"]\nauth = \"none\"\n"
        + filters;
    Arc::new(Table::new(&text::parse(&toml).unwrap(), None, seed))
}

#[test]
fn the_rules_of_the_conversation_hold_whatever_the_peers_do() {
    let replay = std::env::var("EDGEWEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replay.map_or(0..SEEDS, |seed| seed..seed + 1);
    let mut seen = HashSet::new();
    for seed in seeds {
        println!("EDGEWEIR_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            world.check();
            if world.ended.is_some() {
                break;
            }
        }
        world.finish();
        seen.extend(world.answers);
    }
    if replay.is_none() {
        for status in [200, 400, 401, 403, 404, 451, 454, 455, 461, 502, 503, 504] {
            assert!(seen.contains(&status), "the simulation never met {status}: {seen:?}");
        }
    }
}

/// xorshift64*: enough for a simulation, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap() % bound
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct World {
    rng: Rng,
    session: Session,
    laws: Laws,
    filters: &'static str,
    /// How often the client asks for what is not its usual presentation, in percent.
    strays: usize,
    /// The origin has not taken all that waits for it.
    stalled: bool,
    now: Instant,
    inboxes: [Inbox; 2],
    granted: laws::farewell::Granted,
    /// What the client asked and has no answer for, by CSeq, in order.
    asked: VecDeque<u32>,
    cseq: u32,
    /// Requests that reached the origin and that it may still answer.
    at_origin: Vec<(u32, Method)>,
    connected: bool,
    bound: HashSet<u8>,
    open: HashSet<u8>,
    ended: Option<Fault>,
    answers: HashSet<u16>,
    /// The session id that the client was told last.
    id: String,
    to_client: Vec<u8>,
    to_origin: Vec<u8>,
}

impl World {
    fn new(seed: u64) -> Self {
        let filters = FILTERS[usize::try_from(seed).unwrap() % FILTERS.len()];
        let around = Surroundings {
            client_ip: "192.0.2.7".parse().unwrap(),
            local_ip: "192.0.2.1".parse().unwrap(),
            authority: b"rtsp://192.0.2.1:8554".to_vec(),
            pseudonym: "edgeweir".into(),
            via_in_1_0: false,
            ids: laws::ids::source(),
            answer_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            silence_timeout: Duration::from_secs(10),
            media_queue: Bounds { bytes: 4096, age: Duration::from_secs(2) },
            detach: seed.is_multiple_of(3),
            aliases: [7; 32].into(),
        };
        let now = Instant::from_millis(1);
        let table = table(PRIVATE[0], filters, seed);
        Self {
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            laws: Laws::new(&table),
            filters,
            strays: [5, 10, 40][usize::try_from(seed).unwrap() % 3],
            stalled: false,
            session: Session::new(around, table, now),
            now,
            inboxes: [Inbox::default(), Inbox::default()],
            granted: laws::farewell::Granted::default(),
            asked: VecDeque::new(),
            cseq: 0,
            at_origin: Vec::new(),
            connected: false,
            bound: HashSet::new(),
            open: HashSet::new(),
            ended: None,
            answers: HashSet::new(),
            id: "none-yet".into(),
            to_client: Vec::new(),
            to_origin: Vec::new(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=39 => self.client_asks(),
            40..=79 => self.origin_answers(),
            80..=84 => self.origin_asks(),
            85..=89 => self.frame(),
            90..=97 => {
                let spans = [1, 50, 400, 3_000, 9_000, 30_000];
                let millis = spans[self.rng.below(spans.len())];
                self.now = self.now + Duration::from_millis(millis);
                self.session.tick(self.now);
            }
            98 if self.rng.chance(30) => self.configure(),
            98 if self.connected => {
                self.laws.lost();
                self.granted.closed();
                self.session.handle(Input::SideClosed(Side::Origin), self.now);
            }
            _ if self.rng.chance(10) => {
                self.session.handle(Input::SideClosed(Side::Client), self.now);
            }
            _ => {}
        }
        self.settle();
    }

    /// What is for some only changes hands, or is gone.
    fn configure(&mut self) {
        let private = PRIVATE[self.rng.below(PRIVATE.len())];
        let table = table(private, self.filters, 1);
        self.laws.know(&table);
        self.session.set_table(table);
    }

    /// Who checks the client says, by chance.
    fn authenticate(&mut self, scheme: Auth) -> Input {
        let plugin = matches!(scheme, Auth::Plugin(_));
        match self.rng.below(10) {
            0..=4 if !plugin => Input::Granted { user: "viewer".into() },
            0..=2 => Input::GrantedFor(Duration::ZERO),
            3..=4 => Input::GrantedFor(Duration::from_secs(20)),
            5 => Input::Denied,
            6 if plugin => Input::DeniedAs(403),
            7 if plugin => Input::AuthFailed,
            _ => Input::Challenge(vec![b"Basic realm=\"sim\"".to_vec()]),
        }
    }

    fn client_asks(&mut self) {
        if !self.session.wants(Side::Client) {
            return;
        }
        self.cseq += 1;
        let cseq = self.cseq;
        let methods = [
            "OPTIONS",
            "DESCRIBE",
            "SETUP",
            "SETUP",
            "SETUP",
            "PLAY",
            "PLAY",
            "PAUSE",
            "TEARDOWN",
            "GET_PARAMETER",
            "SET_PARAMETER",
            "ANNOUNCE",
            "RECORD",
            "X-VENDOR",
        ];
        let method = methods[self.rng.below(methods.len())];
        let urls = ["/live/a", "/live/a/t1", "/live/a/t2"];
        let others = [
            "/x",
            "/private/a",
            "/private/a/t1",
            "/private/b?x",
            "/token/a/t1",
            "/token/a?t=1",
            "/token/b",
            "/live/../private/a",
            "/live//a",
            "/%70rivate/a",
            "/live/a/gateway-url-AAAA",
            "/",
        ];
        let usual = self.rng.chance(100 - self.strays);
        let path =
            if usual { urls[self.rng.below(3)] } else { others[self.rng.below(others.len())] };
        let url = format!("rtsp://gw{path}");
        let transports = [
            "RTP/AVP;unicast;client_port=5000-5001",
            "RTP/AVP/TCP;unicast;interleaved=0-1",
            "RTP/AVP/TCP;unicast",
            "RTP/AVP;multicast, RTP/AVP/TCP;interleaved=2-3",
            "RAW/RAW/UDP",
        ];
        let mut message = format!("{method} {url} RTSP/1.0\r\nCSeq: {cseq}\r\n");
        if method == "SETUP" {
            let transport = transports[self.rng.below(transports.len())];
            message.push_str(&format!("Transport: {transport}\r\n"));
        }
        if self.rng.chance(50) {
            let id = match self.rng.below(8) {
                0 => "S1".into(),
                1 => format!("{};timeout=30", self.id),
                _ => self.id.clone(),
            };
            message.push_str(&format!("Session: {id}\r\n"));
        }
        message.push_str("\r\n");
        self.asked.push_back(cseq);
        self.feed(Side::Client, message.as_bytes());
    }

    fn origin_answers(&mut self) {
        if !self.connected || self.at_origin.is_empty() {
            return;
        }
        let at = self.rng.below(self.at_origin.len());
        let (cseq, method) = self.at_origin[at];
        // Sometimes it stays, and is answered again.
        if self.rng.chance(90) {
            self.at_origin.remove(at);
        }
        if self.rng.chance(5) {
            return; // never
        }
        let statuses = [200, 200, 200, 200, 200, 200, 100, 302, 401, 404, 454, 461, 500, 503];
        let status = statuses[self.rng.below(statuses.len())];
        let mut answer = format!("RTSP/1.0 {status} X\r\nCSeq: {cseq}\r\n");
        if self.rng.chance(80) {
            let ids = ["S1", "S1;timeout=5", "S2"];
            answer.push_str(&format!("Session: {}\r\n", ids[self.rng.below(ids.len())]));
        }
        let transports = [
            "RTP/AVP;unicast;server_port=6000-6001",
            "RTP/AVP/TCP;interleaved=0-1",
            "RTP/AVP/TCP;interleaved=6-7",
            "nonsense",
        ];
        if method == Method::Setup && self.rng.chance(90) {
            let transport = transports[self.rng.below(transports.len())];
            answer.push_str(&format!("Transport: {transport}\r\n"));
        }
        if status == 302 {
            answer.push_str("Location: rtsp://203.0.113.5/x\r\n");
        }
        answer.push_str("\r\n");
        if self.rng.chance(2) {
            answer = "\u{1} nonsense \r\n\r\n".into();
        }
        self.feed(Side::Origin, answer.as_bytes());
    }

    fn origin_asks(&mut self) {
        if self.connected {
            let cseq = self.rng.below(1000);
            let request = format!(
                "GET_PARAMETER rtsp://198.51.100.1/live/a RTSP/1.0\r\nCSeq: {cseq}\r\n\r\n"
            );
            self.feed(Side::Origin, request.as_bytes());
        }
    }

    fn frame(&mut self) {
        let side = if self.rng.chance(70) { Side::Origin } else { Side::Client };
        if side == Side::Origin && !self.connected {
            return;
        }
        let channel = u8::try_from(self.rng.below(8)).unwrap();
        let payload = vec![b'm'; self.rng.below(600)];
        let [high, low] = u16::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[b'$', channel, high, low], &payload[..]].concat();
        self.feed(side, &frame);
    }

    fn feed(&mut self, side: Side, mut fresh: &[u8]) {
        let at = usize::from(side == Side::Origin);
        loop {
            let (session, laws, now) = (&mut self.session, &mut self.laws, self.now);
            let granted = &mut self.granted;
            let mut message = false;
            if side == Side::Origin {
                self.inboxes[at].tolerate(session.tracks().channels(side));
            }
            let fed = self.inboxes[at].feed(fresh, |unit, bytes| match unit {
                Unit::Frame { channel, .. } => {
                    if let Some(edgeweir::session::FrameRoute::Frame(there)) =
                        session.frame(side, channel, &bytes[4..], now)
                    {
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
                        granted.heard(&bytes[..head]);
                    }
                    session.message(side, bytes, head, now);
                    message = true;
                    Feed::Pause
                }
                Unit::Blank { .. } => Feed::Go,
            });
            if fed.is_err() {
                self.granted.closed();
                assert_eq!(side, Side::Origin, "the client of this test speaks well");
                self.laws.lost();
                self.session.origin_framing_lost(self.now);
            }
            self.settle();
            fresh = &[];
            if !message || self.inboxes[at].is_empty() {
                return;
            }
        }
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while let Some(output) = self.session.poll_output() {
            rounds += 1;
            assert!(rounds < 1000, "outputs come to an end");
            self.carry_out(output);
        }
        for side in [Side::Client, Side::Origin] {
            // A slow peer takes a part of what waits.
            let part = if self.rng.chance(70) { 100 } else { self.rng.below(100) };
            let waiting = self.session.outbox(side).slices().concat();
            let taken = waiting.len() * part / 100;
            self.session.outbox(side).wrote(taken);
            if side == Side::Client || self.connected {
                self.laws.left(side, &waiting[..taken]);
            }
            if side == Side::Origin {
                self.stalled = taken < waiting.len();
            }
            match side {
                Side::Client => self.to_client.extend_from_slice(&waiting[..taken]),
                Side::Origin if self.connected => {
                    self.granted.wrote(&waiting[..taken]);
                    self.to_origin.extend_from_slice(&waiting[..taken]);
                }
                Side::Origin => {}
            }
        }
        self.read_client_side();
        self.read_origin_side();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Authenticate(scheme) => {
                let input = self.authenticate(scheme);
                self.laws.answered(&self.session, &input, self.now);
                self.session.handle(input, self.now);
            }
            Output::Filter(_) => {
                let verdict = self.verdict();
                self.session.handle(Input::Filtered(verdict), self.now);
            }
            Output::Connect { exclude, again, .. } => {
                assert!(!self.connected, "one connection at a time");
                let free: Vec<usize> = again.map_or_else(
                    || (0..2).filter(|at| !exclude.contains(at)).collect(),
                    |at| vec![at],
                );
                let input = match free.first() {
                    None => Input::NoOrigin(Fault::OriginGone),
                    Some(at) if self.rng.chance(10) => Input::ConnectFailed(*at),
                    Some(at) => {
                        self.connected = true;
                        self.at_origin.clear();
                        self.to_origin.clear();
                        Input::Connected(Box::new(OriginLink {
                            index: *at,
                            name: format!("o{at}"),
                            base: Base {
                                authority: b"rtsp://198.51.100.1:554".to_vec(),
                                path: Vec::new(),
                            },
                            signer: None,
                            keepalive: None,
                        }))
                    }
                };
                self.session.handle(input, self.now);
            }
            Output::Bind { track, client, origin, .. } => {
                let input = if self.rng.chance(5) {
                    Input::NotBound(Fault::NoPorts)
                } else {
                    self.bound.insert(track);
                    let pair = |wanted: bool| wanted.then_some((20_000, 20_001));
                    Input::Bound { client: pair(client), origin: pair(origin) }
                };
                self.session.handle(input, self.now);
            }
            Output::Open(track, _) => {
                assert!(self.bound.contains(&track), "a track's ports are bound before it opens");
                assert!(self.open.insert(track), "a track opens once");
            }
            Output::Close(track) => {
                self.open.remove(&track);
                self.bound.remove(&track);
            }
            Output::DropOrigin => {
                self.laws.dropped(self.stalled);
                let left = self.granted.left();
                assert!(
                    self.stalled || left.is_empty(),
                    "sessions {left:?} are ended before the connection is"
                );
                self.granted.closed();
                self.connected = false;
                self.inboxes[1] = Inbox::default();
                self.to_origin.clear();
            }
            Output::Find(_) => self.session.handle(Input::NotFound, self.now),
            Output::Detach(_) => {
                // Its client comes back at once; what it had asked is not answered any more.
                self.asked.clear();
                self.to_client.clear();
                self.laws.ended();
                self.session.handle(Input::Attached, self.now);
            }
            Output::Seen(..) | Output::Note(_) | Output::Flows => {}
            Output::End(fault) => {
                assert!(self.ended.is_none(), "a session ends once");
                self.ended = Some(fault);
            }
        }
    }

    /// A filter's verdict by chance, some of them such as no host would let through.
    fn verdict(&mut self) -> Verdict {
        let (_, message) = self.session.filtering().expect("there is a message to ask about");
        let (bytes, head) = (message.bytes.to_vec(), message.outline.len);
        assert!(!message.method.is_empty(), "a method is always known");
        let insert = |at: usize, text: &[u8]| [&bytes[..at], text, &bytes[at..]].concat();
        let end = head - 2;
        match self.rng.below(20) {
            0 => Verdict::Fault,
            1 => Verdict::Drop,
            2 => {
                let status = [200, 299, 300, 451, 503, 599, 600][self.rng.below(7)];
                let header =
                    |name: &str, value: &[u8]| Header { name: name.into(), value: value.to_vec() };
                let headers = vec![
                    header("CSeq", b"99999"),
                    header("Session", b"theirs"),
                    header("X-Bad", b"a\r\nCSeq: 7"),
                    header("bad name", b"a"),
                    header("X-Good", b"yes"),
                ];
                Verdict::Reject(Reply { status, headers, body: vec![b'x'; self.rng.below(9)] })
            }
            3..=6 => {
                let line = b"X-Filter: was here\r\n";
                Verdict::Edited { bytes: insert(end, line), head: head + line.len() }
            }
            7 => Verdict::Edited { bytes: insert(end, b"CSeq: 1\r\n\r\n"), head },
            8 => Verdict::Edited { bytes: insert(bytes.len(), b"more"), head },
            9 => Verdict::Edited { bytes: Vec::new(), head: self.rng.below(3) },
            10 => Verdict::Edited { bytes, head: head + 1 },
            _ => Verdict::Pass,
        }
    }

    /// The client reads whole messages and frames only; its answers come in order, each once.
    fn read_client_side(&mut self) {
        while let Some((unit, bytes)) = next_unit(&mut self.to_client) {
            let Unit::Message { head, .. } = unit else { continue };
            let head = Head::parse(&bytes[..head]).expect("what the client gets can be parsed");
            let Some(status) = head.status() else { continue };
            self.answers.insert(status);
            if let Some(session) = head.session() {
                self.id = String::from_utf8_lossy(session.id).into_owned();
            }
            let cseq = head.cseq().expect("answers carry the number of their request");
            let next = self.asked.pop_front();
            assert_eq!(next, Some(cseq), "answers leave in the order of the requests");
        }
    }

    fn read_origin_side(&mut self) {
        while let Some((unit, bytes)) = next_unit(&mut self.to_origin) {
            let Unit::Message { head, .. } = unit else { continue };
            let head = Head::parse(&bytes[..head]).expect("what the origin gets can be parsed");
            if head.is_response() {
                continue;
            }
            let cseq = head.cseq().expect("requests carry a number");
            let uri = String::from_utf8_lossy(head.uri().unwrap()).into_owned();
            assert!(uri.starts_with("rtsp://198.51.100.1:554/"), "{uri} names the origin");
            assert!(
                self.at_origin.iter().all(|(other, _)| *other != cseq),
                "numbers toward an origin do not repeat"
            );
            self.at_origin.push((cseq, head.method()));
        }
    }

    fn check(&self) {
        let tracks: HashSet<u8> = self.session.tracks().iter().map(|track| track.id).collect();
        assert_eq!(tracks, self.open, "what is set up is relayed, and nothing else");
        assert!(self.asked.len() <= 64, "the client is not read past its bound");
        if self.ended.is_none() {
            assert!(self.session.deadline().is_some(), "a session always wakes up again");
        }
    }

    fn finish(&mut self) {
        self.session.handle(Input::End(Fault::Closed), self.now);
        for _ in 0..10 {
            self.settle();
        }
        assert!(self.ended.is_some());
        // The origin answers what was under way: it has begun a session that nobody waits for.
        while let Some(at) = self.at_origin.iter().position(|(_, method)| *method == Method::Setup)
            && self.connected
            && self.session.awaits_session()
        {
            let (cseq, _) = self.at_origin.remove(at);
            let answer = format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nSession: S3\r\n\r\n");
            self.feed(Side::Origin, answer.as_bytes());
        }
        for _ in 0..10 {
            self.settle();
        }
        let left = self.granted.left();
        assert!(left.is_empty(), "sessions {left:?} of the origin are ended: {:?}", self.ended);
        assert!(self.open.is_empty(), "an ended session relays nothing");
        if self.ended != Some(Fault::Stuck) {
            assert!(self.asked.is_empty(), "every request was answered: {:?}", self.asked);
        }
        assert!(self.session.poll_output().is_none());
        self.laws.dropped(self.stalled);
    }
}

fn next_unit(stream: &mut Vec<u8>) -> Option<(Unit, Vec<u8>)> {
    match Framer::default().next(stream).expect("framing toward a peer is never lost") {
        Progress::Ready(unit) => Some((unit, stream.drain(..unit.len()).collect())),
        Progress::NeedMore => None,
    }
}
