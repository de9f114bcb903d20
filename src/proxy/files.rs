//! The bound on open descriptors.
#![allow(unsafe_code)] // getrlimit and setrlimit have no safe form in the crates we use

/// Raises the soft limit on open descriptors to `wanted`, as far as the hard limit lets it. Says
/// how many may be open now.
pub(super) fn raise_limit(wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live rlimit that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    let wanted = libc::rlim_t::try_from(wanted).unwrap_or(limit.rlim_max).min(limit.rlim_max);
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted, ..limit };
        // SAFETY: the pointer is to a live rlimit that the call only reads.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            limit.rlim_cur = wanted;
        }
    }
    #[allow(clippy::useless_conversion)] // rlim_t has 32 bits on armv7
    u64::from(limit.rlim_cur)
}
