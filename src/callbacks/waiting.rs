//! What waits in a lane of the [`super::schedule`], and in which order it is due.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use crate::model::Sequence;

/// Why a delivery is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Somebody asks for it.
    Asked,
    /// It was never tried, as far as is known.
    First,
    /// It has failed.
    Again,
}

/// When something that waits is due, and what.
pub(super) type Waits = (Instant, Sequence);

/// The deliveries that wait, each kind in the order in which it is due.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    asked: BTreeSet<Waits>,
    /// With the latest end of a pause that holds it.
    first: BTreeMap<Waits, Instant>,
    again: BTreeSet<Waits>,
    /// The first tries by that end, with when they are due: what a pause does not hold is found without looking at all.
    by_patience: BTreeMap<Waits, Instant>,
}

impl Waiting {
    pub(super) fn insert(&mut self, kind: Kind, waits: Waits, patient_until: Instant) {
        let (due, sequence) = waits;
        match kind {
            Kind::Asked => {
                self.asked.insert(waits);
            }
            Kind::First => {
                self.first.insert(waits, patient_until);
                self.by_patience.insert((patient_until, sequence), due);
            }
            Kind::Again => {
                self.again.insert(waits);
            }
        }
    }

    pub(super) fn remove(&mut self, kind: Kind, waits: Waits) {
        match kind {
            Kind::Asked => {
                self.asked.remove(&waits);
            }
            Kind::First => {
                if let Some(patient_until) = self.first.remove(&waits) {
                    self.by_patience.remove(&(patient_until, waits.1));
                }
            }
            Kind::Again => {
                self.again.remove(&waits);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.asked.len() + self.first.len() + self.again.len()
    }

    /// The one of a kind that is due first.
    pub(super) fn next(&self, kind: Kind) -> Option<Waits> {
        match kind {
            Kind::Asked => self.asked.first().copied(),
            Kind::First => self.first.keys().next().copied(),
            Kind::Again => self.again.first().copied(),
        }
    }

    /// The first try that is due first of those that a pause until then does not hold.
    pub(super) fn next_unheld(&self, paused_until: Instant) -> Option<Waits> {
        let unheld = self.by_patience.range(..(paused_until, Sequence(0)));
        unheld.map(|((_, sequence), due)| (*due, *sequence)).min()
    }
}
