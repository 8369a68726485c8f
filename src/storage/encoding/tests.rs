use std::time::Duration;

use super::{
    frozen::{CHANGES_V1, CHANGES_V2, CHANGES_V3, ROWS_V1, ROWS_V2, ROWS_V3},
    *,
};
use crate::{
    model::{
        ClaimEvent, Delivery, DeliveryFailure, DeliveryResult, EndReason, Event, Fence, Holder,
        JobId, Labels, Note,
    },
    storage::testing::{self, name, token_id},
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One change with every event, and every event of a claim, in the order of their declaration.
fn every_event_of_version_1() -> Vec<Change> {
    let sequence = Sequence(300);
    let cooldown = Duration::from_millis(60_500);
    let claim = |event| Event::Claim { sequence, event };
    let note = Note::new("tidying up").unwrap();
    let mut terms = testing::terms(&[("a", 1), ("b", 2)]);
    terms.holder = Some(Holder::new("job 412").unwrap());
    terms.labels = Labels::new(vec![("branch".into(), "main".into())]).unwrap();
    terms.queue_ttl = Some(Duration::from_secs(120));
    let events = vec![
        testing::set("a", 5),
        Event::SemaphoreRemoved { name: name("a") },
        Event::ClaimQueued { id: testing::id("7f3c"), sequence, terms: terms.into() },
        claim(ClaimEvent::Offered { fences: [Fence(7), Fence(8)].into() }),
        claim(ClaimEvent::Granted {
            fences: [Fence(9)].into(),
            hold_until: Some(WallTime(1_795_492_253_120)),
        }),
        claim(ClaimEvent::Confirmed { hold_until: None }),
        claim(ClaimEvent::Renewed { ttl: Duration::from_secs(300) }),
        claim(ClaimEvent::Ended {
            reason: EndReason::Revoked,
            note: Some(note),
            cooling: [(name("a"), cooldown)].into(),
        }),
        Event::CoolingEnded { semaphore: name("a"), sequence, permits: 1 },
    ];
    vec![Change { revision: Revision(90_121), at: WallTime(1_795_492_253_120), events }]
}

/// The same with the events that came with version 2.
fn every_event_of_version_2() -> Vec<Change> {
    let mut changes = every_event_of_version_1();
    let events = &mut changes[0].events;
    let claim = |event| Event::Claim { sequence: Sequence(300), event };
    let started_at = WallTime(1_795_492_253_120);
    let duration = Duration::from_millis(34);
    let tried =
        |result| ClaimEvent::CallbackTried { delivery: Delivery { started_at, duration, result } };
    let (target, url) = testing::callbacks();
    events.push(claim(ClaimEvent::CallbackSet { callback: target.into() }));
    events.push(claim(ClaimEvent::CallbackSet { callback: url.into() }));
    events.push(claim(ClaimEvent::CallbackDue));
    events.push(claim(tried(DeliveryResult::Answered { status: 503 })));
    events.push(claim(tried(DeliveryResult::Unfinished)));
    for failure in DeliveryFailure::ALL {
        events.push(claim(tried(DeliveryResult::Failed(failure))));
    }
    changes
}

/// The same with the events that came with version 3.
fn every_event() -> Vec<Change> {
    let mut changes = every_event_of_version_2();
    let events = &mut changes[0].events;
    let (full, plain) = testing::tokens();
    let used = [(full.id.clone(), WallTime(1_795_492_200_000)), (plain.id.clone(), WallTime(0))];
    let id = full.id.clone();
    let event = ClaimEvent::OwnerSet { token: token_id("ci4farm") };
    events.push(Event::TokenSet { token: full.into() });
    events.push(Event::TokenSet { token: plain.into() });
    events.push(Event::TokenRevoked { id });
    events.push(Event::TokensUsed { used: used.into() });
    for entry in testing::audit_entries() {
        events.push(testing::audit(entry));
    }
    events.push(Event::Claim { sequence: Sequence(300), event });
    let event = ClaimEvent::JobSet { job: JobId::new("job-412").unwrap() };
    events.push(Event::Claim { sequence: Sequence(300), event });
    // A new variant does not compile here before it is in the lists above.
    for event in events.iter() {
        match event {
            Event::SemaphoreSet { .. }
            | Event::SemaphoreRemoved { .. }
            | Event::ClaimQueued { .. }
            | Event::CoolingEnded { .. }
            | Event::TokenSet { .. }
            | Event::TokenRevoked { .. }
            | Event::TokensUsed { .. }
            | Event::Audit { .. } => {}
            Event::Claim { event, .. } => match event {
                ClaimEvent::Offered { .. }
                | ClaimEvent::Granted { .. }
                | ClaimEvent::Confirmed { .. }
                | ClaimEvent::Renewed { .. }
                | ClaimEvent::Ended { .. }
                | ClaimEvent::CallbackSet { .. }
                | ClaimEvent::CallbackDue
                | ClaimEvent::CallbackTried { .. }
                | ClaimEvent::OwnerSet { .. }
                | ClaimEvent::JobSet { .. } => {}
            },
        }
    }
    changes
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// What version 1 wrote reads as it always did. Never change the texts.
#[test]
fn version_1_is_readable() {
    assert_eq!(decode(&bytes(CHANGES_V1)), Ok(every_event_of_version_1()));
    let (semaphore, claims, cooling) = testing::live_rows();
    assert_eq!(decode(&bytes(ROWS_V1[0])), Ok(semaphore));
    assert_eq!(decode(&bytes(ROWS_V1[1])), Ok(cooling));
    assert_eq!(decode(&bytes(ROWS_V1[2])), Ok(marks()));
    for (claim, row) in claims.into_iter().zip(&ROWS_V1[3..]) {
        assert_eq!(decode::<Claim>(&bytes(row)), Ok(claim));
    }
}

fn marks() -> Marks {
    Marks { revision: Revision(90_121), sequence: Sequence(300), fence_floor: Fence(9) }
}

/// What version 2 wrote reads as it always did. Never change the texts.
#[test]
fn version_2_is_readable() {
    assert_eq!(decode(&bytes(CHANGES_V2)), Ok(every_event_of_version_2()));
    let (semaphore, mut claims, cooling) = testing::live_rows();
    claims.extend(claims.clone().into_iter().map(testing::with_callback));
    assert_eq!(decode(&bytes(ROWS_V2[0])), Ok(semaphore));
    assert_eq!(decode(&bytes(ROWS_V2[1])), Ok(cooling));
    assert_eq!(decode(&bytes(ROWS_V2[2])), Ok(marks()));
    assert_eq!(claims.len(), ROWS_V2.len() - 3);
    for (claim, row) in claims.into_iter().zip(&ROWS_V2[3..]) {
        assert_eq!(decode::<Claim>(&bytes(row)), Ok(claim));
    }
}

/// The frozen bytes of version 3. When this test fails, a type of the model has changed in a way
/// that databases in the field do not know: add a new version to [`decode`] and a new frozen text
/// beside this one; never change the old one.
#[test]
fn version_3_is_frozen() {
    let changes = every_event();
    let blob = encode_changes(&changes).unwrap();
    assert_eq!(hex(&blob), CHANGES_V3);
    assert_eq!(decode::<Vec<Change>>(&blob), Ok(changes));

    let (semaphore, mut claims, cooling) = testing::live_rows();
    let owned = |claim| Claim {
        owner: Some(token_id("ci4farm")),
        job: JobId::new("job-412").ok(),
        ..testing::with_callback(claim)
    };
    claims.extend(claims.clone().into_iter().map(owned));
    let (token, _) = testing::tokens();
    let blobs = [encode(&semaphore), encode(&cooling), encode(&marks()), encode(&token)];
    let mut rows: Vec<_> = blobs.into_iter().map(|blob| hex(&blob.unwrap())).collect();
    for claim in &claims {
        match claim.state {
            ClaimState::Waiting
            | ClaimState::Offered { .. }
            | ClaimState::Held { .. }
            | ClaimState::Ended { .. } => rows.push(hex(&encode(claim).unwrap())),
        }
        assert_eq!(decode::<Claim>(&encode(claim).unwrap()).as_ref(), Ok(claim));
    }
    assert_eq!(decode(&encode(&semaphore).unwrap()), Ok(semaphore));
    assert_eq!(decode(&encode(&marks()).unwrap()), Ok(marks()));
    assert_eq!(decode(&encode(&cooling).unwrap()), Ok(cooling));
    assert_eq!(decode(&encode(&token).unwrap()), Ok(token));
    assert_eq!(rows, ROWS_V3);
}

#[test]
fn every_damage_is_refused() {
    let blob = encode_changes(&every_event()).unwrap();
    for at in 0..blob.len() {
        let mut wrong = blob.clone();
        wrong[at] ^= 0x10;
        assert!(decode::<Vec<Change>>(&wrong).is_err(), "byte {at}");
        assert!(decode::<Vec<Change>>(&blob[..at]).is_err(), "cut to {at}");
    }
}

#[test]
fn unknown_versions_and_bytes_left_over_are_refused() {
    let sealed = |content: &[u8]| [content, &checksum(content)].concat();
    let check = |content: &[u8], expected: &str| {
        let text = decode::<Vec<Change>>(&sealed(content)).unwrap_err();
        assert!(text.contains(expected), "{text}");
    };
    assert_eq!(decode::<Vec<Change>>(&sealed(&[1, 0])), Ok(vec![]));
    check(&[1, 0, 0], "1 bytes too many");
    assert_eq!(decode::<Vec<Change>>(&sealed(&[2, 0])), Ok(vec![]));
    assert_eq!(decode::<Vec<Change>>(&sealed(&[3, 0])), Ok(vec![]));
    check(&[4, 0], "unknown encoding 4");
    check(&[1], "cannot be decoded");
    check(&[], "empty");
}
