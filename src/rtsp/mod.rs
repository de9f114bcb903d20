//! RTSP/1.0 and RTSP/2.0 on the wire: bytes to messages, and edited messages to bytes.
//!
//! Heads are borrowed from the buffer they came in, nothing is copied or decoded, and what is not
//! understood is left alone: a proxy is an editor.
//!
//! Not in here: sessions, and whether a message makes sense where it comes.

pub mod edit;
pub mod emit;
pub mod framing;
pub mod head;
pub mod resync;
pub mod rtp_info;
pub mod sdp;
pub mod status;
pub mod transport;
pub mod url;
pub mod write;

use core::fmt;

pub use self::{
    framing::{Framer, FramingError, Progress, Unit},
    head::{Head, Header},
    status::Told,
    transport::Spec,
    url::{Base, Url},
};

/// The two versions that are relayed, like for like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RTSP/1.x (RFC 2326).
    #[default]
    V1,
    /// RTSP/2.0 (RFC 7826).
    V2,
}

impl Version {
    /// As it stands in a start line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "RTSP/1.0",
            Self::V2 => "RTSP/2.0",
        }
    }
}

/// The methods that the gateway knows; others pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // their names are their documentation (RFC 2326 10, RFC 7826 13)
pub enum Method {
    Options,
    Describe,
    Setup,
    Play,
    Pause,
    Teardown,
    GetParameter,
    SetParameter,
    Announce,
    Record,
    Redirect,
    PlayNotify,
    Other,
}

const METHODS: [(Method, &str); 12] = [
    (Method::Options, "OPTIONS"),
    (Method::Describe, "DESCRIBE"),
    (Method::Setup, "SETUP"),
    (Method::Play, "PLAY"),
    (Method::Pause, "PAUSE"),
    (Method::Teardown, "TEARDOWN"),
    (Method::GetParameter, "GET_PARAMETER"),
    (Method::SetParameter, "SET_PARAMETER"),
    (Method::Announce, "ANNOUNCE"),
    (Method::Record, "RECORD"),
    (Method::Redirect, "REDIRECT"),
    (Method::PlayNotify, "PLAY_NOTIFY"),
];

impl Method {
    /// The method of that name; methods are case-sensitive (RFC 2326 6.1).
    pub fn from_bytes(name: &[u8]) -> Self {
        METHODS.iter().find(|(_, text)| text.as_bytes() == name).map_or(Self::Other, |(m, _)| *m)
    }

    /// Its name; empty for [`Method::Other`].
    pub fn as_str(self) -> &'static str {
        METHODS.iter().find(|(method, _)| *method == self).map_or("", |(_, text)| text)
    }
}

/// The rule of the grammar that bytes break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // their texts are below
pub enum Rule {
    StartLine,
    Uri,
    Version,
    Status,
    HeaderName,
    ContentLength,
    Url,
    TooManyHeaders,
    StartLineTooLong,
    HeaderLineTooLong,
    HeadTooLong,
    BodyTooLong,
    BlankTooLong,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StartLine => "start line",
            Self::Uri => "request line > URI",
            Self::Version => "start line > version",
            Self::Status => "status line > status",
            Self::HeaderName => "header > name and colon",
            Self::ContentLength => "Content-Length > one number",
            Self::Url => "URL > scheme, host, port",
            Self::TooManyHeaders => "head > number of headers",
            Self::StartLineTooLong => "start line > length",
            Self::HeaderLineTooLong => "header > length",
            Self::HeadTooLong => "head > length",
            Self::BodyTooLong => "body > length",
            Self::BlankTooLong => "empty lines before a message > length",
        })
    }
}

/// What can never become a message, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Bytes before the trouble.
    pub offset: usize,
    /// What should have been there.
    pub rule: Rule,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.offset, self.rule)
    }
}

impl core::error::Error for ParseError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_keep_their_names_and_their_case() {
        for (method, name) in METHODS {
            assert_eq!((Method::from_bytes(name.as_bytes()), method.as_str()), (method, name));
        }
        assert_eq!(Method::from_bytes(b"play"), Method::Other);
        assert_eq!(Method::Other.as_str(), "");
    }

    #[test]
    fn every_error_says_where_and_which_rule() {
        let rules = [
            (Rule::StartLine, "byte 18: start line"),
            (Rule::Uri, "byte 18: request line > URI"),
            (Rule::Version, "byte 18: start line > version"),
            (Rule::Status, "byte 18: status line > status"),
            (Rule::HeaderName, "byte 18: header > name and colon"),
            (Rule::ContentLength, "byte 18: Content-Length > one number"),
            (Rule::Url, "byte 18: URL > scheme, host, port"),
            (Rule::TooManyHeaders, "byte 18: head > number of headers"),
            (Rule::StartLineTooLong, "byte 18: start line > length"),
            (Rule::HeaderLineTooLong, "byte 18: header > length"),
            (Rule::HeadTooLong, "byte 18: head > length"),
            (Rule::BodyTooLong, "byte 18: body > length"),
            (Rule::BlankTooLong, "byte 18: empty lines before a message > length"),
        ];
        for (rule, text) in rules {
            assert_eq!(ParseError { offset: 18, rule }.to_string(), text);
        }
    }
}
