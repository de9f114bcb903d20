//! What the control API says, as types: the server prints them, the command line reads them.
//!
//! Not in here: where the figures come from (proxy) and how they travel (HTTP).

use serde::{Deserialize, Serialize};

pub use super::survey::{Ask, Finding, Severity, Survey, SurveyTrack};

/// `GET /v1/status`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Listen addresses.
    pub listen: Vec<String>,
    /// Sequence number of the active configuration.
    pub config_sequence: u64,
    /// Sessions now.
    pub sessions: u32,
    /// Client connections now.
    pub connections: u32,
    /// UDP port pairs in use and in all.
    pub port_pairs_used: u32,
    /// UDP port pairs in all.
    pub port_pairs: u32,
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// The origins.
    pub origins: Vec<OriginStatus>,
    /// The workers.
    pub workers: Vec<WorkerStatus>,
    /// The slots for plugins.
    #[serde(default)]
    pub plugins: Vec<PluginStatus>,
    /// Counters of the whole gateway by name (`sessions_opened`, `dropped_stranger`, …).
    pub counters: Vec<(String, u64)>,
    /// What an operator should know, newest last (fallbacks, refused configs).
    pub events: Vec<String>,
    /// What the configuration needs and is not there, each with its remedy; gone when it is done.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One origin, `GET /v1/origins`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OriginStatus {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// `up`, `failing`, `down` or `unknown`.
    pub health: String,
    /// Why it is not up, in words.
    pub reason: String,
    /// Seconds until it is tried again; 0 when up.
    pub retry_in_s: u32,
    /// Sessions now.
    pub sessions: u32,
    /// Its bound; 0: none.
    pub max_sessions: u32,
    /// Smoothed time to an answer, microseconds.
    pub rtt_us: u32,
    /// Failures among the last answers, per mille.
    pub err_permille: u16,
    /// Media from it, kbit/s.
    pub kbit: u32,
    /// What is wrong with it although it answers.
    #[serde(default)]
    pub troubles: Vec<TroubleStatus>,
}

/// Something that is wrong with an origin that answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleStatus {
    /// A word for scripts: `password`, `path`, `full`, `udp`, `no-media`, `clock`, …
    pub cause: String,
    /// What is wrong.
    pub text: String,
    /// Seconds since it was first met.
    pub since_s: u64,
    /// What to do.
    pub remedy: String,
}

/// One worker thread.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Its number.
    pub id: u16,
    /// Connections it drives.
    pub connections: u32,
    /// Pipes it drives.
    pub pipes: u32,
    /// Packets a second, smoothed.
    pub packets_per_s: u32,
    /// Share of one core that it uses, per mille.
    pub busy_permille: u16,
}

/// One slot for plugins, `GET /v1/plugins`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name, as in the configuration.
    pub slot: String,
    /// `empty`, `trial` (its first minute: few faults bring back the one before), `active`, or
    /// `benched` (not asked for a while, too many faults). Of a slot that is no more in the
    /// configuration: `leaving` (sessions from before still ask it) or `unused` (not loaded).
    pub state: String,
    /// Its last fault, in words.
    pub reason: String,
    /// Name that the plugin gives itself.
    pub name: String,
    /// Version that the plugin gives itself.
    pub version: String,
    /// SHA-256 of the component, hexadecimal.
    pub hash: String,
    /// Serial number that it was installed with; 0: none.
    pub serial: u64,
    /// Another one with each change of a slot; 0: none.
    pub generation: u64,
    /// SHA-256 of the component that a rollback brings back; empty: none.
    pub previous: String,
    /// SHA-256 of one that was rolled back for its faults and is refused until forced; empty: none.
    pub banned: String,
    /// Faults since the start of the gateway.
    pub faults: u64,
    /// Its hooks that were called.
    pub hooks: Vec<HookStatus>,
    /// What its guests count, by name; the names are theirs, checked by the host.
    #[serde(default)]
    pub counters: Vec<(String, u64)>,
    /// What its guests measure, summed over the workers.
    #[serde(default)]
    pub gauges: Vec<(String, i64)>,
    /// Numbers that were not taken: a bad name, another kind, too many.
    #[serde(default)]
    pub dropped_metrics: u64,
    /// Log lines over the quota.
    #[serde(default)]
    pub dropped_lines: u64,
}

/// One hook of a plugin, since the start of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookStatus {
    /// `pick-upstream`, `pick-worker`, `authenticate` or `on-message`.
    pub hook: String,
    /// How often it was called.
    pub calls: u64,
    /// Time of all calls, microseconds.
    pub total_us: u64,
    /// The longest call, microseconds.
    pub longest_us: u64,
}

impl PluginStatus {
    /// Calls of all hooks.
    pub fn calls(&self) -> u64 {
        self.hooks.iter().map(|hook| hook.calls).sum()
    }
}

/// The answer to an upload, `PUT /v1/plugins/{slot}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// What changed, one line for people.
    pub changed: String,
    /// SHA-256 of the component, hexadecimal.
    pub hash: String,
    /// What was done, in order.
    pub phases: Vec<Phase>,
}

/// One step of an upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// What was done.
    pub name: String,
    /// How long it took, microseconds.
    pub us: u64,
}

/// One session, `GET /v1/sessions`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Number of the session in this run of the gateway.
    pub id: u64,
    /// Address and port of the client.
    pub client: String,
    /// The client's User-Agent.
    pub user_agent: String,
    /// Path that was asked for.
    pub path: String,
    /// Name of the origin.
    pub origin: String,
    /// `init`, `ready`, `playing` or `recording`.
    pub state: String,
    /// Transport on the client's side: `udp`, `tcp` or `-`.
    pub client_transport: String,
    /// Transport on the origin's side.
    pub origin_transport: String,
    /// Tracks set up.
    pub tracks: u32,
    /// Seconds since it began.
    pub age_s: u64,
    /// Media downstream, kbit/s.
    pub kbit: u32,
    /// Packets relayed.
    pub packets: u64,
    /// Bytes relayed.
    pub bytes: u64,
    /// RTP packets that the origin's sequence numbers say are missing before the gateway.
    pub lost: u64,
    /// Packets that the gateway dropped, holes that were punched apart.
    pub dropped: u64,
    /// The same by reason, and the holes.
    #[serde(default)]
    pub drops: Drops,
    /// Worker of the connection.
    pub worker: u16,
}

/// Packets that were not relayed, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drops {
    /// From an address that may not send, or on a channel that was not set up.
    pub stranger: u64,
    /// For a peer whose address is not known yet.
    pub no_peer: u64,
    /// Longer than a datagram or the way to the peer can carry.
    pub oversized: u64,
    /// No packets, but holes that a peer punches; not counted as dropped.
    pub absorbed: u64,
    /// For an interleaved peer that does not keep up.
    pub full: u64,
    /// By the kernel: its buffers were full, on the way in or out, or it had no way.
    pub kernel: u64,
}

impl Drops {
    /// All that were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.stranger + self.no_peer + self.oversized + self.full + self.kernel
    }

    /// Each reason with the name of its counter.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u64); 6] {
        [
            ("dropped_stranger", self.stranger),
            ("dropped_no_peer", self.no_peer),
            ("dropped_oversized", self.oversized),
            ("dropped_absorbed", self.absorbed),
            ("dropped_full", self.full),
            ("dropped_kernel", self.kernel),
        ]
    }
}

impl core::ops::AddAssign for Drops {
    fn add_assign(&mut self, other: Self) {
        self.stranger += other.stranger;
        self.no_peer += other.no_peer;
        self.oversized += other.oversized;
        self.absorbed += other.absorbed;
        self.full += other.full;
        self.kernel += other.kernel;
    }
}

/// An error of the control API, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Problem {
    /// Short name of the kind of error.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What went wrong and the remedy.
    pub detail: String,
}

impl Problem {
    /// An error with the name that HTTP gives to `status`.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        let title = match status {
            400 => "bad request",
            401 => "not authorised",
            404 => "not found",
            405 => "method not allowed",
            408 => "too slow",
            409 => "conflict",
            413 => "too large",
            422 => "refused",
            503 => "unavailable",
            _ => "error",
        };
        Self { title: title.to_owned(), status, detail: detail.into() }
    }
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl core::error::Error for Problem {}

/// The answer to a change, `200 OK`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What changed, one line for people.
    pub changed: String,
    /// What is left to do for it to work, each with its remedy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One stored configuration, `GET /v1/config/history`, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// How far back: 0 is the newest.
    pub back: u8,
    /// Its sequence number.
    pub sequence: u64,
    /// What is known of it, one line for people.
    pub summary: String,
}

/// Body of `PUT /v1/secrets/users/{name}`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    /// The password, 1 to 128 bytes.
    pub password: String,
}

/// Body of `PUT /v1/secrets/credentials/{name}`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The user name that the origin knows, 1 to 64 bytes.
    pub user: String,
    /// The password, 1 to 128 bytes.
    pub password: String,
}

/// Body of `PUT /v1/secrets/token`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The bearer token, 16 to 64 visible ASCII characters.
    pub token: String,
}

// Secrets never reach a log by way of `{:?}`.
impl core::fmt::Debug for Password {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Password(hidden)")
    }
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl core::fmt::Debug for Credential {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let password = Password { password: "hunter2".into() };
        let credential = Credential { user: "admin".into(), password: "hunter2".into() };
        let token = Token { token: "hunter2".into() };
        assert!(!format!("{password:?} {credential:?} {token:?}").contains("hunter2"));
    }
}
