//! Who sets the pace: the origin's clock, or the player.
//!
//! Live media comes when it comes, and a player that does not keep up loses some of it. A recording
//! that is played with `Rate-Control: no` (ONVIF streaming 5.3: export, fast search, steps) comes as fast
//! as it is read, and is to be had whole. Over TCP on both sides the gateway then reads the origin no
//! faster than the player reads: what waits in the kernel tells the origin. The origin's answers come
//! behind its media, as they would without a gateway; so they are not overdue, and its silence is
//! none, while it is not read. What the player asks goes up all the while.

use super::{Session, State, Track, client::head_len};
use crate::{clock::Instant, limits::PACED_QUEUE_BYTES, rtsp::Head};

/// Whether a PLAY says that the player sets the pace.
fn asks(head: &Head<'_>) -> bool {
    head.header("Rate-Control").is_some_and(|header| header.value.eq_ignore_ascii_case(b"no"))
}

/// Whether the answer says that the origin keeps its own pace all the same.
fn declines(head: &Head<'_>) -> bool {
    head.header("Rate-Control").is_some_and(|header| header.value.eq_ignore_ascii_case(b"yes"))
}

impl Session {
    /// The PLAY at this place was answered with success.
    pub(super) fn set_pace(&mut self, at: usize, answer: &Head<'_>) {
        let asked = self.requests.get(at).is_some_and(|pending| {
            let head = head_len(&pending.raw).and_then(|len| pending.raw.get(..len));
            head.and_then(|head| Head::parse(head).ok()).is_some_and(|head| asks(&head))
        });
        let tcp = |track: &Track| track.plan.client.is_tcp() && track.plan.origin.is_tcp();
        let frames = self.tracks.iter().all(tcp);
        self.pace(self.state == State::Playing && frames && asked && !declines(answer));
    }

    /// The player sets the pace, or does no more.
    pub(super) fn pace(&mut self, paced: bool) {
        self.paced = paced;
        self.to_client.keep_all(paced);
    }

    /// The origin is not to be read: its player has enough.
    pub(super) fn holds_origin(&self) -> bool {
        self.paced && self.ended.is_none() && self.to_client.media_bytes() >= PACED_QUEUE_BYTES
    }

    /// What the origin says comes behind its media, or cannot be heard now: nothing of it is late.
    pub(super) fn excuse_origin(&mut self, now: Instant) {
        let held = self.holds_origin();
        if held || self.paced && now < self.last_media + self.around.answer_timeout {
            let later = now + self.around.answer_timeout;
            self.requests.put_off(later);
            self.own.put_off(later);
        }
        if held {
            self.last_media = now;
        }
    }
}
