//! What a filter is asked: what it said that it wants to see, and nothing else.

use edgeweir::plugin::{
    Upload,
    hooks::{Hooks as _, Message},
};

use super::support::*;

fn wants(slot: &str, place: &Place, method: &str, bytes: &[u8]) -> bool {
    place.host.guests().interested(slot, Message { method, ..message(bytes) })
}

fn installed(name: &str, config: &str) -> Place {
    let place = Place::new();
    let wasm = component(name);
    place.host.install("f", Upload { config, ..upload(&wasm) }).unwrap();
    place
}

const REQUEST: &[u8] = b"SET_PARAMETER rtsp://h/a RTSP/1.0\r\nCSeq: 1\r\n\r\n";
const ANSWER: &[u8] = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n";
const ANSWER_IN_SMALL: &[u8] = b"rtsp/1.0 200 OK\r\nCSeq: 1\r\n\r\n";

#[test]
fn requests_and_answers_are_told_apart_by_what_they_are_whichever_side_sends_them() {
    // Wants requests of one method and no answers. A camera sends SET_PARAMETER too.
    let place = installed("template", r#"{"methods":["SET_PARAMETER"]}"#);
    assert!(wants("f", &place, "SET_PARAMETER", REQUEST));
    assert!(!wants("f", &place, "GET_PARAMETER", REQUEST));
    assert!(!wants("f", &place, "SET_PARAMETER", ANSWER));
    assert!(!wants("f", &place, "SET_PARAMETER", ANSWER_IN_SMALL));
    // Wants answers to one method, and requests of another.
    let place = installed("redact", r#"{"sdp":["a=tool"]}"#);
    assert!(wants("f", &place, "DESCRIBE", ANSWER) && wants("f", &place, "ANNOUNCE", REQUEST));
    assert!(!wants("f", &place, "DESCRIBE", REQUEST) && !wants("f", &place, "ANNOUNCE", ANSWER));
}

#[test]
fn redact_sees_all_messages_when_headers_are_to_go_and_edits_those_of_its_direction() {
    let place = installed("redact", r#"{"headers":["X-Private"]}"#);
    for bytes in [REQUEST, ANSWER] {
        assert!(wants("f", &place, "SET_PARAMETER", bytes));
    }
    use edgeweir::plugin::hooks::{Direction, Verdict};
    let mut hooks = place.host.guests();
    // The same request, of a player and of a camera.
    let mut said = |direction| hooks.on_message("f", &CLIENT, direction, message(OPTIONS));
    assert_eq!(said(Direction::ClientToUpstream), Verdict::Pass);
    let Verdict::Edited { bytes, .. } = said(Direction::UpstreamToClient) else {
        panic!("the header goes");
    };
    assert!(!bytes.windows(9).any(|part| part == b"X-Private"));
}
