//! Turning a component into code, in a child of the same program that soon ends.
//!
//! The compiler is large, takes memory that the gateway would not give back, and reads what a
//! stranger wrote. So it runs behind everything else, with bounds on memory and time, and hands
//! its result over a pipe: the component on stdin, the code on stdout, an error on stderr.
//!
//! Not in here: whether the result may be trusted later (`cache`).

#![allow(unsafe_code)] // limits of a process are set by system calls

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::{Command, ExitStatus, Stdio},
};

use super::engine::{Code, engine};
use crate::limits::{
    COMPILE_CPU_MAX_S, COMPILE_MEMORY_MAX_BYTES, COMPILE_SPARES_BYTES, COMPILE_WALL_MAX_S,
    COMPILED_MAX_BYTES, PLUGIN_KIB_MAX, PLUGIN_REASON_MAX_BYTES,
};

/// The command of the child.
pub const COMMAND: &str = "compile-plugin";
/// Politeness of the child: behind everything else.
const NICE: libc::c_int = 15;

/// What the child may take; told to it on its command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Address space, bytes.
    pub memory_bytes: u64,
    /// CPU time, seconds.
    pub cpu_s: u64,
    /// Wall time, seconds.
    pub wall_s: u64,
}

impl Bounds {
    /// Those of a device: no more memory than is free there now, so that a board too small for the
    /// compiler refuses a plugin and does not choke on it.
    ///
    /// The text of the program is within the bound, and some is spared: what of programs is in memory
    /// counts as free, and a device that pushes it out spends its time reading it in again.
    pub fn here() -> Self {
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let free = available(&meminfo).unwrap_or(u64::MAX);
        let memory_bytes = free.saturating_sub(COMPILE_SPARES_BYTES).min(COMPILE_MEMORY_MAX_BYTES);
        Self { memory_bytes, ..Self::default() }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            memory_bytes: COMPILE_MEMORY_MAX_BYTES,
            cpu_s: COMPILE_CPU_MAX_S,
            wall_s: COMPILE_WALL_MAX_S,
        }
    }
}

/// Bytes that can be had without pushing out what runs, by the text of `/proc/meminfo` (proc(5)).
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Compiles in a child. `program` is this program; the code fits the engine of `code`.
///
/// # Errors
/// What the compiler says, or how the child ended, in one line.
pub fn compile(
    program: &Path,
    code: Code,
    wasm: &[u8],
    bounds: &Bounds,
) -> Result<Vec<u8>, String> {
    let Bounds { memory_bytes, cpu_s, wall_s } = bounds;
    let mut child = Command::new(program)
        .args([COMMAND, code.name()])
        .args([memory_bytes, cpu_s, wall_s].map(u64::to_string))
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the compiler {}: {error}", program.display()))?;
    // It reads all before it writes, so neither waits for the other.
    if let Some(mut stdin) = child.stdin.take() {
        // When it has ended early, its exit says why.
        let _ = stdin.write_all(wasm);
    }
    let mut compiled = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = stdout.take(COMPILED_MAX_BYTES as u64 + 1).read_to_end(&mut compiled);
    }
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(PLUGIN_REASON_MAX_BYTES as u64).read_to_end(&mut said);
    }
    let status = child.wait().map_err(|error| format!("the compiler is lost: {error}"))?;
    if !status.success() {
        return Err(why(status, &said, bounds));
    }
    if compiled.len() > COMPILED_MAX_BYTES {
        return Err(format!("it becomes more than {COMPILED_MAX_BYTES} bytes of code"));
    }
    Ok(compiled)
}

fn why(status: ExitStatus, said: &[u8], bounds: &Bounds) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    let said = String::from_utf8_lossy(said);
    let line: String = said.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match status.signal() {
        Some(libc::SIGXCPU) => {
            format!("compiling took more than {} s of CPU time", bounds.cpu_s)
        }
        Some(libc::SIGKILL) => "the system killed the compiler: it is short of memory".to_owned(),
        Some(libc::SIGALRM) => format!("compiling took more than {} s", bounds.wall_s),
        Some(libc::SIGABRT) => {
            let most = bounds.memory_bytes / 1024 / 1024;
            format!(
                "compiling took more than {most} MiB of memory, all that is free or allowed here"
            )
        }
        Some(signal) => format!("the compiler ended by signal {signal} {line}"),
        None => line,
    }
}

/// The child: limits itself, compiles stdin to stdout. `args` are those behind [`COMMAND`].
///
/// # Errors
/// What the compiler says, in one line.
pub fn run(args: &[String]) -> Result<(), String> {
    let [code, bounds @ ..] = args else { return Err("which code?".to_owned()) };
    let code = Code::from_name(code).ok_or_else(|| format!("{code} is no code"))?;
    let bounds: Vec<u64> = bounds.iter().filter_map(|bound| bound.parse().ok()).collect();
    let [memory_bytes, cpu_s, wall_s] = bounds[..] else {
        return Err("bounds: bytes of memory, seconds of CPU time, seconds".to_owned());
    };
    bound_this_process(&Bounds { memory_bytes, cpu_s, wall_s });
    let mut wasm = Vec::new();
    let most = u64::from(PLUGIN_KIB_MAX) * 1024;
    io::stdin()
        .lock()
        .take(most + 1)
        .read_to_end(&mut wasm)
        .map_err(|error| format!("cannot read the component: {error}"))?;
    if wasm.len() as u64 > most {
        return Err(format!("a component has at most {PLUGIN_KIB_MAX} KiB"));
    }
    let compiled = to_code(code, &wasm)?;
    io::stdout().lock().write_all(&compiled).map_err(|error| format!("nobody reads: {error}"))
}

fn to_code(code: Code, wasm: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: wasmtime::Error| super::guest::shown_error(&error);
    engine(code).and_then(|engine| engine.precompile_component(wasm)).map_err(text)
}

fn bound_this_process(bounds: &Bounds) {
    // Where memory runs out all the same, this is the process that goes.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let between = |resource, soft: u64, hard: u64| {
        #[allow(clippy::unnecessary_cast)] // narrower on 32-bit machines
        let both = libc::rlimit { rlim_cur: soft as libc::rlim_t, rlim_max: hard as libc::rlim_t };
        // SAFETY: the kernel reads one rlimit. A limit that it refuses was lower before.
        unsafe { libc::setrlimit(resource, &raw const both) };
    };
    let limit = |resource, most| between(resource, most, most);
    limit(libc::RLIMIT_AS, bounds.memory_bytes);
    // The soft limit tells itself from the kernel's way out of a shortage of memory: SIGKILL.
    between(libc::RLIMIT_CPU, bounds.cpu_s, bounds.cpu_s.saturating_add(1));
    limit(libc::RLIMIT_CORE, 0);
    limit(libc::RLIMIT_FSIZE, 0);
    limit(libc::RLIMIT_NPROC, 0);
    // SAFETY: both take numbers only.
    unsafe {
        libc::nice(NICE);
        libc::alarm(bounds.wall_s as libc::c_uint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_gives_the_compiler_what_it_has_free() {
        let meminfo = "MemTotal:  61000 kB\nMemFree:  900 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(available(meminfo), Some(20 << 20));
        // Kernels before 3.14 do not tell.
        for text in ["", "MemTotal: 61000 kB\n", "MemAvailable: many kB\n"] {
            assert_eq!(available(text), None, "{text}");
        }
        assert!((1..=COMPILE_MEMORY_MAX_BYTES).contains(&Bounds::here().memory_bytes));
    }
}
