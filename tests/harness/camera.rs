//! The built-in camera as an origin.

use std::{
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use super::{Bench, free_port, peer::Peer, wait_for};

/// A camera that runs.
pub(crate) struct Camera {
    _peer: Peer,
    pub(crate) url: String,
}

impl Camera {
    /// Starts one and waits until it listens.
    pub(crate) fn start(bench: &Bench) -> Self {
        let at = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
        command.args(["camera", "--listen", &at]);
        let peer = Peer::start(bench, "camera", command);
        let addr: SocketAddr = at.parse().unwrap();
        wait_for("camera", Duration::from_secs(10), || TcpStream::connect(addr).ok());
        Self { _peer: peer, url: format!("rtsp://{at}") }
    }
}
