//! Past each bound there is a clear answer, and everything else goes on.

use std::{io::Write, net::TcpStream};

use super::{
    daemon::{Daemon, Port, poll},
    http::{self, Response},
};

const A: &str = r#"{"permits": {"A": 1}}"#;
const AB: &str = r#"{"permits": {"A": 1, "B": 1}}"#;
const B: &str = r#"{"permits": {"B": 1}}"#;

/// A daemon with these bounds on which `holder` has the one permit of A.
fn start(limits: &str) -> Daemon {
    let daemon = Daemon::start(&format!("[limits]\n{limits}\n[semaphores]\nA = 1\nB = 1\n"));
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", A).status, 201);
    daemon
}

fn assert_refused(answer: &Response, status: u16, code: &str, bound: &str) {
    assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
    let seconds: u64 = answer.header("Retry-After").unwrap().parse().unwrap();
    assert!(seconds > 0);
    let said = answer.json();
    assert!(said["bound"] == bound || said["semaphore"] == bound, "{said}");
    assert!(said["limit"].is_u64(), "{said}");
}

/// A renewal, a look, a release and a hand-over, on connections of their own.
fn assert_all_else_goes_on(daemon: &Daemon) {
    assert_eq!(daemon.call("POST", "/api/v1/claims/holder/renew", "").status, 200);
    assert_eq!(daemon.call("GET", "/api/v1/semaphores/A", "").status, 200);
    assert_eq!(daemon.call("GET", "/healthz", "").status, 200);
    let before = daemon.look("/api/v1/semaphores/A");
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/holder", "").status, 204);
    let after = daemon.look("/api/v1/semaphores/A");
    let waiting = before["waiting"].as_u64().unwrap();
    assert_eq!(after["waiting"].as_u64().unwrap(), waiting.saturating_sub(1));
}

#[test]
fn a_queue_that_is_full() {
    let daemon = start("queue_claims_max = 1");
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", A).status, 202);
    for wait in ["", "?wait=50"] {
        let refused = daemon.call("PUT", &format!("/api/v1/claims/b{wait}"), A);
        assert_refused(&refused, 429, "queue-full", "A");
    }
    assert_eq!(daemon.call("PUT", "/api/v1/claims/b", B).status, 201, "another semaphore");
    assert_all_else_goes_on(&daemon);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/c", A).status, 202, "there is room again");
}

#[test]
fn as_many_claims_as_there_may_be_in_all() {
    let daemon = start("claims_max = 2");
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", A).status, 202);
    for (id, body) in [("b", A), ("c", B)] {
        let refused = daemon.call("PUT", &format!("/api/v1/claims/{id}?wait=50"), body);
        assert_refused(&refused, 503, "service-full", "claims_max");
    }
    assert_all_else_goes_on(&daemon);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/c", B).status, 201, "there is room again");
}

#[test]
fn as_much_text_as_claims_may_have_in_all() {
    let daemon = start("claims_text_bytes_max = 1024");
    let long = format!(
        "\"labels\": {{{}}}",
        (1..=4)
            .map(|n| format!("\"l{n}\": \"{}\"", "x".repeat(256)))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let body = A.replacen('{', &format!("{{{long}, "), 1);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", &body).status, 202);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", &body).status, 202, "it is there already");
    for (id, body) in [("b", A), ("c", B)] {
        let refused = daemon.call("PUT", &format!("/api/v1/claims/{id}?wait=50"), body);
        assert_refused(&refused, 503, "service-full", "claims_text_bytes_max");
    }
    assert_all_else_goes_on(&daemon);
    assert_eq!(daemon.call("DELETE", "/api/v1/claims/a", "").status, 204);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/c", B).status, 201, "there is room again");
}

#[test]
fn as_many_semaphores_as_there_may_be() {
    let daemon = start("semaphores_max = 2");
    let refused = daemon.call("PUT", "/api/v1/semaphores/C", r#"{"capacity": 1}"#);
    assert_refused(&refused, 503, "service-full", "semaphores_max");
    assert_all_else_goes_on(&daemon);
}

#[test]
fn as_many_sets_as_may_wait() {
    let daemon = start("waiting_sets_max = 1");
    assert_eq!(daemon.call("PUT", "/api/v1/claims/a", A).status, 202);
    let refused = daemon.call("PUT", "/api/v1/claims/b?wait=50", AB);
    assert_refused(&refused, 503, "service-full", "waiting_sets_max");
    assert_all_else_goes_on(&daemon);
}

#[test]
fn as_many_requests_as_may_wait() {
    let daemon = start("waiting_requests_max = 1");
    let first = daemon.call_later("PUT", "/api/v1/claims/a?wait=50", A);
    daemon.wait_for_blocked(1);
    // It is not refused but does not block: it is in the queue, and told to ask again.
    let second = daemon.call("PUT", "/api/v1/claims/b?wait=50", A);
    assert_eq!((second.status, &second.json()["position"]), (202, &2.into()));
    assert!(second.header("Retry-After").unwrap().parse::<u64>().unwrap() > 0);
    assert_all_else_goes_on(&daemon);
    assert_eq!(first.join().unwrap().status, 201);
}

#[test]
fn a_full_disk() {
    let mut daemon = start("");
    daemon.stop();
    let more = "[limits]\nfree_bytes_min = 1000000000000000000\n[semaphores]\nA = 1\nB = 1\n";
    daemon.configure(more);
    daemon.start_again(Port::New);
    poll("low disk space", || (daemon.call("GET", "/readyz", "").status == 503).then_some(()));
    for body in [A, B] {
        let refused = daemon.call("PUT", "/api/v1/claims/a?wait=50", body);
        assert_eq!((refused.status, refused.code().as_str()), (503, "storage-low"));
        assert_eq!(refused.header("Retry-After"), Some("30"));
    }
    assert_all_else_goes_on(&daemon);
}

/// Connections that stay open, each with a request that was answered.
fn keep(daemon: &Daemon, connections: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = http::connect(daemon.address());
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(http::read_response(&stream, false).status, 200);
        stream
    };
    (0..connections).map(open).collect()
}

#[test]
fn as_many_connections_as_there_may_be() {
    let daemon = start("connections_max = 20");
    let waiter = daemon.call_later("PUT", "/api/v1/claims/a?wait=50", A);
    daemon.wait_for_blocked(1);
    let mut kept = keep(&daemon, 30);
    let full = poll("the bound", || {
        let answer = daemon.call("PUT", "/api/v1/claims/b?wait=1", A);
        (answer.status == 503).then_some(answer)
    });
    assert_refused(&full, 503, "service-full", "connections_max");
    assert_eq!(full.header("Connection"), Some("close"));
    assert_eq!(daemon.look("/api/v1/claims/b")["position"], 2, "it keeps its place");
    let line = daemon.log().wait_for("connections_max");
    assert!(line.contains("LimitNOFILE="), "{line}");
    // A connection that is there is served on, and asked to close.
    let stream = &mut kept[0];
    stream.write_all(b"HEAD /api HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let served = http::read_response(&*stream, true);
    assert_eq!((served.status, served.header("Connection")), (200, Some("close")));
    assert_all_else_goes_on(&daemon);
    assert_eq!(waiter.join().unwrap().status, 201, "who waits goes on waiting, and gets it");

    drop(kept);
    poll("room again", || {
        let answer = daemon.call("PUT", "/api/v1/claims/b?wait=1", A);
        (answer.status == 202).then_some(())
    });
    let answer = daemon.call("GET", "/healthz", "");
    assert_eq!(answer.header("Connection"), None);
}
