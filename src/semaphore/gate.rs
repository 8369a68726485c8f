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

use crate::model::{Token, TokenId};

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
    /// Of tokens that have a bound of their own.
    by_token: Mutex<HashMap<TokenId, u32>>,
}

impl Slots {
    pub(super) fn new(slots_max: usize) -> Arc<Slots> {
        Arc::new(Slots { taken: AtomicUsize::new(0), slots_max, by_token: Mutex::default() })
    }

    /// A slot, unless all are taken.
    pub(super) fn take(self: &Arc<Slots>, token: Option<&Token>) -> Option<Slot> {
        // Given back when it is dropped, whatever comes of it.
        let mut slot = Slot { slots: Arc::clone(self), token: None };
        if self.taken.fetch_add(1, Ordering::AcqRel) >= self.slots_max {
            return None;
        }
        if let Some((token, requests_max)) = token.and_then(bounded) {
            let mut by_token = self.by_token.lock();
            let taken = by_token.entry(token.id.clone()).or_default();
            if *taken >= requests_max {
                drop(by_token);
                return None;
            }
            *taken += 1;
            slot.token = Some(token.id.clone());
        }
        Some(slot)
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
    token: Option<TokenId>,
}

/// A token that has a bound of its own on requests that wait, and that bound.
fn bounded(token: &Token) -> Option<(&Token, u32)> {
    Some((token, token.bounds.waiting_requests_max?))
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.taken.fetch_sub(1, Ordering::AcqRel);
        let Some(token) = &self.token else { return };
        let mut by_token = self.slots.by_token.lock();
        if let Some(taken) = by_token.get_mut(token) {
            *taken -= 1;
            if *taken == 0 {
                by_token.remove(token);
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
        let first = slots.take(None);
        let second = slots.take(None);
        assert!(first.is_some() && second.is_some() && slots.take(None).is_none());
        drop(first);
        assert!(slots.take(None).is_some());
        assert_eq!(slots.taken(), 1);
    }
}
