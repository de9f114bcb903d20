//! edgeweir: an RTSP gateway.

pub mod auth;
pub mod camera;
pub mod clock;
pub mod config;
pub mod control;
pub mod flash;
pub mod limits;
pub mod origin;
pub mod pipe;
pub mod probe;
pub mod proxy;

pub mod rtsp;
pub mod session;
