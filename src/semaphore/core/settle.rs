//! Granting: rule 2, where something became free or a place in the order changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Core, Place, Presence, SetKey, Standing, Tx};
use crate::model::{ClaimEvent, Event, Fences, SemaphoreName, Sequence, WallTime};

impl Core {
    /// Grants all that rule 2 grants among the sets that contain one of `semaphores`: call it after what
    /// these have free, or what is eligible there, has changed.
    pub(super) fn settle_semaphores<'n>(
        &mut self,
        tx: &mut Tx<'_>,
        semaphores: impl IntoIterator<Item = &'n SemaphoreName>,
    ) {
        let sets = self.sets_with(semaphores);
        self.settle(tx, sets);
    }

    /// The sets of waiting claims that contain one of `semaphores`.
    fn sets_with<'n>(
        &self,
        semaphores: impl IntoIterator<Item = &'n SemaphoreName>,
    ) -> BTreeSet<SetKey> {
        let mut sets = BTreeSet::new();
        for name in semaphores {
            if let Some(semaphore) = self.semaphores.get(name) {
                sets.extend(semaphore.sets.iter().cloned());
            }
        }
        sets
    }

    /// Grants all that rule 2 grants, anywhere.
    pub(super) fn settle_all(&mut self, tx: &mut Tx<'_>) {
        let sets: Vec<_> = self.sets.keys().cloned().collect();
        self.settle(tx, sets);
    }

    /// Grants all that rule 2 grants among these sets, in the order of the queue.
    pub(super) fn settle(&mut self, tx: &mut Tx<'_>, sets: impl IntoIterator<Item = SetKey>) {
        let mut next: BTreeMap<Place, SetKey> = BTreeMap::new();
        self.add_grantable_heads(sets, &mut next);
        while let Some((place, set)) = next.pop_first() {
            if self.is_there(tx, place.sequence) {
                // A grant changes nothing for the heads of other sets: what it takes from what is free, it
                // takes off the sums of those behind it too, and those before it do not need what it took.
                self.grant(tx, place.sequence);
                self.add_grantable_heads([set], &mut next);
            } else {
                // Its weight is off the sums of those behind it, whatever their set; those that were found
                // before still fit, and all that are found now stand behind it.
                self.make_absent(tx, place.sequence);
                let sets = self.sets_with(set.iter());
                self.add_grantable_heads(sets, &mut next);
            }
        }
    }

    fn add_grantable_heads(
        &self,
        sets: impl IntoIterator<Item = SetKey>,
        next: &mut BTreeMap<Place, SetKey>,
    ) {
        for set in sets {
            if let Some(place) = self.grantable_head(&set) {
                next.insert(place, set);
            }
        }
    }

    /// Whether a claim may be granted as far as its holder's connections go. Asked only where the grant rests
    /// on a request that blocks.
    fn is_there(&self, tx: &mut Tx<'_>, sequence: Sequence) -> bool {
        let Some(live) = self.claims.get(&sequence) else { return true };
        match &live.standing {
            Standing::Waiting { presence: Presence::Blocked(_), .. } => {
                tx.attended == Some(sequence) || (tx.there)(sequence)
            }
            _ => true,
        }
    }

    /// The first eligible claim of a set, if rule 2 grants it.
    fn grantable_head(&self, set: &SetKey) -> Option<Place> {
        let head = *self.sets.get(set)?.eligible.first()?;
        let live = self.claims.get(&head.sequence)?;
        let fits = live.claim.terms.permits.iter().all(|(name, weight)| {
            self.semaphores.get(name).is_some_and(|semaphore| {
                let free = semaphore.free();
                // The weight alone is cheap to look at, and mostly says no already.
                u64::from(weight) <= free && semaphore.line.eligible_weight_through(head) <= free
            })
        });
        fits.then_some(head)
    }

    /// Sets the permits of a waiting claim aside: held where a request of its holder is there, else
    /// offered.
    fn grant(&mut self, tx: &mut Tx<'_>, sequence: Sequence) {
        let Some(live) = self.claims.get(&sequence) else { return };
        let Standing::Waiting { presence, .. } = &live.standing else { return };
        let terms = &live.claim.terms;
        let there = match presence {
            Presence::Blocked(_) => true,
            Presence::Lingering(_) | Presence::Absent(_) => tx.attended == Some(sequence),
            Presence::Always => false,
        };
        let fences: Fences = terms
            .permits
            .names()
            .filter_map(|name| self.semaphores.get(name))
            .map(|semaphore| semaphore.fence.next())
            .collect();
        let has_callback = live.claim.callback.is_some();
        let event = if there {
            let hold_until = self.hold_until(terms.permits.names(), tx.stamp.at);
            ClaimEvent::Granted { fences, hold_until }
        } else {
            ClaimEvent::Offered { fences }
        };
        self.emit(tx, Event::Claim { sequence, event });
        if has_callback {
            let event = ClaimEvent::CallbackDue;
            self.emit(tx, Event::Claim { sequence, event });
        }
    }

    /// When a claim on these semaphores that is granted at `at` has to end at the latest.
    pub(super) fn hold_until<'n>(
        &self,
        names: impl Iterator<Item = &'n SemaphoreName>,
        at: WallTime,
    ) -> Option<WallTime> {
        let max_hold: Option<Duration> =
            names.filter_map(|name| self.semaphores.get(name)?.settings.max_hold).min();
        max_hold.map(|max_hold| at.after(max_hold))
    }
}
