//! MTD devices that are well, locked, worn, bad, or no NOR, as doubles.

use std::{collections::HashSet, sync::Mutex};

use super::*;
use crate::flash::store::Store;

/// A chip and its driver.
struct Chip {
    info: MtdInfo,
    bytes: Mutex<Vec<u8>>,
    locked: Mutex<HashSet<u32>>,
    bad: HashSet<u32>,
    /// Blocks whose bits do not change any more.
    stuck: HashSet<u32>,
    /// Unlocks one block at a time, as some drivers do.
    piecewise: bool,
    never_unlocks: bool,
}

fn chip(erase_size: u32) -> Chip {
    Chip {
        info: MtdInfo {
            kind: MTD_NOR,
            flags: MTD_WRITEABLE | MTD_BIT_WRITEABLE,
            size: 1 << 20,
            erase_size,
            write_size: 1,
        },
        bytes: Mutex::new(vec![0xff; 1 << 20]),
        locked: Mutex::default(),
        bad: HashSet::new(),
        stuck: HashSet::new(),
        piecewise: false,
        never_unlocks: false,
    }
}

impl Chip {
    fn block(&self, offset: u32) -> u32 {
        offset / self.info.erase_size
    }

    fn changeable(&self, offset: u32) -> io::Result<bool> {
        if self.locked.lock().unwrap().contains(&self.block(offset)) {
            return Err(io::Error::from_raw_os_error(libc::EROFS));
        }
        Ok(!self.stuck.contains(&self.block(offset)))
    }
}

impl MtdCalls for Chip {
    fn info(&self) -> io::Result<MtdInfo> {
        Ok(self.info)
    }
    fn is_bad(&self, offset: u32) -> io::Result<bool> {
        Ok(self.bad.contains(&self.block(offset)))
    }
    fn is_locked(&self, offset: u32, _: u32) -> io::Result<bool> {
        Ok(self.locked.lock().unwrap().contains(&self.block(offset)))
    }
    fn unlock(&self, offset: u32, length: u32) -> io::Result<()> {
        if self.never_unlocks || (self.piecewise && length > self.info.erase_size) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let range = self.block(offset)..self.block(offset + length);
        self.locked.lock().unwrap().retain(|block| !range.contains(block));
        Ok(())
    }
    fn erase(&self, offset: u32, length: u32) -> io::Result<()> {
        if self.changeable(offset)? {
            let range = offset as usize..(offset + length) as usize;
            self.bytes.lock().unwrap()[range].fill(0xff);
        }
        Ok(())
    }
    fn read(&self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }
    fn write(&self, offset: u32, data: &[u8]) -> io::Result<()> {
        if self.changeable(offset)? {
            let mut bytes = self.bytes.lock().unwrap();
            for (byte, new) in bytes[offset as usize..].iter_mut().zip(data) {
                *byte &= new;
            }
        }
        Ok(())
    }
}

fn refused(chip: Chip) -> String {
    match MtdNor::new(chip) {
        Err(StoreError::Geometry(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("taken"),
    }
}

#[test]
fn a_store_lives_on_a_chip_of_every_known_erase_size() {
    for kib in [4, 64, 128, 256] {
        let nor = MtdNor::new(chip(kib << 10)).unwrap();
        assert_eq!(nor.geometry(), Geometry { size: 1 << 20, erase_size: kib << 10 });
        let mut store = Store::format(Box::new(nor)).unwrap();
        for sessions in 1..=20 {
            let mut config = crate::config::Config::default();
            config.limits.sessions = sessions;
            store.save_config(&config).unwrap();
        }
        assert_eq!(store.load_config().unwrap().active.unwrap().0.limits.sessions, 20);
    }
}

#[test]
fn erase_blocks_of_another_size_are_refused_by_name() {
    assert!(refused(chip(32 << 10)).contains("erase blocks of 32768 bytes, known are 4, 64, 128"));
}

#[test]
fn what_is_no_nor_is_refused_with_the_way_out() {
    let with = |change: fn(&mut MtdInfo)| {
        let mut chip = chip(64 << 10);
        change(&mut chip.info);
        refused(chip)
    };
    assert!(with(|info| info.kind = MTD_NAND).contains("UBIFS"));
    assert!(with(|info| info.kind = MTD_UBI_VOLUME).contains("UBIFS"));
    assert!(with(|info| info.kind = 6).contains("type 6"));
    assert!(with(|info| info.flags = MTD_BIT_WRITEABLE).contains("read-only"));
    assert!(with(|info| info.flags = MTD_WRITEABLE).contains("1, 2 or 4"));
    assert!(with(|info| info.write_size = 32).contains("32 bytes at once"));
    assert!(with(|info| info.size = 256 << 10).contains("512 KiB"));
    assert!(with(|info| info.size = 128 << 20).contains("65536 KiB"));
}

#[test]
fn blocks_behind_the_last_whole_page_stay_unused() {
    let mut odd = chip(4 << 10);
    odd.info.size = (1 << 20) - 4096;
    assert_eq!(MtdNor::new(odd).unwrap().geometry().size, (1 << 20) - (64 << 10));
}

#[test]
fn bad_blocks_are_reported_by_number() {
    let mut chip = chip(64 << 10);
    chip.bad = [3, 7].into();
    assert!(refused(chip).contains("2 bad blocks, the first is block"));
}

#[test]
fn a_chip_that_wakes_up_locked_is_unlocked_and_says_so() {
    for piecewise in [false, true] {
        let mut locked = chip(64 << 10);
        *locked.locked.lock().unwrap() = (0..16).collect();
        locked.piecewise = piecewise;
        let mut nor = MtdNor::new(locked).unwrap();
        assert_eq!((nor.condition().locked_found, nor.condition().locked), (16, 0));
        nor.program(0, &[0; 4]).unwrap();
    }
}

#[test]
fn a_sector_that_stays_locked_or_is_worn_fails_the_write_at_once() {
    let mut locked = chip(64 << 10);
    *locked.locked.lock().unwrap() = [0].into();
    locked.never_unlocks = true;
    let mut nor = MtdNor::new(locked).unwrap();
    assert_eq!(nor.condition().locked, 1);
    assert!(nor.program(0, &[0; 4]).is_err() && nor.erase(0).is_err());
    let mut stuck = chip(64 << 10);
    stuck.stuck = [1].into();
    stuck.bytes.lock().unwrap()[0x1_0100] = 0x7f;
    let mut nor = MtdNor::new(stuck).unwrap();
    let told = nor.program(0x1_0000, &[0; 4]).unwrap_err().to_string();
    assert!(told.contains("block 1 did not take") && told.contains("worn out"), "{told}");
    assert!(nor.erase(0x1_0000).unwrap_err().to_string().contains("block 1 is not blank"));
    nor.program(0, &[0; 4]).unwrap();
}

#[test]
fn only_whole_words_and_blocks_inside_are_touched() {
    let mut nor = MtdNor::new(chip(64 << 10)).unwrap();
    assert!(nor.program(2, &[0; 4]).is_err() && nor.program(0, &[0; 3]).is_err());
    assert!(nor.program((1 << 20) - 4, &[0; 8]).is_err());
    assert!(nor.erase(4096).is_err() && nor.erase(1 << 20).is_err());
}
