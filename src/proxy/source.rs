//! Where the configuration and the secrets come from and are kept: a store on flash, or text files
//! for development.
//!
//! A store that cannot be read does not keep the gateway down: what can still be found on it is
//! used, nothing is stored, and both are said. Not in here: the store.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use log::info;
use serde::Deserialize;

use super::RunOptions;
#[cfg(feature = "plugins")]
use super::slots::SlotStore;
use crate::{
    config::{Config, secrets::Secrets, text},
    flash::{
        Flash,
        salvage::{self, Salvage},
        store::{Start, StoreError},
    },
    limits::CONFIG_TEXT_MAX_BYTES,
};

/// A configuration with all that belongs to it.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Box<Config>,
    pub(super) sequence: u64,
    pub(super) secrets: Box<Secrets>,
    /// What an operator should know.
    pub(super) notes: Vec<String>,
}

/// Where they are kept.
pub(super) enum Source {
    Files {
        config: PathBuf,
        secrets: Option<PathBuf>,
    },
    Flash {
        flash: Flash,
        /// What an empty store takes as its configuration.
        first: Option<PathBuf>,
    },
    /// A store that cannot be opened, and why.
    Lost {
        path: PathBuf,
        why: String,
        /// What is used when nothing of a store is found on a device.
        first: Option<PathBuf>,
    },
}

impl Source {
    pub(super) async fn open(options: &RunOptions) -> Result<Self, String> {
        match (&options.config, &options.flash) {
            (Some(config), None) => {
                Ok(Self::Files { config: config.clone(), secrets: options.secrets.clone() })
            }
            (None, Some(path)) => match open_flash(path, options.first_config.as_deref()).await? {
                Ok(flash) => Ok(Self::Flash { flash, first: options.first_config.clone() }),
                Err(error) if is_damage(&error) => Ok(Self::Lost {
                    path: path.clone(),
                    why: error.to_string(),
                    first: options.first_config.clone(),
                }),
                Err(error) => Err(format!("{}: {error}", path.display())),
            },
            _ => Err("say where the configuration is: --config FILE.toml or --flash FILE".into()),
        }
    }

    pub(super) async fn load(&self) -> Result<Loaded, String> {
        match self {
            Self::Files { config, secrets } => Ok(Loaded {
                config: Box::new(read_config(config)?),
                sequence: 0,
                secrets: Box::new(secrets.as_deref().map_or(Ok(Secrets::default()), read_secrets)?),
                notes: Vec::new(),
            }),
            Self::Flash { flash, first } => match load(flash).await {
                Ok(loaded) => Ok(loaded),
                Err(Unloaded::Empty) => match first {
                    Some(file) => begin_with(flash, file).await,
                    None => Err(EMPTY.to_owned()),
                },
                Err(Unloaded::Damaged(mut notes)) => {
                    notes.push("a search through the flash is made".to_owned());
                    Ok(salvaged(flash.salvage().await, notes))
                }
            },
            Self::Lost { path, why, first } => {
                let found = search(path).await;
                let place = path.display();
                let note = format!("the store on {place} cannot be used: {why}");
                if found.config.is_none() && *why == StoreError::NotAStore.to_string() {
                    // A file that never was a store is a mistake of whoever named it; a device may
                    // have been one, and people without a console must reach the gateway.
                    return match first {
                        Some(first) if Flash::is_device(path) => {
                            let first_note = format!("{} is used, and not stored", first.display());
                            let config = Box::new(read_config(first)?);
                            let (sequence, secrets) = (0, Box::default());
                            Ok(Loaded { config, sequence, secrets, notes: vec![note, first_note] })
                        }
                        _ => Err(format!("{place}: {why}")),
                    };
                }
                Ok(salvaged(found, vec![note]))
            }
        }
    }

    /// Counts this start of the gateway, see [`crate::flash::store::Store::begin`].
    pub(super) async fn begin(&self) -> Start {
        let Self::Flash { flash, .. } = self else { return Start::default() };
        flash.begin().await.unwrap_or_else(|error| Start {
            notes: vec![format!("this start cannot be counted on flash: {error}")],
            ..Start::default()
        })
    }

    /// This start was a good one, or is ended on purpose.
    pub(super) async fn settled(&self) -> Result<(), String> {
        let Self::Flash { flash, .. } = self else { return Ok(()) };
        flash.settled().await.map_err(|error| error.to_string())
    }

    #[cfg(feature = "plugins")]
    /// Where it is kept what the slots for plugins hold.
    pub(super) fn slots(&self, data: &Path) -> SlotStore {
        match self {
            Self::Files { .. } => SlotStore::in_directory(data),
            Self::Flash { flash, .. } => SlotStore::Flash(flash.clone()),
            Self::Lost { why, .. } => SlotStore::Lost(lost(why)),
        }
    }

    /// Keeps a configuration; its sequence number. A text file is left as it is: it is its
    /// author's.
    pub(super) async fn keep(&self, config: &Config, sequence: u64) -> Result<u64, String> {
        match self {
            Self::Files { .. } => Ok(sequence),
            Self::Flash { flash, .. } => {
                let config = Box::new(config.clone());
                flash.save_config(config).await.map_err(|error| error.to_string())
            }
            Self::Lost { why, .. } => Err(lost(why)),
        }
    }

    pub(super) async fn keep_secrets(&self, secrets: &Secrets) -> Result<(), String> {
        match self {
            Self::Files { .. } => Ok(()),
            Self::Flash { flash, .. } => {
                let secrets = Box::new(secrets.clone());
                flash.save_secrets(secrets).await.map(drop).map_err(|error| error.to_string())
            }
            Self::Lost { why, .. } => Err(lost(why)),
        }
    }
}

const EMPTY: &str =
    "the store holds no configuration: edgeweir config import FILE.toml --flash DEVICE_OR_FILE";

/// Opens the store. Where nothing is at all it is made, if there is a first configuration for it.
async fn open_flash(
    path: &Path,
    first: Option<&Path>,
) -> Result<Result<Flash, StoreError>, String> {
    match (Flash::open(path).await, first) {
        (Err(wrong), Some(first)) if Flash::is_nothing_at(path, &wrong).await => {
            read_config(first)?;
            Ok(Flash::make(path).await)
        }
        (opened, _) => Ok(opened),
    }
}

/// Stores and uses the first configuration of a store that never held one.
async fn begin_with(flash: &Flash, file: &Path) -> Result<Loaded, String> {
    let config = Box::new(read_config(file)?);
    let place = file.display();
    let sequence = flash
        .save_config(config.clone())
        .await
        .map_err(|error| format!("{place} cannot be stored as the first configuration: {error}"))?;
    info!("the store was empty: its configuration is that of {place} from now on");
    Ok(Loaded { config, sequence, secrets: Box::default(), notes: Vec::new() })
}

fn lost(why: &str) -> String {
    format!("the store cannot be used: {why}")
}

/// Whether a store is there but not usable, rather than the wrong place named.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt
        | StoreError::NewerVersion(_)
        | StoreError::NotAStore
        | StoreError::Full
        | StoreError::Bug(_) => true,
        StoreError::Io(error) => {
            use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
            let wrong_place = [NotFound, PermissionDenied, IsADirectory, ReadOnlyFilesystem];
            !wrong_place.contains(&error.kind())
        }
        _ => false,
    }
}

enum Unloaded {
    /// Nothing was ever stored.
    Empty,
    /// It was, and cannot be read.
    Damaged(Vec<String>),
}

async fn load(flash: &Flash) -> Result<Loaded, Unloaded> {
    let damaged =
        |error: StoreError| Unloaded::Damaged(vec![format!("the store cannot be read: {error}")]);
    let loaded = flash.load_config().await.map_err(damaged)?;
    let secrets = flash.load_secrets().await.map_err(damaged)?;
    let notes: Vec<String> = loaded.notes.into_iter().chain(secrets.notes).collect();
    match loaded.active {
        Some((config, sequence)) => {
            Ok(Loaded { config, sequence, secrets: secrets.secrets, notes })
        }
        None if notes.is_empty() => Err(Unloaded::Empty),
        None => Err(Unloaded::Damaged(notes)),
    }
}

async fn search(path: &Path) -> Salvage {
    let path = path.to_owned();
    smol::unblock(move || salvage::path(&path)).await.unwrap_or_default()
}

/// What to run with after a search. With nothing found the gateway serves no route, but its control
/// socket answers, and says why.
fn salvaged(found: Salvage, mut notes: Vec<String>) -> Loaded {
    notes.push(match &found.config {
        Some((_, sequence)) => format!("configuration {sequence} was found there and is used"),
        None => "no configuration was found, there is no route: import one".to_owned(),
    });
    let (config, sequence) = found.config.unwrap_or_default();
    let secrets = found.secrets.unwrap_or_default().0;
    Loaded { config, sequence, secrets, notes }
}

fn read_config(path: &Path) -> Result<Config, String> {
    let text = read(path, CONFIG_TEXT_MAX_BYTES)?;
    text::parse(&text).map_err(|error| error.display(&path.to_string_lossy()).to_string())
}

fn read(path: &Path, max: usize) -> Result<String, String> {
    let place = path.display();
    let size = fs::metadata(path).map_err(|error| format!("{place}: {error}"))?.len();
    if size > max as u64 {
        return Err(format!("{place}: {size} bytes, allowed up to {max}"));
    }
    fs::read_to_string(path).map_err(|error| format!("{place}: {error}"))
}

/// Secrets as text, for development: on a device they are set one by one and kept on flash.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsText {
    #[serde(default)]
    user: Vec<UserText>,
    #[serde(default)]
    credential: Vec<CredentialText>,
    control_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserText {
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialText {
    name: String,
    user: String,
    password: String,
}

/// Users and credentials as text, for gateways without a store and for tools.
///
/// # Errors
/// The place, and what is allowed there; never the secret.
pub fn read_secrets(path: &Path) -> Result<Secrets, String> {
    use std::os::unix::fs::PermissionsExt;
    let place = path.display();
    let meta = fs::metadata(path).map_err(|error| format!("{place}: {error}"))?;
    if meta.permissions().mode() & 0o007 != 0 {
        return Err(format!("{place}: others may read the secrets: chmod o= {place}"));
    }
    let text = read(path, CONFIG_TEXT_MAX_BYTES)?;
    // The parser's own message quotes the line, and with it the secret.
    let parsed: SecretsText = toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(0, |span| {
            1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
        });
        format!(
            "{place}:{line}: [[user]] takes name, password; [[credential]] name, user, password"
        )
    })?;
    let mut secrets = Secrets::default();
    let named = |name: &str, error| format!("{place}: {name}: {error}");
    for user in &parsed.user {
        secrets.set_user(&user.name, &user.password).map_err(|e| named(&user.name, e))?;
    }
    for item in &parsed.credential {
        secrets
            .set_credential(&item.name, &item.user, &item.password)
            .map_err(|e| named(&item.name, e))?;
    }
    secrets
        .set_control_token(parsed.control_token.as_deref())
        .map_err(|e| named("control_token", e))?;
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_and_their_errors_do_not_show_them() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("edgeweir-secrets-{}", std::process::id()));
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            read_secrets(&path)
        };
        let good = "[[user]]\nname = \"a\"\npassword = \"geheim\"\n\
                    [[credential]]\nname = \"nvr\"\nuser = \"admin\"\npassword = \"geheim\"\n";
        let secrets = write(good, 0o600).unwrap();
        assert!(secrets.user("a").unwrap().has_password("geheim"));
        assert_eq!(secrets.credential("nvr").unwrap().user.as_str(), "admin");
        assert!(write(good, 0o644).unwrap_err().contains("chmod"));
        let wrong = write("[[user]]\nname = \"a\"\npass = \"geheim\"\n", 0o600).unwrap_err();
        assert!(wrong.contains(":3:") && !wrong.contains("geheim"), "{wrong}");
        fs::remove_file(path).unwrap();
    }
}
