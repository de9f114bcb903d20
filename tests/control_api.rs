//! The control API over real sockets, with a gateway that is made up.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of tests are tests

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use edgeweir::{
    clock::now,
    control::{
        client::Client,
        gateway::{Answer, Gateway, Upload},
        model::{
            Credential, HistoryEntry, Installed, OriginStatus, PluginStatus, Problem,
            SessionStatus, Status,
        },
        server,
        socket::ControlSocket,
    },
    limits::{
        CONTROL_BODY_MAX_BYTES, CONTROL_CONNECTIONS_MAX, CONTROL_HEADERS_MAX, PLUGIN_KIB_MAX,
    },
};
use hyper::Method;
use smol::Timer;

const TOKEN: &str = "0123456789abcdef";

/// A gateway that keeps a text and notes what it was told.
#[derive(Default)]
struct Fake {
    config: Mutex<String>,
    told: Mutex<Vec<String>>,
    writes_done: Arc<AtomicU32>,
}

impl Fake {
    fn tell(&self, what: String) -> Answer<String> {
        self.told.lock().unwrap().push(what.clone());
        Box::pin(async move { Ok(what) })
    }
}

impl Gateway for Fake {
    fn warnings(&self) -> Vec<String> {
        vec!["origin nvr names credentials nvr, which are not stored".into()]
    }

    fn status(&self) -> Status {
        Status {
            version: "0.0.0".into(),
            origins: vec![OriginStatus {
                name: "nvr".into(),
                health: "up".into(),
                ..Default::default()
            }],
            counters: vec![("sessions_opened".into(), 3)],
            ..Status::default()
        }
    }
    fn sessions(&self) -> Vec<SessionStatus> {
        vec![SessionStatus { id: 7, path: "/cam1".into(), ..SessionStatus::default() }]
    }
    fn config_text(&self) -> String {
        self.config.lock().unwrap().clone()
    }
    fn put_config(&self, toml: String) -> Answer<String> {
        if toml.contains("wrong") {
            let detail = "config:1: key `wrong`: allowed are others";
            return Box::pin(async move { Err(Problem::new(422, detail)) });
        }
        let bytes = toml.len();
        let slow = toml.contains("slow");
        *self.config.lock().unwrap() = toml;
        let done = Arc::clone(&self.writes_done);
        Box::pin(async move {
            if slow {
                Timer::after(Duration::from_millis(300)).await;
            }
            done.fetch_add(1, Ordering::SeqCst);
            Ok(format!("{bytes} bytes"))
        })
    }
    fn history(&self) -> Answer<Vec<HistoryEntry>> {
        let entry = HistoryEntry { back: 0, sequence: 9, summary: "active".into() };
        Box::pin(async move { Ok(vec![entry]) })
    }
    fn rollback(&self, back: u8) -> Answer<String> {
        self.tell(format!("back {back}"))
    }
    fn set_user(&self, name: String, password: String) -> Answer<String> {
        self.tell(format!("user {name} {}", password.len()))
    }
    fn remove_user(&self, name: String) -> Answer<String> {
        Box::pin(async move { Err(Problem::new(404, format!("there is no user {name}"))) })
    }
    fn set_credential(&self, name: String, credential: Credential) -> Answer<String> {
        self.tell(format!("credential {name} {}", credential.user))
    }
    fn remove_credential(&self, name: String) -> Answer<String> {
        self.tell(format!("no credential {name}"))
    }
    fn set_token(&self, token: Option<String>) -> Answer<String> {
        self.tell(format!("token {}", token.is_some()))
    }
    fn token(&self) -> Option<String> {
        Some(TOKEN.to_owned())
    }
    fn plugins(&self) -> Vec<PluginStatus> {
        vec![PluginStatus { slot: "gate".into(), state: "empty".into(), ..Default::default() }]
    }
    fn install_plugin(&self, slot: String, upload: Upload) -> Answer<Installed> {
        let told = format!(
            "{slot} {} {:?} {:?} {}",
            upload.component.len(),
            upload.signature,
            upload.serial,
            upload.force
        );
        self.told.lock().unwrap().push(told.clone());
        Box::pin(async move {
            match slot.as_str() {
                "gate" => Ok(Installed { changed: told, ..Installed::default() }),
                _ => Err(Problem::new(404, "there is no such slot")),
            }
        })
    }
    fn rollback_plugin(&self, slot: String) -> Answer<String> {
        self.tell(format!("{slot} rolled back"))
    }
    fn remove_plugin(&self, slot: String) -> Answer<String> {
        self.tell(format!("{slot} removed"))
    }
    fn close_session(&self, id: u64) -> bool {
        id == 7
    }
}

/// A served Unix socket; the thread ends with the test program.
struct Served {
    path: PathBuf,
    fake: Arc<Fake>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.path.with_file_name(""));
    }
}

fn served(name: &str) -> Served {
    let folder = std::env::temp_dir().join(format!("edgeweir-api-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("c.sock");
    let fake = Arc::new(Fake::default());
    let socket = ControlSocket::bind(&path).unwrap();
    let gateway: Arc<dyn Gateway> = Arc::clone(&fake) as _;
    thread::spawn(move || smol::block_on(server::serve_unix(socket.listener(), gateway)));
    Served { path, fake }
}

fn served_tcp() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let gateway: Arc<dyn Gateway> = Arc::new(Fake::default());
    thread::spawn(move || smol::block_on(server::serve_tcp(listener, gateway)));
    addr
}

/// Sends bytes as they are and reads all that comes.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> String {
    // A server that refuses early may close before all is written.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

impl Served {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn raw(&self, request: &str) -> String {
        exchange(self.connect(), request.as_bytes())
    }

    fn call(&self, method: &str, place: &str, body: &str) -> String {
        let length = body.len();
        self.raw(&format!(
            "{method} {place} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    }
}

fn code(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("")
}

#[test]
fn a_component_reaches_its_slot_with_all_that_was_said_of_it() {
    let served = served("plugins");
    let client = Client::new(&served.path);
    let slots: Vec<PluginStatus> = client.read("/v1/plugins").unwrap();
    assert_eq!(slots[0].slot, "gate");
    let most = usize::from(PLUGIN_KIB_MAX) * 1024;
    let signature = "untrusted comment: signed\nRUQ\ntrusted comment: x\nAAAA\n";
    let done = client
        .install("gate", "?serial=7&force=1", vec![0; most], Some(signature))
        .unwrap()
        .changed;
    assert_eq!(done, format!("gate {most} {:?} Some(7) true", Some(signature)));
    let done = client.install("gate", "", vec![1], None).unwrap().changed;
    assert_eq!(done, "gate 1 None None false");
    assert_eq!(
        client.change(Method::POST, "/v1/plugins/gate/rollback", String::new()).unwrap(),
        "gate rolled back"
    );
    assert_eq!(
        client.change(Method::DELETE, "/v1/plugins/gate", String::new()).unwrap(),
        "gate removed"
    );
    let refused =
        |slot, query, bytes| client.install(slot, query, vec![0; bytes], None).unwrap_err();
    assert!(refused("gate", "", most + 1).contains("the body is too large: allowed are 1048576"));
    assert!(refused("gate", "", 0).contains("the body is empty"));
    assert!(refused("gate", "?serial=0", 1).contains("serial: allowed are 1 to"));
    assert!(refused("gate", "?colour=1", 1).contains("allowed are serial=N and force=1"));
    assert!(refused("door", "", 1).contains("no such slot"));
    assert!(client.install("gate", "", vec![1], Some(&"s".repeat(1026))).is_err());
}

#[test]
fn the_client_reads_and_changes() {
    let served = served("client");
    let client = Client::new(&served.path);
    assert_eq!(client.read::<Status>("/v1/status").unwrap().version, "0.0.0");
    assert_eq!(client.read::<Vec<SessionStatus>>("/v1/sessions").unwrap()[0].id, 7);
    assert_eq!(client.read::<Vec<OriginStatus>>("/v1/origins").unwrap()[0].name, "nvr");
    assert_eq!(client.read::<Vec<HistoryEntry>>("/v1/config/history").unwrap()[0].sequence, 9);
    let change = |method, place: &str, body: &str| client.change(method, place, body.to_owned());
    assert_eq!(change(Method::PUT, "/v1/config", "a = 1").unwrap(), "5 bytes");
    assert_eq!(client.read_text("/v1/config").unwrap(), "a = 1");
    for (method, place, body, told) in [
        (Method::POST, "/v1/config/rollback", "", "back 1"),
        (Method::POST, "/v1/config/rollback?n=3", "", "back 3"),
        (Method::POST, "/v1/config/rollback", r#"{"n":2}"#, "back 2"),
        (Method::PUT, "/v1/secrets/users/anna", r#"{"password":"four"}"#, "user anna 4"),
        (
            Method::PUT,
            "/v1/secrets/credentials/nvr",
            r#"{"user":"root","password":"x"}"#,
            "credential nvr root",
        ),
        (Method::DELETE, "/v1/secrets/credentials/nvr", "", "no credential nvr"),
        (Method::PUT, "/v1/secrets/token", r#"{"token":"0123456789abcdef"}"#, "token true"),
        (Method::DELETE, "/v1/secrets/token", "", "token false"),
        (Method::DELETE, "/v1/sessions/7", "", "session 7 is being closed"),
    ] {
        assert_eq!(change(method, place, body).unwrap(), told, "{place}");
    }
    let done = client.done(Method::POST, "/v1/config/rollback", String::new()).unwrap();
    assert_eq!(done.warnings, ["origin nvr names credentials nvr, which are not stored"]);
    assert_eq!(client.read_text("/v1/doctor").unwrap(), "[]\n");
    let refused = change(Method::PUT, "/v1/config", "wrong = 1").unwrap_err();
    assert_eq!(refused, "config:1: key `wrong`: allowed are others");
    assert_eq!(client.read_text("/v1/config").unwrap(), "a = 1");
}

#[test]
fn errors_are_problems_with_the_right_status() {
    let served = served("problems");
    for (method, place, body, status) in [
        ("GET", "/", "", "404"),
        ("GET", "/v1/nothing", "", "404"),
        ("DELETE", "/v1/sessions/8", "", "404"),
        ("DELETE", "/v1/secrets/users/bob", "", "404"),
        ("DELETE", "/v1/sessions/x", "", "400"),
        ("DELETE", "/v1/sessions/99999999999999999999", "", "400"),
        ("POST", "/v1/config/rollback?n=0", "", "400"),
        ("POST", "/v1/config/rollback", "{", "400"),
        ("PUT", "/v1/secrets/users/anna", "no JSON", "400"),
        ("PUT", "/v1/secrets/users/anna", "{}", "400"),
        ("PUT", "/v1/secrets/users/an%20na", r#"{"password":"x"}"#, "400"),
        ("PUT", "/v1/config", "wrong", "422"),
        ("POST", "/v1/origins/nobody/retry", "", "404"),
        ("POST", "/v1/origins/a%20b/retry", "", "400"),
        ("POST", "/v1/probe", "no JSON", "400"),
        ("POST", "/v1/probe", "{}", "400"),
        ("POST", "/v1/probe", r#"{"origin":"a","url":"rtsp://h"}"#, "400"),
        ("POST", "/v1/probe", r#"{"origin":"a","path":"b"}"#, "400"),
        ("GET", "/v1/probe", "", "405"),
        ("POST", "/v1/doctor", "", "405"),
    ] {
        let answer = served.call(method, place, body);
        assert_eq!(code(&answer), status, "{method} {place}: {answer}");
        assert!(answer.contains("content-type: application/problem+json"), "{answer}");
        let json = answer.split_once("\r\n\r\n").unwrap().1;
        let problem: Problem = serde_json::from_str(json).unwrap();
        assert_eq!(problem.status.to_string(), status);
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
    }
    assert!(served.fake.told.lock().unwrap().is_empty());
}

#[test]
fn a_wrong_method_is_told_which_ones_go() {
    let served = served("allow");
    for (method, place, allow) in [
        ("POST", "/v1/status", "GET, HEAD"),
        ("DELETE", "/v1/config", "GET, HEAD, PUT"),
        ("GET", "/v1/sessions/7", "DELETE"),
        ("GET", "/v1/config/rollback", "POST"),
        ("GET", "/v1/secrets/users/anna", "PUT, DELETE"),
        ("BREW", "/metrics", "GET, HEAD"),
    ] {
        let answer = served.call(method, place, "");
        assert_eq!(code(&answer), "405", "{answer}");
        assert!(answer.contains(&format!("allow: {allow}\r\n")), "{answer}");
    }
    let head = served.call("HEAD", "/v1/status", "");
    assert!(code(&head) == "200" && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn a_body_may_have_256_kib_and_not_one_byte_more() {
    let served = served("body");
    let at = "#".repeat(CONTROL_BODY_MAX_BYTES);
    let answer = served.call("PUT", "/v1/config", &at);
    assert_eq!(code(&answer), "200", "{answer}");
    let past = served.call("PUT", "/v1/config", &(at.clone() + "#"));
    assert_eq!(code(&past), "413", "{past}");
    // The same without saying the length ahead.
    let chunked = |body: &str| {
        let length = body.len();
        let request = format!(
            "PUT /v1/config HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
             {length:x}\r\n{body}\r\n0\r\n\r\n"
        );
        let answer = served.raw(&request);
        code(&answer).to_owned()
    };
    assert_eq!(chunked(&at), "200");
    assert_eq!(chunked(&(at + "#")), "413");
}

#[test]
fn a_body_that_is_no_text_is_refused() {
    let served = served("utf8");
    let request = b"PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n\xff\xfe";
    assert_eq!(code(&exchange(served.connect(), request)), "400");
}

#[test]
fn heads_are_bounded_and_garbage_gets_a_clean_end() {
    let served = served("heads");
    // Host is one more.
    let with = |count: usize| {
        let headers: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        let answer = served.raw(&format!("GET /v1/status HTTP/1.1\r\nHost: x\r\n{headers}\r\n"));
        code(&answer).to_owned()
    };
    assert_eq!(with(CONTROL_HEADERS_MAX - 1), "200");
    assert_eq!(with(CONTROL_HEADERS_MAX), "431");
    let long = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(code(&served.raw(&long)), "431");
    for garbage in ["\r\n\r\n\r\n", "\0\0\0\0\r\n\r\n", "RTSP rtsp://x RTSP/1.0\r\nCSeq: 1\r\n\r\n"]
    {
        let answer = served.raw(garbage);
        assert!(answer.is_empty() || code(&answer) == "400", "{answer}");
    }
    assert_eq!(code(&served.call("GET", "/v1/status", "")), "200");
}

#[test]
fn over_tcp_only_the_token_opens() {
    let addr = served_tcp();
    let ask = |header: &str| {
        let request = format!("GET /v1/status HTTP/1.1\r\nHost: x\r\n{header}\r\n");
        exchange(TcpStream::connect(addr).unwrap(), request.as_bytes())
    };
    for header in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic eDp5\r\n"] {
        let answer = ask(header);
        assert_eq!(code(&answer), "401", "{answer}");
        assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
        assert!(!answer.contains(TOKEN) && !answer.contains("version"), "{answer}");
    }
    assert_eq!(code(&ask(&format!("Authorization: Bearer {TOKEN}\r\n"))), "200");
}

#[test]
fn strangers_over_tcp_hold_no_place_that_the_token_wants() {
    let addr = served_tcp();
    // Silent ones, heads that never end, and those that have been told 401 and do not read.
    let strangers: Vec<TcpStream> = (0..2 * CONTROL_CONNECTIONS_MAX)
        .map(|n| {
            let mut stream = TcpStream::connect(addr).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n").unwrap();
            }
            stream
        })
        .collect();
    let start = now();
    let request =
        format!("GET /v1/status HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    assert_eq!(code(&exchange(TcpStream::connect(addr).unwrap(), request.as_bytes())), "200");
    let waited = now().since(start);
    assert!(waited < Duration::from_secs(1), "{waited:?}");
    for mut stream in strangers {
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    let waited = now().since(start);
    assert!(waited < Duration::from_secs(5), "a head has two seconds, not {waited:?}");
}

#[test]
fn a_change_goes_to_its_end_when_the_client_has_left() {
    let served = served("leaves");
    let mut stream = served.connect();
    let request = "PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nslow";
    stream.write_all(request.as_bytes()).unwrap();
    let deadline = now() + Duration::from_secs(10);
    while served.fake.config_text().is_empty() && now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    drop(stream);
    while served.fake.writes_done.load(Ordering::SeqCst) == 0 && now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(served.fake.writes_done.load(Ordering::SeqCst), 1);
}

#[test]
fn clients_that_stall_hold_up_others_for_a_while_at_most() {
    let served = served("stall");
    let start = now();
    // All places are taken: half by heads that never end, half by bodies that never come.
    let stalled: Vec<UnixStream> = (0..CONTROL_CONNECTIONS_MAX)
        .map(|n| {
            let mut stream = served.connect();
            let head = "PUT /v1/config HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            if n % 2 == 0 {
                stream.write_all(b"\r\nhalf").unwrap();
            }
            stream
        })
        .collect();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(code(&served.call("GET", "/v1/status", "")), "200");
    let waited = now().since(start);
    assert!(waited > Duration::from_secs(5), "a place was free after {waited:?}");
    assert!(waited < Duration::from_secs(20), "no place was free for {waited:?}");
    for (n, mut stream) in stalled.into_iter().enumerate() {
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        if n % 2 == 0 {
            assert_eq!(code(&answer), "408", "{answer}");
        }
    }
}

#[test]
fn metrics_are_in_the_format_of_prometheus() {
    let served = served("metrics");
    let answer = served.call("GET", "/metrics", "");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\n# TYPE edgeweir_sessions_opened_total counter\n"), "{answer}");
    assert!(answer.contains("\nedgeweir_sessions_opened_total 3\n"), "{answer}");
    assert!(answer.contains("\nedgeweir_origin_up{origin=\"nvr\"} 1\n"), "{answer}");
}

#[test]
fn curl_understands_it() {
    let served = served("curl");
    let curl = |args: &[&str]| {
        Command::new("curl").arg("-sS").arg("--unix-socket").arg(&served.path).args(args).output()
    };
    let Ok(got) = curl(&["http://x/v1/sessions"]) else {
        eprintln!("curl is not installed: not checked");
        return;
    };
    let sessions: Vec<SessionStatus> = serde_json::from_slice(&got.stdout).unwrap();
    assert_eq!(sessions[0].path, "/cam1");
    // Longer than a kilobyte: curl asks with `Expect: 100-continue` and waits.
    let body = format!("@{}", served.path.with_extension("toml").display());
    std::fs::write(served.path.with_extension("toml"), "#".repeat(100_000)).unwrap();
    let put = curl(&[
        "-X",
        "PUT",
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        &body,
        "http://x/v1/config",
    ]);
    let put = put.unwrap();
    assert!(put.stdout.starts_with(b"{\"changed\":\"100000 bytes\""), "{put:?}");
}
