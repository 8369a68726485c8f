//! From what the semaphores say to what the API says.

use std::time::Duration;

use super::{Api, Error, Reply, access::Caller, wire::milliseconds_as_seconds};
use crate::{
    model::{Revision, SemaphoreName, format_duration, nearest},
    semaphore::{Refusal, core},
};

/// A duration to the millisecond: one a little over a bound must not read as the bound.
pub(super) fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format_duration(duration),
        _ => {
            let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
            format!("{}s", milliseconds_as_seconds(ms))
        }
    }
}

impl Api {
    /// The reply for a refusal.
    pub(super) fn refused(&self, caller: &Caller, refusal: Refusal) -> Reply {
        let (error, after) = match refusal {
            Refusal::Core(error, revision) => (self.refused_by_core(caller, error), revision),
            Refusal::StorageLow => (Error::StorageLow, Revision(0)),
            Refusal::Stopping => (Error::Stopping, Revision(0)),
            Refusal::History => (Error::Internal, Revision(0)),
        };
        Reply::error(error, after)
    }

    fn refused_by_core(&self, caller: &Caller, error: core::Error) -> Error {
        match error {
            core::Error::UnknownSemaphore(name) => self.unknown_semaphore(caller, &name),
            core::Error::UnknownClaim(id) => Error::UnknownClaim { id: id.to_string() },
            core::Error::ClaimDiffers(id) => Error::ClaimDiffers { id: id.to_string() },
            core::Error::ClaimTaken(id) => Error::ClaimTaken { id: id.to_string() },
            core::Error::ClaimEnded { id, reason, ended_at } => {
                Error::ClaimEnded { id: id.to_string(), reason, ended_at }
            }
            core::Error::NeverSatisfiable { semaphore, requested, capacity } => {
                Error::NeverSatisfiable { semaphore: semaphore.to_string(), requested, capacity }
            }
            core::Error::TtlTooLong { ttl, ttl_max } => Error::InvalidMember {
                member: "ttl".into(),
                allowed: format!("at most {} for these semaphores", format_duration(ttl_max)),
                got: seconds(ttl),
            },
            core::Error::NoPermit { semaphore, available } => {
                Error::NoPermit { semaphore: semaphore.to_string(), available }
            }
            core::Error::Draining(semaphore) => {
                Error::Draining { semaphore: semaphore.to_string() }
            }
            core::Error::WouldEndClaims { name, capacity, claims } => {
                Error::WouldEndClaims { semaphore: name.to_string(), capacity, claims }
            }
            core::Error::HiddenClaims { name, claims } => {
                Error::HiddenClaims { semaphore: name.to_string(), claims }
            }
            core::Error::SemaphoreInUse { name, claims } => {
                Error::SemaphoreInUse { semaphore: name.to_string(), claims }
            }
            core::Error::SemaphoreCools { name, permits, until } => {
                Error::SemaphoreCools { semaphore: name.to_string(), permits, until }
            }
            core::Error::QueueFull { semaphore, claims_max } => {
                Error::QueueFull { semaphore: semaphore.to_string(), claims_max }
            }
            core::Error::TokenClaimsFull { claims_max } => Error::TokenClaimsFull { claims_max },
            core::Error::TokenRefused => Error::TokenInvalid,
            core::Error::UnknownToken(id) => Error::UnknownToken { id: id.to_string() },
            core::Error::Full { bound, limit } => Error::ServiceFull { bound, limit },
        }
    }

    /// The error for a semaphore that does not exist, with one that is spelt nearly the same.
    pub(super) fn unknown_semaphore(&self, caller: &Caller, name: &SemaphoreName) -> Error {
        let names = self.service.semaphore_names();
        let known = names.iter().filter(|name| caller.sees(name)).map(SemaphoreName::as_str);
        let suggestion = nearest(name.as_str(), known).map(str::to_owned);
        Error::UnknownSemaphore { semaphore: name.to_string(), suggestion }
    }
}
