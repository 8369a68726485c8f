//! The `Prefer` header's `wait` (RFC 7240): how long the client prefers to wait for the answer.

use std::time::Duration;

/// The first `wait` of the `Prefer` headers, in whole seconds.
///
/// As RFC 7240 section 2 wants it: preferences may be spread over several headers, only the first of a
/// name counts, names are compared without case, a value may be quoted, parameters after `;` belong to
/// their preference, and what is malformed or unknown is ignored as if it were not there. A number too
/// large for a `u32` stands for the largest: the API caps every wait.
pub(super) fn wait_preferred<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Duration> {
    headers.flat_map(|header| Pieces { rest: header, separator: ',' }).find_map(wait_of)
}

/// The wait in one preference, `wait=30` with or without parameters.
fn wait_of(preference: &str) -> Option<Duration> {
    let first = Pieces { rest: preference, separator: ';' }.next()?;
    let (name, value) = first.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("wait") {
        return None;
    }
    let value = value.trim();
    let digits = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u32>().unwrap_or(u32::MAX);
    Some(Duration::from_secs(u64::from(seconds)))
}

/// The pieces of a text between separators that are not inside a quoted string.
struct Pieces<'a> {
    rest: &'a str,
    separator: char,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        let mut quoted = false;
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                c if c == self.separator && !quoted => {
                    let piece = &self.rest[..at];
                    self.rest = &self.rest[at + c.len_utf8()..];
                    return Some(piece);
                }
                _ => {}
            }
        }
        Some(std::mem::take(&mut self.rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_found_where_it_is_well_formed() {
        let cases: [(&[&str], Option<u64>); 20] = [
            (&["wait=30"], Some(30)),
            (&["wait=0"], Some(0)),
            (&["WAIT = 30 "], Some(30)),
            (&["wait=\"30\""], Some(30)),
            (&["respond-async, wait=10"], Some(10)),
            (&["respond-async", "wait=10"], Some(10)),
            (&["wait=10; foo=\"a,wait=20;\"; bar"], Some(10)),
            (&["foo=\"a, wait=20\", wait=10"], Some(10)),
            (&["foo=\"a\\\", wait=20\", wait=10"], Some(10)),
            (&["foo; wait=20, wait=10"], Some(10)),
            (&["wait=10, wait=20"], Some(10)),
            (&["wait=99999999999999999999"], Some(u64::from(u32::MAX))),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=\"\""], None),
            (&["wait=-1"], None),
            (&["wait=1.5"], None),
            (&["wait=30s"], None),
            (&["return=minimal", ""], None),
            (&[], None),
        ];
        for (headers, seconds) in cases {
            let found = wait_preferred(headers.iter().copied());
            assert_eq!(found, seconds.map(Duration::from_secs), "{headers:?}");
        }
    }

    #[test]
    fn a_malformed_one_does_not_hide_the_next() {
        assert_eq!(wait_preferred(["wait=x, wait=5"].into_iter()), Some(Duration::from_secs(5)));
    }
}
