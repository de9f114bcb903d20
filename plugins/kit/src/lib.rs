//! What plugins have in common: reading a configuration, with errors that name the key and what is
//! allowed, the [`lifecycle!`] around settings that are read once, and the [`MEMORY`] of calls.
//!
//! The reader is our own, because what there is does one of two things: it weighs more than a whole guest
//! (serde_json: 40 KB), or it says neither which key is wrong nor that one is unknown (miniserde,
//! nanoserde, serde-json-core).
//!
//! Not in here: numbers with a fraction (no setting has one), writing JSON, the bindings (each guest
//! generates its own, for its world).

#![deny(unsafe_code)]

mod json;
mod lifecycle;
mod memory;

use std::ops::RangeInclusive;

pub use json::Value;
pub use memory::{CallMemory, MEMORY};

/// A plugin's configuration: take each key once, then [`finish`](Config::finish).
#[derive(Debug)]
pub struct Config {
    entries: Vec<(String, Value)>,
    known: Vec<&'static str>,
}

impl Config {
    /// Reads one JSON object.
    ///
    /// # Errors
    /// What is wrong and at which byte.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        match json::parse(text)? {
            Value::Object(entries) => Ok(Self { entries, known: Vec::new() }),
            other => Err(format!("the configuration is {}: an object is expected", other.kind())),
        }
    }

    /// A value as it is, for what the other functions do not cover.
    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        let at = self.entries.iter().position(|(name, _)| name == key)?;
        Some(self.entries.swap_remove(at).1)
    }

    /// A whole number in `allowed`; none: the key is not there.
    ///
    /// # Errors
    /// It is no number, or not in the range.
    pub fn integer(
        &mut self,
        key: &'static str,
        allowed: RangeInclusive<u32>,
    ) -> Result<Option<u32>, String> {
        let (low, high) = (*allowed.start(), *allowed.end());
        match self.take(key) {
            None => Ok(None),
            Some(Value::Integer(found)) => match u32::try_from(found) {
                Ok(number) if allowed.contains(&number) => Ok(Some(number)),
                _ => Err(format!("{key} = {found}: {low} to {high} is allowed")),
            },
            Some(other) => Err(expected(key, &format!("a number, {low} to {high}"), &other)),
        }
    }

    /// A truth value; none: the key is not there.
    ///
    /// # Errors
    /// It is none.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(found)) => Ok(Some(found)),
            Some(other) => Err(expected(key, "true or false", &other)),
        }
    }

    /// A text of 1 to `max_bytes`; none: the key is not there.
    ///
    /// # Errors
    /// It is no text, empty, or too long.
    pub fn string(
        &mut self,
        key: &'static str,
        max_bytes: usize,
    ) -> Result<Option<String>, String> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => text(key, value, max_bytes).map(Some),
        }
    }

    /// A list of at most `max_entries` texts of 1 to `max_bytes`; empty if the key is not there.
    ///
    /// # Errors
    /// It is no list of texts, or longer.
    pub fn strings(
        &mut self,
        key: &'static str,
        max_entries: usize,
        max_bytes: usize,
    ) -> Result<Vec<String>, String> {
        match self.take(key) {
            None => Ok(Vec::new()),
            Some(Value::List(found)) if found.len() > max_entries => {
                Err(format!("{key} has {} entries: at most {max_entries} are allowed", found.len()))
            }
            Some(Value::List(found)) => {
                found.into_iter().map(|value| text(key, value, max_bytes)).collect()
            }
            Some(other) => Err(expected(key, "a list of texts", &other)),
        }
    }

    /// Refuses what nobody asked for.
    ///
    /// # Errors
    /// An unknown key, with the known ones.
    pub fn finish(self) -> Result<(), String> {
        match self.entries.first() {
            None => Ok(()),
            Some((key, _)) if self.known.is_empty() => {
                Err(format!("unknown key \"{key}\": this plugin has no settings"))
            }
            Some((key, _)) => {
                let mut text = format!("unknown key \"{key}\": known are ");
                for (at, known) in self.known.iter().enumerate() {
                    text.push_str(if at > 0 { ", " } else { "" });
                    text.push_str(known);
                }
                Err(text)
            }
        }
    }
}

fn text(key: &str, value: Value, max_bytes: usize) -> Result<String, String> {
    match value {
        Value::String(found) if found.is_empty() => Err(format!("{key}: an empty text")),
        Value::String(found) if found.len() > max_bytes => {
            Err(format!("{key}: a text of {} bytes, at most {max_bytes} are allowed", found.len()))
        }
        Value::String(found) => Ok(found),
        other => Err(expected(key, "a text", &other)),
    }
}

fn expected(key: &str, what: &str, found: &Value) -> String {
    format!("{key} is {}: {what} is expected", found.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_not_there_is_none() {
        let mut config = config("{}");
        assert_eq!(config.integer("a", 1..=2), Ok(None));
        assert_eq!(config.boolean("b"), Ok(None));
        assert_eq!(config.string("c", 9), Ok(None));
        assert_eq!(config.strings("d", 9, 9), Ok(Vec::new()));
        assert_eq!(config.finish(), Ok(()));
    }

    #[test]
    fn values_are_taken_at_their_bounds_and_refused_past_them() {
        for (text, fits) in [("1", true), ("5", true), ("0", false), ("6", false), ("-1", false)] {
            let mut config = config(&format!("{{\"n\": {text}}}"));
            assert_eq!(config.integer("n", 1..=5).is_ok(), fits, "{text}");
        }
        assert_eq!(config(r#"{"s":"abc"}"#).string("s", 3), Ok(Some("abc".to_owned())));
        assert!(config(r#"{"s":"abcd"}"#).string("s", 3).is_err());
        assert!(config(r#"{"s":""}"#).string("s", 3).is_err());
        assert_eq!(config(r#"{"l":["a","b"]}"#).strings("l", 2, 1).unwrap().len(), 2);
        assert!(config(r#"{"l":["a","b","c"]}"#).strings("l", 2, 1).is_err());
    }

    #[test]
    fn errors_name_the_key_and_what_is_allowed() {
        let check = |error: Result<(), String>, text: &str| assert_eq!(error, Err(text.to_owned()));
        let of = |text| Config::parse(text);
        check(of(b"[]").map(drop), "the configuration is a list: an object is expected");
        check(config(r#"{"n":9}"#).integer("n", 1..=5).map(drop), "n = 9: 1 to 5 is allowed");
        check(
            config(r#"{"n":"9"}"#).integer("n", 1..=5).map(drop),
            "n is a text: a number, 1 to 5 is expected",
        );
        check(
            config(r#"{"l":[1]}"#).strings("l", 2, 2).map(drop),
            "l is a number: a text is expected",
        );
        let mut known = config(r#"{"stcky":1}"#);
        assert_eq!(known.integer("sticky", 1..=5), Ok(None));
        check(known.finish(), "unknown key \"stcky\": known are sticky");
        check(config(r#"{"a":1}"#).finish(), "unknown key \"a\": this plugin has no settings");
    }
}
