//! `edgeweir doctor`, `edgeweir probe --origin` and `edgeweir support`: what is wrong, and what others
//! need to know to say it.
//!
//! Not in here: finding it. The gateway looks, since secrets never leave it.

use core::time::Duration;
use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::Serialize;

use super::{Failure, args::Call, note, print, table::clean};
use crate::{
    control::{
        client::Client,
        model::{Ask, Finding, OriginStatus, Severity, Survey},
    },
    limits::PROBES_AT_ONCE_MAX,
};

/// Asks each origin, the gateway and its machine, and prints what is wrong, worst first.
///
/// # Errors
/// No gateway answers, or something is wrong.
pub fn doctor(call: &Call) -> Result<(), Failure> {
    let examined = examine(&call.client())?;
    if call.has("json") {
        let text = serde_json::to_string_pretty(&examined).map_err(|wrong| wrong.to_string())?;
        print(&(text + "\n"))?;
    } else {
        print(&examined.text())?;
    }
    let wrong = examined.count(Severity::Error);
    if wrong > 0 {
        let (things, are) = if wrong == 1 { ("thing", "is") } else { ("things", "are") };
        return Err(Failure::Failed(format!("{wrong} {things} {are} wrong, see above")));
    }
    Ok(())
}

/// All that was found.
#[derive(Debug, Default, Serialize)]
struct Examined {
    /// What is wrong, worst first.
    findings: Vec<Finding>,
    /// What each origin is, by name.
    origins: Vec<(String, Survey)>,
}

fn examine(client: &Client) -> Result<Examined, Failure> {
    let mut findings: Vec<Finding> = client.read("/v1/doctor")?;
    let known: Vec<OriginStatus> = client.read("/v1/origins")?;
    let mut origins = Vec::new();
    for some in known.chunks(PROBES_AT_ONCE_MAX) {
        let looks: Vec<_> = some
            .iter()
            .map(|origin| {
                let (client, name) = (client.clone(), origin.name.clone());
                thread::spawn(move || {
                    let ask = Ask { origin: Some(name.clone()), ..Ask::default() };
                    let found = client.probe(&ask);
                    (name, found)
                })
            })
            .collect();
        for look in looks {
            let Ok((name, found)) = look.join() else { continue };
            match found {
                Ok(survey) => {
                    findings.extend(survey.findings.iter().cloned());
                    origins.push((name, survey));
                }
                Err(text) => findings.push(Finding {
                    severity: Severity::Error,
                    about: format!("origin {name}"),
                    cause: "unknown".to_owned(),
                    text,
                    remedy: format!("`edgeweir probe --origin {name}`"),
                }),
            }
        }
    }
    findings.sort();
    Ok(Examined { findings, origins })
}

impl Examined {
    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            text.push_str(&line(finding));
            text.push('\n');
        }
        for (name, survey) in &self.origins {
            if survey.findings.iter().any(|finding| finding.severity == Severity::Error) {
                continue;
            }
            let about = match survey.tracks.as_slice() {
                [] => format!(
                    "answers; no path is known, so nothing was played (edgeweir probe --origin \
                     {name} /PATH)"
                ),
                _ => format!("plays {}", tracks(survey)),
            };
            text.push_str(&clean(&format!("well:    origin {name}: {about}")));
            text.push('\n');
        }
        if self.findings.is_empty() {
            text.push_str("well:    the gateway and its machine\n");
        }
        text
    }
}

/// A finding as one line.
pub fn line(finding: &Finding) -> String {
    let word = match finding.severity {
        Severity::Error => "error:  ",
        Severity::Warning => "warning:",
        Severity::Note => "note:   ",
    };
    let Finding { about, text, remedy, .. } = finding;
    let remedy = if remedy.is_empty() { String::new() } else { format!(" -> {remedy}") };
    clean(&format!("{word} {about}: {text}{remedy}"))
}

/// What a look found, for people.
pub fn described(survey: &Survey) -> String {
    let mut text = format!("{}\n", survey.url);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<12}{value}\n"));
        }
    };
    let server = match (survey.vendor.as_str(), survey.server.as_str()) {
        ("", server) => server.to_owned(),
        (vendor, "") => vendor.to_owned(),
        (vendor, server) => format!("{vendor} ({server})"),
    };
    row("made by", server);
    row("asks for", survey.asks.clone());
    row("tracks", tracks(survey));
    let transport = |name: &str, came: Option<bool>| match came {
        None => String::new(),
        Some(true) => format!("{name} works  "),
        Some(false) => format!("{name} does not  "),
    };
    let transports = transport("udp", survey.udp) + &transport("tcp", survey.tcp);
    row("media", transports.trim_end().to_owned());
    if survey.described_ms > 0 {
        row("answers in", format!("{} ms", survey.described_ms));
    }
    text.lines().map(|line| clean(line) + "\n").collect()
}

fn tracks(survey: &Survey) -> String {
    let names = survey.tracks.iter().map(|track| match track.codec.as_str() {
        "" => track.kind.clone(),
        codec => format!("{} {codec}", track.kind),
    });
    names.collect::<Vec<_>>().join(", ")
}

/// `edgeweir probe --origin NAME [PATH]`: by the gateway, with the credentials that it has.
///
/// # Errors
/// There is no such origin, or something is wrong with it.
pub fn probe_origin(call: &Call, name: &str) -> Result<(), Failure> {
    for option in ["transport", "seconds"] {
        if call.text(option)?.is_some() {
            let text = format!("--{option} does not go with --origin: both transports are tried");
            return Err(call.wrong(&text));
        }
    }
    let path = call.operand(0).map(|_| call.operand_text(0)).transpose()?;
    if path.is_some_and(|path| !path.starts_with('/')) {
        return Err(
            call.wrong("with --origin comes a path that starts with `/`, in place of a URL")
        );
    }
    let (origin, path) = (Some(name.to_owned()), path.map(str::to_owned));
    let found = call.client().probe(&Ask { origin, path, ..Ask::default() })?;
    if call.has("json") {
        let text = serde_json::to_string_pretty(&found).map_err(|wrong| wrong.to_string())?;
        print(&(text + "\n"))?;
    } else {
        print(&described(&found))?;
        for finding in &found.findings {
            print(&(line(finding) + "\n"))?;
        }
        if found.tracks.is_empty() && found.findings.is_empty() {
            note("it answers; nothing was played, since no path is known: name one behind NAME");
        }
    }
    let worst = found.findings.iter().find(|finding| finding.severity == Severity::Error);
    worst.map_or(Ok(()), |finding| Err(Failure::Failed(format!("origin {name}: {}", finding.text))))
}

/// Writes what a helper needs into one archive, without secrets.
///
/// # Errors
/// No gateway answers, or the file cannot be written.
pub fn support(call: &Call) -> Result<(), Failure> {
    let client = call.client();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let path = match call.operand(0) {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(format!("edgeweir-support-{since}.tar")),
    };
    let mut files = vec![(
        "version.txt",
        format!(
            "edgeweir {}\n{}",
            env!("CARGO_PKG_VERSION"),
            std::fs::read_to_string("/proc/version").unwrap_or_default()
        ),
    )];
    for (name, place) in [
        ("status.json", "/v1/status"),
        ("sessions.json", "/v1/sessions"),
        ("config.toml", "/v1/config"),
        ("history.json", "/v1/config/history"),
        ("plugins.json", "/v1/plugins"),
        ("metrics.txt", "/metrics"),
    ] {
        // What cannot be read is worth knowing too; the first one says whether a gateway runs.
        match client.read_text(place) {
            Ok(text) => files.push((name, text)),
            Err(wrong) if name == "status.json" => return Err(wrong.into()),
            Err(wrong) => files.push((name, format!("{wrong}\n"))),
        }
    }
    if !call.has("no-probe") {
        note("asking each origin …");
        let examined = examine(&client)?;
        let json = serde_json::to_string_pretty(&examined).map_err(|wrong| wrong.to_string())?;
        files.push(("doctor.json", json + "\n"));
    }
    let mut archive = Vec::new();
    for (name, text) in &files {
        tar_file(&mut archive, &format!("edgeweir-support/{name}"), &without_secrets(text), since);
    }
    archive.extend_from_slice(&[0; 1024]);
    let failed = |wrong: std::io::Error| Failure::Failed(format!("{}: {wrong}", path.display()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(&archive).map_err(failed)?;
    print(&format!(
        "{} written; passwords are not in it, addresses and names are\n",
        path.display()
    ))
}

/// The text without what may be secret: users and passwords in URLs, and values of queries that are
/// called like one. The gateway itself gives no secrets out.
fn without_secrets(text: &str) -> String {
    const CALLED: [&str; 7] = ["pass", "pwd", "token", "secret", "key", "auth", "sig"];
    let mut out = String::with_capacity(text.len());
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>');
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(ends).unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        let authority = url.find(['/', '?']).unwrap_or(url.len());
        // A password may hold a slash: what stands before the last `@` of the host's part goes.
        let (host, tail) = match url.get(..authority).and_then(|part| part.rfind('@')) {
            Some(at) => ("***@", url.get(at + 1..).unwrap_or_default()),
            None => ("", url),
        };
        out.push_str(host);
        let mut parts = tail.split_inclusive(['?', '&']);
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let name = part.split('=').next().unwrap_or_default();
            let lower = name.to_ascii_lowercase();
            if part.contains('=') && CALLED.iter().any(|word| lower.contains(word)) {
                out.push_str(&format!("{name}=***"));
                out.push_str(if part.ends_with('&') { "&" } else { "" });
            } else {
                out.push_str(part);
            }
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// One file of a tar archive (ustar).
fn tar_file(archive: &mut Vec<u8>, name: &str, text: &str, modified_s: u64) {
    let mut head = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = head.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes().get(..name.len().min(100)).unwrap_or_default());
    put(100, b"0000600\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", text.len()).as_bytes());
    put(136, format!("{modified_s:011o}\0").as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    if let Some(place) = head.get_mut(148..156) {
        place.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive.extend_from_slice(&head);
    archive.extend_from_slice(text.as_bytes());
    archive.resize(archive.len().next_multiple_of(512), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out_of_any_text() {
        for (text, clean) in [
            ("url = \"rtsp://u:p@h/a\"", "url = \"rtsp://***@h/a\""),
            ("rtsp://h/a?user=x&password=hunter2&c=1 z", "rtsp://h/a?user=x&password=***&c=1 z"),
            ("\"rtsp://h/a?Token=t\", \"rtsp://h\"", "\"rtsp://h/a?Token=***\", \"rtsp://h\""),
            (
                "rtsp://h/cam/realmonitor?channel=1&subtype=0",
                "rtsp://h/cam/realmonitor?channel=1&subtype=0",
            ),
            ("mail a@b", "mail a@b"),
        ] {
            assert_eq!(without_secrets(text), clean);
        }
    }

    #[test]
    fn an_archive_has_whole_blocks_and_a_sum_that_is_right() {
        let mut archive = Vec::new();
        tar_file(&mut archive, "a/b.txt", "hello", 0);
        assert_eq!(archive.len(), 1024);
        assert_eq!(&archive[512..517], b"hello");
        let told = core::str::from_utf8(&archive[148..154]).unwrap();
        let mut head = archive[..512].to_vec();
        head[148..156].copy_from_slice(b"        ");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        assert_eq!(u32::from_str_radix(told, 8), Ok(sum));
    }
}
