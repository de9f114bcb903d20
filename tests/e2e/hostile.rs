//! Guests that misbehave in a running gateway: what players see, what the log says, and that others go on.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use crate::{
    harness::{
        Bench,
        gateway::{Gateway, Setup},
        origin::GstOrigin,
        player::{Ffmpeg, Player, Tcp},
        raw::Raw,
    },
    plugins::{LATER, install, slot},
};

/// What a misbehaving filter means for the one who asks, and for who reads the log: (deed, with
/// on_fault pass, with reject, what the log says).
/// Floods are bounded by quotas and, on a slow machine, by the hook's budget first: then 0, either
/// will do.
const FILTER_DEEDS: [(&str, u16, u16, &str); 17] = [
    ("nothing", 200, 200, ""),
    ("trap", 200, 503, "unreachable"),
    ("loop", 200, 503, "5 ms of CPU time"),
    ("host-loop", 200, 503, "5 ms of CPU time"),
    ("grow", 200, 503, ""),
    ("grow-politely", 200, 200, ""),
    ("recurse", 200, 503, "stack"),
    ("huge", 200, 503, "fault in call"),
    ("bad-status", 200, 503, "status 200"),
    ("inject", 200, 200, ""),
    ("inject-reply", 200, 503, "CR, LF or NUL"),
    ("own-reply", 200, 503, "belongs to the gateway"),
    ("edit-then-trap", 200, 503, "unreachable"),
    ("log-flood", 200, 0, "of a flood"),
    ("metric-flood", 200, 0, ""),
    ("kv-flood", 200, 0, ""),
    ("random-flood", 200, 503, "at most 256"),
];

/// The slot of a guest that does a deed from one call of a hook on. (`on_fault` is for filters.)
fn bad(on_fault: &str, deed: &str, hook: &str, from_call: u32) -> String {
    format!(
        "[[plugin]]\nslot = \"bad\"\non_fault = \"{on_fault}\"\n[plugin.config]\ndo = \"{deed}\"\n\
         in = \"{hook}\"\nfrom_call = {from_call}\n"
    )
}

#[test]
fn a_filter_that_misbehaves_hurts_its_own_route_only() {
    let bench = Bench::new("plugins-hostile-filter");
    let origin = GstOrigin::start(&bench, "origin");
    let tables = |deed: &str, on_fault: &str, from_call: u32| {
        let mut setup = Setup::default()
            .origin("nvr", &origin.base(), "")
            .route("/av", &["nvr"], "filters = [\"bad\"]")
            .route("/open", &["nvr"], "");
        setup.tables += &bad(on_fault, deed, "on-message", from_call);
        setup
    };
    let gateway = Gateway::start(&bench, &tables("nothing", "pass", LATER));
    install(&gateway, "hostile/misbehaves", "bad");
    let others = Player::start(&bench, Ffmpeg, Tcp, &gateway.url("/open"), 15);
    for (deed, passes, rejects, _) in FILTER_DEEDS {
        // Another number makes another generation, with its own trial.
        for (on_fault, expected, from) in [("pass", passes, LATER), ("reject", rejects, LATER + 1)]
        {
            let said = gateway.import_tables(&bench, &tables(deed, on_fault, from));
            assert!(!said.contains("goes on with"), "{deed}: {said}");
            let mut raw = Raw::connect(gateway.at());
            let mut seen = Vec::new();
            // Two messages a request; a few more than are needed to get to the deed.
            for _ in 0..LATER / 2 + 5 {
                let answer = raw.ask("OPTIONS", &gateway.url("/av"), &["X-Mine: 1"]);
                for never in ["X-Accepted", "X-Edited", "X-B", "X-A"] {
                    assert!(!answer.head.contains(never), "{deed}: {}", answer.head);
                }
                seen.push(answer.status);
                if answer.status != 200 {
                    break;
                }
            }
            let last = seen.pop().expect("an answer");
            let fits = match expected {
                0 => matches!(last, 200 | 502 | 503),
                503 => matches!(last, 502 | 503),
                expected => last == expected,
            };
            assert!(fits, "{deed} {on_fault}: {last} after {} answers", seen.len());
        }
    }
    others.finish().expect_whole();
    let log = gateway.peer.stderr();
    let lines = log.lines().count();
    assert!(lines < 1000, "the log has {lines} lines: a guest has flooded it");
    for (deed, _, _, words) in FILTER_DEEDS {
        let of_plugin = |line: &str| line.contains("plugin bad: ") && line.contains(words);
        assert!(words.is_empty() || log.lines().any(of_plugin), "{deed}: {words} is not in {log}");
    }
    gateway.finish();
}

#[test]
fn an_authenticator_that_misbehaves_lets_nobody_in() {
    let bench = Bench::new("plugins-hostile-auth");
    let origin = GstOrigin::start(&bench, "origin");
    let tables = |deed: &str| {
        let mut setup = Setup::default().origin("nvr", &origin.base(), "").route(
            "/av",
            &["nvr"],
            "auth = \"plugin:bad\"",
        );
        setup.tables += &bad("pass", deed, "authenticate", LATER);
        setup
    };
    let gateway = Gateway::start(&bench, &tables("nothing"));
    install(&gateway, "hostile/misbehaves", "bad");
    for deed in ["trap", "loop", "deny-ok", "bad-status", "huge", "inject-reply", "own-reply"] {
        gateway.import_tables(&bench, &tables(deed));
        let mut raw = Raw::connect(gateway.at());
        let ask = |raw: &mut Raw| raw.ask("OPTIONS", &gateway.url("/av"), &[]);
        let seen: Vec<u16> = (0..LATER + 5).map(|_| ask(&mut raw).status).collect();
        assert!(seen.iter().all(|status| matches!(status, 200 | 503)), "{deed}: {seen:?}");
        assert!(seen.contains(&503), "{deed}: {seen:?}");
    }
    gateway.finish();
}

#[test]
fn a_balancer_that_misbehaves_leaves_the_choice_to_the_built_in_policy() {
    let bench = Bench::new("plugins-hostile-balancer");
    let origin = GstOrigin::start(&bench, "origin");
    let tables = |deed: &str| {
        let mut setup = Setup::default()
            .origin("nvr", &origin.base(), "")
            .route("/av", &["nvr"], "policy = \"plugin:bad\"")
            .route("/open", &["nvr"], "");
        setup.tables += &bad("reject", deed, "pick-upstream", LATER);
        setup
    };
    let gateway = Gateway::start(&bench, &tables("nothing"));
    install(&gateway, "hostile/misbehaves", "bad");
    let others = Player::start(&bench, Ffmpeg, Tcp, &gateway.url("/open"), 10);
    for (deed, words) in [
        ("trap", "unreachable"),
        ("loop", "2 ms of CPU time"),
        ("recurse", "stack"),
        ("bad-id", "upstream 4000000000, which is not in the list"),
    ] {
        gateway.import_tables(&bench, &tables(deed));
        let faults = || slot(&gateway, "bad")["faults"].as_u64();
        let before = faults();
        // Each worker has an instance, which counts its own calls.
        for at in 0..10 * LATER {
            let answer = Raw::connect(gateway.at()).ask("OPTIONS", &gateway.url("/av"), &[]);
            assert_eq!(answer.status, 200, "{deed}");
            if at % 20 == 0 && faults() > before {
                break;
            }
        }
        let line = "plugin bad: fault in call: ";
        let log = gateway.peer.stderr();
        let said = log.lines().any(|said| said.contains(line) && said.contains(words));
        assert!(said, "{deed}: {words} is not in {log}");
    }
    others.finish().expect_whole();
    gateway.finish();
}

/// Reads one head.
fn head_from(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole head");
        head.extend(byte);
    }
    head
}

#[test]
fn headers_that_are_not_utf_8_pass_a_guest_as_they_were_sent() {
    let bench = Bench::new("plugins-hostile-bytes");
    // A camera that writes its answer in another encoding.
    let camera = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let at = camera.local_addr().expect("an address");
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = camera.accept().expect("the gateway");
        let request = head_from(&mut stream);
        let cseq = String::from_utf8_lossy(&request);
        let cseq = cseq.lines().find(|line| line.starts_with("CSeq:")).expect("a number");
        let mut answer = format!("RTSP/1.0 200 OK\r\n{cseq}\r\n").into_bytes();
        answer.extend(b"X-Camera: \xb4\xf3\xc3\xc5\r\n\r\n");
        stream.write_all(&answer).expect("the gateway reads");
        request
    });
    let mut setup = Setup::default()
        .origin("nvr", &format!("rtsp://{at}"), "check = \"off\"")
        .route("/av", &["nvr"], "filters = [\"bad\"]");
    setup.tables += &bad("reject", "echo", "on-message", 1);
    let gateway = Gateway::start(&bench, &setup);
    install(&gateway, "hostile/misbehaves", "bad");
    let mut player = TcpStream::connect(gateway.at()).expect("a connection");
    let mut request =
        format!("OPTIONS {} RTSP/1.0\r\nCSeq: 1\r\n", gateway.url("/av")).into_bytes();
    request.extend(b"X-Player: caf\xe9\r\n\r\n");
    player.write_all(&request).expect("the gateway reads");
    let answer = head_from(&mut player);
    let request = asked.join().expect("a request");
    for (whole, as_sent, echoed) in [
        (&request, &b"X-Player: caf\xe9\r\n"[..], &b"X-Echo: caf\xe9\r\n"[..]),
        (&answer, b"X-Camera: \xb4\xf3\xc3\xc5\r\n", b"X-Echo: \xb4\xf3\xc3\xc5\r\n"),
    ] {
        for line in [as_sent, echoed] {
            let there = whole.windows(line.len()).any(|part| part == line);
            assert!(there, "{} is not in {}", line.escape_ascii(), whole.escape_ascii());
        }
    }
    assert_eq!(slot(&gateway, "bad")["faults"].as_u64(), Some(0));
    gateway.finish();
}
