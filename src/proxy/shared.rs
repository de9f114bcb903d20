//! What all threads of the gateway share: the configuration in force, who is connected, counters.
//!
//! Locks here are taken when something is set up, ended or asked for, never for a packet: media is
//! counted in atomics that a session owns.

use core::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use log::warn;

use super::{
    askers::Askers, files::Descriptors, guesses::Guesses, lobby::Lobby, peers::Peers,
    plugins::Plugins,
};
use crate::{
    auth::{digest, server::Verifier},
    clock::{self, Instant},
    config::{self, Config, secrets::Secrets},
    control::model::{Drops, OriginStatus, SessionStatus, TroubleStatus},
    origin::{Origin, Table},
    pipe::{PipeCounters, Pool, PortPool},
    plugin::hooks::MakeHooks,
    scope::Aliases,
};

/// Events that `status` shows.
const EVENTS_MAX: usize = 16;

/// One configuration and what was made of it.
#[derive(Debug)]
pub(super) struct Generation {
    /// Counts up with each change.
    pub(super) number: u64,
    /// Sequence number on flash; 0 when it came from a file.
    pub(super) sequence: u64,
    /// As it was read.
    pub(super) config: Box<Config>,
    /// Its origins and routes.
    pub(super) table: Arc<Table>,
    /// Checks clients, where a route asks for it.
    pub(super) verifier: Arc<Verifier>,
    /// Users and credentials.
    pub(super) secrets: Arc<Secrets>,
    /// What Via calls this gateway; made once, since each connection is told.
    pub(super) pseudonym: String,
}

/// The gateway's common state.
#[derive(Debug)]
pub(super) struct Shared {
    generation: Mutex<Arc<Generation>>,
    number: AtomicU64,
    /// Worker threads.
    pub(super) pool: Pool,
    /// UDP ports for media.
    pub(super) ports: Arc<PortPool>,
    sessions: Mutex<BTreeMap<u64, Arc<Entry>>>,
    /// What each address takes.
    pub(super) peers: Mutex<Peers>,
    /// Wrong passwords of each address.
    pub(super) guesses: Mutex<Guesses>,
    /// How many descriptors there are.
    pub(super) descriptors: Descriptors,
    /// Connections of clients.
    pub(super) connections: AtomicU32,
    counters: Mutex<BTreeMap<&'static str, u64>>,
    events: Mutex<VecDeque<String>>,
    /// What the log was warned of.
    warned: Mutex<Vec<String>>,
    /// Sessions that wait for their client.
    lobby: Mutex<Lobby>,
    /// No new sessions are taken.
    pub(super) draining: AtomicBool,
    /// Seed of this run, for choices that should not repeat from run to run.
    pub(super) seed: u64,
    /// Key of this run's nonces, session ids and pseudonym.
    pub(super) nonce_key: [u8; 32],
    /// Common to all workers: what one gives out the others understand.
    pub(super) aliases: Aliases,
    /// Connections that only ask, by client and origin.
    pub(super) askers: Arc<Askers>,
    /// Who is asked where the configuration names a slot.
    pub(super) plugins: Plugins,
}

/// One connection, as `sessions` shows it.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its number in this run.
    pub(super) id: u64,
    /// The client.
    pub(super) client: SocketAddr,
    /// The worker that drives it.
    pub(super) worker: u16,
    /// When it was accepted.
    pub(super) since: Instant,
    /// What changes with messages only.
    pub(super) facts: Mutex<Facts>,
    /// Interleaved frames relayed, both ways.
    pub(super) frames: AtomicU64,
    /// Bytes in them.
    pub(super) frame_bytes: AtomicU64,
    /// Frames that an interleaved peer was too slow for.
    pub(super) full: AtomicU64,
    /// Frames on channels that were not set up.
    pub(super) strangers: AtomicU64,
    /// When frames last came from the origin, in milliseconds; 0: never.
    pub(super) frames_from_origin_ms: AtomicU64,
    /// Smoothed kbit/s, by the control thread.
    pub(super) kbit: AtomicU32,
    /// Bytes at the last look of the control thread.
    pub(super) seen_bytes: AtomicU64,
}

/// What changes with messages only.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// State, transports, path and the like.
    pub(super) status: SessionStatus,
    /// The last origin that it had.
    pub(super) served_by: String,
    /// Its UDP pipes' counters.
    pipes: Vec<Arc<PipeCounters>>,
    /// Sums over pipes that have ended.
    past: Totals,
}

impl Facts {
    /// Counts a pipe from now on. Those that have ended are summed up: a connection may set up and
    /// tear down for as long as it likes.
    pub(super) fn add_pipe(&mut self, counters: Arc<PipeCounters>) {
        for ended in self.pipes.extract_if(.., |pipe| Arc::strong_count(pipe) == 1) {
            self.past += Totals::of(&ended);
        }
        self.pipes.push(counters);
    }
}

impl Entry {
    /// Packets and bytes relayed, packets lost before us, packets that we did not relay.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals {
            packets: self.frames.load(Relaxed),
            bytes: self.frame_bytes.load(Relaxed),
            lost: 0,
            drops: Drops {
                full: self.full.load(Relaxed),
                stranger: self.strangers.load(Relaxed),
                ..Drops::default()
            },
        };
        let facts = lock(&self.facts);
        totals += facts.past;
        for pipe in &facts.pipes {
            totals += Totals::of(pipe);
        }
        totals
    }

    /// When media last came from the origin, in milliseconds; 0: never.
    pub(super) fn media_from_origin_ms(&self) -> u64 {
        let facts = lock(&self.facts);
        let pipes = facts.pipes.iter().map(|pipe| pipe.media_from_origin_ms.load(Relaxed));
        pipes.max().unwrap_or(0).max(self.frames_from_origin_ms.load(Relaxed))
    }

    /// As the control API shows it.
    pub(super) fn status(&self, now: Instant) -> SessionStatus {
        let totals = self.totals();
        SessionStatus {
            id: self.id,
            client: self.client.to_string(),
            age_s: now.since(self.since).as_secs(),
            kbit: self.kbit.load(Relaxed),
            packets: totals.packets,
            bytes: totals.bytes,
            lost: totals.lost,
            dropped: totals.drops.lost(),
            drops: totals.drops,
            worker: self.worker,
            ..lock(&self.facts).status.clone()
        }
    }
}

/// Sums over a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals {
    /// Packets relayed.
    pub(super) packets: u64,
    /// Bytes relayed.
    pub(super) bytes: u64,
    /// Packets missing before the gateway.
    pub(super) lost: u64,
    /// Packets not relayed by the gateway.
    pub(super) drops: Drops,
}

impl Totals {
    fn of(pipe: &PipeCounters) -> Self {
        let pipe = pipe.figures();
        Self {
            packets: pipe.down_packets + pipe.up_packets + pipe.rtcp_down + pipe.rtcp_up,
            bytes: pipe.down_bytes + pipe.up_bytes,
            lost: pipe.lost + pipe.lost_up,
            drops: Drops {
                stranger: pipe.dropped_unknown_source,
                no_peer: pipe.dropped_no_peer,
                oversized: pipe.dropped_oversized,
                absorbed: pipe.absorbed,
                full: 0,
                kernel: pipe.dropped_send_full
                    + pipe.dropped_send_failed
                    + pipe.dropped_receive_full,
            },
        }
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sums = [
            ("packets_relayed", self.packets),
            ("bytes_relayed", self.bytes),
            ("packets_lost_upstream", self.lost),
            ("packets_dropped", self.drops.lost()),
        ];
        sums.into_iter().chain(self.drops.named())
    }
}

impl core::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.lost += other.lost;
        self.drops += other.drops;
    }
}

impl Shared {
    /// A gateway that has no connection yet.
    pub(super) fn new(
        generation: Generation,
        pool: Pool,
        ports: Arc<PortPool>,
        seed: u64,
        nonce_key: [u8; 32],
        hooks: Option<Box<MakeHooks>>,
    ) -> Self {
        Self {
            plugins: Plugins::new(hooks, seed),
            askers: Arc::default(),
            nonce_key,
            aliases: digest::sha256(&[&nonce_key, b"aliases"]).into(),
            number: AtomicU64::new(generation.number),
            generation: Mutex::new(Arc::new(generation)),
            pool,
            ports,
            sessions: Mutex::default(),
            peers: Mutex::default(),
            guesses: Mutex::default(),
            descriptors: Descriptors::default(),
            connections: AtomicU32::new(0),
            counters: Mutex::default(),
            events: Mutex::default(),
            warned: Mutex::default(),
            lobby: Mutex::default(),
            draining: AtomicBool::new(false),
            seed,
        }
    }

    /// The configuration in force.
    pub(super) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&lock(&self.generation))
    }

    /// Its number, without a lock.
    pub(super) fn generation_number(&self) -> u64 {
        self.number.load(Relaxed)
    }

    /// Puts another configuration in force; connections take it up at their next message.
    pub(super) fn replace(&self, generation: Generation) {
        self.pool.set_coalesce_us(generation.config.gateway.coalesce_us);
        let number = generation.number;
        for origin in generation.table.origins() {
            origin.forget_troubles();
        }
        *lock(&self.generation) = Arc::new(generation);
        self.number.store(number, Relaxed);
    }

    /// Takes in a connection.
    pub(super) fn enter(&self, id: u64, client: SocketAddr, worker: u16) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            id,
            client,
            worker,
            since: clock::now(),
            facts: Mutex::default(),
            frames: AtomicU64::new(0),
            frame_bytes: AtomicU64::new(0),
            full: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
            frames_from_origin_ms: AtomicU64::new(0),
            kbit: AtomicU32::new(0),
            seen_bytes: AtomicU64::new(0),
        });
        lock(&self.sessions).insert(id, Arc::clone(&entry));
        self.connections.fetch_add(1, Relaxed);
        entry
    }

    /// Lets a connection go; its totals stay in the counters.
    pub(super) fn leave(&self, entry: &Entry) {
        let mut sessions = lock(&self.sessions);
        if sessions.remove(&entry.id).is_some() {
            lock(&self.lobby).leave(entry.id);
            self.connections.fetch_sub(1, Relaxed);
            for (name, value) in entry.totals().named() {
                self.add(name, value);
            }
        }
    }

    /// All connections.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// One connection.
    pub(super) fn entry(&self, id: u64) -> Option<Arc<Entry>> {
        lock(&self.sessions).get(&id).cloned()
    }

    /// Keeps a session to be found by its client.
    pub(super) fn detach(&self, session: Vec<u8>, client: IpAddr, connection: u64) {
        lock(&self.lobby).enter(session, client, connection);
    }

    /// The connection that drives this session of this client; it is not found again.
    pub(super) fn find(&self, session: &[u8], client: IpAddr) -> Option<Arc<Entry>> {
        let connection = lock(&self.lobby).find(session, client)?;
        self.entry(connection)
    }

    /// Sessions now.
    pub(super) fn admitted(&self) -> u32 {
        u32::try_from(lock(&self.peers).sessions()).unwrap_or(u32::MAX)
    }

    /// Counts one.
    pub(super) fn count(&self, name: &'static str) {
        self.add(name, 1);
    }

    /// Adds to a counter.
    pub(super) fn add(&self, name: &'static str, by: u64) {
        if by > 0 {
            *lock(&self.counters).entry(name).or_default() += by;
        }
    }

    /// All counters, what runs now included: none ever goes back.
    pub(super) fn counters(&self) -> Vec<(String, u64)> {
        let mut running = Totals::default();
        let sessions = lock(&self.sessions);
        for entry in sessions.values() {
            running += entry.totals();
        }
        let mut counters = lock(&self.counters).clone();
        drop(sessions);
        for (name, value) in running.named() {
            *counters.entry(name).or_default() += value;
        }
        counters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// What the configuration in force needs and is not there. It is good all the same: secrets are
    /// set apart from it, before or after.
    pub(super) fn warnings(&self) -> Vec<String> {
        let generation = self.generation();
        config::warnings(&generation.config, Some(&generation.secrets))
    }

    /// The user that the gateway signs as at an origin.
    pub(super) fn user_at(&self, origin: &Origin) -> Option<String> {
        let generation = self.generation();
        let stored = generation.secrets.credential(origin.credentials()?)?;
        Some(stored.user.as_str().to_owned())
    }

    /// An origin as the control API shows it, with what is wrong with it although it answers.
    pub(super) fn origin_status(&self, origin: &Origin, now: Instant) -> OriginStatus {
        let user = self.user_at(origin);
        let troubles = origin.troubles().map(|(trouble, since)| TroubleStatus {
            cause: trouble.cause().to_owned(),
            text: trouble.text(user.as_deref()),
            since_s: now.since(since).as_secs(),
            remedy: trouble.remedy().to_owned(),
        });
        OriginStatus { troubles: troubles.collect(), ..origin.status(now) }
    }

    /// Puts into the log what there is to warn of now and was not before.
    pub(super) fn check_credentials(&self) {
        let now = self.warnings();
        let mut warned = lock(&self.warned);
        for warning in now.iter().filter(|warning| !warned.contains(warning)) {
            warn!("{warning}");
        }
        *warned = now;
    }

    /// Notes something that an operator should know.
    pub(super) fn event(&self, text: String) {
        let mut events = lock(&self.events);
        if events.len() == EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(text);
    }

    /// What an operator should know, newest last.
    pub(super) fn events(&self) -> Vec<String> {
        lock(&self.events).iter().cloned().collect()
    }
}

/// A panic while a lock was held leaves counters behind at worst, so poison is no reason to stop.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_that_have_ended_are_summed_up_and_not_kept() {
        let mut facts = Facts::default();
        for _ in 0..1000 {
            let pipe = Arc::new(PipeCounters::default());
            pipe.down_packets.store(3, Relaxed);
            facts.add_pipe(Arc::clone(&pipe));
        }
        assert_eq!(facts.pipes.len(), 1, "the last one has not been looked at again");
        assert_eq!(facts.past.packets, 3 * 999);
    }

    #[test]
    fn what_is_not_relayed_is_summed_by_reason_and_holes_are_no_loss() {
        let pipe = PipeCounters::default();
        for (counter, count) in [
            (&pipe.dropped_unknown_source, 1),
            (&pipe.dropped_no_peer, 2),
            (&pipe.dropped_oversized, 4),
            (&pipe.absorbed, 8),
            (&pipe.dropped_send_full, 16),
            (&pipe.dropped_send_failed, 32),
            (&pipe.dropped_receive_full, 64),
        ] {
            counter.store(count, Relaxed);
        }
        let mut totals = Totals::of(&pipe);
        totals += Totals { drops: Drops { full: 128, ..Drops::default() }, ..Totals::default() };
        let named: BTreeMap<_, _> = totals.named().collect();
        for (name, count) in [
            ("dropped_stranger", 1),
            ("dropped_no_peer", 2),
            ("dropped_oversized", 4),
            ("dropped_absorbed", 8),
            ("dropped_kernel", 16 + 32 + 64),
            ("dropped_full", 128),
            ("packets_dropped", 255 - 8),
        ] {
            assert_eq!(named[name], count, "{name}");
        }
    }
}
