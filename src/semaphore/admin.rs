//! Registering, changing and unregistering semaphores.

use super::{
    Asker, Refusal, Seen, Service,
    core::{Command, Outcome, SemaphoreView},
};
use crate::model::{AuditEntry, Note, Origin, SemaphoreName, SemaphoreSettings};

/// What a semaphore's settings become, seen from what they are (`None`: it does not exist); an error
/// refuses the change.
pub type SettingsChange<'a, E> = &'a dyn Fn(Option<&SemaphoreView>) -> Result<SetSettings, E>;

/// What a semaphore's settings become.
pub struct SetSettings {
    /// All of them.
    pub settings: SemaphoreSettings,
    /// Who declares it.
    pub origin: Origin,
    /// What the audit log says of it.
    pub audit: Option<Box<AuditEntry>>,
}

impl Service {
    /// Registers a semaphore or changes its settings, atomically: `change` sees the present ones. Tells
    /// whether it was registered.
    ///
    /// # Errors
    /// The error of `change`, or the refusal.
    pub fn set_semaphore<E: From<Refusal>>(
        &self,
        name: &SemaphoreName,
        force: bool,
        asker: &Asker,
        change: SettingsChange<'_, E>,
    ) -> Result<Seen<(bool, SemaphoreView)>, E> {
        let mut state = self.shared.state.lock();
        let present = state.core.semaphore(name);
        let SetSettings { settings, origin, audit } = change(present.as_ref())?;
        let command = Command::SetSemaphore { name: name.clone(), settings, origin, force };
        let outcome = self
            .shared
            .apply_for(&mut state, asker.acts(audit), command)
            .1
            .map_err(|error| state.refusal(error))?;
        let revision = state.core.revision();
        let view = state.core.semaphore(name).ok_or(Refusal::Stopping)?;
        Ok(Seen { what: (outcome == Outcome::Registered, view), revision })
    }

    /// Unregisters a semaphore; with `force` its claims end as revoked, and permits that cool are forgotten.
    ///
    /// # Errors
    /// When there is none, or without `force` live claims name it or permits of it cool.
    pub fn remove_semaphore(
        &self,
        name: &SemaphoreName,
        (force, note): (bool, Option<Note>),
        asker: &Asker,
        row: &dyn Fn(&SemaphoreView) -> Option<Box<AuditEntry>>,
    ) -> Result<Seen<()>, Refusal> {
        let mut state = self.shared.state.lock();
        let audit = state.core.semaphore(name).and_then(|view| row(&view));
        let command = Command::RemoveSemaphore { name: name.clone(), force, note };
        self.shared
            .apply_for(&mut state, asker.acts(audit), command)
            .1
            .map_err(|error| state.refusal(error))?;
        Ok(Seen { what: (), revision: state.core.revision() })
    }
}
