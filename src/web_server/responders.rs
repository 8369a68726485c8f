//! Sending responses not before their commit, and not on the threads that handle requests or commit.

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

/// A commit that takes longer than waking a thread. Where the disk is not waited for (durability `os`), commits are
/// shorter.
const SLOW_COMMIT: Duration = Duration::from_micros(50);

/// A few threads with one queue. Its length needs no bound of its own: every response in it belongs to a
/// connection that waits for it, and the connections are bounded.
pub(super) struct Responders {
    outbox: Arc<Outbox>,
    pub(super) crew: Arc<Crew>,
    commits_are_slow: AtomicBool,
}

/// The queue. Its mutex is held for a few instructions, never while a response is sent.
struct Outbox {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    parcels: VecDeque<Parcel>,
    /// With those that stand in.
    threads: usize,
    /// Threads that nobody has woken.
    asleep: usize,
    stopped: bool,
}

/// Where the thread that made a response looks for it after it has asked for the commit.
enum Place {
    Awaited,
    Here(Parcel),
    Left,
}

impl Responders {
    /// Starts the threads.
    pub(super) fn start(threads: usize) -> io::Result<(Responders, Vec<JoinHandle<()>>)> {
        let state = Mutex::new(State { threads, ..State::default() });
        let outbox = Arc::new(Outbox { state, filled: Condvar::new() });
        let crew = Crew::new(threads);
        let handles = (0..threads)
            .map(|number| {
                let (outbox, crew) = (Arc::clone(&outbox), Arc::clone(&crew));
                std::thread::Builder::new()
                    .name(format!("respond-{number}"))
                    .spawn(move || outbox.send_all(&crew))
            })
            .collect::<io::Result<_>>()?;
        Ok((Responders { outbox, crew, commits_are_slow: AtomicBool::new(true) }, handles))
    }

    /// Sends a response when `after` is committed: on this thread when it is already or this thread
    /// commits it, else on one of the responders'. Never waits for the commit of another thread.
    ///
    /// `before_commit` is called before this thread waits for the disk, as far as that can be foreseen.
    ///
    /// When the commit never comes, because the commit writer has failed, the exchange is dropped with what
    /// it waited for and the client sees no success.
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
        // The closure may run inside the API's or the commit writer's locks, so it writes to no socket: as long
        // as this thread stays for it the response is put where it finds it, else it is a responder's.
        let place = Arc::new(Mutex::new(Place::Awaited));
        let parcel = Box::new((exchange, response));
        let then = {
            let place = Arc::clone(&place);
            let outbox = Arc::clone(&self.outbox);
            move || {
                let mut place = place.lock();
                match *place {
                    Place::Awaited => *place = Place::Here(parcel),
                    Place::Here(_) | Place::Left => outbox.put(parcel),
                }
            }
        };
        if interface.after_commit(after, Box::new(then)) {
            self.commit(interface, before_commit);
        }
        let found = std::mem::replace(&mut *place.lock(), Place::Left);
        if let Place::Here(parcel) = found {
            let (exchange, response) = *parcel;
            exchange.respond(response);
        }
    }

    /// Commits on this thread, and sends what that lets go of.
    fn commit(&self, interface: &Interface, before_commit: impl FnOnce()) {
        if self.commits_are_slow.load(Ordering::Relaxed) {
            before_commit();
        }
        self.outbox.state.lock().threads += 1;
        let started_at = Instant::now();
        interface.commit();
        self.commits_are_slow.store(started_at.elapsed() > SLOW_COMMIT, Ordering::Relaxed);
        self.help();
    }

    /// Sends what this thread's commit let go of, so that no other has to be woken for it. The thread is counted.
    fn help(&self) {
        while let Some(parcel) = self.outbox.next(Some(&|| false)) {
            let (exchange, response) = *parcel;
            exchange.respond(response);
        }
        self.outbox.state.lock().threads -= 1;
    }

    /// Sends for a while, beside threads that are stuck.
    pub(super) fn work_as(&self, stand_in: &StandIn) {
        self.outbox.state.lock().threads += 1;
        while let Some(parcel) = self.outbox.next(Some(&|| stand_in.is_needed())) {
            let (exchange, response) = *parcel;
            stand_in.work(|| exchange.respond(response));
        }
        self.outbox.state.lock().threads -= 1;
    }

    /// For the lookout: one more thread, if responses wait for one that may be held up.
    pub(super) fn ensure_sender(&self) {
        let mut state = self.outbox.state.lock();
        if !state.parcels.is_empty() {
            self.outbox.wake_one(&mut state);
        }
    }

    /// Lets the threads end, after what is in the queue already.
    pub(super) fn stop(&self) {
        self.outbox.state.lock().stopped = true;
        self.outbox.filled.notify_all();
    }
}

impl Outbox {
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

    fn send_all(&self, crew: &Crew) {
        while let Some(parcel) = self.next(None) {
            let (exchange, response) = *parcel;
            crew.work(|| exchange.respond(response));
        }
    }

    /// Waits for a response; `None` when the thread has to end, or finds that it is not to `stay`.
    fn next(&self, stay: Option<&dyn Fn() -> bool>) -> Option<Parcel> {
        let mut state = self.state.lock();
        loop {
            if let Some(parcel) = state.parcels.pop_front() {
                return Some(parcel);
            }
            if state.stopped || stay.is_some_and(|stay| !stay()) {
                return None;
            }
            state.asleep += 1;
            // Without spurious wake-ups: who wakes a thread has counted it.
            match stay {
                None => self.filled.wait(&mut state),
                Some(_) if self.filled.wait_for(&mut state, LOOK_INTERVAL).timed_out() => {
                    state.asleep -= 1;
                }
                Some(_) => {}
            }
        }
    }
}
