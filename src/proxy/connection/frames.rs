//! Interleaved frames of one read: where each goes, and how many there were. Frames that go the same
//! way are gathered and leave together: as datagrams, or, when the other side keeps their channel
//! and nothing waits for it, straight from the buffer that they were read into.

use core::sync::atomic::Ordering::Relaxed;
use std::{
    io::{IoSlice, Write},
    net::TcpStream,
};

use crate::{
    clock::Instant,
    limits::SEGMENTS_MAX,
    pipe::{
        Worker,
        gather::{self, Pause},
    },
    proxy::{connection::turn::Budget, shared::Entry, tracks::TrackSockets},
    rtsp::framing::{FramingError, Unit},
    session::{Feed, Flow, FrameRoute, Inbox, Session, Side},
};

/// Streams of one connection whose frames are followed; more share a place, and are waited for
/// wrongly at worst.
const FOLLOWED: usize = 4;

/// Where the streams of a connection are within their frames, by channel.
pub(super) type Followed = [gather::Frames; FOLLOWED];

/// Where gathered frames go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Their payloads out of the UDP leg of a track.
    Datagrams(u8),
    /// They themselves, head and all, to the peer of that side.
    Frames(Side),
}

/// What frames are sent with.
pub(super) struct Ways<'s> {
    pub(super) session: &'s mut Session,
    pub(super) tracks: &'s mut TrackSockets,
    /// The connection to the other side, if it can be written to.
    pub(super) peer: Option<&'s TcpStream>,
}

/// What there was to take of a peer.
#[derive(Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) message: bool,
    pub(super) frames: bool,
}

/// Takes what a peer sent, up to its first message, which may need an answer of ours before the next
/// one is looked at, or to the end of its turn.
pub(super) fn take(
    from: Side,
    (inbox, fresh): (&mut Inbox, &[u8]),
    followed: &mut Followed,
    mut ways: Ways<'_>,
    budget: &mut Budget,
    entry: &Entry,
    worker: &Worker,
) -> Result<Taken, FramingError> {
    let now = worker.now();
    let mut taken = Taken::default();
    let mut frames = Frames::new();
    if from == Side::Origin {
        inbox.tolerate(ways.session.tracks().channels(from));
    }
    let fed = inbox.feed(fresh, |unit, bytes| {
        budget.spend(unit);
        match unit {
            Unit::Frame { channel, .. } => {
                frames.relay(from, channel, bytes, &mut ways, followed, now);
                taken.frames = true;
            }
            Unit::Message { head, .. } => {
                frames.flush(&mut ways, now); // what came before it
                ways.session.message(from, bytes, head, now);
                taken.message = true;
            }
            Unit::Blank { .. } => {}
        }
        if taken.message || budget.is_spent() { Feed::Pause } else { Feed::Go }
    });
    frames.flush(&mut ways, now);
    frames.count(entry, worker);
    if from == Side::Origin && frames.relayed > 0 {
        entry.frames_from_origin_ms.store(now.as_millis().max(1), Relaxed);
    }
    fed.map(|()| taken)
}

/// Frames of one read.
struct Frames<'a> {
    relayed: u64,
    bytes: u64,
    /// That the queue of the other side had no room for.
    full: u64,
    /// On channels that were not set up.
    strangers: u64,
    way: Way,
    out: [(Flow, &'a [u8]); SEGMENTS_MAX],
    waiting: usize,
    pause: Pause,
}

impl<'a> Frames<'a> {
    const fn new() -> Self {
        let out: [(Flow, &[u8]); SEGMENTS_MAX] = [(Flow::Rtp, &[]); SEGMENTS_MAX];
        Self {
            relayed: 0,
            bytes: 0,
            full: 0,
            strangers: 0,
            way: Way::Datagrams(0),
            out,
            waiting: 0,
            pause: Pause::No,
        }
    }

    /// A whole frame, its four head bytes included.
    fn relay(
        &mut self,
        from: Side,
        channel: u8,
        frame: &'a [u8],
        ways: &mut Ways<'_>,
        followed: &mut Followed,
        now: Instant,
    ) {
        if ways.session.ended().is_some() {
            return; // the last frames before the origin has seen TEARDOWN
        }
        let payload = frame.get(4..).unwrap_or_default();
        match ways.session.frame(from, channel, payload, now) {
            Some(FrameRoute::Frame(there)) if there == channel && ways.peer.is_some() => {
                self.gather(Way::Frames(from.other()), Flow::Rtp, frame, ways, now);
            }
            Some(FrameRoute::Frame(there)) => {
                self.flush(ways, now); // in order
                self.queue(from.other(), there, payload, ways, now);
            }
            Some(FrameRoute::Datagram(track, flow)) => {
                self.gather(Way::Datagrams(track), flow, payload, ways, now);
            }
            None => {
                self.strangers += 1;
                return;
            }
        }
        self.relayed += 1;
        self.bytes += payload.len() as u64;
        if let Some(stream) = followed.get_mut(usize::from(channel / 2) % FOLLOWED)
            && !gather::looks_like_rtcp(payload)
        {
            stream.on_packet(payload);
            self.pause = stream.pause();
        }
    }

    fn gather(&mut self, way: Way, flow: Flow, bytes: &'a [u8], ways: &mut Ways<'_>, now: Instant) {
        if way != self.way || self.waiting == self.out.len() {
            self.flush(ways, now);
            self.way = way;
        }
        if let Some(place) = self.out.get_mut(self.waiting) {
            *place = (flow, bytes);
            self.waiting += 1;
        }
    }

    fn queue(&mut self, to: Side, channel: u8, payload: &[u8], ways: &mut Ways<'_>, now: Instant) {
        let outbox = ways.session.outbox(to);
        let before = outbox.dropped();
        outbox.push_frame(channel, payload, now);
        self.full += outbox.dropped() - before;
    }

    /// Sends what was gathered; to be called when a read is at its end.
    fn flush(&mut self, ways: &mut Ways<'_>, now: Instant) {
        let waiting = core::mem::take(&mut self.waiting);
        let out = self.out;
        let out = out.get(..waiting).unwrap_or_default();
        match self.way {
            _ if out.is_empty() => {}
            Way::Datagrams(track) => ways.tracks.send(track, out, now),
            Way::Frames(to) => self.write(to, out, ways, now),
        }
    }

    /// Writes frames as they are; what the socket does not take waits like all others.
    fn write(&mut self, to: Side, out: &[(Flow, &[u8])], ways: &mut Ways<'_>, now: Instant) {
        let mut written = 0;
        if ways.session.outbox(to).is_empty()
            && let Some(mut peer) = ways.peer
        {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_MAX];
            for (slice, (_, frame)) in slices.iter_mut().zip(out) {
                *slice = IoSlice::new(frame);
            }
            // An error shows again when what is queued here is written.
            written = peer.write_vectored(slices.get(..out.len()).unwrap_or_default()).unwrap_or(0);
            if written > 0 && to == Side::Client {
                ways.session.alive(to, now);
            }
        }
        for (_, frame) in out {
            if written >= frame.len() {
                written -= frame.len();
            } else if written > 0 {
                ways.session.outbox(to).push_rest(frame.get(written..).unwrap_or_default());
                written = 0;
            } else {
                let channel = frame.get(1).copied().unwrap_or_default();
                self.queue(to, channel, frame.get(4..).unwrap_or_default(), ways, now);
            }
        }
    }

    fn count(&self, entry: &Entry, worker: &Worker) {
        if self.full + self.strangers > 0 {
            entry.full.fetch_add(self.full, Relaxed);
            entry.strangers.fetch_add(self.strangers, Relaxed);
        }
        if self.relayed > 0 {
            entry.frames.fetch_add(self.relayed, Relaxed);
            entry.frame_bytes.fetch_add(self.bytes, Relaxed);
            worker.count_packets(self.relayed);
            // After whole frames a pause would delay and save nothing here (`BENCH=from-frames`).
            if self.pause == Pause::Wanted {
                worker.note_pause(self.pause);
            }
        }
    }
}
