//! The naive model: the rules of the design, word by word, over plain vectors.
//!
//! Nothing is kept that can be counted: every sum walks over all claims. It shares the vocabulary
//! of `semaphored::model` with the core, and the words in which the core answers, but none of its
//! means: no lines, sets, timers, counters or events.

use std::{sync::Arc, time::Duration};

use semaphored::{
    model::{
        Callback, ClaimId, ClaimState, Delivery, EndReason, Fence, Fences, Origin, Permits,
        SemaphoreName, SemaphoreSettings, SemaphoreState, Sequence, ServiceTime, Terms, WallTime,
    },
    semaphore::core::{Command, ENDED_REMEMBERED, Error, Limits, Now, Outcome, Presence},
};

use super::{commands::lingers_until, step::Gone};

/// A semaphore. What is in use is not kept: it is counted.
#[derive(Clone, Debug)]
pub(super) struct Semaphore {
    pub(super) name: SemaphoreName,
    pub(super) settings: SemaphoreSettings,
    pub(super) origin: Origin,
    pub(super) fence: u64,
    pub(super) revision: u64,
}

/// A live claim with its deadlines as plain fields.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) id: ClaimId,
    pub(super) sequence: u64,
    pub(super) terms: Arc<Terms>,
    pub(super) queued_at: WallTime,
    pub(super) revision: u64,
    pub(super) state: State,
    /// Whom to call, and what came of it.
    pub(super) callback: Option<(Arc<Callback>, Vec<Delivery>)>,
}

/// Where a claim stands, and when it ends if nothing is done.
#[derive(Clone, Debug)]
pub(super) enum State {
    Waiting {
        presence: Presence,
        wait_until: Option<ServiceTime>,
    },
    Offered {
        until: ServiceTime,
        offered_at: WallTime,
        fences: Vec<u64>,
    },
    Held {
        until: ServiceTime,
        ttl: Duration,
        granted_at: WallTime,
        hold_until: Option<WallTime>,
        fences: Vec<u64>,
    },
}

/// Given-back permits that are not available yet.
#[derive(Clone, Debug)]
pub(super) struct Cooling {
    pub(super) semaphore: SemaphoreName,
    pub(super) sequence: u64,
    pub(super) permits: u32,
    pub(super) cooldown: Duration,
    pub(super) until: ServiceTime,
}

/// A claim that is over.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) id: ClaimId,
    pub(super) reason: EndReason,
    pub(super) ended_at: WallTime,
}

/// The whole service, naively.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) limits: Limits,
    pub(super) now: Now,
    /// Whose clients have hung up, unnoticed so far.
    pub(super) gone: Gone,
    pub(super) revision: u64,
    pub(super) sequence: u64,
    /// The highest fence that a semaphore had which was removed.
    pub(super) fence_floor: u64,
    pub(super) semaphores: Vec<Semaphore>,
    /// By arrival.
    pub(super) claims: Vec<Claim>,
    /// By the arrival of the claims that had held the permits.
    pub(super) cooling: Vec<Cooling>,
    /// What is remembered, by the order in which it ended.
    pub(super) ended: Vec<Ended>,
    /// All that ended since the journal was folded.
    pub(super) ended_since_fold: Vec<Ended>,
    /// Whether the last command changed what is durable.
    pub(super) changed: bool,
    /// Whether the last command let an ended id be forgotten.
    pub(super) forgot: bool,
}

impl Model {
    pub(super) fn new(limits: Limits) -> Model {
        Model {
            limits,
            now: Now::default(),
            gone: Gone::default(),
            revision: 0,
            sequence: 0,
            fence_floor: 0,
            semaphores: Vec::new(),
            claims: Vec::new(),
            cooling: Vec::new(),
            ended: Vec::new(),
            ended_since_fold: Vec::new(),
            changed: false,
            forgot: false,
        }
    }

    pub(super) fn apply(&mut self, now: Now, command: &Command) -> Result<Outcome, Error> {
        self.now = now;
        self.changed = false;
        self.forgot = false;
        let outcome = match command {
            Command::Acquire { id, request, blocks } => self.acquire(id, request, *blocks)?,
            Command::Renew { id, ttl, blocks, .. } => self.renew(id, *ttl, *blocks)?,
            Command::Release { id, .. } => {
                self.end_by_id(id, EndReason::Released, EndReason::Cancelled)?
            }
            Command::Revoke { id, .. } => {
                self.end_by_id(id, EndReason::Revoked, EndReason::Revoked)?
            }
            Command::Unblock { sequence, closed } => self.unblock(sequence.0, *closed),
            Command::SetSemaphore { name, settings, origin, force } => {
                self.set_semaphore(name, settings, *origin, *force)?
            }
            Command::RemoveSemaphore { name, force, .. } => self.remove_semaphore(name, *force)?,
            Command::NoteDelivery { sequence, delivery } => {
                self.note_delivery(sequence.0, *delivery)
            }
            Command::SetToken { .. }
            | Command::RevokeToken { .. }
            | Command::NoteTokensUsed { .. }
            | Command::NoteAudit { .. } => {
                panic!("tokens and rows of the audit log are not in the model")
            }
            Command::Timeout | Command::Resume => self.timeout(),
        };
        // Rule 3, whatever the command was.
        self.grant_all(None);
        if self.changed {
            self.revision += 1;
        }
        Ok(outcome)
    }

    /// The revision of what happens now.
    pub(super) fn change(&mut self) -> u64 {
        self.changed = true;
        self.revision + 1
    }

    pub(super) fn semaphore(&self, name: &SemaphoreName) -> Option<&Semaphore> {
        self.semaphores.iter().find(|semaphore| semaphore.name == *name)
    }

    pub(super) fn claim(&self, id: &ClaimId) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == *id)
    }

    /// The waiting claims of a semaphore, or of all, in the order of rule 2.
    pub(super) fn queue(&self, name: Option<&SemaphoreName>) -> Vec<&Claim> {
        let mut queue: Vec<&Claim> = self
            .claims
            .iter()
            .filter(|claim| matches!(claim.state, State::Waiting { .. }))
            .filter(|claim| name.is_none_or(|name| claim.terms.permits.weight(name) > 0))
            .collect();
        queue.sort_by_key(|claim| (-i32::from(claim.terms.priority.value()), claim.sequence));
        queue
    }

    /// "Present and none of its semaphores drains."
    pub(super) fn is_eligible(&self, claim: &Claim) -> bool {
        let State::Waiting { presence, .. } = claim.state else { return false };
        !matches!(presence, Presence::Absent(_)) && self.all_open(&claim.terms.permits)
    }

    pub(super) fn all_open(&self, permits: &Permits) -> bool {
        permits.names().all(|name| {
            self.semaphore(name).is_some_and(|s| s.settings.state == SemaphoreState::Open)
        })
    }

    /// Permits of claims in a state.
    pub(super) fn permits_of(&self, name: &SemaphoreName, is: fn(&State) -> bool) -> u64 {
        let claims = self.claims.iter().filter(|claim| is(&claim.state));
        claims.map(|claim| u64::from(claim.terms.permits.weight(name))).sum()
    }

    pub(super) fn cooling_of(&self, name: &SemaphoreName) -> u64 {
        let cooling = self.cooling.iter().filter(|cooling| cooling.semaphore == *name);
        cooling.map(|cooling| u64::from(cooling.permits)).sum()
    }

    /// What is neither used, nor offered, nor cooling.
    pub(super) fn free(&self, name: &SemaphoreName) -> u64 {
        let capacity = self.semaphore(name).map_or(0, |s| u64::from(s.settings.capacity));
        let taken = self.permits_of(name, |state| !matches!(state, State::Waiting { .. }));
        capacity.saturating_sub(taken + self.cooling_of(name))
    }

    /// Weights of the eligible waiting claims that stand before this place, or at it.
    pub(super) fn eligible_weight(&self, name: &SemaphoreName, place: (i8, u64)) -> u64 {
        self.queue(Some(name))
            .into_iter()
            .filter(|claim| {
                let (priority, sequence) = place;
                let own = claim.terms.priority.value();
                own > priority || (own == priority && claim.sequence <= sequence)
            })
            .filter(|claim| self.is_eligible(claim))
            .map(|claim| u64::from(claim.terms.permits.weight(name)))
            .sum()
    }

    /// Rule 2 for one waiting claim.
    pub(super) fn is_granted(&self, claim: &Claim) -> bool {
        let place = (claim.terms.priority.value(), claim.sequence);
        self.is_eligible(claim)
            && claim
                .terms
                .permits
                .names()
                .all(|name| self.eligible_weight(name, place) <= self.free(name))
    }

    /// Grants as long as rule 2 grants somebody, in queue order. A request of the `attended` claim's
    /// holder is being handled. Who blocks and is gone gets nothing and is absent from now on.
    pub(super) fn grant_all(&mut self, attended: Option<u64>) {
        while let Some(sequence) =
            self.queue(None).into_iter().find(|claim| self.is_granted(claim)).map(|c| c.sequence)
        {
            let attended = attended == Some(sequence);
            if attended || !self.gone.contains(sequence) || !self.lose(sequence) {
                self.grant(sequence, attended);
            }
        }
    }

    /// Makes a claim absent if requests block on it; tells whether that was so.
    fn lose(&mut self, sequence: u64) -> bool {
        let now = self.now.service;
        let claim = self.claims.iter_mut().find(|claim| claim.sequence == sequence);
        if let Some(claim) = claim
            && let State::Waiting { presence, .. } = &mut claim.state
            && matches!(presence, Presence::Blocked(_))
        {
            *presence = Presence::Absent(lingers_until(now, &claim.terms));
            return true;
        }
        false
    }

    fn grant(&mut self, sequence: u64, attended: bool) {
        let revision = self.change();
        let now = self.now;
        let Some(at) = self.claims.iter().position(|claim| claim.sequence == sequence) else {
            return;
        };
        let terms = Arc::clone(&self.claims[at].terms);
        let mut fences = Vec::new();
        for name in terms.permits.names() {
            for semaphore in self.semaphores.iter_mut().filter(|s| s.name == *name) {
                semaphore.fence += 1;
                fences.push(semaphore.fence);
            }
        }
        let blocked =
            matches!(self.claims[at].state, State::Waiting { presence: Presence::Blocked(_), .. });
        let state = if !terms.has_callback && (blocked || attended) {
            self.held(&terms, fences)
        } else {
            State::Offered {
                until: now.service.after(terms.offer_ttl),
                offered_at: now.wall,
                fences,
            }
        };
        self.claims[at].state = state;
        self.claims[at].revision = revision;
    }

    /// The state of a claim that is held from now on.
    pub(super) fn held(&self, terms: &Terms, fences: Vec<u64>) -> State {
        let semaphores = terms.permits.names().filter_map(|name| self.semaphore(name));
        let max_hold = semaphores.filter_map(|semaphore| semaphore.settings.max_hold).min();
        State::Held {
            until: self.now.service.after(terms.ttl),
            ttl: terms.ttl,
            granted_at: self.now.wall,
            hold_until: max_hold.map(|max_hold| self.now.wall.after(max_hold)),
            fences,
        }
    }

    /// Ends a live claim. Permits of a held one cool.
    pub(super) fn end(&mut self, sequence: u64, reason: EndReason) {
        let Some(at) = self.claims.iter().position(|claim| claim.sequence == sequence) else {
            return;
        };
        self.change();
        let claim = self.claims.remove(at);
        if matches!(claim.state, State::Held { .. }) {
            for (name, permits) in claim.terms.permits.iter() {
                let cooldown = self.semaphore(name).map_or(Duration::ZERO, |s| s.settings.cooldown);
                if !cooldown.is_zero() {
                    let until = self.now.service.after(cooldown);
                    let semaphore = name.clone();
                    self.cooling.push(Cooling { semaphore, sequence, permits, cooldown, until });
                }
            }
        }
        self.cooling.sort_by_key(|cooling| cooling.sequence);
        let ended = Ended { id: claim.id, reason, ended_at: self.now.wall };
        self.ended.push(ended.clone());
        self.ended_since_fold.push(ended);
        if self.ended.len() > self.limits.ended_ids_max {
            self.ended.remove(0);
        }
    }

    /// Lets ids be new again that ended more than 24 h ago.
    pub(super) fn forget(&mut self) {
        while self
            .ended
            .first()
            .is_some_and(|ended| self.now.wall.since(ended.ended_at) > ENDED_REMEMBERED)
        {
            self.ended.remove(0);
            self.forgot = true;
        }
    }

    /// How a claim of this id ended, while that is remembered.
    pub(super) fn ended(&self, id: &ClaimId) -> Option<(EndReason, WallTime)> {
        let ended = self.ended.iter().rev().find(|ended| ended.id == *id)?;
        Some((ended.reason, ended.ended_at))
    }

    /// The process starts again: from what is durable, and with these ended ids.
    pub(super) fn restart(&mut self, now: Now, mut ended: Vec<Ended>) {
        self.now = now;
        while ended.len() > self.limits.ended_ids_max {
            ended.remove(0);
        }
        self.ended = ended;
        for claim in &mut self.claims {
            let terms = &claim.terms;
            match &mut claim.state {
                State::Waiting { presence, wait_until } => {
                    *presence = match terms.queue_ttl {
                        Some(queue_ttl) => Presence::Lingering(now.service.after(queue_ttl)),
                        None => Presence::Always,
                    };
                    let waited = now.wall.since(claim.queued_at);
                    *wait_until = terms
                        .wait_timeout
                        .map(|timeout| now.service.after(timeout.saturating_sub(waited)));
                }
                State::Offered { until, .. } => *until = now.service.after(terms.offer_ttl),
                State::Held { until, ttl, .. } => *until = now.service.after(*ttl),
            }
        }
        for cooling in &mut self.cooling {
            cooling.until = now.service.after(cooling.cooldown);
        }
    }
}

impl Claim {
    /// The state as the core would say it.
    pub(super) fn claim_state(&self) -> ClaimState {
        let said = |fences: &[u64]| -> Fences { fences.iter().map(|f| Fence(*f)).collect() };
        match &self.state {
            State::Waiting { .. } => ClaimState::Waiting,
            State::Offered { offered_at, fences, .. } => {
                ClaimState::Offered { offered_at: *offered_at, fences: said(fences) }
            }
            State::Held { ttl, granted_at, hold_until, fences, .. } => ClaimState::Held {
                granted_at: *granted_at,
                fences: said(fences),
                ttl: *ttl,
                hold_until: *hold_until,
            },
        }
    }

    pub(super) fn sequence(&self) -> Sequence {
        Sequence(self.sequence)
    }
}
