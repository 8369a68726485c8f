//! When the service does not answer: for how long already, and whether it ever got a request.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::http::CONNECT_TIMEOUT;

/// Whether a PUT has reached the service. Written by the acquire thread, read by the main thread.
#[derive(Debug, Default)]
pub(super) struct Arrival {
    may_have_arrived: AtomicBool,
    has_failed: AtomicBool,
}

impl Arrival {
    /// Records a try: whether it may have reached the service.
    pub(super) fn record(&self, may_have_arrived: bool) {
        let flag = if may_have_arrived { &self.may_have_arrived } else { &self.has_failed };
        flag.store(true, Ordering::Relaxed);
    }

    /// Whether PUTs were tried and none of them can have reached the service, but for one that may be
    /// under way: then there is hardly anything to release.
    pub(super) fn is_none_so_far(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) && !self.may_have_arrived.load(Ordering::Relaxed)
    }
}

/// How long the service has been out of reach.
pub(super) struct Outage {
    longest: Duration,
    since: Option<Instant>,
}

impl Outage {
    pub(super) fn new(longest: Duration) -> Outage {
        Outage { longest, since: None }
    }

    pub(super) fn end(&mut self) {
        self.since = None;
    }

    /// Counts a try that was sent at `sent` and failed now. A first failure counts from when it was sent,
    /// but not the time for which it may have blocked on a waiting claim.
    pub(super) fn is_over_after_failure(&mut self, sent: Instant) -> bool {
        let now = Instant::now();
        let earliest = now.checked_sub(CONNECT_TIMEOUT).unwrap_or(now);
        now.duration_since(*self.since.get_or_insert(sent.max(earliest))) >= self.longest
    }

    pub(super) fn left(&self) -> Duration {
        self.since.map_or(self.longest, |since| self.longest.saturating_sub(since.elapsed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_counts_from_its_first_failure() {
        let mut outage = Outage::new(Duration::from_secs(60));
        let now = Instant::now();
        assert!(!outage.is_over_after_failure(now));
        assert!(outage.left() <= Duration::from_secs(60));
        let mut blocked = Outage::new(Duration::from_secs(10));
        let Some(long_ago) = now.checked_sub(Duration::from_secs(50)) else { return };
        assert!(!blocked.is_over_after_failure(long_ago));
        assert!(blocked.left() <= Duration::from_secs(5));
    }

    #[test]
    fn what_never_arrived_is_known_only_after_a_failure() {
        let arrival = Arrival::default();
        assert!(!arrival.is_none_so_far(), "the first PUT is under way");
        arrival.record(false);
        assert!(arrival.is_none_so_far());
        arrival.record(true);
        arrival.record(false);
        assert!(!arrival.is_none_so_far());
    }
}
