//! The system calls of the workers, other than moving datagrams (that is [`super::mmsg`]) and waiting for
//! them ([`super::epoll`]).
//!
//! Not in here: decisions. Each function is one call, made safe.

#![allow(unsafe_code)] // prctl, clock_gettime and socket options have no safe form here

use core::ffi::c_int;
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// Lets the timers of this thread fire on time: the kernel's default adds up to 50 us to each.
pub(super) fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer, touches no memory of ours and this thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// CPU time that this thread has used, in microseconds.
pub(super) fn thread_cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a whole timespec of this frame.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) } != 0;
    if failed {
        return 0;
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000)
}

/// Asks for a receive buffer, above `net.core.rmem_max` where the capability allows it.
pub(super) fn ask_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) {
    let wanted = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, wanted).is_err() {
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, wanted);
    }
}

/// Asks for a send buffer, above `net.core.wmem_max` where the capability allows it.
pub(super) fn ask_send_buffer(socket: BorrowedFd<'_>, bytes: usize) {
    let wanted = c_int::try_from(bytes).unwrap_or(c_int::MAX);
    if set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted).is_err() {
        let _ = set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, wanted);
    }
}

/// The receive buffer that the kernel has granted, in bytes of payload bookkeeping (it counts twice
/// what is asked for).
pub(super) fn receive_buffer(socket: BorrowedFd<'_>) -> usize {
    granted(socket, libc::SO_RCVBUF)
}

/// The send buffer that the kernel has granted, counted likewise.
pub(super) fn send_buffer(socket: BorrowedFd<'_>) -> usize {
    granted(socket, libc::SO_SNDBUF)
}

fn granted(socket: BorrowedFd<'_>, buffer: c_int) -> usize {
    let mut granted: c_int = 0;
    let mut size = size_of_val(&granted) as libc::socklen_t;
    // SAFETY: pointer and size describe one c_int of this frame.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            buffer,
            (&raw mut granted).cast(),
            &raw mut size,
        )
    };
    if result == 0 { usize::try_from(granted).unwrap_or(0) / 2 } else { 0 }
}

/// `UDP_SEGMENT` and `UDP_GRO` of linux/udp.h.
pub(super) const UDP_SEGMENT: c_int = 103;
pub(super) const UDP_GRO: c_int = 104;

/// Lets the kernel give datagrams of equal length from one source in one piece.
///
/// # Errors
/// A kernel older than 5.0; each datagram then comes by itself.
pub(super) fn coalesce(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, UDP_GRO, 1)
}

/// Sends without checksums, which segments need: makes the kernel refuse those.
#[cfg(test)]
pub(super) fn no_checksums(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1)
}

/// Asks the kernel to report ICMP errors on an unconnected socket, so that they can be counted.
///
/// # Errors
/// A kernel without the option; errors are then not counted.
pub(super) fn report_icmp(socket: BorrowedFd<'_>, v6: bool) -> io::Result<()> {
    if v6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)
    } else {
        set_option(socket, libc::IPPROTO_IP, libc::IP_RECVERR, 1)
    }
}

/// Datagrams that the kernel has dropped at this socket because its buffer was full.
pub(super) fn kernel_drops(socket: BorrowedFd<'_>) -> u32 {
    /// `SK_MEMINFO_DROPS` of linux/sock_diag.h.
    const DROPS: usize = 8;
    const WORDS: usize = 9;
    let mut words = [0u32; WORDS];
    let mut size = size_of_val(&words) as libc::socklen_t;
    // SAFETY: pointer and size describe the array of this frame; the kernel writes no more.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    let written = size as usize / size_of::<u32>();
    if result == 0 && written > DROPS { words[DROPS] } else { 0 }
}

fn set_option(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: pointer and size describe one c_int of this frame.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), size)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::UdpSocket, os::fd::AsFd};

    #[test]
    fn cpu_time_of_the_thread_grows_with_work() {
        let before = thread_cpu_us();
        let mut sum = 0u64;
        while thread_cpu_us() < before + 2000 {
            sum = core::hint::black_box(sum.wrapping_add(1));
        }
        assert!(sum > 0);
    }

    #[test]
    fn a_larger_receive_buffer_is_granted_as_far_as_the_kernel_allows() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask_receive_buffer(socket.as_fd(), 64 * 1024);
        assert!(receive_buffer(socket.as_fd()) >= 32 * 1024);
    }

    #[test]
    fn a_larger_send_buffer_is_granted_as_far_as_the_kernel_allows() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask_send_buffer(socket.as_fd(), 64 * 1024);
        assert!(send_buffer(socket.as_fd()) >= 32 * 1024);
    }

    #[test]
    fn drops_of_a_full_socket_are_counted_by_the_kernel() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        ask_receive_buffer(receiver.as_fd(), 4096);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..200 {
            sender.send_to(&[0; 1200], receiver.local_addr().unwrap()).unwrap();
        }
        assert!(kernel_drops(receiver.as_fd()) > 0);
    }
}
