//! The gateway's own session ids, which players echo, as readable words: `<session-1>` is the first that
//! a connection of the tests issues.

use edgeweir::session::IdSource;

/// Ids that a conversation of the tests may issue.
const ISSUED: usize = 8;

/// What a session of the tests takes its ids from.
pub fn source() -> IdSource {
    IdSource::new([7; 32], 1)
}

fn words() -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    let mut source = source();
    (1..=ISSUED).map(move |at| (format!("<session-{at}>").into_bytes(), source.issue()))
}

/// Words in place of ids.
pub fn hidden(bytes: &[u8]) -> Vec<u8> {
    words().fold(bytes.to_vec(), |bytes, (word, id)| replaced(&bytes, &id, &word))
}

/// Ids in place of words.
pub fn shown(bytes: &[u8]) -> Vec<u8> {
    words().fold(bytes.to_vec(), |bytes, (word, id)| replaced(&bytes, &word, &id))
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(old) {
            out.extend_from_slice(new);
            rest = after;
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}
