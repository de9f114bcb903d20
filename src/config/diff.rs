//! What a change of configuration means for a running gateway.
//!
//! Not in here: applying it. Routes and origins that did not change are named too, because what
//! uses them must not be touched.

use super::{Auth, Config, Name, Origin, Policy, Route, Slot};

/// What differs between two configurations. Names and paths are borrowed from them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes<'a> {
    /// Routes, by path. Their order does not matter: the longest match wins.
    pub routes: Parts<'a>,
    /// Origins, by name.
    pub origins: Parts<'a>,
    /// Slots for plugins, by name; the component in a slot is no part of the configuration.
    pub plugins: Parts<'a>,
    /// Who may fill the slots; holds for uploads from then on.
    pub plugin_rules_changed: bool,
    /// The listen addresses: new ones are opened, old ones closed, connections stay.
    pub listen_changed: bool,
    /// The range of media ports.
    pub media_ports_changed: bool,
    /// The address named to players; holds for sessions from then on.
    pub advertise_changed: bool,
    /// The pseudonym in Via; holds for requests from then on.
    pub via_changed: bool,
    /// How long bursts may gather.
    pub coalesce_changed: bool,
    /// Who chooses the worker of a pipe; holds for pipes from then on.
    pub worker_policy_changed: bool,
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
            plugins,
            plugin_rules_changed,
            listen_changed,
            media_ports_changed,
            advertise_changed,
            via_changed,
            coalesce_changed,
            worker_policy_changed,
            limits_changed,
            needs_restart,
        } = self;
        let gateway = *listen_changed
            || *media_ports_changed
            || *advertise_changed
            || *via_changed
            || *coalesce_changed
            || *worker_policy_changed;
        let parts = routes.any() || origins.any() || plugins.any() || *plugin_rules_changed;
        !(parts || gateway || *limits_changed || !needs_restart.is_empty())
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
    let media_ports_changed = restart(was.media_ports != is.media_ports, "gateway.media_ports");
    restart(was.workers != is.workers, "gateway.workers");
    restart(was.control != is.control, "gateway.control");
    Changes {
        routes: parts(
            &old.routes,
            &new.routes,
            |route| &route.path,
            |was, is| slots(old, was) == slots(new, is) && slotless(was) == slotless(is),
        ),
        origins: parts(
            &old.origins,
            &new.origins,
            |origin: &Origin| -> &Name { &origin.name },
            |was, is| was == is,
        ),
        plugins: parts(
            &old.plugins.slots,
            &new.plugins.slots,
            |plugin| &plugin.slot,
            |was, is| {
                let config =
                    |of: &'a Config| of.plugins.find(&is.slot).map(|slot| of.plugins.config(slot));
                was.on_fault == is.on_fault && config(old) == config(new)
            },
        ),
        plugin_rules_changed: (
            old.plugins.require_signature,
            &old.plugins.trusted_keys,
            old.plugins.max_kib,
        ) != (
            new.plugins.require_signature,
            &new.plugins.trusted_keys,
            new.plugins.max_kib,
        ),
        listen_changed: was.listen != is.listen,
        media_ports_changed,
        advertise_changed: was.advertise != is.advertise,
        via_changed: was.via != is.via,
        coalesce_changed: was.coalesce_us != is.coalesce_us,
        worker_policy_changed: name(old, was.worker_policy) != name(new, is.worker_policy),
        limits_changed: old.limits != new.limits,
        needs_restart,
    }
}

fn name(config: &Config, slot: Option<Slot>) -> Option<&str> {
    slot.map(|slot| config.plugins.name(slot))
}

/// The slots of a route by name, since another order of slots is no change.
fn slots<'a>(config: &'a Config, route: &Route) -> Vec<Option<&'a str>> {
    let policy = match route.policy {
        Policy::Plugin(slot) => Some(slot),
        _ => None,
    };
    let auth = match route.auth {
        Auth::Plugin(slot) => Some(slot),
        _ => None,
    };
    let filters = route.filters.iter().copied().map(Some);
    [policy, auth].into_iter().chain(filters).map(|slot| name(config, slot)).collect()
}

/// A route without its slots.
fn slotless(route: &Route) -> Route {
    let mut route = route.clone();
    if let Policy::Plugin(slot) = &mut route.policy {
        *slot = Slot(0);
    }
    if let Auth::Plugin(slot) = &mut route.auth {
        *slot = Slot(0);
    }
    route.filters.clear();
    route
}

fn parts<'a, T, S: AsRef<str> + 'a>(
    old: &'a [T],
    new: &'a [T],
    key: impl Fn(&'a T) -> &'a S,
    same: impl Fn(&'a T, &'a T) -> bool,
) -> Parts<'a> {
    let mut parts = Parts::default();
    for is in new {
        let name = key(is).as_ref();
        match old.iter().find(|was| key(was).as_ref() == name) {
            None => parts.added.push(name),
            Some(was) if same(was, is) => parts.unchanged.push(name),
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
        assert_eq!(changes.needs_restart, ["gateway.workers"]);
        assert!(changes.via_changed && changes.listen_changed && !changes.is_empty());
        let new = config("[limits]\nsessions = 1");
        assert!(super::changes(&old, &new).limits_changed);
        let new = config("[gateway]\ncoalesce_us = 0");
        assert!(super::changes(&old, &new).coalesce_changed);
    }

    #[test]
    fn slots_are_compared_by_name() {
        let plugin = |slot: &str, more: &str| format!("\n[[plugin]]\nslot = \"{slot}\"\n{more}");
        let route = "\n[[route]]\npath = \"/p\"\norigins = [\"a\"]\npolicy = \"plugin:p\"\n\
                     auth = \"plugin:q\"\nfilters = [\"q\"]";
        let (p, q) = (plugin("p", ""), plugin("q", "[plugin.config]\nx = 1"));
        let old = config(&format!("{BASE}{p}{q}{route}"));
        let new = config(&format!("{BASE}{q}{p}{route}"));
        assert!(changes(&old, &new).is_empty());
        let new = config(&format!("{BASE}{p}{}{route}", q.replace('1', "2")));
        let told = changes(&old, &new);
        assert_eq!((told.plugins.changed, told.routes.any()), (vec!["q"], false));
        let new = config(&format!("{BASE}{p}{q}{}", route.replace("plugin:p", "plugin:q")));
        let told = changes(&old, &new);
        assert_eq!((told.plugins.any(), told.routes.changed), (false, vec!["/p"]));
        let new = config(&format!("{BASE}{p}{q}{route}\n[plugins]\nmax_kib = 1"));
        assert!(changes(&old, &new).plugin_rules_changed);
    }
}
