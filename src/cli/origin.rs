//! `edgeweir origin …`: cameras and recorders, added as people have them, listed, tried again.
//!
//! Not in here: what a look at a camera means (`probe::survey`), the configuration's rules.

use core::net::{IpAddr, SocketAddr};
use std::{io, io::IsTerminal as _, path::Path};

use hyper::Method;

use super::{Failure, args::Call, config as stored, doctor, note, print, screen, terminal};
use crate::{
    config::{Origin, cli as offline, rules, text},
    control::model::{Ask, Credential, OriginStatus, Severity, Status, Survey},
    probe::{self, survey},
};

/// Does one of the commands; `word` is the one behind `origin`.
///
/// # Errors
/// As the command says.
pub fn run(word: &str, call: &Call) -> Result<(), Failure> {
    match word {
        "add" => add(call),
        "list" => list(call),
        _ => {
            let name = call.operand_text(0)?;
            let place = format!("/v1/origins/{}/retry", stored::in_path(call, name)?);
            print(&(call.client().change(Method::POST, &place, String::new())? + "\n"))
        }
    }
}

fn list(call: &Call) -> Result<(), Failure> {
    let client = call.client();
    if call.has("json") {
        return print(&client.read_text("/v1/origins")?);
    }
    let origins: Vec<OriginStatus> = client.read("/v1/origins")?;
    let width = terminal::size().map_or(usize::MAX, |(width, _)| width);
    print(&screen::origin_list(&origins, width, terminal::colour()))
}

/// What is to be added.
struct Wanted<'a> {
    name: &'a str,
    /// Without user and password.
    url: String,
    route: String,
    user: Option<String>,
    password: Option<String>,
    auth: Option<String>,
    transport: Option<&'static str>,
}

fn add(call: &Call) -> Result<(), Failure> {
    let name = call.operand_text(0)?;
    rules::name("NAME", name).map_err(|wrong| {
        call.wrong(&format!("NAME {}: allowed are {}", wrong.found, wrong.allowed))
    })?;
    let flash = call.path("flash");
    let mut wanted = wanted(call, name)?;
    if wanted.user.is_some() && wanted.password.is_none() {
        wanted.password = Some(password(call, name)?);
    }
    if !call.has("no-probe") {
        looked_at(call, &mut wanted, flash.as_deref())?;
    }
    if wanted.user.is_some() && wanted.auth.is_none() {
        wanted.auth = Some(who_may_watch(call)?);
    }
    let before = match &flash {
        Some(flash) => offline::export_or_default(flash).map_err(stored::said)?,
        None => call.client().read_text("/v1/config")?,
    };
    let after = format!("{}{}", before, wanted.text());
    // Before anything is stored: a name that is taken, or a URL that is none.
    let whole = text::parse(&after).map_err(|wrong| Failure::Failed(wrong.fault.to_string()))?;
    let takes = |origin: &&Origin| origin.credentials.as_deref() == Some(name);
    if wanted.user.is_some()
        && let Some(other) = whole.origins.iter().filter(takes).find(|origin| origin.name != name)
    {
        let text = format!("origin {} has credentials {name}: choose another NAME", other.name);
        return Err(Failure::Failed(text));
    }
    match &flash {
        Some(flash) => add_offline(&wanted, &after, flash)?,
        None => add_running(call, &wanted, after)?,
    }
    let play = if flash.is_some() { None } else { place_to_play(call, &wanted.route) };
    if let Some(play) = play {
        note(&format!("play it at {play}"));
    }
    Ok(())
}

fn wanted<'a>(call: &Call, name: &'a str) -> Result<Wanted<'a>, Failure> {
    let given = call.operand_text(1)?;
    let given = if given.contains("://") { given.to_owned() } else { format!("rtsp://{given}") };
    // The URL is not repeated in an error: it may hold a password.
    let apart = probe::apart(&given).map_err(|wrong| call.wrong(&format!("URL: {wrong}")))?;
    let (url, inside) = apart;
    let (mut user, mut password) = (None, None);
    if let Some((its_user, its_password)) = inside {
        user = Some(its_user);
        password = Some(its_password).filter(|password| !password.is_empty());
    }
    if password.is_some() {
        note(
            "the password was on the command line, where others can see it (`ps`, the shell's \
             history): --user NAME asks for it, or takes it from --password-file or \
             EDGEWEIR_PASSWORD",
        );
    }
    if let Some(given) = call.text("user")? {
        if given.contains(':') {
            return Err(call.wrong("--user takes the user alone; the password is asked for"));
        }
        user = Some(given.to_owned());
    }
    let auth = call.text("auth")?.map(str::to_owned);
    if let Some(word) = auth.as_deref()
        && !matches!(word, "none" | "digest" | "basic" | "pass")
        && !word.starts_with("plugin:")
    {
        return Err(call.wrong(&format!(
            "--auth {word}: allowed are none, digest, basic, pass and plugin:SLOT"
        )));
    }
    let transport = match call.text("transport")? {
        None => None,
        Some("udp") => Some("udp"),
        Some("tcp") => Some("tcp"),
        Some(other) => {
            return Err(call.wrong(&format!("--transport {other}: allowed are udp and tcp")));
        }
    };
    let route = call.text("route")?.map_or_else(|| format!("/{name}"), str::to_owned);
    Ok(Wanted { name, url, route, user, password, auth, transport })
}

/// From the environment, a file, or asked for.
fn password(call: &Call, name: &str) -> Result<String, Failure> {
    if let Some(file) = call.path("password-file") {
        let text = std::fs::read_to_string(&file)
            .map_err(|wrong| Failure::Failed(format!("{}: {wrong}", file.display())))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Ok(password) = std::env::var("EDGEWEIR_PASSWORD")
        && !password.is_empty()
    {
        return Ok(password);
    }
    terminal::secret_line(&format!("password for {name}: ")).map_err(|_| {
        call.wrong(
            "the password is missing: give it on stdin, in EDGEWEIR_PASSWORD or --password-file",
        )
    })
}

/// Looks at the camera, asks for what it lacks, and says what was found.
fn looked_at(call: &Call, wanted: &mut Wanted<'_>, flash: Option<&Path>) -> Result<(), Failure> {
    note(&format!("looking at {} …", wanted.url));
    let mut found = look(call, wanted, flash)?;
    let asks = |found: &Survey| found.findings.iter().any(|finding| finding.cause == "password");
    let players_sign = wanted.auth.as_deref() == Some("pass") && wanted.user.is_none();
    if asks(&found) && players_sign {
        found.findings.retain(|finding| finding.cause != "password");
        note("the camera asks for a password, which players will give themselves");
    } else if asks(&found) && wanted.user.is_none() {
        if !io::stdin().is_terminal() {
            return Err(call.wrong(
                "the camera asks for a user: give --user NAME, or --auth pass where players sign in \
                 for themselves",
            ));
        }
        note("the camera asks for a user and a password");
        wanted.user = Some(terminal::line("user: ")?);
        wanted.password = Some(terminal::secret_line("password: ")?);
        found = look(call, wanted, flash)?;
    }
    if found.udp == Some(false) && found.tcp == Some(true) && wanted.transport.is_none() {
        wanted.transport = Some("tcp");
        found.findings.retain(|finding| finding.cause != "udp");
        note("media does not arrive over UDP: the gateway will ask for it over TCP");
    }
    print(&doctor::described(&found))?;
    for finding in &found.findings {
        note(&doctor::line(finding));
    }
    let wrong = found.findings.iter().any(|finding| finding.severity == Severity::Error);
    if !wrong || call.has("force") {
        return Ok(());
    }
    if io::stdin().is_terminal()
        && terminal::line("add it all the same? [y/N] ")?.starts_with(['y', 'Y'])
    {
        return Ok(());
    }
    let text = "nothing was added; --force adds it all the same";
    Err(Failure::Failed(text.to_owned()))
}

fn look(call: &Call, wanted: &Wanted<'_>, flash: Option<&Path>) -> Result<Survey, Failure> {
    if flash.is_none() {
        // Seen as the gateway will see it.
        let (url, user) = (Some(wanted.url.clone()), wanted.user.clone());
        let ask = Ask { url, user, password: wanted.password.clone(), ..Ask::default() };
        return Ok(call.client().probe(&ask)?);
    }
    let password = wanted.password.as_deref().unwrap_or_default();
    let credentials =
        wanted.user.as_deref().map(|user| crate::auth::Credentials::new(user, password));
    let target = survey::Target {
        url: wanted.url.clone(),
        credentials,
        about: "camera".to_owned(),
        plays: true,
        patience_s: 10,
        unix_s: None,
        ports: None,
        players_sign: false,
    };
    Ok(smol::block_on(survey::survey(&target)))
}

/// The gateway signs in for players: who they are must be said.
fn who_may_watch(call: &Call) -> Result<String, Failure> {
    if !io::stdin().is_terminal() {
        return Err(call.wrong(
            "the gateway signs in for players, so say who may watch: --auth digest (users of \
             `edgeweir config user NAME`) or --auth none (everybody)",
        ));
    }
    let asked = "who may watch? digest: users of `edgeweir config user`; none: everybody [digest] ";
    loop {
        match terminal::line(asked)?.trim() {
            "" | "digest" => return Ok("digest".to_owned()),
            "none" => return Ok("none".to_owned()),
            "basic" => return Ok("basic".to_owned()),
            _ => {}
        }
    }
}

impl Wanted<'_> {
    /// The tables that are added to the configuration.
    fn text(&self) -> String {
        let Self { name, url, route, .. } = self;
        let mut text = format!("\n[[origin]]\nname = \"{name}\"\nurl = {url:?}\n");
        if self.user.is_some() {
            text.push_str(&format!("credentials = \"{name}\"\n"));
        }
        text.push_str(&format!("\n[[route]]\npath = {route:?}\norigins = [\"{name}\"]\n"));
        if let Some(auth) = &self.auth {
            text.push_str(&format!("auth = {auth:?}\n"));
        }
        if let Some(transport) = self.transport {
            text.push_str(&format!("origin_transport = \"{transport}\"\n"));
        }
        text
    }

    fn credential(&self) -> Option<Credential> {
        let user = self.user.clone()?;
        Some(Credential { user, password: self.password.clone().unwrap_or_default() })
    }
}

/// The secret goes first: a configuration that names it works from its first moment. When that is
/// refused, the secret goes again: nothing named it.
fn add_running(call: &Call, wanted: &Wanted<'_>, text: String) -> Result<(), Failure> {
    let client = call.client();
    let place = format!("/v1/secrets/credentials/{}", wanted.name);
    let credential = wanted.credential();
    if let Some(credential) = &credential {
        client.change(Method::PUT, &place, stored::json(credential)?)?;
    }
    match client.done(Method::PUT, "/v1/config", text) {
        Ok(done) => stored::checked(done.into()),
        Err(wrong) => {
            if credential.is_some() {
                client.change(Method::DELETE, &place, String::new())?;
            }
            Err(wrong.into())
        }
    }
}

fn add_offline(wanted: &Wanted<'_>, text: &str, flash: &Path) -> Result<(), Failure> {
    if let Some(Credential { user, password }) = wanted.credential() {
        offline::secret(flash, wanted.name, &format!("{user}:{password}")).map_err(stored::said)?;
    }
    stored::checked(offline::import_text(text, flash).map_err(stored::said)?)
}

/// Where players find the route, as far as the gateway knows.
fn place_to_play(call: &Call, route: &str) -> Option<String> {
    let status: Status = call.client().read("/v1/status").ok()?;
    let listen: SocketAddr = status.listen.first()?.parse().ok()?;
    let host = match listen.ip() {
        // Any of the machine's addresses; players may know another than we would name.
        ip if ip.is_unspecified() => "GATEWAY".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Some(format!("rtsp://{host}:{}{route}", listen.port()))
}
