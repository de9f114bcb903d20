//! Interleaved frames of one read: where each goes, and how many there were. Those for UDP are
//! gathered and leave together.

use core::sync::atomic::Ordering::Relaxed;

use crate::{
    clock::Instant,
    limits::SEGMENTS_MAX,
    pipe::{Worker, gather},
    proxy::{shared::Entry, tracks::TrackSockets},
    session::{Flow, FrameRoute, Session, Side},
};

/// Streams of one connection whose frames are followed; more share a place, and are waited for
/// wrongly at worst.
const FOLLOWED: usize = 4;

/// Where the streams of a connection are within their frames, by channel.
pub(super) type Followed = [gather::Frames; FOLLOWED];

/// Frames of one read.
pub(super) struct Frames<'a> {
    relayed: u64,
    bytes: u64,
    dropped: u64,
    track: u8,
    out: [(Flow, &'a [u8]); SEGMENTS_MAX],
    waiting: usize,
    more: bool,
}

impl<'a> Frames<'a> {
    pub(super) const fn new() -> Self {
        let out: [(Flow, &[u8]); SEGMENTS_MAX] = [(Flow::Rtp, &[]); SEGMENTS_MAX];
        Self { relayed: 0, bytes: 0, dropped: 0, track: 0, out, waiting: 0, more: false }
    }

    #[allow(clippy::too_many_arguments)] // parts of one connection, borrowed apart
    pub(super) fn relay(
        &mut self,
        from: Side,
        channel: u8,
        payload: &'a [u8],
        session: &mut Session,
        tracks: &mut TrackSockets,
        followed: &mut Followed,
        now: Instant,
    ) {
        if session.ended().is_some() {
            return; // the last frames before the origin has seen TEARDOWN
        }
        match session.frame(from, channel, payload, now) {
            Some(FrameRoute::Frame(there)) => {
                let outbox = session.outbox(from.other());
                let before = outbox.dropped();
                outbox.push_frame(there, payload, now);
                self.dropped += outbox.dropped() - before;
            }
            Some(FrameRoute::Datagram(track, flow)) => {
                if track != self.track || self.waiting == self.out.len() {
                    self.flush(tracks, now);
                    self.track = track;
                }
                if let Some(place) = self.out.get_mut(self.waiting) {
                    *place = (flow, payload);
                    self.waiting += 1;
                }
            }
            None => {
                self.dropped += 1;
                return;
            }
        }
        self.relayed += 1;
        self.bytes += payload.len() as u64;
        if let Some(stream) = followed.get_mut(usize::from(channel / 2) % FOLLOWED)
            && !gather::looks_like_rtcp(payload)
        {
            stream.on_packet(payload);
            self.more = stream.expects_more();
        }
    }

    /// Sends what was gathered; to be called before the next message is looked at.
    pub(super) fn flush(&mut self, tracks: &mut TrackSockets, now: Instant) {
        let out = self.out.get(..self.waiting).unwrap_or_default();
        if !out.is_empty() {
            tracks.send(self.track, out, now);
            self.waiting = 0;
        }
    }

    pub(super) fn count(&self, entry: &Entry, worker: &Worker) {
        if self.relayed + self.dropped > 0 {
            entry.frames.fetch_add(self.relayed, Relaxed);
            entry.frame_bytes.fetch_add(self.bytes, Relaxed);
            entry.dropped.fetch_add(self.dropped, Relaxed);
            worker.count_packets(self.relayed);
            if self.more {
                worker.expect_more();
            }
        }
    }
}
