//! An origin for thousands of sessions: one thread answers RTSP, for tracks over UDP and
//! interleaved. Shared with the benchmarks.
//!
//! Not in here: sending the media; [`TinyOrigin::targets`] says where it goes.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    thread,
};

use polling::{Event, Events, Poller};

use crate::harness::raw::udp_pair;

const LISTENER: usize = usize::MAX - 1;

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=tiny\r\nt=0 0\r\na=control:*\r\n\
                   m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:0\r\n\
                   m=audio 0 RTP/AVP 8\r\na=rtpmap:8 PCMA/8000\r\na=control:1\r\n";

/// Where the media of one track go.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "not every user sends over both")]
pub(crate) enum Target {
    Udp(SocketAddr),
    /// Frames with this channel, on the session's connection.
    Interleaved(Arc<TcpStream>, u8),
}

/// Tracks of one session; those that were not set up are none.
pub(crate) type Tracks = [Option<Target>; 2];

/// Where the tracks of the playing sessions go, by number of the session.
type Playing = Arc<Mutex<HashMap<u32, Tracks>>>;

pub(crate) struct TinyOrigin {
    at: SocketAddr,
    playing: Playing,
    /// Sends the media of all sessions.
    pub(crate) media: UdpSocket,
    /// Sends and receives the RTCP of all sessions.
    #[allow(dead_code, reason = "not every user sends reports")]
    pub(crate) reports: UdpSocket,
}

impl TinyOrigin {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its number");
        let (media, reports) = udp_pair();
        let port = media.local_addr().expect("its port").port();
        let playing = Playing::default();
        let shared = Arc::clone(&playing);
        thread::spawn(move || {
            Server { sessions: HashMap::new(), playing: shared, port, next: 0 }.run(&listener);
        });
        Self { at, playing, media, reports }
    }

    pub(crate) fn url(&self) -> String {
        format!("rtsp://{}", self.at)
    }

    /// The playing sessions, in the order in which they connected.
    pub(crate) fn targets(&self) -> Vec<(u32, Tracks)> {
        let playing = self.playing.lock().expect("the sessions");
        let mut targets: Vec<_> =
            playing.iter().map(|(session, tracks)| (*session, tracks.clone())).collect();
        targets.sort_unstable_by_key(|(session, _)| *session);
        targets
    }
}

/// One connection, one session.
struct Session {
    stream: Arc<TcpStream>,
    buffer: Vec<u8>,
    tracks: Tracks,
    peer: SocketAddr,
}

struct Server {
    sessions: HashMap<usize, Session>,
    playing: Playing,
    port: u16,
    next: usize,
}

impl Server {
    #[allow(unsafe_code, reason = "polling asks that sockets are removed before they are closed")]
    fn run(mut self, listener: &TcpListener) {
        let poller = Poller::new().expect("a poller");
        listener.set_nonblocking(true).expect("a mode");
        // SAFETY: the listener lives longer than the poller.
        unsafe { poller.add(listener, Event::readable(LISTENER)) }.expect("a listener");
        let mut events = Events::new();
        loop {
            events.clear();
            poller.wait(&mut events, None).expect("events");
            for event in events.iter() {
                if event.key == LISTENER {
                    while let Ok((stream, peer)) = listener.accept() {
                        stream.set_nonblocking(true).expect("a mode");
                        stream.set_nodelay(true).expect("a mode");
                        // SAFETY: it is deleted from the poller below before it is dropped.
                        unsafe { poller.add(&stream, Event::readable(self.next)) }.expect("room");
                        let (stream, tracks) = (Arc::new(stream), Tracks::default());
                        let session = Session { stream, buffer: Vec::new(), tracks, peer };
                        self.sessions.insert(self.next, session);
                        self.next += 1;
                    }
                    poller.modify(listener, Event::readable(LISTENER)).expect("a listener");
                } else if self.serve(event.key) {
                    let session = &self.sessions[&event.key];
                    poller.modify(&*session.stream, Event::readable(event.key)).expect("a session");
                } else if let Some(session) = self.sessions.remove(&event.key) {
                    let _ = poller.delete(&*session.stream);
                    self.playing.lock().expect("the sessions").remove(&(event.key as u32));
                }
            }
        }
    }

    /// Answers what has come; whether the connection goes on.
    fn serve(&mut self, key: usize) -> bool {
        let Some(session) = self.sessions.get_mut(&key) else { return false };
        let mut bytes = [0; 4096];
        match (&*session.stream).read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => session.buffer.extend_from_slice(&bytes[..count]),
            Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
        }
        while let Some(end) = session.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head: Vec<u8> = session.buffer.drain(..end + 4).collect();
            let head = String::from_utf8_lossy(&head);
            let answer = answer(&head, session, key, self.port, &self.playing);
            if (&*session.stream).write_all(answer.as_bytes()).is_err() {
                return false;
            }
        }
        true
    }
}

fn answer(head: &str, session: &mut Session, key: usize, port: u16, playing: &Playing) -> String {
    let value = |name: &str| {
        let mut lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let mut words = head.split(' ');
    let (method, url) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut answer = format!("RTSP/1.0 200 OK\r\nCSeq: {}\r\n", value("CSeq").unwrap_or("0"));
    if method != "OPTIONS" && method != "DESCRIBE" {
        answer += &format!("Session: {key:08};timeout=60\r\n");
    }
    match method {
        "OPTIONS" => {
            answer += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER\r\n"
        }
        "DESCRIBE" => {
            answer += &format!(
                "Content-Base: {url}/\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n",
                SDP.len()
            );
        }
        "SETUP" => {
            let transport = value("Transport").expect("a Transport header");
            let track = usize::from(url.ends_with("/1"));
            let first = |name: &str| {
                let numbers = transport.split(name).nth(1)?;
                numbers.split(['-', ';', ',']).next()?.parse::<u16>().ok()
            };
            if let Some(channel) = first("interleaved=") {
                let stream = Arc::clone(&session.stream);
                session.tracks[track] = Some(Target::Interleaved(stream, channel as u8));
                answer += &format!(
                    "Transport: RTP/AVP/TCP;unicast;interleaved={channel}-{}\r\n",
                    channel + 1
                );
            } else {
                let client = first("client_port=").expect("a port");
                let at = SocketAddr::new(session.peer.ip(), client);
                session.tracks[track] = Some(Target::Udp(at));
                answer += &format!(
                    "Transport: RTP/AVP;unicast;client_port={client}-{};server_port={port}-{}\r\n",
                    client + 1,
                    port + 1
                );
            }
        }
        "PLAY" => {
            playing.lock().expect("the sessions").insert(key as u32, session.tracks.clone());
        }
        "TEARDOWN" => {
            playing.lock().expect("the sessions").remove(&(key as u32));
        }
        _ => {}
    }
    answer += "\r\n";
    if method == "DESCRIBE" {
        answer += SDP;
    }
    answer
}
