//! The system calls of the benchmark: clocks, accounting, socket options, batched reads.

use std::{fs, mem, net::SocketAddr, os::fd::RawFd, ptr};

/// Wall time, as the kernel stamps datagrams with it.
pub(crate) fn now_ns() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// CPU time that a process has used, all of its threads, those that ended too.
pub(crate) fn cpu_ns(pid: u32) -> u64 {
    let mut id: libc::clockid_t = 0;
    // SAFETY: the pointer is to a clock id of this frame.
    let result = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut id) };
    if result == 0 { clock(id) } else { 0 }
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a whole timespec of this frame.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Resident memory of a process in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

/// A process and those that it started.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        let path = format!("/proc/{}/task/{}/children", all[at], all[at]);
        let children = fs::read_to_string(path).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
        at += 1;
    }
    all
}

pub(crate) fn sharpen_timers() {
    // SAFETY: takes one integer and touches this thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}

/// Descriptors for thousands of sessions.
pub(crate) fn raise_file_limit() {
    // SAFETY: plain system calls with a structure that lives through both.
    unsafe {
        let mut limit: libc::rlimit = mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

pub(crate) fn set_option(socket: RawFd, option: libc::c_int, value: libc::c_int) -> bool {
    set(socket, libc::SOL_SOCKET, option, value)
}

pub(crate) fn set(socket: RawFd, level: libc::c_int, option: libc::c_int, value: i32) -> bool {
    let size = size_of::<libc::c_int>() as u32;
    // SAFETY: the value lives through the call and its size is given.
    unsafe { libc::setsockopt(socket, level, option, ptr::from_ref(&value).cast(), size) == 0 }
}

pub(crate) fn name(address: SocketAddr) -> libc::sockaddr_in {
    let SocketAddr::V4(address) = address else { panic!("the loopback address is IPv4") };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Takes the first bytes of many datagrams and the kernel's stamps of their arrival.
pub(crate) struct Reader<const COUNT: usize, const HEAD: usize> {
    heads: Box<[[u8; HEAD]; COUNT]>,
    controls: Box<[[u64; 8]; COUNT]>,
}

impl<const COUNT: usize, const HEAD: usize> Reader<COUNT, HEAD> {
    pub(crate) fn new() -> Self {
        Self { heads: Box::new([[0; HEAD]; COUNT]), controls: Box::new([[0; 8]; COUNT]) }
    }

    /// One call; how many datagrams there were.
    pub(crate) fn read(&mut self, socket: RawFd, mut each: impl FnMut(&[u8], u64)) -> usize {
        let mut parts = self
            .heads
            .each_mut()
            .map(|head| libc::iovec { iov_base: head.as_mut_ptr().cast(), iov_len: HEAD });
        // SAFETY: structures of integers and pointers, for which zeros are valid.
        let mut messages: [libc::mmsghdr; COUNT] = unsafe { mem::zeroed() };
        for ((message, part), control) in
            messages.iter_mut().zip(&mut parts).zip(self.controls.iter_mut())
        {
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = control.as_mut_ptr().cast();
            message.msg_hdr.msg_controllen = size_of_val(control) as _;
        }
        // SAFETY: the buffers live until after the call.
        let count = unsafe {
            let first = messages.as_mut_ptr();
            libc::recvmmsg(socket, first, COUNT as u32, libc::MSG_DONTWAIT, ptr::null_mut())
        };
        let count = usize::try_from(count).unwrap_or(0);
        for (message, head) in messages.iter().zip(self.heads.iter()).take(count) {
            let length = (message.msg_len as usize).min(HEAD);
            each(&head[..length], stamp(&message.msg_hdr));
        }
        count
    }
}

fn stamp(header: &libc::msghdr) -> u64 {
    // SAFETY: the kernel wrote the header and the control messages behind it just now.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_SOCKET
                && (*control).cmsg_type == libc::SCM_TIMESTAMPNS
            {
                let time: libc::timespec = ptr::read_unaligned(libc::CMSG_DATA(control).cast());
                return time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
    }
    now_ns()
}
