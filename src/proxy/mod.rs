//! The running gateway: accepts, drives sessions, checks origins, answers the control API.
//!
//! One control thread runs on smol (health checks, control API, timers); RTSP connections, from accept
//! on, and media live on the workers of [`crate::pipe`].

mod admin;
mod askers;
mod connection;
mod doctor;
mod files;
mod guesses;
mod health;
#[cfg_attr(not(feature = "plugins"), path = "keeper_none.rs")]
mod keeper;
mod listener;
mod lobby;
mod options;
mod peers;
mod places;
mod plugins;
mod shared;
mod signals;
#[cfg(feature = "plugins")]
mod slots;
mod source;
mod tracks;
mod watchdog;
mod zones;

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
};

use log::{info, warn};
use smol::{LocalExecutor, Timer, channel, future::FutureExt};

use self::{
    admin::Admin,
    keeper::Keeper,
    listener::Listening,
    shared::{Generation, Shared},
    signals::Signal,
    source::Source,
    watchdog::Watchdog,
};
pub use self::{options::RunOptions, source::read_secrets};
use crate::{
    clock,
    control::{gateway::Gateway, server, socket::ControlSocket},
    logger::seldom,
    origin::{Health, Outcome, Trouble},
    pipe::{Pool, PortPool},
    remedy,
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
    let files = files::raise_limit(FILES_WANTED);
    let watchdog = Rc::new(Watchdog::open(options.watchdog.as_deref())?);
    let source = smol::block_on(Source::open(&options))?;
    let start = smol::block_on(source.begin());
    let loaded = smol::block_on(source.load())?;
    let (seed, nonce_key) = random()?;
    let notes = options.note.iter().chain(&start.notes).chain(&loaded.notes);
    let notes: Vec<String> = notes.cloned().collect();
    let generation = Generation::first(loaded, seed, nonce_key);
    let gateway = &generation.config.gateway;
    let workers = match gateway.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count.into(),
    };
    let pool = Pool::start(workers.min(crate::limits::WORKERS_MAX))
        .map_err(|error| format!("workers cannot be started: {error}"))?;
    pool.set_coalesce_us(gateway.coalesce_us);
    let ports = PortPool::new(gateway.media_ports.first, gateway.media_ports.last);
    let listen: Vec<SocketAddr> = gateway.listen.iter().copied().collect();
    let (keeper, said) = smol::block_on(Keeper::start(
        &source,
        &options,
        &start,
        &generation.config,
        &generation.secrets,
    ))?;
    let hooks = keeper.make_hooks();
    let shared = Arc::new(Shared::new(generation, pool, ports, seed, nonce_key, hooks));
    let notes = notes.into_iter().chain(said);
    for note in notes {
        warn!("{note}");
        shared.event(note);
    }
    shared.check_credentials();
    info!("edgeweir {}: {workers} workers, {files} descriptors", env!("CARGO_PKG_VERSION"));
    let executor = Rc::new(LocalExecutor::new());
    let kept = (source, Arc::new(keeper));
    let running = control(&executor, &shared, kept, listen, options, &watchdog);
    let result = smol::block_on(executor.run(running));
    shared.pool.stop();
    if result.is_ok() {
        watchdog.stand_down();
    }
    result
}

/// What should not repeat from run to run, and what nobody should guess.
fn random() -> Result<(u64, [u8; 32]), String> {
    let mut key = [0; 32];
    let mut seed = [0; 8];
    getrandom::fill(&mut key)
        .and_then(|()| getrandom::fill(&mut seed))
        .map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok((u64::from_ne_bytes(seed), key))
}

async fn control(
    executor: &Rc<LocalExecutor<'static>>,
    shared: &Arc<Shared>,
    (source, keeper): (Source, Arc<Keeper>),
    listen: Vec<SocketAddr>,
    options: RunOptions,
    watchdog: &Rc<Watchdog>,
) -> Result<(), String> {
    let fed = Rc::clone(watchdog);
    let feeding = Arc::clone(shared);
    let _watchdog =
        executor.spawn(async move { fed.feed(&feeding.pool, |text| feeding.event(text)).await });
    let (changed, changes) = channel::bounded(16);
    let data = doctor::data_folder(&options);
    let admin = Admin::new(Arc::clone(shared), Arc::clone(&keeper), source, changed, data);
    let watched = Arc::clone(shared);
    let _plugins = executor.spawn(async move { keeper.watch(&watched).await });
    let mut listeners = Listeners::default();
    listeners.follow(shared, &listen).await.map_err(|(addr, error)| {
        format!("{}; see gateway.listen", remedy::listening(addr, &error))
    })?;
    let gateway: Arc<dyn Gateway> = Arc::new(admin.clone());
    // Kept here to the end: dropping it takes the file away.
    let socket = ControlSocket::bind(&options.control)?;
    let unix = socket.listener().try_clone().map_err(|error| format!("control socket: {error}"))?;
    let serving = Arc::clone(&gateway);
    let _unix = executor.spawn(async move {
        if let Err(error) = server::serve_unix(&unix, serving).await {
            warn!("control socket: {error}");
        }
    });
    let _tcp = match shared.generation().config.gateway.control {
        Some(addr) => {
            let listener = listener::listen(addr)
                .map_err(|error| format!("control address {addr}: {error}"))?;
            Some(executor.spawn(async move {
                if let Err(error) = server::serve_tcp(listener, gateway).await {
                    warn!("control address {addr}: {error}");
                }
            }))
        }
        None => None,
    };
    let _health = executor.spawn(health::watch(Arc::clone(shared), Rc::clone(executor)));
    let _rates = executor.spawn(measure(Arc::clone(shared)));
    let mut signals = signals::Signals::new().map_err(|error| format!("signals: {error}"))?;
    shared.count_own_descriptors();
    watchdog.ready();
    let (settling, healthy_after) = (admin.clone(), options.healthy_after);
    let _settled = executor.spawn(async move {
        Timer::after(healthy_after).await;
        settling.settle().await;
    });
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
                if let Err((addr, error)) = listeners.follow(shared, &listen).await {
                    let told = remedy::listening(addr, &error);
                    warn!("{told}");
                    shared.event(told);
                }
            }
        }
    }
    info!("stopping: {} sessions", shared.admitted());
    let _ = listeners.follow(shared, &[]).await;
    drain(shared).await;
    admin.settle().await;
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

/// Addresses listened on, by address as configured.
#[derive(Default)]
struct Listeners(HashMap<SocketAddr, Listening>);

impl Listeners {
    /// Closes what is gone, opens what is new; what stays is not touched. An address that cannot be
    /// had does not keep the others from being opened.
    async fn follow(
        &mut self,
        shared: &Arc<Shared>,
        listen: &[SocketAddr],
    ) -> Result<(), (SocketAddr, std::io::Error)> {
        let gone: Vec<_> = self.0.extract_if(|addr, _| !listen.contains(addr)).collect();
        for (_, listening) in gone {
            listening.close().await;
        }
        let mut result = Ok(());
        for addr in listen {
            if self.0.contains_key(addr) {
                continue;
            }
            match Listening::open(shared, *addr) {
                Ok(listening) => {
                    self.0.insert(*addr, listening);
                }
                Err(error) => result = Err((*addr, error)),
            }
        }
        result
    }
}

/// Bit rates of sessions and origins, and what changed about the origins' health, once a second.
async fn measure(shared: Arc<Shared>) {
    let mut last = clock::now();
    let mut down: HashSet<String> = HashSet::new();
    let mut told: HashMap<String, Vec<Trouble>> = HashMap::new();
    loop {
        Timer::after(Duration::from_secs(1)).await;
        seldom::tell_left_out();
        shared.descriptors.follow_limit();
        let now = clock::now();
        let before_ms = last.as_millis();
        let elapsed_ms = u64::try_from(now.since(last).as_millis()).unwrap_or(1).max(1);
        last = now;
        let mut by_origin: HashMap<String, (u32, bool, bool)> = HashMap::new();
        for entry in shared.entries() {
            let bytes = entry.totals().bytes;
            let before = entry.seen_bytes.swap(bytes, Relaxed);
            let rate = u32::try_from(bytes.saturating_sub(before) * 8 / elapsed_ms).unwrap_or(0);
            // Half old, half new: a figure that one can read.
            let smooth = u32::midpoint(entry.kbit.load(Relaxed), rate);
            entry.kbit.store(smooth, Relaxed);
            let (origin, udp) = {
                let facts = shared::lock(&entry.facts);
                (facts.status.origin.clone(), facts.status.origin_transport == "udp")
            };
            let (kbit, flows, by_udp) = by_origin.entry(origin).or_default();
            *kbit += smooth;
            let came = entry.media_from_origin_ms() > before_ms;
            *flows |= came;
            *by_udp |= came && udp;
        }
        for origin in shared.generation().table.origins() {
            let (kbit, flows, by_udp) = by_origin.get(origin.name()).copied().unwrap_or_default();
            origin.set_kbit(kbit);
            if flows {
                origin.observe(Outcome::MediaFlowing, now);
                origin.over(Trouble::Media);
            }
            if by_udp {
                origin.over(Trouble::Udp);
            }
            let name = origin.name().to_owned();
            let lasting: Vec<Trouble> = origin.troubles().map(|(trouble, _)| trouble).collect();
            let told_of = told.entry(name.clone()).or_default();
            for trouble in lasting.iter().filter(|trouble| !told_of.contains(trouble)) {
                let text = trouble.text(shared.user_at(origin).as_deref());
                warn!("origin {name}: {text}: {}", trouble.remedy());
            }
            *told_of = lasting;
            let is_down = matches!(origin.health(), Health::Down { .. });
            if is_down && down.insert(name.clone()) {
                let text = format!("origin {name} is down: {}", origin.status(now).reason);
                if let Some(more) = seldom::paced("origin down") {
                    warn!("{text}{more}");
                }
                shared.event(text);
            } else if !is_down && down.remove(&name) {
                if let Some(more) = seldom::paced("origin back") {
                    info!("origin {name} is back{more}");
                }
                shared.event(format!("origin {name} is back"));
            }
        }
    }
}
