//! A process of a test: started in a group of its own, its output in files, gone when dropped.

use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::Bench;

/// A running (or ended) process.
#[derive(Debug)]
pub(crate) struct Peer {
    name: String,
    child: Child,
    group: i32,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// What a test sends to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Term,
    Kill,
    Stop,
    Hup,
    Usr1,
}

impl Peer {
    /// Starts a command; `name` is that of its output files.
    pub(crate) fn start(bench: &Bench, name: &str, mut command: Command) -> Self {
        let stdout = bench.file(&format!("{name}.out"));
        let stderr = bench.file(&format!("{name}.err"));
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).expect("a file for the output of a peer"));
        command.stderr(File::create(&stderr).expect("a file for the errors of a peer"));
        command.process_group(0);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                panic!("{:?} is missing: run tests/setup.sh", command.get_program())
            }
            Err(error) => panic!("{:?}: {error}", command.get_program()),
        };
        let group = i32::try_from(child.id()).expect("a process id");
        Self { name: name.to_owned(), child, group, stdout, stderr }
    }

    /// Waits for a line of its output that begins with `prefix`; what follows the prefix.
    pub(crate) fn wait_line(&mut self, prefix: &str, deadline: Duration) -> String {
        let began = Instant::now();
        loop {
            let output = self.stdout();
            // A last line without its end is not whole yet.
            let whole = output.rfind('\n').map_or("", |end| &output[..end]);
            if let Some(rest) = whole.lines().find_map(|line| line.strip_prefix(prefix)) {
                return rest.trim().to_owned();
            }
            assert!(
                !self.ended() && began.elapsed() < deadline,
                "{} said no {prefix:?} within {deadline:?}; stderr: {}",
                self.name,
                self.stderr()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end; past the deadline it is killed and the test fails.
    pub(crate) fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of a peer") {
                return status;
            }
            if began.elapsed() > deadline {
                self.signal(Signal::Kill);
                panic!("{} did not end within {deadline:?}; stderr: {}", self.name, self.stderr());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether it has ended.
    pub(crate) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("the state of a peer").is_some()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// What it has said on stderr so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Signals its whole group: only what the test started.
    #[allow(unsafe_code, reason = "std signals a process, not a group of them")]
    pub(crate) fn signal(&self, signal: Signal) {
        let number = match signal {
            Signal::Term => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
            Signal::Stop => libc::SIGSTOP,
            Signal::Hup => libc::SIGHUP,
            Signal::Usr1 => libc::SIGUSR1,
        };
        // SAFETY: a plain system call; the group is that of a child which was not reaped before
        // its group was signalled, or has no member left, which is an error without effect.
        unsafe { libc::kill(-self.group, number) };
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // What it has to say about a test that fails is on its way from a thread of its own.
        if thread::panicking() {
            thread::sleep(Duration::from_millis(200));
        }
        self.signal(Signal::Kill);
        let _ = self.child.wait();
    }
}
