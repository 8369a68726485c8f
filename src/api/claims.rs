//! The calls about claims.

use std::{sync::Arc, time::Duration};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{
    Answer, Api, Blocked, Error, Handled, Outcome, Reply, Step,
    access::{Admitted, Caller},
    audit::claim_row,
    body::{Members, invalid_member, shorten},
    callbacks::take_callback,
    query::{Query, Wait, write_cursor},
    wire::{ClaimBody, ClaimsBody},
};
use crate::{
    model::{
        AuditEntry, Claim, ClaimId, ClaimRequest, Holder, Invalid, JobId, Labels, Note, Permits,
        Priority, Revision, SemaphoreName, bounds, format_duration,
    },
    semaphore::{Asker, Attempt, Attempted, BlockedClaim, ClaimLook, ListFilter, Seen, core},
};

/// The members of a claim request. Of these only `permits` is required.
const REQUEST_MEMBERS: [&str; 10] = [
    "permits",
    "holder",
    "ttl",
    "wait_timeout",
    "queue_ttl",
    "offer_ttl",
    "priority",
    "labels",
    "queue",
    "callback",
];
/// What labels must be, and each of them.
const LABELS_ALLOWED: &str = "an object of at most 16 labels: {\"branch\": \"main\"}";
const LABEL_KEY_ALLOWED: &str = "an object with keys of 1 to 64 bytes without control characters";
const LABEL_VALUE_ALLOWED: &str = "a text of up to 256 bytes without control characters";
/// Any key that is right.
const LABEL_KEY_ANY: &str = "key";
/// When a claim that waits without a blocked request should ask again.
const POLL_SECONDS: u64 = 2;

/// Which call a claim is shown for.
#[derive(Clone, Copy, Debug)]
struct Shape {
    /// A renew answers 200 where an acquire answers 201.
    renews: bool,
    /// The server chose the id.
    location: bool,
    wait: Wait,
    /// Whether the call has blocked.
    blocked: bool,
}

impl Api {
    pub(super) fn put_claim(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        let wait = Query::of(call, &["wait"])?.wait(self.options.wait_max)?;
        let request = request(&call.body)?;
        self.acquire(call, id, request, wait, false)
    }

    pub(super) fn create_claim(&self, call: &Admitted<'_>) -> Handled {
        let wait = Query::of(call, &["wait"])?.wait(self.options.wait_max)?;
        let request = request(&call.body)?;
        self.acquire(call, new_id()?, request, wait, true)
    }

    /// The shorthand: the semaphore is in the path, the body may be empty, `permits` is a number.
    pub(super) fn create_claim_of(&self, call: &Admitted<'_>, name: &str) -> Handled {
        let name = semaphore_name(name)?;
        let wait = Query::of(call, &["wait"])?.wait(self.options.wait_max)?;
        let mut members = Members::parse(&call.body, true, &REQUEST_MEMBERS)?;
        let weight = members.take("permits", |value| Ok((weight(value)?, value.clone())))?;
        let permits = Permits::new(vec![(name, weight.unwrap_or(1))]);
        let permits = permits.map_err(|invalid| missing("permits", &invalid))?;
        let request = rest_of_request(members, permits)?;
        self.acquire(call, new_id()?, request, wait, true)
    }

    fn acquire(
        &self,
        call: &Admitted<'_>,
        id: ClaimId,
        request: ClaimRequest,
        wait: Wait,
        location: bool,
    ) -> Handled {
        // What was right when the claim was made is right when it is asked for again, whatever became of the token.
        if !self.service.is_own(&id, &call.asker()) {
            self.check_request(call, &request)?;
        }
        self.check_callback(&id, &request)?;
        let shape = Shape { renews: false, location, wait, blocked: false };
        self.attempted(call, self.service.acquire(id, request, wait.wait, call.asker()), shape)
    }

    /// Whether the token may ask for this: its semaphores are there for it, and its priority is not too high.
    fn check_request(&self, call: &Admitted<'_>, request: &ClaimRequest) -> Result<(), Reply> {
        if let Some(hidden) = request.permits.names().find(|name| !call.caller.sees(name)) {
            return Err(self.unknown_semaphore(&call.caller, hidden).into());
        }
        let priority_max = call.caller.token().map_or(Priority::MAX, |token| token.priority_max());
        if request.priority > priority_max {
            return Err(Error::PriorityTooHigh { priority: request.priority, priority_max }.into());
        }
        Ok(())
    }

    pub(super) fn renew_claim(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        let wait = Query::of(call, &["wait"])?.wait(self.options.wait_max)?;
        let mut members = Members::parse(&call.body, true, &["ttl", "job"])?;
        let ttl = members.take_duration("ttl", bounds::DURATION_MIN, bounds::TTL_MAX)?;
        let job = members.take("job", |value| text(value, JobId::new))?;
        let shape = Shape { renews: true, location: false, wait, blocked: false };
        let row = call.on_another("claim.renew", &id);
        let attempt = self.service.renew(id, (ttl, job), wait.wait, call.asker(), row.as_deref());
        self.attempted(call, attempt, shape)
    }

    fn attempted(&self, call: &Admitted<'_>, attempt: Attempt, shape: Shape) -> Handled {
        let caller = call.caller.clone();
        match attempt {
            Attempt::Done(attempted) => Ok(Step::Done(self.claim_reply(&caller, attempted, shape))),
            Attempt::Blocked(claim) => {
                let shape = Shape { blocked: true, ..shape };
                let api = self.clone();
                Ok(Step::Blocked(Box::new(BlockedAttempt { api, caller, claim, shape })))
            }
        }
    }

    fn claim_reply(&self, caller: &Caller, attempted: Attempted, shape: Shape) -> Reply {
        let (outcome, status) = match attempted {
            Ok(attempted) => attempted,
            Err(refusal) => return self.refused(caller, refusal),
        };
        let (outcome, retry_after_seconds) = match outcome {
            core::Outcome::Granted(_) if !shape.renews => (Outcome::Created, None),
            core::Outcome::Waiting { .. } | core::Outcome::Offered(_) => {
                (Outcome::Accepted, Some(if shape.blocked { 0 } else { POLL_SECONDS }))
            }
            _ => (Outcome::Ok, None),
        };
        Reply::json(outcome, &ClaimBody::live(&status), status.seen).with(|answer| {
            answer.retry_after_seconds = retry_after_seconds;
            answer.wait_applied = shape.wait.applied;
            if shape.location {
                answer.location = Some(format!("/api/v1/claims/{}", status.claim.id));
            }
        })
    }

    pub(super) fn show_claim(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        let query = Query::of(call, &["since", "wait"])?;
        let (since, wait) = (query.since()?, query.wait(self.options.wait_max)?);
        let Some(block) = wait.wait else {
            let look = self.service.look(&id, &call.asker());
            return Ok(Step::Done(self.look_reply(&call.caller, look, wait)));
        };
        let (api, caller, asker) = (self.clone(), call.caller.clone(), call.asker());
        Ok(Step::Blocked(Box::new(BlockedLook { api, caller, asker, id, since, block, wait })))
    }

    fn look_reply(
        &self,
        caller: &Caller,
        look: Result<Seen<ClaimLook>, crate::semaphore::Refusal>,
        wait: Wait,
    ) -> Reply {
        let reply = match look {
            Err(refusal) => return self.refused(caller, refusal),
            Ok(Seen { what: ClaimLook::Live(status), revision }) => {
                Reply::json(Outcome::Ok, &ClaimBody::live(&status), revision)
            }
            Ok(Seen { what: ClaimLook::Ended(claim), revision }) => {
                self.ended_reply(&claim, revision)
            }
        };
        reply.with(|answer| answer.wait_applied = wait.applied)
    }

    fn ended_reply(&self, claim: &Claim, after: Revision) -> Reply {
        let now = self.service.now().wall;
        let body = ClaimBody::of(claim, now, claim.revision);
        Reply { after, ..Reply::json(Outcome::Ok, &body, claim.revision) }
    }

    pub(super) fn delete_claim(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        let job = Query::of(call, &["job"])?.job()?;
        let row = call.on_another("claim.release", &id);
        let released = self.service.release(id, job, &call.asker(), row.as_deref());
        let revision = released.map_err(|refusal| self.refused(&call.caller, refusal))?;
        let answer = Answer::new(Outcome::Done, None, revision);
        Ok(Step::Done(Reply { result: Ok(answer), after: revision }))
    }

    pub(super) fn revoke_claim(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        Query::of(call, &[])?;
        let mut members = Members::parse(&call.body, true, &["reason"])?;
        let note = members.take("reason", |value| text(value, Note::new))?;
        let row = |claim: &Claim| {
            let row = call.entry("claim.revoke", format!("claim {id}"));
            claim_row(AuditEntry { reason: note.clone(), ..row }, claim)
        };
        let revoked = self.service.revoke(&id, note.clone(), &call.asker(), Some(&row));
        let (claim, revision) = revoked.map_err(|refusal| self.refused(&call.caller, refusal))?;
        Ok(Step::Done(self.ended_reply(&claim, revision)))
    }

    pub(super) fn list_claims(&self, call: &Admitted<'_>) -> Handled {
        let query = Query::of(call, &["semaphore", "state", "holder", "token", "limit", "after"])?;
        let token = query.token()?;
        let filter = ListFilter {
            semaphore: query.semaphore()?,
            state: query.state()?,
            holder: query.holder()?,
            after: query.after()?,
            claims_max: query.limit()?,
        };
        if matches!((&filter.semaphore, filter.after), (None, Some(core::Cursor::Place(_)))) {
            let problem = "goes on in the queue of one semaphore: give its `semaphore` too".into();
            return Err(Error::InvalidQuery { parameter: "after".into(), problem }.into());
        }
        if let Some(name) = &filter.semaphore {
            let found = self.service.semaphore(name);
            if found.what.is_none() || !call.caller.sees(name) {
                let error = self.unknown_semaphore(&call.caller, name);
                return Err(Reply::error(error, found.revision));
            }
        }
        let Seen { what: page, revision } = self.service.list(&filter, |claim| {
            let is_its = token.as_ref().is_none_or(|token| claim.owner.as_ref() == Some(token));
            is_its && call.caller.lists(claim)
        });
        let body = ClaimsBody {
            claims: page.claims.iter().map(|claim| ClaimBody::live(claim).in_a_list()).collect(),
            next: page.next.map(write_cursor),
            revision: revision.0,
        };
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, revision)))
    }
}

/// An acquire or renew that blocks.
struct BlockedAttempt {
    api: Api,
    caller: Caller,
    claim: BlockedClaim,
    shape: Shape,
}

impl Blocked for BlockedAttempt {
    fn wait(self: Box<Self>) -> Reply {
        let attempted = self.claim.wait();
        self.api.claim_reply(&self.caller, attempted, self.shape)
    }
}

/// A look at a claim that waits for something to see.
struct BlockedLook {
    api: Api,
    caller: Caller,
    asker: Asker,
    id: ClaimId,
    since: Option<Revision>,
    block: Duration,
    wait: Wait,
}

impl Blocked for BlockedLook {
    fn wait(self: Box<Self>) -> Reply {
        self.api.service.watch_claim(&self.id, self.since, self.block, &self.asker);
        // What the token may see now, not what it might when the wait began.
        let caller = match self.api.present(&self.caller) {
            Ok(caller) => caller,
            Err(error) => return error.into(),
        };
        let asker = Asker { token: caller.token().cloned(), ..self.asker };
        let look = self.api.service.look(&self.id, &asker);
        self.api.look_reply(&caller, look, self.wait)
    }
}

pub(super) fn claim_id(text: &str) -> Result<ClaimId, Error> {
    ClaimId::new(text)
        .map_err(|invalid| Error::InvalidPath { member: "id", allowed: invalid.allowed })
}

pub(super) fn semaphore_name(text: &str) -> Result<SemaphoreName, Error> {
    SemaphoreName::new(text)
        .map_err(|invalid| Error::InvalidPath { member: "name", allowed: invalid.allowed })
}

/// An id that the server chooses: a UUIDv7 (RFC 9562), which sorts by time.
fn new_id() -> Result<ClaimId, Error> {
    ClaimId::new(&uuid::Uuid::now_v7().to_string()).map_err(|_| Error::Internal)
}

fn missing(member: &'static str, invalid: &Invalid) -> Error {
    Error::MissingMember { member, allowed: invalid.allowed.clone() }
}

/// Parses a claim request.
fn request(body: &[u8]) -> Result<ClaimRequest, Error> {
    let allowed = "an object of semaphore names and whole numbers: {\"FlexLM-Riviera\": 1}";
    let mut members = Members::parse(body, false, &REQUEST_MEMBERS)?;
    let Some(object) = members.take_object("permits", allowed)? else {
        return Err(Error::MissingMember { member: "permits", allowed: allowed.into() });
    };
    let weights = object.iter().map(|(name, value)| permit(name, value));
    let permits = Permits::new(weights.collect::<Result<_, _>>()?)
        .map_err(|invalid| invalid_member("permits", &invalid, &Value::Object(object)))?;
    rest_of_request(members, permits)
}

fn permit(name: &str, value: &Value) -> Result<(SemaphoreName, u32), Error> {
    let member = || format!("permits.{}", shorten(name));
    let name = SemaphoreName::new(name).map_err(|invalid| Error::InvalidMember {
        member: "permits".into(),
        allowed: format!("an object of semaphore names, each {}", invalid.allowed),
        got: shorten(&Value::from(name).to_string()),
    })?;
    let weight = weight(value).map_err(|invalid| invalid_member(&member(), &invalid, value))?;
    Ok((name, weight))
}

fn weight(value: &Value) -> Result<u32, Invalid> {
    let weight = value.as_u64().and_then(|weight| u32::try_from(weight).ok());
    weight.filter(|weight| (1..=bounds::CAPACITY_MAX).contains(weight)).ok_or_else(|| Invalid {
        allowed: format!("a whole number of permits from 1 to {}", bounds::CAPACITY_MAX),
    })
}

/// Parses labels: first each by itself, so that the error names the wrong one.
fn labels(object: Map<String, Value>) -> Result<Labels, Error> {
    let mut pairs = Vec::with_capacity(object.len());
    for (key, value) in object {
        let fits = |text: &&str| Labels::new(vec![(LABEL_KEY_ANY.into(), (**text).into())]).is_ok();
        let Some(text) = value.as_str().filter(fits) else {
            let invalid = Invalid { allowed: LABEL_VALUE_ALLOWED.into() };
            return Err(invalid_member(&format!("labels.{}", shorten(&key)), &invalid, &value));
        };
        if Labels::new(vec![(key.clone(), String::new())]).is_err() {
            let invalid = Invalid { allowed: LABEL_KEY_ALLOWED.into() };
            return Err(invalid_member("labels", &invalid, &Value::from(key)));
        }
        pairs.push((key, text.to_owned()));
    }
    let count = pairs.len();
    Labels::new(pairs).map_err(|_| Error::InvalidMember {
        member: "labels".into(),
        allowed: LABELS_ALLOWED.into(),
        got: format!("{count} of them"),
    })
}

/// Parses what is beside the permits.
fn rest_of_request(mut members: Members, permits: Permits) -> Result<ClaimRequest, Error> {
    let shortest = bounds::DURATION_MIN;
    let ttl = members.take_duration("ttl", shortest, bounds::TTL_MAX)?;
    let queue_ttl = members.take_duration("queue_ttl", shortest, bounds::QUEUE_TTL_MAX)?;
    let offer_ttl = members.take_duration("offer_ttl", shortest, bounds::OFFER_TTL_MAX)?;
    let wait_timeout = members.take_duration("wait_timeout", shortest, bounds::WAIT_TIMEOUT_MAX)?;
    let holder = members.take("holder", |value| text(value, Holder::new))?;
    let priority = members.take("priority", |value| {
        // A number that is not whole is out of the range of every priority, too.
        let priority = Priority::new(value.as_i64().unwrap_or(i64::MAX))?;
        Ok((priority, value.clone()))
    })?;
    let labels = members.take_object("labels", LABELS_ALLOWED)?.map(labels).transpose()?;
    let queue = members.take("queue", |value| {
        let queue = value.as_bool().ok_or_else(|| Invalid { allowed: "true or false".into() })?;
        Ok((queue, value.clone()))
    })?;
    let callback = take_callback(&mut members)?.map(Arc::new);
    if let (Some(queue_ttl), Some(_)) = (queue_ttl, &callback) {
        return Err(Error::InvalidMember {
            member: "queue_ttl".into(),
            allowed: "left out beside `callback`: such a claim keeps its place without requests"
                .into(),
            got: format_duration(queue_ttl),
        });
    }
    let fingerprint = Sha256::digest(members.canonical().as_bytes()).into();
    Ok(ClaimRequest {
        permits,
        holder,
        labels: labels.unwrap_or_else(Labels::default),
        priority: priority.unwrap_or_default(),
        ttl,
        queue_ttl,
        offer_ttl,
        wait_timeout,
        queue: queue.unwrap_or(true),
        callback,
        fingerprint,
    })
}

/// A member that is a text, through its type's own check.
pub(super) fn text<T>(
    value: &Value,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<(T, Value), Invalid> {
    // No text type takes an empty text, so this is the error of each of them.
    Ok((parse(value.as_str().unwrap_or_default())?, value.clone()))
}
