//! Who makes a call.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Peer, core::Behalf};
use crate::model::{AuditEntry, Claim, Token, WallTime};

/// Who makes a call: on whose behalf, and over which connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asker {
    /// The token; without one everything is allowed: tokens are switched off, or the service asks itself.
    pub token: Option<Arc<Token>>,
    /// Whether it was let in without a token although there are tokens: then few of its requests may wait.
    pub is_anonymous: bool,
    /// The client at the other end, where it can be known whether it is there.
    pub peer: Option<Arc<Peer>>,
}

impl Asker {
    /// Until when it may wait: for so long, and no longer than its token is good.
    pub(super) fn deadline(&self, wait: Duration, now: WallTime) -> Instant {
        let expires_at = self.token.as_ref().and_then(|token| token.expires_at);
        let good_for = expires_at.map_or(wait, |at| at.since(now));
        Instant::now() + wait.min(good_for)
    }

    /// Whether its token's time is over.
    pub(super) fn has_expired(&self, now: WallTime) -> bool {
        self.token.as_ref().is_some_and(|token| token.has_expired(now))
    }

    /// The behalf of a command, with the row of the audit log for it if it is an act.
    pub(super) fn acts(&self, audit: Option<Box<AuditEntry>>) -> Behalf {
        Behalf { token: self.token.clone(), audit }
    }

    /// Whether a claim is there for it.
    pub(super) fn may_use(&self, claim: &Claim) -> bool {
        self.token.as_ref().is_none_or(|token| token.may_use(claim))
    }
}
