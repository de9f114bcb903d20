//! Asks origins whether they are well, and where their names lead, on the control thread.
//!
//! Each origin is asked now and then, and as soon as a session has doubts about it.
//!
//! Not in here: what the answers mean for an origin's health ([`crate::origin`]).

use core::{net::IpAddr, net::SocketAddr, time::Duration};
use std::{collections::HashMap, io, net::TcpStream, rc::Rc, sync::Arc};

use log::{debug, warn};
use smol::{
    Async, LocalExecutor, Timer,
    future::FutureExt,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{connection::CONNECT_TIMEOUT, doctor, shared::Shared, zones};
use crate::{
    auth::Signer,
    clock::{self, Instant},
    config::HealthCheck,
    limits::HEAD_MAX_BYTES,
    origin::{Origin, Outcome, Table, Trouble, hash_bytes},
    probe::survey,
    rtsp::{
        Head, Method, Version,
        framing::{Framer, Progress, Unit},
        write,
    },
};

/// How often it is looked whether a check is due.
const ROUND: Duration = Duration::from_millis(500);

/// How long a name's addresses are believed.
const RESOLVE_EVERY: Duration = Duration::from_secs(60);

/// Checks all origins of the configuration in force, for ever.
pub(super) async fn watch(shared: Arc<Shared>, executor: Rc<LocalExecutor<'static>>) {
    let mut due: HashMap<String, Instant> = HashMap::new();
    let mut resolve_due: HashMap<String, Instant> = HashMap::new();
    loop {
        let generation = shared.generation();
        let now = clock::now();
        let origins = generation.table.origins();
        due.retain(|name, _| origins.iter().any(|origin| origin.name() == name));
        resolve_due.retain(|name, _| origins.iter().any(|origin| origin.name() == name));
        for origin in origins {
            if origin.needs_resolving()
                && resolve_due.get(origin.name()).is_none_or(|at| *at <= now)
            {
                resolve_due.insert(origin.name().to_owned(), now + RESOLVE_EVERY);
                executor.spawn(resolve(Arc::clone(origin))).detach();
            }
            let settings = origin.settings();
            if settings.check == HealthCheck::Off {
                continue;
            }
            let doubted = origin.takes_question(now);
            if !doubted && due.get(origin.name()).is_some_and(|at| *at > now) {
                continue;
            }
            let every = Duration::from_secs(settings.check_interval_s.max(1).into());
            due.insert(origin.name().to_owned(), now + every);
            if !origin.begin_check(now) {
                continue;
            }
            let signer = origin
                .credentials()
                .and_then(|name| generation.credentials(name))
                .map(|credentials| Signer::new(credentials, shared.seed ^ now.as_millis()));
            let limit = Duration::from_secs(generation.config.limits.answer_timeout_s.into());
            let question = question(origin, &generation.table);
            executor.spawn(check(Arc::clone(origin), question, signer, limit)).detach();
        }
        Timer::after(ROUND).await;
    }
}

async fn resolve(origin: Arc<Origin>) {
    match smol::net::resolve((origin.host(), origin.port())).await {
        Ok(found) => {
            let addrs: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
            origin.set_addrs(&addrs);
        }
        Err(error) => warn!("origin {}: {} has no address: {error}", origin.name(), origin.host()),
    }
}

/// What an origin is asked: method and URL.
fn question(origin: &Origin, table: &Table) -> (Method, Vec<u8>) {
    let (method, path) = match &origin.settings().check {
        HealthCheck::Describe(path) => (Method::Describe, path.as_bytes().to_vec()),
        _ => (Method::Options, table.question_path(origin)),
    };
    let path = if path.is_empty() { origin.path() } else { &path };
    (method, [origin.authority(), path].concat())
}

async fn check(
    origin: Arc<Origin>,
    question: (Method, Vec<u8>),
    signer: Option<Signer>,
    limit: Duration,
) {
    let connected = connect(&origin)
        .or(async {
            Timer::after(limit.min(CONNECT_TIMEOUT)).await;
            None
        })
        .await;
    let outcome = match connected {
        None => Outcome::ConnectFailed,
        Some(stream) => {
            let late = async {
                Timer::after(limit).await;
                Outcome::Unanswered
            };
            ask(&origin, stream, question, signer).or(late).await
        }
    };
    origin.observe(outcome, clock::now());
    debug!("origin {}: {outcome:?}", origin.name());
}

async fn connect(origin: &Origin) -> Option<Async<TcpStream>> {
    Async::<TcpStream>::connect(zones::addr_of(origin)?).await.ok()
}

async fn ask(
    origin: &Origin,
    mut stream: Async<TcpStream>,
    (method, uri): (Method, Vec<u8>),
    mut signer: Option<Signer>,
) -> Outcome {
    for cseq in 1..=2 {
        let sent = clock::now();
        let authorization =
            signer.as_mut().and_then(|s| s.authorization(method.as_str().as_bytes(), &uri));
        let status = match exchange(&mut stream, method, &uri, cseq, authorization).await {
            Ok(answer) => answer,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Outcome::BadReply,
            // A camera that hangs up over its own 401 has answered.
            Err(_) if cseq > 1 => return Outcome::Answered { rtt_us: rtt(sent) },
            Err(_) => return Outcome::Unanswered,
        };
        let (status, challenges, date) = status;
        let values: Vec<&[u8]> = challenges.iter().map(Vec::as_slice).collect();
        let signs = status == 401 && signer.as_mut().is_some_and(|s| s.challenge(&values));
        if !signs || cseq == 2 {
            // An origin that asks for credentials is well; whether ours are right is another matter.
            if signs || signer.is_some() || status != 401 {
                origin.told(method, status, Some(hash_bytes(&uri)), clock::now());
            }
            judge_clock(origin, &date);
            return match status {
                500 | 502..=504 => Outcome::ServerError(status),
                _ => Outcome::Answered { rtt_us: rtt(sent) },
            };
        }
    }
    Outcome::BadReply
}

fn rtt(sent: Instant) -> u32 {
    u32::try_from(clock::now().since(sent).as_micros()).unwrap_or(u32::MAX)
}

/// Whether its clock is near ours, where both say what time it is.
fn judge_clock(origin: &Origin, date: &[u8]) {
    let theirs = core::str::from_utf8(date).ok().and_then(survey::unix_seconds);
    let (Some(theirs), Some(ours)) = (theirs, doctor::believable_unix_s()) else { return };
    if (theirs - ours).abs() > survey::CLOCK_OFF_S {
        origin.met(Trouble::Clock, clock::now());
    } else {
        origin.over(Trouble::Clock);
    }
}

/// One request; the status, the challenges and the Date of its answer.
async fn exchange(
    stream: &mut Async<TcpStream>,
    method: Method,
    uri: &[u8],
    cseq: u32,
    authorization: Option<String>,
) -> io::Result<(u16, Vec<Vec<u8>>, Vec<u8>)> {
    let mut headers: Vec<(&str, &[u8])> = vec![("User-Agent", b"edgeweir")];
    if method == Method::Describe {
        headers.push(("Accept", b"application/sdp"));
    }
    if let Some(value) = &authorization {
        headers.push(("Authorization", value.as_bytes()));
    }
    let mut request = Vec::new();
    write::request(&mut request, Version::V1, method, uri, cseq, &headers, b"");
    stream.write_all(&request).await?;
    let (mut bytes, mut framer) = (Vec::new(), Framer::default());
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    loop {
        let mut part = [0; 2048];
        let got = stream.read(&mut part).await?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(part.get(..got).unwrap_or_default());
        loop {
            match framer.next(&bytes).map_err(|_| invalid())? {
                Progress::NeedMore => break,
                Progress::Ready(Unit::Message { head, .. }) => {
                    let head = Head::parse(bytes.get(..head).unwrap_or_default());
                    let head = head.map_err(|_| invalid())?;
                    let status = head.status().ok_or_else(invalid)?;
                    let challenges =
                        head.all("WWW-Authenticate").map(|h| h.value.to_vec()).collect();
                    let date = head.header("Date").map(|h| h.value.to_vec()).unwrap_or_default();
                    return Ok((status, challenges, date));
                }
                Progress::Ready(unit) => drop(bytes.drain(..unit.len())),
            }
        }
        if bytes.len() > 2 * HEAD_MAX_BYTES + crate::limits::BODY_MAX_BYTES {
            return Err(invalid());
        }
    }
}
