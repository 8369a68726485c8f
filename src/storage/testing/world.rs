//! A generator of journals that fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{acted, callbacks, change, id, name, refused, terms, token, token_id};
use crate::{
    model::{
        Actor, AuditEntry, Change, Claim, ClaimEvent, ClaimState, Cooling, Delivery,
        DeliveryResult, EndReason, Event, Fences, JobId, Origin, SemaphoreName, SemaphoreRecord,
        SemaphoreSettings, WallTime,
    },
    storage::{AuditRow, memory::Tables},
};

/// Makes changes out of random numbers, each fitting what went before. It keeps its own, simple idea of
/// the tables, event by event and without [`super::net`]: the tests compare the two.
#[derive(Default)]
pub(in crate::storage) struct World {
    pub(in crate::storage) changes: Vec<Change>,
    pub(in crate::storage) tables: Tables,
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const TOKENS: [&str; 3] = ["root", "farm", "board"];
/// Verbs of [`World::step`].
const VERBS: u32 = 20;

impl World {
    pub(in crate::storage) fn from_choices(choices: &[u32]) -> World {
        let mut world = World::default();
        for pair in choices.chunks(2) {
            let mut events = Vec::new();
            world.tables.marks.revision = world.tables.marks.revision.next();
            for choice in pair {
                world.step(choice % VERBS, usize::try_from(choice / VERBS).unwrap(), &mut events);
            }
            if events.is_empty() {
                let settings = SemaphoreSettings::with_capacity(1);
                world.set(name("a"), settings, &mut events);
            }
            let mut made = change(world.tables.marks.revision.0, vec![]);
            made.events = events;
            world.changes.push(made);
        }
        world
    }

    fn at(&self) -> WallTime {
        WallTime(i64::try_from(self.tables.marks.revision.0).unwrap() * 1_000)
    }

    fn step(&mut self, verb: u32, pick: usize, events: &mut Vec<Event>) {
        match verb {
            0 | 1 => {
                let settings =
                    SemaphoreSettings::with_capacity(u32::try_from(pick % 9 + 1).unwrap());
                self.set(name(NAMES[pick % NAMES.len()]), settings, events);
            }
            2 => self.remove(pick, events),
            3..=6 => self.queue(pick, events),
            7..=9 => self.take(pick, events),
            10 => self.hold_on(pick, events),
            11 => self.call(pick, events),
            12..=13 => self.end(pick, events),
            14..=15 => self.cool(pick, events),
            16 => self.token(pick, events),
            17 => self.use_tokens(pick, events),
            18 => self.own(pick, events),
            _ => self.audit(pick, events),
        }
    }

    fn set(&mut self, name: SemaphoreName, settings: SemaphoreSettings, events: &mut Vec<Event>) {
        let origin = Origin::Api;
        let known = self.tables.semaphores.get(&name);
        let fence = known.map_or(self.tables.marks.fence_floor, |semaphore| semaphore.fence);
        let revision = self.tables.marks.revision;
        let (name2, settings2) = (name.clone(), settings.clone());
        let record = SemaphoreRecord { name: name2, settings: settings2, origin, fence, revision };
        self.tables.semaphores.insert(name.clone(), record);
        events.push(Event::SemaphoreSet { name, settings, origin });
    }

    fn remove(&mut self, pick: usize, events: &mut Vec<Event>) {
        let named: BTreeSet<_> = (self.tables.claims.values())
            .flat_map(|claim| claim.terms.permits.names().cloned())
            .collect();
        let name = name(NAMES[pick % NAMES.len()]);
        if named.contains(&name) {
            return;
        }
        if let Some(semaphore) = self.tables.semaphores.remove(&name) {
            let floor = &mut self.tables.marks.fence_floor;
            *floor = (*floor).max(semaphore.fence);
            self.tables.cooling.retain(|(other, _), _| *other != name);
            events.push(Event::SemaphoreRemoved { name });
        }
    }

    fn queue(&mut self, pick: usize, events: &mut Vec<Event>) {
        let names = self.tables.semaphores.keys().map(|name| name.as_str().to_owned());
        let weights: Vec<_> = names.map(|name| (name, u32::try_from(pick % 4).unwrap())).collect();
        let weights: Vec<_> = (weights.iter().enumerate())
            .filter(|(at, (_, weight))| *weight > 0 && (pick >> at) & 1 == 1)
            .map(|(_, (name, weight))| (name.as_str(), *weight))
            .collect();
        let id = id(&format!("id{}", pick % 7));
        if weights.is_empty() || self.tables.claims.values().any(|claim| claim.id == id) {
            return;
        }
        let sequence = self.tables.marks.sequence.next();
        self.tables.marks.sequence = sequence;
        let terms = Arc::new(terms(&weights));
        let revision = self.tables.marks.revision;
        let claim = Claim::new(id.clone(), sequence, terms.clone(), self.at(), revision);
        self.tables.claims.insert(sequence, claim);
        events.push(Event::ClaimQueued { id, sequence, terms });
        if pick.is_multiple_of(3) {
            let callback = Arc::new(callbacks().0);
            let claim = self.tables.claims[&sequence].clone();
            self.apply(claim, ClaimEvent::CallbackSet { callback }, events);
        }
    }

    /// A delivery of the callback, if it has one.
    fn call(&mut self, pick: usize, events: &mut Vec<Event>) {
        let calls = self.tables.claims.values().filter(|claim| {
            claim.callback.is_some() && !matches!(claim.state, ClaimState::Waiting)
        });
        let calls: Vec<_> = calls.cloned().collect();
        if !calls.is_empty() {
            let result = DeliveryResult::Answered { status: 503 };
            let (started_at, duration) = (self.at(), Duration::from_millis(5));
            let delivery = Delivery { started_at, duration, result };
            let claim = calls[pick % calls.len()].clone();
            self.apply(claim, ClaimEvent::CallbackTried { delivery }, events);
        }
    }

    fn pick(&self, pick: usize, fits: fn(&ClaimState) -> bool) -> Option<Claim> {
        let claims: Vec<_> = self.tables.claims.values().filter(|c| fits(&c.state)).collect();
        if claims.is_empty() { None } else { Some(claims[pick % claims.len()].clone()) }
    }

    fn apply(&mut self, mut claim: Claim, event: ClaimEvent, events: &mut Vec<Event>) {
        let sequence = claim.sequence;
        assert!(claim.apply(&event, self.at(), self.tables.marks.revision));
        events.push(Event::Claim { sequence, event });
        self.tables.claims.remove(&sequence);
        let ended = matches!(claim.state, ClaimState::Ended { .. });
        let rows = if ended { &mut self.tables.history } else { &mut self.tables.claims };
        rows.insert(sequence, claim);
    }

    fn take(&mut self, pick: usize, events: &mut Vec<Event>) {
        if let Some(claim) = self.pick(pick, |state| matches!(state, ClaimState::Waiting)) {
            let semaphores: &mut BTreeMap<_, SemaphoreRecord> = &mut self.tables.semaphores;
            let mut taken = |name| {
                let semaphore = semaphores.get_mut(name).unwrap();
                semaphore.fence = semaphore.fence.next();
                semaphore.fence
            };
            let fences: Fences = claim.terms.permits.names().map(&mut taken).collect();
            let hold_until = pick.is_multiple_of(3).then_some(WallTime(77));
            let event = match pick % 2 {
                0 => ClaimEvent::Offered { fences },
                _ => ClaimEvent::Granted { fences, hold_until },
            };
            self.apply(claim, event, events);
        }
    }

    fn hold_on(&mut self, pick: usize, events: &mut Vec<Event>) {
        if let Some(claim) = self.pick(pick, |state| !matches!(state, ClaimState::Waiting)) {
            let event = match claim.state {
                ClaimState::Offered { .. } => ClaimEvent::Confirmed { hold_until: None },
                _ => ClaimEvent::Renewed { ttl: Duration::from_secs(60) },
            };
            self.apply(claim, event, events);
        }
    }

    fn end(&mut self, pick: usize, events: &mut Vec<Event>) {
        if let Some(claim) = self.pick(pick, |_| true) {
            let reason = EndReason::ALL[pick % EndReason::ALL.len()];
            let cooldown = Duration::from_secs(30);
            let held = matches!(claim.state, ClaimState::Held { .. });
            let cools = claim.terms.permits.iter().filter(|_| held && pick.is_multiple_of(2));
            let mut pairs = Vec::new();
            for (name, permits) in cools {
                let (semaphore, sequence) = (name.clone(), claim.sequence);
                let cooling = Cooling { semaphore, sequence, permits, cooldown };
                self.tables.cooling.insert((name.clone(), sequence), cooling);
                pairs.push((name.clone(), cooldown));
            }
            let event = ClaimEvent::Ended { reason, note: None, cooling: pairs.into() };
            self.apply(claim, event, events);
        }
    }

    fn cool(&mut self, pick: usize, events: &mut Vec<Event>) {
        let keys: Vec<_> = self.tables.cooling.keys().cloned().collect();
        if keys.is_empty() {
            return;
        }
        let key = keys[pick % keys.len()].clone();
        let cooling = self.tables.cooling.get_mut(&key).unwrap();
        let permits = u32::try_from(pick).unwrap() % cooling.permits + 1;
        cooling.permits -= permits;
        if cooling.permits == 0 {
            self.tables.cooling.remove(&key);
        }
        let (semaphore, sequence) = key;
        events.push(Event::CoolingEnded { semaphore, sequence, permits });
    }

    /// A token is made, changed, or revoked.
    fn token(&mut self, pick: usize, events: &mut Vec<Event>) {
        let id = token_id(TOKENS[pick % TOKENS.len()]);
        if pick.is_multiple_of(4) && self.tables.tokens.remove(&id).is_some() {
            events.push(Event::TokenRevoked { id });
            return;
        }
        let token = Arc::new(token(id.as_str(), &format!("name {pick}")));
        self.tables.tokens.insert(id, Arc::clone(&token));
        events.push(Event::TokenSet { token });
    }

    /// Also of tokens that are not there any more.
    fn use_tokens(&mut self, pick: usize, events: &mut Vec<Event>) {
        let at = self.at();
        let used = TOKENS.iter().skip(pick % TOKENS.len()).map(|id| (token_id(id), at));
        let used: Vec<_> = used.collect();
        for (id, at) in &used {
            if let Some(token) = self.tables.tokens.get_mut(id) {
                Arc::make_mut(token).last_used_at = Some(*at);
            }
        }
        events.push(Event::TokensUsed { used: used.into() });
    }

    fn own(&mut self, pick: usize, events: &mut Vec<Event>) {
        if let Some(claim) = self.pick(pick, |_| true) {
            let token = token_id(TOKENS[pick % TOKENS.len()]);
            self.apply(claim, ClaimEvent::OwnerSet { token }, events);
        }
        let held = self.pick(pick, |state| matches!(state, ClaimState::Held { .. }));
        if let Some(claim) = held.filter(|claim| claim.job.is_none()) {
            let job = JobId::new(&format!("job-{pick}")).unwrap();
            self.apply(claim, ClaimEvent::JobSet { job }, events);
        }
    }

    /// A row of the audit log, one a change; every other counts tries and replaces what counted them so far.
    fn audit(&mut self, pick: usize, events: &mut Vec<Event>) {
        if events.iter().any(|event| matches!(event, Event::Audit { .. })) {
            return;
        }
        let (revision, at) = (self.tables.marks.revision, self.at());
        let entry = if pick.is_multiple_of(2) {
            let by = Actor::of(&token("root", "the first admin"));
            acted(by, "semaphore.set", &format!("semaphore {}", NAMES[pick % NAMES.len()]))
        } else {
            let address = ["192.0.2.1", "2001:db8::1"][pick / 2 % 2];
            let result = ["unauthorized", "forbidden"][pick / 4 % 2];
            refused(address, result, at.0 / 60_000, u32::try_from(pick).unwrap())
        };
        let counted = |entry: &AuditEntry| {
            entry.tries.map(|tries| (tries.minute, entry.address, entry.result.clone()))
        };
        if let Some(key) = counted(&entry) {
            self.tables.audit.retain(|_, row| counted(&row.entry).as_ref() != Some(&key));
        }
        events.push(Event::Audit { entry: entry.clone().into() });
        self.tables.audit.insert(revision, AuditRow { revision, at, entry });
    }
}
