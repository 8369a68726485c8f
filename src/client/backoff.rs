//! Pauses between tries: doubling up to 2 s, with jitter, so that many clients of a service that came
//! back do not all knock at once (Brooker, "Exponential Backoff and Jitter", 2015).

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The pauses of one row of tries.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: PAUSE_MIN }
    }

    /// The pause before the next try: a random part, at least half, of a span that doubles.
    pub(super) fn pause(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(PAUSE_MAX);
        span / 2 + (span / 2).mul_f64(f64::from(random()) / f64::from(u32::MAX))
    }

    /// Starts again, after a success.
    pub(super) fn reset(&mut self) {
        *self = Backoff::new();
    }
}

/// A random number, from the keys that the standard library draws for its hash maps.
fn random() -> u32 {
    let hash = RandomState::new().build_hasher().finish();
    u32::try_from(hash >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause()).collect();
        for (pause, span_ms) in pauses.iter().zip([100, 200, 400, 800, 1600, 2000, 2000, 2000]) {
            let span = Duration::from_millis(span_ms);
            assert!((span / 2..=span).contains(pause), "{pause:?} of {span:?}");
        }
        backoff.reset();
        assert!(backoff.pause() <= PAUSE_MIN);
    }
}
