//! However the network cuts a byte stream, the same units come out; and no bytes at all panic what
//! reads them. Conversations go on alike however they are cut, and keep the laws.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use edgeweir::{
    limits::{
        BLANK_MAX_BYTES, BODY_MAX_BYTES, FRAME_MAX_BYTES, HEAD_MAX_BYTES, HEADER_LINE_MAX_BYTES,
        HEADERS_MAX, METHOD_MAX_BYTES, START_LINE_MAX_BYTES,
    },
    rtsp::{
        Framer, FramingError, Head, Progress, Unit, Url,
        emit::{Manner, clean, is_clean},
        resync::Channels,
        rtp_info, sdp,
        transport::specs,
    },
    session::{Feed, Inbox},
};

use world::laws::wire;
use world::{
    World,
    chance::Chance,
    lessons::{Lesson, lessons},
};

/// Units of a stream, the bytes of each beside it; empty lines in a row count as one unit.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    units: Vec<(Unit, Vec<u8>)>,
    left: Vec<u8>,
    error: Option<FramingError>,
}

/// What comes out when the stream arrives in these parts.
fn feed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Seen {
    let mut framer = Framer::default();
    let mut seen = Seen::default();
    for part in parts {
        seen.left.extend_from_slice(part);
        while seen.error.is_none() {
            match framer.next(&seen.left) {
                Ok(Progress::NeedMore) => break,
                Ok(Progress::Ready(unit)) => {
                    assert!(unit.len() > 0 && unit.len() <= seen.left.len(), "{unit:?}");
                    let bytes = seen.left.drain(..unit.len()).collect();
                    push(&mut seen.units, unit, bytes);
                }
                Err(error) => seen.error = Some(error),
            }
        }
    }
    seen
}

fn push(units: &mut Vec<(Unit, Vec<u8>)>, unit: Unit, mut bytes: Vec<u8>) {
    if let (Unit::Blank { len }, Some((Unit::Blank { len: before }, blank))) =
        (unit, units.last_mut())
    {
        *before += len;
        blank.append(&mut bytes);
        return;
    }
    units.push((unit, bytes));
}

const SAMPLES: [(&str, &[u8]); 17] = [
    ("a player asks", b"OPTIONS rtsp://gw/cam1 RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: Lavf\r\n\r\n"),
    ("lf only", b"DESCRIBE rtsp://gw/cam1 RTSP/1.0\nCSeq: 2\nAccept: application/sdp\n\n"),
    ("mixed line ends", b"PLAY rtsp://gw/cam1/ RTSP/2.0\nCSeq: 3\r\nSession: 12345678\n\r\n"),
    (
        "a body, then a frame, then an answer",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 12\r\n\r\nv=0\r\nm=video$\x01\0\x03$\r\nRTSP/1.0 200 OK\r\n\r\n",
    ),
    ("status line without reason", b"RTSP/1.0 200\r\nCSeq: 4\r\n\r\n"),
    (
        "folded header and a line of one space",
        b"SETUP rtsp://h/t RTSP/1.0\r\nTransport: RTP/AVP;\r\n unicast\r\n \r\nCSeq: 5\r\n\r\n",
    ),
    ("folded content-length", b"RTSP/1.0 200 OK\r\nContent-Length:\r\n\t3\r\n\r\nabc"),
    ("content-length in odd spelling", b"RTSP/1.0 200 OK\ncontent-LENGTH :  0003 \n\nabcOPT"),
    ("empty lines around", b"\r\n\n\rOPTIONS * RTSP/1.0\r\n\r\n\r\n\r\n$\0\0\0\r\n$\x07\0\x01x"),
    ("frames alone", b"$\0\0\x02ab$\x01\0\0$\xff\0\x04$$$$"),
    ("a body that looks like a message", b"RTSP/1.0 200 OK\nContent-Length: 20\n\nPLAY * RTSP/1.0\r\n\r\n_$\0\0\x01z"),
    ("raw utf-8 and spaces in a url", b"DESCRIBE rtsp://h/K\xc3\xbcche 1 RTSP/1.0\r\n\r\n"),
    ("the beginning of a message", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nabc"),
    ("not rtsp", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("tls", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"),
    ("cr only", b"OPTIONS * RTSP/1.0\rCSeq: 1\r\r"),
    (
        "two content-lengths",
        b"RTSP/1.0 200 OK\r\n\r\nRTSP/1.0 200 OK\r\nContent-Length: 1\r\nX: y\r\nContent-Length: 2\r\n\r\nab",
    ),
];

#[test]
fn two_feeds_give_what_one_gives() {
    for (name, bytes) in SAMPLES {
        let whole = feed([bytes]);
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            check_same(name, &feed([one, other]), &whole, bytes);
        }
    }
}

#[test]
fn every_transcript_gives_the_same_however_its_bytes_come() {
    for lesson in lessons() {
        let whole = play(&lesson, usize::MAX);
        for most in [1, 2, 7, 100] {
            let [client, origin] = play(&lesson, most);
            let same = |cut: &[u8], whole: &[u8]| {
                let (cut, whole) = (String::from_utf8_lossy(cut), String::from_utf8_lossy(whole));
                assert_eq!(cut, whole, "in reads of {most} bytes");
            };
            same(&client, &whole[0]);
            same(&origin, &whole[1]);
        }
    }
}

/// What left toward client and origin when a transcript came in reads of that length.
fn play(lesson: &Lesson, most: usize) -> [Vec<u8>; 2] {
    let mut world = World::new(&lesson.header, Chance::Script(Default::default())).unwrap();
    world.record = Some(Default::default());
    for (lane, body) in &lesson.steps {
        world.step(lane, body, &mut |left| left.min(most));
        world.check();
    }
    world.record.take().unwrap()
}

#[test]
fn all_samples_in_a_row_survive_every_cut() {
    let good =
        SAMPLES.iter().take(12).filter(|(name, _)| *name != "content-length in odd spelling");
    let stream: Vec<u8> = good.flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    let whole = feed([&stream[..]]);
    assert_eq!((whole.error, whole.left.len()), (None, 0));
    for cut in 0..=stream.len() {
        let (one, other) = stream.split_at(cut);
        check_same("in a row", &feed([one, other]), &whole, &stream);
    }
    check_same("in a row, dripping", &feed(stream.chunks(1)), &whole, &stream);
}

#[test]
fn a_byte_at_a_time_gives_what_one_feed_gives() {
    for (name, bytes) in SAMPLES {
        check_same(name, &feed(bytes.chunks(1)), &feed([bytes]), bytes);
    }
}

/// Bytes past an error are nobody's, so what is left is compared only without one.
fn check_same(name: &str, cut: &Seen, whole: &Seen, bytes: &[u8]) {
    assert_eq!((&cut.units, cut.error), (&whole.units, whole.error), "{name}");
    if whole.error.is_none() {
        assert_eq!(cut.left, whole.left, "{name}");
        let out: Vec<u8> = cut.units.iter().flat_map(|(_, unit)| unit.iter().copied()).collect();
        assert_eq!([out, cut.left.clone()].concat(), bytes, "{name}: no byte is lost");
    }
}

/// Each limit at the bound and one past it, whole, cut in two near the end, and dripping.
#[test]
fn limits_hold_however_the_bytes_come() {
    let request = |line: &str| format!("OPTIONS * RTSP/1.0\r\n{line}\r\n\r\n");
    let a = |count: usize| "a".repeat(count);
    let start = |len: usize| format!("OPTIONS {} RTSP/1.0\r\n\r\n", a(len - 17));
    let method = |len: usize| format!("{} * RTSP/1.0\r\n\r\n", a(len));
    let header = |len: usize| request(&format!("A:{}", a(len - 2)));
    let folded = |len: usize| request(&format!("A:\r\n {}", a(len - 5)));
    let headers = |count: usize| request(vec!["A: b"; count].join("\r\n").as_str());
    let body = |len: usize| request(&format!("Content-Length: {len}")) + &a(len);
    let blank = |len: usize| "\n".repeat(len) + &request("A: b");
    type Case<'a> = (&'static str, usize, &'a dyn Fn(usize) -> String, u16);
    let cases: [Case<'_>; 8] = [
        ("start line", START_LINE_MAX_BYTES, &start, 414),
        ("method", METHOD_MAX_BYTES, &method, 400),
        ("header line", HEADER_LINE_MAX_BYTES, &header, 400),
        ("folded header", HEADER_LINE_MAX_BYTES, &folded, 400),
        ("headers", HEADERS_MAX, &headers, 400),
        ("head", HEAD_MAX_BYTES, &head_of, 400),
        ("body", BODY_MAX_BYTES, &body, 413),
        ("empty lines", BLANK_MAX_BYTES, &blank, 400),
    ];
    for (name, bound, make, status) in cases {
        for (len, expected) in [(bound, None), (bound + 1, Some(status))] {
            let text = make(len);
            let bytes = text.as_bytes();
            let near_end = bytes.split_at(bytes.len() - 3);
            for seen in [feed([bytes]), feed([near_end.0, near_end.1]), feed(bytes.chunks(1))] {
                let found = seen.error.map(|error| error.status());
                assert_eq!(found, expected, "{name} of {len}: {:?}", seen.error);
                assert!(expected.is_some() || seen.left.is_empty(), "{name} of {len}");
            }
        }
    }
}

/// A request whose head has exactly so many bytes, in lines of bearable length.
fn head_of(len: usize) -> String {
    let mut text = String::from("OPTIONS * RTSP/1.0\r\n");
    while len - text.len() > 1100 {
        text += &format!("A:{}\r\n", "a".repeat(996));
    }
    let last = len - text.len() - 6;
    text + "A:" + &"a".repeat(last) + "\r\n\r\n"
}

/// What never ends is refused while it comes: the buffer stays bounded whatever is sent.
#[test]
fn no_peer_makes_the_buffer_grow() {
    let longest = HEAD_MAX_BYTES + BODY_MAX_BYTES;
    let endless: [(&str, &[u8], &[u8]); 6] = [
        ("a start line", b"OPTIONS ", b"a"),
        ("a method", b"", b"A"),
        ("a header", b"OPTIONS * RTSP/1.0\r\nA: ", b"a"),
        ("a fold", b"OPTIONS * RTSP/1.0\r\nA: b\r\n", b" a\r\n"),
        ("folds before any header", b"OPTIONS * RTSP/1.0\r\n", b" \r\n"),
        ("headers", b"OPTIONS * RTSP/1.0\r\n", b"A: b\r\n"),
    ];
    for (name, start, more) in endless {
        let mut framer = Framer::default();
        let mut buf = start.to_vec();
        while framer.next(&buf) == Ok(Progress::NeedMore) {
            buf.extend_from_slice(more);
            assert!(buf.len() <= longest, "{name}");
        }
        let error = framer.next(&buf).expect_err(name);
        assert!(buf.len() <= HEAD_MAX_BYTES + more.len(), "{name}: {error}");
    }
}

/// A head that drips in costs linear time: what was looked at is not looked at again. Shown without
/// a clock by turning each byte of a value into a line feed once it has been looked at, which would
/// end the line for whoever looks twice.
#[test]
fn bytes_looked_at_are_not_looked_at_again() {
    let start = b"OPTIONS * RTSP/1.0\r\nA:";
    let mut buf = start.to_vec();
    let mut framer = Framer::default();
    assert_eq!(framer.next(&buf), Ok(Progress::NeedMore));
    for _ in 0..HEADER_LINE_MAX_BYTES - 2 {
        buf.push(b'a');
        assert_eq!(framer.next(&buf), Ok(Progress::NeedMore));
        *buf.last_mut().unwrap() = b'\n';
    }
    buf.extend_from_slice(b"\r\nContent-Length: 9\r\n\r\n");
    let head = buf.len();
    for _ in 0..9 {
        assert_eq!(framer.next(&buf), Ok(Progress::NeedMore));
        buf.fill(b'\n');
        buf.push(b'b');
    }
    assert_eq!(framer.next(&buf), Ok(Progress::Ready(Unit::Message { head, body: 9 })));
}

#[test]
fn the_largest_frame_and_head_drip_in() {
    let mut frame = vec![b'$', 9, 0xff, 0xff];
    frame.resize(4 + FRAME_MAX_BYTES, b'$');
    let mut framer = Framer::default();
    for len in 0..frame.len() {
        assert_eq!(framer.next(&frame[..len]), Ok(Progress::NeedMore));
    }
    let unit = Unit::Frame { channel: 9, payload: FRAME_MAX_BYTES };
    assert_eq!(framer.next(&frame), Ok(Progress::Ready(unit)));

    let head = head_of(HEAD_MAX_BYTES);
    for len in 0..head.len() {
        assert_eq!(framer.next(&head.as_bytes()[..len]), Ok(Progress::NeedMore));
    }
    let unit = Unit::Message { head: HEAD_MAX_BYTES, body: 0 };
    assert_eq!(framer.next(head.as_bytes()), Ok(Progress::Ready(unit)));
}

/// What framing takes for a whole head, the head's parser reads, and both know the same body.
#[test]
fn framing_and_head_agree() {
    for (name, bytes) in SAMPLES {
        for (unit, bytes) in feed([bytes]).units {
            if let Unit::Message { head, body } = unit {
                let parsed = Head::parse(&bytes[..head]).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert_eq!(parsed.content_length(), body, "{name}");
                assert_eq!(parsed.end_of_headers() + parsed_end(&bytes[..head]), head, "{name}");
            }
        }
    }
}

fn parsed_end(head: &[u8]) -> usize {
    if head.ends_with(b"\r\n") { 2 } else { 1 }
}

/// xorshift64: seeded, so that a failure can be played again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// Bytes that go deep into the parsers: pieces of the grammars, and noise between them.
    fn bytes(&mut self) -> Vec<u8> {
        const PIECES: [&[u8]; 48] = [
            b"RTSP/1.0",
            b"RTSP/2.0",
            b" ",
            b"\r\n",
            b"\n",
            b"\r",
            b":",
            b";",
            b",",
            b"=",
            b"\"",
            b"/",
            b"?",
            b"@",
            b"[",
            b"]",
            b"-",
            b"$",
            b"\0",
            b"\xff",
            b"OPTIONS",
            b"CSeq",
            b"1",
            b"4294967295",
            b"65535",
            b"18446744073709551616",
            b"200",
            b"Content-Length: 3\r\n",
            b"Content-Length",
            b"Session: a;timeout=60\r\n",
            b"Transport: ",
            b"RTP/AVP",
            b"RTP/AVP/TCP",
            b"client_port",
            b"interleaved",
            b"dest_addr",
            b"mode",
            b"url=",
            b"seq=",
            b"rtptime",
            b"rtsp://",
            b"rtsp:",
            b"host",
            b"m=video 0 RTP/AVP 96\r\n",
            b"a=control:",
            b"*",
            b"\t",
            b"$\x00\x00\x02ab",
        ];
        let mut bytes = Vec::new();
        for _ in 0..self.below(24) {
            match self.below(6) {
                0 => bytes.push(self.next().to_le_bytes()[0]),
                _ => bytes.extend_from_slice(PIECES[self.below(PIECES.len())]),
            }
        }
        bytes
    }
}

const SEED: u64 = 0x0edc_e5e1_2026_1121;
const ROUNDS: usize = 20_000;

#[test]
fn nothing_panics_on_noise() {
    let mut random = Random(SEED);
    for round in 0..ROUNDS {
        let bytes = random.bytes();
        let caught = std::panic::catch_unwind(|| read_all(&bytes));
        assert!(caught.is_ok(), "seed {SEED:#x}, round {round}: {:?}", bytes.escape_ascii());
    }
}

#[test]
fn noise_is_framed_alike_however_it_is_cut() {
    let mut random = Random(SEED ^ 1);
    for round in 0..ROUNDS {
        let bytes = random.bytes();
        let cut = random.below(bytes.len() + 1);
        let (one, other) = bytes.split_at(cut);
        let name = format!("seed {SEED:#x}, round {round}, cut {cut}");
        check_same(&name, &feed([one, other]), &feed([&bytes[..]]), &bytes);
        check_same(&name, &feed(bytes.chunks(1)), &feed([&bytes[..]]), &bytes);
    }
}

/// Where media are set up noise of an origin is left out: each byte is a unit's, left out, or waits.
#[test]
fn every_byte_of_a_broken_stream_is_accounted_for() {
    let mut random = Random(SEED ^ 2);
    for round in 0..ROUNDS {
        let noise = [random.bytes(), random.bytes()];
        let stream = [&b"$\0\0\x03abc"[..], &noise[0], b"$\x01\0\x01d", &noise[1]].concat();
        let (cut, paused) = (1 + random.below(stream.len()), random.below(2) == 1);
        let (mut inbox, mut had, mut taken) = (Inbox::default(), 0, 0);
        for part in stream.chunks(cut) {
            inbox.tolerate(Channels::default().with(0).with(1));
            had += part.len();
            let mut fed = inbox.feed(part, |_, bytes| {
                taken += bytes.len();
                if paused { Feed::Pause } else { Feed::Go }
            });
            while inbox.waits() {
                fed = fed.and(inbox.feed(b"", |_, bytes| {
                    taken += bytes.len();
                    Feed::Pause
                }));
            }
            if fed.is_err() {
                break;
            }
            taken += usize::try_from(inbox.take_skipped()).unwrap();
            assert_eq!(taken + inbox.len(), had, "seed {SEED:#x}, round {round}, cut {cut}");
        }
    }
}

/// Every reader of the room on the same bytes, and what must hold of what it finds.
fn read_all(bytes: &[u8]) {
    read_head(bytes);
    read_head(&[b"RTSP/1.0 200 OK\r\n", bytes, b"\r\n\r\n"].concat());
    read_transport(bytes);
    if let Ok(url) = Url::parse(bytes) {
        assert!(bytes.ends_with(url.rest));
        assert!(bytes[url.authority_span.clone()].ends_with(url.host_port()));
    }
    for control in sdp::controls(bytes) {
        assert_eq!(&bytes[control.span], control.value);
    }
    for media in sdp::medias(bytes) {
        assert!(bytes[media.line_span].starts_with(b"m="));
    }
    let mut last = 0;
    for span in rtp_info::urls(bytes) {
        assert!(span.start >= last && span.end >= span.start, "in order, apart");
        last = span.end;
        assert!(bytes.get(span).is_some());
    }
    read_clean(bytes);
}

fn read_head(bytes: &[u8]) {
    let Ok(head) = Head::parse(bytes) else { return };
    let (_, _, _, _) = (head.uri(), head.version(), head.method(), head.cseq());
    let mut at = head.first_header_at();
    for header in head.headers() {
        assert_eq!(&bytes[header.name_span.clone()], header.name);
        assert_eq!(&bytes[header.value_span.clone()], header.value);
        assert!(header.line_span.start >= at && header.line_span.end > header.value_span.end - 1);
        at = header.line_span.end;
        read_transport(header.value);
    }
    assert!(at <= head.end_of_headers() && head.end_of_headers() <= bytes.len());
    if let Some(session) = head.session() {
        assert_eq!(&bytes[session.id_span], session.id);
    }
}

/// Framer, head parser and what makes heads clean agree about every byte, and what is clean keeps the law.
fn read_clean(bytes: &[u8]) {
    for start in [&b"RTSP/1.0 200 OK\r\n"[..], b"PLAY * RTSP/1.0\n", b""] {
        let text = [start, bytes, b"\r\n\r\n"].concat();
        let Ok(Progress::Ready(Unit::Message { head, body })) = Framer::default().next(&text)
        else {
            continue;
        };
        let text = &text[..head];
        let Ok(parsed) = Head::parse(text) else { continue };
        assert_eq!(parsed.content_length(), body);
        assert!(matches!(&text[parsed.end_of_headers()..], b"\r\n" | b"\n"));
        for manner in [Manner::Strict, Manner::Lenient] {
            let Ok(cleaned) = clean(text, manner) else { continue };
            assert!(is_clean(&cleaned));
            assert_eq!(clean(&cleaned, Manner::Strict).as_deref(), Ok(&*cleaned), "once is enough");
            let message = [&cleaned, &vec![b'x'; body][..]].concat();
            wire::clean(&message);
            let unit = Unit::Message { head: cleaned.len(), body };
            assert_eq!(Framer::default().next(&message), Ok(Progress::Ready(unit)));
            let again = Head::parse(&cleaned).unwrap();
            assert_eq!(
                (again.status(), again.method_bytes()),
                (parsed.status(), parsed.method_bytes())
            );
            assert_eq!(again.cseq(), parsed.cseq());
        }
    }
}

fn read_transport(value: &[u8]) {
    for spec in specs(value) {
        let _ = (spec.lower(), spec.client_port(), spec.server_port(), spec.interleaved());
        let _ = (spec.destination(), spec.source(), spec.dest_addr(), spec.src_addr());
        let _ = (spec.protocol(), spec.is_multicast());
        let mut same = Vec::new();
        spec.edit().write(&mut same);
        assert_eq!(same, spec.text(), "nothing to change");
        let mut out = Vec::new();
        spec.edit().set("client_port", b"6000-6001").remove("mode").write(&mut out);
        let edited = specs(&out).next();
        assert!(edited.is_some_and(|spec| !spec.has("mode")));
        let ports = edited.and_then(|spec| spec.client_port());
        assert_eq!(ports.map(|ports| (ports.rtp, ports.rtcp)), Some((6000, 6001)));
    }
}

#[test]
fn the_law_is_broken_by_what_it_is_about() {
    let hosts = ["198.51.100.1".to_owned()];
    let kept = |message: &str| {
        let read = || {
            wire::clean(message.as_bytes());
            wire::hides(message.as_bytes(), &hosts, false);
        };
        std::panic::catch_unwind(read).is_ok()
    };
    let answer = |lines: &str| format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\n{lines}\r\n");
    for good in ["", "X: y\r\n", "X: 198.51.100.1\r\n", "Content-Base: rtsp://gw/\r\n"] {
        assert!(kept(&answer(good)), "{good}");
    }
    for bad in [
        "X: y\rz\r\n",
        "X: y\n",
        "X: y\0\r\n",
        "X: y\r\n z\r\n",
        "X : y\r\n",
        "cseq: 2\r\n",
        "Session: 1234\r\n",
        "X: RTSP://198.51.100.1:554/a\r\n",
        "Content-Base: 198.51.100.1/a\r\n",
        "Content-Length: 1\r\n",
    ] {
        assert!(!kept(&answer(bad)), "{bad}");
    }
}
