//! The status table: what each outcome and each error is in HTTP (RFC 9110 section 15, RFC 6585). No
//! other module names a status.

use super::Error;
use crate::{
    api::{self, Outcome},
    router,
};

/// The status of a call that went well.
pub(super) fn of_outcome(outcome: Outcome) -> u16 {
    match outcome {
        Outcome::Created => 201,
        Outcome::Ok => 200,
        Outcome::Accepted => 202,
        Outcome::Done => 204,
        Outcome::NotReady => 503,
    }
}

/// The status of a refusal by the API.
pub(super) fn of_api_error(error: &api::Error) -> u16 {
    match error {
        api::Error::InvalidPath { .. }
        | api::Error::InvalidQuery { .. }
        | api::Error::InvalidBody { .. } => 400,
        api::Error::UnknownMember { .. }
        | api::Error::DuplicateMember { .. }
        | api::Error::MissingMember { .. }
        | api::Error::InvalidMember { .. }
        | api::Error::NeverSatisfiable { .. }
        | api::Error::CallbackRefused { .. } => 422,
        api::Error::UnknownSemaphore { .. }
        | api::Error::UnknownClaim { .. }
        | api::Error::UnknownTarget { .. }
        | api::Error::UnknownToken { .. }
        | api::Error::NoToken
        | api::Error::UnknownDelivery { .. } => 404,
        api::Error::ClaimDiffers { .. }
        | api::Error::ClaimTaken { .. }
        | api::Error::NoPermit { .. }
        | api::Error::Draining { .. }
        | api::Error::WouldEndClaims { .. }
        | api::Error::HiddenClaims { .. }
        | api::Error::SemaphoreInUse { .. }
        | api::Error::SemaphoreCools { .. }
        | api::Error::NoCallback { .. }
        | api::Error::TokenDeclared { .. }
        | api::Error::TooManyDeliveries { .. }
        | api::Error::BackupRunning
        | api::Error::NotOffered { .. } => 409,
        api::Error::TokenMissing | api::Error::TokenInvalid | api::Error::TokenExpired { .. } => {
            401
        }
        api::Error::ScopeMissing { .. }
        | api::Error::AllSemaphoresNeeded { .. }
        | api::Error::PriorityTooHigh { .. } => 403,
        api::Error::ClaimEnded { .. } => 410,
        api::Error::QueueFull { .. }
        | api::Error::TokenClaimsFull { .. }
        | api::Error::TooManyRequests { .. }
        | api::Error::TooManyWrongTokens { .. } => 429,
        api::Error::ServiceFull { .. }
        | api::Error::BackupNoSpace { .. }
        | api::Error::StorageLow
        | api::Error::Stopping => 503,
        api::Error::Internal => 500,
    }
}

/// The status of a refusal by the HTTP side itself.
pub(super) fn of_error(error: &Error) -> u16 {
    match error {
        Error::AmbiguousFraming | Error::UnreadableBody => 400,
        Error::Route(router::Error::UnknownPath) => 404,
        Error::Route(router::Error::MethodNotAllowed { .. }) => 405,
        Error::BodyTooLarge { .. } => 413,
        Error::TargetTooLong { .. } => 414,
        Error::UnsupportedContentType => 415,
        Error::HeadersTooLarge { .. } => 431,
        Error::UnknownTransferCoding => 501,
    }
}

/// The name of a status that one of the tables above gives.
pub(super) fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}
