use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{self, Answer, Blocked, Call, Calls, Credentials, Endpoint, Outcome, Reply, Step},
    model::{EndReason, Revision, WallTime},
    router,
};

/// Takes down its calls and gives each the same reply, at once or after a wait.
struct Script {
    calls: Mutex<Vec<Call>>,
    result: Result<Answer, api::Error>,
    blocks: bool,
}

struct Later(Result<Answer, api::Error>);

impl Blocked for Later {
    fn wait(self: Box<Self>) -> Reply {
        Reply { result: self.0, after: Revision(7) }
    }
}

impl Calls for Script {
    fn handle(&self, call: Call) -> Step {
        self.calls.lock().push(call);
        if self.blocks {
            Step::Blocked(Box::new(Later(self.result.clone())))
        } else {
            Step::Done(Reply { result: self.result.clone(), after: Revision(7) })
        }
    }

    fn after_commit(&self, _: Revision, then: Box<dyn FnOnce() + Send>) -> bool {
        then();
        false
    }

    fn commit(&self) -> bool {
        false
    }
}

fn answer(outcome: Outcome) -> Answer {
    Answer {
        outcome,
        body: Some("{\"a\":1}".to_owned()),
        download: None,
        revision: Some(Revision(7)),
        location: None,
        retry_after_seconds: None,
        wait_applied: None,
    }
}

fn script(result: Result<Answer, api::Error>, blocks: bool) -> (Arc<Script>, Interface) {
    let script = Arc::new(Script { calls: Mutex::default(), result, blocks });
    let interface = Interface::new(script.clone(), Limits::default()).unwrap();
    (script, interface)
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Request {
    let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    let head = Head { method: method.to_owned(), target: target.to_owned(), headers };
    Request { head, body: body.as_bytes().to_vec() }
}

/// The response to a request when the API gives `result`.
fn respond(result: Result<Answer, api::Error>, request: Request) -> Response {
    match script(result, false).1.handle(request, Client::default()) {
        Handled::Ready { response, .. } => response,
        Handled::Blocked(_) => panic!("blocked"),
    }
}

fn document(response: &Response) -> Value {
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn a_request_becomes_a_call() {
    let (script, interface) = script(Ok(answer(Outcome::Created)), false);
    let json = ("content-type", "application/json");
    let given = request(
        "PUT",
        "/api/v1/claims/a%2Db?wait=30s&x=a+b",
        &[json, ("prefer", "foo, wait=12")],
        "{}",
    );
    let Handled::Ready { response, after } = interface.handle(given, Client::default()) else {
        panic!("blocked")
    };
    assert_eq!((response.status, after), (201, Revision(7)));
    assert_eq!(response.body, b"{\"a\":1}");
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    let expected = Call {
        endpoint: Endpoint::PutClaim("a-b".to_owned()),
        method: "PUT".into(),
        path: "/api/v1/claims/a%2Db".into(),
        credentials: Credentials::None,
        address: None,
        query: vec![pair("wait", "30s"), pair("x", "a b")],
        prefer_wait: Some(Duration::from_secs(12)),
        body: b"{}".to_vec(),
        peer: None,
    };
    assert_eq!(*script.calls.lock(), [expected]);
}

#[test]
fn outcomes_have_their_status() {
    let cases = [
        (Outcome::Created, 201),
        (Outcome::Ok, 200),
        (Outcome::Accepted, 202),
        (Outcome::Done, 204),
        (Outcome::NotReady, 503),
    ];
    for (outcome, status) in cases {
        let response = respond(Ok(answer(outcome)), request("GET", "/api", &[], ""));
        assert_eq!(response.status, status, "{outcome:?}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("cache-control"), Some("no-store"));
        assert_eq!(response.header("semaphore-revision"), None, "it is in the body");
    }
}

#[test]
fn an_answer_brings_its_headers() {
    let full = Answer {
        body: None,
        location: Some("/api/v1/claims/0195".to_owned()),
        retry_after_seconds: Some(3),
        wait_applied: Some(Duration::from_secs(50)),
        ..answer(Outcome::Done)
    };
    let response = respond(Ok(full), request("DELETE", "/api/v1/claims/a", &[], ""));
    assert_eq!(response.status, 204);
    for (name, value) in [
        ("Semaphore-Revision", "7"),
        ("Location", "/api/v1/claims/0195"),
        ("Retry-After", "3"),
        ("Preference-Applied", "wait=50"),
    ] {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    assert_eq!(response.header("Content-Type"), None);
}

#[test]
fn head_has_the_length_and_no_body() {
    let good = respond(Ok(answer(Outcome::Ok)), request("HEAD", "/api", &[], ""));
    assert_eq!((good.status, good.body.len(), good.content_bytes), (200, 0, 7));
    let bad = respond(Ok(answer(Outcome::Ok)), request("HEAD", "/none", &[], ""));
    assert_eq!((bad.status, bad.body.len()), (404, 0));
    assert!(bad.content_bytes > 0);
}

#[test]
fn a_blocked_call_answers_later() {
    let (_, interface) = script(Err(api::Error::Stopping), true);
    let given = || request("PUT", "/api/v1/claims/a", &[], "");
    let Handled::Blocked(call) = interface.handle(given(), Client::default()) else {
        panic!("not blocked")
    };
    let (response, after) = call.wait();
    assert_eq!((response.status, after), (503, Revision(7)));
    assert_eq!(response.header("retry-after"), Some("1"));
    let Handled::Blocked(call) = interface.handle(given(), Client::default()) else {
        panic!("not blocked")
    };
    assert_eq!(call.refuse(&api::Error::StorageLow).header("retry-after"), Some("30"));
}

/// One of each error of the API, with its status.
fn api_errors() -> Vec<(api::Error, u16)> {
    let t = |text: &str| text.to_owned();
    vec![
        (api::Error::InvalidPath { member: "id", allowed: t("x") }, 400),
        (api::Error::InvalidQuery { parameter: t("p"), problem: t("x") }, 400),
        (api::Error::InvalidBody { problem: t("x") }, 400),
        (
            api::Error::UnknownMember { member: t("m"), allowed: t("x"), suggestion: Some(t("y")) },
            422,
        ),
        (api::Error::DuplicateMember { member: t("m") }, 422),
        (api::Error::MissingMember { member: "permits", allowed: t("x") }, 422),
        (api::Error::InvalidMember { member: t("m"), allowed: t("x"), got: t("y") }, 422),
        (api::Error::NeverSatisfiable { semaphore: t("s"), requested: 3, capacity: 2 }, 422),
        (api::Error::UnknownSemaphore { semaphore: t("s"), suggestion: None }, 404),
        (api::Error::UnknownClaim { id: t("a") }, 404),
        (api::Error::ClaimDiffers { id: t("a") }, 409),
        (api::Error::NoPermit { semaphore: t("s"), available: 0 }, 409),
        (api::Error::Draining { semaphore: t("s") }, 409),
        (api::Error::WouldEndClaims { semaphore: t("s"), capacity: 1, claims: 2 }, 409),
        (api::Error::SemaphoreInUse { semaphore: t("s"), claims: 2 }, 409),
        (api::Error::SemaphoreCools { semaphore: t("s"), permits: 2, until: WallTime(0) }, 409),
        (
            api::Error::ClaimEnded {
                id: t("a"),
                reason: EndReason::Expired,
                ended_at: WallTime(0),
            },
            410,
        ),
        (api::Error::QueueFull { semaphore: t("s"), claims_max: 9 }, 429),
        (api::Error::ServiceFull { bound: "b", limit: 9 }, 503),
        (api::Error::StorageLow, 503),
        (api::Error::Stopping, 503),
        (api::Error::Internal, 500),
    ]
}

#[test]
fn every_api_error_is_a_problem_document() {
    for (error, status) in api_errors() {
        let response = respond(Err(error.clone()), request("GET", "/api", &[], ""));
        assert_eq!(response.status, status, "{error:?}");
        let document = document(&response);
        let retry = error.retry_after_seconds().map(|seconds| seconds.to_string());
        assert_eq!(response.header("retry-after"), retry.as_deref(), "{error:?}");
        let mut expected = error.data();
        let members = expected.as_object_mut().unwrap();
        let own = [
            ("title", json!(status::phrase(status))),
            ("status", json!(status)),
            ("code", json!(error.code())),
            ("detail", json!(error.to_string())),
        ];
        for (name, value) in own {
            assert_eq!(members.insert(name.to_owned(), value), None, "{error:?} has a {name}");
        }
        assert_eq!(document, expected);
    }
}

#[test]
fn a_problem_document_as_it_is_sent() {
    let error =
        api::Error::NeverSatisfiable { semaphore: "s".to_owned(), requested: 3, capacity: 2 };
    let response = respond(Err(error), request("GET", "/api", &[], ""));
    let expected = "{\"title\":\"Unprocessable Content\",\"status\":422,\
        \"code\":\"never-satisfiable\",\"detail\":\"3 permits of `s` can never be had: its capacity is \
        2; ask for fewer, or have an admin raise it\",\"capacity\":2,\"requested\":3,\"semaphore\":\"s\"}";
    assert_eq!(String::from_utf8(response.body).unwrap(), expected);
}

#[test]
fn what_the_interface_refuses_itself() {
    let long = "x".repeat(70_000);
    let cases = [
        (request("GET", "/none", &[], ""), 404, "unknown-path"),
        (request("POST", "/healthz", &[], ""), 405, "method-not-allowed"),
        (request("PUT", "/api/v1/claims/a", &[], "{}"), 415, "unsupported-content-type"),
        (
            request("PUT", "/api/v1/claims/a", &[("Content-Type", "text/plain")], "{}"),
            415,
            "unsupported-content-type",
        ),
        (request("PUT", "/api/v1/claims/a", &[], &long), 413, "body-too-large"),
    ];
    for (given, status, code) in cases {
        let (script, interface) = script(Ok(answer(Outcome::Ok)), false);
        let Handled::Ready { response, after } = interface.handle(given, Client::default()) else {
            panic!("blocked")
        };
        assert_eq!((response.status, after), (status, Revision(0)), "{code}");
        assert_eq!(document(&response)["code"], code);
        assert!(script.calls.lock().is_empty(), "{code}: the API was called");
        let allow = (status == 405).then_some("GET, HEAD");
        assert_eq!(response.header("allow"), allow);
    }
}

#[test]
fn heads_are_refused_before_the_body_is_read() {
    let (_, interface) = script(Ok(answer(Outcome::Ok)), false);
    let check = |method: &str, target: &str, headers: &[(&str, &str)]| {
        let head = request(method, target, headers, "").head;
        interface.check_head(&head).map_err(|refusal| {
            let code = match refusal.response.body.is_empty() {
                true => Value::Null,
                false => document(&refusal.response)["code"].clone(),
            };
            (refusal.response.status, code, refusal.framing)
        })
    };
    assert_eq!(check("GET", "/", &[]), Ok(Framing::Empty));
    assert_eq!(check("PUT", "/", &[("content-length", "65536")]), Ok(Framing::Length(65_536)));
    assert_eq!(check("PUT", "/", &[("transfer-encoding", "chunked")]), Ok(Framing::Chunked));
    let huge = Some(Framing::Length(1_000_000_000_000));
    let long = "/".repeat(5_000);
    let many = vec![("a", "b"); 65];
    let fat = "x".repeat(17_000);
    type Headers<'a> = &'a [(&'a str, &'a str)];
    let cases: [(&str, &str, Headers, _); 7] = [
        ("PUT", "/", &[("content-length", "1000000000000")], (413, json!("body-too-large"), huge)),
        ("HEAD", "/", &[("content-length", "1000000000000")], (413, Value::Null, huge)),
        ("GET", &long, &[], (414, json!("uri-too-long"), Some(Framing::Empty))),
        ("GET", "/", &many, (431, json!("headers-too-large"), Some(Framing::Empty))),
        ("GET", "/", &[("a", &fat)], (431, json!("headers-too-large"), Some(Framing::Empty))),
        ("GET", "/", &[("content-length", "+5")], (400, json!("ambiguous-framing"), None)),
        (
            "GET",
            "/",
            &[("transfer-encoding", "xchunked")],
            (501, json!("unknown-transfer-coding"), None),
        ),
    ];
    for (method, target, headers, expected) in cases {
        assert_eq!(check(method, target, headers), Err(expected));
    }
}

#[test]
fn no_word_of_the_client_gets_into_a_header() {
    let evil = "x%0d%0aSet-Cookie:%20a=b";
    let results =
        api_errors().into_iter().map(|(error, _)| Err(error)).chain([Ok(answer(Outcome::Ok))]);
    for result in results {
        for method in ["GET", "PUT", "BREW\u{1}"] {
            let target = format!("/api/v1/claims/{evil}?{evil}={evil}");
            let response =
                respond(result.clone(), request(method, &target, &[("Prefer", evil)], ""));
            for (name, value) in &response.headers {
                assert!(!value.contains("Cookie") && !value.contains('\u{1}'), "{name}: {value}");
            }
        }
    }
}

#[test]
fn every_status_has_its_name() {
    let own = [
        Error::Route(router::Error::UnknownPath),
        Error::Route(router::Error::MethodNotAllowed { allow: String::new() }),
        Error::BodyTooLarge { bytes_max: 1 },
        Error::UnreadableBody,
        Error::UnsupportedContentType,
        Error::TargetTooLong { bytes_max: 1 },
        Error::HeadersTooLarge { headers_max: 1, bytes_max: 1 },
        Error::AmbiguousFraming,
        Error::UnknownTransferCoding,
    ];
    let own = own.iter().map(status::of_error);
    for status in api_errors().into_iter().map(|(_, status)| status).chain(own) {
        let named_500 = status::phrase(status) == "Internal Server Error";
        assert_eq!(named_500, status == 500, "{status} has no name");
    }
}

/// A file of zeros.
struct Zeros;

impl api::Content for Zeros {
    fn read_at(&self, buffer: &mut [u8], _: u64) -> std::io::Result<usize> {
        buffer.fill(0);
        Ok(buffer.len())
    }
}

#[test]
fn a_download_is_named_and_measured_and_not_held_in_memory() {
    let download = api::Download {
        bytes: 1 << 40,
        media_type: "application/vnd.sqlite3",
        file_name: "semaphored-7.db".to_owned(),
        content: Arc::new(Zeros),
    };
    let answer = Answer { body: None, download: Some(Box::new(download)), ..answer(Outcome::Ok) };
    for (method, has_download) in [("GET", true), ("HEAD", false)] {
        let response = respond(Ok(answer.clone()), request(method, "/api/v1/backup", &[], ""));
        assert_eq!((response.status, response.content_bytes), (200, 1 << 40));
        for (name, value) in [
            ("Content-Type", "application/vnd.sqlite3"),
            ("Content-Disposition", "attachment; filename=\"semaphored-7.db\""),
            ("Semaphore-Revision", "7"),
        ] {
            assert_eq!(response.header(name), Some(value), "{method}");
        }
        assert!(response.body.is_empty());
        assert_eq!(response.download.is_some(), has_download, "{method}");
    }
}

/// Without tokens it might come from a browser on the service's machine.
#[test]
fn a_page_of_the_web_cannot_post_unasked() {
    let post = |headers: &[(&str, &str)]| {
        let (script, interface) = script(Ok(answer(Outcome::Ok)), false);
        let request = request("POST", "/api/v1/semaphores/a/claims", headers, "");
        let Handled::Ready { response, .. } = interface.handle(request, Client::default()) else {
            panic!("blocked")
        };
        (response.status, script.calls.lock().len())
    };
    let origin = ("Origin", "https://evil.example");
    assert_eq!(post(&[]), (200, 1), "a program");
    assert_eq!(post(&[origin]), (415, 0));
    assert_eq!(post(&[origin, ("Content-Type", "text/plain")]), (415, 0));
    assert_eq!(post(&[("Origin", "null"), ("Content-Type", "multipart/form-data")]), (415, 0));
    // A browser asks before it sends that.
    assert_eq!(post(&[origin, ("Content-Type", "application/json")]), (200, 1));
}
