//! The log, to stderr, in a way that never makes the caller wait.
//!
//! A line goes into a bounded queue; a thread of its own writes it. When stderr is slow and the
//! queue full, lines are dropped and counted, and the count is written as soon as lines flow again:
//! a full log does not disturb a session. Text of peers cannot break a line or steer a terminal.
//!
//! Where there is a syslog daemon, it may get the same lines ([`syslog`]). Lines that peers can cause
//! at will are told seldom ([`seldom`]). Not in here: files and rotation; systemd, procd and shells
//! do that with stderr.

pub mod seldom;
pub mod syslog;

use core::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        OnceLock,
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use log::{Level, LevelFilter, Log, Metadata, Record};

use self::syslog::Syslog;
use crate::limits::{LOG_LINE_MAX_BYTES, LOG_QUEUE_LINES};

/// Time that the end of the program waits for a slow stderr.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);
/// Time and level with the spaces behind them, as [`formatted`] writes them.
const HEAD_BYTES: usize = "2026-11-21T10:00:00Z INFO  ".len();
/// Lines are joined into one write up to this size.
const BATCH_BYTES: usize = 16 * 1024;

static LOGGER: OnceLock<Logger> = OnceLock::new();
/// Lines that the queue had no place for, not yet told.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Starts logging to stderr, and to a syslog daemon's socket if one is named, at `level`; logs
/// panics with it. A second call only sets the level.
///
/// # Errors
/// The thread cannot be started.
pub fn start(level: LevelFilter, syslog: Option<PathBuf>) -> Result<(), String> {
    if LOGGER.get().is_none() {
        let logger = Logger::to(io::stderr(), syslog.map(Syslog::new), &LOST)
            .map_err(|wrong| format!("cannot start the log's thread: {wrong}"))?;
        let _ = log::set_logger(LOGGER.get_or_init(|| logger));
        std::panic::set_hook(Box::new(|panic| {
            let at = panic.location().map(ToString::to_string).unwrap_or_default();
            log::error!(target: "edgeweir", "a task panicked at {at}: {}", message(panic.payload()));
        }));
    }
    log::set_max_level(level);
    Ok(())
}

/// Waits until what was logged is written, or stderr is too slow. For the end of the program.
pub fn flush() {
    log::logger().flush();
}

/// The level of that name: `off`, `error`, `warn`, `info`, `debug`, `trace`.
///
/// # Errors
/// The name is none of these.
pub fn level(name: &str) -> Result<LevelFilter, String> {
    name.parse().map_err(|_| {
        format!("log level `{name}`: allowed are off, error, warn, info, debug, trace")
    })
}

/// A moment in UTC as `2026-11-21T10:00:00Z`.
pub fn timestamp(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Wall clock time since 1970, for [`timestamp`].
pub fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Year, month and day of a day since 1970-01-01: whole years, then whole months, are taken off.
fn date(mut days: u64) -> (u64, u64, u64) {
    // 400 years have 146,097 days; taking them off first keeps the loops short.
    let mut year = 1970 + days / 146_097 * 400;
    days %= 146_097;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let mut month = 1;
    loop {
        let length = match month {
            2 => 28 + u64::from(leap(year)),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        if days < length {
            return (year, month, days + 1);
        }
        days -= length;
        month += 1;
    }
}

enum Entry {
    Line(Level, String),
    /// Answered once everything before it is written.
    Flush(SyncSender<()>),
}

struct Logger {
    queue: SyncSender<Entry>,
    lost: &'static AtomicU64,
}

impl Logger {
    fn to(
        out: impl Write + Send + 'static,
        syslog: Option<Syslog>,
        lost: &'static AtomicU64,
    ) -> io::Result<Self> {
        let (queue, entries) = mpsc::sync_channel(LOG_QUEUE_LINES);
        thread::Builder::new()
            .name("log".into())
            .stack_size(64 * 1024)
            .spawn(move || write_out(out, syslog, &entries, lost))?;
        Ok(Self { queue, lost })
    }

    fn line(&self, level: Level, line: String) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Line(level, line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries are as loud as their authors like; theirs must matter to someone.
        metadata.target().starts_with("edgeweir") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.line(record.level(), formatted(wall_clock(), record));
        }
    }

    fn flush(&self) {
        let (done, written) = mpsc::sync_channel(1);
        // The queue may be full: wait a little for a place, then for the answer.
        for _ in 0..20 {
            match self.queue.try_send(Entry::Flush(done.clone())) {
                Ok(()) => {
                    let _ = written.recv_timeout(FLUSH_PATIENCE);
                    return;
                }
                Err(TrySendError::Full(_)) => thread::sleep(FLUSH_PATIENCE / 20),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// One line, cut at its bound, with a line feed at the end.
fn formatted(now: Duration, record: &Record<'_>) -> String {
    let target = record.target();
    // Every line is ours: the crate's name says nothing, the room does.
    let target = target.strip_prefix("edgeweir::").unwrap_or(target);
    let mut line = Bounded(format!("{} {:<5} ", timestamp(now), record.level()));
    let cut = write!(line, "{target}: {}", record.args()).is_err();
    let mut line = line.0;
    if cut {
        line.push('…');
    }
    line.push('\n');
    line
}

/// A line that stops growing at its bound and takes no control characters.
struct Bounded(String);

impl core::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for c in text.chars() {
            // The mark of a cut and the line feed fit behind it.
            if self.0.len() + c.len_utf8() > LOG_LINE_MAX_BYTES - 4 {
                return Err(core::fmt::Error);
            }
            self.0.push(if c.is_control() { '\u{b7}' } else { c });
        }
        Ok(())
    }
}

/// The thread: everything that waits goes out in one write.
fn write_out(
    mut out: impl Write,
    mut syslog: Option<Syslog>,
    entries: &Receiver<Entry>,
    lost: &AtomicU64,
) {
    let mut unsent: u64 = 0;
    let mut batch = String::new();
    while let Ok(first) = entries.recv() {
        let mut asked = Vec::new();
        batch.clear();
        let mut next = Some(first);
        while let Some(entry) = next {
            match entry {
                Entry::Line(level, line) => {
                    if let Some(syslog) = &mut syslog
                        && !syslog.send(level, without_head(&line))
                    {
                        unsent += 1;
                    }
                    batch.push_str(&line);
                }
                Entry::Flush(done) => asked.push(done),
            }
            next = if batch.len() < BATCH_BYTES { entries.try_recv().ok() } else { None };
        }
        // An error is nobody's to hear: the log was the place to tell it.
        let _ = out.write_all(batch.as_bytes());
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let now = timestamp(wall_clock());
            let _ = writeln!(out, "{now} WARN  logger: {count} lines lost, stderr was too slow");
        }
        if unsent > 0
            && let Some(syslog) = &mut syslog
            && syslog.send(Level::Warn, &format!("logger: {unsent} lines lost before this one"))
        {
            unsent = 0;
        }
        let _ = out.flush();
        for done in asked {
            let _ = done.try_send(());
        }
    }
}

/// A line without time, level and line feed, which syslog tells in its own way.
fn without_head(line: &str) -> &str {
    line.trim_end().get(HEAD_BYTES..).unwrap_or_default()
}

fn message(payload: &dyn core::any::Any) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn text(sink: &Sink) -> String {
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    fn line(text: &str) -> String {
        let record = Record::builder();
        let args = format_args!("{text}");
        let mut record = record;
        formatted(
            Duration::from_secs(1_795_255_200),
            &record.target("edgeweir::proxy").level(Level::Info).args(args).build(),
        )
    }

    #[test]
    fn times_are_utc_across_leap_years_and_centuries() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_795_255_200, "2026-11-21T10:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (13_574_649_599, "2400-02-29T23:59:59Z"),
        ] {
            assert_eq!(timestamp(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_line_has_time_level_room_and_text() {
        assert_eq!(line("session 1 began"), "2026-11-21T10:00:00Z INFO  proxy: session 1 began\n");
    }

    #[test]
    fn syslog_gets_room_and_text() {
        assert_eq!(without_head(&line("session 1 began")), "proxy: session 1 began");
        assert_eq!(without_head("short"), "");
    }

    #[test]
    fn text_of_a_peer_cannot_break_a_line_or_steer_a_terminal() {
        assert!(line("a\r\nb\x1b[2J").ends_with("proxy: a··b·[2J\n"));
    }

    #[test]
    fn a_line_is_cut_at_its_bound() {
        let head = line("").len() - 1;
        let room = LOG_LINE_MAX_BYTES - 4 - head;
        assert_eq!(line(&"x".repeat(room)).len(), LOG_LINE_MAX_BYTES - 3);
        let cut = line(&"x".repeat(room + 1));
        assert_eq!(cut.len(), LOG_LINE_MAX_BYTES);
        assert!(cut.ends_with("x…\n"));
    }

    #[test]
    fn levels_have_names() {
        assert_eq!(level("debug"), Ok(LevelFilter::Debug));
        assert_eq!(level("OFF"), Ok(LevelFilter::Off));
        assert!(level("loud").unwrap_err().contains("allowed are off, error"));
    }

    #[test]
    fn a_stuck_stderr_costs_lines_and_not_time_and_the_loss_is_told() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let held = sink.0.lock().unwrap();
        let logger = Logger::to(sink.clone(), None, &LOST).unwrap();
        // The thread may hold one batch of these while it is stuck.
        for n in 0..3 * LOG_QUEUE_LINES {
            logger.line(Level::Info, format!("{n:0100}\n"));
        }
        assert!(LOST.load(Ordering::Relaxed) > 0);
        drop(held);
        logger.flush();
        let text = text(&sink);
        let lines = text.lines().filter(|line| line.starts_with('0')).count();
        assert!((LOG_QUEUE_LINES..3 * LOG_QUEUE_LINES).contains(&lines), "{lines}");
        let told = text
            .lines()
            .filter_map(|line| {
                line.split_once("logger: ")?.1.split(' ').next()?.parse::<usize>().ok()
            })
            .sum::<usize>();
        assert_eq!(lines + told, 3 * LOG_QUEUE_LINES);
    }

    #[test]
    fn a_flush_waits_for_what_was_logged_before() {
        static LOST: AtomicU64 = AtomicU64::new(0);
        let sink = Sink::default();
        let logger = Logger::to(sink.clone(), None, &LOST).unwrap();
        logger.line(Level::Info, "one\n".into());
        logger.flush();
        assert_eq!(text(&sink), "one\n");
    }
}
