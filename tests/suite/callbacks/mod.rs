//! Callbacks end to end: the real daemon, receivers on the loopback address, real `semaphorectl run --claim`.

mod api;
mod crashes;
mod farm;
mod pauses;

use serde_json::{Value, json};

use super::{
    daemon::{Daemon, poll},
    fake_service::{Call, FakeService},
    http::Response,
};

/// A signing secret.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A target that calls a receiver with the signed event.
pub(super) fn target(name: &str, url: &str) -> String {
    format!(
        "[callbacks.targets.{name}]\npreset = \"generic\"\nurl = \"{url}/hook\"\nsecret = \"{SECRET}\"\n\
         allow_cidrs = [\"127.0.0.0/8\"]\n"
    )
}

/// A daemon with one semaphore `lic` and the target `ci`.
fn daemon(capacity: u32, receiver: &FakeService) -> Daemon {
    let target = target("ci", &receiver.url());
    Daemon::start(&format!("[semaphores]\nlic = {capacity}\n{target}"))
}

/// Makes a claim with a callback.
fn claim(daemon: &Daemon, id: &str, offer_ttl: &str) -> Response {
    claim_to(daemon, id, &json!({ "target": "ci" }), offer_ttl)
}

fn claim_to(daemon: &Daemon, id: &str, callback: &Value, offer_ttl: &str) -> Response {
    let body = json!({ "permits": { "lic": 1 }, "callback": callback, "offer_ttl": offer_ttl });
    daemon.call("PUT", &format!("/api/v1/claims/{id}"), &body.to_string())
}

/// The claim that a call to a receiver is about.
fn claim_of(call: &Call) -> String {
    let event: Value = serde_json::from_str(&call.body).unwrap();
    assert_eq!(event["type"], "claim.offered");
    event["data"]["id"].as_str().unwrap().to_owned()
}

fn deliveries(daemon: &Daemon, id: &str) -> Value {
    daemon.look(&format!("/api/v1/claims/{id}/deliveries"))
}

/// Waits until so many deliveries of a claim have come to an end.
pub(super) fn wait_for_deliveries(daemon: &Daemon, id: &str, count: usize) -> Value {
    poll(&format!("{count} deliveries of {id}"), || {
        let found = deliveries(daemon, id);
        let all = found["deliveries"].as_array().unwrap();
        let ended = all.iter().filter(|tried| tried["result"] != "unfinished").count();
        (ended >= count).then_some(found)
    })
}

/// Waits until a claim has ended.
fn wait_for_end(daemon: &Daemon, id: &str) -> Value {
    poll(&format!("the end of {id}"), || {
        let claim = daemon.look(&format!("/api/v1/claims/{id}"));
        (claim["state"] == "ended").then_some(claim)
    })
}
