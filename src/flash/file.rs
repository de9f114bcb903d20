//! A NOR flash in a file: for laptops, tests, and boards whose disk is the only memory they have.
//!
//! It keeps the rules of NOR (erased is 0xff, programming only clears bits), so that what runs on
//! a file runs on flash. One program at a time: the file is locked for as long as it is open. It
//! holds secrets and is therefore created with mode 0600. Not in here: MTD and block devices.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    path::Path,
};

use super::{
    nor::{Geometry, Nor, WORD_BYTES},
    store::StoreError,
};

/// Size of a new file when none is asked for: 16 logical pages.
pub const DEFAULT_SIZE: u32 = 1024 * 1024;
const ERASE_SIZE: u32 = 4096;

/// The flash in a file.
#[derive(Debug)]
pub struct FileNor {
    file: File,
    geometry: Geometry,
}

impl FileNor {
    /// Opens a file that was created as flash.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another program has it open, [`StoreError::NotAStore`] for a
    /// size that no store has, [`StoreError::Io`] otherwise.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_char_device() || kind.is_block_device() {
            let message = "a device, and this release keeps its store in a file";
            return Err(StoreError::Geometry(message.to_owned()));
        }
        lock(&file)?;
        let size = u32::try_from(file.metadata()?.len()).map_err(|_| StoreError::NotAStore)?;
        let geometry = Geometry { size, erase_size: ERASE_SIZE };
        geometry.page_size().map_err(|_| StoreError::NotAStore)?;
        Ok(Self { file, geometry })
    }

    /// Creates a file of erased flash.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when the file has any content and `force` does not say to lose it,
    /// [`StoreError::Geometry`] for a size that no store can have, and those of [`Self::open`].
    pub fn create(path: &Path, size: u32, force: bool) -> Result<Self, StoreError> {
        let geometry = Geometry { size, erase_size: ERASE_SIZE };
        geometry.page_size()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            let message = "not a regular file, and this release keeps its store in one";
            return Err(StoreError::Geometry(message.to_owned()));
        }
        lock(&file)?;
        if about.len() > 0 && !force {
            return Err(StoreError::Exists);
        }
        file.set_len(u64::from(size))?;
        let nor = Self { file, geometry };
        let blank = [0xff; ERASE_SIZE as usize];
        for offset in (0..size).step_by(blank.len()) {
            nor.file.write_all_at(&blank, u64::from(offset))?;
        }
        nor.file.sync_all()?;
        // The name of a new file is safe only when its directory is.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(nor)
    }
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
        self.geometry
    }

    fn read(&mut self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, u64::from(offset))
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
        self.file.write_all_at(data, u64::from(offset))
    }

    fn erase(&mut self, offset: u32) -> io::Result<()> {
        if !offset.is_multiple_of(ERASE_SIZE) || offset >= self.geometry.size {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "out of bounds"));
        }
        self.file.write_all_at(&[0xff; ERASE_SIZE as usize], u64::from(offset))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
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
}
