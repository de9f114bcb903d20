//! The table of a slot: small, bounded, common to all its instances, older than any of them.
//!
//! Not in here: flash. The table is gone when the gateway ends.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    clock::Instant,
    limits::{KV_KEY_MAX_BYTES, KV_KEYS_MAX, KV_MAX_BYTES, KV_VALUE_MAX_BYTES},
};

/// The table of one slot.
#[derive(Debug, Default)]
pub(super) struct Kv(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    entries: HashMap<Box<str>, Entry>,
    /// Keys and values together.
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Box<[u8]>,
    /// Milliseconds since the start; none: it stays.
    until: Option<u64>,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now.as_millis())
    }
}

impl Kv {
    /// The value, unless it has expired.
    pub(super) fn get(&self, key: &str, now: Instant) -> Option<Vec<u8>> {
        let table = self.lock();
        table.entries.get(key).filter(|entry| !entry.is_over(now)).map(|entry| entry.value.to_vec())
    }

    /// Sets or replaces a value. `ttl_s` 0: it stays.
    ///
    /// # Errors
    /// The bound that is broken; the table is as before.
    pub(super) fn set(
        &self,
        key: &str,
        value: &[u8],
        ttl_s: u32,
        now: Instant,
    ) -> Result<(), String> {
        self.lock().put(key, value, until(ttl_s, now), now)
    }

    /// Removes a value.
    pub(super) fn delete(&self, key: &str) {
        self.lock().remove(key);
    }

    /// Adds to a number; the sum. `ttl_s` counts for a new key only.
    ///
    /// # Errors
    /// The bound that is broken, or what is no number; the table is as before.
    pub(super) fn incr(&self, key: &str, by: i64, ttl_s: u32, now: Instant) -> Result<i64, String> {
        let mut table = self.lock();
        let known = table.entries.get(key).filter(|entry| !entry.is_over(now));
        let (old, until) = match known {
            Some(entry) => {
                let bytes: [u8; 8] =
                    entry.value[..].try_into().map_err(|_| "the value is no number".to_owned())?;
                (i64::from_le_bytes(bytes), entry.until)
            }
            None => (0, until(ttl_s, now)),
        };
        let sum = old.checked_add(by).ok_or("the sum is over 64 bits")?;
        table.put(key, &sum.to_le_bytes(), until, now)?;
        Ok(sum)
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.lock() = Table::default();
    }

    /// Keys, and bytes of keys and values.
    pub(super) fn size(&self) -> (usize, usize) {
        let table = self.lock();
        (table.entries.len(), table.bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing in here panics half-way; a poisoned table is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn until(ttl_s: u32, now: Instant) -> Option<u64> {
    (ttl_s > 0).then(|| now.as_millis().saturating_add(u64::from(ttl_s) * 1000))
}

impl Table {
    fn put(
        &mut self,
        key: &str,
        value: &[u8],
        until: Option<u64>,
        now: Instant,
    ) -> Result<(), String> {
        if !(1..=KV_KEY_MAX_BYTES).contains(&key.len()) {
            return Err(format!("a key has 1 to {KV_KEY_MAX_BYTES} bytes"));
        }
        if value.len() > KV_VALUE_MAX_BYTES {
            return Err(format!("a value has at most {KV_VALUE_MAX_BYTES} bytes"));
        }
        if !self.has_room(key, value) {
            self.sweep(now);
        }
        if !self.has_room(key, value) {
            return Err(format!("the table is full: {KV_KEYS_MAX} keys, {KV_MAX_BYTES} bytes"));
        }
        self.remove(key);
        self.bytes += key.len() + value.len();
        self.entries.insert(key.into(), Entry { value: value.into(), until });
        Ok(())
    }

    fn has_room(&self, key: &str, value: &[u8]) -> bool {
        let old = self.entries.get(key);
        let freed = old.map_or(0, |entry| key.len() + entry.value.len());
        let keys = self.entries.len() + usize::from(old.is_none());
        keys <= KV_KEYS_MAX && self.bytes - freed + key.len() + value.len() <= KV_MAX_BYTES
    }

    fn sweep(&mut self, now: Instant) {
        let bytes = &mut self.bytes;
        self.entries.retain(|key, entry| {
            let over = entry.is_over(now);
            if over {
                *bytes -= key.len() + entry.value.len();
            }
            !over
        });
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= key.len() + entry.value.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000);
    const LATER: Instant = Instant::from_millis(4_000);

    #[test]
    fn values_live_as_long_as_they_were_given() {
        let kv = Kv::default();
        kv.set("a", b"1", 0, NOW).unwrap();
        kv.set("b", b"2", 3, NOW).unwrap();
        assert_eq!(kv.get("b", Instant::from_millis(3_999)), Some(b"2".to_vec()));
        assert_eq!((kv.get("a", LATER), kv.get("b", LATER)), (Some(b"1".to_vec()), None));
        kv.delete("a");
        kv.delete("a");
        assert_eq!(kv.get("a", NOW), None);
    }

    #[test]
    fn keys_and_values_keep_to_their_bounds() {
        let kv = Kv::default();
        let key = |bytes: usize| "k".repeat(bytes);
        assert!(kv.set(&key(64), &[0; 4096], 0, NOW).is_ok());
        assert!(kv.set(&key(65), b"", 0, NOW).is_err());
        assert!(kv.set("", b"", 0, NOW).is_err());
        assert!(kv.set("k", &[0; 4097], 0, NOW).is_err());
        assert_eq!(kv.size(), (1, 64 + 4096));
    }

    #[test]
    fn a_full_table_refuses_and_takes_what_replaces_or_has_expired() {
        let kv = Kv::default();
        for at in 0..KV_KEYS_MAX {
            kv.set(&format!("{at:04}"), b"x", 1, NOW).unwrap();
        }
        assert!(kv.set("more", b"x", 0, NOW).is_err());
        assert!(kv.set("0000", b"y", 1, NOW).is_ok());
        assert!(kv.set("more", b"x", 0, LATER).is_ok());
        assert_eq!(kv.size(), (1, 5));

        let kv = Kv::default();
        for at in 0..63 {
            kv.set(&format!("{at:04}"), &[0; 4096], 0, NOW).unwrap();
        }
        let left = KV_MAX_BYTES - kv.size().1;
        assert!(kv.set("last", &vec![0; left - 4], 0, NOW).is_ok());
        assert_eq!(kv.size().1, KV_MAX_BYTES);
        assert!(kv.set("x", b"", 0, NOW).is_err());
        assert!(kv.set("last", b"", 0, NOW).is_ok() && kv.set("x", b"", 0, NOW).is_ok());
    }

    #[test]
    fn numbers_add_up_and_overflow_is_an_error() {
        let kv = Kv::default();
        assert_eq!(kv.incr("n", 5, 3, NOW), Ok(5));
        assert_eq!(kv.incr("n", -7, 100, NOW), Ok(-2));
        assert_eq!(kv.incr("n", 1, 0, LATER), Ok(1), "the time to live is that of the first");
        kv.set("n", &i64::MAX.to_le_bytes(), 0, NOW).unwrap();
        assert!(kv.incr("n", 1, 0, NOW).is_err());
        kv.set("t", b"text", 0, NOW).unwrap();
        assert!(kv.incr("t", 1, 0, NOW).is_err());
        assert_eq!(kv.get("t", NOW), Some(b"text".to_vec()));
    }
}
