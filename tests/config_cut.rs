//! Power lost at every word of a write, every bit flipped: the store gives the old value or the
//! new one or says that something is damaged; never a mixture, never a panic, and what was
//! acknowledged is never lost to a cut.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a helper of a test may fail it

use edgeweir::{
    config::{Config, secrets::Secrets, text},
    flash::{
        nor::Geometry,
        sim::SimNor,
        store::{Store, StoreError},
    },
};

const GEOMETRY: Geometry = Geometry { size: 512 << 10, erase_size: 4096 };

/// A configuration that can be told by its number.
fn config(number: u16) -> Config {
    let text = format!(
        "[limits]\nsessions = {number}\n\
         [[origin]]\nname = \"nvr-{number}\"\nurl = \"rtsp://192.0.2.20:{number}/x\"\n\
         [[route]]\npath = \"/live/{number}/*\"\norigins = [\"nvr-{number}\"]\n"
    );
    text::parse(&text).unwrap()
}

fn secrets(number: u32) -> Secrets {
    let mut secrets = Secrets::default();
    secrets.set_credential("cam", "root", &format!("password {number}")).unwrap();
    secrets
}

/// Secrets that fill a page in a few writes.
fn bulky_secrets(number: u32) -> Secrets {
    let mut secrets = secrets(number);
    for n in 0..31 {
        let password = format!("{number:->128}");
        secrets.set_credential(&format!("n{n}"), &"u".repeat(64), &password).unwrap();
    }
    secrets
}

fn open(nor: &SimNor) -> Result<Store, StoreError> {
    Store::open(Box::new(nor.clone()))
}

/// A flash with configurations 1 to `configs` and some secrets.
fn prepared(configs: u16) -> SimNor {
    let nor = SimNor::new(GEOMETRY);
    let mut store = Store::format(Box::new(nor.clone())).unwrap();
    for number in 1..=configs {
        store.save_config(&config(number)).unwrap();
    }
    store.save_secrets(&secrets(0)).unwrap();
    store.save_slots(b"slots 0").unwrap();
    store.begin().unwrap();
    nor
}

/// A flash as [`prepared`], filled until the next small write satisfies `enough`, which is told
/// the steps of that write, those of the write before, and whether blocks were erased.
fn filled(configs: u16, enough: impl Fn(u64, u64, bool) -> bool) -> SimNor {
    let mut bytes = prepared(configs).bytes();
    for filler in [bulky_secrets as fn(u32) -> Secrets, secrets] {
        let nor = SimNor::with_bytes(GEOMETRY, bytes.clone());
        let mut store = open(&nor).unwrap();
        let mut usual = u64::MAX;
        for number in 1.. {
            let before = nor.steps();
            // Two digits for all, so that all writes of a kind take as many words.
            store.save_secrets(&filler(10 + number % 2)).unwrap();
            let took = nor.steps() - before;
            if number > 1 && enough(took, usual, nor.wear().iter().any(|erased| *erased > 0)) {
                break;
            }
            usual = took;
            bytes = nor.bytes();
        }
    }
    SimNor::with_bytes(GEOMETRY, bytes)
}

/// What one look at the store says.
#[derive(Debug, PartialEq)]
struct View {
    config: Option<(u16, u64)>,
    password: Option<String>,
}

fn view(store: &mut Store) -> (View, Vec<String>) {
    let loaded = store.load_config().unwrap();
    let config = loaded.active.map(|(found, sequence)| {
        let number = found.limits.sessions;
        assert_eq!(*found, config(number), "a mixture");
        (number, sequence)
    });
    let stored = store.load_secrets().unwrap();
    let password = stored.secrets.credential("cam").map(|found| found.password.to_string());
    (View { config, password }, [loaded.notes, stored.notes].concat())
}

/// Cuts `change` at every step; in between the store must show what it showed before or what it
/// shows after, and must still take a change.
#[track_caller]
fn cut_everywhere(start: &SimNor, change: impl Fn(&mut Store) -> Result<(), StoreError>) -> u64 {
    cut_every(1, start, change)
}

/// The same, at every so many steps.
#[track_caller]
fn cut_every(
    stride: usize,
    start: &SimNor,
    change: impl Fn(&mut Store) -> Result<(), StoreError>,
) -> u64 {
    let before = view(&mut open(start).unwrap()).0;
    let whole = SimNor::with_bytes(GEOMETRY, start.bytes());
    let mut store = open(&whole).unwrap();
    change(&mut store).unwrap();
    let after = view(&mut store).0;
    assert_ne!(before, after, "the change must change something");
    let bytes = start.bytes();
    for cut in (0..whole.steps()).step_by(stride) {
        let nor = SimNor::with_bytes(GEOMETRY, bytes.clone());
        let mut store = open(&nor).unwrap();
        nor.dies_after(cut);
        let acknowledged = change(&mut store).is_ok();
        drop(store);
        let nor = SimNor::with_bytes(GEOMETRY, nor.bytes());
        let mut store = open(&nor).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        let (seen, notes) = view(&mut store);
        assert!(seen == after || (!acknowledged && seen == before), "cut {cut}: {seen:?}");
        assert_eq!(notes, [""; 0], "cut {cut}: an innocent cut is no damage");
        // Life goes on, and survives another look. (On a sample: it costs as much as the rest.)
        if cut % 16 == 0 {
            store.save_config(&config(999)).unwrap();
            store.save_secrets(&secrets(999)).unwrap();
            let seen = view(&mut open(&nor).unwrap()).0;
            assert_eq!(seen.config.map(|(number, _)| number), Some(999), "cut {cut}");
            assert_eq!(seen.password.as_deref(), Some("password 999"), "cut {cut}");
        }
    }
    whole.steps()
}

fn save(store: &mut Store) -> Result<(), StoreError> {
    store.save_config(&config(500)).map(drop)
}

#[test]
fn the_first_configuration_is_whole_or_not_there() {
    assert!(cut_everywhere(&prepared(0), save) > 30);
}

#[test]
fn saving_gives_the_old_or_the_new_configuration() {
    cut_everywhere(&prepared(7), save);
}

#[test]
fn rolling_back_gives_the_old_or_the_new_configuration() {
    cut_everywhere(&prepared(7), |store| store.rollback(2).map(drop));
}

#[test]
fn storing_secrets_gives_the_old_or_the_new_ones() {
    cut_everywhere(&prepared(3), |store| store.save_secrets(&secrets(5)).map(drop));
}

#[test]
fn a_cut_while_a_fresh_page_is_taken_loses_nothing() {
    let start = filled(6, |took, usual, _| took > usual);
    cut_everywhere(&start, save);
}

#[test]
fn a_cut_while_a_page_is_moved_and_erased_loses_nothing() {
    let start = filled(6, |_, _, erased| erased);
    let steps = cut_everywhere(&start, save);
    let whole = SimNor::with_bytes(GEOMETRY, start.bytes());
    save(&mut open(&whole).unwrap()).unwrap();
    assert!(whole.wear().iter().any(|erased| *erased > 0), "a page was erased in {steps} steps");
    cut_every(5, &start, |store| store.rollback(3).map(drop));
    cut_every(5, &start, |store| store.save_secrets(&secrets(77)).map(drop));
}

#[test]
fn a_second_cut_while_the_first_is_repaired_loses_nothing() {
    let start = filled(6, |_, _, erased| erased);
    let before = view(&mut open(&start).unwrap()).0;
    let whole = SimNor::with_bytes(GEOMETRY, start.bytes());
    save(&mut open(&whole).unwrap()).unwrap();
    let after = view(&mut open(&whole).unwrap()).0;
    for first in (0..whole.steps()).step_by(7) {
        let nor = SimNor::with_bytes(GEOMETRY, start.bytes());
        let mut store = open(&nor).unwrap();
        nor.dies_after(first);
        let acknowledged = save(&mut store).is_ok();
        for second in [0, 1, 2, 5, 17, 40] {
            let nor = SimNor::with_bytes(GEOMETRY, nor.bytes());
            nor.dies_after(second);
            if let Ok(mut store) = open(&nor) {
                let _ = store.load_config();
                let _ = save(&mut store);
            }
            let nor = SimNor::with_bytes(GEOMETRY, nor.bytes());
            let seen = view(&mut open(&nor).unwrap()).0;
            assert!(
                seen == after || (!acknowledged && seen == before),
                "cuts {first}, {second}: {seen:?}"
            );
        }
    }
}

#[test]
fn a_cut_while_formatting_leaves_no_store_or_an_empty_one() {
    let start = prepared(3);
    let whole = SimNor::with_bytes(GEOMETRY, start.bytes());
    drop(Store::format(Box::new(whole.clone())).unwrap());
    for cut in 0..whole.steps() {
        let nor = SimNor::with_bytes(GEOMETRY, start.bytes());
        nor.dies_after(cut);
        assert!(Store::format(Box::new(nor.clone())).is_err());
        let nor = SimNor::with_bytes(GEOMETRY, nor.bytes());
        match open(&nor) {
            Ok(mut store) => {
                let number = store.load_config().unwrap().active.map(|(found, _)| {
                    let number = found.limits.sessions;
                    assert_eq!(*found, config(number), "cut {cut}: a mixture");
                    number
                });
                assert!(number.is_none_or(|number| number <= 3), "cut {cut}");
            }
            Err(error) => assert!(matches!(error, StoreError::NotAStore), "cut {cut}: {error}"),
        }
    }
}

/// Flips one bit and looks; returns whether the newest configuration was still there.
fn flip(start: &SimNor, bytes: &[u8], newest: &View, at: usize, bit: u32) -> bool {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << bit;
    let nor = SimNor::with_bytes(GEOMETRY, bytes);
    let place = format!("byte {at} bit {bit} of {}", start.bytes().len());
    let mut store = match open(&nor) {
        Ok(store) => store,
        Err(error) => {
            assert!(matches!(error, StoreError::Corrupt), "{place}: {error}");
            return false;
        }
    };
    let loaded = match store.load_config() {
        Ok(loaded) => loaded,
        Err(error) => {
            assert!(matches!(error, StoreError::Corrupt), "{place}: {error}");
            return false;
        }
    };
    let found = loaded.active.map(|(found, sequence)| {
        assert_eq!(*found, config(found.limits.sessions), "{place}: a mixture");
        (found.limits.sessions, sequence)
    });
    let intact = found == newest.config;
    assert!(intact || !loaded.notes.is_empty(), "{place}: {found:?} and nobody said so");
    // Whatever happened, the next configuration is taken and found. (On a sample.)
    if bit == 0 && at.is_multiple_of(4) && store.save_config(&config(999)).is_ok() {
        let seen = open(&nor).unwrap().load_config().unwrap().active.unwrap().0;
        assert_eq!(seen.limits.sessions, 999, "{place}");
    }
    intact
}

#[test]
fn every_flipped_bit_gives_old_or_new_or_is_reported() {
    // All values on one page: 3 configurations, secrets, head, marks; then blank flash.
    let start = prepared(3);
    let newest = view(&mut open(&start).unwrap()).0;
    let bytes = start.bytes();
    let used = bytes.iter().rposition(|byte| *byte != 0xff && *byte != 0).unwrap() + 64;
    assert!(used < 4096, "{used}");
    let mut lost = 0;
    for at in 0..used {
        for bit in 0..8 {
            lost += u32::from(!flip(&start, &bytes, &newest, at, bit));
        }
    }
    let all = used as u32 * 8;
    assert!(lost > 0 && lost < all / 2, "{lost} of {all} flips reach the active configuration");
    // Page marks at the ends of all pages.
    for page in (0..bytes.len()).step_by(64 << 10) {
        for at in (page..page + 8).chain(page + (64 << 10) - 8..page + (64 << 10)) {
            for bit in 0..8 {
                flip(&start, &bytes, &newest, at, bit);
            }
        }
    }
}

/// Cuts `change` at every step and shows each store that is left to `check`, which is told whether
/// the change was acknowledged.
fn cut_each(
    start: &SimNor,
    change: impl Fn(&mut Store) -> Result<(), StoreError>,
    check: impl Fn(&mut Store, bool),
) {
    let whole = SimNor::with_bytes(GEOMETRY, start.bytes());
    change(&mut open(&whole).unwrap()).unwrap();
    assert!(whole.steps() > 0);
    for cut in 0..=whole.steps() {
        let nor = SimNor::with_bytes(GEOMETRY, start.bytes());
        let mut store = open(&nor).unwrap();
        nor.dies_after(cut);
        let acknowledged = change(&mut store).is_ok();
        drop(store);
        check(&mut open(&SimNor::with_bytes(GEOMETRY, nor.bytes())).unwrap(), acknowledged);
    }
}

#[test]
fn a_cut_while_a_fallback_is_written_leaves_it_to_the_next_start_or_has_it_done() {
    for start in [prepared(3), filled(3, |_, _, erased| erased)] {
        let mut store = open(&start).unwrap();
        store.begin().unwrap();
        store.begin().unwrap();
        drop(store);
        cut_each(
            &start,
            |store| store.begin().map(|start| assert!(start.fell_back)),
            |store, acknowledged| {
                let done = store.load_config().unwrap().active.unwrap().1 == 2;
                assert!(done || !acknowledged);
                let next = store.begin().unwrap();
                assert_eq!((next.fell_back, next.fallbacks), (!done, 1));
                let (config, sequence) = store.load_config().unwrap().active.unwrap();
                let expected = self::config(2);
                assert_eq!((*config, sequence), (expected, 2));
            },
        );
    }
}

#[test]
fn a_cut_while_starts_are_counted_changes_nothing_else() {
    let start = prepared(2);
    let before = view(&mut open(&start).unwrap());
    let count = |store: &mut Store| {
        store.begin()?;
        store.settled()
    };
    cut_each(&start, count, |store, acknowledged| {
        assert_eq!(view(store), before);
        // One start before this one, this one, one more: no fallback yet, whatever was counted.
        assert!(!store.begin().unwrap().fell_back);
        assert!(!acknowledged || !store.begin().unwrap().fell_back);
    });
}

#[test]
fn plugin_slots_are_the_old_or_the_new_ones() {
    for start in [prepared(2), filled(2, |_, _, erased| erased)] {
        let new = [b'n'; 600];
        cut_each(
            &start,
            |store| store.save_slots(&new),
            |store, acknowledged| {
                let found = store.load_slots().unwrap().unwrap();
                assert!(found == new || (!acknowledged && found == b"slots 0"));
                assert_eq!(view(store).0.config.map(|(number, _)| number), Some(2));
            },
        );
    }
}
