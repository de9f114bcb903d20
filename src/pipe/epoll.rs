//! The worker's poller: level-triggered epoll, and an eventfd that wakes it.
//!
//! What must not wait behind media (RTSP, RTCP) is watched by an epoll of its own within the other:
//! one wait sees all, and the few can be asked for alone in the middle of a flood.
//!
//! One system call for each wait. (The crate `polling` makes four: a timer, its registration, the
//! wait, and the reset of its notifier; with one wait for each burst that is 6 % of a packet.) The
//! eventfd is edge-triggered and never read: each write is an edge. Not in here: what keys mean.

#![allow(unsafe_code)] // epoll and eventfd have no safe form in std or socket2

use core::{ffi::c_int, time::Duration};
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::limits::EVENTS_PER_WAIT;

/// The key of the eventfd, which is no one else's.
const WAKE: u64 = u64::MAX;
/// The key of the inner epoll. As with all keys of the last index, no token has it.
const FIRST: u64 = u64::MAX - 1;

/// Who is served when many are ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Before media.
    First,
    /// As the kernel tells it, round about.
    Media,
}

/// What is ready, and under which key it was registered. Errors and hang-ups show as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) key: usize,
    pub(super) readable: bool,
    pub(super) writable: bool,
}

/// What one wait gave, and how far it was taken.
pub(super) struct Events {
    list: Box<[libc::epoll_event; EVENTS_PER_WAIT]>,
    count: usize,
    taken: usize,
    /// Some are ready that are served first.
    first: bool,
}

impl Events {
    pub(super) fn new() -> Self {
        let none = libc::epoll_event { events: 0, u64: 0 };
        Self { list: Box::new([none; EVENTS_PER_WAIT]), count: 0, taken: 0, first: false }
    }

    /// Whether there are some to be served first; says so once.
    pub(super) const fn take_first(&mut self) -> bool {
        core::mem::replace(&mut self.first, false)
    }

    /// Whether all were taken.
    pub(super) const fn is_empty(&self) -> bool {
        self.taken == self.count
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        const BOTH: c_int = libc::EPOLLHUP | libc::EPOLLERR;
        loop {
            let event = self.list.get(..self.count)?.get(self.taken)?;
            self.taken += 1;
            let (key, events) = (event.u64, event.events);
            let has = |bits: c_int| events & (bits | BOTH) as u32 != 0;
            if key != WAKE
                && key != FIRST
                && let Ok(key) = usize::try_from(key)
            {
                return Some(Event {
                    key,
                    readable: has(libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI),
                    writable: has(libc::EPOLLOUT),
                });
            }
        }
    }
}

/// An epoll with its eventfd. Waited on by one thread, woken from any.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    /// Within the other.
    first: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    /// # Errors
    /// No descriptor left.
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: plain calls with flags; what they return is checked and owned by nobody else.
        let (epoll, first, wake) = unsafe {
            (
                owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?,
                owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?,
                owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?,
            )
        };
        let poller = Self { epoll, first, wake };
        let (level, edge) = (libc::EPOLLIN as u32, (libc::EPOLLIN | libc::EPOLLET) as u32);
        let add = |fd: &OwnedFd, bits, key| {
            Self::control(&poller.epoll, libc::EPOLL_CTL_ADD, fd.as_raw_fd(), bits, key)
        };
        add(&poller.wake, edge, WAKE)?;
        add(&poller.first, level, FIRST)?;
        Ok(poller)
    }

    /// Watches a descriptor; its event carries the key.
    ///
    /// # Errors
    /// `ENOSPC` (fs.epoll.max_user_watches), `ENOMEM`, `EEXIST`.
    pub(super) fn add(&self, fd: BorrowedFd<'_>, turn: Turn, event: Event) -> io::Result<()> {
        let (fd, key) = (fd.as_raw_fd(), event.key as u64);
        Self::control(self.of(turn), libc::EPOLL_CTL_ADD, fd, bits(event), key)
    }

    /// # Errors
    /// The descriptor is not watched.
    pub(super) fn modify(&self, fd: BorrowedFd<'_>, turn: Turn, event: Event) -> io::Result<()> {
        let (fd, key) = (fd.as_raw_fd(), event.key as u64);
        Self::control(self.of(turn), libc::EPOLL_CTL_MOD, fd, bits(event), key)
    }

    /// Stops watching a descriptor known by its number. A closed one is not watched any more: an
    /// error then, and no harm.
    ///
    /// # Errors
    /// The descriptor is not open, or not watched.
    pub(super) fn delete(&self, fd: c_int, turn: Turn) -> io::Result<()> {
        Self::control(self.of(turn), libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    const fn of(&self, turn: Turn) -> &OwnedFd {
        match turn {
            Turn::First => &self.first,
            Turn::Media => &self.epoll,
        }
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

    /// Waits until something is ready, somebody notifies, or the time is over (in whole
    /// milliseconds). Of those that are served first it only learns that there are some.
    ///
    /// # Errors
    /// `EINTR`; there are no events then.
    pub(super) fn wait(&self, events: &mut Events, longest: Duration) -> io::Result<()> {
        Self::ask(&self.epoll, events, longest)?;
        events.first = events.list.iter().take(events.count).any(|event| event.u64 == FIRST);
        Ok(())
    }

    /// Those that are served first and are ready now.
    ///
    /// # Errors
    /// As [`Poller::wait`].
    pub(super) fn ask_first(&self, events: &mut Events) -> io::Result<()> {
        Self::ask(&self.first, events, Duration::ZERO)
    }

    fn ask(epoll: &OwnedFd, events: &mut Events, longest: Duration) -> io::Result<()> {
        (events.count, events.taken, events.first) = (0, 0, false);
        let ms = c_int::try_from(longest.as_millis()).unwrap_or(c_int::MAX);
        let room = EVENTS_PER_WAIT as c_int;
        // SAFETY: the list has room for as many events as are asked for, and lives.
        let count =
            unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.list.as_mut_ptr(), room, ms) };
        events.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(())
    }

    fn control(epoll: &OwnedFd, what: c_int, fd: c_int, bits: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: bits, u64: key };
        // SAFETY: the event lives through the call, and epoll keeps a copy; it holds no reference to
        // the descriptor and forgets it when it is closed. An event that is late all the same
        // carries a key whose generation the reactor checks.
        let result = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), what, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn bits(event: Event) -> u32 {
    let read = if event.readable { libc::EPOLLIN | libc::EPOLLRDHUP } else { 0 };
    let write = if event.writable { libc::EPOLLOUT } else { 0 };
    (read | write) as u32
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
    use std::{net::UdpSocket, os::fd::AsFd};

    const LONG: Duration = Duration::from_secs(10);

    fn told(poller: &Poller, longest: Duration) -> Vec<Event> {
        let mut events = Events::new();
        poller.wait(&mut events, longest).unwrap();
        events.collect()
    }

    #[test]
    fn what_is_left_unread_is_told_again_until_it_is_not_watched() {
        let poller = Poller::new().unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let event = Event { key: 7, readable: true, writable: false };
        poller.add(socket.as_fd(), Turn::Media, event).unwrap();
        assert!(told(&poller, Duration::ZERO).is_empty());
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        for _ in 0..3 {
            assert_eq!(told(&poller, LONG), [event]);
        }
        let both = Event { key: 8, readable: true, writable: true };
        poller.modify(socket.as_fd(), Turn::Media, both).unwrap();
        assert_eq!(told(&poller, LONG), [both]);
        poller.delete(socket.as_raw_fd(), Turn::Media).unwrap();
        assert!(told(&poller, Duration::ZERO).is_empty());
        assert!(poller.delete(socket.as_raw_fd(), Turn::Media).is_err());
    }

    #[test]
    fn those_served_first_are_asked_for_alone() {
        let poller = Poller::new().unwrap();
        let [media, control] = [1, 2].map(|key| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            (socket, Event { key, readable: true, writable: false })
        });
        poller.add(media.0.as_fd(), Turn::Media, media.1).unwrap();
        poller.add(control.0.as_fd(), Turn::First, control.1).unwrap();
        let (mut events, mut first) = (Events::new(), Events::new());
        for _ in 0..3 {
            poller.wait(&mut events, LONG).unwrap();
            assert!(events.take_first() && !events.take_first());
            assert_eq!(events.by_ref().collect::<Vec<_>>(), [media.1]);
            assert!(events.is_empty());
            poller.ask_first(&mut first).unwrap();
            assert_eq!(first.by_ref().collect::<Vec<_>>(), [control.1]);
        }
        poller.delete(control.0.as_raw_fd(), Turn::First).unwrap();
        poller.wait(&mut events, LONG).unwrap();
        assert!(!events.take_first());
        poller.ask_first(&mut first).unwrap();
        assert!(first.is_empty());
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
