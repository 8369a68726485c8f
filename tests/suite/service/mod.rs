//! The service without sockets: commits, crashes, and time that the test moves.

mod replies;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use semaphored::{
    model::{
        Callback, ClaimId, ClaimRequest, EndReason, Origin, Revision, SemaphoreName,
        SemaphoreSettings, ServiceTime, TargetName, Vars, WallTime,
    },
    semaphore::{
        Asker, Attempt, ClaimLook, Clock, Options, Refusal, Service, SetSettings, Tick,
        core::{Error, Now, Outcome, TIMEOUT_TIMERS_MAX},
    },
    storage::{History, memory::MemoryDisk},
};

use super::{
    daemon::{DEADLINE, poll},
    plain_request::plain_request,
};

/// A clock that stands still until the test moves it.
#[derive(Default)]
struct TestClock {
    now: Mutex<Now>,
    gap: AtomicBool,
}

impl TestClock {
    fn advance(&self, duration: Duration) {
        let mut now = self.now.lock();
        *now = Now { service: now.service.after(duration), wall: now.wall.after(duration) };
    }
}

impl Clock for TestClock {
    fn now(&self) -> Now {
        *self.now.lock()
    }

    fn tick(&self) -> Tick {
        Tick { now: self.now(), after_gap: self.gap.load(Ordering::SeqCst) }
    }
}

struct Bench {
    disk: MemoryDisk,
    clock: Arc<TestClock>,
    failed: mpsc::Receiver<String>,
    service: Arc<Service>,
}

fn start(disk: &MemoryDisk) -> Bench {
    start_after(disk, Duration::ZERO)
}

/// Starts so long after the time at which all tests begin.
fn start_after(disk: &MemoryDisk, later: Duration) -> Bench {
    let clock = Arc::new(TestClock::default());
    *clock.now.lock() = Now { service: ServiceTime::default(), wall: WallTime(1_000_000_000) };
    clock.advance(later);
    let (sender, failed) = mpsc::channel();
    let fatal = Box::new(move |error: &semaphored::storage::Error| {
        sender.send(error.to_string()).unwrap();
    });
    let storage = Box::new(disk.open());
    let options = Options::default();
    let service = Service::start(storage, Arc::clone(&clock) as _, options, fatal).unwrap();
    let service = Arc::new(service);
    Bench { disk: disk.clone(), clock, failed, service }
}

fn name(text: &str) -> SemaphoreName {
    SemaphoreName::new(text).unwrap()
}

fn id(text: &str) -> ClaimId {
    ClaimId::new(text).unwrap()
}

fn request() -> ClaimRequest {
    let ttl = Some(Duration::from_secs(10));
    ClaimRequest { ttl, ..plain_request(vec![(name("A"), 1)]) }
}

/// The same with a callback.
fn called_back() -> ClaimRequest {
    let target = TargetName::new("ci").unwrap();
    let callback = Callback::Target { name: target, vars: Vars::default() };
    ClaimRequest { callback: Some(Arc::new(callback)), ..request() }
}

/// Whether `revision` is safe before the deadline.
fn is_committed_soon(service: &Service, revision: Revision) -> bool {
    let (sender, receiver) = mpsc::channel();
    if service.after_commit(revision, Box::new(move || sender.send(()).unwrap())) {
        service.commit();
    }
    receiver.recv_timeout(DEADLINE).is_ok()
}

impl Bench {
    fn new() -> Bench {
        let bench = start(&MemoryDisk::new());
        bench.register();
        bench
    }

    fn register(&self) -> Revision {
        let settings = || {
            let settings = SemaphoreSettings::with_capacity(1);
            Ok(SetSettings { settings, origin: Origin::Api, audit: None })
        };
        self.service
            .set_semaphore::<Refusal>(&name("A"), false, &Asker::default(), &|_| settings())
            .unwrap()
            .revision
    }

    fn acquire(&self, claim: &str) -> (Outcome, Revision) {
        match self.service.acquire(id(claim), request(), None, Asker::default()) {
            Attempt::Done(Ok((outcome, status))) => (outcome, status.seen),
            Attempt::Done(Err(refusal)) => panic!("{refusal:?}"),
            Attempt::Blocked(_) => panic!("blocks without being asked to"),
        }
    }

    /// Whether `revision` is safe before the deadline.
    fn wait_for_commit(&self, revision: Revision) -> bool {
        is_committed_soon(&self.service, revision)
    }

    fn reason(&self, claim: &str) -> Option<EndReason> {
        match self.service.look(&id(claim), &Asker::default()).unwrap().what {
            ClaimLook::Live(_) => None,
            ClaimLook::Ended(claim) => match claim.state {
                semaphored::model::ClaimState::Ended { reason, .. } => Some(reason),
                _ => panic!("{claim:?} has not ended"),
            },
        }
    }
}

#[test]
fn nothing_is_answered_that_a_failed_commit_could_undo() {
    for batch_kept in [false, true] {
        let bench = Bench::new();
        let registered = bench.service.status().revision;
        assert!(bench.wait_for_commit(registered));
        bench.disk.fail_next_append(batch_kept);
        let (outcome, revision) = bench.acquire("x");
        assert!(matches!(outcome, Outcome::Granted(_)));
        let (sender, receiver) = mpsc::channel::<()>();
        // The closure is dropped unrun, or kept for ever; it is never run.
        let then = Box::new(move || sender.send(()).unwrap());
        if bench.service.after_commit(revision, then) {
            bench.service.commit();
        }
        let failure = bench.failed.recv_timeout(DEADLINE).unwrap();
        assert!(!failure.is_empty());
        assert!(receiver.try_recv().is_err(), "answered, though the commit had failed");
        assert_eq!(bench.service.committed(), registered);

        // The process ends here, and the next one recovers what is on disk: the claim, or not.
        let disk = bench.disk.clone();
        drop(bench);
        let again = start(&disk);
        assert_eq!(again.service.look(&id("x"), &Asker::default()).is_ok(), batch_kept);
    }
}

/// Threads that commit for each other leave no reply behind: one that was would wait for the ticker, half a second.
#[test]
fn replies_of_many_threads_are_all_committed_at_once() {
    const THREADS: usize = 8;
    const CYCLES: usize = 200;
    let bench = Bench::new();
    let begun_at = Instant::now();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let service = Arc::clone(&bench.service);
            std::thread::spawn(move || {
                for cycle in 0..CYCLES {
                    let claim = id(&format!("{thread}-{cycle}"));
                    let Attempt::Done(done) =
                        service.acquire(claim.clone(), request(), None, Asker::default())
                    else {
                        panic!("it blocks");
                    };
                    assert!(is_committed_soon(&service, done.unwrap().1.seen));
                    assert!(is_committed_soon(
                        &service,
                        service.release(claim, None, &Asker::default(), None).unwrap()
                    ));
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let took = begun_at.elapsed();
    // One in twenty left to the ticker would take ten times that.
    let ticks_max = u32::try_from(2 * CYCLES / 20).unwrap();
    assert!(took < ticks_max * Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_crash_keeps_holders_and_order() {
    let bench = Bench::new();
    for claim in ["a", "b", "c"] {
        bench.acquire(claim);
    }
    assert!(bench.wait_for_commit(bench.service.status().revision));
    let disk = bench.disk.clone();
    drop(bench);
    let again = start(&disk);
    assert!(matches!(again.acquire("a").0, Outcome::Prolonged(_)));
    again.service.release(id("a"), None, &Asker::default(), None).unwrap();
    // Nobody blocks, so the next in the queue gets an offer, and confirms it by asking.
    assert!(matches!(again.acquire("c").0, Outcome::Waiting { .. }));
    assert!(matches!(again.acquire("b").0, Outcome::Granted(_)));
}

#[test]
fn a_start_ends_all_waits_that_ran_out_meanwhile() {
    let bench = Bench::new();
    bench.acquire("holder");
    for number in 0..2 * TIMEOUT_TIMERS_MAX + 500 {
        let request = ClaimRequest { wait_timeout: Some(Duration::from_secs(60)), ..request() };
        let _ = bench.service.acquire(id(&format!("{number}")), request, None, Asker::default());
    }
    assert!(bench.wait_for_commit(bench.service.status().revision));
    let disk = bench.disk.clone();
    drop(bench);
    let again = start_after(&disk, Duration::from_secs(61));
    assert_eq!(again.service.status().what.claims, 1, "before time passes, and calls come");
}

#[test]
fn time_ends_leases_but_not_after_a_gap() {
    let bench = Bench::new();
    bench.acquire("a");
    bench.clock.gap.store(true, Ordering::SeqCst);
    bench.clock.advance(Duration::from_secs(11));
    // Two ticks and more pass in a process that was stopped until now: nothing expires at them.
    let until = Instant::now() + Duration::from_millis(2_500);
    poll("time", || (Instant::now() > until).then_some(()));
    assert_eq!(bench.reason("a"), None);
    bench.clock.gap.store(false, Ordering::SeqCst);
    poll("the end of the lease", || bench.reason("a"));
    assert_eq!(bench.reason("a"), Some(EndReason::Expired));
}

#[test]
fn what_has_ended_can_be_looked_at_before_and_after_the_fold() {
    let bench = Bench::new();
    bench.acquire("a");
    bench.service.release(id("a"), None, &Asker::default(), None).unwrap();
    let until = Instant::now() + Duration::from_secs(1);
    // The fold comes in between; at no moment is the claim unknown.
    while Instant::now() < until {
        assert_eq!(bench.reason("a"), Some(EndReason::Released));
    }
}

#[test]
fn a_service_that_is_never_idle_forgets_old_history_too() {
    let bench = Bench::new();
    bench.acquire("a");
    bench.service.release(id("a"), None, &Asker::default(), None).unwrap();
    let disk = bench.disk.clone();
    let in_history = || disk.ended_claim(&id("a")).unwrap().is_some();
    poll("the fold", || in_history().then_some(()));
    drop(bench);

    let again = start_after(&disk, Options::default().history_kept + Duration::from_secs(1));
    let mut claims = 0;
    poll("the old claim to be forgotten", || {
        // Changes come faster than the writer waits for before it tidies up.
        claims += 1;
        let (_, revision) = again.acquire(&format!("busy-{claims}"));
        assert!(again.wait_for_commit(revision));
        (!in_history()).then_some(())
    });
}

#[test]
fn who_blocks_is_told_when_the_service_stops() {
    let bench = Bench::new();
    bench.acquire("a");
    let wait = Some(Duration::from_secs(60));
    let Attempt::Blocked(blocked) =
        bench.service.acquire(id("b"), request(), wait, Asker::default())
    else {
        panic!("it does not block");
    };
    let thread = std::thread::spawn(move || blocked.wait());
    bench.service.stop();
    assert_eq!(thread.join().unwrap().unwrap_err(), Refusal::Stopping);
    let refused = bench.service.acquire(id("c"), request(), None, Asker::default());
    assert!(matches!(refused, Attempt::Done(Err(Refusal::Stopping))));
    assert_eq!(bench.service.status().what.waiting_requests, 0);
}

#[test]
fn a_bound_on_blocked_requests_keeps_the_place() {
    let disk = MemoryDisk::new();
    let clock = Arc::new(TestClock::default());
    let options = Options { waiting_requests_max: 1, ..Options::default() };
    let service = Service::start(Box::new(disk.open()), clock, options, Box::new(|_| {})).unwrap();
    let settings = || {
        let settings = SemaphoreSettings::with_capacity(1);
        Ok(SetSettings { settings, origin: Origin::Api, audit: None })
    };
    service
        .set_semaphore::<Refusal>(&name("A"), false, &Asker::default(), &|_| settings())
        .unwrap();
    let wait = Some(Duration::from_secs(60));
    let acquire = |claim: &str| service.acquire(id(claim), request(), wait, Asker::default());
    assert!(matches!(acquire("a"), Attempt::Done(Ok((Outcome::Granted(_), _)))));
    let blocked = acquire("b");
    assert!(matches!(blocked, Attempt::Blocked(_)));
    let Attempt::Done(Ok((Outcome::Waiting { blocked: false, .. }, status))) = acquire("c") else {
        panic!("past the bound it is answered at once");
    };
    assert_eq!(status.positions, [2]);
    drop(blocked);
    assert!(matches!(acquire("c"), Attempt::Blocked(_)), "the slot was given back");
    let unknown = service.release(id("nobody"), None, &Asker::default(), None);
    assert!(matches!(unknown, Err(Refusal::Core(Error::UnknownClaim(_), _))));
}

/// Whoever calls is told that he may begin when it is on disk that he does: a crash in between would hide the call.
#[test]
fn a_call_does_not_begin_before_it_is_on_disk_that_it_does() {
    let Bench { disk, service, failed, .. } = Bench::new();
    let (sender, due) = mpsc::channel();
    service.on_callback_due(Box::new(move |sequence| sender.send(sequence).unwrap()));
    let Attempt::Done(Ok((Outcome::Offered(_), status))) =
        service.acquire(id("a"), called_back(), None, Asker::default())
    else {
        panic!("it is not offered");
    };
    assert!(is_committed_soon(&service, status.seen));
    let sequence = due.recv_timeout(DEADLINE).unwrap();
    assert!(service.begin_delivery(sequence, WallTime(1)));
    disk.fail_next_append(false);
    let (sender, begun) = mpsc::channel();
    let calling = Arc::clone(&service);
    // It waits for ever: the process would end.
    std::thread::spawn(move || sender.send(calling.begin_delivery(sequence, WallTime(2))));
    failed.recv_timeout(DEADLINE).unwrap();
    assert_eq!(begun.try_recv(), Err(mpsc::TryRecvError::Empty));
}
