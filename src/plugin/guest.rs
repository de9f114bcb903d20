//! One instance of a component: typed calls with budgets, answers checked.
//!
//! A call either returns what the interface allows or a [`Fault`]; after a fault the instance is
//! good for nothing and must be dropped.
//!
//! Not in here: who keeps instances, and what a fault means.

use std::{fmt, sync::Arc};

use serde::Serialize;
use wasmtime::{
    Engine, Store, Trap, UpdateDeadline,
    component::{self, Component, InstancePre, Resource},
};

use super::{
    bindings::{authenticator, balancer, filter, lifecycle, types},
    calls::{Budget, Held, State, linker},
    engine::{Ticker, thread_cpu_ns},
    fit::misfit,
    hooks::{
        Client, Decision, Direction, Message, PipeKey, SessionKey, Upstream, Verdict, WorkerLoad,
    },
    message::Borrower,
    told::{self, LastIp},
    values::{self, Interest, shown},
};
use crate::limits::{
    BALANCER_BUDGET_MS, GUEST_COPY_MAX_BYTES, HOOK_BUDGET_MS, INIT_BUDGET_MS, LIFECYCLE_BUDGET_MS,
    PLUGIN_INFO_MAX_BYTES, PLUGIN_REASON_MAX_BYTES, PLUGIN_SCHEMA_MAX_BYTES, SNAPSHOT_MAX_BYTES,
    WARM_UP_BUDGET_MS,
};

/// Why a guest has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It took more CPU time than the hook has.
    Budget(u64),
    /// It trapped: the text says how.
    Trap(String),
    /// It answered what the interface does not allow.
    Value(String),
    /// An exported function has another type than the interface says: which, and both types.
    Type(String),
    /// The hook is not exported.
    Missing(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Budget(ms) => write!(f, "it took more than {ms} ms of CPU time"),
            Self::Trap(how) => write!(f, "it trapped: {how}"),
            Self::Value(what) => write!(f, "it answered what is not allowed: {what}"),
            Self::Type(what) => write!(f, "an export is not as the interface says: {what}"),
            Self::Missing(hook) => write!(f, "it does not export {hook}"),
        }
    }
}

/// The hooks that a component exports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Exports {
    /// Interface `balancer`.
    pub balancer: bool,
    /// Interface `authenticator`.
    pub authenticator: bool,
    /// Interface `filter`.
    pub filter: bool,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// 1 to 32 bytes.
    pub name: String,
    /// 1 to 32 bytes.
    pub version: String,
    /// JSON Schema of its configuration; may be empty.
    pub config_schema: String,
}

/// A component that fits the interface, ready to be instantiated.
pub(super) struct Prepared {
    pre: InstancePre<State>,
    lifecycle: lifecycle::GuestIndices,
    balancer: Option<balancer::GuestIndices>,
    authenticator: Option<authenticator::GuestIndices>,
    filter: Option<filter::GuestIndices>,
}

impl Prepared {
    /// Finds the exported hooks and fits the imports.
    ///
    /// # Errors
    /// What does not fit, in one line.
    pub(super) fn new(
        engine: &Engine,
        component: &Component,
        exports: Exports,
    ) -> Result<Self, String> {
        let text = |error: wasmtime::Error| shown_error(&error);
        let pre =
            linker(engine).and_then(|linker| linker.instantiate_pre(component)).map_err(text)?;
        let hook = |wanted: bool| wanted.then_some(&pre);
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(&pre).map_err(text)?,
            balancer: hook(exports.balancer)
                .map(balancer::GuestIndices::new)
                .transpose()
                .map_err(text)?,
            authenticator: hook(exports.authenticator)
                .map(authenticator::GuestIndices::new)
                .transpose()
                .map_err(text)?,
            filter: hook(exports.filter)
                .map(filter::GuestIndices::new)
                .transpose()
                .map_err(text)?,
            pre,
        })
    }
}

/// One instance.
pub(super) struct Instance {
    store: Store<State>,
    ticker: Arc<Ticker>,
    exported: Exported,
    /// While it warms up; else 0.
    least_budget_ms: u64,
    interest: Arc<Interest>,
    ip: LastIp,
    /// What the last call was told, kept for its capacity.
    upstreams: Vec<balancer::Upstream>,
    workers: Vec<balancer::Worker>,
}

impl Instance {
    /// Makes an instance; it is not initialised yet.
    ///
    /// # Errors
    /// [`Fault`], of its start function or its limits.
    pub(super) fn new(
        prepared: &Prepared,
        ticker: &Arc<Ticker>,
        held: Arc<Held>,
        number: u32,
    ) -> Result<Self, Fault> {
        let mut store = Store::new(prepared.pre.engine(), State::new(held, number));
        store.limiter(|state| &mut state.bounds);
        store.set_hostcall_fuel(GUEST_COPY_MAX_BYTES);
        store.epoch_deadline_callback(|mut context| {
            match context.data_mut().budget.spend(thread_cpu_ns()) {
                true => Err(OverBudget.into()),
                false => Ok(UpdateDeadline::Continue(1)),
            }
        });
        arm(&mut store, INIT_BUDGET_MS);
        let ticking = ticker.enter();
        let failed = |error: wasmtime::Error| fault(&error, INIT_BUDGET_MS);
        let instance = prepared.pre.instantiate(&mut store).map_err(failed)?;
        let found = load(prepared, &mut store, &instance);
        let exported =
            found.map_err(|interface| match misfit(&mut store, &instance, interface) {
                Some(function) => Fault::Type(format!("{interface}.{function}")),
                None => Fault::Type(interface.to_owned()),
            })?;
        drop(ticking);
        Ok(Self {
            store,
            ticker: ticker.clone(),
            exported,
            least_budget_ms: 0,
            interest: Arc::default(),
            ip: LastIp::default(),
            upstreams: Vec::new(),
            workers: Vec::new(),
        })
    }

    /// What it says of itself.
    pub(super) fn describe(&mut self) -> Result<Info, Fault> {
        let said = self
            .call(LIFECYCLE_BUDGET_MS, |store, exported| exported.lifecycle.call_describe(store))?;
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let fits = |text: &str| (1..=PLUGIN_INFO_MAX_BYTES).contains(&text.len());
        if !fits(&said.name) || !said.name.bytes().all(name) {
            return Err(Fault::Value("name: 1 to 32 letters, digits and `-`".to_owned()));
        }
        if !fits(&said.version) || said.version.contains(char::is_control) {
            return Err(Fault::Value("version: 1 to 32 bytes without control characters".into()));
        }
        if said.config_schema.len() > PLUGIN_SCHEMA_MAX_BYTES {
            return Err(Fault::Value("config-schema: at most 16 KiB".to_owned()));
        }
        Ok(Info { name: said.name, version: said.version, config_schema: said.config_schema })
    }

    /// Prepares it, and asks a filter what it wants to see. The inner error is its own refusal.
    pub(super) fn init(
        &mut self,
        config: &str,
        handover: Option<&(String, Vec<u8>)>,
    ) -> Result<Result<(), String>, Fault> {
        let state =
            handover.map(|(version, state)| lifecycle::Handover { from_version: version, state });
        let said = self.call(INIT_BUDGET_MS, |store, exported| {
            exported.lifecycle.call_init(store, config.as_bytes(), state)
        })?;
        match said {
            Ok(()) => {}
            Err(lifecycle::InitError::BadConfig(why)) => {
                return Ok(Err(format!("bad configuration: {}", reason(&why))));
            }
            Err(lifecycle::InitError::Unsupported(why)) => {
                return Ok(Err(format!("unsupported: {}", reason(&why))));
            }
        }
        if self.exported.filter.is_some() {
            let said =
                self.call(LIFECYCLE_BUDGET_MS, |store, exported| match &exported.filter {
                    Some(hook) => hook.call_interests(store),
                    None => Err(wasmtime::Error::msg("no filter")),
                })?;
            self.interest = Arc::new(Interest::checked(said).map_err(Fault::Value)?);
            self.store.data_mut().message.set_interest(self.interest.clone());
        }
        Ok(Ok(()))
    }

    /// Its test of itself. The inner error is its own verdict.
    pub(super) fn probe(&mut self) -> Result<Result<(), String>, Fault> {
        let said =
            self.call(INIT_BUDGET_MS, |store, exported| exported.lifecycle.call_probe(store))?;
        Ok(said.map_err(|why| reason(&why)))
    }

    /// What it leaves its successor.
    pub(super) fn snapshot(&mut self) -> Result<Vec<u8>, Fault> {
        let state = self
            .call(LIFECYCLE_BUDGET_MS, |store, exported| exported.lifecycle.call_snapshot(store))?;
        if state.len() > SNAPSHOT_MAX_BYTES {
            return Err(Fault::Value(format!("snapshot of {} bytes, allowed 65536", state.len())));
        }
        Ok(state)
    }

    /// Its linear memory, bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.store.data().bounds.memory_bytes
    }

    /// What its filter wants to see.
    pub(super) fn interest(&self) -> &Arc<Interest> {
        &self.interest
    }

    /// See [`super::hooks::Hooks::pick_upstream`].
    pub(super) fn pick_upstream(
        &mut self,
        key: &SessionKey,
        path: &str,
        upstreams: &[Upstream],
    ) -> Result<Option<u32>, Fault> {
        let mut told = core::mem::take(&mut self.upstreams);
        told.clear();
        told.extend(upstreams.iter().map(told::upstream));
        let key = balancer::SessionKey {
            client_ip_hash: key.client_ip_hash,
            path_hash: key.path_hash,
            sticky: key.sticky,
            attempt: key.attempt,
        };
        let picked = self.call(BALANCER_BUDGET_MS, |store, exported| match &exported.balancer {
            Some(hook) => hook.call_pick_upstream(store, key, path, &told),
            None => Err(Absent("balancer").into()),
        })?;
        self.upstreams = told;
        let Some(id) = picked else { return Ok(None) };
        match upstreams.iter().find(|upstream| upstream.id == id) {
            Some(upstream) if upstream.healthy => Ok(Some(id)),
            Some(_) => Err(Fault::Value(format!("upstream {id}, which is not healthy"))),
            None => Err(Fault::Value(format!("upstream {id}, which is not in the list"))),
        }
    }

    /// See [`super::hooks::Hooks::pick_worker`].
    pub(super) fn pick_worker(
        &mut self,
        key: &PipeKey,
        workers: &[WorkerLoad],
    ) -> Result<Option<u16>, Fault> {
        let mut told = core::mem::take(&mut self.workers);
        told.clear();
        told.extend(workers.iter().map(told::worker));
        let key = balancer::PipeKey {
            session_hash: key.session_hash,
            ssrc: key.ssrc,
            expected_kbit: key.expected_kbit,
        };
        let picked = self.call(BALANCER_BUDGET_MS, |store, exported| match &exported.balancer {
            Some(hook) => hook.call_pick_worker(store, key, &told),
            None => Err(Absent("balancer").into()),
        })?;
        self.workers = told;
        match picked {
            Some(id) if !workers.iter().any(|worker| worker.id == id) => {
                Err(Fault::Value(format!("worker {id}, which is not in the list")))
            }
            picked => Ok(picked),
        }
    }

    /// See [`super::hooks::Hooks::authenticate`].
    pub(super) fn authenticate(
        &mut self,
        client: &Client<'_>,
        message: Message<'_>,
    ) -> Result<Decision, Fault> {
        let ip = self.ip.of(client.ip);
        let client = told::client(client, &ip);
        self.store.data_mut().message.lend(&message, Borrower::Authenticator);
        let said = self.call(HOOK_BUDGET_MS, |store, exported| match &exported.authenticator {
            Some(hook) => hook.call_authenticate(store, client, Resource::new_borrow(0)),
            None => Err(Absent("authenticator").into()),
        })?;
        values::decision(said).map_err(Fault::Value)
    }

    /// See [`super::hooks::Hooks::on_message`].
    pub(super) fn on_message(
        &mut self,
        client: &Client<'_>,
        direction: Direction,
        message: Message<'_>,
    ) -> Result<Verdict, Fault> {
        let ip = self.ip.of(client.ip);
        let client = told::client(client, &ip);
        let direction = match direction {
            Direction::ClientToUpstream => types::Direction::ClientToUpstream,
            Direction::UpstreamToClient => types::Direction::UpstreamToClient,
        };
        self.store.data_mut().message.lend(&message, Borrower::Filter);
        let said = self.call(HOOK_BUDGET_MS, |store, exported| match &exported.filter {
            Some(hook) => hook.call_on_message(store, client, direction, Resource::new_borrow(0)),
            None => Err(Absent("filter").into()),
        })?;
        let edited = self.store.data().message.edited();
        self.store.data_mut().message.take_back();
        match values::verdict(said).map_err(Fault::Value)? {
            Verdict::Pass => {
                Ok(edited.map_or(Verdict::Pass, |(bytes, head)| Verdict::Edited { bytes, head }))
            }
            verdict => Ok(verdict),
        }
    }

    /// Lets calls take [`WARM_UP_BUDGET_MS`] where they have less.
    pub(super) fn warming_up<T>(&mut self, calls: impl FnOnce(&mut Self) -> T) -> T {
        self.least_budget_ms = WARM_UP_BUDGET_MS;
        let said = calls(self);
        self.least_budget_ms = 0;
        said
    }

    fn call<T>(
        &mut self,
        budget_ms: u64,
        call: impl FnOnce(&mut Store<State>, &Exported) -> wasmtime::Result<T>,
    ) -> Result<T, Fault> {
        let budget_ms = budget_ms.max(self.least_budget_ms);
        arm(&mut self.store, budget_ms);
        let _ticking = self.ticker.enter();
        call(&mut self.store, &self.exported).map_err(|error| fault(&error, budget_ms))
    }
}

/// The functions of an instance.
struct Exported {
    lifecycle: lifecycle::Guest,
    balancer: Option<balancer::Guest>,
    authenticator: Option<authenticator::Guest>,
    filter: Option<filter::Guest>,
}

/// The functions of an instance; the error is the interface that has another type.
fn load(
    prepared: &Prepared,
    store: &mut Store<State>,
    instance: &component::Instance,
) -> Result<Exported, &'static str> {
    let lifecycle = prepared.lifecycle.load(&mut *store, instance).map_err(|_| "lifecycle")?;
    let (mut balancer, mut authenticator, mut filter) = (None, None, None);
    if let Some(hook) = &prepared.balancer {
        balancer = Some(hook.load(&mut *store, instance).map_err(|_| "balancer")?);
    }
    if let Some(hook) = &prepared.authenticator {
        authenticator = Some(hook.load(&mut *store, instance).map_err(|_| "authenticator")?);
    }
    if let Some(hook) = &prepared.filter {
        filter = Some(hook.load(&mut *store, instance).map_err(|_| "filter")?);
    }
    Ok(Exported { lifecycle, balancer, authenticator, filter })
}

fn arm(store: &mut Store<State>, budget_ms: u64) {
    store.data_mut().budget = Budget::of_ms(budget_ms);
    store.set_epoch_deadline(1);
}

/// The call was ended for its CPU time.
#[derive(Debug)]
struct OverBudget;

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("over budget")
    }
}

impl core::error::Error for OverBudget {}

/// A hook was called that is not there.
#[derive(Debug)]
struct Absent(&'static str);

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl core::error::Error for Absent {}

fn fault(error: &wasmtime::Error, budget_ms: u64) -> Fault {
    if error.downcast_ref::<OverBudget>().is_some() {
        return Fault::Budget(budget_ms);
    }
    if let Some(Absent(hook)) = error.downcast_ref::<Absent>() {
        return Fault::Missing(hook);
    }
    match error.downcast_ref::<Trap>() {
        Some(trap) => Fault::Trap(shown(&trap.to_string())),
        None => Fault::Trap(shown_error(error)),
    }
}

/// An error of wasmtime on one line: what happened, not where.
pub(super) fn shown_error(error: &wasmtime::Error) -> String {
    let parts: Vec<String> = error.chain().map(|part| reason(&part.to_string())).collect();
    reason(&parts.join(": "))
}

fn reason(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if line.len() + c.len_utf8() > PLUGIN_REASON_MAX_BYTES {
            break;
        }
        line.push(c);
    }
    line
}
