//! The bound for set-ups: a loop that passes the bytes of each client to a connection of its own to
//! the server and back, and opens the four UDP sockets that a session of one track needs. Two
//! threads, as the gateway has workers. It parses nothing, keeps no account and no timer.

use std::{
    collections::HashMap,
    io::{self, Read, Write},
    mem,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    thread,
};

use socket2::{Domain, Socket, Type};

const THREADS: usize = 2;
/// The key of the listening socket; a session's are twice its number, and one more for the server.
const LISTENER: u64 = u64::MAX;
const EVENTS: usize = 256;

struct Session {
    client: TcpStream,
    server: TcpStream,
    _media: [UdpSocket; 4],
}

/// Prints its address and relays until it is killed.
pub(crate) fn main(server: SocketAddr) {
    let first = listen("127.0.0.1:0".parse().expect("an address"));
    let at = first.local_addr().expect("its address");
    let listeners: Vec<TcpListener> =
        (1..THREADS).map(|_| listen(at)).chain(std::iter::once(first)).collect();
    println!("{at}");
    io::stdout().flush().expect("a reader");
    thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(move || relay(listener, server));
        }
    });
}

fn listen(at: SocketAddr) -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
    socket.set_reuse_port(true).expect("an option");
    socket.set_tcp_nodelay(true).expect("an option");
    socket.bind(&at.into()).and_then(|()| socket.listen(1024)).expect("an address");
    socket.into()
}

fn relay(listener: &TcpListener, server: SocketAddr) {
    // SAFETY: a plain call.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    watch(epoll, listener, LISTENER);
    let (mut sessions, mut number) = (HashMap::new(), 0);
    let mut bytes = vec![0; 64 * 1024];
    // SAFETY: a structure of integers.
    let mut events: [libc::epoll_event; EVENTS] = unsafe { mem::zeroed() };
    loop {
        let room = events.len() as i32;
        // SAFETY: there is room for as many events as are asked for.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), room, -1) };
        for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
            if event.u64 == LISTENER {
                let Ok((client, _)) = listener.accept() else { continue };
                client.set_nonblocking(true).expect("a mode");
                let server = connect(server);
                let media: [UdpSocket; 4] =
                    std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").expect("a port"));
                watch(epoll, &client, number * 2);
                watch(epoll, &server, number * 2 + 1);
                // They get no datagram: whom their events would name does not matter.
                media.iter().for_each(|socket| watch(epoll, socket, LISTENER));
                sessions.insert(number, Session { client, server, _media: media });
                number += 1;
                continue;
            }
            let Some(session) = sessions.get(&(event.u64 / 2)) else { continue };
            let (mut from, mut to) = (&session.client, &session.server);
            if event.u64 % 2 == 1 {
                (from, to) = (to, from);
            }
            match from.read(&mut bytes) {
                Ok(0) => drop(sessions.remove(&(event.u64 / 2))),
                Ok(count) => to.write_all(&bytes[..count]).expect("room for a message"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => drop(sessions.remove(&(event.u64 / 2))),
            }
        }
    }
}

fn connect(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
    // On the loopback it is done when the call returns, whatever the call says.
    let _ = socket.connect(&server.into());
    socket.set_tcp_nodelay(true).expect("an option");
    socket.into()
}

fn watch(epoll: i32, socket: &impl AsRawFd, key: u64) {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: key };
    // SAFETY: the event lives through the call.
    let result =
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &raw mut event) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}
