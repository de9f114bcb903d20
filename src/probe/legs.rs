//! How one track of the probe receives: two UDP sockets or two channels.
//!
//! Not in here: the Transport header's other forms (`rtsp::transport`); the probe offers one
//! transport and reads one answer.

use core::net::{IpAddr, SocketAddr};
use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

use async_io::Async;

use crate::limits::MEDIA_SOCKET_BUFFER_BYTES;

/// Pairs of ports tried before the probe gives up.
const PAIR_ATTEMPTS: usize = 32;

/// Where RTP and RTCP of one track arrive.
pub(super) enum Leg {
    /// Sockets.
    Udp {
        /// RTP.
        rtp: Async<UdpSocket>,
        /// RTCP.
        rtcp: Async<UdpSocket>,
        /// Where our reports go, once known.
        reports_to: Option<SocketAddr>,
    },
    /// Channels of the connection: RTP, RTCP.
    Interleaved(u8, u8),
}

impl Leg {
    /// Two sockets, an even port and the next; `ports` are those that may be taken, first and last.
    pub(super) fn udp(local: IpAddr, ports: Option<(u16, u16)>) -> io::Result<Self> {
        for _ in 0..PAIR_ATTEMPTS {
            let wanted = ports.map_or(0, |(first, last)| {
                let pairs = u32::from(last.saturating_sub(first)).div_ceil(2);
                let draw = getrandom::u32().unwrap_or_default() % pairs.max(1);
                first.saturating_add(u16::try_from(2 * draw).unwrap_or_default())
            });
            let rtp = match UdpSocket::bind((local, wanted)) {
                Err(_) if ports.is_some() => continue, // a session has it
                bound => bound?,
            };
            let port = rtp.local_addr()?.port();
            if port % 2 != 0 {
                continue;
            }
            let Ok(rtcp) = UdpSocket::bind((local, port + 1)) else { continue };
            // As much as the system grants; losing a key frame's burst would be our own fault.
            let _ = socket2::SockRef::from(&rtp).set_recv_buffer_size(MEDIA_SOCKET_BUFFER_BYTES);
            return Ok(Self::Udp {
                rtp: Async::new(rtp)?,
                rtcp: Async::new(rtcp)?,
                reports_to: None,
            });
        }
        Err(io::Error::new(ErrorKind::AddrInUse, "no pair of UDP ports is free"))
    }

    /// The Transport header that asks for this leg.
    pub(super) fn transport(&self) -> io::Result<String> {
        Ok(match self {
            Self::Udp { rtp, .. } => {
                let port = rtp.get_ref().local_addr()?.port();
                format!("RTP/AVP;unicast;client_port={port}-{}", port.saturating_add(1))
            }
            Self::Interleaved(rtp, rtcp) => {
                format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}")
            }
        })
    }

    /// Takes the server's Transport header: its ports, or the channels that it chose instead.
    pub(super) fn accept(&mut self, transport: &str, server: IpAddr) {
        let param = |name: &str| {
            transport.split(';').find_map(|param| {
                let (key, value) = param.trim().split_once('=')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        match self {
            Self::Udp { rtp, rtcp, reports_to } => {
                let source = param("source").and_then(|it| it.parse().ok()).unwrap_or(server);
                let Some((first, second)) = param("server_port").and_then(pair::<u16>) else {
                    return;
                };
                *reports_to = Some(SocketAddr::new(source, second));
                // Opens the way through a NAT, as players do.
                let _ = rtp.get_ref().send_to(&[0x80, 0, 0, 0], (source, first));
                let _ = rtcp.get_ref().send_to(&[0x80, 201, 0, 1, 0, 0, 0, 0], (source, second));
            }
            Self::Interleaved(rtp, rtcp) => {
                if let Some(channels) = param("interleaved").and_then(pair::<u8>) {
                    (*rtp, *rtcp) = channels;
                }
            }
        }
    }
}

/// `a-b`, or `a` alone for a and the next.
fn pair<T: core::str::FromStr + TryFrom<u32>>(text: &str) -> Option<(T, T)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (first.parse::<u32>().ok()?, second.parse::<u32>().ok()?),
        None => {
            let first = text.parse::<u32>().ok()?;
            (first, first.checked_add(1)?)
        }
    };
    Some((T::try_from(first).ok()?, T::try_from(second).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_choice_of_channels_and_ports_is_taken() {
        let server = IpAddr::from([127, 0, 0, 1]);
        let mut leg = Leg::Interleaved(0, 1);
        leg.accept("RTP/AVP/TCP;unicast; Interleaved=6-7;ssrc= 12", server);
        assert!(matches!(leg, Leg::Interleaved(6, 7)));
        for nonsense in ["", "interleaved=256-257", "interleaved=x", "interleaved=255"] {
            leg.accept(nonsense, server);
            assert!(matches!(leg, Leg::Interleaved(6, 7)), "{nonsense}");
        }
        let mut leg = Leg::udp(server, None).expect("ports are free");
        leg.accept("RTP/AVP;server_port=6970", server);
        let Leg::Udp { reports_to, .. } = &leg else { panic!("UDP") };
        assert_eq!(*reports_to, Some(SocketAddr::new(server, 6971)));
    }

    #[test]
    fn ports_are_taken_from_the_range_that_is_given() {
        let server = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..50 {
            let leg = Leg::udp(server, Some((23_000, 23_039))).expect("ports are free");
            let text = leg.transport().unwrap();
            let ports = text.split("client_port=").nth(1).and_then(pair::<u16>).unwrap();
            assert!((23_000..=23_038).contains(&ports.0) && ports.0.is_multiple_of(2), "{text}");
        }
    }
}
