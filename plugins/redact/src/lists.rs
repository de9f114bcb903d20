//! What is removed.

use edgeweir_kit::Config;

/// Names, and lines, in one list.
const ENTRIES_MAX: usize = 32;
/// Bytes of an entry.
const ENTRY_MAX_BYTES: usize = 64;

/// Headers that the gateway owns, or without which the peers cannot talk.
const KEPT_HEADERS: [&str; 8] = [
    "CSeq",
    "Session",
    "Transport",
    "Content-Length",
    "Content-Type",
    "Authorization",
    "WWW-Authenticate",
    "Require",
];

/// SDP lines that every description must have, or that players need to set up a track.
const KEPT_LINES: [&str; 7] = ["v=", "o=", "s=", "t=", "m=", "a=control", "a=rtpmap"];

/// Which messages are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toward {
    /// From player to camera.
    pub upstream: bool,
    /// From camera to player.
    pub client: bool,
}

/// The configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// `headers` without `*`: names as they are.
    pub names: Vec<String>,
    /// `headers` that end in `*`, without it, in lower case.
    pub prefixes: Vec<String>,
    /// `sdp`: how lines begin.
    pub lines: Vec<String>,
    /// `toward`.
    pub toward: Toward,
}

impl Lists {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// The key, what is wrong with it and what is allowed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let headers = config.strings("headers", ENTRIES_MAX, ENTRY_MAX_BYTES)?;
        let lines = config.strings("sdp", ENTRIES_MAX, ENTRY_MAX_BYTES)?;
        let toward = match config.string("toward", 16)?.as_deref() {
            None | Some("client") => Toward { upstream: false, client: true },
            Some("upstream") => Toward { upstream: true, client: false },
            Some("both") => Toward { upstream: true, client: true },
            Some(other) => {
                return Err(format!("toward = \"{other}\": client, upstream or both is allowed"));
            }
        };
        config.finish()?;
        if headers.is_empty() && lines.is_empty() {
            return Err("nothing to remove: headers or sdp must have an entry".to_owned());
        }
        let (prefixes, names): (Vec<_>, Vec<_>) =
            headers.into_iter().partition(|name| name.ends_with('*'));
        for name in &names {
            check_name(name, name)?;
        }
        let mut cut = Vec::new();
        for entry in prefixes {
            let prefix = entry.trim_end_matches('*').to_ascii_lowercase();
            check_name(&entry, &prefix)?;
            cut.push(prefix);
        }
        for line in &lines {
            check_line(line)?;
        }
        Ok(Self { names, prefixes: cut, lines, toward })
    }

    /// Whether a header goes by one of the prefixes. What must stay stays.
    pub fn has_prefix(&self, name: &str) -> bool {
        let begins = |prefix: &String| {
            name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        };
        self.prefixes.iter().any(begins) && !must_stay(name)
    }

    /// A description without the lines that go; none if none does. Bytes, because cameras write
    /// names in any encoding; line ends stay as they are.
    pub fn without_lines(&self, sdp: &[u8]) -> Option<Vec<u8>> {
        if !sdp.split_inclusive(|byte| *byte == b'\n').any(|line| self.goes(line)) {
            return None;
        }
        let mut kept = Vec::with_capacity(sdp.len());
        for line in sdp.split_inclusive(|byte| *byte == b'\n').filter(|line| !self.goes(line)) {
            kept.extend_from_slice(line);
        }
        Some(kept)
    }

    fn goes(&self, line: &[u8]) -> bool {
        self.lines.iter().any(|start| begins_with(line, start.as_bytes()))
    }
}

/// `a=tool` is the attribute of that name, with a value or without; it is not `a=toolbox`. An entry
/// that ends in another sign (`i=`, `a=x-`) is every line that begins so.
fn begins_with(line: &[u8], start: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(start) else { return false };
    let whole_word = start.last().is_some_and(u8::is_ascii_alphanumeric);
    let goes_on = rest.first().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
    !(whole_word && goes_on)
}

fn must_stay(name: &str) -> bool {
    KEPT_HEADERS.iter().any(|kept| kept.eq_ignore_ascii_case(name))
}

fn check_name(entry: &str, name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.contains('*') || !name.bytes().all(token) {
        return Err(format!("headers: \"{entry}\": a name, or its beginning and * is expected"));
    }
    if entry == name && must_stay(name) {
        return Err(format!("headers: \"{entry}\" cannot be removed: the peers need it"));
    }
    Ok(())
}

fn check_line(line: &str) -> Result<(), String> {
    let mut bytes = line.bytes();
    let letter = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !letter || bytes.next() != Some(b'=') || bytes.any(|byte| byte.is_ascii_control()) {
        return Err(format!(
            "sdp: \"{line}\": the beginning of a line is expected, like a=tool or i="
        ));
    }
    // Neither the line itself nor a beginning that would take it along.
    if let Some(kept) = KEPT_LINES.iter().find(|kept| {
        begins_with(kept.as_bytes(), line.as_bytes())
            || (kept.len() == 2 && line.starts_with(**kept))
    }) {
        return Err(format!("sdp: \"{line}\" would remove {kept} lines: players need them"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(text: &str) -> Lists {
        Lists::parse(text.as_bytes()).unwrap()
    }

    const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=Yard\r\ni=K\xf6ln, gate 3\r\n\
        t=0 0\r\na=tool:NVR 4.1\r\na=toolbox:kept\r\na=x-serial:1234\r\nm=video 0 RTP/AVP 96\r\n\
        a=rtpmap:96 H264/90000\r\na=x-onvif-track:V\r\na=tool\r\na=control:track1\r\n";

    #[test]
    fn lines_go_by_name_or_by_beginning_and_the_rest_is_byte_for_byte() {
        let kept = lists(r#"{"sdp":["a=tool","i=","a=x-"]}"#).without_lines(SDP).unwrap();
        let wanted: &[u8] = b"v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=Yard\r\nt=0 0\r\n\
            a=toolbox:kept\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
            a=control:track1\r\n";
        assert_eq!(String::from_utf8_lossy(&kept), String::from_utf8_lossy(wanted));
    }

    #[test]
    fn a_description_without_such_lines_is_left_alone() {
        assert_eq!(lists(r#"{"sdp":["a=range"]}"#).without_lines(SDP), None);
        assert_eq!(lists(r#"{"sdp":["a=range"]}"#).without_lines(b""), None);
    }

    #[test]
    fn bare_line_feeds_and_a_missing_last_one_are_fine() {
        let lists = lists(r#"{"sdp":["i="]}"#);
        assert_eq!(lists.without_lines(b"v=0\ni=a\ns=b\n").unwrap(), b"v=0\ns=b\n");
        assert_eq!(lists.without_lines(b"v=0\r\ni=a").unwrap(), b"v=0\r\n");
        assert_eq!(lists.without_lines(b"i=").unwrap(), b"");
    }

    #[test]
    fn prefixes_of_headers_ignore_case_and_spare_what_must_stay() {
        let lists = lists(r#"{"headers":["X-*","C*","Server"]}"#);
        assert_eq!(lists.names, ["Server"]);
        for (name, goes) in [
            ("x-serial", true),
            ("X-", true),
            ("X", false),
            ("Cache-Control", true),
            ("CSeq", false),
            ("content-length", false),
            ("Content-Base", true),
            ("Server", false), // by name, not by prefix
            ("\u{e4}x-", false),
        ] {
            assert_eq!(lists.has_prefix(name), goes, "{name}");
        }
    }

    #[test]
    fn toward_says_which_messages() {
        let of = |toward: &str| {
            lists(&format!("{{\"headers\":[\"Server\"],\"toward\":\"{toward}\"}}")).toward
        };
        assert_eq!(of("client"), Toward { upstream: false, client: true });
        assert_eq!(of("upstream"), Toward { upstream: true, client: false });
        assert_eq!(of("both"), Toward { upstream: true, client: true });
        assert_eq!(lists(r#"{"sdp":["i="]}"#).toward, of("client"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("{}", "nothing to remove: headers or sdp must have an entry"),
            (r#"{"headers":["cseq"]}"#, "headers: \"cseq\" cannot be removed: the peers need it"),
            (r#"{"headers":["*"]}"#, "headers: \"*\": a name, or its beginning and * is expected"),
            (
                r#"{"headers":["X:"]}"#,
                "headers: \"X:\": a name, or its beginning and * is expected",
            ),
            (
                r#"{"headers":["a*b"]}"#,
                "headers: \"a*b\": a name, or its beginning and * is expected",
            ),
            (r#"{"headers":"X"}"#, "headers is a text: a list of texts is expected"),
            (r#"{"sdp":["a="]}"#, "sdp: \"a=\" would remove a=control lines: players need them"),
            (r#"{"sdp":["m=audio"]}"#, "sdp: \"m=audio\" would remove m= lines: players need them"),
            (
                r#"{"sdp":["a=control"]}"#,
                "sdp: \"a=control\" would remove a=control lines: players need them",
            ),
            (
                r#"{"sdp":["tool"]}"#,
                "sdp: \"tool\": the beginning of a line is expected, like a=tool or i=",
            ),
            (
                r#"{"sdp":["i="],"toward":"camera"}"#,
                "toward = \"camera\": client, upstream or both is allowed",
            ),
            (r#"{"header":[]}"#, "unknown key \"header\": known are headers, sdp, toward"),
        ] {
            assert_eq!(Lists::parse(text.as_bytes()), Err(error.to_owned()), "{text}");
        }
        let many = |count| format!("{{\"sdp\":[{}]}}", vec!["\"i=\""; count].join(","));
        assert!(Lists::parse(many(ENTRIES_MAX).as_bytes()).is_ok());
        assert!(Lists::parse(many(ENTRIES_MAX + 1).as_bytes()).is_err());
    }
}
