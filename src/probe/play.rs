//! One probe from OPTIONS to TEARDOWN.
//!
//! Not in here: how a request is sent (`client`), what packets say (`stats`).

use core::{net::IpAddr, time::Duration};
use std::{io, net::UdpSocket, pin::Pin};

use async_io::{Async, Timer};
use smol::future::{or, pending, poll_fn, yield_now};

use super::{
    Options, ProbeError, Report, TrackReport, Transport,
    client::{self, Client},
    describe::{self, Section},
    legs::Leg,
    stats::TrackStats,
};
use crate::{
    auth::Signer,
    camera::{
        rtcp,
        wire::{Item, Message},
    },
    clock::{Instant, now},
};

/// Between calls of `on_tick`.
const TICK: Duration = Duration::from_secs(1);
/// Between receiver reports.
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// The session timeout where the server names none (RFC 2326 section 12.37).
const DEFAULT_TIMEOUT_S: u64 = 60;

struct Track {
    section: Section,
    leg: Leg,
    stats: TrackStats,
    rtcp: u64,
}

/// What the probe knows while it runs.
struct Play {
    tracks: Vec<Track>,
    began: Instant,
    /// When PLAY was sent, and answered.
    played: Instant,
    setup: Duration,
    report: Report,
    ssrc: u32,
    until: Until,
    ports: Option<(u16, u16)>,
}

enum Event {
    Item(Item),
    /// Track, whether it is RTCP, length in the buffer.
    Datagram(usize, bool, usize),
    Tick,
}

/// How long a URL is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// For its seconds.
    Time,
    /// Until every track brought something, at most for its seconds.
    Media,
}

/// Plays `options.url` and says what came.
pub(super) async fn run(
    options: &Options,
    on_tick: &mut dyn FnMut(&Report),
) -> Result<Report, ProbeError> {
    let (url, signer) = client::target(&options.url)?;
    run_signed(Options { url, ..options.clone() }, signer, Until::Time, on_tick).await
}

/// The same, for a URL without user and password, signed by `signer`.
pub(super) async fn run_signed(
    options: Options,
    signer: Option<Signer>,
    until: Until,
    on_tick: &mut dyn FnMut(&Report),
) -> Result<Report, ProbeError> {
    let began = now();
    let url = options.url;
    let mut client = Client::connect(&url, signer).await?;
    let transport = match options.transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    let mut play = Play {
        tracks: Vec::new(),
        began,
        played: began,
        setup: Duration::ZERO,
        report: Report { url: url.clone(), transport: transport.to_owned(), ..Report::default() },
        ssrc: getrandom::u32().unwrap_or(1),
        until,
        ports: options.ports,
    };
    let (aggregate, keepalive, timeout) = play.open(&mut client, &url, options.transport).await?;
    let deadline = play.played + Duration::from_secs(u64::from(options.seconds.max(1)));
    let watched =
        play.watch(&mut client, (&aggregate, keepalive, timeout), deadline, on_tick).await;
    let ended = match watched {
        Ok(()) => {
            play.goodbye(&mut client).await;
            client.ask("TEARDOWN", &aggregate, &[], |_, _| {}).await.map(|_| ())
        }
        Err(error) => Err(error),
    };
    let report = play.report_now();
    match ended {
        // Some servers close in place of an answer to TEARDOWN.
        Ok(()) => Ok(report),
        Err(ProbeError::Closed | ProbeError::Lost(_)) if now() >= deadline => Ok(report),
        Err(_) if until == Until::Media && report.media_flowed() => Ok(report),
        Err(error) => Err(error),
    }
}

impl Play {
    /// OPTIONS to PLAY. The URL to control all, the method that keeps alive, the session timeout.
    async fn open(
        &mut self,
        client: &mut Client,
        url: &str,
        transport: Transport,
    ) -> Result<(String, &'static str, Duration), ProbeError> {
        let options = ok(client.ask("OPTIONS", url, &[], |_, _| {}).await?, "OPTIONS")?;
        let public = options.header("Public").unwrap_or_default();
        let keepalive = if public.contains("GET_PARAMETER") { "GET_PARAMETER" } else { "OPTIONS" };
        self.report.server = options
            .header("Server")
            .unwrap_or_default()
            .chars()
            .filter(|letter| !letter.is_control())
            .take(64)
            .collect();
        let accept = [("Accept", "application/sdp")];
        let described = ok(client.ask("DESCRIBE", url, &accept, |_, _| {}).await?, "DESCRIBE")?;
        let base = described.header("Content-Base").or(described.header("Content-Location"));
        let offer = describe::offer(&described.body, base.unwrap_or(url));
        if offer.sections.is_empty() {
            return Err(ProbeError::NotRtsp("the SDP names no media"));
        }
        let (local, server) = client.addresses()?;
        let mut timeout = DEFAULT_TIMEOUT_S;
        for section in offer.sections {
            let mut leg = self.leg(transport, local.ip()).map_err(ProbeError::Ports)?;
            let wanted = leg.transport().map_err(ProbeError::Ports)?;
            let headers = [("Transport", wanted.as_str())];
            let tracks = &mut self.tracks;
            let frames = |channel, payload: &[u8]| frame(tracks, channel, payload);
            let answer =
                ok(client.ask("SETUP", &section.control, &headers, frames).await?, "SETUP")?;
            leg.accept(answer.header("Transport").unwrap_or_default(), server.ip());
            timeout = announced_timeout(&answer).unwrap_or(timeout);
            let stats = TrackStats::new(section.clock);
            self.tracks.push(Track { section, leg, stats, rtcp: 0 });
        }
        self.played = now();
        let tracks = &mut self.tracks;
        let frames = |channel, payload: &[u8]| frame(tracks, channel, payload);
        let range = [("Range", "npt=0.000-")];
        ok(client.ask("PLAY", &offer.aggregate, &range, frames).await?, "PLAY")?;
        self.setup = now().since(self.began);
        Ok((offer.aggregate, keepalive, Duration::from_secs(timeout.clamp(2, 3600))))
    }

    fn leg(&self, transport: Transport, local: IpAddr) -> io::Result<Leg> {
        match transport {
            Transport::Udp => Leg::udp(local, self.ports),
            Transport::Tcp => {
                let first = u8::try_from(self.tracks.len() * 2).unwrap_or(u8::MAX - 1);
                Ok(Leg::Interleaved(first, first.saturating_add(1)))
            }
        }
    }

    /// Receives until the deadline.
    async fn watch(
        &mut self,
        client: &mut Client,
        (aggregate, keepalive, timeout): (&str, &'static str, Duration),
        deadline: Instant,
        on_tick: &mut dyn FnMut(&Report),
    ) -> Result<(), ProbeError> {
        let mut buffer = vec![0; 65_536];
        let (mut tick, mut reports, mut alive) =
            (self.played + TICK, self.played + REPORT_EVERY, self.played + timeout / 2);
        while now() < deadline && !(self.until == Until::Media && self.report_now().media_flowed())
        {
            let wake = deadline.min(tick).min(reports).min(alive);
            match self.next_event(client, &mut buffer, wake).await? {
                Event::Item(Item::Frame { channel, payload }) => {
                    frame(&mut self.tracks, channel, &payload);
                }
                // An answer to a keepalive; its nonce may have aged.
                Event::Item(Item::Message(message)) => match client::status(&message) {
                    Some(454) => return Err(ProbeError::Refused("the session", message.start)),
                    Some(401) if client.is_challenged(&message) => {
                        client.send(keepalive, aggregate, &[]).await?;
                    }
                    Some(_) => {}
                    None => client.reply(&message).await?,
                },
                Event::Datagram(number, is_rtcp, length) => {
                    if let Some(track) = self.tracks.get_mut(number) {
                        packet(track, is_rtcp, buffer.get(..length).unwrap_or_default());
                    }
                }
                Event::Tick => {}
            }
            let now = now();
            if now >= tick {
                tick = now + TICK;
                on_tick(&self.report_now());
            }
            if now >= reports {
                reports = now + REPORT_EVERY;
                self.send_reports(client, false).await?;
            }
            if now >= alive {
                alive = now + timeout / 2;
                client.send(keepalive, aggregate, &[]).await?;
            }
        }
        Ok(())
    }

    async fn next_event(
        &self,
        client: &mut Client,
        buffer: &mut [u8],
        wake: Instant,
    ) -> Result<Event, ProbeError> {
        let item = async { client.item().await.map(Event::Item) };
        let timer = async {
            let wait = wake.since(now());
            if wait.is_zero() {
                // Even a server that never stops sending must not stop the clock.
                yield_now().await;
            } else {
                Timer::after(wait).await;
            }
            Ok(Event::Tick)
        };
        or(timer, or(item, self.datagram(buffer))).await
    }

    /// The next datagram on any socket.
    async fn datagram(&self, buffer: &mut [u8]) -> Result<Event, ProbeError> {
        let sockets: Vec<(usize, bool, &Async<UdpSocket>)> = self
            .tracks
            .iter()
            .enumerate()
            .filter_map(|(number, track)| match &track.leg {
                Leg::Udp { rtp, rtcp, .. } => Some([(number, false, rtp), (number, true, rtcp)]),
                Leg::Interleaved(..) => None,
            })
            .flatten()
            .collect();
        if sockets.is_empty() {
            return pending().await;
        }
        loop {
            for &(number, is_rtcp, socket) in &sockets {
                // An error is that of an earlier send (ICMP), and no end of the stream.
                if let Ok(length) = socket.get_ref().recv(buffer) {
                    return Ok(Event::Datagram(number, is_rtcp, length));
                }
            }
            any_readable(&sockets).await.map_err(ProbeError::Ports)?;
        }
    }

    /// Receiver reports for all tracks, with a farewell at the end.
    async fn send_reports(&mut self, client: &mut Client, end: bool) -> Result<(), ProbeError> {
        for track in &mut self.tracks {
            let block = track.stats.report_block(now());
            let mut report = rtcp::receiver_report(self.ssrc, block.as_ref(), "probe@edgeweir");
            if end {
                report = rtcp::bye(report, self.ssrc);
            }
            match &track.leg {
                Leg::Udp { rtcp, reports_to: Some(to), .. } => {
                    // A report that is lost is followed by another.
                    let _ = rtcp.get_ref().send_to(&report, *to);
                }
                Leg::Udp { .. } => {}
                Leg::Interleaved(_, channel) => client.send_frame(*channel, &report).await?,
            }
        }
        Ok(())
    }

    async fn goodbye(&mut self, client: &mut Client) {
        // TEARDOWN follows; a connection that is gone shows there.
        let _ = self.send_reports(client, true).await;
    }

    fn report_now(&self) -> Report {
        let elapsed = now().since(self.played);
        let seconds = elapsed.as_secs_f64();
        let mut report = self.report.clone();
        report.setup_ms = millis(self.setup);
        report.seconds = seconds;
        let tracks = self.tracks.iter();
        report.tracks = tracks.map(|track| track_report(track, seconds, self.played)).collect();
        report
    }
}

fn track_report(track: &Track, seconds: f64, played: Instant) -> TrackReport {
    let Track { section, stats, rtcp, .. } = track;
    #[allow(clippy::cast_precision_loss)] // a rate for the eye
    let kbit_per_s = if seconds > 0.0 { stats.bytes as f64 * 8.0 / 1000.0 / seconds } else { 0.0 };
    TrackReport {
        kind: section.kind.clone(),
        codec: section.codec.clone(),
        packets: stats.packets,
        bytes: stats.bytes,
        kbit_per_s,
        lost: stats.lost(),
        reordered: stats.reordered,
        restarts: stats.restarts,
        malformed: stats.malformed,
        jitter_ms: stats.jitter().as_secs_f64() * 1000.0,
        first_packet_ms: stats.first.map(|first| millis(first.since(played))),
        frames: stats.marked,
        rtcp: *rtcp,
    }
}

/// Waits until one of the sockets may be read.
async fn any_readable(sockets: &[(usize, bool, &Async<UdpSocket>)]) -> io::Result<()> {
    let mut waits: Vec<Pin<Box<dyn Future<Output = io::Result<()>> + '_>>> = Vec::new();
    for (_, _, socket) in sockets {
        waits.push(Box::pin(socket.readable()));
    }
    poll_fn(|cx| {
        let ready = waits.iter_mut().map(|wait| wait.as_mut().poll(cx));
        ready.fold(core::task::Poll::Pending, |all, one| if one.is_ready() { one } else { all })
    })
    .await
}

/// Takes an interleaved frame; channels that nobody set up are left out.
fn frame(tracks: &mut [Track], channel: u8, payload: &[u8]) {
    for track in tracks {
        match track.leg {
            Leg::Interleaved(rtp, _) if rtp == channel => return packet(track, false, payload),
            Leg::Interleaved(_, rtcp) if rtcp == channel => return packet(track, true, payload),
            _ => {}
        }
    }
}

fn packet(track: &mut Track, is_rtcp: bool, payload: &[u8]) {
    if !is_rtcp {
        track.stats.on_rtp(payload, now());
        return;
    }
    track.rtcp += 1;
    if let Some((ssrc, ntp)) = rtcp::read_sender_report(payload) {
        track.stats.on_sender_report(ssrc, ntp, now());
    }
}

/// A 2xx answer, or the refusal as an error.
fn ok(answer: client::Answer, method: &'static str) -> Result<Message, ProbeError> {
    match answer.code {
        200..300 => Ok(answer.message),
        _ => Err(ProbeError::Refused(method, answer.message.start)),
    }
}

fn announced_timeout(answer: &Message) -> Option<u64> {
    answer
        .header("Session")?
        .split(';')
        .find_map(|param| param.trim().strip_prefix("timeout=")?.trim().parse().ok())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
