//! The service: the core behind a lock, with threads that wait, time that passes, and storage.
//!
//! [`core`] decides; this module gives it a clock, tells those who wait, and has every change made durable
//! before anybody hears of it.
//!
//! # Threads and locks
//!
//! One mutex guards the state: the core, the batch of changes that are not written yet, and the gates that
//! blocked requests sleep on. No IO, no sleeping, no serialization under it, but for a question to the kernel
//! ([`Peer`]): it is held for microseconds, longer for a page of a listing, and where an admin drains, opens or
//! removes a semaphore with a long queue, or revokes a token that waits thousands of times.
//! Lock order: state, then a gate's or a peer's own lock; the lock of what waits for a commit is never taken
//! together with either. The storage has a lock of its own, taken before the state's (`commit`). Two threads
//! belong to the service, the commit writer (`commit`) and the ticker
//! (`ticker`); everything else runs on the caller's thread. Only [`BlockedClaim::wait`] and the
//! watching calls block, and [`Service::commit`], [`Service::wait_for_commit`] and [`Service::begin_delivery`] for the time
//! of one.
//!
//! # What may fail
//!
//! A command may be refused; then nothing happened. Storage may fail; then the service calls its `fatal`
//! handler, and nothing is answered any more: the process has to end and recover from disk.

mod admin;
mod asker;
mod audit;
mod backup;
mod blocked;
mod claims;
mod clock;
mod commit;
pub mod core;
mod gate;
mod gates;
mod look;
mod offers;
mod peer;
mod state;
mod stuck;
mod ticker;
mod tokens;

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};

pub use self::{
    admin::{SetSettings, SettingsChange},
    asker::Asker,
    backup::{BackupFile, BackupRefusal, BackupTurn},
    blocked::BlockedClaim,
    claims::{Attempt, Attempted, ClaimRow, ClaimStatus, Refusal},
    clock::{Clock, Tick},
    look::{ClaimLook, ListFilter, Page, Seen, ServiceStatus},
    offers::DueHandler,
    peer::Peer,
    stuck::Stuck,
    tokens::TokenRefusal,
};
use self::{
    commit::{Commits, Writer},
    core::{Core, Limits, Now},
    gate::{Gate, Slots},
    state::State,
    stuck::Writing,
};
use crate::{
    model::{Revision, WallTime},
    storage::{self, History, Storage},
};

/// Called when storage has failed: must end the process.
pub type FatalHandler = Box<dyn Fn(&storage::Error) + Send>;

/// The bounds and times of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bounds of the core.
    pub limits: Limits,
    /// Requests that block at the same time; one more is answered at once.
    pub waiting_requests_max: usize,
    /// How long ended claims are kept in the history, 1 to 3,650 days.
    pub history_kept: Duration,
    /// How long the audit log is kept, 1 to 3,650 days.
    pub audit_kept: Duration,
    /// Requests of one token in a second, over ten seconds.
    pub token_requests_per_second_max: u32,
    /// Free bytes under the data directory below which no new claims are taken.
    pub free_bytes_min: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits::default(),
            waiting_requests_max: 4_000,
            history_kept: Duration::from_secs(90 * 24 * 3_600),
            audit_kept: Duration::from_secs(365 * 24 * 3_600),
            token_requests_per_second_max: 2_000,
            free_bytes_min: 64 * 1024 * 1024,
        }
    }
}

/// Why the service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What is stored could not be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// What is stored contradicts itself.
    #[error("the stored state is damaged, {0}: restore a backup, nothing was changed")]
    Contradiction(#[from] core::Contradiction),
    /// What is stored breaks a rule.
    #[error("the stored state breaks a rule, {0}: restore a backup, nothing was changed")]
    Invariant(String),
}

/// Semaphores and claims, durable and shared by any number of threads.
pub struct Service {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the service's threads share.
struct Shared {
    state: Mutex<State>,
    /// The writer's thread sleeps here until there is something to do.
    batch_ready: Condvar,
    commits: Commits,
    /// Before the writer, so that it is dropped first: the storage closes when nobody reads it any more.
    history: Arc<dyn History>,
    writer: Mutex<Writer>,
    writing: Writing,
    slots: Arc<Slots>,
    clock: Arc<dyn Clock>,
    options: Options,
    /// Announced at most every half second, when something has changed: watchers of semaphores.
    pulse: Gate,
    /// Told of each callback that is due.
    callback_due: OnceLock<DueHandler>,
    storage_low: AtomicBool,
    is_backing_up: AtomicBool,
    started_at: WallTime,
}

impl Service {
    /// Recovers the state from `storage` and starts the service's threads.
    ///
    /// # Errors
    /// When the stored state cannot be read or contradicts itself; nothing is changed then.
    pub fn start(
        mut storage: Box<dyn Storage>,
        clock: Arc<dyn Clock>,
        options: Options,
        fatal: FatalHandler,
    ) -> Result<Service, StartError> {
        let now = clock.now();
        let (mut state, journal_changes) = recover(storage.as_mut(), now, options.limits)?;
        let history = storage.history();
        state.audit.resume(&audit::newest_rows(history.as_ref()), now.wall);
        // All that was recovered is on disk; the grants that the recovery itself makes are not.
        let committed = state.recovered_revision();
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            batch_ready: Condvar::new(),
            commits: Commits::new(committed),
            slots: Slots::new(options.waiting_requests_max),
            clock,
            history,
            writer: Mutex::new(Writer::new(storage, &options, fatal, journal_changes)),
            writing: Writing::default(),
            options,
            pulse: Gate::default(),
            callback_due: OnceLock::new(),
            storage_low: AtomicBool::new(false),
            is_backing_up: AtomicBool::new(false),
            started_at: now.wall,
        });
        let service = Service { shared: Arc::clone(&shared), threads: Mutex::default() };
        let for_writer = Arc::clone(&shared);
        service.spawn("commit-writer", move || for_writer.write())?;
        service.spawn("ticker", move || ticker::run(&shared))?;
        Ok(service)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), storage::Error> {
        let thread = std::thread::Builder::new().name(name.into()).spawn(run);
        let thread = thread.map_err(|source| storage::Error::Io {
            action: "start the thread",
            path: name.into(),
            source,
        })?;
        self.threads.lock().push(thread);
        Ok(())
    }

    /// Begins to stop: blocked requests get [`Refusal::Stopping`], and so do new ones.
    pub fn stop(&self) {
        self.shared.state.lock().stop();
        self.shared.pulse.announce();
    }

    /// Stops, and returns when everything is written and the threads have ended.
    pub fn close(&self) {
        self.stop();
        {
            let mut state = self.shared.state.lock();
            if !state.is_closed() {
                self.shared.note_uses(&mut state);
                self.shared.note_tries(&mut state);
                state.close();
            }
        }
        self.shared.batch_ready.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::error!("a thread of the service had panicked");
            }
        }
    }

    /// Runs `then` as soon as `revision` is durable: at once on this thread when it is already, else on
    /// that which commits, so it must be short. `true` when nobody is at it: then [`Service::commit`] is to be
    /// called, soon.
    pub fn after_commit(&self, revision: Revision, then: Box<dyn FnOnce() + Send>) -> bool {
        self.shared.commits.after(revision, then) && !self.shared.is_committing()
    }

    /// Commits what there is, unless somebody else does; tells whether it did. May block for as long as the disk
    /// takes.
    pub fn commit(&self) -> bool {
        self.shared.commit()
    }

    /// Returns when `revision` is durable. Blocks for as long as the disk takes, and until the process ends when the storage
    /// fails; `false` should it go on all the same.
    #[must_use]
    pub fn wait_for_commit(&self, revision: Revision) -> bool {
        let (safe, is_safe) = mpsc::sync_channel(1);
        let tell = move || {
            // Whoever waits for it is below.
            let _ = safe.send(());
        };
        if self.after_commit(revision, Box::new(tell)) {
            self.commit();
        }
        is_safe.recv().is_ok()
    }

    /// The last durable revision.
    #[must_use]
    pub fn committed(&self) -> Revision {
        self.shared.commits.committed()
    }

    /// What the clock says; for what is shown beside a claim's deadlines.
    #[must_use]
    pub fn now(&self) -> Now {
        self.shared.clock.now()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.close();
    }
}

/// Tables and journal through the core; returns the state and how many changes the journal had.
fn recover(
    storage: &mut dyn Storage,
    now: Now,
    limits: Limits,
) -> Result<(State, usize), StartError> {
    let remembered_ms = i64::try_from(core::ENDED_REMEMBERED.as_millis()).unwrap_or(i64::MAX);
    let ended_since = WallTime(now.wall.0.saturating_sub(remembered_ms));
    let recovered = storage.recover(ended_since, limits.ended_ids_max)?;
    let journal_changes = recovered.journal.len();
    Ok((rebuilt(recovered, now, limits)?, journal_changes))
}

/// Whether the service could start from this: it fits together and breaks no rule.
///
/// # Errors
/// What does not.
pub fn check_recovered(recovered: storage::Recovered, now: Now) -> Result<(), StartError> {
    rebuilt(recovered, now, Limits::default()).map(|_| ())
}

fn rebuilt(recovered: storage::Recovered, now: Now, limits: Limits) -> Result<State, StartError> {
    let mut core = Core::recover(limits, recovered.base, recovered.ended, now)?;
    for change in &recovered.journal {
        core.replay(change, now)?;
    }
    let state = State::recovered(core, &recovered.journal, now);
    state.core.check_invariants().map_err(StartError::Invariant)?;
    Ok(state)
}
