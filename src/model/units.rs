//! Numbers that must not be mixed up: revisions, sequence numbers, fences and priorities.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Invalid;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one.
            ///
            /// At a million a second a `u64` lasts for 584,000 years, so it saturates unseen.
            #[must_use]
            pub fn next(self) -> $name {
                $name(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter! {
    /// Number of a committed change, over the whole service. Starts at 1, never goes back; 0 is the
    /// state before the first change.
    Revision
}
counter! {
    /// Place of a claim in the order of arrival, over the whole service. Unique for ever.
    Sequence
}
counter! {
    /// Fencing token: strictly increasing per semaphore, taken when permits are set aside for a claim.
    /// Gaps are normal. See Kleppmann, "How to do distributed locking" (2016), for what it is good for.
    Fence
}

/// How early a claim stands in the queue: −100 to 100, higher first, 0 where nothing is said.
///
/// A claim of a higher priority may delay those of a lower one for ever.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Priority(i8);

impl Priority {
    /// The highest there is.
    pub const MAX: Priority = Priority(100);

    /// Checks the range.
    ///
    /// # Errors
    /// When `value` is not in −100 to 100.
    pub fn new(value: i64) -> Result<Priority, Invalid> {
        match i8::try_from(value) {
            Ok(value @ -100..=100) => Ok(Priority(value)),
            _ => Err(Invalid::new("a whole number from -100 to 100")),
        }
    }

    /// The number, −100 to 100.
    #[must_use]
    pub fn value(self) -> i8 {
        self.0
    }
}
