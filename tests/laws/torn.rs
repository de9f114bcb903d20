//! Each session that an origin granted gets its TEARDOWN: of all its tracks, or one for the whole.

use std::collections::HashMap;

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
}

impl Sessions {
    /// What left for the origin.
    pub fn left(&mut self, bytes: &[u8]) {
        let message = Message::read(bytes);
        let Some(cseq) = message.cseq().filter(|_| message.status().is_none()) else { return };
        let (method, url) = (message.word(0), message.word(1));
        let session = message.session().map(<[u8]>::to_vec);
        self.asked.insert(cseq, (method.to_vec(), url.to_vec(), session));
        if let (b"TEARDOWN", Some(id)) = (method, message.session())
            && let Some(tracks) = self.open.get_mut(id)
        {
            match tracks.iter().position(|track| track == url) {
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
        let Some(status) = message.status().filter(|status| *status >= 200) else { return };
        let asked = message.cseq().and_then(|cseq| self.asked.remove(&cseq));
        let Some((method, url, session)) = asked else { return };
        // A track of a session that is there belongs to that one, whatever the answer says.
        let session = session.or_else(|| message.session().map(<[u8]>::to_vec));
        match (&method[..], status, session) {
            (b"SETUP", 200..=299, Some(id)) => {
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

    /// Nothing more is said to this origin.
    pub fn end(&self) {
        let left: Vec<_> = self.open.keys().map(|id| text(id)).collect();
        assert!(left.is_empty(), "the origin was never told the end of {left:?}");
    }
}
