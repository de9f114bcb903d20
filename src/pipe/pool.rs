//! The worker threads: starting and stopping them, giving them jobs, choosing among them.

use core::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
};
use std::{
    collections::VecDeque,
    io, mem,
    sync::{Arc, Mutex, PoisonError},
    task::Wake,
    thread::{self, JoinHandle},
};

use super::{driver::drive, epoll::Poller, reactor::Worker};
use crate::limits::{COALESCE_US_MAX, MAILBOX_MAX};

/// Packets a second that a new seat is taken to bring, until the measured rate shows it.
const EXPECTED_PPS: u32 = 100;

/// Seats that one worker may have above another before something moves for it.
const NEAR_SEATS: u64 = 8;

/// How busy a worker is. Any thread reads; counts of seats are kept by [`Hold`].
#[derive(Debug, Default)]
pub struct Load {
    /// Client connections it drives.
    pub connections: AtomicU32,
    /// Sessions it drives.
    pub sessions: AtomicU32,
    /// UDP pipes it drives.
    pub pipes: AtomicU32,
    /// Datagrams and frames relayed since the start.
    pub packets: AtomicU64,
    /// The same a second, smoothed over some seconds.
    pub packets_per_s: AtomicU32,
    /// CPU time it used in the last second, per mille of one core.
    pub busy_permille: AtomicU32,
    /// Rounds of its loop: one a second at least, else it hangs.
    pub beats: AtomicU64,
    /// Panics that ended a connection, pipe, job or task of this worker.
    pub panics: AtomicU64,
    /// Packets a second expected of seats that are too new to be measured; fades.
    pub(super) expected_pps: AtomicU32,
}

/// What a [`Hold`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// A client connection.
    Connection,
    /// A session.
    Session,
    /// A UDP pipe.
    Pipe,
}

impl Load {
    /// Counts something placed on this worker until the hold is dropped, on any thread. Take it
    /// when choosing the worker, before the job is sent, so that the next choice knows of it.
    pub fn hold(self: &Arc<Self>, seat: Seat) -> Hold {
        self.counter(seat).fetch_add(1, Relaxed);
        if seat != Seat::Session {
            self.expected_pps.fetch_add(EXPECTED_PPS, Relaxed);
        }
        Hold { load: Arc::clone(self), seat }
    }

    const fn counter(&self, seat: Seat) -> &AtomicU32 {
        match seat {
            Seat::Connection => &self.connections,
            Seat::Session => &self.sessions,
            Seat::Pipe => &self.pipes,
        }
    }

    fn rate(&self) -> u64 {
        u64::from(self.packets_per_s.load(Relaxed)) + u64::from(self.expected_pps.load(Relaxed))
    }

    fn seats(&self) -> u64 {
        [Seat::Connection, Seat::Session, Seat::Pipe]
            .map(|seat| u64::from(self.counter(seat).load(Relaxed)))
            .iter()
            .sum()
    }
}

/// A seat on a worker, counted in its [`Load`] while this lives.
#[derive(Debug)]
pub struct Hold {
    load: Arc<Load>,
    seat: Seat,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.load.counter(self.seat).fetch_sub(1, Relaxed);
    }
}

/// Work handed to a worker.
pub type Job = Box<dyn FnOnce(&Worker) + Send>;

/// The job was not taken: [`MAILBOX_MAX`] are waiting, or the worker has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the worker is overloaded or stopping: try again later")
    }
}

impl core::error::Error for Busy {}

impl From<Busy> for io::Error {
    fn from(busy: Busy) -> Self {
        Self::new(io::ErrorKind::WouldBlock, busy)
    }
}

/// What a worker thread shares with the others: its mailbox and the way to wake it.
pub(super) struct Shared {
    pub(super) poller: Poller,
    pub(super) load: Arc<Load>,
    /// How long a burst may gather, in microseconds.
    pub(super) coalesce_us: AtomicU32,
    mailbox: Mutex<Mailbox>,
    /// The worker waits, or is about to: whoever has something for it must notify.
    sleeping: AtomicBool,
    mail: AtomicBool,
    woken: AtomicBool,
    stop: AtomicBool,
}

#[derive(Default)]
struct Mailbox {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Shared {
    fn new() -> io::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            load: Arc::default(),
            coalesce_us: AtomicU32::new(0),
            mailbox: Mutex::default(),
            sleeping: AtomicBool::new(false),
            mail: AtomicBool::new(false),
            woken: AtomicBool::new(true), // the executor wants a first look
            stop: AtomicBool::new(false),
        })
    }

    fn send(&self, job: Job, bound: usize) -> Result<(), Busy> {
        {
            let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
            if mailbox.closed || mailbox.jobs.len() >= bound {
                return Err(Busy);
            }
            mailbox.jobs.push_back(job);
        }
        self.raise(&self.mail);
        Ok(())
    }

    /// Sets a flag and wakes the worker if it sleeps. The worker sets `sleeping` before it looks at
    /// the flags for the last time, so one of the two always sees the other.
    fn raise(&self, flag: &AtomicBool) {
        flag.store(true, SeqCst);
        if self.sleeping.swap(false, SeqCst)
            && let Err(error) = self.poller.notify()
        {
            log::error!("a worker cannot be woken: {error}");
        }
    }

    /// Whether the executor has something to run; asking clears it.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, SeqCst)
    }

    pub(super) fn stopping(&self) -> bool {
        self.stop.load(SeqCst)
    }

    /// Takes all waiting jobs; `spare` is an empty queue whose memory is reused.
    pub(super) fn take_jobs(&self, spare: &mut VecDeque<Job>) {
        if self.mail.swap(false, SeqCst) {
            let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut mailbox.jobs, spare);
        }
    }

    /// Announces sleep; false when there is something to do first.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        !(self.mail.load(SeqCst) || self.woken.load(SeqCst) || self.stop.load(SeqCst))
    }

    pub(super) fn awake(&self) {
        self.sleeping.store(false, SeqCst);
    }

    /// Refuses further jobs and returns those that nobody will run.
    pub(super) fn close(&self) -> VecDeque<Job> {
        let mut mailbox = self.mailbox.lock().unwrap_or_else(PoisonError::into_inner);
        mailbox.closed = true;
        mem::take(&mut mailbox.jobs)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.raise(&self.woken);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.raise(&self.woken);
    }
}

/// One worker, seen from any thread.
#[derive(Clone)]
pub struct Handle {
    id: u16,
    shared: Arc<Shared>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Handle {
    /// Its number, from 0.
    pub const fn id(&self) -> u16 {
        self.id
    }

    /// How busy it is.
    pub fn load(&self) -> &Arc<Load> {
        &self.shared.load
    }

    /// Runs a job on the worker's thread, after those sent before. For setting up, not for each
    /// datagram.
    ///
    /// # Errors
    /// [`Busy`] when [`MAILBOX_MAX`] jobs wait or the worker has stopped; the job is dropped here.
    pub fn run(&self, job: Job) -> Result<(), Busy> {
        self.shared.send(job, MAILBOX_MAX)
    }

    /// Like [`Handle::run`] for jobs that give something back: they are bounded by what there is to
    /// give back, and must not be lost to a full mailbox.
    pub fn run_surely(&self, job: Job) {
        // A stopped worker has given back everything already.
        let _ = self.shared.send(job, usize::MAX);
    }
}

/// The worker threads. Dropping it stops them.
pub struct Pool {
    handles: Vec<Handle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("handles", &self.handles).finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts `n` workers (at least one), named `edgeweir-w0` and so on.
    ///
    /// # Errors
    /// No descriptor for a poller, or no memory for a thread; those already started are stopped.
    pub fn start(n: usize) -> io::Result<Self> {
        let mut pool = Self { handles: Vec::new(), threads: Mutex::default() };
        for id in 0..u16::try_from(n.max(1)).unwrap_or(u16::MAX) {
            let shared = Arc::new(Shared::new()?);
            let seen = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name(format!("edgeweir-w{id}"))
                .spawn(move || drive(id, &seen))?;
            pool.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            pool.handles.push(Handle { id, shared });
        }
        Ok(pool)
    }

    /// The workers, by number.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The worker with the lowest load: packets a second first, seats (connections, sessions,
    /// pipes) where those are about equal, then the preferred one, then the lowest number.
    ///
    /// About equal: within an eighth and 64 packets a second, for a measured rate never ties. New
    /// seats count as 100 packets a second each until their traffic is measured, so that a burst of
    /// set-ups spreads.
    #[allow(clippy::missing_panics_doc)] // start() makes at least one worker
    pub fn least_loaded(&self, prefer: Option<u16>) -> &Handle {
        let lowest = self.handles.iter().map(|handle| handle.load().rate()).min().unwrap_or(0);
        let tie = lowest + lowest / 8 + 64;
        self.handles
            .iter()
            .filter(|handle| handle.load().rate() <= tie)
            .min_by_key(|handle| (handle.load().seats(), Some(handle.id) != prefer, handle.id))
            .unwrap_or(&self.handles[0])
    }

    /// The worker `here`, unless another has clearly less to do than it: by more than 8 seats, or the
    /// traffic expected of them. For what is already on that worker's thread and would wake another.
    pub fn near(&self, here: u16) -> &Handle {
        let least = self.least_loaded(Some(here));
        let near = |handle: &&Handle| {
            let (mine, other) = (handle.load(), least.load());
            let traffic = NEAR_SEATS * u64::from(EXPECTED_PPS);
            mine.seats() <= other.seats() + other.seats() / 8 + NEAR_SEATS
                && mine.rate() <= other.rate() + other.rate() / 8 + traffic
        };
        self.handles.get(usize::from(here)).filter(near).unwrap_or(least)
    }

    /// How long a worker may let a burst gather before it reads on, in microseconds; 0: not at all.
    /// In force from each worker's next round on; 0 at start.
    pub fn set_coalesce_us(&self, us: u16) {
        for handle in &self.handles {
            handle.shared.coalesce_us.store(us.min(COALESCE_US_MAX).into(), Relaxed);
        }
    }

    /// Stops the workers after the jobs already sent, drops all that they drive, and waits for
    /// them. May be called again; called on a worker it does not wait for itself.
    pub fn stop(&self) {
        for handle in &self.handles {
            handle.shared.raise(&handle.shared.stop);
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                log::error!("a worker thread had ended by a panic");
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_job_runs_on_the_named_thread_of_its_worker() {
        let pool = Pool::start(2).unwrap();
        let (tell, told) = mpsc::channel();
        for handle in pool.handles() {
            let tell = tell.clone();
            let job = move |worker: &Worker| {
                let name = thread::current().name().map(str::to_owned);
                tell.send((worker.id(), name)).unwrap();
            };
            handle.run(Box::new(job)).unwrap();
        }
        let mut seen = [told.recv().unwrap(), told.recv().unwrap()];
        seen.sort();
        let expected = [0, 1].map(|id| (id, Some(format!("edgeweir-w{id}"))));
        assert_eq!(seen, expected);
    }

    #[test]
    fn the_mailbox_takes_its_bound_and_no_more() {
        let pool = Pool::start(1).unwrap();
        let handle = &pool.handles()[0];
        let (release, held) = mpsc::channel::<()>();
        let (started, start) = mpsc::channel();
        let block = move |_: &Worker| {
            started.send(()).unwrap();
            held.recv().unwrap();
        };
        handle.run(Box::new(block)).unwrap();
        start.recv().unwrap();
        for _ in 0..MAILBOX_MAX {
            handle.run(Box::new(|_| {})).unwrap();
        }
        assert_eq!(handle.run(Box::new(|_| {})), Err(Busy));
        release.send(()).unwrap();
        pool.stop();
        assert_eq!(handle.run(Box::new(|_| {})), Err(Busy), "stopped");
    }

    #[test]
    fn seats_that_cost_nothing_spread_evenly_and_ties_go_to_the_preferred() {
        let pool = Pool::start(2).unwrap();
        assert_eq!(pool.least_loaded(Some(1)).id(), 1);
        assert_eq!(pool.least_loaded(None).id(), 0);
        let holds: Vec<Hold> =
            (0..100).map(|_| pool.least_loaded(Some(1)).load().hold(Seat::Pipe)).collect();
        for handle in pool.handles() {
            assert_eq!(handle.load().pipes.load(Relaxed), 50);
        }
        drop(holds);
        assert_eq!(pool.handles()[0].load().pipes.load(Relaxed), 0);
    }

    #[test]
    fn what_is_on_a_worker_stays_until_another_has_clearly_less_to_do() {
        let pool = Pool::start(2).unwrap();
        let [a, b] = pool.handles() else { panic!("two workers") };
        let mut seats: Vec<Hold> =
            (0..NEAR_SEATS).map(|_| pool.near(0).load().hold(Seat::Connection)).collect();
        assert_eq!((a.load().seats(), pool.near(0).id()), (NEAR_SEATS, 0));
        seats.push(pool.near(0).load().hold(Seat::Connection));
        assert_eq!((pool.near(0).id(), pool.near(1).id()), (1, 1));
        seats.clear();
        a.load().expected_pps.store(0, Relaxed);
        for (rate_a, rate_b, chosen) in [(800, 0, 0), (801, 0, 1), (9800, 8000, 0), (9801, 8000, 1)]
        {
            a.load().packets_per_s.store(rate_a, Relaxed);
            b.load().packets_per_s.store(rate_b, Relaxed);
            assert_eq!(pool.near(0).id(), chosen, "{rate_a} against {rate_b}");
        }
        assert_eq!(pool.near(7).id(), 1, "no such worker: the least loaded");
    }

    #[test]
    fn traffic_outweighs_seats_and_noise_does_not() {
        let pool = Pool::start(2).unwrap();
        let [a, b] = pool.handles() else { panic!("two workers") };
        let _seat = a.load().hold(Seat::Session);
        // Two rates, and who is chosen: the one with less traffic, or fewer seats when about equal.
        for (rate_a, rate_b, chosen) in
            [(0, 0, 1), (1000, 1050, 1), (1000, 5000, 0), (5000, 1000, 1)]
        {
            a.load().packets_per_s.store(rate_a, Relaxed);
            b.load().packets_per_s.store(rate_b, Relaxed);
            assert_eq!(pool.least_loaded(None).id(), chosen, "{rate_a} against {rate_b}");
        }
    }
}
