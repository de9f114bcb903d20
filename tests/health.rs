//! Cameras that are well in their own way, and one player or request that meets it: over real sockets
//! nobody else notices. The cameras are made up here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]
#![allow(clippy::disallowed_methods, reason = "tests measure wall time")]

mod harness;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::{
    Bench, free_port,
    gateway::{Gateway, Setup},
    peer::Signal,
    raw::{Item, Raw, udp_pair},
    wait_for,
};

const TCP: &str = "RTP/AVP/TCP;unicast;interleaved=0-1";
const SDP: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n\
                   a=control:t1\r\n";

/// What a camera does about a request.
enum Does {
    /// What every camera does.
    Usual,
    Nothing,
    HangUp,
    /// Answers as usual, after a while.
    Late(Duration),
    /// Asks for credentials, unless the request has some, and hangs up.
    AsksAndHangsUp,
    /// Sends elsewhere.
    Redirects(String),
}

/// A request as the camera saw it: method and URL.
type Asked = (String, String);

/// A camera of one's own making.
struct Camera {
    at: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    connections: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Camera {
    fn start(does: impl Fn(&str, &str) -> Does + Send + Sync + 'static) -> Self {
        Self::start_on(0, does)
    }

    fn start_on(port: u16, does: impl Fn(&str, &str) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let camera = Self {
            at: listener.local_addr().unwrap(),
            asked: Arc::default(),
            connections: Arc::default(),
            most: Arc::default(),
        };
        let does = Arc::new(does);
        let (asked, connections) = (Arc::clone(&camera.asked), Arc::clone(&camera.connections));
        let most = Arc::clone(&camera.most);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (does, asked) = (Arc::clone(&does), Arc::clone(&asked));
                let (connections, most) = (Arc::clone(&connections), Arc::clone(&most));
                thread::spawn(move || {
                    let now = connections.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    serve(stream, &*does, &asked);
                    connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        camera
    }

    fn url(&self) -> String {
        format!("rtsp://{}", self.at)
    }

    fn count(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(asked, _)| asked == method).count()
    }

    fn wait_count(&self, method: &str, count: usize) {
        wait_for(&format!("{count} {method} at the camera"), Duration::from_secs(8), || {
            (self.count(method) >= count).then_some(())
        });
    }
}

/// Serves one connection; after PLAY a frame leaves every 50 ms, unless the URL says that it is mute.
fn serve(mut stream: TcpStream, does: &dyn Fn(&str, &str) -> Does, asked: &Mutex<Vec<Asked>>) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut buffer, mut plays, mut sequence) = (Vec::new(), false, 0_u16);
    loop {
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => return,
            Ok(got) => buffer.extend_from_slice(&part[..got]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
        while buffer.first() == Some(&b'$') && buffer.len() >= 4 {
            let len = 4 + usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
            if buffer.len() < len {
                break;
            }
            buffer.drain(..len);
        }
        while let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            buffer.drain(..end + 4);
            let mut words = head.split(' ');
            let (method, url) = (words.next().unwrap(), words.next().unwrap_or_default());
            if method.starts_with("RTSP/") {
                continue;
            }
            asked.lock().unwrap().push((method.into(), url.into()));
            let cseq = head.lines().find_map(|line| line.strip_prefix("CSeq: ")).unwrap();
            match does(method, url) {
                Does::AsksAndHangsUp if !head.contains("Authorization: Digest") => {
                    let challenge = "WWW-Authenticate: Digest realm=\"cam\", nonce=\"n1\"";
                    let text = format!("RTSP/1.0 401 No\r\nCSeq: {cseq}\r\n{challenge}\r\n\r\n");
                    let _ = stream.write_all(text.as_bytes());
                    return;
                }
                Does::AsksAndHangsUp => {}
                Does::Redirects(to) => {
                    let text =
                        format!("RTSP/1.0 302 Found\r\nCSeq: {cseq}\r\nLocation: {to}\r\n\r\n");
                    stream.write_all(text.as_bytes()).unwrap();
                    continue;
                }
                Does::Nothing => continue,
                Does::HangUp => return,
                Does::Late(after) => thread::sleep(after),
                Does::Usual => {}
            }
            let more = match method {
                "OPTIONS" => "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n\r\n".to_owned(),
                "DESCRIBE" => {
                    let length = SDP.len();
                    format!(
                        "Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{SDP}"
                    )
                }
                "SETUP" => {
                    let wanted = head.lines().find_map(|line| line.strip_prefix("Transport: "));
                    let server =
                        if head.contains("client_port") { ";server_port=61000-61001" } else { "" };
                    let wanted = wanted.unwrap();
                    format!("Session: S;timeout=60\r\nTransport: {wanted}{server}\r\n\r\n")
                }
                _ => "\r\n".to_owned(),
            };
            plays |= method == "PLAY" && !url.contains("mute");
            plays &= method != "TEARDOWN";
            if stream
                .write_all(format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n{more}").as_bytes())
                .is_err()
            {
                return;
            }
        }
        if plays {
            sequence = sequence.wrapping_add(1);
            let [high, low] = sequence.to_be_bytes();
            let frame = [b'$', 0, 0, 14, 0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 1, 7, 7];
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    }
}

fn gateway(bench: &Bench, camera: &Camera, origin: &str, limits: &str) -> Gateway {
    let mut setup = Setup::default().origin("cam", &camera.url(), origin).route(
        "/**",
        &["cam"],
        "methods = [\"play\", \"parameters\", \"other\"]",
    );
    setup.limits = limits.into();
    Gateway::start(bench, &setup)
}

fn health(gateway: &Gateway) -> String {
    gateway.ask(&["status"])["origins"][0]["health"].as_str().unwrap().to_owned()
}

/// Another client is served at once.
fn expect_served(gateway: &Gateway, last: u8) {
    let began = Instant::now();
    let mut other = Raw::connect_from(last, gateway.at());
    let answer = other.ask("DESCRIBE", &gateway.url("/cam"), &[]);
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert!(began.elapsed() < Duration::from_secs(1), "it waited {:?}", began.elapsed());
    assert_ne!(health(gateway), "down");
}

#[test]
fn requests_that_a_camera_ignores_or_hangs_up_over_are_nobody_elses_business() {
    let bench = Bench::new("health-requests");
    let camera = Camera::start(|method, url| match method {
        "FOO" | "GET_PARAMETER" => Does::Nothing,
        "SET_PARAMETER" => Does::HangUp,
        "DESCRIBE" if url.ends_with("/slow") => Does::Nothing,
        _ => Does::Usual,
    });
    let gateway = gateway(&bench, &camera, "", "answer_timeout_s = 1");
    for (method, path, wanted) in [
        ("FOO", "/cam", 504),
        ("GET_PARAMETER", "/cam", 504),
        ("SET_PARAMETER", "/cam", 502),
        ("DESCRIBE", "/slow", 504),
    ] {
        let mut player = Raw::connect_from(1, gateway.at());
        assert_eq!(player.ask(method, &gateway.url(path), &[]).status, wanted, "{method} {path}");
        expect_served(&gateway, 2);
    }
    // A session that plays has its own keepalives unanswered, and goes on.
    let mut player = Raw::connect_from(1, gateway.at());
    player.play(&gateway.url("/cam"), TCP);
    assert_eq!(player.ask("GET_PARAMETER", &gateway.url("/cam"), &[]).status, 504);
    assert_eq!(player.ask("OPTIONS", &gateway.url("/cam"), &[]).status, 200);
    let frames = player.frames.len();
    assert!(frames > 0, "its media flow");
    expect_served(&gateway, 2);
    gateway.finish();
}

#[test]
fn a_camera_that_closes_one_playing_session_stays_well() {
    let bench = Bench::new("health-closes");
    let camera = Camera::start(|method, _| match method {
        "PAUSE" => Does::HangUp,
        _ => Does::Usual,
    });
    let gateway = gateway(&bench, &camera, "check = \"off\"", "");
    for _ in 0..5 {
        let mut player = Raw::connect_from(1, gateway.at());
        player.play(&gateway.url("/cam"), TCP);
        player.send("PAUSE", &gateway.url("/cam"), &[]);
        player.wait_closed(Duration::from_secs(5));
        expect_served(&gateway, 2);
    }
    gateway.finish();
}

#[test]
fn a_camera_that_is_mute_to_options_without_a_path_is_asked_with_one() {
    let bench = Bench::new("health-path");
    let camera = Camera::start(|method, url| {
        let path = url.trim_start_matches("rtsp://").contains('/');
        if method == "OPTIONS" && !path { Does::Nothing } else { Does::Usual }
    });
    let gateway = gateway(&bench, &camera, "check_interval_s = 1", "answer_timeout_s = 1");
    camera.wait_count("OPTIONS", 3);
    wait_for("well camera", Duration::from_secs(3), || (health(&gateway) == "up").then_some(()));
    gateway.finish();
}

#[test]
fn players_whose_media_are_blocked_make_nobody_wait() {
    let bench = Bench::new("health-blocked");
    let camera = Camera::start(|_, _| Does::Usual);
    let gateway = gateway(&bench, &camera, "", "silence_timeout_s = 1");
    let mut players: Vec<Raw> = (1..=4).map(|last| Raw::connect_from(last, gateway.at())).collect();
    for player in &mut players {
        let (rtp, _rtcp) = udp_pair();
        let port = rtp.local_addr().unwrap().port();
        let transport = format!("RTP/AVP;unicast;client_port={port}-{}", port + 1);
        player.play(&gateway.url("/mute"), &transport);
    }
    for player in &mut players {
        player.wait_closed(Duration::from_secs(6));
    }
    expect_served(&gateway, 9);
    camera.wait_count("TEARDOWN", 4);
    gateway.finish();
}

#[test]
fn the_only_origin_of_a_route_is_back_as_soon_as_it_is() {
    let bench = Bench::new("health-only");
    let port = free_port();
    let setup = Setup::default().origin("cam", &format!("rtsp://127.0.0.1:{port}"), "").route(
        "/**",
        &["cam"],
        "",
    );
    let gateway = Gateway::start(&bench, &setup);
    for _ in 0..3 {
        let mut player = Raw::connect_from(1, gateway.at());
        let status = player.ask("DESCRIBE", &gateway.url("/cam"), &[]).status;
        assert!(matches!(status, 502 | 503), "{status}");
        thread::sleep(Duration::from_millis(1100));
    }
    let _camera = Camera::start_on(port, |_, _| Does::Usual);
    let began = Instant::now();
    wait_for("picture", Duration::from_secs(2), || {
        let mut player = Raw::connect_from(1, gateway.at());
        (player.ask("DESCRIBE", &gateway.url("/cam"), &[]).status == 200).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(2));
    expect_served(&gateway, 2);
    gateway.finish();
}

#[test]
fn places_of_an_origin_are_for_sessions_and_the_next_one_goes_elsewhere() {
    let bench = Bench::new("health-places");
    let (a, b) = (Camera::start(|_, _| Does::Usual), Camera::start(|_, _| Does::Usual));
    let setup = Setup::default()
        .origin("a", &a.url(), "max_sessions = 1")
        .origin("b", &b.url(), "max_sessions = 1")
        .route("/**", &["a", "b"], "policy = \"first\"");
    let gateway = Gateway::start(&bench, &setup);
    let url = gateway.url("/cam");
    let mut players: Vec<Raw> = (1..=5).map(|last| Raw::connect_from(last, gateway.at())).collect();
    for player in &mut players {
        assert_eq!(player.ask("OPTIONS", &url, &[]).status, 200);
        assert_eq!(player.ask("DESCRIBE", &url, &[]).status, 200);
    }
    assert_eq!((a.count("DESCRIBE"), b.count("DESCRIBE")), (5, 0), "nobody has a place yet");
    let transport = format!("Transport: {TCP}");
    let set_up = |player: &mut Raw| player.ask("SETUP", &format!("{url}/t1"), &[&transport]);
    for player in &mut players[..2] {
        let answer = set_up(player);
        assert_eq!(answer.status, 200, "{}", answer.head);
    }
    assert_eq!((a.count("SETUP"), b.count("SETUP")), (1, 1));
    let answer = set_up(&mut players[2]);
    assert!(answer.head.starts_with("RTSP/1.0 453 Session limit of the origin"), "{}", answer.head);
    assert_eq!(players[0].ask("TEARDOWN", &url, &[]).status, 200);
    assert_eq!(set_up(&mut players[3]).status, 200, "a place is free again");
    gateway.finish();
}

#[test]
fn a_client_that_only_asks_has_few_connections_at_a_camera() {
    let bench = Bench::new("health-asking");
    let camera = Camera::start(|_, _| Does::Usual);
    let gateway = gateway(&bench, &camera, "check = \"off\"", "");
    let url = gateway.url("/cam");
    let bound = usize::from(edgeweir::limits::ASKING_PER_CLIENT_MAX);
    let mut asking: Vec<Raw> = (0..bound + 8).map(|_| Raw::connect_from(1, gateway.at())).collect();
    for raw in &mut asking {
        raw.send("OPTIONS", &url, &[]);
    }
    // Another client is served while they wait, and what they were told comes from the camera.
    expect_served(&gateway, 2);
    let began = Instant::now();
    for raw in &mut asking {
        match raw.next(Duration::from_secs(10)) {
            Item::Answer(answer) => {
                assert_eq!(answer.status, 200, "{}", answer.head);
                assert!(answer.head.contains("Public: OPTIONS"), "{}", answer.head);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() > Duration::from_secs(2), "the last ones waited for the first to rest");
    let most = camera.most.load(Ordering::SeqCst);
    assert!(most <= bound + 1, "{most} connections at the camera");
    wait_for("rest", Duration::from_secs(8), || {
        (camera.connections.load(Ordering::SeqCst) == 0).then_some(())
    });
    // One that was let go at the camera is connected again when it asks.
    assert_eq!(asking[0].ask("OPTIONS", &url, &[]).status, 200);
    gateway.finish();
}

#[test]
fn whatever_ends_a_session_its_camera_is_told() {
    let bench = Bench::new("health-teardown");
    let camera = Camera::start(|method, url| match method {
        "SETUP" if url.contains("/late") => Does::Late(Duration::from_millis(2500)),
        _ => Does::Usual,
    });
    let gateway = gateway(&bench, &camera, "", "idle_timeout_s = 5");
    let transport = format!("Transport: {TCP}");
    // A client that leaves while its SETUP is under way, at a camera that takes its time.
    let mut hasty = Raw::connect_from(1, gateway.at());
    hasty.send("SETUP", &gateway.url("/late/t1"), &[&transport]);
    wait_for("SETUP", Duration::from_secs(3), || (camera.count("SETUP") == 1).then_some(()));
    drop(hasty);
    camera.wait_count("TEARDOWN", 1);
    // One that says that it closes.
    let mut polite = Raw::connect_from(1, gateway.at());
    polite.play(&gateway.url("/cam"), TCP);
    let answer = polite.ask("GET_PARAMETER", &gateway.url("/cam"), &["Connection: close"]);
    assert_eq!(answer.status, 200);
    camera.wait_count("TEARDOWN", 2);
    // One that just goes, and one that does nothing more.
    let mut gone = Raw::connect_from(1, gateway.at());
    gone.play(&gateway.url("/cam"), TCP);
    drop(gone);
    camera.wait_count("TEARDOWN", 3);
    let mut idle = Raw::connect_from(1, gateway.at());
    assert_eq!(idle.ask("SETUP", &gateway.url("/cam/t1"), &[&transport]).status, 200);
    camera.wait_count("TEARDOWN", 4);
    // And all that are there when the gateway stops.
    let mut last = Raw::connect_from(1, gateway.at());
    last.play(&gateway.url("/cam"), TCP);
    gateway.peer.signal(Signal::Term);
    camera.wait_count("TEARDOWN", 5);
    gateway.finish();
}

#[test]
fn a_camera_that_hangs_up_over_its_401_is_asked_again_and_plays() {
    let bench = Bench::new("health-401");
    let camera = Camera::start(|_, _| Does::AsksAndHangsUp);
    let mut setup = Setup::default()
        .origin("cam", &camera.url(), "credentials = \"cam\"\ncheck_interval_s = 1")
        .route("/**", &["cam"], "auth = \"none\"");
    setup.secrets =
        Some("[[credential]]\nname = \"cam\"\nuser = \"admin\"\npassword = \"pw\"\n".into());
    let gateway = Gateway::start(&bench, &setup);
    let mut player = Raw::connect_from(1, gateway.at());
    player.play(&gateway.url("/cam"), TCP);
    assert!(matches!(player.next(Duration::from_secs(2)), Item::Frame(_)), "it plays");
    wait_for("well camera", Duration::from_secs(3), || (health(&gateway) == "up").then_some(()));
    gateway.finish();
}

#[test]
fn a_redirect_to_another_port_of_the_camera_is_followed_inside() {
    let bench = Bench::new("health-redirect");
    let there = Camera::start(|_, _| Does::Usual);
    let to = format!("{}/live/main", there.url());
    let here = Camera::start(move |method, _| match method {
        "DESCRIBE" => Does::Redirects(to.clone()),
        _ => Does::Usual,
    });
    let setup = Setup::default().origin("cam", &here.url(), "check = \"off\"").route(
        "/**",
        &["cam"],
        "redirect = \"follow\"",
    );
    let gateway = Gateway::start(&bench, &setup);
    let mut player = Raw::connect_from(1, gateway.at());
    player.play(&gateway.url("/cam"), TCP);
    assert!(matches!(player.next(Duration::from_secs(2)), Item::Frame(_)), "it plays");
    let asked = there.asked.lock().unwrap().clone();
    let begins = format!("{}/live/main", there.url());
    assert!(asked.iter().all(|(_, url)| url.starts_with(&begins)), "{asked:?}");
    assert_eq!((here.count("SETUP"), there.count("SETUP")), (0, 1));
    drop(player);
    there.wait_count("TEARDOWN", 1);
    gateway.finish();
}

#[test]
fn a_redirect_leads_nowhere_on_the_gateway_itself() {
    let bench = Bench::new("health-near");
    let secret = Camera::start(|_, _| Does::Usual);
    let to = format!("rtsp://127.0.0.9:{}/x", secret.at.port());
    let camera = Camera::start(move |_, _| Does::Redirects(to.clone()));
    let setup = Setup::default().origin("cam", &camera.url(), "check = \"off\"").route(
        "/**",
        &["cam"],
        "redirect = \"follow\"",
    );
    let gateway = Gateway::start(&bench, &setup);
    let mut player = Raw::connect_from(1, gateway.at());
    let answer = player.ask("DESCRIBE", &gateway.url("/cam"), &[]);
    assert!(answer.head.starts_with("RTSP/1.0 502 Redirect"), "{}", answer.head);
    gateway.finish();
}
