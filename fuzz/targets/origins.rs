//! Routes and the choice of an origin: what is chosen stands in the route and was not excluded, no
//! origin gets more sessions than it may, places that are given back can be had again.
#![no_main]

use core::net::IpAddr;

use edgeweir::{
    clock::Instant,
    config::text,
    origin::{Key, Lookup, Outcome, Purpose, Table},
};
use edgeweir_fuzz::{input::Choices, seeds};
use libfuzzer_sys::fuzz_target;

const POLICIES: [&str; 7] = [
    "round-robin",
    "least-sessions",
    "least-traffic",
    "hash-client",
    "hash-path",
    "first",
    "random",
];
const PLACES: u32 = 3;

fuzz_target!(init: seeds::write(scripts()), |data: &[u8]| {
    let mut choices = Choices(data);
    let policy = *choices.one(&POLICIES);
    let Ok(config) = text::parse(&toml(policy)) else { unreachable!() };
    let table = Table::new(&config, None, choices.byte().into());
    let client: IpAddr = "192.0.2.7".parse().unwrap();
    let (mut held, mut now) = (Vec::new(), 0);
    while !choices.is_empty() {
        let at = Instant::from_millis(now);
        match choices.below(8) {
            0..=2 => {
                let path = choices.short();
                let _ = table.route(path, Lookup::Media);
                let Some(route) = table.route(path, Lookup::Presentation) else { continue };
                let excluded = choices.byte();
                let exclude: Vec<usize> = (0..4).filter(|at| excluded >> at & 1 == 1).collect();
                let key = Key::new(client, path, exclude.len() as u32);
                if let Ok(place) = table.pick(route, &key, &exclude, Purpose::Session, at) {
                    assert!(table.routes()[route].origins.contains(&place.index()));
                    assert!(!exclude.contains(&place.index()));
                    held.push(place);
                }
            }
            3 if !held.is_empty() => drop(held.swap_remove(choices.below(held.len()))),
            4 => now += u64::from(choices.word()) * 10,
            _ => {
                let origin = &table.origins()[choices.below(4)];
                let outcomes = [
                    Outcome::ConnectFailed,
                    Outcome::Answered { rtt_us: choices.word().into() },
                    Outcome::MediaFlowing,
                ];
                origin.observe(*choices.one(&outcomes), at);
            }
        }
        for (index, origin) in table.origins().iter().enumerate() {
            let places = held.iter().filter(|place| place.index() == index).count();
            assert_eq!(usize::try_from(origin.sessions()), Ok(places));
            assert!(origin.sessions() <= PLACES);
            let _ = origin.status(at);
        }
    }
    drop(held);
    assert!(table.origins().iter().all(|origin| origin.sessions() == 0));
});

/// Four origins; routes that overlap.
fn toml(policy: &str) -> String {
    let mut toml = String::new();
    for at in 0..4 {
        toml += &format!(
            "[[origin]]\nname = \"o{at}\"\nurl = \"rtsp://198.51.100.{at}\"\nweight = {}\n\
             max_sessions = {PLACES}\n",
            at + 1
        );
    }
    for (path, origins) in [
        ("/live/*", "[\"o0\", \"o1\", \"o2\"]"),
        ("/live/*/x", "[\"o1\"]"),
        ("/a", "[\"o3\", \"o0\"]"),
        ("/**", "[\"o0\", \"o1\", \"o2\", \"o3\"]"),
    ] {
        toml +=
            &format!("[[route]]\npath = \"{path}\"\norigins = {origins}\npolicy = \"{policy}\"\n");
    }
    toml
}

fn scripts() -> Vec<Vec<u8>> {
    let policies = 0..POLICIES.len() as u8;
    let script = |policy| {
        let mut script = vec![policy, 7];
        for path in ["/live/a", "/live/a/x", "/a", "/b/c"] {
            script.extend([0, path.len() as u8]);
            script.extend(path.bytes());
            script.extend([1, 5, 1, 0, 9, 0, 4, 2, 3, 3, 0]);
        }
        script
    };
    policies.map(script).collect()
}
