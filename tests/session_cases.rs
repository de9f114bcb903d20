//! What once went wrong between a session and its shell, driven by hand: configurations that change
//! under an open connection, deadlines that must not lie in the past.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod laws;

use core::time::Duration;
use std::sync::Arc;

use edgeweir::{
    clock::Instant,
    config::text,
    origin::Table,
    rtsp::{framing::Unit, url::Base},
    session::{Bounds, Fault, Feed, Inbox, Input, OriginLink, Output, Session, Side, Surroundings},
};

fn table(paths: &[&str]) -> Arc<Table> {
    let mut toml = String::from("[[origin]]\nname = \"a\"\nurl = \"rtsp://198.51.100.1\"\n");
    for path in paths {
        toml += &format!("[[route]]\npath = \"{path}\"\norigins = [\"a\"]\nauth = \"none\"\n");
    }
    Arc::new(Table::new(&text::parse(&toml).unwrap(), None, 1))
}

fn session(paths: &[&str]) -> Session {
    let around = Surroundings {
        client_ip: "192.0.2.7".parse().unwrap(),
        local_ip: "192.0.2.1".parse().unwrap(),
        authority: b"rtsp://192.0.2.1:8554".to_vec(),
        pseudonym: "edgeweir".into(),
        via_in_1_0: false,
        ids: laws::ids::source(),
        answer_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        silence_timeout: Duration::from_secs(10),
        media_queue: Bounds { bytes: 4096, age: Duration::from_secs(2) },
        detach: false,
        aliases: [7; 32].into(),
    };
    Session::new(around, table(paths), at(0))
}

fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

fn link() -> Input {
    Input::Connected(Box::new(OriginLink {
        index: 0,
        name: "a".into(),
        base: Base { authority: b"rtsp://198.51.100.1:554".to_vec(), path: Vec::new() },
        signer: None,
        keepalive: None,
    }))
}

/// Hands a message over; what is to be done. Ports are there for the asking, connections too when
/// `connects` says so.
fn feed(
    session: &mut Session,
    side: Side,
    text: &str,
    now: Instant,
    connects: bool,
) -> Vec<Output> {
    let bytes = text.replace('\n', "\r\n");
    let mut inbox = Inbox::default();
    inbox
        .feed(&laws::ids::shown(bytes.as_bytes()), |unit, bytes| {
            let Unit::Message { head, .. } = unit else { panic!("messages only") };
            session.message(side, bytes, head, now);
            Feed::Go
        })
        .unwrap();
    settle(session, now, connects)
}

fn settle(session: &mut Session, now: Instant, connects: bool) -> Vec<Output> {
    let mut all = Vec::new();
    while let Some(output) = session.poll_output() {
        match output {
            Output::Connect { .. } if connects => session.handle(link(), now),
            Output::Bind { .. } => {
                session.handle(Input::Bound { client: None, origin: None }, now);
            }
            _ => {}
        }
        all.push(output);
    }
    all
}

fn said(session: &mut Session, side: Side) -> String {
    let outbox = session.outbox(side);
    let text = String::from_utf8(outbox.slices().concat()).unwrap();
    outbox.wrote(text.len());
    text
}

#[test]
fn a_changed_configuration_reaches_a_connection_that_stays_open() {
    let mut session = session(&["/old/**"]);
    session.set_table(table(&["/new/**"]));
    feed(&mut session, Side::Client, "DESCRIBE rtsp://gw/new/x RTSP/1.0\nCSeq: 1\n\n", at(1), true);
    assert_eq!(said(&mut session, Side::Client), "", "it is the origin's to answer");
    assert!(said(&mut session, Side::Origin).starts_with("DESCRIBE rtsp://198.51.100.1:554/new/x"));
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 1\n\n", at(2), true);
    said(&mut session, Side::Client);
    // Again, now that a route is bound and an origin connected.
    session.set_table(table(&["/newest/**"]));
    let did = feed(
        &mut session,
        Side::Client,
        "DESCRIBE rtsp://gw/new/x RTSP/1.0\nCSeq: 2\n\n",
        at(3),
        true,
    );
    assert!(did.contains(&Output::DropOrigin));
    assert!(said(&mut session, Side::Client).starts_with("RTSP/1.0 404"));
}

#[test]
fn a_configuration_that_changes_between_describe_and_setup_does_not_end_the_set_up() {
    let mut session = session(&["/cam/**"]);
    feed(&mut session, Side::Client, "DESCRIBE rtsp://gw/cam/x RTSP/1.0\nCSeq: 1\n\n", at(1), true);
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 1\n\n", at(2), true);
    session.set_table(table(&["/other/**", "/cam/**"]));
    let setup = "SETUP rtsp://gw/cam/x/t1 RTSP/1.0\nCSeq: 2\nTransport: RTP/AVP/TCP\n\n";
    said(&mut session, Side::Client);
    said(&mut session, Side::Origin);
    feed(&mut session, Side::Client, setup, at(3), true);
    assert!(said(&mut session, Side::Origin).starts_with("SETUP "));
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 2\nSession: S\n\n", at(4), true);
    let teardown = "TEARDOWN rtsp://gw/cam/x RTSP/1.0\nCSeq: 3\nSession: <session-1>\n\n";
    feed(&mut session, Side::Client, teardown, at(5), true);
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 3\n\n", at(6), true);
    said(&mut session, Side::Client);
    let describe = "DESCRIBE rtsp://gw/other/x RTSP/1.0\nCSeq: 4\n\n";
    feed(&mut session, Side::Client, describe, at(7), true);
    assert!(said(&mut session, Side::Origin).contains("/other/x"), "the next goes by the new");
}

#[test]
fn a_connection_that_only_sets_up_goes_by_the_routes_of_today() {
    let setup = |cseq: u32| {
        format!("SETUP rtsp://gw/cam/x/t1 RTSP/1.0\nCSeq: {cseq}\nTransport: RTP/AVP/TCP\n\n")
    };
    let refused = "RTSP/1.0 461 No\nCSeq: 1\n\n";
    let asks = "[[origin]]\nname = \"a\"\nurl = \"rtsp://198.51.100.1\"\n[[route]]\n\
        path = \"/cam/**\"\norigins = [\"a\"]\nauth = \"digest\"\n";
    let asks = Arc::new(Table::new(&text::parse(asks).unwrap(), None, 1));
    for (newer, wanted) in [(table(&["/other/**"]), "404"), (asks, "401")] {
        let mut session = session(&["/cam/**"]);
        feed(&mut session, Side::Client, &setup(1), at(1), true);
        feed(&mut session, Side::Origin, refused, at(2), true);
        said(&mut session, Side::Client);
        said(&mut session, Side::Origin);
        session.set_table(newer);
        let did = feed(&mut session, Side::Client, &setup(2), at(3), true);
        if did.iter().any(|output| matches!(output, Output::Authenticate(_))) {
            session.handle(Input::Challenge(vec![b"Digest realm=\"x\"".to_vec()]), at(3));
        }
        let answer = said(&mut session, Side::Client);
        assert!(answer.starts_with(&format!("RTSP/1.0 {wanted}")), "{answer}");
        assert_eq!(said(&mut session, Side::Origin), "", "nothing of it leaves");
    }
}

#[test]
fn a_session_whose_route_is_removed_drains() {
    let mut session = session(&["/cam/**"]);
    let setup = "SETUP rtsp://gw/cam/x/t1 RTSP/1.0\nCSeq: 1\nTransport: RTP/AVP/TCP\n\n";
    feed(&mut session, Side::Client, setup, at(1), true);
    let set_up = "RTSP/1.0 200 OK\nCSeq: 1\nSession: S\n\n";
    feed(&mut session, Side::Origin, set_up, at(2), true);
    session.set_table(table(&["/other/**"]));
    let mut cseq = 1;
    for (method, leaves) in [
        ("PLAY", false),
        ("SET_PARAMETER", false),
        ("DESCRIBE", false),
        ("OPTIONS", true),
        ("GET_PARAMETER", true),
        ("PAUSE", true),
        ("TEARDOWN", true),
    ] {
        cseq += 1;
        for side in [Side::Client, Side::Origin] {
            said(&mut session, side);
        }
        let ask = format!("{method} rtsp://gw/cam/x RTSP/1.0\nCSeq: {cseq}\n\n");
        feed(&mut session, Side::Client, &ask, at(3), true);
        assert_eq!(said(&mut session, Side::Origin).starts_with(method), leaves, "{method}");
        let refused = said(&mut session, Side::Client).starts_with("RTSP/1.0 404");
        assert_eq!(refused, !leaves, "{method}");
    }
}

#[test]
fn a_changed_configuration_is_taken_up_after_a_while_without_a_request_and_never_within_a_session()
{
    let mut session = session(&["/cam/**"]);
    let described = "RTSP/1.0 200 OK\nCSeq: 1\n\n";
    feed(&mut session, Side::Client, "DESCRIBE rtsp://gw/cam/x RTSP/1.0\nCSeq: 1\n\n", at(1), true);
    session.set_table(table(&["/cam/**"]));
    assert!(!session.rest(at(60_000)), "an answer is awaited");
    feed(&mut session, Side::Origin, described, at(2), true);
    assert!(!session.rest(at(10_000)), "its SETUP may come");
    assert!(session.rest(at(10_001)));
    assert!(settle(&mut session, at(10_001), true).contains(&Output::DropOrigin));
    assert!(!session.rest(at(10_002)), "it has the newest");
    // A set-up of later, without another DESCRIBE, is one of the new table.
    let setup = "SETUP rtsp://gw/cam/x/t1 RTSP/1.0\nCSeq: 2\nTransport: RTP/AVP/TCP\n\n";
    for side in [Side::Client, Side::Origin] {
        said(&mut session, side);
    }
    feed(&mut session, Side::Client, setup, at(20_000), true);
    assert!(said(&mut session, Side::Origin).starts_with("SETUP "));
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 2\nSession: S\n\n", at(20_001), true);
    assert!(said(&mut session, Side::Client).contains("Session: "), "it is set up");
    session.set_table(table(&["/other/**"]));
    assert!(!session.rest(at(1_000_000)), "the session keeps its own");
}

#[test]
fn a_request_put_off_does_not_spin_while_its_origin_is_connected_to() {
    let mut session = session(&["/**"]);
    feed(&mut session, Side::Client, "DESCRIBE rtsp://gw/x RTSP/1.0\nCSeq: 1\n\n", at(1), true);
    feed(&mut session, Side::Origin, "RTSP/1.0 503 Busy\nCSeq: 1\n\n", at(2), true);
    session.handle(Input::SideClosed(Side::Origin), at(3));
    let did = settle(&mut session, at(3), false);
    assert!(did.iter().any(|output| matches!(output, Output::Connect { .. })), "{did:?}");
    let later = at(1_000);
    session.tick(later);
    let (due, why) = session.deadline().unwrap();
    assert!(due > later, "{why:?} is due at {due:?}, in the past");
    session.handle(link(), later);
    assert!(said(&mut session, Side::Origin).contains("DESCRIBE"), "it goes out when connected");
}

#[test]
fn a_session_that_was_to_close_when_answered_ends_once() {
    let mut session = session(&["/**"]);
    let ask = "DESCRIBE rtsp://gw/x RTSP/1.0\nCSeq: 1\nConnection: close\n\n";
    feed(&mut session, Side::Client, ask, at(1), true);
    session.handle(Input::SideClosed(Side::Client), at(2));
    let did = settle(&mut session, at(2), true);
    let ends = did.iter().filter(|output| matches!(output, Output::End(_))).count();
    assert_eq!(ends, 1, "{did:?}");
}

/// A session that waits for the answer to its second DESCRIBE.
fn waiting() -> Session {
    let mut session = session(&["/cam/**"]);
    for cseq in 1..=2 {
        let text = format!("DESCRIBE rtsp://gw/cam/x RTSP/1.0\nCSeq: {cseq}\n\n");
        feed(&mut session, Side::Client, &text, at(cseq), true);
    }
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 1\n\n", at(3), true);
    said(&mut session, Side::Client);
    session
}

fn notes(all: &[Output], fault: Fault) -> usize {
    all.iter().filter(|output| **output == Output::Note(fault)).count()
}

#[test]
fn an_origin_that_goes_on_to_say_what_nobody_asked_for_loses_its_connection() {
    let bound = usize::from(edgeweir::limits::UNASKED_MAX);
    let answers = |count: usize| "RTSP/1.0 200 OK\nCSeq: 9999\n\n".repeat(count);
    let mut session = waiting();
    let did = feed(&mut session, Side::Origin, &answers(bound), at(4), false);
    assert_eq!(notes(&did, Fault::OriginReply), bound, "each is counted");
    assert!(!did.contains(&Output::DropOrigin));
    // Sense in between starts anew.
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 2\n\n", at(5), false);
    assert!(said(&mut session, Side::Client).contains("CSeq: 2"));
    let did = feed(&mut session, Side::Origin, &answers(bound), at(6), false);
    assert!(!did.contains(&Output::DropOrigin));
    let did = feed(&mut session, Side::Origin, &answers(1), at(7), false);
    assert!(did.contains(&Output::DropOrigin));
    assert_eq!(notes(&did, Fault::OriginFloods), 1);
}

#[test]
fn an_origin_that_only_says_to_wait_loses_its_connection() {
    let bound = usize::from(edgeweir::limits::INTERIM_ANSWERS_MAX);
    let wait = "RTSP/1.0 100 Continue\nCSeq: 2\n\n";
    let mut session = waiting();
    let did = feed(&mut session, Side::Origin, &wait.repeat(bound), at(4), false);
    assert_eq!(did, [], "a slow recorder");
    let did = feed(&mut session, Side::Origin, wait, at(5), false);
    assert!(did.contains(&Output::DropOrigin));
    assert_eq!(notes(&did, Fault::OriginFloods), 1);
}

#[test]
fn a_client_that_answers_what_it_was_not_asked_is_ended() {
    let bound = usize::from(edgeweir::limits::UNASKED_MAX);
    let answer = "RTSP/1.0 200 OK\nCSeq: 1\n\n";
    let mut session = waiting();
    let did = feed(&mut session, Side::Client, &answer.repeat(bound), at(4), false);
    assert_eq!(did, []);
    let did = feed(&mut session, Side::Client, answer, at(5), false);
    assert!(did.contains(&Output::End(Fault::ClientFloods)), "{did:?}");
}

/// A session that plays over TCP on both sides, PLAY with these headers and this answer to it.
fn plays(asked: &str, answered: &str) -> Session {
    let mut session = session(&["/**"]);
    let setup = "SETUP rtsp://gw/clip/1 RTSP/1.0\nCSeq: 1\n\
                 Transport: RTP/AVP/TCP;unicast;interleaved=0-1\n\n";
    feed(&mut session, Side::Client, setup, at(1), true);
    let set_up = "RTSP/1.0 200 OK\nCSeq: 1\nSession: 7\n\
                  Transport: RTP/AVP/TCP;unicast;interleaved=0-1\n\n";
    feed(&mut session, Side::Origin, set_up, at(2), true);
    play_again(&mut session, 2, asked, answered);
    session
}

fn play_again(session: &mut Session, cseq: u32, asked: &str, answered: &str) {
    let play = format!("PLAY rtsp://gw/clip RTSP/1.0\nCSeq: {cseq}\n{asked}\n");
    feed(session, Side::Client, &play, at(3), true);
    let answer = format!("RTSP/1.0 200 OK\nCSeq: {cseq}\nSession: 7\n{answered}\n");
    let did = feed(session, Side::Origin, &answer, at(4), true);
    assert!(did.contains(&Output::Flows), "the pipes are told that media flows");
    let outbox = session.outbox(Side::Client);
    let waits = outbox.slices().concat().len();
    outbox.wrote(waits);
}

/// Frames of the origin until it is not to be read any more, 1000 at most.
fn fill(session: &mut Session, now: Instant) -> usize {
    let read = |session: &mut Session| {
        let packet = [0x80; 1400];
        session.frame(Side::Origin, 0, &packet, now).expect("a channel that was set up");
        session.outbox(Side::Client).push_frame(0, &packet, now);
        session.wants(Side::Origin)
    };
    (1..=1000).find(|_| !read(session)).unwrap_or(1000)
}

#[test]
fn a_player_that_sets_the_pace_loses_nothing_and_its_origin_is_not_read_ahead() {
    let mut session = plays("Rate-Control: no\nScale: 8.0\n", "");
    let filled = fill(&mut session, at(10));
    assert!((50..200).contains(&filled), "{filled} packets wait and no more are read");
    // The player rests for half a minute; the gateway's question about it cannot be answered.
    for second in 1..30 {
        session.tick(at(10 + second * 1000));
        settle(&mut session, at(10 + second * 1000), true);
    }
    assert_eq!(session.ended(), None, "an origin that is not read is neither silent nor late");
    assert_eq!(session.outbox(Side::Client).dropped(), 0);
    session.outbox(Side::Client).wrote(100 * 1404 / 2);
    assert!(session.wants(Side::Origin), "the player has read");
    let ask = "GET_PARAMETER rtsp://gw/clip RTSP/1.0\nCSeq: 3\n\n";
    fill(&mut session, at(31_000));
    said(&mut session, Side::Origin);
    feed(&mut session, Side::Client, ask, at(31_001), true);
    assert!(said(&mut session, Side::Origin).contains("GET_PARAMETER"), "requests go up meanwhile");
}

#[test]
fn the_pace_is_the_origins_unless_the_player_asks_and_the_origin_grants_it() {
    let clock = |mut session: Session| fill(&mut session, at(10)) == 1000;
    assert!(clock(plays("", "")), "live media");
    assert!(clock(plays("Rate-Control: yes\n", "")));
    assert!(clock(plays("Rate-Control: no\n", "Rate-Control: yes\n")), "declined");
    assert!(!clock(plays("rate-control: No\n", "Rate-Control: no\n")));
    let mut session = plays("Rate-Control: no\n", "");
    play_again(&mut session, 3, "", "");
    assert!(clock(session), "PLAY again without it");
}

/// A session that is set up over TCP, its id as the client knows it.
fn set_up(session: &mut Session) -> String {
    let setup = "SETUP rtsp://gw/x/t1 RTSP/1.0\nCSeq: 1\nTransport: RTP/AVP/TCP\n\n";
    feed(session, Side::Client, setup, at(1), true);
    feed(session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 1\nSession: S\n\n", at(2), true);
    let answer = said(session, Side::Client);
    said(session, Side::Origin);
    let id = answer.lines().find_map(|line| line.strip_prefix("Session: ")).unwrap();
    id.trim().to_owned()
}

#[test]
fn a_player_that_does_not_read_has_its_session_ended_at_the_origin() {
    let mut session = session(&["/**"]);
    let id = set_up(&mut session);
    let body = "x".repeat(60_000);
    for cseq in 2..9 {
        let ask = format!("GET_PARAMETER rtsp://gw/x RTSP/1.0\nCSeq: {cseq}\nSession: {id}\n\n");
        feed(&mut session, Side::Client, &ask, at(3), true);
        let answer =
            format!("RTSP/1.0 200 OK\nCSeq: {cseq}\nContent-Length: {}\n\n{body}", body.len());
        feed(&mut session, Side::Origin, &answer, at(4), true);
        if session.ended().is_some() {
            break;
        }
    }
    assert_eq!(session.ended(), Some(Fault::Stuck));
    assert!(said(&mut session, Side::Origin).contains("TEARDOWN rtsp://198.51.100.1:554/x"));
}

#[test]
fn a_session_whose_ports_cannot_be_opened_is_ended_at_the_origin() {
    let mut session = session(&["/**"]);
    set_up(&mut session);
    session.handle(Input::End(Fault::NoPorts), at(3));
    settle(&mut session, at(3), true);
    assert!(said(&mut session, Side::Origin).starts_with("TEARDOWN rtsp://198.51.100.1:554/x"));
}

#[test]
fn a_client_that_tears_down_and_sends_no_more_does_not_wait_for_an_origin_that_never_answers_that()
{
    let mut session = session(&["/**"]);
    let id = set_up(&mut session);
    let play = format!("PLAY rtsp://gw/x RTSP/1.0\nCSeq: 2\nSession: {id}\n\n");
    feed(&mut session, Side::Client, &play, at(3), true);
    feed(&mut session, Side::Origin, "RTSP/1.0 200 OK\nCSeq: 2\nSession: S\n\n", at(4), true);
    let teardown = format!("TEARDOWN rtsp://gw/x RTSP/1.0\nCSeq: 3\nSession: {id}\n\n");
    feed(&mut session, Side::Client, &teardown, at(5), true);
    session.client_sends_no_more(at(6));
    session.alive(Side::Origin, at(900));
    assert!(session.owes_client());
    session.tick(at(1006));
    assert!(
        said(&mut session, Side::Client).ends_with("RTSP/1.0 504 Origin silent\r\nCSeq: 3\r\n\r\n")
    );
    assert!(!session.owes_client());
}
