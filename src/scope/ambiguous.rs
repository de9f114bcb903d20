//! Paths that could mean two things.
//!
//! A path is compared as it came and never decoded, here and on its way. The server behind may
//! decode it, fold `..`, cut what follows `;` or take `A` for `a`, and then see another path than the
//! one that was judged: `/x/../private` falls to `/**` here and is `/private` there. Where some paths
//! are for some clients only, such a path is refused.
//!
//! Not in here: the query. It is the origin's alone, whatever it holds.

use std::borrow::Cow;

use crate::{
    origin::{Lookup, Route, Table},
    rtsp::url::escape,
};

/// Whether a server could take this path, its query cut, for another one.
pub(super) fn is_ambiguous(table: &Table, path: &[u8]) -> bool {
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    has_odd_segments(path) || has_odd_bytes(path) || is_another(table, path)
}

/// Empty segments, `.` and `..`. One slash at the end is usual.
fn has_odd_segments(path: &[u8]) -> bool {
    let inner = path.strip_prefix(b"/").unwrap_or(path);
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    let odd = |segment: &[u8]| {
        let plain = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        segment.is_empty() || matches!(plain, b"." | b"..")
    };
    !matches!(path, b"" | b"/") && inner.split(|byte| *byte == b'/').any(odd)
}

/// Escapes of what needs none, of what divides a path or ends it; what is no escape; `\` and `#`.
fn has_odd_bytes(path: &[u8]) -> bool {
    let odd = |at: usize, byte: u8| match byte {
        b'\\' | b'#' => true,
        b'%' => path.get(at..).and_then(escape).is_none_or(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' | b'/' | b'\\' | b'?' | b'#' | b';' => true,
            byte => byte.is_ascii_alphanumeric() || byte.is_ascii_control(),
        }),
        _ => false,
    };
    path.iter().enumerate().any(|(at, byte)| odd(at, *byte))
}

/// Whether it falls to another route without the parameters of its segments (RFC 2396 3.3), or is of
/// one that asks for credentials for a camera that knows no case.
fn is_another(table: &Table, path: &[u8]) -> bool {
    let plain = without_parameters(path);
    let routes =
        |path: &[u8]| [Lookup::Presentation, Lookup::Media].map(|how| table.route(path, how));
    let here = routes(path);
    let asks_there = |(index, route): (usize, &Route)| {
        route.asks()
            && route.covers_in_another_case(&plain)
            && here.iter().flatten().any(|at| *at != index)
    };
    (plain != path && routes(&plain) != here) || table.routes().iter().enumerate().any(asks_there)
}

fn without_parameters(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.contains(&b';') {
        return path.into();
    }
    let mut inside = false;
    let outside = path.iter().copied().filter(|byte| {
        inside = (inside || *byte == b';') && *byte != b'/';
        !inside
    });
    outside.collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::table, *};

    #[test]
    fn what_a_server_may_read_otherwise_is_found() {
        let table = table(
            "[[route]]\npath = \"/private/**\"\nauth = \"digest\"\norigins = [\"a\"]\n\
             [[route]]\npath = \"/**\"\norigins = [\"a\"]\nauth = \"none\"\n",
        );
        let rows = [
            ("", false),
            ("/", false),
            ("/cam1", false),
            ("/cam1/", false),
            ("/a%20b/$&=+@:,!'()*", false),
            ("/T%C3%BCr/%e2%82%ac", false),
            ("/T\u{fc}r", false),
            ("/100%25", false),
            ("/.hidden/a..b/...", false),
            ("/cam1;stream=2/t1", false),
            ("/Private", true),
            ("/PRIVATE/cam9", true),
            ("/privatE;x/cam", true),
            ("/private/Cam9", false),
            ("/Cam1", false),
            ("/private;x/cam", true),
            ("/cam1?x=/../%2e//;", false),
            ("//private", true),
            ("/private//cam", true),
            ("/cam1//", true),
            ("//", true),
            ("/./private", true),
            ("/x/../private", true),
            ("/x/..;a/private", true),
            ("/x/..", true),
            ("/x/.", true),
            ("/%70rivate", true),
            ("/%2e%2e/private", true),
            ("/%2E./private", true),
            ("/x%2fprivate", true),
            ("/x%5Cprivate", true),
            ("/x\\private", true),
            ("/private%3fx", true),
            ("/private%3Bx", true),
            ("/private%00x", true),
            ("/private#x", true),
            ("/%7euser", true),
            ("/100%", true),
            ("/100%zz", true),
        ];
        for (path, wanted) in rows {
            assert_eq!(is_ambiguous(&table, path.as_bytes()), wanted, "{path}");
        }
    }
}
