//! Which of several origins: the seven policies, as one pure function.
//!
//! Chance and turns come in as numbers ([`Draw`]), so a test or a replay decides alike. Not in
//! here: reserving the chosen one (the table does), and policies of guests.

use core::cmp::Ordering;
use core::net::IpAddr;

use super::{hash_bytes, mix};
use crate::{config::Policy, limits::ROUTE_ORIGINS_MAX};

/// One origin that might be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Stable number of the origin: the hash of its name.
    pub id: u64,
    /// Share, 1 to 100; 0 counts as 1.
    pub weight: u8,
    /// Sessions now.
    pub sessions: u32,
    /// Connections that may become sessions: they count when sessions are spread, and not when places
    /// are.
    pub guests: u32,
    /// Bound of sessions; 0: none.
    pub max_sessions: u32,
    /// Traffic from it, kbit/s, with an estimate for sessions too new to be in the figure.
    pub kbit: u32,
    /// Whether it may be used.
    pub healthy: bool,
}

impl Candidate {
    /// Well and not full.
    pub fn is_eligible(&self) -> bool {
        self.healthy && (self.max_sessions == 0 || self.sessions < self.max_sessions)
    }

    fn share(&self) -> u64 {
        u64::from(self.weight.max(1))
    }
}

/// What the hash policies go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of the client's address, without its port.
    pub client_hash: u64,
    /// Of the path that was asked for.
    pub path_hash: u64,
    /// 0 for the first choice of a session, then one more for each failover.
    pub attempt: u32,
}

impl Key {
    /// The key of a request. Of `path` the part before the query counts, so that a token that
    /// changes with each request moves nobody; an IPv4 client is the same client through IPv6.
    pub fn new(client: IpAddr, path: &[u8], attempt: u32) -> Self {
        let client_hash = match client.to_canonical() {
            IpAddr::V4(ip) => hash_bytes(&ip.octets()),
            IpAddr::V6(ip) => hash_bytes(&ip.octets()),
        };
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        Self { client_hash, path_hash: hash_bytes(path), attempt }
    }
}

/// Tells clients apart where they are counted: an IPv6 one owns its /64.
pub fn client_mark(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(ip) => hash_bytes(&ip.octets()),
        IpAddr::V6(ip) => hash_bytes(ip.octets().get(..8).unwrap_or_default()),
    }
}

/// The turn of a route and the seed of its chances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// Counts the choices of a route.
    pub turn: u64,
    /// Differs from gateway to gateway.
    pub seed: u64,
}

/// The index in `candidates` of the chosen one; none when no candidate is eligible.
pub fn pick(policy: Policy, candidates: &[Candidate], key: &Key, draw: Draw) -> Option<usize> {
    let eligible = || candidates.iter().enumerate().filter(|(_, one)| one.is_eligible());
    match policy {
        Policy::First => eligible().next().map(|(index, _)| index),
        Policy::RoundRobin => round_robin(candidates, draw.turn),
        // Where the plugin has no opinion, or failed.
        Policy::LeastSessions | Policy::Plugin(_) => least(candidates, draw.turn, by_sessions),
        Policy::LeastTraffic => least(candidates, draw.turn, |a, b| {
            (u64::from(a.kbit) * b.share())
                .cmp(&(u64::from(b.kbit) * a.share()))
                .then_with(|| by_sessions(a, b))
        }),
        Policy::HashClient => rendezvous(candidates, key.client_hash),
        Policy::HashPath => rendezvous(candidates, key.path_hash),
        Policy::Random => {
            let total: u64 = eligible().map(|(_, one)| one.share()).sum();
            let chance = mix(draw.seed ^ mix(draw.turn ^ u64::from(key.attempt) << 48));
            let mut left = chance.checked_rem(total)?;
            eligible()
                .find(|(_, one)| match left.checked_sub(one.share()) {
                    Some(rest) => {
                        left = rest;
                        false
                    }
                    None => true,
                })
                .map(|(index, _)| index)
        }
    }
}

/// The session to come counts too: an idle origin of weight 3 goes before an idle one of weight 1.
fn by_sessions(a: &Candidate, b: &Candidate) -> Ordering {
    let load = |one: &Candidate| u64::from(one.sessions) + u64::from(one.guests) + 1;
    (load(a) * b.share()).cmp(&(load(b) * a.share()))
}

/// The least by `order`; equals take turns.
fn least(
    candidates: &[Candidate],
    turn: u64,
    order: impl Fn(&Candidate, &Candidate) -> Ordering,
) -> Option<usize> {
    let count = candidates.len();
    let start = usize::try_from(turn.checked_rem(count as u64)?).unwrap_or(0);
    let mut best: Option<(usize, &Candidate)> = None;
    for (index, one) in candidates.iter().enumerate().cycle().skip(start).take(count) {
        let wins = best.is_none_or(|(_, held)| order(one, held) == Ordering::Less);
        if one.is_eligible() && wins {
            best = Some((index, one));
        }
    }
    best.map(|(index, _)| index)
}

/// Smooth weighted round robin: weights 5, 1, 1 give a a b a c a a, not a a a a a b c.
///
/// The order repeats after the sum of the weights, so it is played from its start up to `turn`
/// rather than kept: at most 800 steps, once a session, and nothing for workers to share but a
/// counter.
fn round_robin(candidates: &[Candidate], turn: u64) -> Option<usize> {
    let shares = || candidates.iter().filter(|one| one.is_eligible()).map(Candidate::share);
    let divisor = shares().fold(0, gcd).max(1);
    let total = i64::try_from(shares().sum::<u64>() / divisor).ok()?;
    let steps = turn.checked_rem(u64::try_from(total).ok()?)?;
    let mut credit = [0_i64; ROUTE_ORIGINS_MAX];
    let mut chosen = None;
    for _ in 0..=steps {
        let mut best: Option<(usize, i64)> = None;
        for ((index, one), held) in candidates.iter().enumerate().zip(&mut credit) {
            if !one.is_eligible() {
                continue;
            }
            *held += i64::try_from(one.share() / divisor).unwrap_or(1);
            if best.is_none_or(|(_, most)| *held > most) {
                best = Some((index, *held));
            }
        }
        chosen = best.map(|(index, _)| index);
        if let Some(held) = chosen.and_then(|index| credit.get_mut(index)) {
            *held -= total;
        }
    }
    chosen
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The highest score wins (rendezvous hashing), and an origin draws one for each unit of its weight:
/// when an origin leaves, only its own clients move; when one comes, or weighs more, it takes its
/// share from all alike.
fn rendezvous(candidates: &[Candidate], hash: u64) -> Option<usize> {
    let score = |one: &Candidate| {
        let own = hash ^ mix(one.id);
        (0..u64::from(one.weight.max(1))).map(|draw| mix(own ^ mix(draw))).max()
    };
    candidates
        .iter()
        .enumerate()
        .filter(|(_, one)| one.is_eligible())
        .max_by_key(|(_, one)| score(one))
        .map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key { client_hash: 1, path_hash: 2, attempt: 0 };
    const ALL: [Policy; 7] = [
        Policy::RoundRobin,
        Policy::LeastSessions,
        Policy::LeastTraffic,
        Policy::HashClient,
        Policy::HashPath,
        Policy::First,
        Policy::Random,
    ];

    fn origins(weights: &[u8]) -> Vec<Candidate> {
        let one = |(index, weight): (usize, &u8)| Candidate {
            id: hash_bytes(&[u8::try_from(index).unwrap()]),
            weight: *weight,
            sessions: 0,
            guests: 0,
            max_sessions: 0,
            kbit: 0,
            healthy: true,
        };
        weights.iter().enumerate().map(one).collect()
    }

    fn turn(turn: u64) -> Draw {
        Draw { turn, seed: 9 }
    }

    fn key(client: u64) -> Key {
        Key { client_hash: mix(client), path_hash: mix(!client), attempt: 0 }
    }

    #[test]
    fn no_policy_takes_one_that_is_down_or_full_and_all_take_what_is_left() {
        for policy in ALL {
            assert_eq!(pick(policy, &[], &KEY, turn(0)), None);
            let mut four = origins(&[1, 200, 100, 0]);
            four[0].healthy = false;
            (four[1].sessions, four[1].max_sessions) = (5, 5);
            four[2].healthy = false;
            for number in 0..50 {
                assert_eq!(pick(policy, &four, &key(number), turn(number)), Some(3), "{policy:?}");
            }
            four[3].healthy = false;
            assert_eq!(pick(policy, &four, &KEY, turn(0)), None, "{policy:?}");
        }
    }

    #[test]
    fn a_turn_of_any_size_is_served() {
        for policy in ALL {
            for number in [0, 1, u64::MAX - 1, u64::MAX] {
                let eight = origins(&[100, 99, 97, 1, 0, 255, 3, 89]);
                assert!(pick(policy, &eight, &KEY, turn(number)).is_some(), "{policy:?}");
            }
        }
    }

    #[test]
    fn round_robin_is_smooth_and_honours_weights() {
        let order = |weights: &[u8], count: u64| -> Vec<usize> {
            let all = origins(weights);
            (0..count)
                .filter_map(|number| pick(Policy::RoundRobin, &all, &KEY, turn(number)))
                .collect()
        };
        assert_eq!(order(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(order(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(order(&[50, 100], 6), [1, 0, 1, 1, 0, 1], "as 1 to 2");
        let long = order(&[7, 2, 1], 1000);
        for (index, wanted) in [(0, 700), (1, 200), (2, 100)] {
            assert_eq!(long.iter().filter(|one| **one == index).count(), wanted);
        }
    }

    #[test]
    fn least_sessions_fills_origins_by_weight() {
        let mut three = origins(&[1, 2, 5]);
        for number in 0..800 {
            let at = pick(Policy::LeastSessions, &three, &KEY, turn(number)).unwrap();
            three[at].sessions += 1;
        }
        assert_eq!(three.iter().map(|one| one.sessions).collect::<Vec<_>>(), [100, 200, 500]);
    }

    #[test]
    fn equals_take_turns() {
        for policy in [Policy::LeastSessions, Policy::LeastTraffic] {
            let three = origins(&[1, 1, 1]);
            let order: Vec<_> =
                (0..6).filter_map(|number| pick(policy, &three, &KEY, turn(number))).collect();
            assert_eq!(order, [0, 1, 2, 0, 1, 2], "{policy:?}");
        }
    }

    #[test]
    fn least_traffic_counts_traffic_by_weight_then_sessions() {
        let mut three = origins(&[1, 1, 4]);
        (three[0].kbit, three[1].kbit, three[2].kbit) = (5000, 3000, 10_000);
        assert_eq!(pick(Policy::LeastTraffic, &three, &KEY, turn(0)), Some(2));
        three[2].kbit = 13_000;
        assert_eq!(pick(Policy::LeastTraffic, &three, &KEY, turn(0)), Some(1));
        (three[0].kbit, three[1].sessions) = (3000, 1);
        assert_eq!(pick(Policy::LeastTraffic, &three, &KEY, turn(1)), Some(0));
    }

    #[test]
    fn first_goes_down_the_list_whatever_the_load() {
        let mut three = origins(&[1, 100, 100]);
        three[0].sessions = 1000;
        assert_eq!(pick(Policy::First, &three, &KEY, turn(5)), Some(0));
        three[0].healthy = false;
        assert_eq!(pick(Policy::First, &three, &KEY, turn(5)), Some(1));
    }

    #[test]
    fn hashing_and_chance_honour_weights_within_a_twentieth() {
        let three = origins(&[1, 3, 6]);
        for policy in [Policy::HashClient, Policy::HashPath, Policy::Random] {
            let mut counts = [0_u32; 3];
            for number in 0..20_000 {
                counts[pick(policy, &three, &key(number), turn(number)).unwrap()] += 1;
            }
            for (count, wanted) in counts.iter().zip([2000_u32, 6000, 12_000]) {
                assert!(count.abs_diff(wanted) * 20 < wanted * 2, "{policy:?} {counts:?}");
            }
        }
    }

    #[test]
    fn when_an_origin_leaves_only_its_own_clients_move() {
        let all = origins(&[1, 2, 3, 4]);
        let mut three = all.clone();
        three[2].healthy = false;
        let gone: Vec<_> = all.iter().copied().filter(|one| one.id != all[2].id).collect();
        for number in 0..5000 {
            let before = pick(Policy::HashClient, &all, &key(number), turn(0)).unwrap();
            let down = pick(Policy::HashClient, &three, &key(number), turn(1)).unwrap();
            let removed = pick(Policy::HashClient, &gone, &key(number), turn(2)).unwrap();
            assert_eq!(three[down].id, gone[removed].id, "down and removed are alike");
            assert!(before == 2 || before == down);
        }
    }

    #[test]
    fn a_client_stays_when_its_port_changes_and_a_path_when_its_query_does() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let key = |client, path: &str| Key::new(ip(client), path.as_bytes(), 0);
        assert_eq!(key("192.0.2.1", "/a?token=1"), key("::ffff:192.0.2.1", "/a?token=2"));
        assert_ne!(key("192.0.2.1", "/a").client_hash, key("192.0.2.2", "/a").client_hash);
        assert_ne!(key("192.0.2.1", "/a").path_hash, key("192.0.2.1", "/b").path_hash);
    }
}
