//! Looking, and watching until there is something new.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    Asker, ClaimStatus, Refusal, Service, Shared,
    claims::{status, unreadable},
    core::{Cursor, Error, ListedState, SemaphoreView},
    gates::Role,
    state::State,
};
use crate::model::{Claim, ClaimId, ClaimState, Holder, Revision, SemaphoreName, WallTime};

/// A state that was seen, and the revision that has to be committed before anybody may hear of it.
#[derive(Clone, Debug)]
pub struct Seen<T> {
    /// What was seen.
    pub what: T,
    /// The revision at which it was.
    pub revision: Revision,
}

/// What a look at a claim finds.
#[derive(Clone, Debug)]
pub enum ClaimLook {
    /// It lives.
    Live(ClaimStatus),
    /// It has ended, and is still kept.
    Ended(Claim),
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListFilter {
    /// Claims that name this semaphore, in the order of its queue.
    pub semaphore: Option<SemaphoreName>,
    /// Claims in this state.
    pub state: Option<ListedState>,
    /// Claims of this holder.
    pub holder: Option<Holder>,
    /// Where the page before ended.
    pub after: Option<Cursor>,
    /// Most claims of a page.
    pub claims_max: usize,
}

/// A page of claims.
#[derive(Clone, Debug)]
pub struct Page {
    /// The claims.
    pub claims: Vec<ClaimStatus>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
}

/// The service as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceStatus {
    /// When it started.
    pub started_at: WallTime,
    /// Semaphores.
    pub semaphores: usize,
    /// Live claims.
    pub claims: usize,
    /// Requests that block.
    pub waiting_requests: usize,
    /// Requests that may block.
    pub waiting_requests_max: usize,
    /// Whether the disk is nearly full.
    pub storage_low: bool,
    /// Whether it is about to stop.
    pub stopping: bool,
}

impl Service {
    /// Looks at a claim; changes nothing and keeps no place.
    ///
    /// # Errors
    /// When no claim of this id is known, or what has ended cannot be read.
    pub fn look(&self, id: &ClaimId, asker: &Asker) -> Result<Seen<ClaimLook>, Refusal> {
        let revision = {
            let state = self.shared.state.lock();
            let revision = state.core.revision();
            if let Some(view) = state.core.claim(id) {
                if !asker.may_use(view.claim) {
                    return Err(Refusal::Core(Error::UnknownClaim(id.clone()), revision));
                }
                let status = status(view, self.shared.clock.now(), revision);
                let revision = status.seen;
                return Ok(Seen { what: ClaimLook::Live(status), revision });
            }
            if let Some(claim) = state.recently_ended(id).filter(|claim| asker.may_use(claim)) {
                return Ok(Seen { what: ClaimLook::Ended((*claim).clone()), revision });
            }
            revision
        };
        match self.shared.history.ended_claim(id) {
            Ok(Some(claim)) if asker.may_use(&claim) => {
                Ok(Seen { what: ClaimLook::Ended(claim), revision })
            }
            Ok(_) => Err(Refusal::Core(Error::UnknownClaim(id.clone()), revision)),
            Err(error) => Err(unreadable(&error)),
        }
    }

    /// Blocks until there is something to see at a claim: until it does not wait any more, or, with `since`, it changed
    /// after that revision; or `wait` is over, or `peer` is gone, or the token is refused. For a claim that is not
    /// there for the asker there is nothing to wait for.
    pub fn watch_claim(
        &self,
        id: &ClaimId,
        since: Option<Revision>,
        wait: Duration,
        asker: &Asker,
    ) {
        let deadline = asker.deadline(wait, self.shared.clock.now().wall);
        let Some(_slot) = self.shared.slots.take(asker) else { return };
        let (gate, entry) = {
            let mut state = self.shared.state.lock();
            let now = self.shared.clock.now().wall;
            let is_good = asker.token.as_ref().is_none_or(|token| state.core.is_good(token, now));
            let view = state.core.claim(id).filter(|view| is_good && asker.may_use(view.claim));
            let Some(sequence) = view.map(|view| view.claim.sequence) else { return };
            let watcher = Asker { peer: None, ..asker.clone() };
            state.gates.enter(sequence, Role::Watcher, watcher)
        };
        self.shared.watch_peer(asker.peer.as_deref(), entry);
        loop {
            let changes = gate.changes();
            let news = {
                let state = self.shared.state.lock();
                let waits = |claim: &Claim| match since {
                    Some(since) => claim.revision <= since,
                    None => matches!(claim.state, ClaimState::Waiting),
                };
                let view = state.core.claim_by_sequence(entry.sequence);
                let over = state.is_stopping() || state.gates.is_over(entry);
                over || !view.is_some_and(|view| waits(view.claim))
            };
            if news || !gate.wait(changes, deadline) {
                self.shared.state.lock().gates.leave(entry);
                return;
            }
        }
    }

    /// A page of the live claims.
    #[must_use]
    pub fn list(&self, filter: &ListFilter, may_see: impl Fn(&Claim) -> bool) -> Seen<Page> {
        let state = self.shared.state.lock();
        let revision = state.core.revision();
        let now = self.shared.clock.now();
        let listed = state.core.list(
            filter.semaphore.as_ref(),
            filter.state,
            filter.holder.as_ref(),
            filter.after,
            filter.claims_max,
            may_see,
        );
        let views = listed.claims.iter().filter_map(|seq| state.core.claim_by_sequence(*seq));
        let claims = views.map(|view| status(view, now, revision)).collect();
        Seen { what: Page { claims, next: listed.next }, revision }
    }

    /// A semaphore, if there is one of this name.
    #[must_use]
    pub fn semaphore(&self, name: &SemaphoreName) -> Seen<Option<SemaphoreView>> {
        let state = self.shared.state.lock();
        Seen { what: state.core.semaphore(name), revision: state.core.revision() }
    }

    /// All semaphores, by name.
    #[must_use]
    pub fn semaphores(&self) -> Seen<Vec<SemaphoreView>> {
        let state = self.shared.state.lock();
        Seen { what: state.core.semaphores().collect(), revision: state.core.revision() }
    }

    /// Blocks until a semaphore (any, without a name) has changed after `since`, or `wait` is over, or `peer`
    /// is gone. Changes are told at most every half second, so that who looks again and again sees a steady
    /// picture. For a semaphore that does not exist there is nothing to wait for.
    pub fn watch_semaphores(
        &self,
        name: Option<&SemaphoreName>,
        since: Revision,
        wait: Duration,
        asker: &Asker,
    ) {
        let deadline = asker.deadline(wait, self.shared.clock.now().wall);
        let Some(_slot) = self.shared.slots.take(asker) else { return };
        let _watcher = Watcher::new(&self.shared);
        if let Some(peer) = &asker.peer {
            let shared = Arc::clone(&self.shared);
            // All watchers wake and look; it happens seldom.
            peer.when_gone(Box::new(move || shared.pulse.announce()));
        }
        loop {
            let pulses = self.shared.pulse.changes();
            let news = {
                let state = self.shared.state.lock();
                let told = state.pulse.revision;
                let gone = name.is_some_and(|name| !state.core.has_semaphore(name));
                // What was not told yet waits for the next pulse.
                let news = since < told && state.core.is_semaphore_touched(name, since);
                let now = self.shared.clock.now().wall;
                let refused = asker.token.as_ref().is_some_and(|t| !state.core.is_good(t, now));
                state.is_stopping() || gone || news || refused
            };
            let gone = asker.peer.as_ref().is_some_and(|peer| peer.has_hung_up());
            if news || gone || !self.shared.pulse.wait(pulses, deadline) {
                return;
            }
        }
    }

    /// The names of all semaphores.
    #[must_use]
    pub fn semaphore_names(&self) -> Vec<SemaphoreName> {
        self.shared.state.lock().core.semaphore_names().cloned().collect()
    }

    /// The service as a whole.
    #[must_use]
    pub fn status(&self) -> Seen<ServiceStatus> {
        let state: &State = &self.shared.state.lock();
        let what = ServiceStatus {
            started_at: self.shared.started_at,
            semaphores: state.core.semaphore_names().count(),
            claims: state.core.claims_len(),
            waiting_requests: self.shared.slots.taken(),
            waiting_requests_max: self.shared.options.waiting_requests_max,
            storage_low: self.shared.is_storage_low(),
            stopping: state.is_stopping(),
        };
        Seen { what, revision: state.core.revision() }
    }
}

impl Shared {
    pub(super) fn is_storage_low(&self) -> bool {
        self.storage_low.load(Ordering::Relaxed)
    }
}

/// Counts a watcher of semaphores while it lives; without any, nothing is announced.
struct Watcher(Arc<Shared>);

impl Watcher {
    fn new(shared: &Arc<Shared>) -> Watcher {
        let mut state = shared.state.lock();
        state.pulse.watchers += 1;
        shared.pulse(&mut state);
        Watcher(Arc::clone(shared))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.state.lock().pulse.watchers -= 1;
    }
}
