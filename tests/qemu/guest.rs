//! A device with its disk and flash, and one run of it in QEMU.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    harness::{Bench, wait_for},
    image::Board,
};

/// The bearer token of the control API in the tests.
const TOKEN: &str = "a-token-of-the-tests-0123";
/// Bytes of flash before the config partition, and its own, as in `board/base/lib.sh`.
const CONFIG_AT: usize = 256 << 10;
const CONFIG_BYTES: usize = 1 << 20;
/// UDP ports of one device, enough for three sessions of two tracks.
const MEDIA_PORTS: u16 = 48;
/// Until the first answer; a start takes 2 to 5 s where nothing else runs.
const BOOT: Duration = Duration::from_secs(240);
/// Until a command typed on a device has ended, or the control API has answered.
const COMMAND: Duration = Duration::from_secs(300);

/// How it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// QEMU loads kernel and first program; 64 MiB.
    Direct,
    /// The same with 128 MiB, for compiling plugins.
    Roomy,
    /// The boot loader takes the signed image of a slot; 128 MiB.
    BootLoader,
}

/// A device: what stays when the power goes.
#[derive(Debug)]
pub(crate) struct Device<'bench> {
    bench: &'bench Bench,
    board: Board,
    dir: PathBuf,
    ports: Ports,
    steady: bool,
}

impl<'bench> Device<'bench> {
    /// One fresh from the factory.
    pub(crate) fn new(bench: &'bench Bench, board: Board) -> Self {
        let image = board.image();
        let dir = bench.file("device");
        fs::create_dir_all(&dir).unwrap();
        let device = Self { bench, board, dir, ports: Ports::reserve(), steady: false };
        for name in ["disk.img", "flash.img", "stamp"] {
            let mut copy = Command::new("cp");
            copy.arg("--sparse=always").arg(image.join(name)).arg(device.dir.join(name));
            assert!(copy.status().unwrap().success(), "{name} of a new device");
        }
        device
    }

    /// From now on its clock goes by the instructions that it does: where plugins are held to their
    /// CPU time, that is theirs, and not what this machine did meanwhile.
    pub(crate) fn steady(mut self) -> Self {
        self.steady = true;
        self
    }

    /// Switches it on and waits for the first answer to a player.
    pub(crate) fn boot(&self, way: Way) -> Guest<'_> {
        let guest = self.power_on(way);
        guest.wait_answer();
        guest
    }

    /// Switches it on.
    pub(crate) fn power_on(&self, way: Way) -> Guest<'_> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let console = self.bench.file(&format!("console-{number}.txt"));
        let mut command = Command::new("board/qemu");
        command
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args([self.board.name(), "--rtsp", &self.ports.rtsp().to_string()])
            .args(["--control", &self.ports.control().to_string(), "--media"])
            .arg(self.ports.media())
            .arg("--image")
            .arg(self.board.image())
            .arg("--device")
            .arg(&self.dir)
            .args(match way {
                Way::Direct => &["--direct"][..],
                Way::Roomy => &["--direct", "--memory", "128"],
                Way::BootLoader => &[],
            })
            .args(self.steady.then_some("--steady"))
            .stdin(Stdio::piped())
            .stdout(File::create(&console).unwrap())
            .stderr(File::create(console.with_extension("err")).unwrap());
        let mut child = command.spawn().expect("board/qemu");
        let keyboard = child.stdin.take().unwrap();
        Guest { device: self, child, keyboard, console, asked: 0 }
    }

    /// A configuration: the control API on TCP, one route to one origin outside, and a name that
    /// tells one configuration from another.
    pub(crate) fn config(&self, name: &str, origin_port: u16) -> String {
        let media = self.ports.media();
        format!(
            "[gateway]\nlisten = [\"0.0.0.0:8554\"]\nmedia_ports = \"{media}\"\n\
             advertise = \"127.0.0.1\"\nvia = \"{name}\"\ncontrol = \"0.0.0.0:8080\"\n\n\
             [[origin]]\nname = \"outside\"\nurl = \"rtsp://10.0.2.2:{origin_port}\"\n\
             check = \"off\"\n\n\
             [[route]]\npath = \"/**\"\norigins = [\"outside\"]\n"
        )
    }

    /// A URL of the device.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("rtsp://127.0.0.1:{}{path}", self.ports.rtsp())
    }

    /// Whether it answers a player within this time.
    pub(crate) fn answers(&self, patience: Duration) -> bool {
        answers(self.ports.rtsp(), patience)
    }

    /// The bytes of the config partition.
    pub(crate) fn config_flash(&self) -> Vec<u8> {
        let flash = fs::read(self.dir.join("flash.img")).unwrap();
        flash[CONFIG_AT..CONFIG_AT + CONFIG_BYTES].to_vec()
    }

    /// All that its flash holds, and when its disk was last written to.
    pub(crate) fn written(&self) -> (Vec<u8>, SystemTime) {
        let disk = fs::metadata(self.disk()).and_then(|disk| disk.modified());
        (fs::read(self.dir.join("flash.img")).unwrap(), disk.unwrap())
    }

    /// Changes the bytes of the config partition, while it is off.
    pub(crate) fn damage_config(&self, damage: impl FnOnce(&mut [u8])) {
        let path = self.dir.join("flash.img");
        let mut flash = fs::read(&path).unwrap();
        damage(&mut flash[CONFIG_AT..CONFIG_AT + CONFIG_BYTES]);
        fs::write(path, flash).unwrap();
    }

    /// The file that is its disk.
    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.join("disk.img")
    }

    /// A request of the control API over TCP: status and body.
    ///
    /// # Errors
    /// When no whole answer comes, as at a power cut.
    pub(crate) fn control(
        &self,
        method: &str,
        place: &str,
        body: impl AsRef<[u8]>,
    ) -> std::io::Result<(u16, String)> {
        let body = body.as_ref();
        let mut stream = connect(self.ports.control())?;
        // A plugin is compiled before the answer.
        stream.set_read_timeout(Some(COMMAND))?;
        write!(
            stream,
            "{method} {place} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {TOKEN}\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let end = answer.find("\r\n\r\n");
        match (status, end) {
            (Some(status), Some(end)) => Ok((status, answer[end + 4..].to_owned())),
            _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Ports of this machine that lead to one device, over all its boots: a range below those that the
/// kernel gives away, which no other device has, of this run or of another one.
#[derive(Debug)]
struct Ports {
    first: u16,
    _reserved: File,
}

impl Ports {
    /// Takes a range that is free.
    fn reserve() -> Self {
        const RANGES: std::ops::Range<u16> = 10_000..32_000;
        let size = MEDIA_PORTS + 2;
        let starts = || RANGES.step_by(size.into()).filter(|first| first + size <= RANGES.end);
        // Runs that begin at the same time begin at different places.
        let skipped = std::process::id() as usize % starts().count();
        for first in starts().cycle().skip(skipped).take(starts().count()) {
            let name = std::env::temp_dir().join(format!("edgeweir-test-ports-{first}"));
            let file = File::options().write(true).create(true).truncate(false).open(name);
            let Ok(file) = file.and_then(|file| Ok(file.try_lock().map(|()| file)?)) else {
                continue;
            };
            let free = |port| {
                let at = (Ipv4Addr::LOCALHOST, port);
                UdpSocket::bind(at).is_ok() && TcpListener::bind(at).is_ok()
            };
            if (first..first + size).all(free) {
                return Self { first, _reserved: file };
            }
        }
        panic!("no {size} ports in a row are free in {RANGES:?}");
    }

    fn media(&self) -> String {
        format!("{}-{}", self.first, self.first + MEDIA_PORTS - 1)
    }

    fn rtsp(&self) -> u16 {
        self.first + MEDIA_PORTS
    }

    fn control(&self) -> u16 {
        self.first + MEDIA_PORTS + 1
    }
}

/// A device that runs. Dropping it is a power cut.
#[derive(Debug)]
pub(crate) struct Guest<'device> {
    device: &'device Device<'device>,
    child: Child,
    keyboard: ChildStdin,
    console: PathBuf,
    asked: u32,
}

impl Guest<'_> {
    /// What stood on the console since it was switched on.
    pub(crate) fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.console).unwrap_or_default()).into_owned()
    }

    /// Waits for the first answer to a player.
    pub(crate) fn wait_answer(&self) {
        let began = Instant::now();
        // The longer it takes, the slower is this machine.
        while !self.device.answers(QUICK.max(began.elapsed() / 20)) {
            assert!(began.elapsed() < BOOT, "no answer after {BOOT:?}: {}", self.console());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for words on the console.
    pub(crate) fn wait_console(&self, words: &str, deadline: Duration) {
        let began = Instant::now();
        while !self.console().contains(words) {
            let late = began.elapsed() > deadline;
            assert!(!late, "no `{words}` within {deadline:?}: {}", self.console());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types a line.
    pub(crate) fn line(&mut self, text: &str) {
        writeln!(self.keyboard, "{text}").expect("the keyboard");
        self.keyboard.flush().expect("the keyboard");
    }

    /// Runs a command on the device: its exit code and what it said.
    pub(crate) fn shell(&mut self, command: &str) -> (i32, String) {
        self.asked += 1;
        // Typed, the marks have quotes in them; said, they have none.
        let (begin, end) = (format!("begin:{}:", self.asked), format!("end:{}:", self.asked));
        self.line(&format!(
            "echo \"\"beg\"\"in:{0}:; {command}; echo \"\"e\"\"nd:{0}:$?:",
            self.asked
        ));
        wait_for(&format!("answer to `{command}`"), COMMAND, || {
            let console = self.console();
            let from = console.rfind(&begin)? + begin.len();
            let to = console[from..].find(&end)? + from;
            let code = console[to + end.len()..].split_once(':')?.0.parse().ok()?;
            Some((code, console[from..to].trim().replace('\r', "")))
        })
    }

    /// Runs a command that must do.
    pub(crate) fn must(&mut self, command: &str) -> String {
        let (code, said) = self.shell(command);
        assert_eq!(code, 0, "`{command}` on the device: {said}");
        said
    }

    /// Puts a configuration in force that has the control API on TCP, and starts the gateway with
    /// it.
    pub(crate) fn configure(&mut self, config: &str) {
        self.must(&format!("echo {TOKEN} | edgeweir config token"));
        let typed = config.replace('\n', "\\n").replace('"', "\\\"");
        self.must(&format!("printf \"{typed}\" | edgeweir config import -"));
        self.must("kill $(pidof edgeweir)");
        wait_for("control API on TCP", BOOT, || {
            self.device.control("GET", "/v1/status", "").ok().filter(|(status, _)| *status == 200)
        });
        self.wait_answer();
    }

    /// Resident memory of the gateway, KiB.
    pub(crate) fn rss_kib(&mut self) -> u32 {
        let said = self.must("grep VmRSS /proc/$(pidof edgeweir)/status");
        let number = said.split_whitespace().nth(1).and_then(|number| number.parse().ok());
        number.unwrap_or_else(|| panic!("no VmRSS in `{said}`"))
    }

    /// How long its kernel has run, on its own clock.
    pub(crate) fn uptime(&mut self) -> Duration {
        let said = self.must("cat /proc/uptime");
        let seconds = said.split(' ').next().and_then(|text| text.parse().ok());
        Duration::from_secs_f64(seconds.unwrap_or_else(|| panic!("no uptime in `{said}`")))
    }

    /// The power is gone.
    pub(crate) fn cut(mut self) {
        self.power_off();
    }

    fn power_off(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.power_off();
    }
}

fn connect(port: u16) -> std::io::Result<TcpStream> {
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&at, Duration::from_secs(1))
}

/// Patience with a gateway that has nothing else to do.
pub(crate) const QUICK: Duration = Duration::from_millis(300);

/// Whether the gateway behind a port answers OPTIONS. QEMU accepts for a guest that is not there
/// yet, so only the answer counts.
pub(crate) fn answers(port: u16, patience: Duration) -> bool {
    let Ok(mut stream) = connect(port) else { return false };
    let _ = stream.set_read_timeout(Some(patience));
    let sent = stream.write_all(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n");
    let mut head = [0; 12];
    sent.is_ok() && stream.read_exact(&mut head).is_ok() && &head == b"RTSP/1.0 200"
}

/// A file of an image, served over HTTP to the devices for as long as it is held.
#[derive(Debug)]
pub(crate) struct Served {
    port: u16,
}

impl Served {
    /// Serves the bytes of a file to whoever asks for anything.
    pub(crate) fn file(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", bytes.len());
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
            }
        });
        Self { port }
    }

    /// Where a device finds it.
    pub(crate) fn url(&self) -> String {
        format!("http://10.0.2.2:{}/file", self.port)
    }
}
