//! The text form: TOML in, [`Config`] out, or the first thing wrong with it.
//!
//! An error names the line, the key, what was found and what is allowed, so that it can be
//! mended without the manual. Unknown keys are errors: a slip in a key must not silently mean the
//! default. Not in here: which values are allowed ([`super::rules`]), files (`cli`).
//!
//! ```
//! let config = edgeweir::config::text::parse(
//!     r#"
//!     [[origin]]
//!     name = "nvr"
//!     url = "rtsp://192.0.2.20"
//!     [[route]]
//!     path = "/live/*"
//!     origins = ["nvr"]
//!     "#,
//! )?;
//! assert_eq!(config.limits.sessions, 512);
//!
//! let error = edgeweir::config::text::parse("[limits]\nsessions = 0\n").unwrap_err();
//! assert_eq!(
//!     error.display("edgeweir.toml").to_string(),
//!     "edgeweir.toml:2: key `limits.sessions`: found 0, allowed 1 to 65535"
//! );
//! # Ok::<(), edgeweir::config::text::TextError>(())
//! ```

pub(super) mod plugins;

use core::fmt;

use heapless::String as Bounded;
use toml::de::DeTable;

use super::{
    Auth, Config, Endpoints, Gateway, HealthCheck, Limits, MethodGroup, Methods, Origin,
    OriginTransport, Plugins, Policy, PortRange, Redirect, Route, Strip,
    reader::{Item, Section, Source},
    rules,
};
use crate::limits::{CONFIG_TEXT_MAX_BYTES, ORIGINS_MAX, ROUTES_MAX};

/// Why a text is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not TOML, or a key that stands there twice.
    Syntax(String),
    /// More bytes than are read.
    TooLong(usize),
    /// A key that no release knows.
    Unknown {
        /// The key.
        key: String,
        /// The key that was probably meant.
        nearest: Option<&'static str>,
        /// The keys that may stand there.
        known: String,
    },
    /// A key that must be there and is not.
    Missing {
        /// The key.
        key: String,
    },
    /// A value that is not allowed.
    Broken(rules::Broken),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => f.write_str(message),
            Self::TooLong(found) => {
                write!(f, "found {found} bytes of text, allowed {CONFIG_TEXT_MAX_BYTES}")
            }
            Self::Unknown { key, nearest, known } => {
                write!(f, "key `{key}` is unknown, ")?;
                if let Some(nearest) = nearest {
                    write!(f, "probably `{nearest}` was meant, ")?;
                }
                write!(f, "known here: {known}")
            }
            Self::Missing { key } => write!(f, "key `{key}` is missing and has no default"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.fault)
    }
}

impl core::error::Error for TextError {}

impl TextError {
    /// The error with the name of the file in front, as compilers print it: `FILE:LINE: …`.
    pub fn display<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| write!(f, "{file}:{}: {}", self.line, self.fault))
    }
}

/// Reads a configuration.
///
/// # Errors
/// The first thing that is wrong. A text is taken whole or not at all.
pub fn parse(text: &str) -> Result<Config, TextError> {
    if text.len() > CONFIG_TEXT_MAX_BYTES {
        return Err(TextError { line: 1, fault: Fault::TooLong(text.len()) });
    }
    let source = Source::new(text);
    let table = DeTable::parse(text).map_err(|error| TextError {
        line: source.line(error.span().map_or(0, |span| span.start)),
        fault: Fault::Syntax(syntax(text, &error)),
    })?;
    let config = read(&Section::whole(&source, table.get_ref()))?;
    rules::check(&config).map_err(|broken| TextError {
        line: source.line_of(&broken.key),
        fault: Fault::Broken(broken),
    })?;
    Ok(config)
}

/// What is wrong with the TOML; of a key that stands there twice, which.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let key = error.span().and_then(|span| text.get(span)).filter(|key| key.len() <= 80);
    match key.filter(|_| message == "duplicate key") {
        Some(key) => format!("duplicate key `{}`: it stands above already", key.escape_debug()),
        None => message,
    }
}

fn read(whole: &Section<'_, '_>) -> Result<Config, TextError> {
    whole.only(&["gateway", "limits", "origin", "route", "plugin", "plugins"])?;
    let mut config = Config { plugins: plugins::plugins(whole)?, ..Config::default() };
    let plugins = &config.plugins;
    if let Some(section) = whole.section("gateway")? {
        config.gateway = gateway(&section, plugins)?;
    }
    if let Some(section) = whole.section("limits")? {
        config.limits = limits(&section)?;
    }
    // `sections` refuses more than fit, so nothing is lost here.
    config.origins = whole
        .sections("origin", ORIGINS_MAX)?
        .iter()
        .map(origin)
        .collect::<Result<_, TextError>>()?;
    config.routes = whole
        .sections("route", ROUTES_MAX)?
        .iter()
        .map(|section| route(section, plugins))
        .collect::<Result<_, TextError>>()?;
    Ok(config)
}

fn gateway(section: &Section<'_, '_>, plugins: &Plugins) -> Result<Gateway, TextError> {
    section.only(&[
        "listen",
        "media_ports",
        "advertise",
        "workers",
        "via",
        "control",
        "coalesce_us",
        "worker_policy",
    ])?;
    let mut gateway = Gateway::default();
    if let Some(item) = section.value("listen") {
        gateway.listen = item.list("a list of addresses, [\"0.0.0.0:8554\"]", |item| {
            item.parsed(SOCKET)?.ok_or_else(|| item.wrong(SOCKET))
        })?;
    }
    if let Some(item) = section.value("media_ports") {
        gateway.media_ports = media_ports(&item)?;
    }
    if let Some(item) = section.value("advertise") {
        gateway.advertise = item.parsed("an IP address, or \"\"")?;
    }
    if let Some(item) = section.value("workers") {
        gateway.workers = small(&item)?;
    }
    if let Some(item) = section.value("via") {
        gateway.via = item.bounded()?;
    }
    if let Some(item) = section.value("control") {
        gateway.control = item.parsed(SOCKET)?;
    }
    if let Some(item) = section.value("coalesce_us") {
        gateway.coalesce_us = item.number()?;
    }
    if let Some(item) = section.value("worker_policy") {
        gateway.worker_policy = plugins::optional(&item, plugins)?;
    }
    Ok(gateway)
}

const SOCKET: &str = "ADDRESS:PORT, as \"0.0.0.0:8554\" or \"[::]:8554\"";

fn media_ports(item: &Item<'_, '_>) -> Result<PortRange, TextError> {
    let wrong = || item.wrong(rules::MEDIA_PORTS);
    let (first, last) = item.str()?.split_once('-').ok_or_else(wrong)?;
    let port = |digits: &str| match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().map_err(|_| wrong()),
        false => Err(wrong()),
    };
    Ok(PortRange { first: port(first.trim())?, last: port(last.trim())? })
}

/// A number whose range lies within a byte.
fn small(item: &Item<'_, '_>) -> Result<u8, TextError> {
    item.number().map(|value| u8::try_from(value).unwrap_or(u8::MAX))
}

fn limits(section: &Section<'_, '_>) -> Result<Limits, TextError> {
    let mut limits = Limits::default();
    let numbers: [(&'static str, &mut u16); 11] = [
        ("sessions", &mut limits.sessions),
        ("sessions_per_client", &mut limits.sessions_per_client),
        ("connections_per_client", &mut limits.connections_per_client),
        ("tracks_per_client", &mut limits.tracks_per_client),
        ("half_open", &mut limits.half_open),
        ("head_timeout_s", &mut limits.head_timeout_s),
        ("idle_timeout_s", &mut limits.idle_timeout_s),
        ("answer_timeout_s", &mut limits.answer_timeout_s),
        ("silence_timeout_s", &mut limits.silence_timeout_s),
        ("media_queue_kib", &mut limits.media_queue_kib),
        ("media_queue_ms", &mut limits.media_queue_ms),
    ];
    let known: Vec<_> = numbers.iter().map(|(key, _)| *key).chain(["detached_sessions"]).collect();
    section.only(&known)?;
    for (key, place) in numbers {
        if let Some(item) = section.value(key) {
            *place = item.number()?;
        }
    }
    if let Some(item) = section.value("detached_sessions") {
        limits.detached_sessions = item.boolean()?;
    }
    Ok(limits)
}

fn origin(section: &Section<'_, '_>) -> Result<Origin, TextError> {
    let known =
        ["name", "url", "weight", "max_sessions", "credentials", "check", "check_interval_s"];
    section.only(&known)?;
    let mut origin = Origin {
        name: section.required("name")?.bounded()?,
        url: section.required("url")?.bounded()?,
        ..Origin::default()
    };
    if let Some(item) = section.value("weight") {
        origin.weight = small(&item)?;
    }
    if let Some(item) = section.value("max_sessions") {
        origin.max_sessions = item.number()?;
    }
    if let Some(item) = section.value("credentials") {
        origin.credentials = Some(item.bounded()?).filter(|name| !name.is_empty());
    }
    if let Some(item) = section.value("check") {
        origin.check = health_check(&item)?;
    }
    if let Some(item) = section.value("check_interval_s") {
        origin.check_interval_s = item.number()?;
    }
    Ok(origin)
}

fn health_check(item: &Item<'_, '_>) -> Result<HealthCheck, TextError> {
    match item.str()? {
        "off" => Ok(HealthCheck::Off),
        "options" => Ok(HealthCheck::Options),
        text => {
            let path = text.strip_prefix("describe ").ok_or_else(|| item.wrong(rules::CHECK))?;
            let path = Bounded::try_from(path.trim_start_matches(' '))
                .map_err(|_| item.wrong("a path of at most 128 bytes after `describe`"))?;
            Ok(HealthCheck::Describe(path))
        }
    }
}

/// Words of the text for [`Policy`].
pub(super) const POLICIES: [(&str, Policy); 7] = [
    ("round-robin", Policy::RoundRobin),
    ("least-sessions", Policy::LeastSessions),
    ("least-traffic", Policy::LeastTraffic),
    ("hash-client", Policy::HashClient),
    ("hash-path", Policy::HashPath),
    ("first", Policy::First),
    ("random", Policy::Random),
];
/// Words of the text for [`Auth`].
pub(super) const AUTHS: [(&str, Auth); 4] =
    [("pass", Auth::Pass), ("none", Auth::None), ("digest", Auth::Digest), ("basic", Auth::Basic)];
/// Words of the text for [`OriginTransport`].
pub(super) const TRANSPORTS: [(&str, OriginTransport); 3] =
    [("same", OriginTransport::Same), ("udp", OriginTransport::Udp), ("tcp", OriginTransport::Tcp)];
/// Words of the text for [`Redirect`].
pub(super) const REDIRECTS: [(&str, Redirect); 3] =
    [("pass", Redirect::Pass), ("refuse", Redirect::Refuse), ("follow", Redirect::Follow)];
/// Words of the text for [`Endpoints`].
pub(super) const ENDPOINTS: [(&str, Endpoints); 2] =
    [("learn", Endpoints::Learn), ("strict", Endpoints::Strict)];
/// Words of the text for [`Methods`].
pub(super) const METHODS: [(&str, MethodGroup); 4] = [
    ("play", MethodGroup::Play),
    ("publish", MethodGroup::Publish),
    ("parameters", MethodGroup::Parameters),
    ("other", MethodGroup::Other),
];

fn route(section: &Section<'_, '_>, plugins: &Plugins) -> Result<Route, TextError> {
    section.only(&[
        "path",
        "origins",
        "policy",
        "auth",
        "origin_transport",
        "redirect",
        "endpoints",
        "methods",
        "strip",
        "filters",
    ])?;
    let mut route = Route {
        path: section.required("path")?.bounded()?,
        origins: section
            .required("origins")?
            .list("a list of names, [\"nvr-a\", \"nvr-b\"]", |item| item.bounded())?,
        ..Route::default()
    };
    if let Some(item) = section.value("policy") {
        route.policy = plugins::choice(&item, &POLICIES, Policy::Plugin, plugins)?;
    }
    if let Some(item) = section.value("auth") {
        route.auth = plugins::choice(&item, &AUTHS, Auth::Plugin, plugins)?;
    }
    if let Some(item) = section.value("origin_transport") {
        route.origin_transport = item.choice(&TRANSPORTS)?;
    }
    if let Some(item) = section.value("redirect") {
        route.redirect = item.choice(&REDIRECTS)?;
    }
    if let Some(item) = section.value("endpoints") {
        route.endpoints = item.choice(&ENDPOINTS)?;
    }
    if let Some(item) = section.value("methods") {
        route.methods = methods(&item)?;
    }
    if let Some(item) = section.value("strip") {
        route.strip = strip(&item)?;
    }
    if let Some(item) = section.value("filters") {
        route.filters = plugins::list(&item, plugins)?;
    }
    Ok(route)
}

fn strip(item: &Item<'_, '_>) -> Result<Strip, TextError> {
    match (item.boolean(), item.str()) {
        (Ok(true), _) => Ok(Strip::Yes),
        (Ok(false), _) => Ok(Strip::No),
        (_, Ok("auto")) => Ok(Strip::Auto),
        _ => Err(item.wrong("true, false or \"auto\"")),
    }
}

fn methods(item: &Item<'_, '_>) -> Result<Methods, TextError> {
    let groups: heapless::Vec<MethodGroup, { MethodGroup::ALL.len() }> =
        item.list("a list of words, [\"play\"]", |item| item.choice(&METHODS))?;
    Ok(groups.into_iter().collect())
}

#[cfg(test)]
mod tests;
