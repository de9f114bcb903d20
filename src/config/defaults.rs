//! What holds when a key is absent.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use heapless::{String, Vec};

use super::{
    Auth, Config, Endpoints, Gateway, HealthCheck, Limits, List, Methods, Name, Origin,
    OriginTransport, Plugins, Policy, PortRange, Redirect, Route, Strip,
};
use crate::limits::COALESCE_US_DEFAULT;

impl Default for Config {
    /// A gateway that listens and knows no route: every request is answered 404.
    fn default() -> Self {
        Self {
            gateway: Gateway::default(),
            limits: Limits::default(),
            origins: List::new(),
            routes: List::new(),
            plugins: Plugins::default(),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        let mut listen = Vec::new();
        // One address fits a list of LISTEN_MAX.
        let _ = listen.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8554));
        Self {
            listen,
            media_ports: PortRange::default(),
            advertise: None,
            workers: 0,
            via: name("edgeweir"),
            control: None,
            coalesce_us: COALESCE_US_DEFAULT,
            worker_policy: None,
        }
    }
}

impl Default for PortRange {
    fn default() -> Self {
        Self { first: 20_000, last: 23_999 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 512,
            sessions_per_client: 256,
            connections_per_client: 320,
            tracks_per_client: 1024,
            half_open: 128,
            head_timeout_s: 10,
            idle_timeout_s: 60,
            answer_timeout_s: 10,
            silence_timeout_s: 10,
            media_queue_kib: 512,
            media_queue_ms: 2000,
            detached_sessions: false,
        }
    }
}

impl Default for Origin {
    /// An origin without name and URL, which the rules refuse: both must be said.
    fn default() -> Self {
        Self {
            name: Name::new(),
            url: String::new(),
            weight: 1,
            max_sessions: 0,
            credentials: None,
            check: HealthCheck::Options,
            check_interval_s: 10,
        }
    }
}

impl Default for Route {
    /// A route without path and origins, which the rules refuse: both must be said.
    fn default() -> Self {
        Self {
            path: String::new(),
            origins: Vec::new(),
            policy: Policy::LeastSessions,
            auth: Auth::Pass,
            origin_transport: OriginTransport::Same,
            redirect: Redirect::Refuse,
            endpoints: Endpoints::Learn,
            methods: Methods::default(),
            strip: Strip::Auto,
            filters: Vec::new(),
        }
    }
}

/// A constant that fits.
fn name(text: &str) -> Name {
    Name::try_from(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::rules;

    #[test]
    fn the_default_configuration_keeps_the_rules() {
        assert_eq!(rules::check(&Config::default()), Ok(()));
    }
}
