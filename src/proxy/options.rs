//! What `edgeweir run` is told on the command line.

use std::path::PathBuf;

/// Options of [`super::run`].
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Configuration as text, for development.
    pub config: Option<PathBuf>,
    /// Store with configuration and secrets.
    pub flash: Option<PathBuf>,
    /// Users and credentials as text; only beside `config`.
    pub secrets: Option<PathBuf>,
    /// Place of the control socket.
    pub control: PathBuf,
}
