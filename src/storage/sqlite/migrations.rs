//! The schema, as the list of steps that made it.
//!
//! `user_version` counts the steps that a database has seen; opening runs the others in one exclusive
//! transaction, so a database is at one version or at the next and never between. A new database is
//! made under another name and renamed when it is whole, so there is no half-made one either.

use std::{fs, path::Path};

use rusqlite::{Connection, TransactionBehavior};

use super::{
    connections::set_wal,
    errors::Named,
    files::{self, beside},
};
use crate::storage::Error;

/// Marks our databases for us and for `file(1)`: "SMPH".
pub(super) const APPLICATION_ID: i32 = 0x534d_5048;

/// The newest version of the schema.
pub(super) const SCHEMA_VERSION: i64 = MIGRATIONS.len().cast_signed() as i64;

/// The tables that recovery reads, each with the version of the schema that it came with.
pub(super) const LIVE_TABLES: [(i64, &str); 6] =
    [(1, "meta"), (1, "journal"), (1, "semaphores"), (1, "claims"), (1, "cooling"), (3, "tokens")];

/// The version of the schema that the audit log came with.
pub(super) const AUDIT_VERSION: i64 = 3;

/// The steps, oldest first. **Append only**: databases in the field have run the ones that were ever
/// released, so a step that changes is a schema that nobody has.
const MIGRATIONS: [&str; 3] = [VERSION_1, VERSION_2, VERSION_3];

/// Blobs are those of [`crate::storage::encoding`], times milliseconds since 1970, durations
/// milliseconds. Revisions, sequence numbers and fences are `u64`s; half of their range is far beyond
/// reach, so SQLite's signed numbers hold them.
pub(super) const VERSION_1: &str = "
    -- One row: what the tables say without the journal. A blob, so that its checksum guards the
    -- revision and the fences too; at first zeros.
    CREATE TABLE meta (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        marks BLOB NOT NULL
    ) STRICT;
    INSERT INTO meta VALUES (1, x'010000006457984777ca2aad');

    -- A committed batch of changes; the key is the revision of its last one.
    CREATE TABLE journal (
        revision INTEGER PRIMARY KEY,
        changes BLOB NOT NULL
    ) STRICT;

    CREATE TABLE semaphores (
        name TEXT PRIMARY KEY,
        record BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE claims (
        sequence INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        claim BLOB NOT NULL
    ) STRICT;

    CREATE TABLE cooling (
        semaphore TEXT NOT NULL,
        sequence INTEGER NOT NULL,
        entry BLOB NOT NULL,
        PRIMARY KEY (semaphore, sequence)
    ) STRICT, WITHOUT ROWID;

    -- Ended claims, in columns, because people ask questions of them. permits, fences and labels are
    -- JSON objects: semaphore to permits, semaphore to fence, key to value. An id may occur again.
    CREATE TABLE history (
        sequence INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        holder TEXT,
        permits TEXT NOT NULL,
        fences TEXT,
        labels TEXT NOT NULL,
        priority INTEGER NOT NULL,
        queued_at INTEGER NOT NULL,
        granted_at INTEGER,
        ended_at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        note TEXT,
        revision INTEGER NOT NULL,
        ttl INTEGER NOT NULL,
        queue_ttl INTEGER,
        offer_ttl INTEGER NOT NULL,
        wait_timeout INTEGER,
        has_callback INTEGER NOT NULL,
        fingerprint BLOB NOT NULL
    ) STRICT;
    CREATE INDEX history_id ON history (id);
    CREATE INDEX history_ended_at ON history (ended_at);
";

/// Claims with a callback, and what came of it: JSON, `NULL` for a claim without one.
pub(super) const VERSION_2: &str = "
    ALTER TABLE history ADD COLUMN callback TEXT;
    ALTER TABLE history ADD COLUMN deliveries TEXT;
";

/// Tokens, whose claims are whose, and the audit log.
const VERSION_3: &str = "
    CREATE TABLE tokens (
        id TEXT PRIMARY KEY,
        token BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- The token's id; NULL for a claim that was made without one.
    ALTER TABLE history ADD COLUMN owner TEXT;
    -- What the job that took it over calls itself.
    ALTER TABLE history ADD COLUMN job TEXT;

    -- What was done and what was refused, in columns, because people ask questions of them. The key is the
    -- revision of the change that it is about. address is '' where there was none, for the index below.
    CREATE TABLE audit (
        revision INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        actor TEXT NOT NULL,
        token TEXT,
        token_name TEXT,
        address TEXT NOT NULL,
        action TEXT NOT NULL,
        object TEXT NOT NULL,
        old TEXT,
        new TEXT,
        reason TEXT,
        result TEXT NOT NULL,
        minute INTEGER,
        tries INTEGER
    ) STRICT;
    CREATE INDEX audit_at ON audit (at);
    -- Refused tries are one row for each minute, address and code: with each the row is written anew.
    CREATE UNIQUE INDEX audit_tries ON audit (minute, address, result) WHERE minute IS NOT NULL;
";

/// Runs the steps that the database has not seen.
///
/// # Errors
/// When a step fails; then none of them has been run.
pub(super) fn migrate(connection: &mut Connection, named: &Named) -> Result<(), Error> {
    let steps = |connection: &mut Connection| -> rusqlite::Result<()> {
        let seen: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if seen >= SCHEMA_VERSION {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
        for (_, step) in (1..).zip(MIGRATIONS).filter(|(version, _)| *version > seen) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        transaction.commit()
    };
    steps(connection).map_err(named.sql("migrate"))
}

/// Makes a new, empty database at `path`.
///
/// # Errors
/// When the system or SQLite refuses.
pub(super) fn create(path: &Path, named: &Named) -> Result<(), Error> {
    let new = beside(path, ".new");
    // What a start that did not come to its end has left.
    files::remove(&new).map_err(named.io("clean up beside"))?;
    // Made here and not by SQLite, for its mode.
    files::create_private(&new).map_err(named.io("create"))?;

    let mut connection = Connection::open(&new).map_err(named.sql("create"))?;
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(named.sql("create"))?;
    migrate(&mut connection, named)?;
    set_wal(&connection, named)?;
    connection.close().map_err(|(_, error)| named.sql("create")(error))?;

    // Whole and on disk before it has its name, and the name on disk before anybody relies on it.
    files::sync(&new)
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| path.parent().map_or(Ok(()), files::sync))
        .map_err(named.io("create"))
}
