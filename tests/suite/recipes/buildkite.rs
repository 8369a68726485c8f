//! The steps and the hook of Buildkite: they are run as an agent does, against the real daemon.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process_group};
use yaml_rust2::Yaml;

use super::{Farm, Gate, lines, members, recipe, root, yaml};
use crate::client::{closed_port, finish, outcome, semaphorectl, start};

/// A step of the pipeline.
fn step(label: &str) -> Yaml {
    let pipeline = yaml(&recipe("buildkite/pipeline.yml"));
    let mut steps = pipeline["steps"].as_vec().unwrap().iter();
    steps.find(|step| step["label"].as_str() == Some(label)).unwrap().clone()
}

/// What an agent runs in the job 018f: the commands of a step, in one shell, with a tool in the place of the simulator.
fn commands(farm: &Farm, label: &str, tool: &str) -> Command {
    let step = step(label);
    let text = [lines(&step["command"]), lines(&step["commands"])].concat();
    // The upload of the pipeline makes one dollar of two.
    let text = text.replace("$$", "$").replace("FlexLM-Riviera", "A");
    let text = text.replace("vsim -do compile.do", "true");
    let text = text.replace("vsim -do run.do", r#"sh -c "$TOOL""#);
    let mut command = in_job(farm, label, &["-e", "-c", &text]);
    command.env("TOOL", tool);
    command
}

/// The hook, in the job of a step.
fn hook(farm: &Farm, label: &str) -> Command {
    in_job(farm, label, &[root().join("buildkite/pre-exit").to_str().unwrap()])
}

fn in_job(farm: &Farm, label: &str, arguments: &[&str]) -> Command {
    let mut command = farm.job("bash");
    command.args(arguments).env("BUILDKITE_JOB_ID", "018f");
    for (name, value) in members(&step(label)["env"]) {
        if name.as_str() != Some("SEMAPHORE_URL") {
            command.env(name.as_str().unwrap(), lines(&value));
        }
    }
    command
}

#[test]
fn one_command_runs_with_the_permit() {
    let farm = Farm::start();
    let tool = "echo \"$SEMAPHORE_CLAIM_ID\"; exit 3";
    let (id, _) = outcome(&mut commands(&farm, "simulate", tool), 3);
    assert_eq!(farm.end_of(id.trim()), "released");
    // The hook has nothing to do, and does not ask the service either.
    let mut hook = hook(&farm, "simulate");
    let (_socket, closed) = closed_port();
    assert_eq!(outcome(hook.env("SEMAPHORE_URL", closed), 0), Default::default());
}

#[test]
fn the_hook_gives_back_what_the_step_acquired() {
    let farm = Farm::start();
    let (stdout, _) = outcome(&mut commands(&farm, "regression", "echo ran; exit 3"), 3);
    assert_eq!(stdout, "018f-permit\nran\n");
    let claim = farm.guarded.look("/api/v1/claims/018f-permit");
    assert_eq!((&claim["state"], &claim["ttl_seconds"]), (&"held".into(), &7200.into()));
    let minutes = step("regression")["timeout_in_minutes"].as_i64().unwrap();
    assert!(minutes * 60 < 7200, "the job goes on behind its lease");
    // As for a step that does not say so.
    let mut other = hook(&farm, "regression");
    assert_eq!(outcome(other.env_remove("PERMIT_RELEASE"), 0), Default::default());
    farm.wait_for(0, 1);
    outcome(&mut hook(&farm, "regression"), 0);
    assert_eq!(farm.end_of("018f-permit"), "released");
    farm.assert_free();
}

/// A cancel: SIGTERM to all processes of the job, and then the hook.
#[test]
fn the_hook_gives_back_after_a_cancel() {
    let farm = Farm::start();
    let gate = Gate::new();
    let tool = format!("cat '{}'", gate.path().display());
    let job = start(commands(&farm, "regression", &tool).process_group(0));
    let _reader = gate.reader();
    kill_process_group(Pid::from_child(&job), Signal::TERM).unwrap();
    finish(job);
    farm.wait_for(0, 1);
    outcome(&mut hook(&farm, "regression"), 0);
    assert_eq!(farm.end_of("018f-permit"), "released");
}

/// A hook that fails would fail the job, whatever its commands ended with.
#[test]
fn the_hook_fails_no_job() {
    let farm = Farm::start();
    outcome(&mut commands(&farm, "regression", "true"), 0);
    let (_socket, closed) = closed_port();
    let impatient = impatient_client();
    let path = format!("{}:{}", impatient.path().display(), std::env::var("PATH").unwrap());
    for (name, value, expected) in [
        ("SEMAPHORE_URL", closed, "out of reach"),
        ("SEMAPHORE_TOKEN", crate::access::wrong(&farm.token.token), "does not know this token"),
        ("BUILDKITE_JOB_ID", "019a".to_owned(), "019a-permit"),
    ] {
        let mut hook = hook(&farm, "regression");
        let (_, stderr) = outcome(hook.env("PATH", &path).env(name, value), 0);
        assert!(stderr.contains(expected) && stderr.contains("its lease is over"), "{stderr}");
    }
    farm.wait_for(0, 1);
}

/// A directory with a client that waits for a service that is away no longer than a second.
fn impatient_client() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let client = directory.path().join("semaphorectl");
    let real = semaphorectl(&[]);
    let script = format!(
        "#!/bin/sh\nexec '{}' \"$@\" --unreachable-timeout=1s\n",
        real.get_program().to_str().unwrap()
    );
    fs::write(&client, script).unwrap();
    fs::set_permissions(&client, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// The agent asks for an executable file, and runs it by its first line.
#[test]
fn the_hook_is_executable() {
    let hook = root().join("buildkite/pre-exit");
    assert_eq!(fs::metadata(hook).unwrap().permissions().mode() & 0o111, 0o111);
    assert!(recipe("buildkite/pre-exit").starts_with("#!/bin/sh\n"));
}
