//! What `edgeweir flash info` tells of a store.

use serde::Serialize;

use super::{KEY_BOOT, KEY_HEAD, KEY_MARKS, KEY_SECRETS, KEY_SLOTS, Store, StoreError, VERSION};
use crate::{config::image, flash::nor::Condition};

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
    /// What is stored, with formats and sequence numbers, one line for people each.
    pub stored: Vec<String>,
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

impl Store {
    /// Size, wear and content.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] or [`StoreError::Io`].
    pub fn info(&mut self) -> Result<Info, StoreError> {
        let images = self.images()?;
        let page_size = self.geometry.page_size()?;
        let Condition { bad_blocks, locked_found, locked } = self.condition();
        let mut used: usize = images.iter().map(|(_, image)| image.len()).sum();
        let mut stored: Vec<String> =
            images.iter().map(|(_, image)| line("configuration", image)).collect();
        for (key, name) in
            [(KEY_SECRETS, "secrets"), (KEY_BOOT, "early starts"), (KEY_SLOTS, "plugin slots")]
        {
            stored.extend(self.fetch(key)?.map(|image| line(name, &image)));
        }
        for key in [KEY_MARKS[0], KEY_MARKS[1], KEY_HEAD, KEY_SECRETS, KEY_BOOT, KEY_SLOTS] {
            used += self.fetch(key)?.map_or(0, |value| value.len());
        }
        Ok(Info {
            version: VERSION,
            size: self.geometry.size,
            erase_size: self.geometry.erase_size,
            page_size,
            pages: self.geometry.size / page_size,
            used: u32::try_from(used).unwrap_or(u32::MAX),
            stored,
            configs: images.len(),
            config_sequence: images.first().map_or(0, |(sequence, _)| *sequence),
            pages_erased: self.head.pages_erased.saturating_add(self.erased_uncounted()),
            locked_found,
            locked,
            bad_blocks,
        })
    }
}

/// Name, number, format and size of a framed value.
fn line(name: &str, image: &[u8]) -> String {
    let bytes = image.len();
    match image::Frame::open(image) {
        Ok(frame) if frame.sequence > 0 => {
            format!("{name} {}, format {}, {bytes} bytes", frame.sequence, frame.format())
        }
        Ok(frame) => format!("{name}, format {}, {bytes} bytes", frame.format()),
        Err(error) => format!("{name}, {bytes} bytes: {error}"),
    }
}
