//! A plugin on trial beside the running ones: told of itself, prepared, probed, called with made-up
//! arguments under the real budgets. The first call of each kind is a warm-up: its time is reported, and
//! only its excess is held against it.
//!
//! Its table and numbers are its own and thrown away. Not in here: what follows from the result.

use core::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::Serialize;

use super::{
    calls::Held,
    engine::{Ticker, thread_cpu_ns},
    guest::{Exports, Fault, Info, Instance, Prepared},
    hooks::{
        Client, Decision, Direction, Message, PipeKey, SessionKey, Upstream, Verdict, WorkerLoad,
    },
    values::{Interest, shown},
};
use crate::rtsp::Head;

/// Calls of each kind: enough for a mean, few enough for an install.
const CALLS: u32 = 50;

/// What a hook did with a made-up argument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// The hook.
    pub hook: &'static str,
    /// What it was asked.
    pub subject: &'static str,
    /// What it said, for people.
    pub verdict: String,
    /// CPU time of the first call, nanoseconds.
    pub first_ns: u64,
    /// CPU time of a call, mean of the later ones, nanoseconds.
    pub mean_ns: u64,
    /// Linear memory of the instance afterwards, bytes.
    pub memory_bytes: usize,
}

/// What an instance costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Costs {
    /// CPU time of making it, nanoseconds.
    pub instance_ns: u64,
    /// CPU time of `init`, nanoseconds.
    pub init_ns: u64,
    /// CPU time of `probe`, nanoseconds.
    pub probe_ns: u64,
    /// Linear memory after all calls, bytes.
    pub memory_bytes: usize,
}

/// What a trial found.
pub(super) struct Tried {
    pub(super) info: Info,
    pub(super) interest: Arc<Interest>,
    pub(super) samples: Vec<Sample>,
    pub(super) costs: Costs,
}

/// Why a trial failed: where, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) step: &'static str,
    pub(super) reason: String,
    /// It took too long. That may be the machine's doing: a host counts the time that it takes from a
    /// virtual machine as time of whoever ran there.
    pub(super) late: bool,
}

impl Failed {
    /// It said so itself.
    fn said(step: &'static str) -> impl Fn(String) -> Self {
        move |reason| Self { step, reason, late: false }
    }

    fn fault(step: &'static str) -> impl Fn(Fault) -> Self {
        move |fault| Self {
            step,
            reason: fault.to_string(),
            late: matches!(fault, Fault::Budget(_)),
        }
    }
}

/// Tries a component, with made-up calls of its hooks if `calls` says so.
///
/// # Errors
/// [`Failed`]: the first step that did not work.
pub(super) fn try_out(
    prepared: &Prepared,
    exports: Exports,
    ticker: &Arc<Ticker>,
    held: &Arc<Held>,
    config: &str,
    handover: Option<&(String, Vec<u8>)>,
    calls: bool,
) -> Result<Tried, Failed> {
    let timed = |since: u64| thread_cpu_ns().saturating_sub(since);
    let since = thread_cpu_ns();
    let mut guest = Instance::new(prepared, ticker, held.clone(), 0).map_err(|fault| {
        let step = if matches!(fault, Fault::Type(_)) { "types" } else { "instantiate" };
        Failed::fault(step)(fault)
    })?;
    let instance_ns = timed(since);
    let info = guest.describe().map_err(Failed::fault("describe"))?;
    let since = thread_cpu_ns();
    guest.init(config, handover).map_err(Failed::fault("init"))?.map_err(Failed::said("init"))?;
    let init_ns = timed(since);
    let since = thread_cpu_ns();
    guest.probe().map_err(Failed::fault("probe"))?.map_err(Failed::said("probe"))?;
    let probe_ns = timed(since);
    let interest = guest.interest().clone();
    let samples = if calls { samples(&mut guest, exports, &interest)? } else { Vec::new() };
    let memory_bytes = guest.memory_bytes();
    // A fault here counts as nothing to say, so it refuses nothing.
    let _ = guest.snapshot();
    let costs = Costs { instance_ns, init_ns, probe_ns, memory_bytes };
    Ok(Tried { info, interest, samples, costs })
}

/// Origins as they might be.
const fn upstream(id: u32, healthy: bool, sessions: u32) -> Upstream {
    Upstream {
        id,
        weight: 1,
        healthy,
        draining: false,
        sessions,
        max_sessions: 16,
        rtt_us: 800,
        err_permille: 0,
        out_kbit: sessions * 4000,
    }
}

const UPSTREAMS: [Upstream; 8] = [
    upstream(0, true, 3),
    upstream(1, true, 1),
    upstream(2, false, 0),
    upstream(3, true, 7),
    upstream(4, true, 2),
    upstream(5, true, 16),
    upstream(6, true, 4),
    upstream(7, true, 5),
];

const CLIENT: Client<'static> = Client {
    ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
    port: 40_000,
    session_hash: Some(0x0123_4567_89ab_cdef),
    listener: "0.0.0.0:8554",
    mount: "/live/*",
};

/// Requests and answers as players and cameras send them: what it is, its method, head, body.
const MESSAGES: [(&str, Direction, &str, &str, &str); 5] = [
    (
        "OPTIONS of a player",
        Direction::ClientToUpstream,
        "OPTIONS",
        "OPTIONS rtsp://gw/live/cam1 RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: player\r\n\r\n",
        "",
    ),
    (
        "DESCRIBE of a player",
        Direction::ClientToUpstream,
        "DESCRIBE",
        "DESCRIBE rtsp://gw/live/cam1?token=abc RTSP/1.0\r\nCSeq: 2\r\nUser-Agent: player\r\n\
         Accept: application/sdp\r\n\r\n",
        "",
    ),
    (
        "SETUP of a player",
        Direction::ClientToUpstream,
        "SETUP",
        "SETUP rtsp://gw/live/cam1/track1 RTSP/1.0\r\nCSeq: 3\r\n\
         Transport: RTP/AVP;unicast;client_port=5000-5001\r\nUser-Agent: player\r\n\r\n",
        "",
    ),
    (
        "answer to DESCRIBE",
        Direction::UpstreamToClient,
        "DESCRIBE",
        "RTSP/1.0 200 OK\r\nCSeq: 2\r\nServer: camera 1.2 (\u{e9})\r\nX-Private: 17\r\n\
         Content-Base: rtsp://192.0.2.20/cam1/\r\nContent-Type: application/sdp\r\n\
         Content-Length: 168\r\n\r\n",
        "v=0\r\no=- 1 1 IN IP4 192.0.2.20\r\ns=camera\r\ni=serial 17\r\nc=IN IP4 0.0.0.0\r\n\
         t=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
         a=x-dim:1\r\na=control:track1\r\n",
    ),
    (
        "answer to SETUP",
        Direction::UpstreamToClient,
        "SETUP",
        "RTSP/1.0 200 OK\r\nCSeq: 3\r\nServer: camera 1.2\r\nSession: 12345678;timeout=60\r\n\
         Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001\r\n\r\n",
        "",
    ),
];

fn samples(
    guest: &mut Instance,
    exports: Exports,
    interest: &Interest,
) -> Result<Vec<Sample>, Failed> {
    let mut all = Vec::new();
    if exports.balancer {
        let key = |attempt| SessionKey {
            client_ip_hash: 0x9e37_79b9_7f4a_7c15,
            path_hash: 0xdead_beef_0000_0001,
            sticky: Some(3),
            attempt,
        };
        let lists: [(&'static str, &[Upstream]); 2] =
            [("1 origin", &UPSTREAMS[..1]), ("8 origins, one down", &UPSTREAMS)];
        for (subject, list) in lists {
            let call = |guest: &mut Instance| guest.pick_upstream(&key(0), "/live/cam1", list);
            all.push(sample(guest, "pick-upstream", subject, call, opinion)?);
        }
        let worker =
            |id, pipes| WorkerLoad { id, pipes, same_node: id == 0, ..WorkerLoad::default() };
        let workers = [worker(0, 9), worker(1, 2)];
        let key = PipeKey { session_hash: 7, ssrc: Some(1), expected_kbit: 4000 };
        let call = |guest: &mut Instance| guest.pick_worker(&key, &workers);
        all.push(sample(guest, "pick-worker", "2 workers", call, opinion)?);
    }
    for (subject, direction, method, head, body) in MESSAGES {
        let bytes = [head.as_bytes(), body.as_bytes()].concat();
        let outline = Head::parse(head.as_bytes()).map(|head| head.outline()).unwrap_or_default();
        let message = Message { bytes: &bytes, outline: &outline, method };
        let request = direction == Direction::ClientToUpstream;
        if exports.authenticator && request {
            let call = |guest: &mut Instance| guest.authenticate(&CLIENT, message);
            all.push(sample(guest, "authenticate", subject, call, decision)?);
        }
        let wanted =
            if request { interest.in_requests(method) } else { interest.in_answers(method) };
        if exports.filter && wanted {
            let call = |guest: &mut Instance| guest.on_message(&CLIENT, direction, message);
            all.push(sample(guest, "on-message", subject, call, |said| verdict(said, &bytes))?);
        }
    }
    Ok(all)
}

fn sample<T>(
    guest: &mut Instance,
    hook: &'static str,
    subject: &'static str,
    mut call: impl FnMut(&mut Instance) -> Result<T, Fault>,
    text: impl Fn(&T) -> String,
) -> Result<Sample, Failed> {
    let failed = |fault: Fault| {
        let failed = Failed::fault(hook)(fault);
        Failed { reason: format!("{subject}: {}", failed.reason), ..failed }
    };
    let since = thread_cpu_ns();
    let said = guest.warming_up(&mut call).map_err(failed)?;
    let first_ns = thread_cpu_ns().saturating_sub(since);
    let since = thread_cpu_ns();
    for _ in 0..CALLS {
        call(guest).map_err(failed)?;
    }
    let mean_ns = thread_cpu_ns().saturating_sub(since) / u64::from(CALLS);
    let memory_bytes = guest.memory_bytes();
    Ok(Sample { hook, subject, verdict: text(&said), first_ns, mean_ns, memory_bytes })
}

fn opinion<T: core::fmt::Display>(picked: &Option<T>) -> String {
    picked.as_ref().map_or_else(|| "no opinion".to_owned(), |id| id.to_string())
}

fn decision(said: &Decision) -> String {
    match said {
        Decision::Allow(grant) => format!("allow {} for {} s", shown(&grant.user), grant.ttl_s),
        Decision::Deny(status) => format!("deny {status}"),
        Decision::Challenge(values) => format!("challenge with {}", values.len()),
        Decision::Abstain => "abstain".to_owned(),
        Decision::Fault => "fault".to_owned(),
    }
}

fn verdict(said: &Verdict, before: &[u8]) -> String {
    match said {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Edited { bytes, .. } => {
            format!("edited: {} bytes become {}", before.len(), bytes.len())
        }
        Verdict::Reject(reply) => format!("reject {}", reply.status),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Fault => "fault".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtsp::{Framer, Progress, Unit};

    #[test]
    fn the_made_up_messages_are_whole() {
        for (subject, _, _, head, body) in MESSAGES {
            let bytes = [head.as_bytes(), body.as_bytes()].concat();
            let unit = Unit::Message { head: head.len(), body: body.len() };
            assert_eq!(Framer::default().next(&bytes), Ok(Progress::Ready(unit)), "{subject}");
        }
    }
}
