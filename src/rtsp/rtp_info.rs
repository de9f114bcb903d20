//! The URLs of an RTP-Info header (RFC 2326 12.33, RFC 7826 18.45).

use core::ops::Range;

/// Where the URLs stand in the header's value. In 2.0 they are quoted; in 1.0 a URL may hold commas
/// and semicolons of its own (tokens in queries), so it ends at `;seq=`, `;rtptime=`, `;ssrc=` or
/// where the next `url=` begins.
pub fn urls(value: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = next_url(value, at)?;
        let rest = value.get(start..)?;
        if rest.first() == Some(&b'"') {
            let len = rest.get(1..)?.iter().position(|byte| *byte == b'"')?;
            at = start + 1 + len + 1;
            return Some(start + 1..start + 1 + len);
        }
        let end = (0..rest.len()).find(|at| ends_url(rest.get(*at..).unwrap_or_default()));
        let len = rest.get(..end.unwrap_or(rest.len()))?.trim_ascii_end().len();
        at = start + len;
        Some(start..start + len)
    })
}

/// Where the value of the next `url=` begins.
fn next_url(value: &[u8], from: usize) -> Option<usize> {
    (from..value.len()).find_map(|at| {
        let begins =
            at == 0 || matches!(value.get(at - 1), Some(b',' | b';' | b' ' | b'\t' | b'\n'));
        let named = value.get(at..at + 4)?.eq_ignore_ascii_case(b"url=");
        (begins && named).then_some(at + 4)
    })
}

fn ends_url(rest: &[u8]) -> bool {
    let starts =
        |with: &[u8]| rest.get(..with.len()).is_some_and(|text| text.eq_ignore_ascii_case(with));
    match rest.first() {
        Some(b';') => [&b";seq="[..], b";rtptime=", b";ssrc="].iter().any(|name| starts(name)),
        Some(b',') => {
            let next = rest.get(1..).unwrap_or_default().trim_ascii_start();
            next.get(..4).is_some_and(|text| text.eq_ignore_ascii_case(b"url="))
        }
        Some(b' ' | b'\t' | b'\r' | b'\n') => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str) -> Vec<&str> {
        urls(value.as_bytes()).map(|span| &value[span]).collect()
    }

    #[test]
    fn urls_in_both_versions() {
        assert_eq!(
            found("url=rtsp://h/a/t1;seq=1;rtptime=2,url=rtsp://h/a/t2;seq=3"),
            ["rtsp://h/a/t1", "rtsp://h/a/t2"]
        );
        assert_eq!(found("url=trackID=0;seq=1, URL=trackID=1"), ["trackID=0", "trackID=1"]);
        assert_eq!(
            found("url=rtsp://h/a?x=1,2;y=3;seq=9 ,  url=rtsp://h/b"),
            ["rtsp://h/a?x=1,2;y=3", "rtsp://h/b"]
        );
        assert_eq!(
            found("url=\"rtsp://h/a,b\" ssrc=0D12F123:seq=5,url=\"rtsp://h/c\""),
            ["rtsp://h/a,b", "rtsp://h/c"]
        );
        assert_eq!(found("seq=1;rtptime=2"), Vec::<&str>::new());
        assert_eq!(found("url=\"broken"), Vec::<&str>::new());
    }
}
