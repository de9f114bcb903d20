//! RTP/RTCP port pairs: even and next odd, from a bounded range.
//!
//! Pairs are taken in random order, so that nobody who has seen some can tell the next (RFC 6056): a
//! datagram toward a port that is not known yet cannot be sent. They are taken from the half that has
//! been free the longest, so that late packets of an ended session do not reach a new one. Set-up
//! path only: the lock is never taken for a datagram.

use core::{
    fmt,
    net::{IpAddr, SocketAddr, SocketAddrV6},
};
use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    io,
    net::UdpSocket,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, Once, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::sys;
use crate::limits::{MEDIA_SEND_BUFFER_BYTES, MEDIA_SOCKET_BUFFER_BYTES, PORT_TRIES_MAX};

/// Pairs that nobody holds, those that were freed last at the back.
#[derive(Debug)]
struct Free {
    pairs: VecDeque<u16>,
    /// Keyed from the system's randomness; what it makes of a running number cannot be told from
    /// what it made of those before.
    random: RandomState,
    taken: u64,
}

impl Free {
    fn take(&mut self) -> Option<u16> {
        let choices = self.pairs.len().div_ceil(2);
        self.taken = self.taken.wrapping_add(1);
        let at = self.random.hash_one(self.taken).checked_rem(choices as u64)?;
        self.pairs.swap(0, usize::try_from(at).unwrap_or(0));
        self.pairs.pop_front()
    }
}

/// The pairs of a port range, shared by all sessions.
#[derive(Debug)]
pub struct PortPool {
    free: Mutex<Free>,
    total: usize,
    /// Never bound. The first socket with UDP_GRO and the last one patch the kernel's code, which
    /// stops all cores: with this one open no session's socket is the first or the last.
    _coalesces: Option<UdpSocket>,
}

impl PortPool {
    /// All pairs within `first..=last`; an odd `first` or even `last` is cut off.
    pub fn new(first: u16, last: u16) -> Arc<Self> {
        let even = u32::from(first).next_multiple_of(2).max(2);
        let pairs = (even..u32::from(last)).step_by(2).filter_map(|port| u16::try_from(port).ok());
        let pairs: VecDeque<u16> = pairs.collect();
        let coalesces = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).ok();
        if let Some(socket) = &coalesces {
            let _ = sys::coalesce(socket.as_fd());
        }
        let _coalesces = coalesces.map(UdpSocket::from);
        let total = pairs.len();
        let free = Free { pairs, random: RandomState::new(), taken: 0 };
        Arc::new(Self { total, free: Mutex::new(free), _coalesces })
    }

    /// A pair, any of those unused for long; none when all are taken. It goes back when dropped.
    pub fn take(self: &Arc<Self>) -> Option<PortPair> {
        let rtp = self.free().take()?;
        Some(PortPair { rtp, pool: Arc::clone(self) })
    }

    /// Pairs that sessions hold.
    pub fn in_use(&self) -> usize {
        self.total - self.free().pairs.len()
    }

    /// Pairs in all.
    pub const fn total(&self) -> usize {
        self.total
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pair that is taken; back in its pool when dropped.
#[derive(Debug)]
pub struct PortPair {
    rtp: u16,
    pool: Arc<PortPool>,
}

impl PortPair {
    /// The even port.
    pub const fn rtp(&self) -> u16 {
        self.rtp
    }

    /// The odd port above it.
    pub const fn rtcp(&self) -> u16 {
        self.rtp + 1
    }
}

impl Drop for PortPair {
    fn drop(&mut self) {
        self.pool.free().pairs.push_back(self.rtp);
    }
}

/// Two bound sockets and the pair they hold. Fields drop in order: the sockets are closed before
/// the pair can be taken again.
#[derive(Debug)]
pub struct BoundPair {
    /// Media.
    pub rtp: UdpSocket,
    /// Reports.
    pub rtcp: UdpSocket,
    /// The ports.
    pub pair: PortPair,
    v6: bool,
}

impl BoundPair {
    /// Whether both are IPv6 sockets.
    pub const fn is_v6(&self) -> bool {
        self.v6
    }

    /// The same ports on another address.
    ///
    /// # Errors
    /// Another program holds them there, or no descriptor; the pair is free again then.
    pub fn move_to(self, at: At) -> io::Result<Self> {
        let Self { rtp, rtcp, pair, .. } = self;
        drop((rtp, rtcp));
        Self::on(at, pair).map_err(|(error, _)| error)
    }

    fn on(at: At, pair: PortPair) -> Result<Self, (io::Error, PortPair)> {
        let both = media_socket(at, pair.rtp())
            .and_then(|rtp| socket(at, pair.rtcp()).map(|rtcp| (rtp, rtcp)));
        match both {
            Ok((rtp, rtcp)) => Ok(Self { rtp, rtcp, pair, v6: at.ip.is_ipv6() }),
            Err(error) => Err((error, pair)),
        }
    }
}

/// A local address. One of a single link (fe80::/10) means something together with its interface
/// only; sockets bound so send to that link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The address.
    pub ip: IpAddr,
    /// The interface's number; 0: any.
    pub scope: u32,
}

impl At {
    fn with(self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V4(_) => SocketAddr::new(self.ip, port),
            IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, self.scope).into(),
        }
    }
}

impl From<IpAddr> for At {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope: 0 }
    }
}

impl From<SocketAddr> for At {
    fn from(addr: SocketAddr) -> Self {
        let scope = match addr {
            SocketAddr::V4(_) => 0,
            SocketAddr::V6(addr) => addr.scope_id(),
        };
        Self { ip: addr.ip().to_canonical(), scope }
    }
}

/// Why no pair could be bound.
#[derive(Debug)]
pub enum PortError {
    /// All pairs of the range are taken by sessions.
    Exhausted {
        /// Pairs in the range.
        total: usize,
    },
    /// Other programs hold all the ports that were tried.
    Held {
        /// Pairs tried.
        tries: usize,
    },
    /// The process may open no more descriptors.
    Descriptors(io::Error),
    /// The address cannot be bound.
    Io(io::Error),
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exhausted { total } => {
                write!(f, "all {total} port pairs are in use: widen gateway.media_ports")
            }
            Self::Held { tries } => write!(
                f,
                "other programs hold the {tries} port pairs tried: move gateway.media_ports"
            ),
            Self::Descriptors(error) => {
                write!(f, "no descriptor for a media socket ({error}): raise the limit (ulimit -n)")
            }
            Self::Io(error) => write!(f, "media socket cannot be bound: {error}"),
        }
    }
}

impl core::error::Error for PortError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Descriptors(error) | Self::Io(error) => Some(error),
            Self::Exhausted { .. } | Self::Held { .. } => None,
        }
    }
}

impl From<PortError> for io::Error {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Descriptors(error) | PortError::Io(error) => error,
            out @ (PortError::Exhausted { .. } | PortError::Held { .. }) => {
                Self::new(io::ErrorKind::AddrNotAvailable, out)
            }
        }
    }
}

/// Takes a pair and binds both ports there, passing over pairs that other programs hold.
///
/// # Errors
/// Each way in which ports run out is its own [`PortError`].
pub fn bind(pool: &Arc<PortPool>, at: impl Into<At>) -> Result<BoundPair, PortError> {
    let at = at.into();
    // Pairs found held are kept until the end, else one free pair behind them is never reached.
    let mut held = Vec::new();
    while held.len() < PORT_TRIES_MAX {
        let Some(pair) = pool.take() else {
            let total = pool.total();
            return Err(match held.len() {
                0 => PortError::Exhausted { total },
                tries => PortError::Held { tries },
            });
        };
        match BoundPair::on(at, pair) {
            Ok(bound) => return Ok(bound),
            Err((error, pair)) => match error.raw_os_error() {
                Some(libc::EADDRINUSE | libc::EACCES) => held.push(pair),
                Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                    return Err(PortError::Descriptors(error));
                }
                _ => return Err(PortError::Io(error)),
            },
        }
    }
    Err(PortError::Held { tries: held.len() })
}

/// A socket with room for the bursts of media; reports are few and small.
fn media_socket(at: At, port: u16) -> io::Result<UdpSocket> {
    static SAID: Once = Once::new();
    let socket = socket(at, port)?;
    sys::ask_receive_buffer(socket.as_fd(), MEDIA_SOCKET_BUFFER_BYTES);
    sys::ask_send_buffer(socket.as_fd(), MEDIA_SEND_BUFFER_BYTES);
    let coalesces = sys::coalesce(socket.as_fd());
    SAID.call_once(|| {
        let received = sys::receive_buffer(socket.as_fd());
        let sent = sys::send_buffer(socket.as_fd());
        for (granted, wanted, what, key) in [
            (received, MEDIA_SOCKET_BUFFER_BYTES, "receive", "rmem_max"),
            (sent, MEDIA_SEND_BUFFER_BYTES, "send", "wmem_max"),
        ] {
            if granted < wanted {
                log::warn!(
                    "media sockets get {} KiB of {what} buffer instead of {} KiB: bursts may be \
                     lost; raise net.core.{key} or give CAP_NET_ADMIN",
                    granted / 1024,
                    wanted / 1024
                );
            } else {
                log::info!("media sockets get {} KiB of {what} buffer", granted / 1024);
            }
        }
        if let Err(error) = coalesces {
            log::info!("the kernel coalesces no datagrams (UDP_GRO): {error}");
        }
    });
    Ok(socket)
}

fn socket(at: At, port: u16) -> io::Result<UdpSocket> {
    let address = at.with(port);
    // `Type::nonblocking` and close-on-exec cost no calls of their own.
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    if let Err(error) = sys::report_icmp(socket.as_fd(), at.ip.is_ipv6()) {
        log::debug!("ICMP errors are not counted: {error}");
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipe::test_host;

    #[test]
    fn pairs_are_even_and_next_odd_within_the_range() {
        for (first, last, total) in
            [(20_000, 23_999, 2000), (20_001, 20_004, 1), (5, 5, 0), (9, 3, 0), (65_534, 65_535, 1)]
        {
            let pool = PortPool::new(first, last);
            assert_eq!(pool.total(), total, "{first} to {last}");
            while let Some(pair) = pool.take() {
                assert!(pair.rtp() % 2 == 0 && pair.rtp() >= first && pair.rtcp() <= last);
                core::mem::forget(pair);
            }
        }
        assert_eq!(PortPool::new(0, 1).total(), 0, "port 0 means any port");
    }

    #[test]
    fn the_range_runs_out_and_a_freed_pair_is_used_last() {
        let pool = PortPool::new(24_000, 24_005);
        let first = pool.take().unwrap();
        let port = first.rtp();
        drop(first);
        let order: Vec<PortPair> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!(order.last().unwrap().rtp(), port);
        assert_eq!((pool.in_use(), pool.total()), (3, 3));
        assert!(pool.take().is_none());
        drop(order);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn pairs_come_in_no_order_that_can_be_told_and_rest_before_they_come_again() {
        let order = || {
            let pool = PortPool::new(20_000, 23_999);
            core::iter::from_fn(|| pool.take())
                .map(|pair| pair.rtp())
                .take(1000)
                .collect::<Vec<_>>()
        };
        let (one, two) = (order(), order());
        assert_ne!(one, two, "another run, another order");
        let steps = one.windows(2).filter(|pair| pair[1] == pair[0] + 2).count();
        assert!(steps < 20, "{steps} of 1000 pairs were next to the one before");
        let pool = PortPool::new(20_000, 20_199);
        for _ in 0..1000 {
            let pair = pool.take().unwrap();
            let rtp = pair.rtp();
            drop(pair);
            let next: Vec<_> = (0..25).filter_map(|_| pool.take()).collect();
            assert!(next.iter().all(|pair| pair.rtp() != rtp), "a pair comes again at once");
        }
    }

    #[test]
    fn ten_thousand_takings_leave_the_pool_as_it_was() {
        let pool = PortPool::new(20_000, 23_999);
        for _ in 0..10_000 {
            let held: Vec<_> = (0..3).filter_map(|_| pool.take()).collect();
            assert_eq!(pool.in_use(), held.len());
        }
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn a_pair_with_a_port_that_another_program_holds_is_passed_over() {
        let pool = PortPool::new(25_000, 25_003);
        let other = UdpSocket::bind((test_host(), 25_001)).unwrap();
        let bound = bind(&pool, test_host()).unwrap();
        assert_eq!(bound.rtp.local_addr().unwrap().port(), 25_002);
        assert_eq!(bound.rtcp.local_addr().unwrap().port(), 25_003);
        assert_eq!(pool.in_use(), 1, "the pair passed over is free again");
        assert!(matches!(bind(&pool, test_host()), Err(PortError::Held { tries: 1 })));
        drop((bound, other));
        let all = (bind(&pool, test_host()).unwrap(), bind(&pool, test_host()).unwrap());
        assert!(matches!(bind(&pool, test_host()), Err(PortError::Exhausted { total: 2 })));
        drop(all);
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn an_address_of_another_host_is_an_error_of_its_own_and_leaks_no_pair() {
        let pool = PortPool::new(25_100, 25_103);
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(matches!(bind(&pool, elsewhere), Err(PortError::Io(_))));
        assert_eq!(pool.in_use(), 0);
    }

    #[test]
    fn errors_say_the_cause_and_the_remedy() {
        let io = || io::Error::from_raw_os_error(libc::EMFILE);
        for error in [
            PortError::Exhausted { total: 2000 },
            PortError::Held { tries: 64 },
            PortError::Descriptors(io()),
            PortError::Io(io()),
        ] {
            let text = error.to_string();
            assert!(!text.ends_with('.') && text.contains(':'), "{text}");
        }
    }
}
