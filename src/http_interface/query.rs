//! Request targets and queries (RFC 3986 section 3.4, RFC 9112 section 3.2, and the form encoding of the
//! URL standard for `+`).

use percent_encoding::percent_decode;

/// A request target in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    /// The path, still encoded.
    pub(super) path: &'a str,
    /// The query, still encoded; empty where there is none.
    pub(super) query: &'a str,
}

/// Splits a target. A whole URL, which a server has to accept though only proxies get it, loses its
/// scheme and host.
pub(super) fn split_target(target: &str) -> Target<'_> {
    let origin = if target.starts_with('/') {
        target
    } else {
        match target.split_once("://") {
            Some((_, rest)) => rest.find(['/', '?']).map_or("/", |start| &rest[start..]),
            None => target,
        }
    };
    let (path, query) = origin.split_once('?').unwrap_or((origin, ""));
    Target { path, query }
}

/// Reads a query's parameters in their order, twice where one is there twice: the API refuses that.
///
/// Bytes that are not UTF-8 become replacement characters. `a` is the same as `a=`.
pub(super) fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|piece| !piece.is_empty())
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            (decode(name), decode(value))
        })
        .collect()
}

fn decode(text: &str) -> String {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned()
    } else {
        percent_decode(text.as_bytes()).decode_utf8_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_split() {
        let cases = [
            ("/a/b?c=d", "/a/b", "c=d"),
            ("/a", "/a", ""),
            ("/a?", "/a", ""),
            ("/a?b?c", "/a", "b?c"),
            ("/a://b?c", "/a://b", "c"),
            ("http://host:1/a?b", "/a", "b"),
            ("http://host", "/", ""),
            ("http://host?b", "", "b"),
            ("*", "*", ""),
            ("host:443", "host:443", ""),
            ("", "", ""),
        ];
        for (target, path, query) in cases {
            assert_eq!(split_target(target), Target { path, query }, "{target:?}");
        }
    }

    #[test]
    fn queries_are_read() {
        let cases: [(&str, &[(&str, &str)]); 9] = [
            ("", &[]),
            ("wait=30s", &[("wait", "30s")]),
            ("a=1&b=2&a=3", &[("a", "1"), ("b", "2"), ("a", "3")]),
            ("&&a&", &[("a", "")]),
            ("a=b=c", &[("a", "b=c")]),
            ("=x", &[("", "x")]),
            ("h=two+words%2B%26", &[("h", "two words+&")]),
            ("%77ait=%33", &[("wait", "3")]),
            ("a=%ff%zz%", &[("a", "\u{fffd}%zz%")]),
        ];
        for (query, pairs) in cases {
            let expected: Vec<_> =
                pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(parse_query(query), expected, "{query:?}");
        }
    }
}
