//! What a pipe has done, in numbers that any thread may read.
//!
//! Only the worker that owns the pipe writes, so a step is a plain load and store: no locked
//! instruction for each datagram.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use super::{
    mmsg::Sent,
    relay::{Kind, Reason, Side, says_bye},
};
use crate::clock::Instant;

/// Adds to a counter that only this thread writes.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(by), Relaxed);
}

/// Counters of one pipe. `down`: from the origin to the client; `up`: the other way.
#[derive(Debug, Default)]
pub struct PipeCounters {
    /// RTP packets relayed to the client.
    pub down_packets: AtomicU64,
    /// Their bytes.
    pub down_bytes: AtomicU64,
    /// RTP packets relayed to the origin (RECORD, back channel).
    pub up_packets: AtomicU64,
    /// Their bytes.
    pub up_bytes: AtomicU64,
    /// RTCP packets relayed to the client.
    pub rtcp_down: AtomicU64,
    /// RTCP packets relayed to the origin.
    pub rtcp_up: AtomicU64,
    /// RTP packets missing before the gateway, downstream, by the origin's sequence numbers.
    pub lost: AtomicU64,
    /// RTP packets missing before the gateway, upstream, by the client's sequence numbers.
    pub lost_up: AtomicU64,
    /// Datagrams from addresses that may not send into this pipe.
    pub dropped_unknown_source: AtomicU64,
    /// Datagrams for a peer whose address is not known yet.
    pub dropped_no_peer: AtomicU64,
    /// Datagrams and frames longer than UDP or the way to the peer can carry.
    pub dropped_oversized: AtomicU64,
    /// Datagrams that found the send buffer full.
    pub dropped_send_full: AtomicU64,
    /// Datagrams that the kernel refused to send (no route, filtered).
    pub dropped_send_failed: AtomicU64,
    /// Datagrams lost in the receive buffers since the gateway was too slow; sampled every 5 s.
    pub dropped_receive_full: AtomicU64,
    /// Hole-punching datagrams, no packets: not relayed.
    pub absorbed: AtomicU64,
    /// ICMP errors reported on the pipe's sockets; not fatal.
    pub icmp_errors: AtomicU64,
    /// When the origin was last heard, in milliseconds of [`crate::clock`]; 0: never.
    pub last_from_origin_ms: AtomicU64,
    /// When the client was last heard (RTP, RTCP or hole punching); 0: never.
    pub last_from_client_ms: AtomicU64,
    /// When the origin last sent media, RTP that is; 0: never.
    pub media_from_origin_ms: AtomicU64,
    /// The origin's reports said BYE, and no media has come since.
    pub origin_said_bye: AtomicBool,
    /// When the last PLAY or RECORD was answered, in milliseconds of [`crate::clock`]; 0: never. The
    /// one thing here that the session writes and the worker reads.
    pub playing_since_ms: AtomicU64,
    /// The pipe is closed. Seen by its session only when it ended by itself.
    pub ended: AtomicBool,
}

/// The counters at one moment, as plain numbers; same names, same units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // documented at PipeCounters
pub struct PipeFigures {
    pub down_packets: u64,
    pub down_bytes: u64,
    pub up_packets: u64,
    pub up_bytes: u64,
    pub rtcp_down: u64,
    pub rtcp_up: u64,
    pub lost: u64,
    pub lost_up: u64,
    pub dropped_unknown_source: u64,
    pub dropped_no_peer: u64,
    pub dropped_oversized: u64,
    pub dropped_send_full: u64,
    pub dropped_send_failed: u64,
    pub dropped_receive_full: u64,
    pub absorbed: u64,
    pub icmp_errors: u64,
    pub last_from_origin_ms: u64,
    pub last_from_client_ms: u64,
}

impl PipeFigures {
    /// All datagrams that the gateway did not relay, whatever the reason; absorbed ones are none.
    pub const fn dropped(&self) -> u64 {
        self.dropped_unknown_source
            + self.dropped_no_peer
            + self.dropped_oversized
            + self.dropped_send_full
            + self.dropped_send_failed
            + self.dropped_receive_full
    }
}

impl PipeCounters {
    /// A copy; each number is exact, together they may be a few datagrams apart.
    pub fn figures(&self) -> PipeFigures {
        PipeFigures {
            down_packets: self.down_packets.load(Relaxed),
            down_bytes: self.down_bytes.load(Relaxed),
            up_packets: self.up_packets.load(Relaxed),
            up_bytes: self.up_bytes.load(Relaxed),
            rtcp_down: self.rtcp_down.load(Relaxed),
            rtcp_up: self.rtcp_up.load(Relaxed),
            lost: self.lost.load(Relaxed),
            lost_up: self.lost_up.load(Relaxed),
            dropped_unknown_source: self.dropped_unknown_source.load(Relaxed),
            dropped_no_peer: self.dropped_no_peer.load(Relaxed),
            dropped_oversized: self.dropped_oversized.load(Relaxed),
            dropped_send_full: self.dropped_send_full.load(Relaxed),
            dropped_send_failed: self.dropped_send_failed.load(Relaxed),
            dropped_receive_full: self.dropped_receive_full.load(Relaxed),
            absorbed: self.absorbed.load(Relaxed),
            icmp_errors: self.icmp_errors.load(Relaxed),
            last_from_origin_ms: self.last_from_origin_ms.load(Relaxed),
            last_from_client_ms: self.last_from_client_ms.load(Relaxed),
        }
    }

    /// PLAY or RECORD was answered.
    pub fn plays(&self, now: Instant) {
        self.playing_since_ms.store(now.as_millis().max(1), Relaxed);
    }

    /// When that last happened.
    pub fn playing_since(&self) -> Option<Instant> {
        let since = self.playing_since_ms.load(Relaxed);
        (since > 0).then(|| Instant::from_millis(since))
    }

    /// Notes a packet of the origin: media that flows, or the word that it is at an end.
    pub(super) fn heard_origin(&self, kind: Kind, packet: &[u8], now: Instant) {
        match kind {
            Kind::Rtp => {
                self.media_from_origin_ms.store(now.as_millis().max(1), Relaxed);
                if self.origin_said_bye.load(Relaxed) {
                    self.origin_said_bye.store(false, Relaxed);
                }
            }
            Kind::Rtcp if says_bye(packet) => self.origin_said_bye.store(true, Relaxed),
            Kind::Rtcp => {}
        }
    }

    /// Notes that a peer that may send was heard.
    pub(super) fn heard(&self, side: Side, now: Instant) {
        let last = match side {
            Side::Origin => &self.last_from_origin_ms,
            Side::Client => &self.last_from_client_ms,
        };
        last.store(now.as_millis().max(1), Relaxed);
    }

    /// Counts datagrams of one kind that came from `side` and were given to the kernel.
    pub(super) fn relayed(&self, side: Side, kind: Kind, sent: &Sent) {
        match (side, kind) {
            (Side::Origin, Kind::Rtp) => {
                bump(&self.down_packets, sent.datagrams);
                bump(&self.down_bytes, sent.bytes);
            }
            (Side::Client, Kind::Rtp) => {
                bump(&self.up_packets, sent.datagrams);
                bump(&self.up_bytes, sent.bytes);
            }
            (Side::Origin, Kind::Rtcp) => bump(&self.rtcp_down, sent.datagrams),
            (Side::Client, Kind::Rtcp) => bump(&self.rtcp_up, sent.datagrams),
        }
        if sent.full + sent.oversized + sent.failed + sent.icmp > 0 {
            bump(&self.dropped_send_full, sent.full);
            bump(&self.dropped_oversized, sent.oversized);
            bump(&self.dropped_send_failed, sent.failed);
            bump(&self.icmp_errors, sent.icmp);
        }
    }

    /// Counts one datagram that is not relayed.
    pub(super) fn dropped(&self, reason: Reason) {
        let counter = match reason {
            Reason::UnknownSource => &self.dropped_unknown_source,
            Reason::NoPeer => &self.dropped_no_peer,
            Reason::Oversized => &self.dropped_oversized,
            Reason::Absorbed => &self.absorbed,
        };
        bump(counter, 1);
    }

    /// Takes over what the sequence numbers of one direction say.
    pub(super) fn set_lost(&self, from: Side, lost: u64) {
        let counter = if from == Side::Origin { &self.lost } else { &self.lost_up };
        counter.store(lost, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_and_kinds_are_counted_apart() {
        let counters = PipeCounters::default();
        let sent = Sent { datagrams: 2, bytes: 30, full: 1, ..Sent::default() };
        counters.relayed(Side::Origin, Kind::Rtp, &sent);
        counters.relayed(Side::Client, Kind::Rtcp, &sent);
        counters.dropped(Reason::UnknownSource);
        counters.dropped(Reason::Absorbed);
        let figures = counters.figures();
        assert_eq!((figures.down_packets, figures.down_bytes, figures.rtcp_up), (2, 30, 2));
        assert_eq!((figures.up_packets, figures.rtcp_down), (0, 0));
        assert_eq!(figures.dropped(), 3, "two found the buffer full, one was a stranger's");
    }

    #[test]
    fn a_peer_heard_in_the_first_millisecond_is_not_never() {
        let counters = PipeCounters::default();
        counters.heard(Side::Client, Instant::START);
        assert_eq!(counters.figures().last_from_client_ms, 1);
    }
}
