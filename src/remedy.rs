//! What to do about errors of the system that an operator meets.
//!
//! Not in here: errors of the configuration (`config::rules`), of origins (`origin`).

use core::net::SocketAddr;
use std::io::{Error, ErrorKind};

/// Why nothing can listen on an address, in one line with the remedy.
pub fn listening(addr: SocketAddr, error: &Error) -> String {
    let remedy = match error.kind() {
        ErrorKind::PermissionDenied if addr.port() < 1024 => {
            ": a port below 1024 needs root or CAP_NET_BIND_SERVICE, which `setcap \
             cap_net_bind_service=+ep` gives the program and AmbientCapabilities= of systemd a service"
        }
        ErrorKind::AddrInUse => ": another program has it, `ss -ltnp` names it",
        ErrorKind::AddrNotAvailable => {
            ": this machine has no such address, `ip address` lists them"
        }
        _ => "",
    };
    format!("cannot listen on {addr}: {error}{remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_common_cause_has_its_remedy() {
        let rtsp = SocketAddr::from(([0, 0, 0, 0], 554));
        let high = SocketAddr::from(([0, 0, 0, 0], 8554));
        for (addr, kind, word) in [
            (rtsp, ErrorKind::PermissionDenied, "CAP_NET_BIND_SERVICE"),
            (rtsp, ErrorKind::AddrInUse, "ss -ltnp"),
            (high, ErrorKind::AddrNotAvailable, "ip address"),
        ] {
            let told = listening(addr, &Error::from(kind));
            assert!(told.contains(word) && told.contains(&addr.to_string()), "{told}");
        }
        let told = listening(high, &Error::from(ErrorKind::PermissionDenied));
        assert!(!told.contains("CAP_NET"), "{told}");
    }
}
