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
use crate::limits::CHALLENGES_IN_A_ROW_MAX;

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
        Self { credentials, seed, scheme: None, signed: 0, in_a_row: 0 }
    }

    /// Takes the WWW-Authenticate values of a 401 and says whether to send the request again,
    /// signed anew. `false`: nothing in them is understood, or the password is wrong (the same
    /// nonce again and not stale, or one more new nonce after
    /// [`CHALLENGES_IN_A_ROW_MAX`] of them, each after one signed request).
    ///
    /// SHA-256 goes before MD5. Basic, which shows the password to the wire, is used only when no
    /// digest that we understand is offered.
    pub fn challenge(&mut self, values: &[&[u8]]) -> bool {
        let offers: Vec<Challenge<'_>> =
            values.iter().filter_map(|value| digest::parse(value)).flatten().collect();
        let best = offers
            .iter()
            .filter_map(|offer| Some((self.understand(offer)?, is_stale(offer))))
            .max_by_key(|(digest, _)| digest.algorithm);
        let (scheme, repeats) = match best {
            Some((digest, stale)) => {
                let old = match &self.scheme {
                    Some(Scheme::Digest(old)) => old.nonce == digest.nonce,
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
