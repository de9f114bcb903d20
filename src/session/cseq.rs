//! Outstanding requests of one direction, matched by CSeq and answered in order.
//!
//! Each connection and direction has a series of its own. Toward the peer that answers, requests
//! carry our numbers; toward the one that asked, answers carry its own, spelled as it spelled them.
//! Answers leave in the order of the requests (RFC 7826 10.2), whatever order they came in.

use std::collections::VecDeque;

use crate::{clock::Instant, limits::OUTSTANDING_MAX, rtsp::Method};

/// One request that has not been answered.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// CSeq as the asker wrote it.
    pub(super) asked: Vec<u8>,
    /// CSeq of ours that the request went out with; none until it is sent.
    pub(super) sent: Option<u32>,
    /// Its method.
    pub(super) method: Method,
    /// The request as it came in, kept until it is answered: it may have to go out again. Without its
    /// body once that is not so any more.
    pub(super) raw: Vec<u8>,
    /// When it must be answered.
    pub(super) due: Instant,
    /// What else has to be remembered for it.
    pub(super) note: T,
    answer: Option<Vec<u8>>,
    /// Whoever asked is gone: the answer is not for the next one.
    silent: bool,
}

/// The requests of one direction, oldest first.
#[derive(Debug)]
pub(super) struct Outstanding<T> {
    pending: VecDeque<Pending<T>>,
    next: u32,
}

impl<T> Default for Outstanding<T> {
    fn default() -> Self {
        Self { pending: VecDeque::new(), next: 1 }
    }
}

impl<T> Outstanding<T> {
    /// Whether one more may come in.
    pub(super) fn has_room(&self) -> bool {
        self.pending.len() < OUTSTANDING_MAX
    }

    /// None waits for an answer.
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Bytes of the requests kept.
    pub(super) fn kept_bytes(&self) -> usize {
        self.pending.iter().map(|pending| pending.raw.len()).sum()
    }

    /// Takes in a request.
    pub(super) fn push(&mut self, asked: &[u8], method: Method, raw: &[u8], due: Instant, note: T) {
        self.pending.push_back(Pending {
            asked: asked.to_vec(),
            sent: None,
            method,
            raw: raw.to_vec(),
            due,
            note,
            answer: None,
            silent: false,
        });
    }

    /// The next number of our series.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1).max(1);
        number
    }

    /// The request that was sent with this number and is not answered yet. A peer that leaves CSeq
    /// out is believed when only one answer can be meant.
    pub(super) fn find(&self, cseq: Option<u32>) -> Option<usize> {
        let mut open = self.open();
        match cseq {
            Some(cseq) => open.find(|(_, pending)| pending.sent == Some(cseq)).map(|(at, _)| at),
            None => {
                let only = open.find(|(_, pending)| pending.sent.is_some())?.0;
                open.all(|(_, pending)| pending.sent.is_none()).then_some(only)
            }
        }
    }

    /// The places and numbers of requests that were sent and are not answered yet.
    pub(super) fn awaited(&self) -> impl Iterator<Item = (usize, u32)> {
        self.open().filter_map(|(at, pending)| Some((at, pending.sent?)))
    }

    /// Requests not answered yet, oldest first, with their places.
    pub(super) fn open(&self) -> impl Iterator<Item = (usize, &Pending<T>)> {
        self.pending.iter().enumerate().filter(|(_, pending)| pending.answer.is_none())
    }

    /// The request at a place.
    pub(super) fn get(&self, at: usize) -> Option<&Pending<T>> {
        self.pending.get(at)
    }

    /// The request at a place.
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Pending<T>> {
        self.pending.get_mut(at)
    }

    /// The newest request.
    pub(super) fn last_mut(&mut self) -> Option<(usize, &mut Pending<T>)> {
        let at = self.pending.len().checked_sub(1)?;
        Some((at, self.pending.get_mut(at)?))
    }

    /// Notes the answer to a request; [`Outstanding::ready`] gives it out when its turn comes.
    pub(super) fn answer(&mut self, at: usize, bytes: Vec<u8>) {
        if let Some(pending) = self.pending.get_mut(at) {
            pending.raw = Vec::new();
            pending.answer = Some(if pending.silent { Vec::new() } else { bytes });
        }
    }

    /// Whoever asked is gone: what was asked so far gets empty answers.
    pub(super) fn silence(&mut self) {
        for pending in &mut self.pending {
            pending.silent = true;
            pending.answer = pending.answer.take().map(|_| Vec::new());
        }
    }

    /// The next answer whose turn has come.
    pub(super) fn ready(&mut self) -> Option<Vec<u8>> {
        self.pending.front()?.answer.as_ref()?;
        self.pending.pop_front()?.answer
    }

    /// What is not answered may take until then: it cannot be heard now.
    pub(super) fn put_off(&mut self, until: Instant) {
        for pending in self.pending.iter_mut().filter(|pending| pending.answer.is_none()) {
            pending.due = pending.due.max(until);
        }
    }

    /// When the first of the unanswered is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open().map(|(_, pending)| pending.due).min()
    }
}

/// How an origin numbers its answers, where the number is that of no request. One such answer can only
/// be meant for the one request that is open, if it has no number, or 0, or is one behind from the first
/// request on; a late answer to a request that was given up is not.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    first: Option<u32>,
    one_behind: bool,
}

impl Numbering {
    /// A request went out.
    pub(super) fn sent(&mut self, number: u32) {
        self.first.get_or_insert(number);
    }

    /// Whether an answer with this number is that to the only request which is open.
    pub(super) fn means(&mut self, said: Option<u32>, only: u32) -> bool {
        if said.is_some_and(|said| said.wrapping_add(1) == only) {
            self.one_behind |= self.first == Some(only);
            return self.one_behind || said == Some(0);
        }
        said.is_none_or(|said| said == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outstanding(count: u32) -> Outstanding<()> {
        let mut all = Outstanding::default();
        for at in 0..count {
            let asked = (at + 70).to_string();
            all.push(asked.as_bytes(), Method::Options, b"", Instant::START, ());
            let number = all.number();
            all.get_mut(at as usize).unwrap().sent = Some(number);
        }
        all
    }

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let mut all = outstanding(3);
        let third = all.find(Some(3)).unwrap();
        all.answer(third, b"third".to_vec());
        assert_eq!(all.ready(), None, "two older ones are open");
        let first = all.find(Some(1)).unwrap();
        all.answer(first, b"first".to_vec());
        assert_eq!(all.ready().as_deref(), Some(&b"first"[..]));
        assert_eq!(all.ready(), None);
        let second = all.find(Some(2)).unwrap();
        all.answer(second, b"second".to_vec());
        assert_eq!(all.ready().as_deref(), Some(&b"second"[..]));
        assert_eq!(all.ready().as_deref(), Some(&b"third"[..]));
    }

    #[test]
    fn an_answer_counts_once() {
        let mut all = outstanding(2);
        let second = all.find(Some(2)).unwrap();
        all.answer(second, b"x".to_vec());
        assert_eq!(all.find(Some(2)), None);
        assert_eq!(all.find(Some(9)), None, "never sent");
    }

    #[test]
    fn an_answer_without_cseq_is_believed_when_only_one_can_be_meant() {
        assert_eq!(outstanding(1).find(None), Some(0));
        assert_eq!(outstanding(2).find(None), None);
    }

    #[test]
    fn an_answer_one_behind_is_believed_from_the_first_request_on_only() {
        let mut behind = Numbering::default();
        behind.sent(7);
        assert!(!behind.means(Some(5), 7));
        assert!(behind.means(Some(6), 7) && behind.means(Some(7), 8));
        let mut other = Numbering::default();
        other.sent(7);
        assert!(!other.means(Some(7), 8), "it is late");
        assert!(other.means(Some(0), 8) && other.means(None, 8));
        let mut zero = Numbering::default();
        zero.sent(1);
        assert!(zero.means(Some(0), 1) && zero.means(Some(0), 2));
    }

    #[test]
    fn ten_requests_are_taken_and_not_eleven() {
        let bound = u32::try_from(OUTSTANDING_MAX).unwrap();
        assert!(outstanding(bound - 1).has_room());
        assert!(!outstanding(bound).has_room());
    }
}
