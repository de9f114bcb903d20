//! The plugin around [`lists`](crate::lists).

#![allow(missing_docs, reason = "generated bindings")]

use crate::lists::Lists;

wit_bindgen::generate!({ path: "../wit", world: "filter-plugin", generate_all });

use edgeweir::plugin::{
    host_log::{self, Level},
    types::{Client, Direction, Message},
};
use exports::edgeweir::plugin::filter::{Guest as Filter, Interest, Verdict};

edgeweir_kit::lifecycle!(Lists, probe);

fn probe(_: &Lists) -> Result<(), String> {
    let lists = Lists::parse(br#"{"sdp":["a=tool"]}"#)?;
    match lists.without_lines(b"v=0\r\na=tool:x\r\n").as_deref() {
        Some(b"v=0\r\n") => Ok(()),
        _ => Err("a line that should go stays".to_owned()),
    }
}

impl Filter for Plugin {
    fn interests() -> Interest {
        with_settings(interest).unwrap_or_else(|| interest(&Lists::default()))
    }

    fn on_message(_: Client, direction: Direction, message: &Message) -> Verdict {
        with_settings(|lists| {
            let wanted = match direction {
                Direction::ClientToUpstream => lists.toward.upstream,
                Direction::UpstreamToClient => lists.toward.client,
            };
            if wanted {
                redact(lists, message);
            }
        });
        Verdict::Pass
    }
}

fn interest(lists: &Lists) -> Interest {
    // Headers may be in any message: cameras send requests too, and players answer them.
    // Descriptions come in answers to DESCRIBE, and with ANNOUNCE of either side.
    let headers = !lists.names.is_empty() || !lists.prefixes.is_empty();
    let sdp = !lists.lines.is_empty();
    let of = |carrier: &str| match (headers, sdp) {
        (true, _) => vec!["*".to_owned()],
        (false, true) => vec![carrier.to_owned()],
        (false, false) => Vec::new(),
    };
    Interest {
        requests: of("ANNOUNCE"),
        responses_to: of("DESCRIBE"),
        body_types: if sdp { vec!["application/sdp".to_owned()] } else { Vec::new() },
        max_body: if sdp { 64 * 1024 } else { 0 },
    }
}

fn redact(lists: &Lists, message: &Message) {
    if !lists.names.is_empty() {
        remove(&lists.names, message);
    }
    if !lists.prefixes.is_empty() {
        let headers = message.headers().into_iter().map(|header| header.name);
        remove(&headers.filter(|name| lists.has_prefix(name)).collect::<Vec<_>>(), message);
    }
    if !lists.lines.is_empty()
        && message.body_len() > 0
        && let Some(kind) = message.body_type()
        && kind == "application/sdp"
        && let Some(kept) = lists.without_lines(&message.body())
    {
        say_if_refused("the body", message.replace_body(&kind, &kept));
    }
}

fn remove(names: &[String], message: &Message) {
    if message.remove_headers(names).is_err() {
        // One of them must stay: the others go.
        for name in names {
            say_if_refused(name, message.remove_header(name));
        }
    }
}

fn say_if_refused(what: &str, done: Result<(), edgeweir::plugin::types::EditError>) {
    if let Err(error) = done {
        host_log::log(Level::Warn, &format!("{what} stays: {error}"));
    }
}
