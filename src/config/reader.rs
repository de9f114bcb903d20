//! Typed access to TOML that remembers where each value stood.
//!
//! Not in here: what the keys mean (`text`) and which values are allowed (`rules`).

use core::{cell::RefCell, ops::RangeInclusive};

use heapless::{String as Bounded, Vec as BoundedVec};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    rules,
    text::{Fault, TextError},
};
use crate::{limits::PLUGIN_CONFIG_DEPTH_MAX, nearest};

/// The text and the places of the keys read from it, so that a rule broken later finds its line.
pub(super) struct Source<'t> {
    text: &'t str,
    places: RefCell<Vec<(String, usize)>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, places: RefCell::default() }
    }

    /// Line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    /// Line of a key, or of the nearest thing around it that was written down.
    pub(super) fn line_of(&self, key: &str) -> usize {
        let places = self.places.borrow();
        let mut key = key;
        loop {
            if let Some((_, offset)) = places.iter().find(|(name, _)| name == key) {
                return self.line(*offset);
            }
            match key.rfind(['.', '[']) {
                Some(cut) => key = key.get(..cut).unwrap_or_default(),
                None => return 1,
            }
        }
    }

    fn remember(&self, key: &str, offset: usize) {
        self.places.borrow_mut().push((key.to_owned(), offset));
    }

    fn error(&self, offset: usize, fault: Fault) -> TextError {
        TextError { line: self.line(offset), fault }
    }
}

/// One table of the text.
pub(super) struct Section<'s, 't> {
    source: &'s Source<'t>,
    /// Key of the table, empty for the whole text.
    path: String,
    offset: usize,
    table: &'s DeTable<'t>,
}

impl<'s, 't> Section<'s, 't> {
    pub(super) fn whole(source: &'s Source<'t>, table: &'s DeTable<'t>) -> Self {
        Self { source, path: String::new(), offset: 0, table }
    }

    fn key(&self, leaf: &str) -> String {
        if self.path.is_empty() { leaf.to_owned() } else { format!("{}.{leaf}", self.path) }
    }

    /// Refuses the first key that is not known.
    pub(super) fn only(&self, known: &[&'static str]) -> Result<(), TextError> {
        let strange = |name: &str| !known.contains(&name);
        let first = self
            .table
            .keys()
            .filter(|key| strange(key.get_ref()))
            .min_by_key(|key| key.span().start);
        let Some(found) = first else { return Ok(()) };
        let name = found.get_ref().as_ref();
        let key = self.key(&shown(name));
        let nearest = nearest::nearest(name, known.iter().copied());
        let fault = Fault::Unknown { key, nearest, known: known.join(", ") };
        Err(self.source.error(found.span().start, fault))
    }

    /// The error that the table as a whole is not what is `allowed`.
    pub(super) fn wrong(&self, found: &str, allowed: &str) -> TextError {
        let (found, allowed) = (found.to_owned(), allowed.to_owned());
        let broken = rules::Broken { key: self.path.clone(), found, allowed };
        self.source.error(self.offset, Fault::Broken(broken))
    }

    /// The value of a key, when it is there.
    pub(super) fn value(&self, leaf: &str) -> Option<Item<'s, 't>> {
        let (name, value) = self.table.get_key_value(leaf)?;
        let key = self.key(leaf);
        self.source.remember(&key, name.span().start);
        Some(Item { source: self.source, key, value })
    }

    /// The value of a key that must be there.
    pub(super) fn required(&self, leaf: &str) -> Result<Item<'s, 't>, TextError> {
        self.value(leaf).ok_or_else(|| {
            let fault = Fault::Missing { key: self.key(leaf) };
            self.source.error(self.offset, fault)
        })
    }

    /// A `[table]`, when it is there.
    pub(super) fn section(&self, leaf: &str) -> Result<Option<Section<'s, 't>>, TextError> {
        self.value(leaf).map(|item| item.section(&format!("a table, [{leaf}]"))).transpose()
    }

    /// `[[tables]]`, at most `most`; none when the key is absent.
    pub(super) fn sections(
        &self,
        leaf: &str,
        most: usize,
    ) -> Result<Vec<Section<'s, 't>>, TextError> {
        let Some(item) = self.value(leaf) else { return Ok(Vec::new()) };
        let form = format!("tables, [[{leaf}]]");
        item.items(most, &form)?.iter().map(|each| each.section(&form)).collect()
    }
}

/// One value of the text.
pub(super) struct Item<'s, 't> {
    source: &'s Source<'t>,
    key: String,
    value: &'s Spanned<DeValue<'t>>,
}

impl<'s, 't> Item<'s, 't> {
    /// The error that this value is not what is `allowed`.
    pub(super) fn wrong(&self, allowed: impl Into<String>) -> TextError {
        self.wrong_as(described(self.value.get_ref()), allowed)
    }

    pub(super) fn wrong_as(&self, found: String, allowed: impl Into<String>) -> TextError {
        let broken = rules::Broken { key: self.key.clone(), found, allowed: allowed.into() };
        self.source.error(self.value.span().start, Fault::Broken(broken))
    }

    pub(super) fn str(&self) -> Result<&'s str, TextError> {
        self.value.get_ref().as_str().ok_or_else(|| self.wrong("text in double quotes"))
    }

    /// A string that fits its bound. A longer one is not repeated in the error: it may hold a
    /// password that belongs elsewhere.
    pub(super) fn bounded<const N: usize>(&self) -> Result<Bounded<N>, TextError> {
        let text = self.str()?;
        Bounded::try_from(text).map_err(|_| {
            self.wrong_as(format!("{} bytes", text.len()), format!("at most {N} bytes"))
        })
    }

    pub(super) fn number(&self) -> Result<u16, TextError> {
        let leaf = self.key.rsplit('.').next().unwrap_or_default();
        let range: RangeInclusive<u16> = rules::range(leaf);
        let wrong = || self.wrong(rules::words(&range));
        let integer = self.value.get_ref().as_integer().ok_or_else(wrong)?;
        let value = i64::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| wrong())?;
        u16::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(wrong)
    }

    pub(super) fn boolean(&self) -> Result<bool, TextError> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong("true or false"))
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, TextError> {
        self.choice_or(choices, None)
    }

    /// One of several words; an error names `other` too, which the caller has looked for.
    pub(super) fn choice_or<T: Copy>(
        &self,
        choices: &[(&str, T)],
        other: Option<&str>,
    ) -> Result<T, TextError> {
        let word = self.value.get_ref().as_str();
        if let Some((_, choice)) = choices.iter().find(|(name, _)| Some(*name) == word) {
            return Ok(*choice);
        }
        let words = choices.iter().map(|(name, _)| format!("\"{name}\""));
        let names: Vec<_> = words.chain(other.map(str::to_owned)).collect();
        Err(self.wrong(names.join(", ")))
    }

    /// A table as the text of a JSON object, its keys in the order of the alphabet.
    pub(super) fn json_object(&self) -> Result<String, TextError> {
        if self.value.get_ref().as_table().is_none() {
            return Err(self.wrong("a table"));
        }
        self.json(0).map(|value| value.to_string())
    }

    fn json(&self, depth: usize) -> Result<serde_json::Value, TextError> {
        if depth == PLUGIN_CONFIG_DEPTH_MAX {
            return Err(self.wrong(rules::JSON_DEPTH));
        }
        let below = |key: String, value: &'s Spanned<DeValue<'t>>| {
            Item { source: self.source, key, value }.json(depth + 1)
        };
        Ok(match self.value.get_ref() {
            DeValue::String(text) => text.as_ref().into(),
            DeValue::Boolean(value) => (*value).into(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
                .map_err(|_| self.wrong("a number of 64 bits"))?
                .into(),
            DeValue::Float(number) => {
                let value = number.as_str().parse().ok().and_then(serde_json::Number::from_f64);
                value.ok_or_else(|| self.wrong("a finite number"))?.into()
            }
            DeValue::Datetime(_) => return Err(self.wrong("a date as text, in double quotes")),
            DeValue::Array(array) => {
                let key = |at| format!("{}[{at}]", self.key);
                let items = array.iter().enumerate().map(|(at, value)| below(key(at), value));
                items.collect::<Result<Vec<_>, _>>()?.into()
            }
            DeValue::Table(table) => {
                let entries = table.iter().map(|(name, value)| {
                    let name = name.get_ref().as_ref();
                    let key = format!("{}.{}", self.key, shown(name));
                    Ok((name.to_owned(), below(key, value)?))
                });
                serde_json::Value::Object(entries.collect::<Result<_, TextError>>()?)
            }
        })
    }

    /// Something that is written as text and parsed; `""` is none.
    pub(super) fn parsed<T: core::str::FromStr>(&self, form: &str) -> Result<Option<T>, TextError> {
        match self.str()? {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| self.wrong(form)),
        }
    }

    /// A bounded list, each element read by `read`.
    pub(super) fn list<T, const N: usize>(
        &self,
        form: &str,
        read: impl Fn(&Item<'s, 't>) -> Result<T, TextError>,
    ) -> Result<BoundedVec<T, N>, TextError> {
        let mut list = BoundedVec::new();
        for item in self.items(N, form)? {
            list.push(read(&item)?).map_err(|_| self.wrong(format!("at most {N}")))?;
        }
        Ok(list)
    }

    fn items(&self, most: usize, form: &str) -> Result<Vec<Item<'s, 't>>, TextError> {
        let Some(array) = self.value.get_ref().as_array() else {
            return Err(self.wrong(form));
        };
        let mut items = Vec::new();
        for (at, value) in array.iter().enumerate() {
            let key = format!("{}[{at}]", self.key);
            let item = Item { source: self.source, key, value };
            if at == most {
                return Err(
                    item.wrong_as(format!("{} of them", array.len()), format!("at most {most}"))
                );
            }
            self.source.remember(&item.key, value.span().start);
            items.push(item);
        }
        Ok(items)
    }

    fn section(&self, form: &str) -> Result<Section<'s, 't>, TextError> {
        let Some(table) = self.value.get_ref().as_table() else { return Err(self.wrong(form)) };
        Ok(Section {
            source: self.source,
            path: self.key.clone(),
            offset: self.value.span().start,
            table,
        })
    }
}

/// A value as a message shows it.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => rules::quoted(shown(text)),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// The beginning of a text, for a message of one line.
fn shown(text: &str) -> String {
    const MOST: usize = 80;
    if text.chars().count() <= MOST {
        return text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'");
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{}…", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_past_the_end_is_the_last_one() {
        let source = Source::new("a\nb\n");
        assert_eq!(source.line(0), 1);
        assert_eq!(source.line(2), 2);
        assert_eq!(source.line(999), 3);
    }
}
