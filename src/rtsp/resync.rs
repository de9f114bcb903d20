//! Back into a stream of interleaved frames that something broke: bytes that mean nothing between two
//! of them, or a frame that was cut short. Some cameras send both when their network stack is short of
//! memory; to hang up on them costs the player its session.
//!
//! A clean stream is only looked at: what follows the end of each frame must be the start of another, of
//! a message, or not there yet. Where it is not, or where nothing can start, the next plausible start
//! counts, which may lie inside of the frame that claimed those bytes. A `$` alone means little: its
//! channel must be one that was negotiated, and its length must lead to another start.
//!
//! Without channels, before media is set up, nothing is plausible and every error is final. Not in here:
//! the buffer, which belongs to the caller, and how an error is answered.

use super::{
    Rule,
    framing::{Framer, FramingError, Progress, Unit},
};
use crate::limits::RESYNC_MAX_BYTES;

/// Interleaved channels, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels([u64; 4]);

impl Channels {
    /// One more.
    #[must_use]
    pub fn with(mut self, channel: u8) -> Self {
        if let Some(word) = self.0.get_mut(usize::from(channel / 64)) {
            *word |= 1 << (channel % 64);
        }
        self
    }

    fn has(&self, channel: u8) -> bool {
        self.0.get(usize::from(channel / 64)).is_some_and(|word| word >> (channel % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// What is to be done at the beginning of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Take this one.
    Unit(Unit),
    /// Leave out so many bytes: they mean nothing.
    Skip(usize),
    /// Add bytes.
    NeedMore,
}

/// A [`Framer`] that finds back. It holds no bytes and allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Resync {
    framer: Framer,
    channels: Channels,
    /// What began the bytes that mean nothing, while they go on.
    broken: Option<FramingError>,
    /// Bytes left out since the last unit.
    lost: usize,
    /// Nothing can be decided before so many bytes are there.
    patience: usize,
}

/// What may start at a place.
enum Start {
    Nothing,
    /// It would do, but its end is not there.
    Open,
    /// Whole, as far as it must be to be believed; `sure` when more than one byte behind it says so.
    Good {
        sure: bool,
    },
}

/// The next start in a buffer.
enum Found {
    At(usize),
    /// Perhaps here: more bytes will tell.
    Perhaps(usize),
    Nowhere,
}

impl Resync {
    /// From now on streams on these channels are worth finding back into.
    pub fn tolerate(&mut self, channels: Channels) {
        self.channels = channels;
    }

    /// Whether units follow each other, as far as is known.
    pub fn is_clean(&self) -> bool {
        self.broken.is_none() && self.patience == 0
    }

    /// Whether a whole frame on this channel is taken for one, whatever else is in it, where this lies
    /// behind it.
    pub fn takes(&self, channel: u8, next: &[u8]) -> bool {
        self.channels.is_empty() || (self.channels.has(channel) && may_follow(next))
    }

    /// What to do at the beginning of `buf`; the caller keeps to the contract of [`Framer::next`], and
    /// takes skipped bytes away like those of a unit.
    pub fn next(&mut self, buf: &[u8]) -> Result<Step, FramingError> {
        if self.channels.is_empty() {
            let progress = self.broken.map_or_else(|| self.framer.next(buf), Err)?;
            return Ok(match progress {
                Progress::Ready(unit) => Step::Unit(unit),
                Progress::NeedMore => Step::NeedMore,
            });
        }
        if buf.len() < self.patience {
            return Ok(Step::NeedMore);
        }
        self.patience = 0;
        if let Some(error) = self.broken {
            match self.find(buf, 0) {
                Found::At(0) => self.broken = None,
                found => return self.skip(found, buf, error),
            }
        }
        match self.framer.next(buf) {
            Ok(Progress::NeedMore) => Ok(Step::NeedMore),
            Ok(Progress::Ready(unit @ Unit::Frame { channel, .. })) => {
                Ok(self.check(channel, unit, buf))
            }
            Ok(Progress::Ready(unit)) => Ok(self.take(unit)),
            Err(error) if is_noise(error) => {
                self.framer = Framer::default();
                let found = self.find(buf, 1);
                self.skip(found, buf, error)
            }
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, unit: Unit) -> Step {
        self.lost = 0;
        Step::Unit(unit)
    }

    /// A whole frame; cut short when what follows it makes no sense and another begins within it. One
    /// on a channel that nobody has set up is believed less.
    fn check(&mut self, channel: u8, frame: Unit, buf: &[u8]) -> Step {
        let (end, known) = (frame.len(), self.channels.has(channel));
        let next = buf.get(end..).unwrap_or_default();
        let good = if known { may_follow(next) } else { self.is_sure(next) };
        if good {
            return self.take(frame);
        }
        match self.find(buf, 1) {
            Found::At(at) if at < end => {
                self.lost += at;
                Step::Skip(at)
            }
            Found::Perhaps(at) if at < end && known => self.wait(buf, at),
            _ => self.take(frame),
        }
    }

    /// Leaves out what comes before the next start.
    fn skip(
        &mut self,
        found: Found,
        buf: &[u8],
        error: FramingError,
    ) -> Result<Step, FramingError> {
        let (at, broken) = match found {
            Found::At(at) => (at, None),
            Found::Perhaps(at) => (at, Some(error)),
            Found::Nowhere => (buf.len(), Some(error)),
        };
        self.broken = broken;
        self.lost += at;
        if self.lost > RESYNC_MAX_BYTES {
            self.broken = Some(error);
            return Err(error);
        }
        Ok(if at == 0 { self.wait(buf, 0) } else { Step::Skip(at) })
    }

    /// Looks again when the frame that may begin there has come to its end, or there is notably more:
    /// bytes that drip in are not looked at over and over.
    fn wait(&mut self, buf: &[u8], at: usize) -> Step {
        let more = buf.len() + buf.len() / 8 + 16;
        let end = match buf.get(at..) {
            Some([b'$', _, high, low, ..]) => {
                at + 4 + usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => buf.len() + 1,
        };
        self.patience = end.clamp(buf.len() + 1, more);
        Step::NeedMore
    }

    /// The first start from there on. One whose end is not there gives way to a later one that is sure.
    fn find(&self, buf: &[u8], from: usize) -> Found {
        let mut perhaps = None;
        for at in from..buf.len() {
            match self.start(buf.get(at..).unwrap_or_default()) {
                Start::Nothing => {}
                Start::Open => perhaps = perhaps.or(Some(at)),
                Start::Good { sure } if sure || perhaps.is_none() => return Found::At(at),
                Start::Good { .. } => {}
            }
        }
        perhaps.map_or(Found::Nowhere, Found::Perhaps)
    }

    /// Whether these bytes begin as a frame of a known channel or a message does.
    fn is_sure(&self, next: &[u8]) -> bool {
        match next {
            [b'$', channel, ..] => self.channels.has(*channel),
            next => matches!(message(next), Start::Good { .. }),
        }
    }

    fn start(&self, bytes: &[u8]) -> Start {
        match bytes {
            [b'$', rest @ ..] => self.frame(rest),
            [first, ..] if first.is_ascii_uppercase() => message(bytes),
            _ => Start::Nothing,
        }
    }

    /// A frame, its `$` taken off.
    fn frame(&self, rest: &[u8]) -> Start {
        match rest {
            [channel, ..] if !self.channels.has(*channel) => Start::Nothing,
            [_, high, low, rest @ ..] => {
                let payload = usize::from(u16::from_be_bytes([*high, *low]));
                match rest.get(payload..) {
                    None => Start::Open,
                    Some([]) => Start::Good { sure: false },
                    Some([b'$']) => Start::Good { sure: false },
                    Some([b'$', next, ..]) if self.channels.has(*next) => {
                        Start::Good { sure: true }
                    }
                    Some(next) => match message(next) {
                        Start::Open => Start::Good { sure: false },
                        other => other,
                    },
                }
            }
            _ => Start::Open,
        }
    }
}

/// Errors that say that these bytes are no message, rather than one that is not to be borne.
fn is_noise(error: FramingError) -> bool {
    !matches!(error.0.rule, Rule::BodyTooLong | Rule::ContentLength)
}

/// Whether these bytes may follow a frame in a clean stream: another one of any channel, empty lines,
/// or a message of whatever method.
fn may_follow(next: &[u8]) -> bool {
    match next {
        [] | [b'$' | b'\n', ..] | [b'\r'] | [b'\r', b'\r' | b'\n', ..] => true,
        [b'\r', ..] => false,
        [first, ..] => {
            // The first word, as far as it is there, and what is behind it.
            let word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-./".contains(byte);
            let mut rest = next.iter().take(12).skip_while(word);
            first.is_ascii_alphabetic() && rest.all(|byte| byte.is_ascii_graphic() || *byte == b' ')
        }
    }
}

/// How messages of an origin begin.
const STARTS: [&[u8]; 13] = [
    b"RTSP/1.0 ",
    b"RTSP/2.0 ",
    b"ANNOUNCE rtsp",
    b"DESCRIBE rtsp",
    b"GET_PARAMETER rtsp",
    b"OPTIONS rtsp",
    b"OPTIONS *",
    b"PAUSE rtsp",
    b"PLAY_NOTIFY rtsp",
    b"REDIRECT rtsp",
    b"SETUP rtsp",
    b"SET_PARAMETER rtsp",
    b"TEARDOWN rtsp",
];

fn message(bytes: &[u8]) -> Start {
    if STARTS.iter().any(|start| bytes.starts_with(start)) {
        Start::Good { sure: true }
    } else if STARTS.iter().any(|start| start.starts_with(bytes)) {
        Start::Open
    } else {
        Start::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the sims have it: seeded, so that a failure can be played again.
    struct Rng(u64);

    impl Rng {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, bound: usize) -> usize {
            usize::try_from(self.next() % bound as u64).unwrap()
        }

        fn bytes(&mut self, len: usize) -> Vec<u8> {
            (0..len).map(|_| self.next().to_be_bytes()[0]).collect()
        }
    }

    fn channels() -> Channels {
        [0, 1, 2, 3].into_iter().fold(Channels::default(), Channels::with)
    }

    /// All units of a stream that comes in such pieces, and how many bytes were left out.
    fn read<'a>(
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<Vec<u8>>, usize), FramingError> {
        let mut resync = Resync::default();
        resync.tolerate(channels());
        let (mut rest, mut units, mut skipped) = (Vec::new(), Vec::new(), 0);
        for part in parts {
            rest.extend_from_slice(part);
            loop {
                let taken = match resync.next(&rest)? {
                    _ if rest.is_empty() => break,
                    Step::NeedMore => break,
                    Step::Skip(len) => {
                        skipped += len;
                        len
                    }
                    Step::Unit(unit) => {
                        units.push(rest[..unit.len()].to_vec());
                        unit.len()
                    }
                };
                assert!(taken > 0 && taken <= rest.len());
                rest.drain(..taken);
            }
        }
        Ok((units, skipped))
    }

    fn frame(rng: &mut Rng) -> Vec<u8> {
        let len = match rng.below(8) {
            0 => rng.below(60),
            1 => 4000 + rng.below(4000),
            _ => 1200 + rng.below(200),
        };
        let channel = u8::try_from(rng.below(4)).unwrap();
        let mut frame = vec![b'$', channel];
        frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        frame.extend(rng.bytes(len));
        frame
    }

    fn cut(stream: &[u8], rng: &mut Rng) -> Vec<Vec<u8>> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < stream.len() {
            let end = (at + 1 + rng.below(3000)).min(stream.len());
            parts.push(stream[at..end].to_vec());
            at = end;
        }
        parts
    }

    /// How many of these are not among the units, in order.
    fn missing(frames: &[Vec<u8>], units: &[Vec<u8>]) -> usize {
        let mut units = units.iter();
        let mut missing = 0;
        for frame in frames {
            let before = units.clone();
            if !units.any(|unit| unit == frame) {
                units = before;
                missing += 1;
            }
        }
        missing
    }

    const SEEDS: u64 = 120;

    #[test]
    fn any_garbage_between_two_frames_costs_one_of_them_at_most() {
        for seed in 1..=SEEDS {
            let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            // So many that whatever length the garbage claims comes to its end; by chance (once in
            // thousands) that is where a frame begins, and it takes what lies between.
            let frames: Vec<_> = (0..120).map(|_| frame(&mut rng)).collect();
            let len = 1 + rng.below(500);
            let garbage = match rng.below(5) {
                0 => vec![0; len],
                1 => b"\r\n".repeat(len / 2 + 1),
                2 => b"Lorem ipsum dolor sit amet ".repeat(20)[..len].to_vec(),
                3 => [b"$".to_vec(), rng.bytes(len)].concat(),
                _ => rng.bytes(len),
            };
            let at = 1 + rng.below(10);
            let stream = [frames[..at].concat(), garbage, frames[at..].concat()].concat();
            let parts = cut(&stream, &mut rng);
            let (units, _) = read(parts.iter().map(Vec::as_slice)).unwrap();
            let missing = missing(&frames, &units);
            assert!(missing <= 1, "seed {seed}: {missing} frames are missing");
        }
    }

    #[test]
    fn a_frame_that_was_cut_short_costs_hardly_more_than_itself() {
        let mut more = 0;
        for seed in 1..=SEEDS {
            let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let frames: Vec<_> = (0..120).map(|_| frame(&mut rng)).collect();
            let at = 1 + rng.below(10);
            let keeps = 4 + rng.below((frames[at].len() - 4).max(1));
            let stream =
                [&frames[..at].concat(), &frames[at][..keeps], &frames[at + 1..].concat()].concat();
            let parts = cut(&stream, &mut rng);
            let (units, _) = read(parts.iter().map(Vec::as_slice)).unwrap();
            // Where its claim ends by chance at what looks like a start, it takes what lies between.
            more += missing(&frames, &units).saturating_sub(2);
        }
        assert!(more <= 2, "{more} more of {SEEDS}");
    }

    #[test]
    fn a_clean_stream_is_never_altered() {
        let messages: [&[u8]; 4] = [
            b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 4\r\n\r\n$\0\0\x09",
            b"OPTIONS * RTSP/1.0\nCSeq: 2\n\n",
            b"x-odd.method rtsp://c/ RTSP/1.0\r\nCSeq: 3\r\n\r\n",
            b"\r\n",
        ];
        for seed in 1..=SEEDS {
            let mut rng = Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut stream = Vec::new();
            for _ in 0..60 {
                let mut one = frame(&mut rng);
                match rng.below(6) {
                    0 => one = messages[rng.below(4)].to_vec(),
                    1 => one[1] = 77, // a channel that nobody has set up
                    2 => one.splice(4.., *b"$\0\0\x01x$\0\0\x01x").for_each(drop),
                    _ => {}
                }
                if one[0] == b'$' {
                    let len = u16::try_from(one.len() - 4).unwrap().to_be_bytes();
                    one[2..4].copy_from_slice(&len);
                }
                stream.extend(one);
            }
            let parts = cut(&stream, &mut rng);
            let (units, skipped) = read(parts.iter().map(Vec::as_slice)).unwrap();
            assert_eq!((units.concat() == stream, skipped), (true, 0), "seed {seed}");
        }
    }

    #[test]
    fn a_message_behind_garbage_is_found() {
        let message = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";
        for garbage in [&[0; 193][..], b"RTSP/1.0 200 O$\0\0\x04abcd", &[b'a'; 300]] {
            let stream = [b"$\0\0\x01x", garbage, message].concat();
            for whole in [true, false] {
                let parts: Vec<&[u8]> =
                    if whole { vec![&stream] } else { stream.chunks(1).collect() };
                let (units, skipped) = read(parts).unwrap();
                assert_eq!(units.last().map(Vec::as_slice), Some(&message[..]), "{skipped}");
                assert!(skipped > 0);
            }
        }
    }

    #[test]
    fn garbage_without_end_is_given_up() {
        let zeros = vec![0; RESYNC_MAX_BYTES + 2];
        assert!(read([&b"$\0\0\x01x"[..], &zeros[2..]]).is_ok());
        assert!(read([&b"$\0\0\x01x"[..], &zeros]).is_err());
        assert!(read(zeros.chunks(100)).is_err());
    }

    #[test]
    fn before_media_is_set_up_nothing_is_tolerated() {
        let mut resync = Resync::default();
        assert_eq!(
            resync.next(b"$\0\0\x01x"),
            Ok(Step::Unit(Unit::Frame { channel: 0, payload: 1 }))
        );
        assert!(resync.next(&[0]).is_err());
        let mut later = Resync::default();
        later.tolerate(channels());
        assert_eq!(later.next(&[0]), Ok(Step::Skip(1)));
        later.tolerate(Channels::default());
        assert!(later.next(b"$\0\0\x01x").is_err());
    }

    #[test]
    fn bytes_that_drip_in_are_not_looked_at_over_and_over() {
        // A frame that claims all it can, of which nothing is true, a byte at a time.
        let mut resync = Resync::default();
        resync.tolerate(channels());
        assert_eq!(resync.next(&[0]), Ok(Step::Skip(1)));
        let mut bytes = vec![b'$', 0, 0xff, 0xff];
        let mut looks = 0;
        while bytes.len() < 60_000 {
            looks += usize::from(bytes.len() >= resync.patience);
            assert_eq!(resync.next(&bytes), Ok(Step::NeedMore));
            bytes.push(1);
        }
        assert!(looks < 150, "{looks}");
    }
}
