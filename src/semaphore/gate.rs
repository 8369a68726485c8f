//! What blocked threads sleep on, and the bound on their number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use parking_lot::{Condvar, Mutex};

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
}

impl Slots {
    pub(super) fn new(slots_max: usize) -> Arc<Slots> {
        Arc::new(Slots { taken: AtomicUsize::new(0), slots_max })
    }

    /// A slot, unless all are taken.
    pub(super) fn take(self: &Arc<Slots>) -> Option<Slot> {
        if self.taken.fetch_add(1, Ordering::AcqRel) < self.slots_max {
            return Some(Slot(Arc::clone(self)));
        }
        self.taken.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

/// The right to block; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
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
        let first = slots.take();
        let second = slots.take();
        assert!(first.is_some() && second.is_some() && slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
        assert_eq!(slots.taken(), 1);
    }
}
