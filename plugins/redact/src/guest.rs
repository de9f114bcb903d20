//! The plugin around [`lists`](crate::lists).

#![allow(missing_docs, reason = "generated bindings")]

use std::cell::OnceCell;

use crate::lists::Lists;

wit_bindgen::generate!({ path: "../wit", world: "filter-plugin", generate_all });

use edgeweir::plugin::{
    host_log::{self, Level},
    types::{Client, Direction, Message},
};
use exports::edgeweir::plugin::{
    filter::{Guest as Filter, Interest, Verdict},
    lifecycle::{Guest as Lifecycle, Handover, Info, InitError},
};

thread_local! {
    static LISTS: OnceCell<Lists> = const { OnceCell::new() };
}

struct Plugin;
export!(Plugin);

impl Lifecycle for Plugin {
    fn describe() -> Info {
        Info {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config_schema: include_str!("../config.schema.json").to_owned(),
        }
    }

    fn init(config: Vec<u8>, _: Option<Handover>) -> Result<(), InitError> {
        let read = Lists::parse(&config).map_err(InitError::BadConfig)?;
        let _ = LISTS.with(|lists| lists.set(read)); // `init` is called once
        Ok(())
    }

    fn snapshot() -> Vec<u8> {
        Vec::new()
    }

    fn probe() -> Result<(), String> {
        let lists = Lists::parse(br#"{"sdp":["a=tool"]}"#)?;
        match lists.without_lines(b"v=0\r\na=tool:x\r\n").as_deref() {
            Some(b"v=0\r\n") => Ok(()),
            _ => Err("a line that should go stays".to_owned()),
        }
    }
}

impl Filter for Plugin {
    fn interests() -> Interest {
        LISTS.with(|lists| match lists.get() {
            None => nothing(),
            Some(lists) => {
                // Descriptions come in answers to DESCRIBE, and with ANNOUNCE.
                let of = |wanted: bool, carrier: &str| {
                    let headers = !lists.names.is_empty() || !lists.prefixes.is_empty();
                    match (wanted, headers) {
                        (false, _) => Vec::new(),
                        (true, true) => vec!["*".to_owned()],
                        (true, false) => vec![carrier.to_owned()],
                    }
                };
                let sdp = !lists.lines.is_empty();
                Interest {
                    requests: of(lists.toward.upstream, "ANNOUNCE"),
                    responses_to: of(lists.toward.client, "DESCRIBE"),
                    body_types: if sdp { vec!["application/sdp".to_owned()] } else { Vec::new() },
                    max_body: if sdp { 64 * 1024 } else { 0 },
                }
            }
        })
    }

    fn on_message(_: Client, direction: Direction, message: &Message) -> Verdict {
        LISTS.with(|lists| {
            let Some(lists) = lists.get() else { return };
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

fn nothing() -> Interest {
    Interest { requests: Vec::new(), responses_to: Vec::new(), body_types: Vec::new(), max_body: 0 }
}

fn redact(lists: &Lists, message: &Message) {
    for name in &lists.names {
        say_if_refused(name, message.remove_header(name));
    }
    if !lists.prefixes.is_empty() {
        for header in message.headers().iter().filter(|header| lists.has_prefix(&header.name)) {
            say_if_refused(&header.name, message.remove_header(&header.name));
        }
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

fn say_if_refused(what: &str, done: Result<(), edgeweir::plugin::types::EditError>) {
    if let Err(error) = done {
        host_log::log(Level::Warn, &format!("{what} stays: {error}"));
    }
}
