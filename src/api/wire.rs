//! What goes out over the wire: a contract, also in `openapi.json`.

use std::{collections::BTreeMap, time::Duration};

use serde::{Serialize, Serializer};

use crate::{
    model::{
        Callback, Claim, ClaimState, Delivery, DeliveryResult, Holder, JobId, Note, Revision,
        SemaphoreName, TokenId, WallTime,
    },
    semaphore::{ClaimStatus, core::Presence, core::SemaphoreView},
};

/// Of a lease, the part after which the holder should renew: a third leaves time for two more tries.
const RENEW_AFTER_PART: u32 = 3;
/// Where `max_hold` ends a claim, nobody is told to ask again sooner than this: it ends when the clock ticks, and until
/// then a renewal is answered and prolongs nothing.
const RENEW_AFTER_HOLD_MIN: Duration = Duration::from_secs(1);

/// A claim.
#[derive(Debug, Serialize)]
pub(super) struct ClaimBody<'a> {
    id: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    permits: BTreeMap<&'a str, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fences: Option<BTreeMap<&'a str, u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
    priority: i8,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    positions: Option<BTreeMap<&'a str, usize>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence: Option<&'static str>,
    queued_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    offered_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    granted_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_seconds: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    renew_after_seconds: Option<Seconds>,
    waited_seconds: Seconds,
    ttl_seconds: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ttl_seconds: Option<Seconds>,
    offer_ttl_seconds: Seconds,
    #[serde(skip_serializing_if = "Option::is_none")]
    wait_timeout_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackBody<'a>>,
    revision: u64,
}

/// Whom the service calls for a claim. Of a URL its origin: path and query may be a secret between its client and the
/// receiver.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum CallbackBody<'a> {
    Target {
        target: &'a str,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        vars: BTreeMap<&'a str, &'a str>,
    },
    Url {
        url: &'a str,
    },
}

impl<'a> CallbackBody<'a> {
    pub(super) fn of(callback: &'a Callback) -> CallbackBody<'a> {
        match callback {
            Callback::Target { name, vars } => {
                CallbackBody::Target { target: name.as_str(), vars: vars.iter().collect() }
            }
            Callback::Url(url) => {
                let url = url.as_str();
                let after_scheme = url.find("://").map_or(0, |at| at + "://".len());
                let origin =
                    url[after_scheme..].find(['/', '?']).map_or(url.len(), |at| after_scheme + at);
                CallbackBody::Url { url: &url[..origin] }
            }
        }
    }
}

/// What was tried to call.
#[derive(Debug, Serialize)]
pub(super) struct DeliveriesBody<'a> {
    pub(super) deliveries: Vec<DeliveryBody>,
    pub(super) webhook_id: String,
    pub(super) callback: CallbackBody<'a>,
    pub(super) next_attempt_at: Option<Time>,
    pub(super) delayed_by: Option<&'static str>,
    pub(super) claim_state: &'static str,
    pub(super) revision: u64,
}

/// One try. Of the answer there is nothing but its status.
#[derive(Debug, Serialize)]
pub(super) struct DeliveryBody {
    pub(super) number: usize,
    pub(super) started_at: Time,
    pub(super) duration_seconds: Seconds,
    pub(super) status: Option<u16>,
    pub(super) error: Option<&'static str>,
    pub(super) result: &'static str,
}

impl DeliveryBody {
    pub(super) fn new(number: usize, delivery: &Delivery) -> DeliveryBody {
        let (status, error) = match delivery.result {
            DeliveryResult::Answered { status } => (Some(status), None),
            DeliveryResult::Failed(failure) => (None, Some(failure.as_str())),
            DeliveryResult::Unfinished => (None, None),
        };
        DeliveryBody {
            number,
            started_at: Time(delivery.started_at),
            duration_seconds: Seconds(delivery.duration),
            status,
            error,
            result: match delivery.result {
                DeliveryResult::Unfinished => "unfinished",
                _ if delivery.is_success() => "delivered",
                _ => "failed",
            },
        }
    }
}

/// The seconds that a reader expects. Not [`Duration::as_secs_f64`], which adds two parts, so that 5.815 s come out as
/// 5.8149999999999995.
pub(super) fn milliseconds_as_seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

/// A length of time in seconds: a whole number where it is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seconds(pub(super) Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms.is_multiple_of(1_000) {
            return serializer.serialize_u64(ms / 1_000);
        }
        serializer.serialize_f64(milliseconds_as_seconds(ms))
    }
}

/// A point in time: RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Time(pub(super) WallTime);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_rfc3339())
    }
}

impl<'a> ClaimBody<'a> {
    /// A live claim.
    pub(super) fn live(status: &'a ClaimStatus) -> ClaimBody<'a> {
        let claim = &status.claim;
        let names = claim.terms.permits.names();
        let waits = !status.positions.is_empty();
        let positions = names.map(SemaphoreName::as_str).zip(status.positions.iter().copied());
        let body = ClaimBody::of(claim, status.now.wall, status.seen);
        ClaimBody {
            position: status.positions.iter().copied().max(),
            positions: waits.then(|| positions.collect()),
            presence: status.presence.map(|presence| match presence {
                Presence::Absent(_) => "absent",
                _ => "present",
            }),
            expires_at: status.expires_at.map(Time),
            expires_in_seconds: status.expires_at.map(|at| Seconds(at.since(status.now.wall))),
            renew_after_seconds: renew_after(&claim.state, status.now.wall).map(Seconds),
            wait_timeout_at: status.wait_until.map(Time),
            ..body
        }
    }

    /// The same in a list, without the vars of its callback: a page of a thousand could have megabytes of them.
    pub(super) fn in_a_list(mut self) -> ClaimBody<'a> {
        if let Some(CallbackBody::Target { vars, .. }) = &mut self.callback {
            vars.clear();
        }
        self
    }

    /// What a claim shows in any state.
    pub(super) fn of(claim: &'a Claim, now: WallTime, revision: Revision) -> ClaimBody<'a> {
        let terms = &claim.terms;
        let names = || terms.permits.names().map(SemaphoreName::as_str);
        let mut body = ClaimBody {
            id: claim.id.as_str(),
            state: claim.state.as_str(),
            reason: None,
            permits: terms.permits.iter().map(|(name, n)| (name.as_str(), n)).collect(),
            fences: claim.fences().map(|f| names().zip(f.iter().map(|fence| fence.0)).collect()),
            holder: terms.holder.as_ref().map(Holder::as_str),
            labels: terms.labels.iter().collect(),
            priority: terms.priority.value(),
            position: None,
            positions: None,
            presence: None,
            queued_at: Time(claim.queued_at),
            offered_at: None,
            granted_at: None,
            ended_at: None,
            expires_at: None,
            expires_in_seconds: None,
            renew_after_seconds: None,
            waited_seconds: Seconds(now.since(claim.queued_at)),
            ttl_seconds: Seconds(terms.ttl),
            queue_ttl_seconds: terms.queue_ttl.map(Seconds),
            offer_ttl_seconds: Seconds(terms.offer_ttl),
            wait_timeout_at: None,
            note: None,
            token_id: claim.owner.as_ref().map(TokenId::as_str),
            job: claim.job.as_ref().map(JobId::as_str),
            callback: claim.callback.as_ref().map(|record| CallbackBody::of(&record.callback)),
            revision: revision.0,
        };
        body.set_state(claim);
        body
    }

    fn set_state(&mut self, claim: &'a Claim) {
        match &claim.state {
            ClaimState::Waiting => {}
            ClaimState::Offered { offered_at, .. } => {
                self.offered_at = Some(Time(*offered_at));
                self.waited_seconds = Seconds(offered_at.since(claim.queued_at));
            }
            ClaimState::Held { granted_at, ttl, .. } => {
                self.granted_at = Some(Time(*granted_at));
                self.waited_seconds = Seconds(granted_at.since(claim.queued_at));
                self.ttl_seconds = Seconds(*ttl);
            }
            ClaimState::Ended { reason, ended_at, granted_at, note, .. } => {
                self.reason = Some(reason.as_str());
                self.ended_at = Some(Time(*ended_at));
                self.granted_at = granted_at.map(Time);
                let waited_until = granted_at.unwrap_or(*ended_at);
                self.waited_seconds = Seconds(waited_until.since(claim.queued_at));
                self.note = note.as_ref().map(Note::as_str);
            }
        }
    }
}

/// When the holder should ask again: after a part of its lease; where `max_hold` ends the claim sooner, then, for no
/// renewal before it prolongs anything.
fn renew_after(state: &ClaimState, now: WallTime) -> Option<Duration> {
    let ClaimState::Held { ttl, hold_until, .. } = state else { return None };
    let part = *ttl / RENEW_AFTER_PART;
    let hold = hold_until.map(|until| until.since(now).max(RENEW_AFTER_HOLD_MIN));
    Some(hold.map_or(part, |hold| part.min(hold)))
}

/// A page of claims.
#[derive(Debug, Serialize)]
pub(super) struct ClaimsBody<'a> {
    pub(super) claims: Vec<ClaimBody<'a>>,
    pub(super) next: Option<String>,
    pub(super) revision: u64,
}

/// A semaphore.
#[derive(Debug, Serialize)]
pub(super) struct SemaphoreBody<'a> {
    name: &'a str,
    capacity: u32,
    state: &'static str,
    in_use: u64,
    offered: u64,
    cooling: u64,
    set_aside: u64,
    available: u64,
    over_committed: u64,
    waiting: usize,
    longest_wait_seconds: Seconds,
    default_ttl_seconds: Seconds,
    max_ttl_seconds: Seconds,
    max_hold_seconds: Option<Seconds>,
    queue_ttl_seconds: Seconds,
    offer_ttl_seconds: Option<Seconds>,
    wait_timeout_seconds: Option<Seconds>,
    cooldown_seconds: Seconds,
    description: Option<&'a str>,
    origin: &'static str,
    revision: u64,
}

impl<'a> SemaphoreBody<'a> {
    /// A semaphore; `revision` is what the reply rests on.
    pub(super) fn new(
        view: &'a SemaphoreView,
        now: WallTime,
        revision: Revision,
    ) -> SemaphoreBody<'a> {
        let settings = &view.settings;
        let longest = view.longest_waiting_since.map_or(Duration::ZERO, |since| now.since(since));
        SemaphoreBody {
            name: view.name.as_str(),
            capacity: settings.capacity,
            state: settings.state.as_str(),
            in_use: view.in_use,
            offered: view.offered,
            cooling: view.cooling,
            set_aside: view.set_aside,
            available: view.available,
            over_committed: view.over_committed,
            waiting: view.waiting,
            longest_wait_seconds: Seconds(longest),
            default_ttl_seconds: Seconds(settings.default_ttl),
            max_ttl_seconds: Seconds(settings.max_ttl),
            max_hold_seconds: settings.max_hold.map(Seconds),
            queue_ttl_seconds: Seconds(settings.queue_ttl),
            offer_ttl_seconds: settings.offer_ttl.map(Seconds),
            wait_timeout_seconds: settings.wait_timeout.map(Seconds),
            cooldown_seconds: Seconds(settings.cooldown),
            description: settings.description.as_ref().map(Note::as_str),
            origin: view.origin.as_str(),
            revision: revision.0,
        }
    }
}

/// All semaphores.
#[derive(Debug, Serialize)]
pub(super) struct SemaphoresBody<'a> {
    pub(super) semaphores: Vec<SemaphoreBody<'a>>,
    pub(super) revision: u64,
}

/// The service as a whole.
#[derive(Debug, Serialize)]
pub(super) struct ServiceBody {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) state: &'static str,
    pub(super) started_at: Time,
    pub(super) uptime_seconds: Seconds,
    pub(super) semaphores: usize,
    pub(super) claims: usize,
    pub(super) waiting_requests: usize,
    pub(super) waiting_requests_max: usize,
    pub(super) storage: &'static str,
    pub(super) revision: u64,
}
