//! Durations counted in buckets that grow with the value: 32 to each doubling, so what is read back is at
//! most 3 % above what was recorded.

use std::time::Duration;

/// Buckets to each doubling, as a power of two.
const PARTS_LOG2: u32 = 5;
const PARTS: usize = 1 << PARTS_LOG2;
/// Doublings of a nanosecond that a `u64` has.
const BUCKETS: usize = 64 * PARTS;

/// How often which duration was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: vec![0; BUCKETS], count: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(ns)] += 1;
        self.count += 1;
        self.max = self.max.max(duration);
    }

    /// Adds what another one has counted.
    pub(crate) fn add(&mut self, other: &Histogram) {
        for (mine, others) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += others;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// How many durations were counted.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The longest one, exactly.
    pub(crate) fn max(&self) -> Duration {
        self.max
    }

    /// The duration that so many in 1,000 are not above; zero when nothing was counted.
    pub(crate) fn per_mille(&self, per_mille: u64) -> Duration {
        let wanted = (self.count * per_mille).div_ceil(1_000);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return Duration::from_nanos(upper(index)).min(self.max);
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a value: its leading bits, behind the number of its doublings.
fn bucket(ns: u64) -> usize {
    let doublings = (u64::BITS - ns.leading_zeros()).saturating_sub(PARTS_LOG2 + 1);
    let leading = usize::try_from(ns >> doublings).unwrap_or(usize::MAX);
    doublings as usize * PARTS + leading
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let doublings = (index / PARTS).saturating_sub(1);
    let leading = (index - doublings * PARTS) as u64;
    ((leading + 1) << doublings) - 1
}
