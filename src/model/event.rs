//! Events: what happened, in the order in which it did. The journal is made of them, and the same
//! events applied to the same state give the same state again.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    AuditEntry, Callback, Claim, ClaimId, Delivery, EndReason, Fence, Fences, JobId, Note, Origin,
    Revision, SemaphoreName, SemaphoreSettings, Sequence, Terms, Token, TokenId, WallTime,
};

/// All that one command did: committed as a whole, under one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The change's number.
    pub revision: Revision,
    /// When, by the wall clock.
    pub at: WallTime,
    /// What happened; not empty.
    pub events: Vec<Event>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A semaphore was registered, or its settings changed.
    SemaphoreSet {
        /// Which.
        name: SemaphoreName,
        /// All of its settings from now on.
        settings: SemaphoreSettings,
        /// Who declares it from now on.
        origin: Origin,
    },
    /// A semaphore was unregistered. No claim names it any more.
    SemaphoreRemoved {
        /// Which.
        name: SemaphoreName,
    },
    /// A claim was made, and waits.
    ClaimQueued {
        /// The client's name for it.
        id: ClaimId,
        /// Its place in the order of arrival.
        sequence: Sequence,
        /// What it asks for, and how.
        terms: Arc<Terms>,
    },
    /// Something happened to a claim.
    Claim {
        /// Which.
        sequence: Sequence,
        /// What.
        event: ClaimEvent,
    },
    /// Permits of an ended claim are available again, or went with a capacity that was lowered.
    CoolingEnded {
        /// Of which semaphore.
        semaphore: SemaphoreName,
        /// The claim that had held them.
        sequence: Sequence,
        /// How many of them.
        permits: u32,
    },
    /// A token was made, changed, or got another secret.
    TokenSet {
        /// All of it from now on.
        token: Arc<Token>,
    },
    /// A token was revoked: it is refused from now on.
    TokenRevoked {
        /// Which.
        id: TokenId,
    },
    /// Tokens were used.
    TokensUsed {
        /// Which, and when last.
        used: Box<[(TokenId, WallTime)]>,
    },
    /// What the audit log says of this change; a change has one at most.
    Audit {
        /// The row.
        entry: Box<AuditEntry>,
    },
}

/// What happens to a claim after it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimEvent {
    /// Its permits were set aside; the holder has to confirm.
    Offered {
        /// The fences taken, in the order of its semaphores.
        fences: Fences,
    },
    /// A request of its holder was there: from waiting to held at once.
    Granted {
        /// The fences taken, in the order of its semaphores.
        fences: Fences,
        /// The end of `max_hold`, where there is one.
        hold_until: Option<WallTime>,
    },
    /// The holder confirmed the offer: held.
    Confirmed {
        /// The end of `max_hold`, where there is one.
        hold_until: Option<WallTime>,
    },
    /// A renew changed the lease.
    Renewed {
        /// The lease from now on.
        ttl: Duration,
    },
    /// It is over; its permits, if it had any, are free or cool.
    Ended {
        /// Why.
        reason: EndReason,
        /// What the admin said who ended it.
        note: Option<Note>,
        /// Which of its permits cool; only those of a held claim do.
        cooling: Box<[(SemaphoreName, Duration)]>,
    },
    /// The service calls somebody when it is offered. Comes with the claim itself.
    CallbackSet {
        /// Whom.
        callback: Arc<Callback>,
    },
    /// The callback has to be called: what is to be sent stands in the same change as the offer, so a crash
    /// loses both or neither.
    CallbackDue,
    /// The callback was called, well or not.
    CallbackTried {
        /// What came of it.
        delivery: Delivery,
    },
    /// It belongs to a token: to that which made it, or later to that which confirmed it.
    OwnerSet {
        /// Which.
        token: TokenId,
    },
    /// A job took it over.
    JobSet {
        /// Which.
        job: JobId,
    },
}

impl ClaimEvent {
    /// Whether it leaves the claim's state as it is: it is about its callback, its owner or its job.
    #[must_use]
    pub fn leaves_state(&self) -> bool {
        match self {
            ClaimEvent::CallbackSet { .. }
            | ClaimEvent::CallbackDue
            | ClaimEvent::CallbackTried { .. }
            | ClaimEvent::OwnerSet { .. }
            | ClaimEvent::JobSet { .. } => true,
            ClaimEvent::Offered { .. }
            | ClaimEvent::Granted { .. }
            | ClaimEvent::Confirmed { .. }
            | ClaimEvent::Renewed { .. }
            | ClaimEvent::Ended { .. } => false,
        }
    }
}

/// Permits of an ended claim that are not available yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cooling {
    /// Of which semaphore.
    pub semaphore: SemaphoreName,
    /// The claim that had held them.
    pub sequence: Sequence,
    /// How many.
    pub permits: u32,
    /// The semaphore's cooldown when the claim ended. After a restart it runs anew.
    pub cooldown: Duration,
}

/// A semaphore's durable part: what is on disk, and all that recovery needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphoreRecord {
    /// Its name.
    pub name: SemaphoreName,
    /// Its settings.
    pub settings: SemaphoreSettings,
    /// Who declares it.
    pub origin: Origin,
    /// The last fence that was taken.
    pub fence: Fence,
    /// The last change of its settings.
    pub revision: Revision,
}

/// The durable state as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// The last change in it.
    pub revision: Revision,
    /// The highest sequence number that a claim ever had.
    pub sequence: Sequence,
    /// No fence up to this one may be taken again: semaphores that were removed had taken them.
    pub fence_floor: Fence,
    /// The semaphores, by name.
    pub semaphores: Vec<SemaphoreRecord>,
    /// The live claims, by sequence number.
    pub claims: Vec<Claim>,
    /// Permits that cool, by semaphore and sequence number.
    pub cooling: Vec<Cooling>,
    /// The tokens, by id.
    pub tokens: Vec<Arc<Token>>,
}

/// An ended claim's id as it is remembered: a hash, so that a million of them stay small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedId {
    /// [`IdHash::of`] the id.
    pub hash: IdHash,
    /// Why the claim ended.
    pub reason: EndReason,
    /// When it ended.
    pub ended_at: WallTime,
}

/// The first 16 bytes of a claim id's SHA-256. At a million remembered ids the chance that a new id meets
/// the hash of another is below 10⁻³².
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdHash(pub [u8; 16]);

impl IdHash {
    /// Hashes an id.
    #[must_use]
    pub fn of(id: &ClaimId) -> IdHash {
        let digest = Sha256::digest(id.as_str().as_bytes());
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        IdHash(hash)
    }
}
