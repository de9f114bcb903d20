//! What guests are told: the hooks' plain types as those of the interface.
//!
//! Not in here: messages, which are lent (`message`), and what a guest says (`values`).

use core::net::IpAddr;

use super::{
    bindings::{balancer, types},
    hooks::{Client, Upstream, WorkerLoad},
};

pub(super) fn upstream(upstream: &Upstream) -> balancer::Upstream {
    balancer::Upstream {
        id: upstream.id,
        weight: upstream.weight,
        healthy: upstream.healthy,
        draining: upstream.draining,
        sessions: upstream.sessions,
        max_sessions: upstream.max_sessions,
        rtt_us: upstream.rtt_us,
        err_permille: upstream.err_permille,
        out_kbit: upstream.out_kbit,
    }
}

pub(super) fn worker(worker: &WorkerLoad) -> balancer::Worker {
    balancer::Worker {
        id: worker.id,
        pipes: worker.pipes,
        kpps: worker.kpps,
        busy_permille: worker.busy_permille,
        same_node: worker.same_node,
    }
}

pub(super) fn client<'a>(client: &Client<'a>, ip: &'a str) -> types::Client<'a> {
    types::Client {
        ip,
        port: client.port,
        tls: false,
        session_hash: client.session_hash,
        listener: client.listener,
        mount: client.mount,
    }
}

/// The address of the last client as text: a session asks many times.
#[derive(Debug, Default)]
pub(super) struct LastIp(Option<(IpAddr, IpText)>);

/// An address as text. An IPv6 one that holds an IPv4 one in decimals is the longest.
pub(super) type IpText = heapless::String<45>;

impl LastIp {
    /// The text of an address.
    pub(super) fn of(&mut self, ip: IpAddr) -> IpText {
        match &self.0 {
            Some((last, text)) if *last == ip => text.clone(),
            _ => self.0.insert((ip, text_of(ip))).1.clone(),
        }
    }
}

fn text_of(ip: IpAddr) -> IpText {
    use core::fmt::Write as _;
    let mut text = IpText::new();
    // The longest fits.
    let _ = write!(text, "{ip}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_its_own_address_and_the_longest_fits() {
        let mut last = LastIp::default();
        let all = "0123:4567:89ab:cdef:0123:4567:89ab:cdef ::ffff:192.0.2.255 192.0.2.7 192.0.2.7";
        for text in all.split(' ') {
            let ip: IpAddr = text.parse().unwrap();
            assert_eq!(last.of(ip).as_str(), ip.to_string());
        }
        assert_eq!(last.of(IpAddr::V6(core::net::Ipv6Addr::from([0xff; 16]))).len(), 39);
    }
}
