//! The two connections to the database, and their settings with the reasons.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{Durability, errors::Named};
use crate::storage::Error;

/// The connection that writes.
pub(super) fn writer(
    path: &Path,
    named: &Named,
    durability: Durability,
) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(named.sql("open"))?;
    writer_settings(&connection, durability).map_err(named.sql("configure"))?;
    Ok(connection)
}

/// Prepares the first write. Whoever writes has read the data and found them good, so from here on the files
/// may change: a restored backup is in another mode than ours, and closing may move the log into the
/// database.
pub(super) fn begin_writing(connection: &Connection, named: &Named) -> Result<(), Error> {
    set_wal(connection, named)?;
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
        .map(|_| ())
        .map_err(named.sql("configure"))
}

/// Readers and the writer go on beside each other, and a commit is one write and one sync. The database
/// remembers the mode.
pub(super) fn set_wal(connection: &Connection, named: &Named) -> Result<(), Error> {
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(named.sql("configure"))?;
    if mode == "wal" {
        return Ok(());
    }
    Err(named.database("configure", "its file system has no shared memory (is it NFS?)"))
}

/// Whether the next commits are synced. A fold need not be: it moves what is safe already, and if a power cut
/// takes it away, the journal is as before. The log is one file, so the next synced commit has it synced too.
pub(super) fn set_synced(
    connection: &Connection,
    named: &Named,
    durability: Durability,
) -> Result<(), Error> {
    connection
        .pragma_update(None, "synchronous", synchronous(durability))
        .map_err(named.sql("configure"))
}

fn synchronous(durability: Durability) -> &'static str {
    match durability {
        Durability::Full => "full",
        Durability::Os => "normal",
    }
}

fn writer_settings(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    // Until the first write closing must not touch the database file either: see `begin_writing`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    // A backup may lock the database for moments; longer than this is an error like any other.
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "synchronous", synchronous(durability))?;
    // Moves the log into the database every 4 MiB: often enough that one move is short (it delays the
    // next commit), seldom enough that pages written many times, as the journal's are, move once.
    connection.pragma_update(None, "wal_autocheckpoint", 1_000)?;
    // A long reader lets the log grow; afterwards the file shrinks to this again.
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    // The live tables of tens of thousands of claims.
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.set_prepared_statement_cache_capacity(32);
    shared_settings(connection)
}

/// A connection that only reads, beside the writing one.
pub(super) fn reader(path: &Path, named: &Named) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(named.sql("open"))?;
    reader_settings(&connection).map_err(named.sql("configure"))?;
    Ok(connection)
}

/// A connection to a database that nobody else uses, and that is one file from here on, without a log.
pub(super) fn alone(path: &Path, named: &Named) -> Result<Connection, Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(named.sql("open"))?;
    let settings = || -> rusqlite::Result<()> {
        shared_settings(&connection)?;
        connection.pragma_update(None, "locking_mode", "exclusive")?;
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "full")
    };
    settings().map_err(named.sql("configure"))?;
    Ok(connection)
}

fn reader_settings(connection: &Connection) -> rusqlite::Result<()> {
    // In WAL mode readers wait for nobody, except while the log is recovered.
    connection.busy_timeout(Duration::from_secs(1))?;
    connection.pragma_update(None, "cache_size", -2_048)?;
    shared_settings(connection)
}

fn shared_settings(connection: &Connection) -> rusqlite::Result<()> {
    // Sorting happens in memory: the unit may have no other directory to write to.
    connection.pragma_update(None, "temp_store", "memory")?;
    // No memory map: a read error of the disk would be a SIGBUS instead of an error.
    connection.pragma_update(None, "mmap_size", 0)?;
    // Finds a damaged page when it is read and not when something odd comes out of it.
    connection.pragma_update(None, "cell_size_check", true)?;
    // The schema is data too; it may not call functions.
    connection.pragma_update(None, "trusted_schema", false)
}
