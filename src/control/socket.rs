//! The Unix socket of the control API: where it lies, who may use it, and what a gateway that died
//! left behind.
//!
//! Not in here: what is said through it.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use socket2::{Domain, SockAddr, Socket, Type};

/// Where the socket lies unless `--control` or `EDGEWEIR_CONTROL` says otherwise.
pub const DEFAULT_PATH: &str = "/run/edgeweir.sock";

/// Owner and group may read and write: adding a person to the group gives the right to control.
const MODE: u32 = 0o660;

/// A listening socket whose file goes when this is dropped, unless another gateway has taken the
/// path since.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
}

impl ControlSocket {
    /// Listens at `path`. The leftover socket of a gateway that died is replaced.
    ///
    /// # Errors
    /// One line with the remedy: another gateway runs, a file that is no socket is in the way, or
    /// the folder does not let us.
    pub fn bind(path: &Path) -> Result<Self, String> {
        clear(path)?;
        let place = path.display();
        listen(path)
            .map(|(listener, inode)| Self { listener, path: path.to_owned(), inode })
            .map_err(|wrong| {
                format!(
                    "cannot listen at {place}: {wrong}; choose another place with --control PATH \
                     or EDGEWEIR_CONTROL"
                )
            })
    }

    /// The listener, in blocking mode.
    pub const fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the path free, when what lies there is the socket of a dead gateway.
fn clear(path: &Path) -> Result<(), String> {
    let place = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(wrong) if wrong.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(wrong) => return Err(format!("cannot look at {place}: {wrong}")),
    };
    if !found.file_type().is_socket() {
        return Err(format!(
            "{place} is in the way and is no socket: remove it or choose another --control PATH"
        ));
    }
    match UnixStream::connect(path) {
        Err(wrong) if wrong.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)
            .map_err(|wrong| format!("cannot remove the leftover socket {place}: {wrong}")),
        // Also when we may not connect: somebody listens there who is not us.
        _ => Err(format!(
            "another gateway runs and answers at {place}: stop it or choose another --control PATH"
        )),
    }
}

/// The mode is set before anyone can connect: a socket that is bound but does not listen refuses.
fn listen(path: &Path) -> io::Result<(UnixListener, u64)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(MODE))?;
    socket.listen(64)?;
    let inode = fs::symlink_metadata(path)?.ino();
    Ok((UnixListener::from(std::os::fd::OwnedFd::from(socket)), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("edgeweir-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder.join("c.sock")
    }

    #[test]
    fn the_socket_is_for_owner_and_group_and_goes_at_the_end() {
        let path = place("mode");
        let socket = ControlSocket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_leftover_is_replaced_and_a_live_one_is_not() {
        let path = place("stale");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let live = ControlSocket::bind(&path).unwrap();
        let refused = ControlSocket::bind(&path).unwrap_err();
        assert!(refused.starts_with("another gateway runs"), "{refused}");
        assert!(path.exists());
        drop(live);
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let path = place("file");
        fs::write(&path, "precious").unwrap();
        let refused = ControlSocket::bind(&path).unwrap_err();
        assert!(refused.contains("is no socket"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_cannot_be_says_what_else_to_do() {
        let refused = ControlSocket::bind(Path::new("/nonexistent/folder/c.sock")).unwrap_err();
        assert!(refused.contains("--control PATH"), "{refused}");
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
        assert!(ControlSocket::bind(&long).is_err());
    }
}
