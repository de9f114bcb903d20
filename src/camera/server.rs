//! The camera's connections: one task each, which reads requests, sends media and keeps time.
//!
//! Not in here: what is answered (`session`), what is sent (`source`, `delivery`).

use core::{net::SocketAddr, time::Duration};
use std::{io, net::TcpStream, sync::Arc};

use async_io::{Async, Timer};
use smol::{
    future::{or, pending},
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{
    Shared,
    session::Session,
    source::Unit,
    wire::{Inbox, Item},
};
use crate::clock::{Instant, now};

/// How often idle time and reports are looked at.
const TICK: Duration = Duration::from_millis(500);
/// Between sender reports.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// A viewer that takes nothing for so long is hung up on.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

enum Event {
    Read(io::Result<usize>),
    Media(Arc<Unit>),
    Tick,
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: Async<TcpStream>,
    peer: SocketAddr,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let local = stream.get_ref().local_addr()?;
    stream.get_ref().set_nodelay(true)?;
    let mut session = Session::new(Arc::clone(&shared), local, peer);
    let mut stream = stream;
    let mut inbox = Inbox::default();
    let mut buffer = vec![0; 4096];
    let mut out = Vec::new();
    let mut clock = Clock { next_tick: now() + TICK, next_report: None };
    while !session.over {
        match next_event(&mut stream, &mut buffer, &session, clock.next_tick).await {
            Event::Read(Ok(0)) => break,
            Event::Read(Ok(length)) => {
                inbox.feed(buffer.get(..length).unwrap_or_default());
                if let Err(error) = requests(&mut inbox, &mut session, &mut out) {
                    log::warn!("camera {peer}: {error}; closing");
                    break;
                }
            }
            Event::Read(Err(error)) => return Err(error),
            Event::Media(unit) => {
                if let Some(track) = session.tracks.get_mut(unit.track).and_then(Option::as_mut) {
                    track.send(&unit, &mut out);
                }
            }
            Event::Tick => {}
        }
        if clock.is_silent(&mut session, &shared) {
            log::info!("camera {peer}: silent for longer than its session lasts; closing");
            break;
        }
        clock.reports(&session, &shared, &mut out);
        write(&mut stream, &mut out).await?;
    }
    if session.units.take().is_some() {
        let since = now().since(shared.source.began());
        for track in session.tracks.iter().flatten() {
            track.report(since, shared.wall(), true, &mut out);
        }
    }
    write(&mut stream, &mut out).await
}

async fn next_event(
    stream: &mut Async<TcpStream>,
    buffer: &mut [u8],
    session: &Session,
    tick: Instant,
) -> Event {
    let read = async { Event::Read(stream.read(buffer).await) };
    let media = async {
        match &session.units {
            Some(units) => match units.recv().await {
                Ok(unit) => Event::Media(unit),
                Err(_) => pending().await,
            },
            None => pending().await,
        }
    };
    let tick = async {
        Timer::after(tick.since(now())).await;
        Event::Tick
    };
    or(tick, or(read, media)).await
}

fn requests(
    inbox: &mut Inbox,
    session: &mut Session,
    out: &mut Vec<u8>,
) -> Result<(), super::wire::WireError> {
    while let Some(item) = inbox.next()? {
        match item {
            Item::Message(message) => session.answer(&message, out),
            // Receiver reports of an interleaved viewer.
            Item::Frame { .. } => session.alive = now(),
        }
    }
    Ok(())
}

async fn write(stream: &mut Async<TcpStream>, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let late = async {
        Timer::after(WRITE_TIMEOUT).await;
        Err(io::Error::new(io::ErrorKind::TimedOut, "the viewer reads nothing"))
    };
    or(stream.write_all(out), late).await?;
    out.clear();
    Ok(())
}

/// When to look at what, on one connection.
struct Clock {
    next_tick: Instant,
    /// None until it plays.
    next_report: Option<Instant>,
}

impl Clock {
    /// Moves the tick on when it is due; true when the viewer has been silent for too long.
    fn is_silent(&mut self, session: &mut Session, shared: &Shared) -> bool {
        let now = now();
        if now < self.next_tick {
            return false;
        }
        self.next_tick = now + TICK;
        // All of them: what was not read would count later.
        if session.tracks.iter().flatten().fold(false, |heard, track| track.heard() | heard) {
            session.alive = now;
        }
        let timeout = Duration::from_secs(u64::from(shared.options.session_timeout_s));
        now.since(session.alive) > timeout
    }

    /// Sender reports: with the first media, then every five seconds; none while frozen.
    fn reports(&mut self, session: &Session, shared: &Shared, out: &mut Vec<u8>) {
        let now = now();
        if session.units.is_none() || shared.source.is_frozen() {
            self.next_report = None;
            return;
        }
        let sending = session.tracks.iter().flatten().any(|track| track.stream.packets > 0);
        if !sending || self.next_report.is_some_and(|at| now < at) {
            return;
        }
        self.next_report = Some(now + REPORT_EVERY);
        let since = now.since(shared.source.began());
        for track in session.tracks.iter().flatten() {
            track.report(since, shared.wall(), false, out);
        }
    }
}
