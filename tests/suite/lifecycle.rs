//! Start, stop, kill and start again: the daemon as systemd and a power cut see it.

use super::daemon::{Daemon, Port};

const CONFIG: &str = "[semaphores]\nA = 1\n";
const ONE: &str = r#"{"permits": {"A": 1}}"#;

#[test]
fn what_was_answered_survives_a_kill() {
    let mut daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/first", ONE).status, 201);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/second", ONE).status, 202);
    let (url, held) = (daemon.url(), daemon.look("/api/v1/claims/first"));

    daemon.kill();
    daemon.start_again(Port::Same);
    assert_eq!(daemon.url(), url);
    let again = daemon.look("/api/v1/claims/first");
    for member in ["state", "fences", "granted_at", "queued_at"] {
        assert_eq!(again[member], held[member], "{member}");
    }
    assert_eq!(daemon.look("/api/v1/claims/second")["position"], 1);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/first", ONE).status, 200);

    daemon.stop();
    daemon.start_again(Port::New);
    assert_eq!(daemon.look("/api/v1/claims/first")["state"], "held");
    daemon.stop();
}

#[test]
fn who_waits_is_told_that_it_stops() {
    let mut daemon = Daemon::start(CONFIG);
    assert_eq!(daemon.call("PUT", "/api/v1/claims/first", ONE).status, 201);
    let waits = daemon.call_later("PUT", "/api/v1/claims/second?wait=50", ONE);
    daemon.wait_for_blocked(1);
    let log = daemon.log().clone();
    daemon.stop();
    let told = waits.join().unwrap();
    assert_eq!((told.status, told.code().as_str()), (503, "stopping"));
    assert_eq!(told.header("Retry-After"), Some("1"));
    assert!(log.text().ends_with("stopped"), "{}", log.text());
}
