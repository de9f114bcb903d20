//! What guests may ask of the host: the imports of `edgeweir:plugin`, each bounded.
//!
//! Not in here: the tables and checks themselves (`kv`, `meters`, `keys`, `message`).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use wasmtime::{
    ResourceLimiter, StoreLimits, StoreLimitsBuilder,
    component::{HasSelf, Linker, Resource},
};

use super::{
    bindings::{
        host_clock, host_credentials, host_kv, host_log, host_metrics, host_random, types,
        types::{EditError, Header},
    },
    keys::Keys,
    kv::Kv,
    message::{Current, Lent},
    meters::{Meters, line},
};
use crate::{
    clock,
    limits::{
        GUEST_INSTANCES_MAX, GUEST_LOG_LINES_PER_S, GUEST_MEMORIES_MAX, GUEST_MEMORY_MAX_BYTES,
        GUEST_RANDOM_MAX_BYTES, GUEST_TABLE_ELEMENTS_MAX, GUEST_TABLES_MAX,
    },
};

/// What the host holds for a slot: older than any instance, common to all of them.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The slot's name.
    pub slot: String,
    /// Its table.
    pub kv: Kv,
    /// Its numbers, and the quota of its log lines.
    pub meters: Meters,
    /// The gateway's secrets.
    pub keys: Arc<Keys>,
    /// Where lines go in place of the log, while a plugin is tried.
    pub lines: Option<Mutex<Vec<String>>>,
}

/// One instance's side of the host.
pub(super) struct State {
    pub(super) bounds: Bounds,
    pub(super) budget: Budget,
    pub(super) message: Current,
    held: Arc<Held>,
    /// Which of the slot's instances it is.
    instance: u32,
}

/// Bounds on memory and tables, and what was taken of it.
pub(super) struct Bounds {
    limits: StoreLimits,
    /// Size of the linear memory, bytes.
    pub(super) memory_bytes: usize,
}

impl ResourceLimiter for Bounds {
    fn memory_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> Said<bool> {
        let allowed = self.limits.memory_growing(now, wanted, most)?;
        if allowed {
            self.memory_bytes = self.memory_bytes.max(wanted);
        }
        Ok(allowed)
    }

    fn table_growing(&mut self, now: usize, wanted: usize, most: Option<usize>) -> Said<bool> {
        self.limits.table_growing(now, wanted, most)
    }

    fn instances(&self) -> usize {
        self.limits.instances()
    }

    fn tables(&self) -> usize {
        self.limits.tables()
    }

    fn memories(&self) -> usize {
        self.limits.memories()
    }
}

/// CPU time of a call.
#[derive(Debug, Default)]
pub(super) struct Budget {
    limit_ns: u64,
    used_ns: u64,
    /// CPU time of the thread at the last tick within the call.
    seen_ns: Option<u64>,
}

impl Budget {
    /// So many milliseconds, and what passes before the first tick.
    pub(super) const fn of_ms(ms: u64) -> Self {
        Self { limit_ns: ms * 1_000_000, used_ns: 0, seen_ns: None }
    }

    /// Books at a tick what was used since the last one; whether all of it is more than allowed.
    ///
    /// Time between two ticks counts for the whole budget at most, so that it alone ends no call: on a
    /// virtual machine the kernel books what the host took away as the thread's own. A guest that
    /// goes on and on meets the next tick.
    pub(super) fn spend(&mut self, thread_ns: u64) -> bool {
        let seen = self.seen_ns.replace(thread_ns).unwrap_or(thread_ns);
        self.used_ns += thread_ns.saturating_sub(seen).min(self.limit_ns);
        self.used_ns > self.limit_ns
    }
}

impl State {
    pub(super) fn new(held: Arc<Held>, instance: u32) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(GUEST_MEMORY_MAX_BYTES)
            .table_elements(GUEST_TABLE_ELEMENTS_MAX)
            .instances(GUEST_INSTANCES_MAX)
            .tables(GUEST_TABLES_MAX)
            .memories(GUEST_MEMORIES_MAX)
            .build();
        let (budget, message) = (Budget::default(), Current::default());
        Self { bounds: Bounds { limits, memory_bytes: 0 }, budget, message, held, instance }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.held.meters.forget(self.instance);
    }
}

/// Everything that a guest may import.
///
/// # Errors
/// None that is not a mistake of ours.
pub(super) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_log::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_clock::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_random::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_kv::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_metrics::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    host_credentials::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
    Ok(linker)
}

type Said<T> = wasmtime::Result<T>;

impl types::Host for State {}

impl types::HostMessage for State {
    fn is_request(&mut self, _: Resource<Lent>) -> Said<bool> {
        Ok(self.message.is_request())
    }

    fn method(&mut self, _: Resource<Lent>) -> Said<String> {
        Ok(self.message.method())
    }

    fn uri(&mut self, _: Resource<Lent>) -> Said<String> {
        Ok(self.message.uri())
    }

    fn status(&mut self, _: Resource<Lent>) -> Said<Option<u16>> {
        Ok(self.message.status())
    }

    fn cseq(&mut self, _: Resource<Lent>) -> Said<u32> {
        Ok(self.message.cseq())
    }

    fn header(&mut self, _: Resource<Lent>, name: String) -> Said<Option<Vec<u8>>> {
        Ok(self.message.header(&name))
    }

    fn headers(&mut self, _: Resource<Lent>) -> Said<Vec<Header>> {
        Ok(self.message.headers())
    }

    fn body_type(&mut self, _: Resource<Lent>) -> Said<Option<String>> {
        Ok(self.message.body_type())
    }

    fn body_len(&mut self, _: Resource<Lent>) -> Said<u32> {
        Ok(u32::try_from(self.message.body_len()).unwrap_or(u32::MAX))
    }

    fn body(&mut self, _: Resource<Lent>) -> Said<Vec<u8>> {
        Ok(self.message.body())
    }

    fn set_header(&mut self, _: Resource<Lent>, header: Header) -> Said<Result<(), EditError>> {
        Ok(self.message.set_header(header))
    }

    fn add_header(&mut self, _: Resource<Lent>, header: Header) -> Said<Result<(), EditError>> {
        Ok(self.message.add_header(header))
    }

    fn remove_header(&mut self, _: Resource<Lent>, name: String) -> Said<Result<(), EditError>> {
        Ok(self.message.remove_header(&name))
    }

    fn remove_headers(
        &mut self,
        _: Resource<Lent>,
        names: Vec<String>,
    ) -> Said<Result<(), EditError>> {
        Ok(self.message.remove_headers(&names))
    }

    fn set_uri(&mut self, _: Resource<Lent>, uri: String) -> Said<Result<(), EditError>> {
        Ok(self.message.set_uri(uri))
    }

    fn replace_body(
        &mut self,
        _: Resource<Lent>,
        kind: String,
        body: Vec<u8>,
    ) -> Said<Result<(), EditError>> {
        Ok(self.message.replace_body(kind, body))
    }

    fn drop(&mut self, _: Resource<Lent>) -> Said<()> {
        Ok(())
    }
}

impl host_log::Host for State {
    fn log(&mut self, level: host_log::Level, text: String) -> Said<()> {
        if let Some(lines) = &self.held.lines {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() < GUEST_LOG_LINES_PER_S as usize {
                lines.push(line(&text));
            }
            return Ok(());
        }
        let level = match level {
            host_log::Level::Trace => log::Level::Trace,
            host_log::Level::Debug => log::Level::Debug,
            host_log::Level::Info => log::Level::Info,
            host_log::Level::Warn => log::Level::Warn,
            host_log::Level::Error => log::Level::Error,
        };
        if log::log_enabled!(level) && self.held.meters.may_log(clock::now()) {
            log::log!(level, "plugin {}: {}", self.held.slot, line(&text));
        }
        Ok(())
    }
}

impl host_clock::Host for State {
    fn monotonic_ms(&mut self) -> Said<u64> {
        Ok(clock::now().as_millis())
    }

    fn unix_ms(&mut self) -> Said<u64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl host_random::Host for State {
    fn next(&mut self) -> Said<u64> {
        getrandom::u64().map_err(|error| wasmtime::Error::msg(error.to_string()))
    }

    fn fill(&mut self, n: u32) -> Said<Vec<u8>> {
        if n > GUEST_RANDOM_MAX_BYTES {
            return Err(wasmtime::Error::msg(format!("random fill({n}): at most 256 bytes")));
        }
        let mut bytes = vec![0; n as usize];
        getrandom::fill(&mut bytes).map_err(|error| wasmtime::Error::msg(error.to_string()))?;
        Ok(bytes)
    }
}

impl host_kv::Host for State {
    fn get(&mut self, key: String) -> Said<Option<Vec<u8>>> {
        Ok(self.held.kv.get(&key, clock::now()))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_s: u32) -> Said<Result<(), String>> {
        Ok(self.held.kv.set(&key, &value, ttl_s, clock::now()))
    }

    fn delete(&mut self, key: String) -> Said<()> {
        self.held.kv.delete(&key);
        Ok(())
    }

    fn incr(&mut self, key: String, by: i64, ttl_s: u32) -> Said<Result<i64, String>> {
        Ok(self.held.kv.incr(&key, by, ttl_s, clock::now()))
    }
}

impl host_metrics::Host for State {
    fn counter_add(&mut self, name: String, by: u64) -> Said<()> {
        self.held.meters.counter_add(&name, by);
        Ok(())
    }

    fn gauge_set(&mut self, name: String, value: i64) -> Said<()> {
        self.held.meters.gauge_set(&name, self.instance, value);
        Ok(())
    }
}

impl host_credentials::Host for State {
    fn digest_ok(
        &mut self,
        user: String,
        realm: String,
        nonce: String,
        method: String,
        uri: String,
        said: String,
    ) -> Said<Option<bool>> {
        Ok(self.held.keys.digest_ok(&user, &realm, &nonce, &method, &uri, &said))
    }

    fn basic_ok(&mut self, user: String, password: String) -> Said<Option<bool>> {
        Ok(self.held.keys.basic_ok(&user, &password))
    }

    fn hmac_sha256(&mut self, key: String, data: Vec<u8>) -> Said<Option<Vec<u8>>> {
        Ok(self.held.keys.hmac(&key, &data).map(Vec::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_call_ends_when_it_has_used_more_than_its_budget() {
        let mut budget = Budget::of_ms(3);
        let over: Vec<bool> = (100..106).map(|ms| budget.spend(ms * MS)).collect();
        assert_eq!(over, [false, false, false, false, true, true]);
        let mut exact = Budget::of_ms(2);
        assert!(!exact.spend(0) && !exact.spend(MS) && !exact.spend(2 * MS));
        assert!(exact.spend(2 * MS + 1), "one nanosecond past it");
    }

    #[test]
    fn time_that_was_taken_away_between_two_ticks_ends_no_call() {
        let mut budget = Budget::of_ms(5);
        assert!(!budget.spend(0) && !budget.spend(90 * MS));
        assert!(budget.spend(90 * MS + 1), "but the call goes on, past the next tick");
    }
}
