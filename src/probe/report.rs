//! What a probe found out, for people and for scripts.
//!
//! Not in here: printing; this makes text.

use core::fmt::Write;

use serde::Serialize;

/// The result of a probe, so far or at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// What was played, without user and password.
    pub url: String,
    /// `udp` or `tcp`.
    pub transport: String,
    /// Value of the Server header, at most 64 characters.
    pub server: String,
    /// From the beginning to the answer to PLAY, milliseconds.
    pub setup_ms: u64,
    /// Seconds since PLAY was sent.
    pub seconds: f64,
    /// The tracks, in order of the SDP.
    pub tracks: Vec<TrackReport>,
}

/// One track.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TrackReport {
    /// `video`, `audio`, `application`, …
    pub kind: String,
    /// Encoding name, such as `H264`; empty: unknown.
    pub codec: String,
    /// RTP packets.
    pub packets: u64,
    /// Bytes of RTP.
    pub bytes: u64,
    /// Mean since PLAY.
    pub kbit_per_s: f64,
    /// Missing by the sequence numbers.
    pub lost: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// Times that the sender began anew.
    pub restarts: u64,
    /// Datagrams and frames that were no RTP.
    pub malformed: u64,
    /// Interarrival jitter (RFC 3550), milliseconds.
    pub jitter_ms: f64,
    /// From PLAY to the first packet, milliseconds; none came: absent.
    pub first_packet_ms: Option<u64>,
    /// Marker bits: frames of video, talk spurts of audio.
    pub frames: u64,
    /// RTCP packets.
    pub rtcp: u64,
}

impl Report {
    /// Whether every track of video and audio brought packets; with neither, whether any did.
    pub fn media_flowed(&self) -> bool {
        let is_media = |track: &&TrackReport| matches!(track.kind.as_str(), "video" | "audio");
        let mut media = self.tracks.iter().filter(is_media).peekable();
        match media.peek() {
            Some(_) => media.all(|track| track.packets > 0),
            None => self.tracks.iter().any(|track| track.packets > 0),
        }
    }

    /// A heading and a line for each track.
    pub fn table(&self) -> String {
        let mut text = format!("{HEADING}\n");
        for (number, track) in self.tracks.iter().enumerate() {
            let first = track.first_packet_ms.map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            let codec = if track.codec.is_empty() { "-" } else { &track.codec };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{number:<5} {:<12} {codec:<10} {:>8} {:>10} {:>8.0} {:>6} {:>7} {:>9.2} {first:>8} {:>7}",
                track.kind,
                track.packets,
                track.bytes,
                track.kbit_per_s,
                track.lost,
                track.reordered,
                track.jitter_ms,
                track.frames,
            );
        }
        text
    }

    /// One line for the whole, to be overwritten each second.
    pub fn line(&self) -> String {
        let mut text = format!("{:>5.0} s", self.seconds);
        for track in &self.tracks {
            let _ = write!(
                text,
                "  {}: {} packets, {:.0} kbit/s, {} lost, jitter {:.1} ms",
                track.kind, track.packets, track.kbit_per_s, track.lost, track.jitter_ms
            );
        }
        text
    }
}

const HEADING: &str = "TRACK KIND         CODEC       PACKETS      BYTES   KBIT/S   LOST REORDER JITTER_MS FIRST_MS  FRAMES";

#[cfg(test)]
mod tests {
    use super::*;

    fn report(tracks: &[(&str, u64)]) -> Report {
        let track = |&(kind, packets): &(&str, u64)| TrackReport {
            kind: kind.to_owned(),
            packets,
            ..TrackReport::default()
        };
        Report { tracks: tracks.iter().map(track).collect(), ..Report::default() }
    }

    #[test]
    fn media_flowed_when_every_picture_and_sound_came() {
        for (tracks, flowed) in [
            ([].as_slice(), false),
            (&[("video", 0)], false),
            (&[("video", 1)], true),
            (&[("video", 1), ("audio", 0)], false),
            (&[("video", 1), ("application", 0)], true),
            (&[("application", 1)], true),
        ] {
            assert_eq!(report(tracks).media_flowed(), flowed, "{tracks:?}");
        }
    }

    #[test]
    fn columns_stand_below_their_names() {
        let text = report(&[("video", 12), ("audio", 3)]).table();
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert_eq!(lengths, [HEADING.len(); 3], "{text}");
    }
}
