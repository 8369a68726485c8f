//! Why the service does not let us: what is said about 401 and 403, for whoever has to make the job run again.
//!
//! The service's own words are for users of its API; these name the client's options and commands.

use super::replies::Problem;

/// How to give a token.
const GIVE: &str = "set SEMAPHORE_TOKEN or give --token-file FILE";
/// Who makes one.
const MAKE: &str = "an admin makes one with `semaphorectl token create";

/// What is wrong and what to do, where the code of the problem is one of those about tokens.
pub(super) fn words(problem: &Problem) -> Option<String> {
    let text = match problem.code.as_str() {
        "token-missing" => format!("the service wants a token: {GIVE} ({MAKE}`)"),
        "token-invalid" => format!(
            "the service does not know this token: it is not whole, or was revoked or rotated; {GIVE} with the one \
             that is good now ({MAKE}`)"
        ),
        "token-expired" => {
            format!("the time of this token is over: {GIVE} with a new one ({MAKE}`)")
        }
        "scope-missing" => {
            let scope = problem.scope.as_deref()?;
            let has = match problem.scopes.as_slice() {
                [] => String::new(),
                scopes => format!(", and this one has {}", scopes.join(" and ")),
            };
            format!(
                "this takes a token with the scope {scope}{has}: {GIVE} with another one ({MAKE} NAME --scope {scope}`)"
            )
        }
        "all-semaphores-needed" => format!(
            "this takes a token for all semaphores, and this one is for some of them: {GIVE} with another one ({MAKE}` \
             without --semaphore)"
        ),
        "priority-too-high" => {
            let highest = problem.priority_max?;
            let asked = problem.priority.map(|priority| format!(", not for {priority}"));
            format!(
                "this token may ask for --priority {highest} at most{}: ask for less, or take another one ({MAKE}` with \
                 --priority-max)",
                asked.unwrap_or_default()
            )
        }
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::http::Answer;

    fn said(body: &str) -> Option<String> {
        words(&Problem::read(&Answer { body: body.into(), ..Answer::default() }))
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
