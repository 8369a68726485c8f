//! A claim: what was asked for, on which terms, and where it stands.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Callback, CallbackRecord, ClaimEvent, ClaimId, Fence, Holder, JobId, Labels, Note, Permits,
    Priority, Revision, Sequence, TokenId, WallTime,
};

/// A request for permits as the client gave it: what was left out is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// What it asks for.
    pub permits: Permits,
    /// Who claims.
    pub holder: Option<Holder>,
    /// The client's labels.
    pub labels: Labels,
    /// How early it stands in the queue.
    pub priority: Priority,
    /// Lease between two renewals.
    pub ttl: Option<Duration>,
    /// How long it stays present without a request.
    pub queue_ttl: Option<Duration>,
    /// How long an offer stands.
    pub offer_ttl: Option<Duration>,
    /// Longest wait in the queue.
    pub wait_timeout: Option<Duration>,
    /// Whether it waits when its permits are not free. If not, it is refused and leaves no trace.
    pub queue: bool,
    /// Whom the service calls when the permits are there. A claim with a callback is always present and is
    /// confirmed by a renew alone.
    pub callback: Option<Arc<Callback>>,
    /// SHA-256 of the request as given: the same id with another fingerprint is another request.
    pub fingerprint: [u8; 32],
}

/// The terms of a claim: the request with every default filled in, fixed when the claim is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it asks for.
    pub permits: Permits,
    /// Who claims.
    pub holder: Option<Holder>,
    /// The client's labels.
    pub labels: Labels,
    /// How early it stands in the queue.
    pub priority: Priority,
    /// Lease between two renewals, as asked for at first; a held claim has its own.
    pub ttl: Duration,
    /// How long it stays present without a request; `None` with a callback: always present.
    pub queue_ttl: Option<Duration>,
    /// How long an offer stands.
    pub offer_ttl: Duration,
    /// Longest wait in the queue.
    pub wait_timeout: Option<Duration>,
    /// Whether a callback belongs to it: the claim has it.
    pub has_callback: bool,
    /// SHA-256 of the request as given.
    pub fingerprint: [u8; 32],
}

/// The fences of an offered or held claim, one for each of its semaphores in the order of
/// [`Permits::names`].
pub type Fences = Arc<[Fence]>;

/// Why a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndReason {
    /// The holder gave a held claim back.
    Released,
    /// The holder left the queue, or turned an offer down.
    Cancelled,
    /// The lease or `max_hold` was over.
    Expired,
    /// `wait_timeout` was over before the permits were there.
    WaitTimeout,
    /// `queue_ttl` was over without a request, or an offer was not confirmed.
    Abandoned,
    /// No delivery of its callback succeeded.
    CallbackFailed,
    /// The capacity was lowered below what it asks for.
    Unsatisfiable,
    /// An admin ended it.
    Revoked,
}

impl EndReason {
    /// All reasons, in the order of their documentation.
    pub const ALL: [EndReason; 8] = [
        EndReason::Released,
        EndReason::Cancelled,
        EndReason::Expired,
        EndReason::WaitTimeout,
        EndReason::Abandoned,
        EndReason::CallbackFailed,
        EndReason::Unsatisfiable,
        EndReason::Revoked,
    ];

    /// The reason in the words of the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EndReason::Released => "released",
            EndReason::Cancelled => "cancelled",
            EndReason::Expired => "expired",
            EndReason::WaitTimeout => "wait_timeout",
            EndReason::Abandoned => "abandoned",
            EndReason::CallbackFailed => "callback_failed",
            EndReason::Unsatisfiable => "unsatisfiable",
            EndReason::Revoked => "revoked",
        }
    }

    /// The reason that [`EndReason::as_str`] writes as `text`.
    #[must_use]
    pub fn from_text(text: &str) -> Option<EndReason> {
        EndReason::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

/// Where a claim stands, with the data that each state has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimState {
    /// In the queue.
    Waiting,
    /// Its permits are set aside until the holder confirms.
    Offered {
        /// When they were set aside.
        offered_at: WallTime,
        /// The fences taken then.
        fences: Fences,
    },
    /// It has its permits.
    Held {
        /// When it got them.
        granted_at: WallTime,
        /// The fences taken when they were set aside.
        fences: Fences,
        /// The lease: how long it lives without a renew.
        ttl: Duration,
        /// The end of `max_hold`, where there is one.
        hold_until: Option<WallTime>,
    },
    /// Over.
    Ended {
        /// Why.
        reason: EndReason,
        /// When.
        ended_at: WallTime,
        /// When it had got its permits, if it ever held them.
        granted_at: Option<WallTime>,
        /// The fences, if permits were ever set aside for it.
        fences: Option<Fences>,
        /// What the admin said who ended it.
        note: Option<Note>,
    },
}

impl ClaimState {
    /// The state in the words of the API.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            ClaimState::Waiting => "waiting",
            ClaimState::Offered { .. } => "offered",
            ClaimState::Held { .. } => "held",
            ClaimState::Ended { .. } => "ended",
        }
    }
}

/// A claim. Its durable part: what is on disk, and all that recovery needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The client's name for it.
    pub id: ClaimId,
    /// Its place in the order of arrival.
    pub sequence: Sequence,
    /// What it asks for, and how.
    pub terms: Arc<Terms>,
    /// When it was made.
    pub queued_at: WallTime,
    /// Its last change.
    pub revision: Revision,
    /// Where it stands.
    pub state: ClaimState,
    /// Whom the service calls, and what came of it.
    pub callback: Option<Box<CallbackRecord>>,
    /// The token that it belongs to; `None` if it was made without one.
    pub owner: Option<TokenId>,
    /// The job that took it over, if it said so; no other one may.
    pub job: Option<JobId>,
}

impl Claim {
    /// A claim that has just been made: waiting.
    #[must_use]
    pub fn new(
        id: ClaimId,
        sequence: Sequence,
        terms: Arc<Terms>,
        at: WallTime,
        revision: Revision,
    ) -> Claim {
        let state = ClaimState::Waiting;
        Claim {
            id,
            sequence,
            terms,
            queued_at: at,
            revision,
            state,
            callback: None,
            owner: None,
            job: None,
        }
    }

    /// Bytes of the texts that its client chose, which stay as they are while it lives: id, holder, labels, the names
    /// of its semaphores, and whom its callback calls with what.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        let Terms { permits, holder, labels, .. } = &*self.terms;
        let names: usize = permits.names().map(|name| name.as_str().len()).sum();
        let labels: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        let holder = holder.as_ref().map_or(0, |holder| holder.as_str().len());
        let callback = self.callback.as_ref().map_or(0, |record| record.callback.text_bytes());
        self.id.as_str().len() + names + labels + holder + callback
    }

    /// The fences, while permits are or were set aside for it.
    #[must_use]
    pub fn fences(&self) -> Option<&Fences> {
        match &self.state {
            ClaimState::Waiting => None,
            ClaimState::Offered { fences, .. } | ClaimState::Held { fences, .. } => Some(fences),
            ClaimState::Ended { fences, .. } => fences.as_ref(),
        }
    }

    /// What an event does to a claim: the one definition, which the core, the fold of the journal and
    /// recovery share. An event that does not fit the state changes nothing and returns `false`.
    #[must_use]
    pub fn apply(&mut self, event: &ClaimEvent, at: WallTime, revision: Revision) -> bool {
        let state = match (&self.state, event) {
            (ClaimState::Waiting, ClaimEvent::Offered { fences }) => {
                ClaimState::Offered { offered_at: at, fences: fences.clone() }
            }
            (ClaimState::Waiting, ClaimEvent::Granted { fences, hold_until }) => ClaimState::Held {
                granted_at: at,
                fences: fences.clone(),
                ttl: self.terms.ttl,
                hold_until: *hold_until,
            },
            (ClaimState::Offered { fences, .. }, ClaimEvent::Confirmed { hold_until }) => {
                ClaimState::Held {
                    granted_at: at,
                    fences: fences.clone(),
                    ttl: self.terms.ttl,
                    hold_until: *hold_until,
                }
            }
            (
                ClaimState::Held { granted_at, fences, hold_until, .. },
                ClaimEvent::Renewed { ttl },
            ) => ClaimState::Held {
                granted_at: *granted_at,
                fences: fences.clone(),
                ttl: *ttl,
                hold_until: *hold_until,
            },
            (state, ClaimEvent::Ended { reason, note, .. }) => {
                let (granted_at, fences) = match state {
                    ClaimState::Waiting => (None, None),
                    ClaimState::Offered { fences, .. } => (None, Some(fences.clone())),
                    ClaimState::Held { granted_at, fences, .. } => {
                        (Some(*granted_at), Some(fences.clone()))
                    }
                    ClaimState::Ended { .. } => return false,
                };
                let note = note.clone();
                ClaimState::Ended { reason: *reason, ended_at: at, granted_at, fences, note }
            }
            (
                ClaimState::Waiting | ClaimState::Offered { .. } | ClaimState::Held { .. },
                ClaimEvent::OwnerSet { token },
            ) => {
                self.owner = Some(token.clone());
                self.revision = revision;
                return true;
            }
            (ClaimState::Held { .. }, ClaimEvent::JobSet { job }) if self.job.is_none() => {
                self.job = Some(job.clone());
                self.revision = revision;
                return true;
            }
            _ => return self.apply_callback(event, revision),
        };
        self.state = state;
        self.revision = revision;
        true
    }

    /// The events about a claim's callback, which leave its state as it is.
    fn apply_callback(&mut self, event: &ClaimEvent, revision: Revision) -> bool {
        let fits = match (&self.state, event, &mut self.callback) {
            (ClaimState::Waiting, ClaimEvent::CallbackSet { callback }, record @ None) => {
                let callback = Arc::clone(callback);
                *record = Some(Box::new(CallbackRecord { callback, deliveries: Vec::new() }));
                true
            }
            (ClaimState::Offered { .. }, ClaimEvent::CallbackDue, Some(_)) => true,
            (
                ClaimState::Offered { .. } | ClaimState::Held { .. },
                ClaimEvent::CallbackTried { delivery },
                Some(record),
            ) => record.note(*delivery),
            _ => false,
        };
        if fits {
            self.revision = revision;
        }
        fits
    }
}
