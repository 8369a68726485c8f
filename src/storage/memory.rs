//! Storage in memory: for tests, and for whoever embeds the service and needs nothing after a restart.
//!
//! A [`MemoryDisk`] is what would survive; a [`MemoryStorage`] works on it. To "crash", a test drops the
//! storage and opens the disk again. The fold is the same pure function that the real storage uses.
//!
//! Locking: one mutex around the whole content, held for one call, never across calls. Nothing keeps
//! two storages off one disk; that is the caller's to see to.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    AuditFilter, AuditRow, Base, Error, Folded, History, Recovered, Snapshot, SnapshotError,
    SnapshotOptions, Storage,
    journal::Unfolded,
    net::{self, Edits, Marks, Net, Rows},
};
use crate::model::{
    Change, Claim, ClaimId, ClaimState, Cooling, EndReason, EndedId, IdHash, Revision,
    SemaphoreName, SemaphoreRecord, Sequence, Token, TokenId, WallTime,
};

/// Changes that one fold takes at most.
const FOLD_CHANGES_MAX: usize = 256;

/// What is "on disk". Clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    content: Arc<Mutex<Content>>,
}

#[derive(Default)]
struct Content {
    tables: Tables,
    journal: Unfolded,
    next_append: NextAppend,
}

#[derive(Clone, Copy, Default)]
enum NextAppend {
    #[default]
    Works,
    Fails {
        batch_kept: bool,
    },
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// A storage on this disk, as after a start of the process.
    #[must_use]
    pub fn open(&self) -> MemoryStorage {
        MemoryStorage { disk: self.clone(), failed: false }
    }

    /// Makes the next append fail, with the batch on disk or not: after a real failure nobody knows.
    pub fn fail_next_append(&self, batch_kept: bool) {
        self.content.lock().next_append = NextAppend::Fails { batch_kept };
    }
}

/// A [`Storage`] on a [`MemoryDisk`].
pub struct MemoryStorage {
    disk: MemoryDisk,
    failed: bool,
}

impl MemoryStorage {
    fn check(&self, action: &'static str) -> Result<(), Error> {
        if self.failed { Err(failure(action, "an append failed before")) } else { Ok(()) }
    }
}

impl Storage for MemoryStorage {
    fn recover(&mut self, ended_since: WallTime, ended_max: usize) -> Result<Recovered, Error> {
        self.check("recover")?;
        let content = self.disk.content.lock();
        Ok(Recovered {
            base: content.tables.base(),
            journal: content.journal.to_vec(),
            ended: content.tables.ended_ids(ended_since, ended_max),
        })
    }

    fn append(&mut self, changes: &[Change]) -> Result<(), Error> {
        self.check("append to")?;
        let mut content = self.disk.content.lock();
        if let Err(what) = content.journal.check(changes) {
            self.failed = true;
            return Err(failure("append to", what));
        }
        let fate = std::mem::take(&mut content.next_append);
        if !matches!(fate, NextAppend::Fails { batch_kept: false }) {
            content.journal.extend(changes.iter().cloned());
        }
        if matches!(fate, NextAppend::Fails { .. }) {
            self.failed = true;
            return Err(failure("append to", "a test made it fail"));
        }
        Ok(())
    }

    fn fold(&mut self, _budget: Duration) -> Result<Folded, Error> {
        self.check("fold the journal of")?;
        let content = &mut *self.disk.content.lock();
        let changes = content.journal.oldest(FOLD_CHANGES_MAX);
        let net = net::fold(&content.tables, content.tables.marks, changes)?;
        let revision = net.marks.revision;
        content.tables.apply(net);
        content.journal.folded_to(revision);
        Ok(Folded { revision, changes_left: content.journal.len() })
    }

    fn prune(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error> {
        self.check("prune the history of")?;
        Ok(self.disk.content.lock().tables.prune(before, rows_max))
    }

    fn prune_audit(&mut self, before: WallTime, rows_max: usize) -> Result<usize, Error> {
        self.check("prune the audit log of")?;
        Ok(self.disk.content.lock().tables.prune_audit(before, rows_max))
    }

    fn history(&self) -> Arc<dyn History> {
        Arc::new(self.disk.clone())
    }
}

impl History for MemoryDisk {
    fn ended_claim(&self, id: &ClaimId) -> Result<Option<Claim>, Error> {
        let content = self.content.lock();
        let mut newest_first = content.tables.history.values().rev();
        Ok(newest_first.find(|claim| claim.id == *id).cloned())
    }

    fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, Error> {
        let content = self.content.lock();
        let newest_first = content.tables.audit.values().rev();
        let taken = newest_first.filter(|row| filter.takes(row));
        Ok(taken.take(filter.rows_max).cloned().collect())
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }

    fn snapshot(&self, _: &SnapshotOptions<'_>) -> Result<Snapshot, SnapshotError> {
        Err(SnapshotError::Unsupported)
    }
}

fn failure(action: &'static str, what: impl Into<String>) -> Error {
    Error::Database { action, path: "memory".into(), what: what.into() }
}

/// The tables, as sorted maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tables {
    pub(super) marks: Marks,
    pub(super) semaphores: BTreeMap<SemaphoreName, SemaphoreRecord>,
    pub(super) claims: BTreeMap<Sequence, Claim>,
    pub(super) cooling: BTreeMap<(SemaphoreName, Sequence), Cooling>,
    pub(super) tokens: BTreeMap<TokenId, Arc<Token>>,
    pub(super) history: BTreeMap<Sequence, Claim>,
    pub(super) audit: BTreeMap<Revision, AuditRow>,
}

impl Tables {
    pub(super) fn apply(&mut self, net: Net) {
        self.marks = net.marks;
        self.cooling.retain(|(semaphore, _), _| !net.cooling_cleared.contains(semaphore));
        edit(&mut self.semaphores, net.semaphores, |row| row.name.clone());
        edit(&mut self.claims, net.claims, |row| row.sequence);
        edit(&mut self.cooling, net.cooling, |row| (row.semaphore.clone(), row.sequence));
        edit(&mut self.tokens, net.tokens, |row| row.id.clone());
        for row in net.audit {
            if row.entry.tries.is_some() {
                self.audit.retain(|_, older| !row.replaces(older));
            }
            self.audit.insert(row.revision, row);
        }
        self.history.extend(net.ended.into_iter().map(|claim| (claim.sequence, claim)));
    }

    pub(super) fn base(&self) -> Base {
        Base {
            revision: self.marks.revision,
            sequence: self.marks.sequence,
            fence_floor: self.marks.fence_floor,
            semaphores: self.semaphores.values().cloned().collect(),
            claims: self.claims.values().cloned().collect(),
            cooling: self.cooling.values().cloned().collect(),
            tokens: self.tokens.values().cloned().collect(),
        }
    }

    fn ended_ids(&self, since: WallTime, ids_max: usize) -> Vec<EndedId> {
        let mut ends: Vec<_> = self.ends().filter(|(ended_at, ..)| *ended_at >= since).collect();
        ends.sort_by_key(|(ended_at, sequence, ..)| Reverse((*ended_at, *sequence)));
        ends.truncate(ids_max);
        let id = |(ended_at, _, reason, claim): (_, _, _, &Claim)| EndedId {
            hash: IdHash::of(&claim.id),
            reason,
            ended_at,
        };
        ends.into_iter().rev().map(id).collect()
    }

    fn prune(&mut self, before: WallTime, rows_max: usize) -> usize {
        let mut ends: Vec<_> = self
            .ends()
            .filter(|(ended_at, ..)| *ended_at < before)
            .map(|(ended_at, sequence, ..)| (ended_at, sequence))
            .collect();
        ends.sort();
        ends.truncate(rows_max);
        for (_, sequence) in &ends {
            self.history.remove(sequence);
        }
        ends.len()
    }

    fn prune_audit(&mut self, before: WallTime, rows_max: usize) -> usize {
        let old = self.audit.values().filter(|row| row.at < before);
        let mut old: Vec<_> = old.map(|row| (row.at, row.revision)).collect();
        old.sort();
        old.truncate(rows_max);
        for (_, revision) in &old {
            self.audit.remove(revision);
        }
        old.len()
    }

    fn ends(&self) -> impl Iterator<Item = (WallTime, Sequence, EndReason, &Claim)> {
        self.history.values().filter_map(|claim| match &claim.state {
            ClaimState::Ended { reason, ended_at, .. } => {
                Some((*ended_at, claim.sequence, *reason, claim))
            }
            _ => None,
        })
    }
}

impl From<Base> for Tables {
    fn from(base: Base) -> Tables {
        let Base { revision, sequence, fence_floor, .. } = base;
        let cooling = base.cooling.into_iter();
        Tables {
            marks: Marks { revision, sequence, fence_floor },
            semaphores: base.semaphores.into_iter().map(|row| (row.name.clone(), row)).collect(),
            claims: base.claims.into_iter().map(|row| (row.sequence, row)).collect(),
            cooling: cooling.map(|row| ((row.semaphore.clone(), row.sequence), row)).collect(),
            tokens: base.tokens.into_iter().map(|row| (row.id.clone(), row)).collect(),
            history: BTreeMap::new(),
            audit: BTreeMap::new(),
        }
    }
}

fn edit<K: Ord, V>(rows: &mut BTreeMap<K, V>, edits: Edits<K, V>, key: impl Fn(&V) -> K) {
    for removed in edits.removed {
        rows.remove(&removed);
    }
    rows.extend(edits.upserted.into_iter().map(|row| (key(&row), row)));
}

impl Rows for Tables {
    fn claim(&self, sequence: Sequence) -> Result<Option<Claim>, Error> {
        Ok(self.claims.get(&sequence).cloned())
    }

    fn semaphore(&self, name: &SemaphoreName) -> Result<Option<SemaphoreRecord>, Error> {
        Ok(self.semaphores.get(name).cloned())
    }

    fn cooling(
        &self,
        semaphore: &SemaphoreName,
        sequence: Sequence,
    ) -> Result<Option<Cooling>, Error> {
        Ok(self.cooling.get(&(semaphore.clone(), sequence)).cloned())
    }

    fn token(&self, id: &TokenId) -> Result<Option<Arc<Token>>, Error> {
        Ok(self.tokens.get(id).cloned())
    }

    fn damaged(&self, what: String) -> Error {
        Error::Damaged { path: "memory".into(), what }
    }
}
