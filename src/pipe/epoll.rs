//! The worker's poller: level-triggered epoll, and an eventfd that wakes it.
//!
//! What must not wait behind media (RTSP, RTCP) is told apart in the events. While there are more
//! media than can be served at once, it is watched by a second epoll as well, so that it can be asked
//! for alone.
//!
//! One system call for each wait. (The crate `polling` makes four: a timer, its registration, the
//! wait, and the reset of its notifier; with one wait for each burst that is 6 % of a packet.) The
//! eventfd is edge-triggered and never read: each write is an edge. Not in here: what keys mean.

#![allow(unsafe_code)] // epoll and eventfd have no safe form in std or socket2

use core::{ffi::c_int, time::Duration};
use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use crate::limits::EVENTS_PER_WAIT;

/// The key of the eventfd, which is no one else's: no token has the last index.
const WAKE: u64 = u64::MAX;
/// The bit that tells the turn in the data which the kernel keeps; the key has those below.
const FIRST: u64 = 1 << 63;

/// Who is served when many are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Before media.
    First,
    /// In the order in which the kernel tells of them.
    Media,
}

/// What a descriptor is watched for, or is ready for, and under which key: below 2⁶³. Errors and
/// hang-ups show as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) key: u64,
    pub(super) turn: Turn,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

impl Event {
    /// None for the eventfd's.
    fn from_kernel(event: libc::epoll_event) -> Option<Self> {
        const BOTH: c_int = libc::EPOLLHUP | libc::EPOLLERR;
        let (data, events) = (event.u64, event.events);
        let has = |bits: c_int| events & (bits | BOTH) as u32 != 0;
        (data != WAKE).then(|| Self {
            key: data & !FIRST,
            turn: if data & FIRST == 0 { Turn::Media } else { Turn::First },
            readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI),
            writable: has(libc::EPOLLOUT),
        })
    }

    const fn data(self) -> u64 {
        match self.turn {
            Turn::First => self.key | FIRST,
            Turn::Media => self.key,
        }
    }

    const fn bits(self) -> u32 {
        let read = if self.readable { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
        let write = if self.writable { libc::EPOLLOUT } else { 0 };
        (read | write) as u32
    }

    /// Whether it is watched for anything.
    pub(super) const fn is_any(self) -> bool {
        self.readable || self.writable
    }
}

/// What one wait gave, and how far media were taken from it: that is what iterating does.
pub(super) struct Events {
    list: Box<[libc::epoll_event; EVENTS_PER_WAIT]>,
    count: usize,
    taken: usize,
}

impl Events {
    pub(super) fn new() -> Self {
        let none = libc::epoll_event { events: 0, u64: 0 };
        Self { list: Box::new([none; EVENTS_PER_WAIT]), count: 0, taken: 0 }
    }

    /// Those that are served first, whatever was taken.
    pub(super) fn first(&self) -> impl Iterator<Item = Event> {
        let all = self.list.iter().take(self.count);
        all.filter_map(|event| Event::from_kernel(*event)).filter(|it| it.turn == Turn::First)
    }

    /// Whether there may have been more than there is room for.
    pub(super) const fn is_full(&self) -> bool {
        self.count == EVENTS_PER_WAIT
    }

    /// Whether no media are left to be taken.
    pub(super) fn is_empty(&self) -> bool {
        let mut left = self.list.iter().take(self.count).skip(self.taken);
        !left.any(|event| Event::from_kernel(*event).is_some_and(|it| it.turn == Turn::Media))
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            let event = *self.list.get(..self.count)?.get(self.taken)?;
            self.taken += 1;
            if let Some(event) = Event::from_kernel(event)
                && event.turn == Turn::Media
            {
                return Some(event);
            }
        }
    }
}

/// One epoll. It holds no reference to what it watches, and forgets a descriptor when it is closed.
#[derive(Debug)]
pub(super) struct Epoll(OwnedFd);

impl Epoll {
    /// # Errors
    /// No descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: a plain call with a flag; what it returns is checked and owned by nobody else.
        unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }.map(Self)
    }

    /// Watches a descriptor; its events carry the key.
    ///
    /// # Errors
    /// `ENOSPC` (fs.epoll.max_user_watches), `ENOMEM`, `EEXIST`.
    pub(super) fn add(&self, fd: RawFd, event: Event) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, event.bits(), event.data())
    }

    /// # Errors
    /// The descriptor is not watched.
    pub(super) fn modify(&self, fd: RawFd, event: Event) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, event.bits(), event.data())
    }

    /// Stops watching a descriptor that stays open.
    ///
    /// # Errors
    /// The descriptor is not open, or not watched.
    pub(super) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// What is ready, at the latest when the time is over (in whole milliseconds).
    ///
    /// # Errors
    /// `EINTR`; there are no events then.
    pub(super) fn wait(&self, events: &mut Events, longest: Duration) -> io::Result<()> {
        (events.count, events.taken) = (0, 0);
        let ms = c_int::try_from(longest.as_millis()).unwrap_or(c_int::MAX);
        let room = EVENTS_PER_WAIT as c_int;
        // SAFETY: the list has room for as many events as are asked for, and lives.
        let count =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.list.as_mut_ptr(), room, ms) };
        events.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn control(&self, what: c_int, fd: RawFd, bits: u32, data: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: bits, u64: data };
        // SAFETY: the event lives through the call, and epoll keeps a copy. An event that is late
        // all the same carries a key whose generation the reactor checks.
        let result = unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// A worker's epolls, with the eventfd. Waited on by one thread, woken from any.
#[derive(Debug)]
pub(super) struct Poller {
    pub(super) all: Epoll,
    /// Those that are served first, while they are watched apart; otherwise empty.
    pub(super) first: Epoll,
    wake: OwnedFd,
}

impl Poller {
    /// # Errors
    /// No descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        let (all, first) = (Epoll::new()?, Epoll::new()?);
        // SAFETY: a plain call with flags; what it returns is checked and owned by nobody else.
        let wake = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        let edge = (libc::EPOLLIN | libc::EPOLLET) as u32;
        all.control(libc::EPOLL_CTL_ADD, wake.as_raw_fd(), edge, WAKE)?;
        Ok(Self { all, first, wake })
    }

    /// Ends the wait that goes on, or the next one.
    ///
    /// # Errors
    /// None that can happen: a full counter would still be an edge.
    pub(super) fn notify(&self) -> io::Result<()> {
        let one = 1_u64;
        // SAFETY: the pointer is to eight bytes of this frame.
        let result = unsafe {
            libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), size_of::<u64>())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// # Safety
/// `fd` is a fresh descriptor, or negative after an error.
unsafe fn owned(fd: c_int) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const LONG: Duration = Duration::from_secs(10);

    const fn readable(key: u64, turn: Turn) -> Event {
        Event { key, turn, readable: true, writable: false }
    }

    /// A socket that has something to read.
    fn ready() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        socket
    }

    fn told(poller: &Poller, longest: Duration) -> Vec<Event> {
        let mut events = Events::new();
        poller.all.wait(&mut events, longest).unwrap();
        events.collect()
    }

    #[test]
    fn what_is_left_unread_is_told_again_until_it_is_not_watched() {
        let poller = Poller::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let event = readable(7, Turn::Media);
        poller.all.add(socket.as_raw_fd(), event).unwrap();
        assert!(told(&poller, Duration::ZERO).is_empty());
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        for _ in 0..3 {
            assert_eq!(told(&poller, LONG), [event]);
        }
        let both = Event { key: 8, writable: true, ..event };
        poller.all.modify(socket.as_raw_fd(), both).unwrap();
        assert_eq!(told(&poller, LONG), [both]);
        poller.all.delete(socket.as_raw_fd()).unwrap();
        assert!(told(&poller, Duration::ZERO).is_empty());
        assert!(poller.all.delete(socket.as_raw_fd()).is_err());
    }

    #[test]
    fn what_is_closed_is_not_watched_any_more() {
        let poller = Poller::new().unwrap();
        let socket = ready();
        poller.all.add(socket.as_raw_fd(), readable(7, Turn::Media)).unwrap();
        assert_eq!(told(&poller, LONG).len(), 1);
        drop(socket);
        assert!(told(&poller, Duration::ZERO).is_empty());
    }

    #[test]
    fn those_served_first_are_told_apart_and_can_be_asked_for_alone() {
        const KEY_MAX: u64 = FIRST - 2;
        let poller = Poller::new().unwrap();
        let (media, control) = (readable(KEY_MAX, Turn::Media), readable(KEY_MAX, Turn::First));
        let sockets = [media, control].map(|event| {
            let socket = ready();
            poller.all.add(socket.as_raw_fd(), event).unwrap();
            socket
        });
        poller.first.add(sockets[1].as_raw_fd(), control).unwrap();
        let (mut events, mut asked) = (Events::new(), Events::new());
        for _ in 0..3 {
            poller.notify().unwrap();
            poller.all.wait(&mut events, LONG).unwrap();
            assert!(!events.is_full() && !events.is_empty());
            assert_eq!(events.first().collect::<Vec<_>>(), [control]);
            assert_eq!(events.next(), Some(media));
            assert!(events.is_empty(), "those served first are no media");
            assert_eq!(events.next(), None);
            poller.first.wait(&mut asked, Duration::ZERO).unwrap();
            assert_eq!(asked.first().collect::<Vec<_>>(), [control]);
        }
    }

    #[test]
    fn each_notification_ends_one_wait_also_when_it_came_first() {
        let poller = std::sync::Arc::new(Poller::new().unwrap());
        for _ in 0..3 {
            poller.notify().unwrap();
            poller.notify().unwrap();
            assert!(told(&poller, LONG).is_empty());
        }
        let other = std::sync::Arc::clone(&poller);
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.notify()
        });
        assert!(told(&poller, LONG).is_empty());
        thread.join().unwrap().unwrap();
    }
}
