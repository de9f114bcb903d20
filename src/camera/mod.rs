//! The synthetic RTSP camera of the demo and of the tests: H.264 that a real decoder accepts, with
//! a picture that moves, over UDP or interleaved, with digest authentication when asked for.
//!
//! ```text
//! source (one encoder, by the clock) ── units ──> session (one a connection) ── delivery ──> UDP
//!    h264 <- cavlc <- bits                           ^ wire: requests                    └─> TCP
//!    picture
//! ```
//!
//! It is a tool and no part of the data path: one task for each connection on one thread.
//!
//! Not in here: multicast, RTSP/2.0, recording, sessions that outlive their connection.

mod bits;
mod cavlc;
mod delivery;
mod h264;
mod picture;
pub(crate) mod rtcp;
mod rtp;
mod sdp;
mod server;
mod session;
mod source;
pub(crate) mod wire;

use core::{future::Future, net::SocketAddr, time::Duration};
use std::{
    io,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_io::{Async, Timer};
use smol::{Executor, future::or};

use crate::{
    auth::{Account, Verifier},
    clock::{Instant, now},
    limits::CAMERA_CONNECTIONS_MAX,
    remedy,
};

/// What kind of camera it is. [`Default`] is one on 127.0.0.1:8555 without audio or password.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Its name in the SDP (`s=`). Control characters are left out.
    pub name: String,
    /// User and password of digest authentication (MD5 and SHA-256). None: open to all.
    pub digest: Option<(String, String)>,
    /// A second track: a 440 Hz tone as PCMU.
    pub audio: bool,
    /// Frames a second, 1 to 120.
    pub fps: u32,
    /// Least bit rate of the video in kbit/s, reached with filler data; 0: what the picture needs
    /// (about 300). At most 50,000.
    pub kbit: u32,
    /// The session timeout that is announced and kept, in seconds, 1 to 3600.
    pub session_timeout_s: u32,
    /// For tests: so long after the first PLAY, media stops while connections stay open.
    pub freeze_after: Option<Duration>,
    /// For tests: so long after the first PLAY, everything is closed and [`run`] returns.
    pub die_after: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8555)),
            name: "edgeweir camera".to_owned(),
            digest: None,
            audio: false,
            fps: 25,
            kbit: 0,
            session_timeout_s: 60,
            freeze_after: None,
            die_after: None,
        }
    }
}

/// What the sessions of one camera share.
struct Shared {
    options: Options,
    verifier: Option<Verifier>,
    source: source::Source,
    /// The wall clock at a moment of ours, for sender reports.
    wall: (Duration, Instant),
    connections: AtomicUsize,
}

impl Shared {
    fn new(mut options: Options) -> io::Result<Self> {
        options.name.retain(|letter| !letter.is_control());
        options.fps = options.fps.clamp(1, 120);
        options.kbit = options.kbit.min(50_000);
        options.session_timeout_s = options.session_timeout_s.clamp(1, 3600);
        let verifier = match &options.digest {
            Some((user, password)) => {
                let mut key = [0; 32];
                getrandom::fill(&mut key)
                    .map_err(|error| io::Error::other(format!("no random bytes: {error}")))?;
                Some(Verifier::new(vec![Account::new(user, password)], key))
            }
            None => None,
        };
        #[allow(clippy::disallowed_methods)] // sender reports carry the wall clock; read once
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let source =
            source::Source::new(options.fps, options.kbit, options.audio, options.freeze_after);
        Ok(Self {
            options,
            verifier,
            source,
            wall: (wall.unwrap_or_default(), now()),
            connections: AtomicUsize::new(0),
        })
    }

    /// The wall clock, since 1970.
    fn wall(&self) -> Duration {
        self.wall.0 + now().since(self.wall.1)
    }
}

/// A camera that listens and does not yet answer.
pub struct Camera {
    listener: Async<TcpListener>,
    shared: Arc<Shared>,
}

impl Camera {
    /// Opens the camera's port.
    ///
    /// # Errors
    /// The address cannot be bound, with the address in the text.
    pub fn bind(options: Options) -> io::Result<Self> {
        let listen = options.listen;
        let listener = Async::<TcpListener>::bind(listen)
            .map_err(|error| io::Error::new(error.kind(), remedy::listening(listen, &error)))?;
        Ok(Self { listener, shared: Arc::new(Shared::new(options)?) })
    }

    /// Where it listens: the port is known here even when 0 was asked for.
    ///
    /// # Errors
    /// As of the system call.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.get_ref().local_addr()
    }

    /// Serves until `stop` is done or [`Options::die_after`] has passed; then all connections are
    /// closed.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let tasks = Executor::new();
        let shared = &self.shared;
        let accept = async {
            loop {
                self.accept(&tasks).await;
            }
        };
        let die = async {
            loop {
                Timer::after(Duration::from_millis(100)).await;
                let (after, watched) = (shared.options.die_after, shared.source.watched_for());
                if after.is_some_and(|after| watched.is_some_and(|watched| watched >= after)) {
                    return;
                }
            }
        };
        tasks.run(or(or(stop, die), or(shared.source.run(), accept))).await;
    }

    async fn accept(&self, tasks: &Executor<'_>) {
        let (stream, peer) = match self.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("camera: no connection can be accepted: {error}");
                // Descriptors that ran out come back when a viewer leaves.
                Timer::after(Duration::from_millis(200)).await;
                return;
            }
        };
        let shared = Arc::clone(&self.shared);
        if shared.connections.fetch_add(1, Ordering::Relaxed) >= CAMERA_CONNECTIONS_MAX {
            shared.connections.fetch_sub(1, Ordering::Relaxed);
            log::warn!("camera {peer}: more than {CAMERA_CONNECTIONS_MAX} connections; closing");
            return;
        }
        let task = tasks.spawn(async move {
            if let Err(error) = server::serve(stream, peer, Arc::clone(&shared)).await {
                log::debug!("camera {peer}: {error}");
            }
            shared.connections.fetch_sub(1, Ordering::Relaxed);
        });
        task.detach();
    }
}

/// Runs a camera until `stop` is done or [`Options::die_after`] has passed.
///
/// # Errors
/// The address cannot be bound.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> io::Result<()> {
    let camera = Camera::bind(options)?;
    log::info!("camera at rtsp://{}/ (any path)", camera.local_addr()?);
    camera.run(stop).await;
    Ok(())
}
