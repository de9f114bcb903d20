//! Reason phrases (RFC 2326 7.1.1, RFC 7826 17).

/// A status and the phrase beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Three digits.
    pub status: u16,
    /// What a person reads.
    pub reason: &'static str,
}

impl Told {
    /// A refusal that names its cause.
    pub const fn because(status: u16, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

impl From<u16> for Told {
    fn from(status: u16) -> Self {
        Self { status, reason: reason(status) }
    }
}

/// The phrase for a status; that of its class for one that is not known.
pub const fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        250 => "Low on Storage Space",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        451 => "Parameter Not Understood",
        452 => "Conference Not Found",
        453 => "Not Enough Bandwidth",
        454 => "Session Not Found",
        455 => "Method Not Valid in This State",
        456 => "Header Field Not Valid for Resource",
        457 => "Invalid Range",
        458 => "Parameter Is Read-Only",
        459 => "Aggregate Operation Not Allowed",
        460 => "Only Aggregate Operation Allowed",
        461 => "Unsupported Transport",
        462 => "Destination Unreachable",
        463 => "Destination Prohibited",
        464 => "Data Transport Not Ready Yet",
        465 => "Notification Reason Unknown",
        466 => "Key Management Error",
        470 => "Connection Authorization Required",
        471 => "Connection Credentials Not Accepted",
        472 => "Failure to Establish Secure Connection",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "RTSP Version Not Supported",
        551 => "Option not supported",
        553 => "Proxy Unavailable",
        _ => class(status),
    }
}

const fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "Continue",
        2 => "OK",
        3 => "Redirection",
        4 => "Client Error",
        _ => "Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_that_the_gateway_gives_has_a_phrase_of_its_own() {
        let given = [
            400, 401, 403, 404, 405, 407, 413, 414, 451, 453, 454, 455, 459, 460, 461, 463, 501,
            502, 503, 504, 505, 551, 553,
        ];
        for status in given {
            assert_ne!(reason(status), class(status), "{status}");
        }
        assert_eq!(
            (reason(299), reason(499), reason(65_535)),
            ("OK", "Client Error", "Server Error")
        );
    }
}
