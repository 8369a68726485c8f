//! What goes into the API and what comes out of it.

use std::{fmt, io, net::IpAddr, sync::Arc, time::Duration};

use super::Error;
use crate::{
    model::{Revision, TokenText},
    semaphore::Peer,
};

/// The endpoints, with the parts of the path that vary as they came: percent-decoded, not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /api`: the versions of the API.
    Versions,
    /// `GET /api/v1`: the endpoints of version 1.
    Index,
    /// `GET /api/v1/service`: status of the service.
    Service,
    /// `GET /api/v1/backup`: the database as one file.
    Backup,
    /// `GET /api/v1/audit`: what admins did, and what was refused.
    Audit,
    /// `GET /api/v1/token`: the token of who asks.
    OwnToken,
    /// `GET /api/v1/tokens`.
    ListTokens,
    /// `POST /api/v1/tokens`.
    CreateToken,
    /// `GET /api/v1/tokens/{id}`.
    ShowToken(String),
    /// `DELETE /api/v1/tokens/{id}`.
    RevokeToken(String),
    /// `POST /api/v1/tokens/{id}/rotate`.
    RotateToken(String),
    /// `GET /healthz`: the process and its storage are alive.
    Health,
    /// `GET /readyz`: it takes new claims.
    Ready,
    /// `GET /openapi.json`: this API as an OpenAPI 3.1 document.
    OpenApi,
    /// `GET /api/v1/claims`.
    ListClaims,
    /// `POST /api/v1/claims`.
    CreateClaim,
    /// `PUT /api/v1/claims/{id}`.
    PutClaim(String),
    /// `GET /api/v1/claims/{id}`.
    ShowClaim(String),
    /// `DELETE /api/v1/claims/{id}`.
    DeleteClaim(String),
    /// `POST /api/v1/claims/{id}/renew`.
    RenewClaim(String),
    /// `POST /api/v1/claims/{id}/revoke`.
    RevokeClaim(String),
    /// `GET /api/v1/claims/{id}/deliveries`.
    ListDeliveries(String),
    /// `POST /api/v1/claims/{id}/deliveries/{number}/retry`: claim and number.
    RetryDelivery(String, String),
    /// `GET /api/v1/callbacks`.
    ListTargets,
    /// `POST /api/v1/callbacks/{name}/test`.
    TestTarget(String),
    /// `GET /api/v1/semaphores`.
    ListSemaphores,
    /// `GET /api/v1/semaphores/{name}`.
    ShowSemaphore(String),
    /// `PUT /api/v1/semaphores/{name}`.
    PutSemaphore(String),
    /// `PATCH /api/v1/semaphores/{name}`.
    PatchSemaphore(String),
    /// `DELETE /api/v1/semaphores/{name}`.
    DeleteSemaphore(String),
    /// `POST /api/v1/semaphores/{name}/claims`.
    CreateClaimOf(String),
}

/// What the client says of who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// Something that is no token.
    Malformed,
    /// A token. Whether it is a right one is found out here.
    Token(TokenText),
}

/// One call of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which endpoint.
    pub endpoint: Endpoint,
    /// The method, for the audit log.
    pub method: String,
    /// The path without its query, for the audit log.
    pub path: String,
    /// What the client says of who it is.
    pub credentials: Credentials,
    /// Where the client is: the other end of the connection, or what a trusted proxy says.
    pub address: Option<IpAddr>,
    /// The query's parameters in their order, percent-decoded.
    pub query: Vec<(String, String)>,
    /// How long the client prefers to wait (RFC 7240 `Prefer: wait`), used where the query has no `wait`.
    pub prefer_wait: Option<Duration>,
    /// The body as it came; empty where there was none.
    pub body: Vec<u8>,
    /// The client at the other end, where it can be known whether it is there: a call blocks no longer than
    /// that, and no permit goes to a client that is gone.
    pub peer: Option<Arc<Peer>>,
}

/// What a call came to.
pub enum Step {
    /// An answer at once.
    Done(Reply),
    /// The call has to wait: give it to a thread that may block.
    Blocked(Box<dyn Blocked>),
}

/// A call that waits. Dropping it without waiting counts as an answered request.
pub trait Blocked: Send {
    /// Blocks until there is an answer: the claim was granted or ended, the wait is over, the client is gone,
    /// or the service stops.
    fn wait(self: Box<Self>) -> Reply;
}

/// An answer, and what has to be on disk before anybody may see it.
#[derive(Debug)]
pub struct Reply {
    /// The answer or the error.
    pub result: Result<Answer, Error>,
    /// The revision that the reply shows or rests on; [`Revision`] 0 when it shows no state.
    pub after: Revision,
}

/// What a call that went well came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Made, or held by this call.
    Created,
    /// Done, or looked at.
    Ok,
    /// Waits, or is offered: ask again.
    Accepted,
    /// Done, and there is nothing to show.
    Done,
    /// Looked at: the service is not ready. The body says why.
    NotReady,
}

/// The answer of a call that went well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What it came to.
    pub outcome: Outcome,
    /// The body, JSON; `None` where there is none.
    pub body: Option<String>,
    /// The body where it is too long for memory; then there is no other.
    pub download: Option<Box<Download>>,
    /// The change's revision, or the one that was seen; sent as a header where there is no body.
    pub revision: Option<Revision>,
    /// The path of what was made, where the server chose its id.
    pub location: Option<String>,
    /// When asking again makes sense, whole seconds.
    pub retry_after_seconds: Option<u64>,
    /// The wait that was applied, where `Prefer: wait` asked for one (RFC 7240 `Preference-Applied`).
    pub wait_applied: Option<Duration>,
}

/// A body that is read while it is sent. Clones share the content.
#[derive(Clone)]
pub struct Download {
    /// Its length.
    pub bytes: u64,
    /// Its media type.
    pub media_type: &'static str,
    /// What a client may call it.
    pub file_name: String,
    /// What is in it.
    pub content: Arc<dyn Content>,
}

/// What is in a [`Download`].
pub trait Content: Send + Sync {
    /// Reads some of it from `offset` on; 0 bytes at its end. May block for as long as the disk takes.
    ///
    /// # Errors
    /// When it cannot be read, or not any more: the client then sees that bytes are missing.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Download")
            .field("bytes", &self.bytes)
            .field("file_name", &self.file_name)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Download {
    fn eq(&self, other: &Download) -> bool {
        Arc::ptr_eq(&self.content, &other.content)
    }
}

impl Eq for Download {}

/// The calls, as the HTTP side sees them. One implementation serves; tests have their own.
pub trait Calls: Send + Sync {
    /// Handles a call. Never blocks on a permit.
    fn handle(&self, call: Call) -> Step;

    /// Runs `then` as soon as `revision` is committed: at once on this thread when it is already, else on
    /// that which commits, so it must be short. `true` when nobody is at it: then [`Calls::commit`] is to be
    /// called, soon.
    fn after_commit(&self, revision: Revision, then: Box<dyn FnOnce() + Send>) -> bool;

    /// Commits what waits for it, unless somebody else does; tells whether it did. May block for as long as the disk
    /// takes.
    fn commit(&self) -> bool;
}
