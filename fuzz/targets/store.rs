//! The store on a simulated flash: bent bytes, power cuts and worn blocks. Whatever is on the flash,
//! nothing panics or spins; what was acknowledged is there until bytes are bent.
#![no_main]

use std::sync::LazyLock;

use edgeweir::{
    config::{Config, secrets::Secrets, text},
    flash::{nor::Geometry, salvage, sim::SimNor, store::Store},
};
use edgeweir_fuzz::{input::Choices, seeds};
use libfuzzer_sys::fuzz_target;

const GEOMETRY: Geometry = Geometry { size: 512 * 1024, erase_size: 4096 };

/// A flash with a store that has been used for a while.
static USED: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let chip = SimNor::new(GEOMETRY);
    let mut store = Store::format(Box::new(chip.clone())).unwrap();
    for sessions in 1..12 {
        store.save_config(&config(sessions)).unwrap();
    }
    let mut secrets = Secrets::default();
    secrets.set_credential("nvr", "admin", "12345").unwrap();
    store.save_secrets(&secrets).unwrap();
    store.save_slots(b"slots").unwrap();
    store.begin().unwrap();
    chip.bytes()
});

fuzz_target!(init: seeds::write(scripts()), |data: &[u8]| {
    let mut choices = Choices(data);
    let mut chip = SimNor::with_bytes(GEOMETRY, USED.clone());
    let Ok(mut store) = Store::open(Box::new(chip.clone())) else { unreachable!() };
    let mut held = Some(11);
    // A step of these takes milliseconds.
    for _ in 0..24 {
        if choices.is_empty() {
            break;
        }
        let alive = match choices.byte() % 10 {
            0..=2 => {
                let sessions = 1 + u16::from(choices.byte());
                let saved = store.save_config(&config(sessions));
                // Half done is the old one or the new one.
                held = if saved.is_ok() { Some(sessions) } else { None };
                saved.is_ok()
            }
            3 => store.save_secrets(&Secrets::default()).is_ok(),
            4 => store.save_slots(choices.short()).is_ok(),
            5 => {
                let back = usize::from(choices.byte() % 5);
                match store.rollback(back) {
                    Ok((config, _)) => held = Some(config.limits.sessions),
                    Err(_) => held = None,
                }
                true
            }
            6 => store.begin().is_ok() && (choices.byte() & 1 == 0 || store.settled().is_ok()),
            7 => {
                chip.dies_after(choices.word().into());
                true
            }
            8 => {
                chip.wear_out((choices.byte() % 128).into());
                true
            }
            _ => {
                let bytes = bend(chip.bytes(), &mut choices);
                chip = SimNor::with_bytes(GEOMETRY, bytes);
                held = None;
                false
            }
        };
        if !alive {
            // Power comes back.
            chip = SimNor::with_bytes(GEOMETRY, chip.bytes());
            match Store::open(Box::new(chip.clone())) {
                Ok(opened) => store = opened,
                Err(_) => return,
            }
        }
        look(&mut store, held);
    }
});

/// All that reads.
fn look(store: &mut Store, held: Option<u16>) {
    let _ = (store.history(), store.load_secrets(), store.load_slots(), store.info());
    if let (Ok(loaded), Some(held)) = (store.load_config(), held)
        && loaded.notes.is_empty()
    {
        let sessions = loaded.active.map(|(config, _)| config.limits.sessions);
        assert_eq!(sessions, Some(held), "what was acknowledged is there");
    }
    let salvage::Salvage { config: _, secrets: _, .. } = store.salvage();
}

fn bend(mut bytes: Vec<u8>, choices: &mut Choices<'_>) -> Vec<u8> {
    for _ in 0..=choices.below(8) {
        // Most of the flash is empty: what is bent lies near its pages' beginnings.
        let page = usize::from(choices.byte() % 8) << 16;
        let at = page + usize::from(choices.word());
        let part = choices.short();
        if let Some(place) = bytes.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
    }
    bytes
}

fn config(sessions: u16) -> Config {
    text::parse(&format!("[limits]\nsessions = {sessions}\n")).unwrap()
}

/// One of each kind.
fn scripts() -> Vec<Vec<u8>> {
    let cuts = (0..40_u16).map(|at| [&[7], &(at * 37).to_be_bytes()[..], &[0, 9, 0, 3]].concat());
    let bends = (0..60_u16).map(|at| {
        let [high, low] = (at * 41).to_be_bytes();
        vec![9, 0, (at % 4) as u8, high, low, 4, 0, 0, 0, 0, 0, 7, 5, 1, 6, 1]
    });
    cuts.chain(bends).collect()
}
