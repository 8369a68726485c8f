//! The promise: a farm of callbacks, with failing deliveries, two dead receivers and a daemon that is killed twice.

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
/// One claim in ten is for a receiver that is dead: it refuses connections, or takes them and never answers.
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

fn is_dead(n: usize) -> bool {
    n % DEAD_EVERY == 3
}

fn target_of(n: usize) -> &'static str {
    match n % (2 * DEAD_EVERY) {
        3 => "dead",
        n if is_dead(n) => "hole",
        _ => "ci",
    }
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
    // The kernel takes connections for it, and nobody else does.
    let hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let hole_url = format!("http://{}", hole.local_addr().unwrap());
    let targets = [("ci", receiver.url()), ("dead", dead_url()), ("hole", hole_url)];
    let targets = targets.map(|(name, url)| target(name, &url)).concat();
    let mut daemon = Daemon::start(&format!(
        "[semaphores]\nlic = {CAPACITY}\n[callbacks]\ntimeout = \"1s\"\n{targets}"
    ));
    ci.daemon_url.set(daemon.url()).unwrap();

    for n in 0..CLAIMS {
        let (target, offer_ttl) = (target_of(n), if is_dead(n) { "2s" } else { "60s" });
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
        if !is_dead(n) {
            assert_eq!(claim["reason"], "released", "{claim}");
            continue;
        }
        assert_eq!(claim["reason"], "callback_failed", "{claim}");
        let tried = deliveries(&daemon, &id);
        // A kill in the moment of a call leaves one unfinished, and then there is another. It may be under way still when
        // the offer ends, where nobody answers.
        let mut all = tried["deliveries"].as_array().unwrap().iter();
        let is_as_expected = |tried: &serde_json::Value| match target_of(n) {
            "dead" => tried["error"] == "connect",
            _ => tried["error"] == "timeout" || tried["result"] == "unfinished",
        };
        assert!(all.any(is_as_expected), "{tried}");
    }
    let semaphore = daemon.look("/api/v1/semaphores/lic");
    assert_eq!(semaphore["available"], CAPACITY, "{semaphore}");
    daemon.stop();
}
