//! The commit order: one writer thread takes whole batches, and replies go out after their batch.
//!
//! Changes come in the order in which the core made them, because they are appended to the batch under
//! the lock under which the core made them. The writer takes all there is and makes it durable in one
//! transaction; there is no artificial delay, the sync itself gathers the next batch. What waits for a
//! revision ([`Commits::after`]) is run by the writer as soon as that revision is safe, and so must be
//! short. When nothing waits to be written, the writer folds the journal and prunes the history. A service
//! that is never idle gets both too, one step after a batch: else a busy one would keep its history for ever.
//!
//! An error of the storage is final: nothing that rests on the batch is ever run, and the `fatal`
//! callback of the service is called, which ends the process.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{FatalHandler, Shared};
use crate::{
    model::{Revision, WallTime},
    storage::{self, Storage},
};

/// What runs once its revision is safe.
type Then = Box<dyn FnOnce() + Send>;

/// Longest step of the fold; a batch that comes meanwhile waits for it.
const FOLD_STEP: Duration = Duration::from_millis(20);
/// How long the writer must have had nothing to write before it folds: a job that ends within that time
/// costs one row.
const FOLD_AFTER_IDLE: Duration = Duration::from_millis(200);
/// Changes in the journal from which on the writer folds between batches too, one step after each.
const FOLD_CHANGES_MAX: usize = 20_000;
/// How often old history is looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// Rows that one step of pruning deletes at most.
const PRUNE_ROWS_MAX: usize = 500;

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

    /// Runs `then` when `revision` is safe: now, or on the writer's thread.
    pub(super) fn after(&self, revision: Revision, then: Then) {
        if revision > self.committed() {
            let mut waiting = self.waiting.lock();
            if revision > self.committed() {
                let order = self.order.fetch_add(1, Ordering::Relaxed);
                waiting.insert((revision, order), then);
                return;
            }
        }
        then();
    }

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

/// The writer thread: owns the storage.
pub(super) struct Writer {
    pub(super) storage: Box<dyn Storage>,
    pub(super) history_kept: Duration,
    pub(super) fatal: FatalHandler,
    pub(super) journal_changes: usize,
    pub(super) pruned_at: Option<Instant>,
}

impl Writer {
    /// Writes until the service closes and all is written.
    pub(super) fn run(mut self, shared: &Shared) {
        if let Err(error) = self.write_all(shared) {
            log::error!("storage failed, nothing is answered any more: {error}");
            (self.fatal)(&error);
        }
    }

    fn write_all(&mut self, shared: &Shared) -> Result<(), storage::Error> {
        let mut rest = FOLD_AFTER_IDLE;
        loop {
            let (batch, closed) = shared.next_batch(rest);
            if let Some(last) = batch.last() {
                self.storage.append(&batch)?;
                shared.commits.publish(last.revision);
                self.journal_changes += batch.len();
                rest = FOLD_AFTER_IDLE;
                if self.journal_changes > FOLD_CHANGES_MAX {
                    self.fold_step(shared)?;
                }
                self.prune_step(shared)?;
            } else if closed {
                return Ok(());
            } else {
                rest = self.tidy(shared)?;
            }
        }
    }

    /// One step of what can wait; tells how long to rest before the next one.
    fn tidy(&mut self, shared: &Shared) -> Result<Duration, storage::Error> {
        if self.journal_changes > 0 {
            self.fold_step(shared)?;
            return Ok(Duration::ZERO);
        }
        Ok(if self.prune_step(shared)? { Duration::ZERO } else { PRUNE_EVERY })
    }

    /// One step of pruning, if it is time; tells whether it was.
    fn prune_step(&mut self, shared: &Shared) -> Result<bool, storage::Error> {
        if self.pruned_at.is_some_and(|at| at.elapsed() < PRUNE_EVERY) {
            return Ok(false);
        }
        let now = shared.clock.now().wall;
        let kept_ms = i64::try_from(self.history_kept.as_millis()).unwrap_or(i64::MAX);
        let before = WallTime(now.0.saturating_sub(kept_ms));
        if self.storage.prune(before, PRUNE_ROWS_MAX)? < PRUNE_ROWS_MAX {
            self.pruned_at = Some(Instant::now());
        }
        Ok(true)
    }

    fn fold_step(&mut self, shared: &Shared) -> Result<(), storage::Error> {
        let folded = self.storage.fold(FOLD_STEP)?;
        self.journal_changes = folded.changes_left;
        shared.forget_folded(folded.revision);
        Ok(())
    }
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
