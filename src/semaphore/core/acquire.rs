//! Acquire and renew: the requests of a claim's holder.

use std::{sync::Arc, time::Duration};

use super::{
    CLAIM_REQUESTS_MAX, Core, Error, Outcome, Place, Presence, Semaphore, SetKey, Standing, Tx,
    timers::Timer,
    tokens::{check_use, is_same_owner, is_taken_over},
};
use crate::model::{
    ClaimEvent, ClaimId, ClaimRequest, ClaimState, Event, JobId, SemaphoreName, SemaphoreSettings,
    SemaphoreState, Sequence, Terms, bounds,
};

impl Core {
    pub(super) fn acquire(
        &mut self,
        tx: &mut Tx<'_>,
        id: ClaimId,
        request: ClaimRequest,
        blocks: bool,
    ) -> Result<Outcome, Error> {
        self.ended.forget(tx.stamp.now.wall);
        if let Some((sequence, live)) = self.live(&id) {
            if live.claim.terms.fingerprint != request.fingerprint
                || !is_same_owner(tx, &live.claim)
            {
                return Err(Error::ClaimDiffers(id));
            }
            let confirms = !live.claim.terms.has_callback;
            return Ok(self.attend(tx, sequence, blocks, confirms));
        }
        if let Some((reason, ended_at)) = self.ended.find(&id) {
            return Err(Error::ClaimEnded { id, reason, ended_at });
        }
        let queues = request.queue;
        let callback = request.callback.clone();
        let terms = self.terms(request)?;
        let place = Place::new(terms.priority, self.sequence.next());
        if !queues {
            self.check_available(&terms)?;
        }
        self.check_owned(tx)?;
        self.check_bounds(&terms, place)?;

        let sequence = place.sequence;
        self.emit(tx, Event::ClaimQueued { id, sequence, terms: Arc::new(terms) });
        self.own(tx, sequence);
        if let Some(callback) = callback {
            let event = ClaimEvent::CallbackSet { callback };
            self.emit(tx, Event::Claim { sequence, event });
        }
        Ok(self.attend(tx, sequence, blocks, true))
    }

    pub(super) fn renew(
        &mut self,
        tx: &mut Tx<'_>,
        id: &ClaimId,
        (ttl, job): (Option<Duration>, Option<JobId>),
        blocks: bool,
    ) -> Result<Outcome, Error> {
        let Some((sequence, live)) = self.live(id) else {
            return Err(match self.ended.find(id) {
                Some((reason, ended_at)) => Error::ClaimEnded { id: id.clone(), reason, ended_at },
                None => Error::UnknownClaim(id.clone()),
            });
        };
        let is_taken_over = is_taken_over(tx, &live.claim);
        if is_taken_over {
            self.check_owned(tx)?;
        } else {
            check_use(tx, &live.claim, id)?;
        }
        if job.is_some() && live.claim.job.is_some() && job != live.claim.job {
            return Err(Error::ClaimTaken(id.clone()));
        }
        if let Some(ttl) = ttl {
            let ttl_max = self.ttl_max(live.claim.terms.permits.names());
            if ttl > ttl_max {
                return Err(Error::TtlTooLong { ttl, ttl_max });
            }
        }
        let outcome = self.attend(tx, sequence, blocks, true);
        if is_taken_over {
            self.own(tx, sequence);
        }
        self.take_over(tx, sequence, job);
        if let (Some(asked), Some(live)) = (ttl, self.claims.get(&sequence))
            && matches!(live.claim.state, ClaimState::Held { ttl, .. } if ttl != asked)
        {
            let event = ClaimEvent::Renewed { ttl: asked };
            self.emit(tx, Event::Claim { sequence, event });
        }
        Ok(outcome)
    }

    /// Notes the job that took a held claim over, if none did before.
    fn take_over(&mut self, tx: &mut Tx<'_>, sequence: Sequence, job: Option<JobId>) {
        let Some(live) = self.claims.get(&sequence) else { return };
        let is_held = matches!(live.claim.state, ClaimState::Held { .. });
        if let Some(job) = job.filter(|_| is_held && live.claim.job.is_none()) {
            let event = ClaimEvent::JobSet { job };
            self.emit(tx, Event::Claim { sequence, event });
        }
    }

    /// A request of the holder is there: prolongs a lease, confirms an offer, makes a waiting claim
    /// present, and grants it if that makes the difference.
    fn attend(
        &mut self,
        tx: &mut Tx<'_>,
        sequence: Sequence,
        blocks: bool,
        confirms: bool,
    ) -> Outcome {
        match self.claims.get(&sequence).map(|live| &live.claim.state) {
            Some(ClaimState::Held { .. }) => {
                self.prolong(tx, sequence);
                Outcome::Prolonged(sequence)
            }
            Some(ClaimState::Offered { .. }) if confirms => {
                self.confirm(tx, sequence);
                Outcome::Granted(sequence)
            }
            Some(ClaimState::Offered { .. }) => Outcome::Offered(sequence),
            Some(ClaimState::Waiting) => self.attend_waiting(tx, sequence, blocks),
            Some(ClaimState::Ended { .. }) | None => Outcome::EndedBefore,
        }
    }

    fn attend_waiting(&mut self, tx: &mut Tx<'_>, sequence: Sequence, blocks: bool) -> Outcome {
        let blocked = self.make_present(tx, sequence, blocks);
        tx.attended = Some(sequence);
        if let Some(set) = self.waiting_set(sequence) {
            // It may be grantable now; as it is eligible from now on, nobody else can have become so.
            self.settle(tx, [set]);
        }
        match self.claims.get(&sequence).map(|live| &live.claim.state) {
            Some(ClaimState::Held { .. }) => Outcome::Granted(sequence),
            Some(ClaimState::Offered { .. }) => Outcome::Offered(sequence),
            _ => Outcome::Waiting { sequence, blocked },
        }
    }

    /// Makes a waiting claim present by a request; tells whether the request blocks on it.
    fn make_present(&mut self, tx: &Tx<'_>, sequence: Sequence, blocks: bool) -> bool {
        let Some(live) = self.claims.get_mut(&sequence) else { return false };
        let Standing::Waiting { presence, .. } = &mut live.standing else { return false };
        let before = *presence;
        let requests = match before {
            Presence::Blocked(requests) => requests,
            Presence::Lingering(_) | Presence::Absent(_) => 0,
            // The request may wait for the grant, but nothing depends on its presence.
            Presence::Always => return blocks,
        };
        let may_block = blocks && requests < CLAIM_REQUESTS_MAX;
        *presence = if may_block {
            Presence::Blocked(requests + 1)
        } else if requests > 0 {
            before
        } else {
            let queue_ttl = live.claim.terms.queue_ttl.unwrap_or(bounds::QUEUE_TTL_DEFAULT);
            Presence::Lingering(tx.stamp.now.service.after(queue_ttl))
        };
        let after = *presence;
        self.move_queue_timer(sequence, before, after);
        may_block
    }

    /// A blocked request is over.
    pub(super) fn unblock(&mut self, tx: &mut Tx<'_>, sequence: Sequence, closed: bool) -> Outcome {
        let Some(live) = self.claims.get_mut(&sequence) else { return Outcome::EndedBefore };
        let Standing::Waiting { presence, set, .. } = &mut live.standing else {
            return Outcome::Done;
        };
        let before = *presence;
        let Presence::Blocked(requests) = before else { return Outcome::Done };
        let queue_ttl = live.claim.terms.queue_ttl.unwrap_or(bounds::QUEUE_TTL_DEFAULT);
        let until = tx.stamp.now.service.after(queue_ttl);
        let after = match (requests, closed) {
            (2.., _) => Presence::Blocked(requests - 1),
            (_, true) => Presence::Absent(until),
            (_, false) => Presence::Lingering(until),
        };
        *presence = after;
        let set = Arc::clone(set);
        self.move_queue_timer(sequence, before, after);
        if !after.is_present() {
            // It is passed over from now on: those behind it may fit.
            self.settle_semaphores(tx, set.iter());
        }
        Outcome::Done
    }

    /// None of the requests that block on a claim has its client any more.
    pub(super) fn make_absent(&mut self, tx: &Tx<'_>, sequence: Sequence) {
        let Some(live) = self.claims.get_mut(&sequence) else { return };
        let Standing::Waiting { presence, .. } = &mut live.standing else { return };
        let queue_ttl = live.claim.terms.queue_ttl.unwrap_or(bounds::QUEUE_TTL_DEFAULT);
        let before = *presence;
        let after = Presence::Absent(tx.stamp.now.service.after(queue_ttl));
        *presence = after;
        self.move_queue_timer(sequence, before, after);
    }

    fn move_queue_timer(&mut self, sequence: Sequence, before: Presence, after: Presence) {
        if let Some(until) = before.lapse() {
            self.timers.clear(until, Timer::Queue(sequence));
        }
        if let Some(until) = after.lapse() {
            self.timers.set(until, Timer::Queue(sequence));
        }
        if before.is_present() != after.is_present() {
            self.update_eligible(sequence);
        }
    }

    /// Lets a lease begin anew. Kept in memory alone: after a restart each lease has its full time again.
    fn prolong(&mut self, tx: &Tx<'_>, sequence: Sequence) {
        let Some(live) = self.claims.get_mut(&sequence) else { return };
        let ClaimState::Held { ttl, .. } = live.claim.state else { return };
        let Standing::Held { until, .. } = &mut live.standing else { return };
        self.timers.clear(*until, Timer::Lease(sequence));
        *until = tx.stamp.now.service.after(ttl);
        self.timers.set(*until, Timer::Lease(sequence));
    }

    fn confirm(&mut self, tx: &mut Tx<'_>, sequence: Sequence) {
        let Some(live) = self.claims.get(&sequence) else { return };
        let hold_until = self.hold_until(live.claim.terms.permits.names(), tx.stamp.at);
        let event = ClaimEvent::Confirmed { hold_until };
        self.emit(tx, Event::Claim { sequence, event });
    }

    fn waiting_set(&self, sequence: Sequence) -> Option<SetKey> {
        match &self.claims.get(&sequence)?.standing {
            Standing::Waiting { set, .. } => Some(Arc::clone(set)),
            Standing::Offered { .. } | Standing::Held { .. } => None,
        }
    }

    /// Fills in the defaults. Of several semaphores the smallest default and the smallest maximum apply.
    fn terms(&self, request: ClaimRequest) -> Result<Terms, Error> {
        for (name, requested) in request.permits.iter() {
            let Some(semaphore) = self.semaphores.get(name) else {
                return Err(Error::UnknownSemaphore(name.clone()));
            };
            let capacity = semaphore.settings.capacity;
            if requested > capacity {
                let semaphore = name.clone();
                return Err(Error::NeverSatisfiable { semaphore, requested, capacity });
            }
        }
        let settings = || request.permits.names().filter_map(|name| self.settings(name));
        let ttl_max = self.ttl_max(request.permits.names());
        let default_ttl = settings().map(|s| s.default_ttl).min().unwrap_or(bounds::TTL_DEFAULT);
        let ttl = request.ttl.unwrap_or(default_ttl.min(ttl_max));
        if ttl > ttl_max {
            return Err(Error::TtlTooLong { ttl, ttl_max });
        }
        let callback = request.callback.is_some();
        let (offer_ttl, wait_timeout) = if callback {
            let wait = bounds::WAIT_TIMEOUT_CALLBACK_DEFAULT;
            (bounds::OFFER_TTL_CALLBACK_DEFAULT, Some(wait))
        } else {
            (bounds::OFFER_TTL_DEFAULT, None)
        };
        let default_queue_ttl = settings().map(|s| s.queue_ttl).min();
        let default_offer_ttl = settings().filter_map(|s| s.offer_ttl).min().unwrap_or(offer_ttl);
        let default_wait_timeout = settings().filter_map(|s| s.wait_timeout).min().or(wait_timeout);
        Ok(Terms {
            ttl,
            queue_ttl: if callback { None } else { request.queue_ttl.or(default_queue_ttl) },
            offer_ttl: request.offer_ttl.unwrap_or(default_offer_ttl),
            wait_timeout: request.wait_timeout.or(default_wait_timeout),
            permits: request.permits,
            holder: request.holder,
            labels: request.labels,
            priority: request.priority,
            has_callback: callback,
            fingerprint: request.fingerprint,
        })
    }

    fn ttl_max<'n>(&self, names: impl Iterator<Item = &'n SemaphoreName>) -> Duration {
        let longest = names.filter_map(|name| self.settings(name)).map(|s| s.max_ttl).min();
        longest.unwrap_or(bounds::TTL_MAX)
    }

    fn settings(&self, name: &SemaphoreName) -> Option<&SemaphoreSettings> {
        self.semaphores.get(name).map(|semaphore| &semaphore.settings)
    }

    /// Whether a claim that does not queue can have its permits now, without those that are set aside.
    fn check_available(&self, terms: &Terms) -> Result<(), Error> {
        for (name, weight) in terms.permits.iter() {
            let Some(semaphore) = self.semaphores.get(name) else { continue };
            if semaphore.settings.state == SemaphoreState::Draining {
                return Err(Error::Draining(name.clone()));
            }
            let available = semaphore.available();
            if u64::from(weight) > available {
                let available = u32::try_from(available).unwrap_or(u32::MAX);
                return Err(Error::NoPermit { semaphore: name.clone(), available });
            }
        }
        Ok(())
    }

    /// Whether there is room for one more claim, which would stand at `place` if it has to wait.
    fn check_bounds(&self, terms: &Terms, place: Place) -> Result<(), Error> {
        if self.claims.len() >= self.limits.claims_max {
            return Err(Error::Full { bound: "claims_max", limit: self.limits.claims_max });
        }
        let limit = self.limits.claims_text_bytes_max;
        if self.text_bytes >= limit {
            return Err(Error::Full { bound: "claims_text_bytes_max", limit });
        }
        let semaphore = |name| self.semaphores.get(name);
        // A callback's permits are set aside at once too: it is offered, and queues as little.
        let waits = terms
            .permits
            .iter()
            .any(|(name, weight)| !semaphore(name).is_some_and(|s| s.grants(place, weight)));
        if !waits {
            return Ok(());
        }
        let claims_max = self.limits.queue_claims_max;
        for name in terms.permits.names() {
            if semaphore(name).is_some_and(|s| s.line.len() >= claims_max) {
                return Err(Error::QueueFull { semaphore: name.clone(), claims_max });
            }
        }
        let set: SetKey = terms.permits.names().cloned().collect();
        if self.sets.len() >= self.limits.waiting_sets_max && !self.sets.contains_key(&set) {
            let limit = self.limits.waiting_sets_max;
            return Err(Error::Full { bound: "waiting_sets_max", limit });
        }
        Ok(())
    }
}

impl Semaphore {
    /// Whether a claim of this weight that comes to stand at `place` would not have to wait for this
    /// semaphore.
    fn grants(&self, place: Place, weight: u32) -> bool {
        self.settings.state == SemaphoreState::Open
            && self.line.eligible_weight_through(place) + u64::from(weight) <= self.free()
    }
}
