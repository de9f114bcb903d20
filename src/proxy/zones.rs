//! Interfaces of link-local addresses: their names become numbers here.
#![allow(unsafe_code)] // if_nametoindex has no safe form in the crates we use

use core::net::{SocketAddr, SocketAddrV6};
use std::{ffi::CString, io};

use crate::origin::Origin;

/// The address of an origin in use, on its interface; none where it is not resolved, or where there
/// is no such interface now.
pub(super) fn addr_of(origin: &Origin) -> Option<SocketAddr> {
    let addr = origin.addr()?;
    match (origin.zone(), addr) {
        (Some(zone), SocketAddr::V6(v6)) => {
            let scope = index(zone).ok()?;
            Some(SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into())
        }
        _ => Some(addr),
    }
}

/// The number of an interface.
fn index(zone: &str) -> io::Result<u32> {
    if let Ok(number) = zone.parse() {
        return Ok(number);
    }
    let name = CString::new(zone)?;
    // SAFETY: the pointer is to a string that ends with zero and lives as long as the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_go_by_name_or_number() {
        assert_eq!(index("7").unwrap(), 7);
        assert_eq!(index("lo").unwrap(), 1);
        assert!(index("there-is-none").is_err());
    }
}
