//! The firmware on boards that QEMU has: a kernel of Debian, our root image, real flash.
//!
//! `board/setup.sh` installs what is needed, `board/build` makes the images once for all tests;
//! what takes long is kept by content. Origins and players are outside of the guest and reach it
//! through forwarded ports. A device keeps its disk and flash between boots; a power cut is
//! SIGKILL of the QEMU that the test started.
//!
//! Not in here: what needs no board. Times are of an emulated processor.

// A test that cannot go on panics; that is its way to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

#[path = "../harness/mod.rs"]
mod harness;

mod cuts;
mod damage;
mod guest;
mod image;
mod play;
mod plugins;
mod scripts;
mod units;
mod update;
