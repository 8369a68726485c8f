//! The promise: a farm of callbacks, with failing deliveries, a dead receiver and a daemon that is killed twice.

use std::{
    collections::HashSet,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
};

use serde_json::json;

use super::{claim_of, claim_to, deliveries, target, wait_for_end};
use crate::{
    daemon::{Daemon, Port, poll},
    fake_service::{Call, FakeService, Reply},
};

const CAPACITY: usize = 5;
const CLAIMS: usize = 60;
/// One claim in ten is for a receiver that is dead.
const DEAD_EVERY: usize = 10;
const ALIVE: usize = CLAIMS - CLAIMS / DEAD_EVERY;

/// A CI system: starts each job once, as `semaphorectl run --claim`.
struct Ci {
    daemon_url: OnceLock<String>,
    diary: PathBuf,
    seen: Mutex<HashSet<String>>,
    jobs: Mutex<Vec<Child>>,
}

impl Ci {
    /// Every tenth delivery fails; of the others the first of each `webhook-id` starts the job.
    fn deliver(&self, call: &Call) -> Reply {
        if call.nth % 10 == 9 {
            return Reply::json(500, "");
        }
        let message = call.header("webhook-id").unwrap().to_owned();
        if self.seen.lock().unwrap().insert(message) {
            let job = self.job(&claim_of(call));
            self.jobs.lock().unwrap().push(job);
        }
        Reply::no_content()
    }

    fn job(&self, id: &str) -> Child {
        let script = format!("echo + {id} >>\"$DIARY\"; sleep 0.1; echo - {id} >>\"$DIARY\"");
        Command::new(env!("CARGO_BIN_EXE_semaphorectl"))
            .args(["run", "--quiet", "--claim", id, "--", "sh", "-c", &script])
            .env("SEMAPHORE_URL", self.daemon_url.get().unwrap())
            .env("DIARY", &self.diary)
            .env_remove("SEMAPHORE_CLAIM_ID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }
}

/// A URL on which nobody listens.
fn dead_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn lines(diary: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(diary).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn ended(diary: &Path) -> usize {
    lines(diary).iter().filter(|line| line.starts_with('-')).count()
}

#[test]
fn sixty_callbacks_on_five_permits_through_failures_and_two_kills() {
    let directory = tempfile::tempdir().unwrap();
    let diary = directory.path().join("diary");
    let ci = Arc::new(Ci {
        daemon_url: OnceLock::new(),
        diary: diary.clone(),
        seen: Mutex::default(),
        jobs: Mutex::default(),
    });
    let at_ci = Arc::clone(&ci);
    let receiver = FakeService::start(move |call| at_ci.deliver(call));
    let (live, dead) = (target("ci", &receiver.url()), target("dead", &dead_url()));
    let mut daemon = Daemon::start(&format!("[semaphores]\nlic = {CAPACITY}\n{live}{dead}"));
    ci.daemon_url.set(daemon.url()).unwrap();

    for n in 0..CLAIMS {
        let (target, offer_ttl) = if n % DEAD_EVERY == 3 { ("dead", "2s") } else { ("ci", "60s") };
        let answer = claim_to(&daemon, &format!("c{n}"), &json!({ "target": target }), offer_ttl);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    for jobs in [ALIVE / 3, 2 * ALIVE / 3] {
        poll(&format!("{jobs} jobs"), || (ended(&diary) >= jobs).then_some(()));
        daemon.kill();
        daemon.start_again(Port::Same);
    }
    poll("all jobs", || (ended(&diary) >= ALIVE).then_some(()));

    for job in std::mem::take(&mut *ci.jobs.lock().unwrap()) {
        let output = job.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
    }
    let (mut running, mut most, mut started) = (0_usize, 0, HashSet::new());
    for line in lines(&diary) {
        match line.split_once(' ').unwrap() {
            ("+", id) => {
                assert!(started.insert(id.to_owned()), "{id} ran twice");
                running += 1;
            }
            _ => running -= 1,
        }
        most = most.max(running);
    }
    assert_eq!((started.len(), running), (ALIVE, 0));
    assert!(most <= CAPACITY, "{most} jobs ran at once");
    for n in 0..CLAIMS {
        let id = format!("c{n}");
        let claim = wait_for_end(&daemon, &id);
        if n % DEAD_EVERY != 3 {
            assert_eq!(claim["reason"], "released", "{claim}");
            continue;
        }
        assert_eq!(claim["reason"], "callback_failed", "{claim}");
        let tried = deliveries(&daemon, &id);
        // A kill in the moment of a call leaves one unfinished, and then there is another.
        let mut all = tried["deliveries"].as_array().unwrap().iter();
        assert!(all.any(|tried| tried["error"] == "connect"), "{tried}");
    }
    let semaphore = daemon.look("/api/v1/semaphores/lic");
    assert_eq!(semaphore["available"], CAPACITY, "{semaphore}");
    daemon.stop();
}
