//! What the core is told, and what it says to that.

use std::{sync::Arc, time::Duration};

use crate::model::{
    AuditEntry, ClaimId, ClaimRequest, Delivery, EndReason, JobId, Note, Origin, SemaphoreName,
    SemaphoreSettings, Sequence, Token, TokenId, WallTime,
};

/// A command. One that is refused changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Acquire, or ask again for what was acquired before.
    Acquire {
        /// The client's name for the claim.
        id: ClaimId,
        /// What it asks for.
        request: ClaimRequest,
        /// Whether the request blocks where the claim has to wait.
        blocks: bool,
    },
    /// "I am here."
    Renew {
        /// Which claim.
        id: ClaimId,
        /// A lease other than the present one.
        ttl: Option<Duration>,
        /// The job that takes the claim over.
        job: Option<JobId>,
        /// Whether the request blocks where the claim has to wait.
        blocks: bool,
    },
    /// The holder gives the claim back, or leaves the queue.
    Release {
        /// Which claim.
        id: ClaimId,
        /// The job that does so. A claim that another one has taken over is not its to give back.
        job: Option<JobId>,
    },
    /// An admin ends the claim.
    Revoke {
        /// Which claim.
        id: ClaimId,
        /// What the admin says.
        note: Option<Note>,
    },
    /// A blocked request is over: it was answered, or its connection was seen closed.
    Unblock {
        /// On which claim.
        sequence: Sequence,
        /// Whether the connection was closed before there was an answer.
        closed: bool,
    },
    /// Registers a semaphore, or replaces its settings.
    SetSemaphore {
        /// Which.
        name: SemaphoreName,
        /// All settings, checked.
        settings: SemaphoreSettings,
        /// Who declares it.
        origin: Origin,
        /// Whether waiting claims may end as unsatisfiable.
        force: bool,
    },
    /// Unregisters a semaphore.
    RemoveSemaphore {
        /// Which.
        name: SemaphoreName,
        /// Whether its claims may end as revoked, and its permits need not have cooled.
        force: bool,
        /// What the admin says to their holders.
        note: Option<Note>,
    },
    /// A claim's callback is being called, or was.
    NoteDelivery {
        /// Of which claim.
        sequence: Sequence,
        /// What came of it.
        delivery: Delivery,
    },
    /// Makes a token, or changes one.
    SetToken {
        /// All of it.
        token: Arc<Token>,
    },
    /// Revokes a token.
    RevokeToken {
        /// Which.
        id: TokenId,
    },
    /// Notes when tokens were used last. Ids that nobody has any more are ignored.
    NoteTokensUsed {
        /// Which, and when.
        used: Vec<(TokenId, WallTime)>,
    },
    /// Notes in the audit log what changes nothing.
    NoteAudit {
        /// The row.
        entry: Box<AuditEntry>,
    },
    /// Time has passed: ends what is over.
    Timeout,
    /// The state was recovered, and all waiting claims are present: ends what is over by now, then grants
    /// what that makes grantable. To be repeated while something is due: nothing is granted before the last time.
    Resume,
}

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The claim is held, and was not before.
    Granted(Sequence),
    /// The claim was held before; its lease is prolonged.
    Prolonged(Sequence),
    /// The claim waits. `blocked` tells whether the request counts as blocking on it.
    Waiting {
        /// Which claim.
        sequence: Sequence,
        /// Whether the request blocks: it asked to, and fewer than the bound do already.
        blocked: bool,
    },
    /// The claim's permits are set aside and this request does not confirm them.
    Offered(Sequence),
    /// The claim ended by this command.
    Ended(Sequence),
    /// The claim had ended before.
    EndedBefore,
    /// The semaphore was registered.
    Registered,
    /// Done.
    Done,
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no such semaphore.
    #[error("there is no semaphore {0}")]
    UnknownSemaphore(SemaphoreName),
    /// There is no such claim, and none is remembered.
    #[error("there is no claim {0}")]
    UnknownClaim(ClaimId),
    /// The id belongs to another request.
    #[error("claim {0} was made with another request")]
    ClaimDiffers(ClaimId),
    /// Another job has taken the claim over.
    #[error("another job has claim {0}")]
    ClaimTaken(ClaimId),
    /// The claim is over.
    #[error("claim {id} has ended")]
    ClaimEnded {
        /// Which.
        id: ClaimId,
        /// Why.
        reason: EndReason,
        /// When.
        ended_at: WallTime,
    },
    /// More permits than the capacity.
    #[error("{semaphore} has only {capacity} permits")]
    NeverSatisfiable {
        /// Of which semaphore.
        semaphore: SemaphoreName,
        /// How many were asked for.
        requested: u32,
        /// How many there are.
        capacity: u32,
    },
    /// A lease longer than the semaphores allow.
    #[error("the lease may be at most {ttl_max:?}")]
    TtlTooLong {
        /// The one that was asked for.
        ttl: Duration,
        /// The longest.
        ttl_max: Duration,
    },
    /// Not free, and the request does not queue.
    #[error("{semaphore} has only {available} permits available")]
    NoPermit {
        /// Where.
        semaphore: SemaphoreName,
        /// How many a new claim could have.
        available: u32,
    },
    /// Draining, and the request does not queue.
    #[error("{0} is draining")]
    Draining(SemaphoreName),
    /// Waiting claims would end as unsatisfiable.
    #[error("{claims} waiting claims would end")]
    WouldEndClaims {
        /// Of which semaphore.
        name: SemaphoreName,
        /// The capacity that was asked for.
        capacity: u32,
        /// How many.
        claims: usize,
    },
    /// Claims would end that the token cannot see, because they name other semaphores too.
    #[error("{claims} claims of {name} name other semaphores too")]
    HiddenClaims {
        /// Of which semaphore.
        name: SemaphoreName,
        /// How many.
        claims: usize,
    },
    /// Live claims name the semaphore.
    #[error("{claims} live claims name {name}")]
    SemaphoreInUse {
        /// Which.
        name: SemaphoreName,
        /// How many.
        claims: usize,
    },
    /// Permits of the semaphore cool: unregistered and registered again it would have them at once.
    #[error("{permits} permits of {name} cool until {}", until.to_rfc3339())]
    SemaphoreCools {
        /// Which.
        name: SemaphoreName,
        /// How many.
        permits: u64,
        /// When the last of them has cooled, as it looks now.
        until: WallTime,
    },
    /// The semaphore's queue has its greatest length.
    #[error("the queue of {semaphore} is full")]
    QueueFull {
        /// Which.
        semaphore: SemaphoreName,
        /// The bound.
        claims_max: usize,
    },
    /// The token has as many live claims as it may.
    #[error("a token has at most {claims_max} claims")]
    TokenClaimsFull {
        /// The bound.
        claims_max: u32,
    },
    /// The token on whose behalf the command is was revoked, or has expired.
    #[error("the token is not good any more")]
    TokenRefused,
    /// There is no such token.
    #[error("there is no token {0}")]
    UnknownToken(TokenId),
    /// A bound of the core is reached.
    #[error("{bound} = {limit} is reached")]
    Full {
        /// The bound's name in [`super::Limits`].
        bound: &'static str,
        /// Its value.
        limit: usize,
    },
}
