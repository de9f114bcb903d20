//! What players met at an origin that is there and answers: it does not let the gateway in, it does
//! not know the path, it is full, its media does not arrive, its clock is wrong.
//!
//! None of this says that the origin is down, so nothing of it is health: it is for the operator, with
//! the time since when, and what to do. Each trouble is one word that workers share, and is over when
//! what failed has worked.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::{clock::Instant, rtsp::Method};

/// Something that is wrong with an origin that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It refuses the gateway's credentials, or wants some and there are none.
    Password,
    /// It forbids what its routes lead to.
    Forbidden,
    /// It does not know the path that a route leads to.
    Path,
    /// It takes no more sessions.
    Full,
    /// It plays over UDP, and nothing arrives.
    Udp,
    /// It plays over TCP, and sends nothing.
    Media,
    /// Its clock is far from ours.
    Clock,
}

impl Trouble {
    /// All of them, what keeps everybody out first.
    pub const ALL: [Self; 7] = [
        Self::Password,
        Self::Forbidden,
        Self::Path,
        Self::Full,
        Self::Udp,
        Self::Media,
        Self::Clock,
    ];

    /// A word for scripts, as the doctor has it.
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Forbidden => "forbidden",
            Self::Path => "path",
            Self::Full => "full",
            Self::Udp => "udp",
            Self::Media => "no-media",
            Self::Clock => "clock",
        }
    }

    /// What is wrong, with the user that the gateway signs as.
    pub fn text(self, user: Option<&str>) -> String {
        match (self, user) {
            (Self::Password, Some(user)) => format!("it refuses user {user:?} (401)"),
            (Self::Password, None) => "it asks for a user, and none is stored (401)".to_owned(),
            (Self::Forbidden, _) => "it forbids this (403)".to_owned(),
            (Self::Path, _) => "it knows no such path (404)".to_owned(),
            (Self::Full, _) => "it takes no more sessions".to_owned(),
            (Self::Udp, _) => "its media does not arrive over UDP".to_owned(),
            (Self::Media, _) => "it plays and sends no media".to_owned(),
            (Self::Clock, _) => "its clock is wrong".to_owned(),
        }
    }

    /// What to do.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Password => "edgeweir config secret NAME, as its `credentials` say",
            Self::Forbidden => "give its user the right to view, and this address to connect",
            Self::Path => "mend `url` or the route's path; edgeweir doctor asks for it",
            Self::Full => "end other sessions at the camera, or set max_sessions",
            Self::Udp => "let UDP through to gateway.media_ports, or origin_transport = \"tcp\"",
            Self::Media => "does the camera show a picture in its own page?",
            Self::Clock => "set its NTP server and time zone",
        }
    }
}

/// Since when each trouble lasts, in milliseconds and one; 0: it does not.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    since: [AtomicU64; Trouble::ALL.len()],
    /// Mark of the path that is not known: that another one is says nothing of it.
    path: AtomicU64,
}

impl Troubles {
    /// A trouble was met. When it was met before and lasts, its time stays.
    pub(super) fn met(&self, trouble: Trouble, now: Instant) {
        let since = now.as_millis() + 1;
        let _ = self.at(trouble).compare_exchange(0, since, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What had failed has worked.
    pub(super) fn over(&self, trouble: Trouble) {
        let word = self.at(trouble);
        // Read first: what works does so many times a second, and the word is shared.
        if word.load(Ordering::Relaxed) != 0 {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Those that last, with since when.
    pub(super) fn lasting(&self) -> impl Iterator<Item = (Trouble, Instant)> {
        Trouble::ALL.into_iter().filter_map(|trouble| {
            let since = self.at(trouble).load(Ordering::Relaxed).checked_sub(1)?;
            Some((trouble, Instant::from_millis(since)))
        })
    }

    /// Takes in an answer that a player's request or a question of our own had. `fixed` marks
    /// a path that is the configuration's, and no player's guess.
    pub(super) fn told(&self, method: Method, status: u16, fixed: Option<u64>, now: Instant) {
        let opens = matches!(method, Method::Describe | Method::Setup | Method::Announce);
        match status {
            401 => self.met(Trouble::Password, now),
            403 if fixed.is_some() => self.met(Trouble::Forbidden, now),
            404 if method == Method::Describe => {
                let Some(path) = fixed else { return };
                self.met(Trouble::Path, now);
                self.path.store(path, Ordering::Relaxed);
            }
            453 => self.met(Trouble::Full, now),
            503 if opens => self.met(Trouble::Full, now),
            200..=299 if opens => {
                self.over(Trouble::Password);
                self.over(Trouble::Forbidden);
                let known = fixed == Some(self.path.load(Ordering::Relaxed));
                if known && method == Method::Describe {
                    self.over(Trouble::Path);
                }
                if method == Method::Setup {
                    self.over(Trouble::Full);
                }
            }
            _ => {}
        }
    }

    fn at(&self, trouble: Trouble) -> &AtomicU64 {
        let [password, forbidden, path, full, udp, media, clock] = &self.since;
        match trouble {
            Trouble::Password => password,
            Trouble::Forbidden => forbidden,
            Trouble::Path => path,
            Trouble::Full => full,
            Trouble::Udp => udp,
            Trouble::Media => media,
            Trouble::Clock => clock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn lasting(troubles: &Troubles) -> Vec<(Trouble, u64)> {
        troubles.lasting().map(|(trouble, since)| (trouble, since.as_millis())).collect()
    }

    #[test]
    fn a_trouble_lasts_from_its_first_sight_until_what_failed_works() {
        let troubles = Troubles::default();
        troubles.told(Method::Describe, 401, Some(7), at(0));
        troubles.told(Method::Describe, 401, Some(7), at(9_000));
        assert_eq!(lasting(&troubles), [(Trouble::Password, 0)]);
        // That it greets says nothing about the password.
        troubles.told(Method::Options, 200, Some(7), at(10_000));
        assert_eq!(lasting(&troubles), [(Trouble::Password, 0)]);
        troubles.told(Method::Describe, 200, Some(7), at(11_000));
        assert_eq!(lasting(&troubles), []);
        troubles.told(Method::Describe, 401, Some(7), at(12_000));
        assert_eq!(lasting(&troubles), [(Trouble::Password, 12_000)]);
    }

    #[test]
    fn a_path_that_a_player_made_up_is_no_trouble_of_the_camera() {
        let troubles = Troubles::default();
        troubles.told(Method::Describe, 404, None, at(1));
        troubles.told(Method::Describe, 403, None, at(1));
        troubles.told(Method::GetParameter, 404, Some(7), at(1));
        assert_eq!(lasting(&troubles), []);
        troubles.told(Method::Describe, 404, Some(7), at(2));
        troubles.told(Method::Describe, 200, None, at(3));
        troubles.told(Method::Describe, 200, Some(8), at(3));
        assert_eq!(lasting(&troubles), [(Trouble::Path, 2)], "another path is there");
        troubles.told(Method::Describe, 200, Some(7), at(4));
        assert_eq!(lasting(&troubles), []);
    }

    #[test]
    fn a_full_camera_is_one_until_it_takes_a_session() {
        let troubles = Troubles::default();
        for status in [453, 503] {
            troubles.told(Method::Setup, status, None, at(1));
            troubles.told(Method::Describe, 200, None, at(2));
            assert_eq!(lasting(&troubles), [(Trouble::Full, 1)], "describing is no session");
            troubles.told(Method::Setup, 200, None, at(3));
            assert_eq!(lasting(&troubles), []);
        }
    }

    #[test]
    fn each_is_told_in_words_with_what_to_do() {
        for trouble in Trouble::ALL {
            for text in [trouble.text(None), trouble.remedy().to_owned()] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
            }
        }
        assert_eq!(Trouble::Password.text(Some("admin")), "it refuses user \"admin\" (401)");
    }
}
