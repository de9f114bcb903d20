//! The status of a gateway as text: the page of `status --watch`, and the lines of a script.
//!
//! Not in here: the terminal, the clock, and the asking ([`super::watch`]).

use super::table::{self, Column, clean, cut};
use crate::control::model::{OriginStatus, PluginStatus, SessionStatus, Status};

/// Sessions that a text snapshot lists.
const TEXT_SESSIONS: usize = 20;

/// The whole page, `height` lines at most (0: as many as it takes), none wider than `width`
/// characters. Lines end with `\n`. Colour is SGR sequences, which take no width.
pub fn render(
    status: &Status,
    sessions: &[SessionStatus],
    width: usize,
    height: usize,
    colour: bool,
) -> String {
    let paint = Paint(colour);
    let mut page = header(status, sessions, width, paint);
    let mut foot = footer(status, sessions, width, paint);
    // Three headings with an empty line above each; where there are slots, one more.
    let room = if height == 0 { usize::MAX } else { height };
    let left = room.saturating_sub(page.len() + foot.len() + 6);
    let plugin_rows = status.plugins.len().min(left / 4);
    let left = left.saturating_sub(if status.plugins.is_empty() { 0 } else { 2 + plugin_rows });
    let wanted = [status.origins.len(), status.workers.len(), sessions.len()];
    let [origin_rows, worker_rows, session_rows] = shares(left, wanted);
    page.extend(section(origins(status, width, paint), origin_rows, paint));
    page.extend(section(workers(status, width), worker_rows, paint));
    if !status.plugins.is_empty() {
        let rows = status.plugins.len().min(plugin_rows);
        page.extend(section(plugin_table(&status.plugins, width, paint), rows, paint));
    }
    page.extend(section(session_table(sessions, width, paint), session_rows, paint));
    page.append(&mut foot);
    page.truncate(room);
    page.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// One snapshot as plain lines: for pipes, logs and scripts.
pub fn text(time: &str, status: &Status, sessions: &[SessionStatus]) -> String {
    let sum = |of: fn(&SessionStatus) -> u64| sessions.iter().map(of).sum::<u64>();
    let up = status.origins.iter().filter(|origin| origin.health == "up").count();
    let mut text = format!(
        "{time} sessions={} connections={} kbit_s={} packets={} lost={} dropped={} origins_up={up}/{} \
         port_pairs={}/{} rss_kib={} uptime_s={}\n",
        status.sessions,
        status.connections,
        sum(|session| session.kbit.into()),
        sum(|session| session.packets),
        sum(|session| session.lost),
        sum(|session| session.dropped),
        status.origins.len(),
        status.port_pairs_used,
        status.port_pairs,
        status.rss_kib,
        status.uptime_s,
    );
    for one in sessions.iter().take(TEXT_SESSIONS) {
        let line = format!(
            "  session={} client={} path={} origin={} state={} transport={} kbit_s={} lost={} \
             dropped={} worker={} age_s={}",
            one.id,
            one.client,
            one.path,
            one.origin,
            one.state,
            transport(one),
            one.kbit,
            one.lost,
            one.dropped,
            one.worker,
            one.age_s
        );
        text.push_str(&clean(&line));
        text.push('\n');
    }
    if let Some(more) = sessions.len().checked_sub(TEXT_SESSIONS).filter(|more| *more > 0) {
        text.push_str(&format!("  … and {more} more\n"));
    }
    text
}

/// The sessions as a table, for `edgeweir sessions`.
pub fn session_list(sessions: &[SessionStatus], width: usize, colour: bool) -> String {
    if sessions.is_empty() {
        return "no sessions\n".to_owned();
    }
    let table = session_table(sessions, width, Paint(colour));
    table.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The origins as a table, for `edgeweir origin list`.
pub fn origin_list(origins: &[OriginStatus], width: usize, colour: bool) -> String {
    if origins.is_empty() {
        return "no origins: `edgeweir origin add NAME URL` adds one\n".to_owned();
    }
    let status = Status { origins: origins.to_vec(), ..Status::default() };
    let table = self::origins(&status, width, Paint(colour));
    table.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The slots as a table, for `edgeweir plugin list`.
pub fn plugin_list(plugins: &[PluginStatus], width: usize, colour: bool) -> String {
    if plugins.is_empty() {
        return "no slots: the configuration has no [[plugin]]\n".to_owned();
    }
    let table = plugin_table(plugins, width, Paint(colour));
    table.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn header(status: &Status, sessions: &[SessionStatus], width: usize, paint: Paint) -> Vec<String> {
    let kbit: u64 = sessions.iter().map(|session| u64::from(session.kbit)).sum();
    let first = format!(
        "edgeweir {}   up {}   {} session{}   {}   {} MiB",
        status.version,
        span(status.uptime_s),
        status.sessions,
        if status.sessions == 1 { "" } else { "s" },
        rate(kbit),
        decimal(status.rss_kib, 1024),
    );
    let second = format!(
        "listening on {}   connections {}   port pairs {}/{}   configuration {}",
        status.listen.join(", "),
        status.connections,
        status.port_pairs_used,
        status.port_pairs,
        status.config_sequence
    );
    vec![paint.bold(&cut(&clean(&first), width)), paint.dim(&cut(&clean(&second), width))]
}

/// Sums of the sessions of now, counters since the start, the first warning, the newest event.
fn footer(status: &Status, sessions: &[SessionStatus], width: usize, paint: Paint) -> Vec<String> {
    let sum = |of: fn(&SessionStatus) -> u64| sessions.iter().map(of).sum::<u64>();
    let now = format!(
        "sessions now:     packets {}   lost {}   dropped {}",
        sum(|session| session.packets),
        sum(|session| session.lost),
        sum(|session| session.dropped)
    );
    let mut lines = vec![String::new(), paint.dim(&cut(&now, width))];
    let counters: Vec<String> = status
        .counters
        .iter()
        .filter(|(_, value)| *value > 0)
        .map(|(name, value)| format!("{} {value}", name.replace('_', " ")))
        .collect();
    if !counters.is_empty() {
        let all = format!("since the start:  {}", counters.join("   "));
        lines.push(paint.dim(&cut(&clean(&all), width)));
    }
    if let Some(warning) = status.warnings.first() {
        let more = status.warnings.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        lines.push(paint.yellow(&cut(&clean(&format!("{warning}{more}")), width)));
    }
    if let Some(event) = status.events.last() {
        lines.push(paint.yellow(&cut(&clean(event), width)));
    }
    lines
}

/// How many rows each of the three tables gets of `left`: what one does not need, the next may
/// have; sessions are what people watch, so origins and workers leave them half.
fn shares(left: usize, wanted: [usize; 3]) -> [usize; 3] {
    let [origins, workers, sessions] = wanted;
    if origins.saturating_add(workers).saturating_add(sessions) <= left {
        return wanted;
    }
    let for_sessions = sessions.min(left / 2);
    let rest = left - for_sessions;
    let for_workers = workers.min((rest / 2).max(rest.saturating_sub(origins)));
    let for_origins = origins.min(rest - for_workers);
    [for_origins, for_workers, left - for_origins - for_workers]
}

/// An empty line, the heading, and as many rows as fit; the last says how many did not.
fn section(table: Vec<String>, rows: usize, paint: Paint) -> Vec<String> {
    let mut table = table.into_iter();
    let heading = table.next().unwrap_or_default();
    let mut lines = vec![String::new(), paint.heading(&heading)];
    let all: Vec<String> = table.collect();
    if all.is_empty() {
        return vec![String::new(), paint.dim(&format!("{} none", heading_word(&heading)))];
    }
    if all.len() <= rows {
        lines.extend(all);
    } else if rows > 0 {
        let hidden = all.len() - (rows - 1);
        lines.extend(all.into_iter().take(rows - 1));
        lines.push(paint.dim(&format!("… and {hidden} more")));
    }
    lines
}

fn heading_word(heading: &str) -> String {
    heading.split_whitespace().next().unwrap_or_default().to_lowercase() + "s:"
}

fn origins(status: &Status, width: usize, paint: Paint) -> Vec<String> {
    let columns = [
        Column::text("ORIGIN"),
        Column::text("HEALTH"),
        Column::number("SESSIONS"),
        Column::number("KBIT/S"),
        Column::number("ANSWERS IN").rank(1),
        Column::number("FAILED").rank(2),
        Column::text("URL").rank(4),
        // Cut at the edge only: why an origin is down matters more than how it was when it was up.
        Column::text("WHY"),
    ];
    let rows: Vec<Vec<String>> = status
        .origins
        .iter()
        .map(|origin| {
            vec![
                origin.name.clone(),
                origin.health.clone(),
                match origin.max_sessions {
                    0 => origin.sessions.to_string(),
                    most => format!("{}/{most}", origin.sessions),
                },
                origin.kbit.to_string(),
                milliseconds(origin.rtt_us),
                format!("{} %", decimal(origin.err_permille.into(), 10)),
                origin.url.clone(),
                why(origin),
            ]
        })
        .collect();
    let mut lines = table::lines(&columns, &rows, width);
    for (line, origin) in lines.iter_mut().skip(1).zip(&status.origins) {
        *line = match origin.health.as_str() {
            "up" => paint.word(line, "up", Paint::green),
            "failing" => paint.word(line, "failing", Paint::yellow),
            "down" => paint.word(line, "down", Paint::red),
            _ => line.clone(),
        };
    }
    lines
}

fn why(origin: &OriginStatus) -> String {
    if let (Some(trouble), 0) = (origin.troubles.first(), origin.retry_in_s) {
        let since = span(trouble.since_s);
        return format!("{} for {since}: {}", trouble.text, trouble.remedy);
    }
    match (origin.reason.is_empty(), origin.retry_in_s) {
        (_, 0) => origin.reason.clone(),
        (true, seconds) => format!("tried again in {}", span(seconds.into())),
        (false, seconds) => format!("{}; tried again in {}", origin.reason, span(seconds.into())),
    }
}

fn workers(status: &Status, width: usize) -> Vec<String> {
    let columns = [
        Column::text("WORKER"),
        Column::number("CONNECTIONS"),
        Column::number("PIPES"),
        Column::number("PACKETS/S"),
        Column::number("BUSY"),
        Column::text("").rank(1),
    ];
    let rows: Vec<Vec<String>> = status
        .workers
        .iter()
        .map(|worker| {
            vec![
                worker.id.to_string(),
                worker.connections.to_string(),
                worker.pipes.to_string(),
                worker.packets_per_s.to_string(),
                format!("{} %", decimal(worker.busy_permille.into(), 10)),
                bar(worker.busy_permille),
            ]
        })
        .collect();
    table::lines(&columns, &rows, width)
}

fn plugin_table(plugins: &[PluginStatus], width: usize, paint: Paint) -> Vec<String> {
    let columns = [
        Column::text("PLUGIN"),
        Column::text("STATE"),
        Column::text("HOLDS").elastic(),
        Column::text("HASH").rank(2),
        Column::number("GENERATION").rank(3),
        Column::number("CALLS"),
        Column::number("FAULTS"),
        Column::number("A CALL").rank(1),
        Column::text("WHY"),
    ];
    let rows: Vec<Vec<String>> = plugins
        .iter()
        .map(|plugin| {
            let (calls, us) = (plugin.calls(), plugin.hooks.iter().map(|hook| hook.total_us));
            let each = (us.sum::<u64>() * 10).checked_div(calls);
            vec![
                plugin.slot.clone(),
                plugin.state.clone(),
                format!("{} {}", plugin.name, plugin.version).trim().to_owned(),
                plugin.hash.get(..12).unwrap_or_default().to_owned(),
                plugin.generation.to_string(),
                calls.to_string(),
                plugin.faults.to_string(),
                each.map_or_else(|| "-".to_owned(), |each| format!("{} us", decimal(each, 10))),
                plugin.reason.clone(),
            ]
        })
        .collect();
    let mut lines = table::lines(&columns, &rows, width);
    for (line, plugin) in lines.iter_mut().skip(1).zip(plugins) {
        *line = match plugin.state.as_str() {
            "active" => paint.word(line, "active", Paint::green),
            "trial" => paint.word(line, "trial", Paint::yellow),
            "benched" => paint.word(line, "benched", Paint::red),
            _ => line.clone(),
        };
    }
    lines
}

fn session_table(sessions: &[SessionStatus], width: usize, paint: Paint) -> Vec<String> {
    let columns = [
        Column::number("SESSION"),
        Column::text("CLIENT").elastic(),
        Column::text("PATH").elastic(),
        Column::text("ORIGIN").elastic(),
        Column::text("STATE").rank(3),
        Column::text("TRANSPORT").rank(2),
        Column::number("KBIT/S"),
        Column::number("LOSS"),
        Column::number("DROPPED").rank(1),
        Column::number("WORKER").rank(4),
        Column::number("AGE").rank(5),
        Column::text("PLAYER").elastic().rank(6),
    ];
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|one| {
            vec![
                one.id.to_string(),
                one.client.clone(),
                one.path.clone(),
                one.origin.clone(),
                one.state.clone(),
                transport(one),
                one.kbit.to_string(),
                loss(one),
                one.dropped.to_string(),
                one.worker.to_string(),
                span(one.age_s),
                one.user_agent.clone(),
            ]
        })
        .collect();
    let mut lines = table::lines(&columns, &rows, width);
    for (line, one) in lines.iter_mut().skip(1).zip(sessions) {
        if one.lost > 0 || one.dropped > 0 {
            *line = paint.yellow(line);
        }
    }
    lines
}

/// Client's side, then the origin's when it differs.
fn transport(one: &SessionStatus) -> String {
    if one.client_transport == one.origin_transport || one.origin_transport.is_empty() {
        return one.client_transport.clone();
    }
    format!("{}<{}", one.client_transport, one.origin_transport)
}

/// Share of the origin's packets that never reached the gateway.
fn loss(one: &SessionStatus) -> String {
    let all = one.packets.saturating_add(one.lost);
    if one.lost == 0 || all == 0 {
        return "0 %".to_owned();
    }
    let permille = one.lost.saturating_mul(1000).div_ceil(all);
    format!("{} %", decimal(permille, 10))
}

fn milliseconds(us: u32) -> String {
    if us == 0 { "-".to_owned() } else { format!("{} ms", decimal(us.into(), 1000)) }
}

/// `value / unit` with one decimal, rounded down.
pub(super) fn decimal(value: u64, unit: u64) -> String {
    format!("{}.{}", value / unit, value % unit * 10 / unit)
}

fn rate(kbit: u64) -> String {
    match kbit {
        0..1000 => format!("{kbit} kbit/s"),
        1000..1_000_000 => format!("{} Mbit/s", decimal(kbit, 1000)),
        _ => format!("{} Gbit/s", decimal(kbit, 1_000_000)),
    }
}

/// A time span in its two largest units.
fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match seconds {
        0..60 => format!("{rest} s"),
        60..3600 => format!("{minutes} m {rest:02} s"),
        3600..86_400 => format!("{hours} h {minutes:02} m"),
        _ => format!("{days} d {hours:02} h"),
    }
}

fn bar(permille: u16) -> String {
    let full = usize::from(permille.min(1000)).div_ceil(100);
    "#".repeat(full) + &".".repeat(10 - full)
}

/// Colours, when they are wanted.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            return format!("\x1b[{code}m{text}\x1b[0m");
        }
        text.to_owned()
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn heading(self, text: &str) -> String {
        self.with("7", text)
    }

    fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn red(self, text: &str) -> String {
        self.with("1;31", text)
    }

    /// Paints the second word of a line, where the health stands.
    fn word(self, line: &str, word: &str, with: fn(Self, &str) -> String) -> String {
        let name = line.find("  ").unwrap_or(0);
        match line.get(name..).and_then(|rest| rest.find(word)) {
            Some(at) => {
                let (before, rest) = line.split_at(name + at);
                let (found, after) = rest.split_at(word.len());
                format!("{before}{}{after}", with(self, found))
            }
            None => line.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::WorkerStatus;

    fn example(count: usize) -> (Status, Vec<SessionStatus>) {
        let origin = |name: &str, health: &str, reason: &str| OriginStatus {
            name: name.into(),
            url: format!("rtsp://192.0.2.20:554/{name}"),
            health: health.into(),
            reason: reason.into(),
            retry_in_s: if health == "up" { 0 } else { 12 },
            sessions: 2,
            max_sessions: 16,
            rtt_us: 1250,
            err_permille: 5,
            kbit: 4000,
            ..OriginStatus::default()
        };
        let status = Status {
            version: "0.1.0".into(),
            uptime_s: 7_400,
            listen: vec!["0.0.0.0:8554".into()],
            sessions: count as u32,
            rss_kib: 4_900,
            origins: vec![origin("nvr-a", "up", ""), origin("nvr-b", "down", "connection refused")],
            workers: (0..2)
                .map(|id| WorkerStatus { id, busy_permille: 123, ..WorkerStatus::default() })
                .collect(),
            counters: vec![("sessions_opened".into(), 17), ("never".into(), 0)],
            events: vec!["old".into(), "nvr-b went down".into()],
            ..Status::default()
        };
        let session = |id: u64| SessionStatus {
            id,
            client: "192.0.2.77:50000".into(),
            path: "/live/cam1".into(),
            origin: "nvr-a".into(),
            state: "playing".into(),
            client_transport: "tcp".into(),
            origin_transport: "udp".into(),
            kbit: 2000,
            packets: 999,
            lost: u64::from(id == 2),
            age_s: 75,
            user_agent: "VLC\x1b[2J".into(),
            ..SessionStatus::default()
        };
        (status, (1..=count as u64).map(session).collect())
    }

    #[test]
    fn a_page_says_what_an_operator_asks() {
        let (status, sessions) = example(2);
        let page = render(&status, &sessions, 120, 40, false);
        for part in [
            "edgeweir 0.1.0   up 2 h 03 m   2 sessions   4.0 Mbit/s   4.7 MiB",
            "listening on 0.0.0.0:8554",
            "nvr-a   up          2/16    4000      1.2 ms   0.5 %",
            "connection refused; tried again in 12 s",
            "12.3 %  ##........",
            "playing  tcp<udp      2000    0 %",
            "0.1 %",
            "1 m 15 s",
            "sessions now:     packets 1998   lost 1   dropped 0",
            "since the start:  sessions opened 17",
            "nvr-b went down",
        ] {
            assert!(page.contains(part), "{part:?} is missing in\n{page}");
        }
        assert!(!page.contains('\x1b') && !page.contains("never 0"), "{page}");
    }

    #[test]
    fn a_page_fits_any_terminal() {
        for count in [0, 1, 5, 200] {
            let (status, sessions) = example(count);
            for (width, height) in [(1, 1), (20, 5), (40, 10), (80, 24), (120, 50), (300, 100)] {
                let page = render(&status, &sessions, width, height, false);
                assert!(page.lines().count() <= height, "{width}x{height}\n{page}");
                for line in page.lines() {
                    assert!(line.chars().count() <= width.max(16), "{width}x{height}: {line}");
                }
            }
        }
    }

    #[test]
    fn a_long_table_says_how_much_is_not_shown() {
        let (status, sessions) = example(200);
        let page = render(&status, &sessions, 120, 24, false);
        let shown = page.lines().filter(|line| line.contains("192.0.2.77")).count();
        assert!(page.contains(&format!("… and {} more", 200 - shown)), "{page}");
        assert!(shown >= 4 && page.contains("nvr-b") && page.contains("sessions now"), "{page}");
        assert_eq!(page.lines().count(), 24, "{page}");
        let whole = render(&status, &sessions, 120, 0, false);
        assert_eq!(whole.lines().filter(|line| line.contains("192.0.2.77")).count(), 200);
    }

    #[test]
    fn colour_marks_health_and_adds_no_other_text() {
        let (status, sessions) = example(2);
        let page = render(&status, &sessions, 100, 40, true);
        assert!(page.contains("\x1b[32mup\x1b[0m") && page.contains("\x1b[1;31mdown\x1b[0m"));
        let mut plain = page.clone();
        while let Some(at) = plain.find('\x1b') {
            let end = plain[at..].find('m').unwrap();
            plain.replace_range(at..=at + end, "");
        }
        assert_eq!(plain, render(&status, &sessions, 100, 40, false));
    }

    #[test]
    fn a_snapshot_for_a_script_is_one_line_and_one_for_each_session() {
        let (status, sessions) = example(21);
        let text = text("2026-11-21T10:00:00Z", &status, &sessions);
        assert!(text.starts_with("2026-11-21T10:00:00Z sessions=21 "), "{text}");
        assert!(
            text.contains("\n  session=1 client=192.0.2.77:50000 path=/live/cam1 origin=nvr-a")
        );
        assert!(text.ends_with("  … and 1 more\n") && text.lines().count() == 22);
    }

    #[test]
    fn spans_and_rates_are_short() {
        assert_eq!(
            [59, 60, 3599, 3600, 86_400].map(span),
            ["59 s", "1 m 00 s", "59 m 59 s", "1 h 00 m", "1 d 00 h"]
        );
        assert_eq!([999, 1000, 1_500_000].map(rate), ["999 kbit/s", "1.0 Mbit/s", "1.5 Gbit/s"]);
    }
}
