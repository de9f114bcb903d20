//! Tokens: what is signed, what is read, what is refused.
//!
//! A token is in the query of the URL:
//!
//! ```text
//! rtsp://gateway/live/cam1?exp=1795000000&user=alice&sig=<64 hexadecimal digits>
//! rtsp://gateway/live/cam1?exp=1795000000&scope=/live/&sig=...
//! ```
//!
//! `sig` is the HMAC-SHA256 of these four lines, without a line end after the last:
//!
//! ```text
//! edgeweir-token-1
//! /live/cam1          the path of the request, or the scope where there is one
//! 1795000000          exp: seconds since 1970, UTC
//! alice               user, or nothing
//! ```
//!
//! Parameters of others are passed over; one of ours twice is refused, so that nobody can choose which
//! of two counts. Nothing is decoded: what a token is made of needs no percent signs.

use edgeweir_kit::Config;

/// Bytes of a path, of a scope, of a query: a request line is no longer.
const URI_MAX_BYTES: usize = 2048;
/// Bytes of a user name.
const USER_MAX_BYTES: usize = 64;
/// Before this the clock of the device is not set: 2020-01-01.
const CLOCK_IS_SET_S: u64 = 1_577_836_800;

/// What the signature is about, so that it is worth nothing elsewhere.
const DOMAIN: &str = "edgeweir-token-1";

/// The configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `key`: its name on the gateway.
    pub key: String,
    /// `max_lifetime_s`: a token that is valid for longer is refused.
    pub max_lifetime_s: u32,
    /// `clock_skew_s`: how long after its end a token is still taken.
    pub clock_skew_s: u32,
    /// `session_s`: how long a session goes on after its token was taken.
    pub session_s: u32,
    /// `without_token`: whether the next authenticator is asked.
    pub abstain: bool,
}

impl Settings {
    /// Reads the plugin's configuration.
    ///
    /// # Errors
    /// The key, what is wrong with it and what is allowed.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let mut config = Config::parse(text)?;
        let key = config.string("key", 32)?;
        let max_lifetime_s = config.integer("max_lifetime_s", 1..=31_536_000)?.unwrap_or(604_800);
        let clock_skew_s = config.integer("clock_skew_s", 0..=600)?.unwrap_or(30);
        let session_s = config.integer("session_s", 0..=86_400)?.unwrap_or(86_400);
        let abstain = match config.string("without_token", 16)?.as_deref() {
            None | Some("deny") => false,
            Some("abstain") => true,
            Some(other) => {
                return Err(format!("without_token = \"{other}\": deny or abstain is allowed"));
            }
        };
        config.finish()?;
        let key = key.ok_or("key is missing: the name of a key on the gateway is expected")?;
        Ok(Self { key, max_lifetime_s, clock_skew_s, session_s, abstain })
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No parameter of a token.
    Missing,
    /// Not what a token looks like.
    Malformed,
    /// Past its end.
    Expired,
    /// Valid for longer than is allowed.
    TooLong,
    /// For another path.
    OutOfScope,
    /// The signature is not of this key and these words.
    Forged,
    /// The gateway's clock is not set.
    NoClock,
    /// The gateway has no such key.
    NoKey,
}

impl Refusal {
    /// For the log and the name of a counter.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::TooLong => "too_long",
            Self::OutOfScope => "out_of_scope",
            Self::Forged => "forged",
            Self::NoClock => "no_clock",
            Self::NoKey => "no_key",
        }
    }
}

/// The user of a valid token (`token` if it names none).
///
/// `sign` is HMAC-SHA256 with the key of the configuration; none: there is no such key. `now_s`:
/// seconds since 1970.
///
/// # Errors
/// The first rule that is broken. The signature comes last, so a refusal before it says nothing about
/// the key.
pub fn check(
    settings: &Settings,
    uri: &str,
    now_s: u64,
    sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>,
) -> Result<String, Refusal> {
    let (path, query) = split(uri).ok_or(Refusal::Malformed)?;
    let Token { expires, scope, user, signature } = Token::read(query)?;
    if now_s < CLOCK_IS_SET_S {
        return Err(Refusal::NoClock);
    }
    let expires_s: u64 = expires.parse().map_err(|_| Refusal::Malformed)?;
    if now_s > expires_s.saturating_add(settings.clock_skew_s.into()) {
        return Err(Refusal::Expired);
    }
    if expires_s > now_s.saturating_add(settings.max_lifetime_s.into()) {
        return Err(Refusal::TooLong);
    }
    if !scope.is_none_or(|scope| covers(scope, path)) {
        return Err(Refusal::OutOfScope);
    }
    let mut words = DOMAIN.to_owned();
    for word in [scope.unwrap_or(path), expires, user.unwrap_or_default()] {
        words.push('\n');
        words.push_str(word);
    }
    let wanted = sign(words.as_bytes()).ok_or(Refusal::NoKey)?;
    if !same(&signature, &wanted) {
        return Err(Refusal::Forged);
    }
    Ok(user.unwrap_or("token").to_owned())
}

/// Path and query of an absolute URL.
fn split(uri: &str) -> Option<(&str, &str)> {
    if uri.len() > URI_MAX_BYTES || !uri.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    // The first colon is that of the scheme.
    let (_, rest) = uri.split_once(':')?;
    let rest = rest.strip_prefix("//")?.split('#').next()?;
    let (whole, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = whole.find('/').and_then(|at| whole.get(at..)).unwrap_or("/");
    Some((path, query))
}

/// `/live/` covers what is below it, `/live/cam1` only itself. Dots would let a path leave the scope
/// that an origin resolves later.
fn covers(scope: &str, path: &str) -> bool {
    let below = scope.ends_with('/') && path.starts_with(scope);
    let plain = |segment: &str| segment != "." && segment != ".." && !segment.contains('%');
    scope.starts_with('/') && (path == scope || (below && path.split('/').all(plain)))
}

struct Token<'a> {
    expires: &'a str,
    scope: Option<&'a str>,
    user: Option<&'a str>,
    signature: [u8; 32],
}

impl<'a> Token<'a> {
    fn read(query: &'a str) -> Result<Self, Refusal> {
        let (mut expires, mut scope, mut user, mut signature) = (None, None, None, None);
        for part in query.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let place = match name {
                "exp" => &mut expires,
                "scope" => &mut scope,
                "user" => &mut user,
                "sig" => &mut signature,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return Err(Refusal::Malformed);
            }
        }
        let (Some(expires), Some(signature)) = (expires, signature) else {
            let none = expires.is_none() && signature.is_none() && scope.is_none();
            return Err(if none { Refusal::Missing } else { Refusal::Malformed });
        };
        let digits =
            (1..=10).contains(&expires.len()) && expires.bytes().all(|b| b.is_ascii_digit());
        let named = user.is_none_or(|user| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte);
            (1..=USER_MAX_BYTES).contains(&user.len()) && user.bytes().all(plain)
        });
        match unhex(signature) {
            Some(signature) if digits && named => Ok(Self { expires, scope, user, signature }),
            _ => Err(Refusal::Malformed),
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

/// Compares all of it whatever it finds, so that time tells nothing about the signature.
fn same(one: &[u8; 32], other: &[u8]) -> bool {
    other.len() == one.len() && one.iter().zip(other).fold(0, |sum, (a, b)| sum | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use hmac::{Hmac, KeyInit, Mac};
    use sha2::Sha256;

    use super::*;

    const NOW: u64 = 1_795_000_000;

    fn settings() -> Settings {
        Settings::parse(br#"{"key":"gate"}"#).unwrap()
    }

    fn sign(data: &[u8]) -> Option<Vec<u8>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"the secret").unwrap();
        mac.update(data);
        Some(mac.finalize().into_bytes().to_vec())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn signature(scope: &str, expires: u64, user: &str) -> String {
        hex(&sign(format!("{DOMAIN}\n{scope}\n{expires}\n{user}").as_bytes()).unwrap())
    }

    fn url(path: &str, expires: u64, user: &str) -> String {
        let sig = signature(path, expires, user);
        format!("rtsp://gw:8554{path}?exp={expires}&user={user}&sig={sig}")
    }

    fn verdict(uri: &str) -> Result<String, Refusal> {
        check(&settings(), uri, NOW, sign)
    }

    #[test]
    fn a_fresh_token_names_its_user() {
        assert_eq!(verdict(&url("/live/cam1", NOW + 60, "alice")), Ok("alice".to_owned()));
        let sig = signature("/cam", NOW, "");
        assert_eq!(
            verdict(&format!("rtsp://gw/cam?a=b&sig={sig}&exp={NOW}&c")),
            Ok("token".to_owned())
        );
        let upper = signature("/cam", NOW, "").to_uppercase();
        assert!(verdict(&format!("rtsp://gw/cam?exp={NOW}&sig={upper}")).is_ok());
    }

    #[test]
    fn time_is_checked_at_its_bounds() {
        for (expires, outcome) in [
            (NOW - 30, Ok("bob".to_owned())),
            (NOW - 31, Err(Refusal::Expired)),
            (NOW + 604_800, Ok("bob".to_owned())),
            (NOW + 604_801, Err(Refusal::TooLong)),
            (0, Err(Refusal::Expired)),
            (9_999_999_999, Err(Refusal::TooLong)),
        ] {
            assert_eq!(verdict(&url("/cam", expires, "bob")), outcome, "{expires}");
        }
        let fresh = url("/cam", CLOCK_IS_SET_S, "bob");
        assert!(check(&settings(), &fresh, CLOCK_IS_SET_S, sign).is_ok());
        let unset = check(&settings(), &fresh, CLOCK_IS_SET_S - 1, sign);
        assert_eq!(unset, Err(Refusal::NoClock));
    }

    #[test]
    fn no_byte_of_a_token_can_be_changed() {
        let good = url("/live/cam1", NOW + 60, "alice");
        let start = good.find("/live").unwrap();
        for at in start..good.len() {
            for with in [b'0', b'1', b'a', b'b', b'&', b'/', b'='] {
                let mut bytes = good.clone().into_bytes();
                if bytes[at].eq_ignore_ascii_case(&with) {
                    continue;
                }
                bytes[at] = with;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(verdict(&changed).is_err(), "{changed}");
            }
        }
        for end in start..good.len() {
            assert!(verdict(&good[..end]).is_err(), "{}", &good[..end]);
        }
    }

    #[test]
    fn another_key_another_path_another_user_are_forged() {
        let good = url("/live/cam1", NOW + 60, "alice");
        let other = |data: &[u8]| sign(&[data, b"x"].concat());
        assert_eq!(check(&settings(), &good, NOW, other), Err(Refusal::Forged));
        assert_eq!(check(&settings(), &good, NOW, |_| Some(Vec::new())), Err(Refusal::Forged));
        assert_eq!(check(&settings(), &good, NOW, |_| None), Err(Refusal::NoKey));
        assert_eq!(verdict(&good.replace("cam1", "cam2")), Err(Refusal::Forged));
        assert_eq!(verdict(&good.replace("alice", "mallory")), Err(Refusal::Forged));
        assert_eq!(verdict(&good.replace("user=alice&", "")), Err(Refusal::Forged));
    }

    #[test]
    fn a_scope_covers_what_is_below_it_and_nothing_else() {
        let of = |scope: &str, path: &str| {
            let sig = signature(scope, NOW, "");
            verdict(&format!("rtsp://gw{path}?exp={NOW}&scope={scope}&sig={sig}"))
        };
        for (scope, path, fits) in [
            ("/live/", "/live/cam1", true),
            ("/live/", "/live/cam1/trackID=1", true),
            ("/live/", "/live/", true),
            ("/live/cam1", "/live/cam1", true),
            ("/", "/anything", true),
            ("/live/", "/live", false),
            ("/live/cam1", "/live/cam1/trackID=1", false),
            ("/live/cam1", "/live/cam10", false),
            ("/live/", "/live/../private", false),
            ("/live/", "/live/%2e%2e/private", false),
            ("/live/", "/private", false),
            ("", "/live", false),
        ] {
            assert_eq!(of(scope, path).is_ok(), fits, "{scope} {path}");
        }
        // A scope that was not signed.
        let good = url("/cam", NOW, "bob");
        assert_eq!(verdict(&format!("{good}&scope=/")), Err(Refusal::Forged));
    }

    #[test]
    fn what_is_no_token_is_refused_before_the_key_is_used() {
        let sig = "0".repeat(64);
        let long = "u".repeat(USER_MAX_BYTES + 1);
        for (uri, refusal) in [
            ("rtsp://gw/cam".to_owned(), Refusal::Missing),
            ("rtsp://gw/cam?user=x&y=z".to_owned(), Refusal::Missing),
            (format!("rtsp://gw/cam?sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&exp={NOW}&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&sig={sig}&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp=-1&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp=+1&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp=&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp=99999999999&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&sig={sig}0"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&sig=g{}", &sig[1..]), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&user=&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&user={long}&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/cam?exp={NOW}&user=a%0ab&sig={sig}"), Refusal::Malformed),
            (format!("rtsp://gw/c\u{e4}m?exp={NOW}&sig={sig}"), Refusal::Malformed),
            ("*".to_owned(), Refusal::Malformed),
            (String::new(), Refusal::Malformed),
            (format!("rtsp://gw/{}", "x".repeat(URI_MAX_BYTES)), Refusal::Malformed),
        ] {
            let unused = |_: &[u8]| -> Option<Vec<u8>> { panic!("the key was used") };
            assert_eq!(check(&settings(), &uri, NOW, unused), Err(refusal), "{uri}");
        }
    }

    #[test]
    fn the_longest_user_and_an_empty_path_are_fine() {
        let user = "u".repeat(USER_MAX_BYTES);
        assert_eq!(verdict(&url("/cam", NOW, &user)), Ok(user));
        let sig = signature("/", NOW, "");
        assert!(verdict(&format!("rtsp://gw?exp={NOW}&sig={sig}")).is_ok());
    }

    #[test]
    fn the_example_of_the_readme_is_right() {
        assert_eq!(signature("/live/cam1", 1_795_000_000, "alice"), README_SIGNATURE);
        assert!(include_str!("../README.md").contains(README_SIGNATURE));
    }

    const README_SIGNATURE: &str =
        "86dc53bbaa05cff34fd8268ea7e7dc75d94671fadaedb0dde3cc8b5b66b5d517";

    #[test]
    fn configurations() {
        let text = br#"{"key":"k","max_lifetime_s":60,"clock_skew_s":0,"session_s":0,"without_token":"abstain"}"#;
        assert_eq!(
            Settings::parse(text),
            Ok(Settings {
                key: "k".to_owned(),
                max_lifetime_s: 60,
                clock_skew_s: 0,
                session_s: 0,
                abstain: true
            })
        );
        for (text, error) in [
            ("{}", "key is missing: the name of a key on the gateway is expected"),
            (r#"{"key":""}"#, "key: an empty text"),
            (r#"{"key":"k","clock_skew_s":601}"#, "clock_skew_s = 601: 0 to 600 is allowed"),
            (
                r#"{"key":"k","without_token":"ask"}"#,
                "without_token = \"ask\": deny or abstain is allowed",
            ),
            (
                r#"{"key":"k","secret":"s"}"#,
                "unknown key \"secret\": known are key, max_lifetime_s, clock_skew_s, session_s, without_token",
            ),
        ] {
            assert_eq!(Settings::parse(text.as_bytes()), Err(error.to_owned()), "{text}");
        }
    }
}
