//! The Transport header (RFC 2326 12.39, RFC 7826 18.54): reading specs, and editing one in place.
//!
//! Parameters come in any order and spelling; what is not edited stays byte for byte, a malformed
//! `ssrc` included.

use core::ops::Range;

use heapless::Vec as Bounded;

use super::head::{decimal, split_at_byte};
use crate::limits::TRANSPORT_SPECS_MAX;

/// What carries the media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lower {
    /// Datagrams.
    Udp,
    /// Frames on the RTSP connection.
    Tcp,
    /// Something that the gateway cannot relay.
    Unknown,
}

/// An RTP port and its RTCP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// For RTP.
    pub rtp: u16,
    /// For RTCP; the same when both share one.
    pub rtcp: u16,
}

/// Interleaved channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// For RTP.
    pub rtp: u8,
    /// For RTCP.
    pub rtcp: u8,
}

/// `dest_addr` or `src_addr` of RTSP/2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addrs<'a> {
    /// Hosts of RTP and of RTCP, where named.
    pub hosts: [Option<&'a [u8]>; 2],
    /// Their ports.
    pub ports: Ports,
}

/// One transport spec of a list.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    text: &'a [u8],
}

/// The specs of a header's value, the preferred first; at most [`TRANSPORT_SPECS_MAX`].
pub fn specs(value: &[u8]) -> impl Iterator<Item = Spec<'_>> {
    split(value, b',')
        .map(<[u8]>::trim_ascii)
        .filter(|text| !text.is_empty())
        .take(TRANSPORT_SPECS_MAX)
        .map(|text| Spec { text })
}

impl<'a> Spec<'a> {
    /// The whole spec as it came, without spaces around it.
    pub const fn text(&self) -> &'a [u8] {
        self.text
    }

    /// `RTP/AVP`, `RTP/AVP/TCP`, … as it came.
    pub fn protocol(&self) -> &'a [u8] {
        split(self.text, b';').next().unwrap_or_default().trim_ascii()
    }

    /// What carries the media.
    pub fn lower(&self) -> Lower {
        let mut parts = self.protocol().split(|byte| *byte == b'/');
        let (rtp, profile, lower) = (parts.next(), parts.next(), parts.next());
        let is = |part: Option<&[u8]>, names: &[&str]| {
            part.is_some_and(|p| names.iter().any(|n| p.eq_ignore_ascii_case(n.as_bytes())))
        };
        if !is(rtp, &["RTP"]) || !is(profile, &["AVP", "AVPF", "SAVP", "SAVPF"]) {
            return Lower::Unknown;
        }
        match lower {
            None => Lower::Udp,
            lower if is(lower, &["UDP"]) => Lower::Udp,
            lower if is(lower, &["TCP"]) => Lower::Tcp,
            Some(_) => Lower::Unknown,
        }
    }

    /// Whether it is for many receivers.
    pub fn is_multicast(&self) -> bool {
        self.has("multicast")
    }

    /// `client_port`; one port alone implies the next.
    pub fn client_port(&self) -> Option<Ports> {
        ports(self.param("client_port")?)
    }

    /// `server_port`; one port alone implies the next.
    pub fn server_port(&self) -> Option<Ports> {
        ports(self.param("server_port")?)
    }

    /// `interleaved`; one channel alone implies the next.
    pub fn interleaved(&self) -> Option<Channels> {
        let (rtp, rtcp) = range(self.param("interleaved")?)?;
        Some(Channels { rtp: u8::try_from(rtp).ok()?, rtcp: u8::try_from(rtcp).ok()? })
    }

    /// `destination`.
    pub fn destination(&self) -> Option<&'a [u8]> {
        self.param("destination").map(unquoted)
    }

    /// `source`.
    pub fn source(&self) -> Option<&'a [u8]> {
        self.param("source").map(unquoted)
    }

    /// `dest_addr` of RTSP/2.0.
    pub fn dest_addr(&self) -> Option<Addrs<'a>> {
        addrs(self.param("dest_addr")?)
    }

    /// `src_addr` of RTSP/2.0.
    pub fn src_addr(&self) -> Option<Addrs<'a>> {
        addrs(self.param("src_addr")?)
    }

    /// Whether it asks to publish: `mode=RECORD` (RFC 2326), or `receive`, as some encoders say.
    pub fn mode_record(&self) -> bool {
        let modes = self.param("mode").map(unquoted).unwrap_or_default();
        modes.split(|byte| *byte == b',').map(|mode| unquoted(mode.trim_ascii())).any(|mode| {
            mode.eq_ignore_ascii_case(b"record") || mode.eq_ignore_ascii_case(b"receive")
        })
    }

    /// Whether RTP and RTCP share one port (RFC 7826 18.54).
    pub fn rtcp_mux(&self) -> bool {
        self.has("RTCP-mux")
    }

    /// Value of a parameter; empty for one without.
    pub fn param(&self, name: &str) -> Option<&'a [u8]> {
        split(self.text, b';').skip(1).find_map(|part| {
            let (key, value) = split_at_byte(part, b'=').unwrap_or((part.trim_ascii(), b""));
            key.eq_ignore_ascii_case(name.as_bytes()).then_some(value)
        })
    }

    /// Whether a parameter is there, with or without a value that makes sense.
    pub fn has(&self, name: &str) -> bool {
        self.param(name).is_some()
    }

    /// Begins to change it.
    pub fn edit(&self) -> SpecEdit<'a> {
        let parts = split(self.text, b';').map(|part| part.to_vec()).collect();
        SpecEdit { spec: *self, parts }
    }
}

/// A spec being changed.
#[derive(Clone, Debug)]
pub struct SpecEdit<'a> {
    spec: Spec<'a>,
    parts: Vec<Vec<u8>>,
}

impl SpecEdit<'_> {
    /// Another protocol.
    #[must_use]
    pub fn protocol(mut self, protocol: &[u8]) -> Self {
        if protocol != self.spec.protocol()
            && let Some(first) = self.parts.first_mut()
        {
            *first = protocol.to_vec();
        }
        self
    }

    /// Sets a parameter, in its place if it is there.
    #[must_use]
    pub fn set(mut self, name: &str, value: &[u8]) -> Self {
        let part = [name.as_bytes(), b"=", value].concat();
        match self.place(name) {
            Some(at) => {
                if let Some(old) = self.parts.get_mut(at) {
                    *old = part;
                }
            }
            None => self.parts.push(part),
        }
        self
    }

    /// Takes a parameter out.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        while let Some(at) = self.place(name) {
            self.parts.remove(at);
        }
        self
    }

    /// Appends the changed spec to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.parts.join(&b';'));
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.parts
            .iter()
            .skip(1)
            .position(|part| {
                let key = split_at_byte(part, b'=').map_or(part.trim_ascii(), |(key, _)| key);
                key.eq_ignore_ascii_case(name.as_bytes())
            })
            .map(|at| at + 1)
    }
}

/// Splits outside of quotes.
fn split(text: &[u8], by: u8) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    text.split(move |byte| {
        if *byte == b'"' {
            quoted = !quoted;
        }
        *byte == by && !quoted
    })
}

fn unquoted(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\"").and_then(|t| t.strip_suffix(b"\"")).unwrap_or(text)
}

fn ports(text: &[u8]) -> Option<Ports> {
    let (rtp, rtcp) = range(text)?;
    Some(Ports { rtp: u16::try_from(rtp).ok()?, rtcp: u16::try_from(rtcp).ok()? })
}

fn range(text: &[u8]) -> Option<(u32, u32)> {
    match split_at_byte(text, b'-') {
        Some((first, second)) => Some((decimal(first)?, decimal(second)?)),
        None => decimal(text).and_then(|first| Some((first, first.checked_add(1)?))),
    }
}

/// `":5000"/":5001"`, or one address when RTP and RTCP share it.
fn addrs(text: &[u8]) -> Option<Addrs<'_>> {
    let mut parts: Bounded<(Option<&[u8]>, u16), 2> = Bounded::new();
    for part in split(text, b'/') {
        let part = unquoted(part.trim_ascii());
        let colon = part.iter().rposition(|byte| *byte == b':')?;
        let span: Range<usize> = 0..colon;
        let host = part.get(span).filter(|host| !host.is_empty());
        let port = u16::try_from(decimal(part.get(colon + 1..)?)?).ok()?;
        parts.push((host, port)).ok()?;
    }
    let first = *parts.first()?;
    let second = parts.get(1).copied().unwrap_or(first);
    Some(Addrs { hosts: [first.0, second.0], ports: Ports { rtp: first.1, rtcp: second.1 } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Spec<'_> {
        specs(text.as_bytes()).next().unwrap()
    }

    fn ports_of(text: &str) -> Option<(u16, u16)> {
        one(text).client_port().map(|ports| (ports.rtp, ports.rtcp))
    }

    #[test]
    fn a_list_keeps_its_order_and_is_bounded() {
        let list: Vec<Lower> = specs(
            b"RTP/AVP/TCP;interleaved=0-1, RTP/AVP;unicast,,RAW/RAW/UDP;x=\"a,b\",rtp/savpf/udp",
        )
        .map(|spec| spec.lower())
        .collect();
        assert_eq!(list, [Lower::Tcp, Lower::Udp, Lower::Unknown, Lower::Udp]);
        let many = "RTP/AVP,".repeat(TRANSPORT_SPECS_MAX + 1);
        assert_eq!(specs(many.as_bytes()).count(), TRANSPORT_SPECS_MAX);
    }

    #[test]
    fn ports_in_all_their_shapes() {
        assert_eq!(ports_of("RTP/AVP;unicast;client_port=5000-5001"), Some((5000, 5001)));
        assert_eq!(
            ports_of("RTP/AVP;client_port=5000"),
            Some((5000, 5001)),
            "one implies the next"
        );
        assert_eq!(ports_of("RTP/AVP;CLIENT_PORT = 5001 - 6000 "), Some((5001, 6000)));
        assert_eq!(ports_of("RTP/AVP;client_port=0-1"), Some((0, 1)));
        for text in ["RTP/AVP;client_port=65535", "RTP/AVP;client_port=x", "RTP/AVP;client_port="] {
            assert_eq!(ports_of(text), None, "{text}");
            assert!(one(text).has("client_port"));
        }
        let channels = |text| one(text).interleaved().map(|c| (c.rtp, c.rtcp));
        assert_eq!(channels("RTP/AVP/TCP;interleaved=2-3"), Some((2, 3)));
        assert_eq!(channels("RTP/AVP/TCP;interleaved=254"), Some((254, 255)));
        assert_eq!(channels("RTP/AVP/TCP;interleaved=255"), None);
        assert_eq!(channels("RTP/AVP/TCP;interleaved=0-256"), None);
    }

    #[test]
    fn addresses_of_rtsp_2() {
        let spec = one("RTP/AVP;unicast;dest_addr=\":5000\"/\"192.0.2.1:5003\"");
        let found = spec.dest_addr().unwrap();
        assert_eq!((found.ports.rtp, found.ports.rtcp), (5000, 5003));
        assert_eq!(found.hosts, [None, Some(&b"192.0.2.1"[..])]);
        let spec = one("RTP/AVP;src_addr=\"[2001:db8::1]:6970\"");
        let found = spec.src_addr().unwrap();
        assert_eq!((found.hosts[0], found.ports.rtcp), (Some(&b"[2001:db8::1]"[..]), 6970));
        assert_eq!(one("RTP/AVP;dest_addr=\"5000\"").dest_addr(), None);
    }

    #[test]
    fn edits_leave_the_rest_byte_for_byte() {
        let spec =
            one("RTP/AVP;unicast;client_port=1-2;ssrc=  DEADBEEF;mode=\"PLAY\"; x ;y=\"a;b\"");
        let mut same = Vec::new();
        spec.edit().write(&mut same);
        assert_eq!(same, spec.text, "nothing to change");
        let mut out = Vec::new();
        spec.edit()
            .protocol(b"RTP/AVP/TCP")
            .remove("client_port")
            .set("MODE", b"record")
            .set("interleaved", b"0-1")
            .write(&mut out);
        let expected =
            "RTP/AVP/TCP;unicast;ssrc=  DEADBEEF;MODE=record; x ;y=\"a;b\";interleaved=0-1";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
