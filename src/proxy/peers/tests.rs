//! Who gives way to whom, and that the sums are those of the connections.

use core::net::IpAddr;

use super::*;

const BOUNDS: Bounds = Bounds {
    connections: 40,
    half_open: 20,
    connections_per_peer: 10,
    sessions: 8,
    sessions_per_peer: 4,
    tracks_per_peer: 6,
};

fn peer(last: u8) -> Peer {
    Peer::of(IpAddr::from([192, 0, 2, last]))
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

struct World {
    peers: Peers,
    now: u64,
}

impl World {
    fn new() -> Self {
        Self { peers: Peers::default(), now: 0 }
    }

    fn come(&mut self, peer: Peer) -> Result<(u64, Vec<u64>), Fault> {
        self.now += 1;
        let come = self.peers.admit(peer, 0, BOUNDS, false, at(self.now));
        self.hold();
        come.map(|it| (it.id, it.go.iter().map(|victim| victim.id).collect()))
    }

    fn open(&mut self, peer: Peer) -> u64 {
        let (id, _) = self.come(peer).unwrap();
        self.peers.opened(id);
        self.hold();
        id
    }

    fn session(&mut self, peer: Peer, tracks: usize) -> u64 {
        let id = self.open(peer);
        self.peers.begin_session(id, BOUNDS, at(self.now)).unwrap();
        for _ in 0..tracks {
            self.peers.begin_track(id, BOUNDS).unwrap();
        }
        self.hold();
        id
    }

    /// The sums are those of the connections.
    fn hold(&self) {
        let all = self.peers.connections.values();
        assert_eq!(self.peers.half_open, all.clone().filter(|it| it.half_open).count());
        assert_eq!(self.peers.sessions, all.clone().filter(|it| it.session.is_some()).count());
        for (peer, takes) in &self.peers.takes {
            let own = all.clone().filter(|it| it.peer == *peer);
            assert_eq!(takes.connections, own.clone().count());
            assert_eq!(takes.tracks, own.map(|it| it.tracks).sum::<usize>());
        }
    }
}

#[test]
fn one_address_gives_way_to_itself_at_its_bound() {
    let mut world = World::new();
    let first = world.open(peer(1));
    for _ in 1..10 {
        world.open(peer(1));
    }
    let (_, gone) = world.come(peer(1)).unwrap();
    assert_eq!(gone, [first]);
    assert!(world.come(peer(2)).unwrap().1.is_empty(), "others do not notice");
}

#[test]
fn the_oldest_is_the_one_that_was_silent_longest() {
    let mut world = World::new();
    let ids: Vec<u64> = (0..10).map(|_| world.open(peer(1))).collect();
    world.peers.connections[&ids[0]].activity.touch(at(50));
    assert_eq!(world.come(peer(1)).unwrap().1, [ids[1]]);
}

#[test]
fn half_open_ones_of_the_greediest_go_first() {
    let mut world = World::new();
    let flood: Vec<u64> = (0..9).map(|_| world.come(peer(1)).unwrap().0).collect();
    for at in 0..11 {
        world.come(peer(2 + at)).unwrap();
    }
    assert_eq!(world.come(peer(20)).unwrap().1, [flood[0]]);
    assert_eq!(world.come(peer(21)).unwrap().1, [flood[1]]);
}

#[test]
fn at_the_bound_of_all_the_oldest_idle_one_of_the_greediest_goes() {
    let mut world = World::new();
    let flood: Vec<u64> = (0..10).map(|_| world.open(peer(1))).collect();
    // Another address has more of them, all with sessions that play or may.
    for _ in 0..4 {
        world.session(peer(2), 1);
    }
    for at in 0..26 {
        world.open(peer(10 + at));
    }
    assert_eq!(world.peers.connections.len(), 40);
    assert_eq!(world.come(peer(3)).unwrap().1, [flood[0]]);
}

#[test]
fn the_machine_itself_has_no_bound_of_its_own_and_goes_last() {
    let mut world = World::new();
    let machine: Vec<u64> = (0..39).map(|_| world.open(Peer::Machine)).collect();
    let other = world.open(peer(1));
    assert_eq!(world.come(peer(2)).unwrap().1, [other]);
    world.peers.opened(41);
    world.peers.begin_session(41, BOUNDS, at(0)).unwrap();
    assert_eq!(world.come(peer(3)).unwrap().1, [machine[0]]);
}

#[test]
fn nobody_goes_who_has_a_session() {
    let mut world = World::new();
    let bounds = Bounds { connections: 3, ..BOUNDS };
    for last in 1..4 {
        world.session(peer(last), 1);
    }
    let refused = world.peers.admit(peer(9), 0, bounds, false, at(99)).unwrap_err();
    assert_eq!(refused, Fault::ConnectionLimit);
    let bounds = Bounds { connections_per_peer: 1, ..BOUNDS };
    let refused = world.peers.admit(peer(1), 0, bounds, false, at(99)).unwrap_err();
    assert_eq!(refused, Fault::ClientConnections);
}

#[test]
fn sessions_and_tracks_are_bounded_for_an_address_and_come_back() {
    let mut world = World::new();
    let ids: Vec<u64> = (0..4).map(|_| world.session(peer(1), 1)).collect();
    let fifth = world.open(peer(1));
    let asked = |world: &mut World| world.peers.begin_session(fifth, BOUNDS, at(9));
    assert_eq!(asked(&mut world), Err(Fault::ClientSessions));
    world.peers.end_session(ids[0]);
    assert_eq!(asked(&mut world), Ok(()));
    for _ in 0..2 {
        world.peers.begin_track(fifth, BOUNDS).unwrap();
    }
    assert_eq!(world.peers.begin_track(fifth, BOUNDS), Err(Fault::ClientTracks));
    world.peers.end_track(fifth);
    assert_eq!(world.peers.begin_track(fifth, BOUNDS), Ok(()));
    for _ in 0..4 {
        world.session(peer(2), 1);
    }
    let ninth = world.open(peer(3));
    assert_eq!(
        world.peers.begin_session(ninth, BOUNDS, at(9)),
        Err(Fault::SessionLimit),
        "of the gateway"
    );
    for id in 1..=world.peers.last_id {
        world.peers.gone(id);
        world.hold();
    }
    assert!(world.peers.takes.is_empty());
}

#[test]
fn when_ports_are_short_the_oldest_session_of_the_greediest_that_never_played_goes() {
    let mut world = World::new();
    let honest = world.session(peer(1), 1);
    let plays = world.session(peer(2), 2);
    world.peers.connections[&plays].activity.plays();
    let greedy = [world.session(peer(2), 2), world.session(peer(2), 2)];
    let go = |world: &mut World| world.peers.never_played(0).map(|victim| victim.id);
    assert_eq!(go(&mut world), Some(greedy[0]));
    assert_eq!(go(&mut world), Some(greedy[1]), "the first is on its way");
    assert_eq!(go(&mut world), Some(honest));
    assert_eq!(go(&mut world), None, "what has played stays");
}

#[test]
fn when_descriptors_are_short_idle_connections_go_before_sessions_that_never_played() {
    let mut world = World::new();
    let session = world.session(peer(1), 1);
    let idle = world.open(peer(1));
    let come = |world: &mut World| {
        let come = world.peers.admit(peer(2), 0, BOUNDS, true, at(99));
        come.map(|it| (it.id, it.go.first().map(|victim| victim.id)))
    };
    let (id, gone) = come(&mut world).unwrap();
    assert_eq!(gone, Some(idle));
    world.peers.gone(id);
    let (id, gone) = come(&mut world).unwrap();
    assert_eq!(gone, Some(session));
    world.peers.gone(id);
    assert_eq!(come(&mut world), Err(Fault::NoDescriptors));
}

#[test]
fn bytes_of_requests_are_bounded_for_an_address_and_for_all() {
    let mut world = World::new();
    let (one, other) = (world.open(peer(1)), world.open(peer(1)));
    let half = REQUESTS_KEPT_OF_PEER_BYTES / 2;
    assert_eq!(world.peers.keeps(one, half), None);
    assert_eq!(world.peers.keeps(other, half), None);
    let go = world.peers.keeps(other, half + 1).map(|victim| victim.id);
    assert_eq!(go, Some(other), "the one that keeps the most");
    world.peers.gone(other);
    assert_eq!(world.peers.keeps(one, REQUESTS_KEPT_OF_PEER_BYTES), None);
    let each = REQUESTS_KEPT_OF_PEER_BYTES - 1;
    let mut gone = None;
    for last in 0..=(REQUESTS_KEPT_OF_ALL_BYTES / each) {
        let id = world.open(peer(10 + u8::try_from(last).unwrap()));
        gone = gone.or(world.peers.keeps(id, each));
    }
    assert_eq!(gone.map(|victim| victim.id), Some(one));
}

#[test]
fn bounds_follow_the_descriptors_and_leave_half_to_others() {
    let limits = Limits::default();
    let plenty = Bounds::of(&limits, 60_000);
    assert_eq!(plenty.connections_per_peer, usize::from(limits.connections_per_client));
    assert_eq!(plenty.tracks_per_peer, usize::from(limits.tracks_per_client));
    let few = Bounds::of(&limits, 900);
    assert_eq!(few.connections, 900);
    assert!(few.connections_per_peer * DESCRIPTORS_A_CONNECTION <= 450);
    assert!(few.tracks_per_peer * DESCRIPTORS_A_TRACK <= 450);
    assert_eq!(Bounds::of(&limits, 0).connections_per_peer, 1);
}
