//! The requests that block on claims: what they sleep on, and for whom they do.

use std::{collections::HashMap, sync::Arc};

use super::{Asker, gate::Gate};
use crate::model::{Sequence, TokenId, WallTime};

/// The gates of all claims that requests block on. Guarded by the state's lock.
#[derive(Default)]
pub(super) struct Gates {
    claims: HashMap<Sequence, ClaimGate>,
    last_number: u64,
}

/// A claim's gate, and the requests that sleep on it or are about to.
#[derive(Default)]
struct ClaimGate {
    gate: Arc<Gate>,
    requests: Vec<BlockedRequest>,
}

struct BlockedRequest {
    number: u64,
    role: Role,
    asker: Asker,
    /// The core knows already that it is over.
    over: bool,
}

/// What a request that sleeps on a claim's gate is to the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The claim is present by it.
    Holder,
    /// It looks on.
    Watcher,
}

/// Names a request that has entered a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sequence: Sequence,
    number: u64,
}

impl Gates {
    /// The gate of a claim, for a request that is about to sleep on it; [`Gates::leave`] afterwards.
    pub(super) fn enter(
        &mut self,
        sequence: Sequence,
        role: Role,
        asker: Asker,
    ) -> (Arc<Gate>, Entry) {
        self.last_number += 1;
        let number = self.last_number;
        let claim_gate = self.claims.entry(sequence).or_default();
        claim_gate.requests.push(BlockedRequest { number, role, asker, over: false });
        (Arc::clone(&claim_gate.gate), Entry { sequence, number })
    }

    /// How many requests of its holder block on the claim.
    pub(super) fn holders_len(&self, sequence: Sequence) -> usize {
        self.holders(sequence).count()
    }

    fn holders(&self, sequence: Sequence) -> impl Iterator<Item = &BlockedRequest> {
        let requests = self.claims.get(&sequence).map_or(&[][..], |gate| &gate.requests);
        requests.iter().filter(|request| request.role == Role::Holder && !request.over)
    }

    /// A request does not sleep on the claim any more; the last one takes the gate away. Tells whether the
    /// core has still to hear of it.
    pub(super) fn leave(&mut self, entry: Entry) -> bool {
        let Some(claim_gate) = self.claims.get_mut(&entry.sequence) else { return false };
        let at = claim_gate.requests.iter().position(|request| request.number == entry.number);
        let Some(request) = at.map(|at| claim_gate.requests.swap_remove(at)) else { return false };
        if claim_gate.requests.is_empty() {
            self.claims.remove(&entry.sequence);
        }
        request.role == Role::Holder && !request.over
    }

    /// Notes that the request is over. Wakes it. Tells whether the core has to hear of it: it counts those of the
    /// holder alone, each once.
    pub(super) fn end(&mut self, entry: Entry) -> bool {
        let Some(claim_gate) = self.claims.get_mut(&entry.sequence) else { return false };
        let requests = &mut claim_gate.requests;
        let request = requests.iter_mut().find(|request| request.number == entry.number);
        let is_counted = request.is_some_and(|request| {
            !std::mem::replace(&mut request.over, true) && request.role == Role::Holder
        });
        claim_gate.gate.announce();
        is_counted
    }

    /// Whether the core knows that the request is over.
    pub(super) fn is_over(&self, entry: Entry) -> bool {
        let requests = self.claims.get(&entry.sequence).map(|claim_gate| &claim_gate.requests);
        let request = requests.and_then(|r| r.iter().find(|r| r.number == entry.number));
        request.is_none_or(|request| request.over)
    }

    /// Whether one of those who block on the claim is there, as far as can be known, with a token whose time is not over:
    /// without one he would not be told. Takes microseconds.
    pub(super) fn is_anybody_there(&self, sequence: Sequence, now: WallTime) -> bool {
        self.holders(sequence).any(|BlockedRequest { asker, .. }| {
            asker.token.as_ref().is_none_or(|token| !token.has_expired(now))
                && asker.peer.as_ref().is_none_or(|peer| !peer.is_gone())
        })
    }

    /// Notes that the core knows: all requests of the claim's holder are over. Wakes them.
    pub(super) fn end_all(&mut self, sequence: Sequence) {
        let Some(claim_gate) = self.claims.get_mut(&sequence) else { return };
        let requests = claim_gate.requests.iter_mut();
        requests.filter(|r| r.role == Role::Holder).for_each(|request| request.over = true);
        claim_gate.gate.announce();
    }

    /// The requests of a token that are `wanted`, by their claims and what they are to them. Walks over all that block.
    pub(super) fn entries_of(
        &self,
        token: &TokenId,
        wanted: impl Fn(Sequence, Role) -> bool,
    ) -> Vec<Entry> {
        let is_its = |request: &BlockedRequest| {
            request.asker.token.as_ref().is_some_and(|asking| asking.id == *token)
        };
        let of_claim = |(sequence, claim_gate): (&Sequence, &ClaimGate)| {
            let sequence = *sequence;
            let its = claim_gate.requests.iter().filter(|request| is_its(request));
            let its = its.filter(|request| wanted(sequence, request.role));
            its.map(|request| Entry { sequence, number: request.number }).collect::<Vec<_>>()
        };
        let mut entries: Vec<Entry> = self.claims.iter().flat_map(of_claim).collect();
        // A hash map has no order, and what happens next should.
        entries.sort_by_key(|entry| (entry.sequence, entry.number));
        entries
    }

    /// The gate of a claim, if requests sleep on it.
    pub(super) fn gate(&self, sequence: Sequence) -> Option<Arc<Gate>> {
        self.claims.get(&sequence).map(|claim_gate| Arc::clone(&claim_gate.gate))
    }

    /// Wakes all that sleep on any claim.
    pub(super) fn announce_to_all(&self) {
        self.claims.values().for_each(|claim_gate| claim_gate.gate.announce());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::semaphore::Peer;

    #[test]
    fn one_of_the_holders_requests_that_is_there_is_enough() {
        let mut gates = Gates::default();
        let claim = Sequence(1);
        let closed = Arc::new(AtomicBool::new(false));
        let is_gone = Arc::clone(&closed);
        let peer = Arc::new(Peer::new(move || is_gone.load(Ordering::Relaxed)));
        let (_, watcher) = gates.enter(claim, Role::Watcher, Asker::default());
        let (_, first) = gates.enter(
            claim,
            Role::Holder,
            Asker { peer: Some(Arc::clone(&peer)), ..Asker::default() },
        );
        let (_, second) = gates.enter(claim, Role::Holder, Asker::default());
        closed.store(true, Ordering::Relaxed);
        assert!(gates.is_anybody_there(claim, WallTime(0)), "of the second nothing is known");
        assert!(gates.leave(second) && !gates.leave(second));
        assert!(!gates.is_anybody_there(claim, WallTime(0)), "a watcher does not count");
        gates.end_all(claim);
        assert!(gates.is_over(first) && !gates.is_over(watcher));
        // The claim's holder comes back before the dead request has gone.
        let (_, third) = gates.enter(claim, Role::Holder, Asker::default());
        assert!(gates.is_anybody_there(claim, WallTime(0)));
        assert!(!gates.end(first) && !gates.leave(first) && !gates.leave(watcher));
        let (_, other) = gates.enter(claim, Role::Watcher, Asker::default());
        assert!(!gates.end(other), "the core does not count watchers");
        assert!(gates.end(third) && !gates.leave(third) && !gates.leave(other));
        assert!(gates.claims.is_empty());
    }
}
