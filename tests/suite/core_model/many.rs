//! Many claims: what a change costs, and what is done in parts.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use semaphored::{
    model::{
        ClaimEvent, ClaimId, ClaimRequest, EndReason, Event, Holder, Origin, SemaphoreSettings,
        Sequence, ServiceTime, WallTime,
    },
    semaphore::core::{
        Command, Core, LIST_SCAN_MAX, Limits, ListedState, Now, Outcome, TIMEOUT_TIMERS_MAX,
    },
};

use super::run::name;
use crate::plain_request::plain_request;

fn at_seconds(seconds: u64) -> Now {
    let duration = Duration::from_secs(seconds);
    Now { service: ServiceTime(duration), wall: WallTime(0).after(duration) }
}

fn id(number: usize) -> ClaimId {
    ClaimId::new(&format!("c{number}")).unwrap()
}

fn apply(core: &mut Core, seconds: u64, command: Command) -> (Outcome, Vec<Event>) {
    let mut events = Vec::new();
    let outcome = core.apply(at_seconds(seconds), command, &mut events).unwrap();
    (outcome, events)
}

/// A core with semaphores s0 and s1 of this capacity.
fn core_with(capacity: u32) -> Core {
    let mut core = Core::new(Limits::default());
    for number in 0..2 {
        let settings = SemaphoreSettings::with_capacity(capacity);
        let (name, origin) = (name(number), Origin::Api);
        let command = Command::SetSemaphore { name, settings, origin, force: false };
        apply(&mut core, 0, command);
    }
    core
}

/// Claims `c0` to `c<claims - 1>` that block: each second one asks for both semaphores, each
/// thousandth one names a holder.
fn acquire_many(core: &mut Core, claims: usize) {
    for number in 0..claims {
        let request = request(number);
        apply(core, 0, Command::Acquire { id: id(number), request, blocks: true });
    }
}

fn request(number: usize) -> ClaimRequest {
    let weights = (0..=number % 2).map(|semaphore| (name(semaphore), 1)).collect();
    let holder = if number % 1_000 == 7 { Holder::new("rare").ok() } else { None };
    ClaimRequest { holder, ..plain_request(weights) }
}

/// Releases the holder (which grants the next), cancels one in the middle of the queue and looks at the
/// position of another, for the n-th time; returns how long each took.
fn change_once(core: &mut Core, claims: usize, n: usize) -> [Duration; 3] {
    let begin = Instant::now();
    let (_, events) = apply(core, 1, Command::Release { id: id(n), job: None });
    let released = begin.elapsed();
    assert_eq!(events.len(), 2, "ended, and the next one granted: {events:?}");

    let begin = Instant::now();
    apply(core, 1, Command::Release { id: id(claims / 2 + n), job: None });
    let cancelled = begin.elapsed();

    let begin = Instant::now();
    let positions = black_box(core.claim(&id(claims - 1 - n))).unwrap().positions;
    let looked_at = begin.elapsed();
    assert!(!positions.is_empty());
    [released, cancelled, looked_at]
}

/// 64 times as many claims may not cost 64 times as much. Logarithmic growth is a factor below two;
/// memory that is not in the cache adds to it. The two cores take turns and their medians are compared,
/// so that a busy machine slows both.
#[test]
fn a_long_queue_makes_changes_hardly_slower() {
    const SHORT: usize = 500;
    const LONG: usize = 64 * SHORT;
    let (mut short, mut long) = (core_with(1), core_with(1));
    acquire_many(&mut short, SHORT);
    acquire_many(&mut long, LONG);
    let (mut of_short, mut of_long) = ([const { Vec::new() }; 3], [const { Vec::new() }; 3]);
    for n in 0..101 {
        let of_short_now = change_once(&mut short, SHORT, n);
        let of_long_now = change_once(&mut long, LONG, n);
        for what in 0..3 {
            of_short[what].push(of_short_now[what]);
            of_long[what].push(of_long_now[what]);
        }
    }
    for (what, verb) in ["release", "cancel", "position"].into_iter().enumerate() {
        of_short[what].sort();
        of_long[what].sort();
        let (median_short, median_long) = (of_short[what][50], of_long[what][50]);
        assert!(
            median_long < 5 * median_short.max(Duration::from_micros(1)),
            "{verb}: {median_short:?} with {SHORT} claims, {median_long:?} with {LONG}"
        );
    }
}

/// What is due beyond the bound stays due, and nothing is granted to what is over.
#[test]
fn a_timeout_handles_so_many_timers_and_leaves_the_rest_due() {
    let claims = TIMEOUT_TIMERS_MAX + 500;
    let mut core = core_with(u32::try_from(claims).unwrap());
    acquire_many(&mut core, claims);
    let lease = core.claim(&id(0)).unwrap().until.unwrap();
    for (left, events_expected) in [(500, TIMEOUT_TIMERS_MAX), (0, 500), (0, 0)] {
        let (_, events) = apply(&mut core, lease.0.as_secs(), Command::Timeout);
        assert_eq!((core.claims_len(), events.len()), (left, events_expected));
        core.check_invariants().unwrap();
        let due = core.next_deadline(at_seconds(lease.0.as_secs()));
        assert_eq!(due, if left > 0 { Some(lease) } else { None });
    }
}

/// However many waits ran out while the process was down: none of them is offered what is free.
#[test]
fn after_a_restart_all_that_is_over_ends_before_anything_is_granted() {
    let late = 2 * TIMEOUT_TIMERS_MAX + 500;
    let mut core = core_with(1);
    acquire_many(&mut core, 1);
    for number in 1..=late + 1 {
        let wait_timeout = (number <= late).then_some(Duration::from_secs(30));
        let request = ClaimRequest { wait_timeout, ..request(number) };
        apply(&mut core, 0, Command::Acquire { id: id(number), request, blocks: true });
        // Nobody is there, so that the permit which the holder gives back stays free.
        let sequence = Sequence(number as u64 + 1);
        apply(&mut core, 0, Command::Unblock { sequence, closed: true });
    }
    apply(&mut core, 1, Command::Release { id: id(0), job: None });
    assert_eq!(core.semaphore(&name(0)).unwrap().available, 1);

    let now = at_seconds(60);
    let mut core = Core::recover(Limits::default(), core.base(), Vec::new(), now).unwrap();
    let mut events = Vec::new();
    while events.is_empty() || core.is_due(now) {
        let (_, part) = apply(&mut core, 60, Command::Resume);
        assert!((1..=TIMEOUT_TIMERS_MAX).contains(&part.len()), "{} events in one", part.len());
        events.extend(part);
    }
    let is_timeout = |event: &&Event| match event {
        Event::Claim { event: ClaimEvent::Ended { reason, .. }, .. } => {
            *reason == EndReason::WaitTimeout
        }
        _ => false,
    };
    let ended = events.iter().take_while(is_timeout).count();
    assert_eq!(ended, late, "first all have ended that waited too long");
    let others = &events[ended..];
    let offered =
        |event: &Event| matches!(event, Event::Claim { event: ClaimEvent::Offered { .. }, .. });
    assert!(others.len() == 1 && offered(&others[0]), "then the last was offered: {others:?}");
    core.check_invariants().unwrap();
}

/// A page looks at a bounded number of claims, so it may have none and still not be the last.
#[test]
fn a_listing_of_few_among_many_misses_none() {
    let claims = 2 * LIST_SCAN_MAX + 500;
    let mut core = core_with(3);
    acquire_many(&mut core, claims);
    let holder = Holder::new("rare").unwrap();
    for state in [None, Some(ListedState::Waiting)] {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = core.list(Some(&name(0)), state, Some(&holder), after, 8, |_| true);
            found.extend(page.claims);
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = (0..claims).filter(|number| number % 1_000 == 7);
        let expected: Vec<_> = expected.map(|number| Sequence(number as u64 + 1)).collect();
        assert_eq!(found, expected);
        assert!(pages <= 2 + found.len() / 8 + claims / LIST_SCAN_MAX, "{pages} pages");
    }
}
