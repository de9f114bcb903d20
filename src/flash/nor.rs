//! What a NOR flash is for us, and its face toward `sequential-storage`.
//!
//! A device tells its geometry when it is opened; `sequential-storage` wants the page size as a
//! constant. `Pages` joins the two: one logical page is a whole number of erase blocks.
//!
//! ```text
//!   erase block    4 KiB   64 KiB   128 KiB   256 KiB    others are refused
//!   logical page  64 KiB   64 KiB   128 KiB   256 KiB
//! ```
//!
//! An item must fit a page, and the largest configuration has 28 KiB: hence no page below 64 KiB.
//! All calls block; the room's handle ([`super::Flash`]) keeps them off the reactor. Not in here:
//! what is stored, and power loss, which the store and its tests deal with.

use core::fmt;
use std::io;

use embedded_storage_async::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use super::store::StoreError;
use crate::limits::{STORE_MAX_BYTES, STORE_MIN_BYTES};

/// Bytes that are programmed at once. Every device with words of 1, 2 or 4 bytes can do it.
pub const WORD_BYTES: u32 = 4;
const KIB: u32 = 1024;

/// Layout of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes in all.
    pub size: u32,
    /// Bytes that are erased at once.
    pub erase_size: u32,
}

impl Geometry {
    /// Bytes of a logical page.
    ///
    /// # Errors
    /// [`StoreError::Geometry`] when the erase size is unknown, or the size is no whole number of
    /// pages or out of bounds.
    pub fn page_size(&self) -> Result<u32, StoreError> {
        let page = self.page_bytes()?;
        if !(STORE_MIN_BYTES..=STORE_MAX_BYTES).contains(&self.size)
            || !self.size.is_multiple_of(page)
        {
            return Err(StoreError::Geometry(format!(
                "{} bytes, a store has {} KiB to {} KiB in steps of {} KiB",
                self.size,
                STORE_MIN_BYTES / KIB,
                STORE_MAX_BYTES / KIB,
                page / KIB
            )));
        }
        Ok(page)
    }

    /// The same, whatever the size is.
    ///
    /// # Errors
    /// [`StoreError::Geometry`] when the erase size is unknown.
    pub fn page_bytes(&self) -> Result<u32, StoreError> {
        let page = match self.erase_size / KIB {
            4 | 64 => 64 * KIB,
            128 => 128 * KIB,
            256 => 256 * KIB,
            _ => 0,
        };
        if page == 0 || !self.erase_size.is_multiple_of(KIB) {
            return Err(StoreError::Geometry(format!(
                "erase blocks of {} bytes, known are 4, 64, 128 and 256 KiB",
                self.erase_size
            )));
        }
        Ok(page)
    }
}

/// What is known of a device beside its layout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Blocks marked bad, by number.
    pub bad_blocks: Vec<u32>,
    /// Blocks that were locked when the device was opened.
    pub locked_found: u32,
    /// Blocks that are locked still: writing there will fail.
    pub locked: u32,
}

/// A NOR flash device. Erasing sets all bits of a block, programming only clears bits.
pub trait Nor: Send {
    /// Its layout.
    fn geometry(&self) -> Geometry;

    /// Bad and locked blocks; none where there is no such thing.
    fn condition(&self) -> Condition {
        Condition::default()
    }

    /// Reads bytes at any offset.
    ///
    /// # Errors
    /// When the device fails.
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()>;

    /// Clears bits, so that what stood there AND `data` stands there; offset and length are
    /// multiples of [`WORD_BYTES`].
    ///
    /// # Errors
    /// When the device fails, or a bit would have to be set.
    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()>;

    /// Erases the block that starts at `offset`.
    ///
    /// # Errors
    /// When the device fails.
    fn erase(&mut self, offset: u32) -> io::Result<()>;

    /// Returns when all that was written survives a power cut.
    ///
    /// # Errors
    /// When the device fails.
    fn sync(&mut self) -> io::Result<()>;
}

/// A device as `sequential-storage` sees it, in logical pages.
pub(super) struct Pages<const PAGE: usize> {
    pub(super) nor: Box<dyn Nor>,
    /// Logical pages erased since the store was opened.
    pub(super) erased: u32,
}

impl<const PAGE: usize> Pages<PAGE> {
    fn is_blank(&mut self, page: u32) -> Result<bool, DeviceError> {
        let mut part = [0; 4096];
        for offset in (page..).step_by(part.len()).take(PAGE / part.len()) {
            self.nor.read(offset, &mut part).map_err(DeviceError)?;
            if part.iter().any(|byte| *byte != 0xff) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// An error of the device.
#[derive(Debug)]
pub(super) struct DeviceError(pub(super) io::Error);

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl NorFlashError for DeviceError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<const PAGE: usize> ErrorType for Pages<PAGE> {
    type Error = DeviceError;
}

impl<const PAGE: usize> ReadNorFlash for Pages<PAGE> {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), DeviceError> {
        self.nor.read(offset, bytes).map_err(DeviceError)
    }

    fn capacity(&self) -> usize {
        usize::try_from(self.nor.geometry().size).unwrap_or(usize::MAX)
    }
}

impl<const PAGE: usize> NorFlash for Pages<PAGE> {
    const WRITE_SIZE: usize = WORD_BYTES as usize;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), DeviceError> {
        // What was moved off these pages must be safe before they go.
        self.nor.sync().map_err(DeviceError)?;
        let block = self.nor.geometry().erase_size.max(1);
        let mut offset = from;
        while offset < to {
            self.nor.erase(offset).map_err(DeviceError)?;
            offset = offset.saturating_add(block);
        }
        let pages = u32::try_from(u64::from(to.saturating_sub(from)) / PAGE as u64);
        self.erased = self.erased.saturating_add(pages.unwrap_or(0));
        self.nor.sync().map_err(DeviceError)
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), DeviceError> {
        // The first word of a page is written when the page, blank by its marks, is taken into use.
        // A power cut may have left its middle half erased, where writing would fail for ever.
        if (offset as usize).is_multiple_of(PAGE) && !self.is_blank(offset)? {
            self.erase(offset, offset.saturating_add(PAGE as u32)).await?;
        }
        self.nor.program(offset, bytes).map_err(DeviceError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_erase_sizes_have_a_page_and_others_are_refused() {
        let page = |erase_size| Geometry { size: 1 << 20, erase_size }.page_size().ok();
        assert_eq!(page(4 << 10), Some(64 << 10));
        assert_eq!(page(64 << 10), Some(64 << 10));
        assert_eq!(page(128 << 10), Some(128 << 10));
        assert_eq!(page(256 << 10), Some(256 << 10));
        for odd in [0, 512, 4097, 8 << 10, 512 << 10] {
            assert_eq!(page(odd), None, "{odd}");
        }
    }

    #[test]
    fn sizes_are_whole_pages_within_bounds() {
        let fits = |size| Geometry { size, erase_size: 4096 }.page_size().is_ok();
        assert!(fits(512 << 10) && fits(64 << 20));
        assert!(!fits(448 << 10) && !fits((64 << 20) + (64 << 10)) && !fits((1 << 20) + 4096));
    }
}
