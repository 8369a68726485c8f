//! What the tests of storage share: short ways to make values, and a generator of journals that fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

use tempfile::TempDir;

use super::memory::Tables;
use crate::model::{
    Callback, CallbackRecord, CallbackUrl, Change, Claim, ClaimEvent, ClaimId, ClaimState, Cooling,
    Delivery, DeliveryFailure, DeliveryResult, EndReason, Event, Fence, Fences, Labels, Origin,
    Permits, Priority, Revision, SemaphoreName, SemaphoreRecord, SemaphoreSettings, Sequence,
    TargetName, Terms, Vars, WallTime,
};

/// A directory for a database.
pub(super) fn private_dir() -> TempDir {
    let owner_only = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(owner_only).tempdir().unwrap()
}

pub(super) fn name(text: &str) -> SemaphoreName {
    SemaphoreName::new(text).unwrap()
}

pub(super) fn id(text: &str) -> ClaimId {
    ClaimId::new(text).unwrap()
}

pub(super) fn terms(permits: &[(&str, u32)]) -> Terms {
    let permits = permits.iter().map(|(semaphore, weight)| (name(semaphore), *weight)).collect();
    Terms {
        permits: Permits::new(permits).unwrap(),
        holder: None,
        labels: Labels::default(),
        priority: Priority::new(-1).unwrap(),
        ttl: Duration::from_secs(300),
        queue_ttl: None,
        offer_ttl: Duration::from_millis(1_500),
        wait_timeout: Some(Duration::from_secs(3_600)),
        has_callback: true,
        fingerprint: [0x5a; 32],
    }
}

pub(super) fn set(semaphore: &str, capacity: u32) -> Event {
    Event::SemaphoreSet {
        name: name(semaphore),
        settings: SemaphoreSettings::with_capacity(capacity),
        origin: Origin::Api,
    }
}

pub(super) fn queued(claim: &str, sequence: u64, permits: &[(&str, u32)]) -> Event {
    let terms = terms(permits).into();
    Event::ClaimQueued { id: id(claim), sequence: Sequence(sequence), terms }
}

pub(super) fn granted(sequence: u64, fences: &[u64]) -> Event {
    let fences = fences.iter().map(|fence| Fence(*fence)).collect();
    let event = ClaimEvent::Granted { fences, hold_until: None };
    Event::Claim { sequence: Sequence(sequence), event }
}

pub(super) fn ended(sequence: u64, cooling: &[(&str, u64)]) -> Event {
    let cooling = cooling.iter().map(|(s, seconds)| (name(s), Duration::from_secs(*seconds)));
    let reason = EndReason::Released;
    let event = ClaimEvent::Ended { reason, note: None, cooling: cooling.collect() };
    Event::Claim { sequence: Sequence(sequence), event }
}

/// A change at `revision` seconds after 1970.
pub(super) fn change(revision: u64, events: Vec<Event>) -> Change {
    let at = WallTime(i64::try_from(revision).unwrap() * 1_000);
    Change { revision: Revision(revision), at, events }
}

/// One row of each live table, the claim in each state that it can have.
pub(super) fn live_rows() -> (SemaphoreRecord, Vec<Claim>, Cooling) {
    let semaphore = SemaphoreRecord {
        name: name("a"),
        settings: SemaphoreSettings::with_capacity(5),
        origin: Origin::Api,
        fence: Fence(8_812),
        revision: Revision(9),
    };
    let cooling = Cooling {
        semaphore: name("a"),
        sequence: Sequence(41),
        permits: 2,
        cooldown: Duration::from_secs(60),
    };
    let terms = terms(&[("a", 2)]).into();
    let mut claim = Claim::new(id("7f3c"), Sequence(42), terms, WallTime(1_000), Revision(10));
    let mut claims = vec![claim.clone()];
    let fences: Fences = [Fence(8_812)].into();
    let ended = ClaimEvent::Ended { reason: EndReason::Expired, note: None, cooling: [].into() };
    for (event, revision) in [
        (ClaimEvent::Offered { fences }, 11),
        (ClaimEvent::Confirmed { hold_until: Some(WallTime(9_000)) }, 12),
        (ended, 13),
    ] {
        assert!(claim.apply(&event, WallTime(2_000), Revision(revision)));
        claims.push(claim.clone());
    }
    (semaphore, claims, cooling)
}

/// One callback of each kind.
pub(super) fn callbacks() -> (Callback, Callback) {
    let vars = Vars::new(vec![("project".into(), "42".into())]).unwrap();
    let target = Callback::Target { name: TargetName::new("gitlab-fpga").unwrap(), vars };
    (target, Callback::Url(CallbackUrl::new("https://hooks.example/ci/?a=b").unwrap()))
}

/// The claim with a callback that was tried twice.
pub(super) fn with_callback(mut claim: Claim) -> Claim {
    let delivery = |result| Delivery {
        started_at: WallTime(3_000),
        duration: Duration::from_millis(1_250),
        result,
    };
    let tried = [
        DeliveryResult::Failed(DeliveryFailure::Timeout),
        DeliveryResult::Answered { status: 204 },
    ];
    let callback = callbacks().0.into();
    let deliveries = tried.into_iter().map(delivery).collect();
    claim.callback = Some(Box::new(CallbackRecord { callback, deliveries }));
    claim
}

/// Makes changes out of random numbers, each fitting what went before. It keeps its own, simple idea of
/// the tables, event by event and without [`super::net`]: the tests compare the two.
#[derive(Default)]
pub(super) struct World {
    pub(super) changes: Vec<Change>,
    pub(super) tables: Tables,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

impl World {
    pub(super) fn from_choices(choices: &[u32]) -> World {
        let mut world = World::default();
        for pair in choices.chunks(2) {
            let mut events = Vec::new();
            world.tables.marks.revision = world.tables.marks.revision.next();
            for choice in pair {
                world.step(choice % 16, usize::try_from(choice / 16).unwrap(), &mut events);
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
            _ => self.cool(pick, events),
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
        let terms = std::sync::Arc::new(terms(&weights));
        let revision = self.tables.marks.revision;
        let claim = Claim::new(id.clone(), sequence, terms.clone(), self.at(), revision);
        self.tables.claims.insert(sequence, claim);
        events.push(Event::ClaimQueued { id, sequence, terms });
        if pick.is_multiple_of(3) {
            let callback = std::sync::Arc::new(callbacks().0);
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
}
