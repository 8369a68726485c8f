//! The API, version 1: what each call means, without HTTP.
//!
//! A [`Call`] is an endpoint with its query parameters and its body as they came; [`Calls::handle`]
//! parses them, asks the semaphores, and gives a [`Reply`] or a [`Blocked`] that has to wait. Wire types
//! live here and are a contract; statuses, headers and problem documents belong to
//! [`crate::http_interface`].
//!
//! Nothing here blocks but [`Blocked::wait`]. A reply may only be sent when the revision in it is
//! committed: see [`Calls::after_commit`].

mod call;
mod error;

pub use self::call::{Answer, Blocked, Call, Calls, Endpoint, Outcome, Reply, Step};
pub use self::error::Error;
