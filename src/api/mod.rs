//! The API, version 1: what each call means, without HTTP.
//!
//! A [`Call`] is an endpoint with its query parameters and its body as they came; [`Calls::handle`]
//! parses them, asks the semaphores, and gives a [`Reply`] or a [`Blocked`] that has to wait. Wire types
//! live here and are a contract; statuses, headers and problem documents belong to
//! [`crate::http_interface`].
//!
//! Nothing here blocks but [`Blocked::wait`] and [`Calls::commit`]. A reply may only be sent when the revision in it is
//! committed: see [`Calls::after_commit`].

mod access;
mod audit;
mod backup;
mod body;
mod call;
mod callbacks;
mod claims;
mod codes;
mod error;
mod info;
mod query;
mod refusal;
mod semaphores;
mod throttle;
mod tokens;
mod wire;

use std::{sync::Arc, time::Duration};

use serde::Serialize;

pub use self::access::{Access, Auth};
pub use self::audit::{settings_changed, settings_removed};
pub use self::call::{
    Answer, Blocked, Call, Calls, Content, Credentials, Download, Endpoint, Outcome, Reply, Step,
};
pub use self::error::Error;
pub use self::tokens::{random_token, rights};
use self::{
    access::{Admitted, Caller},
    throttle::Throttle,
};
pub use crate::semaphore::Peer;
use crate::{
    callbacks::Callbacks,
    model::Revision,
    semaphore::{ClaimStatus, Service},
};

/// How the API behaves where the client does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Longest time that a call blocks, 50 s by default: below the 60 s after which NGINX gives up on it.
    pub wait_max: Duration,
    /// Who needs a token.
    pub auth: Auth,
}

impl Default for Options {
    fn default() -> Options {
        Options { wait_max: Duration::from_secs(50), auth: Auth::Required }
    }
}

/// The calls of the API over a running service.
#[derive(Clone)]
pub struct Api {
    service: Arc<Service>,
    callbacks: Arc<Callbacks>,
    throttle: Arc<Throttle>,
    options: Options,
}

impl Api {
    /// The API of `service`, whose callbacks are called by `callbacks`.
    #[must_use]
    pub fn new(service: Arc<Service>, callbacks: Arc<Callbacks>, options: Options) -> Api {
        Api { service, callbacks, throttle: Arc::default(), options }
    }
}

impl Calls for Api {
    fn handle(&self, call: Call) -> Step {
        let caller = match self.admit(&call) {
            Ok(caller) => caller,
            Err((caller, error)) => {
                self.note_refused(&call, &caller, &error);
                return Step::Done(error.into());
            }
        };
        let admitted = Admitted { call: &call, caller };
        let step = self.route(&admitted).unwrap_or_else(Step::Done);
        let caller = admitted.caller;
        match step {
            Step::Done(reply) => {
                if let Err(error) = &reply.result {
                    self.note_refused(&call, &caller, error);
                }
                Step::Done(reply)
            }
            Step::Blocked(blocked) => {
                Step::Blocked(Box::new(Guarded { api: self.clone(), call, caller, blocked }))
            }
        }
    }

    fn after_commit(&self, revision: Revision, then: Box<dyn FnOnce() + Send>) -> bool {
        self.service.after_commit(revision, then)
    }

    fn commit(&self) -> bool {
        self.service.commit()
    }
}

/// A claim as replies show it, for whoever shows it elsewhere.
#[must_use]
pub fn claim_json(status: &ClaimStatus) -> serde_json::Value {
    serde_json::to_value(wire::ClaimBody::live(status)).unwrap_or_default()
}

/// A call that waits, and whose token may be revoked meanwhile.
struct Guarded {
    api: Api,
    call: Call,
    caller: Caller,
    blocked: Box<dyn Blocked>,
}

impl Blocked for Guarded {
    fn wait(self: Box<Self>) -> Reply {
        let Guarded { api, call, caller, blocked } = *self;
        let mut reply = blocked.wait();
        // Who got permits was let in at that moment, as the service has seen; a hand-over shall not wait for the lock twice.
        let has_permits = matches!(&reply.result, Ok(answer) if answer.outcome == Outcome::Created);
        if !has_permits && let Err(error) = api.recheck(call.endpoint.access(), &caller) {
            reply = error.into();
        }
        if let Err(error) = &reply.result {
            api.note_refused(&call, &caller, error);
        }
        reply
    }
}

/// What a handler gives: an error of its own is a reply too.
type Handled = Result<Step, Reply>;

impl Api {
    fn route(&self, call: &Admitted<'_>) -> Handled {
        match &call.endpoint {
            Endpoint::Versions => self.versions(call),
            Endpoint::Index => self.index(call),
            Endpoint::Service => self.service_status(call),
            Endpoint::Backup => self.backup(call),
            Endpoint::Audit => self.audit(call),
            Endpoint::OwnToken => self.own_token(call),
            Endpoint::ListTokens => self.list_tokens(call),
            Endpoint::CreateToken => self.create_token(call),
            Endpoint::ShowToken(id) => self.show_token(call, id),
            Endpoint::RevokeToken(id) => self.revoke_token(call, id),
            Endpoint::RotateToken(id) => self.rotate_token(call, id),
            Endpoint::Health => self.health(call),
            Endpoint::Ready => self.ready(call),
            Endpoint::OpenApi => self.open_api(call),
            Endpoint::ListClaims => self.list_claims(call),
            Endpoint::CreateClaim => self.create_claim(call),
            Endpoint::PutClaim(id) => self.put_claim(call, id),
            Endpoint::ShowClaim(id) => self.show_claim(call, id),
            Endpoint::DeleteClaim(id) => self.delete_claim(call, id),
            Endpoint::RenewClaim(id) => self.renew_claim(call, id),
            Endpoint::RevokeClaim(id) => self.revoke_claim(call, id),
            Endpoint::ListDeliveries(id) => self.list_deliveries(call, id),
            Endpoint::RetryDelivery(id, number) => self.retry_delivery(call, id, number),
            Endpoint::ListTargets => self.list_targets(call),
            Endpoint::TestTarget(name) => self.test_target(call, name),
            Endpoint::ListSemaphores => self.list_semaphores(call),
            Endpoint::ShowSemaphore(name) => self.show_semaphore(call, name),
            Endpoint::PutSemaphore(name) => self.put_semaphore(call, name),
            Endpoint::PatchSemaphore(name) => self.patch_semaphore(call, name),
            Endpoint::DeleteSemaphore(name) => self.delete_semaphore(call, name),
            Endpoint::CreateClaimOf(name) => self.create_claim_of(call, name),
        }
    }
}

impl From<Error> for Reply {
    /// An error that shows no state.
    fn from(error: Error) -> Reply {
        Reply::error(error, Revision(0))
    }
}

impl Reply {
    /// An error that shows the state as of `after`.
    fn error(error: Error, after: Revision) -> Reply {
        Reply { result: Err(error), after }
    }

    /// An answer with a body that rests on `after`.
    fn json(outcome: Outcome, body: &impl Serialize, after: Revision) -> Reply {
        match serde_json::to_string(body) {
            Ok(body) => Reply { result: Ok(Answer::new(outcome, Some(body), after)), after },
            Err(error) => {
                log::error!("a reply cannot be written as JSON: {error}");
                Reply::from(Error::Internal)
            }
        }
    }

    /// Changes the answer, if it is one.
    fn with(mut self, change: impl FnOnce(&mut Answer)) -> Reply {
        if let Ok(answer) = &mut self.result {
            change(answer);
        }
        self
    }
}

impl Answer {
    fn new(outcome: Outcome, body: Option<String>, revision: Revision) -> Answer {
        Answer {
            outcome,
            body,
            download: None,
            revision: Some(revision),
            location: None,
            retry_after_seconds: None,
            wait_applied: None,
        }
    }
}
