//! From arguments to the function that does the command.
//!
//! Not in here: the configuration's commands ([`super::config`]), `status` ([`super::watch`]),
//! `camera` and `probe` ([`super::tools`]).

use core::time::Duration;

use hyper::Method;

use super::{
    Failure,
    args::{Asks, Call, from_env},
    config, plugin, print, screen, terminal, tools, watch,
};
use crate::{
    control::model::SessionStatus,
    flash,
    limits::NOTE_MAX_BYTES,
    logger,
    proxy::{self, RunOptions},
};

/// Does what was asked for.
///
/// # Errors
/// As the command says.
pub fn run(call: Call) -> Result<(), Failure> {
    match call.asks {
        Some(Asks::Help) => return print(&call.spec.page()),
        Some(Asks::Version) => return print(concat!("edgeweir ", env!("CARGO_PKG_VERSION"), "\n")),
        None => {}
    }
    match call.spec.words {
        ["run"] => gateway(&call),
        ["status"] => watch::run(&call),
        ["sessions"] => sessions(&call),
        ["sessions", "close"] => close(&call),
        ["config", word] => config::run(word, &call),
        #[cfg(feature = "compiler")]
        ["plugin", "check"] => super::plugin_check::run(&call),
        #[cfg(feature = "compiler")]
        ["plugin", "compile"] => plugin::compile(&call),
        ["plugin", word] => plugin::run(word, &call),
        ["origin", word] => super::origin::run(word, &call),
        ["doctor"] => super::doctor::doctor(&call),
        ["support"] => super::doctor::support(&call),
        ["camera"] => {
            start_log(&call, "info")?;
            tools::camera(&call)
        }
        ["probe"] => {
            start_log(&call, "warn")?;
            match call.text("origin")? {
                Some(name) => super::doctor::probe_origin(&call, name),
                None => tools::probe(&call),
            }
        }
        ["flash", "format"] => format(&call),
        ["flash", "info"] => {
            let file = call.operand_file(0)?;
            print(&flash::cli::info(&file, call.has("json")).map_err(|wrong| wrong.to_string())?)
        }
        _ => Err(call.wrong("this command is unknown")),
    }
}

fn gateway(call: &Call) -> Result<(), Failure> {
    let config = call.path("config");
    let secrets = call.path("secrets");
    let flash = match call.path("flash") {
        Some(_) if config.is_some() => {
            return Err(call.wrong("--config and --flash exclude each other"));
        }
        None if config.is_none() => Some(from_env("EDGEWEIR_FLASH").ok_or_else(|| {
            call.wrong("no configuration: give --config FILE.toml or --flash DEVICE_OR_FILE")
        })?),
        given => given,
    };
    if secrets.is_some() && config.is_none() {
        return Err(call.wrong("--secrets goes with --config; a store holds secrets of its own"));
    }
    let first_config = call.path("first-config");
    if first_config.is_some() && config.is_some() {
        return Err(call.wrong("--first-config goes with --flash; --config is no store"));
    }
    let note = call.text("note")?.map(str::to_owned);
    if note
        .as_ref()
        .is_some_and(|note| note.len() > NOTE_MAX_BYTES || note.contains(char::is_control))
    {
        return Err(call.wrong(&format!("--note takes a line of up to {NOTE_MAX_BYTES} bytes")));
    }
    start_log(call, "info")?;
    let healthy_after = call.number("healthy-after", 1..=3600)?.unwrap_or(60);
    let logs = call.has("syslog");
    proxy::run(RunOptions {
        config,
        flash,
        first_config,
        note,
        secrets,
        control: call.control(),
        data: call.path("data"),
        image_plugins: call.path("image-plugins"),
        watchdog: call.path("watchdog"),
        healthy_after: Duration::from_secs(healthy_after),
    })
    .map_err(|wrong| {
        // Nobody may be there to read stderr.
        if logs {
            log::error!("ended: {wrong}");
        }
        wrong.into()
    })
}

/// Starts the log as `--log` or `EDGEWEIR_LOG` says.
fn start_log(call: &Call, usual: &str) -> Result<(), Failure> {
    let from_env = std::env::var("EDGEWEIR_LOG").ok().filter(|level| !level.is_empty());
    let name = call.text("log")?.or(from_env.as_deref()).unwrap_or(usual);
    let level = logger::level(name).map_err(|wrong| call.wrong(&wrong))?;
    let syslog = call.has("syslog").then(|| logger::syslog::DEFAULT_PATH.into());
    Ok(logger::start(level, syslog)?)
}

fn sessions(call: &Call) -> Result<(), Failure> {
    let client = call.client();
    if call.has("json") {
        return print(&client.read_text("/v1/sessions")?);
    }
    let sessions: Vec<SessionStatus> = client.read("/v1/sessions")?;
    let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
    print(&screen::session_list(&sessions, width, terminal::colour()))
}

fn close(call: &Call) -> Result<(), Failure> {
    let text = call.operand_text(0)?;
    let id: u64 = text.parse().map_err(|_| {
        call.wrong(&format!("ID `{text}` is no number; `edgeweir sessions` lists them"))
    })?;
    let place = format!("/v1/sessions/{id}");
    print(&(call.client().change(Method::DELETE, &place, String::new())? + "\n"))
}

fn format(call: &Call) -> Result<(), Failure> {
    let file = call.operand_file(0)?;
    let size = match call.text("size")? {
        None => None,
        Some(text) => Some(bytes(text).ok_or_else(|| {
            call.wrong(&format!("--size {text}: allowed are bytes, or a number with K or M"))
        })?),
    };
    let done = flash::cli::format(&file, size, call.has("force"));
    print(&done.map_err(|wrong| wrong.to_string())?)
}

/// A number of bytes; K and M are 1024 and 1024 * 1024.
fn bytes(text: &str) -> Option<u32> {
    let (number, unit) = match text.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1024),
        None => text.strip_suffix(['M', 'm']).map_or((text, 1), |number| (number, 1024 * 1024)),
    };
    number.parse::<u32>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_have_units() {
        for (text, size) in [
            ("4096", Some(4096)),
            ("512K", Some(524_288)),
            ("2m", Some(2 << 20)),
            ("4096M", None),
            ("M", None),
            ("1G", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), size, "{text}");
        }
    }
}
