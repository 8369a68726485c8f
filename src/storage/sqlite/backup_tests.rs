//! Backups and restores at the level of files: what is in a copy, what bounds it, and what a restore does to a
//! data directory in every state.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::*;
use crate::{
    model::{Change, Fence, Revision, Sequence},
    storage::{
        AuditFilter, Recovered, Snapshot, SnapshotError, SnapshotOptions,
        testing::{self, World, change, granted, queued, set},
    },
};

const NOW: WallTime = WallTime(1_795_492_253_120);

fn dir() -> TempDir {
    testing::private_dir()
}

fn open(dir: &Path) -> SqliteStorage {
    let mut storage = SqliteStorage::open(dir, Durability::Os).unwrap();
    storage.recover(WallTime(0), usize::MAX).unwrap();
    storage
}

fn choices() -> Vec<u32> {
    (0..2_000_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect()
}

fn changes() -> Vec<Change> {
    World::from_choices(&choices()).changes
}

fn options(is_wanted: &dyn Fn() -> bool) -> SnapshotOptions<'_> {
    SnapshotOptions { free_bytes_min: 0, time_max: Duration::from_secs(60), is_wanted }
}

fn snapshot(storage: &SqliteStorage) -> Snapshot {
    storage.history().snapshot(&options(&|| true)).unwrap()
}

fn save(snapshot: &Snapshot, path: &Path) {
    let mut bytes = vec![0; usize::try_from(snapshot.bytes).unwrap()];
    snapshot.file.read_exact_at(&mut bytes, 0).unwrap();
    fs::write(path, bytes).unwrap();
}

fn restored(dir: &Path, file: &Path) -> Result<(Restored, Recovered), Error> {
    let mut found = None;
    let restored = restore(dir, file, NOW, |recovered| {
        found = Some(recovered);
        Ok(())
    })?;
    Ok((restored, found.unwrap()))
}

fn content(dir: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| {
        let name = entry.file_name().into_string().unwrap();
        name != "lock" && !name.ends_with("-shm")
    });
    files.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect()
}

/// What a test made is its owner's alone, as what the daemon makes.
fn protect(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
}

/// A directory whose daemon was killed, with a backup made half-way; tells the backup's last change.
fn killed_after_backup() -> (TempDir, PathBuf, u64) {
    let dir = dir();
    let data = dir.path().join("data");
    let mut storage = open(&data);
    let changes = changes();
    let (early, late) = changes.split_at(900);
    storage.append(&early[..500]).unwrap();
    storage.fold(Duration::from_secs(1)).unwrap();
    storage.append(&early[500..]).unwrap();
    let file = dir.path().join("backup.db");
    save(&snapshot(&storage), &file);
    storage.append(late).unwrap();
    let killed = dir.path().join("killed");
    fs::create_dir(&killed).unwrap();
    for (name, bytes) in content(&data) {
        fs::write(killed.join(name), bytes).unwrap();
    }
    protect(&killed);
    drop(storage);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&killed, &data).unwrap();
    (dir, file, early.last().unwrap().revision.0)
}

#[test]
fn a_copy_has_tables_and_journal_of_one_moment() {
    let dir = dir();
    let mut storage = open(&dir.path().join("data"));
    let changes = changes();
    storage.append(&changes[..700]).unwrap();
    storage.fold(Duration::from_secs(1)).unwrap();
    storage.append(&changes[700..900]).unwrap();
    let copy = snapshot(&storage);
    assert_eq!(copy.revision, changes[899].revision);
    storage.append(&changes[900..]).unwrap();
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    save(&copy, &other.join(DATABASE));
    protect(&other);
    // In a mode in which reading it makes no file beside it.
    assert_eq!(fs::read(other.join(DATABASE)).unwrap()[18..20], [1, 1]);
    let found = SqliteStorage::open(&other, Durability::Os)
        .unwrap()
        .recover(WallTime(0), usize::MAX)
        .unwrap();
    let last = found.journal.last().map_or(found.base.revision, |change| change.revision);
    assert_eq!(last, copy.revision);
    assert!(!dir.path().join("data/backup.tmp").exists());
}

#[test]
fn copying_is_private_bounded_and_leaves_nothing() {
    // Several megabytes: more than one step.
    const LAST: u64 = 50_000;
    let dir = dir();
    let data = dir.path().join("data");
    let mut storage = open(&data);
    let long = "x".repeat(40);
    let batch: Vec<_> =
        (1..=LAST).map(|n| change(n, vec![set(&format!("s{n}-{long}"), 1)])).collect();
    storage.append(&batch).unwrap();
    let file = data.join("backup.tmp");
    let mode = || {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        false
    };
    let history = storage.history();
    let given_up = history.snapshot(&options(&mode)).unwrap_err();
    assert!(matches!(given_up, SnapshotError::Unwanted), "{given_up}");
    let late = SnapshotOptions { time_max: Duration::ZERO, ..options(&|| true) };
    let late = history.snapshot(&late).unwrap_err();
    assert!(matches!(late, SnapshotError::TooSlow { .. }), "{late}");
    let full = SnapshotOptions { free_bytes_min: u64::MAX, ..options(&|| true) };
    let full = history.snapshot(&full).unwrap_err();
    assert!(matches!(full, SnapshotError::NoSpace { .. }), "{full}");
    assert!(!file.exists());
    // The writer commits in the middle of it.
    let writer = std::cell::RefCell::new(&mut storage);
    let next = std::cell::Cell::new(LAST + 1);
    let commit = || {
        let change = change(next.get(), vec![set("late", 1)]);
        writer.borrow_mut().append(&[change]).unwrap();
        next.set(next.get() + 1);
        true
    };
    let copy = history.snapshot(&options(&commit)).unwrap();
    assert!(next.get() > LAST + 1);
    assert_eq!(copy.revision, Revision(LAST));
}

#[test]
fn what_a_crash_leaves_of_a_copy_goes_at_the_next_start() {
    let dir = dir();
    let names = ["backup.tmp", "backup.tmp-journal", "restore.tmp", "restore.tmp-wal"];
    for name in names {
        fs::write(dir.path().join(name), "half").unwrap();
    }
    open(dir.path());
    for name in names {
        assert!(!dir.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_restore_goes_back_in_state_and_never_in_numbers() {
    let (dir, file, backed_up) = killed_after_backup();
    let data = dir.path().join("data");
    let before = content(&data);
    assert!(before.contains_key(&OsString::from("semaphored.db-wal")));
    let (restored, recovered) = restored(&data, &file).unwrap();
    let present = restored.present.unwrap();
    assert_eq!(restored.backup.revision, backed_up);
    assert_eq!(present.revision, changes().last().unwrap().revision.0);
    assert_eq!(restored.floors, present.max(restored.backup).plus(MARGIN));
    assert_eq!(restored.unreadable, Vec::<String>::new());
    assert!(present.fence > restored.backup.fence && present.sequence > restored.backup.sequence);
    // What was there is aside, with its log, byte by byte.
    let aside = restored.aside.unwrap();
    assert_eq!(aside, data.join("semaphored.db.before-restore-20261124T035053Z"));
    let after = content(&data);
    for (name, bytes) in before.iter().filter(|(_, bytes)| !bytes.is_empty()) {
        let name =
            name.to_str().unwrap().replace(DATABASE, aside.file_name().unwrap().to_str().unwrap());
        assert!(after[&OsString::from(&name)] == *bytes, "{name}");
    }
    assert!(!after.contains_key(&OsString::from("semaphored.db-wal")));
    // A start finds what was checked, and goes on above.
    let mut storage = SqliteStorage::open(&data, Durability::Os).unwrap();
    let found = storage.recover(WallTime(0), usize::MAX).unwrap();
    assert_eq!(found, recovered);
    assert_eq!(found.base.revision, Revision(restored.floors.revision));
    assert_eq!(found.base.sequence, Sequence(restored.floors.sequence));
    assert_eq!(found.base.fence_floor, Fence(restored.floors.fence));
    assert!(found.base.semaphores.iter().all(|s| s.fence == found.base.fence_floor));
    let (next, claim) = (restored.floors.revision + 1, restored.floors.sequence + 1);
    let semaphore = found.base.semaphores[0].name.as_str();
    let events =
        vec![queued("new", claim, &[(semaphore, 1)]), granted(claim, &[restored.floors.fence + 1])];
    storage.append(&[change(next, events)]).unwrap();
    storage.fold(Duration::from_secs(1)).unwrap();
}

/// Tokens, owners and the audit log are those of the backup: a token that was revoked since is valid again.
#[test]
fn a_restore_brings_tokens_and_audit_log_back() {
    let (dir, file, backed_up) = killed_after_backup();
    let data = dir.path().join("data");
    let (restored, recovered) = restored(&data, &file).unwrap();
    let early = World::from_choices(&choices()[..1_800]);
    assert_eq!(early.changes.last().unwrap().revision.0, backed_up);
    let tokens: Vec<_> = early.tables.tokens.values().cloned().collect();
    assert!(!tokens.is_empty());
    assert_eq!((recovered.base.tokens, restored.tokens), (tokens, early.tables.tokens.len()));
    let late = World::from_choices(&choices()).tables.tokens;
    assert_ne!(late, early.tables.tokens);
    let history = open(&data).history();
    let filter = AuditFilter { rows_max: usize::MAX, ..AuditFilter::default() };
    let rows: Vec<_> = early.tables.audit.values().rev().cloned().collect();
    assert_eq!(history.audit(&filter).unwrap(), rows);
    for claim in early.tables.history.values().filter(|claim| claim.owner.is_some()) {
        let newest = history.ended_claim(&claim.id).unwrap().unwrap();
        assert_eq!(early.tables.history[&newest.sequence], newest);
    }
}

/// The database that was set aside is a raw copy with its log: it may be restored as it is.
#[test]
fn a_restore_can_be_taken_back() {
    let (dir, file, _) = killed_after_backup();
    let data = dir.path().join("data");
    let (first, _) = restored(&data, &file).unwrap();
    let (second, _) = restored(&data, &first.aside.unwrap()).unwrap();
    assert_eq!(second.backup, first.present.unwrap());
    assert!(second.floors.revision >= first.floors.revision + MARGIN);
    let found = content(&data)
        .into_keys()
        .filter(|name| name.to_str().unwrap().contains("before-restore-20261124T035053Z-2"));
    assert_eq!(found.count(), 1, "the second has a name of its own");
}

#[test]
fn a_damaged_or_missing_database_is_no_obstacle() {
    for damage in [0, 1, 2] {
        let (dir, file, backed_up) = killed_after_backup();
        let data = dir.path().join("data");
        match damage {
            0 => {
                fs::write(data.join(DATABASE), [7; 20_000]).unwrap();
                fs::remove_file(data.join("semaphored.db-wal")).unwrap();
            }
            1 => {
                // The first page alone is left.
                let path = data.join(DATABASE);
                let mut bytes = fs::read(&path).unwrap();
                bytes[4_096..].fill(0x55);
                fs::write(&path, bytes).unwrap();
                fs::remove_file(data.join("semaphored.db-wal")).unwrap();
            }
            _ => fs::remove_dir_all(&data).unwrap(),
        }
        let (restored, _) = restored(&data, &file).unwrap();
        assert_eq!(restored.backup.revision, backed_up);
        assert!(restored.floors.revision >= backed_up + MARGIN);
        assert_eq!(restored.unreadable.is_empty(), damage == 2, "{:?}", restored.unreadable);
        assert_eq!(restored.aside.is_none(), damage == 2);
        assert!(!open(&data).has_written);
    }
}

#[test]
fn a_file_that_is_no_good_changes_nothing() {
    let (dir, file, _) = killed_after_backup();
    let data = dir.path().join("data");
    let before = content(&data);
    let good = fs::read(&file).unwrap();
    let bad = dir.path().join("bad.db");
    let refuse = |bytes: &[u8], expected: &str| {
        fs::write(&bad, bytes).unwrap();
        let error = restored(&data, &bad).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(error.contains("bad.db"), "{error}");
        assert!(content(&data) == before, "{expected}");
    };
    refuse(b"", "it is empty");
    refuse(b"our licences: 5\n", "does not begin as one");
    refuse(&good[..good.len() / 2], "is damaged");
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&1_000_u32.to_be_bytes());
    refuse(&newer, "schema version 1000");
    let mut foreign = good.clone();
    foreign[68..72].fill(0);
    refuse(&foreign, "application id is 0x0");
    let mut torn = good.clone();
    torn[4_096..4_096 + 64].fill(0xff);
    refuse(&torn, "is damaged");
    // Whatever one byte does: it is refused, or makes no difference but for a floor that is higher: in the history and
    // the audit log numbers stand in columns, without a checksum.
    let good_state = {
        let other = self::dir();
        restored(other.path(), &file).unwrap().1
    };
    for at in (100..good.len()).step_by(997) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x24;
        fs::write(&bad, bytes).unwrap();
        let other = self::dir();
        if let Ok((_, mut recovered)) = restored(other.path(), &bad) {
            let (base, good) = (&mut recovered.base, &good_state.base);
            assert!(base.revision >= good.revision && base.sequence >= good.sequence, "byte {at}");
            (base.revision, base.sequence) = (good.revision, good.sequence);
            assert_eq!(base, good, "byte {at}");
        }
    }
    let last = restore(&data, &file, NOW, |_| Err("a rule is broken".to_owned())).unwrap_err();
    assert!(last.to_string().contains("a rule is broken"), "{last}");
    assert!(content(&data) == before);
    let itself = restored(&data, &data.join(DATABASE)).unwrap_err().to_string();
    assert!(itself.contains("is the present one"), "{itself}");
}

#[test]
fn a_running_daemon_is_not_restored_under_its_feet() {
    let (dir, file, _) = killed_after_backup();
    let data = dir.path().join("data");
    let storage = open(&data);
    assert!(matches!(restored(&data, &file), Err(Error::InUse { .. })));
    drop(storage);
    assert!(restored(&data, &file).is_ok());
}

/// A crash in the last step: nothing starts on what is half in place, and the restore can be repeated.
#[test]
fn an_interrupted_restore_is_told_and_repeated() {
    let (dir, file, _) = killed_after_backup();
    let data = dir.path().join("data");
    fs::write(data.join("restore.ready"), "whatever").unwrap();
    for moved in [false, true] {
        if moved {
            for (name, _) in content(&data) {
                if name.to_str().unwrap().starts_with(DATABASE) {
                    fs::remove_file(data.join(name)).unwrap();
                }
            }
        }
        let error = SqliteStorage::open(&data, Durability::Os).err().unwrap();
        assert!(matches!(error, Error::RestoreInterrupted { .. }), "{error}");
    }
    restored(&data, &file).unwrap();
    open(&data);
}
