//! Giving the permits back, or leaving the queue: a DELETE, tried until it is answered or the time for it
//! is over. What is not released ends by itself: a held claim after its ttl, a waiting one after its
//! queue_ttl, an offered one after its offer_ttl.

use std::time::{Duration, Instant};

use super::{
    backoff::Backoff,
    http::{Answer, Connection},
    replies::{Problem, may_pass},
};
use crate::model::ClaimId;

/// How long a release is tried. A first try is made in any case.
pub(super) const RELEASE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long one try may take.
const TRY_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a try may take that has less time left than this.
const TRY_TIME_MIN: Duration = Duration::from_secs(2);

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReleaseEnd {
    /// The service has the claim no more, or another job has it.
    Gone,
    /// The service does not know the claim: it never arrived, or not yet.
    Unknown,
    /// It failed.
    Failed {
        /// Why.
        why: String,
        /// Whether the last try reached nobody.
        unreachable: bool,
    },
}

/// Releases, for at most `time_max`. Blocks; meant to be a thread of its own.
pub(super) fn release(
    connection: &Connection,
    id: &ClaimId,
    job: Option<&str>,
    time_max: Duration,
) -> ReleaseEnd {
    let begun = Instant::now();
    let mut backoff = Backoff::new();
    loop {
        let left = time_max.saturating_sub(begun.elapsed());
        let (why, unreachable) =
            match connection.release(id, job, left.clamp(TRY_TIME_MIN, TRY_TIME_MAX)) {
                Ok(answer) => match read_answer(&answer) {
                    Ok(end) => return end,
                    Err(why) => (why, false),
                },
                Err(error) => (error.reason, !error.may_have_arrived),
            };
        let pause = backoff.pause();
        if begun.elapsed() + pause >= time_max {
            return ReleaseEnd::Failed { why, unreachable };
        }
        std::thread::sleep(pause);
    }
}

/// The end that an answer means, or why another try makes sense.
fn read_answer(answer: &Answer) -> Result<ReleaseEnd, String> {
    let why = || Problem::read(answer).describe(answer);
    match answer.status {
        200..=299 | 410 => Ok(ReleaseEnd::Gone),
        // It is not ours to give back.
        409 if Problem::read(answer).code == "claim-taken" => Ok(ReleaseEnd::Gone),
        404 => Ok(ReleaseEnd::Unknown),
        status if may_pass(status) => Err(why()),
        _ => Ok(ReleaseEnd::Failed { why: why(), unreachable: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_a_release() {
        let read = |status| read_answer(&Answer { status, ..Answer::default() });
        assert_eq!(read(204), Ok(ReleaseEnd::Gone));
        assert_eq!(read(410), Ok(ReleaseEnd::Gone));
        let body = r#"{"code":"claim-taken"}"#.into();
        let taken = Answer { status: 409, body, ..Answer::default() };
        assert_eq!(read_answer(&taken), Ok(ReleaseEnd::Gone));
        assert_eq!(read(404), Ok(ReleaseEnd::Unknown));
        assert!(matches!(read(403), Ok(ReleaseEnd::Failed { .. })));
        assert!(matches!(read(501), Ok(ReleaseEnd::Failed { .. })));
        for status in [429, 500, 502, 503] {
            assert!(read(status).is_err(), "{status}");
        }
    }
}
