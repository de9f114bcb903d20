//! A session between scripted peers, with the rules of the conversation and the laws checked after
//! each step, and its memory at the end.
//!
//! An input is a row of chunks, `0xFF`, a letter, a payload; the `@` lines of a transcript stand
//! before the first.
//!
//! | letter | payload |
//! |---|---|
//! | `c`, `o` | bytes of the client, of the origin |
//! | `C`, `O` | none: that side closes |
//! | `t` | two bytes: so many hundredths of a second pass |
//! | `r` | one byte: the longest read from now on; 0: no bound |
//! | `v` | what guests, ports and connections answer next, see `Chance::Script` |
//! | `b`, `B` | one byte: how much of what waits the client, the origin takes, in percent |
//! | `m`, `e` | none: media of both sides; media ended |
//! | `n` | `@` lines: another configuration |
//! | `k`, `a` | none: the operator closes; the client comes back to a detached session |
#![no_main]

#[path = "../../tests/world/mod.rs"]
mod world;

use core::time::Duration;

use edgeweir::session::Side;
use edgeweir_fuzz::seeds;
use libfuzzer_sys::fuzz_target;
use world::{LIVE_MAX_BYTES, World, chance::Chance, configuration, laws, memory::Watch};

fuzz_target!(init: seeds::write(scripts()), |data: &[u8]| {
    let mut chunks = data.split(|byte| *byte == 0xff);
    let header = chunks.next().unwrap_or_default();
    let Ok(header) = core::str::from_utf8(header) else { return };
    let memory = Watch::begin();
    let Some(mut world) = World::new(header, Chance::Script(Default::default())) else { return };
    let mut most = usize::MAX;
    for chunk in chunks {
        let Some((letter, payload)) = chunk.split_first() else { continue };
        step(&mut world, *letter, payload, &mut most);
        world.check();
    }
    world.finish();
    let peak = memory.peak();
    assert!(peak < LIVE_MAX_BYTES, "{peak} bytes for one conversation");
});

fn step(world: &mut World, letter: u8, payload: &[u8], most: &mut usize) {
    let first = payload.first().copied().unwrap_or_default();
    let number = payload.get(..2).map_or(0, |two| u64::from(two[0]) << 8 | u64::from(two[1]));
    let mut cut = |left: usize| left.min(*most);
    match letter {
        b'c' => world.step("client > proxy", payload, &mut cut),
        b'o' => world.step("origin > proxy", payload, &mut cut),
        b'C' => world.step("client closes", b"", &mut cut),
        b'O' => world.step("origin closes", b"", &mut cut),
        b'm' => world.step("media flows", b"", &mut cut),
        b'k' => world.step("operator closes", b"", &mut cut),
        b'a' => world.step("client comes back", b"", &mut cut),
        b'e' => world.session.media_ended(),
        b't' => world.pass(Duration::from_millis(10 * number)),
        b'r' => *most = if first == 0 { usize::MAX } else { first.into() },
        b'b' => world.takes[Side::Client as usize] = usize::from(first).min(100),
        b'B' => world.takes[Side::Origin as usize] = usize::from(first).min(100),
        b'v' => {
            if let Chance::Script(script) = &mut world.chance {
                script.extend(payload.iter().take(64));
            }
        }
        b'n' => {
            if let Ok(header) = core::str::from_utf8(payload) {
                world.configure(&configuration(header));
            }
        }
        _ => {}
    }
}

/// Each transcript as a script.
fn scripts() -> Vec<Vec<u8>> {
    seeds::transcripts().iter().map(|text| script(text)).collect()
}

fn script(text: &str) -> Vec<u8> {
    let mut lanes = text.split("--- ");
    let header = lanes.next().unwrap_or_default();
    let lines = header.lines().filter(|line| line.starts_with('@'));
    let mut out: Vec<u8> = lines.flat_map(|line| format!("{line}\n").into_bytes()).collect();
    for lane in lanes {
        let (name, body) = lane.split_once('\n').unwrap_or((lane, ""));
        let letter = match name {
            "client > proxy" => b'c',
            "origin > proxy" => b'o',
            "client closes" => b'C',
            "origin closes" => b'O',
            "media flows" => b'm',
            "operator closes" => b'k',
            "client comes back" => b'a',
            _ => b't',
        };
        let payload = match letter {
            b'c' | b'o' => laws::ids::shown(body.replace('\n', "\r\n").as_bytes()),
            b't' => match name.strip_prefix("seconds pass: ").map(|text| text.parse::<f64>()) {
                Some(Ok(seconds)) => ((seconds * 100.0) as u16).to_be_bytes().to_vec(),
                _ => continue,
            },
            _ => Vec::new(),
        };
        out.extend([0xff, letter]);
        out.extend(payload.iter().filter(|byte| **byte != 0xff));
    }
    out
}
