//! Relaying media over UDP: worker threads, sockets, and who may send.
//!
//! A pipe is the UDP relay of one track. It has two pairs of ports and four peers' addresses:
//!
//! ```text
//!              client pair                        origin pair
//!   player ──── RTP  (even) ────┐          ┌──── RTP  (even) ──── origin   media down; up for
//!     :5000                     │  relay   │                      :6970    RECORD, back channel
//!   player ──── RTCP (odd)  ────┘          └──── RTCP (odd)  ──── origin   reports both ways
//!     :5001                                                       :6971
//! ```
//!
//! **Who may send.** Each of the four sockets knows one peer ([`relay`]): the host of the RTSP
//! connection, or the one announced in Transport. The announced port may always send; while nothing
//! came from it, another one of that host is learned from RTP or RTCP in the first seconds, and then
//! kept. Anything else is a stranger: dropped, counted, never answered.
//!
//! **ICMP errors** (a player that closed its socket) are counted and end nothing: the next datagram
//! is sent all the same. A pipe ends when its handle [`UdpPipe`] is dropped, which the session does;
//! or by itself ([`UdpPipe::has_ended`]) when it could not be registered or panicked. Silence ends no
//! pipe: [`PipeCounters`] says when each peer was last heard, the session decides.
//!
//! **Where it runs.** [`UdpPipe::start`] moves the sockets to the least-loaded worker ([`reactor`]),
//! the session's own at a tie, where they stay. A pipe with one interleaved side has only one pair
//! of sockets ([`leg`]), driven by the session's connection on its worker: no frame changes threads.
//!
//! **What it costs.** Four descriptors, under 1.5 KiB in user space, about 12 KiB in the kernel; for
//! each datagram no allocation and no lock. One call reads up to 32 datagrams, or 32 times what the
//! kernel has coalesced; one call sends up to 64, those of equal length as segments of one
//! ([`mmsg`], [`gather`]). While a frame of many packets is unfinished, or where such bursts come
//! close after each other, the worker pauses for `gateway.coalesce_us` at most, so that more is taken
//! at a time ([`reactor`]); where only single packets come it never does. A socket has a budget in each
//! round, so that a flood does not starve others. `make bench` measures it.
//!
//! Not in here: RTSP, sessions, interleaved frames (proxy).

pub mod counters;
mod driver;
mod epoll;
pub mod gather;
pub mod leg;
pub mod mmsg;
mod name;
pub mod pool;
pub mod ports;
pub mod reactor;
pub mod relay;
mod sequence;
pub mod shape;
mod sys;
mod table;
mod timers;
pub mod udp;

pub use counters::{PipeCounters, PipeFigures};
pub use leg::UdpLeg;
pub use ports::{At, BoundPair, PortError, PortPool, bind};
pub use reactor::{Driven, Handle, Hold, Interest, Pool, Ready, Seat, Token, Worker};
pub use relay::{Endpoint, Kind, Leg, Mode, Reason, Relay, Side, Verdict, says_bye};
pub use udp::{PipeSockets, UdpPipe};

/// A loopback address of this process alone, and below the ephemeral ports: tests that name ports
/// disturb neither each other nor those of another checkout.
#[cfg(test)]
fn test_host() -> core::net::IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    core::net::IpAddr::from([127, high | 0x80, middle, low.clamp(1, 254)])
}
