//! What must hold at every revision, checked from scratch.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, Place, Semaphore, Standing};
use crate::model::{ClaimState, Fence, SemaphoreName, SemaphoreState, Sequence, TokenId};

/// What the claims themselves say about a semaphore.
#[derive(Default)]
struct Tally {
    in_use: u64,
    offered: u64,
    holding: BTreeSet<Sequence>,
    fences: BTreeSet<Fence>,
    waiting: Vec<(Place, u32)>,
}

impl Core {
    /// Checks everything against the claims themselves: counters, lines, sets, timers, fences, and that
    /// nothing waits which rule 2 would grant. Cost: n log n in all claims; called at start and by tests.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut tallies = self.tallies()?;
        for (name, semaphore) in &self.semaphores {
            let tally = tallies.remove(name).unwrap_or_default();
            self.check_semaphore(semaphore, tally).map_err(|what| format!("{name}: {what}"))?;
        }
        if let Some(name) = tallies.keys().next() {
            return Err(format!("claims name {name}, which does not exist"));
        }
        self.check_claims()?;
        self.check_counts()?;
        self.check_grants()
    }

    fn check_counts(&self) -> Result<(), String> {
        let mut owned: BTreeMap<TokenId, u32> = BTreeMap::new();
        for owner in self.claims.values().filter_map(|live| live.claim.owner.clone()) {
            *owned.entry(owner).or_default() += 1;
        }
        if owned != self.owned {
            return Err("the claims of tokens are miscounted".into());
        }
        let text_bytes: usize = self.claims.values().map(|live| live.claim.text_bytes()).sum();
        if text_bytes != self.text_bytes {
            return Err(format!("texts are {text_bytes} bytes, counted {}", self.text_bytes));
        }
        Ok(())
    }

    fn tallies(&self) -> Result<BTreeMap<&SemaphoreName, Tally>, String> {
        let mut tallies: BTreeMap<&SemaphoreName, Tally> = BTreeMap::new();
        for (sequence, live) in &self.claims {
            if live.claim.callback.is_some() != live.claim.terms.has_callback {
                return Err(format!("claim {sequence} and its terms differ about a callback"));
            }
            let fences = live.claim.fences().map_or(&[][..], |fences| fences);
            for (index, (name, weight)) in live.claim.terms.permits.iter().enumerate() {
                let tally = tallies.entry(name).or_default();
                match &live.claim.state {
                    ClaimState::Held { .. } => tally.in_use += u64::from(weight),
                    ClaimState::Offered { .. } => tally.offered += u64::from(weight),
                    ClaimState::Waiting => {
                        let place = Place::new(live.claim.terms.priority, *sequence);
                        tally.waiting.push((place, weight));
                        continue;
                    }
                    ClaimState::Ended { .. } => return Err(format!("{sequence} has ended")),
                }
                tally.holding.insert(*sequence);
                let fence = fences.get(index).copied();
                if !fence.is_some_and(|fence| tally.fences.insert(fence)) {
                    return Err(format!("claim {sequence} has no fence of its own"));
                }
            }
        }
        Ok(tallies)
    }

    fn check_semaphore(&self, semaphore: &Semaphore, mut tally: Tally) -> Result<(), String> {
        let cooling: u64 = semaphore.cooling.values().map(|(c, _)| u64::from(c.permits)).sum();
        let counted = (tally.in_use, tally.offered, cooling);
        if counted != (semaphore.in_use, semaphore.offered, semaphore.cooling_permits) {
            return Err(format!("counters do not agree with the claims: {counted:?}"));
        }
        if tally.holding != semaphore.holding {
            return Err("the holders do not agree with the claims".into());
        }
        if tally.fences.last().is_some_and(|fence| *fence > semaphore.fence) {
            return Err("a claim has a fence that was never taken".into());
        }
        tally.waiting.sort();
        let line = semaphore.line.after(None).map(|(place, weight, _)| (place, weight));
        if !line.eq(tally.waiting) {
            return Err("the line does not agree with the claims".into());
        }
        for (place, _, eligible) in semaphore.line.after(None) {
            if eligible != self.is_eligible(place.sequence) {
                return Err(format!("claim {}: eligible is {eligible}", place.sequence));
            }
        }
        Ok(())
    }

    fn is_eligible(&self, sequence: Sequence) -> bool {
        let Some(live) = self.claims.get(&sequence) else { return false };
        let Standing::Waiting { presence, .. } = &live.standing else { return false };
        let open = |name| {
            self.semaphores.get(name).is_some_and(|s| s.settings.state == SemaphoreState::Open)
        };
        presence.is_present() && live.claim.terms.permits.names().all(open)
    }

    fn check_claims(&self) -> Result<(), String> {
        let mut timers = self.semaphores.values().map(|s| s.cooling.len()).sum::<usize>();
        let mut sets: BTreeMap<_, usize> = BTreeMap::new();
        for (sequence, live) in &self.claims {
            let fits = match (&live.claim.state, &live.standing) {
                (ClaimState::Waiting, Standing::Waiting { presence, set, wait_until }) => {
                    timers += usize::from(presence.lapse().is_some());
                    timers += usize::from(wait_until.is_some());
                    *sets.entry(set.clone()).or_default() += 1;
                    live.claim.terms.permits.names().eq(set.iter())
                }
                (ClaimState::Offered { .. }, Standing::Offered { .. }) => {
                    timers += 1;
                    true
                }
                (ClaimState::Held { hold_until, .. }, Standing::Held { hold_until: timer, .. }) => {
                    timers += 1 + usize::from(timer.is_some());
                    hold_until == timer
                }
                _ => false,
            };
            if !fits || self.ids.get(&live.claim.id) != Some(sequence) {
                return Err(format!("claim {sequence} does not agree with its standing"));
            }
        }
        if self.ids.len() != self.claims.len() || timers != self.timers.len() {
            return Err("ids or timers do not agree with the claims".into());
        }
        let counted: BTreeMap<_, _> =
            self.sets.iter().map(|(k, s)| (k.clone(), s.claims)).collect();
        if counted != sets {
            return Err("the sets do not agree with the claims".into());
        }
        Ok(())
    }

    /// Rule 2 from its words: walks the order once, with the sums in hand.
    fn check_grants(&self) -> Result<(), String> {
        let mut order: Vec<Place> = Vec::new();
        for (sequence, live) in &self.claims {
            if self.is_eligible(*sequence) {
                order.push(Place::new(live.claim.terms.priority, *sequence));
            }
        }
        order.sort();
        let mut sums: BTreeMap<&SemaphoreName, u64> = BTreeMap::new();
        for place in order {
            let Some(live) = self.claims.get(&place.sequence) else { continue };
            let mut fits = true;
            for (name, weight) in live.claim.terms.permits.iter() {
                let sum = sums.entry(name).or_default();
                *sum += u64::from(weight);
                fits &= self.semaphores.get(name).is_some_and(|s| *sum <= s.free());
            }
            if fits {
                return Err(format!("claim {} waits and would be granted", place.sequence));
            }
        }
        Ok(())
    }
}
