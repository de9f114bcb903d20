//! One track on its way to one viewer: the leg it takes and what is counted for its reports.
//!
//! Not in here: which units go (`source`), the conversation (`session`).

use core::{net::SocketAddr, time::Duration};
use std::{
    io::{Error, ErrorKind, Result},
    net::UdpSocket,
};

use super::{
    rtcp::{self, SenderInfo},
    rtp::Stream,
    source::{Unit, ticks},
};

/// Pairs of ports tried before SETUP is refused.
const PAIR_ATTEMPTS: usize = 32;
/// Reports read from one viewer at a time; more wait for the next turn.
const REPORTS_PER_TURN: usize = 16;

/// How media reaches the viewer.
#[derive(Debug)]
pub(super) enum Leg {
    /// Two sockets of ours, connected to two ports of the viewer.
    Udp {
        /// RTP.
        rtp: UdpSocket,
        /// RTCP.
        rtcp: UdpSocket,
    },
    /// Two channels of its connection.
    Interleaved {
        /// RTP.
        rtp: u8,
        /// RTCP.
        rtcp: u8,
    },
}

impl Leg {
    /// Sockets on an even port and the next, between the hosts of a connection, interfaces included.
    pub(super) fn udp(local: SocketAddr, peer: SocketAddr, ports: (u16, u16)) -> Result<Self> {
        let with = |mut host: SocketAddr, port| {
            host.set_port(port);
            host
        };
        for _ in 0..PAIR_ATTEMPTS {
            let rtp = UdpSocket::bind(with(local, 0))?;
            let port = rtp.local_addr()?.port();
            if port % 2 != 0 {
                continue;
            }
            let Ok(rtcp) = UdpSocket::bind(with(local, port + 1)) else { continue };
            for (socket, to) in [(&rtp, ports.0), (&rtcp, ports.1)] {
                socket.connect(with(peer, to))?;
                socket.set_nonblocking(true)?;
            }
            return Ok(Self::Udp { rtp, rtcp });
        }
        Err(Error::new(ErrorKind::AddrInUse, "no pair of UDP ports is free"))
    }

    /// Port of the RTP socket.
    pub(super) fn server_port(&self) -> Option<u16> {
        match self {
            Self::Udp { rtp, .. } => rtp.local_addr().ok().map(|address| address.port()),
            Self::Interleaved { .. } => None,
        }
    }
}

/// One track that was set up.
#[derive(Debug)]
pub(super) struct Track {
    /// The RTP stream.
    pub(super) stream: Stream,
    clock: u32,
    leg: Leg,
}

impl Track {
    /// A track with random beginnings.
    pub(super) fn new(payload_type: u8, clock: u32, leg: Leg) -> Self {
        let [ssrc, offset, sequence] = [(); 3].map(|()| getrandom::u32().unwrap_or_default());
        let [_, _, high, low] = sequence.to_be_bytes();
        let stream = Stream::new(payload_type, ssrc, u16::from_be_bytes([high, low]), offset);
        Self { stream, clock, leg }
    }

    /// The RTP timestamp so long after the source began.
    pub(super) fn timestamp(&self, since_start: Duration) -> u32 {
        self.stream.timestamp(ticks(since_start, self.clock))
    }

    /// Sends a unit; interleaved frames are appended to `out`. The last packet has the marker.
    pub(super) fn send(&mut self, unit: &Unit, out: &mut Vec<u8>) {
        let mut packet = Vec::new();
        let last = unit.payloads.len().saturating_sub(1);
        for (index, payload) in unit.payloads.iter().enumerate() {
            // For audio the marker would say that a silence ended.
            let marker = index == last && unit.track == 0;
            packet.clear();
            self.stream.packet(unit.ticks, marker, payload, &mut packet);
            match &self.leg {
                Leg::Udp { rtp, .. } => datagram(rtp, &packet),
                Leg::Interleaved { rtp, .. } => frame(*rtp, &packet, out),
            }
        }
    }

    /// Sends a sender report, with a farewell when the track ends.
    pub(super) fn report(
        &self,
        since_start: Duration,
        wall: Duration,
        end: bool,
        out: &mut Vec<u8>,
    ) {
        let Stream { ssrc, packets, bytes, .. } = self.stream;
        let timestamp = self.timestamp(since_start);
        let info = SenderInfo { ssrc, wall, timestamp, packets, bytes };
        let mut report = rtcp::sender_report(&info, "camera@edgeweir");
        if end {
            report = rtcp::bye(report, ssrc);
        }
        match &self.leg {
            Leg::Udp { rtcp, .. } => datagram(rtcp, &report),
            Leg::Interleaved { rtcp, .. } => frame(*rtcp, &report, out),
        }
    }

    /// Whether the viewer has sent anything to our UDP ports since the last call.
    pub(super) fn heard(&self) -> bool {
        let Leg::Udp { rtp, rtcp } = &self.leg else { return false };
        let mut buffer = [0; 64];
        let mut heard = false;
        for socket in [rtp, rtcp] {
            for _ in 0..REPORTS_PER_TURN {
                match socket.recv(&mut buffer) {
                    Ok(_) => heard = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // What an ICMP error left behind; the socket goes on.
                    Err(_) => {}
                }
            }
        }
        heard
    }
}

/// Sends, and once more if the first call only told of an earlier ICMP error. A datagram that finds
/// no room is lost, as on any network.
fn datagram(socket: &UdpSocket, packet: &[u8]) {
    if socket.send(packet).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        let _ = socket.send(packet);
    }
}

fn frame(channel: u8, packet: &[u8], out: &mut Vec<u8>) {
    let Ok(length) = u16::try_from(packet.len()) else { return };
    out.extend_from_slice(&[b'$', channel]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(packet);
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn udp_ports_are_an_even_one_and_the_next() {
        let local = Ipv4Addr::LOCALHOST;
        for _ in 0..20 {
            let leg = Leg::udp((local, 0).into(), (local, 0).into(), (40_000, 40_001))
                .expect("ports are free");
            assert!(leg.server_port().is_some_and(|port| port % 2 == 0));
        }
    }

    #[test]
    fn only_the_last_packet_of_a_picture_has_the_marker() {
        let mut track = Track::new(96, 90_000, Leg::Interleaved { rtp: 2, rtcp: 3 });
        let payloads = vec![vec![1], vec![2, 3]];
        let mut out = Vec::new();
        track.send(&Unit { track: 0, ticks: 0, payloads, key: true }, &mut out);
        assert_eq!((&out[..4], out[5] >> 7), (&[b'$', 2, 0, 13][..], 0));
        assert_eq!((&out[17..21], out[22] >> 7), (&[b'$', 2, 0, 14][..], 1));
    }
}
