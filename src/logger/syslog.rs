//! Log lines to the local syslog, in the form of RFC 3164, without ever waiting for it.
//!
//! A line is one datagram: `<PRI>edgeweir[PID]: room: text`. The time is left to the daemon, which
//! knows the zone of the device; every syslogd adds it (busybox, rsyslog, syslog-ng, journald). What
//! a slow or missing daemon does not take is lost and counted.
//!
//! Not in here: the queue and the thread that calls this ([`super`]).

use std::{io, os::unix::net::UnixDatagram, path::PathBuf};

use log::Level;

/// The usual place.
pub const DEFAULT_PATH: &str = "/dev/log";

/// Facility `daemon` of RFC 3164 4.1.1.
const DAEMON: u8 = 3 * 8;

/// The way to the daemon.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    datagram: Vec<u8>,
}

impl Syslog {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, socket: None, datagram: Vec::new() }
    }

    /// Sends one line; false when it was not taken. `text` has no time and no line feed.
    pub(super) fn send(&mut self, level: Level, text: &str) -> bool {
        let priority = DAEMON
            + match level {
                Level::Error => 3,
                Level::Warn => 4,
                Level::Info => 6,
                Level::Debug | Level::Trace => 7,
            };
        self.datagram.clear();
        self.datagram.extend_from_slice(
            format!("<{priority}>edgeweir[{}]: {text}", std::process::id()).as_bytes(),
        );
        if self.try_send().is_ok() {
            return true;
        }
        // The daemon may have been started anew: its socket is another one then.
        self.socket = None;
        self.try_send().is_ok()
    }

    fn try_send(&mut self) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            empty => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                empty.insert(socket)
            }
        };
        socket.send(&self.datagram).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_datagrams_with_priority_and_a_restarted_daemon_gets_them_again() {
        let path = std::env::temp_dir().join(format!("edgeweir-syslog-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let mut syslog = Syslog::new(path.clone());
        assert!(!syslog.send(Level::Info, "nobody listens"));
        for (level, priority) in
            [(Level::Error, 27), (Level::Warn, 28), (Level::Info, 30), (Level::Debug, 31)]
        {
            let daemon = UnixDatagram::bind(&path).unwrap();
            assert!(syslog.send(level, "proxy: here"));
            let mut line = [0; 128];
            let length = daemon.recv(&mut line).unwrap();
            let expected = format!("<{priority}>edgeweir[{}]: proxy: here", std::process::id());
            assert_eq!(&line[..length], expected.as_bytes());
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn a_daemon_that_does_not_read_costs_lines_and_not_time() {
        let path =
            std::env::temp_dir().join(format!("edgeweir-syslog-full-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(path.clone());
        let lost = (0..10_000).filter(|n| !syslog.send(Level::Info, &format!("line {n}"))).count();
        assert!(lost > 0 && lost < 10_000, "{lost}");
        std::fs::remove_file(&path).unwrap();
    }
}
