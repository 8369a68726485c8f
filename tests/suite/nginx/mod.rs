//! The service behind NGINX, as it is installed: what reaches it, what does not, and who keeps waiting.

mod errors;
mod hostile;
mod left_behind;
mod site;
mod smuggling;
mod waiting;

use std::{
    collections::BTreeSet,
    io::Write,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    daemon::{Daemon, poll},
    http::{self, Request, Response},
    proxy::Proxy,
};

const CONFIG: &str = "[semaphores]\nA = 1\n";
const A: &str = r#"{"permits": {"A": 1}}"#;

fn start() -> (Daemon, Proxy) {
    let daemon = Daemon::start(CONFIG);
    let proxy = Proxy::start(&daemon);
    (daemon, proxy)
}

/// Sends a PUT of a claim that blocks, and leaves its connection open.
fn block(address: SocketAddr, id: &str, wait_seconds: u32) -> TcpStream {
    let mut stream = http::connect(address);
    let length = A.len();
    let request = format!(
        "PUT /api/v1/claims/{id}?wait={wait_seconds} HTTP/1.1\r\nHost: x\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{A}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn a_claim_is_acquired_waits_is_handed_over_and_released() {
    let (daemon, proxy) = start();
    let held = proxy.call("PUT", "/api/v1/claims/first", A);
    assert_eq!((held.status, &held.json()["state"]), (201, &"held".into()));
    let next = proxy.call_later("PUT", "/api/v1/claims/next?wait=50", A);
    poll("a wait of some seconds", || {
        let claim = daemon.call("GET", "/api/v1/claims/next", "").json();
        (claim["waited_seconds"].as_f64()? >= 3.0).then_some(())
    });
    let released = Instant::now();
    assert_eq!(proxy.call("DELETE", "/api/v1/claims/first", "").status, 204);
    let next = next.join().unwrap();
    assert_eq!((next.status, &next.json()["state"]), (201, &"held".into()));
    assert!(released.elapsed() < Duration::from_secs(1), "{:?}", released.elapsed());
    assert_eq!(proxy.call("POST", "/api/v1/claims/next/renew", "").status, 200);
    let released = proxy.call("DELETE", "/api/v1/claims/next", "");
    assert_eq!((released.status, released.body.len()), (204, 0));
    assert!(released.header("Semaphore-Revision").is_some());
    assert_eq!(daemon.look("/api/v1/semaphores/A")["in_use"], 0);

    // A wait that is over before anything happened, asked for by a header.
    assert_eq!(proxy.call("PUT", "/api/v1/claims/third", A).status, 201);
    let request = Request::json("PUT", "/api/v1/claims/fourth", A).with("Prefer", "wait=1");
    let waited = http::send(proxy.address(), &request);
    assert_eq!((waited.status, &waited.json()["state"]), (202, &"waiting".into()));
    assert_eq!(waited.header("Preference-Applied"), Some("wait=1"));
}

/// What the service answers comes through as it is, errors included.
#[test]
fn answers_pass_unchanged() {
    let (daemon, proxy) = start();
    let long = format!("/api/v1/{}", "a".repeat(5_000));
    let requests = [
        Request::json("PUT", "/api/v1/claims/a", A),
        Request::json("PUT", "/api/v1/claims/a", r#"{"permits": {"B": 1}}"#),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permits": {"B": 1}}"#),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permits": {"A": 1}, "queue": false}"#),
        Request::json("PUT", "/api/v1/claims/b", "{"),
        Request::json("PUT", "/api/v1/claims/b", r#"{"permit": {}}"#),
        Request::new("PUT", "/api/v1/claims/b").with_body("text/plain", A),
        Request::new("PATCH", "/api/v1/claims/b"),
        Request::new("GET", "/api/v1/claims/b?x=%C3%A9"),
        Request::new("GET", "/api/v1/claims/%C3%A9"),
        Request::new("GET", "/nothing"),
        Request::new("HEAD", "/openapi.json"),
        Request::new("GET", "/openapi.json"),
        Request::new("GET", &long),
    ];
    let mut statuses = BTreeSet::new();
    for request in requests {
        let direct = daemon.send(&request);
        let through = http::send(proxy.address(), &request);
        let what = format!("{} {:.60}", request.method, request.target);
        if direct.status == 201 {
            assert_eq!((through.status, &through.json()["id"]), (200, &"a".into()));
            continue;
        }
        assert_eq!((through.status, &through.body), (direct.status, &direct.body), "{what}");
        for name in ["Content-Type", "Content-Length", "Cache-Control", "Allow", "Retry-After"] {
            assert_eq!(through.header(name), direct.header(name), "{what}: {name}");
        }
        statuses.insert(through.status);
    }
    assert_eq!(statuses, BTreeSet::from([200, 400, 404, 405, 409, 414, 415, 422]));
}

/// An error of NGINX's own is a problem document like those of the service.
fn assert_problem(answer: &Response, what: &str) {
    let code = answer.code();
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{what}");
    assert!(problem["title"].is_string(), "{what}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.len() > 20), "{what}");
    assert_ne!(code, "proxy-failed", "{what}: {problem}");
    assert_eq!(answer.header("Cache-Control"), Some("no-store"), "{what}");
}
