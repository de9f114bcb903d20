//! From a path to a device that may hold a store.
//!
//! | path is | backend |
//! |---|---|
//! | a character device of MTD, `/dev/mtdN` | [`super::mtd`] |
//! | a block device | [`super::file`], as a partition |
//! | a file | [`super::file`] |
//!
//! What is in use is refused: a mounted partition (`/proc/self/mountinfo`), an MTD that UBI has, and
//! the block face of an MTD, `/dev/mtdblockN`, whose driver erases behind our back. So is, when a
//! store is made, what holds something else. Not in here: reading and writing.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{
    file::{DEFAULT_SIZE, FileNor},
    mtd::MtdNor,
    nor::{Geometry, Nor},
    sim::SimNor,
    store::{self, StoreError},
};
use crate::limits::STORE_MIN_BYTES;

/// Major numbers of linux `devices.txt`.
const MTD_CHARACTER_MAJOR: u32 = 90;
const MTD_BLOCK_MAJOR: u32 = 31;

/// Opens the store's place. Nothing is written to it, but a chip is unlocked.
///
/// # Errors
/// [`StoreError::InUse`], [`StoreError::Locked`], [`StoreError::Geometry`], [`StoreError::Io`], and
/// for a file [`StoreError::NotAStore`].
pub fn open(path: &Path) -> Result<Box<dyn Nor>, StoreError> {
    Ok(match kind(path)? {
        Kind::File => Box::new(FileNor::open(path)?),
        Kind::Disk { device } => Box::new(disk(path, device)?),
        Kind::Mtd { number } => Box::new(mtd(path, number)?),
    })
}

/// Opens the place of a new store. What it held is lost when the store is made.
///
/// # Errors
/// Those of [`open`]; [`StoreError::Exists`] or [`StoreError::Holds`] when there is something and
/// `force` does not say to lose it; [`StoreError::Geometry`] when a size is given for a device.
pub fn create(path: &Path, size: Option<u32>, force: bool) -> Result<Box<dyn Nor>, StoreError> {
    let mut nor = match kind(path) {
        // A file there would be in memory, and gone at the next boot.
        Err(StoreError::Io(error))
            if error.kind() == io::ErrorKind::NotFound
                && path.parent() == Some("/dev".as_ref()) =>
        {
            let told = "no such device; /proc/mtd names those of flash";
            return Err(io::Error::new(io::ErrorKind::NotFound, told).into());
        }
        Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Box::new(FileNor::create(path, size.unwrap_or(DEFAULT_SIZE), force)?));
        }
        Err(other) => return Err(other),
        Ok(Kind::File) => {
            return Ok(Box::new(FileNor::create(path, size.unwrap_or(DEFAULT_SIZE), force)?));
        }
        Ok(_) if size.is_some() => {
            return Err(StoreError::Geometry(
                "a device has the size that it has, leave out --size".to_owned(),
            ));
        }
        Ok(Kind::Disk { .. } | Kind::Mtd { .. }) => open(path)?,
    };
    if !force && let Some(what) = holds(&mut *nor)? {
        return Err(StoreError::Holds(what));
    }
    Ok(nor)
}

/// Whether this is a device, and one that a store may be on.
pub fn is_device(path: &Path) -> bool {
    !matches!(kind(path), Ok(Kind::File) | Err(_))
}

/// Whether this is a device that nothing was ever written to. A file has been, by whoever made it.
pub fn is_blank(path: &Path) -> bool {
    is_device(path) && open(path).is_ok_and(|mut nor| matches!(holds(&mut *nor), Ok(None)))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    File,
    Disk { device: (u32, u32) },
    Mtd { number: u32 },
}

fn kind(path: &Path) -> Result<Kind, StoreError> {
    let about = fs::metadata(path)?;
    let device = (libc::major(about.rdev()), libc::minor(about.rdev()));
    let kind = about.file_type();
    if kind.is_block_device() {
        return block(device);
    }
    if kind.is_char_device() {
        return character(device);
    }
    Ok(Kind::File)
}

fn block(device: (u32, u32)) -> Result<Kind, StoreError> {
    match device {
        (MTD_BLOCK_MAJOR, number) => Err(StoreError::Geometry(format!(
            "the block face of an MTD, which erases without being asked; name /dev/mtd{number}"
        ))),
        device => Ok(Kind::Disk { device }),
    }
}

fn character((major, minor): (u32, u32)) -> Result<Kind, StoreError> {
    let number = minor / 2;
    match (major, minor % 2) {
        (MTD_CHARACTER_MAJOR, 0) => Ok(Kind::Mtd { number }),
        (MTD_CHARACTER_MAJOR, _) => Err(StoreError::Geometry(format!(
            "the read-only face of an MTD, name /dev/mtd{number}"
        ))),
        _ => Err(StoreError::Geometry(
            "neither a file nor a device that can hold a store".to_owned(),
        )),
    }
}

fn disk(path: &Path, device: (u32, u32)) -> Result<FileNor, StoreError> {
    refuse_mounted(device)?;
    FileNor::partition(path)
}

fn mtd(path: &Path, number: u32) -> Result<MtdNor<File>, StoreError> {
    refuse_mounted((MTD_BLOCK_MAJOR, number))?;
    if let Some(ubi) = attached(Path::new("/sys/class/ubi"), number) {
        return Err(StoreError::InUse(format!("attached to UBI as {ubi}")));
    }
    let device = OpenOptions::new().read(true).write(true).open(path)?;
    match device.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::Locked),
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    MtdNor::new(device)
}

fn refuse_mounted(device: (u32, u32)) -> Result<(), StoreError> {
    // Where there is no /proc, O_EXCL and UBI's own claim are left.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match mounted_at(&mounts, device) {
        Some(place) => Err(StoreError::InUse(format!("mounted at {place}"))),
        None => Ok(()),
    }
}

/// Where a device is mounted, by the text of `/proc/self/mountinfo` (proc(5)): the third field is
/// major:minor, the fifth the place.
fn mounted_at(mounts: &str, (major, minor): (u32, u32)) -> Option<&str> {
    let wanted = format!("{major}:{minor}");
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.nth(2)? == wanted).then(|| fields.nth(1)).flatten()
    })
}

/// The UBI device that sits on an MTD.
fn attached(class: &Path, number: u32) -> Option<String> {
    fs::read_dir(class).ok()?.flatten().find_map(|entry| {
        let on = fs::read_to_string(entry.path().join("mtd_num")).ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        (on.trim().parse() == Ok(number)).then_some(name)
    })
}

/// What a device holds, in words; none when it is blank.
fn holds(nor: &mut dyn Nor) -> Result<Option<&'static str>, StoreError> {
    let mut start = [0; 4096];
    nor.read(0, &mut start)?;
    if let Some(known) = known(&start) {
        return Ok(Some(known));
    }
    if store::find_mark(nor)?.is_some() {
        return Ok(Some("a store"));
    }
    let size = nor.geometry().size;
    for offset in (0..size).step_by(start.len()) {
        nor.read(offset, &mut start)?;
        // Disks are delivered with zeros, flash with ones.
        let [first, ..] = start;
        let blank = matches!(first, 0 | 0xff) && start.iter().all(|byte| *byte == first);
        let torn = || offset == 0 && is_torn_store(&start, nor.geometry().erase_size);
        if !blank && !torn() {
            return Ok(Some("data of an unknown kind"));
        }
    }
    Ok(None)
}

/// Whether a device that begins like this was about to become a store when the power went: programmed
/// are only bits that an empty store has programmed there.
fn is_torn_store(start: &[u8], erase_size: u32) -> bool {
    let fresh = SimNor::new(Geometry { size: STORE_MIN_BYTES, erase_size });
    store::Store::format(Box::new(fresh.clone()))
        .is_ok_and(|_| start.iter().zip(fresh.bytes()).all(|(found, empty)| found & empty == empty))
}

/// What begins like this.
fn known(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(usize, &[u8], &str); 11] = [
        (0, b"hsqs", "a squashfs"),
        (0, b"UBI#", "UBI"),
        (0, &[0x85, 0x19], "a jffs2"),
        (0, &[0x19, 0x85], "a jffs2"),
        (0, &[0xd0, 0x0d, 0xfe, 0xed], "a device tree or FIT image"),
        (0, &[0x27, 0x05, 0x19, 0x56], "a U-Boot image"),
        (0, &[0x1f, 0x8b], "gzip data"),
        (0, b"\x7fELF", "a program"),
        (1080, &[0x53, 0xef], "an ext file system"),
        (510, &[0x55, 0xaa], "a FAT file system or partition table"),
        (0, b"XFSB", "an XFS file system"),
    ];
    let begins = |(at, magic, _): &&(usize, &[u8], &str)| {
        start.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    KNOWN.iter().find(begins).map(|(_, _, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{store::Store, tests::Scratch};

    #[test]
    fn a_device_that_is_missing_is_no_file_to_be_made() {
        let path = Path::new("/dev/edgeweir-none");
        let told = create(path, None, true).err().unwrap().to_string();
        assert!(told.contains("no such device"), "{told}");
        assert!(!path.exists());
    }

    #[test]
    fn faces_of_an_mtd_are_told_apart_by_name() {
        assert_eq!(character((90, 6)).unwrap(), Kind::Mtd { number: 3 });
        let told = character((90, 7)).unwrap_err().to_string();
        assert!(told.contains("read-only") && told.contains("/dev/mtd3"), "{told}");
        assert!(matches!(character((1, 3)), Err(StoreError::Geometry(_))));
        let told = block((31, 3)).unwrap_err().to_string();
        assert!(told.contains("name /dev/mtd3"), "{told}");
        assert_eq!(block((8, 1)).unwrap(), Kind::Disk { device: (8, 1) });
        assert!(matches!(open(Path::new("/dev/null")), Err(StoreError::Geometry(_))));
        let odd = create(Path::new("/dev/null"), None, true);
        assert!(matches!(odd, Err(StoreError::Geometry(_))));
    }

    #[test]
    fn mounts_are_found_by_device_number() {
        let mounts = "25 1 179:2 / / rw,relatime - ext4 /dev/root rw\n\
                      31 25 31:4 / /mnt/data\\040x rw - jffs2 /dev/mtdblock4 rw\n\
                      40 25 0:31 / /proc rw - proc proc rw\n";
        assert_eq!(mounted_at(mounts, (31, 4)), Some("/mnt/data\\040x"));
        assert_eq!(mounted_at(mounts, (179, 2)), Some("/"));
        assert_eq!(mounted_at(mounts, (179, 20)), None);
        assert_eq!(mounted_at("", (0, 0)), None);
    }

    #[test]
    fn an_mtd_that_ubi_has_is_found() {
        let scratch = Scratch::new("ubi");
        fs::create_dir_all(scratch.path("ubi0")).unwrap();
        fs::create_dir_all(scratch.path("ubi0_0")).unwrap();
        fs::write(scratch.path("ubi0/mtd_num"), "4\n").unwrap();
        let class = scratch.path(".");
        assert_eq!(attached(&class, 4).as_deref(), Some("ubi0"));
        assert_eq!(attached(&class, 5), None);
        assert_eq!(attached(Path::new("/nowhere"), 4), None);
    }

    #[test]
    fn content_is_told_in_words_and_blank_is_nothing() {
        let geometry = Geometry { size: 512 << 10, erase_size: 4096 };
        let holding = |bytes: &[u8], at: usize| {
            let mut flash = vec![0xff; 512 << 10];
            flash[at..at + bytes.len()].copy_from_slice(bytes);
            holds(&mut SimNor::with_bytes(geometry, flash)).unwrap()
        };
        assert_eq!(holding(&[], 0), None);
        assert_eq!(holding(&[0; 512 << 10], 0), None);
        assert_eq!(holding(b"hsqs", 0), Some("a squashfs"));
        assert_eq!(holding(&[0x53, 0xef], 1080), Some("an ext file system"));
        assert_eq!(holding(b"x", 400 << 10), Some("data of an unknown kind"));
        let nor = SimNor::new(geometry);
        drop(Store::format(Box::new(nor.clone())).unwrap());
        assert_eq!(holds(&mut nor.clone()).unwrap(), Some("a store"));
    }

    #[test]
    fn a_store_that_was_cut_short_while_it_was_made_holds_nothing() {
        for erase_size in [4 << 10, 256 << 10] {
            let geometry = Geometry { size: 1 << 20, erase_size };
            let whole = SimNor::new(geometry);
            drop(Store::format(Box::new(whole.clone())).unwrap());
            for cut in 0..=whole.steps() {
                let nor = SimNor::new(geometry);
                nor.dies_after(cut);
                drop(Store::format(Box::new(nor.clone())));
                let mut torn = SimNor::with_bytes(geometry, nor.bytes());
                let opens = Store::open(Box::new(torn.clone())).is_ok();
                assert!(opens || holds(&mut torn).unwrap().is_none(), "cut {cut}");
            }
        }
        // An address of a network card, as such partitions hold, is not torn.
        let mut bytes = vec![0xff; 512 << 10];
        bytes[..6].copy_from_slice(&[2, 0, 0x5e, 0x10, 0, 1]);
        let mut nor = SimNor::with_bytes(Geometry { size: 512 << 10, erase_size: 4096 }, bytes);
        assert!(holds(&mut nor).unwrap().is_some());
    }

    #[test]
    fn a_file_is_made_opened_and_not_overwritten() {
        let scratch = Scratch::new("device-file");
        let path = scratch.path("f");
        assert!(matches!(open(&path), Err(StoreError::Io(_))));
        drop(create(&path, Some(512 << 10), false).unwrap());
        assert_eq!(open(&path).unwrap().geometry().size, 512 << 10);
        assert!(matches!(create(&path, None, false), Err(StoreError::Exists)));
        assert!(create(&path, None, true).is_ok());
    }
}
