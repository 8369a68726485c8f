//! Receivers that say `Retry-After`: what waits, what does not, and what ends it.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{claim, claim_of, daemon, deliveries, wait_for_deliveries};
use crate::{
    daemon::{Daemon, poll},
    fake_service::{FakeService, Reply},
};

const TEN_MINUTES: &str = "Retry-After: 600\r\n";
/// Less than half of the time of an offer that stands for 10 minutes.
const FOUR_MINUTES: &str = "Retry-After: 240\r\n";

fn busy(retry_after: &'static str) -> Reply {
    Reply::Answer(503, retry_after, String::new())
}

/// Has to wait with its first call, and takes all others.
fn busy_once(retry_after: &'static str) -> FakeService {
    FakeService::start(move |call| match call.nth {
        0 => busy(retry_after),
        _ => Reply::no_content(),
    })
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

fn paused_until(daemon: &Daemon) -> Value {
    daemon.look("/api/v1/callbacks")["targets"][0]["paused_until"].clone()
}

/// A daemon whose target has said `Retry-After` to the claim `a`.
fn paused(receiver: &FakeService) -> Daemon {
    let daemon = daemon(5, receiver);
    claim(&daemon, "a", "10m");
    wait_for_deliveries(&daemon, "a", 1);
    poll("the pause", || paused_until(&daemon).is_string().then_some(()));
    daemon
}

/// Makes the claim `b`, whose first call has to wait.
fn hold_b_back(daemon: &Daemon, receiver: &FakeService) {
    claim(daemon, "b", "10m");
    poll("the plan of b", || {
        (deliveries(daemon, "b")["delayed_by"] == "retry-after").then_some(())
    });
    assert_eq!(receiver.calls().len(), 1);
}

#[test]
fn retry_after_is_honoured_and_shown() {
    let receiver = FakeService::start(|_| busy("Retry-After: 40\r\n"));
    let daemon = daemon(2, &receiver);
    claim(&daemon, "a", "10m");
    let tried = wait_for_deliveries(&daemon, "a", 1);
    let next = poll("the next try", || {
        deliveries(&daemon, "a")["next_attempt_at"].as_str().map(str::to_owned)
    });
    let started = tried["deliveries"][0]["started_at"].as_str().unwrap();
    let seconds = time(&next).duration_since(time(started)).as_secs();
    assert!((39..=45).contains(&seconds), "{started} to {next}");
    // The whole receiver is left alone: the other claim's first call has to wait as long.
    claim(&daemon, "b", "10m");
    let targets = daemon.look("/api/v1/callbacks");
    let until = time(targets["targets"][0]["paused_until"].as_str().unwrap());
    assert!(until.duration_since(time(&next)).abs().as_secs() <= 1, "{until} and {next}");
    assert_eq!(deliveries(&daemon, "a")["delayed_by"], "retry-after");
    daemon.log().wait_for("ci asks not to be called for 40 s (Retry-After)");
    let waits = poll("the plan of b", || {
        deliveries(&daemon, "b")["next_attempt_at"].as_str().map(str::to_owned)
    });
    assert!(time(&waits).duration_since(time(&next)).abs().as_secs() <= 1, "{waits} and {next}");
    assert_eq!(
        (deliveries(&daemon, "b")["deliveries"].clone(), receiver.calls().len()),
        (json!([]), 1)
    );
}

#[test]
fn a_retry_by_hand_passes_a_pause_and_ends_it_when_it_comes_through() {
    let receiver = busy_once(FOUR_MINUTES);
    let daemon = paused(&receiver);
    hold_b_back(&daemon, &receiver);
    assert_eq!(daemon.call("POST", "/api/v1/claims/a/deliveries/1/retry", "").status, 202);
    let tried = wait_for_deliveries(&daemon, "a", 2);
    assert_eq!(tried["deliveries"][1]["result"], "delivered");
    wait_for_deliveries(&daemon, "b", 1);
    assert_eq!(paused_until(&daemon), Value::Null);
}

#[test]
fn a_first_call_that_a_pause_holds_back_can_be_asked_for() {
    let receiver = busy_once(FOUR_MINUTES);
    let daemon = paused(&receiver);
    hold_b_back(&daemon, &receiver);
    assert_eq!(daemon.call("POST", "/api/v1/claims/b/deliveries/2/retry", "").status, 404);
    assert_eq!(daemon.call("POST", "/api/v1/claims/b/deliveries/1/retry", "").status, 202);
    let tried = wait_for_deliveries(&daemon, "b", 1);
    assert_eq!(tried["deliveries"][0]["result"], "delivered");
}

#[test]
fn a_test_that_comes_through_ends_a_pause() {
    let receiver = busy_once(FOUR_MINUTES);
    let daemon = paused(&receiver);
    hold_b_back(&daemon, &receiver);
    let tested = daemon.call("POST", "/api/v1/callbacks/ci/test", "");
    assert_eq!(
        (tested.json()["delivered"].clone(), paused_until(&daemon)),
        (json!(true), Value::Null)
    );
    wait_for_deliveries(&daemon, "b", 1);
}

#[test]
fn a_reload_of_the_configuration_ends_a_pause() {
    let receiver = busy_once(FOUR_MINUTES);
    let daemon = paused(&receiver);
    hold_b_back(&daemon, &receiver);
    daemon.signal(Signal::HUP);
    daemon.log().wait_for("the configuration was read again");
    assert_eq!(paused_until(&daemon), Value::Null);
    wait_for_deliveries(&daemon, "b", 1);
}

#[test]
fn an_offer_does_not_end_without_a_call_because_of_a_pause() {
    let receiver = FakeService::start(|_| busy(TEN_MINUTES));
    let daemon = paused(&receiver);
    claim(&daemon, "b", "1s");
    let ended = super::wait_for_end(&daemon, "b");
    assert_eq!(ended["reason"], "callback_failed", "{ended}");
    let tried = deliveries(&daemon, "b");
    assert_eq!(tried["deliveries"][0]["status"], 503, "{tried}");
    let calls = receiver.calls();
    assert_eq!(calls.iter().map(claim_of).collect::<Vec<_>>(), ["a", "b"]);
}
