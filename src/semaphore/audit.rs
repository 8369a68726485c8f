//! The audit log: what was done is in the same change as the act; refused tries are gathered first.
//!
//! A refused try changes nothing, and whoever makes many of them must not fill the disk. So tries with the same code from
//! the same address within a minute are one row, which is written at most every few seconds with their number so far, and
//! there are at most [`TRIES_MAX`] such rows a minute and [`TRIES_OF_DAY_MAX`] a day; more are counted under no address. Of
//! IPv6 the network is the address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Refusal, Seen, Service, Shared, claims::unreadable, core::Command, state::State};
use crate::{
    model::{AuditEntry, Event, Revision, Tries, WallTime, network_of},
    storage::{AuditFilter, AuditRow, History},
};

/// Rows of refused tries in a minute, and in a day: some 4 MB, whoever tries what.
const TRIES_MAX: usize = 1_000;
const TRIES_OF_DAY_MAX: usize = 10_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// Of which minute, from which address, with which code.
type TryKey = (WallTime, Option<IpAddr>, Box<str>);

/// What is not in the tables yet.
#[derive(Default)]
pub(super) struct AuditTail {
    /// Committed or about to be, and not folded. A change has one row at most.
    rows: BTreeMap<Revision, AuditRow>,
    /// Which of them is the one about these tries.
    tries_rows: BTreeMap<TryKey, Revision>,
    tries: BTreeMap<TryKey, Tried>,
    /// How many different tries there were in a minute.
    of_minute: (WallTime, usize),
    /// The same of a day, since the start.
    of_day: (WallTime, usize),
}

struct Tried {
    /// The last one.
    entry: AuditEntry,
    count: u32,
    is_noted: bool,
}

impl AuditTail {
    /// Keeps the rows of a change until they are folded.
    pub(super) fn keep(&mut self, revision: Revision, at: WallTime, events: &[Event]) {
        let entries = events.iter().filter_map(|event| match event {
            Event::Audit { entry } => Some((**entry).clone()),
            _ => None,
        });
        for entry in entries {
            // As in the table: one row for each address, code and minute.
            let older = try_key(&entry).and_then(|key| self.tries_rows.insert(key, revision));
            older.map(|older| self.rows.remove(&older));
            self.rows.insert(revision, AuditRow { revision, at, entry });
        }
    }

    /// Goes on with counting tries that were counted before a restart, given the newest rows in the tables.
    pub(super) fn resume(&mut self, folded: &[AuditRow], now: WallTime) {
        let minute = minute_of(now);
        let mut tries = BTreeMap::new();
        for row in folded.iter().chain(self.rows.values()) {
            let Some(key) = try_key(&row.entry).filter(|key| key.0 == minute) else { continue };
            let count = row.entry.tries.map_or(0, |tries| tries.count);
            tries.insert(key, Tried { entry: row.entry.clone(), count, is_noted: true });
        }
        self.of_minute = (minute, tries.len());
        self.tries = tries;
    }

    /// What is folded up to `revision` is found in the history.
    pub(super) fn forget(&mut self, revision: Revision) {
        while self.rows.first_key_value().is_some_and(|(first, _)| *first <= revision) {
            let Some((first, row)) = self.rows.pop_first() else { return };
            if let Some(key) = try_key(&row.entry)
                && self.tries_rows.get(&key) == Some(&first)
            {
                self.tries_rows.remove(&key);
            }
        }
    }

    fn note(&mut self, entry: AuditEntry, now: WallTime) {
        let (minute, day) = (minute_of(now), begin(now, DAY_MS));
        if self.of_minute.0 != minute {
            self.of_minute = (minute, 0);
        }
        if self.of_day.0 != day {
            self.of_day = (day, 0);
        }
        // Whoever has one IPv6 address has a network of them.
        let mut key = (minute, entry.address.map(network_of), entry.result.clone());
        if !self.tries.contains_key(&key) {
            self.of_minute.1 += 1;
            self.of_day.1 += 1;
            if self.of_minute.1 > TRIES_MAX || self.of_day.1 > TRIES_OF_DAY_MAX {
                key.1 = None;
            }
        }
        let entry = AuditEntry { address: key.1, ..entry };
        let count = self.tries.get(&key).map_or(0, |tried| tried.count).saturating_add(1);
        self.tries.insert(key, Tried { entry, count, is_noted: false });
    }

    /// Rows that say something new. What belongs to a minute that is over is forgotten then.
    fn take_news(&mut self, now: WallTime) -> Vec<AuditEntry> {
        let mut news = Vec::new();
        for ((minute, ..), tried) in self.tries.iter_mut().filter(|(_, tried)| !tried.is_noted) {
            tried.is_noted = true;
            let tries = Some(Tries { minute: *minute, count: tried.count });
            news.push(AuditEntry { tries, ..tried.entry.clone() });
        }
        self.tries.retain(|(minute, ..), _| now.0 - minute.0 < MINUTE_MS);
        news
    }
}

fn minute_of(at: WallTime) -> WallTime {
    begin(at, MINUTE_MS)
}

/// When the time that is so long began.
fn begin(at: WallTime, time_ms: i64) -> WallTime {
    WallTime(at.0 - at.0.rem_euclid(time_ms))
}

/// Which tries a row is about, if it is about any.
fn try_key(entry: &AuditEntry) -> Option<TryKey> {
    entry.tries_key().map(|(minute, address, code)| (minute, address, code.into()))
}

/// The newest rows in the tables, for [`AuditTail::resume`]: as many as there can be of this minute, and as many beside them.
/// No filter: one that finds little makes its way through a year of rows, and a start must not wait for that, nor fail.
pub(super) fn newest_rows(history: &dyn History) -> Vec<AuditRow> {
    let newest = AuditFilter { rows_max: 2 * TRIES_MAX, ..AuditFilter::default() };
    history.audit(&newest).unwrap_or_else(|error| {
        log::warn!("refused tries of this minute are counted from zero on: {error}");
        Vec::new()
    })
}

impl Service {
    /// Notes a try that was refused. The entry's `result` is the code. While the disk is nearly full nothing is noted that
    /// anybody can have written.
    pub fn note_refused(&self, entry: AuditEntry) {
        if self.shared.is_storage_low() {
            return;
        }
        let now = self.shared.clock.now().wall;
        self.shared.state.lock().audit.note(entry, now);
    }

    /// Notes an act that changes nothing.
    ///
    /// # Errors
    /// When the service is stopping.
    pub fn note_act(&self, entry: AuditEntry) -> Result<Revision, Refusal> {
        let mut state = self.shared.state.lock();
        let command = Command::NoteAudit { entry: Box::new(entry) };
        self.shared.apply(&mut state, command).1.map_err(|error| state.refusal(error))?;
        Ok(state.core.revision())
    }

    /// The newest rows that a filter takes, all that have happened up to now. Reads the disk.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn audit(&self, filter: &AuditFilter) -> Result<Seen<Vec<AuditRow>>, Refusal> {
        let (tail, revision) = {
            let mut state = self.shared.state.lock();
            self.shared.note_tries(&mut state);
            let tail: Vec<AuditRow> = state.audit.rows.values().rev().cloned().collect();
            (tail, state.core.revision())
        };
        // A row of the table that one of these replaces is none any more; so many more may be needed.
        let tries = tail.iter().filter(|row| row.entry.tries.is_some()).count();
        let filter_more = AuditFilter { rows_max: filter.rows_max + tries, ..filter.clone() };
        let folded = self.shared.history.audit(&filter_more).map_err(|error| unreadable(&error))?;
        Ok(Seen { what: merged(&tail, folded, filter), revision })
    }
}

/// Both, newest first, each once: what was folded meanwhile is in both.
fn merged(tail: &[AuditRow], folded: Vec<AuditRow>, filter: &AuditFilter) -> Vec<AuditRow> {
    let newer: BTreeSet<_> = tail.iter().filter_map(|row| row.entry.tries_key()).collect();
    let is_replaced =
        |row: &AuditRow| row.entry.tries_key().is_some_and(|key| newer.contains(&key));
    let folded = folded.into_iter().filter(|row| !is_replaced(row));
    let taken = tail.iter().filter(|row| filter.takes(row)).cloned();
    let rows: BTreeMap<Revision, AuditRow> =
        folded.chain(taken).map(|row| (row.revision, row)).collect();
    rows.into_values().rev().take(filter.rows_max).collect()
}

impl Shared {
    /// Has the tries that were refused since the last time written.
    pub(super) fn note_tries(&self, state: &mut State) {
        let now = self.clock.now().wall;
        for entry in state.audit.take_news(now) {
            let command = Command::NoteAudit { entry: Box::new(entry) };
            if let Err(error) = self.apply(state, command).1 {
                log::error!("a row of the audit log was refused: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Actor, Claim, ClaimId},
        storage::{self, Snapshot, SnapshotError, SnapshotOptions},
    };

    fn refused(address: u8, code: &str) -> AuditEntry {
        AuditEntry {
            address: Some(IpAddr::from([127, 0, 0, address])),
            result: code.into(),
            ..AuditEntry::done(Actor::Anonymous, "GET", "/api/v1/claims".into())
        }
    }

    #[test]
    fn tries_are_one_row_for_each_address_code_and_minute() {
        let mut tail = AuditTail::default();
        for (address, code) in [(1, "a"), (1, "a"), (1, "b"), (2, "a")] {
            tail.note(refused(address, code), WallTime(60_000));
        }
        let counts = |tail: &mut AuditTail, now| -> Vec<u32> {
            let news = tail.take_news(WallTime(now));
            news.iter().map(|entry| entry.tries.unwrap().count).collect()
        };
        assert_eq!(counts(&mut tail, 61_000), [2, 1, 1]);
        assert!(counts(&mut tail, 62_000).is_empty());
        tail.note(refused(1, "a"), WallTime(119_999));
        assert_eq!(counts(&mut tail, 120_000), [3], "the same row, with all tries so far");
        assert!(tail.tries.is_empty());
        tail.note(refused(1, "a"), WallTime(120_000));
        assert_eq!(counts(&mut tail, 120_000), [1]);
    }

    #[test]
    fn many_addresses_are_counted_under_none() {
        let mut tail = AuditTail::default();
        for n in 0..2_000_u32 {
            let address = Some(IpAddr::from(n.to_be_bytes()));
            tail.note(AuditEntry { address, ..refused(1, "a") }, WallTime(0));
        }
        let news = tail.take_news(WallTime(1));
        assert_eq!(news.len(), TRIES_MAX + 1);
        let others = news.iter().find(|entry| entry.address.is_none()).unwrap();
        assert_eq!(others.tries.unwrap().count, 1_000);
    }

    /// A log that is never looked through to its end.
    struct Endless;

    impl History for Endless {
        fn ended_claim(&self, _: &ClaimId) -> Result<Option<Claim>, storage::Error> {
            Ok(None)
        }

        fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditRow>, storage::Error> {
            let newest = AuditFilter { rows_max: filter.rows_max, ..AuditFilter::default() };
            assert_eq!(*filter, newest, "a filter may find nothing for long");
            let what = "it was not searched in time".into();
            Err(storage::Error::Io {
                action: "read",
                path: "log".into(),
                source: std::io::Error::other::<String>(what),
            })
        }

        fn free_bytes(&self) -> Result<Option<u64>, storage::Error> {
            Ok(None)
        }

        fn snapshot(&self, _: &SnapshotOptions<'_>) -> Result<Snapshot, SnapshotError> {
            Err(SnapshotError::Unsupported)
        }
    }

    #[test]
    fn a_start_does_not_depend_on_the_log() {
        assert_eq!(newest_rows(&Endless), []);
    }

    #[test]
    fn many_addresses_all_day_fill_no_disk() {
        let mut tail = AuditTail::default();
        let mut rows = 0;
        for minute in 0..100 {
            for n in 0..500_u32 {
                let address = Some(IpAddr::from((minute * 1_000 + n).to_be_bytes()));
                let now = WallTime(i64::from(minute) * MINUTE_MS);
                tail.note(AuditEntry { address, ..refused(1, "a") }, now);
            }
            rows += tail.take_news(WallTime((i64::from(minute) + 1) * MINUTE_MS)).len();
        }
        assert_eq!(rows, TRIES_OF_DAY_MAX + 80, "one a minute of those under no address");
    }
}
