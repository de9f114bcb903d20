//! A NOR chip behind the kernel's MTD character device, `/dev/mtdN`.
//!
//! Geometry is what the device says. Chips that wake up locked are unlocked when they are opened.
//! Whatever is programmed or erased is read back: a worn sector is an error at once and not a
//! surprise at the next boot. Not in here: the ioctls (`ioctl.rs`) and whether the device may
//! be used at all ([`super::device`]).

use std::io;

use super::{
    nor::{Condition, Geometry, Nor, WORD_BYTES},
    store::StoreError,
};

/// Types of `mtd-abi.h` that can be a store: RAM that plays flash, and NOR.
const MTD_RAM: u8 = 1;
const MTD_NOR: u8 = 3;
const MTD_NAND: u8 = 4;
const MTD_MLC_NAND: u8 = 8;
const MTD_UBI_VOLUME: u8 = 7;
/// Flags of `mtd-abi.h`.
const MTD_WRITEABLE: u32 = 0x400;
const MTD_BIT_WRITEABLE: u32 = 0x800;

/// What the kernel says of an MTD.
#[derive(Clone, Copy, Debug, Default)]
pub struct MtdInfo {
    /// Type number of `mtd-abi.h`.
    pub kind: u8,
    /// Flags of `mtd-abi.h`.
    pub flags: u32,
    /// Bytes in all.
    pub size: u32,
    /// Bytes erased at once.
    pub erase_size: u32,
    /// Bytes programmed at once.
    pub write_size: u32,
}

/// The calls on an MTD: a device, or a double in tests.
///
/// Offsets and lengths are in bytes. Every call fails as the driver says; a driver without a call
/// says `EOPNOTSUPP`.
#[allow(clippy::missing_errors_doc)]
pub trait MtdCalls: Send {
    /// Type, size, erase size.
    fn info(&self) -> io::Result<MtdInfo>;
    /// Whether the block at this offset is marked bad.
    fn is_bad(&self, offset: u32) -> io::Result<bool>;
    /// Whether the block at this offset is locked.
    fn is_locked(&self, offset: u32, length: u32) -> io::Result<bool>;
    /// Unlocks blocks.
    fn unlock(&self, offset: u32, length: u32) -> io::Result<()>;
    /// Erases blocks.
    fn erase(&self, offset: u32, length: u32) -> io::Result<()>;
    /// Reads.
    fn read(&self, offset: u32, buffer: &mut [u8]) -> io::Result<()>;
    /// Programs.
    fn write(&self, offset: u32, data: &[u8]) -> io::Result<()>;
}

/// The chip.
pub struct MtdNor<D> {
    device: D,
    geometry: Geometry,
    condition: Condition,
}

impl<D: MtdCalls> MtdNor<D> {
    /// Takes a device that is open for reading and writing, and unlocks it.
    ///
    /// # Errors
    /// [`StoreError::Geometry`] for what is no NOR, has blocks of an unknown size, a size out of
    /// bounds, or bad blocks; [`StoreError::Io`] when it does not answer.
    pub fn new(device: D) -> Result<Self, StoreError> {
        let info = device.info()?;
        usable(&info)?;
        let mut geometry = Geometry { size: info.size, erase_size: info.erase_size };
        // Blocks behind the last whole page stay unused.
        geometry.size -= geometry.size.checked_rem(geometry.page_bytes()?).unwrap_or(0);
        geometry.page_size()?;
        let mut nor = Self { device, geometry, condition: Condition::default() };
        nor.look()?;
        if let [first, ..] = nor.condition.bad_blocks.as_slice() {
            return Err(StoreError::Geometry(format!(
                "{} bad blocks, the first is block {first}; a store needs a partition without any",
                nor.condition.bad_blocks.len()
            )));
        }
        nor.unlock();
        Ok(nor)
    }

    fn blocks(&self) -> impl Iterator<Item = (u32, u32)> + use<D> {
        (0..self.geometry.size).step_by(self.geometry.erase_size.max(1) as usize).zip(0..)
    }

    fn look(&mut self) -> Result<(), StoreError> {
        for (offset, number) in self.blocks() {
            match self.device.is_bad(offset) {
                Ok(true) => self.condition.bad_blocks.push(number),
                Ok(false) => {}
                Err(error) if unsupported(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.condition.locked_found = self.locked();
        Ok(())
    }

    /// Locked blocks; 0 where the driver does not tell.
    fn locked(&self) -> u32 {
        let size = self.geometry.erase_size;
        let locked = |offset| self.device.is_locked(offset, size).unwrap_or(false);
        self.blocks().filter(|(offset, _)| locked(*offset)).fold(0, |count, _| count + 1)
    }

    fn unlock(&mut self) {
        if self.device.unlock(0, self.geometry.size).is_err() {
            // Some drivers take one block at a time, and some chips have no locks at all: whether
            // it worked shows below, or with the first write.
            for (offset, _) in self.blocks() {
                if self.device.unlock(offset, self.geometry.erase_size).is_err() {
                    break;
                }
            }
        }
        self.condition.locked = match self.condition.locked_found {
            0 => 0,
            _ => self.locked(),
        };
    }

    fn whole(&self, offset: u32, length: usize) -> io::Result<()> {
        let end = u64::from(offset) + length as u64;
        let word = u64::from(WORD_BYTES);
        let inside = end <= u64::from(self.geometry.size);
        if inside && u64::from(offset).is_multiple_of(word) && end.is_multiple_of(word) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "out of bounds"))
    }
}

fn unsupported(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL))
}

fn usable(info: &MtdInfo) -> Result<(), StoreError> {
    let refuse = |what: String| Err(StoreError::Geometry(what));
    match info.kind {
        MTD_RAM | MTD_NOR => {}
        MTD_NAND | MTD_MLC_NAND => {
            return refuse("NAND; put UBI and UBIFS on it and keep the store in a file".to_owned());
        }
        MTD_UBI_VOLUME => {
            return refuse("a UBI volume; put UBIFS on it and keep the store in a file".to_owned());
        }
        other => return refuse(format!("an MTD of type {other}, a store needs NOR (type 3)")),
    }
    if info.flags & MTD_WRITEABLE == 0 {
        return refuse("the partition is read-only, take away `ro` in its definition".to_owned());
    }
    if info.flags & MTD_BIT_WRITEABLE == 0
        || info.write_size == 0
        || !WORD_BYTES.is_multiple_of(info.write_size)
    {
        return refuse(format!(
            "it programs {} bytes at once, a store needs a chip that programs words of 1, 2 or 4",
            info.write_size
        ));
    }
    Ok(())
}

impl<D: MtdCalls> Nor for MtdNor<D> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn condition(&self) -> Condition {
        self.condition.clone()
    }

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.device.read(offset, buffer)
    }

    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        self.whole(offset, data.len())?;
        self.device.write(offset, data)?;
        let mut written = vec![0; data.len()];
        self.device.read(offset, &mut written)?;
        if written == data {
            return Ok(());
        }
        Err(worn(offset / self.geometry.erase_size.max(1), "did not take what was written"))
    }

    fn erase(&mut self, offset: u32) -> io::Result<()> {
        let size = self.geometry.erase_size;
        if !offset.is_multiple_of(size.max(1)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a whole block"));
        }
        self.whole(offset, size as usize)?;
        self.device.erase(offset, size)?;
        let mut part = [0; 4096];
        for at in (offset..offset + size).step_by(part.len()) {
            self.device.read(at, &mut part)?;
            if part.iter().any(|byte| *byte != 0xff) {
                return Err(worn(offset / size.max(1), "is not blank after erasing"));
            }
        }
        Ok(())
    }

    /// The driver returns when the chip is done.
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn worn(block: u32, what: &str) -> io::Error {
    io::Error::other(format!("block {block} {what}: it is worn out or locked"))
}

#[cfg(test)]
mod tests;
