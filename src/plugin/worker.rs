//! The hooks of one worker: its instances, made when they are first needed.
//!
//! Not in here: which generation serves (`slot`), and what a session does without an answer.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use super::{
    guest::{Exports, Fault, Instance},
    hooks::{
        Client, Decision, Direction, Hooks, Message, PipeKey, SessionKey, Upstream, Verdict,
        WorkerLoad,
    },
    host::Host,
    slot::{Cell, Seated, Slot, Turn},
    values::Interest,
};

/// The guests of one worker thread.
pub struct Guests {
    host: Arc<Host>,
    seats: Vec<Seat>,
}

/// A worker's place in a slot.
struct Seat {
    slot: Arc<Slot>,
    cell: Arc<Cell>,
    /// Which of the slot's instances, from 1.
    instance: u32,
    /// The generation that was seen last, and what it offers.
    number: u64,
    exports: Exports,
    interest: Arc<Interest>,
}

impl core::fmt::Debug for Guests {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guests").field("seats", &self.seats.len()).finish_non_exhaustive()
    }
}

impl Guests {
    pub(super) fn new(host: Arc<Host>) -> Self {
        Self { host, seats: Vec::new() }
    }

    /// The place in a slot, up to date; none when nothing serves there.
    fn seat(&mut self, name: &str) -> Option<usize> {
        let known = self.seats.iter().position(|seat| seat.slot.held.slot == name);
        // A slot that serves is not retired: the usual case looks at one number.
        let gone = |seat: &Seat| seat.slot.number() == 0 && seat.slot.is_retired();
        let at = match known.filter(|at| !self.seats.get(*at).is_some_and(gone)) {
            Some(at) => at,
            None => {
                self.seats.retain(|seat| !gone(seat));
                let slot = self.host.slot(name)?;
                let (cell, instance) = slot.seat();
                let (exports, interest) = (Exports::default(), Arc::default());
                self.seats.push(Seat { slot, cell, instance, number: 0, exports, interest });
                self.seats.len() - 1
            }
        };
        let seat = self.seats.get_mut(at)?;
        let number = seat.slot.number();
        if number != seat.number {
            seat.number = 0;
            if let Some(generation) = seat.slot.current() {
                seat.number = generation.number;
                seat.exports = generation.exports;
                seat.interest = generation.interest.clone();
            }
        }
        (seat.number != 0).then_some(at)
    }

    /// Calls a guest; none when there is none, or it failed.
    fn call<T>(
        &mut self,
        name: &str,
        exported: impl FnOnce(&Exports) -> bool,
        call: impl FnOnce(&mut Instance) -> Result<T, Fault>,
    ) -> Option<T> {
        let at = self.seat(name)?;
        let seat = self.seats.get(at)?;
        if !exported(&seat.exports) || seat.slot.is_benched() {
            return None;
        }
        let mut cell = seat.cell.lock();
        let fresh = cell.as_ref().is_some_and(|seated| seated.generation.number == seat.number);
        if !fresh {
            *cell = None;
            match self.host.instance(seat) {
                Ok(seated) => *cell = seated,
                Err(fault) => {
                    drop(cell);
                    self.host.failed(&seat.slot, seat.number, "init", &fault);
                    return None;
                }
            }
        }
        let seated = cell.as_mut()?;
        seated.calls += 1;
        seat.slot.calls.fetch_add(1, Ordering::Relaxed);
        let number = seated.generation.number;
        match call(&mut seated.instance) {
            Ok(answer) => Some(answer),
            // Swapped just now, for one without this hook.
            Err(Fault::Missing(_)) => None,
            Err(fault) => {
                *cell = None;
                drop(cell);
                self.host.failed(&seat.slot, number, "call", &fault);
                None
            }
        }
    }
}

impl Host {
    /// A new instance of what serves in a seat's slot. That may be newer than what the seat has
    /// seen: a swap at this moment must not cost an answer.
    fn instance(&self, seat: &Seat) -> Result<Option<Seated>, Fault> {
        let Some(generation) = seat.slot.current() else { return Ok(None) };
        let Some(ticker) = self.ticker() else { return Ok(None) };
        let held = seat.slot.held.clone();
        let mut instance = Instance::new(&generation.prepared, ticker, held, seat.instance)?;
        instance
            .init(&generation.config, generation.handover.as_ref())?
            .map_err(|why| Fault::Value(format!("init refused: {why}")))?;
        Ok(Some(Seated { instance, generation, calls: 0 }))
    }

    /// Says and does what follows from a fault.
    fn failed(&self, slot: &Slot, number: u64, what: &str, fault: &Fault) {
        let name = &slot.held.slot;
        match slot.fault(number, fault) {
            Turn::Counted => log::warn!("plugin {name}: fault in {what}: {fault}"),
            Turn::RolledBack(_) => {
                self.event(format!(
                    "plugin {name}: rolled back to the one before, too many faults; the last: {fault}"
                ));
            }
            Turn::Benched => {
                self.event(format!(
                    "plugin {name}: not asked for 30 s, too many faults; the last: {fault}"
                ));
            }
        }
        self.wake();
    }
}

impl Hooks for Guests {
    fn pick_upstream(
        &mut self,
        slot: &str,
        key: &SessionKey,
        path: &str,
        upstreams: &[Upstream],
    ) -> Option<u32> {
        self.call(slot, |e| e.balancer, |guest| guest.pick_upstream(key, path, upstreams)).flatten()
    }

    fn pick_worker(&mut self, slot: &str, key: &PipeKey, workers: &[WorkerLoad]) -> Option<u16> {
        self.call(slot, |e| e.balancer, |guest| guest.pick_worker(key, workers)).flatten()
    }

    fn authenticate(&mut self, slot: &str, client: &Client<'_>, message: Message<'_>) -> Decision {
        self.call(slot, |e| e.authenticator, |guest| guest.authenticate(client, message))
            .unwrap_or(Decision::Fault)
    }

    fn interested(&mut self, slot: &str, message: Message<'_>) -> bool {
        // Without a plugin the message must come to `on_message`, which says so.
        let Some(seat) = self.seat(slot).and_then(|at| self.seats.get(at)) else { return true };
        if !seat.exports.filter {
            return true;
        }
        match message.outline.status.is_none() {
            true => seat.interest.in_requests(message.method),
            false => seat.interest.in_answers(message.method),
        }
    }

    fn on_message(
        &mut self,
        slot: &str,
        client: &Client<'_>,
        direction: Direction,
        message: Message<'_>,
    ) -> Verdict {
        self.call(slot, |e| e.filter, |guest| guest.on_message(client, direction, message))
            .unwrap_or(Verdict::Fault)
    }
}
