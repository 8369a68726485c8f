//! The highest numbers in a database that were ever given out, read as far as it can be read.
//!
//! A restore must not give out again what was given out before, and the database that it replaces may be damaged. So
//! each table is read for itself and each row too; what cannot be read is told and passed over.

use rusqlite::Connection;

use super::{errors::Named, live::Live, migrations::AUDIT_VERSION};
use crate::{
    model::{Change, Claim, ClaimEvent, Event, Fence, SemaphoreRecord},
    storage::encoding::Blob,
};

/// Numbers above this one are damage: at a million changes a second it takes three centuries.
const BELIEVABLE_MAX: u64 = 1 << 53;

/// The highest revision, sequence number and fence that were found; zero where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Highest {
    /// Of the changes.
    pub revision: u64,
    /// Of the claims, also of those that have ended.
    pub sequence: u64,
    /// Of all semaphores, also of those that were removed.
    pub fence: u64,
}

impl Highest {
    /// The higher of each.
    #[must_use]
    pub fn max(self, other: Highest) -> Highest {
        Highest {
            revision: self.revision.max(other.revision),
            sequence: self.sequence.max(other.sequence),
            fence: self.fence.max(other.fence),
        }
    }

    /// Each higher by so much.
    #[must_use]
    pub fn plus(self, margin: u64) -> Highest {
        Highest {
            revision: self.revision.saturating_add(margin),
            sequence: self.sequence.saturating_add(margin),
            fence: self.fence.saturating_add(margin),
        }
    }
}

/// What is highest in the database behind `connection`, and what of it could not be read.
pub(super) fn highest(connection: &Connection, named: &Named) -> (Highest, Vec<String>) {
    let mut scan = Scan { connection, named, highest: Highest::default(), unreadable: Vec::new() };
    scan.marks();
    scan.table::<SemaphoreRecord>("SELECT record FROM semaphores", |scan, semaphore| {
        scan.see(semaphore.revision.0, 0, semaphore.fence.0);
    });
    scan.table::<Claim>("SELECT claim FROM claims", |scan, claim| {
        let fence = claim.fences().and_then(|fences| fences.iter().max().copied());
        scan.see(claim.revision.0, claim.sequence.0, fence.unwrap_or_default().0);
    });
    scan.table::<Vec<Change>>("SELECT changes FROM journal", |scan, changes| {
        changes.iter().for_each(|change| scan.change(change));
    });
    scan.numbers("SELECT max(revision), 0 FROM journal");
    scan.numbers("SELECT max(revision), max(sequence) FROM history");
    if scan.has_audit_log() {
        scan.numbers("SELECT max(revision), 0 FROM audit");
    }
    (scan.highest, scan.unreadable)
}

struct Scan<'c> {
    connection: &'c Connection,
    named: &'c Named,
    highest: Highest,
    unreadable: Vec<String>,
}

impl Scan<'_> {
    fn see(&mut self, revision: u64, sequence: u64, fence: u64) {
        if [revision, sequence, fence].iter().any(|number| *number > BELIEVABLE_MAX) {
            self.unreadable.push(format!("{}: a number is beyond belief", self.named.path()));
            return;
        }
        self.highest = self.highest.max(Highest { revision, sequence, fence });
    }

    fn marks(&mut self) {
        match (Live { connection: self.connection, named: self.named }).marks() {
            Ok(marks) => self.see(marks.revision.0, marks.sequence.0, marks.fence_floor.0),
            Err(error) => self.unreadable.push(error.to_string()),
        }
    }

    /// An older database has none, which is no damage.
    fn has_audit_log(&self) -> bool {
        let version = self.connection.pragma_query_value(None, "user_version", |row| row.get(0));
        version.is_ok_and(|version: i64| version >= AUDIT_VERSION)
    }

    fn change(&mut self, change: &Change) {
        self.see(change.revision.0, 0, 0);
        for event in &change.events {
            match event {
                Event::ClaimQueued { sequence, .. } => self.see(0, sequence.0, 0),
                Event::Claim {
                    event: ClaimEvent::Offered { fences } | ClaimEvent::Granted { fences, .. },
                    ..
                } => {
                    let fence: Fence = fences.iter().max().copied().unwrap_or_default();
                    self.see(0, 0, fence.0);
                }
                _ => {}
            }
        }
    }

    /// Reads the blobs of a table, over those that are damaged.
    fn table<T: Blob>(&mut self, sql: &str, mut see: impl FnMut(&mut Self, &T)) {
        let Scan { connection, named, .. } = *self;
        let live = Live { connection, named };
        let mut read = |scan: &mut Self| -> Result<(), rusqlite::Error> {
            let mut statement = connection.prepare(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match live.value(row.get_ref(0)?.as_blob()) {
                    Ok(value) => see(scan, &value),
                    Err(error) => scan.unreadable.push(error.to_string()),
                }
            }
            Ok(())
        };
        if let Err(error) = read(self) {
            self.unreadable.push(named.sql("read")(error).to_string());
        }
    }

    /// Reads a revision and a sequence number that stand in columns.
    fn numbers(&mut self, sql: &str) {
        let numbers = self.connection.query_row(sql, [], |row| {
            let number =
                |column| row.get::<_, Option<i64>>(column).map(|n| n.unwrap_or(0).cast_unsigned());
            Ok((number(0)?, number(1)?))
        });
        match numbers {
            Ok((revision, sequence)) => self.see(revision, sequence, 0),
            Err(error) => self.unreadable.push(self.named.sql("read")(error).to_string()),
        }
    }
}
