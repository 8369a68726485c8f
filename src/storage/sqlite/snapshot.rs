//! A backup: the database of one moment as one file, while the commit writer goes on.
//!
//! It is copied over a connection of its own inside one read transaction, so whatever is committed meanwhile
//! is not in it and does not make it begin anew: in WAL mode reader and writer never wait for each other. What
//! the writer adds meanwhile stays in the log, which shrinks again afterwards. The copy goes into a file of the data
//! directory, whose name is taken away as soon as the copy is whole: what is left of it goes with the last
//! descriptor, however the process ends. Before that a crash leaves the file, and the next start removes it.
//!
//! Copying fails when the disk has no room for it, takes too long, or when the caller has lost its interest.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{connections, errors::Named, files, history::free_bytes, live::Live};
use crate::{
    model::Revision,
    storage::{Error, Snapshot, SnapshotError, SnapshotOptions},
};

/// The copy, until it is whole.
const COPY: &str = "backup.tmp";
/// Pages between two looks at the time and the disk: some milliseconds of work.
const STEP_PAGES: i32 = 256;
/// Pause after a step, so that commits find the disk and a processor idle now and then.
const STEP_PAUSE: Duration = Duration::from_micros(500);

/// The database at `path`, as of now.
///
/// # Errors
/// See the module's text.
pub(super) fn snapshot(
    path: &Path,
    data_dir: &Path,
    options: &SnapshotOptions<'_>,
) -> Result<Snapshot, SnapshotError> {
    let copy = Copy::create(data_dir)?;
    let named = Named::new(path);
    let source = connections::reader(path, &named)?;
    // Ends with the connection.
    source.execute_batch("BEGIN").map_err(named.sql("read"))?;
    let live = Live { connection: &source, named: &named };
    let revision = live.last_revision()?;
    let needed = database_bytes(&source).map_err(named.sql("read"))?;
    let room = Room { data_dir, free_bytes_min: options.free_bytes_min };
    room.check(needed)?;
    copy.fill(&source, options, &room)?;
    copy.finish(revision)
}

/// Removes what a process has left that ended while it made a copy.
///
/// # Errors
/// When the system refuses.
pub(super) fn clean_up(data_dir: &Path) -> Result<(), Error> {
    let path = data_dir.join(COPY);
    files::remove(&path).map_err(Named::new(&path).io("remove"))
}

fn database_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((number("page_count")? * number("page_size")?).cast_unsigned())
}

/// The disk, which has to keep some of what is free.
struct Room<'d> {
    data_dir: &'d Path,
    free_bytes_min: u64,
}

impl Room<'_> {
    fn check(&self, needed: u64) -> Result<(), SnapshotError> {
        let free = free_bytes(self.data_dir)?;
        let needed_bytes = needed.saturating_add(self.free_bytes_min);
        if free >= needed_bytes {
            return Ok(());
        }
        Err(SnapshotError::NoSpace { needed_bytes, free_bytes: free })
    }
}

/// The file that is being filled; removed when it is dropped.
struct Copy {
    path: PathBuf,
    named: Named,
}

impl Copy {
    fn create(data_dir: &Path) -> Result<Copy, Error> {
        clean_up(data_dir)?;
        let path = data_dir.join(COPY);
        let named = Named::new(&path);
        // Made here and not by SQLite, for its mode.
        files::create_private(&path).map_err(named.io("create"))?;
        Ok(Copy { path, named })
    }

    fn fill(
        &self,
        source: &Connection,
        options: &SnapshotOptions<'_>,
        room: &Room<'_>,
    ) -> Result<(), SnapshotError> {
        let write = self.named.sql("write to");
        let mut copy = Connection::open(&self.path).map_err(self.named.sql("open"))?;
        // Nobody needs the half of it, nor after a crash.
        copy.pragma_update(None, "synchronous", "off").map_err(&write)?;
        copy.pragma_update(None, "journal_mode", "off").map_err(&write)?;
        copy.pragma_update(None, "cache_size", -2_048).map_err(&write)?;
        let deadline = Instant::now() + options.time_max;
        {
            let backup = Backup::new(source, &mut copy).map_err(&write)?;
            while backup.step(STEP_PAGES).map_err(&write)? != StepResult::Done {
                if !(options.is_wanted)() {
                    return Err(SnapshotError::Unwanted);
                }
                if Instant::now() >= deadline {
                    return Err(SnapshotError::TooSlow { time_max: options.time_max });
                }
                // What is written already is not free any more.
                room.check(0)?;
                std::thread::sleep(STEP_PAUSE);
            }
        }
        // A file alone, without a log beside it: then reading it makes no other files.
        copy.pragma_update(None, "locking_mode", "exclusive").map_err(&write)?;
        copy.pragma_update(None, "journal_mode", "delete").map_err(&write)?;
        copy.close().map_err(|(_, error)| write(error))?;
        Ok(())
    }

    fn finish(self, revision: Revision) -> Result<Snapshot, SnapshotError> {
        let file = File::open(&self.path).map_err(self.named.io("open"))?;
        let bytes = file.metadata().map_err(self.named.io("examine"))?.len();
        fs::remove_file(&self.path).map_err(self.named.io("remove"))?;
        Ok(Snapshot { file, bytes, revision })
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // Mostly it is gone; the next start tries again.
        let _ = files::remove(&self.path);
    }
}
