//! How many connections of one client only ask at one origin.
//!
//! OPTIONS and DESCRIBE reach the origin, so that what it says of itself stays true, but they are no
//! session: a client that holds a thousand such connections would have all that a camera can take.
//! Past a small bound its next one waits until one of the others has its session, or closes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::shared::lock;
use crate::limits::ASKING_PER_CLIENT_MAX;

/// The counts, by client and origin; as many entries as there are connections that ask, at most.
#[derive(Debug, Default)]
pub(super) struct Askers {
    counts: Mutex<HashMap<(u64, u64), u16>>,
}

/// One connection that asks, counted while this lives.
#[derive(Debug)]
pub(super) struct Asker {
    askers: Arc<Askers>,
    key: (u64, u64),
}

impl Askers {
    /// One more connection of this client to this origin; none at the bound.
    pub(super) fn enter(self: &Arc<Self>, client: u64, origin: u64) -> Option<Asker> {
        self.add(client, origin, ASKING_PER_CLIENT_MAX)
    }

    /// The same for a connection that is there already: its session is over.
    pub(super) fn stay(self: &Arc<Self>, client: u64, origin: u64) -> Option<Asker> {
        self.add(client, origin, u16::MAX)
    }

    fn add(self: &Arc<Self>, client: u64, origin: u64, bound: u16) -> Option<Asker> {
        let mut counts = lock(&self.counts);
        let count = counts.entry((client, origin)).or_default();
        if *count >= bound {
            return None;
        }
        *count += 1;
        Some(Asker { askers: Arc::clone(self), key: (client, origin) })
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        let mut counts = lock(&self.askers.counts);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_asks_by_a_few_connections_an_origin_and_others_are_not_kept_from_it() {
        let askers = Arc::new(Askers::default());
        let mut held: Vec<_> = (0..ASKING_PER_CLIENT_MAX).map(|_| askers.enter(1, 1)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(askers.enter(1, 1).is_none());
        assert!(askers.enter(2, 1).is_some() && askers.enter(1, 2).is_some());
        let after_its_session = askers.stay(1, 1);
        assert!(after_its_session.is_some());
        held.pop();
        assert!(askers.enter(1, 1).is_none(), "there is one more than may come in");
        drop(after_its_session);
        assert!(askers.enter(1, 1).is_some());
        drop(held);
        assert!(lock(&askers.counts).is_empty());
    }
}
