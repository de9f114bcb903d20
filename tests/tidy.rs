//! The rules of the repository that a machine can hold.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Lines after which a file says in its first lines why it is that long.
const LONG_FILE_LINES: usize = 500;

/// Rooms of the core, and files of other rooms that are core too.
const CORE: [&str; 8] = [
    "src/rtsp/",
    "src/scope/",
    "src/session/",
    "src/origin/",
    "src/auth/",
    "src/config/",
    "src/pipe/relay.rs",
    "src/plugin/hooks.rs",
];

/// Files inside a core room that belong to the shell, with the reason.
const NOT_CORE: [&str; 1] = [
    "src/config/cli.rs", // reads and writes files for the command line
];

/// What the core must not name.
const SHELL: [&str; 12] = [
    "std::net::",
    "std::thread",
    "std::sync::Mutex",
    "std::time::",
    "std::fs",
    "std::io",
    "smol::",
    "async_io",
    "log::",
    "polling::",
    "libc::",
    "clock::now",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Rust files under a folder, with their text.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(found.len() > 5, "the sources are there");
    found
}

fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]").next().unwrap()
}

#[test]
fn the_core_names_nothing_of_the_shell() {
    for (name, text) in sources("src") {
        if !CORE.iter().any(|room| name.starts_with(room)) || NOT_CORE.contains(&name.as_str()) {
            continue;
        }
        for (at, line) in without_tests(&text).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            for word in SHELL {
                assert!(!code.contains(word), "{name}:{}: the core names `{word}`", at + 1);
            }
        }
    }
}

#[test]
fn a_long_file_says_why() {
    for (name, text) in sources("src") {
        let lines = without_tests(&text).lines().count();
        assert!(lines <= LONG_FILE_LINES + 150, "{name} has {lines} lines: a room wants out");
        if lines > LONG_FILE_LINES {
            let doc: String = text.lines().take_while(|line| line.starts_with("//!")).collect();
            assert!(doc.contains("Long because"), "{name} has {lines} lines and does not say why");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for (name, text) in sources("src").into_iter().chain(sources("tests")) {
        assert!(text.starts_with("//!"), "{name} begins without a word on what it is for");
    }
}

#[test]
fn nothing_is_left_undone() {
    for (name, text) in sources("src").into_iter().chain(sources("tests")) {
        if name == "tests/tidy.rs" {
            continue;
        }
        for word in ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "TODO"] {
            assert!(!text.contains(word), "{name} has `{word}`");
        }
    }
}

#[test]
fn unsafe_code_has_its_reason_at_the_top_of_its_file() {
    for (name, text) in sources("src") {
        if text.contains("unsafe {") || text.contains("unsafe fn") {
            let allowed = text.contains("allow(unsafe_code");
            assert!(allowed, "{name} has unsafe code without saying why");
            assert!(text.contains("// SAFETY:"), "{name} has unsafe code without its argument");
        }
    }
}

#[test]
fn each_transcript_says_what_must_hold() {
    let folder = root().join("tests/transcripts");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let header = text.split("--- ").next().unwrap();
        let words = header.lines().filter(|line| !line.starts_with('@')).count();
        assert!(words >= 1, "{} begins without a sentence", name(&path));
        assert!(text.contains("--- proxy "), "{} records nothing", name(&path));
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// `tests/README.md` says which test proves which rule: each one that it names is there, and each
/// transcript is named.
#[test]
fn every_proof_that_is_named_exists_and_every_transcript_proves_something() {
    let page = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let proofs: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .filter_map(|line| line.trim_end_matches([' ', '|']).rsplit("| ").next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let mut tests = 0;
    for proof in &proofs {
        if let Some((file, test)) = proof.split_once("::") {
            let text = fs::read_to_string(root().join(file))
                .unwrap_or_else(|error| panic!("tests/README.md: {file}: {error}"));
            let found = text.contains(&format!("#[test]\nfn {test}()"))
                || text.contains(&format!("#[test]\n    fn {test}()"));
            assert!(found, "tests/README.md: {file} has no test `{test}`");
            tests += 1;
        }
    }
    assert!(tests > 50, "the page names tests");
    let mut transcripts: Vec<String> = fs::read_dir(root().join("tests/transcripts"))
        .unwrap()
        .map(|entry| name(&entry.unwrap().path()))
        .collect();
    transcripts.sort();
    for transcript in &transcripts {
        assert!(
            proofs.contains(&transcript.as_str()),
            "tests/README.md does not say what {transcript} proves"
        );
    }
    for proof in proofs.iter().filter(|proof| proof.ends_with(".txt")) {
        assert!(
            transcripts.iter().any(|transcript| transcript == proof),
            "tests/README.md: there is no transcript {proof}"
        );
    }
}
