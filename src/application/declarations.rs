//! From the configuration's semaphores to the service's.
//!
//! A declaration is applied when it is new or has changed since it was last applied, so what an admin
//! changed at run time stays until the file says something new. Whether a semaphore drains the file cannot say: that stays
//! as it is.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::{
    api::{settings_changed, settings_removed},
    model::{
        Actor, AuditEntry, Declaration, Origin, SemaphoreName, SemaphoreSettings, SemaphoreState,
    },
    semaphore::{Asker, Refusal, Service, SetSettings, core},
};

/// Applies the declared semaphores, and logs what it did and what it could not do.
pub(crate) fn apply(service: &Service, declared: &BTreeMap<SemaphoreName, SemaphoreSettings>) {
    let present: BTreeMap<_, _> =
        service.semaphores().what.into_iter().map(|view| (view.name.clone(), view)).collect();
    for (name, settings) in declared {
        let origin = Origin::File(fingerprint(settings));
        if present.get(name).is_some_and(|view| view.origin == origin) {
            continue;
        }
        let change = |present: Option<&core::SemaphoreView>| {
            let old = present.map(|view| &view.settings);
            // No key of the file says it, so nothing in the file takes an admin's word back.
            let state = old.map_or(settings.state, |old| old.state);
            let settings = SemaphoreSettings { state, ..settings.clone() };
            let audit = Some(settings_changed(entry("semaphore.set", name), old, &settings));
            Ok(SetSettings { settings, origin, audit })
        };
        match service.set_semaphore::<Refusal>(name, false, &Asker::default(), &change) {
            Ok(seen) => {
                let (is_new, view) = seen.what;
                let verb = if is_new { "registered" } else { "changed" };
                let stays = match view.settings.state {
                    SemaphoreState::Open => "",
                    SemaphoreState::Draining => "; it stays draining",
                };
                log::info!("{verb} {name} as declared: capacity {}{stays}", settings.capacity);
            }
            Err(refusal) => log::error!(
                "the declaration of {name} was not applied: {}; it stays as it was",
                reason(&refusal)
            ),
        }
    }
    for (name, view) in present {
        if matches!(view.origin, Origin::File(_)) && !declared.contains_key(&name) {
            remove_undeclared(service, &name);
        }
    }
    // No reply waits for it, but jobs do when there are more permits now. If somebody else commits at the moment,
    // the ticker sees to the rest.
    let _ = service.commit();
}

/// A semaphore that vanished from the file goes too, but not under its claims, nor while permits cool: in the file again, it
/// would have them at once.
fn remove_undeclared(service: &Service, name: &SemaphoreName) {
    let row = |view: &core::SemaphoreView| {
        Some(settings_removed(entry("semaphore.remove", name), &view.settings))
    };
    match service.remove_semaphore(name, (false, None), &Asker::default(), &row) {
        Ok(_) => log::info!("unregistered {name}, which is not declared any more"),
        Err(refusal) => log::warn!(
            "{name} is not declared any more and is kept: {}; drain it, and once it is unused it goes at the next SIGHUP or start",
            reason(&refusal)
        ),
    }
}

/// What the audit log says.
fn entry(action: &str, name: &SemaphoreName) -> Box<AuditEntry> {
    Box::new(AuditEntry::done(Actor::Configuration, action, format!("semaphore {name}")))
}

fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Core(core::Error::WouldEndClaims { claims, .. }, _) => format!(
            "{claims} waiting claims ask for more than its capacity; let them end, or change the \
             capacity over the API with ?force=true"
        ),
        Refusal::Core(error, _) => error.to_string(),
        Refusal::StorageLow => "the disk is nearly full".into(),
        Refusal::Stopping => "the service is stopping".into(),
        Refusal::History => "the history cannot be read".into(),
    }
}

/// SHA-256 of what the declaration says. A setting that has its default does not count, so that a later
/// version with more settings sees the same declaration.
fn fingerprint(settings: &SemaphoreSettings) -> Declaration {
    let defaults = SemaphoreSettings::with_capacity(settings.capacity);
    let durations = [
        ("default_ttl", Some(settings.default_ttl), Some(defaults.default_ttl)),
        ("max_ttl", Some(settings.max_ttl), Some(defaults.max_ttl)),
        ("max_hold", settings.max_hold, None),
        ("queue_ttl", Some(settings.queue_ttl), Some(defaults.queue_ttl)),
        ("offer_ttl", settings.offer_ttl, None),
        ("wait_timeout", settings.wait_timeout, None),
        ("cooldown", Some(settings.cooldown), Some(defaults.cooldown)),
    ];
    let mut said = format!("capacity={}\n", settings.capacity);
    for (name, duration, default) in durations {
        if let Some(duration) = duration.filter(|_| duration != default) {
            said.push_str(&format!("{name}={}ms\n", duration.as_millis()));
        }
    }
    if let Some(description) = &settings.description {
        said.push_str(&format!("description={description}\n"));
    }
    Declaration(Sha256::digest(said.as_bytes()).into())
}
