//! What a worker drives: slots, their descriptors, their timers.

use std::{collections::HashMap, os::fd::RawFd, rc::Rc};

use super::{
    epoll::{Poller, Turn},
    reactor::Driven,
    timers::{Timer, Timers},
};

/// Largest number of a source within a token.
pub const SOURCE_MAX: u8 = (1 << SOURCE_BITS) - 1;
const SOURCE_BITS: u32 = 6;
/// Bits of the poller's key for the slot; what is left after both is the generation's.
const INDEX_BITS: u32 = if usize::BITS >= 64 { 27 } else { 19 };

/// Names something adopted by a worker. A token of something released names nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Token {
    /// A token that names nothing.
    pub const NONE: Self = Self { index: u32::MAX, generation: 0 };

    pub(super) const fn key(self, source: u8) -> usize {
        let generation = (self.generation as usize).wrapping_shl(INDEX_BITS + SOURCE_BITS);
        generation | (self.index as usize) << SOURCE_BITS | source as usize
    }

    pub(super) const fn index_of(key: usize) -> usize {
        (key >> SOURCE_BITS) & ((1 << INDEX_BITS) - 1)
    }

    pub(super) const fn source_of(key: usize) -> u8 {
        (key & SOURCE_MAX as usize) as u8
    }
}

/// A place for something driven.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) driven: Option<Rc<dyn Driven>>,
    pub(super) timer: Timer,
    pub(super) fds: Vec<RawFd>,
}

/// A registered descriptor, by its number.
pub(super) struct Watch {
    pub(super) token: Token,
    pub(super) turn: Turn,
    pub(super) in_poller: bool,
}

/// All that a worker drives.
#[derive(Default)]
pub(super) struct Table {
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) watches: HashMap<RawFd, Watch>,
    pub(super) timers: Timers,
}

impl Table {
    /// A free place for something, or [`Token::NONE`] when all that a key can name are taken.
    pub(super) fn adopt(&mut self, driven: Rc<dyn Driven>) -> Token {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.driven = Some(driven);
            return Token { index, generation: slot.generation };
        }
        match u32::try_from(self.slots.len()) {
            // The last index is left out: its keys are the poller's own.
            Ok(index) if index < (1 << INDEX_BITS) - 1 => {
                let (timer, fds) = (Timer::default(), Vec::new());
                self.slots.push(Slot { generation: 0, driven: Some(driven), timer, fds });
                Token { index, generation: 0 }
            }
            _ => Token::NONE,
        }
    }

    pub(super) fn slot(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.index as usize)?;
        (slot.generation == token.generation && slot.driven.is_some()).then_some(slot)
    }

    pub(super) fn driven(&mut self, token: Token) -> Option<Rc<dyn Driven>> {
        self.slot(token)?.driven.clone()
    }

    /// Frees a token's place, with its timer and its registrations.
    pub(super) fn remove(&mut self, token: Token, poller: &Poller) -> Option<Rc<dyn Driven>> {
        let slot = self.slot(token)?;
        let driven = slot.driven.take();
        slot.generation = slot.generation.wrapping_add(1);
        slot.timer = Timer::default();
        for fd in core::mem::take(&mut slot.fds) {
            // A number may belong to someone else by now: then it is theirs.
            if self.watches.get(&fd).is_some_and(|watch| watch.token == token)
                && let Some(watch) = self.watches.remove(&fd)
                && watch.in_poller
            {
                let _ = poller.delete(fd, watch.turn);
            }
        }
        self.free.push(token.index);
        let live = self.slots.len() - self.free.len();
        if self.timers.len() > 2 * live + 1024 {
            let current = |index: u32| self.slots.get(index as usize).map(|slot| slot.generation);
            self.timers.purge(|token| current(token.index) == Some(token.generation));
        }
        driven
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_back_what_they_hold() {
        let token = Token { index: (1 << INDEX_BITS) - 2, generation: u32::MAX };
        let key = token.key(SOURCE_MAX);
        assert_eq!(Token::index_of(key), token.index as usize);
        assert_eq!(Token::source_of(key), SOURCE_MAX);
        assert_ne!(key, usize::MAX, "the poller's own");
    }
}
