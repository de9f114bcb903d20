//! Opens files and partitions of disks as flash: for laptops, tests, and boards whose disk is the
//! only memory they have.
//!
//! One program at a time: a file is locked for as long as it is open, a partition is claimed from
//! the kernel as a mount would. A file holds secrets and is therefore created with mode 0600. Not
//! in here: MTD ([`super::mtd`]), and which of them a path is ([`super::device`]).

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use super::{
    disk::{Disk as _, DiskNor, ERASE_SIZE},
    ioctl,
    nor::{Condition, Geometry, Nor},
    store::StoreError,
};

/// Size of a new file when none is asked for: 16 logical pages.
pub const DEFAULT_SIZE: u32 = 1024 * 1024;

/// The flash in a file or partition.
#[derive(Debug)]
pub struct FileNor(DiskNor);

impl FileNor {
    /// Opens a file that was created as flash.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another program has it open, [`StoreError::NotAStore`] for a
    /// size that no store has, [`StoreError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(not_a_file());
        }
        lock(&file)?;
        let size = u32::try_from(file.metadata()?.len()).map_err(|_| StoreError::NotAStore)?;
        geometry(size).page_size().map_err(|_| StoreError::NotAStore)?;
        Ok(Self(DiskNor::new(Box::new(file), size)))
    }

    /// Creates a file of erased flash.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the file has any content and `force` does not say to lose it,
    /// [`StoreError::Geometry`] for a size that no store can have, and those of [`Self::open`].
    pub fn create(path: &Path, size: u32, force: bool) -> Result<Self, StoreError> {
        geometry(size).page_size()?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(not_a_file());
        }
        lock(&file)?;
        if about.len() > 0 && !force {
            return Err(StoreError::Exists);
        }
        file.set_len(u64::from(size))?;
        let blank = [0xff; ERASE_SIZE as usize];
        for offset in (0..size).step_by(blank.len()) {
            file.write(offset, &blank)?;
        }
        file.sync_all()?;
        // The name of a new file is safe only when its directory is.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(Self(DiskNor::new(Box::new(file), size)))
    }

    /// Opens a partition of a disk, whatever it holds, and claims it.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when the kernel or another program has it, [`StoreError::Geometry`]
    /// for a size that no store can have, [`StoreError::Io`] otherwise.
    pub fn partition(path: &Path) -> Result<Self, StoreError> {
        // For block devices O_EXCL asks the kernel for the claim that mounts and swap take.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_EXCL)
            .open(path)
            .map_err(|error| match error.kind() {
                io::ErrorKind::ResourceBusy => StoreError::InUse(
                    "mounted, swap, part of an array, or open in another program".to_owned(),
                ),
                _ => error.into(),
            })?;
        let size = usable(ioctl::block_bytes(&file)?)?;
        Ok(Self(DiskNor::new(Box::new(file), size)))
    }
}

/// Bytes of a partition that a store uses: whole pages.
fn usable(bytes: u64) -> Result<u32, StoreError> {
    let size = u32::try_from(bytes).unwrap_or(u32::MAX);
    let page = geometry(size).page_bytes()?;
    let size = size - size.checked_rem(page).unwrap_or(0);
    geometry(size).page_size()?;
    Ok(size)
}

const fn geometry(size: u32) -> Geometry {
    Geometry { size, erase_size: ERASE_SIZE }
}

fn not_a_file() -> StoreError {
    StoreError::Geometry("neither a file nor a device that can hold a store".to_owned())
}

fn lock(file: &File) -> Result<(), StoreError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

impl Nor for FileNor {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn condition(&self) -> Condition {
        self.0.condition()
    }

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, buffer)
    }

    fn program(&mut self, offset: u32, data: &[u8]) -> io::Result<()> {
        self.0.program(offset, data)
    }

    fn erase(&mut self, offset: u32) -> io::Result<()> {
        self.0.erase(offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::flash::tests::Scratch;

    #[test]
    fn a_new_file_is_erased_private_and_locked() {
        let scratch = Scratch::new("file-new");
        let path = scratch.path("f");
        let mut nor = FileNor::create(&path, DEFAULT_SIZE, false).unwrap();
        let mut byte = [0];
        nor.read(DEFAULT_SIZE - 1, &mut byte).unwrap();
        assert_eq!(byte, [0xff]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(FileNor::open(&path), Err(StoreError::Locked)));
        assert!(matches!(FileNor::create(&path, DEFAULT_SIZE, true), Err(StoreError::Locked)));
        drop(nor);
        assert!(matches!(FileNor::create(&path, DEFAULT_SIZE, false), Err(StoreError::Exists)));
        assert!(FileNor::create(&path, 2 * DEFAULT_SIZE, true).is_ok());
        assert_eq!(path.metadata().unwrap().len(), u64::from(2 * DEFAULT_SIZE));
    }

    #[test]
    fn programming_clears_bits_and_only_erasing_sets_them() {
        let scratch = Scratch::new("file-bits");
        let mut nor = FileNor::create(&scratch.path("f"), DEFAULT_SIZE, false).unwrap();
        nor.program(4096, &[0x0f; 8]).unwrap();
        assert!(nor.program(4100, &[0xff; 4]).is_err());
        assert!(nor.program(4097, &[0; 4]).is_err());
        assert!(nor.program(DEFAULT_SIZE - 4, &[0; 8]).is_err());
        nor.erase(4096).unwrap();
        nor.program(4100, &[0xff; 4]).unwrap();
        assert!(nor.erase(DEFAULT_SIZE).is_err() && nor.erase(1).is_err());
    }

    #[test]
    fn files_of_odd_size_and_devices_are_refused() {
        let scratch = Scratch::new("file-odd");
        let path = scratch.path("f");
        std::fs::write(&path, b"hello").unwrap();
        assert!(matches!(FileNor::open(&path), Err(StoreError::NotAStore)));
        assert!(matches!(FileNor::open(Path::new("/dev/null")), Err(StoreError::Geometry(_))));
        assert!(matches!(FileNor::open(&scratch.path("none")), Err(StoreError::Io(_))));
        assert!(matches!(FileNor::create(&path, 4096, true), Err(StoreError::Geometry(_))));
    }

    #[test]
    fn a_partition_gives_its_whole_pages_within_bounds() {
        assert_eq!(usable((1 << 20) + 512).unwrap(), 1 << 20);
        assert_eq!(usable(64 << 20).unwrap(), 64 << 20);
        assert!(usable((64 << 20) + (64 << 10)).is_err() && usable(u64::MAX).is_err());
        assert!(usable((512 << 10) - 1).is_err());
    }
}
