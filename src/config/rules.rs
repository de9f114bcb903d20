//! Which values are allowed, for every way in: text, stored image, control API.
//!
//! Not in here: types and lengths, which the schema's types hold already.

use core::{fmt, ops::RangeInclusive};

use super::{Auth, Config, Gateway, HealthCheck, Limits, Origin, Route, image};
use crate::limits::{COALESCE_US_MAX, PLUGIN_KIB_MAX, WORKERS_MAX};

mod plugins;

pub(super) use self::plugins::{JSON_DEPTH, TRUSTED_KEY, known_slots};

/// A value that is not allowed. The key is spelled as in the text: `origin[0].weight`, counted
/// from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The key.
    pub key: String,
    /// What stands there, as text.
    pub found: String,
    /// What may stand there.
    pub allowed: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key `{}`: found {}, allowed {}", self.key, self.found, self.allowed)
    }
}

impl core::error::Error for Broken {}

fn broken(key: &str, found: impl fmt::Display, allowed: impl fmt::Display) -> Broken {
    Broken { key: key.to_owned(), found: found.to_string(), allowed: allowed.to_string() }
}

/// Lowest and highest value of a number, by the last part of its key. Durations are in the unit
/// that the key ends in.
pub(super) fn range(key: &str) -> RangeInclusive<u16> {
    match key {
        "workers" => 0..=WORKERS_MAX as u16,
        "coalesce_us" => 0..=COALESCE_US_MAX,
        "max_kib" => 1..=PLUGIN_KIB_MAX,
        "half_open" => 1..=4096,
        "head_timeout_s" => 1..=300,
        // Below 5 s a player that sends RTCP every 5 s would be cut off.
        "idle_timeout_s" => 5..=3600,
        "answer_timeout_s" => 1..=60,
        "silence_timeout_s" => 0..=600,
        // The largest frame is 64 KiB, and one must fit behind another.
        "media_queue_kib" => 128..=16_384,
        "media_queue_ms" => 100..=30_000,
        "weight" => 1..=100,
        "max_sessions" => 0..=u16::MAX,
        "check_interval_s" => 1..=3600,
        _ => 1..=u16::MAX, // sessions, and what one client may have
    }
}

/// The words for a range.
pub(super) fn words(range: &RangeInclusive<u16>) -> String {
    format!("{} to {}", range.start(), range.end())
}

/// Whether this configuration may run.
///
/// # Errors
/// The first value that is not allowed, gateway first, then limits, plugins, origins, routes, and
/// last that all together is too much.
pub fn check(config: &Config) -> Result<(), Broken> {
    check_gateway(&config.gateway)?;
    check_limits(&config.limits)?;
    plugins::check(&config.plugins)?;
    if let Some(slot) = config.gateway.worker_policy {
        plugins::known("gateway.worker_policy", slot, &config.plugins)?;
    }
    for (at, origin) in config.origins.iter().enumerate() {
        check_origin(at, origin)?;
        let key = format!("origin[{at}].name");
        if let Some(first) =
            config.origins.iter().take(at).position(|other| other.name == origin.name)
        {
            let found = quoted(&origin.name);
            return Err(broken(&key, found, format!("a name that origin[{first}] has not taken")));
        }
    }
    for (at, route) in config.routes.iter().enumerate() {
        check_route(at, route, config)?;
        let key = format!("route[{at}].path");
        if let Some(first) =
            config.routes.iter().take(at).position(|other| other.path == route.path)
        {
            let found = quoted(&route.path);
            return Err(broken(&key, found, format!("a path that route[{first}] has not taken")));
        }
    }
    let bytes = image::bytes(config);
    if bytes > image::IMAGE_MAX {
        let allowed = format!(
            "at most {} for all origins, routes and plugins together: shorten names, URLs and paths",
            image::IMAGE_MAX
        );
        return Err(broken("origin", format!("{bytes} bytes of configuration on flash"), allowed));
    }
    Ok(())
}

fn check_gateway(gateway: &Gateway) -> Result<(), Broken> {
    if gateway.listen.is_empty() {
        return Err(broken("gateway.listen", "no address", "1 to 4 of them"));
    }
    for (at, address) in gateway.listen.iter().enumerate() {
        // Port 0 asks the system for a free one: two of them do not clash.
        if address.port() != 0 && gateway.listen.iter().take(at).any(|other| other == address) {
            let key = format!("gateway.listen[{at}]");
            return Err(broken(&key, quoted(address), "each address once"));
        }
    }
    let ports = gateway.media_ports;
    if ports.first < 1024
        || !ports.first.is_multiple_of(2)
        || ports.last.is_multiple_of(2)
        || ports.last < ports.first
    {
        return Err(broken(
            "gateway.media_ports",
            format!("\"{}-{}\"", ports.first, ports.last),
            MEDIA_PORTS,
        ));
    }
    if let Some(address) = gateway.advertise
        && (address.is_unspecified() || address.is_multicast())
    {
        let allowed = "the address of one host, or \"\" for that of the player's connection";
        return Err(broken("gateway.advertise", quoted(address), allowed));
    }
    number("gateway.workers", u16::from(gateway.workers))?;
    number("gateway.coalesce_us", gateway.coalesce_us)?;
    if !gateway.via.is_empty() {
        name("gateway.via", &gateway.via)?;
    }
    if let Some(control) = gateway.control
        && control.port() != 0
        && gateway.listen.contains(&control)
    {
        let allowed = "an address that is not in gateway.listen";
        return Err(broken("gateway.control", quoted(control), allowed));
    }
    Ok(())
}

/// What `media_ports` may be.
pub(super) const MEDIA_PORTS: &str = "\"FIRST-LAST\" with FIRST even and at least 1024, LAST odd and above FIRST, as \"20000-23999\"";

fn check_limits(limits: &Limits) -> Result<(), Broken> {
    number("limits.sessions", limits.sessions)?;
    number("limits.sessions_per_client", limits.sessions_per_client)?;
    number("limits.connections_per_client", limits.connections_per_client)?;
    number("limits.tracks_per_client", limits.tracks_per_client)?;
    number("limits.half_open", limits.half_open)?;
    number("limits.head_timeout_s", limits.head_timeout_s)?;
    number("limits.idle_timeout_s", limits.idle_timeout_s)?;
    number("limits.answer_timeout_s", limits.answer_timeout_s)?;
    number("limits.silence_timeout_s", limits.silence_timeout_s)?;
    number("limits.media_queue_kib", limits.media_queue_kib)?;
    number("limits.media_queue_ms", limits.media_queue_ms)
}

fn check_origin(at: usize, origin: &Origin) -> Result<(), Broken> {
    let key = |leaf: &str| format!("origin[{at}].{leaf}");
    name(&key("name"), &origin.name)?;
    url(&key("url"), &origin.url)?;
    number(&key("weight"), u16::from(origin.weight))?;
    number(&key("max_sessions"), origin.max_sessions)?;
    if let Some(credentials) = &origin.credentials {
        name(&key("credentials"), credentials)?;
    }
    if let HealthCheck::Describe(path) = &origin.check
        && (!path.starts_with('/') || !visible(path))
    {
        return Err(broken(&key("check"), quoted(format_args!("describe {path}")), CHECK));
    }
    number(&key("check_interval_s"), origin.check_interval_s)
}

/// What `check` may be.
pub(super) const CHECK: &str = "\"off\", \"options\" or \"describe /PATH\"";

fn check_route(at: usize, route: &Route, config: &Config) -> Result<(), Broken> {
    let key = format!("route[{at}].path");
    path(&key, &route.path)?;
    if route.origins.is_empty() {
        let allowed = "1 to 8 names of origins";
        return Err(broken(&format!("route[{at}].origins"), "none", allowed));
    }
    for (place, wanted) in route.origins.iter().enumerate() {
        let key = format!("route[{at}].origins[{place}]");
        if !config.origins.iter().any(|origin| origin.name == *wanted) {
            return Err(broken(&key, quoted(wanted), known_origins(config)));
        }
        if route.origins.iter().take(place).any(|other| other == wanted) {
            return Err(broken(&key, quoted(wanted), "each origin once"));
        }
    }
    if !route.methods.is_known() {
        let allowed = "one or more of \"play\", \"publish\", \"parameters\", \"other\"";
        return Err(broken(&format!("route[{at}].methods"), "none of them", allowed));
    }
    if let Some(origin) = opened(route, &config.origins) {
        let found = format!("\"pass\" beside the credentials of origin {}", quoted(&origin.name));
        return Err(broken(&format!("route[{at}].auth"), found, NOT_PASS));
    }
    plugins::check_route(at, route, &config.plugins)
}

/// What `auth` may be where the gateway signs toward the origin.
const NOT_PASS: &str = "\"digest\" (players that `edgeweir config user NAME` knows), \"basic\", \
     \"plugin:SLOT\", or \"none\" where everybody may watch, since the gateway signs in for them";

/// The origin of a route that its players would get to unasked: the gateway signs for them, and the
/// origin that was to ask them never does.
pub(super) fn opened<'a>(route: &Route, origins: &'a [Origin]) -> Option<&'a Origin> {
    let signed =
        |origin: &&Origin| origin.credentials.is_some() && route.origins.contains(&origin.name);
    origins.iter().find(signed).filter(|_| route.auth == Auth::Pass)
}

fn known_origins(config: &Config) -> String {
    if config.origins.is_empty() {
        return "the name of an [[origin]], and there is none".to_owned();
    }
    let names: Vec<_> = config.origins.iter().map(|origin| quoted(&origin.name)).collect();
    format!("the name of an [[origin]]: {}", names.join(", "))
}

fn number(key: &str, value: u16) -> Result<(), Broken> {
    let leaf = key.rsplit('.').next().unwrap_or(key);
    let range = range(leaf);
    if range.contains(&value) {
        return Ok(());
    }
    Err(broken(key, value, words(&range)))
}

/// Names stand in logs, headers and URLs of the control API: no character that any of them
/// would quote.
pub(crate) fn name(key: &str, name: &str) -> Result<(), Broken> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if !name.is_empty() && name.bytes().all(plain) {
        return Ok(());
    }
    let allowed = "1 to 32 of the characters A-Z a-z 0-9 . _ -";
    Err(broken(key, quoted(name), allowed))
}

fn url(key: &str, url: &str) -> Result<(), Broken> {
    // What stands before an `@` may be a password, wherever the `@` stands.
    let shown = if url.contains('@') { "a URL with an `@`".to_owned() } else { quoted(url) };
    let wrong = |allowed: &str| Err(broken(key, &shown, allowed));
    const FORM: &str = "rtsp://HOST[:PORT][/PATH[?QUERY]]";
    let scheme = url.get(..7).unwrap_or_default();
    if url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rtsps://")) {
        return wrong("rtsp:// only: RTSP over TLS is not there yet");
    }
    let Some(rest) = url.get(7..).filter(|_| scheme.eq_ignore_ascii_case("rtsp://")) else {
        return wrong(FORM);
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.contains('@') {
        // The password must not appear in the message.
        let allowed = "no user and password; store them with `edgeweir config secret NAME` and \
                       name them in `credentials`";
        return Err(broken(key, "a URL with user information", allowed));
    }
    if !visible(url) || url.contains(['#', '"', '<', '>', '\\']) {
        return wrong("rtsp://HOST[:PORT][/PATH[?QUERY]] without spaces and fragment");
    }
    if rest.get(authority.len()..).is_some_and(|after| after.starts_with('?')) {
        return wrong("a `/` between the host and the query");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let Some((host, port)) = bracketed.split_once(']') else { return wrong(FORM) };
            let (addr, zone) = host.split_once('%').unwrap_or((host, "-"));
            let good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
            let interface = !zone.is_empty() && zone.len() <= 17 && zone.chars().all(good);
            match addr.parse::<core::net::Ipv6Addr>() {
                Ok(addr) if interface && (addr.is_unicast_link_local() || !host.contains('%')) => {}
                _ => {
                    return wrong(
                        "an IPv6 address between the brackets, with %INTERFACE if it is link-local",
                    );
                }
            }
            (host, port)
        }
        None => match authority.find(':') {
            Some(colon) => authority.split_at(colon),
            None => (authority, ""),
        },
    };
    if host.is_empty() {
        return wrong(FORM);
    }
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit())
                && digits.parse::<u16>().is_ok_and(|port| port != 0)
        }
        None => port.is_empty(),
    };
    if port_is_good { Ok(()) } else { wrong("a port of 1 to 65535 after the host") }
}

fn path(key: &str, path: &str) -> Result<(), Broken> {
    let wrong = |allowed: &str| Err(broken(key, quoted(path), allowed));
    let Some(rest) = path.strip_prefix('/') else {
        return wrong("a path that starts with `/`");
    };
    let odd = |letter: char| letter.is_whitespace() || letter.is_control();
    if path.contains(odd) || path.contains(['?', '#']) {
        return wrong("a path without spaces, query and fragment");
    }
    let mut segments = rest.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "*" => {}
            "**" if segments.peek().is_none() => {}
            "**" => return wrong("`**` as the last segment only"),
            _ if segment.contains('*') => return wrong("`*` and `**` as whole segments only"),
            _ => {}
        }
    }
    Ok(())
}

/// ASCII that is neither space nor control: what a request line can carry.
fn visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Something in double quotes, for a message: control characters and quotes escaped.
pub(super) fn quoted(value: impl fmt::Display) -> String {
    format!("{:?}", value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PortRange;

    fn key_of(config: &Config) -> Option<String> {
        check(config).err().map(|broken| broken.key)
    }

    #[test]
    fn numbers_are_refused_one_past_either_end() {
        for (value, good) in [(0, false), (1, true), (100, true), (101, false)] {
            let mut origin = Origin { weight: value, ..Origin::default() };
            origin.name.push('a').unwrap();
            origin.url.push_str("rtsp://h").unwrap();
            let mut config = Config::default();
            config.origins.push(origin).unwrap();
            assert_eq!(check(&config).is_ok(), good, "{value}");
        }
        for (value, good) in [(16, true), (17, false)] {
            let mut config = Config::default();
            config.gateway.workers = value;
            assert_eq!(check(&config).is_ok(), good, "{value}");
        }
        for key in ["head_timeout_s", "idle_timeout_s", "media_queue_ms", "check_interval_s"] {
            assert!(*range(key).start() > 0 && *range(key).end() < u16::MAX, "{key}");
        }
    }

    #[test]
    fn media_ports_are_whole_pairs_above_the_privileged_ones() {
        let cases = [
            (1024, 1025, true),
            (1022, 1025, false),
            (1024, 1024, false),
            (1025, 1027, false),
            (20_000, 24_000, false),
            (20_002, 20_001, false),
            (1024, 65_535, true),
        ];
        for (first, last, good) in cases {
            let mut config = Config::default();
            config.gateway.media_ports = PortRange { first, last };
            assert_eq!(key_of(&config).is_none(), good, "{first}-{last}");
        }
    }

    #[test]
    fn urls_of_origins_name_a_host_and_nothing_secret() {
        let good = [
            "rtsp://h",
            "RTSP://h:1/a/b%20c$&x",
            "rtsp://[::1]:554/",
            "rtsp://[fe80::1%eth0]/",
            "rtsp://[fe80::1%25eth0.7]:554/",
            "rtsp://192.0.2.1/",
            "rtsp://192.0.2.1/cam/realmonitor?channel=1&subtype=0",
            "rtsp://h/?mail=a@b/c?",
        ];
        for text in good {
            assert_eq!(url("k", text), Ok(()), "{text}");
        }
        let bad = [
            "",
            "rtsp:",
            "rtsp://",
            "rtsp:///a",
            "http://h",
            "rtsps://h",
            "rtsp://h:0",
            "rtsp://h:65536",
            "rtsp://h:+1",
            "rtsp://h:",
            "rtsp://u:p@h",
            "rtsp://[::1",
            "rtsp://[fe80::1%]",
            "rtsp://[fe80::1%a/b]",
            "rtsp://[2001:db8::1%eth0]",
            "rtsp://[x]",
            "rtsp://h/a b",
            "rtsp://h?q",
            "rtsp://h:554?q",
            "rtsp://h#f",
            "rtsp://[::1]x",
            "rtsp://é",
        ];
        for text in bad {
            assert!(url("k", text).is_err(), "{text}");
        }
        let told = url("k", "rtsp://admin:hunter2@h").unwrap_err().to_string();
        assert!(told.contains("config secret") && !told.contains("hunter2"), "{told}");
        // A password with a slash ends the authority early; it is not shown all the same.
        let told = url("k", "rtsp://admin:hun/ter2@h").unwrap_err().to_string();
        assert!(!told.contains("hun"), "{told}");
        let told = url("k", "rtsps://h/a").unwrap_err().to_string();
        assert!(told.ends_with("RTSP over TLS is not there yet"), "{told}");
    }

    #[test]
    fn wildcards_are_whole_segments_and_the_rest_comes_last() {
        for text in ["/", "/a", "/*", "/**", "/a/*/b", "/*/**", "/a//b", "/a/"] {
            assert_eq!(path("k", text), Ok(()), "{text}");
        }
        for text in ["", "a", "*", "/a*", "/***", "/**/a", "/**/", "/a b", "/a?q", "/\u{1}"] {
            assert!(path("k", text).is_err(), "{text}");
        }
    }
}
