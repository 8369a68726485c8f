//! The commands of `semaphorectl` about callbacks, against a service that each test scripts.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    client::{outcome, semaphorectl},
    fake_service::{FakeService, Reply},
};

fn ctl(service: &FakeService, line: &str) -> Command {
    let mut command = semaphorectl(&line.split_whitespace().collect::<Vec<_>>());
    command.env("SEMAPHORE_URL", service.url());
    command
}

#[test]
fn a_claim_with_a_callback_is_left_at_once() {
    let service = FakeService::start(|_| Reply::waiting(3, "Retry-After: 50\r\n"));
    let line = "acquire lic --callback ci --var project=42 --var job=sim --id build-7 \
                --offer-ttl 20m --wait-timeout 2h --holder me";
    let (stdout, stderr) = outcome(&mut ctl(&service, line), 0);
    assert_eq!(stdout, "build-7\n");
    assert_eq!(stderr, "semaphorectl: registered for 1 permit of lic; its turn is told to ci\n");
    let calls = service.calls();
    assert_eq!(calls.len(), 1, "it is neither waited for nor released: {calls:?}");
    assert_eq!(
        (calls[0].method.as_str(), calls[0].target.as_str()),
        ("PUT", "/api/v1/claims/build-7")
    );
    let body: Value = serde_json::from_str(&calls[0].body).unwrap();
    let callback = json!({"target": "ci", "vars": {"project": "42", "job": "sim"}});
    assert_eq!(
        body,
        json!({"permits": {"lic": 1}, "holder": "me", "wait_timeout": "2h", "offer_ttl": "20m", "callback": callback})
    );
}

#[test]
fn a_repeated_step_finds_its_claim_in_any_state() {
    for (status, state) in [(202, "waiting"), (202, "offered"), (200, "held")] {
        let body = format!(r#"{{"id":"build-7","state":"{state}"}}"#);
        let answer = body.clone();
        let service = FakeService::start(move |_| Reply::json(status, answer.clone()));
        let line = "acquire lic --callback-url https://ci/start --id build-7 --json";
        // A claim around it holds nothing up, for nothing waits.
        let (stdout, stderr) = outcome(ctl(&service, line).env("SEMAPHORE_CLAIM_ID", "outer"), 0);
        assert_eq!(stdout, body + "\n");
        assert!(!stderr.contains("warning"), "{stderr}");
        let sent: Value = serde_json::from_str(&service.calls()[0].body).unwrap();
        assert_eq!(sent["callback"], json!({"url": "https://ci/start"}));
    }
    let service = FakeService::start(|_| Reply::ended("released"));
    let (_, stderr) = outcome(&mut ctl(&service, "acquire lic --callback ci --id build-7"), 65);
    assert!(stderr.contains("claim build-7 is over (it was released)"), "{stderr}");
}

#[test]
fn registering_survives_a_restart_and_reports_refusals() {
    let service = FakeService::start(|call| match call.nth {
        0 => Reply::HangUp,
        1 => Reply::problem(503, "stopping", "the service stops"),
        _ => Reply::waiting(1, ""),
    });
    let (stdout, _) = outcome(&mut ctl(&service, "acquire lic --callback ci"), 0);
    let calls = service.calls();
    assert_eq!(calls.len(), 3);
    assert!(calls.iter().all(|call| format!("{}\n", call.claim()) == stdout), "one claim");
    let service = FakeService::start(|_| {
        Reply::problem(404, "unknown-target", "there is no target `ci`. Did you mean `cd`?")
    });
    let (stdout, stderr) = outcome(&mut ctl(&service, "acquire lic --callback ci"), 65);
    assert_eq!(stdout, "");
    assert!(stderr.contains("Did you mean `cd`? (unknown-target, HTTP 404)"), "{stderr}");
}

#[test]
fn what_contradicts_a_callback_is_a_usage_error() {
    let service = FakeService::start(|_| Reply::HangUp);
    for (options, expected) in [
        ("--callback ci --while-pid 1", "--while-pid stays"),
        ("--callback ci --no-queue", "--no-queue does not wait"),
        ("--callback ci --callback-url https://x", "choose one"),
        ("--ttl 5m --var a=1", "--var is for a target"),
        ("--ttl 5m --offer-ttl 5m", "--offer-ttl is for claims with a --callback"),
        ("--callback ci --var a", "--var must be NAME=VALUE"),
        ("", "--callback TARGET"),
    ] {
        let (_, stderr) = outcome(&mut ctl(&service, &format!("acquire lic {options}")), 64);
        assert!(stderr.contains(expected), "{options}: {stderr}");
    }
    assert_eq!(service.calls().len(), 0);
}
