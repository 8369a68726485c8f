//! Points in time as the service writes them.

use std::time::Duration;

use jiff::{Timestamp, fmt::rfc2822};

use super::http::Answer;

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(Timestamp);

impl Moment {
    /// Now, by the clock of this machine.
    pub(super) fn here() -> Moment {
        Moment(Timestamp::now())
    }

    /// When the answer was sent, by the service's clock, to the second; by that of this machine where the
    /// answer does not say.
    pub(super) fn of_answer(answer: &Answer) -> Moment {
        let date = answer.date.as_deref().and_then(Moment::from_http);
        date.unwrap_or_else(Moment::here)
    }

    /// Reads the form of HTTP's `Date` (RFC 9110, section 5.6.7).
    pub(super) fn from_http(text: &str) -> Option<Moment> {
        rfc2822::parse(text).ok().map(|zoned| Moment(zoned.timestamp()))
    }

    /// Reads RFC 3339, as in the service's JSON.
    pub(super) fn from_json(text: &str) -> Option<Moment> {
        text.parse().ok().map(Moment)
    }

    /// So long before it; `None` where time does not go back so far.
    pub(super) fn before(self, duration: Duration) -> Option<Moment> {
        self.0.checked_sub(duration).ok().map(Moment)
    }

    /// RFC 3339, to the second.
    pub(super) fn to_json(self) -> String {
        format!("{:.0}", self.0)
    }

    /// How long after `earlier` it is; zero if it is not.
    pub(super) fn since(self, earlier: Moment) -> Duration {
        Duration::try_from(self.0.duration_since(earlier.0)).unwrap_or_default()
    }

    /// For people: `2026-11-24 03:50:53 UTC`.
    pub(super) fn human(self) -> String {
        self.to_json().replace('T', " ").replace('Z', " UTC")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let http = Moment::from_http("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let json = Moment::from_json("1994-11-06T08:49:39.500Z").unwrap();
        assert_eq!(json.since(http), Duration::from_millis(2_500));
        assert_eq!(http.since(json), Duration::ZERO);
        assert_eq!(http.human(), "1994-11-06 08:49:37 UTC");
        assert_eq!(Moment::from_http("soon"), None);
    }
}
