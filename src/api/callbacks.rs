//! The calls about callbacks: what a claim asks for, what came of it, targets and tests.

use serde_json::{Value, json};

use super::{
    Api, Blocked, Error, Handled, Outcome, Reply, Step,
    access::{Admitted, Caller},
    body::{Members, invalid_member, shorten},
    claims::{claim_id, text},
    query::Query,
    wire::{CallbackBody, DeliveriesBody, DeliveryBody, Time},
};
use crate::{
    callbacks::{Delay, Refusal, TESTS_MAX, Test, Tested},
    model::{
        AuditEntry, Callback, CallbackUrl, Claim, ClaimId, ClaimRequest, ClaimState,
        DELIVERIES_MAX, Invalid, Revision, TargetName, Vars, nearest,
    },
    semaphore::{ClaimLook, Seen},
};

/// What a callback must be.
const ALLOWED: &str = "an object with a `target` and perhaps its `vars`, or with a `url`: {\"target\": \"gitlab-fpga\"}";
const VARS_ALLOWED: &str = "an object of names and texts: {\"project\": \"42\"}";

/// Takes the member `callback` of a claim request.
pub(super) fn take_callback(members: &mut Members) -> Result<Option<Callback>, Error> {
    let Some(object) = members.take_object("callback", ALLOWED)? else { return Ok(None) };
    let known = ["target", "vars", "url"];
    if let Some(member) = object.keys().find(|member| !known.contains(&member.as_str())) {
        return Err(Error::UnknownMember {
            member: format!("callback.{}", shorten(member)),
            allowed: known.map(|member| format!("callback.{member}")).join(", "),
            suggestion: nearest(member, known).map(|member| format!("callback.{member}")),
        });
    }
    let wrong = || {
        let invalid = Invalid { allowed: ALLOWED.into() };
        invalid_member("callback", &invalid, &Value::Object(object.clone()))
    };
    match (object.get("target"), object.get("url"), object.get("vars")) {
        (Some(target), None, vars) => {
            let name = part("callback.target", target, TargetName::new)?;
            let vars = vars.map(|value| vars_of("callback.vars", value)).transpose()?;
            Ok(Some(Callback::Target { name, vars: vars.unwrap_or_default() }))
        }
        (None, Some(url), None) => {
            Ok(Some(Callback::Url(part("callback.url", url, CallbackUrl::new)?)))
        }
        _ => Err(wrong()),
    }
}

fn part<T>(
    member: &str,
    value: &Value,
    parse: impl FnOnce(&str) -> Result<T, Invalid>,
) -> Result<T, Error> {
    let parsed = text(value, parse).map_err(|invalid| invalid_member(member, &invalid, value))?;
    Ok(parsed.0)
}

fn vars_of(member: &str, value: &Value) -> Result<Vars, Error> {
    let wrong = |allowed: &str, value: &Value| {
        invalid_member(member, &Invalid { allowed: allowed.into() }, value)
    };
    let object = value.as_object().ok_or_else(|| wrong(VARS_ALLOWED, value))?;
    let texts = object.iter().map(|(name, value)| {
        let text = value.as_str().ok_or_else(|| wrong(VARS_ALLOWED, value))?;
        Ok((name.clone(), text.to_owned()))
    });
    let vars = Vars::new(texts.collect::<Result<_, Error>>()?);
    vars.map_err(|invalid| wrong(&invalid.allowed, value))
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        Error::CallbackRefused { problem: refusal.to_string() }
    }
}

impl Api {
    /// Whether the callback of a request may be called. A claim that exists already is not asked again: its
    /// registering client may repeat its request whatever the configuration has become.
    pub(super) fn check_callback(&self, id: &ClaimId, request: &ClaimRequest) -> Result<(), Error> {
        let Some(callback) = &request.callback else { return Ok(()) };
        match self.callbacks.check(callback) {
            Err(refusal) if !self.service.is_known(id) => Err(refusal.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(super) fn list_deliveries(&self, call: &Admitted<'_>, id: &str) -> Handled {
        let id = claim_id(id)?;
        Query::of(call, &[])?;
        let Seen { what: look, revision } = self.look_at(call, &id)?;
        self.deliveries(Outcome::Ok, claim_of(&look), revision)
    }

    pub(super) fn retry_delivery(&self, call: &Admitted<'_>, id: &str, number: &str) -> Handled {
        let id = claim_id(id)?;
        Query::of(call, &[])?;
        Members::parse(&call.body, true, &[])?;
        let Seen { what: look, revision } = self.look_at(call, &id)?;
        let claim = claim_of(&look);
        let Some(record) = &claim.callback else { return Err(no_callback(claim, revision)) };
        // The first one may be asked for before it was made: a pause may hold it back.
        let known = number.parse().is_ok_and(|n| (1..=record.deliveries.len().max(1)).contains(&n));
        if !known {
            let (id, number) = (claim.id.to_string(), shorten(number));
            let deliveries = record.deliveries.len();
            return Err(Reply::error(Error::UnknownDelivery { id, number, deliveries }, revision));
        }
        if !matches!(claim.state, ClaimState::Offered { .. }) {
            let (id, state) = (claim.id.to_string(), claim.state.as_str());
            return Err(Reply::error(Error::NotOffered { id, state }, revision));
        }
        if record.deliveries.len() >= DELIVERIES_MAX {
            let (id, limit) = (claim.id.to_string(), DELIVERIES_MAX);
            return Err(Reply::error(Error::TooManyDeliveries { id, limit }, revision));
        }
        let is_others =
            call.caller.token().is_some_and(|token| claim.owner.as_ref() != Some(&token.id));
        let row = call.on_another("delivery.retry", &claim.id).filter(|_| is_others);
        let noted = self.note_act(&call.caller, row.map(|row| row(claim)))?;
        self.callbacks.ask(claim.sequence);
        self.deliveries(Outcome::Accepted, claim, revision.max(noted))
    }

    fn look_at(&self, call: &Admitted<'_>, id: &ClaimId) -> Result<Seen<ClaimLook>, Reply> {
        let look = self.service.look(id, &call.asker());
        look.map_err(|refusal| self.refused(&call.caller, refusal))
    }

    fn deliveries(&self, outcome: Outcome, claim: &Claim, revision: Revision) -> Handled {
        let Some(record) = &claim.callback else { return Err(no_callback(claim, revision)) };
        let now = self.service.now().wall;
        let is_offered = matches!(claim.state, ClaimState::Offered { .. });
        let next = self.callbacks.next_try_in(claim.sequence).filter(|_| is_offered);
        let numbered = (1..).zip(&record.deliveries);
        let body = DeliveriesBody {
            deliveries: numbered.map(|(n, tried)| DeliveryBody::new(n, tried)).collect(),
            webhook_id: claim.webhook_id(),
            callback: CallbackBody::of(&record.callback),
            next_attempt_at: next.map(|(wait, _)| Time(now.after(wait))),
            delayed_by: next.and_then(|(_, delay)| delay).map(reason),
            claim_state: claim.state.as_str(),
            revision: revision.0,
        };
        Ok(Step::Done(Reply::json(outcome, &body, revision)))
    }

    pub(super) fn list_targets(&self, call: &Admitted<'_>) -> Handled {
        Query::of(call, &[])?;
        let now = self.service.now().wall;
        let targets: Vec<Value> = self
            .callbacks
            .targets()
            .into_iter()
            .map(|target| {
                json!({
                    "name": target.name,
                    "preset": target.preset,
                    "url": target.url,
                    "state": if target.lane.is_open { "open" } else { "closed" },
                    "paused_until": target.lane.paused_for.map(|left| Time(now.after(left))),
                    "queued": target.lane.queued,
                })
            })
            .collect();
        let body = json!({ "targets": targets });
        Ok(Step::Done(Reply::json(Outcome::Ok, &body, Revision(0))))
    }

    pub(super) fn test_target(&self, call: &Admitted<'_>, name: &str) -> Handled {
        Query::of(call, &[])?;
        let mut members = Members::parse(&call.body, true, &["vars"])?;
        let object = members.take_object("vars", VARS_ALLOWED)?;
        let vars = object.map(|object| vars_of("vars", &Value::Object(object))).transpose()?;
        let targets = self.callbacks.targets();
        let Some(target) = targets.iter().find(|target| target.name == name) else {
            let names = targets.iter().map(|target| target.name.as_str());
            let suggestion = nearest(name, names).map(str::to_owned);
            return Err(Error::UnknownTarget { target: shorten(name), suggestion }.into());
        };
        let name = TargetName::new(&target.name).map_err(|_| Error::Internal)?;
        let callback = Callback::Target { name, vars: vars.unwrap_or_default() };
        self.callbacks.check(&callback).map_err(Error::from)?;
        let Some(test) = self.callbacks.begin_test(callback) else {
            let limit = TESTS_MAX;
            return Err(Error::ServiceFull { bound: "callback_tests_max", limit }.into());
        };
        let (api, caller, row) = (self.clone(), call.caller.clone(), call.act(None));
        let target = target.name.clone();
        Ok(Step::Blocked(Box::new(BlockedTest { api, caller, row, test, target })))
    }
}

/// A test of a target: takes as long as the receiver does.
struct BlockedTest {
    api: Api,
    caller: Caller,
    row: Option<Box<AuditEntry>>,
    test: Test,
    target: String,
}

impl Blocked for BlockedTest {
    fn wait(self: Box<Self>) -> Reply {
        let BlockedTest { api, caller, row, test, target } = *self;
        // Before, and on disk: whatever becomes of the service meanwhile, a job may have been started.
        let noted = match api.note_act(&caller, row) {
            Ok(noted) => noted,
            Err(refused) => return refused,
        };
        if !api.service.wait_for_commit(noted) {
            return Error::Stopping.into();
        }
        let Tested { webhook_id, delivery } = test.run();
        let tried = DeliveryBody::new(1, &delivery);
        let body = json!({
            "target": target,
            "delivered": delivery.is_success(),
            "status": tried.status,
            "error": tried.error,
            "started_at": tried.started_at,
            "duration_seconds": tried.duration_seconds,
            "webhook_id": webhook_id,
        });
        Reply::json(Outcome::Ok, &body, noted)
    }
}

/// The word for what delays a call.
fn reason(delay: Delay) -> &'static str {
    match delay {
        Delay::Pause => "retry-after",
        Delay::Breaker => "failures",
    }
}

fn claim_of(look: &ClaimLook) -> &Claim {
    match look {
        ClaimLook::Live(status) => &status.claim,
        ClaimLook::Ended(claim) => claim,
    }
}

fn no_callback(claim: &Claim, after: Revision) -> Reply {
    Reply::error(Error::NoCallback { id: claim.id.to_string() }, after)
}
