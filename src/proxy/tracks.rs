//! The sockets of a session's tracks: ports that are bound and wait, pipes that run on their own,
//! and UDP legs that this connection drives because their other side is interleaved.

use core::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};
use std::{io, sync::Arc};

use super::shared::{Entry, Shared, lock};
use crate::{
    clock::Instant,
    config::Endpoints,
    logger::seldom,
    pipe::{
        self, At, BoundPair, Mode, PipeSockets, Relay, Token, UdpLeg, UdpPipe, Worker,
        shape::{is_rtcp, is_rtp},
    },
    session::{Flow, Leg, Outbox, Plan, Session, Side, State},
};

/// First source number of UDP legs under a connection's token; 0 and 1 are its TCP sockets.
const FIRST_SOURCE: u8 = 2;

/// Ports of a track that is being set up.
#[derive(Debug, Default)]
struct Bound {
    client: Option<BoundPair>,
    origin: Option<BoundPair>,
}

#[derive(Debug)]
enum Path {
    /// Both sides UDP: lives on whichever worker has the least to do.
    Pipe(UdpPipe),
    /// One side UDP, the other interleaved on this connection.
    Half { leg: Box<UdpLeg>, side: Side },
    /// Both sides interleaved: no socket of its own.
    Frames,
}

/// Who may send to a session's ports.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peers {
    pub(super) client: IpAddr,
    pub(super) origin: IpAddr,
    pub(super) endpoints: Endpoints,
}

/// Where a connection lives.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) shared: &'a Shared,
    pub(super) entry: &'a Entry,
    pub(super) worker: &'a Worker,
    pub(super) token: Token,
    /// The worker for the pipe; none: the least loaded.
    pub(super) on: Option<u16>,
}

/// All sockets of a session's tracks.
#[derive(Debug, Default)]
pub(super) struct TrackSockets {
    bound: Vec<(u8, Bound)>,
    open: Vec<(u8, Path)>,
}

impl TrackSockets {
    /// Binds pairs for a track; the numbers of their ports, toward the client and the origin.
    #[allow(clippy::type_complexity)]
    pub(super) fn bind(
        &mut self,
        shared: &Shared,
        track: u8,
        client: Option<At>,
        origin: Option<At>,
    ) -> io::Result<(Option<(u16, u16)>, Option<(u16, u16)>)> {
        let bind = |at: Option<At>| at.map(|at| pipe::bind(&shared.ports, at)).transpose();
        let bound = Bound { client: bind(client)?, origin: bind(origin)? };
        let ports = |pair: &Option<BoundPair>| {
            pair.as_ref().map(|bound| (bound.pair.rtp(), bound.pair.rtcp()))
        };
        let numbers = (ports(&bound.client), ports(&bound.origin));
        self.bound.retain(|(id, _)| *id != track);
        self.bound.push((track, bound));
        Ok(numbers)
    }

    /// The origin was reached from this address of ours: ports that were bound before that was
    /// known, or for another origin, move there, under the numbers that they have.
    pub(super) fn reach_origin_from(&mut self, local: At) {
        for (track, bound) in &mut self.bound {
            let Some(pair) = &bound.origin else { continue };
            let Ok(now) = pair.rtp.local_addr().map(At::from) else {
                continue;
            };
            let any = now.ip.is_unspecified() && now.ip.is_ipv4() == local.ip.is_ipv4();
            if now == local || (any && local.scope == 0) {
                continue;
            }
            bound.origin = bound.origin.take().and_then(|pair| {
                pair.move_to(local).inspect_err(|error| log::warn!("track {track}: {error}")).ok()
            });
        }
    }

    /// Begins to relay a track.
    pub(super) fn open(
        &mut self,
        track: u8,
        plan: Plan,
        peers: Peers,
        place: Place<'_>,
    ) -> io::Result<()> {
        let at = self.bound.iter().position(|(id, _)| *id == track);
        let bound = at.map(|at| self.bound.swap_remove(at).1).unwrap_or_default();
        let missing = || io::Error::other("ports of the track were not bound");
        let path = match (plan.client, plan.origin) {
            (Leg::Udp { .. }, Leg::Udp { .. }) => {
                let sockets = PipeSockets {
                    client: bound.client.ok_or_else(missing)?,
                    origin: bound.origin.ok_or_else(missing)?,
                };
                let relay = Relay::new(
                    leg(plan.origin, peers.origin, peers.endpoints),
                    leg(plan.client, peers.client, peers.endpoints).paired(),
                );
                let pool = &place.shared.pool;
                let chosen = pool.handles().iter().find(|handle| Some(handle.id()) == place.on);
                let pipe = match chosen {
                    Some(handle) => UdpPipe::start_on(sockets, relay, handle),
                    None => UdpPipe::start(sockets, relay, pool, place.worker.id()),
                };
                let pipe = pipe.map_err(io::Error::other)?;
                lock(&place.entry.facts).add_pipe(Arc::clone(pipe.counters()));
                Path::Pipe(pipe)
            }
            (Leg::Udp { .. }, Leg::Tcp { .. }) => self.half(
                bound.client.ok_or_else(missing)?,
                leg(plan.client, peers.client, peers.endpoints).paired(),
                Side::Client,
                track,
                place,
            )?,
            (Leg::Tcp { .. }, Leg::Udp { .. }) => self.half(
                bound.origin.ok_or_else(missing)?,
                leg(plan.origin, peers.origin, peers.endpoints),
                Side::Origin,
                track,
                place,
            )?,
            (Leg::Tcp { .. }, Leg::Tcp { .. }) => Path::Frames,
        };
        self.open.push((track, path));
        Ok(())
    }

    fn half(
        &self,
        pair: BoundPair,
        core: pipe::Leg,
        side: Side,
        track: u8,
        place: Place<'_>,
    ) -> io::Result<Path> {
        let leg = UdpLeg::new(pair, core, side);
        let source = FIRST_SOURCE + 2 * track;
        leg.register(place.worker, place.token, source, source + 1)?;
        lock(&place.entry.facts).add_pipe(Arc::clone(leg.counters()));
        Ok(Path::Half { leg: Box::new(leg), side })
    }

    /// Stops relaying a track and gives its ports back.
    pub(super) fn close(&mut self, track: u8, worker: &Worker, token: Token) {
        self.bound.retain(|(id, _)| *id != track);
        for (_, path) in self.open.extract_if(.., |(id, _)| *id == track) {
            if let Path::Half { leg, .. } = path {
                leg.close(worker, token);
            }
        }
    }

    /// Sends the payloads of frames out of a track's UDP leg.
    pub(super) fn send(&mut self, track: u8, frames: &[(Flow, &[u8])], now: Instant) {
        if let Some((_, Path::Half { leg, .. })) = self.open.iter_mut().find(|(id, _)| *id == track)
        {
            leg.send_all(frames, now);
        }
    }

    /// A UDP leg has datagrams: as frames into the outbox of the interleaved side. Says which side
    /// they came from.
    pub(super) fn receive(
        &mut self,
        source: u8,
        session: &mut Session,
        entry: &Entry,
        worker: &Worker,
        token: Token,
    ) -> Option<Side> {
        let track = source.checked_sub(FIRST_SOURCE)? / 2;
        let flow = if source.is_multiple_of(2) { Flow::Rtp } else { Flow::Rtcp };
        let (_, Path::Half { leg, side }) = self.open.iter_mut().find(|(id, _)| *id == track)?
        else {
            return None;
        };
        let (side, now) = (*side, worker.now());
        let rtp = session.tracks().channel(side.other(), track, Flow::Rtp)?;
        let rtcp = session.tracks().channel(side.other(), track, Flow::Rtcp)?;
        // Players punch holes, before they PLAY and after it, GStreamer with random bytes. go2rtc
        // takes a frame in front of PLAY for a request, and hangs up on one that it cannot parse.
        let flows = matches!(session.state(), State::Playing | State::Recording);
        let outbox: &mut Outbox = session.outbox(side.other());
        let dropped = outbox.dropped();
        let mut packets = 0;
        let mut scratch = worker.scratch().borrow_mut();
        let received = leg.recv(flow, &mut scratch.slots, now, |kind, payload| {
            let fits = if kind == Flow::Rtp { is_rtp } else { is_rtcp };
            if side == Side::Client && !(flows && fits(payload)) {
                return;
            }
            let channel = if kind == Flow::Rtp { rtp } else { rtcp };
            outbox.push_frame(channel, payload, now);
            packets += 1;
        });
        match received {
            Ok(pause) => worker.note_pause(pause),
            Err(error) => {
                if let Some(more) = seldom::once_a_minute("UDP legs failed", "") {
                    let id = entry.id;
                    log::warn!("{id}: a UDP leg of track {track} failed: {error}{more}");
                }
                leg.deregister(worker, token);
            }
        }
        entry.full.fetch_add(outbox.dropped() - dropped, Relaxed);
        worker.count_packets(packets);
        Some(side)
    }

    /// PLAY or RECORD was answered: the time in which ports are learned has begun to run.
    pub(super) fn plays(&self, now: Instant) {
        for (_, path) in &self.open {
            match path {
                Path::Pipe(pipe) => pipe.counters().plays(now),
                Path::Half { leg, .. } => leg.counters().plays(now),
                Path::Frames => {}
            }
        }
    }

    /// Tells the session what went through its sockets since it last looked. False when a pipe has
    /// ended by itself: its sockets are of no use any more.
    pub(super) fn report(&self, session: &mut Session) -> bool {
        let mut whole = true;
        let mut ended = false;
        for (_, path) in &self.open {
            let counters = match path {
                Path::Pipe(pipe) => {
                    whole &= !pipe.has_ended();
                    pipe.counters()
                }
                Path::Half { leg, .. } => leg.counters(),
                Path::Frames => continue,
            };
            let since = |ms: &AtomicU64| Instant::from_millis(ms.load(Relaxed));
            session.alive(Side::Origin, since(&counters.last_from_origin_ms));
            session.media_came(since(&counters.media_from_origin_ms));
            session.alive(Side::Client, since(&counters.last_from_client_ms));
            ended |= counters.origin_said_bye.load(Relaxed);
        }
        if ended {
            session.media_ended();
        }
        whole
    }
}

/// The endpoints of a UDP leg as the relay wants them.
fn leg(leg: Leg, peer: IpAddr, endpoints: Endpoints) -> pipe::Leg {
    let mode = match endpoints {
        Endpoints::Learn => Mode::Learn,
        Endpoints::Strict => Mode::Strict,
    };
    let (ip, rtp, rtcp) = match leg {
        Leg::Udp { ip, rtp, rtcp } => (ip, rtp, rtcp),
        Leg::Tcp { .. } => (None, 0, 0),
    };
    let host = ip.unwrap_or(peer);
    let announced = |port: u16| (port != 0).then(|| SocketAddr::new(host, port));
    let core = pipe::Leg::new(mode, host, announced(rtp), announced(rtcp));
    if rtp != 0 && rtp == rtcp { core.muxed() } else { core }
}
