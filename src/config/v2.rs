//! Format 2 of the configuration's image, and the step to format 3.
//!
//! Types that have not changed since are shared with the schema. Whoever changes one of them moves
//! its old form in here.

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use super::{
    Auth, Endpoints, Gateway, List, Methods, Name, Origin, OriginTransport, Plugins, Policy,
    Redirect, Slot, Strip, rules,
};
use crate::limits::{
    ORIGINS_MAX, ROUTE_FILTERS_MAX, ROUTE_ORIGINS_MAX, ROUTE_PATH_MAX_BYTES, ROUTES_MAX,
};

/// The whole configuration.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Config {
    pub(super) gateway: Gateway,
    pub(super) limits: Limits,
    pub(super) origins: List<Origin, ORIGINS_MAX>,
    pub(super) routes: List<Route, ROUTES_MAX>,
    pub(super) plugins: Plugins,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    sessions: u16,
    sessions_per_client: u16,
    half_open: u16,
    head_timeout_s: u16,
    idle_timeout_s: u16,
    answer_timeout_s: u16,
    silence_timeout_s: u16,
    media_queue_kib: u16,
    media_queue_ms: u16,
    detached_sessions: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) path: String<ROUTE_PATH_MAX_BYTES>,
    pub(super) origins: Vec<Name, ROUTE_ORIGINS_MAX>,
    pub(super) policy: Policy,
    pub(super) auth: Auth,
    pub(super) origin_transport: OriginTransport,
    pub(super) redirect: Redirect,
    pub(super) endpoints: Endpoints,
    pub(super) filters: Vec<Slot, ROUTE_FILTERS_MAX>,
}

impl From<Config> for super::Config {
    /// Nothing that format 2 could say is lost; what it could not say has its default. `pass` beside
    /// credentials let everybody in, which is called `none` now.
    fn from(old: Config) -> Self {
        let origins = old.origins;
        let mut routes: List<super::Route, ROUTES_MAX> =
            old.routes.into_iter().map(Into::into).collect();
        for route in &mut routes {
            if rules::opened(route, &origins).is_some() {
                route.auth = Auth::None;
            }
        }
        Self {
            gateway: old.gateway,
            limits: old.limits.into(),
            origins,
            routes,
            plugins: old.plugins,
        }
    }
}

impl From<Limits> for super::Limits {
    fn from(old: Limits) -> Self {
        Self {
            sessions: old.sessions,
            sessions_per_client: old.sessions_per_client,
            half_open: old.half_open,
            head_timeout_s: old.head_timeout_s,
            idle_timeout_s: old.idle_timeout_s,
            answer_timeout_s: old.answer_timeout_s,
            silence_timeout_s: old.silence_timeout_s,
            media_queue_kib: old.media_queue_kib,
            media_queue_ms: old.media_queue_ms,
            detached_sessions: old.detached_sessions,
            ..Self::default()
        }
    }
}

impl From<Route> for super::Route {
    fn from(old: Route) -> Self {
        Self {
            path: old.path,
            origins: old.origins,
            policy: old.policy,
            auth: old.auth,
            origin_transport: old.origin_transport,
            redirect: old.redirect,
            endpoints: old.endpoints,
            methods: Methods::default(),
            strip: Strip::default(),
            filters: old.filters,
        }
    }
}
