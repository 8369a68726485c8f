use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::model::Actor;
use crate::storage::{
    memory::Tables,
    testing::{
        World, acted, audit, change, ended, granted, name, queued, refused, set, token, token_id,
    },
};

/// Folds the changes in steps of these sizes (over and over).
fn folded(changes: &[Change], steps: &[usize]) -> Tables {
    let mut tables = Tables::default();
    let mut rest = changes;
    for step in steps.iter().cycle() {
        let (now, later) = rest.split_at((*step).min(rest.len()));
        let net = fold(&tables, tables.marks, now).unwrap();
        tables.apply(net);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    tables
}

proptest! {
    #[test]
    fn steps_of_any_size_give_the_same(
        choices in prop::collection::vec(any::<u32>(), 0..300),
        steps in prop::collection::vec(1_usize..40, 1..8),
    ) {
        let world = World::from_choices(&choices);
        let whole = folded(&world.changes, &[usize::MAX]);
        prop_assert_eq!(&folded(&world.changes, &steps), &whole);
        prop_assert_eq!(whole, world.tables);
    }
}

#[test]
fn the_generator_reaches_every_corner() {
    let choices: Vec<u32> = (0..20_000_u32).map(|n| n.wrapping_mul(2_654_435_761) >> 7).collect();
    let world = World::from_choices(&choices);
    let has = |wanted: fn(&Event) -> bool| {
        world.changes.iter().flat_map(|change| &change.events).any(wanted)
    };
    assert!(has(|event| matches!(event, Event::SemaphoreRemoved { .. })));
    assert!(has(|event| matches!(event, Event::CoolingEnded { .. })));
    let text = format!("{:?}", world.changes);
    for wanted in [
        "Offered",
        "Granted",
        "Confirmed",
        "Renewed",
        "CallbackSet",
        "CallbackTried",
        "OwnerSet",
        "TokenSet",
        "TokenRevoked",
        "TokensUsed",
        "Audit",
    ] {
        assert!(text.contains(wanted), "{wanted}");
    }
    assert!(world.tables.history.len() > 100);
    assert!(world.tables.history.values().any(|claim| claim.owner.is_some()));
    let tries = world.tables.audit.values().filter(|row| row.entry.tries.is_some()).count();
    let noted = world.changes.iter().flat_map(|change| &change.events);
    let noted = noted.filter(|event| matches!(event, Event::Audit { .. })).count();
    assert!(tries > 10 && noted > world.tables.audit.len() + 10, "{tries} {noted}");
}

#[test]
fn a_claim_born_and_ended_inside_is_one_history_row() {
    let changes = [
        change(1, vec![set("a", 5)]),
        change(2, vec![queued("x", 1, &[("a", 2)]), granted(1, &[1])]),
        change(3, vec![ended(1, &[("a", 60)])]),
    ];
    let net = fold(&Tables::default(), Marks::default(), &changes).unwrap();
    assert_eq!(net.claims, Edits { removed: vec![], upserted: vec![] });
    assert_eq!(net.ended.len(), 1);
    let marks = Marks { revision: Revision(3), sequence: Sequence(1), fence_floor: Fence(0) };
    assert_eq!(net.marks, marks);
    assert_eq!(net.semaphores.upserted[0].fence, Fence(1));
    let cooling = &net.cooling.upserted[0];
    assert_eq!((cooling.permits, cooling.cooldown), (2, Duration::from_secs(60)));
}

#[test]
fn a_name_that_comes_back_takes_no_old_fence() {
    let mut tables = folded(
        &[
            change(1, vec![set("a", 5), queued("x", 1, &[("a", 1)]), granted(1, &[7])]),
            change(2, vec![ended(1, &[("a", 60)])]),
        ],
        &[1],
    );
    assert_eq!(tables.cooling.len(), 1);
    let back = change(3, vec![Event::SemaphoreRemoved { name: name("a") }, set("a", 1)]);
    tables.apply(fold(&tables, tables.marks, [&back]).unwrap());
    assert_eq!(tables.semaphores[&name("a")].fence, Fence(7));
    assert_eq!(tables.marks.fence_floor, Fence(7));
    assert!(tables.cooling.is_empty());
}

#[test]
fn a_token_that_was_made_used_and_revoked_leaves_no_trace() {
    let (root, farm) = (token("root", "admin"), token("farm", "CI"));
    let (root_id, farm_id) = (root.id.clone(), farm.id.clone());
    let used = [(root_id.clone(), WallTime(7)), (farm_id.clone(), WallTime(8))];
    let changes = [
        change(1, vec![Event::TokenSet { token: root.clone().into() }]),
        change(2, vec![Event::TokenSet { token: farm.into() }]),
        change(3, vec![Event::TokenRevoked { id: farm_id.clone() }]),
        change(4, vec![Event::TokensUsed { used: used.into() }]),
    ];
    let net = fold(&Tables::default(), Marks::default(), &changes).unwrap();
    let used_once = Token { last_used_at: Some(WallTime(7)), ..root };
    assert_eq!(net.tokens, Edits { removed: vec![], upserted: vec![Arc::new(used_once)] });

    // The table has it: the use noted after the revoke does not bring it back.
    let tables = folded(&changes[..2], &[1]);
    let net = fold(&tables, tables.marks, &changes[2..]).unwrap();
    assert_eq!(net.tokens.removed, [farm_id]);
    assert_eq!(net.tokens.upserted[0].id, root_id);
}

#[test]
fn tries_of_a_minute_address_and_code_are_one_row() {
    let noted = [
        refused("192.0.2.1", "unauthorized", 5, 1),
        refused("192.0.2.1", "unauthorized", 5, 2),
        refused("192.0.2.1", "forbidden", 5, 1),
        refused("192.0.2.2", "unauthorized", 5, 1),
        refused("192.0.2.1", "unauthorized", 6, 1),
        acted(Actor::Anonymous, "GET", "/api/v1/claims"),
        acted(Actor::Anonymous, "GET", "/api/v1/claims"),
        refused("192.0.2.1", "unauthorized", 5, 3),
    ];
    let changes: Vec<_> =
        (1..).zip(noted).map(|(n, entry)| change(n, vec![audit(entry)])).collect();
    for steps in [[1, 1], [2, 3], [8, 8]] {
        let tables = folded(&changes, &steps);
        let rows = tables.audit.values();
        let rows: Vec<_> =
            rows.map(|row| (row.revision.0, row.entry.tries.map(|tries| tries.count))).collect();
        let (one, three) = (Some(1), Some(3));
        assert_eq!(rows, [(3, one), (4, one), (5, one), (6, None), (7, None), (8, three)]);
        assert_eq!(tables.audit[&Revision(8)].at, WallTime(8_000));
    }
}

#[test]
fn what_does_not_fit_is_damage() {
    let before = [
        change(1, vec![set("a", 5), set("b", 5)]),
        change(2, vec![queued("x", 1, &[("a", 1)]), granted(1, &[4])]),
        change(3, vec![queued("y", 2, &[("a", 1)])]),
    ];
    let tables = folded(&before, &[1]);
    let check = |event: Event, expected: &str| {
        let error = fold(&tables, tables.marks, [&change(4, vec![event])]).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }));
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(granted(1, &[5]), "cannot be Granted");
    check(granted(2, &[4]), "fence 4 of a is taken");
    check(granted(2, &[5, 6]), "differ in number");
    check(granted(3, &[5]), "no live claim 3");
    check(ended(2, &[("a", 9)]), "was not held");
    check(ended(1, &[("b", 9)]), "permits of b cannot cool");
    check(queued("z", 2, &[("a", 1)]), "sequence number 2 is taken");
    check(Event::SemaphoreRemoved { name: name("c") }, "no semaphore c");
    let (semaphore, sequence) = (name("a"), Sequence(1));
    check(Event::CoolingEnded { semaphore, sequence, permits: 1 }, "do not cool after 1");
    check(Event::TokenRevoked { id: token_id("root") }, "no token root");
    let owner = ClaimEvent::OwnerSet { token: token_id("root") };
    check(Event::Claim { sequence: Sequence(3), event: owner }, "no live claim 3");
    let entry = || audit(acted(Actor::Daemon, "token.create", "token root"));
    let two = change(4, vec![entry(), set("a", 1), entry()]);
    let error = fold(&tables, tables.marks, [&two]).unwrap_err().to_string();
    assert!(error.contains("two rows of the audit log"), "{error}");
    assert!(fold(&tables, tables.marks, [&change(3, vec![set("a", 1)])]).is_err());
}
