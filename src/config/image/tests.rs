//! Behaviour of the image, and configurations for other tests.

use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::*;
use crate::{
    config::{
        Auth, HealthCheck, Name, OnFault, Origin, Policy, PortRange, Route, Slot, Strip,
        text::{AUTHS, ENDPOINTS, METHODS, POLICIES, REDIRECTS, TRANSPORTS, plugins::ON_FAULT},
    },
    limits::{ORIGINS_MAX, ROUTES_MAX},
};

/// A configuration of exactly [`IMAGE_MAX`] bytes, with as many origins and routes as there may be.
pub(crate) fn largest() -> Box<Config> {
    let mut config = Box::<Config>::default();
    let name = |at: usize| Name::try_from(format!("{at:032}").as_str()).unwrap();
    for at in 0..8 {
        let json =
            if at < 4 { format!("{{\"k\":\"{}\"}}", "x".repeat(1016)) } else { String::new() };
        config.plugins.add(name(at), OnFault::Pass, &json).unwrap();
    }
    for at in 0..ORIGINS_MAX {
        let origin = Origin {
            name: name(at),
            url: format!("rtsp://h/{}", "u".repeat(60)).as_str().try_into().unwrap(),
            weight: 100,
            max_sessions: u16::MAX,
            credentials: Some(name(at)),
            check: HealthCheck::Options,
            check_interval_s: 3600,
        };
        config.origins.push(origin).unwrap();
        let route = Route {
            path: format!("/{at:023}").as_str().try_into().unwrap(),
            origins: [name(at)].into_iter().collect(),
            policy: Policy::Plugin(Slot(0)),
            auth: Auth::Plugin(Slot(1)),
            filters: (0..4).map(Slot).collect(),
            ..Route::default()
        };
        config.routes.push(route).unwrap();
    }
    // What is left goes to paths, and the last bytes to one of them.
    'filled: loop {
        for at in 0..ROUTES_MAX {
            let left = IMAGE_MAX - bytes(&config);
            if left == 0 {
                break 'filled;
            }
            let path = &mut config.routes[at].path;
            for _ in 0..left.min(path.capacity() - path.len()) {
                path.push('p').unwrap();
            }
            while bytes(&config) > IMAGE_MAX {
                config.routes[at].path.pop().unwrap();
            }
        }
    }
    config
}

/// A small generator; the same seed gives the same numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
    fn number(&mut self, key: &str) -> u16 {
        let range = rules::range(key);
        let span = usize::from(range.end() - range.start()) + 1;
        range.start() + u16::try_from(self.below(span)).unwrap()
    }
    fn word(&mut self, most: usize) -> String {
        let letters = b"abcXYZ019._-";
        (0..1 + self.below(most)).map(|_| char::from(letters[self.below(letters.len())])).collect()
    }
    fn slot(&mut self, slots: usize) -> Slot {
        Slot(u8::try_from(self.below(slots)).unwrap())
    }
    fn pick<T: Copy>(&mut self, words: &[(&str, T)]) -> T {
        words[self.below(words.len())].1
    }
}

/// A configuration by chance that keeps the rules.
pub(crate) fn seeded(seed: u64) -> Box<Config> {
    let mut dice = Dice(seed);
    let mut config = Box::<Config>::default();
    if dice.below(2) == 0 {
        config.gateway.listen.clear();
        for at in 0..1 + dice.below(4) {
            let port = u16::try_from(dice.below(10_000) * 4 + at).unwrap();
            let address = match dice.below(2) {
                0 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                _ => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            };
            config.gateway.listen.push(address).unwrap();
        }
        let first = u16::try_from(1024 + 2 * dice.below(10_000)).unwrap();
        let last = first + 1 + u16::try_from(2 * dice.below(10_000)).unwrap();
        config.gateway.media_ports = PortRange { first, last };
        config.gateway.advertise = Some(Ipv4Addr::new(192, 0, 2, 1).into());
        config.gateway.workers = u8::try_from(dice.number("workers")).unwrap();
        config.gateway.via = Name::try_from(&*dice.word(32)).unwrap();
        config.gateway.control = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)));
        config.limits.sessions = dice.number("sessions");
        config.limits.idle_timeout_s = dice.number("idle_timeout_s");
        config.limits.media_queue_kib = dice.number("media_queue_kib");
        config.limits.detached_sessions = dice.below(2) == 0;
    }
    // Many short ones or a few long ones: all of it has to fit.
    let (many, most) = [(ORIGINS_MAX, 10), (32, 90)][dice.below(2)];
    for at in 0..dice.below(many + 1) {
        let path = format!("/{}", dice.word(most));
        let check = match dice.below(3) {
            0 => HealthCheck::Off,
            1 => HealthCheck::Options,
            _ => HealthCheck::Describe(path.as_str().try_into().unwrap()),
        };
        let origin = Origin {
            name: Name::try_from(format!("{at}{}", dice.word(29)).as_str()).unwrap(),
            url: format!("rtsp://{}:{}{path}", dice.word(most), 1 + dice.below(65_535))
                .as_str()
                .try_into()
                .unwrap(),
            weight: u8::try_from(dice.number("weight")).unwrap(),
            max_sessions: dice.number("max_sessions"),
            credentials: (dice.below(2) == 0).then(|| Name::try_from(&*dice.word(32)).unwrap()),
            check,
            check_interval_s: dice.number("check_interval_s"),
        };
        config.origins.push(origin).unwrap();
    }
    plugins(&mut dice, &mut config);
    let origins = config.origins.len();
    let slots = config.plugins.slots.len();
    for at in 0..dice.below(many + 1).min(origins * ROUTES_MAX) {
        let tail = ["", "/*", "/**", "/*/x", "/é"][dice.below(4)];
        let first = dice.below(origins);
        let some = 1 + dice.below(origins.min(if many > 32 { 1 } else { 8 }));
        let route = Route {
            path: format!("/{at}/{}{tail}", dice.word(most.min(80))).as_str().try_into().unwrap(),
            origins: (0..some)
                .map(|n| config.origins[(first + n) % origins].name.clone())
                .collect(),
            policy: match (slots, dice.below(2)) {
                (1.., 0) => Policy::Plugin(dice.slot(slots)),
                _ => dice.pick(&POLICIES),
            },
            auth: match (slots, dice.below(2)) {
                (1.., 0) => Auth::Plugin(dice.slot(slots)),
                _ => dice.pick(&AUTHS),
            },
            filters: (0..slots.min(dice.below(5)))
                .map(|at| Slot(u8::try_from(at).unwrap()))
                .collect(),
            origin_transport: dice.pick(&TRANSPORTS),
            redirect: dice.pick(&REDIRECTS),
            endpoints: dice.pick(&ENDPOINTS),
            methods: [dice.pick(&METHODS), dice.pick(&METHODS)].into_iter().collect(),
            strip: [Strip::Auto, Strip::Yes, Strip::No][dice.below(3)],
        };
        let mut route = route;
        if rules::opened(&route, &config.origins).is_some() {
            route.auth = Auth::None;
        }
        config.routes.push(route).unwrap();
    }
    assert_eq!(rules::check(&config), Ok(()), "seed {seed}");
    config
}

fn plugins(dice: &mut Dice, config: &mut Config) {
    for at in 0..dice.below(9) {
        let json = match dice.below(4) {
            0 => String::new(),
            1 => serde_json::json!({ "list": [1, -2, "é\"\n"], "yes": true }).to_string(),
            2 => serde_json::json!({ "deep": { "odd key": [], "": {} }, "f": 1e30 }).to_string(),
            _ => serde_json::json!({ dice.word(30): 0.5, "z": i64::MIN }).to_string(),
        };
        let name = Name::try_from(format!("{at}{}", dice.word(30)).as_str()).unwrap();
        config.plugins.add(name, dice.pick(&ON_FAULT), &json).unwrap();
    }
    let slots = config.plugins.slots.len();
    config.gateway.worker_policy = (slots > 0).then(|| dice.slot(slots));
    config.gateway.coalesce_us = dice.number("coalesce_us");
    config.plugins.max_kib = dice.number("max_kib");
    for at in 0..dice.below(5) {
        let key = format!("RW{at:054}").as_str().try_into().unwrap();
        config.plugins.trusted_keys.push(key).unwrap();
        config.plugins.require_signature = dice.below(2) == 0;
    }
}

#[test]
fn images_read_back_as_the_same_configuration() {
    for seed in 0..200 {
        let config = seeded(seed);
        let (again, sequence) = decode(&encode(&config, seed)).unwrap();
        assert_eq!((again, sequence), (*config, seed));
    }
}

#[test]
fn the_largest_configuration_fills_the_image_exactly_and_one_byte_more_is_refused() {
    let mut config = largest();
    let image = encode(&config, u64::MAX);
    assert_eq!((image.len(), rules::check(&config)), (IMAGE_MAX, Ok(())));
    assert_eq!(decode(&image), Ok(((*config).clone(), u64::MAX)));
    let text = crate::config::print::print(&config).len();
    assert!(text < 100 * 1024, "{text} bytes of text; its limit says 100 KiB");
    let path = config.routes.iter_mut().map(|route| &mut route.path);
    path.min_by_key(|path| path.len()).unwrap().push('p').unwrap();
    let told = rules::check(&config).unwrap_err().to_string();
    let wanted = "key `origin`: found 35841 bytes of configuration on flash, allowed at most 35840";
    assert!(told.starts_with(wanted), "{told}");
    assert!(matches!(decode(&encode(&config, 1)), Err(ImageError::Broken(_))));
}

#[test]
fn a_configuration_takes_memory_for_what_is_in_it() {
    // What is held in place, and moved with each copy: most of it the JSON of plugins.
    let most = 4096 + 1024 + 1024;
    assert!(size_of::<Config>() < most, "{} bytes", size_of::<Config>());
}

#[test]
fn whatever_older_formats_could_say_fits() {
    // Every string at its longest, and as many of everything as there could be.
    let mut config = Box::<Config>::default();
    let name: Name = core::iter::repeat_n('n', 32).collect();
    let path: heapless::String<128> = core::iter::repeat_n('/', 128).collect();
    for _ in 0..32 {
        let origin = Origin {
            name: name.clone(),
            url: core::iter::repeat_n('u', 256).collect(),
            weight: u8::MAX,
            max_sessions: u16::MAX,
            credentials: Some(name.clone()),
            check: HealthCheck::Describe(path.clone()),
            check_interval_s: u16::MAX,
        };
        config.origins.push(origin).unwrap();
        let route = Route {
            path: path.clone(),
            origins: core::iter::repeat_n(name.clone(), 8).collect(),
            policy: Policy::Plugin(Slot(u8::MAX)),
            auth: Auth::Plugin(Slot(u8::MAX)),
            filters: core::iter::repeat_n(Slot(u8::MAX), 4).collect(),
            ..Route::default()
        };
        config.routes.push(route).unwrap();
    }
    for _ in 0..8 {
        config.plugins.add(name.clone(), OnFault::Pass, "").unwrap();
    }
    config.plugins.configs = core::iter::repeat_n('c', 4096).collect();
    let key: heapless::String<56> = core::iter::repeat_n('k', 56).collect();
    config.plugins.trusted_keys = core::iter::repeat_n(key, 4).collect();
    // What is left has numbers and four addresses.
    assert!(bytes(&config) + 200 < IMAGE_MAX, "{}", bytes(&config));
}

#[test]
fn the_stored_image_of_format_1_still_reads() {
    let image = include_bytes!("../../../tests/images/config-v1.bin");
    let mut expected = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
    expected.plugins = crate::config::Plugins::default();
    as_before_format_3(&mut expected);
    assert_eq!(decode(image), Ok((expected, 7)));
}

#[test]
fn the_stored_image_of_format_2_still_reads() {
    let image = include_bytes!("../../../tests/images/config-v2.bin");
    let mut expected = crate::config::text::parse(&example_with_slots()).unwrap();
    as_before_format_3(&mut expected);
    assert_eq!(decode(image), Ok((expected, 8)));
}

#[test]
fn the_stored_image_of_format_3_still_reads() {
    let image = include_bytes!("../../../tests/images/config-v3.bin");
    let text = example_with_slots()
        .replace("methods = [\"play\"]", "methods = [\"publish\", \"other\"]")
        .replace("redirect = \"refuse\"", "redirect = \"follow\"")
        .replace("strip = \"auto\"", "strip = true")
        .replace("tracks_per_client = 1024", "tracks_per_client = 64");
    let expected = crate::config::text::parse(&text).unwrap();
    assert_eq!(expected.limits.tracks_per_client, 64);
    assert_eq!(decode(image), Ok((expected, 9)));
}

#[test]
fn a_camera_that_an_older_format_opened_to_everybody_says_so_now() {
    let image = include_bytes!("../../../tests/images/config-v2.bin");
    let mut old: v2::Config = Frame::open(image).unwrap().body(2).unwrap();
    old.origins[0].credentials = Some("nvr".try_into().unwrap());
    old.routes[0].auth = Auth::Pass;
    let mut config = Config::from(old);
    assert_eq!((config.routes[0].auth, rules::check(&config)), (Auth::None, Ok(())));
    config.routes[0].auth = Auth::Pass;
    assert!(matches!(decode(&encode(&config, 3)), Err(ImageError::Broken(_))));
}

/// The defaults of the time when the older images were written.
fn as_before_format_3(config: &mut Config) {
    config.limits.sessions_per_client = 32;
    config.limits.answer_timeout_s = 5;
}

/// The example with slots in use.
fn example_with_slots() -> String {
    crate::config::EXAMPLE
        .replace("coalesce_us = 300", "coalesce_us = 150")
        .replace("worker_policy = \"\"", "worker_policy = \"plugin:balancer\"")
        .replace("policy = \"least-sessions\"", "policy = \"plugin:balancer\"")
        .replace("auth = \"pass\"", "auth = \"plugin:balancer\"")
        .replace("filters = []", "filters = [\"balancer\"]")
}

#[test]
fn slots_that_an_image_names_must_be_there() {
    let base = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
    let wrong: [fn(&mut Config); 5] = [
        |config| config.gateway.worker_policy = Some(Slot(1)),
        |config| config.routes[0].policy = Policy::Plugin(Slot(1)),
        |config| config.routes[0].auth = Auth::Plugin(Slot(255)),
        |config| config.routes[0].filters.push(Slot(1)).unwrap(),
        |config| config.plugins.slots[0].config_bytes += 1,
    ];
    for bend in wrong {
        let mut config = base.clone();
        bend(&mut config);
        assert!(matches!(decode(&encode(&config, 1)), Err(ImageError::Broken(_))));
    }
}

/// An image with this JSON for its only slot.
fn with_json(json: &str) -> Result<Config, ImageError> {
    let mut config = Config::default();
    config.plugins.add("a".try_into().unwrap(), OnFault::Pass, json).unwrap();
    decode(&encode(&config, 1)).map(|(config, _)| config)
}

#[test]
fn json_that_another_release_spelt_is_spelt_as_text_would() {
    let spellings = [
        ("{\"b\" : 1e2,\t\"a\":[ ]}", "{\"a\":[],\"b\":100.0}"),
        ("{\"a\":\"\\u0041\",\"a\":2}", "{\"a\":2}"),
        // Nearest to what is written, which a quick reader misses.
        ("{\"a\":1.1984395612348762e-297}", "{\"a\":1.1984395612348762e-297}"),
    ];
    for (stored, spelt) in spellings {
        let config = with_json(stored).unwrap();
        assert_eq!(config.plugins.config(Slot(0)), spelt);
        let text = crate::config::print::print(&config);
        assert_eq!(crate::config::text::parse(&text).as_ref(), Ok(&config), "{text}");
    }
}

#[test]
fn json_that_text_has_no_words_for_is_refused() {
    assert!(matches!(with_json("{\"a\":null}"), Err(ImageError::Broken(_))));
    assert!(with_json("{\"a\":9223372036854775807}").is_ok());
    assert!(matches!(with_json("{\"a\":9223372036854775808}"), Err(ImageError::Broken(_))));
    // Fifteen bytes that become a hundred and fifty times as many.
    let grows = format!("{{\"a\":[{}1]}}", "1e15,".repeat(200));
    assert!(matches!(with_json(&grows), Err(ImageError::Malformed)));
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let config = crate::config::text::parse(crate::config::EXAMPLE).unwrap();
    let image = encode(&config, 9);
    for bit in 0..image.len() * 8 {
        let mut bent = image.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&bent), Err(ImageError::Damaged), "bit {bit}");
    }
    for length in 0..image.len() {
        assert!(decode(&image[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_newer_format_is_told_from_a_damaged_one() {
    let mut room = [0; 256];
    let used = seal(FORMAT + 1, 5, &[1u8, 2, 3], &mut room).unwrap();
    assert_eq!(decode(&room[..used]), Err(ImageError::Newer { format: 4, sequence: 5 }));
    assert_eq!(sequence(&room[..used]), Ok(5));
    let used = seal(0, 5, &[1u8, 2, 3], &mut room).unwrap();
    assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
    // Whole frames with too little, too much, or forbidden content.
    let used = seal(1, 5, &0u8, &mut room).unwrap();
    assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
    let used = seal(FORMAT, 5, &0u8, &mut room).unwrap();
    assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
    let used = seal(FORMAT, 5, &(Config::default(), 0u8), &mut room).unwrap();
    assert_eq!(decode(&room[..used]), Err(ImageError::Malformed));
    let mut config = Config::default();
    config.limits.sessions = 0;
    assert!(matches!(decode(&encode(&config, 1)), Err(ImageError::Broken(_))));
}

#[test]
fn the_checksum_is_the_usual_one() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}

#[test]
fn every_error_reads_well() {
    let errors = [
        ImageError::Short,
        ImageError::Damaged,
        ImageError::Newer { format: 2, sequence: 1 },
        ImageError::Malformed,
    ];
    for error in errors {
        let text = error.to_string();
        assert!(!text.ends_with('.') && text.starts_with(char::is_lowercase), "{text}");
    }
}
