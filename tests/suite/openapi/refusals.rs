//! What is refused: by every call, by the bounds of the service, and while it is low on disk space or stops.

use std::{collections::BTreeSet, io::Write, net::Shutdown};

use rustix::process::Signal;

use super::{A, B, walk};
use crate::{
    contract::Contract,
    daemon::{Daemon, poll},
    http::{Request, connect, read_response},
};

/// Requests whose body comes slowly that the web server reads at the same time (`slow_threads_max`).
const SLOW_REQUESTS_MAX: usize = 256;

pub(super) fn members_that_no_call_has(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\n");
    let (claim, settings) = (r#"{"permits": {"A": 1}, "x": 1}"#, r#"{"capacity": 1, "x": 1}"#);
    walk(
        contract,
        &daemon,
        &[
            (422, "PUT", "/api/v1/claims/a", claim),
            (422, "POST", "/api/v1/claims", claim),
            (422, "POST", "/api/v1/semaphores/A/claims", r#"{"x": 1}"#),
            (422, "POST", "/api/v1/claims/a/renew", r#"{"x": 1}"#),
            (422, "POST", "/api/v1/claims/a/revoke", r#"{"x": 1}"#),
            (422, "PUT", "/api/v1/semaphores/A", settings),
            (422, "PATCH", "/api/v1/semaphores/A", settings),
        ],
    );
}

/// What any call may be refused with before it means anything.
pub(super) fn refusals_of_every_call(contract: &mut Contract) {
    let daemon = Daemon::start("[semaphores]\nA = 1\n");
    let many = "x".repeat(65 * 1_024);
    for (method, target) in targets(contract) {
        let request = || Request::new(&method, &target);
        let long = Request::new(&method, &format!("{target}?x={}", &many[..5_000]));
        let crowded = (0..65).fold(request(), |r, number| r.with(&format!("X-{number}"), "x"));
        let refused = [
            (400, Request::new(&method, &format!("{target}?bogus=1"))),
            (400, request().with("Content-Length", "+0")),
            (413, request().with_body("application/json", many.as_str())),
            (414, long),
            (415, request().with_body("text/plain", "{}")),
            (431, crowded),
            (501, request().with("Transfer-Encoding", "gzip")),
        ];
        for (status, request) in refused {
            assert_eq!(contract.send(&daemon, &request).status, status, "{method} {target}");
        }
    }
    // A body that ends early.
    let cut = Request::new("PUT", "/api/v1/claims/a");
    let mut stream = connect(daemon.address());
    let head = b"PUT /api/v1/claims/a HTTP/1.1\r\nHost: s\r\nContent-Length: 2000\r\n\r\n{";
    stream.write_all(head).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let response = read_response(stream, false);
    assert_eq!((response.status, response.code().as_str()), (400, "unreadable-body"));
    contract.check(&cut, &response);
    every_slow_thread_taken(contract, &daemon);
    assert_eq!(daemon.look("/api/v1/service")["claims"], 0);
}

/// Clients that send their bodies slowly have all the threads there are for them.
fn every_slow_thread_taken(contract: &mut Contract, daemon: &Daemon) {
    let head = b"POST /api/v1/claims HTTP/1.1\r\nHost: s\r\nTransfer-Encoding: chunked\r\n\r\n";
    let slow = || {
        let mut stream = connect(daemon.address());
        stream.write_all(head).unwrap();
        stream
    };
    let mut streams: Vec<_> = (0..SLOW_REQUESTS_MAX).map(|_| slow()).collect();
    for (method, target) in targets(contract) {
        let chunked = Request {
            body: b"0\r\n\r\n".into(),
            ..Request::new(&method, &target).with("Transfer-Encoding", "chunked")
        };
        poll(&format!("503 for {method} {target}"), || {
            let response = daemon.send(&chunked);
            if response.status != 503 {
                // A slow one was refused itself, as an earlier request had its thread still.
                streams.push(slow());
                return None;
            }
            contract.check(&chunked, &response);
            Some(())
        });
    }
}

/// Every documented operation, with names in its path.
pub(super) fn targets(contract: &Contract) -> Vec<(String, String)> {
    let fill = |path: String| path.replace("{id}", "some").replace("{name}", "A");
    contract.operations().into_iter().map(|(method, path)| (method, fill(path))).collect()
}

pub(super) fn paths_and_methods(contract: &mut Contract) {
    let daemon = Daemon::start("");
    walk(contract, &daemon, &[(404, "GET", "/api/v2", ""), (404, "PUT", "/api/v1/claims/", "")]);
    let documented: BTreeSet<_> = targets(contract).into_iter().collect();
    let paths: BTreeSet<_> = documented.iter().map(|(_, path)| path.clone()).collect();
    for path in paths {
        for method in ["GET", "PUT", "POST", "PATCH", "DELETE", "OPTIONS", "TRACE"] {
            if !documented.contains(&(method.to_owned(), path.clone())) {
                let refused = contract.call(&daemon, method, &path, "");
                let allowed = refused.header("Allow").unwrap().split(", ").map(str::to_owned);
                let allowed: BTreeSet<_> = allowed.filter(|method| method != "HEAD").collect();
                let expected = documented.iter().filter(|(_, other)| *other == path);
                assert_eq!(allowed, expected.map(|(method, _)| method.clone()).collect());
            }
        }
    }
}

pub(super) fn bounds_of_the_service(contract: &mut Contract) {
    let limits = "[limits]\nsemaphores_max = 2\nqueue_claims_max = 1\nclaims_max = 4\n\
                  waiting_sets_max = 1\n[semaphores]\nA = 1\nB = 1\n";
    let daemon = Daemon::start(limits);
    walk(
        contract,
        &daemon,
        &[
            (503, "PUT", "/api/v1/semaphores/C", r#"{"capacity": 1}"#),
            (201, "PUT", "/api/v1/claims/a", A),
            (202, "PUT", "/api/v1/claims/b", A),
            (429, "PUT", "/api/v1/claims/c", A),
            (429, "POST", "/api/v1/claims", A),
            (429, "POST", "/api/v1/semaphores/A/claims", ""),
            (201, "PUT", "/api/v1/claims/c", B),
            (503, "PUT", "/api/v1/claims/d", B),
            (204, "DELETE", "/api/v1/claims/b", ""),
            (202, "PUT", "/api/v1/claims/d", B),
        ],
    );
}

pub(super) fn low_disk_space(contract: &mut Contract) {
    let limits = "[limits]\nfree_bytes_min = 1000000000000000000\n[semaphores]\nA = 1\n";
    let daemon = Daemon::start(limits);
    let ready = Request::new("GET", "/readyz");
    let response = poll("low disk space", || {
        let response = daemon.send(&ready);
        (response.status == 503).then_some(response)
    });
    contract.check(&ready, &response);
    walk(
        contract,
        &daemon,
        &[
            (503, "PUT", "/api/v1/claims/a", A),
            (503, "POST", "/api/v1/claims", A),
            (503, "POST", "/api/v1/semaphores/A/claims", ""),
            (503, "GET", "/api/v1/backup", ""),
            (200, "GET", "/healthz", ""),
            (200, "GET", "/api/v1/service", ""),
        ],
    );
}

/// Who blocks while the service stops is told so.
pub(super) fn stopping(contract: &mut Contract) {
    let mut daemon = Daemon::start("[semaphores]\nA = 1\n");
    walk(
        contract,
        &daemon,
        &[(201, "PUT", "/api/v1/claims/a", A), (202, "PUT", "/api/v1/claims/b", A)],
    );
    let requests = [
        Request::json("PUT", "/api/v1/claims/c?wait=50", A),
        Request::json("POST", "/api/v1/claims?wait=50", A),
        Request::json("POST", "/api/v1/semaphores/A/claims?wait=50", ""),
        Request::json("POST", "/api/v1/claims/b/renew?wait=50", ""),
    ];
    let blocked = requests.clone().map(|r| {
        let body = String::from_utf8(r.body).unwrap();
        daemon.call_later(&r.method, &r.target, &body)
    });
    daemon.wait_for_blocked(4);
    daemon.signal(Signal::TERM);
    for (request, thread) in requests.iter().zip(blocked) {
        let response = thread.join().unwrap();
        assert_eq!((response.status, response.code().as_str()), (503, "stopping"));
        contract.check(request, &response);
    }
    assert!(daemon.wait_for_exit().success());
}
