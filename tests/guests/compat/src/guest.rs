//! The plugin.

#![allow(missing_docs, unreachable_pub, reason = "generated bindings")]

wit_bindgen::generate!({
    inline: "
        package edgeweir:compat;
        world everything {
            include edgeweir:plugin/balancer-plugin@1.0.0;
            include edgeweir:plugin/authenticator-plugin@1.0.0;
            include edgeweir:plugin/filter-plugin@1.0.0;
        }
    ",
    path: "../../../plugins/wit",
    world: "edgeweir:compat/everything",
    generate_all,
});

use edgeweir::plugin::{
    host_clock, host_credentials, host_kv, host_log, host_metrics, host_random,
    types::{Client, Direction, Header, Message},
};
use exports::edgeweir::plugin::{
    authenticator::{Decision, Grant, Guest as Authenticator},
    balancer::{Guest as Balancer, PipeKey, SessionKey, Upstream, Worker},
    filter::{Guest as Filter, Interest, Verdict},
    lifecycle::{Guest as Lifecycle, Handover, Info, InitError},
};

struct Plugin;
export!(Plugin);

impl Lifecycle for Plugin {
    fn describe() -> Info {
        let text = |text: &str| text.to_owned();
        Info { name: text("compat"), version: text("1.0.0"), config_schema: String::new() }
    }

    fn init(config: Vec<u8>, state: Option<Handover>) -> Result<(), InitError> {
        if let Some(before) = state {
            let _ = host_kv::set("before", &before.state, 60);
        }
        match config.as_slice() {
            b"{}" => Ok(()),
            _ => Err(InitError::BadConfig("this plugin has no settings".to_owned())),
        }
    }

    fn snapshot() -> Vec<u8> {
        b"compat".to_vec()
    }

    fn probe() -> Result<(), String> {
        let check = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        for level in [
            host_log::Level::Trace,
            host_log::Level::Debug,
            host_log::Level::Info,
            host_log::Level::Warn,
            host_log::Level::Error,
        ] {
            host_log::log(level, "compat");
        }
        let first = host_clock::monotonic_ms();
        check(host_clock::monotonic_ms() >= first, "monotonic-ms went back")?;
        let _ = host_clock::unix_ms();
        check(host_random::next() != host_random::next(), "next repeats itself")?;
        check(host_random::fill(256).len() == 256, "fill is short")?;
        host_kv::set("compat", b"v", 60)?;
        check(host_kv::get("compat").as_deref() == Some(b"v"), "get is not what set wrote")?;
        host_kv::delete("compat");
        check(host_kv::get("compat").is_none(), "get finds what delete removed")?;
        host_kv::delete("compat-n");
        host_kv::incr("compat-n", 2, 60)?;
        check(host_kv::incr("compat-n", -5, 60)? == -3, "incr does not add")?;
        host_metrics::counter_add("compat_probes", 1);
        host_metrics::gauge_set("compat_gauge", -1);
        let nobody = host_credentials::digest_ok("nobody-here", "r", "n", "PLAY", "/", "00");
        check(nobody != Some(true), "digest-ok lets nobody in")?;
        check(host_credentials::basic_ok("nobody-here", "p") != Some(true), "basic-ok as well")?;
        let _ = host_credentials::hmac_sha256("no-such-key", b"data");
        Ok(())
    }
}

impl Balancer for Plugin {
    fn pick_upstream(_: SessionKey, _: String, ups: Vec<Upstream>) -> Option<u32> {
        ups.iter().filter(|at| at.healthy && !at.draining).map(|at| at.id).next_back()
    }

    fn pick_worker(_: PipeKey, workers: Vec<Worker>) -> Option<u16> {
        workers.last().map(|at| at.id)
    }
}

impl Authenticator for Plugin {
    fn authenticate(_: Client, message: &Message) -> Decision {
        match message.header("X-Compat-Say").as_deref() {
            Some(b"deny") => Decision::Deny(403),
            Some(b"challenge") => {
                let value = b"Basic realm=\"compat\"".to_vec();
                Decision::Challenge(vec![Header { name: "WWW-Authenticate".to_owned(), value }])
            }
            Some(b"abstain") => Decision::Abstain,
            _ => {
                let roles = vec!["viewer".to_owned()];
                Decision::Allow(Grant { user: "compat".to_owned(), ttl_s: 60, roles })
            }
        }
    }
}

impl Filter for Plugin {
    fn interests() -> Interest {
        let all = || vec!["*".to_owned()];
        let types = vec!["application/sdp".to_owned()];
        Interest { requests: all(), responses_to: all(), body_types: types, max_body: 65_536 }
    }

    fn on_message(client: Client, direction: Direction, message: &Message) -> Verdict {
        match message.header("X-Compat-Say").as_deref() {
            Some(b"reject") => {
                let value = b"1".to_vec();
                let headers = vec![Header { name: "X-Compat".to_owned(), value }];
                let body = Vec::new();
                return Verdict::Reject(edgeweir::plugin::types::Reply {
                    status: 451,
                    headers,
                    body,
                });
            }
            Some(b"drop") => return Verdict::Drop,
            _ => {}
        }
        let said = format!(
            "{} {} {:?} {} {} {} {} {} {} {}",
            message.method(),
            message.uri(),
            message.status(),
            message.cseq(),
            message.headers().len(),
            message.body_type().unwrap_or_default(),
            message.body_len(),
            message.body().len(),
            client.mount,
            matches!(direction, Direction::ClientToUpstream),
        );
        let header =
            |name: &str, value: &[u8]| Header { name: name.to_owned(), value: value.to_vec() };
        let _ = message.set_header(&header("X-Compat", said.as_bytes()));
        let _ = message.add_header(&header("X-Compat-More", b"1"));
        let _ = message.remove_header("X-Compat-Remove");
        if message.is_request() {
            let _ = message.set_uri(&message.uri());
        }
        if message.body_type().is_some() {
            let _ = message.replace_body("application/sdp", &message.body());
        }
        Verdict::Pass
    }
}
