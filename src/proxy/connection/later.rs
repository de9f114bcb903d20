//! Verdicts that the session waits for: its client is not read meanwhile.
//!
//! A wrong password is answered late, and one that follows too soon is checked late ([`super::login`]).
//!
//! A SETUP or a new origin finds no ports or descriptors: somebody gives way, on whichever worker it
//! lives, and what was asked is tried again until that has happened.

use core::time::Duration;

use super::{Asked, Inner};
use crate::{
    clock::Instant,
    config::Auth,
    limits::GIVE_WAY_MS,
    pipe::{Token, Worker},
    session::{Fault, Input},
};

/// Between two looks at whether there is room now.
const LOOK: Duration = Duration::from_millis(10);

/// What is done later.
pub(super) struct Later {
    pub(super) at: Instant,
    pub(super) what: Task,
}

/// What a session asked for, or is answered.
pub(super) enum Task {
    /// Track, whether toward the client, toward the origin, and whether it begins a session.
    Bind((u8, bool, bool, bool)),
    Connect(Asked),
    /// Too soon after a wrong password of the client's address.
    Check(Auth),
    /// To a wrong password.
    Answer(Input),
}

impl Inner {
    /// Whether what was asked for may still come: somebody gives way to it, or is about to.
    pub(super) fn wait_for_room(&mut self, what: Task, fault: Fault, now: Instant) -> bool {
        let waits = self.waited.filter(|until| now < *until);
        let begins = self.waited.is_none() && self.shared.make_room(self.place.id, fault);
        let until = match (waits, begins) {
            (Some(until), _) => until,
            (None, true) => now + Duration::from_millis(GIVE_WAY_MS),
            (None, false) => {
                self.waited = None;
                return false;
            }
        };
        self.waited = Some(until);
        self.later = Some(Later { at: now + LOOK, what });
        true
    }

    /// Does what was put off, when its time has come.
    pub(super) fn do_later(&mut self, token: Token, worker: &Worker) {
        let now = worker.now();
        if self.later.as_ref().is_none_or(|later| now < later.at) {
            return;
        }
        let Some(Later { what, .. }) = self.later.take() else { return };
        match what {
            Task::Bind(asked) => self.bind(asked, now),
            Task::Connect(asked) => self.connect(asked, token, worker),
            Task::Check(scheme) => self.log_in(scheme, true, worker),
            Task::Answer(verdict) => self.answer_late(verdict, worker),
        }
        if self.later.is_none() {
            self.waited = None;
        }
    }
}
