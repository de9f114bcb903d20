//! Who is connected to the control API over TCP: as long as somebody has shown no token, others may
//! need the place more.
//!
//! An address has a few places, this machine as many as there are. When all are taken the oldest
//! connection without a token goes; one with a token goes for nobody.

use crate::{
    limits::{CONTROL_CONNECTIONS_MAX, CONTROL_CONNECTIONS_OF_PEER},
    peer::Peer,
};

/// The connections, oldest first, and what ends each.
#[derive(Debug)]
pub(super) struct Strangers<E> {
    all: Vec<Stranger<E>>,
    last: u64,
}

#[derive(Debug)]
struct Stranger<E> {
    id: u64,
    peer: Peer,
    has_token: bool,
    end: E,
}

impl<E> Default for Strangers<E> {
    fn default() -> Self {
        Self { all: Vec::new(), last: 0 }
    }
}

impl<E> Strangers<E> {
    /// One more, by its number, and the one that has to go for it; none where there is no place.
    pub(super) fn enter(&mut self, peer: Peer, end: E) -> Option<(u64, Option<E>)> {
        let own = self.all.iter().filter(|stranger| stranger.peer == peer).count();
        let goes = if peer != Peer::Machine && own >= CONTROL_CONNECTIONS_OF_PEER {
            Some(self.oldest(|stranger| stranger.peer == peer)?)
        } else if self.all.len() >= CONTROL_CONNECTIONS_MAX {
            Some(self.oldest(|_| true)?)
        } else {
            None
        };
        let goes = goes.map(|at| self.all.remove(at).end);
        self.last += 1;
        self.all.push(Stranger { id: self.last, peer, has_token: false, end });
        Some((self.last, goes))
    }

    /// It has shown the token.
    pub(super) fn has_token(&mut self, id: u64) {
        if let Some(stranger) = self.all.iter_mut().find(|stranger| stranger.id == id) {
            stranger.has_token = true;
        }
    }

    /// It is gone.
    pub(super) fn leave(&mut self, id: u64) {
        self.all.retain(|stranger| stranger.id != id);
    }

    fn oldest(&self, which: impl Fn(&Stranger<E>) -> bool) -> Option<usize> {
        self.all.iter().position(|stranger| !stranger.has_token && which(stranger))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of(core::net::IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn an_address_has_a_few_places_and_its_oldest_goes() {
        let mut all = Strangers::default();
        for name in 0..CONTROL_CONNECTIONS_OF_PEER {
            assert!(matches!(all.enter(peer(1), name), Some((_, None))));
        }
        assert!(matches!(all.enter(peer(2), 98), Some((_, None))), "another has its own");
        assert!(matches!(all.enter(peer(1), 99), Some((_, Some(0)))));
    }

    #[test]
    fn the_oldest_without_a_token_goes_when_all_places_are_taken() {
        let mut all = Strangers::default();
        for name in 0..CONTROL_CONNECTIONS_MAX {
            assert!(matches!(all.enter(Peer::Machine, name), Some((_, None))));
        }
        all.has_token(1);
        assert!(matches!(all.enter(peer(1), 77), Some((_, Some(1)))));
        for id in 2..100 {
            all.has_token(id);
        }
        assert!(all.enter(peer(2), 78).is_none(), "nobody goes who has shown the token");
        all.leave(5);
        assert!(matches!(all.enter(peer(2), 79), Some((_, None))));
    }
}
