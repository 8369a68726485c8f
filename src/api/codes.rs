//! What programs read of an error: its code, its data, and when to try again.

use serde_json::{Value, json};

use super::Error;

impl Error {
    /// The stable code: what a program compares.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Error::InvalidPath { .. } => "invalid-path",
            Error::InvalidQuery { .. } => "invalid-query",
            Error::InvalidBody { .. } => "invalid-body",
            Error::UnknownMember { .. } => "unknown-member",
            Error::DuplicateMember { .. } => "duplicate-member",
            Error::MissingMember { .. } => "missing-member",
            Error::InvalidMember { .. } => "invalid-member",
            Error::NeverSatisfiable { .. } => "never-satisfiable",
            Error::UnknownSemaphore { .. } => "unknown-semaphore",
            Error::UnknownClaim { .. } => "unknown-claim",
            Error::ClaimDiffers { .. } => "claim-differs",
            Error::ClaimTaken { .. } => "claim-taken",
            Error::ClaimEnded { .. } => "claim-ended",
            Error::NoPermit { .. } => "no-permit",
            Error::Draining { .. } => "draining",
            Error::WouldEndClaims { .. } => "would-end-claims",
            Error::HiddenClaims { .. } => "hidden-claims",
            Error::SemaphoreInUse { .. } | Error::SemaphoreCools { .. } => "semaphore-in-use",
            Error::QueueFull { .. } => "queue-full",
            Error::ServiceFull { .. } => "service-full",
            Error::CallbackRefused { .. } => "callback-refused",
            Error::UnknownTarget { .. } => "unknown-target",
            Error::NoCallback { .. } => "no-callback",
            Error::UnknownDelivery { .. } => "unknown-delivery",
            Error::TooManyDeliveries { .. } => "too-many-deliveries",
            Error::NotOffered { .. } => "not-offered",
            Error::TokenMissing => "token-missing",
            Error::TokenInvalid => "token-invalid",
            Error::TokenExpired { .. } => "token-expired",
            Error::ScopeMissing { .. } => "scope-missing",
            Error::AllSemaphoresNeeded { .. } => "all-semaphores-needed",
            Error::PriorityTooHigh { .. } => "priority-too-high",
            Error::TokenClaimsFull { .. } => "token-claims-full",
            Error::TooManyRequests { .. } => "too-many-requests",
            Error::TooManyWrongTokens { .. } => "too-many-wrong-tokens",
            Error::NoToken => "no-token",
            Error::UnknownToken { .. } => "unknown-token",
            Error::TokenDeclared { .. } => "token-declared",
            Error::BackupRunning => "backup-running",
            Error::BackupNoSpace { .. } => "backup-no-space",
            Error::StorageLow => "storage-low",
            Error::Stopping => "stopping",
            Error::Internal => "internal",
        }
    }

    /// The data members of the problem document.
    #[must_use]
    pub fn data(&self) -> Value {
        match self {
            Error::InvalidPath { member, .. } | Error::MissingMember { member, .. } => {
                json!({ "member": member })
            }
            Error::InvalidQuery { parameter, .. } => json!({ "parameter": parameter }),
            Error::UnknownMember { member, .. }
            | Error::DuplicateMember { member }
            | Error::InvalidMember { member, .. } => json!({ "member": member }),
            Error::NeverSatisfiable { semaphore, requested, capacity } => {
                json!({ "semaphore": semaphore, "requested": requested, "capacity": capacity })
            }
            Error::UnknownSemaphore { semaphore, .. } | Error::Draining { semaphore } => {
                json!({ "semaphore": semaphore })
            }
            Error::UnknownClaim { id }
            | Error::ClaimDiffers { id }
            | Error::ClaimTaken { id }
            | Error::NoCallback { id }
            | Error::UnknownDelivery { id, .. } => json!({ "id": id }),
            Error::TooManyDeliveries { id, limit } => json!({ "id": id, "limit": limit }),
            Error::NotOffered { id, state } => json!({ "id": id, "state": state }),
            Error::CallbackRefused { .. } => json!({ "member": "callback" }),
            Error::UnknownTarget { target, .. } => json!({ "target": target }),
            Error::ClaimEnded { id, reason, ended_at } => {
                json!({ "id": id, "reason": reason.as_str(), "ended_at": ended_at.to_rfc3339() })
            }
            Error::NoPermit { semaphore, available } => {
                json!({ "semaphore": semaphore, "available": available })
            }
            Error::WouldEndClaims { semaphore, claims, .. }
            | Error::HiddenClaims { semaphore, claims }
            | Error::SemaphoreInUse { semaphore, claims } => {
                json!({ "semaphore": semaphore, "claims": claims })
            }
            Error::SemaphoreCools { semaphore, permits, until } => json!({
                "semaphore": semaphore,
                "claims": 0,
                "cooling": permits,
                "cooling_until": until.to_rfc3339(),
            }),
            Error::QueueFull { semaphore, claims_max } => {
                json!({ "semaphore": semaphore, "limit": claims_max })
            }
            Error::ServiceFull { bound, limit } => json!({ "bound": bound, "limit": limit }),
            Error::BackupNoSpace { needed_bytes, free_bytes } => {
                json!({ "needed_bytes": needed_bytes, "free_bytes": free_bytes })
            }
            Error::TokenExpired { at, .. } => json!({ "expired_at": at.to_rfc3339() }),
            Error::ScopeMissing { scope, scopes } => {
                json!({ "scope": scope.as_str(), "scopes": scopes })
            }
            Error::AllSemaphoresNeeded { patterns } => json!({ "semaphores": patterns }),
            Error::PriorityTooHigh { priority, priority_max } => {
                json!({ "priority": priority.value(), "priority_max": priority_max.value() })
            }
            Error::TokenClaimsFull { claims_max } => json!({ "claims_max": claims_max }),
            Error::TooManyRequests { per_second_max } => json!({ "limit": per_second_max }),
            Error::TooManyWrongTokens { wrong_max, .. } => json!({ "limit": wrong_max }),
            Error::UnknownToken { id } | Error::TokenDeclared { id } => json!({ "id": id }),
            Error::InvalidBody { .. }
            | Error::TokenMissing
            | Error::TokenInvalid
            | Error::NoToken
            | Error::BackupRunning
            | Error::StorageLow
            | Error::Stopping
            | Error::Internal => json!({}),
        }
    }

    /// Whether it says that the caller may not do this.
    pub(super) fn is_denial(&self) -> bool {
        matches!(
            self,
            Error::TokenMissing
                | Error::TokenInvalid
                | Error::TokenExpired { .. }
                | Error::ScopeMissing { .. }
                | Error::AllSemaphoresNeeded { .. }
                | Error::PriorityTooHigh { .. }
                | Error::TooManyRequests { .. }
                | Error::TooManyWrongTokens { .. }
        )
    }

    /// Whether it is about the service and not about the call.
    pub(super) fn is_of_service(&self) -> bool {
        matches!(self, Error::Internal | Error::Stopping | Error::StorageLow)
    }

    /// When trying again makes sense, whole seconds, for the errors that go away by themselves.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Error::QueueFull { .. } | Error::ServiceFull { .. } => Some(5),
            Error::BackupRunning | Error::TokenClaimsFull { .. } => Some(5),
            Error::TooManyRequests { .. } => Some(1),
            Error::TooManyWrongTokens { retry_after_seconds, .. } => Some(*retry_after_seconds),
            Error::StorageLow | Error::BackupNoSpace { .. } => Some(30),
            Error::Stopping => Some(1),
            _ => None,
        }
    }
}
