//! What a slot's guests say for people: numbers and log lines, within bounds.
//!
//! Not in here: how they are shown (`control/metrics`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{
    clock::Instant,
    limits::{
        GUEST_LOG_LINE_MAX_BYTES, GUEST_LOG_LINES_PER_S, GUEST_METRIC_NAME_MAX_BYTES,
        GUEST_METRICS_MAX,
    },
};

/// Names that the gateway itself has in `/metrics`, after `edgeweir_plugin_`.
pub const OWN_METRICS: [&str; 7] =
    ["active", "calls", "dropped_lines", "dropped_metrics", "faults", "generation", "seconds"];

/// A number that a guest keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `[a-z][a-z0-9_]*`, at most 64 bytes; does not end in `_total`, is none of [`OWN_METRICS`].
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A counter or a gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Only grows, as long as the gateway runs.
    Counter(u64),
    /// The sum of what the instances said last.
    Gauge(i64),
}

/// Numbers and the log's quota of one slot.
#[derive(Debug, Default)]
pub(super) struct Meters {
    numbers: Mutex<Numbers>,
    quota: Mutex<Quota>,
}

#[derive(Debug, Default)]
struct Numbers {
    all: Vec<Number>,
    dropped: u64,
}

#[derive(Debug)]
struct Number {
    name: Box<str>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Counter(u64),
    /// By instance.
    Gauge(Vec<(u32, i64)>),
}

#[derive(Debug, Default)]
struct Quota {
    second: u64,
    lines: u32,
    dropped: u64,
}

impl Meters {
    /// Adds to a counter.
    pub(super) fn counter_add(&self, name: &str, by: u64) {
        let mut numbers = lock(&self.numbers);
        match numbers.find(name, || Kind::Counter(0)) {
            Some(Kind::Counter(sum)) => *sum = sum.saturating_add(by),
            _ => numbers.dropped += 1,
        }
    }

    /// Sets an instance's share of a gauge.
    pub(super) fn gauge_set(&self, name: &str, instance: u32, value: i64) {
        let mut numbers = lock(&self.numbers);
        match numbers.find(name, || Kind::Gauge(Vec::new())) {
            Some(Kind::Gauge(shares)) => match shares.iter_mut().find(|(of, _)| *of == instance) {
                Some((_, share)) => *share = value,
                None => shares.push((instance, value)),
            },
            _ => numbers.dropped += 1,
        }
    }

    /// Takes an instance's shares out: it is gone.
    pub(super) fn forget(&self, instance: u32) {
        for number in &mut lock(&self.numbers).all {
            if let Kind::Gauge(shares) = &mut number.kind {
                shares.retain(|(of, _)| *of != instance);
            }
        }
    }

    /// All numbers, in the order in which they appeared.
    pub(super) fn numbers(&self) -> Vec<Metric> {
        let value = |kind: &Kind| match kind {
            Kind::Counter(sum) => Value::Counter(*sum),
            Kind::Gauge(shares) => Value::Gauge(
                shares.iter().fold(0, |sum: i64, (_, share)| sum.saturating_add(*share)),
            ),
        };
        let metric =
            |number: &Number| Metric { name: number.name.to_string(), value: value(&number.kind) };
        lock(&self.numbers).all.iter().map(metric).collect()
    }

    /// Calls for numbers that had bad names, changed their kind or were too many.
    pub(super) fn dropped_metrics(&self) -> u64 {
        lock(&self.numbers).dropped
    }

    /// Log lines over the quota.
    pub(super) fn dropped_lines(&self) -> u64 {
        lock(&self.quota).dropped
    }

    /// Whether one more line may be written now.
    pub(super) fn may_log(&self, now: Instant) -> bool {
        let mut quota = lock(&self.quota);
        let second = now.as_millis() / 1000;
        if quota.second != second {
            (quota.second, quota.lines) = (second, 0);
        }
        let may = quota.lines < GUEST_LOG_LINES_PER_S;
        if may {
            quota.lines += 1;
        } else {
            quota.dropped += 1;
        }
        may
    }
}

impl Numbers {
    fn find(&mut self, name: &str, new: impl FnOnce() -> Kind) -> Option<&mut Kind> {
        let known = self.all.iter().position(|number| *number.name == *name);
        if known.is_none() {
            if !is_name(name) || self.all.len() >= GUEST_METRICS_MAX {
                return None;
            }
            self.all.push(Number { name: name.into(), kind: new() });
        }
        let at = known.unwrap_or(self.all.len() - 1);
        self.all.get_mut(at).map(|number| &mut number.kind)
    }
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= GUEST_METRIC_NAME_MAX_BYTES
        && name.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
        && name.bytes().all(rest)
        && !name.ends_with("_total")
        && !OWN_METRICS.contains(&name)
}

/// A line as it may stand in the log.
pub(super) fn line(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if line.len() + c.len_utf8() > GUEST_LOG_LINE_MAX_BYTES {
            break;
        }
        line.push(c);
    }
    line
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_the_sum_over_instances_and_counters_outlive_them() {
        let meters = Meters::default();
        meters.counter_add("hits", 2);
        meters.counter_add("hits", 3);
        meters.gauge_set("open", 1, 4);
        meters.gauge_set("open", 2, 5);
        meters.gauge_set("open", 1, 1);
        assert_eq!(meters.numbers()[1].value, Value::Gauge(6));
        meters.forget(2);
        let values: Vec<_> = meters.numbers().into_iter().map(|metric| metric.value).collect();
        assert_eq!(values, [Value::Counter(5), Value::Gauge(1)]);
    }

    #[test]
    fn bad_names_other_kinds_and_too_many_are_dropped_and_counted() {
        let meters = Meters::default();
        let longest = "a".repeat(64);
        let bad = ["", "A", "1a", "a-b", "é", "hits_total", &"a".repeat(65)];
        for name in bad.into_iter().chain(OWN_METRICS) {
            meters.counter_add(name, 1);
        }
        meters.counter_add(&longest, 1);
        meters.gauge_set(&longest, 0, 1);
        assert_eq!((meters.numbers().len(), meters.dropped_metrics()), (1, 15));
        for at in 1..40 {
            meters.counter_add(&format!("m{at}"), 1);
        }
        assert_eq!((meters.numbers().len(), meters.dropped_metrics()), (32, 23));
    }

    #[test]
    fn twenty_lines_a_second_and_the_rest_is_counted() {
        let meters = Meters::default();
        let at = Instant::from_millis;
        assert_eq!((0..25).filter(|_| meters.may_log(at(1_999))).count(), 20);
        assert!(meters.may_log(at(2_000)));
        assert_eq!(meters.dropped_lines(), 5);
    }

    #[test]
    fn a_log_line_is_one_line_of_bounded_length() {
        assert_eq!(line("a\r\nb\0\u{1b}[2J"), "a??b??[2J");
        assert_eq!(line(&"é".repeat(600)).len(), 1024);
        assert_eq!(line(&"x".repeat(1025)).len(), 1024);
    }
}
