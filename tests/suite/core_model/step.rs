//! Random steps: what is done, and how much time passes before it.
//!
//! Lengths of time come from few values, so that deadlines often fall together. Claims are picked by
//! number among those that live when the step comes, so a shortened script still says something.

use proptest::{collection::vec, option, prelude::*, sample::select};

/// One step of a script.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) tick: Tick,
    pub(super) action: Action,
    pub(super) gone: Gone,
    /// Size of the pages in which listings are read afterwards.
    pub(super) page_claims: usize,
}

/// How the clocks move.
#[derive(Clone, Debug)]
pub(super) enum Tick {
    /// Not at all.
    None,
    /// Both by so many milliseconds.
    Both(u64),
    /// To the next deadline and so many milliseconds further.
    Deadline(u64),
    /// The wall clock alone is set by so many milliseconds, back or forth.
    Wall(i64),
}

/// Whose clients have hung up, should the core ask in this step: bit `n` is for the claims whose sequence
/// number ends in the six bits of `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone(pub(super) u64);

impl Gone {
    pub(super) fn contains(self, sequence: u64) -> bool {
        self.0 >> (sequence % 64) & 1 == 1
    }
}

/// Which claim: of those that live (nearly always), or of all that ever were and one that never was.
#[derive(Clone, Debug)]
pub(super) enum Target {
    Live(usize),
    Any(usize),
}

/// What is done.
#[derive(Clone, Debug)]
pub(super) enum Action {
    New {
        spec: Spec,
        blocks: bool,
    },
    /// The same request again, so many times.
    Again {
        target: Target,
        blocks: bool,
        times: usize,
    },
    /// Another request with the same id.
    Other {
        target: Target,
        spec: Spec,
    },
    Renew {
        target: Target,
        ttl_s: Option<u64>,
        blocks: bool,
    },
    Release(Target),
    Revoke(Target),
    Unblock {
        target: Target,
        closed: bool,
    },
    /// A callback was called: the status, 0 for none; 1: it is being called.
    Tried {
        target: Target,
        status: u16,
    },
    Set {
        semaphore: usize,
        setting: Setting,
        force: bool,
    },
    Remove {
        semaphore: usize,
        force: bool,
    },
    Timeout,
    /// The journal so far is folded into the tables.
    Fold,
    /// The process starts again after so long: from tables that are up to date, or from the folded ones
    /// and the journal after them.
    Restart {
        down_ms: u64,
        from_journal: bool,
    },
}

/// A request for permits.
#[derive(Clone, Debug, Hash)]
pub(super) struct Spec {
    /// Semaphore and weight; the first of two entries for one semaphore counts.
    pub(super) permits: Vec<(usize, u32)>,
    pub(super) priority: i64,
    pub(super) ttl_s: Option<u64>,
    pub(super) queue_ttl_s: Option<u64>,
    pub(super) offer_ttl_s: Option<u64>,
    pub(super) wait_timeout_s: Option<u64>,
    pub(super) queue: bool,
    pub(super) has_callback: bool,
}

/// A change of a semaphore's settings. One that does not exist is registered with it.
#[derive(Clone, Debug)]
pub(super) enum Setting {
    Capacity(u32),
    Draining(bool),
    CooldownS(u64),
    MaxHoldS(Option<u64>),
    Ttl {
        default_s: u64,
        max_s: u64,
    },
    QueueTtlS(u64),
    OfferTtlS(Option<u64>),
    WaitTimeoutS(Option<u64>),
    FromFile(u8),
    /// The same again.
    Same,
}

fn tick() -> impl Strategy<Value = Tick> {
    prop_oneof![
        30 => Just(Tick::None),
        12 => select(&[1, 500, 1_000, 1_000, 2_000][..]).prop_map(Tick::Both),
        8 => select(&[0, 0, 0, 1, 1_000][..]).prop_map(Tick::Deadline),
        1 => select(&[20_000, 60_000, 25 * 3_600_000][..]).prop_map(Tick::Both),
        2 => select(&[-7_000, -500, 3_000, 60_000][..]).prop_map(Tick::Wall),
    ]
}

fn seconds() -> impl Strategy<Value = Option<u64>> {
    option::weighted(0.3, select(&[1, 2, 5, 10, 30][..]))
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        15 => any::<usize>().prop_map(Target::Live),
        1 => any::<usize>().prop_map(Target::Any),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let permits = prop_oneof![
        6 => vec((0_usize..3, 1_u32..3), 1),
        6 => vec((0_usize..3, 1_u32..3), 2..4),
        1 => vec((0_usize..5, 1_u32..5), 1..5),
    ];
    let priority = prop_oneof![5 => Just(0), 2 => -2_i64..3, 1 => select(&[-100, 100][..])];
    let kind = (prop::bool::weighted(0.85), prop::bool::weighted(0.2));
    (permits, priority, seconds(), seconds(), seconds(), seconds(), kind).prop_map(
        |(mut permits, priority, ttl_s, queue_ttl_s, offer_ttl_s, wait_timeout_s, kind)| {
            permits.sort_by_key(|(semaphore, _)| *semaphore);
            permits.dedup_by_key(|(semaphore, _)| *semaphore);
            let (queue, has_callback) = kind;
            Spec {
                permits,
                priority,
                ttl_s,
                queue_ttl_s,
                offer_ttl_s,
                wait_timeout_s,
                queue,
                has_callback,
            }
        },
    )
}

fn setting() -> impl Strategy<Value = Setting> {
    prop_oneof![
        6 => (1_u32..6).prop_map(Setting::Capacity),
        2 => prop::bool::weighted(0.4).prop_map(Setting::Draining),
        2 => select(&[0, 1, 5, 10][..]).prop_map(Setting::CooldownS),
        1 => seconds().prop_map(Setting::MaxHoldS),
        1 => (1_u64..20, 1_u64..40)
            .prop_map(|(a, b)| Setting::Ttl { default_s: a.min(b), max_s: a.max(b) }),
        1 => select(&[1, 5, 120][..]).prop_map(Setting::QueueTtlS),
        1 => seconds().prop_map(Setting::OfferTtlS),
        1 => seconds().prop_map(Setting::WaitTimeoutS),
        1 => (0_u8..2).prop_map(Setting::FromFile),
        1 => Just(Setting::Same),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let flag = any::<bool>;
    prop_oneof![
        30 => (spec(), prop::bool::weighted(0.6))
            .prop_map(|(spec, blocks)| Action::New { spec, blocks }),
        8 => (target(), flag(), select(&[1, 1, 1, 5][..]))
            .prop_map(|(target, blocks, times)| Action::Again { target, blocks, times }),
        1 => (target(), spec()).prop_map(|(target, spec)| Action::Other { target, spec }),
        7 => (target(), seconds(), flag())
            .prop_map(|(target, ttl_s, blocks)| Action::Renew { target, ttl_s, blocks }),
        9 => target().prop_map(Action::Release),
        1 => target().prop_map(Action::Revoke),
        10 => (target(), prop::bool::weighted(0.6)).prop_map(|(target, closed)| Action::Unblock { target, closed }),
        5 => (target(), select(&[0, 1, 1, 204, 410, 503][..]))
            .prop_map(|(target, status)| Action::Tried { target, status }),
        8 => (0_usize..4, setting(), flag())
            .prop_map(|(semaphore, setting, force)| Action::Set { semaphore, setting, force }),
        1 => (0_usize..5, prop::bool::weighted(0.3))
            .prop_map(|(semaphore, force)| Action::Remove { semaphore, force }),
        8 => Just(Action::Timeout),
        1 => Just(Action::Fold),
        2 => (select(&[0, 1_500, 30_000][..]), flag())
            .prop_map(|(down_ms, from_journal)| Action::Restart { down_ms, from_journal }),
    ]
}

/// A script of up to so many steps.
pub(super) fn script(steps_max: usize) -> impl Strategy<Value = Vec<Step>> {
    let gone = prop_oneof![2 => Just(0), 1 => any::<u64>(), 1 => Just(u64::MAX)].prop_map(Gone);
    let step = (tick(), action(), gone, 1_usize..5)
        .prop_map(|(tick, action, gone, page_claims)| Step { tick, action, gone, page_claims });
    vec(step, 1..steps_max)
}

/// Capacities and cooldowns of the semaphores at the beginning; no capacity leaves one out.
pub(super) fn semaphores() -> impl Strategy<Value = Vec<(u32, u64)>> {
    let cooldown_s = || select(&[0, 0, 1, 5][..]);
    let always = vec((1_u32..6, cooldown_s()), 3);
    let others = vec((0_u32..6, cooldown_s()), 2);
    (always, others).prop_map(|(always, others)| [always, others].concat())
}
