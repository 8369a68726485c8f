//! `semaphorectl run --claim`, in the job that a callback starts, against a service that each test scripts.

use std::{io::BufReader, net::TcpListener, process::Command};

use rustix::process::Signal;

use crate::{
    client::{
        READY_THEN_WAIT, await_line, await_ready, check, closed_port, finish, semaphorectl, send,
        start, text,
    },
    fake_service::{FakeService, Reply},
};

/// `semaphorectl run --claim c1` with these options, to this service.
fn adopt(service: &FakeService, options: &[&str], child: &[&str]) -> Command {
    let mut command = semaphorectl(&["run", "--claim", "c1"]);
    command.env("SEMAPHORE_URL", service.url()).env("SEMAPHORE_CLAIM_ID", "c1");
    command.args(options).arg("--").args(child);
    command
}

fn offering() -> FakeService {
    FakeService::start(|call| match call.method.as_str() {
        "POST" => Reply::held(200, 300.0, 100.0),
        _ => Reply::no_content(),
    })
}

#[test]
fn an_offer_is_confirmed_and_the_command_runs() {
    let service = offering();
    let script = "echo $SEMAPHORE_CLAIM_ID $SEMAPHORE_FENCES; exit 5";
    let output = finish(start(&mut adopt(&service, &[], &["sh", "-c", script])));
    assert_eq!(output.status.code(), Some(5));
    assert_eq!(text(&output.stdout), "c1 {\"lic\":7}\n");
    let stderr = text(&output.stderr);
    assert_eq!(stderr, "semaphorectl: got the permits of claim c1\n", "no word of a run in a run");
    let calls = service.calls();
    let asked: Vec<_> =
        calls.iter().map(|call| format!("{} {}", call.method, call.target)).collect();
    let body: serde_json::Value = serde_json::from_str(&calls[0].body).unwrap();
    let job = body["job"].as_str().unwrap();
    assert!(job.len() > 20, "{body}");
    let release = format!("DELETE /api/v1/claims/c1?job={job}");
    assert_eq!(asked, ["POST /api/v1/claims/c1/renew?wait=2s", release.as_str()]);
}

#[test]
fn a_claim_that_another_job_has_is_left_alone() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "POST" => Reply::problem(409, "claim-taken", "another job has it"),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut adopt(&service, &[], &["echo", "started"]), 65);
    assert!(stderr.contains("another job has claim c1"), "{stderr}");
    assert!(stderr.contains("nothing to do"), "{stderr}");
    let methods: Vec<_> = service.calls().iter().map(|call| call.method.clone()).collect();
    assert_eq!(methods, ["POST"], "it is not released");
}

/// It waited along, and then another job was quicker.
#[test]
fn a_claim_that_another_job_takes_meanwhile_is_left_alone() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("POST", 0) => Reply::waiting(1, "Retry-After: 0\r\n"),
        ("POST", _) => Reply::problem(409, "claim-taken", "another job has it"),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut adopt(&service, &[], &["echo", "started"]), 65);
    assert!(stderr.contains("another job has claim c1"), "{stderr}");
    assert_eq!(service.calls_of("DELETE").len(), 0, "it is not released");
}

/// A job that was never answered gives back what is its own alone: the service knows.
#[test]
fn a_job_that_leaves_does_not_take_a_claim_from_another() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "POST" => Reply::problem(503, "stopping", "the service stops"),
        _ => Reply::problem(409, "claim-taken", "another job has it"),
    });
    let stderr = check(&mut adopt(&service, &["--unreachable-timeout=1s"], &["true"]), 69);
    assert!(!stderr.contains("could not be released"), "{stderr}");
    let release = &service.calls_of("DELETE")[0].target;
    assert!(release.starts_with("/api/v1/claims/c1?job="), "{release}");
}

#[test]
fn a_repeated_confirmation_is_by_the_same_job() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("POST", 0) => Reply::problem(503, "stopping", "the service stops"),
        ("POST", _) => Reply::held(200, 300.0, 100.0),
        _ => Reply::no_content(),
    });
    check(&mut adopt(&service, &[], &["true"]), 0);
    let bodies: Vec<_> = service.calls_of("POST").iter().map(|call| call.body.clone()).collect();
    assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
}

#[test]
fn a_claim_that_still_waits_is_waited_for() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("POST", 0) => Reply::waiting(2, "Retry-After: 0\r\n"),
        ("POST", 1) => Reply::problem(503, "stopping", "the service stops"),
        ("POST", _) => Reply::held(200, 300.0, 100.0),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut adopt(&service, &[], &["true"]), 0);
    let told = "waiting for the permits of claim c1, position 2, 0s\n";
    assert!(stderr.contains(told), "{stderr}");
    assert!(stderr.contains("the service stops (stopping, HTTP 503); trying again"), "{stderr}");
    let renewals = service.calls_of("POST");
    let waits: Vec<_> =
        renewals.iter().map(|call| call.target.rsplit('=').next().unwrap()).collect();
    assert_eq!(waits, ["2s", "50s", "2s"]);
    assert_eq!(service.calls_of("DELETE").len(), 1);
    assert_eq!(service.calls_of("PUT").len(), 0);
}

#[test]
fn a_claim_that_is_over_is_no_permit() {
    for (reason, exit, words) in [
        ("abandoned", 65, "the offer was not confirmed in time"),
        ("released", 65, "the job has run already"),
        ("callback_failed", 65, "`semaphorectl deliveries c1` has each try"),
        ("revoked", 79, "an admin revoked it: the board is on fire"),
    ] {
        let service = FakeService::start(move |call| match call.method.as_str() {
            "POST" => Reply::ended(reason),
            _ => Reply::json(200, r#"{"state":"ended","note":"the board is on fire"}"#),
        });
        let stderr = check(&mut adopt(&service, &[], &["echo", "no"]), exit);
        assert!(stderr.contains("claim c1 is over: "), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert_eq!(service.calls_of("DELETE").len(), 0, "{reason}");
    }
}

#[test]
fn an_unknown_claim_is_refused() {
    let service =
        FakeService::start(|_| Reply::problem(404, "unknown-claim", "there is no claim `c1`"));
    let stderr = check(&mut adopt(&service, &[], &["true"]), 65);
    assert!(stderr.contains("does not know claim c1: there is no claim `c1`"), "{stderr}");
    assert_eq!(service.calls().len(), 1);
}

#[test]
fn a_service_that_is_out_of_reach_for_a_while_is_waited_for() {
    let (port, url) = closed_port();
    let arguments = ["run", "--claim", "c1", "--url", url.as_str(), "--", "true"];
    let mut child = start(&mut semaphorectl(&arguments));
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    await_line(&mut stderr, "trying again");
    port.listen(16).unwrap();
    let service = FakeService::listen(TcpListener::from(port), |call| match call.method.as_str() {
        "POST" => Reply::held(200, 300.0, 100.0),
        _ => Reply::no_content(),
    });
    assert_eq!(finish(child).status.code(), Some(0));
    assert_eq!(service.calls_of("DELETE").len(), 1);
    let (_port, url) = closed_port();
    let options = ["run", "--claim", "c1", "--url", &url, "--unreachable-timeout", "1s"];
    let stderr = check(semaphorectl(&options).args(["--", "true"]), 69);
    assert!(stderr.contains("out of reach for 1s"), "{stderr}");
    assert!(stderr.contains("claim c1 could not be released"), "it is there: {stderr}");
}

#[test]
fn signals_leave_the_queue_or_reach_the_command() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "POST" => Reply::AfterDelete(Box::new(Reply::ended("cancelled"))),
        _ => Reply::no_content(),
    });
    let child = start(&mut adopt(&service, &[], &["true"]));
    service.wait_for("POST", 1);
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(143));
    assert_eq!(service.calls_of("DELETE").len(), 1);
    let service = offering();
    let mut child = start(&mut adopt(&service, &[], READY_THEN_WAIT));
    await_ready(&mut child);
    send(&child, Signal::TERM);
    assert_eq!(finish(child).status.code(), Some(7));
    assert_eq!(service.calls_of("DELETE").len(), 1);
}

#[test]
fn a_lease_that_was_taken_over_is_renewed_and_its_loss_seen() {
    let service = FakeService::start(|call| match (call.method.as_str(), call.nth) {
        ("POST", 0..=2) => Reply::held(200, 300.0, 0.2),
        ("POST", _) => Reply::ended("expired"),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut adopt(&service, &["--on-lost=terminate"], READY_THEN_WAIT), 80);
    assert!(stderr.contains("its lease expired"), "{stderr}");
    let renewals = service.calls_of("POST");
    assert_eq!(renewals.len(), 4);
    assert_eq!(renewals[1].target, "/api/v1/claims/c1/renew", "only the first one waits");
}

#[test]
fn a_claim_that_is_held_already_warns_of_a_second_start() {
    let held = r#"{"state":"held","fences":{"lic":7},"ttl_seconds":300,"expires_in_seconds":300,
        "renew_after_seconds":100,"granted_at":"2026-11-24T03:00:00Z",
        "expires_at":"2026-11-24T03:05:45Z"}"#;
    let service = FakeService::start(move |call| match call.method.as_str() {
        "POST" => Reply::json(200, held),
        _ => Reply::no_content(),
    });
    let stderr = check(&mut adopt(&service, &[], &["true"]), 0);
    assert!(stderr.contains("warning: claim c1 was held already, for 4"), "{stderr}");
}

#[test]
fn another_claim_around_this_one_is_warned_of() {
    let service = offering();
    let mut command = adopt(&service, &[], &["true"]);
    let stderr = check(command.env("SEMAPHORE_CLAIM_ID", "c0"), 0);
    assert!(stderr.contains("warning: a run inside a run: claim c0"), "{stderr}");
}

#[test]
fn what_does_not_go_with_a_claim_is_a_usage_error() {
    for (line, expected) in [
        ("run --claim c1 lic -- true", "leave \"lic\" out"),
        ("run --claim c1 -p lic=1 -- true", "--permits goes with the `acquire`"),
        ("run --claim c1 --wait-timeout 5 -- true", "--wait-timeout goes with"),
        ("run --claim= -- true", "--claim has no id"),
        ("run --claim c1", "no command to run"),
        ("run lic --callback ci -- true", "--callback is an option of `semaphorectl acquire`"),
        ("run --callback-url=https://x lic -- true", "--callback-url is an option of"),
    ] {
        let arguments: Vec<_> = line.split_whitespace().collect();
        let stderr = check(&mut semaphorectl(&arguments), 64);
        assert!(stderr.contains(expected), "{line}: {stderr}");
    }
}
