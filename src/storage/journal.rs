//! The changes that are on disk but not in the tables yet, as the storage remembers them.
//!
//! The fold takes them from here, so that it does not read back what was just written. They are as
//! many as the fold is behind; when they are many, one step of it follows each commit.

use std::collections::VecDeque;

use crate::model::{Change, Revision};

/// The unfolded changes. Invariant: their revisions increase strictly and follow `folded`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unfolded {
    changes: VecDeque<Change>,
    folded: Revision,
}

impl Unfolded {
    /// None yet, after the change that was folded last.
    pub(super) fn after(folded: Revision) -> Unfolded {
        Unfolded { changes: VecDeque::new(), folded }
    }

    /// The last change, folded or not.
    pub(super) fn last(&self) -> Revision {
        self.changes.back().map_or(self.folded, |change| change.revision)
    }

    /// The last change that is in the tables.
    pub(super) fn folded(&self) -> Revision {
        self.folded
    }

    /// Whether a batch may follow: its revisions increase strictly and are after all here. The error
    /// says which does not.
    pub(super) fn check(&self, batch: &[Change]) -> Result<(), String> {
        let mut last = self.last();
        for change in batch {
            if change.revision <= last {
                return Err(format!("revision {} comes after {last}", change.revision));
            }
            if change.events.is_empty() {
                return Err(format!("revision {} has no events", change.revision));
            }
            last = change.revision;
        }
        Ok(())
    }

    /// Adds a batch that was checked.
    pub(super) fn extend(&mut self, batch: impl IntoIterator<Item = Change>) {
        self.changes.extend(batch);
    }

    /// The oldest changes, at most so many.
    pub(super) fn oldest(&self, changes_max: usize) -> impl Iterator<Item = &Change> {
        self.changes.iter().take(changes_max)
    }

    /// Forgets the changes up to `folded`, which are in the tables now.
    pub(super) fn folded_to(&mut self, folded: Revision) {
        while self.changes.front().is_some_and(|change| change.revision <= folded) {
            self.changes.pop_front();
        }
        self.folded = folded;
        // After a burst the memory goes back.
        if self.changes.capacity() > 4 * self.changes.len() + 1_024 {
            self.changes.shrink_to(2 * self.changes.len());
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// All of them, in order.
    pub(super) fn to_vec(&self) -> Vec<Change> {
        self.changes.iter().cloned().collect()
    }
}
