//! Putting a backup in the place of the database, with no daemon running.
//!
//! The backup is copied into the data directory, and everything is done to that copy: checked, brought up to date,
//! its journal folded, its numbers raised. Until it is ready the present database has not been touched, and a
//! refusal leaves all as it was. Then the copy gets the name [`READY`], the present database and the files beside it
//! get other names, and the copy gets the database's. Whatever a crash leaves between, a start refuses to run while
//! [`READY`] is there, and the same restore may be repeated.
//!
//! The numbers: revisions, sequence numbers and fences go on [`MARGIN`] above the highest that backup or present
//! database know. What was given out after the backup is in the present database, if it is whole and the one that
//! the backup was made of; nobody can be sure of either, so the margin is always there.
//!
//! Everything else is as the backup has it, the tokens and the audit log too, which gets a row that says so.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, Transaction};

use super::{
    DATABASE, connections,
    errors::Named,
    files::{self, SUFFIXES, beside, create_private, give_to_owner, sync},
    highest::{Highest, highest},
    history,
    live::Live,
    lock::DirectoryLock,
    look::{self, Found},
    migrations, snapshot,
};
use crate::{
    model::{Actor, AuditEntry, Base, ClaimState, Fence, Revision, Sequence, WallTime},
    storage::{
        AuditRow, Error, Recovered,
        net::{self, Edits, Marks, Net},
    },
};

/// How far above the highest number that is known the next ones begin: at 100 changes a second that of four months.
pub const MARGIN: u64 = 1_000_000_000;

/// The copy while it is worked on.
const COPY: &str = "restore.tmp";
/// The copy that only lacks its name.
const READY: &str = "restore.ready";

/// What a restore did.
///
/// Tokens are as in the backup: one that was made since is not known any more, and **one that was revoked since, or got
/// another secret, is valid again as it was**. Whoever restores has to revoke it once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The highest numbers in the backup.
    pub backup: Highest,
    /// Those in the database that was there, if there was one.
    pub present: Option<Highest>,
    /// What could not be read there.
    pub unreadable: Vec<String>,
    /// What was given out last, as the restored database has it.
    pub floors: Highest,
    /// Where the database is that was there.
    pub aside: Option<PathBuf>,
    /// Semaphores.
    pub semaphores: usize,
    /// Tokens.
    pub tokens: usize,
    /// Claims that hold permits.
    pub held: usize,
    /// Claims that permits are offered to.
    pub offered: usize,
    /// Claims that wait.
    pub waiting: usize,
}

/// Puts the backup `file` in the place of the database in `data_dir`. `check` has the last word on what is in it; `now`
/// names the database that was there.
///
/// # Errors
/// [`Error::InUse`] while a daemon runs; [`Error::Foreign`], [`Error::Newer`] and [`Error::Damaged`] are about `file`;
/// everything else is the system's.
pub fn restore(
    data_dir: &Path,
    file: &Path,
    now: WallTime,
    check: impl FnOnce(Recovered) -> Result<(), String>,
) -> Result<Restored, Error> {
    let named = Named::new(file);
    File::open(file).map_err(named.io("open"))?;
    files::data_directory(data_dir)?;
    let _lock = DirectoryLock::take(data_dir)?;
    snapshot::clean_up(data_dir)?;
    let path = data_dir.join(DATABASE);
    if is_same(file, &path) {
        return Err(named.foreign("it is the present one, which is not a backup"));
    }
    let copy = Copy::of(file, data_dir, &named)?;
    let mut connection = copy.open()?;
    let (backup, _) = highest(&connection, &named);
    let (present, unreadable) = present(&path);
    let floors = backup.max(present.unwrap_or_default()).plus(MARGIN);
    raise(&mut connection, &named, floors, now)?;
    let recovered = recovered(&connection, &named)?;
    let count = |wanted: fn(&ClaimState) -> bool| {
        recovered.base.claims.iter().filter(|claim| wanted(&claim.state)).count()
    };
    let mut restored = Restored {
        backup,
        present,
        unreadable,
        floors,
        aside: None,
        semaphores: recovered.base.semaphores.len(),
        tokens: recovered.base.tokens.len(),
        held: count(|state| matches!(state, ClaimState::Held { .. })),
        offered: count(|state| matches!(state, ClaimState::Offered { .. })),
        waiting: count(|state| matches!(state, ClaimState::Waiting)),
    };
    check(recovered).map_err(|what| named.damaged(what))?;
    connection.close().map_err(|(_, error)| named.sql("write to")(error))?;
    restored.aside = copy.put_in_place(data_dir, now)?;
    Ok(restored)
}

/// Refuses to go on where a restore was interrupted in its last step, and removes what one has left before.
///
/// # Errors
/// [`Error::RestoreInterrupted`], or when the system refuses.
pub(super) fn clean_up(data_dir: &Path) -> Result<(), Error> {
    let ready = data_dir.join(READY);
    if ready.exists() {
        return Err(Error::RestoreInterrupted { path: Named::new(&ready).path() });
    }
    remove(&data_dir.join(COPY))
}

fn is_same(file: &Path, other: &Path) -> bool {
    let of = |path| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    of(file).is_some_and(|file| of(other) == Some(file))
}

fn remove(path: &Path) -> Result<(), Error> {
    files::remove(path).map_err(Named::new(path).io("remove"))
}

/// What is highest in the database that is there; `None` where there is none.
fn present(path: &Path) -> (Option<Highest>, Vec<String>) {
    let named = Named::new(path);
    if !path.exists() {
        return (None, Vec::new());
    }
    match look::open_as_it_is(path, &named) {
        Ok(connection) => {
            let (found, unreadable) = highest(&connection, &named);
            (Some(found), unreadable)
        }
        Err(error) => (Some(Highest::default()), vec![error.to_string()]),
    }
}

/// Brings the schema up to date; then folds the journal and raises the numbers, in one transaction.
fn raise(
    connection: &mut Connection,
    named: &Named,
    floors: Highest,
    now: WallTime,
) -> Result<(), Error> {
    migrations::migrate(connection, named)?;
    let write = named.sql("write to");
    let transaction = connection.transaction().map_err(&write)?;
    let base = folded(&transaction, named)?;
    let fence = Fence(floors.fence);
    let mut semaphores = base.semaphores;
    semaphores.iter_mut().for_each(|semaphore| semaphore.fence = fence);
    let marks = Marks {
        revision: Revision(floors.revision),
        sequence: Sequence(floors.sequence),
        fence_floor: fence,
    };
    // What the audit log had since the backup is gone; at least it says so.
    let done = AuditEntry::done(Actor::Daemon, "restore", format!("backup {}", named.path()));
    let row = AuditRow { revision: marks.revision, at: now, entry: done };
    let live = Live { connection: &transaction, named };
    live.write(&Net {
        marks,
        cooling_cleared: [].into(),
        semaphores: Edits { removed: Vec::new(), upserted: semaphores },
        claims: Edits { removed: Vec::new(), upserted: Vec::new() },
        cooling: Edits { removed: Vec::new(), upserted: Vec::new() },
        tokens: Edits { removed: Vec::new(), upserted: Vec::new() },
        ended: Vec::new(),
        audit: vec![row],
    })?;
    transaction.commit().map_err(&write)
}

/// Reads all rows, so that each is decoded once, and folds the whole journal.
fn folded(transaction: &Transaction<'_>, named: &Named) -> Result<Base, Error> {
    let live = Live { connection: transaction, named };
    live.base()?;
    let unfolded = live.journal()?;
    let net = net::fold(&live, live.marks()?, unfolded.oldest(unfolded.len()))?;
    live.write(&net)?;
    history::add(transaction, named, &net)?;
    live.base()
}

fn recovered(connection: &Connection, named: &Named) -> Result<Recovered, Error> {
    let base = Live { connection, named }.base()?;
    let ended = history::ended_ids(connection, named, WallTime(0), usize::MAX)?;
    Ok(Recovered { base, journal: Vec::new(), ended })
}

/// The copy in the data directory; what is left of it is removed when it is dropped.
struct Copy<'n> {
    path: PathBuf,
    /// The backup's name: what is wrong with the copy is wrong with that.
    named: &'n Named,
}

impl<'n> Copy<'n> {
    /// Copies the backup, with the log beside it if it is the raw copy of a database, and checks it.
    fn of(file: &Path, data_dir: &Path, named: &'n Named) -> Result<Copy<'n>, Error> {
        let path = data_dir.join(COPY);
        remove(&path)?;
        let copy = Copy { path, named };
        for suffix in ["", "-wal", "-journal"] {
            let from = beside(file, suffix);
            if suffix.is_empty() || look::has_content(&from).map_err(named.io("examine"))? {
                copy_file(&from, &beside(&copy.path, suffix), data_dir)
                    .map_err(named.io("copy"))?;
            }
        }
        match look::look(&copy.path, named)? {
            Found::Database => Ok(copy),
            Found::Nothing => Err(named.foreign("it is empty")),
        }
    }

    /// Opens it as one file without a log, and checks every page.
    fn open(&self) -> Result<Connection, Error> {
        let connection = connections::alone(&self.path, self.named)?;
        look::check_all(&connection, self.named)?;
        Ok(connection)
    }

    /// The last step; tells where the database is that was there.
    fn put_in_place(self, data_dir: &Path, now: WallTime) -> Result<Option<PathBuf>, Error> {
        let (path, ready) = (data_dir.join(DATABASE), data_dir.join(READY));
        let named = Named::new(&path);
        sync(&self.path)
            .and_then(|()| fs::rename(&self.path, &ready))
            .and_then(|()| sync(data_dir))
            .map_err(named.io("restore"))?;
        let aside = set_aside(&path, now).map_err(named.io("set aside"))?;
        sync(data_dir)
            .and_then(|()| fs::rename(&ready, &path))
            .and_then(|()| sync(data_dir))
            .map_err(named.io("restore"))?;
        Ok(aside)
    }
}

impl Drop for Copy<'_> {
    fn drop(&mut self) {
        // The next start or restore tries again.
        let _ = remove(&self.path);
    }
}

/// Moves the database away with all that SQLite keeps beside it: what is left there it would replay into the next.
fn set_aside(path: &Path, now: WallTime) -> io::Result<Option<PathBuf>> {
    let found: Vec<_> = SUFFIXES.iter().filter(|suffix| beside(path, suffix).exists()).collect();
    if found.is_empty() {
        return Ok(None);
    }
    let time: String = now.to_rfc3339().replace(['-', ':'], "").split('.').take(1).collect();
    let first = beside(path, &format!(".before-restore-{time}Z"));
    let more = (2..).map(|number| beside(&first, &format!("-{number}")));
    let is_free = |aside: &PathBuf| SUFFIXES.iter().all(|suffix| !beside(aside, suffix).exists());
    let Some(aside) = [first.clone()].into_iter().chain(more).find(is_free) else {
        return Err(io::ErrorKind::AlreadyExists.into());
    };
    for suffix in found {
        fs::rename(beside(path, suffix), beside(&aside, suffix))?;
    }
    Ok(Some(aside))
}

/// Copies for the owner of the data directory alone, who need not be the one who restores.
fn copy_file(from: &Path, to: &Path, data_dir: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut to = create_private(to)?;
    give_to_owner(&to, data_dir)?;
    io::copy(&mut from, &mut to)?;
    to.sync_all()
}
