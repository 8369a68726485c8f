//! The ways in which a claim ends: by its holder, by an admin, by time.

use std::{collections::BTreeSet, time::Duration};

use super::{Core, Error, Outcome, TIMEOUT_TIMERS_MAX, Tx, timers::Timer, tokens::check_use};
use crate::model::{
    ClaimEvent, ClaimId, ClaimState, Delivery, DeliveryResult, EndReason, Event, JobId, Note,
    SemaphoreName, Sequence,
};

impl Core {
    pub(super) fn release(
        &mut self,
        tx: &mut Tx<'_>,
        id: &ClaimId,
        job: Option<&JobId>,
    ) -> Result<Outcome, Error> {
        if let (Some(job), Some((_, live))) = (job, self.live(id))
            && matches!(live.claim.state, ClaimState::Held { .. })
            && live.claim.job.as_ref() != Some(job)
        {
            check_use(tx, &live.claim, id)?;
            return Err(Error::ClaimTaken(id.clone()));
        }
        self.end_by_request(tx, id, EndReason::Released, EndReason::Cancelled, None)
    }

    pub(super) fn revoke(
        &mut self,
        tx: &mut Tx<'_>,
        id: &ClaimId,
        note: Option<Note>,
    ) -> Result<Outcome, Error> {
        self.end_by_request(tx, id, EndReason::Revoked, EndReason::Revoked, note)
    }

    fn end_by_request(
        &mut self,
        tx: &mut Tx<'_>,
        id: &ClaimId,
        held: EndReason,
        not_held: EndReason,
        note: Option<Note>,
    ) -> Result<Outcome, Error> {
        let Some((sequence, live)) = self.live(id) else {
            return match self.ended.find(id) {
                Some(_) => Ok(Outcome::EndedBefore),
                None => Err(Error::UnknownClaim(id.clone())),
            };
        };
        check_use(tx, &live.claim, id)?;
        let is_held = matches!(live.claim.state, ClaimState::Held { .. });
        let touched = self.end(tx, sequence, if is_held { held } else { not_held }, note);
        self.settle_semaphores(tx, &touched);
        Ok(Outcome::Ended(sequence))
    }

    /// Ends a live claim and returns its semaphores, which have to be settled then.
    pub(super) fn end(
        &mut self,
        tx: &mut Tx<'_>,
        sequence: Sequence,
        reason: EndReason,
        note: Option<Note>,
    ) -> Vec<SemaphoreName> {
        let Some(live) = self.claims.get(&sequence) else { return Vec::new() };
        let permits = &live.claim.terms.permits;
        let names: Vec<SemaphoreName> = permits.names().cloned().collect();
        let is_held = matches!(live.claim.state, ClaimState::Held { .. });
        let cooling: Box<[(SemaphoreName, Duration)]> = names
            .iter()
            .filter(|_| is_held)
            .filter_map(|name| Some((name, self.semaphores.get(name)?.settings.cooldown)))
            .filter(|(_, cooldown)| !cooldown.is_zero())
            .map(|(name, cooldown)| (name.clone(), cooldown))
            .collect();
        let event = ClaimEvent::Ended { reason, note, cooling };
        self.emit(tx, Event::Claim { sequence, event });
        names
    }

    /// Ends all that is due. What became free is granted once all of it has ended, so that nothing is
    /// offered to a claim whose own time is over at the same moment.
    pub(super) fn handle_timeout(&mut self, tx: &mut Tx<'_>) -> Outcome {
        let touched = self.end_due(tx);
        self.settle_semaphores(tx, &touched);
        Outcome::Done
    }

    /// After recovery: what was over meanwhile ends, and once nothing is due any more, all is granted that can be:
    /// earlier it would be offered to claims that the next such command ends.
    pub(super) fn resume(&mut self, tx: &mut Tx<'_>) -> Outcome {
        self.end_due(tx);
        if !self.is_due(tx.stamp.now) {
            self.settle_all(tx);
        }
        Outcome::Done
    }

    /// Ends what is due and returns the semaphores that this was about.
    fn end_due(&mut self, tx: &mut Tx<'_>) -> BTreeSet<SemaphoreName> {
        self.ended.forget(tx.stamp.now.wall);
        let mut touched = BTreeSet::new();
        for timer in self.timers.due(tx.stamp.now, TIMEOUT_TIMERS_MAX) {
            let (sequence, reason) = match timer {
                Timer::Queue(sequence) => (sequence, EndReason::Abandoned),
                Timer::Offer(sequence) => (sequence, self.unconfirmed(sequence)),
                Timer::Wait(sequence) => (sequence, EndReason::WaitTimeout),
                Timer::Lease(sequence) | Timer::Hold(sequence) => (sequence, EndReason::Expired),
                Timer::Cooling(semaphore, sequence) => {
                    self.end_cooling(tx, &semaphore, sequence, u32::MAX);
                    touched.insert(semaphore);
                    continue;
                }
            };
            touched.extend(self.end(tx, sequence, reason, None));
        }
        touched
    }

    /// Why an offer ends that nobody has confirmed: whoever should have was never told, or did not come.
    fn unconfirmed(&self, sequence: Sequence) -> EndReason {
        let record = self.claims.get(&sequence).and_then(|live| live.claim.callback.as_deref());
        match record {
            Some(record) if !record.is_delivered() => EndReason::CallbackFailed,
            Some(_) | None => EndReason::Abandoned,
        }
    }

    /// A callback is being called, or was. What comes too late for the record, or is too much for it, is left out. Only an
    /// offer is called; how a call ended is noted of a held claim too, for the job that it started may be quick.
    pub(super) fn note_delivery(
        &mut self,
        tx: &mut Tx<'_>,
        sequence: Sequence,
        delivery: Delivery,
    ) -> Outcome {
        let Some(live) = self.claims.get(&sequence) else { return Outcome::EndedBefore };
        let record = live.claim.callback.as_ref();
        let is_in_time = match live.claim.state {
            ClaimState::Offered { .. } => true,
            ClaimState::Held { .. } => delivery.result != DeliveryResult::Unfinished,
            ClaimState::Waiting | ClaimState::Ended { .. } => false,
        };
        if !is_in_time || !record.is_some_and(|record| record.takes(&delivery)) {
            return Outcome::EndedBefore;
        }
        let event = ClaimEvent::CallbackTried { delivery };
        self.emit(tx, Event::Claim { sequence, event });
        Outcome::Done
    }

    /// Lets up to `permits_max` cooling permits of an ended claim be available again; returns how many.
    pub(super) fn end_cooling(
        &mut self,
        tx: &mut Tx<'_>,
        semaphore: &SemaphoreName,
        sequence: Sequence,
        permits_max: u32,
    ) -> u32 {
        let entry = self.semaphores.get(semaphore).and_then(|s| s.cooling.get(&sequence));
        let Some((cooling, _)) = entry else { return 0 };
        let permits = cooling.permits.min(permits_max);
        let semaphore = semaphore.clone();
        self.emit(tx, Event::CoolingEnded { semaphore, sequence, permits });
        permits
    }
}
