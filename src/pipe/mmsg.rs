//! Datagrams in batches: `recvmmsg` and `sendmmsg`.
//!
//! One [`Slots`] belongs to a worker and serves all its sockets; each slot takes any datagram that
//! UDP can carry, and only pages that were once used cost memory. Sending borrows from the slots:
//! nothing is copied, nothing is allocated. Not in here: who may send and where to (relay).
//!
//! An ICMP error (port unreachable and the like) surfaces at the next call on the socket without
//! anything having been sent or received: it is counted, and the same call is made once more.

#![allow(unsafe_code)] // recvmmsg and sendmmsg have no safe form in std or socket2

use core::{
    ffi::c_int,
    mem::{self, MaybeUninit},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    ptr,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use crate::limits::BATCH_DATAGRAMS;

/// Room for one datagram, or later for 64 KiB of them coalesced by the kernel (GRO). One byte more
/// than UDP carries would show truncation; the rest keeps slots from falling into the same sets of
/// the cache, as exact powers of two do.
const SLOT_BYTES: usize = 65_536 + 1344;
/// Entries read from a socket's error queue at one go.
const ERRORS_PER_DRAIN: usize = 64;
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// What one call received: the batch buffer of a worker.
pub struct Slots {
    bytes: Vec<u8>,
    from: [SocketAddr; BATCH_DATAGRAMS],
    len: [usize; BATCH_DATAGRAMS],
    count: usize,
    icmp: u64,
}

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl Slots {
    /// An empty batch; 1 MiB of address space of which only used pages are ever touched.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SLOT_BYTES * BATCH_DATAGRAMS],
            from: [NOWHERE; BATCH_DATAGRAMS],
            len: [0; BATCH_DATAGRAMS],
            count: 0,
            icmp: 0,
        }
    }

    /// The datagrams of the last [`recv_batch`], each with its source.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.bytes.chunks_exact(SLOT_BYTES);
        slots
            .zip(&self.from)
            .zip(&self.len)
            .take(self.count)
            .map(|((slot, from), len)| (*from, slot.get(..*len).unwrap_or_default()))
    }

    /// ICMP errors met while receiving since the last time this was asked.
    pub fn take_icmp(&mut self) -> u64 {
        mem::take(&mut self.icmp)
    }
}

/// One datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Out<'a> {
    /// Where to.
    pub to: SocketAddr,
    /// The payload.
    pub bytes: &'a [u8],
}

impl Out<'_> {
    /// Nothing to nobody: fills arrays before they are used.
    pub const NONE: Self = Self { to: NOWHERE, bytes: &[] };
}

/// What became of the datagrams of one [`send_batch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Their payload in bytes.
    pub bytes: u64,
    /// Datagrams dropped since the socket's send buffer or the device queue was full.
    pub full: u64,
    /// Datagrams dropped since they are longer than the way allows.
    pub oversized: u64,
    /// Datagrams that the kernel refused for another reason (no route, filtered), also when asked twice.
    pub failed: u64,
    /// ICMP errors met on the way; not a loss by themselves.
    pub icmp: u64,
}

/// Takes up to [`BATCH_DATAGRAMS`] datagrams without waiting. Fewer than that means that the
/// socket is empty; there is no need to ask again.
///
/// # Errors
/// Only what makes the socket useless (`EBADF`, `ENOTSOCK`, `ENOMEM`); ICMP errors are counted.
pub fn recv_batch(socket: &impl AsFd, slots: &mut Slots) -> io::Result<usize> {
    let fd = socket.as_fd();
    slots.count = 0;
    // Each turn either ends or has taken an error off the socket, which another host can cause at
    // will: hence the bound.
    for _ in 0..4 {
        match recv_once(fd, slots) {
            Ok(count) => return Ok(count),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN) => {
                    // Readable but empty: an error that was already told may still be queued.
                    slots.icmp += drain_errors(fd);
                    return Ok(0);
                }
                Some(code) if is_icmp(code) => slots.icmp += drain_errors(fd).max(1),
                _ => return Err(error),
            },
        }
    }
    Ok(0)
}

/// Sends all, in order, without waiting. `v6` says whether the socket is an IPv6 one: it reaches
/// IPv4 addresses in their mapped form.
pub fn send_batch(socket: &impl AsFd, v6: bool, out: &[Out<'_>]) -> Sent {
    let fd = socket.as_fd();
    let mut sent = Sent::default();
    for chunk in out.chunks(BATCH_DATAGRAMS) {
        send_chunk(fd, v6, chunk, &mut sent);
    }
    sent
}

fn send_chunk(fd: BorrowedFd<'_>, v6: bool, mut rest: &[Out<'_>], sent: &mut Sent) {
    let mut retried = false;
    while let Some(first) = rest.first() {
        match send_once(fd, v6, rest) {
            Ok(count) => {
                let (done, left) = rest.split_at(count.clamp(1, rest.len()));
                sent.datagrams += done.len() as u64;
                sent.bytes += done.iter().map(|out| out.bytes.len() as u64).sum::<u64>();
                rest = left;
                retried = false;
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                    sent.full += rest.len() as u64;
                    return;
                }
                Some(code) if is_icmp(code) && !retried => {
                    sent.icmp += drain_errors(fd).max(1);
                    retried = true;
                }
                code => {
                    let too_long = code == Some(libc::EMSGSIZE) && !first.bytes.is_empty();
                    *(if too_long { &mut sent.oversized } else { &mut sent.failed }) += 1;
                    rest = rest.get(1..).unwrap_or_default();
                    retried = false;
                }
            },
        }
    }
}

/// Errors that arrive as ICMP from elsewhere, or look the same.
const fn is_icmp(code: c_int) -> bool {
    matches!(
        code,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::ENETDOWN
            | libc::ECONNRESET
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EACCES
    )
}

/// A socket address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl Name {
    const fn empty() -> Self {
        // SAFETY: both structs are plain integers, for which zero is a value.
        unsafe { mem::zeroed() }
    }

    fn from_address(address: SocketAddr, v6: bool) -> (Self, libc::socklen_t) {
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
    fn to_address(self, len: libc::socklen_t) -> SocketAddr {
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

fn recv_once(fd: BorrowedFd<'_>, slots: &mut Slots) -> io::Result<usize> {
    let mut names = [Name::empty(); BATCH_DATAGRAMS];
    let mut parts = [MaybeUninit::<libc::iovec>::uninit(); BATCH_DATAGRAMS];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); BATCH_DATAGRAMS];
    let buffers = slots.bytes.chunks_exact_mut(SLOT_BYTES);
    for (((buffer, name), part), header) in
        buffers.zip(&mut names).zip(&mut parts).zip(&mut headers)
    {
        part.write(libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: SLOT_BYTES });
        let name_len = size_of::<Name>() as libc::socklen_t;
        header.write(message((&raw mut *name).cast(), name_len, part.as_mut_ptr()));
    }
    // SAFETY: all headers were written just above (the three arrays and the buffer have
    // BATCH_DATAGRAMS parts each); each points to one name, one iovec and one slot, disjoint and
    // alive until after the call; the lengths are theirs.
    let received = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            BATCH_DATAGRAMS as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    let filled = headers.iter().zip(&names).zip(slots.from.iter_mut().zip(&mut slots.len));
    for ((header, name), (from, len)) in filled.take(count) {
        // SAFETY: written above, for every index of the array.
        let header = unsafe { header.assume_init_ref() };
        *from = name.to_address(header.msg_hdr.msg_namelen);
        *len = header.msg_len as usize;
    }
    slots.count = count.min(BATCH_DATAGRAMS);
    Ok(slots.count)
}

/// Sends the first [`BATCH_DATAGRAMS`] of `out`; returns how many the kernel took.
fn send_once(fd: BorrowedFd<'_>, v6: bool, out: &[Out<'_>]) -> io::Result<usize> {
    let mut names = [MaybeUninit::<Name>::uninit(); BATCH_DATAGRAMS];
    let mut parts = [MaybeUninit::<libc::iovec>::uninit(); BATCH_DATAGRAMS];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); BATCH_DATAGRAMS];
    let count = out.len().min(BATCH_DATAGRAMS);
    for (((out, name), part), header) in
        out.iter().zip(&mut names).zip(&mut parts).zip(&mut headers)
    {
        let (address, name_len) = Name::from_address(out.to, v6);
        let name = name.write(address);
        part.write(libc::iovec {
            iov_base: out.bytes.as_ptr().cast_mut().cast(),
            iov_len: out.bytes.len(),
        });
        header.write(message((&raw mut *name).cast(), name_len, part.as_mut_ptr()));
    }
    // SAFETY: the first `count` headers were written just above; each points to a name, an iovec
    // and a payload that live until after the call, which only reads the payload.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn message(
    name: *mut libc::c_void,
    name_len: libc::socklen_t,
    part: *mut libc::iovec,
) -> libc::mmsghdr {
    // SAFETY: mmsghdr is integers and pointers, for which zero is a value. (It has private padding
    // on some targets and cannot be written as a literal.)
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = name;
    header.msg_hdr.msg_namelen = name_len;
    header.msg_hdr.msg_iov = part;
    header.msg_hdr.msg_iovlen = 1;
    header
}

/// Empties the socket's error queue, which would keep it readable for ever; returns how many errors
/// it held.
fn drain_errors(fd: BorrowedFd<'_>) -> u64 {
    let mut count = 0;
    for _ in 0..ERRORS_PER_DRAIN {
        // SAFETY: msghdr is integers and pointers, for which zero is a value; with no iovec, name
        // or control buffer the kernel writes to the header only.
        let result = unsafe {
            let mut header: libc::msghdr = mem::zeroed();
            let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
            libc::recvmsg(fd.as_raw_fd(), &raw mut header, flags)
        };
        if result < 0 {
            break;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::DATAGRAM_MAX_BYTES, pipe::sys};
    use std::net::UdpSocket;

    fn socket(address: &str) -> UdpSocket {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    }

    fn address(socket: &UdpSocket) -> SocketAddr {
        socket.local_addr().unwrap()
    }

    #[test]
    fn an_empty_socket_gives_an_empty_batch() {
        let mut slots = Slots::new();
        assert_eq!(recv_batch(&socket("127.0.0.1:0"), &mut slots).unwrap(), 0);
        assert_eq!(slots.iter().count(), 0);
    }

    #[test]
    fn a_batch_carries_all_datagrams_in_order_with_their_source() {
        let (a, b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        let payloads: Vec<Vec<u8>> = (0..20u8).map(|n| vec![n; usize::from(n) * 7]).collect();
        let out: Vec<Out<'_>> =
            payloads.iter().map(|bytes| Out { to: address(&b), bytes }).collect();
        let sent = send_batch(&a, false, &out);
        assert_eq!((sent.datagrams, sent.full + sent.failed), (20, 0));
        assert_eq!(sent.bytes, payloads.iter().map(|p| p.len() as u64).sum::<u64>());
        let mut slots = Slots::new();
        let mut got = Vec::new();
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), BATCH_DATAGRAMS);
        got.extend(slots.iter().map(|(from, bytes)| (from, bytes.to_vec())));
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), 20 - BATCH_DATAGRAMS);
        got.extend(slots.iter().map(|(from, bytes)| (from, bytes.to_vec())));
        assert!(got.iter().all(|(from, _)| *from == address(&a)));
        assert!(got.iter().map(|(_, bytes)| bytes).eq(&payloads));
    }

    #[test]
    fn ipv6_and_mapped_ipv4_addresses_work_on_one_socket() {
        let Ok(dual) = UdpSocket::bind("[::]:0") else { return }; // no IPv6 on this machine
        dual.set_nonblocking(true).unwrap();
        let four = socket("127.0.0.1:0");
        let sent = send_batch(&dual, true, &[Out { to: address(&four), bytes: b"four" }]);
        assert_eq!(sent.datagrams, 1);
        let mut slots = Slots::new();
        assert_eq!(recv_batch(&four, &mut slots).unwrap(), 1);
        four.send_to(b"back", ("127.0.0.1", address(&dual).port())).unwrap();
        assert_eq!(recv_batch(&dual, &mut slots).unwrap(), 1);
        let (from, bytes) = slots.iter().next().unwrap();
        assert_eq!(
            (from.ip().to_canonical(), from.port()),
            (address(&four).ip(), address(&four).port())
        );
        assert_eq!(bytes, b"back");
    }

    #[test]
    fn the_largest_datagram_passes_whole_and_a_longer_one_is_counted() {
        let (a, b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        sys::ask_receive_buffer(b.as_fd(), 1 << 20);
        let bytes = vec![7; DATAGRAM_MAX_BYTES + 1];
        let longest = Out { to: address(&b), bytes: &bytes[1..] };
        let too_long = Out { to: address(&b), bytes: &bytes };
        let sent = send_batch(&a, false, &[too_long, longest]);
        assert_eq!((sent.oversized, sent.datagrams), (1, 1));
        let mut slots = Slots::new();
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), 1);
        assert_eq!(slots.iter().next().unwrap().1.len(), DATAGRAM_MAX_BYTES);
    }

    #[test]
    fn an_unreachable_port_is_counted_and_costs_no_later_datagram() {
        let (a, b) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        sys::report_icmp(a.as_fd(), false).unwrap();
        let gone = address(&socket("127.0.0.1:0"));
        let dead = Out { to: gone, bytes: b"x" };
        let alive = Out { to: address(&b), bytes: b"y" };
        let mut icmp = 0;
        for _ in 0..5 {
            let sent = send_batch(&a, false, &[dead, alive]);
            assert_eq!((sent.datagrams, sent.failed), (2, 0));
            icmp += sent.icmp;
        }
        let mut slots = Slots::new();
        assert_eq!(recv_batch(&a, &mut slots).unwrap(), 0);
        icmp += slots.take_icmp();
        assert!(icmp >= 1);
        assert_eq!(drain_errors(a.as_fd()), 0, "an undrained error keeps the socket readable");
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), 5);
    }

    #[test]
    fn a_descriptor_that_is_no_socket_is_an_error_and_not_a_loop() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(recv_batch(&file, &mut Slots::new()).is_err());
        let out = Out { to: NOWHERE, bytes: b"x" };
        assert_eq!(send_batch(&file, false, &[out, out]).failed, 2);
    }
}
