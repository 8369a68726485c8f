//! What the HTTP side itself refuses, before the API sees anything.

use serde_json::{Value, json};

use crate::router;

/// Why a request was refused here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No endpoint is there.
    #[error(transparent)]
    Route(#[from] router::Error),
    /// The body is longer than any that the API takes.
    #[error("the body is longer than {bytes_max} bytes; no call needs that much")]
    BodyTooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// The body ended early, or its chunks are malformed.
    #[error("the body could not be read to its end; send the request again")]
    UnreadableBody,
    /// A body that is not said to be JSON, or a POST of a web page that does not say so.
    #[error(
        "the body must be sent as JSON; with curl, add -H 'Content-Type: application/json' (PATCH also \
         takes application/merge-patch+json; a POST from a web page has to say it without a body, too)"
    )]
    UnsupportedContentType,
    /// The request target is longer than any that the API has.
    #[error(
        "the path and query are longer than {bytes_max} bytes together; no call needs that much"
    )]
    TargetTooLong {
        /// The bound.
        bytes_max: usize,
    },
    /// More headers than a request needs.
    #[error(
        "the request has more than {headers_max} headers or {bytes_max} bytes of them; send fewer"
    )]
    HeadersTooLarge {
        /// The bound of their number.
        headers_max: usize,
        /// The bound of their names and values together.
        bytes_max: usize,
    },
    /// The headers do not say clearly where the body ends.
    #[error("the headers do not say where the body ends; send one Content-Length, a plain number")]
    AmbiguousFraming,
    /// A transfer coding besides chunked.
    #[error("the only transfer coding that is understood is chunked; send a Content-Length")]
    UnknownTransferCoding,
}

impl Error {
    /// The stable code: what a program compares.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::Route(router::Error::UnknownPath) => "unknown-path",
            Error::Route(router::Error::MethodNotAllowed { .. }) => "method-not-allowed",
            Error::BodyTooLarge { .. } => "body-too-large",
            Error::UnreadableBody => "unreadable-body",
            Error::UnsupportedContentType => "unsupported-content-type",
            Error::TargetTooLong { .. } => "uri-too-long",
            Error::HeadersTooLarge { .. } => "headers-too-large",
            Error::AmbiguousFraming => "ambiguous-framing",
            Error::UnknownTransferCoding => "unknown-transfer-coding",
        }
    }

    /// The data members of the problem document.
    pub(super) fn data(&self) -> Value {
        match self {
            Error::Route(router::Error::MethodNotAllowed { allow }) => json!({ "allow": allow }),
            Error::BodyTooLarge { bytes_max } | Error::TargetTooLong { bytes_max } => {
                json!({ "limit": bytes_max })
            }
            Error::HeadersTooLarge { headers_max, .. } => json!({ "limit": headers_max }),
            Error::Route(router::Error::UnknownPath)
            | Error::UnreadableBody
            | Error::UnsupportedContentType
            | Error::AmbiguousFraming
            | Error::UnknownTransferCoding => json!({}),
        }
    }
}
