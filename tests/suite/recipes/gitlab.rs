//! The hidden jobs of GitLab: their scripts are run as a runner does, against the real daemon.

use std::{
    path::Path,
    process::{Child, Command},
};

use rustix::process::{Pid, Signal, kill_process};
use yaml_rust2::Yaml;

use super::{Farm, lines, recipe, yaml};
use crate::client::{READY_THEN_WAIT, await_ready, finish, outcome, send, start, text};

/// The shells that a runner uses: bash where it is, else the image's `sh`.
const SHELLS: [&[&str]; 3] =
    [&["bash", "-eo", "pipefail"], &["dash", "-e"], &["busybox", "sh", "-e"]];

fn hidden(name: &str) -> Yaml {
    yaml(&recipe("gitlab/semaphore.yml"))[name].clone()
}

/// A job number 412 with a directory of its own.
struct Job<'a> {
    farm: &'a Farm,
    shell: &'a [&'a str],
    directory: tempfile::TempDir,
}

impl<'a> Job<'a> {
    fn new(farm: &'a Farm, shell: &'a [&'a str]) -> Job<'a> {
        Job { farm, shell, directory: tempfile::tempdir().unwrap() }
    }

    /// One of the shells of the job.
    fn shell(&self, script: &str) -> Command {
        let mut command = self.farm.job(self.shell[0]);
        command.args(&self.shell[1..]).args(["-c", script]).current_dir(&self.directory);
        command.env("CI_PROJECT_DIR", self.directory.path()).env("CI_JOB_ID", "412");
        command.env("SEMAPHORE", "A").env("SEMAPHORE_TTL", "4s");
        command
    }

    /// `before_script` of the hidden job and a script, in one shell.
    fn script(&self, script: &str) -> Command {
        self.shell(&format!("{}\n{script}", lines(&hidden(".with-permit")["before_script"])))
    }

    /// The `after_script`, in a shell of its own; what it says.
    fn after(&self) -> String {
        let (stdout, _) =
            outcome(&mut self.shell(&lines(&hidden(".with-permit")["after_script"])), 0);
        let left = std::fs::read_dir(&self.directory).unwrap().count();
        assert_eq!(left, 0, "it leaves files in the project");
        stdout
    }

    /// The client in the background.
    fn client(&self) -> Pid {
        let file = self.directory.path().join(".permit-412.pid");
        let id = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        Pid::from_raw(id).unwrap()
    }

    /// A job that runs until it is ended.
    fn start_running(&self) -> Child {
        let mut job = start(&mut self.script(READY_THEN_WAIT[2]));
        await_ready(&mut job);
        self.farm.wait_for(0, 1);
        job
    }
}

#[test]
fn the_permit_is_held_while_the_script_runs() {
    for shell in SHELLS {
        let farm = Farm::start();
        let job = Job::new(&farm, shell);
        let (stdout, _) = outcome(&mut job.script("echo \"has $SEMAPHORE_CLAIM_ID\"\n(exit 3)"), 3);
        assert_eq!(stdout, "has 412-permit\n", "{shell:?}");
        job.after();
        assert_eq!(farm.end_of("412-permit"), "released");
    }
}

#[test]
fn the_lease_is_the_semaphores_unless_it_is_said() {
    for shell in SHELLS {
        let farm = Farm::with("[semaphores]\nA = { capacity = 1, default_ttl = \"7m\" }");
        let job = Job::new(&farm, shell);
        let default = lines(&hidden(".with-permit")["variables"]["SEMAPHORE_TTL"]);
        outcome(job.script("true").env("SEMAPHORE_TTL", default), 0);
        assert_eq!(farm.end_of("412-permit"), "released");
        assert_eq!(farm.guarded.look("/api/v1/claims/412-permit")["ttl_seconds"], 420);
    }
}

#[test]
fn it_waits_for_its_turn() {
    for shell in SHELLS {
        let farm = Farm::start();
        farm.hold();
        let job = Job::new(&farm, shell);
        let waiting = start(&mut job.script("echo ran"));
        farm.wait_for(1, 1);
        farm.let_go();
        let output = finish(waiting);
        assert_eq!(text(&output.stdout), "ran\n", "{}", text(&output.stderr));
        job.after();
    }
}

#[test]
fn a_refusal_ends_the_job_before_its_script() {
    for shell in SHELLS {
        let farm = Farm::start();
        let job = Job::new(&farm, shell);
        let (stdout, stderr) = outcome(job.script("echo ran").env("SEMAPHORE", "B"), 65);
        assert!(stdout.is_empty() && stderr.contains("there is no semaphore `B`"), "{stderr}");
        let (stdout, _) = outcome(job.script("echo ran").env("SEMAPHORE", ""), 64);
        assert!(stdout.is_empty());
        let wrong = crate::access::wrong(&farm.token.token);
        outcome(job.script("echo ran").env("SEMAPHORE_TOKEN", wrong), 77);
        job.after();
    }
}

#[test]
fn a_job_whose_shell_alone_is_killed_gives_the_permit_back() {
    for shell in SHELLS {
        let farm = Farm::start();
        let job = Job::new(&farm, shell);
        let mut running = job.start_running();
        send(&running, Signal::KILL);
        running.wait().unwrap();
        assert_eq!(farm.end_of("412-permit"), "released");
    }
}

/// As in a container that is stopped: what comes behind is in another one.
#[test]
fn a_job_that_is_killed_with_its_client_is_released_behind_it() {
    for shell in SHELLS {
        let farm = Farm::start();
        let job = Job::new(&farm, shell);
        let mut running = job.start_running();
        let client = job.client();
        kill_process(client, Signal::KILL).unwrap();
        send(&running, Signal::KILL);
        running.wait().unwrap();
        // The shell was its parent, so whoever reaps orphans has to have done that.
        crate::daemon::poll("the end of the client", || {
            (!Path::new(&format!("/proc/{}/exe", client.as_raw_nonzero())).exists()).then_some(())
        });
        farm.wait_for(0, 1);
        job.after();
        farm.assert_free();
    }
}

/// As with an executor that sends no signal: the tool may run still.
#[test]
fn a_job_that_lives_keeps_its_permit() {
    for shell in SHELLS {
        let farm = Farm::start();
        let job = Job::new(&farm, shell);
        let running = job.start_running();
        let told = job.after();
        assert!(told.contains("as soon as the shell of the job has ended"), "{told}");
        farm.wait_for(0, 1);
        send(&running, Signal::TERM);
        finish(running);
        assert_eq!(farm.end_of("412-permit"), "released");
    }
}

#[test]
fn the_job_that_asks_leaves_a_claim() {
    let config = "[semaphores]\nA = 1\n[callbacks.targets.gitlab-sim]\npreset = \"gitlab-trigger\"\n\
        url = \"http://127.0.0.1:9/api/v4\"\nallow_cidrs = [\"127.0.0.0/8\"]\nsecret = \"glptt-x\"\n\
        vars = { project = \"fpga/core\" }";
    for shell in SHELLS {
        let farm = Farm::with(config);
        let job = Job::new(&farm, shell);
        let mut ask = job.shell(&lines(&hidden(".ask-for-permit")["script"]));
        ask.env("SEMAPHORE_TARGET", "gitlab-sim").env("CI_COMMIT_REF_NAME", "main");
        let (stdout, _) = outcome(ask.env("CI_PIPELINE_URL", "https://gitlab.example/p/7"), 0);
        assert_eq!(stdout, "412-permit\n");
        let claim = farm.guarded.look("/api/v1/claims/412-permit");
        assert_eq!(claim["state"], "offered");
        assert_eq!(claim["holder"], "https://gitlab.example/p/7");
    }
}
