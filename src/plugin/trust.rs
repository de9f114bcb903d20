//! Whose files hold code that is run as it is: root's and our own, where nobody else may write.
//!
//! The rule of sshd for keys: of the file, of its directory and of all directories above, for whoever
//! may write to one of these decides what is found there. In a directory with the sticky bit, like
//! `/tmp`, nobody replaces what belongs to others.
//!
//! Not in here: whether the bytes are what was stored (`cache`).

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const WRITABLE_BY_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// Whether a directory of compiled code, and everything in it, may be trusted.
///
/// # Errors
/// Which file or directory may not, why, and what to do about it, in one line.
pub fn check_image(dir: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}: name a directory", dir.display());
    let real = directory(dir)?;
    for entry in fs::read_dir(real).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let meta = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        one(&path, &meta, false)?;
    }
    Ok(())
}

/// Whether a directory, and those above it, may be trusted; where it really is.
pub(super) fn directory(dir: &Path) -> Result<PathBuf, String> {
    let unread = |path: &Path, error| format!("{}: {error}", path.display());
    // Links are followed: what counts is where the files are.
    let dir = dir.canonicalize().map_err(|error| unread(dir, error))?;
    for (above, path) in dir.ancestors().enumerate() {
        let meta = fs::metadata(path).map_err(|error| unread(path, error))?;
        one(path, &meta, above > 0)?;
    }
    Ok(dir)
}

/// Whether one file or directory may be trusted; `above`: only for what is below it.
pub(super) fn one(path: &Path, meta: &Metadata, above: bool) -> Result<(), String> {
    let shown = path.display();
    if meta.uid() != 0 && Some(meta.uid()) != own_user() {
        return Err(format!(
            "{shown} belongs to user {}, who could change the code that is run: chown root {shown}",
            meta.uid()
        ));
    }
    let shared = above && meta.mode() & STICKY != 0;
    if meta.mode() & WRITABLE_BY_OTHERS != 0 && !shared {
        return Err(format!(
            "others than its owner may write to {shown} and change the code that is run: \
             chmod go-w {shown}"
        ));
    }
    Ok(())
}

/// Who runs this program.
fn own_user() -> Option<u32> {
    fs::metadata("/proc/self").ok().map(|meta| meta.uid())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_is_taken_when_nobody_else_may_write_to_it_to_its_files_or_above() {
        let top = std::env::temp_dir().join(format!("ew-trust-{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        let (dir, link) = (top.join("image"), top.join("link"));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("a.cwasm");
        fs::write(&file, b"x").unwrap();
        symlink(&dir, &link).unwrap();
        for path in [&top, &dir] {
            allow(path, 0o755);
        }
        for mode in [0o644, 0o600, 0o444] {
            allow(&file, mode);
            assert_eq!(check_image(&dir), Ok(()));
        }
        let refused = |wanted: &Path, remedy: &str| {
            for dir in [&dir, &link] {
                let error = check_image(dir).unwrap_err();
                let remedy = format!(": {remedy} {}", wanted.display());
                assert!(error.ends_with(&remedy) && !error.contains('\n'), "{error}");
            }
        };
        for mode in [0o664, 0o646, 0o666] {
            allow(&file, mode);
            refused(&file, "chmod go-w");
        }
        allow(&file, 0o644);
        for (path, good) in [(&dir, 0o755), (&top, 0o755)] {
            for mode in [0o775, 0o757] {
                allow(path, mode);
                refused(path, "chmod go-w");
            }
            allow(path, good);
        }
        // The sticky bit is enough above, not where new files would be found.
        allow(&top, 0o1777);
        assert_eq!(check_image(&dir), Ok(()));
        allow(&top, 0o755);
        allow(&dir, 0o1777);
        refused(&dir, "chmod go-w");
        allow(&dir, 0o755);
        if own_user() == Some(0) {
            chown(&file, Some(4711), None).unwrap();
            refused(&file, "chown root");
            chown(&file, Some(0), None).unwrap();
        }
        assert_eq!(check_image(&dir), Ok(()));
        let missing = top.join("missing");
        assert!(check_image(&missing).unwrap_err().starts_with(missing.to_str().unwrap()));
        assert!(check_image(&file).unwrap_err().contains("name a directory"));
        fs::remove_dir_all(&top).unwrap();
    }
}
