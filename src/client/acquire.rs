//! Acquiring: the same PUT with the same claim id again and again, until the claim is held or refused.
//!
//! It runs in its own thread, because each PUT blocks for up to 50 s. Only the first one is short, so
//! that whoever has to wait knows the position soon; and the one after a failure, so that a proxy that cuts
//! long waits does not look like a service out of reach. A repetition cannot take two permits: the service knows the claim by its id and compares the body, which
//! is made once and never changes. No PUT is sent after the order to stop; one that was under way then may
//! still arrive, and [`super::release`] deals with that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;

use super::{
    Failure, adopt,
    ask::SEE_DOCTOR,
    backoff::Backoff,
    event::Event,
    http::{Answer, Connection},
    lease::reason_of_revocation,
    order::{Demand, Order},
    outage::{Arrival, Outage},
    replies::{ClaimReply, Grant, Problem, may_pass},
    stop::Stop,
};
use crate::{
    cli::exit,
    model::{ClaimId, EndReason, format_duration},
};

/// How long the first PUT blocks.
const WAIT_FIRST: Duration = Duration::from_secs(2);
/// An answer that took less than this did not block, and its `Retry-After` is obeyed.
const BLOCKED_MIN: Duration = Duration::from_secs(1);
/// Pause after an answer that asks for one and does not say how long.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// Longest pause that an answer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Pause before an offer is confirmed by the next PUT; only so that a service that goes on offering is
/// not asked without a pause.
const OFFER_PAUSE: Duration = Duration::from_millis(100);

/// Which ids are new ones in a pipeline whose job is started again.
const NEW_ID: &str = "In a pipeline an id with the number of the job's run is a new one each time: $CI_JOB_ID, \
                      $BUILD_TAG, $GITHUB_RUN_ID-$GITHUB_RUN_ATTEMPT";

/// What the acquire reports.
#[derive(Debug)]
pub(super) enum AcquireEvent {
    /// It waits, at this place in the queue if the service says so.
    Place(Option<u64>),
    /// Something is in the way; it goes on trying.
    Trouble(String),
    /// It is over: the last event.
    Done(AcquireEnd),
}

/// How an acquire ended.
#[derive(Debug)]
pub(super) enum AcquireEnd {
    /// The claim is held; one that is to be registered only: it is taken in.
    Held(Grant),
    /// There will be no permit.
    Failed {
        /// Why.
        failure: Failure,
        /// Whether the service may still have the claim.
        may_exist: bool,
    },
    /// It was ordered to stop. The service may have the claim.
    Stopped,
}

/// One claim's acquire. A claim that somebody else made is not PUT but renewed, all else being the same.
pub(super) struct Acquire {
    /// The way to the service.
    pub(super) connection: Connection,
    /// What to get.
    pub(super) order: Arc<Order>,
    /// How long a PUT blocks, but for the first one.
    pub(super) wait: Duration,
    /// What is known of the PUTs so far.
    pub(super) arrival: Arc<Arrival>,
}

/// What one try came to.
#[derive(Debug, PartialEq)]
enum Verdict {
    Held(Grant),
    Waiting {
        position: Option<u64>,
        pause: Duration,
    },
    /// `says_none`: the service says so, and there is no claim of this id that would be ours.
    Failed {
        failure: Failure,
        ended: bool,
        says_none: bool,
    },
    Busy {
        why: String,
        pause: Duration,
    },
    Unreachable {
        why: String,
        pause: Option<Duration>,
        may_have_arrived: bool,
    },
}

impl Acquire {
    /// Tries until the end and reports it. Blocks; meant to be a thread of its own.
    pub(super) fn run(self, stop: &Stop, events: &Sender<Event>) {
        let report = |event| {
            // The main thread reads until the process ends.
            let _ = events.send(Event::Acquire(event));
        };
        let end = self.try_until_end(stop, &report);
        report(AcquireEvent::Done(end));
    }

    fn try_until_end(&self, stop: &Stop, report: &dyn Fn(AcquireEvent)) -> AcquireEnd {
        let begun = Instant::now();
        let mut backoff = Backoff::new();
        let mut outage = Outage::new(self.order.service.unreachable_timeout);
        let (mut was_taken_in, mut has_failed) = (false, false);
        // Whether the service may have the claim: it said so, or a PUT may have made it and nobody said what came of it.
        let mut may_exist = false;
        while !stop.is_ordered() {
            let sent = Instant::now();
            let wait = if was_taken_in && !has_failed { self.wait } else { WAIT_FIRST };
            has_failed = false;
            // While the service answers: under an id that somebody chose another job may hold a claim, and nobody gives
            // that back who was not told that it is his.
            let may_be_ours = was_taken_in || !self.order.id_chosen;
            let pause = match self.try_once(wait) {
                Verdict::Held(grant) => return AcquireEnd::Held(grant),
                Verdict::Waiting { position, pause } => {
                    (was_taken_in, may_exist) = (true, true);
                    outage.end();
                    backoff.reset();
                    report(AcquireEvent::Place(position));
                    pause
                }
                Verdict::Failed { failure, ended, says_none } => {
                    let may_exist =
                        may_exist && !ended && may_be_ours && (was_taken_in || !says_none);
                    // One request that took as long as that has waited itself, and was told of nothing before.
                    let has_waited = |longest| sent.elapsed() >= longest;
                    let is_ours = was_taken_in || self.order.wait_timeout.is_some_and(has_waited);
                    let failure = self.explain(failure, ended, is_ours);
                    return AcquireEnd::Failed { failure, may_exist };
                }
                Verdict::Busy { why, pause } => {
                    let may_exist = may_exist && may_be_ours;
                    if self.order.wait_timeout.is_some_and(|longest| begun.elapsed() >= longest) {
                        let message = format!("no permit within the wait timeout: {why}");
                        let failure = Failure::new(exit::NO_PERMIT, message);
                        return AcquireEnd::Failed { failure, may_exist };
                    }
                    let pause = if self.order.is_left_with_a_callback() {
                        // It is there so that nobody has to wait: no room is like a service out of reach.
                        if outage.is_over_after_failure(sent) {
                            let failure = self.no_room(&why, may_exist);
                            return AcquireEnd::Failed { failure, may_exist };
                        }
                        pause.min(outage.left())
                    } else {
                        outage.end();
                        pause
                    };
                    report(AcquireEvent::Trouble(why));
                    pause
                }
                Verdict::Unreachable { why, pause, may_have_arrived } => {
                    has_failed = true;
                    may_exist |= may_have_arrived;
                    if outage.is_over_after_failure(sent) {
                        let longest = format_duration(self.order.service.unreachable_timeout);
                        let message = format!(
                            "the service was out of reach for {longest}: {why}\n{SEE_DOCTOR}"
                        );
                        let failure = Failure::new(exit::UNREACHABLE, message);
                        // A claim that somebody else made is there in any case.
                        let may_exist = may_exist || self.order.is_adopted();
                        return AcquireEnd::Failed { failure, may_exist };
                    }
                    report(AcquireEvent::Trouble(why));
                    pause.unwrap_or_default().max(backoff.pause()).min(outage.left())
                }
            };
            if stop.sleep(pause) {
                break;
            }
        }
        AcquireEnd::Stopped
    }

    /// Adds what an admin said. And where a person chose the id, a claim of that id that is another one, or
    /// over, is no mystery.
    fn explain(&self, failure: Failure, ended: bool, is_ours: bool) -> Failure {
        let mut failure = failure;
        if failure.exit == exit::REVOKED {
            let reason = Some(EndReason::Revoked);
            failure.message.push_str(&reason_of_revocation(
                &self.connection,
                &self.order.id,
                reason,
            ));
        }
        let is_old = ended && !is_ours;
        if !self.order.id_chosen || !(is_old || failure.exit == exit::INTERNAL) {
            return failure;
        }
        if is_old {
            let (id, why) = (&self.order.id, failure.message.trim_start_matches("no permit: "));
            let message = format!(
                "claim {id} is over ({why}), and its id is used up: make the claim again under a new --id\n\
                 {NEW_ID}"
            );
            return Failure::new(exit::REFUSED, message);
        }
        Failure { exit: exit::REFUSED, ..failure }
    }

    fn no_room(&self, why: &str, may_exist: bool) -> Failure {
        let longest = format_duration(self.order.service.unreachable_timeout);
        let left =
            if may_exist { "" } else { "Nothing was left there, and nobody will be called: " };
        let message = format!(
            "the claim was not taken in for {longest}: {why}\n{left}make the claim again later, or with a longer \
             --unreachable-timeout"
        );
        Failure::new(exit::NO_PERMIT, message)
    }

    fn try_once(&self, wait: Duration) -> Verdict {
        let (connection, id) = (&self.connection, &self.order.id);
        let answer = match &self.order.demand {
            Demand::Make { body, .. } => connection.acquire(id, body, wait),
            Demand::Register { body, .. } => connection.acquire(id, body, Duration::ZERO),
            Demand::Adopt { job } => connection.confirm(id, job, wait),
        };
        match answer {
            Ok(answer) => {
                self.arrival.record(true);
                let refusal = self.order.is_adopted().then(|| adopt::refusal(id, &answer));
                match refusal.flatten() {
                    Some(failure) => Verdict::Failed { failure, ended: true, says_none: true },
                    None => read_answer(&answer, id, &self.order.demand),
                }
            }
            Err(unreachable) => {
                let may_have_arrived = unreachable.may_have_arrived;
                self.arrival.record(may_have_arrived);
                Verdict::Unreachable { why: unreachable.reason, pause: None, may_have_arrived }
            }
        }
    }
}

/// What an answer to the PUT means, or to the renewal that takes its place. A 429 waits like a queue would, but not for
/// ever where there is a callback instead of a wait; a 5xx is a service out of reach, and says as little about the claim as no
/// answer does: it may be that of a proxy which passed the request on.
fn read_answer(answer: &Answer, id: &ClaimId, demand: &Demand) -> Verdict {
    let retry_after = answer.retry_after.map(|pause| pause.min(RETRY_AFTER_MAX));
    let problem = Problem::read(answer);
    let described = || problem.describe(answer);
    // These are said before anybody looks whether there is a claim.
    let says_none = problem.is_of_service() && !matches!(answer.status, 401 | 403 | 429);
    let failed = |exit, message: String| Verdict::Failed {
        failure: Failure::new(exit, message),
        ended: false,
        says_none,
    };
    match answer.status {
        200..=202 => match ClaimReply::read(answer) {
            Some(claim) if is_enough(&claim, demand) => {
                let lease = claim.lease();
                let body = answer.body.clone();
                let held_for = claim.held_for();
                let took = answer.took;
                Verdict::Held(Grant { fences: claim.fences, lease, held_for, took, body })
            }
            Some(claim) if claim.state == "waiting" || claim.state == "offered" => {
                let pause = pause_before_repeat(answer, &claim, retry_after);
                Verdict::Waiting { position: claim.position, pause }
            }
            _ => Verdict::Unreachable {
                why: format!("the answer is not a claim (HTTP {})", answer.status),
                pause: None,
                may_have_arrived: true,
            },
        },
        410 if problem.is_of_service() => {
            let why = match demand {
                Demand::Register { .. } => problem.describe_end_with_callback(id),
                Demand::Make { .. } | Demand::Adopt { .. } => problem.describe_end(),
            };
            Verdict::Failed { failure: problem.end_failure(&why), ended: true, says_none }
        }
        409 if problem.code == "claim-differs" => failed(exit::INTERNAL, described()),
        409 => failed(exit::NO_PERMIT, format!("no permit: {}", described())),
        401 | 403 => {
            Verdict::Failed { failure: problem.not_allowed(answer), ended: false, says_none }
        }
        429 if matches!(demand, Demand::Make { queue: false, .. }) => {
            failed(exit::NO_PERMIT, format!("no permit: {}", described()))
        }
        429 => {
            let pause = retry_after.unwrap_or(RETRY_AFTER_DEFAULT).max(OFFER_PAUSE);
            Verdict::Busy { why: described(), pause }
        }
        status if may_pass(status) => {
            Verdict::Unreachable { why: described(), pause: retry_after, may_have_arrived: true }
        }
        _ => failed(exit::REFUSED, format!("refused: {}", described())),
    }
}

/// Whether the claim is in the state that was wanted.
fn is_enough(claim: &ClaimReply, demand: &Demand) -> bool {
    let taken_in = matches!(claim.state.as_str(), "waiting" | "offered");
    claim.state == "held" || (taken_in && matches!(demand, Demand::Register { .. }))
}

/// How long to wait before the PUT is repeated: not at all after one that blocked, as asked after one
/// that was answered at once. Well within the time for which the claim keeps its place.
fn pause_before_repeat(
    answer: &Answer,
    claim: &ClaimReply,
    retry_after: Option<Duration>,
) -> Duration {
    if claim.state == "offered" {
        return OFFER_PAUSE;
    }
    if answer.took >= BLOCKED_MIN {
        return Duration::ZERO;
    }
    let longest = claim.queue_ttl().map_or(RETRY_AFTER_MAX, |queue_ttl| queue_ttl / 2);
    retry_after.unwrap_or(RETRY_AFTER_DEFAULT).min(longest).max(OFFER_PAUSE)
}

#[cfg(test)]
#[path = "acquire_tests.rs"]
mod tests;
