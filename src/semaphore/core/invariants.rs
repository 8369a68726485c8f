//! What must hold at every revision, checked from scratch.

use std::collections::{BTreeMap, BTreeSet};

use super::{Core, Place, Semaphore, Standing};
use crate::model::{ClaimState, Fence, SemaphoreName, SemaphoreState, Sequence};

impl Core {
    /// Checks everything against the claims themselves: counters, lines, sets, timers, fences, and that
    /// nothing waits which rule 2 would grant. Cost: linear in all claims; called at start and by tests.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check_invariants(&self) -> Result<(), String> {
        for (name, semaphore) in &self.semaphores {
            self.check_semaphore(name, semaphore).map_err(|what| format!("{name}: {what}"))?;
        }
        self.check_claims()?;
        self.check_grants()
    }

    fn check_semaphore(&self, name: &SemaphoreName, semaphore: &Semaphore) -> Result<(), String> {
        let (mut in_use, mut offered) = (0, 0);
        let (mut holding, mut fences) = (BTreeSet::new(), BTreeSet::new());
        let mut waiting: Vec<(Place, u32)> = Vec::new();
        for (sequence, live) in &self.claims {
            let weight = live.claim.terms.permits.weight(name);
            if weight == 0 {
                continue;
            }
            match &live.claim.state {
                ClaimState::Held { .. } => in_use += u64::from(weight),
                ClaimState::Offered { .. } => offered += u64::from(weight),
                ClaimState::Waiting => {
                    waiting.push((Place::new(live.claim.terms.priority, *sequence), weight));
                    continue;
                }
                ClaimState::Ended { .. } => return Err(format!("ended claim {sequence} is live")),
            }
            holding.insert(*sequence);
            let fence = self.fence_of(*sequence, name)?;
            if fence > semaphore.fence || !fences.insert(fence) {
                return Err(format!("fence {fence} of claim {sequence} is not its own"));
            }
        }
        waiting.sort();
        let cooling: u64 = semaphore.cooling.values().map(|(c, _)| u64::from(c.permits)).sum();
        let counted = (in_use, offered, cooling);
        if counted != (semaphore.in_use, semaphore.offered, semaphore.cooling_permits) {
            return Err(format!("counters do not agree with the claims: {counted:?}"));
        }
        if holding != semaphore.holding {
            return Err("the holders do not agree with the claims".into());
        }
        let line: Vec<_> = semaphore.line.after(None).map(|(p, weight, _)| (p, weight)).collect();
        if line != waiting {
            return Err("the line does not agree with the claims".into());
        }
        for (place, _, eligible) in semaphore.line.after(None) {
            if eligible != self.is_eligible(place.sequence) {
                return Err(format!("claim {}: eligible is {eligible}", place.sequence));
            }
        }
        Ok(())
    }

    fn fence_of(&self, sequence: Sequence, name: &SemaphoreName) -> Result<Fence, String> {
        let claim = self.claims.get(&sequence).map(|live| &live.claim);
        let index = claim.and_then(|claim| claim.terms.permits.names().position(|n| n == name));
        let fence = index.and_then(|index| claim?.fences()?.get(index).copied());
        fence.ok_or_else(|| format!("claim {sequence} has no fence"))
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
