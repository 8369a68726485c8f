//! The lease: renewed from its own thread, as early as the service wants it, whatever the child does.
//!
//! When a renewal fails it is tried again until the service answers, so a restart of the daemon is no
//! matter. The lease counts as lost when the service says so (410, 404), or by the client's own clock: a
//! lease lives for its ttl from when the last renewal that succeeded was *sent*, which is never later than
//! what the service reckons. After that the renewals go on, for the service may have been down for all
//! the time and then gives each lease its full time again.
//!
//! The clock is the monotonic one, which on Linux stands still while the machine is suspended; what was
//! missed shows at the first renewal after it.

use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::{
    backoff::Backoff,
    event::Event,
    http::{Answer, Connection},
    replies::{ClaimReply, Grant, Lease, Problem},
    stop::Stop,
};
use crate::model::{ClaimId, EndReason, format_duration};

/// Longest that a renewal may take before it is tried again.
const RENEW_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Shortest that it is given.
const RENEW_TIMEOUT_MIN: Duration = Duration::from_secs(1);
/// How long the question may take why a claim was revoked.
const REASON_TIMEOUT: Duration = Duration::from_secs(2);
/// An acquire that took no longer than this did not block, so its lease counts from when it was sent.
const ACQUIRE_PROMPT_MAX: Duration = Duration::from_secs(1);

/// What the renewals report.
#[derive(Debug)]
pub(super) enum LeaseEvent {
    /// A renewal failed, the first after one that succeeded.
    Trouble(String),
    /// A renewal succeeded, the first after one that failed.
    Renewed,
    /// The lease is lost.
    Lost(Loss),
}

/// How a lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// What happened, in words.
    pub(super) why: String,
    /// Why the claim ended, where the service says that it has.
    pub(super) reason: Option<EndReason>,
    /// Whether the service said that the claim is over, so that there is nothing to release.
    pub(super) ended: bool,
}

/// What one renewal came to.
#[derive(Debug, PartialEq)]
enum Verdict {
    Renewed(Lease),
    Lost(Loss),
    Failed(String),
}

/// Renews until the order to stop, or until the claim is over. Blocks; meant to be a thread of its own.
/// `received` is when the answer came that granted it.
pub(super) fn keep(
    connection: &Connection,
    id: &ClaimId,
    grant: &Grant,
    received: Instant,
    stop: &Stop,
    events: &Sender<Event>,
) {
    let report = |event| {
        // The main thread reads until the process ends.
        let _ = events.send(Event::Lease(event));
    };
    let mut lease = grant.lease;
    let mut since = match grant.took {
        took if took <= ACQUIRE_PROMPT_MAX => received.checked_sub(took).unwrap_or(received),
        _ => received,
    };
    let mut next = since + lease.renew_after;
    let mut backoff = Backoff::new();
    let (mut failing, mut lost) = (false, false);
    while !stop.sleep(next.saturating_duration_since(Instant::now())) {
        let sent = Instant::now();
        let left = lease.ttl.saturating_sub(since.elapsed());
        let timeout = if lost { RENEW_TIMEOUT_MAX } else { left.min(RENEW_TIMEOUT_MAX) };
        match renew_once(connection, id, timeout.max(RENEW_TIMEOUT_MIN)) {
            Verdict::Renewed(renewed) => {
                if failing {
                    report(LeaseEvent::Renewed);
                }
                (failing, lost, lease, since) = (false, false, renewed, sent);
                backoff.reset();
                next = sent + lease.renew_after;
            }
            Verdict::Lost(mut loss) => {
                loss.why.push_str(&reason_of_revocation(connection, id, loss.reason));
                report(LeaseEvent::Lost(loss));
                return;
            }
            Verdict::Failed(why) => {
                if !failing {
                    report(LeaseEvent::Trouble(why.clone()));
                }
                failing = true;
                if !lost && since.elapsed() >= lease.ttl {
                    lost = true;
                    let ttl = format_duration(lease.ttl);
                    let why = format!("it could not be renewed within its {ttl}: {why}");
                    report(LeaseEvent::Lost(Loss { why, reason: None, ended: false }));
                }
                next = next_try(&mut backoff, since + lease.ttl, lost);
            }
        }
    }
}

/// When to try again: after the back-off, but not later than the end of the lease, so that its loss is
/// seen in time.
fn next_try(backoff: &mut Backoff, deadline: Instant, lost: bool) -> Instant {
    let next = Instant::now() + backoff.pause();
    if lost { next } else { next.min(deadline) }
}

/// What an admin said who revoked the claim, as the rest of a sentence: the refusal itself does not tell.
pub(super) fn reason_of_revocation(
    connection: &Connection,
    id: &ClaimId,
    reason: Option<EndReason>,
) -> String {
    if reason != Some(EndReason::Revoked) {
        return String::new();
    }
    let answer = connection.claim(id, REASON_TIMEOUT).ok();
    let note = answer.and_then(|answer| ClaimReply::read(&answer)).and_then(|claim| claim.note);
    note.map(|note| format!(": {note}")).unwrap_or_default()
}

fn renew_once(connection: &Connection, id: &ClaimId, timeout: Duration) -> Verdict {
    match connection.renew(id, None, timeout) {
        Ok(answer) => read_answer(&answer),
        Err(unreachable) => Verdict::Failed(unreachable.reason),
    }
}

fn read_answer(answer: &Answer) -> Verdict {
    let problem = Problem::read(answer);
    match (answer.status, ClaimReply::read(answer)) {
        (200..=299, Some(claim)) if claim.state == "held" => Verdict::Renewed(claim.lease()),
        (410, _) => Verdict::Lost(Loss {
            why: problem.describe_end(),
            reason: problem.end_reason(),
            ended: true,
        }),
        // Without a code it is not the service that says so, but something before it.
        (404, _) if !problem.code.is_empty() => Verdict::Lost(Loss {
            why: format!("the service does not know the claim: {}", problem.describe(answer)),
            reason: None,
            ended: false,
        }),
        _ => Verdict::Failed(problem.describe(answer)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str) -> Verdict {
        read_answer(&Answer { status, body: body.into(), ..Answer::default() })
    }

    #[test]
    fn answers_to_a_renewal() {
        let held = r#"{"state":"held","ttl_seconds":30,"renew_after_seconds":10}"#;
        let lease = Lease { ttl: Duration::from_secs(30), renew_after: Duration::from_secs(10) };
        assert_eq!(check(200, held), Verdict::Renewed(lease));
        let Verdict::Lost(loss) = check(410, r#"{"reason":"revoked"}"#) else { panic!() };
        assert!(loss.reason == Some(EndReason::Revoked) && loss.ended);
        assert_eq!(loss.why, "an admin revoked it");
        let Verdict::Lost(loss) = check(404, r#"{"code":"unknown-claim"}"#) else { panic!() };
        assert!(loss.reason.is_none() && !loss.ended);
        for (status, body) in
            [(503, ""), (401, ""), (404, ""), (200, "<html>"), (202, r#"{"state":"waiting"}"#)]
        {
            assert!(matches!(check(status, body), Verdict::Failed(_)), "{status}");
        }
    }

    #[test]
    fn the_end_of_the_lease_is_not_slept_through() {
        let deadline = Instant::now() + Duration::from_millis(10);
        assert!(next_try(&mut Backoff::new(), deadline, false) <= deadline);
        assert!(next_try(&mut Backoff::new(), deadline, true) > deadline);
    }
}
