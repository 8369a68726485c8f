//! The net effect of changes on the tables.
//!
//! A pure function: rows come in through [`Rows`], a [`Net`] goes out, and nothing is written. What a
//! claim does under an event is [`Claim::apply`], the definition that the core uses too. However a run
//! of changes is cut into steps, folding the steps one after the other gives the same tables.
//!
//! An event that does not fit the rows (a grant for a claim that is not there, a fence that goes back)
//! means that journal and tables do not belong together. That is an error, never a guess.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{AuditRow, Error};
use crate::model::{
    AuditEntry, Change, Claim, ClaimEvent, ClaimState, Cooling, Event, Fence, Fences, Permits,
    Revision, SemaphoreName, SemaphoreRecord, Sequence, Token, TokenId, WallTime,
};

/// The rows before the fold.
pub trait Rows {
    /// The live claim with this sequence number.
    ///
    /// # Errors
    /// When the row cannot be read.
    fn claim(&self, sequence: Sequence) -> Result<Option<Claim>, Error>;

    /// The semaphore of this name.
    ///
    /// # Errors
    /// When the row cannot be read.
    fn semaphore(&self, name: &SemaphoreName) -> Result<Option<SemaphoreRecord>, Error>;

    /// The permits of `semaphore` that cool after the claim with this sequence number.
    ///
    /// # Errors
    /// When the row cannot be read.
    fn cooling(
        &self,
        semaphore: &SemaphoreName,
        sequence: Sequence,
    ) -> Result<Option<Cooling>, Error>;

    /// The token with this id.
    ///
    /// # Errors
    /// When the row cannot be read.
    fn token(&self, id: &TokenId) -> Result<Option<Arc<Token>>, Error>;

    /// An [`Error::Damaged`] that names where the rows are.
    fn damaged(&self, what: String) -> Error;
}

/// The numbers that the tables keep beside their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The last change in the tables.
    pub revision: Revision,
    /// The highest sequence number that a claim ever had.
    pub sequence: Sequence,
    /// No fence up to this one may be taken again.
    pub fence_floor: Fence,
}

/// What to write so that the tables are as after the last change. Removals come before upserts: a name
/// or id that was removed may be back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// The marks from now on.
    pub marks: Marks,
    /// Semaphores whose cooling rows all go, before anything in `cooling`.
    pub cooling_cleared: BTreeSet<SemaphoreName>,
    /// Rows of semaphores.
    pub semaphores: Edits<SemaphoreName, SemaphoreRecord>,
    /// Rows of live claims.
    pub claims: Edits<Sequence, Claim>,
    /// Rows of cooling permits.
    pub cooling: Edits<(SemaphoreName, Sequence), Cooling>,
    /// Rows of tokens.
    pub tokens: Edits<TokenId, Arc<Token>>,
    /// Ended claims for the history, in the order of their ends.
    pub ended: Vec<Claim>,
    /// Rows for the audit log, in the order of their changes. Each takes the place of the one that it
    /// [replaces](AuditRow::replaces), here or in the table.
    pub audit: Vec<AuditRow>,
}

/// What happens to the rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edits<K, V> {
    /// Keys of rows to delete; each is in the table.
    pub removed: Vec<K>,
    /// Rows to insert or replace, in the order of their keys.
    pub upserted: Vec<V>,
}

/// Folds changes over rows.
///
/// # Errors
/// When a row cannot be read or a change does not fit.
pub fn fold<'c>(
    rows: &impl Rows,
    marks: Marks,
    changes: impl IntoIterator<Item = &'c Change>,
) -> Result<Net, Error> {
    let mut fold = Fold {
        rows,
        marks,
        semaphores: BTreeMap::new(),
        claims: BTreeMap::new(),
        cooling: BTreeMap::new(),
        cooling_cleared: BTreeSet::new(),
        tokens: BTreeMap::new(),
        ended: Vec::new(),
        audit: Vec::new(),
    };
    for change in changes {
        fold.change(change)?;
    }
    Ok(Net {
        marks: fold.marks,
        cooling_cleared: fold.cooling_cleared,
        semaphores: edits(fold.semaphores),
        claims: edits(fold.claims),
        cooling: edits(fold.cooling),
        tokens: edits(fold.tokens),
        ended: fold.ended,
        audit: fold.audit,
    })
}

/// One row that the fold has touched.
struct Cell<V> {
    /// Whether the table has it.
    stored: bool,
    /// What it is now; `None` when it is gone.
    row: Option<V>,
}

type Cells<K, V> = BTreeMap<K, Cell<V>>;

/// The cell of a key; read from the table when it is touched for the first time.
fn touch<K: Ord, V>(
    cells: &mut Cells<K, V>,
    key: K,
    read: impl FnOnce(&K) -> Result<Option<V>, Error>,
) -> Result<&mut Option<V>, Error> {
    match cells.entry(key) {
        Entry::Occupied(cell) => Ok(&mut cell.into_mut().row),
        Entry::Vacant(vacant) => {
            let row = read(vacant.key())?;
            Ok(&mut vacant.insert(Cell { stored: row.is_some(), row }).row)
        }
    }
}

/// A row that was not there before and is not there now leaves no trace.
fn edits<K, V>(cells: Cells<K, V>) -> Edits<K, V> {
    let mut edits = Edits { removed: Vec::new(), upserted: Vec::new() };
    for (key, cell) in cells {
        match cell.row {
            Some(row) => edits.upserted.push(row),
            None if cell.stored => edits.removed.push(key),
            None => {}
        }
    }
    edits
}

struct Fold<'r, R> {
    rows: &'r R,
    marks: Marks,
    semaphores: Cells<SemaphoreName, SemaphoreRecord>,
    claims: Cells<Sequence, Claim>,
    cooling: Cells<(SemaphoreName, Sequence), Cooling>,
    cooling_cleared: BTreeSet<SemaphoreName>,
    tokens: Cells<TokenId, Arc<Token>>,
    ended: Vec<Claim>,
    audit: Vec<AuditRow>,
}

impl<R: Rows> Fold<'_, R> {
    fn change(&mut self, change: &Change) -> Result<(), Error> {
        if change.revision <= self.marks.revision {
            return Err(self.misfit(change, &format!("revision {} is folded", self.marks.revision)));
        }
        for event in &change.events {
            self.event(change, event)?;
        }
        self.marks.revision = change.revision;
        Ok(())
    }

    fn event(&mut self, change: &Change, event: &Event) -> Result<(), Error> {
        match event {
            Event::SemaphoreSet { name, settings, origin } => {
                let fence_floor = self.marks.fence_floor;
                let row = self.semaphore(name)?;
                *row = Some(SemaphoreRecord {
                    name: name.clone(),
                    settings: settings.clone(),
                    origin: *origin,
                    fence: row.as_ref().map_or(fence_floor, |semaphore| semaphore.fence),
                    revision: change.revision,
                });
                Ok(())
            }
            Event::SemaphoreRemoved { name } => self.semaphore_removed(change, name),
            Event::ClaimQueued { id, sequence, terms } => {
                if *sequence <= self.marks.sequence {
                    return Err(
                        self.misfit(change, &format!("sequence number {sequence} is taken"))
                    );
                }
                self.marks.sequence = *sequence;
                let (at, revision) = (change.at, change.revision);
                let claim = Claim::new(id.clone(), *sequence, terms.clone(), at, revision);
                self.claims.insert(*sequence, Cell { stored: false, row: Some(claim) });
                Ok(())
            }
            Event::Claim { sequence, event } => self.claim_event(change, *sequence, event),
            Event::CoolingEnded { semaphore, sequence, permits } => {
                self.cooling_ended(change, semaphore, *sequence, *permits)
            }
            Event::TokenSet { token } => {
                *self.token(&token.id)? = Some(Arc::clone(token));
                Ok(())
            }
            Event::TokenRevoked { id } => match self.token(id)?.take() {
                Some(_) => Ok(()),
                None => Err(self.misfit(change, &format!("there is no token {id}"))),
            },
            Event::TokensUsed { used } => self.tokens_used(used),
            Event::Audit { entry } => self.audited(change, entry),
        }
    }

    fn semaphore_removed(&mut self, change: &Change, name: &SemaphoreName) -> Result<(), Error> {
        let Some(semaphore) = self.semaphore(name)?.take() else {
            return Err(self.misfit(change, &format!("there is no semaphore {name}")));
        };
        // Whoever registers the name again must not take fences that were taken before.
        self.marks.fence_floor = self.marks.fence_floor.max(semaphore.fence);
        self.cooling.retain(|(other, _), _| other != name);
        self.cooling_cleared.insert(name.clone());
        Ok(())
    }

    fn claim_event(
        &mut self,
        change: &Change,
        sequence: Sequence,
        event: &ClaimEvent,
    ) -> Result<(), Error> {
        let rows = self.rows;
        let row = touch(&mut self.claims, sequence, |sequence| rows.claim(*sequence))?;
        let Some(claim) = row.as_mut() else {
            return Err(self.misfit(change, &format!("there is no live claim {sequence}")));
        };
        let was_held = matches!(claim.state, ClaimState::Held { .. });
        if !claim.apply(event, change.at, change.revision) {
            return Err(self.misfit(change, &format!("claim {sequence} cannot be {event:?}")));
        }
        let terms = claim.terms.clone();
        match event {
            ClaimEvent::Offered { fences } | ClaimEvent::Granted { fences, .. } => {
                self.fences_taken(change, &terms.permits, fences)
            }
            ClaimEvent::Confirmed { .. }
            | ClaimEvent::Renewed { .. }
            | ClaimEvent::CallbackSet { .. }
            | ClaimEvent::CallbackDue
            | ClaimEvent::CallbackTried { .. }
            | ClaimEvent::OwnerSet { .. }
            | ClaimEvent::JobSet { .. } => Ok(()),
            ClaimEvent::Ended { cooling, .. } => {
                self.ended.extend(row.take());
                if !was_held && !cooling.is_empty() {
                    return Err(self.misfit(change, &format!("claim {sequence} was not held")));
                }
                for (name, cooldown) in cooling {
                    let permits = terms.permits.weight(name);
                    if permits == 0 || self.semaphore(name)?.is_none() {
                        return Err(self.misfit(change, &format!("permits of {name} cannot cool")));
                    }
                    let (semaphore, cooldown) = (name.clone(), *cooldown);
                    let cooling = Cooling { semaphore, sequence, permits, cooldown };
                    *self.cooling(name, sequence)? = Some(cooling);
                }
                Ok(())
            }
        }
    }

    fn fences_taken(
        &mut self,
        change: &Change,
        permits: &Permits,
        fences: &Fences,
    ) -> Result<(), Error> {
        if permits.names().len() != fences.len() {
            return Err(self.misfit(change, "fences and semaphores differ in number"));
        }
        for (name, &fence) in permits.names().zip(fences.iter()) {
            let Some(semaphore) = self.semaphore(name)? else {
                return Err(self.misfit(change, &format!("there is no semaphore {name}")));
            };
            if fence <= semaphore.fence {
                return Err(self.misfit(change, &format!("fence {fence} of {name} is taken")));
            }
            semaphore.fence = fence;
        }
        Ok(())
    }

    fn cooling_ended(
        &mut self,
        change: &Change,
        semaphore: &SemaphoreName,
        sequence: Sequence,
        permits: u32,
    ) -> Result<(), Error> {
        let row = self.cooling(semaphore, sequence)?;
        match row.as_mut().map(|cooling| cooling.permits.checked_sub(permits)) {
            Some(Some(0)) => *row = None,
            Some(Some(left)) => row.iter_mut().for_each(|cooling| cooling.permits = left),
            Some(None) | None => {
                let what = format!("{permits} permits of {semaphore} do not cool after {sequence}");
                return Err(self.misfit(change, &what));
            }
        }
        Ok(())
    }

    fn tokens_used(&mut self, used: &[(TokenId, WallTime)]) -> Result<(), Error> {
        for (id, at) in used {
            // Uses are gathered for a while before they are noted; the token may have been revoked meanwhile.
            if let Some(token) = self.token(id)? {
                Arc::make_mut(token).last_used_at = Some(*at);
            }
        }
        Ok(())
    }

    fn audited(&mut self, change: &Change, entry: &AuditEntry) -> Result<(), Error> {
        let (revision, at, entry) = (change.revision, change.at, entry.clone());
        if self.audit.last().is_some_and(|row| row.revision == revision) {
            return Err(self.misfit(change, "it has two rows of the audit log"));
        }
        self.audit.push(AuditRow { revision, at, entry });
        Ok(())
    }

    fn token(&mut self, id: &TokenId) -> Result<&mut Option<Arc<Token>>, Error> {
        let rows = self.rows;
        touch(&mut self.tokens, id.clone(), |id| rows.token(id))
    }

    fn semaphore(&mut self, name: &SemaphoreName) -> Result<&mut Option<SemaphoreRecord>, Error> {
        let rows = self.rows;
        touch(&mut self.semaphores, name.clone(), |name| rows.semaphore(name))
    }

    fn cooling(
        &mut self,
        semaphore: &SemaphoreName,
        sequence: Sequence,
    ) -> Result<&mut Option<Cooling>, Error> {
        // What the table had went with the semaphore; the row is not there any more.
        let cleared = self.cooling_cleared.contains(semaphore);
        let rows = self.rows;
        touch(&mut self.cooling, (semaphore.clone(), sequence), |(semaphore, sequence)| {
            if cleared { Ok(None) } else { rows.cooling(semaphore, *sequence) }
        })
    }

    fn misfit(&self, change: &Change, what: &str) -> Error {
        self.rows.damaged(format!("change {} does not fit: {what}", change.revision))
    }
}

#[cfg(test)]
mod tests;
