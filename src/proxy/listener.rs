//! Accepts players on every worker: each has a listening socket of its own, and the kernel spreads
//! connections among them (`SO_REUSEPORT`). A connection stays where it was accepted, and no other
//! thread is woken for it, unless another worker has clearly less to do.

use core::{cell::Cell, net::SocketAddr, time::Duration};
use std::{
    io::{self, Write as _},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::{Arc, OnceLock},
};

use log::{error, info, warn};
use smol::channel;
use socket2::{Domain, Protocol, Socket, Type};

use super::{connection, shared::Shared};
use crate::{
    limits::{ACCEPTS_PER_TURN, TCP_UNSENT_MAX_BYTES},
    logger::seldom,
    pipe::{Driven, Handle, Interest, Ready, Seat, Token, Worker},
    rtsp::{Version, write},
    session::Fault,
};

/// Connections that wait to be accepted, kept by the kernel for each worker.
const BACKLOG: i32 = 1024;

/// How long to wait when descriptors have run out: some will have been closed by then.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(200);

/// Whether an address can be listened on: no other program has it, nor this one.
///
/// # Errors
/// The system's reason why not.
pub(super) fn probe(addr: SocketAddr) -> io::Result<()> {
    open(addr, |_| Ok(())).map(drop)
}

/// Listens alone on an address, also on one that the machine has not got yet.
///
/// # Errors
/// The system's reason why not.
pub(super) fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    may_be_listened_on(addr)?;
    open(addr, |socket| {
        before_the_network(socket, addr);
        Ok(())
    })
}

/// Another program has not got the address; that it is not the machine's is only said. At boot the
/// gateway may be there before the network.
fn may_be_listened_on(addr: SocketAddr) -> io::Result<()> {
    match probe(addr) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            warn!("{addr} is no address of this machine yet; it is listened on all the same");
            Ok(())
        }
        probed => probed,
    }
}

/// The socket may be bound to an address that the machine will have later. Where the kernel cannot
/// (`IPV6_FREEBIND` came with 4.15), binding to such a one fails.
fn before_the_network(socket: &Socket, addr: SocketAddr) {
    let v6 = addr.is_ipv6();
    let _ = if v6 { socket.set_freebind_v6(true) } else { socket.set_freebind_v4(true) };
}

fn open(
    addr: SocketAddr,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    prepare(&socket)?;
    // Connections inherit it from the socket that accepts them.
    socket.set_tcp_nodelay(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// An address that all workers listen on.
pub(super) struct Listening {
    doors: Vec<(Handle, Arc<OnceLock<Token>>)>,
}

impl Listening {
    /// Opens a listen address.
    ///
    /// # Errors
    /// The system's reason why not, or a worker that takes no more jobs; nothing stays open then.
    pub(super) fn open(shared: &Arc<Shared>, addr: SocketAddr) -> io::Result<Self> {
        // Sockets of one address that let others in would let in a second gateway as well.
        may_be_listened_on(addr)?;
        let (mut addr, mut opened) = (addr, Self { doors: Vec::new() });
        for handle in shared.pool.handles() {
            let listener = open(addr, |socket| {
                before_the_network(socket, addr);
                // Inherited as well. Where it is not known, media may grow stale in the kernel.
                let _ = socket.set_tcp_notsent_lowat(TCP_UNSENT_MAX_BYTES);
                socket.set_reuse_port(true)
            })?;
            addr = listener.local_addr()?; // port 0 is chosen once
            let (token, shared) = (Arc::new(OnceLock::new()), Arc::clone(shared));
            let place = Arc::clone(&token);
            handle.run(Box::new(move |worker| Door::open(shared, listener, &place, worker)))?;
            opened.doors.push((handle.clone(), token));
        }
        info!("listening on {addr}");
        Ok(opened)
    }

    /// Returns when all sockets are closed: only then is the port free, for the same one at a wider
    /// address.
    pub(super) async fn close(mut self) {
        let _ = self.shut().recv().await;
    }

    /// Nothing is ever sent; the receiver ends when the last worker has closed its socket.
    fn shut(&mut self) -> channel::Receiver<()> {
        let (closing, closed) = channel::bounded(1);
        for (handle, token) in self.doors.drain(..) {
            let closing = closing.clone();
            handle.run_surely(Box::new(move |worker| {
                token.get().inspect(|token| worker.release(**token));
                drop(closing);
            }));
        }
        closed
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.shut();
    }
}

/// The listening socket of one worker.
struct Door {
    shared: Arc<Shared>,
    listener: TcpListener,
    token: Cell<Token>,
    exhausted: Cell<bool>,
}

impl Door {
    /// Called on its worker.
    fn open(shared: Arc<Shared>, listener: TcpListener, place: &OnceLock<Token>, worker: &Worker) {
        let (token, exhausted) = (Cell::new(Token::NONE), Cell::new(false));
        let door = Rc::new(Self { shared, listener, token, exhausted });
        let token = worker.adopt(Rc::clone(&door) as Rc<dyn Driven>);
        door.token.set(token);
        let _ = place.set(token);
        if let Err(error) = worker.register(token, 0, &door.listener, Interest::Read) {
            error!("worker {} accepts no connections: {error}", worker.id());
            worker.release(token);
        }
    }

    fn watch(&self, interest: Interest, worker: &Worker) {
        if let Err(error) = worker.modify(self.token.get(), 0, &self.listener, interest) {
            error!("worker {}: its listening socket: {error}", worker.id());
            worker.wake_at(self.token.get(), Some(worker.now() + EXHAUSTED_WAIT));
        }
    }

    fn hand_over(&self, stream: TcpStream, addr: SocketAddr, here: &Worker) {
        let shared = &self.shared;
        let worker = shared.pool.near(here.id());
        let place = match shared.let_in(addr.ip(), worker.id()) {
            Ok(place) => place,
            Err(fault) => return self.turn_away(&stream, addr, fault),
        };
        shared.count("connections_accepted");
        let theirs = Arc::clone(shared);
        let seat = worker.load().hold(Seat::Connection);
        let counted = (seat, place);
        let job =
            Box::new(move |worker: &_| connection::begin(theirs, stream, addr, counted, worker));
        if worker.run(job).is_err() {
            shared.count("refused_busy");
        }
    }

    /// Tells the client why, as far as the socket takes it at once, and closes.
    fn turn_away(&self, mut stream: &TcpStream, addr: SocketAddr, fault: Fault) {
        self.shared.count(fault.counter());
        let who = addr.ip().to_canonical().to_string();
        if let Some(more) = seldom::once_a_minute(fault.counter(), &who) {
            info!("{addr}: refused: {fault}{more}");
        }
        let retry = fault.retry_after().unwrap_or_default().to_string();
        let headers: [(&str, &[u8]); 2] =
            [("Retry-After", retry.as_bytes()), ("Connection", b"close")];
        let (mut answer, told) = (Vec::new(), fault.told(Version::V1));
        write::response(&mut answer, Version::V1, told, None, &headers, b"");
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write(&answer));
    }

    /// Takes one connection; whether there may be another.
    fn accept(&self, worker: &Worker) -> bool {
        match self.listener.accept() {
            Ok((stream, addr)) => {
                self.exhausted.set(false);
                self.hand_over(stream, addr, worker);
                return true;
            }
            Err(error) if is_exhaustion(&error) => {
                // Said once for each time that it happens, not for each connection that waits.
                if !self.exhausted.replace(true) {
                    self.shared.count("accept_exhausted");
                    if let Some(more) = seldom::once_a_minute("accept_exhausted", "") {
                        warn!(
                            "no connection can be accepted: {error}; raise the limit on open \
                             files{more}"
                        );
                    }
                }
                self.watch(Interest::None, worker);
                worker.wake_at(self.token.get(), Some(worker.now() + EXHAUSTED_WAIT));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The client was gone before it was accepted.
            Err(_) => {
                self.shared.count("accept_failed");
                return true;
            }
        }
        false
    }
}

impl Driven for Door {
    /// Some connections for each turn: those that are there already have theirs in between, and who
    /// comes behind a flood of others is not let in one of them a round.
    fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
        for _ in 0..ACCEPTS_PER_TURN {
            if !self.accept(worker) {
                return;
            }
        }
    }

    fn timeout(self: Rc<Self>, worker: &Worker) {
        self.watch(Interest::Read, worker);
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    matches!(code, Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}
