//! What events do to the state: the only place where the durable part changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Core, Live, Place, Presence, Semaphore, SetKey, Stamp, Standing, line::Line, timers::Timer,
};
use crate::model::{
    Claim, ClaimEvent, ClaimState, Cooling, EndedId, Event, Fence, IdHash, Origin, Revision,
    SemaphoreName, SemaphoreSettings, SemaphoreState, Sequence,
};

impl Core {
    /// Applies an event; `false` when it does not fit the state, which then is unchanged.
    pub(super) fn apply_event(&mut self, stamp: Stamp, event: &Event) -> bool {
        match event {
            Event::SemaphoreSet { name, settings, origin } => {
                self.apply_semaphore(stamp, name, settings, *origin)
            }
            Event::SemaphoreRemoved { name } => self.apply_removed(stamp, name),
            Event::ClaimQueued { id, sequence, terms } => {
                let claim =
                    Claim::new(id.clone(), *sequence, Arc::clone(terms), stamp.at, stamp.revision);
                self.insert_waiting(stamp, claim)
            }
            Event::Claim { sequence, event } => self.apply_claim(stamp, *sequence, event),
            Event::CoolingEnded { semaphore, sequence, permits } => {
                self.apply_cooling_ended(stamp, semaphore, *sequence, *permits)
            }
            Event::TokenSet { token } => {
                self.tokens.insert(token.id.clone(), Arc::clone(token));
                true
            }
            Event::TokenRevoked { id } => self.tokens.remove(id).is_some(),
            Event::TokensUsed { used } => {
                self.apply_tokens_used(used);
                true
            }
            Event::Audit { .. } => true,
        }
    }

    fn apply_semaphore(
        &mut self,
        stamp: Stamp,
        name: &SemaphoreName,
        settings: &SemaphoreSettings,
        origin: Origin,
    ) -> bool {
        let floor = self.fence_floor;
        let semaphore = self
            .semaphores
            .entry(name.clone())
            .or_insert_with(|| Semaphore::new(settings.clone(), origin, floor));
        let state_before = semaphore.settings.state;
        semaphore.settings = settings.clone();
        semaphore.origin = origin;
        semaphore.revision = stamp.revision;
        semaphore.touched = stamp.revision;
        if state_before != settings.state {
            let waiting: Vec<_> = semaphore.line.after(None).map(|entry| entry.0).collect();
            for place in waiting {
                self.update_eligible(place.sequence);
            }
        }
        true
    }

    fn apply_removed(&mut self, stamp: Stamp, name: &SemaphoreName) -> bool {
        let unused = self.semaphores.get(name).is_some_and(|semaphore| {
            semaphore.line.len() == 0
                && semaphore.holding.is_empty()
                && semaphore.cooling.is_empty()
        });
        if !unused {
            return false;
        }
        if let Some(semaphore) = self.semaphores.remove(name) {
            self.fence_floor = self.fence_floor.max(semaphore.fence);
            self.removed = stamp.revision;
        }
        true
    }

    /// Puts a claim into the queues, as present as one whose request was just answered.
    pub(super) fn insert_waiting(&mut self, stamp: Stamp, claim: Claim) -> bool {
        let known = claim.terms.permits.names().all(|name| self.semaphores.contains_key(name));
        if !known || self.ids.contains_key(&claim.id) || self.claims.contains_key(&claim.sequence) {
            return false;
        }
        let sequence = claim.sequence;
        let presence = match claim.terms.queue_ttl {
            Some(queue_ttl) => Presence::Lingering(stamp.now.service.after(queue_ttl)),
            None => Presence::Always,
        };
        // After a restart the time that the claim has waited already counts.
        let waited = stamp.now.wall.since(claim.queued_at);
        let wait_until = claim
            .terms
            .wait_timeout
            .map(|timeout| stamp.now.service.after(timeout.saturating_sub(waited)));
        let set: SetKey = claim.terms.permits.names().cloned().collect();
        let place = Place::new(claim.terms.priority, sequence);
        for (name, weight) in claim.terms.permits.iter() {
            if let Some(semaphore) = self.semaphores.get_mut(name) {
                // Not eligible yet: `update_eligible` says so below, in one place for all.
                semaphore.line.insert(place, weight, false);
                semaphore.touched = stamp.revision;
                semaphore.sets.insert(Arc::clone(&set));
            }
        }
        self.sets.entry(Arc::clone(&set)).or_default().claims += 1;
        if let Some(until) = presence.lapse() {
            self.timers.set(until, Timer::Queue(sequence));
        }
        if let Some(until) = wait_until {
            self.timers.set(until, Timer::Wait(sequence));
        }
        self.sequence = self.sequence.max(sequence);
        self.ids.insert(claim.id.clone(), sequence);
        self.count(&claim, true);
        let standing = Standing::Waiting { presence, set, wait_until };
        self.claims.insert(sequence, Live { claim, standing });
        self.update_eligible(sequence);
        true
    }

    fn apply_claim(&mut self, stamp: Stamp, sequence: Sequence, event: &ClaimEvent) -> bool {
        let Some(live) = self.claims.get_mut(&sequence) else { return false };
        let owner_before = live.claim.owner.clone();
        if !live.claim.apply(event, stamp.at, stamp.revision) {
            return false;
        }
        match event {
            ClaimEvent::OwnerSet { token } => {
                self.count_owned(owner_before.as_ref(), false);
                self.count_owned(Some(token), true);
            }
            // It had none: nothing else gives a claim one.
            ClaimEvent::CallbackSet { callback } => self.text_bytes += callback.text_bytes(),
            _ => {}
        }
        if event.leaves_state() {
            return true;
        }
        self.leave_standing(stamp, sequence);
        match event {
            ClaimEvent::Ended { reason, cooling, .. } => {
                let Some(live) = self.claims.remove(&sequence) else { return false };
                self.ids.remove(&live.claim.id);
                self.count(&live.claim, false);
                for (name, cooldown) in cooling {
                    let cooling = Cooling {
                        semaphore: name.clone(),
                        sequence,
                        permits: live.claim.terms.permits.weight(name),
                        cooldown: *cooldown,
                    };
                    self.insert_cooling(stamp, cooling);
                }
                let hash = IdHash::of(&live.claim.id);
                self.ended.remember(EndedId { hash, reason: *reason, ended_at: stamp.at });
                self.just_ended.push(live.claim);
            }
            _ => self.enter_standing(stamp, sequence),
        }
        true
    }

    /// Takes a claim out of what its standing put it into: lines and sets, or counters; and timers.
    fn leave_standing(&mut self, stamp: Stamp, sequence: Sequence) {
        let Some(live) = self.claims.get(&sequence) else { return };
        let place = Place::new(live.claim.terms.priority, sequence);
        match &live.standing {
            Standing::Waiting { presence, set, wait_until } => {
                if let Some(until) = presence.lapse() {
                    self.timers.clear(until, Timer::Queue(sequence));
                }
                if let Some(until) = wait_until {
                    self.timers.clear(*until, Timer::Wait(sequence));
                }
                let mut last_of_set = false;
                if let Some(waiting) = self.sets.get_mut(set) {
                    waiting.eligible.remove(&place);
                    waiting.claims -= 1;
                    last_of_set = waiting.claims == 0;
                }
                if last_of_set {
                    self.sets.remove(set);
                }
                for name in set.iter() {
                    if let Some(semaphore) = self.semaphores.get_mut(name) {
                        semaphore.touched = stamp.revision;
                        semaphore.line.remove(place);
                        if last_of_set {
                            semaphore.sets.remove(set);
                        }
                    }
                }
            }
            Standing::Offered { until } => {
                self.timers.clear(*until, Timer::Offer(sequence));
                for (name, weight) in live.claim.terms.permits.iter() {
                    if let Some(semaphore) = self.semaphores.get_mut(name) {
                        semaphore.touched = stamp.revision;
                        semaphore.offered -= u64::from(weight);
                        semaphore.holding.remove(&sequence);
                    }
                }
            }
            Standing::Held { until, hold_until } => {
                self.timers.clear(*until, Timer::Lease(sequence));
                if let Some(hold_until) = hold_until {
                    self.timers.clear_wall(*hold_until, Timer::Hold(sequence));
                }
                for (name, weight) in live.claim.terms.permits.iter() {
                    if let Some(semaphore) = self.semaphores.get_mut(name) {
                        semaphore.touched = stamp.revision;
                        semaphore.in_use -= u64::from(weight);
                        semaphore.holding.remove(&sequence);
                    }
                }
            }
        }
    }

    /// Puts an offered or held claim into counters and timers, with its full time from now on.
    pub(super) fn enter_standing(&mut self, stamp: Stamp, sequence: Sequence) {
        let Some(live) = self.claims.get_mut(&sequence) else { return };
        let offered = match &live.claim.state {
            ClaimState::Offered { .. } => {
                let until = stamp.now.service.after(live.claim.terms.offer_ttl);
                self.timers.set(until, Timer::Offer(sequence));
                live.standing = Standing::Offered { until };
                true
            }
            ClaimState::Held { ttl, hold_until, .. } => {
                let until = stamp.now.service.after(*ttl);
                self.timers.set(until, Timer::Lease(sequence));
                if let Some(hold_until) = hold_until {
                    self.timers.set_wall(*hold_until, Timer::Hold(sequence));
                }
                live.standing = Standing::Held { until, hold_until: *hold_until };
                false
            }
            ClaimState::Waiting | ClaimState::Ended { .. } => return,
        };
        let fences = live.claim.fences().cloned().unwrap_or_default();
        for ((name, weight), fence) in live.claim.terms.permits.iter().zip(fences.iter()) {
            if let Some(semaphore) = self.semaphores.get_mut(name) {
                let counter = if offered { &mut semaphore.offered } else { &mut semaphore.in_use };
                *counter += u64::from(weight);
                semaphore.touched = stamp.revision;
                semaphore.holding.insert(sequence);
                semaphore.fence = semaphore.fence.max(*fence);
            }
        }
    }

    /// Lets permits cool, for the full cooldown from now on.
    pub(super) fn insert_cooling(&mut self, stamp: Stamp, cooling: Cooling) -> bool {
        let Some(semaphore) = self.semaphores.get_mut(&cooling.semaphore) else { return false };
        let until = stamp.now.service.after(cooling.cooldown);
        let name = cooling.semaphore.clone();
        self.timers.set(until, Timer::Cooling(name, cooling.sequence));
        semaphore.cooling_permits += u64::from(cooling.permits);
        semaphore.cooling.insert(cooling.sequence, (cooling, until));
        true
    }

    fn apply_cooling_ended(
        &mut self,
        stamp: Stamp,
        name: &SemaphoreName,
        sequence: Sequence,
        permits: u32,
    ) -> bool {
        let Some(semaphore) = self.semaphores.get_mut(name) else { return false };
        let Some((cooling, until)) = semaphore.cooling.get_mut(&sequence) else { return false };
        if permits > cooling.permits {
            return false;
        }
        cooling.permits -= permits;
        semaphore.touched = stamp.revision;
        semaphore.cooling_permits -= u64::from(permits);
        if cooling.permits == 0 {
            self.timers.clear(*until, Timer::Cooling(name.clone(), sequence));
            semaphore.cooling.remove(&sequence);
        }
        true
    }

    /// Brings lines and sets to agree with whether a waiting claim is eligible.
    pub(super) fn update_eligible(&mut self, sequence: Sequence) {
        let Some(live) = self.claims.get(&sequence) else { return };
        let Standing::Waiting { presence, set, .. } = &live.standing else { return };
        let draining = |name| {
            let semaphore = self.semaphores.get(name);
            semaphore.is_none_or(|semaphore| semaphore.settings.state == SemaphoreState::Draining)
        };
        let eligible = presence.is_present() && !set.iter().any(draining);
        let place = Place::new(live.claim.terms.priority, sequence);
        let Some(waiting) = self.sets.get_mut(set) else { return };
        let changed =
            if eligible { waiting.eligible.insert(place) } else { waiting.eligible.remove(&place) };
        if changed {
            for name in set.iter() {
                if let Some(semaphore) = self.semaphores.get_mut(name) {
                    semaphore.line.set_eligible(place, eligible);
                }
            }
        }
    }
}

impl Semaphore {
    pub(super) fn new(settings: SemaphoreSettings, origin: Origin, fence: Fence) -> Semaphore {
        Semaphore {
            settings,
            origin,
            fence,
            revision: Revision(0),
            touched: Revision(0),
            in_use: 0,
            offered: 0,
            cooling: BTreeMap::new(),
            cooling_permits: 0,
            line: Line::new(),
            holding: BTreeSet::new(),
            sets: BTreeSet::new(),
        }
    }
}
