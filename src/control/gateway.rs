//! What the control API asks of the gateway behind it.
//!
//! Not in here: HTTP, and any gateway. Tests answer with one that they make up.

use core::{future::Future, pin::Pin};

use super::model::{
    Ask, Credential, Finding, HistoryEntry, Installed, PluginStatus, Problem, SessionStatus,
    Status, Survey,
};

/// An answer that takes time: flash is written on the way.
///
/// The server drives it to its end even when the client has gone, because a write to flash must
/// not be cancelled half way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Problem>> + Send>>;

/// A component that somebody wants in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// The component, at most [`crate::limits::PLUGIN_KIB_MAX`].
    pub component: Vec<u8>,
    /// Text of the signature file that minisign writes.
    pub signature: Option<String>,
    /// Must be larger than that of the one before, unless forced.
    pub serial: Option<u64>,
    /// Take it although it is older, or was rolled back for its faults.
    pub force: bool,
}

/// The running gateway, as the control API sees it.
///
/// Texts in `Ok` are one line for people: what changed.
pub trait Gateway: Send + Sync {
    /// Figures of the whole gateway, its origins and its workers.
    fn status(&self) -> Status;

    /// What the configuration in force needs and is not there, each with its remedy.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// The sessions of now, oldest first.
    fn sessions(&self) -> Vec<SessionStatus>;

    /// The active configuration as TOML, without secrets.
    fn config_text(&self) -> String;

    /// Checks, stores and applies a configuration.
    ///
    /// # Errors
    /// 422 with line, key and what is allowed, when the text is wrong; nothing has changed then.
    fn put_config(&self, toml: String) -> Answer<String>;

    /// The stored configurations, newest first.
    fn history(&self) -> Answer<Vec<HistoryEntry>>;

    /// Goes back by `back` configurations, 1 or more.
    ///
    /// # Errors
    /// 404 when the history is not that long.
    fn rollback(&self, back: u8) -> Answer<String>;

    /// Sets the password of a user who may sign in at the gateway (`auth = "digest"` or `"basic"`).
    fn set_user(&self, name: String, password: String) -> Answer<String>;

    /// Forgets a user.
    ///
    /// # Errors
    /// 404 when there is none of that name.
    fn remove_user(&self, name: String) -> Answer<String>;

    /// Sets what the gateway signs with toward origins that name these credentials.
    fn set_credential(&self, name: String, credential: Credential) -> Answer<String>;

    /// Forgets credentials.
    ///
    /// # Errors
    /// 404 when there are none of that name.
    fn remove_credential(&self, name: String) -> Answer<String>;

    /// Sets the bearer token of the API over TCP; none closes it.
    ///
    /// # Errors
    /// 400 when it is too short to be safe or has other than visible ASCII characters.
    fn set_token(&self, token: Option<String>) -> Answer<String>;

    /// The bearer token of the API over TCP; none: every request over TCP is refused.
    fn token(&self) -> Option<String>;

    /// The slots for plugins, in the order of the configuration; then those that it has no more.
    fn plugins(&self) -> Vec<PluginStatus>;

    /// Checks a component and puts it in force.
    ///
    /// # Errors
    /// 404 when there is no such slot, 422 with the step, the reason and the remedy when the
    /// component is refused; nothing has changed then.
    fn install_plugin(&self, slot: String, upload: Upload) -> Answer<Installed>;

    /// Puts the component in force that was before.
    ///
    /// # Errors
    /// 404 when there is no such slot, 409 when nothing was before.
    fn rollback_plugin(&self, slot: String) -> Answer<String>;

    /// Empties a slot.
    ///
    /// # Errors
    /// 404 when there is no such slot, or it is empty.
    fn remove_plugin(&self, slot: String) -> Answer<String>;

    /// Looks at an origin, or at what may become one, as the gateway sees it: from its machine, with
    /// its credentials.
    ///
    /// # Errors
    /// 404 when there is no origin of that name, 503 when as many are looked at as may be.
    fn probe(&self, ask: Ask) -> Answer<Survey> {
        drop(ask);
        Box::pin(async { Err(Problem::new(503, "this gateway asks no origins")) })
    }

    /// What is wrong with the gateway itself and its machine, worst first.
    fn doctor(&self) -> Answer<Vec<Finding>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    /// Ends the wait of an origin that is down: it is tried at the next occasion.
    ///
    /// # Errors
    /// 404 when there is no origin of that name.
    fn retry_origin(&self, name: &str) -> Result<String, Problem> {
        Err(Problem::new(404, format!("there is no origin {name}")))
    }

    /// Ends a session; false when there is none of that number.
    fn close_session(&self, id: u64) -> bool;
}
