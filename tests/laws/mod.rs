//! What every conversation of the tests has to keep, told by other code than the gateway's own.

#![allow(dead_code, unreachable_pub)] // each test uses a part

pub mod ids;
