//! What a connection holds of the gateway, each given back when dropped: its place in the table of
//! [`super::peers`], a session, tracks, a socket toward an origin; and how others are sent away for it.

use core::{net::IpAddr, sync::atomic::Ordering::Relaxed};
use std::sync::Arc;

use super::{
    connection,
    peers::{Activity, Admitted, Bounds, Victim},
    shared::{Shared, lock},
};
use crate::{
    clock::{self, Instant},
    limits::REQUESTS_KEPT_STEP_BYTES,
    peer::Peer,
    session::Fault,
};

/// A connection's place in the table of peers, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    /// The connection's number in this run.
    pub(super) id: u64,
    activity: Arc<Activity>,
    half_open: bool,
    kept_bytes: usize,
}

impl Place {
    /// A whole message came.
    pub(super) fn heard(&mut self, now: Instant) {
        self.activity.touch(now);
        if core::mem::take(&mut self.half_open) {
            lock(&self.shared.peers).opened(self.id);
        }
    }

    /// Whether it has sent no whole request yet.
    pub(super) fn is_half_open(&self) -> bool {
        self.half_open
    }

    /// Media flows.
    pub(super) fn plays(&self) {
        self.activity.plays();
    }

    /// It keeps so many bytes of requests now; who has to go for it.
    pub(super) fn keeps(&mut self, bytes: usize) -> Option<Victim> {
        if bytes.abs_diff(self.kept_bytes) < REQUESTS_KEPT_STEP_BYTES {
            return None;
        }
        self.kept_bytes = bytes;
        lock(&self.shared.peers).keeps(self.id, bytes)
    }

    /// A place for a session, within the bounds on sessions.
    pub(super) fn admit(&self) -> Result<Admission, Fault> {
        let Self { shared, id, .. } = self;
        if shared.draining.load(Relaxed) {
            return Err(Fault::Shutdown);
        }
        let bounds = shared.bounds();
        lock(&shared.peers).begin_session(*id, bounds, clock::now())?;
        shared.count("sessions_opened");
        Ok(Admission { shared: Arc::clone(shared), id: *id })
    }

    /// A place for one more track.
    pub(super) fn begin_track(&self) -> Result<TrackPlace, Fault> {
        let Self { shared, id, .. } = self;
        let bounds = shared.bounds();
        lock(&shared.peers).begin_track(*id, bounds)?;
        Ok(TrackPlace { shared: Arc::clone(shared), id: *id })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.shared.peers).gone(self.id);
    }
}

/// A place among the sessions, given back when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Admission {
    fn drop(&mut self) {
        lock(&self.shared.peers).end_session(self.id);
    }
}

/// A place among the tracks of an address, given back when dropped.
#[derive(Debug)]
pub(super) struct TrackPlace {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for TrackPlace {
    fn drop(&mut self) {
        lock(&self.shared.peers).end_track(self.id);
    }
}

/// A connection to an origin, counted while this lives.
#[derive(Debug)]
pub(super) struct OriginSocket(Arc<Shared>);

impl OriginSocket {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.descriptors.origin_opened();
        Self(Arc::clone(shared))
    }
}

impl Drop for OriginSocket {
    fn drop(&mut self) {
        self.0.descriptors.origin_closed();
    }
}

impl Shared {
    /// What there is of everything: as configured, within the descriptors.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds::of(&self.generation().config.limits, self.descriptors.for_players())
    }

    /// Whether so many more descriptors would be among those kept for control.
    pub(super) fn is_short_of_descriptors(&self, wanted: usize) -> bool {
        self.descriptors.used(self.player_sockets()) + wanted > self.descriptors.for_players()
    }

    fn player_sockets(&self) -> usize {
        self.connections.load(Relaxed) as usize + 2 * self.ports.in_use()
    }

    /// Counts the descriptors that are open without players.
    pub(super) fn count_own_descriptors(&self) {
        self.descriptors.count_own(self.player_sockets());
    }

    /// A place for a connection of this client on this worker; others may have to give way to it.
    pub(super) fn let_in(self: &Arc<Self>, ip: IpAddr, worker: u16) -> Result<Place, Fault> {
        let (bounds, short) = (self.bounds(), self.is_short_of_descriptors(1));
        let admitted =
            lock(&self.peers).admit(Peer::of(ip), worker, bounds, short, clock::now())?;
        for victim in admitted.go {
            self.count("connections_gave_way");
            self.send_away(victim, Fault::GaveWay);
        }
        let Admitted { id, activity, .. } = admitted;
        let shared = Arc::clone(self);
        Ok(Place { shared, id, activity, half_open: true, kept_bytes: 0 })
    }

    /// Somebody gives way to this connection, which found no ports or no descriptors; false where
    /// nobody can.
    pub(super) fn make_room(&self, asking: u64, short_of: Fault) -> bool {
        let mut peers = lock(&self.peers);
        let victim = match short_of {
            Fault::NoDescriptors => peers.idle_or_never_played(asking),
            _ => peers.never_played(asking),
        };
        drop(peers);
        if let Some(victim) = victim {
            self.count("sessions_gave_way");
            self.send_away(victim, Fault::GaveWay);
        }
        victim.is_some()
    }

    /// Ends a connection for others; its origin still gets its TEARDOWN.
    pub(super) fn send_away(&self, victim: Victim, fault: Fault) {
        let handle = self.pool.handles().iter().find(|handle| handle.id() == victim.worker);
        if let Some(handle) = handle {
            handle.run_surely(Box::new(move |worker| {
                connection::send_away(victim.id, fault, worker)
            }));
        }
    }
}
