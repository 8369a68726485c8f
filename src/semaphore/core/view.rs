//! Looking at the state, without changing it.

use std::ops::Bound::{Excluded, Unbounded};

use super::{Core, Now, Place, Presence, Semaphore, Standing};
use crate::model::{
    Claim, ClaimId, ClaimState, EndReason, Holder, Origin, Revision, SemaphoreName,
    SemaphoreSettings, Sequence, ServiceTime, WallTime,
};

/// Most claims that one page of a listing looks at, matching or not.
pub const LIST_SCAN_MAX: usize = 10_000;

/// A semaphore as it stands: counts are of permits where nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemaphoreView {
    /// Its name.
    pub name: SemaphoreName,
    /// Its settings, the capacity among them.
    pub settings: SemaphoreSettings,
    /// Who declares it.
    pub origin: Origin,
    /// The last change of anything that shows here.
    pub revision: Revision,
    /// Permits of held claims.
    pub in_use: u64,
    /// Permits of offered claims.
    pub offered: u64,
    /// Given-back permits that are not available yet.
    pub cooling: u64,
    /// Free permits that an earlier claim will have, which still waits for more of them or elsewhere.
    pub set_aside: u64,
    /// Permits that a new claim can have now.
    pub available: u64,
    /// Permits in use beyond a capacity that was lowered.
    pub over_committed: u64,
    /// Claims that wait.
    pub waiting: usize,
    /// When the claim was made that has waited longest.
    pub longest_waiting_since: Option<WallTime>,
}

/// A live claim as it stands.
#[derive(Clone, Debug)]
pub struct ClaimView<'a> {
    /// The claim.
    pub claim: &'a Claim,
    /// When it ends if nothing is done: the lease, the offer, or the place in the queue.
    pub until: Option<ServiceTime>,
    /// When `wait_timeout` ends it.
    pub wait_until: Option<ServiceTime>,
    /// When `max_hold` ends it.
    pub hold_until: Option<WallTime>,
    /// Whether its holder is there; of waiting claims only.
    pub presence: Option<Presence>,
    /// Its position in each of its semaphores' queues, in the order of their names; empty unless it waits.
    pub positions: Vec<usize>,
}

/// A state that a listing may be narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// Waiting claims.
    Waiting,
    /// Offered claims.
    Offered,
    /// Held claims.
    Held,
}

/// Where a page of a listing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// After this claim, by sequence number.
    Sequence(Sequence),
    /// After this place in a semaphore's queue.
    Place(Place),
}

/// One page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The claims.
    pub claims: Vec<Sequence>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

impl Core {
    /// A live claim by its id.
    #[must_use]
    pub fn claim(&self, id: &ClaimId) -> Option<ClaimView<'_>> {
        self.claim_by_sequence(*self.ids.get(id)?)
    }

    /// A live claim by its sequence number, which no other claim ever has.
    #[must_use]
    pub fn claim_by_sequence(&self, sequence: Sequence) -> Option<ClaimView<'_>> {
        let live = self.claims.get(&sequence)?;
        let claim = &live.claim;
        let view = ClaimView {
            claim,
            until: None,
            wait_until: None,
            hold_until: None,
            presence: None,
            positions: Vec::new(),
        };
        Some(match &live.standing {
            Standing::Waiting { presence, wait_until, .. } => {
                let place = Place::new(claim.terms.priority, sequence);
                let lines = claim.terms.permits.names().map(|name| self.semaphores.get(name));
                let positions = lines.map(|s| s.map_or(0, |s| s.line.position(place))).collect();
                let (until, presence) = (presence.lapse(), Some(*presence));
                ClaimView { until, wait_until: *wait_until, presence, positions, ..view }
            }
            Standing::Offered { until } => ClaimView { until: Some(*until), ..view },
            Standing::Held { until, hold_until } => {
                ClaimView { until: Some(*until), hold_until: *hold_until, ..view }
            }
        })
    }

    /// The claims with a callback that are offered, by sequence number. Walks over all live claims.
    pub fn offers_with_callback(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().map(|live| &live.claim).filter(|claim| {
            claim.callback.is_some() && matches!(claim.state, ClaimState::Offered { .. })
        })
    }

    /// How and when a claim of this id ended, while it is remembered.
    #[must_use]
    pub fn ended(&self, id: &ClaimId) -> Option<(EndReason, WallTime)> {
        self.ended.find(id)
    }

    /// A semaphore by its name.
    #[must_use]
    pub fn semaphore(&self, name: &SemaphoreName) -> Option<SemaphoreView> {
        self.semaphores.get(name).map(|semaphore| self.view(name, semaphore))
    }

    /// All semaphores, by name.
    pub fn semaphores(&self) -> impl Iterator<Item = SemaphoreView> + '_ {
        self.semaphores.iter().map(|(name, semaphore)| self.view(name, semaphore))
    }

    /// Whether there is a semaphore of this name.
    #[must_use]
    pub fn has_semaphore(&self, name: &SemaphoreName) -> bool {
        self.semaphores.contains_key(name)
    }

    /// Whether something shows since `since` that did not before, at a semaphore or, without a name, at any.
    /// A semaphore that went shows too. Looks at revisions alone: a view of each semaphore would be dear for many watchers.
    #[must_use]
    pub fn is_semaphore_touched(&self, name: Option<&SemaphoreName>, since: Revision) -> bool {
        let touched = |semaphore: &Semaphore| semaphore.touched > since;
        match name {
            Some(name) => self.semaphores.get(name).is_some_and(touched),
            None => self.removed > since || self.semaphores.values().any(touched),
        }
    }

    /// The names of all semaphores, in order.
    pub fn semaphore_names(&self) -> impl Iterator<Item = &SemaphoreName> {
        self.semaphores.keys()
    }

    /// How many claims are live.
    #[must_use]
    pub fn claims_len(&self) -> usize {
        self.claims.len()
    }

    fn view(&self, name: &SemaphoreName, semaphore: &Semaphore) -> SemaphoreView {
        let Semaphore { in_use, offered, cooling_permits: cooling, .. } = *semaphore;
        let free = semaphore.free();
        let capacity = u64::from(semaphore.settings.capacity);
        SemaphoreView {
            name: name.clone(),
            settings: semaphore.settings.clone(),
            origin: semaphore.origin,
            revision: semaphore.touched,
            in_use,
            offered,
            cooling,
            set_aside: free.min(semaphore.line.eligible_weight()),
            available: semaphore.available(),
            over_committed: (in_use + offered + cooling).saturating_sub(capacity),
            waiting: semaphore.line.len(),
            longest_waiting_since: self.longest_waiting_since(semaphore),
        }
    }

    /// The oldest claim of each priority stands first in it; so a look at each priority is enough.
    fn longest_waiting_since(&self, semaphore: &Semaphore) -> Option<WallTime> {
        let mut oldest: Option<Sequence> = None;
        let mut after = None;
        while let Some((place, ..)) = semaphore.line.after(after).next() {
            oldest = Some(oldest.map_or(place.sequence, |oldest| oldest.min(place.sequence)));
            after = Some(Place::new(place.priority(), Sequence(u64::MAX)));
        }
        self.claims.get(&oldest?).map(|live| live.claim.queued_at)
    }

    /// A page of the live claims. Of one semaphore: its holders by arrival, then its queue in order. Of
    /// all: by arrival. Only those that `may_see` says yes to are in it. A page ends after `claims_max` claims, or after [`LIST_SCAN_MAX`] were looked at.
    #[must_use]
    pub fn list(
        &self,
        semaphore: Option<&SemaphoreName>,
        state: Option<ListedState>,
        holder: Option<&Holder>,
        after: Option<Cursor>,
        claims_max: usize,
        may_see: impl Fn(&Claim) -> bool,
    ) -> Listed {
        let matches = |sequence: &Sequence| {
            self.claims.get(sequence).is_some_and(|live| {
                let in_state = match &live.claim.state {
                    ClaimState::Waiting => state.is_none_or(|s| s == ListedState::Waiting),
                    ClaimState::Offered { .. } => state.is_none_or(|s| s == ListedState::Offered),
                    ClaimState::Held { .. } => state.is_none_or(|s| s == ListedState::Held),
                    ClaimState::Ended { .. } => false,
                };
                in_state
                    && may_see(&live.claim)
                    && holder.is_none_or(|h| live.claim.terms.holder.as_ref() == Some(h))
            })
        };
        let mut listed = Listed::default();
        for (looked_at, cursor) in self.walk(semaphore, after).enumerate() {
            if listed.claims.len() == claims_max || looked_at == LIST_SCAN_MAX {
                return listed;
            }
            let sequence = match cursor {
                Cursor::Sequence(sequence) => sequence,
                Cursor::Place(place) => place.sequence,
            };
            if matches(&sequence) {
                listed.claims.push(sequence);
            }
            listed.next = Some(cursor);
        }
        listed.next = None;
        listed
    }

    fn walk(
        &self,
        semaphore: Option<&SemaphoreName>,
        after: Option<Cursor>,
    ) -> Box<dyn Iterator<Item = Cursor> + '_> {
        let Some(name) = semaphore else {
            let Some(Cursor::Sequence(after)) = after else {
                return Box::new(self.claims.keys().map(|sequence| Cursor::Sequence(*sequence)));
            };
            let rest = self.claims.range((Excluded(after), Unbounded));
            return Box::new(rest.map(|(sequence, _)| Cursor::Sequence(*sequence)));
        };
        let Some(semaphore) = self.semaphores.get(name) else {
            return Box::new(std::iter::empty());
        };
        let (holding_after, place) = match after {
            None => (Sequence(0), None),
            Some(Cursor::Sequence(sequence)) => (sequence, None),
            Some(Cursor::Place(place)) => (Sequence(u64::MAX), Some(place)),
        };
        let holding = semaphore.holding.range((Excluded(holding_after), Unbounded));
        let queue = semaphore.line.after(place).map(|(place, ..)| Cursor::Place(place));
        Box::new(holding.map(|sequence| Cursor::Sequence(*sequence)).chain(queue))
    }

    /// Both clocks' distance: when a point of service time is, by the calendar, as it looks now.
    #[must_use]
    pub fn wall_of(now: Now, at: ServiceTime) -> WallTime {
        now.wall.after(at.since(now.service))
    }
}
