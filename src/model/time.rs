//! Two clocks that must not be mixed up, and durations as people write them.
//!
//! *Service time* is what leases run on: monotonic, and it does not jump when the machine was
//! suspended. *Wall time* is for people, for `max_hold`, and for what has to survive a restart. A
//! length of time is a [`Duration`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Invalid;

/// A point on the service's own clock: time since the process started, without suspensions.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ServiceTime(pub Duration);

impl ServiceTime {
    /// The point `duration` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> ServiceTime {
        ServiceTime(self.0.saturating_add(duration))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: ServiceTime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// A point in the calendar, UTC: whole milliseconds since 1970-01-01. Jumps as the machine's clock does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct WallTime(pub i64);

impl WallTime {
    /// The point `duration` later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> WallTime {
        WallTime(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn since(self, earlier: WallTime) -> Duration {
        let ms = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-24T03:50:53.120Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        let timestamp = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        format!("{timestamp:.3}")
    }

    /// Reads RFC 3339 with any offset.
    ///
    /// # Errors
    /// Any other form, or a year beyond 9999.
    pub fn from_rfc3339(text: &str) -> Result<WallTime, Invalid> {
        let timestamp: Result<jiff::Timestamp, _> = text.parse();
        let timestamp = timestamp.map(|timestamp| WallTime(timestamp.as_millisecond()));
        timestamp.map_err(|_| Invalid::new("a time such as 2026-11-24T03:50:53Z"))
    }
}

const DURATION: &str = "a number of seconds or a text such as \"90s\", \"5m\" or \"2h\"";

/// Reads `"90s"`, `"5m"` or `"2h"`: a whole number with its unit.
///
/// # Errors
/// Any other form, or a length of more than 1,000 years.
pub fn parse_duration(text: &str) -> Result<Duration, Invalid> {
    let invalid = || Invalid::new(DURATION);
    let unit_seconds = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3_600,
        _ => return Err(invalid()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let number: u64 = digits.parse().map_err(|_| invalid())?;
    Ok(Duration::from_secs(number * unit_seconds))
}

/// Writes a duration the way [`parse_duration`] reads it, in the largest unit that fits: `"5m"`.
/// What is below a second is cut off.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        seconds if seconds >= 3_600 && seconds % 3_600 == 0 => format!("{}h", seconds / 3_600),
        seconds if seconds >= 60 && seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("2h", 7_200)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
            assert_eq!(format_duration(Duration::from_secs(seconds)), text);
        }
        for text in ["", "s", "5", "-5s", "1.5s", "5d", "5 m", "５m", "99999999999h", "1h30m"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn wall_time_is_rfc_3339() {
        assert_eq!(WallTime(1_795_492_253_120).to_rfc3339(), "2026-11-24T03:50:53.120Z");
        for text in ["2026-11-24T03:50:53.120Z", "2026-11-24T04:50:53.12+01:00"] {
            assert_eq!(WallTime::from_rfc3339(text), Ok(WallTime(1_795_492_253_120)));
        }
        assert!(WallTime::from_rfc3339("2026-11-24").is_err());
        assert_eq!(WallTime(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn differences_never_go_below_zero() {
        assert_eq!(WallTime(5).since(WallTime(9)), Duration::ZERO);
        assert_eq!(ServiceTime::default().since(ServiceTime(Duration::MAX)), Duration::ZERO);
    }
}
