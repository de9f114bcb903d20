//! The engine that runs guests, set up for small boards, and the clock of their budgets.
//!
//! Everything a guest could take too much of is bounded here or in the store of its instance:
//! address space, stack, proposals that nobody needs. Compiled code that comes in here must be our
//! own: it is run as it is (`cache` sees to that).
//!
//! A budget is CPU time of the calling thread. The engine counts ticks of wall time; a tick during a
//! call looks at the thread's own clock, so a busy machine kills nobody; nor does one that stands still
//! for a while, for no call is ended by what lies between two ticks alone. The thread that ticks
//! stops when no guest has been called for a while: an idle gateway is not woken.
//!
//! Not in here: instances and calls.

#![allow(unsafe_code)] // native code is loaded, and a clock of the kernel is read

use core::{
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};
use std::{
    sync::{Arc, Weak},
    thread::{self, Thread},
};

use wasmtime::{Config, Engine, component::Component};

use crate::limits::{EPOCH_IDLE_TICKS, EPOCH_MS, GUEST_STACK_BYTES};

/// Address space set aside for one linear memory; beyond it, growing moves the memory.
const MEMORY_RESERVATION_BYTES: u64 = 16 * 1024 * 1024;
/// Unmapped space behind a linear memory.
const MEMORY_GUARD_BYTES: u64 = 64 * 1024;
/// Changes of the settings below that compiled code depends on but wasmtime does not notice.
const SETTINGS: &str = "1";

/// What guests are compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Machine code of this machine.
    Native,
    /// Bytecode of wasmtime's interpreter, of 32-bit machines: where there is no compiler to machine
    /// code.
    Pulley32,
    /// The same of 64-bit machines.
    Pulley64,
}

impl Code {
    /// What this machine uses: machine code on x86_64 and aarch64, the interpreter elsewhere.
    pub const HERE: Self = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        Self::Native
    } else {
        Self::PULLEY
    };

    /// What this machine can interpret.
    pub const PULLEY: Self =
        if cfg!(target_pointer_width = "64") { Self::Pulley64 } else { Self::Pulley32 };

    /// All there is.
    pub const ALL: [Self; 3] = [Self::Native, Self::Pulley32, Self::Pulley64];

    /// Its name on command lines and in the names of files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Pulley32 => "pulley32",
            Self::Pulley64 => "pulley64",
        }
    }

    /// By that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }

    /// The target as compilers call it.
    pub fn target(self) -> String {
        match self {
            Self::Native => format!("{}-unknown-linux-gnu", std::env::consts::ARCH),
            Self::Pulley32 | Self::Pulley64 => self.name().to_owned(),
        }
    }
}

/// What decides whether compiled code fits: to be hashed into the name and the MAC of a file.
pub(super) fn compatibility(code: Code) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("edgeweir {version} wasmtime {WASMTIME} settings {SETTINGS} {}", code.target())
}

/// The engine also checks its own version when it loads; this one makes other files of other
/// versions.
const WASMTIME: &str = "48";

/// Settings for guests; the same for compiling and for running.
///
/// # Errors
/// When this build has nothing for that code.
pub(super) fn engine(code: Code) -> wasmtime::Result<Engine> {
    let mut config = Config::new();
    if code != Code::Native {
        config.target(&code.target())?;
    }
    config
        .wasm_component_model(true)
        .wasm_simd(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES)
        .memory_reservation(MEMORY_RESERVATION_BYTES)
        .memory_reservation_for_growth(0)
        .memory_guard_size(MEMORY_GUARD_BYTES)
        .guard_before_linear_memory(false)
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false);
    #[cfg(feature = "compiler")]
    config.cranelift_opt_level(wasmtime::OptLevel::Speed);
    Engine::new(&config)
}

/// Loads compiled code.
///
/// # Errors
/// When it was compiled by another version or for another machine.
///
/// # Safety
/// The bytes must be what this program's own compiler made, unchanged: they are run.
pub(super) unsafe fn load(engine: &Engine, compiled: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the caller vouches for the bytes.
    unsafe { Component::deserialize(engine, compiled) }
}

/// CPU time of this thread, nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec to where it is told.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    if failed {
        return 0;
    }
    #[allow(clippy::unnecessary_cast)] // both are narrower on 32-bit machines
    let (seconds, nanos) = (time.tv_sec as i64, time.tv_nsec as i64);
    seconds.unsigned_abs().saturating_mul(1_000_000_000).saturating_add(nanos.unsigned_abs())
}

/// Makes the engine's epoch go on while guests are called.
#[derive(Debug)]
pub(super) struct Ticker {
    shared: Arc<Ticking>,
    thread: Thread,
}

#[derive(Debug, Default)]
struct Ticking {
    /// Calls that are under way.
    calls: AtomicU32,
    asleep: AtomicBool,
    ended: AtomicBool,
}

impl Ticker {
    /// Starts the thread that ticks. It ends with the value or with the engine.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Ticking::default());
        let (weak, ticked) = (Arc::downgrade(&shared), engine.weak());
        let handle = thread::Builder::new()
            .name("ew-epoch".to_owned())
            .stack_size(64 * 1024)
            .spawn(move || tick(&weak, &ticked))?;
        Ok(Self { shared, thread: handle.thread().clone() })
    }

    /// Says that a guest is called until the value is dropped.
    pub(super) fn enter(&self) -> Call<'_> {
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.asleep.store(false, Ordering::SeqCst);
            self.thread.unpark();
        }
        Call(&self.shared)
    }

    /// Whether the thread sleeps until the next call.
    #[cfg(test)]
    fn is_asleep(&self) -> bool {
        self.shared.asleep.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Call<'a>(&'a Ticking);

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(shared: &Weak<Ticking>, engine: &wasmtime::EngineWeak) {
    let mut idle = 0;
    while let Some(ticking) = shared.upgrade() {
        if ticking.ended.load(Ordering::SeqCst) {
            return;
        }
        idle = if ticking.calls.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
        if idle > EPOCH_IDLE_TICKS {
            ticking.asleep.store(true, Ordering::SeqCst);
            // A call that began before it could see this is seen here.
            while ticking.asleep.load(Ordering::SeqCst)
                && ticking.calls.load(Ordering::SeqCst) == 0
                && !ticking.ended.load(Ordering::SeqCst)
            {
                thread::park();
            }
            ticking.asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
        drop(ticking);
        thread::sleep(Duration::from_millis(EPOCH_MS));
        let Some(engine) = engine.upgrade() else { return };
        engine.increment_epoch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_budgets_stops_when_nobody_is_called() {
        let engine = engine(Code::HERE).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        let wait = |wanted: bool| {
            (0..2000).any(|_| {
                thread::sleep(Duration::from_millis(5));
                ticker.is_asleep() == wanted
            })
        };
        for _ in 0..3 {
            assert!(wait(true), "it stops");
            let call = ticker.enter();
            assert!(!ticker.is_asleep() || wait(false), "a call wakes it");
            thread::sleep(Duration::from_millis(100));
            assert!(!ticker.is_asleep(), "it goes on during a call");
            drop(call);
        }
    }

    #[test]
    fn code_has_a_name_on_the_command_line() {
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert!(compatibility(code).contains(&code.target()));
        }
        assert_eq!(Code::from_name("winch"), None);
    }
}
