//! Headers that an admin adds to a request. Reads those that are in files; else pure.

use std::path::Path;

use super::{
    secret::{Secret, SecretSource},
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

/// Checks names, and reads and checks values. Adds to the warnings what an admin should know.
///
/// # Errors
/// Too many, a name that is no token (RFC 9110) or ours, a value that cannot be read or has control characters, one name
/// twice.
pub(super) fn read(
    given: &[(String, SecretSource)],
    credentials: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, Secret)>, ConfigProblem> {
    if given.len() > HEADERS_MAX {
        return Err(ConfigProblem::TooMany { of: "`headers` of one target", max: HEADERS_MAX });
    }
    let mut checked: Vec<(String, Secret)> = Vec::with_capacity(given.len());
    for (name, source) in given {
        let lower = name.to_ascii_lowercase();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if !(1..=128).contains(&name.len()) || !name.bytes().all(is_token) {
            return Err(ConfigProblem::HeaderName);
        }
        if FORBIDDEN.contains(&lower.as_str()) || lower.starts_with(FORBIDDEN_PREFIX) {
            return Err(ConfigProblem::HeaderForbidden(name.clone()));
        }
        if checked.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            return Err(ConfigProblem::HeaderTwice(name.clone()));
        }
        let header = |problem| ConfigProblem::Header { name: name.clone(), problem };
        let (value, warning) = source.read(credentials).map_err(header)?;
        warnings.extend(warning);
        if !value.expose().bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(ConfigProblem::HeaderValue(name.clone()));
        }
        checked.push((name.clone(), value));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn error(headers: &[(&str, &str)]) -> String {
        let inline = |text: &str| SecretSource::Inline(Secret::new(text).unwrap());
        let given: Vec<_> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), inline(value))).collect();
        let read = read(&given, None, &mut Vec::new());
        read.map_or_else(|problem| problem.to_string(), |checked| format!("{checked:?}"))
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
    #[test]
    fn values_are_read_from_files_and_credentials() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "Bearer glpat-1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let given = [
            ("X-File".to_owned(), SecretSource::File(path.clone())),
            ("X-Credential".to_owned(), SecretSource::Credential("token".into())),
        ];
        let mut warnings = Vec::new();
        let found = read(&given, Some(directory.path()), &mut warnings).unwrap();
        assert!(found.iter().all(|(_, value)| value.expose() == "Bearer glpat-1"));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        std::fs::write(&path, "a\u{fc}").unwrap();
        for (name, source, expected) in [
            ("X-File", SecretSource::File(path), "must be visible ASCII"),
            (
                "X-File",
                SecretSource::File("/nonexistent/x".into()),
                "`headers.X-File`: cannot read",
            ),
        ] {
            let error = read(&[(name.to_owned(), source)], None, &mut warnings).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
