//! A request that blocks on a claim.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Attempted, Refusal, Shared,
    core::{Command, Error, Now, Outcome},
    gate::{Gate, Slot},
    state::State,
};
use crate::model::{ClaimId, ClaimState, Sequence};

/// What the request asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    Acquire { id: ClaimId },
    Renew { id: ClaimId, ttl: Option<Duration> },
}

/// A request that blocks on a waiting claim, which counts as present as long as this lives. Dropped
/// without [`BlockedClaim::wait`], it counts as answered.
pub struct BlockedClaim {
    shared: Arc<Shared>,
    asked: Asked,
    sequence: Sequence,
    gate: Arc<Gate>,
    deadline: Instant,
    /// Whether the claim knows that the request is over.
    left: bool,
    _slot: Slot,
}

impl BlockedClaim {
    pub(super) fn new(
        shared: Arc<Shared>,
        asked: Asked,
        sequence: Sequence,
        gate: Arc<Gate>,
        deadline: Instant,
        slot: Slot,
    ) -> BlockedClaim {
        BlockedClaim { shared, asked, sequence, gate, deadline, left: false, _slot: slot }
    }

    /// Blocks until the claim does not wait any more, the wait is over, or the service stops.
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
        let mut state = shared.state.lock();
        let claim_state = match state.core.claim_by_sequence(self.sequence) {
            Some(view) => view.claim.state.clone(),
            None => return Some(Err(self.ended(&state))),
        };
        match claim_state {
            ClaimState::Held { .. } | ClaimState::Offered { .. } => {
                Some(self.arrived(&shared, &mut state))
            }
            _ if state.is_stopping() => Some(Err(Refusal::Stopping)),
            _ if Instant::now() < self.deadline => None,
            _ => {
                let now = self.leave(&mut state).unwrap_or_else(|| shared.clock.now());
                let outcome = Outcome::Waiting { sequence: self.sequence, blocked: false };
                Some(state.status(now, outcome))
            }
        }
    }

    /// The claim does not wait any more. A renew is done now: it confirms an offer (which only a claim with
    /// a callback gets while a request blocks on it) and sets the lease that it asked for.
    fn arrived(&self, shared: &Shared, state: &mut State) -> Attempted {
        let (now, outcome) = match &self.asked {
            Asked::Renew { id, ttl } => {
                shared.apply(state, Command::Renew { id: id.clone(), ttl: *ttl, blocks: false })
            }
            Asked::Acquire { .. } => {
                let view = state.core.claim_by_sequence(self.sequence);
                let held = view.is_some_and(|v| matches!(v.claim.state, ClaimState::Held { .. }));
                let outcome = if held { Outcome::Granted } else { Outcome::Offered }(self.sequence);
                (shared.clock.now(), Ok(outcome))
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
    fn leave(&mut self, state: &mut State) -> Option<Now> {
        if std::mem::replace(&mut self.left, true) {
            return None;
        }
        let command = Command::Unblock { sequence: self.sequence, closed: false };
        let (now, outcome) = self.shared.apply(state, command);
        if let Err(error) = outcome {
            log::error!("leaving a claim was refused: {error}");
        }
        state.leave_gate(self.sequence);
        Some(now)
    }
}

impl Drop for BlockedClaim {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        self.leave(&mut state);
    }
}
