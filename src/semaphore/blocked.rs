//! A request that blocks on a claim.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Asker, Attempted, Peer, Refusal, Shared,
    core::{Command, Error, Now, Outcome},
    gate::{Gate, Slot},
    gates::Entry,
    state::State,
};
use crate::model::{AuditEntry, ClaimId, ClaimState, JobId};

/// What the request asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Acquire { id: ClaimId },
    Renew { id: ClaimId, ttl: Option<Duration>, job: Option<JobId> },
}

/// A request that blocks on a waiting claim, which counts as present as long as this lives. Dropped
/// without [`BlockedClaim::wait`], it counts as answered.
pub struct BlockedClaim {
    shared: Arc<Shared>,
    asked: Asked,
    /// What the audit log will say of it, if it is an act on the claim of another.
    audit: Option<Box<AuditEntry>>,
    gate: Arc<Gate>,
    entry: Entry,
    asker: Asker,
    deadline: Instant,
    /// Whether the claim knows that the request is over.
    left: bool,
    _slot: Slot,
}

impl BlockedClaim {
    pub(super) fn new(
        shared: Arc<Shared>,
        (asked, audit): (Asked, Option<Box<AuditEntry>>),
        (gate, entry): (Arc<Gate>, Entry),
        asker: Asker,
        deadline: Instant,
        slot: Slot,
    ) -> BlockedClaim {
        let left = false;
        BlockedClaim { shared, asked, audit, gate, entry, asker, deadline, left, _slot: slot }
    }

    /// Blocks until the claim does not wait any more, the wait is over, the client is gone, or the service
    /// stops. To a client that is gone the answer says nothing.
    ///
    /// # Errors
    /// [`Error::ClaimEnded`] when it ended, [`Refusal::Stopping`] when the service stops.
    pub fn wait(mut self) -> Attempted {
        loop {
            let seen = self.gate.changes();
            if let Some(attempted) = self.look() {
                return attempted;
            }
            self.gate.wait(seen, self.deadline);
        }
    }

    /// The answer, if there is one by now.
    fn look(&mut self) -> Option<Attempted> {
        let shared = Arc::clone(&self.shared);
        let late = Instant::now() >= self.deadline;
        // One who hung up just now is not somewhere between two requests.
        let is_gone = || self.asker.peer.as_ref().is_some_and(|peer| peer.is_gone());
        // Nor is one whose token has expired: he could not confirm what he is offered.
        let closed = late && (is_gone() || self.asker.has_expired(shared.clock.now().wall));
        let mut state = shared.state.lock();
        let claim_state = match state.core.claim_by_sequence(self.entry.sequence) {
            Some(view) => view.claim.state.clone(),
            None => return Some(Err(self.ended(&state))),
        };
        match claim_state {
            _ if state.gates.is_over(self.entry) => {
                Some(state.status(shared.clock.now(), self.waiting()))
            }
            ClaimState::Held { .. } | ClaimState::Offered { .. } => {
                Some(self.arrived(&shared, &mut state))
            }
            _ if state.is_stopping() => Some(Err(Refusal::Stopping)),
            _ if !late => None,
            _ => {
                let now = self.leave(&mut state, closed).unwrap_or_else(|| shared.clock.now());
                Some(state.status(now, self.waiting()))
            }
        }
    }

    fn waiting(&self) -> Outcome {
        Outcome::Waiting { sequence: self.entry.sequence, blocked: false }
    }

    /// The claim does not wait any more. A renew is done now: it confirms an offer (which only a claim with
    /// a callback gets while a request blocks on it) and sets the lease that it asked for.
    fn arrived(&self, shared: &Shared, state: &mut State) -> Attempted {
        let (now, outcome) = match &self.asked {
            Asked::Renew { id, ttl, job } => {
                let command =
                    Command::Renew { id: id.clone(), ttl: *ttl, job: job.clone(), blocks: false };
                shared.apply_for(state, self.asker.acts(self.audit.clone()), command)
            }
            Asked::Acquire { .. } => {
                let now = shared.clock.now();
                let token = self.asker.token.as_deref();
                if token.is_some_and(|token| !state.core.may_hold(token, now.wall)) {
                    return Err(state.refusal(Error::TokenRefused));
                }
                let sequence = self.entry.sequence;
                let view = state.core.claim_by_sequence(sequence);
                let held = view.is_some_and(|v| matches!(v.claim.state, ClaimState::Held { .. }));
                let outcome = if held { Outcome::Granted } else { Outcome::Offered }(sequence);
                (now, Ok(outcome))
            }
        };
        match outcome {
            Ok(outcome) => state.status(now, outcome),
            Err(error) => Err(state.refusal(error)),
        }
    }

    fn ended(&self, state: &State) -> Refusal {
        let (Asked::Acquire { id } | Asked::Renew { id, .. }) = &self.asked;
        let id = id.clone();
        match state.core.ended(&id) {
            Some((reason, ended_at)) => state.refusal(Error::ClaimEnded { id, reason, ended_at }),
            None => state.refusal(Error::UnknownClaim(id)),
        }
    }

    /// The request does not block any more; tells when the claim was told, if it was not before.
    fn leave(&mut self, state: &mut State, closed: bool) -> Option<Now> {
        if std::mem::replace(&mut self.left, true) || !state.gates.leave(self.entry) {
            return None;
        }
        Some(self.shared.unblock(state, self.entry, closed))
    }
}

impl Drop for BlockedClaim {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        self.leave(&mut state, false);
    }
}

impl Shared {
    /// Lets a request give up as soon as its client is told to be gone.
    pub(super) fn watch_peer(self: &Arc<Shared>, peer: Option<&Peer>, entry: Entry) {
        if let Some(peer) = peer {
            let shared = Arc::clone(self);
            peer.when_gone(Box::new(move || shared.hang_up(entry)));
        }
    }

    /// The client of a request that sleeps on a claim's gate is gone.
    fn hang_up(&self, entry: Entry) {
        let mut state = self.state.lock();
        if state.gates.end(entry) {
            self.unblock(&mut state, entry, true);
        }
    }

    /// Tells the core that a request does not block on its claim any more.
    pub(super) fn unblock(&self, state: &mut State, entry: Entry, closed: bool) -> Now {
        let command = Command::Unblock { sequence: entry.sequence, closed };
        let (now, outcome) = self.apply(state, command);
        self.hand_over(state);
        if let Err(error) = outcome {
            log::error!("leaving a claim was refused: {error}");
        }
        now
    }
}
