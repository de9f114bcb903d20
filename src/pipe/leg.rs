//! The UDP side of a pipe whose other side is interleaved: one pair of sockets, driven by the
//! connection that carries the frames.
//!
//! The connection registers the two sockets under its own token and calls [`UdpLeg::recv`] when one
//! is readable; what it reads from `$` frames it hands to [`UdpLeg::send_all`], all frames of one
//! read at once. Counting and who may send are the same as for a pipe of two pairs. Not in here:
//! the queue toward the interleaved peer, and what it drops (proxy).

use core::net::SocketAddr;
use std::{io, net::UdpSocket, sync::Arc};

use super::{
    counters::{PipeCounters, bump},
    gather::{Frames, Pause},
    mmsg::{Segments, Sent, Slots, recv_batch, send_all},
    ports::BoundPair,
    reactor::{Interest, Token, Worker},
    relay::{Kind, Leg, Reason, SeqTracker, Side, is_tiny, learns},
    sys,
};
use crate::{
    clock::Instant,
    limits::{BATCH_DATAGRAMS, DATAGRAM_MAX_BYTES, DATAGRAMS_PER_ROUND, SEGMENTS_MAX},
};

/// One peer on UDP, its sockets and its counters. Closed by [`UdpLeg::close`], or dropped together with
/// the token that it is registered under.
#[derive(Debug)]
pub struct UdpLeg {
    bound: BoundPair,
    v6: bool,
    leg: Leg,
    side: Side,
    counters: Arc<PipeCounters>,
    received: SeqTracker,
    framed: SeqTracker,
    segments: [Segments; 2],
    frames: Frames,
}

impl UdpLeg {
    /// `side`: which peer is on UDP; the other one is interleaved.
    pub fn new(bound: BoundPair, leg: Leg, side: Side) -> Self {
        let v6 = bound.is_v6();
        Self {
            bound,
            v6,
            leg,
            side,
            counters: Arc::default(),
            received: SeqTracker::default(),
            framed: SeqTracker::default(),
            segments: Default::default(),
            frames: Frames::default(),
        }
    }

    /// The even and the odd port.
    pub const fn ports(&self) -> (u16, u16) {
        (self.bound.pair.rtp(), self.bound.pair.rtcp())
    }

    /// What has passed, both directions. Frames count as relayed when given to the closure of
    /// [`UdpLeg::recv`]; what the queue of the connection drops later is counted there.
    pub const fn counters(&self) -> &Arc<PipeCounters> {
        &self.counters
    }

    /// Which peer is on UDP.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Replaces what is known of the peer: a client's SETUP answered before the origin's ports were
    /// known, or a SETUP that changed them.
    pub const fn set_leg(&mut self, leg: Leg) {
        self.leg = leg;
    }

    /// Watches both sockets under the connection's token, with two source numbers of its choice.
    ///
    /// # Errors
    /// As [`Worker::register`]; nothing stays registered then.
    pub fn register(
        &self,
        worker: &Worker,
        token: Token,
        rtp_source: u8,
        rtcp_source: u8,
    ) -> io::Result<()> {
        worker.register_media(token, rtp_source, &self.bound.rtp)?;
        worker.register(token, rtcp_source, &self.bound.rtcp, Interest::Read).inspect_err(|_| {
            let _ = worker.deregister(token, &self.bound.rtp);
        })
    }

    /// Stops watching both sockets.
    pub fn deregister(&self, worker: &Worker, token: Token) {
        let _ = worker.deregister(token, &self.bound.rtp);
        let _ = worker.deregister(token, &self.bound.rtcp);
    }

    /// Closes both sockets and gives their ports back.
    pub fn close(self, worker: &Worker, token: Token) {
        worker.forget(token, &self.bound.rtp);
        worker.forget(token, &self.bound.rtcp);
    }

    const fn socket(&self, kind: Kind) -> &UdpSocket {
        match kind {
            Kind::Rtp => &self.bound.rtp,
            Kind::Rtcp => &self.bound.rtcp,
        }
    }

    /// Takes what one of the two sockets holds, within its budget, and hands each packet of the
    /// peer to `each`. Returns whether to wait before the next read.
    ///
    /// # Errors
    /// The socket is of no use any more; ICMP errors are only counted.
    pub fn recv(
        &mut self,
        socket: Kind,
        slots: &mut Slots,
        now: Instant,
        mut each: impl FnMut(Kind, &[u8]),
    ) -> io::Result<Pause> {
        let mut pause = Pause::No;
        let mut seen = 0;
        let learns = learns(self.counters.playing_since(), now);
        while seen < DATAGRAMS_PER_ROUND {
            let count = recv_batch(self.socket(socket), slots)?;
            let icmp = slots.take_icmp();
            if icmp > 0 {
                bump(&self.counters.icmp_errors, icmp);
            }
            for (from, bytes) in slots.iter() {
                seen += 1;
                let kind = match self.leg.admit(from, socket, bytes, learns) {
                    Ok(kind) => kind,
                    Err(reason) => {
                        self.counters.dropped(reason);
                        continue;
                    }
                };
                self.counters.heard(self.side, now);
                if is_tiny(kind, bytes) {
                    self.counters.dropped(Reason::Absorbed);
                    continue;
                }
                if kind == Kind::Rtp {
                    self.received.on_packet(bytes);
                    self.frames.on_packet(bytes);
                    pause = self.frames.pause();
                }
                let sent = Sent { datagrams: 1, bytes: bytes.len() as u64, ..Sent::default() };
                self.counters.relayed(self.side, kind, &sent);
                if self.side == Side::Origin {
                    self.counters.heard_origin(kind, bytes, now);
                }
                each(kind, bytes);
            }
            self.counters.set_lost(self.side, self.received.lost());
            if count < BATCH_DATAGRAMS {
                // Fewer than asked for: the socket is empty.
                return Ok(pause);
            }
        }
        Ok(Pause::Never)
    }

    /// Sends one frame's payload to the peer.
    pub fn send(&mut self, kind: Kind, payload: &[u8], now: Instant) {
        self.send_all(&[(kind, payload)], now);
    }

    /// Sends the payloads of many frames, in order, in as few calls as it takes. Returns how many
    /// the kernel took; each of the others is counted with its reason.
    pub fn send_all(&mut self, frames: &[(Kind, &[u8])], now: Instant) -> u64 {
        if frames.is_empty() {
            return 0;
        }
        let from = self.side.other();
        self.counters.heard(from, now);
        let mut out = [&[][..]; SEGMENTS_MAX];
        let mut count = 0;
        let mut way = None;
        let mut taken = 0;
        for (kind, payload) in frames {
            if *kind == Kind::Rtp {
                self.framed.on_packet(payload);
            }
            if payload.len() > DATAGRAM_MAX_BYTES {
                self.counters.dropped(Reason::Oversized);
                continue;
            }
            let Some((via, to)) = self.leg.destination(*kind) else {
                self.counters.dropped(Reason::NoPeer);
                continue;
            };
            if way != Some((to, via, *kind)) || count == out.len() {
                taken += self.flush(way, out.get(..count).unwrap_or_default());
                (count, way) = (0, Some((to, via, *kind)));
            }
            if let Some(place) = out.get_mut(count) {
                *place = payload;
                count += 1;
            }
        }
        taken += self.flush(way, out.get(..count).unwrap_or_default());
        self.counters.set_lost(from, self.framed.lost());
        taken
    }

    fn flush(&self, way: Option<(SocketAddr, Kind, Kind)>, out: &[&[u8]]) -> u64 {
        let Some((to, via, kind)) = way.filter(|_| !out.is_empty()) else { return 0 };
        let [rtp, rtcp] = &self.segments;
        let segments = if via == Kind::Rtp { rtp } else { rtcp };
        let sent = send_all(self.socket(via), self.v6, to, out, segments);
        self.counters.relayed(self.side.other(), kind, &sent);
        sent.datagrams
    }

    /// Asks the kernel what the receive buffers have lost; a few times a minute is enough.
    pub fn sample_drops(&self) {
        use std::os::fd::AsFd;
        let drops = sys::kernel_drops(self.bound.rtp.as_fd())
            .wrapping_add(sys::kernel_drops(self.bound.rtcp.as_fd()));
        let counter = &self.counters.dropped_receive_full;
        counter.store(u64::from(drops), core::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::test_host;
    use crate::pipe::{Mode, PortPool, ports::bind};
    use core::time::Duration;

    const T0: Instant = Instant::from_millis(7);

    fn peer() -> UdpSocket {
        let socket = UdpSocket::bind((test_host(), 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn leg_to(rtp: &UdpSocket, rtcp: &UdpSocket, ports: (u16, u16)) -> UdpLeg {
        let pool = PortPool::new(ports.0, ports.1);
        let announced = |socket: &UdpSocket| socket.local_addr().ok();
        let leg = Leg::new(Mode::Learn, test_host(), announced(rtp), announced(rtcp));
        UdpLeg::new(bind(&pool, test_host()).unwrap(), leg, Side::Client)
    }

    fn packet(sequence: u8) -> Vec<u8> {
        vec![0x80, 96, 0, sequence, 0, 0, 0, 0, 0, 0, 0, 1, sequence]
    }

    fn receive(socket: &UdpSocket) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let count = socket.recv(&mut buffer).unwrap();
        buffer[..count].to_vec()
    }

    #[test]
    fn frames_of_one_read_arrive_in_order_each_on_its_port() {
        let (rtp, rtcp) = (peer(), peer());
        let mut leg = leg_to(&rtp, &rtcp, (26_000, 26_001));
        let packets: Vec<Vec<u8>> = [1, 2, 5].map(packet).into();
        let report = [0x80, 200, 0, 1, 0, 0, 0, 1];
        let frames = [
            (Kind::Rtp, &packets[0][..]),
            (Kind::Rtp, &packets[1]),
            (Kind::Rtcp, &report),
            (Kind::Rtp, &packets[2]),
        ];
        assert_eq!(leg.send_all(&frames, T0), 4);
        for packet in &packets {
            assert_eq!(&receive(&rtp), packet);
        }
        assert_eq!(receive(&rtcp), report);
        let figures = leg.counters().figures();
        assert_eq!((figures.down_packets, figures.rtcp_down, figures.lost), (3, 1, 2));
        assert_eq!((figures.last_from_origin_ms, figures.last_from_client_ms), (7, 0));
    }

    #[test]
    fn a_burst_of_more_frames_than_a_batch_arrives_whole() {
        let (rtp, rtcp) = (peer(), peer());
        let mut leg = leg_to(&rtp, &rtcp, (26_010, 26_011));
        let packets: Vec<Vec<u8>> = (0..50).map(packet).collect();
        let frames: Vec<_> = packets.iter().map(|packet| (Kind::Rtp, &packet[..])).collect();
        assert_eq!(leg.send_all(&frames, T0), 50);
        for packet in &packets {
            assert_eq!(&receive(&rtp), packet);
        }
    }

    #[test]
    fn the_peers_packets_come_with_their_kind_and_strangers_do_not() {
        let (rtp, rtcp) = (peer(), peer());
        let mut leg = leg_to(&rtp, &rtcp, (26_020, 26_021));
        let (even, odd) = leg.ports();
        rtp.send_to(&packet(1), (test_host(), even)).unwrap();
        peer().send_to(&packet(2), (test_host(), even)).unwrap(); // after the first one: a stranger
        rtp.send_to(b"hole", (test_host(), even)).unwrap();
        rtcp.send_to(&[0x80, 201, 0, 0], (test_host(), odd)).unwrap();
        let mut slots = Slots::new();
        let mut seen = Vec::new();
        for socket in [Kind::Rtp, Kind::Rtcp] {
            leg.recv(socket, &mut slots, T0, |kind, bytes| seen.push((kind, bytes.len()))).unwrap();
        }
        assert_eq!(seen, [(Kind::Rtp, 13), (Kind::Rtcp, 4)]);
        let figures = leg.counters().figures();
        assert_eq!((figures.up_packets, figures.rtcp_up), (1, 1));
        assert_eq!((figures.dropped_unknown_source, figures.absorbed), (1, 1));
    }

    #[test]
    fn a_while_after_play_no_other_port_is_learned() {
        let (rtp, rtcp) = (peer(), peer());
        let mut leg = leg_to(&rtp, &rtcp, (26_040, 26_041));
        let mut slots = Slots::new();
        let later = T0 + Duration::from_millis(crate::limits::LEARN_AFTER_PLAY_MS);
        leg.counters().plays(T0);
        peer().send_to(&packet(1), (test_host(), leg.ports().0)).unwrap();
        leg.recv(Kind::Rtp, &mut slots, later, |_, _| panic!("a stranger's")).unwrap();
        rtp.send_to(&packet(2), (test_host(), leg.ports().0)).unwrap();
        let mut seen = 0;
        leg.recv(Kind::Rtp, &mut slots, later, |_, _| seen += 1).unwrap();
        assert_eq!((seen, leg.counters().figures().dropped_unknown_source), (1, 1));
    }

    #[test]
    fn a_frame_longer_than_a_datagram_is_dropped_and_counted() {
        let (rtp, rtcp) = (peer(), peer());
        let mut leg = leg_to(&rtp, &rtcp, (26_030, 26_031));
        leg.send(Kind::Rtp, &vec![0x80; DATAGRAM_MAX_BYTES], T0);
        leg.send(Kind::Rtp, &vec![0x80; DATAGRAM_MAX_BYTES + 1], T0);
        let figures = leg.counters().figures();
        assert_eq!((figures.down_packets, figures.dropped_oversized), (1, 1));
    }
}
