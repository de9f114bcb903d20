//! The few lines of an SDP that a proxy must see: `m=` and `a=control:`. Lines end in CRLF or LF.

use core::ops::Range;

/// One `a=control:` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// Its value.
    pub value: &'a [u8],
    /// Where the value stands in the SDP.
    pub span: Range<usize>,
    /// Number of the media section it belongs to; none: the session.
    pub media: Option<usize>,
}

/// One `m=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media<'a> {
    /// `video`, `audio`, `application`, …
    pub kind: &'a [u8],
    /// The whole `m=` line, its line end included.
    pub line_span: Range<usize>,
    /// Its number, from 0.
    pub index: usize,
}

/// All control lines, in order.
pub fn controls(sdp: &[u8]) -> impl Iterator<Item = Control<'_>> {
    let mut media: Option<usize> = None;
    lines(sdp).filter_map(move |(whole, line)| {
        let at = whole.start;
        if line.starts_with(b"m=") {
            media = Some(media.map_or(0, |index| index + 1));
        }
        let start = line.get(..10).filter(|text| text.eq_ignore_ascii_case(b"a=control:"))?.len();
        let raw = line.get(start..)?;
        let value = raw.trim_ascii();
        let from = at + start + (raw.len() - raw.trim_ascii_start().len());
        (!value.is_empty()).then(|| Control { value, span: from..from + value.len(), media })
    })
}

/// The value of a line that is `a=control:` and has one.
pub fn control(line: &[u8]) -> Option<&[u8]> {
    let named = line.get(..10)?.eq_ignore_ascii_case(b"a=control:");
    line.get(10..).filter(|_| named).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty())
}

/// The SDP with other lines in the place of some, none when nothing changes: `change` is told each line
/// without its end, and the number of the media section it belongs to. A CR alone ends a line too.
pub fn edited(
    sdp: &[u8],
    mut change: impl FnMut(&[u8], Option<usize>) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let (mut out, mut changed, mut media, mut at) = (Vec::new(), false, None::<usize>, 0);
    while let Some(rest) = sdp.get(at..).filter(|rest| !rest.is_empty()) {
        let len = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let line = rest.get(..len).unwrap_or_default();
        if line.starts_with(b"m=") {
            media = Some(media.map_or(0, |index| index + 1));
        }
        match change(line, media) {
            Some(other) => {
                out.extend(other.iter().filter(|byte| !b"\r\n\0".contains(byte)));
                changed = true;
            }
            None => out.extend_from_slice(line),
        }
        let end = rest.get(len..).unwrap_or_default();
        let end = end.get(..if end.starts_with(b"\r\n") { 2 } else { 1 }).unwrap_or_default();
        out.extend_from_slice(end);
        at += len + end.len();
    }
    changed.then_some(out)
}

/// All media sections, in order.
pub fn medias(sdp: &[u8]) -> impl Iterator<Item = Media<'_>> {
    lines(sdp).filter(|(_, line)| line.starts_with(b"m=")).enumerate().map(
        |(index, (line_span, line))| {
            let text = line.get(2..).unwrap_or_default();
            let kind = text.split(|byte| *byte == b' ').next().unwrap_or_default();
            Media { kind, line_span, index }
        },
    )
}

/// Media sections that their server receives (`a=sendonly`, the talk of ONVIF), by their number.
pub fn received(sdp: &[u8]) -> impl Iterator<Item = usize> {
    let mut media: Option<usize> = None;
    lines(sdp).filter_map(move |(_, line)| {
        if line.starts_with(b"m=") {
            media = Some(media.map_or(0, |index| index + 1));
        }
        line.trim_ascii_end().eq_ignore_ascii_case(b"a=sendonly").then_some(media)?
    })
}

/// Lines with their line end as a span, and without it as bytes.
fn lines(sdp: &[u8]) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut at = 0;
    sdp.split_inclusive(|byte| *byte == b'\n').map(move |line| {
        let start = at;
        at += line.len();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        (start..at, line.strip_suffix(b"\r").unwrap_or(line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_know_their_section_whatever_ends_the_lines() {
        let sdp = "v=0\r\na=control:*\r\nm=video 0 RTP/AVP 96\nA=Control: trackID=1 \n\
                   m=audio 0 RTP/AVP 0\r\na=control:\r\na=control:rtsp://h/t2";
        let found: Vec<_> = controls(sdp.as_bytes())
            .map(|control| {
                assert_eq!(&sdp.as_bytes()[control.span.clone()], control.value);
                (String::from_utf8_lossy(control.value).into_owned(), control.media)
            })
            .collect();
        let expected = [("*", None), ("trackID=1", Some(0)), ("rtsp://h/t2", Some(1))];
        assert_eq!(found, expected.map(|(value, media)| (value.to_owned(), media)));
        let kinds: Vec<&[u8]> = medias(sdp.as_bytes()).map(|media| media.kind).collect();
        assert_eq!(kinds, [&b"video"[..], b"audio"]);
    }

    #[test]
    fn what_the_server_receives_is_told_by_section() {
        let sdp = b"v=0\r\na=sendonly\r\nm=video 0 RTP/AVP 96\r\na=recvonly\r\n\
                    m=audio 0 RTP/AVP 0\r\na=SendOnly \r\nm=audio 0 RTP/AVP 0\r\n";
        assert_eq!(received(sdp).collect::<Vec<_>>(), [1], "of the session it says nothing");
    }

    #[test]
    fn lines_are_changed_one_by_one_whatever_ends_them() {
        let sdp = b"v=0\r\nm=a\rx\n\nm=b\r\na=c";
        let mut seen = Vec::new();
        let same = edited(sdp, |line, media| {
            seen.push((line.to_vec(), media));
            None
        });
        assert_eq!(same, None);
        let lines = [(&b"v=0"[..], None), (b"m=a", Some(0)), (b"x", Some(0)), (b"", Some(0))];
        let more = [(&b"m=b"[..], Some(1)), (b"a=c", Some(1))];
        let expected: Vec<_> =
            lines.into_iter().chain(more).map(|(line, media)| (line.to_vec(), media)).collect();
        assert_eq!(seen, expected);
        let other = edited(sdp, |line, _| (line == b"x").then(|| b"y\r\nz".to_vec()));
        assert_eq!(other.unwrap(), b"v=0\r\nm=a\ryz\n\nm=b\r\na=c");
    }

    #[test]
    fn the_session_may_have_no_control() {
        let sdp = b"v=0\nm=video 0 RTP/AVP 96\na=control:t1\nm=audio 0 RTP/AVP 0";
        assert!(controls(sdp).all(|control| control.media.is_some()));
        let lines: Vec<&[u8]> = medias(sdp).map(|media| &sdp[media.line_span]).collect();
        assert_eq!(lines, [&b"m=video 0 RTP/AVP 96\n"[..], b"m=audio 0 RTP/AVP 0"]);
        let found = controls(b"a=control: *\r\nm=video").next().unwrap();
        assert_eq!((found.value, found.span, found.media), (&b"*"[..], 11..12, None));
    }
}
