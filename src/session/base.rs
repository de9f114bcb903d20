//! What lies below the place where one side has its presentation, where that place may have a query
//! or a slash at its end.
//!
//! Not in here: which place that is ([`super::mapping::Mapping`]).

use std::borrow::Cow;

use super::mapping::below;
use crate::rtsp::url::Base;

impl Base {
    /// The URL of what lies at `tail` below this base. Of two slashes where they meet one stays, and
    /// of two queries the second goes on with `&`: `/cam?channel=1` and `?token=x` are
    /// `/cam?channel=1&token=x`.
    pub(super) fn at(&self, tail: &[u8]) -> Vec<u8> {
        let path = &self.path[..];
        match tail.first() {
            Some(b'/') => [&self.authority, path.strip_suffix(b"/").unwrap_or(path), tail].concat(),
            Some(b'?') if path.contains(&b'?') => {
                [&self.authority, path, b"&", tail.get(1..).unwrap_or_default()].concat()
            }
            _ => [&self.authority, path, tail].concat(),
        }
    }

    /// What lies below this base: the other way round.
    pub(super) fn tail<'a>(&self, rest: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let path = self.path.strip_suffix(b"/").unwrap_or(&self.path);
        let more = rest.strip_prefix(path).and_then(|tail| tail.strip_prefix(b"&"));
        match more.filter(|_| path.contains(&b'?')) {
            Some(query) => Some([b"?", query].concat().into()),
            // The base as it is named in the configuration, with its slash, is the base itself.
            None if rest == self.path => Some(Cow::default()),
            None => below(rest, path).map(Cow::Borrowed),
        }
    }
}
