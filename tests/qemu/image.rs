//! The images of the two boards, made once for all tests by the same scripts that a user calls.

use std::{
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
    time::Instant,
};

/// A board that QEMU has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Board {
    Aarch64,
    Armv7,
}

impl Board {
    /// Its folder under `board/`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-aarch64",
            Self::Armv7 => "qemu-armv7",
        }
    }

    /// Its target triple.
    pub(crate) fn triple(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
            Self::Armv7 => "armv7-unknown-linux-gnueabihf",
        }
    }

    /// The program that runs one of its programs here.
    pub(crate) fn emulator(self) -> &'static str {
        match self {
            Self::Aarch64 => "qemu-aarch64-static",
            Self::Armv7 => "qemu-arm-static",
        }
    }

    /// The folder with its images.
    pub(crate) fn image(self) -> &'static Path {
        static IMAGES: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
        IMAGES[usize::from(self == Self::Armv7)].get_or_init(|| {
            let out = images().join(self.name());
            self.build(&["--out", out.to_str().expect("a name in UTF-8")])
        })
    }

    /// Makes an image; more words for `board/build`.
    pub(crate) fn build(self, words: &[&str]) -> PathBuf {
        let mut command = Command::new("board/build");
        command.args([self.name(), "--profile", "board"]).args(words);
        command.arg("--keys").arg(keys());
        // A program that was built another way, as by `cross/check`.
        if let Some(program) = std::env::var_os("EDGEWEIR_BOARD_PROGRAM") {
            command.arg("--program").arg(program);
        }
        build_one(command)
    }

    /// The unit tests as a program of the board.
    pub(crate) fn unit_tests(self) -> PathBuf {
        let mut command = Command::new("cross/build");
        // The rooms that are tested need no plugins, and build in a third of the time without.
        command.args([self.triple(), "--profile", "board", "--no-plugins", "--tests"]);
        build_one(command)
    }
}

/// Where the images of the tests are: neither the keys nor the firmware of whoever runs them.
fn images() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("qemu-test")
}

/// The signing keys of the tests.
pub(crate) fn keys() -> PathBuf {
    images().join("keys")
}

/// Builds share what they download and the signing keys.
fn build_one(command: Command) -> PathBuf {
    static BUILDS: Mutex<()> = Mutex::new(());
    let _turn = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
    PathBuf::from(run(command))
}

/// A test that runs. At its end it notes how long it took, in the file that `EDGEWEIR_TIMES` names.
#[derive(Debug)]
pub(crate) struct Timed(Instant);

/// The clock of a test starts.
pub(crate) fn timed() -> Timed {
    Timed(Instant::now())
}

impl Drop for Timed {
    fn drop(&mut self) {
        let Some(file) = std::env::var_os("EDGEWEIR_TIMES") else { return };
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        let line = format!("{:4} s  {name}\n", self.0.elapsed().as_secs());
        let noted = OpenOptions::new().append(true).create(true).open(file);
        noted.and_then(|mut file| file.write_all(line.as_bytes())).expect("a line in the table");
    }
}

/// Runs a script of the repository; the last line of its output.
pub(crate) fn run(mut command: Command) -> String {
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().expect("a script of the repository");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{command:?}: {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said.trim().lines().last().unwrap_or_default().to_owned()
}
