//! Every endpoint with every kind of token. The rows are held against the table of routes, so a new endpoint without one
//! fails here.

use std::collections::BTreeSet;

use semaphored::router::Routes;

use super::{Guarded, Made, with_token, wrong};
use crate::{daemon::poll, http::Request};

const A: &str = r#"{"permits": {"A": 1}}"#;

/// Who calls, in the order of the columns.
struct World {
    guarded: Guarded,
    tokens: [(&'static str, String); 9],
    /// The owner of the claims that the calls are about.
    claim: Made,
}

impl World {
    fn start() -> World {
        let guarded = Guarded::start("[semaphores]\nA = 1000\nother = 1000");
        let revoked = guarded.token("claim", "");
        let expired = guarded.token("claim", r#", "expires_in": 1"#);
        let claim = guarded.token("claim", "");
        guarded.admin(204, "DELETE", &format!("/api/v1/tokens/{}", revoked.id), "");
        poll("the token to expire", || {
            let answer = guarded.call(&expired.token, "GET", "/api/v1/token", "");
            (answer.status == 401).then_some(())
        });
        let tokens = [
            ("none", String::new()),
            ("wrong", wrong(&claim.token)),
            ("expired", expired.token),
            ("revoked", revoked.token),
            ("read", guarded.token("read", "").token),
            ("claim", claim.token.clone()),
            ("claim of another", guarded.token("claim", "").token),
            ("pattern outside", guarded.token("claim+read", r#", "semaphores": ["other*"]"#).token),
            ("admin", guarded.admin.clone()),
        ];
        World { guarded, tokens, claim }
    }

    /// A path in which what varies exists, new for each call.
    fn target(&self, template: &str, cell: usize) -> String {
        if template.starts_with("/api/v1/claims/{id}") {
            let id = format!("c{cell}");
            let path = format!("/api/v1/claims/{id}");
            let made = self.guarded.call(&self.claim.token, "PUT", &path, A);
            assert!(matches!(made.status, 200 | 201), "{made:?}");
            return template.replace("{id}", &id).replace("{number}", "1");
        }
        if template.starts_with("/api/v1/tokens/{id}") {
            return template.replace("{id}", &self.guarded.token("claim", "").id);
        }
        if template == "/api/v1/semaphores/{name}" {
            let name = format!("A{cell}");
            let path = format!("/api/v1/semaphores/{name}");
            self.guarded.admin(201, "PUT", &path, r#"{"capacity": 1}"#);
            return path;
        }
        template.replace("{name}", "A")
    }
}

/// An endpoint, its body, and the statuses in the order of the columns.
type Row = (&'static str, &'static str, &'static str, [u16; 9]);

const OPEN: [u16; 9] = [200; 9];
/// For admins alone; what they get.
const fn admin(status: u16) -> [u16; 9] {
    [401, 401, 401, 401, 403, 403, 403, 403, status]
}

const ROWS: &[Row] = &[
    ("GET", "/api", "", OPEN),
    ("GET", "/healthz", "", OPEN),
    ("GET", "/readyz", "", OPEN),
    ("GET", "/openapi.json", "", OPEN),
    ("GET", "/api/v1", "", [401, 401, 401, 401, 200, 200, 200, 200, 200]),
    ("GET", "/api/v1/token", "", [401, 401, 401, 401, 200, 200, 200, 200, 200]),
    ("GET", "/api/v1/service", "", [401, 401, 401, 401, 200, 403, 403, 200, 200]),
    ("GET", "/api/v1/callbacks", "", [401, 401, 401, 401, 200, 403, 403, 200, 200]),
    ("GET", "/api/v1/semaphores", "", [401, 401, 401, 401, 200, 403, 403, 200, 200]),
    ("GET", "/api/v1/semaphores/{name}", "", [401, 401, 401, 401, 200, 403, 403, 404, 200]),
    ("GET", "/api/v1/claims", "", [401, 401, 401, 401, 200, 200, 200, 200, 200]),
    ("POST", "/api/v1/claims", A, [401, 401, 401, 401, 403, 201, 201, 404, 201]),
    ("POST", "/api/v1/semaphores/{name}/claims", "", [401, 401, 401, 401, 403, 201, 201, 404, 201]),
    ("GET", "/api/v1/claims/{id}", "", [401, 401, 401, 401, 403, 200, 404, 404, 200]),
    // Made by the third of them, so another's id, whoever he is.
    ("PUT", "/api/v1/claims/{id}", A, [401, 401, 401, 401, 403, 200, 409, 404, 409]),
    ("POST", "/api/v1/claims/{id}/renew", "", [401, 401, 401, 401, 403, 200, 404, 404, 200]),
    ("DELETE", "/api/v1/claims/{id}", "", [401, 401, 401, 401, 403, 204, 404, 404, 204]),
    // It has no callback: 409 tells that it was found.
    ("GET", "/api/v1/claims/{id}/deliveries", "", [401, 401, 401, 401, 403, 409, 404, 404, 409]),
    (
        "POST",
        "/api/v1/claims/{id}/deliveries/{number}/retry",
        "",
        [401, 401, 401, 401, 403, 409, 404, 404, 409],
    ),
    ("POST", "/api/v1/claims/{id}/revoke", "", admin(200)),
    ("PUT", "/api/v1/semaphores/{name}", r#"{"capacity": 2}"#, admin(200)),
    ("PATCH", "/api/v1/semaphores/{name}", r#"{"capacity": 2}"#, admin(200)),
    ("DELETE", "/api/v1/semaphores/{name}", "", admin(204)),
    ("POST", "/api/v1/callbacks/{name}/test", "", admin(404)),
    ("GET", "/api/v1/backup", "", admin(200)),
    ("GET", "/api/v1/audit", "", admin(200)),
    ("GET", "/api/v1/tokens", "", admin(200)),
    ("POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["read"]}"#, admin(201)),
    ("GET", "/api/v1/tokens/{id}", "", admin(200)),
    ("DELETE", "/api/v1/tokens/{id}", "", admin(204)),
    ("POST", "/api/v1/tokens/{id}/rotate", "", admin(200)),
];

#[test]
fn every_endpoint_with_every_kind_of_token() {
    let rows: BTreeSet<_> = ROWS.iter().map(|(method, path, ..)| (*method, *path)).collect();
    let routes: BTreeSet<_> = Routes::endpoints().collect();
    assert_eq!(rows, routes, "an endpoint without a row, or a row without an endpoint");

    let world = World::start();
    let mut cell = 0;
    for (method, template, body, expected) in ROWS {
        for ((who, token), expected) in world.tokens.iter().zip(expected) {
            let methods: &[&str] = if *method == "GET" { &["GET", "HEAD"] } else { &[method] };
            for method in methods {
                cell += 1;
                let target = world.target(template, cell);
                let request = with_token(Request::json(method, &target, body), token);
                let answer = world.guarded.daemon.send(&request);
                assert_eq!(answer.status, *expected, "{method} {target} by {who}: {answer:?}");
                let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
                match answer.status {
                    401 if who == &"none" => assert_eq!(challenge, "Bearer realm=\"semaphored\""),
                    401 => assert!(challenge.ends_with(", error=\"invalid_token\""), "{challenge}"),
                    403 => {
                        let (_, scope) = challenge.rsplit_once("scope=").unwrap();
                        assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
                        if *method != "HEAD" {
                            assert_eq!(
                                format!("\"{}\"", answer.json()["scope"].as_str().unwrap()),
                                scope
                            );
                        }
                    }
                    _ => assert_eq!(challenge, ""),
                }
            }
        }
    }
}

#[test]
fn an_admin_for_some_semaphores_makes_itself_none_for_others() {
    let guarded = Guarded::start("[semaphores]\nquesta-sim = 2\nvcs = 2");
    let half = guarded.token("admin", r#", "semaphores": ["questa*"]"#);
    let call =
        |method: &str, target: &str, body: &str| guarded.call(&half.token, method, target, body);
    for (method, target, body) in [
        ("GET", "/api/v1/tokens", ""),
        ("POST", "/api/v1/tokens", r#"{"name": "x", "scopes": ["admin"]}"#),
        ("GET", "/api/v1/backup", ""),
        ("GET", "/api/v1/audit", ""),
        ("POST", "/api/v1/callbacks/x/test", ""),
    ] {
        let answer = call(method, target, body);
        assert_eq!((answer.status, answer.code().as_str()), (403, "all-semaphores-needed"));
    }
    assert_eq!(call("PATCH", "/api/v1/semaphores/questa-sim", r#"{"capacity": 3}"#).status, 200);
    assert_eq!(call("PUT", "/api/v1/semaphores/questa-new", r#"{"capacity": 3}"#).status, 201);
    for (method, target, body) in [
        ("GET", "/api/v1/semaphores/vcs", ""),
        ("PUT", "/api/v1/semaphores/vcs", r#"{"capacity": 3}"#),
        ("PUT", "/api/v1/semaphores/new", r#"{"capacity": 3}"#),
        ("PATCH", "/api/v1/semaphores/vcs", r#"{"capacity": 3}"#),
        ("DELETE", "/api/v1/semaphores/vcs", ""),
        ("POST", "/api/v1/semaphores/vcs/claims", ""),
        ("GET", "/api/v1/claims?semaphore=vcs", ""),
        ("PUT", "/api/v1/claims/both", r#"{"permits": {"questa-sim": 1, "vcs": 1}}"#),
    ] {
        let answer = call(method, target, body);
        assert_eq!((answer.status, answer.code().as_str()), (404, "unknown-semaphore"), "{target}");
        assert!(!answer.text().contains("questa"), "{}", answer.text());
    }
    // What is spelt nearly like a hidden one is not told.
    let near = call("GET", "/api/v1/semaphores/vcz", "");
    assert!(!near.text().contains("did you mean"), "{}", near.text());
}

#[test]
fn lists_show_what_the_token_may_see() {
    let guarded = Guarded::start("[semaphores]\nA = 5\nB = 5");
    let mine = guarded.token("claim", "");
    let reader = guarded.token("read", r#", "semaphores": ["A"]"#);
    let other = guarded.token("claim", "");
    for (token, id, body) in [
        (&mine.token, "a", r#"{"permits": {"A": 1}}"#),
        (&mine.token, "b", r#"{"permits": {"A": 1, "B": 1}}"#),
        (&other.token, "c", r#"{"permits": {"A": 1}}"#),
    ] {
        let answer = guarded.call(token, "PUT", &format!("/api/v1/claims/{id}"), body);
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    let ids = |token: &str| -> Vec<String> {
        let page = guarded.call(token, "GET", "/api/v1/claims", "").json();
        let claims = page["claims"].as_array().unwrap().iter();
        claims.map(|claim| claim["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&mine.token), ["a", "b"]);
    assert_eq!(ids(&other.token), ["c"]);
    assert_eq!(ids(&reader.token), ["a", "c"], "what is all within its pattern");
    assert_eq!(ids(&guarded.admin), ["a", "b", "c"]);
    let names = |token: &str| -> Vec<String> {
        let page = guarded.call(token, "GET", "/api/v1/semaphores", "").json();
        let all = page["semaphores"].as_array().unwrap().iter();
        all.map(|semaphore| semaphore["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&reader.token), ["A"]);
    assert_eq!(names(&guarded.admin), ["A", "B"]);
    // Ended ones are their owner's too.
    guarded.admin(200, "POST", "/api/v1/claims/a/revoke", r#"{"reason": "stuck"}"#);
    assert_eq!(guarded.call(&mine.token, "GET", "/api/v1/claims/a", "").json()["note"], "stuck");
    assert_eq!(guarded.call(&other.token, "GET", "/api/v1/claims/a", "").status, 404);
}
