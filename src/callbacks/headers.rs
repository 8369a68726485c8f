//! Headers that an admin adds to a request. Pure.

use super::{
    secret::Secret,
    settings::{ConfigProblem, HEADERS_MAX},
};

/// What frames the request, and what the signature is in.
const FORBIDDEN: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
];
const FORBIDDEN_PREFIX: &str = "webhook-";

/// Checks names and values.
///
/// # Errors
/// Too many, a name that is no token (RFC 9110) or ours, a value with control characters, one name twice.
pub(super) fn check(given: &[(String, Secret)]) -> Result<Vec<(String, Secret)>, ConfigProblem> {
    if given.len() > HEADERS_MAX {
        return Err(ConfigProblem::TooMany { of: "`headers` of one target", max: HEADERS_MAX });
    }
    let mut checked: Vec<(String, Secret)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        let lower = name.to_ascii_lowercase();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !(1..=128).contains(&name.len()) || !name.bytes().all(is_token) {
            return Err(ConfigProblem::HeaderName);
        }
        if FORBIDDEN.contains(&lower.as_str()) || lower.starts_with(FORBIDDEN_PREFIX) {
            return Err(ConfigProblem::HeaderForbidden(name.clone()));
        }
        if !value.expose().bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(ConfigProblem::HeaderValue(name.clone()));
        }
        if checked.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(ConfigProblem::HeaderTwice(name.clone()));
        }
        checked.push((name.clone(), value.clone()));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(headers: &[(&str, &str)]) -> String {
        let secret = |text: &str| Secret::new(text).unwrap();
        let given: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), secret(value))).collect();
        check(&given).map_or_else(|problem| problem.to_string(), |checked| format!("{checked:?}"))
    }

    #[test]
    fn names_and_values_are_checked() {
        assert_eq!(error(&[("X-Build", "a b")]), r#"[("X-Build", Secret(…))]"#);
        for (name, value, expected) in [
            ("X Build", "a", "a header's name must be"),
            ("", "a", "a header's name must be"),
            ("Bearer glpat-1", "Authorization", "a header's name must be"),
            ("Host", "a", "is set by the service itself"),
            ("content-LENGTH", "1", "is set by the service itself"),
            ("Transfer-Encoding", "chunked", "is set by the service itself"),
            ("Webhook-Signature", "v1,x", "is set by the service itself"),
            ("X-Build", "\u{fc}", "must be visible ASCII"),
        ] {
            let error = error(&[(name, value)]);
            assert!(error.contains(expected) && !error.contains("glpat"), "{name}: {error}");
        }
        assert!(error(&[("X-A", "1"), ("x-a", "2")]).contains("x-a is there twice"));
    }
}
