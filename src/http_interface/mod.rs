//! HTTP without sockets: a [`Request`] in, a [`Response`] out.
//!
//! Reads targets, queries, `Prefer`, content types and framing; turns what the API answers into statuses,
//! headers and problem documents. The status table is in one module, `status`.
//!
//! Two steps, so that a server need not read a body that nobody will take: [`Interface::check_head`]
//! before the body is read, [`Interface::handle`] with it. Nothing here blocks but
//! [`BlockedCall::wait`], and nothing locks. A response comes with the [`Revision`](crate::model::Revision) that has to be
//! committed before it may be sent: see [`Interface::after_commit`].
//!
//! Nothing that a client said goes into a response header, where a line break would split the response.

mod authorization;
mod content_type;
mod error;
mod forwarded;
mod framing;
mod interface;
mod message;
mod prefer;
mod problem;
mod query;
mod status;
#[cfg(test)]
mod tests;

pub use self::error::Error;
pub use self::forwarded::Proxies;
pub use self::framing::Framing;
pub use self::interface::{BlockedCall, Handled, Interface, Limits, Refusal};
pub use self::message::{Client, Head, Request, Response};
