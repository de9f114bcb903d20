//! What the probe reads from an SDP: tracks, their codecs and where to set them up.
//!
//! Not in here: the rest of SDP.

use crate::{limits::PROBE_TRACKS_MAX, rtsp::url::Url};

/// One media section that can be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    /// `video`, `audio`, `application`, …
    pub(super) kind: String,
    /// Encoding name of its first payload type, such as `H264`; empty: unknown.
    pub(super) codec: String,
    /// Ticks a second of its timestamps.
    pub(super) clock: u32,
    /// URL for SETUP.
    pub(super) control: String,
}

/// What an SDP offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Offer {
    /// URL for PLAY and TEARDOWN.
    pub(super) aggregate: String,
    /// The first [`PROBE_TRACKS_MAX`] tracks.
    pub(super) sections: Vec<Section>,
}

/// Reads an SDP whose relative URLs stand below `base`.
pub(super) fn offer(sdp: &[u8], base: &str) -> Offer {
    let text = String::from_utf8_lossy(sdp);
    let mut offer = Offer { aggregate: base.to_owned(), sections: Vec::new() };
    let mut payload_type = "";
    for line in text.lines().map(str::trim_end) {
        if let Some(media) = line.strip_prefix("m=") {
            if offer.sections.len() == PROBE_TRACKS_MAX {
                break;
            }
            let mut words = media.split_ascii_whitespace();
            let kind = words.next().unwrap_or_default();
            payload_type = words.nth(2).unwrap_or_default();
            let (codec, clock) = static_codec(payload_type, kind);
            offer.sections.push(Section {
                kind: clean(kind),
                codec: codec.to_owned(),
                clock,
                control: base.to_owned(),
            });
        } else if let Some(control) = line.strip_prefix("a=control:") {
            let url = resolved(base, control.trim());
            match offer.sections.last_mut() {
                Some(section) => section.control = url,
                None => offer.aggregate = url,
            }
        } else if let Some(map) = line.strip_prefix("a=rtpmap:")
            && let Some(section) = offer.sections.last_mut()
            && let Some((number, encoding)) = map.trim().split_once(' ')
            && number == payload_type
        {
            let mut parts = encoding.trim().split('/');
            section.codec = clean(parts.next().unwrap_or_default());
            let clock = parts.next().and_then(|clock| clock.parse().ok());
            section.clock = clock.filter(|clock| *clock > 0).unwrap_or(section.clock);
        }
    }
    offer
}

/// At most 32 letters for the eye; what a server sends must not steer a terminal.
fn clean(text: &str) -> String {
    text.chars().filter(|letter| letter.is_ascii_graphic()).take(32).collect()
}

/// A control value against its base, as players do it: appended, not as RFC 3986 would.
fn resolved(base: &str, control: &str) -> String {
    if control == "*" || control.is_empty() {
        return base.to_owned();
    }
    if control.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("rtsp")) {
        return control.to_owned();
    }
    if control.starts_with('/')
        && let Ok(url) = Url::parse(base.as_bytes())
    {
        return format!("rtsp://{}{control}", String::from_utf8_lossy(url.host_port()));
    }
    let slash = if base.ends_with('/') { "" } else { "/" };
    format!("{base}{slash}{control}")
}

/// Static payload types of RFC 3551 that cameras use.
fn static_codec(payload_type: &str, kind: &str) -> (&'static str, u32) {
    match payload_type {
        "0" => ("PCMU", 8_000),
        "8" => ("PCMA", 8_000),
        "9" => ("G722", 8_000),
        "14" => ("MPA", 90_000),
        "26" => ("JPEG", 90_000),
        "33" => ("MP2T", 90_000),
        _ if kind == "audio" => ("", 8_000),
        _ => ("", 90_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tracks_have_codecs_clocks_and_urls() {
        let sdp = "v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96 97\na=rtpmap:97 X/1\n\
                   a=rtpmap:96 H264/90000\na=control:trackID=1\nm=audio 0 RTP/AVP 0\n\
                   a=control:rtsp://h/other\nm=application 0 RTP/AVP 107\na=control:/root";
        let found = offer(sdp.as_bytes(), "rtsp://h:9/cam?x=1");
        assert_eq!(found.aggregate, "rtsp://h:9/cam?x=1");
        let rows: Vec<_> = found
            .sections
            .iter()
            .map(|it| (it.kind.as_str(), it.codec.as_str(), it.clock, it.control.as_str()))
            .collect();
        assert_eq!(
            rows,
            [
                ("video", "H264", 90_000, "rtsp://h:9/cam?x=1/trackID=1"),
                ("audio", "PCMU", 8_000, "rtsp://h/other"),
                ("application", "", 90_000, "rtsp://h:9/root"),
            ]
        );
    }

    #[test]
    fn nonsense_is_an_offer_of_nothing_or_little() {
        for text in ["", "m=", "a=control:x\na=rtpmap:1 2", "m=video", "\0\u{7f}\n\n"] {
            assert!(offer(text.as_bytes(), "rtsp://h").sections.len() <= 1, "{text:?}");
        }
        let codec = offer(b"m=video 0 x 96\na=rtpmap:96 \x1b[31mH264/0", "rtsp://h");
        assert_eq!(codec.sections[0].codec, "[31mH264");
        assert_eq!(codec.sections[0].clock, 90_000);
    }

    #[test]
    fn tracks_past_the_bound_are_left_out() {
        let sdp = |count| "m=audio 0 RTP/AVP 0\n".repeat(count);
        for (count, kept) in
            [(PROBE_TRACKS_MAX, PROBE_TRACKS_MAX), (PROBE_TRACKS_MAX + 1, PROBE_TRACKS_MAX)]
        {
            assert_eq!(offer(sdp(count).as_bytes(), "rtsp://h").sections.len(), kept);
        }
    }
}
