//! An API that the tests hold in their hands, and a server in front of it.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use semaphored::{
    api::{Answer, Blocked, Call, Calls, Endpoint, Error, Outcome, Reply, Step},
    http_interface::{Interface, Limits},
    model::Revision,
    web_server::{Answered, Bound, Config, Fatal, WebServer},
};

use super::PATIENCE;

pub(super) type Then = Box<dyn FnOnce() + Send>;

/// An API of which the test decides when waits end and when changes are committed.
///
/// `PUT claim` waits, `POST claims` changes something that is not committed yet, `DELETE claim` something
/// that is, `GET claim` hangs where nothing may, `GET /api` shows a long text, everything else `{}`.
#[derive(Default)]
pub(super) struct Script {
    pub(super) state: Mutex<State>,
    changed: Condvar,
    myself: Weak<Script>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) waiting: usize,
    pub(super) released: bool,
    pub(super) stopping: bool,
    pub(super) uncommitted: Vec<(Revision, Then)>,
    /// Whether it is for the server's threads to commit, and nobody else does.
    pub(super) leaves_commits: bool,
    pub(super) calls: usize,
}

pub(super) const UNCOMMITTED: Revision = Revision(9);
pub(super) const COMMITTED: Revision = Revision(5);
pub(super) const LONG_BODY_BYTES: usize = 20_000;

impl Script {
    pub(super) fn new() -> Arc<Script> {
        Arc::new_cyclic(|myself| Script { myself: myself.clone(), ..Script::default() })
    }

    /// Waits until the state is as `wanted`.
    pub(super) fn wait_until(&self, wanted: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        let deadline = Instant::now() + PATIENCE;
        while !wanted(&state) {
            assert!(!self.changed.wait_until(&mut state, deadline).timed_out(), "nothing happened");
        }
    }

    pub(super) fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }

    pub(super) fn commit(&self) -> bool {
        let ready = std::mem::take(&mut self.state.lock().uncommitted);
        let commits = !ready.is_empty();
        for (_, then) in ready {
            then();
        }
        commits
    }
}

pub(super) fn reply(outcome: Outcome, body: Option<String>, after: Revision) -> Reply {
    let answer = Answer {
        outcome,
        body,
        download: None,
        revision: Some(after),
        location: None,
        retry_after_seconds: None,
        wait_applied: None,
    };
    Reply { result: Ok(answer), after }
}

impl Calls for Script {
    fn handle(&self, call: Call) -> Step {
        self.set(|state| state.calls += 1);
        let empty = Some("{}".to_owned());
        Step::Done(match call.endpoint {
            Endpoint::PutClaim(_) => {
                let script = self.myself.upgrade().unwrap();
                return Step::Blocked(Box::new(Waiter(script)));
            }
            Endpoint::ShowClaim(_) => {
                let mut state = self.state.lock();
                while !state.released {
                    self.changed.wait(&mut state);
                }
                reply(Outcome::Ok, empty, Revision(0))
            }
            Endpoint::CreateClaim => reply(Outcome::Created, empty, UNCOMMITTED),
            Endpoint::DeleteClaim(_) => reply(Outcome::Done, None, COMMITTED),
            Endpoint::Versions => {
                reply(Outcome::Ok, Some("x".repeat(LONG_BODY_BYTES)), Revision(0))
            }
            Endpoint::CreateClaimOf(_) => {
                let text = String::from_utf8(call.body).unwrap();
                reply(Outcome::Ok, Some(text), Revision(0))
            }
            _ => reply(Outcome::Ok, empty, Revision(0)),
        })
    }

    fn after_commit(&self, revision: Revision, then: Then) -> bool {
        if revision <= COMMITTED {
            then();
        } else {
            self.set(|state| state.uncommitted.push((revision, then)));
        }
        self.state.lock().leaves_commits
    }

    fn commit(&self) -> bool {
        Script::commit(self)
    }
}

pub(super) struct Waiter(Arc<Script>);

impl Blocked for Waiter {
    fn wait(self: Box<Self>) -> Reply {
        self.0.set(|state| state.waiting += 1);
        let mut state = self.0.state.lock();
        while !state.released && !state.stopping {
            self.0.changed.wait(&mut state);
        }
        if state.stopping {
            return Reply { result: Err(Error::Stopping), after: Revision(0) };
        }
        reply(Outcome::Created, Some("{}".to_owned()), COMMITTED)
    }
}

pub(super) fn start_with(change: impl FnOnce(&mut Config)) -> (Arc<Script>, WebServer) {
    start_watched(change, Arc::new(|error| panic!("fatal: {error}")))
}

pub(super) fn start_watched(
    change: impl FnOnce(&mut Config),
    fatal: Fatal,
) -> (Arc<Script>, WebServer) {
    start_heard(change, fatal, Arc::new(|| {}))
}

/// The same, with somebody who is told of the answers to probes.
pub(super) fn start_heard(
    change: impl FnOnce(&mut Config),
    fatal: Fatal,
    answered: Answered,
) -> (Arc<Script>, WebServer) {
    let script = Script::new();
    let interface = Interface::new(script.clone(), Limits::default()).unwrap();
    let mut config = Config::new("127.0.0.1:0".parse().unwrap());
    // No test may pass thanks to a probe, which does what a kick does.
    config.probe_interval = Duration::from_secs(3_600);
    change(&mut config);
    let server = Bound::new(config).unwrap().start(Arc::new(interface), fatal, answered).unwrap();
    (script, server)
}

pub(super) fn start() -> (Arc<Script>, WebServer) {
    start_with(|_| {})
}
