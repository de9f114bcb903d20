//! What both sides of digest authentication share (RFC 7616, RFC 2069 without `qop`).
//!
//! The grammar is read generously: parameters in any order and case, quoted or not, commas
//! missing or doubled, several challenges in one header. Unknown parameters are skipped; of two
//! with one name the first counts. Not in here: what is a valid nonce, who is a user.

use core::hint::black_box;
use std::borrow::Cow;

use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::limits::{AUTH_CHALLENGES_MAX, AUTH_PARAMS_MAX, AUTH_VALUE_MAX_BYTES};

/// A hash in lower-case hexadecimal: 32 or 64 digits.
pub type Hex = heapless::String<64>;

/// The hash of a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// MD5, the default when a challenge names none.
    Md5,
    /// SHA-256.
    Sha256,
}

impl Algorithm {
    /// The algorithm of a parameter's value; none for those that are not understood (the `-sess`
    /// variants, SHA-512-256).
    pub fn from_name(name: Option<&[u8]>) -> Option<Self> {
        match name {
            None => Some(Self::Md5),
            Some(name) if name.eq_ignore_ascii_case(b"MD5") => Some(Self::Md5),
            Some(name) if name.eq_ignore_ascii_case(b"SHA-256") => Some(Self::Sha256),
            Some(_) => None,
        }
    }

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    /// The hash of `parts` joined by colons.
    pub fn hash(self, parts: &[&[u8]]) -> Hex {
        match self {
            Self::Md5 => hex(&md5(parts)),
            Self::Sha256 => hex(&sha256(parts)),
        }
    }
}

/// MD5 of `parts` joined by colons.
pub fn md5(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Md5::new();
    joined(parts, |bytes| hash.update(bytes));
    hash.finalize().into()
}

/// SHA-256 of `parts` joined by colons.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    joined(parts, |bytes| hash.update(bytes));
    hash.finalize().into()
}

fn joined(parts: &[&[u8]], mut update: impl FnMut(&[u8])) {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            update(b":");
        }
        update(part);
    }
}

/// `bytes` (at most 32) in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> Hex {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().take(32).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The counted part of an answer to `qop=auth`.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// `nc`, eight hexadecimal digits as they stand in the header.
    pub nc: &'a [u8],
    /// The client's nonce.
    pub cnonce: &'a [u8],
}

/// The `response` to a challenge (RFC 7616 section 3.4.1); without `counted` that of RFC 2069.
pub fn response(
    algorithm: Algorithm,
    ha1: &[u8],
    nonce: &[u8],
    counted: Option<Counted<'_>>,
    method: &[u8],
    uri: &[u8],
) -> Hex {
    let ha2 = algorithm.hash(&[method, uri]);
    match counted {
        Some(Counted { nc, cnonce }) => {
            algorithm.hash(&[ha1, nonce, nc, cnonce, b"auth", ha2.as_bytes()])
        }
        None => algorithm.hash(&[ha1, nonce, ha2.as_bytes()]),
    }
}

/// Compares in a time that depends on the lengths only.
pub fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (x, y)| black_box(all | (x ^ y)));
    a.len() == b.len() && differing == 0
}

/// A scheme with its parameters: one challenge of WWW-Authenticate, or an Authorization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// `Digest`, `Basic`, in the sender's case.
    pub scheme: &'a [u8],
    /// What follows the scheme when it is no parameter: the answer of Basic. Else empty.
    pub token: &'a [u8],
    params: Vec<(&'a [u8], Cow<'a, [u8]>)>,
}

impl<'a> Challenge<'a> {
    /// The value of a parameter, unquoted.
    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let wanted = name.as_bytes();
        let found = self.params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_ref())
    }

    /// Whether the scheme is `name`.
    pub fn is(&self, name: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(name.as_bytes())
    }

    fn new(scheme: &'a [u8]) -> Self {
        Self { scheme, token: b"", params: Vec::new() }
    }
}

/// The challenges in a header's value, at most 8. None when the value exceeds its bounds: 4096
/// bytes, 32 parameters to a challenge.
pub fn parse(value: &[u8]) -> Option<Vec<Challenge<'_>>> {
    if value.len() > AUTH_VALUE_MAX_BYTES {
        return None;
    }
    let mut found: Vec<Challenge<'_>> = Vec::new();
    let mut rest = Cursor(value);
    loop {
        rest.take_while(|byte| is_space(byte) || byte == b',');
        if rest.0.is_empty() {
            return Some(found);
        }
        let token = rest.take_while(is_token);
        if token.is_empty() {
            rest.skip(1);
            continue;
        }
        let mut after = rest;
        after.take_while(is_space);
        if after.0.first() == Some(&b'=') {
            after.skip(1);
            let Some(value) = after.value() else { return Some(found) };
            rest = after;
            if let Some(open) = found.last_mut() {
                if open.params.len() == AUTH_PARAMS_MAX {
                    return None;
                }
                open.params.push((token, value));
            }
            continue;
        }
        if found.len() == AUTH_CHALLENGES_MAX {
            return Some(found);
        }
        let mut challenge = Challenge::new(token);
        if let Some(token) = after.token68() {
            challenge.token = token;
            rest = after;
        }
        found.push(challenge);
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte)
}

#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take_while(&mut self, accept: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !accept(*byte)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    /// The value after `=`. None when a quote is never closed.
    fn value(&mut self) -> Option<Cow<'a, [u8]>> {
        self.take_while(is_space);
        if self.0.first() != Some(&b'"') {
            return Some(Cow::Borrowed(self.take_while(|byte| !is_space(byte) && byte != b',')));
        }
        self.skip(1);
        let plain = self.take_while(|byte| byte != b'"' && byte != b'\\');
        if self.0.first() == Some(&b'"') {
            self.skip(1);
            return Some(Cow::Borrowed(plain));
        }
        let mut value = plain.to_vec();
        loop {
            let (first, rest) = self.0.split_first()?;
            self.0 = rest;
            match first {
                b'"' => return Some(Cow::Owned(value)),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    self.0 = rest;
                    value.push(*escaped);
                }
                plain => value.push(*plain),
            }
        }
    }

    /// `dXNlcjpwYXNz==` up to the end or a comma.
    fn token68(&mut self) -> Option<&'a [u8]> {
        let whole = self.0;
        self.take_while(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte));
        self.take_while(|byte| byte == b'=');
        let token = whole.get(..whole.len() - self.0.len()).unwrap_or_default();
        self.take_while(is_space);
        let ends = matches!(self.0.first(), None | Some(b','));
        (ends && !token.is_empty()).then_some(token)
    }
}

/// `text` as a quoted string, without its quotes: quotes and backslashes escaped.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['"', '\\']) {
        Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\""))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &[u8] = b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const COUNTED: Counted<'_> =
        Counted { nc: b"00000001", cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ" };

    #[test]
    fn the_vectors_of_rfc_7616_section_3_9_1() {
        let wanted = [
            (Algorithm::Md5, "8ca523f5e9506fed4657c9700eebdbec"),
            (Algorithm::Sha256, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ];
        for (algorithm, wanted) in wanted {
            let ha1 = algorithm.hash(&[b"Mufasa", b"http-auth@example.org", b"Circle of Life"]);
            let counted = Some(COUNTED);
            let found =
                response(algorithm, ha1.as_bytes(), NONCE, counted, b"GET", b"/dir/index.html");
            assert_eq!(found.as_str(), wanted, "{algorithm:?}");
        }
    }

    #[test]
    fn without_qop_the_answer_is_that_of_rfc_2069() {
        let md5 = Algorithm::Md5;
        let ha1 = md5.hash(&[b"Mufasa", b"testrealm@host.com", b"Circle Of Life"]);
        let nonce = b"dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let found = response(md5, ha1.as_bytes(), nonce, None, b"GET", b"/dir/index.html");
        assert_eq!(found.as_str(), "670fd8c2df070c60b045671b8b24ff02");
    }

    #[test]
    fn parameters_come_in_any_order_case_and_quoting() {
        let value = b"dIgEsT\t NONCE = \"a,b=\\\"c\\\\\" ,, realm=plain stale=FALSE, x=\"\",\
            algorithm=MD5,Basic realm=\"second, with comma\", Negotiate";
        let found = parse(value).unwrap();
        assert_eq!(found.len(), 3);
        let digest = &found[0];
        assert!(digest.is("Digest"));
        assert_eq!(digest.param("nonce"), Some(&b"a,b=\"c\\"[..]));
        assert_eq!(digest.param("Realm"), Some(&b"plain"[..]));
        assert_eq!(digest.param("stale"), Some(&b"FALSE"[..]));
        assert_eq!(digest.param("x"), Some(&b""[..]));
        assert_eq!(digest.param("qop"), None);
        assert_eq!(found[1].param("realm"), Some(&b"second, with comma"[..]));
        assert!(found[2].is("negotiate"));
    }

    #[test]
    fn of_two_parameters_with_one_name_the_first_counts() {
        let found = parse(b"Digest realm=\"a\", realm=\"b\"").unwrap();
        assert_eq!(found[0].param("realm"), Some(&b"a"[..]));
    }

    #[test]
    fn the_answer_of_basic_is_a_token_with_its_padding() {
        for token in ["dXNlcg==", "dXNlcjpw", "a+/-._~="] {
            let value = format!("Basic  {token} ");
            assert_eq!(parse(value.as_bytes()).unwrap()[0].token, token.as_bytes());
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_ends_the_header() {
        for value in ["Digest realm=\"a\", nonce=\"never", "Digest realm=\"a\", nonce=\"never\\"] {
            let found = parse(value.as_bytes()).unwrap();
            assert_eq!(found[0].param("realm"), Some(&b"a"[..]));
            assert_eq!(found[0].param("nonce"), None);
        }
    }

    #[test]
    fn bounds_hold_at_the_limit_and_one_past() {
        let sized = |size: usize| [b"Basic ".to_vec(), vec![b'a'; size - 6]].concat();
        assert!(parse(&sized(AUTH_VALUE_MAX_BYTES)).is_some());
        assert!(parse(&sized(AUTH_VALUE_MAX_BYTES + 1)).is_none());

        let with = |count: usize| {
            let params: Vec<String> = (0..count).map(|number| format!("p{number}=v")).collect();
            format!("Digest {}", params.join(","))
        };
        assert!(parse(with(AUTH_PARAMS_MAX).as_bytes()).is_some());
        assert!(parse(with(AUTH_PARAMS_MAX + 1).as_bytes()).is_none());

        let schemes = |count: usize| vec!["A x=y"; count].join(", ");
        for (count, wanted) in [
            (AUTH_CHALLENGES_MAX, AUTH_CHALLENGES_MAX),
            (AUTH_CHALLENGES_MAX + 1, AUTH_CHALLENGES_MAX),
        ] {
            assert_eq!(parse(schemes(count).as_bytes()).unwrap().len(), wanted);
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let alphabet = b"Digest realm=\"\\,nonce= \t\r\n\x00\xff:/=Basic~%";
        let mut state = 1;
        for round in 0..20_000_u64 {
            let mut value = b"Digest ".to_vec();
            for _ in 0..round % 80 {
                state = crate::origin::mix(state);
                let index = usize::try_from(state % 1000).unwrap() % alphabet.len();
                value.push(alphabet[index]);
            }
            let _ = parse(&value);
        }
    }

    #[test]
    fn equal_bytes_of_equal_length_are_the_same() {
        assert!(same(b"", b"") && same(b"abc", b"abc"));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"abcd") && !same(b"abcd", b"abc"));
    }
}
