//! Registering, changing and unregistering semaphores.

use super::{
    Refusal, Seen, Service,
    core::{Command, Outcome, SemaphoreView},
};
use crate::model::{Origin, SemaphoreName, SemaphoreSettings};

/// What a semaphore's settings become, seen from what they are (`None`: it does not exist); an error
/// refuses the change.
pub type SettingsChange<'a, E> =
    &'a dyn Fn(Option<&SemaphoreView>) -> Result<(SemaphoreSettings, Origin), E>;

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
        change: SettingsChange<'_, E>,
    ) -> Result<Seen<(bool, SemaphoreView)>, E> {
        let mut state = self.shared.state.lock();
        let present = state.core.semaphore(name);
        let (settings, origin) = change(present.as_ref())?;
        let command = Command::SetSemaphore { name: name.clone(), settings, origin, force };
        let outcome =
            self.shared.apply(&mut state, command).1.map_err(|error| state.refusal(error))?;
        let revision = state.core.revision();
        let view = state.core.semaphore(name).ok_or(Refusal::Stopping)?;
        Ok(Seen { what: (outcome == Outcome::Registered, view), revision })
    }

    /// Unregisters a semaphore; with `force` its claims end as revoked.
    ///
    /// # Errors
    /// When there is none, or live claims name it and `force` is not given.
    pub fn remove_semaphore(&self, name: &SemaphoreName, force: bool) -> Result<Seen<()>, Refusal> {
        let mut state = self.shared.state.lock();
        let command = Command::RemoveSemaphore { name: name.clone(), force };
        self.shared.apply(&mut state, command).1.map_err(|error| state.refusal(error))?;
        Ok(Seen { what: (), revision: state.core.revision() })
    }
}
