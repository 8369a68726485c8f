//! What a token may not see is as if it were not there: the answers are those for what never was, byte for byte.

use serde_json::json;

use super::{Guarded, Made, with_token, wrong};
use crate::{
    callbacks::target,
    daemon::poll,
    http::{Request, Response},
};

const A: &str = r#"{"permits": {"A": 1}}"#;

/// All of an answer but its date, and what `asked` for stands in for.
fn all_of(answer: &Response, asked: &str) -> String {
    let dated = |name: &str| name.eq_ignore_ascii_case("date");
    let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| !dated(name)).collect();
    format!("{} {headers:?} {}", answer.status, answer.text()).replace(asked, "ASKED")
}

#[test]
fn a_claim_of_another_is_as_one_that_never_was() {
    // Nothing listens at the target: the claim with a callback is offered, and the calls fail.
    let config = format!("[semaphores]\nA = 2\n{}", target("ci", "http://127.0.0.1:9"));
    let guarded = Guarded::start(&config);
    let (owner, other) = (guarded.token("claim", ""), guarded.token("claim+read", ""));
    let elsewhere = guarded.token("claim+read", r#", "semaphores": ["B*"]"#);
    let called = r#"{"permits": {"A": 1}, "callback": {"target": "ci"}, "priority": -1}"#;
    let put = |by: &Made, id: &str, body: &str| {
        guarded.call(&by.token, "PUT", &format!("/api/v1/claims/{id}"), body)
    };
    assert_eq!(put(&owner, "theirs-held", A).status, 201);
    assert_eq!(put(&owner, "theirs-call", called).status, 202);
    poll("an offer", || {
        (guarded.look("/api/v1/claims/theirs-call")["state"] == "offered").then_some(())
    });
    assert_eq!(put(&owner, "theirs-wait", A).status, 202);
    let before =
        ["held", "call", "wait"].map(|id| guarded.look(&format!("/api/v1/claims/theirs-{id}")));

    let mut compared = 0;
    for kind in ["held", "call", "wait"] {
        for (method, more, body) in [
            ("GET", "", ""),
            ("GET", "?wait=50", ""),
            ("GET", "?since=1&wait=50", ""),
            ("HEAD", "", ""),
            ("DELETE", "", ""),
            ("POST", "/renew", ""),
            ("POST", "/renew?wait=50", r#"{"ttl": "1h"}"#),
            ("GET", "/deliveries", ""),
            ("POST", "/deliveries/1/retry", ""),
            ("POST", "/deliveries/9/retry", ""),
            ("POST", "/revoke", r#"{"reason": "mine"}"#),
        ] {
            // Who may use its semaphore confirms an offer of a callback: so jobs get what pipelines asked for.
            let takes_over = kind == "call" && more.starts_with("/renew");
            for token in [&other, &elsewhere] {
                if takes_over && token.id == other.id {
                    continue;
                }
                let ask = |id: &str| {
                    let target = format!("/api/v1/claims/{id}{more}");
                    let answer = guarded.call(&token.token, method, &target, body);
                    assert!(matches!(answer.status, 403 | 404), "{method} {target}: {answer:?}");
                    all_of(&answer, id)
                };
                let (theirs, nobodys) = (format!("theirs-{kind}"), format!("nobody-{kind}"));
                assert_eq!(ask(&theirs), ask(&nobodys), "{method} {more} of {theirs}");
                compared += 1;
            }
        }
        // The same request under the same id is told that the id is taken, and no more.
        let differs = put(&other, &format!("theirs-{kind}"), A);
        assert_eq!((differs.status, differs.code().as_str()), (409, "claim-differs"));
        let members: Vec<String> = differs.json().as_object().unwrap().keys().cloned().collect();
        assert_eq!(members, ["code", "detail", "id", "status", "title"]);
    }
    assert_eq!(compared, 3 * 11 * 2 - 2);
    let after =
        ["held", "call", "wait"].map(|id| guarded.look(&format!("/api/v1/claims/theirs-{id}")));
    for (before, after) in before.iter().zip(&after) {
        for member in ["state", "fences", "ttl_seconds", "position"] {
            assert_eq!(before[member], after[member], "{before}");
        }
    }
}

#[test]
fn wrong_tokens_are_refused_alike_whatever_is_wrong_with_them() {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let live = guarded.token("claim+read", "");
    let revoked = guarded.token("admin", "");
    guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", revoked.id), "");
    let rotated = guarded.token("admin", "");
    guarded.admin(200, "POST", &format!("/api/v1/tokens/{}/rotate", rotated.id), "");
    let expired = guarded.token("admin", r#", "expires_in": 1"#);
    poll("a token to expire", || {
        let answer = guarded.call(&expired.token, "GET", "/api/v1/token", "");
        (answer.status == 401).then_some(())
    });
    let unknown = live.token.replace(&live.id, "nobodyknows2");
    let values = [
        format!("Bearer {}", wrong(&live.token)),
        format!("Bearer {}", wrong(&guarded.admin)),
        format!("Bearer {unknown}"),
        format!("Bearer {}", revoked.token),
        format!("Bearer {}", rotated.token),
        format!("Bearer {}", wrong(&expired.token)),
        "Bearer x".to_owned(),
        "Basic c2VtOnNlbQ==".to_owned(),
    ];
    for (method, target) in [
        ("GET", "/api/v1/semaphores/A"),
        ("PUT", "/api/v1/claims/x"),
        ("GET", "/api/v1/tokens"),
        ("DELETE", "/api/v1/semaphores/A?force=true"),
        ("GET", "/api/v1/claims/x?wait=50"),
    ] {
        let answers = values.each_ref().map(|value| {
            let request = Request::json(method, target, A).with("Authorization", value);
            let answer = guarded.daemon.send(&request);
            assert_eq!((answer.status, answer.code().as_str()), (401, "token-invalid"), "{value}");
            all_of(&answer, value)
        });
        let differs = answers.iter().position(|answer| *answer != answers[0]);
        assert_eq!(differs, None, "{method} {target}: {answers:?}");
    }
}

/// A name outside of the patterns: of a semaphore that is there, and of one that is not.
#[test]
fn a_hidden_semaphore_is_as_one_that_never_was() {
    let guarded = Guarded::start(
        "[semaphores]\nquesta-sim = 2\n[semaphores.vcs-sim]\ncapacity = 2\nmax_ttl = \"1m\"\n\
         [semaphores.vcs-dry]\ncapacity = 1",
    );
    guarded.admin(200, "PATCH", "/api/v1/semaphores/vcs-dry", r#"{"state": "draining"}"#);
    guarded.admin(201, "PUT", "/api/v1/claims/all", r#"{"permits": {"vcs-sim": 2}}"#);
    let hidden_from = r#", "semaphores": ["questa*"]"#;
    let claimer = guarded.token("claim+read", hidden_from);
    let admin = guarded.token("admin", hidden_from);
    let permits = |more: &str| format!("{{\"permits\": {{\"NAME\": {more}");
    let acquires = [
        permits("1}"),
        // Never satisfiable, longer than its `max_ttl`, draining, none free: of what is seen each is an error of its own.
        permits("99}"),
        permits("99, \"questa-sim\": 99}"),
        permits("1}, \"ttl\": \"2m\""),
        permits("1}, \"queue\": false"),
        permits("1}, \"priority\": 100"),
        permits("1}, \"callback\": {\"target\": \"ci\"}"),
    ];
    let mut calls: Vec<(&str, &str, String)> = Vec::new();
    for body in acquires {
        calls.push(("POST", "/api/v1/claims", format!("{body}}}")));
        calls.push(("PUT", "/api/v1/claims/x?wait=50", format!("{body}}}")));
    }
    calls.extend([
        ("POST", "/api/v1/semaphores/NAME/claims", String::new()),
        ("POST", "/api/v1/semaphores/NAME/claims?wait=50", r#"{"permits": 99}"#.to_owned()),
        ("GET", "/api/v1/semaphores/NAME", String::new()),
        // Nobody waits for what is not there.
        ("GET", "/api/v1/semaphores/NAME?wait=50", String::new()),
        ("GET", "/api/v1/semaphores/NAME?since=1000000&wait=50", String::new()),
        ("GET", "/api/v1/claims?semaphore=NAME", String::new()),
    ]);
    let of_admin = [
        ("PUT", "/api/v1/semaphores/NAME", r#"{"capacity": 1}"#.to_owned()),
        ("PATCH", "/api/v1/semaphores/NAME?force=true", r#"{"capacity": 1}"#.to_owned()),
        ("DELETE", "/api/v1/semaphores/NAME", String::new()),
        ("DELETE", "/api/v1/semaphores/NAME?force=true", String::new()),
    ];
    let by_claimer = calls.iter().map(|call| (&claimer, call));
    let by_admin = calls.iter().chain(&of_admin).map(|call| (&admin, call));
    for (by, (method, target, body)) in by_claimer.chain(by_admin) {
        let ask = |name: &str| {
            let fill = |text: &str| text.replace("NAME", name);
            let answer = guarded.call(&by.token, method, &fill(target), &fill(body));
            let what = format!("{method} {} {}: {answer:?}", fill(target), fill(body));
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "unknown-semaphore"),
                "{what}"
            );
            assert!(!answer.text().contains("did you mean"), "{what}");
            all_of(&answer, name)
        };
        // The third is one letter from two that are there.
        let answers = ["vcs-sim", "vcs-dry", "vcs-siy", "nothing"].map(ask);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    }
    // Of what is spelt nearly so, one that is seen is named and a nearer one that is hidden is not.
    guarded.admin(201, "PUT", "/api/v1/semaphores/questb-sim", r#"{"capacity": 1}"#);
    let near = guarded.call(&claimer.token, "POST", "/api/v1/semaphores/questb-sin/claims", "");
    assert!(near.text().contains("did you mean `questa-sim`"), "{near:?}");
    assert_eq!(guarded.look("/api/v1/semaphores/vcs-sim")["in_use"], json!(2));
}

/// What a stranger sends is in the audit log as short text, whatever it is.
#[test]
fn the_audit_log_takes_little_of_what_strangers_send() {
    let guarded = Guarded::start("");
    let long = "a".repeat(3_500);
    let targets = [
        format!("/api/v1/claims/{long}"),
        format!("/api/v1/semaphores/{long}"),
        "/api/v1/claims/%0d%0a%1b%5b31m%00".to_owned(),
        format!("/api/v1/tokens/{long}"),
        "/api/v1/claims/sem%5Fabcd%5F0123456789abcdefghijklmnopqrstuv".to_owned(),
        "/api/v1/claims/sem%255fabcd%255f0123456789abcdefghijklmnopqrstuv".to_owned(),
    ];
    for target in &targets {
        let request = with_token(Request::new("DELETE", target), "");
        assert_eq!(guarded.daemon.send(&request).code(), "token-missing", "{target}");
        let row = guarded.audit("result=token-missing").swap_remove(0);
        let object = row["object"].as_str().unwrap();
        assert!(object.chars().count() <= 100, "{object}");
        assert!(!object.chars().any(char::is_control), "{object}");
        assert!(row.to_string().len() < 500, "{row}");
        assert!(!object.contains("0123456789"), "{object}");
    }
}
