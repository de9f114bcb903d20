//! Transform coefficients as variable-length codes (H.264 9.2, CAVLC), as far as the camera needs:
//! blocks whose neighbours have no coefficients (`nC` 0) and the 2x2 blocks of chroma DC (`nC` -1).
//!
//! Not in here: the transform, the prediction, other contexts.

use super::bits::BitWriter;

/// One code: its length in bits and its value.
type Code = (u8, u8);

/// Which of the two kinds of blocks is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// 16 levels, in zigzag order.
    Luma,
    /// 4 levels, in raster order.
    ChromaDc,
}

/// Writes one block of `levels` in scan order: 16 of them for luma, 4 for chroma DC.
pub(super) fn block(out: &mut BitWriter, kind: Kind, levels: &[i32]) {
    // From the highest frequency down, as the syntax wants it: (level, zeros before it).
    let mut coded: Vec<(i32, usize)> = Vec::with_capacity(levels.len());
    let mut run = 0;
    for &level in levels {
        if level == 0 {
            run += 1;
        } else {
            coded.push((level, run));
            run = 0;
        }
    }
    coded.reverse();
    let total = coded.len();
    let ones = coded.iter().take(3).take_while(|(level, _)| level.abs() == 1).count();
    let token = match kind {
        Kind::Luma => COEFF_TOKEN[total][ones],
        Kind::ChromaDc => COEFF_TOKEN_CHROMA_DC[total][ones],
    };
    put(out, token);
    if total == 0 {
        return;
    }
    for &(level, _) in coded.iter().take(ones) {
        out.flag(level < 0);
    }
    magnitudes(out, &coded, ones);
    runs(out, kind, &coded, levels.len());
}

/// The levels after the trailing ones (9.2.2.1).
fn magnitudes(out: &mut BitWriter, coded: &[(i32, usize)], ones: usize) {
    let mut suffix = u32::from(coded.len() > 10 && ones < 3);
    for (index, &(level, _)) in coded.iter().enumerate().skip(ones) {
        let magnitude = level.unsigned_abs();
        let mut code = 2 * magnitude - if level > 0 { 2 } else { 1 };
        if index == ones && ones < 3 {
            code -= 2; // it cannot be one, or it would have been a trailing one
        }
        let escape = if suffix == 0 { 30 } else { 15 << suffix };
        if code >= escape {
            out.bits(1, 16);
            out.bits((code - escape).min(4095), 12);
        } else if suffix == 0 && code >= 14 {
            out.bits(1, 15);
            out.bits(code - 14, 4);
        } else {
            out.bits(1, (code >> suffix) + 1);
            out.bits(code & ((1 << suffix) - 1), suffix);
        }
        suffix = suffix.max(1);
        if magnitude > 3 << (suffix - 1) && suffix < 6 {
            suffix += 1;
        }
    }
}

/// How many zeros there are in all and before each level (9.2.3).
fn runs(out: &mut BitWriter, kind: Kind, coded: &[(i32, usize)], size: usize) {
    let total = coded.len();
    let mut zeros: usize = coded.iter().map(|(_, run)| run).sum();
    if total < size {
        put(
            out,
            match kind {
                Kind::Luma => TOTAL_ZEROS[total - 1][zeros],
                Kind::ChromaDc => TOTAL_ZEROS_CHROMA_DC[total - 1][zeros],
            },
        );
    }
    for &(_, run) in coded.iter().take(total - 1) {
        if zeros == 0 {
            break;
        }
        put(out, RUN_BEFORE[zeros.min(7) - 1][run]);
        zeros -= run;
    }
}

fn put(out: &mut BitWriter, (length, value): Code) {
    debug_assert!(length > 0, "the table has this code");
    out.bits(u32::from(value), u32::from(length));
}

/// A combination that cannot occur.
const NONE: Code = (0, 0);

/// Table 9-5, 0 <= nC < 2: by number of coefficients, then of trailing ones.
#[rustfmt::skip]
const COEFF_TOKEN: [[Code; 4]; 17] = [
    [(1, 1), NONE, NONE, NONE],
    [(6, 5), (2, 1), NONE, NONE],
    [(8, 7), (6, 4), (3, 1), NONE],
    [(9, 7), (8, 6), (7, 5), (5, 3)],
    [(10, 7), (9, 6), (8, 5), (6, 3)],
    [(11, 7), (10, 6), (9, 5), (7, 4)],
    [(13, 15), (11, 6), (10, 5), (8, 4)],
    [(13, 11), (13, 14), (11, 5), (9, 4)],
    [(13, 8), (13, 10), (13, 13), (10, 4)],
    [(14, 15), (14, 14), (13, 9), (11, 4)],
    [(14, 11), (14, 10), (14, 13), (13, 12)],
    [(15, 15), (15, 14), (14, 9), (14, 12)],
    [(15, 11), (15, 10), (15, 13), (14, 8)],
    [(16, 15), (15, 1), (15, 9), (15, 12)],
    [(16, 11), (16, 14), (16, 13), (15, 8)],
    [(16, 7), (16, 10), (16, 9), (16, 12)],
    [(16, 4), (16, 6), (16, 5), (16, 8)],
];

/// Table 9-5, nC = -1.
const COEFF_TOKEN_CHROMA_DC: [[Code; 4]; 5] = [
    [(2, 1), NONE, NONE, NONE],
    [(6, 7), (1, 1), NONE, NONE],
    [(6, 4), (6, 6), (3, 1), NONE],
    [(6, 3), (7, 3), (7, 2), (6, 5)],
    [(6, 2), (8, 3), (8, 2), (7, 0)],
];

/// Tables 9-7 and 9-8: by number of coefficients less one, then of zeros.
#[rustfmt::skip]
const TOTAL_ZEROS: [&[Code]; 15] = [
    &[(1, 1), (3, 3), (3, 2), (4, 3), (4, 2), (5, 3), (5, 2), (6, 3), (6, 2), (7, 3), (7, 2), (8, 3), (8, 2), (9, 3), (9, 2), (9, 1)],
    &[(3, 7), (3, 6), (3, 5), (3, 4), (3, 3), (4, 5), (4, 4), (4, 3), (4, 2), (5, 3), (5, 2), (6, 3), (6, 2), (6, 1), (6, 0)],
    &[(4, 5), (3, 7), (3, 6), (3, 5), (4, 4), (4, 3), (3, 4), (3, 3), (4, 2), (5, 3), (5, 2), (6, 1), (5, 1), (6, 0)],
    &[(5, 3), (3, 7), (4, 5), (4, 4), (3, 6), (3, 5), (3, 4), (4, 3), (3, 3), (4, 2), (5, 2), (5, 1), (5, 0)],
    &[(4, 5), (4, 4), (4, 3), (3, 7), (3, 6), (3, 5), (3, 4), (3, 3), (4, 2), (5, 1), (4, 1), (5, 0)],
    &[(6, 1), (5, 1), (3, 7), (3, 6), (3, 5), (3, 4), (3, 3), (3, 2), (4, 1), (3, 1), (6, 0)],
    &[(6, 1), (5, 1), (3, 5), (3, 4), (3, 3), (2, 3), (3, 2), (4, 1), (3, 1), (6, 0)],
    &[(6, 1), (4, 1), (5, 1), (3, 3), (2, 3), (2, 2), (3, 2), (3, 1), (6, 0)],
    &[(6, 1), (6, 0), (4, 1), (2, 3), (2, 2), (3, 1), (2, 1), (5, 1)],
    &[(5, 1), (5, 0), (3, 1), (2, 3), (2, 2), (2, 1), (4, 1)],
    &[(4, 0), (4, 1), (3, 1), (3, 2), (1, 1), (3, 3)],
    &[(4, 0), (4, 1), (2, 1), (1, 1), (3, 1)],
    &[(3, 0), (3, 1), (1, 1), (2, 1)],
    &[(2, 0), (2, 1), (1, 1)],
    &[(1, 0), (1, 1)],
];

/// Table 9-9 (a).
const TOTAL_ZEROS_CHROMA_DC: [&[Code]; 3] =
    [&[(1, 1), (2, 1), (3, 1), (3, 0)], &[(1, 1), (2, 1), (2, 0)], &[(1, 1), (1, 0)]];

/// Table 9-10: by zeros left less one (seven and more are one row), then by run.
#[rustfmt::skip]
const RUN_BEFORE: [&[Code]; 7] = [
    &[(1, 1), (1, 0)],
    &[(1, 1), (2, 1), (2, 0)],
    &[(2, 3), (2, 2), (2, 1), (2, 0)],
    &[(2, 3), (2, 2), (2, 1), (3, 1), (3, 0)],
    &[(2, 3), (2, 2), (3, 3), (3, 2), (3, 1), (3, 0)],
    &[(2, 3), (3, 0), (3, 1), (3, 3), (3, 2), (3, 5), (3, 4)],
    &[(3, 7), (3, 6), (3, 5), (3, 4), (3, 3), (3, 2), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (11, 1)],
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes of one table must form a prefix code: none begins another.
    fn check_prefix_free(name: &str, codes: &[Code]) {
        let codes: Vec<Code> = codes.iter().copied().filter(|&code| code != NONE).collect();
        for (i, &(short, a)) in codes.iter().enumerate() {
            for (j, &(long, b)) in codes.iter().enumerate() {
                if i != j && short <= long {
                    assert_ne!(
                        u16::from(a),
                        u16::from(b) >> (long - short),
                        "{name}: {i} begins {j}"
                    );
                }
            }
        }
    }

    #[test]
    fn every_table_is_a_prefix_code() {
        check_prefix_free("coeff_token", &COEFF_TOKEN.concat());
        check_prefix_free("coeff_token of chroma", &COEFF_TOKEN_CHROMA_DC.concat());
        for (name, tables) in [
            ("total_zeros", TOTAL_ZEROS.as_slice()),
            ("total_zeros of chroma", TOTAL_ZEROS_CHROMA_DC.as_slice()),
            ("run_before", RUN_BEFORE.as_slice()),
        ] {
            for (row, codes) in tables.iter().enumerate() {
                check_prefix_free(&format!("{name} row {row}"), codes);
            }
        }
        for (row, codes) in TOTAL_ZEROS.iter().enumerate() {
            assert_eq!(codes.len(), 16 - row, "one code for each possible number of zeros");
        }
    }

    #[test]
    fn a_block_of_known_levels_gives_the_known_bits() {
        // Levels 0, 3, 0, 1, -1, -1, 0, 1, 0 ...: the worked example found in every text on CAVLC.
        let mut levels = [0; 16];
        levels[..8].copy_from_slice(&[0, 3, 0, 1, -1, -1, 0, 1]);
        let mut out = BitWriter::default();
        block(&mut out, Kind::Luma, &levels);
        // 0000100 0 1 1 1 0010 111 10 1 101, stop bit and padding after it.
        assert_eq!(out.into_nal(0), [0, 0b0000_1000, 0b1110_0101, 0b1110_1101, 0b1000_0000]);
    }
}
