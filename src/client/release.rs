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

/// The status of a claim that is given back.
pub(super) const NO_CONTENT: u16 = 204;
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

/// The end that an answer means, or why another try makes sense. That the claim is gone only the service can say: what
/// something before it answers leaves that open.
fn read_answer(answer: &Answer) -> Result<ReleaseEnd, String> {
    let problem = Problem::read(answer);
    let why = || problem.describe(answer);
    match answer.status {
        NO_CONTENT => Ok(ReleaseEnd::Gone),
        410 if problem.is_of_service() => Ok(ReleaseEnd::Gone),
        // It is not ours to give back.
        409 if problem.code == "claim-taken" => Ok(ReleaseEnd::Gone),
        404 if problem.is_of_service() => Ok(ReleaseEnd::Unknown),
        200..=299 | 404 | 410 => Err(why()),
        status if may_pass(status) => Err(why()),
        _ => Ok(ReleaseEnd::Failed { why: why(), unreachable: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_to_a_release() {
        let of_service = |status, code: &str| {
            let body = format!(r#"{{"code":"{code}"}}"#).into();
            read_answer(&Answer { status, body, ..Answer::default() })
        };
        let bare =
            |status| read_answer(&Answer { status, body: "<html>".into(), ..Answer::default() });
        assert_eq!(bare(204), Ok(ReleaseEnd::Gone));
        assert_eq!(of_service(410, "claim-ended"), Ok(ReleaseEnd::Gone));
        assert_eq!(of_service(409, "claim-taken"), Ok(ReleaseEnd::Gone));
        assert_eq!(of_service(404, "unknown-claim"), Ok(ReleaseEnd::Unknown));
        assert!(matches!(bare(403), Ok(ReleaseEnd::Failed { .. })));
        assert!(matches!(bare(501), Ok(ReleaseEnd::Failed { .. })));
        for status in [200, 404, 410, 429, 500, 502, 503] {
            assert!(bare(status).is_err(), "{status}");
        }
        assert!(of_service(404, "").is_err());
    }
}
