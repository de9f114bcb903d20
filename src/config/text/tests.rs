//! Behaviour of the text form.

use super::*;
use crate::config::EXAMPLE;

const ORIGIN: &str = "[[origin]]\nname = \"a\"\nurl = \"rtsp://h\"\n";

/// The message for a text, with a file name in front.
fn told(text: &str) -> String {
    match parse(text) {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.display("f").to_string(),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(told(text), expected, "\n{text}");
}

#[test]
fn an_empty_text_is_the_default_configuration() {
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn the_example_parses_and_shows_every_default() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.gateway, Gateway::default());
    assert_eq!(config.limits, Limits::default());
    let first = config.origins.first().unwrap();
    assert_eq!(
        *first,
        Origin { name: first.name.clone(), url: first.url.clone(), ..Origin::default() }
    );
    let route = config.routes.first().unwrap();
    assert_eq!(
        *route,
        Route { path: route.path.clone(), origins: route.origins.clone(), ..Route::default() }
    );
    // Every key once, so that the example cannot fall behind the schema.
    let keys = EXAMPLE.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
    assert_eq!(keys.count(), 6 + 10 + 7 + 2 + 7);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        route = [{ path = "/a/**", origins = ["x"], policy = "first", auth = "digest",
                   origin_transport = "tcp", redirect = "pass", endpoints = "strict" }]
        [gateway]
        listen = ["[::1]:0", "127.0.0.1:0"]
        media_ports = "30000 - 30001"
        advertise = "2001:db8::1"
        workers = 0x10
        via = ""
        control = "127.0.0.1:9000"
        [limits]
        sessions = 1
        media_queue_kib = 16_384
        detached_sessions = true
        [[origin]]
        name = "x"
        url = "rtsp://[2001:db8::2]/s"
        weight = 100
        max_sessions = 65535
        credentials = "cam"
        check = "describe /s"
        check_interval_s = 3600
        "#,
    )
    .unwrap();
    assert_eq!(config.gateway.workers, 16);
    assert_eq!(config.gateway.media_ports, PortRange { first: 30_000, last: 30_001 });
    assert!(config.gateway.via.is_empty() && config.gateway.control.is_some());
    let origin = config.origins.first().unwrap();
    assert_eq!(origin.check, HealthCheck::Describe("/s".try_into().unwrap()));
    assert_eq!(origin.credentials.as_deref(), Some("cam"));
    let route = config.routes.first().unwrap();
    assert_eq!((route.policy, route.auth), (Policy::First, Auth::Digest));
    assert_eq!(route.endpoints, Endpoints::Strict);
}

#[test]
fn errors_name_line_key_what_was_found_and_what_is_allowed() {
    check("[limits]\n\nsessions = 0", "f:3: key `limits.sessions`: found 0, allowed 1 to 65535");
    check(
        "[limits]\nsessions = 65536",
        "f:2: key `limits.sessions`: found 65536, allowed 1 to 65535",
    );
    check(
        "[limits]\nsessions = \"5\"",
        "f:2: key `limits.sessions`: found \"5\", allowed 1 to 65535",
    );
    check(&format!("{ORIGIN}weight = 0"), "f:4: key `origin[0].weight`: found 0, allowed 1 to 100");
    check(
        &format!("{ORIGIN}{ORIGIN}"),
        "f:5: key `origin[1].name`: found \"a\", allowed a name that origin[0] has not taken",
    );
    check("gateway = 3", "f:1: key `gateway`: found 3, allowed a table, [gateway]");
    check("origin = 3", "f:1: key `origin`: found 3, allowed tables, [[origin]]");
    check("origin = [3]", "f:1: key `origin[0]`: found 3, allowed tables, [[origin]]");
}

#[test]
fn unknown_keys_are_named_with_the_known_ones() {
    check(
        &format!("{ORIGIN}wieght = 2"),
        "f:4: key `origin[0].wieght` is unknown, probably `weight` was meant, known here: \
         name, url, weight, max_sessions, credentials, check, check_interval_s",
    );
    check(
        "\nsessions = 4\ncolour = 1",
        "f:2: key `sessions` is unknown, known here: gateway, limits, origin, route",
    );
}

#[test]
fn missing_keys_are_named_at_their_table() {
    check("\n[[origin]]\nname = \"a\"", "f:2: key `origin[0].url` is missing and has no default");
}

#[test]
fn keys_that_stand_there_twice_and_bad_syntax_are_refused_with_their_line() {
    check("[limits]\nsessions = 1\nsessions = 2", "f:3: duplicate key");
    assert!(told("[limits]\nsessions = ").starts_with("f:2: "));
    assert!(told("[[origin").starts_with("f:1: "));
    // Tables in tables until the parser's own bound.
    assert!(told(&format!("a = {}", "[".repeat(10_000))).starts_with("f:1: "));
    assert!(told(&"a.".repeat(5000)).starts_with("f:1: "));
}

#[test]
fn a_route_must_lead_to_origins_that_exist() {
    check(
        &format!("{ORIGIN}[[route]]\npath = \"/\"\norigins = [\n\"a\",\n\"b\"]"),
        "f:8: key `route[0].origins[1]`: found \"b\", allowed the name of an [[origin]]: \"a\"",
    );
    check(
        "[[route]]\npath = \"/\"\norigins = []",
        "f:3: key `route[0].origins`: found none, allowed 1 to 8 names of origins",
    );
    let route = "[[route]]\npath = \"/x\"\norigins = [\"a\"]\n";
    check(
        &format!("{ORIGIN}{route}{route}"),
        "f:8: key `route[1].path`: found \"/x\", allowed a path that route[0] has not taken",
    );
}

#[test]
fn media_ports_are_checked_as_text_and_as_range() {
    for bad in [
        "",
        "20000",
        "20000-",
        "a-b",
        "20001-20003",
        "20000-20000",
        "80-81",
        "+20000-20001",
        "20000-99999",
        "23999-20000",
    ] {
        let text = format!("[gateway]\nmedia_ports = \"{bad}\"");
        assert!(told(&text).starts_with("f:2: key `gateway.media_ports`: found "), "{bad}");
    }
}

#[test]
fn user_information_in_an_url_points_to_config_secret_and_is_not_repeated() {
    let text = "[[origin]]\nname = \"a\"\nurl = \"rtsp://root:s3cret@h\"";
    let told = told(text);
    assert!(told.starts_with("f:3: key `origin[0].url`") && told.contains("config secret"));
    assert!(!told.contains("s3cret"), "{told}");
    let long =
        format!("[[origin]]\nname = \"a\"\nurl = \"rtsp://root:s3cret@{}\"", "h".repeat(300));
    let told = self::told(&long);
    assert!(told.contains("found 319 bytes, allowed at most 256 bytes"), "{told}");
}

#[test]
fn plugins_are_refused_as_something_of_a_later_release() {
    let route = format!("{ORIGIN}[[route]]\npath = \"/\"\norigins = [\"a\"]\n");
    let cases = [
        (format!("{route}policy = \"plugin:balancer\""), "f:7: key `route[0].policy`"),
        (format!("{route}auth = \"plugin:gate\""), "f:7: key `route[0].auth`"),
        (format!("{route}filters = [\"redact\"]"), "f:7: key `route[0].filters`"),
        (format!("{route}[[plugin]]\nslot = \"x\""), "f:7: key `plugin`"),
    ];
    for (text, start) in cases {
        let told = told(&text);
        assert!(told.starts_with(start) && told.contains("no plugins"), "{told}");
    }
}

#[test]
fn lists_and_strings_are_taken_to_their_bound_and_refused_past_it() {
    let listen = |n: u16| {
        let list: Vec<_> = (1..=n).map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        told(&format!("[gateway]\nlisten = [{}]", list.join(",")))
    };
    assert_eq!(listen(4), "accepted");
    assert_eq!(listen(5), "f:2: key `gateway.listen[4]`: found 5 of them, allowed at most 4");
    let origins = |n: usize| {
        let all: String = (0..n)
            .map(|at| format!("[[origin]]\nname = \"n{at}\"\nurl = \"rtsp://h\"\n"))
            .collect();
        told(&all)
    };
    assert_eq!(origins(ORIGINS_MAX), "accepted");
    assert_eq!(
        origins(ORIGINS_MAX + 1),
        "f:97: key `origin[32]`: found 33 of them, allowed at most 32"
    );
    let named =
        |n: usize| told(&format!("[[origin]]\nurl = \"rtsp://h\"\nname = \"{}\"", "n".repeat(n)));
    assert_eq!(named(32), "accepted");
    assert_eq!(named(33), "f:3: key `origin[0].name`: found 33 bytes, allowed at most 32 bytes");
    let padded = |n: usize| told(&" ".repeat(n));
    assert_eq!(padded(CONFIG_TEXT_MAX_BYTES), "accepted");
    assert_eq!(
        padded(CONFIG_TEXT_MAX_BYTES + 1),
        "f:1: found 262145 bytes of text, allowed 262144"
    );
}

#[test]
fn health_checks_are_words_or_a_path() {
    for (word, good) in [
        ("off", true),
        ("options", true),
        ("describe /a", true),
        ("describe", false),
        ("describe a", false),
        ("describe /a b", false),
        ("ping", false),
        ("", false),
    ] {
        let told = told(&format!("{ORIGIN}check = \"{word}\""));
        assert_eq!(told == "accepted", good, "{word}: {told}");
    }
}

#[test]
fn no_text_panics() {
    // The example with a byte taken out, and cut there, at every fifth place.
    for at in (0..EXAMPLE.len()).step_by(5).filter(|at| EXAMPLE.is_char_boundary(*at)) {
        let (start, rest) = EXAMPLE.split_at(at);
        let _ = parse(start);
        let mut chars = rest.chars();
        chars.next();
        let _ = parse(&format!("{start}{}", chars.as_str()));
    }
}
