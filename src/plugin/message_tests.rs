//! Getters and staged edits, by hand.

use super::*;
use crate::{plugin::bindings::filter, rtsp::Head};

const REQUEST: &[u8] = b"SETUP rtsp://h/a RTSP/1.0\r\ncseq:  7 \r\nX-A: 1\r\nx-a: 2\r\n\
    Content-Type: Text/Parameters; charset=x\r\nContent-Length: 3\r\nX-B: caf\xe9\r\n\r\nabc";

fn outline(bytes: &[u8]) -> Outline {
    let head =
        bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    Head::parse(&bytes[..head]).unwrap().outline()
}

fn lend(current: &mut Current, bytes: &[u8], borrower: Borrower) {
    current.lend(&Message { bytes, outline: &outline(bytes), method: "SETUP" }, borrower);
}

fn filtering(types: &[&str], max_body: u32) -> Current {
    let said = filter::Interest {
        requests: vec![],
        responses_to: vec![],
        body_types: types.iter().map(|kind| (*kind).to_owned()).collect(),
        max_body,
    };
    let mut current = Current::default();
    current.set_interest(Arc::new(Interest::checked(said).unwrap()));
    lend(&mut current, REQUEST, Borrower::Filter);
    current
}

fn lent(bytes: &[u8]) -> Current {
    let mut current = filtering(&["*"], 65_536);
    lend(&mut current, bytes, Borrower::Filter);
    current
}

fn header(name: &str, value: &[u8]) -> Header {
    Header { name: name.to_owned(), value: value.to_vec() }
}

fn text(edited: Option<(Vec<u8>, usize)>) -> String {
    let (bytes, head) = edited.unwrap();
    assert!(bytes[..head].ends_with(b"\n") && Head::parse(&bytes[..head]).is_ok());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn getters_show_the_message_as_it_came() {
    let mut current = lent(REQUEST);
    assert!(current.is_request());
    assert_eq!((current.method(), current.uri()), ("SETUP".to_owned(), "rtsp://h/a".to_owned()));
    assert_eq!((current.status(), current.cseq()), (None, 7));
    assert_eq!(current.header("x-b"), Some(b"caf\xe9".to_vec()));
    assert_eq!(current.header("X-A"), Some(b"1".to_vec()));
    assert_eq!(current.header("X"), None);
    assert_eq!(current.headers().len(), 6);
    assert_eq!(current.body_type().as_deref(), Some("text/parameters"));
    assert_eq!((current.body_len(), current.body()), (3, b"abc".to_vec()));
    current.set_header(header("X-A", b"9")).unwrap();
    assert_eq!(current.header("X-A"), Some(b"1".to_vec()));

    let mut answer = lent(b"RTSP/1.0 404 Not Found\nCSeq: 1\n\n");
    assert_eq!(
        (answer.is_request(), answer.status(), answer.uri()),
        (false, Some(404), String::new())
    );
    assert_eq!(answer.set_uri("rtsp://h/b".to_owned()), Err(EditError::NotARequest));
}

#[test]
fn bodies_are_shown_to_who_asked_for_them() {
    let mut authenticator = filtering(&["*"], 65_536);
    lend(&mut authenticator, REQUEST, Borrower::Authenticator);
    for (current, shown) in [
        (filtering(&["*"], 3), true),
        (filtering(&["text/parameters"], 3), true),
        (filtering(&["*"], 2), false),
        (filtering(&["application/sdp"], 9), false),
        (authenticator, false),
    ] {
        assert_eq!(current.body().is_empty(), !shown);
        assert_eq!(current.body_len(), 3);
    }
}

#[test]
fn edits_change_their_lines_and_nothing_else() {
    let mut current = lent(REQUEST);
    current.remove_header("X-B").unwrap();
    current.add_header(header("X-C", b"3")).unwrap();
    current.set_header(header("X-A", b"\xe9")).unwrap();
    current.remove_header("x-c").unwrap();
    current.add_header(header("X-D", b"4")).unwrap();
    current.set_uri("rtsp://h/other?x=%20".to_owned()).unwrap();
    let (bytes, head) = current.edited().unwrap();
    let wanted: &[u8] = b"SETUP rtsp://h/other?x=%20 RTSP/1.0\r\ncseq:  7 \r\n\
        Content-Type: Text/Parameters; charset=x\r\nContent-Length: 3\r\nX-A: \xe9\r\nX-D: 4\r\n\r\nabc";
    assert_eq!((&bytes[..], head), (wanted, wanted.len() - 3));
    current.take_back();
    assert_eq!(current.edited(), None);
}

#[test]
fn folded_lines_go_with_their_header() {
    let folded = b"OPTIONS rtsp://h/a RTSP/1.0\nX-A: 1\n more\nCSeq: 1\nX-B: 2\n\tand\n\tmore\n\n";
    let remove = |names: &[&str]| {
        let mut current = lent(folded);
        current.remove_headers(names).unwrap();
        current
    };
    assert_eq!(
        text(remove(&["X-A"]).edited()),
        "OPTIONS rtsp://h/a RTSP/1.0\nCSeq: 1\nX-B: 2\n\tand\n\tmore\n\n"
    );
    let mut last = remove(&["X-B"]);
    last.set_uri("rtsp://h/b".to_owned()).unwrap();
    last.add_header(header("X-C", b"3")).unwrap();
    let (bytes, len) = last.edited().unwrap();
    let wanted = b"OPTIONS rtsp://h/b RTSP/1.0\nX-A: 1\n more\nCSeq: 1\nX-C: 3\n\n";
    assert_eq!((&bytes[..], len), (&wanted[..], wanted.len()));
}

#[test]
fn a_new_body_brings_its_type_and_length() {
    let mut current = lent(REQUEST);
    current.set_header(header("content-type", b"x/y")).unwrap();
    current.replace_body("application/sdp".to_owned(), b"v=0\r\n".to_vec()).unwrap();
    let edited = text(current.edited());
    assert!(
        edited.ends_with("Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n"),
        "{edited}"
    );
    assert_eq!(edited.to_lowercase().matches("content-").count(), 2, "{edited}");
    let mut bare = lent(b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n");
    bare.replace_body("a/b; c=d".to_owned(), Vec::new()).unwrap();
    assert_eq!(
        text(bare.edited()),
        "OPTIONS * RTSP/1.0\nCSeq: 1\nContent-Type: a/b; c=d\nContent-Length: 0\n\n"
    );
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut current = lent(REQUEST);
    current.remove_header("X-Z").unwrap();
    assert_eq!(current.edited(), None);
}

#[test]
fn many_headers_go_in_one_call_or_none_does() {
    let mut current = lent(REQUEST);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (bad, error) in [
        ("Session", EditError::ForbiddenHeader),
        ("a b", EditError::BadName),
        ("", EditError::BadName),
    ] {
        assert_eq!(current.remove_headers(&names(&["X-B", bad])), Err(error), "{bad}");
    }
    assert_eq!(current.remove_headers(&names(&["X-Z"; 65])), Err(EditError::TooLarge));
    assert_eq!(current.edited(), None);
    current.remove_headers(&names(&["X-Z"; 62])).unwrap();
    assert_eq!(current.remove_headers(&names(&["X-B"; 3])), Err(EditError::TooLarge));
    current.remove_headers(&names(&["x-b", "X-C"])).unwrap();
    let (many, _) = current.edited().unwrap();
    let mut one_by_one = lent(REQUEST);
    one_by_one.remove_header("X-B").unwrap();
    one_by_one.remove_header("X-C").unwrap();
    assert_eq!(one_by_one.edited().unwrap().0, many);
    assert_eq!(current.remove_header("X-B"), Err(EditError::TooLarge));
}

#[test]
fn edits_that_break_a_rule_are_told_so() {
    let mut current = lent(REQUEST);
    let long = "n".repeat(65);
    for (name, value, error) in [
        ("CSeq", &b"1"[..], EditError::ForbiddenHeader),
        ("session", b"1", EditError::ForbiddenHeader),
        ("Via", b"1", EditError::ForbiddenHeader),
        ("", b"1", EditError::BadName),
        ("a b", b"1", EditError::BadName),
        ("a:", b"1", EditError::BadName),
        ("a\r\nb", b"1", EditError::BadName),
        (&long, b"1", EditError::BadName),
        ("X", b"1\r\nSession: 2", EditError::BadValue),
        ("X", b"1\n", EditError::BadValue),
        ("X", b"\0", EditError::BadValue),
        ("X", &[b'v'; 4097], EditError::TooLarge),
    ] {
        assert_eq!(current.set_header(header(name, value)), Err(error), "{name}");
        assert_eq!(current.add_header(header(name, value)), Err(error), "{name}");
    }
    assert_eq!(current.remove_header("Transport"), Err(EditError::ForbiddenHeader));
    let long = format!("rtsp://h/{}", "p".repeat(URL_MAX_BYTES - 8));
    for (uri, error) in [
        ("rtsp://h/a b", EditError::BadValue),
        ("rtsp://h/\r\nX: y", EditError::BadValue),
        ("/a", EditError::BadValue),
        ("http://h/", EditError::BadValue),
        ("rtsp://", EditError::BadValue),
        (&long, EditError::TooLarge),
    ] {
        assert_eq!(current.set_uri(uri.to_owned()), Err(error), "{uri}");
    }
    for (kind, bytes, error) in [
        ("", 0, EditError::BadValue),
        ("sdp", 0, EditError::BadValue),
        ("a/b\r\nX: y", 0, EditError::BadValue),
        ("a/b", 65_537, EditError::TooLarge),
    ] {
        assert_eq!(current.replace_body(kind.to_owned(), vec![0; bytes]), Err(error), "{kind}");
    }
    assert_eq!(current.edited(), None);
    let mut authenticator = Current::default();
    lend(&mut authenticator, REQUEST, Borrower::Authenticator);
    assert_eq!(authenticator.set_header(header("X", b"")), Err(EditError::ForbiddenHeader));
    assert_eq!(authenticator.set_uri("rtsp://h/".to_owned()), Err(EditError::ForbiddenHeader));
}

#[test]
fn an_edited_head_keeps_to_the_bounds_of_one_that_comes_in() {
    // 6 headers are there: 58 more make 64.
    let mut current = lent(REQUEST);
    let taken = (0..70).filter(|_| current.add_header(header("X-N", b"1")).is_ok()).count();
    assert_eq!(taken, HEADERS_MAX - 6);
    assert!(Head::parse(&current.edited().unwrap().0).is_ok());
    let mut current = lent(REQUEST);
    let taken =
        (0..70).filter(|_| current.add_header(header("X-N", &[b'v'; 4096])).is_ok()).count();
    assert_eq!(taken, 5);
    assert!(current.edited().unwrap().1 <= HEAD_MAX_BYTES);
    let mut current = lent(REQUEST);
    let taken = (0..70).filter(|_| current.set_header(header("X-N", b"1")).is_ok()).count();
    assert_eq!(taken, GUEST_EDITS_MAX);
}
