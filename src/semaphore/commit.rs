//! The commit order, and who commits.
//!
//! Changes come in the order in which the core made them, because they are appended to the batch under
//! the lock under which the core made them. Whoever commits takes all there is and makes it durable in one
//! transaction; there is no artificial delay, the sync itself gathers the next batch. What waits for a
//! revision ([`Commits::after`]) runs as soon as that revision is safe, on the thread that committed, and so
//! must be short.
//!
//! A change is committed when somebody waits for it: a reply, or a request that blocks on a claim which it
//! is about. The thread with that reply commits itself if nobody is at it ([`Shared::commit`]): on a quiet
//! service that saves two changes of threads. When more came meanwhile, the writer's thread goes on, for as
//! long as there is more. That a claim has begun to wait is of no interest to anybody but its own request,
//! which blocks: it goes along with the next commit, half a second later at the latest, when the ticker asks.
//!
//! When nothing waits to be written, the writer's thread folds the journal and prunes the history. A service
//! that is never idle gets both too, step by step between the batches: else a busy one would keep its history for
//! ever.
//!
//! An error of the storage is final: nothing that rests on the batch is ever run, and the `fatal`
//! callback of the service is called, which ends the process.
//!
//! Locking: the writer's lock is taken before the state's, and by who has not the state's: waiting for it
//! means waiting for the disk. The lock of what waits is innermost.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{FatalHandler, Options, Shared, gate::Gate, state::State};
use crate::{
    model::{Change, Revision, Sequence, WallTime},
    storage::{self, Storage},
};

/// What runs once its revision is safe.
type Then = Box<dyn FnOnce() + Send>;

/// Longest step of the fold; a batch that comes meanwhile waits for it.
const FOLD_STEP: Duration = Duration::from_millis(2);
/// How long nothing must have been written before the writer folds: a job that ends within that time
/// costs one row.
const FOLD_AFTER_IDLE: Duration = Duration::from_millis(200);
/// Changes in the journal from which on the writer folds between batches too, until so many are gone.
const FOLD_CHANGES_MAX: usize = 20_000;
const FOLD_CHANGES_AT_ONCE: usize = 5_000;
/// How often old history is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Rows that one step of pruning deletes at most.
const PRUNE_ROWS_MAX: usize = 500;

/// Changes that are not written yet.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// When the first of them was made.
    pub(super) since: Option<Instant>,
    /// Gates of the claims that the changes are about, not announced yet: that is for after the state's lock.
    pub(super) gates: Vec<Arc<Gate>>,
    /// Claims whose callbacks are due as soon as the changes are safe, or are not any more.
    pub(super) callbacks_due: Vec<Sequence>,
}

/// Which revision is safe, and what waits for a later one.
#[derive(Default)]
pub(super) struct Commits {
    /// The last safe revision; written under the lock of `waiting`.
    committed: AtomicU64,
    waiting: Mutex<BTreeMap<(Revision, u64), Then>>,
    order: AtomicU64,
}

impl Commits {
    pub(super) fn new(committed: Revision) -> Commits {
        Commits { committed: AtomicU64::new(committed.0), ..Commits::default() }
    }

    pub(super) fn committed(&self) -> Revision {
        Revision(self.committed.load(Ordering::Acquire))
    }

    /// Runs `then` now when `revision` is safe. Else it is kept until it is; then tells so.
    pub(super) fn after(&self, revision: Revision, then: Then) -> bool {
        if revision > self.committed() {
            let mut waiting = self.waiting.lock();
            if revision > self.committed() {
                let order = self.order.fetch_add(1, Ordering::Relaxed);
                waiting.insert((revision, order), then);
                return true;
            }
        }
        then();
        false
    }

    /// Whether anything waits.
    fn is_awaited(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Notes what is safe, and runs what has waited for it, in order.
    fn publish(&self, revision: Revision) {
        let ready = {
            let mut waiting = self.waiting.lock();
            self.committed.store(revision.0, Ordering::Release);
            let later = waiting.split_off(&(revision.next(), 0));
            std::mem::replace(&mut *waiting, later)
        };
        for then in ready.into_values() {
            then();
        }
    }
}

impl Shared {
    /// Commits what there is, unless somebody is at it, and tells whether it did; the writer's thread goes on with the
    /// rest. To be called without a lock. Blocks for as long as the disk takes.
    pub(super) fn commit(&self) -> bool {
        let Some(mut writer) = self.writer.try_lock() else { return false };
        let committed = writer.commit(self);
        drop(writer);
        if self.is_more_awaited() {
            self.wake_writer(&mut self.state.lock());
        }
        committed
    }

    /// Whether somebody is at it, who will look again afterwards: after what waits was put where it waits.
    pub(super) fn is_committing(&self) -> bool {
        fence(Ordering::SeqCst);
        self.writer.is_locked()
    }

    /// Whether more waits: to be asked after the writer's lock was given back, since whoever found it taken
    /// relies on that. One of both sees what the other did: each first writes and then reads (the pattern of
    /// Dekker), with a fence between.
    fn is_more_awaited(&self) -> bool {
        fence(Ordering::SeqCst);
        self.commits.is_awaited()
    }

    /// Has the writer's thread look for what there is to do.
    pub(super) fn wake_writer(&self, state: &mut State) {
        state.is_writer_wanted = true;
        self.batch_ready.notify_one();
    }

    /// The life of the writer's thread: until the service closes and all is written.
    pub(super) fn write(&self) {
        let mut rest = FOLD_AFTER_IDLE;
        loop {
            let closed = self.wait_for_batch(rest);
            let mut writer = self.writer.lock();
            while writer.commit(self) && (closed || self.commits.is_awaited()) {
                writer.tidy_when_long(self);
            }
            if closed || writer.failed {
                return;
            }
            rest = writer.tidy(self);
            drop(writer);
            if self.is_more_awaited() {
                rest = Duration::ZERO;
            }
        }
    }

    /// Waits until the writer's thread is woken, at most for `rest`; tells whether the service is closed.
    fn wait_for_batch(&self, rest: Duration) -> bool {
        let mut state = self.state.lock();
        if !state.is_writer_wanted && !state.is_closed() && !rest.is_zero() {
            self.batch_ready.wait_for(&mut state, rest);
        }
        state.is_writer_wanted = false;
        state.is_closed()
    }
}

/// The storage, and how far it is with what can wait.
pub(super) struct Writer {
    storage: Box<dyn Storage>,
    history_kept: Duration,
    audit_kept: Duration,
    fatal: FatalHandler,
    failed: bool,
    /// Changes in the journal.
    journal_changes: usize,
    /// The journal was too long and is not short enough yet.
    is_long: bool,
    appended_at: Instant,
    pruned_at: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        storage: Box<dyn Storage>,
        options: &Options,
        fatal: FatalHandler,
        journal_changes: usize,
    ) -> Writer {
        Writer {
            storage,
            history_kept: options.history_kept,
            audit_kept: options.audit_kept,
            fatal,
            failed: false,
            journal_changes,
            is_long: false,
            appended_at: Instant::now(),
            pruned_at: None,
        }
    }

    /// Makes all there is durable and tells who waits for it; `false` when there was nothing, or it failed.
    fn commit(&mut self, shared: &Shared) -> bool {
        let batch = std::mem::take(&mut shared.state.lock().batch);
        let Some(revision) = batch.changes.last().map(|change| change.revision) else {
            return false;
        };
        // They make their replies while the disk is busy; no reply goes out before its revision is safe.
        batch.gates.iter().for_each(|gate| gate.announce());
        let append = || self.storage.append(&batch.changes);
        let appended = if self.failed { None } else { Some(shared.writing.during(append)) };
        if appended.and_then(|appended| self.checked(appended)).is_none() {
            return false;
        }
        shared.commits.publish(revision);
        batch.callbacks_due.iter().for_each(|sequence| shared.tell_callback_due(*sequence));
        self.appended_at = Instant::now();
        let was_empty = self.journal_changes == 0;
        self.journal_changes += batch.changes.len();
        self.is_long |= self.journal_changes > FOLD_CHANGES_MAX;
        if was_empty || self.is_long {
            // The writer's thread may sleep as if it had nothing to do.
            shared.wake_writer(&mut shared.state.lock());
        }
        true
    }

    /// One step of what can wait; tells how long to rest before the next one.
    fn tidy(&mut self, shared: &Shared) -> Duration {
        let pruned = self.prune_step(shared);
        let idle = self.appended_at.elapsed();
        if self.journal_changes == 0 {
            return if pruned { Duration::ZERO } else { PRUNE_EVERY };
        }
        if self.is_long || idle >= FOLD_AFTER_IDLE {
            self.fold_step(shared);
            return Duration::ZERO;
        }
        FOLD_AFTER_IDLE - idle
    }

    /// The same between batches, where it cannot wait any more.
    fn tidy_when_long(&mut self, shared: &Shared) {
        self.prune_step(shared);
        if self.is_long {
            self.fold_step(shared);
        }
    }

    /// One step of pruning, if it is time; tells whether it was.
    fn prune_step(&mut self, shared: &Shared) -> bool {
        if self.pruned_at.is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
            return false;
        }
        let now = shared.clock.now().wall;
        let kept = before(now, self.history_kept);
        let pruned = shared.writing.during(|| self.storage.prune(kept, PRUNE_ROWS_MAX));
        let claims = self.checked(pruned).unwrap_or_default();
        let kept = before(now, self.audit_kept);
        let pruned = shared.writing.during(|| self.storage.prune_audit(kept, PRUNE_ROWS_MAX));
        let rows = self.checked(pruned).unwrap_or_default();
        if claims.max(rows) < PRUNE_ROWS_MAX {
            self.pruned_at = Some(Instant::now());
        }
        true
    }

    fn fold_step(&mut self, shared: &Shared) {
        let folded = shared.writing.during(|| self.storage.fold(FOLD_STEP));
        let Some(folded) = self.checked(folded) else { return };
        self.journal_changes = folded.changes_left;
        self.is_long &= folded.changes_left > FOLD_CHANGES_MAX - FOLD_CHANGES_AT_ONCE;
        shared.forget_folded(folded.revision);
    }

    /// What the storage did; nothing when it has failed, which ends the process.
    fn checked<T>(&mut self, result: Result<T, storage::Error>) -> Option<T> {
        result
            .inspect_err(|error| {
                log::error!("storage failed, nothing is answered any more: {error}");
                self.failed = true;
                (self.fatal)(error);
            })
            .ok()
    }
}

/// What is older than `kept`.
fn before(now: WallTime, kept: Duration) -> WallTime {
    let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
    WallTime(now.0.saturating_sub(kept_ms))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_waits_runs_in_order_once_its_revision_is_safe() {
        let commits = Commits::new(Revision(1));
        let ran: Arc<Mutex<Vec<u64>>> = Arc::default();
        for revision in [3, 1, 2, 3, 4] {
            let ran = Arc::clone(&ran);
            commits.after(Revision(revision), Box::new(move || ran.lock().push(revision)));
        }
        assert_eq!(*ran.lock(), [1]);
        commits.publish(Revision(3));
        assert_eq!(*ran.lock(), [1, 2, 3, 3]);
        commits.publish(Revision(9));
        assert_eq!(*ran.lock(), [1, 2, 3, 3, 4]);
    }
}
