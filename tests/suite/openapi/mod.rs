//! The real service against `openapi.json`, in both directions: what it answers is documented, and what
//! is documented it answers.

mod access;
mod refusals;

use std::collections::BTreeSet;

use semaphored::{model::DELIVERIES_MAX, router::Routes};

use super::{
    backup, callbacks,
    contract::Contract,
    daemon::Daemon,
    fake_service::{FakeService, Reply},
    http::Request,
};

/// Documented and not provoked: a bug, or a disk that cannot be read any more.
const NOT_PROVOKED: u16 = 500;
const CODES_NOT_PROVOKED: [&str; 1] = ["internal"];

const A: &str = r#"{"permits": {"A": 1}}"#;
const B: &str = r#"{"permits": {"B": 1}}"#;
const A_AT_ONCE: &str = r#"{"permits": {"A": 1}, "queue": false}"#;

#[test]
fn every_route_is_documented_and_every_operation_exists() {
    let documented: BTreeSet<_> = Contract::new().operations().into_iter().collect();
    let routes = Routes::endpoints().map(|(method, path)| (method.to_owned(), path.to_owned()));
    assert_eq!(routes.collect::<BTreeSet<_>>(), documented);
}

#[test]
fn answers_are_documented_and_what_is_documented_is_answered() {
    let parts: [fn(&mut Contract); 18] = [
        service,
        backup::at_the_same_time,
        claims,
        preferences,
        claims_of_a_chosen_id,
        called_back,
        semaphores,
        refusals::members_that_no_call_has,
        refusals::refusals_of_every_call,
        refusals::paths_and_methods,
        refusals::bounds_of_the_service,
        refusals::low_disk_space,
        refusals::stopping,
        access::tokens,
        access::audit_log,
        access::who_is_refused,
        access::bounds_of_a_token,
        access::wrong_tokens,
    ];
    let mut contract = Contract::new();
    // Each has a daemon of its own.
    let threads = parts.map(|part| {
        std::thread::spawn(move || {
            let mut contract = Contract::new();
            part(&mut contract);
            contract
        })
    });
    for thread in threads {
        contract.merge(thread.join().expect("a part of the walk failed, see above"));
    }
    contract.assert_kept();
    let unseen: Vec<_> = contract.unseen().into_iter().collect();
    let (not_provoked, unseen): (Vec<_>, Vec<_>) =
        unseen.into_iter().partition(|(_, status)| *status == NOT_PROVOKED);
    assert!(unseen.is_empty(), "documented, and never answered: {unseen:#?}");
    assert_eq!(not_provoked.len(), contract.operations().len(), "500 was answered");
    assert_eq!(contract.unseen_codes(), CODES_NOT_PROVOKED);
}

/// Calls a list of `status method target body`, each after the other.
fn walk(contract: &mut Contract, daemon: &Daemon, steps: &[(u16, &str, &str, &str)]) {
    for (status, method, target, body) in steps {
        let response = contract.call(daemon, method, target, body);
        assert_eq!(response.status, *status, "{method} {target} {body}: {}", response.text());
    }
}

fn service(contract: &mut Contract) {
    let daemon = Daemon::start("");
    for path in ["/api", "/api/v1", "/api/v1/service", "/healthz", "/readyz", "/openapi.json"] {
        for method in ["GET", "HEAD"] {
            walk(contract, &daemon, &[(200, method, path, "")]);
        }
    }
}

/// The life of a claim whose id the client chooses.
fn claims(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\nB = 2\n");
    let full = r#"{"permits": {"A": 1}, "holder": "job", "ttl": "5m", "wait_timeout": 7200,
        "queue_ttl": 60.5, "offer_ttl": "60s", "priority": -3, "labels": {"branch": "main"},
        "queue": true}"#;
    let waits = r#"{"permits": {"A": 1}, "wait_timeout": "2h", "priority": 5}"#;
    walk(
        contract,
        &daemon,
        &[
            (201, "PUT", "/api/v1/claims/a", full),
            (200, "PUT", "/api/v1/claims/a?wait=5", full),
            (409, "PUT", "/api/v1/claims/a", A),
            (202, "PUT", "/api/v1/claims/b?wait=0", waits),
            (202, "PUT", "/api/v1/claims/c", A),
            (409, "PUT", "/api/v1/claims/d", A_AT_ONCE),
            (404, "PUT", "/api/v1/claims/d", r#"{"permits": {"Z": 1}}"#),
            (422, "PUT", "/api/v1/claims/d", r#"{"permits": {"A": 0}}"#),
            (422, "PUT", "/api/v1/claims/d", r#"{"permits": {"A": 2}}"#),
            (422, "PUT", "/api/v1/claims/d", r#"{"permit": {"A": 2}}"#),
            (422, "PUT", "/api/v1/claims/d", r#"{"permits": {"A": 2, "A": 2}}"#),
            (422, "PUT", "/api/v1/claims/d", "{}"),
            (400, "PUT", "/api/v1/claims/d", "[]"),
            (400, "PUT", "/api/v1/claims/%2F", A),
            (404, "POST", "/api/v1/claims/d/renew", ""),
            (422, "POST", "/api/v1/claims/a/renew", r#"{"ttl": 0}"#),
            (200, "POST", "/api/v1/claims/a/renew", r#"{"ttl": "10m"}"#),
            (200, "POST", "/api/v1/claims/a/renew", r#"{"job": "one"}"#),
            (409, "POST", "/api/v1/claims/a/renew", r#"{"job": "two"}"#),
            (409, "DELETE", "/api/v1/claims/a?job=two", ""),
            (200, "POST", "/api/v1/claims/a/renew", ""),
            (202, "POST", "/api/v1/claims/b/renew", ""),
            (200, "GET", "/api/v1/claims/a", ""),
            (200, "HEAD", "/api/v1/claims/a", ""),
            (200, "GET", "/api/v1/claims/b?since=0&wait=5s", ""),
            (404, "GET", "/api/v1/claims/d", ""),
            (200, "GET", "/api/v1/claims", ""),
            (200, "GET", "/api/v1/claims?semaphore=A&state=waiting&limit=1", ""),
            (200, "GET", "/api/v1/claims?holder=job&limit=1&after=s0", ""),
            (404, "GET", "/api/v1/claims?semaphore=Z", ""),
            (204, "DELETE", "/api/v1/claims/a", ""),
            // Nobody blocks on b: it is offered, and the next request confirms.
            (200, "GET", "/api/v1/claims/b", ""),
            (200, "GET", "/api/v1/claims?state=offered", ""),
            (201, "PUT", "/api/v1/claims/b", waits),
            (204, "DELETE", "/api/v1/claims/b", ""),
            (204, "DELETE", "/api/v1/claims/b", ""),
            (404, "DELETE", "/api/v1/claims/d", ""),
            (410, "PUT", "/api/v1/claims/b", waits),
            (410, "POST", "/api/v1/claims/b/renew", ""),
            (200, "GET", "/api/v1/claims/b", ""),
            (200, "POST", "/api/v1/claims/c/revoke", r#"{"reason": "for the night"}"#),
            (200, "POST", "/api/v1/claims/c/revoke", ""),
            (200, "GET", "/api/v1/claims/c", ""),
            (404, "POST", "/api/v1/claims/d/revoke", ""),
            (422, "POST", "/api/v1/claims/c/revoke", r#"{"reason": 5}"#),
        ],
    );
}

/// `Prefer: wait` on every call that can block, in each state that it can answer with.
fn preferences(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\n");
    let calls = [
        (201, "PUT", "/api/v1/claims/a", A),
        (200, "PUT", "/api/v1/claims/a", A),
        (202, "PUT", "/api/v1/claims/b", A),
        (200, "POST", "/api/v1/claims/a/renew", ""),
        (202, "POST", "/api/v1/claims/b/renew", ""),
        (202, "POST", "/api/v1/claims", A),
        (202, "POST", "/api/v1/semaphores/A/claims", ""),
        (200, "GET", "/api/v1/claims/a", ""),
        (200, "GET", "/api/v1/semaphores", ""),
        (200, "GET", "/api/v1/semaphores/A", ""),
        (201, "PUT", "/api/v1/semaphores/B", r#"{"capacity": 2}"#),
        (201, "POST", "/api/v1/claims", B),
        (201, "POST", "/api/v1/semaphores/B/claims", ""),
    ];
    for (status, method, target, body) in calls {
        let request = Request::json(method, target, body).with("Prefer", "respond-async, wait=0");
        let response = contract.send(&daemon, &request);
        assert_eq!(response.status, status, "{method} {target}: {}", response.text());
        let blocks = (method, target) != ("PUT", "/api/v1/semaphores/B");
        assert_eq!(response.header("Preference-Applied"), blocks.then_some("wait=0"), "{target}");
    }
    let granted = Request::json("GET", "/api/v1/claims/a", "").with("Prefer", "wait=30");
    let response = contract.send(&daemon, &granted);
    assert_eq!(
        response.header("Preference-Applied"),
        Some("wait=30"),
        "it need not wait, and says so"
    );
}

/// Claims whose id the service chooses.
fn claims_of_a_chosen_id(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\nB = 2\n");
    walk(
        contract,
        &daemon,
        &[
            (201, "POST", "/api/v1/claims", A),
            (202, "POST", "/api/v1/claims", A),
            (409, "POST", "/api/v1/claims", A_AT_ONCE),
            (404, "POST", "/api/v1/claims", r#"{"permits": {"Z": 1}}"#),
            (422, "POST", "/api/v1/claims", "{}"),
            (201, "POST", "/api/v1/semaphores/B/claims", ""),
            (201, "POST", "/api/v1/semaphores/B/claims", r#"{"permits": 1, "holder": "shell"}"#),
            (202, "POST", "/api/v1/semaphores/B/claims", r#"{"permits": 2}"#),
            (409, "POST", "/api/v1/semaphores/B/claims", r#"{"queue": false}"#),
            (404, "POST", "/api/v1/semaphores/Z/claims", ""),
            (422, "POST", "/api/v1/semaphores/B/claims", r#"{"permits": 3}"#),
            (422, "POST", "/api/v1/semaphores/B/claims", r#"{"permits": {"B": 1}}"#),
            (200, "PATCH", "/api/v1/semaphores/A", r#"{"state": "draining"}"#),
            (409, "POST", "/api/v1/claims", A_AT_ONCE),
            (200, "PATCH", "/api/v1/semaphores/A", r#"{"state": null}"#),
        ],
    );
    // Ended while the request blocks on it.
    for target in ["/api/v1/claims", "/api/v1/semaphores/A/claims"] {
        let body = if target == "/api/v1/claims" { A } else { "" };
        let body = body.replace('}', "").replace("1", r#"1}, "holder": "late"}"#);
        let body = if body.is_empty() { r#"{"holder": "late"}"#.to_owned() } else { body };
        let request = Request::json("POST", &format!("{target}?wait=50"), &body);
        let blocked = daemon.call_later("POST", &request.target, &body);
        daemon.wait_for_blocked(1);
        let listed = daemon.look("/api/v1/claims?holder=late");
        let id = listed["claims"][0]["id"].as_str().unwrap();
        walk(contract, &daemon, &[(200, "POST", &format!("/api/v1/claims/{id}/revoke"), "")]);
        let response = blocked.join().unwrap();
        assert_eq!(response.status, 410);
        contract.check(&request, &response);
    }
}

fn called_back(contract: &mut Contract) {
    // The second call is not taken, all others are.
    let receiver = FakeService::start(|call| match call.nth {
        1 => Reply::json(503, ""),
        _ => Reply::no_content(),
    });
    let target = callbacks::target("ci", &receiver.url());
    let daemon = Daemon::start(&format!("[semaphores]\nA = 2\n{target}"));
    let called = |body: &str| format!(r#"{{"permits": {{"A": 1}}, "callback": {body}}}"#);
    let (to_ci, to_nobody) = (called(r#"{"target": "ci"}"#), called(r#"{"target": "cj"}"#));
    walk(
        contract,
        &daemon,
        &[
            (200, "GET", "/api/v1/callbacks", ""),
            (200, "POST", "/api/v1/callbacks/ci/test", ""),
            (200, "POST", "/api/v1/callbacks/ci/test", r#"{"vars": {"branch": "main"}}"#),
            (404, "POST", "/api/v1/callbacks/cj/test", ""),
            (422, "POST", "/api/v1/callbacks/ci/test", r#"{"vars": {"SEMAPHORE_CLAIM_ID": "1"}}"#),
            (422, "PUT", "/api/v1/claims/a", &to_nobody),
            (422, "POST", "/api/v1/claims", &to_nobody),
            (422, "POST", "/api/v1/semaphores/A/claims", r#"{"callback": {"target": "cj"}}"#),
            (202, "PUT", "/api/v1/claims/a", &to_ci),
            (202, "POST", "/api/v1/semaphores/A/claims", r#"{"callback": {"target": "ci"}}"#),
        ],
    );
    callbacks::wait_for_deliveries(&daemon, "a", 1);
    walk(
        contract,
        &daemon,
        &[
            (200, "GET", "/api/v1/claims/a/deliveries", ""),
            (404, "GET", "/api/v1/claims/b/deliveries", ""),
            (202, "POST", "/api/v1/claims/a/deliveries/1/retry", ""),
            (404, "POST", "/api/v1/claims/a/deliveries/1000/retry", ""),
            (404, "POST", "/api/v1/claims/b/deliveries/1/retry", ""),
            (422, "POST", "/api/v1/claims/a/deliveries/1/retry", r#"{"x": 1}"#),
            (200, "POST", "/api/v1/claims/a/renew", ""),
            (409, "POST", "/api/v1/claims/a/deliveries/1/retry", ""),
            (204, "DELETE", "/api/v1/claims/a", ""),
            (200, "GET", "/api/v1/claims/a", ""),
            (201, "PUT", "/api/v1/claims/n", A),
            (409, "GET", "/api/v1/claims/n/deliveries", ""),
            (409, "POST", "/api/v1/claims/n/deliveries/1/retry", ""),
        ],
    );
    tried_too_often(contract, &daemon);
}

/// A callback that was called as often as can be.
fn tried_too_often(contract: &mut Contract, daemon: &Daemon) {
    walk(contract, daemon, &[(204, "DELETE", "/api/v1/claims/n", "")]);
    let body = r#"{"permits": {"A": 1}, "callback": {"target": "ci"}}"#;
    walk(contract, daemon, &[(202, "PUT", "/api/v1/claims/z", body)]);
    let retry = "/api/v1/claims/z/deliveries/1/retry";
    for tried in 1..=DELIVERIES_MAX {
        callbacks::wait_for_deliveries(daemon, "z", tried);
        if tried < DELIVERIES_MAX {
            assert_eq!(daemon.call("POST", retry, "").status, 202);
        }
    }
    let refused = contract.call(daemon, "POST", retry, "");
    assert_eq!((refused.status, refused.code().as_str()), (409, "too-many-deliveries"));
}

fn semaphores(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\n");
    let all = r#"{"capacity": 2, "state": "open", "default_ttl": "1m", "max_ttl": 3600,
        "max_hold": "8h", "queue_ttl": "1m", "offer_ttl": 30, "wait_timeout": "2h", "cooldown": 0,
        "description": "boards"}"#;
    walk(
        contract,
        &daemon,
        &[
            (201, "PUT", "/api/v1/semaphores/S", all),
            (200, "PUT", "/api/v1/semaphores/S", all),
            (200, "PUT", "/api/v1/semaphores/S?force=false&reason=why", r#"{"capacity": 2}"#),
            (422, "PUT", "/api/v1/semaphores/S", r#"{"capacity": 0}"#),
            (422, "PUT", "/api/v1/semaphores/S", "{}"),
            (200, "GET", "/api/v1/semaphores", ""),
            (200, "GET", "/api/v1/semaphores?since=0&wait=5", ""),
            (200, "GET", "/api/v1/semaphores/S", ""),
            (200, "HEAD", "/api/v1/semaphores/S", ""),
            (200, "GET", "/api/v1/semaphores/S?since=0&wait=5", ""),
            (404, "GET", "/api/v1/semaphores/Z", ""),
            (201, "POST", "/api/v1/semaphores/S/claims", ""),
            (202, "POST", "/api/v1/semaphores/S/claims", r#"{"permits": 2}"#),
            (409, "PUT", "/api/v1/semaphores/S", r#"{"capacity": 1}"#),
            (409, "PATCH", "/api/v1/semaphores/S", r#"{"capacity": 1}"#),
            (200, "PATCH", "/api/v1/semaphores/S?force=true&reason=why", r#"{"capacity": 1}"#),
            (200, "PATCH", "/api/v1/semaphores/S", r#"{"max_hold": "1h", "cooldown": null}"#),
            (422, "PATCH", "/api/v1/semaphores/S", r#"{"capacity": null}"#),
            (404, "PATCH", "/api/v1/semaphores/Z", r#"{"capacity": 1}"#),
            (409, "DELETE", "/api/v1/semaphores/S", ""),
            (204, "DELETE", "/api/v1/semaphores/S?force=true&reason=why", ""),
            (404, "DELETE", "/api/v1/semaphores/S", ""),
            (201, "PUT", "/api/v1/semaphores/T", r#"{"capacity": 1, "cooldown": "1h"}"#),
            (201, "PUT", "/api/v1/claims/t", r#"{"permits": {"T": 1}}"#),
            (204, "DELETE", "/api/v1/claims/t", ""),
            (409, "DELETE", "/api/v1/semaphores/T", ""),
        ],
    );
    let patch = Request::new("PATCH", "/api/v1/semaphores/A")
        .with_body("application/merge-patch+json", r#"{"description": null}"#);
    assert_eq!(contract.send(&daemon, &patch).status, 200);
}
