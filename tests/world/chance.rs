//! What peers, guests and networks happen to do: by a seed, or as a script says.

use std::collections::VecDeque;

/// A row of choices.
pub enum Chance {
    /// xorshift64*: enough for a test, and the same everywhere.
    Seeded(u64),
    /// These bytes; after them always 0, which stands for what happens on a good day.
    Script(VecDeque<u8>),
}

impl Chance {
    /// By a seed; neighbours have nothing in common.
    pub fn seeded(seed: u64) -> Self {
        Self::Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = match self {
            Self::Seeded(state) => {
                *state ^= *state >> 12;
                *state ^= *state << 25;
                *state ^= *state >> 27;
                usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap()
            }
            Self::Script(bytes) if bound <= 256 => bytes.pop_front().unwrap_or(0).into(),
            Self::Script(bytes) => {
                let mut byte = || usize::from(bytes.pop_front().unwrap_or(0));
                byte() << 8 | byte()
            }
        };
        number % bound.max(1)
    }

    /// One of those.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// So many times in a hundred; not on a good day.
    pub fn chance(&mut self, percent: usize) -> bool {
        99 - self.below(100) < percent
    }
}
