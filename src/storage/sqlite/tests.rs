//! What is particular to the database file: who may open it, and what happens when it is not right.

use std::{
    collections::BTreeMap, ffi::OsString, fs, os::unix::fs::PermissionsExt, path::Path, process,
};

use tempfile::TempDir;

use super::*;
use crate::{
    model::Revision,
    storage::{
        encoding,
        testing::{self, World, change, set},
    },
};

fn dir() -> TempDir {
    testing::private_dir()
}

fn open(dir: &TempDir) -> Result<SqliteStorage, Error> {
    SqliteStorage::open(dir.path(), Durability::Os)
}

fn recover(storage: &mut SqliteStorage) -> Result<Recovered, Error> {
    storage.recover(WallTime(0), usize::MAX)
}

/// Opens and recovers, and stops cleanly.
fn recovered(dir: &TempDir) -> Result<Recovered, Error> {
    recover(&mut open(dir)?)
}

/// The database and what SQLite keeps beside it, but for what it makes anew (the index of the log) and
/// what says nothing (an empty log).
fn content(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name != "lock" && !name.ends_with("-shm")
    });
    files
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .filter(|(_, bytes)| !bytes.is_empty())
        .collect()
}

/// A world with some of everything.
fn world() -> World {
    let choices: Vec<u32> = (0..2_000_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect();
    World::from_choices(&choices)
}

/// A directory with a database that was stopped cleanly: some of the world folded, some in the journal.
fn filled() -> TempDir {
    let dir = dir();
    let mut storage = open(&dir).unwrap();
    recover(&mut storage).unwrap();
    let world = world();
    let (early, late) = world.changes.split_at(800);
    storage.append(early).unwrap();
    while storage.fold(Duration::from_secs(1)).unwrap().changes_left > 0 {}
    for batch in late.chunks(30) {
        storage.append(batch).unwrap();
    }
    dir
}

/// What a kill would leave: the files as they are while the storage is open.
fn killed(dir: &TempDir) -> TempDir {
    let copy = self::dir();
    for (name, bytes) in content(dir.path()) {
        let path = copy.path().join(name);
        fs::write(&path, bytes).unwrap();
    }
    protect(&copy);
    copy
}

/// Files that a test made, for their owner alone as the daemon makes them.
fn protect(dir: &TempDir) {
    for entry in fs::read_dir(dir.path()).unwrap() {
        let owner_only = fs::Permissions::from_mode(0o600);
        fs::set_permissions(entry.unwrap().path(), owner_only).unwrap();
    }
}

/// Opening must fail like this and change nothing.
fn refused(dir: &TempDir, expected: &str) {
    protect(dir);
    let before = content(dir.path());
    let error = recovered(dir).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
    assert_eq!(content(dir.path()), before);
}

fn execute(dir: &TempDir, sql: &str) {
    Connection::open(dir.path().join(DATABASE)).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn only_a_fold_is_not_synced() {
    const FULL: i64 = 2;
    let dir = dir();
    let mut storage = SqliteStorage::open(dir.path(), Durability::Full).unwrap();
    recover(&mut storage).unwrap();
    let synchronous = |storage: &SqliteStorage| -> i64 {
        storage.connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap()
    };
    assert_eq!(synchronous(&storage), FULL);
    storage.append(&[change(1, vec![set("a", 1)])]).unwrap();
    let folded = storage.fold(Duration::from_secs(1)).unwrap();
    assert_eq!((folded.changes_left, synchronous(&storage)), (0, FULL));
}

#[test]
fn a_kill_at_any_time_leaves_all_that_was_appended() {
    let dir = dir();
    let mut storage = open(&dir).unwrap();
    recover(&mut storage).unwrap();
    // The first start, and nothing was written yet.
    assert_eq!(recovered(&killed(&dir)).unwrap(), Recovered::default());
    let changes = world().changes;
    storage.append(&changes[..40]).unwrap();
    let copy = killed(&dir);
    assert!(content(copy.path()).contains_key(&OsString::from("semaphored.db-wal")));
    assert_eq!(recovered(&copy).unwrap().journal, changes[..40]);

    // A fold that stops inside a batch.
    storage.fold_changes = 16;
    assert_eq!(storage.fold(Duration::ZERO).unwrap().changes_left, 24);
    for found in [recovered(&killed(&dir)), {
        drop(storage);
        recovered(&dir)
    }] {
        let found = found.unwrap();
        assert_eq!(found.base.revision, Revision(16));
        assert_eq!(found.journal, changes[16..40]);
    }
}

#[test]
fn only_the_owner_can_read() {
    let parent = dir();
    let data_dir = parent.path().join("made/here");
    let storage = SqliteStorage::open(&data_dir, Durability::Full).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data_dir), 0o700);
    for entry in fs::read_dir(&data_dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
    }
    assert!(storage.history().free_bytes().unwrap().unwrap() > 0);
}

#[test]
fn what_others_can_read_is_refused_and_left_as_it_is() {
    let dir = killed(&filled());
    let check = |path: &Path, loose: u32, tight: u32| {
        let set = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(loose);
        let error = open(&dir).err().expect("it must be refused").to_string();
        let shown = format!("{} has mode {loose:04o}, so other users", path.display());
        assert!(error.starts_with(&shown), "{error}");
        assert!(error.contains(&format!("chmod {tight:04o} {}", path.display())), "{error}");
        set(tight);
    };
    for loose in [0o755, 0o750, 0o701, 0o710] {
        check(dir.path(), loose, 0o700);
    }
    for (name, _) in content(dir.path()) {
        for loose in [0o644, 0o640, 0o606, 0o620] {
            check(&dir.path().join(&name), loose, 0o600);
        }
    }
    assert!(recovered(&dir).is_ok());
}

#[test]
fn the_second_process_is_told_who_was_first() {
    let dir = dir();
    let first = open(&dir).unwrap();
    match open(&dir) {
        Err(Error::InUse { pid, .. }) => assert_eq!(pid, Some(process::id())),
        other => panic!("{:?}", other.err()),
    }
    drop(first);
    assert!(open(&dir).is_ok());
}

#[test]
fn nothing_is_written_before_recovery() {
    let dir = dir();
    let mut storage = open(&dir).unwrap();
    assert!(storage.append(&[change(1, vec![set("a", 1)])]).is_err());
    assert!(storage.fold(Duration::ZERO).is_err());
    assert!(storage.prune(WallTime(0), 1).is_err());
    assert_eq!(recover(&mut storage).unwrap(), Recovered::default());
}

#[test]
fn newer_and_foreign_files_are_left_alone() {
    let newer = filled();
    execute(&newer, "PRAGMA user_version = 1000");
    refused(&newer, "schema version 1000");

    let text = dir();
    fs::write(text.path().join(DATABASE), "our licences: 5 of FlexLM-Riviera\n").unwrap();
    refused(&text, "does not begin as one");

    for mode in ["wal", "delete"] {
        let other = dir();
        execute(&other, &format!("PRAGMA journal_mode = {mode}; CREATE TABLE theirs (a);"));
        refused(&other, "application id is 0x0");
    }

    // The same with a log beside it: what counts is in there.
    let logged = dir();
    let theirs = Connection::open(logged.path().join(DATABASE)).unwrap();
    theirs.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE theirs (a);").unwrap();
    refused(&killed(&logged), "application id is 0x0");

    let orphan = dir();
    fs::write(orphan.path().join("semaphored.db-wal"), "x").unwrap();
    refused(&orphan, "the database is not");
}

#[test]
fn an_empty_file_is_no_database_yet() {
    let dir = dir();
    fs::write(dir.path().join(DATABASE), "").unwrap();
    fs::write(dir.path().join("semaphored.db.new"), "a start that was killed").unwrap();
    protect(&dir);
    assert_eq!(recovered(&dir).unwrap(), Recovered::default());
    assert!(!dir.path().join("semaphored.db.new").exists());
}

#[test]
fn a_file_cut_short_is_refused() {
    let dir = filled();
    let path = dir.path().join(DATABASE);
    let len = fs::metadata(&path).unwrap().len();
    for cut in [len - 4_096, len - 4_196, len / 2, 4_096, 1_000] {
        let copy = killed(&dir);
        let file = fs::File::options().write(true).open(copy.path().join(DATABASE)).unwrap();
        file.set_len(cut).unwrap();
        refused(&copy, "is damaged");
    }
}

/// Flips one byte here and there. Whatever it hits (there is unused space in pages, and the history is
/// not checked), the live data come back as they were or not at all.
#[test]
fn a_flipped_byte_is_noticed_or_does_not_matter() {
    let dir = filled();
    let good = recovered(&dir).unwrap();
    let before = content(dir.path());
    let path = dir.path().join(DATABASE);
    let len = fs::metadata(&path).unwrap().len();
    let mut refusals = 0;
    for at in (0..len).step_by(499).chain(0..100) {
        let mut bytes = before[&OsString::from(DATABASE)].clone();
        bytes[usize::try_from(at).unwrap()] ^= 0x24;
        let damaged = self::dir();
        fs::write(damaged.path().join(DATABASE), &bytes).unwrap();
        match recovered(&damaged) {
            Ok(found) => {
                assert_eq!(found.base, good.base, "byte {at}");
                assert_eq!(found.journal, good.journal, "byte {at}");
            }
            Err(_) => {
                refusals += 1;
                let left = &content(damaged.path())[&OsString::from(DATABASE)];
                assert!(*left == bytes, "byte {at}: the file was changed");
            }
        }
    }
    assert!(refusals > 20, "{refusals}");
}

/// Damage that only recovery can see, in the log of a process that was killed.
#[test]
fn damage_found_late_leaves_the_log_in_its_place() {
    let dir = dir();
    let mut storage = open(&dir).unwrap();
    recover(&mut storage).unwrap();
    storage.append(&[change(1, vec![set("a", 1)])]).unwrap();
    let other = encoding::encode_changes(&[change(9, vec![set("a", 2)])]).unwrap();
    let sql = "INSERT INTO journal VALUES (?, ?)";
    storage.connection.execute(sql, rusqlite::params![2, other]).unwrap();
    let copy = killed(&dir);
    assert_eq!(content(copy.path()).len(), 2);
    refused(&copy, "the batch of changes in row 2 does not belong there");
}

/// What is wrong may show only to the service, once all was read: it closes without a write.
#[test]
fn files_stay_as_they_are_until_the_first_write() {
    let stopped = filled();
    execute(&stopped, "PRAGMA journal_mode = delete");
    let mut running = open(&stopped).unwrap();
    let backup = killed(&stopped);
    recover(&mut running).unwrap();
    running.prune(WallTime(0), 1).unwrap();
    running.append(&[change(100_000, vec![set("new", 1)])]).unwrap();
    let crashed = killed(&stopped);
    for (found, files) in [(backup, 1), (crashed, 2)] {
        let before = content(found.path());
        assert_eq!(before.len(), files);
        recovered(&found).unwrap();
        assert!(content(found.path()) == before, "{files} files have changed");
    }
}

#[test]
fn tables_and_journal_that_do_not_belong_together_are_damage() {
    let zeros = dir();
    let mut storage = open(&zeros).unwrap();
    recover(&mut storage).unwrap();
    let marks: Vec<u8> =
        storage.connection.query_row("SELECT marks FROM meta", [], |row| row.get(0)).unwrap();
    assert_eq!(encoding::decode(&marks), Ok(net::Marks::default()));

    let check = |sql: &str, expected| {
        let dir = filled();
        execute(&dir, sql);
        refused(&dir, expected);
    };
    check("DELETE FROM meta", "no marks");
    let old = marks.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    check(&format!("UPDATE meta SET marks = x'{old}'"), "does not belong there");
    check("UPDATE claims SET id = 'other' WHERE id = 'id4'", "does not belong there");
    check("UPDATE tokens SET id = 'other' WHERE id = 'root'", "the token in row 2 does not belong");
    check("UPDATE journal SET revision = revision + 1 WHERE revision = 1000", "not belong there");
    // The same changes again, at the end.
    let again = "INSERT INTO journal SELECT 1000, changes FROM journal WHERE revision = 830";
    check(&format!("DELETE FROM journal WHERE revision = 1000; {again}"), "not belong there");
}

#[test]
fn a_step_of_the_fold_follows_its_budget() {
    let ms = Duration::from_millis;
    assert_eq!(next_step(256, 256, ms(1), ms(20)), 512);
    assert_eq!(next_step(256, 10, ms(1), ms(20)), 256);
    assert_eq!(next_step(1_000, 1_000, ms(30), ms(20)), 500);
    assert_eq!(next_step(1_000, 1_000, ms(20), ms(20)), 750);
    assert_eq!(next_step(256, 256, ms(1), ms(0)), FOLD_CHANGES_MIN);
    assert_eq!(next_step(16_000, 16_000, ms(0), ms(20)), FOLD_CHANGES_MAX);
}
