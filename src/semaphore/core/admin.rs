//! Registering, changing and unregistering semaphores.

use super::{Core, Error, Outcome, Tx};
use crate::model::{EndReason, Event, Note, Origin, SemaphoreName, SemaphoreSettings, Sequence};

impl Core {
    pub(super) fn set_semaphore(
        &mut self,
        tx: &mut Tx<'_>,
        name: &SemaphoreName,
        settings: SemaphoreSettings,
        origin: Origin,
        force: bool,
    ) -> Result<Outcome, Error> {
        let Some(semaphore) = self.semaphores.get(name) else {
            let limit = self.limits.semaphores_max;
            if self.semaphores.len() >= limit {
                return Err(Error::Full { bound: "semaphores_max", limit });
            }
            self.emit(tx, Event::SemaphoreSet { name: name.clone(), settings, origin });
            return Ok(Outcome::Registered);
        };
        if semaphore.settings == settings && semaphore.origin == origin {
            return Ok(Outcome::Done);
        }
        let unsatisfiable = semaphore.line.heavier_than(settings.capacity);
        if !unsatisfiable.is_empty() && !force {
            let (name, capacity) = (name.clone(), settings.capacity);
            return Err(Error::WouldEndClaims { name, capacity, claims: unsatisfiable.len() });
        }
        self.check_seen(tx, name, &unsatisfiable)?;
        let shrunk_by = semaphore.settings.capacity.saturating_sub(settings.capacity);
        self.drop_cooling(tx, name, shrunk_by);
        self.emit(tx, Event::SemaphoreSet { name: name.clone(), settings, origin });
        for sequence in unsatisfiable {
            self.end(tx, sequence, EndReason::Unsatisfiable, None);
        }
        // Opened or drained, eligible changes for claims that wait elsewhere too.
        self.settle_all(tx);
        Ok(Outcome::Done)
    }

    /// The permits that go with a capacity that is lowered are cooling ones first, the oldest first.
    fn drop_cooling(&mut self, tx: &mut Tx<'_>, name: &SemaphoreName, mut permits: u32) {
        let cooling: Vec<Sequence> = self
            .semaphores
            .get(name)
            .map_or_else(Vec::new, |s| s.cooling.keys().copied().collect());
        for sequence in cooling {
            if permits == 0 {
                return;
            }
            permits -= self.end_cooling(tx, name, sequence, permits);
        }
    }

    pub(super) fn remove_semaphore(
        &mut self,
        tx: &mut Tx<'_>,
        name: &SemaphoreName,
        force: bool,
        note: Option<&Note>,
    ) -> Result<Outcome, Error> {
        let Some(semaphore) = self.semaphores.get(name) else {
            return Err(Error::UnknownSemaphore(name.clone()));
        };
        let waiting = semaphore.line.after(None).map(|(place, ..)| place.sequence);
        let claims: Vec<Sequence> = semaphore.holding.iter().copied().chain(waiting).collect();
        if !claims.is_empty() && !force {
            return Err(Error::SemaphoreInUse { name: name.clone(), claims: claims.len() });
        }
        if let Some(until) = semaphore.cooling.values().map(|(_, until)| *until).max()
            && !force
        {
            let (name, permits) = (name.clone(), semaphore.cooling_permits);
            let until = Core::wall_of(tx.stamp.now, until);
            return Err(Error::SemaphoreCools { name, permits, until });
        }
        self.check_seen(tx, name, &claims)?;
        for sequence in claims {
            self.end(tx, sequence, EndReason::Revoked, note.cloned());
        }
        self.drop_cooling(tx, name, u32::MAX);
        self.emit(tx, Event::SemaphoreRemoved { name: name.clone() });
        self.settle_all(tx);
        Ok(Outcome::Done)
    }
}
