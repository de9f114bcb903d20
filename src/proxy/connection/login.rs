//! Who the client is, asked of the verifier or of a plugin, and what wrong passwords cost: how often
//! an address may try ([`crate::proxy::guesses`]), and the connection when there were too many.

use log::warn;

use super::{
    Inner,
    later::{Later, Task},
};
use crate::{
    config::Auth,
    limits::WRONG_PASSWORDS_A_CONNECTION,
    logger::seldom,
    peer::Peer,
    pipe::Worker,
    proxy::shared::lock,
    rtsp::Head,
    session::{Fault, Input},
};

impl Inner {
    /// Answers [`crate::session::Output::Authenticate`]. `again`: the request has waited for its
    /// turn once.
    pub(super) fn log_in(&mut self, scheme: Auth, again: bool, worker: &Worker) {
        let (now, peer) = (worker.now(), Peer::of(self.client_addr.ip()));
        let presents = self.presents_credentials();
        if presents && let Err(at) = lock(&self.shared.guesses).may_check(peer, now) {
            if again {
                return self.session.handle(Input::Unchecked(Fault::Guessing), now);
            }
            self.later = Some(Later { at, what: Task::Check(scheme) });
            return;
        }
        self.wrong_user = None;
        let verdict = match scheme {
            Auth::Plugin(slot) => self.ask_authenticator(slot, worker),
            scheme => self.authenticate(scheme, now),
        };
        // Whoever signs with a nonce that has aged is asked again, and was not wrong.
        let challenged =
            matches!(scheme, Auth::Plugin(_)) && matches!(verdict, Input::Challenge(_));
        let wrong = self.wrong_user.take().or_else(|| challenged.then(String::new));
        match wrong {
            Some(user) if presents => self.wrong_password(&user, verdict, worker),
            _ => {
                if presents && matches!(verdict, Input::Granted { .. } | Input::GrantedFor(_)) {
                    lock(&self.shared.guesses).right(peer, now);
                }
                self.session.handle(verdict, now);
            }
        }
    }

    /// Its answer comes later, and is the last one after a few.
    fn wrong_password(&mut self, user: &str, verdict: Input, worker: &Worker) {
        let (now, addr) = (worker.now(), self.client_addr);
        self.shared.count("auth_wrong_passwords");
        let ip = addr.ip().to_canonical().to_string();
        if let Some(more) = seldom::once_a_minute("auth_wrong_passwords", &ip) {
            let user: String = user.chars().take(64).collect();
            warn!("{}: {addr}: wrong password of user {user:?}{more}", self.entry.id);
        }
        let after = lock(&self.shared.guesses).wrong(Peer::of(addr.ip()), now);
        self.wrong_passwords = self.wrong_passwords.saturating_add(1);
        self.later = Some(Later { at: now + after, what: Task::Answer(verdict) });
    }

    /// Gives an answer that was held back.
    pub(super) fn answer_late(&mut self, verdict: Input, worker: &Worker) {
        let now = worker.now();
        self.session.handle(verdict, now);
        if self.wrong_passwords >= WRONG_PASSWORDS_A_CONNECTION {
            self.session.handle(Input::End(Fault::WrongPasswords), now);
        }
    }

    fn presents_credentials(&self) -> bool {
        let Some((raw, head)) = self.session.deciding() else { return false };
        let head = Head::parse(raw.get(..head).unwrap_or_default());
        head.is_ok_and(|head| head.header("Authorization").is_some())
    }
}
