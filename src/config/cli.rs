//! The offline part of `edgeweir config`: files and a store that no gateway has open.
//!
//! Each function does one command and returns what to print on stdout, or an error of one line.
//! While the gateway runs it holds the store; then the same commands go through its control
//! socket. Not in here: arguments, printing, the running gateway.

use core::fmt;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::{
    Config, EXAMPLE,
    image::{self, IMAGE_MAX},
    print,
    secrets::SecretError,
    text::{self, TextError},
    warnings,
};
use crate::{
    flash::store::{Store, StoreError},
    limits::CONFIG_TEXT_MAX_BYTES,
};

/// Why a command failed: one line for stderr, exit code 1.
#[derive(Debug)]
pub enum CliError {
    /// A file could not be read.
    File {
        /// The file.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// A file is no configuration.
    Text {
        /// The file.
        path: String,
        /// Where and why.
        error: TextError,
    },
    /// A file is not UTF-8.
    NotText {
        /// The file.
        path: String,
        /// The first line with such bytes, counted from 1.
        line: usize,
    },
    /// The store did not do it.
    Store {
        /// The file or device.
        path: String,
        /// Why.
        error: StoreError,
    },
    /// The secret was not taken.
    Secret(SecretError),
    /// `config secret` was given something other than `user:password`.
    NoColon,
    /// The store has no configuration.
    Empty {
        /// The file or device.
        path: String,
    },
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => write!(f, "{path}: {error}"),
            Self::Text { path, error } => error.display(path).fmt(f),
            Self::NotText { path, line } => {
                write!(f, "{path}:{line}: found bytes that are not UTF-8, save it as UTF-8 text")
            }
            Self::Store { path, error } => write!(f, "{path}: {error}"),
            Self::Secret(error) => error.fmt(f),
            Self::NoColon => write!(f, "found no colon, give one line `user:password` on stdin"),
            Self::Empty { path } => write!(
                f,
                "{path}: no configuration is stored, put one there with `edgeweir config import`"
            ),
        }
    }
}

impl core::error::Error for CliError {}

impl From<SecretError> for CliError {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

/// Reads a configuration from a file.
///
/// # Errors
/// [`CliError::File`], [`CliError::NotText`] or [`CliError::Text`].
pub fn read(path: &Path) -> Result<Box<Config>, CliError> {
    let name = || path.display().to_string();
    let fail = |error| CliError::File { path: name(), error };
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file is refused and not cut.
    let most = CONFIG_TEXT_MAX_BYTES as u64 + 1;
    File::open(path).map_err(fail)?.take(most).read_to_end(&mut bytes).map_err(fail)?;
    let text = core::str::from_utf8(&bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        CliError::NotText { path: name(), line }
    })?;
    match text::parse(text) {
        Ok(config) => Ok(Box::new(config)),
        Err(error) => Err(CliError::Text { path: name(), error }),
    }
}

/// `edgeweir config check FILE [--flash FLASH]`; with a store, what its secrets lack is told from
/// what has to be stored in any case.
///
/// # Errors
/// Those of [`read`], [`CliError::Store`].
pub fn check(path: &Path, flash: Option<&Path>) -> Result<Checked, CliError> {
    let config = read(path)?;
    let secrets = match flash {
        Some(flash) => {
            let (mut store, fail) = open(flash)?;
            Some(store.load_secrets().map_err(&fail)?.secrets)
        }
        None => None,
    };
    let warnings = warnings(&config, secrets.as_deref());
    let said = format!(
        "{}: good, {} origins, {} routes, {} of {IMAGE_MAX} bytes on flash\n",
        path.display(),
        config.origins.len(),
        config.routes.len(),
        image::encode(&config, 0).len(),
    );
    Ok(Checked { said, warnings })
}

/// What a command did, and what there is left to do.
#[derive(Debug)]
pub struct Checked {
    /// What was done.
    pub said: String,
    /// What the configuration needs and is not there, each with its remedy.
    pub warnings: Vec<String>,
}

/// `edgeweir config example`
pub fn example() -> &'static str {
    EXAMPLE
}

/// `edgeweir config import FILE --flash FLASH`
///
/// # Errors
/// Those of [`read`], [`CliError::Store`]. A wrong file changes nothing.
pub fn import(path: &Path, flash: &Path) -> Result<Checked, CliError> {
    store(&*read(path)?, flash)
}

/// The same, of a text.
///
/// # Errors
/// [`CliError::Text`], [`CliError::Store`].
pub fn import_text(text: &str, flash: &Path) -> Result<Checked, CliError> {
    let path = "the configuration".to_owned();
    let config = text::parse(text).map_err(|error| CliError::Text { path, error })?;
    store(&config, flash)
}

fn store(config: &Config, flash: &Path) -> Result<Checked, CliError> {
    let (mut store, fail) = open(flash)?;
    let before = store.history().map_err(&fail)?.first().map(|entry| entry.sequence);
    let sequence = store.save_config(config).map_err(&fail)?;
    let what = if before == Some(sequence) { "unchanged" } else { "stored" };
    let said = format!("{}: configuration {sequence} {what}\n", flash.display());
    let secrets = store.load_secrets().map_err(&fail)?.secrets;
    Ok(Checked { said, warnings: warnings(config, Some(&secrets)) })
}

/// `edgeweir config export --flash FLASH`: the text of the active configuration, after comments
/// for what had to be skipped.
///
/// # Errors
/// [`CliError::Store`] or [`CliError::Empty`].
pub fn export(flash: &Path) -> Result<String, CliError> {
    let (mut store, fail) = open(flash)?;
    let loaded = store.load_config().map_err(&fail)?;
    let Some((config, sequence)) = loaded.active else {
        return Err(CliError::Empty { path: flash.display().to_string() });
    };
    let notes: String = loaded.notes.iter().map(|note| format!("# note: {note}\n")).collect();
    Ok(format!(
        "# configuration {sequence} of {}\n{notes}{}",
        flash.display(),
        print::print(&config)
    ))
}

/// The text of the active configuration; of a store that has none, that of the default.
///
/// # Errors
/// [`CliError::Store`].
pub fn export_or_default(flash: &Path) -> Result<String, CliError> {
    let (mut store, fail) = open(flash)?;
    let loaded = store.load_config().map_err(&fail)?;
    let config = loaded.active.map(|(config, _)| config).unwrap_or_default();
    Ok(print::print(&config))
}

/// `edgeweir config history --flash FLASH`: a line for each, newest first.
///
/// # Errors
/// [`CliError::Store`].
pub fn history(flash: &Path) -> Result<String, CliError> {
    let (mut store, fail) = open(flash)?;
    let entries = store.history().map_err(&fail)?;
    if entries.is_empty() {
        return Ok("no configuration is stored\n".to_owned());
    }
    let mut out = String::from("BACK  NUMBER  BYTES  STATE\n");
    let active = entries.iter().position(|entry| entry.fault.is_none());
    for (at, entry) in entries.iter().enumerate() {
        let state = match (&entry.fault, active) {
            (Some(fault), _) => fault.as_str(),
            (None, Some(active)) if active == at => "active",
            _ => "",
        };
        let back = active.and_then(|active| at.checked_sub(active));
        let back = back.map_or("-".to_owned(), |back| back.to_string());
        let line = format!("{back:>4}  {:>6}  {:>5}  {state}", entry.sequence, entry.bytes);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    Ok(out)
}

/// `edgeweir config rollback [N] --flash FLASH`; `back` is 1 when none is given.
///
/// # Errors
/// [`CliError::Store`].
pub fn rollback(flash: &Path, back: usize) -> Result<String, CliError> {
    let (mut store, fail) = open(flash)?;
    let (_, sequence) = store.rollback(back).map_err(&fail)?;
    Ok(format!("{}: configuration {sequence} stored, as it was {back} back\n", flash.display()))
}

/// `edgeweir config user NAME --flash FLASH`: a user for `digest` and `basic`; the password is
/// one line of stdin.
///
/// # Errors
/// [`CliError::Secret`] or [`CliError::Store`].
pub fn user(flash: &Path, name: &str, line: &str) -> Result<String, CliError> {
    edit_secrets(flash, |secrets| Ok(secrets.set_user(name, one_line(line))?))?;
    Ok(format!("user {name} stored\n"))
}

/// `edgeweir config user NAME --remove --flash FLASH`
///
/// # Errors
/// [`CliError::Secret`] or [`CliError::Store`].
pub fn remove_user(flash: &Path, name: &str) -> Result<String, CliError> {
    edit_secrets(flash, |secrets| Ok(secrets.remove_user(name)?))?;
    Ok(format!("user {name} removed\n"))
}

/// `edgeweir config secret NAME --flash FLASH`: credentials toward origins; `user:password` is
/// one line of stdin. The password may have colons.
///
/// # Errors
/// [`CliError::NoColon`], [`CliError::Secret`] or [`CliError::Store`].
pub fn secret(flash: &Path, name: &str, line: &str) -> Result<String, CliError> {
    let (user, password) = one_line(line).split_once(':').ok_or(CliError::NoColon)?;
    edit_secrets(flash, |secrets| Ok(secrets.set_credential(name, user, password)?))?;
    Ok(format!("credentials {name} stored\n"))
}

/// `edgeweir config secret NAME --remove --flash FLASH`
///
/// # Errors
/// [`CliError::Secret`] or [`CliError::Store`].
pub fn remove_secret(flash: &Path, name: &str) -> Result<String, CliError> {
    edit_secrets(flash, |secrets| Ok(secrets.remove_credential(name)?))?;
    Ok(format!("credentials {name} removed\n"))
}

/// `edgeweir config token --flash FLASH`: the bearer token of the control API over TCP, one line
/// of stdin; an empty line takes it away.
///
/// # Errors
/// [`CliError::Secret`] or [`CliError::Store`].
pub fn token(flash: &Path, line: &str) -> Result<String, CliError> {
    let token = Some(one_line(line)).filter(|token| !token.is_empty());
    edit_secrets(flash, |secrets| Ok(secrets.set_control_token(token)?))?;
    Ok(format!("token {}\n", if token.is_some() { "stored" } else { "removed" }))
}

/// Without the line end that `echo` and terminals add.
fn one_line(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

fn edit_secrets(
    flash: &Path,
    edit: impl FnOnce(&mut super::secrets::Secrets) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let (mut store, fail) = open(flash)?;
    let mut loaded = store.load_secrets().map_err(&fail)?;
    edit(&mut loaded.secrets)?;
    store.save_secrets(&loaded.secrets).map_err(&fail)?;
    Ok(())
}

/// The store, and what turns its errors into ours.
fn open(flash: &Path) -> Result<(Store, impl Fn(StoreError) -> CliError), CliError> {
    let path = flash.display().to_string();
    let fail = move |error| CliError::Store { path: path.clone(), error };
    Store::open_path(flash).map(|store| (store, fail.clone())).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flash::{cli as flash_cli, tests::Scratch};

    #[test]
    fn text_goes_to_flash_and_back_with_its_history() {
        let scratch = Scratch::new("cli");
        let (flash, file) = (scratch.path("flash"), scratch.path("a.toml"));
        flash_cli::format(&flash, None, false).unwrap();
        let empty = export(&flash).unwrap_err().to_string();
        assert!(empty.contains("config import"), "{empty}");
        assert_eq!(history(&flash).unwrap(), "no configuration is stored\n");
        for sessions in 1..=3 {
            std::fs::write(&file, format!("[limits]\nsessions = {sessions}\n")).unwrap();
            assert!(import(&file, &flash).unwrap().said.ends_with("stored\n"));
        }
        assert!(import(&file, &flash).unwrap().said.ends_with("configuration 3 unchanged\n"));
        assert!(export(&flash).unwrap().contains("sessions = 3"));
        rollback(&flash, 2).unwrap();
        assert!(export(&flash).unwrap().contains("sessions = 1\n"));
        let table = history(&flash).unwrap();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines[1].starts_with("   0       4") && lines[1].ends_with("active"), "{table}");
        // A wrong file leaves the good configuration.
        std::fs::write(&file, "[limits]\nsessions = 0\n").unwrap();
        let told = import(&file, &flash).unwrap_err().to_string();
        assert!(told.ends_with("a.toml:2: key `limits.sessions`: found 0, allowed 1 to 65535"));
        assert!(export(&flash).unwrap().contains("sessions = 1\n"));
        let told = rollback(&flash, 9).unwrap_err().to_string();
        assert!(told.ends_with("there are 3 earlier configurations, name 1 to 3"), "{told}");
    }

    #[test]
    fn secrets_are_taken_from_one_line_and_never_exported() {
        let scratch = Scratch::new("cli-secrets");
        let flash = scratch.path("flash");
        flash_cli::format(&flash, None, false).unwrap();
        user(&flash, "bob", "s3cret\r\n").unwrap();
        secret(&flash, "nvr", "root:a:b\n").unwrap();
        token(&flash, "0123456789abcdef\n").unwrap();
        assert!(matches!(secret(&flash, "nvr", "root\n"), Err(CliError::NoColon)));
        assert!(matches!(user(&flash, "a b", "p"), Err(CliError::Secret(_))));
        let secrets = Store::open_path(&flash).unwrap().load_secrets().unwrap().secrets;
        assert!(secrets.user("bob").unwrap().has_password("s3cret"));
        assert_eq!(secrets.credential("nvr").unwrap().password, "a:b");
        assert_eq!(secrets.control_token.as_deref(), Some("0123456789abcdef"));
        remove_user(&flash, "bob").unwrap();
        remove_secret(&flash, "nvr").unwrap();
        token(&flash, "\n").unwrap();
        assert!(matches!(remove_user(&flash, "bob"), Err(CliError::Secret(SecretError::Unknown))));
    }

    #[test]
    fn files_that_are_no_text_or_too_long_are_refused() {
        let scratch = Scratch::new("cli-files");
        let file = scratch.path("f");
        std::fs::write(&file, b"# a\n\xff\n").unwrap();
        assert!(matches!(check(&file, None), Err(CliError::NotText { line: 2, .. })));
        std::fs::write(&file, " ".repeat(CONFIG_TEXT_MAX_BYTES + 10)).unwrap();
        assert!(matches!(check(&file, None), Err(CliError::Text { .. })));
        assert!(matches!(check(&scratch.path("none"), None), Err(CliError::File { .. })));
        std::fs::write(&file, example()).unwrap();
        let checked = check(&file, None).unwrap();
        assert!(checked.said.contains("good, 2 origins, 1 routes") && checked.warnings.is_empty());
        let text = "[[origin]]\nname = \"a\"\nurl = \"rtsp://h\"\ncredentials = \"nvr\"\n";
        std::fs::write(&file, text).unwrap();
        assert!(check(&file, None).unwrap().warnings[0].contains("config secret nvr"));
        let flash = scratch.path("flash");
        flash_cli::format(&flash, None, false).unwrap();
        assert!(import(&file, &flash).unwrap().warnings[0].contains("config secret nvr"));
        secret(&flash, "nvr", "root:a\n").unwrap();
        assert!(check(&file, Some(&flash)).unwrap().warnings.is_empty());
    }
}
