//! What the camera says about itself: its SDP (RFC 8866).
//!
//! Not in here: reading SDP.

use core::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    h264::{Encoder, PROFILE_LEVEL},
    rtp::{AUDIO_CLOCK, PT_H264, PT_PCMU, VIDEO_CLOCK},
};

/// The SDP of a camera of this name at this address.
pub(super) fn describe(name: &str, local: IpAddr, fps: u32, audio: bool) -> String {
    let family = if local.is_ipv4() { "IP4" } else { "IP6" };
    let any = if local.is_ipv4() { "0.0.0.0" } else { "::" };
    let sps = STANDARD.encode(Encoder::new(fps, 0).sps());
    let pps = STANDARD.encode(Encoder::pps());
    let [profile, constraints, level] = PROFILE_LEVEL;
    let mut sdp = format!(
        "v=0\r\no=- 1 1 IN {family} {local}\r\ns={name}\r\nc=IN {family} {any}\r\nt=0 0\r\n\
         a=tool:edgeweir camera\r\na=range:npt=now-\r\na=control:*\r\n\
         m=video 0 RTP/AVP {PT_H264}\r\na=rtpmap:{PT_H264} H264/{VIDEO_CLOCK}\r\n\
         a=fmtp:{PT_H264} packetization-mode=1;profile-level-id={profile:02X}{constraints:02X}\
         {level:02X};sprop-parameter-sets={sps},{pps}\r\n\
         a=framerate:{fps}\r\na=control:trackID=0\r\n"
    );
    if audio {
        sdp.push_str(&format!(
            "m=audio 0 RTP/AVP {PT_PCMU}\r\na=rtpmap:{PT_PCMU} PCMU/{AUDIO_CLOCK}\r\n\
             a=ptime:20\r\na=control:trackID=1\r\n"
        ));
    }
    sdp
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_session_names_its_tracks_and_how_to_decode_them() {
        let sdp = describe("front door", Ipv4Addr::LOCALHOST.into(), 25, true);
        for line in [
            "s=front door",
            "m=video 0 RTP/AVP 96",
            "a=control:trackID=0",
            "m=audio 0 RTP/AVP 0",
            "a=control:trackID=1",
        ] {
            assert!(sdp.lines().any(|it| it == line), "{line}");
        }
        assert!(sdp.contains("profile-level-id=42C01E;sprop-parameter-sets=Z0LAH"));
        assert!(!describe("x", Ipv4Addr::LOCALHOST.into(), 25, false).contains("audio"));
    }
}
