//! The clock: service time from the machine's monotonic one, without the gaps.
//!
//! A process that was suspended or stopped by a signal wakes up to a clock that has jumped. Its holders'
//! renewals wait in the queue, so nothing may expire for the time in which nothing could be renewed: of a
//! gap of more than [`GAP_MAX`] between two looks at the clock only [`GAP_COUNTED`] counts.

use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::{
    model::{ServiceTime, WallTime},
    semaphore::{Clock, Tick, core::Now},
};

/// A longer time without a tick is a gap.
const GAP_MAX: Duration = Duration::from_secs(3);
/// What counts of a gap.
const GAP_COUNTED: Duration = Duration::from_secs(1);

/// The machine's clocks.
pub(crate) struct MachineClock {
    reading: Mutex<Reading>,
}

/// Service time as a function of the monotonic clock, of which the tests try every corner.
#[derive(Clone, Copy, Debug)]
struct Reading {
    ticked_at: Instant,
    service_at_tick: Duration,
    /// The latest that was ever given out: service time does not go back.
    latest: Duration,
}

impl Reading {
    fn new(now: Instant) -> Reading {
        Reading { ticked_at: now, service_at_tick: Duration::ZERO, latest: Duration::ZERO }
    }

    fn read(&mut self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.ticked_at);
        let counted = if gap > GAP_MAX { GAP_COUNTED } else { gap };
        self.latest = self.latest.max(self.service_at_tick + counted);
        self.latest
    }

    /// Reads, and counts from here on; also tells whether this comes after a gap.
    fn tick(&mut self, now: Instant) -> (Duration, bool) {
        let after_gap = now.saturating_duration_since(self.ticked_at) > GAP_MAX;
        let service = self.read(now);
        *self = Reading { ticked_at: now, service_at_tick: service, latest: service };
        (service, after_gap)
    }
}

impl MachineClock {
    pub(crate) fn new() -> MachineClock {
        MachineClock { reading: Mutex::new(Reading::new(Instant::now())) }
    }
}

/// What the calendar says.
pub(super) fn wall() -> WallTime {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(0).after(since_1970)
}

impl Clock for MachineClock {
    fn now(&self) -> Now {
        let service = self.reading.lock().read(Instant::now());
        Now { service: ServiceTime(service), wall: wall() }
    }

    fn tick(&self) -> Tick {
        let (service, after_gap) = self.reading.lock().tick(Instant::now());
        Tick { now: Now { service: ServiceTime(service), wall: wall() }, after_gap }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn time_passes_between_ticks() {
        let start = Instant::now();
        let mut reading = Reading::new(start);
        assert_eq!(reading.read(start + seconds(0.7)), seconds(0.7));
        assert_eq!(reading.tick(start + seconds(1.0)), (seconds(1.0), false));
        assert_eq!(reading.read(start + seconds(2.5)), seconds(2.5));
        assert_eq!(reading.tick(start + seconds(4.0)), (seconds(4.0), false));
    }

    #[test]
    fn of_a_gap_one_second_counts() {
        let start = Instant::now();
        let mut reading = Reading::new(start);
        reading.tick(start + seconds(1.0));
        assert_eq!(reading.read(start + seconds(3_601.0)), seconds(2.0), "a call first");
        assert_eq!(reading.tick(start + seconds(3_601.5)), (seconds(2.0), true));
        assert_eq!(reading.read(start + seconds(3_602.0)), seconds(2.5));
        assert_eq!(reading.tick(start + seconds(3_602.5)), (seconds(3.0), false));
    }

    #[test]
    fn it_never_goes_back() {
        let start = Instant::now();
        let mut reading = Reading::new(start);
        assert_eq!(reading.read(start + seconds(2.9)), seconds(2.9));
        assert_eq!(reading.read(start + seconds(3.1)), seconds(2.9));
        assert_eq!(reading.tick(start + seconds(3.2)), (seconds(2.9), true));
    }
}
