//! The program as people and scripts call it: exit codes, stdout and stderr.
#![allow(clippy::unwrap_used, clippy::expect_used)] // the helpers of tests are tests

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use edgeweir::clock::now;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("edgeweir-cli-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn edgeweir(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
    command.args(args).stdin(Stdio::null()).env_remove("EDGEWEIR_CONTROL").env_remove("EDITOR");
    command.env_remove("EDGEWEIR_FLASH").env_remove("EDGEWEIR_LOG").env_remove("VISUAL");
    command
}

/// Exit code, stdout, stderr.
fn run(args: &[&str]) -> (i32, String, String) {
    done(edgeweir(args).output().unwrap())
}

fn done(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn with_stdin(mut command: Command, input: &str) -> (i32, String, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    done(child.wait_with_output().unwrap())
}

#[test]
fn wrong_usage_is_one_line_on_stderr_and_exit_code_2() {
    for args in [
        &[][..],
        &["fly"],
        &["--fly"],
        &["config"],
        &["config", "fly"],
        &["config", "check"],
        &["config", "rollback", "0"],
        &["config", "rollback", "5"],
        &["config", "user", "no spaces"],
        &["run"],
        &["run", "--config", "a", "--flash", "b"],
        &["run", "--flash", "b", "--secrets", "c"],
        &["run", "--config", "a", "--log", "loud"],
        &["sessions", "close", "x"],
        &["status", "--json=1"],
        &["flash", "format", "f", "--size", "1G"],
        &["probe", "rtsp://127.0.0.1/", "--transport", "pigeon"],
        &["probe", "rtsp://127.0.0.1/", "--seconds", "0"],
        &["camera", "--listen", "nowhere"],
        &["camera", "--user", "no-colon"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(out.is_empty(), "{args:?}: {out}");
        assert!(err.starts_with("edgeweir: ") && err.ends_with("--help`\n"), "{args:?}: {err}");
        assert_eq!(err.lines().count(), 1, "{args:?}: {err}");
    }
}

#[test]
fn help_and_version_are_everywhere() {
    let (code, all, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(all.contains("config import FILE") && all.contains("Examples:"), "{all}");
    for args in [
        &["config", "--help"][..],
        &["config", "edit", "-h"],
        &["run", "--help"],
        &["status", "--watch", "--help"],
        &["sessions", "close", "--help"],
        &["flash", "format", "--help"],
        &["probe", "--help"],
        &["camera", "--help"],
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains("Usage: edgeweir") && out.contains("--version"), "{args:?}: {out}");
    }
    for args in [&["--version"][..], &["-V"], &["status", "--version"]] {
        let version = format!("edgeweir {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(run(args), (0, version, String::new()));
    }
}

#[test]
fn no_gateway_is_said_with_the_remedy_and_exit_code_1() {
    let folder = Folder::new("nobody");
    let place = folder.path("c.sock");
    for args in [&["status"][..], &["sessions"], &["config", "export"], &["sessions", "close", "1"]]
    {
        let (code, out, err) =
            done(edgeweir(args).env("EDGEWEIR_CONTROL", &place).output().unwrap());
        assert_eq!((code, out.as_str()), (1, ""));
        let text = format!("edgeweir: no gateway answers at {place}: is `edgeweir run` running? ");
        assert!(err.starts_with(&text) && err.contains("--control PATH"), "{err}");
        assert_eq!(err.lines().count(), 1);
    }
    let (_, _, err) = done(
        edgeweir(&["status", "--control", "/x/y"])
            .env("EDGEWEIR_CONTROL", &place)
            .output()
            .unwrap(),
    );
    assert!(err.contains("at /x/y:"), "the option must win over the environment: {err}");
}

#[test]
fn a_configuration_is_checked_without_a_gateway() {
    let folder = Folder::new("check");
    let (code, example, _) = run(&["config", "example"]);
    assert_eq!(code, 0);
    let good = folder.file("good.toml", &example);
    let (code, out, err) = run(&["config", "check", &good]);
    assert!(code == 0 && out.contains("good"), "{out}{err}");
    let (code, out, _) = with_stdin(edgeweir(&["config", "check", "-"]), &example);
    assert!(code == 0 && out.contains("good"), "{out}");
    let bad = folder.file("bad.toml", "[limits]\nsessions = 0\n");
    let (code, out, err) = run(&["config", "check", &bad]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("bad.toml:2:") && err.contains("sessions"), "{err}");
    let (code, _, err) = run(&["config", "check", &folder.path("none.toml")]);
    assert!(code == 1 && err.contains("none.toml: No such file"), "{err}");
}

#[test]
fn a_store_is_worked_on_offline() {
    let folder = Folder::new("offline");
    let flash = folder.path("f");
    let (code, ..) = run(&["flash", "format", &flash, "--size", "1M"]);
    assert_eq!(code, 0);
    let (code, _, err) = run(&["flash", "format", &flash]);
    assert!(code == 1 && err.contains("--force"), "{err}");
    for sessions in [5, 6] {
        let file = folder.file("c.toml", &format!("[limits]\nsessions = {sessions}\n"));
        assert_eq!(run(&["config", "import", &file, "--flash", &flash]).0, 0);
    }
    assert_eq!(run(&["config", "rollback", "--flash", &flash]).0, 0);
    let (_, out, _) = run(&["config", "export", "--flash", &flash]);
    assert!(out.contains("sessions = 5"), "{out}");
    let (_, out, _) = run(&["config", "history", "--flash", &flash]);
    assert!(out.starts_with("BACK") && out.lines().count() == 4, "{out}");
    let secret = |args: &[&str], line: &str| {
        let mut all = args.to_vec();
        all.extend(["--flash", &flash]);
        with_stdin(edgeweir(&all), line)
    };
    assert_eq!(secret(&["config", "user", "anna"], "swordfish\n").0, 0);
    assert_eq!(secret(&["config", "user", "anna", "--remove"], "").0, 0);
    assert_eq!(secret(&["config", "user", "anna", "--remove"], "").0, 1);
    let (code, _, err) = secret(&["config", "user", "anna"], "");
    assert!(code == 1 && err.contains("no password was given"), "{err}");
    let (code, _, err) = secret(&["config", "secret", "nvr"], "no colon\n");
    assert!(code == 1 && err.contains("user:password"), "{err}");
    assert_eq!(secret(&["config", "secret", "nvr"], "root:a:b\n").0, 0);
    assert_eq!(secret(&["config", "token"], "too short\n").0, 1);
    let (code, out, _) = run(&["flash", "info", &flash, "--json"]);
    assert!(code == 0 && out.starts_with('{'), "{out}");
}

#[test]
fn an_edit_takes_a_good_text_and_keeps_a_wrong_one_for_its_author() {
    let folder = Folder::new("edit");
    let flash = folder.path("f");
    assert_eq!(run(&["flash", "format", &flash]).0, 0);
    let file = folder.file("c.toml", "[limits]\nsessions = 5\n");
    assert_eq!(run(&["config", "import", &file, "--flash", &flash]).0, 0);
    let edit = |editor: &str| {
        let mut command = edgeweir(&["config", "edit", "--flash", &flash]);
        done(command.env("EDITOR", editor).env("TMPDIR", &folder.0).output().unwrap())
    };
    let export = || run(&["config", "export", "--flash", &flash]).1;
    assert_eq!(edit("true"), (0, "nothing changed\n".into(), String::new()));
    let (code, _, err) = edit("sed -i s/5/6/");
    assert!(code == 0 && export().contains("sessions = 6"), "{err}");
    let (code, _, err) = edit("sed -i 's/sessions = 6/sessions = 0/'");
    assert!(code == 1 && err.contains("nothing has changed, the text is kept in"), "{err}");
    assert!(export().contains("sessions = 6"));
    let kept = err.trim_end().rsplit(' ').next().unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("sessions = 0"));
    let (code, _, err) = edit("false");
    assert!(code == 1 && err.contains("the editor `false` failed"), "{err}");
}

/// A gateway that ends with the test.
struct Gateway {
    child: Child,
    control: String,
}

impl Gateway {
    /// Starts one without origins, on a free port.
    fn start(folder: &Folder) -> Self {
        let config = folder.file("run.toml", "[gateway]\nlisten = [\"127.0.0.1:0\"]\n");
        let control = folder.path("run.sock");
        let child = edgeweir(&["run", "--config", &config, "--control", &control])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let gateway = Self { child, control };
        let deadline = now() + Duration::from_secs(20);
        while gateway.call(&["status"]).0 != 0 {
            assert!(now() < deadline, "the gateway does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        gateway
    }

    fn call(&self, args: &[&str]) -> (i32, String, String) {
        let mut all = vec!["--control", &self.control];
        all.extend(args);
        run(&all)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_running_gateway_is_seen_and_changed() {
    let folder = Folder::new("run");
    let gateway = Gateway::start(&folder);
    let (_, out, _) = gateway.call(&["status"]);
    assert!(out.starts_with("edgeweir ") && out.contains("WORKER"), "{out}");
    let (_, out, _) = gateway.call(&["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(json["workers"].is_array() && json["session_list"].is_array(), "{out}");
    assert_eq!(gateway.call(&["sessions"]).1, "no sessions\n");
    assert_eq!(gateway.call(&["sessions", "--json"]).1, "[]\n");
    let (code, _, err) = gateway.call(&["sessions", "close", "99"]);
    assert!(code == 1 && err.contains("there is no session 99"), "{err}");
    let text = gateway.call(&["config", "export"]).1;
    let changed = folder.file("new.toml", &format!("{text}\n[limits]\nsessions = 7\n"));
    let (code, out, err) = gateway.call(&["config", "import", &changed]);
    assert!(code == 0 && out.contains("limits"), "{out}{err}");
    assert!(gateway.call(&["config", "export"]).1.contains("sessions = 7"));
    let wrong = folder.file("wrong.toml", "[limits]\nsessions = 0\n");
    let (code, _, err) = gateway.call(&["config", "import", &wrong]);
    assert!(code == 1 && err.contains("wrong.toml:2:"), "{err}");
    assert!(gateway.call(&["config", "export"]).1.contains("sessions = 7"));
    let second = gateway.call(&["run", "--config", &folder.path("run.toml")]);
    assert!(second.0 == 1 && second.2.contains("another gateway runs"), "{}", second.2);
}

#[test]
fn watching_without_a_terminal_prints_a_line_a_second_until_nobody_reads() {
    let folder = Folder::new("watch");
    let gateway = Gateway::start(&folder);
    let mut child = edgeweir(&["status", "--watch", "--control", &gateway.control])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("Z sessions=0 connections=0 kbit_s=0"), "{line}");
    }
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// The synthetic camera, which answers any path; gone with the test.
struct Camera {
    child: Child,
    at: String,
}

impl Camera {
    fn start(more: &[&str]) -> Self {
        let at = format!("127.0.0.1:{}", free_port());
        let mut args = vec!["camera", "--listen", &at];
        args.extend(more);
        let child = edgeweir(&args).stderr(Stdio::null()).spawn().unwrap();
        let deadline = now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(&at).is_err() {
            assert!(now() < deadline, "the camera does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, at }
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running gateway with a port of its own, what it logs in a file.
fn listening(folder: &Folder) -> (Gateway, u16, String) {
    let port = free_port();
    let text = format!(
        "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\nmedia_ports = \"{first}-{last}\"\n",
        first = 21_000,
        last = 21_199
    );
    let config = folder.file("cameras.toml", &text);
    let (control, log) = (folder.path("cameras.sock"), folder.path("cameras.log"));
    let child = edgeweir(&["run", "--config", &config, "--control", &control, "--log", "debug"])
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let gateway = Gateway { child, control };
    let deadline = now() + Duration::from_secs(20);
    while gateway.call(&["status"]).0 != 0 {
        assert!(now() < deadline, "the gateway does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    (gateway, port, log)
}

#[test]
fn a_camera_is_added_as_people_have_its_url_and_plays() {
    let folder = Folder::new("add");
    let (gateway, port, log) = listening(&folder);
    let camera = Camera::start(&["--user", "admin:hunter2", "--audio"]);
    let query = "/cam/realmonitor?channel=1&subtype=0";
    let url = format!("rtsp://{}{query}", camera.at);
    let add = |name: &str, url: &str, more: &[&str], stdin: &str| {
        let mut args = vec!["--control", &gateway.control, "origin", "add", name, url];
        args.extend(more);
        with_stdin(edgeweir(&args), stdin)
    };
    // What is missing is named where nobody can be asked, and nothing is added.
    for (more, stdin, code, word) in [
        (&[][..], "", 2, "--user"),
        (&["--user", "admin"], "", 2, "password"),
        (&["--user", "admin"], "hunter2\n", 2, "--auth"),
        (&["--user", "admin:hunter2"], "", 2, "--user takes the user alone"),
        (&["--user", "admin", "--auth", "none"], "wrong\n", 1, "refuses user \"admin\" (401)"),
    ] {
        let (found, out, err) = add("door", &url, more, stdin);
        assert!(found == code && err.contains(word), "{more:?}: {found} {out}{err}");
        assert!(!err.contains("hunter2"), "{err}");
    }
    assert!(!gateway.call(&["config", "export"]).1.contains("[[origin]]"));

    let (code, out, err) = add("door", &url, &["--user", "admin", "--auth", "none"], "hunter2\n");
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("video H264, audio PCMU") && out.contains("origin added: door"), "{out}");
    assert!(out.contains("edgeweir-camera") && out.contains("udp works  tcp works"), "{out}");
    let text = gateway.call(&["config", "export"]).1;
    assert!(text.contains(&format!("url = \"rtsp://{}{query}\"", camera.at)), "{text}");
    let play = format!("rtsp://127.0.0.1:{port}/door");
    assert!(err.contains(&format!("play it at {play}")), "{err}");
    assert!(out.contains("until the restart"), "what is not kept says so: {out}");
    let (code, out, err) = run(&["probe", &play, "--seconds", "1", "--transport", "tcp"]);
    assert!(code == 0 && out.contains("H264"), "{out}{err}");

    // Where players sign in for themselves, the camera may ask.
    let (code, out, err) = add("own", &url, &["--auth", "pass"], "");
    assert!(code == 0 && err.contains("players will give themselves"), "{out}{err}");
    let (code, out, err) = gateway.call(&["probe", "--origin", "own"]);
    assert!(code == 0 && out.contains("note:    origin own: it asks players"), "{out}{err}");

    // A password in the URL works; that others can see it there is said.
    let inside = format!("rtsp://admin:hunter2@{}{query}", camera.at);
    let (code, out, err) = add("yard", &inside, &["--auth", "digest"], "");
    assert!(code == 0 && err.contains("--password-file"), "{out}{err}");
    assert!(err.contains("asks players for a password and no user is stored"), "{err}");
    let (code, _, err) = add("door", &inside, &["--auth", "none", "--no-probe"], "");
    assert!(code == 1 && err.contains("origin[0] has not taken"), "{err}");
    // Another's credentials are not overwritten.
    let text = gateway.call(&["config", "export"]).1;
    let shared = text.replace("credentials = \"yard\"", "credentials = \"gate\"");
    let file = folder.file("shared.toml", &shared);
    assert_eq!(gateway.call(&["config", "import", &file]).0, 0);
    let (code, _, err) = add("gate", &inside, &["--auth", "none", "--no-probe"], "");
    assert!(code == 1 && err.contains("origin yard has credentials gate"), "{err}");
    for kept in [std::fs::read_to_string(log).unwrap(), gateway.call(&["config", "export"]).1] {
        assert!(!kept.contains("hunter2"), "{kept}");
    }

    let (code, out, _) = gateway.call(&["origin", "list"]);
    assert!(code == 0 && out.contains("door") && out.contains("yard"), "{out}");
    let (code, out, _) = gateway.call(&["origin", "retry", "door"]);
    assert!(code == 0 && out.contains("door"), "{out}");
    let (code, _, err) = gateway.call(&["origin", "retry", "dor"]);
    assert!(code == 1 && err.contains("perhaps door was meant"), "{err}");

    // The gateway looks with the credentials that it has, and never gives them away.
    let (code, out, err) = gateway.call(&["probe", "--origin", "door", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(code == 0 && found["udp"] == true && found["tcp"] == true, "{out}{err}");
    let archive = folder.path("support.tar");
    let (code, _, err) = gateway.call(&["support", &archive, "--no-probe"]);
    assert_eq!(code, 0, "{err}");
    let bytes = std::fs::read(&archive).unwrap();
    let held = String::from_utf8_lossy(&bytes);
    assert!(held.contains("edgeweir-support/config.toml") && held.contains("/cam/realmonitor"));
    assert!(bytes.len().is_multiple_of(512) && !held.contains("hunter2"));
}

#[test]
fn a_camera_is_added_to_a_store_that_no_gateway_has_open() {
    let folder = Folder::new("add-offline");
    let flash = folder.path("f");
    assert_eq!(run(&["flash", "format", &flash]).0, 0);
    let mut command = edgeweir(&[
        "origin",
        "add",
        "door",
        "192.0.2.1/a?b=c",
        "--user",
        "admin",
        "--auth",
        "digest",
        "--route",
        "/front",
        "--transport",
        "tcp",
        "--no-probe",
        "--flash",
        &flash,
    ]);
    command.env("EDGEWEIR_PASSWORD", "hunter2");
    let (code, out, err) = done(command.output().unwrap());
    assert!(code == 0 && err.contains("no user is stored"), "{out}{err}");
    let text = run(&["config", "export", "--flash", &flash]).1;
    for line in [
        "url = \"rtsp://192.0.2.1/a?b=c\"",
        "credentials = \"door\"",
        "path = \"/front\"",
        "auth = \"digest\"",
        "origin_transport = \"tcp\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let checked = folder.file("c.toml", &text);
    let (_, _, err) = run(&["config", "check", &checked, "--flash", &flash]);
    assert!(!err.contains("config secret"), "the credentials are stored: {err}");
}

#[test]
fn the_doctor_names_the_cause_of_each_fault_worst_first() {
    let folder = Folder::new("doctor");
    let (gateway, port, _) = listening(&folder);
    let (well, locked) = (Camera::start(&[]), Camera::start(&["--user", "admin:hunter2"]));
    let mute = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let mute_at = mute.local_addr().unwrap();
    let off = free_port();
    let mut text =
        format!("[gateway]\nlisten = [\"127.0.0.1:{port}\"]\nmedia_ports = \"21000-21199\"\n");
    for (name, at, more) in [
        ("well", well.at.as_str(), ""),
        ("locked", &locked.at, "credentials = \"cam\"\n"),
        ("off", &format!("127.0.0.1:{off}"), ""),
        ("mute", &mute_at.to_string(), ""),
        ("nameless", "no-such-camera.invalid", ""),
    ] {
        text += &format!("[[origin]]\nname = \"{name}\"\nurl = \"rtsp://{at}/cam\"\n{more}");
        text +=
            &format!("[[route]]\npath = \"/{name}\"\norigins = [\"{name}\"]\nauth = \"none\"\n");
    }
    text += "[[plugin]]\nslot = \"gate\"\n[[route]]\npath = \"/gated\"\norigins = [\"well\"]\n\
             auth = \"plugin:gate\"\n";
    let file = folder.file("doctor.toml", &text);
    let (code, out, err) = gateway.call(&["config", "import", &file]);
    assert!(code == 0 && err.contains("config secret cam"), "{out}{err}");
    let (code, out, err) = gateway.call(&["doctor", "--json"]);
    assert!(code == 1 && err.contains("are wrong"), "{out}{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let findings = found["findings"].as_array().unwrap();
    let cause = |about: &str| {
        let one = findings.iter().find(|finding| finding["about"] == about);
        one.map(|finding| finding["cause"].as_str().unwrap().to_owned())
    };
    for (about, wanted) in [
        ("origin well", None),
        ("origin locked", Some("password")),
        ("origin off", Some("port")),
        ("origin mute", Some("mute")),
        ("origin nameless", Some("name")),
        ("plugin gate", Some("plugin")),
        ("secrets", Some("secrets")),
    ] {
        assert_eq!(cause(about).as_deref(), wanted, "{about}: {out}");
    }
    let rank = |finding: &serde_json::Value| match finding["severity"].as_str() {
        Some("error") => 0,
        Some("warning") => 1,
        _ => 2,
    };
    assert!(findings.is_sorted_by_key(rank), "{out}");
    assert!(findings.iter().all(|finding| finding["remedy"] != ""), "{out}");
    // As text: one line each, and what is well.
    let text = format!(
        "[gateway]\nlisten = [\"127.0.0.1:{port}\"]\nmedia_ports = \"21000-21199\"\n\
        [[origin]]\nname = \"well\"\nurl = \"rtsp://{}/cam\"\n\
        [[route]]\npath = \"/well\"\norigins = [\"well\"]\n",
        well.at
    );
    let file = folder.file("well.toml", &text);
    assert_eq!(gateway.call(&["config", "import", &file]).0, 0);
    let (code, out, err) = gateway.call(&["doctor"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("well:    origin well: plays video H264"), "{out}");
}

#[test]
fn status_says_what_is_wrong_with_a_camera_until_it_works() {
    let folder = Folder::new("trouble");
    let (gateway, port, log) = listening(&folder);
    let camera = Camera::start(&["--user", "admin:hunter2"]);
    let mut args = vec!["--control", gateway.control.as_str(), "origin", "add", "door"];
    let url = format!("rtsp://{}/cam", camera.at);
    args.extend([url.as_str(), "--user", "admin", "--auth", "none", "--no-probe"]);
    let (code, out, err) = with_stdin(edgeweir(&args), "wrong\n");
    assert_eq!(code, 0, "{out}{err}");
    let play = format!("rtsp://127.0.0.1:{port}/door");
    let probe = || run(&["probe", &play, "--seconds", "1", "--transport", "tcp"]).0;
    assert_eq!(probe(), 1);
    let troubles = || {
        let out = gateway.call(&["status", "--json"]).1;
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        json["origins"][0]["troubles"].clone()
    };
    let met = troubles();
    assert_eq!(met[0]["cause"], "password", "{met}");
    assert_eq!(met[0]["text"], "it refuses user \"admin\" (401)", "{met}");
    assert!(met[0]["remedy"].as_str().unwrap().contains("config secret"), "{met}");
    let (_, out, _) = gateway.call(&["origin", "list"]);
    assert!(out.contains("it refuses user \"admin\" (401) for "), "{out}");
    let deadline = now() + Duration::from_secs(5);
    while !std::fs::read_to_string(&log).unwrap().contains("origin door: it refuses user") {
        assert!(now() < deadline, "the log says so too");
        std::thread::sleep(Duration::from_millis(50));
    }
    let secret = ["--control", &gateway.control, "config", "secret", "door"];
    assert_eq!(with_stdin(edgeweir(&secret), "admin:hunter2\n").0, 0);
    assert_eq!((probe(), troubles().as_array().unwrap().len()), (0, 0));
}
