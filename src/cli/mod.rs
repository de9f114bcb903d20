//! The command line: GNU habits, one page of help for each command.
//!
//! * [`args`]: words and options, by one table;  [`help`]: the texts.
//! * [`commands`]: from arguments to the function that does it.
//! * [`tools`]: `camera` and `probe`;  [`config`]: the commands that read and change the configuration;
//!   [`origin`]: those for cameras and recorders; [`doctor`]: what is wrong; [`plugin`]: those for plugins.
//! * [`screen`], [`table`], [`watch`], [`terminal`]: what is shown, and on what.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line on stderr, with the remedy.
//! Not in here: anything that a command does.

pub mod args;
pub mod commands;
pub mod config;
pub mod doctor;
pub mod help;
pub mod origin;
pub mod plugin;
#[cfg(feature = "compiler")]
pub mod plugin_check;
pub mod screen;
pub mod table;
pub mod terminal;
pub mod tools;
pub mod watch;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

/// Why a command ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was called wrongly: exit code 2.
    Usage(String),
    /// It did not work: exit code 1.
    Failed(String),
    /// Nobody reads stdout any more (`edgeweir sessions | head`): nothing to say.
    Unread,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// The program.
pub fn main() -> ExitCode {
    #[cfg(feature = "compiler")]
    if let Some(code) = compiling_child() {
        return code;
    }
    let done = args::parse(std::env::args_os().skip(1)).and_then(commands::run);
    crate::logger::flush();
    let (text, code) = match done {
        Ok(()) | Err(Failure::Unread) => return ExitCode::SUCCESS,
        Err(Failure::Failed(text)) => (text, 1),
        Err(Failure::Usage(text)) => (text, 2),
    };
    // One line, whatever an error was made of.
    let text = table::clean(&text.trim_end().replace('\n', "; "));
    let _ = writeln!(io::stderr(), "edgeweir: {text}");
    ExitCode::from(code)
}

/// The child in which the gateway compiles a plugin; no command for people, so it is in no help.
#[cfg(feature = "compiler")]
fn compiling_child() -> Option<ExitCode> {
    use crate::plugin::child;
    let mut args = std::env::args_os().skip(1);
    if args.next()? != child::COMMAND {
        return None;
    }
    let args: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    Some(match child::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    })
}

/// Prints to stdout, and at once: the one place that does.
///
/// # Errors
/// [`Failure::Unread`] when the reader has gone, [`Failure::Failed`] when the disk is full.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|wrong| {
        if wrong.kind() == io::ErrorKind::BrokenPipe {
            Failure::Unread
        } else {
            Failure::Failed(format!("cannot write to stdout: {wrong}"))
        }
    })
}

/// Tells a person something beside the output.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", table::clean(text));
}
