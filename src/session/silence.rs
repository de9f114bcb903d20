//! When an origin whose media stay away is given up, and when that is nobody's fault.
//!
//! Media is promised by an answered PLAY of audio or video that the origin sends: not of tracks that
//! it receives, nor of metadata, which comes when something happens. RTP, RTCP and answers are signs
//! of life: cameras send a key frame in 12 s, or nothing before something moves. So an origin that
//! was heard once is asked before it is given up; where nothing ever came, the way of the media is
//! blocked, and answers say nothing about that.

use core::time::Duration;

use super::{Link, Own, Session, State, client::head_len};
use crate::{
    clock::Instant,
    limits::TRACKS_MAX,
    rtsp::{Head, Method, sdp},
};

impl Session {
    /// When something is to be done about media that stay away.
    pub(super) fn silence_due(&self) -> Option<Instant> {
        let timeout = self.around.silence_timeout;
        if !self.media_promised || self.state != State::Playing || timeout.is_zero() {
            return None;
        }
        let life = if self.heard { self.last_media.max(self.last_answer) } else { self.last_media };
        // Early enough for an answer to come before it is given up.
        let early = timeout * 3 / 5;
        let due = match self.probed {
            _ if self.asks_first() => life + early,
            Some(at) => (life + timeout).max(at + (timeout - early)),
            None => life + timeout,
        };
        self.promised_until.is_none_or(|until| until > due).then_some(due)
    }

    /// Whether an origin whose media stay away is asked before it is given up.
    fn asks_first(&self) -> bool {
        self.probed.is_none() && self.heard && self.ids.is_known() && self.link == Link::Up
    }

    /// Asks whether it is alive; false when that was done, or makes no sense. By two methods at once:
    /// not every camera answers each.
    pub(super) fn asks_if_alive(&mut self, now: Instant) -> bool {
        if !self.asks_first() {
            return false;
        }
        self.probed = Some(now);
        if !self.own.open().any(|(_, own)| own.note == Own::Keepalive) {
            self.keep_alive(now);
        }
        if self.keepalive.method() != Method::Options {
            self.send_own(Own::Probe, Method::Options, now);
        }
        true
    }

    /// When the media that an answered PLAY promises is at its end; none: never, or not known.
    pub(super) fn range_ends(&self, at: usize, answer: &Head<'_>, now: Instant) -> Option<Instant> {
        let pending = self.requests.get(at)?;
        let asked = Head::parse(pending.raw.get(..head_len(&pending.raw)?)?).ok()?;
        let range = answer.header("Range").or_else(|| asked.header("Range"))?;
        let scale = answer.header("Scale").or_else(|| asked.header("Scale"));
        lasts(range.value, scale.map(|header| header.value)).map(|lasts| now + lasts)
    }

    /// Remembers which tracks may be silent: what is neither audio nor video, and what the origin
    /// receives.
    pub(super) fn learn_quiet(&mut self, body: &[u8]) {
        let steady = |kind: &[u8]| {
            kind.eq_ignore_ascii_case(b"video") || kind.eq_ignore_ascii_case(b"audio")
        };
        let other = sdp::medias(body).filter(|m| !steady(m.kind)).map(|m| m.index);
        let quiet: Vec<usize> = other.chain(sdp::received(body)).collect();
        self.quiet_controls = sdp::controls(body)
            .filter(|control| control.media.is_some_and(|media| quiet.contains(&media)))
            .take(TRACKS_MAX)
            .map(|control| {
                let tail = control.value.rsplit(|byte| *byte == b'/').next();
                tail.unwrap_or(control.value).to_vec()
            })
            .filter(|tail| !tail.is_empty() && tail != b"*")
            .collect();
    }
}

/// Whether a URL ends with this control, whole.
pub(super) fn is_control_of(url: &[u8], control: &[u8]) -> bool {
    url.strip_suffix(control).is_some_and(|before| matches!(before.last(), None | Some(b'/')))
}

/// How long a range lasts: `npt=a-b` by its seconds, of other units with an end nothing is waited for.
fn lasts(range: &[u8], scale: Option<&[u8]>) -> Option<Duration> {
    let text = core::str::from_utf8(range).ok()?.split(';').next()?.trim();
    let (unit, span) = text.split_once('=')?;
    let (from, to) = span.split_once('-')?;
    let (from, to) = (from.trim(), to.trim());
    if to.is_empty() {
        return None;
    }
    if !unit.trim().eq_ignore_ascii_case("npt") {
        return Some(Duration::ZERO);
    }
    let scale = scale.and_then(|text| core::str::from_utf8(text).ok()?.trim().parse::<f64>().ok());
    let scale = scale.map(f64::abs).filter(|scale| *scale >= 0.01).unwrap_or(1.0);
    let seconds = (seconds(to)? - seconds(from).unwrap_or(0.0)).abs() / scale;
    Duration::try_from_secs_f64(seconds).ok()
}

/// `12.5` or `0:01:02.5`.
fn seconds(npt: &str) -> Option<f64> {
    npt.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.parse::<f64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_with_an_end_lasts_as_long_as_it_says() {
        let rows: [(&str, Option<&str>, Option<u64>); 10] = [
            ("npt=0-", None, None),
            ("npt=now-", None, None),
            ("npt=0.000-596.458", None, Some(596_458)),
            ("npt=10-20;time=19970123T143720Z", None, Some(10_000)),
            ("npt=0:01:00-0:02:00.5", None, Some(60_500)),
            ("npt=0-20", Some("2.0"), Some(10_000)),
            ("npt=20-0", Some("-4"), Some(5_000)),
            ("npt=0-20", Some("0"), Some(20_000)),
            ("clock=20260101T000000Z-20260101T010000Z", None, Some(0)),
            ("nonsense", None, None),
        ];
        for (range, scale, wanted) in rows {
            let found = lasts(range.as_bytes(), scale.map(str::as_bytes));
            assert_eq!(found, wanted.map(Duration::from_millis), "{range} {scale:?}");
        }
        assert_eq!(lasts(b"npt=0-1e300", None), None);
        assert_eq!(lasts(b"npt=0-nan", None), None);
    }

    #[test]
    fn a_control_is_told_from_one_that_ends_alike() {
        assert!(is_control_of(b"rtsp://gw/cam/trackID=1", b"trackID=1"));
        assert!(is_control_of(b"rtsp://gw/cam/1", b"1"));
        assert!(!is_control_of(b"rtsp://gw/cam/11", b"1"));
    }
}
