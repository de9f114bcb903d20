//! Secrets that guests may have used on their behalf, by name. None ever leaves this file.
//!
//! Passwords are those of the gateway's users. A key for HMAC is a credential whose user is `hmac`:
//! so no plugin can use the password of a camera as one.
//!
//! Not in here: where secrets are kept (`config::secrets`).

use std::sync::{Arc, PoisonError, RwLock};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{
    auth::digest::{Algorithm, hex, response, same},
    config::secrets::{REALM, Secrets},
    limits::GUEST_CREDENTIAL_MAX_BYTES,
};

/// The user of a credential that is a key for plugins.
pub const KEY_USER: &str = "hmac";

/// The gateway's secrets, exchanged as a whole.
#[derive(Default)]
pub(super) struct Keys(RwLock<Arc<Secrets>>);

impl core::fmt::Debug for Keys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// Takes other secrets.
    pub(super) fn set(&self, secrets: Arc<Secrets>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    fn secrets(&self) -> Arc<Secrets> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether a digest response without `qop` is right; MD5 or SHA-256 by its length. None: no
    /// such user.
    pub(super) fn digest_ok(
        &self,
        user: &str,
        realm: &str,
        nonce: &str,
        method: &str,
        uri: &str,
        said: &str,
    ) -> Option<bool> {
        let secrets = self.secrets();
        let user = secrets.user(user)?;
        let (algorithm, ha1) = match said.len() {
            32 => (Algorithm::Md5, hex(&user.ha1_md5)),
            64 => (Algorithm::Sha256, hex(&user.ha1_sha256)),
            _ => return Some(false),
        };
        let [nonce, method, uri] = [nonce, method, uri].map(str::as_bytes);
        let right = response(algorithm, ha1.as_bytes(), nonce, None, method, uri);
        let equal = same(right.as_bytes(), said.to_ascii_lowercase().as_bytes());
        // The stored digests hold for one realm.
        Some(equal && realm == REALM)
    }

    /// Whether a password is right. None: no such user.
    pub(super) fn basic_ok(&self, user: &str, password: &str) -> Option<bool> {
        let secrets = self.secrets();
        let user = secrets.user(user)?;
        Some(password.len() <= GUEST_CREDENTIAL_MAX_BYTES && user.has_password(password))
    }

    /// HMAC-SHA256 with a named key. None: no such key, or too much data.
    pub(super) fn hmac(&self, key: &str, data: &[u8]) -> Option<[u8; 32]> {
        let secrets = self.secrets();
        let key = secrets.credential(key).filter(|credential| credential.user == KEY_USER)?;
        if data.len() > GUEST_CREDENTIAL_MAX_BYTES {
            return None;
        }
        Some(hmac_sha256(key.password.as_bytes(), &[data]))
    }
}

/// HMAC-SHA256 (RFC 2104) over `parts`, one after the other.
pub(super) fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    // Any length of key is taken, so there is no error.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        let mut secrets = Secrets::default();
        secrets.set_user("bob", "hunter2").unwrap();
        secrets.set_credential("token", KEY_USER, "Jefe").unwrap();
        secrets.set_credential("cam", "root", "Jefe").unwrap();
        let keys = Keys::default();
        keys.set(Arc::new(secrets));
        keys
    }

    #[test]
    fn hmac_is_that_of_rfc_4231_and_takes_keys_only() {
        let keys = keys();
        let mac = keys.hmac("token", b"what do ya want for nothing?").unwrap();
        let text = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(&mac).as_str(), text);
        assert_eq!((keys.hmac("cam", b""), keys.hmac("nobody", b"")), (None, None));
        assert!(
            keys.hmac("token", &[0; 4096]).is_some() && keys.hmac("token", &[0; 4097]).is_none()
        );
    }

    #[test]
    fn passwords_are_checked_by_name() {
        let keys = keys();
        assert_eq!(keys.basic_ok("bob", "hunter2"), Some(true));
        assert_eq!((keys.basic_ok("bob", "x"), keys.basic_ok("eve", "x")), (Some(false), None));
        let ha1 = Algorithm::Md5.hash(&[b"bob", b"edgeweir", b"hunter2"]);
        let said = response(Algorithm::Md5, ha1.as_bytes(), b"n", None, b"SETUP", b"rtsp://h/");
        let ok = |realm, said: &str| keys.digest_ok("bob", realm, "n", "SETUP", "rtsp://h/", said);
        assert_eq!(ok("edgeweir", &said), Some(true));
        assert_eq!(ok("edgeweir", &said.to_ascii_uppercase()), Some(true));
        assert_eq!(
            (ok("other", &said), ok("edgeweir", ""), ok("edgeweir", &said[1..])),
            (Some(false), Some(false), Some(false))
        );
    }
}
