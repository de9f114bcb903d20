//! Mutated input, seeded: transcripts with bits flipped, spliced, cut, doubled and reordered, on both
//! sides; header values, SDP and URLs; configurations as text and as images. Nothing may panic,
//! spin, lose framing toward a peer or grow.
//!
//! `EDGEWEIR_SEED=n` replays one seed, `EDGEWEIR_MUTATIONS=n` plays n seeds in place of a few.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod world;

use core::time::Duration;

use edgeweir::{
    config::{image, print, text},
    rtsp::{Head, rtp_info, sdp, transport::specs, url::Url},
};
use world::{
    LIVE_MAX_BYTES, World,
    bend::mutate,
    chance::Chance,
    lessons::{Lesson, lessons},
    memory::Watch,
};

/// Seeds that every run plays.
const SEEDS: u64 = 500;

#[test]
fn mutated_input_harms_nothing() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let seeds = match (number("EDGEWEIR_SEED"), number("EDGEWEIR_MUTATIONS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(SEEDS),
    };
    let lessons = lessons();
    let mut opened = 0;
    for seed in seeds.clone() {
        let mut rng = Chance::seeded(seed);
        let said = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            opened += converse(&mut rng, &lessons);
            edit(&mut rng, &lessons);
            configure(&mut rng);
        }));
        assert!(said.is_ok(), "replay with EDGEWEIR_SEED={seed}");
    }
    if seeds.end - seeds.start >= SEEDS {
        assert!(opened > 60, "mutated conversations get as far as to set up tracks: {opened}");
    }
}

/// Plays a mutated transcript; how many tracks it set up.
fn converse(rng: &mut Chance, lessons: &[Lesson]) -> usize {
    let lesson = rng.one(lessons);
    let memory = Watch::begin();
    let guests = Chance::seeded(rng.below(1 << 31) as u64);
    let mut world = World::new(&lesson.header, guests).unwrap();
    let mut steps = lesson.steps.clone();
    for _ in 0..rng.below(4) {
        let (at, to) = (rng.below(steps.len()), rng.below(steps.len()));
        match rng.below(4) {
            0 if !steps.is_empty() => steps.swap(at, to),
            1 if !steps.is_empty() => drop(steps.remove(at)),
            2 if !steps.is_empty() => steps.insert(to, steps[at].clone()),
            _ => {
                let other = rng.one(lessons);
                let step = rng.one(&other.steps).clone();
                steps.insert(to, step);
            }
        }
    }
    for (lane, mut body) in steps {
        if rng.chance(25) {
            let other = rng.one(lessons);
            let other = rng.one(&other.steps).1.clone();
            mutate(rng, &mut body, &other);
        }
        let mut cut = |most: usize| if rng.chance(60) { most } else { 1 + rng.below(most) };
        world.step(&lane, &body, &mut cut);
        world.check();
        if rng.chance(5) {
            world.pass(Duration::from_millis(1 << rng.below(15)));
        }
    }
    world.finish();
    let peak = memory.peak();
    assert!(peak < LIVE_MAX_BYTES, "{peak} bytes for one conversation");
    world.opened
}

/// Parsers and editors by themselves: spans lie within what was parsed, and nothing edited is
/// nothing changed.
fn edit(rng: &mut Chance, lessons: &[Lesson]) {
    let lesson = rng.one(lessons);
    let mut bytes = rng.one(&lesson.steps).1.clone();
    let other = rng.one(lessons);
    let other = rng.one(&other.steps).1.clone();
    mutate(rng, &mut bytes, &other);
    if let Ok(head) = Head::parse(&bytes) {
        for header in head.headers() {
            edit_value(rng, header.value);
        }
        edit_value(rng, head.uri().unwrap_or_default());
        let _ = (head.session(), head.cseq(), head.content_length(), head.version());
    }
    for control in sdp::controls(&bytes) {
        assert!(within(control.value, &bytes), "a control lies within the description");
        edit_value(rng, control.value);
    }
    assert!(sdp::medias(&bytes).count() <= bytes.len());
    edit_value(rng, &bytes);
}

fn edit_value(rng: &mut Chance, value: &[u8]) {
    for spec in specs(value) {
        let mut out = Vec::new();
        spec.edit().write(&mut out);
        assert!(value.windows(out.len().max(1)).any(|part| part == out) || out.is_empty());
        let names = ["client_port", "interleaved", "dest_addr", "ssrc", "RTCP-mux"];
        let name = *rng.one(&names);
        let mut out = Vec::new();
        spec.edit().set(name, b"6-7").remove("source").flag("x").write(&mut out);
        if !value.contains(&b'"') {
            let again = specs(&out).next().expect("an edited spec is one");
            assert_eq!(again.param(name), Some(&b"6-7"[..]), "{value:?}");
        }
        let _ = (spec.client_port(), spec.server_port(), spec.dest_addr(), spec.src_addr());
        let _ = (spec.lower(), spec.interleaved(), spec.is_multicast());
    }
    let mut end = 0;
    for span in rtp_info::urls(value) {
        assert!(span.start >= end && span.end <= value.len(), "{span:?} follows {end}");
        end = span.end;
    }
    if let Ok(url) = Url::parse(value) {
        assert!(within(url.path(), value) && within(url.host, value));
    }
}

fn within(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.as_ptr_range().contains(&part.as_ptr())
}

/// What is taken for a configuration is one: it can be printed, stored and read back.
fn configure(rng: &mut Chance) {
    let example = include_bytes!("../src/config/example.toml");
    let other = include_bytes!("../tests/images/config-v2.bin");
    let mut bytes = example.to_vec();
    mutate(rng, &mut bytes, example);
    let toml = String::from_utf8_lossy(&bytes);
    match text::parse(&toml) {
        Ok(config) => {
            assert_eq!(text::parse(&print::print(&config)).as_ref(), Ok(&config));
            let stored = image::encode(&config, 7);
            assert_eq!(image::decode(&stored), Ok((config, 7)));
        }
        Err(error) => {
            let said = error.display("f").to_string();
            assert!(!said.contains('\n') && said.len() < 2000, "one line: {said:?}");
        }
    }
    let mut stored = other.to_vec();
    mutate(rng, &mut stored, other);
    let body = stored.len().saturating_sub(4);
    if rng.chance(80) {
        let crc = crc32(&stored[..body]).to_le_bytes();
        stored.truncate(body);
        stored.extend_from_slice(&crc);
    }
    if let Ok((config, _)) = image::decode(&stored) {
        let printed = print::print(&config);
        assert_eq!(text::parse(&printed).as_ref(), Ok(&config), "{printed}");
    }
}

/// CRC-32 as in zip, so that what is mutated gets past the checksum.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}
