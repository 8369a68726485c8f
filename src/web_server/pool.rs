//! An elastic, bounded pool of threads for work that blocks.
//!
//! A slot is reserved before the work is made up, so that the caller can still decide what to do when
//! there is none. A slot is backed by a thread from the start: the pool holds `claimed_slots ≤ threads`,
//! and a thread ends for want of work only while that would still hold without it. So no work ever waits
//! for other work to end (the mistake of tiny_http's pool, see the module `kick`).

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

type Task = Box<dyn FnOnce() + Send>;

/// What runs here waits on a condition variable or a socket and formats a short text. Only the pages that
/// are touched take memory.
const STACK_BYTES: usize = 256 * 1_024;

/// The pool. Its mutex is held for a few instructions, never while a task runs or a thread is started.
pub(super) struct Pool {
    name: &'static str,
    threads_max: usize,
    idle_max: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// Threads that run or are being started.
    threads: usize,
    /// Slots that are reserved, or whose task waits in `tasks` or runs.
    claimed_slots: usize,
    stopped: bool,
}

/// A place in the pool, with a thread behind it. Dropped unused, it is free again.
pub(super) struct Slot {
    pool: Option<Arc<Pool>>,
}

impl Pool {
    pub(super) fn new(name: &'static str, threads_max: usize, idle_max: Duration) -> Arc<Pool> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Arc::new(Pool { name, threads_max, idle_max, state, changed })
    }

    /// Reserves a place; `None` when all are taken, the pool is stopped, or the system gives no thread.
    pub(super) fn slot(self: &Arc<Pool>) -> Option<Slot> {
        let mut state = self.state.lock();
        if state.stopped {
            return None;
        }
        let needs_thread = state.claimed_slots == state.threads;
        if needs_thread {
            if state.threads >= self.threads_max {
                return None;
            }
            state.threads += 1;
        }
        state.claimed_slots += 1;
        drop(state);
        if needs_thread && !self.start_thread() {
            return None;
        }
        Some(Slot { pool: Some(Arc::clone(self)) })
    }

    /// Starts the thread for a slot that is claimed already, or gives both back.
    fn start_thread(self: &Arc<Pool>) -> bool {
        let pool = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name(self.name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || pool.run());
        if let Err(error) = started {
            log::warn!("no thread for {}: {error}", self.name);
            let mut state = self.state.lock();
            state.threads -= 1;
            state.claimed_slots -= 1;
            return false;
        }
        true
    }

    fn run(&self) {
        while let Some(task) = self.next_task() {
            task();
            self.state.lock().claimed_slots -= 1;
        }
    }

    /// Waits for a task; `None` when the thread has to end, which is counted already.
    fn next_task(&self) -> Option<Task> {
        let mut state = self.state.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            let spare = state.claimed_slots < state.threads;
            if state.stopped && spare {
                state.threads -= 1;
                return None;
            }
            let timed_out = self.changed.wait_for(&mut state, self.idle_max).timed_out();
            if timed_out && state.tasks.is_empty() && state.claimed_slots < state.threads {
                state.threads -= 1;
                return None;
            }
        }
    }

    /// Lets threads without work end. Tasks that run go on; new ones find no slot.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    /// Threads at this moment.
    #[cfg(test)]
    fn threads(&self) -> usize {
        self.state.lock().threads
    }
}

impl Slot {
    /// Runs a task on the slot's thread.
    pub(super) fn run(mut self, task: Task) {
        if let Some(pool) = self.pool.take() {
            pool.state.lock().tasks.push_back(task);
            pool.changed.notify_one();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.state.lock().claimed_slots -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn as_many_tasks_as_slots_block_at_once() {
        let pool = Pool::new("test", 50, LONG);
        let (arrived, arrivals) = mpsc::channel();
        let releases: Vec<_> = (0..50)
            .map(|number| {
                let (release, released) = mpsc::channel::<()>();
                let arrived = arrived.clone();
                pool.slot().unwrap().run(Box::new(move || {
                    arrived.send(number).unwrap();
                    let _ = released.recv();
                }));
                release
            })
            .collect();
        let mut numbers: Vec<i32> = arrivals.iter().take(50).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(0..50));
        assert!(pool.slot().is_none(), "the bound");
        drop(releases);
        // A slot is free again some time after its task ended, and needs no new thread.
        let slot = loop {
            match pool.slot() {
                Some(slot) => break slot,
                None => std::thread::yield_now(),
            }
        };
        drop(slot);
        assert_eq!(pool.threads(), 50);
        pool.stop();
        assert!(pool.slot().is_none());
        while pool.threads() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn threads_without_work_end_but_not_the_one_of_a_slot() {
        let pool = Pool::new("test", 2, Duration::from_millis(1));
        let kept = pool.slot().unwrap();
        drop(pool.slot().unwrap());
        while pool.threads() > 1 {
            std::thread::yield_now();
        }
        let (done, result) = mpsc::channel();
        kept.run(Box::new(move || done.send(()).unwrap()));
        result.recv().unwrap();
        while pool.threads() > 0 {
            std::thread::yield_now();
        }
    }
}
