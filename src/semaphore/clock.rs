//! Where the service gets its time from.

use super::core::Now;

/// Both clocks. The implementation that reads the machine's belongs to the application; tests have one
/// that they move themselves.
pub trait Clock: Send + Sync {
    /// The present. Service time never goes back.
    fn now(&self) -> Now;

    /// The present, as the ticker sees it, about once a second.
    fn tick(&self) -> Tick;
}

/// What a tick of the clock found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The present.
    pub now: Now,
    /// The process had not run for some seconds (suspended, stopped by a signal). Calls that came meanwhile
    /// are queued and go first: nothing may expire at this tick.
    pub after_gap: bool,
}
