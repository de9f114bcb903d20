//! One origin: where it is, how it is, what runs through it.
//!
//! What the configuration says is immutable; what happens is in atomics behind a shared pointer,
//! so that a configuration that changes a weight keeps sessions, health and counters.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use core::time::Duration;
use std::{borrow::Cow, sync::Arc};

use super::{
    addrs::Addrs,
    balance::Candidate,
    hash_bytes,
    health::{Health, HealthState, Outcome},
    mix,
    trouble::{Trouble, Troubles},
    vitals::Vitals,
};
use crate::{
    clock::Instant,
    config::{self, HealthCheck},
    control::model::OriginStatus,
    limits::{ONLY_ORIGIN_WAIT_MS, SESSION_ESTIMATE_KBIT},
    rtsp::Method,
};

/// Port of an origin URL that names none.
const DEFAULT_PORT: u16 = 554;

/// The request that keeps a session at an origin alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keepalive {
    /// What most cameras take, and the default.
    GetParameter,
    /// What all must answer; a few do not count it as a sign of life.
    Options,
    /// What remains.
    SetParameter,
}

/// A server behind the gateway.
#[derive(Debug)]
pub struct Origin {
    settings: config::Origin,
    host: String,
    /// The interface of a link-local address.
    zone: Option<String>,
    port: u16,
    path: Vec<u8>,
    authority: Vec<u8>,
    id: u64,
    live: Arc<Live>,
}

/// What outlives a change of the configuration.
#[derive(Debug)]
struct Live {
    sessions: AtomicU32,
    /// Connections that only ask, of clients that may begin a session.
    guests: AtomicU32,
    /// Sessions reserved since the traffic was last measured.
    unmeasured: AtomicU32,
    kbit: AtomicU32,
    keepalive: AtomicU8,
    health: Vitals,
    troubles: Troubles,
    addrs: Addrs,
}

impl Origin {
    /// The origin that `settings` describe. With `previous` of the same name and URL, sessions,
    /// health, addresses and counters go on; else they start anew, waits stretched by `seed`.
    pub fn new(settings: &config::Origin, previous: Option<&Self>, seed: u64) -> Self {
        let (host, port, path) = split_url(&settings.url);
        let (host, zone) = split_zone(host);
        let host = &*host;
        let id = hash_bytes(settings.name.as_bytes());
        let live = previous
            .filter(|old| old.settings.name == settings.name && old.settings.url == settings.url)
            .map_or_else(|| Arc::new(Live::new(mix(seed ^ id))), |old| Arc::clone(&old.live));
        if let Some(addr) = literal_addr(host) {
            live.addrs.set(&[addr]);
        }
        Self {
            authority: format!("rtsp://{host}:{port}").into_bytes(),
            host: host.to_owned(),
            zone: zone.map(str::to_owned),
            port,
            path: path.as_bytes().to_vec(),
            settings: settings.clone(),
            id,
            live,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// What the configuration says of it.
    pub fn settings(&self) -> &config::Origin {
        &self.settings
    }

    /// Host as written in the URL, brackets of an IPv6 address included.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Interface of a link-local address, by name or number: peers are never told it.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// Port, 554 when the URL names none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path of the URL with its query, `/…` or empty.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// `rtsp://host:port`, the start of each URL at this origin.
    pub fn authority(&self) -> &[u8] {
        &self.authority
    }

    /// Name of the credentials that the gateway signs with.
    pub fn credentials(&self) -> Option<&str> {
        self.settings.credentials.as_deref()
    }

    /// Takes in what was met at this origin. After a failed connection the next of its addresses
    /// is in use.
    pub fn observe(&self, outcome: Outcome, now: Instant) {
        if outcome == Outcome::ConnectFailed {
            self.live.addrs.advance();
        }
        self.live.health.observe(outcome, now, self.checks_itself());
    }

    /// Whether somebody has doubts, so that a question of our own is to go out now; it is told once.
    pub fn takes_question(&self, now: Instant) -> bool {
        self.live.health.takes_question(now)
    }

    /// How it is.
    pub fn health(&self) -> Health {
        self.live.health.state().health()
    }

    /// Whether an active check may go out now: always, but when down only after the wait, and
    /// then the check is the one trial.
    pub fn begin_check(&self, now: Instant) -> bool {
        !matches!(self.health(), Health::Down { .. }) || self.live.health.begin_trial(now)
    }

    /// Sessions now.
    pub fn sessions(&self) -> u32 {
        self.live.sessions.load(Ordering::Relaxed)
    }

    /// Media from it, kbit/s, as last measured.
    pub fn kbit(&self) -> u32 {
        self.live.kbit.load(Ordering::Relaxed)
    }

    /// Stable number of the origin: the hash of its name.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Smoothed time to an answer, microseconds; 0 before the first.
    pub fn rtt_us(&self) -> u32 {
        self.live.health.rtt_us()
    }

    /// Failures among the last answers, per mille.
    pub fn err_permille(&self) -> u16 {
        self.live.health.err_permille()
    }

    /// Sets the measured traffic; about once a second.
    pub fn set_kbit(&self, kbit: u32) {
        self.live.kbit.store(kbit, Ordering::Relaxed);
        self.live.unmeasured.store(0, Ordering::Relaxed);
    }

    /// Sets what its host name resolved to (one caller at a time). Other addresses than before
    /// end a wait; none at all keep the old ones, since a name server that is away says nothing
    /// about the origin.
    pub fn set_addrs(&self, addrs: &[IpAddr]) {
        if !addrs.is_empty() && self.live.addrs.set(addrs) {
            self.live.health.forget();
        }
    }

    /// Takes in an answer that a player's request or a question of ours had. `fixed` marks a path
    /// that is the configuration's, and no player's guess.
    pub fn told(&self, method: Method, status: u16, fixed: Option<u64>, now: Instant) {
        self.live.troubles.told(method, status, fixed, now);
    }

    /// Something is wrong with it although it answers.
    pub fn met(&self, trouble: Trouble, now: Instant) {
        self.live.troubles.met(trouble, now);
    }

    /// What had failed has worked.
    pub fn over(&self, trouble: Trouble) {
        self.live.troubles.over(trouble);
    }

    /// What it was told may be another thing from now on: other paths, other credentials.
    pub fn forget_troubles(&self) {
        Trouble::ALL.into_iter().for_each(|trouble| self.over(trouble));
    }

    /// What is wrong with it although it answers, with since when.
    pub fn troubles(&self) -> impl Iterator<Item = (Trouble, Instant)> {
        self.live.troubles.lasting()
    }

    /// Ends a wait, on an operator's word: it counts as one of which nothing is known.
    pub fn retry(&self) {
        self.live.health.forget();
    }

    /// Where to connect; none before its name was resolved.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.live.addrs.current().map(|ip| SocketAddr::new(ip, self.port))
    }

    /// Whether this address is the origin's own: media may come from there and go there.
    pub fn has_addr(&self, addr: IpAddr) -> bool {
        self.live.addrs.has(addr)
    }

    /// Whether the host is a name, which somebody has to resolve.
    pub fn needs_resolving(&self) -> bool {
        literal_addr(&self.host).is_none()
    }

    /// The keepalive that this origin is known to take.
    pub fn keepalive(&self) -> Keepalive {
        match self.live.keepalive.load(Ordering::Relaxed) {
            1 => Keepalive::Options,
            2 => Keepalive::SetParameter,
            _ => Keepalive::GetParameter,
        }
    }

    /// Remembers the keepalive that this origin takes.
    pub fn learn_keepalive(&self, method: Keepalive) {
        let code = match method {
            Keepalive::GetParameter => 0,
            Keepalive::Options => 1,
            Keepalive::SetParameter => 2,
        };
        self.live.keepalive.store(code, Ordering::Relaxed);
    }

    /// What the control API says of it.
    pub fn status(&self, now: Instant) -> OriginStatus {
        let state = self.live.health.state();
        let (health, retry_in_s) = match state.health() {
            Health::Unknown => ("unknown", 0),
            Health::Up => ("up", 0),
            Health::Failing => ("failing", 0),
            Health::Down { until, .. } => ("down", until.since(now).as_millis().div_ceil(1000)),
        };
        let reason = match self.addr() {
            None => "its host name is not resolved".to_owned(),
            Some(_) => state.reason().to_string(),
        };
        OriginStatus {
            name: self.name().to_owned(),
            url: format!(
                "{}{}",
                String::from_utf8_lossy(&self.authority),
                String::from_utf8_lossy(&self.path)
            ),
            health: health.to_owned(),
            reason,
            retry_in_s: u32::try_from(retry_in_s).unwrap_or(u32::MAX),
            sessions: self.sessions(),
            max_sessions: u32::from(self.settings.max_sessions),
            rtt_us: self.live.health.rtt_us(),
            err_permille: self.live.health.err_permille(),
            kbit: self.kbit(),
            troubles: Vec::new(),
        }
    }

    pub(super) fn candidate(&self, healthy: bool) -> Candidate {
        let sessions = self.sessions();
        let guests = self.live.guests.load(Ordering::Relaxed);
        let kbit = self.kbit();
        // Sessions of this second carry nothing yet; without a guess a burst of players would all
        // go to the origin that was idle when it began.
        let unmeasured = self.live.unmeasured.load(Ordering::Relaxed);
        let each = kbit.checked_div(sessions.saturating_sub(unmeasured)).unwrap_or(0);
        let each = if each == 0 { SESSION_ESTIMATE_KBIT } else { each };
        Candidate {
            id: self.id,
            weight: self.settings.weight,
            sessions,
            guests,
            max_sessions: u32::from(self.settings.max_sessions),
            kbit: kbit.saturating_add(unmeasured.saturating_mul(each)),
            healthy,
        }
    }

    pub(super) fn health_state(&self) -> HealthState {
        self.live.health.state()
    }

    pub(super) fn begin_trial(&self, now: Instant) -> bool {
        self.live.health.begin_trial(now)
    }

    pub(super) fn checks_itself(&self) -> bool {
        self.settings.check != HealthCheck::Off
    }

    /// One more session, unless that would be one too many.
    pub(super) fn enter(&self) -> bool {
        let bound = match self.settings.max_sessions {
            0 => u32::MAX,
            bound => u32::from(bound),
        };
        let entered = self
            .live
            .sessions
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < bound).then(|| now + 1))
            .is_ok();
        if entered {
            self.live.unmeasured.fetch_add(1, Ordering::Relaxed);
        }
        entered
    }

    pub(super) fn leave(&self) {
        self.live.sessions.fetch_sub(1, Ordering::AcqRel);
    }

    /// One more connection that only asks.
    pub(super) fn welcome(&self) {
        self.live.guests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn farewell(&self) {
        self.live.guests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the only origin of a route may be tried again.
    pub(super) fn only_one_may_be_tried(&self, now: Instant) -> bool {
        now >= self.only_one_waits_until()
    }

    pub(super) fn only_one_waits_until(&self) -> Instant {
        self.live.health.failed_at() + Duration::from_millis(ONLY_ORIGIN_WAIT_MS)
    }
}

impl Live {
    fn new(seed: u64) -> Self {
        Self {
            sessions: AtomicU32::new(0),
            guests: AtomicU32::new(0),
            unmeasured: AtomicU32::new(0),
            kbit: AtomicU32::new(0),
            keepalive: AtomicU8::new(0),
            health: Vitals::new(seed),
            troubles: Troubles::default(),
            addrs: Addrs::default(),
        }
    }
}

/// Host, port and path of `rtsp://host[:port][/path]`. The configuration has checked the URL; what
/// is no URL yields a host that resolves to nothing. User information is cut off unseen.
fn split_url(url: &str) -> (&str, u16, &str) {
    let after = match url.get(..7) {
        Some(scheme) if scheme.eq_ignore_ascii_case("rtsp://") => url.get(7..).unwrap_or(""),
        _ => url,
    };
    let end = after.find(['/', '?']).unwrap_or(after.len());
    let (authority, path) = after.split_at(end);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let colon = authority.rfind(':').filter(|at| authority.rfind(']').is_none_or(|end| end < *at));
    match colon {
        Some(at) => {
            let port = authority.get(at + 1..).and_then(|text| text.parse().ok());
            (authority.get(..at).unwrap_or(""), port.unwrap_or(DEFAULT_PORT), path)
        }
        None => (authority, DEFAULT_PORT, path),
    }
}

/// `[fe80::1%eth0]`, or `%25` as RFC 6874 spells it, falls into the host and its interface.
fn split_zone(host: &str) -> (Cow<'_, str>, Option<&str>) {
    let bracketed = host.strip_suffix(']').and_then(|host| host.split_once('%'));
    match bracketed {
        Some((addr, zone)) => {
            let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
            (Cow::Owned(format!("{addr}]")), Some(zone))
        }
        None => (Cow::Borrowed(host), None),
    }
}

fn literal_addr(host: &str) -> Option<IpAddr> {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(text) => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::Reason;

    const NOW: Instant = Instant::from_millis(1000);

    fn origin(url: &str) -> Origin {
        Origin::new(&settings(url), None, 0)
    }

    fn settings(url: &str) -> config::Origin {
        config::Origin {
            name: "nvr".try_into().unwrap(),
            url: url.try_into().unwrap(),
            ..config::Origin::default()
        }
    }

    #[test]
    fn a_url_falls_into_host_port_and_path() {
        let rows = [
            ("rtsp://192.0.2.20:8554/a/b?c=d", "192.0.2.20", 8554, "/a/b?c=d", true),
            ("RTSP://nvr.example", "nvr.example", 554, "", false),
            ("rtsp://nvr.example/", "nvr.example", 554, "/", false),
            ("rtsp://[2001:db8::1]/x", "[2001:db8::1]", 554, "/x", true),
            ("rtsp://[2001:db8::1]:555", "[2001:db8::1]", 555, "", true),
            ("rtsp://user:p@ss@nvr:1/x", "nvr", 1, "/x", false),
            ("rtsp://nvr:99999", "nvr", 554, "", false),
            ("", "", 554, "", false),
            ("rtsp:\u{e4}\u{e4}", "rtsp", 554, "", false),
        ];
        for (url, host, port, path, resolved) in rows {
            let origin = origin(url);
            assert_eq!((origin.host(), origin.port()), (host, port), "{url}");
            assert_eq!(origin.path(), path.as_bytes(), "{url}");
            assert_eq!(origin.authority(), format!("rtsp://{host}:{port}").as_bytes());
            assert_eq!(origin.addr().is_some(), resolved, "{url}");
            assert_eq!(origin.needs_resolving(), !resolved, "{url}");
        }
    }

    #[test]
    fn the_interface_of_a_link_local_address_is_kept_from_the_origin() {
        for url in ["rtsp://[fe80::1%eth0]:555/x", "rtsp://[fe80::1%25eth0]:555/x"] {
            let origin = origin(url);
            assert_eq!((origin.host(), origin.zone()), ("[fe80::1]", Some("eth0")), "{url}");
            assert_eq!(origin.authority(), b"rtsp://[fe80::1]:555");
            assert_eq!(origin.addr(), Some("[fe80::1]:555".parse().unwrap()));
        }
        assert_eq!(origin("rtsp://[fe80::1]").zone(), None);
    }

    #[test]
    fn a_host_name_is_resolved_later_and_other_addresses_end_a_wait() {
        let origin = origin("rtsp://nvr.example:555/");
        assert_eq!(origin.status(NOW).reason, "its host name is not resolved");
        let (a, b) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        origin.set_addrs(&[a]);
        assert_eq!(origin.addr(), Some(SocketAddr::new(a, 555)));
        origin.observe(Outcome::ConnectFailed, NOW);
        origin.set_addrs(&[a]);
        assert!(origin.has_addr(a) && !origin.has_addr(b), "only what the name stands for");
        origin.set_addrs(&[]);
        assert!(matches!(origin.health(), Health::Down { .. }));
        assert_eq!(origin.addr(), Some(SocketAddr::new(a, 555)));
        origin.set_addrs(&[b]);
        assert_eq!(origin.health(), Health::Unknown);
    }

    #[test]
    fn after_a_failed_connection_the_other_address_is_tried() {
        let origin = origin("rtsp://nvr.example");
        origin.set_addrs(&[[192, 0, 2, 1].into(), [192, 0, 2, 2].into()]);
        let first = origin.addr();
        origin.observe(Outcome::ConnectFailed, NOW);
        assert_ne!(origin.addr(), first);
        origin.observe(Outcome::ConnectFailed, NOW);
        assert_eq!(origin.addr(), first);
    }

    #[test]
    fn status_says_how_it_is_and_why() {
        let origin = origin("rtsp://user:secret@192.0.2.20/ch");
        assert_eq!(origin.status(NOW).health, "unknown");
        origin.observe(Outcome::Answered { rtt_us: 1500 }, NOW);
        origin.set_kbit(4100);
        let status = origin.status(NOW);
        assert_eq!((status.health.as_str(), status.reason.as_str()), ("up", ""));
        assert_eq!((status.rtt_us, status.kbit, status.err_permille), (1500, 4100, 0));
        assert_eq!(status.url, "rtsp://192.0.2.20:554/ch");
        let later = Instant::from_millis(20_000);
        let suspected = Outcome::Suspected { why: Reason::Status(503), client: 1 };
        origin.observe(suspected, later);
        let status = origin.status(later);
        assert_eq!((status.health.as_str(), status.reason.as_str()), ("failing", "it answers 503"));
        origin.observe(Outcome::ConnectFailed, later);
        let status = origin.status(later);
        assert_eq!((status.health.as_str(), status.err_permille), ("down", 666));
        assert!((3..=8).contains(&status.retry_in_s), "{}", status.retry_in_s);
    }

    #[test]
    fn a_check_of_an_origin_that_is_down_waits_and_is_the_one_trial() {
        let origin = origin("rtsp://192.0.2.20");
        assert!(origin.begin_check(NOW) && origin.begin_check(NOW));
        origin.observe(Outcome::ConnectFailed, NOW);
        assert!(!origin.begin_check(NOW));
        let later = Instant::from_millis(10_000);
        assert!(origin.begin_check(later));
        assert!(!origin.begin_check(later));
    }

    #[test]
    fn the_keepalive_that_was_learned_is_kept() {
        let origin = origin("rtsp://192.0.2.20");
        assert_eq!(origin.keepalive(), Keepalive::GetParameter);
        for method in [Keepalive::Options, Keepalive::SetParameter, Keepalive::GetParameter] {
            origin.learn_keepalive(method);
            assert_eq!(origin.keepalive(), method);
        }
    }
}
