//! One connection's conversation with the camera: requests in, answers out, tracks set up.
//!
//! Not in here: reading and writing the connection (`server`), pacing (`source`), sessions that
//! outlive their connection (this camera has none: it ends with its connection).

use core::net::SocketAddr;
use std::sync::Arc;

use smol::channel::Receiver;

use super::{
    Shared,
    delivery::{Leg, Track},
    rtp::{AUDIO_CLOCK, PT_H264, PT_PCMU, VIDEO_CLOCK},
    sdp,
    source::Unit,
    wire::Message,
};
use crate::{
    auth::Decision,
    clock::{Instant, now},
    config::Auth,
};

/// What the camera can do.
const METHODS: &str =
    "OPTIONS, DESCRIBE, SETUP, PLAY, PAUSE, GET_PARAMETER, SET_PARAMETER, TEARDOWN";

/// Status code and reason phrase.
type Status = (u16, &'static str);
const OK: Status = (200, "OK");
const BAD_REQUEST: Status = (400, "Bad Request");
const NOT_FOUND: Status = (404, "Not Found");
const NO_SESSION: Status = (454, "Session Not Found");
const WRONG_STATE: Status = (455, "Method Not Valid in This State");
const AGGREGATE: Status = (459, "Aggregate Operation Not Allowed");
const TRANSPORT: Status = (461, "Unsupported Transport");
const NO_PORTS: Status = (500, "Internal Server Error");
const UNKNOWN_METHOD: Status = (501, "Not Implemented");
const VERSION: Status = (505, "RTSP Version Not Supported");
const OPTION: Status = (551, "Option not supported");

/// An answer before its CSeq is added.
struct Answer {
    status: Status,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl From<Status> for Answer {
    fn from(status: Status) -> Self {
        Self { status, headers: Vec::new(), body: String::new() }
    }
}

impl Answer {
    fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The state of one connection.
pub(super) struct Session {
    shared: Arc<Shared>,
    local: SocketAddr,
    peer: SocketAddr,
    id: String,
    /// By number: video, audio.
    pub(super) tracks: [Option<Track>; 2],
    /// Media, while playing.
    pub(super) units: Option<Receiver<Arc<Unit>>>,
    /// Last sign of life.
    pub(super) alive: Instant,
    /// TEARDOWN was answered.
    pub(super) over: bool,
}

impl Session {
    /// A connection without tracks. The id is random.
    pub(super) fn new(shared: Arc<Shared>, local: SocketAddr, peer: SocketAddr) -> Self {
        let id = format!("{:016X}", getrandom::u64().unwrap_or(now().as_millis()));
        let tracks = [None, None];
        Self { shared, local, peer, id, tracks, units: None, alive: now(), over: false }
    }

    /// Answers one message; responses to us are ignored.
    pub(super) fn answer(&mut self, message: &Message, out: &mut Vec<u8>) {
        self.alive = now();
        let mut words = message.start.split_ascii_whitespace();
        let (method, uri, version) = (words.next(), words.next(), words.next());
        let (Some(method), Some(uri), Some(version)) = (method, uri, version) else { return };
        if method.starts_with("RTSP/") {
            return;
        }
        log::debug!("camera {}: {method} {uri}", self.peer);
        let answer = self.checked(message, method, uri, version);
        let (code, reason) = answer.status;
        let mut text = format!("RTSP/1.0 {code} {reason}\r\n");
        if let Some(cseq) = message.header("CSeq") {
            text.push_str(&format!("CSeq: {cseq}\r\n"));
        }
        text.push_str("Server: edgeweir-camera\r\n");
        for (name, value) in &answer.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !answer.body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        text.push_str("\r\n");
        text.push_str(&answer.body);
        out.extend_from_slice(text.as_bytes());
    }

    /// What holds for every method, before the method.
    fn checked(&mut self, message: &Message, method: &str, uri: &str, version: &str) -> Answer {
        if !version.starts_with("RTSP/1.") {
            return VERSION.into();
        }
        if let Some(tags) = message.header("Require") {
            return Answer::from(OPTION).with("Unsupported", tags);
        }
        if method == "OPTIONS" {
            return Answer::from(OK).with("Public", METHODS);
        }
        if let Some(refusal) = self.refusal(message, method, uri) {
            return refusal;
        }
        let named = message.header("Session").map(|value| value.split(';').next().unwrap_or(value));
        if named.is_some_and(|id| id.trim() != self.id) {
            return NO_SESSION.into();
        }
        let ready = self.tracks.iter().any(Option::is_some);
        match method {
            "DESCRIBE" => self.describe(uri),
            "SETUP" => self.setup(message, uri),
            "PLAY" if ready => self.play(uri),
            "PAUSE" if ready => {
                self.units = None;
                self.in_session(OK)
            }
            "TEARDOWN" if named.is_some() => {
                self.over = true;
                self.in_session(OK)
            }
            "PLAY" | "PAUSE" | "TEARDOWN" => WRONG_STATE.into(),
            "GET_PARAMETER" | "SET_PARAMETER" if ready => self.in_session(OK),
            "GET_PARAMETER" | "SET_PARAMETER" => OK.into(),
            _ => Answer::from(UNKNOWN_METHOD).with("Public", METHODS),
        }
    }

    fn refusal(&self, message: &Message, method: &str, uri: &str) -> Option<Answer> {
        let verifier = self.shared.verifier.as_ref()?;
        let authorization = message.header("Authorization").map(str::as_bytes);
        let (method, uri) = (method.as_bytes(), uri.as_bytes());
        match verifier.check(Auth::Digest, method, uri, authorization, now(), self.peer.ip()) {
            Decision::Granted { .. } => None,
            Decision::Refused => Some(BAD_REQUEST.into()),
            Decision::Challenge(values) | Decision::Wrong { challenge: values, .. } => Some(
                values.into_iter().fold((401, "Unauthorized").into(), |answer: Answer, value| {
                    answer.with("WWW-Authenticate", value)
                }),
            ),
        }
    }

    fn in_session(&self, status: Status) -> Answer {
        let timeout = self.shared.options.session_timeout_s;
        Answer::from(status).with("Session", format!("{};timeout={timeout}", self.id))
    }

    fn describe(&self, uri: &str) -> Answer {
        let options = &self.shared.options;
        let mut answer = Answer::from(OK)
            .with("Content-Base", format!("{}/", uri.trim_end_matches('/')))
            .with("Content-Type", "application/sdp");
        answer.body = sdp::describe(&options.name, self.local.ip(), options.fps, options.audio);
        answer
    }

    fn setup(&mut self, message: &Message, uri: &str) -> Answer {
        let number = match track_number(uri) {
            Some(number) => number,
            None if self.shared.options.audio => return AGGREGATE.into(),
            None => 0,
        };
        if number > usize::from(self.shared.options.audio) {
            return NOT_FOUND.into();
        }
        if self.units.is_some() {
            return WRONG_STATE.into();
        }
        let asked = message.header("Transport").unwrap_or_default();
        let Some((spec, leg)) = asked.split(',').find_map(|spec| self.leg(spec, number)) else {
            return TRANSPORT.into();
        };
        let Ok(leg) = leg else { return NO_PORTS.into() };
        let (payload_type, clock) = match number {
            0 => (PT_H264, VIDEO_CLOCK),
            _ => (PT_PCMU, AUDIO_CLOCK),
        };
        let track = Track::new(payload_type, clock, leg);
        let transport = format!("{spec};ssrc={:08X}", track.stream.ssrc);
        if let Some(slot) = self.tracks.get_mut(number) {
            *slot = Some(track);
        }
        self.in_session(OK).with("Transport", transport)
    }

    /// The leg of one Transport spec and how it is answered; None: not one for us.
    fn leg(&self, spec: &str, number: usize) -> Option<(String, std::io::Result<Leg>)> {
        let mut params = spec.split(';').map(str::trim);
        let profile = params.next()?.to_ascii_uppercase();
        let params: Vec<&str> = params.collect();
        let value = |name: &str| {
            params.iter().copied().find_map(|param| {
                let (key, value) = param.split_once('=')?;
                key.eq_ignore_ascii_case(name).then_some(value)
            })
        };
        if params.iter().any(|it| it.eq_ignore_ascii_case("multicast")) {
            return None;
        }
        let elsewhere = |to: &str| to != self.peer.ip().to_canonical().to_string();
        match profile.as_str() {
            "RTP/AVP/TCP" => {
                let default = u8::try_from(number * 2).ok()?;
                let (rtp, rtcp) = match value("interleaved") {
                    Some(text) => pair::<u8>(text, u8::checked_add)?,
                    None => (default, default + 1),
                };
                let spec = format!("RTP/AVP/TCP;unicast;interleaved={rtp}-{rtcp}");
                Some((spec, Ok(Leg::Interleaved { rtp, rtcp })))
            }
            "RTP/AVP" | "RTP/AVP/UDP" if !value("destination").is_some_and(elsewhere) => {
                let (rtp, rtcp) = pair::<u16>(value("client_port")?, u16::checked_add)?;
                if rtp < 1024 || rtcp < 1024 {
                    return None;
                }
                let leg = Leg::udp(self.local, self.peer, (rtp, rtcp));
                let port = leg.as_ref().ok().and_then(Leg::server_port).unwrap_or_default();
                let spec = format!(
                    "RTP/AVP;unicast;client_port={rtp}-{rtcp};server_port={port}-{}",
                    port.saturating_add(1)
                );
                Some((spec, leg))
            }
            _ => None,
        }
    }

    fn play(&mut self, uri: &str) -> Answer {
        let base = match track_number(uri) {
            Some(_) => uri.rsplit_once('/').map_or(uri, |(base, _)| base),
            None => uri.trim_end_matches('/'),
        };
        let since = now().since(self.shared.source.began());
        let tracks = self.tracks.iter().enumerate();
        let info: Vec<String> = tracks
            .filter_map(|(number, track)| Some((number, track.as_ref()?)))
            .map(|(number, track)| {
                let (sequence, timestamp) = (track.stream.sequence, track.timestamp(since));
                format!("url={base}/trackID={number};seq={sequence};rtptime={timestamp}")
            })
            .collect();
        if self.units.is_none() {
            self.units = Some(self.shared.source.watch());
        }
        self.in_session(OK).with("Range", "npt=now-").with("RTP-Info", info.join(","))
    }
}

/// The track that a URL names, as in our SDP.
fn track_number(uri: &str) -> Option<usize> {
    uri.rsplit_once("/trackID=")?.1.parse().ok()
}

/// `a-b`, or `a` alone for a and the next.
fn pair<T: core::str::FromStr + Copy + From<u8>>(
    text: &str,
    add: fn(T, T) -> Option<T>,
) -> Option<(T, T)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (first.parse().ok()?, Some(second.parse().ok()?)),
        None => (text.parse().ok()?, None),
    };
    Some((first, second.or_else(|| add(first, T::from(1)))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::camera::{
        Options,
        wire::{Inbox, Item},
    };

    fn session(audio: bool) -> Session {
        let options = Options { audio, ..Options::default() };
        let shared = Arc::new(Shared::new(options).expect("random bytes"));
        let local = SocketAddr::from(([127, 0, 0, 1], 554));
        Session::new(shared, local, SocketAddr::from(([127, 0, 0, 1], 9)))
    }

    fn ask(session: &mut Session, request: &str) -> Message {
        let mut inbox = Inbox::default();
        inbox.feed(request.as_bytes());
        let Ok(Some(Item::Message(request))) = inbox.next() else { panic!("a message") };
        let mut out = Vec::new();
        session.answer(&request, &mut out);
        inbox.feed(&out);
        let Ok(Some(Item::Message(answer))) = inbox.next() else { panic!("an answer") };
        answer
    }

    fn code(session: &mut Session, request: &str) -> String {
        let answer = ask(session, &format!("{request}\r\n\r\n"));
        answer.start.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_own_status() {
        for (request, status) in [
            ("OPTIONS * RTSP/1.0", "200"),
            ("OPTIONS * RTSP/2.0", "505"),
            ("DESCRIBE rtsp://h/x RTSP/1.0\r\nRequire: funky", "551"),
            ("PLAY rtsp://h/x RTSP/1.0", "455"),
            ("PLAY rtsp://h/x RTSP/1.0\r\nSession: other", "454"),
            ("FLY rtsp://h/x RTSP/1.0", "501"),
            ("SETUP rtsp://h/x RTSP/1.0\r\nTransport: RTP/AVP/TCP", "459"),
            ("SETUP rtsp://h/x/trackID=2 RTSP/1.0\r\nTransport: RTP/AVP/TCP", "404"),
            ("SETUP rtsp://h/x/trackID=0 RTSP/1.0", "461"),
            ("SETUP rtsp://h/x/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP;multicast", "461"),
            ("SETUP rtsp://h/x/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP;client_port=0-1", "461"),
            ("SETUP rtsp://h/x/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP;client_port=65535", "461"),
            (
                "SETUP rtsp://h/x/trackID=0 RTSP/1.0\r\nTransport: RTP/AVP/TCP;interleaved=255",
                "461",
            ),
        ] {
            assert_eq!(code(&mut session(true), request), status, "{request}");
        }
    }

    #[test]
    fn the_first_possible_transport_is_taken() {
        let mut session = session(true);
        let answer = ask(
            &mut session,
            "SETUP rtsp://h/x/trackID=1 RTSP/1.0\r\nCSeq: 4\r\nTransport: RTP/SAVP;unicast;\
             client_port=5000-5001, RTP/AVP/TCP;unicast;interleaved=8-9\r\n\r\n",
        );
        assert_eq!(answer.header("CSeq"), Some("4"));
        let transport = answer.header("Transport").expect("an answer to the transport");
        assert!(transport.starts_with("RTP/AVP/TCP;unicast;interleaved=8-9;ssrc="), "{transport}");
        let id = answer.header("Session").expect("a session").to_owned();
        let play = format!("PLAY rtsp://h/x/ RTSP/1.0\r\nSession: {id}\r\n\r\n");
        let info = ask(&mut session, &play).header("RTP-Info").map(str::to_owned);
        assert!(info.is_some_and(|it| it.starts_with("url=rtsp://h/x/trackID=1;seq=")));
    }
}
