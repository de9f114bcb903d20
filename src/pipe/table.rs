//! What a worker drives: slots, their descriptors, their timers.

use std::{io, os::fd::RawFd, rc::Rc};

use super::{
    epoll::{Epoll, Event, Turn},
    reactor::Driven,
    timers::{Timer, Timers},
};

/// Largest number of a source within a token.
pub const SOURCE_MAX: u8 = (1 << SOURCE_BITS) - 1;
const SOURCE_BITS: u32 = 6;
/// Bits of the poller's key for the slot; what is left after both is the generation's, but for the
/// last bit, which is the poller's.
const INDEX_BITS: u32 = 27;

/// Names something adopted by a worker. A token of something released names nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    pub(super) index: u32,
    pub(super) generation: u32,
}

impl Token {
    /// A token that names nothing.
    pub const NONE: Self = Self { index: u32::MAX, generation: 0 };

    pub(super) const fn key(self, source: u8) -> u64 {
        let generation = (self.generation as u64) << (INDEX_BITS + SOURCE_BITS);
        (generation | (self.index as u64) << SOURCE_BITS | source as u64) & (u64::MAX >> 1)
    }

    pub(super) const fn index_of(key: u64) -> u32 {
        (key >> SOURCE_BITS) as u32 & ((1 << INDEX_BITS) - 1)
    }

    pub(super) const fn source_of(key: u64) -> u8 {
        key as u8 & SOURCE_MAX
    }
}

/// A place for something driven.
pub(super) struct Slot {
    pub(super) generation: u32,
    pub(super) driven: Option<Rc<dyn Driven>>,
    pub(super) timer: Timer,
    watched: Vec<Watch>,
}

/// A registered descriptor, by its number, and what for: of interest to no poller when for nothing.
struct Watch {
    fd: RawFd,
    event: Event,
}

/// All that a worker drives.
#[derive(Default)]
pub(super) struct Table {
    pub(super) slots: Vec<Slot>,
    pub(super) free: Vec<u32>,
    pub(super) timers: Timers,
    /// While there is more media than can be served at once: those who are served first.
    pub(super) few: Option<Epoll>,
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
                let (timer, watched) = (Timer::default(), Vec::new());
                self.slots.push(Slot { generation: 0, driven: Some(driven), timer, watched });
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

    /// Watches a descriptor for a token.
    pub(super) fn watch(
        &mut self,
        token: Token,
        fd: RawFd,
        event: Event,
        all: &Epoll,
    ) -> io::Result<()> {
        // One of this number was closed without a word.
        self.forget(token, fd);
        self.slot(token).ok_or(io::ErrorKind::NotFound)?;
        self.tell(fd, None, event, all)?;
        if let Some(slot) = self.slot(token) {
            slot.watched.push(Watch { fd, event });
        }
        Ok(())
    }

    /// Changes what a descriptor is watched for, but not its turn.
    pub(super) fn change(
        &mut self,
        token: Token,
        fd: RawFd,
        event: Event,
        all: &Epoll,
    ) -> io::Result<()> {
        let was = *self.watched(token, fd).ok_or(io::ErrorKind::NotFound)?;
        let event = Event { turn: was.turn, ..event };
        self.tell(fd, Some(was), event, all)?;
        if let Some(place) = self.watched(token, fd) {
            *place = event;
        }
        Ok(())
    }

    fn watched(&mut self, token: Token, fd: RawFd) -> Option<&mut Event> {
        let mut watched = self.slot(token)?.watched.iter_mut();
        watched.find(|watch| watch.fd == fd).map(|watch| &mut watch.event)
    }

    fn tell(&self, fd: RawFd, was: Option<Event>, event: Event, all: &Epoll) -> io::Result<()> {
        let was = was.is_some_and(Event::is_any);
        let tell = |epoll: &Epoll| match (was, event.is_any()) {
            (false, false) => Ok(()),
            (true, false) => epoll.delete(fd),
            (true, true) => epoll.modify(fd, event),
            (false, true) => epoll.add(fd, event),
        };
        tell(all)?;
        if event.turn == Turn::First {
            // On an error it waits for its turn.
            let _ = self.few.as_ref().map_or(Ok(()), tell);
        }
        Ok(())
    }

    /// Stops watching a descriptor.
    pub(super) fn unwatch(&mut self, token: Token, fd: RawFd, all: &Epoll) -> io::Result<()> {
        let event = self.forget(token, fd).ok_or(io::ErrorKind::NotFound)?;
        let none = Event { readable: false, writable: false, ..event };
        self.tell(fd, Some(event), none, all)
    }

    /// A descriptor is closed next, which ends its being watched, at the price of no call. What it was
    /// registered for.
    pub(super) fn forget(&mut self, token: Token, fd: RawFd) -> Option<Event> {
        let watched = &mut self.slot(token)?.watched;
        let at = watched.iter().position(|watch| watch.fd == fd)?;
        Some(watched.swap_remove(at).event)
    }

    /// Watches those who are served first once more, apart from media.
    pub(super) fn part(&mut self) -> io::Result<()> {
        let few = Epoll::new()?;
        for Watch { fd, event } in self.slots.iter().flat_map(|slot| &slot.watched) {
            if event.turn == Turn::First && event.is_any() {
                let _ = few.add(*fd, *event); // on an error it waits for its turn
            }
        }
        self.few = Some(few);
        Ok(())
    }

    /// Frees a token's place, with its timer and its registrations.
    pub(super) fn remove(&mut self, token: Token) -> Option<Rc<dyn Driven>> {
        let slot = self.slot(token)?;
        let driven = slot.driven.take();
        slot.generation = slot.generation.wrapping_add(1);
        slot.timer = Timer::default();
        slot.watched.clear();
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
        assert_eq!(Token::index_of(key), token.index);
        assert_eq!(Token::source_of(key), SOURCE_MAX);
        assert_eq!(key >> 63, 0, "the poller's own");
    }
}
