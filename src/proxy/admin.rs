//! What the control API can do to the gateway.
//!
//! A change is checked first, then stored, then put in force: a wrong one changes nothing, and one
//! that is answered with success survives a power cut.

mod doctor;
mod plugins;

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed};
use std::{fs, io, path::PathBuf, sync::Arc};

use log::{error, info, warn};
use smol::{channel::Sender, lock::Mutex};

use super::{
    close_session,
    keeper::Keeper,
    listener,
    shared::{Generation, Shared},
    source::{Loaded, Source},
};
use crate::{
    auth::{Account, Credentials, Verifier},
    clock,
    config::{
        Config,
        diff::{Changes, changes},
        print,
        secrets::{SecretError, Secrets},
        text,
    },
    control::{
        gateway::{Answer, Gateway, Upload},
        model::{
            Ask, Credential, Finding, HistoryEntry, Installed, PluginStatus, Problem,
            SessionStatus, Status, Survey, WorkerStatus,
        },
    },
    origin::Table,
    remedy,
    session::{Fault, pseudonym},
};

/// The running gateway, as the control API sees it.
#[derive(Clone)]
pub(super) struct Admin(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    /// One change at a time: what is stored last is what is in force.
    source: Mutex<Source>,
    listen: Sender<Vec<SocketAddr>>,
    /// Where what is written must find room.
    data: Option<PathBuf>,
}

impl Generation {
    /// The first one of a run.
    pub(super) fn first(loaded: Loaded, seed: u64, nonce_key: [u8; 32]) -> Self {
        let table = Table::new(&loaded.config, None, seed);
        let verifier = verifier(&loaded.secrets, nonce_key);
        let pseudonym = pseudonym(&loaded.config.gateway.via, &nonce_key);
        Self {
            number: 1,
            sequence: loaded.sequence,
            config: loaded.config,
            table: Arc::new(table),
            verifier: Arc::new(verifier),
            secrets: Arc::from(loaded.secrets),
            pseudonym,
        }
    }

    /// What the gateway signs with toward origins that name these credentials.
    pub(super) fn credentials(&self, name: &str) -> Option<Credentials> {
        self.secrets.credential(name).map(Credentials::from)
    }
}

fn verifier(secrets: &Secrets, key: [u8; 32]) -> Verifier {
    Verifier::new(secrets.users.iter().map(Account::from).collect(), key)
}

impl Admin {
    pub(super) fn new(
        shared: Arc<Shared>,
        keeper: Arc<Keeper>,
        source: Source,
        listen: Sender<Vec<SocketAddr>>,
        data: Option<PathBuf>,
    ) -> Self {
        Self(Arc::new(Inner { shared, keeper, source: Mutex::new(source), listen, data }))
    }

    /// This start was a good one, or is ended on purpose.
    pub(super) async fn settle(&self) {
        if let Err(wrong) = self.0.source.lock().await.settled().await {
            self.0.shared.event(format!("a good start cannot be noted on flash: {wrong}"));
        }
    }

    /// Reads the configuration again, for SIGHUP.
    pub(super) async fn reload(&self) {
        let source = self.0.source.lock().await;
        match source.load().await {
            Ok(loaded) => {
                if let Err(wrong) = self.0.can_listen(&loaded.config) {
                    error!("configuration is left as it was: {wrong}");
                    return self.0.shared.event(format!("configuration was refused: {wrong}"));
                }
                let changed = self.0.apply(loaded.config, loaded.sequence).await;
                self.0.apply_secrets(*loaded.secrets);
                self.0.shared.check_credentials();
                info!("configuration read again: {changed}");
            }
            Err(wrong) => {
                error!("configuration is left as it was: {wrong}");
                self.0.shared.event(format!("configuration was refused: {wrong}"));
            }
        }
    }
}

impl Inner {
    /// Whether the addresses that are new can be listened on. One that is the machine's only
    /// tomorrow, or another program's, would leave the gateway deaf, and not start at all next time.
    fn can_listen(&self, config: &Config) -> Result<(), String> {
        let old = self.shared.generation();
        let old = &old.config.gateway.listen;
        for addr in config.gateway.listen.iter().filter(|addr| !old.contains(addr)) {
            match listener::probe(*addr) {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && old.iter().any(|ours| ours.port() == addr.port()) => {}
                Err(error) => return Err(remedy::listening(*addr, &error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Puts a configuration in force; says what changed.
    async fn apply(&self, config: Box<Config>, sequence: u64) -> String {
        let old = self.shared.generation();
        let table = Arc::new(Table::new(&config, Some(&old.table), self.shared.seed));
        let changes = changes(&old.config, &config);
        let mut text = describe(&changes);
        let plugins = changes.plugin_rules_changed || changes.plugins.any();
        let told = changes.plugins.changed.iter().chain(&changes.plugins.added);
        let told: Vec<String> = told.map(|slot| (*slot).to_owned()).collect();
        let listen_changed = old.config.gateway.listen != config.gateway.listen;
        let listen = config.gateway.listen.iter().copied().collect();
        let pseudonym = pseudonym(&config.gateway.via, &self.shared.nonce_key);
        self.shared.replace(Generation {
            number: old.number + 1,
            sequence,
            config,
            pseudonym,
            table,
            verifier: Arc::clone(&old.verifier),
            secrets: Arc::clone(&old.secrets),
        });
        if listen_changed {
            let _ = self.listen.send(listen).await;
        }
        if plugins {
            for note in self.keeper.follow(&self.shared, &old.table, told).await {
                warn!("{note}");
                self.shared.event(note.clone());
                text = format!("{text}; {note}");
            }
        }
        text
    }

    fn apply_secrets(&self, secrets: Secrets) {
        let old = self.shared.generation();
        self.shared.replace(Generation {
            number: old.number + 1,
            sequence: old.sequence,
            config: old.config.clone(),
            table: Arc::clone(&old.table),
            verifier: Arc::new(verifier(&secrets, self.shared.nonce_key)),
            secrets: Arc::new(secrets),
            pseudonym: old.pseudonym.clone(),
        });
        self.keeper.follow_secrets(&self.shared.generation().secrets);
    }

    async fn put_config(&self, toml: String) -> Result<String, Problem> {
        let config = text::parse(&toml)
            .map_err(|wrong| Problem::new(422, wrong.display("config").to_string()))?;
        let source = self.source.lock().await;
        self.can_listen(&config).map_err(|wrong| {
            Problem::new(409, format!("{wrong}: nothing has changed; see gateway.listen"))
        })?;
        let sequence = self.shared.generation().sequence;
        let sequence = source.keep(&config, sequence).await.map_err(not_stored)?;
        let mut changed = self.apply(Box::new(config), sequence).await;
        if let Source::Files { config, .. } = &*source {
            changed.push_str(&format!(
                "; until the restart, since {} is left as it is",
                config.display()
            ));
        }
        info!("configuration taken: {changed}");
        self.shared.check_credentials();
        Ok(changed)
    }

    async fn history(&self) -> Result<Vec<HistoryEntry>, Problem> {
        let Source::Flash { flash, .. } = &*self.source.lock().await else {
            return Err(Problem::new(409, NO_HISTORY));
        };
        let entries = flash.history().await.map_err(|wrong| not_stored(wrong.to_string()))?;
        Ok(entries
            .into_iter()
            .zip(0..)
            .map(|(entry, back)| HistoryEntry {
                back,
                sequence: entry.sequence,
                summary: match entry.fault {
                    Some(fault) => format!("cannot be used: {fault}"),
                    None => format!("{} bytes", entry.bytes),
                },
            })
            .collect())
    }

    async fn rollback(&self, back: u8) -> Result<String, Problem> {
        let source = self.source.lock().await;
        let Source::Flash { flash, .. } = &*source else {
            return Err(Problem::new(409, NO_HISTORY));
        };
        let (config, sequence) = flash
            .rollback(back.into())
            .await
            .map_err(|wrong| Problem::new(404, wrong.to_string()))?;
        let changed = self.apply(config, sequence).await;
        info!("configuration rolled back by {back}: {changed}");
        self.shared.check_credentials();
        Ok(changed)
    }

    async fn change_secrets(
        &self,
        change: impl FnOnce(&mut Secrets) -> Result<(), SecretError>,
    ) -> Result<(), Problem> {
        let source = self.source.lock().await;
        let mut secrets = (*self.shared.generation().secrets).clone();
        change(&mut secrets).map_err(|wrong| {
            let status = if matches!(wrong, SecretError::Unknown) { 404 } else { 422 };
            Problem::new(status, wrong.to_string())
        })?;
        source.keep_secrets(&secrets).await.map_err(not_stored)?;
        self.apply_secrets(secrets);
        self.shared.check_credentials();
        Ok(())
    }
}

const NO_HISTORY: &str =
    "no history can be read: the gateway runs from a text file, or its store cannot be used";

fn not_stored(wrong: String) -> Problem {
    Problem::new(503, format!("not stored, nothing has changed: {wrong}"))
}

fn describe(changes: &Changes<'_>) -> String {
    if changes.is_empty() {
        return "nothing changed".into();
    }
    let mut parts = Vec::new();
    for (kind, part) in
        [("route", &changes.routes), ("origin", &changes.origins), ("plugin", &changes.plugins)]
    {
        for (what, names) in
            [("added", &part.added), ("removed", &part.removed), ("changed", &part.changed)]
        {
            if !names.is_empty() {
                parts.push(format!("{kind} {what}: {}", names.join(", ")));
            }
        }
    }
    let flags = [
        (changes.listen_changed, "gateway.listen"),
        (changes.advertise_changed, "gateway.advertise"),
        (changes.via_changed, "gateway.via"),
        (changes.coalesce_changed, "gateway.coalesce_us"),
        (changes.worker_policy_changed, "gateway.worker_policy"),
        (changes.plugin_rules_changed, "plugins"),
        (changes.limits_changed, "limits"),
    ];
    parts.extend(flags.iter().filter(|(on, _)| *on).map(|(_, name)| format!("{name} changed")));
    if !changes.needs_restart.is_empty() {
        parts.push(format!("in force after a restart: {}", changes.needs_restart.join(", ")));
    }
    parts.join("; ")
}

impl Gateway for Admin {
    fn status(&self) -> Status {
        let shared = &self.0.shared;
        let generation = shared.generation();
        let now = clock::now();
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_s: now.as_millis() / 1000,
            listen: generation.config.gateway.listen.iter().map(ToString::to_string).collect(),
            config_sequence: generation.sequence,
            sessions: shared.admitted(),
            connections: shared.connections.load(Relaxed),
            port_pairs_used: count(shared.ports.in_use()),
            port_pairs: count(shared.ports.total()),
            rss_kib: rss_kib(),
            origins: generation
                .table
                .origins()
                .iter()
                .map(|origin| shared.origin_status(origin, now))
                .collect(),
            workers: shared.pool.handles().iter().map(worker_status).collect(),
            plugins: self.0.plugins(),
            counters: shared.counters(),
            events: shared.events(),
            warnings: shared.warnings(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        self.0.shared.warnings()
    }

    fn sessions(&self) -> Vec<SessionStatus> {
        let now = clock::now();
        self.0.shared.entries().iter().map(|entry| entry.status(now)).collect()
    }

    fn config_text(&self) -> String {
        print::print(&self.0.shared.generation().config)
    }

    fn put_config(&self, toml: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.put_config(toml).await })
    }

    fn history(&self) -> Answer<Vec<HistoryEntry>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.history().await })
    }

    fn rollback(&self, back: u8) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.rollback(back).await })
    }

    fn set_user(&self, name: String, password: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.change_secrets(|secrets| secrets.set_user(&name, &password)).await?;
            Ok(format!("user {name} set"))
        })
    }

    fn remove_user(&self, name: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.change_secrets(|secrets| secrets.remove_user(&name)).await?;
            Ok(format!("user {name} removed"))
        })
    }

    fn set_credential(&self, name: String, credential: Credential) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let Credential { user, password } = &credential;
            inner.change_secrets(|secrets| secrets.set_credential(&name, user, password)).await?;
            Ok(format!("credentials {name} set"))
        })
    }

    fn remove_credential(&self, name: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.change_secrets(|secrets| secrets.remove_credential(&name)).await?;
            Ok(format!("credentials {name} removed"))
        })
    }

    fn set_token(&self, token: Option<String>) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            inner.change_secrets(|secrets| secrets.set_control_token(token.as_deref())).await?;
            Ok(if token.is_some() { "token set".into() } else { "token removed".into() })
        })
    }

    fn token(&self) -> Option<String> {
        let secrets = Arc::clone(&self.0.shared.generation().secrets);
        secrets.control_token.as_ref().map(|token| token.as_str().to_owned())
    }

    fn plugins(&self) -> Vec<PluginStatus> {
        self.0.plugins()
    }

    fn install_plugin(&self, slot: String, upload: Upload) -> Answer<Installed> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.install_plugin(slot, upload).await })
    }

    fn rollback_plugin(&self, slot: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.rollback_plugin(slot).await })
    }

    fn remove_plugin(&self, slot: String) -> Answer<String> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.remove_plugin(slot).await })
    }

    fn probe(&self, ask: Ask) -> Answer<Survey> {
        let inner = Arc::clone(&self.0);
        Box::pin(inner.probe(ask))
    }

    fn doctor(&self) -> Answer<Vec<Finding>> {
        let inner = Arc::clone(&self.0);
        Box::pin(inner.doctor())
    }

    fn retry_origin(&self, name: &str) -> Result<String, Problem> {
        self.0.retry_origin(name)
    }

    fn close_session(&self, id: u64) -> bool {
        close_session(&self.0.shared, id, Fault::Closed)
    }
}

fn worker_status(handle: &crate::pipe::Handle) -> WorkerStatus {
    let load = handle.load();
    WorkerStatus {
        id: handle.id(),
        connections: load.connections.load(Relaxed),
        pipes: load.pipes.load(Relaxed),
        packets_per_s: load.packets_per_s.load(Relaxed),
        busy_permille: u16::try_from(load.busy_permille.load(Relaxed)).unwrap_or(u16::MAX),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Resident memory, in KiB; 0 where the kernel does not tell.
fn rss_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().split(' ').next()?.parse().ok())
        .unwrap_or(0)
}
