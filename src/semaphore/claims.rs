//! The calls of a claim's holder, and of the admin who ends it.

use std::{sync::Arc, time::Duration};

use super::{
    Asker, BlockedClaim, Service,
    blocked::Asked,
    core::{
        Behalf, CLAIM_REQUESTS_MAX, ClaimView, Command, Core, ENDED_REMEMBERED, Error, Now,
        Outcome, Presence,
    },
    gates::Role,
    state::State,
};
use crate::model::{
    AuditEntry, Claim, ClaimId, ClaimRequest, JobId, Note, Revision, Sequence, WallTime,
};

/// A live claim as a reply shows it.
#[derive(Clone, Debug)]
pub struct ClaimStatus {
    /// The claim.
    pub claim: Claim,
    /// When this was true.
    pub now: Now,
    /// When it ends if nothing is done: the lease (or `max_hold`, whichever is first), the offer, the place
    /// in the queue. By the calendar, as it looked then.
    pub expires_at: Option<WallTime>,
    /// When `wait_timeout` ends it.
    pub wait_until: Option<WallTime>,
    /// Whether its holder is there; of waiting claims only.
    pub presence: Option<Presence>,
    /// Its position in each of its semaphores' queues, in the order of their names; empty unless it waits.
    pub positions: Vec<usize>,
    /// What the reply rests on: it may be sent when this revision is committed.
    pub seen: Revision,
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// By the core, at this revision.
    Core(Error, Revision),
    /// New claims are not taken: the disk is nearly full.
    StorageLow,
    /// The service is about to stop.
    Stopping,
    /// What has ended could not be read.
    History,
}

/// What a call came to.
pub type Attempted = Result<(Outcome, ClaimStatus), Refusal>;

/// What a call that may block came to.
pub enum Attempt {
    /// An answer at once.
    Done(Attempted),
    /// The claim waits, and the call blocks on it.
    Blocked(BlockedClaim),
}

/// What the audit log says of an act on a claim.
pub type ClaimRow<'r> = &'r dyn Fn(&Claim) -> Box<AuditEntry>;

impl Service {
    /// Acquires, or asks again for what was acquired before; blocks on it for up to `wait` if it has to
    /// wait, and while `peer` is there.
    #[must_use]
    pub fn acquire(
        &self,
        id: ClaimId,
        request: ClaimRequest,
        wait: Option<Duration>,
        asker: Asker,
    ) -> Attempt {
        if self.shared.is_storage_low() && !self.is_known(&id) {
            return Attempt::Done(Err(Refusal::StorageLow));
        }
        let again = Asked::Acquire { id: id.clone() };
        self.attempt(wait, asker, again, None, |blocks| Command::Acquire { id, request, blocks })
    }

    /// Whether a live claim belongs to the token that asks.
    #[must_use]
    pub fn is_own(&self, id: &ClaimId, asker: &Asker) -> bool {
        let Some(token) = &asker.token else { return false };
        let state = self.shared.state.lock();
        state.core.claim(id).is_some_and(|view| view.claim.owner.as_ref() == Some(&token.id))
    }

    /// Whether the id is that of a claim that lives, or of one that ended and is remembered: then an acquire makes no new
    /// one.
    #[must_use]
    pub fn is_known(&self, id: &ClaimId) -> bool {
        let state = self.shared.state.lock();
        let now = self.shared.clock.now().wall;
        let is_remembered = |(_, ended_at)| now.since(ended_at) < ENDED_REMEMBERED;
        state.core.claim(id).is_some() || state.core.ended(id).is_some_and(is_remembered)
    }

    /// "I am here": prolongs a lease, confirms an offer, keeps a place in the queue; blocks on it for up
    /// to `wait` if it has to wait, and while `peer` is there.
    #[must_use]
    pub fn renew(
        &self,
        id: ClaimId,
        (ttl, job): (Option<Duration>, Option<JobId>),
        wait: Option<Duration>,
        asker: Asker,
        row: Option<ClaimRow<'_>>,
    ) -> Attempt {
        let again = Asked::Renew { id: id.clone(), ttl, job: job.clone() };
        self.attempt(wait, asker, again, row, |blocks| Command::Renew { id, ttl, job, blocks })
    }

    fn attempt(
        &self,
        wait: Option<Duration>,
        asker: Asker,
        asked: Asked,
        row: Option<ClaimRow<'_>>,
        command: impl FnOnce(bool) -> Command,
    ) -> Attempt {
        let deadline = wait.map(|wait| asker.deadline(wait, self.shared.clock.now().wall));
        // Where too many block already the claim keeps its place, only the blocking is refused.
        let slot = deadline.and_then(|_| self.shared.slots.take(&asker));
        let mut state = self.shared.state.lock();
        if state.is_stopping() {
            return Attempt::Done(Err(Refusal::Stopping));
        }
        let (Asked::Acquire { id } | Asked::Renew { id, .. }) = &asked;
        let behalf = state.behalf_on_another(id, &asker, row);
        // What blocks is done when it ends, and has its row then.
        let audit = behalf.audit.clone();
        let (now, outcome) = self.shared.apply_for(&mut state, behalf, command(slot.is_some()));
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return Attempt::Done(Err(state.refusal(error))),
        };
        match (outcome, slot, deadline) {
            // The core counts them by a claim's presence; one with a callback is present always.
            (Outcome::Waiting { sequence, blocked: true }, Some(slot), Some(deadline))
                if state.gates.holders_len(sequence) < usize::from(CLAIM_REQUESTS_MAX) =>
            {
                self.shared.hand_over(&mut state);
                let entered = state.gates.enter(sequence, Role::Holder, asker.clone());
                // The peer may be gone already and call back at once.
                drop(state);
                self.shared.watch_peer(asker.peer.as_deref(), entered.1);
                let shared = Arc::clone(&self.shared);
                let asked = (asked, audit);
                Attempt::Blocked(BlockedClaim::new(shared, asked, entered, asker, deadline, slot))
            }
            (outcome, ..) => Attempt::Done(state.status(now, outcome)),
        }
    }

    /// Gives a held claim back, or leaves the queue. Returns what the reply rests on.
    ///
    /// # Errors
    /// When no claim of this id is known, or another job than `job` has it.
    pub fn release(
        &self,
        id: ClaimId,
        job: Option<JobId>,
        asker: &Asker,
        row: Option<ClaimRow<'_>>,
    ) -> Result<Revision, Refusal> {
        let mut state = self.shared.state.lock();
        let behalf = state.behalf_on_another(&id, asker, row);
        match self.shared.apply_for(&mut state, behalf, Command::Release { id, job }).1 {
            Ok(_) => Ok(state.core.revision()),
            Err(error) => Err(state.refusal(error)),
        }
    }

    /// Ends a claim for its holder; returns it as it ended.
    ///
    /// # Errors
    /// When no claim of this id is known, or what has ended cannot be read.
    pub fn revoke(
        &self,
        id: &ClaimId,
        note: Option<Note>,
        asker: &Asker,
        row: Option<ClaimRow<'_>>,
    ) -> Result<(Claim, Revision), Refusal> {
        let seen = {
            let mut state = self.shared.state.lock();
            let command = Command::Revoke { id: id.clone(), note };
            let live = state.core.claim(id);
            let behalf = asker.acts(live.zip(row).map(|(view, row)| row(view.claim)));
            if let (_, Err(error)) = self.shared.apply_for(&mut state, behalf, command) {
                return Err(state.refusal(error));
            }
            let seen = state.core.revision();
            if let Some(claim) = state.recently_ended(id).filter(|claim| asker.may_use(claim)) {
                return Ok(((*claim).clone(), seen));
            }
            seen
        };
        match self.shared.history.ended_claim(id) {
            Ok(Some(claim)) if asker.may_use(&claim) => Ok((claim, seen)),
            Ok(_) => Err(Refusal::Core(Error::UnknownClaim(id.clone()), seen)),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

/// Logs that the history cannot be read.
pub(super) fn unreadable(error: &crate::storage::Error) -> Refusal {
    log::error!("the history cannot be read: {error}");
    Refusal::History
}

impl State {
    /// The behalf of a command on a claim: an act where it is that of another.
    fn behalf_on_another(&self, id: &ClaimId, asker: &Asker, row: Option<ClaimRow<'_>>) -> Behalf {
        asker.acts(asker.token.as_ref().zip(row).and_then(|(token, row)| {
            let view = self.core.claim(id)?;
            (view.claim.owner.as_ref() != Some(&token.id)).then(|| row(view.claim))
        }))
    }

    pub(super) fn refusal(&self, error: Error) -> Refusal {
        Refusal::Core(error, self.core.revision())
    }

    /// The claim that a command at `now` was about, as a reply shows it.
    pub(super) fn status(&self, now: Now, outcome: Outcome) -> Attempted {
        let sequence = match outcome {
            Outcome::Granted(sequence)
            | Outcome::Prolonged(sequence)
            | Outcome::Waiting { sequence, .. }
            | Outcome::Offered(sequence)
            | Outcome::Ended(sequence) => sequence,
            Outcome::EndedBefore | Outcome::Registered | Outcome::Done => Sequence(0),
        };
        match self.core.claim_by_sequence(sequence) {
            Some(view) => Ok((outcome, status(view, now, self.core.revision()))),
            // The lock was held since the command: a claim that it left alive is there.
            None => Err(Refusal::Stopping),
        }
    }
}

/// A claim as a reply shows it.
pub(super) fn status(view: ClaimView<'_>, now: Now, revision: Revision) -> ClaimStatus {
    let wall_of = |at| Core::wall_of(now, at);
    let until = view.until.map(wall_of);
    let expires_at = match (until, view.hold_until) {
        (Some(until), Some(hold_until)) => Some(until.min(hold_until)),
        (until, _) => until,
    };
    // A position rests on all that happened to others; a held or offered claim rests on itself alone.
    let seen = if view.positions.is_empty() { view.claim.revision } else { revision };
    ClaimStatus {
        claim: view.claim.clone(),
        now,
        expires_at,
        wait_until: view.wait_until.map(wall_of),
        presence: view.presence,
        positions: view.positions,
        seen,
    }
}
