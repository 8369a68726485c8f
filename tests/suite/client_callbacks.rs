//! The commands of `semaphorectl` about callbacks, against a service that each test scripts.

use std::process::Command;

use serde_json::{Value, json};

use crate::{
    client::{finish, outcome, semaphorectl, start},
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
    let expected = "claim build-7 is over (it was released), and its id is used up: make the claim again \
                    under a new --id\n";
    assert!(stderr.contains(expected) && stderr.contains("$CI_JOB_ID"), "{stderr}");
}

#[test]
fn the_end_of_a_claim_with_a_callback_is_told_with_where_to_look() {
    for (reason, words) in [
        (
            "abandoned",
            "(abandoned: the call came through, and nobody confirmed the offer within its --offer-ttl; the job did \
             not start in time, or it did not run `semaphorectl run --claim build-7`)",
        ),
        (
            "callback_failed",
            "(no call of its callback was answered with 200 to 299; `semaphorectl deliveries build-7` has each try)",
        ),
        ("wait_timeout", "(the permits were not free within its wait timeout)"),
    ] {
        let service = FakeService::start(move |_| Reply::ended(reason));
        let (_, stderr) = outcome(&mut ctl(&service, "acquire lic --callback ci --id build-7"), 65);
        assert!(stderr.contains(words), "{stderr}");
    }
    // Without the callback it is not known whether the claim of that id had one.
    let service = FakeService::start(|_| Reply::ended("abandoned"));
    let (_, stderr) = outcome(&mut ctl(&service, "acquire lic --ttl 5m --id build-7"), 65);
    assert!(stderr.contains("(nobody asked for it, or confirmed its offer, in time)"), "{stderr}");
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
fn no_room_for_a_claim_with_a_callback_is_not_waited_for_without_end() {
    let full = |retry_after: &'static str| {
        let body = r#"{"code":"queue-full","detail":"100 claims wait for `lic`"}"#;
        Reply::Answer(429, retry_after, body.to_owned())
    };
    // Once more at the end of its time, whatever Retry-After says.
    let service = FakeService::start(move |_| full("Retry-After: 50\r\n"));
    let line = "acquire lic --callback ci --unreachable-timeout 1s";
    let (stdout, stderr) = outcome(&mut ctl(&service, line), 75);
    assert_eq!(stdout, "");
    let told =
        "the claim was not taken in for 1s: 100 claims wait for `lic` (queue-full, HTTP 429)";
    assert!(stderr.contains(told) && stderr.contains("nobody will be called"), "{stderr}");
    let calls = service.calls();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert!(calls.iter().all(|call| call.is("PUT")), "there is nothing to release: {calls:?}");
    // Trouble of another kind in between does not make it longer. A service that stops may have taken the claim in.
    let service = FakeService::start(move |call| match (call.method.as_str(), call.nth % 2) {
        ("DELETE", _) => Reply::no_content(),
        (_, 0) => full("Retry-After: 0\r\n"),
        _ => Reply::problem(503, "stopping", "the service stops"),
    });
    let output = finish(start(&mut ctl(&service, line)));
    assert!(matches!(output.status.code(), Some(69 | 75)), "{output:?}");
    assert_eq!(service.calls_of("DELETE").len(), 1);
    // Room in time is well.
    let service = FakeService::start(move |call| match call.nth {
        0 => full("Retry-After: 0\r\n"),
        _ => Reply::waiting(1, ""),
    });
    let (_, stderr) = outcome(&mut ctl(&service, line), 0);
    assert!(stderr.contains("(queue-full, HTTP 429); trying again"), "{stderr}");
}

#[test]
fn what_contradicts_a_callback_is_a_usage_error() {
    let service = FakeService::start(|_| Reply::HangUp);
    for (options, expected) in [
        ("--callback ci --while-pid 1", "--while-pid stays"),
        ("--callback ci --no-queue", "--no-queue does not wait"),
        ("--callback ci --callback-url https://x", "choose one"),
        ("--callback https://x", "a URL goes with --callback-url https://x"),
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

/// The deliveries of an offered claim: one that failed, and one more that ended so.
fn deliveries(last: &Value, next_attempt_at: &Value, state: &str) -> String {
    let first = json!({"number": 1, "started_at": "2026-11-24T03:50:53.012Z", "duration_seconds": 0.034,
        "status": 503, "error": null, "result": "failed"});
    let both = if last.is_null() { json!([]) } else { json!([first, last]) };
    json!({"deliveries": both, "webhook_id": "msg_1", "next_attempt_at": next_attempt_at,
        "callback": {"target": "ci", "vars": {"project": "42"}}, "claim_state": state, "revision": 7})
    .to_string()
}

fn failed() -> Value {
    json!({"number": 2, "started_at": "2026-11-24T03:50:59Z", "duration_seconds": 12.5,
        "status": null, "error": "connect", "result": "failed"})
}

/// A service that answers with this, twelve seconds before the next try.
fn telling(body: String) -> FakeService {
    let date = "Date: Tue, 24 Nov 2026 03:51:04 GMT\r\n";
    FakeService::start(move |_| Reply::Answer(200, date, body.clone()))
}

#[test]
fn deliveries_are_a_table_and_what_comes_next() {
    let service = telling(deliveries(&failed(), &json!("2026-11-24T03:51:16Z"), "offered"));
    let (stdout, stderr) = outcome(&mut ctl(&service, "deliveries c1"), 0);
    let expected = "calls ci (project=42), webhook id msg_1\n\
        NUMBER  STARTED                  DURATION  RESULT\n     \
        1  2026-11-24 03:50:53 UTC    0.034s  failed: HTTP 503\n     \
        2  2026-11-24 03:50:59 UTC     12.5s  failed: connect\n\
        next: it is tried in 12s, at 2026-11-24 03:51:16 UTC\n\
        to do: nobody takes the connection: is the CI system up, ";
    assert!(stdout.starts_with(expected), "{stdout}");
    assert_eq!(stderr, "");
    assert_eq!(service.calls()[0].target, "/api/v1/claims/c1/deliveries");
    let (json, _) = outcome(&mut ctl(&service, "deliveries c1 --json"), 0);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["deliveries"][1], failed());
}

#[test]
fn what_comes_next_depends_on_the_claim() {
    let delivered = json!({"number": 2, "started_at": "2026-11-24T03:50:59Z", "duration_seconds": 0.2,
        "status": 201, "error": null, "result": "delivered"});
    let mut gone = failed();
    gone["status"] = json!(410);
    for (last, state, expected) in [
        (&Value::Null, "waiting", "next: the claim waits; ci is called when its turn comes"),
        (&Value::Null, "offered", "next: ci is called at once"),
        (
            &delivered,
            "offered",
            "next: the started job confirms the offer: semaphorectl run --claim c1",
        ),
        (&failed(), "offered", "next: a try begins just now"),
        (&gone, "offered", "semaphorectl deliveries c1 --retry makes one all the same"),
        (&delivered, "held", "next: nothing, a job has confirmed the offer"),
        (&failed(), "ended", "next: nothing, the claim is over"),
    ] {
        let service = telling(deliveries(last, &Value::Null, state));
        let (stdout, _) = outcome(&mut ctl(&service, "deliveries c1"), 0);
        assert!(stdout.contains(expected), "{state}: {stdout}");
        let advised = stdout.contains("to do: ");
        assert_eq!(advised, *last == failed() || *last == gone, "{state}: {stdout}");
        assert_eq!(stdout.contains("NUMBER"), !last.is_null(), "{stdout}");
    }
}

#[test]
fn a_call_without_a_recorded_answer_is_no_failure() {
    let unfinished = json!({"number": 2, "started_at": "2026-11-24T03:50:59.250Z", "duration_seconds": 0,
        "status": null, "error": null, "result": "unfinished"});
    let planned = json!("2026-11-24T03:51:16Z");
    let to_do = "to do: no answer was recorded before the claim ended or the daemon stopped";
    for (next, state, row, expected) in [
        (
            &Value::Null,
            "offered",
            "-  under way",
            "next: the call of ci is under way since 2026-11-24 03:50:59 UTC",
        ),
        // After a crash: what was under way is called again.
        (&planned, "offered", "-  no answer recorded", to_do),
        (
            &Value::Null,
            "held",
            "-  no answer recorded",
            "next: nothing, a job has confirmed the offer",
        ),
        (&Value::Null, "ended", "-  no answer recorded", to_do),
    ] {
        let body = deliveries(&unfinished, next, state);
        let service = telling(body.clone());
        let (stdout, _) = outcome(&mut ctl(&service, "deliveries c1"), 0);
        let last = stdout.lines().find(|line| line.trim_start().starts_with("2  "));
        assert!(last.is_some_and(|line| line.ends_with(row)), "{stdout}");
        assert!(stdout.contains(expected), "{state}: {stdout}");
        assert_eq!(stdout.contains("to do: "), expected == to_do, "{stdout}");
        assert!(!stdout.contains("--retry"), "it could start the job twice: {stdout}");
        let (json, _) = outcome(&mut ctl(&service, "deliveries c1 --json"), 0);
        assert_eq!(json, body + "\n");
    }
}

#[test]
fn the_last_delivery_is_tried_again() {
    let service = FakeService::start(|call| match call.method.as_str() {
        "GET" => Reply::json(200, deliveries(&failed(), &Value::Null, "offered")),
        _ => Reply::json(202, deliveries(&failed(), &json!("2026-11-24T03:51:05Z"), "offered")),
    });
    let (stdout, _) = outcome(&mut ctl(&service, "deliveries c1 --retry"), 0);
    assert!(stdout.contains("next: it is tried at once"), "{stdout}");
    let posts = service.calls_of("POST");
    assert_eq!(posts.len(), 1);
    assert_eq!(
        (posts[0].target.as_str(), posts[0].body.as_str()),
        ("/api/v1/claims/c1/deliveries/2/retry", "")
    );
    // It began so soon that neither its plan nor its record is in the answer.
    let service =
        FakeService::start(|_| Reply::json(200, deliveries(&failed(), &Value::Null, "offered")));
    let (stdout, _) = outcome(&mut ctl(&service, "deliveries c1 --retry"), 0);
    assert!(
        stdout.contains("next: it is tried at once; semaphorectl deliveries c1 shows"),
        "{stdout}"
    );
    assert!(!stdout.contains("--retry"), "it would start the job once more: {stdout}");
    let service = FakeService::start(|call| match call.method.as_str() {
        "GET" => Reply::json(200, deliveries(&failed(), &Value::Null, "held")),
        _ => Reply::problem(409, "not-offered", "the claim is held"),
    });
    let (_, stderr) = outcome(&mut ctl(&service, "deliveries c1 --retry"), 65);
    assert!(stderr.contains("the claim is held (not-offered, HTTP 409)"), "{stderr}");
    let service = telling(deliveries(&Value::Null, &Value::Null, "waiting"));
    let (_, stderr) = outcome(&mut ctl(&service, "deliveries c1 --retry"), 65);
    assert!(stderr.contains("nothing was called yet"), "{stderr}");
    assert_eq!(service.calls_of("POST").len(), 0);
}

#[test]
fn deliveries_of_other_claims_are_refused() {
    for (status, code) in [(404, "unknown-claim"), (409, "no-callback")] {
        let service = FakeService::start(move |_| Reply::problem(status, code, "no such thing"));
        let (_, stderr) = outcome(&mut ctl(&service, "deliveries c1"), 65);
        assert!(stderr.contains(&format!("no such thing ({code}, HTTP {status})")), "{stderr}");
    }
}

fn test_outcome(delivered: bool, status: Option<u16>, error: Option<&str>) -> String {
    json!({"target": "ci", "delivered": delivered, "status": status, "error": error,
        "duration_seconds": 0.2, "webhook_id": "msg_1", "started_at": "2026-11-24T03:50:53Z"})
    .to_string()
}

#[test]
fn a_target_that_takes_the_call_is_well() {
    let service = telling(test_outcome(true, Some(204), None));
    let (stdout, stderr) = outcome(&mut ctl(&service, "callback-test ci --var project=42"), 0);
    assert_eq!(stdout, "ci took the call: HTTP 204 after 0.200s, webhook id msg_1\n");
    assert_eq!(stderr, "");
    let (json, _) = outcome(&mut ctl(&service, "callback-test ci --json"), 0);
    assert_eq!(json, test_outcome(true, Some(204), None) + "\n");
    let calls = service.calls();
    assert_eq!(calls[0].target, "/api/v1/callbacks/ci/test");
    assert_eq!(
        (calls[0].method.as_str(), calls[0].body.as_str()),
        ("POST", r#"{"vars":{"project":"42"}}"#)
    );
    assert_eq!(calls[1].body, "");
}

#[test]
fn a_target_that_does_not_is_told_with_advice() {
    for (status, error, end, advice) in [
        (None, Some("resolve"), "resolve", "look it up there"),
        (None, Some("address-refused"), "address-refused", "allow_cidrs of [callbacks.targets.ci]"),
        (None, Some("tls"), "tls", "put the CA of the CI system into the certificate store"),
        (Some(401), None, "HTTP 401", "secret_file of [callbacks.targets.ci]"),
        (Some(404), None, "HTTP 404", "check the vars"),
    ] {
        let service = telling(test_outcome(false, status, error));
        let (stdout, stderr) = outcome(&mut ctl(&service, "callback-test ci"), 65);
        assert_eq!(stdout, "");
        assert!(
            stderr.contains(&format!("ci did not take the call: {end} after 0.200s")),
            "{stderr}"
        );
        assert!(stderr.contains(advice), "{stderr}");
        let (json, _) = outcome(&mut ctl(&service, "callback-test ci --json"), 65);
        assert_eq!(json, test_outcome(false, status, error) + "\n");
    }
    let service =
        FakeService::start(|_| Reply::problem(422, "callback-refused", "project is missing"));
    let (_, stderr) = outcome(&mut ctl(&service, "callback-test ci"), 65);
    assert!(stderr.contains("project is missing (callback-refused, HTTP 422)"), "{stderr}");
    let service = FakeService::start(|_| Reply::HangUp);
    let line = "callback-test ci --unreachable-timeout 5s";
    outcome(&mut ctl(&service, line), 69);
    assert_eq!(service.calls().len(), 1, "a call that may have started a job is not repeated");
}
