//! The settings of a semaphore, their defaults and bounds.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Note;

/// Defaults and bounds of the settings, each with what it bounds.
pub mod bounds {
    use std::time::Duration;

    /// Largest capacity of a semaphore, and so the largest weight in a claim.
    pub const CAPACITY_MAX: u32 = 1_000_000;
    /// Shortest duration that any setting may have.
    pub const DURATION_MIN: Duration = Duration::from_secs(1);
    /// Lease of a held claim where nothing is said.
    pub const TTL_DEFAULT: Duration = Duration::from_secs(5 * 60);
    /// Longest lease between two renewals.
    pub const TTL_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// Longest `max_hold` that can be set; unset means no limit.
    pub const MAX_HOLD_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);
    /// How long a waiting claim stays present after its last answered request.
    pub const QUEUE_TTL_DEFAULT: Duration = Duration::from_secs(2 * 60);
    /// Longest `queue_ttl`.
    pub const QUEUE_TTL_MAX: Duration = Duration::from_secs(24 * 3_600);
    /// How long an offer stands where a poller has to confirm it.
    pub const OFFER_TTL_DEFAULT: Duration = Duration::from_secs(60);
    /// How long an offer stands where a callback has to start a job first.
    pub const OFFER_TTL_CALLBACK_DEFAULT: Duration = Duration::from_secs(10 * 60);
    /// Longest `offer_ttl`.
    pub const OFFER_TTL_MAX: Duration = Duration::from_secs(3_600);
    /// Longest wait of a claim with a callback where nothing is said; others wait without limit.
    pub const WAIT_TIMEOUT_CALLBACK_DEFAULT: Duration = Duration::from_secs(24 * 3_600);
    /// Longest `wait_timeout`.
    pub const WAIT_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// Longest `cooldown`.
    pub const COOLDOWN_MAX: Duration = Duration::from_secs(3_600);
}

/// Whether a semaphore grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SemaphoreState {
    /// It grants.
    #[default]
    Open,
    /// It grants nothing; claims keep their places, held ones run on, standing offers may be confirmed.
    Draining,
}

impl SemaphoreState {
    /// The state in the words of the API: `open` or `draining`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SemaphoreState::Open => "open",
            SemaphoreState::Draining => "draining",
        }
    }
}

/// Everything about a semaphore that an admin may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphoreSettings {
    /// Number of permits, 1 to [`bounds::CAPACITY_MAX`].
    pub capacity: u32,
    /// Whether it grants.
    pub state: SemaphoreState,
    /// Lease of a claim that names none, 1 s to `max_ttl`.
    pub default_ttl: Duration,
    /// Longest lease that a claim may ask for, up to 24 h.
    pub max_ttl: Duration,
    /// Longest time that a claim may be held over all renewals, wall clock; `None` is no limit.
    pub max_hold: Option<Duration>,
    /// How long a waiting claim stays present after its last answered request, 1 s to 24 h.
    pub queue_ttl: Duration,
    /// How long an offer stands, 1 s to 1 h; `None` is 60 s, and 10 min for a claim with a callback.
    pub offer_ttl: Option<Duration>,
    /// Longest wait in the queue, 1 s to 7 days; `None` is no limit, and 24 h for a claim with a callback.
    pub wait_timeout: Option<Duration>,
    /// How long a given-back permit stays unavailable, 0 to 1 h.
    pub cooldown: Duration,
    /// What the semaphore stands for, for people.
    pub description: Option<Note>,
}

/// Which rule the settings of a semaphore break. The values say what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{member}` must be {allowed}")]
pub struct SettingsError {
    /// The setting.
    pub member: &'static str,
    /// What is allowed, as a phrase after "must be".
    pub allowed: String,
}

impl SemaphoreSettings {
    /// The defaults for a semaphore with this many permits.
    #[must_use]
    pub fn with_capacity(capacity: u32) -> SemaphoreSettings {
        SemaphoreSettings {
            capacity,
            state: SemaphoreState::Open,
            default_ttl: bounds::TTL_DEFAULT,
            max_ttl: bounds::TTL_MAX,
            max_hold: None,
            queue_ttl: bounds::QUEUE_TTL_DEFAULT,
            offer_ttl: None,
            wait_timeout: None,
            cooldown: Duration::ZERO,
            description: None,
        }
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn check(&self) -> Result<(), SettingsError> {
        let wrong = |member, allowed: String| Err(SettingsError { member, allowed });
        if !(1..=bounds::CAPACITY_MAX).contains(&self.capacity) {
            return wrong(
                "capacity",
                format!(
                    "a whole number from 1 to {} (to grant nothing, drain the semaphore)",
                    bounds::CAPACITY_MAX
                ),
            );
        }
        let ranges = [
            ("max_ttl", Some(self.max_ttl), bounds::TTL_MAX),
            ("default_ttl", Some(self.default_ttl), self.max_ttl),
            ("max_hold", self.max_hold, bounds::MAX_HOLD_MAX),
            ("queue_ttl", Some(self.queue_ttl), bounds::QUEUE_TTL_MAX),
            ("offer_ttl", self.offer_ttl, bounds::OFFER_TTL_MAX),
            ("wait_timeout", self.wait_timeout, bounds::WAIT_TIMEOUT_MAX),
        ];
        for (member, duration, longest) in ranges {
            if duration.is_some_and(|d| !(bounds::DURATION_MIN..=longest).contains(&d)) {
                return wrong(member, range(bounds::DURATION_MIN, longest));
            }
        }
        if self.cooldown > bounds::COOLDOWN_MAX {
            return wrong("cooldown", range(Duration::ZERO, bounds::COOLDOWN_MAX));
        }
        Ok(())
    }
}

fn range(shortest: Duration, longest: Duration) -> String {
    format!("from {} to {}", super::format_duration(shortest), super::format_duration(longest))
}

/// Fingerprint of a semaphore's declaration in the configuration file (SHA-256), to see when it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration(pub [u8; 32]);

/// Who made a semaphore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// It was registered over the API and stays until it is unregistered there.
    Api,
    /// The configuration file declares it; the declaration that was applied last.
    File(Declaration),
}

impl Origin {
    /// The origin in the words of the API: `api` or `file`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Origin::Api => "api",
            Origin::File(_) => "file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bound_is_checked() {
        let good = SemaphoreSettings::with_capacity(5);
        assert_eq!(good.check(), Ok(()));
        let seconds = |n| Duration::from_secs(n);
        type Change = fn(&mut SemaphoreSettings, Duration);
        let cases: [(&str, Change, u64); 7] = [
            ("max_ttl", |s, d| s.max_ttl = d, 24 * 3_600 + 1),
            ("default_ttl", |s, d| s.default_ttl = d, 24 * 3_600 + 1),
            ("max_hold", |s, d| s.max_hold = Some(d), 0),
            ("queue_ttl", |s, d| s.queue_ttl = d, 0),
            ("offer_ttl", |s, d| s.offer_ttl = Some(d), 3_601),
            ("wait_timeout", |s, d| s.wait_timeout = Some(d), 7 * 24 * 3_600 + 1),
            ("cooldown", |s, d| s.cooldown = d, 3_601),
        ];
        for (member, change, wrong) in cases {
            let mut settings = good.clone();
            change(&mut settings, seconds(wrong));
            assert_eq!(settings.check().unwrap_err().member, member);
        }
        for capacity in [0, bounds::CAPACITY_MAX + 1] {
            assert!(SemaphoreSettings { capacity, ..good.clone() }.check().is_err());
        }
    }
}
