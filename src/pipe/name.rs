//! Socket addresses as the kernel reads and writes them.

#![allow(unsafe_code)] // a union of the two structs that the kernel may write

use core::{
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// The address of nobody.
pub(super) const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// A socket address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    pub(super) const fn empty() -> Self {
        // SAFETY: both structs are plain integers, for which zero is a value.
        unsafe { mem::zeroed() }
    }

    pub(super) fn from_address(address: SocketAddr, v6: bool) -> (Self, libc::socklen_t) {
        match address {
            SocketAddr::V4(v4) if !v6 => {
                let mut name = Self::empty();
                name.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                (name, size_of::<libc::sockaddr_in>() as libc::socklen_t)
            }
            SocketAddr::V4(v4) => {
                let mapped = v4.ip().to_ipv6_mapped();
                Self::from_v6(SocketAddrV6::new(mapped, v4.port(), 0, 0))
            }
            SocketAddr::V6(v6) => Self::from_v6(v6),
        }
    }

    fn from_v6(address: SocketAddrV6) -> (Self, libc::socklen_t) {
        let name = Self {
            v6: libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            },
        };
        (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
    }

    /// The address that the kernel wrote, `len` bytes of it.
    pub(super) fn to_address(self, len: libc::socklen_t) -> SocketAddr {
        // SAFETY: every bit pattern is a value of both fields, the union was zeroed before the
        // kernel wrote to it, and the family (at the same place in both) says which one it wrote.
        unsafe {
            if len as usize >= size_of::<libc::sockaddr_in6>()
                && self.v6.sin6_family == libc::AF_INET6 as libc::sa_family_t
            {
                let ip = Ipv6Addr::from(self.v6.sin6_addr.s6_addr);
                let port = u16::from_be(self.v6.sin6_port);
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.v6.sin6_scope_id))
            } else if len as usize >= size_of::<libc::sockaddr_in>()
                && self.v4.sin_family == libc::AF_INET as libc::sa_family_t
            {
                let ip = Ipv4Addr::from(self.v4.sin_addr.s_addr.to_ne_bytes());
                SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(self.v4.sin_port)))
            } else {
                NOWHERE
            }
        }
    }
}
