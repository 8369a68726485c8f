//! What the service's lock guards.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Shared,
    audit::AuditTail,
    commit::Batch,
    core::{Behalf, Command, Core, Error, Now, Outcome},
    gates::Gates,
    tokens::Uses,
};
use crate::model::{Change, Claim, ClaimEvent, ClaimId, Event, Revision, Sequence};

/// Watchers of semaphores are told at most this often.
pub(super) const PULSE_EVERY: Duration = Duration::from_millis(500);

/// So many changes of which nobody waits for any are committed all the same.
const UNWANTED_CHANGES_MAX: usize = 1_000;

/// The core, what is not written yet, and who waits for what.
pub(super) struct State {
    pub(super) core: Core,
    /// What is not written yet.
    pub(super) batch: Batch,
    /// There is something to do for the writer's thread.
    pub(super) is_writer_wanted: bool,
    recovered_revision: Revision,
    /// The gates of claims that requests block on.
    pub(super) gates: Gates,
    ended: RecentlyEnded,
    pub(super) audit: AuditTail,
    pub(super) uses: Uses,
    pub(super) pulse: Pulse,
    stopping: bool,
    closed: bool,
}

/// Claims whose end is not folded into the history yet, so that a look finds them.
#[derive(Default)]
struct RecentlyEnded {
    by_id: HashMap<ClaimId, Arc<Claim>>,
    order: VecDeque<(Revision, ClaimId)>,
}

/// When watchers of semaphores were told last, and of what.
#[derive(Default)]
pub(super) struct Pulse {
    pub(super) watchers: usize,
    pub(super) revision: Revision,
    at: Option<Instant>,
}

impl State {
    /// The state after recovery: ends what is over by now, and grants what is grantable (all claims are present now).
    pub(super) fn recovered(core: Core, journal: &[Change], now: Now) -> State {
        let mut state = State {
            recovered_revision: core.revision(),
            core,
            batch: Batch::default(),
            is_writer_wanted: false,
            gates: Gates::default(),
            ended: RecentlyEnded::default(),
            audit: AuditTail::default(),
            uses: Uses::default(),
            pulse: Pulse::default(),
            stopping: false,
            closed: false,
        };
        state.note_ended();
        for change in journal {
            state.audit.keep(change.revision, change.at, &change.events);
        }
        loop {
            if let Err(error) = state.apply(now, Behalf::default(), Command::Resume) {
                log::error!("resuming was refused: {error}");
                return state;
            }
            if !state.core.is_due(now) {
                return state;
            }
        }
    }

    pub(super) fn recovered_revision(&self) -> Revision {
        self.recovered_revision
    }

    /// Handles a command: puts what happened into the batch, with the gates of those who will be told. A claim
    /// on which nobody blocks any more whose client is there gets nothing.
    pub(super) fn apply(
        &mut self,
        now: Now,
        behalf: Behalf,
        command: Command,
    ) -> Result<Outcome, Error> {
        let mut events = Vec::new();
        let State { core, gates, .. } = self;
        let mut gone: Vec<Sequence> = Vec::new();
        let mut there = |sequence| {
            let there = gates.is_anybody_there(sequence, now.wall);
            if !there {
                gone.push(sequence);
            }
            there
        };
        let outcome = core.apply_for(behalf, now, command, &mut there, &mut events);
        gone.into_iter().for_each(|sequence| gates.end_all(sequence));
        if events.is_empty() {
            return outcome;
        }
        for event in &events {
            if let Event::Claim { sequence, event } = event {
                self.batch.gates.extend(self.gates.gate(*sequence));
                let is_confirmed = || matches!(event, ClaimEvent::Confirmed { .. });
                if matches!(event, ClaimEvent::CallbackDue)
                    || is_confirmed() && self.calls(*sequence)
                {
                    self.batch.callbacks_due.push(*sequence);
                }
            }
        }
        self.note_ended();
        self.audit.keep(self.core.revision(), now.wall, &events);
        self.batch.since.get_or_insert_with(Instant::now);
        self.batch.changes.push(Change { revision: self.core.revision(), at: now.wall, events });
        outcome
    }

    /// Whether a live claim has a callback.
    fn calls(&self, sequence: Sequence) -> bool {
        self.core.claim_by_sequence(sequence).is_some_and(|view| view.claim.callback.is_some())
    }

    fn note_ended(&mut self) {
        for claim in self.core.take_ended() {
            if claim.callback.is_some() {
                self.batch.callbacks_due.push(claim.sequence);
            }
            self.ended.order.push_back((claim.revision, claim.id.clone()));
            self.ended.by_id.insert(claim.id.clone(), Arc::new(claim));
        }
    }

    /// The claim of this id that ended last, while its end is not in the history.
    pub(super) fn recently_ended(&self, id: &ClaimId) -> Option<Arc<Claim>> {
        self.ended.by_id.get(id).map(Arc::clone)
    }

    /// Whether the service is about to stop.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.gates.announce_to_all();
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether watchers have to be told now: something has changed, and the last time is long enough ago.
    pub(super) fn take_pulse(&mut self) -> bool {
        let due = self.pulse.at.is_none_or(|at| at.elapsed() >= PULSE_EVERY);
        let news = self.pulse.watchers > 0 && self.core.revision() > self.pulse.revision;
        if due && news {
            self.pulse.at = Some(Instant::now());
            self.pulse.revision = self.core.revision();
        }
        due && news
    }
}

impl Shared {
    /// Handles a command under the state's lock; also tells when that was. The caller has a reply, which has
    /// it committed: else he calls [`Shared::hand_over`].
    pub(super) fn apply(
        &self,
        state: &mut State,
        command: Command,
    ) -> (Now, Result<Outcome, Error>) {
        self.apply_for(state, Behalf::default(), command)
    }

    /// The same on somebody's behalf.
    pub(super) fn apply_for(
        &self,
        state: &mut State,
        behalf: Behalf,
        command: Command,
    ) -> (Now, Result<Outcome, Error>) {
        let now = self.clock.now();
        let outcome = state.apply(now, behalf, command);
        self.pulse(state);
        (now, outcome)
    }

    /// Wakes the writer's thread if requests block on what has changed, a callback is due, or so much has changed
    /// that it cannot wait.
    pub(super) fn hand_over(&self, state: &mut State) {
        let Batch { changes, gates, callbacks_due, .. } = &state.batch;
        let is_wanted = !gates.is_empty() || !callbacks_due.is_empty();
        if is_wanted || changes.len() >= UNWANTED_CHANGES_MAX {
            self.wake_writer(state);
        }
    }

    /// Tells the watchers of semaphores, if there is something new for them.
    pub(super) fn pulse(&self, state: &mut State) {
        if state.take_pulse() {
            self.pulse.announce();
        }
    }

    /// For the writer: what is folded up to `revision` is found in the history from now on.
    pub(super) fn forget_folded(&self, revision: Revision) {
        let mut state = self.state.lock();
        state.audit.forget(revision);
        while state.ended.order.front().is_some_and(|(ended, _)| *ended <= revision) {
            let Some((ended, id)) = state.ended.order.pop_front() else { return };
            // The same id may have been used and ended again since.
            if state.ended.by_id.get(&id).is_some_and(|claim| claim.revision == ended) {
                state.ended.by_id.remove(&id);
            }
        }
    }
}
