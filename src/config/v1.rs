//! Format 1 of the configuration's image, as release 0.1.0 wrote it, and the step to format 2.
//!
//! Types that have not changed since are shared with the schema. Whoever changes one of them moves
//! its old form in here.

use core::net::{IpAddr, SocketAddr};

use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

use super::{
    Auth, Endpoints, Gateway as Gateway2, List, Name, Origin, OriginTransport, Plugins, Policy,
    PortRange, Redirect,
    v2::{self, Limits},
};
use crate::limits::{
    COALESCE_US_DEFAULT, LISTEN_MAX, ORIGINS_MAX, ROUTE_ORIGINS_MAX, ROUTE_PATH_MAX_BYTES,
    ROUTES_MAX,
};

/// The whole configuration.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Config {
    gateway: Gateway,
    limits: Limits,
    origins: List<Origin, ORIGINS_MAX>,
    routes: List<Route, ROUTES_MAX>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Gateway {
    listen: Vec<SocketAddr, LISTEN_MAX>,
    media_ports: PortRange,
    advertise: Option<IpAddr>,
    workers: u8,
    via: Name,
    control: Option<SocketAddr>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Route {
    path: String<ROUTE_PATH_MAX_BYTES>,
    origins: Vec<Name, ROUTE_ORIGINS_MAX>,
    // `Plugin` of these two is refused by the rules: format 1 has no slots.
    policy: Policy,
    auth: Auth,
    origin_transport: OriginTransport,
    redirect: Redirect,
    endpoints: Endpoints,
}

impl From<Config> for v2::Config {
    /// Nothing that format 1 could say is lost; what it could not say has its default.
    fn from(old: Config) -> Self {
        let Gateway { listen, media_ports, advertise, workers, via, control } = old.gateway;
        Self {
            gateway: Gateway2 {
                listen,
                media_ports,
                advertise,
                workers,
                via,
                control,
                coalesce_us: COALESCE_US_DEFAULT,
                worker_policy: None,
            },
            limits: old.limits,
            origins: old.origins,
            routes: old.routes.into_iter().map(Into::into).collect(),
            plugins: Plugins::default(),
        }
    }
}

impl From<Route> for v2::Route {
    fn from(old: Route) -> Self {
        Self {
            path: old.path,
            origins: old.origins,
            policy: old.policy,
            auth: old.auth,
            origin_transport: old.origin_transport,
            redirect: old.redirect,
            endpoints: old.endpoints,
            filters: Vec::new(),
        }
    }
}
