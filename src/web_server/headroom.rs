//! Headroom: whether there are descriptors for more connections.
//!
//! tiny_http 0.12 keeps two descriptors and a thread for each connection, accepts whatever comes, and ends
//! its accept thread when there is no descriptor left. It has no way to refuse a connection or to close one.
//! What can be done near the end is to hold no connection longer than its request takes: calls that would
//! wait are refused, and every answer asks its client to close (`Connection: close`). A connection that never
//! sends a request cannot be ended by us; NGINX does that.
//!
//! The kernel is asked how many descriptors are open, once an interval, and in between when so many new
//! connections were seen that the bound may be reached. On Linux 6.2 and later that is one system call;
//! before, a walk over `/proc/self/fd`: 15 ms with 16,000 descriptors.

use std::{
    fs, io,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// tiny_http keeps two descriptors a connection.
const DESCRIPTORS_PER_CONNECTION: usize = 2;

/// Asking takes at most this part of the time.
const MEASURE_SHARE: u32 = 4;

/// Time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

type Measure = Box<dyn Fn() -> io::Result<usize> + Send + Sync>;

/// The connections in use, and their bound. Its mutex is held while the kernel is asked.
pub(super) struct Headroom {
    connections_max: usize,
    /// Descriptors that are open.
    measure: Measure,
    /// Those that were open before the first connection.
    descriptors_elsewhere: usize,
    state: Mutex<State>,
    is_used_up: AtomicBool,
}

struct State {
    /// What was measured.
    connections: usize,
    measured_at: Instant,
    /// How long that took.
    measuring_took: Duration,
    /// Connections of which the first request was seen since then. Those that came before may be among them.
    new_connections: usize,
    warned_at: Option<Instant>,
}

impl Headroom {
    /// To be called before the first connection is accepted.
    pub(super) fn new(connections_max: usize) -> Headroom {
        Headroom::with_measure(connections_max, Box::new(open_descriptors))
    }

    fn with_measure(connections_max: usize, measure: Measure) -> Headroom {
        let descriptors_elsewhere = measure().unwrap_or_else(|error| {
            log::warn!("connections in use are not watched, their number is not known: {error}");
            usize::MAX
        });
        Headroom {
            connections_max,
            measure,
            descriptors_elsewhere,
            state: Mutex::new(State {
                connections: 0,
                measured_at: Instant::now(),
                measuring_took: Duration::ZERO,
                new_connections: 0,
                warned_at: None,
            }),
            is_used_up: AtomicBool::new(false),
        }
    }

    /// The bound.
    pub(super) fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Whether there are more connections than the bound.
    pub(super) fn is_used_up(&self) -> bool {
        self.is_used_up.load(Ordering::Relaxed)
    }

    /// Counts a connection of which a first request was seen.
    pub(super) fn one_more(&self, now: Instant) {
        let mut state = self.state.lock();
        state.new_connections += 1;
        if state.connections + state.new_connections > self.connections_max {
            let since = now.saturating_duration_since(state.measured_at);
            if since >= state.measuring_took * MEASURE_SHARE {
                self.measure(&mut state, now);
                self.decide(&mut state, now);
            }
        }
    }

    /// Asks the kernel. To be called once in a while.
    pub(super) fn look(&self, now: Instant) {
        let mut state = self.state.lock();
        self.measure(&mut state, now);
        self.decide(&mut state, now);
    }

    fn measure(&self, state: &mut State, now: Instant) {
        let started = Instant::now();
        // Where it cannot be known nobody is refused.
        let descriptors = (self.measure)().unwrap_or(0);
        let descriptors = descriptors.saturating_sub(self.descriptors_elsewhere);
        state.connections = descriptors / DESCRIPTORS_PER_CONNECTION;
        state.measured_at = now;
        state.measuring_took = started.elapsed();
        state.new_connections = 0;
    }

    fn decide(&self, state: &mut State, now: Instant) {
        let is_used_up = state.connections > self.connections_max;
        self.is_used_up.store(is_used_up, Ordering::Relaxed);
        let quiet = |at: Instant| now.saturating_duration_since(at) < WARNING_INTERVAL;
        if !is_used_up || state.warned_at.is_some_and(quiet) {
            return;
        }
        state.warned_at = Some(now);
        log::warn!(
            "more connections are open than connections_max = {}: until some are closed, requests that \
             would wait are refused, and every answer closes its connection; raise LimitNOFILE= of the \
             service's unit, or lower max_conns and limit_conn of NGINX",
            self.connections_max
        );
    }
}

/// Descriptors of this process that are open.
fn open_descriptors() -> io::Result<usize> {
    const OURS: &str = "/proc/self/fd";
    // Their number since Linux 6.2, and 0 before.
    match fs::metadata(OURS)?.len() {
        0 => Ok(fs::read_dir(OURS)?.count()),
        descriptors => Ok(usize::try_from(descriptors).unwrap_or(usize::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicUsize};

    use super::*;

    /// Room for so many connections, and the number of descriptors that its kernel tells.
    fn headroom(connections_max: usize) -> (Headroom, Arc<AtomicUsize>) {
        let told = Arc::new(AtomicUsize::new(20));
        let measure = {
            let told = Arc::clone(&told);
            Box::new(move || Ok(told.load(Ordering::Relaxed)))
        };
        (Headroom::with_measure(connections_max, measure), told)
    }

    #[test]
    fn it_is_used_up_past_the_bound_and_comes_back() {
        let (headroom, told) = headroom(10);
        for (descriptors, used_up) in
            [(20, false), (40, false), (42, true), (40, false), (5, false)]
        {
            told.store(descriptors, Ordering::Relaxed);
            headroom.look(Instant::now());
            assert_eq!(headroom.is_used_up(), used_up, "{descriptors} descriptors");
        }
    }

    #[test]
    fn the_kernel_is_asked_when_new_connections_may_be_too_many() {
        let (headroom, told) = headroom(10);
        let now = Instant::now();
        headroom.look(now);
        told.store(44, Ordering::Relaxed);
        for _ in 0..10 {
            headroom.one_more(now);
        }
        assert!(!headroom.is_used_up());
        let later = now + Duration::from_secs(1);
        headroom.one_more(later);
        assert!(headroom.is_used_up(), "it was asked with the eleventh");
        // Some have gone. It was asked just now, and asking takes long.
        told.store(36, Ordering::Relaxed);
        headroom.state.lock().measuring_took = Duration::from_secs(1);
        headroom.one_more(later + Duration::from_secs(3));
        assert!(headroom.is_used_up());
        headroom.one_more(later + Duration::from_secs(4));
        assert!(!headroom.is_used_up());
    }

    /// They were accepted, and so measured, before their first requests were seen.
    #[test]
    fn nobody_is_counted_twice() {
        let (headroom, told) = headroom(10);
        told.store(40, Ordering::Relaxed);
        headroom.look(Instant::now());
        for _ in 0..10 {
            headroom.one_more(Instant::now());
            assert!(!headroom.is_used_up());
        }
    }

    #[test]
    fn nobody_is_refused_where_it_cannot_be_known() {
        let unknown = || Err(io::Error::other("no /proc"));
        let headroom = Headroom::with_measure(0, Box::new(unknown));
        headroom.look(Instant::now());
        assert!(!headroom.is_used_up());
    }

    #[test]
    fn the_kernel_tells_how_many_are_open() {
        let before = open_descriptors().unwrap();
        // Other tests of this process open and close some meanwhile, but no thousand.
        let files: Vec<_> = (0..1_000).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let after = open_descriptors().unwrap();
        assert!(after > before + 500, "{before} and {after}");
        let counted = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(counted.abs_diff(after) < 500, "{counted} and {after}");
        drop(files);
    }
}
