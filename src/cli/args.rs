//! Words, options and operands of the command line, by one table.
//!
//! Not in here: what they mean beyond their form ([`super::commands`]), the texts of `--help`
//! ([`super::help`]).

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
    str::FromStr,
};

use lexopt::Arg;

use super::{
    Failure,
    help::{self, Spec},
};
use crate::{
    control::{client::Client, socket::DEFAULT_PATH},
    nearest::nearest,
};

/// A command as it was called.
#[derive(Debug)]
pub struct Call {
    /// What the command is and takes.
    pub spec: &'static Spec,
    options: BTreeMap<&'static str, OsString>,
    operands: Vec<OsString>,
    /// `--help` or `--version` was among the arguments.
    pub asks: Option<Asks>,
}

/// What is printed in place of running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// `--help`
    Help,
    /// `--version`
    Version,
}

/// Takes the arguments behind the program's name apart.
///
/// # Errors
/// [`Failure::Usage`]: an unknown command or option, a value or operand missing or too much.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Call, Failure> {
    let mut parser = lexopt::Parser::from_args(args);
    let mut spec = &help::ROOT;
    let mut options = BTreeMap::new();
    let mut operands = Vec::new();
    let mut asks = None;
    loop {
        let next = parser.next().map_err(|wrong| usage(spec, &wrong.to_string()))?;
        let name = match next {
            None => break,
            Some(Arg::Short('h')) => "help".to_owned(),
            Some(Arg::Short('V')) => "version".to_owned(),
            Some(Arg::Short(letter)) => format!("-{letter}"),
            Some(Arg::Long(name)) => name.to_owned(),
            Some(Arg::Value(word)) => {
                if operands.is_empty()
                    && let Some(below) = help::below(spec, &word)
                {
                    spec = below;
                } else {
                    operands.push(word);
                }
                continue;
            }
        };
        match name.as_str() {
            "help" => asks = Some(Asks::Help),
            "version" => asks = asks.or(Some(Asks::Version)),
            _ => {
                let known = help::option(spec, &name).ok_or_else(|| {
                    let meant = nearest(&name, help::options(spec).map(|option| option.name));
                    let meant = meant.map(|name| format!("--{name}"));
                    usage(spec, &format!("unknown option {}{}", dashed(&name), perhaps(meant)))
                })?;
                let value = if known.value.is_empty() {
                    OsString::new()
                } else {
                    parser.value().map_err(|_| {
                        usage(spec, &format!("--{name} needs a value: {}", known.value))
                    })?
                };
                if options.insert(known.name, value).is_some() {
                    return Err(usage(spec, &format!("--{name} is given twice")));
                }
            }
        }
    }
    let call = Call { spec, options, operands, asks };
    if asks.is_none() {
        call.check()?;
    }
    Ok(call)
}

fn dashed(name: &str) -> String {
    if name.starts_with('-') { name.to_owned() } else { format!("--{name}") }
}

fn perhaps(meant: Option<String>) -> String {
    meant.map_or_else(String::new, |meant| format!(", perhaps `{meant}` was meant"))
}

/// The command that a word was probably meant for: below `spec`, by its own name elsewhere, or by a
/// word that others say for it.
fn meant(spec: &Spec, word: &OsStr) -> Option<String> {
    let word = word.to_str()?;
    if let Some(near) = nearest(word, help::words_below(spec)) {
        return Some(near.to_owned());
    }
    let elsewhere = help::ending_in(word).map(Spec::full_name);
    elsewhere.or_else(|| {
        let said = match word {
            "add" | "camera" | "cameras" | "origins" => "edgeweir origin add",
            "start" | "serve" | "daemon" => "edgeweir run",
            "play" | "test" | "ping" => "edgeweir probe",
            "password" | "passwd" => "edgeweir config user",
            "ps" | "list" => "edgeweir sessions",
            "diagnose" | "debug" => "edgeweir doctor",
            _ => return None,
        };
        Some(said.to_owned())
    })
}

fn usage(spec: &Spec, text: &str) -> Failure {
    Failure::Usage(format!("{text}; see `{} --help`", spec.full_name()))
}

impl Call {
    fn check(&self) -> Result<(), Failure> {
        if self.spec.is_group() {
            return Err(match self.operands.first() {
                None => usage(self.spec, "a command is missing"),
                Some(word) => {
                    let meant = perhaps(meant(self.spec, word));
                    let word = word.to_string_lossy();
                    usage(self.spec, &format!("unknown command `{word}`{meant}"))
                }
            });
        }
        let (count, most) = (self.operands.len(), self.spec.operands.len());
        if let Some(extra) = self.operands.get(most) {
            let near = extra.to_str().and_then(|word| nearest(word, help::words_below(self.spec)));
            let meant = perhaps(near.map(str::to_owned));
            let extra = extra.to_string_lossy();
            return Err(usage(self.spec, &format!("unexpected argument `{extra}`{meant}")));
        }
        match self.spec.operands.get(count) {
            Some(missing) if !missing.starts_with('[') => {
                Err(usage(self.spec, &format!("{missing} is missing")))
            }
            _ => Ok(()),
        }
    }

    /// A wrong usage of this command, with the way to its help.
    pub fn wrong(&self, text: &str) -> Failure {
        usage(self.spec, text)
    }

    /// Whether an option without value was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.contains_key(name)
    }

    /// An option's value as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.options.get(name).map(PathBuf::from)
    }

    /// An option's value as text.
    ///
    /// # Errors
    /// It is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        self.options
            .get(name)
            .map(|value| value.to_str().ok_or_else(|| self.wrong(&format!("--{name} is no text"))))
            .transpose()
    }

    /// An option's value as a number.
    ///
    /// # Errors
    /// It is none, or not in `allowed`.
    pub fn number<T: FromStr + PartialOrd + core::fmt::Display>(
        &self,
        name: &str,
        allowed: core::ops::RangeInclusive<T>,
    ) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        let (least, most) = (allowed.start(), allowed.end());
        number
            .map(Some)
            .ok_or_else(|| self.wrong(&format!("--{name} {text}: allowed are {least} to {most}")))
    }

    /// An operand, counted from 0.
    pub fn operand(&self, at: usize) -> Option<&OsStr> {
        self.operands.get(at).map(OsString::as_os_str)
    }

    /// An operand as text.
    ///
    /// # Errors
    /// It is missing or not UTF-8.
    pub fn operand_text(&self, at: usize) -> Result<&str, Failure> {
        let name = self.spec.operands.get(at).copied().unwrap_or("an argument");
        let missing = || self.wrong(&format!("{name} is missing"));
        self.operand(at)
            .ok_or_else(missing)?
            .to_str()
            .ok_or_else(|| self.wrong(&format!("{name} is no text")))
    }

    /// An operand as a file; `-` is stdin.
    ///
    /// # Errors
    /// It is missing.
    pub fn operand_file(&self, at: usize) -> Result<PathBuf, Failure> {
        let name = self.spec.operands.get(at).copied().unwrap_or("an argument");
        let found = self.operand(at).ok_or_else(|| self.wrong(&format!("{name} is missing")))?;
        Ok(PathBuf::from(if found == "-" { OsStr::new("/dev/stdin") } else { found }))
    }

    /// The control socket: `--control`, else `EDGEWEIR_CONTROL`, else the usual place.
    pub fn control(&self) -> PathBuf {
        self.path("control")
            .or_else(|| from_env("EDGEWEIR_CONTROL"))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_PATH))
    }

    /// A client of the running gateway.
    pub fn client(&self) -> Client {
        Client::new(self.control())
    }
}

/// A variable of the environment as a path; empty is as good as unset.
pub fn from_env(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str) -> Result<Call, String> {
        parse(line.split_whitespace().map(OsString::from)).map_err(|failure| match failure {
            Failure::Usage(text) => text,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn words_lead_to_the_command_and_options_may_stand_anywhere() {
        let call = check("--control=/tmp/c config import --flash f a.toml").unwrap();
        assert_eq!(call.spec.full_name(), "edgeweir config import");
        assert_eq!(call.control(), PathBuf::from("/tmp/c"));
        assert_eq!(call.path("flash"), Some(PathBuf::from("f")));
        assert_eq!(call.operand_text(0).unwrap(), "a.toml");
        // A file may be called like a command, and anything behind `--` is an operand.
        assert_eq!(check("config check check").unwrap().operand_text(0).unwrap(), "check");
        assert_eq!(check("config check -- --x").unwrap().operand_text(0).unwrap(), "--x");
    }

    #[test]
    fn wrong_usage_says_what_and_where_help_is() {
        for (line, text) in [
            ("", "a command is missing; see `edgeweir --help`"),
            ("fly", "unknown command `fly`; see `edgeweir --help`"),
            ("config fly", "unknown command `fly`; see `edgeweir config --help`"),
            ("status --fast", "unknown option --fast; see `edgeweir status --help`"),
            ("status -x", "unknown option -x; see `edgeweir status --help`"),
            (
                "status --watch=1",
                "unexpected argument for option '--watch': \"1\"; see `edgeweir status --help`",
            ),
            (
                "stauts",
                "unknown command `stauts`, perhaps `status` was meant; see `edgeweir --help`",
            ),
            (
                "import a.toml",
                "unknown command `import`, perhaps `edgeweir config import` was meant; see \
                 `edgeweir --help`",
            ),
            (
                "config exprot",
                "unknown command `exprot`, perhaps `export` was meant; see `edgeweir config --help`",
            ),
            (
                "sessions clos",
                "unexpected argument `clos`, perhaps `close` was meant; see \
                 `edgeweir sessions --help`",
            ),
            (
                "status --wacth",
                "unknown option --wacth, perhaps `--watch` was meant; see `edgeweir status --help`",
            ),
            ("status now", "unexpected argument `now`; see `edgeweir status --help`"),
            ("status --json --json", "--json is given twice; see `edgeweir status --help`"),
            ("status --control", "--control needs a value: PATH; see `edgeweir status --help`"),
            ("config check", "FILE is missing; see `edgeweir config check --help`"),
        ] {
            assert_eq!(check(line).unwrap_err(), text, "{line}");
        }
    }

    #[test]
    fn help_and_version_come_before_any_other_check() {
        assert_eq!(check("config import --help").unwrap().asks, Some(Asks::Help));
        assert_eq!(check("-V").unwrap().asks, Some(Asks::Version));
        assert_eq!(check("status --version -h").unwrap().asks, Some(Asks::Help));
    }

    #[test]
    fn numbers_are_checked_against_their_range() {
        let call = |line| check(line).unwrap();
        let wrong = call("flash format f --size 0").number("size", 1..=3600_u64);
        assert!(matches!(wrong, Err(Failure::Usage(text))
            if text.starts_with("--size 0: allowed are 1 to 3600")));
        let size = |line| call(line).number("size", 1..=3600_u64).ok();
        assert_eq!(size("flash format f --size 3600"), Some(Some(3600)));
        assert_eq!(size("flash format f --size 3601"), None);
        assert_eq!(size("flash format f"), Some(None));
    }
}
