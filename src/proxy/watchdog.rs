//! Tells those who restart us that the gateway is alive: a hardware watchdog and systemd.
//!
//! Alive means that the control thread runs (this is a task of it) and that every worker has gone
//! round its loop within [`WORKER_STUCK_MS`]; an idle worker does so once a second. When one hangs,
//! the feeding stops, and the board or systemd starts us anew. When the gateway ends in good
//! order, the watchdog is told to stand down.
//!
//! * hardware: one byte a second to `/dev/watchdog`, `V` before closing it (the "magic close" of
//!   linux `watchdog-api.txt`; a kernel with `nowayout` ignores it).
//! * systemd: `READY=1`, `WATCHDOG=1`, `STOPPING=1` to `NOTIFY_SOCKET` (sd_notify(3)).
//!
//! Not in here: restarting, and the time limit of the hardware, which its driver has as a parameter.

use core::{sync::atomic::Ordering::Relaxed, time::Duration};
use std::{
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
};

use log::{error, info, warn};
use smol::Timer;

use crate::{
    clock::{self, Instant},
    limits::WORKER_STUCK_MS,
    pipe::Pool,
};

/// Time between two feedings. The shortest limits of hardware are a few seconds.
const EVERY: Duration = Duration::from_secs(1);

/// Those who want to know.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    hardware: Option<File>,
    systemd: Option<Notify>,
    every: Duration,
    /// Time without a round after which a worker hangs.
    patience: Duration,
}

impl Watchdog {
    /// Opens the hardware's device, from when on its time runs, and systemd's socket if there is
    /// one.
    ///
    /// # Errors
    /// A text for people: the device cannot be opened.
    pub(super) fn open(device: Option<&Path>) -> Result<Self, String> {
        let hardware = device
            .map(|path| {
                OpenOptions::new().write(true).open(path).map_err(|error| {
                    format!("watchdog {}: {error}: it may be missing or taken", path.display())
                })
            })
            .transpose()?;
        let systemd = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            Notify::to(&name).map_err(|error| warn!("systemd's socket: {error}")).ok()
        });
        let asked = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        // Half of the limit, as sd_watchdog_enabled(3) asks.
        let every = asked.map_or(EVERY, |us: u64| EVERY.min(Duration::from_micros(us / 2)));
        let every = every.max(Duration::from_millis(10));
        let patience = Duration::from_millis(WORKER_STUCK_MS);
        Ok(Self { hardware, systemd, every, patience })
    }

    /// Says that the gateway accepts players.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// Feeds for as long as the workers move; `tell` hears when one does not. Runs on the control
    /// thread and does not end.
    pub(super) async fn feed(&self, pool: &Pool, tell: impl Fn(String)) {
        let mut pulse = Pulse::new(clock::now(), self.patience);
        let mut hung = None;
        loop {
            let beats = pool.handles().iter().map(|worker| worker.load().beats.load(Relaxed));
            let stuck = pulse.stuck(beats, clock::now());
            if let (Some(worker), None) = (stuck, hung) {
                let text = format!("worker {worker} hangs: the watchdog is not fed any more");
                error!("{text}");
                tell(text);
            } else if stuck.is_none() && hung.is_some() {
                info!("all workers move again: the watchdog is fed");
            }
            hung = stuck;
            if stuck.is_none() {
                self.pet();
            }
            Timer::after(self.every).await;
        }
    }

    fn pet(&self) {
        if let Some(mut device) = self.hardware.as_ref()
            && let Err(error) = device.write_all(&[0])
        {
            warn!("watchdog: {error}");
        }
        self.tell("WATCHDOG=1");
    }

    /// Says that the end is wanted, so that nobody takes it for a crash.
    pub(super) fn stand_down(&self) {
        self.tell("STOPPING=1");
        if let Some(mut device) = self.hardware.as_ref()
            && let Err(error) = device.write_all(b"V")
        {
            warn!("watchdog: {error}");
        }
    }

    fn tell(&self, what: &str) {
        if let Some(systemd) = &self.systemd {
            systemd.tell(what);
        }
    }
}

/// systemd's socket.
#[derive(Debug)]
struct Notify {
    socket: UnixDatagram,
    to: SocketAddr,
}

impl Notify {
    /// A path, or behind `@` a name without file.
    fn to(name: &OsString) -> io::Result<Self> {
        let to = match name.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(OsStr::from_bytes(name.as_bytes())))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, to })
    }

    fn tell(&self, what: &str) {
        // Who does not listen does not want to know.
        let _ = self.socket.send_to_addr(what.as_bytes(), &self.to);
    }
}

/// Which workers move: their counters of rounds, and when each was last seen to change.
#[derive(Debug)]
struct Pulse {
    began: Instant,
    patience: Duration,
    seen: Vec<(u64, Instant)>,
}

impl Pulse {
    const fn new(now: Instant, patience: Duration) -> Self {
        Self { began: now, patience, seen: Vec::new() }
    }

    /// The first worker that has not moved for too long.
    fn stuck(&mut self, beats: impl Iterator<Item = u64>, now: Instant) -> Option<usize> {
        let mut stuck = None;
        for (worker, beat) in beats.enumerate() {
            if worker >= self.seen.len() {
                self.seen.push((0, self.began));
            }
            let Some((last, moved)) = self.seen.get_mut(worker) else { continue };
            if beat != *last {
                (*last, *moved) = (beat, now);
            } else if now.since(*moved) > self.patience {
                stuck = stuck.or(Some(worker));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;
    use std::sync::mpsc;

    use smol::future::FutureExt as _;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(WORKER_STUCK_MS);

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn a_worker_is_stuck_after_its_time_and_not_before() {
        let mut pulse = Pulse::new(at(0), PATIENCE);
        assert_eq!(pulse.stuck([1, 1].into_iter(), at(1000)), None);
        assert_eq!(pulse.stuck([2, 1].into_iter(), at(1000 + WORKER_STUCK_MS)), None);
        assert_eq!(pulse.stuck([3, 1].into_iter(), at(1001 + WORKER_STUCK_MS)), Some(1));
        assert_eq!(pulse.stuck([4, 2].into_iter(), at(1002 + WORKER_STUCK_MS)), None);
    }

    #[test]
    fn a_worker_that_never_began_is_stuck_too() {
        let mut pulse = Pulse::new(at(0), PATIENCE);
        assert_eq!(pulse.stuck([0].into_iter(), at(WORKER_STUCK_MS)), None);
        assert_eq!(pulse.stuck([0].into_iter(), at(WORKER_STUCK_MS + 1)), Some(0));
    }

    #[test]
    fn a_hung_worker_stops_the_feeding_and_is_told_until_it_moves_again() {
        let path = std::env::temp_dir().join(format!("edgeweir-hung-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let watchdog = Watchdog {
            every: Duration::from_millis(20),
            // Idle workers go round once a second.
            patience: Duration::from_millis(2500),
            ..Watchdog::open(Some(&path)).unwrap()
        };
        let pool = Pool::start(2).unwrap();
        let fed = || std::fs::metadata(&path).unwrap().len();
        let told = RefCell::new(Vec::new());
        let (release, held) = mpsc::channel::<()>();
        let hang = move |_: &crate::pipe::Worker| {
            let _ = held.recv();
        };
        let script = async {
            let pause = |ms| Timer::after(Duration::from_millis(ms));
            pause(3000).await;
            assert!(fed() > 20 && told.borrow().is_empty(), "idle workers move");
            pool.handles()[1].run(Box::new(hang)).unwrap();
            pause(3500).await;
            let before = fed();
            pause(500).await;
            assert_eq!(fed(), before, "the feeding has stopped");
            assert_eq!(*told.borrow(), ["worker 1 hangs: the watchdog is not fed any more"]);
            release.send(()).unwrap();
            pause(500).await;
            assert!(fed() > before, "it is fed again");
        };
        let feeding = watchdog.feed(&pool, |text| told.borrow_mut().push(text));
        smol::block_on(script.or(feeding));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn the_device_is_fed_and_told_to_stand_down() {
        let path = std::env::temp_dir().join(format!("edgeweir-watchdog-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let watchdog = Watchdog::open(Some(&path)).unwrap();
        watchdog.pet();
        watchdog.pet();
        watchdog.stand_down();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0V");
        std::fs::remove_file(&path).unwrap();
        assert!(Watchdog::open(Some(&path)).unwrap_err().contains("missing or taken"));
    }

    #[test]
    fn systemd_is_told_by_path_and_by_name() {
        let path = std::env::temp_dir().join(format!("edgeweir-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let name = format!("edgeweir-notify-{}", std::process::id());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        let listeners = [
            (UnixDatagram::bind(&path).unwrap(), path.clone().into_os_string()),
            (UnixDatagram::bind_addr(&by_name).unwrap(), OsString::from(format!("@{name}"))),
        ];
        for (listener, name) in listeners {
            Notify::to(&name).unwrap().tell("READY=1");
            let mut told = [0; 64];
            let length = listener.recv(&mut told).unwrap();
            assert_eq!(&told[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        // Nobody there: no harm.
        Notify::to(&path.into_os_string()).unwrap().tell("READY=1");
    }
}
