//! What operators ask about origins and the gateway, and what was found.
//!
//! Not in here: who looks (`probe::survey`, `proxy::doctor`).

use serde::{Deserialize, Serialize};

/// Something that is wrong, or worth to know: `GET /v1/doctor`, and in a [`Survey`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: `origin NAME`, `clock`, `plugin SLOT`, …
    pub about: String,
    /// A word for scripts: `password`, `path`, `udp`, `clock`, …
    pub cause: String,
    /// What was found.
    pub text: String,
    /// What to do.
    pub remedy: String,
}

/// How bad a finding is; the worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work.
    Error,
    /// Something works, and not as it should, or not for long.
    Warning,
    /// Good to know.
    #[default]
    Note,
}

/// Body of `POST /v1/probe`: an origin of the configuration, or a URL.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Name of an origin, which is asked with its stored credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Path and query at that origin, `/…`; none: the one that its routes lead to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// In place of an origin: `rtsp://host[:port][/path]`, without user information.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// User for that URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password for that URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl core::fmt::Debug for Ask {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ask").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// What one look at a camera or recorder found, the answer to `POST /v1/probe`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// What was asked for, without user and password.
    pub url: String,
    /// Who made it, where that shows.
    pub vendor: String,
    /// Its Server header.
    pub server: String,
    /// How it asks for a password: `digest`, `basic` or nothing.
    pub asks: String,
    /// Methods that it takes.
    pub methods: Vec<String>,
    /// Milliseconds from connecting to the description.
    pub described_ms: u64,
    /// Its tracks.
    pub tracks: Vec<SurveyTrack>,
    /// Whether media came over UDP; none: not tried.
    pub udp: Option<bool>,
    /// Whether media came interleaved.
    pub tcp: Option<bool>,
    /// What is wrong, worst first.
    pub findings: Vec<Finding>,
}

/// One track of a [`Survey`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurveyTrack {
    /// `video`, `audio`, `application`, …
    pub kind: String,
    /// Encoding name, as `H264`; empty: unknown.
    pub codec: String,
}
