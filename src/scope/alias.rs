//! Aliases: URLs below a presentation that stand for URLs of its origin elsewhere.
//!
//! A camera whose `/live/av0` says `a=control:rtsp://camera/video0` names a URL that here may belong
//! to another route, and to another client. The player is given
//!
//! ```text
//!   rtsp://gateway:8554/live/av0/gateway-url-A9c…?query of the presentation
//!                                            └ base64url of  MAC (16) | masked text
//! ```
//!
//! which lies below the presentation, and so falls to its route and its grant. The segment carries
//! what it stands for, so that the next connection (players reconnect between DESCRIBE and SETUP)
//! understands it on any worker. The MAC is over presentation and text, with a key of this run: an
//! alias of another presentation, or one that nobody gave out, stands for nothing. The text is masked
//! by a stream that the MAC seeds (as in RFC 5297), since it may name the camera's inner address.
//!
//! Equal URLs have equal aliases: SDP and RTP-Info of one presentation agree.

use core::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    limits::URL_MAX_BYTES,
    rtsp::{Url, url::Base},
};

/// What the segment of an alias begins with.
const MARK: &[u8] = b"gateway-url-";
/// Bytes of the MAC.
const TAG: usize = 16;

/// Makes aliases and understands them. The key is anew for each run, and common to its workers.
#[derive(Clone, Copy)]
pub struct Aliases([u8; 32]);

impl fmt::Debug for Aliases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aliases(…)")
    }
}

impl From<[u8; 32]> for Aliases {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

/// What an alias stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Path and query at the origin.
    Rest(Vec<u8>),
    /// A control URL that does not parse, as the origin wrote it: it wants it back as it is.
    Broken(Vec<u8>),
}

impl Target {
    /// What a URL of the origin stands for.
    pub(crate) fn of(url: &[u8]) -> Self {
        match Url::parse(url) {
            Ok(parsed) => Self::Rest(parsed.rest.to_vec()),
            Err(_) => Self::Broken(url.to_vec()),
        }
    }

    /// The URL as the origin at this base knows it.
    pub(crate) fn at(&self, origin: &Base) -> Vec<u8> {
        match self {
            Self::Rest(rest) => [&origin.authority[..], rest].concat(),
            Self::Broken(url) => url.clone(),
        }
    }

    fn kind(&self) -> (u8, &[u8]) {
        match self {
            Self::Rest(rest) => (b'r', rest),
            Self::Broken(url) => (b'b', url),
        }
    }
}

/// The path of an alias in two: the presentation's, and the segment without its mark. None where the
/// path has no segment of that form.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let at = path.iter().rposition(|byte| *byte == b'/')?;
    let segment = path.get(at + 1..)?.strip_prefix(MARK)?;
    Some((path.get(..at)?, segment))
}

/// Whether a path has a segment that looks like an alias, at whatever place: one of a gateway behind
/// this one.
pub(super) fn is_marked(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').any(|segment| segment.starts_with(MARK))
}

impl Aliases {
    /// The segment that stands for `target` below the presentation at `path`.
    pub(super) fn segment(&self, path: &[u8], target: &Target) -> Option<Vec<u8>> {
        let (kind, text) = target.kind();
        if text.len() > URL_MAX_BYTES / 2 {
            return None; // it would not fit into a request
        }
        let tag = self.tag(path, kind, text);
        let mut bytes = [&tag[..], &[kind], text].concat();
        self.mask(&tag, bytes.get_mut(TAG..)?);
        let mut segment = MARK.to_vec();
        segment.extend_from_slice(URL_SAFE_NO_PAD.encode(bytes).as_bytes());
        Some(segment)
    }

    /// What a segment, without its mark, stands for below the presentation at `path`.
    pub(super) fn target(&self, path: &[u8], segment: &[u8]) -> Option<Target> {
        let mut bytes = URL_SAFE_NO_PAD.decode(segment).ok()?;
        let (tag, masked) = bytes.split_at_mut_checked(TAG)?;
        self.mask(tag, masked);
        let (kind, text) = masked.split_first()?;
        let mut mac = self.mac(b'a');
        mac.update(&pieces(path, *kind));
        mac.update(text);
        mac.verify_truncated_left(tag).ok()?;
        match kind {
            b'r' => Some(Target::Rest(text.to_vec())),
            b'b' => Some(Target::Broken(text.to_vec())),
            _ => None,
        }
    }

    /// The URL that a client's alias stands for at the origin; none where it is none of ours.
    pub(crate) fn meant(&self, url: &[u8], origin: &Base) -> Option<Vec<u8>> {
        let (path, segment) = split(Url::parse(url).ok()?.path())?;
        Some(self.target(path, segment)?.at(origin))
    }

    fn tag(&self, path: &[u8], kind: u8, text: &[u8]) -> [u8; TAG] {
        let mut mac = self.mac(b'a');
        mac.update(&pieces(path, kind));
        mac.update(text);
        let whole = mac.finalize().into_bytes();
        let mut tag = [0; TAG];
        tag.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        tag
    }

    fn mask(&self, tag: &[u8], bytes: &mut [u8]) {
        for (block, number) in bytes.chunks_mut(32).zip(0_u32..) {
            let mut mac = self.mac(b'm');
            mac.update(tag);
            mac.update(&number.to_be_bytes());
            let stream = mac.finalize().into_bytes();
            block.iter_mut().zip(stream).for_each(|(byte, mask)| *byte ^= mask);
        }
    }

    /// HMAC-SHA-256 (RFC 2104) that begins with what it is for.
    fn mac(&self, purpose: u8) -> Hmac<Sha256> {
        // A key shorter than a block is filled up with zeros.
        let mut block = [0; 64];
        block.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(&[purpose]);
        mac
    }
}

/// What the MAC covers before the text: the presentation's path, with its length, and the kind.
fn pieces(path: &[u8], kind: u8) -> Vec<u8> {
    let len = u32::try_from(path.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), path, &[kind]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn alias(presentation: &str, url: &str) -> Vec<u8> {
        let segment = Aliases(KEY).segment(presentation.as_bytes(), &Target::of(url.as_bytes()));
        [format!("rtsp://gw{presentation}/").as_bytes(), &segment.unwrap()].concat()
    }

    fn understood(key: [u8; 32], url: &[u8]) -> Option<String> {
        let origin = Base { authority: b"rtsp://cam:554".to_vec(), path: b"/x".to_vec() };
        let url = Aliases(key).meant(url, &origin)?;
        Some(String::from_utf8(url).unwrap())
    }

    #[test]
    fn an_alias_carries_what_it_stands_for() {
        let long = format!("rtsp://10.0.0.5/{}", "u".repeat(900));
        let rows = [
            ("rtsp://10.0.0.5:8000/video0?a=$&b", "rtsp://cam:554/video0?a=$&b"),
            ("rtsp://u:p@10.0.0.5", "rtsp://cam:554"),
            ("rtsp://rtsp://10.0.0.5/t1", "rtsp://rtsp://10.0.0.5/t1"),
            ("rtsp:host/t2", "rtsp:host/t2"),
            (&long, &long.replace("10.0.0.5", "cam:554")),
        ];
        for (url, wanted) in rows {
            let alias = alias("/live/av0", url);
            assert_eq!(understood(KEY, &alias).as_deref(), Some(wanted), "{url}");
            let with_query = [&alias[..], b"?token=1"].concat();
            assert_eq!(understood(KEY, &with_query).as_deref(), Some(wanted), "{url}");
            assert!(!String::from_utf8(alias).unwrap().contains("10.0.0"));
        }
        assert_eq!(alias("/a", "rtsp://x/1"), alias("/a", "rtsp://y:5/1"), "the host is no part");
    }

    #[test]
    fn forged_and_foreign_ones_stand_for_nothing() {
        let good = alias("/live/av0", "rtsp://cam/video0");
        assert_eq!(understood([8; 32], &good), None, "of another run");
        let text = String::from_utf8(good.clone()).unwrap();
        for other in [
            text.replace("/live/av0/", "/live/av1/"),
            text.replace("/live/av0/", "/live/"),
            format!("{text}A"),
            format!("{text}/t1"),
            text.replace("gateway-url-", "gateway-url--"),
            "rtsp://gw/live/av0/gateway-url-".into(),
            "rtsp://gw/live/av0/gateway-url-AAAA".into(),
        ] {
            assert_eq!(understood(KEY, other.as_bytes()), None, "{other}");
        }
        let end = good.len() - 48;
        for at in end..good.len() {
            let mut bent = good.clone();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(understood(KEY, &bent), None, "at {at}");
        }
    }

    #[test]
    fn what_would_not_fit_into_a_request_has_no_alias() {
        let url = format!("rtsp://cam/{}", "u".repeat(URL_MAX_BYTES));
        assert_eq!(Aliases(KEY).segment(b"/a", &Target::of(url.as_bytes())), None);
    }
}
