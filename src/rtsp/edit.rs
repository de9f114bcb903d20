//! Changes to spans of a buffer; everything between them is copied byte for byte.

use core::ops::Range;

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

    fn spliced(source: &[u8], changes: &[(Range<usize>, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut splice = Splice::new(source, &mut out);
        for (span, with) in changes {
            splice.replace(span.clone(), with);
        }
        splice.finish();
        out
    }

    #[test]
    fn nothing_to_change_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(spliced(&bytes, &[]), bytes);
    }

    #[test]
    fn what_lies_between_changes_is_copied() {
        let changes: [(Range<usize>, &[u8]); 4] =
            [(1..1, b"12"), (1..3, b""), (4..5, b"E"), (6..6, b"!")];
        assert_eq!(spliced(b"abcdef", &changes), b"a12dEf!");
    }
}
