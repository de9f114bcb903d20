//! What can go wrong with the store, in words: cause and remedy.

use core::fmt;
use std::io;

use super::{nor::DeviceError, store::VERSION};
use crate::config::image::ImageError;

/// Why the store did not do it.
#[derive(Debug)]
pub enum StoreError {
    /// No store has been made here.
    NotAStore,
    /// Something is there that would be lost.
    Exists,
    /// A device holds something that would be lost.
    Holds(&'static str),
    /// The system or another program uses it.
    InUse(String),
    /// A newer release made the store; nothing was touched.
    NewerVersion(u16),
    /// Another program has it open.
    Locked,
    /// No room among what is stored now.
    Full,
    /// Larger than any value can be.
    TooBig,
    /// The pages do not make sense, and could not be repaired.
    Corrupt,
    /// There is no such configuration in the history.
    NoSuch {
        /// How many there are before the active one.
        have: usize,
    },
    /// An image that was asked for by number cannot be used.
    Image(ImageError),
    /// A device whose layout is not supported.
    Geometry(String),
    /// The device or file failed.
    Io(io::Error),
    /// Our own mistake, found by the map.
    Bug(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAStore => write!(f, "not a store, make one with `edgeweir flash format`"),
            Self::Exists => write!(f, "it has content already, add --force to lose it"),
            Self::Holds(what) => write!(f, "it holds {what}, add --force to lose it"),
            Self::InUse(how) => write!(f, "it is in use: {how}; a store needs it for itself"),
            Self::NewerVersion(version) => write!(
                f,
                "the store has version {version} of a newer release, this one knows {VERSION}; \
                 use that release, or format it and lose what it holds"
            ),
            Self::Locked => write!(
                f,
                "another program has it open; while the gateway runs, use the commands that go \
                 through its control socket, or stop it first"
            ),
            Self::Full => write!(f, "the store is full, format a larger one"),
            Self::TooBig => write!(f, "the value is larger than a flash page can ever hold"),
            Self::Corrupt => write!(
                f,
                "the pages of the store are corrupt beyond repair; save a copy, then make a new \
                 one with `edgeweir flash format --force`"
            ),
            Self::NoSuch { have: 0 } => {
                write!(f, "there is no earlier configuration to go back to")
            }
            Self::NoSuch { have } => {
                write!(f, "there are {have} earlier configurations, name 1 to {have}")
            }
            Self::Image(error) => write!(f, "the stored configuration cannot be used: {error}"),
            Self::Geometry(what) => write!(f, "unsupported flash: {what}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::Bug(what) => write!(f, "mistake in the store, please report it: {what}"),
        }
    }
}

impl core::error::Error for StoreError {}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<sequential_storage::Error<DeviceError>> for StoreError {
    fn from(error: sequential_storage::Error<DeviceError>) -> Self {
        use sequential_storage::Error;
        match error {
            Error::Storage { value, .. } => Self::Io(value.0),
            Error::FullStorage => Self::Full,
            Error::ItemTooBig => Self::TooBig,
            Error::Corrupted { .. } => Self::Corrupt,
            other => Self::Bug(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_reads_well() {
        let errors = [
            StoreError::NotAStore,
            StoreError::Exists,
            StoreError::Holds("a squashfs"),
            StoreError::InUse("mounted at /".to_owned()),
            StoreError::NewerVersion(2),
            StoreError::Locked,
            StoreError::Full,
            StoreError::TooBig,
            StoreError::Corrupt,
            StoreError::NoSuch { have: 0 },
            StoreError::NoSuch { have: 3 },
            StoreError::Image(ImageError::Damaged),
            StoreError::Geometry("x".to_owned()),
            StoreError::Bug("x".to_owned()),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.ends_with('.') && text.starts_with(char::is_lowercase), "{text}");
        }
    }
}
