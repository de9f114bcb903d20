//! Interleaved frames of one read: where each goes, and how many there were.

use core::sync::atomic::Ordering::Relaxed;

use crate::{
    clock::Instant,
    pipe::Worker,
    proxy::{shared::Entry, tracks::TrackSockets},
    session::{FrameRoute, Session, Side},
};

/// Frames of one read.
#[derive(Default)]
pub(super) struct Frames {
    relayed: u64,
    bytes: u64,
    dropped: u64,
}

impl Frames {
    pub(super) fn relay(
        &mut self,
        from: Side,
        channel: u8,
        payload: &[u8],
        session: &mut Session,
        tracks: &mut TrackSockets,
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
            Some(FrameRoute::Datagram(track, flow)) => tracks.send(track, flow, payload, now),
            None => {
                self.dropped += 1;
                return;
            }
        }
        self.relayed += 1;
        self.bytes += payload.len() as u64;
    }

    pub(super) fn count(&self, entry: &Entry, worker: &Worker) {
        if self.relayed + self.dropped > 0 {
            entry.frames.fetch_add(self.relayed, Relaxed);
            entry.frame_bytes.fetch_add(self.bytes, Relaxed);
            entry.dropped.fetch_add(self.dropped, Relaxed);
            worker.count_packets(self.relayed);
        }
    }
}
