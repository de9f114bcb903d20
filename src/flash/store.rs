//! The store: a few keys in a wear-levelled map, each value whole or not there.
//!
//! ```text
//!   key     value
//!   0, 1    mark of the store: "edgeweir store\r\n" | version u16 LE | CRC-32 LE, twice
//!   2       head, framed: sequence numbers that were acknowledged, erased pages
//!   3       secrets (config::secrets)
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

pub use super::error::StoreError;
use super::{
    device,
    nor::{Condition, Geometry, Nor, Pages},
};
use crate::{
    config::{
        Config,
        image::{self, Frame, ImageError},
        secrets::{self, Secrets},
    },
    limits::CONFIG_HISTORY,
};

/// Version of the keys and of the page format underneath (`sequential-storage` 8).
pub const VERSION: u16 = 1;

const MAGIC: &[u8; 16] = b"edgeweir store\r\n";
const MARK_BYTES: usize = MAGIC.len() + 2 + 4;
const KEY_MARKS: [u8; 2] = [0, 1];
const KEY_HEAD: u8 = 2;
const KEY_SECRETS: u8 = 3;
const KEY_CONFIG: u8 = 16;
/// The active configuration and those before it.
const SLOTS: u8 = CONFIG_HISTORY as u8 + 1;
/// Items carry a 16-bit length, so every item of any release fits, key included.
const BUFFER_BYTES: usize = 64 * 1024;
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

/// Size, wear and content of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Info {
    /// Version of the store.
    pub version: u16,
    /// Bytes in all.
    pub size: u32,
    /// Bytes that the device erases at once.
    pub erase_size: u32,
    /// Bytes of a logical page.
    pub page_size: u32,
    /// Logical pages.
    pub pages: u32,
    /// Bytes of the values that are stored now.
    pub used: u32,
    /// Configurations stored, the active one included.
    pub configs: usize,
    /// Highest sequence number of a configuration; 0: none.
    pub config_sequence: u64,
    /// Pages erased since the store was made, all together; those of the last moments before a
    /// power cut are not counted.
    pub pages_erased: u32,
    /// Blocks of the device that were locked when it was opened.
    pub locked_found: u32,
    /// Blocks that stay locked: writing there fails.
    pub locked: u32,
    /// Blocks marked bad, by number.
    pub bad_blocks: Vec<u32>,
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
        Ok(Self { map, geometry, head: Head::default(), erased_counted: 0 })
    }

    /// The newest whole configuration.
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
            match image::decode(image) {
                Ok((config, _)) => {
                    active = Some((Box::new(config), *sequence));
                    break;
                }
                Err(error) => notes.push(format!("configuration {sequence} is skipped: {error}")),
            }
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
            && image.as_slice() == image::encode(config, *sequence).as_slice()
        {
            return Ok(*sequence);
        }
        self.mend_marks()?;
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
        let entry = |(sequence, image): (u64, Vec<u8>)| Entry {
            sequence,
            bytes: image.len(),
            fault: image::decode(&image).err().map(|error| error.to_string()),
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
            .position(|(_, image)| image::decode(image).is_ok())
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

    /// Size, wear and content.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn info(&mut self) -> Result<Info, StoreError> {
        let images = self.images()?;
        let page_size = self.geometry.page_size()?;
        let Condition { bad_blocks, locked_found, locked } =
            on!(&mut self.map, map => map.flash().nor.condition());
        let mut used: usize = images.iter().map(|(_, image)| image.len()).sum();
        for key in [KEY_MARKS[0], KEY_MARKS[1], KEY_HEAD, KEY_SECRETS] {
            used += self.fetch(key)?.map_or(0, |value| value.len());
        }
        Ok(Info {
            version: VERSION,
            size: self.geometry.size,
            erase_size: self.geometry.erase_size,
            page_size,
            pages: self.geometry.size / page_size,
            used: u32::try_from(used).unwrap_or(u32::MAX),
            configs: images.len(),
            config_sequence: images.first().map_or(0, |(sequence, _)| *sequence),
            pages_erased: self.head.pages_erased.saturating_add(self.erased_uncounted()),
            locked_found,
            locked,
            bad_blocks,
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

    fn erased_uncounted(&mut self) -> u32 {
        on!(&mut self.map, map => map.flash().erased).saturating_sub(self.erased_counted)
    }
}

/// Runs a future of the map. Its device never waits, so neither does this.
fn ready<F: Future>(future: F) -> F::Output {
    smol::block_on(future)
}

fn mark() -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    let (body, crc) = mark.split_at_mut(MARK_BYTES - 4);
    body[..MAGIC.len()].copy_from_slice(MAGIC);
    body[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    crc.copy_from_slice(&image::crc32(body).to_le_bytes());
    mark
}

/// Version of the store on a device, by its mark wherever the map has moved it.
pub(super) fn find_mark(nor: &mut dyn Nor) -> Result<Option<u16>, StoreError> {
    const STEP: usize = 16 * 1024;
    let size = nor.geometry().size as usize;
    let mut window = vec![0; STEP + MARK_BYTES];
    for start in (0..size).step_by(STEP) {
        let length = window.len().min(size - start);
        let part = window.get_mut(..length).unwrap_or_default();
        nor.read(start as u32, part)?;
        let mut rest: &[u8] = part;
        while let Some(at) = rest.iter().position(|byte| *byte == MAGIC[0]) {
            rest = rest.get(at..).unwrap_or_default();
            if let Some(version) = mark_version(rest) {
                return Ok(Some(version));
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    Ok(None)
}

/// The version of a mark that begins here.
fn mark_version(bytes: &[u8]) -> Option<u16> {
    let (mark, _) = bytes.split_first_chunk::<MARK_BYTES>()?;
    let (body, crc) = mark.split_last_chunk::<4>()?;
    let (magic, version) = body.split_last_chunk::<2>()?;
    let whole = magic == MAGIC && image::crc32(body).to_le_bytes() == *crc;
    whole.then_some(u16::from_le_bytes(*version))
}

#[cfg(test)]
mod tests;
