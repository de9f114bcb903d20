//! Tables on a terminal: columns that fit, text of peers that does no harm.
//!
//! Not in here: what the columns mean.

/// How a column behaves.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub head: &'static str,
    /// Numbers stand to the right.
    pub right: bool,
    /// When the terminal is too narrow, columns go, the highest rank first; rank 0 stays.
    pub rank: u8,
    /// Whether its text may be cut to make room.
    pub elastic: bool,
}

impl Column {
    /// A column of text that stays.
    pub const fn text(head: &'static str) -> Self {
        Self { head, right: false, rank: 0, elastic: false }
    }

    /// A column of numbers that stays.
    pub const fn number(head: &'static str) -> Self {
        Self { head, right: true, rank: 0, elastic: false }
    }

    /// May be left out, the higher the earlier.
    pub const fn rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }

    /// May be cut.
    pub const fn elastic(mut self) -> Self {
        self.elastic = true;
        self
    }
}

/// Narrowest that an elastic column becomes.
const ELASTIC_LEAST: usize = 8;
const GAP: &str = "  ";

/// The table as lines, the heading first, none longer than `width` characters.
pub fn lines(columns: &[Column], rows: &[Vec<String>], width: usize) -> Vec<String> {
    let cell = |row: &[String], at: usize| clean(row.get(at).map_or("", String::as_str));
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| (0..columns.len()).map(|at| cell(row, at)).collect()).collect();
    let natural: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let widest = rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count());
            widest.max().unwrap_or(0).max(column.head.chars().count())
        })
        .collect();
    let widths = fitted(columns, &natural, width);
    let heads: Vec<String> = columns.iter().map(|column| column.head.to_owned()).collect();
    core::iter::once(&heads).chain(&rows).map(|row| line(columns, row, &widths, width)).collect()
}

/// The width of each column; 0: left out.
fn fitted(columns: &[Column], natural: &[usize], width: usize) -> Vec<usize> {
    let mut widths = natural.to_vec();
    loop {
        let shown = widths.iter().filter(|width| **width > 0).count();
        let total: usize = widths.iter().sum::<usize>() + shown.saturating_sub(1) * GAP.len();
        let Some(excess) = total.checked_sub(width).filter(|excess| *excess > 0) else {
            return widths;
        };
        let spare = |at: usize, now: usize| {
            let least = columns.get(at).map_or(0, |c| c.head.chars().count()).max(ELASTIC_LEAST);
            let elastic = columns.get(at).is_some_and(|column| column.elastic);
            if elastic { now.saturating_sub(least) } else { 0 }
        };
        let give: usize = widths.iter().enumerate().map(|(at, now)| spare(at, *now)).sum();
        if give >= excess {
            // One character at a time from the widest: columns end up alike.
            for _ in 0..excess {
                let widest = widths
                    .iter()
                    .enumerate()
                    .filter(|(at, now)| spare(*at, **now) > 0)
                    .max_by_key(|(_, now)| **now)
                    .map(|(at, _)| at);
                if let Some(now) = widest.and_then(|at| widths.get_mut(at)) {
                    *now -= 1;
                }
            }
            return widths;
        }
        let dropped = columns
            .iter()
            .enumerate()
            .filter(|(at, column)| column.rank > 0 && widths.get(*at).is_some_and(|now| *now > 0))
            .max_by_key(|(_, column)| column.rank)
            .map(|(at, _)| at);
        match dropped.and_then(|at| widths.get_mut(at)) {
            Some(now) => *now = 0,
            // Nothing more to give: lines are cut at the edge.
            None => return widths,
        }
    }
}

fn line(columns: &[Column], row: &[String], widths: &[usize], width: usize) -> String {
    let mut line = String::new();
    let mut first = true;
    for ((column, cell), fit) in columns.iter().zip(row).zip(widths.iter().copied()) {
        if fit == 0 {
            continue;
        }
        if !first {
            line.push_str(GAP);
        }
        first = false;
        let cell = cut(cell, fit);
        if column.right {
            line.push_str(&format!("{cell:>fit$}"));
        } else {
            line.push_str(&format!("{cell:<fit$}"));
        }
    }
    cut(line.trim_end(), width)
}

/// `text` in at most `width` characters; a cut shows as `…`.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        short.push('…');
    }
    short
}

/// `text` without what could steer a terminal: a User-Agent or a path comes from strangers.
pub fn clean(text: &str) -> String {
    let harmless = |c: char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if harmless(c) { c } else { '·' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 3] =
        [Column::text("NAME"), Column::text("PATH").elastic(), Column::number("COUNT").rank(1)];

    fn check(width: usize, wanted: &[&str]) {
        let rows = [
            vec!["a".to_owned(), "/live/a/rather/long/path".to_owned(), "7".to_owned()],
            vec!["bb".to_owned(), "/x".to_owned(), "12345".to_owned()],
        ];
        assert_eq!(lines(&COLUMNS, &rows, width), wanted);
    }

    #[test]
    fn columns_are_as_wide_as_their_text_when_there_is_room() {
        check(
            80,
            &[
                "NAME  PATH                      COUNT",
                "a     /live/a/rather/long/path      7",
                "bb    /x                        12345",
            ],
        );
    }

    #[test]
    fn elastic_text_is_cut_before_a_column_goes() {
        check(
            24,
            &["NAME  PATH         COUNT", "a     /live/a/ra…      7", "bb    /x           12345"],
        );
        check(20, &["NAME  PATH", "a     /live/a/rathe…", "bb    /x"]);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for width in 0..40 {
            let rows = [vec!["a".repeat(30), "b".repeat(30), "1".into()]];
            for line in lines(&COLUMNS, &rows, width) {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }

    #[test]
    fn text_of_strangers_cannot_steer_the_terminal() {
        assert_eq!(clean("VLC\x1b[2J\u{202e}x\r\n"), "VLC·[2J·x··");
    }
}
