//! Tokens in the document: what it says that each operation needs is what the service asks for, and every refusal for
//! want of it is documented.

use std::collections::BTreeSet;

use semaphored::{api::Access, model::Scope, router::Routes};
use serde_json::{Value, json};

use super::refusals::targets;
use crate::{
    access::{Guarded, with_token, wrong},
    contract::Contract,
    daemon::{Daemon, poll},
    http::{Request, Response},
};

/// Wrong tokens from one address after which it is told so.
const WRONG_MAX: usize = 100;
/// A secret, and what `printf %s SECRET | sha256sum` says of it.
const SECRET: &str = "0123456789abcdefghijklmnopqrstuvwxyz0123";
const SECRET_SHA256: &str = "f541cef25a62f59a45a6c5a01e988177ee9603c2e00d66b8c3bce288db5d65c3";

/// What the document says of an operation that needs this: its `security`, and the last sentence of its description.
fn documented(access: Access) -> (Value, String) {
    let of = |scope: Scope| json!({ "bearerAuth": [scope.as_str()] });
    match access {
        Access::Open => (json!([]), "Needs no token.".into()),
        Access::Token => (json!([{ "bearerAuth": [] }]), "Needs any token.".into()),
        Access::Scope(scope) => {
            (json!([of(scope)]), format!("Needs the scope `{}`.", scope.as_str()))
        }
        Access::ReadOrClaim => (
            json!([of(Scope::Read), of(Scope::Claim)]),
            "Needs the scope `read` or `claim`; with `claim` alone it lists the token's own claims."
                .into(),
        ),
        Access::WholeAdmin => {
            (json!([of(Scope::Admin)]), "Needs the scope `admin`, for all semaphores.".into())
        }
    }
}

#[test]
fn every_operation_says_what_it_needs() {
    let contract = Contract::new();
    let routes = Routes::new().unwrap();
    for (method, path) in Routes::endpoints() {
        let what = format!("{method} {path}");
        // What varies in a path has no part in what the endpoint needs, so its template is a path too.
        let access = routes.find(method, path).unwrap().access();
        let (security, sentence) = documented(access);
        let operation = contract.operation(method, path);
        assert_eq!(operation["security"], security, "{what}");
        let description = operation["description"].as_str().unwrap();
        assert!(description.ends_with(&format!(". {sentence}")), "{what}: {description}");

        let challenged = contract.codes(method, path, "401");
        assert_eq!(challenged.is_empty(), access == Access::Open, "{what}");
        let forbidden = contract.codes(method, path, "403");
        // A token has one scope at least.
        let can_lack = matches!(access, Access::Scope(_) | Access::WholeAdmin);
        assert_eq!(forbidden.contains("scope-missing"), can_lack, "{what}");
        let is_whole = access == Access::WholeAdmin;
        assert_eq!(forbidden.contains("all-semaphores-needed"), is_whole, "{what}");
        let busy = contract.codes(method, path, "429");
        // A job is never kept from giving back or keeping what it has.
        let is_bounded = access != Access::Open && !keeps_claims(method, path);
        assert_eq!(busy.contains("too-many-requests"), is_bounded, "{what}");
        assert_eq!(busy.contains("too-many-wrong-tokens"), access != Access::Open, "{what}");
    }
}

/// Whether a job needs it to give back or to keep what it has.
fn keeps_claims(method: &str, path: &str) -> bool {
    path.starts_with("/api/v1/claims/") && (method == "DELETE" || path.ends_with("/renew"))
}

/// Sends a request with a token, holds the exchange against the document, and wants this status.
fn ask(
    contract: &mut Contract,
    daemon: &Daemon,
    token: &str,
    (status, method, target, body): (u16, &str, &str, &str),
) -> Response {
    let request = with_token(Request::json(method, target, body), token);
    let response = contract.send(daemon, &request);
    assert_eq!(response.status, status, "{method} {target} {body}: {}", response.text());
    response
}

/// The code of an error; nothing of what is none.
fn code_of(response: &Response) -> String {
    if response.status < 400 { String::new() } else { response.code() }
}

/// The calls about tokens.
pub(super) fn tokens(contract: &mut Contract) {
    let declared = format!(
        "[limits]\ntokens_max = 3\n[auth]\n[[auth.tokens]]\nname = \"root\"\nid = \"declared\"\n\
         sha256 = \"{SECRET_SHA256}\"\nscopes = [\"admin\"]\n"
    );
    let daemon = Daemon::start(&declared);
    let admin = format!("sem_declared_{SECRET}");
    let full = r#"{"name": "farm", "scopes": ["read", "claim"], "semaphores": ["A*", "B"],
        "expires_in": "90m", "claims_max": 5, "waiting_requests_max": 2, "priority_max": -3}"#;
    let mut ask = |step: (u16, &str, &str, &str)| ask(contract, &daemon, &admin, step);
    let made = ask((201, "POST", "/api/v1/tokens", full)).json();
    let id = made["id"].as_str().unwrap();
    let path = format!("/api/v1/tokens/{id}");
    let rotate = format!("{path}/rotate");
    for step in [
        (200, "GET", "/api/v1/token", ""),
        (200, "HEAD", "/api/v1/token", ""),
        (200, "GET", "/api/v1/tokens", ""),
        (200, "GET", path.as_str(), ""),
        (200, "POST", rotate.as_str(), ""),
        (422, "POST", rotate.as_str(), r#"{"x": 1}"#),
        (404, "POST", "/api/v1/tokens/none/rotate", ""),
        (409, "POST", "/api/v1/tokens/declared/rotate", ""),
        (200, "GET", "/api/v1/tokens/declared", ""),
        (404, "GET", "/api/v1/tokens/none", ""),
        (404, "GET", "/api/v1/tokens/NO", ""),
        (409, "DELETE", "/api/v1/tokens/declared", ""),
        (404, "DELETE", "/api/v1/tokens/none", ""),
        (400, "POST", "/api/v1/tokens", "[]"),
        (422, "POST", "/api/v1/tokens", "{}"),
        (422, "POST", "/api/v1/tokens", r#"{"name": "x"}"#),
        (422, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": []}"#),
        (422, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["write"]}"#),
        (422, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["read"], "x": 1}"#),
        (422, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["read"], "name": "x"}"#),
        (201, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["admin"]}"#),
        (503, "POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["admin"]}"#),
        (204, "DELETE", &format!("{path}?reason=gone"), ""),
        (404, "DELETE", path.as_str(), ""),
    ] {
        ask(step);
    }
    // Where nobody needs a token, nobody has one.
    let open = Daemon::start("");
    let none = contract.call(&open, "GET", "/api/v1/token", "");
    assert_eq!((none.status, none.code().as_str()), (404, "no-token"));
}

/// Rows of every kind.
pub(super) fn audit_log(contract: &mut Contract) {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let admin = guarded.admin.clone();
    let farm = guarded.token("claim", "");
    for (token, step) in [
        (&admin, (200, "PATCH", "/api/v1/semaphores/A?reason=why", r#"{"capacity": 2}"#)),
        (&admin, (201, "PUT", "/api/v1/semaphores/B?reason=why", r#"{"capacity": 2}"#)),
        (&admin, (404, "DELETE", "/api/v1/semaphores/C", "")),
        (&farm.token, (403, "GET", "/api/v1/audit", "")),
        (&wrong(&admin), (401, "GET", "/api/v1/audit", "")),
        (&admin, (200, "GET", "/api/v1/audit", "")),
        (&admin, (200, "GET", "/api/v1/audit?actor=token&action=semaphore.*&limit=1", "")),
        (&admin, (200, "GET", "/api/v1/audit?object=semaphore+A&result=done&after=1000", "")),
        (
            &admin,
            (200, "GET", "/api/v1/audit?since=2001-01-01T00:00:00Z&until=2099-01-01T00:00:00Z", ""),
        ),
        (&admin, (200, "GET", "/api/v1/audit?token=some", "")),
    ] {
        let answer = ask(contract, &guarded.daemon, token, step);
        if step.2 == "/api/v1/audit" && answer.status == 200 {
            let actors: BTreeSet<_> = answer.json()["entries"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| row["actor"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(actors.len(), 4, "{actors:?}");
        }
    }
}

/// Each operation without a token, with a wrong one, with one that lacks the scope, and with one that asks too often.
pub(super) fn who_is_refused(contract: &mut Contract) {
    let guarded =
        Guarded::start("[semaphores]\nA = 1\n[limits]\ntoken_requests_per_second_max = 5");
    let claims = guarded.token("claim", "");
    let reads = guarded.token("read", "");
    let busy = guarded.token("read", "");
    let half = guarded.token("admin", r#", "semaphores": ["A"]"#);
    let routes = Routes::new().unwrap();
    for (method, target) in targets(contract) {
        let access = routes.find(&method, &target).unwrap().access();
        if access == Access::Open {
            continue;
        }
        let (method, target) = (method.as_str(), target.as_str());
        ask(contract, &guarded.daemon, "", (401, method, target, ""));
        let lacks = match access {
            Access::Scope(Scope::Read) => Some(&claims),
            Access::Scope(Scope::Claim | Scope::Admin) | Access::WholeAdmin => Some(&reads),
            Access::Open | Access::Token | Access::ReadOrClaim => None,
        };
        let mut until = |token: &str, status: u16, code: &str| {
            let request = with_token(Request::json(method, target, ""), token);
            let found = poll(&format!("{code} for {method} {target}"), || {
                let response = guarded.daemon.send(&request);
                (code_of(&response) == code).then_some(response)
            });
            assert_eq!(found.status, status, "{method} {target}");
            contract.check(&request, &found);
        };
        if let Some(token) = lacks {
            until(&token.token, 403, "scope-missing");
        }
        if access == Access::WholeAdmin {
            until(&half.token, 403, "all-semaphores-needed");
        }
        if !keeps_claims(method, target) {
            until(&busy.token, 429, "too-many-requests");
        }
    }
}

/// What a token may have at the same time, and that its time is over.
pub(super) fn bounds_of_a_token(contract: &mut Contract) {
    let config = "[semaphores]\nA = 5\nB = 5\n[callbacks.targets.ci]\npreset = \"generic\"\n\
        url = \"http://127.0.0.1:9/hook\"\nallow_cidrs = [\"127.0.0.0/8\"]\n\
        secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
    let guarded = Guarded::start(config);
    let one = guarded.token("claim", r#", "claims_max": 1"#);
    let pipeline = guarded.token("claim", "");
    let half = guarded.token("admin", r#", "semaphores": ["A"]"#);
    let both = r#"{"permits": {"A": 1, "B": 1}}"#;
    let a = r#"{"permits": {"A": 1}}"#;
    let high = r#"{"permits": {"A": 1}, "priority": 1}"#;
    let called = r#"{"permits": {"A": 1}, "callback": {"target": "ci"}}"#;
    let of_a = "/api/v1/semaphores/A/claims";
    for (token, step, code) in [
        (&pipeline, (202, "PUT", "/api/v1/claims/called", called), ""),
        (&one, (403, "PUT", "/api/v1/claims/a", high), "priority-too-high"),
        (&one, (403, "POST", "/api/v1/claims", high), "priority-too-high"),
        (&one, (403, "POST", of_a, r#"{"priority": 1}"#), "priority-too-high"),
        (&one, (201, "PUT", "/api/v1/claims/a", a), ""),
        (&one, (429, "PUT", "/api/v1/claims/b", a), "token-claims-full"),
        (&one, (429, "POST", "/api/v1/claims", a), "token-claims-full"),
        (&one, (429, "POST", of_a, ""), "token-claims-full"),
        (&one, (429, "POST", "/api/v1/claims/called/renew", ""), "token-claims-full"),
        (&pipeline, (201, "PUT", "/api/v1/claims/both", both), ""),
        (&half, (409, "DELETE", "/api/v1/semaphores/A?force=true", ""), "hidden-claims"),
    ] {
        let answer = ask(contract, &guarded.daemon, &token.token, step);
        assert_eq!(code_of(&answer), code, "{step:?}");
    }
    let short = guarded.token("read", r#", "expires_in": 1"#);
    let request = with_token(Request::new("GET", "/api/v1/semaphores"), &short.token);
    let expired = poll("the token to expire", || {
        let response = guarded.daemon.send(&request);
        (response.status == 401).then_some(response)
    });
    assert_eq!(expired.code(), "token-expired");
    contract.check(&request, &expired);
}

/// Each operation with a wrong token, until there were too many of them.
pub(super) fn wrong_tokens(contract: &mut Contract) {
    let guarded = Guarded::start("[semaphores]\nA = 1");
    let bad = wrong(&guarded.admin);
    let mut asked = 0;
    for (method, target) in targets(contract).into_iter().cycle() {
        let answer =
            contract.send(&guarded.daemon, &with_token(Request::json(&method, &target, ""), &bad));
        match answer.status {
            429 => {
                assert_eq!(answer.code(), "too-many-wrong-tokens");
                break;
            }
            401 => asked += 1,
            // Needs none.
            status => assert_eq!(status, 200, "{method} {target}"),
        }
        // One more minute may have begun meanwhile.
        assert!(asked <= 2 * WRONG_MAX, "never throttled");
    }
    assert!(asked >= WRONG_MAX, "{asked}");
    let release = with_token(Request::new("DELETE", "/api/v1/claims/a"), &bad);
    assert!(matches!(contract.send(&guarded.daemon, &release).status, 429 | 401));
}
