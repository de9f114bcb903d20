//! A NOR flash in memory that only clears bits, and dies when told to: for tests of power loss.
//!
//! The handle can be cloned, so that a test still holds the flash that a store has taken. Blocks may
//! wear out: [`SimNor::wear_out`].

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    disk::Disk,
    nor::{Geometry, Nor, WORD_BYTES},
};

/// The simulated flash.
#[derive(Clone, Debug)]
pub struct SimNor(Arc<Mutex<Chip>>);

#[derive(Debug)]
struct Chip {
    geometry: Geometry,
    bytes: Vec<u8>,
    /// Words programmed and blocks erased so far.
    steps: u64,
    /// The step at which power goes.
    dies_at: Option<u64>,
    /// Erasures of each block.
    wear: Vec<u32>,
    /// A block that takes no change any more.
    worn: Option<u32>,
}

impl SimNor {
    /// An erased flash.
    pub fn new(geometry: Geometry) -> Self {
        Self::with_bytes(geometry, vec![0xff; geometry.size as usize])
    }

    /// A flash that holds these bytes, as if power had come back.
    pub fn with_bytes(geometry: Geometry, bytes: Vec<u8>) -> Self {
        let blocks = geometry.size.checked_div(geometry.erase_size).unwrap_or(0);
        let wear = vec![0; blocks as usize];
        Self(Arc::new(Mutex::new(Chip {
            geometry,
            bytes,
            steps: 0,
            dies_at: None,
            wear,
            worn: None,
        })))
    }

    /// What is on the flash.
    pub fn bytes(&self) -> Vec<u8> {
        self.chip().bytes.clone()
    }

    /// Words programmed and blocks erased so far.
    pub fn steps(&self) -> u64 {
        self.chip().steps
    }

    /// How often each block was erased.
    pub fn wear(&self) -> Vec<u32> {
        self.chip().wear.clone()
    }

    /// Power goes in the middle of the step after `steps` more of them: that step is half done,
    /// and everything after it fails.
    pub fn dies_after(&self, steps: u64) {
        let mut chip = self.chip();
        chip.dies_at = Some(chip.steps + steps);
    }

    /// From now on this block fails whenever it is programmed or erased.
    pub fn wear_out(&self, block: u32) {
        self.chip().worn = Some(block);
    }

    fn chip(&self) -> MutexGuard<'_, Chip> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chip {
    /// Counts a step; `Ok(true)` when power goes in the middle of it.
    fn step(&mut self) -> io::Result<bool> {
        match self.dies_at {
            Some(at) if self.steps > at => Err(io::Error::other("no power")),
            at => {
                self.steps += 1;
                Ok(at == Some(self.steps - 1))
            }
        }
    }

    fn check_worn(&self, offset: u32) -> io::Result<()> {
        match self.worn {
            Some(block)
                if self.geometry.erase_size.checked_mul(block).is_some_and(|start| {
                    (start..start.saturating_add(self.geometry.erase_size)).contains(&offset)
                }) =>
            {
                Err(io::Error::other(format!("block {block} is worn out")))
            }
            _ => Ok(()),
        }
    }

    fn part(&mut self, offset: u32, length: usize) -> io::Result<&mut [u8]> {
        let start = offset as usize;
        let end = start.saturating_add(length);
        self.bytes.get_mut(start..end).ok_or_else(|| io::Error::other("out of bounds"))
    }
}

fn no_power<T>() -> io::Result<T> {
    Err(io::Error::other("no power"))
}

impl Nor for SimNor {
    fn geometry(&self) -> Geometry {
        self.chip().geometry
    }

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        let mut chip = self.chip();
        if chip.dies_at.is_some_and(|at| chip.steps > at) {
            return no_power();
        }
        buffer.copy_from_slice(chip.part(offset, buffer.len())?);
        Ok(())
    }

    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        let mut chip = self.chip();
        let word = WORD_BYTES as usize;
        if !offset.is_multiple_of(WORD_BYTES) || !data.len().is_multiple_of(word) {
            return Err(io::Error::other("not a whole word"));
        }
        chip.check_worn(offset)?;
        for (at, word_data) in data.chunks(word).enumerate() {
            let dies = chip.step()?;
            // A torn word: some of its bits are cleared, by a pattern that changes with the place.
            let keep = if dies { 0x5au8.rotate_left((chip.steps % 8) as u32) } else { 0 };
            let place = offset + (at * word) as u32;
            for (byte, new) in chip.part(place, word_data.len())?.iter_mut().zip(word_data) {
                if *new & !*byte != 0 {
                    return Err(io::Error::other("a bit can only be set by erasing"));
                }
                *byte &= *new | keep;
            }
            if dies {
                return no_power();
            }
        }
        Ok(())
    }

    fn erase(&mut self, offset: u32) -> io::Result<()> {
        let mut chip = self.chip();
        let length = chip.geometry.erase_size;
        if !offset.is_multiple_of(length) {
            return Err(io::Error::other("not a whole block"));
        }
        chip.check_worn(offset)?;
        let dies = chip.step()?;
        let odd = chip.steps % 2;
        let block = chip.part(offset, length as usize)?;
        if dies {
            // Half erased: one half of the block, or every other byte of it.
            let half = block.len() / 2;
            match odd {
                0 => block.iter_mut().take(half).for_each(|byte| *byte = 0xff),
                _ => block.iter_mut().step_by(2).for_each(|byte| *byte = 0xff),
            }
            return no_power();
        }
        block.fill(0xff);
        if let Some(wear) = chip.wear.get_mut((offset / length) as usize) {
            *wear += 1;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk in memory that remembers every write and flush, so that a test can make the states that a
/// power cut may leave: what was flushed is there, what was not is there in any part.
#[derive(Clone, Debug, Default)]
pub struct LoggedDisk(Arc<Mutex<Logged>>);

#[derive(Debug, Default)]
struct Logged {
    bytes: Vec<u8>,
    log: Vec<DiskStep>,
}

/// What was done to a [`LoggedDisk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskStep {
    /// These bytes were written at this offset.
    Write(u32, Vec<u8>),
    /// All before this is safe.
    Flush,
}

impl LoggedDisk {
    /// A disk that holds these bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Logged { bytes, log: Vec::new() })))
    }

    /// What is on the disk.
    pub fn bytes(&self) -> Vec<u8> {
        self.logged().bytes.clone()
    }

    /// What was done to it, oldest first.
    pub fn log(&self) -> Vec<DiskStep> {
        self.logged().log.clone()
    }

    fn logged(&self) -> MutexGuard<'_, Logged> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for LoggedDisk {
    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        let logged = self.logged();
        let start = offset as usize;
        let part = logged.bytes.get(start..start.saturating_add(buffer.len()));
        buffer.copy_from_slice(part.ok_or_else(|| io::Error::other("out of bounds"))?);
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        let mut logged = self.logged();
        let start = offset as usize;
        let part = logged.bytes.get_mut(start..start.saturating_add(data.len()));
        part.ok_or_else(|| io::Error::other("out of bounds"))?.copy_from_slice(data);
        logged.log.push(DiskStep::Write(offset, data.to_vec()));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.logged().log.push(DiskStep::Flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Geometry = Geometry { size: 8192, erase_size: 4096 };

    #[test]
    fn programming_clears_bits_and_only_erasing_sets_them() {
        let mut nor = SimNor::new(SMALL);
        nor.program(4, &[0xf0; 4]).unwrap();
        nor.program(4, &[0x30; 4]).unwrap();
        assert!(nor.program(4, &[0x3f; 4]).is_err());
        assert!(nor.program(2, &[0; 4]).is_err() && nor.program(8192, &[0; 4]).is_err());
        nor.erase(0).unwrap();
        let mut word = [0; 4];
        nor.read(4, &mut word).unwrap();
        assert_eq!(word, [0xff; 4]);
        assert_eq!(nor.wear(), [1, 0]);
    }

    #[test]
    fn a_step_is_half_done_when_power_goes() {
        let mut nor = SimNor::new(SMALL);
        nor.dies_after(1);
        assert!(nor.program(0, &[0; 12]).is_err());
        assert!(nor.erase(0).is_err() && nor.read(0, &mut [0]).is_err());
        let bytes = nor.bytes();
        assert_eq!(bytes[..4], [0; 4]);
        assert!(bytes[4] != 0 && bytes[4] != 0xff);
        assert_eq!(bytes[8], 0xff);
    }
}
