//! The tracks of a session: for each, how its media travels on the client's side and on the
//! origin's, and which interleaved channel stands for it on either connection.
//!
//! The origin may choose other channels than were asked for, and a client its own: hence a map for
//! each side (RFC 2326 10.12).

use core::net::IpAddr;

use heapless::Vec as Bounded;

use super::{Flow, Side, Wish};
use crate::{limits::TRACKS_MAX, rtsp::resync::Channels};

/// How a track travels on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leg {
    /// Datagrams to and from these ports of the peer.
    Udp {
        /// The peer's address where it named another than its connection's.
        ip: Option<IpAddr>,
        /// RTP port; 0: not announced, to be learned.
        rtp: u16,
        /// RTCP port; 0: not announced, to be learned.
        rtcp: u16,
    },
    /// Frames on these channels of the RTSP connection.
    Tcp {
        /// Channel of RTP.
        rtp: u8,
        /// Channel of RTCP.
        rtcp: u8,
    },
}

impl Leg {
    /// `udp` or `tcp`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Udp { .. } => "udp",
            Self::Tcp { .. } => "tcp",
        }
    }

    /// Whether it is interleaved.
    pub fn is_tcp(&self) -> bool {
        matches!(self, Self::Tcp { .. })
    }

    /// Whether its frames go on this channel.
    pub(super) fn is_on(&self, channel: u8) -> bool {
        self.flow(channel).is_some()
    }

    fn flow(&self, channel: u8) -> Option<Flow> {
        match *self {
            Self::Tcp { rtp, .. } if rtp == channel => Some(Flow::Rtp),
            Self::Tcp { rtcp, .. } if rtcp == channel => Some(Flow::Rtcp),
            _ => None,
        }
    }
}

/// Both sides of a track: what the shell needs to relay it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Toward the client.
    pub client: Leg,
    /// Toward the origin.
    pub origin: Leg,
}

/// One track that was set up.
#[derive(Clone, Debug)]
pub struct Track {
    /// Its number in the session, also that of its pipe.
    pub id: u8,
    /// The URL that the client sets it up with.
    pub url: Vec<u8>,
    /// How it travels.
    pub plan: Plan,
    /// Whether silence of it is a fault: not so for metadata, which comes when something happens.
    pub steady: bool,
}

/// Where an interleaved frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To the other connection, on this channel.
    Frame(u8),
    /// Out of the track's UDP pair on the other side.
    Datagram(u8, Flow),
}

/// The tracks of one session.
#[derive(Debug, Default)]
pub struct Tracks {
    all: Bounded<Track, TRACKS_MAX>,
}

impl Tracks {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Track> {
        self.all.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// None is set up.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The one that is set up with this URL.
    pub fn by_url(&self, url: &[u8]) -> Option<&Track> {
        self.all.iter().find(|track| track.url == url)
    }

    /// The one whose place a SETUP of this URL takes: the same, or one that differs in its query alone and
    /// travels to the same ports or channels. SAT>IP players change the channel like that, and a second
    /// track of a session never shares the first one's.
    pub(super) fn replaced(&self, url: &[u8], wish: Wish) -> Option<&Track> {
        let same = |track: &&Track| {
            let here = match (track.plan.client, wish) {
                (Leg::Udp { rtp, rtcp, .. }, Wish::Udp { rtp: a, rtcp: b }) => {
                    [rtp, rtcp] == [a, b]
                }
                (Leg::Tcp { rtp, rtcp }, Wish::Tcp(Some(asked))) => [rtp, rtcp] == asked,
                _ => false,
            };
            here && without_query(&track.url) == without_query(url)
        };
        self.by_url(url).or_else(|| self.all.iter().find(same))
    }

    /// The lowest number that no track has.
    pub fn free_id(&self, taken: impl Fn(u8) -> bool) -> Option<u8> {
        (0..TRACKS_MAX as u8).find(|id| !taken(*id) && self.all.iter().all(|t| t.id != *id))
    }

    /// Adds a track, or puts it in place of the one with the same number.
    pub fn put(&mut self, track: Track) -> Result<(), Track> {
        match self.all.iter_mut().find(|old| old.id == track.id) {
            Some(old) => {
                *old = track;
                Ok(())
            }
            None => self.all.push(track),
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, id: u8) -> Option<Track> {
        let at = self.all.iter().position(|track| track.id == id)?;
        Some(self.all.remove(at))
    }

    /// Where a frame that came in on this channel goes, and what it carries.
    pub fn route(&self, from: Side, channel: u8) -> Option<(Flow, Route)> {
        self.all.iter().find_map(|track| {
            let (here, there) = match from {
                Side::Client => (&track.plan.client, &track.plan.origin),
                Side::Origin => (&track.plan.origin, &track.plan.client),
            };
            let flow = here.flow(channel)?;
            let route = match (*there, flow) {
                (Leg::Tcp { rtp, .. }, Flow::Rtp) => Route::Frame(rtp),
                (Leg::Tcp { rtcp, .. }, Flow::Rtcp) => Route::Frame(rtcp),
                (Leg::Udp { .. }, flow) => Route::Datagram(track.id, flow),
            };
            Some((flow, route))
        })
    }

    /// The channels on which frames of that side come in.
    pub fn channels(&self, from: Side) -> Channels {
        let legs = self.all.iter().map(|track| match from {
            Side::Client => track.plan.client,
            Side::Origin => track.plan.origin,
        });
        legs.fold(Channels::default(), |all, leg| match leg {
            Leg::Tcp { rtp, rtcp } => all.with(rtp).with(rtcp),
            Leg::Udp { .. } => all,
        })
    }

    /// The channel on which a datagram of this track goes to that side.
    pub fn channel(&self, to: Side, id: u8, flow: Flow) -> Option<u8> {
        let track = self.all.iter().find(|track| track.id == id)?;
        let leg = match to {
            Side::Client => track.plan.client,
            Side::Origin => track.plan.origin,
        };
        match (leg, flow) {
            (Leg::Tcp { rtp, .. }, Flow::Rtp) => Some(rtp),
            (Leg::Tcp { rtcp, .. }, Flow::Rtcp) => Some(rtcp),
            (Leg::Udp { .. }, _) => None,
        }
    }

    /// Whether the client uses one of these channels already.
    pub fn client_uses(&self, channels: [u8; 2], except: u8) -> bool {
        self.all
            .iter()
            .filter(|track| track.id != except)
            .any(|track| channels.iter().any(|c| track.plan.client.is_on(*c)))
    }
}

/// A URL's path, and what Dahua's cameras put behind the query to name a track.
fn without_query(url: &[u8]) -> (&[u8], &[u8]) {
    let (path, query) =
        url.split_at(url.iter().position(|byte| *byte == b'?').unwrap_or(url.len()));
    let track = query.iter().rposition(|byte| *byte == b'/');
    (path, track.and_then(|at| query.get(at..)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: Leg = Leg::Udp { ip: None, rtp: 5000, rtcp: 5001 };

    fn track(id: u8, client: Leg, origin: Leg) -> Track {
        let url = format!("rtsp://gw/cam/{id}").into_bytes();
        Track { id, url, plan: Plan { client, origin }, steady: true }
    }

    #[test]
    fn each_side_has_its_own_channels() {
        let mut tracks = Tracks::default();
        let client = Leg::Tcp { rtp: 0, rtcp: 1 };
        let origin = Leg::Tcp { rtp: 8, rtcp: 11 };
        tracks.put(track(0, client, origin)).unwrap();
        tracks.put(track(1, Leg::Tcp { rtp: 2, rtcp: 3 }, UDP)).unwrap();
        tracks.put(track(2, UDP, Leg::Tcp { rtp: 0, rtcp: 1 })).unwrap();
        let route = |from, channel| tracks.route(from, channel).map(|(_, route)| route);
        assert_eq!(route(Side::Origin, 8), Some(Route::Frame(0)));
        assert_eq!(route(Side::Origin, 11), Some(Route::Frame(1)));
        assert_eq!(route(Side::Client, 1), Some(Route::Frame(11)));
        assert_eq!(route(Side::Client, 3), Some(Route::Datagram(1, Flow::Rtcp)));
        assert_eq!(route(Side::Origin, 0), Some(Route::Datagram(2, Flow::Rtp)));
        assert_eq!(route(Side::Client, 8), None, "not negotiated on this side");
        assert_eq!(tracks.channel(Side::Client, 1, Flow::Rtp), Some(2));
    }

    #[test]
    fn a_setup_with_another_query_takes_the_place_of_its_track_and_of_no_other() {
        let mut tracks = Tracks::default();
        for (id, url) in [(0, "rtsp://gw/s=1?f=1"), (1, "rtsp://gw/cam?c=1/trackID=0")] {
            let url = url.as_bytes().to_vec();
            let plan = Plan { client: UDP, origin: UDP };
            tracks.put(Track { id, url, plan, steady: true }).unwrap();
        }
        let replaced = |url: &str, rtp: u16| {
            let wish = Wish::Udp { rtp, rtcp: rtp + 1 };
            tracks.replaced(url.as_bytes(), wish).map(|track| track.id)
        };
        assert_eq!(replaced("rtsp://gw/s=1?f=2", 5000), Some(0));
        assert_eq!(replaced("rtsp://gw/s=1?f=2", 6000), None, "another track of the presentation");
        assert_eq!(replaced("rtsp://gw/s=1?f=1", 6000), Some(0), "the same track");
        assert_eq!(replaced("rtsp://gw/cam?c=1/trackID=1", 5000), None);
    }

    #[test]
    fn sixteen_tracks_fit_and_not_seventeen() {
        let mut tracks = Tracks::default();
        for id in 0..TRACKS_MAX as u8 {
            assert_eq!(tracks.free_id(|_| false), Some(id));
            tracks.put(track(id, UDP, UDP)).unwrap();
        }
        assert_eq!(tracks.free_id(|_| false), None);
        assert!(tracks.put(track(200, UDP, UDP)).is_err());
    }
}
