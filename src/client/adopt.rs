//! Why a claim that somebody else made cannot be taken over: what the job is told that a callback started.

use std::time::Duration;

use super::{
    Failure,
    http::Answer,
    replies::{Grant, Problem},
};
use crate::{
    cli::exit,
    model::{ClaimId, EndReason},
};

/// A claim that was held for less before this process asked may be its own: by a request whose answer was lost.
const HELD_BEFORE_MIN: Duration = Duration::from_secs(2);

/// What an answer to the renewal of an adopted claim means, where the service says that there is no such
/// claim, that it is over, or that another job has it.
pub(super) fn refusal(id: &ClaimId, answer: &Answer) -> Option<Failure> {
    let problem = Problem::read(answer);
    match answer.status {
        404 if problem.is_of_service() => {
            let message = format!(
                "this service does not know claim {id}: {}\nIs it the service where the claim was made, \
                 and is --claim the id that the callback gave this job?",
                problem.describe(answer)
            );
            Some(Failure::new(exit::REFUSED, message))
        }
        409 if problem.code == "claim-taken" => {
            let message = format!(
                "another job has claim {id}, and runs with its permits\n\
                 A call may come twice and start a job twice; then this is the second one, with nothing to do. If the \
                 other one died, its lease ends soon, and the claim with it."
            );
            Some(Failure::new(exit::REFUSED, message))
        }
        410 if problem.is_of_service() => Some(end(id, &problem)),
        _ => None,
    }
}

fn end(id: &ClaimId, problem: &Problem) -> Failure {
    let reason = problem.end_reason();
    let code = match reason {
        Some(EndReason::Revoked) => exit::REVOKED,
        Some(EndReason::WaitTimeout) => exit::NO_PERMIT,
        _ => exit::REFUSED,
    };
    let again = again(id);
    let why = match reason {
        Some(EndReason::Released) => {
            "it was released; the job has run already, or the permits were given back by hand\n\
             A call may come twice and start a job twice; then this is the second one, with nothing to do."
        }
        Some(EndReason::Abandoned) => &format!(
            "abandoned: the offer was not confirmed in time, and its permits went to the next one\n\
             This job started too late. {again}, with a longer --offer-ttl if runners are busy."
        ),
        Some(EndReason::Cancelled) => "it was cancelled before it was held",
        Some(EndReason::Expired) => &format!(
            "its lease expired: a job had it and did not renew it\n\
             {again} if the work is still to be done."
        ),
        Some(EndReason::WaitTimeout) => &format!(
            "the permits were not free within its wait timeout\n\
             {again}, with a longer --wait-timeout."
        ),
        Some(EndReason::CallbackFailed) => &format!(
            "no call of its callback got through in time\n\
             `semaphorectl deliveries {id}` has each try. {again} when that is mended."
        ),
        // What the admin said who revoked it is added by who asked, at the end.
        Some(EndReason::Revoked | EndReason::Unsatisfiable) | None => &problem.describe_end(),
    };
    Failure::new(code, format!("claim {id} is over: {why}"))
}

/// The way out. An id is used up with its claim, so one that somebody chose has to be another the next time; one that
/// `acquire` or the service made is a new one anyway.
fn again(id: &ClaimId) -> &'static str {
    match uuid::Uuid::try_parse(id.as_str()) {
        Ok(_) => "Make the claim again",
        Err(_) => "Make the claim again under a new --id",
    }
}

/// For how long the claim was held before this process asked for it, `asked` ago, if it was: by somebody who gave no name,
/// else the service would not have let this one in.
pub(super) fn held_before(grant: &Grant, asked: Duration) -> Option<Duration> {
    let before = grant.held_for?.checked_sub(asked)?;
    (before >= HELD_BEFORE_MIN).then_some(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str) -> Option<Failure> {
        let id = ClaimId::new("c1").unwrap();
        refusal(&id, &Answer { status, body: body.into(), ..Answer::default() })
    }

    fn ended(reason: &str) -> String {
        format!(r#"{{"code":"claim-ended","reason":"{reason}"}}"#)
    }

    #[test]
    fn each_end_has_its_exit_code_and_names_the_claim() {
        for (reason, code, word) in [
            ("abandoned", exit::REFUSED, "not confirmed in time"),
            ("released", exit::REFUSED, "run already"),
            ("cancelled", exit::REFUSED, "cancelled"),
            ("expired", exit::REFUSED, "lease expired"),
            ("callback_failed", exit::REFUSED, "semaphorectl deliveries"),
            ("unsatisfiable", exit::REFUSED, "capacity"),
            ("something_new", exit::REFUSED, "something_new"),
            ("wait_timeout", exit::NO_PERMIT, "wait timeout"),
            ("revoked", exit::REVOKED, "an admin revoked it"),
        ] {
            let failure = check(410, &ended(reason)).unwrap();
            assert_eq!(failure.exit, code, "{reason}");
            assert!(failure.message.starts_with("claim c1 is over: "), "{}", failure.message);
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn an_id_that_somebody_chose_is_not_to_be_used_again() {
        let own = "0192f3a4-7c1e-7b60-9d3a-5f0c1e2d3b4a";
        for (id, expected) in [("412-sim", "again under a new --id"), (own, "claim again, with")] {
            for reason in ["abandoned", "wait_timeout"] {
                let body = ended(reason).into();
                let answer = Answer { status: 410, body, ..Answer::default() };
                let message = refusal(&ClaimId::new(id).unwrap(), &answer).unwrap().message;
                assert!(message.contains(expected), "{message}");
            }
        }
    }

    #[test]
    fn a_claim_that_was_held_before_is_noticed() {
        let check = |held_for: Option<u64>, asked, expected: Option<u64>| {
            let held_for = held_for.map(Duration::from_secs);
            let grant = Grant { held_for, ..Grant::default() };
            let before = held_before(&grant, Duration::from_secs(asked));
            assert_eq!(before, expected.map(Duration::from_secs));
        };
        check(None, 0, None);
        check(Some(1), 0, None);
        check(Some(40), 0, Some(40));
        // An answer to this process was lost, and its next request finds the claim held.
        check(Some(30), 30, None);
        check(Some(30), 300, None);
    }

    #[test]
    fn a_claim_that_another_job_has_is_left_alone() {
        let failure = check(409, r#"{"code":"claim-taken"}"#).unwrap();
        assert_eq!(failure.exit, exit::REFUSED);
        assert!(failure.message.starts_with("another job has claim c1"), "{}", failure.message);
    }

    #[test]
    fn only_the_service_itself_can_say_that_a_claim_is_not_known_or_over() {
        assert_eq!(check(404, r#"{"code":"unknown-claim"}"#).unwrap().exit, exit::REFUSED);
        assert_eq!(check(404, "<html>"), None);
        assert_eq!(check(410, "<html>"), None);
        assert_eq!(check(202, r#"{"state":"waiting"}"#), None);
    }
}
