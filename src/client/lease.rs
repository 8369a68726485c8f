//! The lease: renewed from its own thread, as early as the service wants it, whatever the child does.
//!
//! When a renewal fails it is tried again until the service answers, so a restart of the daemon is no
//! matter. The lease counts as lost when the service says so (410, 404), or by the client's own clock: a
//! lease lives for its ttl from when the last renewal that succeeded was *sent*, which is never later than
//! what the service reckons. Only after an acquire that blocked is it from when the answer came, for the lease began somewhere
//! in between, and for what was left of it when the service wrote the answer: there this clock may be late by as long as that
//! answer was on its way. So the first renewal is due as early as if the lease had begun when the acquire was sent, and puts
//! that right. After the end of a lease the renewals go on, for the service may have been down for all
//! the time and then gives each lease its full time again. Not so when it says that the token is not good (any more):
//! that would be its answer again, and it counts such tries.
//!
//! Where `max_hold` ends a claim its lease is what is left of that, and a renewal prolongs nothing. So its end is known
//! before: it is lost at that time by the client's own clock, without another try, and the service is asked now and then
//! until it says the same.
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
/// Longest pause that an answer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Pause before the service is asked again about a lease that is over and that it has not ended yet.
const OVER_PAUSE: Duration = Duration::from_secs(1);
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
    /// The service does not let us renew, and there will be no further try.
    Refused {
        /// Why.
        why: String,
        /// How long the lease still lives.
        left: Duration,
    },
    /// The lease is lost.
    Lost(Loss),
}

/// How a lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    /// What happened, in words.
    pub(super) why: String,
    /// Why the claim ended, where the service says that it has, or has said when it will.
    pub(super) reason: Option<EndReason>,
    /// Whether the service said that the claim is over, so that there is nothing to release.
    pub(super) ended: bool,
}

/// What one renewal came to.
#[derive(Debug, PartialEq)]
enum Verdict {
    Renewed(Lease),
    Lost(Loss),
    Refused(String),
    Failed { why: String, retry_after: Duration },
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
    let (mut since, mut next) = first_times(grant, received);
    let mut backoff = Backoff::new();
    let (mut failing, mut lost, mut is_last) = (false, false, false);
    loop {
        let deadline = since + lease.life;
        let wake = if is_last { deadline } else { next };
        if stop.sleep(wake.saturating_duration_since(Instant::now())) {
            return;
        }
        if is_last {
            (lost, is_last) = (true, false);
            report(LeaseEvent::Lost(held_too_long()));
            next = next.max(Instant::now() + OVER_PAUSE);
            continue;
        }
        let sent = Instant::now();
        let left = deadline.saturating_duration_since(sent);
        let timeout = if lost { RENEW_TIMEOUT_MAX } else { left.min(RENEW_TIMEOUT_MAX) };
        match renew_once(connection, id, timeout.max(RENEW_TIMEOUT_MIN)) {
            Verdict::Renewed(renewed) => {
                backoff.reset();
                (lease, since, next) = (renewed, sent, sent + renewed.due_after_renewal());
                let over = since + lease.life <= Instant::now();
                if (failing || lost) && !over {
                    report(LeaseEvent::Renewed);
                }
                (failing, lost) = (false, lost && over);
                is_last = lease.is_last() && !lost;
            }
            Verdict::Lost(mut loss) => {
                loss.why.push_str(&reason_of_revocation(connection, id, loss.reason));
                report(LeaseEvent::Lost(loss));
                return;
            }
            Verdict::Refused(why) => {
                let left = deadline.saturating_duration_since(Instant::now());
                report(LeaseEvent::Refused { why: why.clone(), left });
                if !lost && !stop.sleep(left) {
                    report(LeaseEvent::Lost(Loss { why, reason: None, ended: false }));
                }
                return;
            }
            Verdict::Failed { why, retry_after } => {
                if !failing && !lost {
                    report(LeaseEvent::Trouble(why.clone()));
                }
                failing = true;
                if !lost && Instant::now() >= deadline {
                    lost = true;
                    let life = format_duration(lease.life);
                    let why = format!("it could not be renewed within its {life}: {why}");
                    report(LeaseEvent::Lost(Loss { why, reason: None, ended: false }));
                }
                next = next_try(backoff.pause().max(retry_after), deadline, lost);
            }
        }
    }
}

/// From when a lease counts that was granted by an answer which came at `received`, and when its first renewal is due.
fn first_times(grant: &Grant, received: Instant) -> (Instant, Instant) {
    let sent = received.checked_sub(grant.took).unwrap_or(received);
    let since = if grant.took <= ACQUIRE_PROMPT_MAX { sent } else { received };
    (since, sent + grant.lease.due_after_grant())
}

/// The loss of a lease that `max_hold` ends.
fn held_too_long() -> Loss {
    let why = "it was held for as long as max_hold of its semaphore lets it".to_owned();
    Loss { why, reason: Some(EndReason::Expired), ended: false }
}

/// When to try again: after the pause, but not later than the end of the lease, so that its loss is seen in
/// time.
fn next_try(pause: Duration, deadline: Instant, lost: bool) -> Instant {
    let next = Instant::now() + pause;
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
        Err(unreachable) => {
            Verdict::Failed { why: unreachable.reason, retry_after: Duration::ZERO }
        }
    }
}

fn read_answer(answer: &Answer) -> Verdict {
    let problem = Problem::read(answer);
    match (answer.status, ClaimReply::read(answer)) {
        (200..=299, Some(claim)) if claim.state == "held" => Verdict::Renewed(claim.lease()),
        (410, _) if problem.is_of_service() => Verdict::Lost(Loss {
            why: problem.describe_end(),
            reason: problem.end_reason(),
            ended: true,
        }),
        (404, _) if problem.is_of_service() => Verdict::Lost(Loss {
            why: format!("the service does not know the claim: {}", problem.describe(answer)),
            reason: None,
            ended: false,
        }),
        (401 | 403, _) if problem.is_of_service() => {
            Verdict::Refused(problem.not_allowed(answer).message)
        }
        _ => {
            let retry_after = answer.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            Verdict::Failed { why: problem.describe(answer), retry_after }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str) -> Verdict {
        read_answer(&Answer { status, body: body.into(), ..Answer::default() })
    }

    const ENDED: &str = r#"{"code":"claim-ended","reason":"revoked"}"#;

    #[test]
    fn answers_to_a_renewal() {
        let held = r#"{"state":"held","ttl_seconds":30,"renew_after_seconds":10}"#;
        let Verdict::Renewed(lease) = check(200, held) else { panic!() };
        assert_eq!(lease.life, Duration::from_secs(30));
        let Verdict::Lost(loss) = check(410, ENDED) else { panic!() };
        assert!(loss.reason == Some(EndReason::Revoked) && loss.ended);
        assert_eq!(loss.why, "an admin revoked it");
        let Verdict::Lost(loss) = check(404, r#"{"code":"unknown-claim"}"#) else { panic!() };
        assert!(loss.reason.is_none() && !loss.ended);
        for (status, body) in [
            (503, ""),
            (401, ""),
            (404, ""),
            (410, "<html>"),
            (410, r#"{"reason":"revoked"}"#),
            (200, "<html>"),
            (202, r#"{"state":"waiting"}"#),
        ] {
            assert!(matches!(check(status, body), Verdict::Failed { .. }), "{status}");
        }
        let Verdict::Refused(why) = check(401, r#"{"code":"token-invalid"}"#) else { panic!() };
        assert!(why.starts_with("the service does not know this token"), "{why}");
    }

    #[test]
    fn an_acquire_that_blocked_is_renewed_early() {
        // A lease of 300 s that is renewed after 100.
        let received = Instant::now() + Duration::from_secs(60);
        for (took_ms, before_ms, next_ms) in
            [(0, 0, 100_000), (800, 800, 99_200), (50_000, 0, 50_000)]
        {
            let grant = Grant { took: Duration::from_millis(took_ms), ..Grant::default() };
            let (since, next) = first_times(&grant, received);
            assert_eq!(since + Duration::from_millis(before_ms), received, "{took_ms}");
            assert_eq!(next, received + Duration::from_millis(next_ms), "{took_ms}");
        }
    }

    #[test]
    fn the_end_of_the_lease_is_not_slept_through() {
        let deadline = Instant::now() + Duration::from_millis(10);
        let pause = Duration::from_secs(60);
        assert!(next_try(pause, deadline, false) <= deadline);
        assert!(next_try(pause, deadline, true) > deadline);
    }
}
