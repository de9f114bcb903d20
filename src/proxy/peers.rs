//! What each peer takes of the gateway, and who goes when there is no more for all.
//!
//! Peers are told apart by address: IPv4 whole, IPv6 by its /64, which one host may have all of. The
//! machine itself (127.0.0.1, ::1) is apart: it has no bound on connections of its own, and is the
//! last whose connections go.
//!
//! **Who goes.** When a bound on connections is reached, the oldest idle connection of the greediest
//! address: the one with the most connections that hold no session. When ports or descriptors are
//! short, sessions that never played: the oldest of the address with the most tracks of such. A
//! connection with a session that has played goes for nobody.
//!
//! Not in here: sockets, and how a connection that has to go is closed. Passwords are in
//! [`super::guesses`].

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::{collections::HashMap, sync::Arc};

use crate::{
    clock::Instant,
    config::Limits,
    limits::{
        DESCRIPTORS_A_CONNECTION, DESCRIPTORS_A_TRACK, REQUESTS_KEPT_OF_ALL_BYTES,
        REQUESTS_KEPT_OF_PEER_BYTES,
    },
    peer::Peer,
    session::Fault,
};

/// How much there is, for all and for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) connections: usize,
    pub(super) half_open: usize,
    pub(super) connections_per_peer: usize,
    pub(super) sessions: usize,
    pub(super) sessions_per_peer: usize,
    pub(super) tracks_per_peer: usize,
}

impl Bounds {
    /// As configured, within the descriptors that players may have together: of those one address
    /// gets no more than half.
    pub(super) fn of(limits: &Limits, descriptors: usize) -> Self {
        let within = |wanted: u16, cost: usize| {
            let most = descriptors / 2 / cost;
            usize::from(wanted).min(most.max(1))
        };
        let connections = 2 * usize::from(limits.sessions) + usize::from(limits.half_open);
        Self {
            connections: connections.min(descriptors),
            half_open: limits.half_open.into(),
            connections_per_peer: within(limits.connections_per_client, DESCRIPTORS_A_CONNECTION),
            sessions: limits.sessions.into(),
            sessions_per_peer: limits.sessions_per_client.into(),
            tracks_per_peer: within(limits.tracks_per_client, DESCRIPTORS_A_TRACK),
        }
    }
}

/// What a connection does, told without the table.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// When its last whole message came.
    last_ms: AtomicU64,
    played: AtomicBool,
}

impl Activity {
    pub(super) fn touch(&self, now: Instant) {
        self.last_ms.store(now.as_millis(), Relaxed);
    }

    /// Media flows, or has flown.
    pub(super) fn plays(&self) {
        self.played.store(true, Relaxed);
    }
}

/// A connection that has to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Victim {
    pub(super) id: u64,
    /// The worker that has it.
    pub(super) worker: u16,
}

/// A connection that may come in.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) id: u64,
    pub(super) activity: Arc<Activity>,
    /// Those that have to go for it.
    pub(super) go: Vec<Victim>,
}

#[derive(Debug)]
struct Connection {
    peer: Peer,
    worker: u16,
    activity: Arc<Activity>,
    half_open: bool,
    session: Option<Instant>,
    tracks: usize,
    kept_bytes: usize,
    /// It was told to go.
    leaves: bool,
}

/// What one peer has.
#[derive(Debug, Default)]
struct Takes {
    connections: usize,
    half_open: usize,
    sessions: usize,
    tracks: usize,
    kept_bytes: usize,
}

/// All connections of clients, by number, and their sums by peer.
#[derive(Debug, Default)]
pub(super) struct Peers {
    connections: HashMap<u64, Connection>,
    takes: HashMap<Peer, Takes>,
    half_open: usize,
    sessions: usize,
    kept_bytes: usize,
    last_id: u64,
}

impl Peers {
    /// A connection of this peer wants in. `short`: no descriptors are left for it.
    pub(super) fn admit(
        &mut self,
        peer: Peer,
        worker: u16,
        bounds: Bounds,
        short: bool,
        now: Instant,
    ) -> Result<Admitted, Fault> {
        let mut go = Vec::new();
        let own = self.takes.get(&peer).map_or(0, |takes| takes.connections);
        if peer != Peer::Machine && own >= bounds.connections_per_peer {
            let victim =
                self.oldest(|_, connection| connection.peer == peer && connection.is_idle());
            go.push(self.let_go(victim).ok_or(Fault::ClientConnections)?);
        }
        if self.half_open >= bounds.half_open {
            let greediest = self.greediest(|takes| takes.half_open);
            let victim = self.oldest(|_, it| greediest == Some(it.peer) && it.half_open);
            go.push(self.let_go(victim).ok_or(Fault::HalfOpen)?);
        }
        if (short || self.connections.len() >= bounds.connections) && go.is_empty() {
            let victim = self.oldest_idle(None);
            match self.let_go(victim) {
                Some(victim) => go.push(victim),
                None if !short => return Err(Fault::ConnectionLimit),
                None => go.push(self.never_played(0).ok_or(Fault::NoDescriptors)?),
            }
        }
        self.last_id += 1;
        let (id, activity) = (self.last_id, Arc::new(Activity::default()));
        activity.touch(now);
        self.connections.insert(
            id,
            Connection {
                peer,
                worker,
                activity: Arc::clone(&activity),
                half_open: true,
                session: None,
                tracks: 0,
                kept_bytes: 0,
                leaves: false,
            },
        );
        let takes = self.takes.entry(peer).or_default();
        takes.connections += 1;
        takes.half_open += 1;
        self.half_open += 1;
        Ok(Admitted { id, activity, go })
    }

    /// It has sent one whole request.
    pub(super) fn opened(&mut self, id: u64) {
        let Some((connection, takes)) = of(&mut self.connections, &mut self.takes, id) else {
            return;
        };
        if core::mem::take(&mut connection.half_open) {
            takes.half_open -= 1;
            self.half_open -= 1;
        }
    }

    /// It begins a session.
    pub(super) fn begin_session(
        &mut self,
        id: u64,
        bounds: Bounds,
        now: Instant,
    ) -> Result<(), Fault> {
        let Some((connection, takes)) = of(&mut self.connections, &mut self.takes, id) else {
            return Err(Fault::GaveWay);
        };
        if takes.sessions >= bounds.sessions_per_peer {
            return Err(Fault::ClientSessions);
        }
        if self.sessions >= bounds.sessions {
            return Err(Fault::SessionLimit);
        }
        connection.session = Some(now);
        connection.activity.played.store(false, Relaxed);
        takes.sessions += 1;
        self.sessions += 1;
        Ok(())
    }

    /// Its session is over.
    pub(super) fn end_session(&mut self, id: u64) {
        let Some((connection, takes)) = of(&mut self.connections, &mut self.takes, id) else {
            return;
        };
        if connection.session.take().is_some() {
            takes.sessions -= 1;
            self.sessions -= 1;
        }
    }

    /// It sets up one more track.
    pub(super) fn begin_track(&mut self, id: u64, bounds: Bounds) -> Result<(), Fault> {
        let Some((connection, takes)) = of(&mut self.connections, &mut self.takes, id) else {
            return Err(Fault::GaveWay);
        };
        if takes.tracks >= bounds.tracks_per_peer {
            return Err(Fault::ClientTracks);
        }
        connection.tracks += 1;
        takes.tracks += 1;
        Ok(())
    }

    /// A track of it is over.
    pub(super) fn end_track(&mut self, id: u64) {
        let Some((connection, takes)) = of(&mut self.connections, &mut self.takes, id) else {
            return;
        };
        if connection.tracks > 0 {
            connection.tracks -= 1;
            takes.tracks -= 1;
        }
    }

    /// It keeps so many bytes of requests now. Who has to go when that is too much.
    pub(super) fn keeps(&mut self, id: u64, bytes: usize) -> Option<Victim> {
        let (connection, takes) = of(&mut self.connections, &mut self.takes, id)?;
        let before = core::mem::replace(&mut connection.kept_bytes, bytes);
        takes.kept_bytes = takes.kept_bytes - before + bytes;
        self.kept_bytes = self.kept_bytes - before + bytes;
        let peer = if takes.kept_bytes > REQUESTS_KEPT_OF_PEER_BYTES {
            connection.peer
        } else if self.kept_bytes > REQUESTS_KEPT_OF_ALL_BYTES {
            self.greediest(|takes| takes.kept_bytes)?
        } else {
            return None;
        };
        let kept = |connection: &Connection| connection.kept_bytes;
        let theirs = self.connections.iter().filter(|(_, it)| it.peer == peer && !it.leaves);
        let largest = theirs.max_by_key(|(id, it)| (kept(it), **id)).map(|(id, _)| *id)?;
        self.tell_to_go(largest)
    }

    /// The connection that goes first for this one, which found no descriptors.
    pub(super) fn idle_or_never_played(&mut self, asking: u64) -> Option<Victim> {
        let idle = self.oldest_idle(Some(asking));
        self.let_go(idle).or_else(|| self.never_played(asking))
    }

    /// The session that goes first for this connection, which found no ports.
    pub(super) fn never_played(&mut self, asking: u64) -> Option<Victim> {
        let mut tracks: HashMap<Peer, usize> = HashMap::new();
        for (id, connection) in &self.connections {
            if *id != asking && connection.has_not_played() {
                *tracks.entry(connection.peer).or_default() += 1 + connection.tracks;
            }
        }
        let greediest = tracks.iter().max_by_key(|(peer, tracks)| {
            (**peer != Peer::Machine, **tracks) // the machine itself last
        });
        let greediest = *greediest?.0;
        let theirs = self.connections.iter();
        let theirs =
            theirs.filter(|(id, it)| **id != asking && it.peer == greediest && it.has_not_played());
        let oldest = theirs.min_by_key(|(id, it)| (it.session, **id)).map(|(id, _)| *id)?;
        self.tell_to_go(oldest)
    }

    /// The connection is closed.
    pub(super) fn gone(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        let Some(takes) = self.takes.get_mut(&connection.peer) else { return };
        takes.connections -= 1;
        takes.half_open -= usize::from(connection.half_open);
        takes.sessions -= usize::from(connection.session.is_some());
        takes.tracks -= connection.tracks;
        takes.kept_bytes -= connection.kept_bytes;
        if takes.connections == 0 {
            self.takes.remove(&connection.peer);
        }
        self.half_open -= usize::from(connection.half_open);
        self.sessions -= usize::from(connection.session.is_some());
        self.kept_bytes -= connection.kept_bytes;
    }

    /// Sessions now.
    pub(super) fn sessions(&self) -> usize {
        self.sessions
    }

    /// The peer that takes the most of something; the machine itself only where nobody else takes any.
    fn greediest(&self, takes: impl Fn(&Takes) -> usize) -> Option<Peer> {
        let all = self.takes.iter().map(|(peer, its)| (takes(its), *peer));
        let some = all.filter(|(count, _)| *count > 0);
        some.max_by_key(|(count, peer)| (*peer != Peer::Machine, *count)).map(|(_, peer)| peer)
    }

    /// Of the address with the most connections that hold no session.
    fn oldest_idle(&self, except: Option<u64>) -> Option<u64> {
        let greediest = self.greediest(|takes| takes.connections - takes.sessions)?;
        let idle = |id: &u64, it: &Connection| Some(*id) != except && it.is_idle();
        self.oldest(|id, it| it.peer == greediest && idle(id, it))
    }

    fn oldest(&self, which: impl Fn(&u64, &Connection) -> bool) -> Option<u64> {
        let some = self.connections.iter().filter(|(id, connection)| which(id, connection));
        let last = |connection: &Connection| connection.activity.last_ms.load(Relaxed);
        some.min_by_key(|(id, connection)| (last(connection), **id)).map(|(id, _)| *id)
    }

    /// What it takes is free from now on: closing it takes a moment only.
    fn let_go(&mut self, id: Option<u64>) -> Option<Victim> {
        let id = id?;
        let worker = self.connections.get(&id)?.worker;
        self.gone(id);
        Some(Victim { id, worker })
    }

    /// What it takes is free when it is closed.
    fn tell_to_go(&mut self, id: u64) -> Option<Victim> {
        let connection = self.connections.get_mut(&id)?;
        connection.leaves = true;
        Some(Victim { id, worker: connection.worker })
    }
}

impl Connection {
    fn is_idle(&self) -> bool {
        self.session.is_none()
    }

    fn has_not_played(&self) -> bool {
        self.session.is_some() && !self.activity.played.load(Relaxed) && !self.leaves
    }
}

/// A connection and the sums that it is part of.
fn of<'a>(
    connections: &'a mut HashMap<u64, Connection>,
    takes: &'a mut HashMap<Peer, Takes>,
    id: u64,
) -> Option<(&'a mut Connection, &'a mut Takes)> {
    let connection = connections.get_mut(&id)?;
    let takes = takes.get_mut(&connection.peer)?;
    Some((connection, takes))
}

#[cfg(test)]
mod tests;
