//! What the end-to-end tests share: processes that cannot outlive a test, a place for their
//! output, the gateway, the players, the origins, and a plain RTSP client.

#![allow(dead_code, reason = "not every test crate uses all of it")]

pub(crate) mod bursts;
pub(crate) mod camera;
pub(crate) mod gateway;
pub(crate) mod net;
pub(crate) mod origin;
pub(crate) mod peer;
pub(crate) mod player;
pub(crate) mod raw;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// The place of one test: its files, named after it, kept when it fails.
#[derive(Debug)]
pub(crate) struct Bench {
    dir: PathBuf,
}

impl Bench {
    /// A fresh, empty place.
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = peers_dir().join("run").join(format!("{name}-{}-{number}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory for the output of the peers");
        Self { dir }
    }

    /// A file of this test.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file of this test.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("a file of the test");
        // Secrets in a file that others may read are refused.
        let own = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, own).expect("the mode of a file of the test");
        path
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("what the peers said is in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// Where `tests/setup.sh` puts what it fetches.
pub(crate) fn peers_dir() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target"), PathBuf::from);
    target.join("peers")
}

/// A script of `tests/peers/`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(name)
}

/// Asks again and again until `ready` gives something; panics with `what` at the deadline.
pub(crate) fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut ready: impl FnMut() -> Option<T>,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(began.elapsed() < deadline, "no {what} within {deadline:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A TCP port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    let probe = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    probe.local_addr().expect("its number").port()
}
