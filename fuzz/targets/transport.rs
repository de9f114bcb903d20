//! The Transport header and RTP-Info: what is read lies within the value, what is not edited stays,
//! and what is edited reads back.
#![no_main]

use edgeweir::rtsp::{
    rtp_info,
    transport::{Spec, specs},
    url::Url,
};
use edgeweir_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: seeds::write(
        ["Transport:", "RTP-Info:", "Location:"].iter().flat_map(|name| seeds::values(name))
    ),
    |value: &[u8]| {
        for spec in specs(value) {
            edit(&spec, value);
        }
        let mut end = 0;
        for span in rtp_info::urls(value) {
            assert!(span.start >= end && span.end <= value.len(), "{span:?} follows {end}");
            end = span.end;
        }
        if let Ok(url) = Url::parse(value) {
            assert!(within(url.path(), value) && within(url.host, value));
        }
    }
);

fn edit(spec: &Spec<'_>, value: &[u8]) {
    assert!(within(spec.text(), value));
    let mut same = Vec::new();
    spec.edit().write(&mut same);
    assert_eq!(same, spec.text(), "nothing edited is nothing changed");
    for name in ["client_port", "interleaved", "dest_addr", "server_port", "ssrc"] {
        let mut out = Vec::new();
        spec.edit().set(name, b"6-7").remove("source").flag("x").write(&mut out);
        // A quote that was closed by what was taken out swallows what follows.
        if value.contains(&b'"') {
            continue;
        }
        let again = specs(&out).next().expect("an edited spec is one");
        assert_eq!(again.param(name), Some(&b"6-7"[..]));
        assert!(!again.has("source") && again.has("x"));
        assert_eq!(again.lower(), spec.lower());
    }
    let _ = (spec.client_port(), spec.server_port(), spec.interleaved(), spec.is_multicast());
    for addrs in [spec.dest_addr(), spec.src_addr()].into_iter().flatten() {
        assert!(addrs.hosts.iter().flatten().all(|host| within(host, value)));
    }
}

fn within(part: &[u8], whole: &[u8]) -> bool {
    part.is_empty() || whole.as_ptr_range().contains(&part.as_ptr())
}
