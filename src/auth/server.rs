//! The gateway asks players who they are.
//!
//! Nonces are stateless: `time | MAC(key, time, client's address)`, so nothing is kept for a
//! client that was only challenged, and a nonce serves its address only. It lives for 5 minutes;
//! a right answer over an old nonce (or one of an earlier run of the gateway) is challenged with
//! `stale=true`, which a player answers without asking its user again.
//!
//! What is deliberately absent: `nc` is not tracked, so who can read a connection and send from
//! its address can repeat a request within those 5 minutes. RTSP here is clear text, such a one
//! can also take over the connection itself; a count for each nonce would buy nothing.
//!
//! The signed `uri` must be the path of the request or a leading part of it: players name the
//! gateway by another host than the request line does, and live555 (VLC) signs every request,
//! SETUP of a track included, with the presentation URL.

use core::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    digest::{self, Algorithm, Challenge, Counted, same},
    secret::Secret,
};
pub use crate::config::secrets::REALM;
use crate::{
    clock::Instant,
    config::{Auth, secrets::User},
    limits::NONCE_LIFETIME_MS,
};

/// A user: the hashes of `name:edgeweir:password`, never the password.
#[derive(Clone, Debug)]
pub struct Account {
    /// Name, without a colon.
    pub name: String,
    /// MD5 of `name:realm:password`.
    pub ha1_md5: Secret<[u8; 16]>,
    /// SHA-256 of the same.
    pub ha1_sha256: Secret<[u8; 32]>,
}

impl Account {
    /// The account of a user with this password.
    pub fn new(name: &str, password: &str) -> Self {
        let parts = [name.as_bytes(), REALM.as_bytes(), password.as_bytes()];
        Self {
            name: name.to_owned(),
            ha1_md5: digest::md5(&parts).into(),
            ha1_sha256: digest::sha256(&parts).into(),
        }
    }

    fn ha1(&self, algorithm: Algorithm) -> digest::Hex {
        match algorithm {
            Algorithm::Md5 => digest::hex(self.ha1_md5.expose()),
            Algorithm::Sha256 => digest::hex(self.ha1_sha256.expose()),
        }
    }
}

/// What a request is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may pass.
    Granted {
        /// Who sent it; empty where nobody is asked.
        user: String,
    },
    /// 401 with these values of WWW-Authenticate, each in a header of its own, in this order.
    Challenge(Vec<String>),
    /// The password is wrong: 401 with these values, and somebody should count.
    Wrong {
        /// Whose it was to be, as the client says.
        user: String,
        /// As in [`Decision::Challenge`].
        challenge: Vec<String>,
    },
    /// The Authorization makes no sense (past its bounds, not to be parsed, signed for another
    /// path): 400, as RFC 7616 section 3.4.6 wants it.
    Refused,
}

/// Checks the requests of players.
#[derive(Debug)]
pub struct Verifier {
    users: Vec<Account>,
    /// Stands in for a user that does not exist, so that finding out takes as long.
    nobody: Account,
    key: Secret<[u8; 32]>,
}

impl Verifier {
    /// Checks against `users`. `key` signs nonces: 32 random bytes, anew for each run (times are
    /// counted from the start of the program).
    pub fn new(users: Vec<Account>, key: [u8; 32]) -> Self {
        let nobody = Account {
            name: String::new(),
            ha1_md5: digest::md5(&[b"nobody", &key]).into(),
            ha1_sha256: digest::sha256(&[b"nobody", &key]).into(),
        };
        Self { users, nobody, key: key.into() }
    }

    /// Whether a user is the same here as `before`: still there, with the same password.
    pub fn knows_as(&self, before: &Self, user: &str) -> bool {
        let [now, then] = [self, before].map(|it| it.account(user.as_bytes()));
        now.name == user
            && then.name == user
            && same(now.ha1_sha256.expose(), then.ha1_sha256.expose())
    }

    /// Decides on a request of `client` with the value of its Authorization header, if any.
    /// `uri` is the request's, absolute or a path.
    pub fn check(
        &self,
        scheme: Auth,
        method: &[u8],
        uri: &[u8],
        authorization: Option<&[u8]>,
        now: Instant,
        client: IpAddr,
    ) -> Decision {
        if matches!(scheme, Auth::Pass | Auth::None) {
            return Decision::Granted { user: String::new() };
        }
        if let Auth::Plugin(_) = scheme {
            return Decision::Refused; // somebody else is to be asked
        }
        let Some(value) = authorization else { return self.challenge(scheme, false, now, client) };
        let Some(parsed) = digest::parse(value) else { return Decision::Refused };
        let Some(answer) = parsed.first() else { return Decision::Refused };
        let verdict = match scheme {
            Auth::Basic if answer.is("basic") => self.basic(answer),
            Auth::Digest if answer.is("digest") => self.digest(answer, method, uri, now, client),
            // An answer to somebody else's challenge.
            _ => Verdict::Foreign,
        };
        match verdict {
            Verdict::Right(account) => Decision::Granted { user: account.name.clone() },
            Verdict::Stale => self.challenge(scheme, true, now, client),
            Verdict::Foreign => self.challenge(scheme, false, now, client),
            Verdict::Wrong(user) => match self.challenge(scheme, false, now, client) {
                Decision::Challenge(challenge) => Decision::Wrong { user, challenge },
                other => other,
            },
            Verdict::Nonsense => Decision::Refused,
        }
    }

    /// The strongest first, as RFC 7616 section 3.7 wants it; MD5 last, where players that keep
    /// only one challenge (ffmpeg, live555) keep theirs. Realm, nonce, stale in this order:
    /// live555 reads no other.
    fn challenge(&self, scheme: Auth, stale: bool, now: Instant, client: IpAddr) -> Decision {
        if scheme == Auth::Basic {
            return Decision::Challenge(vec![format!("Basic realm=\"{REALM}\"")]);
        }
        let nonce = self.nonce(now.as_millis(), client);
        let stale = if stale { ", stale=true" } else { "" };
        let one = |algorithm: Algorithm| {
            let name = algorithm.name();
            format!(
                "Digest realm=\"{REALM}\", nonce=\"{nonce}\"{stale}, algorithm={name}, qop=\"auth\""
            )
        };
        Decision::Challenge(vec![one(Algorithm::Sha256), one(Algorithm::Md5)])
    }

    fn basic(&self, answer: &Challenge<'_>) -> Verdict<'_> {
        let Ok(decoded) = STANDARD.decode(answer.token) else { return Verdict::Nonsense };
        let Some(colon) = decoded.iter().position(|byte| *byte == b':') else {
            return Verdict::Nonsense;
        };
        let (name, password) = decoded.split_at(colon);
        let password = password.get(1..).unwrap_or_default();
        let account = self.account(name);
        let ha1 = digest::sha256(&[name, REALM.as_bytes(), password]);
        if same(&ha1, account.ha1_sha256.expose()) && !account.name.is_empty() {
            Verdict::Right(account)
        } else {
            Verdict::Wrong(String::from_utf8_lossy(name).into_owned())
        }
    }

    fn digest(
        &self,
        answer: &Challenge<'_>,
        method: &[u8],
        uri: &[u8],
        now: Instant,
        client: IpAddr,
    ) -> Verdict<'_> {
        let required = ["username", "realm", "nonce", "uri", "response"].map(|it| answer.param(it));
        let [Some(name), Some(realm), Some(nonce), Some(signed), Some(given)] = required else {
            return Verdict::Nonsense;
        };
        if !covers(signed, uri) {
            return Verdict::Nonsense;
        }
        let Some(algorithm) = Algorithm::from_name(answer.param("algorithm")) else {
            return Verdict::Foreign;
        };
        let counted = match answer.param("qop") {
            None => None,
            Some(qop) if qop.eq_ignore_ascii_case(b"auth") => {
                match (answer.param("nc"), answer.param("cnonce")) {
                    (Some(nc), Some(cnonce)) => Some(Counted { nc, cnonce }),
                    _ => return Verdict::Nonsense,
                }
            }
            Some(_) => return Verdict::Foreign,
        };
        if realm != REALM.as_bytes() {
            return Verdict::Foreign; // its password is that of another server
        }
        let account = self.account(name);
        let ha1 = account.ha1(algorithm);
        let wanted = digest::response(algorithm, ha1.as_bytes(), nonce, counted, method, signed);
        let right =
            same(wanted.as_bytes(), &given.to_ascii_lowercase()) && !account.name.is_empty();
        match (right, self.is_fresh(nonce, now, client)) {
            (false, _) => Verdict::Wrong(String::from_utf8_lossy(name).into_owned()),
            (true, false) => Verdict::Stale,
            (true, true) => Verdict::Right(account),
        }
    }

    /// Looks at every user, so that the time does not tell how far down the list a name stands.
    fn account(&self, name: &[u8]) -> &Account {
        self.users.iter().fold(&self.nobody, |found, one| {
            if same(one.name.as_bytes(), name) { one } else { found }
        })
    }

    /// 16 digits of time, 32 of MAC.
    fn nonce(&self, time_ms: u64, client: IpAddr) -> String {
        let mac = self.mac(time_ms, client);
        let mac = mac.get(..16).unwrap_or(&mac);
        format!("{time_ms:016x}{}", digest::hex(mac))
    }

    fn is_fresh(&self, nonce: &[u8], now: Instant, client: IpAddr) -> bool {
        let time = nonce.get(..16).and_then(|digits| core::str::from_utf8(digits).ok());
        let Some(time_ms) = time.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else {
            return false;
        };
        let age_ms = now.as_millis().checked_sub(time_ms);
        same(self.nonce(time_ms, client).as_bytes(), nonce)
            && age_ms.is_some_and(|age_ms| age_ms < NONCE_LIFETIME_MS)
    }

    /// HMAC-SHA-256 (RFC 2104) over time and address.
    fn mac(&self, time_ms: u64, client: IpAddr) -> [u8; 32] {
        let mut inner = [0x36_u8; 64];
        let mut outer = [0x5c_u8; 64];
        for ((i, o), k) in inner.iter_mut().zip(&mut outer).zip(self.key.expose()) {
            *i ^= k;
            *o ^= k;
        }
        let address = match client.to_canonical() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        let message = [inner.as_slice(), &time_ms.to_be_bytes(), &address].concat();
        let hash = digest::sha256(&[&message]);
        digest::sha256(&[&[outer.as_slice(), &hash].concat()])
    }
}

impl From<&User> for Account {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.as_str().to_owned(),
            ha1_md5: user.ha1_md5.into(),
            ha1_sha256: user.ha1_sha256.into(),
        }
    }
}

enum Verdict<'a> {
    Right(&'a Account),
    Stale,
    /// Of this user.
    Wrong(String),
    /// Says nothing about a password of ours.
    Foreign,
    Nonsense,
}

/// Whether the signed URI stands for the requested one: equal from the path on, or the signed path
/// is followed by `/` or `?` in the requested one.
fn covers(signed: &[u8], requested: &[u8]) -> bool {
    let (signed, requested) = (trimmed_path(signed), trimmed_path(requested));
    match requested.strip_prefix(signed) {
        Some(b"") => true,
        Some([b'/' | b'?', ..]) => !signed.is_empty(),
        _ => false,
    }
}

/// Path and query of a URI, without the slashes at its end; `*` stays.
fn trimmed_path(uri: &[u8]) -> &[u8] {
    let scheme = uri.windows(3).position(|three| three == b"://").filter(|at| *at <= 8);
    let path = match scheme.and_then(|at| uri.get(at + 3..)) {
        Some(after) => {
            let start = after.iter().position(|byte| matches!(byte, b'/' | b'?'));
            after.get(start.unwrap_or(after.len())..).unwrap_or_default()
        }
        None => uri,
    };
    let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    path.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use core::net::Ipv4Addr;

    use super::*;
    use crate::auth::client::{Credentials, Signer};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    const URI: &[u8] = b"rtsp://gateway:8554/cam1";
    const T0: Instant = Instant::from_millis(1_000_000);

    fn verifier() -> Verifier {
        Verifier::new(vec![Account::new("ann", "a:\u{e4}"), Account::new("bob", "b")], [7; 32])
    }

    fn challenged(decision: Decision) -> Vec<String> {
        match decision {
            Decision::Challenge(values) | Decision::Wrong { challenge: values, .. } => values,
            other => panic!("no challenge but {other:?}"),
        }
    }

    fn ask(scheme: Auth, authorization: Option<&str>, now: Instant, client: IpAddr) -> Decision {
        let value = authorization.map(str::as_bytes);
        verifier().check(scheme, b"DESCRIBE", URI, value, now, client)
    }

    fn signed(challenges: &[String], user: &str, password: &str, uri: &[u8]) -> String {
        let mut signer = Signer::new(Credentials::new(user, password), 1);
        let values: Vec<&[u8]> = challenges.iter().map(String::as_bytes).collect();
        assert!(signer.challenge(&values));
        signer.authorization(b"DESCRIBE", uri).unwrap()
    }

    fn granted(user: &str) -> Decision {
        Decision::Granted { user: user.to_owned() }
    }

    #[test]
    fn a_right_password_is_granted_with_either_hash_and_with_basic() {
        let challenges = challenged(ask(Auth::Digest, None, T0, CLIENT));
        assert!(challenges[0].contains("algorithm=SHA-256"), "{challenges:?}");
        assert!(challenges[1].contains("algorithm=MD5"), "{challenges:?}");
        for challenge in challenges {
            let value = signed(&[challenge], "ann", "a:\u{e4}", URI);
            assert_eq!(ask(Auth::Digest, Some(&value), T0, CLIENT), granted("ann"), "{value}");
        }
        let challenges = challenged(ask(Auth::Basic, None, T0, CLIENT));
        assert_eq!(challenges, ["Basic realm=\"edgeweir\""]);
        let value = signed(&challenges, "ann", "a:\u{e4}", URI);
        assert_eq!(ask(Auth::Basic, Some(&value), T0, CLIENT), granted("ann"));
    }

    #[test]
    fn live555_finds_realm_and_nonce_at_the_start_of_a_challenge() {
        for challenge in challenged(ask(Auth::Digest, None, T0, CLIENT)) {
            assert!(challenge.starts_with("Digest realm=\"edgeweir\", nonce=\""), "{challenge}");
        }
    }

    #[test]
    fn an_answer_without_qop_is_granted() {
        let value =
            challenged(ask(Auth::Digest, None, T0, CLIENT))[1].replace(", qop=\"auth\"", "");
        let value = signed(&[value], "bob", "b", URI);
        assert!(!value.contains("cnonce"));
        assert_eq!(ask(Auth::Digest, Some(&value), T0, CLIENT), granted("bob"));
    }

    #[test]
    fn wrong_passwords_unknown_and_empty_users_are_challenged_again() {
        for scheme in [Auth::Digest, Auth::Basic] {
            let challenges = challenged(ask(scheme, None, T0, CLIENT));
            for (user, password) in [("ann", "b"), ("nobody", "b"), ("", ""), ("bob", "")] {
                let value = signed(&challenges, user, password, URI);
                let again = challenged(ask(scheme, Some(&value), T0, CLIENT));
                assert!(!again[0].contains("stale"), "{user}: {again:?}");
            }
        }
    }

    #[test]
    fn a_nonce_is_stale_at_its_lifetime_and_not_before() {
        let challenges = challenged(ask(Auth::Digest, None, T0, CLIENT));
        let value = signed(&challenges, "bob", "b", URI);
        let at = |ms: u64| {
            let now = Instant::from_millis(T0.as_millis() + ms);
            ask(Auth::Digest, Some(&value), now, CLIENT)
        };
        assert_eq!(at(NONCE_LIFETIME_MS - 1), granted("bob"));
        let fresh = challenged(at(NONCE_LIFETIME_MS));
        assert!(fresh.iter().all(|value| value.contains(", stale=true")), "{fresh:?}");
        // With a wrong password staleness is not told.
        let wrong = signed(&challenges, "bob", "c", URI);
        let late = Instant::from_millis(T0.as_millis() + NONCE_LIFETIME_MS);
        assert!(!challenged(ask(Auth::Digest, Some(&wrong), late, CLIENT))[0].contains("stale"));
    }

    #[test]
    fn a_nonce_that_was_tampered_with_or_is_anothers_is_never_granted() {
        let challenge = challenged(ask(Auth::Digest, None, T0, CLIENT)).remove(0);
        let nonce = challenge.split('"').nth(3).unwrap().to_owned();
        let later = format!("{:016x}{}", T0.as_millis() + 1, &nonce[16..]);
        let plus = format!("+{}", &nonce[1..]);
        let flipped = nonce.replace(&nonce[47..], if nonce.ends_with('0') { "1" } else { "0" });
        for other in [later.as_str(), &plus, &flipped, &nonce[..47], "", "x", "\u{e4}"] {
            let value = signed(&[challenge.replace(&nonce, other)], "bob", "b", URI);
            challenged(ask(Auth::Digest, Some(&value), T0, CLIENT));
        }
        let value = signed(&[challenge], "bob", "b", URI);
        let elsewhere = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 8));
        challenged(ask(Auth::Digest, Some(&value), T0, elsewhere));
        let mapped = IpAddr::V6(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped());
        assert_eq!(ask(Auth::Digest, Some(&value), T0, mapped), granted("bob"));
    }

    #[test]
    fn a_stored_user_is_an_account() {
        let stored = Account::from(&User::new("bob", "b").unwrap());
        let made = Account::new("bob", "b");
        assert!(stored.ha1_md5 == made.ha1_md5 && stored.ha1_sha256 == made.ha1_sha256);
        assert_eq!(stored.name, "bob");
    }

    #[test]
    fn an_answer_serves_its_method_only() {
        let challenges = challenged(ask(Auth::Digest, None, T0, CLIENT));
        let value = signed(&challenges, "bob", "b", URI);
        let decision =
            verifier().check(Auth::Digest, b"SETUP", URI, Some(value.as_bytes()), T0, CLIENT);
        challenged(decision);
    }

    #[test]
    fn the_signed_uri_covers_the_requested_path_or_what_lies_below() {
        let rows = [
            ("rtsp://gateway:8554/cam1", "rtsp://gateway:8554/cam1", true),
            ("rtsp://10.0.0.1/cam1/", "rtsp://gateway:8554/cam1", true),
            ("/cam1", "rtsp://gateway:8554/cam1", true),
            ("rtsp://gw/cam1", "rtsp://gw/cam1/trackID=1", true),
            ("rtsp://gw/cam1/", "rtsp://gw/cam1/trackID=1", true),
            ("rtsp://gw/cam1", "rtsp://gw/cam1?token=1", true),
            ("rtsp://gw/cam1?a=rtsp://x", "rtsp://gw/cam1?a=rtsp://x/track1", true),
            ("rtsp://gw/cam1", "rtsp://gw/cam10", false),
            ("rtsp://gw/cam2", "rtsp://gw/cam1", false),
            ("rtsp://gw/cam1/trackID=1", "rtsp://gw/cam1", false),
            ("rtsp://gw/", "rtsp://gw/cam1", false),
            ("rtsp://gw", "rtsp://gw/", true),
            ("", "rtsp://gw/cam1", false),
            ("*", "*", true),
            ("*", "rtsp://gw/cam1", false),
        ];
        for (signed, requested, wanted) in rows {
            assert_eq!(
                covers(signed.as_bytes(), requested.as_bytes()),
                wanted,
                "{signed} {requested}"
            );
        }
        let challenges = challenged(ask(Auth::Digest, None, T0, CLIENT));
        let value = signed(&challenges, "bob", "b", b"rtsp://gateway:8554/cam2");
        assert_eq!(ask(Auth::Digest, Some(&value), T0, CLIENT), Decision::Refused);
    }

    #[test]
    fn nonsense_is_refused_and_another_scheme_challenged() {
        let long = format!("Digest realm=\"{}\"", "x".repeat(5000));
        let nonsense = ["", ",,,", "Digest", "Digest realm=\"edgeweir\"", "\u{0}", &long];
        for value in nonsense {
            assert_eq!(ask(Auth::Digest, Some(value), T0, CLIENT), Decision::Refused, "{value}");
        }
        for value in ["Basic ?", "Basic bm9jb2xvbg==", "Basic"] {
            assert_ne!(ask(Auth::Basic, Some(value), T0, CLIENT), granted(""), "{value}");
        }
        challenged(ask(Auth::Digest, Some("Basic Ym9iOmI="), T0, CLIENT));
        challenged(ask(Auth::Basic, Some("Digest realm=\"edgeweir\""), T0, CLIENT));
    }

    #[test]
    fn where_nobody_is_asked_all_are_granted_and_without_users_nobody_is() {
        for scheme in [Auth::Pass, Auth::None] {
            assert_eq!(ask(scheme, None, T0, CLIENT), granted(""));
        }
        let empty = Verifier::new(Vec::new(), [0; 32]);
        for scheme in [Auth::Digest, Auth::Basic] {
            let challenges = challenged(empty.check(scheme, b"DESCRIBE", URI, None, T0, CLIENT));
            let value = signed(&challenges, "", "", URI);
            let decision =
                empty.check(scheme, b"DESCRIBE", URI, Some(value.as_bytes()), T0, CLIENT);
            challenged(decision);
        }
    }

    #[test]
    fn debug_output_shows_no_hash_and_no_key() {
        let shown = format!("{:?}", verifier());
        assert!(shown.contains("ann") && shown.contains("<secret>") && !shown.contains("7, 7"));
    }
}
