//! Many that wait: over a reload, when they hang up, beside bursts of others.

use std::time::Duration;

use super::{A, block, http, poll, start};
use crate::{bursts::burst, proxy::descriptors};

#[test]
fn a_reload_of_nginx_takes_no_place_away() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let waiters: Vec<_> = (0..20)
        .map(|number| {
            let stream = block(proxy.address(), &format!("waiter-{number}"), 50);
            daemon.wait_for_blocked(number + 1);
            stream
        })
        .collect();
    let old = proxy.reload();
    // The new ones serve, and the waits go on in the old ones.
    assert_eq!(proxy.call("GET", "/api/v1/semaphores/A", "").json()["waiting"], 20);
    assert_eq!(daemon.look("/api/v1/service")["waiting_requests"], 20);
    let mut holder = "holder".to_owned();
    for (number, stream) in waiters.into_iter().enumerate() {
        assert_eq!(proxy.call("DELETE", &format!("/api/v1/claims/{holder}"), "").status, 204);
        let answer = http::read_response(stream, false);
        holder = format!("waiter-{number}");
        assert_eq!((answer.status, &answer.json()["id"]), (201, &holder.as_str().into()));
    }
    poll("the end of the old workers", || proxy.workers().is_disjoint(&old).then_some(()));
}

/// NGINX sees at once that a client is gone, and closes its connection to the service, which notices within
/// two seconds; then nothing of the request is left.
#[test]
fn clients_that_hang_up_leave_no_descriptor_behind() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    // What stays open for good: NGINX's kept connections to the service.
    let at_rest = || (proxy.descriptors(), descriptors(daemon.pid()));
    let before = at_rest();
    let waiters: Vec<_> =
        (0..20).map(|number| block(proxy.address(), &format!("waiter-{number}"), 50)).collect();
    daemon.wait_for_blocked(20);
    // Two for each, but for a kept connection that was there already.
    assert!(proxy.descriptors() >= before.0 + 38);
    drop(waiters);
    poll("nginx to close what is left of them", || (proxy.descriptors() <= before.0).then_some(()));
    daemon.wait_for_blocked(0);
    poll("the service to close what is left of them", || {
        let now = at_rest();
        (now.0 <= before.0 && now.1 <= before.1).then_some(())
    });
    assert_eq!(proxy.call("GET", "/healthz", "").status, 200);
}

/// Bursts of new connections, which tiny_http would leave behind (`web_server::kick`), beside long-polls that
/// hold theirs, and through connections that NGINX keeps.
#[test]
fn bursts_through_kept_connections_are_all_answered_within_a_second() {
    let (daemon, proxy) = start();
    assert_eq!(proxy.call("PUT", "/api/v1/claims/holder", A).status, 201);
    let waiters: Vec<_> =
        (0..32).map(|number| block(proxy.address(), &format!("waiter-{number}"), 50)).collect();
    daemon.wait_for_blocked(32);
    let mut open = Vec::new();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let (took, streams) = burst(proxy.address(), 64);
        slowest = slowest.max(took);
        open.extend(streams);
    }
    println!("slowest answer: {slowest:?}");
    assert_eq!(open.len(), 640);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(daemon.look("/api/v1/service")["waiting_requests"], 32);
    drop(waiters);
}
