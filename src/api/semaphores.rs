//! The calls about semaphores.

use std::time::Duration;

use serde_json::Value;

use super::{
    Answer, Api, Blocked, Error, Handled, Outcome, Reply, Step,
    access::{Admitted, Caller},
    audit::{settings_changed, settings_removed},
    body::Members,
    claims::{semaphore_name, text},
    query::{Query, Wait},
    refusal::seconds,
    wire::{SemaphoreBody, SemaphoresBody},
};
use crate::{
    model::{
        Invalid, Note, Origin, Revision, SemaphoreName, SemaphoreSettings, SemaphoreState, bounds,
    },
    semaphore::{Asker, Refusal, Seen, SetSettings, core::SemaphoreView},
};

/// The settings that a call may give.
const SETTINGS_MEMBERS: [&str; 9] = [
    "capacity",
    "state",
    "default_ttl",
    "max_ttl",
    "max_hold",
    "queue_ttl",
    "offer_ttl",
    "wait_timeout",
    "cooldown",
];
const DESCRIPTION: &str = "description";

/// Why a change of settings did not come about.
enum ChangeError {
    Refused(Refusal),
    /// There is no such semaphore.
    Unknown,
    /// The settings that it would get are wrong.
    Wrong(Error),
}

impl From<Refusal> for ChangeError {
    fn from(refusal: Refusal) -> ChangeError {
        ChangeError::Refused(refusal)
    }
}

impl Api {
    pub(super) fn list_semaphores(&self, call: &Admitted<'_>) -> Handled {
        self.semaphores_or_wait(call, None)
    }

    pub(super) fn show_semaphore(&self, call: &Admitted<'_>, name: &str) -> Handled {
        self.semaphores_or_wait(call, Some(semaphore_name(name)?))
    }

    fn semaphores_or_wait(&self, call: &Admitted<'_>, name: Option<SemaphoreName>) -> Handled {
        let query = Query::of(call, &["since", "wait"])?;
        let (since, wait) = (query.since()?, query.wait(self.options.wait_max)?);
        // As with a name that nobody has, there is nothing to wait for: a hidden one must not show by the time it takes.
        let is_hidden = name.as_ref().is_some_and(|name| !call.caller.sees(name));
        if let Some(block) = wait.wait.filter(|_| !is_hidden) {
            let since = since.unwrap_or(self.service.committed());
            let (api, caller, asker) = (self.clone(), call.caller.clone(), call.asker());
            let watch = BlockedWatch { api, caller, asker, name, since, block, wait };
            return Ok(Step::Blocked(Box::new(watch)));
        }
        Ok(Step::Done(self.semaphores_reply(&call.caller, name.as_ref(), wait)))
    }

    fn semaphores_reply(&self, caller: &Caller, name: Option<&SemaphoreName>, wait: Wait) -> Reply {
        let now = self.service.now().wall;
        let reply = match name {
            Some(name) => {
                let Seen { what, revision } = self.service.semaphore(name);
                match what.filter(|_| caller.sees(name)) {
                    Some(view) => {
                        let body = SemaphoreBody::new(&view, now, revision);
                        Reply::json(Outcome::Ok, &body, revision)
                    }
                    None => Reply::error(self.unknown_semaphore(caller, name), revision),
                }
            }
            None => {
                let Seen { what, revision } = self.service.semaphores();
                let body = |view| SemaphoreBody::new(view, now, revision);
                let seen = what.iter().filter(|view| caller.sees(&view.name));
                let semaphores = seen.map(body).collect();
                let body = SemaphoresBody { semaphores, revision: revision.0 };
                Reply::json(Outcome::Ok, &body, revision)
            }
        };
        reply.with(|answer| answer.wait_applied = wait.applied)
    }

    /// Registers a semaphore, or replaces its settings: what is left out has its default.
    pub(super) fn put_semaphore(&self, call: &Admitted<'_>, name: &str) -> Handled {
        let name = semaphore_name(name)?;
        let query = Query::of(call, &["force", "reason"])?;
        let (force, reason) = (query.force()?, query.reason()?);
        let patch = Patch::parse(&call.body)?;
        let Some(Some(capacity)) = patch.capacity else {
            let allowed = format!("a whole number from 1 to {}", bounds::CAPACITY_MAX);
            return Err(Error::MissingMember { member: "capacity", allowed }.into());
        };
        let defaults = SemaphoreSettings::with_capacity(capacity);
        self.change_semaphore(call, &name, (force, reason), |present| {
            let origin = present.map_or(Origin::Api, |view| view.origin);
            Ok((patch.apply(&defaults)?, origin))
        })
    }

    /// Changes the given settings; `null` is the default.
    pub(super) fn patch_semaphore(&self, call: &Admitted<'_>, name: &str) -> Handled {
        let name = semaphore_name(name)?;
        let query = Query::of(call, &["force", "reason"])?;
        let (force, reason) = (query.force()?, query.reason()?);
        let patch = Patch::parse(&call.body)?;
        self.change_semaphore(call, &name, (force, reason), |present| match present {
            Some(view) => Ok((patch.apply(&view.settings)?, view.origin)),
            None => Err(None),
        })
    }

    /// `change` gives the new settings; its error is what is wrong with them, or `None` where there is
    /// no such semaphore.
    fn change_semaphore(
        &self,
        call: &Admitted<'_>,
        name: &SemaphoreName,
        (force, reason): (bool, Option<Note>),
        change: impl Fn(Option<&SemaphoreView>) -> Result<(SemaphoreSettings, Origin), Option<Error>>,
    ) -> Handled {
        self.check_name(call, name)?;
        let changed = self.service.set_semaphore(name, force, &call.asker(), &|present| {
            let changed = change(present);
            let (settings, origin) =
                changed.map_err(|wrong| wrong.map_or(ChangeError::Unknown, ChangeError::Wrong))?;
            let audit = call.act(reason.clone());
            let audit = audit
                .map(|row| settings_changed(row, present.map(|view| &view.settings), &settings));
            Ok(SetSettings { settings, origin, audit })
        });
        let Seen { what: (registered, view), revision } = changed.map_err(|error| {
            let error = match error {
                ChangeError::Refused(refusal) => return self.refused(&call.caller, refusal),
                ChangeError::Unknown => self.unknown_semaphore(&call.caller, name),
                ChangeError::Wrong(error) => error,
            };
            // It rests on the present settings, or that there are none. This is not older.
            Reply::error(error, self.service.status().revision)
        })?;
        let outcome = if registered { Outcome::Created } else { Outcome::Ok };
        let body = SemaphoreBody::new(&view, self.service.now().wall, revision);
        Ok(Step::Done(Reply::json(outcome, &body, revision)))
    }

    pub(super) fn delete_semaphore(&self, call: &Admitted<'_>, name: &str) -> Handled {
        let name = semaphore_name(name)?;
        let query = Query::of(call, &["force", "reason"])?;
        let (force, reason) = (query.force()?, query.reason()?);
        self.check_name(call, &name)?;
        let row = |view: &SemaphoreView| {
            call.act(reason.clone()).map(|row| settings_removed(row, &view.settings))
        };
        let force = (force, reason.clone());
        let removed = self.service.remove_semaphore(&name, force, &call.asker(), &row);
        let Seen { revision, .. } =
            removed.map_err(|refusal| self.refused(&call.caller, refusal))?;
        let answer = Answer::new(Outcome::Done, None, revision);
        Ok(Step::Done(Reply { result: Ok(answer), after: revision }))
    }

    /// An admin for some semaphores neither sees nor makes others.
    fn check_name(&self, call: &Admitted<'_>, name: &SemaphoreName) -> Result<(), Error> {
        if call.caller.sees(name) {
            Ok(())
        } else {
            Err(self.unknown_semaphore(&call.caller, name))
        }
    }
}

/// A look at semaphores that waits for a change.
struct BlockedWatch {
    api: Api,
    caller: Caller,
    asker: Asker,
    name: Option<SemaphoreName>,
    since: Revision,
    block: Duration,
    wait: Wait,
}

impl Blocked for BlockedWatch {
    fn wait(self: Box<Self>) -> Reply {
        let name = self.name.as_ref();
        self.api.service.watch_semaphores(name, self.since, self.block, &self.asker);
        // What the token may see now, not what it might when the wait began.
        match self.api.present(&self.caller) {
            Ok(caller) => self.api.semaphores_reply(&caller, name, self.wait),
            Err(error) => error.into(),
        }
    }
}

/// The given settings: `None` was left out, `Some(None)` is `null`.
#[derive(Debug, Default)]
struct Patch {
    capacity: Option<Option<u32>>,
    state: Option<Option<SemaphoreState>>,
    default_ttl: Option<Option<Duration>>,
    max_ttl: Option<Option<Duration>>,
    max_hold: Option<Option<Duration>>,
    queue_ttl: Option<Option<Duration>>,
    offer_ttl: Option<Option<Duration>>,
    wait_timeout: Option<Option<Duration>>,
    cooldown: Option<Option<Duration>>,
    description: Option<Option<Note>>,
}

impl Patch {
    fn parse(body: &[u8]) -> Result<Patch, Error> {
        let mut known = SETTINGS_MEMBERS.to_vec();
        known.push(DESCRIPTION);
        let mut members = Members::parse(body, false, &known)?;
        let mut patch = Patch::default();
        let min = bounds::DURATION_MIN;
        let capacity = |value: &Value| capacity(value).map(|c| (c, value.clone()));
        patch.capacity = members.take("capacity", capacity)?.map(Some);
        patch.state = nullable(&mut members, "state", |m| m.take("state", state))?;
        let durations: [(&mut Option<Option<Duration>>, &'static str, Duration, Duration); 7] = [
            (&mut patch.default_ttl, "default_ttl", min, bounds::TTL_MAX),
            (&mut patch.max_ttl, "max_ttl", min, bounds::TTL_MAX),
            (&mut patch.max_hold, "max_hold", min, bounds::MAX_HOLD_MAX),
            (&mut patch.queue_ttl, "queue_ttl", min, bounds::QUEUE_TTL_MAX),
            (&mut patch.offer_ttl, "offer_ttl", min, bounds::OFFER_TTL_MAX),
            (&mut patch.wait_timeout, "wait_timeout", min, bounds::WAIT_TIMEOUT_MAX),
            (&mut patch.cooldown, "cooldown", Duration::ZERO, bounds::COOLDOWN_MAX),
        ];
        for (setting, name, shortest, longest) in durations {
            *setting = nullable(&mut members, name, |m| m.take_duration(name, shortest, longest))?;
        }
        patch.description = nullable(&mut members, DESCRIPTION, |m| {
            m.take(DESCRIPTION, |value| text(value, Note::new))
        })?;
        Ok(patch)
    }

    /// These settings over `present`, checked.
    fn apply(&self, present: &SemaphoreSettings) -> Result<SemaphoreSettings, Option<Error>> {
        let defaults = SemaphoreSettings::with_capacity(present.capacity);
        let max_ttl = patched(self.max_ttl, present.max_ttl, defaults.max_ttl);
        let settings = SemaphoreSettings {
            capacity: self.capacity.flatten().unwrap_or(present.capacity),
            state: patched(self.state, present.state, defaults.state),
            // Where it is not said, it is not what makes a low `max_ttl` wrong.
            default_ttl: match self.default_ttl.flatten() {
                Some(default_ttl) => default_ttl,
                None if self.default_ttl.is_some() => defaults.default_ttl.min(max_ttl),
                None => present.default_ttl.min(max_ttl),
            },
            max_ttl,
            max_hold: self.max_hold.unwrap_or(present.max_hold),
            queue_ttl: patched(self.queue_ttl, present.queue_ttl, defaults.queue_ttl),
            offer_ttl: self.offer_ttl.unwrap_or(present.offer_ttl),
            wait_timeout: self.wait_timeout.unwrap_or(present.wait_timeout),
            cooldown: patched(self.cooldown, present.cooldown, defaults.cooldown),
            description: self.description.clone().unwrap_or(present.description.clone()),
        };
        // Each by itself is within its bounds already; what is left is `default_ttl` over `max_ttl`.
        settings.check().map_err(|error| {
            Some(Error::InvalidMember {
                member: error.member.into(),
                allowed: format!("{} (its `max_ttl`)", error.allowed),
                got: seconds(settings.default_ttl),
            })
        })?;
        Ok(settings)
    }
}

fn patched<T>(patch: Option<Option<T>>, present: T, default: T) -> T {
    match patch {
        None => present,
        Some(None) => default,
        Some(Some(value)) => value,
    }
}

fn nullable<T>(
    members: &mut Members,
    name: &str,
    take: impl FnOnce(&mut Members) -> Result<Option<T>, Error>,
) -> Result<Option<Option<T>>, Error> {
    if members.take_null(name) {
        return Ok(Some(None));
    }
    Ok(take(members)?.map(Some))
}

fn capacity(value: &Value) -> Result<u32, Invalid> {
    let capacity = value.as_u64().and_then(|capacity| u32::try_from(capacity).ok());
    capacity.filter(|capacity| (1..=bounds::CAPACITY_MAX).contains(capacity)).ok_or_else(|| {
        Invalid {
            allowed: format!(
                "a whole number from 1 to {} (to grant nothing, set \"state\": \"draining\")",
                bounds::CAPACITY_MAX
            ),
        }
    })
}

fn state(value: &Value) -> Result<(SemaphoreState, Value), Invalid> {
    match value.as_str() {
        Some("open") => Ok((SemaphoreState::Open, value.clone())),
        Some("draining") => Ok((SemaphoreState::Draining, value.clone())),
        _ => Err(Invalid { allowed: "\"open\" or \"draining\"".into() }),
    }
}
