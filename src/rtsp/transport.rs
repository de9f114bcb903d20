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

/// The specs of a header's value, the preferred first; at most [`TRANSPORT_SPECS_MAX`]. Those
/// without a protocol are left out.
///
/// ```
/// use edgeweir::rtsp::transport::{Lower, specs};
///
/// let mut list = specs(b"RTP/AVP/TCP;interleaved=0, RTP/AVP;unicast;client_port=5000");
/// let tcp = list.next().unwrap();
/// assert_eq!((tcp.lower(), tcp.interleaved().map(|c| c.rtcp)), (Lower::Tcp, Some(1)));
/// let mut out = Vec::new();
/// list.next().unwrap().edit().set("client_port", b"6000-6001").write(&mut out);
/// assert_eq!(out, b"RTP/AVP;unicast;client_port=6000-6001");
/// ```
pub fn specs(value: &[u8]) -> impl Iterator<Item = Spec<'_>> {
    split(value, b',')
        .map(<[u8]>::trim_ascii)
        .map(|text| Spec { text })
        .filter(|spec| !spec.protocol().is_empty())
        .take(TRANSPORT_SPECS_MAX)
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

    /// Sets a parameter: its value in place, with the spelling of its name, or else at the end. One
    /// that is there twice is there once afterwards, so that no reader takes the other.
    #[must_use]
    pub fn set(mut self, name: &str, value: &[u8]) -> Self {
        let Some(at) = self.place(name, 1) else {
            self.parts.push([name.as_bytes(), b"=", value].concat());
            return self;
        };
        while let Some(again) = self.place(name, at + 1) {
            self.parts.remove(again);
        }
        if let Some(part) = self.parts.get_mut(at) {
            let key = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
            part.truncate(key);
            part.push(b'=');
            part.extend_from_slice(value);
        }
        self
    }

    /// Adds a parameter without a value, if it is not there.
    #[must_use]
    pub fn flag(mut self, name: &str) -> Self {
        if self.place(name, 1).is_none() {
            self.parts.push(name.as_bytes().to_vec());
        }
        self
    }

    /// Takes a parameter out.
    #[must_use]
    pub fn remove(mut self, name: &str) -> Self {
        while let Some(at) = self.place(name, 1) {
            self.parts.remove(at);
        }
        self
    }

    /// Appends the changed spec to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.parts.join(&b';'));
    }

    /// Where the parameter stands, not looking before `from`; 0 is the protocol.
    fn place(&self, name: &str, from: usize) -> Option<usize> {
        let found = self.parts.iter().skip(from).position(|part| {
            let key = split_at_byte(part, b'=').map_or(part.trim_ascii(), |(key, _)| key);
            key.eq_ignore_ascii_case(name.as_bytes())
        });
        found.map(|at| from + at)
    }
}

/// Splits outside of quotes. A quote that is never closed is a byte like others: what follows it
/// stays readable.
fn split(text: &[u8], by: u8) -> impl Iterator<Item = &[u8]> {
    let last_quote = text.iter().rposition(|byte| *byte == b'"');
    let mut left = Some(text);
    core::iter::from_fn(move || {
        let rest = left?;
        let base = text.len() - rest.len();
        let mut quoted = false;
        let end = rest.iter().enumerate().position(|(at, byte)| {
            if *byte == b'"' {
                quoted = !quoted && last_quote.is_some_and(|last| base + at < last);
            }
            *byte == by && !quoted
        });
        left = end.and_then(|end| rest.get(end + 1..));
        rest.get(..end.unwrap_or(rest.len()))
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
            "RTP/AVP/TCP;unicast;ssrc=  DEADBEEF;mode=record; x ;y=\"a;b\";interleaved=0-1";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn oddities_of_the_field_are_read() {
        type Case = (&'static str, &'static str, Lower, Option<(u16, u16)>);
        let cases: [Case; 8] = [
            (
                "hikvision ssrc with initial spaces",
                "RTP/AVP;unicast;client_port=9000-9001;server_port=8200-8201;ssrc=    63F3B5A;mode=\"play\"",
                Lower::Udp,
                Some((9000, 9001)),
            ),
            ("savp", "RTP/SAVP;unicast;client_port=9000-9001", Lower::Udp, Some((9000, 9001))),
            ("udp named", "RTP/AVP/UDP;client_port=9000-9001", Lower::Udp, Some((9000, 9001))),
            ("avpf over tcp", "rtp/avpf/tcp;unicast;interleaved=0-1", Lower::Tcp, None),
            ("neither odd nor adjacent", "RTP/AVP;client_port=9001-7", Lower::Udp, Some((9001, 7))),
            ("spaces after semicolons", "RTP/AVP ; client_port=1-2 ;", Lower::Udp, Some((1, 2))),
            ("an open quote", "RTP/AVP;x=\"a;client_port=1-2", Lower::Udp, Some((1, 2))),
            ("ports past 32 bits", "RTP/AVP;client_port=4294967295", Lower::Udp, None),
        ];
        for (name, text, lower, ports) in cases {
            assert_eq!((one(text).lower(), ports_of(text)), (lower, ports), "{name}");
        }
        for text in ["", ";unicast", "MP2T/H2221/UDP", "RTP/AVP/DCCP", "RTP", "RTP/"] {
            assert!(specs(text.as_bytes()).all(|spec| spec.lower() == Lower::Unknown), "{text}");
        }
    }

    #[test]
    fn an_open_quote_does_not_hide_the_next_spec() {
        let list: Vec<&[u8]> =
            specs(b"RTP/AVP;a=\"b,c\";d=\"e, RTP/AVP/TCP").map(|spec| spec.text()).collect();
        assert_eq!(list, [&b"RTP/AVP;a=\"b,c\";d=\"e"[..], b"RTP/AVP/TCP"]);
    }

    #[test]
    fn a_group_is_told_from_one_receiver() {
        assert!(one("RTP/AVP;multicast").is_multicast() && !one("RTP/AVP").is_multicast());
    }

    #[test]
    fn a_parameter_given_twice_is_set_once() {
        let mut out = Vec::new();
        let spec = one("RTP/AVP; Client_Port =1-2;x;client_port=3-4;flag");
        spec.edit().set("client_port", b"5-6").set("flag", b"1").write(&mut out);
        assert_eq!(out, b"RTP/AVP; Client_Port =5-6;x;flag=1");
    }
}
