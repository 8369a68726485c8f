//! `semaphorectl doctor` on tokens: whose it is, whether it is good, and that one that may do little is no fault.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    client::outcome,
    client_tokens::{SECRET, TOKEN, ctl},
    fake_service::{Call, FakeService, Reply},
};

const SERVICE: &str = concat!(
    r#"{"name":"semaphored","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","state":"running","storage":"ok"}"#
);

/// Runs it, and returns its checks.
fn examine(service: &FakeService, options: &str, code: i32) -> Vec<Value> {
    let line = format!("doctor --quick --json {options}");
    let (stdout, stderr) = outcome(&mut ctl(service, &line), code);
    assert_eq!(stderr, "");
    assert!(!stdout.contains(SECRET), "{stdout}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let checks = report["checks"].as_array().unwrap().clone();
    for check in &checks {
        assert_eq!(check["mend"].is_null(), check["result"] == "ok", "{check}");
    }
    checks
}

fn found<'a>(checks: &'a [Value], name: &str) -> &'a Value {
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("{checks:?}"))
}

fn names(checks: &[Value]) -> Vec<&str> {
    checks.iter().map(|check| check["check"].as_str().unwrap()).collect()
}

/// The token, as one that ends `left` from now.
fn token(scopes: &[&str], left: Option<Duration>) -> Reply {
    let end = left.map(|left| Timestamp::try_from(SystemTime::now() + left).unwrap().to_string());
    let body = json!({
        "id": "ab12", "name": "ci", "scopes": scopes, "semaphores": ["*"], "expires_at": end, "claims": 0,
    });
    Reply::json(200, body.to_string())
}

fn lacks(scope: &str) -> Reply {
    let body = json!({ "code": "scope-missing", "scope": scope, "scopes": ["claim"] });
    Reply::json(403, body.to_string())
}

/// What a service with tokens answers to this call, but for the one about the token.
fn rest(call: &Call) -> Reply {
    match call.target.contains("wait=") {
        true => Reply::json(504, "<html>"),
        false => Reply::json(200, SERVICE),
    }
}

#[test]
fn a_token_that_may_only_claim_is_no_fault() {
    let service = FakeService::start(|call| match call.target.as_str() {
        "/api/v1/token" => token(&["claim"], None),
        _ => lacks("read"),
    });
    let checks = examine(&service, "", 0);
    let all = [
        "configuration",
        "reach",
        "service",
        "authentication",
        "clock",
        "long wait",
        "environment",
    ];
    assert_eq!(names(&checks), all);
    assert!(checks.iter().all(|check| check["result"] == "ok"), "{checks:?}");
    let detail = &found(&checks, "authentication")["detail"];
    assert_eq!(detail, "token ci (id ab12), scope claim, all semaphores, does not expire");
    assert_eq!(
        found(&checks, "configuration")["detail"],
        format!("{} (from SEMAPHORE_URL), a token from SEMAPHORE_TOKEN", service.url())
    );
    let sent = service.calls()[0].authorization.clone();
    assert_eq!(sent, Some(format!("Bearer {TOKEN}")));
}

#[test]
fn a_token_that_ends_soon_is_a_warning() {
    let day = Duration::from_secs(24 * 3_600);
    for (days, result) in [(8, "ok"), (6, "warn")] {
        let service = FakeService::start(move |call| match call.target.as_str() {
            "/api/v1/token" => token(&["claim", "read"], Some(day * days)),
            _ => rest(call),
        });
        let checks = examine(&service, "", 69);
        assert_eq!(found(&checks, "authentication")["result"], result, "{days}");
        assert_eq!(found(&checks, "long wait")["result"], "fail", "it was tried");
    }
}

#[test]
fn a_token_that_is_refused_is_told_with_what_to_mend() {
    for (code, detail) in [
        ("token-missing", "the service wants a token (token-missing, HTTP 401)"),
        ("token-expired", "the time of this token is over (token-expired, HTTP 401)"),
    ] {
        let service = FakeService::start(move |_| Reply::problem(401, code, "no"));
        let checks = examine(&service, "", 77);
        assert_eq!(names(&checks), ["configuration", "reach", "authentication", "environment"]);
        let check = found(&checks, "authentication");
        assert_eq!(check["detail"], detail);
        assert!(check["mend"].as_str().unwrap().starts_with("set SEMAPHORE_TOKEN or"), "{check}");
        assert_eq!(service.calls().len(), 1, "a wrong token is not sent again");
    }
}

#[test]
fn a_service_without_tokens_is_told() {
    let service = FakeService::start(|call| match call.target.as_str() {
        "/api/v1/token" => Reply::problem(404, "no-token", "tokens are switched off"),
        _ => rest(call),
    });
    let checks = examine(&service, "", 69);
    let check = found(&checks, "authentication");
    assert_eq!(check["detail"], "none needed; the token that is sent does nothing");
}

#[test]
fn a_service_that_is_asked_too_much_is_told() {
    let service = FakeService::start(|_| Reply::problem(429, "too-many-wrong-tokens", "wait"));
    let checks = examine(&service, "", 69);
    assert_eq!(found(&checks, "reach")["detail"], "wait (too-many-wrong-tokens, HTTP 429)");
}

#[test]
fn a_file_that_others_can_read_is_a_warning() {
    let service = FakeService::start(|call| match call.target.as_str() {
        "/api/v1/token" => token(&["claim"], None),
        _ => lacks("read"),
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, TOKEN).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    let checks = examine(&service, &format!("--token-file {}", path.display()), 0);
    let check = found(&checks, "configuration");
    assert_eq!(check["mend"], format!("others can read the token: chmod 600 {}", path.display()));
}
