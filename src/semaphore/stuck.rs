//! Whether the service goes on: asked by whoever feeds a watchdog.
//!
//! A storage that refuses ends the process by itself (the module `commit`). One that does not answer, or a lock that
//! nobody gives back, would leave a service that takes requests and answers none: that shows here.

use std::{
    fmt,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Service;

/// How long the state's lock may be held: more than the longest that an admin can do under it takes.
const LOCK_TIME_MAX: Duration = Duration::from_secs(1);

/// What does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// The state is locked.
    State,
    /// Storage has been writing for so long, or nobody has begun to write what there is for so long.
    Storage(Duration),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::State => {
                f.write_str("the state is locked by a call that does not come to its end")
            }
            Stuck::Storage(time) => {
                write!(f, "the disk has not taken a change for {} s", time.as_secs())
            }
        }
    }
}

/// Since when storage writes, if it does. Its lock is innermost, and held for an instruction.
#[derive(Default)]
pub(super) struct Writing {
    since: Mutex<Option<Instant>>,
}

impl Writing {
    /// Notes that storage is at it for as long as `write` takes.
    pub(super) fn during<T>(&self, write: impl FnOnce() -> T) -> T {
        *self.since.lock() = Some(Instant::now());
        let written = write();
        *self.since.lock() = None;
        written
    }

    fn time(&self) -> Option<Duration> {
        self.since.lock().map(|since| since.elapsed())
    }
}

impl Service {
    /// What does not go on: a write that takes longer than `storage_time_max`, a change that waits longer for one, or the
    /// state's lock, held for a second. Takes up to a second.
    #[must_use]
    pub fn stuck(&self, storage_time_max: Duration) -> Option<Stuck> {
        let Some(state) = self.shared.state.try_lock_for(LOCK_TIME_MAX) else {
            return Some(Stuck::State);
        };
        let waiting = state.batch.since.map(|since| since.elapsed());
        drop(state);
        let time = waiting.max(self.shared.writing.time())?;
        (time > storage_time_max).then_some(Stuck::Storage(time))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};

    use super::*;
    use crate::{
        semaphore::{Clock, Options, Tick, core::Now},
        storage::memory::MemoryDisk,
    };

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Now {
            Now::default()
        }

        fn tick(&self) -> Tick {
            Tick { now: self.now(), after_gap: false }
        }
    }

    fn service() -> Service {
        let storage = Box::new(MemoryDisk::new().open());
        let fatal = Box::new(|_: &_| {});
        Service::start(storage, Arc::new(Still), Options::default(), fatal).unwrap()
    }

    #[test]
    fn a_lock_that_nobody_gives_back_shows() {
        let service = service();
        assert_eq!(service.stuck(Duration::ZERO), None);
        let held = service.shared.state.lock();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| service.stuck(Duration::ZERO));
            assert_eq!(asked.join().unwrap(), Some(Stuck::State));
        });
        drop(held);
        assert_eq!(service.stuck(Duration::ZERO), None);
    }

    #[test]
    fn a_write_that_takes_too_long_shows_while_it_does() {
        let service = service();
        let (begun, has_begun) = mpsc::channel();
        let (end, ends) = mpsc::channel();
        std::thread::scope(|scope| {
            let shared = Arc::clone(&service.shared);
            let writes = scope.spawn(move || {
                shared.writing.during(|| {
                    begun.send(()).unwrap();
                    ends.recv().unwrap();
                });
            });
            has_begun.recv().unwrap();
            assert_eq!(service.stuck(Duration::from_secs(3_600)), None);
            let stuck = service.stuck(Duration::ZERO);
            assert!(matches!(stuck, Some(Stuck::Storage(_))), "{stuck:?}");
            end.send(()).unwrap();
            writes.join().unwrap();
        });
        assert_eq!(service.stuck(Duration::ZERO), None);
    }

    #[test]
    fn a_change_that_nobody_writes_shows() {
        let service = service();
        service.shared.state.lock().batch.since = Some(Instant::now());
        assert_eq!(service.stuck(Duration::from_secs(3_600)), None);
        assert!(matches!(service.stuck(Duration::ZERO), Some(Stuck::Storage(_))));
    }
}
