//! What a claim asks for: how many permits of which semaphores.

use serde::{Deserialize, Serialize};

use super::{Invalid, SemaphoreName, bounds};

/// Most semaphores that one claim may name.
pub const PERMITS_SEMAPHORES_MAX: usize = 16;

/// The permits that a claim asks for: one or more semaphores, each with a weight of at least 1, in the
/// order of their names. A claim gets all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<(SemaphoreName, u32)>")]
pub struct Permits(Box<[(SemaphoreName, u32)]>);

impl Permits {
    /// Checks the bounds and sorts by name.
    ///
    /// # Errors
    /// No semaphore, more than [`PERMITS_SEMAPHORES_MAX`], one twice, or a weight that is zero or above
    /// the largest capacity.
    pub fn new(mut weights: Vec<(SemaphoreName, u32)>) -> Result<Permits, Invalid> {
        weights.sort();
        let unique = weights.windows(2).all(|pair| pair[0].0 != pair[1].0);
        if !(1..=PERMITS_SEMAPHORES_MAX).contains(&weights.len()) || !unique {
            return Err(Invalid::new(format!(
                "1 to {PERMITS_SEMAPHORES_MAX} different semaphores with their numbers of permits"
            )));
        }
        if weights.iter().any(|(_, weight)| !(1..=bounds::CAPACITY_MAX).contains(weight)) {
            return Err(Invalid::new(format!(
                "whole numbers of permits from 1 to {}",
                bounds::CAPACITY_MAX
            )));
        }
        Ok(Permits(weights.into()))
    }

    /// Semaphore and weight, in the order of the names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&SemaphoreName, u32)> {
        self.0.iter().map(|(name, weight)| (name, *weight))
    }

    /// The semaphores, in the order of their names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &SemaphoreName> {
        self.0.iter().map(|(name, _)| name)
    }

    /// How many permits of `name`; 0 when the claim does not name it.
    #[must_use]
    pub fn weight(&self, name: &SemaphoreName) -> u32 {
        match self.0.binary_search_by(|(other, _)| other.cmp(name)) {
            Ok(at) => self.0[at].1,
            Err(_) => 0,
        }
    }
}

impl TryFrom<Vec<(SemaphoreName, u32)>> for Permits {
    type Error = Invalid;

    fn try_from(weights: Vec<(SemaphoreName, u32)>) -> Result<Permits, Invalid> {
        Permits::new(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SemaphoreName {
        SemaphoreName::new(text).unwrap()
    }

    #[test]
    fn sorted_unique_and_positive() {
        let permits = Permits::new(vec![(name("b"), 2), (name("a"), 1)]).unwrap();
        assert_eq!(permits.names().map(SemaphoreName::as_str).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(permits.weight(&name("b")), 2);
        assert_eq!(permits.weight(&name("c")), 0);
        for wrong in [
            vec![],
            vec![(name("a"), 0)],
            vec![(name("a"), 1), (name("a"), 2)],
            vec![(name("a"), bounds::CAPACITY_MAX + 1)],
            (0..17).map(|n| (name(&n.to_string()), 1)).collect(),
        ] {
            assert!(Permits::new(wrong).is_err());
        }
    }
}
