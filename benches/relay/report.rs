//! What was measured, as text.

use std::fmt;

use crate::{Length, load::Seen, rig::Contender, scenes::Scene};

/// One run of one contender.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    /// CPU time of the relay for each packet that reached a player, microseconds.
    pub(crate) us: f64,
    /// Packets a second that reached players.
    pub(crate) rate: f64,
    /// Packets a second that were sent.
    pub(crate) offered: f64,
    /// Share of the packets sent that did not arrive.
    pub(crate) loss: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    pub(crate) rss_kib: u64,
    pub(crate) reordered: u64,
    /// Fewest and most packets of one stream, as a share of the mean.
    pub(crate) spread: (f64, f64),
}

impl Figures {
    pub(crate) fn new(
        cpu_ns: u64,
        received: u64,
        sent_within: u64,
        took: f64,
        rss_kib: u64,
        sent: u64,
        seen: &Seen,
    ) -> Self {
        let mean = seen.received as f64 / seen.each.len() as f64;
        let share = |count: Option<&u64>| *count.unwrap_or(&0) as f64 / mean.max(1.0);
        Self {
            us: cpu_ns as f64 / 1000.0 / received.max(1) as f64,
            rate: received as f64 / took,
            offered: sent_within as f64 / took,
            loss: 1.0 - seen.received as f64 / sent.max(1) as f64,
            p50_ms: seen.delay_ms(0.5),
            p99_ms: seen.delay_ms(0.99),
            max_ms: seen.longest_ns as f64 / 1e6,
            rss_kib,
            reordered: seen.reordered,
            spread: (share(seen.each.iter().min()), share(seen.each.iter().max())),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} us, {:.0}/{:.0} pps, loss {:.2} %, p50 {:.2} p99 {:.2} max {:.1} ms, {} KiB, \
             {} reordered, streams {:.2} to {:.2}",
            self.us,
            self.rate,
            self.offered,
            self.loss * 100.0,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.rss_kib,
            self.reordered,
            self.spread.0,
            self.spread.1
        )
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Prints a scene's table.
pub(crate) fn print(scene: &Scene, results: &[(Contender, Vec<Figures>)]) {
    println!("\n{}\n", scene.title);
    println!("{}", table(results));
}

fn table(results: &[(Contender, Vec<Figures>)]) -> String {
    let mut text = String::from(
        "| relay | CPU us/packet | min to max | ratio | its spread | loss % | p50 ms | p99 ms | max ms | RSS MB |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let bound: Vec<f64> = results
        .first()
        .map(|(_, runs)| runs.iter().map(|run| run.us).collect())
        .unwrap_or_default();
    for (contender, runs) in results {
        let of = |pick: fn(&Figures) -> f64| median(runs.iter().map(pick).collect());
        let ends = |values: &[f64]| {
            let low = values.iter().copied().fold(f64::INFINITY, f64::min);
            (low, values.iter().copied().fold(0.0, f64::max))
        };
        let us: Vec<f64> = runs.iter().map(|run| run.us).collect();
        let ratios: Vec<f64> = us.iter().zip(&bound).map(|(us, bound)| us / bound).collect();
        let ((low, high), (least, most)) = (ends(&us), ends(&ratios));
        text += &format!(
            "| {contender} | {:.2} | {low:.2} to {high:.2} | {:.2} | {least:.2} to {most:.2} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} |\n",
            median(us),
            median(ratios),
            of(|run| run.loss * 100.0),
            of(|run| run.p50_ms),
            of(|run| run.p99_ms),
            of(|run| run.max_ms),
            of(|run| run.rss_kib as f64 / 1024.0),
        );
    }
    text
}

pub(crate) fn write(results: &[(Scene, Vec<(Contender, Vec<Figures>)>)], length: Length) {
    let _ = (results, length);
}
