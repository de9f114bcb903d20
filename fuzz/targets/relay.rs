//! A relay among datagrams of the announced, the learned and strange addresses: what goes on goes
//! to the other peer, strangers change nothing, and the announced one always wins.
#![no_main]

use core::net::{IpAddr, SocketAddr};

use edgeweir::{
    clock::Instant,
    pipe::{Kind, Leg, Mode, Reason, Relay, Side, Verdict},
};
use edgeweir_fuzz::{input::Choices, seeds};
use libfuzzer_sys::fuzz_target;

const HOSTS: [&str; 4] = ["192.0.2.7", "198.51.100.20", "::ffff:192.0.2.7", "2001:db8::7"];

fuzz_target!(init: seeds::write(datagrams()), |data: &[u8]| {
    let mut choices = Choices(data);
    let (origin, client) = (Peer::new(&mut choices), Peer::new(&mut choices));
    let mut relay = Relay::new(origin.leg, client.leg);
    let mut peers = [origin, client];
    let mut now = 1;
    while !choices.is_empty() {
        let at = usize::from(choices.byte() & 1);
        let socket = usize::from(choices.byte() & 1);
        let from = address(&mut choices);
        let datagram = match choices.byte() {
            byte @ 0..245 => choices.part(byte.into()),
            byte => &[0x80; 70_000][..65_450 + 20 * usize::from(byte - 245)],
        };
        now += 10 * u64::from(choices.byte());
        if choices.byte() == 7 {
            relay.plays_since(Some(Instant::from_millis(now)));
        }
        let before = relay.clone();
        let kind = [Kind::Rtp, Kind::Rtcp][socket];
        let verdict = relay.on_datagram(from, SIDES[at], kind, datagram, Instant::from_millis(now));
        check(&before, &relay, SIDES[at], verdict);
        peers[at].check(from, socket, verdict);
        for (peer, side) in peers.iter().zip(SIDES) {
            peer.is_heard_at_its_place(relay.leg(side));
        }
    }
});

const SIDES: [Side; 2] = [Side::Origin, Side::Client];

/// A peer and where it said that it is.
struct Peer {
    leg: Leg,
    announced: [Option<SocketAddr>; 2],
    /// Whether anything came from there.
    heard: [bool; 2],
}

impl Peer {
    fn check(&mut self, from: SocketAddr, socket: usize, verdict: Verdict) {
        let Some(announced) = self.announced[socket] else { return };
        let stranger = verdict == Verdict::Drop(Reason::UnknownSource);
        if same(announced, from) {
            assert!(!stranger, "the announced address may always send");
            self.heard[socket] = true;
        } else if self.heard[socket] {
            assert!(stranger, "nobody else may, once it was heard: {from} for {announced}");
        }
    }
}

impl Peer {
    fn is_heard_at_its_place(&self, leg: &Leg) {
        for (at, endpoint) in [leg.rtp, leg.rtcp].into_iter().enumerate() {
            let goes = endpoint.destination().zip(self.announced[at]);
            let there = goes.is_some_and(|(to, announced)| same(to, announced));
            assert!(!self.heard[at] || there, "{goes:?}");
        }
    }
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip().to_canonical(), a.port()) == (b.ip().to_canonical(), b.port())
}

fn check(before: &Relay, after: &Relay, side: Side, verdict: Verdict) {
    match verdict {
        Verdict::Drop(Reason::UnknownSource) => {
            for side in SIDES {
                assert_eq!(before.leg(side), after.leg(side), "a stranger changes nothing");
                assert_eq!(before.last_from(side), after.last_from(side));
                assert_eq!(before.lost(side), after.lost(side));
            }
        }
        Verdict::Forward { to, via, kind } => {
            assert_eq!(after.leg(side.other()).destination(kind), Some((via, to)));
            assert_ne!(to.port(), 0);
        }
        Verdict::Drop(_) => {}
    }
    assert_eq!(before.leg(side.other()), after.leg(side.other()), "the other side stays");
}

impl Peer {
    fn new(choices: &mut Choices<'_>) -> Self {
        let mode = *choices.one(&[Mode::Learn, Mode::Strict]);
        let allowed: IpAddr = choices.one(&HOSTS).parse().unwrap();
        let announced = [(); 2].map(|()| (choices.byte() & 3 != 0).then(|| address(choices)));
        let mut leg = Leg::new(mode, allowed, announced[0], announced[1]);
        if choices.byte() & 3 == 0 {
            leg = leg.muxed();
        }
        if choices.byte() & 1 == 0 {
            leg = leg.paired();
        }
        let announced = announced.map(|at| at.filter(|at| at.port() != 0));
        Self { leg, announced, heard: [false; 2] }
    }
}

fn address(choices: &mut Choices<'_>) -> SocketAddr {
    let host: IpAddr = choices.one(&HOSTS).parse().unwrap();
    SocketAddr::new(host, *choices.one(&[5000, 5001, 6970, 6971, 40_000, 0]))
}

fn datagrams() -> Vec<Vec<u8>> {
    let rtp = [0x80, 96, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let report = [0x80, 200, 0, 1, 0, 0, 0, 1];
    let mut all = Vec::new();
    for mode in 0..2 {
        for (port, datagram) in [(2, &rtp[..]), (3, &report), (4, &rtp), (2, &[])] {
            let peers = [mode, 1, 1, 1, 2, 1, 1, 3, 1, mode, 0, 1, 0, 0, 1, 0, 1, 1];
            let length = u8::try_from(datagram.len()).unwrap();
            let head = [0, u8::from(port == 3), 1, port, length];
            all.push([&peers[..], &head, datagram, &[20], &head, datagram, &[20]].concat());
        }
    }
    all
}
