//! A look at what is in the data directory, before anything writes to it.
//!
//! A database of somebody else, of a newer version, or with damage must stay as it is, byte by byte:
//! whoever has to repair or to downgrade needs it. So all of that is found out over a connection that
//! cannot write, and only then is the database opened for real.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use rusqlite::{Connection, OpenFlags};

use super::{
    errors::Named,
    files::beside,
    migrations::{APPLICATION_ID, LIVE_TABLES, SCHEMA_VERSION},
};
use crate::storage::Error;

/// How every SQLite database begins (file format, section 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No database yet.
    Nothing,
    /// One of ours, whole, of a schema that this version can bring up to date.
    Database,
}

/// Looks at the database at `path`; changes nothing.
///
/// # Errors
/// Whatever keeps it from being used.
pub(super) fn look(path: &Path, named: &Named) -> Result<Found, Error> {
    let log_left = has_content(&beside(path, "-wal")).map_err(named.io("examine"))?;
    let journal_left = has_content(&beside(path, "-journal")).map_err(named.io("examine"))?;
    if !has_content(path).map_err(named.io("examine"))? {
        // SQLite would replay them into whatever stands here next.
        if log_left || journal_left {
            return Err(named.damaged("its write-ahead log is here, and the database is not"));
        }
        return Ok(Found::Nothing);
    }
    let mut magic = [0; MAGIC.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut magic)) {
        Ok(()) if magic == *MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(named.io("read")(error));
        }
        Ok(()) | Err(_) => return Err(named.foreign("it does not begin as one")),
    }
    // Without a log the file alone is the database, and SQLite need not make files beside it. With one
    // it has to read both.
    let connection = open_for_reading(path, named, !log_left && !journal_left)?;
    let version = check_owner(&connection, named)?;
    check_damage(&connection, named, version)?;
    Ok(Found::Database)
}

/// Opens a database for reading whatever is wrong with it, if it says that it is ours; changes nothing.
///
/// # Errors
/// When it cannot be opened, or is somebody else's or of a newer version.
pub(super) fn open_as_it_is(path: &Path, named: &Named) -> Result<Connection, Error> {
    let examine = named.io("examine");
    let log_left = has_content(&beside(path, "-wal")).map_err(&examine)?;
    let journal_left = has_content(&beside(path, "-journal")).map_err(&examine)?;
    let connection = open_for_reading(path, named, !log_left && !journal_left)?;
    check_owner(&connection, named)?;
    Ok(connection)
}

/// Tells the version of its schema.
fn check_owner(connection: &Connection, named: &Named) -> Result<i64, Error> {
    let read = named.sql("read");
    let id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(&read)?;
    if id != APPLICATION_ID {
        return Err(named.foreign(format_args!("its application id is {id:#x}")));
    }
    let found: i64 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&read)?;
    if found > SCHEMA_VERSION {
        return Err(Error::Newer { path: named.path(), found, known: SCHEMA_VERSION });
    }
    if found < 1 {
        return Err(named.damaged(format_args!("its schema version is {found}")));
    }
    Ok(found)
}

/// Checks the pages of the live tables that a schema of this version has. Not of the history and the audit log: they
/// may be a thousand times larger, and no promise of the service depends on them.
fn check_damage(connection: &Connection, named: &Named, version: i64) -> Result<(), Error> {
    for (_, table) in LIVE_TABLES.into_iter().filter(|(since, _)| *since <= version) {
        let mut first = None;
        connection
            .pragma(None, "quick_check", table, |row| {
                first.get_or_insert(row.get::<_, String>(0)?);
                Ok(())
            })
            .map_err(named.sql("check"))?;
        match first.as_deref() {
            Some("ok") => {}
            Some(what) => return Err(named.damaged(format_args!("table {table}: {what}"))),
            None => return Err(named.damaged(format_args!("table {table} cannot be checked"))),
        }
    }
    Ok(())
}

/// Checks every page, those of the history too.
///
/// # Errors
/// When one is damaged.
pub(super) fn check_all(connection: &Connection, named: &Named) -> Result<(), Error> {
    let result: String = connection
        .pragma_query_value(None, "quick_check", |row| row.get(0))
        .map_err(named.sql("check"))?;
    if result == "ok" { Ok(()) } else { Err(named.damaged(result)) }
}

/// A connection that cannot write. `alone` says that no other process writes and no log is there; then
/// SQLite takes no locks and makes no files.
fn open_for_reading(path: &Path, named: &Named, alone: bool) -> Result<Connection, Error> {
    let immutable = if alone { "&immutable=1" } else { "" };
    let uri = format!("file:{}?mode=ro{immutable}", percent_encoded(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(uri, flags).map_err(named.sql("open"))
}

/// The path as SQLite's URIs want it: `?`, `#` and `%` would mean something else.
fn percent_encoded(path: &Path) -> String {
    let mut text = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Whether there is a file that is not empty.
pub(super) fn has_content(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len() > 0),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
