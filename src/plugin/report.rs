//! What the host tells operators: reports, refusals, lists.
//!
//! Not in here: how they are shown (`control`, `cli`).

use core::fmt;

use serde::Serialize;

/// A component to be installed.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'a> {
    /// The component.
    pub wasm: &'a [u8],
    /// Content of its `.minisig`.
    pub signature: Option<&'a str>,
    /// Counts up with each release of a plugin; none: as in the signature's trusted comment
    /// (`serial:7`), or 0.
    pub serial: Option<u64>,
    /// Installs an older serial, and a component that was rolled back for its faults.
    pub force: bool,
    /// The slot's `[plugin.config]` as a JSON object.
    pub config: &'a str,
}

/// A plugin that serves now, and how it got there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The slot.
    pub slot: String,
    /// SHA-256 of the component, hexadecimal.
    pub hash: String,
    /// As the plugin calls itself.
    pub name: String,
    /// As the plugin calls itself.
    pub version: String,
    /// Its serial; 0: none.
    pub serial: u64,
    /// Bytes of the component.
    pub bytes: usize,
    /// Bytes of its code.
    pub code_bytes: usize,
    /// Hooks that it exports.
    pub hooks: Vec<&'static str>,
    /// What it imports.
    pub imports: Vec<String>,
    /// Each phase with its wall time, in order.
    pub phases: Vec<Phase>,
    /// Methods of requests that its filter wants to see; `*`: all.
    pub requests: Vec<String>,
    /// Methods whose answers its filter wants to see; `*`: all.
    pub answers: Vec<String>,
    /// What an instance costs.
    pub costs: super::Costs,
    /// What the hooks did with made-up arguments.
    pub samples: Vec<super::Sample>,
}

/// A phase of an install.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name.
    pub phase: &'static str,
    /// Wall time, microseconds.
    pub us: u64,
}

/// Why a plugin was not taken. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Where it stopped: a word such as `signature`, `compile`, `init`.
    pub step: &'static str,
    /// Why.
    pub reason: String,
    /// What helps.
    pub remedy: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(step: &'static str, reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { step, reason: reason.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.step, self.reason, self.remedy)
    }
}

impl core::error::Error for Refusal {}

/// A slot, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotInfo {
    /// Its name.
    pub slot: String,
    /// `empty`, `trial`, `active` or `benched`.
    pub state: &'static str,
    /// As the plugin calls itself; empty when nothing serves.
    pub name: String,
    /// As the plugin calls itself; empty when nothing serves.
    pub version: String,
    /// SHA-256 of what serves, hexadecimal; empty when nothing serves.
    pub hash: String,
    /// SHA-256 of what is installed, whether it serves or not; empty: nothing.
    pub kept: String,
    /// Its serial; 0: none.
    pub serial: u64,
    /// Number of what serves: one more with each swap of any slot; 0: nothing serves.
    pub generation: u64,
    /// Hooks that it exports.
    pub hooks: Vec<&'static str>,
    /// SHA-256 of what a rollback brings back; empty: nothing.
    pub previous: String,
    /// SHA-256 of what was rolled back for its faults; empty: nothing.
    pub banned: String,
    /// Calls since the start.
    pub calls: u64,
    /// Faults since the start.
    pub faults: u64,
    /// Text of the last fault of what serves; empty: none.
    pub last_fault: String,
    /// Keys and bytes in its table.
    pub kv: (usize, usize),
    /// Log lines over the quota.
    pub dropped_lines: u64,
    /// Calls for metrics that were not allowed.
    pub dropped_metrics: u64,
}

/// Something that happened to a plugin without anybody asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Milliseconds since the gateway's start.
    pub at_ms: u64,
    /// What happened, with the slot's name.
    pub text: String,
}
