//! `edgeweir plugin check`, as an author runs it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::support::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/plugins/{name}.wasm"))
}

fn check(name: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgeweir"));
    command.args(["plugin", "check"]).arg(file(name)).args(more).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_component_is_shown_with_verdicts_time_and_memory_on_both_kinds_of_code() {
    let output = check("least-loaded", &[]);
    let page = said(&output.stdout);
    assert!(output.status.success(), "{}", said(&output.stderr));
    for word in ["least-loaded 1.0.0", "balancer", "NATIVE", "PULLEY", "pick-upstream", "KiB"] {
        assert!(page.contains(word), "{word} is not in\n{page}");
    }
}

#[test]
fn a_refusal_is_one_line_with_step_reason_and_remedy() {
    let output = check("hostile/big-memory", &[]);
    let line = said(&output.stderr);
    assert_eq!((output.status.code(), line.lines().count()), (Some(1), 1), "{line}");
    assert!(line.contains("needs: ") && line.contains("allowed are 4096"), "{line}");
}

#[test]
fn an_authenticator_is_checked_with_the_keys_that_it_will_have() {
    let config = ["--config", r#"{"key":"portal"}"#];
    let without = check("token-gate", &config);
    assert_eq!(without.status.code(), Some(1));
    assert!(said(&without.stderr).contains("the gateway has no key"), "{without:?}");

    let place = Place::new();
    fs::create_dir(&place.dir).unwrap();
    let secrets = place.dir.join("secrets.toml");
    fs::write(
        &secrets,
        "[[credential]]\nname = \"portal\"\nuser = \"hmac\"\npassword = \"x1y2\"\n",
    )
    .unwrap();
    let with =
        || check("token-gate", &[&config[..], &["--secrets", secrets.to_str().unwrap()]].concat());
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(said(&with().stderr).contains("chmod"), "a file that others may read is not taken");
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let with = with();
    assert!(with.status.success(), "{}", said(&with.stderr));
    assert!(said(&with.stdout).contains("deny 403") && !said(&with.stdout).contains("x1y2"));
}
