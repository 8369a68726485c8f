//! Storage in one SQLite file, the default.
//!
//! In the data directory: `semaphored.db` with its write-ahead log beside it, and `lock`. A start looks
//! before it writes (`look`), brings the schema up to date (`migrations`), and reads everything once.
//! From then on one connection writes, in transactions that are as few as possible: one a batch of
//! changes, one a step of the fold. Another connection reads what has ended and the audit log.
//!
//! The only module that names SQLite.

mod audit;
#[cfg(test)]
mod audit_tests;
#[cfg(test)]
mod backup_tests;
mod callbacks;
mod columns;
mod connections;
mod errors;
mod files;
mod highest;
mod history;
mod live;
mod lock;
mod look;
mod migrations;
mod private;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rusqlite::{Connection, named_params};

use self::{
    errors::Named,
    history::SqliteHistory,
    live::Live,
    lock::DirectoryLock,
    look::{Found, look},
};
pub use self::{
    highest::Highest,
    restore::{MARGIN, Restored, restore},
};
use super::{Error, Folded, History, Recovered, Storage, journal::Unfolded, net};
use crate::model::{Change, WallTime};

const DATABASE: &str = "semaphored.db";

/// Whether there is a database in a data directory.
#[must_use]
pub fn is_there(data_dir: &Path) -> bool {
    data_dir.join(DATABASE).exists()
}

/// Changes in the first step of the fold, before anything is known about the machine's speed.
const FOLD_CHANGES_FIRST: usize = 256;
/// Fewest changes in a step: below that the transaction costs more than what is in it.
const FOLD_CHANGES_MIN: usize = 16;
/// Most changes in a step: bounds the memory of its net effect.
const FOLD_CHANGES_MAX: usize = 16_384;

/// What a commit survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: each commit is synced to the disk.
    #[default]
    Full,
    /// A kill of the process, but not a power cut: the operating system writes when it likes. What a
    /// power cut leaves is an earlier state, whole in itself.
    Os,
}

/// The commit writer's storage in a data directory.
///
/// The fields are dropped in this order: the writing connection closes after the reading one, and so
/// moves the log into the database; the directory is unlocked last.
pub struct SqliteStorage {
    history: Arc<SqliteHistory>,
    connection: Connection,
    named: Named,
    stage: Stage,
    /// Whether anything was written: until then the files stay as they were found, also when this closes.
    has_written: bool,
    fold_changes: usize,
    durability: Durability,
    _lock: DirectoryLock,
}

/// How far the storage has come.
enum Stage {
    /// Nothing was read, so nothing may be written.
    Opened,
    /// The changes that are not in the tables are known.
    Ready(Unfolded),
    /// A write failed. What is on disk is not known, so it must not be built on.
    Failed,
}

impl SqliteStorage {
    /// Opens the database in `data_dir`; makes directory and database if they are not there. Brings an
    /// older schema up to date.
    ///
    /// # Errors
    /// When others than the owner may get at directory or database, another process has the directory, the database
    /// is damaged, somebody else's or from a newer version (it is left as it is then, byte by byte), or the system
    /// refuses.
    pub fn open(data_dir: &Path, durability: Durability) -> Result<SqliteStorage, Error> {
        files::data_directory(data_dir)?;
        let lock = DirectoryLock::take(data_dir)?;
        snapshot::clean_up(data_dir)?;
        restore::clean_up(data_dir)?;
        let path = data_dir.join(DATABASE);
        let named = Named::new(&path);
        private::check_database(&path)?;
        if look(&path, &named)? == Found::Nothing {
            migrations::create(&path, &named)?;
        }
        let mut connection = connections::writer(&path, &named, durability)?;
        migrations::migrate(&mut connection, &named)?;
        let reader = connections::reader(&path, &named)?;
        let history = SqliteHistory::new(reader, named.clone(), data_dir.to_owned());
        Ok(SqliteStorage {
            history: Arc::new(history),
            connection,
            named,
            stage: Stage::Opened,
            has_written: false,
            fold_changes: FOLD_CHANGES_FIRST,
            durability,
            _lock: lock,
        })
    }

    /// Runs one write. From the first that fails on, all do.
    fn write<T>(
        &mut self,
        action: &'static str,
        write: impl FnOnce(&mut Writing<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let unfolded = match &mut self.stage {
            Stage::Ready(unfolded) => unfolded,
            Stage::Opened => return Err(self.named.database(action, "it was not recovered yet")),
            Stage::Failed => return Err(self.named.database(action, "a write failed before")),
        };
        let (connection, named) = (&mut self.connection, &self.named);
        let ready =
            if self.has_written { Ok(()) } else { connections::begin_writing(connection, named) };
        self.has_written = true;
        let result = ready.and_then(|()| write(&mut Writing { connection, named, unfolded }));
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        result
    }
}

/// What a write works on.
struct Writing<'s> {
    connection: &'s mut Connection,
    named: &'s Named,
    unfolded: &'s mut Unfolded,
}

impl Writing<'_> {
    /// One transaction around `work`; an error rolls it back.
    fn transaction<T>(
        &mut self,
        work: impl FnOnce(Live<'_>, &Unfolded) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let commit = self.named.sql("commit to");
        let transaction = self.connection.transaction().map_err(&commit)?;
        let live = Live { connection: &transaction, named: self.named };
        let result = work(live, self.unfolded)?;
        transaction.commit().map_err(&commit)?;
        Ok(result)
    }
}

impl Storage for SqliteStorage {
    fn recover(&mut self, ended_since: WallTime, ended_max: usize) -> Result<Recovered, Error> {
        if matches!(self.stage, Stage::Failed) {
            return Err(self.named.database("recover", "a write failed before"));
        }
        let live = Live { connection: &self.connection, named: &self.named };
        let (base, unfolded) = (live.base()?, live.journal()?);
        let ended = history::ended_ids(&self.connection, &self.named, ended_since, ended_max)?;
        let journal = unfolded.to_vec();
        self.stage = Stage::Ready(unfolded);
        Ok(Recovered { base, journal, ended })
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), Error> {
        let Some(last) = changes.last() else { return Ok(()) };
        self.write("append to", |writing| {
            let refused = |what| writing.named.database("append to", what);
            writing.unfolded.check(changes).map_err(refused)?;
            writing.transaction(|live, _| live.append(last.revision, changes))?;
            writing.unfolded.extend(changes.iter().cloned());
            Ok(())
        })
    }

    fn fold(&mut self, budget: Duration) -> Result<Folded, Error> {
        let (changes_max, durability) = (self.fold_changes, self.durability);
        let start = Instant::now();
        let (step, folded) = self.write("fold the journal of", |writing| {
            let step = writing.unfolded.len().min(changes_max);
            if step > 0 {
                connections::set_synced(writing.connection, writing.named, Durability::Os)?;
                let net = writing.transaction(|live, unfolded| {
                    let net = net::fold(&live, live.marks()?, unfolded.oldest(step))?;
                    live.write(&net)?;
                    history::add(live.connection, live.named, &net)?;
                    Ok(net)
                })?;
                connections::set_synced(writing.connection, writing.named, durability)?;
                writing.unfolded.folded_to(net.marks.revision);
            }
            let revision = writing.unfolded.folded();
            Ok((step, Folded { revision, changes_left: writing.unfolded.len() }))
        })?;
        self.fold_changes = next_step(changes_max, step, start.elapsed(), budget);
        Ok(folded)
    }

    fn prune(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error> {
        self.delete_oldest("prune the history of", history::PRUNE, before, rows_max)
    }

    fn prune_audit(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error> {
        self.delete_oldest("prune the audit log of", audit::PRUNE, before, rows_max)
    }

    fn history(&self) -> Arc<dyn History> {
        self.history.clone()
    }
}

impl SqliteStorage {
    /// Runs one of the queries that delete the oldest rows of a table; tells how many it deleted.
    fn delete_oldest(
        &mut self,
        action: &'static str,
        query: &'static str,
        before: WallTime,
        rows_max: usize,
    ) -> Result<usize, Error> {
        let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let values = named_params! { ":before": before.0, ":rows_max": rows_max };
        self.write(action, |writing| {
            writing.transaction(|live, _| {
                let statement = live.connection.prepare_cached(query);
                statement
                    .and_then(|mut statement| statement.execute(values))
                    .map_err(live.named.sql("prune"))
            })
        })
    }
}

/// How many changes the next step of the fold may take, after one of `step` changes took `elapsed`:
/// what would have taken three quarters of the budget, at most twice as many as now.
fn next_step(changes_max: usize, step: usize, elapsed: Duration, budget: Duration) -> usize {
    // A step that was not full says too little: most of it was the commit itself.
    if step < changes_max && elapsed <= budget {
        return changes_max;
    }
    let fits = step as u128 * budget.as_nanos() * 3 / 4 / elapsed.as_nanos().max(1);
    let fits = usize::try_from(fits).unwrap_or(usize::MAX);
    fits.min(changes_max * 2).clamp(FOLD_CHANGES_MIN, FOLD_CHANGES_MAX)
}
