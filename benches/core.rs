//! What the core's operations cost, without storage, threads and HTTP.
//!
//! ```text
//! cargo bench --features criterion --bench core
//! ```
//!
//! Every measured operation changes the state, so what undoes the change (a new claim for each that ended)
//! happens between the measured stretches, and queues keep their length.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has to stop")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use semaphored::{
    model::{
        ClaimId, ClaimRequest, Event, Labels, Origin, Permits, Priority, SemaphoreName,
        SemaphoreSettings, ServiceTime, WallTime,
    },
    semaphore::core::{Command, Core, Limits, Now, Outcome},
};

/// Lengths of a queue.
const QUEUES: [usize; 3] = [1_000, 100_000, 1_000_000];
/// Claims that time out at once: the most that one command handles.
const TIMED_OUT: usize = 1_000;
/// Longest lease, and longest place in the queue without a request.
const LONG: Duration = Duration::from_secs(24 * 3_600);
/// Shortest one.
const SHORT: Duration = Duration::from_secs(1);

/// A core with one semaphore `A`, and claims that wait for it.
struct Bench {
    core: Core,
    now: Now,
    events: Vec<Event>,
    claims: u64,
    /// The waiting claims, in no order.
    waiting: Vec<ClaimId>,
    random: u64,
}

impl Bench {
    fn new(capacity: u32) -> Bench {
        let now = Now { service: ServiceTime::default(), wall: WallTime(1_800_000_000_000) };
        let mut bench = Bench {
            core: Core::new(Limits { queue_claims_max: 2_000_000, ..Limits::default() }),
            now,
            events: Vec::new(),
            claims: 0,
            waiting: Vec::new(),
            random: 1,
        };
        bench.apply(Command::SetSemaphore {
            name: semaphore(),
            settings: SemaphoreSettings::with_capacity(capacity),
            origin: Origin::Api,
            force: false,
        });
        bench
    }

    /// One permit, which is held, and so many claims that wait for it.
    fn with_queue(length: usize) -> (Bench, ClaimId) {
        let mut bench = Bench::new(1);
        let holder = bench.id();
        let held = bench.apply(acquire(&holder, LONG, true));
        assert!(matches!(held, Outcome::Granted(_)));
        for _ in 0..length {
            bench.enqueue();
        }
        (bench, holder)
    }

    fn id(&mut self) -> ClaimId {
        self.claims += 1;
        ClaimId::new(&format!("1884f0a7b5c2d3e1-{}", self.claims)).expect("the grammar allows it")
    }

    /// One more claim at the end of the queue, with a blocked request.
    fn enqueue(&mut self) {
        let id = self.id();
        self.apply(acquire(&id, LONG, true));
        self.waiting.push(id);
    }

    /// Any of the waiting claims, as a place in [`Bench::waiting`].
    fn any(&mut self) -> usize {
        // Knuth's generator: which one it is does not matter, only that it is spread.
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(0) % self.waiting.len()
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.events.clear();
        let outcome = self.core.apply(self.now, command, &mut self.events);
        self.core.take_ended();
        outcome.expect("no command here is refused")
    }

    /// The same, and how long it took.
    fn timed(&mut self, command: Command) -> Duration {
        let began_at = Instant::now();
        black_box(self.apply(command));
        began_at.elapsed()
    }
}

fn semaphore() -> SemaphoreName {
    SemaphoreName::new("A").expect("the grammar allows it")
}

fn acquire(id: &ClaimId, queue_ttl: Duration, blocks: bool) -> Command {
    let request = ClaimRequest {
        permits: Permits::new(vec![(semaphore(), 1)]).expect("one permit of one semaphore"),
        holder: None,
        labels: Labels::default(),
        priority: Priority::default(),
        ttl: Some(LONG),
        queue_ttl: Some(queue_ttl),
        offer_ttl: None,
        wait_timeout: None,
        queue: true,
        callback: None,
        fingerprint: [0; 32],
    };
    Command::Acquire { id: id.clone(), request, blocks }
}

/// Sums up `operation` over so many iterations.
fn total(iterations: u64, mut operation: impl FnMut() -> Duration) -> Duration {
    (0..iterations).map(|_| operation()).sum()
}

fn uncontended(c: &mut Criterion) {
    let mut bench = Bench::new(1_000_000);
    c.bench_function("acquire and release", |b| {
        b.iter_custom(|iterations| {
            total(iterations, || {
                let id = bench.id();
                let acquire = acquire(&id, LONG, true);
                bench.timed(acquire) + bench.timed(Command::Release { id })
            })
        });
    });
}

fn release_and_grant(c: &mut Criterion) {
    let mut group = c.benchmark_group("release and grant");
    for length in QUEUES {
        let (mut bench, mut holder) = Bench::with_queue(length);
        // Here they are taken in queue order.
        let mut queue: std::collections::VecDeque<ClaimId> =
            std::mem::take(&mut bench.waiting).into();
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter_custom(|iterations| {
                total(iterations, || {
                    let took = bench.timed(Command::Release { id: holder.clone() });
                    holder = queue.pop_front().expect("the queue keeps its length");
                    bench.enqueue();
                    queue.extend(bench.waiting.pop());
                    took
                })
            });
        });
    }
}

fn position(c: &mut Criterion) {
    let mut group = c.benchmark_group("position");
    for length in QUEUES {
        let (mut bench, _) = Bench::with_queue(length);
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter(|| {
                let at = bench.any();
                let view = bench.core.claim(&bench.waiting[at]);
                view.map(|view| view.positions.iter().sum::<usize>())
            });
        });
    }
}

fn cancel(c: &mut Criterion) {
    let mut group = c.benchmark_group("cancel in the middle");
    for length in QUEUES {
        let (mut bench, _) = Bench::with_queue(length);
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter_custom(|iterations| {
                total(iterations, || {
                    let at = bench.any();
                    let id = bench.waiting.swap_remove(at);
                    let took = bench.timed(Command::Release { id });
                    bench.enqueue();
                    took
                })
            });
        });
    }
}

fn timeout(c: &mut Criterion) {
    let mut group = c.benchmark_group("timeout of 1,000");
    for length in QUEUES {
        let (mut bench, _) = Bench::with_queue(length);
        group.bench_function(BenchmarkId::from_parameter(length), |b| {
            b.iter_custom(|iterations| {
                total(iterations, || {
                    for _ in 0..TIMED_OUT {
                        let id = bench.id();
                        bench.apply(acquire(&id, SHORT, false));
                    }
                    bench.now.service = bench.now.service.after(SHORT);
                    let took = bench.timed(Command::Timeout);
                    assert!(bench.events.len() >= TIMED_OUT, "all of them have ended");
                    took
                })
            });
        });
    }
}

criterion_group! {
    name = core;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = uncontended, release_and_grant, position, cancel, timeout
}
criterion_main!(core);
