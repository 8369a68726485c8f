//! The audit log in SQLite: what its query takes, and what is in the way of a wrong answer.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    model::{Actor, AuditEntry, Note, Revision, TokenName},
    storage::{
        AuditFilter, AuditRow,
        testing::{self, acted, audit, change, refused, set, token_id},
    },
};

fn open(dir: &TempDir) -> SqliteStorage {
    let mut storage = SqliteStorage::open(dir.path(), Durability::Os).unwrap();
    storage.recover(WallTime(0), usize::MAX).unwrap();
    storage
}

/// A storage whose audit log has these entries, that of revision 1 first, at a second each.
fn with(entries: &[AuditEntry]) -> (TempDir, SqliteStorage) {
    let dir = testing::private_dir();
    let mut storage = open(&dir);
    let changes: Vec<_> = (1..)
        .zip(entries)
        .map(|(revision, entry)| change(revision, vec![audit(entry.clone())]))
        .collect();
    storage.append(&changes).unwrap();
    while storage.fold(Duration::from_secs(1)).unwrap().changes_left > 0 {}
    (dir, storage)
}

fn all() -> AuditFilter {
    AuditFilter { rows_max: usize::MAX, ..AuditFilter::default() }
}

/// Texts in which a wildcard, a quote, a zero or a letter's case would make a difference.
const TEXTS: [&str; 12] = [
    "",
    "*",
    "%",
    "_oken",
    "token",
    "token.set",
    "set",
    "TOKEN.set",
    "tok\0en",
    "tök",
    "'--",
    "to?",
];

fn text() -> impl Strategy<Value = String> {
    prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned)
}

fn actor() -> impl Strategy<Value = Actor> {
    let token = prop::sample::select(vec!["root", "farm"]).prop_map(|id| Actor::Token {
        id: token_id(id),
        name: TokenName::new("some name").unwrap(),
    });
    prop_oneof![token, Just(Actor::Anonymous), Just(Actor::Configuration), Just(Actor::Daemon)]
}

fn entry() -> impl Strategy<Value = AuditEntry> {
    let address = prop::sample::select(vec!["192.0.2.1", "::1", "::ffff:192.0.2.1"]);
    let counted = (address, 0_i64..3, 1_u32..9);
    let values =
        (actor(), text(), text(), text(), prop::option::of(text()), prop::option::of(counted));
    values.prop_map(|(actor, action, object, result, old, counted)| {
        let reason = old.as_ref().map(|_| Note::new("because").unwrap());
        let (old, new) = (old.clone().map(Into::into), old.map(Into::into));
        let entry = AuditEntry { old, new, reason, ..acted(actor, &action, &object) };
        match counted {
            Some((address, minute, count)) => {
                let counted = refused(address, &result, minute, count);
                AuditEntry {
                    address: counted.address,
                    tries: counted.tries,
                    result: counted.result,
                    ..entry
                }
            }
            None => AuditEntry { result: result.into(), ..entry },
        }
    })
}

fn filter() -> impl Strategy<Value = AuditFilter> {
    let action = prop_oneof![text(), text().prop_map(|text| text + "*")];
    let actor = prop_oneof![actor().prop_map(|actor| actor.as_str().to_owned()), text()];
    let time = || {
        let second = (0_i64..60).prop_map(|second| second * 1_000);
        prop::option::of(prop_oneof![8 => second, 1 => Just(i64::MIN), 1 => Just(i64::MAX)])
    };
    (
        prop::option::of(prop_oneof![0_u64..60, Just(u64::MAX)]),
        (time(), time()),
        prop::option::weighted(0.3, prop::sample::select(vec!["root", "farm", "else"])),
        prop::option::weighted(0.3, actor),
        prop::option::weighted(0.5, action),
        prop::option::weighted(0.2, text()),
        prop::option::weighted(0.2, text()),
        prop_oneof![Just(usize::MAX), 0_usize..4],
    )
        .prop_map(
            |(before, (since, until), token, actor, action, object, result, rows_max)| {
                AuditFilter {
                    before: before.map(Revision),
                    since: since.map(WallTime),
                    until: until.map(WallTime),
                    token: token.map(token_id),
                    actor,
                    action,
                    object,
                    result,
                    rows_max,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_query_takes_what_the_filter_takes(
        entries in prop::collection::vec(entry(), 1..60),
        filters in prop::collection::vec(filter(), 1..60),
    ) {
        let (_dir, storage) = with(&entries);
        let history = storage.history();
        let rows = history.audit(&all()).unwrap();
        // What is read is what was written, but for what was replaced.
        let mut seen = Vec::<AuditRow>::new();
        for (revision, entry) in (1_u64..60).zip(&entries).collect::<Vec<_>>().into_iter().rev() {
            let at = WallTime(i64::try_from(revision).unwrap() * 1_000);
            let row = AuditRow { revision: Revision(revision), at, entry: entry.clone() };
            if !seen.iter().any(|newer| newer.replaces(&row)) {
                seen.push(row);
            }
        }
        prop_assert_eq!(&rows, &seen);
        for filter in &filters {
            let taken: Vec<_> =
                rows.iter().filter(|row| filter.takes(row)).take(filter.rows_max).cloned().collect();
            prop_assert_eq!(history.audit(filter).unwrap(), taken, "{:?}", filter);
        }
    }
}

/// More rows than one step looks at, by pages and for something rare.
#[test]
fn a_long_log_is_read_in_steps() {
    const ROWS: u64 = 10_000;
    let entries: Vec<_> = (1..=ROWS)
        .map(|n| acted(Actor::Daemon, if n % 4_000 == 1 { "rare" } else { "often" }, "x"))
        .collect();
    let (_dir, storage) = with(&entries);
    let history = storage.history();
    let revisions = |filter: &AuditFilter| -> Vec<u64> {
        history.audit(filter).unwrap().iter().map(|row| row.revision.0).collect()
    };
    assert_eq!(revisions(&all()), (1..=ROWS).rev().collect::<Vec<_>>());
    let rare = AuditFilter { action: Some("ra*".into()), rows_max: 2, ..all() };
    assert_eq!(revisions(&rare), [8_001, 4_001]);
    let next = AuditFilter { before: Some(Revision(4_001)), ..rare };
    assert_eq!(revisions(&next), [1]);
    let mut page = AuditFilter { rows_max: 999, ..all() };
    let mut paged = Vec::new();
    loop {
        let rows = revisions(&page);
        let Some(last) = rows.last() else { break };
        page.before = Some(Revision(*last));
        paged.extend(rows);
    }
    assert_eq!(paged, (1..=ROWS).rev().collect::<Vec<_>>());
}

#[test]
fn the_oldest_rows_are_pruned_by_their_index() {
    let (_dir, mut storage) = with(&vec![acted(Actor::Daemon, "a", "b"); 50]);
    let plan = |sql: &str| -> String {
        let mut statement =
            storage.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = statement.query_map([], |row| row.get::<_, String>(3)).unwrap();
        steps.collect::<Result<Vec<_>, _>>().unwrap().join("; ")
    };
    let plan = plan("SELECT revision FROM audit WHERE at < 9 ORDER BY at, revision LIMIT 9");
    assert!(plan.contains("audit_at") && !plan.contains("TEMP"), "{plan}");
    assert_eq!(storage.prune_audit(WallTime(20_000), 15).unwrap(), 15);
    let left: BTreeSet<_> =
        storage.history().audit(&all()).unwrap().iter().map(|row| row.revision.0).collect();
    assert_eq!(left, (16..=50).collect());
    assert_eq!(storage.prune_audit(WallTime(20_000), 15).unwrap(), 4);
    assert_eq!(storage.prune_audit(WallTime(20_000), 15).unwrap(), 0);
}

#[test]
fn a_row_that_says_nonsense_is_told_and_harms_nothing_else() {
    for (sql, expected) in [
        ("UPDATE audit SET actor = 'nobody'", "an actor"),
        ("UPDATE audit SET token = 'root'", "an actor"),
        ("UPDATE audit SET actor = 'token', token = 'x', token_name = 'x'", "4 to 32"),
        ("UPDATE audit SET address = 'here'", "an address"),
        ("UPDATE audit SET tries = 5", "tries without"),
    ] {
        let (dir, storage) = with(&[acted(Actor::Daemon, "a", "b")]);
        storage.connection.execute(sql, []).unwrap();
        let error = storage.history().audit(&all()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        drop(storage);
        open(&dir).append(&[change(2, vec![set("a", 1)])]).unwrap();
    }
}
