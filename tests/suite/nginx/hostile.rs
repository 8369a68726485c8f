//! Requests that two programs could read in two ways, and others that must not reach the service.

use super::{A, assert_problem, http, start};
use crate::http::Request;

/// The head of a PUT that would take a permit, if its framing were accepted.
fn put(more: &str) -> Vec<u8> {
    let head =
        "PUT /api/v1/claims/smuggled HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    format!("{head}{more}").into_bytes()
}

/// Requests that two programs could read in two ways, or that harm the service's HTTP library: what each is, the status
/// that NGINX answers, and its bytes, with `body` where one belongs.
pub(super) fn hostile(body: &str) -> Vec<(&'static str, u16, Vec<u8>)> {
    let mut requests = lengths(body);
    requests.extend(codings(body));
    requests.extend(headers(body));
    requests.extend(request_lines());
    requests
}

/// Bodies whose length is said in an odd way.
fn lengths(body: &str) -> Vec<(&'static str, u16, Vec<u8>)> {
    let length = body.len();
    let with_length = |length: &str| put(&format!("Content-Length: {length}\r\n\r\n{body}"));
    let two =
        |first: usize, second: usize| with_length(&format!("{first}\r\nContent-Length: {second}"));
    let chunks = format!("0\r\n\r\n{body}");
    vec![
        ("a sign before the length", 400, with_length(&format!("+{length}"))),
        ("a length below zero", 400, with_length(&format!("-{length}"))),
        ("a letter after the length", 400, with_length(&format!("{length}x"))),
        ("a hexadecimal length", 400, with_length(&format!("0x{length:x}"))),
        ("a space in the length", 400, with_length("1 0")),
        ("a list of lengths", 400, with_length(&format!("{length}, {length}"))),
        ("no length", 400, with_length("")),
        ("two lengths, the short one first", 400, two(0, length)),
        ("two lengths, the short one last", 400, two(length, 0)),
        ("the same length twice", 400, two(length, length)),
        ("a length over 64 bits", 400, with_length("18446744073709551617")),
        ("a length beyond all memory", 413, with_length("1000000000000000")),
        ("a body that is too long", 413, with_length("65537")),
        (
            "a length and chunks",
            400,
            put(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}")),
        ),
        (
            "chunks and a length",
            400,
            put(&format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n\r\n{chunks}")),
        ),
        ("a chunk whose size is none", 400, put("Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n")),
        (
            "a chunk whose size has a sign",
            400,
            put(&format!("Transfer-Encoding: chunked\r\n\r\n+{length:x}\r\n{body}\r\n0\r\n\r\n")),
        ),
        (
            "a chunk whose size is too large to count",
            400,
            put(&format!("Transfer-Encoding: chunked\r\n\r\n1{:016x}\r\n{body}", 5)),
        ),
    ]
}

/// Transfer codings: of all that are spelt nearly as `chunked`, tiny_http takes each for it.
fn codings(body: &str) -> Vec<(&'static str, u16, Vec<u8>)> {
    let coded = |name: &str, value: &str| put(&format!("{name}{value}\r\n\r\n0\r\n\r\n{body}"));
    let te = "Transfer-Encoding:";
    let old = put(&format!("{te} chunked\r\n\r\n0\r\n\r\n{body}"));
    let old = String::from_utf8_lossy(&old).replace("HTTP/1.1", "HTTP/1.0");
    vec![
        ("a coding that is none", 501, coded(te, " identity")),
        ("an unknown coding", 501, coded(te, " xchunked")),
        ("a coding with something behind it", 501, coded(te, " chunkedx")),
        ("a quoted coding", 501, coded(te, " \"chunked\"")),
        ("a coding with a parameter", 501, coded(te, " chunked;q=1")),
        ("two codings", 501, coded(te, " gzip, chunked")),
        ("two codings, the wrong one last", 501, coded(te, " chunked, identity")),
        ("a coding with a comma behind it", 501, coded(te, " chunked,")),
        ("a coding with a vertical tab before it", 501, coded(te, " \u{b}chunked")),
        ("a coding with a vertical tab behind it", 501, coded(te, " chunked\u{b}")),
        ("a coding twice", 400, coded(te, " chunked\r\nTransfer-Encoding: chunked")),
        ("two codings in two headers", 400, coded(te, " chunked\r\nTransfer-Encoding: identity")),
        ("a space before the coding's colon", 400, coded("Transfer-Encoding :", " chunked")),
        ("a tab before the coding's colon", 400, coded("Transfer-Encoding\t:", " chunked")),
        ("a folded coding", 400, coded(te, "\r\n chunked")),
        ("a coding in HTTP/1.0", 400, old.into_bytes()),
    ]
}

/// Headers that programs read differently, and bytes that belong in none (RFC 9110, section 5.5).
fn headers(body: &str) -> Vec<(&'static str, u16, Vec<u8>)> {
    let length = body.len();
    let with = |header: &str| put(&format!("{header}\r\nContent-Length: {length}\r\n\r\n{body}"));
    let long = format!("Authorization: Bearer {}", "a".repeat(9_000));
    vec![
        ("a space before the colon", 400, put(&format!("Content-Length : {length}\r\n\r\n{body}"))),
        ("a folded header", 400, with("X: a\r\n b")),
        ("a folded header, by a tab", 400, with("X: a\r\n\tb")),
        ("a folded length", 400, put(&format!("Content-Length:\r\n {length}\r\n\r\n{body}"))),
        ("a folded token", 400, with("Authorization: Bearer\r\n sem_abcd_x")),
        ("the first header folded", 400, put(" X: a\r\n\r\n")),
        ("a header without a name", 400, with(": a")),
        ("a space in a name", 400, with("X Y: a")),
        ("NUL in a name", 400, with("X\0: a")),
        ("NUL in a value", 400, with("X: a\0b")),
        ("NUL in the token", 400, with("Authorization: Bearer\0 sem_abcd_x")),
        ("a line break that is half of one", 400, with("X: a\rAuthorization: b")),
        ("a control character in a header", 400, with("Prefer: \u{1}")),
        ("a control character in the token", 400, with("Authorization: Bearer\u{b}x")),
        ("DEL in the token", 400, with("Authorization: Bearer \u{7f}")),
        ("non-ASCII in a header", 400, with("User-Agent: \u{e9}")),
        ("non-ASCII in the token", 400, with("Authorization: Bearer \u{e9}")),
        ("two hosts", 400, with("Host: y")),
        ("a header that is too long", 431, with(&format!("X: {}", "a".repeat(9_000)))),
        ("a token that is too long", 431, with(&long)),
        (
            "headers that are too long together",
            431,
            with(&format!("X: {}\r\n", "a".repeat(7_000)).repeat(6)),
        ),
    ]
}

fn request_lines() -> Vec<(&'static str, u16, Vec<u8>)> {
    let line = |line: &str| format!("{line}\r\nHost: x\r\n\r\n").into_bytes();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    vec![
        ("an HTTP/2 request line", 505, line("GET /api HTTP/2.0")),
        ("the HTTP/2 preface", 400, preface.to_vec()),
        ("a version that is none", 400, line("GET /api HTTP/1.1x")),
        ("non-ASCII in the target", 400, line("GET /api/v1/claims/\u{e9} HTTP/1.1")),
        ("NUL in the target", 400, line("GET /api/v1/claims/\0 HTTP/1.1")),
        ("a control character in the target", 400, line("GET /api/v1/claims/\u{1} HTTP/1.1")),
        ("a space in the target", 400, line("GET /api/v1/claims/a b HTTP/1.1")),
        ("a target that leaves the root", 400, line("GET /../api HTTP/1.1")),
        ("a target without a slash", 400, line("GET api HTTP/1.1")),
        ("no target", 400, line("OPTIONS * HTTP/1.1")),
        ("a space before the method", 400, line(" GET /api HTTP/1.1")),
        ("a method in lower case", 400, line("get /api HTTP/1.1")),
        ("no host", 400, b"GET /api HTTP/1.1\r\n\r\n".to_vec()),
        ("a method that echoes", 405, line("TRACE /api HTTP/1.1")),
        ("a tunnel", 400, line("CONNECT a:80 HTTP/1.1")),
        ("a target that is too long", 414, line(&format!("GET /{} HTTP/1.1", "a".repeat(9_000)))),
        ("no HTTP at all", 400, b"hello\r\n\r\n".to_vec()),
    ]
}

#[test]
fn hostile_requests_end_at_nginx() {
    let (daemon, proxy) = start();
    let before = daemon.look("/api/v1/service")["revision"].clone();
    let mut checked = 0;
    for (what, status, bytes) in hostile(A) {
        let answer = http::exchange(proxy.address(), &bytes, false);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_problem(&answer, what);
        let access = proxy.access(&answer);
        assert!(access.ends_with(" us=- ut=-"), "{what} reached the service: {access}");
        assert_eq!(proxy.call("GET", "/healthz", "").status, 200, "after {what}");
        checked += 1;
    }
    assert!(checked >= 70);
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
