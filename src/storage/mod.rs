//! Storage: what must survive, behind a trait.
//!
//! The service appends [`Change`]s in batches and is told when a batch is safe. Everything else happens
//! behind that: the journal is *folded* into tables in small steps, ended claims move to the history, old
//! history and old rows of the audit log are pruned. Recovery is the tables plus the journal after them.
//!
//! One thread at a time calls the [`Storage`], whoever commits; readers have a [`History`] of their
//! own that never blocks it. An error from [`Storage::append`] is final: whether the batch is on disk is
//! not known, and asking again would not tell (a second `fsync` "succeeds"), so the process has to end
//! and recover.
//!
//! In reading order: [`encoding`] says what the bytes are, [`net`] what a fold comes to, [`memory`] is the
//! simple storage and [`sqlite`] the one for a server.

mod audit;
pub mod encoding;
mod journal;
pub mod memory;
pub mod net;
pub mod sqlite;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::{fs::File, sync::Arc, time::Duration};

pub use self::audit::{AuditFilter, AuditRow};
use crate::model::{Base, Change, Claim, ClaimId, EndedId, Revision, WallTime};

/// What is kept for the service, with no way of a particular database showing.
pub trait Storage: Send {
    /// Everything that was committed, read once at start and before anything is written. At most `ended_max`
    /// ids of claims that ended at or after `ended_since` come with it, the newest.
    ///
    /// # Errors
    /// When the data cannot be read or is damaged.
    fn recover(&mut self, ended_since: WallTime, ended_max: usize) -> Result<Recovered, Error>;

    /// Makes a batch of changes durable, in their order, all or nothing. Their revisions increase and
    /// follow the last one.
    ///
    /// # Errors
    /// Any error is final, see the module's text.
    fn append(&mut self, changes: &[Change]) -> Result<(), Error>;

    /// Folds some of the journal into the tables, in one step of about `budget`. To be called again
    /// while changes are left; the unfolded ones stay in memory.
    ///
    /// # Errors
    /// Any error is final, see the module's text.
    fn fold(&mut self, budget: Duration) -> Result<Folded, Error>;

    /// Deletes up to `rows_max` claims of the history that ended before `before`; returns how many it
    /// deleted.
    ///
    /// # Errors
    /// Any error is final, see the module's text.
    fn prune(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error>;

    /// Deletes up to `rows_max` rows of the audit log from before `before`, the oldest; returns how many it
    /// deleted.
    ///
    /// # Errors
    /// Any error is final, see the module's text.
    fn prune_audit(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error>;

    /// A reader of its own, for any number of threads.
    fn history(&self) -> Arc<dyn History>;
}

/// Reads beside the commit writer: what has ended, the audit log, and all there is for a backup.
pub trait History: Send + Sync {
    /// The newest ended claim of this id whose end has been folded.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn ended_claim(&self, id: &ClaimId) -> Result<Option<Claim>, Error>;

    /// The newest folded rows of the audit log that the filter takes, newest first. Looking for few among very
    /// many takes its time, which has a limit.
    ///
    /// # Errors
    /// When the data cannot be read, or not within the time.
    fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, Error>;

    /// Bytes that the storage can still grow by; `None` where nobody can know.
    ///
    /// # Errors
    /// When the system cannot tell.
    fn free_bytes(&self) -> Result<Option<u64>, Error>;

    /// All that is committed, of one moment, as one file. Blocks for as long as copying takes, and holds up
    /// nobody. One at a time is the caller's to see to.
    ///
    /// # Errors
    /// When it cannot be made, or not any more.
    fn snapshot(&self, options: &SnapshotOptions<'_>) -> Result<Snapshot, SnapshotError>;
}

/// What bounds a [`History::snapshot`].
pub struct SnapshotOptions<'a> {
    /// Bytes that stay free beside it.
    pub free_bytes_min: u64,
    /// How long copying may take.
    pub time_max: Duration,
    /// Asked now and then: whether anybody still wants it.
    pub is_wanted: &'a dyn Fn() -> bool,
}

/// A copy of everything, in a file without a name: its room is free again when the file is closed.
#[derive(Debug)]
pub struct Snapshot {
    /// The file.
    pub file: File,
    /// Its length.
    pub bytes: u64,
    /// The last change in it.
    pub revision: Revision,
}

/// Why there is no [`Snapshot`].
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The disk is too full.
    #[error("a copy needs {needed_bytes} free bytes, and {free_bytes} are free")]
    NoSpace {
        /// What it needs, with what has to stay free.
        needed_bytes: u64,
        /// What there is.
        free_bytes: u64,
    },
    /// It took too long.
    #[error("copying was not done within {time_max:?}: the disk is too slow or too busy")]
    TooSlow {
        /// How long it may take.
        time_max: Duration,
    },
    /// Nobody wants it any more.
    #[error("nobody wants it any more")]
    Unwanted,
    /// This storage has no files.
    #[error("this storage keeps nothing that could be copied")]
    Unsupported,
    /// Storage failed. Nothing has been changed.
    #[error(transparent)]
    Storage(#[from] Error),
}

/// All that [`Storage::recover`] found: the tables, and the journal after them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The tables' state.
    pub base: Base,
    /// The changes after it, in order.
    pub journal: Vec<Change>,
    /// Ids of claims in the history (the journal's are not among them), oldest end first.
    pub ended: Vec<EndedId>,
}

/// How far the fold has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// The last change in the tables.
    pub revision: Revision,
    /// Changes in the journal that are not in the tables yet.
    pub changes_left: usize,
}

/// What went wrong, on which data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the data directory.
    #[error("{path} is in use by another semaphored{}", by_pid(*.pid))]
    InUse {
        /// The lock file.
        path: String,
        /// The process that has it, where it is known.
        pid: Option<u32>,
    },
    /// Others than the owner may get at it.
    #[error(
        "{path} has mode {mode:04o}, so other users may get at it: chmod {right:04o} {path}, and see who could read \
         it so far"
    )]
    Exposed {
        /// A file, or the data directory.
        path: String,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        right: u32,
    },
    /// The database is from a newer version of this program.
    #[error(
        "{path} has schema version {found}, and this semaphored ({version}) knows up to {known}: install the newer \
         semaphored again, which has made it so, or restore a backup from before that (`semaphored --restore FILE`); \
         nothing was changed",
        version = env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The database.
        path: String,
        /// Its schema's version.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The data contradict themselves or are not readable.
    #[error("{path} is damaged: {what}: restore a backup, nothing was changed")]
    Damaged {
        /// The database.
        path: String,
        /// What was found.
        what: String,
    },
    /// A restore did not come to its end.
    #[error(
        "a restore was interrupted in its last step ({path} is there): run `semaphored --restore FILE` again with the \
         same file"
    )]
    RestoreInterrupted {
        /// What it has left.
        path: String,
    },
    /// The file is somebody else's.
    #[error("{path} is not a database of semaphored: {what}")]
    Foreign {
        /// The file.
        path: String,
        /// What was found.
        what: String,
    },
    /// The system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database refused.
    #[error("cannot {action} {path}: {what}")]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database.
        path: String,
        /// What it said.
        what: String,
    },
}

fn by_pid(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}
