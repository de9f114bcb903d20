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
//! RTSP and RTCP come before media among the events. A round of media that takes longer than a
//! slice of a few milliseconds is interrupted for all the others and then goes on where it was: a
//! flood makes media late, and an answer hardly. From the first interruption on, until there has been
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
mod tests {
    use super::*;
    use core::{cell::OnceCell, sync::atomic::AtomicU32, time::Duration};
    use std::{
        net::UdpSocket,
        sync::mpsc::{Receiver, Sender, channel},
    };

    const LONG: Duration = Duration::from_secs(10);

    /// A socket that tells what happens to it, and does what a test asks when it happens.
    struct Probe {
        socket: UdpSocket,
        token: OnceCell<Token>,
        tell: Sender<&'static str>,
        then: fn(&Probe, &Worker),
    }

    impl Driven for Probe {
        fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
            assert!(what.readable);
            let _ = self.tell.send("ready");
            (self.then)(&self, worker);
        }

        fn timeout(self: Rc<Self>, worker: &Worker) {
            let _ = self.tell.send("timeout");
            (self.then)(&self, worker);
        }
    }

    impl Drop for Probe {
        fn drop(&mut self) {
            let _ = self.tell.send("dropped");
        }
    }

    impl Probe {
        fn token(&self) -> Token {
            *self.token.get().unwrap()
        }

        fn read(&self, _: &Worker) {
            let _ = self.socket.recv(&mut [0; 64]);
        }
    }

    /// Puts a probe on a worker; returns its address and what it tells.
    fn probe(
        handle: &Handle,
        then: fn(&Probe, &Worker),
        set_up: fn(&Probe, &Worker),
    ) -> (std::net::SocketAddr, Receiver<&'static str>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, told) = channel();
        let job = move |worker: &Worker| {
            let probe = Rc::new(Probe { socket, token: OnceCell::new(), tell, then });
            let token = worker.adopt(Rc::clone(&probe) as Rc<dyn Driven>);
            probe.token.set(token).unwrap();
            worker.register(token, 3, &probe.socket, Interest::Read).unwrap();
            set_up(&probe, worker);
        };
        handle.run(Box::new(job)).unwrap();
        (address, told)
    }

    fn poke(address: std::net::SocketAddr) {
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
    }

    /// Waits until the worker has done all that was sent to it.
    fn settle(handle: &Handle) {
        let (tell, told) = channel();
        handle.run(Box::new(move |_| tell.send(()).unwrap())).unwrap();
        told.recv_timeout(LONG).unwrap();
    }

    fn one() -> Pool {
        Pool::start(1).unwrap()
    }

    fn nothing(_: &Probe, _: &Worker) {}

    #[test]
    fn readiness_reaches_the_state_that_registered() {
        let pool = one();
        let (address, told) = probe(&pool.handles()[0], Probe::read, nothing);
        for _ in 0..3 {
            poke(address);
            assert_eq!(told.recv_timeout(LONG), Ok("ready"));
        }
        pool.stop();
        assert_eq!(told.recv_timeout(LONG), Ok("dropped"));
    }

    #[test]
    fn a_panic_ends_its_own_state_and_nothing_else() {
        let pool = one();
        let handle = &pool.handles()[0];
        let (bad, bad_told) = probe(handle, |_, _| panic!("on purpose"), nothing);
        let (good, good_told) = probe(handle, Probe::read, nothing);
        poke(bad);
        assert_eq!(bad_told.recv_timeout(LONG), Ok("ready"));
        assert_eq!(bad_told.recv_timeout(LONG), Ok("dropped"));
        handle.run(Box::new(|_| panic!("a job, on purpose"))).unwrap();
        handle
            .run(Box::new(|worker| worker.spawn(async { panic!("a task, on purpose") })))
            .unwrap();
        poke(good);
        assert_eq!(good_told.recv_timeout(LONG), Ok("ready"));
        let (tell, told) = channel();
        let job = |worker: &Worker| worker.spawn(async move { tell.send(()).unwrap() });
        handle.run(Box::new(job)).unwrap();
        told.recv_timeout(LONG).unwrap();
        assert_eq!(handle.load().panics.load(Relaxed), 3);
    }

    #[test]
    fn a_timer_fires_though_the_worker_is_idle_and_a_moved_one_only_once() {
        let pool = one();
        let in_5_ms = |probe: &Probe, worker: &Worker| {
            worker.wake_at(probe.token(), Some(worker.now() + LONG));
            worker.wake_at(probe.token(), Some(worker.now() + Duration::from_millis(5)));
        };
        let before = clock::now();
        let (_, told) = probe(&pool.handles()[0], nothing, in_5_ms);
        assert_eq!(told.recv_timeout(LONG), Ok("timeout"));
        let passed = clock::now() - before;
        assert!(
            passed >= Duration::from_millis(4) && passed < Duration::from_secs(2),
            "{passed:?}"
        );
        assert!(told.recv_timeout(Duration::from_millis(30)).is_err());
    }

    #[test]
    fn a_timer_set_to_now_by_its_own_timeout_does_not_starve_events() {
        let pool = one();
        let handle = &pool.handles()[0];
        let again = |probe: &Probe, worker: &Worker| {
            worker.wake_at(probe.token(), Some(worker.now()));
        };
        let (_, _told) = probe(handle, again, again);
        let (address, told) = probe(handle, Probe::read, nothing);
        poke(address);
        assert_eq!(told.recv_timeout(LONG), Ok("ready"));
    }

    #[test]
    fn a_released_token_gets_no_event_of_the_batch_it_was_in() {
        struct Rival {
            socket: UdpSocket,
            other: OnceCell<Token>,
            tell: Sender<&'static str>,
        }
        impl Driven for Rival {
            fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
                let _ = self.socket.recv(&mut [0; 64]);
                // The slot is free, and taken again at once: the old event must not reach it.
                worker.release(*self.other.get().unwrap());
                let (socket, tell) = (self.socket.try_clone().unwrap(), self.tell.clone());
                worker.adopt(Rc::new(Rival { socket, other: OnceCell::new(), tell }));
                let _ = self.tell.send("ready");
            }
            fn timeout(self: Rc<Self>, _: &Worker) {}
        }
        let pool = one();
        let (tell, told) = channel();
        let job = move |worker: &Worker| {
            let rivals = [(); 2].map(|()| {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.set_nonblocking(true).unwrap();
                Rc::new(Rival { socket, other: OnceCell::new(), tell: tell.clone() })
            });
            let tokens =
                [0, 1].map(|n: usize| worker.adopt(Rc::clone(&rivals[n]) as Rc<dyn Driven>));
            for (n, rival) in rivals.iter().enumerate() {
                rival.other.set(tokens[1 - n]).unwrap();
                worker.register(tokens[n], 0, &rival.socket, Interest::Read).unwrap();
            }
            // Both are ready before the next wait, hence in one batch.
            for rival in &rivals {
                poke(rival.socket.local_addr().unwrap());
            }
        };
        pool.handles()[0].run(Box::new(job)).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok("ready"));
        assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
    }

    #[test]
    fn media_in_plenty_does_not_make_rtsp_wait_for_all_of_it() {
        static SERVED: AtomicU32 = AtomicU32::new(0);
        /// A stream that always has more, and takes a millisecond each time.
        struct Flood(UdpSocket);
        impl Driven for Flood {
            fn ready(self: Rc<Self>, _: Ready, _: &Worker) {
                let began = clock::now();
                while clock::now().since(began) < Duration::from_millis(1) {}
                SERVED.fetch_add(1, Relaxed);
            }
            fn timeout(self: Rc<Self>, _: &Worker) {}
        }
        /// Tells how much of the flood was served before it.
        struct Control(UdpSocket, Sender<u32>);
        impl Driven for Control {
            fn ready(self: Rc<Self>, _: Ready, _: &Worker) {
                let _ = self.0.recv(&mut [0; 64]);
                let _ = self.1.send(SERVED.load(Relaxed));
            }
            fn timeout(self: Rc<Self>, _: &Worker) {}
        }
        fn control(handle: &Handle) -> (std::net::SocketAddr, Receiver<u32>) {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap();
            let (tell, told) = channel();
            let set_up = |worker: &Worker| {
                let control = Rc::new(Control(socket, tell));
                let token = worker.adopt(Rc::clone(&control) as Rc<dyn Driven>);
                worker.register(token, 0, &control.0, Interest::Read).unwrap();
            };
            handle.run(Box::new(set_up)).unwrap();
            (address, told)
        }
        const STREAMS: u32 = 200;
        let pool = one();
        let handle = &pool.handles()[0];
        let before = control(handle);
        let set_up = |worker: &Worker| {
            for _ in 0..STREAMS {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                poke(socket.local_addr().unwrap());
                let flood = Rc::new(Flood(socket));
                let token = worker.adopt(Rc::clone(&flood) as Rc<dyn Driven>);
                worker.register_media(token, 0, &flood.0).unwrap();
            }
        };
        handle.run(Box::new(set_up)).unwrap();
        let served_after = |count: u32| {
            let before = SERVED.load(Relaxed);
            while SERVED.load(Relaxed) < before + count {
                settle(handle);
            }
        };
        served_after(STREAMS);
        for (address, told) in [before, control(handle)] {
            let waited = (0..5).map(|_| {
                let before = SERVED.load(Relaxed);
                poke(address);
                told.recv_timeout(LONG).unwrap() - before
            });
            // Of several, for another program may have the processor between two lines of this test.
            assert!(waited.min() < Some(STREAMS / 4));
        }
        // And media are not starved.
        served_after(STREAMS);
    }

    #[test]
    fn interest_can_be_taken_back_and_given_again() {
        let pool = one();
        let give_again = |probe: &Probe, worker: &Worker| {
            worker.modify(probe.token(), 3, &probe.socket, Interest::Read).unwrap();
        };
        let take_back = |probe: &Probe, worker: &Worker| {
            worker.modify(probe.token(), 3, &probe.socket, Interest::None).unwrap();
            worker.modify(probe.token(), 3, &probe.socket, Interest::None).unwrap();
            poke(probe.socket.local_addr().unwrap());
            worker.wake_at(probe.token(), Some(worker.now() + Duration::from_millis(20)));
        };
        let (_, told) = probe(&pool.handles()[0], give_again, take_back);
        assert_eq!(told.recv_timeout(LONG), Ok("timeout"), "not ready before");
        assert_eq!(told.recv_timeout(LONG), Ok("ready"));
    }

    #[test]
    fn what_is_deregistered_or_released_is_silent() {
        let pool = one();
        let handle = &pool.handles()[0];
        let (address, told) = probe(handle, nothing, |probe, worker| {
            worker.deregister(probe.token(), &probe.socket).unwrap();
            assert!(worker.deregister(probe.token(), &probe.socket).is_err(), "not twice");
        });
        let (released, released_told) = probe(handle, nothing, |probe, worker| {
            worker.wake_at(probe.token(), Some(worker.now()));
            worker.release(probe.token());
            worker.release(probe.token());
            let again = worker.register(probe.token(), 3, &probe.socket, Interest::Read);
            assert!(again.is_err());
        });
        poke(address);
        poke(released);
        assert_eq!(released_told.recv_timeout(LONG), Ok("dropped"));
        assert!(told.recv_timeout(Duration::from_millis(30)).is_err());
        assert_eq!(handle.load().panics.load(Relaxed), 0);
    }

    #[test]
    fn the_number_of_what_was_closed_can_be_registered_again() {
        /// Closes its socket when it has been read, and takes another.
        struct Changing(RefCell<UdpSocket>, Cell<Token>, Sender<std::net::SocketAddr>);
        impl Driven for Changing {
            fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
                let fresh = UdpSocket::bind("127.0.0.1:0").unwrap();
                let address = fresh.local_addr().unwrap();
                worker.close(self.1.get(), self.0.replace(fresh));
                // The lowest free number, which the closed one had unless another test took it.
                let moved = self.0.borrow().try_clone().unwrap();
                drop(self.0.replace(moved));
                worker.register(self.1.get(), 0, &*self.0.borrow(), Interest::Read).unwrap();
                self.2.send(address).unwrap();
            }
            fn timeout(self: Rc<Self>, _: &Worker) {}
        }
        let pool = one();
        let handle = &pool.handles()[0];
        let (tell, told) = channel();
        let set_up = move |worker: &Worker| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            tell.send(socket.local_addr().unwrap()).unwrap();
            let changing = Rc::new(Changing(RefCell::new(socket), Cell::new(Token::NONE), tell));
            let token = worker.adopt(Rc::clone(&changing) as Rc<dyn Driven>);
            changing.1.set(token);
            worker.register(token, 0, &*changing.0.borrow(), Interest::Read).unwrap();
        };
        handle.run(Box::new(set_up)).unwrap();
        for _ in 0..3 {
            poke(told.recv_timeout(LONG).unwrap());
        }
        told.recv_timeout(LONG).unwrap();
        assert_eq!(handle.load().panics.load(Relaxed), 0);
    }

    #[test]
    fn a_source_or_token_out_of_range_is_an_error() {
        let pool = one();
        let handle = &pool.handles()[0];
        let (address, _told) = probe(handle, Probe::read, |probe, worker| {
            let other = UdpSocket::bind("127.0.0.1:0").unwrap();
            let token = probe.token();
            assert!(worker.register(token, SOURCE_MAX, &other, Interest::Read).is_ok());
            assert!(worker.register(token, SOURCE_MAX + 1, &other, Interest::Read).is_err());
            assert!(worker.register(Token::NONE, 0, &other, Interest::Read).is_err());
            worker.wake_at(Token::NONE, Some(worker.now()));
            worker.release(Token::NONE);
        });
        poke(address);
        settle(handle);
        assert_eq!(handle.load().panics.load(Relaxed), 0);
    }
}
