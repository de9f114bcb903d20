//! Asks plugins what a session, or this connection on its behalf, wants to know.
//!
//! What a plugin answers is checked here and in the session, although its host has checked it
//! before: a wrong answer must not become somebody else's session. Not in here: what a fault means
//! for a message (session), and how guests are called (`plugin`).

use core::{net::IpAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use std::borrow::Cow;

use log::{debug, warn};

use super::Inner;
use crate::{
    clock::Instant,
    config::{Policy, Slot},
    limits::{SESSION_ESTIMATE_KBIT, WORKERS_MAX},
    logger::seldom,
    origin::{Consulted, Key, Purpose, Reservation},
    pipe::Worker,
    plugin::hooks::{Client, Decision, Hooks, Message, PipeKey, SessionKey, Verdict, WorkerLoad},
    proxy::plugins::Hook,
    rtsp::Head,
    session::{Input, State},
};

impl Inner {
    /// What the filter in this slot makes of the message in question.
    pub(super) fn filter(&self, slot: Slot, worker: &Worker) -> Input {
        let Some((direction, message)) = self.session.filtering() else {
            return Input::Filtered(Verdict::Fault);
        };
        let question = |hooks: &mut dyn Hooks, slot: &str, client: &Client<'_>| match hooks
            .interested(slot, message)
        {
            true => hooks.on_message(slot, client, direction, message),
            false => Verdict::Pass,
        };
        let verdict = self.ask_as_client(slot, Hook::OnMessage, worker, question);
        let verdict = verdict.unwrap_or(Verdict::Fault);
        if verdict == Verdict::Fault {
            self.shared.count("plugin_filter_faults");
        }
        Input::Filtered(verdict)
    }

    /// What the authenticator in this slot says of the request in question.
    pub(super) fn ask_authenticator(&self, slot: Slot, worker: &Worker) -> Input {
        let Some((bytes, head)) = self.session.deciding() else { return Input::AuthFailed };
        let Ok(parsed) = Head::parse(bytes.get(..head).unwrap_or_default()) else {
            return Input::AuthFailed;
        };
        let method = core::str::from_utf8(parsed.method_bytes()).unwrap_or_default();
        let message = Message { bytes, outline: &parsed.outline(), method };
        let question = |hooks: &mut dyn Hooks, slot: &str, client: &Client<'_>| {
            hooks.authenticate(slot, client, message)
        };
        let decision = self.ask_as_client(slot, Hook::Authenticate, worker, question);
        match decision.unwrap_or(Decision::Fault) {
            Decision::Allow(grant) => {
                debug!("{}: user {} granted for {} s", self.entry.id, grant.user, grant.ttl_s);
                Input::GrantedFor(Duration::from_secs(grant.ttl_s.into()))
            }
            Decision::Deny(status) => Input::DeniedAs(status),
            Decision::Challenge(values) => {
                self.shared.count("auth_challenges");
                Input::Challenge(values)
            }
            Decision::Abstain => Input::DeniedAs(403),
            Decision::Fault => {
                self.shared.count("plugin_auth_faults");
                Input::AuthFailed
            }
        }
    }

    /// The origin that a plugin chooses, with a place where one is needed; none where none does, or where its choice cannot
    /// be had.
    pub(super) fn ask_upstream(
        &self,
        route: usize,
        path: &[u8],
        key: &Key,
        exclude: &[usize],
        (now, purpose): (Instant, Purpose),
        worker: &Worker,
    ) -> Option<Reservation> {
        let table = self.session.table();
        let Policy::Plugin(slot) = table.routes().get(route)?.policy else { return None };
        let plugins = &self.shared.plugins;
        // Of the query nothing: tokens are no matter of a balancer.
        let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
        let path = String::from_utf8_lossy(path);
        let name = table.slot_name(slot);
        let had = plugins.sticky(self.sticky_key(key));
        let consulted = table.consult(route, exclude, (now, purpose), had, |upstreams, sticky| {
            let session = SessionKey {
                client_ip_hash: plugins.keyed(key.client_hash),
                path_hash: plugins.keyed(key.path_hash),
                sticky,
                attempt: u8::try_from(key.attempt).unwrap_or(u8::MAX),
            };
            let question =
                |hooks: &mut dyn Hooks| hooks.pick_upstream(name, &session, &path, upstreams);
            plugins.ask(worker.id(), name, Hook::PickUpstream, question).flatten()
        });
        match consulted {
            Consulted::Chosen(reservation) => Some(reservation),
            Consulted::None => None,
            Consulted::Bad(id) => {
                self.shared.count("plugin_bad_choices");
                if let Some(more) = seldom::once_a_minute("plugin_bad_choices", name) {
                    let session = self.entry.id;
                    warn!("{session}: plugin {name} chose origin {id}, not to be had{more}");
                }
                None
            }
        }
    }

    /// Remembers the origin of this session for the client's next one, where plugins choose.
    pub(super) fn remember_origin(&self, reservation: &Reservation) {
        let table = self.session.table();
        let route = self.session.route().and_then(|route| table.routes().get(route));
        if let Some(Policy::Plugin(_)) = route.map(|route| route.policy) {
            let key = Key::new(self.client_addr.ip().to_canonical(), self.session.path(), 0);
            self.shared.plugins.stick(self.sticky_key(&key), reservation.id());
        }
    }

    fn sticky_key(&self, key: &Key) -> u64 {
        let plugins = &self.shared.plugins;
        plugins.keyed(key.client_hash) ^ plugins.keyed(key.path_hash).rotate_left(1)
    }

    /// The worker that a plugin chooses for a pipe of this session.
    pub(super) fn ask_worker(&self, worker: &Worker) -> Option<u16> {
        let generation = self.shared.generation();
        let slot = generation.config.gateway.worker_policy?;
        let handles = self.shared.pool.handles().iter();
        let loads: heapless::Vec<WorkerLoad, WORKERS_MAX> = handles
            .take(WORKERS_MAX)
            .map(|handle| WorkerLoad {
                id: handle.id(),
                pipes: handle.load().pipes.load(Relaxed),
                kpps: handle.load().packets_per_s.load(Relaxed) / 1000,
                busy_permille: u16::try_from(handle.load().busy_permille.load(Relaxed))
                    .unwrap_or(u16::MAX),
                same_node: handle.id() == worker.id(),
            })
            .collect();
        let key = PipeKey {
            session_hash: self.shared.plugins.keyed(self.entry.id),
            ssrc: None,
            expected_kbit: SESSION_ESTIMATE_KBIT,
        };
        let name = generation.config.plugins.name(slot);
        let ask = |hooks: &mut dyn Hooks| hooks.pick_worker(name, &key, &loads);
        let plugins = &self.shared.plugins;
        let chosen = plugins.ask(worker.id(), name, Hook::PickWorker, ask)??;
        if loads.iter().all(|load| load.id != chosen) {
            self.shared.count("plugin_bad_choices");
            if let Some(more) = seldom::once_a_minute("plugin_bad_workers", name) {
                let session = self.entry.id;
                warn!("{session}: plugin {name} chose worker {chosen}, which there is not{more}");
            }
            return None;
        }
        Some(chosen)
    }

    fn ask_as_client<T>(
        &self,
        slot: Slot,
        hook: Hook,
        worker: &Worker,
        question: impl FnOnce(&mut dyn Hooks, &str, &Client<'_>) -> T,
    ) -> Option<T> {
        let (table, route) = self.session.judged_by();
        let mount = route.and_then(|route| table.routes().get(route));
        let mount = mount.map_or(Cow::Borrowed(""), |route| String::from_utf8_lossy(route.path()));
        let listener = self.listener();
        let client = Client {
            ip: self.client_addr.ip().to_canonical(),
            port: self.client_addr.port(),
            session_hash: (self.session.state() != State::Init)
                .then(|| self.shared.plugins.keyed(self.entry.id)),
            listener: &listener,
            mount: &mount,
        };
        let name = table.slot_name(slot);
        let question = |hooks: &mut dyn Hooks| question(hooks, name, &client);
        self.shared.plugins.ask(worker.id(), name, hook, question)
    }

    /// The address that accepted the client, as the configuration spells it; the very one where the
    /// configuration has it no more.
    fn listener(&self) -> String {
        let accepts = |ip: IpAddr| ip.is_unspecified() || ip.to_canonical() == self.local.ip;
        let generation = self.shared.generation();
        let mut listen = generation.config.gateway.listen.iter();
        let found = listen.find(|addr| addr.port() == self.local_port && accepts(addr.ip()));
        found.map_or_else(
            || core::net::SocketAddr::new(self.local.ip, self.local_port).to_string(),
            ToString::to_string,
        )
    }
}
