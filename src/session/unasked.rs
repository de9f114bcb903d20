//! What a peer may say that nobody waits for: a little, as long as there is sense in between.

use crate::limits::{INTERIM_ANSWERS_MAX, UNASKED_MAX};

/// Messages of one peer that lead to nothing, since its last one that did.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    messages: u16,
    interim: u16,
}

impl Unasked {
    /// An answer to no request of ours, or a request past the bound. Whether that is borne.
    pub(super) fn message(&mut self) -> bool {
        self.messages = self.messages.saturating_add(1);
        self.messages <= UNASKED_MAX
    }

    /// An answer that says to wait for the answer. Whether that is borne.
    pub(super) fn interim(&mut self) -> bool {
        self.interim = self.interim.saturating_add(1);
        self.interim <= INTERIM_ANSWERS_MAX
    }

    /// An answer that was waited for.
    pub(super) fn awaited(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_are_borne_to_the_bound_and_anew_after_sense() {
        let mut unasked = Unasked::default();
        for _ in 0..3 {
            assert!((0..UNASKED_MAX).all(|_| unasked.message()));
            assert!((0..INTERIM_ANSWERS_MAX).all(|_| unasked.interim()));
            assert!(!unasked.message() && !unasked.interim());
            unasked.awaited();
        }
    }
}
