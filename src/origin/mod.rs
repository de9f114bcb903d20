//! Which origin, and is it well.
//!
//! [`Table`] is made from a configuration and never changes; a new configuration makes a new table
//! that takes over what lives on (sessions, health, counters) from the old one. A session asks
//! [`Table::route`] for its route, then [`Table::pick`] for an origin of it, and holds the
//! [`Reservation`] until it ends.
//!
//! ```text
//! path ──route──▶ Route ──candidates──▶ balance::pick ──▶ Origin::enter ──▶ Reservation
//!                           ▲ health, sessions, kbit          │ lost the race: next candidate
//!                           └─────────────────────────────────┘
//! ```
//!
//! Workers share these values as atomics: nobody waits for anybody, on no path. Not in here:
//! sockets, the resolver of host names, the active checks (the control thread does both and
//! reports through [`Origin::set_addrs`] and [`Origin::observe`]), a clock, a log.

mod addrs;
pub mod balance;
mod entry;
pub mod health;
pub mod route;

use core::ops::Deref;
use core::time::Duration;
use std::sync::Arc;

use self::{balance::Draw, health::Health::Down};
pub use self::{
    balance::Key,
    entry::{Keepalive, Origin},
    health::{Health, Outcome},
    route::{Lookup, Route},
};
use crate::{
    clock::Instant,
    config::Config,
    limits::{ROUTE_ORIGINS_MAX, UNRESOLVED_RETRY_MS},
};

/// The origins and routes of one configuration.
#[derive(Debug)]
pub struct Table {
    origins: Vec<Arc<Origin>>,
    routes: Vec<Route>,
    seed: u64,
}

/// Why there is no origin for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOrigin {
    /// None is well: 503 with `Retry-After`.
    AllDown {
        /// Until the first of them may be tried again.
        retry_in: Duration,
    },
    /// Those that are well have as many sessions as they may: 453.
    AllFull,
    /// The route has none, or all were excluded: 502 after failed attempts.
    None,
}

impl core::fmt::Display for NoOrigin {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::AllDown { retry_in } => {
                let seconds = retry_in.as_millis().div_ceil(1000);
                write!(f, "no origin of the route is well, the next trial is in {seconds} s")
            }
            Self::AllFull => f.write_str("every origin of the route has max_sessions sessions"),
            Self::None => f.write_str("no origin of the route is left to try"),
        }
    }
}

impl core::error::Error for NoOrigin {}

impl Table {
    /// The table of `config`. An origin whose name and URL are in `previous` keeps its sessions,
    /// health and counters, and its very pointer when nothing about it changed.
    pub fn new(config: &Config, previous: Option<&Self>, seed: u64) -> Self {
        let origins: Vec<Arc<Origin>> = config
            .origins
            .iter()
            .map(|settings| {
                let old = previous.and_then(|table| table.named(&settings.name));
                match old {
                    Some(old) if old.settings() == settings => Arc::clone(old),
                    _ => Arc::new(Origin::new(settings, old.map(AsRef::as_ref), seed)),
                }
            })
            .collect();
        let routes = config
            .routes
            .iter()
            .map(|route| {
                let at = |name: &str| origins.iter().position(|origin| origin.name() == name);
                Route::new(route, route.origins.iter().filter_map(|name| at(name)).collect())
            })
            .collect();
        Self { origins, routes, seed }
    }

    /// All origins, in the order of the configuration.
    pub fn origins(&self) -> &[Arc<Origin>] {
        &self.origins
    }

    /// All routes, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The origin of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Origin>> {
        self.origins.iter().find(|origin| origin.name() == name)
    }

    /// Index of the route for `path` (a query may follow), if any.
    pub fn route(&self, path: &[u8], how: Lookup) -> Option<usize> {
        route::find(&self.routes, path, how)
    }

    /// Chooses an origin for a session of route number `route` and reserves its place. `exclude`
    /// names origins, by index in [`Table::origins`], that this session has tried.
    ///
    /// An origin that is down takes part when its wait is over, for one session at a time: when
    /// nobody else can serve, or when no active check would find out that it is back.
    pub fn pick(
        &self,
        route: usize,
        key: &Key,
        exclude: &[usize],
        now: Instant,
    ) -> Result<Reservation, NoOrigin> {
        let route = self.routes.get(route).ok_or(NoOrigin::None)?;
        let draw = Draw { turn: route.next_turn(), seed: self.seed };
        let field: heapless::Vec<(usize, &Arc<Origin>), ROUTE_ORIGINS_MAX> = route
            .origins
            .iter()
            .filter(|index| !exclude.contains(index))
            .filter_map(|index| Some((*index, self.origins.get(*index)?)))
            .take(ROUTE_ORIGINS_MAX)
            .collect();
        for last_resort in [false, true] {
            let mut candidates: heapless::Vec<_, ROUTE_ORIGINS_MAX> = field
                .iter()
                .map(|(_, origin)| origin.candidate(may_serve(origin, now, last_resort)))
                .collect();
            while let Some(at) = balance::pick(route.policy, &candidates, key, draw) {
                let Some((index, origin)) = field.get(at) else { break };
                if let Some(held) = reserve(*index, origin, now) {
                    return Ok(held);
                }
                // Somebody was faster; it is out, so this ends.
                if let Some(lost) = candidates.get_mut(at) {
                    lost.healthy = false;
                }
            }
        }
        Err(why_none(field.iter().map(|(_, origin)| origin.as_ref()), now))
    }
}

fn may_serve(origin: &Origin, now: Instant, last_resort: bool) -> bool {
    let turn = match origin.health() {
        Down { until, .. } => now >= until && (last_resort || !origin.checks_itself()),
        _ => true,
    };
    turn && origin.addr().is_some()
}

fn reserve(index: usize, origin: &Arc<Origin>, now: Instant) -> Option<Reservation> {
    if !origin.enter() {
        return None;
    }
    let held = Reservation { origin: Arc::clone(origin), index };
    let is_down = matches!(origin.health(), Down { .. });
    (!is_down || origin.begin_trial(now)).then_some(held)
}

fn why_none<'a>(field: impl Iterator<Item = &'a Origin>, now: Instant) -> NoOrigin {
    let mut retry_in: Option<Duration> = None;
    for origin in field {
        let wait = match (origin.addr(), origin.health_state().health()) {
            (None, _) => Duration::from_millis(UNRESOLVED_RETRY_MS),
            (_, Down { until, .. }) => until.since(now),
            _ => return NoOrigin::AllFull,
        };
        retry_in = Some(retry_in.map_or(wait, |least| least.min(wait)));
    }
    retry_in.map_or(NoOrigin::None, |retry_in| NoOrigin::AllDown { retry_in })
}

/// A place for one session at an origin, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    origin: Arc<Origin>,
    index: usize,
}

impl Reservation {
    /// Index of the origin in [`Table::origins`] of the table that made this reservation.
    pub fn index(&self) -> usize {
        self.index
    }
}

impl Deref for Reservation {
    type Target = Arc<Origin>;
    fn deref(&self) -> &Arc<Origin> {
        &self.origin
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.origin.leave();
    }
}

/// Spreads a number over 64 bits (the finaliser of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash that stays the same from run to run and machine to machine (FNV-1a, then [`mix`]). Not
/// for tables that a peer could fill.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}
