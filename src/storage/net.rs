//! The net effect of changes on the tables.
//!
//! A pure function: rows come in through [`Rows`], a [`Net`] goes out, and nothing is written. What a
//! claim does under an event is [`Claim::apply`], the definition that the core uses too. However a run
//! of changes is cut into steps, folding the steps one after the other gives the same tables.
//!
//! An event that does not fit the rows (a grant for a claim that is not there, a fence that goes back)
//! means that journal and tables do not belong together. That is an error, never a guess.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde::{Deserialize, Serialize};

use super::Error;
use crate::model::{
    Change, Claim, ClaimEvent, ClaimState, Cooling, Event, Fence, Fences, Permits, Revision,
    SemaphoreName, SemaphoreRecord, Sequence,
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
    /// Ended claims for the history, in the order of their ends.
    pub ended: Vec<Claim>,
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
        ended: Vec::new(),
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
        ended: fold.ended,
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
    ended: Vec<Claim>,
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
            | ClaimEvent::CallbackTried { .. } => Ok(()),
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
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::storage::{
        memory::Tables,
        testing::{World, change, ended, granted, name, queued, set},
    };

    /// Folds the changes in steps of these sizes (over and over).
    fn folded(changes: &[Change], steps: &[usize]) -> Tables {
        let mut tables = Tables::default();
        let mut rest = changes;
        for step in steps.iter().cycle() {
            let (now, later) = rest.split_at((*step).min(rest.len()));
            let net = fold(&tables, tables.marks, now).unwrap();
            tables.apply(net);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        tables
    }

    proptest! {
        #[test]
        fn steps_of_any_size_give_the_same(
            choices in prop::collection::vec(any::<u32>(), 0..300),
            steps in prop::collection::vec(1_usize..40, 1..8),
        ) {
            let world = World::from_choices(&choices);
            let whole = folded(&world.changes, &[usize::MAX]);
            prop_assert_eq!(&folded(&world.changes, &steps), &whole);
            prop_assert_eq!(whole, world.tables);
        }
    }

    #[test]
    fn the_generator_reaches_every_corner() {
        let choices: Vec<u32> =
            (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect();
        let world = World::from_choices(&choices);
        let has = |wanted: fn(&Event) -> bool| {
            world.changes.iter().flat_map(|change| &change.events).any(wanted)
        };
        assert!(has(|event| matches!(event, Event::SemaphoreRemoved { .. })));
        assert!(has(|event| matches!(event, Event::CoolingEnded { .. })));
        for wanted in ["Offered", "Granted", "Confirmed", "Renewed", "CallbackSet", "CallbackTried"]
        {
            let text = format!("{:?}", world.changes);
            assert!(text.contains(wanted), "{wanted}");
        }
        assert!(world.tables.history.len() > 100);
    }

    #[test]
    fn a_claim_born_and_ended_inside_is_one_history_row() {
        let changes = [
            change(1, vec![set("a", 5)]),
            change(2, vec![queued("x", 1, &[("a", 2)]), granted(1, &[1])]),
            change(3, vec![ended(1, &[("a", 60)])]),
        ];
        let net = fold(&Tables::default(), Marks::default(), &changes).unwrap();
        assert_eq!(net.claims, Edits { removed: vec![], upserted: vec![] });
        assert_eq!(net.ended.len(), 1);
        let marks = Marks { revision: Revision(3), sequence: Sequence(1), fence_floor: Fence(0) };
        assert_eq!(net.marks, marks);
        assert_eq!(net.semaphores.upserted[0].fence, Fence(1));
        let cooling = &net.cooling.upserted[0];
        assert_eq!((cooling.permits, cooling.cooldown), (2, Duration::from_secs(60)));
    }

    #[test]
    fn a_name_that_comes_back_takes_no_old_fence() {
        let mut tables = folded(
            &[
                change(1, vec![set("a", 5), queued("x", 1, &[("a", 1)]), granted(1, &[7])]),
                change(2, vec![ended(1, &[("a", 60)])]),
            ],
            &[1],
        );
        assert_eq!(tables.cooling.len(), 1);
        let back = change(3, vec![Event::SemaphoreRemoved { name: name("a") }, set("a", 1)]);
        tables.apply(fold(&tables, tables.marks, [&back]).unwrap());
        assert_eq!(tables.semaphores[&name("a")].fence, Fence(7));
        assert_eq!(tables.marks.fence_floor, Fence(7));
        assert!(tables.cooling.is_empty());
    }

    #[test]
    fn what_does_not_fit_is_damage() {
        let before = [
            change(1, vec![set("a", 5), set("b", 5)]),
            change(2, vec![queued("x", 1, &[("a", 1)]), granted(1, &[4])]),
            change(3, vec![queued("y", 2, &[("a", 1)])]),
        ];
        let tables = folded(&before, &[1]);
        let check = |event: Event, expected: &str| {
            let error = fold(&tables, tables.marks, [&change(4, vec![event])]).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }));
            assert!(error.to_string().contains(expected), "{error}");
        };
        check(granted(1, &[5]), "cannot be Granted");
        check(granted(2, &[4]), "fence 4 of a is taken");
        check(granted(2, &[5, 6]), "differ in number");
        check(granted(3, &[5]), "no live claim 3");
        check(ended(2, &[("a", 9)]), "was not held");
        check(ended(1, &[("b", 9)]), "permits of b cannot cool");
        check(queued("z", 2, &[("a", 1)]), "sequence number 2 is taken");
        check(Event::SemaphoreRemoved { name: name("c") }, "no semaphore c");
        let (semaphore, sequence) = (name("a"), Sequence(1));
        check(Event::CoolingEnded { semaphore, sequence, permits: 1 }, "do not cool after 1");
        assert!(fold(&tables, tables.marks, [&change(3, vec![set("a", 1)])]).is_err());
    }
}
