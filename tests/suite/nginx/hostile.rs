//! Requests that two programs could read in two ways, and others that must not reach the service.

use super::{A, assert_problem, http, start};
use crate::http::Request;

/// The head of a PUT that would take a permit, if its framing were accepted.
fn put(more: &str) -> Vec<u8> {
    let head =
        "PUT /api/v1/claims/smuggled HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    format!("{head}{more}").into_bytes()
}

/// Requests that two programs could read in two ways, or that harm the service's HTTP library.
fn hostile() -> Vec<(&'static str, u16, Vec<u8>)> {
    let length = A.len();
    let with_length = |length: &str| put(&format!("Content-Length: {length}\r\n\r\n{A}"));
    let target = "GET /api/v1/claims/\u{e9} HTTP/1.1\r\nHost: x\r\n\r\n";
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0";
    vec![
        ("a sign before the length", 400, with_length(&format!("+{length}"))),
        ("a letter after the length", 400, with_length(&format!("{length}x"))),
        ("a list of lengths", 400, with_length(&format!("{length}, {length}"))),
        ("no length", 400, with_length("")),
        ("two lengths", 400, with_length(&format!("{length}\r\nContent-Length: 1"))),
        (
            "the same length twice",
            400,
            with_length(&format!("{length}\r\nContent-Length: {length}")),
        ),
        (
            "a length and chunks",
            400,
            put("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "chunks and a length",
            400,
            put("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ),
        ("a space before the colon", 400, put(&format!("Content-Length : {length}\r\n\r\n{A}"))),
        (
            "a folded header",
            400,
            put(&format!("X: a\r\n b\r\nContent-Length: {length}\r\n\r\n{A}")),
        ),
        ("a coding that is none", 501, put("Transfer-Encoding: identity\r\n\r\n")),
        ("an unknown coding", 501, put("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n")),
        ("a length beyond all memory", 413, put("Content-Length: 1000000000000000\r\n\r\n")),
        ("a body that is too long", 413, put("Content-Length: 65537\r\n\r\n")),
        ("an HTTP/2 request line", 505, b"GET /api HTTP/2.0\r\nHost: x\r\n\r\n".to_vec()),
        ("the HTTP/2 preface", 400, preface.as_bytes().to_vec()),
        ("non-ASCII in the target", 400, target.as_bytes().to_vec()),
        ("non-ASCII in a header", 400, put("User-Agent: \u{e9}\r\nContent-Length: 0\r\n\r\n")),
        ("a control character in a header", 400, put("Prefer: \u{1}\r\nContent-Length: 0\r\n\r\n")),
        ("no host", 400, b"GET /api HTTP/1.1\r\n\r\n".to_vec()),
        ("a method that echoes", 405, b"TRACE /api HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a tunnel", 400, b"CONNECT a:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "a target that is too long",
            414,
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9_000)).into_bytes(),
        ),
        (
            "a header that is too long",
            431,
            format!("GET /api HTTP/1.1\r\nX: {}\r\nHost: x\r\n\r\n", "a".repeat(9_000))
                .into_bytes(),
        ),
        ("no HTTP at all", 400, b"hello\r\n\r\n".to_vec()),
    ]
}

#[test]
fn hostile_requests_end_at_nginx() {
    let (daemon, proxy) = start();
    let before = daemon.look("/api/v1/service")["revision"].clone();
    let mut checked = 0;
    for (what, status, bytes) in hostile() {
        let answer = http::exchange(proxy.address(), &bytes, false);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_problem(&answer, what);
        let access = proxy.access(&answer);
        assert!(access.ends_with(" us=- ut=-"), "{what} reached the service: {access}");
        assert_eq!(proxy.call("GET", "/healthz", "").status, 200, "after {what}");
        checked += 1;
    }
    assert!(checked >= 20);
    assert_eq!(daemon.look("/api/v1/service")["revision"], before);
    assert_eq!(daemon.call("GET", "/api/v1/claims/smuggled", "").status, 404);
}

/// What is unusual and right gets through, in a form that nobody can mistake.
#[test]
fn chunks_are_put_together_and_unknown_headers_left_out() {
    let (daemon, proxy) = start();
    let size = A.len();
    let chunked = put(&format!(
        "Transfer-Encoding: chunked\r\nForwarded: for=x\r\nX-Forwarded-For: 1.2.3.4\r\n\
         Expect: 100-continue\r\nUpgrade: websocket\r\nX-Name: \u{e9}\r\n\r\n{size:x}\r\n{A}\r\n0\r\n\r\n"
    ));
    let answer = http::exchange(proxy.address(), &chunked, false);
    assert_eq!((answer.status, &answer.json()["id"]), (201, &"smuggled".into()));
    assert!(proxy.access(&answer).contains(" us=201 "));
    assert_eq!(daemon.call("GET", "/api/v1/claims/smuggled", "").status, 200);
    let named = Request::new("GET", "/healthz").with("X-Request-Id", "build-412.7");
    let answer = http::send(proxy.address(), &named);
    assert_eq!(answer.header("X-Request-Id"), Some("build-412.7"));
    let odd = Request::new("GET", "/healthz").with("X-Request-Id", "a b");
    assert_ne!(http::send(proxy.address(), &odd).header("X-Request-Id"), Some("a b"));
}
