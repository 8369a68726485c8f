//! What the service says, as far as the client needs it.
//!
//! Lenient: unknown members are ignored and every member may be missing, so that client and service may
//! differ in version. Where the client cannot go on without one, the reader of the reply says so.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{Failure, ask::SEE_DOCTOR, http::Answer, moment::Moment, permission};
use crate::{
    cli::exit,
    model::{ClaimId, EndReason},
};

/// A claim, in the states that an acquire or a renew may find it in.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct ClaimReply {
    /// `waiting`, `offered`, `held` or `ended`.
    pub(super) state: String,
    /// Why it ended.
    pub(super) reason: Option<String>,
    /// What the admin said who ended it.
    pub(super) note: Option<String>,
    /// Place in the queue, from 1.
    pub(super) position: Option<u64>,
    /// How long it stays in the queue without a request.
    pub(super) queue_ttl_seconds: Option<f64>,
    /// The fencing tokens by semaphore.
    pub(super) fences: BTreeMap<String, u64>,
    /// The lease.
    pub(super) ttl_seconds: Option<f64>,
    /// When to renew.
    pub(super) renew_after_seconds: Option<f64>,
    granted_at: Option<String>,
    expires_at: Option<String>,
    expires_in_seconds: Option<f64>,
}

/// A claim that is held.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Grant {
    /// The fencing tokens by semaphore.
    pub(super) fences: BTreeMap<String, u64>,
    /// The lease between two renewals.
    pub(super) lease: Lease,
    /// How long it had been held when the service answered, where that can be told.
    pub(super) held_for: Option<Duration>,
    /// How long the request took that got it.
    pub(super) took: Duration,
    /// The claim as the service showed it.
    pub(super) body: Vec<u8>,
}

/// How long a lease lives and when to renew it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Lease {
    /// How long it lives from the answer on: its ttl, or what is left of `max_hold` where that is less.
    pub(super) life: Duration,
    /// How long after the answer the service wants to be asked again.
    renew_after: Duration,
    /// Whether it lives for less than its ttl.
    is_cut: bool,
}

/// The lease that is assumed where the service names none: its default.
const TTL_DEFAULT: Duration = crate::model::bounds::TTL_DEFAULT;
/// No renewals faster than this, whatever the service says.
const RENEW_AFTER_MIN: Duration = Duration::from_millis(200);
/// The part of a lease after which it is renewed at the latest.
const DUE_PART_MAX: f64 = 0.8;

impl Default for Lease {
    fn default() -> Lease {
        Lease { life: TTL_DEFAULT, renew_after: TTL_DEFAULT / 3, is_cut: false }
    }
}

impl Lease {
    /// When the first renewal is due, after the grant: in time for its end, whatever the service says.
    pub(super) fn due_after_grant(&self) -> Duration {
        self.renew_after.min(self.life.mul_f64(DUE_PART_MAX)).max(RENEW_AFTER_MIN)
    }

    /// When the next one is due, after a renewal. One that was granted less than its ttl prolonged nothing, and no other
    /// will: then the service is asked when it wants to be, and that may be at the end or after it.
    pub(super) fn due_after_renewal(&self) -> Duration {
        if self.is_cut { self.renew_after.max(RENEW_AFTER_MIN) } else { self.due_after_grant() }
    }

    /// Whether it ends before the next one is due, after a renewal.
    pub(super) fn is_last(&self) -> bool {
        self.is_cut && self.life <= self.due_after_renewal()
    }
}

impl ClaimReply {
    /// The claim in an answer, if there is one.
    pub(super) fn read(answer: &Answer) -> Option<ClaimReply> {
        let reply: ClaimReply = serde_json::from_slice(&answer.body).ok()?;
        (!reply.state.is_empty()).then_some(reply)
    }

    /// The lease that it speaks of.
    pub(super) fn lease(&self) -> Lease {
        let ttl = seconds(self.ttl_seconds).unwrap_or(TTL_DEFAULT);
        // It may be zero: the lease is over, and the service has not ended it yet.
        let left = self.expires_in_seconds.and_then(|left| Duration::try_from_secs_f64(left).ok());
        let life = left.map_or(ttl, |left| left.min(ttl));
        let renew_after = seconds(self.renew_after_seconds).unwrap_or(ttl / 3);
        Lease { life, renew_after, is_cut: life < ttl }
    }

    /// How long the claim stays in the queue without a request.
    pub(super) fn queue_ttl(&self) -> Option<Duration> {
        seconds(self.queue_ttl_seconds)
    }

    /// How long it has been held, by the service's clock alone: an answer has a point in time and how far off that is.
    pub(super) fn held_for(&self) -> Option<Duration> {
        let moment = |text: &Option<String>| Moment::from_json(text.as_deref()?);
        let left = Duration::try_from_secs_f64(self.expires_in_seconds?).ok()?;
        Some(moment(&self.expires_at)?.since(moment(&self.granted_at)?).saturating_sub(left))
    }
}

fn seconds(number: Option<f64>) -> Option<Duration> {
    Duration::try_from_secs_f64(number?).ok().filter(|duration| !duration.is_zero())
}

/// An answer that went well and cannot be read.
pub(super) fn unreadable(answer: &Answer) -> Failure {
    let message = format!(
        "the answer makes no sense (HTTP {}); is the URL that of a semaphored?\n{SEE_DOCTOR}",
        answer.status
    );
    Failure::new(exit::INTERNAL, message)
}

/// Whether an error goes away by itself, so that another try makes sense. The other statuses from 500 on
/// are those of a server that does not know the method or the protocol: of another one than ours.
pub(super) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502..=504 | 507..)
}

/// An error, as RFC 9457 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Problem {
    /// The stable code.
    pub(super) code: String,
    /// What to do about it, for people.
    pub(super) detail: String,
    /// A short name, where there is no detail.
    title: String,
    /// Why a claim ended.
    pub(super) reason: String,
    /// What the token would have to be good for.
    pub(super) scope: Option<String>,
    /// What it is good for.
    pub(super) scopes: Vec<String>,
    /// The priority that was asked for.
    pub(super) priority: Option<i64>,
    /// The highest that the token may ask for.
    pub(super) priority_max: Option<i64>,
}

impl Problem {
    /// The problem in an answer; empty where it has none, such as an answer of a proxy.
    pub(super) fn read(answer: &Answer) -> Problem {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Whether the service itself says so: without a code it is something before it, such as a proxy, which knows nothing of
    /// claims.
    pub(super) fn is_of_service(&self) -> bool {
        !self.code.is_empty()
    }

    /// Whether it passes only when somebody does something about it, whatever the status says.
    pub(super) fn needs_somebody(&self) -> bool {
        self.code == "backup-no-space"
    }

    /// What a refusal means for a command that is over with it.
    pub(super) fn failure(&self, answer: &Answer) -> Failure {
        let (exit, what) = match (answer.status, self.end_reason()) {
            (401 | 403, _) => return self.not_allowed(answer),
            (410, Some(EndReason::Revoked)) => (exit::REVOKED, ""),
            (410, Some(EndReason::Expired)) => (exit::LEASE_LOST, ""),
            (410, _) => (exit::REFUSED, ""),
            _ if self.code == "backup-running" => (exit::NO_PERMIT, ""),
            _ => (exit::REFUSED, "refused: "),
        };
        Failure::new(exit, format!("{what}{}", self.describe(answer)))
    }

    /// What a 401 or 403 means, which would be the answer the next time, too.
    pub(super) fn not_allowed(&self, answer: &Answer) -> Failure {
        let what = if permission::words(self).is_some() { "" } else { "not allowed: " };
        Failure::new(exit::NOT_ALLOWED, format!("{what}{}", self.describe(answer)))
    }

    /// The detail, with what the client calls the way out of it.
    fn detail(&self) -> String {
        if let Some((what, how)) = permission::words(self) {
            return format!("{what}: {how}");
        }
        let (of_http, of_client) = match self.code.as_str() {
            "unknown-semaphore" => ("; GET ", "; `semaphorectl status` lists them"),
            "would-end-claims" => ("; add ?force", "; add --force to end them as unsatisfiable"),
            "unknown-target" => {
                ("; GET ", "; [callbacks.targets] of the service's configuration has them")
            }
            "no-permit" | "draining" => ("; leave out \"queue\"", "; leave out --no-queue to wait"),
            "callback-refused" => {
                return self.detail.replace("give it in `vars`, ", "give it with --var, ");
            }
            _ => return self.detail.clone(),
        };
        match self.detail.split_once(of_http) {
            // A question is a better way out.
            Some((what, _)) if what.ends_with('?') => what.to_owned(),
            Some((what, _)) => format!("{what}{of_client}"),
            None => self.detail.clone(),
        }
    }

    /// One line: the detail, the code and the status, as far as they are known.
    pub(super) fn describe(&self, answer: &Answer) -> String {
        let detail = self.detail();
        let said = match (detail.is_empty(), self.title.is_empty()) {
            (false, _) => detail,
            (true, false) => self.title.clone(),
            (true, true) => "the answer does not say why".to_owned(),
        };
        let status = answer.status;
        match (&answer.location, self.code.is_empty()) {
            (Some(location), _) if (300..400).contains(&status) => {
                format!("it redirects to {location}; is the URL right? (HTTP {status})")
            }
            (_, true) if matches!(status, 404 | 501) => {
                format!("there is no semaphored at this URL; is it right? (HTTP {status})")
            }
            (_, true) => format!("{said} (HTTP {status})"),
            (_, false) => format!("{said} ({}, HTTP {status})", self.code),
        }
    }

    /// Why the claim ended.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        EndReason::from_text(&self.reason)
    }

    /// Why the claim ended, in words.
    pub(super) fn describe_end(&self) -> String {
        match self.end_reason() {
            Some(EndReason::Released) => "it was released",
            Some(EndReason::Cancelled) => "it was cancelled",
            Some(EndReason::Expired) => "its lease expired",
            Some(EndReason::WaitTimeout) => "the permits were not free within its wait timeout",
            Some(EndReason::Abandoned) => "nobody asked for it, or confirmed its offer, in time",
            Some(EndReason::Unsatisfiable) => "the capacity was lowered below what it asks for",
            Some(EndReason::Revoked) => "an admin revoked it",
            Some(EndReason::CallbackFailed) => "no call of its callback got through",
            None if self.reason.is_empty() => "it ended",
            None => self.reason.as_str(),
        }
        .to_owned()
    }

    /// Why a claim that was left with a callback ended, in words, and where to look.
    pub(super) fn describe_end_with_callback(&self, id: &ClaimId) -> String {
        match self.end_reason() {
            Some(EndReason::Abandoned) => format!(
                "abandoned: the call came through, and nobody confirmed the offer within its --offer-ttl; the job \
                 did not start in time, or it did not run `semaphorectl run --claim {id}`"
            ),
            Some(EndReason::CallbackFailed) => format!(
                "no call of its callback was answered with 200 to 299; `semaphorectl deliveries {id}` has each try"
            ),
            _ => self.describe_end(),
        }
    }

    /// What the end of a claim that is asked for means for `run` and `acquire`; `why` is that in words.
    pub(super) fn end_failure(&self, why: &str) -> Failure {
        let exit = match self.end_reason() {
            Some(EndReason::Revoked) => exit::REVOKED,
            Some(EndReason::Unsatisfiable) => exit::REFUSED,
            Some(
                EndReason::WaitTimeout
                | EndReason::Cancelled
                | EndReason::Abandoned
                | EndReason::CallbackFailed
                | EndReason::Expired,
            ) => exit::NO_PERMIT,
            Some(EndReason::Released) | None => exit::INTERNAL,
        };
        Failure::new(exit, format!("no permit: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    #[test]
    fn unknown_and_missing_members_do_no_harm() {
        let held = answer(200, r#"{"state":"held","fences":{"a":7},"new":{"x":1}}"#);
        let reply = ClaimReply::read(&held).unwrap();
        assert_eq!(reply.fences["a"], 7);
        assert_eq!(reply.lease(), Lease::default());
        for body in ["", "<html>", "[]", "{}", r#"{"state":5}"#] {
            assert_eq!(ClaimReply::read(&answer(200, body)), None, "{body}");
        }
    }

    #[test]
    fn a_lease_is_renewed_before_it_ends() {
        // The ttl, what is left of it, when to renew; how long it lives, when the first renewal is due, and the next.
        // Is it over before that?
        for (ttl, left, after, life, first, next, is_last) in [
            (300.0, None, 100.0, 300.0, 100.0, 100.0, false),
            (300.0, Some(300.0), 100.0, 300.0, 100.0, 100.0, false),
            (10.0, Some(10.0), 60.0, 10.0, 8.0, 8.0, false),
            (1.0, None, 0.0, 1.0, 0.333, 0.333, false),
            // `max_hold` ends it: it is not renewed in ever shorter steps.
            (300.0, Some(110.0), 100.0, 110.0, 88.0, 100.0, false),
            (60.0, Some(3.0), 3.0, 3.0, 2.4, 3.0, true),
            (60.0, Some(0.6), 1.0, 0.6, 0.48, 1.0, true),
            (60.0, Some(0.0), 1.0, 0.0, 0.2, 1.0, true),
            (60.0, Some(0.0), 0.0, 0.0, 0.2, 20.0, true),
            // A lease that is longer than its ttl is none.
            (60.0, Some(90.0), 20.0, 60.0, 20.0, 20.0, false),
        ] {
            let reply = ClaimReply {
                ttl_seconds: Some(ttl),
                expires_in_seconds: left,
                renew_after_seconds: Some(after),
                ..ClaimReply::default()
            };
            let lease = reply.lease();
            assert_eq!(lease.is_last(), is_last, "{ttl} {left:?} {after}: {lease:?}");
            let read = [lease.life, lease.due_after_grant(), lease.due_after_renewal()];
            for (read, expected) in read.into_iter().zip([life, first, next]) {
                let difference = (read.as_secs_f64() - expected).abs();
                assert!(difference < 0.001, "{ttl} {left:?} {after}: {lease:?}");
            }
        }
    }

    #[test]
    fn how_long_it_was_held_is_told_by_one_clock() {
        let held = answer(
            200,
            r#"{"state":"held","granted_at":"2026-11-24T03:00:00.500Z","expires_in_seconds":300,
                "expires_at":"2026-11-24T03:05:45.5Z"}"#,
        );
        let held_for = ClaimReply::read(&held).unwrap().held_for();
        assert_eq!(held_for, Some(Duration::from_secs(45)));
        assert_eq!(ClaimReply::default().held_for(), None);
    }

    #[test]
    fn problems_are_told_with_what_is_known() {
        let full = answer(404, r#"{"code":"unknown-semaphore","detail":"no semaphore x"}"#);
        let told = Problem::read(&full).describe(&full);
        assert_eq!(told, "no semaphore x (unknown-semaphore, HTTP 404)");
        let bare = answer(405, "<html>");
        assert_eq!(Problem::read(&bare).describe(&bare), "the answer does not say why (HTTP 405)");
        for status in [404, 501] {
            let elsewhere = answer(status, "<html>");
            let told = Problem::read(&elsewhere).describe(&elsewhere);
            assert!(told.contains("no semaphored at this URL"), "{told}");
        }
        let detail = r#"{"code":"would-end-claims","detail":"it would end 2; add ?force=true to"}"#;
        let told = Problem::read(&answer(409, detail)).describe(&answer(409, detail));
        assert!(told.starts_with("it would end 2; add --force to end them"), "{told}");
        for (code, detail, expected) in [
            (
                "unknown-target",
                "there is no `c`, did you mean `ci`?; GET /x lists them",
                "mean `ci`? (",
            ),
            ("unknown-target", "there is no `c`; GET /x lists them", "`c`; [callbacks.targets] of"),
            (
                "callback-refused",
                "ci needs `a`: give it in `vars`, a number",
                "with --var, a number",
            ),
        ] {
            let refused = answer(422, &format!(r#"{{"code":"{code}","detail":"{detail}"}}"#));
            let told = Problem::read(&refused).describe(&refused);
            assert!(told.contains(expected), "{told}");
        }
        let moved = Answer { location: Some("https://h/".into()), ..answer(308, "") };
        assert!(Problem::read(&moved).describe(&moved).contains("redirects to https://h/"));
    }

    #[test]
    fn ends_have_their_exit_codes() {
        for (reason, exit) in [
            ("wait_timeout", exit::NO_PERMIT),
            ("revoked", exit::REVOKED),
            ("unsatisfiable", exit::REFUSED),
            ("abandoned", exit::NO_PERMIT),
            ("callback_failed", exit::NO_PERMIT),
            ("something_new", exit::INTERNAL),
        ] {
            let ended = answer(410, &format!(r#"{{"reason":"{reason}"}}"#));
            let problem = Problem::read(&ended);
            let failure = problem.end_failure(&problem.describe_end());
            assert_eq!(failure.exit, exit, "{reason}");
            assert!(failure.message.starts_with("no permit: "), "{}", failure.message);
        }
    }
}
