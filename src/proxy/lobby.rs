//! Sessions whose clients are gone and may come back on another connection.
//!
//! A session's id means something together with its origin only: two cameras may issue the same one
//! to the same client (RFC 2326 3.4). Then the path that is asked for tells which is meant, and when
//! it does not, none is given out: 454 is better than somebody else's pictures.

use core::net::IpAddr;

/// Who waits. Each connection is in it once at most, so it is bounded as they are.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    session: Vec<u8>,
    client: IpAddr,
    path: Vec<u8>,
    connection: u64,
}

impl Lobby {
    /// This connection's session, set up for this path, waits for its client.
    pub(super) fn enter(
        &mut self,
        session: Vec<u8>,
        client: IpAddr,
        path: Vec<u8>,
        connection: u64,
    ) {
        self.leave(connection);
        self.waiting.push(Waiting { session, client, path, connection });
    }

    /// It does no more.
    pub(super) fn leave(&mut self, connection: u64) {
        self.waiting.retain(|waiting| waiting.connection != connection);
    }

    /// The connection that drives the session which a client asks for; it is not found again.
    pub(super) fn find(&mut self, session: &[u8], client: IpAddr, path: &[u8]) -> Option<u64> {
        let mut named: Vec<&Waiting> = self
            .waiting
            .iter()
            .filter(|waiting| waiting.client == client && waiting.session == session)
            .collect();
        if named.len() > 1 {
            named.retain(|waiting| covers(&waiting.path, path));
        }
        let [found] = named[..] else { return None };
        let connection = found.connection;
        self.leave(connection);
        Some(connection)
    }
}

/// Whether a path is that of a presentation or lies below it.
fn covers(presentation: &[u8], path: &[u8]) -> bool {
    let presentation = presentation.strip_suffix(b"/").unwrap_or(presentation);
    path.strip_prefix(presentation)
        .is_some_and(|tail| matches!(tail.first(), None | Some(b'/' | b'?')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7));
    const BERT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 8));

    #[test]
    fn a_session_is_found_once_and_by_its_own_client() {
        let mut lobby = Lobby::default();
        lobby.enter(b"A".to_vec(), ANNA, b"/cam1".to_vec(), 1);
        assert_eq!(lobby.find(b"A", BERT, b"/cam1"), None);
        assert_eq!(lobby.find(b"B", ANNA, b"/cam1"), None);
        assert_eq!(lobby.find(b"A", ANNA, b"*"), Some(1), "one alone needs no path");
        assert_eq!(lobby.find(b"A", ANNA, b"/cam1"), None);
        lobby.enter(b"A".to_vec(), ANNA, b"/cam1".to_vec(), 1);
        lobby.leave(1);
        assert_eq!(lobby.find(b"A", ANNA, b"/cam1"), None);
    }

    #[test]
    fn of_two_origins_with_one_id_the_path_tells_which_is_meant() {
        let mut lobby = Lobby::default();
        lobby.enter(b"1".to_vec(), ANNA, b"/cam1".to_vec(), 1);
        lobby.enter(b"1".to_vec(), ANNA, b"/cam12/".to_vec(), 2);
        assert_eq!(lobby.find(b"1", ANNA, b"/elsewhere"), None);
        assert_eq!(lobby.find(b"1", ANNA, b"/cam12/t1"), Some(2));
        assert_eq!(lobby.find(b"1", ANNA, b"/cam1"), Some(1));
    }

    #[test]
    fn the_same_path_twice_is_nobodys() {
        let mut lobby = Lobby::default();
        lobby.enter(b"1".to_vec(), ANNA, b"/cam1".to_vec(), 1);
        lobby.enter(b"1".to_vec(), ANNA, b"/cam1".to_vec(), 2);
        assert_eq!(lobby.find(b"1", ANNA, b"/cam1"), None);
    }
}
