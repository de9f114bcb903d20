//! One client among others: who is counted together.

use core::net::{IpAddr, Ipv4Addr};

/// One client, whatever its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// This machine: 127.0.0.1 or ::1.
    Machine,
    /// An address of IPv4.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address: one host may have all addresses behind them.
    V6(u64),
}

impl Peer {
    /// The one with this address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(Ipv4Addr::LOCALHOST) => Self::Machine,
            IpAddr::V6(ip) if ip.is_loopback() => Self::Machine,
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_peers_and_so_is_a_prefix_of_64_bits() {
        let of = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_eq!((of("::1"), of("127.0.0.1")), (Peer::Machine, Peer::Machine));
        assert_ne!(of("127.0.1.1"), Peer::Machine);
    }
}
