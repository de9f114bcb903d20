//! What is wrong with the gateway itself and its machine, and what an origin is asked when somebody
//! wants to know how it is.
//!
//! Facts are gathered in one place and judged in another, which is pure. Not in here: what a look at an
//! origin means (`probe::survey`).

use core::sync::atomic::Ordering::Relaxed;
use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{RunOptions, shared::Shared, source::Source};
use crate::{
    config::{Auth, Config, HealthCheck, Policy, Strip},
    control::model::{Finding, PluginStatus, Severity},
    limits::MEDIA_SOCKET_BUFFER_BYTES,
};

/// What there is to judge.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Seconds since 1970 by the system's clock.
    unix_s: u64,
    sessions: u32,
    sessions_max: u32,
    ports_used: usize,
    ports: usize,
    /// Ports that the kernel gives to others: first, last.
    ephemeral: Option<(u16, u16)>,
    media_ports: (u16, u16),
    files_used: u64,
    files_max: u64,
    /// Most that a receive buffer may have.
    rmem_max: Option<u64>,
    /// Datagrams that the kernel dropped for want of room since it started.
    kernel_dropped: u64,
    /// Where plugins and their state are kept, and why nothing can be written there.
    data: Option<(PathBuf, String)>,
    /// What is wrong with the store.
    store: Vec<String>,
    from_text: bool,
    /// Configuration keys that name an empty slot, and those slots.
    empty_slots: Vec<(String, String)>,
    benched_slots: Vec<(String, String)>,
    warnings: Vec<String>,
}

/// A year in which no gateway of this release runs: 2024.
const BELIEVABLE_UNIX_S: u64 = 1_704_067_200;

/// The clock's seconds since 1970, where they can be right.
pub(super) fn believable_unix_s() -> Option<i64> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
    i64::try_from(seconds).ok().filter(|_| seconds >= BELIEVABLE_UNIX_S)
}

/// Gathers what the system and the gateway say of themselves. May block: not for the control thread.
pub(super) fn facts(shared: &Shared, data: Option<&Path>, slots: &[PluginStatus]) -> Facts {
    let generation = shared.generation();
    let config = &generation.config;
    let sysctl = |name: &str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    let ephemeral = sysctl("net/ipv4/ip_local_port_range").and_then(|text| {
        let mut words = text.split_whitespace().map(|word| word.parse().ok());
        Some((words.next()??, words.next()??))
    });
    let slot = |state: &'static str| slots.iter().filter(move |slot| slot.state == state);
    let used_by = |name: &str| users_of(config, name);
    let with_users = |slot: &PluginStatus| {
        let users = used_by(&slot.slot);
        (!users.is_empty()).then(|| (users.join(", "), slot.slot.clone()))
    };
    Facts {
        unix_s: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        sessions: shared.admitted(),
        sessions_max: config.limits.sessions.into(),
        ports_used: shared.ports.in_use(),
        ports: shared.ports.total(),
        ephemeral,
        media_ports: (config.gateway.media_ports.first, config.gateway.media_ports.last),
        files_used: fs::read_dir("/proc/self/fd").map_or(0, |open| open.count() as u64),
        files_max: files_max(),
        rmem_max: sysctl("net/core/rmem_max").and_then(|text| text.trim().parse().ok()),
        kernel_dropped: fs::read_to_string("/proc/net/snmp").map_or(0, |text| dropped(&text)),
        data: data.and_then(|data| writes(data).err().map(|wrong| (data.to_owned(), wrong))),
        store: Vec::new(),
        from_text: false,
        empty_slots: slot("empty").filter_map(with_users).collect(),
        benched_slots: slot("benched").filter_map(with_users).collect(),
        warnings: shared.warnings(),
    }
}

impl Facts {
    /// Adds what is known of where the configuration is kept.
    pub(super) async fn look_at(mut self, source: &Source) -> Self {
        match source {
            Source::Flash { flash, .. } => match flash.history().await {
                Ok(entries) => {
                    let faults = entries.iter().filter_map(|entry| {
                        let fault = entry.fault.as_ref()?;
                        Some(format!("configuration {}: {fault}", entry.sequence))
                    });
                    self.store.extend(faults);
                }
                Err(wrong) => self.store.push(wrong.to_string()),
            },
            _ => self.from_text = true,
        }
        self
    }

    /// What they mean, worst first.
    pub(super) fn judged(&self) -> Vec<Finding> {
        let mut all = Vec::new();
        let mut say = |severity, about: &str, text: String, remedy: &str| {
            let (about, remedy) = (about.to_owned(), remedy.to_owned());
            let cause = about.split(' ').next().unwrap_or_default().to_owned();
            all.push(Finding { severity, about, cause, text, remedy });
        };
        use Severity::{Error, Note, Warning};
        if self.unix_s < BELIEVABLE_UNIX_S {
            let text = format!("the clock stands {} days after 1970", self.unix_s / 86_400);
            let remedy = "set it (NTP, `date`): signed URLs, logs and recordings go by it";
            say(Error, "clock", text, remedy);
        }
        let (used, total) = (self.ports_used, self.ports);
        let ports = format!("{used} of {total} port pairs for media are in use");
        if used >= total {
            say(Error, "ports", ports, "widen gateway.media_ports; each track takes two pairs");
        } else if used * 10 >= total * 9 {
            say(Warning, "ports", ports, "widen gateway.media_ports; each track takes two pairs");
        }
        let (first, last) = self.media_ports;
        if let Some((low, high)) = self.ephemeral
            && first <= high
            && low <= last
        {
            let text = format!(
                "gateway.media_ports {first}-{last} lie among those that the kernel gives away \
                 ({low}-{high})"
            );
            say(Warning, "ports", text, "choose others, or change net.ipv4.ip_local_port_range");
        }
        if self.sessions >= self.sessions_max {
            let text = format!("{} sessions run, as many as may", self.sessions);
            say(
                Error,
                "sessions",
                text,
                "raise limits.sessions, or `edgeweir sessions` to end some",
            );
        }
        let files = format!("{} of {} descriptors are open", self.files_used, self.files_max);
        // Two UDP tracks take eight, and two connections.
        let wanted = u64::from(self.sessions_max) * 10;
        if self.files_used * 10 >= self.files_max * 9 {
            say(
                Error,
                "descriptors",
                files,
                "raise the limit: LimitNOFILE= of systemd, `ulimit -n`",
            );
        } else if self.files_max < wanted {
            let text = format!("{files}; limits.sessions would take {wanted}");
            say(
                Warning,
                "descriptors",
                text,
                "raise the limit: LimitNOFILE= of systemd, `ulimit -n`",
            );
        }
        let wanted = MEDIA_SOCKET_BUFFER_BYTES;
        if let Some(most) = self.rmem_max.filter(|most| *most < wanted as u64) {
            let text = format!("the kernel grants sockets {most} bytes, wanted are {wanted}");
            let remedy = "`sysctl -w net.core.rmem_max=1048576`, or a burst of a key frame is lost";
            say(Warning, "buffers", text, remedy);
        }
        if self.kernel_dropped > 0 {
            let text = format!(
                "the kernel has dropped {} datagrams for want of room since it started",
                self.kernel_dropped
            );
            say(Note, "buffers", text, "grows it? net.core.rmem_max, or fewer sessions a machine");
        }
        if let Some((path, wrong)) = &self.data {
            let text = format!("nothing can be written to {}: {wrong}", path.display());
            say(Error, "disk", text, "make room, or name another place with --data DIR");
        }
        for fault in &self.store {
            let remedy = "`edgeweir config history`; a configuration that is stored anew mends it";
            say(Warning, "store", fault.clone(), remedy);
        }
        if self.from_text {
            let text = "the configuration comes from a text file".to_owned();
            say(
                Note,
                "store",
                text,
                "changes by command are lost at a restart; --flash keeps them",
            );
        }
        for (users, slot) in &self.empty_slots {
            let text = format!("{users} needs a plugin, and the slot is empty");
            let remedy = "`edgeweir plugin install FILE --slot NAME`";
            say(Error, &format!("plugin {slot}"), text, remedy);
        }
        for (users, slot) in &self.benched_slots {
            let text = format!("it had too many faults and is not asked for a while ({users})");
            let remedy = "`edgeweir plugin list` says which; `edgeweir plugin rollback NAME`";
            say(Warning, &format!("plugin {slot}"), text, remedy);
        }
        for warning in &self.warnings {
            let (text, remedy) = warning.rsplit_once(": ").unwrap_or((warning, ""));
            say(Warning, "secrets", text.to_owned(), &format!("`{remedy}`"));
        }
        all.sort();
        all
    }
}

/// Which keys of the configuration name a slot.
fn users_of(config: &Config, slot: &str) -> Vec<String> {
    let is = |number| config.plugins.name(number) == slot;
    let mut users = Vec::new();
    for route in &config.routes {
        let asked = matches!(route.auth, Auth::Plugin(number) if is(number));
        let chosen = matches!(route.policy, Policy::Plugin(number) if is(number));
        if asked || chosen || route.filters.iter().any(|number| is(*number)) {
            users.push(format!("route {}", route.path));
        }
    }
    if config.gateway.worker_policy.is_some_and(is) {
        users.push("gateway.worker_policy".to_owned());
    }
    users
}

/// Descriptors that this process may have.
fn files_max() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(u64::MAX / 16)
}

/// `RcvbufErrors` of the UDP lines in /proc/net/snmp.
fn dropped(snmp: &str) -> u64 {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Udp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let at = names.split_whitespace().position(|name| name == "RcvbufErrors");
    at.and_then(|at| values.split_whitespace().nth(at)?.parse().ok()).unwrap_or(0)
}

/// The folder that must take what the gateway writes, where it has one.
pub(super) fn data_folder(options: &RunOptions) -> Option<PathBuf> {
    let states = std::env::var_os("STATE_DIRECTORY").filter(|states| !states.is_empty());
    let state = states.and_then(|states| std::env::split_paths(&states).next());
    let file = || options.flash.as_ref().filter(|flash| flash.is_file());
    let beside = || Some(fs::canonicalize(file()?).ok()?.parent()?.to_owned());
    options.data.clone().or(state).or_else(beside)
}

/// Whether something can be written to a folder. One that is not there is made when it is needed, so
/// the one above it is tried.
fn writes(folder: &Path) -> Result<(), String> {
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(folder);
    let file = there.join(format!(".edgeweir-doctor-{}", std::process::id()));
    let tried = fs::File::create(&file)
        .and_then(|mut file| file.write_all(&[0; 64 * 1024]).and_then(|()| file.sync_all()));
    let _ = fs::remove_file(&file);
    tried.map_err(|wrong| wrong.to_string())
}

/// The path that an origin is asked for when nobody names one: that of its health check, else the one
/// that a route without wildcards leads to. None where only players know their paths.
pub(super) fn usual_path(config: &Config, origin: &crate::origin::Origin) -> Option<String> {
    if let HealthCheck::Describe(path) = &origin.settings().check {
        return Some(path.as_str().to_owned());
    }
    let own = String::from_utf8_lossy(origin.path()).into_owned();
    let leads_here = config.routes.iter().filter(|route| {
        !route.path.contains('*') && route.origins.iter().any(|name| name.as_str() == origin.name())
    });
    for route in leads_here {
        let keeps = match route.strip {
            Strip::Auto => own.is_empty(),
            Strip::Yes => false,
            Strip::No => true,
        };
        let whole = if keeps {
            format!("{}{}", own.strip_suffix('/').unwrap_or(&own), route.path)
        } else {
            own.clone()
        };
        if !whole.is_empty() {
            return Some(whole);
        }
    }
    None
}

/// Whether players sign in at an origin for themselves, on all routes that lead there.
pub(super) fn players_sign(config: &Config, origin: &str) -> bool {
    let mut leads_here = config
        .routes
        .iter()
        .filter(|route| route.origins.iter().any(|name| name.as_str() == origin))
        .peekable();
    leads_here.peek().is_some() && leads_here.all(|route| route.auth == Auth::Pass)
}

/// What findings about an origin call it.
pub(super) fn about(name: &str) -> String {
    format!("origin {name}")
}

/// How many looks at origins are under way.
pub(super) struct Looking<'a>(&'a core::sync::atomic::AtomicUsize);

impl<'a> Looking<'a> {
    /// One more, unless there are as many as may be.
    pub(super) fn begin(count: &'a core::sync::atomic::AtomicUsize) -> Option<Self> {
        let more = |now| (now < crate::limits::PROBES_AT_ONCE_MAX).then(|| now + 1);
        count.fetch_update(Relaxed, Relaxed, more).is_ok().then_some(Self(count))
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Facts {
        Facts {
            unix_s: 1_795_687_200,
            sessions_max: 10,
            ports: 100,
            ephemeral: Some((32_768, 60_999)),
            media_ports: (20_000, 23_999),
            files_used: 30,
            files_max: 1024,
            rmem_max: Some(4 << 20),
            ..Facts::default()
        }
    }

    #[test]
    fn a_gateway_that_is_well_has_nothing_found() {
        assert_eq!(well().judged(), []);
    }

    #[test]
    fn each_fault_is_found_with_its_remedy_and_errors_come_first() {
        let slot = || vec![("route /x".to_owned(), "gate".to_owned())];
        let cases: [(Facts, &str, Severity); 11] = [
            (Facts { unix_s: 86_400, ..well() }, "clock", Severity::Error),
            (Facts { ports_used: 100, ..well() }, "ports", Severity::Error),
            (Facts { ports_used: 95, ..well() }, "ports", Severity::Warning),
            (Facts { media_ports: (40_000, 40_999), ..well() }, "ports", Severity::Warning),
            (Facts { sessions: 10, ..well() }, "sessions", Severity::Error),
            (Facts { files_used: 1000, ..well() }, "descriptors", Severity::Error),
            (Facts { files_max: 64, ..well() }, "descriptors", Severity::Warning),
            (Facts { rmem_max: Some(212_992), ..well() }, "buffers", Severity::Warning),
            (
                Facts { data: Some(("/data".into(), "full".into())), ..well() },
                "disk",
                Severity::Error,
            ),
            (Facts { store: vec!["damaged".into()], ..well() }, "store", Severity::Warning),
            (Facts { empty_slots: slot(), ..well() }, "plugin", Severity::Error),
        ];
        for (facts, cause, severity) in cases {
            let found = facts.judged();
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].cause.as_str(), found[0].severity), (cause, severity));
            assert!(!found[0].remedy.is_empty(), "{found:?}");
        }
        let both = Facts { rmem_max: Some(1), unix_s: 0, ..well() }.judged();
        assert_eq!(
            both.iter().map(|it| it.cause.as_str()).collect::<Vec<_>>(),
            ["clock", "buffers"]
        );
        let warnings =
            vec!["origin a names credentials b, which are not stored: edgeweir x".into()];
        let found = Facts { warnings, ..well() }.judged();
        assert_eq!(found[0].remedy, "`edgeweir x`");
    }

    #[test]
    fn what_the_kernel_dropped_is_read() {
        let text = "Udp: InDatagrams NoPorts RcvbufErrors\nUdp: 9 8 7\nUdpLite: x\n";
        assert_eq!((dropped(text), dropped("")), (7, 0));
    }

    #[test]
    fn a_folder_that_is_full_or_not_ours_is_told() {
        assert_eq!(writes(&std::env::temp_dir().join("none/so/deep")), Ok(()));
        assert!(writes(Path::new("/proc/self")).is_err());
    }

    #[test]
    fn an_origin_is_asked_for_what_its_players_ask_for() {
        for (url, route, more, wanted) in [
            ("rtsp://h", "/cam1", "", Some("/cam1")),
            ("rtsp://h/S/101", "/cam1", "", Some("/S/101")),
            ("rtsp://h/r?channel=1", "/cam1", "", Some("/r?channel=1")),
            ("rtsp://h/S/", "/cam1", "strip = false", Some("/S/cam1")),
            ("rtsp://h", "/cam1", "strip = true", None),
            ("rtsp://h", "/live/*", "", None),
        ] {
            let text = format!(
                "[[origin]]\nname = \"a\"\nurl = \"{url}\"\n[[route]]\npath = \"{route}\"\n\
                 origins = [\"a\"]\n{more}"
            );
            let config = crate::config::text::parse(&text).unwrap();
            let origin = crate::origin::Origin::new(&config.origins[0], None, 0);
            assert_eq!(usual_path(&config, &origin).as_deref(), wanted, "{url} {route}");
        }
    }
}
