//! A worker: one thread, one level-triggered poller, one executor, and what they drive.
//!
//! Readiness goes straight from the kernel into plain state ([`Driven`]): no waker, no queue, no
//! lock and no allocation between a datagram's arrival and the code that relays it. (A task for
//! each socket would cost a block of the executor's queue every 31 wake-ups, and a third of the
//! packet rate on the one global reactor.) What is not for each packet (jobs from other threads,
//! timers, tasks) runs in the same loop, between the events:
//!
//! ```text
//!   ┌─> jobs ─> timers ─> tasks, if one was woken ─> wait (poller) ─> events ─> pause ─┐
//!   └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! RTSP and RTCP come before media among the events. Who has more to do than a turn is for
//! ([`Worker::want_turn`]) has the next one behind all that were told of meanwhile. Both sorts have a
//! slice of a few milliseconds; a round that takes longer is interrupted for all the others and then
//! goes on where it was: a flood makes its own kind late, and the other hardly. From the first interruption on, until there has been
//! none for a while, a second epoll tells what of the others is ready.
//!
//! The pause is made when a stream's frame is unfinished ([`Worker::note_pause`]): the rest of it
//! gathers in the kernel meanwhile and is then read and sent in one call each. Where bursts come so
//! often that another one falls into the pause, it is made after whole ones too. The first packet
//! after idleness leaves at once; nothing that was read is held; no datagram waits longer than the
//! pause, which is at most `gateway.coalesce_us`.
//!
//! A panic ends the [`Driven`], job or task it happened in; it is counted and logged, the worker
//! goes on. Not in here: what is done with readiness, and the choice of a worker (pool).

use core::{
    any::Any,
    cell::{Cell, RefCell},
    future::Future,
    sync::atomic::Ordering::Relaxed,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::{Rc, Weak},
    sync::Arc,
};

use smol::{LocalExecutor, future::FutureExt};

use super::{
    epoll::{Event, Turn},
    gather::Pause,
    mmsg::Slots,
    pool::Shared,
    table::Table,
};
pub use super::{
    pool::{Busy, Handle, Hold, Job, Load, Pool, Seat},
    table::{SOURCE_MAX, Token},
};
use crate::{
    clock::{self, Instant},
    limits::FRAME_MAX_BYTES,
};

/// Plain state that a worker drives: a pipe, a connection.
///
/// Both are called on the worker's thread, never one within the other. The state is held by `Rc`:
/// it may release itself while it is called.
pub trait Driven {
    /// A descriptor registered under the token is ready. May be spurious; level-triggered, so what
    /// is left unread is told again.
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker);
    /// The token's timer has fired; it is off until set again.
    fn timeout(self: Rc<Self>, worker: &Worker);
    /// The turn that was asked for by [`Worker::want_turn`].
    fn again(self: Rc<Self>, _: &Worker) {}
}

/// Which descriptor of a token is ready, and for what. Errors and hang-ups show as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The number given at registration, 0 to [`SOURCE_MAX`].
    pub source: u8,
    /// There is something to read, or to learn by reading.
    pub readable: bool,
    /// There is room to write, or something to learn by writing.
    pub writable: bool,
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Nothing: a hang-up is not reported either, so a paused connection cannot spin the loop.
    None,
    /// Readable.
    Read,
    /// Writable.
    Write,
    /// Either.
    Both,
}

/// The worker's buffers, used by whatever it drives at the moment.
pub struct Scratch {
    /// A batch of datagrams.
    pub slots: Slots,
    /// For reads from a stream: the largest interleaved frame with its 4-byte header fits.
    pub stream: Box<[u8]>,
}

pub(super) struct Inner {
    id: u16,
    pub(super) now: Cell<Instant>,
    pub(super) packets: Cell<u64>,
    pub(super) pause: Cell<Pause>,
    /// Reads of this round that ended with a whole burst.
    pub(super) bursts: Cell<u32>,
    pub(super) shared: Arc<Shared>,
    /// Owned by the driver: tasks hold workers, and would keep the executor alive for ever.
    executor: Weak<LocalExecutor<'static>>,
    pub(super) table: RefCell<Table>,
    scratch: RefCell<Scratch>,
}

/// A worker, seen from its own thread. Cloning it is cheap.
#[derive(Clone)]
pub struct Worker {
    pub(super) inner: Rc<Inner>,
}

impl Worker {
    pub(super) fn new(
        id: u16,
        shared: &Arc<Shared>,
        executor: &Rc<LocalExecutor<'static>>,
    ) -> Self {
        let stream = vec![0; FRAME_MAX_BYTES + 1 + 4].into_boxed_slice();
        let inner = Inner {
            id,
            now: Cell::new(clock::now()),
            packets: Cell::new(0),
            pause: Cell::default(),
            bursts: Cell::default(),
            shared: Arc::clone(shared),
            executor: Rc::downgrade(executor),
            table: RefCell::default(),
            scratch: RefCell::new(Scratch { slots: Slots::new(), stream }),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Its number.
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// The time of this round of the loop.
    pub fn now(&self) -> Instant {
        self.inner.now.get()
    }

    /// How busy this worker is.
    pub fn load(&self) -> &Arc<Load> {
        &self.inner.shared.load
    }

    /// Counts datagrams or frames relayed, for the load.
    pub fn count_packets(&self, count: u64) {
        self.inner.packets.set(self.inner.packets.get().wrapping_add(count));
    }

    /// Notes what a read found, when all of it has been sent on. Where it is worth it
    /// ([`Pause::is_worth`]) the worker lets more gather, for `gateway.coalesce_us` at most, before it
    /// looks for events again.
    pub fn note_pause(&self, pause: Pause) {
        self.inner.pause.set(pause.max(self.inner.pause.get()));
        if pause == Pause::AmongBursts {
            self.inner.bursts.set(self.inner.bursts.get().saturating_add(1));
        }
    }

    /// Takes something to drive until it is released. Nothing is registered yet.
    ///
    /// A worker that is full (134,217,727; far beyond what descriptors allow) gives a token that names
    /// nothing, and registering under it is an error.
    pub fn adopt(&self, driven: Rc<dyn Driven>) -> Token {
        self.inner.table.borrow_mut().adopt(driven)
    }

    /// Drops what a token names, its timer and its registrations. Events that have already been
    /// taken from the kernel are not told any more. A token that names nothing is fine.
    ///
    /// Its descriptors must be closed with it, or deregistered before: the kernel watches them until
    /// then, and the loop would spin on those that are ready.
    pub fn release(&self, token: Token) {
        // Dropped after the borrow has ended: a destructor may call the worker.
        let driven = self.inner.table.borrow_mut().remove(token);
        drop(driven);
    }

    /// Watches a descriptor under a token; `source` (0 to [`SOURCE_MAX`]) comes back in [`Ready`].
    /// It is served before media.
    ///
    /// # Errors
    /// A source or token out of range, or what epoll says (`ENOSPC`, `ENOMEM`, `EEXIST`).
    pub fn register(
        &self,
        token: Token,
        source: u8,
        fd: &impl AsFd,
        interest: Interest,
    ) -> io::Result<()> {
        self.watch(token, source, fd, interest, Turn::First)
    }

    /// As [`Worker::register`] for a socket that carries media and is only read: when there is more
    /// to do than time, it waits for its turn.
    ///
    /// # Errors
    /// As [`Worker::register`].
    pub fn register_media(&self, token: Token, source: u8, fd: &impl AsFd) -> io::Result<()> {
        self.watch(token, source, fd, Interest::Read, Turn::Media)
    }

    fn watch(
        &self,
        token: Token,
        source: u8,
        fd: &impl AsFd,
        interest: Interest,
        turn: Turn,
    ) -> io::Result<()> {
        let event = event(token, source, interest, turn)?;
        let (fd, poller) = (fd.as_fd().as_raw_fd(), &self.inner.shared.poller);
        self.inner.table.borrow_mut().watch(token, fd, false, event, poller)
    }

    /// Changes what a registered descriptor is watched for.
    ///
    /// # Errors
    /// The descriptor is not registered under this token, or what epoll says; nothing has changed
    /// then.
    pub fn modify(
        &self,
        token: Token,
        source: u8,
        fd: &impl AsFd,
        interest: Interest,
    ) -> io::Result<()> {
        let (fd, poller) = (fd.as_fd().as_raw_fd(), &self.inner.shared.poller);
        let mut table = self.inner.table.borrow_mut();
        let was = table.watched(token, fd).ok_or(io::ErrorKind::NotFound)?;
        let event = event(token, source, interest, was.turn)?;
        table.watch(token, fd, was.is_any(), event, poller)
    }

    /// Stops watching a descriptor that stays open.
    ///
    /// # Errors
    /// The descriptor is not registered under this token, or what epoll says.
    pub fn deregister(&self, token: Token, fd: &impl AsFd) -> io::Result<()> {
        self.modify(token, 0, fd, Interest::None)?;
        self.forget(token, fd);
        Ok(())
    }

    /// Closes a registered descriptor, which ends its being watched: a call less than to deregister it
    /// before. One that is not registered is only closed.
    pub fn close(&self, token: Token, fd: impl Into<OwnedFd>) {
        let fd: OwnedFd = fd.into();
        self.forget(token, &fd);
    }

    /// As [`Worker::close`] for a descriptor that its owner closes right after this: the kernel watches
    /// it until then.
    pub fn forget(&self, token: Token, fd: &impl AsFd) {
        self.inner.table.borrow_mut().take_watch(token, fd.as_fd().as_raw_fd());
    }

    /// Sets the token's one timer, or clears it. Moving it later costs next to nothing.
    pub fn wake_at(&self, token: Token, at: Option<Instant>) {
        let mut table = self.inner.table.borrow_mut();
        let Table { slots, timers, .. } = &mut *table;
        if let Some(slot) = slots.get_mut(token.index as usize)
            && slot.generation == token.generation
            && slot.driven.is_some()
        {
            timers.set(token, &mut slot.timer, at);
        }
    }

    /// The token has more to do, with nothing to wait for, than a turn is for: it is given another
    /// one ([`Driven::again`]) when the others have had theirs.
    pub fn want_turn(&self, token: Token) {
        self.inner.table.borrow_mut().want_turn(token);
    }

    /// Runs a future on this worker until it ends or the worker stops. Not for work that comes with
    /// each packet: a wake-up goes through the executor's queue, which allocates.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        if let Some(executor) = self.inner.executor.upgrade() {
            let worker = self.clone();
            let guarded = async move {
                if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                    worker.panicked("a task", panic.as_ref());
                }
            };
            executor.spawn(guarded).detach();
        }
    }

    /// The worker's buffers, for the time of one call.
    ///
    /// # Panics
    /// When called within itself.
    pub fn with_scratch<T>(&self, f: impl FnOnce(&mut Scratch) -> T) -> T {
        f(&mut self.inner.scratch.borrow_mut())
    }

    /// The cell of the worker's buffers, for those that borrow it themselves.
    pub fn scratch(&self) -> &RefCell<Scratch> {
        &self.inner.scratch
    }

    /// Runs something that may panic; says whether it ended well.
    pub(super) fn guarded(&self, what: &str, f: impl FnOnce()) -> bool {
        let result = catch_unwind(AssertUnwindSafe(f));
        if let Err(panic) = &result {
            self.panicked(what, panic.as_ref());
        }
        result.is_ok()
    }

    fn panicked(&self, what: &str, panic: &(dyn Any + Send)) {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        log::error!("worker {}: {what} ended by a panic: {text}", self.id());
        self.load().panics.fetch_add(1, Relaxed);
    }
}

fn event(token: Token, source: u8, interest: Interest, turn: Turn) -> io::Result<Event> {
    if source > SOURCE_MAX || token == Token::NONE {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let readable = matches!(interest, Interest::Read | Interest::Both);
    let writable = matches!(interest, Interest::Write | Interest::Both);
    Ok(Event { key: token.key(source), turn, readable, writable })
}

#[cfg(test)]
#[path = "reactor_tests.rs"]
mod tests;
