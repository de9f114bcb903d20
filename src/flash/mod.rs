//! The store on flash: configurations with their history, secrets, and what a boot must know.
//!
//! ```text
//!   Flash (async handle) -> Store -> sequential-storage -> Pages -> Nor
//!   Nor: an MTD chip, a file or partition of a disk, or a simulated chip in tests
//! ```
//!
//! Flash is slow and its writes must not be cut short by a future that is dropped: [`Flash`] runs
//! every call to its end on a thread of the `blocking` pool, never on a reactor or a worker. Not
//! in here: what the bytes mean ([`crate::config`]).

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub mod cli;
pub mod device;
pub mod disk;
mod error;
pub mod file;
mod ioctl;
pub mod mtd;
pub mod nor;
pub mod salvage;
pub mod sim;
pub mod store;

use crate::config::{Config, secrets::Secrets};
use salvage::Salvage;
use store::{Entry, Info, Loaded, LoadedSecrets, Start, Store, StoreError};

/// An open store, shared by whoever holds a clone of the handle. Calls wait for one another.
///
/// A call that has begun runs to its end even when its future is dropped.
#[derive(Clone)]
pub struct Flash(Arc<Mutex<Store>>);

impl Flash {
    /// Opens the store in a file and locks it until the last clone is dropped.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        smol::unblock(move || Store::open_path(&path)).await.map(Self::new)
    }

    /// Whether [`Self::open`] failed with `wrong` for want of anything to open: no file, or a device
    /// that was never written.
    pub async fn is_nothing_at(path: impl Into<PathBuf>, wrong: &StoreError) -> bool {
        let path = path.into();
        match wrong {
            StoreError::Io(error) => error.kind() == io::ErrorKind::NotFound,
            StoreError::NotAStore => smol::unblock(move || device::is_blank(&path)).await,
            _ => false,
        }
    }

    /// Whether this is a flash chip or a partition, and no file.
    pub fn is_device(path: &Path) -> bool {
        device::is_device(path)
    }

    /// Makes an empty store where there is nothing.
    ///
    /// # Errors
    /// Those of [`device::create`] and [`Store::format`].
    pub async fn make(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        let made = move || device::create(&path, None, false).and_then(Store::format);
        smol::unblock(made).await.map(Self::new)
    }

    /// A handle for a store that is open.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Mutex::new(store)))
    }

    /// The newest whole configuration.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_config(&self) -> Result<Loaded, StoreError> {
        self.run(Store::load_config).await
    }

    /// Stores a configuration; its sequence number. Writes nothing when it is the active one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_config(&self, config: Box<Config>) -> Result<u64, StoreError> {
        self.run(move |store| store.save_config(&config)).await
    }

    /// What is stored, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history(&self) -> Result<Vec<Entry>, StoreError> {
        self.run(Store::history).await
    }

    /// Stores the configuration `back` places before the active one as the newest.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rollback(&self, back: usize) -> Result<(Box<Config>, u64), StoreError> {
        self.run(move |store| store.rollback(back)).await
    }

    /// The secrets.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_secrets(&self) -> Result<LoadedSecrets, StoreError> {
        self.run(Store::load_secrets).await
    }

    /// Stores the secrets. Writes nothing when they are as stored.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_secrets(&self, secrets: Box<Secrets>) -> Result<u64, StoreError> {
        self.run(move |store| store.save_secrets(&secrets)).await
    }

    /// Counts a start of the gateway.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn begin(&self) -> Result<Start, StoreError> {
        self.run(Store::begin).await
    }

    /// The start has proved good. Writes nothing when that is known.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn settled(&self) -> Result<(), StoreError> {
        self.run(Store::settled).await
    }

    /// The plugin slots, as they were stored.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_slots(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(Store::load_slots).await
    }

    /// Stores the plugin slots. Writes nothing when they are as stored.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_slots(&self, slots: Vec<u8>) -> Result<(), StoreError> {
        self.run(move |store| store.save_slots(&slots)).await
    }

    /// The newest values that can still be found when a load fails.
    pub async fn salvage(&self) -> Salvage {
        self.run(|store| Ok(store.salvage())).await.unwrap_or_default()
    }

    /// Size, wear and content.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn info(&self) -> Result<Info, StoreError> {
        self.run(Store::info).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = Arc::clone(&self.0);
        // A panic in an earlier call leaves flash as a power cut would: usable.
        smol::unblock(move || work(&mut store.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use super::{file::FileNor, *};

    /// A directory that is removed at the end of the test.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        pub(crate) fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("edgeweir-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_handle_stores_what_another_program_run_finds() {
        let scratch = Scratch::new("handle");
        let path = scratch.path("flash");
        drop(Store::format(Box::new(FileNor::create(&path, 1 << 20, false).unwrap())).unwrap());
        smol::block_on(async {
            let flash = Flash::open(&path).await.unwrap();
            assert!(flash.load_config().await.unwrap().active.is_none());
            assert_eq!(flash.save_config(Box::default()).await.unwrap(), 1);
            // A save that nobody waits for must not stand in the way of the next one.
            drop(flash.clone().save_config(Box::default()));
            assert_eq!(flash.save_config(Box::default()).await.unwrap(), 1);
            let mut secrets = Box::new(Secrets::default());
            secrets.set_user("bob", "p").unwrap();
            flash.save_secrets(secrets).await.unwrap();
            assert!(matches!(Flash::open(&path).await, Err(StoreError::Locked)));
            drop(flash);
            let flash = Flash::open(&path).await.unwrap();
            assert_eq!(flash.load_config().await.unwrap().active.unwrap().1, 1);
            assert!(flash.load_secrets().await.unwrap().secrets.user("bob").is_some());
            assert_eq!(flash.info().await.unwrap().configs, 1);
            assert_eq!(flash.history().await.unwrap().len(), 1);
            assert!(matches!(flash.rollback(1).await, Err(StoreError::NoSuch { .. })));
        });
    }
}
