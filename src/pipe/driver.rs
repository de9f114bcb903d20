//! The loop of a worker thread, and what it measures once a second.

use core::{
    future::pending,
    pin::pin,
    sync::atomic::Ordering::Relaxed,
    task::{Context, Waker},
    time::Duration,
};
use std::{collections::VecDeque, io, rc::Rc, sync::Arc};

use smol::LocalExecutor;

use super::{
    epoll::{Event, Events},
    gather::Rhythm,
    pool::{Job, Load, Shared},
    reactor::{Ready, Worker},
    sys,
    table::{Table, Token},
};
use crate::clock::{self, Instant};

/// The measurements of once a second.
struct Meter {
    at: Instant,
    packets: u64,
    cpu_us: u64,
    packets_per_s: u64,
}

impl Meter {
    const EVERY: Duration = Duration::from_secs(1);

    fn new(now: Instant) -> Self {
        Self { at: now, packets: 0, cpu_us: sys::thread_cpu_us(), packets_per_s: 0 }
    }

    fn due(&self) -> Instant {
        self.at + Self::EVERY
    }

    fn tick(&mut self, packets: u64, load: &Load, now: Instant) {
        if now < self.due() {
            return;
        }
        let ms = u64::try_from(now.since(self.at).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = packets.wrapping_sub(self.packets).saturating_mul(1000) / ms;
        // Half of the new, half of the old: a burst of a second is not taken for load.
        self.packets_per_s = u64::midpoint(self.packets_per_s, rate);
        let cpu_us = sys::thread_cpu_us();
        let busy = (cpu_us.saturating_sub(self.cpu_us) / ms).min(1000);
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        load.packets_per_s.store(small(self.packets_per_s), Relaxed);
        load.busy_permille.store(small(busy), Relaxed);
        let fade = |expected: u32| Some(expected / 2);
        let _ = load.expected_pps.fetch_update(Relaxed, Relaxed, fade);
        (self.at, self.packets, self.cpu_us) = (now, packets, cpu_us);
    }
}

/// How long media may go on while others may wait.
const SLICE: Duration = Duration::from_millis(4);
/// How long all that comes before media may go on while media wait; the same for jobs, and for timers.
const FIRST_SLICE: Duration = Duration::from_millis(2);
/// How long those that are served first are watched apart after the last interruption of a round.
const APART: Duration = Duration::from_secs(10);
/// Media events between two looks at the clock; one can take [`DATAGRAMS_PER_ROUND`] datagrams.
///
/// [`DATAGRAMS_PER_ROUND`]: crate::limits::DATAGRAMS_PER_ROUND
const EVENTS_PER_LOOK: usize = 8;

/// The loop of a worker thread.
pub(super) fn drive(id: u16, shared: &Arc<Shared>) {
    sys::sharpen_timers();
    let executor = Rc::new(LocalExecutor::new());
    let worker = Worker::new(id, shared, &executor);
    let waker = Waker::from(Arc::clone(shared));
    let mut tasks = pin!(executor.run(pending::<()>()));
    let (mut events, mut asked) = (Events::new(), Events::new());
    let (mut first, mut jobs) = (VecDeque::new(), VecDeque::new());
    let mut meter = Meter::new(worker.now());
    let mut rhythm = Rhythm::default();
    let mut interrupted = worker.now();
    while !shared.stopping() {
        run_some_jobs(&worker, &mut jobs);
        worker.fire_timers();
        if shared.take_woken() {
            let _ = tasks.as_mut().poll(&mut Context::from_waker(&waker));
        }
        let resumed = !events.is_empty();
        if resumed {
            worker.inner.now.set(clock::now());
        } else {
            let busy = !first.is_empty() || !jobs.is_empty() || worker.has_turns();
            wait(&worker, &mut events, if busy { worker.now() } else { meter.due() });
        }
        note_first(&worker, resumed, &events, &mut asked, &mut first);
        let mut until = worker.now() + SLICE;
        if serve_first(&worker, &mut first) {
            let now = clock::now();
            // Neither starves the other.
            until = now + SLICE.max(now.since(worker.now()));
        }
        serve(&worker, &mut events, until);
        // Only when all that was there has been taken.
        if events.is_empty() {
            if worker.now().since(interrupted) >= APART {
                worker.set_apart(false);
            }
            rhythm.on_round(worker.inner.bursts.take(), worker.now());
            let pause_us = shared.coalesce_us.load(Relaxed);
            let worth = worker.inner.pause.take().is_worth(rhythm, pause_us);
            if worth && first.is_empty() && !worker.has_turns() {
                std::thread::sleep(Duration::from_micros(pause_us.into()));
            }
        } else {
            interrupted = worker.now();
            worker.set_apart(true);
        }
        let packets = worker.inner.packets.get();
        shared.load.packets.store(packets, Relaxed);
        shared.load.beats.fetch_add(1, Relaxed);
        meter.tick(packets, &shared.load, worker.now());
    }
    run_jobs(&worker, &mut jobs);
    shared.take_jobs(&mut jobs);
    run_jobs(&worker, &mut jobs); // what was sent before the stop
    drop(shared.close());
    worker.clear();
}

/// Notes those that come before media, in the order of their turns: as a wait has just told of them,
/// or as they are ready by now when that was long ago or may not have been all. While some of an
/// earlier note still wait for their turn nobody gets a second one: the next wait tells of them again.
fn note_first(
    worker: &Worker,
    resumed: bool,
    events: &Events,
    asked: &mut Events,
    first: &mut VecDeque<Event>,
) {
    if !first.is_empty() {
        return;
    }
    if (resumed || events.is_full()) && worker.ask_first(asked) {
        first.extend(asked.first());
    } else if !resumed {
        first.extend(events.first());
    }
}

/// Serves those that come before media, for as long as their slice lasts; then those whose turn
/// before was not enough, one of them in any case. Whether there were any.
fn serve_first(worker: &Worker, first: &mut VecDeque<Event>) -> bool {
    let turns = worker.inner.table.borrow().turns.len();
    if first.is_empty() && turns == 0 {
        return false;
    }
    let until = worker.now() + FIRST_SLICE;
    while let Some(event) = first.pop_front() {
        worker.dispatch(event);
        if clock::now() >= until {
            break;
        }
    }
    for _ in 0..turns {
        worker.give_turn();
        if clock::now() >= until {
            break;
        }
    }
    true
}

/// Serves the media that a wait has told of, or as much of it as there is time for.
fn serve(worker: &Worker, events: &mut Events, until: Instant) {
    loop {
        events.by_ref().take(EVENTS_PER_LOOK).for_each(|event| worker.dispatch(event));
        if events.is_empty() || clock::now() >= until {
            return;
        }
    }
}

/// Runs jobs for as long as their slice lasts; what is left of them waits for the next round.
fn run_some_jobs(worker: &Worker, jobs: &mut VecDeque<Job>) {
    if jobs.is_empty() {
        worker.inner.shared.take_jobs(jobs);
    }
    if jobs.is_empty() {
        return;
    }
    let until = clock::now() + FIRST_SLICE;
    while let Some(job) = jobs.pop_front() {
        worker.guarded("a job", || job(worker));
        if clock::now() >= until {
            return;
        }
    }
}

fn run_jobs(worker: &Worker, jobs: &mut VecDeque<Job>) {
    for job in jobs.drain(..) {
        worker.guarded("a job", || job(worker));
    }
    worker.inner.shared.take_jobs(jobs);
    for job in jobs.drain(..) {
        worker.guarded("a job", || job(worker));
    }
}

/// Waits for events until a timer is due; not at all when another thread has left something.
fn wait(worker: &Worker, events: &mut Events, meter: Instant) {
    let shared = &worker.inner.shared;
    let next = worker.inner.table.borrow().timers.next();
    let until = next.map_or(meter, |timer| timer.min(meter));
    let pause = if shared.may_sleep() { until.since(clock::now()) } else { Duration::ZERO };
    let result = shared.poller.all.wait(events, pause);
    shared.awake();
    worker.inner.now.set(clock::now());
    if let Err(error) = result
        && error.kind() != io::ErrorKind::Interrupted
    {
        // Nothing that traffic can cause; not spinning is all that is left to do.
        log::error!("worker {}: waiting failed: {error}", worker.id());
        std::thread::sleep(Duration::from_millis(100));
    }
}

impl Worker {
    /// Tells one event, unless its token was released since the kernel gave it.
    fn dispatch(&self, event: Event) {
        let (token, driven) = {
            let mut table = self.inner.table.borrow_mut();
            let index = Token::index_of(event.key);
            let Some(slot) = table.slots.get(index as usize) else { return };
            let token = Token { index, generation: slot.generation };
            let source = Token::source_of(event.key);
            let Some(driven) = table.driven(token).filter(|_| token.key(source) == event.key)
            else {
                return;
            };
            (token, driven)
        };
        let what = Ready {
            source: Token::source_of(event.key),
            readable: event.readable,
            writable: event.writable,
        };
        if !self.guarded("a connection or pipe", || driven.ready(what, self)) {
            self.abandon(token);
        }
    }

    /// Whether someone's turn was not enough.
    fn has_turns(&self) -> bool {
        !self.inner.table.borrow().turns.is_empty()
    }

    /// Gives a turn to the one that has waited longest for another.
    fn give_turn(&self) {
        let (token, driven) = {
            let mut table = self.inner.table.borrow_mut();
            let Some(token) = table.turns.pop_front() else { return };
            let Some(slot) = table.slot(token) else { return };
            slot.wants_turn = false;
            let Some(driven) = slot.driven.clone() else { return };
            (token, driven)
        };
        if !self.guarded("a connection or pipe", || driven.again(self)) {
            self.abandon(token);
        }
    }

    /// Fires the timers that are due now, for as long as their slice lasts; those that are left, and
    /// those set to now meanwhile, wait for the next round.
    fn fire_timers(&self) {
        let now = self.now();
        let (due, mut until) = (self.inner.table.borrow().timers.len(), None);
        for _ in 0..due {
            let (token, driven) = {
                let mut table = self.inner.table.borrow_mut();
                let Some((at, token)) = table.timers.pop(now) else { return };
                let Table { slots, timers, .. } = &mut *table;
                let Some(slot) = slots.get_mut(token.index as usize) else { continue };
                if slot.generation != token.generation
                    || !timers.fires((at, token), &mut slot.timer, now)
                {
                    continue;
                }
                let Some(driven) = slot.driven.clone() else { continue };
                (token, driven)
            };
            if !self.guarded("a connection or pipe", || driven.timeout(self)) {
                self.abandon(token);
            }
            let now = clock::now();
            if now >= *until.get_or_insert(now + FIRST_SLICE) {
                return;
            }
        }
    }

    /// Whether those that are served first can be asked for apart from media.
    fn set_apart(&self, apart: bool) {
        self.inner.table.borrow_mut().set_apart(apart, &self.inner.shared.poller);
    }

    /// Those that are served first and are ready now. False when they are not watched apart, and
    /// after an error: they will be told of again.
    fn ask_first(&self, events: &mut Events) -> bool {
        let apart = self.inner.table.borrow().is_apart();
        apart && self.inner.shared.poller.first.wait(events, Duration::ZERO).is_ok()
    }

    /// Drops all that is driven.
    fn clear(&self) {
        for index in 0.. {
            let token = match self.inner.table.borrow().slots.get(index as usize) {
                Some(slot) => Token { index, generation: slot.generation },
                None => return,
            };
            self.abandon(token);
        }
    }

    /// Releases what has panicked, and may do so once more in its destructor.
    fn abandon(&self, token: Token) {
        self.guarded("the end of a connection or pipe", || self.release(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_tells_rate_and_forgets_expectations() {
        let load = Load::default();
        load.expected_pps.store(1000, Relaxed);
        let mut meter = Meter::new(Instant::START);
        for second in 1..=10 {
            meter.tick(second * 500, &load, Instant::from_millis(second * 1000));
        }
        let rate = load.packets_per_s.load(Relaxed);
        assert!((490..=500).contains(&rate), "{rate}");
        assert_eq!(load.expected_pps.load(Relaxed), 0);
    }
}
