//! The scenarios: each starts its server, drives it, and reports.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use super::{
    closed_loop::{Loops, Plan, Tally},
    dialect::{Call, Dialect, Pool, register},
    engine::{Engine, Failure},
    histogram::Histogram,
    http,
    options::Options,
    queue::{Queue, SEMAPHORE},
    report::{Report, round},
    server::Server,
};

/// How long a server runs warm before it is measured.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long waiters may take until all of them block.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether they do.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
/// How long clients have at the end to give back what they hold.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);
/// A queue that counts as short.
const SHORT_QUEUE_CLAIMS: usize = 1_000;
/// How often it is made and drained.
const SHORT_QUEUE_REPETITIONS: usize = 40;
/// Of a long queue, the part whose releases are shown: it is long all the while.
const LONG_QUEUE_PART: usize = 10;

const ACQUIRE: &[Call] = &[Call::Acquire];
const ACQUIRE_RELEASE: &[Call] = &[Call::Acquire, Call::Release];
const OPEN_ACQUIRE: &[Call] = &[Call::Open, Call::Acquire];
const RENEW: &[Call] = &[Call::Renew];

/// Runs the scenario of the options.
pub(crate) fn run(options: &Options) -> Result<Report, Failure> {
    let target = options.target;
    let cycle = Plan {
        first: target.opening(),
        again: ACQUIRE_RELEASE,
        repeats: true,
        pool: Pool::Open,
        connects: false,
        counts: true,
    };
    let job = Plan { first: &[], again: target.job(), connects: options.connect, ..cycle };
    let is_open = target.opening().is_empty();
    let acquired = if is_open { ACQUIRE } else { OPEN_ACQUIRE };
    let mut report = Report::default();
    report.add("scenario", options.scenario.as_str());
    report.add("target", format!("{target:?}").to_lowercase());
    match options.scenario.as_str() {
        "cycle" => steady(options, cycle, options.connections, &mut report)?,
        "job" => steady(options, job, options.connections, &mut report)?,
        "renew" => {
            let renew = Plan { first: acquired, again: RENEW, ..cycle };
            steady(options, renew, options.connections, &mut report)?;
        }
        "hand-off" => {
            let waiter = Plan { pool: Pool::One, ..cycle };
            steady(options, waiter, options.waiters, &mut report)?;
        }
        "mixed" => mixed(options, cycle, &mut report)?,
        "queue" => queue(options, &mut report)?,
        "restart" => restart(options, &mut report)?,
        "idle" => idle(options, &mut report)?,
        other => return Err(format!("there is no scenario {other:?}: see --help").into()),
    }
    Ok(report)
}

/// One kind of client, warm, over some rounds.
fn steady(
    options: &Options,
    plan: Plan,
    clients: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let server = Server::from_options(options)?;
    options.target.prepare(server.address)?;
    let mut engine = Engine::new(server.address, options.target.probe_path())?;
    let mut loops = Loops::new(options.target);
    engine.connect(clients)?;
    loops.add(clients, plan);
    report.add("connections", clients);
    engine.run(&mut loops, Some(Instant::now() + WARM_UP))?;
    rounds(options, &server, &mut engine, &mut loops, "", report)?;
    loops.finish();
    engine.run(&mut loops, Some(Instant::now() + FINISH_TIME_MAX))
}

/// Measures some rounds; all numbers of the report begin with `prefix`.
fn rounds(
    options: &Options,
    server: &Server,
    engine: &mut Engine,
    loops: &mut Loops,
    prefix: &str,
    report: &mut Report,
) -> Result<Tally, Failure> {
    loops.take_tally();
    let (mut all, mut rates) = (Tally::default(), Vec::new());
    let mut journal = Vec::new();
    let before = server.usage()?;
    for _ in 0..options.rounds {
        let began_at = Instant::now();
        engine.run(loops, Some(began_at + Duration::from_secs(options.seconds)))?;
        let tally = loops.take_tally();
        rates.push(per_second(tally.units, began_at.elapsed()));
        all.add(&tally);
        journal.extend(server.journal_changes());
    }
    let usage = server.usage()?;
    report.add_rates(&format!("{prefix}rate"), &rates);
    if prefix.is_empty() {
        report.add_tally(&all);
        report.add_usage(usage);
    } else {
        report.add_times(&format!("{prefix}release"), &all.release);
    }
    if usage.threads > 0 && all.units > 0 {
        let used = usage.processor.saturating_sub(before.processor).as_secs_f64();
        report.add(&format!("{prefix}processor_us"), round(used * 1e6 / count(all.units)));
    }
    if let Some(bytes) = server.disk_bytes() {
        report.add(&format!("{prefix}disk_bytes"), bytes);
        report.add(&format!("{prefix}journal_changes_rounds"), journal);
    }
    if let Some(time) = server.sync_time()? {
        report.add(&format!("{prefix}sync_us"), round(time.as_secs_f64() * 1e6));
    }
    Ok(all)
}

/// The same cycles without and with blocked waiters beside them, on another semaphore.
fn mixed(options: &Options, cycle: Plan, report: &mut Report) -> Result<(), Failure> {
    let server = Server::from_options(options)?;
    options.target.prepare(server.address)?;
    let mut engine = Engine::new(server.address, options.target.probe_path())?;
    let mut loops = Loops::new(options.target);
    engine.connect(options.connections)?;
    loops.add(options.connections, cycle);
    report.add("connections", options.connections);
    report.add("waiters", options.waiters);
    engine.run(&mut loops, Some(Instant::now() + WARM_UP))?;
    let without = rounds(options, &server, &mut engine, &mut loops, "without_", report)?;

    // One of them gets the permit, and keeps it.
    let waiter = Plan { again: ACQUIRE, repeats: false, pool: Pool::One, counts: false, ..cycle };
    let before = server.usage()?;
    engine.connect(options.waiters + 1)?;
    loops.add(options.waiters + 1, waiter);
    let give_up_at = Instant::now() + SETTLE_TIME_MAX;
    loop {
        engine.run(&mut loops, Some(Instant::now() + SETTLE_PAUSE))?;
        if options.target != Dialect::Semaphored {
            engine.run(&mut loops, Some(Instant::now() + WARM_UP))?;
            break;
        }
        let status = http::call(server.address, "GET", "/api/v1/service", "")?;
        if status.member("waiting_requests") == Some(&options.waiters.to_string()) {
            break;
        }
        if Instant::now() > give_up_at {
            return Err(format!("not all waiters block: {}", status.text()).into());
        }
    }
    let usage = server.usage()?;
    report.add_usage(usage);
    let grown = usage.resident_bytes.saturating_sub(before.resident_bytes);
    report.add("resident_bytes_per_waiter", round(count(grown) / length(options.waiters)));
    let with = rounds(options, &server, &mut engine, &mut loops, "with_", report)?;
    let p99 = |tally: &Tally| tally.release.per_mille(990).as_secs_f64();
    report.add("release_p99_ratio", round(p99(&with) / p99(&without)));
    Ok(())
}

/// Claims that wait without a connection, and are then drained; first few, then many.
fn queue(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let server = only_ours(options)?;
    register(server.address, SEMAPHORE, u32::try_from(options.connections)?)?;
    let mut engine = Engine::new(server.address, options.target.probe_path())?;
    engine.connect(options.connections)?;

    let mut short = Histogram::default();
    for repetition in 0..SHORT_QUEUE_REPETITIONS {
        let mut few = Queue::new(&run_id(), SHORT_QUEUE_CLAIMS, options.connections);
        engine.run(&mut few, None)?;
        few.drain_up_to(usize::MAX);
        engine.run(&mut few, None)?;
        // The first ones pay for what a fresh process pays once.
        if repetition >= SHORT_QUEUE_REPETITIONS / 4 {
            short.add(&few.released);
        }
    }
    report.add_times("short_queue_release", &short);

    let before = server.usage()?;
    let mut many = Queue::new(&run_id(), options.claims, options.connections);
    let began_at = Instant::now();
    engine.run(&mut many, None)?;
    report.add("claims", options.claims);
    report.add("made_rate", round(per_second(options.claims as u64, began_at.elapsed())));
    report.add_times("made", &many.made);
    let usage = server.usage()?;
    report.add_usage(usage);
    let grown = usage.resident_bytes.saturating_sub(before.resident_bytes);
    report.add("resident_bytes_per_claim", round(count(grown) / length(options.claims)));

    many.drain_up_to(SHORT_QUEUE_CLAIMS.max(options.claims / LONG_QUEUE_PART));
    let began_at = Instant::now();
    engine.run(&mut many, None)?;
    let long = std::mem::take(&mut many.released);
    report.add_times("long_queue_release", &long);
    let ratio = long.per_mille(500).as_secs_f64() / short.per_mille(500).as_secs_f64();
    report.add("release_p50_ratio", round(ratio));
    many.drain_up_to(options.drain);
    engine.run(&mut many, None)?;
    report.add("drained_rate", round(per_second(many.drained as u64, began_at.elapsed())));
    report.add_times("confirm", &many.confirmed);
    report.add("asked_too_early", many.too_early);
    Ok(())
}

/// Claims that wait, then a kill, a start, a clean stop and another start.
fn restart(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let mut server = only_ours(options)?;
    register(server.address, SEMAPHORE, 1)?;
    let mut engine = Engine::new(server.address, options.target.probe_path())?;
    engine.connect(options.connections)?;
    let mut claims = Queue::new(&run_id(), options.claims, options.connections);
    engine.run(&mut claims, None)?;
    drop(engine);
    report.add("claims", options.claims);
    let mut milliseconds = |name: &str, signal| {
        let took = server.restart(signal)?;
        report.add(name, round(took.as_secs_f64() * 1e3));
        Ok::<(), Failure>(())
    };
    milliseconds("ready_after_kill_ms", Signal::KILL)?;
    milliseconds("ready_after_kill_again_ms", Signal::KILL)?;
    milliseconds("ready_after_stop_ms", Signal::TERM)?;
    report.add_usage(server.usage()?);
    Ok(())
}

/// What a server does with nothing to do.
fn idle(options: &Options, report: &mut Report) -> Result<(), Failure> {
    let server = Server::from_options(options)?;
    options.target.prepare(server.address)?;
    std::thread::sleep(WARM_UP * 3);
    let (before, began_at) = (server.usage()?, Instant::now());
    std::thread::sleep(Duration::from_secs(options.seconds * options.rounds as u64));
    let after = server.usage()?;
    let used = after.processor.saturating_sub(before.processor).as_secs_f64();
    report.add("processor_percent", round(100.0 * used / began_at.elapsed().as_secs_f64()));
    report.add_usage(after);
    Ok(())
}

fn only_ours(options: &Options) -> Result<Server, Failure> {
    if options.target != Dialect::Semaphored {
        return Err("this scenario is for semaphored alone".into());
    }
    Server::from_options(options)
}

/// The start of ids that no other run has.
fn run_id() -> String {
    format!("{:x}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos())
}

fn per_second(units: u64, time: Duration) -> f64 {
    count(units) / time.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn count(number: u64) -> f64 {
    number as f64
}

fn length(number: usize) -> f64 {
    count(number as u64)
}
