//! A turn: how much of what one peer sent is worked off before others have theirs. Alike for both
//! sides.
//!
//! ```text
//!   readable ─> one read ─┐                        ┌─> nothing whole is left: readable again
//!                         ├─> messages and frames ─┼─> the turn is over: another one, behind the others
//!   another turn ─────────┘                        └─> an answer must come first: as soon as it is there
//! ```
//!
//! While whole units wait in a side's inbox nothing is read from it: what a peer sends faster than it
//! has turns waits in the kernel, which tells the peer.

use core::time::Duration;
use std::{
    io::{self, Read},
    net::TcpStream,
};

use log::{debug, warn};

use super::{
    Inner,
    frames::{self, Taken, Ways},
};
use crate::{
    clock::{self, Instant},
    limits::{TURN_BYTES, TURN_FRAMES, TURN_MESSAGES, TURN_MS},
    logger::seldom,
    pipe::{Token, Worker},
    rtsp::framing::{FramingError, Unit},
    session::Side,
};

/// What is left of a turn.
pub(super) struct Budget {
    messages: usize,
    frames: usize,
    bytes: usize,
    until: Instant,
}

impl Budget {
    fn of_a_turn() -> Self {
        Self {
            messages: TURN_MESSAGES,
            frames: TURN_FRAMES,
            bytes: TURN_BYTES,
            until: clock::now() + Duration::from_millis(TURN_MS),
        }
    }

    /// A unit was taken.
    pub(super) fn spend(&mut self, unit: Unit) {
        let one = match unit {
            Unit::Message { .. } => &mut self.messages,
            Unit::Frame { .. } | Unit::Blank { .. } => &mut self.frames,
        };
        *one = one.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(unit.len());
    }

    /// The turn is over.
    pub(super) fn is_spent(&self) -> bool {
        self.messages == 0 || self.frames == 0 || self.bytes == 0
    }
}

impl Inner {
    /// A side is readable. When it is not to be read now, its turn comes in another way.
    pub(super) fn read(&mut self, side: Side, token: Token, worker: &Worker) {
        let discards = side == Side::Client && self.closing.is_some();
        if !discards && (self.waits(side) || !self.session.wants(side)) {
            return;
        }
        let mut scratch = worker.scratch().borrow_mut();
        let Some(mut stream) = self.stream(side) else { return };
        match stream.read(&mut scratch.stream[..]) {
            Ok(0) => {
                drop(scratch);
                self.read_ended(side, token, worker);
            }
            Ok(_) if discards => {}
            Ok(got) => self.work_off(side, &scratch.stream[..got], token, worker),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                debug!("{}: read from {side:?} failed: {error}", self.entry.id);
                drop(scratch);
                self.gone(side, token, worker);
            }
        }
    }

    /// Another turn for each side whose last one was not enough.
    pub(super) fn again(&mut self, token: Token, worker: &Worker) {
        for side in [Side::Client, Side::Origin] {
            if self.wants_turn(side) {
                self.work_off(side, &[], token, worker);
            }
        }
    }

    /// Whether a side has something to be worked off now.
    pub(super) fn wants_turn(&self, side: Side) -> bool {
        let over = side == Side::Client && self.closing.is_some();
        !over && self.waits(side) && self.session.wants(side)
    }

    /// Whether whole units of a side may wait.
    pub(super) fn waits(&self, side: Side) -> bool {
        match side {
            Side::Client => self.inbox.waits(),
            Side::Origin => self.origin.as_ref().is_some_and(|origin| origin.inbox.waits()),
        }
    }

    /// A turn: hands what waits of a side and what was just read to the session, message by message,
    /// since each message may need an answer of ours before the next one is looked at.
    pub(super) fn work_off(&mut self, side: Side, mut fresh: &[u8], token: Token, worker: &Worker) {
        let mut budget = Budget::of_a_turn();
        let mut whole = false;
        loop {
            if side == Side::Client {
                self.take_up_config();
            }
            let taken = match self.take(side, fresh, &mut budget, worker) {
                Ok(taken) => taken,
                Err(error) => return self.framing_lost(side, error, token, worker),
            };
            whole |= taken.message || taken.frames;
            if !taken.message {
                break;
            }
            if side == Side::Client {
                self.place.heard(worker.now());
            }
            self.drain(token, worker);
            fresh = &[];
            if !self.wants_turn(side) || budget.is_spent() || clock::now() >= budget.until {
                break;
            }
        }
        if side == Side::Client {
            self.note_head(whole, worker);
        }
    }

    /// Takes what waits of a side and what was just read, up to the first message.
    fn take(
        &mut self,
        side: Side,
        fresh: &[u8],
        budget: &mut Budget,
        worker: &Worker,
    ) -> Result<Taken, FramingError> {
        let Self { session, tracks, inbox, followed, client, origin, .. } = self;
        let (inbox, followed, peer) = match (side, origin) {
            (Side::Client, origin) => {
                let connected = origin.as_ref().filter(|origin| origin.connecting.is_none());
                (inbox, followed, connected.map(|origin| &origin.stream))
            }
            (Side::Origin, Some(origin)) => {
                let client = client.as_ref().filter(|_| self.client_open);
                (&mut origin.inbox, &mut origin.followed, client)
            }
            (Side::Origin, None) => return Ok(Taken::default()),
        };
        let ways = Ways { session, tracks, peer };
        let taken =
            frames::take(side, (&mut *inbox, fresh), followed, ways, budget, &self.entry, worker);
        let skipped = inbox.take_skipped();
        if skipped > 0 {
            self.note_skipped(skipped);
        }
        taken
    }

    /// Something between the frames of the origin meant nothing.
    fn note_skipped(&self, bytes: u64) {
        self.shared.add("origin_bytes_skipped", bytes);
        let (id, name) = (self.entry.id, self.session.origin_name());
        if let Some(more) = seldom::once_a_minute("origin_bytes_skipped", name) {
            warn!("{id}: origin {name}: {bytes} bytes between frames mean nothing{more}");
        }
    }

    /// When the time for a whole message of the client began: each whole one, or frame, starts that
    /// for the next.
    fn note_head(&mut self, whole: bool, worker: &Worker) {
        self.head_since = match (self.inbox.is_empty(), self.head_since) {
            (true, _) => None,
            (false, None) => Some(worker.now()),
            // Frames are no reason to wait longer for a first request.
            (false, _) if whole && !self.place.is_half_open() => Some(worker.now()),
            (false, since) => since,
        };
    }

    fn framing_lost(&mut self, side: Side, error: FramingError, token: Token, worker: &Worker) {
        let (id, now) = (self.entry.id, worker.now());
        match side {
            Side::Client => {
                debug!("{id}: {error}");
                self.session.framing_lost(error.status(), now);
            }
            Side::Origin => {
                let name = self.session.origin_name();
                if let Some(more) = seldom::once_a_minute("origin_framing_lost", name) {
                    warn!("{id}: origin {name}: {error}{more}");
                }
                self.session.origin_framing_lost(now);
                self.drain(token, worker);
                self.flush_origin(token, worker);
                self.drop_if_closing(token, worker);
            }
        }
    }

    /// A side sends no more. A client that has closed its half of the connection may still read its
    /// answers; an origin has nothing more to hear.
    fn read_ended(&mut self, side: Side, token: Token, worker: &Worker) {
        match side {
            Side::Client => {
                self.client_done = true; // `settle` ends it
                self.session.client_sends_no_more(worker.now());
            }
            Side::Origin => self.gone(side, token, worker),
        }
    }

    fn gone(&mut self, side: Side, token: Token, worker: &Worker) {
        match side {
            Side::Client => self.client_gone(token, worker),
            Side::Origin => self.origin_gone(token, worker),
        }
    }

    /// The connection of a side, if it can be read from.
    fn stream(&self, side: Side) -> Option<&TcpStream> {
        match side {
            Side::Client => self.client.as_ref().filter(|_| self.client_open && !self.client_done),
            // While one is connected to there is nothing to read: it took another's place.
            Side::Origin => {
                let origin = self.origin.as_ref()?;
                origin.connecting.is_none().then_some(&origin.stream)
            }
        }
    }
}
