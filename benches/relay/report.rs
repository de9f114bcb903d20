//! What was measured: raw figures in a file of tab-separated values, a table and a plot made of it.
//!
//! A run of some scenes replaces their rows only, so that a machine can be lent for minutes at a
//! time. Not in here: measuring.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{load::Seen, plot, rig::Contender, scenes, scenes::Scene};

/// What was read at both ends of the time in which it was measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// CPU time of the relay.
    pub(crate) cpu_ns: u64,
    /// Packets that reached players.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) took_ns: u64,
    pub(crate) rss_kib: u64,
}

/// A struct of numbers that is also a line of the file, its fields in their order.
macro_rules! columns {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name {
            $($(#[$doc])* pub(crate) $field: f64,)*
        }

        impl $name {
            const NAMES: &[&str] = &[$(stringify!($field)),*];

            const fn columns(&self) -> [f64; Self::NAMES.len()] {
                [$(self.$field),*]
            }

            const fn from_columns([$($field),*]: [f64; Self::NAMES.len()]) -> Self {
                Self { $($field),* }
            }
        }
    };
}

columns! {
    /// One run of one contender.
    Figures {
        /// CPU time of the relay for each packet that reached a player, microseconds.
        us,
        /// Packets a second that reached players.
        rate,
        /// Packets a second that were sent.
        offered,
        /// Share of the packets sent that did not arrive.
        loss,
        p50_ms,
        p99_ms,
        max_ms,
        rss_kib,
        reordered,
        /// Fewest and most packets of one stream, as a share of the mean.
        least,
        most,
        /// Slowest of some OPTIONS under this load; 0: not asked.
        answer_ms,
        /// Slowest of some RTCP reports from the origin to a player; 0: not sent.
        report_ms,
    }
}

impl Figures {
    pub(crate) fn new(window: &Window, sent: u64, seen: &Seen, control_ms: [f64; 2]) -> Self {
        let [answer_ms, report_ms] = control_ms;
        let took = window.took_ns as f64 / 1e9;
        let mean = seen.received as f64 / seen.each.len() as f64;
        let share = |count: Option<&u64>| *count.unwrap_or(&0) as f64 / mean.max(1.0);
        Self {
            us: window.cpu_ns as f64 / 1000.0 / window.received.max(1) as f64,
            rate: window.received as f64 / took,
            offered: window.sent as f64 / took,
            loss: 1.0 - seen.received as f64 / sent.max(1) as f64,
            p50_ms: seen.delay_ms(0.5),
            p99_ms: seen.delay_ms(0.99),
            max_ms: seen.longest_ns as f64 / 1e6,
            rss_kib: window.rss_kib as f64,
            reordered: seen.reordered as f64,
            least: share(seen.each.iter().min()),
            most: share(seen.each.iter().max()),
            answer_ms,
            report_ms,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} us, {:.0}/{:.0} pps, loss {:.2} %, p50 {:.2} p99 {:.2} max {:.1} ms, {} KiB, \
             {} reordered, streams {:.2} to {:.2}, RTSP {:.1} RTCP {:.1} ms",
            self.us,
            self.rate,
            self.offered,
            self.loss * 100.0,
            self.p50_ms,
            self.p99_ms,
            self.max_ms,
            self.rss_kib,
            self.reordered,
            self.least,
            self.most,
            self.answer_ms,
            self.report_ms
        )
    }
}

/// Median, smallest and largest.
pub(crate) fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
}

/// A line of a table of figures of their own kind.
pub(crate) fn row(name: &str, figures: Vec<f64>) -> String {
    let (middle, low, high) = spread(figures);
    let digits = if middle < 10.0 { 2 } else { 0 };
    format!("| {name} | {middle:.digits$} | {low:.digits$} to {high:.digits$} |\n")
}

/// Keeps the table of a part that has one of its own, for [`write`].
pub(crate) fn write_part(part: &str, text: &str) {
    fs::create_dir_all(folder()).expect("a folder for the results");
    fs::write(folder().join(format!("{part}.md")), text).expect("the figures of a part");
}

/// What was measured in one scene.
pub(crate) type Results = Vec<(Contender, Vec<Figures>)>;

/// What was measured of one contender: its name and its runs.
pub(crate) type Rows = Vec<(String, Vec<Figures>)>;

/// Prints a scene's table.
pub(crate) fn print(scene: &Scene, results: &Results) {
    let rows = results.iter().map(|(who, runs)| (who.to_string(), runs.clone())).collect();
    println!("\n{}\n\n{}", scene.title, table(&rows));
}

fn table(rows: &Rows) -> String {
    let mut text = String::from(
        "| relay | CPU, us a packet | to the first | delivered, pps | loss, % | streams | p50, ms \
         | p99, ms | max, ms | RSS, MB | reordered | RTSP, ms | RTCP, ms |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let bound: Vec<f64> =
        rows.first().map(|(_, runs)| runs.iter().map(|run| run.us).collect()).unwrap_or_default();
    for (who, runs) in rows {
        let of = |pick: fn(&Figures) -> f64| spread(runs.iter().map(pick).collect());
        let (us, low, high) = of(|run| run.us);
        let ratios = runs.iter().zip(&bound).map(|(run, bound)| run.us / bound).collect();
        let (ratio, least, most) = spread(ratios);
        text += &format!(
            "| {who} | {us:.2} ({low:.2} to {high:.2}) | {ratio:.2} ({least:.2} to {most:.2}) | \
             {:.0} | {:.2} | {:.2} to {:.2} | {:.2} | {:.2} | {:.1} | {:.1} | {:.0} | {} | {} |\n",
            of(|run| run.rate).0,
            of(|run| run.loss * 100.0).0,
            of(|run| run.least).1,
            of(|run| run.most).2,
            of(|run| run.p50_ms).0,
            of(|run| run.p99_ms).0,
            of(|run| run.max_ms).0,
            of(|run| run.rss_kib / 1024.0).0,
            of(|run| run.reordered).2,
            asked(of(|run| run.answer_ms).0),
            asked(of(|run| run.report_ms).0),
        );
    }
    text
}

fn asked(ms: f64) -> String {
    if ms > 0.0 { format!("{ms:.1}") } else { "-".to_owned() }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results")
}

/// Takes over new figures of some scenes and makes table and plot anew.
pub(crate) fn write(results: &[(Scene, Results)], command: &str) {
    let raw = folder().join("relay.tsv");
    let before = fs::read_to_string(&raw).unwrap_or_default();
    let measured = |name: &str| results.iter().any(|(scene, _)| scene.name == name);
    let mut lines: Vec<String> = before
        .lines()
        .filter(|line| !line.starts_with('#') && !measured(line.split('\t').next().unwrap_or("")))
        .map(str::to_owned)
        .collect();
    for (scene, contenders) in results {
        for (who, runs) in contenders {
            for run in runs {
                let words: Vec<String> = run.columns().iter().map(|x| format!("{x:.5}")).collect();
                lines.push(format!("{}\t{who}\t{}", scene.name, words.join("\t")));
            }
        }
    }
    let head = format!("# scene\trelay\t{}", Figures::NAMES.join("\t"));
    fs::create_dir_all(folder()).expect("a folder for the results");
    fs::write(&raw, format!("{head}\n{}\n", lines.join("\n"))).expect("the raw figures");
    let mut text = format!(
        "# What a relayed packet costs\n\nMade by `{command}`; raw figures in `relay.tsv`, bars in \
         `relay.svg`. {}\n\nEach scene is measured in turns, one run of each relay after the other; \
         figures are medians, in brackets the smallest and the largest. \"To the first\" is the CPU \
         time compared with the first row of the same turn. Delays are from the origin's send to \
         the arrival at the player (over UDP by the kernel's stamp), and include waiting for a core \
         that other programs use. \"Streams\": the worst and best served stream against the mean. \
         \"RTSP\": the slowest of five OPTIONS on new connections under the load; \"RTCP\": of five \
         reports from the origin to a player. \
         go2rtc packs pictures anew: its packets are fewer by itself, and its delays are not known.\n",
        machine()
    );
    let mut panels = Vec::new();
    for scene in scenes::all() {
        let rows = rows_of(&lines, scene.name);
        if !rows.is_empty() {
            let runs = rows[0].1.len();
            text += &format!("\n## {} ({runs} runs)\n\n{}", scene.title, table(&rows));
            panels.push((scene.title, rows));
        }
    }
    for (part, _) in crate::PARTS {
        if let Ok(table) = fs::read_to_string(folder().join(format!("{part}.md"))) {
            text += &format!("\n{table}");
        }
    }
    fs::write(folder().join("relay.md"), text).expect("the table");
    fs::write(folder().join("relay.svg"), plot::bars(&panels)).expect("the plot");
}

fn rows_of(lines: &[String], scene: &str) -> Rows {
    let mut rows = Rows::new();
    for line in lines {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, who, numbers @ ..] = &words[..] else { continue };
        let numbers: Vec<f64> = numbers.iter().filter_map(|word| word.parse().ok()).collect();
        let Ok(columns) = numbers.try_into() else { continue };
        if *name == scene {
            let run = Figures::from_columns(columns);
            match rows.iter_mut().find(|(known, _)| known == who) {
                Some((_, runs)) => runs.push(run),
                None => rows.push(((*who).to_owned(), vec![run])),
            }
        }
    }
    rows
}

/// Processor, kernel and versions; no names.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = kernel.split('-').next().unwrap_or_default().trim().to_owned();
    let first = |program: &str, word: &str| {
        let output = Command::new(program).arg(word).output().ok();
        let said = output.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said).into_owned();
        let line = said.lines().find(|line| line.chars().any(|c| c.is_ascii_digit()));
        line.unwrap_or("?").trim().to_owned()
    };
    let go2rtc = fs::read_to_string(crate::harness::peers_dir().join("go2rtc.version"));
    format!(
        "Machine: {cores} cores of {}, Linux {kernel}, everything on the loopback interface. \
         Versions: edgeweir {}, {}, {}, rtpengine {}, socat {}, go2rtc {}.",
        model.trim_start_matches([':', ' ', '\t']),
        env!("CARGO_PKG_VERSION"),
        first("rustc", "--version"),
        first("/usr/sbin/nginx", "-v"),
        first("rtpengine", "--version").trim_start_matches("Version: "),
        first("socat", "-V").trim_start_matches("socat version "),
        go2rtc.unwrap_or_default().trim(),
    )
}
