//! The main job: a farm with five licences and many more jobs, each a real `semaphorectl run`.
//!
//! What is checked comes from outside the service: each job writes a line when it starts and one when it
//! ends, to one file. In what order permits were granted stands in the history: sequence numbers are the
//! order of arrival, fences that of the grants.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{
    daemon::{Daemon, Port, poll},
    proxy::Proxy,
};

const SEMAPHORE: &str = "FlexLM-Riviera";
const CAPACITY: usize = 5;

/// A farm with a daemon and a file in which jobs write down when they ran.
struct Farm {
    daemon: Daemon,
    /// NGINX, for a farm that reaches the daemon through it.
    proxy: Option<Proxy>,
    diary: PathBuf,
    directory: tempfile::TempDir,
}

impl Farm {
    fn new() -> Farm {
        let directory = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&format!("[semaphores]\n{SEMAPHORE} = {CAPACITY}"));
        Farm { daemon, proxy: None, diary: directory.path().join("diary"), directory }
    }

    fn behind_nginx() -> Farm {
        let farm = Farm::new();
        let proxy = Proxy::start(&farm.daemon);
        Farm { proxy: Some(proxy), ..farm }
    }

    fn url(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.daemon.url(), Proxy::url)
    }

    /// A job that takes some time while it has its permit.
    fn job(&self, seconds: &str) -> Child {
        self.job_with(&[], seconds)
    }

    fn job_with(&self, options: &[&str], seconds: &str) -> Child {
        self.job_that(options, &format!("sleep {seconds}"))
    }

    /// A job that runs until [`Farm::let_go`].
    fn job_until_let_go(&self) -> Child {
        self.job_that(&[], "while [ ! -e \"$DIARY.go\" ]; do sleep 0.05; done")
    }

    fn let_go(&self) {
        std::fs::write(self.directory.path().join("diary.go"), "").unwrap();
    }

    fn job_that(&self, options: &[&str], does: &str) -> Child {
        let script = format!("echo + >>\"$DIARY\"; {does}; echo - >>\"$DIARY\"");
        Command::new(env!("CARGO_BIN_EXE_semaphorectl"))
            .args(["run", "--quiet"])
            .args(options)
            .args([SEMAPHORE, "--", "sh", "-c", &script])
            .env("SEMAPHORE_URL", self.url())
            .env("DIARY", &self.diary)
            .env_remove("SEMAPHORE_CLAIM_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn jobs_ended(&self) -> usize {
        let diary = std::fs::read_to_string(&self.diary).unwrap_or_default();
        diary.lines().filter(|line| *line == "-").count()
    }

    fn wait_for_ended(&self, jobs: usize) {
        poll(&format!("{jobs} ended jobs"), || (self.jobs_ended() >= jobs).then_some(()));
    }

    /// All jobs have ended well; never more than the capacity ran at once, and each ran once.
    fn check_jobs(&self, jobs: Vec<Child>) {
        let expected = jobs.len();
        for job in jobs {
            let output = job.wait_with_output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
            assert!(!stderr.contains("lost"), "{stderr}");
        }
        let (mut running, mut most, mut started) = (0_usize, 0, 0);
        for line in std::fs::read_to_string(&self.diary).unwrap().lines() {
            match line {
                "+" => (running, started) = (running + 1, started + 1),
                _ => running -= 1,
            }
            most = most.max(running);
        }
        assert_eq!((started, running), (expected, 0));
        assert!(most <= CAPACITY, "{most} jobs ran at once");
        assert!(most > 1, "the jobs did not run beside each other");
    }

    /// Nothing is left, and permits were granted in queue order, each with a fence of its own.
    fn check_history(&mut self, jobs: usize) {
        let semaphore = self.daemon.look(&format!("/api/v1/semaphores/{SEMAPHORE}"));
        assert_eq!((&semaphore["in_use"], &semaphore["waiting"]), (&0.into(), &0.into()));
        assert_eq!(semaphore["available"], CAPACITY);
        assert_eq!(self.daemon.look("/api/v1/claims")["claims"], Value::Array(Vec::new()));
        let data_dir = self.daemon.data_dir();
        let history = poll("the fold", || {
            let history = history(&data_dir);
            (history.len() == jobs).then_some(history)
        });
        for pair in history.windows(2) {
            assert!(pair[0].1 < pair[1].1, "granted out of order: {pair:?}");
        }
        assert!(history.iter().all(|(_, _, reason)| reason == "released"), "{history:?}");
    }
}

/// Sequence number, fence and reason of all ended claims, in the order of their arrival.
fn history(data_dir: &Path) -> Vec<(i64, u64, String)> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(data_dir.join("semaphored.db"), flags).unwrap();
    let mut rows =
        database.prepare("SELECT sequence, fences, reason FROM history ORDER BY sequence").unwrap();
    let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<(i64, String, String)> {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?))
    };
    rows.query_map([], row)
        .unwrap()
        .map(|row| {
            let (sequence, fences, reason) = row.unwrap();
            let fences: Value = serde_json::from_str(&fences).unwrap();
            let fence = fences.get(0).or_else(|| fences.get(SEMAPHORE)).unwrap();
            (sequence, fence.as_u64().unwrap(), reason)
        })
        .collect()
}

#[test]
fn two_hundred_jobs_on_five_licences() {
    let mut farm = Farm::new();
    let jobs: Vec<Child> = (0..200).map(|_| farm.job("0")).collect();
    farm.check_jobs(jobs);
    farm.check_history(200);
}

#[test]
fn the_daemon_is_killed_twice_and_nobody_notices() {
    let mut farm = Farm::new();
    // One holds over both kills, for longer than its lease: it is renewed before and after.
    let mut jobs = vec![farm.job_with(&["--ttl", "2s"], "4")];
    jobs.extend((1..60).map(|_| farm.job("0.1")));
    for ended in [10, 35] {
        farm.wait_for_ended(ended);
        farm.daemon.kill();
        farm.daemon.start_again(Port::Same);
    }
    farm.check_jobs(jobs);
    farm.check_history(60);
}

#[test]
fn sixty_jobs_on_five_licences_through_nginx() {
    let mut farm = Farm::behind_nginx();
    let jobs: Vec<Child> = (0..60).map(|_| farm.job("0.05")).collect();
    farm.check_jobs(jobs);
    farm.check_history(60);
}

/// NGINX answers for a daemon that is away, and the jobs wait on, in their order.
#[test]
fn the_daemon_restarts_behind_nginx_while_twenty_jobs_wait() {
    let mut farm = Farm::behind_nginx();
    let jobs: Vec<Child> = (0..25).map(|_| farm.job_until_let_go()).collect();
    farm.daemon.wait_for_blocked(20);
    farm.daemon.stop();
    farm.daemon.start_again(Port::Same);
    farm.daemon.wait_for_blocked(20);
    farm.daemon.kill();
    farm.daemon.start_again(Port::Same);
    farm.daemon.wait_for_blocked(20);
    farm.let_go();
    farm.check_jobs(jobs);
    farm.check_history(25);
}
