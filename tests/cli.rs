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
