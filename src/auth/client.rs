//! The gateway tells origins who it is.
//!
//! A [`Signer`] belongs to one connection to one origin. It takes the 401, picks the strongest
//! challenge it understands, and from then on signs each request. It also knows when to stop:
//! cameras lock an account after a few wrong answers.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::{
    digest::{self, Algorithm, Challenge, Counted, escaped},
    secret::Secret,
};
use crate::{config::secrets::Credential, limits::CHALLENGES_IN_A_ROW_MAX};

/// A user name and password for an origin.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret<String>,
}

impl Credentials {
    /// Those two.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: Secret::new(password.to_owned()) }
    }
}

impl From<&Credential> for Credentials {
    fn from(stored: &Credential) -> Self {
        Self::new(&stored.user, &stored.password)
    }
}

/// Signs the requests on one connection to an origin.
#[derive(Debug)]
pub struct Signer {
    credentials: Credentials,
    seed: u64,
    scheme: Option<Scheme>,
    /// Requests signed for the present challenge.
    signed: u32,
    /// Challenges that came after at most one signed request each.
    in_a_row: u8,
    /// An answer by SHA-256 was refused where MD5 was offered too.
    weak: bool,
}

#[derive(Debug)]
enum Scheme {
    Basic,
    Digest(Box<Digest>),
}

#[derive(Debug)]
struct Digest {
    algorithm: Algorithm,
    /// Whether the challenge named its algorithm; old cameras stumble over one they did not name.
    named: bool,
    realm: String,
    nonce: String,
    opaque: Option<String>,
    counted: bool,
    ha1: Secret<digest::Hex>,
}

impl Signer {
    /// Signs as `credentials`. `seed` is random; the client nonces follow from it.
    pub fn new(credentials: Credentials, seed: u64) -> Self {
        Self { credentials, seed, scheme: None, signed: 0, in_a_row: 0, weak: false }
    }

    /// Takes the WWW-Authenticate values of a 401 and says whether to send the request again,
    /// signed anew. `false`: nothing in them is understood, or the password is wrong (the same
    /// nonce again and not stale, or one more new nonce after
    /// [`CHALLENGES_IN_A_ROW_MAX`] of them, each after one signed request).
    ///
    /// SHA-256 goes before MD5, unless it was refused: cameras exist that offer both and know one.
    /// Basic, which shows the password to the wire, is used only when no
    /// digest that we understand is offered.
    pub fn challenge(&mut self, values: &[&[u8]]) -> bool {
        let offers: Vec<Challenge<'_>> =
            values.iter().filter_map(|value| digest::parse(value)).flatten().collect();
        let mut known: Vec<(Digest, bool)> = offers
            .iter()
            .filter_map(|offer| Some((self.understand(offer)?, is_stale(offer))))
            .collect();
        self.weak |= self.refused_strong() && known.iter().all(|(_, stale)| !stale);
        if self.weak && known.iter().any(|(digest, _)| digest.algorithm == Algorithm::Md5) {
            known.retain(|(digest, _)| digest.algorithm == Algorithm::Md5);
        }
        let best = known.into_iter().max_by_key(|(digest, _)| digest.algorithm);
        let (scheme, repeats) = match best {
            Some((digest, stale)) => {
                let old = match &self.scheme {
                    Some(Scheme::Digest(old)) => {
                        old.nonce == digest.nonce && old.algorithm == digest.algorithm
                    }
                    _ => false,
                };
                (Scheme::Digest(Box::new(digest)), old && !stale)
            }
            None if offers.iter().any(|offer| offer.is("basic")) => {
                (Scheme::Basic, matches!(self.scheme, Some(Scheme::Basic)))
            }
            None => return false,
        };
        self.in_a_row = if self.signed > 1 { 1 } else { self.in_a_row.saturating_add(1) };
        if (repeats && self.signed > 0) || self.in_a_row > CHALLENGES_IN_A_ROW_MAX {
            return false;
        }
        self.scheme = Some(scheme);
        self.signed = 0;
        true
    }

    /// Whether a request that was just signed by SHA-256 was refused.
    fn refused_strong(&self) -> bool {
        let strong = |scheme: &Scheme| match scheme {
            Scheme::Digest(digest) => digest.algorithm != Algorithm::Md5,
            Scheme::Basic => false,
        };
        self.signed == 1 && self.scheme.as_ref().is_some_and(strong)
    }

    /// The value of Authorization for a request with exactly this URI on its request line. None
    /// before a challenge.
    pub fn authorization(&mut self, method: &[u8], uri: &[u8]) -> Option<String> {
        let scheme = self.scheme.as_ref()?;
        let signed = self.signed.checked_add(1)?;
        let value = match scheme {
            Scheme::Basic => {
                let Credentials { user, password } = &self.credentials;
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
            }
            Scheme::Digest(challenge) => {
                let cnonce = digest::sha256(&[
                    &self.seed.to_be_bytes(),
                    challenge.nonce.as_bytes(),
                    &signed.to_be_bytes(),
                ]);
                let cnonce = digest::hex(cnonce.get(..8)?);
                challenge.answer(&self.credentials.user, method, uri, signed, &cnonce)?
            }
        };
        self.signed = signed;
        Some(value)
    }

    fn understand(&self, offer: &Challenge<'_>) -> Option<Digest> {
        if !offer.is("digest") {
            return None;
        }
        // What is echoed must not end the header line.
        let text = |name| {
            let value = core::str::from_utf8(offer.param(name)?).ok()?;
            (!value.contains(char::is_control)).then(|| value.to_owned())
        };
        let algorithm = Algorithm::from_name(offer.param("algorithm"))?;
        let realm = text("realm")?;
        let counted = match offer.param("qop") {
            None => false,
            Some(list) => {
                let mut names = list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                // Offered, but only as auth-int (or empty, which some cameras send).
                let auth = names.any(|name| name.eq_ignore_ascii_case(b"auth"));
                if !auth && !list.trim_ascii().is_empty() {
                    return None;
                }
                auth
            }
        };
        let Credentials { user, password } = &self.credentials;
        let parts = [user.as_bytes(), realm.as_bytes(), password.expose().as_bytes()];
        Some(Digest {
            algorithm,
            named: offer.param("algorithm").is_some(),
            ha1: algorithm.hash(&parts).into(),
            nonce: text("nonce")?,
            opaque: text("opaque"),
            realm,
            counted,
        })
    }
}

impl Digest {
    fn answer(
        &self,
        user: &str,
        method: &[u8],
        uri: &[u8],
        count: u32,
        cnonce: &str,
    ) -> Option<String> {
        let nc = format!("{count:08x}");
        let counted = Counted { nc: nc.as_bytes(), cnonce: cnonce.as_bytes() };
        let response = digest::response(
            self.algorithm,
            self.ha1.expose().as_bytes(),
            self.nonce.as_bytes(),
            self.counted.then_some(counted),
            method,
            uri,
        );
        let mut value = format!(
            "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
            escaped(user),
            escaped(&self.realm),
            escaped(&self.nonce),
            escaped(core::str::from_utf8(uri).ok()?),
        );
        if self.named {
            value.push_str(", algorithm=");
            value.push_str(self.algorithm.name());
        }
        if let Some(opaque) = &self.opaque {
            value.push_str(&format!(", opaque=\"{}\"", escaped(opaque)));
        }
        if self.counted {
            value.push_str(&format!(", qop=auth, nc={nc}, cnonce=\"{cnonce}\""));
        }
        Some(value)
    }
}

fn is_stale(offer: &Challenge<'_>) -> bool {
    offer.param("stale").is_some_and(|value| value.eq_ignore_ascii_case(b"true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &[u8] = b"rtsp://192.0.2.20:554/ch1";
    const MD5: &[u8] = b"Digest realm=\"cam\", nonce=\"n1\", stale=\"FALSE\"";
    const SHA: &[u8] =
        b"Digest realm=\"cam\", nonce=\"n2\", algorithm=SHA-256, qop=\"auth,auth-int\"";
    const BASIC: &[u8] = b"Basic realm=\"cam\"";

    fn signer() -> Signer {
        Signer::new(Credentials::new("admin", "p:w"), 42)
    }

    fn sign(signer: &mut Signer) -> String {
        signer.authorization(b"DESCRIBE", URI).unwrap()
    }

    #[test]
    fn nothing_is_signed_before_a_challenge() {
        assert_eq!(signer().authorization(b"OPTIONS", URI), None);
    }

    #[test]
    fn the_strongest_challenge_that_is_understood_is_answered() {
        let one_header = [MD5, b", ", SHA, b", ", BASIC].concat();
        let rows: [(&[&[u8]], &str); 5] = [
            (&[BASIC, MD5, SHA], "SHA-256"),
            (&[&one_header], "SHA-256"),
            (&[BASIC, MD5], "Digest username=\"admin\", realm=\"cam\", nonce=\"n1\""),
            (&[BASIC], "Basic YWRtaW46cDp3"),
            (&[b"Digest realm=\"cam\", nonce=\"x\", algorithm=SHA-512-256", BASIC], "Basic "),
        ];
        for (values, wanted) in rows {
            let mut signer = signer();
            assert!(signer.challenge(values));
            assert!(sign(&mut signer).contains(wanted), "{wanted}");
        }
    }

    #[test]
    fn what_is_not_understood_is_not_answered() {
        let rows: [&[u8]; 7] = [
            b"",
            b"Negotiate",
            b"Digest realm=\"cam\"",
            b"Digest nonce=\"x\"",
            b"Digest realm=\"cam\", nonce=\"x\", algorithm=MD5-sess",
            b"Digest realm=\"cam\", nonce=\"x\", qop=\"auth-int\"",
            b"Digest realm=\"cam\r\nX: y\", nonce=\"x\"",
        ];
        for value in rows {
            let mut signer = signer();
            assert!(!signer.challenge(&[value]));
            assert_eq!(signer.authorization(b"OPTIONS", URI), None);
        }
        assert!(!signer().challenge(&[]));
    }

    #[test]
    fn a_camera_of_rfc_2069_gets_nothing_that_it_does_not_know() {
        let mut signer = signer();
        assert!(signer.challenge(&[MD5]));
        // MD5 of "MD5(admin:cam:p:w):n1:MD5(DESCRIBE:uri)".
        let ha1 = digest::hex(&digest::md5(&[b"admin:cam:p:w"]));
        let ha2 = digest::hex(&digest::md5(&[b"DESCRIBE:rtsp://192.0.2.20:554/ch1"]));
        let whole = format!("{ha1}:n1:{ha2}");
        let response = digest::hex(&digest::md5(&[whole.as_bytes()]));
        assert_eq!(
            sign(&mut signer),
            format!(
                "Digest username=\"admin\", realm=\"cam\", nonce=\"n1\", \
                 uri=\"rtsp://192.0.2.20:554/ch1\", response=\"{response}\""
            )
        );
    }

    #[test]
    fn each_request_counts_and_has_its_own_cnonce() {
        let mut signer = signer();
        assert!(signer.challenge(&[SHA]));
        let (first, second) = (sign(&mut signer), sign(&mut signer));
        assert!(first.contains("qop=auth, nc=00000001, cnonce="), "{first}");
        assert!(second.contains("qop=auth, nc=00000002, cnonce="), "{second}");
        let cnonce = |value: &str| value.split("cnonce=").nth(1).map(str::to_owned);
        assert_ne!(cnonce(&first), cnonce(&second));
    }

    #[test]
    fn the_same_nonce_again_means_a_wrong_password_unless_stale() {
        let mut signer = signer();
        assert!(signer.challenge(&[MD5]));
        sign(&mut signer);
        assert!(!signer.challenge(&[MD5]));

        let mut signer = self::signer();
        assert!(signer.challenge(&[MD5]));
        sign(&mut signer);
        assert!(signer.challenge(&[b"Digest realm=\"cam\", nonce=\"n1\", stale=true"]));
    }

    #[test]
    fn md5_is_tried_where_sha_256_is_offered_and_refused() {
        let mut signer = signer();
        assert!(signer.challenge(&[SHA, MD5]));
        assert!(sign(&mut signer).contains("SHA-256"));
        assert!(signer.challenge(&[SHA, MD5]), "the same nonces again");
        assert!(!sign(&mut signer).contains("SHA-256"));
        assert!(!signer.challenge(&[SHA, MD5]), "then the password is wrong");

        let mut signer = self::signer();
        assert!(signer.challenge(&[SHA, MD5]));
        for _ in 0..3 {
            sign(&mut signer);
        }
        assert!(signer.challenge(&[
            b"Digest realm=\"cam\", nonce=\"n3\", algorithm=SHA-256",
            b"Digest realm=\"cam\", nonce=\"n4\"",
        ]));
        assert!(sign(&mut signer).contains("SHA-256"), "an expired nonce is no refusal");
    }

    #[test]
    fn basic_is_answered_once() {
        let mut signer = signer();
        assert!(signer.challenge(&[BASIC]));
        sign(&mut signer);
        assert!(!signer.challenge(&[BASIC]));
    }

    #[test]
    fn a_camera_with_a_new_nonce_for_each_refusal_is_answered_twice_only() {
        let mut signer = signer();
        let mut sent = 0;
        for number in 0..10 {
            let value = format!("Digest realm=\"cam\", nonce=\"{number}\", stale=true");
            if !signer.challenge(&[value.as_bytes()]) {
                break;
            }
            sign(&mut signer);
            sent += 1;
        }
        assert_eq!(sent, CHALLENGES_IN_A_ROW_MAX);
    }

    #[test]
    fn a_nonce_that_expires_after_a_while_is_replaced_for_ever() {
        let mut signer = signer();
        for number in 0..100 {
            let value = format!("Digest realm=\"cam\", nonce=\"{number}\"");
            assert!(signer.challenge(&[value.as_bytes()]), "{number}");
            // The repeated request, then the next one, which meets the expired nonce.
            sign(&mut signer);
            sign(&mut signer);
        }
    }

    #[test]
    fn quotes_are_escaped_and_opaque_is_echoed() {
        let mut signer = Signer::new(Credentials::new("do\\main\"x", "p"), 1);
        assert!(signer.challenge(&[b"Digest realm=\"a\\\"b\", nonce=\"n\", opaque=\"o\""]));
        let value = sign(&mut signer);
        assert!(value.contains(r#"username="do\\main\"x", realm="a\"b", nonce="n""#), "{value}");
        assert!(value.contains("opaque=\"o\""), "{value}");
    }

    #[test]
    fn debug_output_shows_no_password() {
        let mut signer = Signer::new(Credentials::new("admin", "hunter2"), 1);
        assert!(signer.challenge(&[MD5]));
        let shown = format!("{signer:?}");
        let ha1 = digest::hex(&digest::md5(&[b"admin:cam:hunter2"]));
        assert!(!shown.contains("hunter2") && !shown.contains(ha1.as_str()), "{shown}");
    }
}
