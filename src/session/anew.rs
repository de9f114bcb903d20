//! A SETUP that begins another session on a connection that has one, and what a session is called as a
//! whole.
//!
//! ffmpeg falls back from UDP to TCP by a SETUP without Session on the same connection: that is a new
//! session, whose id the player must be told, and the old one is torn down at the origin first, since
//! cameras with few places refuse the new one else.

use super::{Own, Session, client::head_len};
use crate::{
    clock::Instant,
    limits::SESSION_ID_MAX_BYTES,
    rtsp::{Head, Method},
};

impl Session {
    /// Whether a SETUP begins another session. While one is under way, others without an id are tracks
    /// of the same session that do not wait for its id (RFC 7826 18.33).
    pub(super) fn begins_anew(&self, head: &Head<'_>) -> bool {
        let under_way = self.requests.open().any(|(_, pending)| pending.note.setup.is_some());
        let again = || self.tracks.by_url(head.uri().unwrap_or_default()).is_some();
        head.method() == Method::Setup
            && head.session().is_none()
            && head.header("Pipelined-Requests").is_none()
            && !self.tracks.is_empty()
            && !under_way
            && (self.ids.ours().is_some() || again())
    }

    /// The client has left its session for another one on this connection.
    pub(super) fn leave_session(&mut self, now: Instant) {
        self.send_own(Own::Left, Method::Teardown, now);
        self.end_strays(now);
        self.reset_after_teardown();
    }

    /// Whether requests wait for the end of a session that was left: an origin may hang up over its
    /// TEARDOWN, and they would be lost with the connection.
    pub(super) fn leaves_session(&self) -> bool {
        self.own.open().any(|(_, pending)| pending.note == Own::Left)
    }

    /// An origin may give the session's id in its answer to anything. One that is too long is none: no
    /// request of the session could be told from a stranger's.
    pub(super) fn learn_id(&mut self, at: usize, head: &Head<'_>) {
        let Some(number) = self.requests.get(at).map(|pending| pending.note.session) else {
            return;
        };
        if let Some(session) = head.session().filter(|it| it.id.len() <= SESSION_ID_MAX_BYTES) {
            self.ids.learn(session.id, number);
        }
    }

    /// The URL, as the client knows it, that stands for all of the session: TEARDOWN and signs of life
    /// name it.
    pub(super) fn aggregate(&self) -> &[u8] {
        if self.aggregate.is_empty() { &self.presentation } else { &self.aggregate }
    }

    /// A track was set up: of the first one what was described is the whole, if the track lies below it.
    pub(super) fn track_of_aggregate(&mut self, url: &[u8]) {
        if self.tracks.len() == 1 {
            let described = covers(&self.presentation, url);
            self.aggregate = if described { self.presentation.clone() } else { url.to_vec() };
        } else if !covers(&self.aggregate, url) {
            self.aggregate = parent(&self.aggregate, url).unwrap_or(&self.presentation).to_vec();
        }
    }

    /// The origin plays what this request names: the whole, unless it is one track of several.
    pub(super) fn played_aggregate(&mut self, at: usize) {
        let uri = self.requests.get(at).and_then(|pending| {
            let head = Head::parse(pending.raw.get(..head_len(&pending.raw)?)?).ok()?;
            head.uri().map(<[u8]>::to_vec)
        });
        if let Some(uri) = uri
            && (self.tracks.len() == 1 || self.tracks.by_url(&uri).is_none())
        {
            self.aggregate = uri;
        }
    }
}

/// Whether a URL is that of a presentation or lies below it, whatever the presentation's query.
fn covers(presentation: &[u8], url: &[u8]) -> bool {
    let path = presentation.split(|byte| *byte == b'?').next().unwrap_or_default();
    let below = |base: &[u8]| {
        let tail = url.strip_prefix(base.strip_suffix(b"/").unwrap_or(base));
        tail.is_some_and(|tail| matches!(tail.first(), None | Some(b'/' | b'?')))
    };
    below(presentation) || below(path)
}

/// What lies above both URLs; none where that is the host alone.
fn parent<'a>(one: &'a [u8], other: &[u8]) -> Option<&'a [u8]> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let slash = one.get(..same)?.iter().rposition(|byte| *byte == b'/')?;
    let path = crate::rtsp::Url::parse(one).ok()?.authority_span.end;
    one.get(..slash).filter(|_| slash > path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_presentation_covers_what_lies_below_it() {
        for (presentation, url, expected) in [
            ("rtsp://h/a", "rtsp://h/a", true),
            ("rtsp://h/a/", "rtsp://h/a/t1", true),
            ("rtsp://h/a?x=1", "rtsp://h/a/t1?x=1", true),
            ("rtsp://h/a?x=1", "rtsp://h/a?x=1/trackID=0", true),
            ("rtsp://h/a", "rtsp://h/ab", false),
            ("rtsp://h/a/t1", "rtsp://h/a/t2", false),
        ] {
            assert_eq!(covers(presentation.as_bytes(), url.as_bytes()), expected, "{presentation}");
        }
    }

    #[test]
    fn what_lies_above_two_tracks() {
        let above = |one: &'static str, other: &str| {
            parent(one.as_bytes(), other.as_bytes()).map(|url| str::from_utf8(url).unwrap())
        };
        assert_eq!(above("rtsp://h/a/t1", "rtsp://h/a/t2"), Some("rtsp://h/a"));
        let dahua = "rtsp://h/cam?channel=1&subtype=0/trackID=0";
        let other = dahua.replace("=0/trackID=0", "=0/trackID=1");
        assert_eq!(above(dahua, &other), Some("rtsp://h/cam?channel=1&subtype=0"));
        assert_eq!(above("rtsp://h/video", "rtsp://h/audio"), None);
        assert_eq!(above("rtsp://h", "rtsp://h"), None);
    }
}
