//! URLs, never decoded: `$`, `&`, `?token=`, `%20` survive byte for byte.

use super::{ParseError, Rule};

/// The port of an `rtsp` URL that names none.
pub const DEFAULT_PORT: u16 = 554;

/// An absolute URL, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Url<'a> {
    /// `rtsp`, `rtsps` or `rtspu`, as it came.
    pub scheme: &'a [u8],
    /// What stands before `@`.
    pub userinfo: Option<&'a [u8]>,
    /// Host; IPv6 in its brackets.
    pub host: &'a [u8],
    /// Port.
    pub port: Option<u16>,
    /// Everything from the first `/` or `?` after the authority on; may be empty.
    pub rest: &'a [u8],
    host_port: &'a [u8],
}

/// What one side calls a presentation: requests below it map to the other side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// `rtsp://host:port`.
    pub authority: Vec<u8>,
    /// Path without a slash at the end; may be empty.
    pub path: Vec<u8>,
}

impl<'a> Url<'a> {
    /// Parses an absolute URL. Broken and relative ones are errors, and opaque to the caller.
    pub fn parse(text: &'a [u8]) -> Result<Self, ParseError> {
        let error = |offset| ParseError { offset, rule: Rule::Url };
        let colon = text.iter().take(6).position(|byte| *byte == b':').ok_or(error(0))?;
        let (scheme, after) = text.split_at(colon);
        let known = [&b"rtsp"[..], b"rtsps", b"rtspu"];
        if !known.iter().any(|name| scheme.eq_ignore_ascii_case(name)) {
            return Err(error(0));
        }
        let after = after.strip_prefix(b"://").ok_or(error(colon))?;
        let end = after.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
        let (authority, rest) = after.split_at(end.unwrap_or(after.len()));
        let (userinfo, host_port) = match authority.iter().rposition(|byte| *byte == b'@') {
            Some(at) => (authority.get(..at), authority.get(at + 1..).unwrap_or_default()),
            None => (None, authority),
        };
        let host_end = match host_port.first() {
            Some(b'[') => 1 + host_port.iter().position(|b| *b == b']').ok_or(error(colon + 3))?,
            _ => host_port.iter().position(|b| *b == b':').unwrap_or(host_port.len()),
        };
        let (host, port) = host_port.split_at(host_end);
        let port = match port {
            [] | [b':'] => None,
            [b':', digits @ ..] => {
                let number = super::head::decimal(digits).and_then(|n| u16::try_from(n).ok());
                Some(number.filter(|n| *n > 0).ok_or(error(colon + 3))?)
            }
            _ => return Err(error(colon + 3)),
        };
        if host.is_empty() || host.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(error(colon + 3));
        }
        Ok(Self { scheme, userinfo, host, port, rest, host_port })
    }

    /// The path without its query; may be empty.
    pub fn path(&self) -> &'a [u8] {
        self.rest.split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// Host and port as they came, without user information.
    pub fn host_port(&self) -> &'a [u8] {
        self.host_port
    }

    /// Whether this is the server of that name; a missing port is 554.
    pub fn is_at(&self, host: &[u8], port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port.unwrap_or(DEFAULT_PORT) == port
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_as_they_came() {
        let url = Url::parse(b"RTSP://user:p@ss@[2001:db8::1]:8554/a%20b?token=$x&y=@z").unwrap();
        assert_eq!(url.scheme, b"RTSP");
        assert_eq!(url.userinfo, Some(&b"user:p@ss"[..]));
        assert_eq!((url.host, url.port), (&b"[2001:db8::1]"[..], Some(8554)));
        assert_eq!(url.rest, b"/a%20b?token=$x&y=@z");
        assert_eq!((url.path(), url.host_port()), (&b"/a%20b"[..], &b"[2001:db8::1]:8554"[..]));
        let url = Url::parse(b"rtsp://cam").unwrap();
        assert_eq!((url.host, url.port, url.rest), (&b"cam"[..], None, &b""[..]));
        assert!(url.is_at(b"CAM", 554) && !url.is_at(b"cam", 8554));
        assert_eq!(Url::parse(b"rtsp://cam?x=1").unwrap().rest, b"?x=1");
    }

    #[test]
    fn broken_ones_are_opaque() {
        for text in [
            "",
            "*",
            "trackID=1",
            "/a",
            "rtsp:host/t",
            "http://h/",
            "rtsp://",
            "rtsp:///a",
            "rtsp://h:x/",
            "rtsp://h:0/",
            "rtsp://h:65536/",
            "rtsp://[::1/",
            "rtsp://a b/",
        ] {
            assert!(Url::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
