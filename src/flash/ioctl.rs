//! The system calls of MTD and block devices, each made safe. Not in here: decisions.
//!
//! Numbers and layouts are those of linux `mtd/mtd-abi.h` and `linux/fs.h`; they are the same on
//! x86_64, aarch64 and armv7.

#![allow(unsafe_code)] // ioctl has no safe form, and std knows none of these

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use super::mtd::{MtdCalls, MtdInfo};

/// `struct mtd_info_user`.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    kind: u8,
    flags: u32,
    size: u32,
    erase_size: u32,
    write_size: u32,
    oob_size: u32,
    padding: u64,
}

/// `struct erase_info_user`.
#[repr(C)]
struct RawRange {
    start: u32,
    length: u32,
}

const _: () = assert!(size_of::<RawInfo>() == 32 && size_of::<RawRange>() == 8);

const M: u32 = b'M' as u32;
const MEMGETINFO: libc::Ioctl = libc::_IOR::<RawInfo>(M, 1);
const MEMERASE: libc::Ioctl = libc::_IOW::<RawRange>(M, 2);
const MEMUNLOCK: libc::Ioctl = libc::_IOW::<RawRange>(M, 6);
const MEMGETBADBLOCK: libc::Ioctl = libc::_IOW::<i64>(M, 11);
const MEMISLOCKED: libc::Ioctl = libc::_IOR::<RawRange>(M, 23);
const BLKGETSIZE64: libc::Ioctl = libc::_IOR::<usize>(0x12, 114);

/// One ioctl; its non-negative answer.
fn call<T>(file: &File, request: libc::Ioctl, value: &mut T) -> io::Result<i32> {
    // SAFETY: every request of this file carries the size of its argument, and is called with a
    // whole value of that type, which outlives the call.
    let answer = unsafe { libc::ioctl(file.as_raw_fd(), request, core::ptr::from_mut(value)) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// Bytes of a block device.
pub(super) fn block_bytes(file: &File) -> io::Result<u64> {
    let mut bytes: u64 = 0;
    // The request is named after `size_t`, the kernel writes 64 bits on every machine.
    call(file, BLKGETSIZE64, &mut bytes)?;
    Ok(bytes)
}

/// The character device of an MTD.
impl MtdCalls for File {
    fn info(&self) -> io::Result<MtdInfo> {
        let mut raw = RawInfo::default();
        call(self, MEMGETINFO, &mut raw)?;
        Ok(MtdInfo {
            kind: raw.kind,
            flags: raw.flags,
            size: raw.size,
            erase_size: raw.erase_size,
            write_size: raw.write_size,
        })
    }

    fn is_bad(&self, offset: u32) -> io::Result<bool> {
        call(self, MEMGETBADBLOCK, &mut i64::from(offset)).map(|answer| answer != 0)
    }

    fn is_locked(&self, offset: u32, length: u32) -> io::Result<bool> {
        call(self, MEMISLOCKED, &mut RawRange { start: offset, length }).map(|answer| answer != 0)
    }

    fn unlock(&self, offset: u32, length: u32) -> io::Result<()> {
        call(self, MEMUNLOCK, &mut RawRange { start: offset, length }).map(drop)
    }

    fn erase(&self, offset: u32, length: u32) -> io::Result<()> {
        call(self, MEMERASE, &mut RawRange { start: offset, length }).map(drop)
    }

    fn read(&self, offset: u32, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, u64::from(offset))
    }

    fn write(&self, offset: u32, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, u64::from(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_the_numbers_of_the_kernel() {
        let numbers = [MEMGETINFO, MEMERASE, MEMUNLOCK, MEMGETBADBLOCK, MEMISLOCKED];
        let known = [0x8020_4d01, 0x4008_4d02, 0x4008_4d06, 0x4008_4d0b, 0x8008_4d17];
        assert_eq!(numbers, known);
        assert_eq!(BLKGETSIZE64 & 0xffff, 0x1272);
    }

    #[test]
    fn what_is_no_device_answers_with_an_error() {
        let file = File::open("/dev/null").unwrap();
        assert!(file.info().is_err() && file.is_bad(0).is_err() && block_bytes(&file).is_err());
        assert!(file.is_locked(0, 1).is_err() && MtdCalls::unlock(&file, 0, 1).is_err());
        assert!(MtdCalls::erase(&file, 0, 1).is_err());
    }
}
