//! Tokens behind NGINX: nobody's bytes get in with the token of somebody else, and the audit log has the address that
//! NGINX saw.

use std::{collections::BTreeSet, io::Read, net::SocketAddr};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::{A, Proxy, hostile::hostile, http};
use crate::{
    access::{Guarded, with_token, wrong},
    daemon::{DEADLINE, poll},
    http::{Request, Response},
    proxy::SMALLEST,
};

/// A request that has begun: the request line of whatever comes behind it on the same connection would be its last
/// header, and the headers and the body of that its own: also the token.
const BEGUN: &str = "PUT /api/v1/claims/smuggled HTTP/1.1\r\nX: ";

/// A daemon that wants tokens, and NGINX with one connection to it, on which all requests go.
fn start() -> (Guarded, Proxy) {
    let guarded = Guarded::start("[semaphores]\nA = 10000");
    let one = [("max_conns=12000", "max_conns=1")];
    let proxy = Proxy::start_sized(SMALLEST, guarded.daemon.address(), &one);
    (guarded, proxy)
}

impl Guarded {
    fn through(&self, proxy: &Proxy, method: &str, target: &str, body: &str) -> Response {
        let request = with_token(Request::json(method, target, body), &self.admin);
        http::send(proxy.address(), &request)
    }
}

/// A stranger's bytes, and behind them on the same connection to the service the requests of somebody with a token.
#[test]
fn no_bytes_of_a_stranger_ride_on_the_token_of_the_next() {
    let (guarded, proxy) = start();
    // What would happen if they came to the service.
    let victim = format!(
        "PUT /api/v1/claims/victim HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{A}",
        guarded.admin,
        A.len()
    );
    let harm = format!("{BEGUN}{victim}");
    let harm = http::exchange(guarded.daemon.address(), harm.as_bytes(), false);
    assert_eq!((harm.status, &harm.json()["id"]), (201, &"smuggled".into()));
    guarded.admin(204, "DELETE", "/api/v1/claims/smuggled", "");

    let mut claims = 0;
    for (what, status, bytes) in hostile(BEGUN) {
        let answer = http::exchange(proxy.address(), &bytes, false);
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        for _ in 0..2 {
            let path = format!("/api/v1/claims/victim-{claims}");
            let own = guarded.through(&proxy, "PUT", &path, A);
            assert_eq!(own.status, 201, "after {what}: {own:?}");
            assert_eq!(own.json()["id"], format!("victim-{claims}"), "after {what}");
            claims += 1;
        }
        assert_eq!(guarded.look("/api/v1/claims/smuggled")["reason"], "released", "{what}");
    }
    assert_eq!(guarded.look("/api/v1/semaphores/A")["in_use"], claims);
    // None of them came to the service, so it has nothing to say of them.
    assert!(guarded.audit("actor=anonymous").is_empty());
}

/// What NGINX takes and the service could misread: each request is one, with the token that it shows or without.
#[test]
fn each_request_on_a_connection_shows_its_own_token() {
    let (guarded, proxy) = start();
    let last = "GET /api/v1/tokens HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let token = &guarded.admin;
    let head = |id: &str, more: &str| {
        format!(
            "PUT /api/v1/claims/{id} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Authorization: Bearer {token}\r\n{more}\r\n"
        )
    };
    let (length, chunk) = (A.len(), format!("{:x}\r\n{A}\r\n0\r\n", A.len()));
    for (id, first) in [
        ("length", format!("{}{A}", head("length", &format!("Content-Length: {length}\r\n")))),
        ("chunks", format!("{}{chunk}\r\n", head("chunks", "Transfer-Encoding: chunked\r\n"))),
        ("capitals", format!("{}{chunk}\r\n", head("capitals", "transfer-encoding: CHUNKED\r\n"))),
        (
            "underscore",
            format!(
                "{}{A}",
                head(
                    "underscore",
                    &format!("Transfer_Encoding: chunked\r\nContent-Length: {length}\r\n")
                )
            ),
        ),
        (
            "no-colon",
            format!("{}{A}", head("no-colon", &format!("X\r\nContent-Length: {length}\r\n"))),
        ),
        // NGINX takes a line feed alone for the end of a line, and sends its own.
        (
            "feeds",
            format!(
                "{}{A}",
                head("feeds", &format!("Content-Length: {length}\r\n")).replace("\r\n", "\n")
            ),
        ),
        // Trailers (RFC 9112, section 7.1.2) are no headers of this request, and no request.
        (
            "trailers",
            format!("{}{chunk}X: y\r\n\r\n", head("trailers", "Transfer-Encoding: chunked\r\n")),
        ),
    ] {
        let mut stream = http::connect(proxy.address());
        std::io::Write::write_all(&mut stream, format!("{first}{last}").as_bytes()).unwrap();
        let mut answers = String::new();
        stream.read_to_string(&mut answers).unwrap();
        let statuses: Vec<&str> =
            answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["201", "401"], "{id}: {answers}");
        assert_eq!(guarded.look(&format!("/api/v1/claims/{id}"))["state"], "held");
    }
}

/// Targets that NGINX and the service could take for different ones.
#[test]
fn no_way_of_writing_a_target_gets_around_the_token() {
    let (guarded, proxy) = start();
    let (mut seen, address) = (BTreeSet::new(), guarded.daemon.address());
    for target in [
        "http://x/api/v1/tokens",
        "http://127.0.0.1:7420/api/v1/tokens",
        &format!("http://{address}/api/v1/tokens"),
        "HTTP://x:1/api/v1/tokens",
        "http://user@x/api/v1/tokens",
        "http://x?/api/v1/tokens",
        "//api/v1/tokens",
        "/healthz/../api/v1/tokens",
        "/healthz/%2e%2e/api/v1/tokens",
        "/healthz%2f..%2fapi/v1/tokens",
        "/healthz/..;/api/v1/tokens",
        "/./api/v1/tokens",
        "/api/v1/tokens/",
        "/api/v1/%74okens",
        "/api/v1/tokens%00",
        "/api/v1/tokens%0d%0aAuthorization:%20x",
        "/api/v1/tokens?/healthz",
        "/api/v1/tokens#/healthz",
        "/api/v1/tokens;/healthz",
        "/api\\v1\\tokens",
    ] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = http::exchange(proxy.address(), bytes.as_bytes(), false);
        assert!(matches!(answer.status, 400 | 401 | 404), "{target}: {answer:?}");
        assert!(!answer.text().contains("admin-token"), "{target}: {answer:?}");
        seen.insert(answer.status);
    }
    assert!(seen.contains(&401), "{seen:?}");
}

#[test]
fn two_tokens_in_one_request_are_no_better_than_the_first() {
    let (guarded, proxy) = start();
    let bearer = |token: &str| format!("Bearer {token}");
    let (right, bad) = (bearer(&guarded.admin), bearer(&wrong(&guarded.admin)));
    let status = |tokens: &[&str]| {
        let request = Request::new("GET", "/api/v1/tokens");
        let with = |request: Request, token: &&str| request.with("Authorization", token);
        http::send(proxy.address(), &tokens.iter().fold(request, with)).status
    };
    assert_eq!(status(&[&right]), 200);
    // NGINX passes on the first of them, or from version 1.23 on refuses the request.
    assert!(matches!(status(&[&bad, &right]), 400 | 401));
    assert!(matches!(status(&["", &right]), 400 | 401));
    assert!(matches!(status(&[&bad, &bad, &right]), 400 | 401));
    let spelt = Request::new("GET", "/api/v1/tokens").with("Authorization ", &right);
    assert_eq!(http::send(proxy.address(), &spelt).status, 400);
    for name in ["Proxy-Authorization", "X-Authorization", "Cookie", "Authorization_"] {
        let elsewhere = Request::new("GET", "/api/v1/tokens").with(name, &right);
        assert_eq!(http::send(proxy.address(), &elsewhere).status, 401, "{name}");
    }
}

/// Sends from an address of this machine that nobody else uses.
fn send_from(from: [u8; 4], proxy: &Proxy, request: &Request) -> Response {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.connect(&proxy.address().into()).unwrap();
    http::send_over(socket.into(), request)
}

const CLIENT: [u8; 4] = [127, 0, 0, 2];

/// Whatever a client says of where it is, the audit log and the bound on wrong tokens go by where it is.
#[test]
fn a_client_cannot_choose_its_address() {
    let guarded = Guarded::start("[semaphores]\nA = 5");
    let near = [("allow 127.0.0.1;", "allow 127.0.0.0/8;")];
    let proxy = Proxy::start_with(guarded.daemon.address(), &near);
    let lies = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1, 127.0.0.1"),
        ("X-Forwarded-For", ""),
        ("X_Forwarded_For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.1"),
        ("Forwarded", "for=\"[2001:db8::1]:80\", for=127.0.0.1"),
        ("X-Real-IP", "192.0.2.1"),
        ("X-Forwarded", "192.0.2.1"),
        ("Client-IP", "192.0.2.1"),
        ("Via", "1.1 192.0.2.1"),
        ("Connection", "X-Forwarded-For, close"),
    ];
    for (capacity, (name, value)) in (10..).zip(lies) {
        let refused = Request::new("GET", "/api/v1/tokens").with(name, value);
        let refused =
            refused.with("Forwarded", "for=192.0.2.2").with("X-Forwarded-For", "192.0.2.3");
        assert_eq!(send_from(CLIENT, &proxy, &refused).status, 401, "{name}: {value}");
        let body = format!("{{\"capacity\": {capacity}}}");
        let act = Request::json("PATCH", "/api/v1/semaphores/A", &body).with(name, value);
        let answer = send_from(CLIENT, &proxy, &with_token(act, &guarded.admin));
        assert_eq!(answer.status, 200, "{name}: {value}");
    }
    let addresses = |rows: &[Value]| -> BTreeSet<String> {
        rows.iter().map(|row| row["address"].as_str().unwrap_or("none").to_owned()).collect()
    };
    let client = BTreeSet::from(["127.0.0.2".to_owned()]);
    let acts = guarded.audit("action=semaphore.set&actor=token");
    assert_eq!((acts.len(), addresses(&acts)), (lies.len(), client.clone()));
    let refused = guarded.audit("result=token-missing");
    let tries: u64 = refused.iter().map(|row| row["tries"].as_u64().unwrap()).sum();
    assert_eq!((tries, addresses(&refused)), (lies.len() as u64, client));

    let bad = wrong(&guarded.admin);
    let mut tries = 0_u8;
    let try_from = |from, address: &str| {
        let request = Request::new("GET", "/api/v1/token").with("X-Forwarded-For", address);
        send_from(from, &proxy, &with_token(request, &bad)).status
    };
    poll("the bound on wrong tokens", || {
        tries = tries.wrapping_add(1);
        (try_from(CLIENT, &format!("192.0.2.{tries}")) == 429).then_some(())
    });
    assert_eq!(try_from([127, 0, 0, 3], "127.0.0.2"), 401, "another is not held to it");
}
