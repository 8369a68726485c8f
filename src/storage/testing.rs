//! What the tests of storage share: short ways to make values, and a generator of journals that fit.

mod world;

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use tempfile::TempDir;

pub(super) use self::world::World;
use crate::model::{
    Actor, AuditEntry, Callback, CallbackRecord, CallbackUrl, Change, Claim, ClaimEvent, ClaimId,
    Cooling, Declaration, Delivery, DeliveryFailure, DeliveryResult, EndReason, Event, Fence,
    Fences, Labels, Note, Origin, Patterns, Permits, Priority, Revision, Scope, Scopes, SecretHash,
    SemaphoreName, SemaphoreRecord, SemaphoreSettings, Sequence, TargetName, Terms, Token,
    TokenBounds, TokenId, TokenName, TokenOrigin, Tries, Vars, WallTime,
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

pub(super) fn token_id(text: &str) -> TokenId {
    TokenId::new(text).unwrap()
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

/// A token that has something of everything, and one that has as little as possible.
pub(super) fn tokens() -> (Token, Token) {
    let full = Token {
        id: token_id("ci4farm"),
        hash: SecretHash([0xa5; 32]),
        name: TokenName::new("CI farm").unwrap(),
        scopes: Scopes::new([Scope::Read, Scope::Claim]).unwrap(),
        patterns: Patterns::new(vec!["questa*".into(), "vcs".into()]).unwrap(),
        bounds: TokenBounds {
            claims_max: Some(300),
            waiting_requests_max: Some(20),
            priority_max: Some(Priority::new(10).unwrap()),
        },
        expires_at: Some(WallTime(1_800_000_000_000)),
        origin: TokenOrigin::File(Declaration([0x3c; 32])),
        created_at: WallTime(1_795_492_253_120),
        last_used_at: Some(WallTime(1_795_492_300_000)),
    };
    (full, token("root", "the first admin"))
}

/// A token that may do everything.
pub(super) fn token(id: &str, name: &str) -> Token {
    Token {
        id: token_id(id),
        hash: SecretHash([0x5a; 32]),
        name: TokenName::new(name).unwrap(),
        scopes: Scopes::ADMIN,
        patterns: Patterns::all(),
        bounds: TokenBounds::default(),
        expires_at: None,
        origin: TokenOrigin::Api,
        created_at: WallTime(1_000),
        last_used_at: None,
    }
}

/// An entry of the audit log that says as little as possible.
pub(super) fn acted(actor: Actor, action: &str, object: &str) -> AuditEntry {
    AuditEntry::done(actor, action, object.to_owned())
}

/// A refused request that is counted.
pub(super) fn refused(address: &str, result: &str, minute: i64, count: u32) -> AuditEntry {
    AuditEntry {
        address: Some(address.parse().unwrap()),
        result: result.into(),
        tries: Some(Tries { minute: WallTime(minute * 60_000), count }),
        ..acted(Actor::Anonymous, "GET", "/api/v1/claims")
    }
}

pub(super) fn audit(entry: AuditEntry) -> Event {
    Event::Audit { entry: entry.into() }
}

/// An entry of each actor, with and without everything that may be missing.
pub(super) fn audit_entries() -> Vec<AuditEntry> {
    let with_all = AuditEntry {
        address: Some([192, 0, 2, 7].into()),
        old: Some(r#"{"capacity":5}"#.into()),
        new: Some(r#"{"capacity":7}"#.into()),
        reason: Some(Note::new("two more seats").unwrap()),
        ..acted(Actor::of(&tokens().0), "semaphore.set", "semaphore FlexLM")
    };
    vec![
        with_all,
        refused("2001:db8::7", "unauthorized", 29_924_870, 300),
        acted(Actor::Configuration, "token.set", "token ci4farm"),
        acted(Actor::Daemon, "token.create", "token root"),
    ]
}
