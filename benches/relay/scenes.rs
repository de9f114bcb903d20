//! The loads that are measured, and who is measured under each.

use crate::{
    load::Shape,
    rig::{
        Contender::{self, Bare, Edgeweir, Go2rtc, Nginx, Rtpengine, Socat},
        Way,
    },
    value,
};

/// One load and its contenders; the first one is what the others are compared with.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) way: Way,
    pub(crate) shape: Shape,
    pub(crate) contenders: Vec<Contender>,
}

impl Scene {
    /// How long one run takes: under overload long enough that buffers are full for most of it.
    pub(crate) fn seconds(&self, wanted: f64) -> f64 {
        if self.name == "overload" { wanted.max(8.0) } else { wanted }
    }
}

/// The pause of the bound with coalescing: the gateway's default.
pub(crate) const PAUSE_US: u64 = edgeweir::limits::COALESCE_US_DEFAULT as u64;

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Scene> {
    let shape = |streams, burst, rate| Shape { streams, burst, rate };
    let udp = Way::UdpToUdp;
    let gso = Bare("gso", PAUSE_US, 1);
    let (one, off) = (Edgeweir(1, None), Edgeweir(1, Some(0)));
    let (mmsg, plain) = (Bare("mmsg", 0, 1), Bare("gso", 0, 1));
    vec![
        Scene {
            name: "bursts",
            title: "UDP to UDP, 100 sessions, bursts of 16, 100,000 packets a second",
            way: udp,
            shape: shape(100, 16, 100_000),
            contenders: vec![
                gso.clone(),
                one.clone(),
                off.clone(),
                plain.clone(),
                mmsg.clone(),
                Nginx,
                Rtpengine,
                Socat,
            ],
        },
        Scene {
            name: "coalesce",
            title: "The same for what `coalesce_us` may be",
            way: udp,
            shape: shape(100, 16, 100_000),
            contenders: [0, 50, 100, 200, 300, 400, 500].map(|us| Edgeweir(1, Some(us))).to_vec(),
        },
        Scene {
            name: "calm",
            title: "UDP to UDP, 100 sessions, bursts of 16, 20,000 packets a second",
            way: udp,
            shape: shape(100, 16, 20_000),
            contenders: vec![
                gso,
                one.clone(),
                off.clone(),
                plain,
                mmsg.clone(),
                Nginx,
                Rtpengine,
                Socat,
            ],
        },
        Scene {
            name: "single",
            title: "UDP to UDP, 1000 sessions, single packets, 100,000 a second",
            way: udp,
            shape: shape(1000, 1, 100_000),
            contenders: vec![mmsg.clone(), one.clone(), Nginx, Rtpengine],
        },
        Scene {
            name: "single-two",
            title: "The same on two workers, beside the loop on two threads",
            way: udp,
            shape: shape(1000, 1, 100_000),
            contenders: vec![Bare("mmsg", 0, 2), Edgeweir(2, None)],
        },
        Scene {
            name: "frames",
            title: "Interleaved to interleaved, 100 sessions, bursts of 16, 100,000 packets a second",
            way: Way::TcpToTcp,
            shape: shape(100, 16, 100_000),
            contenders: vec![Bare("tcp", 0, 1), one.clone(), Go2rtc],
        },
        Scene {
            name: "to-frames",
            title: "UDP to interleaved, 100 sessions, bursts of 16, 100,000 packets a second",
            way: Way::UdpToTcp,
            shape: shape(100, 16, 100_000),
            contenders: vec![one.clone(), off.clone()],
        },
        Scene {
            name: "from-frames",
            title: "Interleaved to UDP, 100 sessions, bursts of 16, 100,000 packets a second",
            way: Way::TcpToUdp,
            shape: shape(100, 16, 100_000),
            contenders: vec![one.clone(), off],
        },
        Scene {
            name: "flood",
            title: "UDP to UDP, 100 sessions, bursts of 16, as many as the origin can send",
            way: udp,
            shape: shape(100, 16, 600_000),
            contenders: vec![Bare("gso", PAUSE_US, 1), one.clone(), Nginx, Rtpengine],
        },
        Scene {
            name: "overload",
            title: "UDP to UDP, 1000 sessions, single packets, as many as the origin can send",
            way: udp,
            shape: shape(1000, 1, 600_000),
            contenders: vec![mmsg, one, Edgeweir(2, None), Nginx, Rtpengine],
        },
    ]
}

/// The scenes that the command line names, all when it names none.
pub(crate) fn chosen(words: &[String], named: bool) -> Vec<Scene> {
    if words.iter().any(|word| word == "custom") {
        return vec![custom(words)];
    }
    let mut scenes = all();
    if named {
        scenes.retain(|scene| words.iter().any(|word| word == scene.name));
    }
    if let Some(only) = value::<String>(words, "--only") {
        let keep: Vec<&str> = only.split(',').collect();
        for scene in &mut scenes {
            scene.contenders.retain(|one| keep.iter().any(|word| one.to_string().contains(word)));
        }
    }
    scenes
}

fn custom(words: &[String]) -> Scene {
    let number = |name: &str, default: u64| value(words, name).unwrap_or(default);
    let way = match value::<String>(words, "--way").as_deref() {
        None | Some("udp") => Way::UdpToUdp,
        Some("tcp") => Way::TcpToTcp,
        Some("udp-tcp") => Way::UdpToTcp,
        Some("tcp-udp") => Way::TcpToUdp,
        Some(other) => panic!("--way {other}: udp, tcp, udp-tcp or tcp-udp"),
    };
    let shape = Shape {
        streams: number("--streams", 100) as usize,
        burst: number("--burst", 16) as usize,
        rate: number("--rate", 20_000),
    };
    let contenders = match way {
        Way::UdpToUdp => vec![Bare("gso", PAUSE_US, 1), Bare("mmsg", 0, 1), Edgeweir(1, None)],
        Way::TcpToTcp => vec![Bare("tcp", 0, 1), Edgeweir(1, None)],
        _ => vec![Edgeweir(1, None)],
    };
    Scene { name: "custom", title: "a load from the command line", way, shape, contenders }
}
