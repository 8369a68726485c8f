//! What the rest of the service has of callbacks: whether one can be taken, its deliveries, tests of targets.
//!
//! The registry can be replaced at run time; deliveries that are planned go on with the new one. Its lock is held
//! for as long as it takes to clone a pointer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};

use super::{
    event::Event,
    outbox::{Courier, Outbox, Render, log_delivery},
    refusal::Refusal,
    registry::Registry,
    schedule::{Delay, LaneName, LaneStatus},
    transport::{MayBegin, Sent},
};
use crate::{
    model::{Callback, Delivery, Sequence, Vars},
    semaphore::Service,
};

/// Most tests at the same time: each holds a thread for as long as its receiver takes.
pub const TESTS_MAX: usize = 4;
/// The kind of the event that a test sends.
const TEST: &str = "callback.test";
/// The lane of callbacks that the configuration does not know any more.
const UNKNOWN_LANE: &str = "(not configured)";

/// A target as it is shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// How it is called.
    pub preset: &'static str,
    /// Scheme, host and port of its URL.
    pub url: String,
    /// What its lane does.
    pub lane: LaneStatus,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// The test's `webhook-id`.
    pub webhook_id: String,
    /// What came of it.
    pub delivery: Delivery,
}

/// Callbacks at work.
pub struct Callbacks {
    current: Arc<Current>,
    outbox: Arc<Outbox>,
}

/// The registry as it is now.
struct Current {
    registry: RwLock<Arc<Registry>>,
    service: Arc<Service>,
    tests_running: Mutex<usize>,
}

impl Current {
    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry.read())
    }
}

impl Courier for Current {
    fn lane(&self, callback: &Callback) -> LaneName {
        match self.registry().lane(callback) {
            Some(lane) => lane.to_string().into(),
            None => UNKNOWN_LANE.into(),
        }
    }

    fn deliver(&self, callback: &Callback, event: &Event, may_begin: MayBegin<'_>) -> Sent {
        self.registry().deliver(callback, event, self.service.now().wall, may_begin)
    }
}

impl Callbacks {
    /// Starts to have the callbacks of `service` called. `render` makes the claim that the event shows.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        service: &Arc<Service>,
        registry: Registry,
        render: Render,
    ) -> std::io::Result<Callbacks> {
        let registry = RwLock::new(Arc::new(registry));
        let current = Arc::new(Current {
            registry,
            service: Arc::clone(service),
            tests_running: Mutex::default(),
        });
        let courier: Arc<dyn Courier> = Arc::clone(&current) as _;
        let outbox = Arc::new(Outbox::start(service, courier, render)?);
        Ok(Callbacks { current, outbox })
    }

    /// From now on another configuration counts. Lookups that are under way count on; pauses and breakers do not, for
    /// the receivers may be others.
    pub fn replace(&self, registry: Registry) {
        {
            let mut current = self.current.registry.write();
            *current = Arc::new(registry.with_transport(current.transport()));
        }
        self.outbox.recover_all();
    }

    /// Whether a claim's callback can be taken.
    ///
    /// # Errors
    /// It cannot; the error says what to change.
    pub fn check(&self, callback: &Callback) -> Result<(), Refusal> {
        self.current.registry().check(callback)
    }

    /// The declared targets, by name.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetStatus> {
        let registry = self.current.registry();
        let targets = registry.targets().map(|target| TargetStatus {
            name: target.name.as_str().to_owned(),
            preset: target.preset,
            url: target.origin,
            lane: self.outbox.lane_status(target.name.as_str()),
        });
        targets.collect()
    }

    /// Has the callback of an offered claim called once more, soon.
    pub fn ask(&self, sequence: Sequence) {
        self.outbox.ask(sequence);
    }

    /// How long until the callback of a claim is called next by itself, if it is, and what delays that.
    #[must_use]
    pub fn next_try_in(&self, sequence: Sequence) -> Option<(Duration, Option<Delay>)> {
        self.outbox.next_try_in(sequence)
    }

    /// Prepares to call a target for a claim that does not exist; `None` when as many tests are under way as may be.
    #[must_use]
    pub fn begin_test(&self, callback: Callback) -> Option<Test> {
        let mut running = self.current.tests_running.lock();
        if *running >= TESTS_MAX {
            return None;
        }
        *running += 1;
        let (current, outbox) = (Arc::clone(&self.current), Arc::clone(&self.outbox));
        Some(Test { current, outbox, callback })
    }

    /// From now on no call for a claim begins.
    pub fn begin_stop(&self) {
        self.outbox.begin_stop();
    }

    /// Calls nobody any more, and waits for a moment for calls that are under way, from when the stop began.
    pub fn stop(&self) {
        self.outbox.stop();
    }
}

/// A test that may be run. Counts while it lives.
pub struct Test {
    current: Arc<Current>,
    outbox: Arc<Outbox>,
    callback: Callback,
}

impl Drop for Test {
    fn drop(&mut self) {
        *self.current.tests_running.lock() -= 1;
    }
}

impl Test {
    /// Calls the target, once, and waits for what comes of it. When it comes through, the target's lane is not paused any
    /// more and its breaker closes.
    #[must_use]
    pub fn run(self) -> Tested {
        let started_at = self.current.service.now().wall;
        let id = format!("callback-test-{}", started_at.0);
        let event = Event {
            webhook_id: format!("msg_test_{}", started_at.0),
            kind: TEST,
            occurred_at: started_at,
            data: serde_json::json!({ "id": id, "state": "offered", "permits": {}, "fences": {} }),
            claim_id: id,
            holder: None,
            fences_json: "{}".into(),
            vars: Vars::default(),
        };
        let start = Instant::now();
        let sent = self.current.deliver(&self.callback, &event, &|| true);
        let delivery = Delivery { started_at, duration: start.elapsed(), result: sent.result };
        let lane = self.current.lane(&self.callback);
        if delivery.is_success() {
            self.outbox.recover(&lane);
        }
        let what = format!("test of callback target {lane}");
        log_delivery(&what, &delivery, sent.detail.as_deref());
        Tested { webhook_id: event.webhook_id, delivery }
    }
}

#[cfg(test)]
#[path = "caller_tests.rs"]
mod tests;
