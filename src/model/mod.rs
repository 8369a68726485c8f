//! The words of the service as types: ids, units, times, settings, claims and events.
//!
//! Everything else names these and they name nothing else. A value of one of these types is valid:
//! constructors parse and check, so no later layer checks again. Nothing here locks, sleeps, reads a
//! clock or does IO. The `serde` derivations serve one purpose, the journal's binary encoding in
//! [`crate::storage`]; what goes over HTTP has types of its own in [`crate::api`].

mod audit;
mod callback;
mod claim;
mod event;
mod name;
mod near;
mod permits;
mod settings;
mod time;
mod token;
mod units;

pub use self::audit::{Actor, AuditEntry, Tries, network_of};
pub use self::callback::{
    Callback, CallbackRecord, DELIVERIES_MAX, Delivery, DeliveryFailure, DeliveryResult, VARS_MAX,
    Vars,
};
pub use self::claim::{Claim, ClaimRequest, ClaimState, EndReason, Fences, Terms};
pub use self::event::{Base, Change, ClaimEvent, Cooling, EndedId, Event, IdHash, SemaphoreRecord};
pub use self::name::{
    CLAIM_ID_BYTES_MAX, CallbackUrl, ClaimId, Holder, JobId, Labels, Note, SemaphoreName,
    TargetName, TokenId, TokenName,
};
pub use self::near::nearest;
pub use self::permits::{PERMITS_SEMAPHORES_MAX, Permits};
pub use self::settings::{
    Declaration, Origin, SemaphoreSettings, SemaphoreState, SettingsError, bounds,
};
pub use self::time::{ServiceTime, WallTime, format_duration, parse_duration};
pub use self::token::{
    Patterns, Scope, Scopes, SecretHash, TOKEN_PREFIX, Token, TokenBounds, TokenOrigin, TokenText,
    id_in_token, without_secrets,
};
pub use self::units::{Fence, Priority, Revision, Sequence};

/// Why a text or number is not a value of one of the types here.
///
/// The text says what is allowed; the caller adds the name of the member and the value it got.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{allowed}")]
pub struct Invalid {
    /// What would have been right, as a phrase that follows "must be".
    pub allowed: String,
}

impl Invalid {
    pub(crate) fn new(allowed: impl Into<String>) -> Invalid {
        Invalid { allowed: allowed.into() }
    }
}
