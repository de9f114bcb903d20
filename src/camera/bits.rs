//! Bits of a NAL unit: fixed fields, Exp-Golomb codes, emulation prevention (H.264 7.2, 7.4.1, 9.1).
//!
//! Not in here: what the bits mean.

/// Writes bits, most significant first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    partial: u64,
    filled: u32,
}

impl BitWriter {
    /// Appends the low `count` bits of `value`, 0 to 32 of them.
    pub(super) fn bits(&mut self, value: u32, count: u32) {
        debug_assert!(count <= 32, "a field has at most 32 bits");
        debug_assert!(count == 32 || u64::from(value) < 1 << count, "the value fits its field");
        self.partial = (self.partial << count) | u64::from(value);
        self.filled += count;
        while self.filled >= 8 {
            self.filled -= 8;
            let [.., low] = (self.partial >> self.filled).to_be_bytes();
            self.bytes.push(low);
        }
        self.partial &= (1 << self.filled) - 1;
    }

    /// Appends one bit.
    pub(super) fn flag(&mut self, set: bool) {
        self.bits(u32::from(set), 1);
    }

    /// Appends an unsigned Exp-Golomb code, `ue(v)`.
    pub(super) fn ue(&mut self, value: u32) {
        let plus_one = value.saturating_add(1);
        let length = 32 - plus_one.leading_zeros();
        self.bits(0, length - 1);
        self.bits(plus_one, length);
    }

    /// Appends a signed Exp-Golomb code, `se(v)`.
    pub(super) fn se(&mut self, value: i32) {
        let magnitude = value.unsigned_abs();
        self.ue(if value > 0 { 2 * magnitude - 1 } else { 2 * magnitude });
    }

    /// Closes the payload with the stop bit and makes it a NAL unit of this header byte.
    pub(super) fn into_nal(mut self, header: u8) -> Vec<u8> {
        self.bits(1, 1);
        let rest = (8 - self.filled) % 8;
        self.bits(0, rest);
        escape(header, &self.bytes)
    }
}

/// Puts a 3 before every byte up to 3 that follows two zeros, so that no start code appears inside.
fn escape(header: u8, payload: &[u8]) -> Vec<u8> {
    let mut nal = Vec::with_capacity(payload.len() + payload.len() / 64 + 1);
    nal.push(header);
    let mut zeros = 0;
    for &byte in payload {
        if zeros == 2 && byte <= 3 {
            nal.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        nal.push(byte);
    }
    nal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        let mut bits = BitWriter::default();
        for value in [0, 1, 2, 3] {
            bits.ue(value); // 1 010 011 00100
        }
        for value in [0, 1, -1, 2] {
            bits.se(value); // 1 010 011 00100
        }
        assert_eq!(bits.into_nal(9), [9, 0b1010_0110, 0b0100_1010, 0b0110_0100, 0b1000_0000]);
    }

    #[test]
    fn full_width_fields_keep_every_bit() {
        let mut bits = BitWriter::default();
        bits.bits(1, 1);
        bits.bits(u32::MAX, 32);
        bits.bits(0, 0);
        assert_eq!(bits.into_nal(0), [0, 0xff, 0xff, 0xff, 0xff, 0b1100_0000]);
    }

    #[test]
    fn no_start_code_appears_inside_a_unit() {
        assert_eq!(escape(1, &[0, 0, 1, 0, 0, 0, 0, 4]), [1, 0, 0, 3, 1, 0, 0, 3, 0, 0, 4]);
        assert_eq!(escape(1, &[0, 0, 0, 0, 0]), [1, 0, 0, 3, 0, 0, 3, 0]);
    }
}
