//! Session ids: the gateway issues its own and keeps beside each what the origin calls that session.
//!
//! An origin's id means something together with that origin only, may be short enough to guess, and is
//! the same for two clients of two cameras. So it never reaches a player, nor a player's an origin
//! (RFC 2326 3.4, 16). An origin may give its id in any answer: Wowza and IPTV edges do so in that to
//! OPTIONS or DESCRIBE, and the player echoes it.
//!
//! Pure: the bits that make ids hard to guess are handed in as a key.

use crate::auth::{Secret, digest};

/// Makes the ids of one connection: 128 bits as 32 hexadecimal digits, without dashes, which some
/// players take for the end.
#[derive(Clone, Debug)]
pub struct IdSource {
    key: Secret<[u8; 32]>,
    connection: u64,
    issued: u64,
}

impl IdSource {
    /// For one connection; `key` is random and that of all connections of this run.
    pub fn new(key: [u8; 32], connection: u64) -> Self {
        Self { key: key.into(), connection, issued: 0 }
    }

    /// The next id. Hashed, so that one of them says nothing about the others.
    pub fn issue(&mut self) -> Vec<u8> {
        self.issued += 1;
        let (connection, issued) = (self.connection.to_be_bytes(), self.issued.to_be_bytes());
        let hash = digest::sha256(&[self.key.expose(), b"session", &connection, &issued]);
        let half = hash.get(..16).unwrap_or_default();
        digest::hex(half).as_str().as_bytes().to_vec()
    }
}

/// The pseudonym that is meant by the configured one: where nobody chose another, it carries bits of
/// this run, so that two gateways in a row do not take each other for a loop.
pub fn pseudonym(configured: &str, key: &[u8; 32]) -> String {
    if !configured.is_empty() && configured != PSEUDONYM {
        return configured.to_owned();
    }
    let hash = digest::sha256(&[key, b"pseudonym"]);
    format!("{PSEUDONYM}-{}", digest::hex(hash.get(..4).unwrap_or_default()))
}

/// The configured pseudonym of who configured none.
const PSEUDONYM: &str = "edgeweir";

/// What one session is called on either side.
#[derive(Clone, Debug, Default)]
struct Names {
    ours: Option<Vec<u8>>,
    theirs: Option<Vec<u8>>,
}

/// The ids of the sessions of one connection: the one of today, and the one before it, whose last
/// answers may still come.
#[derive(Debug)]
pub(super) struct Ids {
    source: IdSource,
    number: u32,
    now: Names,
    before: Names,
}

impl Ids {
    pub(super) fn new(source: IdSource) -> Self {
        Self { source, number: 0, now: Names::default(), before: Names::default() }
    }

    /// Which session of the connection this is. A request remembers it, since its answer may come when
    /// the next one has begun.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// The id that the client was told, if it was.
    pub(super) fn ours(&self) -> Option<&[u8]> {
        self.now.ours.as_deref()
    }

    /// Whether this is the id of the client's session.
    pub(super) fn is_ours(&self, id: &[u8]) -> bool {
        self.ours() == Some(id)
    }

    /// Whether the origin gave an id.
    pub(super) fn is_known(&self) -> bool {
        self.now.theirs.is_some()
    }

    /// What the origin calls the session of that number.
    pub(super) fn theirs(&self, number: u32) -> Option<&[u8]> {
        self.names(number)?.theirs.as_deref()
    }

    /// What the client calls the session of that number, whichever id the origin used for it; none:
    /// the client knows of no session.
    pub(super) fn told(&self, number: u32) -> Option<&[u8]> {
        self.names(number)?.ours.as_deref()
    }

    /// What the origin knows by the id that the client says in an answer.
    pub(super) fn meant(&self, ours: &[u8]) -> Option<&[u8]> {
        let named = |names: &&Names| names.ours.as_deref() == Some(ours);
        [&self.now, &self.before].into_iter().find(named)?.theirs.as_deref()
    }

    /// What the client is told where a request of the origin says `theirs`.
    pub(super) fn told_in_request(&self, theirs: &[u8]) -> Option<&[u8]> {
        let named = |names: &&Names| names.theirs.as_deref() == Some(theirs);
        let meant = [&self.now, &self.before].into_iter().find(named).unwrap_or(&self.now);
        meant.ours.as_deref()
    }

    /// The origin agreed to something and said `theirs`. The first id of a session is the session's,
    /// whatever comes later: some cameras issue another for each track.
    pub(super) fn learn(&mut self, theirs: &[u8], number: u32) {
        if number != self.number || theirs.is_empty() || self.now.theirs.is_some() {
            return;
        }
        self.now.theirs = Some(theirs.to_vec());
        if self.now.ours.is_none() {
            self.now.ours = Some(self.source.issue());
        }
    }

    /// Another origin answers from now on: it knows none of this.
    pub(super) fn forget_theirs(&mut self) {
        self.now.theirs = None;
    }

    /// The session is over: what the client was told means nothing any more.
    pub(super) fn over(&mut self) {
        self.number = self.number.wrapping_add(1);
        self.before = core::mem::take(&mut self.now);
    }

    fn names(&self, number: u32) -> Option<&Names> {
        if number == self.number {
            Some(&self.now)
        } else if number.wrapping_add(1) == self.number {
            Some(&self.before)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> Ids {
        Ids::new(IdSource::new([7; 32], 1))
    }

    #[test]
    fn ids_are_32_digits_and_never_the_same() {
        let mut seen = std::collections::HashSet::new();
        for connection in 0..20 {
            let mut source = IdSource::new([7; 32], connection);
            for _ in 0..20 {
                let id = source.issue();
                assert!(id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit));
                assert!(seen.insert(id), "each is issued once");
            }
        }
        let mut other = IdSource::new([8; 32], 0);
        assert!(seen.insert(other.issue()), "another run issues others");
    }

    #[test]
    fn gateways_in_a_row_have_pseudonyms_of_their_own() {
        assert_eq!(pseudonym("gate-7", &[1; 32]), "gate-7");
        let ours = pseudonym("edgeweir", &[1; 32]);
        assert!(ours.starts_with("edgeweir-") && ours.len() == 17, "{ours}");
        assert_eq!(pseudonym("", &[1; 32]), ours, "RTSP/2.0 has one always");
        assert_ne!(pseudonym("edgeweir", &[2; 32]), ours);
    }

    #[test]
    fn each_side_hears_its_own_id_only() {
        let mut ids = ids();
        assert_eq!((ids.ours(), ids.theirs(0), ids.told(0)), (None, None, None));
        ids.learn(b"", 0);
        assert!(!ids.is_known(), "an empty id is none");
        ids.learn(b"A", 0);
        ids.learn(b"B", 0);
        let ours = ids.ours().unwrap().to_vec();
        assert!(ids.is_ours(&ours) && !ids.is_ours(b"A"));
        assert_eq!(ids.theirs(0), Some(&b"A"[..]), "the first one wins");
        assert_eq!((ids.told(0), ids.told(1)), (Some(&ours[..]), None));
        for theirs in [&b"A"[..], b"B"] {
            assert_eq!(ids.told_in_request(theirs), Some(&ours[..]));
        }
    }

    #[test]
    fn late_answers_speak_of_the_session_before() {
        let mut ids = ids();
        ids.learn(b"A", 0);
        let old = ids.ours().unwrap().to_vec();
        ids.over();
        ids.learn(b"A", 0);
        assert!(!ids.is_known(), "an answer of the old session begins no new one");
        ids.learn(b"A", 1);
        assert_ne!(ids.ours().unwrap(), old, "a camera with one id for all has two sessions here");
        assert_eq!((ids.told(0), ids.theirs(0)), (Some(&old[..]), Some(&b"A"[..])));
        ids.over();
        assert_eq!(ids.told(0), None, "two sessions ago");
    }

    #[test]
    fn the_players_id_stays_when_another_origin_takes_over() {
        let mut ids = ids();
        ids.learn(b"A", 0);
        let ours = ids.ours().unwrap().to_vec();
        ids.forget_theirs();
        assert!(ids.is_ours(&ours) && ids.theirs(0).is_none());
        ids.learn(b"B", 0);
        assert_eq!((ids.ours(), ids.theirs(0)), (Some(&ours[..]), Some(&b"B"[..])));
    }
}
