//! Where it is kept what the slots for plugins hold: on flash, or in a file beside a text
//! configuration.
//!
//! ```text
//!  0            4                            n
//!  +------------+----------------------------+
//!  | fallbacks  | image of the slots, as the |
//!  | u32 LE     | plugin room writes it      |
//!  +------------+----------------------------+
//! ```
//!
//! The number says which fallbacks of early ends (`flash/store/boot.rs`) the slots have followed.
//! Not in here: components, which are files of their own.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::RunOptions;
use crate::{flash::Flash, limits::STORE_SLOTS_MAX_BYTES};

/// Where plugins live when neither the command line nor the system says where, and the
/// configuration is on a device.
const DEFAULT_DATA: &str = "/var/lib/edgeweir";
/// The file in the data directory.
const FILE: &str = "slots";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// Fallbacks that the slots have followed.
    pub(super) fallbacks: u32,
    /// The slots.
    pub(super) slots: Vec<u8>,
}

/// Where it is kept.
pub(super) enum SlotStore {
    Flash(Flash),
    File(PathBuf),
    /// Nowhere: why.
    Lost(String),
}

impl Image {
    fn encode(&self) -> Vec<u8> {
        [&self.fallbacks.to_le_bytes()[..], &self.slots].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fallbacks, slots) = bytes.split_first_chunk()?;
        Some(Self { fallbacks: u32::from_le_bytes(*fallbacks), slots: slots.to_vec() })
    }
}

impl SlotStore {
    /// The file in a data directory.
    pub(super) fn in_directory(data: &Path) -> Self {
        Self::File(data.join(FILE))
    }

    /// What is kept; none: nothing ever was.
    pub(super) async fn load(&self) -> Result<Option<Image>, String> {
        let bytes = match self {
            Self::Flash(flash) => flash.load_slots().await.map_err(|error| error.to_string())?,
            Self::File(path) => match read(path) {
                Ok(bytes) => Some(bytes),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(format!("{}: {error}", path.display())),
            },
            Self::Lost(why) => return Err(why.clone()),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        Image::decode(&bytes).map(Some).ok_or_else(|| "fewer bytes than there must be".to_owned())
    }

    /// Keeps it: afterwards the new one is there, or, on an error or a power cut, the old one.
    pub(super) async fn save(&self, image: Image) -> Result<(), String> {
        match self {
            Self::Flash(flash) => {
                flash.save_slots(image.encode()).await.map_err(|error| error.to_string())
            }
            Self::File(path) => {
                write(path, &image.encode()).map_err(|error| format!("{}: {error}", path.display()))
            }
            Self::Lost(why) => Err(why.clone()),
        }
    }
}

/// Directory for components: `--data`, else what the system's service manager says, else beside the
/// configuration.
pub(super) fn data_directory(options: &RunOptions) -> PathBuf {
    let said = options.data.clone().or_else(|| {
        let states = std::env::var_os("STATE_DIRECTORY").filter(|states| !states.is_empty())?;
        std::env::split_paths(&states).next()
    });
    let beside = || {
        let file = options.config.as_ref().or(options.flash.as_ref())?;
        let is_file = fs::metadata(file).is_ok_and(|meta| meta.is_file());
        is_file.then(|| {
            let mut name = file.clone().into_os_string();
            name.push(".data");
            PathBuf::from(name)
        })
    };
    said.or_else(beside).unwrap_or_else(|| DEFAULT_DATA.into())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let too_large = fs::metadata(path)?.len() > STORE_SLOTS_MAX_BYTES as u64;
    if too_large { Err(io::ErrorKind::FileTooLarge.into()) } else { fs::read(path) }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_what_was_saved_last() {
        let folder = std::env::temp_dir().join(format!("edgeweir-slots-{}", std::process::id()));
        let store = SlotStore::in_directory(&folder.join("data"));
        smol::block_on(async {
            assert_eq!(store.load().await, Ok(None));
            for fallbacks in [1, u32::MAX] {
                let image = Image { fallbacks, slots: vec![7; 9] };
                store.save(image.clone()).await.unwrap();
                assert_eq!(store.load().await, Ok(Some(image)));
            }
            let file = folder.join("data/slots");
            fs::write(&file, [1, 2, 3]).unwrap();
            assert!(store.load().await.is_err());
            fs::write(&file, vec![0; STORE_SLOTS_MAX_BYTES + 1]).unwrap();
            assert!(store.load().await.is_err());
        });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn components_lie_beside_a_configuration_that_is_a_file() {
        let mut options = RunOptions {
            config: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")),
            flash: None,
            first_config: None,
            note: None,
            secrets: None,
            control: PathBuf::new(),
            data: None,
            image_plugins: None,
            watchdog: None,
            healthy_after: core::time::Duration::ZERO,
        };
        assert!(data_directory(&options).ends_with("Cargo.toml.data"));
        options.config = None;
        options.flash = Some("/dev/null".into());
        assert_eq!(data_directory(&options), PathBuf::from(DEFAULT_DATA));
        options.data = Some("/x".into());
        assert_eq!(data_directory(&options), PathBuf::from("/x"));
    }
}
