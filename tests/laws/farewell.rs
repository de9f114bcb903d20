//! Each session that an origin granted gets its TEARDOWN, unless the origin itself ended it or hung up:
//! one that nobody ends locks a camera for a minute.

use edgeweir::rtsp::{
    Head, Method,
    framing::{Framer, Progress, Unit},
};

/// What one connection to an origin has seen.
#[derive(Debug, Default)]
pub struct Granted {
    sent: Vec<u8>,
    /// Requests without an answer, by number; and all that there were.
    asked: Vec<u32>,
    ever: Vec<u32>,
    /// It answers what it was not asked: which of its answers is for what is anybody's guess.
    muddled: bool,
    /// SETUPs without an answer: number and URL.
    setups: Vec<(u32, Vec<u8>)>,
    /// What was granted: the session's id, the number of the SETUP, its URL.
    tracks: Vec<(Vec<u8>, u32, Vec<u8>)>,
    /// Other requests within a session: its id and their number.
    used: Vec<(Vec<u8>, u32)>,
    /// TEARDOWNs: the session's id, their number, their URL.
    ended: Vec<(Vec<u8>, u32, Vec<u8>)>,
}

impl Granted {
    /// Bytes that the gateway wrote.
    pub fn wrote(&mut self, bytes: &[u8]) {
        self.sent.extend_from_slice(bytes);
        while let Ok(Progress::Ready(unit)) = Framer::default().next(&self.sent) {
            let bytes: Vec<u8> = self.sent.drain(..unit.len()).collect();
            let Unit::Message { head, .. } = unit else { continue };
            let Ok(head) = Head::parse(&bytes[..head]) else { continue };
            let (Some(number), Some(uri)) = (head.cseq(), head.uri()) else { continue };
            self.asked.push(number);
            self.ever.push(number);
            match head.method() {
                Method::Setup => self.setups.push((number, uri.to_vec())),
                Method::Teardown => {
                    let id = head.session().map(|session| session.id.to_vec());
                    self.ended.push((id.unwrap_or_default(), number, uri.to_vec()));
                }
                _ => {
                    let id = head.session().map(|session| session.id.to_vec());
                    self.used.extend(id.map(|id| (id, number)));
                }
            }
        }
    }

    /// The head of a message that the origin sent.
    pub fn heard(&mut self, head: &[u8]) {
        let Ok(head) = Head::parse(head) else { return };
        let Some(status) = head.status().filter(|status| *status >= 200) else {
            // In 2.0 an origin may tear down too.
            if head.method() == Method::Teardown {
                self.tracks.clear();
            }
            return;
        };
        if status == 454 {
            self.tracks.clear(); // it says itself that it has none
        }
        // One without a number answers the only request that waits.
        let only = self.asked.first().copied().filter(|_| self.asked.len() == 1);
        let number = head.cseq().or(only);
        self.muddled |= number.is_none_or(|number| !self.ever.contains(&number));
        self.asked.retain(|asked| Some(*asked) != number);
        let at = self.setups.iter().position(|(setup, _)| Some(*setup) == number);
        let Some((number, url)) = at.map(|at| self.setups.remove(at)) else { return };
        if let (200..=299, Some(session)) = (status, head.session()) {
            self.tracks.push((session.id.to_vec(), number, url));
        }
    }

    /// The connection is gone; whose sessions were left behind is asked before.
    pub fn closed(&mut self) {
        *self = Self::default();
    }

    /// Sessions that nobody has ended, by id.
    pub fn left(&self) -> Vec<String> {
        if self.muddled {
            return Vec::new();
        }
        // One without an id is meant for the only session that its connection has.
        let of = |end: &(Vec<u8>, u32, Vec<u8>), id: &[u8]| end.0.is_empty() || end.0 == id;
        let ends = |(id, number, url): &&(Vec<u8>, u32, Vec<u8>)| {
            self.ended.iter().filter(|end| of(end, id) && end.1 > *number).any(|end| {
                // The URL of another track ends that one alone where the session goes on.
                let goes_on = self.used.iter().any(|(used, at)| used == id && *at > end.1);
                // One that was ended before is not meant.
                let over = |from: u32| {
                    self.ended.iter().any(|it| of(it, id) && it.1 > from && it.1 < end.1)
                };
                let of_track = self
                    .tracks
                    .iter()
                    .any(|track| track.0 == *id && track.2 == end.2 && !over(track.1));
                end.2 == *url || !of_track || !goes_on
            })
        };
        let mut left: Vec<String> = self
            .tracks
            .iter()
            .filter(|track| !ends(track))
            .map(|(id, ..)| String::from_utf8_lossy(id).into_owned())
            .collect();
        left.dedup();
        left
    }
}
