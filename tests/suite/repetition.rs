//! One id is one claim: repeated, over a restart, after a lost reply. Fences only ever rise.

use std::io::Write;

use super::{
    daemon::{Daemon, Port, poll},
    http,
};

const BODY: &str = r#"{"permits": {"A": 1}, "holder": "job 1"}"#;

fn fence(daemon: &Daemon, id: &str) -> u64 {
    let claim = daemon.look(&format!("/api/v1/claims/{id}"));
    claim["fences"]["A"].as_u64().unwrap()
}

#[test]
fn five_times_the_same_put_is_one_claim() {
    let mut daemon = Daemon::start("[semaphores]\nA = 2");
    let put = |daemon: &Daemon| daemon.call("PUT", "/api/v1/claims/x", BODY);
    assert_eq!(put(&daemon).status, 201);
    assert_eq!(put(&daemon).status, 200);
    // The same request in another spelling is the same request.
    let spelling = r#"{ "holder":"job 1", "permits":{"A":1} }"#;
    assert_eq!(daemon.call("PUT", "/api/v1/claims/x?wait=5", spelling).status, 200);
    let first = fence(&daemon, "x");
    daemon.kill();
    daemon.start_again(Port::Same);
    assert_eq!(put(&daemon).status, 200);
    daemon.stop();
    daemon.start_again(Port::New);
    assert_eq!(put(&daemon).status, 200);
    assert_eq!(fence(&daemon, "x"), first);
    let semaphore = daemon.look("/api/v1/semaphores/A");
    assert_eq!((&semaphore["in_use"], &semaphore["available"]), (&1.into(), &1.into()));
}

#[test]
fn a_lost_reply_costs_no_second_permit() {
    let daemon = Daemon::start("[semaphores]\nA = 2");
    let request = format!(
        "PUT /api/v1/claims/x HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut stream = http::connect(daemon.address());
    stream.write_all(request.as_bytes()).unwrap();
    poll("the claim", || (daemon.call("GET", "/api/v1/claims/x", "").status == 200).then_some(()));
    // The reply is never read.
    drop(stream);
    let again = daemon.call("PUT", "/api/v1/claims/x", BODY);
    assert_eq!((again.status, &again.json()["state"]), (200, &"held".into()));
    assert_eq!(daemon.look("/api/v1/semaphores/A")["in_use"], 1);
}

#[test]
fn a_waiting_put_is_repeated_and_keeps_its_place_over_a_kill() {
    let mut daemon = Daemon::start("[semaphores]\nA = 1");
    assert_eq!(daemon.call("PUT", "/api/v1/claims/holder", BODY).status, 201);
    for id in ["first", "second", "third"] {
        assert_eq!(daemon.call("PUT", &format!("/api/v1/claims/{id}"), BODY).status, 202);
    }
    daemon.kill();
    daemon.start_again(Port::Same);
    for (id, position) in [("third", 3), ("second", 2), ("first", 1), ("second", 2)] {
        let again = daemon.call("PUT", &format!("/api/v1/claims/{id}"), BODY);
        assert_eq!((again.status, &again.json()["position"]), (202, &position.into()), "{id}");
    }
    assert_eq!(daemon.look("/api/v1/semaphores/A")["waiting"], 3);
}

#[test]
fn fences_rise_over_kills_and_over_unregistering() {
    let mut daemon = Daemon::start("[semaphores]\nB = 1");
    let mut last = 0;
    for round in 0..4 {
        let registered = daemon.call("PUT", "/api/v1/semaphores/A", r#"{"capacity": 1}"#);
        assert!([200, 201].contains(&registered.status), "{registered:?}");
        let id = format!("claim-{round}");
        let target = format!("/api/v1/claims/{id}");
        assert_eq!(daemon.call("PUT", &target, r#"{"permits": {"A": 1}}"#).status, 201);
        let fence = fence(&daemon, &id);
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        assert_eq!(daemon.call("DELETE", &target, "").status, 204);
        if round % 2 == 0 {
            assert_eq!(daemon.call("DELETE", "/api/v1/semaphores/A", "").status, 204);
        }
        daemon.kill();
        daemon.start_again(Port::Same);
    }
}
