//! The store: a few keys in a wear-levelled map, each value whole or not there.
//!
//! ```text
//!   key     value
//!   0, 1    mark of the store: "edgeweir store\r\n" | version u16 LE | CRC-32 LE, twice
//!   2       head, framed: sequence numbers that were acknowledged, erased pages
//!   3       secrets (config::secrets)
//!   4       starts that ended early (boot)
//!   5       plugin slots, as the plugin room writes them
//!   16..20  configurations (config::image), number n under key 16 + n % 5
//! ```
//!
//! The active configuration is the whole one with the highest sequence number, the others are its
//! history: so saving is one item, and the map underneath keeps the old item until the new one is
//! whole. A cut at any moment leaves the old or the new configuration. The head is written after
//! it; its only use is to notice that an acknowledged value has gone bad.
//!
//! A device is recognised by reading only: its mark is searched for before the map, which may
//! repair by erasing, gets to see it. The mark stands there twice, so that no single bit hides a
//! store. All calls block. Not in here: the page format, which belongs to the major version of
//! `sequential-storage`.

use core::fmt;
use std::path::Path;

use sequential_storage::{
    cache::{Cache, Uncached},
    map::{MapConfig, MapStorage},
};
use serde::{Deserialize, Serialize};

mod boot;
mod info;
mod mark;

pub(super) use self::mark::find_mark;
use self::{boot::Boot, mark::mark};
pub use self::{boot::Start, info::Info};

pub use super::error::StoreError;
use super::{
    device,
    nor::{Condition, Geometry, Nor, Pages},
    salvage::{self, Salvage},
};
use crate::{
    config::{
        Config,
        image::{self, Frame, ImageError},
        secrets::{self, Secrets},
    },
    limits::{CONFIG_HISTORY, STORE_SLOTS_MAX_BYTES},
};

/// Version of the keys and of the page format underneath (`sequential-storage` 8).
pub const VERSION: u16 = 1;

const KEY_MARKS: [u8; 2] = [0, 1];
const KEY_HEAD: u8 = 2;
pub(super) const KEY_SECRETS: u8 = 3;
const KEY_BOOT: u8 = 4;
const KEY_SLOTS: u8 = 5;
pub(super) const KEY_CONFIG: u8 = 16;
/// The active configuration and those before it.
const SLOTS: u8 = CONFIG_HISTORY as u8 + 1;
/// Items carry a 16-bit length, so every item of any release fits, key included.
const BUFFER_BYTES: usize = 64 * 1024;
/// Why a whole configuration is left aside.
const EARLY: &str = "starts with it ended early";
/// Format of the head.
const HEAD_FORMAT: u16 = 1;

const PAGE_64K: usize = 64 * 1024;
const PAGE_128K: usize = 128 * 1024;
const PAGE_256K: usize = 256 * 1024;
/// Two page marks and an item header of the map, a word each at least, and the key.
const PAGE_OVERHEAD: usize = 64;
const _: () = assert!(image::IMAGE_MAX + PAGE_OVERHEAD < PAGE_64K);
const _: () = assert!(secrets::SECRETS_MAX + PAGE_OVERHEAD < PAGE_64K);
const _: () = assert!(image::IMAGE_MAX < BUFFER_BYTES);

/// What a load found.
#[derive(Debug)]
pub struct Loaded {
    /// The newest whole configuration and its sequence number.
    pub active: Option<(Box<Config>, u64)>,
    /// What an operator should know: values that were skipped, and why.
    pub notes: Vec<String>,
}

/// What a load of the secrets found.
#[derive(Debug)]
pub struct LoadedSecrets {
    /// The secrets; empty when there are none.
    pub secrets: Box<Secrets>,
    /// What an operator should know.
    pub notes: Vec<String>,
}

/// One stored configuration. When it was stored is not known: the gateway may have no clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its sequence number.
    pub sequence: u64,
    /// Bytes of its image.
    pub bytes: usize,
    /// Why it cannot be used, when it cannot.
    pub fault: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// Highest acknowledged configuration.
    config: u64,
    /// Highest acknowledged secrets.
    secrets: u64,
    pages_erased: u32,
}

type MapOf<const PAGE: usize> =
    MapStorage<u8, Pages<PAGE>, Cache<Uncached, Uncached, Uncached, u8>>;

/// The map, by page size.
enum Map {
    Of64(MapOf<PAGE_64K>),
    Of128(MapOf<PAGE_128K>),
    Of256(MapOf<PAGE_256K>),
}

/// The same call on whichever map it is.
macro_rules! on {
    ($map:expr, $inner:ident => $call:expr) => {
        match $map {
            Map::Of64($inner) => $call,
            Map::Of128($inner) => $call,
            Map::Of256($inner) => $call,
        }
    };
}

fn map_of<const PAGE: usize>(nor: Box<dyn Nor>) -> Result<MapOf<PAGE>, StoreError> {
    let range = 0..nor.geometry().size;
    let config =
        MapConfig::try_new(range).map_err(|error| StoreError::Geometry(format!("{error:?}")))?;
    Ok(MapStorage::new(Pages { nor, erased: 0 }, config, Cache::new_uncached()))
}

/// An open store.
pub struct Store {
    map: Map,
    geometry: Geometry,
    head: Head,
    boot: Boot,
    /// Of the pages erased since the opening, those that `head` counts already.
    erased_counted: u32,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the store on a device or in a file.
    ///
    /// # Errors
    /// Those of [`device::open`] and [`Self::open`].
    pub fn open_path(path: &Path) -> Result<Self, StoreError> {
        Self::open(device::open(path)?)
    }

    /// Opens a store. What is no store is not written to.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::NewerVersion`], [`StoreError::Geometry`],
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn open(mut nor: Box<dyn Nor>) -> Result<Self, StoreError> {
        nor.geometry().page_size()?;
        match find_mark(&mut *nor)? {
            None => return Err(StoreError::NotAStore),
            Some(version) if version > VERSION => return Err(StoreError::NewerVersion(version)),
            Some(_) => {}
        }
        let mut store = Self::over(nor)?;
        if let Some(bytes) = store.fetch(KEY_HEAD)?
            && let Ok(head) = Frame::open(&bytes).and_then(|frame| frame.body(HEAD_FORMAT))
        {
            store.head = head;
        }
        store.boot = store.fetch(KEY_BOOT)?.map_or_else(Boot::default, |bytes| Boot::read(&bytes));
        Ok(store)
    }

    /// Makes an empty store. All that the flash held is lost.
    ///
    /// # Errors
    /// [`StoreError::Geometry`] or [`StoreError::Io`].
    pub fn format(nor: Box<dyn Nor>) -> Result<Self, StoreError> {
        let mut store = Self::over(nor)?;
        on!(&mut store.map, map => ready(map.erase_all()))?;
        store.mend_marks()?;
        store.write_head()?;
        Ok(store)
    }

    fn over(nor: Box<dyn Nor>) -> Result<Self, StoreError> {
        let geometry = nor.geometry();
        let map = match geometry.page_size()? as usize {
            PAGE_128K => Map::Of128(map_of(nor)?),
            PAGE_256K => Map::Of256(map_of(nor)?),
            _ => Map::Of64(map_of(nor)?),
        };
        Ok(Self { map, geometry, head: Head::default(), boot: Boot::default(), erased_counted: 0 })
    }

    /// The newest whole configuration that is not left aside (see [`Self::begin`]).
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`]. A damaged value is a note, not an error.
    pub fn load_config(&mut self) -> Result<Loaded, StoreError> {
        let images = self.images()?;
        let mut notes = Vec::new();
        let newest = images.first().map_or(0, |(sequence, _)| *sequence);
        if newest < self.head.config {
            notes.push(format!(
                "configuration {} was stored but is damaged on flash",
                self.head.config
            ));
        }
        let mut active = None;
        for (sequence, image) in &images {
            if self.boot.leaves_aside(*sequence) {
                notes.push(format!("configuration {sequence} is left aside: {EARLY}"));
                continue;
            }
            match image::decode(image) {
                Ok((config, _)) => {
                    active = Some((Box::new(config), *sequence));
                    break;
                }
                Err(error) => notes.push(format!("configuration {sequence} is skipped: {error}")),
            }
        }
        if active.is_none() {
            // Better one that ended early than none.
            let decoded = |(sequence, image): &(u64, Vec<u8>)| {
                image::decode(image).ok().map(|(config, _)| (Box::new(config), *sequence))
            };
            active = images.iter().find_map(decoded);
        }
        match &active {
            Some((_, sequence)) if !notes.is_empty() => {
                notes.push(format!("configuration {sequence} is used"));
            }
            None if !notes.is_empty() => notes.push("no configuration can be used".to_owned()),
            _ => {}
        }
        Ok(Loaded { active, notes })
    }

    /// Stores a configuration as the active one; its sequence number. When it is the active one
    /// already, nothing is written. The oldest of the history goes.
    ///
    /// # Errors
    /// [`StoreError::Full`], [`StoreError::Corrupt`] or [`StoreError::Io`]; then the old
    /// configuration holds.
    pub fn save_config(&mut self, config: &Config) -> Result<u64, StoreError> {
        let images = self.images()?;
        let newest = images.first().map_or(0, |(sequence, _)| *sequence);
        if let Some((sequence, image)) = images.first()
            && *sequence >= self.head.config
            && !self.boot.leaves_aside(*sequence)
            && image.as_slice() == image::encode(config, *sequence).as_slice()
        {
            return Ok(*sequence);
        }
        self.mend_marks()?;
        // What ended early did so with another configuration; this one has a fresh start.
        self.settled()?;
        let sequence = newest.max(self.head.config) + 1;
        let slot = (sequence % u64::from(SLOTS)) as u8;
        self.put(KEY_CONFIG + slot, &image::encode(config, sequence))?;
        self.head.config = sequence;
        self.write_head()?;
        Ok(sequence)
    }

    /// What is stored, newest first; the first one without fault is the active one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn history(&mut self) -> Result<Vec<Entry>, StoreError> {
        let boot = self.boot;
        let entry = |(sequence, image): (u64, Vec<u8>)| Entry {
            sequence,
            bytes: image.len(),
            fault: match image::decode(&image) {
                Err(error) => Some(error.to_string()),
                Ok(_) if boot.leaves_aside(sequence) => Some(EARLY.to_owned()),
                Ok(_) => None,
            },
        };
        Ok(self.images()?.into_iter().map(entry).collect())
    }

    /// Stores the configuration `back` places before the active one anew, as the active one; 1 is
    /// the previous one. So rolling back by 1 twice leads back to the start.
    ///
    /// # Errors
    /// [`StoreError::NoSuch`] or [`StoreError::Image`], and those of [`Self::save_config`].
    pub fn rollback(&mut self, back: usize) -> Result<(Box<Config>, u64), StoreError> {
        let images = self.images()?;
        let active = images
            .iter()
            .position(|(sequence, image)| {
                !self.boot.leaves_aside(*sequence) && image::decode(image).is_ok()
            })
            .ok_or(StoreError::NoSuch { have: 0 })?;
        let earlier = images.get(active..).unwrap_or_default();
        let have = earlier.len().saturating_sub(1);
        let wanted = earlier.get(back).filter(|_| back > 0);
        let (_, image) = wanted.ok_or(StoreError::NoSuch { have })?;
        let (config, _) = image::decode(image).map_err(StoreError::Image)?;
        let config = Box::new(config);
        let sequence = self.save_config(&config)?;
        Ok((config, sequence))
    }

    /// The secrets.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`]. A damaged value is a note, not an error.
    pub fn load_secrets(&mut self) -> Result<LoadedSecrets, StoreError> {
        let mut notes = Vec::new();
        let found = self.fetch(KEY_SECRETS)?.and_then(|image| match secrets::decode(&image) {
            Ok(found) => Some(found),
            Err(error) => {
                notes.push(format!("the secrets are skipped: {error}"));
                None
            }
        });
        let (secrets, sequence) = found.unwrap_or_default();
        if sequence < self.head.secrets && notes.is_empty() {
            let what = if sequence == 0 { "are lost" } else { "have gone back to older ones" };
            notes.push(format!("the secrets are damaged on flash and {what}, set them again"));
        }
        Ok(LoadedSecrets { secrets: Box::new(secrets), notes })
    }

    /// Stores the secrets; their sequence number. When they are as stored, nothing is written.
    ///
    /// # Errors
    /// Those of [`Self::save_config`]; [`StoreError::Image`] when a newer release wrote those that
    /// are stored, which are then kept.
    pub fn save_secrets(&mut self, secrets: &Secrets) -> Result<u64, StoreError> {
        let mut newest = 0;
        if let Some(image) = self.fetch(KEY_SECRETS)? {
            match secrets::decode(&image) {
                Ok((stored, sequence)) if stored == *secrets && sequence >= self.head.secrets => {
                    return Ok(sequence);
                }
                Ok((_, sequence)) => newest = sequence,
                Err(error @ ImageError::Newer { .. }) => return Err(StoreError::Image(error)),
                Err(_) => {}
            }
        }
        self.mend_marks()?;
        let sequence = newest.max(self.head.secrets) + 1;
        self.put(KEY_SECRETS, &secrets::encode(secrets, sequence))?;
        self.head.secrets = sequence;
        self.write_head()?;
        Ok(sequence)
    }

    /// The plugin slots, as the plugin room wrote them; none were written: `None`.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn load_slots(&mut self) -> Result<Option<Vec<u8>>, StoreError> {
        self.fetch(KEY_SLOTS)
    }

    /// Stores the plugin slots, [`STORE_SLOTS_MAX_BYTES`] at most. Writes nothing when they are as
    /// stored.
    ///
    /// # Errors
    /// [`StoreError::TooBig`], [`StoreError::Full`], [`StoreError::Corrupt`] or [`StoreError::Io`];
    /// then the old ones hold.
    pub fn save_slots(&mut self, slots: &[u8]) -> Result<(), StoreError> {
        if slots.len() > STORE_SLOTS_MAX_BYTES {
            return Err(StoreError::TooBig);
        }
        if self.fetch(KEY_SLOTS)?.as_deref() == Some(slots) {
            return Ok(());
        }
        self.mend_marks()?;
        // As in `save_config`: what ended early did so with other plugins.
        self.settled()?;
        self.put(KEY_SLOTS, slots)
    }

    /// The newest values that can still be found when a load fails.
    pub fn salvage(&mut self) -> Salvage {
        let size = self.geometry.size;
        let nor = on!(&mut self.map, map => &mut map.flash().nor);
        salvage::scan(&mut |offset, buffer| {
            let length = buffer.len().min(size.saturating_sub(offset) as usize);
            nor.read(offset, buffer.get_mut(..length).unwrap_or_default())?;
            Ok(length)
        })
    }

    /// Whole images of any format, newest first.
    fn images(&mut self) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let mut images = Vec::new();
        for slot in 0..SLOTS {
            if let Some(image) = self.fetch(KEY_CONFIG + slot)?
                && let Ok(sequence) = image::sequence(&image)
            {
                images.push((sequence, image));
            }
        }
        images.sort_by_key(|(sequence, _)| core::cmp::Reverse(*sequence));
        Ok(images)
    }

    fn fetch(&mut self, key: u8) -> Result<Option<Vec<u8>>, StoreError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let value: Option<&[u8]> =
            on!(&mut self.map, map => ready(map.fetch_item(&mut buffer, &key)))?;
        Ok(value.map(<[u8]>::to_vec))
    }

    fn put(&mut self, key: u8, value: &[u8]) -> Result<(), StoreError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        on!(&mut self.map, map => ready(map.store_item(&mut buffer, &key, &value)))?;
        on!(&mut self.map, map => map.flash().nor.sync())?;
        Ok(())
    }

    /// Writes the marks that are not there (any more).
    fn mend_marks(&mut self) -> Result<(), StoreError> {
        for key in KEY_MARKS {
            if self.fetch(key)?.as_deref() != Some(&mark()) {
                self.put(key, &mark())?;
            }
        }
        Ok(())
    }

    fn write_head(&mut self) -> Result<(), StoreError> {
        let uncounted = self.erased_uncounted();
        self.head.pages_erased = self.head.pages_erased.saturating_add(uncounted);
        self.erased_counted = self.erased_counted.saturating_add(uncounted);
        let mut bytes = [0; 64];
        let used = image::seal(HEAD_FORMAT, 0, &self.head, &mut bytes).unwrap_or(0);
        self.put(KEY_HEAD, bytes.get(..used).unwrap_or_default())
    }

    fn condition(&mut self) -> Condition {
        on!(&mut self.map, map => map.flash().nor.condition())
    }

    fn erased_uncounted(&mut self) -> u32 {
        on!(&mut self.map, map => map.flash().erased).saturating_sub(self.erased_counted)
    }
}

/// Runs a future of the map. Its device never waits, so neither does this.
fn ready<F: Future>(future: F) -> F::Output {
    smol::block_on(future)
}

#[cfg(test)]
mod tests;
