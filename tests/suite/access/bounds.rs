//! What one token or one address may take from the others, and what cannot be asked for.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Guarded, with_token, wrong};
use crate::{daemon::poll, http::Request};

const A: &str = r#"{"permits": {"A": 1}}"#;
const B: &str = r#"{"permits": {"B": 1}}"#;

#[test]
fn wrong_tokens_of_an_address_are_throttled_and_right_ones_are_not() {
    let guarded = Guarded::start("");
    let from = |address: &str, token: &str| {
        let request = Request::new("GET", "/api/v1/token").with("X-Forwarded-For", address);
        guarded.daemon.send(&with_token(request, token))
    };
    let bad = wrong(&guarded.admin);
    let throttled = poll("the throttle", || {
        let answer = from("192.0.2.7", &bad);
        (answer.status == 429).then_some(answer)
    });
    assert_eq!(throttled.code(), "too-many-wrong-tokens");
    let seconds: u64 = throttled.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(from("192.0.2.7", &guarded.admin).status, 200, "a right one from the same address");
    assert_eq!(from("192.0.2.8", &bad).status, 401, "a wrong one from another");
    assert_eq!(from("192.0.2.7", "").status, 401, "none is not a wrong one");
    let rows = guarded.audit("result=token-invalid");
    let tries: u64 = rows.iter().map(|row| row["tries"].as_u64().unwrap()).sum();
    assert!((101..=201).contains(&tries), "{rows:?}");
}

#[test]
fn a_header_is_believed_from_a_trusted_proxy_alone() {
    let guarded = Guarded::start("trusted_proxies = [\"10.0.0.0/8\"]");
    let request = Request::new("GET", "/api/v1/token").with("X-Forwarded-For", "192.0.2.7");
    assert_eq!(guarded.daemon.send(&request).status, 401);
    let rows = guarded.audit("result=token-missing");
    assert_eq!(rows[0]["address"], "127.0.0.1");
}

#[test]
fn priorities_above_the_ceiling_are_refused() {
    let guarded = Guarded::start("[semaphores]\nA = 100");
    let plain = guarded.token("claim", "");
    let high = guarded.token("claim", r#", "priority_max": 10"#);
    let low = guarded.token("claim", r#", "priority_max": -5"#);
    let ask = |token: &str, priority: i32| {
        let body = format!(r#"{{"permits": {{"A": 1}}, "priority": {priority}}}"#);
        guarded.call(token, "POST", "/api/v1/claims", &body)
    };
    for (token, priority, status) in [
        (&plain.token, 0, 201),
        (&plain.token, -100, 201),
        (&plain.token, 1, 403),
        (&high.token, 10, 201),
        (&high.token, 11, 403),
        (&low.token, -5, 201),
        (&low.token, 0, 403),
        (&guarded.admin, 100, 201),
    ] {
        let answer = ask(token, priority);
        assert_eq!(answer.status, status, "{priority}: {answer:?}");
    }
    let refused = ask(&high.token, 11).json();
    assert_eq!(
        (&refused["code"], &refused["priority_max"]),
        (&json!("priority-too-high"), &json!(10))
    );
}

#[test]
fn a_token_has_no_more_claims_and_waits_than_it_may() {
    let guarded = Guarded::start("[semaphores]\nA = 1\nB = 1");
    let token = guarded.token("claim", r#", "claims_max": 3, "waiting_requests_max": 1"#);
    let put = |id: &str, query: &str, body: &str| {
        guarded.call(&token.token, "PUT", &format!("/api/v1/claims/{id}{query}"), body)
    };
    assert_eq!(put("a", "", A).status, 201);
    let blocked = guarded.call_later(&token.token, "PUT", "/api/v1/claims/b?wait=50", A);
    guarded.wait_for_blocked(1);
    // One more is answered at once and keeps its place.
    let begun = Instant::now();
    let waiting = put("c", "?wait=50", A);
    assert_eq!((waiting.status, waiting.json()["position"].as_u64()), (202, Some(2)));
    assert!(begun.elapsed() < Duration::from_secs(25));
    let full = put("d", "", B);
    assert_eq!((full.status, full.code().as_str()), (429, "token-claims-full"));
    assert!(full.header("Retry-After").is_some());
    // Others are not concerned.
    assert_eq!(guarded.admin(201, "PUT", "/api/v1/claims/x", B).json()["state"], "held");
    let later = guarded.call_later(&guarded.admin, "PUT", "/api/v1/claims/y?wait=50", B);
    guarded.wait_for_blocked(2);
    assert_eq!(guarded.call(&token.token, "DELETE", "/api/v1/claims/a", "").status, 204);
    assert_eq!(blocked.join().unwrap().status, 201);
    // The slot was given back.
    let again = guarded.call_later(&token.token, "PUT", "/api/v1/claims/c?wait=50", A);
    guarded.wait_for_blocked(2);
    assert_eq!(guarded.call(&token.token, "DELETE", "/api/v1/claims/b", "").status, 204);
    assert_eq!(again.join().unwrap().status, 201);
    guarded.admin(204, "DELETE", "/api/v1/claims/x", "");
    assert_eq!(later.join().unwrap().status, 201);
}

#[test]
fn a_token_makes_no_more_requests_than_it_may() {
    let guarded = Guarded::start("[limits]\ntoken_requests_per_second_max = 5");
    let busy = guarded.token("read", "");
    let refused = poll("the bound", || {
        let answer = guarded.call(&busy.token, "GET", "/api/v1/semaphores", "");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!((refused.status, refused.code().as_str()), (429, "too-many-requests"));
    assert_eq!(refused.header("Retry-After"), Some("1"));
    guarded.admin(200, "GET", "/api/v1/semaphores", "");
    poll("time to pass", || {
        (guarded.call(&busy.token, "GET", "/api/v1/semaphores", "").status == 200).then_some(())
    });
}

/// Releases of others do not queue behind the waits of one token: it waits as often as it can.
#[test]
fn the_waits_of_one_token_hold_up_nobody_elses_release() {
    const WAITS: usize = 300;
    let guarded = Guarded::start("[semaphores]\nA = 1\nB = 1");
    let greedy = guarded.token("claim", "");
    let other = guarded.token("claim", "");
    let cycles = |what: &str| {
        let cycle = |n: usize| {
            let path = format!("/api/v1/claims/{what}{n}");
            assert_eq!(guarded.call(&other.token, "PUT", &path, B).status, 201);
            let begun = Instant::now();
            assert_eq!(guarded.call(&other.token, "DELETE", &path, "").status, 204);
            begun.elapsed()
        };
        let mut times: Vec<Duration> = (0..60).map(cycle).collect();
        times.sort();
        times[30]
    };
    assert_eq!(guarded.call(&greedy.token, "PUT", "/api/v1/claims/held", A).status, 201);
    let alone = cycles("alone");
    let waits: Vec<thread::JoinHandle<_>> = (0..WAITS)
        .map(|n| {
            guarded.call_later(&greedy.token, "PUT", &format!("/api/v1/claims/w{n}?wait=50"), A)
        })
        .collect();
    guarded.wait_for_blocked(WAITS as u64);
    let beside = cycles("beside");
    // Medians of one run, far apart from what queueing behind 300 waits would be.
    assert!(beside < alone * 5 + Duration::from_millis(20), "{alone:?} alone, {beside:?} beside");
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", greedy.id), "");
    for wait in waits {
        assert_eq!(wait.join().unwrap().status, 401);
    }
}

#[test]
fn a_request_for_a_token_that_is_wrong_names_what() {
    let guarded = Guarded::start("");
    for (body, code, names) in [
        ("", "invalid-body", "empty"),
        (r#"{"scopes": ["read"]}"#, "missing-member", "`name`"),
        (r#"{"name": "x"}"#, "missing-member", "`scopes`"),
        (r#"{"name": "x", "scopes": []}"#, "invalid-member", "`scopes`"),
        (r#"{"name": "x", "scopes": ["write"]}"#, "invalid-member", "`scopes`"),
        (r#"{"name": "x", "scopes": "read"}"#, "invalid-member", "`scopes`"),
        (r#"{"name": "", "scopes": ["read"]}"#, "invalid-member", "`name`"),
        (
            r#"{"name": "x", "scopes": ["read"], "semaphores": ["a b"]}"#,
            "invalid-member",
            "`semaphores`",
        ),
        (
            r#"{"name": "x", "scopes": ["read"], "semaphores": []}"#,
            "invalid-member",
            "`semaphores`",
        ),
        (r#"{"name": "x", "scopes": ["read"], "claims_max": 0}"#, "invalid-member", "`claims_max`"),
        (
            r#"{"name": "x", "scopes": ["read"], "priority_max": 101}"#,
            "invalid-member",
            "`priority_max`",
        ),
        (
            r#"{"name": "x", "scopes": ["read"], "expires_in": "0s"}"#,
            "invalid-member",
            "`expires_in`",
        ),
        (r#"{"name": "x", "scopes": ["read"], "secret": "x"}"#, "unknown-member", "`secret`"),
    ] {
        let answer = guarded.call(&guarded.admin, "POST", "/api/v1/tokens", body);
        assert_eq!(answer.code(), code, "{body}");
        assert!(answer.text().contains(names), "{body}: {}", answer.text());
    }
    for id in ["abcd", "ABC", "..", "%2e"] {
        let answer = guarded.admin(404, "GET", &format!("/api/v1/tokens/{id}"), "");
        assert_eq!(answer.code(), "unknown-token");
    }
}
