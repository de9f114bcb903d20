//! The Transport header between two sides that may travel differently.
//!
//! A client lists what it can do in order of preference; one spec is chosen, turned into what is
//! asked of the origin, and the origin's answer is turned into exactly one answer for the client
//! (RFC 2326 12.39, RFC 7826 18.54). What is not ours in a spec is copied byte for byte.

use core::net::IpAddr;

use super::tracks::Leg;
use crate::rtsp::{
    Version,
    transport::{Lower, Spec, specs},
};

/// The lowest port that a client or an origin may have media sent to: below it live services.
pub(super) const PORT_MIN: u16 = 1024;

/// Why no transport can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoTransport {
    /// None of the specs works here: 461.
    Unsupported,
    /// Media was to go to somebody else (RFC 2326 16, RFC 7826 21.2.1): 403, in 2.0 463.
    Destination,
}

/// The spec that was chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    /// Its text and parameters.
    pub(super) spec: Spec<'a>,
    /// Its place in the list.
    pub(super) at: usize,
    /// What the client asked for; channels are none where it left them to us.
    pub(super) wish: Wish,
}

/// What a client asks for in one spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Datagrams to these ports.
    Udp {
        /// RTP port.
        rtp: u16,
        /// RTCP port; the same as `rtp` when both share it.
        rtcp: u16,
    },
    /// Frames on these channels, RTP and RTCP.
    Tcp(Option<[u8; 2]>),
}

/// Chooses the first spec from place `from` on that works here.
pub(super) fn choose(value: &[u8], from: usize, peer: IpAddr) -> Result<Choice<'_>, NoTransport> {
    for (at, spec) in specs(value).enumerate() {
        if !destinations(&spec).all(|host| names(host, peer)) {
            return Err(NoTransport::Destination);
        }
        if at < from || spec.is_multicast() {
            continue;
        }
        if let Some(wish) = wish(&spec) {
            return Ok(Choice { spec, at, wish });
        }
    }
    Err(NoTransport::Unsupported)
}

fn wish(spec: &Spec<'_>) -> Option<Wish> {
    match spec.lower() {
        Lower::Tcp => {
            let two = |channels: &[u8; 2]| channels[0] != channels[1];
            let channels = spec.interleaved().map(|c| [c.rtp, c.rtcp]).filter(two);
            (channels.is_some() || !spec.has("interleaved")).then_some(Wish::Tcp(channels))
        }
        // `RTP/AVP;unicast;interleaved=0-1` leaves no doubt.
        Lower::Udp if spec.has("interleaved") && !names_ports(spec) => {
            let channels = spec.interleaved().map(|c| [c.rtp, c.rtcp]);
            channels.filter(|[rtp, rtcp]| rtp != rtcp).map(|channels| Wish::Tcp(Some(channels)))
        }
        Lower::Udp => {
            let (rtp, rtcp) = match (spec.client_port(), spec.dest_addr()) {
                (Some(ports), _) => (ports.rtp, ports.rtcp),
                (None, Some(addr)) => (addr.ports.rtp, addr.ports.rtcp),
                (None, None) => return None,
            };
            (rtp >= PORT_MIN && rtcp >= PORT_MIN).then_some(Wish::Udp { rtp, rtcp })
        }
        Lower::Unknown => None,
    }
}

fn names_ports(spec: &Spec<'_>) -> bool {
    spec.has("client_port") || spec.has("dest_addr")
}

fn destinations<'a>(spec: &Spec<'a>) -> impl Iterator<Item = &'a [u8]> {
    let hosts = spec.dest_addr().map(|addr| addr.hosts).unwrap_or_default();
    spec.destination().into_iter().chain(hosts.into_iter().flatten())
}

fn names(host: &[u8], peer: IpAddr) -> bool {
    let host = host.strip_prefix(b"[").and_then(|h| h.strip_suffix(b"]")).unwrap_or(host);
    host.is_empty()
        || core::str::from_utf8(host)
            .ok()
            .and_then(|text| text.parse::<IpAddr>().ok())
            .is_some_and(|ip| ip.to_canonical() == peer.to_canonical())
}

/// What is asked of the origin: the client's spec with our ports or channels in it. `ours` names
/// our own ports on the origin's side, or the channels that we would like.
pub(super) fn toward_origin(choice: &Choice<'_>, ours: Leg, version: Version) -> Vec<u8> {
    let spec = &choice.spec;
    let mut edit = spec.edit();
    if ours.is_tcp() != (spec.lower() == Lower::Tcp) {
        edit = edit.protocol(&other_protocol(spec, ours.is_tcp()));
    }
    for ours_alone in ["destination", "source", "server_port", "src_addr"] {
        edit = edit.remove(ours_alone);
    }
    match ours {
        Leg::Tcp { rtp, rtcp } => {
            edit = edit.remove("client_port").remove("dest_addr").remove("RTCP-mux");
            edit = edit.set("interleaved", format!("{rtp}-{rtcp}").as_bytes());
        }
        Leg::Udp { rtp, rtcp, .. } => {
            edit = edit.remove("interleaved");
            let spelled = [spec.has("client_port"), spec.has("dest_addr")];
            // Where the client named no ports, a 2.0 origin is told in both spellings:
            // gst-rtsp-server knows only the old one in either version.
            let [old, modern] = match (spelled, version) {
                ([true, _], _) | ([false, false], Version::V1) => [true, false],
                ([false, true], _) => [false, true],
                ([false, false], Version::V2) => [true, true],
            };
            edit = edit.remove("RTCP-mux");
            edit = if old {
                edit.set("client_port", format!("{rtp}-{rtcp}").as_bytes())
            } else {
                edit.remove("client_port")
            };
            edit = if modern {
                edit.set("dest_addr", addrs("", rtp, rtcp).as_bytes())
            } else {
                edit.remove("dest_addr")
            };
        }
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    out
}

/// How media travels on the origin's side after its answer, and whether something of that was not
/// believed. Where the answer leaves something out, what was asked holds.
///
/// Players' datagrams go where the answer says: hence only to the origin, of whose addresses `own`
/// knows, and to no port of a service. What is not believed counts as not said: the address is
/// that of the connection, the port is learned.
pub(super) fn granted(
    answer: Option<&[u8]>,
    asked: Leg,
    own: impl Fn(IpAddr) -> bool,
) -> Option<(Leg, bool)> {
    let Some(spec) = answer.and_then(|value| specs(value).next()) else {
        let leg = match asked {
            Leg::Udp { .. } => Leg::Udp { ip: None, rtp: 0, rtcp: 0 },
            tcp => tcp,
        };
        return Some((leg, false));
    };
    let tcp = match (spec.lower(), spec.interleaved(), asked) {
        (Lower::Tcp, Some(channels), _) | (_, Some(channels), Leg::Tcp { .. }) => {
            Leg::Tcp { rtp: channels.rtp, rtcp: channels.rtcp }
        }
        (Lower::Tcp, None, Leg::Tcp { .. }) => asked,
        (Lower::Tcp, None, Leg::Udp { .. }) | (_, None, Leg::Tcp { .. }) => return None,
        (_, _, Leg::Udp { .. }) => {
            let modern = spec.src_addr();
            let host = spec.source().or_else(|| modern.as_ref()?.hosts.first().copied().flatten());
            let said = host
                .and_then(|text| core::str::from_utf8(text).ok())
                .and_then(|text| text.trim_matches(['[', ']']).parse::<IpAddr>().ok())
                .filter(|ip| !ip.is_unspecified());
            let ip = said.filter(|ip| own(*ip));
            let ports = spec.server_port().or(modern.map(|addr| addr.ports));
            let [rtp, rtcp] = ports
                .map_or([0, 0], |ports| [ports.rtp, ports.rtcp])
                .map(|port| if port < PORT_MIN { 0 } else { port });
            return Some((Leg::Udp { ip, rtp, rtcp }, ip != said));
        }
    };
    Some((tcp, false))
}

/// What the client is told. `ours` are our own ports toward the client; `ip` our address there.
pub(super) fn toward_client(
    answer: Option<&[u8]>,
    wanted: &Spec<'_>,
    client: Leg,
    ours: Option<(u16, u16)>,
    ip: IpAddr,
) -> Vec<u8> {
    let answered = answer.and_then(|value| specs(value).next());
    let base = answered.as_ref().unwrap_or(wanted);
    let mut edit = base.edit().protocol(wanted.protocol());
    match client {
        Leg::Tcp { rtp, rtcp } => {
            for udp in ["client_port", "server_port", "source", "destination"] {
                edit = edit.remove(udp);
            }
            edit = edit.remove("dest_addr").remove("src_addr");
            edit = edit.set("interleaved", format!("{rtp}-{rtcp}").as_bytes());
        }
        Leg::Udp { .. } => {
            let (rtp, rtcp) = ours.unwrap_or_default();
            edit = edit.remove("interleaved").remove("destination");
            if base.has("source") {
                edit = edit.set("source", ip.to_string().as_bytes());
            }
            if let Some(ports) = wanted.param("client_port") {
                edit = edit.remove("dest_addr").remove("src_addr");
                edit = edit.set("client_port", ports);
                edit = edit.set("server_port", format!("{rtp}-{rtcp}").as_bytes());
            } else {
                edit = edit.remove("client_port").remove("server_port");
                edit = edit.set("dest_addr", wanted.param("dest_addr").unwrap_or_default());
                if wanted.has("RTCP-mux") {
                    // One port for both, toward this client only (RFC 7826 18.54).
                    edit = edit.flag("RTCP-mux");
                    edit = edit.set("src_addr", format!("\"{}:{rtp}\"", host(ip)).as_bytes());
                } else {
                    edit = edit.set("src_addr", addrs(&host(ip), rtp, rtcp).as_bytes());
                }
            }
        }
    }
    let mut out = Vec::new();
    edit.write(&mut out);
    out
}

fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn addrs(host: &str, rtp: u16, rtcp: u16) -> String {
    format!("\"{host}:{rtp}\"/\"{host}:{rtcp}\"")
}

/// `RTP/AVP` to `RTP/AVP/TCP` and back; the profile stays.
fn other_protocol(spec: &Spec<'_>, tcp: bool) -> Vec<u8> {
    let protocol = spec.protocol();
    let profile_end = protocol
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .nth(1)
        .map_or(protocol.len(), |(at, _)| at);
    let mut out = protocol.get(..profile_end).unwrap_or(protocol).to_vec();
    if tcp {
        out.extend_from_slice(b"/TCP");
    }
    out
}
