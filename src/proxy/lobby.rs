//! Sessions whose clients are gone and may come back on another connection, found by the ids that the
//! gateway gave them.

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
    connection: u64,
}

impl Lobby {
    /// This connection's session waits for its client.
    pub(super) fn enter(&mut self, session: Vec<u8>, client: IpAddr, connection: u64) {
        self.leave(connection);
        self.waiting.push(Waiting { session, client, connection });
    }

    /// It does no more.
    pub(super) fn leave(&mut self, connection: u64) {
        self.waiting.retain(|waiting| waiting.connection != connection);
    }

    /// The connection that drives the session which a client asks for; it is not found again.
    pub(super) fn find(&mut self, session: &[u8], client: IpAddr) -> Option<u64> {
        let meant = |waiting: &&Waiting| waiting.client == client && waiting.session == session;
        let connection = self.waiting.iter().find(meant)?.connection;
        self.leave(connection);
        Some(connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANNA: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 7));
    const BERT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 8));

    #[test]
    fn a_session_is_found_once_and_by_its_own_client() {
        let mut lobby = Lobby::default();
        lobby.enter(b"A".to_vec(), ANNA, 1);
        lobby.enter(b"B".to_vec(), ANNA, 2);
        assert_eq!(lobby.find(b"A", BERT), None);
        assert_eq!(lobby.find(b"C", ANNA), None);
        assert_eq!(lobby.find(b"A", ANNA), Some(1));
        assert_eq!(lobby.find(b"A", ANNA), None);
        lobby.enter(b"A".to_vec(), ANNA, 1);
        lobby.leave(1);
        assert_eq!((lobby.find(b"A", ANNA), lobby.find(b"B", ANNA)), (None, Some(2)));
    }
}
