//! Databases as older versions made them: they open, nothing is lost, and what is new is empty.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use super::*;
use crate::{
    model::{Actor, Base, Claim, ClaimEvent, Event, Fence, Revision, Sequence},
    storage::{
        AuditFilter,
        encoding::frozen::ROWS_V2,
        testing::{self, acted, audit, change, ended, granted, queued, set, token, token_id},
    },
};

/// Frozen: rows as version 1 wrote them: a journal row, whose bytes are those of its encoding, and one of the history.
const VERSION_1_ROWS: &str = "
    INSERT INTO journal VALUES (2, x'010201d00f030001610500ac020080a3050000780000000000000002017801010161020000ffac02\
        00000180cab5ee0101901c00015a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\
        5a5a5a5a5a03010101010002a01f0103010400000101613c008740d92c9ff204a3');
    INSERT INTO history VALUES (9, 'old', NULL, '{\"a\":1}', '{\"a\":1}', '{}', 0, 1000, 1500, 2000, 'released',
        NULL, 1, 300000, 120000, 60000, NULL, 0, zeroblob(32));
";

/// A directory with a database of an older version: these steps of the schema, and these rows.
fn database(steps: &[&str], rows: &str) -> TempDir {
    let dir = testing::private_dir();
    let path = dir.path().join(DATABASE);
    let connection = Connection::open(&path).unwrap();
    steps.iter().for_each(|step| connection.execute_batch(step).unwrap());
    connection.pragma_update(None, "application_id", 0x534d_5048).unwrap();
    connection.pragma_update(None, "user_version", i64::try_from(steps.len()).unwrap()).unwrap();
    connection.execute_batch(rows).unwrap();
    drop(connection);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    dir
}

fn open(dir: &TempDir) -> (SqliteStorage, Recovered) {
    let mut storage = SqliteStorage::open(dir.path(), Durability::Os).unwrap();
    let recovered = storage.recover(WallTime(0), usize::MAX).unwrap();
    (storage, recovered)
}

fn ended_claim(storage: &SqliteStorage, id: &str) -> Claim {
    storage.history().ended_claim(&testing::id(id)).unwrap().unwrap()
}

/// Frozen: how databases of version 1 were made.
#[test]
fn a_database_of_version_1_opens() {
    let dir = database(&[migrations::VERSION_1], VERSION_1_ROWS);
    let changes = [
        change(1, vec![set("a", 5), queued("x", 1, &[("a", 2)]), granted(1, &[1])]),
        change(2, vec![ended(1, &[("a", 60)])]),
    ];
    let (mut storage, found) = open(&dir);
    assert_eq!(found.journal, changes);
    let old = ended_claim(&storage, "old");
    assert_eq!((old.sequence, old.callback, old.owner), (Sequence(9), None, None));
    storage.fold(Duration::from_secs(1)).unwrap();
    drop(storage);
    let (storage, found) = open(&dir);
    assert_eq!(found.base.semaphores[0].fence, Fence(1));
    assert_eq!(ended_claim(&storage, "x").sequence, Sequence(1));
}

/// Frozen: rows as version 2 wrote them: one of the history, and a journal row, whose bytes are those of its encoding.
const VERSION_2_ROWS: &str = "
    INSERT INTO history VALUES (9, 'old', NULL, '{\"a\":1}', '{\"a\":1}', '{}', 0, 1000, 1500, 2000, 'released',
        NULL, 1, 300000, 120000, 60000, NULL, 1, zeroblob(32), '{\"url\":\"https://hooks.example/\"}',
        '[{\"started_at_ms\":1200,\"duration_ms\":5,\"status\":204}]');
    INSERT INTO journal VALUES (90122, x'02018ac005a09cf95503032a0200020178ad02010161020000ffac0200000180cab5ee0101901c00015a\
        5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a03ad020101ed4400996276\
        d8d30c1993');
";

/// A database of version 2 with a row in each table: those whose bytes are frozen, the claim as it is offered.
fn version_2() -> TempDir {
    let rows = [
        format!("UPDATE meta SET marks = x'{}'", ROWS_V2[2]),
        format!("INSERT INTO semaphores VALUES ('a', x'{}')", ROWS_V2[0]),
        format!("INSERT INTO cooling VALUES ('a', 41, x'{}')", ROWS_V2[1]),
        format!("INSERT INTO claims VALUES (42, '7f3c', x'{}')", ROWS_V2[8]),
        VERSION_2_ROWS.to_owned(),
    ];
    database(&[migrations::VERSION_1, migrations::VERSION_2], &rows.join(";"))
}

#[test]
fn a_database_of_version_2_opens_and_goes_on() {
    let dir = version_2();
    let (mut storage, found) = open(&dir);
    let (semaphore, claims, cooling) = testing::live_rows();
    let offered = testing::with_callback(claims[1].clone());
    let base = Base {
        revision: Revision(90_121),
        sequence: Sequence(300),
        fence_floor: Fence(9),
        semaphores: vec![semaphore],
        claims: vec![offered],
        cooling: vec![cooling],
        tokens: vec![],
    };
    assert_eq!(found.base, base);
    let confirmed =
        Event::Claim { sequence: Sequence(42), event: ClaimEvent::Confirmed { hold_until: None } };
    let events = vec![confirmed, queued("x", 301, &[("a", 2)]), granted(301, &[8_813])];
    assert_eq!(found.journal, [change(90_122, events)]);
    let old = ended_claim(&storage, "old");
    assert_eq!(old.callback.map(|record| record.deliveries.len()), Some(1));
    assert_eq!(old.owner, None);
    let everything = AuditFilter { rows_max: usize::MAX, ..AuditFilter::default() };
    assert_eq!(storage.history().audit(&everything).unwrap(), []);

    // And has what is new from now on.
    let root = token("root", "admin");
    let owner = ClaimEvent::OwnerSet { token: root.id.clone() };
    let done = acted(Actor::Daemon, "token.create", "token root");
    let events = vec![
        Event::TokenSet { token: root.clone().into() },
        audit(done.clone()),
        Event::Claim { sequence: Sequence(42), event: owner },
        ended(42, &[]),
    ];
    storage.append(&[change(90_123, events)]).unwrap();
    storage.fold(Duration::from_secs(1)).unwrap();
    drop(storage);
    let (storage, found) = open(&dir);
    assert_eq!(found.base.tokens, [Arc::new(root)]);
    assert_eq!(ended_claim(&storage, "7f3c").owner, Some(token_id("root")));
    let rows = storage.history().audit(&everything).unwrap();
    assert_eq!(rows.iter().map(|row| &row.entry).collect::<Vec<_>>(), [&done]);
}

/// A backup of an older version, over a database of an older version: neither is damaged for what it does not have.
#[test]
fn an_older_backup_is_restored_over_an_older_database() {
    let (backup, present) = (version_2(), version_2());
    let file = backup.path().join(DATABASE);
    let restored = restore(present.path(), &file, WallTime(0), |_| Ok(())).unwrap();
    assert_eq!(restored.unreadable, Vec::<String>::new());
    assert_eq!((restored.backup.revision, restored.tokens), (90_122, 0));
    assert_eq!(restored.present, Some(restored.backup));
    let (_, found) = open(&present);
    assert_eq!((found.base.claims.len(), found.base.tokens.len()), (2, 0));
}
