//! The synthetic RTSP camera of the demo and of the tests: H.264 that a real decoder accepts.

mod bits;
mod cavlc;
mod h264;
mod picture;

pub(crate) mod rtcp;
mod rtp;
