//! Hosts: network namespaces joined by veth pairs, made and removed by the test. Needs root.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV6},
    os::fd::AsRawFd,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::wait_for;

/// One host: a network namespace and its address.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    namespace: String,
    pub(crate) address: Ipv4Addr,
}

impl Host {
    /// A command on this host; on this machine when there is none.
    pub(crate) fn command(host: Option<&Self>, program: &str) -> Command {
        match host {
            None => Command::new(program),
            Some(host) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", &host.namespace, program]);
                command
            }
        }
    }

    /// Does something of the test's own there: sockets that it makes stay on this host.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("a namespace");
        let inside = || {
            enter(&namespace);
            what()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("what was done there"))
    }

    /// The same; here when there is no host.
    pub(crate) fn on<T: Send>(host: Option<&Self>, what: impl FnOnce() -> T + Send) -> T {
        match host {
            None => what(),
            Some(host) => host.within(what),
        }
    }

    /// The link-local address of an interface there, once nobody else may have it (RFC 4862 5.4).
    pub(crate) fn link_local(&self, interface: &str) -> SocketAddrV6 {
        let look = || {
            let all = fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
            all.lines().find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                // Address, index, prefix, scope (20: the link), flags (80: permanent, and no other).
                let [bits, index, _, "20", "80", name] = words[..] else { return None };
                let ip = u128::from_str_radix(bits, 16).ok()?.into();
                let scope = u32::from_str_radix(index, 16).ok()?;
                (name == interface).then(|| SocketAddrV6::new(ip, 0, 0, scope))
            })
        };
        self.within(|| wait_for("link-local address", Duration::from_secs(10), look))
    }

    /// Whether somebody listens on a TCP port there.
    pub(crate) fn listens(&self, port: u16) -> bool {
        let mut command = Self::command(Some(self), "ss");
        let output = command.args(["-Hltn", &format!("sport = :{port}")]).output().expect("ss");
        !output.stdout.is_empty()
    }
}

/// A player's network and an origin's network with a gateway between them that does not route:
/// what does not go through edgeweir does not arrive.
#[derive(Debug)]
pub(crate) struct TwoNetworks {
    pub(crate) player: Host,
    /// The gateway, with its address on the player's side.
    pub(crate) gateway: Host,
    pub(crate) origin: Host,
}

impl TwoNetworks {
    /// Makes them; panics without root.
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let tag = format!("ew{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let host = |role: &str, address| Host { namespace: format!("{tag}{role}"), address };
        let made = Self {
            player: host("p", Ipv4Addr::new(198, 51, 100, 2)),
            gateway: host("g", Ipv4Addr::new(198, 51, 100, 1)),
            origin: host("o", Ipv4Addr::new(203, 0, 113, 2)),
        };
        for host in [&made.player, &made.gateway, &made.origin] {
            ip(&format!("netns add {}", host.namespace));
            ip(&format!("-n {} link set lo up", host.namespace));
        }
        made.join(&made.player, "198.51.100.2/24", "toplayer", "198.51.100.1/24");
        made.join(&made.origin, "203.0.113.2/24", "toorigin", "203.0.113.1/24");
        made
    }

    /// `add`s or `del`etes the gateway's address on the player's side.
    pub(crate) fn gateway_address(&self, what: &str) {
        let Host { namespace, address } = &self.gateway;
        ip(&format!("-n {namespace} address {what} {address}/24 dev toplayer"));
    }

    /// The gateway's port toward the player sends so many Mbit/s, and drops what its queue of so many
    /// KiB does not hold. Called again, the rate changes and what waits goes on.
    pub(crate) fn slow_port(&self, mbit: u32, queue_kib: u32) {
        let on =
            format!("netns exec {} tc qdisc replace dev toplayer root", self.gateway.namespace);
        ip(&format!("{on} tbf rate {mbit}mbit burst 64kb limit {queue_kib}kb"));
    }

    fn join(&self, outer: &Host, outer_address: &str, name: &str, inner_address: &str) {
        let (outer, inner) = (&outer.namespace, &self.gateway.namespace);
        ip(&format!("-n {inner} link add {name} type veth peer name eth0 netns {outer}"));
        ip(&format!("-n {inner} address add {inner_address} dev {name}"));
        ip(&format!("-n {outer} address add {outer_address} dev eth0"));
        ip(&format!("-n {inner} link set {name} up"));
        ip(&format!("-n {outer} link set eth0 up"));
    }
}

impl Drop for TwoNetworks {
    fn drop(&mut self) {
        for host in [&self.player, &self.gateway, &self.origin] {
            let _ = Command::new("ip").args(["netns", "del", &host.namespace]).status();
        }
    }
}

/// This thread is on that host from now on.
#[allow(unsafe_code, reason = "setns has no safe form in std")]
fn enter(namespace: &File) {
    // SAFETY: the call takes a descriptor, which is open, and a flag; it changes this thread only.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

fn ip(words: &str) {
    let output = Command::new("ip")
        .args(words.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("ip: {error}: run tests/setup.sh"));
    assert!(
        output.status.success(),
        "`ip {words}`: {}: tests with several hosts need root",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}
