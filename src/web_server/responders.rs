//! Sending responses not before their commit.
//!
//! Every response goes through one queue. The thread that made one helps to send what is in there; so does the one
//! that committed, whose commit let go of many. A few threads of their own do the rest.
//!
//! Nobody can know which client takes no answers. So a thread that is stuck with one keeps no other response to
//! itself: they are in the queue, where the lookout (module `crew`) has them seen to.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{
    crew::{Crew, LOOK_INTERVAL, StandIn},
    exchange::Exchange,
};
use crate::{
    http_interface::{Interface, Response},
    model::Revision,
};

type Parcel = Box<(Exchange, Response)>;

/// A commit lets go of many responses at once, and waking a thread costs as much as sending some. So one more
/// is woken for so many that wait.
const PARCELS_PER_THREAD: usize = 8;

/// Most responses that a thread with other work sends before it goes back to that.
const HELP_MAX: usize = 16;

/// A commit that takes longer than waking a thread. Where the disk is not waited for (durability `os`), commits are
/// shorter.
const SLOW_COMMIT: Duration = Duration::from_micros(50);

/// The queue, and the threads that do nothing but send.
pub(super) struct Responders {
    queue: Arc<Queue>,
    pub(super) crew: Arc<Crew>,
    commits_are_slow: AtomicBool,
}

/// Responses that may be sent. Its length needs no bound of its own: every response in it belongs to a
/// connection that waits for it, and the connections are bounded. Its mutex is held for a few instructions, never
/// while a response is sent.
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<Parcel>,
    /// Those that send or help, with those asleep.
    threads: usize,
    /// Threads that nobody has woken.
    asleep: usize,
    stopped: bool,
}

/// Why a thread takes from the queue.
enum Role<'a> {
    /// It does nothing else, and sleeps while there is nothing.
    Regular,
    /// It leaves when there is nothing.
    Helper,
    /// It leaves when it is not needed.
    StandIn(&'a StandIn),
}

impl Responders {
    /// Starts the threads.
    pub(super) fn start(threads: usize) -> io::Result<(Responders, Vec<JoinHandle<()>>)> {
        let state = Mutex::new(State { threads, ..State::default() });
        let queue = Arc::new(Queue { state, filled: Condvar::new() });
        let crew = Crew::new(threads);
        let handles = (0..threads)
            .map(|number| {
                let (queue, crew) = (Arc::clone(&queue), Arc::clone(&crew));
                std::thread::Builder::new()
                    .name(format!("respond-{number}"))
                    .spawn(move || queue.send_all(&crew, &Role::Regular))
            })
            .collect::<io::Result<_>>()?;
        Ok((Responders { queue, crew, commits_are_slow: AtomicBool::new(true) }, handles))
    }

    /// Sends a response when `after` is committed: this thread or another. Never waits for the commit of another
    /// thread. `before_commit` is called before this thread waits for the disk, as far as that can be foreseen.
    ///
    /// When the commit never comes, because the storage has failed, the exchange is dropped with what it waited
    /// for and the client sees no success.
    pub(super) fn deliver(
        &self,
        interface: &Interface,
        exchange: Exchange,
        response: Response,
        after: Revision,
        before_commit: impl FnOnce(),
    ) {
        if after == Revision(0) {
            exchange.respond(response);
            return;
        }
        let parcel = Box::new((exchange, response));
        let queue = Arc::clone(&self.queue);
        // Whoever is about to send is awake: for this response nobody has to be woken.
        self.queue.enter();
        if interface.after_commit(after, Box::new(move || queue.put(parcel))) {
            self.commit(interface, before_commit);
        }
        self.queue.help();
    }

    fn commit(&self, interface: &Interface, before_commit: impl FnOnce()) {
        if self.commits_are_slow.load(Ordering::Relaxed) {
            before_commit();
        }
        let started_at = Instant::now();
        if interface.commit() {
            self.commits_are_slow.store(started_at.elapsed() > SLOW_COMMIT, Ordering::Relaxed);
        }
    }

    /// Sends for a while, beside threads that are stuck.
    pub(super) fn work_as(&self, stand_in: &StandIn) {
        self.queue.enter();
        self.queue.send_all(&self.crew, &Role::StandIn(stand_in));
    }

    /// For the lookout: one more thread, if responses wait for one that may be held up.
    pub(super) fn ensure_sender(&self) {
        let mut state = self.queue.state.lock();
        if !state.parcels.is_empty() {
            self.queue.wake_one(&mut state);
        }
    }

    /// Lets the threads end, after what is in the queue already.
    pub(super) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        state.asleep = 0;
        self.queue.filled.notify_all();
    }
}

fn send(parcel: Parcel) {
    let (exchange, response) = *parcel;
    exchange.respond(response);
}

impl Queue {
    fn put(&self, parcel: Parcel) {
        let mut state = self.state.lock();
        state.parcels.push_back(parcel);
        let awake = state.threads - state.asleep;
        if state.parcels.len() > awake * PARCELS_PER_THREAD {
            self.wake_one(&mut state);
        }
    }

    fn wake_one(&self, state: &mut State) {
        if self.filled.notify_one() {
            state.asleep -= 1;
        }
    }

    /// Counts a thread that will take from the queue until it leaves.
    fn enter(&self) {
        self.state.lock().threads += 1;
    }

    /// A thread leaves. What is in the queue by now it was counted for.
    fn leave(&self, state: &mut State) {
        state.threads -= 1;
        if !state.parcels.is_empty() && state.threads == state.asleep {
            self.wake_one(state);
        }
    }

    /// Sends until it is time to leave.
    fn send_all(&self, crew: &Crew, role: &Role<'_>) {
        while let Some(parcel) = self.next(role) {
            crew.work(|| send(parcel));
        }
    }

    /// Sends what is there, and leaves.
    fn help(&self) {
        for _ in 0..HELP_MAX {
            match self.next(&Role::Helper) {
                Some(parcel) => send(parcel),
                None => return,
            }
        }
        self.leave(&mut self.state.lock());
    }

    /// Waits for a response, as far as the role says; with `None` the thread has left.
    fn next(&self, role: &Role<'_>) -> Option<Parcel> {
        let mut state = self.state.lock();
        loop {
            if let Some(parcel) = state.parcels.pop_front() {
                return Some(parcel);
            }
            let stays = match role {
                Role::Regular => true,
                Role::Helper => false,
                Role::StandIn(stand_in) => stand_in.is_needed(),
            };
            if state.stopped || !stays {
                self.leave(&mut state);
                return None;
            }
            state.asleep += 1;
            // Without spurious wake-ups: who wakes a thread has counted it.
            match role {
                Role::StandIn(_) => {
                    if self.filled.wait_for(&mut state, LOOK_INTERVAL).timed_out() {
                        state.asleep = state.asleep.saturating_sub(1);
                    }
                }
                Role::Regular | Role::Helper => self.filled.wait(&mut state),
            }
        }
    }
}
