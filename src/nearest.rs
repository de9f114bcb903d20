//! The word that was probably meant: for keys, commands and options that nobody knows.

/// Letters added, left out or changed that make a slip.
const SLIPS: usize = 2;

/// The one of `known` that `word` is most likely a slip for.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let slips = known.into_iter().filter_map(|other| Some((slips(word, other)?, other)));
    slips.min_by_key(|(slips, _)| *slips).map(|(_, other)| other)
}

/// How many slips lead from one word to the other, when it is likely that they did: at most two, two
/// letters that changed places counted as two, and never most of a short word.
fn slips(a: &str, b: &str) -> Option<usize> {
    if a.len() > 64 || a.len().abs_diff(b.len()) > SLIPS {
        return None;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], n: usize| row.get(n).copied().unwrap_or(usize::MAX - 1);
            let change = at(&row, j) + usize::from(x != *y);
            next.push(change.min(at(&row, j + 1) + 1).min(at(&next, j) + 1));
        }
        row = next;
    }
    row.last().copied().filter(|slips| *slips <= SLIPS && 2 * slips < b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let known = ["weight", "media_ports", "url", "run"];
        assert_eq!(nearest("wieght", known), Some("weight"));
        assert_eq!(nearest("media_port", known), Some("media_ports"));
        assert_eq!(nearest("urls", known), Some("url"));
        assert_eq!(nearest("rum", known), Some("run"));
        assert_eq!(nearest("fly", known), None, "a short word is not made of slips");
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest(&"a".repeat(1000), known), None);
    }
}
