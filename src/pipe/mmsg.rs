//! Datagrams in batches: `recvmmsg` and `sendmmsg`, with segments coalesced by the kernel (UDP_GRO)
//! and cut up by it (UDP_SEGMENT) where it can.
//!
//! One [`Slots`] belongs to a worker and serves all its sockets; each slot takes any datagram that
//! UDP can carry, or 64 KiB of coalesced ones, and only pages that were once used cost memory.
//! Sending borrows from the slots: nothing is copied, nothing is allocated. Not in here: who may
//! send and where to (relay), which datagrams may leave as one (gather).
//!
//! An ICMP error (port unreachable and the like) surfaces at the next call on the socket without
//! anything having been sent or received: it is counted, and the same call is made once more. A
//! socket whose way refuses segments ([`Segments`]) sends one by one from then on.

#![allow(unsafe_code)] // recvmmsg and sendmmsg have no safe form in std or socket2

use core::{
    cell::Cell,
    ffi::c_int,
    mem::{self, MaybeUninit},
    net::SocketAddr,
    ptr,
};
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use super::{
    gather::{first_run, split},
    name::{NOWHERE, Name},
    sys,
};
use crate::limits::{BATCH_DATAGRAMS, SEGMENTS_MAX};

/// Room for one datagram, or for 64 KiB of them coalesced by the kernel (GRO). One byte more
/// than UDP carries would show truncation; the rest keeps slots from falling into the same sets of
/// the cache, as exact powers of two do.
const SLOT_BYTES: usize = 65_536 + 1344;
/// Entries read from a socket's error queue at one go.
const ERRORS_PER_DRAIN: usize = 64;
/// Datagrams that [`Slots`] can hold at most: each slot is full of the smallest segments.
pub const DATAGRAMS_PER_BATCH: usize = BATCH_DATAGRAMS * SEGMENTS_MAX;
/// Room for the one control message asked for, `UDP_GRO`'s.
const CONTROL_BYTES: usize = 32;

/// What one call received: the batch buffer of a worker.
///
/// The headers of the call are written once and point into the boxes beside them, which move with
/// nothing.
pub struct Slots {
    bytes: Box<[u8]>,
    headers: Box<[libc::mmsghdr; BATCH_DATAGRAMS]>,
    names: Box<[Name; BATCH_DATAGRAMS]>,
    _controls: Box<[Control; BATCH_DATAGRAMS]>,
    _parts: Box<[libc::iovec; BATCH_DATAGRAMS]>,
    from: [SocketAddr; BATCH_DATAGRAMS],
    len: [usize; BATCH_DATAGRAMS],
    segment: [usize; BATCH_DATAGRAMS],
    count: usize,
    /// Headers that the last call may have written to.
    used: usize,
    icmp: u64,
}

/// Aligned as control messages want it.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

impl Default for Slots {
    fn default() -> Self {
        Self::new()
    }
}

impl Slots {
    /// An empty batch; 2 MiB of address space of which only used pages are ever touched.
    pub fn new() -> Self {
        let mut bytes = vec![0; SLOT_BYTES * BATCH_DATAGRAMS].into_boxed_slice();
        let mut names = Box::new([Name::empty(); BATCH_DATAGRAMS]);
        let mut controls = Box::new([Control([0; CONTROL_BYTES]); BATCH_DATAGRAMS]);
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: SLOT_BYTES };
        let mut parts = Box::new([part; BATCH_DATAGRAMS]);
        // SAFETY: mmsghdr is integers and pointers, for which zero is a value.
        let mut headers: Box<[libc::mmsghdr; BATCH_DATAGRAMS]> = Box::new(unsafe { mem::zeroed() });
        let rows = headers.iter_mut().zip(parts.iter_mut()).zip(names.iter_mut());
        let rows = rows.zip(controls.iter_mut()).zip(bytes.chunks_exact_mut(SLOT_BYTES));
        for ((((header, part), name), control), slot) in rows {
            part.iov_base = slot.as_mut_ptr().cast();
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
        }
        Self {
            bytes,
            headers,
            names,
            _controls: controls,
            _parts: parts,
            from: [NOWHERE; BATCH_DATAGRAMS],
            len: [0; BATCH_DATAGRAMS],
            segment: [0; BATCH_DATAGRAMS],
            count: 0,
            used: BATCH_DATAGRAMS,
            icmp: 0,
        }
    }

    /// The datagrams of the last [`recv_batch`], each with its source.
    pub fn iter(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.bytes.chunks_exact(SLOT_BYTES);
        let filled = slots.zip(&self.from).zip(self.len.iter().zip(&self.segment));
        filled.take(self.count).flat_map(|((slot, from), (len, segment))| {
            let bytes = slot.get(..*len).unwrap_or_default();
            split(bytes, *segment).map(|datagram| (*from, datagram))
        })
    }

    /// ICMP errors met while receiving since the last time this was asked.
    pub fn take_icmp(&mut self) -> u64 {
        mem::take(&mut self.icmp)
    }
}

/// Whether a socket still sends segments (UDP_SEGMENT): until the first time that its way refuses
/// them, because the kernel is older than 4.18, the device computes no checksums, or a segment is
/// longer than the path's MTU, where a single datagram would be fragmented and pass.
#[derive(Debug)]
pub struct Segments(Cell<bool>);

impl Default for Segments {
    fn default() -> Self {
        Self(Cell::new(true))
    }
}

impl Segments {
    /// For a socket that shall send one by one.
    pub const fn off() -> Self {
        Self(Cell::new(false))
    }

    /// Whether they are still in use.
    pub const fn in_use(&self) -> bool {
        self.0.get()
    }
}

/// What became of the datagrams of one [`send_all`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Their payload in bytes.
    pub bytes: u64,
    /// Datagrams dropped since the socket's send buffer or the device queue was full. Each is let go
    /// by itself: the ones behind it may find room.
    pub full: u64,
    /// Datagrams dropped since they are longer than the way allows.
    pub oversized: u64,
    /// Datagrams that the kernel refused for another reason (no route, filtered), also when asked twice.
    pub failed: u64,
    /// ICMP errors met on the way; not a loss by themselves.
    pub icmp: u64,
}

/// Fills up to [`BATCH_DATAGRAMS`] slots without waiting and says how many. Fewer than that means
/// that the socket is empty; there is no need to ask again.
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

/// Sends all to one address, in order, without waiting; what can leave as segments of one datagram
/// does. `v6` says whether the socket is an IPv6 one: it reaches IPv4 addresses in their mapped form.
pub fn send_all(
    socket: &impl AsFd,
    v6: bool,
    to: SocketAddr,
    datagrams: &[&[u8]],
    segments: &Segments,
) -> Sent {
    let fd = socket.as_fd();
    let (name, name_len) = Name::from_address(to, v6);
    let mut sent = Sent::default();
    let mut rest = datagrams;
    let mut retried = false;
    while let Some(first) = rest.first() {
        let calls = Calls::plan(rest, segments.in_use());
        match send_once(fd, &name, name_len, rest, &calls) {
            Ok(taken) => {
                let (done, left) = rest.split_at(calls.datagrams(taken.max(1)).min(rest.len()));
                sent.datagrams += done.len() as u64;
                sent.bytes += done.iter().map(|datagram| datagram.len() as u64).sum::<u64>();
                rest = left;
                retried = false;
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => {
                    let count = calls.datagrams(1).clamp(1, rest.len());
                    sent.full += count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                    retried = false;
                }
                Some(code) if calls.datagrams(1) > 1 && refuses_segments(code) => {
                    segments.0.set(false);
                }
                Some(code) if is_icmp(code) && !retried => {
                    sent.icmp += drain_errors(fd).max(1);
                    retried = true;
                }
                code => {
                    let count = calls.datagrams(1).clamp(1, rest.len());
                    let too_long = code == Some(libc::EMSGSIZE) && !first.is_empty();
                    *(if too_long { &mut sent.oversized } else { &mut sent.failed }) +=
                        count as u64;
                    rest = rest.get(count..).unwrap_or_default();
                    retried = false;
                }
            },
        }
    }
    sent
}

/// How the next datagrams are divided among the messages of one call.
struct Calls {
    runs: [u8; BATCH_DATAGRAMS],
    count: usize,
}

impl Calls {
    /// At most [`BATCH_DATAGRAMS`] messages and [`SEGMENTS_MAX`] datagrams.
    fn plan(datagrams: &[&[u8]], segments: bool) -> Self {
        let mut plan = Self { runs: [0; BATCH_DATAGRAMS], count: 0 };
        let mut rest = datagrams.get(..SEGMENTS_MAX).unwrap_or(datagrams);
        for place in &mut plan.runs {
            let run = if segments { first_run(rest) } else { rest.len().min(1) };
            if run == 0 {
                break;
            }
            *place = u8::try_from(run).unwrap_or(u8::MAX);
            plan.count += 1;
            rest = rest.get(run..).unwrap_or_default();
        }
        plan
    }

    /// Datagrams in the first so many messages.
    fn datagrams(&self, messages: usize) -> usize {
        self.runs.iter().take(messages.min(self.count)).map(|run| usize::from(*run)).sum()
    }
}

/// What the kernel says when it cannot cut up a message, not that it cannot send.
const fn refuses_segments(code: c_int) -> bool {
    matches!(code, libc::EIO | libc::EINVAL | libc::EMSGSIZE | libc::ENOPROTOOPT | libc::EOPNOTSUPP)
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

fn recv_once(fd: BorrowedFd<'_>, slots: &mut Slots) -> io::Result<usize> {
    // What the last call has changed, which is no more than it filled and one.
    for header in slots.headers.iter_mut().take(slots.used + 1) {
        header.msg_hdr.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
    }
    // SAFETY: each header points to one name, one control buffer and, by its iovec, one slot: parts
    // of the boxes of `slots`, disjoint and alive; the lengths are theirs.
    let received = unsafe {
        libc::recvmmsg(
            fd.as_raw_fd(),
            slots.headers.as_mut_ptr(),
            BATCH_DATAGRAMS as libc::c_uint,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
        )
    };
    let count = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    slots.count = count.min(BATCH_DATAGRAMS);
    slots.used = slots.count;
    let told = slots.headers.iter().zip(slots.names.iter()).take(slots.count);
    let places = slots.from.iter_mut().zip(slots.len.iter_mut().zip(&mut slots.segment));
    for ((header, name), (from, (len, segment))) in told.zip(places) {
        *from = name.to_address(header.msg_hdr.msg_namelen);
        *len = header.msg_len as usize;
        *segment = segment_size(&header.msg_hdr);
    }
    Ok(slots.count)
}

/// What the kernel says about the datagrams that it has coalesced; 0 when it has not.
fn segment_size(header: &libc::msghdr) -> usize {
    if header.msg_controllen == 0 {
        return 0;
    }
    // SAFETY: the kernel wrote `msg_controllen` bytes of control messages into the buffer that the
    // header points to; the macros stay within them, and the value is read at its own size.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = control.as_ref() {
            if message.cmsg_level == libc::SOL_UDP && message.cmsg_type == sys::UDP_GRO {
                let size = libc::CMSG_DATA(control).cast::<c_int>().read_unaligned();
                return usize::try_from(size).unwrap_or(0);
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    0
}

/// Sends the messages of a plan; returns how many of them the kernel took.
fn send_once(
    fd: BorrowedFd<'_>,
    name: &Name,
    name_len: libc::socklen_t,
    datagrams: &[&[u8]],
    calls: &Calls,
) -> io::Result<usize> {
    let mut parts = [MaybeUninit::<libc::iovec>::uninit(); SEGMENTS_MAX];
    let mut controls = [MaybeUninit::<Control>::uninit(); BATCH_DATAGRAMS];
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); BATCH_DATAGRAMS];
    for (part, datagram) in parts.iter_mut().zip(datagrams) {
        let iov_base = datagram.as_ptr().cast_mut().cast();
        part.write(libc::iovec { iov_base, iov_len: datagram.len() });
    }
    let (mut parts_left, mut datagrams_left) = (&mut parts[..], datagrams);
    let rows = calls.runs.iter().take(calls.count).zip(&mut headers).zip(&mut controls);
    for ((run, header), control) in rows {
        let run = usize::from(*run).min(parts_left.len());
        let (of_run, others) = parts_left.split_at_mut(run);
        let size = datagrams_left.first().map_or(0, |first| first.len());
        datagrams_left = datagrams_left.get(run..).unwrap_or_default();
        parts_left = others;
        let name = ptr::from_ref(name).cast_mut().cast();
        let header = header.write(message(name, name_len, of_run.as_mut_ptr().cast()));
        header.msg_hdr.msg_iovlen = run as _;
        if run > 1 {
            control.write(Control([0; CONTROL_BYTES]));
            write_segment_size(&mut header.msg_hdr, control.as_mut_ptr(), size);
        }
    }
    // SAFETY: the first `calls.count` headers were written just above; each points to the name, to
    // as many iovecs as it says, all written, and to a control buffer if it has one. All live until
    // after the call, which only reads them and the payloads.
    let sent = unsafe {
        libc::sendmmsg(
            fd.as_raw_fd(),
            headers.as_mut_ptr().cast(),
            calls.count as libc::c_uint,
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Says how long the segments of a message are.
fn write_segment_size(header: &mut libc::msghdr, control: *mut Control, size: usize) {
    header.msg_control = control.cast();
    // SAFETY: the control buffer was zeroed by the caller and is longer than CMSG_SPACE of two
    // bytes, so that the first message and its data lie within it.
    unsafe {
        header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as libc::c_uint) as _;
        let first = libc::CMSG_FIRSTHDR(header);
        (*first).cmsg_level = libc::SOL_UDP;
        (*first).cmsg_type = sys::UDP_SEGMENT;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as libc::c_uint) as _;
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        libc::CMSG_DATA(first).cast::<u16>().write_unaligned(size);
    }
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

    fn send(from: &UdpSocket, to: &UdpSocket, datagrams: &[&[u8]]) -> Sent {
        send_all(from, false, address(to), datagrams, &Segments::default())
    }

    fn coalescing(address: &str) -> UdpSocket {
        let socket = socket(address);
        sys::ask_receive_buffer(socket.as_fd(), 4 << 20);
        sys::coalesce(socket.as_fd()).unwrap();
        socket
    }

    /// All that a socket holds.
    fn receive(socket: &UdpSocket) -> Vec<Vec<u8>> {
        let (mut slots, mut got) = (Slots::new(), Vec::new());
        while recv_batch(socket, &mut slots).unwrap() > 0 {
            got.extend(slots.iter().map(|(_, bytes)| bytes.to_vec()));
        }
        got
    }

    #[test]
    fn segments_of_all_sizes_arrive_as_they_were_sent_coalesced_or_not() {
        let lengths = [
            vec![1200; 16],
            vec![1200, 1200, 1200, 600],
            vec![1200, 600, 600, 1200, 1, 1, 0, 0, 1200, 1400, 1400],
            vec![100; 64],
            vec![100; 65],
            vec![17; 200],
            vec![32_000; 5],
            vec![DATAGRAM_MAX_BYTES, DATAGRAM_MAX_BYTES, 5, 5],
        ];
        for to in [socket("127.0.0.1:0"), coalescing("127.0.0.1:0")] {
            sys::ask_receive_buffer(to.as_fd(), 4 << 20);
            let from = socket("127.0.0.1:0");
            for lengths in &lengths {
                let payloads: Vec<Vec<u8>> =
                    lengths.iter().zip(0..).map(|(len, n)| vec![n; *len]).collect();
                let out: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
                let sent = send(&from, &to, &out);
                assert_eq!(sent.datagrams, lengths.len() as u64, "{lengths:?}");
                assert!(receive(&to) == payloads, "{lengths:?}");
            }
        }
    }

    #[test]
    fn a_way_that_refuses_segments_is_remembered_and_loses_nothing() {
        let (from, to) = (socket("127.0.0.1:0"), socket("127.0.0.1:0"));
        // Without checksums the kernel cuts nothing up, as over a device that computes none.
        sys::no_checksums(from.as_fd()).unwrap();
        let segments = Segments::default();
        for _ in 0..2 {
            let out: Vec<&[u8]> = vec![&[7; 1200]; 20];
            let sent = send_all(&from, false, address(&to), &out, &segments);
            assert_eq!((sent.datagrams, sent.failed + sent.oversized), (20, 0));
            assert!(!segments.in_use());
            assert_eq!(receive(&to).len(), 20);
        }
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
        let payloads: Vec<Vec<u8>> =
            (0..BATCH_DATAGRAMS as u8 + 4).map(|n| vec![n; usize::from(n) * 7]).collect();
        let out: Vec<&[u8]> = payloads.iter().map(Vec::as_slice).collect();
        let sent = send(&a, &b, &out);
        assert_eq!((sent.datagrams, sent.full + sent.failed), (BATCH_DATAGRAMS as u64 + 4, 0));
        assert_eq!(sent.bytes, payloads.iter().map(|p| p.len() as u64).sum::<u64>());
        let mut slots = Slots::new();
        let mut got = Vec::new();
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), BATCH_DATAGRAMS);
        got.extend(slots.iter().map(|(from, bytes)| (from, bytes.to_vec())));
        assert_eq!(recv_batch(&b, &mut slots).unwrap(), 4);
        got.extend(slots.iter().map(|(from, bytes)| (from, bytes.to_vec())));
        assert!(got.iter().all(|(from, _)| *from == address(&a)));
        assert!(got.iter().map(|(_, bytes)| bytes).eq(&payloads));
    }

    #[test]
    fn ipv6_and_mapped_ipv4_addresses_work_on_one_socket() {
        let Ok(dual) = UdpSocket::bind("[::]:0") else { return }; // no IPv6 on this machine
        dual.set_nonblocking(true).unwrap();
        let four = socket("127.0.0.1:0");
        let sent = send_all(&dual, true, address(&four), &[b"four"], &Segments::default());
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
        let sent = send(&a, &b, &[&bytes, &bytes[1..]]);
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
        let mut icmp = 0;
        for _ in 0..5 {
            for to in [gone, address(&b)] {
                let sent = send_all(&a, false, to, &[b"x"], &Segments::default());
                assert_eq!((sent.datagrams, sent.failed), (1, 0));
                icmp += sent.icmp;
            }
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
        let sent = send_all(&file, false, NOWHERE, &[b"x", b"y"], &Segments::default());
        assert_eq!(sent.failed, 2);
    }
}
