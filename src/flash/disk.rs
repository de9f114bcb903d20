//! NOR flash played by sectors that can be written anew: a file, or a partition of a disk.
//!
//! It keeps the rules of NOR (erased is 0xff, programming only clears bits), so that what runs on
//! a disk runs on flash. The one thing a disk does not keep by itself is the order of writes: what
//! is not flushed yet may reach it in any order, or in part, when power goes. The map relies on
//! that order. So a write to another sector waits for those before it, and the last sector of an
//! erased block, which may hold the mark of a page, waits for the rest of the block.
//!
//! ```text
//!   head of an item, sector 7    write 7
//!   its body, sectors 7 and 8    flush, write 7, 8
//!   next item, sector 8          flush, write 8; write 8
//! ```
//!
//! Not in here: finding and opening the file ([`super::file`]).

use core::ops::Range;
use std::{fs::File, io, os::unix::fs::FileExt};

use super::nor::{Geometry, Nor, WORD_BYTES};

/// Bytes erased at once.
pub const ERASE_SIZE: u32 = 4096;
/// Smallest piece that a disk writes whole.
pub const SECTOR_BYTES: u32 = 512;

/// Sectors that can be written anew.
#[allow(clippy::missing_errors_doc)] // as the system says
pub trait Disk: Send {
    /// Reads at an offset in bytes.
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes at an offset in bytes; safe only after [`Disk::sync`].
    fn write(&mut self, offset: u32, data: &[u8]) -> io::Result<()>;
    /// Returns when all that was written survives a power cut.
    fn sync(&mut self) -> io::Result<()>;
}

impl Disk for File {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, u64::from(offset))
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, u64::from(offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The flash on a disk.
pub struct DiskNor {
    disk: Box<dyn Disk>,
    geometry: Geometry,
    /// Sectors written since the last flush; they may reach the disk in any order.
    unsafe_yet: Range<u32>,
}

impl core::fmt::Debug for DiskNor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("DiskNor").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl DiskNor {
    /// Flash of `size` bytes at the start of a disk.
    pub fn new(disk: Box<dyn Disk>, size: u32) -> Self {
        let geometry = Geometry { size, erase_size: ERASE_SIZE };
        Self { disk, geometry, unsafe_yet: 0..0 }
    }

    /// Writes after all that was written to other sectors.
    fn write(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(u32::try_from(data.len()).unwrap_or(u32::MAX));
        let sectors = offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES);
        let open = &self.unsafe_yet;
        // One sector keeps the order of what is written to it. A write that begins there but goes
        // on into others has to wait: its end could be safe before the head in front of it is.
        let follows = open.len() <= 1 && *open == sectors;
        if !open.is_empty() && !follows {
            self.sync()?;
        }
        self.unsafe_yet = sectors;
        self.disk.write(offset, data)
    }
}

impl Nor for DiskNor {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, buffer)
    }

    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        let end = u64::from(offset) + data.len() as u64;
        if !offset.is_multiple_of(WORD_BYTES) || end > u64::from(self.geometry.size) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "out of bounds"));
        }
        let mut before = vec![0; data.len()];
        self.read(offset, &mut before)?;
        if before.iter().zip(data).any(|(before, data)| data & !before != 0) {
            let message = "a bit can only be set by erasing";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        self.write(offset, data)
    }

    fn erase(&mut self, offset: u32) -> io::Result<()> {
        if !offset.is_multiple_of(ERASE_SIZE) || offset >= self.geometry.size {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "out of bounds"));
        }
        const LAST: u32 = ERASE_SIZE - SECTOR_BYTES;
        self.write(offset, &[0xff; LAST as usize])?;
        self.write(offset + LAST, &[0xff; SECTOR_BYTES as usize])
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.sync()?;
        self.unsafe_yet = 0..0;
        Ok(())
    }
}
