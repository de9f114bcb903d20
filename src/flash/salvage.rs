//! What is left of a store that cannot be opened or read: its newest whole values, found by
//! looking at every word of the flash.
//!
//! Reads only. It needs of the page format no more than the head of an item (checksum u32, length
//! u16, its checksum u16, all LE) and the key byte behind it; what makes a find trustworthy is the
//! checksum of our own frame. So it works on a store of a newer version, on a worn, cut or
//! overwritten one. Values that were replaced are found as well: the newest wins.
//!
//! Not in here: what is done with it.

use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};

use super::{
    nor::WORD_BYTES,
    store::{KEY_CONFIG, KEY_SECRETS},
};
use crate::{
    config::{
        Config, image,
        secrets::{self, Secrets},
    },
    limits::STORE_MAX_BYTES,
};

/// Bytes of an item's head.
const HEAD_BYTES: usize = 8;
/// An item has at most so many bytes behind its head.
const ITEM_MAX: usize = 64 * 1024;
/// Frames are at least so long: format, sequence, checksum.
const FRAME_MIN: usize = 14;

/// What was found.
#[derive(Debug, Default)]
pub struct Salvage {
    /// The newest whole configuration and its sequence number.
    pub config: Option<(Box<Config>, u64)>,
    /// The newest whole secrets and their sequence number.
    pub secrets: Option<(Box<Secrets>, u64)>,
}

/// Looks through a file or device. What cannot be read there is passed over.
///
/// # Errors
/// It cannot be opened.
pub fn path(path: &Path) -> io::Result<Salvage> {
    let file = File::open(path)?;
    Ok(scan(&mut |offset, buffer| {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, u64::from(offset) + filled as u64) {
                Ok(0) => break,
                Ok(some) => filled += some,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }))
}

/// Looks through what `read` gives: as much as it can from an offset on, nothing behind the end.
pub(super) fn scan(read: &mut dyn FnMut(u32, &mut [u8]) -> io::Result<usize>) -> Salvage {
    const STEP: usize = ITEM_MAX;
    let mut found = Salvage::default();
    let mut window = vec![0; STEP + HEAD_BYTES + ITEM_MAX];
    for offset in (0..STORE_MAX_BYTES).step_by(STEP) {
        let filled = match read(offset, &mut window) {
            Ok(0) => break,
            Ok(filled) => filled,
            // A sector that cannot be read costs what begins in this part, or reaches into it.
            Err(_) => continue,
        };
        let bytes = window.get(..filled).unwrap_or_default();
        for at in (0..STEP.min(filled)).step_by(WORD_BYTES as usize) {
            if let Some((key, value)) = bytes.get(at..).and_then(item) {
                found.take(key, value);
            }
        }
    }
    found
}

/// Key and value of an item that may begin here.
fn item(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let length = usize::from(u16::from_le_bytes([*bytes.get(4)?, *bytes.get(5)?]));
    let (key, value) = bytes.get(HEAD_BYTES..HEAD_BYTES + length)?.split_first()?;
    (value.len() >= FRAME_MIN).then_some((*key, value))
}

impl Salvage {
    fn take(&mut self, key: u8, value: &[u8]) {
        let newer = |than: Option<u64>| {
            image::sequence(value).is_ok_and(|sequence| than.is_none_or(|than| sequence > than))
        };
        let configs = KEY_CONFIG..KEY_CONFIG.saturating_add(16);
        if configs.contains(&key)
            && newer(self.config.as_ref().map(|(_, sequence)| *sequence))
            && let Ok((config, sequence)) = image::decode(value)
        {
            self.config = Some((Box::new(config), sequence));
        } else if key == KEY_SECRETS
            && newer(self.secrets.as_ref().map(|(_, sequence)| *sequence))
            && let Ok((secrets, sequence)) = secrets::decode(value)
        {
            self.secrets = Some((Box::new(secrets), sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{nor::Geometry, sim::SimNor, store::Store};

    fn stored() -> Vec<u8> {
        let nor = SimNor::new(Geometry { size: 512 << 10, erase_size: 4096 });
        let mut store = Store::format(Box::new(nor.clone())).unwrap();
        for sessions in 1..=7 {
            let mut config = Config::default();
            config.limits.sessions = sessions;
            store.save_config(&config).unwrap();
        }
        let mut secrets = Secrets::default();
        secrets.set_user("bob", "p").unwrap();
        store.save_secrets(&secrets).unwrap();
        nor.bytes()
    }

    fn look(bytes: &[u8]) -> Salvage {
        scan(&mut |offset, buffer| {
            let rest = bytes.get(offset as usize..).unwrap_or_default();
            let length = rest.len().min(buffer.len());
            buffer[..length].copy_from_slice(&rest[..length]);
            Ok(length)
        })
    }

    fn sessions(found: &Salvage) -> Option<(u16, u64)> {
        found.config.as_ref().map(|(config, sequence)| (config.limits.sessions, *sequence))
    }

    #[test]
    fn the_newest_values_are_found_without_the_map() {
        let mut bytes = stored();
        // No marks of the store, no marks of pages.
        bytes[..64].fill(0);
        for page in bytes.chunks_mut(64 << 10) {
            page[..4].fill(0xff);
            page[(64 << 10) - 4..].fill(0);
        }
        let found = look(&bytes);
        assert_eq!(sessions(&found), Some((7, 7)));
        assert!(found.secrets.unwrap().0.user("bob").is_some());
    }

    #[test]
    fn a_cut_flash_gives_what_is_still_whole_at_every_length() {
        let bytes = stored();
        let used = bytes.iter().rposition(|byte| *byte != 0xff).unwrap() + 1;
        let mut last = None;
        for length in (0..used).step_by(7) {
            let found = sessions(&look(&bytes[..length]));
            assert!(found >= last, "{length}: {found:?} after {last:?}");
            last = found;
        }
        assert_eq!(last, Some((7, 7)));
    }

    #[test]
    fn nothing_is_found_in_noise_or_in_unreadable_flash() {
        let noise: Vec<u8> =
            (0..1u32 << 18).map(|n| (n.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
        let found = look(&noise);
        assert!(found.config.is_none() && found.secrets.is_none());
        let mut calls = 0;
        let found = scan(&mut |_, _| {
            calls += 1;
            Err(io::Error::other("no"))
        });
        assert!(found.config.is_none());
        assert_eq!(calls, STORE_MAX_BYTES as usize / ITEM_MAX);
    }
}
