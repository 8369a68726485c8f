//! `semaphored --demo`: the main job to look at, with nothing installed.
//!
//! A daemon on a temporary database with five permits of FlexLM-Riviera, and twelve jobs that are real
//! `semaphorectl run` processes. One of them is killed on the way, one is on two semaphores at once. While
//! it goes on it shows who holds and who waits; at the end it says whether what was promised was kept.
//!
//! Nothing is left behind: the directory goes, and so do the jobs, also when the demo is interrupted.

mod jobs;
mod screen;
mod stage;
mod summary;

use std::{
    collections::BTreeMap,
    fmt::Display,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use self::{
    jobs::{JOBS, Jobs, KILLED},
    screen::Screen,
    stage::{Record, Stage},
    summary::Summary,
};
use super::{
    Failure,
    auth::Auth,
    config::{Config, Durability, Limits},
    daemon::Daemon,
    logging, panics, say,
};
use crate::{
    callbacks::{Registry, Settings},
    cli::exit,
    model::{Invalid, SemaphoreName, SemaphoreSettings},
    semaphore::{ListFilter, Service},
};

/// The simulator's licences.
const RIVIERA: (&str, u32) = ("FlexLM-Riviera", 5);
/// The licences of its coverage add-on.
const COVERAGE: (&str, u32) = ("FlexLM-Coverage", 1);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long the job that will be killed holds its permit before.
const KILL_AFTER: Duration = Duration::from_secs(2);
/// It takes about fifteen seconds; what takes longer is stuck.
const TIME_MAX: Duration = Duration::from_secs(100);

/// Runs the demo.
pub(super) fn run() -> Result<(), Failure> {
    logging::start("warn");
    panics::abort_on_panic();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| failure("take signals", &e))?;
    let directory = tempfile::Builder::new().prefix("semaphored-demo-").tempdir();
    let directory = directory.map_err(|error| failure("make a directory", &error))?;
    let riviera = name(RIVIERA.0)?;
    let config = config(directory.path(), &riviera)?;
    let daemon = Daemon::start(&config, Registry::default(), &[], None)?;
    let url = format!("http://{}", daemon.address());
    let jobs = Jobs::new(directory.path(), url).map_err(|e| failure("prepare its jobs", &e))?;
    let mut demo = Demo {
        service: daemon.service(),
        riviera,
        jobs,
        screen: Screen::new(),
        records: vec![Record::default(); JOBS.len()],
        started: Instant::now(),
        signals: &mut signals,
    };
    let end = demo.play();
    let Demo { jobs, records, started, .. } = demo;
    drop(jobs);
    daemon.stop();
    match end? {
        End::Signal(signal) => Err(Failure::new(exit::by_signal(signal), &"interrupted")),
        End::Stuck => Err(failure("end in time", &"this machine is very slow, or it is a bug")),
        End::Done => {
            let summary = Summary::new(&records, RIVIERA.1, started.elapsed());
            say(&summary.to_string())?;
            match summary.broken_promise() {
                None => Ok(()),
                Some(what) => Err(Failure::new(exit::INTERNAL, &what)),
            }
        }
    }
}

fn failure(what: &str, error: &impl Display) -> Failure {
    Failure::new(exit::INTERNAL, &format!("the demo cannot {what}: {error}"))
}

fn name(text: &str) -> Result<SemaphoreName, Failure> {
    SemaphoreName::new(text).map_err(|error: Invalid| failure("name its semaphores", &error))
}

fn config(directory: &Path, riviera: &SemaphoreName) -> Result<Config, Failure> {
    let settings = SemaphoreSettings::with_capacity;
    Ok(Config {
        listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
        expose: false,
        data_dir: directory.join("data"),
        durability: Durability::Full,
        limits: Limits::default(),
        semaphores: BTreeMap::from([
            (riviera.clone(), settings(RIVIERA.1)),
            (name(COVERAGE.0)?, settings(COVERAGE.1)),
        ]),
        callbacks: Settings::default(),
        auth: Auth::off(),
        trusted_proxies: Vec::new(),
        path: PathBuf::new(),
    })
}

/// How the demo ended.
enum End {
    Done,
    Signal(i32),
    Stuck,
}

struct Demo<'d> {
    service: &'d Service,
    riviera: SemaphoreName,
    jobs: Jobs,
    screen: Screen,
    /// One for each job, in the order of [`JOBS`].
    records: Vec<Record>,
    started: Instant,
    signals: &'d mut Signals,
}

impl Demo<'_> {
    fn play(&mut self) -> Result<End, Failure> {
        loop {
            self.start_next()?;
            self.look();
            self.kill_one()?;
            self.screen
                .show(&self.records, self.started.elapsed())
                .map_err(|error| failure("write", &error))?;
            if let Some(signal) = self.signals.pending().next() {
                return Ok(End::Signal(signal));
            }
            if self.records.iter().all(|record| matches!(record.stage, Stage::Ended { .. })) {
                return Ok(End::Done);
            }
            if self.started.elapsed() > TIME_MAX {
                return Ok(End::Stuck);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Starts the next job when the one before stands in the queue: so they arrive in their order.
    fn start_next(&mut self) -> Result<(), Failure> {
        let started = self.jobs.started();
        let arrived = self.records[..started].iter().all(|record| record.id.is_some());
        if started < JOBS.len() && arrived {
            self.jobs.start_next().map_err(|error| failure("start a job", &error))?;
            self.records[started].stage = Stage::Started;
        }
        Ok(())
    }

    /// Asks the service how the jobs' claims stand.
    fn look(&mut self) {
        let filter = ListFilter {
            semaphore: Some(self.riviera.clone()),
            claims_max: 2 * JOBS.len(),
            ..ListFilter::default()
        };
        for status in self.service.list(&filter, |_| true).what.claims {
            let holder = status.claim.terms.holder.as_ref();
            let job = holder.and_then(|holder| jobs::number(holder.as_str()));
            if let Some(record) = job.and_then(|job| self.records.get_mut(job)) {
                record.id = Some(status.claim.id.clone());
                record.update(&status.claim, status.positions.iter().copied().max());
            }
        }
        for record in &mut self.records {
            record.look_for_end(self.service);
        }
    }

    /// One job dies without a word, as a machine that loses its power would.
    fn kill_one(&mut self) -> Result<(), Failure> {
        let held_for = match self.records[KILLED].stage {
            Stage::Held { granted_at, .. } => self.service.now().wall.since(granted_at),
            _ => return Ok(()),
        };
        if held_for >= KILL_AFTER && !self.records[KILLED].killed {
            self.jobs.kill(KILLED).map_err(|error| failure("kill a job", &error))?;
            self.records[KILLED].killed = true;
        }
        Ok(())
    }
}
