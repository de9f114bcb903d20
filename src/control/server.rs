//! Connections of the control API: how many, how long, and who may.
//!
//! One request for each connection: then every wait has one bound of its own. A head, a body and
//! the reading of the answer each have [`CONTROL_TIMEOUT_S`], over TCP a head two seconds; the work
//! between body and answer has none, because it writes flash. Past [`CONTROL_CONNECTIONS_MAX`] nobody
//! is accepted on the Unix socket until one ends. TCP is counted apart, so that strangers cannot lock
//! out the operator, nor each other (`strangers.rs`).
//!
//! Not in here: what a request does ([`super::api`]).

use core::{convert::Infallible, time::Duration};
use std::{
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use http_body_util::{BodyExt as _, Limited};
use hyper::{
    Method, Request,
    body::{Body as _, Bytes, Incoming},
    header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE},
    server::conn::http1,
    service::service_fn,
};
use sha2::{Digest as _, Sha256};
use smol::{
    Async, Executor, Timer,
    channel::{self, Receiver, Sender},
    future::FutureExt as _,
    io::{AsyncRead, AsyncWrite},
    lock::Semaphore,
};
use smol_hyper::rt::{FuturesIo, SmolTimer};

use super::{
    api::{self, Call, Reply},
    gateway::Gateway,
    model::Problem,
    strangers::Strangers,
};
use crate::limits::{
    CONTROL_BODY_MAX_BYTES, CONTROL_CONNECTIONS_MAX, CONTROL_HEAD_MAX_BYTES, CONTROL_HEADERS_MAX,
    CONTROL_TIMEOUT_S, PLUGIN_KIB_MAX,
};
use crate::{logger::seldom, peer::Peer};

/// Time for a head, for a body, for reading the answer.
const PATIENCE: Duration = Duration::from_secs(CONTROL_TIMEOUT_S);

/// Time for a head over TCP, where it carries the token.
const HEAD_OF_STRANGER: Duration = Duration::from_secs(2);

/// Time for the rest of a body that is refused.
const REFUSED_PATIENCE: Duration = Duration::from_secs(1);

/// Serves a Unix socket, whose file mode says who may, until the future is dropped or the listener
/// breaks. Requests under way are cut off by the drop.
///
/// # Errors
/// The listener cannot be registered with the reactor.
pub async fn serve_unix(listener: &UnixListener, gateway: Arc<dyn Gateway>) -> io::Result<()> {
    let listener = Async::new(listener.try_clone()?)?;
    let executor = Arc::new(Executor::new());
    let guard = Guard { gateway, head: PATIENCE, stranger: None };
    executor.run(serve_own(&listener, guard, &executor)).await;
    Ok(())
}

/// Serves TCP, where each request must carry the bearer token of [`Gateway::token`].
///
/// # Errors
/// The listener cannot be registered with the reactor.
pub async fn serve_tcp(listener: TcpListener, gateway: Arc<dyn Gateway>) -> io::Result<()> {
    let listener = Async::new(listener)?;
    let executor = Arc::new(Executor::new());
    executor.run(serve_strangers(&listener, gateway, &executor)).await;
    Ok(())
}

/// The gateway, and who may reach it.
#[derive(Clone)]
struct Guard {
    gateway: Arc<dyn Gateway>,
    /// Time for a head.
    head: Duration,
    /// None: no token is needed.
    stranger: Option<Arc<Seat>>,
}

/// Those who came over TCP; what ends one is heard by its connection.
type Seats = Arc<Mutex<Strangers<Sender<()>>>>;

/// The place of one that came over TCP, given back when dropped.
struct Seat {
    seats: Seats,
    id: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(&self.seats).leave(self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve_own(
    listener: &Async<UnixListener>,
    guard: Guard,
    executor: &Arc<Executor<'static>>,
) {
    let places = Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX));
    loop {
        let place = places.acquire_arc().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let (guard, jobs) = (guard.clone(), Arc::clone(executor));
                let connection = async move {
                    connection(stream, guard, &jobs).await;
                    drop(place);
                };
                executor.spawn(connection).detach();
            }
            Err(wrong) => not_accepted(&wrong).await,
        }
    }
}

async fn serve_strangers(
    listener: &Async<TcpListener>,
    gateway: Arc<dyn Gateway>,
    executor: &Arc<Executor<'static>>,
) {
    let seats = Seats::default();
    loop {
        let (stream, addr) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(wrong) => {
                not_accepted(&wrong).await;
                continue;
            }
        };
        let (end, ended) = channel::bounded(1);
        let entered = lock(&seats).enter(Peer::of(addr.ip()), end);
        let Some((id, goes)) = entered else { continue };
        if let Some(goes) = goes {
            let _ = goes.try_send(());
        }
        let stranger = Some(Arc::new(Seat { seats: Arc::clone(&seats), id }));
        let guard = Guard { gateway: Arc::clone(&gateway), head: HEAD_OF_STRANGER, stranger };
        let jobs = Arc::clone(executor);
        let connection = async move {
            let sent_away = async {
                let _ = ended.recv().await;
                log::debug!("control: {addr} gave way to others");
            };
            connection(stream, guard, &jobs).or(sent_away).await;
        };
        executor.spawn(connection).detach();
    }
}

/// Out of descriptors, or the client left before it was accepted: neither is ours to die of, and the
/// first must not spin.
async fn not_accepted(wrong: &io::Error) {
    if let Some(more) = seldom::once_a_minute("control cannot accept", "") {
        log::warn!("control: cannot accept: {wrong}; trying again in 0.2 s{more}");
    }
    Timer::after(Duration::from_millis(200)).await;
}

/// One connection, one request.
async fn connection<S>(stream: S, guard: Guard, executor: &Arc<Executor<'static>>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (answered, answer_ready) = channel::bounded::<()>(1);
    let head = guard.head;
    let service = service_fn(|request: Request<Incoming>| {
        let (guard, answered, jobs) = (guard.clone(), answered.clone(), Arc::clone(executor));
        async move {
            let reply = guarded(request, guard, &jobs).await;
            let _ = answered.try_send(());
            Ok::<_, Infallible>(reply)
        }
    });
    let http = http1::Builder::new()
        .timer(SmolTimer::new())
        .header_read_timeout(head)
        .keep_alive(false)
        .max_headers(CONTROL_HEADERS_MAX)
        .max_header_size(CONTROL_HEAD_MAX_BYTES)
        .max_buf_size(2 * CONTROL_HEAD_MAX_BYTES)
        .serve_connection(FuturesIo::new(stream), service);
    let served = async {
        if let Err(wrong) = http.await {
            log::debug!("control: a connection ended: {wrong}");
        }
    };
    served.or(reading_bound(answer_ready)).await;
}

/// Ends some time after the answer was ready: a client that does not read it is left.
async fn reading_bound(answer_ready: Receiver<()>) {
    let _ = answer_ready.recv().await;
    Timer::after(PATIENCE).await;
    log::debug!("control: a client did not read its answer within {CONTROL_TIMEOUT_S} s");
}

async fn guarded(request: Request<Incoming>, guard: Guard, jobs: &Executor<'static>) -> Reply {
    if let Some(seat) = &guard.stranger {
        let presented = request.headers().get(AUTHORIZATION);
        if !admits(guard.gateway.token().as_deref(), presented) {
            return unauthorised(presented.is_some());
        }
        lock(&seat.seats).has_token(seat.id);
    }
    match collected(request).await {
        Ok(call) => to_its_end(call, guard.gateway, jobs).await,
        Err(problem) => api::problem(&problem),
    }
}

/// The request with its whole body, if that is small and quick enough.
async fn collected(request: Request<Incoming>) -> Result<Call, Problem> {
    let (head, body) = request.into_parts();
    // Components are larger than all else.
    let upload = head.method == Method::PUT && head.uri.path().starts_with("/v1/plugins/");
    let most = if upload { usize::from(PLUGIN_KIB_MAX) * 1024 } else { CONTROL_BODY_MAX_BYTES };
    let too_large = || {
        let detail = format!("the body is too large: allowed are {most} bytes");
        Problem::new(413, detail)
    };
    // Said ahead: no need to keep what will be refused. A little of it is read all the same, since a
    // client that writes into a closed connection does not get to read the answer.
    if body.size_hint().lower() > most as u64 {
        let mut rest = Limited::new(body, 2 * most);
        let read = async { while let Some(Ok(_)) = rest.frame().await {} };
        let late = async {
            Timer::after(REFUSED_PATIENCE).await;
        };
        read.or(late).await;
        return Err(too_large());
    }
    let arrived = async { Some(Limited::new(body, most).collect().await) };
    let late = async {
        Timer::after(PATIENCE).await;
        None
    };
    let body = match arrived.or(late).await {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(wrong)) if wrong.is::<http_body_util::LengthLimitError>() => {
            return Err(too_large());
        }
        Some(Err(wrong)) => return Err(Problem::new(400, format!("the body broke off: {wrong}"))),
        None => {
            let detail = format!("the body took longer than {CONTROL_TIMEOUT_S} s");
            return Err(Problem::new(408, detail));
        }
    };
    let query = head.uri.query().unwrap_or_default().to_owned();
    let signature = head.headers.get(api::SIGNATURE_HEADER);
    let signature = signature.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Ok(Call { method: head.method, path: head.uri.path().to_owned(), query, signature, body })
}

/// Answers on a task of its own: when the client leaves, its connection is dropped, but a write to
/// flash must not be.
async fn to_its_end(call: Call, gateway: Arc<dyn Gateway>, jobs: &Executor<'static>) -> Reply {
    let (done, reply): (Sender<Reply>, _) = channel::bounded(1);
    jobs.spawn(async move {
        let reply = api::answer(&*gateway, call).await;
        let _ = done.send(reply).await;
    })
    .detach();
    // The sender goes without a word only when the work panicked.
    let broken = "the gateway made a mistake while it worked on this; its log says more";
    reply.recv().await.unwrap_or_else(|_| api::problem(&Problem::new(500, broken)))
}

fn unauthorised(presented: bool) -> Reply {
    let detail = if presented {
        "the token is wrong: send `Authorization: Bearer TOKEN` with the one that \
         `edgeweir config token` has set"
    } else {
        "a token is needed: send `Authorization: Bearer TOKEN`; `edgeweir config token` \
         sets it"
    };
    let mut reply = api::problem(&Problem::new(401, detail));
    let challenge = HeaderValue::from_static("Bearer realm=\"edgeweir\"");
    reply.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    reply
}

/// Whether the header holds the token. The time taken says nothing about how much of it was right:
/// digests are compared, and whole.
fn admits(token: Option<&str>, presented: Option<&HeaderValue>) -> bool {
    let (Some(token), Some(presented)) = (token, presented) else { return false };
    let presented = presented.as_bytes();
    let Some((scheme, rest)) = presented.split_at_checked(7) else { return false };
    if token.is_empty() || !scheme.eq_ignore_ascii_case(b"bearer ") {
        return false;
    }
    let digest = |bytes: &[u8]| keyed(bytes.trim_ascii());
    let (wanted, found) = (digest(token.as_bytes()), digest(rest));
    wanted.iter().zip(found).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// A digest under a key of this run, so that nobody can prepare tokens whose digests begin alike.
fn keyed(bytes: &[u8]) -> [u8; 32] {
    static KEY: OnceLock<[u8; 32]> = OnceLock::new();
    let key = KEY.get_or_init(|| {
        let mut key = [0; 32];
        // Without randomness the comparison is still whole; the key only hardens it.
        let _ = getrandom::fill(&mut key);
        key
    });
    let mut hash = Sha256::new();
    hash.update(key);
    hash.update(bytes);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: Option<&str>, header: &str) -> bool {
        admits(token, Some(&HeaderValue::from_str(header).unwrap()))
    }

    #[test]
    fn only_the_whole_token_admits() {
        let token = Some("0123456789abcdef");
        assert!(check(token, "Bearer 0123456789abcdef"));
        assert!(check(token, "bearer 0123456789abcdef"));
        for wrong in [
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdeff",
            "Bearer ",
            "Bearer",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert!(!check(token, wrong), "{wrong}");
        }
        assert!(!admits(token, None));
    }

    #[test]
    fn without_a_token_nobody_is_admitted() {
        assert!(!check(None, "Bearer x") && !check(Some(""), "Bearer "));
    }
}
