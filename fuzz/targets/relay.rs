//! A relay among datagrams of the announced, the learned and strange addresses: what goes on goes
//! to the other peer, strangers change nothing, and once an announced port was heard its datagrams
//! go there.
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
    let (origin, client) = (leg(&mut choices), leg(&mut choices).paired());
    let announced = [origin, client].map(|leg| [leg.rtp.destination(), leg.rtcp.destination()]);
    let mut heard = [[None; 2]; 2];
    let mut relay = Relay::new(origin, client);
    let mut now = 1;
    while !choices.is_empty() {
        let side = *choices.one(&[Side::Origin, Side::Client]);
        let socket = *choices.one(&[Kind::Rtp, Kind::Rtcp]);
        let from = address(&mut choices);
        let datagram = match choices.byte() {
            byte @ 0..250 => choices.part(byte.into()),
            byte => &[0x80; 70_000][..65_450 + 20 * usize::from(byte - 245)],
        };
        now += u64::from(choices.byte()) * 8;
        if choices.byte() == 0 {
            relay.plays_since(Some(Instant::from_millis(now)));
        }
        let before = relay.clone();
        let verdict = relay.on_datagram(from, side, socket, datagram, Instant::from_millis(now));
        check(&before, &relay, (from, side, datagram), verdict);
        let at = [usize::from(side == Side::Client), usize::from(socket == Kind::Rtcp)];
        let said = announced[at[0]][at[1]];
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        heard[at[0]][at[1]] = heard[at[0]][at[1]].or(said.filter(|said| *said == from));
        for (side, heard) in [Side::Origin, Side::Client].into_iter().zip(heard) {
            let leg = relay.leg(side);
            for (heard, goes) in heard.into_iter().zip([leg.rtp, leg.rtcp]) {
                assert!(heard.is_none() || goes.destination() == heard, "{heard:?} was heard");
            }
        }
    }
});

fn check(before: &Relay, after: &Relay, came: (SocketAddr, Side, &[u8]), verdict: Verdict) {
    let (from, side, datagram) = came;
    match verdict {
        Verdict::Drop(Reason::UnknownSource) => {
            for side in [Side::Origin, Side::Client] {
                assert_eq!(before.leg(side), after.leg(side), "a stranger changes nothing");
                assert_eq!(before.last_from(side), after.last_from(side));
                assert_eq!(before.lost(side), after.lost(side));
            }
        }
        Verdict::Forward { to, via, kind } => {
            assert_eq!(after.leg(side.other()).destination(kind), Some((via, to)));
            assert_ne!(to.port(), 0);
            assert!(!datagram.is_empty());
        }
        Verdict::Drop(_) => {}
    }
    assert_eq!(before.leg(side.other()), after.leg(side.other()), "the other side stays");
    let _ = from;
}

fn leg(choices: &mut Choices<'_>) -> Leg {
    let mode = *choices.one(&[Mode::Learn, Mode::Strict]);
    let allowed: IpAddr = choices.one(&HOSTS).parse().unwrap();
    let announced = [(); 2].map(|()| (choices.byte() & 3 != 0).then(|| address(choices)));
    let leg = Leg::new(mode, allowed, announced[0], announced[1]);
    if choices.byte() & 3 == 0 { leg.muxed() } else { leg }
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
            all.push([&peers[..], &head, datagram, &[20, 1], &head, datagram, &[20, 1]].concat());
        }
    }
    all
}
