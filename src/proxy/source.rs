//! Where the configuration and the secrets come from and are kept: a store on flash, or text files
//! for development.

use std::{fs, path::PathBuf};

use serde::Deserialize;

use super::RunOptions;
use crate::{
    config::{Config, secrets::Secrets, text},
    flash::Flash,
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
    Files { config: PathBuf, secrets: Option<PathBuf> },
    Flash(Flash),
}

impl Source {
    pub(super) async fn open(options: &RunOptions) -> Result<Self, String> {
        match (&options.config, &options.flash) {
            (Some(config), None) => {
                Ok(Self::Files { config: config.clone(), secrets: options.secrets.clone() })
            }
            (None, Some(path)) => Flash::open(path.clone())
                .await
                .map(Self::Flash)
                .map_err(|error| format!("{}: {error}", path.display())),
            _ => Err("say where the configuration is: --config FILE.toml or --flash FILE".into()),
        }
    }

    pub(super) async fn load(&self) -> Result<Loaded, String> {
        match self {
            Self::Files { config, secrets } => Ok(Loaded {
                config: Box::new(read_config(config)?),
                sequence: 0,
                secrets: Box::new(secrets.as_ref().map_or(Ok(Secrets::default()), read_secrets)?),
                notes: Vec::new(),
            }),
            Self::Flash(flash) => {
                let loaded = flash.load_config().await.map_err(|error| error.to_string())?;
                let secrets = flash.load_secrets().await.map_err(|error| error.to_string())?;
                let (config, sequence) = loaded.active.ok_or(
                    "the store holds no configuration: edgeweir config import FILE.toml --flash",
                )?;
                let notes = loaded.notes.into_iter().chain(secrets.notes).collect();
                Ok(Loaded { config, sequence, secrets: secrets.secrets, notes })
            }
        }
    }

    /// Keeps a configuration; its sequence number. A text file is left as it is: it is its
    /// author's.
    pub(super) async fn keep(&self, config: &Config, sequence: u64) -> Result<u64, String> {
        match self {
            Self::Files { .. } => Ok(sequence),
            Self::Flash(flash) => {
                let config = Box::new(config.clone());
                flash.save_config(config).await.map_err(|error| error.to_string())
            }
        }
    }

    pub(super) async fn keep_secrets(&self, secrets: &Secrets) -> Result<(), String> {
        match self {
            Self::Files { .. } => Ok(()),
            Self::Flash(flash) => {
                let secrets = Box::new(secrets.clone());
                flash.save_secrets(secrets).await.map(drop).map_err(|error| error.to_string())
            }
        }
    }
}

fn read_config(path: &PathBuf) -> Result<Config, String> {
    let text = read(path, CONFIG_TEXT_MAX_BYTES)?;
    text::parse(&text).map_err(|error| error.display(&path.to_string_lossy()).to_string())
}

fn read(path: &PathBuf, max: usize) -> Result<String, String> {
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

fn read_secrets(path: &PathBuf) -> Result<Secrets, String> {
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
