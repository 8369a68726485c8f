//! Whatever a client sends wrong around the body: paths, methods, queries, framing; and what is right and
//! cannot be done. As in `bad_input`: a problem document each, nothing changed, never a 500.

use std::collections::BTreeSet;

use super::{
    bad_input::{Case, Unchanged},
    daemon::Daemon,
    http::Request,
};

const CONFIG: &str = "[semaphores]\nBuild = 3\nSim = 1\n";
const JSON: &str = "application/json";
const SIM: &str = r#"{"permits": {"Sim": 1}}"#;
const SIM_AT_ONCE: &str = r#"{"permits": {"Sim": 1}, "queue": false}"#;

#[test]
fn paths_and_methods() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let id = "`id` in the path must be 1 to 128 of A-Z a-z 0-9 . _ ~ - and not \".\" or \"..\"";
    let name = "`name` in the path must be 1 to 64 of A-Z a-z 0-9 _ - that start with a letter";
    let long_id = "x".repeat(129);
    for bad in
        ["a%2Fb", "%2F", ".", "..", "%2e%2E", "a%20b", "a+b", "a:b", "%C3%BC", "%ff", "%", "a%00"]
            .into_iter()
            .chain([long_id.as_str()])
    {
        let claim = format!("/api/v1/claims/{bad}");
        let (renew, revoke) = (format!("{claim}/renew"), format!("{claim}/revoke"));
        unchanged.refuses(&[
            ("PUT", &claim, SIM, 400, "invalid-path", &[id]),
            ("GET", &claim, "", 400, "invalid-path", &[id]),
            ("DELETE", &claim, "", 400, "invalid-path", &[id]),
            ("POST", &renew, "", 400, "invalid-path", &[id]),
            ("POST", &revoke, "", 400, "invalid-path", &[id]),
        ]);
    }
    let long_name = "x".repeat(65);
    for bad in ["a.b", "-a", "_a", "a%2Fb", "..", "%C3%BC", "a%20", long_name.as_str()] {
        let semaphore = format!("/api/v1/semaphores/{bad}");
        let claims = format!("{semaphore}/claims");
        unchanged.refuses(&[
            ("PUT", &semaphore, r#"{"capacity": 1}"#, 400, "invalid-path", &[name]),
            ("PATCH", &semaphore, r#"{"capacity": 1}"#, 400, "invalid-path", &[name]),
            ("GET", &semaphore, "", 400, "invalid-path", &[name]),
            ("DELETE", &semaphore, "", 400, "invalid-path", &[name]),
            ("POST", &claims, "", 400, "invalid-path", &[name]),
        ]);
    }
    let nothing = "there is nothing at this path; GET /api/v1 lists the endpoints";
    for path in ["/api/v1/claim", "/api/v1/claims/", "/api/v1/claims/a/b", "/API/v1", "//api", "/x"]
    {
        unchanged.refuses(&[
            ("GET", path, "", 404, "unknown-path", &[nothing]),
            ("PUT", path, SIM, 404, "unknown-path", &[nothing]),
        ]);
    }
    let has = "this path does not have this method; it has ";
    for (method, path, allow) in [
        ("POST", "/api/v1/claims/a", "GET, HEAD, PUT, DELETE"),
        ("PATCH", "/api/v1/claims/a", "GET, HEAD, PUT, DELETE"),
        ("GET", "/api/v1/claims/a/renew", "POST"),
        ("PUT", "/api/v1/claims", "GET, HEAD, POST"),
        ("POST", "/api/v1/semaphores/Sim", "GET, HEAD, PUT, PATCH, DELETE"),
        ("BREW", "/api/v1/semaphores", "GET, HEAD"),
        ("get", "/healthz", "GET, HEAD"),
    ] {
        unchanged.refuses(&[(method, path, "", 405, "method-not-allowed", &[has, allow])]);
        let refused = unchanged.daemon.call(method, path, "");
        let set = |text: &str| text.split(", ").map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(set(refused.header("Allow").unwrap()), set(allow), "{method} {path}");
    }
}

#[test]
fn query_parameters_of_every_call() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let settings = r#"{"capacity": 3}"#;
    // Each call with a body that is right and the parameters that it has.
    let calls: [(&str, &str, &str, &str); 19] = [
        ("GET", "/api", "", ""),
        ("GET", "/api/v1", "", ""),
        ("GET", "/api/v1/service", "", ""),
        ("GET", "/healthz", "", ""),
        ("GET", "/readyz", "", ""),
        ("GET", "/openapi.json", "", ""),
        ("GET", "/api/v1/claims", "", "semaphore, state, holder, token, limit, after"),
        ("POST", "/api/v1/claims", SIM, "wait"),
        ("PUT", "/api/v1/claims/a", SIM, "wait"),
        ("GET", "/api/v1/claims/a", "", "since, wait"),
        ("DELETE", "/api/v1/claims/a", "", "job"),
        ("POST", "/api/v1/claims/a/renew", "", "wait"),
        ("POST", "/api/v1/claims/a/revoke", "", ""),
        ("GET", "/api/v1/semaphores", "", "since, wait"),
        ("GET", "/api/v1/semaphores/Sim", "", "since, wait"),
        ("PUT", "/api/v1/semaphores/Sim", settings, "force"),
        ("PATCH", "/api/v1/semaphores/Sim", settings, "force"),
        ("DELETE", "/api/v1/semaphores/Sim", "", "force"),
        ("POST", "/api/v1/semaphores/Sim/claims", "", "wait"),
    ];
    for (method, path, body, known) in calls {
        let refuses = |query: &str, says: &[&str]| {
            let target = format!("{path}?{query}");
            unchanged.refuses(&[(method, &target, body, 400, "invalid-query", says)]);
        };
        let unknown = match known {
            "" => "query parameter `bogus` is unknown; this call has none".to_owned(),
            known => format!("query parameter `bogus` is unknown; allowed are {known}"),
        };
        refuses("bogus=1", &[&unknown]);
        refuses("bogus", &[&unknown]);
        for name in known.split(", ").filter(|name| !name.is_empty()) {
            let twice = format!("query parameter `{name}` is there twice; leave one out");
            refuses(&format!("{name}=1&{name}=1"), &[&twice]);
        }
        if known.contains("wait") {
            let meant = "`wiat` is unknown, did you mean `wait`?";
            refuses("wiat=5", &[meant]);
            for wait in ["soon", "-1", "1.5", "", "5d", "1h30m", "9999999999999999999999"] {
                let allowed = "`wait` must be a number of seconds or a text such as \"30s\"";
                refuses(&format!("wait={wait}"), &[allowed, &format!("not {wait:?}")]);
            }
        }
        for (name, wrong, allowed) in [
            ("since", ["x", "-1", "1.5", ""], "a revision number"),
            ("force", ["yes", "1", "TRUE", ""], "true or false"),
            ("state", ["ended", "Held", "x", ""], "waiting, offered or held"),
            ("limit", ["0", "1001", "-1", "many"], "a whole number from 1 to 1000"),
            ("after", ["x", "7", "q200.1", "s"], "the `next` of the page before"),
            ("semaphore", ["a.b", "", "-", "a%20b"], "1 to 64 of A-Z a-z"),
            ("holder", ["", "%0a", "a%00", "%7f"], "1 to 512 bytes of text"),
            ("token", ["", "A", "abc", "a-b-c"], "4 to 32 of a-z 0-9"),
        ] {
            for value in wrong.iter().filter(|_| known.split(", ").any(|known| known == name)) {
                let says: &[&str] = &[&format!("query parameter `{name}` must be"), allowed];
                refuses(&format!("{name}={value}"), says);
            }
        }
    }
    unchanged.refuses(&[
        ("GET", "/api/v1/claims?semaphore=Slm", "", 404, "unknown-semaphore", &["mean `Sim`?"]),
        ("GET", "/api/v1/claims?after=q0.1", "", 400, "invalid-query", &["`after`", "`semaphore`"]),
    ]);
}

#[test]
fn framing_and_sizes() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let claim = || Request::new("PUT", "/api/v1/claims/a");
    let type_wanted = "-H 'Content-Type: application/json'";
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""] {
        let request = claim().with_body(content_type, SIM);
        unchanged.refuses_request(&request, 415, "unsupported-content-type", &[type_wanted]);
    }
    let merge = claim().with_body("application/merge-patch+json", SIM);
    unchanged.refuses_request(&merge, 415, "unsupported-content-type", &["PATCH also takes"]);
    let untyped = Request { body: SIM.into(), ..claim() };
    unchanged.refuses_request(&untyped, 415, "unsupported-content-type", &[type_wanted]);

    let bytes = 64 * 1_024;
    let padded = |length: usize| format!("{SIM}{}", " ".repeat(length - SIM.len()));
    let too_large = ["longer than 65536 bytes"];
    let one_over = claim().with_body(JSON, padded(bytes + 1));
    unchanged.refuses_request(&one_over, 413, "body-too-large", &too_large);
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", bytes + 1, padded(bytes + 1));
    let chunked = claim().with_body(JSON, chunk).with("Transfer-Encoding", "chunked");
    unchanged.refuses_request(&chunked, 413, "body-too-large", &too_large);
    for length in ["4294967297", "1099511627776", "18446744073709551615"] {
        let huge = claim().with("Content-Length", length);
        unchanged.refuses_request(&huge, 413, "body-too-large", &too_large);
    }
    let end = ["do not say where the body ends", "one Content-Length"];
    for length in ["+5", "-1", "5x", "0x5", "18446744073709551616"] {
        let request = claim().with_body(JSON, "12345").with("Content-Length", length);
        unchanged.refuses_request(&request, 400, "ambiguous-framing", &end);
    }
    let both = b"PUT /api/v1/claims/a HTTP/1.1\r\nHost: s\r\nContent-Type: application/json\r\n\
        Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    unchanged.refuses_bytes(both, 400, "ambiguous-framing", &end);
    let gzip = claim().with("Transfer-Encoding", "gzip");
    unchanged.refuses_request(
        &gzip,
        501,
        "unknown-transfer-coding",
        &["chunked", "Content-Length"],
    );

    let long = Request::new("GET", &format!("/api/v1/claims?holder={}", "x".repeat(4_096)));
    unchanged.refuses_request(&long, 414, "uri-too-long", &["longer than 4096 bytes"]);
    let many = (0..64).fold(claim(), |request, n| request.with(&format!("X-{n}"), "x"));
    unchanged.refuses_request(&many, 431, "headers-too-large", &["64 headers", "16384 bytes"]);
    let fat = claim().with("X-Fat", &"x".repeat(20_000));
    unchanged.refuses_request(&fat, 431, "headers-too-large", &["64 headers", "16384 bytes"]);
}

/// Requests that are right, but not now or not here.
#[test]
fn conflicts() {
    let daemon = Daemon::start(CONFIG);
    let steps: [(&str, &str, &str, u16); 8] = [
        ("PUT", "/api/v1/claims/held", SIM, 201),
        ("PUT", "/api/v1/claims/waits", SIM, 202),
        ("PUT", "/api/v1/claims/two", r#"{"permits": {"Build": 2}}"#, 201),
        ("PUT", "/api/v1/claims/three", r#"{"permits": {"Build": 3}}"#, 202),
        ("PUT", "/api/v1/claims/over", r#"{"permits": {"Late": 1}}"#, 201),
        ("POST", "/api/v1/claims/over/revoke", "", 200),
        ("PATCH", "/api/v1/semaphores/Late", r#"{"state": "draining"}"#, 200),
        ("PUT", "/api/v1/claims/late", r#"{"permits": {"Late": 1}}"#, 202),
    ];
    assert_eq!(daemon.call("PUT", "/api/v1/semaphores/Late", r#"{"capacity": 1}"#).status, 201);
    for (method, target, body, status) in steps {
        assert_eq!(daemon.call(method, target, body).status, status, "{target}");
    }
    let unchanged = Unchanged::new(daemon);
    let new = "/api/v1/claims/new";
    let build_2 = r#"{"permits": {"Build": 2}, "queue": false}"#;
    let late = r#"{"permits": {"Late": 1}, "queue": false}"#;
    let differs = ["made with another request", "choose a new id"];
    let ended = ["claim `over` has ended (revoked)", "under a new id"];
    let unknown = ["there is no claim `new`", "ended too long ago"];
    let wait = "leave out \"queue\": false to wait";
    let cases: [Case<'_>; 16] = [
        ("PUT", "/api/v1/claims/held", SIM_AT_ONCE, 409, "claim-differs", &differs),
        ("PUT", "/api/v1/claims/waits", build_2, 409, "claim-differs", &differs),
        ("PUT", "/api/v1/claims/over", SIM, 410, "claim-ended", &ended),
        ("POST", "/api/v1/claims/over/renew", "", 410, "claim-ended", &ended),
        ("GET", new, "", 404, "unknown-claim", &unknown),
        ("DELETE", new, "", 404, "unknown-claim", &unknown),
        ("POST", "/api/v1/claims/new/renew", "", 404, "unknown-claim", &unknown),
        ("POST", "/api/v1/claims/new/revoke", "", 404, "unknown-claim", &unknown),
        ("PUT", new, SIM_AT_ONCE, 409, "no-permit", &["permits of `Sim`", "0 at present", wait]),
        // One is free, and set aside for the claim that waits for three.
        ("PUT", new, build_2, 409, "no-permit", &["permits of `Build`", "0 at present", wait]),
        ("PUT", new, late, 409, "draining", &["`Late` is draining", wait]),
        (
            "PUT",
            "/api/v1/semaphores/Build",
            r#"{"capacity": 2}"#,
            409,
            "would-end-claims",
            &["a capacity of 2 for `Build`", "their number is 1", "?force=true"],
        ),
        (
            "PATCH",
            "/api/v1/semaphores/Build",
            r#"{"capacity": 1}"#,
            409,
            "would-end-claims",
            &["a capacity of 1 for `Build`", "their number is 1", "?force=true"],
        ),
        (
            "DELETE",
            "/api/v1/semaphores/Build",
            "",
            409,
            "semaphore-in-use",
            &["`Build` is in use", "their number is 2", "?force=true"],
        ),
        ("DELETE", "/api/v1/semaphores/Late?force=false", "", 409, "semaphore-in-use", &["is 1"]),
        ("DELETE", "/api/v1/semaphores/new", "", 404, "unknown-semaphore", &["`new`"]),
    ];
    unchanged.refuses(&cases);
}
