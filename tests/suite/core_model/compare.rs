//! All that can be seen of the core, against the naive model.

use proptest::{prelude::*, test_runner::TestCaseError};
use semaphored::{
    model::{self, Base, ClaimId, Fence, Revision, SemaphoreName, SemaphoreRecord, Sequence},
    semaphore::core::{ClaimView, Core, Cursor, SemaphoreView},
};

use super::model::{Claim, Model, State};

/// Compares everything; `ids` are those that were ever used, `page_claims` is the size of the pages in
/// which listings are read.
pub(super) fn compare(
    core: &Core,
    model: &Model,
    ids: &[ClaimId],
    page_claims: usize,
) -> Result<(), TestCaseError> {
    core.check_invariants().map_err(TestCaseError::fail)?;
    prop_assert_eq!(core.base(), model.base());
    prop_assert_eq!(core.revision(), Revision(model.revision));
    prop_assert_eq!(core.next_deadline(model.now), model.next_deadline(), "next deadline");
    prop_assert_eq!(core.claims_len(), model.claims.len());
    for id in ids {
        prop_assert_eq!(core.ended(id), model.ended(id), "whether {} has ended", id);
        match (core.claim(id), model.claim(id)) {
            (Some(view), Some(claim)) => compare_claim(&view, claim, model)?,
            (view, claim) => prop_assert_eq!(view.is_some(), claim.is_some(), "{} lives", id),
        }
    }
    let mut views = model.views();
    views.sort_by(|a, b| a.name.cmp(&b.name));
    // When a semaphore was touched last has a property of its own.
    let untouched = |view| SemaphoreView { revision: Revision(0), ..view };
    prop_assert_eq!(core.semaphores().map(untouched).collect::<Vec<_>>(), views);
    for semaphore in &model.semaphores {
        let listed = list(core, Some(&semaphore.name), page_claims)?;
        prop_assert_eq!(listed, model.listed(&semaphore.name), "list of {}", semaphore.name);
    }
    let by_arrival: Vec<Sequence> = model.claims.iter().map(Claim::sequence).collect();
    prop_assert_eq!(list(core, None, page_claims)?, by_arrival);
    Ok(())
}

fn compare_claim(view: &ClaimView<'_>, claim: &Claim, model: &Model) -> Result<(), TestCaseError> {
    let (until, wait_until, hold_until, presence) = match &claim.state {
        State::Waiting { presence, wait_until } => {
            let lapse = claim.deadlines().into_iter().find(|(_, kind, _)| *kind == 0);
            (lapse.map(|(at, ..)| at), *wait_until, None, Some(*presence))
        }
        State::Offered { until, .. } => (Some(*until), None, None, None),
        State::Held { until, hold_until, .. } => (Some(*until), None, *hold_until, None),
    };
    prop_assert_eq!(view.presence, presence, "presence of {}", &claim.id);
    prop_assert_eq!(view.until, until, "end of {}", &claim.id);
    prop_assert_eq!(view.wait_until, wait_until, "end of the wait of {}", &claim.id);
    prop_assert_eq!(view.hold_until, hold_until, "end of max_hold of {}", &claim.id);
    prop_assert_eq!(&view.positions, &model.positions(claim), "positions of {}", &claim.id);
    Ok(())
}

/// Reads a listing page by page.
fn list(
    core: &Core,
    semaphore: Option<&SemaphoreName>,
    page_claims: usize,
) -> Result<Vec<Sequence>, TestCaseError> {
    let mut all = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = core.list(semaphore, None, None, after, page_claims, |_| true);
        prop_assert!(page.claims.len() <= page_claims);
        prop_assert!(all.len() <= core.claims_len(), "a listing does not end");
        prop_assert!(page.next.is_none() || !page.claims.is_empty(), "an empty page goes on");
        all.extend(page.claims);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

impl Model {
    /// Its holders by arrival, then its queue in order.
    pub(super) fn listed(&self, name: &SemaphoreName) -> Vec<Sequence> {
        let holders = self.claims.iter().filter(|claim| {
            !matches!(claim.state, State::Waiting { .. }) && claim.terms.permits.weight(name) > 0
        });
        holders.chain(self.queue(Some(name))).map(Claim::sequence).collect()
    }

    fn positions(&self, claim: &Claim) -> Vec<usize> {
        if !matches!(claim.state, State::Waiting { .. }) {
            return Vec::new();
        }
        let position = |name| {
            let queue = self.queue(Some(name));
            queue.iter().position(|other| other.id == claim.id).map_or(0, |before| before + 1)
        };
        claim.terms.permits.names().map(position).collect()
    }

    /// The earliest deadline; one by the wall clock as it looks now.
    pub(super) fn next_deadline(&self) -> Option<model::ServiceTime> {
        let service = self.claims.iter().flat_map(Claim::deadlines).map(|(at, ..)| at);
        let wall = self.claims.iter().filter_map(|claim| match claim.state {
            State::Held { hold_until: Some(at), .. } => {
                Some(self.now.service.after(at.since(self.now.wall)))
            }
            _ => None,
        });
        service.chain(wall).chain(self.cooling.iter().map(|cooling| cooling.until)).min()
    }

    fn views(&self) -> Vec<SemaphoreView> {
        let view = |semaphore: &super::model::Semaphore| {
            let name = &semaphore.name;
            let in_use = self.permits_of(name, |state| matches!(state, State::Held { .. }));
            let offered = self.permits_of(name, |state| matches!(state, State::Offered { .. }));
            let cooling = self.cooling_of(name);
            let (used, capacity) =
                (in_use + offered + cooling, u64::from(semaphore.settings.capacity));
            let available = self.available(name);
            let waits = self.queue(Some(name));
            SemaphoreView {
                name: name.clone(),
                settings: semaphore.settings.clone(),
                origin: semaphore.origin,
                revision: Revision(0),
                in_use,
                offered,
                cooling,
                set_aside: self.free(name) - available,
                available,
                over_committed: used.saturating_sub(capacity),
                waiting: waits.len(),
                longest_waiting_since: waits
                    .iter()
                    .min_by_key(|claim| claim.sequence)
                    .map(|claim| claim.queued_at),
            }
        };
        self.semaphores.iter().map(view).collect()
    }

    /// What is durable, as the core would say it.
    pub(super) fn base(&self) -> Base {
        let mut semaphores: Vec<SemaphoreRecord> = self
            .semaphores
            .iter()
            .map(|semaphore| SemaphoreRecord {
                name: semaphore.name.clone(),
                settings: semaphore.settings.clone(),
                origin: semaphore.origin,
                fence: Fence(semaphore.fence),
                revision: Revision(semaphore.revision),
            })
            .collect();
        semaphores.sort_by(|a, b| a.name.cmp(&b.name));
        let claim = |claim: &Claim| model::Claim {
            id: claim.id.clone(),
            sequence: claim.sequence(),
            terms: claim.terms.clone(),
            queued_at: claim.queued_at,
            revision: Revision(claim.revision),
            state: claim.claim_state(),
            callback: claim.callback.clone().map(|(callback, deliveries)| {
                Box::new(model::CallbackRecord { callback, deliveries })
            }),
            owner: None,
            job: None,
        };
        let mut cooling: Vec<model::Cooling> = self
            .cooling
            .iter()
            .map(|cooling| model::Cooling {
                semaphore: cooling.semaphore.clone(),
                sequence: Sequence(cooling.sequence),
                permits: cooling.permits,
                cooldown: cooling.cooldown,
            })
            .collect();
        cooling.sort_by(|a, b| (&a.semaphore, a.sequence).cmp(&(&b.semaphore, b.sequence)));
        Base {
            revision: Revision(self.revision),
            sequence: Sequence(self.sequence),
            fence_floor: Fence(self.fence_floor),
            semaphores,
            claims: self.claims.iter().map(claim).collect(),
            cooling,
            tokens: Vec::new(),
        }
    }
}
