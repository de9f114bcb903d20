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
    let plugins = Plugins {
        slots: config.plugins.slots.clone(),
        configs: config.plugins.configs.clone(),
        ..Plugins::default()
    };
    assert_eq!(config.plugins, plugins);
    assert_eq!(
        config.plugins.slots.first().map(|plugin| plugin.on_fault),
        Some(Default::default())
    );
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
    assert_eq!(keys.count(), 8 + 12 + 7 + 2 + 3 + 3 + 10);
}

#[test]
fn every_key_is_read() {
    let config = parse(
        r#"
        route = [{ path = "/a/**", origins = ["x"], policy = "first", auth = "digest",
                   origin_transport = "tcp", redirect = "pass", endpoints = "strict",
                   methods = ["parameters", "play"], strip = true }]
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
    assert_eq!((route.endpoints, route.strip), (Endpoints::Strict, Strip::Yes));
    assert!(route.methods.groups().eq([MethodGroup::Play, MethodGroup::Parameters]));
}

#[test]
fn methods_are_words_and_at_least_one() {
    let with = |methods: &str| {
        format!("{ORIGIN}[[route]]\npath = \"/x\"\norigins = [\"a\"]\nmethods = {methods}")
    };
    let words = "\"play\", \"publish\", \"parameters\", \"other\"";
    check(
        &with("[]"),
        &format!("f:7: key `route[0].methods`: found none of them, allowed one or more of {words}"),
    );
    check(
        &with("[\"watch\"]"),
        &format!("f:7: key `route[0].methods[0]`: found \"watch\", allowed {words}"),
    );
    check(
        &with("[\"play\", \"play\", \"play\", \"play\", \"play\"]"),
        "f:7: key `route[0].methods[4]`: found 5 of them, allowed at most 4",
    );
    let all = with("[\"play\", \"publish\", \"parameters\", \"other\"]");
    assert_eq!(parse(&all).unwrap().routes[0].methods, Methods::ALL);
}

#[test]
fn the_prefix_is_taken_off_kept_or_as_the_origin_says() {
    let with = |strip: &str| {
        format!("{ORIGIN}[[route]]\npath = \"/x\"\norigins = [\"a\"]\nstrip = {strip}")
    };
    for (text, strip) in [("true", Strip::Yes), ("false", Strip::No), ("\"auto\"", Strip::Auto)] {
        assert_eq!(parse(&with(text)).unwrap().routes[0].strip, strip);
    }
    let wrong = "f:7: key `route[0].strip`: found \"yes\", allowed true, false or \"auto\"";
    check(&with("\"yes\""), wrong);
}

#[test]
fn credentials_do_not_open_a_camera_to_whoever_plays_it() {
    let with = |auth: &str| {
        format!(
            "{ORIGIN}credentials = \"cam\"\n[[origin]]\nname = \"b\"\nurl = \"rtsp://h\"\n\
             [[route]]\npath = \"/x\"\norigins = [\"b\", \"a\"]\n{auth}"
        )
    };
    for (auth, line) in [("", 8), ("auth = \"pass\"", 11)] {
        check(
            &with(auth),
            &format!(
                "f:{line}: key `route[0].auth`: found \"pass\" beside the credentials of origin \"a\", \
                 allowed \"digest\" (players that `edgeweir config user NAME` knows), \"basic\", \
                 \"plugin:SLOT\", or \"none\" where everybody may watch, since the gateway signs in \
                 for them"
            ),
        );
    }
    for auth in ["none", "digest", "basic"] {
        assert_eq!(told(&with(&format!("auth = \"{auth}\""))), "accepted");
    }
    assert_eq!(told(&with("").replace("\"b\", \"a\"", "\"b\"")), "accepted");
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
        "f:2: key `sessions` is unknown, known here: gateway, limits, origin, \
         route, plugin, plugins",
    );
}

#[test]
fn missing_keys_are_named_at_their_table() {
    check("\n[[origin]]\nname = \"a\"", "f:2: key `origin[0].url` is missing and has no default");
}

#[test]
fn keys_that_stand_there_twice_and_bad_syntax_are_refused_with_their_line() {
    let twice = "f:3: duplicate key `sessions`: it stands above already";
    check("[limits]\nsessions = 1\nsessions = 2", twice);
    check("[limits]\n\n[limits]", "f:3: duplicate key `limits`: it stands above already");
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
fn slots_are_known_by_name_wherever_they_are_named() {
    let base = "[gateway]\nworker_policy = \"plugin:b\"\n[[plugin]]\nslot = \"a\"\n\
                [[plugin]]\nslot = \"b\"\non_fault = \"pass\"\n";
    let route = "[[route]]\npath = \"/\"\norigins = [\"a\"]\npolicy = \"plugin:a\"\n\
                 auth = \"plugin:b\"\nfilters = [\"b\", \"a\"]\n";
    let text = format!("{base}{ORIGIN}{route}");
    let config = parse(&text).unwrap();
    let (a, b) = (config.plugins.find("a").unwrap(), config.plugins.find("b").unwrap());
    let found = config.routes.first().unwrap();
    assert_eq!((found.policy, found.auth), (Policy::Plugin(a), Auth::Plugin(b)));
    assert_eq!((&found.filters[..], config.gateway.worker_policy), (&[b, a][..], Some(b)));
    for (from, to, line, key) in [
        (
            "worker_policy = \"plugin:b\"",
            "worker_policy = \"plugin:c\"",
            2,
            "gateway.worker_policy",
        ),
        ("policy = \"plugin:a\"", "policy = \"plugin:c\"", 14, "route[0].policy"),
        ("auth = \"plugin:b\"", "auth = \"plugin:c\"", 15, "route[0].auth"),
        ("[\"b\", \"a\"]", "[\"b\", \"c\"]", 16, "route[0].filters[1]"),
    ] {
        let told = told(&text.replace(from, to));
        let (start, end) = (format!("f:{line}: key `{key}`: found \""), "[[plugin]]: \"a\", \"b\"");
        assert!(told.starts_with(&start) && told.ends_with(end), "{told}");
    }
    check(
        &text.replace("[\"b\", \"a\"]", "[\"b\", \"b\"]"),
        "f:16: key `route[0].filters[1]`: found \"b\", allowed each slot once",
    );
    check(
        &text.replace("slot = \"b\"", "slot = \"a\""),
        "f:2: key `gateway.worker_policy`: found \"plugin:b\", allowed the slot of a [[plugin]]: \
         \"a\", \"a\"",
    );
    check(
        "[[plugin]]\nslot = \"a\"\n[[plugin]]\nslot = \"a\"",
        "f:4: key `plugin[1].slot`: found \"a\", allowed a name that plugin[0] has not taken",
    );
    check(
        "[gateway]\nworker_policy = \"a\"",
        "f:2: key `gateway.worker_policy`: found \"a\", allowed \"\" or \"plugin:SLOT\"",
    );
    let told = told(&text.replace("policy = \"plugin:a\"", "policy = \"fastest\""));
    assert!(told.ends_with("\"random\", \"plugin:SLOT\""), "{told}");
}

#[test]
fn the_configuration_of_a_plugin_is_kept_as_json() {
    let text = "[[plugin]]\nslot = \"a\"\n[plugin.config]\nb = [1, 2.5, 0x10]\na = { c = \"é\", d = true }";
    let config = parse(text).unwrap();
    let json = config.plugins.config(config.plugins.find("a").unwrap());
    assert_eq!(json, r#"{"a":{"c":"é","d":true},"b":[1,2.5,16]}"#);
    let wrong =
        |value: &str| told(&format!("[[plugin]]\nslot = \"a\"\n[plugin.config]\nx = {value}"));
    for (value, end) in [
        ("inf", "f:4: key `plugin[0].config.x`: found inf, allowed a finite number"),
        ("nan", "f:4: key `plugin[0].config.x`: found nan, allowed a finite number"),
        (
            "2026-01-01",
            "f:4: key `plugin[0].config.x`: found a date, allowed a date as text, in double quotes",
        ),
        (
            "9223372036854775808",
            "f:4: key `plugin[0].config.x`: found 9223372036854775808, allowed a number of 64 bits",
        ),
    ] {
        assert_eq!(wrong(value), end);
    }
    assert_eq!(wrong("[[[[[[[]]]]]]]"), "accepted");
    assert!(wrong("[[[[[[[[]]]]]]]]").ends_with("tables and lists at most 8 deep"));
    check(
        "[[plugin]]\nslot = \"a\"\nconfig = 3",
        "f:3: key `plugin[0].config`: found 3, allowed a table",
    );
}

#[test]
fn the_configurations_of_plugins_are_taken_to_their_bounds_and_refused_past_them() {
    let slot = |at: usize, bytes: usize| {
        let filler = "x".repeat(bytes - r#"{"k":""}"#.len());
        format!("[[plugin]]\nslot = \"s{at}\"\n[plugin.config]\nk = \"{filler}\"\n")
    };
    assert_eq!(told(&slot(0, 1024)), "accepted");
    check(
        &slot(0, 1025),
        "f:3: key `plugin[0].config`: found 1025 bytes, allowed at most 1024 as JSON",
    );
    let four: String = (0..4).map(|at| slot(at, 1024)).collect();
    assert_eq!(told(&four), "accepted");
    check(
        &format!("{four}{}", slot(4, 8)),
        "f:19: key `plugin[4].config`: found 4104 bytes, allowed at most 4096 as JSON for all \
         slots together",
    );
    let slots = |n: usize| -> String {
        (0..n).map(|at| format!("[[plugin]]\nslot = \"s{at}\"\n")).collect()
    };
    assert_eq!(told(&slots(8)), "accepted");
    check(&slots(9), "f:17: key `plugin[8]`: found 9 of them, allowed at most 8");
    let filters = |n: usize| {
        let names: Vec<_> = (0..n).map(|at| format!("\"s{at}\"")).collect();
        told(&format!(
            "{}{ORIGIN}[[route]]\npath = \"/\"\norigins = [\"a\"]\nfilters = [{}]",
            slots(8),
            names.join(",")
        ))
    };
    assert_eq!(filters(4), "accepted");
    assert!(filters(5).ends_with("found 5 of them, allowed at most 4"));
}

#[test]
fn who_may_upload_is_checked() {
    let keys = |n: usize| -> String {
        let keys: Vec<_> = (0..n).map(|at| format!("\"RW{at:054}\"")).collect();
        format!("[plugins]\ntrusted_keys = [{}]\n", keys.join(","))
    };
    assert_eq!(told(&keys(4)), "accepted");
    assert!(told(&keys(5)).ends_with("found 5 of them, allowed at most 4"));
    for bad in ["", "RW", &"R".repeat(57), &format!("XX{}", "a".repeat(54)), &"é".repeat(28)] {
        let told = told(&format!("[plugins]\ntrusted_keys = [\"{bad}\"]"));
        assert!(told.starts_with("f:2: key `plugins.trusted_keys[0]`"), "{told}");
    }
    check(
        "[plugins]\nrequire_signature = true",
        "f:2: key `plugins.require_signature`: found true, allowed true only beside \
         plugins.trusted_keys",
    );
    assert_eq!(told(&format!("{}require_signature = true", keys(1))), "accepted");
    for (kib, good) in [(0, false), (1, true), (1024, true), (1025, false)] {
        assert_eq!(told(&format!("[plugins]\nmax_kib = {kib}")) == "accepted", good, "{kib}");
    }
    for (us, good) in [(0, true), (500, true), (501, false)] {
        assert_eq!(told(&format!("[gateway]\ncoalesce_us = {us}")) == "accepted", good, "{us}");
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
        "f:385: key `origin[128]`: found 129 of them, allowed at most 128"
    );
    let routes = |n: usize| {
        let all: String =
            (0..n).map(|at| format!("[[route]]\npath = \"/{at}\"\norigins = [\"a\"]\n")).collect();
        told(&format!("{ORIGIN}{all}"))
    };
    assert_eq!(routes(ROUTES_MAX), "accepted");
    assert_eq!(
        routes(ROUTES_MAX + 1),
        "f:388: key `route[128]`: found 129 of them, allowed at most 128"
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
