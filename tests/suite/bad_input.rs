//! Whatever a client sends wrong in a body (the rest is in `bad_request`): each gets a problem document with its status, its stable code and a
//! detail that names the culprit and what is allowed; none changes anything; none is a 500.
//!
//! `cargo test --test suite bad_input -- --nocapture` prints the details, for reading: would they help a
//! build engineer at three in the morning?

use std::cell::RefCell;

use serde_json::{Value, json};

use super::{
    contract::Contract,
    daemon::Daemon,
    http::{Request, Response, exchange},
};

const CONFIG: &str = "[semaphores]\nBuild = 3\nSim = { capacity = 2, max_ttl = \"10m\" }\n";
const JSON: &str = "application/json";
const CLAIM: &str = "/api/v1/claims/c";
const BUILD: &str = "/api/v1/semaphores/Build";
const NEW: &str = "/api/v1/semaphores/New";
/// A duration that is none, as its detail puts it.
const DURATION: &str = "a number of seconds or a text such as \"90s\", \"5m\" or \"2h\", from ";

/// A request, and what has to come of it: status, code, and pieces of the detail.
pub(crate) type Case<'c> = (&'c str, &'c str, &'c str, u16, &'c str, &'c [&'c str]);

/// A daemon that nothing may change.
pub(crate) struct Unchanged {
    pub(crate) daemon: Daemon,
    /// Every refusal has to be documented, too.
    contract: RefCell<Contract>,
    before: Value,
}

impl Unchanged {
    pub(crate) fn new(daemon: Daemon) -> Unchanged {
        let before = state(&daemon);
        Unchanged { daemon, contract: RefCell::new(Contract::new()), before }
    }

    pub(crate) fn refuses(&self, cases: &[Case<'_>]) {
        for (method, target, body, status, code, says) in cases {
            self.refuses_request(&Request::json(method, target, body), *status, code, says);
        }
    }

    pub(crate) fn refuses_request(
        &self,
        request: &Request,
        status: u16,
        code: &str,
        says: &[&str],
    ) {
        let body = String::from_utf8_lossy(&request.body);
        let what = format!("{} {:.60} {body:.80}", request.method, request.target);
        let response = self.daemon.send(request);
        check(&what, &response, status, code, says);
        self.contract.borrow_mut().check_answer(request, &response);
    }

    pub(crate) fn refuses_bytes(&self, bytes: &[u8], status: u16, code: &str, says: &[&str]) {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let response = exchange(self.daemon.address(), bytes, false);
        check(&what, &response, status, code, says);
    }
}

impl Drop for Unchanged {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(state(&self.daemon), self.before, "something was changed");
            self.contract.borrow().assert_kept();
        }
    }
}

/// All that a call could change: every semaphore, every live claim, the revision.
fn state(daemon: &Daemon) -> Value {
    let mut semaphores = daemon.look("/api/v1/semaphores");
    for semaphore in semaphores["semaphores"].as_array_mut().unwrap() {
        semaphore["longest_wait_seconds"].take();
    }
    let claims = daemon.look("/api/v1/claims");
    let claims = claims["claims"].as_array().unwrap().iter();
    let claims = claims.map(|claim| json!([claim["id"], claim["state"], claim["revision"]]));
    json!([semaphores, claims.collect::<Vec<_>>()])
}

fn check(what: &str, response: &Response, status: u16, code: &str, says: &[&str]) {
    let code_given = response.code();
    assert_eq!(
        (response.status, code_given.as_str()),
        (status, code),
        "{what}: {}",
        response.text()
    );
    let problem = response.json();
    let detail = problem["detail"].as_str().unwrap();
    #[expect(clippy::print_stdout, reason = "to be read, see the module")]
    {
        println!("{status} {what}\n    {detail}");
    }
    assert!(says.iter().all(|says| detail.contains(says)), "{what}: {says:?} in {detail:?}");
    assert!(!detail.contains(char::is_control), "{what}: {detail:?}");
    assert!(problem["status"] == status && problem["title"].is_string(), "{problem}");
}

#[test]
fn bodies_that_are_no_object_with_known_members() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let object = "the body must be a JSON object, but it is ";
    let deep = "[".repeat(30_000);
    let nested = format!("{{\"permits\": {}", "{\"Build\": ".repeat(2_000));
    let cases: [Case<'_>; 20] = [
        ("PUT", CLAIM, "", 400, "invalid-body", &[object, "empty"]),
        ("POST", "/api/v1/claims", "", 400, "invalid-body", &[object, "empty"]),
        ("PUT", NEW, "", 400, "invalid-body", &[object, "empty"]),
        ("PATCH", BUILD, "", 400, "invalid-body", &[object, "empty"]),
        ("PUT", CLAIM, "permits=1", 400, "invalid-body", &[object, "not JSON", "column 1"]),
        ("PUT", CLAIM, "{'permits': 1}", 400, "invalid-body", &[object, "not JSON"]),
        ("PUT", CLAIM, r#"{"permits": {"Build": 1}"#, 400, "invalid-body", &[object, "EOF"]),
        ("PUT", CLAIM, r#"{"permits": {"Build": 1}} x"#, 400, "invalid-body", &["trailing"]),
        ("PUT", CLAIM, r#"{"permits": {"Build": 1},}"#, 400, "invalid-body", &["trailing comma"]),
        ("PUT", CLAIM, r#"{"permits": {"Build": 1e400}}"#, 400, "invalid-body", &["out of range"]),
        ("PUT", CLAIM, "[]", 400, "invalid-body", &[object, "[]"]),
        ("PUT", CLAIM, "null", 400, "invalid-body", &[object, "null"]),
        ("PUT", CLAIM, &deep, 400, "invalid-body", &["recursion limit"]),
        ("PUT", CLAIM, &nested, 400, "invalid-body", &["recursion limit"]),
        (
            "PUT",
            CLAIM,
            r#"{"permits": {"Build": 1}, "tll": "5m"}"#,
            422,
            "unknown-member",
            &["`tll`", "did you mean `ttl`?", "allowed are permits, holder, ttl"],
        ),
        ("POST", "/api/v1/claims/x/renew", "{\"x\": 1}", 422, "unknown-member", &["`x`", "ttl"]),
        ("POST", "/api/v1/claims/x/revoke", "{\"x\": 1}", 422, "unknown-member", &["reason"]),
        ("PUT", CLAIM, r#"{"\u001b[2J": 1}"#, 422, "unknown-member", &["`\\u{1b}[2J`"]),
        ("PUT", NEW, r#"{"capactiy": 1}"#, 422, "unknown-member", &["did you mean `capacity`?"]),
        ("PATCH", BUILD, r#"{"ttl": 1}"#, 422, "unknown-member", &["`ttl`", "default_ttl"]),
    ];
    unchanged.refuses(&cases);
    for twice in [
        r#"{"permits": {"Build": 1}, "permits": {"Build": 1}}"#,
        r#"{"permits": {"Build": 1, "Build": 1}}"#,
        r#"{"permits": {"Build": 1}, "labels": {"Build": "1", "Build": "1"}}"#,
        r#"{"permits": {"Build": 1}, "\u0070ermits": {"Sim": 1}}"#,
    ] {
        let name = if twice.contains("\\u") || twice.contains("}, \"permits") {
            "member `permits` is there twice"
        } else {
            "member `Build` is there twice"
        };
        unchanged.refuses(&[("PUT", CLAIM, twice, 422, "duplicate-member", &[name])]);
    }
    let not_utf8 = Request::new("PUT", CLAIM).with_body(JSON, b"{\"holder\": \"\xff\"}".to_vec());
    unchanged.refuses_request(&not_utf8, 400, "invalid-body", &["not UTF-8 after 12 bytes"]);
}

#[test]
fn permits_that_cannot_be() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let many = (0..17).map(|number| format!("\"S{number}\": 1")).collect::<Vec<_>>().join(", ");
    let number = "must be a whole number of permits from 1 to 1000000, not ";
    let cases: [(&str, u16, &str, &[&str]); 21] = [
        ("0", 422, "invalid-member", &["`permits.Build`", number, "not 0"]),
        ("-1", 422, "invalid-member", &["`permits.Build`", number, "not -1"]),
        ("1.5", 422, "invalid-member", &["`permits.Build`", number, "not 1.5"]),
        ("1.0", 422, "invalid-member", &["`permits.Build`", number]),
        ("1000001", 422, "invalid-member", &["`permits.Build`", number]),
        ("4294967297", 422, "invalid-member", &["`permits.Build`", number]),
        ("18446744073709551617", 422, "invalid-member", &["`permits.Build`", number]),
        ("1e300", 422, "invalid-member", &["`permits.Build`", number]),
        ("\"1\"", 422, "invalid-member", &["`permits.Build`", number, "not \"1\""]),
        ("null", 422, "invalid-member", &["`permits.Build`", number, "null"]),
        ("[1]", 422, "invalid-member", &["`permits.Build`", number]),
        ("true", 422, "invalid-member", &["`permits.Build`", number]),
        ("4", 422, "never-satisfiable", &["4 permits of `Build`", "capacity is 3"]),
        ("1000000", 422, "never-satisfiable", &["capacity is 3", "ask for fewer"]),
        ("1, \"Sim\": 3", 422, "never-satisfiable", &["3 permits of `Sim`", "capacity is 2"]),
        ("1, \"Buidl\": 1", 404, "unknown-semaphore", &["`Buidl`", "did you mean `Build`?"]),
        ("1, \"build\": 1", 404, "unknown-semaphore", &["`build`", "did you mean `Build`?"]),
        ("1, \"Questa\": 1", 404, "unknown-semaphore", &["`Questa`", "GET /api/v1/semaphores"]),
        ("1, \"a b\": 1", 422, "invalid-member", &["`permits`", "1 to 64 of A-Z a-z", "a b"]),
        ("1, \"\": 1", 422, "invalid-member", &["`permits`", "1 to 64 of A-Z a-z"]),
        ("1, \"-x\": 1", 422, "invalid-member", &["start with a letter or digit"]),
    ];
    for (weight, status, code, says) in cases {
        let body = format!("{{\"permits\": {{\"Build\": {weight}}}}}");
        unchanged.refuses(&[
            ("PUT", CLAIM, &body, status, code, says),
            ("POST", "/api/v1/claims", &body, status, code, says),
        ]);
    }
    let object = "an object of semaphore names and whole numbers: {\"FlexLM-Riviera\": 1}";
    let whole: [(String, &str, &[&str]); 7] = [
        ("{}".into(), "missing-member", &["`permits` is missing", object]),
        ("{\"holder\": \"x\"}".into(), "missing-member", &["`permits` is missing", object]),
        ("{\"permits\": {}}".into(), "invalid-member", &["1 to 16 different semaphores"]),
        (format!("{{\"permits\": {{{many}}}}}"), "invalid-member", &["1 to 16 different"]),
        ("{\"permits\": 1}".into(), "invalid-member", &["`permits`", object, "not 1"]),
        ("{\"permits\": null}".into(), "invalid-member", &["`permits`", object]),
        ("{\"permits\": [\"Build\"]}".into(), "invalid-member", &["`permits`", object]),
    ];
    for (body, code, says) in &whole {
        unchanged.refuses(&[("PUT", CLAIM, body, 422, code, says)]);
    }
    let shorthand = "/api/v1/semaphores/Build/claims";
    for weight in ["0", "-1", "1.5", "null", "\"2\"", "{\"Build\": 1}", "4294967297"] {
        let body = format!("{{\"permits\": {weight}}}");
        unchanged.refuses(&[(
            "POST",
            shorthand,
            &body,
            422,
            "invalid-member",
            &["`permits`", number],
        )]);
    }
    unchanged.refuses(&[
        ("POST", shorthand, r#"{"permits": 4}"#, 422, "never-satisfiable", &["capacity is 3"]),
        ("POST", "/api/v1/semaphores/Buil/claims", "", 404, "unknown-semaphore", &["`Build`?"]),
    ]);
}

#[test]
fn members_of_a_claim_with_wrong_values() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let refuses = |member: &str, value: &str, says: &[&str]| {
        let body = format!("{{\"permits\": {{\"Sim\": 1}}, \"{member}\": {value}}}");
        unchanged.refuses(&[("PUT", CLAIM, &body, 422, "invalid-member", says)]);
    };
    for (member, over, longest) in [
        ("ttl", "86401", "24h"),
        ("queue_ttl", "\"1441m\"", "24h"),
        ("offer_ttl", "3600.5", "1h"),
        ("wait_timeout", "\"169h\"", "168h"),
    ] {
        let (name, range) = (format!("`{member}` must be"), format!("from 1s to {longest}"));
        let wrong = ["0", "-1", "0.9", "1e+300", "\"5x\"", "\"1.5s\"", "\"\"", "\"90\"", "null"];
        for value in wrong.into_iter().chain(["[1]", "{}", "true", "\"-5s\"", "\"1h30m\"", over]) {
            refuses(member, value, &[&name, DURATION, &range, &format!("not {value}")]);
        }
    }
    refuses("ttl", "\"11m\"", &["`ttl` must be at most 10m for these semaphores, not 11m"]);
    refuses("ttl", "600.5", &["`ttl` must be at most 10m for these semaphores, not 600.5s"]);

    let text = "1 to 512 bytes of text without control characters";
    let long = format!("\"{}\"", "ü".repeat(257));
    for value in ["5", "null", "[]", "\"\"", "\"a\\nb\"", "\"\\u0000\"", "\"\\u009b\"", &long] {
        refuses("holder", value, &["`holder` must be", text]);
    }
    for value in ["101", "-101", "1.5", "1e2", "\"5\"", "null", "99999999999999999999", "[]"] {
        refuses("priority", value, &["`priority` must be a whole number from -100 to 100"]);
    }
    for value in ["1", "\"false\"", "null", "[]"] {
        refuses("queue", value, &["`queue` must be true or false"]);
    }
    let object = "`labels` must be an object of at most 16 labels";
    let many = (0..17).map(|number| format!("\"k{number}\": \"\"")).collect::<Vec<_>>().join(", ");
    for value in ["1", "\"a=b\"", "null", "[\"a\"]", &format!("{{{many}}}")] {
        refuses("labels", value, &[object]);
    }
    let (value_256, long) = ("a text of up to 256 bytes", "x".repeat(257));
    for value in ["5", "null", "{}", "\"a\\tb\"", &format!("\"{long}\"")] {
        refuses(
            "labels",
            &format!("{{\"a\": \"b\", \"br\": {value}}}"),
            &["`labels.br`", value_256],
        );
    }
    for key in ["", "\\u0007", &long[..65]] {
        let keys = ["`labels` must be an object with keys of 1 to 64 bytes"];
        refuses("labels", &format!("{{\"{key}\": \"x\"}}"), &keys);
    }
}

#[test]
fn renewals_and_revocations_with_wrong_values() {
    let daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", CLAIM, r#"{"permits": {"Sim": 1}}"#).status, 201);
    let unchanged = Unchanged::new(daemon);
    let (renew, revoke) = ("/api/v1/claims/c/renew", "/api/v1/claims/c/revoke");
    let text = "`reason` must be 1 to 512 bytes of text without control characters";
    unchanged.refuses(&[
        ("POST", renew, r#"{"ttl": 0}"#, 422, "invalid-member", &["`ttl` must be", DURATION]),
        ("POST", renew, r#"{"ttl": "25h"}"#, 422, "invalid-member", &["from 1s to 24h"]),
        ("POST", renew, r#"{"ttl": "11m"}"#, 422, "invalid-member", &["at most 10m", "11m"]),
        ("POST", renew, "[]", 400, "invalid-body", &["but it is []"]),
        ("POST", revoke, r#"{"reason": ""}"#, 422, "invalid-member", &[text]),
        ("POST", revoke, r#"{"reason": "a\nb"}"#, 422, "invalid-member", &[text]),
        ("POST", revoke, r#"{"reason": null}"#, 422, "invalid-member", &[text]),
    ]);
}

#[test]
fn settings_that_cannot_be() {
    let unchanged = Unchanged::new(Daemon::start(CONFIG));
    let whole = "a whole number from 1 to 1000000 (to grant nothing, set \"state\": \"draining\")";
    for value in ["0", "-1", "1.5", "1000001", "4294967297", "null", "\"5\"", "[]", "true"] {
        let body = format!("{{\"capacity\": {value}}}");
        for (method, target) in [("PUT", NEW), ("PUT", BUILD), ("PATCH", BUILD)] {
            let says: &[&str] = &["`capacity` must be", whole];
            unchanged.refuses(&[(method, target, &body, 422, "invalid-member", says)]);
        }
    }
    let text = "1 to 512 bytes of text";
    let long = format!("\"{}\"", "x".repeat(513));
    let (ttl, state) = ("from 1s to 24h", "\"open\" or \"draining\"");
    for (member, values, allowed) in [
        ("state", &["\"closed\"", "\"OPEN\"", "1", "[]"][..], state),
        ("default_ttl", &["0", "86401", "\"5x\"", "[]"], ttl),
        ("max_ttl", &["0", "\"25h\"", "-1"], ttl),
        ("max_hold", &["0", "\"8785h\"", "true"], "from 1s to 8784h"),
        ("queue_ttl", &["0.5", "86401", "{}"], ttl),
        ("offer_ttl", &["0", "\"61m\"", "\"\""], "from 1s to 1h"),
        ("wait_timeout", &["0", "\"169h\"", "\"1d\""], "from 1s to 168h"),
        ("cooldown", &["-1", "3601", "\"2h\"", "\"x\""], "from 0s to 1h"),
        ("description", &["5", "\"\"", "\"a\\nb\"", &long], text),
    ] {
        for value in values {
            let name = format!("`{member}` must be");
            let says: &[&str] = &[&name, allowed];
            let body = format!("{{\"capacity\": 3, \"{member}\": {value}}}");
            unchanged.refuses(&[
                ("PUT", BUILD, &body, 422, "invalid-member", says),
                ("PATCH", BUILD, &body, 422, "invalid-member", says),
            ]);
        }
    }
    let over = &["`default_ttl` must be from 1s to 10m (its `max_ttl`), not 11m"];
    let body = r#"{"capacity": 2, "default_ttl": "11m", "max_ttl": "10m"}"#;
    unchanged.refuses(&[
        ("PUT", NEW, body, 422, "invalid-member", over),
        (
            "PATCH",
            "/api/v1/semaphores/Sim",
            r#"{"default_ttl": "11m"}"#,
            422,
            "invalid-member",
            over,
        ),
        ("PUT", NEW, r#"{"state": "open"}"#, 422, "missing-member", &["`capacity` is missing"]),
        ("PUT", NEW, r#"{"capacity": 1, "origin": "api"}"#, 422, "unknown-member", &["`origin`"]),
        ("PATCH", NEW, r#"{"capacity": 1}"#, 404, "unknown-semaphore", &["`New`"]),
        ("DELETE", "/api/v1/semaphores/buidl", "", 404, "unknown-semaphore", &["`Build`?"]),
    ]);
}
