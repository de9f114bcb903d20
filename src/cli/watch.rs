//! `edgeweir status`: once, or once a second until someone has seen enough.
//!
//! Not in here: what the page looks like ([`super::screen`]).

use core::time::Duration;
use std::io::IsTerminal as _;

use serde::Serialize;

use super::{Failure, args::Call, print, screen, terminal};
use crate::{
    control::{
        client::Client,
        model::{SessionStatus, Status},
    },
    logger,
};

const EVERY: Duration = Duration::from_secs(1);

/// What `--json` prints: the status and, beside it, the sessions.
#[derive(Serialize)]
struct Snapshot {
    #[serde(flatten)]
    status: Status,
    session_list: Vec<SessionStatus>,
}

/// Does the command.
///
/// # Errors
/// No gateway answers, or nobody reads.
pub fn run(call: &Call) -> Result<(), Failure> {
    let client = call.client();
    match (call.has("watch"), call.has("json")) {
        (true, false) if std::io::stdout().is_terminal() => on_screen(&client),
        (true, json) => loop {
            print(&snapshot(&client, json)?)?;
            std::thread::sleep(EVERY);
        },
        (false, true) => print(&json(&client, true)?),
        (false, false) => {
            let (status, sessions) = ask(&client)?;
            let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
            print(&screen::render(&status, &sessions, width, 0, terminal::colour()))
        }
    }
}

fn ask(client: &Client) -> Result<(Status, Vec<SessionStatus>), String> {
    Ok((client.read("/v1/status")?, client.read("/v1/sessions")?))
}

fn snapshot(client: &Client, as_json: bool) -> Result<String, String> {
    if as_json {
        return json(client, false);
    }
    let (status, sessions) = ask(client)?;
    Ok(screen::text(&logger::timestamp(logger::wall_clock()), &status, &sessions))
}

fn json(client: &Client, pretty: bool) -> Result<String, String> {
    let (status, session_list) = ask(client)?;
    let snapshot = Snapshot { status, session_list };
    let text = if pretty {
        serde_json::to_string_pretty(&snapshot)
    } else {
        serde_json::to_string(&snapshot)
    };
    text.map(|text| text + "\n").map_err(|wrong| wrong.to_string())
}

/// The whole screen, until `q` or a signal. A gateway that goes away is waited for: it may be
/// restarting, and whoever watches wants to see it come back.
fn on_screen(client: &Client) -> Result<(), Failure> {
    let colour = terminal::colour();
    let screen = terminal::Screen::take().map_err(|wrong| format!("the terminal: {wrong}"))?;
    loop {
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let page = match ask(client) {
            Ok((status, sessions)) => screen::render(&status, &sessions, width, height, colour),
            Err(wrong) => waiting(&wrong, width),
        };
        screen.show(&page).map_err(|wrong| format!("the terminal: {wrong}"))?;
        if screen.pause(EVERY) == terminal::Woken::Quit {
            return Ok(());
        }
    }
}

fn waiting(wrong: &str, width: usize) -> String {
    let mut page = String::new();
    let mut line = String::new();
    for word in wrong.split(' ') {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            page.push_str(&line);
            page.push('\n');
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&super::table::clean(word));
    }
    page + &line + "\n\nasking again once a second; q ends this\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_wrapped_at_words() {
        let page = waiting("no gateway answers at /x: is it running?", 20);
        assert!(page.starts_with("no gateway answers\nat /x: is it\nrunning?\n\nasking"), "{page}");
    }
}
