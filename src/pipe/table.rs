//! What a worker drives: slots, their descriptors, their timers.

use std::{collections::VecDeque, io, os::fd::RawFd, rc::Rc};

use super::{
    epoll::{Epoll, Event, Poller, Turn},
    reactor::Driven,
    timers::{Timer, Timers},
};

/// Largest number of a source within a token.
pub const SOURCE_MAX: u8 = (1 << SOURCE_BITS) - 1;
const SOURCE_BITS: u32 = 6;
/// Bits of the poller's key for the slot; what is left after both is the generation's, but for the
/// top bit, which is the poller's.
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
    /// It is among those that want another turn.
    pub(super) wants_turn: bool,
    watched: Vec<Watch>,
}

/// A registered descriptor, by its number. When it is watched for nothing, no epoll knows it.
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
    /// Those whose turn was not enough for what they have to do, in the order of their next ones.
    pub(super) turns: VecDeque<Token>,
    /// Those that are served first are watched by an epoll of their own as well.
    apart: bool,
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
                let driven = Some(driven);
                self.slots.push(Slot { generation: 0, driven, timer, wants_turn: false, watched });
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

    /// Notes that a token wants another turn, behind all that want one.
    pub(super) fn want_turn(&mut self, token: Token) {
        if let Some(slot) = self.slot(token)
            && !core::mem::replace(&mut slot.wants_turn, true)
        {
            self.turns.push_back(token);
        }
    }

    /// Watches a descriptor for a token, or changes what it is watched for if it `was` before.
    pub(super) fn watch(
        &mut self,
        token: Token,
        fd: RawFd,
        was: bool,
        event: Event,
        poller: &Poller,
    ) -> io::Result<()> {
        self.slot(token).ok_or(io::ErrorKind::NotFound)?;
        let control = |epoll: &Epoll| match (was, event.is_any()) {
            (false, false) => Ok(()),
            (true, false) => epoll.delete(fd),
            (true, true) => epoll.modify(fd, event),
            (false, true) => epoll.add(fd, event),
        };
        control(&poller.all)?;
        if self.apart && event.turn == Turn::First {
            let _ = control(&poller.first); // on an error the other one tells of it
        }
        self.take_watch(token, fd);
        if let Some(slot) = self.slot(token) {
            slot.watched.push(Watch { fd, event });
        }
        Ok(())
    }

    /// What a descriptor of this token is watched for.
    pub(super) fn watched(&mut self, token: Token, fd: RawFd) -> Option<Event> {
        let mut watched = self.slot(token)?.watched.iter();
        watched.find(|watch| watch.fd == fd).map(|watch| watch.event)
    }

    /// Takes a descriptor out of the table; no epoll is told.
    pub(super) fn take_watch(&mut self, token: Token, fd: RawFd) {
        if let Some(slot) = self.slot(token) {
            slot.watched.retain(|watch| watch.fd != fd);
        }
    }

    /// Begins or ends to watch those that are served first by an epoll of their own as well.
    pub(super) fn set_apart(&mut self, apart: bool, poller: &Poller) {
        if self.apart == apart {
            return;
        }
        self.apart = apart;
        for Watch { fd, event } in self.slots.iter().flat_map(|slot| &slot.watched) {
            if event.turn == Turn::First && event.is_any() {
                // On an error the other epoll tells of it.
                let _ =
                    if apart { poller.first.add(*fd, *event) } else { poller.first.delete(*fd) };
            }
        }
    }

    /// Whether those that are served first are watched apart.
    pub(super) const fn is_apart(&self) -> bool {
        self.apart
    }

    /// Frees a token's place, with its timer and its registrations.
    pub(super) fn remove(&mut self, token: Token) -> Option<Rc<dyn Driven>> {
        let slot = self.slot(token)?;
        let driven = slot.driven.take();
        slot.generation = slot.generation.wrapping_add(1);
        slot.timer = Timer::default();
        slot.wants_turn = false;
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
    use crate::pipe::{
        epoll::Events,
        reactor::{Ready, Worker},
    };
    use core::time::Duration;
    use std::{net::UdpSocket, os::fd::AsRawFd};

    #[test]
    fn keys_give_back_what_they_hold() {
        let token = Token { index: (1 << INDEX_BITS) - 2, generation: u32::MAX };
        let key = token.key(SOURCE_MAX);
        assert_eq!(Token::index_of(key), token.index);
        assert_eq!(Token::source_of(key), SOURCE_MAX);
        assert_eq!(key >> 63, 0, "the poller's own");
    }

    struct Idle;

    impl Driven for Idle {
        fn ready(self: Rc<Self>, _: Ready, _: &Worker) {}
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }

    #[test]
    fn those_served_first_are_watched_apart_for_as_long_as_is_said() {
        let (mut table, poller) = (Table::default(), Poller::new().unwrap());
        let token = table.adopt(Rc::new(Idle));
        let sockets = [(); 3].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            socket
        });
        let [early, late, media] = sockets.each_ref().map(AsRawFd::as_raw_fd);
        let event = |source: u8, turn: Turn, readable: bool| Event {
            key: token.key(source),
            turn,
            readable,
            writable: false,
        };
        let apart = || {
            let mut events = Events::new();
            poller.first.wait(&mut events, Duration::ZERO).unwrap();
            assert!(events.is_empty(), "no media");
            events.first().map(|event| Token::source_of(event.key)).collect::<Vec<u8>>()
        };
        table.watch(token, early, false, event(0, Turn::First, true), &poller).unwrap();
        table.watch(token, media, false, event(2, Turn::Media, true), &poller).unwrap();
        assert!(apart().is_empty());
        table.set_apart(true, &poller);
        assert_eq!(apart(), [0]);
        table.watch(token, late, false, event(1, Turn::First, true), &poller).unwrap();
        table.watch(token, early, true, event(0, Turn::First, false), &poller).unwrap();
        assert_eq!(apart(), [1]);
        table.watch(token, early, false, event(0, Turn::First, true), &poller).unwrap();
        assert_eq!(apart(), [1, 0]);
        let [closed, _late, _media] = sockets;
        drop(closed);
        assert_eq!(apart(), [1]);
        table.set_apart(false, &poller);
        assert!(apart().is_empty() && !table.is_apart());
    }

    #[test]
    fn what_epoll_refuses_changes_nothing() {
        let (mut table, poller) = (Table::default(), Poller::new().unwrap());
        let token = table.adopt(Rc::new(Idle));
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let fd = socket.as_raw_fd();
        let (key, turn) = (token.key(0), Turn::First);
        let event = Event { key, turn, readable: true, writable: false };
        table.watch(token, fd, false, event, &poller).unwrap();
        let both = Event { writable: true, ..event };
        assert!(table.watch(token, fd, false, both, &poller).is_err(), "watched already");
        assert_eq!(table.watched(token, fd), Some(event));
        table.remove(token);
        assert!(table.watch(token, fd, true, both, &poller).is_err(), "released");
    }
}
