//! Runs a script on the core and on the naive model, and checks after each step what must hold.

use std::{collections::BTreeMap, time::Duration};

use proptest::{prelude::*, test_runner::TestCaseError};
use semaphored::{
    model::{
        Base, Callback, Change, ClaimEvent, ClaimId, ClaimRequest, Declaration, Delivery,
        DeliveryFailure, DeliveryResult, EndedId, Event, Fence, Fences, IdHash, Labels, Note,
        Origin, Permits, Priority, SemaphoreName, SemaphoreSettings, SemaphoreState, Sequence,
        ServiceTime, TargetName, Vars, WallTime,
    },
    semaphore::core::{Command, Core, Limits, Now, SemaphoreView},
};

use super::{
    compare::compare,
    model::{Ended, Model},
    step::{Action, Setting, Spec, Step, Target, Tick},
};

/// The wall clock at the beginning: far from its zero, as a real one is.
const WALL_START: WallTime = WallTime(1_800_000_000_000);

/// Both machines, and what was seen so far.
pub(super) struct Run {
    limits: Limits,
    now: Now,
    core: Core,
    model: Model,
    /// What the events alone lead to, one change after the other.
    replayed: Core,
    /// What was folded, with the ended ids that were remembered then, and what came after it.
    tables: (Base, Vec<Ended>),
    journal: Vec<Change>,
    /// All claims that were ever asked for: the n-th is called `c<n>`, with its request.
    requests: Vec<(ClaimId, ClaimRequest)>,
    /// The id of each claim that was made.
    made: BTreeMap<Sequence, (ClaimId, Permits)>,
    /// Which claims had permits set aside.
    granted: Vec<Sequence>,
    /// The highest fence that each semaphore ever took.
    fences: BTreeMap<SemaphoreName, Fence>,
    /// Permits in use, offered or cooling after the step before.
    used: BTreeMap<SemaphoreName, u64>,
}

pub(super) fn name(number: usize) -> SemaphoreName {
    SemaphoreName::new(&format!("s{number}")).unwrap()
}

fn recover(limits: Limits, base: Base, ended: &[Ended], now: Now) -> Result<Core, TestCaseError> {
    let ended = ended.iter().map(|ended| EndedId {
        hash: IdHash::of(&ended.id),
        reason: ended.reason,
        ended_at: ended.ended_at,
    });
    let core = Core::recover(limits, base, ended.collect(), now);
    core.map_err(|wrong| TestCaseError::fail(wrong.to_string()))
}

impl Run {
    pub(super) fn new(limits: Limits, semaphores: &[(u32, u64)]) -> Result<Run, TestCaseError> {
        let mut run = Run {
            limits,
            now: Now { service: ServiceTime::default(), wall: WALL_START },
            core: Core::new(limits),
            model: Model::new(limits),
            replayed: Core::new(limits),
            tables: (Base::default(), Vec::new()),
            journal: Vec::new(),
            requests: Vec::new(),
            made: BTreeMap::new(),
            granted: Vec::new(),
            fences: BTreeMap::new(),
            used: BTreeMap::new(),
        };
        for (number, (capacity, cooldown_s)) in semaphores.iter().enumerate() {
            if *capacity == 0 {
                continue;
            }
            let settings = SemaphoreSettings {
                cooldown: Duration::from_secs(*cooldown_s),
                ..SemaphoreSettings::with_capacity(*capacity)
            };
            let (name, origin) = (name(number), Origin::Api);
            run.apply(Command::SetSemaphore { name, settings, origin, force: false })?;
        }
        Ok(run)
    }

    pub(super) fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.pass_time(&step.tick);
        self.model.gone = step.gone;
        if let Action::Restart { down_ms, from_journal } = step.action {
            self.restart(down_ms, from_journal)?;
        } else if let Action::Fold = step.action {
            self.fold();
        } else if let Some(command) = self.command(&step.action) {
            let times = if let Action::Again { times, .. } = step.action { times } else { 1 };
            for _ in 0..times {
                self.apply(command.clone())?;
            }
        }
        let mut ids: Vec<ClaimId> = self.requests.iter().map(|(id, _)| id.clone()).collect();
        ids.push(ClaimId::new("never").unwrap());
        compare(&self.core, &self.model, &ids, step.page_claims)?;
        self.check_used()
    }

    fn pass_time(&mut self, tick: &Tick) {
        let both = match tick {
            Tick::None => Duration::ZERO,
            Tick::Both(ms) => Duration::from_millis(*ms),
            Tick::Deadline(ms) => {
                let deadline = self.model.next_deadline().unwrap_or(self.now.service);
                deadline.since(self.now.service) + Duration::from_millis(*ms)
            }
            Tick::Wall(ms) => {
                self.now.wall.0 += ms;
                Duration::ZERO
            }
        };
        self.now = Now { service: self.now.service.after(both), wall: self.now.wall.after(both) };
        self.model.now = self.now;
    }

    /// One command on both machines, and on a copy of the core.
    fn apply(&mut self, command: Command) -> Result<(), TestCaseError> {
        let before = self.core.clone();
        let mut copy = self.core.clone();
        let (mut events, mut events_of_copy) = (Vec::new(), Vec::new());
        let gone = self.model.gone;
        let mut there = |sequence: Sequence| !gone.contains(sequence.0);
        let outcome = self.core.apply_asking(self.now, command.clone(), &mut there, &mut events);
        let expected = self.model.apply(self.now, &command);
        let new_id = match &command {
            Command::Acquire { id, .. } => self.model.ended(id).is_none(),
            _ => false,
        };
        let of_copy = copy.apply_asking(self.now, command, &mut there, &mut events_of_copy);
        prop_assert_eq!(&outcome, &expected, "the answer");
        prop_assert_eq!(&of_copy, &outcome, "the answer of a copy");
        prop_assert_eq!(&events_of_copy, &events, "the events of a copy");
        prop_assert!(copy == self.core, "a copy goes another way");
        prop_assert_eq!(events.is_empty(), !self.model.changed, "{:?}", events);
        if outcome.is_err() {
            prop_assert!(events.is_empty(), "refused, but {:?}", events);
            prop_assert_eq!(self.core.base(), before.base(), "refused, but changed");
            // That an ended id is forgotten in passing is the one change that is allowed.
            prop_assert!(self.model.forgot || self.core == before, "refused, but changed");
        }
        if !events.is_empty() {
            prop_assert_eq!(self.core.revision(), before.revision().next());
            self.record(events, new_id)?;
        } else {
            prop_assert_eq!(self.core.revision(), before.revision());
        }
        self.check_touched(&before)
    }

    /// A semaphore of which an event changed something shows the event's revision. (What is set aside also
    /// changes with presence, which is no event.)
    fn check_touched(&self, before: &Core) -> Result<(), TestCaseError> {
        let shown = |view: &SemaphoreView| {
            let SemaphoreView { in_use, offered, cooling, waiting, .. } = *view;
            (view.settings.clone(), in_use, offered, cooling, waiting, view.longest_waiting_since)
        };
        for view in self.core.semaphores() {
            let was = before.semaphore(&view.name);
            if was.as_ref().is_none_or(|was| shown(was) != shown(&view)) {
                prop_assert_eq!(view.revision, self.core.revision(), "{} was touched", view.name);
            }
        }
        Ok(())
    }

    fn record(&mut self, events: Vec<Event>, new_id: bool) -> Result<(), TestCaseError> {
        for event in &events {
            match event {
                Event::ClaimQueued { id, sequence, terms } => {
                    prop_assert!(new_id, "{} had ended and is made again", id);
                    let made = (id.clone(), terms.permits.clone());
                    prop_assert!(self.made.insert(*sequence, made).is_none(), "made twice");
                }
                Event::Claim { sequence, event: ClaimEvent::Offered { fences } }
                | Event::Claim { sequence, event: ClaimEvent::Granted { fences, .. } } => {
                    self.record_fences(*sequence, fences)?;
                }
                _ => {}
            }
        }
        let change = Change { revision: self.core.revision(), at: self.now.wall, events };
        self.replayed
            .replay(&change, self.now)
            .map_err(|wrong| TestCaseError::fail(wrong.to_string()))?;
        prop_assert_eq!(self.replayed.base(), self.core.base(), "the events lead elsewhere");
        self.journal.push(change);
        Ok(())
    }

    /// A claim gets permits once, and each of its semaphores' fences rises.
    fn record_fences(&mut self, sequence: Sequence, taken: &Fences) -> Result<(), TestCaseError> {
        prop_assert!(!self.granted.contains(&sequence), "claim {} is granted twice", sequence);
        self.granted.push(sequence);
        let permits = self.made.get(&sequence).map(|(_, permits)| permits.clone());
        let names: Vec<_> = permits.iter().flat_map(Permits::names).cloned().collect();
        prop_assert_eq!(names.len(), taken.len());
        for (name, fence) in names.into_iter().zip(taken.iter()) {
            let last = self.fences.insert(name.clone(), *fence).unwrap_or_default();
            prop_assert!(last < *fence, "fence {} of {} follows {}", fence, name, last);
        }
        Ok(())
    }

    /// Never above the capacity, and where it was lowered below what is used, never higher than before.
    fn check_used(&mut self) -> Result<(), TestCaseError> {
        let mut used_now = BTreeMap::new();
        for view in self.core.semaphores() {
            let used = view.in_use + view.offered + view.cooling;
            let before = self.used.get(&view.name).copied().unwrap_or(0);
            let most = before.max(u64::from(view.settings.capacity));
            prop_assert!(used <= most, "{} of {} permits of {} used", used, most, view.name);
            used_now.insert(view.name, used);
        }
        self.used = used_now;
        Ok(())
    }

    fn fold(&mut self) {
        self.tables = (self.core.base(), self.model.ended.clone());
        self.journal.clear();
        self.model.ended_since_fold.clear();
    }

    fn restart(&mut self, down_ms: u64, from_journal: bool) -> Result<(), TestCaseError> {
        let now = Now {
            service: ServiceTime::default(),
            wall: self.now.wall.after(Duration::from_millis(down_ms)),
        };
        self.now = now;
        if !from_journal {
            self.fold();
        }
        let (base, mut ended) = self.tables.clone();
        let mut core = recover(self.limits, base, &ended, now)?;
        for change in &self.journal {
            core.replay(change, now).map_err(|w| TestCaseError::fail(w.to_string()))?;
        }
        ended.append(&mut self.model.ended_since_fold.clone());
        self.core = core;
        self.model.restart(now, ended);
        self.apply(Command::Resume)
    }

    fn command(&mut self, action: &Action) -> Option<Command> {
        Some(match action {
            Action::New { spec, blocks } => {
                let id = ClaimId::new(&format!("c{}", self.requests.len())).unwrap();
                let request = request(spec);
                self.requests.push((id.clone(), request.clone()));
                Command::Acquire { id, request, blocks: *blocks }
            }
            Action::Again { target, blocks, .. } => {
                let id = self.target(target);
                let request = self.requests.iter().rev().find(|(known, _)| *known == id)?;
                Command::Acquire { id, request: request.1.clone(), blocks: *blocks }
            }
            Action::Other { target, spec } => {
                let (id, request) = (self.target(target), request(spec));
                Command::Acquire { id, request, blocks: false }
            }
            Action::Renew { target, ttl_s, blocks } => {
                let ttl = ttl_s.map(Duration::from_secs);
                Command::Renew { id: self.target(target), ttl, job: None, blocks: *blocks }
            }
            Action::Release(target) => Command::Release { id: self.target(target), job: None },
            Action::Revoke(target) => {
                Command::Revoke { id: self.target(target), note: Note::new("stuck").ok() }
            }
            Action::Unblock { target, closed } => {
                Command::Unblock { sequence: self.sequence(target)?, closed: *closed }
            }
            Action::Tried { target, status } => {
                let result = match *status {
                    0 => DeliveryResult::Failed(DeliveryFailure::Timeout),
                    1 => DeliveryResult::Unfinished,
                    status => DeliveryResult::Answered { status },
                };
                let (started_at, duration) = (self.now.wall, Duration::from_millis(20));
                let delivery = Delivery { started_at, duration, result };
                Command::NoteDelivery { sequence: self.sequence(target)?, delivery }
            }
            Action::Set { semaphore, setting, force } => {
                self.set_semaphore(name(*semaphore), setting, *force)
            }
            Action::Remove { semaphore, force } => {
                Command::RemoveSemaphore { name: name(*semaphore), force: *force, note: None }
            }
            Action::Timeout => Command::Timeout,
            Action::Fold | Action::Restart { .. } => return None,
        })
    }

    fn sequence(&self, target: &Target) -> Option<Sequence> {
        let id = self.target(target);
        self.made.iter().rev().find(|(_, made)| made.0 == id).map(|(sequence, _)| *sequence)
    }

    fn target(&self, target: &Target) -> ClaimId {
        let never = || ClaimId::new("never").unwrap();
        match target {
            Target::Live(n) if !self.model.claims.is_empty() => {
                self.model.claims[n % self.model.claims.len()].id.clone()
            }
            Target::Live(n) | Target::Any(n) => {
                let known = self.requests.get(n % (self.requests.len() + 1));
                known.map_or_else(never, |(id, _)| id.clone())
            }
        }
    }

    fn set_semaphore(&self, name: SemaphoreName, setting: &Setting, force: bool) -> Command {
        let before = self.model.semaphore(&name);
        let mut origin = before.map_or(Origin::Api, |semaphore| semaphore.origin);
        let mut settings =
            before.map_or(SemaphoreSettings::with_capacity(2), |s| s.settings.clone());
        let seconds = Duration::from_secs;
        match setting {
            Setting::Capacity(capacity) => settings.capacity = *capacity,
            Setting::Draining(true) => settings.state = SemaphoreState::Draining,
            Setting::Draining(false) => settings.state = SemaphoreState::Open,
            Setting::CooldownS(s) => settings.cooldown = seconds(*s),
            Setting::MaxHoldS(s) => settings.max_hold = s.map(seconds),
            Setting::Ttl { default_s, max_s } => {
                settings.default_ttl = seconds(*default_s);
                settings.max_ttl = seconds(*max_s);
            }
            Setting::QueueTtlS(s) => settings.queue_ttl = seconds(*s),
            Setting::OfferTtlS(s) => settings.offer_ttl = s.map(seconds),
            Setting::WaitTimeoutS(s) => settings.wait_timeout = s.map(seconds),
            Setting::FromFile(byte) => origin = Origin::File(Declaration([*byte; 32])),
            Setting::Same => {}
        }
        Command::SetSemaphore { name, settings, origin, force }
    }
}

fn request(spec: &Spec) -> ClaimRequest {
    let seconds = |s: Option<u64>| s.map(Duration::from_secs);
    let permits = spec.permits.iter().map(|(number, weight)| (name(*number), *weight)).collect();
    let mut fingerprint = [0_u8; 32];
    for (at, byte) in format!("{spec:?}").bytes().enumerate() {
        fingerprint[at % 32] = byte.wrapping_add(fingerprint[at % 32].rotate_left(3));
    }
    ClaimRequest {
        permits: Permits::new(permits).unwrap(),
        holder: None,
        labels: Labels::default(),
        priority: Priority::new(spec.priority).unwrap(),
        ttl: seconds(spec.ttl_s),
        queue_ttl: seconds(spec.queue_ttl_s),
        offer_ttl: seconds(spec.offer_ttl_s),
        wait_timeout: seconds(spec.wait_timeout_s),
        queue: spec.queue,
        callback: spec.has_callback.then(|| {
            let name = TargetName::new("ci").unwrap();
            Callback::Target { name, vars: Vars::default() }.into()
        }),
        fingerprint,
    }
}
