//! `edgeweir camera` and `edgeweir probe`: arguments to options, results to text.
//!
//! Not in here: the camera and the probe.

use core::{net::SocketAddr, time::Duration};
use std::io::{self, IsTerminal as _, Write as _};

use smol::stream::StreamExt as _;

use super::{Failure, args::Call, note, print, table};
use crate::{
    camera,
    probe::{self, Report, Transport},
};

/// Serves the synthetic camera until SIGINT or SIGTERM.
///
/// # Errors
/// Wrong options, or the address cannot be had.
pub fn camera(call: &Call) -> Result<(), Failure> {
    let options = camera_options(call)?;
    smol::block_on(async {
        let stop = stopped().map_err(|wrong| format!("signals cannot be received: {wrong}"))?;
        camera::run(options, stop).await.map_err(|wrong| wrong.to_string())
    })?;
    Ok(())
}

fn camera_options(call: &Call) -> Result<camera::Options, Failure> {
    let mut options = camera::Options::default();
    if let Some(text) = call.text("listen")? {
        options.listen = text.parse::<SocketAddr>().map_err(|_| {
            call.wrong(&format!(
                "--listen {text}: allowed are an address and port, as 0.0.0.0:8555"
            ))
        })?;
    }
    if let Some(name) = call.text("name")? {
        name.clone_into(&mut options.name);
    }
    if let Some(pair) = call.text("user")? {
        let (user, password) = pair
            .split_once(':')
            .filter(|(user, _)| !user.is_empty())
            .ok_or_else(|| call.wrong("--user: allowed is USER:PASSWORD"))?;
        options.digest = Some((user.to_owned(), password.to_owned()));
    }
    options.audio = call.has("audio");
    options.fps = call.number("fps", 1..=120)?.unwrap_or(options.fps);
    options.kbit = call.number("kbit", 0..=50_000)?.unwrap_or(options.kbit);
    options.session_timeout_s =
        call.number("session-timeout", 1..=3600)?.unwrap_or(options.session_timeout_s);
    options.freeze_after = call.number("freeze-after", 0..=86_400)?.map(Duration::from_secs);
    options.die_after = call.number("die-after", 0..=86_400)?.map(Duration::from_secs);
    Ok(options)
}

/// Done at SIGINT or SIGTERM.
fn stopped() -> io::Result<impl Future<Output = ()>> {
    use async_signal::{Signal, Signals};
    let mut signals = Signals::new([Signal::Int, Signal::Term])?;
    Ok(async move {
        signals.next().await;
    })
}

/// Plays a URL and prints what came.
///
/// # Errors
/// The URL cannot be played, or no media came.
pub fn probe(call: &Call) -> Result<(), Failure> {
    let transport = match call.text("transport")? {
        None | Some("udp") => Transport::Udp,
        Some("tcp") => Transport::Tcp,
        Some(other) => {
            return Err(call.wrong(&format!("--transport {other}: allowed are udp and tcp")));
        }
    };
    if call.operand(0).is_none() {
        return Err(call.wrong("URL is missing, or --origin NAME"));
    }
    let seconds = call.number("seconds", 1..=86_400)?.unwrap_or(10);
    let url = call.operand_text(0)?.to_owned();
    let options = probe::Options { url, transport, seconds, ports: None };
    let as_json = call.has("json");
    let live = !as_json && io::stderr().is_terminal();
    let tick = |report: &Report| {
        if live {
            // Overwritten in place: one line that lives.
            let line = table::clean(&report.line());
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        }
    };
    let done = smol::block_on(probe::run(options, tick));
    if live {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
    let report = done.map_err(|wrong| wrong.to_string())?;
    if as_json {
        print(&(serde_json::to_string_pretty(&report).map_err(|wrong| wrong.to_string())? + "\n"))?;
    } else {
        let text = report.table();
        print(&text.lines().map(|line| table::clean(line) + "\n").collect::<String>())?;
    }
    if report.media_flowed() {
        if !as_json {
            note(&format!("media came; the answer to PLAY took {} ms", report.setup_ms));
        }
        return Ok(());
    }
    let other = if transport == Transport::Udp { "tcp" } else { "udp" };
    Err(Failure::Failed(format!(
        "no media came on every track within {seconds} s: see `edgeweir status`, or try \
         --transport {other}"
    )))
}
