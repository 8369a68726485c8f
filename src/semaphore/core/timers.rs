//! Deadlines in the order in which they come due.

use std::collections::BTreeSet;

use super::Now;
use crate::model::{SemaphoreName, Sequence, ServiceTime, WallTime};

/// What comes due. The order decides between deadlines of the same moment, so that a replay decides
/// alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A waiting claim's `queue_ttl`.
    Queue(Sequence),
    /// A waiting claim's `wait_timeout`.
    Wait(Sequence),
    /// An offer's `offer_ttl`.
    Offer(Sequence),
    /// A held claim's lease.
    Lease(Sequence),
    /// A held claim's `max_hold`; the only one by the wall clock.
    Hold(Sequence),
    /// Permits that cool.
    Cooling(SemaphoreName, Sequence),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Timers {
    by_service_time: BTreeSet<(ServiceTime, Timer)>,
    by_wall_time: BTreeSet<(WallTime, Timer)>,
}

impl Timers {
    pub(super) fn set(&mut self, at: ServiceTime, timer: Timer) {
        self.by_service_time.insert((at, timer));
    }

    pub(super) fn clear(&mut self, at: ServiceTime, timer: Timer) {
        self.by_service_time.remove(&(at, timer));
    }

    pub(super) fn set_wall(&mut self, at: WallTime, timer: Timer) {
        self.by_wall_time.insert((at, timer));
    }

    pub(super) fn clear_wall(&mut self, at: WallTime, timer: Timer) {
        self.by_wall_time.remove(&(at, timer));
    }

    /// Up to `timers_max` timers that are due, earliest first. They stay set: what they end clears them.
    pub(super) fn due(&self, now: Now, timers_max: usize) -> Vec<Timer> {
        let service = self.by_service_time.iter().take_while(|(at, _)| *at <= now.service);
        let wall = self.by_wall_time.iter().take_while(|(at, _)| *at <= now.wall);
        let timers = service.map(|(_, timer)| timer).chain(wall.map(|(_, timer)| timer));
        timers.take(timers_max).cloned().collect()
    }

    /// When the next one comes due, as far as that can be said now.
    pub(super) fn next(&self, now: Now) -> Option<ServiceTime> {
        let service = self.by_service_time.first().map(|(at, _)| *at);
        let wall = self.by_wall_time.first().map(|(at, _)| now.service.after(at.since(now.wall)));
        service.into_iter().chain(wall).min()
    }

    /// How many are set.
    pub(super) fn len(&self) -> usize {
        self.by_service_time.len() + self.by_wall_time.len()
    }
}
