//! Changes to spans of a buffer; everything between them is copied byte for byte.

use core::ops::Range;
use std::borrow::Cow;

/// Changes to one buffer.
#[derive(Clone, Debug, Default)]
pub struct Edits<'e> {
    all: Vec<(Range<usize>, Cow<'e, [u8]>)>,
}

impl<'e> Edits<'e> {
    /// Puts other bytes in the place of a span.
    pub fn replace(&mut self, span: Range<usize>, with: impl Into<Cow<'e, [u8]>>) {
        self.all.push((span, with.into()));
    }

    /// Puts bytes in front of a place. Several at one place keep the order of the calls.
    pub fn insert(&mut self, at: usize, bytes: impl Into<Cow<'e, [u8]>>) {
        self.replace(at..at, bytes);
    }

    /// Takes a span out.
    pub fn remove(&mut self, span: Range<usize>) {
        self.replace(span, &b""[..]);
    }

    /// Nothing changes.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Appends the changed `source` to `out`. Spans that overlap are a mistake of ours: the first
    /// one wins.
    pub fn apply(&self, source: &[u8], out: &mut Vec<u8>) {
        let place = |(span, _): &(Range<usize>, Cow<'_, [u8]>)| (span.start, span.end);
        if self.all.is_sorted_by_key(place) {
            return Self::apply_in_order(self.all.iter(), source, out);
        }
        let mut order: Vec<&(Range<usize>, Cow<'_, [u8]>)> = self.all.iter().collect();
        // Stable: insertions at one place keep their order, and go in front of what is replaced.
        order.sort_by_key(|edit| place(edit));
        Self::apply_in_order(order.into_iter(), source, out);
    }

    fn apply_in_order<'a>(
        all: impl Iterator<Item = &'a (Range<usize>, Cow<'e, [u8]>)>,
        source: &[u8],
        out: &mut Vec<u8>,
    ) where
        'e: 'a,
    {
        let mut splice = Splice::new(source, out);
        for (span, with) in all {
            splice.replace(span.clone(), with);
        }
        splice.finish();
    }
}

/// Changes to one buffer, made as they are told: in the order of their places.
#[derive(Debug)]
pub struct Splice<'s> {
    source: &'s [u8],
    at: usize,
    out: &'s mut Vec<u8>,
}

impl<'s> Splice<'s> {
    /// Appends the changed `source` to `out`.
    pub fn new(source: &'s [u8], out: &'s mut Vec<u8>) -> Self {
        Self { source, at: 0, out }
    }

    /// Puts other bytes in the place of a span, which is skipped if it begins before the last one ended
    /// or lies outside: a mistake of ours.
    pub fn replace(&mut self, span: Range<usize>, with: &[u8]) {
        if span.start < self.at || span.end < span.start || span.end > self.source.len() {
            debug_assert!(false, "edits overlap or lie outside of the buffer");
            return;
        }
        self.out.extend_from_slice(self.source.get(self.at..span.start).unwrap_or_default());
        self.out.extend_from_slice(with);
        self.at = span.end;
    }

    /// Appends what comes after the last change.
    pub fn finish(self) {
        self.out.extend_from_slice(self.source.get(self.at..).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(edits: &Edits<'_>, source: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        edits.apply(source, &mut out);
        out
    }

    #[test]
    fn nothing_to_change_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(applied(&Edits::default(), &bytes), bytes);
    }

    #[test]
    fn changes_apply_in_the_order_of_their_places() {
        let mut edits = Edits::default();
        edits.replace(4..5, &b"E"[..]);
        edits.insert(1, &b"1"[..]);
        edits.insert(1, &b"2"[..]);
        edits.remove(1..3);
        edits.insert(6, &b"!"[..]);
        assert_eq!(applied(&edits, b"abcdef"), b"a12dEf!");
    }
}
