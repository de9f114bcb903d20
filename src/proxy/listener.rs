//! Accepts players and hands each to the worker with the least to do.

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use std::{io, net::TcpListener, sync::Arc};

use log::{info, warn};
use smol::{Async, Timer};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    connection,
    shared::{HalfOpen, Shared},
};
use crate::pipe::Seat;

/// Connections that wait to be accepted, kept by the kernel.
const BACKLOG: i32 = 1024;

/// How long to wait when descriptors have run out: some will have been closed by then.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(200);

/// Opens a listen address.
pub(super) fn open(addr: SocketAddr) -> io::Result<Async<TcpListener>> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Async::new(socket.into())
}

/// Accepts for ever; dropped when the address is no longer listened on.
pub(super) async fn accept(shared: Arc<Shared>, listener: Async<TcpListener>) {
    if let Ok(addr) = listener.get_ref().local_addr() {
        info!("listening on {addr}");
    }
    let mut exhausted = false;
    loop {
        match listener.accept().await {
            Ok((stream, addr)) => {
                exhausted = false;
                match stream.into_inner() {
                    Ok(stream) => hand_over(&shared, stream, addr),
                    Err(error) => warn!("{addr}: {error}"),
                }
            }
            Err(error) if is_exhaustion(&error) => {
                // Said once for each time that it happens, not for each connection that waits.
                if !exhausted {
                    exhausted = true;
                    shared.count("accept_exhausted");
                    warn!("no connection can be accepted: {error}; raise the limit on open files");
                }
                Timer::after(EXHAUSTED_WAIT).await;
            }
            // The client was gone before it was accepted.
            Err(_) => shared.count("accept_failed"),
        }
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

fn hand_over(shared: &Arc<Shared>, stream: std::net::TcpStream, addr: SocketAddr) {
    let limits = &shared.generation().config.limits;
    let connections_max = 2 * u32::from(limits.sessions) + u32::from(limits.half_open);
    if shared.half_open.load(Relaxed) >= limits.half_open.into() {
        return shared.count("refused_half_open");
    }
    if shared.connections.load(Relaxed) >= connections_max {
        return shared.count("refused_connections");
    }
    shared.count("connections_accepted");
    let half_open = HalfOpen::new(shared);
    let worker = shared.pool.least_loaded(None);
    let theirs = Arc::clone(shared);
    let seat = worker.load().hold(Seat::Connection);
    let counted = (seat, half_open);
    let job = Box::new(move |worker: &_| connection::begin(theirs, stream, addr, counted, worker));
    if worker.run(job).is_err() {
        shared.count("refused_busy");
    }
}
