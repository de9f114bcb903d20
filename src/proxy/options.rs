//! What `edgeweir run` is told on the command line.

use core::time::Duration;
use std::path::PathBuf;

/// Options of [`super::run`].
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Configuration as text, for development.
    pub config: Option<PathBuf>,
    /// Store with configuration and secrets.
    pub flash: Option<PathBuf>,
    /// Configuration as text for a store that never held one; only beside `flash`.
    pub first_config: Option<PathBuf>,
    /// Users and credentials as text; only beside `config`.
    pub secrets: Option<PathBuf>,
    /// Place of the control socket.
    pub control: PathBuf,
    /// Directory for plugins; none: see `--help`.
    pub data: Option<PathBuf>,
    /// Directory of plugins that were compiled with the image; none: see `--help`.
    pub image_plugins: Option<PathBuf>,
    /// Device of a hardware watchdog.
    pub watchdog: Option<PathBuf>,
    /// What whoever starts the gateway has to say to operators.
    pub note: Option<String>,
    /// A start that lives so long is a good one.
    pub healthy_after: Duration,
}
