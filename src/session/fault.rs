//! What can go wrong in a session, whose fault it is, and what the client is told.
//!
//! One total function leads from a fault to a status, one to the phrase beside it, which names the
//! cause in a few words. What the log says is the fault's `Display`.

use core::{fmt, time::Duration};

use crate::{
    config::Methods,
    rtsp::{Told, Version, emit::Unclean},
};

/// Why a request was not relayed, or a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request cannot be understood.
    Malformed,
    /// Something in the head that readers take for different things.
    Unclean(Unclean),
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
    /// The Authorization makes no sense.
    BadAuthorization,
    /// A path that a server could take for another one.
    AmbiguousPath,
    /// A URL that looks like an alias of ours, and is none.
    NoAlias,
    /// Another presentation than the one that is set up.
    OtherPresentation,
    /// The gateway signs for this route, which lets players ask for these groups of methods only.
    MethodOfRoute(Methods),
    /// The client's address sends passwords faster than they are checked after a wrong one.
    Guessing,
    /// Too many wrong passwords on one connection.
    WrongPasswords,
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
    /// The gateway has as many sessions as it may.
    SessionLimit,
    /// The client's address has as many sessions as it may.
    ClientSessions,
    /// The client's address has as many tracks as it may.
    ClientTracks,
    /// The gateway has as many connections as it may.
    ConnectionLimit,
    /// The client's address has as many connections as it may, each with a session.
    ClientConnections,
    /// As many connections as may have sent no request yet.
    HalfOpen,
    /// Others needed what the connection took.
    GaveWay,
    /// Unanswered requests of the client's address take too much memory.
    RequestsKept,
    /// Every origin of the route has all the sessions it may.
    OriginsFull,
    /// The client's address asks an origin by as many connections as it may.
    TooManyAsking,
    /// No UDP ports are left.
    NoPorts,
    /// No descriptors are left.
    NoDescriptors,
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
    /// The origin wants media sent to an address that is none of its own, and is not believed.
    OriginSource,
    /// The origin wants credentials that the gateway does not have.
    OriginAuth,
    /// The origin redirects to a place that the route does not allow.
    Redirect,
    /// The origin sends one message after the other that nobody asked for.
    OriginFloods,
    /// The client answers what it was not asked.
    ClientFloods,
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
    /// Status and phrase that the client is told.
    pub fn told(self, version: Version) -> Told {
        Told::because(self.status(version), self.reason())
    }

    /// The phrase beside the status: ASCII, short enough for a line in a player.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "Malformed message",
            Self::Unclean(what) => what.reason(),
            Self::TooLarge(413) => "Body too large",
            Self::TooLarge(414) => "URL too long",
            Self::TooLarge(_) => "Head too large",
            Self::Version => "RTSP version not supported",
            Self::NoCseq => "No CSeq",
            Self::Loop => "Loop: own pseudonym in Via",
            Self::ProxyRequire => "Feature of Proxy-Require not supported",
            Self::NoRoute => "No route for this path",
            Self::AmbiguousPath => "Ambiguous path",
            Self::NoAlias => "Unknown alias",
            Self::OtherPresentation => "Another presentation is set up",
            Self::MethodOfRoute(_) => "Method not allowed on this route",
            Self::BadAuthorization => "Authorization not understood",
            Self::Guessing => "Wrong passwords of this address",
            Self::WrongPasswords => "Too many wrong passwords",
            Self::Forbidden => "Authentication refused",
            Self::Filtered => "Dropped by a filter",
            Self::AnswerFiltered => "Answer dropped by a filter",
            Self::PluginFailed => "Plugin failed",
            Self::PluginFailedOnAnswer => "Plugin failed over the answer",
            Self::MethodNotAllowed => "Method Not Allowed",
            Self::NotImplemented => "Method not known",
            Self::UnknownParameter => "Parameter Not Understood",
            Self::NoSession => "Session Not Found",
            Self::WrongState => "Method Not Valid in This State",
            Self::TooManyTracks => "Track limit of a session",
            Self::NoTransport => "Unsupported Transport",
            Self::Destination => "Media to another address than the client's",
            Self::SessionLimit => "Session limit of the gateway",
            Self::ClientSessions => "Session limit of this address",
            Self::ClientTracks => "Track limit of this address",
            Self::ConnectionLimit => "Connection limit of the gateway",
            Self::ClientConnections => "Connection limit of this address",
            Self::HalfOpen => "Too many connections without a request",
            Self::GaveWay => "Gave way to others",
            Self::RequestsKept => "Unanswered requests of this address are too large",
            Self::OriginsFull => "Session limit of the origin",
            Self::TooManyAsking => "Connections of this address that only ask",
            Self::NoPorts => "No media ports",
            Self::NoDescriptors => "No descriptors",
            Self::NoOrigin { .. } => "Origin down",
            Self::OriginSilent => "Origin silent",
            Self::OriginGone => "Origin unreachable",
            Self::OriginReply => "Bad answer of the origin",
            Self::OriginSource => "Source of media not the origin's",
            Self::OriginAuth => "Credentials of the gateway refused by the origin",
            Self::Redirect => "Redirect to no configured origin",
            Self::OriginLeaves => "Origin sends its clients elsewhere",
            Self::MediaSilent => "Media silent",
            Self::Idle => "Client idle",
            Self::SlowHead => "Message took too long",
            Self::Stuck => "Answers not read",
            Self::ClientGone => "Client gone",
            Self::Closed => "Closed by the operator",
            Self::Shutdown => "Gateway stops",
            Self::OriginFloods => "Origin sends what nobody asked for",
            Self::ClientFloods => "Answers to no request",
        }
    }

    /// The status that the client is told.
    pub fn status(self, version: Version) -> u16 {
        let modern = version == Version::V2;
        match self {
            Self::Malformed
            | Self::Unclean(_)
            | Self::NoCseq
            | Self::Loop
            | Self::BadAuthorization => 400,
            Self::TooLarge(status) => status,
            Self::Version => 505,
            Self::ProxyRequire => 551,
            Self::NoRoute | Self::NoAlias => 404,
            Self::AmbiguousPath => 400,
            Self::Forbidden | Self::Filtered | Self::WrongPasswords => 403,
            Self::AnswerFiltered | Self::PluginFailedOnAnswer => 502,
            Self::PluginFailed => 503,
            Self::MethodNotAllowed | Self::MethodOfRoute(_) => 405,
            Self::NotImplemented => 501,
            Self::UnknownParameter => 451,
            Self::NoSession => 454,
            Self::WrongState | Self::OtherPresentation => 455,
            Self::NoTransport => 461,
            Self::Destination if modern => 463,
            Self::Destination => 403,
            Self::SessionLimit | Self::ClientSessions | Self::ClientTracks => 453,
            Self::OriginsFull | Self::TooManyTracks => 453,
            // The gateway's own trouble; 503 is the origin's (RFC 7826 17.5.8).
            Self::NoPorts | Self::NoDescriptors | Self::Closed | Self::Shutdown if modern => 553,
            Self::NoPorts | Self::NoDescriptors | Self::NoOrigin { .. } => 503,
            Self::TooManyAsking => 503,
            Self::ConnectionLimit | Self::ClientConnections | Self::HalfOpen => 503,
            Self::GaveWay | Self::RequestsKept | Self::Guessing => 503,
            Self::OriginSilent => 504,
            Self::OriginGone | Self::OriginReply | Self::OriginAuth | Self::Redirect => 502,
            Self::OriginLeaves | Self::OriginFloods | Self::OriginSource => 502,
            Self::MediaSilent | Self::Idle | Self::SlowHead => 408,
            Self::Stuck | Self::ClientGone => 408,
            Self::ClientFloods => 400,
            Self::Closed | Self::Shutdown => 503,
        }
    }

    /// Seconds for Retry-After, where the client should come again.
    pub fn retry_after(self) -> Option<u64> {
        match self {
            Self::NoOrigin { retry_in } => Some(retry_in.as_secs().max(1)),
            Self::NoPorts | Self::NoDescriptors | Self::TooManyAsking | Self::Shutdown => Some(5),
            Self::Guessing => Some(1),
            Self::ConnectionLimit | Self::ClientConnections | Self::HalfOpen => Some(5),
            _ => None,
        }
    }

    /// Who has to act.
    pub fn whose(self) -> Whose {
        match self {
            Self::OriginSilent
            | Self::OriginGone
            | Self::OriginReply
            | Self::OriginSource
            | Self::OriginAuth
            | Self::Redirect
            | Self::OriginLeaves
            | Self::OriginFloods
            | Self::MediaSilent
            | Self::OriginsFull
            | Self::NoOrigin { .. } => Whose::Origin,
            Self::NoPorts
            | Self::NoDescriptors
            | Self::SessionLimit
            | Self::ClientSessions
            | Self::ClientTracks
            | Self::ConnectionLimit
            | Self::ClientConnections
            | Self::HalfOpen
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
            Self::Unclean(_) => "refused_unclean",
            Self::TooLarge(_) => "refused_too_large",
            Self::Version => "refused_version",
            Self::Loop => "refused_loop",
            Self::ProxyRequire => "refused_proxy_require",
            Self::NoRoute => "refused_no_route",
            Self::AmbiguousPath => "refused_ambiguous_path",
            Self::NoAlias => "refused_alias",
            Self::OtherPresentation => "refused_other_presentation",
            Self::MethodOfRoute(_) => "refused_method_of_route",
            Self::BadAuthorization => "refused_authorization",
            Self::Guessing => "refused_guessing",
            Self::WrongPasswords => "ended_wrong_passwords",
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
            Self::ClientSessions => "refused_client_sessions",
            Self::ClientTracks => "refused_client_tracks",
            Self::ConnectionLimit => "refused_connections",
            Self::ClientConnections => "refused_client_connections",
            Self::HalfOpen => "refused_half_open",
            Self::GaveWay => "ended_gave_way",
            Self::RequestsKept => "ended_requests_kept",
            Self::OriginsFull => "refused_origins_full",
            Self::TooManyAsking => "refused_asking",
            Self::NoPorts => "refused_no_ports",
            Self::NoDescriptors => "refused_no_descriptors",
            Self::NoOrigin { .. } => "refused_no_origin",
            Self::OriginSilent => "origin_silent",
            Self::OriginGone => "origin_gone",
            Self::OriginReply => "origin_bad_reply",
            Self::OriginSource => "origin_source_ignored",
            Self::OriginAuth => "origin_auth",
            Self::Redirect => "origin_redirect_refused",
            Self::OriginLeaves => "origin_leaves",
            Self::OriginFloods => "origin_floods",
            Self::ClientFloods => "ended_client_floods",
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
            Self::Unclean(what) => {
                return write!(f, "message could be read in two ways: {}", what.reason());
            }
            Self::TooLarge(_) => "message is past its bound",
            Self::Version => "RTSP version is neither 1.x nor 2.0",
            Self::NoCseq => "request has no CSeq",
            Self::Loop => "request has been here before (own pseudonym in Via)",
            Self::ProxyRequire => "Proxy-Require names a feature that is not known",
            Self::NoRoute => "no route for this path",
            Self::AmbiguousPath => "path could mean two things to a server",
            Self::NoAlias => "URL looks like an alias that was never given out",
            Self::OtherPresentation => "another presentation is set up on this connection",
            Self::MethodOfRoute(_) => {
                "method is not among those that the route lets players send (route.methods)"
            }
            Self::BadAuthorization => "Authorization makes no sense",
            Self::Guessing => "password not checked so soon after a wrong one of the address",
            Self::WrongPasswords => "too many wrong passwords",
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
            Self::SessionLimit => "the gateway has as many sessions as it may (limits.sessions)",
            Self::ClientSessions => {
                "the address has as many sessions as it may (limits.sessions_per_client)"
            }
            Self::ClientTracks => {
                "the address has as many tracks as it may (limits.tracks_per_client)"
            }
            Self::ConnectionLimit => "the gateway has as many connections as it may",
            Self::ClientConnections => {
                "the address has as many connections as it may (limits.connections_per_client)"
            }
            Self::HalfOpen => "too many connections have sent no request (limits.half_open)",
            Self::GaveWay => "others needed what it took",
            Self::RequestsKept => "unanswered requests of the address take too much memory",
            Self::OriginsFull => "every origin has as many sessions as it may",
            Self::TooManyAsking => "client asks the origin by as many connections as it may",
            Self::NoPorts => "no UDP ports are left (gateway.media_ports)",
            Self::NoDescriptors => "no descriptors are left",
            Self::NoOrigin { retry_in } => {
                return write!(f, "no origin is well, next try in {} s", retry_in.as_secs());
            }
            Self::OriginSilent => "origin did not answer in time",
            Self::OriginGone => "origin closed its connection or cannot be reached",
            Self::OriginReply => "origin's answer makes no sense",
            Self::OriginSource => "origin names a source of media that is none of its addresses",
            Self::OriginAuth => "origin wants credentials that the gateway does not have",
            Self::Redirect => "origin redirects to a place that is no configured origin",
            Self::OriginFloods => "origin goes on to send what nobody asked for",
            Self::ClientFloods => "client goes on to answer what it was not asked",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_their_cause_in_one_short_line_of_ascii() {
        let retry_in = Duration::from_secs(3);
        let faults = [
            (Fault::Malformed, "400 Malformed message"),
            (Fault::Unclean(Unclean::Twice("Session")), "400 Second Session"),
            (Fault::TooLarge(413), "413 Body too large"),
            (Fault::TooLarge(414), "414 URL too long"),
            (Fault::TooLarge(400), "400 Head too large"),
            (Fault::NoCseq, "400 No CSeq"),
            (Fault::Loop, "400 Loop: own pseudonym in Via"),
            (Fault::NoRoute, "404 No route for this path"),
            (Fault::Forbidden, "403 Authentication refused"),
            (Fault::PluginFailed, "503 Plugin failed"),
            (Fault::Destination, "403 Media to another address than the client's"),
            (Fault::SessionLimit, "453 Session limit of the gateway"),
            (Fault::ClientSessions, "453 Session limit of this address"),
            (Fault::ClientTracks, "453 Track limit of this address"),
            (Fault::TooManyTracks, "453 Track limit of a session"),
            (Fault::OriginsFull, "453 Session limit of the origin"),
            (Fault::TooManyAsking, "503 Connections of this address that only ask"),
            (Fault::NoPorts, "503 No media ports"),
            (Fault::NoDescriptors, "503 No descriptors"),
            (Fault::NoOrigin { retry_in }, "503 Origin down"),
            (Fault::OriginSilent, "504 Origin silent"),
            (Fault::OriginGone, "502 Origin unreachable"),
            (Fault::OriginAuth, "502 Credentials of the gateway refused by the origin"),
            (Fault::Redirect, "502 Redirect to no configured origin"),
        ];
        let mut counters = std::collections::BTreeSet::new();
        for (fault, line) in faults {
            let Told { status, reason } = fault.told(Version::V1);
            assert_eq!(format!("{status} {reason}"), line);
            assert!(reason.is_ascii() && reason.len() < 56, "{reason}");
            counters.insert(fault.counter());
        }
        // Those for a malformed message share one, as do those for one that is too large.
        assert_eq!(counters.len(), faults.len() - 3);
    }
}
