//! Why the service does not let us: what is said about 401 and 403, for whoever has to make the job run again.
//!
//! The service's own words are for users of its API; these name the client's options and commands.

use super::replies::Problem;

/// How to give a token.
const GIVE: &str = "set SEMAPHORE_TOKEN or give --token-file FILE";
/// Who makes one.
const MAKE: &str = "an admin makes one with `semaphorectl token create";

/// What is wrong, and what to do, where the code of the problem is one of those about tokens.
pub(super) fn words(problem: &Problem) -> Option<(String, String)> {
    let (what, how) = match problem.code.as_str() {
        "token-missing" => ("the service wants a token".to_owned(), format!("{GIVE} ({MAKE}`)")),
        "token-invalid" => (
            "the service does not know this token, which is not whole, or was revoked or rotated"
                .to_owned(),
            format!("{GIVE} with the one that is good now ({MAKE}`)"),
        ),
        "token-expired" => (
            "the time of this token is over".to_owned(),
            format!("{GIVE} with a new one ({MAKE}`)"),
        ),
        "scope-missing" => {
            let scope = problem.scope.as_deref()?;
            let has = match problem.scopes.as_slice() {
                [] => String::new(),
                scopes => format!(", and this one has {}", scopes.join(" and ")),
            };
            (
                format!("this takes a token with the scope {scope}{has}"),
                format!("{GIVE} with another one ({MAKE} NAME --scope {scope}`)"),
            )
        }
        "all-semaphores-needed" => (
            "this takes a token for all semaphores, and this one is for some of them".to_owned(),
            format!("{GIVE} with another one ({MAKE}` without --semaphore)"),
        ),
        "priority-too-high" => {
            let highest = problem.priority_max?;
            let asked = problem.priority.map(|priority| format!(", not for {priority}"));
            (
                format!(
                    "this token may ask for --priority {highest} at most{}",
                    asked.unwrap_or_default()
                ),
                format!("ask for less, or take another token ({MAKE}` with --priority-max)"),
            )
        }
        _ => return None,
    };
    Some((what, how))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::Answer;

    fn said(body: &str) -> Option<String> {
        let problem = Problem::read(&Answer { body: body.into(), ..Answer::default() });
        words(&problem).map(|(what, how)| format!("{what}: {how}"))
    }

    #[test]
    fn what_is_missing_is_named() {
        for (body, expected) in [
            (
                r#"{"code":"scope-missing","scope":"admin","scopes":["read","claim"]}"#,
                "the scope admin, and this one has read and claim: set",
            ),
            (r#"{"code":"scope-missing","scope":"read"}"#, "the scope read: set"),
            (
                r#"{"code":"priority-too-high","priority":50,"priority_max":0}"#,
                "--priority 0 at most, not for 50:",
            ),
        ] {
            let said = said(body).unwrap();
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn where_the_service_says_less_or_something_else_its_own_words_are_told() {
        for body in [
            "",
            r#"{"code":"scope-missing"}"#,
            r#"{"code":"priority-too-high"}"#,
            r#"{"code":"x"}"#,
        ] {
            assert_eq!(said(body), None, "{body}");
        }
    }
}
