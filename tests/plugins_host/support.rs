//! A host in a directory of its own, and arguments for hooks.

#![allow(dead_code, unreachable_pub)] // each test binary uses its part

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use edgeweir::{
    plugin::{
        Code, Forget, Host, Keep, Places, Refusal, Report, SlotInfo, Upload,
        hooks::{Client, Direction, Hooks, Message, PipeKey, SessionKey, Upstream, WorkerLoad},
    },
    rtsp::Head,
};

/// A host whose files go with it.
pub struct Place {
    pub host: Arc<Host>,
    pub dir: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Place {
    pub fn new() -> Self {
        Self::with(Code::HERE, Box::new(Forget))
    }

    /// With the code of the guests of `hostile.rs` in its cache: they are compiled once for all tests.
    pub fn warm() -> Self {
        static WARM: std::sync::OnceLock<Place> = std::sync::OnceLock::new();
        let warm = WARM.get_or_init(|| {
            let place = Self::new();
            place.install("a", &misbehaves()).unwrap();
            place.install("b", &component("least-loaded")).unwrap();
            place
        });
        let place = Self::new();
        std::fs::create_dir(&place.dir).unwrap();
        for name in warm.files().iter().filter(|name| !name.ends_with(".wasm")) {
            std::fs::copy(warm.dir.join(name), place.dir.join(name)).unwrap();
        }
        place
    }

    pub fn with(code: Code, keep: Box<dyn Keep>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ew-plugins-{}-{number}", std::process::id());
        Self::at(std::env::temp_dir().join(name), code, keep)
    }

    pub fn at(dir: PathBuf, code: Code, keep: Box<dyn Keep>) -> Self {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_edgeweir"));
        let places = Places { program, code, ..Places::new(dir.clone()) };
        Self { host: Host::new(places, keep), dir }
    }

    pub fn install(&self, slot: &str, wasm: &[u8]) -> Result<Report, Refusal> {
        self.host.install(slot, upload(wasm))
    }

    /// Names of the files, sorted.
    pub fn files(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(&self.dir) else { return Vec::new() };
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.flatten().map(name).collect();
        names.sort();
        names
    }
}

pub fn upload(wasm: &[u8]) -> Upload<'_> {
    Upload { wasm, signature: None, serial: None, force: false, config: "{}" }
}

pub fn ups(count: u32) -> Vec<Upstream> {
    (0..count)
        .map(|at| Upstream { id: 10 + at, weight: 1, healthy: at != 1, ..Upstream::default() })
        .collect()
}

pub fn pick(hooks: &mut dyn Hooks, slot: &str) -> Option<u32> {
    hooks.pick_upstream(slot, &SessionKey::default(), "/live/cam1", &ups(3))
}

pub fn worker(hooks: &mut dyn Hooks, slot: &str) -> Option<u16> {
    let load = |id| WorkerLoad { id, ..WorkerLoad::default() };
    hooks.pick_worker(slot, &PipeKey::default(), &[load(0), load(1)])
}

pub const CLIENT: Client<'static> = Client {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    port: 40_000,
    session_hash: Some(5),
    listener: "0.0.0.0:8554",
    mount: "/live/*",
};

pub fn message(text: &[u8]) -> Message<'_> {
    let head = text.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let method = if text.starts_with(b"RTSP") { "DESCRIBE" } else { "OPTIONS" };
    let outline = Head::parse(&text[..head]).unwrap().outline();
    // Leaked: a message borrows it, and a test makes a few.
    Message { bytes: text, outline: Box::leak(Box::new(outline)), method }
}

pub const OPTIONS: &[u8] =
    b"OPTIONS rtsp://gw/a RTSP/1.0\r\nCSeq: 1\r\nX-Private: caf\xe9\r\nUser-Agent: p\r\n\r\n";

pub fn filter(hooks: &mut dyn Hooks, slot: &str) -> edgeweir::plugin::hooks::Verdict {
    hooks.on_message(slot, &CLIENT, Direction::ClientToUpstream, message(OPTIONS))
}

pub fn auth(hooks: &mut dyn Hooks, slot: &str) -> edgeweir::plugin::hooks::Decision {
    hooks.authenticate(slot, &CLIENT, message(OPTIONS))
}

/// A component that `make plugins` builds, by its path under target/plugins.
pub fn component(name: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/plugins/");
    let path = format!("{path}{name}.wasm");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}: run `make plugins`"))
}

/// The guest that misbehaves as its configuration says.
pub fn misbehaves() -> Vec<u8> {
    component("hostile/misbehaves")
}

/// Its configuration: what it does, in which hook, from which call of an instance on. An install
/// calls each hook about 50 times for each made-up argument, so 1000 is after it.
pub fn does(deed: &str, hook: &str, from_call: u32) -> String {
    format!("{{\"do\":\"{deed}\",\"in\":\"{hook}\",\"from_call\":{from_call}}}")
}

impl Place {
    /// Installs the guest that misbehaves.
    pub fn install_misbehaving(&self, slot: &str, config: &str) -> Result<Report, Refusal> {
        let wasm = misbehaves();
        self.host.install(slot, Upload { config, force: true, ..upload(&wasm) })
    }

    pub fn info(&self, slot: &str) -> SlotInfo {
        self.host.list().into_iter().find(|info| info.slot == slot).expect("the slot is known")
    }
}

/// Resident memory of this process, KiB.
pub fn rss_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The log of all tests; lines are told apart by slot.
pub struct Log;

static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}

impl Log {
    pub fn start() -> Self {
        // Another test may have been first.
        let _ = log::set_logger(&Self);
        log::set_max_level(log::LevelFilter::Info);
        Self
    }

    pub fn with(&self, start: &str) -> Vec<String> {
        let lines = LINES.lock().unwrap();
        lines.iter().filter(|line| line.starts_with(start)).cloned().collect()
    }
}
