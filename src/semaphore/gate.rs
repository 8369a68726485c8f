//! What blocked threads sleep on, and the bound on their number.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

use super::Asker;
use crate::model::TokenId;

/// A Condvar with a counter of changes, so that a change between looking and sleeping is not missed:
/// read [`Gate::changes`] first, look at the state, then [`Gate::wait`] for a change after that.
///
/// Locking: the gate's own lock is innermost. It may be taken while the state's lock is held, never
/// the other way round.
#[derive(Debug, Default)]
pub(super) struct Gate {
    changes: Mutex<u64>,
    changed: Condvar,
}

impl Gate {
    /// How many changes were announced so far.
    pub(super) fn changes(&self) -> u64 {
        *self.changes.lock()
    }

    /// Wakes all that wait here.
    pub(super) fn announce(&self) {
        *self.changes.lock() += 1;
        self.changed.notify_all();
    }

    /// Sleeps until there were more than `seen` changes, or until `deadline`; tells whether there were.
    pub(super) fn wait(&self, seen: u64, deadline: Instant) -> bool {
        let mut changes = self.changes.lock();
        while *changes == seen {
            if self.changed.wait_until(&mut changes, deadline).timed_out() {
                return *changes != seen;
            }
        }
        true
    }
}

/// The bound on requests that block at the same time.
#[derive(Debug)]
pub(super) struct Slots {
    taken: AtomicUsize,
    slots_max: usize,
    /// Of those that have a bound of their own.
    by_bounded: Mutex<HashMap<Bounded, u32>>,
}

/// Who has a bound of his own on requests that block.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Bounded {
    Token(TokenId),
    /// All that come without a token together: strangers must leave room for jobs.
    Anonymous,
}

/// All that come without a token have together one of so many slots.
const ANONYMOUS_SHARE: usize = 8;

impl Slots {
    pub(super) fn new(slots_max: usize) -> Arc<Slots> {
        Arc::new(Slots { taken: AtomicUsize::new(0), slots_max, by_bounded: Mutex::default() })
    }

    /// A slot, unless all are taken, or all that are for this asker.
    pub(super) fn take(self: &Arc<Slots>, asker: &Asker) -> Option<Slot> {
        // Given back when it is dropped, whatever comes of it.
        let mut slot = Slot { slots: Arc::clone(self), bounded: None };
        if self.taken.fetch_add(1, Ordering::AcqRel) >= self.slots_max {
            return None;
        }
        if let Some((bounded, requests_max)) = self.bounded(asker) {
            let mut by_bounded = self.by_bounded.lock();
            let taken = by_bounded.entry(bounded.clone()).or_default();
            if *taken >= requests_max {
                drop(by_bounded);
                return None;
            }
            *taken += 1;
            slot.bounded = Some(bounded);
        }
        Some(slot)
    }

    /// Who has a bound of his own, and that bound.
    fn bounded(&self, asker: &Asker) -> Option<(Bounded, u32)> {
        match &asker.token {
            Some(token) => {
                Some((Bounded::Token(token.id.clone()), token.bounds.waiting_requests_max?))
            }
            None if asker.is_anonymous => {
                let slots_max = (self.slots_max / ANONYMOUS_SHARE).max(1);
                Some((Bounded::Anonymous, u32::try_from(slots_max).unwrap_or(u32::MAX)))
            }
            None => None,
        }
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// The right to block; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    bounded: Option<Bounded>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(1, Ordering::AcqRel);
        let Some(bounded) = &self.bounded else { return };
        let mut by_bounded = self.slots.by_bounded.lock();
        if let Some(taken) = by_bounded.get_mut(bounded) {
            *taken -= 1;
            if *taken == 0 {
                by_bounded.remove(bounded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_change_between_looking_and_sleeping_is_seen() {
        let gate = Gate::default();
        let seen = gate.changes();
        gate.announce();
        assert!(gate.wait(seen, Instant::now() + Duration::from_secs(60)));
        assert!(!gate.wait(gate.changes(), Instant::now()));
    }

    #[test]
    fn slots_are_bounded_and_given_back() {
        let slots = Slots::new(2);
        let asker = Asker::default();
        let first = slots.take(&asker);
        let second = slots.take(&asker);
        assert!(first.is_some() && second.is_some() && slots.take(&asker).is_none());
        drop(first);
        assert!(slots.take(&asker).is_some());
        assert_eq!(slots.taken(), 1);
    }

    #[test]
    fn strangers_leave_room_for_jobs() {
        let slots = Slots::new(16);
        let stranger = Asker { is_anonymous: true, ..Asker::default() };
        let theirs: Vec<_> = (0..16).map_while(|_| slots.take(&stranger)).collect();
        assert_eq!(theirs.len(), 2);
        assert!(slots.take(&Asker::default()).is_some());
        drop(theirs);
        assert!(slots.take(&stranger).is_some());
    }
}
