//! The daemon is killed at every stage of a callback, many times: no offer is forgotten, no permit is lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{claim, claim_of, daemon};
use crate::{
    daemon::{DEADLINE, Daemon, Port},
    fake_service::{Call, FakeService, Reply},
};

/// As many as a receiver gets at the same time, and two more.
const CAPACITY: u32 = 6;
const ROUNDS: usize = 8;
/// Rounds in which a call comes again when half of an offer's time is over.
const SLOW_ROUNDS: usize = 3;
const MOMENTS: usize = 5;
/// Long enough to confirm in the other half, on a machine that is busy.
const SHORT_OFFER: &str = "4s";
/// How long a stop may take that waits for a call: the documented 2 s, and room for a machine that is busy.
const STOP_MAX: Duration = Duration::from_secs(4);

/// A receiver whose answers can be held back.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, closed: bool) {
        *self.closed.lock().unwrap() = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let closed = self.closed.lock().unwrap();
        let waited = self.changed.wait_timeout_while(closed, DEADLINE, |closed| *closed).unwrap();
        assert!(!waited.1.timed_out(), "the gate stays closed");
    }
}

struct Stage {
    gate: Arc<Gate>,
    receiver: FakeService,
    daemon: Daemon,
    calls_before_crash: usize,
}

impl Stage {
    fn new() -> Stage {
        let gate = Arc::new(Gate::default());
        let at_receiver = Arc::clone(&gate);
        let receiver = FakeService::start(move |_: &Call| {
            at_receiver.pass();
            Reply::no_content()
        });
        Stage::with(gate, receiver)
    }

    fn with(gate: Arc<Gate>, receiver: FakeService) -> Stage {
        let daemon = daemon(CAPACITY, &receiver);
        Stage { gate, receiver, daemon, calls_before_crash: 0 }
    }

    fn crash(&mut self) {
        self.daemon.kill();
        self.calls_before_crash = self.receiver.calls().len();
        self.gate.set(false);
        self.daemon.start_again(Port::Same);
    }

    fn offer(&self, id: &str) {
        self.offer_for(id, "10m");
    }

    fn offer_for(&self, id: &str, offer_ttl: &str) {
        let answer = claim(&self.daemon, id, offer_ttl);
        assert_eq!((answer.status, &answer.json()["state"]), (202, &"offered".into()));
    }

    fn confirm_and_release(&self, id: &str) {
        let renewed = self.daemon.call("POST", &format!("/api/v1/claims/{id}/renew"), "");
        assert_eq!((renewed.status, &renewed.json()["state"]), (200, &"held".into()), "{id}");
        self.check_permits();
        assert_eq!(self.daemon.call("DELETE", &format!("/api/v1/claims/{id}"), "").status, 204);
    }

    /// No two live claims share a permit, and none is lost.
    fn check_permits(&self) {
        let semaphore = self.daemon.look("/api/v1/semaphores/lic");
        let number = |member: &str| semaphore[member].as_u64().unwrap();
        let taken = number("in_use") + number("offered");
        assert_eq!(taken + number("available"), u64::from(CAPACITY), "{semaphore}");
        let claims = self.daemon.look("/api/v1/claims");
        let fences: Vec<&Value> = claims["claims"]
            .as_array()
            .unwrap()
            .iter()
            .map(|claim| &claim["fences"]["lic"])
            .collect();
        let distinct: BTreeSet<String> = fences.iter().map(ToString::to_string).collect();
        assert_eq!((distinct.len(), fences.len() as u64), (fences.len(), taken), "{claims}");
    }

    /// Every claim was called, always under one id.
    fn check_calls(&self, claims: usize) {
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for call in self.receiver.calls() {
            let message = call.header("webhook-id").unwrap().to_owned();
            ids.entry(claim_of(&call)).or_default().insert(message);
        }
        assert_eq!(ids.len(), claims);
        let all: BTreeSet<&String> = ids.values().flatten().collect();
        assert_eq!(all.len(), claims, "one id for each claim: {ids:?}");
        let semaphore = self.daemon.look("/api/v1/semaphores/lic");
        assert_eq!(semaphore["available"], CAPACITY, "{semaphore}");
    }

    fn was_called_before_the_crash(&self, id: &str) -> bool {
        let calls = self.receiver.calls();
        calls.iter().take(self.calls_before_crash).any(|call| claim_of(call) == id)
    }

    fn calls_for(&self, id: &str) -> usize {
        self.receiver.calls().iter().filter(|call| claim_of(call) == id).count()
    }

    /// Waits until a delivery of a claim came through.
    fn wait_for_success(&self, id: &str) -> Value {
        crate::daemon::poll(&format!("a delivery of {id}"), || {
            let found = super::deliveries(&self.daemon, id);
            let all = found["deliveries"].as_array().unwrap();
            all.iter().any(|tried| tried["result"] == "delivered").then_some(found)
        })
    }

    fn wait_for_call(&self, id: &str) {
        let message = format!("a call for {id}");
        crate::daemon::poll(&message, || {
            self.receiver.calls().iter().any(|call| claim_of(call) == id).then_some(())
        });
    }
}

#[test]
fn killed_between_offer_and_delivery() {
    let mut stage = Stage::new();
    for round in 0..SLOW_ROUNDS {
        stage.gate.set(true);
        let ids: Vec<String> = (0..CAPACITY).map(|n| format!("a{round}-{n}")).collect();
        let (called, waiting) = ids.split_at(4);
        called.iter().for_each(|id| stage.offer_for(id, SHORT_OFFER));
        called.iter().for_each(|id| stage.wait_for_call(id));
        // The receiver has all that it gets at a time, so for these there is an offer and no call.
        waiting.iter().for_each(|id| stage.offer(id));
        stage.crash();
        assert!(waiting.iter().all(|id| !stage.was_called_before_the_crash(id)));
        for id in waiting.iter().chain(called) {
            stage.wait_for_success(id);
            stage.confirm_and_release(id);
        }
    }
    stage.check_calls(SLOW_ROUNDS * CAPACITY as usize);
}

#[test]
fn killed_during_the_delivery() {
    let mut stage = Stage::new();
    for round in 0..SLOW_ROUNDS {
        let id = format!("c{round}");
        stage.gate.set(true);
        stage.offer_for(&id, SHORT_OFFER);
        stage.wait_for_call(&id);
        stage.crash();
        let tried = stage.wait_for_success(&id);
        // The record knows of each call that somebody got.
        let all = tried["deliveries"].as_array().unwrap();
        let results = all.iter().map(|tried| &tried["result"]);
        assert_eq!(results.collect::<Vec<_>>(), ["unfinished", "delivered"], "{tried}");
        assert_eq!(stage.calls_for(&id), 2);
        stage.confirm_and_release(&id);
    }
    stage.check_calls(SLOW_ROUNDS);
}

#[test]
fn a_job_that_the_last_call_started_confirms_before_the_next_one() {
    let mut stage = Stage::new();
    stage.gate.set(true);
    stage.offer("a");
    stage.wait_for_call("a");
    stage.crash();
    let planned = crate::daemon::poll("the plan of the next call", || {
        let found = super::deliveries(&stage.daemon, "a");
        found["next_attempt_at"].is_string().then_some(found)
    });
    assert_eq!(planned["deliveries"][0]["result"], "unfinished", "{planned}");
    assert_eq!(planned["deliveries"][1], Value::Null, "{planned}");
    stage.confirm_and_release("a");
    // One that nobody has called is called at once, so the dispatcher had its chance.
    stage.offer("b");
    stage.wait_for_success("b");
    assert_eq!(stage.calls_for("a"), 1);
}

#[test]
fn a_stop_waits_for_a_receiver_that_takes_a_second() {
    let slow = FakeService::start(|_| {
        std::thread::sleep(Duration::from_secs(1));
        Reply::no_content()
    });
    let mut stage = Stage::with(Arc::default(), slow);
    stage.offer("a");
    stage.wait_for_call("a");
    stage.daemon.stop();
    stage.daemon.start_again(Port::Same);
    let kept = super::deliveries(&stage.daemon, "a");
    assert_eq!(kept["deliveries"][0]["result"], "delivered", "{kept}");
    assert_eq!((&kept["next_attempt_at"], stage.calls_for("a")), (&Value::Null, 1));
}

#[test]
fn a_stop_begins_nothing_and_does_not_wait_for_a_receiver_that_hangs() {
    let mut stage = Stage::new();
    stage.gate.set(true);
    let ids: Vec<String> = (0..CAPACITY).map(|n| format!("a{n}")).collect();
    ids.iter().for_each(|id| stage.offer(id));
    stage.receiver.wait_for("POST", 4);
    let start = Instant::now();
    stage.daemon.stop();
    let took = start.elapsed();
    assert!(took < STOP_MAX, "it took {took:?}");
    assert_eq!(stage.receiver.calls().len(), 4);
    stage.gate.set(false);
    stage.daemon.start_again(Port::Same);
    // Nobody has called for these.
    for id in &ids[4..] {
        stage.wait_for_success(id);
    }
}

#[test]
fn killed_between_delivery_and_confirmation() {
    let mut stage = Stage::new();
    for round in 0..ROUNDS {
        let id = format!("d{round}");
        stage.offer(&id);
        let tried = stage.wait_for_success(&id);
        assert_eq!(tried["deliveries"][0]["status"], 204, "{tried}");
        // What was read is safe, so after the crash it is known and nothing is sent again.
        stage.crash();
        let again = super::deliveries(&stage.daemon, &id);
        assert_eq!(again["deliveries"], tried["deliveries"]);
        assert_eq!(again["next_attempt_at"], Value::Null);
        stage.confirm_and_release(&id);
    }
    stage.check_calls(ROUNDS);
    assert_eq!(stage.receiver.calls().len(), ROUNDS);
}

#[test]
fn killed_at_moments_that_nobody_chose() {
    let mut stage = Stage::new();
    let mut claims = 0;
    for round in 0..MOMENTS {
        let ids: Vec<String> = (0..CAPACITY).map(|n| format!("e{round}-{n}")).collect();
        ids.iter().for_each(|id| stage.offer_for(id, SHORT_OFFER));
        claims += ids.len();
        std::thread::sleep(Duration::from_micros(500 * round as u64));
        stage.crash();
        for id in &ids {
            let tried = stage.wait_for_success(id);
            let recorded = tried["deliveries"].as_array().unwrap().len();
            assert!(stage.calls_for(id) <= recorded, "a call that nobody knows of: {tried}");
            stage.confirm_and_release(id);
        }
    }
    stage.check_calls(claims);
}
