//! Behaviour of the store; power cuts and flipped bits are in `tests/config_cut.rs`.

use super::{mark::MAGIC, *};
use crate::{config::image::tests::largest, flash::sim::SimNor};

fn sim(size: u32, erase_size: u32) -> SimNor {
    SimNor::new(Geometry { size, erase_size })
}

fn formatted(nor: &SimNor) -> Store {
    Store::format(Box::new(nor.clone())).unwrap()
}

fn config(sessions: u16) -> Config {
    let mut config = Config::default();
    config.limits.sessions = sessions;
    config
}

/// Sessions of the active configuration, and the notes.
fn active(store: &mut Store) -> (Option<(u16, u64)>, Vec<String>) {
    let loaded = store.load_config().unwrap();
    (loaded.active.map(|(config, sequence)| (config.limits.sessions, sequence)), loaded.notes)
}

#[test]
fn the_newest_configuration_is_active_and_four_earlier_ones_are_kept() {
    let nor = sim(1 << 20, 4096);
    let mut store = formatted(&nor);
    assert_eq!(active(&mut store), (None, vec![]));
    for n in 1..=9 {
        assert_eq!(store.save_config(&config(n)).unwrap(), u64::from(n));
    }
    let mut store = Store::open(Box::new(nor)).unwrap();
    assert_eq!(active(&mut store), (Some((9, 9)), vec![]));
    let numbers: Vec<_> = store.history().unwrap().iter().map(|entry| entry.sequence).collect();
    assert_eq!(numbers, [9, 8, 7, 6, 5]);
    assert_eq!(store.info().unwrap().configs, 5);
}

#[test]
fn saving_what_is_active_writes_nothing() {
    let nor = sim(1 << 20, 4096);
    let mut store = formatted(&nor);
    store.save_config(&config(7)).unwrap();
    store.save_secrets(&Secrets::default()).unwrap();
    let steps = nor.steps();
    assert_eq!(store.save_config(&config(7)).unwrap(), 1);
    assert_eq!(store.save_secrets(&Secrets::default()).unwrap(), 1);
    assert_eq!(nor.steps(), steps);
    store.load_config().unwrap();
    store.load_secrets().unwrap();
    drop(Store::open(Box::new(nor.clone())).unwrap());
    assert_eq!(nor.steps(), steps);
}

#[test]
fn rolling_back_makes_the_earlier_one_the_newest() {
    let mut store = formatted(&sim(1 << 20, 4096));
    assert!(matches!(store.rollback(1), Err(StoreError::NoSuch { have: 0 })));
    for n in 1..=3 {
        store.save_config(&config(n)).unwrap();
    }
    assert!(matches!(store.rollback(0), Err(StoreError::NoSuch { have: 2 })));
    assert!(matches!(store.rollback(3), Err(StoreError::NoSuch { have: 2 })));
    let (again, sequence) = store.rollback(2).unwrap();
    assert_eq!((again.limits.sessions, sequence), (1, 4));
    assert_eq!(active(&mut store).0, Some((1, 4)));
    store.rollback(1).unwrap();
    assert_eq!(active(&mut store).0, Some((3, 5)));
}

#[test]
fn the_largest_configurations_and_secrets_fit_the_smallest_store_for_ever() {
    for erase_size in [4, 64, 128, 256].map(|kib| kib << 10) {
        let nor = sim(crate::limits::STORE_MIN_BYTES, erase_size);
        let mut store = formatted(&nor);
        let mut config = largest();
        let mut secrets = Secrets::default();
        for n in 0..crate::limits::CREDENTIALS_MAX {
            secrets.set_credential(&format!("{n:032}"), &"u".repeat(64), &"p".repeat(128)).unwrap();
        }
        for n in 0..crate::limits::USERS_MAX {
            secrets.set_user(&format!("{n:032}"), "p").unwrap();
        }
        store.save_slots(&[7; STORE_SLOTS_MAX_BYTES]).unwrap();
        for n in 1..=40 {
            config.limits.sessions = u16::MAX - n;
            let sequence = store.save_config(&config).unwrap();
            assert_eq!(sequence, u64::from(n), "{erase_size}");
            secrets.set_user(&format!("{n:032}", n = 0), &format!("{n}")).unwrap();
            store.save_secrets(&secrets).unwrap();
        }
        assert_eq!(store.images().unwrap().len(), 5);
        let wear = nor.wear();
        let (least, most) = (wear.iter().min().unwrap(), wear.iter().max().unwrap());
        assert!(most - least <= 1, "{erase_size}: {wear:?}");
        let block_per_page = store.geometry.page_size().unwrap() / erase_size;
        let erased: u32 = wear.iter().sum::<u32>() / block_per_page;
        assert_eq!(store.info().unwrap().pages_erased, erased);
        assert_eq!(Store::open(Box::new(nor)).unwrap().info().unwrap().pages_erased, erased);
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let blank = sim(1 << 20, 4096);
    assert!(matches!(Store::open(Box::new(blank)), Err(StoreError::NotAStore)));
    let geometry = Geometry { size: 1 << 20, erase_size: 4096 };
    let mut noise: Vec<u8> =
        (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    // The magic alone, as it stands in this very program, is no mark.
    noise[1000..1016].copy_from_slice(MAGIC);
    let nor = SimNor::with_bytes(geometry, noise.clone());
    assert!(matches!(Store::open(Box::new(nor.clone())), Err(StoreError::NotAStore)));
    assert_eq!(nor.bytes(), noise);
}

#[test]
fn a_store_of_a_newer_release_is_refused_and_left_alone() {
    let nor = sim(1 << 20, 4096);
    let mut store = formatted(&nor);
    let mut newer = mark();
    newer[16] = 2;
    let crc = image::crc32(&newer[..18]).to_le_bytes();
    newer[18..].copy_from_slice(&crc);
    // Found first only when the old marks are gone: as a newer release would have formatted it.
    let mut bytes = nor.bytes();
    while let Some(at) = bytes.windows(22).position(|window| window == mark()) {
        bytes[at..at + 22].copy_from_slice(&newer);
    }
    store.load_config().unwrap();
    let nor = SimNor::with_bytes(nor.geometry(), bytes.clone());
    assert!(matches!(Store::open(Box::new(nor.clone())), Err(StoreError::NewerVersion(2))));
    assert_eq!(nor.bytes(), bytes);
}

#[test]
fn a_configuration_of_a_newer_release_is_skipped_with_a_note_and_kept() {
    let mut store = formatted(&sim(1 << 20, 4096));
    store.save_config(&config(5)).unwrap();
    let mut newer = vec![0; 64];
    let used = image::seal(image::FORMAT + 1, 2, &[9u8; 8], &mut newer).unwrap();
    store.put(KEY_CONFIG + 2, &newer[..used]).unwrap();
    let (found, notes) = active(&mut store);
    assert_eq!(found, Some((5, 1)));
    assert!(notes[0].contains("newer release") && notes[1] == "configuration 1 is used");
    assert_eq!(store.save_config(&config(6)).unwrap(), 3);
    assert_eq!(store.fetch(KEY_CONFIG + 2).unwrap().unwrap(), newer[..used]);
    assert_eq!(store.history().unwrap()[1].fault.as_ref().map(String::is_empty), Some(false));
}

#[test]
fn a_damaged_configuration_gives_way_to_the_previous_one_with_a_note() {
    let nor = sim(1 << 20, 4096);
    let mut store = formatted(&nor);
    store.save_config(&config(5)).unwrap();
    store.save_config(&config(6)).unwrap();
    let image = image::encode(&config(6), 2);
    let mut bytes = nor.bytes();
    let at = bytes.windows(image.len()).position(|window| window == &image[..]).unwrap();
    bytes[at + 20] ^= 4;
    let mut store = Store::open(Box::new(SimNor::with_bytes(nor.geometry(), bytes))).unwrap();
    let (found, notes) = active(&mut store);
    assert_eq!(found, Some((5, 1)));
    assert_eq!(
        notes,
        ["configuration 2 was stored but is damaged on flash", "configuration 1 is used"]
    );
    // Saving the very one that is used still counts as a change: the note must go away.
    assert_eq!(store.save_config(&config(5)).unwrap(), 3);
    assert_eq!(active(&mut store), (Some((5, 3)), vec![]));
}

/// A store with configuration 5, filled by values of keys that only a newer release knows.
fn full() -> SimNor {
    let nor = sim(crate::limits::STORE_MIN_BYTES, 4096);
    let mut store = formatted(&nor);
    store.save_config(&config(5)).unwrap();
    let mut keys = 60..;
    for size in [60_000, 5000, 450, 40, 12] {
        let full = keys.find_map(|key| store.put(key, &vec![key; size]).err());
        assert!(matches!(full, Some(StoreError::Full)), "{size}");
    }
    nor
}

#[test]
fn a_full_store_keeps_the_old_values_and_says_that_it_is_full() {
    let nor = full();
    let mut store = Store::open(Box::new(nor.clone())).unwrap();
    assert_eq!(active(&mut store), (Some((5, 1)), vec![]));
    assert!(matches!(store.begin(), Err(StoreError::Full)));
    assert!(matches!(store.save_config(&config(6)), Err(StoreError::Full)));
    let mut store = Store::open(Box::new(nor)).unwrap();
    assert_eq!(active(&mut store), (Some((5, 1)), vec![]));
}

#[test]
fn plugin_slots_are_kept_up_to_their_bound() {
    let mut store = formatted(&sim(1 << 20, 4096));
    assert_eq!(store.load_slots().unwrap(), None);
    store.save_slots(&[7; STORE_SLOTS_MAX_BYTES]).unwrap();
    assert_eq!(store.load_slots().unwrap().unwrap(), [7; STORE_SLOTS_MAX_BYTES]);
    assert!(matches!(store.save_slots(&[0; STORE_SLOTS_MAX_BYTES + 1]), Err(StoreError::TooBig)));
}

#[test]
fn a_worn_out_block_anywhere_costs_no_acknowledged_value() {
    for worn in 0..crate::limits::STORE_MIN_BYTES / (64 << 10) {
        let nor = sim(crate::limits::STORE_MIN_BYTES, 64 << 10);
        let mut store = formatted(&nor);
        let mut acknowledged = store.save_config(&config(1)).unwrap();
        nor.wear_out(worn);
        let mut refused = 0;
        let mut secrets = Secrets::default();
        for n in 2..=120 {
            // Large values, so that the pages come round and the worn one is met.
            for name in 0..32 {
                let password = format!("{n:->128}");
                secrets.set_credential(&format!("{name}"), &"u".repeat(64), &password).unwrap();
            }
            let _ = store.save_secrets(&secrets);
            match store.save_config(&config(n)) {
                Ok(sequence) => acknowledged = sequence,
                Err(StoreError::Io(error)) => {
                    assert!(error.to_string().contains("worn out"));
                    refused += 1;
                }
                Err(other) => panic!("{other}"),
            }
            if refused == 3 {
                break;
            }
        }
        assert!(refused > 0, "block {worn} was met");
        // Started anew: what was acknowledged is found, by the map or by looking for it.
        let opened = Store::open(Box::new(nor.clone()));
        let loaded = opened.and_then(|mut store| match store.load_config()?.active {
            Some((_, sequence)) => Ok(Some(sequence)),
            None => Ok(store.salvage().config.map(|(_, sequence)| sequence)),
        });
        let found = loaded.unwrap_or_else(|_| {
            let bytes = nor.bytes();
            let found = salvage::scan(&mut |offset, buffer| {
                let rest = bytes.get(offset as usize..).unwrap_or_default();
                let length = rest.len().min(buffer.len());
                buffer[..length].copy_from_slice(&rest[..length]);
                Ok(length)
            });
            found.config.map(|(_, sequence)| sequence)
        });
        assert!(found >= Some(acknowledged), "block {worn}: {found:?} of {acknowledged}");
    }
}

#[test]
fn a_change_of_a_usual_configuration_writes_four_kilobytes_at_most() {
    let nor = sim(1 << 20, 4096);
    let mut store = formatted(&nor);
    // Once round the store first, so that pages are emptied and erased on the way.
    for _ in 0..180 {
        store.put(200, &[0; 6000]).unwrap();
    }
    store.put(200, &[0]).unwrap();
    let mut config = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
    let erased = |nor: &SimNor| nor.wear().iter().sum::<u32>() / 16;
    let (before, mut most) = (erased(&nor), 0);
    for n in 1..=1000_u16 {
        config.limits.sessions = n;
        let steps = nor.steps();
        store.save_config(&config).unwrap();
        most = most.max((nor.steps() - steps) * 4);
        if erased(&nor) > before + 2 {
            break;
        }
    }
    assert!(erased(&nor) > before + 2, "pages came round");
    assert!((256..=4096).contains(&most), "{most} bytes");
}

#[test]
fn a_cut_while_an_old_format_is_replaced_leaves_it_readable_or_has_the_new_one() {
    let nor = sim(crate::limits::STORE_MIN_BYTES, 4096);
    let mut store = formatted(&nor);
    let image = include_bytes!("../../../tests/images/config-v1.bin");
    store.put(KEY_CONFIG + 7 % SLOTS, image).unwrap();
    store.head.config = 7;
    store.write_head().unwrap();
    let old = store.load_config().unwrap().active.unwrap();
    assert_eq!(old.1, 7);
    let mut new = old.0.clone();
    new.limits.sessions += 1;
    // The same content counts as a change, too: it takes the new format.
    for change in [&new, &old.0] {
        let whole = SimNor::with_bytes(nor.geometry(), nor.bytes());
        Store::open(Box::new(whole.clone())).unwrap().save_config(change).unwrap();
        for cut in 0..whole.steps() {
            let cut_nor = SimNor::with_bytes(nor.geometry(), nor.bytes());
            let mut store = Store::open(Box::new(cut_nor.clone())).unwrap();
            cut_nor.dies_after(cut);
            let acknowledged = store.save_config(change).is_ok();
            let left = SimNor::with_bytes(nor.geometry(), cut_nor.bytes());
            let mut store = Store::open(Box::new(left)).unwrap();
            let loaded = store.load_config().unwrap();
            assert_eq!(loaded.notes, [""; 0], "cut {cut}");
            let found = loaded.active.unwrap();
            let is_new = found == (change.clone(), 8);
            assert!(is_new || (!acknowledged && found == old), "cut {cut}");
        }
    }
}
