//! The compiling child within its bounds: at each one, and past it.

use std::{path::Path, time::Instant};

use edgeweir::{
    limits::{COMPILED_MAX_BYTES, PLUGIN_KIB_MAX},
    plugin::{
        Code,
        child::{Bounds, compile},
    },
};

use super::support::*;

/// A number as WASM writes lengths, always in five bytes.
fn leb(number: usize) -> [u8; 5] {
    core::array::from_fn(|at| (number >> (7 * at)) as u8 & 0x7f | if at < 4 { 0x80 } else { 0 })
}

fn section(id: u8, body: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(body.len()), body].concat()
}

/// A component of exactly so many bytes: a core module with functions of a length, all different and
/// dear to compile. It is never run.
fn component_of(bytes: usize, function_bytes: usize) -> Vec<u8> {
    let functions = (bytes - 1000) / function_bytes;
    let function = |at: usize| {
        // One parameter; sums of products of it and a constant.
        let mut body = vec![0, 0x20, 0];
        let mut step = at as u8;
        while body.len() < function_bytes - 5 - 8 {
            step = step.wrapping_mul(5).wrapping_add(1);
            body.extend([0x20, 0, 0x41, step & 0x3f, 0x6c, 0x6a]);
        }
        body.resize(function_bytes - 5 - 1, 0x01);
        body.push(0x0b);
        [&leb(body.len())[..], &body].concat()
    };
    let bodies: Vec<u8> = (0..functions).flat_map(function).collect();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 1, 0x7f, 1, 0x7f]),
        section(3, &[&leb(functions)[..], &vec![0; functions]].concat()),
        section(10, &[&leb(functions)[..], &bodies].concat()),
    ]
    .concat();
    let mut component = [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat();
    // The rest is a section that nobody reads.
    let rest = bytes - component.len() - 6;
    component.extend(section(0, &[&[0][..], &vec![0; rest - 1]].concat()));
    assert_eq!(component.len(), bytes);
    component
}

/// Length of ordinary functions, bytes.
const SHORT: usize = 4000;
/// Length of functions that take a compiler much memory and time.
const LONG: usize = 400_000;

fn child(wasm: &[u8], bounds: Bounds) -> Result<usize, String> {
    let program = Path::new(env!("CARGO_BIN_EXE_edgeweir"));
    compile(program, Code::HERE, wasm, &bounds).map(|code| code.len())
}

#[test]
fn the_largest_component_compiles_within_the_bounds_and_a_larger_one_is_not_read() {
    let most = usize::from(PLUGIN_KIB_MAX) * 1024;
    let code = child(&component_of(most, SHORT), Bounds::default()).unwrap();
    assert!((most..COMPILED_MAX_BYTES).contains(&code), "{code} bytes of code");
    let past = child(&component_of(most + 1, SHORT), Bounds::default()).unwrap_err();
    assert!(past.contains("at most 1024 KiB"), "{past}");
}

#[test]
fn memory_is_bounded() {
    let wasm = component_of(1024 * 1024, LONG);
    let mib = |memory: u64| Bounds { memory_bytes: memory << 20, ..Bounds::default() };
    // Enough to start the program, not enough for this component.
    let past = child(&wasm, mib(64)).unwrap_err();
    assert!(past.contains("more than 64 MiB of memory"), "{past}");
    child(&wasm, mib(512)).unwrap();
    child(&component("hostile/minimal"), mib(64)).unwrap();
}

#[test]
fn cpu_time_is_bounded() {
    let bounds = Bounds { cpu_s: 1, ..Bounds::default() };
    let past = child(&component_of(1024 * 1024, LONG), bounds).unwrap_err();
    assert!(past.contains("more than 1 s of CPU time"), "{past}");
    child(&component("hostile/minimal"), bounds).unwrap();
}

#[test]
fn wall_time_is_bounded() {
    let bounds = Bounds { wall_s: 1, ..Bounds::default() };
    let since = Instant::now();
    let past = child(&component_of(1024 * 1024, LONG), bounds).unwrap_err();
    assert!(past.contains("compiling took more than 1 s"), "{past}");
    assert!(since.elapsed().as_secs() < 10, "{:?}", since.elapsed());
    child(&component("hostile/minimal"), bounds).unwrap();
}

#[test]
fn the_result_is_bounded() {
    // What writes so many bytes in place of the compiler, and cannot be told to write more.
    let place = Place::new();
    std::fs::create_dir(&place.dir).unwrap();
    let written = |bytes: usize| {
        use std::os::unix::fs::PermissionsExt as _;
        let program = place.dir.join(format!("writes-{bytes}"));
        let script = format!("#!/bin/sh\n/usr/bin/head -c {bytes} /dev/zero\n");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        compile(&program, Code::HERE, b"", &Bounds::default()).map(|code| code.len())
    };
    assert_eq!(written(COMPILED_MAX_BYTES), Ok(COMPILED_MAX_BYTES));
    let past = written(COMPILED_MAX_BYTES + 1).unwrap_err();
    assert!(past.contains("16777216 bytes of code"), "{past}");
}
