//! What a guest says, checked before anybody acts on it.
//!
//! A value that breaks a rule of the interface is a fault of the guest, with the rule as its text.
//! Not in here: edits of a message (`message`), which a guest may get wrong without a fault.

use super::{
    bindings::{authenticator, filter, types},
    hooks::{Decision, Grant, Header, Reply, Verdict},
};
use crate::limits::{
    BODY_MAX_BYTES, GRANT_ROLE_MAX_BYTES, GRANT_ROLES_MAX, GRANT_TTL_MAX_S, GRANT_USER_MAX_BYTES,
    GUEST_CHALLENGES_MAX, GUEST_HEADER_NAME_MAX_BYTES, GUEST_HEADER_VALUE_MAX_BYTES,
    GUEST_REPLY_HEADERS_MAX, INTEREST_ENTRIES_MAX, INTEREST_ENTRY_MAX_BYTES,
};

/// Headers that only the gateway writes.
pub(super) const OWNED: [&str; 5] = ["CSeq", "Content-Length", "Session", "Transport", "Via"];

/// Whether only the gateway writes this header.
pub(super) fn is_owned(name: &str) -> bool {
    OWNED.iter().any(|owned| owned.eq_ignore_ascii_case(name))
}

/// Whether it is a token (RFC 7826 20.2.2) that may be a header's name.
pub(super) fn is_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=GUEST_HEADER_NAME_MAX_BYTES).contains(&name.len()) && name.bytes().all(token)
}

/// Whether a value cannot end its line.
pub(super) fn is_value(value: &[u8]) -> bool {
    !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// A header that goes into an answer of the guest.
fn header(header: types::Header) -> Result<Header, String> {
    if !is_name(&header.name) {
        return Err(format!("header name `{}` is not a token", shown(&header.name)));
    }
    if is_owned(&header.name) {
        return Err(format!("header {} belongs to the gateway", header.name));
    }
    checked_value(&header)?;
    Ok(Header { name: header.name, value: header.value })
}

fn checked_value(header: &types::Header) -> Result<(), String> {
    if !is_value(&header.value) {
        return Err(format!("header {} has CR, LF or NUL in its value", shown(&header.name)));
    }
    if header.value.len() > GUEST_HEADER_VALUE_MAX_BYTES {
        return Err(format!("header {} is too long", shown(&header.name)));
    }
    Ok(())
}

/// What an authenticator said.
pub(super) fn decision(said: authenticator::Decision) -> Result<Decision, String> {
    match said {
        authenticator::Decision::Allow(grant) => allowed(grant).map(Decision::Allow),
        authenticator::Decision::Deny(401) => Err("deny(401): use challenge".to_owned()),
        authenticator::Decision::Deny(status) if (400..600).contains(&status) => {
            Ok(Decision::Deny(status))
        }
        authenticator::Decision::Deny(status) => Err(format!("deny({status}): not 400 to 599")),
        authenticator::Decision::Challenge(headers) => challenges(headers),
        authenticator::Decision::Abstain => Ok(Decision::Abstain),
    }
}

fn allowed(grant: authenticator::Grant) -> Result<Grant, String> {
    if !(1..=GRANT_USER_MAX_BYTES).contains(&grant.user.len())
        || grant.user.contains(char::is_control)
    {
        return Err("the user of a grant must have 1 to 64 bytes without control characters".into());
    }
    let long = |role: &String| role.len() > GRANT_ROLE_MAX_BYTES || role.contains(char::is_control);
    if grant.roles.len() > GRANT_ROLES_MAX || grant.roles.iter().any(long) {
        return Err("a grant has at most 8 roles of at most 32 bytes".into());
    }
    Ok(Grant { user: grant.user, ttl_s: grant.ttl_s.min(GRANT_TTL_MAX_S), roles: grant.roles })
}

fn challenges(headers: Vec<types::Header>) -> Result<Decision, String> {
    if !(1..=GUEST_CHALLENGES_MAX).contains(&headers.len()) {
        return Err(format!("challenge with {} headers, allowed 1 to 8", headers.len()));
    }
    for header in &headers {
        if !header.name.eq_ignore_ascii_case("WWW-Authenticate") {
            return Err(format!(
                "challenge with header {}, allowed WWW-Authenticate",
                shown(&header.name)
            ));
        }
        checked_value(header)?;
    }
    Ok(Decision::Challenge(headers.into_iter().map(|header| header.value).collect()))
}

/// What a filter said; edits are looked at by who staged them.
pub(super) fn verdict(said: filter::Verdict) -> Result<Verdict, String> {
    match said {
        filter::Verdict::Pass => Ok(Verdict::Pass),
        filter::Verdict::Drop => Ok(Verdict::Drop),
        filter::Verdict::Reject(said) => reply(said).map(Verdict::Reject),
    }
}

fn reply(said: types::Reply) -> Result<Reply, String> {
    if !(300..600).contains(&said.status) {
        return Err(format!("reject with status {}, allowed 300 to 599", said.status));
    }
    if said.headers.len() > GUEST_REPLY_HEADERS_MAX {
        return Err(format!("reject with {} headers, allowed 32", said.headers.len()));
    }
    if said.body.len() > BODY_MAX_BYTES {
        return Err(format!("reject with a body of {} bytes, allowed 65536", said.body.len()));
    }
    let headers = said.headers.into_iter().map(header).collect::<Result<_, _>>()?;
    Ok(Reply { status: said.status, headers, body: said.body })
}

/// What a filter wants to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Interest {
    requests: Vec<String>,
    responses_to: Vec<String>,
    body_types: Vec<String>,
    max_body: usize,
}

impl Interest {
    /// As a guest said it.
    ///
    /// # Errors
    /// The bound that is broken.
    pub(super) fn checked(said: filter::Interest) -> Result<Self, String> {
        let lists = [&said.requests, &said.responses_to, &said.body_types];
        for list in lists {
            if list.len() > INTEREST_ENTRIES_MAX
                || list.iter().any(|entry| entry.len() > INTEREST_ENTRY_MAX_BYTES)
            {
                return Err("a list of interests has at most 32 entries of at most 64 bytes".into());
            }
        }
        let max_body = usize::try_from(said.max_body).unwrap_or(usize::MAX).min(BODY_MAX_BYTES);
        Ok(Self {
            requests: said.requests,
            responses_to: said.responses_to,
            body_types: said.body_types,
            max_body,
        })
    }

    /// In requests of this method.
    pub(super) fn in_requests(&self, method: &str) -> bool {
        has(&self.requests, |entry| entry == method)
    }

    /// In answers to this method.
    pub(super) fn in_answers(&self, method: &str) -> bool {
        has(&self.responses_to, |entry| entry == method)
    }

    /// In a body of this type (lower case, no parameters) and length.
    pub(super) fn in_body(&self, kind: &str, bytes: usize) -> bool {
        bytes <= self.max_body && has(&self.body_types, |entry| entry.eq_ignore_ascii_case(kind))
    }

    /// Methods of the requests and of the answers that are wanted, for people.
    pub(super) fn lists(&self) -> (&[String], &[String]) {
        (&self.requests, &self.responses_to)
    }
}

fn has(list: &[String], like: impl Fn(&str) -> bool) -> bool {
    list.iter().any(|entry| entry == "*" || like(entry))
}

/// Text of a guest within a message for people: short, on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(name: &str, value: &[u8]) -> types::Header {
        types::Header { name: name.to_owned(), value: value.to_vec() }
    }

    fn rejected(status: u16, headers: Vec<types::Header>, body: usize) -> Result<Verdict, String> {
        let body = vec![b'x'; body];
        verdict(filter::Verdict::Reject(types::Reply { status, headers, body }))
    }

    #[test]
    fn a_reply_is_taken_at_its_bounds_and_refused_past_them() {
        let header = || given("X-A", b"\xff latin");
        for (status, headers, body, good) in [
            (300, 32, 65_536, true),
            (599, 0, 0, true),
            (299, 0, 0, false),
            (600, 0, 0, false),
            (404, 33, 0, false),
            (404, 0, 65_537, false),
        ] {
            let headers = (0..headers).map(|_| header()).collect();
            assert_eq!(rejected(status, headers, body).is_ok(), good, "{status} {body}");
        }
    }

    #[test]
    fn nothing_ends_a_line_and_what_the_gateway_owns_stays_its_own() {
        for (name, value, good) in [
            ("X-Ok", &b"a b"[..], true),
            ("X", b"a\r\nSession: 1", false),
            ("X", b"a\nb", false),
            ("X", b"a\0b", false),
            ("X\r\nSession", b"1", false),
            ("X:", b"1", false),
            ("", b"1", false),
            ("session", b"1", false),
            ("CSEQ", b"1", false),
            ("content-length", b"0", false),
            ("Transport", b"RTP/AVP", false),
            ("Via", b"me", false),
        ] {
            assert_eq!(rejected(404, vec![given(name, value)], 0).is_ok(), good, "{name}");
        }
        assert!(rejected(404, vec![given(&"n".repeat(64), &[b'v'; 4096])], 0).is_ok());
        assert!(rejected(404, vec![given(&"n".repeat(65), b"v")], 0).is_err());
        assert!(rejected(404, vec![given("n", &[b'v'; 4097])], 0).is_err());
    }

    #[test]
    fn decisions_keep_to_their_ranges() {
        let deny = |status| decision(authenticator::Decision::Deny(status)).is_ok();
        assert_eq!(
            [399, 400, 401, 403, 599, 600].map(deny),
            [false, true, false, true, true, false]
        );
        let allow = |user: usize, roles: usize, role: usize, ttl_s| {
            decision(authenticator::Decision::Allow(authenticator::Grant {
                user: "u".repeat(user),
                ttl_s,
                roles: vec!["r".repeat(role); roles],
            }))
        };
        assert!(allow(64, 8, 32, 1).is_ok());
        assert!(allow(0, 0, 0, 1).is_err() && allow(65, 0, 0, 1).is_err());
        assert!(allow(1, 9, 1, 1).is_err() && allow(1, 1, 33, 1).is_err());
        let Ok(Decision::Allow(grant)) = allow(1, 0, 0, u32::MAX) else { panic!("it is allowed") };
        assert_eq!(grant.ttl_s, GRANT_TTL_MAX_S);
        let challenge =
            |headers: Vec<_>| decision(authenticator::Decision::Challenge(headers)).is_ok();
        let basic = || given("www-authenticate", b"Basic realm=\"x\"");
        assert!(challenge(vec![basic()]) && challenge((0..8).map(|_| basic()).collect()));
        assert!(!challenge(vec![]) && !challenge((0..9).map(|_| basic()).collect()));
        assert!(!challenge(vec![given("X", b"Basic")]));
        assert!(!challenge(vec![given("WWW-Authenticate", b"Basic\r\nX: y")]));
    }

    #[test]
    fn interests_are_lists_or_everything() {
        let said = |requests: &[&str], types: &[&str], max_body| filter::Interest {
            requests: requests.iter().map(|s| (*s).to_owned()).collect(),
            responses_to: vec![],
            body_types: types.iter().map(|s| (*s).to_owned()).collect(),
            max_body,
        };
        let some = Interest::checked(said(&["SETUP"], &["application/sdp"], 100)).unwrap();
        assert!(some.in_requests("SETUP") && !some.in_requests("PLAY"));
        assert!(!some.in_answers("SETUP"));
        assert!(some.in_body("application/sdp", 100));
        assert!(!some.in_body("application/sdp", 101) && !some.in_body("text/plain", 1));
        let all = Interest::checked(said(&["*"], &["*"], u32::MAX)).unwrap();
        assert!(all.in_requests("X-ODD") && all.in_body("", 65_536) && !all.in_body("", 65_537));
        assert!(Interest::checked(said(&["A"; 32], &[], 0)).is_ok());
        assert!(Interest::checked(said(&["A"; 33], &[], 0)).is_err());
        assert!(Interest::checked(said(&[&"A".repeat(65)], &[], 0)).is_err());
    }
}
