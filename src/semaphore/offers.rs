//! Offers of claims with a callback: somebody has to be called, and what came of it is kept.
//!
//! That a callback is due is an event in the change that offers the claim. When that change is safe, whoever
//! calls is told the claim's sequence number ([`Service::on_callback_due`]); after a start also of all offers
//! that were recovered. From then on it is his to look whether the offer still stands ([`Service::offer`]), to
//! call, which is noted first ([`Service::begin_delivery`]), and to note what came of it ([`Service::note_delivery`]), as
//! often as need be: a crash between any of these leads to another call for the same claim, never to none.
//!
//! The handler runs on the thread that committed, so it must be short.

use std::{sync::Arc, time::Duration};

use super::{
    ClaimStatus, Service, Shared,
    claims::status,
    core::{Command, Outcome},
    state::State,
};
use crate::model::{ClaimState, Delivery, DeliveryResult, Revision, Sequence, WallTime};

/// Told which claim's callback is due, or is not any more: whoever is told looks.
pub type DueHandler = Box<dyn Fn(Sequence) + Send + Sync>;

impl Service {
    /// Has `due` called for each offer of a claim with a callback, once it is safe, when it is confirmed or ends,
    /// and for those that stand already. To be called once; a second handler is ignored.
    pub fn on_callback_due(&self, due: DueHandler) {
        if self.shared.callback_due.set(due).is_err() {
            log::error!("callbacks have a handler already");
            return;
        }
        // An offer that is made from here on may be told twice, none is missed.
        let standing: Vec<(Sequence, Revision)> = {
            let state = self.shared.state.lock();
            let offered = state.core.offers_with_callback();
            offered.map(|claim| (claim.sequence, claim.revision)).collect()
        };
        for (sequence, revision) in standing {
            let shared = Arc::clone(&self.shared);
            // If nobody commits at the moment, the ticker sees to it.
            self.after_commit(revision, Box::new(move || shared.tell_callback_due(sequence)));
        }
    }

    /// The claim, if it has a callback and is offered at present.
    #[must_use]
    pub fn offer(&self, sequence: Sequence) -> Option<ClaimStatus> {
        let state = self.shared.state.lock();
        let view = state.core.claim_by_sequence(sequence)?;
        let is_offered = matches!(view.claim.state, ClaimState::Offered { .. });
        let revision = state.core.revision();
        let is_due = is_offered && view.claim.callback.is_some();
        is_due.then(|| status(view, self.shared.clock.now(), revision))
    }

    /// Notes that a claim's callback is about to be called, and returns when that is safe: no crash hides a call that
    /// somebody got. Blocks for as long as the disk takes, and until the process ends when the storage fails. `false` when
    /// nothing was noted: the claim is not offered any more, or was tried as often as can be.
    #[must_use]
    pub fn begin_delivery(&self, sequence: Sequence, started_at: WallTime) -> bool {
        let result = DeliveryResult::Unfinished;
        let delivery = Delivery { started_at, duration: Duration::ZERO, result };
        let revision = {
            let mut state = self.shared.state.lock();
            if !self.shared.note_delivery(&mut state, sequence, delivery) {
                return false;
            }
            state.core.revision()
        };
        self.wait_for_commit(revision)
    }

    /// Notes what came of calling a claim's callback: of the call that began then, if one did. Safe within half a
    /// second. `false` when nothing was noted: the claim has ended, or was tried as often as can be.
    #[must_use]
    pub fn note_delivery(&self, sequence: Sequence, delivery: Delivery) -> bool {
        let mut state = self.shared.state.lock();
        let is_noted = self.shared.note_delivery(&mut state, sequence, delivery);
        self.shared.hand_over(&mut state);
        is_noted
    }
}

impl Shared {
    fn note_delivery(&self, state: &mut State, sequence: Sequence, delivery: Delivery) -> bool {
        let (_, outcome) = self.apply(state, Command::NoteDelivery { sequence, delivery });
        matches!(outcome, Ok(Outcome::Done))
    }

    /// Tells whoever calls that a callback is due.
    pub(super) fn tell_callback_due(&self, sequence: Sequence) {
        if let Some(due) = self.callback_due.get() {
            due(sequence);
        }
    }
}
