//! The hooks, well-behaved until the plan says otherwise.

#![allow(missing_docs, unreachable_pub, reason = "generated bindings")]

use std::cell::RefCell;

use crate::{deeds, plan::Plan};

wit_bindgen::generate!({
    inline: "
        package edgeweir:hostile;
        world everything {
            include edgeweir:plugin/balancer-plugin@1.0.0;
            include edgeweir:plugin/authenticator-plugin@1.0.0;
            include edgeweir:plugin/filter-plugin@1.0.0;
        }
    ",
    path: "../../../plugins/wit",
    world: "edgeweir:hostile/everything",
    generate_all,
    pub_export_macro: false,
});

use edgeweir::plugin::types::{Client, Direction, EditError, Header, Message, Reply};
use exports::edgeweir::plugin::{
    authenticator::{Decision, Grant, Guest as Authenticator},
    balancer::{Guest as Balancer, PipeKey, SessionKey, Upstream, Worker},
    filter::{Guest as Filter, Interest, Verdict},
    lifecycle::{Guest as Lifecycle, Handover, Info, InitError},
};

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// What to do in this call of this function; what can be done anywhere is done.
fn deed(place: &str) -> String {
    let deed = PLAN.with(|plan| plan.borrow_mut().deed(place));
    deeds::anywhere(&deed);
    deed
}

struct Plugin;
export!(Plugin);

impl Lifecycle for Plugin {
    fn describe() -> Info {
        Info {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_schema: String::new(),
        }
    }

    fn init(config: Vec<u8>, _: Option<Handover>) -> Result<(), InitError> {
        let plan = Plan::parse(&config).map_err(InitError::BadConfig)?;
        PLAN.with(|slot| *slot.borrow_mut() = plan);
        if deed("init") == "huge" {
            return Err(InitError::BadConfig("x".repeat(LARGE)));
        }
        Ok(())
    }

    fn snapshot() -> Vec<u8> {
        if deed("snapshot") == "huge" { vec![0; 64 * 1024 + 1] } else { Vec::new() }
    }

    fn probe() -> Result<(), String> {
        if deed("probe") == "huge" { Err("x".repeat(LARGE)) } else { Ok(()) }
    }
}

/// More than one call may make the host copy, and less than the memory of an instance.
const LARGE: usize = 2 * 1024 * 1024;

impl Balancer for Plugin {
    fn pick_upstream(_: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        match deed("pick-upstream").as_str() {
            "bad-id" => Some(4_000_000_000),
            "unhealthy-id" => ups.iter().find(|at| !at.healthy).map(|at| at.id),
            _ => None,
        }
    }

    fn pick_worker(_: PipeKey, _: Vec<Worker>) -> Option<u16> {
        (deed("pick-worker") == "bad-id").then_some(u16::MAX)
    }
}

impl Authenticator for Plugin {
    fn authenticate(_: Client, message: &Message) -> Decision {
        let guest = |user: String| Decision::Allow(Grant { user, ttl_s: 0, roles: Vec::new() });
        match deed("authenticate").as_str() {
            "huge" => guest("x".repeat(LARGE)),
            "bad-status" => Decision::Deny(401),
            "deny-ok" => Decision::Deny(200),
            "inject-reply" => Decision::Challenge(vec![header(
                "WWW-Authenticate",
                b"Basic realm=\"a\"\r\nX-B: 2",
            )]),
            "own-reply" => Decision::Challenge(vec![header("Location", b"rtsp://elsewhere/")]),
            "session" if message.header("X-Let-Me-In").is_none() => Decision::Deny(403),
            _ => guest("guest".to_owned()),
        }
    }
}

impl Filter for Plugin {
    fn interests() -> Interest {
        let all = || vec!["*".to_owned()];
        let requests = match deed("interests").as_str() {
            "huge" => vec!["OPTIONS".to_owned(); 10_000],
            _ => all(),
        };
        Interest { requests, responses_to: all(), body_types: all(), max_body: 64 * 1024 }
    }

    fn on_message(_: Client, _: Direction, message: &Message) -> Verdict {
        match deed("on-message").as_str() {
            "huge" => return reject(403, Vec::new(), vec![b'x'; LARGE]),
            "bad-status" => return reject(200, Vec::new(), Vec::new()),
            "inject" => inject(message),
            "inject-reply" => {
                return reject(403, vec![header("X-A", b"1\r\nX-B: 2")], Vec::new());
            }
            "own-reply" => {
                let own = [("CSeq", "9"), ("Session", "9"), ("Content-Length", "9")];
                let own = own.iter().chain(&[("Transport", "RTP/AVP;destination=192.0.2.1")]);
                let own = own.map(|(name, value)| header(name, value.as_bytes())).collect();
                return reject(403, own, Vec::new());
            }
            "edit-then-trap" => {
                edit(message);
                core::arch::wasm32::unreachable()
            }
            "edit-then-drop" => {
                edit(message);
                return Verdict::Drop;
            }
            "edit-flood" => {
                for _ in 0..10_000 {
                    let _ = message.add_header(&header("X-Flood", b"1"));
                }
            }
            "echo" => {
                for from in message.headers() {
                    if from.name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("X-")) {
                        let _ = message.add_header(&header("X-Echo", &from.value));
                    }
                }
            }
            _ => {}
        }
        Verdict::Pass
    }
}

fn header(name: &str, value: &[u8]) -> Header {
    Header { name: name.to_owned(), value: value.to_vec() }
}

fn reject(status: u16, headers: Vec<Header>, body: Vec<u8>) -> Verdict {
    Verdict::Reject(Reply { status, headers, body })
}

fn edit(message: &Message) {
    let _ = message.set_header(&header("X-Edited", b"1"));
    let _ = message.set_uri("rtsp://192.0.2.1/edited");
    let _ = message.replace_body("text/edited", b"edited");
}

/// Tries what must be refused, and marks the message if something is not.
fn inject(message: &Message) {
    let check = |what: &str, done: Result<(), EditError>, wanted: EditError| {
        if done != Err(wanted) {
            let _ = message.add_header(&header("X-Accepted", what.as_bytes()));
        }
    };
    for value in [&b"a\r\nX-B: 2"[..], b"a\nX-B: 2", b"a\rb", b"a\0b"] {
        check("set", message.set_header(&header("X-A", value)), EditError::BadValue);
        check("add", message.add_header(&header("X-A", value)), EditError::BadValue);
    }
    for name in ["", "X A", "X-A:", "X-A\r\nX-B", "X-\u{e4}", "X\0"] {
        check("set name", message.set_header(&header(name, b"1")), EditError::BadName);
        check("add name", message.add_header(&header(name, b"1")), EditError::BadName);
        check("remove name", message.remove_header(name), EditError::BadName);
    }
    let long = "x".repeat(65);
    check("long name", message.add_header(&header(&long, b"1")), EditError::BadName);
    for name in ["CSeq", "cseq", "Content-Length", "CONTENT-LENGTH", "Session", "Transport"] {
        check(name, message.set_header(&header(name, b"1")), EditError::ForbiddenHeader);
        check(name, message.add_header(&header(name, b"1")), EditError::ForbiddenHeader);
        check(name, message.remove_header(name), EditError::ForbiddenHeader);
    }
    let large = vec![b'x'; 4097];
    check("large value", message.set_header(&header("X-A", &large)), EditError::TooLarge);
    let large = vec![b'x'; 64 * 1024 + 1];
    check("large body", message.replace_body("text/plain", &large), EditError::TooLarge);
    for kind in ["", "text/plain\r\nX-B: 2", "text\0/plain"] {
        check("body type", message.replace_body(kind, b"1"), EditError::BadValue);
    }
    let wanted = |is_request| if is_request { EditError::BadValue } else { EditError::NotARequest };
    let wanted = wanted(message.is_request());
    for uri in ["", "/relative", "rtsp://a/ b", "rtsp://a/\r\nX-B: 2", "http://a/"] {
        check("uri", message.set_uri(uri), wanted);
    }
}
