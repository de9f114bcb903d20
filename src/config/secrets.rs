//! What must never be printed: users, credentials toward origins, the token of the control API.
//!
//! They are kept beside the configuration, not in it, so that a configuration can be shown, mailed
//! and kept in version control. Users are stored as the digest `H(user:edgeweir:password)` of RFC
//! 7616, with MD5 and with SHA-256: enough for `digest` and for `basic`. Such a digest is as good
//! as the password toward this gateway, but does not give the password away for other places.
//! Credentials toward origins are stored as they are, since origins ask for digests of their own.
//! On flash nothing of this is encrypted.
//!
//! The image has the frame of [`super::image`] with format numbers of its own:
//!
//! | format | since | body |
//! |---|---|---|
//! | 1 | 0.1.0 | [`Secrets`] |

use core::fmt;

use heapless::String;
use md5::Md5;
use postcard::experimental::max_size::MaxSize;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    List, Name,
    image::{self, Frame, ImageError},
    rules, size,
};
use crate::limits::{
    CONTROL_TOKEN_MAX_BYTES, CONTROL_TOKEN_MIN_BYTES, CREDENTIAL_USER_MAX_BYTES, CREDENTIALS_MAX,
    NAME_MAX_BYTES, PASSWORD_MAX_BYTES, USERS_MAX,
};

/// The realm of the gateway, in challenges and in the stored digests. Another realm would make
/// every stored digest worthless.
pub const REALM: &str = "edgeweir";
/// Format that [`encode`] writes.
pub const FORMAT: u16 = 1;
/// Largest image of the secrets, in bytes.
pub const SECRETS_MAX: usize = image::FRAME_BYTES + Secrets::POSTCARD_MAX_SIZE;

/// All secrets.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// Users that `digest` and `basic` know.
    pub users: List<User, USERS_MAX>,
    /// Credentials toward origins.
    pub credentials: List<Credential, CREDENTIALS_MAX>,
    /// Bearer token of the control API over TCP; none: no access over TCP.
    pub control_token: Option<String<CONTROL_TOKEN_MAX_BYTES>>,
}

/// A user of the gateway.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name, unique.
    pub name: Name,
    /// MD5 of `name:edgeweir:password`.
    pub ha1_md5: [u8; 16],
    /// SHA-256 of the same.
    pub ha1_sha256: [u8; 32],
}

/// User and password toward origins.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The name by which origins refer to it, unique.
    pub name: Name,
    /// The user.
    pub user: String<CREDENTIAL_USER_MAX_BYTES>,
    /// The password.
    pub password: String<PASSWORD_MAX_BYTES>,
}

/// Why a secret was not taken. Says nothing about the secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// A name that is no name; the text says what is allowed.
    Name(rules::Broken),
    /// A user name toward an origin that is empty, too long, or has a colon or control characters.
    User,
    /// A password that is empty, too long, or has control characters.
    Password,
    /// A token that is too short, too long, or has other than visible ASCII characters.
    Token,
    /// As many of this kind as there may be.
    Full {
        /// `users` or `credentials`.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// No user or credentials of that name.
    Unknown,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(broken) => write!(f, "name {}: allowed {}", broken.found, broken.allowed),
            Self::User => write!(
                f,
                "the user must have 1 to {CREDENTIAL_USER_MAX_BYTES} bytes without colon and \
                 control characters"
            ),
            Self::Password => write!(
                f,
                "the password must have 1 to {PASSWORD_MAX_BYTES} bytes without control characters"
            ),
            Self::Token => write!(
                f,
                "the token must have {CONTROL_TOKEN_MIN_BYTES} to {CONTROL_TOKEN_MAX_BYTES} \
                 letters, digits and signs without spaces"
            ),
            Self::Full { what, most } => {
                write!(f, "there are {most} {what} already, remove one first")
            }
            Self::Unknown => write!(f, "no secret of that name is stored"),
        }
    }
}

impl core::error::Error for SecretError {}

impl User {
    /// A user by name and password.
    ///
    /// # Errors
    /// [`SecretError::Name`] or [`SecretError::Password`].
    pub fn new(name: &str, password: &str) -> Result<Self, SecretError> {
        let name = checked_name(name)?;
        checked_password(password)?;
        let (ha1_md5, ha1_sha256) = digests(&name, password);
        Ok(Self { name, ha1_md5, ha1_sha256 })
    }

    /// Whether this is the user's password, for `basic`. Takes as long for a wrong one.
    pub fn has_password(&self, password: &str) -> bool {
        let (_, given) = digests(&self.name, password);
        same(&given, &self.ha1_sha256)
    }
}

/// `H(user:realm:password)` with MD5 and with SHA-256 (RFC 7616 3.4.2).
fn digests(name: &str, password: &str) -> ([u8; 16], [u8; 32]) {
    fn digest<D: Digest>(parts: [&str; 3]) -> sha2::digest::Output<D> {
        D::new()
            .chain_update(parts[0])
            .chain_update(":")
            .chain_update(parts[1])
            .chain_update(":")
            .chain_update(parts[2])
            .finalize()
    }
    let parts = [name, REALM, password];
    (digest::<Md5>(parts).into(), digest::<Sha256>(parts).into())
}

/// Compares secrets in a time that does not tell where they differ.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |sum, (x, y)| sum | (x ^ y)) == 0
}

impl Secrets {
    /// The user of that name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The credentials of that name.
    pub fn credential(&self, name: &str) -> Option<&Credential> {
        self.credentials.iter().find(|credential| credential.name == name)
    }

    /// Adds a user, or gives a known one another password.
    ///
    /// # Errors
    /// [`SecretError::Name`], [`SecretError::Password`] or [`SecretError::Full`].
    pub fn set_user(&mut self, name: &str, password: &str) -> Result<(), SecretError> {
        let user = User::new(name, password)?;
        if let Some(known) = self.users.iter_mut().find(|known| known.name == user.name) {
            *known = user;
            return Ok(());
        }
        let full = SecretError::Full { what: "users", most: USERS_MAX };
        self.users.push(user).map_err(|_| full)
    }

    /// Removes a user.
    ///
    /// # Errors
    /// [`SecretError::Unknown`].
    pub fn remove_user(&mut self, name: &str) -> Result<(), SecretError> {
        let before = self.users.len();
        self.users.retain(|user| user.name != name);
        if self.users.len() < before { Ok(()) } else { Err(SecretError::Unknown) }
    }

    /// Adds credentials toward origins, or replaces those of that name.
    ///
    /// # Errors
    /// [`SecretError::Name`], [`SecretError::User`], [`SecretError::Password`] or
    /// [`SecretError::Full`].
    pub fn set_credential(
        &mut self,
        name: &str,
        user: &str,
        password: &str,
    ) -> Result<(), SecretError> {
        let name = checked_name(name)?;
        let user = String::try_from(user)
            .ok()
            .filter(|user| !user.is_empty() && !user.contains(|c: char| c == ':' || c.is_control()))
            .ok_or(SecretError::User)?;
        let credential = Credential { name, user, password: checked_password(password)? };
        let mut known = self.credentials.iter_mut();
        if let Some(known) = known.find(|known| known.name == credential.name) {
            *known = credential;
            return Ok(());
        }
        let full = SecretError::Full { what: "credentials", most: CREDENTIALS_MAX };
        self.credentials.push(credential).map_err(|_| full)
    }

    /// Removes credentials.
    ///
    /// # Errors
    /// [`SecretError::Unknown`].
    pub fn remove_credential(&mut self, name: &str) -> Result<(), SecretError> {
        let before = self.credentials.len();
        self.credentials.retain(|credential| credential.name != name);
        if self.credentials.len() < before { Ok(()) } else { Err(SecretError::Unknown) }
    }

    /// Sets the bearer token of the control API, or takes it away.
    ///
    /// # Errors
    /// [`SecretError::Token`].
    pub fn set_control_token(&mut self, token: Option<&str>) -> Result<(), SecretError> {
        let Some(token) = token else {
            self.control_token = None;
            return Ok(());
        };
        let good = token.len() >= CONTROL_TOKEN_MIN_BYTES
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        let bounded = String::try_from(token).ok().filter(|_| good).ok_or(SecretError::Token)?;
        self.control_token = Some(bounded);
        Ok(())
    }
}

fn checked_name(name: &str) -> Result<Name, SecretError> {
    rules::name("name", name).map_err(SecretError::Name)?;
    Name::try_from(name).map_err(|_| {
        SecretError::Name(rules::Broken {
            key: "name".to_owned(),
            found: format!("{} bytes", name.len()),
            allowed: format!("at most {NAME_MAX_BYTES} bytes"),
        })
    })
}

fn checked_password(password: &str) -> Result<String<PASSWORD_MAX_BYTES>, SecretError> {
    String::try_from(password)
        .ok()
        .filter(|password| !password.is_empty() && !password.contains(char::is_control))
        .ok_or(SecretError::Password)
}

/// The image of the secrets, with its sequence number.
pub fn encode(secrets: &Secrets, sequence: u64) -> Vec<u8> {
    // SECRETS_MAX is the largest size there is, as a test shows.
    let mut image = vec![0; SECRETS_MAX];
    let used = image::seal(FORMAT, sequence, secrets, &mut image).unwrap_or(0);
    image.truncate(used);
    image
}

/// The secrets of an image, and its sequence number.
///
/// # Errors
/// See [`ImageError`].
pub fn decode(image: &[u8]) -> Result<(Secrets, u64), ImageError> {
    let frame = Frame::open(image)?;
    Ok((frame.body(FORMAT)?, frame.sequence))
}

impl MaxSize for Secrets {
    const POSTCARD_MAX_SIZE: usize = {
        let name = size::list(NAME_MAX_BYTES, 1);
        let user = name + 16 + 32;
        let credential =
            name + size::list(CREDENTIAL_USER_MAX_BYTES, 1) + size::list(PASSWORD_MAX_BYTES, 1);
        let token = 1 + size::list(CONTROL_TOKEN_MAX_BYTES, 1);
        size::list(USERS_MAX, user) + size::list(CREDENTIALS_MAX, credential) + token
    };
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets")
            .field("users", &self.users)
            .field("credentials", &self.credentials)
            .field("control_token", &self.control_token.as_ref().map(|_| Hidden))
            .finish()
    }
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("password", &Hidden).finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("user", &Hidden)
            .field("password", &Hidden)
            .finish()
    }
}

/// Stands where a secret would.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Secrets {
        let mut secrets = Secrets::default();
        for at in 0..USERS_MAX {
            secrets.set_user(&format!("{at:032}"), &"p".repeat(PASSWORD_MAX_BYTES)).unwrap();
        }
        for at in 0..CREDENTIALS_MAX {
            let (user, password) = ("u".repeat(64), "p".repeat(PASSWORD_MAX_BYTES));
            secrets.set_credential(&format!("{at:032}"), &user, &password).unwrap();
        }
        secrets.set_control_token(Some(&"t".repeat(CONTROL_TOKEN_MAX_BYTES))).unwrap();
        secrets
    }

    #[test]
    fn users_are_stored_as_the_digest_of_rfc_7616() {
        let user = User::new("Mufasa", "Circle of Life").unwrap();
        let hex: std::string::String =
            user.ha1_md5.iter().map(|byte| format!("{byte:02x}")).collect();
        // printf 'Mufasa:edgeweir:Circle of Life' | md5sum
        assert_eq!(hex, MUFASA);
        assert!(user.has_password("Circle of Life"));
        assert!(!user.has_password("circle of life"));
    }
    const MUFASA: &str = "2fa67a79593a6c8ba56f087a6c90ae60";

    #[test]
    fn nothing_secret_is_printed() {
        let mut secrets = Secrets::default();
        secrets.set_user("bob", "hunter2").unwrap();
        secrets.set_credential("cam", "root", "hunter3").unwrap();
        secrets.set_control_token(Some("0123456789abcdef")).unwrap();
        let text = format!("{secrets:?}");
        for secret in ["hunter", "root", "0123456789", "ha1"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("bob") && text.contains("cam"));
    }

    #[test]
    fn as_many_as_fit_are_taken_and_one_more_is_refused() {
        let mut secrets = full();
        assert!(matches!(secrets.set_user("x", "p"), Err(SecretError::Full { .. })));
        assert!(matches!(secrets.set_credential("x", "u", "p"), Err(SecretError::Full { .. })));
        // A known one can still be changed, and a removed one leaves room.
        secrets.set_user(&format!("{:032}", 3), "other").unwrap();
        secrets.remove_user(&format!("{:032}", 3)).unwrap();
        secrets.set_user("x", "p").unwrap();
        assert_eq!(secrets.remove_user("nobody"), Err(SecretError::Unknown));
        assert_eq!(secrets.remove_credential("nobody"), Err(SecretError::Unknown));
    }

    #[test]
    fn lengths_are_taken_at_their_bound_and_refused_past_it() {
        let mut secrets = Secrets::default();
        assert!(secrets.set_user("a", &"p".repeat(128)).is_ok());
        assert_eq!(secrets.set_user("a", &"p".repeat(129)), Err(SecretError::Password));
        assert_eq!(secrets.set_user("a", ""), Err(SecretError::Password));
        assert!(secrets.set_user(&"n".repeat(32), "p").is_ok());
        assert!(matches!(secrets.set_user(&"n".repeat(33), "p"), Err(SecretError::Name(_))));
        assert!(matches!(secrets.set_user("a:b", "p"), Err(SecretError::Name(_))));
        assert!(secrets.set_credential("a", &"u".repeat(64), "p").is_ok());
        assert_eq!(secrets.set_credential("a", &"u".repeat(65), "p"), Err(SecretError::User));
        assert_eq!(secrets.set_credential("a", "u:v", "p"), Err(SecretError::User));
        for (length, good) in [(15, false), (16, true), (64, true), (65, false)] {
            assert_eq!(secrets.set_control_token(Some(&"t".repeat(length))).is_ok(), good);
        }
    }

    #[test]
    fn images_read_back_and_the_largest_is_as_large_as_was_worked_out() {
        let secrets = full();
        let image = encode(&secrets, 3);
        assert_eq!(image.len(), SECRETS_MAX);
        assert_eq!(decode(&image), Ok((secrets, 3)));
        assert_eq!(decode(&image[1..]), Err(ImageError::Damaged));
    }
}
