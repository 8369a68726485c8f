//! What every storage does: one suite, run against each.

use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::{
    AuditFilter, AuditRow, Error, Recovered, Storage,
    memory::{MemoryDisk, Tables},
    net,
    sqlite::{Durability, SqliteStorage},
    testing::{self, World, acted, audit, change, ended, granted, id, queued, refused, set},
};
use crate::model::{
    Actor, Change, ClaimState, EndReason, EndedId, Event, IdHash, Revision, Sequence, WallTime,
};

const SOON: Duration = Duration::from_millis(20);

/// Where a storage lives; opening it again is what a restart does.
trait Place {
    fn open(&self) -> Box<dyn Storage>;
}

impl Place for MemoryDisk {
    fn open(&self) -> Box<dyn Storage> {
        Box::new(MemoryDisk::open(self))
    }
}

impl Place for TempDir {
    fn open(&self) -> Box<dyn Storage> {
        Box::new(SqliteStorage::open(self.path(), Durability::Os).unwrap())
    }
}

fn everywhere(check: impl Fn(&dyn Place)) {
    check(&MemoryDisk::new());
    check(&testing::private_dir());
}

fn recover(storage: &mut dyn Storage) -> Recovered {
    storage.recover(WallTime(0), usize::MAX).unwrap()
}

fn recovered(place: &dyn Place) -> (Box<dyn Storage>, Recovered) {
    let mut storage = place.open();
    let recovered = recover(&mut *storage);
    (storage, recovered)
}

fn fold_all(storage: &mut dyn Storage) -> Revision {
    loop {
        let folded = storage.fold(SOON).unwrap();
        if folded.changes_left == 0 {
            return folded.revision;
        }
    }
}

fn audit_log(storage: &dyn Storage) -> Vec<AuditRow> {
    let filter = AuditFilter { rows_max: usize::MAX, ..AuditFilter::default() };
    storage.history().audit(&filter).unwrap()
}

fn ended_id(claim: &crate::model::Claim) -> EndedId {
    let ClaimState::Ended { reason, ended_at, .. } = claim.state else { panic!("{claim:?}") };
    EndedId { hash: IdHash::of(&claim.id), reason, ended_at }
}

fn sorted(mut ids: Vec<EndedId>) -> Vec<EndedId> {
    ids.sort_by_key(|id| (id.ended_at, id.hash));
    ids
}

/// What recovery comes to, however much of it was folded.
fn effective(recovered: Recovered) -> (super::Base, Vec<EndedId>) {
    let Recovered { base, journal, mut ended } = recovered;
    let mut tables = Tables::from(base);
    let net = net::fold(&tables, tables.marks, &journal).unwrap();
    ended.extend(net.ended.iter().map(ended_id));
    tables.apply(net);
    (tables.base(), sorted(ended))
}

fn expected(world: &World) -> (super::Base, Vec<EndedId>) {
    (world.tables.base(), sorted(world.tables.history.values().map(ended_id).collect()))
}

/// Three claims of the same id that held, cooled and ended at 3, 5 and 7 seconds, and one that lives.
fn three_ends() -> Vec<Change> {
    vec![
        change(1, vec![set("a", 5)]),
        change(2, vec![queued("x", 1, &[("a", 2)]), granted(1, &[1])]),
        change(3, vec![ended(1, &[("a", 60)])]),
        change(4, vec![queued("x", 2, &[("a", 1)]), granted(2, &[2])]),
        change(5, vec![ended(2, &[])]),
        change(6, vec![queued("x", 3, &[("a", 1)])]),
        change(7, vec![ended(3, &[]), queued("y", 4, &[("a", 1)])]),
    ]
}

#[test]
fn a_new_storage_is_empty() {
    everywhere(|place| assert_eq!(recovered(place).1, Recovered::default()));
}

#[test]
fn what_was_appended_comes_back() {
    let choices: Vec<u32> = (0..600_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect();
    let changes = World::from_choices(&choices).changes;
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        for batch in changes.chunks(7) {
            storage.append(batch).unwrap();
        }
        storage.append(&[]).unwrap();
        drop(storage);
        let (_, found) = recovered(place);
        assert_eq!(found.base, super::Base::default());
        assert_eq!(found.journal, changes);
    });
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Append(usize),
    Fold,
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1_usize..60).prop_map(Step::Append),
        3 => Just(Step::Fold),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 1..16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn appends_folds_and_crashes_in_any_order_lose_nothing(
        choices in prop::collection::vec(any::<u32>(), 0..600),
        steps in steps(),
    ) {
        let world = World::from_choices(&choices);
        everywhere(|place| {
            let mut rest = world.changes.as_slice();
            let (mut storage, _) = recovered(place);
            for step in &steps {
                match step {
                    Step::Append(most) => {
                        let (batch, later) = rest.split_at((*most).min(rest.len()));
                        storage.append(batch).unwrap();
                        rest = later;
                    }
                    // No time at all: the steps become as small as they get.
                    Step::Fold => drop(storage.fold(Duration::ZERO).unwrap()),
                    Step::Crash => {
                        drop(storage);
                        storage = recovered(place).0;
                    }
                }
            }
            storage.append(rest).unwrap();
            drop(storage);
            let (mut storage, found) = recovered(place);
            assert_eq!(effective(found), expected(&world));
            let last = fold_all(&mut *storage);
            assert_eq!(last, world.tables.marks.revision);
            drop(storage);
            let (storage, found) = recovered(place);
            assert!(found.journal.is_empty());
            assert_eq!(effective(found), expected(&world));
            for claim in world.tables.history.values() {
                let newest = storage.history().ended_claim(&claim.id).unwrap().unwrap();
                assert_eq!(world.tables.history[&newest.sequence], newest);
                assert!(newest.sequence >= claim.sequence);
            }
            let rows: Vec<_> = world.tables.audit.values().rev().cloned().collect();
            assert_eq!(audit_log(&*storage), rows);
        });
    }
}

#[test]
fn ended_ids_are_the_newest_oldest_first() {
    let end = |seconds: i64| EndedId {
        hash: IdHash::of(&id("x")),
        reason: EndReason::Released,
        ended_at: WallTime(seconds * 1_000),
    };
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        storage.append(&three_ends()).unwrap();
        assert_eq!(recover(&mut *storage).ended, []);
        fold_all(&mut *storage);
        drop(storage);
        let mut storage = place.open();
        let mut ended = |since, most| storage.recover(WallTime(since), most).unwrap().ended;
        assert_eq!(ended(0, 9), [end(3), end(5), end(7)]);
        assert_eq!(ended(0, 2), [end(5), end(7)]);
        assert_eq!(ended(5_000, 9), [end(5), end(7)]);
        assert_eq!(ended(5_001, 9), [end(7)]);
    });
}

#[test]
fn the_newest_claim_of_an_id_is_found_and_old_ones_are_pruned() {
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        let history = storage.history();
        storage.append(&three_ends()).unwrap();
        assert_eq!(history.ended_claim(&id("x")).unwrap(), None);
        fold_all(&mut *storage);
        let newest = || history.ended_claim(&id("x")).unwrap().map(|claim| claim.sequence);
        assert_eq!(newest(), Some(Sequence(3)));
        assert_eq!(history.ended_claim(&id("y")).unwrap(), None);
        assert_eq!(storage.prune(WallTime(3_000), 10).unwrap(), 0);
        assert_eq!(storage.prune(WallTime(7_001), 2).unwrap(), 2);
        assert_eq!(newest(), Some(Sequence(3)));
        assert_eq!(storage.prune(WallTime(7_001), 2).unwrap(), 1);
        assert_eq!(newest(), None);
    });
}

#[test]
fn tokens_come_back_in_the_order_of_their_ids() {
    let set = |id: &str, name: &str| Event::TokenSet { token: testing::token(id, name).into() };
    let changes = [
        change(1, vec![set("zebra", "one"), set("apes", "two")]),
        change(2, vec![set("lion", "three"), set("zebra", "four")]),
        change(3, vec![Event::TokenRevoked { id: testing::token_id("lion") }]),
    ];
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        for change in &changes {
            storage.append(std::slice::from_ref(change)).unwrap();
            fold_all(&mut *storage);
        }
        drop(storage);
        let tokens = recovered(place).1.base.tokens;
        let names: Vec<_> = tokens.iter().map(|t| (t.id.as_str(), t.name.as_str())).collect();
        assert_eq!(names, [("apes", "two"), ("zebra", "four")]);
    });
}

#[test]
fn a_row_of_tries_replaces_the_one_before_and_old_rows_are_pruned() {
    let noted = |revision, entry| change(revision, vec![audit(entry)]);
    let tries = |minute, count| refused("192.0.2.1", "unauthorized", minute, count);
    let done = || acted(Actor::Daemon, "token.create", "token root");
    let changes = [
        noted(1, done()),
        noted(2, tries(0, 1)),
        noted(3, tries(0, 5)),
        noted(4, done()),
        noted(5, tries(0, 7)),
        noted(6, tries(1, 1)),
    ];
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        let mut at_times = Vec::new();
        for change in &changes {
            storage.append(std::slice::from_ref(change)).unwrap();
            fold_all(&mut *storage);
            at_times.push(audit_log(&*storage).len());
        }
        assert_eq!(at_times, [1, 2, 2, 3, 3, 4]);
        let counts = |storage: &dyn Storage| -> Vec<_> {
            let rows = audit_log(storage).into_iter();
            rows.map(|row| (row.revision.0, row.entry.tries.map(|t| t.count))).collect()
        };
        assert_eq!(counts(&*storage), [(6, Some(1)), (5, Some(7)), (4, None), (1, None)]);
        assert_eq!(storage.prune_audit(WallTime(1_000), 9).unwrap(), 0);
        assert_eq!(storage.prune_audit(WallTime(5_001), 2).unwrap(), 2);
        assert_eq!(counts(&*storage), [(6, Some(1)), (5, Some(7))]);
        assert_eq!(storage.prune_audit(WallTime(5_001), 2).unwrap(), 1);
        assert_eq!(storage.prune(WallTime(9_000), 9).unwrap(), 0);
        assert_eq!(counts(&*storage), [(6, Some(1))]);
    });
}

#[test]
fn revisions_that_do_not_follow_are_refused_for_good() {
    everywhere(|place| {
        let (mut storage, _) = recovered(place);
        let changes = three_ends();
        storage.append(&changes).unwrap();
        let error = storage.append(&changes[6..]).unwrap_err();
        assert!(error.to_string().contains("revision 7 comes after 7"), "{error}");
        assert!(storage.append(&[change(8, vec![set("a", 1)])]).is_err());
        assert!(storage.fold(SOON).is_err());
        drop(storage);
        assert_eq!(recovered(place).1.journal, changes);
    });
}

#[test]
fn a_failed_append_is_final_whatever_is_on_disk() {
    for (kept, left) in [(false, 0), (true, 1)] {
        let disk = MemoryDisk::new();
        let (mut storage, _) = recovered(&disk);
        disk.fail_next_append(kept);
        let batch = [change(1, vec![set("a", 1)])];
        assert!(matches!(storage.append(&batch), Err(Error::Database { .. })));
        assert!(storage.append(&[change(2, vec![set("a", 1)])]).is_err());
        assert_eq!(recovered(&disk).1.journal.len(), left);
    }
}
