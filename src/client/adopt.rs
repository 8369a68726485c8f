//! Why a claim that somebody else made cannot be taken over: what the job is told that a callback started.

use super::{Failure, http::Answer, replies::Problem};
use crate::{
    cli::exit,
    model::{ClaimId, EndReason},
};

/// What an answer to the renewal of an adopted claim means, where the service says that there is no such
/// claim, or that it is over.
pub(super) fn refusal(id: &ClaimId, answer: &Answer) -> Option<Failure> {
    let problem = Problem::read(answer);
    match answer.status {
        // Without a code it is not the service that says so, but something before it.
        404 if !problem.code.is_empty() => {
            let message = format!(
                "this service does not know claim {id}: {}\nIs it the service where the claim was made, \
                 and is --claim the id that the callback gave this job?",
                problem.describe(answer)
            );
            Some(Failure::new(exit::REFUSED, message))
        }
        410 => Some(end(id, &problem)),
        _ => None,
    }
}

fn end(id: &ClaimId, problem: &Problem) -> Failure {
    let (code, advice) = match problem.end_reason() {
        // What the admin said is added to the first line.
        Some(EndReason::Revoked) => return over(exit::REVOKED, id, &problem.describe_end()),
        Some(EndReason::Released) => (
            exit::REFUSED,
            "it was released; the job has run already, or the permits were given back by hand\n\
             A call may come twice and start a job twice; then this is the second one, with nothing to do.",
        ),
        Some(EndReason::Abandoned) => (
            exit::REFUSED,
            "abandoned: the offer was not confirmed in time, and its permits went to the next one\n\
             This job started too late. Make the claim again, with a longer --offer-ttl if runners are \
             busy.",
        ),
        Some(EndReason::Cancelled) => {
            (exit::REFUSED, "it was cancelled before it was held; the command was not run")
        }
        Some(EndReason::Expired) => (
            exit::REFUSED,
            "its lease expired: a job had it and did not renew it\n\
             Make the claim again if the work is still to be done.",
        ),
        Some(EndReason::WaitTimeout) => (
            exit::NO_PERMIT,
            "the permits were not free within its wait timeout\n\
             Make the claim again, with a longer --wait-timeout.",
        ),
        Some(EndReason::CallbackFailed) => (
            exit::REFUSED,
            "no call of its callback got through in time\n\
             Make the claim again when the cause is mended.",
        ),
        Some(EndReason::Unsatisfiable) | None => {
            return over(exit::REFUSED, id, &problem.describe_end());
        }
    };
    let why = match problem.end_reason() {
        Some(EndReason::CallbackFailed) => {
            format!("{advice} `semaphorectl deliveries {id}` has each try.")
        }
        _ => advice.to_owned(),
    };
    over(code, id, &why)
}

fn over(code: u8, id: &ClaimId, why: &str) -> Failure {
    Failure::new(code, format!("claim {id} is over: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str) -> Option<Failure> {
        let id = ClaimId::new("c1").unwrap();
        refusal(&id, &Answer { status, body: body.into(), ..Answer::default() })
    }

    #[test]
    fn each_end_has_its_exit_code_and_names_the_claim() {
        for (reason, code, word) in [
            ("abandoned", exit::REFUSED, "not confirmed in time"),
            ("released", exit::REFUSED, "run already"),
            ("cancelled", exit::REFUSED, "cancelled"),
            ("expired", exit::REFUSED, "lease expired"),
            ("callback_failed", exit::REFUSED, "semaphorectl deliveries c1"),
            ("unsatisfiable", exit::REFUSED, "capacity"),
            ("something_new", exit::REFUSED, "something_new"),
            ("wait_timeout", exit::NO_PERMIT, "wait timeout"),
            ("revoked", exit::REVOKED, "an admin revoked it"),
        ] {
            let failure = check(410, &format!(r#"{{"reason":"{reason}"}}"#)).unwrap();
            assert_eq!(failure.exit, code, "{reason}");
            assert!(failure.message.starts_with("claim c1 is over: "), "{}", failure.message);
            assert!(failure.message.contains(word), "{}", failure.message);
        }
    }

    #[test]
    fn only_the_service_itself_can_say_that_a_claim_is_not_known() {
        assert_eq!(check(404, r#"{"code":"unknown-claim"}"#).unwrap().exit, exit::REFUSED);
        assert_eq!(check(404, "<html>"), None);
        assert_eq!(check(202, r#"{"state":"waiting"}"#), None);
    }
}
