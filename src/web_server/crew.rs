//! Stand-ins for threads that are stuck with clients that take no answers.
//!
//! Writing to a socket blocks when the client takes nothing, up to the send time-out, and longer when it
//! takes a little now and then. tiny_http does not hand its sockets out, so nobody can ask beforehand. A few
//! such clients would hold all workers, or all responders, and with them everybody else.
//!
//! So it is looked at in short intervals whether all threads of a crew are busy and none has finished
//! anything since the last look. Then threads of a pool of their own stand in, as many as there are threads
//! already, until enough of the crew are free again. It is their own because clients can fill the one for
//! slow work. And where one is stuck while others of its crew sleep, one of them is woken. It does no harm
//! when something else was slow, say a long time under the API's lock.

use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

use super::workers::Shared;

/// Time between two looks; much longer than any work takes that is not stuck.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Stand-ins of a crew.
const STAND_INS_MAX: usize = 64;

/// Stand-ins of workers and responders.
pub(super) const ALL_STAND_INS_MAX: usize = 2 * STAND_INS_MAX;

/// A number of threads that do the same work. The numbers are looked at one by one: a stand-in too many does
/// no harm, one too few comes with the next look.
#[derive(Debug)]
pub(super) struct Crew {
    regular_threads: usize,
    /// With the stand-ins.
    threads: AtomicUsize,
    busy_threads: AtomicUsize,
    /// Pieces of work, wrapping.
    done: AtomicUsize,
    done_at_last_look: AtomicUsize,
}

/// A stand-in's place, until it is dropped.
pub(super) struct StandIn(Arc<Crew>);

impl Crew {
    pub(super) fn new(regular_threads: usize) -> Arc<Crew> {
        Arc::new(Crew {
            regular_threads,
            threads: AtomicUsize::new(regular_threads),
            busy_threads: AtomicUsize::default(),
            done: AtomicUsize::default(),
            done_at_last_look: AtomicUsize::default(),
        })
    }

    /// Does a piece of work, which may get stuck.
    pub(super) fn work(&self, work: impl FnOnce()) {
        self.busy_threads.fetch_add(1, Ordering::Relaxed);
        work();
        self.done.fetch_add(1, Ordering::Relaxed);
        self.busy_threads.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many stand-ins are to come. To be called by one thread, in intervals.
    fn wanted(&self) -> usize {
        let done = self.done.load(Ordering::Relaxed);
        let idle = self.done_at_last_look.swap(done, Ordering::Relaxed) == done;
        let threads = self.threads.load(Ordering::Relaxed);
        let stuck = idle && self.busy_threads.load(Ordering::Relaxed) >= threads;
        let more_max = (self.regular_threads + STAND_INS_MAX).saturating_sub(threads);
        if stuck { threads.min(more_max) } else { 0 }
    }

    pub(super) fn stand_in(self: &Arc<Crew>) -> StandIn {
        self.threads.fetch_add(1, Ordering::Relaxed);
        StandIn(Arc::clone(self))
    }
}

impl StandIn {
    /// Whether to stay: as many as there are regular threads are busy.
    pub(super) fn is_needed(&self) -> bool {
        self.0.busy_threads.load(Ordering::Relaxed) >= self.0.regular_threads
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The thread that looks. Its mutex is held for a few instructions.
#[derive(Debug, Default)]
pub(super) struct Lookout {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Lookout {
    pub(super) fn start(shared: Weak<Shared>) -> io::Result<(Arc<Lookout>, JoinHandle<()>)> {
        let lookout = Arc::new(Lookout::default());
        let thread = std::thread::Builder::new().name("lookout".to_owned()).spawn({
            let lookout = Arc::clone(&lookout);
            move || lookout.run(&shared)
        })?;
        Ok((lookout, thread))
    }

    /// Lets the thread end.
    pub(super) fn stop(&self) {
        *self.stopped.lock() = true;
        self.changed.notify_one();
    }

    fn run(&self, shared: &Weak<Shared>) {
        while self.wait() {
            let Some(shared) = shared.upgrade() else { return };
            shared.intake.ensure_receiver();
            shared.responders.ensure_sender();
            for _ in 0..shared.crew.wanted() {
                let stand_in = shared.crew.stand_in();
                let for_worker = Arc::clone(&shared);
                shared.start_stand_in(move || for_worker.work_as(&stand_in));
            }
            for _ in 0..shared.responders.crew.wanted() {
                let stand_in = shared.responders.crew.stand_in();
                let for_responder = Arc::clone(&shared);
                shared.start_stand_in(move || for_responder.responders.work_as(&stand_in));
            }
        }
    }

    /// Waits for the next look; `false` when it is time to end.
    fn wait(&self) -> bool {
        let mut stopped = self.stopped.lock();
        let mut timed_out = false;
        while !*stopped && !timed_out {
            timed_out = self.changed.wait_for(&mut stopped, LOOK_INTERVAL).timed_out();
        }
        !*stopped
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn stand_ins_are_wanted_while_all_are_stuck() {
        let crew = Crew::new(2);
        let begin = || {
            let (crew, (finish, finished)) = (Arc::clone(&crew), mpsc::channel::<()>());
            let (begin, begun) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                crew.work(|| {
                    begin.send(()).unwrap();
                    let _ = finished.recv();
                });
            });
            begun.recv().unwrap();
            move || {
                drop(finish);
                thread.join().unwrap();
            }
        };
        assert_eq!(crew.wanted(), 0, "all are free");
        let first = begin();
        assert_eq!(crew.wanted(), 0, "one is free");
        let second = begin();
        assert_eq!(crew.wanted(), 2);
        let stand_in = crew.stand_in();
        assert!(stand_in.is_needed());
        assert_eq!(crew.wanted(), 0, "the stand-in is free");
        let third = begin();
        assert_eq!(crew.wanted(), 3);
        third();
        let third = begin();
        assert_eq!(crew.wanted(), 0, "something was done");
        assert_eq!(crew.wanted(), 3);
        third();
        first();
        assert!(!stand_in.is_needed());
        drop(stand_in);
        second();
        assert_eq!(crew.threads.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn stand_ins_are_bounded() {
        let crew = Crew::new(4);
        crew.busy_threads.store(1_000, Ordering::Relaxed);
        let mut stand_ins = Vec::new();
        for wanted in [4, 8, 16, 32, 4, 0] {
            assert_eq!(crew.wanted(), wanted);
            stand_ins.extend((0..wanted).map(|_| crew.stand_in()));
        }
        assert_eq!(stand_ins.len(), STAND_INS_MAX);
    }
}
