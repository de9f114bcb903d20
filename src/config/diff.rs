//! What a change of configuration means for a running gateway.
//!
//! Not in here: applying it. Routes and origins that did not change are named too, because what
//! uses them must not be touched.

use super::{Config, Name, Origin, Route};

/// What differs between two configurations. Names and paths are borrowed from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Routes, by path. Their order does not matter: the longest match wins.
    pub routes: Parts<'a>,
    /// Origins, by name.
    pub origins: Parts<'a>,
    /// The listen addresses.
    pub listen_changed: bool,
    /// The range of media ports.
    pub media_ports_changed: bool,
    /// The address named to players; holds for sessions from then on.
    pub advertise_changed: bool,
    /// The pseudonym in Via; holds for requests from then on.
    pub via_changed: bool,
    /// Any of the limits; hold for what begins from then on.
    pub limits_changed: bool,
    /// Keys that only take effect when the gateway starts again.
    pub needs_restart: Vec<&'static str>,
}

impl Changes<'_> {
    /// Whether the two configurations mean the same.
    pub fn is_empty(&self) -> bool {
        let Self {
            routes,
            origins,
            listen_changed,
            media_ports_changed,
            advertise_changed,
            via_changed,
            limits_changed,
            needs_restart,
        } = self;
        let gateway = *listen_changed || *media_ports_changed || *advertise_changed || *via_changed;
        !(routes.any() || origins.any() || gateway || *limits_changed || !needs_restart.is_empty())
    }
}

/// What became of the parts of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts<'a> {
    /// Only in the new configuration.
    pub added: Vec<&'a str>,
    /// Only in the old one.
    pub removed: Vec<&'a str>,
    /// In both, and different.
    pub changed: Vec<&'a str>,
    /// In both, and the same.
    pub unchanged: Vec<&'a str>,
}

impl Parts<'_> {
    /// Whether any of them differs.
    pub fn any(&self) -> bool {
        !(self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty())
    }
}

/// Compares two configurations.
///
/// A route counts as changed when its own lines changed; that one of its origins did is said by
/// `origins`.
pub fn changes<'a>(old: &'a Config, new: &'a Config) -> Changes<'a> {
    let mut needs_restart = Vec::new();
    let mut restart = |changed: bool, key| {
        if changed {
            needs_restart.push(key);
        }
        changed
    };
    let (was, is) = (&old.gateway, &new.gateway);
    let listen_changed = restart(was.listen != is.listen, "gateway.listen");
    let media_ports_changed = restart(was.media_ports != is.media_ports, "gateway.media_ports");
    restart(was.workers != is.workers, "gateway.workers");
    restart(was.control != is.control, "gateway.control");
    Changes {
        routes: parts(&old.routes, &new.routes, |route: &Route| &route.path),
        origins: parts(&old.origins, &new.origins, |origin: &Origin| -> &Name { &origin.name }),
        listen_changed,
        media_ports_changed,
        advertise_changed: was.advertise != is.advertise,
        via_changed: was.via != is.via,
        limits_changed: old.limits != new.limits,
        needs_restart,
    }
}

fn parts<'a, T: PartialEq, S: AsRef<str> + 'a>(
    old: &'a [T],
    new: &'a [T],
    key: impl Fn(&'a T) -> &'a S,
) -> Parts<'a> {
    let mut parts = Parts::default();
    for is in new {
        let name = key(is).as_ref();
        match old.iter().find(|was| key(was).as_ref() == name) {
            None => parts.added.push(name),
            Some(was) if was == is => parts.unchanged.push(name),
            Some(_) => parts.changed.push(name),
        }
    }
    let gone = |was: &&'a T| !new.iter().any(|is| key(is).as_ref() == key(was).as_ref());
    parts.removed = old.iter().filter(gone).map(|was| key(was).as_ref()).collect();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    fn config(text: &str) -> Config {
        text::parse(text).unwrap()
    }

    const BASE: &str = "
        [[origin]]\nname = \"a\"\nurl = \"rtsp://a\"
        [[origin]]\nname = \"b\"\nurl = \"rtsp://b\"
        [[route]]\npath = \"/x\"\norigins = [\"a\"]
        [[route]]\npath = \"/y\"\norigins = [\"b\"]";

    #[test]
    fn the_same_configuration_changes_nothing() {
        let (old, new) = (config(BASE), config(BASE));
        let changes = changes(&old, &new);
        assert!(changes.is_empty());
        assert_eq!(changes.routes.unchanged, ["/x", "/y"]);
    }

    #[test]
    fn a_changed_route_leaves_the_others_alone() {
        let old = config(BASE);
        let new = config(&BASE.replace("[\"b\"]", "[\"a\"]").replace("/x", "/z"));
        let changes = changes(&old, &new);
        assert_eq!(changes.routes.added, ["/z"]);
        assert_eq!(changes.routes.removed, ["/x"]);
        assert_eq!(changes.routes.changed, ["/y"]);
        assert!(!changes.origins.any() && changes.needs_restart.is_empty());
    }

    #[test]
    fn a_changed_origin_does_not_change_its_route() {
        let old = config(BASE);
        let new = config(&BASE.replace("rtsp://b", "rtsp://c"));
        let changes = changes(&old, &new);
        assert_eq!(changes.origins.changed, ["b"]);
        assert_eq!(changes.routes.unchanged, ["/x", "/y"]);
    }

    #[test]
    fn order_alone_is_no_change() {
        let old = config(BASE);
        let mut new = old.clone();
        new.routes.reverse();
        new.origins.reverse();
        assert!(changes(&old, &new).is_empty());
    }

    #[test]
    fn keys_of_the_gateway_say_whether_they_need_a_restart() {
        let old = config("");
        let new = config("[gateway]\nlisten = [\"0.0.0.0:1\"]\nworkers = 2\nvia = \"\"");
        let changes = changes(&old, &new);
        assert_eq!(changes.needs_restart, ["gateway.listen", "gateway.workers"]);
        assert!(changes.via_changed && changes.listen_changed && !changes.is_empty());
        let new = config("[limits]\nsessions = 1");
        assert!(super::changes(&old, &new).limits_changed);
    }
}
