//! One datagram in, one verdict out: who may send into a pipe, and where it goes.
//!
//! Pure: no socket, no clock, no counter of others. The shell asks [`Relay::on_datagram`] for each
//! datagram and does what the [`Verdict`] says.
//!
//! Who may send: a peer is known by the address of its RTSP connection, or the one it announced in
//! the Transport header. **The announced address and port may always send**, from their first
//! datagram on, whatever that is; from then on nobody else may, and what was learned is forgotten.
//! Under [`Mode::Strict`] that is all. Under [`Mode::Learn`] another port of the peer's host (a NAT, a
//! camera that answers from elsewhere) is learned and pinned
//! - while the announced one was never heard,
//! - from a datagram that is RTP or RTCP by its shape: not from an empty or a tiny one,
//! - until a few seconds after PLAY ([`LEARN_AFTER_PLAY_MS`]). Where no port was announced there is
//!   nothing to take away from, and no end to it.
//!
//! The two ports of a player ([`Leg::paired`]) are translated both or not at all, so that either
//! speaks for the other. Reports from the announced port show that there is no NAT, and settle RTP:
//! many recorders never send anything from their RTP port, and would lose it to whoever does. The
//! other way round, most players punch holes for RTP with what is no packet (live555 with four
//! bytes, GStreamer with empty datagrams or random bytes; ffmpeg with a head of RTP and a report).
//! Those teach nothing by themselves, but they are remembered: when reports come from a port that was
//! not announced, which shows the NAT, RTP goes where its hole is. A stranger on the peer's host
//! gains nothing by that: to be believed it must send a whole packet either way, in the same few
//! seconds, to a peer that says nothing from where it announced.
//!
//! Anything else is a stranger: dropped and counted.

use core::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use super::sequence::SeqTracker;
use super::{
    gather::looks_like_rtcp,
    shape::{is_rtcp, is_rtp},
};
use crate::{
    clock::Instant,
    limits::{DATAGRAM_MAX_BYTES, LEARN_AFTER_PLAY_MS},
};

/// Shortest RTP packet (RFC 3550 5.1); what is shorter punches holes.
const RTP_MIN_BYTES: usize = 12;
/// Shortest RTCP packet: the common header (RFC 3550 6.1).
const RTCP_MIN_BYTES: usize = 4;

/// One of the two peers of a pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The player (or the publisher).
    Client,
    /// The server behind the gateway.
    Origin,
}

impl Side {
    /// The other peer.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Origin,
            Self::Origin => Self::Client,
        }
    }
}

/// RTP or RTCP: of a packet, or of the socket of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Media.
    Rtp,
    /// Reports.
    Rtcp,
}

/// Whether a port may be learned from what a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The announced port, or another one of the peer's address while nothing came from that.
    Learn,
    /// The announced address and port only.
    Strict,
}

/// Where one socket's peer is, and who may claim to be it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    announced: Option<SocketAddr>,
    pinned: Option<SocketAddr>,
    /// Another port of the peer's host, from which came what is no packet.
    punched: Option<SocketAddr>,
    mode: Mode,
    allowed: IpAddr,
}

/// How a datagram was found to be the peer's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sender {
    /// It comes from where the last one came from.
    Pinned,
    /// The first one from where the peer said that it is.
    Announced,
    /// The first one from elsewhere.
    Learned,
}

impl Endpoint {
    /// `allowed`: address of the peer's RTSP connection. `announced`: what the Transport header
    /// says (`client_port`, `server_port`, `source`, `dest_addr`); none or port 0: unknown.
    pub fn new(mode: Mode, allowed: IpAddr, announced: Option<SocketAddr>) -> Self {
        let announced = announced.map(canonical).filter(|address| address.port() != 0);
        let allowed = allowed.to_canonical();
        Self { announced, pinned: None, punched: None, mode, allowed }
    }

    /// Where datagrams for this peer go: the learned address, else the announced one.
    pub fn destination(&self) -> Option<SocketAddr> {
        self.pinned.or(self.announced)
    }

    /// The address that was heard and is kept, if any.
    pub const fn pinned(&self) -> Option<SocketAddr> {
        self.pinned
    }

    /// Whether `from` may send here. `fits`: whether the datagram is a packet; `learns`: whether it
    /// is the time for other ports.
    fn admit(
        &mut self,
        from: SocketAddr,
        fits: impl FnOnce() -> bool,
        learns: bool,
    ) -> Result<Sender, Reason> {
        if self.pinned.is_some_and(|pinned| same(pinned, from)) {
            return Ok(Sender::Pinned);
        }
        if self.announced.is_some_and(|announced| same(announced, from)) {
            self.pinned = Some(from);
            return Ok(Sender::Announced);
        }
        let host = from.ip() == self.allowed
            || self.announced.is_some_and(|announced| announced.ip() == from.ip());
        let open = self.mode == Mode::Learn && (learns || self.announced.is_none());
        // Nothing can be sent to port 0, which a datagram may still name as its own.
        if self.pinned.is_some() || !host || !open || from.port() == 0 {
            return Err(Reason::UnknownSource);
        }
        if fits() {
            self.pinned = Some(from);
            return Ok(Sender::Learned);
        }
        self.punched.get_or_insert(from);
        Err(Reason::Absorbed)
    }

    /// The peer is where it said: as if it had been heard from there.
    fn settle(&mut self) {
        self.pinned = self.announced.or(self.pinned);
    }

    /// The peer is not where it said: the hole that it punched is its own.
    fn take_hole(&mut self) {
        self.pinned = self.pinned.or(self.punched);
    }

    /// Whether it was heard from elsewhere than it said.
    fn is_translated(&self) -> bool {
        match (self.pinned, self.announced) {
            (Some(pinned), Some(announced)) => !same(pinned, announced),
            _ => false,
        }
    }
}

/// An address in the form in which two of them can be compared: IPv4 as IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match (address, address.ip().to_canonical()) {
        (SocketAddr::V6(_), ip @ IpAddr::V4(_)) => SocketAddr::new(ip, address.port()),
        (address, _) => address,
    }
}

/// Same host and port; flow labels and scopes of IPv6 apart.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && a.ip() == b.ip()
}

/// One peer: its RTP and its RTCP endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Where its media come from and go to.
    pub rtp: Endpoint,
    /// Where its reports come from and go to.
    pub rtcp: Endpoint,
    /// RTP and RTCP share the RTP port (rtcp-mux, RFC 5761).
    pub mux: bool,
    /// What is found of one port holds for the other.
    paired: bool,
}

impl Leg {
    /// A peer with two ports. The arguments are those of [`Endpoint::new`].
    pub fn new(
        mode: Mode,
        allowed: IpAddr,
        rtp: Option<SocketAddr>,
        rtcp: Option<SocketAddr>,
    ) -> Self {
        Self {
            rtp: Endpoint::new(mode, allowed, rtp),
            rtcp: Endpoint::new(mode, allowed, rtcp),
            mux: false,
            paired: false,
        }
    }

    /// The same peer with RTP and RTCP on its RTP port.
    #[must_use]
    pub const fn muxed(mut self) -> Self {
        self.mux = true;
        self
    }

    /// The same peer with ports that a NAT translates both or not at all: a player. Cameras stand
    /// behind none, and some send media and reports from where they like.
    #[must_use]
    pub const fn paired(mut self) -> Self {
        self.paired = true;
        self
    }

    /// What a datagram of the peer is, or why it is not relayed: a stranger's, or a hole.
    /// `learns`: whether other ports than the announced ones may be learned now.
    ///
    /// # Errors
    /// [`Reason::UnknownSource`] and [`Reason::Absorbed`].
    pub fn admit(
        &mut self,
        from: SocketAddr,
        socket: Kind,
        datagram: &[u8],
        learns: bool,
    ) -> Result<Kind, Reason> {
        let mux = self.mux;
        let (endpoint, other) = match socket {
            Kind::Rtp => (&mut self.rtp, &mut self.rtcp),
            Kind::Rtcp => (&mut self.rtcp, &mut self.rtp),
        };
        let fits = || match socket {
            Kind::Rtp => is_rtp(datagram) || mux && is_rtcp(datagram),
            Kind::Rtcp => is_rtcp(datagram),
        };
        let admitted = endpoint.admit(canonical(from), fits, learns);
        match admitted {
            Ok(Sender::Pinned) => {}
            // RTP from the announced port says nothing of reports: some players send those from
            // another socket.
            Ok(Sender::Announced) if self.paired && socket == Kind::Rtcp => other.settle(),
            Ok(Sender::Learned) if self.paired => other.take_hole(),
            Err(Reason::Absorbed) if self.paired && other.is_translated() => endpoint.take_hole(),
            _ => {}
        }
        admitted?;
        let reports = socket == Kind::Rtcp || mux && looks_like_rtcp(datagram);
        Ok(if reports { Kind::Rtcp } else { Kind::Rtp })
    }

    /// Where a packet of this kind goes, and by which socket of the pair.
    pub fn destination(&self, kind: Kind) -> Option<(Kind, SocketAddr)> {
        match kind {
            Kind::Rtcp if !self.mux => Some((Kind::Rtcp, self.rtcp.destination()?)),
            _ => Some((Kind::Rtp, self.rtp.destination()?)),
        }
    }
}

/// Whether a compound RTCP packet holds a BYE (RFC 3550 6.6).
pub fn says_bye(mut compound: &[u8]) -> bool {
    while let [first, kind, high, low, ..] = compound {
        if first >> 6 != 2 {
            return false;
        }
        if *kind == 203 {
            return true;
        }
        let len = 4 * (usize::from(u16::from_be_bytes([*high, *low])) + 1);
        compound = compound.get(len..).unwrap_or_default();
    }
    false
}

/// Why a datagram is not relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its source may not send into this pipe.
    UnknownSource,
    /// The other peer's address is not known yet.
    NoPeer,
    /// Longer than IPv4 UDP carries.
    Oversized,
    /// No packet, but a hole that the peer punches.
    Absorbed,
}

/// What to do with one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it on, unchanged.
    Forward {
        /// Where to.
        to: SocketAddr,
        /// By which socket of the other side's pair.
        via: Kind,
        /// What it is.
        kind: Kind,
    },
    /// Count it and forget it.
    Drop(Reason),
}

/// Whether a packet of this kind is too short to be one.
pub(super) fn is_tiny(kind: Kind, datagram: &[u8]) -> bool {
    let least = if kind == Kind::Rtp { RTP_MIN_BYTES } else { RTCP_MIN_BYTES };
    datagram.len() < least
}

/// The state of a pipe: two peers and the sequence numbers between them.
#[derive(Clone, Debug)]
pub struct Relay {
    origin: Leg,
    client: Leg,
    down: SeqTracker,
    up: SeqTracker,
    last_from_origin: Option<Instant>,
    last_from_client: Option<Instant>,
    playing_since: Option<Instant>,
}

/// Whether other ports than the announced ones may be learned: before PLAY, when players punch
/// holes, and for a while after it.
pub(super) fn learns(playing_since: Option<Instant>, now: Instant) -> bool {
    let while_new = Duration::from_millis(LEARN_AFTER_PLAY_MS);
    playing_since.is_none_or(|since| now < since + while_new)
}

impl Relay {
    /// A pipe between two peers.
    pub fn new(origin: Leg, client: Leg) -> Self {
        Self {
            origin,
            client,
            down: SeqTracker::default(),
            up: SeqTracker::default(),
            last_from_origin: None,
            last_from_client: None,
            playing_since: None,
        }
    }

    /// When the last PLAY or RECORD was answered, if any was.
    pub const fn plays_since(&mut self, since: Option<Instant>) {
        self.playing_since = since;
    }

    /// What to do with a datagram that came `from` an address to one `socket` of a `side`'s pair.
    pub fn on_datagram(
        &mut self,
        from: SocketAddr,
        side: Side,
        socket: Kind,
        datagram: &[u8],
        now: Instant,
    ) -> Verdict {
        let (sender, receiver, tracker, last) = match side {
            Side::Origin => {
                (&mut self.origin, &self.client, &mut self.down, &mut self.last_from_origin)
            }
            Side::Client => {
                (&mut self.client, &self.origin, &mut self.up, &mut self.last_from_client)
            }
        };
        let learns = learns(self.playing_since, now);
        let kind = match sender.admit(from, socket, datagram, learns) {
            Ok(kind) => kind,
            Err(reason) => return Verdict::Drop(reason),
        };
        *last = Some(now);
        if is_tiny(kind, datagram) {
            return Verdict::Drop(Reason::Absorbed);
        }
        if kind == Kind::Rtp {
            tracker.on_packet(datagram);
        }
        if datagram.len() > DATAGRAM_MAX_BYTES {
            return Verdict::Drop(Reason::Oversized);
        }
        match receiver.destination(kind) {
            Some((via, to)) => Verdict::Forward { to, via, kind },
            None => Verdict::Drop(Reason::NoPeer),
        }
    }

    /// One peer.
    pub const fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::Origin => &self.origin,
            Side::Client => &self.client,
        }
    }

    /// RTP packets from `side` that its sequence numbers say are missing.
    pub const fn lost(&self, from: Side) -> u64 {
        match from {
            Side::Origin => self.down.lost(),
            Side::Client => self.up.lost(),
        }
    }

    /// When a peer that may send was last heard.
    pub const fn last_from(&self, side: Side) -> Option<Instant> {
        match side {
            Side::Origin => self.last_from_origin,
            Side::Client => self.last_from_client,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Instant = Instant::from_millis(5);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn rtp(sequence: u16) -> [u8; 16] {
        let [high, low] = sequence.to_be_bytes();
        [0x80, 96, high, low, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    }

    fn report() -> [u8; 8] {
        [0x80, 201, 0, 1, 0, 0, 0, 1]
    }

    fn leg(mode: Mode, host: &str, port: u16) -> Leg {
        let ip: IpAddr = host.parse().unwrap();
        let announced = |port| Some(SocketAddr::new(ip, port));
        Leg::new(mode, ip, announced(port), announced(port + 1))
    }

    fn relay(mode: Mode) -> Relay {
        Relay::new(leg(mode, "192.0.2.20", 6970), leg(mode, "192.0.2.7", 5000))
    }

    fn down(relay: &mut Relay, from: &str, socket: Kind, datagram: &[u8]) -> Verdict {
        relay.on_datagram(at(from), Side::Origin, socket, datagram, T0)
    }

    fn up(relay: &mut Relay, from: &str, socket: Kind, datagram: &[u8]) -> Verdict {
        relay.on_datagram(at(from), Side::Client, socket, datagram, T0)
    }

    fn forward(to: &str, kind: Kind) -> Verdict {
        Verdict::Forward { to: at(to), via: kind, kind }
    }

    const STRANGER: Verdict = Verdict::Drop(Reason::UnknownSource);

    #[test]
    fn a_bye_is_found_in_a_compound_packet_and_nowhere_else() {
        let report = [0x80, 200, 0, 1, 1, 2, 3, 4];
        let bye = [0x81, 203, 0, 1, 1, 2, 3, 4];
        assert!(says_bye(&[report, bye].concat()) && says_bye(&bye));
        assert!(!says_bye(&report) && !says_bye(&[]) && !says_bye(&[0x80, 203]));
        assert!(!says_bye(&[0x00, 203, 0, 0]), "not RTCP's version");
        assert!(!says_bye(&[0x80, 200, 0xff, 0xff]), "a length past the end");
    }

    #[test]
    fn rtp_goes_down_and_rtcp_both_ways_to_the_announced_ports() {
        let mut relay = relay(Mode::Strict);
        let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
        assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
        let sender_report = down(&mut relay, "192.0.2.20:6971", Kind::Rtcp, &report());
        assert_eq!(sender_report, forward("192.0.2.7:5001", Kind::Rtcp));
        let receiver_report = up(&mut relay, "192.0.2.7:5001", Kind::Rtcp, &report());
        assert_eq!(receiver_report, forward("192.0.2.20:6971", Kind::Rtcp));
        let back_channel = up(&mut relay, "192.0.2.7:5000", Kind::Rtp, &rtp(1));
        assert_eq!(back_channel, forward("192.0.2.20:6970", Kind::Rtp));
    }

    #[test]
    fn a_stranger_is_dropped_and_changes_nothing() {
        for mode in [Mode::Learn, Mode::Strict] {
            let mut relay = relay(mode);
            assert_eq!(down(&mut relay, "198.51.100.1:6970", Kind::Rtp, &rtp(1)), STRANGER);
            assert_eq!(up(&mut relay, "198.51.100.1:5001", Kind::Rtcp, &report()), STRANGER);
            assert_eq!(relay.last_from(Side::Origin), None);
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
            assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
            assert_eq!(relay.last_from(Side::Origin), Some(T0));
        }
    }

    const HOLES: [&[u8]; 4] = [b"", b"\xce\xfa\xed\xfe", &[0x80; RTP_MIN_BYTES - 1], &[0x0f; 200]];
    const HOLE: Verdict = Verdict::Drop(Reason::Absorbed);

    #[test]
    fn another_port_of_the_peer_is_learned_from_a_packet_and_pinned() {
        let mut relay = relay(Mode::Learn);
        assert_eq!(
            up(&mut relay, "192.0.2.7:40001", Kind::Rtcp, &report()),
            forward("192.0.2.20:6971", Kind::Rtcp)
        );
        assert_eq!(
            down(&mut relay, "192.0.2.20:6971", Kind::Rtcp, &report()),
            forward("192.0.2.7:40001", Kind::Rtcp)
        );
        assert_eq!(up(&mut relay, "192.0.2.7:40002", Kind::Rtcp, &report()), STRANGER);
    }

    #[test]
    fn the_announced_port_takes_back_what_another_port_has_taken() {
        for first in HOLES.iter().copied().chain([&rtp(1)[..]]) {
            let mut relay = relay(Mode::Learn);
            up(&mut relay, "192.0.2.7:40000", Kind::Rtp, &rtp(1));
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
            assert_eq!(media, forward("192.0.2.7:40000", Kind::Rtp));
            up(&mut relay, "192.0.2.7:5000", Kind::Rtp, first);
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(2));
            assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp), "{first:x?}");
            assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, &rtp(2)), STRANGER);
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(3));
            assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp), "and keeps it");
        }
    }

    #[test]
    fn what_is_no_packet_takes_nothing_from_another_port() {
        for hole in HOLES {
            let mut relay = relay(Mode::Learn);
            assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, hole), HOLE);
            assert_eq!(down(&mut relay, "192.0.2.20:40000", Kind::Rtp, hole), HOLE);
            assert_eq!(
                (relay.last_from(Side::Client), relay.last_from(Side::Origin)),
                (None, None)
            );
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
            assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp), "{hole:x?}");
        }
    }

    #[test]
    fn ports_are_learned_until_a_few_seconds_after_play() {
        let plays = Instant::from_millis(3_600_000);
        let last = Duration::from_millis(LEARN_AFTER_PLAY_MS - 1);
        for (now, learned) in [
            (T0, true),
            (plays, true),
            (plays + last, true),
            (plays + last + Duration::from_millis(1), false),
        ] {
            let mut relay = relay(Mode::Learn);
            if now >= plays {
                relay.plays_since(Some(plays));
            }
            let from = at("192.0.2.7:40000");
            let verdict = relay.on_datagram(from, Side::Client, Kind::Rtp, &rtp(1), now);
            assert_eq!(verdict != STRANGER, learned, "{now:?}");
            let from = at("192.0.2.7:5000");
            let verdict = relay.on_datagram(from, Side::Client, Kind::Rtp, &rtp(1), now);
            assert_ne!(verdict, STRANGER, "the announced one may at any time");
        }
    }

    #[test]
    fn where_no_port_was_announced_one_is_learned_at_any_time_and_kept() {
        let ip: IpAddr = "192.0.2.20".parse().unwrap();
        let mut relay =
            Relay::new(Leg::new(Mode::Learn, ip, None, None), leg(Mode::Learn, "192.0.2.7", 5000));
        relay.plays_since(Some(T0));
        let later = T0 + Duration::from_secs(3600);
        let mut heard = |from: &str, bytes: &[u8]| {
            relay.on_datagram(at(from), Side::Origin, Kind::Rtp, bytes, later)
        };
        assert_eq!(heard("192.0.2.20:9000", b""), HOLE);
        assert_eq!(heard("198.51.100.1:9000", &rtp(1)), STRANGER);
        assert_eq!(heard("192.0.2.20:9002", &rtp(1)), forward("192.0.2.7:5000", Kind::Rtp));
        assert_eq!(heard("192.0.2.20:9000", &rtp(1)), STRANGER);
    }

    fn paired(host: &str) -> Relay {
        let client = leg(Mode::Learn, host, 5000).paired();
        Relay::new(leg(Mode::Learn, "192.0.2.20", 6970), client)
    }

    #[test]
    fn a_hole_is_the_players_when_its_reports_show_that_a_nat_is_between() {
        for (hole_first, hole) in HOLES.iter().flat_map(|hole| [(true, *hole), (false, *hole)]) {
            let mut relay = paired("192.0.2.7");
            if hole_first {
                assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, hole), HOLE);
                up(&mut relay, "192.0.2.7:40007", Kind::Rtcp, &report());
            } else {
                up(&mut relay, "192.0.2.7:40007", Kind::Rtcp, &report());
                assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, hole), HOLE);
            }
            let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
            assert_eq!(media, forward("192.0.2.7:40000", Kind::Rtp), "{hole:x?}");
        }
    }

    #[test]
    fn reports_from_the_announced_port_settle_the_rtp_of_a_player_that_never_sends_any() {
        let mut relay = paired("192.0.2.7");
        up(&mut relay, "192.0.2.7:40000", Kind::Rtp, &rtp(1)); // somebody else on the player's host
        up(&mut relay, "192.0.2.7:5001", Kind::Rtcp, &report());
        let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
        assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
        assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, &rtp(2)), STRANGER);
        assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, b""), STRANGER);
    }

    #[test]
    fn a_camera_may_send_reports_from_where_it_announced_and_media_from_elsewhere() {
        let mut relay = paired("192.0.2.7");
        down(&mut relay, "192.0.2.20:6971", Kind::Rtcp, &report());
        let media = down(&mut relay, "192.0.2.20:9000", Kind::Rtp, &rtp(1));
        assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
    }

    #[test]
    fn strict_takes_the_announced_port_only_and_nobody_when_none_was_announced() {
        let mut relay = relay(Mode::Strict);
        assert_eq!(down(&mut relay, "192.0.2.20:6972", Kind::Rtp, &rtp(1)), STRANGER);
        let ip: IpAddr = "192.0.2.20".parse().unwrap();
        let mut unknown = Leg::new(Mode::Strict, ip, None, None);
        let admitted = unknown.admit(at("192.0.2.20:6970"), Kind::Rtp, &rtp(1), true);
        assert_eq!(admitted, Err(Reason::UnknownSource));
    }

    #[test]
    fn port_0_is_nobodys() {
        let mut relay = relay(Mode::Learn);
        assert_eq!(down(&mut relay, "192.0.2.20:0", Kind::Rtp, &rtp(1)), STRANGER);
        let media = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &rtp(1));
        assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
    }

    #[test]
    fn an_announced_host_other_than_the_connections_may_send() {
        let connection: IpAddr = "192.0.2.20".parse().unwrap();
        let source = Some(at("192.0.2.21:7000"));
        let origin = Leg::new(Mode::Learn, connection, source, None);
        let mut relay = Relay::new(origin, leg(Mode::Learn, "192.0.2.7", 5000));
        assert_eq!(
            down(&mut relay, "192.0.2.21:7400", Kind::Rtp, &rtp(1)),
            forward("192.0.2.7:5000", Kind::Rtp)
        );
    }

    #[test]
    fn without_a_known_origin_port_reports_wait_until_the_origin_is_heard() {
        let ip: IpAddr = "192.0.2.20".parse().unwrap();
        let zero = Some(SocketAddr::new(ip, 0));
        let origin = Leg::new(Mode::Learn, ip, zero, None);
        let mut relay = Relay::new(origin, leg(Mode::Learn, "192.0.2.7", 5000));
        let early = up(&mut relay, "192.0.2.7:5001", Kind::Rtcp, &report());
        assert_eq!(early, Verdict::Drop(Reason::NoPeer));
        down(&mut relay, "192.0.2.20:9001", Kind::Rtcp, &report());
        let later = up(&mut relay, "192.0.2.7:5001", Kind::Rtcp, &report());
        assert_eq!(later, forward("192.0.2.20:9001", Kind::Rtcp));
    }

    #[test]
    fn a_mapped_ipv6_source_is_the_ipv4_peer() {
        let mut relay = relay(Mode::Strict);
        let media = down(&mut relay, "[::ffff:192.0.2.20]:6970", Kind::Rtp, &rtp(1));
        assert_eq!(media, forward("192.0.2.7:5000", Kind::Rtp));
    }

    #[test]
    fn holes_of_the_announced_ports_are_absorbed_and_heard() {
        for punch in [&b""[..], b"\xce\xfa\xed\xfe", &[0x80; RTP_MIN_BYTES - 1]] {
            let mut relay = relay(Mode::Learn);
            assert_eq!(up(&mut relay, "192.0.2.7:5000", Kind::Rtp, punch), HOLE);
            assert_eq!(relay.last_from(Side::Client), Some(T0));
            assert_eq!(up(&mut relay, "192.0.2.7:40000", Kind::Rtp, &rtp(1)), STRANGER);
        }
    }

    #[test]
    fn the_longest_datagram_passes_and_one_byte_more_does_not() {
        let mut relay = relay(Mode::Learn);
        let mut datagram = vec![0x80; DATAGRAM_MAX_BYTES];
        let passed = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &datagram);
        assert_eq!(passed, forward("192.0.2.7:5000", Kind::Rtp));
        datagram.push(0);
        let dropped = down(&mut relay, "192.0.2.20:6970", Kind::Rtp, &datagram);
        assert_eq!(dropped, Verdict::Drop(Reason::Oversized));
    }

    #[test]
    fn a_muxed_peer_sends_and_gets_both_kinds_on_its_rtp_port() {
        let client = leg(Mode::Learn, "192.0.2.7", 5000).muxed();
        let mut relay = Relay::new(leg(Mode::Learn, "192.0.2.20", 6970), client);
        assert_eq!(
            up(&mut relay, "192.0.2.7:5000", Kind::Rtp, &report()),
            forward("192.0.2.20:6971", Kind::Rtcp)
        );
        assert_eq!(
            up(&mut relay, "192.0.2.7:5000", Kind::Rtp, &rtp(1)),
            forward("192.0.2.20:6970", Kind::Rtp)
        );
        assert_eq!(
            down(&mut relay, "192.0.2.20:6971", Kind::Rtcp, &report()),
            Verdict::Forward { to: at("192.0.2.7:5000"), via: Kind::Rtp, kind: Kind::Rtcp }
        );
    }
}
