//! Weighted rendezvous hashing with bounded load.
//!
//! Each upstream draws a number from the key and its id; the lowest, divided by weight, wins. When an
//! upstream goes away only its own keys move, and they spread over all others; when it comes back only
//! those return. A ring would need a table and many points for as even a spread; a route has few
//! upstreams, so drawing for each of them is cheaper.
//!
//! The bound: no upstream takes a session beyond `max_load_percent` of its fair share; then the next
//! in the key's own order does. So one crowd behind one address cannot sink one recorder.

use edgeweir_kit::Config;

/// What is kept together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// A client's sessions.
    #[default]
    Client,
    /// A path's sessions.
    Path,
    /// A client's sessions for one path.
    Both,
}

/// The configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `by`.
    pub by: By,
    /// `max_load_percent`: 100 is exactly the fair share.
    pub max_load_percent: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { by: By::Client, max_load_percent: 125 }
    }
}

impl Settings {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// The key, what is wrong with it and what is allowed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let by = match config.string("by", 16)?.as_deref() {
            None | Some("client") => By::Client,
            Some("path") => By::Path,
            Some("both") => By::Both,
            Some(other) => {
                return Err(format!("by = \"{other}\": client, path or both is allowed"));
            }
        };
        let max_load_percent = config.integer("max_load_percent", 100..=10_000)?;
        config.finish()?;
        let max_load_percent = max_load_percent.unwrap_or(Self::default().max_load_percent);
        Ok(Self { by, max_load_percent })
    }

    /// What is hashed, from the host's hashes.
    pub fn key(&self, client_hash: u64, path_hash: u64) -> u64 {
        match self.by {
            By::Client => client_hash,
            By::Path => path_hash,
            By::Both => mix(client_hash) ^ path_hash,
        }
    }
}

/// An upstream, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// As the host numbers it.
    pub id: u32,
    /// Share of sessions; 0 counts as 1.
    pub weight: u16,
    /// Whether it takes new sessions.
    pub healthy: bool,
    /// Sessions now.
    pub sessions: u32,
    /// Its bound; 0: none.
    pub max_sessions: u32,
}

impl Candidate {
    fn has_room(&self) -> bool {
        self.healthy && (self.max_sessions == 0 || self.sessions < self.max_sessions)
    }

    fn weight(&self) -> u64 {
        u64::from(self.weight.max(1))
    }
}

/// The upstream for a key; none if none has room.
pub fn upstream(
    settings: Settings,
    key: u64,
    candidates: impl Iterator<Item = Candidate> + Clone,
) -> Option<u32> {
    let with_room = candidates.filter(Candidate::has_room);
    let (weights, sessions) = with_room.clone().fold((0, 1), |(weights, sessions), at| {
        (weights + at.weight(), sessions + u64::from(at.sessions))
    });
    // sessions < share * percent, rounded up, without a division for each.
    let within = |at: &Candidate| {
        let (taken, allowed) = (u128::from(at.sessions), u128::from(settings.max_load_percent));
        taken * u128::from(weights) * 100 < u128::from(sessions * at.weight()) * allowed
    };
    let first = |all: &mut dyn Iterator<Item = Candidate>| {
        all.min_by_key(|at| (draw(key, at.id) / at.weight(), at.id)).map(|at| at.id)
    };
    first(&mut with_room.clone().filter(within)).or_else(|| first(&mut with_room.clone()))
}

/// A number from the exponential distribution, in units of 2^-40: -log2 of a fraction that key and id
/// give. The smallest of such numbers, each divided by its weight, falls on each upstream as often as
/// its weight is part of the sum.
fn draw(key: u64, id: u32) -> u64 {
    let fraction = mix(key ^ mix(u64::from(id) + 1)) | 1;
    let zeros = fraction.leading_zeros();
    // In [1, 2), 31 binary digits after the point.
    let mut rest = (fraction << zeros) >> 32;
    let mut log = 0_u64;
    for _ in 0..24 {
        rest = (rest * rest) >> 31;
        let carry = rest >> 32;
        rest >>= carry;
        log = (log << 1) | carry;
    }
    ((u64::from(zeros) + 1) << 40) - (log << 16)
}

/// The finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of the input moves every other.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;
    const FREE: Settings = Settings { by: By::Client, max_load_percent: 10_000 };

    fn all(weights: &[u16]) -> Vec<Candidate> {
        let of = |(id, weight): (usize, &u16)| Candidate {
            id: u32::try_from(id).unwrap(),
            weight: *weight,
            healthy: true,
            ..Candidate::default()
        };
        weights.iter().enumerate().map(of).collect()
    }

    fn pick(settings: Settings, key: u64, candidates: &[Candidate]) -> Option<u32> {
        upstream(settings, key, candidates.iter().copied())
    }

    fn counts(candidates: &[Candidate]) -> Vec<u32> {
        let mut counts = vec![0; candidates.len()];
        for key in 0..KEYS {
            counts[usize::try_from(pick(FREE, key, candidates).unwrap()).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn keys_spread_by_weight() {
        for weights in [&[1_u16, 1, 1, 1][..], &[1, 2, 5], &[100, 1], &[7; 8]] {
            let sum: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
            for (count, weight) in counts(&all(weights)).into_iter().zip(weights) {
                let fair = 20_000 * u32::from(*weight) / sum;
                let off = count.abs_diff(fair);
                assert!(off < fair / 20 + 50, "{weights:?}: {count} in place of {fair}");
            }
        }
    }

    #[test]
    fn when_an_upstream_goes_only_its_keys_move_and_they_spread() {
        let before = all(&[1, 2, 3, 2]);
        let mut after = before.clone();
        after[2].healthy = false;
        let mut moved = [0; 4];
        for key in 0..KEYS {
            let (old, new) = (pick(FREE, key, &before), pick(FREE, key, &after));
            if old == Some(2) {
                moved[usize::try_from(new.unwrap()).unwrap()] += 1;
            } else {
                assert_eq!(old, new, "key {key} moved without need");
            }
        }
        let sum: u32 = moved.iter().sum();
        assert_eq!(moved[2], 0);
        assert!(moved[0].abs_diff(sum / 5) < sum / 50, "{moved:?}");
        assert!(moved[1].abs_diff(sum * 2 / 5) < sum / 50, "{moved:?}");
    }

    #[test]
    fn when_an_upstream_is_added_keys_move_only_to_it() {
        let (before, after) = (all(&[1, 1, 1]), all(&[1, 1, 1, 1]));
        let moved = (0..KEYS).filter(|key| {
            let (old, new) = (pick(FREE, *key, &before), pick(FREE, *key, &after));
            assert!(old == new || new == Some(3));
            old != new
        });
        let moved = moved.count();
        assert!(moved.abs_diff(5_000) < 250, "{moved}");
    }

    #[test]
    fn the_order_of_the_list_does_not_matter() {
        let straight = all(&[1, 2, 3]);
        let turned: Vec<Candidate> = straight.iter().rev().copied().collect();
        assert!((0..1000).all(|key| pick(FREE, key, &straight) == pick(FREE, key, &turned)));
    }

    #[test]
    fn no_upstream_gets_more_than_its_bounded_share() {
        for percent in [100, 125, 200] {
            let settings = Settings { max_load_percent: percent, ..FREE };
            let mut all = all(&[1, 1, 2]);
            for session in 1..=400_u32 {
                // All from behind one address.
                let chosen = pick(settings, 42, &all).unwrap();
                let one = all.iter_mut().find(|at| at.id == chosen).unwrap();
                one.sessions += 1;
                let bound = (session * u32::from(one.weight) * percent).div_ceil(400);
                assert!(one.sessions <= bound, "{percent} %, session {session}: {one:?}");
            }
            assert_eq!(all.iter().map(|at| at.sessions).sum::<u32>(), 400);
        }
    }

    #[test]
    fn below_the_bound_a_key_stays() {
        let mut all = all(&[1, 1]);
        let home = pick(Settings::default(), 7, &all).unwrap();
        let home = usize::try_from(home).unwrap();
        all[home].sessions = 11;
        all[1 - home].sessions = 9;
        assert_eq!(pick(Settings::default(), 7, &all), Some(all[home].id));
        all[home].sessions = 17;
        assert_eq!(pick(Settings::default(), 7, &all), Some(all[1 - home].id));
    }

    #[test]
    fn full_and_sick_upstreams_are_left_out() {
        let mut all = all(&[1, 1, 1]);
        all[0].healthy = false;
        all[1].sessions = 4;
        all[1].max_sessions = 4;
        assert!((0..100).all(|key| pick(FREE, key, &all) == Some(2)));
        all[2].healthy = false;
        assert_eq!(pick(FREE, 1, &all), None);
        assert_eq!(pick(FREE, 1, &[]), None);
    }

    #[test]
    fn extreme_numbers_do_not_overflow() {
        let extreme = Candidate { weight: u16::MAX, sessions: u32::MAX, ..all(&[1])[0] };
        assert_eq!(pick(FREE, u64::MAX, &[extreme; 32]), Some(0));
        assert_eq!(pick(FREE, 0, &[Candidate { weight: 0, ..extreme }]), Some(0));
    }

    #[test]
    fn keys_are_of_the_client_the_path_or_both() {
        let of = |by| Settings { by, ..FREE };
        assert_eq!(of(By::Client).key(1, 2), of(By::Client).key(1, 3));
        assert_eq!(of(By::Path).key(1, 2), of(By::Path).key(9, 2));
        assert_ne!(of(By::Both).key(1, 2), of(By::Both).key(1, 3));
        assert_ne!(of(By::Both).key(1, 2), of(By::Both).key(2, 1));
    }

    #[test]
    fn configurations() {
        assert_eq!(Settings::parse(b"{}"), Ok(Settings::default()));
        assert_eq!(
            Settings::parse(br#"{"by":"both","max_load_percent":100}"#),
            Ok(Settings { by: By::Both, max_load_percent: 100 })
        );
        for (text, error) in [
            (r#"{"by":"moon"}"#, "by = \"moon\": client, path or both is allowed"),
            (r#"{"max_load_percent":99}"#, "max_load_percent = 99: 100 to 10000 is allowed"),
            (r#"{"max_load":1}"#, "unknown key \"max_load\": known are by, max_load_percent"),
        ] {
            assert_eq!(Settings::parse(text.as_bytes()), Err(error.to_owned()));
        }
    }
}
