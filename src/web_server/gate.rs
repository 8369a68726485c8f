//! The gate: counts the requests that the API has seen and that are not answered yet, and lets none in
//! any more once it is closed.

use std::{sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex};

/// Its mutex is held for a few instructions and never while anything else is locked.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    closed: bool,
}

/// A request on its way: counted until this is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    gate: Arc<Gate>,
}

impl Gate {
    /// Lets a request in, unless the gate is closed.
    pub(super) fn enter(self: &Arc<Gate>) -> Option<Pass> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.inside += 1;
        drop(state);
        Some(Pass { gate: Arc::clone(self) })
    }

    /// Closes the gate for good.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }

    /// Waits until every request that was let in is answered; `false` when the deadline came first.
    pub(super) fn wait_until_empty(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while state.inside > 0 {
            if self.emptied.wait_until(&mut state, deadline).timed_out() {
                return state.inside == 0;
            }
        }
        true
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut state = self.gate.state.lock();
        state.inside -= 1;
        if state.closed && state.inside == 0 {
            self.gate.emptied.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_empties_and_stays_closed() {
        let gate = Arc::new(Gate::default());
        let first = gate.enter().unwrap();
        let second = gate.enter().unwrap();
        gate.close();
        assert!(gate.enter().is_none());
        drop(first);
        assert!(!gate.wait_until_empty(Instant::now()));
        let waiter = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.wait_until_empty(Instant::now() + Duration::from_secs(10))
        });
        drop(second);
        assert!(waiter.join().unwrap());
    }
}
