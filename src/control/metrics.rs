//! The figures of the gateway in the text format of Prometheus, version 0.0.4.
//!
//! Labels are names of origins and slots, numbers of workers and a few fixed words, and a slot has
//! at most `limits::GUEST_METRICS_MAX` numbers of its guests, so the number of series is bounded by
//! the configuration. Not in here: anything for each session or client.

use core::fmt::{Display, Write as _};
use std::collections::BTreeMap;

use super::model::{HookStatus, PluginStatus, SessionStatus, Status};

/// The page that `GET /metrics` answers.
pub fn render(status: &Status, sessions: &[SessionStatus]) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    gateway(&mut page, status);
    by_transport(&mut page, sessions);
    origins(&mut page, status);
    workers(&mut page, status);
    plugins(&mut page, status);
    for (name, value) in &status.counters {
        let name = format!("{}_total", safe_name(name));
        page.head(&name, "counter", &format!("{} since the start", name.replace('_', " ")));
        page.plain(&name, value);
    }
    page.0
}

fn gateway(page: &mut Page, status: &Status) {
    page.head("info", "gauge", "version of the program, always 1");
    page.labelled("info", "version", &status.version, 1);
    let gauges: [(&str, &str, u64); 7] = [
        ("uptime_seconds", "seconds since the start", status.uptime_s),
        ("config_sequence", "sequence number of the configuration", status.config_sequence),
        ("sessions", "sessions now", status.sessions.into()),
        ("connections", "client connections now", status.connections.into()),
        ("port_pairs", "UDP port pairs for media", status.port_pairs.into()),
        ("port_pairs_used", "UDP port pairs in use", status.port_pairs_used.into()),
        ("resident_memory_bytes", "resident memory", status.rss_kib.saturating_mul(1024)),
    ];
    for (name, help, value) in gauges {
        page.head(name, "gauge", help);
        page.plain(name, value);
    }
}

fn by_transport(page: &mut Page, sessions: &[SessionStatus]) {
    // Every word is always there: a series that comes and goes breaks rates and alerts.
    let mut count = BTreeMap::from([("none", 0_u64), ("tcp", 0), ("udp", 0)]);
    for session in sessions {
        let word = match session.client_transport.as_str() {
            "udp" => "udp",
            "tcp" => "tcp",
            _ => "none",
        };
        *count.entry(word).or_default() += 1;
    }
    page.head("sessions_by_transport", "gauge", "sessions now by transport toward the client");
    for (word, value) in count {
        page.labelled("sessions_by_transport", "transport", word, value);
    }
    let kbit: u64 = sessions.iter().map(|session| u64::from(session.kbit)).sum();
    page.head("media_bits_per_second", "gauge", "media of all sessions");
    page.plain("media_bits_per_second", kbit.saturating_mul(1000));
}

fn origins(page: &mut Page, status: &Status) {
    let mut family = |name: &str, help: &str, value: &dyn Fn(usize) -> f64| {
        if status.origins.is_empty() {
            return;
        }
        page.head(name, "gauge", help);
        for (at, origin) in status.origins.iter().enumerate() {
            page.labelled(name, "origin", &origin.name, value(at));
        }
    };
    let of = |at: usize| status.origins.get(at).cloned().unwrap_or_default();
    family("origin_up", "1 when new sessions may go to the origin", &|at| {
        f64::from(u8::from(of(at).health == "up"))
    });
    family("origin_sessions", "sessions at the origin", &|at| of(at).sessions.into());
    family("origin_max_sessions", "bound of sessions at the origin, 0 when there is none", &|at| {
        of(at).max_sessions.into()
    });
    family("origin_rtt_seconds", "smoothed time to an answer", &|at| {
        f64::from(of(at).rtt_us) / 1e6
    });
    family("origin_error_ratio", "failures among the last answers, 0 to 1", &|at| {
        f64::from(of(at).err_permille) / 1e3
    });
    family("origin_retry_seconds", "time until the origin is tried again", &|at| {
        of(at).retry_in_s.into()
    });
    family("origin_media_bits_per_second", "media from the origin", &|at| {
        f64::from(of(at).kbit) * 1e3
    });
}

fn workers(page: &mut Page, status: &Status) {
    let mut family = |name: &str, help: &str, value: &dyn Fn(usize) -> f64| {
        if status.workers.is_empty() {
            return;
        }
        page.head(name, "gauge", help);
        for (at, worker) in status.workers.iter().enumerate() {
            page.labelled(name, "worker", &worker.id.to_string(), value(at));
        }
    };
    let of = |at: usize| status.workers.get(at).cloned().unwrap_or_default();
    family("worker_connections", "connections of the worker", &|at| of(at).connections.into());
    family("worker_pipes", "pipes of the worker", &|at| of(at).pipes.into());
    family("worker_packets_per_second", "packets, smoothed", &|at| of(at).packets_per_s.into());
    family("worker_busy_ratio", "share of one core, 0 to 1", &|at| {
        f64::from(of(at).busy_permille) / 1e3
    });
}

fn plugins(page: &mut Page, status: &Status) {
    if status.plugins.is_empty() {
        return;
    }
    page.head("plugin_active", "gauge", "1 when the slot has a plugin that runs");
    for plugin in &status.plugins {
        let active = u8::from(matches!(plugin.state.as_str(), "active" | "trial"));
        page.labelled("plugin_active", "slot", &plugin.slot, active);
    }
    page.head("plugin_generation", "gauge", "another number with each change of the slot");
    for plugin in &status.plugins {
        page.labelled("plugin_generation", "slot", &plugin.slot, plugin.generation);
    }
    let mut counters = |name: &str, help: &str, value: &dyn Fn(&PluginStatus) -> u64| {
        page.head(name, "counter", help);
        for plugin in &status.plugins {
            page.labelled(name, "slot", &plugin.slot, value(plugin));
        }
    };
    counters("plugin_faults_total", "calls that failed", &|plugin| plugin.faults);
    counters("plugin_dropped_metrics_total", "numbers of guests that were not taken", &|plugin| {
        plugin.dropped_metrics
    });
    counters("plugin_dropped_lines_total", "log lines of guests over the quota", &|plugin| {
        plugin.dropped_lines
    });
    let mut family = |name: &str, help: &str, value: &dyn Fn(&HookStatus) -> f64| {
        page.head(name, "counter", help);
        for plugin in &status.plugins {
            for hook in &plugin.hooks {
                let labels = [("slot", &*plugin.slot), ("hook", &*hook.hook)];
                page.with_labels(name, &labels, value(hook));
            }
        }
    };
    family("plugin_calls_total", "calls of the hook", &|hook| hook.calls as f64);
    family("plugin_seconds_total", "time in the hook", &|hook| hook.total_us as f64 / 1e6);
    guests(page, status);
}

/// The numbers of guests. Their host takes no name that ends in `_total` or stands above
/// (`plugin::OWN_METRICS`), so no family of theirs is one of ours, or of both kinds.
fn guests(page: &mut Page, status: &Status) {
    let counters = families(status, |plugin| &plugin.counters);
    for (name, samples) in counters {
        page.of_guests(&format!("plugin_{name}_total"), "counter", &samples);
    }
    let gauges = families(status, |plugin| &plugin.gauges);
    for (name, samples) in gauges {
        page.of_guests(&format!("plugin_{name}"), "gauge", &samples);
    }
}

/// By name, as a family must not be told in two places: each slot and its number.
fn families<'a, V: Copy + 'a>(
    status: &'a Status,
    numbers: impl Fn(&PluginStatus) -> &Vec<(String, V)>,
) -> BTreeMap<&'a str, Vec<(&'a str, V)>> {
    let mut families: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for plugin in &status.plugins {
        for (name, value) in numbers(plugin) {
            families.entry(name).or_default().push((&*plugin.slot, *value));
        }
    }
    families
}

struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP edgeweir_{name} {help}\n# TYPE edgeweir_{name} {kind}\n");
    }

    fn plain(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "edgeweir_{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, of: &str, value: impl Display) {
        self.with_labels(name, &[(label, of)], value);
    }

    fn of_guests<V: Display>(&mut self, name: &str, kind: &str, samples: &[(&str, V)]) {
        self.head(name, kind, "kept by the plugin");
        for (slot, value) in samples {
            self.labelled(name, "slot", slot, value);
        }
    }

    fn with_labels(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, of)| {
                let of = of.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{label}=\"{of}\"")
            })
            .collect();
        let _ = writeln!(self.0, "edgeweir_{name}{{{}}} {value}", labels.join(","));
    }
}

/// A counter's name with what Prometheus does not allow turned to `_`.
fn safe_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = name.chars().map(plain).collect();
    name.strip_suffix("_total").unwrap_or(&name).to_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::control::model::{OriginStatus, WorkerStatus};

    fn example() -> (Status, Vec<SessionStatus>) {
        let origin = |name: &str, health: &str| OriginStatus {
            name: name.into(),
            health: health.into(),
            rtt_us: 1500,
            err_permille: 250,
            ..OriginStatus::default()
        };
        let status = Status {
            version: "0.1.0".into(),
            origins: vec![origin("nvr-a", "up"), origin("odd\"\\\nname", "down")],
            workers: vec![WorkerStatus { id: 3, busy_permille: 125, ..WorkerStatus::default() }],
            plugins: vec![
                PluginStatus {
                    counters: vec![("accepted".into(), u64::MAX), ("odd".into(), 1)],
                    gauges: vec![("open".into(), -4)],
                    dropped_metrics: 2,
                    dropped_lines: 3,
                    slot: "gate".into(),
                    state: "active".into(),
                    generation: 3,
                    faults: 1,
                    hooks: vec![HookStatus {
                        hook: "authenticate".into(),
                        calls: 9,
                        total_us: 1_500_000,
                        longest_us: 7,
                    }],
                    ..PluginStatus::default()
                },
                PluginStatus {
                    slot: "other".into(),
                    counters: vec![("accepted".into(), 5)],
                    gauges: vec![("odd".into(), 6)],
                    ..PluginStatus::default()
                },
            ],
            counters: vec![("sessions_opened".into(), 7), ("Odd-one_total".into(), 1)],
            ..Status::default()
        };
        let udp = SessionStatus { client_transport: "udp".into(), kbit: 2, ..Default::default() };
        (status, vec![udp.clone(), udp, SessionStatus::default()])
    }

    #[test]
    fn figures_appear_under_their_names() {
        let (status, sessions) = example();
        let page = render(&status, &sessions);
        for line in [
            "edgeweir_info{version=\"0.1.0\"} 1",
            "edgeweir_origin_up{origin=\"nvr-a\"} 1",
            "edgeweir_origin_up{origin=\"odd\\\"\\\\\\nname\"} 0",
            "edgeweir_origin_rtt_seconds{origin=\"nvr-a\"} 0.0015",
            "edgeweir_origin_error_ratio{origin=\"nvr-a\"} 0.25",
            "edgeweir_worker_busy_ratio{worker=\"3\"} 0.125",
            "edgeweir_plugin_active{slot=\"gate\"} 1",
            "edgeweir_plugin_generation{slot=\"gate\"} 3",
            "edgeweir_plugin_faults_total{slot=\"gate\"} 1",
            "edgeweir_plugin_accepted_total{slot=\"gate\"} 18446744073709551615",
            "edgeweir_plugin_accepted_total{slot=\"other\"} 5",
            "edgeweir_plugin_odd_total{slot=\"gate\"} 1",
            "edgeweir_plugin_odd{slot=\"other\"} 6",
            "edgeweir_plugin_open{slot=\"gate\"} -4",
            "edgeweir_plugin_dropped_metrics_total{slot=\"gate\"} 2",
            "edgeweir_plugin_dropped_lines_total{slot=\"gate\"} 3",
            "edgeweir_plugin_seconds_total{slot=\"gate\",hook=\"authenticate\"} 1.5",
            "edgeweir_sessions_by_transport{transport=\"udp\"} 2",
            "edgeweir_sessions_by_transport{transport=\"tcp\"} 0",
            "edgeweir_media_bits_per_second 4000",
            "edgeweir_sessions_opened_total 7",
            "edgeweir_odd_one_total 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn every_sample_follows_the_help_and_type_of_its_family_and_no_family_comes_twice() {
        let (status, sessions) = example();
        let page = render(&status, &sessions);
        assert!(page.ends_with('\n'));
        let (mut families, mut current) = (BTreeSet::new(), String::new());
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                current = help.split(' ').next().unwrap().to_owned();
                assert!(families.insert(current.clone()), "{current} comes twice");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, current);
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            } else {
                let name = line.split(['{', ' ']).next().unwrap();
                assert_eq!(name, current, "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(families.len() > 20);
    }

    #[test]
    fn the_number_of_lines_does_not_grow_with_sessions() {
        let (status, sessions) = example();
        let many = vec![SessionStatus::default(); 1000];
        assert_eq!(
            render(&status, &sessions).lines().count(),
            render(&status, &many).lines().count()
        );
    }
}
