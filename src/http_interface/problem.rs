//! Problem documents (RFC 9457).
//!
//! They carry no `type`: a URI that leads nowhere helps nobody, and the service does not know under which
//! name its documentation is reached. Absent means `about:blank`, for which the RFC wants the status's
//! own phrase as `title`. What a program compares is `code`; `detail` is for people and may change.

use serde::Serialize;
use serde_json::Value;

use super::{Error, Response, authorization, status};
use crate::{api, model::without_secrets, router};

#[derive(Serialize)]
struct Problem<'a> {
    title: &'static str,
    status: u16,
    code: &'a str,
    detail: String,
    #[serde(flatten)]
    data: Value,
}

/// The answer to a call that the API refused.
pub(super) fn of_api_error(error: &api::Error) -> Response {
    let status = status::of_api_error(error);
    let response = response(status, error.code(), error.to_string(), error.data());
    let response = match authorization::challenge(error) {
        Some(challenge) => response.with("WWW-Authenticate", challenge),
        None => response,
    };
    match error.retry_after_seconds() {
        Some(seconds) => response.with("Retry-After", seconds.to_string()),
        None => response,
    }
}

/// The answer to a request that the HTTP side refused.
pub(super) fn of_error(error: &Error) -> Response {
    let response = response(status::of_error(error), error.code(), error.to_string(), error.data());
    match error {
        Error::Route(router::Error::MethodNotAllowed { allow }) => {
            response.with("Allow", allow.clone())
        }
        _ => response,
    }
}

fn response(status: u16, code: &str, detail: String, data: Value) -> Response {
    let problem = Problem { title: status::phrase(status), status, code, detail, data };
    // Writing strings and numbers to memory cannot fail; an empty body is what remains if it did.
    let body = serde_json::to_string(&problem).unwrap_or_default();
    // Whoever pastes a token into a path does not find it in the answer, nor in the log of what shows answers.
    let body = without_secrets(&body).into_owned().into_bytes();
    Response::new(status, body).with("Content-Type", "application/problem+json")
}
