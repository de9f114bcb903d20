//! Readiness, timers, jobs and tasks of a worker, by sockets on loopback.

use super::*;
use core::{cell::OnceCell, sync::atomic::AtomicU32, time::Duration};
use std::{
    net::UdpSocket,
    sync::mpsc::{Receiver, Sender, channel},
};

const LONG: Duration = Duration::from_secs(10);

/// A socket that tells what happens to it, and does what a test asks when it happens.
struct Probe {
    socket: UdpSocket,
    token: OnceCell<Token>,
    tell: Sender<&'static str>,
    then: fn(&Probe, &Worker),
}

impl Driven for Probe {
    fn ready(self: Rc<Self>, what: Ready, worker: &Worker) {
        assert!(what.readable);
        let _ = self.tell.send("ready");
        (self.then)(&self, worker);
    }

    fn timeout(self: Rc<Self>, worker: &Worker) {
        let _ = self.tell.send("timeout");
        (self.then)(&self, worker);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ = self.tell.send("dropped");
    }
}

impl Probe {
    fn token(&self) -> Token {
        *self.token.get().unwrap()
    }

    fn read(&self, _: &Worker) {
        let _ = self.socket.recv(&mut [0; 64]);
    }
}

/// Puts a probe on a worker; returns its address and what it tells.
fn probe(
    handle: &Handle,
    then: fn(&Probe, &Worker),
    set_up: fn(&Probe, &Worker),
) -> (std::net::SocketAddr, Receiver<&'static str>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let (tell, told) = channel();
    let job = move |worker: &Worker| {
        let probe = Rc::new(Probe { socket, token: OnceCell::new(), tell, then });
        let token = worker.adopt(Rc::clone(&probe) as Rc<dyn Driven>);
        probe.token.set(token).unwrap();
        worker.register(token, 3, &probe.socket, Interest::Read).unwrap();
        set_up(&probe, worker);
    };
    handle.run(Box::new(job)).unwrap();
    (address, told)
}

fn poke(address: std::net::SocketAddr) {
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
}

/// Waits until the worker has done all that was sent to it.
fn settle(handle: &Handle) {
    let (tell, told) = channel();
    handle.run(Box::new(move |_| tell.send(()).unwrap())).unwrap();
    told.recv_timeout(LONG).unwrap();
}

fn one() -> Pool {
    Pool::start(1).unwrap()
}

fn nothing(_: &Probe, _: &Worker) {}

#[test]
fn readiness_reaches_the_state_that_registered() {
    let pool = one();
    let (address, told) = probe(&pool.handles()[0], Probe::read, nothing);
    for _ in 0..3 {
        poke(address);
        assert_eq!(told.recv_timeout(LONG), Ok("ready"));
    }
    pool.stop();
    assert_eq!(told.recv_timeout(LONG), Ok("dropped"));
}

#[test]
fn a_panic_ends_its_own_state_and_nothing_else() {
    let pool = one();
    let handle = &pool.handles()[0];
    let (bad, bad_told) = probe(handle, |_, _| panic!("on purpose"), nothing);
    let (good, good_told) = probe(handle, Probe::read, nothing);
    poke(bad);
    assert_eq!(bad_told.recv_timeout(LONG), Ok("ready"));
    assert_eq!(bad_told.recv_timeout(LONG), Ok("dropped"));
    handle.run(Box::new(|_| panic!("a job, on purpose"))).unwrap();
    handle.run(Box::new(|worker| worker.spawn(async { panic!("a task, on purpose") }))).unwrap();
    poke(good);
    assert_eq!(good_told.recv_timeout(LONG), Ok("ready"));
    let (tell, told) = channel();
    let job = |worker: &Worker| worker.spawn(async move { tell.send(()).unwrap() });
    handle.run(Box::new(job)).unwrap();
    told.recv_timeout(LONG).unwrap();
    assert_eq!(handle.load().panics.load(Relaxed), 3);
}

#[test]
fn a_timer_fires_though_the_worker_is_idle_and_a_moved_one_only_once() {
    let pool = one();
    let in_5_ms = |probe: &Probe, worker: &Worker| {
        worker.wake_at(probe.token(), Some(worker.now() + LONG));
        worker.wake_at(probe.token(), Some(worker.now() + Duration::from_millis(5)));
    };
    let before = clock::now();
    let (_, told) = probe(&pool.handles()[0], nothing, in_5_ms);
    assert_eq!(told.recv_timeout(LONG), Ok("timeout"));
    let passed = clock::now() - before;
    assert!(passed >= Duration::from_millis(4) && passed < Duration::from_secs(2), "{passed:?}");
    assert!(told.recv_timeout(Duration::from_millis(30)).is_err());
}

#[test]
fn a_timer_set_to_now_by_its_own_timeout_does_not_starve_events() {
    let pool = one();
    let handle = &pool.handles()[0];
    let again = |probe: &Probe, worker: &Worker| {
        worker.wake_at(probe.token(), Some(worker.now()));
    };
    let (_, _told) = probe(handle, again, again);
    let (address, told) = probe(handle, Probe::read, nothing);
    poke(address);
    assert_eq!(told.recv_timeout(LONG), Ok("ready"));
}

#[test]
fn a_released_token_gets_no_event_of_the_batch_it_was_in() {
    struct Rival {
        socket: UdpSocket,
        other: OnceCell<Token>,
        tell: Sender<&'static str>,
    }
    impl Driven for Rival {
        fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
            let _ = self.socket.recv(&mut [0; 64]);
            // The slot is free, and taken again at once: the old event must not reach it.
            worker.release(*self.other.get().unwrap());
            let (socket, tell) = (self.socket.try_clone().unwrap(), self.tell.clone());
            worker.adopt(Rc::new(Rival { socket, other: OnceCell::new(), tell }));
            let _ = self.tell.send("ready");
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }
    let pool = one();
    let (tell, told) = channel();
    let job = move |worker: &Worker| {
        let rivals = [(); 2].map(|()| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            Rc::new(Rival { socket, other: OnceCell::new(), tell: tell.clone() })
        });
        let tokens = [0, 1].map(|n: usize| worker.adopt(Rc::clone(&rivals[n]) as Rc<dyn Driven>));
        for (n, rival) in rivals.iter().enumerate() {
            rival.other.set(tokens[1 - n]).unwrap();
            worker.register(tokens[n], 0, &rival.socket, Interest::Read).unwrap();
        }
        // Both are ready before the next wait, hence in one batch.
        for rival in &rivals {
            poke(rival.socket.local_addr().unwrap());
        }
    };
    pool.handles()[0].run(Box::new(job)).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok("ready"));
    assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
}

#[test]
fn media_in_plenty_does_not_make_rtsp_wait_for_all_of_it() {
    static SERVED: AtomicU32 = AtomicU32::new(0);
    /// A stream that always has more, and takes a millisecond each time.
    struct Flood(UdpSocket);
    impl Driven for Flood {
        fn ready(self: Rc<Self>, _: Ready, _: &Worker) {
            let began = clock::now();
            while clock::now().since(began) < Duration::from_millis(1) {}
            SERVED.fetch_add(1, Relaxed);
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }
    /// Tells how much of the flood was served before it.
    struct Control(UdpSocket, Sender<u32>);
    impl Driven for Control {
        fn ready(self: Rc<Self>, _: Ready, _: &Worker) {
            let _ = self.0.recv(&mut [0; 64]);
            let _ = self.1.send(SERVED.load(Relaxed));
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }
    fn control(handle: &Handle) -> (std::net::SocketAddr, Receiver<u32>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, told) = channel();
        let set_up = |worker: &Worker| {
            let control = Rc::new(Control(socket, tell));
            let token = worker.adopt(Rc::clone(&control) as Rc<dyn Driven>);
            worker.register(token, 0, &control.0, Interest::Read).unwrap();
        };
        handle.run(Box::new(set_up)).unwrap();
        (address, told)
    }
    const STREAMS: u32 = 200;
    let pool = one();
    let handle = &pool.handles()[0];
    let before = control(handle);
    let set_up = |worker: &Worker| {
        for _ in 0..STREAMS {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            poke(socket.local_addr().unwrap());
            let flood = Rc::new(Flood(socket));
            let token = worker.adopt(Rc::clone(&flood) as Rc<dyn Driven>);
            worker.register_media(token, 0, &flood.0).unwrap();
        }
    };
    handle.run(Box::new(set_up)).unwrap();
    let served_after = |count: u32| {
        let before = SERVED.load(Relaxed);
        while SERVED.load(Relaxed) < before + count {
            settle(handle);
        }
    };
    served_after(STREAMS);
    for (address, told) in [before, control(handle)] {
        let waited = (0..5).map(|_| {
            let before = SERVED.load(Relaxed);
            poke(address);
            told.recv_timeout(LONG).unwrap() - before
        });
        // Of several, for another program may have the processor between two lines of this test.
        assert!(waited.min() < Some(STREAMS / 4));
    }
    // And media are not starved.
    served_after(STREAMS);
}

#[test]
fn rtsp_in_plenty_does_not_make_media_wait_for_all_of_it() {
    static SERVED: AtomicU32 = AtomicU32::new(0);
    /// A connection that always has more, and takes a millisecond each time.
    struct Flood(UdpSocket, Cell<Token>);
    impl Flood {
        fn turn(&self, worker: &Worker) {
            let began = clock::now();
            while clock::now().since(began) < Duration::from_millis(1) {}
            SERVED.fetch_add(1, Relaxed);
            worker.want_turn(self.1.get());
        }
    }
    impl Driven for Flood {
        fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
            self.turn(worker);
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
        fn again(self: Rc<Self>, worker: &Worker) {
            self.turn(worker);
        }
    }
    /// Tells how much of the flood was served before it.
    struct Control(UdpSocket, Sender<u32>);
    impl Driven for Control {
        fn ready(self: Rc<Self>, _: Ready, _: &Worker) {
            let _ = self.0.recv(&mut [0; 64]);
            let _ = self.1.send(SERVED.load(Relaxed));
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }
    const FLOODS: u32 = 200;
    let pool = one();
    let handle = &pool.handles()[0];
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (tell, told) = channel();
    let set_up = move |worker: &Worker| {
        let media = Rc::new(Control(socket, tell));
        let token = worker.adopt(Rc::clone(&media) as Rc<dyn Driven>);
        worker.register_media(token, 0, &media.0).unwrap();
        for _ in 0..FLOODS {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            poke(socket.local_addr().unwrap());
            let flood = Rc::new(Flood(socket, Cell::new(Token::NONE)));
            let token = worker.adopt(Rc::clone(&flood) as Rc<dyn Driven>);
            flood.1.set(token);
            worker.register(token, 0, &flood.0, Interest::Read).unwrap();
        }
    };
    handle.run(Box::new(set_up)).unwrap();
    settle(handle);
    let waited = (0..5).map(|_| {
        let before = SERVED.load(Relaxed);
        poke(address);
        told.recv_timeout(LONG).unwrap() - before
    });
    // Of several, for another program may have the processor between two lines of this test.
    assert!(waited.min() < Some(FLOODS / 10));
    // And the flood goes on, by events and by turns.
    let before = SERVED.load(Relaxed);
    while SERVED.load(Relaxed) < before + FLOODS {
        settle(handle);
    }
}

#[test]
fn timers_that_are_due_all_at_once_do_not_make_media_wait_for_all_of_them() {
    static FIRED: AtomicU32 = AtomicU32::new(0);
    struct Slow;
    impl Driven for Slow {
        fn ready(self: Rc<Self>, _: Ready, _: &Worker) {}
        fn timeout(self: Rc<Self>, _: &Worker) {
            let began = clock::now();
            while clock::now().since(began) < Duration::from_millis(1) {}
            FIRED.fetch_add(1, Relaxed);
        }
    }
    const TIMERS: u32 = 300;
    let pool = one();
    let handle = &pool.handles()[0];
    let set_up = |worker: &Worker| {
        let at = worker.now() + Duration::from_millis(20);
        for _ in 0..TIMERS {
            let token = worker.adopt(Rc::new(Slow));
            worker.wake_at(token, Some(at));
        }
    };
    let (address, told) = probe(handle, Probe::read, nothing);
    handle.run(Box::new(set_up)).unwrap();
    while FIRED.load(Relaxed) == 0 {
        std::thread::yield_now();
    }
    poke(address);
    told.recv_timeout(LONG).unwrap();
    assert!(FIRED.load(Relaxed) < TIMERS / 2);
    while FIRED.load(Relaxed) < TIMERS {
        settle(handle);
    }
}

#[test]
fn a_turn_that_is_asked_for_comes_once_and_behind_what_was_told_of() {
    /// Asks twice for a turn, the first time; tells of each.
    struct Asking(UdpSocket, Cell<Token>, Sender<&'static str>, Cell<bool>);
    impl Driven for Asking {
        fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
            let _ = self.0.recv(&mut [0; 64]);
            let _ = self.2.send("ready");
            if !self.3.replace(true) {
                worker.want_turn(self.1.get());
                worker.want_turn(self.1.get());
                poke(self.0.local_addr().unwrap());
            }
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
        fn again(self: Rc<Self>, worker: &Worker) {
            let _ = self.2.send("again");
            let token = self.1.get();
            worker.want_turn(token);
            worker.release(token); // a turn of what is gone is no one's
            worker.want_turn(token);
        }
    }
    let pool = one();
    let (tell, told) = channel();
    let set_up = move |worker: &Worker| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        poke(socket.local_addr().unwrap());
        let asking = Rc::new(Asking(socket, Cell::new(Token::NONE), tell, Cell::new(false)));
        let token = worker.adopt(Rc::clone(&asking) as Rc<dyn Driven>);
        asking.1.set(token);
        worker.register(token, 0, &asking.0, Interest::Read).unwrap();
    };
    pool.handles()[0].run(Box::new(set_up)).unwrap();
    let all: Vec<&str> = told.iter().collect();
    assert!(matches!(&all[..], ["ready", "again"] | ["ready", "ready", "again"]), "{all:?}");
    assert_eq!(pool.handles()[0].load().panics.load(Relaxed), 0);
}

#[test]
fn interest_can_be_taken_back_and_given_again() {
    let pool = one();
    let give_again = |probe: &Probe, worker: &Worker| {
        worker.modify(probe.token(), 3, &probe.socket, Interest::Read).unwrap();
    };
    let take_back = |probe: &Probe, worker: &Worker| {
        worker.modify(probe.token(), 3, &probe.socket, Interest::None).unwrap();
        worker.modify(probe.token(), 3, &probe.socket, Interest::None).unwrap();
        poke(probe.socket.local_addr().unwrap());
        worker.wake_at(probe.token(), Some(worker.now() + Duration::from_millis(20)));
    };
    let (_, told) = probe(&pool.handles()[0], give_again, take_back);
    assert_eq!(told.recv_timeout(LONG), Ok("timeout"), "not ready before");
    assert_eq!(told.recv_timeout(LONG), Ok("ready"));
}

#[test]
fn what_is_deregistered_or_released_is_silent() {
    let pool = one();
    let handle = &pool.handles()[0];
    let (address, told) = probe(handle, nothing, |probe, worker| {
        worker.deregister(probe.token(), &probe.socket).unwrap();
        assert!(worker.deregister(probe.token(), &probe.socket).is_err(), "not twice");
    });
    let (released, released_told) = probe(handle, nothing, |probe, worker| {
        worker.wake_at(probe.token(), Some(worker.now()));
        worker.release(probe.token());
        worker.release(probe.token());
        let again = worker.register(probe.token(), 3, &probe.socket, Interest::Read);
        assert!(again.is_err());
    });
    poke(address);
    poke(released);
    assert_eq!(released_told.recv_timeout(LONG), Ok("dropped"));
    assert!(told.recv_timeout(Duration::from_millis(30)).is_err());
    assert_eq!(handle.load().panics.load(Relaxed), 0);
}

#[test]
fn the_number_of_what_was_closed_can_be_registered_again() {
    /// Closes its socket when it has been read, and takes another.
    struct Changing(RefCell<UdpSocket>, Cell<Token>, Sender<std::net::SocketAddr>);
    impl Driven for Changing {
        fn ready(self: Rc<Self>, _: Ready, worker: &Worker) {
            let fresh = UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = fresh.local_addr().unwrap();
            worker.close(self.1.get(), self.0.replace(fresh));
            // The lowest free number, which the closed one had unless another test took it.
            let moved = self.0.borrow().try_clone().unwrap();
            drop(self.0.replace(moved));
            worker.register(self.1.get(), 0, &*self.0.borrow(), Interest::Read).unwrap();
            self.2.send(address).unwrap();
        }
        fn timeout(self: Rc<Self>, _: &Worker) {}
    }
    let pool = one();
    let handle = &pool.handles()[0];
    let (tell, told) = channel();
    let set_up = move |worker: &Worker| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        tell.send(socket.local_addr().unwrap()).unwrap();
        let changing = Rc::new(Changing(RefCell::new(socket), Cell::new(Token::NONE), tell));
        let token = worker.adopt(Rc::clone(&changing) as Rc<dyn Driven>);
        changing.1.set(token);
        worker.register(token, 0, &*changing.0.borrow(), Interest::Read).unwrap();
    };
    handle.run(Box::new(set_up)).unwrap();
    for _ in 0..3 {
        poke(told.recv_timeout(LONG).unwrap());
    }
    told.recv_timeout(LONG).unwrap();
    assert_eq!(handle.load().panics.load(Relaxed), 0);
}

#[test]
fn a_source_or_token_out_of_range_is_an_error() {
    let pool = one();
    let handle = &pool.handles()[0];
    let (address, _told) = probe(handle, Probe::read, |probe, worker| {
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        let token = probe.token();
        assert!(worker.register(token, SOURCE_MAX, &other, Interest::Read).is_ok());
        assert!(worker.register(token, SOURCE_MAX + 1, &other, Interest::Read).is_err());
        assert!(worker.register(Token::NONE, 0, &other, Interest::Read).is_err());
        worker.wake_at(Token::NONE, Some(worker.now()));
        worker.release(Token::NONE);
    });
    poke(address);
    settle(handle);
    assert_eq!(handle.load().panics.load(Relaxed), 0);
}
