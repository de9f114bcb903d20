//! Which request an answer of the origin is for.

use super::Session;

/// Who asked what an origin answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The client.
    Client,
    /// The gateway itself.
    Gateway,
}

impl Session {
    /// The request that an answer with this number is for, and its place: the one with the number, or
    /// the only one that is open, where no other can be meant.
    pub(super) fn meant(&mut self, cseq: Option<u32>) -> Option<(Asked, usize)> {
        let client = self.requests.find(cseq).map(|at| (Asked::Client, at));
        let named = client.or_else(|| Some((Asked::Gateway, self.own.find(cseq)?)));
        let late = cseq.is_some_and(|cseq| self.given_up.contains(&cseq));
        if named.is_some() || late {
            return named;
        }
        let client = self.requests.awaited().map(|(at, number)| (Asked::Client, at, number));
        let gateway = self.own.awaited().map(|(at, number)| (Asked::Gateway, at, number));
        let mut open = client.chain(gateway);
        let (who, at, number) = open.next()?;
        if open.next().is_some() {
            return None;
        }
        drop(open);
        self.numbering.means(cseq, number).then_some((who, at))
    }
}
