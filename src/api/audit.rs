//! The audit log: what its rows say, and the call that reads it.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Api, Blocked, Error, Handled, Outcome, Reply, Step,
    access::{Admitted, Caller},
    query::Query,
    wire::Seconds,
};
use crate::{
    model::{
        Actor, AuditEntry, Claim, Holder, JobId, Note, Revision, SemaphoreSettings, SemaphoreState,
        TokenId,
    },
    semaphore::Seen,
    storage::{AuditFilter, AuditRow},
};

impl Api {
    pub(super) fn audit(&self, call: &Admitted<'_>) -> Handled {
        let known =
            ["token", "actor", "action", "object", "result", "since", "until", "limit", "after"];
        let query = Query::of(call, &known)?;
        let rows_max = query.limit()?;
        let filter = AuditFilter {
            before: query.page()?,
            since: query.time("since")?,
            until: query.time("until")?,
            token: query.token()?,
            actor: query.actor()?,
            action: query.word("action")?,
            object: query.word("object")?,
            result: query.word("result")?,
            // One more tells whether there is another page.
            rows_max: rows_max + 1,
        };
        // It reads the disk, perhaps for seconds: not on a thread that releases wait for.
        let (api, caller) = (self.clone(), call.caller.clone());
        Ok(Step::Blocked(Box::new(BlockedAudit { api, caller, filter })))
    }

    fn audit_reply(&self, caller: &Caller, filter: &AuditFilter) -> Result<Reply, Reply> {
        let rows_max = filter.rows_max - 1;
        let seen = self.service.audit(filter);
        let Seen { what: mut rows, revision } =
            seen.map_err(|refusal| self.refused(caller, refusal))?;
        let is_more = rows.len() > rows_max;
        rows.truncate(rows_max);
        let next = rows.last().filter(|_| is_more).map(|row| row.revision.to_string());
        let entries = rows.iter().map(body).collect::<Result<Vec<_>, _>>()?;
        let body = json!({ "entries": entries, "next": next, "revision": revision.0 });
        Ok(Reply::json(Outcome::Ok, &body, revision))
    }

    /// Notes an act that changes nothing itself, when it is done or is about to be; returns what the reply rests on.
    pub(super) fn note_act(
        &self,
        caller: &Caller,
        row: Option<Box<AuditEntry>>,
    ) -> Result<Revision, Reply> {
        let Some(row) = row else { return Ok(Revision(0)) };
        self.service.note_act(*row).map_err(|refusal| self.refused(caller, refusal))
    }
}

/// A look into the audit log.
struct BlockedAudit {
    api: Api,
    caller: Caller,
    filter: AuditFilter,
}

impl Blocked for BlockedAudit {
    fn wait(self: Box<Self>) -> Reply {
        self.api.audit_reply(&self.caller, &self.filter).unwrap_or_else(|refused| refused)
    }
}

/// A row as replies show it.
fn body(row: &AuditRow) -> Result<Map<String, Value>, Error> {
    let AuditRow { revision, at, entry } = row;
    let AuditEntry { actor, address, action, object, old, new, reason, result, tries } = entry;
    let mut body = Map::new();
    let mut put = |member: &str, value: Value| body.insert(member.into(), value);
    put("revision", revision.0.into());
    put("at", at.to_rfc3339().into());
    put("actor", actor.as_str().into());
    if let Actor::Token { id, name } = actor {
        put("token_id", id.as_str().into());
        put("token_name", name.as_str().into());
    }
    if let Some(address) = address {
        put("address", address.to_string().into());
    }
    put("action", action.to_string().into());
    put("object", object.to_string().into());
    for (member, text) in [("old", old), ("new", new)] {
        if let Some(text) = text {
            let value = serde_json::from_str(text).map_err(|error| {
                log::error!("revision {revision} of the audit log is not JSON: {error}");
                Error::Internal
            })?;
            put(member, value);
        }
    }
    if let Some(reason) = reason {
        put("reason", reason.as_str().into());
    }
    put("result", result.to_string().into());
    if let Some(tries) = tries {
        put("tries", tries.count.into());
        put("minute", tries.minute.to_rfc3339().into());
    }
    Ok(body)
}

/// Completes the row about a semaphore's settings: those that become others, before and after.
pub fn settings_changed(
    mut row: Box<AuditEntry>,
    old: Option<&SemaphoreSettings>,
    new: &SemaphoreSettings,
) -> Box<AuditEntry> {
    let mut after = settings(new);
    if let Some(old) = old {
        let mut before = settings(old);
        before.retain(|member, value| after.get(member) != Some(value));
        after.retain(|member, _| before.contains_key(member));
        row.old = Some(Value::Object(before).to_string().into());
    }
    row.new = Some(Value::Object(after).to_string().into());
    row
}

/// Completes the row about a semaphore that is unregistered: all that it was.
pub fn settings_removed(mut row: Box<AuditEntry>, old: &SemaphoreSettings) -> Box<AuditEntry> {
    row.old = Some(Value::Object(settings(old)).to_string().into());
    row
}

/// Completes the row about a claim of somebody: what it was.
pub(super) fn claim_row(mut row: AuditEntry, claim: &Claim) -> Box<AuditEntry> {
    let permits = claim.terms.permits.iter().map(|(name, n)| (name.to_string(), n.into()));
    let old = json!({
        "state": claim.state.as_str(),
        "permits": permits.collect::<Map<String, Value>>(),
        "holder": claim.terms.holder.as_ref().map(Holder::as_str),
        "token_id": claim.owner.as_ref().map(TokenId::as_str),
        "job": claim.job.as_ref().map(JobId::as_str),
    });
    row.old = Some(old.to_string().into());
    Box::new(row)
}

/// Settings under the names that requests give them.
fn settings(settings: &SemaphoreSettings) -> Map<String, Value> {
    let seconds = |duration: Duration| json!(Seconds(duration));
    let state = match settings.state {
        SemaphoreState::Open => "open",
        SemaphoreState::Draining => "draining",
    };
    let settings = json!({
        "capacity": settings.capacity,
        "state": state,
        "default_ttl": seconds(settings.default_ttl),
        "max_ttl": seconds(settings.max_ttl),
        "max_hold": settings.max_hold.map(seconds),
        "queue_ttl": seconds(settings.queue_ttl),
        "offer_ttl": settings.offer_ttl.map(seconds),
        "wait_timeout": settings.wait_timeout.map(seconds),
        "cooldown": seconds(settings.cooldown),
        "description": settings.description.as_ref().map(Note::as_str),
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}

/// A change whose page comes next, as `next` writes it.
pub(super) fn read_page(text: &str) -> Option<Revision> {
    text.parse().ok().map(Revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Box<AuditEntry> {
        Box::new(AuditEntry::done(Actor::Daemon, "semaphore.set", "semaphore a".into()))
    }

    #[test]
    fn a_change_shows_what_it_changed() {
        let old = SemaphoreSettings::with_capacity(5);
        let new = SemaphoreSettings { capacity: 7, ..old.clone() };
        let changed = settings_changed(row(), Some(&old), &new);
        assert_eq!(changed.old.as_deref(), Some("{\"capacity\":5}"));
        assert_eq!(changed.new.as_deref(), Some("{\"capacity\":7}"));
        let made = settings_changed(row(), None, &new);
        assert_eq!(made.old, None);
        assert!(made.new.unwrap().contains("\"cooldown\":0,"));
    }
}
