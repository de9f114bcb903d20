//! One request of the control API to one answer.
//!
//! | method and path | answers |
//! |---|---|
//! | `GET /v1/status` · `/v1/origins` · `/v1/sessions` | JSON of [`super::model`] |
//! | `DELETE /v1/sessions/{id}` | ends the session |
//! | `POST /v1/origins/{name}/retry` | ends the wait of an origin that is down |
//! | `POST /v1/probe` | body `{"origin":"…","path":"/…"}`, or `{"url":"…","user":"…","password":"…"}`: what a look at it found, JSON |
//! | `GET /v1/doctor` | what is wrong with the gateway and its machine, JSON |
//! | `GET /v1/config` · `PUT /v1/config` | the configuration, TOML |
//! | `GET /v1/config/history` | JSON, newest first |
//! | `POST /v1/config/rollback` | goes back by one, or by `?n=2`, or by `{"n":2}` |
//! | `GET /v1/plugins` | JSON |
//! | `PUT /v1/plugins/{slot}` | the component as body; `?serial=7&force=1`; the signature file in base64 in the header `Edgeweir-Signature` |
//! | `POST /v1/plugins/{slot}/rollback` · `DELETE /v1/plugins/{slot}` | the one before; none |
//! | `PUT`, `DELETE /v1/secrets/users/{name}` | body `{"password":"…"}` |
//! | `PUT`, `DELETE /v1/secrets/credentials/{name}` | body `{"user":"…","password":"…"}` |
//! | `PUT`, `DELETE /v1/secrets/token` | body `{"token":"…"}`: the bearer token for TCP |
//! | `GET /metrics` | Prometheus |
//!
//! A change answers `{"changed":"…"}`, with `"warnings":["…"]` where something is left to do; an error is `application/problem+json` (RFC 9457).
//! Not in here: sockets, the bounds of bodies and heads, tokens (server).

use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    gateway::{Gateway, Upload},
    metrics,
    model::{Ask, Credential, Done, Password, Problem, Token},
};
use crate::limits::{
    CONFIG_HISTORY, NAME_MAX_BYTES, PASSWORD_MAX_BYTES, PLUGIN_SIGNATURE_MAX_BYTES,
};

/// Header of an upload with the signature file in base64.
pub const SIGNATURE_HEADER: &str = "edgeweir-signature";

/// A request whose body has arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, as it came.
    pub path: String,
    /// What stands behind `?`, or nothing.
    pub query: String,
    /// The value of [`SIGNATURE_HEADER`].
    pub signature: Option<Bytes>,
    /// The body, bounded by the server.
    pub body: Bytes,
}

/// An answer, complete.
pub type Reply = Response<Full<Bytes>>;

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place<'a> {
    Status,
    Origins,
    Retry(&'a str),
    Probe,
    Doctor,
    Sessions,
    Session(&'a str),
    Config,
    History,
    Rollback,
    User(&'a str),
    Credential(&'a str),
    Token,
    Plugins,
    Plugin(&'a str),
    PluginRollback(&'a str),
    Metrics,
}

/// Answers one request. Errors are answers too.
pub async fn answer(gateway: &dyn Gateway, call: Call) -> Reply {
    let Some(place) = place(&call.path) else {
        return problem(&Problem::new(
            404,
            format!(
                "nothing is at {}; /v1/status, /v1/sessions, /v1/config, /v1/plugins, /metrics are",
                call.path
            ),
        ));
    };
    let allowed = allowed(place);
    // HEAD is GET whose body the HTTP library leaves out.
    let method = if call.method == Method::HEAD { Method::GET } else { call.method.clone() };
    if !allowed.split(", ").any(|name| name == method.as_str()) {
        let detail = format!("{} does not go with {}: {allowed} do", call.method, call.path);
        let mut reply = problem(&Problem::new(405, detail));
        reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        return reply;
    }
    let done = if method == Method::GET {
        read(gateway, place).await
    } else if let (Place::Plugin(slot), &Method::PUT) = (place, &method) {
        install(gateway, slot, call.clone()).await
    } else if let Place::Probe = place {
        probe(gateway, &call).await
    } else {
        change(gateway, place, &method, &call).await.map(|changed| {
            let whole = matches!(place, Place::Config | Place::Rollback);
            let warnings = if whole { gateway.warnings() } else { Vec::new() };
            json(200, &Done { changed, warnings })
        })
    };
    done.unwrap_or_else(|wrong| problem(&wrong))
}

fn place(path: &str) -> Option<Place<'_>> {
    if path == "/metrics" {
        return Some(Place::Metrics);
    }
    let mut parts = path.strip_prefix("/v1/")?.split('/');
    let found = match (parts.next()?, parts.next(), parts.next()) {
        ("status", None, None) => Place::Status,
        ("origins", None, None) => Place::Origins,
        ("origins", Some(name), Some("retry")) => Place::Retry(name),
        ("probe", None, None) => Place::Probe,
        ("doctor", None, None) => Place::Doctor,
        ("sessions", None, None) => Place::Sessions,
        ("sessions", Some(id), None) => Place::Session(id),
        ("config", None, None) => Place::Config,
        ("config", Some("history"), None) => Place::History,
        ("config", Some("rollback"), None) => Place::Rollback,
        ("plugins", None, None) => Place::Plugins,
        ("plugins", Some(slot), None) => Place::Plugin(slot),
        ("plugins", Some(slot), Some("rollback")) => Place::PluginRollback(slot),
        ("secrets", Some("users"), Some(name)) => Place::User(name),
        ("secrets", Some("credentials"), Some(name)) => Place::Credential(name),
        ("secrets", Some("token"), None) => Place::Token,
        _ => return None,
    };
    parts.next().is_none().then_some(found)
}

const fn allowed(place: Place<'_>) -> &'static str {
    match place {
        Place::Status
        | Place::Origins
        | Place::Sessions
        | Place::History
        | Place::Doctor
        | Place::Plugins
        | Place::Metrics => "GET, HEAD",
        Place::Config => "GET, HEAD, PUT",
        Place::Session(_) => "DELETE",
        Place::Rollback | Place::PluginRollback(_) | Place::Retry(_) | Place::Probe => "POST",
        Place::User(_) | Place::Credential(_) | Place::Token | Place::Plugin(_) => "PUT, DELETE",
    }
}

async fn read(gateway: &dyn Gateway, place: Place<'_>) -> Result<Reply, Problem> {
    Ok(match place {
        Place::Status => json(200, &gateway.status()),
        Place::Origins => json(200, &gateway.status().origins),
        Place::Sessions => json(200, &gateway.sessions()),
        Place::History => json(200, &gateway.history().await?),
        Place::Doctor => json(200, &gateway.doctor().await?),
        Place::Plugins => json(200, &gateway.plugins()),
        Place::Config => text("application/toml", gateway.config_text()),
        Place::Metrics => text(
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::render(&gateway.status(), &gateway.sessions()),
        ),
        // `allowed` lets no GET come here.
        _ => return Err(Problem::new(405, "this place cannot be read")),
    })
}

async fn change(
    gateway: &dyn Gateway,
    place: Place<'_>,
    method: &Method,
    call: &Call,
) -> Result<String, Problem> {
    let delete = method == Method::DELETE;
    match place {
        Place::Config => {
            let toml = core::str::from_utf8(&call.body).map_err(|wrong| {
                let at = wrong.valid_up_to();
                Problem::new(400, format!("the configuration is not UTF-8 at byte {at}"))
            })?;
            gateway.put_config(toml.to_owned()).await
        }
        Place::Rollback => gateway.rollback(steps_back(call)?).await,
        Place::User(raw) if delete => gateway.remove_user(name(raw)?).await,
        Place::User(raw) => gateway.set_user(name(raw)?, password(call)?).await,
        Place::Credential(raw) if delete => gateway.remove_credential(name(raw)?).await,
        Place::Credential(raw) => {
            let credential: Credential = parsed(call)?;
            bounded(&credential.password)?;
            gateway.set_credential(name(raw)?, credential).await
        }
        Place::Token if delete => gateway.set_token(None).await,
        Place::Token => gateway.set_token(Some(parsed::<Token>(call)?.token)).await,
        Place::Session(raw) => {
            let id: u64 = raw.parse().map_err(|_| {
                Problem::new(400, format!("`{raw}` is not the number of a session"))
            })?;
            if gateway.close_session(id) {
                Ok(format!("session {id} is being closed"))
            } else {
                Err(Problem::new(404, format!("there is no session {id}: see `edgeweir sessions`")))
            }
        }
        Place::Retry(raw) => gateway.retry_origin(&name(raw)?),
        Place::PluginRollback(raw) => gateway.rollback_plugin(name(raw)?).await,
        Place::Plugin(raw) if delete => gateway.remove_plugin(name(raw)?).await,
        _ => Err(Problem::new(405, "this place cannot be changed")),
    }
}

async fn probe(gateway: &dyn Gateway, call: &Call) -> Result<Reply, Problem> {
    let ask: Ask = parsed(call)?;
    if ask.origin.is_some() == ask.url.is_some() {
        return Err(Problem::new(400, "the body must name either an origin or a url"));
    }
    if ask.path.as_ref().is_some_and(|path| !path.starts_with('/')) {
        return Err(Problem::new(400, "path: it must start with `/`"));
    }
    Ok(json(200, &gateway.probe(ask).await?))
}

async fn install(gateway: &dyn Gateway, slot: &str, call: Call) -> Result<Reply, Problem> {
    let slot = name(slot)?;
    if call.body.is_empty() {
        return Err(Problem::new(400, "the body is empty: it must be the component"));
    }
    let (mut serial, mut force) = (None, false);
    for pair in call.query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "1")) {
            ("serial", text) => {
                let wrong = || Problem::new(400, "serial: allowed are 1 to 18446744073709551615");
                serial = Some(text.parse().ok().filter(|serial| *serial > 0).ok_or_else(wrong)?);
            }
            ("force", "1") => force = true,
            ("force", "0") => force = false,
            _ => return Err(Problem::new(400, "the query: allowed are serial=N and force=1")),
        }
    }
    let signature = call.signature.as_ref().map(|header| signature(header)).transpose()?;
    let upload = Upload { component: call.body.into(), signature, serial, force };
    Ok(json(200, &gateway.install_plugin(slot, upload).await?))
}

fn signature(header: &[u8]) -> Result<String, Problem> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    // Base64 takes a third more.
    let bounded = header.len() <= PLUGIN_SIGNATURE_MAX_BYTES * 4 / 3;
    let bytes = bounded.then(|| STANDARD.decode(header).ok()).flatten();
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
        let detail = format!(
            "the header {SIGNATURE_HEADER} is wrong: it must be the signature file of minisign, at \
             most {PLUGIN_SIGNATURE_MAX_BYTES} bytes, in base64"
        );
        Problem::new(400, detail)
    })
}

/// How far a rollback goes: `?n=`, else the body, else 1.
fn steps_back(call: &Call) -> Result<u8, Problem> {
    #[derive(Deserialize)]
    struct Steps {
        n: u64,
    }
    let asked = if let Some(text) = call.query.split('&').find_map(|pair| pair.strip_prefix("n=")) {
        text.parse().ok()
    } else if call.body.is_empty() {
        Some(1)
    } else {
        Some(parsed::<Steps>(call)?.n)
    };
    asked
        .and_then(|n: u64| u8::try_from(n).ok())
        .filter(|n| (1..=CONFIG_HISTORY).contains(&usize::from(*n)))
        .ok_or_else(|| Problem::new(400, format!("n: allowed are 1 to {CONFIG_HISTORY}")))
}

fn name(raw: &str) -> Result<String, Problem> {
    let fits = (1..=NAME_MAX_BYTES).contains(&raw.len());
    let plain = raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if fits && plain {
        return Ok(raw.to_owned());
    }
    let detail = format!(
        "the name is wrong: allowed are 1 to {NAME_MAX_BYTES} letters, digits, `-`, `_`, `.`, `@`"
    );
    Err(Problem::new(400, detail))
}

fn password(call: &Call) -> Result<String, Problem> {
    let Password { password } = parsed(call)?;
    bounded(&password)?;
    Ok(password)
}

fn bounded(password: &str) -> Result<(), Problem> {
    let detail = if !(1..=PASSWORD_MAX_BYTES).contains(&password.len()) {
        format!("the password is wrong: allowed are 1 to {PASSWORD_MAX_BYTES} bytes")
    } else if password.chars().any(char::is_control) {
        "the password holds a control character, which no player can type".to_owned()
    } else {
        return Ok(());
    };
    Err(Problem::new(400, detail))
}

/// The body as JSON. The error names the place, never the content: it may be a secret.
fn parsed<T: DeserializeOwned>(call: &Call) -> Result<T, Problem> {
    serde_json::from_slice(&call.body).map_err(|wrong| {
        let (line, column) = (wrong.line(), wrong.column());
        let kind = match wrong.classify() {
            serde_json::error::Category::Data => "does not hold what this place needs",
            _ => "is not JSON",
        };
        Problem::new(400, format!("the body {kind} (line {line}, column {column})"))
    })
}

/// An error as an answer.
pub fn problem(problem: &Problem) -> Reply {
    let mut reply = json(problem.status, problem);
    let kind = HeaderValue::from_static("application/problem+json");
    reply.headers_mut().insert(CONTENT_TYPE, kind);
    reply
}

fn json(status: u16, value: &impl Serialize) -> Reply {
    // Plain structs with text keys always have a JSON form; an empty body would only mean a mistake.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

fn text(kind: &'static str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(query: &str, body: &str) -> Call {
        Call {
            method: Method::POST,
            path: String::new(),
            query: query.to_owned(),
            signature: None,
            body: Bytes::from(body.to_owned()),
        }
    }

    #[test]
    fn paths_are_matched_whole() {
        assert_eq!(place("/v1/status"), Some(Place::Status));
        assert_eq!(place("/v1/secrets/users/anna"), Some(Place::User("anna")));
        for wrong in ["", "/", "/v1", "/v1/", "/v1/status/", "/v1/config/history/1", "/v2/status"] {
            assert_eq!(place(wrong), None, "{wrong}");
        }
        assert_eq!(place("/v1/secrets/users/anna/x"), None);
        assert_eq!(place("/v1/plugins/a/rollback"), Some(Place::PluginRollback("a")));
        assert_eq!((place("/v1/plugins/a/x"), place("/v1/plugins/a/rollback/x")), (None, None));
    }

    #[test]
    fn a_rollback_goes_back_by_one_unless_told_otherwise() {
        let n = |query, body| steps_back(&call(query, body)).map_err(|wrong| wrong.status);
        assert_eq!(n("", ""), Ok(1));
        assert_eq!(n("n=2", ""), Ok(2));
        assert_eq!(n("", r#"{"n":4}"#), Ok(4));
        for (query, body) in [("n=0", ""), ("n=5", ""), ("n=x", ""), ("", "{"), ("", r#"{"n":-1}"#)]
        {
            assert_eq!(n(query, body), Err(400), "{query} {body}");
        }
    }

    #[test]
    fn signatures_are_taken_to_their_bound_and_refused_past_it() {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let of = |bytes: usize| signature(STANDARD.encode(vec![b's'; bytes]).as_bytes());
        assert_eq!(of(1023).map(|text| text.len()).ok(), Some(1023));
        assert!(of(PLUGIN_SIGNATURE_MAX_BYTES + 2).is_err());
        assert!(signature(b"no base64!").is_err() && signature(b"gICA").is_err());
    }

    #[test]
    fn names_and_passwords_are_bounded() {
        assert!(name(&"n".repeat(NAME_MAX_BYTES)).is_ok());
        assert!(name(&"n".repeat(NAME_MAX_BYTES + 1)).is_err());
        assert!(name("").is_err() && name("a%20b").is_err());
        assert!(bounded(&"p".repeat(PASSWORD_MAX_BYTES)).is_ok());
        assert!(bounded(&"p".repeat(PASSWORD_MAX_BYTES + 1)).is_err());
        assert!(bounded("").is_err() && bounded("a\nb").is_err());
    }

    #[test]
    fn an_error_about_a_secret_does_not_repeat_it() {
        let wrong = parsed::<Password>(&call("", r#"{"password": hunter2}"#)).unwrap_err();
        assert!(!wrong.detail.contains("hunter2"), "{wrong}");
        let wrong = parsed::<Password>(&call("", r#"{"password": 12345678}"#)).unwrap_err();
        assert!(!wrong.detail.contains("12345678"), "{wrong}");
    }
}
