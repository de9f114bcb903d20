//! Descriptions: spans lie within, in order, and are what they say.
#![no_main]

use edgeweir::rtsp::sdp;
use edgeweir_fuzz::seeds;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: seeds::write(bodies()), |text: &[u8]| {
    let medias: Vec<_> = sdp::medias(text).collect();
    let mut end = 0;
    for media in &medias {
        assert!(media.line_span.start >= end, "media lines follow each other");
        end = media.line_span.end;
        assert!(text[media.line_span.clone()].starts_with(b"m="));
    }
    let mut end = 0;
    for control in sdp::controls(text) {
        assert!(control.span.start >= end, "controls follow each other");
        end = control.span.end;
        assert_eq!(&text[control.span.clone()], control.value);
        assert!(!control.value.is_empty() && control.value == control.value.trim_ascii());
        assert!(!control.value.contains(&b'\n'));
        let before = medias.iter().filter(|media| media.line_span.end <= control.span.start);
        assert_eq!(before.count(), control.media.map_or(0, |index| index + 1));
    }
});

/// Descriptions in the transcripts.
fn bodies() -> Vec<Vec<u8>> {
    let cut = |text: Vec<u8>| {
        let at = text.windows(3).position(|part| part == b"v=0")?;
        text.get(at..).map(<[u8]>::to_vec)
    };
    seeds::said().into_iter().filter_map(cut).collect()
}
