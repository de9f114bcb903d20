//! Compiled code on disk, sealed: what was not compiled here or for this image, or has changed, is
//! never loaded.
//!
//! ```text
//!   DIR/device.key                32 random bytes, mode 0600, made at first use
//!   DIR/<sha256>.wasm             a component as it was uploaded
//!   DIR/<sha256>.<code>.cwasm     HMAC-SHA256 | compiled code
//! ```
//!
//! The seal covers the component's hash, the version of this program and of wasmtime, the engine's
//! settings, the target and the code. A file that does not fit is compiled anew.
//!
//! Code that comes with the image lies in a directory of its own, which nothing here writes to while
//! a gateway runs. It is as much to be trusted as the program beside it, so its seal has no key: it
//! tells damage and another program. What others may write to is no part of an image (`trust`).
//!
//! Files are written under another name, synced and renamed: there is a whole one or none.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    engine::{Code, compatibility},
    keys::hmac_sha256,
    slot::Hash,
    trust,
};
use crate::{
    auth::digest::{hex, same},
    limits::{COMPILED_MAX_BYTES, PLUGIN_KIB_MAX},
};

const KEY_FILE: &str = "device.key";
const SEAL_BYTES: usize = 32;

/// The files of all plugins.
#[derive(Clone, Debug)]
pub(super) struct Files {
    dir: PathBuf,
    of: Of,
}

/// Who made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Device,
    Image,
}

/// SHA-256 of a component.
pub(super) fn hash(wasm: &[u8]) -> Hash {
    Sha256::digest(wasm).into()
}

impl Files {
    /// In this directory, which is made when it is first written to.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, of: Of::Device }
    }

    /// Code that comes with the image.
    pub(super) fn of_image(dir: PathBuf) -> Self {
        Self { dir, of: Of::Image }
    }

    /// The component of that hash, if it is there and unchanged.
    pub(super) fn component(&self, wanted: &Hash) -> Option<Vec<u8>> {
        let most = usize::from(PLUGIN_KIB_MAX) * 1024;
        read(&self.component_path(wanted), most).ok().filter(|wasm| hash(wasm) == *wanted)
    }

    /// Stores a component.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn store_component(&self, wasm: &[u8]) -> io::Result<()> {
        let path = self.component_path(&hash(wasm));
        if read(&path, wasm.len()).is_ok_and(|there| there == wasm) {
            return Ok(());
        }
        self.write(&path, &[wasm], 0o644)
    }

    /// Compiled code of that component, if it is there, whole and made here.
    pub(super) fn code(&self, of: &Hash, code: Code) -> Option<Vec<u8>> {
        let key = self.key(false).ok()?;
        let path = self.code_path(of, code);
        let ignored = |why: &str| log::warn!("{} is ignored: {why}", path.display());
        let file = File::open(&path).ok()?;
        // Of the very file that is read.
        if let Err(why) = self.trusted(&path, &file) {
            ignored(&why);
            return None;
        }
        let mut sealed = read_all(file, SEAL_BYTES + COMPILED_MAX_BYTES).ok()?;
        let (seal, body) = sealed.split_at_checked(SEAL_BYTES)?;
        if !same(seal, &sealed_by(&key, of, code, body)) {
            ignored("it is not as it was stored, or of another program");
            return None;
        }
        sealed.drain(..SEAL_BYTES);
        Some(sealed)
    }

    /// Whether compiled code is there that must not be run, and why not.
    #[cfg(not(feature = "compiler"))]
    pub(super) fn distrusted(&self, of: &Hash, code: Code) -> Option<String> {
        let path = self.code_path(of, code);
        let file = File::open(&path).ok()?;
        self.trusted(&path, &file).err()
    }

    fn trusted(&self, path: &Path, file: &File) -> Result<(), String> {
        if self.of == Of::Device {
            return Ok(());
        }
        let meta = file.metadata().map_err(|error| error.to_string())?;
        trust::directory(&self.dir)?;
        trust::one(path, &meta, false)
    }

    /// Stores compiled code.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn store_code(&self, of: &Hash, code: Code, body: &[u8]) -> io::Result<()> {
        let key = self.key(true)?;
        let seal = sealed_by(&key, of, code, body);
        let mode = if self.of == Of::Image { 0o644 } else { 0o600 };
        self.write(&self.code_path(of, code), &[&seal, body], mode)
    }

    /// Removes what belongs to none of `kept`.
    pub(super) fn sweep(&self, kept: &[Hash]) {
        let kept: Vec<_> = kept.iter().map(|hash| hex(hash)).collect();
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = [".wasm", ".cwasm", ".part"].iter().any(|end| name.ends_with(end));
            let wanted = !name.ends_with(".part")
                && kept.iter().any(|hash| name.split('.').next() == Some(hash.as_str()));
            if ours && !wanted {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn component_path(&self, of: &Hash) -> PathBuf {
        self.dir.join(format!("{}.wasm", hex(of)))
    }

    /// Where the code of a component lies.
    pub(super) fn code_path(&self, of: &Hash, code: Code) -> PathBuf {
        self.dir.join(format!("{}.{}.cwasm", hex(of), code.name()))
    }

    /// The device's key; `make` says whether to make one.
    fn key(&self, make: bool) -> io::Result<[u8; 32]> {
        if self.of == Of::Image {
            return Ok([0; 32]);
        }
        let path = self.dir.join(KEY_FILE);
        match read(&path, 32).map(<[u8; 32]>::try_from) {
            Ok(Ok(key)) => return Ok(key),
            Err(error) if !make || error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(Err(_)) if !make => return Err(io::ErrorKind::InvalidData.into()),
            _ => {}
        }
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        self.write(&path, &[&key], 0o600)?;
        Ok(key)
    }

    fn write(&self, path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let part = path.with_extension("part");
        let written = (|| {
            let _ = fs::remove_file(&part);
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&part)?;
            for bytes in parts {
                file.write_all(bytes)?;
            }
            file.sync_all()?;
            fs::rename(&part, path)?;
            File::open(&self.dir)?.sync_all()
        })();
        written.inspect_err(|_| {
            let _ = fs::remove_file(&part);
        })
    }
}

fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    read_all(File::open(path)?, most)
}

fn read_all(file: File, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

fn sealed_by(key: &[u8; 32], of: &Hash, code: Code, body: &[u8]) -> [u8; 32] {
    let fits = compatibility(code);
    // Lengths first, so that no two sets of parts read the same.
    let length = (fits.len() as u64).to_le_bytes();
    hmac_sha256(key, &[&length, fits.as_bytes(), of, body])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(name: &str) -> Files {
        let dir = std::env::temp_dir().join(format!("ew-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        Files::new(dir)
    }

    #[test]
    fn every_changed_byte_of_compiled_code_is_noticed() {
        let files = files("flip");
        let of = hash(b"wasm");
        assert_eq!(files.code(&of, Code::Native), None);
        files.store_code(&of, Code::Native, b"machine code").unwrap();
        assert_eq!(files.code(&of, Code::Native).as_deref(), Some(&b"machine code"[..]));
        let path = files.code_path(&of, Code::Native);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(files.code(&of, Code::Native), None, "byte {at}");
        }
        fs::write(&path, &good[..20]).unwrap();
        assert_eq!(files.code(&of, Code::Native), None);
        // Whole, but of another component, for another machine, or from another device.
        fs::write(files.code_path(&hash(b"other"), Code::Native), &good).unwrap();
        assert_eq!(files.code(&hash(b"other"), Code::Native), None);
        fs::write(files.code_path(&of, Code::PULLEY), &good).unwrap();
        assert_eq!(files.code(&of, Code::PULLEY), None);
        fs::write(&path, &good).unwrap();
        assert!(files.code(&of, Code::Native).is_some());
        fs::write(files.dir.join(KEY_FILE), [7; 32]).unwrap();
        assert_eq!(files.code(&of, Code::Native), None);
        fs::remove_dir_all(&files.dir).unwrap();
    }

    #[test]
    fn the_key_is_for_its_owner_only() {
        let files = files("key");
        files.store_code(&hash(b""), Code::Native, b"x").unwrap();
        let mode = fs::metadata(files.dir.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&files.dir).unwrap();
    }

    #[test]
    fn components_are_checked_by_their_name_and_swept_when_nobody_wants_them() {
        let files = files("sweep");
        for wasm in [b"one", b"two"] {
            files.store_component(wasm).unwrap();
            files.store_code(&hash(wasm), Code::Native, b"x").unwrap();
        }
        fs::write(files.dir.join("left.part"), b"half").unwrap();
        files.sweep(&[hash(b"one")]);
        let mut left: Vec<_> = fs::read_dir(&files.dir).unwrap().flatten().collect();
        left.sort_by_key(fs::DirEntry::file_name);
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(files.component(&hash(b"one")).as_deref(), Some(&b"one"[..]));
        fs::write(files.component_path(&hash(b"one")), b"0ne").unwrap();
        assert_eq!(files.component(&hash(b"one")), None);
        fs::remove_dir_all(&files.dir).unwrap();
    }
}
