//! Which origin, and is it well.
//!
//! [`Table`] is made from a configuration and never changes; a new configuration makes a new table
//! that takes over what lives on (sessions, health, counters) from the old one. A session asks
//! [`Table::route`] for its route, then [`Table::pick`] for an origin of it, and holds the
//! [`Reservation`] as long as it is connected there: as a guest that asks, from its first SETUP to
//! its end with a place among the sessions.
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
mod consult;
mod entry;
pub mod health;
pub mod route;
mod trouble;
pub mod vitals;

use core::ops::Deref;
use core::time::Duration;
use std::sync::Arc;

use self::{balance::Draw, health::Health::Down};
pub use self::{
    balance::{Key, client_mark},
    consult::Consulted,
    entry::{Keepalive, Origin},
    health::{Health, Outcome, Reason},
    route::{Lookup, Route},
    trouble::Trouble,
};
use crate::{
    clock::Instant,
    config::{Auth, Config, OnFault, Slot},
    limits::{ROUTE_ORIGINS_MAX, UNRESOLVED_RETRY_MS},
};

/// The origins and routes of one configuration.
#[derive(Debug)]
pub struct Table {
    origins: Vec<Arc<Origin>>,
    routes: Vec<Route>,
    slots: Vec<(String, OnFault)>,
    seed: u64,
    strict: bool,
}

/// What a connection to an origin is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Questions: they take no place of `max_sessions`.
    Asks,
    /// A session.
    Session,
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
                let served: Vec<usize> = route.origins.iter().filter_map(|name| at(name)).collect();
                let signs =
                    |at: &usize| origins.get(*at).is_some_and(|it| it.credentials().is_some());
                let signs = served.iter().any(signs);
                let mut route = Route::new(route, served);
                route.signs = signs;
                route
            })
            .collect::<Vec<Route>>();
        // Where all may reach every path, no spelling of one gains anything.
        let strict =
            routes.iter().any(|route| route.asks() || (route.signs && !route.is_catch_all()));
        let slots = config.plugins.slots.iter();
        let slots =
            slots.map(|plugin| (plugin.slot.as_str().to_owned(), plugin.on_fault)).collect();
        Self { origins, routes, slots, seed, strict }
    }

    /// Names of all slots for plugins.
    pub fn slot_names(&self) -> impl Iterator<Item = &str> {
        self.slots.iter().map(|(name, _)| name.as_str())
    }

    /// Name of a slot; empty when there is none.
    pub fn slot_name(&self, slot: Slot) -> &str {
        self.slots.get(usize::from(slot.0)).map_or("", |(name, _)| name)
    }

    /// What becomes of a message when the filter in this slot fails.
    pub fn on_fault(&self, slot: Slot) -> OnFault {
        self.slots.get(usize::from(slot.0)).map_or(OnFault::Reject, |(_, on_fault)| *on_fault)
    }

    /// All origins, in the order of the configuration.
    pub fn origins(&self) -> &[Arc<Origin>] {
        &self.origins
    }

    /// Whether paths that could mean two things are refused: some paths are for some only.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The route of another table that is this one: for the same paths, with the same origins, and
    /// with the same to be asked and allowed.
    pub fn same_route(&self, index: usize, other: &Self) -> Option<usize> {
        let route = self.routes.get(index)?;
        let served = |table: &Self, route: &Route| -> Vec<_> {
            let origins = route.origins.iter().filter_map(|at| table.origins.get(*at));
            origins.map(|it| (it.name().to_owned(), it.settings().url.clone())).collect()
        };
        let asked = |table: &Self, route: &Route| match route.auth {
            Auth::Plugin(slot) => Some(table.slot_name(slot).to_owned()),
            _ => None,
        };
        other.routes.iter().position(|it| {
            it.path() == route.path()
                && core::mem::discriminant(&it.auth) == core::mem::discriminant(&route.auth)
                && asked(other, it) == asked(self, route)
                && (it.signs, it.methods) == (route.signs, route.methods)
                && served(other, it) == served(self, route)
        })
    }

    /// All routes, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The origin of that name.
    pub fn named(&self, name: &str) -> Option<&Arc<Origin>> {
        self.origins.iter().find(|origin| origin.name() == name)
    }

    /// Whether an origin of the configuration is at this host (IPv6 in brackets) and port.
    pub fn has_at(&self, host: &[u8], port: u16) -> bool {
        self.index_at(host, port).is_some()
    }

    /// Which origin of the configuration is at this host (IPv6 in brackets) and port.
    pub fn index_at(&self, host: &[u8], port: u16) -> Option<usize> {
        let host = unbracketed(host);
        self.origins.iter().position(|origin| {
            let name = unbracketed(origin.host().as_bytes());
            origin.port() == port && name.eq_ignore_ascii_case(host)
        })
    }

    /// Index of the route for `path` (a query may follow), if any.
    pub fn route(&self, path: &[u8], how: Lookup) -> Option<usize> {
        route::find(&self.routes, path, how)
    }

    /// Chooses an origin for a connection of route number `route`, and reserves its place where it
    /// is for a session. `exclude` names origins, by index in [`Table::origins`], that were tried.
    ///
    /// An origin that is down takes part when its wait is over, for one session at a time: when
    /// nobody else can serve, or when no active check would find out that it is back. The only origin
    /// of a route is tried by everybody, but not at once. One that is full still answers questions,
    /// where nobody has room.
    pub fn pick(
        &self,
        route: usize,
        key: &Key,
        exclude: &[usize],
        purpose: Purpose,
        now: Instant,
    ) -> Result<Reservation, NoOrigin> {
        let route = self.routes.get(route).ok_or(NoOrigin::None)?;
        let draw = Draw { turn: route.next_turn(), seed: self.seed };
        let only = route.origins.len() == 1;
        let field: heapless::Vec<(usize, &Arc<Origin>), ROUTE_ORIGINS_MAX> = route
            .origins
            .iter()
            .filter(|index| !exclude.contains(index))
            .filter_map(|index| Some((*index, self.origins.get(*index)?)))
            .take(ROUTE_ORIGINS_MAX)
            .collect();
        for (last_resort, full) in [(false, false), (false, true), (true, false), (true, true)] {
            if full && purpose == Purpose::Session {
                continue;
            }
            let mut candidates: heapless::Vec<_, ROUTE_ORIGINS_MAX> = field
                .iter()
                .map(|(_, origin)| origin.candidate(may_serve(origin, now, last_resort, only)))
                .collect();
            for candidate in candidates.iter_mut().filter(|_| full) {
                candidate.max_sessions = 0;
            }
            while let Some(at) = balance::pick(route.policy, &candidates, key, draw) {
                let Some((index, origin)) = field.get(at) else { break };
                if let Some(held) = reserve(*index, origin, now, purpose, only) {
                    return Ok(held);
                }
                // Somebody was faster; it is out, so this ends.
                if let Some(lost) = candidates.get_mut(at) {
                    lost.healthy = false;
                }
            }
        }
        Err(why_none(field.iter().map(|(_, origin)| origin.as_ref()), now, only))
    }

    /// Another connection to an origin that was chosen before, whatever is thought of it meanwhile.
    pub fn again(&self, index: usize, purpose: Purpose) -> Option<Reservation> {
        let mut held = Reservation::new(Arc::clone(self.origins.get(index)?), index);
        (purpose == Purpose::Asks || held.take_place()).then_some(held)
    }

    /// Whether an origin of this route that is not in `exclude` would take one more session.
    pub fn has_room(&self, route: usize, exclude: &[usize], now: Instant) -> bool {
        let origins = self.routes.get(route).map_or(&[][..], |route| &route.origins);
        origins.iter().filter(|index| !exclude.contains(index)).any(|index| {
            self.origins.get(*index).is_some_and(|origin| {
                origin.candidate(may_serve(origin, now, true, origins.len() == 1)).is_eligible()
            })
        })
    }

    /// The path of an origin that it is asked about when somebody has doubts: that of its URL, else
    /// the longest that a route names. Cameras exist that are mute to a URL without a path.
    pub fn question_path(&self, origin: &Origin) -> Vec<u8> {
        let serves = |route: &&Route| {
            let mut served = route.origins.iter().filter_map(|index| self.origins.get(*index));
            served.any(|one| one.name() == origin.name())
        };
        let paths = self.routes.iter().filter(serves).map(|route| {
            let literal = route.literal_prefix();
            let tail = literal.strip_prefix(route.replaced_by(origin.path())).unwrap_or_default();
            [origin.path().strip_suffix(b"/").unwrap_or(origin.path()), tail].concat()
        });
        let longest = paths.max_by_key(Vec::len).unwrap_or_else(|| origin.path().to_vec());
        if longest.is_empty() { b"/".to_vec() } else { longest }
    }
}

fn unbracketed(host: &[u8]) -> &[u8] {
    host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]")).unwrap_or(host)
}

fn may_serve(origin: &Origin, now: Instant, last_resort: bool, only: bool) -> bool {
    let turn = match origin.health() {
        Down { .. } if only => origin.only_one_may_be_tried(now),
        Down { until, .. } => now >= until && (last_resort || !origin.checks_itself()),
        _ => true,
    };
    turn && origin.addr().is_some()
}

fn reserve(
    index: usize,
    origin: &Arc<Origin>,
    now: Instant,
    purpose: Purpose,
    only: bool,
) -> Option<Reservation> {
    let mut held = Reservation::new(Arc::clone(origin), index);
    if purpose == Purpose::Session && !held.take_place() {
        return None;
    }
    let is_down = matches!(origin.health(), Down { .. });
    (!is_down || origin.begin_trial(now) || only).then_some(held)
}

fn why_none<'a>(field: impl Iterator<Item = &'a Origin>, now: Instant, only: bool) -> NoOrigin {
    let mut retry_in: Option<Duration> = None;
    for origin in field {
        let wait = match (origin.addr(), origin.health_state().health()) {
            (None, _) => Duration::from_millis(UNRESOLVED_RETRY_MS),
            (_, Down { .. }) if only => origin.only_one_waits_until().since(now),
            (_, Down { until, .. }) => until.since(now),
            _ => return NoOrigin::AllFull,
        };
        retry_in = Some(retry_in.map_or(wait, |least| least.min(wait)));
    }
    retry_in.map_or(NoOrigin::None, |retry_in| NoOrigin::AllDown { retry_in })
}

/// A connection at an origin and, from the first SETUP on, a place for its session there; given back
/// when dropped.
#[derive(Debug)]
pub struct Reservation {
    origin: Arc<Origin>,
    index: usize,
    placed: bool,
}

impl Reservation {
    fn new(origin: Arc<Origin>, index: usize) -> Self {
        origin.welcome();
        Self { origin, index, placed: false }
    }

    /// Takes a place among the origin's sessions; false when it is full.
    pub fn take_place(&mut self) -> bool {
        if !self.placed && self.origin.enter() {
            self.origin.farewell();
            self.placed = true;
        }
        self.placed
    }

    /// Gives the place back: the session is over, its connection stays.
    pub fn leave_place(&mut self) {
        if self.placed {
            self.origin.leave();
            self.origin.welcome();
            self.placed = false;
        }
    }

    /// Whether it holds a place.
    pub fn has_place(&self) -> bool {
        self.placed
    }

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
        if self.placed {
            self.origin.leave();
        } else {
            self.origin.farewell();
        }
    }
}

/// Spreads a number over 64 bits (the finaliser of SplitMix64).
pub(crate) fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A hash that stays the same from run to run and machine to machine (FNV-1a, then SplitMix64). Not
/// for tables that a peer could fill.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::config;

    const KEY: Key = Key { client_hash: 1, path_hash: 2, attempt: 0 };
    const ANSWERED: Outcome = Outcome::Answered { rtt_us: 1000 };

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Origins `a`, `b`, … with these bounds; one route `/**` to all of them.
    fn config(policy: config::Policy, bounds: &[u16]) -> Config {
        let names = ["a", "b", "c", "d"];
        let origins =
            names.iter().zip(bounds).enumerate().map(|(index, (name, bound))| config::Origin {
                name: (*name).try_into().unwrap(),
                url: format!("rtsp://192.0.2.{index}").as_str().try_into().unwrap(),
                max_sessions: *bound,
                ..config::Origin::default()
            });
        let origins: config::List<_, _> = origins.collect();
        let route = config::Route {
            path: "/**".try_into().unwrap(),
            origins: origins.iter().map(|origin| origin.name.clone()).collect(),
            policy,
            ..config::Route::default()
        };
        Config { origins, routes: [route].into_iter().collect(), ..Config::default() }
    }

    fn table(bounds: &[u16]) -> Table {
        Table::new(&config(config::Policy::First, bounds), None, 7)
    }

    fn picked(table: &Table, exclude: &[usize], ms: u64) -> Result<usize, NoOrigin> {
        table.pick(0, &KEY, exclude, Purpose::Session, at(ms)).map(|held| held.index())
    }

    #[test]
    fn a_reservation_gives_its_place_back_when_dropped() {
        let table = table(&[2]);
        let one = table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap();
        let two = table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap();
        assert_eq!((one.sessions(), one.name()), (2, "a"));
        assert_eq!(
            table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap_err(),
            NoOrigin::AllFull
        );
        drop(two);
        assert_eq!(one.sessions(), 1);
        assert!(table.pick(0, &KEY, &[], Purpose::Session, at(0)).is_ok());
    }

    #[test]
    fn questions_take_no_place_and_are_answered_where_all_are_full() {
        let table = table(&[1]);
        let ask = || table.pick(0, &KEY, &[], Purpose::Asks, at(0));
        let mut guests: Vec<_> = (0..50).map(|_| ask().unwrap()).collect();
        assert_eq!(table.origins()[0].sessions(), 0);
        assert!(guests[0].take_place() && guests[0].take_place(), "one place is taken once");
        assert!(!guests[1].take_place(), "the next SETUP finds it full");
        assert_eq!(picked(&table, &[], 0), Err(NoOrigin::AllFull));
        assert!(!table.has_room(0, &[], at(0)));
        assert!(ask().is_ok(), "what only asks is still answered");
        guests[0].leave_place();
        assert!(guests[1].take_place());
        drop(guests);
        assert_eq!(table.origins()[0].sessions(), 0);
        assert!(table.has_room(0, &[], at(0)) && !table.has_room(0, &[0], at(0)));
    }

    #[test]
    fn guests_are_spread_like_sessions() {
        let table = Table::new(&config(config::Policy::LeastSessions, &[0, 0]), None, 7);
        let held: Vec<_> =
            (0..20).map(|_| table.pick(0, &KEY, &[], Purpose::Asks, at(0)).unwrap()).collect();
        assert_eq!(held.iter().filter(|one| one.index() == 0).count(), 10);
    }

    #[test]
    fn the_only_origin_of_a_route_is_tried_by_all_a_second_after_it_failed() {
        let table = table(&[0]);
        let origin = &table.origins()[0];
        for ms in [0, 1000, 2000, 3000] {
            origin.observe(Outcome::ConnectFailed, at(ms));
            let Err(NoOrigin::AllDown { retry_in }) = picked(&table, &[], ms + 10) else {
                panic!("it has just failed");
            };
            assert_eq!(retry_in.as_millis(), 990);
        }
        assert!(matches!(origin.health(), Down { .. }));
        for _ in 0..5 {
            assert_eq!(picked(&table, &[], 4000), Ok(0), "whatever its wait");
        }
    }

    #[test]
    fn a_question_has_a_path_wherever_one_is_known() {
        let rows = [
            ("rtsp://192.0.2.1/Streaming/101", "/live/*", "/Streaming/101"),
            ("rtsp://192.0.2.1", "/live/*", "/live"),
            ("rtsp://192.0.2.1", "/**", "/"),
        ];
        for (url, path, wanted) in rows {
            let mut config = config(config::Policy::First, &[0]);
            config.origins[0].url = url.try_into().unwrap();
            config.routes[0].path = path.try_into().unwrap();
            let table = Table::new(&config, None, 7);
            let asked = table.question_path(&table.origins()[0]);
            assert_eq!(String::from_utf8(asked).unwrap(), wanted, "{url} {path}");
        }
    }

    #[test]
    fn a_full_origin_is_passed_over() {
        let table = table(&[1, 0]);
        let held = table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap();
        assert_eq!(picked(&table, &[], 0), Ok(1));
        drop(held);
        assert_eq!(picked(&table, &[], 0), Ok(0));
    }

    #[test]
    fn failover_goes_on_to_what_was_not_tried() {
        let table = table(&[0, 0, 0]);
        assert_eq!(picked(&table, &[0], 0), Ok(1));
        table.origins()[1].observe(Outcome::ConnectFailed, at(0));
        assert_eq!(picked(&table, &[0], 0), Ok(2));
        assert_eq!(picked(&table, &[0, 1, 2], 0), Err(NoOrigin::None));
        assert_eq!(picked(&table, &[9], 0), Ok(0));
        assert_eq!(
            table.pick(1, &KEY, &[], Purpose::Session, at(0)).unwrap_err(),
            NoOrigin::None,
            "no such route"
        );
    }

    #[test]
    fn when_all_are_down_the_first_whose_wait_is_over_is_tried_by_one_session() {
        let table = table(&[0, 0]);
        table.origins()[0].observe(Outcome::ConnectFailed, at(0));
        table.origins()[1].observe(Outcome::ConnectFailed, at(100_000));
        let Err(NoOrigin::AllDown { retry_in }) = picked(&table, &[], 1000) else {
            panic!("an origin that is down was chosen");
        };
        assert!((1500..=6500).contains(&retry_in.as_millis()), "{retry_in:?}");
        let until = 1000 + u64::try_from(retry_in.as_millis()).unwrap();
        assert!(picked(&table, &[], until - 1).is_err());
        let trial = table.pick(0, &KEY, &[], Purpose::Session, at(until)).unwrap();
        assert_eq!(trial.index(), 0);
        assert!(
            matches!(picked(&table, &[], until), Err(NoOrigin::AllDown { .. })),
            "one at a time"
        );
        assert_eq!(table.origins()[0].sessions(), 1, "the second gave its place back");
        trial.observe(ANSWERED, at(until + 10));
        assert_eq!(picked(&table, &[], until + 10), Ok(0));
    }

    #[test]
    fn while_another_is_well_sessions_try_only_what_no_check_would_find() {
        for (check, wanted) in [(config::HealthCheck::Options, 1), (config::HealthCheck::Off, 0)] {
            let mut config = config(config::Policy::First, &[0, 0]);
            config.origins[0].check = check;
            let table = Table::new(&config, None, 7);
            table.origins()[0].observe(Outcome::ConnectFailed, at(0));
            assert_eq!(picked(&table, &[], 1000), Ok(1));
            assert_eq!(picked(&table, &[], 8000), Ok(wanted));
            assert_eq!(picked(&table, &[], 8000), Ok(1), "the trial is taken");
        }
    }

    #[test]
    fn one_that_is_full_and_one_that_is_down_are_full_together() {
        let table = table(&[1, 0]);
        let _held = table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap();
        table.origins()[1].observe(Outcome::ConnectFailed, at(0));
        assert_eq!(picked(&table, &[], 1000), Err(NoOrigin::AllFull));
        assert_eq!(picked(&table, &[], 8000), Ok(1), "its wait is over");
    }

    #[test]
    fn an_origin_without_an_address_waits_for_the_resolver() {
        let mut config = config(config::Policy::First, &[0]);
        config.origins[0].url = "rtsp://nvr.example".try_into().unwrap();
        let table = Table::new(&config, None, 7);
        let retry_in = Duration::from_millis(UNRESOLVED_RETRY_MS);
        assert_eq!(picked(&table, &[], 0), Err(NoOrigin::AllDown { retry_in }));
        table.origins()[0].set_addrs(&[[192, 0, 2, 1].into()]);
        assert_eq!(picked(&table, &[], 0), Ok(0));
    }

    #[test]
    fn max_sessions_holds_while_eight_threads_come_and_go() {
        let policies = [config::Policy::LeastSessions, config::Policy::RoundRobin];
        for policy in policies {
            let table = Table::new(&config(policy, &[3, 2]), None, 7);
            let (most, refused) = (AtomicU32::new(0), AtomicU32::new(0));
            std::thread::scope(|scope| {
                for thread in 0..8 {
                    let (table, most, refused) = (&table, &most, &refused);
                    scope.spawn(move || {
                        let mut held = Vec::new();
                        for round in 0..5000_u64 {
                            match table.pick(0, &KEY, &[], Purpose::Session, at(0)) {
                                Ok(one) => held.push(one),
                                Err(NoOrigin::AllFull) => {
                                    refused.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(other) => panic!("{other:?}"),
                            }
                            for (origin, bound) in table.origins().iter().zip([3, 2]) {
                                assert!(origin.sessions() <= bound);
                            }
                            let all = table.origins().iter().map(|one| one.sessions()).sum();
                            most.fetch_max(all, Ordering::Relaxed);
                            if mix(round ^ thread << 32).is_multiple_of(2) {
                                held.pop();
                            }
                        }
                    });
                }
            });
            assert_eq!(most.load(Ordering::Relaxed), 5, "all places were taken at times");
            assert!(refused.load(Ordering::Relaxed) > 0);
            assert!(table.origins().iter().all(|origin| origin.sessions() == 0));
        }
    }

    #[test]
    fn a_burst_of_sessions_spreads_before_its_traffic_is_measured() {
        let table = Table::new(&config(config::Policy::LeastTraffic, &[0, 0]), None, 7);
        table.origins()[0].set_kbit(10_000);
        let held: Vec<_> =
            (0..20).map(|_| table.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap()).collect();
        let first = held.iter().filter(|one| one.index() == 0).count();
        assert!((7..=10).contains(&first), "{first} of 20");
    }

    #[test]
    fn a_new_configuration_keeps_sessions_and_health_of_what_did_not_move() {
        let mut config = config(config::Policy::First, &[2, 0, 0]);
        let old = Table::new(&config, None, 7);
        let held = old.pick(0, &KEY, &[], Purpose::Session, at(0)).unwrap();
        old.origins()[1].observe(Outcome::ConnectFailed, at(0));
        old.origins()[2].observe(Outcome::ConnectFailed, at(0));

        config.origins[0].max_sessions = 1;
        config.origins[2].url = "rtsp://192.0.2.99".try_into().unwrap();
        let new = Table::new(&config, Some(&old), 8);
        assert!(Arc::ptr_eq(&new.origins()[1], &old.origins()[1]), "unchanged");
        assert_eq!(new.origins()[0].sessions(), 1);
        assert_eq!(new.origins()[2].health(), Health::Unknown, "moved");
        assert_eq!(picked(&new, &[], 0), Ok(2), "the first has one session and may have one");
        drop(held);
        assert_eq!(new.origins()[0].sessions(), 0);
        assert_eq!(picked(&new, &[], 0), Ok(0));

        config.origins[0].credentials = Some("nvr".try_into().unwrap());
        let newer = Table::new(&config, Some(&new), 8);
        assert_eq!(newer.named("a").and_then(|origin| origin.credentials()), Some("nvr"));
    }

    #[test]
    fn a_route_skips_names_that_no_origin_has() {
        let mut config = config(config::Policy::First, &[0, 0]);
        config.routes[0].origins[0] = "gone".try_into().unwrap();
        let table = Table::new(&config, None, 7);
        assert_eq!(table.routes()[0].origins, [1]);
        assert_eq!(table.route(b"/x?y", Lookup::Presentation), Some(0));
        assert_eq!(picked(&table, &[], 0), Ok(1));
    }

    #[test]
    fn refusals_read_well() {
        let retry_in = Duration::from_millis(2500);
        let all = [NoOrigin::AllDown { retry_in }, NoOrigin::AllFull, NoOrigin::None];
        assert_eq!(
            all.map(|one| one.to_string()),
            [
                "no origin of the route is well, the next trial is in 3 s",
                "every origin of the route has max_sessions sessions",
                "no origin of the route is left to try",
            ]
        );
    }
}
