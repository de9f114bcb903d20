//! The running gateway: accepts, drives sessions, checks origins, answers the control API.
//!
//! One control thread runs on smol (accept, health checks, control API, timers); media and RTSP
//! connections live on the workers of [`crate::pipe`].

mod admin;
mod connection;
mod health;
mod listener;
mod options;
mod shared;
mod signals;
mod tracks;

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use std::{collections::HashMap, sync::Arc};

use log::{info, warn};
use smol::{LocalExecutor, Task, Timer, channel, future::FutureExt};

pub use self::options::RunOptions;
use self::{
    admin::Admin,
    shared::Shared,
    signals::Signal,
};
use crate::{
    clock,
    control::server,
    pipe::{Pool, PortPool},
    session::Fault,
};

/// How long sessions may still run after SIGTERM before they are ended.
const DRAIN: Duration = Duration::from_secs(2);

/// Descriptors wanted: a session of two UDP tracks takes ten, and the usual soft limit is 1024.
const FILES_WANTED: u64 = 65_536;

/// Runs the gateway in the foreground until SIGTERM or SIGINT.
///
/// # Errors
/// A text for people: what cannot be read, bound or started, and the remedy.
pub fn run(options: RunOptions) -> Result<(), String> {
    let files = crate::pipe::raise_file_limit(FILES_WANTED);
    let source = admin::Source::open(&options)?;
    let generation = source.first_generation()?;
    let config = &generation.config;
    let workers = match config.gateway.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count.into(),
    };
    let pool = Pool::start(workers.min(crate::limits::WORKERS_MAX))
        .map_err(|error| format!("workers cannot be started: {error}"))?;
    let ports = config.gateway.media_ports;
    let ports = Arc::new(PortPool::new(ports.first, ports.last));
    let listen: Vec<SocketAddr> = config.gateway.listen.iter().copied().collect();
    let seed = generation.seed();
    let shared = Arc::new(Shared::new(generation, pool, ports, seed));
    for event in source.notes() {
        shared.event(event);
    }
    info!("edgeweir {}: {workers} workers, {files} descriptors", env!("CARGO_PKG_VERSION"));
    let executor = LocalExecutor::new();
    let result = smol::block_on(executor.run(control(&executor, &shared, source, listen, options)));
    shared.pool.stop();
    result
}

async fn control(
    executor: &LocalExecutor<'_>,
    shared: &Arc<Shared>,
    source: admin::Source,
    listen: Vec<SocketAddr>,
    options: RunOptions,
) -> Result<(), String> {
    let (changed, changes) = channel::bounded(16);
    let admin = Arc::new(Admin::new(Arc::clone(shared), source, changed));
    let mut listeners = Listeners::default();
    listeners.follow(executor, shared, &listen).map_err(|(addr, error)| {
        format!("cannot listen on {addr}: {error}; another program may have it, or change gateway.listen")
    })?;
    let gateway = Arc::clone(&admin) as Arc<dyn crate::control::gateway::Gateway>;
    let api = server::listen_unix(&options.control)
        .map_err(|error| format!("control socket {}: {error}", options.control.display()))?;
    let _api = executor.spawn(server::serve_unix(api, Arc::clone(&gateway)));
    let _tcp = match shared.generation().config.gateway.control {
        Some(addr) => {
            let api = server::listen_tcp(addr)
                .map_err(|error| format!("control address {addr}: {error}"))?;
            Some(executor.spawn(server::serve_tcp(api, Arc::clone(&gateway))))
        }
        None => None,
    };
    let _health = executor.spawn(health::watch(Arc::clone(shared), executor));
    let _rates = executor.spawn(measure(Arc::clone(shared)));
    let mut signals = signals::Signals::new().map_err(|error| format!("signals: {error}"))?;
    loop {
        enum News {
            Signal(Signal),
            Listen(Vec<SocketAddr>),
        }
        let news = async { News::Signal(signals.next().await) }
            .or(async {
                match changes.recv().await {
                    Ok(listen) => News::Listen(listen),
                    Err(_) => core::future::pending().await,
                }
            })
            .await;
        match news {
            News::Signal(Signal::Reload) => admin.reload().await,
            News::Signal(Signal::Stop) => break,
            News::Listen(listen) => {
                if let Err((addr, error)) = listeners.follow(executor, shared, &listen) {
                    warn!("cannot listen on {addr}: {error}");
                    shared.event(format!("cannot listen on {addr}: {error}"));
                }
            }
        }
    }
    info!("stopping: {} sessions", shared.admitted());
    drop(listeners);
    drain(shared).await;
    server::remove_socket(&options.control);
    Ok(())
}

/// Ends what still runs: origins get their TEARDOWN, clients a closed connection.
async fn drain(shared: &Arc<Shared>) {
    shared.draining.store(true, Relaxed);
    for entry in shared.entries() {
        close_session(shared, entry.id, Fault::Shutdown);
    }
    let until = clock::now() + DRAIN;
    while shared.connections.load(Relaxed) > 0 && clock::now() < until {
        Timer::after(Duration::from_millis(20)).await;
    }
}

/// Ends one session; false when there is none of that number.
fn close_session(shared: &Shared, id: u64, fault: Fault) -> bool {
    let Some(entry) = shared.entry(id) else { return false };
    let handle = shared.pool.handles().iter().find(|handle| handle.id() == entry.worker);
    handle.is_some_and(|handle| {
        handle.run(Box::new(move |worker| connection::close(id, fault, worker))).is_ok()
    })
}

/// Addresses listened on, by address.
#[derive(Default)]
struct Listeners {
    tasks: HashMap<SocketAddr, Task<()>>,
}

impl Listeners {
    /// Opens what is new, closes what is gone; what stays is not touched.
    fn follow(
        &mut self,
        executor: &LocalExecutor<'_>,
        shared: &Arc<Shared>,
        listen: &[SocketAddr],
    ) -> Result<(), (SocketAddr, std::io::Error)> {
        self.tasks.retain(|addr, _| listen.contains(addr));
        for addr in listen {
            if !self.tasks.contains_key(addr) {
                let listener = listener::open(*addr).map_err(|error| (*addr, error))?;
                let task = executor.spawn(listener::accept(Arc::clone(shared), listener));
                self.tasks.insert(*addr, task);
            }
        }
        Ok(())
    }
}

/// Bit rates of sessions and origins, once a second.
async fn measure(shared: Arc<Shared>) {
    let mut last = clock::now();
    loop {
        Timer::after(Duration::from_secs(1)).await;
        let now = clock::now();
        let elapsed_ms = u64::try_from(now.since(last).as_millis()).unwrap_or(1).max(1);
        last = now;
        let mut by_origin: HashMap<String, u32> = HashMap::new();
        for entry in shared.entries() {
            let bytes = entry.totals().bytes;
            let before = entry.seen_bytes.swap(bytes, Relaxed);
            let now = u32::try_from(bytes.saturating_sub(before) * 8 / elapsed_ms).unwrap_or(0);
            // Half old, half new: a figure that one can read.
            let smooth = u32::midpoint(entry.kbit.load(Relaxed), now);
            entry.kbit.store(smooth, Relaxed);
            let origin = shared::lock(&entry.facts).status.origin.clone();
            *by_origin.entry(origin).or_default() += smooth;
        }
        for origin in shared.generation().table.origins() {
            origin.set_kbit(by_origin.get(origin.name()).copied().unwrap_or(0));
        }
    }
}
