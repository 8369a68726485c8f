//! How many wrong tokens an address may try.
//!
//! Nobody guesses 160 bits. This is against the noise: a machine with an old token in its configuration that asks in a
//! loop, and the audit log that it would fill. Who has a right token is never held up by what others do from his address.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::model::network_of;

/// Wrong tokens from one address in a minute; more are answered 429.
const WRONG_MAX: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are counted apart; past that all others are one.
const ADDRESSES_MAX: usize = 10_000;

/// Counts wrong tokens. Shared by all threads; its lock is held for moments and together with no other.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// When the minute began that is counted.
    since: Option<Instant>,
    wrong: HashMap<Option<IpAddr>, u32>,
}

/// Whether one more wrong token is answered as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Go,
    /// No: there were too many.
    Stop {
        /// The bound.
        wrong_max: u32,
        /// When the minute is over.
        retry_after_seconds: u64,
    },
}

impl Throttle {
    /// One more wrong token from an address.
    pub(super) fn wrong(&self, address: Option<IpAddr>) -> Verdict {
        self.wrong_at(address, Instant::now())
    }

    fn wrong_at(&self, address: Option<IpAddr>, now: Instant) -> Verdict {
        let mut counts = self.0.lock();
        let since = match counts.since {
            Some(since) if now.saturating_duration_since(since) < MINUTE => since,
            _ => {
                counts.wrong.clear();
                counts.since = Some(now);
                now
            }
        };
        let key = address.map(network_of);
        let key = if counts.wrong.contains_key(&key) || counts.wrong.len() < ADDRESSES_MAX {
            key
        } else {
            None
        };
        let wrong = counts.wrong.entry(key).or_default();
        *wrong = wrong.saturating_add(1);
        if *wrong <= WRONG_MAX {
            return Verdict::Go;
        }
        let left = MINUTE.saturating_sub(now.saturating_duration_since(since));
        Verdict::Stop { wrong_max: WRONG_MAX, retry_after_seconds: left.as_secs() + 1 }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn an_address_is_stopped_for_the_rest_of_the_minute_and_no_other() {
        let throttle = Throttle::default();
        let start = Instant::now();
        let wrong = |address: &str, seconds| {
            let address: IpAddr = address.parse().unwrap();
            throttle.wrong_at(Some(address), start + Duration::from_secs(seconds))
        };
        assert!((0..WRONG_MAX).all(|_| wrong("10.0.0.1", 0) == Verdict::Go));
        let stopped = Verdict::Stop { wrong_max: WRONG_MAX, retry_after_seconds: 21 };
        assert_eq!(wrong("10.0.0.1", 40), stopped);
        assert_eq!(wrong("::ffff:10.0.0.1", 40), stopped);
        assert_eq!(wrong("10.0.0.2", 40), Verdict::Go);
        assert_eq!(wrong("10.0.0.1", 61), Verdict::Go);
    }

    #[test]
    fn a_network_of_addresses_is_one_and_their_number_is_bounded() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let of =
            |high: u64, low: u64| Ipv6Addr::from_bits((u128::from(high) << 64) | u128::from(low));
        for low in 0..u64::from(WRONG_MAX) {
            assert_eq!(throttle.wrong_at(Some(of(7, low).into()), now), Verdict::Go);
        }
        assert_ne!(throttle.wrong_at(Some(of(7, 0xffff).into()), now), Verdict::Go);
        for high in 0..20_000 {
            throttle.wrong_at(Some(of(high, 0).into()), now);
        }
        assert!(throttle.0.lock().wrong.len() <= ADDRESSES_MAX + 1);
    }
}
