//! The core: semaphores, claims and their rules as a pure state machine.
//!
//! No clock, IO, thread, lock, random source, log or serialization is in here. Time is a parameter, and
//! the same commands at the same times give the same events, whatever machine they run on: no order comes
//! from a hash map. So it can be simulated, fuzzed, compared with a naive model, and replayed.
//!
//! A command is checked first and then *emits* events; `apply_event` is the only
//! place where the durable state changes, for a command as for recovery. So what the journal replays is
//! what happened.
//!
//! The rule that matters (rule 2): a waiting claim is *eligible* if it is present and none of its
//! semaphores drains. It is granted if and only if, for each of its semaphores, the weights of the
//! eligible waiting claims up to and including it fit in what is free there. Each semaphore's
//! `line` gives that sum in logarithmic time. The sums grow along the order, so of all claims
//! with the same *set* of semaphores only the first eligible one can be next, and granting it changes
//! nothing for claims of other sets: it takes from what is free just what it takes off their sums.
//!
//! Invariants (checked by [`Core::check_invariants`]): no eligible claim waits that rule 2 would grant;
//! counters, lines, sets and timers agree with the claims; fences of live claims are unique. And permits of
//! offered and held claims plus cooling ones never exceed the capacity unless it was lowered, which a state
//! alone does not show; the property tests check it from one step to the next.

mod acquire;
mod admin;
mod command;
mod end;
mod ended;
mod events;
mod invariants;
mod line;
mod recover;
mod settle;
mod timers;
mod tokens;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub use self::{
    command::{Command, Error, Outcome},
    ended::ENDED_REMEMBERED,
    line::Place,
    recover::Contradiction,
    view::{ClaimView, Cursor, LIST_SCAN_MAX, Listed, ListedState, SemaphoreView},
};
use self::{ended::EndedIds, line::Line, timers::Timers};
use crate::model::{
    AuditEntry, Claim, ClaimId, Cooling, Event, Fence, Origin, Revision, SemaphoreName,
    SemaphoreSettings, Sequence, ServiceTime, Token, TokenId, WallTime,
};

/// Most requests that may block on one claim; one more is answered at once.
pub const CLAIM_REQUESTS_MAX: u8 = 4;

/// Most timers that one [`Command::Timeout`] or [`Command::Resume`] handles, so that it stays short, and its change small
/// enough for one step of a fold; the rest stays due.
pub const TIMEOUT_TIMERS_MAX: usize = 1_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The service's own clock, which leases run on.
    pub service: ServiceTime,
    /// The calendar.
    pub wall: WallTime,
}

/// Bounds of the core. A command that would pass one is refused with [`Error::Full`] or
/// [`Error::QueueFull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Semaphores, 1,000 by default.
    pub semaphores_max: usize,
    /// Live claims in all, 2,000,000 by default.
    pub claims_max: usize,
    /// Bytes of the texts of live claims ([`Claim::text_bytes`]), 64 MiB by default. The last claim may pass it. In memory
    /// texts take about three times as much.
    pub claims_text_bytes_max: usize,
    /// Waiting claims of one semaphore, 1,000,000 by default.
    pub queue_claims_max: usize,
    /// Distinct sets of semaphores that waiting claims name, 1,024 by default. A release looks at the
    /// head of each set that contains its semaphore.
    pub waiting_sets_max: usize,
    /// Ids of ended claims that are remembered, 1,000,000 by default.
    pub ended_ids_max: usize,
    /// Tokens, 10,000 by default.
    pub tokens_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            semaphores_max: 1_000,
            claims_max: 2_000_000,
            claims_text_bytes_max: 64 << 20,
            queue_claims_max: 1_000_000,
            waiting_sets_max: 1_024,
            ended_ids_max: 1_000_000,
            tokens_max: 10_000,
        }
    }
}

/// The semaphores a claim names, in the order of their names.
type SetKey = Arc<[SemaphoreName]>;

/// A semaphore and what belongs to it.
#[derive(Clone, Debug, PartialEq)]
struct Semaphore {
    settings: SemaphoreSettings,
    origin: Origin,
    fence: Fence,
    /// The last change of its settings.
    revision: Revision,
    /// The last change of anything that shows here.
    touched: Revision,
    /// Permits of held claims.
    in_use: u64,
    /// Permits of offered claims.
    offered: u64,
    /// Permits that cool: of which ended claim, and until when.
    cooling: BTreeMap<Sequence, (Cooling, ServiceTime)>,
    cooling_permits: u64,
    line: Line,
    /// Offered and held claims that name it.
    holding: BTreeSet<Sequence>,
    /// The sets of waiting claims that contain it.
    sets: BTreeSet<SetKey>,
}

impl Semaphore {
    /// Permits that are neither used, nor offered, nor cooling.
    fn free(&self) -> u64 {
        let taken = self.in_use + self.offered + self.cooling_permits;
        u64::from(self.settings.capacity).saturating_sub(taken)
    }

    /// Permits that a new claim at the end of the queue could have: free and not set aside for the
    /// eligible claims that wait.
    fn available(&self) -> u64 {
        self.free().saturating_sub(self.line.eligible_weight())
    }
}

/// Waiting claims that name the same set of semaphores.
#[derive(Clone, Debug, Default, PartialEq)]
struct WaitingSet {
    eligible: BTreeSet<Place>,
    claims: usize,
}

/// A live claim: what is durable, and what is not.
#[derive(Clone, Debug, PartialEq)]
struct Live {
    claim: Claim,
    standing: Standing,
}

/// The part of a live claim's state that no disk keeps: presence and deadlines. Its variant is that of
/// the claim's state.
#[derive(Clone, Debug, PartialEq)]
enum Standing {
    Waiting { presence: Presence, set: SetKey, wait_until: Option<ServiceTime> },
    Offered { until: ServiceTime },
    Held { until: ServiceTime, hold_until: Option<WallTime> },
}

/// Whether a waiting claim's holder is known to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// So many requests block on it.
    Blocked(u8),
    /// Its last request was answered; it counts as present until then.
    Lingering(ServiceTime),
    /// Its last blocked connection was seen closed; it keeps its place until then.
    Absent(ServiceTime),
    /// It has a callback.
    Always,
}

impl Presence {
    fn is_present(self) -> bool {
        !matches!(self, Presence::Absent(_))
    }

    /// When `queue_ttl` ends the claim.
    fn lapse(self) -> Option<ServiceTime> {
        match self {
            Presence::Lingering(until) | Presence::Absent(until) => Some(until),
            Presence::Blocked(_) | Presence::Always => None,
        }
    }
}

/// When an event happens: at which revision, and by which clocks.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    revision: Revision,
    /// The moment at which the event is applied.
    now: Now,
    /// The moment of the event by the calendar: `now.wall`, or earlier where it is replayed.
    at: WallTime,
}

/// Says of a waiting claim that requests block on whether one of them still has its client. Asked only of
/// claims that would be granted in that moment.
pub type There<'a> = &'a mut dyn FnMut(Sequence) -> bool;

/// On whose behalf a command is made, and what the audit log says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behalf {
    /// The token of who asks. Without one everything is allowed: tokens are switched off, or the service asks itself.
    pub token: Option<Arc<Token>>,
    /// The row that goes into the same change, if there is one.
    pub audit: Option<Box<AuditEntry>>,
}

/// A command on its way: when it happens, and what has happened by it.
struct Tx<'a> {
    stamp: Stamp,
    events: &'a mut Vec<Event>,
    there: There<'a>,
    by: Option<Arc<Token>>,
    /// The claim whose holder's request is being handled: it is granted, not offered.
    attended: Option<Sequence>,
}

/// The state machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    limits: Limits,
    revision: Revision,
    /// The highest sequence number that was given.
    sequence: Sequence,
    /// No fence up to this one may be taken again: semaphores that were removed had taken them.
    fence_floor: Fence,
    semaphores: BTreeMap<SemaphoreName, Semaphore>,
    /// The last change that removed a semaphore.
    removed: Revision,
    claims: BTreeMap<Sequence, Live>,
    /// Only ever looked up in.
    ids: HashMap<ClaimId, Sequence>,
    sets: BTreeMap<SetKey, WaitingSet>,
    timers: Timers,
    ended: EndedIds,
    tokens: BTreeMap<TokenId, Arc<Token>>,
    /// [`Claim::text_bytes`] of all live claims.
    text_bytes: usize,
    /// How many live claims each token has; none of them is 0.
    owned: BTreeMap<TokenId, u32>,
    /// Claims that have ended and were not taken yet: see [`Core::take_ended`].
    just_ended: Vec<Claim>,
}

impl Core {
    /// A core without semaphores.
    #[must_use]
    pub fn new(limits: Limits) -> Core {
        Core {
            limits,
            revision: Revision(0),
            sequence: Sequence(0),
            fence_floor: Fence(0),
            semaphores: BTreeMap::new(),
            removed: Revision(0),
            claims: BTreeMap::new(),
            ids: HashMap::new(),
            sets: BTreeMap::new(),
            timers: Timers::default(),
            ended: EndedIds::new(limits.ended_ids_max),
            tokens: BTreeMap::new(),
            text_bytes: 0,
            owned: BTreeMap::new(),
            just_ended: Vec::new(),
        }
    }

    /// Handles a command where all who block are there; see [`Core::apply_asking`].
    ///
    /// # Errors
    /// The command is refused, and nothing was changed.
    pub fn apply(
        &mut self,
        now: Now,
        command: Command,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Error> {
        self.apply_asking(now, command, &mut |_| true, events)
    }

    /// Handles a command of the service itself; see [`Core::apply_for`].
    ///
    /// # Errors
    /// The command is refused, and nothing was changed.
    pub fn apply_asking(
        &mut self,
        now: Now,
        command: Command,
        there: There<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Error> {
        self.apply_for(Behalf::default(), now, command, there, events)
    }

    /// Handles a command. What happened by it is appended to `events`; if anything did, it is one change
    /// with the next revision, [`Core::revision`] from then on.
    ///
    /// Before permits go to a claim because requests block on it, `there` is asked. A no makes the claim
    /// absent, with none of its requests left, and the next in the order is looked at. Like time, the answers
    /// are a parameter: the same ones give the same events.
    ///
    /// # Errors
    /// The command is refused, and nothing was changed.
    pub fn apply_for(
        &mut self,
        behalf: Behalf,
        now: Now,
        command: Command,
        there: There<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, Error> {
        let before = events.len();
        let stamp = Stamp { revision: self.revision.next(), now, at: now.wall };
        let Behalf { token: by, audit } = behalf;
        // It may have been revoked since the request was let in, or may do less: as it is now is what counts.
        let by = match by {
            Some(token) => Some(self.present(&token, now.wall, &command)?),
            None => None,
        };
        let mut tx = Tx { stamp, events, there, by, attended: None };
        let outcome = self.command(&mut tx, command);
        let happened = tx.events.len() > before;
        debug_assert!(outcome.is_ok() || !happened, "a refused command must not change anything");
        // A change has one row at most: one that is about a row has it already.
        let has_row = matches!(tx.events.last(), Some(Event::Audit { .. }));
        if let Some(entry) = audit.filter(|_| happened && !has_row) {
            self.emit(&mut tx, Event::Audit { entry });
        }
        if happened {
            self.revision = stamp.revision;
        }
        outcome
    }

    fn command(&mut self, tx: &mut Tx<'_>, command: Command) -> Result<Outcome, Error> {
        match command {
            Command::Acquire { id, request, blocks } => self.acquire(tx, id, request, blocks),
            Command::Renew { id, ttl, job, blocks } => self.renew(tx, &id, (ttl, job), blocks),
            Command::Release { id, job } => self.release(tx, &id, job.as_ref()),
            Command::Revoke { id, note } => self.revoke(tx, &id, note),
            Command::Unblock { sequence, closed } => Ok(self.unblock(tx, sequence, closed)),
            Command::SetSemaphore { name, settings, origin, force } => {
                self.set_semaphore(tx, &name, settings, origin, force)
            }
            Command::RemoveSemaphore { name, force, note } => {
                self.remove_semaphore(tx, &name, force, note.as_ref())
            }
            Command::NoteDelivery { sequence, delivery } => {
                Ok(self.note_delivery(tx, sequence, delivery))
            }
            Command::SetToken { token } => self.set_token(tx, token),
            Command::RevokeToken { id } => self.revoke_token(tx, id),
            Command::NoteTokensUsed { used } => Ok(self.note_tokens_used(tx, used)),
            Command::NoteAudit { entry } => {
                self.emit(tx, Event::Audit { entry });
                Ok(Outcome::Done)
            }
            Command::Timeout => Ok(self.handle_timeout(tx)),
            Command::Resume => Ok(self.resume(tx)),
        }
    }

    /// When the next deadline comes due. A deadline by the wall clock is taken as it looks now.
    #[must_use]
    pub fn next_deadline(&self, now: Now) -> Option<ServiceTime> {
        self.timers.next(now)
    }

    /// Whether a deadline is due.
    #[must_use]
    pub fn is_due(&self, now: Now) -> bool {
        self.next_deadline(now).is_some_and(|at| at <= now.service)
    }

    /// The claims that have ended since this was asked last, as they ended.
    pub fn take_ended(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.just_ended)
    }

    /// The last change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Lets an event happen: appends it and applies it.
    fn emit(&mut self, tx: &mut Tx<'_>, event: Event) {
        let fitted = self.apply_event(tx.stamp, &event);
        debug_assert!(fitted, "the core emitted an event that does not fit: {event:?}");
        tx.events.push(event);
    }

    fn live(&self, id: &ClaimId) -> Option<(Sequence, &Live)> {
        let sequence = *self.ids.get(id)?;
        self.claims.get(&sequence).map(|live| (sequence, live))
    }
}
