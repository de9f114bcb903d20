//! Each session that an origin granted gets its TEARDOWN: of all its tracks, or one for the whole.

use std::collections::{HashMap, HashSet};

use super::message::{Message, text};

/// A request: method, URL, session.
type Asked = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

/// What is open at the origin of one connection.
#[derive(Default)]
pub struct Sessions {
    /// Requests on their way: what the origin may answer, by CSeq.
    asked: HashMap<u32, Asked>,
    /// Tracks that were granted, by session.
    open: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    /// Sessions that the gateway has ended for good: an origin that adds to them wants no second word.
    told: HashSet<Vec<u8>>,
    /// No client is there: what the gateway ends it ends as a whole, by whatever URL.
    pub alone: bool,
}

impl Sessions {
    /// What left for the origin.
    pub fn left(&mut self, bytes: &[u8]) {
        let message = Message::read(bytes);
        let Some(cseq) = message.cseq().filter(|_| message.status().is_none()) else { return };
        let (method, url) = (message.word(0), message.word(1));
        let session = message.session().map(<[u8]>::to_vec);
        self.asked.insert(cseq, (method.to_vec(), url.to_vec(), session));
        if method != b"TEARDOWN" {
            return;
        }
        // Without an id it is for what the connection has.
        let Some(id) = message.session() else { return self.open.clear() };
        if self.alone {
            self.told.insert(id.to_vec());
        }
        if let Some(tracks) = self.open.get_mut(id) {
            let track = tracks.iter().position(|track| track == url);
            let aggregate = track.is_none() || tracks.iter().all(|track| track.starts_with(url));
            match track.filter(|_| !aggregate && !self.alone) {
                Some(at) => drop(tracks.swap_remove(at)),
                None => tracks.clear(),
            }
            if tracks.is_empty() {
                self.open.remove(id);
            }
        }
    }

    /// What the origin said.
    pub fn came(&mut self, bytes: &[u8]) {
        let message = Message::read(bytes);
        // RFC 7826 13.7.2: the origin ends a session itself.
        if let (b"TEARDOWN", Some(id)) = (message.word(0), message.session()) {
            self.open.remove(id);
        }
        let Some(status) = message.status().filter(|status| *status >= 200) else { return };
        let asked = message.cseq().and_then(|cseq| self.asked.remove(&cseq));
        let Some((method, url, session)) = asked else { return };
        // A track of a session that is there belongs to that one; where the answer names another,
        // nobody can say which of them the origin keeps.
        let answered = message.session().map(<[u8]>::to_vec);
        let session = match &method[..] {
            b"SETUP" if session.is_some() && answered.is_some() && session != answered => return,
            b"SETUP" => session.or(answered),
            _ => session,
        };
        match (&method[..], status, session) {
            (b"SETUP", 200..=299, Some(id)) if !self.told.contains(&id) => {
                let tracks = self.open.entry(id).or_default();
                if !tracks.contains(&url) {
                    tracks.push(url);
                }
            }
            // It knows of no session any more.
            (_, 454, _) => self.open.clear(),
            _ => {}
        }
    }

    /// Nothing can be said to this origin any more.
    pub fn lost(&mut self) {
        self.asked.clear();
        self.open.clear();
    }

    /// Nothing more is said to this origin.
    pub fn end(&self) {
        let left: Vec<_> = self.open.keys().map(|id| text(id)).collect();
        assert!(left.is_empty(), "the origin was never told the end of {left:?}");
    }
}
