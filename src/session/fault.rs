//! What can go wrong in a session, whose fault it is, and what the client is told.
//!
//! One total function leads from a fault to a status. What the log says is the fault's `Display`;
//! the client learns the status only.

use core::{fmt, time::Duration};

use crate::rtsp::Version;

/// Why a request was not relayed, or a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be understood.
    Malformed,
    /// A head or body past its bound, with the status for it.
    TooLarge(u16),
    /// A version that is neither 1.x nor 2.0.
    Version,
    /// No CSeq.
    NoCseq,
    /// Our own pseudonym in Via.
    Loop,
    /// Proxy-Require with a tag that we do not know.
    ProxyRequire,
    /// No route for the path.
    NoRoute,
    /// Authentication refused for good.
    Forbidden,
    /// A filter wants the request forgotten.
    Filtered,
    /// A filter wants the answer forgotten.
    AnswerFiltered,
    /// A plugin that had to be asked failed, or is not there.
    PluginFailed,
    /// A filter that had to be asked about an answer failed, or is not there.
    PluginFailedOnAnswer,
    /// The method does not work through a gateway.
    MethodNotAllowed,
    /// A method that nobody knows, asked of the gateway itself.
    NotImplemented,
    /// Parameters asked of the gateway itself, which has none.
    UnknownParameter,
    /// A Session id that is not this connection's.
    NoSession,
    /// Not in this state.
    WrongState,
    /// More tracks than fit.
    TooManyTracks,
    /// No transport of the list can be had.
    NoTransport,
    /// Media was to go to somebody else.
    Destination,
    /// The gateway's or the client's number of sessions is reached.
    SessionLimit,
    /// Every origin of the route has all the sessions it may.
    OriginsFull,
    /// No UDP ports or descriptors are left.
    NoPorts,
    /// No origin is well.
    NoOrigin {
        /// Until one is tried again.
        retry_in: Duration,
    },
    /// The origin did not answer in time.
    OriginSilent,
    /// The origin closed, or could not be reached.
    OriginGone,
    /// The origin's answer makes no sense.
    OriginReply,
    /// The origin wants credentials that the gateway does not have.
    OriginAuth,
    /// The origin redirects to a place that the route does not allow.
    Redirect,
    /// The origin sends everybody away (REDIRECT without Session, RFC 7826 13.10).
    OriginLeaves,
    /// The origin promised media and sends none.
    MediaSilent,
    /// The client sent nothing for too long.
    Idle,
    /// The client took too long for one whole message.
    SlowHead,
    /// The client does not read its answers.
    Stuck,
    /// The client closed its connection.
    ClientGone,
    /// An operator closed the session.
    Closed,
    /// The gateway stops.
    Shutdown,
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The player.
    Client,
    /// The camera or recorder.
    Origin,
    /// The gateway's operator.
    Local,
}

impl Fault {
    /// The status that the client is told.
    pub fn status(self, version: Version) -> u16 {
        let modern = version == Version::V2;
        match self {
            Self::Malformed | Self::NoCseq | Self::Loop => 400,
            Self::TooLarge(status) => status,
            Self::Version => 505,
            Self::ProxyRequire => 551,
            Self::NoRoute => 404,
            Self::Forbidden | Self::Filtered => 403,
            Self::AnswerFiltered | Self::PluginFailedOnAnswer => 502,
            Self::PluginFailed => 503,
            Self::MethodNotAllowed => 405,
            Self::NotImplemented => 501,
            Self::UnknownParameter => 451,
            Self::NoSession => 454,
            Self::WrongState => 455,
            Self::NoTransport => 461,
            Self::Destination if modern => 463,
            Self::Destination => 403,
            Self::SessionLimit | Self::OriginsFull | Self::TooManyTracks => 453,
            // The gateway's own trouble; 503 is the origin's (RFC 7826 17.5.8).
            Self::NoPorts | Self::Closed | Self::Shutdown if modern => 553,
            Self::NoPorts | Self::NoOrigin { .. } => 503,
            Self::OriginSilent => 504,
            Self::OriginGone | Self::OriginReply | Self::OriginAuth | Self::Redirect => 502,
            Self::OriginLeaves => 502,
            Self::MediaSilent | Self::Idle | Self::SlowHead => 408,
            Self::Stuck | Self::ClientGone => 408,
            Self::Closed | Self::Shutdown => 503,
        }
    }

    /// Seconds for Retry-After, where the client should come again.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::NoOrigin { retry_in } => Some(retry_in.as_secs().max(1)),
            Self::NoPorts | Self::Shutdown => Some(5),
            _ => None,
        }
    }

    /// Who has to act.
    pub fn whose(self) -> Whose {
        match self {
            Self::OriginSilent
            | Self::OriginGone
            | Self::OriginReply
            | Self::OriginAuth
            | Self::Redirect
            | Self::OriginLeaves
            | Self::MediaSilent
            | Self::OriginsFull
            | Self::NoOrigin { .. } => Whose::Origin,
            Self::NoPorts
            | Self::SessionLimit
            | Self::PluginFailed
            | Self::PluginFailedOnAnswer
            | Self::Closed
            | Self::Shutdown => Whose::Local,
            _ => Whose::Client,
        }
    }

    /// Name of its counter.
    pub fn counter(self) -> &'static str {
        match self {
            Self::Malformed | Self::NoCseq => "refused_malformed",
            Self::TooLarge(_) => "refused_too_large",
            Self::Version => "refused_version",
            Self::Loop => "refused_loop",
            Self::ProxyRequire => "refused_proxy_require",
            Self::NoRoute => "refused_no_route",
            Self::Forbidden => "refused_forbidden",
            Self::Filtered => "refused_filtered",
            Self::AnswerFiltered => "answer_filtered",
            Self::PluginFailed => "refused_plugin_failed",
            Self::PluginFailedOnAnswer => "answer_plugin_failed",
            Self::MethodNotAllowed => "refused_method",
            Self::NotImplemented => "refused_not_implemented",
            Self::UnknownParameter => "refused_parameter",
            Self::NoSession => "refused_no_session",
            Self::WrongState => "refused_wrong_state",
            Self::TooManyTracks => "refused_tracks",
            Self::NoTransport => "refused_transport",
            Self::Destination => "refused_destination",
            Self::SessionLimit => "refused_session_limit",
            Self::OriginsFull => "refused_origins_full",
            Self::NoPorts => "refused_no_ports",
            Self::NoOrigin { .. } => "refused_no_origin",
            Self::OriginSilent => "origin_silent",
            Self::OriginGone => "origin_gone",
            Self::OriginReply => "origin_bad_reply",
            Self::OriginAuth => "origin_auth",
            Self::Redirect => "origin_redirect_refused",
            Self::OriginLeaves => "origin_leaves",
            Self::MediaSilent => "origin_media_silent",
            Self::Idle => "ended_idle",
            Self::SlowHead => "ended_slow_head",
            Self::Stuck => "ended_stuck",
            Self::ClientGone => "ended_client_gone",
            Self::Closed => "ended_by_operator",
            Self::Shutdown => "ended_by_shutdown",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed => "message cannot be understood",
            Self::TooLarge(_) => "message is past its bound",
            Self::Version => "RTSP version is neither 1.x nor 2.0",
            Self::NoCseq => "request has no CSeq",
            Self::Loop => "request has been here before (own pseudonym in Via)",
            Self::ProxyRequire => "Proxy-Require names a feature that is not known",
            Self::NoRoute => "no route for this path",
            Self::Forbidden => "authentication refused",
            Self::Filtered => "a filter dropped the request",
            Self::AnswerFiltered => "a filter dropped the answer",
            Self::PluginFailed => "a plugin failed over the request, or its slot is empty",
            Self::PluginFailedOnAnswer => "a filter failed over the answer, or its slot is empty",
            Self::MethodNotAllowed => "method does not work through a gateway",
            Self::NotImplemented => "method is not known",
            Self::UnknownParameter => "the gateway itself has no parameters",
            Self::NoSession => "Session id is not that of this connection",
            Self::WrongState => "method does not fit the session's state",
            Self::TooManyTracks => "session has as many tracks as it may",
            Self::NoTransport => "no transport of the list can be had",
            Self::Destination => "media was to go to another address than the client's",
            Self::SessionLimit => "number of sessions is reached",
            Self::OriginsFull => "every origin has as many sessions as it may",
            Self::NoPorts => "no UDP ports or descriptors are left",
            Self::NoOrigin { retry_in } => {
                return write!(f, "no origin is well, next try in {} s", retry_in.as_secs());
            }
            Self::OriginSilent => "origin did not answer in time",
            Self::OriginGone => "origin closed its connection or cannot be reached",
            Self::OriginReply => "origin's answer makes no sense",
            Self::OriginAuth => "origin wants credentials that the gateway does not have",
            Self::Redirect => "origin redirects to a place that is no configured origin",
            Self::OriginLeaves => "origin sends its clients elsewhere",
            Self::MediaSilent => "origin promised media and went silent",
            Self::Idle => "client sent no sign of life",
            Self::SlowHead => "client took too long for one message",
            Self::Stuck => "client does not read its answers",
            Self::ClientGone => "client closed its connection",
            Self::Closed => "closed by the operator",
            Self::Shutdown => "gateway stops",
        };
        f.write_str(text)
    }
}
