//! What NGINX answers by itself, and what it sends again.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{A, CONFIG, Daemon, Proxy, assert_problem, block, poll, start};
use crate::{daemon::Port, proxy::free_address};

#[test]
fn a_service_that_is_away_is_a_problem_document() {
    let (mut daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/a", A).status, 201);
    // What it says itself while it stops comes through; 503 is not taken for a reason to ask elsewhere.
    let waits = proxy.call_later("PUT", "/api/v1/claims/b?wait=50", A);
    daemon.wait_for_blocked(1);
    daemon.stop();
    let told = waits.join().unwrap();
    assert_eq!((told.status, told.code().as_str()), (503, "stopping"));
    assert_eq!(told.header("Retry-After"), Some("1"));
    for (method, body) in [("GET", ""), ("PUT", A), ("DELETE", "")] {
        let answer = proxy.call(method, "/api/v1/claims/a", body);
        assert_eq!((answer.status, answer.code().as_str()), (502, "service-unreachable"));
        assert_problem(&answer, method);
        assert_eq!(answer.header("Retry-After"), Some("1"));
    }
    daemon.start_again(Port::Same);
    // At once: NGINX does not take the only server for dead.
    assert_eq!(proxy.call("PUT", "/api/v1/claims/a", A).status, 200);
    assert_eq!(proxy.call("POST", "/api/v1/claims/a/renew", "").status, 200);
}

#[test]
fn bounds_of_nginx_are_problem_documents() {
    let daemon = Daemon::start(CONFIG);
    let replace = [
        ("proxy_read_timeout 75s;", "proxy_read_timeout 1s;"),
        ("location = /metrics {\n    allow 127.0.0.1;", "location = /metrics {"),
    ];
    let proxy = Proxy::start_with(daemon.address(), &replace);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let late = proxy.call("PUT", "/api/v1/claims/late?wait=50", A);
    assert_eq!((late.status, late.code().as_str()), (504, "no-answer-in-time"));
    assert_problem(&late, "late");
    assert_eq!(late.header("Retry-After"), Some("1"));
    let outside = proxy.call("GET", "/metrics", "");
    assert_eq!((outside.status, outside.code().as_str()), (403, "not-from-here"));
    assert_problem(&outside, "outside");

    for (limit, small) in [
        ("semaphored_addresses 1000;", "semaphored_addresses 2;"),
        ("semaphored_waiting 300;", "semaphored_waiting 2;"),
    ] {
        let proxy = Proxy::start_with(daemon.address(), &[(limit, small)]);
        let ids = ["x", "y"].map(|name| format!("{name}-{}", &limit[11..14]));
        let waiting = ids.each_ref().map(|id| block(proxy.address(), id, 50));
        poll("two waits", || {
            let seen = ids
                .iter()
                .all(|id| daemon.call("GET", &format!("/api/v1/claims/{id}"), "").status == 200);
            seen.then_some(())
        });
        for query in ["wait=50", "x=y&wait=50", "%77ait=50"] {
            let third = proxy.call("PUT", &format!("/api/v1/claims/z?{query}"), A);
            assert_eq!((third.status, third.code().as_str()), (429, "too-many-connections"));
            assert_problem(&third, limit);
            assert_eq!(third.header("Retry-After"), Some("5"));
        }
        // Those that do not wait get through where only waiting ones are too many.
        for (method, target) in
            [("POST", "/api/v1/claims/holder/renew"), ("GET", "/api/v1/claims?limit=5")]
        {
            let status = proxy.call(method, target, "").status;
            assert_eq!(status, if limit.contains("waiting") { 200 } else { 429 }, "{target}");
        }
        drop(waiting);
    }
}

/// An HTTP server that answers its first request so, or not at all and closes the connection if that is
/// empty, and others with 200; counts requests. It lives as long as the test's process.
fn server_that_begins_with(first: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            if lines.any(|line| line.is_empty()) {
                let is_first = counter.fetch_add(1, Ordering::SeqCst) == 0;
                let status = if is_first { first } else { "200 OK" };
                if !status.is_empty() {
                    let head = "Content-Length: 0\r\nConnection: close\r\n\r\n";
                    stream.write_all(format!("HTTP/1.1 {status}\r\n{head}").as_bytes()).unwrap();
                }
            }
        }
    });
    (address, requests)
}

/// The shipped site with its standby line in force.
fn with_standby(service: SocketAddr, standby: SocketAddr) -> Proxy {
    let line = format!("server {standby} ");
    Proxy::start_with(service, &[("#server 127.0.0.1:7421 ", &line)])
}

/// With a standby, what may be repeated is sent to it. A POST that was sent is not: it could take a second
/// permit. Nor is anything after an answer: who is full says so.
#[test]
fn only_what_may_be_repeated_is_sent_again() {
    for (method, status, requests) in
        [("PUT", 200, 2), ("GET", 200, 2), ("DELETE", 200, 2), ("POST", 502, 1), ("PATCH", 502, 1)]
    {
        for (first, status, requests) in
            [("", status, requests), ("503 Service Unavailable", 503, 1)]
        {
            let (address, seen) = server_that_begins_with(first);
            let proxy = with_standby(address, address);
            let answer = proxy.call(method, "/", "");
            assert_eq!(answer.status, status, "{method} after {first:?}: {answer:?}");
            assert_eq!(seen.load(Ordering::SeqCst), requests, "{method} after {first:?}");
        }
    }
}

/// One request that fails is no reason to keep all others from the service for a while.
#[test]
fn a_standby_that_is_down_takes_nothing_from_the_service() {
    for (first, status) in [("503 Service Unavailable", 503), ("", 502)] {
        let (address, _) = server_that_begins_with(first);
        let proxy = with_standby(address, free_address());
        assert_eq!(proxy.call("PUT", "/", "").status, status, "{first:?}");
        for method in ["POST", "DELETE", "PUT"] {
            assert_eq!(proxy.call(method, "/", "").status, 200, "{method} after {first:?}");
        }
    }
}
