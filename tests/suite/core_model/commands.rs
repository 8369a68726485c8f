//! What the naive model does with each command.

use std::{sync::Arc, time::Duration};

use semaphored::{
    model::{
        Callback, ClaimId, ClaimRequest, DELIVERIES_MAX, Delivery, DeliveryResult, EndReason,
        Holder, Origin, Permits, SemaphoreName, SemaphoreSettings, SemaphoreState, Sequence,
        ServiceTime, Terms, bounds,
    },
    semaphore::core::{CLAIM_REQUESTS_MAX, Error, Outcome, Presence},
};

use super::model::{Claim, Model, Semaphore, State};

impl Model {
    pub(super) fn acquire(
        &mut self,
        id: &ClaimId,
        request: &ClaimRequest,
        blocks: bool,
    ) -> Result<Outcome, Error> {
        self.forget();
        if let Some(claim) = self.claim(id) {
            if claim.terms.fingerprint != request.fingerprint {
                return Err(Error::ClaimDiffers(id.clone()));
            }
            let (sequence, confirms) = (claim.sequence, !claim.terms.has_callback);
            return Ok(self.attend(sequence, blocks, confirms));
        }
        if let Some((reason, ended_at)) = self.ended(id) {
            return Err(Error::ClaimEnded { id: id.clone(), reason, ended_at });
        }
        let terms = self.terms(request)?;
        if !request.queue {
            self.check_no_queue(&terms.permits)?;
        }
        self.check_limits(&terms)?;
        let revision = self.change();
        self.sequence += 1;
        let now = self.now;
        let state = State::Waiting {
            presence: if terms.has_callback { Presence::Always } else { Presence::Blocked(0) },
            wait_until: terms.wait_timeout.map(|timeout| now.service.after(timeout)),
        };
        let (id, sequence, queued_at) = (id.clone(), self.sequence, now.wall);
        let terms = Arc::new(terms);
        let callback = request.callback.clone().map(|callback| (callback, Vec::new()));
        self.claims.push(Claim { id, sequence, terms, queued_at, revision, state, callback });
        Ok(self.attend(sequence, blocks, true))
    }

    pub(super) fn renew(
        &mut self,
        id: &ClaimId,
        ttl: Option<Duration>,
        blocks: bool,
    ) -> Result<Outcome, Error> {
        let Some(claim) = self.claim(id) else {
            return Err(match self.ended(id) {
                Some((reason, ended_at)) => Error::ClaimEnded { id: id.clone(), reason, ended_at },
                None => Error::UnknownClaim(id.clone()),
            });
        };
        let sequence = claim.sequence;
        let ttl_max = self.smallest(&claim.terms.permits, |settings| Some(settings.max_ttl));
        if let (Some(ttl), Some(ttl_max)) = (ttl, ttl_max)
            && ttl > ttl_max
        {
            return Err(Error::TtlTooLong { ttl, ttl_max });
        }
        let outcome = self.attend(sequence, blocks, true);
        let (now, revision) = (self.now, self.revision + 1);
        let live = self.claims.iter_mut().find(|claim| claim.sequence == sequence);
        if let (Some(asked), Some(claim)) = (ttl, live)
            && let State::Held { ttl, until, .. } = &mut claim.state
            && *ttl != asked
        {
            *ttl = asked;
            *until = now.service.after(asked);
            claim.revision = revision;
            self.changed = true;
        }
        Ok(outcome)
    }

    /// A request of the holder is there.
    fn attend(&mut self, sequence: u64, blocks: bool, confirms: bool) -> Outcome {
        let now = self.now;
        let Some(at) = self.claims.iter().position(|claim| claim.sequence == sequence) else {
            return Outcome::EndedBefore;
        };
        let terms = Arc::clone(&self.claims[at].terms);
        match &mut self.claims[at].state {
            State::Held { until, ttl, .. } => {
                *until = now.service.after(*ttl);
                Outcome::Prolonged(Sequence(sequence))
            }
            State::Offered { .. } if !confirms => Outcome::Offered(Sequence(sequence)),
            State::Offered { fences, .. } => {
                let fences = fences.clone();
                let revision = self.change();
                self.claims[at].state = self.held(&terms, fences);
                self.claims[at].revision = revision;
                Outcome::Granted(Sequence(sequence))
            }
            State::Waiting { presence, .. } => {
                let requests = match presence {
                    Presence::Blocked(requests) => *requests,
                    _ => 0,
                };
                let always = terms.has_callback;
                let blocked = blocks && (always || requests < CLAIM_REQUESTS_MAX);
                if !always && blocked {
                    *presence = Presence::Blocked(requests + 1);
                } else if !always && requests == 0 {
                    *presence = Presence::Lingering(lingers_until(now.service, &terms));
                }
                self.grant_all(Some(sequence));
                match self.claims[at].state {
                    State::Waiting { .. } => {
                        Outcome::Waiting { sequence: Sequence(sequence), blocked }
                    }
                    State::Offered { .. } => Outcome::Offered(Sequence(sequence)),
                    State::Held { .. } => Outcome::Granted(Sequence(sequence)),
                }
            }
        }
    }

    /// "With several semaphores in a claim the smallest default and the smallest maximum apply."
    fn smallest(
        &self,
        permits: &Permits,
        setting: fn(&SemaphoreSettings) -> Option<Duration>,
    ) -> Option<Duration> {
        let semaphores = permits.names().filter_map(|name| self.semaphore(name));
        semaphores.filter_map(|semaphore| setting(&semaphore.settings)).min()
    }

    fn terms(&self, request: &ClaimRequest) -> Result<Terms, Error> {
        let permits = &request.permits;
        for (name, requested) in permits.iter() {
            let Some(semaphore) = self.semaphore(name) else {
                return Err(Error::UnknownSemaphore(name.clone()));
            };
            let capacity = semaphore.settings.capacity;
            if requested > capacity {
                let semaphore = name.clone();
                return Err(Error::NeverSatisfiable { semaphore, requested, capacity });
            }
        }
        let ttl_max = self.smallest(permits, |s| Some(s.max_ttl)).unwrap_or(bounds::TTL_MAX);
        let ttl_default = self.smallest(permits, |s| Some(s.default_ttl)).unwrap_or(ttl_max);
        let ttl = request.ttl.unwrap_or(ttl_default.min(ttl_max));
        if ttl > ttl_max {
            return Err(Error::TtlTooLong { ttl, ttl_max });
        }
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        let (offer_ttl, wait_timeout) = if request.callback.is_some() {
            (minutes(10), Some(minutes(24 * 60)))
        } else {
            (minutes(1), None)
        };
        let queue_ttl = request.queue_ttl.or(self.smallest(permits, |s| Some(s.queue_ttl)));
        let offer_ttl = self.smallest(permits, |s| s.offer_ttl).unwrap_or(offer_ttl);
        let wait_timeout = self.smallest(permits, |s| s.wait_timeout).or(wait_timeout);
        Ok(Terms {
            permits: permits.clone(),
            holder: request.holder.clone(),
            labels: request.labels.clone(),
            priority: request.priority,
            ttl,
            queue_ttl: queue_ttl.filter(|_| request.callback.is_none()),
            offer_ttl: request.offer_ttl.unwrap_or(offer_ttl),
            wait_timeout: request.wait_timeout.or(wait_timeout),
            has_callback: request.callback.is_some(),
            fingerprint: request.fingerprint,
        })
    }

    /// A claim with `"queue": false` takes only what is free and not set aside, at once.
    fn check_no_queue(&self, permits: &Permits) -> Result<(), Error> {
        for (name, weight) in permits.iter() {
            let drains = |s: &Semaphore| s.settings.state == SemaphoreState::Draining;
            if self.semaphore(name).is_some_and(drains) {
                return Err(Error::Draining(name.clone()));
            }
            let available = self.available(name);
            if u64::from(weight) > available {
                let available = u32::try_from(available).unwrap_or(u32::MAX);
                return Err(Error::NoPermit { semaphore: name.clone(), available });
            }
        }
        Ok(())
    }

    /// What is free and not set aside.
    pub(super) fn available(&self, name: &SemaphoreName) -> u64 {
        self.free(name).saturating_sub(self.eligible_weight(name, (i8::MIN, u64::MAX)))
    }

    /// The bounds: of claims in all, and for a claim that has to wait of queues and of sets.
    fn check_limits(&self, terms: &Terms) -> Result<(), Error> {
        let limit = self.limits.claims_max;
        if self.claims.len() >= limit {
            return Err(Error::Full { bound: "claims_max", limit });
        }
        let limit = self.limits.claims_text_bytes_max;
        let texts: String = self.claims.iter().map(texts).collect();
        if texts.len() >= limit {
            return Err(Error::Full { bound: "claims_text_bytes_max", limit });
        }
        let place = (terms.priority.value(), u64::MAX);
        let fits = |(name, weight)| {
            self.eligible_weight(name, place) + u64::from(weight) <= self.free(name)
        };
        if self.all_open(&terms.permits) && terms.permits.iter().all(fits) {
            return Ok(());
        }
        let claims_max = self.limits.queue_claims_max;
        for name in terms.permits.names() {
            if self.queue(Some(name)).len() >= claims_max {
                return Err(Error::QueueFull { semaphore: name.clone(), claims_max });
            }
        }
        let mut sets: Vec<Vec<&SemaphoreName>> =
            self.queue(None).into_iter().map(|c| c.terms.permits.names().collect()).collect();
        sets.sort();
        sets.dedup();
        let limit = self.limits.waiting_sets_max;
        if sets.len() >= limit && !sets.contains(&terms.permits.names().collect()) {
            return Err(Error::Full { bound: "waiting_sets_max", limit });
        }
        Ok(())
    }

    pub(super) fn end_by_id(
        &mut self,
        id: &ClaimId,
        held: EndReason,
        not_held: EndReason,
    ) -> Result<Outcome, Error> {
        let Some(claim) = self.claim(id) else {
            return match self.ended(id) {
                Some(_) => Ok(Outcome::EndedBefore),
                None => Err(Error::UnknownClaim(id.clone())),
            };
        };
        let sequence = claim.sequence;
        let is_held = matches!(claim.state, State::Held { .. });
        self.end(sequence, if is_held { held } else { not_held });
        Ok(Outcome::Ended(Sequence(sequence)))
    }

    pub(super) fn unblock(&mut self, sequence: u64, closed: bool) -> Outcome {
        let now = self.now;
        let Some(claim) = self.claims.iter_mut().find(|claim| claim.sequence == sequence) else {
            return Outcome::EndedBefore;
        };
        if let State::Waiting { presence, .. } = &mut claim.state {
            let until = lingers_until(now.service, &claim.terms);
            *presence = match (*presence, closed) {
                (Presence::Blocked(1), true) => Presence::Absent(until),
                (Presence::Blocked(1), false) => Presence::Lingering(until),
                (Presence::Blocked(requests), _) => Presence::Blocked(requests - 1),
                (presence, _) => presence,
            };
        }
        Outcome::Done
    }

    pub(super) fn set_semaphore(
        &mut self,
        name: &SemaphoreName,
        settings: &SemaphoreSettings,
        origin: Origin,
        force: bool,
    ) -> Result<Outcome, Error> {
        let Some(at) = self.semaphores.iter().position(|s| s.name == *name) else {
            let limit = self.limits.semaphores_max;
            if self.semaphores.len() >= limit {
                return Err(Error::Full { bound: "semaphores_max", limit });
            }
            let (name, settings) = (name.clone(), settings.clone());
            let (fence, revision) = (self.fence_floor, self.change());
            self.semaphores.push(Semaphore { name, settings, origin, fence, revision });
            return Ok(Outcome::Registered);
        };
        if self.semaphores[at].settings == *settings && self.semaphores[at].origin == origin {
            return Ok(Outcome::Done);
        }
        let too_heavy: Vec<u64> = self
            .queue(Some(name))
            .into_iter()
            .filter(|claim| claim.terms.permits.weight(name) > settings.capacity)
            .map(|claim| claim.sequence)
            .collect();
        if !too_heavy.is_empty() && !force {
            let (name, capacity) = (name.clone(), settings.capacity);
            return Err(Error::WouldEndClaims { name, capacity, claims: too_heavy.len() });
        }
        let shrunk_by = self.semaphores[at].settings.capacity.saturating_sub(settings.capacity);
        self.drop_cooling(name, shrunk_by);
        let revision = self.change();
        let semaphore = &mut self.semaphores[at];
        (semaphore.settings, semaphore.origin) = (settings.clone(), origin);
        semaphore.revision = revision;
        for sequence in too_heavy {
            self.end(sequence, EndReason::Unsatisfiable);
        }
        Ok(Outcome::Done)
    }

    /// "A shrink drops cooling permits first", those of the oldest claims before others.
    fn drop_cooling(&mut self, name: &SemaphoreName, mut permits: u32) {
        for cooling in self.cooling.iter_mut().filter(|cooling| cooling.semaphore == *name) {
            let dropped = permits.min(cooling.permits);
            cooling.permits -= dropped;
            permits -= dropped;
        }
        self.cooling.retain(|cooling| cooling.permits > 0);
    }

    pub(super) fn remove_semaphore(
        &mut self,
        name: &SemaphoreName,
        force: bool,
    ) -> Result<Outcome, Error> {
        let Some(at) = self.semaphores.iter().position(|s| s.name == *name) else {
            return Err(Error::UnknownSemaphore(name.clone()));
        };
        let claims = self.listed(name);
        if !claims.is_empty() && !force {
            return Err(Error::SemaphoreInUse { name: name.clone(), claims: claims.len() });
        }
        let cooling = self.cooling.iter().filter(|cooling| cooling.semaphore == *name);
        if let Some(until) = cooling.map(|cooling| cooling.until).max().filter(|_| !force) {
            let until = self.now.wall.after(until.since(self.now.service));
            let permits = self.cooling_of(name);
            return Err(Error::SemaphoreCools { name: name.clone(), permits, until });
        }
        for sequence in claims {
            self.end(sequence.0, EndReason::Revoked);
        }
        self.cooling.retain(|cooling| cooling.semaphore != *name);
        self.change();
        let removed = self.semaphores.remove(at);
        self.fence_floor = self.fence_floor.max(removed.fence);
        Ok(Outcome::Done)
    }

    /// Ends all that is over, by the order of the deadlines. Of what the design leaves open (two
    /// deadlines of the same moment) the one of the queue comes first, then the order of arrival.
    pub(super) fn timeout(&mut self) -> Outcome {
        self.forget();
        let mut due = Vec::new();
        for claim in &self.claims {
            for (at, kind, reason) in claim.deadlines() {
                if at <= self.now.service {
                    due.push((0, at, kind, claim.sequence, reason));
                }
            }
            if let State::Held { hold_until: Some(at), .. } = claim.state
                && at <= self.now.wall
            {
                let at = ServiceTime(Duration::from_millis(at.0.unsigned_abs()));
                due.push((1, at, 0, claim.sequence, EndReason::Expired));
            }
        }
        due.sort_by_key(|(clock, at, kind, sequence, _)| (*clock, *at, *kind, *sequence));
        let cooled = self.cooling.iter().filter(|cooling| cooling.until <= self.now.service);
        if cooled.count() > 0 {
            self.change();
            let now = self.now.service;
            self.cooling.retain(|cooling| cooling.until > now);
        }
        for (.., sequence, reason) in due {
            self.end(sequence, reason);
        }
        Outcome::Done
    }
}

impl Model {
    pub(super) fn note_delivery(&mut self, sequence: u64, delivery: Delivery) -> Outcome {
        let revision = self.revision + 1;
        let Some(claim) = self.claims.iter_mut().find(|claim| claim.sequence == sequence) else {
            return Outcome::EndedBefore;
        };
        let begins = matches!(delivery.result, DeliveryResult::Unfinished);
        let too_early = matches!(claim.state, State::Waiting { .. });
        let too_late = begins && matches!(claim.state, State::Held { .. });
        let Some((_, deliveries)) = &mut claim.callback else { return Outcome::EndedBefore };
        let open = deliveries.iter().rposition(|known| {
            matches!(known.result, DeliveryResult::Unfinished)
                && known.started_at == delivery.started_at
        });
        match open {
            _ if too_early || too_late => return Outcome::EndedBefore,
            Some(at) => deliveries[at] = delivery,
            None if deliveries.len() >= DELIVERIES_MAX => return Outcome::EndedBefore,
            None => deliveries.push(delivery),
        }
        claim.revision = revision;
        self.change();
        Outcome::Done
    }
}

impl Claim {
    /// The deadlines by service time, each with its rank among those of the same moment.
    pub(super) fn deadlines(&self) -> Vec<(ServiceTime, u8, EndReason)> {
        match &self.state {
            State::Waiting { presence, wait_until } => {
                let lapse = match presence {
                    Presence::Lingering(until) | Presence::Absent(until) => Some(*until),
                    Presence::Blocked(_) | Presence::Always => None,
                };
                let lapse = lapse.map(|at| (at, 0, EndReason::Abandoned));
                let wait = wait_until.map(|at| (at, 1, EndReason::WaitTimeout));
                lapse.into_iter().chain(wait).collect()
            }
            State::Offered { until, .. } => {
                let never_told = self.callback.as_ref().is_some_and(|(_, deliveries)| {
                    !deliveries.iter().any(|delivery| {
                        matches!(delivery.result, DeliveryResult::Answered { status: 200..300 })
                    })
                });
                let reason =
                    if never_told { EndReason::CallbackFailed } else { EndReason::Abandoned };
                vec![(*until, 2, reason)]
            }
            State::Held { until, .. } => vec![(*until, 3, EndReason::Expired)],
        }
    }
}

pub(super) fn lingers_until(now: ServiceTime, terms: &Terms) -> ServiceTime {
    now.after(terms.queue_ttl.unwrap_or(bounds::QUEUE_TTL_DEFAULT))
}

/// All that its client has written into a claim.
fn texts(claim: &Claim) -> String {
    let mut texts = claim.id.as_str().to_owned();
    texts.extend(claim.terms.permits.names().map(SemaphoreName::as_str));
    texts.extend(claim.terms.holder.iter().map(Holder::as_str));
    texts.extend(claim.terms.labels.iter().flat_map(|(key, value)| [key, value]));
    match claim.callback.as_ref().map(|(callback, _)| &**callback) {
        Some(Callback::Target { name, vars }) => {
            texts.push_str(name.as_str());
            texts.extend(vars.iter().flat_map(|(name, value)| [name, value]));
        }
        Some(Callback::Url(url)) => texts.push_str(url.as_str()),
        None => {}
    }
    texts
}
