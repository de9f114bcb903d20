//! Framing and heads: every cut gives the same units, and where a message has a head that can be read
//! the two agree about its length.
#![no_main]

use edgeweir::{
    rtsp::{
        Head,
        framing::{Framer, FramingError, Progress, Unit},
        resync::Channels,
    },
    session::{Feed, Inbox},
};
use edgeweir_fuzz::{input::Choices, seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::write(seeds::said().into_iter().map(|text| [&[0, 7], &text[..]].concat())),
    |data: &[u8]| {
        let mut choices = Choices(data);
        let (paused, cut) = (choices.byte() & 1 == 1, usize::from(choices.byte()));
        let stream = choices.0;
        let whole = units(&[stream], false);
        heads(stream, &whole.0);
        tolerated(stream, cut.max(1), paused);
        for parts in [stream.chunks(1).collect::<Vec<_>>(), stream.chunks(cut.max(2)).collect()] {
            assert_eq!(units(&parts, paused), whole, "cut into {} parts", parts.len());
        }
    }
);

/// What an inbox makes of reads; and why it ended.
fn units(parts: &[&[u8]], paused: bool) -> (Vec<(Unit, Vec<u8>)>, Option<FramingError>) {
    let mut inbox = Inbox::default();
    let mut seen = Vec::new();
    for part in parts {
        let mut fresh = *part;
        loop {
            let mut stopped = false;
            let fed = inbox.feed(fresh, |unit, bytes| {
                assert_eq!(unit.len(), bytes.len());
                // Empty lines come as they are read.
                if !matches!(unit, Unit::Blank { .. }) {
                    seen.push((unit, bytes.to_vec()));
                }
                stopped = paused;
                if paused { Feed::Pause } else { Feed::Go }
            });
            if let Err(error) = fed {
                return (seen, Some(error));
            }
            if !stopped || inbox.is_empty() {
                break;
            }
            fresh = &[];
        }
    }
    (seen, None)
}

/// The same of an origin whose media are set up: each byte is a unit's, left out, or waits.
fn tolerated(stream: &[u8], cut: usize, paused: bool) {
    let mut inbox = Inbox::default();
    let mut taken = 0;
    for (at, part) in stream.chunks(cut).enumerate() {
        inbox.tolerate(Channels::default().with(0).with(1));
        let mut fresh = part;
        loop {
            let fed = inbox.feed(fresh, |unit, bytes| {
                assert_eq!(unit.len(), bytes.len());
                taken += bytes.len() as u64;
                if paused { Feed::Pause } else { Feed::Go }
            });
            if fed.is_err() {
                return;
            }
            if !inbox.waits() {
                break;
            }
            fresh = &[];
        }
        taken += inbox.take_skipped();
        let had = stream.len().min((at + 1) * cut) as u64;
        assert_eq!(taken + inbox.len() as u64, had);
    }
}

fn heads(stream: &[u8], units: &[(Unit, Vec<u8>)]) {
    for (unit, bytes) in units {
        // A message stands for itself, wherever it came in a stream.
        assert_eq!(Framer::default().next(bytes), Ok(Progress::Ready(*unit)));
        let Unit::Message { head, body } = *unit else { continue };
        // What has an end and makes no sense is answered, and the stream goes on.
        let Ok(parsed) = Head::parse(&bytes[..head]) else { continue };
        assert_eq!(parsed.content_length(), body, "one Content-Length for framer and head");
        assert_eq!(parsed.outline().len, head);
        for header in parsed.headers() {
            assert!(bytes[..head].as_ptr_range().contains(&header.name.as_ptr()));
        }
        let _ = (parsed.session(), parsed.cseq(), parsed.uri(), parsed.status());
    }
    let total: usize = units.iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(total <= stream.len());
}
