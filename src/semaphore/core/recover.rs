//! From the durable state to a live core and back.

use super::{Core, Limits, Now, Semaphore, Stamp, Standing};
use crate::model::{
    Base, Change, Claim, ClaimState, EndedId, Revision, SemaphoreRecord, ServiceTime,
};

/// The durable state contradicts itself: what does not fit, on which change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {revision}: {what}")]
pub struct Contradiction {
    /// The change at which it showed.
    pub revision: Revision,
    /// What does not fit.
    pub what: String,
}

impl Core {
    /// A core from the durable state as of one revision; [`Core::replay`] the changes after it, then
    /// apply [`Command::Resume`](super::Command::Resume) until nothing is due.
    ///
    /// All waiting claims are present, each live lease and offer has its full time again, cooldowns run
    /// anew. Queue order, waiting times and `wait_timeout` go on.
    ///
    /// # Errors
    /// When the parts do not fit together.
    pub fn recover(
        limits: Limits,
        base: Base,
        ended: Vec<EndedId>,
        now: Now,
    ) -> Result<Core, Contradiction> {
        let revision = base.revision;
        let wrong = |what: String| Contradiction { revision, what };
        let mut core = Core::new(limits);
        core.revision = revision;
        core.removed = revision;
        core.sequence = base.sequence;
        core.fence_floor = base.fence_floor;
        for record in base.semaphores {
            let mut semaphore = Semaphore::new(record.settings, record.origin, record.fence);
            semaphore.revision = record.revision;
            semaphore.touched = revision;
            core.semaphores.insert(record.name, semaphore);
        }
        for token in base.tokens {
            core.tokens.insert(token.id.clone(), token);
        }
        let stamp = Stamp { revision, now, at: now.wall };
        for claim in base.claims {
            let id = claim.id.clone();
            if !core.insert_recovered(stamp, claim) {
                return Err(wrong(format!("claim {id} does not fit")));
            }
        }
        for cooling in base.cooling {
            let name = cooling.semaphore.clone();
            if !core.insert_cooling(stamp, cooling) {
                return Err(wrong(format!("permits of {name} cool, which does not exist")));
            }
        }
        for ended in ended {
            core.ended.remember(ended);
        }
        Ok(core)
    }

    fn insert_recovered(&mut self, stamp: Stamp, claim: Claim) -> bool {
        let sequence = claim.sequence;
        let holds = match &claim.state {
            ClaimState::Waiting => return self.insert_waiting(stamp, claim),
            ClaimState::Offered { .. } | ClaimState::Held { .. } => true,
            ClaimState::Ended { .. } => false,
        };
        let permits = &claim.terms.permits;
        let known = permits.names().len() == claim.fences().map_or(0, |fences| fences.len())
            && permits.names().all(|name| self.semaphores.contains_key(name));
        if !holds || !known || self.ids.insert(claim.id.clone(), sequence).is_some() {
            return false;
        }
        self.sequence = self.sequence.max(sequence);
        self.count(&claim, true);
        // `enter_standing` sets the true deadline.
        let standing = Standing::Offered { until: ServiceTime::default() };
        self.claims.insert(sequence, super::Live { claim, standing });
        self.enter_standing(stamp, sequence);
        true
    }

    /// Lets a change of the journal happen again.
    ///
    /// # Errors
    /// When it does not follow the state.
    pub fn replay(&mut self, change: &Change, now: Now) -> Result<(), Contradiction> {
        let revision = change.revision;
        let wrong = |what: String| Err(Contradiction { revision, what });
        if revision <= self.revision {
            return wrong(format!("it does not come after revision {}", self.revision));
        }
        let stamp = Stamp { revision, now, at: change.at };
        for event in &change.events {
            if !self.apply_event(stamp, event) {
                return wrong(format!("an event does not fit the state: {event:?}"));
            }
        }
        self.revision = revision;
        Ok(())
    }

    /// The durable state: what recovery starts from.
    #[must_use]
    pub fn base(&self) -> Base {
        let record = |(name, semaphore): (&_, &Semaphore)| SemaphoreRecord {
            name: Clone::clone(name),
            settings: semaphore.settings.clone(),
            origin: semaphore.origin,
            fence: semaphore.fence,
            revision: semaphore.revision,
        };
        let cooling = self.semaphores.values().flat_map(|semaphore| semaphore.cooling.values());
        Base {
            revision: self.revision,
            sequence: self.sequence,
            fence_floor: self.fence_floor,
            semaphores: self.semaphores.iter().map(record).collect(),
            claims: self.claims.values().map(|live| live.claim.clone()).collect(),
            cooling: cooling.map(|(cooling, _)| cooling.clone()).collect(),
            tokens: self.tokens.values().cloned().collect(),
        }
    }
}
