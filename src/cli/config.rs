//! `edgeweir config …`: through the control socket, or with `--flash` on a store that no gateway
//! has open.
//!
//! Not in here: the offline work itself ([`crate::config::cli`]).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use hyper::Method;
use serde::Serialize;

use super::{Failure, args::Call, note, print, table, terminal};
use crate::{
    config::{
        cli::{self as offline, Checked},
        text,
    },
    control::model::{Credential, Done, HistoryEntry, Password, Token},
    limits::{CONFIG_HISTORY, CONFIG_TEXT_MAX_BYTES},
};

/// Does one of the commands; `word` is the one behind `config`.
///
/// # Errors
/// As the command says.
pub fn run(word: &str, call: &Call) -> Result<(), Failure> {
    let flash = call.path("flash");
    let flash = flash.as_deref();
    match word {
        "check" => checked(offline::check(&call.operand_file(0)?, flash).map_err(said)?),
        "import" => checked(import(call, &call.operand_file(0)?, flash)?),
        "export" => print(&export(call, flash)?),
        "edit" => edit(call, flash),
        "history" => history(call, flash),
        "rollback" => rollback(call, flash),
        "example" => print(offline::example()),
        "user" => user(call, flash),
        "secret" => secret(call, flash),
        _ => token(call, flash),
    }
}

pub(super) fn said(wrong: impl core::fmt::Display) -> Failure {
    Failure::Failed(wrong.to_string())
}

/// What was done goes to stdout, what there is left to do beside it.
pub(super) fn checked(done: Checked) -> Result<(), Failure> {
    print(&done.said)?;
    for warning in &done.warnings {
        note(&format!("warning: {warning}"));
    }
    Ok(())
}

fn import(call: &Call, file: &Path, flash: Option<&Path>) -> Result<Checked, Failure> {
    if let Some(flash) = flash {
        return offline::import(file, flash).map_err(said);
    }
    // Checked here as well, so that an error names the file.
    let text = read(file)?;
    let name = file.display().to_string();
    text::parse(&text).map_err(|wrong| Failure::Failed(wrong.display(&name).to_string()))?;
    Ok(call.client().done(Method::PUT, "/v1/config", text)?.into())
}

impl From<Done> for Checked {
    fn from(done: Done) -> Self {
        Self { said: done.changed + "\n", warnings: done.warnings }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let name = file.display();
    let most = CONFIG_TEXT_MAX_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|wrong| Failure::Failed(format!("{name}: {wrong}")))?;
    if bytes.len() as u64 == most {
        let wrong = format!("{name}: too long, allowed are {CONFIG_TEXT_MAX_BYTES} bytes");
        return Err(Failure::Failed(wrong));
    }
    String::from_utf8(bytes)
        .map_err(|_| Failure::Failed(format!("{name}: is not UTF-8, save it as UTF-8 text")))
}

fn export(call: &Call, flash: Option<&Path>) -> Result<String, Failure> {
    match flash {
        Some(flash) => offline::export(flash).map_err(said),
        None => Ok(call.client().read_text("/v1/config")?),
    }
}

/// A file that goes when this is dropped, unless it is worth keeping.
struct Draft {
    path: PathBuf,
    keep: bool,
}

impl Draft {
    fn new(text: &str) -> Result<Self, Failure> {
        let name = format!("edgeweir-{}-config.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        // A new file, readable for us only: the folder may belong to everybody.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|wrong| Failure::Failed(format!("{}: {wrong}", path.display())))?;
        Ok(Self { path, keep: false })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn edit(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    let before = export(call, flash)?;
    let mut draft = Draft::new(&before)?;
    loop {
        open_editor(&draft.path)?;
        if read(&draft.path).is_ok_and(|text| text == before) {
            return print("nothing changed\n");
        }
        match import(call, &draft.path, flash) {
            Ok(done) => return checked(done),
            Err(Failure::Failed(wrong)) => {
                if !again(&wrong) {
                    draft.keep = true;
                    let kept = draft.path.display();
                    let text = format!("{wrong}; nothing has changed, the text is kept in {kept}");
                    return Err(Failure::Failed(text));
                }
            }
            Err(other) => return Err(other),
        }
    }
}

/// Shows what is wrong and asks whether to edit again; without a terminal nobody can say yes.
fn again(wrong: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    note(wrong);
    let _ = write!(io::stderr(), "edit again? [Y/n] ");
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.is_ok_and(|count| count > 0) && !answer.trim().to_lowercase().starts_with('n')
}

fn open_editor(file: &Path) -> Result<(), Failure> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // By way of the shell, because EDITOR may hold options: `code --wait`.
    let done = Command::new("sh")
        .arg("-c")
        .arg(format!("{editor} \"$1\""))
        .arg("edgeweir")
        .arg(file)
        .status()
        .map_err(|wrong| Failure::Failed(format!("cannot start `{editor}`: {wrong}")))?;
    if done.success() {
        return Ok(());
    }
    Err(Failure::Failed(format!(
        "the editor `{editor}` failed ({done}), nothing has changed; set EDITOR to another one"
    )))
}

fn history(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    if let Some(flash) = flash {
        if call.has("json") {
            return Err(call.wrong("--json goes with a running gateway only, not with --flash"));
        }
        return print(&offline::history(flash).map_err(said)?);
    }
    let entries: Vec<HistoryEntry> = call.client().read("/v1/config/history")?;
    if call.has("json") {
        return print(&(json(&entries)? + "\n"));
    }
    let columns = [
        table::Column::number("BACK"),
        table::Column::number("NUMBER"),
        table::Column::text("WHAT").elastic(),
    ];
    let rows: Vec<Vec<String>> = entries
        .into_iter()
        .map(|entry| vec![entry.back.to_string(), entry.sequence.to_string(), entry.summary])
        .collect();
    let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
    let lines = table::lines(&columns, &rows, width);
    print(&lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>())
}

fn rollback(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    let back = match call.operand(0) {
        None => 1,
        Some(_) => {
            let text = call.operand_text(0)?;
            text.parse().ok().filter(|back| (1..=CONFIG_HISTORY).contains(back)).ok_or_else(
                || call.wrong(&format!("N `{text}`: allowed are 1 to {CONFIG_HISTORY}")),
            )?
        }
    };
    if let Some(flash) = flash {
        return print(&offline::rollback(flash, back).map_err(said)?);
    }
    let place = format!("/v1/config/rollback?n={back}");
    checked(call.client().done(Method::POST, &place, String::new())?.into())
}

fn user(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    let name = call.operand_text(0)?;
    let place = format!("/v1/secrets/users/{}", in_path(call, name)?);
    match (flash, call.has("remove")) {
        (Some(flash), true) => print(&offline::remove_user(flash, name).map_err(said)?),
        (None, true) => remove(call, &place),
        (flash, false) => {
            let password = terminal::secret_line(&format!("password of {name}: "))?;
            match flash {
                Some(flash) => print(&offline::user(flash, name, &password).map_err(said)?),
                None => put(call, &place, &Password { password }),
            }
        }
    }
}

fn secret(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    let name = call.operand_text(0)?;
    let place = format!("/v1/secrets/credentials/{}", in_path(call, name)?);
    match (flash, call.has("remove")) {
        (Some(flash), true) => print(&offline::remove_secret(flash, name).map_err(said)?),
        (None, true) => remove(call, &place),
        (flash, false) => {
            let line = terminal::secret_line(&format!("user:password of {name}: "))?;
            if let Some(flash) = flash {
                return print(&offline::secret(flash, name, &line).map_err(said)?);
            }
            let (user, password) =
                line.split_once(':').ok_or_else(|| said(offline::CliError::NoColon))?;
            let credential = Credential { user: user.to_owned(), password: password.to_owned() };
            put(call, &place, &credential)
        }
    }
}

fn token(call: &Call, flash: Option<&Path>) -> Result<(), Failure> {
    let place = "/v1/secrets/token";
    match (flash, call.has("remove")) {
        (Some(flash), true) => print(&offline::token(flash, "").map_err(said)?),
        (None, true) => remove(call, place),
        (flash, false) => {
            let token = terminal::secret_line("token: ")?;
            if token.is_empty() {
                return Err(said("no token was given; --remove takes the stored one away"));
            }
            match flash {
                Some(flash) => print(&offline::token(flash, &token).map_err(said)?),
                None => put(call, place, &Token { token }),
            }
        }
    }
}

/// A name that can stand in a path as it is; the gateway knows no others.
pub(super) fn in_path<'a>(call: &Call, name: &'a str) -> Result<&'a str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(name);
    }
    Err(call.wrong(&format!("NAME `{name}`: allowed are letters, digits, `-`, `_`, `.`, `@`")))
}

fn put(call: &Call, place: &str, body: &impl Serialize) -> Result<(), Failure> {
    changed(call.client().change(Method::PUT, place, json(body)?))
}

fn remove(call: &Call, place: &str) -> Result<(), Failure> {
    changed(call.client().change(Method::DELETE, place, String::new()))
}

fn changed(done: Result<String, String>) -> Result<(), Failure> {
    print(&(done? + "\n"))
}

pub(super) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(said)
}
