//! The probe against the camera and against servers that send nonsense, over loopback.

use core::time::Duration;
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use smol::{
    block_on,
    future::{or, pending},
};

use super::{Options, ProbeError, Report, Transport, run};
use crate::camera::{self, Camera};

/// Plays a camera with these options.
fn played(camera: camera::Options, transport: Transport, user: &str) -> Result<Report, ProbeError> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let camera = Camera::bind(camera::Options { listen, ..camera }).expect("loopback is there");
    let url = format!("rtsp://{user}{}/cam", camera.local_addr().expect("bound"));
    let mut ticks = 0;
    let played = block_on(or(
        async {
            camera.run(pending()).await;
            Err(ProbeError::Closed)
        },
        run(Options { url, transport, seconds: 2, ports: None }, |_| ticks += 1),
    ));
    assert!(played.is_err() || ticks >= 1, "a line each second");
    played
}

fn check_flows(transport: Transport, camera: camera::Options, user: &str) {
    let report = played(camera, transport, user).expect("the camera plays");
    assert!(report.media_flowed(), "{report:?}");
    assert_eq!(report.tracks.len(), 2);
    let [video, audio] = &report.tracks[..] else { panic!("two tracks") };
    assert_eq!((video.codec.as_str(), audio.codec.as_str()), ("H264", "PCMU"));
    // 25 pictures and 50 packets of sound a second for two seconds; a busy machine sees less, and
    // what was late all at once.
    assert!((20..=75).contains(&video.frames), "{video:?}");
    assert!((40..=150).contains(&audio.packets), "{audio:?}");
    for track in [video, audio] {
        assert_eq!((track.lost, track.restarts, track.malformed), (0, 0, 0), "{track:?}");
        assert!(track.rtcp >= 1 && track.first_packet_ms.is_some(), "{track:?}");
    }
}

fn two_tracks() -> camera::Options {
    camera::Options { audio: true, ..camera::Options::default() }
}

fn locked() -> camera::Options {
    camera::Options { digest: Some(("viewer".into(), "p@ss".into())), ..two_tracks() }
}

#[test]
fn pictures_and_sound_come_over_udp() {
    check_flows(Transport::Udp, two_tracks(), "");
}

#[test]
fn pictures_and_sound_come_interleaved() {
    check_flows(Transport::Tcp, two_tracks(), "");
}

#[test]
fn a_locked_camera_opens_to_its_password() {
    check_flows(Transport::Tcp, locked(), "viewer:p%40ss@");
    check_flows(Transport::Udp, locked(), "viewer:p%40ss@");
}

#[test]
fn a_locked_camera_stays_closed_to_another() {
    for user in ["", "viewer:wrong@", "other:p%40ss@"] {
        let refused = played(locked(), Transport::Tcp, user);
        assert!(matches!(refused, Err(ProbeError::Refused("DESCRIBE", _))), "{refused:?}");
    }
}

#[test]
fn a_camera_that_freezes_sends_nothing_more() {
    let freeze_after = Some(Duration::ZERO);
    let frozen = camera::Options { freeze_after, ..camera::Options::default() };
    let report = played(frozen, Transport::Udp, "").expect("the connection stays");
    assert!(!report.media_flowed(), "{report:?}");
}

#[test]
fn a_camera_that_dies_ends_the_probe() {
    let die_after = Some(Duration::from_millis(300));
    let dying = camera::Options { die_after, ..camera::Options::default() };
    assert!(played(dying, Transport::Tcp, "").is_err());
}

/// A server that reads once and then says this, again and again.
fn against(answer: Vec<u8>, times: usize) -> Result<Report, ProbeError> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback is there");
    let url = format!("rtsp://{}/x", listener.local_addr().expect("bound"));
    let server = thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut request = [0; 4096];
        let _ = stream.read(&mut request);
        for _ in 0..times {
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
    });
    let result =
        block_on(run(Options { url, transport: Transport::Tcp, seconds: 1, ports: None }, |_| {}));
    server.join().expect("the server does not panic");
    result
}

#[test]
fn servers_that_send_nonsense_are_errors_in_words() {
    for (name, answer, times) in [
        ("hangs up", &b""[..], 0),
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n", 1),
        ("bytes", b"\0\x01\x02\x03\n\n", 1),
        ("a line without end", &[b'x'; 1024], 1024),
        ("frames without end", b"$\0\0\x04abcd", 10_000),
        ("blank lines", b"\r\n", 1000),
        ("another's answer", b"RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n", 3),
        ("requests", b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", 3),
        ("no code", b"RTSP/1.0\r\nCSeq: 1\r\n\r\n", 1),
        ("no SDP", b"RTSP/1.0 200 OK\r\n\r\n", 2),
        ("a body past its bound", b"RTSP/1.0 200 OK\r\nContent-Length: 65537\r\n\r\n", 1),
        ("challenges", b"RTSP/1.0 401 No\r\nWWW-Authenticate: Digest nonsense\r\n\r\n", 9),
    ] {
        let result = against(answer.to_vec(), times);
        let error = result.expect_err(name).to_string();
        assert!(!error.is_empty() && !error.ends_with('.'), "{name}: {error}");
    }
}
