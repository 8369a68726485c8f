//! Tokens in requests (RFC 6750): `Authorization: Bearer sem_...`, and what a refusal says back.
//!
//! A token anywhere else, as in the query, is not looked for: URLs end up in logs.

use super::Head;
use crate::{
    api::{self, Credentials},
    model::TokenText,
};

/// What a request says of who makes it.
pub(super) fn credentials(head: &Head) -> Credentials {
    let mut values = head.values("authorization");
    match (values.next(), values.next()) {
        (None, _) => Credentials::None,
        (Some(value), None) => bearer(value).map_or(Credentials::Malformed, Credentials::Token),
        // Two of them, and proxies differ in which one counts.
        (Some(_), Some(_)) => Credentials::Malformed,
    }
}

/// The scheme's name is not case-sensitive (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<TokenText> {
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    TokenText::parse(token.trim_start_matches(' ')).ok()
}

/// The `WWW-Authenticate` of a refusal (RFC 6750, section 3), where it has one.
pub(super) fn challenge(error: &api::Error) -> Option<String> {
    let rest = match error {
        api::Error::TokenMissing => String::new(),
        api::Error::TokenInvalid | api::Error::TokenExpired { .. } => {
            ", error=\"invalid_token\"".to_owned()
        }
        api::Error::ScopeMissing { scope, .. } => {
            format!(", error=\"insufficient_scope\", scope=\"{}\"", scope.as_str())
        }
        api::Error::AllSemaphoresNeeded { .. } => {
            ", error=\"insufficient_scope\", scope=\"admin\"".to_owned()
        }
        _ => return None,
    };
    Some(format!("Bearer realm=\"semaphored\"{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "sem_abcd_0123456789abcdefghijklmnopqrstuv";

    fn read(values: &[&str]) -> Credentials {
        let headers = values.iter().map(|v| ("Authorization".to_owned(), (*v).to_owned()));
        let head = Head { method: "GET".into(), target: "/".into(), headers: headers.collect() };
        credentials(&head)
    }

    #[test]
    fn one_bearer_token_is_read() {
        let token = Credentials::Token(TokenText::parse(TOKEN).unwrap());
        assert_eq!(read(&[]), Credentials::None);
        for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
            assert_eq!(read(&[&format!("{scheme} {TOKEN}")]), token, "{scheme}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        let good = format!("Bearer {TOKEN}");
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            TOKEN,
            "Basic c2VtOnNlbQ==",
            &format!("Bearer {TOKEN}, Bearer {TOKEN}"),
            &format!("Bearer\t{TOKEN}"),
            &format!("Bearer {TOKEN}\u{7f}"),
        ] {
            assert_eq!(read(&[bad]), Credentials::Malformed, "{bad:?}");
        }
        assert_eq!(read(&[&good, &good]), Credentials::Malformed, "twice");
    }
}
